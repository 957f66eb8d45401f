"""The split of a PSI by segments: exact, by hand, and in the cases at the edge."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pyflare_analysis.drift.report.segments import split_psi

COUNTS = arrays(np.float64, (4, 6), elements=st.integers(0, 500))


def _psi(reference: np.ndarray, current: np.ndarray, smoothing: float) -> float:
    p = reference.sum(axis=0) + smoothing
    q = current.sum(axis=0) + smoothing
    p, q = p / p.sum(), q / q.sum()
    return float(((q - p) * np.log(q / p)).sum())


@given(COUNTS, COUNTS)
def test_the_parts_add_up_to_the_psi_of_the_whole(
    reference: np.ndarray, current: np.ndarray
) -> None:
    """Whatever the counts: sum of mix and within equals the smoothed PSI over all segments."""
    if not (reference.sum() and current.sum()):
        with pytest.raises(ValueError, match="no counts"):
            split_psi(reference, current)
        return

    split = split_psi(reference, current)

    assert split.psi == pytest.approx(_psi(reference, current, 0.5), abs=1e-9)


def test_by_hand() -> None:
    """Two segments, two bins, no smoothing; the working stands in the comments.

    Reference: A (60 rows) has shares 1/2, 1/2, B (40 rows) has 1/4, 3/4.
    Current: A (30 rows) has 1/2, 1/2, B (70 rows) has 1/2, 1/2.
    p = (0.4, 0.6), q = (0.5, 0.5), L = ln(q/p) = (0.2231, -0.1823).
    PSI = 0.1 (0.2231 + 0.1823) = 0.04055.
    Means over both periods: A (1/2, 1/2), B (3/8, 5/8).
    Mix: (0.3 - 0.6) (A.L) + (0.7 - 0.4) (B.L) = 0.3 (B - A).L
       = 0.3 (-1/8 x 0.2231 + 1/8 x -0.1823) = -0.01520.
    Within: A nothing; B 0.55 (1/4 x 0.2231 - 1/4 x -0.1823) = 0.05575.
    """
    reference = np.array([[30.0, 30.0], [10.0, 30.0]])
    current = np.array([[15.0, 15.0], [35.0, 35.0]])

    split = split_psi(reference, current, smoothing=0.0)

    step = 0.1 * np.log(0.5 / 0.4) - 0.1 * np.log(0.5 / 0.6)
    assert split.psi == pytest.approx(step, abs=1e-12)
    assert split.mix.sum() == pytest.approx(-0.01520, abs=5e-6)
    assert split.within == pytest.approx([0.0, 0.05575], abs=5e-6)


def test_a_change_of_mix_alone_is_mix() -> None:
    """Each segment keeps its law, their shares swap: nothing is within."""
    laws = np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]])
    reference, current = laws * [[8000], [2000]], laws * [[2000], [8000]]

    split = split_psi(reference, current)

    assert split.psi > 0.5
    assert split.within == pytest.approx([0, 0], abs=1e-3)


def test_a_change_inside_one_segment_is_within_and_names_it() -> None:
    """Shares stay, one segment turns round."""
    reference = np.array([[700.0, 300.0], [500.0, 500.0]])
    current = np.array([[700.0, 300.0], [100.0, 900.0]])

    split = split_psi(reference, current)

    assert split.mix == pytest.approx([0, 0], abs=1e-12)
    assert split.within[1] == pytest.approx(split.psi, abs=1e-4)


def test_a_new_segment_is_mix() -> None:
    """What has no past cannot have changed inside."""
    reference = np.array([[500.0, 500.0], [0.0, 0.0]])
    current = np.array([[500.0, 500.0], [0.0, 1000.0]])

    split = split_psi(reference, current)

    assert split.within == pytest.approx([0, 0], abs=1e-6)
    assert split.mix.sum() == pytest.approx(split.psi, abs=1e-6)


def test_counts_that_do_not_fit_are_a_defect() -> None:
    """Shapes must agree."""
    with pytest.raises(ValueError, match="shapes"):
        split_psi(np.ones((2, 2)), np.ones((3, 2)))
