"""`span`, `llm_span`, and the words for what a model call tells."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from opentelemetry.trace import SpanKind, StatusCode

import pyflare
from tests.sdk.recorded import Recorded

pytestmark = pytest.mark.usefixtures("fresh_sdk")


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """The SDK with its spans in memory."""
    return Recorded(monkeypatch)


def test_span(recorded: Recorded) -> None:
    """A block is a span, of the module and of the class."""
    with pyflare.span("outer", attributes={"a": 1}) as outer:
        outer.set_attribute("b", 2)
        with recorded.sdk.span("inner", kind=SpanKind.CONSUMER):
            pass

    inner, outer_span = recorded.spans
    assert (inner.name, inner.kind) == ("inner", SpanKind.CONSUMER)
    assert inner.parent == outer_span.context
    assert dict(outer_span.attributes or {}) == {"a": 1, "b": 2}


def test_span_with_an_error(recorded: Recorded) -> None:
    """An exception goes on and is on the span."""
    with pytest.raises(ValueError, match="no"), pyflare.span("fails"):
        raise ValueError("no")

    span = recorded.one()
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "ValueError"


def test_llm_span(recorded: Recorded) -> None:
    """A model call in OpenTelemetry's words: model, usage, answer, content."""
    with pyflare.llm_span("ask", "gpt-4o", "openai", temperature=0.5) as call:
        call.set_input([{"role": "user", "content": "Capital?"}], system="Be brief.")
        call.set_usage(
            pyflare.TokenUsage(100, 50, cache_read_tokens=64, reasoning_tokens=20), output_tokens=51
        )
        call.set_response(
            model="gpt-4o-2024-08-06",
            response_id="chatcmpl-1",
            finish_reasons=["stop"],
            service_tier="flex",
            time_to_first_token_ms=250,
        )
        call.set_output("Paris")

    span = recorded.one()
    assert span.kind is SpanKind.CLIENT
    attributes = dict(span.attributes or {})
    messages = [
        json.loads(str(attributes.pop(key))) for key in list(attributes) if "messages" in key
    ]
    assert messages == [
        [{"role": "user", "parts": [{"type": "text", "content": "Capital?"}]}],
        [{"role": "assistant", "parts": [{"type": "text", "content": "Paris"}]}],
    ]
    assert json.loads(str(attributes.pop("gen_ai.system_instructions"))) == [
        {"type": "text", "content": "Be brief."}
    ]
    assert attributes == {
        "pyflare.inference.type": "llm",
        "gen_ai.operation.name": "chat",
        "pyflare.model.id": "gpt-4o",
        "gen_ai.request.model": "gpt-4o",
        "pyflare.model.provider": "openai",
        "gen_ai.provider.name": "openai",
        "temperature": 0.5,
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 51,
        "gen_ai.usage.cache_read.input_tokens": 64,
        "gen_ai.usage.reasoning.output_tokens": 20,
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.finish_reasons": ("stop",),
        "pyflare.service_tier": "flex",
        "gen_ai.response.time_to_first_chunk": 0.25,
    }


def test_async_blocks(recorded: Recorded) -> None:
    """The same with `async with`; tasks beside each other do not mix."""

    async def one(number: int) -> None:
        async with pyflare.llm_span(f"call {number}", "m") as call:
            await asyncio.sleep(0.01)
            call.set_first_token()
            call.set_first_token()
            async with pyflare.span(f"inner {number}"):
                await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(one(number) for number in range(5)))

    asyncio.run(main())

    for number in range(5):
        call = recorded.named(f"call {number}")
        assert recorded.named(f"inner {number}").parent == call.context
        first = (call.attributes or {})["gen_ai.response.time_to_first_chunk"]
        assert isinstance(first, float)
        assert 0.01 <= first < 5


def test_documents(recorded: Recorded) -> None:
    """What a retriever found: ids as text, finite scores, the first hundred."""
    with pyflare.span("search"):
        odd = [{"id": 1, "score": float("nan")}, {"content": None, "score": "high"}, "text"]
        pyflare.current_span().set_documents(odd * 50, query="q")

    attributes: Any = recorded.one().attributes
    documents = json.loads(attributes["gen_ai.retrieval.documents"])
    assert documents[:3] == [{"id": "1"}, {}, {"content": "text"}]
    assert len(documents) == 100
    assert attributes["gen_ai.retrieval.query.text"] == "q"


def test_current_span(recorded: Recorded) -> None:
    """Inside a traced function its span can be told what the call used."""

    @pyflare.trace(model_id="gpt-4o", inference_type="llm")
    def call() -> None:
        pyflare.current_span().set_usage(input_tokens=3, output_tokens=4)

    call()
    pyflare.current_span().set_usage(input_tokens=9)

    assert (recorded.one().attributes or {})["gen_ai.usage.input_tokens"] == 3


def test_a_zero_is_told_and_the_unknown_is_not(recorded: Recorded) -> None:
    """No output is a fact; what nothing is known of is not zero, and nonsense is no count."""
    with pyflare.llm_span("call", "m") as call:
        call.set_usage(input_tokens=5, output_tokens=0)
        odd: Any = object()
        call.set_usage(reasoning_tokens=odd)

    attributes: Any = recorded.one().attributes
    assert attributes["gen_ai.usage.output_tokens"] == 0
    assert "gen_ai.usage.cache_read.input_tokens" not in attributes
    assert "gen_ai.usage.reasoning.output_tokens" not in attributes
