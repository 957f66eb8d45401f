"""Incidents: which episode of which slice explains what the others show as well.

One fault shows in every slice that has calls in common with it. All slices are scanned, the one
whose episode has the largest likelihood ratio is taken (`episodes`): a fault of one model has
more evidence in that model's calls than in all calls, a fault of all calls has more in all calls
than in any part (Kulldorff 1997). What it explains is taken out, and the rest is scanned again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pyflare_analysis.rca.baseline import binned_quantile, dispersion
from pyflare_analysis.rca.cells import Cube, Exclusion, Grid, SliceKey
from pyflare_analysis.rca.episodes import Episode, scan_episodes
from pyflare_analysis.rca.measures import Figure, Measure
from pyflare_analysis.rca.pattern import PatternDetectorConfig
from pyflare_analysis.rca.temporal import hour_ratio

__all__ = ["Candidate", "Family", "Incident", "find_incidents", "first_tests", "reference_mask"]

Floats = NDArray[np.float64]
Reload = Callable[[SliceKey | None, Sequence[str], Sequence[Exclusion]], Cube]
_TIE = 0.01
_NEARLY, _SMALLER, _TRIES = 0.6, 0.8, 3
"""Evidence and calls of a smaller slice that is tried as the cause, and how many are tried."""


@dataclass(slots=True)
class Family:
    """Metrics that are read from the same cubes, and that one fault moves together."""

    measures: tuple[Measure, ...]
    cubes: list[Cube]
    """All calls first, then the dimensions in order of preference."""
    keys: list[SliceKey | None]
    reload: Reload
    """Returns a cube without the rows that are explained."""
    blocks: list[list[int]] = field(default_factory=list)
    """Runs of hours of the day that recurring patterns explain."""
    explained: list[Exclusion] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An episode of one measure of one slice."""

    measure: Measure
    cube: int
    row: int
    episode: Episode
    others: tuple[Episode, ...]
    """Further episodes of the series, which are no part of the baseline."""


@dataclass(frozen=True, slots=True)
class Incident:
    """An accepted candidate with its figures."""

    measure: Measure
    dimension: str | None
    value: str
    episode: Episode
    before: Figure
    within: Figure
    scale: float
    """Range of the baseline's values."""
    reach: float
    """Share of the calls within the episode that are of the slice."""
    details: dict[str, float]
    """Further figures, by name."""
    series: Floats | None = None
    """(T,) the figure in each interval, NaN without calls."""


def reference_mask(trials: Floats, first: int, min_trials: float) -> NDArray[np.bool_]:
    """Return the first intervals: those of the baseline share, more where they hold too little."""
    total = np.cumsum(trials)
    enough = int(np.searchsorted(total, max(2 * min_trials, 0.2 * total[-1]))) + 1
    mask = np.zeros(len(trials), dtype=bool)
    mask[: max(first, enough)] = True
    return mask


def _exposure(family: Family, hits: Floats, trials: Floats, grid: Grid) -> Floats:
    """Return the trials, times what the hours of the day make of their rate."""
    exposure = trials
    hour, day = grid.hour_of_day(), grid.day()
    explained = np.isin(hour, [h for block in family.blocks for h in block])
    for block in family.blocks:
        inside = np.isin(hour, block)
        rest = inside | ~explained
        ratio = hour_ratio(hits * rest, trials * rest, day, inside)
        exposure = exposure * np.where(inside, min(max(ratio, 1.0), 1e3), 1.0)
    return exposure


def _scan(
    family: Family, at: int, grid: Grid, first: int, config: PatternDetectorConfig
) -> list[Candidate]:
    """Return the episodes of all slices of a cube."""
    cube = family.cubes[at]
    found: list[Candidate] = []
    for row in range(len(cube.values)):
        trials = cube.trials[row]
        if trials.sum() < 2 * config.min_calls:
            continue
        reference = reference_mask(trials, first, config.min_calls)
        for measure in family.measures:
            hits = measure.hits(cube, row, reference)
            exposure = _exposure(family, hits, trials, grid)
            episodes = scan_episodes(
                hits,
                exposure,
                trials=trials,
                min_trials=config.min_calls,
                first_bucket=first,
                dispersion=dispersion(hits, exposure),
                alpha=0.05,
            )
            found += [
                Candidate(measure, at, row, e, tuple(o for o in episodes if o is not e))
                for e in episodes
            ]
    return found


def first_tests(
    family: Family, grid: Grid, first: int, config: PatternDetectorConfig
) -> tuple[list[list[Candidate]], list[float]]:
    """Return the candidates of each cube, and one p-value for each series that was tested."""
    candidates = [_scan(family, at, grid, first, config) for at in range(len(family.cubes))]
    tested = sum(
        int((cube.trials.sum(axis=1) >= 2 * config.min_calls).sum()) for cube in family.cubes
    ) * len(family.measures)
    best: dict[tuple[int, int, int], float] = {}
    for candidate in (c for found in candidates for c in found):
        series = (candidate.cube, candidate.row, id(candidate.measure))
        best[series] = min(best.get(series, 1.0), candidate.episode.p_value)
    return candidates, [*best.values(), *([1.0] * (tested - len(best)))]


def find_incidents(
    family: Family,
    candidates: list[list[Candidate]],
    grid: Grid,
    first: int,
    config: PatternDetectorConfig,
    p_limit: float,
) -> list[Incident]:
    """Return the incidents of a family, explaining away.

    Args:
        family: cubes and measures; its cubes are changed.
        candidates: of `first_tests`.
        grid: intervals.
        first: no episode begins before this interval.
        config: minimum effects.
        p_limit: p-values up to here are significant after the adjustment.
    """
    accepted: list[Incident] = []
    while len(accepted) < config.max_patterns:
        ranked: list[tuple[float, Candidate, Incident]] = []
        slices = sum(len(cube.values) for cube in family.cubes)
        for candidate in (c for found in candidates for c in found):
            if candidate.episode.p_value > p_limit:
                continue
            incident = _measured(family, candidate, config)
            if incident is not None:
                penalty = np.log(slices) if candidate.cube else 0.0
                ranked.append((candidate.episode.llr - float(penalty), candidate, incident))
        if not ranked:
            break
        best = max(score for score, _, _ in ranked)
        # Dimensions that cut out the same calls tie: the first of them is shown.
        _, chosen, incident = min(
            (item for item in ranked if item[0] >= best * (1 - _TIE)), key=lambda i: i[1].cube
        )
        chosen, incident = _finer(family, chosen, incident, ranked, grid, first, config, p_limit)
        cube, row = family.cubes[chosen.cube], chosen.row
        every = np.eye(grid.count, dtype=bool)
        series = np.array([chosen.measure.figure(cube, row, t).value for t in every])
        accepted.append(replace(incident, series=series))
        _explain(family, chosen, grid, candidates, first, config)
    return accepted


def _finer(
    family: Family,
    chosen: Candidate,
    incident: Incident,
    ranked: list[tuple[float, Candidate, Incident]],
    grid: Grid,
    first: int,
    config: PatternDetectorConfig,
    p_limit: float,
) -> tuple[Candidate, Incident]:
    """Return a smaller slice that explains the chosen one as well, if there is one.

    Of slow calls those of the slowest model are counted above all, in its provider's calls as
    well as in its own, so that the two have nearly the same evidence. The smaller one is the
    cause if the larger one shows nothing without it.
    """
    options = [
        (figures.within.count, score, item, figures)
        for score, item, figures in ranked
        if item.cube != chosen.cube
        and item.episode.overlaps(chosen.episode)
        and score >= _NEARLY * chosen.episode.llr
        and figures.within.count <= _SMALLER * incident.within.count
    ]
    seen: set[tuple[int, int]] = set()
    for _, _, item, figures in sorted(options, key=lambda option: (option[0], -option[1])):
        if (item.cube, item.row) in seen or len(seen) >= _TRIES:
            continue
        seen.add((item.cube, item.row))
        key = family.keys[item.cube]
        assert key is not None  # noqa: S101 - all calls are smaller than no slice
        without = Exclusion(key.outside(family.cubes[item.cube].values[item.row]), *_whole(grid))
        values = [family.cubes[chosen.cube].values[chosen.row]]
        gone = [*_gone(family, grid), without]
        rest = replace(family, cubes=[family.reload(family.keys[chosen.cube], values, gone)])
        left = [
            c
            for c in _scan(rest, 0, grid, first, config)
            if c.episode.p_value <= p_limit and c.episode.overlaps(chosen.episode)
        ]
        if not any(_measured(rest, replace(c, cube=0), config) for c in left):
            return item, figures
    return chosen, incident


def _measured(
    family: Family, candidate: Candidate, config: PatternDetectorConfig
) -> Incident | None:
    """Return a candidate with its figures, None where the effect is too small."""
    cube, measure, row = family.cubes[candidate.cube], candidate.measure, candidate.row
    episode = candidate.episode
    places = np.arange(cube.trials.shape[1])
    inside = (places >= episode.first) & (places < episode.last)
    prior = places < episode.first
    for other in candidate.others:
        prior &= ~((places >= other.first) & (places < other.last))
    before, within = measure.figure(cube, row, prior), measure.figure(cube, row, inside)
    bins = cube.bins[row][prior].sum(axis=0)
    scale = binned_quantile(bins, cube.edges, 0.99) - binned_quantile(bins, cube.edges, 0.01)
    if before.count < config.min_calls or within.count < config.min_calls:
        return None
    if not measure.large_enough(before, within, config, scale):
        return None
    everything = family.cubes[0].trials[0][inside].sum()
    return Incident(
        measure,
        cube.dimension,
        cube.values[row],
        episode,
        before,
        within,
        scale,
        float(min(1.0, within.count / everything)) if everything > 0 else 1.0,
        _details(cube, row, prior, inside),
    )


def _details(
    cube: Cube, row: int, before: NDArray[np.bool_], inside: NDArray[np.bool_]
) -> dict[str, float]:
    """Return what moved along with the cost: tokens of a call."""
    details: dict[str, float] = {}
    for name in ("input_tokens", "output_tokens"):
        if name in cube.sums:
            for when, mask in (("before", before), ("within", inside)):
                n = cube.trials[row][mask].sum()
                total = cube.sums[name][row][mask].sum()
                details[f"{name}_per_call_{when}"] = round(float(total / n), 2) if n else 0.0
    return details


def _explain(
    family: Family,
    chosen: Candidate,
    grid: Grid,
    candidates: list[list[Candidate]],
    first: int,
    config: PatternDetectorConfig,
) -> None:
    """Take the rows of an accepted candidate out of all cubes, and scan what it touched again."""
    episode, cube = chosen.episode, family.cubes[chosen.cube]
    window = slice(episode.first, episode.last)
    key = family.keys[chosen.cube]
    outside = None if key is None else key.outside(cube.values[chosen.row])
    family.explained.append(
        Exclusion(outside, grid.time_ns(episode.first), grid.time_ns(episode.last))
    )
    slices = [e for e in family.explained if e.outside is not None]
    gone = _gone(family, grid)
    if key is not None and len(slices) == 1:
        _subtract(family.cubes[0], cube, chosen.row)
    elif key is not None:
        family.cubes[0] = family.reload(None, family.cubes[0].values, gone)
    touched = [any(c.episode.overlaps(episode) for c in found) for found in candidates]
    for at, other in enumerate(family.cubes):
        if key is None:
            _clear(other, slice(None), window)
        elif at == chosen.cube:
            _clear(other, chosen.row, window)
        elif at and touched[at]:
            family.cubes[at] = family.reload(family.keys[at], other.values, gone)
        elif at:
            continue
        candidates[at] = _scan(family, at, grid, first, config)


def _gone(family: Family, grid: Grid) -> list[Exclusion]:
    """Return what is taken out: slices at any time, so that the mix of the rest stays the same."""
    return [
        e if e.outside is None else Exclusion(e.outside, *_whole(grid)) for e in family.explained
    ]


def _whole(grid: Grid) -> tuple[int, int]:
    return grid.time_ns(0), grid.time_ns(grid.count)


def _clear(cube: Cube, row: int | slice, window: slice) -> None:
    cube.bins[row, window] = 0.0
    for values in cube.sums.values():
        values[row, window] = 0.0


def _subtract(whole: Cube, part: Cube, row: int) -> None:
    """Take a slice out of all calls."""
    whole.bins[0] = np.maximum(whole.bins[0] - part.bins[row], 0.0)
    for name, values in whole.sums.items():
        values[0] = np.maximum(values[0] - part.sums[name][row], 0.0)
