"""Recurring trouble: hours of the day, in the slice that explains it best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyflare_analysis.rca.patterns.family import Family, reference_mask
from pyflare_analysis.rca.patterns.measures import Figure, Measure
from pyflare_analysis.rca.patterns.scope import Scope
from pyflare_analysis.rca.patterns.temporal import hour_blocks, hour_tests
from pyflare_analysis.statistics import benjamini_hochberg

__all__ = ["Recurring", "find_recurring"]

_TEMPORAL = ("error_rate", "latency_p95")


@dataclass(frozen=True, slots=True)
class Recurring:
    """Hours of the day at which a metric of a slice is worse."""

    measure: Measure
    dimension: str | None
    value: str
    hours: list[int]
    rest: Figure
    """The metric at all other hours."""
    within: Figure
    p_value: float
    q_value: float
    reach: float
    """Share of the calls of these hours that are of the slice."""
    first: int
    last: int
    """First bucket of the hours, and the one behind the last."""
    llr: float


def find_recurring(family: Family, scope: Scope) -> tuple[list[Recurring], int]:
    """Return the recurring patterns of a family and how many hours were tested.

    All hours of all slices are tested together. The slice with the largest likelihood ratio is
    taken; its hours then count as explained in every slice (`Family.blocks`).
    """
    tested: list[tuple[Measure, int, int, int, float]] = []
    grid, config = scope.grid, scope.config
    hour, day = grid.hour_of_day(), grid.day()
    for measure in family.measures:
        if measure.name not in _TEMPORAL:
            continue
        for at, cube in enumerate(family.cubes):
            for row in range(len(cube.values)):
                trials = cube.trials[row]
                if trials.sum() < 2 * config.min_calls:
                    continue
                hits = measure.hits(
                    cube, row, reference_mask(trials, scope.first, config.min_calls)
                )
                tests = hour_tests(hits, trials, day, hour, min_days=config.min_days)
                tested += [(measure, at, row, test.hour, test.p_value) for test in tests]
    q_values = benjamini_hochberg([test[-1] for test in tested])
    hours: dict[tuple[int, int, int], dict[int, tuple[float, float]]] = {}
    for (measure, at, row, hour_, p), q in zip(tested, q_values, strict=True):
        if q <= config.alpha:
            index = family.measures.index(measure)
            hours.setdefault((index, at, row), {})[hour_] = (p, float(q))
    options = [
        found
        for (index, at, row), worse in hours.items()
        if (found := _blocks(family, family.measures[index], (at, row), worse, scope))
    ]
    if not options:
        return [], len(tested)
    slices = sum(len(cube.values) for cube in family.cubes)

    def evidence(found: list[Recurring]) -> float:
        penalty = 0.0 if found[0].dimension is None else float(np.log(slices))
        return sum(item.llr for item in found) - penalty

    # Of slices that tie the first is shown: the options are in order of preference.
    best = max(evidence(found) for found in options)
    chosen = next(found for found in options if evidence(found) >= best * 0.99)
    family.blocks = [item.hours for item in chosen]
    return chosen, len(tested)


def _blocks(
    family: Family,
    measure: Measure,
    place: tuple[int, int],
    worse: dict[int, tuple[float, float]],
    scope: Scope,
) -> list[Recurring]:
    """Return the runs of hours of one slice whose effect is large enough."""
    at, row = place
    cube, grid, config = family.cubes[at], scope.grid, scope.config
    hour = grid.hour_of_day()
    rest_mask = ~np.isin(hour, list(worse))
    rest = measure.figure(cube, row, rest_mask)
    hits = measure.hits(cube, row, np.ones(grid.count, dtype=bool))
    found = []
    for block in hour_blocks(list(worse)):
        inside = np.isin(hour, block)
        within = measure.figure(cube, row, inside)
        if within.count < config.min_calls or not measure.large_enough(rest, within, config, 1.0):
            continue
        places = np.flatnonzero(inside & (cube.trials[row] > 0))
        everything = family.cubes[0].trials[0][inside].sum()
        p, q = min(worse[h] for h in block if h in worse)
        found.append(
            Recurring(
                measure,
                cube.dimension,
                cube.values[row],
                block,
                rest,
                within,
                p,
                q,
                float(min(1.0, within.count / everything)),
                int(places[0]),
                int(places[-1]) + 1,
                _llr(hits[inside].sum(), within.count, hits[rest_mask].sum(), rest.count),
            )
        )
    return found


def _llr(h1: float, e1: float, h0: float, e0: float) -> float:
    pooled = (h0 + h1) / (e0 + e1)
    inside = h1 * np.log(h1 / e1 / pooled) if h1 > 0 else 0.0
    before = h0 * np.log(h0 / e0 / pooled) if h0 > 0 else 0.0
    return float(inside + before)
