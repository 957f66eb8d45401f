"""The pipeline: one request from its bytes to an answer, and on to a Parquet file.

    ingest:  decode -> reject bad ids -> sample -> reserve room -> log -> queue -> answer
    behind:  batcher -> writer (row groups -> files), see `writer` and `segments`

Room in the queue is reserved before the log is written, so what is durable is never
refused: a request is taken whole or not at all.

Memory, apart from the libraries (about 350 MB with numba, Arrow and the price list):
the queue (`max_queue_size` spans and 128 MiB, decoded), one batch in each worker's hand,
two row groups (32,768 spans or 48 MiB each, decoded, and their table, about as much
again), the windows of recent spans and calls (under 190 MB), and what the heap keeps for
the next request (`heap`). It does not grow with the number of spans collected: over 10
million spans of 550 bytes the process stayed below 0.9 GB.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from pyflare_collector.batcher import Batcher
from pyflare_collector.config import CollectorConfig
from pyflare_collector.counters import Counters
from pyflare_collector.decision import Decision
from pyflare_collector.ingest import IngestResult
from pyflare_collector.live import LiveSpans
from pyflare_collector.lock import DirectoryLock
from pyflare_collector.report import metrics_text, snapshot
from pyflare_collector.segments import Segments, Transformer
from pyflare_collector.transform import Accepted, Transform, batch_bytes
from pyflare_collector.wal import open_log
from pyflare_collector.wal_format import Record
from pyflare_collector.writer import SpanWriter
from pyflare_proto.errors import ConfigError, RetryableError
from pyflare_proto.otlp.batch import OtlpBatch

if TYPE_CHECKING:
    from pyflare_storage.dataset import DataDirectory
    from pyflare_storage.prices import PriceBook

__all__ = ["Pipeline", "SampleOutcome", "SpanSampler"]

_logger = logging.getLogger("pyflare.pipeline")

_STARTING, _RUNNING, _STOPPED = "starting", "running", "stopped"


class SampleOutcome(Protocol):
    """What a sampler decides about a batch of n spans."""

    @property
    def keep(self) -> NDArray[np.bool_]:
        """(n,) spans to keep."""

    @property
    def probability(self) -> NDArray[np.float64]:
        """(n,) probability with which each was to be kept."""


class SpanSampler(Protocol):
    """Decides which spans of a batch are kept; thread-safe."""

    def sample(
        self, batch: OtlpBatch, cost_nano_usd: Callable[[], NDArray[np.float64]] | None = None
    ) -> SampleOutcome:
        """Return the decision; `cost_nano_usd` gives (n,) costs, NaN for unknown, when asked."""


class Pipeline:
    """Takes requests and brings their spans into the data directory, exactly once.

    Args:
        config: all settings; `kafka` and `clickhouse` must be off.
        data: the data directory.
        prices: what calls are priced with.
        sampler: made from `config.sampler` when None.
        transform: makes tables of requests; normalises and prices when None.
        clock: monotonic seconds.
        wall_clock_ns: nanoseconds since 1970, for the numbers of log segments.

    Raises:
        ConfigError: a destination is configured that this collector does not have.
    """

    def __init__(
        self,
        config: CollectorConfig,
        data: DataDirectory,
        prices: PriceBook,
        *,
        sampler: SpanSampler | None = None,
        transform: Transformer | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        _require_parquet(config)
        self.config = config
        self.counters = Counters()
        self._data = data
        self._prices = prices
        self._lock = DirectoryLock(data.lock_file)
        self._sampler = sampler if sampler is not None else _sampler(config, clock)
        self.log = open_log(
            data.wal, config.storage.durability, clock=clock, wall_clock_ns=wall_clock_ns
        )
        self.segments = Segments(
            data,
            self.log,
            Transform(data, prices) if transform is None else transform,
            self._restore,
            compression=config.storage.parquet.compression,
            counters=self.counters,
        )
        self.writer = SpanWriter(
            self.segments,
            self.log,
            config.storage.parquet,
            idle_s=config.batcher.max_batch_timeout_ms / 1000,
            clock=clock,
        )
        self.batcher: Batcher[Accepted] = Batcher(
            config.batcher, spans_of=len, bytes_of=lambda item: item.size_bytes, clock=clock
        )
        self.batcher.on_batch(self.writer.consume)
        self.batcher.on_drop(self.writer.skip)
        self.live = LiveSpans(prices)
        self._clock = clock
        self._state = _STARTING
        self._in_flight = 0
        self._quiet = threading.Condition()

    def start(self) -> None:
        """Take the data directory, bring what an earlier run left into files, start the stages.

        Raises:
            ConfigError: another collector has the data directory.
            StorageError: the data directory takes no data.
        """
        self._data.create()
        self._lock.acquire()
        try:
            self.log.start(above=self._data.max_sequence())
            self.segments.recover()
        except BaseException:
            self.log.shutdown()
            self._lock.release()
            raise
        self.writer.start()
        self.batcher.start()
        self._state = _RUNNING

    def ingest(self, payload: bytes, /) -> IngestResult:
        """Take the protobuf bytes of one export request; thread-safe, waits until it is durable.

        Raises:
            InvalidDataError: the bytes are no such request.
            RetryableError: there is no room, or the collector is not running.
            StorageError: the disk takes no data.
        """
        with self._quiet:
            if self._state != _RUNNING:
                raise RetryableError(f"the collector is {self._state}")
            self._in_flight += 1
        try:
            return self._ingest(payload)
        finally:
            with self._quiet:
                self._in_flight -= 1
                self._quiet.notify_all()

    def shutdown(self, timeout_s: float = 30.0) -> None:
        """Finish the requests in work and publish every span; safe without `start`, and twice.

        What cannot be published in time stays in the log for the next start.
        """
        deadline = self._clock() + timeout_s
        with self._quiet:
            started, self._state = self._state == _RUNNING, _STOPPED
            self.live.close()
            while self._in_flight and self._clock() < deadline:
                self._quiet.wait(max(0.0, deadline - self._clock()))
        if not started:
            return
        self.batcher.shutdown(max(0.1, deadline - self._clock()))
        self.log.shutdown(max(0.1, deadline - self._clock()))
        self.writer.shutdown(max(0.1, deadline - self._clock()))
        self._lock.release()

    def snapshot(self) -> dict[str, object]:
        """Return counters, queues and the state of the disk as JSON values, for `/status`."""
        return snapshot(self)

    def metrics_text(self) -> str:
        """Return the counters in the Prometheus text format, for `/metrics`."""
        return metrics_text(self)

    def _ingest(self, payload: bytes) -> IngestResult:
        from pyflare_collector.normalize import KEYS
        from pyflare_proto.otlp.decode import decode, select

        batch = decode([payload], KEYS)
        total = len(batch)
        valid = batch.valid_ids
        rejected = total - int(valid.sum())
        if total > rejected:
            decision = self._decide(select(batch, valid) if rejected else batch, valid)
            kept = select(batch, decision.keep) if not decision.keep.all() else batch
            if len(kept):
                note = decision.encode(valid)
                self._take(payload, note, kept, decision.probability)
        else:
            kept = select(batch, valid)
        self.counters.add_all(
            {
                "requests": 1,
                "received": total,
                "accepted": len(kept),
                "sampled_out": total - rejected - len(kept),
                "request_bytes": len(payload),
            }
        )
        self.counters.add("rejected", rejected, "bad_ids")
        message = f"{rejected} spans without a valid trace and span id" if rejected else ""
        return IngestResult(total - rejected, rejected, message)

    def _decide(self, batch: OtlpBatch, valid: NDArray[np.bool_]) -> Decision:
        """Sample the spans with valid ids; return the decision about all of them."""

        def cost() -> NDArray[np.float64]:
            from pyflare_collector.normalize import normalize

            column = normalize(batch, self._prices)["cost_nano_usd"]
            return np.asarray(column.to_numpy(), dtype=np.float64)

        outcome = self._sampler.sample(batch, cost)
        keep = np.zeros(len(valid), dtype=np.bool_)
        keep[valid] = outcome.keep
        return Decision(keep, outcome.probability[outcome.keep])

    def _take(
        self, payload: bytes, note: bytes, batch: OtlpBatch, probability: NDArray[np.float64]
    ) -> None:
        """Make the request durable and queue it."""
        spans, size = len(batch), batch_bytes(batch)
        self.batcher.reserve(spans, size)
        try:
            segment = self.log.append(note, payload)
        except BaseException:
            self.batcher.release(spans, size)
            raise
        item = Accepted(segment, batch, probability, size)
        self.batcher.add_reserved([item], spans=spans, size_bytes=size)
        self.live.offer(item)

    def _restore(self, record: Record, segment: int) -> Accepted:
        """Return the request of a log record as it was taken."""
        from pyflare_collector.normalize import KEYS
        from pyflare_proto.otlp.decode import decode, select

        batch = decode([record.payload], KEYS)
        decision = Decision.decode(record.note, batch.valid_ids)
        if not decision.keep.all():
            batch = select(batch, decision.keep)
        return Accepted(segment, batch, decision.probability, batch_bytes(batch))


def _sampler(config: CollectorConfig, clock: Callable[[], float]) -> SpanSampler:
    from pyflare_collector.sampler import Sampler

    return Sampler(config.sampler, clock=clock)


def _require_parquet(config: CollectorConfig) -> None:
    """Refuse destinations that are configured and would silently get nothing."""
    for name, value in (
        ("kafka.brokers", ",".join(config.kafka.brokers)),
        ("storage.clickhouse.url", config.storage.clickhouse.url),
    ):
        if value:
            raise ConfigError(
                f"{name} is set, and this collector writes Parquet only",
                hint="leave it empty, and copy what is collected: pyflare load --source A --to B",
            )
    if not config.storage.parquet.enabled:
        raise ConfigError(
            "storage.parquet.enabled is false, and there is no other destination",
            hint="set storage.parquet.enabled to true",
        )
