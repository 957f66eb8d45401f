"""What the SDK writes, as `pyflare import` and `pyflare collect` read it: the span record."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import pyflare
import pyflare_cli
from tests.sdk.fake_collector import FakeCollector

pytestmark = pytest.mark.usefixtures("fresh_sdk")


@pyflare.trace(inference_type=pyflare.InferenceType.TOOL)
def look_up(city: str) -> dict[str, Any]:
    """Return the weather."""
    return {"city": city, "sky": "clear"}


@pyflare.trace(model_id="gpt-4o-mini", inference_type=pyflare.InferenceType.LLM)
async def stream(question: str) -> AsyncIterator[str]:
    """Answer in pieces."""
    for word in question.split():
        await asyncio.sleep(0.005)
        yield word
    pyflare.current_span().set_usage(input_tokens=10, output_tokens=5)


@pyflare.trace(inference_type=pyflare.InferenceType.RETRIEVER)
def search(query: str) -> list[dict[str, Any]]:
    """Find documents."""
    found = [{"id": 7, "content": "Paris is in France.", "score": 0.9}, {"content": "Nice too."}]
    pyflare.current_span().set_documents([*found, "Lyon"], query=query)
    return found


@pyflare.trace("answer", inference_type="agent")
async def agent(question: str) -> str:
    """Ask a model, use a tool, and stream."""
    with pyflare.llm_span("plan", "gpt-4o", pyflare.ModelProvider.OPENAI) as call:
        call.set_input([{"role": "user", "content": question}])
        call.set_usage(
            input_tokens=100, output_tokens=50, cache_read_tokens=64, reasoning_tokens=20
        )
        call.set_response(
            model="gpt-4o-2024-08-06", response_id="chatcmpl-1", finish_reasons="stop"
        )
        call.set_output("Look it up.")
    look_up("Paris")
    search("cities")
    return "".join([word async for word in stream("Clear skies")])


@pyflare.trace(inference_type="llm", model_id="gpt-4o")
def fails() -> None:
    """Fail."""
    raise TimeoutError("no answer in 10 s")


def answer(*words: str) -> Any:
    """Run a command of `pyflare` and return its document."""
    assert pyflare_cli.run([*words, "--format", "json", "-o", "answer.json"]) == 0
    return json.loads(Path("answer.json").read_text())


def records(collector: FakeCollector) -> dict[str, dict[str, Any]]:
    """Return the span records of what a collector was sent, by name."""
    path = Path("spans.binpb")
    path.write_bytes(b"".join(request.SerializeToString() for request in collector.requests))
    answer("import", str(path))
    found: dict[str, dict[str, Any]] = {}
    for trace in answer("traces", "list", "--limit", "1000")["traces"]:
        shown = answer("traces", "show", trace["trace_id"])
        found |= {span["name"]: span for span in shown["spans"]}
    return found


def test_span_record() -> None:
    """Type, model, tokens, cost, context, content, time to first token, errors, environment."""
    with FakeCollector() as collector:
        pyflare.init("shop", collector.url, "prod", "1.2", use_http=True)
        with pyflare.context(
            user_id="u1", session_id="s1", team="core", feature="search", prompt_version="v3"
        ):
            asyncio.run(agent("Weather in Paris?"))
            with pytest.raises(TimeoutError):
                fails()
        assert pyflare.flush(10)
        found = records(collector)

    assert {name: span["span_type"] for name, span in found.items()} == {
        "answer": "agent", "plan": "llm", "look_up": "tool", "stream": "llm", "fails": "llm",
        "search": "retriever",
    }  # fmt: skip
    for span in found.values():
        assert span["service_name"] == "shop"
        assert (span["service_version"], span["environment"]) == ("1.2", "prod")
        assert (span["user_id"], span["session_id"], span["team"]) == ("u1", "s1", "core")
        assert (span["feature"], span["prompt_version"]) == ("search", "v3")
        assert (span["scope_name"], span["sampling_probability"]) == ("pyflare", 1.0)
    plan = found["plan"]
    assert (plan["provider"], plan["operation"], plan["kind"]) == ("openai", "chat", "client")
    assert (plan["model"], plan["model_request"]) == ("gpt-4o-2024-08-06", "gpt-4o")
    assert (plan["input_tokens"], plan["output_tokens"]) == (100, 50)
    assert (plan["cache_read_tokens"], plan["reasoning_tokens"]) == (64, 20)
    # 36 x 2.50 + 64 x 1.25 + 50 x 10.00 micro-dollars
    assert (plan["cost_nano_usd"], plan["cost_status"]) == (670_000, "priced")
    assert (plan["response_id"], plan["finish_reasons"]) == ("chatcmpl-1", ["stop"])
    assert (plan["input"], plan["output"]) == ("Weather in Paris?", "Look it up.")
    told = found["stream"]
    # 10 x 0.15 + 5 x 0.60 micro-dollars
    assert (told["model"], told["cost_nano_usd"]) == ("gpt-4o-mini", 4500)
    assert 5 <= told["time_to_first_token_ms"] < told["duration_ms"]
    assert told["output"] == "Clearskies"
    tool = found["look_up"]
    assert (tool["tool_name"], tool["input"]) == ("look_up", '{"city": "Paris"}')
    assert tool["output"] == '{"city": "Paris", "sky": "clear"}'
    assert found["answer"]["agent_name"] == "answer"
    assert found["answer"]["cost_status"] == "not_billable"
    searched = found["search"]
    assert searched["retrieval_query"] == "cities"
    assert searched["retrieval_documents"] == [
        {"id": "7", "content": "Paris is in France.", "score": 0.9},
        {"id": None, "content": "Nice too.", "score": None},
        {"id": None, "content": "Lyon", "score": None},
    ]
    failed = found["fails"]
    assert (failed["status_code"], failed["error_type"]) == ("error", "TimeoutError")
    assert failed["error_message"] == "no answer in 10 s"
    assert (failed["cost_nano_usd"], failed["cost_status"]) == (None, "no_usage")


def test_sampled_spans_carry_their_probability() -> None:
    """`sample_rate` reaches `sampling_probability`, and weighted counts come out right."""
    with FakeCollector() as collector:
        pyflare.init("shop", collector.url, use_http=True, sample_rate=0.25)
        kept = 0
        for number in range(60):
            with pyflare.llm_span(f"call {number}", "gpt-4o") as call:
                call.set_usage(input_tokens=1, output_tokens=1)
                kept += call.is_recording()
        assert pyflare.flush(10)
        found = records(collector)

    assert len(found) == kept > 0
    assert {span["sampling_probability"] for span in found.values()} == {0.25}
    summary = answer("cost", "summary", "--by", "model")
    assert summary["total"]["calls"] == 4 * kept
