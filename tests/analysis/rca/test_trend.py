"""Trends against SciPy, by hand, and under no trend."""

import numpy as np
import pytest
from scipy.stats import kendalltau, theilslopes

from pyflare_analysis.rca.patterns.trend import mann_kendall, theil_sen, trend_of


def test_theil_sen_is_the_median_of_slopes() -> None:
    """As SciPy has it; one outlier does not move it."""
    rng = np.random.default_rng(0)
    times = np.sort(rng.uniform(0, 10, 40))
    values = 2 * times + rng.normal(0, 0.5, 40)
    outlier = values.copy()
    outlier[5] = 1e6

    assert theil_sen(times, values)[0] == pytest.approx(theilslopes(values, times)[0])
    assert theil_sen(times, outlier)[0] == pytest.approx(2, abs=0.1)
    with pytest.raises(ValueError, match="two points"):
        theil_sen([1.0], [1.0])


def test_mann_kendall_is_kendalls_tau_against_time() -> None:
    """Without ties tau is SciPy's; 1..10 has tau 1 and p below 0.001."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=50)

    assert mann_kendall(values)[0] == pytest.approx(kendalltau(np.arange(50), values).statistic)
    tau, p = mann_kendall(np.arange(10.0))
    assert tau == 1.0
    assert p < 1e-3
    assert mann_kendall(np.ones(10)) == (0.0, 1.0)
    assert mann_kendall([1.0, 2.0]) == (0.0, 1.0)


def test_the_level_holds_for_noise_with_memory() -> None:
    """First-order noise with correlation 0.5 has a trend in few cases: the variance knows."""
    rng = np.random.default_rng(2)
    alarms = 0
    for _ in range(300):
        noise = rng.normal(size=80)
        for t in range(1, 80):
            noise[t] += 0.5 * noise[t - 1]
        alarms += mann_kendall(noise)[1] < 0.05

    assert alarms <= 300 * 0.12


def test_a_trend_of_many_points_leaves_out_what_is_not_finite() -> None:
    """Thousands of points are averaged down; NaN is no point; too few have no trend."""
    times = np.arange(10_000) / 1440
    values = 3 * times + np.random.default_rng(3).normal(size=10_000)
    values[::7] = np.nan

    trend = trend_of(times, values)

    assert trend.slope == pytest.approx(3, rel=0.02)
    assert trend.p_value < 1e-6
    assert trend_of([0.0, 1.0], [1.0, np.nan]).p_value == 1.0
