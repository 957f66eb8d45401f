"""Token totals, cost status and the fields that fall back on something."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.collector.normalize_helpers import SpanCase, record, records

CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "anthropic",
    "gen_ai.response.model": "claude-sonnet-4-5-20250929",
}
PREFIX = "gen_ai.usage."


def usage(**counts: int) -> dict[str, Any]:
    """Return the record of a chat call with these counts, `__` standing for a dot."""
    named = {PREFIX + key.replace("__", "."): value for key, value in counts.items()}
    return record({**CALL, **named})


def test_cache_over_input_means_exclusive() -> None:
    """36 input tokens cannot hold 54 + 10 cached ones: the total is 100."""
    row = usage(
        input_tokens=36,
        output_tokens=50,
        cache_read__input_tokens=54,
        cache_write__input_tokens=10,
    )
    assert (row["input_tokens"], row["usage_basis"]) == (100, "inferred")
    assert row["total_tokens"] == 150


def test_total_that_adds_up_means_exclusive() -> None:
    """100 + 20 cached + 50 = 170 as reported: the cached ones stand beside the input."""
    row = usage(input_tokens=100, output_tokens=50, total_tokens=170, cache_read__input_tokens=20)
    assert (row["input_tokens"], row["usage_basis"]) == (120, "inferred")


def test_otherwise_inclusive() -> None:
    """Cached tokens that fit into the input are part of it."""
    row = usage(input_tokens=100, output_tokens=50, total_tokens=150, cache_read__input_tokens=64)
    assert (row["input_tokens"], row["usage_basis"]) == (100, "reported")


def test_reasoning_over_output_means_exclusive() -> None:
    """5 output tokens cannot hold 20 of reasoning: the output is 25."""
    row = usage(input_tokens=10, output_tokens=5, reasoning__output_tokens=20)
    assert (row["output_tokens"], row["reasoning_tokens"]) == (25, 20)
    assert row["usage_basis"] == "inferred"


def test_input_from_total() -> None:
    """Where only output and total are known, the input is the rest."""
    row = usage(output_tokens=50, total_tokens=150)
    assert (row["input_tokens"], row["usage_basis"]) == (100, "inferred")


def test_one_hour_writes_are_part_of_the_cache_writes() -> None:
    """The kinds of cache writes count as writes when no sum is reported."""
    row = record(
        {
            **CALL,
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.output_tokens": 0,
            "anthropic.usage.cache_creation.ephemeral_1h_input_tokens": 10,
            "anthropic.usage.cache_creation.ephemeral_5m_input_tokens": 5,
        }
    )
    assert row["cache_write_tokens"] == 15
    # 85 * 3 + 10 * 6 + 5 * 3.75 = 333.75 micro-dollars.
    assert row["cost_nano_usd"] == 333_750


COUNT = st.one_of(st.none(), st.integers(-5, 1000))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "input_tokens": COUNT,
                "output_tokens": COUNT,
                "total_tokens": COUNT,
                "cache_read.input_tokens": COUNT,
                "cache_write.input_tokens": COUNT,
                "reasoning.output_tokens": COUNT,
            }
        ),
        min_size=1,
        max_size=20,
    )
)
def test_parts_never_exceed_their_totals(counts: list[dict[str, int | None]]) -> None:
    """Whatever arrives, parts fit into totals, totals into the sum, and nothing is negative."""
    cases = [
        SpanCase(
            {**CALL, **{PREFIX + key: value for key, value in one.items() if value is not None}}
        )
        for one in counts
    ]
    for row in records(*cases):
        tokens_in, tokens_out = row["input_tokens"], row["output_tokens"]
        cached = (row["cache_read_tokens"] or 0) + (row["cache_write_tokens"] or 0)
        assert cached <= (tokens_in or 0)
        assert (row["reasoning_tokens"] or 0) <= (tokens_out or 0)
        assert (row["total_tokens"] or 0) >= (tokens_in or 0) + (tokens_out or 0)
        for name, value in row.items():
            if name.endswith("_tokens"):
                assert value is None or value >= 0
        known = any(row[f"{name}_tokens"] is not None for name in ("input", "output", "total"))
        assert (row["usage_basis"] is not None) == known


@pytest.mark.parametrize(
    ("attributes", "status", "cost"),
    [
        (
            {
                "gen_ai.response.model": "gpt-4o",
                "gen_ai.usage.input_tokens": 10,
                "gen_ai.usage.output_tokens": 0,
            },
            "priced",
            25_000,
        ),
        (
            {"gen_ai.response.model": "no-such-model", "gen_ai.usage.input_tokens": 10},
            "unpriced",
            None,
        ),
        (
            {
                "gen_ai.response.model": "no-such-model",
                "gen_ai.usage.input_tokens": 10,
                "gen_ai.usage.cost": 0,
            },
            "unpriced",
            None,
        ),
        (
            {
                "gen_ai.response.model": "no-such-model",
                "gen_ai.usage.input_tokens": 10,
                "gen_ai.usage.cost.amount": 0.001,
                "gen_ai.usage.cost.currency": "EUR",
            },
            "unpriced",
            None,
        ),
        (
            {
                "gen_ai.response.model": "no-such-model",
                "gen_ai.usage.input_tokens": 10,
                "langfuse.observation.cost_details": '{"input": 0.0005, "total": 0.001}',
            },
            "reported",
            1_000_000,
        ),
        ({"gen_ai.response.model": "gpt-4o"}, "no_usage", None),
    ],
)
def test_cost_of_a_call(attributes: dict[str, object], status: str, cost: int | None) -> None:
    """A cost is priced, or the emitter's own in dollars over 0, or null; 25_000 = 10 * 2500."""
    row = record({"gen_ai.operation.name": "chat", **attributes})
    assert (row["cost_status"], row["cost_nano_usd"]) == (status, cost)


def test_the_deployment_is_priced_by_the_model_that_answered() -> None:
    """Azure's request model is the name of a deployment; the response model has the price."""
    row = record(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "az.ai.openai",
            "gen_ai.request.model": "our-deployment",
            "gen_ai.response.model": "gpt-4o-2024-08-06",
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.output_tokens": 50,
        }
    )
    assert row["provider"] == "azure.ai.openai"
    assert row["model"] == "gpt-4o-2024-08-06"
    assert row["cost_nano_usd"] == 750_000


def test_feature_falls_back_on_the_root_of_the_trace() -> None:
    """A span without a feature takes the name of its trace's root, in any order."""
    trace = bytes(range(16))
    child = SpanCase({}, name="child", trace_id=trace, parent=b"12345678")
    root = SpanCase({}, name="root", trace_id=trace)
    named = SpanCase({"pyflare.feature": "own"}, trace_id=trace, parent=b"12345678")
    orphan = SpanCase({}, name="orphan", trace_id=b"o" * 16, parent=b"12345678")
    features = [row["feature"] for row in records(child, root, named, orphan)]
    assert features == ["root", "root", "own", None]


def test_empty_values_are_absent() -> None:
    """Empty texts, empty arrays and the text None leave the field to the next source."""
    row = record(
        {
            "gen_ai.request.user": "",
            "user.id": [],
            "enduser.id": "None",
            "llm.user": "u",
            "gen_ai.request.model": "",
            "model_name": "m",
            "pyflare.team": "None",
            "litellm.team.id": "7",
        }
    )
    assert (row["user_id"], row["model"], row["team"]) == ("u", "m", "7")


def test_the_scope_answers_last() -> None:
    """An attribute of the instrumentation scope counts where neither span nor resource has it."""
    scope = {"deployment.environment": "from scope", "gen_ai.system": "OpenAI"}
    both = SpanCase({"pyflare.environment": "from span"}, scope_attributes=scope)
    only = SpanCase({}, scope_attributes=scope)
    rows = records(both, only)
    assert [row["environment"] for row in rows] == ["from span", "from scope"]
    assert [row["provider"] for row in rows] == ["openai", "openai"]


def test_nothing_that_arrived_is_dropped() -> None:
    """Attributes that no field reads stand in `attributes`, typed."""
    row = record({"a": 1, "b": 1.0, "c": True, "d": ["x"], "e": {"f": None}}, resource={"r": 2})
    assert row["attributes"] == '{"a":1,"b":1.0,"c":true,"d":["x"],"e":{"f":null}}'
    assert row["resource_attributes"] == '{"r":2}'


def test_an_empty_batch_gives_an_empty_table() -> None:
    """No spans give no rows, with the whole schema."""
    assert records() == []


def test_a_level_of_error_is_a_failure() -> None:
    """Emitters that tell failures by a level fail the span; a status that is set stays."""
    rows = records(
        SpanCase({"langfuse.observation.level": "ERROR"}),
        SpanCase({"logfire.level_num": 17}),
        SpanCase({"logfire.level_num": 9, "langfuse.observation.level": "WARNING"}),
        SpanCase({}, error="boom"),
    )
    assert [row["status_code"] for row in rows] == ["error", "error", "unset", "error"]
    assert [row["status_message"] for row in rows] == [None, None, None, "boom"]
