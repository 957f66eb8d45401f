"""Tests of slices against their complement, for many slices at once.

Rates: the score test of two proportions (the hypergeometric variance of Mantel and Haenszel
1959), and where a cell of the two-by-two table expects fewer than 50 the exact test (Fisher
1935, twice the smaller tail). Sampled rows enter with their effective sample size (Kish 1965),
with the exact binomial tail in place of Fisher's.

Means: Welch's t, made for skewed data by the transformation of Hall (1992, J. R. Stat. Soc. B
54:221-228) for two samples (Zhou and Dinh 2005, Biostatistics 6:187-200): with the standardised
third cumulant A of the difference, T + A (T^2/3 + 1/6) + A^2 T^3/27 against the t distribution
of Welch and Satterthwaite.

Quantiles: the quantile test (Mood 1950; Conover 1999, section 3.2): rows above the overall
quantile, as a rate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyflare_analysis.rca.slices.cells import Sums

__all__ = [
    "deviance",
    "hypergeometric_tail",
    "mean_interval",
    "mean_test",
    "rate_test",
    "tail",
    "variance",
]

EXACT_BELOW = 50
"""Expected counts from here on are left to the normal approximation."""


def variance(sums: Sums) -> NDArray[np.float64]:
    """Return the unbiased variance of the values of each cell; 0 for a single row."""
    n = sums.effective
    mean = sums.mean
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.maximum(sums.second / sums.weight - mean**2, 0.0)
        return np.asarray(np.nan_to_num(spread * n / np.maximum(n - 1, 1.0)), dtype=np.float64)


def rate_test(cells: Sums, total: Sums, *, weighted: bool) -> NDArray[np.float64]:
    """Return (k,) two-sided p-values of each cell's rate against its complement's.

    Args:
        cells: sums of the slices.
        total: sums of all rows, (1,).
        weighted: whether rows have weights.
    """
    from scipy.special import ndtr

    rest = total.minus(cells)
    n, m = cells.effective, rest.effective
    pooled = total.first / total.weight
    with np.errstate(invalid="ignore", divide="ignore"):
        se = np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
        z = np.nan_to_num((cells.mean - rest.mean) / se)
    p = np.asarray(2 * ndtr(-np.abs(z)), dtype=np.float64)
    expected = np.minimum.reduce([np.minimum(n, m) * pooled, np.minimum(n, m) * (1 - pooled)])
    small = np.flatnonzero((expected < EXACT_BELOW) & (np.abs(z) > 1))
    if len(small):
        p[small] = (
            _binomial(cells.take(small), float(pooled[0]))
            if weighted
            else _fisher(cells.take(small), total)
        )
    return np.where((n > 0) & (m > 0), p, np.nan)


def _fisher(cells: Sums, total: Sums) -> NDArray[np.float64]:
    bad = np.rint(cells.first)
    both = [
        hypergeometric_tail(k, cells.rows, whole, total.rows)
        for k, whole in ((bad, np.rint(total.first)), (cells.rows - bad, total.rows - total.first))
    ]
    return np.asarray(np.clip(2 * np.minimum(*both), 0.0, 1.0), dtype=np.float64)


def hypergeometric_tail(
    bad: NDArray[np.float64],
    drawn: NDArray[np.float64],
    all_bad: NDArray[np.float64],
    rows: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return P(X >= bad) among `drawn` of `rows` rows, `all_bad` of which are bad.

    The sum of the probabilities from `bad` on, each from the one before it. At or below the
    mean of X it is no tail: the bound 1 stands for it.
    """
    from scipy.special import gammaln

    def log_choose(n: NDArray[np.float64], k: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))

    good = rows - all_bad
    most = np.minimum(drawn, all_bad)
    mean = drawn * all_bad / rows
    k = np.maximum(bad, np.ceil(mean))
    term = np.exp(log_choose(all_bad, k) + log_choose(good, drawn - k) - log_choose(rows, drawn))
    total = np.zeros_like(term)
    while True:
        total += np.where(k <= most, term, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = (all_bad - k) * (drawn - k) / ((k + 1) * (good - drawn + k + 1))
        term = term * np.nan_to_num(ratio)
        k = k + 1
        if not np.any((k <= most) & (term > 1e-17 * total)):
            return np.where(bad <= mean, 1.0, np.where(bad > most, 0.0, np.minimum(total, 1.0)))


def _binomial(cells: Sums, pooled: float) -> NDArray[np.float64]:
    n = cells.effective
    bad = cells.mean * n
    both = np.minimum(tail(bad, n, pooled * n), tail(n - bad, n, (1 - pooled) * n))
    return np.asarray(np.clip(2 * both, 0.0, 1.0), dtype=np.float64)


def tail(
    bad: NDArray[np.float64], trials: NDArray[np.float64], expected: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return P(X >= bad) of binomials of mean `expected`; counts need not be whole.

    An upper bound where the trials differ in their probabilities (Hoeffding 1956).
    """
    from scipy.special import betainc

    share = np.clip(expected / np.maximum(trials, 1e-300), 0.0, 1.0)
    a, b = np.maximum(bad, 1e-9), np.maximum(trials - bad + 1, 1e-9)
    return np.asarray(np.where(bad <= 0, 1.0, betainc(a, b, share)), dtype=np.float64)


def mean_test(cells: Sums, total: Sums) -> NDArray[np.float64]:
    """Return (k,) two-sided p-values of each cell's mean against its complement's."""
    from scipy.special import stdtr

    rest = total.minus(cells)
    t, freedom, a = _welch(cells, rest)
    moved = t + a * (t**2 / 3 + 1 / 6) + a**2 * t**3 / 27
    p = np.asarray(2 * stdtr(freedom, -np.abs(moved)), dtype=np.float64)
    enough = (cells.effective > 1) & (rest.effective > 1) & np.isfinite(t)
    return np.where(enough, np.clip(p, 0.0, 1.0), np.nan)


def _welch(
    cells: Sums, rest: Sums
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return Welch's t, its degrees of freedom, and the standardised third cumulant."""
    n, m = cells.effective, rest.effective
    with np.errstate(invalid="ignore", divide="ignore"):
        own, other = variance(cells) / n, variance(rest) / m
        se = np.sqrt(own + other)
        t = (cells.mean - rest.mean) / se
        freedom = (own + other) ** 2 / (own**2 / (n - 1) + other**2 / (m - 1))
        a = (_third(cells) / n**2 - _third(rest) / m**2) / se**3
    return t, np.nan_to_num(freedom, nan=1.0), np.nan_to_num(a)


def _third(sums: Sums) -> NDArray[np.float64]:
    """Return the third central moment."""
    mean = sums.mean
    raw2, raw3 = sums.second / sums.weight, sums.third / sums.weight
    return np.asarray(raw3 - 3 * mean * raw2 + 2 * mean**3, dtype=np.float64)


def mean_interval(
    cells: Sums, rest: Sums, level: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return confidence intervals of the difference of means, cell minus rest.

    The inverse of the transformation of `mean_test` (Zhou and Dinh 2005, equation 6): with
    g(q) = 3 ((1 + A (q - A/6))^(1/3) - 1) / A, the bounds are d - se g(t(1-a/2)) and
    d - se g(t(a/2)).
    """
    from scipy.special import stdtrit

    t, freedom, a = _welch(cells, rest)
    difference = cells.mean - rest.mean
    with np.errstate(invalid="ignore", divide="ignore"):
        se = difference / t
        se = np.where(difference == 0, np.sqrt(variance(cells) / cells.effective), se)
        quantile = np.asarray(stdtrit(freedom, 0.5 + level / 2), dtype=np.float64)

        def bound(q: NDArray[np.float64]) -> NDArray[np.float64]:
            flat = np.abs(a) < 1e-6
            safe = np.where(flat, 1.0, a)
            bent = 3 * (np.cbrt(1 + safe * (q - safe / 6)) - 1) / safe
            return np.where(flat, q, bent)

        return difference - se * bound(quantile), difference - se * bound(-quantile)


def deviance(
    bad: NDArray[np.float64], trials: NDArray[np.float64], expected: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return 2 log of the likelihood ratio of a rate of its own against the expected one.

    2 (y ln(y/E) + (n-y) ln((n-y)/(n-E))), 0 where y is E.
    """
    from scipy.special import rel_entr

    good = np.maximum(trials - bad, 0.0)
    missing = np.maximum(trials - expected, 1e-12)
    value = 2 * (rel_entr(bad, np.maximum(expected, 1e-12)) + rel_entr(good, missing))
    return np.asarray(np.maximum(value, 0.0), dtype=np.float64)
