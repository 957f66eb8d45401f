"""What the integrations write on spans, and what they leave as it was."""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from openai.lib.azure import AzureOpenAI
from opentelemetry import context as otel_context
from opentelemetry import trace as otel
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pyflare import integrations
from pyflare.capture import CaptureConfig
from pyflare.integrations import _call
from pyflare.integrations import anthropic as told_anthropic
from pyflare.integrations import openai as told_openai
from pyflare.sdk import PyFlare
from tests.sdk.model_server import ModelServer
from tests.sdk.price_oracle import ROOT

GPT, CLAUDE = "gpt-4o-mini", "claude-opus-4-6"
WEATHER: Any = {"type": "function", "function": {"name": "weather", "parameters": {}}}


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    """Return a server of models."""
    with ModelServer() as running:
        yield running


class Told:
    """What was told: the spans, and how content is kept."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.sdk = SimpleNamespace(tracer_provider=provider, capture=CaptureConfig())

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """The spans that have ended."""
        return self.exporter.get_finished_spans()

    @property
    def only(self) -> Mapping[str, Any]:
        """The attributes of the only span."""
        (span,) = self.spans
        return dict(span.attributes or {})


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    """Return what the integrations tell; they are on during the test only."""
    told = Told()
    monkeypatch.setattr(PyFlare, "active", told.sdk)
    integrations.instrument()
    yield told
    integrations.uninstrument()


@pytest.fixture
def gpt(server: ModelServer) -> openai.OpenAI:
    """Return a client of OpenAI's API."""
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="test", max_retries=0)


@pytest.fixture
def claude(server: ModelServer) -> anthropic.Anthropic:
    """Return a client of Anthropic's API."""
    return anthropic.Anthropic(base_url=server.url, api_key="test", max_retries=0)


def user(text: str) -> Any:
    """Return a conversation of one message."""
    return [{"role": "user", "content": text}]


def messages(attributes: Mapping[str, Any], name: str) -> Any:
    """Return an attribute with messages."""
    return json.loads(attributes[f"gen_ai.{name}.messages"])


# What is told


def test_a_chat_is_told_whole(told: Told, gpt: openai.OpenAI) -> None:
    """Request, answer, usage and content stand under OpenTelemetry's names."""
    gpt.chat.completions.create(
        model=GPT,
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "in=12 out=3 cached=10 reasoning=2"},
        ],
        temperature=0.5,
        max_completion_tokens=99,
        stop="END",
        seed=7,
    )

    (span,) = told.spans
    attributes = dict(span.attributes or {})
    assert (span.name, span.kind, span.status.status_code) == (
        f"chat {GPT}",
        otel.SpanKind.CLIENT,
        otel.StatusCode.UNSET,
    )
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == "pyflare.integrations.openai"
    assert attributes["gen_ai.response.id"].startswith("chatcmpl-")
    assert (
        attributes.items()
        >= {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": GPT,
            "gen_ai.response.model": GPT,
            "gen_ai.request.temperature": 0.5,
            "gen_ai.request.max_tokens": 99,
            "gen_ai.request.stop_sequences": ("END",),
            "gen_ai.request.seed": 7,
            "gen_ai.response.finish_reasons": ("stop",),
            "gen_ai.usage.input_tokens": 12,
            "gen_ai.usage.output_tokens": 3,
            "gen_ai.usage.cache_read.input_tokens": 10,
            "gen_ai.usage.reasoning.output_tokens": 2,
            "server.address": "127.0.0.1",
            "pyflare.inference.type": "llm",
        }.items()
    )
    assert [m["role"] for m in messages(attributes, "input")] == ["system", "user"]
    assert messages(attributes, "output") == [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": "The answer."}],
            "finish_reason": "stop",
        }
    ]


TOOL_CALL = {"type": "tool_call", "name": "weather", "arguments": {"city": "Rome"}}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("library", ["openai", "anthropic"])
def test_tools_are_told(
    told: Told, gpt: openai.OpenAI, claude: anthropic.Anthropic, library: str, *, stream: bool
) -> None:
    """The call of a tool in the answer, its result in the next request, streamed or not."""
    if library == "openai":
        past: list[Any] = [
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "call_0", "type": "function",
                 "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}]},
            {"role": "tool", "tool_call_id": "call_0", "content": "rain"},
        ]  # fmt: skip
        answer: Any = gpt.chat.completions.create(
            model=GPT, messages=[*past, *user("in=9 out=2 tool=1")], tools=[WEATHER], stream=stream
        )
    else:
        past = [
            {"role": "assistant", "content": [
                {"type": "tool_use", "id": "call_0", "name": "weather",
                 "input": {"city": "Oslo"}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "call_0", "content": "rain"}]},
        ]  # fmt: skip
        answer = claude.messages.create(
            model=CLAUDE,
            max_tokens=9,
            messages=[*past, *user("in=9 out=2 tool=1")],
            tools=[{"name": "weather", "input_schema": {"type": "object"}}],
            stream=stream,
        )
    if stream:
        assert list(answer)

    said = messages(told.only, "output")[0]["parts"]
    assert [part.items() >= TOOL_CALL.items() for part in said] == [True]
    asked, result = (m["parts"][0] for m in messages(told.only, "input")[:2])
    assert asked == {**TOOL_CALL, "id": "call_0", "arguments": {"city": "Oslo"}}
    assert result == {"type": "tool_call_response", "id": "call_0", "response": "rain"}
    assert "weather" in told.only["gen_ai.tool.definitions"]
    assert told.only["gen_ai.response.finish_reasons"][0].startswith("tool")


def test_streams_tell_usage_and_time(told: Told, gpt: openai.OpenAI) -> None:
    """A stream has its tokens, its text, and the time to its first chunk."""
    stream = gpt.chat.completions.create(model=GPT, messages=user("in=21 out=4"), stream=True)
    assert not told.spans
    list(stream)

    assert told.only["gen_ai.usage.input_tokens"] == 21
    assert told.only["gen_ai.request.stream"] is True
    assert 0 < told.only["gen_ai.response.time_to_first_chunk"] < 60
    assert messages(told.only, "output")[0]["parts"][0]["content"] == "The answer."
    assert "pyflare.cancelled" not in told.only


def test_anthropic_tells_the_cache(told: Told, claude: anthropic.Anthropic) -> None:
    """Input is the total; reads, writes and one-hour writes are its parts."""
    claude.messages.create(
        model=CLAUDE,
        max_tokens=9,
        system="Be brief.",
        messages=user("in=36 out=50 read=54 write=10 hour=4"),
    )

    assert told.only["gen_ai.usage.input_tokens"] == 100
    assert told.only["gen_ai.usage.cache_read.input_tokens"] == 54
    assert told.only["gen_ai.usage.cache_write.input_tokens"] == 10
    assert told.only["pyflare.tokens.cache_write_1h"] == 4
    assert json.loads(told.only["gen_ai.system_instructions"]) == [
        {"type": "text", "content": "Be brief."}
    ]


def test_embeddings_tell_no_vectors(told: Told, gpt: openai.OpenAI) -> None:
    """Tokens, dimensions and the text are told; output tokens do not exist."""
    answer = gpt.embeddings.create(model="text-embedding-3-small", input=["one", "in=5"])

    assert [round(x, 3) for x in answer.data[0].embedding] == [0.1, 0.2, 0.3]
    assert told.only["gen_ai.usage.input_tokens"] == 5
    assert "gen_ai.usage.output_tokens" not in told.only
    assert told.only["gen_ai.embeddings.dimension.count"] == 3
    assert told.only["pyflare.input.preview"] == "one\nin=5"
    assert told.only["pyflare.inference.type"] == "embedding"


@pytest.mark.parametrize(
    ("status", "error"), [(429, openai.RateLimitError), (500, openai.InternalServerError)]
)
def test_errors_are_told_and_go_on(
    told: Told, gpt: openai.OpenAI, status: int, error: type[openai.APIStatusError]
) -> None:
    """The application gets the library's own exception; the span says what it was."""
    with pytest.raises(error) as caught:
        gpt.chat.completions.create(model=GPT, messages=user(f"status={status}"))

    assert type(caught.value) is error
    assert caught.value.__cause__ is None
    (span,) = told.spans
    assert span.status.status_code is otel.StatusCode.ERROR
    assert told.only["error.type"] == f"openai.{error.__name__}"
    assert told.only["http.response.status_code"] == status
    assert [event.name for event in span.events] == ["exception"]


def test_retries_are_one_call(told: Told, server: ModelServer) -> None:
    """The library's retries are within the span of the call that asked for them."""
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="test", max_retries=1)
    before = len(server.calls)
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model=GPT, messages=user("status=500"))

    assert len(server.calls) == before + 2
    assert len(told.spans) == 1


def test_other_requests_are_not_told(told: Told, gpt: openai.OpenAI) -> None:
    """Listing models costs nothing and is no call of a model."""
    with pytest.raises(openai.APIStatusError):
        gpt.models.list()

    assert not told.spans


@pytest.mark.parametrize(
    ("url", "provider"),
    [
        ("https://api.openai.com/v1", "openai"),
        ("https://openrouter.ai/api/v1", "openrouter"),
        ("https://api.groq.com/openai/v1", "groq"),
        ("https://x.openai.azure.com/openai/v1", "azure.ai.openai"),
        ("https://generativelanguage.googleapis.com/v1beta/openai", "gcp.gemini"),
        ("https://api.x.ai/v1", "x_ai"),
        ("https://max.ai/v1", "openai"),
        ("http://localhost:8000/v1", "openai"),
    ],
)
def test_compatible_servers_are_told_by_their_address(told: Told, url: str, provider: str) -> None:
    """Prices depend on who serves: OpenAI's client speaks to many."""

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(429, json={})

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    client = openai.OpenAI(base_url=url, api_key="test", max_retries=0, http_client=http)
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model=GPT, messages=user("hi"))

    assert told.only["gen_ai.provider.name"] == provider


def test_azure_is_told_as_azure(told: Told) -> None:
    """Azure's client is OpenAI's with another address."""

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(429, json={})

    client = AzureOpenAI(
        azure_endpoint="http://127.0.0.1:9",
        api_version="2024-10-21",
        api_key="test",
        max_retries=0,
        http_client=httpx2.Client(transport=httpx2.MockTransport(answer)),
    )
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="my-deployment", messages=user("hi"))

    assert told.only["gen_ai.provider.name"] == "azure.ai.openai"
    assert told.only["gen_ai.request.model"] == "my-deployment"


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        ("AnthropicBedrock", "aws.bedrock"),
        ("AsyncAnthropicVertex", "gcp.vertex_ai"),
        ("AnthropicFoundry", "azure.ai.inference"),
    ],
)
def test_anthropics_other_clients_are_told_by_their_hosts(
    told: Told, server: ModelServer, name: str, provider: str
) -> None:
    """Their classes are wrapped too; who serves is told by the class."""
    assert hasattr(getattr(anthropic, name).request, "__wrapped__")
    kind = type(name, (anthropic.Anthropic,), {})
    client = kind(base_url=server.url, api_key="test", max_retries=0)
    client.messages.create(model=CLAUDE, max_tokens=9, messages=user("in=1"))

    assert told.only["gen_ai.provider.name"] == provider


# Content


def test_without_capture_no_content_is_told(
    told: Told, gpt: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    """Neither what is asked nor what is answered, nor tools, streamed or not."""
    told.sdk.capture = CaptureConfig(enabled=False)
    asked = user("secret in=1 out=1 tool=1")
    gpt.chat.completions.create(model=GPT, messages=asked, tools=[WEATHER])
    list(gpt.chat.completions.create(model=GPT, messages=asked, stream=True))
    gpt.responses.create(model=GPT, input="secret in=1", instructions="secret")
    gpt.embeddings.create(model="text-embedding-3-small", input="secret in=1")
    most: Any = {"model": CLAUDE, "max_tokens": 9, "system": "secret"}
    claude.messages.create(**most, messages=asked)
    list(claude.messages.create(**most, messages=asked, stream=True))

    assert len(told.spans) == 6
    for span in told.spans:
        text = json.dumps(dict(span.attributes or {}), default=str)
        assert "secret" not in text
        assert "Rome" not in text
        assert "The answer" not in text


def test_content_is_masked_and_cut(told: Told, gpt: openai.OpenAI) -> None:
    """The mask sees every text; the newest messages are kept within the limit."""
    told.sdk.capture = CaptureConfig(max_chars=30, mask=lambda text: text.replace("Rome", "#"))
    conversation: Any = [
        {"role": "user", "content": "the oldest message"},
        {"role": "assistant", "content": "Rome it is"},
        {"role": "user", "content": "in=1 out=1 tool=1 Rome"},
    ]
    gpt.chat.completions.create(model=GPT, messages=conversation)

    kept = [m["parts"][0]["content"] for m in messages(told.only, "input")]
    assert kept == ["the ...", "# it is", "in=1 out=1 tool=1 #"]
    assert "Rome" not in json.dumps(dict(told.only), default=str)


def test_a_mask_that_fails_withholds(told: Told, gpt: openai.OpenAI) -> None:
    """What cannot be masked is not sent, and the call goes on."""

    def mask(_: str) -> str:
        raise KeyError

    told.sdk.capture = CaptureConfig(mask=mask)
    answer = gpt.chat.completions.create(model=GPT, messages=user("secret in=1 out=1"))

    assert answer.choices[0].message.content == "The answer."
    assert "secret" not in json.dumps(dict(told.only), default=str)
    assert told.only["gen_ai.usage.input_tokens"] == 1


# What is left as it was


def test_the_usage_chunk_is_kept_from_those_who_did_not_ask(told: Told, gpt: openai.OpenAI) -> None:
    """The application sees the chunks that it would see without PyFlare."""
    asked = user("in=1 out=1")
    told_openai.uninstrument()
    plain = list(gpt.chat.completions.create(model=GPT, messages=asked, stream=True))
    told_openai.instrument()
    hidden = list(gpt.chat.completions.create(model=GPT, messages=asked, stream=True))
    refused = list(
        gpt.chat.completions.create(
            model=GPT, messages=asked, stream=True, stream_options={"include_usage": False}
        )
    )
    wanted = list(
        gpt.chat.completions.create(
            model=GPT, messages=asked, stream=True, stream_options={"include_usage": True}
        )
    )

    def seen(chunks: list[Any]) -> list[Any]:
        return [chunk.choices for chunk in chunks]

    assert seen(hidden) == seen(refused) == seen(plain)
    assert [chunk.usage for chunk in hidden] == [None] * len(plain)
    assert seen(wanted) == [*seen(plain), []]
    assert wanted[-1].usage is not None
    tokens = [(s.attributes or {}).get("gen_ai.usage.input_tokens") for s in told.spans]
    assert tokens == [1, 1, 1]


def test_usage_is_not_asked_for_where_that_is_switched_off(
    told: Told, gpt: openai.OpenAI, server: ModelServer
) -> None:
    """For servers that refuse the option; instrumenting again is how to change it."""
    told_openai.instrument(stream_usage=False)
    list(gpt.chat.completions.create(model=GPT, messages=user("in=1 out=1"), stream=True))

    assert "stream_options" not in server.calls[-1].body
    assert "gen_ai.usage.input_tokens" not in told.only


def test_streams_are_the_librarys_own(
    told: Told, gpt: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    """Type, response and context manager of a stream are not those of a wrapper."""
    with gpt.chat.completions.create(model=GPT, messages=user("in=1"), stream=True) as stream:
        assert type(stream) is openai.Stream
        assert stream.response.status_code == 200
        next(stream)
    most: Any = {"model": CLAUDE, "max_tokens": 9, "messages": user("in=1")}
    events = claude.messages.create(**most, stream=True)
    assert type(events) is anthropic.Stream
    events.close()
    with claude.messages.stream(**most) as told_stream:
        assert type(told_stream) is anthropic.MessageStream

    assert len(told.spans) == 3


def test_the_applications_own_objects_are_not_changed(told: Told, gpt: openai.OpenAI) -> None:
    """Options that PyFlare adds go into a copy."""
    options: Any = {"include_usage": False}
    asked = user("in=1")
    list(gpt.chat.completions.create(
        model=GPT, messages=asked, stream=True, stream_options=options))  # fmt: skip

    assert options == {"include_usage": False}
    assert asked == user("in=1")
    assert len(told.spans) == 1


def test_a_stream_that_breaks_fails_as_before(told: Told, gpt: openai.OpenAI) -> None:
    """The library's exception reaches the application; the span has it too."""
    stream = gpt.chat.completions.create(model=GPT, messages=user("in=1 break=1"), stream=True)
    with pytest.raises(openai.APIConnectionError):
        list(stream)

    (span,) = told.spans
    assert span.status.status_code is otel.StatusCode.ERROR
    assert told.only["error.type"] == "openai.APIConnectionError"
    assert messages(told.only, "output")[0]["parts"][0]["content"] == "The answer."


@pytest.mark.parametrize("how", ["close", "with", "forget", "never read"])
def test_a_stream_that_is_left_ends(told: Told, claude: anthropic.Anthropic, how: str) -> None:
    """Closed, left or forgotten: the call ends, with what was told until then."""
    most: Any = {"model": CLAUDE, "max_tokens": 9, "messages": user("in=7 out=99")}
    stream = claude.messages.create(**most, stream=True)
    if how != "never read":
        next(iter(stream))
    if how == "close":
        stream.close()
    elif how == "with":
        with stream:
            pass
    del stream
    gc.collect()

    assert told.only["pyflare.cancelled"] is True
    if how != "never read":
        assert told.only["gen_ai.usage.input_tokens"] == 7


def test_raw_answers_are_told(told: Told, gpt: openai.OpenAI, server: ModelServer) -> None:
    """Raw, streamed raw, and read in pieces: the application reads what it would read."""
    chat = gpt.chat.completions
    raw = chat.with_raw_response.create(model=GPT, messages=user("in=1 out=1"))
    assert raw.headers["content-type"] == "application/json"
    assert raw.parse().usage.prompt_tokens == 1  # type: ignore[union-attr]
    streamed = chat.with_raw_response.create(model=GPT, messages=user("in=2 out=1"), stream=True)
    assert "stream_options" not in server.calls[-1].body
    assert len(list(streamed.parse())) == 5
    with chat.with_streaming_response.create(model=GPT, messages=user("in=3 out=1")) as response:
        assert b"The answer." in b"".join(response.iter_bytes())
    with chat.with_streaming_response.create(model=GPT, messages=user("in=4 out=1")) as response:
        assert response.parse().usage.prompt_tokens == 4  # type: ignore[union-attr]
    del response
    gc.collect()

    tokens = [(s.attributes or {}).get("gen_ai.usage.input_tokens") for s in told.spans]
    # A stream read raw is not asked for usage, and bytes read by the application tell none.
    assert sorted(tokens, key=str) == [1, 4, None, None]


def test_async_clients(told: Told, server: ModelServer) -> None:
    """The same for coroutines: types, hidden usage, early ends, raw answers, errors."""

    async def calls() -> None:
        gpt = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="test", max_retries=0)
        claude = anthropic.AsyncAnthropic(base_url=server.url, api_key="test", max_retries=0)
        chat = gpt.chat.completions
        stream = await chat.create(model=GPT, messages=user("in=1 out=1"), stream=True)
        assert type(stream) is openai.AsyncStream
        assert [bool(chunk.choices) for chunk in [c async for c in stream]] == [True] * 5
        left = await chat.create(model=GPT, messages=user("in=2"), stream=True)
        async with left:
            await anext(aiter(left))
        raw = await chat.with_raw_response.create(model=GPT, messages=user("in=3 out=1"))
        assert raw.parse().choices
        pieces = chat.with_streaming_response.create(model=GPT, messages=user("in=4 out=1"))
        async with pieces as response:
            assert (await response.parse()).choices
        with pytest.raises(openai.RateLimitError):
            await chat.create(model=GPT, messages=user("status=429"))
        most: Any = {"model": CLAUDE, "max_tokens": 9}
        async with claude.messages.stream(**most, messages=user("in=5 out=1")) as text:
            assert [piece async for piece in text.text_stream] == ["The ", "answer", "."]

    asyncio.run(calls())

    tokens = [(s.attributes or {}).get("gen_ai.usage.input_tokens") for s in told.spans]
    assert tokens == [1, None, 3, 4, None, 5]


def test_the_methods_stay_coroutine_functions(told: Told) -> None:
    """Frameworks look at what kind of function a method is."""
    assert inspect.iscoroutinefunction(openai.AsyncOpenAI.request)
    assert not inspect.iscoroutinefunction(openai.OpenAI.request)
    assert not told.spans


def test_instrumenting_twice_tells_once(told: Told, gpt: openai.OpenAI) -> None:
    """Idempotent, and the clients of before are told too."""
    told_openai.instrument()
    integrations.instrument()
    gpt.chat.completions.create(model=GPT, messages=user("in=1"))

    assert len(told.spans) == 1


def test_uninstrument_leaves_nothing(told: Told, gpt: openai.OpenAI) -> None:
    """The very functions of the library are back; then they can be wrapped anew."""
    integrations.uninstrument()
    assert "request" not in vars(openai.OpenAI)
    assert "request" not in vars(openai.AsyncOpenAI)
    assert not hasattr(anthropic.Anthropic.request, "__wrapped__")
    assert not told_openai.is_instrumented()
    gpt.chat.completions.create(model=GPT, messages=user("in=1"))
    assert not told.spans

    told_openai.instrument()
    gpt.chat.completions.create(model=GPT, messages=user("in=1"))
    assert len(told.spans) == 1


def test_another_wrapper_on_top_survives(
    told: Told, gpt: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taking PyFlare off does not take off what others put on since; it only falls silent."""
    ours = openai.OpenAI.request
    seen = []

    def theirs(client: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(client)
        return ours(client, *args, **kwargs)

    theirs.__wrapped__ = ours  # type: ignore[attr-defined]
    monkeypatch.setattr(openai.OpenAI, "request", theirs)
    told_openai.uninstrument()
    gpt.chat.completions.create(model=GPT, messages=user("in=1"))
    assert (len(seen), len(told.spans)) == (1, 0)

    told_openai.instrument()
    gpt.chat.completions.create(model=GPT, messages=user("in=1"))
    assert (len(seen), len(told.spans)) == (2, 1)
    monkeypatch.undo()


def test_nothing_is_told_while_the_sdk_is_off(
    told: Told, gpt: openai.OpenAI, monkeypatch: pytest.MonkeyPatch, server: ModelServer
) -> None:
    """Without `init` the clients work as if PyFlare were not there."""
    monkeypatch.setattr(PyFlare, "active", None)
    list(gpt.chat.completions.create(model=GPT, messages=user("in=1"), stream=True))

    assert "stream_options" not in server.calls[-1].body
    assert not told.spans


@pytest.mark.parametrize(
    "key", ["suppress_instrumentation", "suppress_language_model_instrumentation"]
)
def test_suppression_is_respected(told: Told, gpt: openai.OpenAI, key: str) -> None:
    """What OpenTelemetry and other instrumentations ask for silence by."""
    token = otel_context.attach(otel_context.set_value(key, True))
    try:
        gpt.chat.completions.create(model=GPT, messages=user("in=1"))
    finally:
        otel_context.detach(token)

    assert not told.spans


@pytest.mark.parametrize("broken", ["start", "read", "event", "end"])
def test_what_goes_wrong_in_telling_stays_there(
    told: Told, gpt: openai.OpenAI, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """A defect of PyFlare costs the span at most, never the call."""
    from pyflare.integrations import _openai_api

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError

    where = {
        "start": (_call, "_request_attributes"),
        "read": (_openai_api, "_head"),
        "event": (_openai_api._ChatReader, "add"),
        "end": (_call.ModelCall, "_set_answer"),
    }
    monkeypatch.setattr(*where[broken], fail)
    stream = gpt.chat.completions.create(model=GPT, messages=user("in=1"), stream=True)
    assert len(list(stream)) == 5
    answer = gpt.chat.completions.create(model=GPT, messages=user("in=1"))
    assert answer.choices[0].message.content == "The answer."
    assert len(told.spans) == (0 if broken == "start" else 2)


def test_the_span_of_the_call_is_the_parent_of_what_it_does(told: Told, gpt: openai.OpenAI) -> None:
    """Within the request, and not after it, the call's span is the current one."""
    seen = []
    sent = gpt._client.send

    def send(*args: Any, **kwargs: Any) -> Any:
        seen.append(otel.get_current_span().get_span_context().span_id)
        return sent(*args, **kwargs)

    gpt._client.send = send  # type: ignore[method-assign]
    gpt.chat.completions.create(model=GPT, messages=user("in=1"))

    (span,) = told.spans
    assert span.context is not None
    assert seen == [span.context.span_id]
    assert not otel.get_current_span().get_span_context().is_valid


def test_native_spans_of_anthropic_are_left_out_and_can_be_had(
    told: Told, server: ModelServer
) -> None:
    """The client's own span of a message would tell the call a second time."""
    client = anthropic.Anthropic(
        base_url=server.url,
        api_key="test",
        open_telemetry={"tracer_provider": told.sdk.tracer_provider},
    )
    client.messages.create(model=CLAUDE, max_tokens=9, messages=user("in=1"))
    assert [span.name for span in told.spans] == [f"chat {CLAUDE}"]

    told_anthropic.instrument(native_spans=True)
    client.messages.create(model=CLAUDE, max_tokens=9, messages=user("in=1"))
    assert len(told.spans) == 3


def test_the_modules_are_reached_from_pyflare() -> None:
    """`import pyflare` is enough, and brings no client library."""
    code = (
        "import sys, pyflare; assert 'openai' not in sys.modules;"
        "assert not pyflare.integrations.openai.is_instrumented();"
        "assert not pyflare.integrations.anthropic.is_instrumented();"
        "assert not {'openai', 'anthropic'} & set(sys.modules);"
        "assert pyflare.integrations.instrument() == ('openai', 'anthropic')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(ROOT / "sdk")})


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says which extra brings it."""
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ImportError, match=r"pip install 'pyflare-suite\[openai\]'"):
        told_openai.instrument()
