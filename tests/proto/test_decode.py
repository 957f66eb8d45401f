"""OTLP bytes to offset arrays, against the official protobuf parser."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import (
    AnyValue,
    ArrayValue,
    InstrumentationScope,
    KeyValue,
    KeyValueList,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from pyflare_proto.errors import InvalidDataError
from pyflare_proto.otlp.batch import ValueType
from pyflare_proto.otlp.columns import hex_ids, strings
from pyflare_proto.otlp.decode import (
    KeyTable,
    OtlpDecodeError,
    concat,
    count_spans,
    decode,
    select,
)
from tests.otlp_payloads import genai_request, key_values
from tests.proto.wire_oracle import (
    Request,
    accepts,
    field,
    mutated,
    random_wire,
    rows_of_batch,
    rows_of_request,
    varint,
)
from tests.shared_data import shared_path

KEYS = KeyTable(["gen_ai.system", "service.name", "gen_ai.prompt.#.content"])

UINT32 = st.integers(0, 2**32 - 1)
UINT64 = st.integers(0, 2**64 - 1)
TEXT = st.text(max_size=12)
ENUM = st.integers(-(2**31), 2**31 - 1)
SCALARS = (
    st.just(AnyValue())
    | st.builds(AnyValue, string_value=TEXT)
    | st.builds(AnyValue, bool_value=st.booleans())
    | st.builds(AnyValue, int_value=st.integers(-(2**63), 2**63 - 1))
    | st.builds(AnyValue, double_value=st.floats())
    | st.builds(AnyValue, bytes_value=st.binary(max_size=12))
)


def _pairs(values: st.SearchStrategy[AnyValue]) -> st.SearchStrategy[list[KeyValue]]:
    keys = TEXT | st.sampled_from(["gen_ai.system", "service.name", "gen_ai.prompt.3.content"])
    return st.lists(st.builds(KeyValue, key=keys, value=values), max_size=4)


VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.builds(
            lambda values: AnyValue(array_value=ArrayValue(values=values)),
            st.lists(inner, max_size=3),
        )
        | st.builds(lambda pairs: AnyValue(kvlist_value=KeyValueList(values=pairs)), _pairs(inner))
    ),
    max_leaves=6,
)
ATTRIBUTES = _pairs(VALUES)
TRACE_IDS = st.binary(min_size=16, max_size=16) | st.binary(max_size=20) | st.just(bytes(16))
SPAN_IDS = st.binary(min_size=8, max_size=8) | st.binary(max_size=12) | st.just(bytes(8))
EVENTS = st.builds(
    Span.Event,
    time_unix_nano=UINT64,
    name=TEXT,
    attributes=ATTRIBUTES,
    dropped_attributes_count=UINT32,
)
LINKS = st.builds(
    Span.Link,
    trace_id=TRACE_IDS,
    span_id=SPAN_IDS,
    trace_state=TEXT,
    attributes=ATTRIBUTES,
    flags=UINT32,
)
SPANS = st.builds(
    Span,
    trace_id=TRACE_IDS,
    span_id=SPAN_IDS,
    parent_span_id=SPAN_IDS,
    trace_state=TEXT,
    flags=UINT32,
    name=TEXT,
    kind=ENUM,
    start_time_unix_nano=UINT64,
    end_time_unix_nano=UINT64,
    attributes=ATTRIBUTES,
    dropped_attributes_count=UINT32,
    events=st.lists(EVENTS, max_size=2),
    dropped_events_count=UINT32,
    links=st.lists(LINKS, max_size=2),
    dropped_links_count=UINT32,
    status=st.none() | st.builds(Status, message=TEXT, code=ENUM),
)
SCOPES = st.builds(
    ScopeSpans,
    scope=st.none()
    | st.builds(InstrumentationScope, name=TEXT, version=TEXT, attributes=ATTRIBUTES),
    spans=st.lists(SPANS, max_size=3),
    schema_url=TEXT,
)
RESOURCES = st.builds(
    ResourceSpans,
    resource=st.none() | st.builds(Resource, attributes=ATTRIBUTES),
    scope_spans=st.lists(SCOPES, max_size=2),
    schema_url=TEXT,
)
REQUESTS = st.builds(ExportTraceServiceRequest, resource_spans=st.lists(RESOURCES, max_size=2)).map(
    lambda request: request.SerializeToString()
)

# Requests take long to draw, and the first example compiles or loads the kernels: that a
# machine is slow must not fail a test.
WHOLE_REQUESTS = settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def sample() -> bytes:
    """Return a request in which every field of OTLP stands."""
    values: dict[str, object] = {
        "gen_ai.system": "openai",
        "b": True,
        "i": -5,
        "d": 0.25,
        "x": b"\x00\xff",
        "n": None,
        "l": [1, "two", [3.0]],
        "m": {"k": {"l": False}},
    }
    span = Span(
        trace_id=bytes(range(16)),
        span_id=bytes(range(8)),
        parent_span_id=b"parentid",
        trace_state="a=b",
        flags=0x301,
        name="chat",
        kind=3,
        start_time_unix_nano=10**18,
        end_time_unix_nano=10**18 + 1,
        attributes=key_values(values),
        dropped_attributes_count=1,
        dropped_events_count=200,
        dropped_links_count=3,
        status=Status(message="no", code=2),
    )
    span.events.add(name="e", time_unix_nano=7, attributes=key_values(values))
    span.links.add(trace_id=b"t" * 16, span_id=b"s" * 8, attributes=key_values(values), flags=1)
    resource = ResourceSpans(resource=Resource(attributes=key_values(values)), schema_url="u")
    resource.resource.entity_refs.add(type="host", id_keys=["a"], schema_url="e")
    scope = resource.scope_spans.add(schema_url="v")
    scope.scope.CopyFrom(
        InstrumentationScope(name="s", version="1", attributes=key_values({"a": 1}))
    )
    scope.spans.extend([span, Span(name="empty")])
    return ExportTraceServiceRequest(resource_spans=[resource]).SerializeToString()


def expected(*payloads: bytes) -> list[dict[str, object]]:
    """Return the rows of requests as the official parser reads them."""
    return [
        row
        for number, payload in enumerate(payloads)
        for row in rows_of_request(Request.FromString(payload), number)
    ]


def in_span(content: bytes) -> bytes:
    """Return a request with one span whose fields are `content`."""
    return field(1, field(2, field(2, content)))


def refused(payload: bytes) -> bool:
    """Return whether the decoder refuses a payload, which it may do in one way only."""
    try:
        decode([payload], KEYS)
    except InvalidDataError:
        return True
    return False


@WHOLE_REQUESTS
@given(st.lists(REQUESTS, max_size=3))
def test_requests_decode_to_what_protobuf_reads(payloads: list[bytes]) -> None:
    """Every field of every span equals the official parser's, through one to three requests."""
    batch = decode(payloads, KEYS)
    assert rows_of_batch(batch) == expected(*payloads)
    assert sum(map(count_spans, payloads)) == len(batch)


def test_the_sample_decodes_to_what_protobuf_reads() -> None:
    """A request with all fields of OTLP is read in full."""
    assert rows_of_batch(decode([sample()], KEYS)) == expected(sample())


def test_truncated_anywhere_it_is_accepted_as_protobuf_accepts_it() -> None:
    """A request cut at any byte is refused, or read as far as the official parser reads it."""
    whole = sample()
    for size in range(len(whole)):
        cut = whole[:size]
        assert refused(cut) is not accepts(cut), size
        if accepts(cut):
            assert rows_of_batch(decode([cut], KEYS)) == expected(cut)


def test_inner_messages_truncated_anywhere_are_accepted_as_protobuf_accepts_them() -> None:
    """Likewise where the lengths around the cut are right, so that only the inside is wrong."""
    span = Request.FromString(sample()).resource_spans[0].scope_spans[0].spans[0]
    whole = span.SerializeToString()
    for size in range(len(whole)):
        cut = in_span(whole[:size])
        assert refused(cut) is not accepts(cut), size
        for number in (9, 11, 13, 15):
            cut = in_span(field(number, whole[:size]))
            assert refused(cut) is not accepts(cut), (number, size)


@pytest.mark.parametrize("seed", range(8))
def test_damaged_requests_are_accepted_as_protobuf_accepts_them(seed: int) -> None:
    """A few bytes changed, put in or taken out: both parsers agree on what is a request."""
    rng = random.Random(seed)
    whole = sample()
    taken = 0
    for _ in range(1500):
        payload = mutated(rng, whole)
        accepted = accepts(payload)
        taken += accepted
        assert refused(payload) is not accepted, payload.hex()
        if accepted:
            spans = [
                span
                for resource in Request.FromString(payload).resource_spans
                for scope in resource.scope_spans
                for span in scope.spans
            ]
            batch = decode([payload], KEYS)
            assert len(batch) == len(spans)
            assert batch.kind.tolist() == [span.kind for span in spans]
    assert 100 < taken < 1400


@pytest.mark.parametrize("seed", range(8))
def test_random_fields_are_accepted_as_protobuf_accepts_them(seed: int) -> None:
    """Sound and unsound fields of all wire types, groups among them, at every level."""
    rng = random.Random(seed)
    taken = 0
    for _ in range(2500):
        payload = random_wire(rng)
        accepted = accepts(payload)
        taken += accepted
        assert refused(payload) is not accepted, payload.hex()
    assert 500 < taken < 2450


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_random_bytes_are_accepted_as_protobuf_accepts_them(payload: bytes) -> None:
    """Bytes without any sense, alone and as the fields of a span, its events and attributes."""
    for damaged in (
        payload,
        in_span(payload),
        in_span(field(9, payload)),
        in_span(field(9, field(2, payload))),
        in_span(field(11, payload)),
    ):
        assert refused(damaged) is not accepts(damaged), damaged.hex()


def test_text_that_is_not_utf8_is_accepted() -> None:
    """The one deliberate difference: bad text costs no request and becomes U+FFFD."""
    payload = in_span(
        field(5, b"a\xffb") + field(9, field(1, b"\xc3") + field(2, field(1, b"\xe2")))
    )
    with pytest.raises(DecodeError, match="Error parsing message"):
        ExportTraceServiceRequest.FromString(payload)
    batch = decode([payload], KEYS)
    assert strings(batch.buffer, batch.name).to_pylist() == ["a\ufffdb"]
    assert strings(batch.buffer, batch.attributes.key).to_pylist() == ["\ufffd"]
    assert strings(batch.buffer, batch.attributes.value).to_pylist() == ["\ufffd"]


UNKNOWN = [
    field(99, 2**64 - 1),
    field(99, b"x" * 8, 1),
    field(99, b"skipped"),
    field(99, field(1, 5) + field(98, b"", 3) + field(98, b"", 4), 3) + field(99, b"", 4),
    field(99, b"xxxx", 5),
    field(2**29 - 1, 1),
]


@pytest.mark.parametrize(
    "unknown", UNKNOWN, ids=["varint", "64", "bytes", "group", "32", "largest"]
)
def test_unknown_fields_are_passed_over_at_every_level(unknown: bytes) -> None:
    """Fields of later versions, of each wire type, change nothing wherever they stand."""
    pair = unknown + field(1, b"k") + unknown + field(2, unknown + field(3, 7) + unknown) + unknown
    status = field(15, unknown + field(2, b"m") + unknown + field(3, 2))
    event = field(11, unknown + field(2, b"e") + unknown + field(3, pair) + unknown)
    link = field(13, unknown + field(1, b"t" * 16) + unknown + field(4, pair))
    span = unknown + field(5, b"n") + unknown + field(9, pair) + status + event + link + unknown
    scope = field(1, unknown + field(1, b"s") + unknown + field(3, pair) + unknown)
    resource = field(1, unknown + field(1, pair) + unknown)
    scope_spans = field(2, unknown + scope + unknown + field(2, span) + unknown)
    payload = unknown + field(1, unknown + resource + unknown + scope_spans + unknown) + unknown
    batch = decode([payload], KEYS)
    (row,) = rows_of_batch(batch)
    assert [row] == expected(payload)
    assert row["name"] == b"n"
    assert row["message"] == b"m"
    assert row["attributes"] == row["resource"] == row["scope"] == [(b"k", (3, 7))]


def test_known_fields_of_another_wire_type_count_as_unknown() -> None:
    """A name that is a number, or a time that is text, is passed over as protobuf does it."""
    span = field(5, 3) + field(7, b"text") + field(9, 1) + field(1, b"12345678", 1) + field(6, b"k")
    payload = in_span(span + field(10, b"x") + field(16, 1) + field(15, 2))
    assert rows_of_batch(decode([payload], KEYS)) == expected(payload)


def test_fields_given_twice() -> None:
    """Of scalars the last one counts; resource, scope and status merge, as in protobuf."""
    pair = field(1, b"k") + field(2, field(3, 7))
    other = field(1, b"j") + field(2, field(1, b"first") + field(3, 8))
    span = (
        field(5, b"old") + field(6, 1) + field(1, b"a" * 16) + field(2, b"b" * 8)
        + field(15, field(2, b"kept") + field(3, 1)) + field(9, pair)
        + field(5, b"new") + field(6, 2) + field(1, b"c" * 16) + field(2, b"short")
        + field(15, field(3, 2)) + field(9, other)
    )  # fmt: skip
    scope = field(1, field(1, b"s") + field(3, pair)) + field(1, field(2, b"2") + field(3, other))
    resource = field(1, field(1, pair))
    payload = field(1, resource + field(2, scope + field(2, span)) + field(1, field(1, other)))
    (row,) = rows_of_batch(decode([payload], KEYS))
    assert [row] == expected(payload)
    assert (row["name"], row["message"], row["code"], row["valid"]) == (b"new", b"kept", 2, False)
    assert len(row["resource"]) == len(row["scope"]) == len(row["attributes"]) == 2


def test_of_two_values_of_one_attribute_the_last_one_counts() -> None:
    """Where protobuf would merge two values, which no encoder writes, the last one is taken."""
    first = field(2, field(5, field(1, field(3, 1))))
    second = field(2, field(5, field(1, field(3, 2))))
    (row,) = rows_of_batch(decode([in_span(field(9, field(1, b"k") + first + second))], KEYS))
    ((key, (kind, value)),) = row["attributes"]
    assert (key, kind) == (b"k", ValueType.ARRAY)
    assert [item.int_value for item in value.values] == [2]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\x0a", "truncated"),
        (b"\x0a\x05\x0a", "longer than the message"),
        (b"\x08" + b"\xff" * 10, "number is longer"),
        (b"\x0a" + b"\xff" * 5, "number is longer"),
        (b"\x00\x01", "field has the number 0"),
        (b"\x0f\x01", "unknown wire type"),
        (b"\x0c", "group ends"),
        (b"\x0b\x14", "group ends"),
        (b"\x0b", "truncated"),
        (in_span(field(7, b"1234", 1)), "truncated"),
        (in_span(field(16, b"12", 5)), "truncated"),
        (b"\x0b" * 120 + b"\x0c" * 120, "deeper than 100"),
    ],
)
def test_the_error_says_which_payload_and_what(payload: bytes, reason: str) -> None:
    """The error names the payload, the byte at which the damaged part begins, and the reason."""
    good = genai_request(2)
    before = field(1, b"")
    with pytest.raises(OtlpDecodeError, match=reason) as caught:
        decode([good, before + payload, good], KEYS)
    assert not accepts(payload)
    assert isinstance(caught.value, InvalidDataError)
    assert caught.value.payload_index == 1
    assert caught.value.position == len(before)
    assert "payload 1" in caught.value.message
    assert caught.value.hint


def test_a_payload_does_not_run_into_the_next() -> None:
    """A request cut short is refused though the bytes that it lacks would follow."""
    whole = genai_request(3)
    cut, rest = whole[:-7], whole[-7:]
    with pytest.raises(OtlpDecodeError) as caught:
        decode([cut, rest], KEYS)
    assert caught.value.payload_index == 0


def nested_array(levels: int) -> bytes:
    """Return a span attribute with `levels` arrays in one another."""
    value = b""
    for _ in range(levels):
        value = field(5, field(1, value))
    return in_span(field(9, field(2, value)))


def nested_kvlist(levels: int) -> bytes:
    """Return a span attribute with `levels` kvlists in one another."""
    value = b""
    for _ in range(levels):
        value = field(6, field(1, field(2, value)))
    return in_span(field(9, field(2, value)))


def nested_event(levels: int) -> bytes:
    """Return an event with an attribute of `levels` arrays in one another."""
    value = b""
    for _ in range(levels):
        value = field(5, field(1, value))
    return in_span(field(11, field(3, field(2, value))))


def nested_groups(levels: int) -> bytes:
    """Return a span with `levels` unknown groups in one another."""
    return in_span(b"\xa3\x06" * levels + b"\xa4\x06" * levels)


@pytest.mark.parametrize("nested", [nested_array, nested_kvlist, nested_event, nested_groups])
def test_depth_is_limited_as_in_protobuf(nested: object) -> None:
    """Both parsers give up at the same level, for all that nests; far deeper is no danger."""
    assert callable(nested)
    answers = [refused(nested(levels)) for levels in range(25, 105)]
    assert answers == [not accepts(nested(levels)) for levels in range(25, 105)]
    assert answers[0] is False
    assert answers[-1] is True
    assert refused(nested(20_000))


def test_empty_requests_have_no_spans() -> None:
    """No payload, an empty one, and resources and scopes without spans are all fine."""
    for payloads in ([], [b""], [b"", b""], [field(1, b"")], [field(1, field(2, b""))]):
        batch = decode(payloads, KEYS)
        assert len(batch) == 0
        assert rows_of_batch(batch) == []


def test_small_messages_in_great_number_fit() -> None:
    """Tables grow to what is there, whatever the first guess: spans, attributes, all else."""
    n = 5000
    spans = field(1, field(2, field(2, b"") * n))
    batch = decode([spans], KEYS)
    assert len(batch) == n
    assert not batch.valid_ids.any()
    assert not batch.start_time_ns.any()
    full = in_span(field(9, b"") * n + field(11, b"") * n + field(13, b"") * n)
    batch = decode([full], KEYS)
    assert [len(t.owner) for t in (batch.attributes, batch.events, batch.links)] == [n, n, n]
    batch = decode([field(1, b"") * n + field(1, field(2, b"") * n)], KEYS)
    assert (batch.n_resources, len(batch.scope_resource)) == (n + 1, n)
    resource = field(1, field(1, field(1, b"") * n) + field(2, field(1, field(3, b"") * n)))
    batch = decode([resource], KEYS)
    assert len(batch.resource_attributes.owner) == n
    assert len(batch.scope_attributes.owner) == n
    mixed = [genai_request(300, seed=i) for i in range(3)] + [spans, full]
    assert rows_of_batch(decode(mixed, KEYS)) == expected(*mixed)


@pytest.mark.parametrize(
    ("trace_id", "span_id", "good"),
    [
        (b"t" * 16, b"s" * 8, True),
        (bytes(15) + b"\x01", bytes(7) + b"\x01", True),
        (bytes(16), b"s" * 8, False),
        (b"t" * 16, bytes(8), False),
        (b"t" * 15, b"s" * 8, False),
        (b"t" * 17, b"s" * 8, False),
        (b"t" * 16, b"s" * 7, False),
        (b"t" * 16, b"s" * 9, False),
        (b"", b"s" * 8, False),
        (b"t" * 16, b"", False),
        (b"t" * 8, b"s" * 16, False),
    ],
)
def test_bad_ids_mark_the_span_and_not_its_neighbours(
    trace_id: bytes, span_id: bytes, good: object
) -> None:
    """A span with an id of the wrong length or of zeros is marked; the spans around it are not."""
    around = field(2, field(1, b"a" * 16) + field(2, b"b" * 8))
    payload = field(1, field(2, around + field(2, field(1, trace_id) + field(2, span_id)) + around))
    assert decode([payload], KEYS).valid_ids.tolist() == [True, good, True]


LISTED = (
    "gen_ai.prompt.#.content",
    "llm.#.message.#.text",
    "gen_ai.prompt.0.role",
    "#.a",
    "a.#",
    "#",
    "plain",
    "plain#",
    "deep.#.#.#",
    "",
)


@pytest.mark.parametrize(
    ("key", "listed", "index0", "index1"),
    [
        ("gen_ai.prompt.0.content", "gen_ai.prompt.#.content", 0, -1),
        ("gen_ai.prompt.12.content", "gen_ai.prompt.#.content", 12, -1),
        ("gen_ai.prompt.007.content", "gen_ai.prompt.#.content", 7, -1),
        ("gen_ai.prompt.2147483647.content", "gen_ai.prompt.#.content", 2**31 - 1, -1),
        ("gen_ai.prompt.2147483648.content", None, -1, -1),
        ("gen_ai.prompt.99999999999999999999.content", None, -1, -1),
        ("gen_ai.prompt.#.content", None, -1, -1),
        ("gen_ai.prompt.1a.content", None, -1, -1),
        ("gen_ai.prompt.-1.content", None, -1, -1),
        ("gen_ai.prompt.\u0661.content", None, -1, -1),
        ("gen_ai.prompt..content", None, -1, -1),
        ("gen_ai.prompt.1.content.", None, -1, -1),
        ("gen_ai.prompt.1.contents", None, -1, -1),
        ("gen_ai.prompt.0.role", "gen_ai.prompt.0.role", -1, -1),
        ("gen_ai.prompt.1.role", None, -1, -1),
        ("llm.3.message.14.text", "llm.#.message.#.text", 3, 14),
        ("llm.3.message.#.text", None, -1, -1),
        ("llm.3.message.x.text", None, -1, -1),
        ("5.a", "#.a", 5, -1),
        ("a.5", "a.#", 5, -1),
        ("5", "#", 5, -1),
        ("plain", "plain", -1, -1),
        ("plain#", "plain#", -1, -1),
        ("plai", None, -1, -1),
        ("deep.1.2.3", "deep.#.#.#", 1, 2),
        ("", "", -1, -1),
    ],
)
def test_keys_are_found_with_their_indices(
    key: str, listed: str | None, index0: int, index1: int
) -> None:
    """Listed keys are found, `#` stands for a decimal segment, and nothing else matches."""
    table = KeyTable(LISTED)
    payload = in_span(field(9, field(1, key.encode())))
    attributes = decode([payload], table).attributes
    assert attributes.key_id.tolist() == [-1 if listed is None else table.id(listed)]
    assert attributes.index0.tolist() == [index0]
    assert attributes.index1.tolist() == [index1]


def test_thousands_of_keys_find_their_ids() -> None:
    """More keys than the cache has slots, listed and not, each several times in any order."""
    rng = random.Random(1)
    listed = [f"k{i}.{'x' * (i % 30)}" for i in range(1500)] + [f"p{i}.#.y" for i in range(500)]
    table = KeyTable(listed)
    keys = [rng.choice(listed).replace("#", str(rng.randrange(50))) for _ in range(6000)]
    keys += [f"{key}?" for key in rng.sample(keys, 1000)]
    rng.shuffle(keys)
    payload = in_span(b"".join(field(9, field(1, key.encode())) for key in keys))
    attributes = decode([payload], table).attributes
    place = {key: i for i, key in enumerate(listed)}
    for key, found, index in zip(
        keys, attributes.key_id.tolist(), attributes.index0.tolist(), strict=True
    ):
        parts = key.split(".")
        if key.startswith("p"):
            assert found == place.get(f"{parts[0]}.#.{parts[2]}", -1)
            assert index == (-1 if key.endswith("?") else int(parts[1]))
        else:
            assert (found, index) == (place.get(key, -1), -1)


def test_key_tables_refuse_what_would_be_ambiguous() -> None:
    """A key listed twice, or with `#` beside digits, is an error; ids are places in the list."""
    table = KeyTable(LISTED)
    assert len(table) == len(table.keys) == len(LISTED)
    assert [table.id(key) for key in LISTED] == list(range(len(LISTED)))
    assert "plain" in table
    assert "gen_ai.prompt.1.content" not in table
    with pytest.raises(KeyError):
        table.id("gen_ai.prompt.1.content")
    with pytest.raises(ValueError, match="listed twice: a"):
        KeyTable(["a", "b", "a"])
    with pytest.raises(ValueError, match="segment of digits"):
        KeyTable(["a.#.0"])


@WHOLE_REQUESTS
@given(st.lists(REQUESTS, min_size=1, max_size=3), st.data())
def test_selected_spans_keep_all_that_is_theirs(payloads: list[bytes], data: st.DataObject) -> None:
    """A mask keeps rows, numbers pick them in any order and repeatedly, with all their fields."""
    batch = decode(payloads, KEYS)
    rows = rows_of_batch(batch)
    mask = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    kept = select(batch, np.array(mask, np.bool_))
    assert rows_of_batch(kept) == [row for row, keep in zip(rows, mask, strict=True) if keep]
    at = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=6)) if rows else []
    picked = select(batch, np.array(at, np.int64))
    assert rows_of_batch(picked) == [rows[i] for i in at]
    assert rows_of_batch(select(picked, np.zeros(len(at), np.bool_))) == []


@WHOLE_REQUESTS
@given(st.lists(st.lists(REQUESTS, min_size=1, max_size=2), min_size=1, max_size=3))
def test_batches_join_to_what_one_call_decodes(groups: list[list[bytes]]) -> None:
    """Decoding in parts and joining gives the rows of decoding at once; requests stay apart."""
    joined = concat([decode(group, KEYS) for group in groups])
    whole = decode([payload for group in groups for payload in group], KEYS)
    rows, wanted = rows_of_batch(joined), rows_of_batch(whole)
    renumbered: dict[object, object] = {}
    for row, want in zip(rows, wanted, strict=True):
        renumbered.setdefault(want["request"], row["request"])
        assert row["request"] == renumbered[want["request"]]
        assert {**row, "request": 0} == {**want, "request": 0}
    assert len(set(renumbered.values())) == len(renumbered)


def test_joining_what_was_selected() -> None:
    """Selections join with their attributes and events, and joining nothing is an error."""
    batch = decode([genai_request(20), sample()], KEYS)
    some = select(batch, np.array([21, 3, 20]))
    rows = rows_of_batch(batch)
    joined = rows_of_batch(concat([some, batch, some]))
    plain = [{**row, "request": 0} for row in joined]
    picked = [rows[21], rows[3], rows[20]]
    assert plain == [{**row, "request": 0} for row in [*picked, *rows, *picked]]
    assert concat([batch]) is batch
    with pytest.raises(ValueError, match="at least one"):
        concat([])


def test_long_varints_are_read_as_protobuf_reads_them() -> None:
    """Numbers padded to ten bytes, and bits beyond the 64th, mean what they mean to protobuf."""
    for raw in (
        b"\x83\x80\x80\x80\x80\x80\x80\x80\x80\x00",
        b"\xff" * 9 + b"\x01",
        b"\xff" * 9 + b"\x7f",
        b"\x81\x80\x80\x80\x10",
        b"\x80" * 9 + b"\x02",
    ):
        value = b"\x18" + raw
        flag = b"\x10" + raw
        payload = in_span(
            b"\x30" + raw + b"\x50" + raw + field(15, value)
            + field(9, field(2, value)) + field(9, field(2, flag))
        )  # fmt: skip
        assert rows_of_batch(decode([payload], KEYS)) == expected(payload)
    padded = b"\x8a\x80\x80\x80\x00" + b"\x80\x80\x80\x80\x00"  # a tag and a length of 5 bytes
    assert refused(padded) is not accepts(padded)
    assert varint(300) == b"\xac\x02"


CAPTURES = (
    "openinference",
    "openlit",
    "otel-genai",
    "pydantic-ai-v5",
    "traceloop",
    "traceloop-0.40.14",
)


@pytest.mark.parametrize("name", CAPTURES)
def test_captures_decode_to_what_protobuf_and_their_json_twins_say(name: str) -> None:
    """Requests of real exporters equal the official parser's reading and the JSON twin's ids."""
    payload = shared_path("captures", f"{name}.binpb").read_bytes()
    batch = decode([payload], KEYS)
    assert rows_of_batch(batch) == expected(payload)
    assert bool(batch.valid_ids.all())
    twin = json.loads(shared_path("captures", f"{name}.json").read_bytes())
    spans = [
        span
        for resource in twin["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]
    assert hex_ids(batch.trace_id, zero_is_null=False).to_pylist() == [s["traceId"] for s in spans]
    assert hex_ids(batch.span_id, zero_is_null=False).to_pylist() == [s["spanId"] for s in spans]
    assert strings(batch.buffer, batch.name).to_pylist() == [s["name"] for s in spans]
    assert batch.start_time_ns.tolist() == [int(s["startTimeUnixNano"]) for s in spans]
    keys = [pair["key"] for span in spans for pair in span.get("attributes", ())]
    assert strings(batch.buffer, batch.attributes.key).to_pylist() == keys
