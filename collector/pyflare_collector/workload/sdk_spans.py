"""Traffic as spans of the OpenTelemetry SDK, for its own exporters to send."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from pyflare_collector.workload import catalogue as cat
from pyflare_collector.workload.encode import SCOPE_NAME, describe, events_of, resource_attributes
from pyflare_collector.workload.traffic import Traffic
from pyflare_proto.record import CALL_TYPES, SPAN_TYPES

__all__ = ["readable_spans"]


def readable_spans(traffic: Traffic) -> Iterator[ReadableSpan]:
    """Yield every row as a finished span of the SDK, in order of the rows."""
    scope = InstrumentationScope(SCOPE_NAME, "1")
    resources: dict[tuple[int, int], Resource] = {}
    for row in range(len(traffic)):
        service = cat.FEATURES[traffic.feature[row]].service
        key = (service, int(traffic.environment[row]))
        if key not in resources:
            resources[key] = Resource(resource_attributes(*key))
        yield _span(traffic, row, resources[key], scope)


def _span(
    traffic: Traffic, row: int, resource: Resource, scope: InstrumentationScope
) -> ReadableSpan:
    kind = SPAN_TYPES[traffic.type[row]]
    name, attributes = describe(traffic, row, kind)
    failed = traffic.error[row] >= 0
    message = cat.ERRORS[traffic.error[row]][1] if failed else None
    parent = int(traffic.parent[row])
    end_ns = int(traffic.end_ns[row])
    return ReadableSpan(
        name=name,
        context=_context(traffic, row),
        parent=_context(traffic, parent) if parent >= 0 else None,
        resource=resource,
        attributes=attributes,
        events=[Event(event, values, end_ns) for event, values in events_of(traffic, row)],
        kind=SpanKind.CLIENT if kind in CALL_TYPES else SpanKind.INTERNAL,
        status=Status(StatusCode.ERROR, message) if failed else Status(),
        start_time=int(traffic.start_ns[row]),
        end_time=end_ns,
        instrumentation_scope=scope,
    )


def _context(traffic: Traffic, row: int) -> SpanContext:
    trace: np.ndarray = traffic.trace_key[traffic.trace[row]]
    return SpanContext(
        trace_id=int.from_bytes(trace.tobytes(), "big"),
        span_id=int.from_bytes(traffic.span_key[row].tobytes(), "big"),
        is_remote=False,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )
