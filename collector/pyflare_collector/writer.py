"""The Parquet stage: gathers requests into row groups and decides when a file ends.

One log segment becomes one file that carries the segment's number (`segments.py` says
why that is exactly once). The stage has one thread. It gathers requests until they make
a row group, normalises them at once, and appends to the segment's file. When the segment
has to end - `roll_seconds`, `roll_mib`, or nothing has arrived for a while - the log is
told to `roll`; when every request of the sealed segment has come through the queue, the
file is published and the segment removed.

When a file cannot be written (a full disk), every unfinished file is deleted and all
segments without a file are replayed from the log until that works, with growing pauses:
the same path as a start after a crash. Meanwhile the queue fills and clients are told to
come back. With `durability: none` there is nothing to replay; those spans are counted as
dropped.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pyflare_collector.config import MEBIBYTE, ParquetConfig
from pyflare_collector.log import Log, OpenSegment
from pyflare_collector.segments import Segments
from pyflare_proto.errors import PyFlareError, RetryableError, StorageError

if TYPE_CHECKING:
    from pyflare_collector.transform import Accepted

__all__ = ["SpanWriter"]

_logger = logging.getLogger("pyflare.writer")

_POLL_S = 0.1
_RETRY_FIRST_S, _RETRY_LONGEST_S = 0.5, 15.0


class SpanWriter:
    """Writes accepted requests to Parquet files; a `pyflare_collector.stage.Stage`.

    Memory: one row group that gathers and one that is written, each of at most
    `segments.row_group_spans` spans or `segments.row_group_bytes`, plus one request.

    Args:
        segments: where row groups are written and files published.
        log: the log that the requests are in.
        config: limits of a file.
        idle_s: seconds without a request after which a file is closed at once.
        clock: monotonic seconds, the log's.
    """

    def __init__(
        self,
        segments: Segments,
        log: Log,
        config: ParquetConfig,
        *,
        idle_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.error: PyFlareError | None = None
        """Why files cannot be written at the moment; None when they can."""
        self._segments = segments
        self._log = log
        self._config = config
        self._idle_s = idle_s
        self._clock = clock
        self._changed = threading.Condition()
        self._inbox: list[Accepted] = []
        self._inbox_spans = 0
        self._inbox_bytes = 0
        self._in_hand_spans = 0
        self._arrived: dict[int, int] = defaultdict(int)
        self._horizon = 0
        self._draining = False
        self._give_up = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="pyflare-writer", daemon=True)
        self._thread.start()

    def consume(self, items: list[Accepted]) -> None:
        """Take requests; waits while a row group is full and another is being written.

        Raises:
            RetryableError: the writer has stopped; the log still has the requests.
        """
        spans = sum(len(item) for item in items)
        size = sum(item.size_bytes for item in items)
        with self._changed:
            while self._full() and not self._stopped():
                self._changed.wait()
            if self._stopped():
                raise RetryableError("the collector is shutting down")
            first = not self._arrived
            self._inbox.extend(items)
            self._inbox_spans += spans
            self._inbox_bytes += size
            self._note_arrival(items)
            if first or self._full():
                self._changed.notify_all()

    def skip(self, items: Sequence[Accepted]) -> None:
        """Note that requests were dropped from the queue and will not come."""
        with self._changed:
            self._note_arrival(items)
            self._changed.notify_all()

    def pending_spans(self) -> int:
        """Return the spans that are taken and not in a published file yet."""
        return self._inbox_spans + self._in_hand_spans + self._segments.unfinished_spans()

    def shutdown(self, timeout_s: float = 30.0) -> None:
        """Publish what was taken, and stop; safe without `start`, and twice.

        What cannot be published in time stays in the log for the next start.
        """
        with self._changed:
            self._draining = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout_s)
        self._give_up.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(5.0)

    def _stopped(self) -> bool:
        return self._give_up.is_set() or self._draining

    def _full(self) -> bool:
        return (
            self._inbox_spans >= self._segments.row_group_spans
            or self._inbox_bytes >= self._segments.row_group_bytes
        )

    def _note_arrival(self, items: Sequence[Accepted]) -> None:
        for item in items:
            if item.segment > self._horizon:
                self._arrived[item.segment] += 1

    def _run(self) -> None:
        pause = _RETRY_FIRST_S
        while not self._give_up.is_set():
            try:
                if self.error is not None:
                    self._segments.replay("replayed")
                    self.error, pause = None, _RETRY_FIRST_S
                    _logger.info("span files can be written again")
                if self._step():
                    break
            except Exception as error:  # noqa: BLE001  # the thread must outlive any failure
                self._fall_back(error)
                if self._draining:
                    break
                self._give_up.wait(pause)
                pause = min(2 * pause, _RETRY_LONGEST_S)
        self._segments.abandon()

    def _step(self) -> bool:
        """Write what is due; return whether all is done and the thread may end."""
        with self._changed:
            if not self._full() and not self._draining:
                self._changed.wait(_POLL_S if self._arrived else None)
            draining = self._draining
        if self._roll_due(self._log.open_segment(), draining=draining):
            self._log.roll()
        complete = self._complete()
        if complete or draining or self._full():
            self._absorb(self._take())
        for seq in complete:
            self._publish(seq)
        if draining and not self._log.durable:
            for seq in self._segments.unfinished():  # the rest of them cannot come any more
                self._publish(seq)
        return draining

    def _roll_due(self, segment: OpenSegment | None, *, draining: bool) -> bool:
        if segment is None:
            return False
        now = self._clock()
        idle = now - segment.last_append_at >= self._idle_s
        return (
            draining
            or now - segment.opened_at >= self._config.roll_seconds
            or segment.size_bytes >= self._config.roll_mib * MEBIBYTE
            or (idle and self._arrived.get(segment.seq) == segment.records)
        )

    def _complete(self) -> list[int]:
        """Return the sealed segments of which every request is here, oldest first."""
        with self._changed:
            arrived = dict(self._arrived)
        return sorted(seq for seq, n in arrived.items() if self._log.sealed_records(seq) == n)

    def _take(self) -> list[Accepted]:
        with self._changed:
            items, self._inbox = self._inbox, []
            self._in_hand_spans = self._inbox_spans
            self._inbox_spans = self._inbox_bytes = 0
            self._changed.notify_all()
        return [item for item in items if item.segment > self._horizon]

    def _absorb(self, items: list[Accepted]) -> None:
        """Write row groups of the items to their segments' files."""
        by_segment: dict[int, list[Accepted]] = defaultdict(list)
        for item in items:
            by_segment[item.segment].append(item)
        for seq in sorted(by_segment):
            self._segments.write(seq, by_segment[seq])
            self._in_hand_spans -= sum(len(item) for item in by_segment[seq])
        self._in_hand_spans = 0

    def _publish(self, seq: int) -> None:
        self._segments.publish(seq)
        with self._changed:
            self._arrived.pop(seq, None)

    def _fall_back(self, error: Exception) -> None:
        """After a failure: everything that has no file is to be replayed from the log."""
        if not isinstance(error, PyFlareError):
            _logger.error("the span writer failed", exc_info=error)
            error = StorageError(f"cannot write span files: {error}")
        elif self.error is None:
            _logger.error("%s; trying again until it works", error.message)
        self.error = error
        lost = self._in_hand_spans + self._segments.unfinished_spans()
        self._in_hand_spans = 0
        self._segments.abandon()
        if not self._log.durable:
            self._segments.counters.add("dropped", lost, "storage")
            return
        self._log.roll()
        with self._changed:
            self._horizon = max([self._horizon, *self._log.unpublished()])
            for seq in [seq for seq in self._arrived if seq <= self._horizon]:
                del self._arrived[seq]
