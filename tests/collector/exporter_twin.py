"""Sends two spans through an official Python exporter, and prints what it sent.

    python -m tests.collector.exporter_twin grpc|http URL [none|gzip]

The output is one JSON document, `{"spans": [...]}`. A span is
`{traceId, spanId, parentSpanId, name, kind, startTimeUnixNano, endTimeUnixNano,
status: {code, message}, resource, scope: {name, version}, attributes, events, links}`:
ids in hexadecimal, times and integers as strings of digits, attributes as lists of
OTLP/JSON's `{key, value}`. `node_exporters/send.mjs` is its twin in JavaScript.
`documents_of` makes the same of the protobuf bytes that arrived, so that the two
can be compared attribute by attribute, types included.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

__all__ = ["documents_of", "send"]

RESOURCE: dict[str, Any] = {
    "service.name": "python-exporter",
    "deployment.environment.name": "test",
    "host.cpus": 4,
}
SCOPE = {"name": "pyflare.exporter-test", "version": "1.2.3"}
START_NS = 1_760_000_000_123_456_789
EVENT_NS = 1_760_000_000_500_000_001
END_NS = 1_760_000_001_987_654_321
ATTRIBUTES: dict[str, Any] = {
    "text": "plain",
    "text.empty": "",
    "text.unicode": 'naïve 日本語 🦩 \0 "quoted" \\ \n\t\u2028',
    "bool.true": True,
    "bool.false": False,
    "int": 42,
    "int.zero": 0,
    "int.negative": -7,
    "int.over.safe": 2**53 + 1,
    "int.max": 2**63 - 1,
    "int.min": -(2**63),
    "double": 0.1,
    "double.whole": 1.0,
    "double.zero": 0.0,
    "double.tiny": 5e-324,
    "double.large": 1.7976931348623157e308,
    "array.text": ["a", "", "ü"],
    "array.int": [1, -2, 2**62],
    "array.double": [0.5, 1.0],
    "array.bool": [True, False],
    "array.empty": [],
    "bytes": b"\x00\xff\x7f\n",
    "map": {"inner": {"deep": [1, "two", False]}, "n": 1.0},
    "array.mixed": [1, "two", 2.5, True, ["nested"]],
    "gen_ai.request.model": "gpt-4o",
}
EVENT_ATTRIBUTES: dict[str, Any] = {"n": 1, "text": "événement"}
LINK_ATTRIBUTES: dict[str, Any] = {"why": "retry"}
LINKED_TRACE, LINKED_SPAN = 0x0123456789ABCDEF0123456789ABCDEF, 0xFEDCBA9876543210
MESSAGE = "it failed: ü"


def send(protocol: str, url: str, compression: str) -> dict[str, Any]:
    """Send the spans and return what was sent.

    Args:
        protocol: `grpc` or `http`.
        url: `HOST:PORT` for gRPC, `http://HOST:PORT/v1/traces` for HTTP.
        compression: `none` or `gzip`.

    Raises:
        RuntimeError: the exporter reports that an export failed.
    """
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags, set_span_in_context
    from opentelemetry.trace.status import Status, StatusCode

    exporter = _exporter(protocol, url, compression)
    results: list[SpanExportResult] = []

    class Watched(SpanExporter):
        """Keeps the results, which the processor throws away."""

        def export(self, spans: Sequence[Any]) -> SpanExportResult:
            results.append(exporter.export(spans))
            return results[-1]

        def shutdown(self) -> None:
            exporter.shutdown()

    provider = TracerProvider(resource=Resource(RESOURCE))
    provider.add_span_processor(SimpleSpanProcessor(Watched()))
    tracer = provider.get_tracer(SCOPE["name"], SCOPE["version"])
    root = tracer.start_span(
        "root", kind=SpanKind.CLIENT, start_time=START_NS, attributes=ATTRIBUTES
    )
    root.add_event("first", EVENT_ATTRIBUTES, EVENT_NS)
    root.add_event("second", {}, EVENT_NS)
    root.set_status(Status(StatusCode.ERROR, MESSAGE))
    linked = SpanContext(LINKED_TRACE, LINKED_SPAN, True, TraceFlags(1))
    child = tracer.start_span(
        "child",
        context=set_span_in_context(root),
        start_time=START_NS,
        links=[Link(linked, LINK_ATTRIBUTES)],
    )
    child.set_status(Status(StatusCode.OK))
    child.end(END_NS)
    root.end(END_NS)
    provider.shutdown()
    if results != [SpanExportResult.SUCCESS] * 2:
        raise RuntimeError(f"exports ended in {results}")
    events = [
        {"name": "first", "attributes": _key_values(EVENT_ATTRIBUTES)},
        {"name": "second", "attributes": []},
    ]
    ids = root.get_span_context(), child.get_span_context()
    common = {
        "traceId": f"{ids[0].trace_id:032x}",
        "startTimeUnixNano": str(START_NS),
        "endTimeUnixNano": str(END_NS),
        "resource": _key_values(RESOURCE),
        "scope": SCOPE,
    }
    return {
        "spans": [
            {
                **common,
                "spanId": f"{ids[0].span_id:016x}",
                "parentSpanId": "",
                "name": "root",
                "kind": 3,
                "status": {"code": 2, "message": MESSAGE},
                "attributes": _key_values(ATTRIBUTES),
                "events": [{**event, "timeUnixNano": str(EVENT_NS)} for event in events],
                "links": [],
            },
            {
                **common,
                "spanId": f"{ids[1].span_id:016x}",
                "parentSpanId": f"{ids[0].span_id:016x}",
                "name": "child",
                "kind": 1,
                "status": {"code": 1, "message": ""},
                "attributes": [],
                "events": [],
                "links": [
                    {
                        "traceId": f"{LINKED_TRACE:032x}",
                        "spanId": f"{LINKED_SPAN:016x}",
                        "attributes": _key_values(LINK_ATTRIBUTES),
                    }
                ],
            },
        ]
    }


def documents_of(payload: bytes) -> list[dict[str, Any]]:
    """Return the spans of an `ExportTraceServiceRequest` in the form that `send` returns."""
    from google.protobuf.json_format import MessageToDict

    def attributes(pairs: Any) -> list[dict[str, Any]]:
        return [MessageToDict(pair) for pair in pairs]

    request = ExportTraceServiceRequest.FromString(payload)
    return [
        {
            "traceId": span.trace_id.hex(),
            "spanId": span.span_id.hex(),
            "parentSpanId": span.parent_span_id.hex(),
            "name": span.name,
            "kind": span.kind,
            "startTimeUnixNano": str(span.start_time_unix_nano),
            "endTimeUnixNano": str(span.end_time_unix_nano),
            "status": {"code": span.status.code, "message": span.status.message},
            "resource": attributes(resource.resource.attributes),
            "scope": {"name": scope.scope.name, "version": scope.scope.version},
            "attributes": attributes(span.attributes),
            "events": [
                {
                    "name": event.name,
                    "timeUnixNano": str(event.time_unix_nano),
                    "attributes": attributes(event.attributes),
                }
                for event in span.events
            ],
            "links": [
                {
                    "traceId": link.trace_id.hex(),
                    "spanId": link.span_id.hex(),
                    "attributes": attributes(link.attributes),
                }
                for link in span.links
            ],
        }
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _exporter(protocol: str, url: str, compression: str) -> Any:
    if protocol == "grpc":
        from grpc import Compression
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as Grpc

        kind = {"none": Compression.NoCompression, "gzip": Compression.Gzip}[compression]
        return Grpc(endpoint=url, insecure=True, compression=kind)
    from opentelemetry.exporter.otlp.proto.http import Compression as HttpCompression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as Http

    return Http(endpoint=url, compression=HttpCompression(compression))


def _any_value(value: Any) -> dict[str, Any]:
    kinds = {str: "stringValue", bool: "boolValue", float: "doubleValue"}
    if type(value) in kinds:
        return {kinds[type(value)]: value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, bytes):
        return {"bytesValue": base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        return {"kvlistValue": {"values": _key_values(value)}}
    return {"arrayValue": {"values": [_any_value(item) for item in value]}}


def _key_values(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _any_value(value)} for key, value in attributes.items()]


if __name__ == "__main__":
    print(json.dumps(send(sys.argv[1], sys.argv[2], (*sys.argv[3:], "none")[0])))  # noqa: T201 - its output
