"""The batcher: a bounded queue that hands items on in batches, by size or by time.

An item is a span or anything that stands for several: in the pipeline it is one
accepted request, weighed in spans and bytes. Items are never split, so a batch may
exceed `max_batch_size` by one item that is larger than it.

The queue is bounded in spans (`max_queue_size`) and in bytes. What happens to an
item that does not fit is `on_full`:

- `block`: the caller waits for room, `max_wait_s` at most, then `RetryableError`.
  The wait stays well under the 10 s after which OTLP exporters give up.
- `refuse`: `RetryableError` at once.
- `drop_oldest`: the oldest waiting items make room and are counted. They have been
  acknowledged: this policy loses acknowledged spans, by the user's choice.

An item larger than the whole queue is taken when the queue is empty; otherwise it
could never be delivered.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from pyflare_collector.config import BatcherConfig
from pyflare_proto.errors import PyFlareError, RetryableError

__all__ = ["Batcher", "BatcherStatistics"]

_logger = logging.getLogger("pyflare.batcher")

ItemT = TypeVar("ItemT")

DEFAULT_MAX_QUEUE_BYTES = 128 * 1024 * 1024
DEFAULT_MAX_WAIT_S = 5.0
_RETRY_FIRST_S, _RETRY_LONGEST_S = 0.05, 2.0


@dataclass(slots=True)
class BatcherStatistics:
    """Counters of one batcher, in spans where nothing else is said.

    `added` = `handed_on` + `dropped_oldest` + `failed` + `abandoned` + those waiting
    or being handed on.
    """

    added: int = 0
    """Taken into the queue."""
    handed_on: int = 0
    """Given to the callback, which returned."""
    dropped_oldest: int = 0
    """Thrown out of the queue to make room (`on_full: drop_oldest`)."""
    failed: int = 0
    """Given to the callback, which raised an error that is no use retrying."""
    abandoned: int = 0
    """Still waiting when `shutdown` ran out of time."""
    refused: int = 0
    """Not taken for want of room."""
    batches: int = 0
    """Batches handed on."""


class Batcher(Generic[ItemT]):
    """Gathers items and hands them on in batches; all methods are thread-safe.

    Args:
        config: sizes, time limit, number of workers and the policy for a full queue.
        spans_of: spans that an item stands for; 1 by default.
        bytes_of: bytes that an item occupies; 0 by default.
        max_queue_bytes: bound of the queue in bytes.
        max_wait_s: seconds that `add` waits for room under `on_full: block`.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        config: BatcherConfig,
        *,
        spans_of: Callable[[ItemT], int] = lambda _: 1,
        bytes_of: Callable[[ItemT], int] = lambda _: 0,
        max_queue_bytes: int = DEFAULT_MAX_QUEUE_BYTES,
        max_wait_s: float = DEFAULT_MAX_WAIT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self.statistics = BatcherStatistics()
        self._spans_of = spans_of
        self._bytes_of = bytes_of
        self._max_queue_bytes = max_queue_bytes
        self._max_wait_s = max_wait_s
        self._timeout_s = config.max_batch_timeout_ms / 1000
        self._clock = clock
        self._callback: Callable[[list[ItemT]], None] | None = None
        self._drop_callback: Callable[[list[ItemT]], None] | None = None
        lock = threading.Lock()
        self._work = threading.Condition(lock)
        self._room = threading.Condition(lock)
        self._pause = threading.Condition(lock)
        self._queue: deque[tuple[ItemT, float]] = deque()
        self._queued_spans = 0
        self._queued_bytes = 0
        self._reserved_spans = 0
        self._reserved_bytes = 0
        self._running = True
        self._give_up = False
        self._workers: list[threading.Thread] = []

    def on_batch(self, callback: Callable[[list[ItemT]], None]) -> None:
        """Set what is called with each batch, from a worker thread.

        A `RetryableError` from it makes the worker offer the same batch again after a
        pause; any other error loses the batch, which is counted and logged.
        """
        self._callback = callback

    def on_drop(self, callback: Callable[[list[ItemT]], None]) -> None:
        """Set what is called with the items that `drop_oldest` or an error threw out."""
        self._drop_callback = callback

    def start(self) -> None:
        """Start the workers.

        Raises:
            RuntimeError: no callback is set.
        """
        if self._callback is None:
            raise RuntimeError("set on_batch before start")
        for number in range(self.config.num_workers):
            worker = threading.Thread(
                target=self._run, name=f"pyflare-batcher-{number}", daemon=True
            )
            self._workers.append(worker)
            worker.start()

    def add(self, items: ItemT | list[ItemT]) -> None:
        """Take one item or a list of items, all or nothing.

        Raises:
            RetryableError: the queue is full, or the batcher is shutting down.
        """
        group = cast("list[ItemT]", items if isinstance(items, list) else [items])
        spans, size = self._weigh(group)
        self.reserve(spans, size)
        self.add_reserved(group, spans=spans, size_bytes=size)

    consume = add
    """The batcher is a `pyflare_collector.stage.Stage`."""

    def reserve(self, spans: int, size_bytes: int) -> None:
        """Hold room for an item that comes later; `on_full` says what happens without room.

        The caller ends the reservation with `add_reserved` or `release`.

        Raises:
            RetryableError: there is no room, or the batcher is shutting down.
        """
        dropped: list[ItemT] = []
        try:
            self._wait_for_room(spans, size_bytes, dropped)
        finally:
            self._report_dropped(dropped)

    def _wait_for_room(self, spans: int, size_bytes: int, dropped: list[ItemT]) -> None:
        deadline: float | None = None
        with self._room:
            while True:
                if not self._running:
                    raise RetryableError("the collector is shutting down")
                if self._fits(spans, size_bytes):
                    break
                if self.config.on_full == "drop_oldest" and self._queue:
                    dropped.extend(self._drop_oldest(spans, size_bytes))
                    continue
                now = self._clock()
                deadline = now + self._max_wait_s if deadline is None else deadline
                if self.config.on_full == "refuse" or now >= deadline:
                    self.statistics.refused += spans
                    raise RetryableError(
                        f"the queue is full: {self._queued_spans} spans wait",
                        hint="raise batcher.max_queue_size or send more slowly",
                    )
                self._room.wait(deadline - now)
            self._reserved_spans += spans
            self._reserved_bytes += size_bytes

    def add_reserved(self, items: Sequence[ItemT], *, spans: int, size_bytes: int) -> None:
        """Queue items for which `reserve(spans, size_bytes)` has been called; never waits.

        The items may weigh less than what was reserved. They are taken during a
        shutdown too: the reservation came before it.
        """
        now = self._clock()
        own_spans, own_bytes = self._weigh(items)
        with self._work:
            self._reserved_spans -= spans
            self._reserved_bytes -= size_bytes
            self.statistics.added += own_spans
            if self._give_up:
                self.statistics.abandoned += own_spans
                return
            self._queued_spans += own_spans
            self._queued_bytes += own_bytes
            self._queue.extend((item, now) for item in items)
            self._work.notify()
            if own_spans < spans or own_bytes < size_bytes:
                self._room.notify_all()

    def release(self, spans: int, size_bytes: int) -> None:
        """Give back a reservation that is not used."""
        with self._room:
            self._reserved_spans -= spans
            self._reserved_bytes -= size_bytes
            self._room.notify_all()
            self._work.notify_all()

    def get_pending_count(self) -> int:
        """Return the spans that wait in the queue."""
        return self._queued_spans

    def get_pending_bytes(self) -> int:
        """Return the bytes that wait in the queue."""
        return self._queued_bytes

    def get_batches_sent(self) -> int:
        """Return the batches handed on so far."""
        return self.statistics.batches

    def get_dropped_count(self) -> int:
        """Return the spans lost here: thrown out, failed or abandoned."""
        counters = self.statistics
        return counters.dropped_oldest + counters.failed + counters.abandoned

    def shutdown(self, timeout_s: float = 30.0) -> None:
        """Stop taking items and hand on those that wait; what is left then is counted.

        Safe without `start`, and twice. Callers that wait for room get `RetryableError`.
        """
        deadline = self._clock() + timeout_s
        with self._work:
            self._running = False
            self._work.notify_all()
            self._room.notify_all()
            self._pause.notify_all()
        for worker in self._workers:
            worker.join(max(0.0, deadline - self._clock()))
        with self._work:
            self._give_up = True
            self.statistics.abandoned += self._queued_spans
            self._queue.clear()
            self._queued_spans = self._queued_bytes = 0
            self._work.notify_all()
            self._pause.notify_all()
        for worker in self._workers:
            worker.join(max(0.1, deadline - self._clock()))
        self._workers.clear()

    def _weigh(self, items: Iterable[ItemT]) -> tuple[int, int]:
        spans = size = 0
        for item in items:
            spans += self._spans_of(item)
            size += self._bytes_of(item)
        return spans, size

    def _fits(self, spans: int, size_bytes: int) -> bool:
        held_spans = self._queued_spans + self._reserved_spans
        held_bytes = self._queued_bytes + self._reserved_bytes
        if held_spans == 0 and held_bytes == 0:
            return True
        return (
            held_spans + spans <= self.config.max_queue_size
            and held_bytes + size_bytes <= self._max_queue_bytes
        )

    def _drop_oldest(self, spans: int, size_bytes: int) -> Iterator[ItemT]:
        while self._queue and not self._fits(spans, size_bytes):
            item, _ = self._queue.popleft()
            lost = self._spans_of(item)
            self._queued_spans -= lost
            self._queued_bytes -= self._bytes_of(item)
            self.statistics.dropped_oldest += lost
            yield item

    def _report_dropped(self, items: list[ItemT]) -> None:
        if items and self._drop_callback is not None:
            self._drop_callback(items)

    def _run(self) -> None:
        while True:
            batch = self._next_batch()
            if batch is None:
                return
            self._hand_on(batch)

    def _next_batch(self) -> list[ItemT] | None:
        """Wait for a full batch, a batch that is old enough, or the end."""
        with self._work:
            while not self._due():
                if not self._running and not self._queue and not self._reserved_spans:
                    return None
                if self._give_up:
                    return None
                wait: float | None = None
                if self._queue:
                    wait = max(0.0, self._queue[0][1] + self._timeout_s - self._clock())
                self._work.wait(wait)
            batch: list[ItemT] = []
            spans = 0
            while self._queue:
                weight = self._spans_of(self._queue[0][0])
                if batch and spans + weight > self.config.max_batch_size:
                    break
                item, _ = self._queue.popleft()
                batch.append(item)
                spans += weight
                self._queued_bytes -= self._bytes_of(item)
            self._queued_spans -= spans
            self._room.notify_all()
            if self._queue or not self._running:
                self._work.notify()
            return batch

    def _due(self) -> bool:
        if not self._queue:
            return False
        return (
            not self._running
            or self._queued_spans >= self.config.max_batch_size
            or self._clock() - self._queue[0][1] >= self._timeout_s
        )

    def _hand_on(self, batch: list[ItemT]) -> None:
        spans, _ = self._weigh(batch)
        callback = cast("Callable[[list[ItemT]], None]", self._callback)
        pause = _RETRY_FIRST_S
        while True:
            try:
                callback(batch)
            except RetryableError as error:
                with self._work:
                    if self._give_up:
                        self.statistics.abandoned += spans
                        return
                    self._pause.wait(error.retry_after_s if self._running else pause)
                pause = min(2 * pause, _RETRY_LONGEST_S)
            except Exception as error:  # noqa: BLE001  # a worker must outlive a bad batch
                message = error.message if isinstance(error, PyFlareError) else repr(error)
                _logger.error("lost a batch of %d spans: %s", spans, message)  # noqa: TRY400  # one line
                with self._work:
                    self.statistics.failed += spans
                self._report_dropped(batch)
                return
            else:
                with self._work:
                    self.statistics.handed_on += spans
                    self.statistics.batches += 1
                return
