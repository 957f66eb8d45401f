"""Episodes of counts: exact p-values, baselines before, one episode once, level under no change."""

import numpy as np
import pytest
from scipy.stats import binom, nbinom

from pyflare_analysis.rca.patterns.baseline import (
    binned_mean_sd,
    binned_quantile,
    dispersion,
    quantile_interval,
    threshold_bin,
)
from pyflare_analysis.rca.patterns.episodes import conditional_p, scan_episodes


def _scan(hits: np.ndarray, exposure: np.ndarray, **options: object) -> list:
    return scan_episodes(
        hits.astype(float),
        exposure.astype(float),
        trials=exposure.astype(float),
        **{"min_trials": 20.0, "first_bucket": 5} | options,
    )


def test_the_conditional_test_by_hand() -> None:
    """3 hits of 10 against 1 of 10: P(X >= 3 | 4 of them, half a chance each) = 5/16."""
    assert conditional_p(3, 10, 1, 10) == pytest.approx(5 / 16)
    assert conditional_p(1, 3, 0, 0) == 1.0
    assert conditional_p(0, 3, 5, 10) == 1.0


def test_the_conditional_test_is_the_binomial_one() -> None:
    """For whole counts it equals the binomial survival function."""
    rng = np.random.default_rng(0)
    k1, k0 = rng.integers(1, 40, 50), rng.integers(0, 40, 50)
    e1, e0 = rng.uniform(1, 50, 50), rng.uniform(1, 50, 50)

    p = conditional_p(k1, e1, k0, e0)

    assert p == pytest.approx(binom.sf(k1 - 1, k1 + k0, e1 / (e1 + e0)), rel=1e-9)


def test_a_planted_episode_is_found_once_at_its_place() -> None:
    """A rate of 2 % that is 20 % in buckets 30 to 33."""
    rng = np.random.default_rng(1)
    trials = rng.integers(50, 150, 60)
    rate = np.full(60, 0.02)
    rate[30:34] = 0.2

    (episode,) = _scan(rng.binomial(trials, rate), trials)

    assert (episode.first, episode.last) == (30, 34)
    assert episode.p_value < 1e-10
    assert 6 < episode.ratio < 20


def test_two_episodes_are_two_and_a_gap_of_one_bucket_is_none() -> None:
    """Episodes far apart stay apart; what touches is one alert."""
    trials = np.full(80, 100)
    hits = np.full(80, 2)
    hits[[20, 21, 22, 60, 61, 63, 64]] = 30

    found = sorted((e.first, e.last) for e in _scan(hits, trials))

    assert found == [(20, 23), (60, 65)]


def test_the_baseline_lies_before_the_episode() -> None:
    """What comes later changes nothing about an episode's ratio to what was before."""
    trials = np.full(60, 100)
    hits = np.full(60, 3)
    hits[40:44] = 40
    later = hits.copy()
    later[50:] = 0

    (first,), (second,) = _scan(hits, trials), _scan(later, trials)

    assert (first.first, first.last, first.ratio) == (second.first, second.last, second.ratio)


def test_one_failure_of_three_calls_is_no_episode() -> None:
    """A rate of a third on three calls is chance; so is a rate without a baseline."""
    trials = np.full(30, 3)
    hits = np.zeros(30)
    hits[20] = 1

    assert _scan(hits, trials) == []
    assert _scan(np.full(30, 50), np.full(30, 100), first_bucket=30) == []


def test_the_level_holds_under_no_change() -> None:
    """With the number of intervals counted in, at most 5 % of quiet series have an episode."""
    rng = np.random.default_rng(2)
    alarms = 0
    for _ in range(300):
        trials = rng.poisson(40, 80)
        alarms += bool(_scan(rng.binomial(trials, 0.05), trials, alpha=0.05))

    assert alarms <= 300 * 0.05


def test_counts_that_vary_more_than_poisson_need_more_evidence() -> None:
    """With the dispersion counted in the level holds for negative binomial counts as well."""
    rng = np.random.default_rng(3)
    alarms = 0
    for _ in range(200):
        hits = nbinom.rvs(5, 5 / (5 + 20), size=80, random_state=rng).astype(float)
        exposure = np.full(80, 400.0)
        assert dispersion(hits, exposure) > 2
        alarms += bool(_scan(hits, exposure, dispersion=dispersion(hits, exposure), alpha=0.05))

    assert alarms <= binom.ppf(0.99, 200, 0.05)


def test_dispersion_is_one_for_poisson_counts_and_does_not_see_a_step() -> None:
    """Steps are changes, not variation; the median of many series is near 1."""
    rng = np.random.default_rng(4)
    values = []
    for _ in range(100):
        exposure = rng.uniform(50, 150, 100)
        rate = np.where(np.arange(100) < 50, 0.2, 0.6)
        values.append(dispersion(rng.poisson(rate * exposure).astype(float), exposure))

    assert np.median(values) < 1.2
    assert dispersion(np.zeros(50), np.ones(50)) == 1.0


def test_quantiles_of_bins_by_hand() -> None:
    """Ten values in [0, 1), ten in [1, 2): the median is at the edge, q 0.75 in the middle."""
    bins, edges = np.array([10.0, 10.0]), np.array([0.0, 1.0, 2.0])

    assert binned_quantile(bins, edges, 0.5) == pytest.approx(1.0)
    assert binned_quantile(bins, edges, 0.25) == pytest.approx(0.5)
    assert np.isnan(binned_quantile(np.zeros(2), edges, 0.5))
    assert threshold_bin(bins, 0.5) == 1
    assert threshold_bin(np.zeros(2), 0.5) == 2


def test_quantiles_intervals_and_spreads_of_bins_are_near_those_of_the_values() -> None:
    """Bins of 12 % width: a quantile within 4 %, an interval that holds the truth."""
    rng = np.random.default_rng(5)
    values = rng.lognormal(6, 0.6, 20_000)
    edges = np.concatenate(([0.0], 2.0 ** (np.arange(0, 100) / 6), [1e12]))
    bins = np.histogram(values, edges)[0].astype(float)

    for q in (0.5, 0.95):
        assert binned_quantile(bins, edges, q) == pytest.approx(np.quantile(values, q), rel=0.04)
    low, high = quantile_interval(bins, edges, 0.5)
    assert low < np.exp(6) < high
    assert binned_mean_sd(bins, edges) == pytest.approx(values.std(), rel=0.1)
