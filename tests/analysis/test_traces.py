"""Lists of traces and single traces."""

import json
from pathlib import Path

import pytest

from pyflare_analysis.plain import format_time
from pyflare_analysis.traces import list_traces, show_trace
from pyflare_proto.errors import NotFoundError, UsageError
from pyflare_storage.filters import Filters
from pyflare_storage.source import open_source
from pyflare_storage.where import parse_where
from tests.span_rows import (
    ANSWERED,
    EMBEDDED,
    SAMPLED,
    START_NS,
    TRACE_A,
    TRACE_B,
    TRACE_C,
    span,
    write_spans,
)


def test_a_trace_has_the_figures_of_all_its_spans(tmp_path: Path) -> None:
    """Duration spans the trace, calls are told once, an unknown cost adds nothing."""
    (trace,) = list_traces(open_source(write_spans(tmp_path / "a.parquet", ANSWERED)))

    assert trace.to_dict() == {
        "trace_id": TRACE_A,
        "start_time": "2025-11-24T16:00:00.000000000Z",
        "duration_ms": 3000.0,
        "service_name": "bot",
        "root_name": "answer",
        "span_count": 4,
        "calls": 2,
        "error_count": 1,
        "input_tokens": 100,
        "output_tokens": 50,
        "cost_nano_usd": 670_000,
    }


def test_filters_choose_traces_and_leave_their_figures_whole(tmp_path: Path) -> None:
    """One failed span puts its trace on the list, with all four spans counted."""
    path = write_spans(tmp_path / "a.parquet", [*ANSWERED, *EMBEDDED])
    filters = Filters(where=parse_where("status_code = 'error'"))

    (trace,) = list_traces(open_source(path), filters=filters)

    assert (trace.trace_id, trace.span_count) == (TRACE_A, 4)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("start", [TRACE_B, TRACE_C, TRACE_A]),
        ("duration", [TRACE_A, TRACE_C, TRACE_B]),
        ("cost", [TRACE_C, TRACE_A, TRACE_B]),
        ("tokens", [TRACE_A, TRACE_C, TRACE_B]),
        ("errors", [TRACE_A, TRACE_B, TRACE_C]),
        ("spans", [TRACE_A, TRACE_B, TRACE_C]),
    ],
)
def test_orders(tmp_path: Path, order: str, expected: list[str]) -> None:
    """The largest or latest first, the later start first among equals."""
    path = write_spans(tmp_path / "a.parquet", [*SAMPLED, *EMBEDDED, *ANSWERED])

    traces = list_traces(open_source(path), order=order)  # type: ignore[arg-type]  # parametrised

    assert [trace.trace_id for trace in traces] == expected
    first = list_traces(open_source(path), order=order, limit=1)  # type: ignore[arg-type]  # as above
    assert [trace.trace_id for trace in first] == expected[:1]


def test_an_orphan_names_its_trace(tmp_path: Path) -> None:
    """Without a root the earliest span gives name and service."""
    (trace,) = list_traces(open_source(write_spans(tmp_path / "a.parquet", EMBEDDED)))

    assert (trace.root_name, trace.service_name) == ("embed", "search")


def test_cost_is_null_when_no_call_has_one(tmp_path: Path) -> None:
    """A trace with one unpriced call has no known cost; one without calls costs nothing."""
    rows = [
        span(cost_status="unpriced"),
        span(trace_id=TRACE_B, span_type="tool", cost_status="not_billable"),
    ]
    traces = list_traces(open_source(write_spans(tmp_path / "a.parquet", rows)))

    assert {trace.trace_id: trace.cost_nano_usd for trace in traces} == {TRACE_A: None, TRACE_B: 0}


def test_show_keeps_types_and_order(tmp_path: Path) -> None:
    """Parents before children; integers, doubles, lists and nesting come out as they arrived."""
    source = open_source(write_spans(tmp_path / "a.parquet", reversed(ANSWERED)))

    trace = show_trace(source, TRACE_A)

    assert [s["span_id"][-1] for s in trace.spans] == ["1", "2", "4", "3"]  # type: ignore[index]  # text
    record = trace.spans[1]
    assert json.dumps(record["attributes"], ensure_ascii=False) == (
        '{"whole": 1, "double": 1.0, "big": 9007199254740993, "list": [1, "x", true, null], '
        '"nested": {"k": 2.5}, "text": "café", "app.tier": "free"}'
    )
    assert record["embedding"] == [0.1, 0.25]
    assert record["retrieval_documents"] == [{"id": "d1", "content": "text", "score": 0.5}]
    assert record["events"] == [
        {"time_unix_nano": 1764000000600000000, "name": "first", "attributes": {"n": 1}}
    ]
    assert record["start_time"] == "2025-11-24T16:00:00.500000000Z"


def test_the_first_digits_are_enough(tmp_path: Path) -> None:
    """A prefix of one trace finds it, whatever its case; a prefix of two is refused."""
    rows = [span(trace_id="ab" * 16), span(trace_id="ac" * 16)]
    source = open_source(write_spans(tmp_path / "a.parquet", rows))

    assert show_trace(source, "AB").trace_id == "ab" * 16
    with pytest.raises(UsageError, match="several"):
        show_trace(source, "a")


def test_what_is_not_there_and_what_is_no_id(tmp_path: Path) -> None:
    """An unknown id is not found; other text is no id."""
    source = open_source(write_spans(tmp_path / "a.parquet", ANSWERED))

    with pytest.raises(NotFoundError):
        show_trace(source, "f" * 32)
    with pytest.raises(UsageError):
        show_trace(source, "'; drop table spans")


def test_times_keep_their_nanoseconds() -> None:
    """Nine decimals, also where they are zero, and before 1970."""
    assert format_time(START_NS + 1) == "2025-11-24T16:00:00.000000001Z"
    assert format_time(-1) == "1969-12-31T23:59:59.999999999Z"
