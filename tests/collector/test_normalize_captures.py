"""The real payloads of several emitters, call by call, against what is known of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from pyflare_collector.calls import mark_duplicate_calls
from pyflare_collector.normalize import KEYS, normalize, record_table
from pyflare_proto.otlp.decode import decode
from pyflare_proto.otlp.jsonotlp import transcode
from tests.collector.normalize_helpers import price_book
from tests.shared_data import shared_path


class Totals(NamedTuple):
    """A line of the captures' table."""

    calls: int
    input_tokens: int
    cached: int
    output_tokens: int
    nano_usd: int


TOTALS = {
    "otel-genai": Totals(5, 407, 246, 200, 2_921_840),
    "traceloop": Totals(5, 407, 246, 200, 2_921_840),
    "openinference": Totals(5, 407, 246, 200, 2_921_840),
    "openlit": Totals(4, 307, 192, 150, 2_010_140),
    "traceloop-0.40.14": Totals(4, 307, 182, 150, 2_251_840),
    "pydantic-ai-v5": Totals(2, 200, 128, 100, 1_340_000),
}
MODELS = {
    "gpt-4o-2024-08-06": ("openai", 100, 50, 670_000),
    "text-embedding-3-small": ("openai", 7, None, 140),
    "claude-sonnet-4-5-20250929": ("anthropic", 100, 50, 911_700),
}


def load(name: str, form: str) -> list[dict[str, Any]]:
    """Return the records of a capture, each call told once."""
    data = shared_path("captures", f"{name}.{form}").read_bytes()
    payload = transcode(data) if form == "json" else data
    table = normalize(decode([payload], KEYS), price_book())
    rows: list[dict[str, Any]] = record_table(mark_duplicate_calls(table)).to_pylist()
    return rows


@pytest.mark.parametrize("form", ["binpb", "json"])
@pytest.mark.parametrize("name", list(TOTALS))
def test_totals_of_a_capture_count_each_call_once(name: str, form: str) -> None:
    """Calls, tokens and cost of a capture are those of the table beside the captures.

    Costs by hand, in micro-dollars: gpt-4o 36*2.5 + 64*1.25 + 50*10 = 670; embedding
    7*0.02 = 0.14; claude 36*3 + 54*0.3 + 10*3.75 + 50*15 = 911.7.
    """
    rows = load(name, form)
    billable = [row for row in rows if row["cost_nano_usd"] is not None]
    expected = TOTALS[name]
    assert len(billable) == expected.calls
    assert sum(row["input_tokens"] for row in billable) == expected.input_tokens
    assert sum(max(row["cache_read_tokens"] or 0, 0) for row in billable) == expected.cached
    assert sum(row["output_tokens"] or 0 for row in billable) == expected.output_tokens
    assert sum(row["cost_nano_usd"] for row in billable) == expected.nano_usd


@pytest.mark.parametrize("name", list(TOTALS))
def test_each_call_of_a_capture(name: str) -> None:
    """Each billable call has the model, provider, tokens and cost that the server gave."""
    for row in load(name, "binpb"):
        if row["cost_nano_usd"] is None:
            continue
        provider, input_tokens, output_tokens, cost = MODELS[row["model"]]
        assert row["provider"] == provider
        assert row["input_tokens"] == input_tokens
        assert row["output_tokens"] == output_tokens
        assert row["cost_nano_usd"] == cost
        assert row["cost_status"] == "priced"
        assert row["usage_basis"] == "reported"
        assert row["span_type"] == ("embedding" if "embedding" in row["model"] else "llm")
        is_claude = provider == "anthropic"
        assert (row["cache_write_tokens"] or 0) == (10 if is_claude else 0)
        assert row["service_name"] == "unknown_service:python"


@pytest.mark.parametrize(
    "name", ["otel-genai", "traceloop", "openinference", "openlit", "traceloop-0.40.14"]
)
def test_the_refused_call_has_no_cost(name: str) -> None:
    """The call that was answered with 429 is a call without usage and without cost."""
    refused = [row for row in load(name, "binpb") if row["model"] == "boom"]
    assert len(refused) == 1
    assert refused[0]["span_type"] == "llm"
    assert refused[0]["status_code"] == "error"
    assert refused[0]["cost_status"] == "no_usage"
    assert refused[0]["cost_nano_usd"] is None


def test_the_agent_run_is_no_call() -> None:
    """The agent's span and the tools' spans carry neither cost nor tokens."""
    rows = load("pydantic-ai-v5", "binpb")
    agent = next(row for row in rows if row["span_type"] == "agent")
    assert agent["agent_name"] == "capital_agent"
    assert agent["cost_status"] == "not_billable"
    assert agent["input_tokens"] is None
    tools = [row for row in rows if row["span_type"] == "tool"]
    assert [row["tool_name"] for row in tools] == ["get_weather"] * 2
    assert {row["session_id"] for row in rows} == {agent["session_id"]}
    assert {row["feature"] for row in rows} == {"invoke_agent capital_agent"}


def test_users_and_sessions_of_a_capture() -> None:
    """The user and session that the application gave are on every OpenInference call of it."""
    rows = [row for row in load("openinference", "binpb") if "openinference" in row["scope_name"]]
    assert {row["user_id"] for row in rows} == {"u-1"}
    assert {row["session_id"] for row in rows} == {"s-1"}
    assert {row["prompt_template"] for row in rows} == {"Capital of {c}?"}
    assert {row["prompt_version"] for row in rows} == {"v1"}
    assert {row["response_id"] for row in rows} == {"chatcmpl-1", "resp_1", "msg_1", None}


def test_an_unstreamed_call_has_no_time_to_first_token() -> None:
    """OpenLIT's time to first token of calls that were not streamed is left out."""
    rows = load("openlit", "binpb")
    assert {row["time_to_first_token_ms"] for row in rows} == {None}
