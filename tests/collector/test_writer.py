"""The Parquet stage: when files end, what a failure costs, and that its memory is bounded."""

from __future__ import annotations

import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pyflare_collector import writer as writer_module
from pyflare_collector.config import ParquetConfig
from pyflare_collector.counters import Counters
from pyflare_collector.log import VolatileLog
from pyflare_collector.segments import Segments
from pyflare_collector.transform import Accepted, batch_bytes
from pyflare_collector.wal import WriteAheadLog
from pyflare_collector.wal_format import Record
from pyflare_collector.writer import SpanWriter
from pyflare_proto.errors import RetryableError, StorageError
from pyflare_proto.otlp.decode import KeyTable, decode
from pyflare_proto.record import arrow_schema
from pyflare_storage.dataset import DataDirectory
from tests.collector.pipeline_helpers import (
    Gate,
    PlainTransform,
    published_numbers,
    request,
    wait_until,
)

KEYS = KeyTable(())


def restore(record: Record, seq: int) -> Accepted:
    """Make a request of a log record."""
    batch = decode([record.payload], KEYS)
    return Accepted(seq, batch, batch.valid_ids.astype(float), batch_bytes(batch))


class Bench:
    """A writer with its log, on a clock that the test moves."""

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        self.now = 1000.0
        self.data = DataDirectory(path)
        self.data.create()
        self.log = (
            WriteAheadLog(self.data.wal, sync=False, clock=self.clock)
            if durable
            else VolatileLog(clock=self.clock)
        )
        self.log.start()
        self.transform = PlainTransform()
        self.transform.published = lambda: set(published_numbers(self.data.spans))
        self.counters = Counters()
        self.segments = Segments(
            self.data,
            self.log,
            self.transform,
            restore,
            counters=self.counters,
            row_group_spans=100,
        )
        self.writer = SpanWriter(
            self.segments,
            self.log,
            ParquetConfig(roll_seconds=60, roll_mib=1),
            idle_s=5,
            clock=self.clock,
        )

    def clock(self) -> float:
        """Return the time that the test has set."""
        return self.now

    def accept(self, first: int, count: int, *, text_bytes: int = 0) -> Accepted:
        """Put a request into the log, as the pipeline does before it queues it."""
        payload = request(first, count, text_bytes=text_bytes)
        return restore(Record(b"", payload), self.log.append(b"", payload))

    def take(self, first: int, count: int) -> None:
        """Accept a request and hand it to the writer."""
        self.writer.consume([self.accept(first, count)])

    def published(self) -> list[int]:
        """Return the numbers in published files."""
        return published_numbers(self.data.spans)

    def polls(self) -> None:
        """Let the writer look at the clock a few times."""
        time.sleep(0.3)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Return a running writer."""
    result = Bench(tmp_path / "data")
    result.writer.start()
    yield result
    result.writer.shutdown(5)
    result.log.shutdown()


def test_a_quiet_moment_closes_the_file(bench: Bench) -> None:
    """Nothing arrives for `idle_s`: what is there is published, and its segment is removed."""
    bench.take(1, 10)
    bench.now += 4.9
    bench.polls()
    assert bench.published() == []
    bench.now += 0.2
    wait_until(lambda: bench.published() == list(range(1, 11)))
    wait_until(lambda: bench.log.unpublished() == [])
    assert bench.log.open_segment() is None


def test_age_closes_the_file(bench: Bench) -> None:
    """Spans that keep trickling in are published after `roll_seconds`."""
    for second in range(13):
        bench.take(1 + second, 1)
        bench.now += 4.9
    wait_until(lambda: len(bench.published()) >= 13)


def test_size_closes_the_file(bench: Bench) -> None:
    """A segment of `roll_mib` is published although it is young and busy."""
    for first in (1, 11, 21):
        bench.writer.consume([bench.accept(first, 10, text_bytes=40_000)])
    wait_until(lambda: bench.published() == list(range(1, 31)))


def test_a_file_waits_for_every_request_of_its_segment(bench: Bench) -> None:
    """Requests come out of order: the file appears when the last of the segment is here."""
    early, late = bench.accept(1, 2), bench.accept(3, 2)
    bench.log.roll()
    bench.writer.consume([late, bench.accept(5, 2)])
    bench.polls()
    assert bench.published() == []
    bench.writer.consume([early])
    wait_until(lambda: bench.published() == [1, 2, 3, 4])


def test_a_dropped_request_does_not_hold_up_its_segment(bench: Bench) -> None:
    """A request that the queue threw out is not waited for."""
    dropped, kept = bench.accept(1, 2), bench.accept(3, 2)
    bench.log.roll()
    bench.writer.consume([kept])
    bench.writer.skip([dropped])
    wait_until(lambda: bench.published() == [3, 4])


def test_the_file_is_what_readers_expect(bench: Bench) -> None:
    """The file has the schema of the record, a name with its times, and is private."""
    bench.take(5, 3)
    bench.writer.shutdown()
    (file,) = bench.data.list_files()
    assert pq.read_schema(file.path).equals(arrow_schema(), check_metadata=False)
    assert pq.read_schema(file.path).metadata[b"pyflare.schema"] == b"pyflare.spans/1"
    assert file.writer == "collect"
    times = pq.read_table(file.path)["start_time"].cast("int64").to_pylist()
    assert (file.first_start_ns, file.last_start_ns) == (min(times), max(times))
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_row_groups_gather_requests(bench: Bench) -> None:
    """Small requests are normalised together: 30 requests of 10 spans make 3 row groups."""
    bench.writer.consume([bench.accept(1 + 10 * i, 10) for i in range(10)])
    wait_until(lambda: bench.counters.get("row_groups") == 1)
    bench.writer.consume([bench.accept(101 + 10 * i, 10) for i in range(10)])
    wait_until(lambda: bench.counters.get("row_groups") == 2)
    bench.writer.consume([bench.accept(201 + 10 * i, 10) for i in range(10)])
    bench.writer.shutdown()
    assert bench.published() == list(range(1, 301))
    assert bench.counters.get("row_groups") == 3


def test_a_full_row_group_makes_senders_wait(bench: Bench) -> None:
    """While one row group is written and the next is full, `consume` waits: memory is bounded."""
    gate = Gate(is_open=False)
    bench.transform.fail = gate
    bench.take(1, 100)
    wait_until(lambda: bench.writer._inbox_spans == 0)
    bench.take(101, 100)
    sender = threading.Thread(target=bench.take, args=(201, 1))
    sender.start()
    sender.join(0.05)
    assert sender.is_alive()
    assert bench.writer._inbox_spans == 100
    gate.open()
    sender.join(30)
    assert not sender.is_alive()
    bench.writer.shutdown()
    assert bench.published() == list(range(1, 202))


def test_a_failure_is_made_good_from_the_log(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk refuses a row group: said in `error`, retried, and every span is written once."""
    monkeypatch.setattr(writer_module, "_RETRY_FIRST_S", 0.01)
    full = threading.Event()
    full.set()

    def fail(_: list[int]) -> None:
        if full.is_set():
            raise StorageError("cannot write: No space left on device")

    bench.transform.fail = fail
    bench.take(1, 100)
    wait_until(lambda: bench.writer.error is not None)
    late = bench.accept(101, 5)
    full.clear()
    wait_until(lambda: bench.writer.error is None)
    bench.writer.consume([late])
    bench.take(201, 5)
    bench.writer.shutdown()
    assert bench.published() == [*range(1, 106), *range(201, 206)]
    assert bench.log.unpublished() == []
    assert bench.counters.get("written") == 110
    assert bench.counters.get("recovered") == 0
    assert list(bench.data.temporary.iterdir()) == []


def test_a_failure_at_the_footer(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Publishing fails once, after row groups were written: no half file, no span twice."""
    monkeypatch.setattr(writer_module, "_RETRY_FIRST_S", 0.01)
    real = DataDirectory.publish
    calls: list[Path] = []

    def publish(temporary: Path, final: Path) -> None:
        calls.append(final)
        if len(calls) == 1:
            raise StorageError("cannot put it in place: No space left on device")
        real(temporary, final)

    monkeypatch.setattr(DataDirectory, "publish", staticmethod(publish))
    bench.take(1, 10)
    bench.now += 6
    wait_until(lambda: bench.published() == list(range(1, 11)))
    assert len(calls) == 2
    assert list(bench.data.temporary.iterdir()) == []


def test_what_cannot_be_published_stays_in_the_log(bench: Bench) -> None:
    """A shutdown while the disk is full leaves the spans for the next start."""

    def fail(_: list[int]) -> None:
        raise StorageError("cannot write: No space left on device")

    bench.transform.fail = fail
    bench.take(1, 10)
    bench.writer.shutdown(5)
    bench.log.shutdown()
    assert bench.published() == []
    bench.transform.fail = lambda _: None
    bench.segments.recover()
    assert bench.published() == list(range(1, 11))


def test_without_a_log_losses_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`durability: none`: a failed row group is lost and counted, the next ones are written."""
    monkeypatch.setattr(writer_module, "_RETRY_FIRST_S", 0.01)
    bench = Bench(tmp_path / "data", durable=False)
    failing = threading.Event()
    failing.set()

    def fail(_: list[int]) -> None:
        if failing.is_set():
            failing.clear()
            raise StorageError("cannot write: No space left on device")

    bench.transform.fail = fail
    bench.writer.start()
    bench.take(1, 100)
    wait_until(lambda: bench.counters.get("dropped", "storage") == 100)
    bench.take(101, 100)
    bench.writer.shutdown()
    assert bench.published() == list(range(101, 201))
    assert bench.counters.get("written") == 100


def test_after_shutdown_nothing_is_taken(bench: Bench) -> None:
    """A stage that has stopped refuses, retryable; stopping twice is harmless."""
    item = bench.accept(1, 1)
    bench.writer.shutdown()
    bench.writer.shutdown()
    with pytest.raises(RetryableError):
        bench.writer.consume([item])
