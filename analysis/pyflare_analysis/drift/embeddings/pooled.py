"""Two samples of vectors as one pool, and the splits of it that a permutation test compares.

Under "nothing changed" every way of splitting the pool into n and m rows is as likely as
the one that was observed. A statistic that is computed for the observed split and for
random ones, with everything else taken from the pool alone, has an exact level at any
number of rows: p = (b + 1) / (P + 1), where b of P random splits reach the observed value.
Rows that belong together, as the calls of a trace, change sides together: of the clusters as many
fall to the reference as it has, and its rows are as many as these have.

Source: Gretton et al. 2012, JMLR 13:723-773, section 5; Phipson & Smyth 2010, Stat. Appl.
Genet. Mol. Biol. 9:39, for the + 1.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Clusters", "Floats", "Pooled", "SplitTest", "combined", "permutation_p_value"]

Floats = NDArray[np.floating[Any]]

_PCA_DIMENSIONS = 32
_OVERSAMPLING = 8
_POWER_STEPS = 6
_DIRECT_DIMENSIONS = 512
"""Up to here the whole spectrum is cheaper than the iteration."""
_SKEWNESS = (0.05, 3.0)
_FITTED = 0.95
_SMALLEST_TAIL = 1e-300


@dataclass(frozen=True, slots=True)
class SplitTest:
    """One statistic for the observed and the random splits of a pool."""

    name: str
    """Name of the method."""
    statistics: NDArray[np.float64]
    """(P + 1,), the observed split first; larger means more different."""
    details: dict[str, Any] = field(default_factory=dict)
    """What the method found, by name, as it stands in JSON."""
    parts: tuple[NDArray[np.float64], ...] = ()
    """The statistics that `statistics` combines, where it does."""

    @property
    def p_value(self) -> float:
        """Share of splits that reach the observed value, itself counted, (0, 1]."""
        return permutation_p_value(self.statistics)

    @property
    def expected_high(self) -> float:
        """The value that 5 % of the random splits exceed; NaN without random splits."""
        if len(self.statistics) < 2:
            return math.nan
        return float(np.quantile(self.statistics[1:], 0.95))


@dataclass(frozen=True, eq=False)
class Clusters:
    """Rows of two samples that belong together."""

    reference: NDArray[np.intp]
    """(n,) number of the cluster of each row of the reference, from 0."""
    current: NDArray[np.intp]
    """(m,) likewise of the current rows; those of a number are none of the reference's."""

    @property
    def numbers(self) -> tuple[int, int]:
        """Clusters of the reference, and of both samples."""
        first, second = (int(side.max(initial=-1)) + 1 for side in (self.reference, self.current))
        return first, first + second

    @property
    def of_pool(self) -> NDArray[np.intp]:
        """(n + m,) number of the cluster of each row, those of the reference first."""
        return np.concatenate([self.reference, self.current + self.numbers[0]])

    @property
    def trivial(self) -> bool:
        """Whether every row stands alone."""
        return self.numbers[1] == len(self.reference) + len(self.current)


@dataclass(frozen=True, eq=False)
class Pooled:
    """Rows of two samples, mixed and centred, with the splits to compare."""

    rows: Floats
    """(N, d), less the mean of the pool; in mixed order, so that nothing that looks at the
    order of rows (the start of k-means) can tell the samples apart."""
    order: NDArray[np.intp]
    """(N,) which row each was: 0..n-1 of the reference, n.. of the current sample."""
    members: NDArray[np.float32]
    """(N, P + 1) with 1 where a row falls to the reference; column 0 is the observed split."""
    reference_count: int
    """n."""
    current_count: int
    """m."""
    seed: int
    """What the mixing and the splits were drawn with."""
    clusters: NDArray[np.intp] | None = None
    """(N,) number of the cluster of each row; None where every row stands alone."""

    @classmethod
    def of(
        cls,
        reference: Floats,
        current: Floats,
        *,
        permutations: int,
        seed: int = 0,
        dtype: type[np.float32 | np.float64] = np.float32,
        clusters: Clusters | None = None,
    ) -> Pooled:
        """Mix two samples and draw splits.

        Args:
            reference: (n, d) finite.
            current: (m, d) finite.
            permutations: P, random splits, 0 or more.
            seed: of the generator; 0 draws a seed, which `seed` then tells.
            dtype: of `rows`.
            clusters: which rows of either sample change sides together; None: each by itself.
        """
        seed = seed or secrets.randbits(31) + 1
        rng = np.random.default_rng(seed)
        n, m = len(reference), len(current)
        order = rng.permutation(n + m)
        # By products, which are quicker than sums; any point near the mean would do.
        shares = [np.full(len(side), 1 / (n + m), side.dtype) for side in (reference, current)]
        mean = shares[0] @ reference + shares[1] @ current
        rows = np.empty((n + m, reference.shape[1]), dtype)
        place = np.empty(n + m, np.intp)
        place[order] = np.arange(n + m)
        for side, to in ((reference, place[:n]), (current, place[n:])):
            # In the precision of the vectors: less of it would cancel, far from zero, what
            # tells them apart.
            rows[to] = side - mean
        members = np.empty((n + m, permutations + 1), np.float32)
        members[:, 0] = order < n
        first, units = (n, n + m) if clusters is None else clusters.numbers
        labels = np.tile((np.arange(units) < first).astype(np.float32), (permutations, 1))
        rng.permuted(labels, axis=1, out=labels)
        if clusters is None:
            members[:, 1:] = labels.T
            return cls(rows, order, members, n, m, seed)
        own = clusters.of_pool[order]
        members[:, 1:] = labels.T[own]
        return cls(rows, order, members, n, m, seed, own)

    @property
    def permutations(self) -> int:
        """P, the number of random splits."""
        return int(self.members.shape[1]) - 1

    @cached_property
    def reference_counts(self) -> NDArray[np.float64]:
        """(P + 1,) rows of the reference in each split: n in all, unless rows are clustered."""
        return np.asarray(self.members.sum(0, dtype=np.float64))

    @property
    def current_counts(self) -> NDArray[np.float64]:
        """(P + 1,) current rows in each split."""
        return np.asarray(len(self.members) - self.reference_counts)

    @property
    def observed(self) -> NDArray[np.bool_]:
        """(N,) whether a row is of the reference."""
        return self.order < self.reference_count

    def mean_differences(self, features: Floats) -> Floats:
        """Return mean of the reference less mean of the current rows, for each split.

        Args:
            features: (N, k), a row for each row of the pool.

        Returns:
            (k, P + 1).
        """
        first = features.T @ self.members
        total = features.sum(0, dtype=np.float64)[:, None].astype(features.dtype)
        second = total - first
        n, m = (c.astype(first.dtype) for c in (self.reference_counts, self.current_counts))
        return np.asarray(first / n - second / m)

    @cached_property
    def principal(self) -> NDArray[np.float32]:
        """(N, <= 32) coordinates on the largest principal components of the pool.

        The components depend on the pool alone, so the level of a permutation test on them
        stays exact. Few components hold the topics; most of the noise is in the others.
        """
        rows = np.asarray(self.rows, np.float32)
        covariance = (rows.T @ rows).astype(np.float64)
        vectors = _largest_vectors(covariance, min(_PCA_DIMENSIONS, *rows.shape))
        return rows @ vectors.astype(np.float32)


def _largest_vectors(covariance: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return (d, count) eigenvectors of the largest eigenvalues.

    Wide matrices: subspace iteration from a fixed start (Halko et al. 2011, SIAM Rev. 53:217).
    """
    from scipy.linalg import eigh, qr

    size = len(covariance)
    if size <= _DIRECT_DIMENSIONS:
        _, vectors = eigh(covariance, subset_by_index=(size - count, size - 1))
        return np.asarray(vectors[:, ::-1])
    start = np.random.default_rng(0).standard_normal((size, count + _OVERSAMPLING))
    basis = np.asarray(start, np.float64)
    for _ in range(_POWER_STEPS):
        basis = np.asarray(qr(covariance @ basis, mode="economic")[0], np.float64)
    _, small = eigh(basis.T @ covariance @ basis)
    return np.asarray(basis @ small[:, ::-1][:, :count])


def permutation_p_value(statistics: NDArray[np.float64]) -> float:
    """Return (b + 1) / (P + 1) for the observed statistic, first of `statistics`.

    Values within rounding of the observed one count as reaching it.
    """
    tolerance = 1e-9 * float(np.max(np.abs(statistics), initial=0.0))
    reached = np.count_nonzero(statistics[1:] >= statistics[0] - tolerance)
    return (int(reached) + 1) / len(statistics)


def combined(families: Sequence[Sequence[NDArray[np.float64]]]) -> NDArray[np.float64]:
    """Return one statistic from several of the same splits: the most extreme of them.

    Each statistic is put on the scale of -log tail probabilities by the gamma law with the
    mean, variance and skewness of its lower 95 % over all splits. Of the k statistics of
    one family the largest counts, less log k, so that every family has the same weight.
    How well the law fits is no matter for the level: it treats the observed split like any
    other, and the p-value comes from the ranks of the combined statistic.

    Args:
        families: of arrays (P + 1,), the observed split first.

    Returns:
        (P + 1,), larger means more different.

    Source: Tippett's smallest p-value with its law taken from the same permutations,
    Westfall & Young 1993, Resampling-Based Multiple Testing, 2.2.
    """
    each = [_tails(np.stack(family)).max(0) - np.log(len(family)) for family in families]
    return np.asarray(np.max(each, axis=0), np.float64)


def _tails(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return -log of the gamma tail of each value, row by row."""
    from scipy.special import gammaincc

    # Without the top: an observed split far out would widen the law that it is measured by.
    kept = np.sort(values, axis=1)[:, : max(2, int(values.shape[1] * _FITTED))]
    mean = kept.mean(1, keepdims=True)
    deviation = kept.std(1, keepdims=True)

    def scaled(of: NDArray[np.float64]) -> NDArray[np.float64]:
        units = np.zeros_like(of)
        np.divide(of - mean, deviation, out=units, where=deviation > 0)
        return units

    skewness = np.clip((scaled(kept) ** 3).mean(1, keepdims=True), *_SKEWNESS)
    shape = 4 / skewness**2
    tails = gammaincc(shape, np.maximum(0, shape + scaled(values) * np.sqrt(shape)))
    return np.asarray(-np.log(np.maximum(tails, _SMALLEST_TAIL)), np.float64)
