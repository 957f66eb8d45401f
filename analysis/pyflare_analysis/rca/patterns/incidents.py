"""Incidents: which episode of which slice explains what the others show as well.

One fault shows in every slice that has calls in common with it. All slices are scanned, the one
whose episode has the largest likelihood ratio is taken (`episodes`): a fault of one model has
more evidence in that model's calls than in all calls, a fault of all calls has more in all calls
than in any part (Kulldorff 1997). What it explains is taken out, and the rest is scanned again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pyflare_analysis.rca.patterns.baseline import binned_quantile
from pyflare_analysis.rca.patterns.cells import Cube, Exclusion
from pyflare_analysis.rca.patterns.episodes import Episode
from pyflare_analysis.rca.patterns.family import Candidate, Family, scan_cube
from pyflare_analysis.rca.patterns.measures import Figure, Measure
from pyflare_analysis.rca.patterns.pattern import PatternDetectorConfig
from pyflare_analysis.rca.patterns.scope import Scope

__all__ = ["Incident", "find_incidents", "set_apart"]

Floats = NDArray[np.float64]
_TIE = 0.01
_SMALLER, _TRIES = 0.8, 3
"""Share of calls up to which a slice is a smaller one, and how many are tried as the cause."""


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


def find_incidents(
    family: Family,
    candidates: list[list[Candidate]],
    scope: Scope,
    p_limit: float,
) -> list[Incident]:
    """Return the incidents of a family, explaining away.

    Args:
        family: cubes and measures; its cubes are changed.
        candidates: of `first_tests`.
        scope: what is looked at.
        p_limit: p-values up to here are significant after the adjustment.
    """
    accepted: list[Incident] = []
    while len(accepted) < scope.config.max_patterns:
        ranked: list[tuple[float, Candidate, Incident]] = []
        slices = sum(len(cube.values) for cube in family.cubes)
        for candidate in (c for found in candidates for c in found):
            if candidate.episode.p_value > p_limit:
                continue
            incident = _measured(family, candidate, scope.config)
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
        chosen, incident = _finer(family, chosen, incident, ranked, scope=scope, p_limit=p_limit)
        cube, row = family.cubes[chosen.cube], chosen.row
        every = np.eye(scope.grid.count, dtype=bool)
        series = np.array([chosen.measure.figure(cube, row, t).value for t in every])
        accepted.append(replace(incident, series=series))
        _explain(family, chosen, candidates, scope)
    joined = _joined(accepted)
    return [
        incident
        for at, incident in enumerate(joined)
        if not any(_covered(family, incident, later, scope, p_limit) for later in joined[at + 1 :])
    ]


def set_apart(
    family: Family,
    dimension: str,
    value: str,
    candidates: list[list[Candidate]],
    scope: Scope,
) -> None:
    """Take a slice out of all calls and of the other dimensions, and scan these again.

    A slice whose share of the calls changed for a while moves every average that it is part of.
    """
    key = next(key for key in family.keys if key is not None and key.name == dimension)
    family.explained.append(Exclusion(key.outside(value), *scope.whole()))
    for at, cube in enumerate(family.cubes):
        if cube.dimension != dimension:
            family.cubes[at] = family.reload(family.keys[at], cube.values, _gone(family, scope))
            candidates[at] = scan_cube(family, at, scope)


def _covered(
    family: Family,
    incident: Incident,
    other: Incident,
    scope: Scope,
    p_limit: float,
) -> bool:
    """Return whether nothing is left of an incident without the calls of another one."""
    if None in (incident.dimension, other.dimension) or incident.dimension == other.dimension:
        return False
    if not incident.episode.overlaps(other.episode):
        return False
    keys = {key.name: key for key in family.keys if key is not None}
    mine, theirs = keys[incident.dimension or ""], keys[other.dimension or ""]
    without = [Exclusion(theirs.outside(other.value), *scope.whole())]
    rest = replace(family, cubes=[family.reload(mine, [incident.value], without)])
    return not any(
        c.episode.p_value <= p_limit
        and c.episode.overlaps(incident.episode)
        and _measured(rest, c, scope.config) is not None
        for c in scan_cube(rest, 0, scope)
    )


def _joined(accepted: list[Incident]) -> list[Incident]:
    """Join what is left at the edges of an incident to it: one alert an episode."""
    joined: list[Incident] = []
    for incident in accepted:
        for at, other in enumerate(joined):
            a, b = other.episode, incident.episode
            same = (other.dimension, other.value) == (incident.dimension, incident.value)
            related = same or other.dimension is None or incident.dimension is None
            if related and a.first - 1 <= b.last and b.first - 1 <= a.last:
                whole = replace(a, first=min(a.first, b.first), last=max(a.last, b.last))
                joined[at] = replace(other, episode=whole)
                break
        else:
            joined.append(incident)
    return joined


def _finer(
    family: Family,
    chosen: Candidate,
    incident: Incident,
    ranked: list[tuple[float, Candidate, Incident]],
    *,
    scope: Scope,
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
        and figures.within.count <= _SMALLER * incident.within.count
        and score >= _deserved(figures, incident) * chosen.episode.llr
    ]
    seen: set[tuple[int, int]] = set()
    for _, _, item, figures in sorted(options, key=lambda option: (option[0], -option[1])):
        if (item.cube, item.row) in seen or len(seen) >= _TRIES:
            continue
        seen.add((item.cube, item.row))
        key = family.keys[item.cube]
        assert key is not None  # noqa: S101 - all calls are smaller than no slice
        without = Exclusion(key.outside(family.cubes[item.cube].values[item.row]), *scope.whole())
        values = [family.cubes[chosen.cube].values[chosen.row]]
        gone = [*_gone(family, scope), without]
        rest = replace(family, cubes=[family.reload(family.keys[chosen.cube], values, gone)])
        left = [
            c
            for c in scan_cube(rest, 0, scope)
            if c.episode.p_value <= p_limit and c.episode.overlaps(chosen.episode)
        ]
        if not any(_measured(rest, c, scope.config) for c in left):
            return item, figures
    return chosen, incident


def _deserved(part: Incident, whole: Incident) -> float:
    """Return the share of the evidence from which a part is more than just a part.

    Where the whole is the cause a part has evidence by its share of the calls; halfway from
    there to all of the evidence it is tried as the cause itself.
    """
    return (1 + part.within.count / whole.within.count) / 2


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
    family: Family, chosen: Candidate, candidates: list[list[Candidate]], scope: Scope
) -> None:
    """Take the rows of an accepted candidate out of all cubes, and scan what it touched again."""
    episode, cube = chosen.episode, family.cubes[chosen.cube]
    window = slice(episode.first, episode.last)
    key = family.keys[chosen.cube]
    outside = None if key is None else key.outside(cube.values[chosen.row])
    family.explained.append(
        Exclusion(outside, scope.grid.time_ns(episode.first), scope.grid.time_ns(episode.last))
    )
    slices = [e for e in family.explained if e.outside is not None]
    gone = _gone(family, scope)
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
        candidates[at] = scan_cube(family, at, scope)


def _gone(family: Family, scope: Scope) -> list[Exclusion]:
    """Return what is taken out: slices at any time, so that the mix of the rest stays the same."""
    return [
        e if e.outside is None else Exclusion(e.outside, *scope.whole()) for e in family.explained
    ]


def _clear(cube: Cube, row: int | slice, window: slice) -> None:
    cube.bins[row, window] = 0.0
    for values in cube.sums.values():
        values[row, window] = 0.0


def _subtract(whole: Cube, part: Cube, row: int) -> None:
    """Take a slice out of all calls."""
    whole.bins[0] = np.maximum(whole.bins[0] - part.bins[row], 0.0)
    for name, values in whole.sums.items():
        values[0] = np.maximum(values[0] - part.sums[name][row], 0.0)
