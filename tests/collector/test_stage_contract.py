"""Every stage keeps the contract of `pyflare_collector.stage`, whatever it does inside."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pyflare_collector.batcher import Batcher
from pyflare_collector.config import BatcherConfig, CollectorConfig, ParquetConfig, StorageConfig
from pyflare_collector.counters import Counters
from pyflare_collector.log import VolatileLog
from pyflare_collector.pipeline import Pipeline
from pyflare_collector.segments import Segments
from pyflare_collector.stage import Stage
from pyflare_collector.transform import Accepted, batch_bytes
from pyflare_collector.wal_format import Record
from pyflare_collector.writer import SpanWriter
from pyflare_proto.errors import RetryableError
from pyflare_proto.otlp.decode import KeyTable, decode
from pyflare_storage.dataset import DataDirectory
from pyflare_storage.prices import PriceBook
from tests.collector.pipeline_helpers import EveryNth, PlainTransform, published_numbers, request

KEYS = KeyTable(())


class Subject:
    """A stage under test: how to feed it, and what has come out of it."""

    def __init__(self, stage: Stage[object], feed: Callable[[int], None]) -> None:
        self.stage = stage
        self.feed = feed
        """Consumes one batch, of the span with this number."""
        self.out: Callable[[], list[int]] = list
        """Returns the numbers that were handed on, sorted."""


def batcher(_: Path) -> Subject:
    """Return a batcher."""
    taken: list[int] = []
    stage: Batcher[int] = Batcher(BatcherConfig(max_batch_size=3, max_batch_timeout_ms=60_000))
    stage.on_batch(taken.extend)
    subject = Subject(stage, stage.consume)  # type: ignore[arg-type]  # a stage of numbers
    subject.out = lambda: sorted(taken)
    return subject


def writer(path: Path) -> Subject:
    """Return a Parquet stage."""
    data = DataDirectory(path / "data")
    data.create()
    log = VolatileLog()
    log.start()

    def restore(record: Record, seq: int) -> Accepted:
        batch = decode([record.payload], KEYS)
        return Accepted(seq, batch, batch.valid_ids.astype(float), batch_bytes(batch))

    segments = Segments(data, log, PlainTransform(), restore, counters=Counters())
    stage = SpanWriter(segments, log, ParquetConfig())

    def feed(number: int) -> None:
        payload = request(number, 1)
        stage.consume([restore(Record(b"", payload), log.append(b"", payload))])

    subject = Subject(stage, feed)  # type: ignore[arg-type]  # a stage of requests
    subject.out = lambda: published_numbers(data.spans)
    return subject


class PipelineStage:
    """The whole pipeline as a stage of payloads."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.start = pipeline.start
        self.shutdown = pipeline.shutdown
        self._ingest = pipeline.ingest

    def consume(self, batch: bytes, /) -> None:
        """Take a request."""
        self._ingest(batch)


def pipeline(path: Path) -> Subject:
    """Return the whole pipeline."""
    data = DataDirectory(path / "data")
    config = CollectorConfig(storage=StorageConfig(parquet=ParquetConfig()))
    stage = PipelineStage(
        Pipeline(config, data, PriceBook(), sampler=EveryNth(), transform=PlainTransform())
    )
    subject = Subject(stage, lambda number: stage.consume(request(number, 1)))  # type: ignore[arg-type]  # a stage of bytes
    subject.out = lambda: published_numbers(data.spans)
    return subject


STAGES = pytest.mark.parametrize("make", [batcher, writer, pipeline])


@STAGES
def test_shutdown_hands_on_all_that_was_consumed(
    make: Callable[[Path], Subject], tmp_path: Path
) -> None:
    """When `shutdown` returns, everything that was taken has been handed on, once."""
    subject = make(tmp_path)
    subject.stage.start()
    for number in range(1, 8):
        subject.feed(number)
    subject.stage.shutdown()
    assert subject.out() == list(range(1, 8))


@STAGES
def test_shutdown_is_safe_at_any_time(make: Callable[[Path], Subject], tmp_path: Path) -> None:
    """`shutdown` works without `start` and twice."""
    make(tmp_path / "a").stage.shutdown()
    subject = make(tmp_path / "b")
    subject.stage.start()
    subject.stage.shutdown()
    subject.stage.shutdown()
    assert subject.out() == []


@STAGES
def test_after_shutdown_nothing_is_taken(make: Callable[[Path], Subject], tmp_path: Path) -> None:
    """A batch that comes later is refused, retryable, and never handed on."""
    subject = make(tmp_path)
    subject.stage.start()
    subject.feed(1)
    subject.stage.shutdown()
    with pytest.raises(RetryableError):
        subject.feed(2)
    assert subject.out() == [1]


@STAGES
def test_consume_is_thread_safe(make: Callable[[Path], Subject], tmp_path: Path) -> None:
    """Batches from several threads all arrive, each once."""
    subject = make(tmp_path)
    subject.stage.start()

    def send(first: int) -> None:
        for number in range(first, first + 25):
            subject.feed(number)

    threads = [threading.Thread(target=send, args=(1 + 25 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    subject.stage.shutdown()
    assert subject.out() == list(range(1, 101))


@STAGES
def test_no_thread_stays(make: Callable[[Path], Subject], tmp_path: Path) -> None:
    """When `shutdown` returns, the stage's background work has ended."""
    before = set(threading.enumerate())
    subject = make(tmp_path)
    subject.stage.start()
    subject.feed(1)
    subject.stage.shutdown()
    left = [t.name for t in set(threading.enumerate()) - before if t.name.startswith("pyflare")]
    assert left == []
