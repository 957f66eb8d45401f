"""The number of calls against what that time of day had on the days before.

Traffic has a day; a rate of calls is no baseline for it. Expected of an interval is what the
same time of day had on the days before it: the median of the last seven days, and with fewer
days the largest of them, so that a Monday after a weekend is no alarm. Less than three days
before it an interval is not judged. What is expected is the exposure of `episodes`: an episode
has more calls than its time of day explains, beyond what the days before it had as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyflare_analysis.rca.patterns.baseline import dispersion
from pyflare_analysis.rca.patterns.cells import Cube, Grid
from pyflare_analysis.rca.patterns.episodes import Episode, scan_episodes
from pyflare_analysis.rca.patterns.scope import Scope

__all__ = ["Surge", "expected_calls", "find_surges", "scan_surges"]

Floats = NDArray[np.float64]
_DAY_NS = 86_400_000_000_000
_WEEK = 7
_FEWEST_DAYS = 3


@dataclass(frozen=True, slots=True)
class Surge:
    """An episode of more calls of a slice than its time of day explains."""

    dimension: str | None
    value: str
    episode: Episode
    expected: float
    """Calls per hour that the time of day explains."""
    observed: float
    """Calls per hour."""
    calls: float
    expected_calls: float
    reach: float
    """Share of all calls of the episode that are of the slice."""


def expected_calls(calls: Floats, per_day: int) -> Floats:
    """Return (T,) what the same time of day had on the days before, NaN where it is not known.

    Args:
        calls: (T,) calls of each interval.
        per_day: intervals of a day.
    """
    n = len(calls)
    padded = np.concatenate((calls[:1], calls, calls[-1:]))
    # Neighbours too: one interval of one day is a noisy expectation.
    smooth = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    expected = np.full(n, np.nan)
    for first in range(_FEWEST_DAYS * per_day, n, per_day):
        days = min(first // per_day, _WEEK)
        past = smooth[first - days * per_day : first].reshape(days, per_day)
        day = np.median(past, axis=0) if days == _WEEK else past.max(axis=0)
        last = min(n, first + per_day)
        expected[first:last] = day[: last - first]
    return expected


def scan_surges(
    cubes: list[Cube], scope: Scope
) -> tuple[list[tuple[int, int, Episode]], list[float], str]:
    """Return episodes by cube and row, one p-value for each series, and why there is none."""
    grid, config = scope.grid, scope.config
    if grid.every_ns > _DAY_NS // 4 or _DAY_NS % grid.every_ns:
        return [], [], "intervals that a day is no multiple of, or longer than 6 h"
    per_day = _DAY_NS // grid.every_ns
    if grid.count <= (_FEWEST_DAYS + 0.25) * per_day:
        return [], [], f"fewer than {_FEWEST_DAYS} days of calls to know the times of day from"
    found: list[tuple[int, int, Episode]] = []
    p_values: list[float] = []
    for at, cube in enumerate(cubes):
        for row in range(len(cube.values)):
            calls = cube.trials[row]
            expected = expected_calls(calls, per_day)
            known = ~np.isnan(expected)
            exposure = np.where(known, np.maximum(np.nan_to_num(expected), 1.0), 0.0)
            hits = np.where(known, calls, 0.0)
            if hits.sum() < 2 * config.min_calls:
                continue
            episodes = scan_episodes(
                hits,
                exposure,
                trials=np.maximum(hits, exposure),
                min_trials=config.min_calls,
                first_bucket=max(scope.first, _FEWEST_DAYS * per_day + max(2, per_day // 4)),
                dispersion=dispersion(hits, exposure),
                alpha=0.05,
            )
            found += [(at, row, episode) for episode in episodes]
            p_values.append(min((e.p_value for e in episodes), default=1.0))
    return found, p_values, ""


def find_surges(
    cubes: list[Cube],
    candidates: list[tuple[int, int, Episode]],
    scope: Scope,
    p_limit: float,
) -> list[Surge]:
    """Return the surges that are significant and large enough, one for each time.

    Of slices that surge at one time the one with the largest likelihood ratio is told: calls of
    a runaway agent are in its feature's calls, its team's and in all calls.
    """
    config = scope.config
    chosen: list[tuple[int, Episode]] = []
    surges: list[Surge] = []
    slices = sum(len(cube.values) for cube in cubes)

    def evidence(candidate: tuple[int, int, Episode]) -> float:
        return candidate[2].llr - (float(np.log(slices)) if candidate[0] else 0.0)

    best_first = sorted(candidates, key=lambda c: (-round(evidence(c), 1), c[0]))
    for at, row, episode in best_first:
        if episode.p_value > p_limit or any(episode.overlaps(other) for _, other in chosen):
            continue
        surge = _measured(cubes, at, row, episode, scope.grid)
        extra = surge.calls - surge.expected_calls
        if surge.observed >= config.min_volume_ratio * surge.expected and extra >= config.min_calls:
            chosen.append((at, episode))
            surges.append(surge)
    return surges


def _measured(cubes: list[Cube], at: int, row: int, episode: Episode, grid: Grid) -> Surge:
    cube, inside = cubes[at], slice(episode.first, episode.last)
    calls = float(cube.trials[row, inside].sum())
    expected = expected_calls(cube.trials[row], _DAY_NS // grid.every_ns)[inside]
    usual = float(np.maximum(np.nan_to_num(expected), 1.0).sum())
    hours = (episode.last - episode.first) * grid.every_ns / 3.6e12
    everything = float(cubes[0].trials[0, inside].sum())
    return Surge(
        cube.dimension,
        cube.values[row],
        episode,
        usual / hours,
        calls / hours,
        calls,
        usual,
        min(1.0, calls / everything) if everything else 1.0,
    )
