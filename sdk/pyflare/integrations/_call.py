"""One call of a model as a span, from the request to the end of its answer."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.context import Context, get_current
from opentelemetry.trace import (
    Span,
    SpanKind,
    StatusCode,
    Tracer,
    TracerProvider,
    set_span_in_context,
)

from pyflare import keys
from pyflare._version import __version__
from pyflare.failures import record_failure
from pyflare.integrations._api import Answer, Api, Reader, part
from pyflare.integrations._content import messages_text, parts_text, preview
from pyflare.log import logger
from pyflare.sdk import PyFlare

__all__ = ["ModelCall"]

_HOSTS = {
    "openai.azure.com": "azure.ai.openai",
    "cognitiveservices.azure.com": "azure.ai.openai",
    "services.ai.azure.com": "azure.ai.inference",
    "openrouter.ai": "openrouter",
    "groq.com": "groq",
    "deepseek.com": "deepseek",
    "mistral.ai": "mistral_ai",
    "x.ai": "x_ai",
    "together.xyz": "together",
    "together.ai": "together",
    "fireworks.ai": "fireworks",
    "perplexity.ai": "perplexity",
    "cerebras.ai": "cerebras",
    "moonshot.ai": "moonshot_ai",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "amazonaws.com": "aws.bedrock",
}
"""Servers that speak another provider's API."""
_CLIENTS = {"Azure": "azure.ai.openai", "Bedrock": "aws.bedrock", "Vertex": "gcp.vertex_ai",
            "Foundry": "azure.ai.inference"}  # fmt: skip
"""Part of a client class's name to who serves its calls."""
_HTTP_STATUS = "http.response.status_code"
_SERVER_ADDRESS, _SERVER_PORT = "server.address", "server.port"


class ModelCall:
    """A call under way. Nothing here raises once it is made.

    Args:
        sdk: the SDK that takes the span.
        api: the endpoint.
        library: name of the client library.
        client: the client object.
        body: the body of the request.
        streaming: whether the answer comes as a stream.
    """

    def __init__(
        self,
        sdk: PyFlare,
        api: Api,
        library: str,
        client: object,
        body: Mapping[str, Any],
        *,
        streaming: bool,
    ) -> None:
        self._api = api
        self._capture = sdk.capture
        self._start = perf_counter()
        self._first: float | None = None
        self._ended = False
        model = part(body, "model")
        attributes = _request_attributes(api, body)
        attributes |= _server_attributes(str(part(client, "base_url") or ""))
        attributes[keys.OPERATION] = api.operation
        attributes[keys.INFERENCE_TYPE] = api.inference_type
        attributes[keys.PROVIDER] = _provider(library, client, attributes)
        if model:
            attributes[keys.REQUEST_MODEL] = attributes[keys.MODEL_ID] = str(model)
        if streaming:
            attributes[keys.STREAM] = True
        tracer = _tracer(sdk.tracer_provider, library)
        name = f"{api.operation} {model}" if model else api.operation
        self.span: Span = tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)
        self.keeps_content = self._capture.enabled and self.span.is_recording()
        if self.keeps_content:
            try:
                self._set_input(body)
            except Exception:  # noqa: BLE001 - the application's call must go on
                logger.debug("the input of a call could not be read", exc_info=True)

    @property
    def context(self) -> Context:
        """The context with the call's span as the current one."""
        return set_span_in_context(self.span, get_current())

    def reader(self) -> Reader | None:
        """Return a new reader for the stream of the answer."""
        make = self._api.reader
        return None if make is None else make(self.keeps_content)

    def first(self) -> None:
        """Note that the first event of a stream is here."""
        if self._first is None:
            self._first = perf_counter() - self._start

    def answered(self, answer: object) -> None:
        """End the call with its answer, parsed or as JSON."""
        try:
            found = self._api.read(answer, self.keeps_content)
        except Exception:  # noqa: BLE001 - the application's call must go on
            logger.debug("an answer could not be read", exc_info=True)
            found = None
        self.end(found)

    def streamed(self, reader: Reader | None, *, cut: bool, error: BaseException | None) -> None:
        """End the call with what its stream told.

        Args:
            reader: what read the stream.
            cut: the application left the stream before its end.
            error: what the stream failed with.
        """
        if self._ended:
            return
        answer = None
        try:
            if reader is not None:
                reader.finish()
                answer = reader.answer
        except Exception:  # noqa: BLE001 - the application's stream must go on
            logger.debug("a stream could not be read", exc_info=True)
        if cut:
            self.span.set_attribute(keys.CANCELLED, True)
        if self._first is not None:
            self.span.set_attribute(keys.TIME_TO_FIRST_CHUNK, self._first)
        self.end(answer, error)

    def end(self, answer: Answer | None = None, error: BaseException | None = None) -> None:
        """End the call, once."""
        if self._ended:
            return
        self._ended = True
        try:
            if answer is not None:
                self._set_answer(answer)
            if error is not None:
                self._set_error(error)
        except Exception:  # noqa: BLE001 - the application's call must go on
            logger.debug("a model call could not be told", exc_info=True)
        self.span.end()

    def _set_input(self, body: Mapping[str, Any]) -> None:
        if self._api.messages is None:
            return
        system, messages = self._api.messages(body)
        if self._api.inference_type == "embedding":
            self.span.set_attribute(keys.INPUT_PREVIEW, preview(messages, self._capture))
            return
        if system:
            self.span.set_attribute(keys.SYSTEM_INSTRUCTIONS, parts_text(system, self._capture))
        self.span.set_attribute(keys.INPUT_MESSAGES, messages_text(messages, self._capture))
        if body.get("tools"):
            self.span.set_attribute("gen_ai.tool.definitions", self._capture.text(body["tools"]))

    def _set_answer(self, answer: Answer) -> None:
        told: dict[str, Any] = {
            keys.RESPONSE_ID: answer.response_id,
            keys.RESPONSE_MODEL: answer.model,
            keys.FINISH_REASONS: [reason for reason in answer.finish_reasons if reason],
            keys.SERVICE_TIER: answer.service_tier,
            "openai.response.system_fingerprint": answer.fingerprint,
            "gen_ai.embeddings.dimension.count": answer.dimensions,
        }
        usage = answer.usage
        if usage is not None:
            told |= {
                keys.CACHE_READ_TOKENS: usage.cache_read_tokens,
                keys.CACHE_WRITE_TOKENS: usage.cache_write_tokens,
                keys.CACHE_WRITE_1H_TOKENS: usage.cache_write_1h_tokens,
                keys.REASONING_TOKENS: usage.reasoning_tokens,
                keys.AUDIO_INPUT_TOKENS: usage.audio_input_tokens,
                keys.AUDIO_OUTPUT_TOKENS: usage.audio_output_tokens,
            }
        self.span.set_attributes({key: value for key, value in told.items() if value})
        if usage is not None:
            self.span.set_attribute(keys.INPUT_TOKENS, usage.input_tokens)
            if self._api.inference_type != "embedding":
                self.span.set_attribute(keys.OUTPUT_TOKENS, usage.output_tokens)
        if answer.messages:
            said = messages_text(answer.messages, self._capture)
            self.span.set_attribute(keys.OUTPUT_MESSAGES, said)
        if answer.error_type:
            self.span.set_attribute(keys.ERROR_TYPE, answer.error_type)
            self.span.set_status(StatusCode.ERROR, answer.error_type)

    def _set_error(self, error: BaseException) -> None:
        status = part(error, "status_code")
        if isinstance(status, int):
            self.span.set_attribute(_HTTP_STATUS, status)
        record_failure(self.span, error, self._capture)


def _request_attributes(api: Api, body: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for attribute, places in api.request.items():
        for place in places.split("|"):
            value = part(body, *place.split("."))
            if attribute.endswith("stop_sequences") and isinstance(value, str):
                value = [value]
            if isinstance(value, str | int | float) or (
                isinstance(value, list) and all(isinstance(item, str) for item in value)
            ):
                found[attribute] = value
                break
    return found


@lru_cache(maxsize=8)
def _tracer(provider: TracerProvider, library: str) -> Tracer:
    return provider.get_tracer(f"pyflare.integrations.{library}", __version__)


@lru_cache(maxsize=64)
def _server_attributes(base_url: str) -> Mapping[str, Any]:
    url = urlsplit(base_url)
    if not url.hostname:
        return {}
    found: dict[str, Any] = {_SERVER_ADDRESS: url.hostname}
    if url.port is not None:
        found[_SERVER_PORT] = url.port
    return found


def _provider(library: str, client: object, server: Mapping[str, Any]) -> str:
    name = type(client).__name__
    for word, provider in _CLIENTS.items():
        if word in name:
            return provider
    host = str(server.get(_SERVER_ADDRESS, ""))
    for end, provider in _HOSTS.items():
        if host == end or host.endswith(f".{end}"):
            return provider
    return library
