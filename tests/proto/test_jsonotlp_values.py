"""The values of OTLP/JSON, rule by rule: ids, enums, numbers, bytes (H16 to H18, H21)."""

from __future__ import annotations

import math
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from pyflare_proto.otlp.jsonotlp import transcode
from tests.proto.jsonotlp_helpers import (
    SPAN_ID,
    SPAN_PATH,
    TRACE_ID,
    both_ways,  # noqa: F401 - a fixture of every test
    fault_of,
    request_of,
    span_of,
    value_of,
)


@pytest.mark.parametrize("change", [str.upper, str.lower, str.capitalize])
def test_ids_are_hexadecimal_in_either_case(change: Any) -> None:
    """H16: of spans and of links."""
    link = {"traceId": change(TRACE_ID), "spanId": change(SPAN_ID)}
    span = span_of(**link, parentSpanId=change(SPAN_ID), links=[link])
    assert span.trace_id == span.links[0].trace_id == bytes.fromhex(TRACE_ID)
    assert span.span_id == span.parent_span_id == span.links[0].span_id == bytes.fromhex(SPAN_ID)


@pytest.mark.parametrize("digits", ["", "ab", TRACE_ID[:-2], TRACE_ID + "00", "00" * 16])
def test_an_id_of_another_length_keeps_its_bytes(digits: str) -> None:
    """H16: the span is rejected later, without the rest of the request."""
    assert span_of(traceId=digits).trace_id == bytes.fromhex(digits)


@pytest.mark.parametrize(
    "value", ["W47/95gDgQPSabYzgT/GDA==", "zz" * 16, "abc", "ab cd ", "\u0661", 5]
)
def test_ids_that_are_not_hexadecimal_are_refused(value: object) -> None:
    """H16: base64, other letters, half a byte, blanks, other digits, and numbers."""
    assert fault_of(traceId=value).startswith(
        f"OTLP/JSON: {SPAN_PATH}.traceId: expected hexadecimal digits, not "
    )


@pytest.mark.parametrize("value", [0, 2, 99, -1, 2**31 - 1, -(2**31), 2.0])
def test_enums_are_integers_also_unknown_ones(value: float) -> None:
    """H17: a kind or status of a later version is kept."""
    span = span_of(kind=value, status={"code": value})
    assert span.kind == span.status.code == value


@pytest.mark.parametrize("value", ["SPAN_KIND_SERVER", "2", 2.5, 2**31, True, []])
def test_enums_by_name_are_refused(value: object) -> None:
    """H17: no strings, nothing that int32 does not hold."""
    assert f"{SPAN_PATH}.kind: expected the integer" in fault_of(kind=value)
    assert f"{SPAN_PATH}.status.code: expected the integer" in fault_of(status={"code": value})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1544712660000000001", 1544712660000000001),
        (1544712660000000001, 1544712660000000001),
        ("18446744073709551615", 2**64 - 1),
        (2**64 - 1, 2**64 - 1),
        (1.7e18, 1_700_000_000_000_000_000),
        ("1.7e18", 1_700_000_000_000_000_000),
        ("1544712660000000001.0", 1544712660000000001),
        ("0", 0),
        (None, 0),
    ],
)
def test_times_are_strings_or_numbers(value: object, expected: int) -> None:
    """H18: 64 bits without a sign, and no digit is lost."""
    assert span_of(startTimeUnixNano=value).start_time_unix_nano == expected


@pytest.mark.parametrize(
    "value",
    [
        *(-1, 0.5, 2.0**64, True, {"low": 1, "high": 0}),
        *("-1", "18446744073709551616", "", " 1", "+1", "1_0", "0x1", "\u0661", "1e400"),
        pytest.param("9" * 5000, id="5000 digits"),
    ],
)
def test_times_that_are_no_times_are_refused(value: object) -> None:
    """H18: outside uint64, or spelled as JSON spells no number."""
    assert f"{SPAN_PATH}.startTimeUnixNano: expected an integer" in fault_of(
        startTimeUnixNano=value
    )
    assert "events[0].timeUnixNano" in fault_of(events=[{"timeUnixNano": value}])


@pytest.mark.parametrize("value", [2**32, -1, 1.5, "x", False])
def test_counts_and_flags_have_32_bits(value: object) -> None:
    """What does not fit is refused, not cut."""
    assert fault_of(flags=value)
    assert fault_of(droppedLinksCount=value)
    span = span_of(flags=2**32 - 1, droppedLinksCount="4294967295")
    assert span.flags == span.dropped_links_count == 2**32 - 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, 7),
        ("-7", -7),
        (-(2**63), -(2**63)),
        (str(2**63 - 1), 2**63 - 1),
        (1152921504606847000, 1152921504606847000),
        (1e18, 10**18),
        ("1e3", 1000),
        (-0.0, 0),
    ],
)
def test_an_integer_of_64_bits_stays_one(value: object, expected: int) -> None:
    """H18: as string, number, or a double that is whole."""
    arrived = value_of({"intValue": value})
    assert arrived.WhichOneof("value") == "int_value"
    assert arrived.int_value == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1e300, 1e300),
        (-1e300, -1e300),
        (2**63, 2.0**63),
        (str(2**63), 2.0**63),
        (str(-(2**63) - 1), -(2.0**63)),
        (2.0**64, 2.0**64),
        (1.5, 1.5),
        ("1e300", 1e300),
    ],
)
def test_an_integer_that_is_none_becomes_a_double(value: object, expected: float) -> None:
    """One value that int64 does not hold does not cost the whole request."""
    arrived = value_of({"intValue": value})
    assert arrived.WhichOneof("value") == "double_value"
    assert arrived.double_value == expected


def test_a_numeral_beyond_64_bits_in_the_text() -> None:
    """The digits of a number that no int64 holds, as a program of arbitrary integers writes it."""
    text = request_of({"attributes": [{"key": "k", "value": {"intValue": 12345}}]})
    wire = transcode(text.replace(b"12345", b"1" + b"0" * 30))
    span = ExportTraceServiceRequest.FromString(wire).resource_spans[0].scope_spans[0].spans[0]
    assert span.attributes[0].value.double_value == 1e30


def test_values_that_are_empty_are_values() -> None:
    """A oneof is set also by "", 0, false and no bytes."""
    for value in ({"stringValue": ""}, {"intValue": 0}, {"boolValue": False}, {"bytesValue": ""}):
        assert value_of(value).WhichOneof("value") is not None
    assert value_of({"doubleValue": 0}).WhichOneof("value") == "double_value"


@pytest.mark.parametrize("text", ["-_-_AA==", "+/+/AA==", "-_-_AA", "+/+/AA"])
def test_bytes_are_base64_of_either_alphabet(text: str) -> None:
    """H21: standard and URL-safe, with and without padding."""
    assert value_of({"bytesValue": text}).bytes_value == bytes.fromhex("fbffbf00")


@pytest.mark.parametrize("text", ["A", "AA A", "AA==AA==", "=AA", "A*==", "\u00e4AAA", 5, None])
def test_bytes_that_are_no_base64_are_refused(text: object) -> None:
    """H21: a length that no bytes have, blanks, padding in between, other characters."""
    if text is None:
        assert value_of({"bytesValue": None}).WhichOneof("value") is None
    else:
        path = f"{SPAN_PATH}.attributes[0].value.bytesValue: expected base64"
        assert path in fault_of(attributes=[{"key": "k", "value": {"bytesValue": text}}])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Infinity", math.inf),
        ("-Infinity", -math.inf),
        (1, 1.0),
        ("1.5e3", 1500.0),
        (5e-324, 5e-324),
    ],
)
def test_doubles_as_numbers_and_strings(value: object, expected: float) -> None:
    """H21: the proto3 mapping, which has names for what JSON has no literal for."""
    arrived = value_of({"doubleValue": value})
    assert arrived.WhichOneof("value") == "double_value"
    assert arrived.double_value == expected


def test_nan_and_minus_zero() -> None:
    """H21: the two doubles that a comparison does not tell."""
    assert math.isnan(value_of({"doubleValue": "NaN"}).double_value)
    for zero in (-0.0, "-0.0"):
        assert math.copysign(1, value_of({"doubleValue": zero}).double_value) == -1


@pytest.mark.parametrize("value", ["nan", "inf", "Inf", "", "1e400", " 1", "0x1p3", True, []])
def test_doubles_that_are_none_are_refused(value: object) -> None:
    """H21: other names, spellings of other languages, more than a double holds."""
    assert "doubleValue: expected a number" in fault_of(
        attributes=[{"key": "k", "value": {"doubleValue": value}}]
    )
