"""Whether the vectors of a topic lie closer together or further apart than they did.

The mean and the mix of topics can stay as they were while answers become more alike, or
some more alike and others less. Each row's distance to the center of its topic, on a log
scale and standardised within the topic, is compared between the samples in three ways:
summed over everything (all tighter), summed by topic (some tighter, some looser), and by
its quarter within the topic (a mixture of tight and loose in the same topic).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyflare_analysis.drift.embeddings.pooled import Pooled, SplitTest, combined
from pyflare_analysis.drift.embeddings.topics import Partition, partitions

__all__ = ["spread_test"]

_SMALLEST_TOPIC = 10
_SHELLS = 4
_LEVEL = 25
_TINY = 1e-12


def spread_test(pool: Pooled, found: list[Partition] | None = None) -> SplitTest:
    """Return the combined statistic of the three comparisons.

    Args:
        pool: rows and splits.
        found: clusterings of the pool; made when None. The one nearest to 25 topics is used.

    `details["radius_ratio"]` is the geometric mean over topics of how much larger the
    distances to the center are in the current sample than in the reference.
    """
    partition = min(found or partitions(pool), key=lambda p: abs(len(p.centers) - _LEVEL))
    radii = _log_radii(pool, partition)
    kept = np.flatnonzero(partition.sizes >= _SMALLEST_TOPIC)
    if not len(kept):
        return SplitTest("spread", np.zeros(pool.permutations + 1), {"radius_ratio": None})
    scaled = _standardised(radii, partition)
    inside = partition.indicators[:, kept]
    sums = ((inside * scaled[:, None]).T @ pool.members).astype(np.float64)
    sizes = partition.sizes[kept][:, None]
    ours = (inside.T @ pool.members).astype(np.float64)
    variance = ours * (sizes - ours) / (sizes - 1)
    by_topic = np.divide(sums**2, variance, out=np.zeros_like(sums), where=variance > 0).sum(0)
    overall = np.abs(sums.sum(0))
    parts = (overall, by_topic, _shell_chi_square(scaled, partition, pool))
    details = {"radius_ratio": _ratio(radii, partition, pool)}
    return SplitTest("spread", combined([parts]), details, parts)


def _log_radii(pool: Pooled, partition: Partition) -> NDArray[np.float32]:
    """Return (N,) half the log of the squared distance to the topic's mean, in all dimensions."""
    sums = partition.indicators.T @ pool.rows
    centers = np.asarray(sums / partition.sizes[:, None], pool.rows.dtype)
    products = np.einsum("ij,ij->i", pool.rows, centers[partition.labels])
    lengths = np.einsum("ij,ij->i", centers, centers)[partition.labels]
    squares = np.einsum("ij,ij->i", pool.rows, pool.rows) - 2 * products + lengths
    floor = max(float(squares.mean()) * 1e-6, _TINY)
    return np.asarray(0.5 * np.log(np.maximum(squares, floor)), np.float32)


def _standardised(values: NDArray[np.float32], partition: Partition) -> NDArray[np.float32]:
    """Return values with mean 0 and standard deviation 1 within each cluster."""
    means = (values @ partition.indicators) / partition.sizes
    away = values - means[partition.labels]
    variances = (away**2 @ partition.indicators) / np.maximum(partition.sizes - 1, 1)
    deviations = np.sqrt(variances)[partition.labels]
    scaled = np.divide(away, deviations, out=np.zeros_like(away, np.float64), where=deviations > 0)
    return scaled.astype(np.float32)


def _shell_chi_square(
    scaled: NDArray[np.float32], partition: Partition, pool: Pooled
) -> NDArray[np.float64]:
    """Return chi-square of the two samples by quarter of the distance within the topic."""
    by_topic = np.lexsort((scaled, partition.labels))
    ends = np.cumsum(partition.sizes).astype(np.intp)
    starts = ends - partition.sizes.astype(np.intp)
    ranks = np.empty(len(scaled))
    ranks[by_topic] = np.arange(len(scaled)) - starts[partition.labels[by_topic]]
    quarter = (_SHELLS * ranks / partition.sizes[partition.labels]).astype(np.intp)
    table = np.zeros((len(scaled), _SHELLS), np.float32)
    table[np.arange(len(scaled)), quarter] = 1
    sizes = table.sum(0, dtype=np.float64)[:, None]
    counts = (table.T @ pool.members).astype(np.float64)
    expected = sizes * pool.reference_counts / len(scaled)
    return np.asarray(((counts - expected) ** 2 / np.maximum(expected, _TINY)).sum(0))


def _ratio(radii: NDArray[np.float32], partition: Partition, pool: Pooled) -> float | None:
    """Return the mean over topics, by their rows, of the ratio of the typical radii."""
    own = pool.observed
    k = len(partition.centers)
    before = np.bincount(partition.labels[own], minlength=k)
    now = np.bincount(partition.labels[~own], minlength=k)
    both = (before > 1) & (now > 1)
    if not both.any():
        return None
    sums = [
        np.bincount(partition.labels[side], weights=radii[side], minlength=k)
        for side in (own, ~own)
    ]
    change = sums[1][both] / now[both] - sums[0][both] / before[both]
    return float(np.exp(np.average(change, weights=partition.sizes[both])))
