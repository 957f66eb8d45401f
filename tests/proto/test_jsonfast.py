"""The compiled way from OTLP/JSON to wire bytes: the same bytes as the other, or none."""

from __future__ import annotations

import random

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from pyflare_proto.errors import InvalidDataError
from pyflare_proto.otlp import jsonotlp
from pyflare_proto.otlp.jsonfast import fast_transcode
from tests.otlp_payloads import genai_request
from tests.proto.jsonotlp_helpers import otlp_json, request_of
from tests.proto.test_jsonotlp import fill
from tests.shared_data import shared_path


def slow_transcode(text: bytes) -> bytes | None:
    """Return what the description of the messages gives, None for an error."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonotlp, "fast_transcode", lambda *_: None)
        try:
            return jsonotlp.transcode(text)
        except InvalidDataError:
            return None


def agree(text: bytes) -> bool:
    """Check that the fast way gives the bytes of the other or declines; whether it took it."""
    fast = fast_transcode(text, 100_000)
    if fast is not None:
        assert fast == slow_transcode(text), text
    return fast is not None


class Plain(random.Random):
    """Chooses what JavaScript's exporter writes: every field once, in its order."""

    def random(self) -> float:
        """Return a number that adds nothing to a document."""
        return 0.99

    def shuffle(self, x: object) -> None:
        """Leave the order."""

    def choice(self, seq: object) -> object:  # type: ignore[override]  # of any sequence
        """Return the first form."""
        return seq[0]  # type: ignore[index]  # a sequence


CAPTURES = "openinference openlit otel-genai pydantic-ai-v5 traceloop traceloop-0.40.14".split()


@pytest.mark.parametrize("name", CAPTURES)
def test_captures_of_real_emitters_are_taken(name: str) -> None:
    """Every payload that we hold goes the fast way."""
    assert agree(shared_path("captures", f"{name}.json").read_bytes())


def test_a_request_of_many_spans_is_taken() -> None:
    """512 calls in JavaScript's form: the whole document, byte for byte."""
    message = ExportTraceServiceRequest.FromString(genai_request(512, seed=5))

    assert agree(orjson.dumps(otlp_json(message, Plain())))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), st.integers(0, 2**32))
def test_random_requests(data: st.DataObject, seed: int) -> None:
    """Whatever fields a request has, in whatever order and form."""
    message = ExportTraceServiceRequest()
    fill(data, message)

    agree(orjson.dumps(otlp_json(message, random.Random(seed))))
    agree(orjson.dumps(otlp_json(message, Plain())))


def test_damaged_documents_are_never_misread() -> None:
    """Bytes changed, dropped, doubled and cut: 20,000 documents, each the same or declined."""
    rng = random.Random(7)
    message = ExportTraceServiceRequest.FromString(genai_request(2, seed=1))
    text = orjson.dumps(otlp_json(message, Plain()))
    rich = request_of(RICH)
    taken = 0
    for turn in range(20_000):
        damaged = bytearray(rich if turn % 2 else text)
        for _ in range(rng.randrange(1, 4)):
            place = rng.randrange(len(damaged))
            action = rng.randrange(4)
            if action == 0:
                damaged[place] = rng.choice(
                    b'{}[]",:\\0123456789-+.eEtfnu \n\x00\x1f\x7f\x80\xc3\xff'
                )
            elif action == 1:
                del damaged[place : place + rng.randrange(1, 4)]
            elif action == 2:
                damaged[place:place] = damaged[place : place + rng.randrange(1, 9)]
            else:
                del damaged[rng.randrange(1, len(damaged) + 1) :]
            if not damaged:
                damaged = bytearray(b" ")
        taken += agree(bytes(damaged))
    assert taken > 500  # most changes inside text are valid: the test sees both outcomes


RICH: dict[str, object] = {
    "traceId": "5B8EFFF798038103D269B633813FC60C",
    "spanId": "eee19b7ec3c1b174",
    "name": 'a "quoted"\tname\\ with / and ümlauts \u2028 and \x7f',
    "kind": 3,
    "startTimeUnixNano": "1544712660000000000",
    "endTimeUnixNano": 1544712661000000000,
    "attributes": [
        {"key": "i", "value": {"intValue": "-42"}},
        {"key": "n", "value": {"intValue": 7}},
        {"key": "d", "value": {"doubleValue": 0.30000000000000004}},
        {"key": "w", "value": {"doubleValue": -12}},
        {"key": "e", "value": {"doubleValue": 1e-300}},
        {"key": "b", "value": {"boolValue": True}},
        {"key": "f", "value": {"boolValue": False}},
        {"key": "", "value": {"stringValue": ""}},
        {"key": "long", "value": {"stringValue": "x" * 20_000}},
        {"key": "list", "value": {"arrayValue": {"values": [{"stringValue": "a"}, {}]}}},
        {"key": "map", "value": {"kvlistValue": {"values": [{"key": "k", "value": {}}]}}},
        {"key": "doubles", "value": {"arrayValue": {"values": [{"doubleValue": 1 / 3}] * 40}}},
    ],
    "events": [{"timeUnixNano": "1", "name": "e", "attributes": [], "droppedAttributesCount": 2}],
    "links": [{"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174"}],
    "status": {"message": "no", "code": 2},
    "flags": 257,
    "droppedLinksCount": 1,
    "traceState": None,
}


def test_every_form_that_exporters_write_is_taken() -> None:
    """Escapes, all kinds of values, doubles of 17 digits that move with their messages."""
    assert agree(request_of(RICH))


def test_white_space_is_taken() -> None:
    """A document that was made for people."""
    pretty = orjson.dumps(orjson.loads(request_of(RICH)), option=orjson.OPT_INDENT_2)

    assert agree(b" \r\n\t" + pretty + b"\n")


SPAN = b'{"resourceSpans":[{"scopeSpans":[{"spans":[{%b}]}]}]}'


@pytest.mark.parametrize(
    "fields",
    [
        rb'"kind":"SPAN_KIND_SERVER"',
        rb'"kind":-1',
        rb'"later":1',
        rb'"name":"a","name":"b"',
        rb'"name":"\ud83d\ude00"',
        rb'"name":"\ud83d"',
        rb'"n\u0061me":"a"',
        rb'"startTimeUnixNano":18446744073709551615',
        rb'"startTimeUnixNano":1e3',
        rb'"startTimeUnixNano":"01"',
        rb'"flags":4294967296',
        rb'"traceId":"abc"',
        rb'"traceId":"zz"',
        rb'"events":[null]',
        rb'"attributes":[{"value":{"intValue":1},"key":"behind"}]',
        rb'"attributes":[{"key":"k","value":{"intValue":9223372036854775808}}]',
        rb'"attributes":[{"key":"k","value":{"intValue":-0}}]',
        rb'"attributes":[{"key":"k","value":{"doubleValue":-0}}]',
        rb'"attributes":[{"key":"k","value":{"doubleValue":1e999}}]',
        rb'"attributes":[{"key":"k","value":{"doubleValue":"NaN"}}]',
        rb'"attributes":[{"key":"k","value":{"bytesValue":"AA=="}}]',
    ],
)
def test_rare_forms_and_errors_are_left_to_the_other(fields: bytes) -> None:
    """Each is declined, or gives the same bytes."""
    agree(SPAN % fields)


@pytest.mark.parametrize(
    "text",
    [b"", b" ", b"[]", b"{", b"{}}", b"{},", b"{}\x00", b'{"resourceSpans":{}}', b"\xef\xbb\xbf{}"],
)
def test_what_is_no_request_is_declined(text: bytes) -> None:
    """No document, or another one."""
    assert fast_transcode(text, 100_000) is None


def test_nesting_is_bounded() -> None:
    """Values may nest a little; deeper ones are left to the other, which knows the limit."""

    def nested(levels: int) -> bytes:
        value = b'{"arrayValue":{"values":[' * levels + b"{}" + b"]}}" * levels
        return SPAN % (b'"attributes":[{"key":"k","value":%b}]' % value)

    assert agree(nested(2))
    assert [agree(nested(levels)) for levels in (10, 40, 99)] == [False, False, False]


def test_objects_are_counted() -> None:
    """A document of more objects and lists than allowed is left to the other."""
    text = SPAN % (b'"events":[' + b",".join([b"{}"] * 50) + b"]")

    assert fast_transcode(text, 58) is not None
    assert fast_transcode(text, 57) is None
