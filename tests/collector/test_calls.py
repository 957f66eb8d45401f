"""One call told twice is costed once, in one table."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyflare_collector.calls import mark_duplicate_calls
from pyflare_proto.record import arrow_schema

FIELDS = (
    "trace_id",
    "span_id",
    "parent_span_id",
    "start_time",
    "end_time",
    "scope_name",
    "span_type",
    "model",
    "model_request",
    "model_response",
    "response_id",
    "input_tokens",
    "output_tokens",
    "status_code",
    "cache_read_tokens",
    "cache_write_tokens",
    "cost_nano_usd",
    "cost_status",
    "input",
    "output",
)


def call(span: int, scope: str, **fields: Any) -> dict[str, Any]:
    """Return a priced call of one second in a trace of its own; `fields` say what differs."""
    return {
        "trace_id": f"{fields.pop('trace', span):032x}",
        "span_id": f"{span:016x}",
        "parent_span_id": f"{fields.pop('parent'):016x}" if "parent" in fields else None,
        "start_time": fields.pop("start", 0) * 1_000_000_000,
        "end_time": fields.pop("end", 1) * 1_000_000_000,
        "scope_name": scope,
        "span_type": "llm",
        "model": "gpt-4o",
        "input_tokens": 100,
        "output_tokens": 50,
        "cost_nano_usd": 670_000,
        "cost_status": "priced",
        **fields,
    }


def failed(span: int, scope: str, **fields: Any) -> dict[str, Any]:
    """Return a call of trace 9 that failed before it had an answer."""
    nothing = {"input_tokens": None, "output_tokens": None, "cost_nano_usd": None}
    status = {"cost_status": "no_usage", "status_code": "error"}
    return call(span, scope, trace=9, **nothing, **status, **fields)


def table_of(rows: list[dict[str, Any]], *, coded: bool = False) -> pa.Table:
    """Return rows as a table of the record's types, categories as dictionaries or plain."""
    schema = pa.schema([arrow_schema().field(name).with_nullable(True) for name in FIELDS])
    table = pa.Table.from_pylist(rows, schema=schema)
    if coded:
        for name in ("scope_name", "span_type", "model", "cost_status", "status_code"):
            place = schema.get_field_index(name)
            column = table[name].combine_chunks().dictionary_encode()
            table = table.set_column(place, pa.field(name, column.type), column)
    return table


def kept(rows: list[dict[str, Any]], *, coded: bool = False) -> set[int]:
    """Return the span ids that keep their cost; checks that the others are marked."""
    marked = mark_duplicate_calls(table_of(rows, coded=coded))
    for row in marked.to_pylist():
        if row["cost_status"] == "duplicate":
            assert row["cost_nano_usd"] is None
    return {
        int(row["span_id"], 16) for row in marked.to_pylist() if row["cost_status"] != "duplicate"
    }


CASES: dict[str, tuple[list[dict[str, Any]], set[int]]] = {
    "one response id, two scopes, nested": (
        [
            call(1, "sdk", trace=9, parent=2, response_id="r"),
            call(2, "wrapper", trace=9, response_id="r", input="hi"),
        ],
        {2},
    ),
    "one response id, two scopes, two traces": (
        [call(1, "sdk", response_id="r", input="hi"), call(2, "wrapper", response_id="r")],
        {1},
    ),
    "one response id, two scopes, at different times": (
        [
            call(1, "sdk", response_id="r"),
            call(2, "wrapper", response_id="r", start=5, end=6),
        ],
        {1, 2},
    ),
    "one response id, one scope": (
        [call(1, "sdk", response_id="r"), call(2, "sdk", response_id="r")],
        {1, 2},
    ),
    "different response ids": (
        [
            call(1, "sdk", trace=9, parent=2, response_id="a"),
            call(2, "wrapper", trace=9, response_id="b"),
        ],
        {1, 2},
    ),
    "a repeated id: two calls of one scope, each told by another": (
        [
            call(1, "sdk", response_id="r", start=0, end=10),
            call(2, "wrapper", response_id="r", start=1, end=9, input="hi"),
            call(3, "sdk", response_id="r", start=20, end=30),
            call(4, "wrapper", response_id="r", start=21, end=29, input="hi"),
        ],
        {2, 4},
    ),
    "a repeated id: one call is told by one scope only": (
        [
            call(1, "sdk", response_id="r", start=0, end=10),
            call(2, "sdk", response_id="r", start=5, end=20),
            call(3, "wrapper", response_id="r", start=15, end=30),
            call(4, "wrapper", response_id="r", start=25, end=40),
        ],
        # 2 and 3 overlap across scopes: one call. 1 and 4 are each told once. Of 2 and 3
        # the earliest is kept.
        {1, 2, 4},
    ),
    "the scope with the most spans is kept": (
        [
            call(1, "gateway", response_id="r", start=0, end=9, cache_read_tokens=4, input="x"),
            call(2, "sdk", response_id="r", start=1, end=2),
            call(3, "sdk", response_id="r", start=3, end=4),
        ],
        {2, 3},
    ),
    "cache detail before content": (
        [
            call(1, "a", response_id="r", input="hi", output="x"),
            call(2, "b", response_id="r", cache_read_tokens=3),
        ],
        {2},
    ),
    "usage before time": (
        [
            call(1, "a", response_id="r", input_tokens=None, output_tokens=None),
            call(2, "b", response_id="r", start=0, end=3),
        ],
        {2},
    ),
    "usage before content": (
        [
            call(1, "a", response_id="r", input_tokens=None, output_tokens=None, input="hi"),
            call(2, "b", response_id="r"),
        ],
        {2},
    ),
    "first hand before cache detail and content": (
        [
            call(1, "a", response_id="r", input="hi", cache_read_tokens=3),
            call(2, "pyflare.integrations.openai", response_id="r"),
        ],
        {2},
    ),
    "usage before first hand": (
        [
            call(1, "a", response_id="r"),
            call(
                2,
                "com.anthropic.sdk.python",
                response_id="r",
                input_tokens=None,
                output_tokens=None,
            ),
        ],
        {1},
    ),
    "three scopes in a chain": (
        [
            call(1, "a", response_id="r", start=0, end=2),
            call(2, "b", response_id="r", start=1, end=4),
            call(3, "c", response_id="r", start=3, end=6, input="hi"),
        ],
        {3},
    ),
    "no response id, parent and child": (
        [call(1, "sdk", trace=9, parent=2), call(2, "wrapper", trace=9, input="hi")],
        {2},
    ),
    "a response id on one side, other spans between": (
        [
            call(1, "sdk", trace=9, parent=7, response_id="r", input="hi"),
            call(7, "http", trace=9, parent=8, span_type="span", cost_status="not_billable"),
            call(8, "http", trace=9, parent=2, span_type="span", cost_status="not_billable"),
            call(2, "wrapper", trace=9),
        ],
        {1, 7, 8},
    ),
    "no response id, request and response model": (
        [
            call(1, "sdk", trace=9, parent=2, model="gpt-4o-2024-08-06", model_request="gpt-4o"),
            call(2, "wrapper", trace=9, input="hi"),
        ],
        {2},
    ),
    "no response id, other tokens": (
        [call(1, "sdk", trace=9, parent=2, input_tokens=99), call(2, "wrapper", trace=9)],
        {1, 2},
    ),
    "no response id, other model": (
        [call(1, "sdk", trace=9, parent=2, model="gpt-4o-mini"), call(2, "wrapper", trace=9)],
        {1, 2},
    ),
    "no response id, siblings": (
        [call(1, "sdk", trace=9, parent=3), call(2, "wrapper", trace=9, parent=3)],
        {1, 2},
    ),
    "no response id, same ids in another trace": (
        [call(1, "sdk", trace=9, parent=2), call(2, "wrapper", trace=8)],
        {1, 2},
    ),
    "no response id, one scope nested": (
        [call(1, "sdk", trace=9, parent=2), call(2, "sdk", trace=9)],
        {1, 2},
    ),
    "a wrapper around two equal calls": (
        [
            call(1, "sdk", trace=9, parent=3),
            call(2, "sdk", trace=9, parent=3),
            call(3, "wrapper", trace=9, cache_read_tokens=1, input="hi"),
        ],
        {1, 2},
    ),
    "failed calls without usage": (
        [
            call(1, "sdk", trace=9, parent=2, input_tokens=None, output_tokens=None),
            call(2, "wrapper", trace=9, input_tokens=None, output_tokens=None, input="hi"),
        ],
        {2},
    ),
    "a function without usage around a call": (
        [
            call(1, "sdk", trace=9, parent=2, response_id="r"),
            call(2, "wrapper", trace=9, input_tokens=None, output_tokens=None, input="hi"),
        ],
        {1},
    ),
    "a function without usage or model around two calls": (
        [
            call(1, "sdk", trace=9, parent=3, response_id="r"),
            call(2, "sdk", trace=9, parent=3, response_id="s"),
            call(3, "wrapper", trace=9, input_tokens=None, output_tokens=None, model=None),
        ],
        {1, 2},
    ),
    "a function without usage around a call of another model": (
        [
            call(1, "sdk", trace=9, parent=2, response_id="r", model="gpt-4o-mini"),
            call(2, "wrapper", trace=9, input_tokens=None, output_tokens=None),
        ],
        {1, 2},
    ),
    "a call with usage around two without": (
        [
            call(1, "sdk", trace=9, parent=3, input_tokens=None, output_tokens=None),
            call(2, "sdk", trace=9, parent=3, input_tokens=None, output_tokens=None),
            call(3, "wrapper", trace=9, response_id="r"),
        ],
        {3},
    ),
    "failed calls beside each other": (
        [failed(1, "sdk", parent=3), failed(2, "wrapper", parent=3, input="hi")],
        {2},
    ),
    "failed calls beside each other, at different times": (
        [failed(1, "sdk", parent=3), failed(2, "wrapper", parent=3, start=5, end=6)],
        {1, 2},
    ),
    "failed calls beside each other, other model": (
        [failed(1, "sdk", parent=3), failed(2, "wrapper", parent=3, model="gpt-4o-mini")],
        {1, 2},
    ),
    "failed calls beside each other, one scope": (
        [failed(1, "sdk", parent=3), failed(2, "sdk", parent=3)],
        {1, 2},
    ),
    "failed calls of different parents": (
        [failed(1, "sdk", parent=3), failed(2, "wrapper", parent=4)],
        {1, 2},
    ),
    "failed calls without a parent": (
        [failed(1, "sdk"), failed(2, "wrapper")],
        {1, 2},
    ),
    "a failed call and its child, which failed": (
        [failed(1, "sdk", parent=2), failed(2, "wrapper", parent=3, input="hi")],
        {2},
    ),
    "a failed call beside one that did not": (
        [failed(1, "sdk", parent=3), call(2, "wrapper", trace=9, parent=3)],
        {1, 2},
    ),
    "an agent with its call's usage is no call": (
        [
            call(1, "sdk", trace=9, parent=2, response_id="r"),
            call(2, "agent", trace=9, response_id="r", span_type="agent"),
        ],
        {1, 2},
    ),
    "a parent that is its own ancestor": (
        [
            call(1, "sdk", trace=9, parent=2, model="x"),
            call(2, "wrapper", trace=9, parent=1, model="y"),
        ],
        {1, 2},
    ),
    "no scope against a scope": (
        [call(1, "sdk", response_id="r", input="hi"), {**call(2, "", response_id="r")}],
        {1},
    ),
}


@pytest.mark.parametrize("coded", [False, True])
@pytest.mark.parametrize("name", list(CASES))
def test_each_situation(name: str, coded: bool) -> None:  # noqa: FBT001  # parameter of the test
    """The spans that keep their cost are those of the rules, for plain and coded columns."""
    rows, want = CASES[name]
    assert kept(rows, coded=coded) == want


@pytest.mark.parametrize("name", list(CASES))
def test_the_order_of_rows_does_not_matter(name: str) -> None:
    """Any order of the rows gives the same answer."""
    rows, want = CASES[name]
    rng = random.Random(name)
    for _ in range(8):
        shuffled = rng.sample(rows, len(rows))
        assert kept(shuffled) == want


def test_the_same_span_twice_is_one_row() -> None:
    """The second row of one trace and span id is dropped; other spans of the trace stay."""
    rows = [
        call(1, "a", trace=5),
        call(2, "a", trace=5),
        call(1, "a", trace=5),
        call(1, "b", trace=6),
    ]
    marked = mark_duplicate_calls(table_of(rows))
    assert [(row["trace_id"][-1], row["span_id"][-1]) for row in marked.to_pylist()] == [
        ("5", "1"),
        ("5", "2"),
        ("6", "1"),
    ]


def test_nothing_told_twice_is_the_same_table() -> None:
    """Without repetitions the table itself comes back; also an empty one."""
    table = table_of([call(1, "a", response_id="x"), call(2, "b", response_id="y")])
    assert mark_duplicate_calls(table) is table
    empty = table.slice(0, 0)
    assert mark_duplicate_calls(empty) is empty


def test_a_marked_telling_is_not_chosen_again() -> None:
    """A telling whose cost is gone stays marked, even when it is the better one.

    The earlier telling was written first, so the one with content was marked; a later
    pass over both must not mark the other as well.
    """
    rows = [
        call(1, "sdk", response_id="r"),
        call(
            2, "wrapper", response_id="r", input="hi", cost_status="duplicate", cost_nano_usd=None
        ),
    ]
    assert kept(rows) == {1}


def test_a_table_in_pieces_is_one_table() -> None:
    """Chunks make no difference."""
    rows, want = CASES["one response id, two scopes, two traces"]
    table = pa.concat_tables([table_of([row]) for row in rows])
    marked = mark_duplicate_calls(table).to_pylist()
    assert {int(row["span_id"], 16) for row in marked if row["cost_status"] != "duplicate"} == want


CALLS = st.lists(
    st.builds(
        lambda scope, response, trace, parent, start, length, tokens, content: {
            "scope": scope,
            "response_id": response,
            "trace": trace,
            "parent": parent,
            "start": start,
            "end": start + length,
            "input_tokens": tokens,
            "input": content,
        },
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from([None, None, "r", "s"]),
        st.integers(1, 2),
        st.integers(0, 8),
        st.integers(0, 12),
        st.integers(0, 6),
        st.sampled_from([None, 7, 8]),
        st.sampled_from([None, "hi"]),
    ),
    max_size=8,
)


@settings(deadline=None, max_examples=200)
@given(CALLS, st.randoms(use_true_random=False))
def test_any_calls_are_settled_the_same_in_any_order_and_twice(
    calls: list[dict[str, Any]], rng: random.Random
) -> None:
    """The answer is independent of order, does not change when given again, keeps a telling.

    Every response id and scope pattern keeps at least one span, and a call that shares
    neither response id nor ancestry with another scope is never marked.
    """
    rows = [
        call(i, spec["scope"], **{k: v for k, v in spec.items() if k != "scope"})
        for i, spec in enumerate(calls, start=1)
    ]
    want = kept(rows)
    assert kept(rng.sample(rows, len(rows))) == want
    again = mark_duplicate_calls(mark_duplicate_calls(table_of(rows)))
    assert again.equals(mark_duplicate_calls(table_of(rows)))
    if rows:
        assert want
    scopes_of: dict[str | None, set[str]] = {}
    for row in rows:
        scopes_of.setdefault(row["response_id"], set()).add(row["scope_name"])
    if len({row["scope_name"] for row in rows}) == 1:
        assert want == {int(row["span_id"], 16) for row in rows}
    for response, scopes in scopes_of.items():
        if response is not None and len(scopes) == 1 and all(r["response_id"] for r in rows):
            mine = {int(r["span_id"], 16) for r in rows if r["response_id"] == response}
            assert mine <= want
