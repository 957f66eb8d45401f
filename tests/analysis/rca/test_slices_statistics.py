"""The tests of slices: exact tails, levels on skewed data, counting in blocks."""

import numpy as np
import pytest
from scipy.stats import binom, fisher_exact, hypergeom, ttest_ind

from pyflare_analysis.rca.slices.cells import Sums
from pyflare_analysis.rca.slices.comparison import (
    deviance,
    hypergeometric_tail,
    mean_interval,
    mean_test,
    rate_test,
    tail,
)


def sums(*groups: np.ndarray) -> Sums:
    """Return the sums of groups of unweighted values."""
    columns = [[float(len(g)), float(len(g)), float(len(g))] for g in groups]
    for column, group in zip(columns, groups, strict=True):
        column += [float((group**power).sum()) for power in (1, 2, 3)]
    return Sums(*np.array(columns).T)


def test_hypergeometric_tails_are_scipys() -> None:
    """Random tables above the mean, deep tails included, within 1e-8 of SciPy's."""
    rng = np.random.default_rng(0)
    rows = rng.integers(20, 100_000, 2000)
    bad, drawn = rng.integers(0, rows + 1), rng.integers(1, rows + 1)
    mean = drawn * bad / rows
    seen = np.minimum(np.ceil(mean + rng.exponential(3, 2000) * np.sqrt(mean + 1)), drawn)

    ours = hypergeometric_tail(*(x.astype(float) for x in (seen, drawn, bad, rows)))
    theirs = hypergeom.sf(seen - 1, rows, bad, drawn)

    above = seen > mean
    assert above.sum() > 1500
    np.testing.assert_allclose(ours[above], theirs[above], rtol=1e-7, atol=1e-290)
    assert (ours[~above] == 1).all()


def test_small_tables_get_fishers_test() -> None:
    """Where 8 of 20 are bad against 10 of 180 p is twice Fisher's one-sided p."""
    total = sums(np.r_[np.ones(18), np.zeros(182)])
    cell = sums(np.r_[np.ones(8), np.zeros(12)])

    p = rate_test(cell, total, weighted=False)[0]

    one_sided = fisher_exact([[8, 12], [10, 170]], alternative="greater").pvalue
    assert p == pytest.approx(2 * one_sided)


def test_large_tables_get_the_score_test() -> None:
    """300 of 2,000 against 800 of 8,000: z = .05 / sqrt(.11 .89 (1/2000 + 1/8000)) = 6.392."""
    total = sums(np.r_[np.ones(1100), np.zeros(8900)])
    cell = sums(np.r_[np.ones(300), np.zeros(1700)])

    from scipy.stats import norm

    assert rate_test(cell, total, weighted=False)[0] == pytest.approx(2 * norm.sf(6.392), rel=2e-3)


def test_binomial_tails_take_fractions() -> None:
    """Whole counts give SciPy's tail; effective counts lie between their neighbours."""
    whole = tail(np.array([5.0]), np.array([40.0]), np.array([2.0]))[0]
    between = tail(np.array([5.5]), np.array([40.0]), np.array([2.0]))[0]
    following = tail(np.array([6.0]), np.array([40.0]), np.array([2.0]))[0]

    assert whole == pytest.approx(binom.sf(4, 40, 0.05))
    assert following < between < whole


def test_means_of_skewed_data_keep_the_level_in_both_tails() -> None:
    """Lognormal values, 100 against 2,000: p below 5 % in about 2.5 % of cases on either side.

    Welch's t alone is far off: 0.6 % too high and 7.8 % too low over 2,000 cases.
    """
    rng = np.random.default_rng(3)
    cases = 1000
    ours, welch = np.zeros(2), np.zeros(2)
    for _ in range(cases):
        inside, rest = rng.lognormal(0, 1, 100), rng.lognormal(0, 1, 2000)
        side = int(inside.mean() < rest.mean())
        ours[side] += mean_test(sums(inside), sums(np.r_[inside, rest]))[0] < 0.05
        welch[side] += ttest_ind(inside, rest, equal_var=False).pvalue < 0.05

    assert (ours / cases >= 0.01).all()
    assert (ours / cases <= 0.06).all()
    assert np.ptp(ours) < np.ptp(welch) / 2


def test_intervals_of_means_agree_with_the_test() -> None:
    """An interval at 95 % leaves 0 out exactly where p is below 5 %."""
    rng = np.random.default_rng(5)
    for shift in (0.0, 0.2, 0.5, 1.0):
        inside, rest = rng.lognormal(0, 0.5, 300) + shift, rng.lognormal(0, 0.5, 900)
        cell, other = sums(inside), sums(rest)
        low, high = mean_interval(cell, other)
        p = mean_test(cell, sums(np.r_[inside, rest]))[0]

        assert (low[0] > 0 or high[0] < 0) == (p < 0.05)
        assert low[0] < inside.mean() - rest.mean() < high[0]


def test_deviance_by_hand() -> None:
    """20 of 100 where 10 are expected: 2 (20 ln 2 + 80 ln(80/90)) = 8.8806."""
    value = deviance(np.array([20.0]), np.array([100.0]), np.array([10.0]))[0]

    assert value == pytest.approx(2 * (20 * np.log(2) + 80 * np.log(80 / 90)))
    assert value == pytest.approx(8.8806, abs=1e-4)
