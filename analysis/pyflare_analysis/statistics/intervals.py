"""Confidence intervals of proportions, for arrays of counts at once."""

from __future__ import annotations

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Interval", "newcombe_interval", "wilson_interval"]


class Interval(NamedTuple):
    """Bounds of confidence intervals, one pair for each element."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]


def wilson_interval(successes: ArrayLike, trials: ArrayLike, level: float = 0.95) -> Interval:
    """Return the score interval of a proportion.

    (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), with p = successes / trials.
    Weighted counts need not be whole; `trials` is then the effective sample size.

    Args:
        successes: counts in [0, trials], any shape.
        trials: counts, broadcast against `successes`; without trials the interval is [0, 1].
        level: confidence in (0, 1).

    Raises:
        ValueError: counts or a level out of range.

    Source: Wilson 1927, J. Am. Stat. Assoc. 22:209-212.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}, not within (0, 1)")
    k, n = np.broadcast_arrays(
        np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    )
    if np.any(k < 0) or np.any(k > n):
        raise ValueError("successes outside [0, trials]")
    z = NormalDist().inv_cdf(0.5 + level / 2)
    safe = np.where(n > 0, n, 1.0)
    p = k / safe
    center = p + z * z / (2 * safe)
    spread = z * np.sqrt(p * (1 - p) / safe + z * z / (4 * safe * safe))
    scale = 1 + z * z / safe
    low = np.where(n > 0, np.clip((center - spread) / scale, 0.0, 1.0), 0.0)
    high = np.where(n > 0, np.clip((center + spread) / scale, 0.0, 1.0), 1.0)
    # The bounds at no and at only successes are exact; rounding must not move them.
    return Interval(np.where(k == 0, 0.0, low), np.where((k == n) & (n > 0), 1.0, high))


def newcombe_interval(
    successes: ArrayLike,
    trials: ArrayLike,
    other_successes: ArrayLike,
    other_trials: ArrayLike,
    level: float = 0.95,
) -> Interval:
    """Return the interval of the difference of two independent proportions, first minus second.

    With the Wilson bounds l, u of each: d - sqrt((p1-l1)^2 + (u2-p2)^2) and
    d + sqrt((u1-p1)^2 + (p2-l2)^2). Without trials on either side it is [-1, 1].

    Args:
        successes: of the first sample; all four are broadcast together.
        trials: of the first sample.
        other_successes: of the second sample.
        other_trials: of the second sample.
        level: confidence in (0, 1).

    Raises:
        ValueError: counts or a level out of range.

    Source: Newcombe 1998, Stat. Med. 17:873-890, method 10.
    """
    k1, n1, k2, n2 = np.broadcast_arrays(
        *(
            np.asarray(values, dtype=np.float64)
            for values in (successes, trials, other_successes, other_trials)
        )
    )
    first, second = wilson_interval(k1, n1, level), wilson_interval(k2, n2, level)
    p1, p2 = k1 / np.where(n1 > 0, n1, 1.0), k2 / np.where(n2 > 0, n2, 1.0)
    difference = p1 - p2
    low = difference - np.hypot(p1 - first.low, second.high - p2)
    high = difference + np.hypot(first.high - p1, p2 - second.low)
    known = (n1 > 0) & (n2 > 0)
    return Interval(
        np.where(known, np.clip(low, -1.0, 1.0), -1.0),
        np.where(known, np.clip(high, -1.0, 1.0), 1.0),
    )
