"""What an import says about sampling: the share of the samplers that the spans went through."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from pyflare_collector.importer import import_files
from pyflare_storage.dataset import DataDirectory
from pyflare_storage.prices import PriceBook
from tests.otlp_payloads import START_NS


@pytest.mark.parametrize(
    ("state", "probability"),
    [("", 1.0), ("ot=th:c;rv:ff000000000000", 0.25), ("ot=th:8;rv:00000000000000", 1.0)],
)
def test_import_records_the_share_upstream(tmp_path: Path, state: str, probability: float) -> None:
    """An imported span has the probability of its `th`; without a valid one it counts once."""
    message = ExportTraceServiceRequest()
    message.resource_spans.add().scope_spans.add().spans.add(
        trace_id=b"\x17" * 16,
        span_id=b"\x01" * 8,
        trace_state=state,
        start_time_unix_nano=START_NS,
        end_time_unix_nano=START_NS + 1,
    )
    file = tmp_path / "spans.binpb"
    file.write_bytes(message.SerializeToString())
    data = DataDirectory(tmp_path / "data")

    report = import_files([str(file)], data, PriceBook())

    assert report.spans_imported == 1
    (written,) = data.list_files()
    table = pq.read_table(written.path, columns=["sampling_probability"])
    assert table["sampling_probability"].to_pylist() == [probability]
