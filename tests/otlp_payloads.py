"""Builds `ExportTraceServiceRequest` bytes through the official protobuf classes."""

from __future__ import annotations

import random
from collections.abc import Sequence

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

MODELS = (
    ("openai", "gpt-4o", "gpt-4o-2024-08-06"),
    ("openai", "gpt-4o-mini", "gpt-4o-mini-2024-07-18"),
    ("anthropic", "claude-sonnet-4-5", "claude-sonnet-4-5-20250929"),
)
START_NS = 1_760_000_000_000_000_000


def any_value(value: object) -> AnyValue:
    """Return `value` as an `AnyValue`; None is an unset one."""
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, bytes):
        return AnyValue(bytes_value=value)
    result = AnyValue()
    if isinstance(value, dict):
        result.kvlist_value.SetInParent()
        result.kvlist_value.values.extend(key_values(value))
    elif isinstance(value, (list, tuple)):
        result.array_value.SetInParent()
        result.array_value.values.extend(any_value(item) for item in value)
    return result


def key_values(attributes: dict[str, object]) -> list[KeyValue]:
    """Return attributes as `KeyValue` messages, in order."""
    return [KeyValue(key=key, value=any_value(value)) for key, value in attributes.items()]


def genai_attributes(rng: random.Random) -> dict[str, object]:
    """Return 12 attributes of a chat call, as the OpenTelemetry GenAI conventions name them."""
    provider, requested, answered = rng.choice(MODELS)
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.system": provider,
        "gen_ai.request.model": requested,
        "gen_ai.response.model": answered,
        "gen_ai.response.id": f"chatcmpl-{rng.getrandbits(64):016x}",
        "gen_ai.usage.input_tokens": rng.randrange(20, 4000),
        "gen_ai.usage.output_tokens": rng.randrange(1, 1500),
        "gen_ai.request.temperature": rng.choice((0.0, 0.2, 0.7, 1.0)),
        "gen_ai.request.max_tokens": 1024,
        "user.id": f"user-{rng.randrange(1000)}",
        "session.id": f"session-{rng.randrange(10_000)}",
        "server.address": "api.openai.com",
    }


def genai_request(n_spans: int = 512, *, seed: int = 0) -> bytes:
    """Return a request of `n_spans` chat calls, about 550 bytes each, one resource and scope."""
    rng = random.Random(seed)
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.extend(
        key_values({"service.name": "checkout", "deployment.environment.name": "production"})
    )
    scope = resource.scope_spans.add()
    scope.scope.name = "opentelemetry.instrumentation.openai_v2"
    scope.scope.version = "2.1b0"
    for i in range(n_spans):
        span = scope.spans.add()
        fill_span(span, rng, i)
    return request.SerializeToString()


def fill_span(span: Span, rng: random.Random, i: int) -> None:
    """Fill `span` with the `i`-th chat call."""
    span.trace_id = rng.getrandbits(128).to_bytes(16, "big")
    span.span_id = rng.getrandbits(64).to_bytes(8, "big")
    if i % 4:
        span.parent_span_id = rng.getrandbits(64).to_bytes(8, "big")
    span.flags = 0x101
    span.name = "chat gpt-4o"
    span.kind = Span.SPAN_KIND_CLIENT
    span.start_time_unix_nano = START_NS + i * 1_000_000
    span.end_time_unix_nano = START_NS + i * 1_000_000 + rng.randrange(10**6, 10**10)
    span.attributes.extend(key_values(genai_attributes(rng)))


def genai_requests(n_requests: int, n_spans: int = 512) -> Sequence[bytes]:
    """Return `n_requests` different requests of `genai_request`."""
    return [genai_request(n_spans, seed=seed) for seed in range(n_requests)]
