"""OTLP/JSON to wire bytes: what the official classes hold comes back, and each rule by name."""

from __future__ import annotations

import math
import random
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from pyflare_proto.errors import InvalidDataError
from pyflare_proto.otlp.jsonotlp import transcode
from tests.otlp_payloads import genai_request
from tests.proto.jsonotlp_helpers import (
    SPAN_ID,
    SPAN_PATH,
    both_ways,  # noqa: F401 - a fixture of every test
    fault_of,
    otlp_json,
    request_of,
    span_of,
    value_of,
)
from tests.shared_data import shared_path

# Random requests.

TEXT = st.text(max_size=12)
INT64 = st.integers(-(2**63), 2**63 - 1)
UINT64 = st.integers(0, 2**64 - 1)
UINT32 = st.integers(0, 2**32 - 1)
DOUBLES = st.floats(allow_nan=False) | st.just(math.nan)


def fill(data: st.DataObject, message: Any, depth: int = 0) -> None:
    """Set some of a message's fields to random values."""
    for oneof in message.DESCRIPTOR.oneofs:
        choices = [field for field in oneof.fields if depth < 9 or field.message_type is None]
        field = data.draw(st.sampled_from([None, *choices]))
        if field is not None and not field.name.endswith("strindex"):
            fill_field(data, message, field, depth)
    for field in message.DESCRIPTOR.fields:
        skipped = field.containing_oneof is not None or field.name.endswith("strindex")
        if not skipped and data.draw(st.booleans()):
            fill_field(data, message, field, depth)


def fill_field(data: st.DataObject, message: Any, field: Any, depth: int) -> None:
    """Set one field to a random value, or to several where it is repeated."""
    if field.is_repeated:
        items = getattr(message, field.name)
        for _ in range(data.draw(st.integers(0, 2))):
            if field.message_type is not None:
                fill(data, items.add(), depth + 1)
            else:
                items.append(data.draw(TEXT))
    elif field.message_type is not None:
        child = getattr(message, field.name)
        child.SetInParent()
        fill(data, child, depth + 1)
    else:
        setattr(message, field.name, data.draw(values_of(field)))


def values_of(field: Any) -> st.SearchStrategy[Any]:
    """Return the values that a scalar field can have."""
    by_type: dict[int, st.SearchStrategy[Any]] = {
        field.TYPE_STRING: TEXT,
        field.TYPE_BYTES: st.binary(max_size=17),
        field.TYPE_BOOL: st.booleans(),
        field.TYPE_INT64: INT64,
        field.TYPE_DOUBLE: DOUBLES,
        field.TYPE_FIXED64: UINT64,
        field.TYPE_UINT32: UINT32,
        field.TYPE_FIXED32: UINT32,
        field.TYPE_ENUM: st.integers(-(2**31), 2**31 - 1),
    }
    return by_type[field.type]


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_any_request_comes_back(data: st.DataObject, seed: int) -> None:
    """Request -> OTLP/JSON -> wire bytes -> request, in any order and spelling of the fields."""
    request = ExportTraceServiceRequest()
    fill(data, request)
    document = otlp_json(request, random.Random(seed))
    again = ExportTraceServiceRequest.FromString(transcode(orjson.dumps(document)))
    # Compared as bytes, as a NaN does not equal itself.
    assert again.SerializeToString(deterministic=True) == request.SerializeToString(
        deterministic=True
    )


def test_a_request_of_many_spans_comes_back() -> None:
    """Lengths of one, two and three bytes, and keys that repeat."""
    request = ExportTraceServiceRequest.FromString(genai_request(200))
    document = otlp_json(request, random.Random(1))
    assert ExportTraceServiceRequest.FromString(transcode(orjson.dumps(document))) == request


@pytest.mark.parametrize(
    "name",
    ["openinference", "openlit", "otel-genai", "pydantic-ai-v5", "traceloop-0.40.14", "traceloop"],
)
def test_a_capture_in_json_equals_its_binary_twin(name: str) -> None:
    """What real instrumentations sent, in both forms."""
    text = shared_path("captures", f"{name}.json").read_bytes()
    wire = shared_path("captures", f"{name}.binpb").read_bytes()
    twin = ExportTraceServiceRequest.FromString(wire)
    assert len(twin.resource_spans) > 0
    assert ExportTraceServiceRequest.FromString(transcode(text)) == twin


# The rules, one by one.


@pytest.mark.parametrize(
    "text", [b"", b" \r\n\t", b"{}", b' {"later":1} ', b'{"resourceSpans":[]}']
)
def test_a_request_of_nothing_is_no_bytes(text: bytes) -> None:
    """Empty text, an empty object and an empty list."""
    assert transcode(text) == b""


@pytest.mark.parametrize(
    "text",
    [b"{", b"nonsense", b"{}{}", b"\xef\xbb\xbf{}", b'{"a":NaN}', b'{"a":"\xff"}', b"\x0a\x00"],
)
def test_what_is_no_json_is_refused(text: bytes) -> None:
    """Cut short, no JSON at all, two documents, a byte order mark, NaN bare, bytes of Latin-1."""
    with pytest.raises(InvalidDataError, match="no JSON"):
        transcode(text)


def test_unknown_fields_are_ignored_at_every_depth() -> None:
    """H19 and H20: fields of a later version and snake_case, whatever they hold."""
    extra = {
        "later": [{"x": [None]}],
        "trace_id": 5,
        "resource_spans": {},
        "string_value": 1,
        "": 0,
    }
    value = {"arrayValue": {"values": [{"stringValue": "a", **extra}], **extra}, **extra}
    span = {
        "name": "chat",
        "attributes": [{"key": "k", "value": value, **extra}],
        "events": [{"name": "e", **extra}],
        "links": [{"spanId": SPAN_ID, "span_id": "zz", **extra}],
        "status": {"code": 1, **extra},
        **extra,
    }
    scope = {"scope": {"name": "s", **extra}, "spans": [span], **extra}
    resource = {
        "resource": {"dropped_attributes_count": "x", **extra},
        "scopeSpans": [scope],
        **extra,
    }
    known = {
        "name": "chat",
        "attributes": [{"key": "k", "value": {"arrayValue": {"values": [{"stringValue": "a"}]}}}],
        "events": [{"name": "e"}],
        "links": [{"spanId": SPAN_ID}],
        "status": {"code": 1},
    }
    plain = {"resource": {}, "scopeSpans": [{"scope": {"name": "s"}, "spans": [known]}]}
    assert transcode(orjson.dumps({"resourceSpans": [resource], **extra})) == transcode(
        orjson.dumps({"resourceSpans": [plain]})
    )


def test_null_is_the_same_as_absent() -> None:
    """For every field of every message, and for the items of lists."""
    fields = {field.json_name: None for field in Span.DESCRIPTOR.fields}
    assert span_of(**fields) == Span()
    assert span_of(attributes=[None], events=[None, {"name": "e"}], links=[None]) == Span(
        events=[Span.Event(name="e")]
    )
    assert span_of(attributes=[{"key": None, "value": None}]) == span_of(attributes=[{}])
    assert not span_of(attributes=[{"key": "k", "value": None}]).attributes[0].HasField("value")
    assert value_of({"stringValue": None}).WhichOneof("value") is None
    assert value_of({"stringValue": None, "intValue": "1"}).int_value == 1


def test_null_in_an_array_keeps_the_place() -> None:
    """[1, null, 2] has three items, the second of them unset."""
    values = value_of({"arrayValue": {"values": [{"intValue": 1}, None, {"intValue": 2}]}})
    kinds = [item.WhichOneof("value") for item in values.array_value.values]
    assert kinds == ["int_value", None, "int_value"]


def test_empty_messages_are_present() -> None:
    """`{}` is a message without fields, which is not the same as no message."""
    assert span_of(status={}).HasField("status")
    assert not span_of().HasField("status")
    assert value_of({"arrayValue": {}}).WhichOneof("value") == "array_value"
    assert value_of({"kvlistValue": {}}).WhichOneof("value") == "kvlist_value"
    assert value_of({}).WhichOneof("value") is None


def test_of_two_values_the_last_one_counts() -> None:
    """As on the wire, where a later member of a oneof replaces the earlier one."""
    assert value_of({"stringValue": "a", "intValue": 5}).WhichOneof("value") == "int_value"
    assert value_of({"intValue": 5, "stringValue": "a"}).WhichOneof("value") == "string_value"


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"name": 5}, "name: expected a string, not 5"),
        ({"attributes": {}}, "attributes: expected a list, not an object"),
        ({"attributes": [{}, 5]}, "attributes[1]: expected an object, not 5"),
        ({"attributes": [{"key": ["k"]}]}, "attributes[0].key: expected a string, not a list"),
        ({"attributes": [{"key": "k", "value": "v"}]}, 'value: expected an object, not "v"'),
        (
            {"attributes": [{"key": "k", "value": {"boolValue": "true"}}]},
            'attributes[0].value.boolValue: expected true or false, not "true"',
        ),
        (
            {"attributes": [{"value": {"arrayValue": {"values": [{}, {"stringValue": 1}]}}}]},
            "attributes[0].value.arrayValue.values[1].stringValue: expected a string, not 1",
        ),
        (
            {"attributes": [{"value": {"kvlistValue": {"values": [{"key": False}]}}}]},
            "attributes[0].value.kvlistValue.values[0].key: expected a string, not false",
        ),
        ({"attributes": [{"value": {"arrayValue": []}}]}, "arrayValue: expected an object"),
        ({"attributes": [{"value": {"arrayValue": {"values": {}}}}]}, "values: expected a list"),
        ({"events": [{"name": {}}]}, "events[0].name: expected a string, not an object"),
        ({"links": ["x" * 99]}, f'links[0]: expected an object, not "{"x" * 37}..."'),
        ({"status": []}, "status: expected an object, not a list"),
    ],
)
def test_a_value_of_the_wrong_type_is_named_by_its_path(fields: Any, path: str) -> None:
    """The message tells where it is, from the top of the document, and what stood there."""
    message = fault_of(**fields)
    assert message.startswith(f"OTLP/JSON: {SPAN_PATH}.")
    assert message.endswith(path) or path in message


@pytest.mark.parametrize("document", [[], 5, "x", None, True, {"resourceSpans": [1]}])
def test_the_top_must_be_a_request(document: object) -> None:
    """A list of requests is not a request, nor is any other value."""
    with pytest.raises(InvalidDataError, match="expected an object"):
        transcode(orjson.dumps(document))


def test_entities_of_a_resource() -> None:
    """Their keys are strings in a list, one field each."""
    entity = {"type": "host", "schemaUrl": "u", "idKeys": ["a", "b"], "descriptionKeys": [""]}
    text = orjson.dumps({"resourceSpans": [{"resource": {"entityRefs": [entity]}}]})
    request = ExportTraceServiceRequest.FromString(transcode(text))
    arrived = request.resource_spans[0].resource.entity_refs[0]
    assert (arrived.type, arrived.schema_url) == ("host", "u")
    assert (list(arrived.id_keys), list(arrived.description_keys)) == (["a", "b"], [""])
    with pytest.raises(InvalidDataError, match=r"entityRefs\[0\]\.idKeys\[1\]: expected a string"):
        transcode(text.replace(b'"b"', b"1"))


# Text.


@pytest.mark.parametrize(
    ("escaped", "expected"),
    [
        (rb"a\ud83d", "a\ufffd"),
        (rb"\ude00b", "\ufffdb"),
        (rb"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
        (rb"\ud83d\ude00\ude00", "\U0001f600\ufffd"),
        (rb"\\ud83d\ud83d\"", '\\ud83d\ufffd"'),
        (rb"\ud83d\n", "\ufffd\n"),
        (rb"\ud83d\u0041", "\ufffdA"),
    ],
)
def test_half_an_emoji_costs_one_character(escaped: bytes, expected: str) -> None:
    """Programs that cut strings by UTF-16 units leave lone surrogates, which UTF-8 has not."""
    text = request_of({"name": "here"}).replace(b"here", escaped)
    request = ExportTraceServiceRequest.FromString(transcode(text))
    assert request.resource_spans[0].scope_spans[0].spans[0].name == expected


def test_keys_of_any_length_and_number() -> None:
    """More distinct keys than are remembered, and keys longer than are remembered."""
    keys = [f"key.{i}" for i in range(5000)] + ["k" * 200, "k" * 20_000, "", "\u00e4" * 70]
    span = span_of(attributes=[{"key": key} for key in keys + keys])
    assert [attribute.key for attribute in span.attributes] == keys + keys


@pytest.mark.parametrize("key_size", [1, 125, 126, 127, 128, 129])
@pytest.mark.parametrize("size", [0, 119, 120, 121, 123, 125, 126, 127, 128, 1023, 1024, 20_000])
def test_lengths_where_a_length_takes_another_byte(key_size: int, size: int) -> None:
    """The first time that a key is seen and the next are written alike, whatever the lengths."""
    key, text = "k" * key_size, "\u00e4" * (size // 2) + "a" * (size % 2)
    values = [{"stringValue": text}, {"intValue": "-1"}, {"intValue": size}, {"doubleValue": 0.5}]
    span = span_of(attributes=[{"key": key, "value": value} for value in values + values])
    expected = [
        AnyValue(string_value=text),
        AnyValue(int_value=-1),
        AnyValue(int_value=size),
        AnyValue(double_value=0.5),
    ]
    assert [attribute.value for attribute in span.attributes] == expected * 2
    assert {attribute.key for attribute in span.attributes} == {key}


def test_plain_values_of_known_keys_keep_their_types() -> None:
    """1, 1.0, true and "1" are told apart, and both zeros, also after one of them was seen."""
    plain: list[dict[str, Any]] = [
        {"intValue": 1},
        {"boolValue": True},
        {"stringValue": "1"},
        {"doubleValue": 1.0},
        {"doubleValue": 0.0},
        {"doubleValue": -0.0},
        {"intValue": 0},
        {"boolValue": False},
    ]
    attributes = [{"key": "known", "value": value} for value in plain]
    arrived = [attribute.value for attribute in span_of(attributes=attributes * 2).attributes]
    kinds = ["int", "bool", "string", "double", "double", "double", "int", "bool"]
    assert [value.WhichOneof("value") for value in arrived] == [f"{k}_value" for k in kinds * 2]
    assert [math.copysign(1, value.double_value) for value in arrived[4:6]] == [1, -1]
    refused: tuple[dict[str, Any], ...]
    refused = ({"intValue": True}, {"boolValue": 1}, {"intValue": "x"}, {"doubleValue": True})
    for value in refused:
        message = fault_of(attributes=[attributes[0], {"key": "known", "value": value}])
        assert f"attributes[1].value.{next(iter(value))}: expected" in message


def test_a_document_of_nothing_but_objects_is_refused() -> None:
    """Objects take much more memory than their text; braces within strings are no objects."""
    many = 300_000
    head, tail = b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":[', b"]}]}]}]}"
    for empty in (b"{}", b"[]"):
        with pytest.raises(InvalidDataError, match="objects and lists in its"):
            transcode(head + (empty + b",") * many + empty + tail)
    value = b'{"value":{"arrayValue":{"values":[%s{"intValue":1}]}}}' % (b'{"intValue":1},' * many)
    dense = ExportTraceServiceRequest.FromString(transcode(head + value + tail))
    span = dense.resource_spans[0].scope_spans[0].spans[0]
    assert len(span.attributes[0].value.array_value.values) == many + 1
    prompt = '\\"{}' * many
    assert value_of({"stringValue": prompt}).string_value == prompt


# Depth.


def nested(kind: str, depth: int) -> bytes:
    """Return a request with a value inside so many arrays or lists of keys, as JSON."""
    inner = b'{"%s":{"values":[' % kind.encode() + (b'{"value":' if kind == "kvlistValue" else b"")
    close = b"}" * (kind == "kvlistValue") + b"]}}"
    return (
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":[{"value":'
        + inner * depth
        + b'{"boolValue":true}'
        + close * depth
        + b"}]}]}]}]}"
    )


def length_field(number: int, body: bytes) -> bytes:
    """Return a field of bytes with a length of three bytes, as the lengths do not matter here."""
    n = len(body)
    return bytes([number << 3 | 2, n & 127 | 128, n >> 7 & 127 | 128, n >> 14]) + body


def nested_wire(kind: str, depth: int) -> bytes:
    """Return the wire bytes of `nested`."""
    value = b"\x10\x01"
    for _ in range(depth):
        if kind == "kvlistValue":
            value = length_field(6, length_field(1, length_field(2, value)))
        else:
            value = length_field(5, length_field(1, value))
    for number in (2, 9, 2, 2, 1):
        value = length_field(number, value)
    return value


def taken_by_protobuf(wire: bytes) -> bool:
    """Say whether the official parser takes the bytes."""
    try:
        ExportTraceServiceRequest.FromString(wire)
    except Exception:  # noqa: BLE001 - the class depends on protobuf's implementation
        return False
    return True


@pytest.mark.parametrize(("kind", "deepest"), [("arrayValue", 47), ("kvlistValue", 31)])
def test_the_limit_of_depth_is_that_of_the_binary_form(kind: str, deepest: int) -> None:
    """100 levels: 5 down to the first value, then 2 an array and 3 a list of keys."""
    wire = transcode(nested(kind, deepest))
    parsed = ExportTraceServiceRequest.FromString(wire)
    assert parsed == ExportTraceServiceRequest.FromString(nested_wire(kind, deepest))
    assert not taken_by_protobuf(nested_wire(kind, deepest + 1))
    with pytest.raises(InvalidDataError, match="nest deeper than 100 levels"):
        transcode(nested(kind, deepest + 1))


@pytest.mark.parametrize("kind", ["arrayValue", "kvlistValue"])
@pytest.mark.parametrize("depth", [200, 1000, 100_000])
def test_deep_nesting_is_refused(kind: str, depth: int) -> None:
    """H23: past the limit of levels, and past the limit of the JSON parser."""
    with pytest.raises(InvalidDataError):
        transcode(nested(kind, depth))


def test_deep_nesting_in_a_known_field_of_another_type() -> None:
    """The refusal shows no value that is too deep to be shown."""
    deep = b'{"a":[' * 400 + b"]}" * 400
    text = request_of({"name": "here"}).replace(b'"here"', deep)
    with pytest.raises(InvalidDataError, match="name: expected a string, not an object"):
        transcode(text)
    assert transcode(text.replace(b'"name"', b'"later"')) == transcode(request_of({}))


NAMES = (
    "resourceSpans scopeSpans spans resource scope attributes events links status kind traceId key "
    "value values arrayValue kvlistValue intValue doubleValue bytesValue boolValue stringValue"
).split()


@settings(max_examples=300, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False) | TEXT | st.integers(0, 2**64 - 1),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
        ),
        max_leaves=30,
    )
)
def test_any_document_is_taken_or_refused(document: Any) -> None:
    """No JSON raises anything but InvalidDataError, and what is taken is a request."""
    attributes = {"attributes": [{"key": "k", "value": document}]}
    for text in (orjson.dumps(document), request_of(document), request_of(attributes)):
        try:
            wire = transcode(text)
        except InvalidDataError:
            continue
        ExportTraceServiceRequest.FromString(wire)
