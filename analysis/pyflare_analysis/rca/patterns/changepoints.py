"""Changes of level: where a series went over from one mean to another for good.

Binary segmentation: the split that the CUSUM statistic prefers is kept where it takes away more
squared error than noise would, and both sides are searched again.

    C_k = |S_k - k/n S_n| / sqrt(k (n-k) / n),  S_k the sum of the first k values

keeps a split where C_k^2 > penalty * variance * ln n (Vostrikova 1981; the penalty of Schwarz,
doubled, and inflated for autocorrelation). A season would be a step up and down every day, and a
spike would lift the mean of its day, so the medians of whole periods are what is segmented.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["ChangePoint", "binary_segmentation", "change_points"]

Floats = NDArray[np.float64]


class ChangePoint(NamedTuple):
    """One change of level."""

    time_ns: int
    before: float
    """Mean of the periods' medians since the change before."""
    after: float
    """Mean of the periods' medians up to the next change."""


def binary_segmentation(
    values: Floats, *, min_size: int = 3, penalty: float = 4.0, limit: int = 20
) -> list[int]:
    """Return the positions at which a new level begins, increasing.

    Args:
        values: (n,) finite.
        min_size: points that a level has at least.
        penalty: in units of variance * ln n.
        limit: so many changes at most, the clearest first.
    """
    n = len(values)
    noise = np.diff(values)
    if n < 2 * min_size or not np.any(noise):
        return []
    # From differences, robustly: a level must not count as noise.
    spread = 1.4826 * float(np.median(np.abs(noise - np.median(noise)))) / np.sqrt(2)
    variance = max(spread, 1e-3 * float(values.std()), 1e-300) ** 2 * _inflation(values)
    least = penalty * variance * np.log(n)
    found: list[int] = []
    pieces = [(0, n)]
    while pieces and len(found) < limit:
        options = [
            (split, piece) for piece in pieces if (split := _split(values, *piece, min_size))
        ]
        if not options:
            break
        (gain, at), piece = max(options)
        if gain <= least:
            break
        found.append(at)
        pieces.remove(piece)
        pieces += [(piece[0], at), (at, piece[1])]
    return sorted(found)


def _split(values: Floats, first: int, last: int, min_size: int) -> tuple[float, int] | None:
    """Return gain and position of the best split of a piece."""
    n = last - first
    if n < 2 * min_size:
        return None
    k = np.arange(min_size, n - min_size + 1)
    sums = np.cumsum(values[first:last])
    cusum = (sums[k - 1] - k / n * sums[-1]) ** 2 / (k * (n - k) / n)
    best = int(np.argmax(cusum))
    return float(cusum[best]), first + int(k[best])


def _inflation(values: Floats) -> float:
    """Return by how much autocorrelation inflates the variance of a mean.

    From differences two apart and one apart: Var(x_t - x_{t-2}) / Var(x_t - x_{t-1}) is 1 for
    white noise and 1 + r for a first-order process with correlation r.
    """
    one, two = np.diff(values), values[2:] - values[:-2]
    a, b = (float(np.median(np.abs(d))) ** 2 for d in (one, two))
    r = min(max(b / a - 1, 0.0), 0.8) if a > 0 else 0.0
    return (1 + r) / (1 - r)


def change_points(
    ns: NDArray[np.int64], values: Floats, *, period: int, min_periods: int = 3
) -> list[ChangePoint]:
    """Return the changes of level of a series, of whole periods.

    Args:
        ns: (n,) increasing, ns since 1970.
        values: (n,) finite.
        period: points of a period; a series of fewer than 8 periods is cut into 40 parts.
        min_periods: periods that a level has at least.
    """
    size = period if len(values) >= 8 * period else max(1, len(values) // 40)
    whole = len(values) // size * size
    medians = np.median(values[:whole].reshape(-1, size), axis=1)
    splits = binary_segmentation(medians, min_size=min_periods)
    edges = [0, *splits, len(medians)]
    levels = [float(medians[a:b].mean()) for a, b in pairwise(edges)]
    return [
        ChangePoint(int(ns[split * size]), levels[i], levels[i + 1])
        for i, split in enumerate(splits)
    ]
