"""The false discovery rate correction."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from pyflare_analysis.statistics import benjamini_hochberg


def test_worked_by_hand() -> None:
    """P = .01 .04 .03 .5: times 4/1 4/3 4/2 4/4 in order, then never above a later one."""
    q = benjamini_hochberg([0.01, 0.04, 0.03, 0.5])

    assert q == pytest.approx([0.04, 4 * 0.04 / 3, 4 * 0.04 / 3, 0.5])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_equals_scipy(p_values: list[float]) -> None:
    """The same as scipy for any p-values, ties included."""
    assert benjamini_hochberg(p_values) == pytest.approx(false_discovery_control(p_values))


def test_what_was_not_tested_stays_apart() -> None:
    """NaN neither counts nor becomes a number."""
    q = benjamini_hochberg([0.02, np.nan, 0.03])

    assert np.isnan(q[1])
    assert q[[0, 2]] == pytest.approx([0.03, 0.03])


def test_nothing_to_test() -> None:
    """No p-values, no q-values."""
    assert benjamini_hochberg([]).shape == (0,)


@pytest.mark.parametrize("wrong", [[-0.1], [1.1], [[0.5]]])
def test_refuses_what_is_no_list_of_probabilities(wrong: list[float]) -> None:
    """A value outside [0, 1] is a mistake of the caller."""
    with pytest.raises(ValueError, match="p-values"):
        benjamini_hochberg(wrong)
