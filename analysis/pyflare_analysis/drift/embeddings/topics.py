"""Topics of a pool by k-means, and which of them are new, grown, shrunk or gone.

The pool is clustered without looking at the samples, at several granularities; then each
topic has a count from either sample. Chi-square over the topics sees a changed mix, the
largest standardised count sees one new topic, however small.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflare_analysis.drift.embeddings.pooled import Pooled, SplitTest, combined

__all__ = ["Partition", "k_means", "levels", "partitions", "topics_test"]

_SMALLEST_LEVEL = 12
_LARGEST_LEVEL = 200
_ROWS_PER_TOPIC = 40
_SMALLEST_TOPIC = 5
_ITERATIONS = 25
_LISTED = 10
_EXAMPLES = 3
_NEW_RATIO = 0.1
"""A topic counts as new when its share was at most this much of what it is."""
_OVERLAP = 0.5


@dataclass(frozen=True, eq=False)
class Partition:
    """The rows of a pool in clusters."""

    labels: NDArray[np.intp]
    """(N,) cluster of each row, 0..k-1."""
    centers: NDArray[np.float32]
    """(k, d) mean of each cluster."""

    @cached_property
    def indicators(self) -> NDArray[np.float32]:
        """(N, k) with 1 where a row is in a cluster."""
        table = np.zeros((len(self.labels), len(self.centers)), np.float32)
        table[np.arange(len(self.labels)), self.labels] = 1
        return table

    @cached_property
    def sizes(self) -> NDArray[np.float64]:
        """(k,) rows of each cluster."""
        return np.bincount(self.labels, minlength=len(self.centers)).astype(np.float64)


def k_means(rows: NDArray[np.float32], k: int, rng: np.random.Generator) -> Partition:
    """Cluster rows by Lloyd's iterations from a greedy k-means++ start.

    Args:
        rows: (N, d), N >= k.
        k: clusters; fewer come out where rows are equal.
        rng: draws the start.

    Source: Arthur & Vassilvitskii 2007, SODA 1027-1035, with several candidates a step.
    """
    squares = np.einsum("ij,ij->i", rows, rows)
    centers = _start(rows, squares, k, rng)
    labels = np.full(len(rows), -1, np.intp)
    for _ in range(_ITERATIONS):
        nearest = np.einsum("ij,ij->i", centers, centers) - 2 * (rows @ centers.T)
        previous, labels = labels, nearest.argmin(1)
        if np.array_equal(previous, labels):
            break
        _, labels = np.unique(labels, return_inverse=True)
        partition = Partition(labels, np.empty((labels.max() + 1, 0), np.float32))
        sums = partition.indicators.T @ rows
        centers = np.asarray(sums / partition.sizes[:, None], np.float32)
    _, labels = np.unique(labels, return_inverse=True)
    return Partition(labels, centers)


def _start(
    rows: NDArray[np.float32], squares: NDArray[np.float32], k: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return starting centers: of a few drawn far rows the one that helps most, k times."""
    chosen = [int(rng.integers(len(rows)))]
    nearest = _to(rows, squares, chosen)[:, 0]
    candidates = 2 + int(np.log(k))
    for _ in range(k - 1):
        weights = np.cumsum(nearest, dtype=np.float64)
        if weights[-1] <= 0:
            break
        drawn = np.searchsorted(weights, rng.random(candidates) * weights[-1], side="right")
        drawn = np.minimum(drawn, len(rows) - 1)
        reach = np.minimum(_to(rows, squares, drawn), nearest[:, None])
        best = int(reach.sum(0).argmin())
        nearest = reach[:, best]
        chosen.append(int(drawn[best]))
    return rows[chosen].copy()


def _to(
    rows: NDArray[np.float32],
    squares: NDArray[np.float32],
    chosen: list[int] | NDArray[np.intp],
) -> NDArray[np.float32]:
    distances = squares[:, None] + squares[chosen] - 2 * (rows @ rows[chosen].T)
    return np.maximum(distances, 0)


def levels(rows: int) -> list[int]:
    """Return the numbers of clusters for so many rows: 12, 25, 50, ... up to rows / 40."""
    most = min(max(2, rows // _ROWS_PER_TOPIC), _LARGEST_LEVEL)
    found = []
    k = _SMALLEST_LEVEL + 0.5
    while int(k) <= most:
        found.append(int(k))
        k *= 2
    return found or [min(_SMALLEST_LEVEL, max(2, rows // 10))]


def partitions(pool: Pooled) -> list[Partition]:
    """Return the clusterings of a pool at each of its `levels`."""
    rng = np.random.default_rng([pool.seed, 1])
    return [k_means(pool.principal, k, rng) for k in levels(len(pool.rows))]


@dataclass(frozen=True, eq=False)
class _Counts:
    """Standardised counts of the reference in the topics of one partition."""

    partition: Partition
    kept: NDArray[np.intp]
    """Topics of at least 5 rows."""
    z: NDArray[np.float64]
    """(topics, P + 1): (count - expected) / sd of the hypergeometric law."""

    @classmethod
    def of(cls, partition: Partition, pool: Pooled) -> _Counts:
        total, n, m = len(pool.rows), pool.reference_counts, pool.current_counts
        kept = np.flatnonzero(partition.sizes >= _SMALLEST_TOPIC)
        sizes = partition.sizes[kept][:, None]
        counts = (partition.indicators[:, kept].T @ pool.members).astype(np.float64)
        variance = sizes * (n / total) * (m / total) * (total - sizes) / (total - 1)
        deviation = np.sqrt(np.maximum(variance, 1e-12))
        return cls(partition, kept, (counts - sizes * n / total) / deviation)

    @property
    def chi_square(self) -> NDArray[np.float64]:
        """(P + 1,) Pearson's statistic of the two samples by the topics."""
        total = len(self.partition.labels)
        weight = (1 - self.partition.sizes[self.kept] / total)[:, None]
        return np.asarray((self.z**2 * weight).sum(0))


def topics_test(pool: Pooled, found: list[Partition] | None = None) -> SplitTest:
    """Return the combined statistic of chi-square and the largest count, at all levels.

    Args:
        pool: rows and splits.
        found: clusterings of the pool; made when None.

    `details["topics"]` lists the topics that changed most, each once, with the p-value
    adjusted for all topics of all levels (by the largest |z| of each split), the rows
    nearest to its center, and the counts.
    """
    counted = [_Counts.of(p, pool) for p in found or partitions(pool)]
    counted = [c for c in counted if len(c.kept) > 1]
    if not counted:
        return SplitTest("topics", np.zeros(pool.permutations + 1), {"topics": []})
    largest = np.max([np.abs(c.z).max(0) for c in counted], axis=0)
    parts = (largest, *(c.chi_square for c in counted))
    details = {
        "levels": [len(c.partition.centers) for c in counted],
        "topics": _listed(counted, largest, pool),
    }
    return SplitTest("topics", combined([parts]), details, parts)


def _listed(
    counted: list[_Counts], largest: NDArray[np.float64], pool: Pooled
) -> list[dict[str, Any]]:
    """Return the topics by |z|, less those that one before explains.

    Without the rows of the topics before, such a one shows less than half of its own |z|, as
    the coarse topic around a new one does; or it is mostly made of the same rows.
    """
    entries = sorted(
        (
            (abs(float(z)), c, int(k))
            for c in counted
            for z, k in zip(c.z[:, 0], c.kept, strict=True)
        ),
        key=lambda entry: -entry[0],
    )
    free = np.ones(len(pool.rows), np.bool_)
    listed: list[dict[str, Any]] = []
    for z, counts, topic in entries:
        inside = counts.partition.labels == topic
        own = inside & free
        if own.sum() < _OVERLAP * inside.sum() or abs(_z(own, free, pool)) < _OVERLAP * z:
            continue
        free &= ~inside
        reached = np.count_nonzero(largest[1:] >= z - 1e-9)
        listed.append(_described(counts.partition, topic, inside, pool))
        listed[-1]["p_value"] = (int(reached) + 1) / len(largest)
        if len(listed) == _LISTED:
            break
    return listed


def _z(inside: NDArray[np.bool_], among: NDArray[np.bool_], pool: Pooled) -> float:
    """Return the standardised count of the reference in some rows among others."""
    total, size = int(among.sum()), int(inside.sum())
    share = float((among & pool.observed).sum()) / total
    variance = size * share * (1 - share) * (total - size) / max(1, total - 1)
    found = float((inside & pool.observed).sum())
    return (found - size * share) / float(np.sqrt(variance)) if variance > 0 else 0.0


def _described(
    partition: Partition, topic: int, inside: NDArray[np.bool_], pool: Pooled
) -> dict[str, Any]:
    n, m = pool.reference_count, pool.current_count
    before = int(np.count_nonzero(inside & pool.observed))
    now = int(np.count_nonzero(inside)) - before
    rows = np.flatnonzero(inside)
    away = pool.principal[rows] - partition.centers[topic]
    nearest = pool.order[rows[np.einsum("ij,ij->i", away, away).argsort(kind="stable")]]
    return {
        "status": _status(before / n, now / m),
        "reference_count": before,
        "current_count": now,
        "reference_share": before / n,
        "current_share": now / m,
        "reference_rows": nearest[nearest < n][:_EXAMPLES].tolist(),
        "current_rows": (nearest[nearest >= n] - n)[:_EXAMPLES].tolist(),
        "members": np.sort(pool.order[rows]),
    }


def _status(before: float, now: float) -> str:
    if now >= before:
        return "new" if before <= _NEW_RATIO * now else "grown"
    return "gone" if now <= _NEW_RATIO * before else "shrunk"
