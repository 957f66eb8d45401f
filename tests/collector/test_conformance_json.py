"""OTLP/JSON over HTTP, line by line: H16 to H23 of the protocol's testable statements."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.collector.receiver_helpers import JSON, Answer, Sink, post, running, running_alone

TRACE_ID = "5B8EFFF798038103D269B633813FC60C"
SPAN_ID = "EEE19B7EC3C1B174"


def document(**span: Any) -> dict[str, Any]:
    """Return a request of one span with some of its fields changed."""
    whole = {"traceId": TRACE_ID, "spanId": SPAN_ID, "name": "chat", **span}
    return {"resourceSpans": [{"scopeSpans": [{"spans": [whole]}]}]}


def send(request: Any) -> tuple[Answer, Span | None]:
    """Send a JSON document; the answer, and the span that arrived."""
    sink = Sink()
    with running(sink) as receiver:
        body = request if isinstance(request, bytes) else orjson.dumps(request)
        answer = post(receiver, body, JSON)
    if not sink.payloads:
        return answer, None
    arrived = ExportTraceServiceRequest.FromString(sink.payloads[0])
    return answer, arrived.resource_spans[0].scope_spans[0].spans[0]


@pytest.mark.parametrize("change", [str.upper, str.lower, str.capitalize])
def test_h16_ids_are_hexadecimal_in_either_case(change: Any) -> None:
    """32 and 16 digits become 16 and 8 bytes."""
    ids = {"traceId": TRACE_ID, "spanId": SPAN_ID, "parentSpanId": SPAN_ID}
    answer, span = send(document(**{name: change(value) for name, value in ids.items()}))
    assert answer.status == 200
    assert span is not None
    assert span.trace_id.hex() == TRACE_ID.lower()
    assert span.span_id.hex() == span.parent_span_id.hex() == SPAN_ID.lower()


@pytest.mark.parametrize(
    "ids",
    [
        {"traceId": TRACE_ID[:-2]},
        {"spanId": SPAN_ID + "00"},
        {"traceId": "W47/95gDgQPSabYzgT/GDA=="},
        {"traceId": "zz" * 16},
        {"spanId": ""},
        {"traceId": "0" * 32},
        {"traceId": 5},
    ],
    ids=["short", "long", "base64", "no-hex", "empty", "zero", "number"],
)
def test_h16_bad_ids_are_not_taken(ids: dict[str, Any]) -> None:
    """400, or a success that rejects the span: never a span under another id."""
    taken: list[int] = []
    with running_alone(taken.append) as receiver:
        answer = post(receiver, orjson.dumps(document(**ids)), JSON)
    assert sum(taken) == 0
    if answer.status == 200:
        assert answer.document["partialSuccess"]["rejectedSpans"] == "1"
    else:
        assert answer.status == 400
        assert answer.error.message


def test_h17_names_of_enums_are_refused() -> None:
    """`SPAN_KIND_SERVER` must not be used in OTLP/JSON."""
    assert send(document(kind="SPAN_KIND_SERVER"))[0].status == 400
    assert send(document(status={"code": "STATUS_CODE_ERROR"}))[0].status == 400


def test_h17_unknown_integers_of_enums_are_kept() -> None:
    """A kind of a later version arrives as its number."""
    answer, span = send(document(kind=99, status={"code": 2}))
    assert answer.status == 200
    assert span is not None
    assert (span.kind, span.status.code) == (99, 2)


@pytest.mark.parametrize("value", ["1544712660000000001", 1544712660000000001])
def test_h18_64_bit_integers_as_string_and_number(value: Any) -> None:
    """Both spellings keep all digits."""
    attributes = [{"key": "n", "value": {"intValue": value}}]
    answer, span = send(document(startTimeUnixNano=value, attributes=attributes))
    assert answer.status == 200
    assert span is not None
    assert span.start_time_unix_nano == span.attributes[0].value.int_value == 1544712660000000001


def test_h19_unknown_fields_are_ignored_at_every_depth() -> None:
    """Fields of a later version, of any type, change nothing."""
    extra = {"later": {"deep": [1, {"x": None}]}, "other": "text"}
    request = document(**extra, status={"code": 1, **extra}, events=[{"name": "e", **extra}])
    request.update(extra)
    request["resourceSpans"][0].update(extra)
    request["resourceSpans"][0]["scopeSpans"][0].update(extra)
    answer, span = send(request)
    assert answer.status == 200
    assert span is not None
    assert (span.name, span.events[0].name, span.status.code) == ("chat", "e", 1)


def test_h20_keys_in_snake_case_are_unknown() -> None:
    """`trace_id` is not a key of OTLP/JSON, so the span has no trace id and is rejected."""
    span = {"trace_id": TRACE_ID, "span_id": SPAN_ID, "name": "chat"}
    taken: list[int] = []
    with running_alone(taken.append) as receiver:
        request = {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}
        answer = post(receiver, orjson.dumps(request), JSON)
    assert answer.document["partialSuccess"]["rejectedSpans"] == "1"
    assert sum(taken) == 0


def test_h21_bytes_and_special_doubles() -> None:
    """Bytes are base64, and the three doubles that JSON has no literal for are strings."""
    values: list[dict[str, Any]] = [
        {"bytesValue": "AP/+"},
        {"doubleValue": "NaN"},
        {"doubleValue": "Infinity"},
        {"doubleValue": "-Infinity"},
        {"doubleValue": 1},
    ]
    answer, span = send(document(attributes=[{"key": "k", "value": v} for v in values]))
    assert answer.status == 200
    assert span is not None
    arrived = [attribute.value for attribute in span.attributes]
    assert arrived[0].bytes_value == b"\x00\xff\xfe"
    assert arrived[1].double_value != arrived[1].double_value
    assert [v.double_value for v in arrived[2:]] == [float("inf"), float("-inf"), 1.0]
    assert all(v.WhichOneof("value") == "double_value" for v in arrived[1:])


def test_h22_a_request_as_the_specification_shows_one() -> None:
    """All fields of a span, in the spelling of the protocol's own example."""
    request = {
        "resourceSpans": [
            {
                "resource": {
                    "attributes": [{"key": "service.name", "value": {"stringValue": "my.service"}}]
                },
                "scopeSpans": [
                    {
                        "scope": {"name": "my.library", "version": "1.0.0"},
                        "spans": [
                            {
                                "traceId": TRACE_ID,
                                "spanId": SPAN_ID,
                                "parentSpanId": "EEE19B7EC3C1B173",
                                "flags": 257,
                                "name": "I'm a server span",
                                "startTimeUnixNano": "1544712660000000000",
                                "endTimeUnixNano": "1544712661000000000",
                                "kind": 2,
                                "attributes": [
                                    {"key": "my.span.attr", "value": {"stringValue": "some value"}}
                                ],
                                "events": [{"timeUnixNano": "1544712660500000000", "name": "e"}],
                                "links": [{"traceId": TRACE_ID, "spanId": SPAN_ID}],
                                "status": {"code": 2, "message": "no"},
                            }
                        ],
                    }
                ],
            }
        ]
    }
    answer, span = send(request)
    assert (answer.status, answer.body) == (200, b"{}")
    assert span is not None
    assert span.name == "I'm a server span"
    assert span.flags == 257
    assert span.end_time_unix_nano - span.start_time_unix_nano == 1_000_000_000
    assert span.attributes[0].value.string_value == "some value"
    assert span.events[0].time_unix_nano == 1544712660500000000
    assert span.links[0].trace_id.hex() == TRACE_ID.lower()
    assert span.status.message == "no"


@pytest.mark.parametrize("path", ["/v1/traces", "/v1/metrics", "/v1/logs"])
@pytest.mark.parametrize("depth", [200, 5000, 200_000])
def test_h23_deep_nesting(path: str, depth: int) -> None:
    """400 or, where the depth stands in an ignored field, 200: never a 500."""
    value = b'{"arrayValue":{"values":[' * depth + b'{"intValue":1}' + b"]}}" * depth
    span = b'{"traceId":"%s","spanId":"%s","attributes":[{"key":"k","value":%s}]}'
    body = span % (TRACE_ID.encode(), SPAN_ID.encode(), value)
    whole = b'{"resourceSpans":[{"scopeSpans":[{"spans":[%s]}]}]}' % body
    with running_alone() as receiver:
        answer = post(receiver, whole, JSON, path=path)
        assert answer.status in ((400,) if path == "/v1/traces" else (200, 400))
        assert post(receiver, b"{}", JSON).status == 200
