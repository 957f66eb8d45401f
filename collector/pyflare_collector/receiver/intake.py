"""Admission: how many bytes may be worked on at once, and when the doors are closed.

Every request of both servers passes here, in this order:

    admit ----> grow (as its bytes arrive) ----> take ----> answer
      |           |                               |
      draining    too many bytes at once          closed

Each arrow downwards is a `RetryableError`: nothing was taken, the client tries
again. What has entered `take` always gets the next stage's own answer.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Self

from pyflare_collector.ingest import Ingest, IngestResult
from pyflare_proto.errors import RetryableError

__all__ = ["Intake", "Slot"]

PATIENCE_S = 2.0
"""Longest wait for a free worker.

A request that waited longer is sent back at once instead of being worked on after
its client, whose usual deadline is 10 s, has given up.
"""


class Intake:
    """The gate before the pipeline, shared by both servers; thread-safe.

    Args:
        ingest: takes one request.
        max_bytes: sum of the sizes of the requests in work, compressed and
            decompressed; one request alone may exceed it.
        clock: monotonic seconds.
    """

    def __init__(
        self, ingest: Ingest, *, max_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.clock = clock
        self._ingest = ingest
        self._max_bytes = max_bytes
        self._changed = threading.Condition()
        self._bytes = 0
        self._requests = 0
        self._ingesting = 0
        self._draining = False
        self._closed = False
        self._answers: Counter[tuple[str, str, str]] = Counter()

    @property
    def draining(self) -> bool:
        """Whether new requests are refused."""
        return self._draining

    @property
    def bytes_in_flight(self) -> int:
        """Bytes of the requests in work."""
        return self._bytes

    @property
    def requests_in_flight(self) -> int:
        """Requests in work."""
        return self._requests

    def admit(self) -> Slot:
        """Let a request in; the slot is given back by leaving its `with` block.

        Raises:
            RetryableError: the collector is stopping, or has too much in work already.
        """
        with self._changed:
            if self._draining:
                raise _stopping()
            if self._bytes > self._max_bytes:
                raise self._too_much()
            self._requests += 1
        return Slot(self)

    def check_patience(self, arrived: float) -> None:
        """Raise `RetryableError` for a request that waited longer than `PATIENCE_S`."""
        waited = self.clock() - arrived
        if waited > PATIENCE_S:
            raise RetryableError(
                f"the collector is busy: the request waited {waited:.1f} s for a worker",
                retry_after_s=PATIENCE_S,
            )

    def take(self, payload: bytes) -> IngestResult:
        """Hand a request to the pipeline and return its answer.

        Raises:
            RetryableError: the receiver has shut down.
            PyFlareError: what the pipeline answered.
        """
        with self._changed:
            if self._closed:
                raise _stopping()
            self._ingesting += 1
        try:
            return self._ingest(payload)
        finally:
            with self._changed:
                self._ingesting -= 1
                self._changed.notify_all()

    def drain(self, timeout_s: float) -> bool:
        """Refuse new requests, wait for those in work, then let nothing through any more.

        Returns:
            Whether all requests were answered within `timeout_s` seconds.
        """
        deadline = self.clock() + timeout_s
        with self._changed:
            self._draining = True
            while self._requests and (left := deadline - self.clock()) > 0:
                self._changed.wait(left)
            self._closed = True
            return self._requests == 0 and self._ingesting == 0

    def answered(self, protocol: str, signal: str, outcome: str) -> None:
        """Count an answer: `grpc` or `http`, the signal, `ok` or the failure's code."""
        with self._changed:
            self._answers[protocol, signal, outcome] += 1

    def answers(self) -> dict[tuple[str, str, str], int]:
        """Return the number of answers by protocol, signal and outcome."""
        with self._changed:
            return dict(self._answers)

    def _grow(self, slot: Slot, size: int) -> None:
        with self._changed:
            alone = self._bytes == slot.size
            if self._bytes + size > self._max_bytes and not alone:
                raise self._too_much()
            self._bytes += size
            slot.size += size

    def _release(self, slot: Slot) -> None:
        with self._changed:
            self._bytes -= slot.size
            self._requests -= 1
            slot.size = 0
            self._changed.notify_all()

    def _too_much(self) -> RetryableError:
        return RetryableError(
            f"the collector is busy: {self._bytes} bytes are in work, at most {self._max_bytes}",
            retry_after_s=1.0,
        )


class Slot:
    """One admitted request and the bytes it holds; a context manager."""

    __slots__ = ("_intake", "size")

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self.size = 0
        """Bytes held."""

    def grow(self, size: int) -> None:
        """Hold `size` bytes more. Raises `RetryableError` when there are too many in work."""
        self._intake._grow(self, size)  # noqa: SLF001 - a slot is a part of its intake

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._intake._release(self)  # noqa: SLF001 - a slot is a part of its intake


def _stopping() -> RetryableError:
    return RetryableError("the collector is shutting down", retry_after_s=1.0)
