"""Families of metrics with their counts, and the episodes of every slice of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pyflare_analysis.rca.patterns.baseline import dispersion
from pyflare_analysis.rca.patterns.cells import Cube, Exclusion, Grid, SliceKey
from pyflare_analysis.rca.patterns.episodes import Episode, scan_episodes
from pyflare_analysis.rca.patterns.measures import Measure
from pyflare_analysis.rca.patterns.scope import Scope
from pyflare_analysis.rca.patterns.temporal import hour_ratio

__all__ = ["Candidate", "Family", "first_tests", "reference_mask", "scan_cube"]

Floats = NDArray[np.float64]
Reload = Callable[[SliceKey | None, Sequence[str], Sequence[Exclusion]], Cube]


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


def scan_cube(family: Family, at: int, scope: Scope) -> list[Candidate]:
    """Return the episodes of all slices of a cube."""
    cube, config = family.cubes[at], scope.config
    found: list[Candidate] = []
    for row in range(len(cube.values)):
        trials = cube.trials[row]
        if trials.sum() < 2 * config.min_calls:
            continue
        reference = reference_mask(trials, scope.first, config.min_calls)
        for measure in family.measures:
            hits = measure.hits(cube, row, reference)
            exposure = _exposure(family, hits, trials, scope.grid)
            episodes = scan_episodes(
                hits,
                exposure,
                trials=trials,
                min_trials=config.min_calls,
                first_bucket=scope.first,
                dispersion=dispersion(hits, exposure),
                alpha=0.05,
            )
            found += [
                Candidate(measure, at, row, e, tuple(o for o in episodes if o is not e))
                for e in episodes
            ]
    return found


def first_tests(family: Family, scope: Scope) -> tuple[list[list[Candidate]], list[float]]:
    """Return the candidates of each cube, and one p-value for each series that was tested."""
    candidates = [scan_cube(family, at, scope) for at in range(len(family.cubes))]
    tested = sum(
        int((cube.trials.sum(axis=1) >= 2 * scope.config.min_calls).sum()) for cube in family.cubes
    ) * len(family.measures)
    best: dict[tuple[int, int, int], float] = {}
    for candidate in (c for found in candidates for c in found):
        series = (candidate.cube, candidate.row, id(candidate.measure))
        best[series] = min(best.get(series, 1.0), candidate.episode.p_value)
    return candidates, [*best.values(), *([1.0] * (tested - len(best)))]
