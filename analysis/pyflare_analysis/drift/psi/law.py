"""The law of PSI where nothing changed: asymptotic, and simulated where counts are small.

Under no change PSI is (1/n + 1/m) chi-square with B - 1 degrees of freedom (Yurdakul and
Naranjo 2020, "Statistical properties of the population stability index", Journal of Risk
Model Validation 14(4)), and so are eight times the Jensen-Shannon divergence and Pearson's
chi-square times (1/n + 1/m): to second order they are the same sum. Where a cell is
expected to hold fewer than 200 rows the law is simulated from the counts alone:

- Cells that are fixed beforehand (categories, missing values): given the pooled counts,
  the current ones are multivariate hypergeometric, as in a permutation of all rows.
- Quantile bins of the reference: given a continuous reference, the n + 1 gaps between its
  values are equally likely to take each further value, so the current counts follow
  Polya's urn (Dirichlet-multinomial) whose bins start with as many balls as gaps
  (Wilks 1942, Ann. Math. Stat. 13:400-409). Neither depends on the distribution.

Draws are sequential (Besag and Clifford 1991, Biometrika 78:301-304): they end after 20
values as large as the observed one, so that a large p-value costs little; the p-value
is exact under the law either way. Below 10/(draws + 1) the tail is that of a gamma law
with the mean and variance of the draws.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Statistic = Callable[[Floats, Floats, Floats], Floats]
    _Sides = tuple[Floats, Floats, NDArray[np.bool_]]

__all__ = ["DRAWS", "null_p_values", "smoothed_psi", "tail_probability"]

DRAWS = 4096
"""Simulated values at most for one p-value."""
_STAGES = (64, 256)
"""Draws after which the groups that have enough of them are done; most are after the first."""
_ENOUGH = 20
_FEW = 10
_ASYMPTOTIC_COUNT = 200.0
_BLOCK = 2_000_000
_LARGEST_URN = 500_000_000


def smoothed_psi(x: Floats, y: Floats, cells: Floats) -> Floats:
    """Return PSI with half a count added to every cell.

    Sum over the cells of (q - p) ln(q / p), p = (x + 1/2) / (n + B/2), q = (y + 1/2) / (m + B/2).

    Args:
        x: (..., B) counts of the reference.
        y: (..., B) counts of the current rows.
        cells: (..., B) 1 for the cells that take part, 0 for the others.
    """
    half = 0.5 * cells
    p = (x + half) / (x + half).sum(axis=-1, keepdims=True)
    q = (y + half) / (y + half).sum(axis=-1, keepdims=True)
    ratio = np.divide(q, p, out=np.ones_like(q), where=p > 0)
    return np.asarray(((q - p) * np.log(np.where(ratio > 0, ratio, 1.0))).sum(axis=-1))


def null_p_values(
    x: Floats,
    y: Floats,
    observed: Floats,
    *,
    quantile_bins: bool,
    seed: int,
    statistic: Statistic = smoothed_psi,
    least: float = _ASYMPTOTIC_COUNT,
) -> Floats:
    """Return the p-values of smoothed PSI values, or of another statistic of the same law.

    Args:
        x: (groups, B) effective counts of the reference; the last cell holds missing values.
        y: (groups, B) effective counts of the current rows.
        observed: (groups,) their statistic over the cells that are not empty in both.
        quantile_bins: whether the cells but the last are quantile bins of the reference.
        seed: of the draws.
        statistic: a function like `smoothed_psi`.
        least: rows expected in every cell from which the asymptotic law is good enough.

    Returns:
        (groups,) in (0, 1]; NaN where all rows are in one cell or a side holds none: there is
        nothing to test.
    """
    from scipy.special import gammaincc

    n, m = x.sum(axis=1), y.sum(axis=1)
    cells = (x + y) > 0
    number = cells.sum(axis=1)
    testable = (number >= 2) & (n > 0) & (m > 0)
    result = np.full(len(observed), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 1 / n + 1 / m
        smallest = np.where(cells, (x + y) / (n + m)[:, None], np.inf).min(axis=1)
        asymptotic = gammaincc((number - 1) / 2, observed / scale / 2)
        large = smallest * np.minimum(n, m) >= least
    use = testable & large
    result[use] = asymptotic[use]
    rest = np.flatnonzero(testable & ~large)
    rng = np.random.default_rng(seed)
    width = max(1, _BLOCK // (_STAGES[-1] * x.shape[1]))
    for start in range(0, len(rest), width):
        chosen = rest[start : start + width]
        draw = _Draw(statistic, rng, quantile_bins=quantile_bins)
        result[chosen] = _simulated(x[chosen], y[chosen], observed[chosen], draw)
    return np.asarray(np.clip(result, np.finfo(np.float64).tiny, 1.0))


class _Draw:
    """Draws values of a statistic under no change."""

    def __init__(
        self, statistic: Statistic, rng: np.random.Generator, *, quantile_bins: bool
    ) -> None:
        self._statistic = statistic
        self._rng = rng
        self._sides = _quantile_sides if quantile_bins else _fixed_sides

    def __call__(self, x: Floats, y: Floats, draws: int) -> Floats:
        """Return (groups, draws) values."""
        reference, current, cells = self._sides(x, y, draws, self._rng)
        return self._statistic(reference, current, cells.astype(np.float64)[:, None, :])


def _simulated(x: Floats, y: Floats, observed: Floats, draw: _Draw) -> Floats:
    """Return p-values by sequential draws; all groups take the first draws, few the rest."""
    bound = observed * (1 - 1e-12) - 1e-15  # equal up to rounding counts as equal
    result = np.full(len(observed), np.nan)
    open_ = np.arange(len(observed))
    draws = np.empty((len(observed), 0))
    for stage in _STAGES:
        more = draw(x[open_], y[open_], stage - draws.shape[1])
        draws = np.concatenate([draws, more], axis=1)
        above = draws >= bound[open_, None]
        reached = above.sum(axis=1) >= _ENOUGH
        place = (np.cumsum(above[reached], axis=1) >= _ENOUGH).argmax(axis=1) + 1
        result[open_[reached]] = _ENOUGH / place
        open_, draws = open_[~reached], draws[~reached]
        if not len(open_):
            break
    for i, first in zip(open_, draws, strict=True):
        more = draw(x[i : i + 1], y[i : i + 1], DRAWS - len(first))[0]
        result[i] = _tail(np.concatenate([first, more]), observed[i], bound[i])
    return result


def _tail(draws: Floats, observed: float, bound: float) -> float:
    above = draws >= bound
    count = int(above.sum())
    if count >= _ENOUGH:
        return _ENOUGH / (int(np.argmax(np.cumsum(above) >= _ENOUGH)) + 1)
    return tail_probability(draws, observed, count)


def tail_probability(draws: Floats, observed: float, above: int) -> float:
    """Return the p-value of an observed value among draws.

    (b + 1)/(draws + 1); with fewer than 10 draws above, the tail of a gamma law with the mean
    and variance of the draws, as far as it is smaller than 11/(draws + 1).

    Args:
        draws: (draws,) values under no change.
        observed: the value.
        above: draws that are as large.
    """
    from scipy.special import gammaincc

    mean, variance = draws.mean(), draws.var()
    if above >= _FEW or variance <= 0:
        return (above + 1) / (len(draws) + 1)
    gamma = float(gammaincc(mean**2 / variance, observed * mean / variance))
    return min(gamma, (_FEW + 1) / (len(draws) + 1))


def _fixed_sides(x: Floats, y: Floats, draws: int, rng: np.random.Generator) -> _Sides:
    """Return both sides when all rows are permuted."""
    pooled = np.rint(x + y)
    current = _split(pooled, np.rint(y.sum(axis=1)), draws, rng)
    return pooled[:, None, :] - current, current, pooled > 0


def _split(pooled: Floats, size: Floats, draws: int, rng: np.random.Generator) -> Floats:
    """Return (groups, draws, cells): `size` of the pooled rows, drawn without replacement."""
    groups, cells = pooled.shape
    result = np.zeros((groups, draws, cells))
    left = np.repeat(pooled.sum(axis=1)[:, None], draws, axis=1)
    wanted = np.minimum(np.repeat(size[:, None], draws, axis=1), left)
    for cell in np.flatnonzero(pooled.any(axis=0)):
        here = np.broadcast_to(pooled[:, cell : cell + 1], left.shape)
        others = np.maximum(left - here, 0)
        if left.max() < _LARGEST_URN:
            taken = rng.hypergeometric(
                here.astype(np.int64), others.astype(np.int64), wanted.astype(np.int64)
            ).astype(np.float64)
        else:  # so many rows that replacing them makes no difference
            share = here / np.where(left > 0, left, 1.0)
            taken = np.minimum(rng.binomial(wanted.astype(np.int64), share), here)
        result[:, :, cell] = taken
        left = others
        wanted = np.minimum(wanted - taken, left)
    return result


def _quantile_sides(x: Floats, y: Floats, draws: int, rng: np.random.Generator) -> _Sides:
    """Return both sides when missing values are permuted and the bins come from the urn."""
    groups, cells = x.shape
    size = np.rint(y.sum(axis=1))
    pooled = np.rint(x[:, -1] + y[:, -1])
    missing = np.zeros((groups, draws))
    if pooled.any():
        total = np.rint(x.sum(axis=1)) + size
        two = np.stack([pooled, total - pooled], axis=1)
        missing = _split(two, size, draws, rng)[:, :, 0]
    taking_part = (x + y) > 0
    weights = rng.standard_gamma(
        np.broadcast_to(
            _balls(x[:, :-1], taking_part[:, :-1])[:, None, :], (groups, draws, cells - 1)
        )
    )
    shares = weights / weights.sum(axis=2, keepdims=True)
    current = np.empty((groups, draws, cells))
    current[:, :, -1] = missing
    current[:, :, :-1] = rng.multinomial((size[:, None] - missing).astype(np.int64), shares)
    reference = np.empty_like(current)
    reference[:, :, -1] = pooled[:, None] - missing
    present = x[:, :-1].sum(axis=1, keepdims=True)
    factor = (x.sum(axis=1)[:, None] - reference[:, :, -1]) / np.where(present > 0, present, 1.0)
    reference[:, :, :-1] = x[:, None, :-1] * factor[:, :, None]
    return reference, current, taking_part


def _balls(x: Floats, taking_part: NDArray[np.bool_]) -> Floats:
    """Return the balls of the urn: the gaps between values of the reference in each bin.

    Edges of type 7 leave (n - 1)/B gaps between them, and one more beyond each end. A bin
    without values of the reference has one, so that a value there is unlikely, not
    impossible.
    """
    n = x.sum(axis=1, keepdims=True)
    balls = x * ((n - 1) / np.where(n > 0, n, 1.0))
    first = taking_part.argmax(axis=1)
    last = taking_part.shape[1] - 1 - taking_part[:, ::-1].argmax(axis=1)
    groups = np.arange(len(x))
    balls[groups, first] += 1
    balls[groups, last] += 1
    return np.where(taking_part, np.maximum(balls, 1.0), 1e-12)
