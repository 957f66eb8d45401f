"""An application that calls models through the real client libraries, for the tests.

    python model_app.py MODEL_SERVER COLLECTOR [OTHER]...

OTHER is `decorated` (only calls from decorated functions), `native` (the spans of the
Anthropic client itself), or `openinference`, `traceloop`,
`opentelemetry`, with `before:` in front to be put on before PyFlare.

Run in a process of its own: instrumentations and the tracer provider are global.
"""

from __future__ import annotations

import asyncio
import os
import sys
from importlib import import_module
from typing import Any

import anthropic
import openai
import pytest
from opentelemetry import trace as otel

OTHERS = {
    "openinference": (
        ("openinference.instrumentation.openai", "OpenAIInstrumentor"),
        ("openinference.instrumentation.anthropic", "AnthropicInstrumentor"),
    ),
    "traceloop": (
        ("opentelemetry.instrumentation.openai", "OpenAIInstrumentor"),
        ("opentelemetry.instrumentation.anthropic", "AnthropicInstrumentor"),
    ),
    "opentelemetry": (
        ("opentelemetry.instrumentation.genai.openai", "OpenAIInstrumentor"),
        ("opentelemetry.instrumentation.genai.anthropic", "AnthropicInstrumentor"),
    ),
}
GPT, CLAUDE, EMBEDDING = "gpt-4o-mini", "claude-sonnet-4-5", "text-embedding-3-small"


def user(text: str) -> list[Any]:
    """Return a conversation of one message."""
    return [{"role": "user", "content": text}]


def openai_calls(client: Any) -> None:
    """Call every kind of API of OpenAI."""
    chat = client.chat.completions
    chat.create(
        model=GPT, messages=user("in=1200 out=300 cached=1000 model=gpt-4o-mini-2024-07-18")
    )
    chat.create(model="o3", messages=user("in=50 out=900 reasoning=640"))
    chat.create(model="o3", messages=user("in=70 out=90 tier=flex"), service_tier="flex")
    audio = "in=5000 out=900 audio_in=3000 audio_out=801"
    chat.create(model="gpt-4o-audio-preview", messages=user(audio))
    tools: list[Any] = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    chat.create(model=GPT, messages=user("in=40 out=20 tool=1"), tools=tools)
    assert "".join(
        chunk.choices[0].delta.content or ""
        for chunk in chat.create(model=GPT, messages=user("in=2001 out=31"), stream=True)
    ) == "The answer."  # fmt: skip
    asked = chat.create(
        model=GPT,
        messages=user("in=2002 out=32 tool=1"),
        stream=True,
        stream_options={"include_usage": True},
    )
    assert [len(chunk.choices) for chunk in asked][-1] == 0
    with chat.stream(model=GPT, messages=user("in=2003 out=33")) as stream:
        assert stream.get_final_completion().choices[0].message.content == "The answer."
    raw = chat.with_raw_response.create(model=GPT, messages=user("in=2004 out=34"))
    assert raw.parse().choices[0].message.content == "The answer."
    client.completions.create(model="gpt-3.5-turbo-instruct", prompt="in=77 out=7")
    client.responses.create(model=GPT, input="in=3001 out=301 cached=2001")
    client.responses.create(model="o3", input=user("in=3002 out=302 reasoning=200 tool=1"))
    assert list(client.responses.create(model=GPT, input="in=3003 out=303", stream=True))
    with client.responses.stream(model=GPT, input="in=3004 out=304") as events:
        assert events.get_final_response().output_text == "The answer."
    client.embeddings.create(model=EMBEDDING, input="in=7")
    client.embeddings.create(model=EMBEDDING, input=["in=8"], encoding_format="float")
    for status, error in ((429, openai.RateLimitError), (500, openai.InternalServerError)):
        with pytest.raises(error):
            chat.create(model=GPT, messages=user(f"status={status}"))


def anthropic_calls(client: Any) -> None:
    """Call Anthropic's messages in every way."""
    messages = client.messages
    most: dict[str, Any] = {"model": CLAUDE, "max_tokens": 100}
    cached = "in=36 out=50 read=54 write=10 hour=4 model=claude-sonnet-4-5-20250929"
    messages.create(**most, messages=user(cached))
    messages.create(**most, messages=user("in=250000 out=5000 read=100"))
    messages.create(**most, messages=user("in=10 out=20 tool=1"), tools=[
        {"name": "weather", "input_schema": {"type": "object"}}])  # fmt: skip
    assert list(messages.create(**most, messages=user("in=11 out=21 read=7"), stream=True))
    with messages.stream(**most, messages=user("in=12 out=22 write=9 hour=9")) as stream:
        assert stream.get_final_text() == "The answer."
    with messages.stream(**most, messages=user("in=13 out=23 tool=1")) as stream:
        assert stream.get_final_message().stop_reason == "tool_use"
    raw = messages.with_raw_response.create(**most, messages=user("in=14 out=24"))
    assert raw.parse().content[0].text == "The answer."
    client.beta.messages.create(**most, messages=user("in=15 out=25"))
    for status, error in ((429, anthropic.RateLimitError), (500, anthropic.InternalServerError)):
        with pytest.raises(error):
            messages.create(**most, messages=user(f"status={status}"))


async def async_calls(gpt: Any, claude: Any) -> None:
    """Call both asynchronously, several at once."""
    chat, messages = gpt.chat.completions, claude.messages
    most: dict[str, Any] = {"model": CLAUDE, "max_tokens": 100}
    await asyncio.gather(
        chat.create(model=GPT, messages=user("in=4001 out=401")),
        gpt.responses.create(model=GPT, input="in=4002 out=402 cached=4000"),
        gpt.embeddings.create(model=EMBEDDING, input="in=9"),
        messages.create(**most, messages=user("in=16 out=26 read=1 write=1 hour=1")),
    )
    stream = await chat.create(model=GPT, messages=user("in=4003 out=403"), stream=True)
    assert len([chunk async for chunk in stream]) == 5
    events = await gpt.responses.create(model=GPT, input="in=4004 out=404", stream=True)
    assert [event async for event in events]
    told = await messages.create(**most, messages=user("in=17 out=27"), stream=True)
    assert [event async for event in told]
    async with messages.stream(**most, messages=user("in=18 out=28 read=2")) as text:
        assert await text.get_final_text() == "The answer."


def decorated_calls(client: Any) -> None:
    """Call models from functions and blocks that are told as calls of models themselves."""
    import pyflare

    chat = client.chat.completions
    llm = pyflare.InferenceType.LLM

    @pyflare.trace(model_id=GPT, inference_type=llm)
    def answer(text: str) -> Any:
        return chat.create(model=GPT, messages=user(text))

    @pyflare.trace(inference_type=llm)
    def stream(text: str) -> Any:
        for chunk in chat.create(model=GPT, messages=user(text), stream=True):
            yield chunk.choices[0].delta.content or ""

    @pyflare.trace(model_id=GPT, inference_type=llm)
    def twice() -> None:
        answer("in=5003 out=53")
        answer("in=5004 out=54")

    answer("in=5001 out=51")
    assert "".join(stream("in=5002 out=52")) == "The answer."
    twice()
    with pyflare.llm_span("ask", GPT, "openai") as call:
        told = chat.create(model=GPT, messages=user("in=5005 out=55 cached=5"))
        call.set_usage(pyflare.TokenUsage.from_response(told.usage))
    with pytest.raises(openai.RateLimitError):
        answer("status=429")


def main(server: str, collector: str, *others: str) -> None:
    """Make all calls, told to the collector."""
    import pyflare
    from pyflare.integrations import anthropic as told_anthropic
    from pyflare.integrations import openai as told_openai

    pyflare.init("model-app", collector, use_http=True)
    for name in others:
        if name.startswith("before:"):
            _instrument(name.removeprefix("before:"))
    told_openai.instrument()
    told_anthropic.instrument(native_spans="native" in others)
    for name in others:
        if name in OTHERS:
            _instrument(name)

    keys = {"api_key": "test", "max_retries": 0}
    # As in a server: what fails without a trace of its request around it, and is told in
    # separate traces, is two failures to anyone who reads them.
    who = pyflare.context(user_id="ada", session_id="s-1", team="search", feature="chat")
    with who, pyflare.span("request"):
        if "decorated" in others:
            decorated_calls(openai.OpenAI(base_url=f"{server}/v1", **keys))
            assert pyflare.shutdown(30)
            return
        openai_calls(openai.OpenAI(base_url=f"{server}/v1", **keys))
        anthropic_calls(anthropic.Anthropic(base_url=server, **keys))
        asyncio.run(
            async_calls(
                openai.AsyncOpenAI(base_url=f"{server}/v1", **keys),
                anthropic.AsyncAnthropic(base_url=server, **keys),
            )
        )
    assert pyflare.shutdown(30)


def _instrument(name: str) -> None:
    for module, kind in OTHERS[name]:
        getattr(import_module(module), kind)().instrument(
            tracer_provider=otel.get_tracer_provider()
        )


if __name__ == "__main__":
    os.environ["OTEL_METRICS_EXPORTER"] = "none"
    main(*sys.argv[1:])
