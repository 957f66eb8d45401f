"""Attributes, events and links as JSON text, against the official protobuf classes."""

from __future__ import annotations

import json
import math
import random
import struct
from itertools import pairwise

import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import (
    AnyValue,
    ArrayValue,
    KeyValue,
    KeyValueList,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from pyflare_proto.otlp.anyvalue import attributes_json, events_json, links_json, restore
from pyflare_proto.otlp.batch import OtlpBatch
from pyflare_proto.otlp.decode import decode
from pyflare_proto.otlp.keys import KeyTable
from tests.otlp_payloads import any_value, key_values

KEYS = KeyTable(["a0"])
TEXT = 'aé"\\\n\x01\x7f😀 \t/\u2028\x00'
INTEGERS = (0, 1, -1, 2**63 - 1, -(2**63), 2**53 + 1, -(2**31))
DOUBLES = (0.0, -0.0, 1.0, 0.1, 1e300, 5e-324, 1e16, 1e22, 123456.0, math.nan, math.inf, -math.inf)


def random_double(rng: random.Random) -> float:
    """Return a double of 64 random bits."""
    return struct.unpack("<d", rng.randbytes(8))[0]


def random_scalar(rng: random.Random) -> object:
    """Return a value that holds no others; None is an unset one."""
    return rng.choice(
        (
            None,
            rng.random() < 0.5,
            "".join(rng.choices(TEXT, k=rng.randrange(24))),
            rng.choice((*INTEGERS, rng.randrange(-(10**6), 10**6))),
            rng.choice((*DOUBLES, rng.random(), random_double(rng))),
            rng.randbytes(rng.randrange(9)),
        )
    )


def random_value(rng: random.Random, depth: int = 0) -> AnyValue:
    """Return a value of any type, lists and kvlists up to five levels deep."""
    if depth == 5 or rng.random() < 0.7:
        return any_value(random_scalar(rng))
    values = [random_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if rng.random() < 0.5:
        return AnyValue(array_value=ArrayValue(values=values))
    pairs = [KeyValue(key=f"k{i}", value=value) for i, value in enumerate(values)]
    return AnyValue(kvlist_value=KeyValueList(values=pairs))


def random_attributes(rng: random.Random, most: int) -> list[KeyValue]:
    """Return fewer than `most` attributes with different keys."""
    return [KeyValue(key=f"a{i}", value=random_value(rng)) for i in range(rng.randrange(most))]


def random_span(rng: random.Random) -> Span:
    """Return a span with attributes, events and links."""
    span = Span(trace_id=rng.randbytes(16), span_id=rng.randbytes(8), name="x")
    span.attributes.extend(random_attributes(rng, 6))
    for _ in range(rng.randrange(3)):
        event = span.events.add(name='é"v', time_unix_nano=rng.getrandbits(64))
        event.dropped_attributes_count = rng.choice((0, 3, 2**32 - 1))
        event.attributes.extend(random_attributes(rng, 3))
    for _ in range(rng.randrange(3)):
        link = span.links.add(trace_id=rng.randbytes(16), span_id=rng.randbytes(8))
        link.trace_state = rng.choice(("", 'a=b"'))
        link.flags = rng.choice((0, 257, 2**32 - 1))
        link.dropped_attributes_count = rng.choice((0, 7))
        link.attributes.extend(random_attributes(rng, 3))
    return span


def python_value(value: AnyValue) -> object:
    """Return an `AnyValue` as a Python object of the same type."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [python_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: python_value(pair.value) for pair in value.kvlist_value.values}
    return getattr(value, kind)


def python_attributes(pairs: object) -> dict[str, object]:
    """Return `KeyValue` messages as a dict."""
    return {pair.key: python_value(pair.value) for pair in pairs}


def same(a: object, b: object) -> bool:
    """Return whether two values have equal types and bits; every NaN is the same."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return struct.pack("<d", a) == struct.pack("<d", b) or (a != a and b != b)  # noqa: PLR0124 - NaN
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return a == b


def batch_of(spans: list[Span]) -> OtlpBatch:
    """Return spans as they come out of the decoder."""
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.extend(spans)
    return decode([request.SerializeToString()], KEYS)


def attribute_texts(spans: list[Span]) -> list[str]:
    """Return the attributes of each span as JSON text."""
    batch = batch_of(spans)
    return attributes_json(batch.buffer, batch.attributes, len(batch)).to_pylist()


def text_of(attributes: dict[str, object]) -> str:
    """Return the JSON text of one span's attributes."""
    (text,) = attribute_texts([Span(attributes=key_values(attributes))])
    return text


@pytest.mark.parametrize("seed", range(60))
def test_attributes_come_back_with_their_types_and_bits(seed: int) -> None:
    """Parsing the text and restoring it gives every value as protobuf reads it."""
    rng = random.Random(seed)
    spans = [random_span(rng) for _ in range(rng.randrange(1, 20))]
    for span, text in zip(spans, attribute_texts(spans), strict=True):
        assert same(restore(json.loads(text)), python_attributes(span.attributes)), text


@pytest.mark.parametrize("seed", range(30))
def test_events_hold_all_that_the_span_says(seed: int) -> None:
    """Times, names, attributes and dropped counts of events equal protobuf's; none is null."""
    rng = random.Random(seed)
    spans = [random_span(rng) for _ in range(20)]
    for span, text in zip(spans, events_json(batch_of(spans)).to_pylist(), strict=True):
        if not span.events:
            assert text is None
            continue
        for event, found in zip(span.events, json.loads(text), strict=True):
            assert found["time_unix_nano"] == event.time_unix_nano
            assert found["name"] == event.name
            assert found.get("dropped_attributes_count", 0) == event.dropped_attributes_count
            assert same(restore(found["attributes"]), python_attributes(event.attributes))


@pytest.mark.parametrize("seed", range(30))
def test_links_hold_all_that_the_span_says(seed: int) -> None:
    """Ids, trace states, flags and attributes of links equal protobuf's; none is null."""
    rng = random.Random(seed)
    spans = [random_span(rng) for _ in range(20)]
    for span, text in zip(spans, links_json(batch_of(spans)).to_pylist(), strict=True):
        if not span.links:
            assert text is None
            continue
        for link, found in zip(span.links, json.loads(text), strict=True):
            assert found["trace_id"] == link.trace_id.hex()
            assert found["span_id"] == link.span_id.hex()
            assert found.get("trace_state", "") == link.trace_state
            assert found.get("flags", 0) == link.flags
            assert found.get("dropped_attributes_count", 0) == link.dropped_attributes_count
            assert same(restore(found["attributes"]), python_attributes(link.attributes))


def test_doubles_are_written_as_python_writes_them() -> None:
    """Any 64 bits that are a finite double give the text of `repr`, hence the shortest."""
    rng = random.Random(7)
    values = [random_double(rng) for _ in range(20_000)]
    values += [rng.randrange(1, 2**53) / 10 ** rng.randrange(23) for _ in range(10_000)]
    values += [float(rng.randrange(10**9)) for _ in range(2_000)]
    values += [math.ldexp(1.0, e) for e in range(-1074, 1024)]
    values += [math.nextafter(math.ldexp(1.0, e), 0.0) for e in range(-1073, 1024)]
    values += [float(f"{sign}1e{e}") for e in range(-323, 309) for sign in ("", "-")]
    values = [value for value in values if math.isfinite(value)]
    text = text_of({"v": values})
    assert text == '{"v":[' + ",".join(map(repr, values)) + "]}"


def test_integers_keep_every_bit() -> None:
    """The limits of 64 signed bits and their neighbours are plain JSON integers."""
    values = [s * 2**p + d for p in range(63) for s in (1, -1) for d in (-1, 0, 1)]
    values += [2**63 - 1, 2**63 - 2, -(2**63), -(2**63) + 1]
    assert text_of({"v": values}) == '{"v":[' + ",".join(map(str, values)) + "]}"


def test_what_json_cannot_hold_has_the_form_of_otlp_json() -> None:
    """Bytes and non-finite doubles are written as the AnyValue of OTLP/JSON."""
    values = {"b": b"\x00\xff\x10", "e": b"", "n": math.nan, "i": math.inf, "m": -math.inf}
    assert text_of(values) == (
        '{"b":{"bytesValue":"AP8Q"},"e":{"bytesValue":""},"n":{"doubleValue":"NaN"},'
        '"i":{"doubleValue":"Infinity"},"m":{"doubleValue":"-Infinity"}}'
    )


def test_every_character_is_escaped_as_json_wants() -> None:
    """Each control character, quote and backslash survives at each place of a word of 8 bytes."""
    attributes: dict[str, object] = {
        f"{chr(code)}{pad}": "x" * pad + chr(code) + "y" * (9 - pad)
        for code in [*range(0x80), 0xE9, 0x7FF, 0x800, 0xFFFF, 0x10000, 0x10FFFF]
        for pad in range(9)
    }
    assert json.loads(text_of(attributes)) == attributes


def test_bad_utf8_is_repaired_in_keys_and_values() -> None:
    """Bytes that are not UTF-8 become U+FFFD as `bytes.decode(errors="replace")` does it."""
    rng = random.Random(3)
    for _ in range(300):
        raw = bytes(rng.choices((0x41, 0x22, 0x80, 0xBF, 0xC3, 0xE2, 0xED, 0xF0, 0xF4), k=12))
        marker = "x" * len(raw)
        payload = ExportTraceServiceRequest()
        span = payload.resource_spans.add().scope_spans.add().spans.add()
        span.attributes.add(key=marker).value.string_value = marker
        wire = payload.SerializeToString().replace(marker.encode(), raw)
        batch = decode([wire], KEYS)
        (text,) = attributes_json(batch.buffer, batch.attributes, 1).to_pylist()
        repaired = raw.decode(errors="replace")
        assert json.loads(text) == {repaired: repaired}


def test_output_grows_with_escapes() -> None:
    """Text that becomes six times as long by escapes still fits, in every owner and in events."""
    heavy = "\x01" * 5000
    spans = [Span(attributes=key_values({"k": heavy, heavy: i})) for i in range(40)]
    for i, text in enumerate(attribute_texts(spans)):
        assert json.loads(text) == {"k": heavy, heavy: i}
    for span in spans:
        span.events.add(name=heavy).attributes.extend(key_values({heavy: heavy}))
        span.links.add(trace_state=heavy).attributes.extend(key_values({heavy: heavy}))
    batch = batch_of(spans)
    for events, links in zip(
        events_json(batch).to_pylist(), links_json(batch).to_pylist(), strict=True
    ):
        assert json.loads(events) == [
            {"time_unix_nano": 0, "name": heavy, "attributes": {heavy: heavy}}
        ]
        assert json.loads(links)[0]["trace_state"] == heavy
        assert json.loads(links)[0]["attributes"] == {heavy: heavy}


def test_output_grows_with_many_small_values() -> None:
    """Values whose text is far longer than their bytes on the wire fit at any size of output."""
    for n in (*range(40), 400, 4000):
        values: list[object] = [5e-324, -math.inf, b"", None, 2**62, False] * n
        spans = [Span(attributes=[KeyValue(key="v", value=any_value(values))]) for _ in range(3)]
        for text in attribute_texts(spans):
            assert restore(json.loads(text)) == {"v": values}


def test_fractions_of_the_output_at_every_size() -> None:
    """No length of text makes the writer stop short or run over: lengths 0 to 600, one a batch."""
    for size in range(0, 600, 3):
        quoted = '"' * size
        assert json.loads(text_of({"q": quoted, "r": "é" * size})) == {
            "q": quoted,
            "r": "é" * size,
        }


@pytest.mark.parametrize("kvlist", [False, True])
def test_values_nest_as_deep_as_the_decoder_lets_them(kvlist: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """The deepest value that decodes is written whole: messages to level 100."""
    # An array is two levels (AnyValue, ArrayValue), a kvlist is three; the value is at level 5.
    levels = (100 - 5) // 3 if kvlist else (100 - 5) // 2
    value: object = 1.5
    for _ in range(levels):
        value = {"k": value, "l": [True]} if kvlist else [value, "s"]
    text = text_of({"v": value})
    assert json.loads(text) == {"v": value}


def test_owners_without_attributes() -> None:
    """An owner without attributes is `{}`, or null on demand, first, last and in between."""
    full = Span(attributes=key_values({"a0": 1}))
    batch = batch_of([Span(), full, Span(), Span(), full, Span()])
    table = batch.attributes
    texts = attributes_json(batch.buffer, table, len(batch)).to_pylist()
    assert texts == ["{}", '{"a0":1}', "{}", "{}", '{"a0":1}', "{}"]
    texts = attributes_json(batch.buffer, table, len(batch), none_is_null=True).to_pylist()
    assert texts == [None, '{"a0":1}', None, None, '{"a0":1}', None]


def test_nothing_at_all() -> None:
    """A batch without spans gives columns without rows; one without messages gives nulls."""
    empty = decode([b""], KEYS)
    assert attributes_json(empty.buffer, empty.attributes, 0).to_pylist() == []
    assert events_json(empty).to_pylist() == []
    assert links_json(empty).to_pylist() == []
    bare = batch_of([Span(), Span()])
    assert events_json(bare).to_pylist() == [None, None]
    assert links_json(bare).to_pylist() == [None, None]


def test_a_key_given_twice_is_written_twice() -> None:
    """Repeated keys stay, in the order of the wire, at the top and inside a kvlist."""
    inner = KeyValueList(values=[*key_values({"k": 1}), *key_values({"k": 2})])
    pairs = [
        *key_values({"a": 1}),
        *key_values({"a": "x"}),
        KeyValue(key="n", value=AnyValue(kvlist_value=inner)),
    ]
    (text,) = attribute_texts([Span(attributes=pairs)])
    assert text == '{"a":1,"a":"x","n":{"k":1,"k":2}}'


def test_resources_and_scopes_have_attributes_too() -> None:
    """The tables of resources and scopes are written like those of spans."""
    request = ExportTraceServiceRequest()
    for i in range(3):
        resource = request.resource_spans.add()
        resource.resource.attributes.extend(key_values({"service.name": f"s{i}"} if i else {}))
        for j in range(2):
            scope = resource.scope_spans.add()
            scope.scope.attributes.extend(key_values({"x": [i, j]}))
    batch = decode([request.SerializeToString()], KEYS)
    resources = attributes_json(batch.buffer, batch.resource_attributes, batch.n_resources)
    assert resources.to_pylist() == ["{}", '{"service.name":"s1"}', '{"service.name":"s2"}']
    scopes = attributes_json(batch.buffer, batch.scope_attributes, len(batch.scope_resource))
    assert scopes.to_pylist() == [f'{{"x":[{i},{j}]}}' for i in range(3) for j in range(2)]


def test_columns_are_valid_arrow() -> None:
    """Offsets rise, and Arrow's full check passes: text is UTF-8 and within bounds."""
    rng = random.Random(11)
    batch = batch_of([random_span(rng) for _ in range(200)])
    columns = [
        attributes_json(batch.buffer, batch.attributes, len(batch)),
        events_json(batch),
        links_json(batch),
    ]
    for column in columns:
        column.validate(full=True)
        offsets = np.frombuffer(column.buffers()[1], np.int32)
        assert all(a <= b for a, b in pairwise(offsets.tolist()))
