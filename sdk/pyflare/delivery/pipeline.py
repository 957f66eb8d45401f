"""The way of finished spans to the collector: a queue, an encoder, a backlog, a sender.

    on_end -> queue (spans) -> encoder thread -> backlog (requests) -> sender thread

Both stores are bounded. While the collector is away the sender tries again and again,
the encoder fills the backlog, compressed, and only when that is full too the queue
fills up and further spans are dropped and counted. The threads start with the first
span, so that a process that only forks workers has none.

A span may end at any instruction of another one's end: in a signal handler, or when the
garbage collector finds a stream that was forgotten. So whatever `put` touches can be
entered again by the same thread: a deque, a `SimpleQueue`, re-entrant locks; no `Event`.
"""

from __future__ import annotations

import collections
import contextlib
import os
import random
import sys
import threading
import time
import weakref
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, set_value
from opentelemetry.sdk.trace import ReadableSpan

from pyflare.delivery import messages
from pyflare.delivery.encoding import Encoder, Request
from pyflare.delivery.outcome import Outcome, Sender
from pyflare.delivery.statistics import Counters, Statistics
from pyflare.log import logger
from pyflare.settings import DeliverySettings

__all__ = ["Pipeline"]

_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 5.0
_LONGEST_ASKED_SECONDS = 60.0  # of what a collector may ask for


class _Mark:
    """Goes through queue and backlog behind the spans of before; `passed` when it is out."""

    def __init__(self, lost: int) -> None:
        self.lost = lost
        self.passed = threading.Event()
        self.complete = False


@dataclass(slots=True)
class _Held:
    """What the two threads share; made anew after a fork."""

    queue: collections.deque[ReadableSpan | _Mark]
    backlog: collections.deque[Request | _Mark]
    changed: threading.Condition
    """Guards the backlog and the flags."""
    signals: SimpleQueue[bool]
    """Wakes the encoder: False: the queue has something; True: do not wait for more."""
    told: bool = False
    """The encoder knows that the queue has something."""
    told_full: bool = False
    """The encoder knows that the queue has a batch."""
    backlog_bytes: int = 0
    encoding: int = 0
    """Spans that are out of the queue and not in the backlog yet."""
    waiting: int = 0
    """How many callers wait for a flush: while some do, pauses are short."""
    stopped: bool = False


def _fresh() -> _Held:
    return _Held(
        collections.deque(),
        collections.deque(),
        threading.Condition(threading.RLock()),
        SimpleQueue(),
    )


class Pipeline:
    """Takes finished spans, and delivers them as well as the collector allows.

    Args:
        sender: sends requests.
        encoder: makes them.
        settings: limits.
        immediately: send each span by itself, without waiting for others.
        timeout_seconds: of one request.
    """

    def __init__(
        self,
        sender: Sender,
        encoder: Encoder,
        settings: DeliverySettings,
        *,
        timeout_seconds: float,
        immediately: bool = False,
    ) -> None:
        self._sender = sender
        self._encoder = encoder
        self._settings = settings
        self._timeout = timeout_seconds
        self._batch = 1 if immediately else settings.max_batch_size
        self._limit = settings.max_queue_size
        self._counters = Counters()
        self._held = _fresh()
        self._queue = self._held.queue
        self._starting = threading.RLock()
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._deadline = float("inf")
        if hasattr(os, "register_at_fork"):
            after = weakref.WeakMethod(self._after_fork)
            os.register_at_fork(after_in_child=lambda: (method := after()) and method())

    def put(self, span: ReadableSpan) -> None:
        """Take a finished span; never waits, never raises."""
        spans = self._queue
        size = len(spans)
        if size >= self._limit or self._closed:
            self._counters.add("lost_at_shutdown" if self._closed else "lost_queue_full")
            if not self._closed:
                messages.full(self._sender.address, self._limit)
            return
        spans.append(span)
        held = self._held
        if not held.told:
            held.told = True
            if not self._threads:
                self._start()
            held.signals.put(False)
        if size + 1 >= self._batch and not held.told_full:
            held.told_full = True
            held.signals.put(True)

    def statistics(self) -> Statistics:
        """Return what became of the spans so far."""
        held = self._held
        with held.changed:
            waiting = sum(item.spans for item in held.backlog if isinstance(item, Request))
            waiting += sum(not isinstance(item, _Mark) for item in held.queue.copy())
            return self._counters.read(waiting + held.encoding, held.backlog_bytes)

    def flush(self, timeout_seconds: float) -> bool:
        """Send what was put before, now; wait for it up to a limit.

        Returns:
            True if the collector has all of it.
        """
        if self._closed:
            return False
        return self._flush(timeout_seconds)

    def shutdown(self, timeout_seconds: float) -> bool:
        """Send what was put before, within a limit, and stop; what is left is lost.

        Returns:
            True if the collector has all of it.
        """
        if self._closed:
            return True
        self._closed = True
        self._deadline = time.monotonic() + timeout_seconds
        complete = self._flush(timeout_seconds)
        held = self._held
        with held.changed:
            held.stopped = True
            held.changed.notify_all()
        held.signals.put(True)
        for thread in self._threads:  # one that is in a request is left to it
            thread.join(0.1 if complete else 0.0)
        left = self.statistics().waiting
        if left:
            with held.changed:
                held.queue.clear()
                held.backlog.clear()
                held.encoding = held.backlog_bytes = 0
                self._counters.add("lost_at_shutdown", left)
            messages.not_delivered(
                self._sender.address, left, timeout_seconds, self._counters.last_error
            )
        if complete:
            self._sender.close()
        return complete

    def _flush(self, timeout_seconds: float) -> bool:
        held = self._held
        if not self._threads and not held.queue:
            return True
        end = time.monotonic() + timeout_seconds
        mark = _Mark(self._counters.read(0, 0).lost)
        held.queue.append(mark)
        with held.changed:
            held.waiting += 1
            held.changed.notify_all()
        if self._threads or self._start():
            held.signals.put(True)
            mark.passed.wait(max(end - time.monotonic(), 0.0))
        else:
            self._drain_here(held, end)
        with held.changed:
            held.waiting -= 1
        return mark.complete

    # The threads

    def _start(self) -> bool:
        """Start the threads; False where the system or the interpreter's end forbids it."""
        with self._starting:
            if self._threads:
                return True
            held = self._held
            threads = [
                threading.Thread(target=run, args=(held,), name=name, daemon=True)
                for run, name in (
                    (self._encode_all, "pyflare-encode"),
                    (self._send_all, "pyflare-send"),
                )
            ]
            self._threads = threads  # first: a signal handler may come in between
            try:
                for thread in threads:
                    thread.start()
            except RuntimeError as error:
                logger.debug("no thread can be started: %s", error)
                self._threads = []
                return False
        _flush_when_multiprocessing_ends(self)
        return True

    def _after_fork(self) -> None:
        """Begin empty in a child process: what waits and what is connected is the parent's."""
        self._held = _fresh()
        self._queue = self._held.queue
        self._counters = Counters()
        self._starting = threading.RLock()
        self._threads = []
        self._sender.reset()

    def _encode_all(self, held: _Held) -> None:
        _be_silent()
        while not held.stopped:
            full = held.signals.get()
            if not full:
                with contextlib.suppress(Empty):
                    held.signals.get(timeout=self._settings.delay_seconds)
            # Cleared before the queue is read: whoever appends after that tells again.
            held.told = held.told_full = False
            while held.queue and not held.stopped:
                self._encode_some(held)

    def _encode_some(self, held: _Held) -> None:
        """Move a batch, or a mark, from the queue to the backlog; wait for room there."""
        spans: list[ReadableSpan] = []
        mark = None
        with held.changed:
            while held.queue and len(spans) < self._batch and mark is None:
                item = held.queue.popleft()
                if isinstance(item, _Mark):
                    mark = item
                else:
                    spans.append(item)
            held.encoding = len(spans)
        requests, lost = self._encoder.encode(spans) if spans else ([], 0)
        with held.changed:
            for request in requests:
                while held.backlog_bytes > self._settings.max_backlog_bytes and not held.stopped:
                    held.changed.wait()
                if held.stopped:  # counted as lost by now
                    return
                held.backlog.append(request)
                held.backlog_bytes += len(request.body)
                held.encoding -= request.spans
            held.encoding -= lost
            self._counters.add("lost_unencodable", lost)
            if mark is not None:
                held.backlog.append(mark)
            held.changed.notify_all()

    def _send_all(self, held: _Held) -> None:
        _be_silent()
        failures = 0
        while True:
            with held.changed:
                while not held.backlog and not held.stopped:
                    held.changed.wait()
                if held.stopped or not held.backlog:
                    return
                item = held.backlog[0]
            failures = self._send_one(held, item, failures)

    def _send_one(self, held: _Held, item: Request | _Mark, failures: int) -> int:
        """Send the first of the backlog; return how often in a row sending failed."""
        if isinstance(item, _Mark):
            self._pass(held, item)
            return failures
        left = self._deadline - time.monotonic()
        last = self._closed  # an attempt that began before the end says nothing of now
        outcome = self._sender.send(item.body, max(min(self._timeout, left), 0.001))
        self._counters.add("requests")
        if held.stopped:
            return failures
        if outcome.kind == "again":
            self._failed(outcome)
            return self._pause(held, outcome, failures + 1, last=last)
        refused = min(outcome.rejected, item.spans) if outcome.kind == "sent" else item.spans
        with held.changed:  # counted and taken out at once: `statistics` sees each span once
            held.backlog.popleft()
            held.backlog_bytes -= len(item.body)
            self._counters.add("sent", item.spans - refused)
            self._counters.add("lost_refused", refused)
            held.changed.notify_all()
        if outcome.kind == "refused":
            self._failed(outcome)
        elif failures:
            logger.info("%s takes spans again", self._sender.address)
        if refused:
            messages.refused(self._sender.address, refused, outcome.reason)
        return 0

    def _pass(self, held: _Held, mark: _Mark) -> None:
        with held.changed:
            held.backlog.popleft()
        mark.complete = self._counters.read(0, 0).lost == mark.lost
        mark.passed.set()

    def _pause(self, held: _Held, outcome: Outcome, failures: int, *, last: bool) -> int:
        """Wait before the next attempt: as long as asked for, else longer each time."""
        longest = min(_FIRST_WAIT_SECONDS * 2 ** min(failures - 1, 10), _LONGEST_WAIT_SECONDS)
        wait = random.uniform(longest / 2, longest)  # noqa: S311 - spreads clients, keeps no secret
        if outcome.after_seconds is not None:
            wait = min(outcome.after_seconds, _LONGEST_ASKED_SECONDS)
        start = time.monotonic()
        end = start + wait
        with held.changed:
            if last and not outcome.reached:
                # At its end a process does not wait for a collector that is not there.
                self._give_up(held)
                return failures
            while not held.stopped:
                if held.waiting and outcome.after_seconds is None:
                    end = min(end, start + _FIRST_WAIT_SECONDS)
                if self._closed and not last:
                    break
                left = end - time.monotonic()
                if left <= 0:
                    break
                held.changed.wait(left)
        return failures

    def _give_up(self, held: _Held) -> None:
        """Let whoever waits for the end go; `held.changed` is held."""
        held.stopped = True
        held.changed.notify_all()
        for item in (*held.backlog, *held.queue):
            if isinstance(item, _Mark):
                item.passed.set()

    def _drain_here(self, held: _Held, end: float) -> None:
        """Do the work of the threads in this one, where none can be started."""
        deadline, self._deadline = self._deadline, min(self._deadline, end)
        failures = 0
        while (held.queue or held.backlog) and time.monotonic() < end and not held.stopped:
            if not held.backlog:
                self._encode_some(held)
            else:
                failures = self._send_one(held, held.backlog[0], failures)
        self._deadline = deadline

    def _failed(self, outcome: Outcome) -> None:
        self._counters.add("failed_requests")
        self._counters.last_error = outcome.reason
        if outcome.kind == "again":
            messages.unreachable(self._sender.address, outcome.reason)


def _be_silent() -> None:
    """Keep instrumented HTTP clients from tracing the requests of this thread."""
    attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))


def _flush_when_multiprocessing_ends(pipeline: Pipeline) -> None:
    """Shut down with a process of `multiprocessing`, which ends without `atexit`."""
    util = sys.modules.get("multiprocessing.util")
    process = sys.modules.get("multiprocessing.process")
    if util is None or process is None or process.parent_process() is None:
        return
    method = weakref.WeakMethod(pipeline.shutdown)
    limit = pipeline._settings.shutdown_seconds  # noqa: SLF001 - this module's own class
    util.Finalize(None, lambda: (end := method()) and end(limit), exitpriority=0)
