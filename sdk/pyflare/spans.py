"""Spans around a piece of code: any (`span`), or a call of a model (`llm_span`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import isfinite
from time import time_ns
from types import TracebackType
from typing import Any, Generic, TypeVar

from opentelemetry.context import attach
from opentelemetry.trace import (
    INVALID_SPAN,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.util.types import Attributes, AttributeValue

from pyflare import keys
from pyflare.capture import CaptureConfig
from pyflare.context import detach
from pyflare.failures import record_failure
from pyflare.sdk import PyFlare
from pyflare.types import TokenUsage

__all__ = ["LLMSpan", "SpanContextManager", "current_span", "llm_span", "span"]

_S = TypeVar("_S", bound=Span)
_OFF = CaptureConfig(enabled=False)
_MOST_DOCUMENTS = 100


class LLMSpan(Span):
    """A span with words for what a model call tells: usage, model, answer, content.

    Everything that an OpenTelemetry span can do goes to the span inside.

    Args:
        span: the span that it writes on.
    """

    __slots__ = ("_capture", "_span")

    def __init__(self, span: Span) -> None:
        self._span = span
        sdk = PyFlare.active
        self._capture = sdk.capture if sdk is not None else _OFF

    def set_usage(
        self,
        usage: TokenUsage | None = None,
        *,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        cache_read_tokens: int | None = None,
        cache_write_tokens: int | None = None,
        cache_write_1h_tokens: int | None = None,
        reasoning_tokens: int | None = None,
        audio_input_tokens: int | None = None,
        audio_output_tokens: int | None = None,
    ) -> None:
        """Say how many tokens the call used; given one by one or as `TokenUsage`.

        Args:
            usage: all of them.
            input_tokens: in total, cache and audio included.
            output_tokens: in total, reasoning and audio included.
            cache_read_tokens: part of the input, read from the prompt cache.
            cache_write_tokens: part of the input, written to the prompt cache.
            cache_write_1h_tokens: part of the cache writes, kept for an hour.
            reasoning_tokens: part of the output.
            audio_input_tokens: part of the input.
            audio_output_tokens: part of the output.
        """
        counts = {
            keys.INPUT_TOKENS: input_tokens,
            keys.OUTPUT_TOKENS: output_tokens,
            keys.CACHE_READ_TOKENS: cache_read_tokens,
            keys.CACHE_WRITE_TOKENS: cache_write_tokens,
            keys.CACHE_WRITE_1H_TOKENS: cache_write_1h_tokens,
            keys.REASONING_TOKENS: reasoning_tokens,
            keys.AUDIO_INPUT_TOKENS: audio_input_tokens,
            keys.AUDIO_OUTPUT_TOKENS: audio_output_tokens,
        }
        if usage is not None:
            whole = {
                keys.INPUT_TOKENS: usage.input_tokens,
                keys.OUTPUT_TOKENS: usage.output_tokens,
            }
            parts = {
                keys.CACHE_READ_TOKENS: usage.cache_read_tokens,
                keys.CACHE_WRITE_TOKENS: usage.cache_write_tokens,
                keys.CACHE_WRITE_1H_TOKENS: usage.cache_write_1h_tokens,
                keys.REASONING_TOKENS: usage.reasoning_tokens,
                keys.AUDIO_INPUT_TOKENS: usage.audio_input_tokens,
                keys.AUDIO_OUTPUT_TOKENS: usage.audio_output_tokens,
            }
            given = {**whole, **{key: count for key, count in parts.items() if count}}
            counts = {
                key: given.get(key) if count is None else count for key, count in counts.items()
            }
        self._span.set_attributes(
            {key: count for key, given in counts.items() if (count := _count(given)) is not None}
        )

    def set_model(self, model: str) -> None:
        """Say which model answered, where that is not the one that was asked."""
        self._span.set_attribute(keys.RESPONSE_MODEL, model)

    def set_response(
        self,
        *,
        model: str | None = None,
        response_id: str | None = None,
        finish_reasons: Sequence[str] | str | None = None,
        service_tier: str | None = None,
        time_to_first_token_ms: float | None = None,
    ) -> None:
        """Say what the answer tells about itself.

        Args:
            model: that answered.
            response_id: of the provider; a call that is reported twice is known by it.
            finish_reasons: why the model stopped.
            service_tier: that the call was served on; prices depend on it.
            time_to_first_token_ms: from the start of the call.
        """
        reasons = (finish_reasons,) if isinstance(finish_reasons, str) else finish_reasons
        first = None if time_to_first_token_ms is None else time_to_first_token_ms / 1000
        told: dict[str, Any] = {
            keys.RESPONSE_MODEL: model,
            keys.RESPONSE_ID: response_id,
            keys.FINISH_REASONS: reasons,
            keys.SERVICE_TIER: service_tier,
            keys.TIME_TO_FIRST_CHUNK: first,
        }
        self._span.set_attributes({key: value for key, value in told.items() if value is not None})

    def set_first_token(self) -> None:
        """Say that the first token of a stream has come, now; a second call changes nothing."""
        start = getattr(self._span, "start_time", None)
        known = getattr(self._span, "attributes", None) or {}
        if start is not None and keys.TIME_TO_FIRST_CHUNK not in known:
            self._span.set_attribute(keys.TIME_TO_FIRST_CHUNK, (time_ns() - start) / 1e9)

    def set_input(self, content: object, *, system: str | None = None) -> None:
        """Keep what the model was asked, as configured by `capture`.

        Args:
            content: a text, or messages `{"role": ..., "content": ...}`, or anything.
            system: the instructions, where they are given apart.
        """
        self._set_messages(keys.INPUT_MESSAGES, content, "user")
        if system is not None and self._capture.enabled and self._span.is_recording():
            parts = [{"type": "text", "content": self._capture.text(system)}]
            self._span.set_attribute(
                keys.SYSTEM_INSTRUCTIONS, json.dumps(parts, ensure_ascii=False)
            )

    def set_output(self, content: object) -> None:
        """Keep what the model answered, as configured by `capture`."""
        self._set_messages(keys.OUTPUT_MESSAGES, content, "assistant")

    def set_documents(self, documents: Sequence[object], *, query: str | None = None) -> None:
        """Keep what a retriever found, as configured by `capture`; `pyflare eval rag` reads it.

        Args:
            documents: texts, or mappings with any of `id`, `content` and `score`; the
                first hundred are kept.
            query: what was looked for.
        """
        if not self._capture.enabled or not self._span.is_recording():
            return
        found = [_document(document, self._capture) for document in documents[:_MOST_DOCUMENTS]]
        self._span.set_attribute(keys.RETRIEVAL_DOCUMENTS, json.dumps(found, ensure_ascii=False))
        if query is not None:
            self._span.set_attribute(keys.RETRIEVAL_QUERY, self._capture.text(query))

    def _set_messages(self, key: str, content: object, role: str) -> None:
        if not self._capture.enabled or not self._span.is_recording():
            return
        messages = [
            {"role": speaker, "parts": [{"type": "text", "content": text}]}
            for speaker, text in _messages(content, role, self._capture)
        ]
        self._span.set_attribute(key, json.dumps(messages, ensure_ascii=False))

    # What an OpenTelemetry span can do

    def end(self, end_time: int | None = None) -> None:
        """End the span."""
        self._span.end(end_time)

    def get_span_context(self) -> SpanContext:
        """Return the ids of the span."""
        return self._span.get_span_context()

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Set attributes."""
        self._span.set_attributes(attributes)

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """Set an attribute."""
        self._span.set_attribute(key, value)

    def add_event(
        self, name: str, attributes: Attributes = None, timestamp: int | None = None
    ) -> None:
        """Add an event."""
        self._span.add_event(name, attributes, timestamp)

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        """Add a link."""
        self._span.add_link(context, attributes)

    def update_name(self, name: str) -> None:
        """Give the span another name."""
        self._span.update_name(name)

    def is_recording(self) -> bool:
        """Return whether what is set on the span is kept."""
        return self._span.is_recording()

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Set the status."""
        self._span.set_status(status, description)

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Add an exception as an event."""
        self._span.record_exception(exception, attributes, timestamp, escaped)


class SpanContextManager(Generic[_S]):
    """A span that starts where a `with` or `async with` block is entered and ends with it."""

    __slots__ = ("_attributes", "_kind", "_name", "_span", "_token", "_view")

    def __init__(
        self, name: str, kind: SpanKind, attributes: Mapping[str, Any] | None, view: type[_S] | None
    ) -> None:
        self._name = name
        self._kind = kind
        self._attributes = attributes
        self._view = view

    def __enter__(self) -> _S:
        """Start the span and make it the current one."""
        sdk = PyFlare.active
        span: Span = INVALID_SPAN
        self._token = None
        if sdk is not None:
            span = sdk.tracer.start_span(self._name, kind=self._kind, attributes=self._attributes)
            self._token = attach(set_span_in_context(span))
        self._span = span
        return span if self._view is None else self._view(span)  # type: ignore[return-value, call-arg]  # _S is Span where no view is given

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the span; an exception is recorded and goes on."""
        if self._token is None:
            return
        detach(self._token)
        if error is not None:
            sdk = PyFlare.get_instance()
            record_failure(self._span, error, _OFF if sdk is None else sdk.capture)
        self._span.end()

    async def __aenter__(self) -> _S:
        """Start the span and make it the current one."""
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the span; an exception is recorded and goes on."""
        self.__exit__(kind, error, trace)


def span(
    name: str,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Mapping[str, Any] | None = None,
) -> SpanContextManager[Span]:
    """Return a span as a context manager, for `with` and `async with`.

    Args:
        name: of the span.
        kind: OpenTelemetry's kind: who calls whom.
        attributes: of the span.
    """
    return SpanContextManager(name, kind, attributes, None)


def llm_span(
    name: str, model_id: str, provider: str = "", **attributes: Any
) -> SpanContextManager[LLMSpan]:
    """Return the span of a model call as a context manager, for `with` and `async with`.

    Args:
        name: of the span.
        model_id: the model that is asked.
        provider: who serves it; a `ModelProvider` or a name.
        **attributes: further attributes of the span.
    """
    fixed: dict[str, Any] = {
        keys.INFERENCE_TYPE: "llm",
        keys.OPERATION: keys.OPERATIONS["llm"],
        keys.MODEL_ID: model_id,
        keys.REQUEST_MODEL: model_id,
    }
    if provider:
        fixed[keys.MODEL_PROVIDER] = fixed[keys.PROVIDER] = str(provider)
    given = {key: value for key, value in attributes.items() if value is not None}
    return SpanContextManager(name, SpanKind.CLIENT, {**fixed, **given}, LLMSpan)


def current_span() -> LLMSpan:
    """Return the span that the code runs in, with the words of a model call.

    Outside of any span it takes everything and keeps nothing.
    """
    current = get_current_span()
    return current if isinstance(current, LLMSpan) else LLMSpan(current)


def _count(given: object) -> int | None:
    """Return a number of tokens; None for what is none, whatever an answer holds there."""
    try:
        return None if given is None else int(given)  # type: ignore[call-overload]  # that is tried
    except (TypeError, ValueError):
        return None


def _document(document: object, capture: CaptureConfig) -> dict[str, Any]:
    """Return a document as the GenAI conventions have it, its content beside."""
    if not isinstance(document, Mapping):
        return {"content": capture.text(document)}
    found: dict[str, Any] = {}
    if document.get("id") is not None:
        found["id"] = str(document["id"])
    if document.get("content") is not None:
        found["content"] = capture.text(document["content"])
    with suppress(KeyError, TypeError, ValueError):
        score = float(document["score"])
        if isfinite(score):
            found["score"] = score
    return found


def _messages(content: object, role: str, capture: CaptureConfig) -> list[tuple[str, str]]:
    """Return (role, text) of each message in `content`; of anything else, one message."""
    if isinstance(content, Mapping) and "content" in content:
        content = [content]
    if isinstance(content, list | tuple) and content:
        found = [item for item in content if isinstance(item, Mapping) and "content" in item]
        if len(found) == len(content):
            return [
                (str(item.get("role") or role), capture.text(item["content"])) for item in found
            ]
    return [(role, capture.text(content))]
