"""Hand-made spans in Parquet, for tests of answers and of the command line."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pyflare_proto.record import arrow_schema

START_NS = 1_764_000_000_000_000_000
"""2025-11-24T16:00:00Z."""

TRACE_A, TRACE_B, TRACE_C = "a" * 32, "b" * 32, "c0" * 16


def span(**fields: object) -> dict[str, object]:
    """Return a span of one second: a priced call unless the fields say otherwise."""
    row: dict[str, object] = {
        "trace_id": TRACE_A,
        "span_id": "0000000000000001",
        "name": "chat",
        "kind": "client",
        "start_time": START_NS,
        "end_time": START_NS + 1_000_000_000,
        "duration_ms": 1000.0,
        "status_code": "unset",
        "span_type": "llm",
        "cost_status": "priced",
        "attributes": "{}",
        "resource_attributes": "{}",
    }
    return row | fields


ANSWERED = [
    span(
        span_id="0000000000000001",
        name="answer",
        span_type="workflow",
        cost_status="not_billable",
        service_name="bot",
        end_time=START_NS + 3_000_000_000,
        duration_ms=3000.0,
    ),
    span(
        span_id="0000000000000002",
        parent_span_id="0000000000000001",
        name="chat gpt-4o",
        model="gpt-4o",
        service_name="bot",
        user_id="ada",
        input_tokens=100,
        output_tokens=50,
        cache_read_tokens=64,
        cost_nano_usd=670_000,
        start_time=START_NS + 500_000_000,
        end_time=START_NS + 1_500_000_000,
        attributes='{"whole":1,"double":1.0,"big":9007199254740993,"list":[1,"x",true,null],'
        '"nested":{"k":2.5},"text":"caf\\u00e9","app.tier":"free"}',
        events='[{"time_unix_nano":1764000000600000000,"name":"first","attributes":{"n":1}}]',
        links='[{"trace_id":"cc","span_id":"dd","attributes":{}}]',
        embedding=[0.1, 0.25],
        finish_reasons=["stop"],
        retrieval_documents=[{"id": "d1", "content": "text", "score": 0.5}],
    ),
    span(
        span_id="0000000000000003",
        parent_span_id="0000000000000001",
        name="chat boom",
        model="gpt-4o",
        service_name="bot",
        cost_status="no_usage",
        status_code="error",
        error_type="RateLimitError",
        error_message="slow \x1b[31mdown",
        start_time=START_NS + 1_500_000_000,
        end_time=START_NS + 1_600_000_000,
        duration_ms=100.0,
    ),
    span(
        span_id="0000000000000004",
        parent_span_id="0000000000000002",
        name="chat gpt-4o",
        model="gpt-4o",
        service_name="bot",
        cost_status="duplicate",
        input_tokens=100,
        output_tokens=50,
        start_time=START_NS + 600_000_000,
    ),
]
"""Trace A: a workflow with two calls, one failed without usage, and a call told twice."""

EMBEDDED = [
    span(
        trace_id=TRACE_B,
        span_id="0000000000000005",
        parent_span_id="00000000000000ff",
        name="embed",
        span_type="embedding",
        model="text-embedding-3-small",
        service_name="search",
        environment="production",
        input_tokens=7,
        cost_nano_usd=140,
        start_time=START_NS + 86_400_000_000_000,
        end_time=START_NS + 86_400_000_000_000 + 20_000_000,
        duration_ms=20.0,
    )
]
"""Trace B, a day later: one embedding call whose parent never arrived."""

SAMPLED = [
    span(
        trace_id=TRACE_C,
        span_id="0000000000000006",
        name="chat",
        model="claude-sonnet-4-5",
        service_name="bot",
        input_tokens=10,
        output_tokens=5,
        cost_nano_usd=1_000_000_000,
        sampling_probability=0.25,
        start_time=START_NS + 3_600_000_000_000,
        end_time=START_NS + 3_601_000_000_000,
    )
]
"""Trace C, an hour later: a call that stands for four."""


def write_spans(path: Path, rows: Iterable[Mapping[str, object]]) -> Path:
    """Write spans to a Parquet file and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), schema=arrow_schema()), path)
    return path


def data_directory(path: Path, rows: Iterable[Mapping[str, object]]) -> Path:
    """Make a data directory that holds the spans, and return its path."""
    write_spans(path / "spans" / "some.parquet", rows)
    return path
