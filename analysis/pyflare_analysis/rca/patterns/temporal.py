"""Hours of the day at which it is worse, on many days.

Each hour is compared with the other hours of the same day, and the days are put together by
Cochran, Mantel and Haenszel, so that days that are bad as a whole count for nothing. What one
day alone did is no pattern: the test must hold without the day that speaks for it most, and
the hour must be worse than the rest on three days of four.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["HourTest", "hour_blocks", "hour_ratio", "hour_tests"]

Floats = NDArray[np.float64]
_CONSISTENT = 0.75


@dataclass(frozen=True, slots=True)
class HourTest:
    """One hour of the day against the other hours of the same days."""

    hour: int
    p_value: float
    """One-sided, without the day that speaks most for the pattern; 1 where it cannot be told."""
    ratio: float
    """Mantel-Haenszel ratio of the rates."""


def hour_tests(
    hits: Floats,
    trials: Floats,
    day: NDArray[np.int64],
    hour: NDArray[np.int64],
    *,
    min_days: int,
) -> list[HourTest]:
    """Return the test of each hour of the day.

    With day d having n_d trials and k_d hits, the hour h_d of them and a_d hits: a_d is
    hypergeometric with mean k_d h_d / n_d under no pattern. z = (sum a_d - sum E a_d - 1/2) /
    sqrt(sum Var a_d). Ratio = sum a_d (n_d - h_d) / n_d over sum (k_d - a_d) h_d / n_d.

    Args:
        hits: (T,) counts.
        trials: (T,) calls.
        day: (T,) number of the day of each bucket, from 0.
        hour: (T,) hour of the day of each bucket.
        min_days: days that an hour needs calls on.

    Source: Mantel and Haenszel 1959, J. Natl. Cancer Inst. 22:719-748.
    """
    from scipy.stats import norm

    days = int(day[-1]) + 1
    cell = hour * days + day
    a, h = (
        np.bincount(cell, weights=x, minlength=24 * days).astype(np.float64).reshape(24, days)
        for x in (hits, trials)
    )
    k, n = a.sum(axis=0), h.sum(axis=0)
    known = (h > 0) & (n - h > 0)
    safe_n, safe_h, rest = np.maximum(n, 1e-9), np.maximum(h, 1e-9), np.maximum(n - h, 1e-9)
    expected = np.where(known, k * h / safe_n, 0.0)
    excess = np.where(known, a - expected, 0.0)
    variance = np.where(known, k * h * (n - h) * (n - k), 0.0) / (
        safe_n * safe_n * np.maximum(n - 1, 1)
    )
    told = known & (expected >= 0.5)
    worse = told & (a / safe_h > (k - a) / rest)
    # Without the day that speaks for it most.
    row, best = np.arange(24), np.argmax(excess, axis=1)
    left = excess.sum(axis=1) - excess[row, best]
    spread = variance.sum(axis=1) - variance[row, best]
    tested = (known.sum(axis=1) >= min_days) & (told.sum(axis=1) >= min_days)
    tested &= worse.sum(axis=1) >= _CONSISTENT * np.maximum(told.sum(axis=1), 1)
    tested &= (expected.sum(axis=1) >= 3) & (spread > 0)
    z = (left - 0.5) / np.sqrt(np.where(tested, spread, 1.0))
    p_values = np.where(tested, norm.sf(z), 1.0)
    return [
        HourTest(
            at,
            float(p_values[at]),
            _mantel_haenszel(a[at][known[at]], h[at][known[at]], k[known[at]], n[known[at]]),
        )
        for at in range(24)
    ]


def _by_day(day: NDArray[np.int64], values: Floats, days: int) -> Floats:
    return np.bincount(day, weights=values, minlength=days).astype(np.float64)


def _mantel_haenszel(a: Floats, h: Floats, k: Floats, n: Floats) -> float:
    top, bottom = (a * (n - h) / n).sum(), ((k - a) * h / n).sum()
    return float(top / bottom) if bottom > 0 else (np.inf if top > 0 else 1.0)


def hour_ratio(
    hits: Floats,
    trials: Floats,
    day: NDArray[np.int64],
    inside: NDArray[np.bool_],
) -> float:
    """Return the Mantel-Haenszel ratio of the rate of some hours over that of the rest."""
    days = int(day[-1]) + 1
    k, n = (_by_day(day, x, days) for x in (hits, trials))
    a, h = (_by_day(day[inside], x[inside], days) for x in (hits, trials))
    known = (h > 0) & (n - h > 0)
    return _mantel_haenszel(a[known], h[known], k[known], n[known]) if known.any() else 1.0


def hour_blocks(hours: list[int]) -> list[list[int]]:
    """Return runs of neighbouring hours, across midnight too, a missing hour between joined.

    >>> hour_blocks([1, 2, 3, 23, 0, 12])
    [[12], [23, 0, 1, 2, 3]]
    """
    if not hours:
        return []
    chosen = sorted(set(hours))
    filled = set(chosen) | {
        (h + 1) % 24 for h in chosen if (h + 2) % 24 in chosen and (h + 1) % 24 not in chosen
    }
    if len(filled) == 24:
        return [list(range(24))]
    blocks: list[list[int]] = []
    for first in sorted(h for h in filled if (h - 1) % 24 not in filled):
        run = [first]
        while (run[-1] + 1) % 24 in filled:
            run.append((run[-1] + 1) % 24)
        blocks.append(run)
    return blocks
