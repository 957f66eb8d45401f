"""The note in the log: what was decided about a request comes back exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyflare_collector.decision import Decision
from pyflare_proto.errors import InvalidDataError

ROWS = st.lists(
    st.tuples(st.booleans(), st.booleans(), st.floats(2**-56, 1.0)), min_size=1, max_size=70
)


@given(rows=ROWS, uniform=st.booleans())
def test_a_decision_comes_back(rows: list[tuple[bool, bool, float]], *, uniform: bool) -> None:
    """Rows and probabilities survive bit for bit, for any mix of valid and kept spans."""
    valid = np.array([row[0] for row in rows])
    keep = valid & np.array([row[1] for row in rows])
    probability = np.array([row[2] for row in rows])[keep]
    if uniform:
        probability[:] = probability[:1]
    decision = Decision.decode(Decision(keep, probability).encode(valid), valid)
    assert (decision.keep == keep).all()
    assert decision.probability.tolist() == probability.tolist()


def test_the_common_case_costs_nothing() -> None:
    """All spans with valid ids kept for certain: the note is empty."""
    valid = np.array([True, False, True])
    assert Decision(valid.copy(), np.ones(2)).encode(valid) == b""


def test_a_uniform_probability_is_stored_once() -> None:
    """A note about 800 spans kept at 10 % holds 100 bytes of rows and one number."""
    valid = np.ones(800, dtype=np.bool_)
    keep = np.arange(800) % 10 == 0
    assert len(Decision(keep, np.full(80, 0.1)).encode(valid)) == 5 + 100 + 8


def test_a_note_about_other_spans_is_refused() -> None:
    """A note of another length, or cut short, is an error and not a guess."""
    valid = np.ones(9, dtype=np.bool_)
    note = Decision(np.arange(9) > 3, np.full(5, 0.5)).encode(valid)
    with pytest.raises(InvalidDataError, match="9 spans"):
        Decision.decode(note, valid[:8])
    for cut in range(5, len(note)):
        with pytest.raises(InvalidDataError, match="short"):
            Decision.decode(note[:cut], valid)
