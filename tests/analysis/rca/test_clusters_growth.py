"""Growth of clusters: exact tests, checked against hand-made and independent figures."""

import math

import numpy as np
import pytest
from scipy import stats

from pyflare_analysis.rca.clusters.growth import Counts, Trend, growths


def test_p_value_and_interval_are_those_of_the_binomial_test() -> None:
    """12 before in three parts of the time, 15 in the fourth: a share of 15/27 against 1/4."""
    (growth,) = growths([Counts(12, 12, 15, 15)], 3.0, 1.0)
    assert growth is not None

    upper = float(stats.binom.sf(14, 27, 0.25))
    share = stats.binomtest(15, 27, 0.25).proportion_ci(0.95, method="exact")

    assert growth.p_value == pytest.approx(2 * upper)
    assert growth.ratio == pytest.approx((15 / 1) / (12 / 3))
    assert growth.ratio_low == pytest.approx(share.low / (1 - share.low) * 3)
    assert growth.ratio_high == pytest.approx(share.high / (1 - share.high) * 3)
    assert growth.trend is Trend.GROWING


@pytest.mark.parametrize(
    ("before", "recent", "trend"),
    [
        (0, 30, Trend.NEW),
        (30, 10, Trend.STEADY),
        (90, 2, Trend.SHRINKING),
        (10, 40, Trend.GROWING),
        (0, 1, Trend.INSUFFICIENT),
        (1, 1, Trend.INSUFFICIENT),
    ],
)
def test_trends(before: int, recent: int, trend: Trend) -> None:
    """Two failures of which a quarter of the time could hold both by chance (1/16) say nothing."""
    (growth,) = growths([Counts(before, before, recent, recent)], 3.0, 1.0)

    assert growth is not None
    assert growth.trend is trend


def test_nothing_before_is_an_infinite_ratio_with_a_finite_lower_bound() -> None:
    """And the other way round."""
    new, gone = growths([Counts(0, 0, 30, 30), Counts(90, 90, 0, 0)], 3.0, 1.0)

    assert new is not None
    assert gone is not None
    assert math.isinf(new.ratio)
    assert 1 < new.ratio_low < math.inf
    assert (gone.ratio, gone.ratio_low) == (0.0, 0.0)
    assert gone.ratio_high < 1


def test_weights_do_not_make_failures_more_certain() -> None:
    """Ten failures that stand for four each say as much as ten, with the same ratio."""
    (weighted,) = growths([Counts(8, 32, 32, 128)], 300.0, 100.0)
    (plain,) = growths([Counts(2, 2, 8, 8)], 75.0, 25.0)

    assert weighted is not None
    assert plain is not None
    assert weighted.p_value == pytest.approx(plain.p_value)
    assert weighted.ratio == pytest.approx(plain.ratio)


def test_a_quiet_system_has_no_growing_clusters() -> None:
    """200 systems of 30 steady clusters: any false alarm in at most 5 % of them, within chance.

    The exact test is conservative, so far fewer are expected; 20 of 200 would be a defect.
    """
    rng = np.random.default_rng(5)
    alarms = 0
    for _ in range(200):
        total = rng.integers(5, 200, size=30)
        recent = rng.binomial(total, 0.25)
        counts = [
            Counts(float(n - k), float(n - k), float(k), float(k))
            for n, k in zip(total, recent, strict=True)
        ]
        found = [growth for growth in growths(counts, 3.0, 1.0) if growth is not None]
        alarms += any(g.trend in (Trend.GROWING, Trend.NEW, Trend.SHRINKING) for g in found)

    assert alarms <= 15


def test_without_exposure_there_is_no_growth() -> None:
    """A part of the time without spans compares with nothing."""
    assert growths([Counts(1, 1, 1, 1)], 0.0, 5.0) == [None]
    assert growths([], 1.0, 1.0) == []
