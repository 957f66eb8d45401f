"""Makes span records of hand-made spans: attributes in, records out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from pyflare_collector.normalize import KEYS, normalize, record_table
from pyflare_proto.otlp.decode import decode
from pyflare_storage.prices import PriceBook
from tests.otlp_payloads import START_NS, key_values

__all__ = ["SpanCase", "price_book", "record", "records", "request"]


@dataclass(frozen=True)
class SpanCase:
    """A span to be: what an emitter would have sent."""

    attributes: Mapping[str, object]
    scope: str = ""
    name: str = "span"
    resource: Mapping[str, object] = field(default_factory=dict)
    scope_attributes: Mapping[str, object] = field(default_factory=dict)
    trace_id: bytes = b""
    parent: bytes = b""
    error: str = ""
    duration_ns: int = 1_000_000_000


@cache
def price_book() -> PriceBook:
    """Return the price book without a user's prices."""
    return PriceBook.load(None)


def request(cases: Sequence[SpanCase]) -> bytes:
    """Return one request with a resource and a scope for each span."""
    message = ExportTraceServiceRequest()
    for i, case in enumerate(cases, start=1):
        resource_spans = message.resource_spans.add()
        resource_spans.resource.attributes.extend(key_values(dict(case.resource)))
        scope_spans = resource_spans.scope_spans.add()
        scope_spans.scope.name = case.scope
        scope_spans.scope.attributes.extend(key_values(dict(case.scope_attributes)))
        span = scope_spans.spans.add()
        span.trace_id = case.trace_id or i.to_bytes(16, "big")
        span.span_id = i.to_bytes(8, "big")
        span.parent_span_id = case.parent
        span.name = case.name
        span.kind = Span.SPAN_KIND_CLIENT
        span.start_time_unix_nano = START_NS
        span.end_time_unix_nano = START_NS + case.duration_ns
        span.attributes.extend(key_values(dict(case.attributes)))
        if case.error:
            span.status.code = Status.STATUS_CODE_ERROR
            span.status.message = case.error
    return message.SerializeToString()


def records(*cases: SpanCase) -> list[dict[str, Any]]:
    """Return the span records of `cases`, in order."""
    table = normalize(decode([request(cases)], KEYS), price_book())
    result: list[dict[str, Any]] = record_table(table).to_pylist()
    return result


def record(attributes: Mapping[str, object], **options: Any) -> dict[str, Any]:
    """Return the record of one span; `options` are those of `SpanCase`."""
    return records(SpanCase(attributes, **options))[0]
