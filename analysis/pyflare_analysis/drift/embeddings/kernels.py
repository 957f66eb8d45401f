"""Kernels over all pairs of a pool, in blocks, for all splits at once.

The Gram matrix is never held whole: blocks of the upper triangle are made, used for every
kernel and every split, and dropped. For a split with membership v (1 for the reference)
the sum over its pairs is v'Kv, so all splits together are one matrix product K V, and
with the row sums of K the other two sums of MMD^2 follow without another pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pyflare_analysis.drift.embeddings.pooled import Floats, Pooled
from pyflare_proto.errors import UsageError

__all__ = [
    "Distances",
    "Exponential",
    "Gaussian",
    "Kernel",
    "KernelSums",
    "gamma_of",
    "kernel_sums",
]

_BLOCK = 512
_KEPT_ROWS = 4096
"""Up to here the distances are kept between passes: 33 MB of float32."""
_DIRECT_PAIRS = 200_000
_BRACKETS = ((0.488, 0.512), (0.46, 0.54), (0.35, 0.65))
_FINITE = float(np.finfo(np.float32).max)


def gamma_of(sigma: float) -> float:
    """Return gamma = 1 / (2 sigma^2) of a bandwidth.

    Args:
        sigma: bandwidth, above 0.

    Raises:
        UsageError: it is not above 0, or float64 cannot hold its square or gamma.
    """
    twice = 2 * sigma * sigma  # a product, because a power raises where it overflows
    gamma = 1 / twice if twice > 0 else math.inf
    if not (sigma > 0 and 0 < gamma < math.inf):
        raise UsageError(
            f"the bandwidth is {sigma:g}, not above 0 with a square that float64 can hold",
            hint="about the distances between vectors, or 0, which takes their median",
        )
    return gamma


class Kernel(Protocol):
    """A function of the squared distance."""

    def fill(self, negative: Floats, out: Floats) -> None:
        """Write the kernel of `-negative`, squared distances, into `out`."""


@dataclass(frozen=True, slots=True)
class Gaussian:
    """k = exp(-gamma ||x - y||^2); gamma = 1 / (2 sigma^2)."""

    gamma: float

    def fill(self, negative: Floats, out: Floats) -> None:
        """Write the kernel of `-negative`, squared distances, into `out`."""
        with np.errstate(over="ignore"):  # far beyond the bandwidth: exp(-inf) is 0, as it should
            np.multiply(negative, negative.dtype.type(self.gamma), out=out)
        np.minimum(out, 0, out=out)  # rounding of a distance of 0, times a large gamma
        np.exp(out, out=out)


@dataclass(frozen=True, slots=True)
class Exponential:
    """k = exp(-rate ||x - y||)."""

    rate: float

    def fill(self, negative: Floats, out: Floats) -> None:
        """Write the kernel of `-negative`, squared distances, into `out`."""
        np.minimum(negative, negative.dtype.type(0), out=out)
        np.negative(out, out=out)
        np.sqrt(out, out=out)
        np.multiply(out, negative.dtype.type(-self.rate), out=out)
        np.exp(out, out=out)


class Distances:
    """Squared distances of all pairs of rows, block by block.

    Args:
        rows: (N, d), centred: the rounding error of a squared distance is about the
            precision times the largest squared norm.
    """

    def __init__(self, rows: Floats) -> None:
        self._right = np.empty((len(rows), rows.shape[1] + 2), rows.dtype)
        self._right[:, :-2] = rows
        self._right[:, -2] = 1
        self._right[:, -1] = np.einsum("ij,ij->i", rows, rows)
        self._kept: list[Floats] = []

    @property
    def dtype(self) -> np.dtype[np.floating[Any]]:
        """Precision."""
        return np.dtype(self._right.dtype)

    @property
    def largest_square(self) -> float:
        """The largest squared norm of a row."""
        return float(self._right[:, -1].max())

    def blocks(self) -> Iterator[tuple[slice, slice, Floats]]:
        """Yield rows, columns and minus the squared distances of each block, i <= j.

        The block is overwritten by the next one unless the pool is small; do not keep it.
        """
        count = len(self._right)
        spans = [slice(i, min(i + _BLOCK, count)) for i in range(0, count, _BLOCK)]
        pairs = [(a, b) for i, a in enumerate(spans) for b in spans[i:]]
        if count <= _KEPT_ROWS:
            self._kept = self._kept or [self._negative(a, b) for a, b in pairs]
            yield from ((a, b, block) for (a, b), block in zip(pairs, self._kept, strict=True))
            return
        buffer = np.empty(_BLOCK * _BLOCK, self.dtype)
        for a, b in pairs:
            shape = (a.stop - a.start, b.stop - b.start)
            yield a, b, self._negative(a, b, buffer[: shape[0] * shape[1]].reshape(shape))

    def _negative(self, a: slice, b: slice, out: Floats | None = None) -> Floats:
        """Write 2 x.y - x.x - y.y by one product: [2x, -x.x, -1] . [y, 1, y.y]."""
        left = 2 * self._right[a]
        left[:, -2] = -self._right[a, -1]
        left[:, -1] = -1
        return np.matmul(left, self._right[b].T, out=out)

    def median(self) -> float:
        """Return the median squared distance over pairs i < j, exact to the precision.

        In bounded memory: a bracket from the pairs of the first rows (the pool is in mixed
        order), then the pairs inside it.
        """
        count = len(self._right)
        pairs = count * (count - 1) // 2
        ranks = [(pairs - 1) // 2, pairs // 2]
        brackets: list[Sequence[float]] = [(-np.inf, np.inf)]
        if pairs > _DIRECT_PAIRS:
            _, _, first = next(self.blocks())  # the pairs of the first rows, each twice
            found = np.quantile(first[::6], np.ravel(_BRACKETS)).astype(self.dtype)
            brackets = [*found.reshape(-1, 2).tolist(), *brackets]
        for low, high in brackets:
            below, inside = self._between(low, high)
            if below <= ranks[0] <= ranks[1] < below + len(inside):
                break
        wanted = [rank - below for rank in ranks]
        middle = np.partition(inside, wanted)[wanted]
        return max(0.0, float(-middle.astype(np.float64).mean()))

    def quantiles(self, probabilities: Sequence[float], rows: int = 1024) -> NDArray[np.float64]:
        """Return quantiles of the squared distances of the pairs of the first `rows` rows."""
        found = np.quantile(-self._head(rows), probabilities)
        return np.asarray(np.maximum(found, 0.0), np.float64)

    def _head(self, rows: int) -> Floats:
        """Return minus the squared distances of the pairs of the first rows, flat."""
        head = Distances(self._right[:rows, :-2])
        return head._between(-np.inf, np.inf)[1]

    def _between(self, low: float, high: float) -> tuple[int, Floats]:
        """Return how many pairs i < j lie below `low`, and those up to `high`.

        Of minus the squared distances, all of which are below infinity.
        """
        below = 0
        inside: list[Floats] = []
        outside = np.tri(_BLOCK, dtype=np.bool_)
        for a, b, block in self.blocks():
            values = block
            if a == b:
                values = block.copy()
                values[outside[: len(block), : len(block)]] = np.inf
            if np.isfinite(low):
                below += int(np.count_nonzero(values < low))
            inside.append(values[(values >= low) & (values <= min(high, _FINITE))])
        return below, np.concatenate(inside)


@dataclass(frozen=True, slots=True)
class KernelSums:
    """Sums of one kernel over the pairs of a pool, off the diagonal.

    A constant was subtracted from the kernel: unbiased MMD^2 does not change by it, and
    float32 keeps its digits.
    """

    within: NDArray[np.float64]
    """(P + 1,) v'Kv of each split."""
    row_reference: NDArray[np.float64]
    """(N,) sum of each row over the observed reference."""
    row_total: NDArray[np.float64]
    """(N,) sum of each row over the pool."""
    mean_square: float
    """Mean of K^2 over pairs i != j, the constant not subtracted."""

    def mmd2(self, pool: Pooled) -> NDArray[np.float64]:
        """Return unbiased MMD^2 of each split, (P + 1,); slightly below 0 is possible.

        sum_{i!=j} k(x_i, x_j) / (n(n-1)) + sum_{i!=j} k(y_i, y_j) / (m(m-1))
        - 2 sum k(x_i, y_j) / (nm).

        Source: Gretton et al. 2012, JMLR 13:723-773, equation 3.
        """
        n, m = pool.reference_counts, pool.current_counts
        touching = self.row_total @ pool.members
        across = touching - self.within
        others = self.row_total.sum() - 2 * touching + self.within
        inside = self.within / (n * (n - 1)) + others / (m * (m - 1))
        return np.asarray(inside - 2 * across / (n * m), np.float64)

    def standard_error(self, pool: Pooled) -> float:
        """Return the standard error of the observed MMD^2.

        First-order term of the U-statistic, 4 Var(h(x)) / n + 4 Var(h(y)) / m with h the
        mean kernel to the own sample less that to the other; of clustered rows the variance
        is that of the sums of clusters. Right when something changed; too large, never too
        small, when nothing did.

        Source: Serfling 1980, Approximation Theorems of Mathematical Statistics, 5.5.1.
        """
        n, m = pool.reference_count, pool.current_count
        own = pool.observed
        to_x, to_y = self.row_reference, self.row_total - self.row_reference
        of_x = to_x[own] / (n - 1) - to_y[own] / m
        of_y = to_y[~own] / (m - 1) - to_x[~own] / n
        variance = sum(
            4 * _variance_of_mean(values, None if pool.clusters is None else pool.clusters[side])
            for values, side in ((of_x, own), (of_y, ~own))
        )
        return float(np.sqrt(variance))


def _variance_of_mean(values: NDArray[np.float64], clusters: NDArray[np.intp] | None) -> np.float64:
    """Return the variance of a mean, of rows or of the sums of clusters of rows."""
    if clusters is None:
        return np.float64(values.var(ddof=1) / len(values))
    sums = np.bincount(clusters, values - values.mean())
    number = len(np.unique(clusters))
    return np.float64((sums**2).sum() * number / max(number - 1, 1) / len(values) ** 2)


def kernel_sums(distances: Distances, kernels: Sequence[Kernel], pool: Pooled) -> list[KernelSums]:
    """Return the sums of kernels over the pairs of a pool, for all its splits.

    Args:
        distances: of the rows of `pool`, or of a projection of them.
        kernels: the kernels.
        pool: rows and splits.

    Memory: one block of the Gram matrix, and (N, P + 2) for the splits.
    """
    dtype = distances.dtype
    count, splits = pool.members.shape
    right = np.empty((count, splits + 1), dtype)
    right[:, :-1] = pool.members
    right[:, -1] = 1
    ends = np.ascontiguousarray(right[:, [0, -1]])
    within = np.zeros((len(kernels), splits))
    rows = np.zeros((len(kernels), count, 2))
    squares = np.zeros(len(kernels))
    constants: list[np.floating[Any]] = []
    buffer = np.empty(_BLOCK * _BLOCK, dtype)
    for a, b, negative in distances.blocks():
        out = buffer[: negative.size].reshape(negative.shape)
        twice = 1 if a == b else 2
        for k, kernel in enumerate(kernels):
            kernel.fill(negative, out)
            if a == b:
                np.fill_diagonal(out, 0)
            flat = out.ravel()
            squares[k] += twice * float(flat @ flat)
            if len(constants) == k:
                constants.append(dtype.type(out.mean()))
            out -= constants[k]
            if a == b:
                np.fill_diagonal(out, 0)
            product = out @ right[b]
            within[k] += twice * np.einsum("ij,ij->j", right[a, :-1], product[:, :-1])
            rows[k, a] += product[:, [0, -1]]
            if a != b:
                rows[k, b] += out.T @ ends[a]
    pairs = count * (count - 1)
    return [
        KernelSums(within[k], rows[k, :, 0], rows[k, :, 1], float(squares[k] / pairs))
        for k in range(len(kernels))
    ]
