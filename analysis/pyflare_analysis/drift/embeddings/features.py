"""MMD by random features: linear in the rows, so millions of them in one pass.

The kernel is the mean of cos(w.(x - y)) over random frequencies w, so the mean embedding
of a sample is its mean of cosines and sines, and MMD^2 is a distance of two such means.
A stream is folded into groups of equally many rows; whole groups are permuted, which
keeps the level exact, because under no change the groups are exchangeable.

Source: Rahimi & Recht 2007, NeurIPS 20, for the features; Domingo-Enrich, Dwivedi & Mackey
2023, AISTATS, arXiv 2301.05974, for permuting groups.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyflare_analysis.drift.embeddings.pooled import Floats, Pooled, SplitTest

__all__ = ["GroupedSums", "RandomFeatures", "features_test", "group_plan"]

FREQUENCIES = 512
"""The kernel's error is about 1 / sqrt(FREQUENCIES) at any one pair."""
_BLOCK = 4096
_MOST_GROUPS = 2048
_MOST_UNEVEN = 16
"""Beyond so many times the smaller sample, more rows of the larger one add nothing."""


@dataclass(frozen=True, eq=False)
class RandomFeatures:
    """Cosines and sines at random frequencies, whose inner product is the RBF kernel."""

    frequencies: NDArray[np.float32]
    """(d, FREQUENCIES), normal with deviation 1 / sigma."""

    @classmethod
    def of(cls, dimensions: int, sigma: float, seed: int) -> RandomFeatures:
        """Draw the frequencies of exp(-||x - y||^2 / (2 sigma^2))."""
        rng = np.random.default_rng([seed, 2])
        drawn = rng.standard_normal((dimensions, FREQUENCIES), np.float32)
        return cls(drawn / np.float32(sigma))

    def of_rows(self, rows: Floats) -> NDArray[np.float32]:
        """Return (n, 2 FREQUENCIES) features of unit length."""
        angles = np.asarray(rows, np.float32) @ self.frequencies
        features = np.empty((len(rows), 2 * FREQUENCIES), np.float32)
        np.cos(angles, out=features[:, :FREQUENCIES])
        np.sin(angles, out=features[:, FREQUENCIES:])
        features /= np.float32(np.sqrt(FREQUENCIES))
        return features


def features_test(pool: Pooled, sigma: float) -> SplitTest:
    """Return MMD^2 by random features for all splits of a pool.

    Args:
        pool: rows and splits.
        sigma: bandwidth.
    """
    features = RandomFeatures.of(pool.rows.shape[1], sigma, pool.seed)
    sums = np.zeros((2 * FREQUENCIES, pool.members.shape[1]))
    total = np.zeros((2 * FREQUENCIES, 1))
    for start in range(0, len(pool.rows), _BLOCK):
        block = features.of_rows(pool.rows[start : start + _BLOCK])
        sums += block.T @ pool.members[start : start + _BLOCK]
        total += block.sum(0, dtype=np.float64)[:, None]
    statistics = unbiased_mmd2(sums, total, pool.reference_counts, pool.current_counts)
    return SplitTest("rff", statistics, {"frequencies": FREQUENCIES, "mmd2": float(statistics[0])})


def unbiased_mmd2(
    sums: NDArray[np.float64],
    total: NDArray[np.float64],
    n: int | NDArray[np.float64],
    m: int | NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return unbiased MMD^2 from sums of unit-length features.

    (||S||^2 - n) / (n (n-1)) + (||T||^2 - m) / (m (m-1)) - 2 S.T / (nm).

    Args:
        sums: (k, splits) S, sums over the reference.
        total: (k, 1) S + T.
        n: rows of the reference, of all splits or (splits,) of each.
        m: current rows.
    """
    others = total - sums
    own = np.einsum("ij,ij->j", sums, sums)
    other = np.einsum("ij,ij->j", others, others)
    across = np.einsum("ij,ij->j", sums, others)
    return np.asarray(
        (own - n) / (n * (n - 1.0)) + (other - m) / (m * (m - 1.0)) - 2 * across / (n * (m * 1.0))
    )


def group_plan(reference_rows: int, current_rows: int) -> tuple[int, int, int]:
    """Return rows a group, groups of the reference, groups of the current sample.

    At most about 2,048 groups, all of the same number of rows; of a sample more than 16 times
    as large as the other, an evenly spaced part is used.
    """
    n = min(reference_rows, _MOST_UNEVEN * current_rows)
    m = min(current_rows, _MOST_UNEVEN * reference_rows)
    size = max(1, -(-(n + m) // _MOST_GROUPS))
    return size, n // size, m // size


class GroupedSums:
    """Sums of rows by group, filled from a stream.

    Args:
        groups: how many.
        size: rows of each.
        rows: rows of the stream, of which groups x size, evenly spaced, are used.
        width: length of a row.
    """

    def __init__(self, groups: int, size: int, rows: int, width: int) -> None:
        self.sums = np.zeros((groups, width), np.float64)
        self._used, self._rows = groups * size, rows
        self._seen = 0
        self._taken = 0

    @property
    def complete(self) -> bool:
        """Whether as many rows came as were promised."""
        return self._taken == self._used

    def chosen(self, count: int) -> NDArray[np.bool_]:
        """Return which of the next `count` rows of the stream are used."""
        index = np.arange(self._seen, self._seen + count + 1, dtype=np.int64)
        self._seen += count
        position = np.minimum(index * self._used // self._rows, self._used)
        return np.asarray(position[1:] > position[:-1])

    def add(self, rows: Floats) -> None:
        """Add rows that are used, each to the group after that of the row before."""
        groups = len(self.sums)
        start = 0
        while start < len(rows):
            at = self._taken % groups
            part = rows[start : start + groups - at]
            self.sums[at : at + len(part)] += part
            start += len(part)
            self._taken += len(part)


def fill(
    sums: GroupedSums,
    batches: Iterable[Floats],
    features: RandomFeatures,
    mean: Floats,
) -> None:
    """Add the features, then the centred values, of a stream of rows."""
    for batch in batches:
        rows = batch[sums.chosen(len(batch))]
        for start in range(0, len(rows), _BLOCK):
            part = rows[start : start + _BLOCK] - mean
            sums.add(np.hstack([features.of_rows(part), part]))
