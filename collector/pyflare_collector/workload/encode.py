"""Traffic as OTLP: export requests in today's OpenTelemetry GenAI conventions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from pyflare_collector.workload import catalogue as cat
from pyflare_collector.workload.traffic import Traffic
from pyflare_proto.record import CALL_TYPES, SPAN_TYPES

__all__ = ["SCOPE_NAME", "describe", "encode", "events_of", "resource_attributes"]

SCOPE_NAME = "pyflare.generate"
_OPERATIONS = {
    "llm": "chat",
    "embedding": "embeddings",
    "retriever": "retrieval",
    "tool": "execute_tool",
    "agent": "invoke_agent",
    "workflow": "invoke_workflow",
}


def encode(traffic: Traffic, *, batch_size: int = 512) -> Iterator[ExportTraceServiceRequest]:
    """Yield export requests of at most `batch_size` spans, in order of the rows.

    Spans of one request are grouped by service and environment, as an exporter
    per service would send them. A resource is given its own `service.name`.
    """
    for first in range(0, len(traffic), batch_size):
        rows = range(first, min(first + batch_size, len(traffic)))
        groups: dict[tuple[int, int], list[Span]] = {}
        for row in rows:
            service = cat.FEATURES[traffic.feature[row]].service
            groups.setdefault((service, int(traffic.environment[row])), []).append(
                _span(traffic, row)
            )
        yield ExportTraceServiceRequest(
            resource_spans=[_resource_spans(key, spans) for key, spans in groups.items()]
        )


def resource_attributes(service: int, environment: int) -> dict[str, str]:
    """Return the attributes of a resource.

    Args:
        service: index into SERVICES.
        environment: index into ENVIRONMENTS.
    """
    return {
        "service.name": cat.SERVICES[service],
        "service.version": "2.4.1",
        "deployment.environment.name": cat.ENVIRONMENTS[environment],
        "telemetry.sdk.language": "python",
    }


def _resource_spans(key: tuple[int, int], spans: list[Span]) -> ResourceSpans:
    result = ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])
    result.resource.attributes.extend(_attributes(resource_attributes(*key)))
    result.scope_spans[0].scope.name = SCOPE_NAME
    result.scope_spans[0].scope.version = "1"
    return result


def _span(traffic: Traffic, row: int) -> Span:
    kind = SPAN_TYPES[traffic.type[row]]
    trace = int(traffic.trace[row])
    name, attributes = describe(traffic, row, kind)
    span = Span(
        trace_id=traffic.trace_key[trace].tobytes(),
        span_id=traffic.span_key[row].tobytes(),
        name=name,
        kind=Span.SPAN_KIND_CLIENT if kind in CALL_TYPES else Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=int(traffic.start_ns[row]),
        end_time_unix_nano=int(traffic.end_ns[row]),
        attributes=_attributes(attributes),
    )
    if traffic.parent[row] >= 0:
        span.parent_span_id = traffic.span_key[traffic.parent[row]].tobytes()
    if traffic.error[row] >= 0:
        span.status.code = Status.STATUS_CODE_ERROR
        span.status.message = cat.ERRORS[traffic.error[row]][1]
    for event, values in events_of(traffic, row):
        added = span.events.add(name=event, time_unix_nano=int(traffic.end_ns[row]))
        added.attributes.extend(_attributes(values))
    return span


def events_of(traffic: Traffic, row: int) -> list[tuple[str, dict[str, Any]]]:
    """Return name and attributes of each event of a span: its exception, its evaluation."""
    events: list[tuple[str, dict[str, Any]]] = []
    if traffic.error[row] >= 0:
        error_type, message = cat.ERRORS[traffic.error[row]]
        values = {"exception.type": f"openai.{error_type}", "exception.message": message}
        events.append(("exception", values))
    if not np.isnan(traffic.score[row]):
        score = {
            "gen_ai.evaluation.name": "answer_quality",
            "gen_ai.evaluation.score.value": float(traffic.score[row]),
        }
        events.append(("gen_ai.evaluation.result", score))
    return events


def describe(traffic: Traffic, row: int, kind: str) -> tuple[str, dict[str, Any]]:
    """Return name and attributes of a span.

    Args:
        traffic: the traffic.
        row: the span.
        kind: its `span_type`.
    """
    feature = cat.FEATURES[traffic.feature[row]]
    operation = _OPERATIONS[kind]
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": operation,
        "user.id": f"user-{traffic.user[row]:03d}",
        cat.SEGMENT_KEY: cat.segment_name(int(traffic.user[row]) % cat.USER_SEGMENTS),
        "session.id": f"session-{traffic.trace[row]}",
        "pyflare.team": cat.TEAMS[feature.team],
        "pyflare.feature": feature.name,
    }
    if traffic.error[row] >= 0:
        attributes["error.type"] = cat.ERRORS[traffic.error[row]][0]
    question, answer = cat.TOPICS[traffic.topic[row]]
    if kind in CALL_TYPES:
        model = cat.MODELS[traffic.model[row]]
        attributes |= _call_attributes(traffic, row, kind, question, answer)
        return f"{operation} {model.request}", attributes
    if kind == "tool":
        tool = cat.TOOLS[traffic.tool[row]]
        attributes |= {
            "gen_ai.tool.name": tool,
            "gen_ai.tool.call.arguments": json.dumps({"query": question}),
            "gen_ai.tool.call.result": answer,
        }
        return f"{operation} {tool}", attributes
    if kind == "retriever":
        document = {"id": f"doc-{traffic.topic[row]}", "content": answer, "score": 0.83}
        attributes |= {
            "gen_ai.retrieval.query.text": question,
            "gen_ai.retrieval.documents": json.dumps([document]),
        }
        return f"{operation} documents", attributes
    if kind == "agent":
        attributes["gen_ai.agent.name"] = feature.name
    return f"{operation} {feature.name}", attributes


def _call_attributes(
    traffic: Traffic, row: int, kind: str, question: str, answer: str
) -> dict[str, Any]:
    model = cat.MODELS[traffic.model[row]]
    attributes: dict[str, Any] = {
        "gen_ai.provider.name": model.provider,
        "gen_ai.request.model": model.request,
        "gen_ai.prompt.name": f"{cat.FEATURES[traffic.feature[row]].name}-prompt",
        "gen_ai.prompt.version": f"v{traffic.prompt_version[row]}",
    }
    if kind == "llm":
        messages = [{"role": "user", "parts": [{"type": "text", "content": question}]}]
        attributes["gen_ai.input.messages"] = json.dumps(messages)
    if traffic.error[row] >= 0:
        return attributes
    attributes |= {
        "gen_ai.response.model": model.response,
        "gen_ai.response.id": f"resp-{traffic.span_key[row]:016x}",
        "gen_ai.usage.input_tokens": int(traffic.input_tokens[row]),
    }
    if kind == "embedding":
        return attributes
    reply = [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": answer}],
            "finish_reason": "stop",
        }
    ]
    attributes |= {
        "gen_ai.usage.output_tokens": int(traffic.output_tokens[row]),
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.output.messages": json.dumps(reply),
    }
    if traffic.cache_read_tokens[row] > 0:
        attributes["gen_ai.usage.cache_read.input_tokens"] = int(traffic.cache_read_tokens[row])
    return attributes


def _attributes(values: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_any_value(value)) for key, value in values.items()]


def _any_value(value: str | float | list[str]) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(array_value=ArrayValue(values=[_any_value(item) for item in value]))
