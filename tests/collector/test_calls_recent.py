"""Spans and calls that were seen lately, over batches and in bounded memory."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pyflare_collector.calls import RecentCalls, RecentSpans, warm_up
from pyflare_proto.errors import UsageError
from tests.collector.test_calls import call, failed, table_of


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def status(table: pa.Table) -> list[str]:
    """Return the cost status of each row."""
    result: list[str] = table["cost_status"].to_pylist()
    return result


def apply(window: RecentCalls, *rows: dict[str, Any]) -> list[str]:
    """Hand a table to the window and return the cost status of its rows."""
    return status(window.apply(table_of(list(rows))))


def test_what_was_written_first_stays() -> None:
    """A second telling in a later batch is marked, however good it is."""
    window = RecentCalls(clock=Clock())
    assert apply(window, call(1, "sdk", response_id="r")) == ["priced"]
    better = call(2, "wrapper", response_id="r", input="hi", cache_read_tokens=3)
    assert apply(window, better) == ["duplicate"]


def test_the_cost_of_a_call_is_not_lost_to_a_telling_without_usage() -> None:
    """What was written first has no cost: the first telling with tokens has it."""
    window = RecentCalls(clock=Clock())
    nothing = {"input_tokens": None, "output_tokens": None, "cost_status": "no_usage"}
    assert apply(window, call(1, "a", response_id="r", **nothing)) == ["no_usage"]
    assert apply(window, call(2, "b", response_id="r")) == ["priced"]
    assert apply(window, call(3, "c", response_id="r")) == ["duplicate"]
    assert apply(window, call(4, "d", response_id="r", **nothing)) == ["duplicate"]


def test_failed_calls_are_paired_over_batches() -> None:
    """Neither has tokens: the first that was written counts."""
    window = RecentCalls(clock=Clock())
    assert apply(window, failed(1, "a", parent=3)) == ["no_usage"]
    assert apply(window, failed(2, "b", parent=3)) == ["duplicate"]
    assert apply(window, failed(5, "a", parent=4)) == ["no_usage"]


def test_a_second_call_of_the_scope_that_was_kept_is_kept() -> None:
    """Two spans of one scope are two calls over batches too, whoever told one between."""
    window = RecentCalls(clock=Clock())
    assert apply(window, call(1, "sdk", response_id="r", end=9)) == ["priced"]
    assert apply(window, call(2, "wrapper", response_id="r", end=9)) == ["duplicate"]
    assert apply(window, call(3, "sdk", response_id="r", end=9)) == ["priced"]
    assert apply(window, call(4, "wrapper", response_id="r", end=9)) == ["duplicate"]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)])
def test_ancestors_are_followed_over_batches(order: tuple[int, ...]) -> None:
    """A call and the call around it are one, in whatever order they and the span between come."""
    rows = [
        call(1, "sdk", trace=9, parent=2),
        call(2, "http", trace=9, parent=3, span_type="span", cost_status="not_billable"),
        call(3, "wrapper", trace=9),
    ]
    window = RecentCalls(clock=Clock())
    got = {place: apply(window, rows[place])[0] for place in order}
    assert got[1] == "not_billable"
    first, second = [place for place in order if place != 1]
    assert (got[first], got[second]) == ("priced", "duplicate")


def test_a_call_is_forgotten_after_the_window() -> None:
    """A telling within the window is marked, one after it is counted."""
    clock = Clock()
    window = RecentCalls(window_s=60, clock=clock)
    apply(window, call(1, "sdk", response_id="r", end=500))
    clock.now += 59
    assert apply(window, call(2, "b", response_id="r", end=500)) == ["duplicate"]
    clock.now += 61
    assert apply(window, call(3, "c", response_id="r", end=500)) == ["priced"]


def test_the_oldest_calls_are_forgotten_first() -> None:
    """With room for four calls the fifth pushes out the first, and not the second."""
    window = RecentCalls(max_calls=4, clock=Clock())
    for i in range(1, 6):
        apply(window, call(i, "sdk", response_id=f"r{i}"))
    assert apply(window, call(11, "b", response_id="r1")) == ["priced"]
    window = RecentCalls(max_calls=4, clock=Clock())
    for i in range(1, 6):
        apply(window, call(i, "sdk", response_id=f"r{i}"))
    assert apply(window, call(12, "b", response_id="r3")) == ["duplicate"]


def test_a_table_larger_than_the_window_is_settled_in_pieces() -> None:
    """More rows than the window holds are taken; tellings near each other are found."""
    window = RecentCalls(max_calls=8, max_spans=8, clock=Clock())
    rows = []
    for i in range(50):
        rows.append(call(2 * i + 1, "sdk", response_id=f"r{i}"))
        rows.append(call(2 * i + 2, "wrapper", response_id=f"r{i}", input="hi"))
    assert apply(window, *rows) == ["duplicate", "priced"] * 50


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.sampled_from([None, "r", "s"]),
            st.integers(0, 6),
            st.booleans(),
        ),
        min_size=1,
        max_size=24,
    )
)
def test_a_small_window_never_fails_and_keeps_the_first(
    specs: list[tuple[str, str | None, int, bool]],
) -> None:
    """Any stream through a window of three calls is taken; the first call is never marked."""
    window = RecentCalls(max_calls=3, max_spans=3, clock=Clock())
    batch: list[dict[str, Any]] = []
    answers: list[str] = []
    for i, (scope, response, parent, flush) in enumerate(specs, start=1):
        batch.append(call(i, scope, trace=9, parent=parent, response_id=response))
        if flush:
            answers += apply(window, *batch)
            batch = []
    if batch:
        answers += apply(window, *batch)
    assert len(answers) == len(specs)
    assert "priced" in answers
    if specs[0][3]:
        assert answers[0] == "priced"


def test_the_memory_of_calls_is_as_stated() -> None:
    """The default window stays within the stated bound."""
    assert RecentCalls().nbytes <= 40_000_000


@pytest.mark.parametrize("arguments", [{"max_calls": 0}, {"max_spans": 0}, {"window_s": 0}])
def test_a_window_of_nothing_is_refused(arguments: dict[str, Any]) -> None:
    """Limits below the least are a usage error."""
    with pytest.raises(UsageError):
        RecentCalls(**arguments)


def ids(rng: np.random.Generator, n: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return random trace and span ids."""
    return (
        rng.integers(0, 256, (n, 16), dtype=np.uint8),
        rng.integers(0, 256, (n, 8), dtype=np.uint8),
    )


def test_a_span_is_new_once() -> None:
    """A span is new until it was added, and in one call only in its first row."""
    spans = RecentSpans(1000)
    trace, span = ids(np.random.default_rng(1), 3)
    rows = np.array([0, 1, 0, 2, 1])
    assert spans.first_seen(trace[rows], span[rows]).tolist() == [True, True, False, True, False]
    assert spans.first_seen(trace, span).all()
    spans.add(trace[:2], span[:2])
    assert spans.first_seen(trace, span).tolist() == [False, False, True]


def test_every_bit_of_the_key_counts() -> None:
    """A span that differs from a known one in any single bit of its 192 is new."""
    trace, span = ids(np.random.default_rng(2), 1)
    key = np.concatenate([trace[0], span[0]])
    flipped = np.repeat(key[None], 192, axis=0)
    flipped[np.arange(192), np.arange(192) // 8] ^= (1 << (np.arange(192) % 8)).astype(np.uint8)
    spans = RecentSpans(1000)
    spans.add(trace, span)
    assert spans.first_seen(flipped[:, :16], flipped[:, 16:]).all()


@settings(deadline=None, max_examples=100)
@given(
    st.integers(1, 12),
    st.lists(st.lists(st.integers(0, 30), max_size=10), max_size=8),
)
def test_the_set_is_a_ring_of_the_last_different_spans(
    capacity: int, batches: list[list[int]]
) -> None:
    """For any batches the answers are those of a list of the last `capacity` spans."""
    spans = RecentSpans(capacity)
    last: list[int] = []
    for batch in batches:
        numbers = np.array(batch, np.uint8)
        trace = np.zeros((len(batch), 16), np.uint8)
        span = np.zeros((len(batch), 8), np.uint8)
        span[:, 7] = numbers
        want = [n not in last and n not in batch[:i] for i, n in enumerate(batch)]
        assert spans.first_seen(trace, span).tolist() == want
        spans.add(trace, span)
        for number in batch:
            if number not in last:
                last = [*last, number][-capacity:]


def test_the_memory_of_spans_is_as_stated() -> None:
    """Four million spans take less than 150 MB."""
    spans = RecentSpans()
    assert spans.capacity == 4_000_000
    assert spans.nbytes < 150_000_000


def test_threads_share_a_set() -> None:
    """Of threads that add the same spans at once none is lost."""
    spans = RecentSpans(100_000)
    trace, span = ids(np.random.default_rng(3), 20_000)
    threads = [threading.Thread(target=spans.add, args=(trace[i::2], span[i::2])) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not spans.first_seen(trace, span).any()


@pytest.mark.parametrize("capacity", [0, -1, 2**31])
def test_a_capacity_out_of_range_is_refused(capacity: int) -> None:
    """A set of no or of too many spans is a usage error."""
    with pytest.raises(UsageError):
        RecentSpans(capacity)


def test_warming_up_leaves_nothing_behind() -> None:
    """Compiling the kernels ahead marks no call and remembers no span of its own."""
    warm_up()
    window = RecentCalls(clock=Clock())
    row = call(1, "other", trace=1, response_id="r", start=0)
    assert apply(window, row) == ["priced"]
