"""Intervals of proportions and of their differences."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from pyflare_analysis.statistics import newcombe_interval, wilson_interval

COUNTS = st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(COUNTS, st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_wilson_equals_scipy(counts: tuple[int, int], level: float) -> None:
    """The same as scipy's score interval."""
    low, high = wilson_interval(*counts, level)
    theirs = binomtest(*counts).proportion_ci(level, "wilson")

    assert float(low) == pytest.approx(theirs.low, abs=1e-12)
    assert float(high) == pytest.approx(theirs.high, abs=1e-12)


def test_newcombe_equals_the_paper() -> None:
    """Table II of the paper, method 10: 56/70 against 48/80 is 0.0524 to 0.3339."""
    low, high = newcombe_interval(56, 70, 48, 80)

    assert (float(low), float(high)) == pytest.approx((0.0524, 0.3339), abs=5e-5)


@given(COUNTS, COUNTS)
def test_newcombe_turns_with_its_arguments(first: tuple[int, int], second: tuple[int, int]) -> None:
    """The second minus the first is the negative of the first minus the second."""
    there, back = newcombe_interval(*first, *second), newcombe_interval(*second, *first)

    assert float(there.low) == pytest.approx(-float(back.high))
    assert float(there.low) <= first[0] / first[1] - second[0] / second[1] <= float(there.high)


def test_no_trials_say_nothing() -> None:
    """Without trials every value is possible."""
    low, high = wilson_interval([0, 3], [0, 10])

    assert (low[0], high[0]) == (0.0, 1.0)
    assert 0 < low[1] < high[1] < 1
    assert newcombe_interval(0, 0, 1, 2) == (-1.0, 1.0)


def test_refuses_impossible_counts() -> None:
    """More successes than trials, or a level that is none, is a mistake of the caller."""
    with pytest.raises(ValueError, match="successes"):
        wilson_interval(3, 2)
    with pytest.raises(ValueError, match="level"):
        wilson_interval(1, 2, np.inf)
