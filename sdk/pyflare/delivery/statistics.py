"""What became of every span: the numbers behind `pyflare.stats()`."""

from __future__ import annotations

import threading
from dataclasses import dataclass, fields

__all__ = ["Counters", "Statistics"]


@dataclass(frozen=True, slots=True)
class Statistics:
    """What became of the spans of this process, since it started or was forked.

    Every span that was to be sent is in one of `sent`, `waiting` or the `lost_*`.

    Attributes:
        sent: spans that the collector took.
        waiting: spans that are still to be sent.
        lost_queue_full: dropped because too many waited already.
        lost_refused: refused by the collector: wrong token, wrong path, invalid spans.
        lost_unencodable: could not be written as OTLP.
        lost_at_shutdown: not delivered within the time limit of the shutdown, or ended
            after it.
        requests: attempts to send a batch.
        failed_requests: attempts that failed.
        backlog_bytes: size of the encoded batches that wait.
        last_error: why the last failed attempt failed; empty if none did.
    """

    sent: int = 0
    waiting: int = 0
    lost_queue_full: int = 0
    lost_refused: int = 0
    lost_unencodable: int = 0
    lost_at_shutdown: int = 0
    requests: int = 0
    failed_requests: int = 0
    backlog_bytes: int = 0
    last_error: str = ""

    @property
    def lost(self) -> int:
        """Spans that will never be sent."""
        return (
            self.lost_queue_full + self.lost_refused + self.lost_unencodable + self.lost_at_shutdown
        )


_COUNTED = frozenset(field.name for field in fields(Statistics)) - {
    "waiting",
    "backlog_bytes",
    "last_error",
}


class Counters:
    """The counting side of `Statistics`; safe to use from any thread, at any instruction."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._counts = dict.fromkeys(_COUNTED, 0)
        self.last_error = ""

    def add(self, name: str, count: int = 1) -> None:
        """Add to the count of that name in `Statistics`."""
        with self._lock:
            self._counts[name] += count

    def read(self, waiting: int, backlog_bytes: int) -> Statistics:
        """Return the counts as they are now."""
        with self._lock:
            counts = dict(self._counts)
        return Statistics(
            **counts,
            waiting=max(waiting, 0),
            backlog_bytes=backlog_bytes,
            last_error=self.last_error,
        )
