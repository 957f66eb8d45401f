"""Hours of the day, numbers of calls, drifting inputs."""

import numpy as np
import pytest

from pyflare_analysis.rca.patterns.drift_links import correlation, stability
from pyflare_analysis.rca.patterns.temporal import hour_blocks, hour_ratio, hour_tests
from pyflare_analysis.rca.patterns.volume import expected_calls

DAY, HOUR = np.repeat(np.arange(7), 24), np.tile(np.arange(24), 7)


def _week(rate: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    trials = rng.poisson(60, 168).astype(float)
    return rng.binomial(trials.astype(int), rate).astype(float), trials


def test_bad_hours_of_every_day_are_found_and_no_others() -> None:
    """25 % at night against 2 %: four hours, with their ratio."""
    hits, trials = _week(np.where((HOUR >= 1) & (HOUR < 5), 0.25, 0.02), 1)

    tests = hour_tests(hits, trials, DAY, HOUR, min_days=3)

    assert [t.hour for t in tests if t.p_value < 1e-4] == [1, 2, 3, 4]
    ratio = hour_ratio(hits, trials, DAY, (HOUR >= 1) & (HOUR < 5))
    assert ratio == pytest.approx(0.25 / 0.02, rel=0.3)


def test_one_bad_night_is_no_pattern() -> None:
    """What one day alone did does not count, however bad it was."""
    hits, trials = _week(np.where((DAY == 3) & (HOUR >= 1) & (HOUR < 5), 0.9, 0.02), 2)

    tests = hour_tests(hits, trials, DAY, HOUR, min_days=3)

    assert min(t.p_value for t in tests) > 1e-4


def test_two_days_are_too_few() -> None:
    """Hours need days to be compared on."""
    hits, trials = _week(np.where(HOUR == 3, 0.5, 0.02), 3)

    tests = hour_tests(hits[:48], trials[:48], DAY[:48], HOUR[:48], min_days=3)

    assert {t.p_value for t in tests} == {1.0}


def test_the_mantel_haenszel_ratio_by_hand() -> None:
    """One day: 2 of 10 in the hour, 1 of 10 in the rest: ratio 2."""
    hits, trials = np.array([2.0, 1.0]), np.array([10.0, 10.0])

    ratio = hour_ratio(hits, trials, np.array([0, 0]), np.array([True, False]))

    assert ratio == pytest.approx(2.0)


def test_runs_of_hours_go_over_midnight() -> None:
    """A missing hour between two is joined, a lone hour stays alone."""
    assert hour_blocks([23, 0, 1, 3]) == [[23, 0, 1, 2, 3]]
    assert hour_blocks([5, 12]) == [[5], [12]]
    assert hour_blocks([]) == []
    assert hour_blocks(list(range(24))) == [list(range(24))]


def test_expected_calls_are_those_of_the_days_before() -> None:
    """Unknown for three days, then the largest of them, from the eighth day the median."""
    calls = np.repeat([10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0], 4)

    expected = expected_calls(calls, 4)

    assert np.isnan(expected[:12]).all()
    assert expected[14] == pytest.approx(30.0, rel=0.2)
    assert expected[30] == pytest.approx(40.0, rel=0.1)


def test_a_monday_after_a_weekend_is_expected_to_be_like_a_workday() -> None:
    """With Friday to Sunday before it, Monday is measured by Friday."""
    calls = np.repeat([100.0, 20.0, 20.0, 100.0], 24)

    assert expected_calls(calls, 24)[80] == pytest.approx(100.0)


def test_the_stability_index_by_hand_and_its_level() -> None:
    """Shares .5/.5 against .75/.25: .25 ln 1.5 + .25 ln 2 = .2747; equal shares are not drift."""
    psi, p = stability(np.array([5e5, 5e5]), np.array([7.5e5, 2.5e5]))
    same, p_same = stability(np.array([500.0, 500.0]), np.array([510.0, 490.0]))

    assert psi == pytest.approx(0.25 * np.log(1.5) + 0.25 * np.log(2), rel=1e-3)
    assert p < 1e-10
    assert same == 0.0
    assert p_same > 0.3


def test_series_that_step_together_correlate_and_others_do_not() -> None:
    """A step in both at one place is matched by few circular shifts; noise by many."""
    rng = np.random.default_rng(6)
    step = np.where(np.arange(28) >= 20, 1.0, 0.0)

    together = correlation(step + rng.normal(0, 0.05, 28), step + rng.normal(0, 0.05, 28))
    apart = correlation(rng.normal(size=28), rng.normal(size=28))

    assert together[0] > 0.5
    assert together[1] <= 2 / 28
    assert abs(apart[0]) < 0.5
    assert correlation(np.zeros(28), step) == (0.0, 1.0)
