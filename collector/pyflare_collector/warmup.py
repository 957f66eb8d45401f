"""Compiles or loads every kernel of the hot path before the first request comes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyflare_storage.prices import PriceBook

__all__ = ["sample_request", "warm_up"]


def sample_request(spans: int = 2) -> bytes:
    """Return an export request of GenAI spans with made-up ids, for warming up and probing."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    attribute = resource.resource.attributes.add(key="service.name")
    attribute.value.string_value = "warm-up"
    scope = resource.scope_spans.add()
    scope.scope.name = "pyflare.warm-up"
    start = time.time_ns()
    for number in range(1, spans + 1):
        span = scope.spans.add(
            trace_id=number.to_bytes(16, "big"),
            span_id=number.to_bytes(8, "big"),
            name="chat gpt-4o",
            start_time_unix_nano=start,
            end_time_unix_nano=start + 1_000_000,
        )
        for key, text in (
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.provider.name", "openai"),
            ("gen_ai.request.model", "gpt-4o"),
            ("gen_ai.input.messages", '[{"role":"user","parts":[{"type":"text","content":"a"}]}]'),
        ):
            span.attributes.add(key=key).value.string_value = text
        span.attributes.add(key="gen_ai.usage.input_tokens").value.int_value = 1
        span.attributes.add(key="gen_ai.usage.output_tokens").value.int_value = 1
        event = span.events.add(name="exception", time_unix_nano=start)
        event.attributes.add(key="exception.type").value.string_value = "ValueError"
    return bytes(request.SerializeToString())


def warm_up(prices: PriceBook) -> None:
    """Run a small request through decoding, selecting, deduplication, normalisation and pricing.

    With a warm cache of compiled kernels this loads them; on a fresh machine it compiles
    them, which takes tens of seconds once.
    """
    from pyflare_collector.calls import RecentCalls, RecentSpans
    from pyflare_collector.normalize import KEYS, normalize
    from pyflare_collector.sampler import warm_up as warm_up_sampler
    from pyflare_proto.otlp.decode import concat, decode, select
    from pyflare_proto.otlp.jsonotlp import transcode

    warm_up_sampler()
    transcode(b'{"resourceSpans":[]}')
    batch = decode([sample_request()], KEYS)
    batch = concat([select(batch, batch.valid_ids), batch])
    RecentSpans().first_seen(batch.trace_id, batch.span_id)
    RecentCalls().apply(normalize(batch, prices))
