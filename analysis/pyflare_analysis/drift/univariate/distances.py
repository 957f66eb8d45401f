"""Distances between two samples of numbers: Kolmogorov-Smirnov and Wasserstein.

Each measure has its p-value under no change, the size of the effect with a confidence
interval, and the smallest effect that would be significant. Samples are weighted points
(`sketch.Points`), so that data need not fit into memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pyflare_analysis.drift.profiles.sketch import Points, thin
from pyflare_analysis.drift.psi.law import tail_probability
from pyflare_analysis.drift.univariate.measured import Measured, Method

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["Sample", "kolmogorov_smirnov", "split_infinite", "wasserstein"]

_PERMUTATIONS = 999
_GRID = 256
_TAIL = 32
_FIRST = 99
_ENOUGH = 10
_EXACT_ROWS = 10_000
_LARGEST_URN = 500_000_000
_TOP = 480
"""Binary exponent of the largest scaled value: squares of 2^60 of these have a finite sum."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Values of one side."""

    points: Points
    """The values, weighted."""
    effective: float
    """Effective number of values."""
    rank_error: float = 0.0
    """How much too small a cumulative share of the points may be."""

    @property
    def is_independent(self) -> bool:
        """Whether each value counts as one."""
        return math.isclose(self.effective, self.points.total)


def split_infinite(points: Points) -> tuple[Points, Points]:
    """Return the points with finite values, `points` itself where all are, and the others."""
    there = np.isfinite(points.values)
    if there.all():
        return points, Points(np.empty(0), np.empty(0))
    return (
        Points(points.values[there], points.weights[there]),
        Points(points.values[~there], points.weights[~there]),
    )


def kolmogorov_smirnov(
    reference: Sample, current: Sample, *, alpha: float = 0.05, seed: int = 42
) -> Measured:
    """Measure D, the largest distance between the empirical distribution functions.

    The p-value is exact up to 10,000 independent values a side without ties and asymptotic
    beyond, as in SciPy; with ties it is that of a permutation of the values, among equal D by the
    mean distance of the functions: the classical one would be too large. Where the points
    are approximate, D counts for the p-value less what may be their error. Infinite values
    are the smallest and the largest. The interval is
    D plus and minus the bounds of Dvoretzky, Kiefer and Wolfowitz 1956 with the constant of
    Massart 1990 (Ann. Probab. 18:1269-1283) at alpha/2 a side.
    """
    from scipy.special import kolmogi
    from scipy.stats import ks_2samp, kstwo

    n, m = reference.effective, current.effective
    grid = _grid(reference.points, current.points)
    d = float(np.abs(grid.difference).max())
    width = math.sqrt(math.log(4 / alpha) / 2)
    band = width / math.sqrt(n) + width / math.sqrt(m)
    error = reference.rank_error + current.rank_error
    pooled = n * m / (n + m)
    largest = max(n, m)
    method: Method = "asymptotic"
    few = largest <= _EXACT_ROWS and grid.is_whole and error == 0
    if few and grid.is_tied:
        method = "permutation"
        # D rests on the order alone, and ranks are finite.
        ranks = replace(grid, values=np.arange(len(grid.values), dtype=np.float64))
        p = _permuted(ranks, (n, m), seed, _ks_size)[0]
    elif few and reference.is_independent and current.is_independent:
        method = "exact"
        first = _spread_out(grid.values, grid.reference)
        p = float(ks_2samp(first, _spread_out(grid.values, grid.current)).pvalue)
    else:
        p = float(kstwo.sf(max(d - error, 0.0), max(round(pooled), 1)))
    critical = float(kolmogi(alpha)) / math.sqrt(pooled) + error
    return Measured(
        d, d, max(d - band - error, 0.0), min(d + band + error, 1.0), _p(p), method, critical
    )


@dataclass(frozen=True, slots=True)
class _Grid:
    """Both samples on their pooled values."""

    values: Floats
    """(k,) increasing."""
    reference: Floats
    """(k,) weight at each value."""
    current: Floats

    @property
    def difference(self) -> Floats:
        """(k,) difference of the distribution functions at each value."""
        return np.asarray(
            np.cumsum(self.reference) / self.reference.sum()
            - np.cumsum(self.current) / self.current.sum()
        )

    @property
    def is_tied(self) -> bool:
        """Whether a value occurs twice."""
        return bool((self.reference + self.current > 1).any())

    @property
    def is_whole(self) -> bool:
        """Whether every value counts once for each time that it occurs."""
        return bool(
            (self.reference == np.rint(self.reference)).all()
            and (self.current == np.rint(self.current)).all()
        )


def _grid(reference: Points, current: Points) -> _Grid:
    values = np.union1d(reference.values, current.values)
    sides = []
    for points in (reference, current):
        weights = np.zeros(len(values))
        weights[np.searchsorted(values, points.values)] = points.weights
        sides.append(weights)
    return _Grid(values, sides[0], sides[1])


def _spread_out(values: Floats, weights: Floats) -> Floats:
    return np.repeat(values, weights.astype(np.int64))


def _p(value: float) -> float:
    return min(max(value, float(np.finfo(np.float64).tiny)), 1.0)


def _ks_size(difference: Floats, gaps: Floats) -> Floats:  # noqa: ARG001 - like _w_size
    """Return D, with the mean distance as a fraction too small to change its order."""
    size = np.abs(difference)
    mean = size.mean(axis=-1)
    return np.asarray(np.round(size.max(axis=-1), 12) + 1e-9 * mean)


def _w_size(difference: Floats, gaps: Floats) -> Floats:
    return np.asarray((np.abs(difference[..., :-1]) * gaps).sum(axis=-1))


def _permuted(
    grid: _Grid,
    sizes: tuple[float, float],
    seed: int,
    size: Callable[[Floats, Floats], Floats],
    alpha: float = 0.05,
) -> tuple[float, float]:
    """Return the p-value of a permutation, and the value significant at alpha.

    P is 99 where 10 of these are as large as what was observed, else 999. Beyond 256 different
    values neighbours are taken together, the same way for both samples: the level stays exact.
    """
    n, m = sizes
    x, y, gaps = _grouped(grid, sizes)
    observed = float(size(np.cumsum(x) / n - np.cumsum(y) / m, gaps))
    rng = np.random.default_rng(seed)
    bound = observed * (1 - 1e-12)
    drawn = size(_differences(np.rint(x + y), round(n), round(m), _FIRST, rng), gaps)
    if (drawn >= bound).sum() < _ENOUGH:
        more = _differences(np.rint(x + y), round(n), round(m), _PERMUTATIONS - _FIRST, rng)
        drawn = np.concatenate([drawn, size(more, gaps)])
    p = tail_probability(drawn, observed, int((drawn >= bound).sum()))
    return p, float(np.quantile(drawn, 1 - alpha))


def _grouped(grid: _Grid, sizes: tuple[float, float]) -> tuple[Floats, Floats, Floats]:
    """Return the effective counts of both sides in groups of neighbours, and the gaps between.

    The groups hold equal numbers; the 32 smallest and largest values, which a heavy tail spreads
    over most of the range, stay apart. A group stands at its mean.
    """
    x = grid.reference / grid.reference.sum() * sizes[0]
    y = grid.current / grid.current.sum() * sizes[1]
    pooled, number = x + y, len(grid.values)
    starts = np.arange(number)
    if number > _GRID:
        kept = np.searchsorted(grid.values, thin(Points(grid.values, pooled), _GRID).values)
        ends = np.union1d(kept, np.concatenate([starts[:_TAIL], starts[-_TAIL:]]))
        starts = np.concatenate([[0], ends[:-1] + 1])
    centers = np.add.reduceat(pooled * grid.values, starts) / np.add.reduceat(pooled, starts)
    return np.add.reduceat(x, starts), np.add.reduceat(y, starts), np.diff(centers)


def _differences(pooled: Floats, n: int, m: int, draws: int, rng: np.random.Generator) -> Floats:
    """Return (draws, k) differences of the distribution functions of random splits."""
    colors = pooled.astype(np.int64)
    total = int(colors.sum())
    m = min(m, total - 1)
    if total < _LARGEST_URN:
        y = rng.multivariate_hypergeometric(colors, m, draws, method="marginals")
        x = colors - y
    else:  # so many rows that replacing them makes no difference
        shares = colors / total
        x, y = rng.multinomial(n, shares, draws), rng.multinomial(m, shares, draws)
    parts = [np.cumsum(side, axis=1) / side.sum(axis=1, keepdims=True) for side in (x, y)]
    return np.asarray(parts[0] - parts[1])


def wasserstein(
    reference: Sample,
    current: Sample,
    *,
    alpha: float = 0.05,
    seed: int = 42,
    bootstraps: int = 200,
) -> Measured:
    """Measure W1, the area between the distribution functions, in the column's unit.

    The effect size is W1 over the standard deviation of the reference (NaN where that is 0
    and W1 is not). The p-value is that of a permutation. The interval is a bootstrap of both
    samples, less the mean excess that drawing adds (basic bootstrap, Davison and
    Hinkley 1997, section 5.2), NaN where there are no draws. Infinite values do not count;
    each side needs a finite one. The magnitude of the values changes the statistic alone,
    which is infinite where it is too large for a float.

    Source: Vallender 1974, Theory Probab. Appl. 18:784-786.
    """
    reference, current = _finite(reference), _finite(current)
    n, m = reference.effective, current.effective
    grid = _grid(reference.points, current.points)
    unit = _unit(grid.values)
    grid = replace(grid, values=np.ldexp(grid.values, -unit))
    w = float(_w_size(grid.difference, np.diff(grid.values)))
    p, critical = _permuted(grid, (n, m), seed, _w_size, alpha)
    low, high = math.nan, math.nan
    if bootstraps:
        drawn = _bootstrap(grid, (n, m), bootstraps, seed)
        upper, lower = np.quantile(drawn, [1 - alpha / 2, alpha / 2])
        low, high = max(2 * w - float(upper), 0.0), max(2 * w - float(lower), w)
    # The reference may be of another magnitude than both together, so it has its own unit.
    own = _unit(reference.points.values)
    spread = _deviation(np.ldexp(reference.points.values, -own), reference.points.weights)
    scale = 1.0 / spread if spread > 0 else (0.0 if w == 0 else math.nan)
    effect, low, high, critical = (
        _ldexp(value * scale, unit - own) for value in (w, low, high, critical)
    )
    return Measured(_ldexp(w, unit), effect, low, high, p, "permutation", critical)


def _finite(sample: Sample) -> Sample:
    """Return the finite values, each worth as many effective ones as before."""
    finite = split_infinite(sample.points)[0]
    if finite is sample.points:
        return sample
    return replace(
        sample, points=finite, effective=sample.effective * finite.total / sample.points.total
    )


def _unit(values: Floats) -> int:
    """Return k such that the values over 2^k neither overflow nor vanish when squared.

    A power of two changes no digit: all that is computed from scaled values is exactly what
    values of an ordinary magnitude give.
    """
    return math.frexp(float(np.abs(values).max()))[1] - _TOP


def _ldexp(value: float, exponent: int) -> float:
    """Return value * 2^exponent, infinite where it is too large for a float."""
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.copysign(math.inf, value)


def _deviation(values: Floats, weights: Floats) -> float:
    """Return the standard deviation (divided by n, as NumPy does), 0 of a single value."""
    if len(values) == 1:  # whose mean may differ from it by rounding
        return 0.0
    mean = float(np.average(values, weights=weights))
    return math.sqrt(float(np.average((values - mean) ** 2, weights=weights)))


def _bootstrap(grid: _Grid, sizes: tuple[float, float], draws: int, seed: int) -> Floats:
    """Return (draws,) distances of samples drawn from both."""
    rng = np.random.default_rng([seed, 1])
    x, y, gaps = _grouped(grid, sizes)
    functions = []
    for counts, size in zip((x, y), sizes, strict=True):
        drawn = rng.multinomial(max(round(size), 1), counts / counts.sum(), draws)
        functions.append(np.cumsum(drawn, axis=1) / drawn.sum(axis=1, keepdims=True))
    return _w_size(functions[0] - functions[1], gaps)
