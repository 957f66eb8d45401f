"""The log as the stages see it, and the one that keeps nothing.

`Log` is what a request is appended to before it is acknowledged. There are two:
`pyflare_collector.wal.WriteAheadLog` for `durability: fsync` and `os`, and
`VolatileLog` for `none`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pyflare_collector.wal_format import Damage, Record
from pyflare_proto.errors import RetryableError

__all__ = ["Log", "LogStatistics", "OpenSegment", "VolatileLog"]


@dataclass(frozen=True, slots=True)
class OpenSegment:
    """What the segment that is appended to holds."""

    seq: int
    records: int
    """Committed records."""
    size_bytes: int
    """Bytes of the segment."""
    opened_at: float
    """Time of its first record, by the log's clock."""
    last_append_at: float
    """Time of its last record, by the log's clock."""


@dataclass(slots=True)
class LogStatistics:
    """Counters of one log since its start."""

    records: int = 0
    """Records committed."""
    written_bytes: int = 0
    """Bytes committed."""
    commits: int = 0
    """Groups committed."""
    fsyncs: int = 0
    """Syncs of segments."""
    failed_commits: int = 0
    """Groups that could not be written."""


class Log(Protocol):
    """Where a request goes before it is acknowledged."""

    statistics: LogStatistics
    durable: bool
    """Whether what is appended can be read again."""

    def start(self, *, above: int = 0) -> None:
        """Begin; segment numbers will be greater than `above`."""

    def append(self, note: bytes, payload: bytes) -> int:
        """Return the number of the segment that holds the record, once it is durable."""

    def roll(self) -> None:
        """Seal the open segment; the next record starts a new one."""

    def open_segment(self) -> OpenSegment | None:
        """Return the segment that is appended to, None when there is none with records."""

    def sealed_records(self, seq: int) -> int | None:
        """Return how many records the sealed segment holds, None while it is not sealed."""

    def unpublished(self) -> list[int]:
        """Return the numbers of the segments that are kept and not appended to, oldest first."""

    def read(self, seq: int, damage: Damage) -> Iterator[Record]:
        """Yield the records of a segment."""

    def remove(self, seq: int) -> None:
        """Forget a sealed segment: its spans are in place."""

    def set_aside(self, seq: int) -> Path | None:
        """Keep a segment where nothing replays it; return where, None where nothing is kept."""

    def size_bytes(self) -> int:
        """Return the bytes of all segments that are kept."""

    def shutdown(self, timeout_s: float = 30.0) -> None:
        """Commit what waits, and stop."""


class VolatileLog:
    """Numbers segments and keeps nothing: `durability: none`.

    A crash loses what has not reached a Parquet file. The class has the interface of
    `WriteAheadLog`, so the stages behind it are the same.
    """

    durable = False

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.statistics = LogStatistics()
        self._clock = clock
        self._wall_clock_ns = wall_clock_ns
        self._lock = threading.Lock()
        self._running = False
        self._open: OpenSegment | None = None
        self._sealed: dict[int, int] = {}
        self._last_seq = 0

    def start(self, *, above: int = 0) -> None:
        """Begin; segment numbers will be greater than `above`."""
        self._last_seq = max(above, self._last_seq)
        self._running = True

    def append(self, note: bytes, payload: bytes) -> int:
        """Count the request and return its segment at once.

        Raises:
            RetryableError: the log is not running.
        """
        size, now = len(note) + len(payload), self._clock()
        with self._lock:
            if not self._running:
                raise RetryableError("the collector is shutting down")
            old = self._open
            if old is None:
                self._last_seq = max(self._wall_clock_ns() // 1000, self._last_seq + 1)
                old = OpenSegment(self._last_seq, 0, 0, now, now)
            self._open = OpenSegment(
                old.seq, old.records + 1, old.size_bytes + size, old.opened_at, now
            )
            self.statistics.records += 1
            return old.seq

    def roll(self) -> None:
        """Seal the open segment; the next record starts a new one."""
        with self._lock:
            if self._open is not None:
                self._sealed[self._open.seq] = self._open.records
                self._open = None

    def open_segment(self) -> OpenSegment | None:
        """Return what has been counted since the last `roll`, None when nothing was."""
        with self._lock:
            return self._open

    def sealed_records(self, seq: int) -> int | None:
        """Return how many requests the sealed segment had, None while it is open."""
        with self._lock:
            return self._sealed.get(seq)

    def unpublished(self) -> list[int]:
        """Return nothing: there is nothing to replay."""
        return []

    def read(self, seq: int, damage: Damage) -> Iterator[Record]:
        """Yield nothing."""
        del seq, damage
        return iter(())

    def remove(self, seq: int) -> None:
        """Forget the count of a segment."""
        with self._lock:
            self._sealed.pop(seq, None)

    def set_aside(self, seq: int) -> Path | None:
        """Forget the count of a segment."""
        self.remove(seq)
        return None

    def size_bytes(self) -> int:
        """Return 0."""
        return 0

    def shutdown(self, timeout_s: float = 30.0) -> None:
        """Stop taking requests and seal the open segment. May be called twice."""
        del timeout_s
        with self._lock:
            self._running = False
        self.roll()
