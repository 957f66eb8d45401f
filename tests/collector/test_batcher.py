"""The batcher: sizes, time limit, policies for a full queue, and an account of every span."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyflare_collector.batcher import Batcher
from pyflare_collector.config import BatcherConfig, OnFull
from pyflare_proto.errors import RetryableError, StorageError
from tests.collector.pipeline_helpers import Gate, wait_until

NEVER_MS = 600_000


def make(
    sink: Callable[[list[int]], None],
    *,
    size: int = 4,
    queue: int = 8,
    timeout_ms: int = NEVER_MS,
    on_full: OnFull = "block",
    workers: int = 1,
    max_wait_s: float = 30.0,
) -> Batcher[int]:
    """Return a running batcher of spans that are numbers."""
    config = BatcherConfig(
        max_batch_size=size,
        max_batch_timeout_ms=timeout_ms,
        max_queue_size=queue,
        num_workers=workers,
        on_full=on_full,
    )
    batcher: Batcher[int] = Batcher(config, max_wait_s=max_wait_s)
    batcher.on_batch(sink)
    batcher.start()
    return batcher


def test_full_batches_go_at_once() -> None:
    """Spans go on in order, `max_batch_size` at a time, without waiting for the time limit."""
    batches: list[list[int]] = []
    batcher = make(batches.append, size=4, queue=100)
    batcher.add(list(range(10)))
    wait_until(lambda: len(batches) == 2)
    assert batches == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert batcher.get_pending_count() == 2
    assert batcher.get_batches_sent() == 2
    batcher.shutdown()
    assert batches[2:] == [[8, 9]]


def test_the_time_limit_sends_what_is_there() -> None:
    """A batch that is not full goes on when its oldest span has waited long enough."""
    batches: list[list[int]] = []
    batcher = make(batches.append, timeout_ms=20)
    batcher.add(1)
    batcher.add(2)
    wait_until(lambda: sum(map(len, batches)) == 2)
    assert [span for batch in batches for span in batch] == [1, 2]
    batcher.shutdown()


def test_items_are_never_split() -> None:
    """A batch of requests holds whole requests, and one that is larger goes alone."""
    batches: list[list[str]] = []
    config = BatcherConfig(max_batch_size=4, max_batch_timeout_ms=NEVER_MS, num_workers=1)
    batcher: Batcher[str] = Batcher(config, spans_of=len)
    batcher.on_batch(batches.append)
    batcher.add(["aa", "bbb", "cccccc", "d"])
    batcher.start()
    batcher.shutdown()
    assert batches == [["aa"], ["bbb"], ["cccccc"], ["d"]]


def test_block_waits_for_room() -> None:
    """`block`: a sender into a full queue goes on when there is room, and nothing is lost."""
    gate = Gate(is_open=False)
    taken: list[int] = []

    def sink(batch: list[int]) -> None:
        gate()
        taken.extend(batch)

    batcher = make(sink, size=2, queue=4)
    batcher.add([1, 2])
    wait_until(lambda: batcher.get_pending_count() == 0)
    batcher.add([3, 4, 5, 6])
    sender = threading.Thread(target=batcher.add, args=([7],))
    sender.start()
    sender.join(0.05)
    assert sender.is_alive()
    assert batcher.get_pending_count() == 4
    gate.open()
    sender.join(30)
    assert not sender.is_alive()
    batcher.shutdown()
    assert taken == [1, 2, 3, 4, 5, 6, 7]


def test_block_gives_up_in_time() -> None:
    """`block`: after `max_wait_s` the sender hears RetryableError, and nothing of it was taken."""
    gate = Gate(is_open=False)
    batcher = make(gate, size=2, queue=2, max_wait_s=0.02)
    batcher.add([1, 2])
    wait_until(lambda: batcher.get_pending_count() == 0)
    batcher.add([3, 4])
    with pytest.raises(RetryableError, match="full"):
        batcher.add([5])
    assert batcher.get_pending_count() == 2
    assert batcher.statistics.refused == 1
    gate.open()
    batcher.shutdown()


def test_refuse_does_not_wait() -> None:
    """`refuse`: RetryableError at once; a group is taken whole or not at all."""
    gate = Gate(is_open=False)
    batcher = make(gate, size=2, queue=3, on_full="refuse")
    batcher.add([1, 2])
    wait_until(lambda: batcher.get_pending_count() == 0)
    batcher.add(3)
    with pytest.raises(RetryableError):
        batcher.add([4, 5, 6])
    assert batcher.get_pending_count() == 1
    batcher.add([4, 5])
    assert batcher.get_pending_count() == 3
    gate.open()
    batcher.shutdown()
    assert batcher.statistics.handed_on == 5


def test_drop_oldest_counts_and_reports() -> None:
    """`drop_oldest`: the oldest waiting spans go, are counted and reported, the newest stay."""
    gate = Gate(is_open=False)
    taken: list[int] = []
    dropped: list[int] = []

    def sink(batch: list[int]) -> None:
        gate()
        taken.extend(batch)

    batcher = make(sink, size=2, queue=4, on_full="drop_oldest")
    batcher.on_drop(dropped.extend)
    batcher.add([1, 2])
    wait_until(lambda: batcher.get_pending_count() == 0)
    batcher.add([3, 4, 5, 6])
    batcher.add([7, 8])
    assert dropped == [3, 4]
    assert batcher.get_dropped_count() == 2
    gate.open()
    batcher.shutdown()
    assert taken == [1, 2, 5, 6, 7, 8]


def test_larger_than_the_queue_is_taken_when_it_is_empty() -> None:
    """A request with more spans than the queue holds is not refused for ever."""
    taken: list[int] = []
    batcher = make(taken.extend, size=2, queue=4, on_full="refuse")
    batcher.add(list(range(100)))
    batcher.shutdown()
    assert taken == list(range(100))


def test_a_reservation_holds_room() -> None:
    """Room that is reserved is not given to another, and comes back when it is released."""
    batcher = make(lambda _: None, size=2, queue=4, on_full="refuse")
    batcher.reserve(3, 0)
    with pytest.raises(RetryableError):
        batcher.add([1, 2])
    batcher.release(3, 0)
    batcher.add([1, 2])
    batcher.shutdown()


def test_bytes_bound_the_queue_too() -> None:
    """Few large items fill the queue as many small ones do."""
    config = BatcherConfig(num_workers=1, max_batch_timeout_ms=NEVER_MS, on_full="refuse")
    batcher: Batcher[bytes] = Batcher(config, bytes_of=len, max_queue_bytes=100)
    batcher.on_batch(lambda _: None)
    batcher.add(b"x" * 60)
    with pytest.raises(RetryableError):
        batcher.add(b"x" * 60)
    assert batcher.get_pending_bytes() == 60
    batcher.shutdown()


def test_a_retryable_failure_is_offered_again() -> None:
    """A sink that says "later" gets the same batch again; any other error costs the batch."""
    calls: list[list[int]] = []
    lost: list[int] = []

    def sink(batch: list[int]) -> None:
        calls.append(batch)
        if len(calls) <= 2:
            raise RetryableError("later", retry_after_s=0.001)
        if batch == [3]:
            raise StorageError("never")

    batcher = make(sink, size=2, timeout_ms=1)
    batcher.on_drop(lost.extend)
    batcher.add([1, 2])
    wait_until(lambda: batcher.statistics.handed_on == 2)
    assert calls == [[1, 2]] * 3
    batcher.add(3)
    wait_until(lambda: batcher.statistics.failed == 1)
    assert lost == [3]
    batcher.shutdown()


def test_shutdown_hands_on_and_wakes_waiters() -> None:
    """Shutdown: what waits is handed on, and a sender that waits for room is refused."""
    gate = Gate(is_open=False)
    taken: list[int] = []

    def sink(batch: list[int]) -> None:
        gate()
        taken.extend(batch)

    batcher = make(sink, size=2, queue=2)
    batcher.add([1, 2])
    wait_until(lambda: batcher.get_pending_count() == 0)
    batcher.add([3])
    errors: list[Exception] = []

    def send() -> None:
        try:
            batcher.add([4, 5])
        except RetryableError as error:
            errors.append(error)

    sender = threading.Thread(target=send)
    sender.start()
    stopper = threading.Thread(target=batcher.shutdown)
    stopper.start()
    sender.join(30)
    assert len(errors) == 1
    gate.open()
    stopper.join(30)
    assert taken == [1, 2, 3]
    with pytest.raises(RetryableError):
        batcher.add(6)


def test_shutdown_in_time_counts_what_is_left() -> None:
    """A sink that hangs does not hold up the shutdown; what waits is counted as abandoned."""
    gate = Gate(is_open=False)
    batcher = make(gate, size=1, queue=8)
    batcher.add([1, 2, 3])
    wait_until(lambda: batcher.get_pending_count() == 2)
    batcher.shutdown(timeout_s=0.01)
    assert batcher.statistics.abandoned == 2
    gate.open()


@settings(max_examples=25, deadline=None)
@given(
    groups=st.lists(st.integers(1, 9), max_size=30),
    size=st.integers(1, 6),
    workers=st.integers(1, 4),
    on_full=st.sampled_from(["block", "refuse", "drop_oldest"]),
)
def test_every_span_is_accounted_for(
    groups: Sequence[int], size: int, workers: int, on_full: OnFull
) -> None:
    """Whatever is added under whatever policy: handed on once, dropped or refused, and counted."""
    taken: list[int] = []
    dropped: list[int] = []
    lock = threading.Lock()

    def sink(batch: list[int]) -> None:
        with lock:
            taken.extend(batch)

    batcher = make(sink, size=size, queue=12, workers=workers, on_full=on_full)
    batcher.on_drop(dropped.extend)
    offered: list[int] = []
    refused: list[int] = []
    for count in groups:
        group = list(range(len(offered), len(offered) + count))
        offered += group
        try:
            batcher.add(group)
        except RetryableError:
            refused += group
    batcher.shutdown()
    assert sorted(taken + dropped + refused) == offered
    counters = batcher.statistics
    assert counters.handed_on == len(taken)
    assert counters.dropped_oldest == len(dropped)
    assert counters.refused == len(refused)
    assert counters.added == len(taken) + len(dropped)
