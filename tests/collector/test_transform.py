"""From requests to a row group: repeated spans go, and the windows survive a restart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from pyflare_collector import transform as transform_module
from pyflare_collector.normalize import KEYS
from pyflare_collector.segment_file import SegmentFile
from pyflare_collector.transform import Accepted, Transform, batch_bytes
from pyflare_proto.otlp.decode import decode
from pyflare_proto.record import arrow_schema
from pyflare_storage.dataset import DataDirectory
from pyflare_storage.prices import PriceBook
from tests.collector.pipeline_helpers import request
from tests.otlp_payloads import START_NS, key_values


def item(payload: bytes, probability: float = 1.0) -> Accepted:
    """Return a request as the pipeline queues it."""
    batch = decode([payload], KEYS)
    return Accepted(1, batch, np.full(len(batch), probability), batch_bytes(batch))


def call(scope: str, span_id: int, parent_id: int = 0) -> bytes:
    """Return a request of one model call told by `scope`, answered as `resp-1`."""
    message = ExportTraceServiceRequest()
    spans = message.resource_spans.add().scope_spans.add()
    spans.scope.name = scope
    span = spans.spans.add(
        trace_id=(7).to_bytes(16, "big"),
        span_id=span_id.to_bytes(8, "big"),
        parent_span_id=parent_id.to_bytes(8, "big") if parent_id else b"",
        name="chat",
        start_time_unix_nano=START_NS,
        end_time_unix_nano=START_NS + 1_000_000_000,
    )
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "gen_ai.response.id": "resp-1",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 50,
    }
    span.attributes.extend(key_values(attributes))
    return bytes(message.SerializeToString())


def publish(data: DataDirectory, seq: int, table: pa.Table) -> None:
    """Put a row group into a file of its own."""
    file = SegmentFile(data, seq)
    file.write(table)
    file.publish()


@pytest.fixture
def data(tmp_path: Path) -> DataDirectory:
    """Return an empty data directory."""
    result = DataDirectory(tmp_path / "data")
    result.create()
    return result


@pytest.fixture
def transform(data: DataDirectory) -> Transform:
    """Return a transform without memories."""
    return Transform(data, PriceBook())


def spans_of(table: pa.Table) -> list[int]:
    """Return the numbers of the spans."""
    return [int(text, 16) for text in table["span_id"].to_pylist()]


def test_requests_become_one_row_group(transform: Transform) -> None:
    """Rows are in the order of arrival, each with the probability that it was kept with."""
    result = transform([item(request(1, 3)), item(request(11, 2), 0.25)])
    assert spans_of(result.table) == [1, 2, 3, 11, 12]
    assert result.table["sampling_probability"].to_pylist() == [1, 1, 1, 0.25, 0.25]
    assert result.deduplicated == 0


def test_repeated_spans_go(transform: Transform) -> None:
    """Seen in the same row group or an earlier one: left out, and counted."""
    first = transform([item(request(1, 3)), item(request(2, 3))])
    assert (spans_of(first.table), first.deduplicated) == ([1, 2, 3, 4], 2)
    second = transform([item(request(3, 4))])
    assert (spans_of(second.table), second.deduplicated) == ([5, 6], 2)


def test_a_failed_row_group_is_not_remembered(
    transform: Transform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans that did not get into a table are not duplicates when they come again."""

    def fail(_: object, *, distinct: bool) -> pa.Table:  # noqa: ARG001 - the signature
        raise ValueError("a defect")

    with monkeypatch.context() as patch:
        patch.setattr(transform._calls, "apply", fail)
        with pytest.raises(ValueError, match="a defect"):
            transform([item(request(1, 3))])
    assert spans_of(transform([item(request(1, 3))]).table) == [1, 2, 3]


def test_the_window_is_filled_from_files(data: DataDirectory, transform: Transform) -> None:
    """After `reset` exactly the spans in published files are known."""
    publish(data, 1, transform([item(request(1, 3))]).table)
    transform([item(request(11, 3))])
    transform.reset()
    result = transform([item(request(2, 3)), item(request(11, 2))])
    assert (spans_of(result.table), result.deduplicated) == ([4, 11, 12], 2)


def test_newest_files_come_first(
    data: DataDirectory, transform: Transform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of spans that are read is bounded; the newest files are in it."""
    monkeypatch.setattr(transform_module, "_SEED_SPANS", 3)
    for seq in (1, 2, 3):
        publish(data, seq, transform([item(request(10 * seq, 2))]).table)
    transform.reset()
    known = transform([item(request(10, 2)), item(request(20, 2)), item(request(30, 2))])
    assert spans_of(known.table) == [10, 11]


def test_a_damaged_file_does_not_stop_the_start(data: DataDirectory, transform: Transform) -> None:
    """A file that cannot be read is passed over; the others are read."""
    for seq in (1, 2):
        publish(data, seq, transform([item(request(10 * seq, 2))]).table)
    newest = max(data.list_files(), key=lambda file: file.sequence or 0)
    newest.path.write_bytes(b"PAR1 not a Parquet file PAR1")
    transform.reset()
    result = transform([item(request(10, 2)), item(request(20, 2))])
    assert spans_of(result.table) == [20, 21]


def test_a_call_told_again_later_is_costed_once(data: DataDirectory, transform: Transform) -> None:
    """The second telling of a call is a duplicate: in a later row group, and after a restart."""
    first = transform([item(call("scope.a", 1))]).table
    assert first["cost_status"].to_pylist() == ["priced"]
    second = transform([item(call("scope.b", 2, parent_id=1))]).table
    assert second["cost_status"].to_pylist() == ["duplicate"]
    publish(data, 1, first)
    transform.reset()
    again = transform([item(call("scope.b", 2, parent_id=1))]).table
    assert again["cost_status"].to_pylist() == ["duplicate"]
    assert again["cost_nano_usd"].to_pylist() == [None]


def test_the_file_reads_as_the_record(data: DataDirectory, transform: Transform) -> None:
    """What normalisation makes is read back with exactly the types of the span record."""
    publish(data, 1, transform([item(call("scope.a", 1))]).table)
    (file,) = data.list_files()
    table = pq.read_table(file.path)
    assert table.schema.equals(arrow_schema(), check_metadata=False)
    assert table.schema.metadata == arrow_schema().metadata
    assert table["model"].to_pylist() == ["gpt-4o-2024-08-06"]
