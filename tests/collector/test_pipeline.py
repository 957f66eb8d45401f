"""The pipeline from a request's bytes to published files, and the account of every span."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pyflare_collector.config import (
    BatcherConfig,
    ClickHouseConfig,
    CollectorConfig,
    Durability,
    KafkaConfig,
    OnFull,
    ParquetConfig,
    StorageConfig,
)
from pyflare_collector.pipeline import Pipeline
from pyflare_proto.errors import (
    ConfigError,
    InvalidDataError,
    RetryableError,
    StorageError,
)
from pyflare_storage.dataset import DataDirectory
from pyflare_storage.prices import PriceBook
from tests.collector.pipeline_helpers import (
    EveryNth,
    Gate,
    PlainTransform,
    published_numbers,
    request,
    wait_until,
)
from tests.collector.test_wal import largest_file

QUICK = BatcherConfig(max_batch_size=64, max_batch_timeout_ms=20, max_queue_size=1000)
LONG = ParquetConfig(roll_seconds=600, roll_mib=512)


def make(
    path: Path,
    *,
    batcher: BatcherConfig = QUICK,
    durability: Durability = "fsync",
    every: int = 1,
    transform: PlainTransform | None = None,
) -> Pipeline:
    """Return a pipeline that has not been started."""
    data = DataDirectory(path)
    transform = transform or PlainTransform()
    transform.published = lambda: set(published_numbers(data.spans))
    return Pipeline(
        CollectorConfig(
            batcher=batcher, storage=StorageConfig(parquet=LONG, durability=durability)
        ),
        data,
        PriceBook(),
        sampler=EveryNth(every),
        transform=transform,
    )


def account(pipeline: Pipeline) -> None:
    """Check that every span that arrived is counted in exactly one place."""
    spans = pipeline.snapshot()["spans"]
    assert isinstance(spans, dict)
    rejected, dropped = sum(spans["rejected"].values()), sum(spans["dropped"].values())
    assert spans["received"] == spans["accepted"] + rejected + spans["sampled_out"]
    done = spans["written"] + spans["deduplicated"] + dropped + spans["pending"]
    assert spans["accepted"] + spans["recovered"] == done


@pytest.mark.parametrize("durability", ["fsync", "os", "none"])
def test_what_is_taken_is_published(tmp_path: Path, durability: Durability) -> None:
    """All kinds of durability: what `ingest` took is in the files after the shutdown, once."""
    pipeline = make(tmp_path / "data", durability=durability)
    pipeline.start()
    for first in range(1, 1000, 100):
        result = pipeline.ingest(request(first, 100))
        assert (result.accepted, result.rejected, result.message) == (100, 0, "")
    pipeline.shutdown()
    assert published_numbers(tmp_path / "data" / "spans") == list(range(1, 1001))
    assert list((tmp_path / "data" / "wal").iterdir()) == []
    account(pipeline)


def test_spans_appear_within_the_batch_timeout(tmp_path: Path) -> None:
    """A single request is published without a shutdown, when nothing follows it."""
    pipeline = make(tmp_path / "data")
    pipeline.start()
    pipeline.ingest(request(1, 3))
    wait_until(lambda: published_numbers(tmp_path / "data" / "spans") == [1, 2, 3])
    pipeline.shutdown()


def test_bad_ids_are_rejected_and_said(tmp_path: Path) -> None:
    """Spans without valid ids are rejected in a partial success; the others are kept."""
    pipeline = make(tmp_path / "data")
    pipeline.start()
    result = pipeline.ingest(request(1, 10, bad_ids=3))
    assert (result.accepted, result.rejected) == (7, 3)
    assert "3 spans" in result.message
    result = pipeline.ingest(request(1, 2, bad_ids=2))
    assert (result.accepted, result.rejected) == (0, 2)
    pipeline.shutdown()
    assert published_numbers(tmp_path / "data" / "spans") == list(range(1, 8))
    account(pipeline)


def test_an_empty_request_is_fine(tmp_path: Path) -> None:
    """No bytes, and a request without spans: accepted, nothing written."""
    pipeline = make(tmp_path / "data")
    pipeline.start()
    assert pipeline.ingest(b"").accepted == 0
    assert pipeline.ingest(request(1, 0)).accepted == 0
    assert pipeline.log.statistics.records == 0
    pipeline.shutdown()


def test_garbage_is_refused_for_good(tmp_path: Path) -> None:
    """Bytes that are no request: InvalidDataError, nothing counted as received."""
    pipeline = make(tmp_path / "data")
    pipeline.start()
    with pytest.raises(InvalidDataError):
        pipeline.ingest(request(1, 5)[:-3])
    assert pipeline.counters.get("received") == 0
    pipeline.shutdown()
    assert published_numbers(tmp_path / "data" / "spans") == []


def test_sampling_is_recorded(tmp_path: Path) -> None:
    """Only the sampler's choice is written, with its probability; the rest is counted."""
    pipeline = make(tmp_path / "data", every=4)
    pipeline.start()
    assert pipeline.ingest(request(1, 100)).accepted == 100
    assert pipeline.ingest(request(101, 3)).accepted == 3
    pipeline.shutdown()
    spans = tmp_path / "data" / "spans"
    assert published_numbers(spans) == list(range(4, 101, 4))
    (path,) = spans.iterdir()
    assert set(pq.read_table(path)["sampling_probability"].to_pylist()) == {0.25}
    assert pipeline.counters.get("sampled_out") == 78
    assert pipeline.log.statistics.records == 1, "a request without kept spans is not logged"
    account(pipeline)


def crash(pipeline: Pipeline, path: Path) -> DataDirectory:
    """Return the data directory as a `kill -9` at this moment would leave it."""
    shutil.copytree(pipeline._data.path, path)
    return DataDirectory(path)


def test_a_restart_recovers_with_the_same_decisions(tmp_path: Path) -> None:
    """Acknowledged and not published: recovered, rejected and sampled as it was decided then."""
    pipeline = make(tmp_path / "data", every=3, batcher=replace(QUICK, max_batch_timeout_ms=60_000))
    pipeline.start()
    pipeline.ingest(request(1, 100, bad_ids=10))
    pipeline.ingest(request(101, 100))
    assert published_numbers(tmp_path / "data" / "spans") == []
    data = crash(pipeline, tmp_path / "after")
    pipeline.shutdown()
    again = make(data.path, every=7)
    again.start()
    expected = [*range(3, 91, 3), *range(102, 201, 3)]
    assert published_numbers(data.spans) == expected
    assert again.counters.get("recovered") == len(expected)
    table = pq.read_table(next(data.spans.iterdir()))
    assert set(table["sampling_probability"].to_pylist()) == {1 / 3}
    again.shutdown()
    account(again)


def test_a_retry_is_not_written_twice(tmp_path: Path) -> None:
    """A client repeats what it got no answer for, before and after a restart: written once."""
    pipeline = make(tmp_path / "data")
    pipeline.start()
    pipeline.ingest(request(1, 50))
    pipeline.ingest(request(1, 50))
    wait_until(lambda: len(published_numbers(tmp_path / "data" / "spans")) == 50)
    pipeline.shutdown()
    again = make(tmp_path / "data")
    again.start()
    again.ingest(request(1, 60))
    again.shutdown()
    assert published_numbers(tmp_path / "data" / "spans") == list(range(1, 61))
    assert again.counters.get("deduplicated") == 50
    account(again)


def test_one_collector_a_directory(tmp_path: Path) -> None:
    """A second collector is told who has the directory; after the first has gone it starts."""
    first, second = make(tmp_path / "data"), make(tmp_path / "data")
    first.start()
    with pytest.raises(ConfigError, match="another collector") as caught:
        second.start()
    assert "--data" in str(caught.value.hint)
    first.shutdown()
    second.start()
    second.shutdown()


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (CollectorConfig(kafka=KafkaConfig(brokers=("kafka:9092",))), "kafka.brokers"),
        (
            CollectorConfig(storage=StorageConfig(clickhouse=ClickHouseConfig(url="http://x"))),
            "storage.clickhouse.url",
        ),
        (
            CollectorConfig(storage=StorageConfig(parquet=ParquetConfig(enabled=False))),
            "storage.parquet.enabled",
        ),
    ],
)
def test_other_destinations_are_refused(tmp_path: Path, config: CollectorConfig, key: str) -> None:
    """A destination that would silently get nothing is an error that names its key."""
    with pytest.raises(ConfigError, match=key):
        Pipeline(config, DataDirectory(tmp_path), PriceBook(), sampler=EveryNth())


def test_a_full_disk_refuses_and_loses_nothing(tmp_path: Path) -> None:
    """The kernel refuses to write: StorageError, then all that was taken is published."""
    pipeline = make(tmp_path / "data", batcher=replace(QUICK, max_batch_timeout_ms=60_000))
    pipeline.start()
    pipeline.ingest(request(1, 10))
    with largest_file(4096), pytest.raises(StorageError):
        pipeline.ingest(request(100, 500))
    assert pipeline.batcher.get_pending_count() == 10
    pipeline.ingest(request(11, 10))
    pipeline.shutdown()
    assert published_numbers(tmp_path / "data" / "spans") == list(range(1, 21))
    account(pipeline)


def test_not_running_is_retryable(tmp_path: Path) -> None:
    """Before the start and after the shutdown a client is told to come back."""
    pipeline = make(tmp_path / "data")
    pipeline.shutdown()
    with pytest.raises(RetryableError, match="the collector is"):
        pipeline.ingest(request(1, 1))
    other = make(tmp_path / "data")
    other.start()
    other.shutdown()
    other.shutdown()
    with pytest.raises(RetryableError):
        other.ingest(request(1, 1))


@pytest.mark.parametrize("on_full", ["refuse", "drop_oldest", "block"])
def test_overload_is_answered_and_counted(tmp_path: Path, on_full: OnFull) -> None:
    """A writer that stands still: clients are refused or old spans dropped, and counted."""
    gate = Gate(is_open=False)
    transform = PlainTransform(fail=gate)
    pipeline = make(
        tmp_path / "data",
        batcher=replace(QUICK, max_queue_size=100, on_full=on_full, num_workers=1),
        transform=transform,
    )
    pipeline.batcher._max_wait_s = 0.01
    pipeline.segments.row_group_spans = 100
    pipeline.start()
    answers = {"taken": 0, "refused": 0}
    for first in range(1, 2000, 50):
        try:
            pipeline.ingest(request(first, 50))
            answers["taken"] += 50
        except RetryableError:
            answers["refused"] += 50
    # One row group is written, one is gathered, one batch is in the worker's hand.
    assert pipeline.batcher.get_pending_count() <= 100
    gate.open()
    pipeline.shutdown()
    found = published_numbers(tmp_path / "data" / "spans")
    assert len(found) == len(set(found))
    dropped = pipeline.batcher.statistics.dropped_oldest
    assert len(found) == answers["taken"] - dropped
    assert (dropped > 0) == (on_full == "drop_oldest")
    assert (answers["refused"] > 0) == (on_full != "drop_oldest")
    account(pipeline)


def test_many_senders_at_once(tmp_path: Path) -> None:
    """Eight threads send: every request is answered, every span is written once."""
    pipeline = make(tmp_path / "data")
    pipeline.start()

    def send(start: int) -> None:
        for first in range(start, start + 1000, 20):
            pipeline.ingest(request(first, 20))

    threads = [threading.Thread(target=send, args=(1 + 1000 * i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    pipeline.shutdown()
    assert published_numbers(tmp_path / "data" / "spans") == list(range(1, 8001))
    assert pipeline.log.statistics.commits <= pipeline.log.statistics.records
    account(pipeline)


def test_metrics_are_prometheus_text(tmp_path: Path) -> None:
    """Each metric has help, type, a name with its unit, and the value that `/status` says."""
    pipeline = make(tmp_path / "data", every=2)
    pipeline.start()
    pipeline.ingest(request(1, 10, bad_ids=1))
    pipeline.shutdown()
    lines = pipeline.metrics_text().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert values["pyflare_collector_spans_received_total"] == "10"
    assert values['pyflare_collector_spans_rejected_total{reason="bad_ids"}'] == "1"
    assert values["pyflare_collector_spans_accepted_total"] == "4"
    assert values["pyflare_collector_spans_sampled_out_total"] == "5"
    assert values["pyflare_collector_spans_written_total"] == "4"
    assert values["pyflare_collector_wal_bytes"] == "0"
    for name in {key.split("{")[0] for key in values}:
        assert any(line.startswith(f"# TYPE {name} ") for line in lines)
