"""Trends: whether a series creeps, and how fast."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Trend", "mann_kendall", "theil_sen", "trend_of"]

_MOST_POINTS = 1500
"""Slopes of pairs are quadratic; longer series are averaged down to so many points."""


class Trend(NamedTuple):
    """A monotone trend."""

    slope: float
    """Theil-Sen slope, units of the values per unit of time."""
    intercept: float
    """Median of value - slope * time."""
    tau: float
    """Kendall's tau-a, -1 to 1."""
    p_value: float
    """Of the Mann-Kendall test, two-sided."""


def theil_sen(times: ArrayLike, values: ArrayLike) -> tuple[float, float]:
    """Return slope and intercept: the median of the slopes of all pairs.

    Args:
        times: (n,) increasing.
        values: (n,) finite.

    Raises:
        ValueError: fewer than two points.

    Source: Theil 1950; Sen 1968, J. Am. Stat. Assoc. 63:1379-1389.
    """
    t, x = np.asarray(times, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if len(t) < 2:
        raise ValueError("a slope needs two points")
    i, j = np.triu_indices(len(t), 1)
    step = t[j] - t[i]
    slopes = (x[j] - x[i])[step > 0] / step[step > 0]
    slope = float(np.median(slopes))
    return slope, float(np.median(x - slope * t))


def mann_kendall(values: ArrayLike) -> tuple[float, float]:
    """Return Kendall's tau of values against their order, and the two-sided p-value.

    S = sum over i < j of sign(x_j - x_i); Var S = (n(n-1)(2n+5) - sum over ties of
    u(u-1)(2u+5)) / 18; z = (S -+ 1) / sqrt(Var S). With autocorrelation of lag one, r > 0, the
    variance is multiplied by (1 + r) / (1 - r), r of the values without their trend.

    Args:
        values: (n,) finite, in order of time.

    Source: Mann 1945, Econometrica 13:245-259; Kendall 1975; the correction in the simple form
    of Yue and Wang 2004, Water Resour. Manag. 18:201-218.
    """
    from statistics import NormalDist

    x = np.asarray(values, dtype=np.float64)
    n = len(x)
    if n < 4:
        return 0.0, 1.0
    s = float(np.sign(x[None, :] - x[:, None])[np.triu_indices(n, 1)].sum())
    _, ties = np.unique(x, return_counts=True)
    variance = (n * (n - 1) * (2 * n + 5) - (ties * (ties - 1) * (2 * ties + 5)).sum()) / 18
    if variance <= 0:
        return 0.0, 1.0
    variance *= _inflation(x)
    z = (s - np.sign(s)) / np.sqrt(variance)
    return s / (n * (n - 1) / 2), 2 * NormalDist().cdf(-abs(float(z)))


def _inflation(x: NDArray[np.float64]) -> float:
    slope, intercept = theil_sen(np.arange(len(x)), x)
    rest = x - slope * np.arange(len(x)) - intercept
    rest = rest - rest.mean()
    total = float((rest * rest).sum())
    r = float((rest[1:] * rest[:-1]).sum()) / total if total > 0 else 0.0
    r = min(max(r, 0.0), 0.9)
    return (1 + r) / (1 - r)


def trend_of(times: ArrayLike, values: ArrayLike) -> Trend:
    """Return the trend of a series; points that are not finite are left out.

    Args:
        times: (n,) increasing.
        values: (n,).
    """
    t, x = np.asarray(times, dtype=np.float64), np.asarray(values, dtype=np.float64)
    finite = np.isfinite(x)
    t, x = t[finite], x[finite]
    if len(x) > _MOST_POINTS:
        group = -(-len(x) // _MOST_POINTS)
        whole = len(x) // group * group
        t = t[:whole].reshape(-1, group).mean(axis=1)
        x = x[:whole].reshape(-1, group).mean(axis=1)
    if len(x) < 4:
        return Trend(0.0, float(np.median(x)) if len(x) else 0.0, 0.0, 1.0)
    slope, intercept = theil_sen(t, x)
    tau, p_value = mann_kendall(x)
    return Trend(slope, intercept, tau, p_value)
