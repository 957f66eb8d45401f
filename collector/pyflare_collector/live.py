"""Spans as they are taken, for whoever watches the collector.

A watcher gets what is durable, normalised and priced, at once instead of when its file
appears, as a stream of Arrow record batches of the span record. Watching costs the
others nothing: requests are only handed over, each watcher has a bounded queue of its
own, and a slow watcher loses the oldest of it. Repeated deliveries and calls that two
instrumentations tell are settled later, on the way to the file.
"""

from __future__ import annotations

import io
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from pyflare_proto.errors import RetryableError

if TYPE_CHECKING:
    import pyarrow as pa

    from pyflare_collector.transform import Accepted
    from pyflare_storage.prices import PriceBook

__all__ = ["HEARTBEAT_S", "MAX_WATCHERS", "QUEUE_SPANS", "LiveSpans", "Watch"]

QUEUE_SPANS = 20_000
"""Spans that wait for one watcher at the most; older ones are passed over."""

MAX_WATCHERS = 4
"""Watchers at once; each keeps one thread of the HTTP server."""

HEARTBEAT_S = 1.0
"""A quiet stream carries an empty batch this often, so that both ends notice a lost one."""


class LiveSpans:
    """Hands requests to those who watch; thread-safe.

    Args:
        prices: what calls are priced with.
        heartbeat_s: seconds after which a quiet stream carries an empty batch.
    """

    def __init__(self, prices: PriceBook, *, heartbeat_s: float = HEARTBEAT_S) -> None:
        self.prices = prices
        self.heartbeat_s = heartbeat_s
        self.changed = threading.Condition()
        self.closed = False
        self.watches: list[Watch] = []

    def offer(self, item: Accepted) -> None:
        """Hand a request to all who watch; costs nothing when nobody does."""
        if not self.watches:
            return
        with self.changed:
            for watch in self.watches:
                watch.put(item)
            self.changed.notify_all()

    def close(self) -> None:
        """End all streams; what is queued is still sent."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def watch(self) -> Watch:
        """Return a stream of what is taken from now on.

        Raises:
            RetryableError: too many watch already, or the collector is draining.
        """
        with self.changed:
            if self.closed:
                raise RetryableError("the collector is draining")
            if len(self.watches) >= MAX_WATCHERS:
                raise RetryableError(
                    f"{MAX_WATCHERS} watch this collector already",
                    hint="end another pyflare traces tail --collector",
                )
            watch = Watch(self)
            self.watches.append(watch)
            return watch


class Watch:
    """The stream of one watcher: one thread reads, others put and close.

    Source of the form: Apache Arrow columnar format, "IPC Streaming Format".
    """

    def __init__(self, live: LiveSpans) -> None:
        import pyarrow as pa

        from pyflare_proto.record import arrow_schema

        self._live = live
        self._items: deque[Accepted] = deque()
        self._spans = 0
        self._begun = self._ended = False
        self._schema = arrow_schema()
        self._nothing = pa.RecordBatch.from_pylist([], schema=self._schema)
        self._sink = io.BytesIO()
        self._stream = pa.ipc.new_stream(pa.PythonFile(self._sink, mode="w"), self._schema)

    def put(self, item: Accepted) -> None:
        """Queue a request, with `changed` held; the oldest make room."""
        self._items.append(item)
        self._spans += len(item)
        while self._spans > QUEUE_SPANS and len(self._items) > 1:
            self._spans -= len(self._items.popleft())

    def read(self) -> bytes | None:
        """Return the next bytes of the stream, None at its end; waits a heartbeat at the most.

        The first piece comes at once and has the schema.
        """
        if self._ended:
            return None
        items = self._next() if self._begun else []
        if items:
            self._stream.write_table(self._records(items))
        elif self._begun and self._live.closed:
            self._stream.close()
            self._ended = True
        else:
            self._begun = True
            self._stream.write_batch(self._nothing)
        piece = self._sink.getvalue()
        self._sink.seek(0)
        self._sink.truncate()
        return piece

    def close(self) -> None:
        """Watch no longer; may be called twice."""
        with self._live.changed:
            if self in self._live.watches:
                self._live.watches.remove(self)

    def _next(self) -> list[Accepted]:
        """Wait for requests, the end, or the time of a heartbeat."""
        deadline = time.monotonic() + self._live.heartbeat_s
        with self._live.changed:
            while not self._items and not self._live.closed:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._live.changed.wait(left)
            items = list(self._items)
            self._items.clear()
            self._spans = 0
            return items

    def _records(self, items: list[Accepted]) -> pa.Table:
        import numpy as np

        from pyflare_collector.normalize import normalize
        from pyflare_proto.otlp.decode import concat

        probability = np.concatenate([item.probability for item in items])
        batch = concat([item.batch for item in items])
        table = normalize(batch, self._live.prices, sampling_probability=probability)
        return table.cast(self._schema)
