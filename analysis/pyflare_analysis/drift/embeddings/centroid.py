"""The distance between the means of two samples of vectors.

Example:
    >>> distances = centroid_distances(reference.mean(0), current.mean(0))
    >>> distances.euclidean, distances.cosine
    (0.031, 0.0006)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyflare_analysis.drift.embeddings.pooled import Floats, Pooled, SplitTest

__all__ = ["CentroidDistances", "centroid_distances", "centroid_test"]


class CentroidDistances(NamedTuple):
    """Distances between two means."""

    euclidean: float
    """Length of the difference, in the units of the vectors."""
    cosine: float
    """1 - cosine of the angle, [0, 2]; NaN where a mean is zero."""

    def to_dict(self) -> dict[str, float]:
        """Return the distances as they stand in JSON."""
        return self._asdict()


def centroid_distances(reference: ArrayLike, current: ArrayLike) -> CentroidDistances:
    """Return the distances between two means.

    Args:
        reference: (d,) mean of the reference.
        current: (d,) mean of the current vectors.
    """
    a = np.asarray(reference, dtype=np.float64)
    b = np.asarray(current, dtype=np.float64)
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    cosine = max(0.0, 1.0 - float(a @ b) / lengths) if lengths > 0 else math.nan
    return CentroidDistances(float(np.linalg.norm(a - b)), cosine)


def centroid_test(pool: Pooled) -> SplitTest:
    """Return the Euclidean distance of the means for all splits.

    `details` has what tells its size: the squared distance less what noise adds on average,
    tr(S) (1/n + 1/m) or, of clustered rows, the mean of the random splits, in units of the
    variance tr(S) within the samples.
    """
    statistics = _lengths(pool.mean_differences(pool.rows))
    n, m = pool.reference_count, pool.current_count
    total = float(np.einsum("ij,ij->", pool.rows, pool.rows, dtype=np.float64))
    between = n * m / (n + m) * float(statistics[0]) ** 2
    variance = (total - between) / (n + m - 2)
    details: dict[str, float | None] = {"euclidean": float(statistics[0]), "shift_in_sd": None}
    if variance > 0:
        noise = variance * (1 / n + 1 / m)
        if pool.clusters is not None and pool.permutations:
            noise = float((statistics[1:] ** 2).mean())
        corrected = float(statistics[0]) ** 2 - noise
        details["shift_in_sd"] = math.sqrt(max(0.0, corrected) / variance)
    return SplitTest("centroid", statistics, details)


def cosine_test(pool: Pooled, mean: NDArray[np.float64]) -> SplitTest:
    """Return the cosine distance of the means for all splits.

    Args:
        pool: rows and splits; its rows are centred.
        mean: (d,) what was subtracted from the rows.
    """
    first = (pool.rows.T @ pool.members).astype(np.float64)
    second = pool.rows.sum(0, dtype=np.float64)[:, None] - first
    a = first / pool.reference_counts + mean[:, None]
    b = second / pool.current_counts + mean[:, None]
    lengths = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    inner = np.einsum("ij,ij->j", a, b)
    cosine = 1 - np.divide(inner, lengths, out=np.zeros_like(inner), where=lengths > 0)
    return SplitTest("cosine", np.maximum(cosine, 0.0))


def _lengths(vectors: Floats) -> NDArray[np.float64]:
    squares = np.einsum("ij,ij->j", vectors, vectors, dtype=np.float64)
    return np.asarray(np.sqrt(squares), np.float64)
