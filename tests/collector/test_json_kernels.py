"""The compiled JSON readers against orjson."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyflare_collector.normalize.json_kernels import JsonType, as_double, lookup, unescape
from pyflare_proto.otlp.batch import Slices

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
)
KEYS = st.one_of(st.sampled_from(["a", "b", "id", "usage", "ключ", 'q"uote', "back\\slash", ""]))
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)
PATHS = st.lists(st.one_of(KEYS, st.integers(0, 3)), max_size=4).map(tuple)


def find(texts: list[bytes], path: tuple[str | int, ...]) -> list[Any]:
    """Return the values at `path` as Python values; None for absent."""
    buffer = np.frombuffer(b"".join(texts) or b" ", np.uint8)
    length = np.array([len(text) for text in texts], np.int32)
    slices = Slices((np.cumsum(length) - length).astype(np.int64), length)
    values = lookup(buffer, slices, path)
    strings = unescape(buffer, values).to_pylist()
    found: list[Any] = []
    for row, kind in enumerate(values.type.tolist()):
        start, size = int(values.slices.offset[row]), int(values.slices.length[row])
        number = int(values.number[row])
        match kind:
            case JsonType.ABSENT:
                found.append(None)
            case JsonType.STRING:
                found.append(strings[row])
            case JsonType.BOOL:
                found.append(bool(number))
            case JsonType.INT:
                found.append(number)
            case JsonType.DOUBLE:
                found.append(as_double(number))
            case _:
                found.append(orjson.loads(buffer[start : start + size].tobytes()))
    return found


def expected(value: Any, path: tuple[str | int, ...]) -> Any:
    """Return what stands at `path` in a parsed document; None for absent."""
    for step in path:
        if isinstance(step, str):
            value = value.get(step) if isinstance(value, dict) else None
        else:
            fits = isinstance(value, list) and step < len(value)
            value = value[step] if fits else None
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
        return float(value)
    return value


def same(a: Any, b: Any) -> bool:
    """Tell whether two values are equal, types and the sign of zero included."""
    if isinstance(a, float) and isinstance(b, float):
        return struct.pack("<d", a) == struct.pack("<d", b)
    return type(a) is type(b) and a == b


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(DOCUMENTS, st.booleans(), st.booleans()), max_size=5), PATHS)
def test_lookup_finds_what_a_parser_finds(
    documents: list[tuple[Any, bool, bool]], path: tuple[str | int, ...]
) -> None:
    """For any documents and path the kernel gives the parsed value: type, bits and all.

    Written compactly or spaced, with characters as they are or as escapes.
    """
    texts = [
        json.dumps(value, ensure_ascii=ascii_only, indent=1 if spaced else None).encode(
            "utf-8", "surrogatepass"
        )
        for value, ascii_only, spaced in documents
    ]
    for got, (value, _, _) in zip(find(texts, path), documents, strict=True):
        want = expected(value, path)
        assert same(got, want), (value, path)


@settings(deadline=None, max_examples=200)
@given(DOCUMENTS, PATHS, st.integers(0, 200))
def test_a_cut_text_gives_the_value_or_nothing(
    value: Any, path: tuple[str | int, ...], cut: int
) -> None:
    """A text cut anywhere never raises; what is found before the cut is right, or absent.

    A number or word at the very end of a text may be a shorter one than was meant.
    """
    text = json.dumps(value).encode()[:cut]
    got = find([text], path)[0]
    want = expected(value, path)
    if got is not None and not isinstance(got, (bool, int, float)):
        assert same(got, want)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.binary(max_size=40), max_size=4), PATHS)
def test_any_bytes_are_read_without_an_error(
    texts: list[bytes], path: tuple[str | int, ...]
) -> None:
    """Random bytes never raise, and every slice that is found lies in its own text."""
    buffer = np.frombuffer(b"".join(texts) or b" ", np.uint8)
    length = np.array([len(text) for text in texts], np.int32)
    offset = (np.cumsum(length) - length).astype(np.int64)
    values = lookup(buffer, Slices(offset, length), path)
    found = values.type != JsonType.ABSENT
    assert (values.slices.offset[found] >= offset[found]).all()
    end = values.slices.offset + values.slices.length
    assert (end[found] <= (offset + length)[found]).all()
    unescape(buffer, values).validate(full=True)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (rb'"\ud83d\ude00"', "\U0001f600"),
        (rb'"\ud83d"', "�"),
        (rb'"\ude00\ud83dx"', "��x"),
        (rb'"\ud800\n\n"', "�\n\n"),
        (rb'"\u0000\/\b\f\r\t\\\""', '\x00/\b\f\r\t\\"'),
        (b'"\xff\xfe"', "��"),
        (b'"' + b"x" * 100 + rb"\u00e9" + b'"', "x" * 100 + "é"),
    ],
)
def test_strings_are_unescaped_and_repaired(text: bytes, want: str) -> None:
    """Escapes become characters; half a surrogate pair and bad UTF-8 become U+FFFD."""
    assert find([text], ()) == [want]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (b"9223372036854775807", 2**63 - 1),
        (b"-9223372036854775808", -(2**63)),
        (b"9223372036854775808", 2.0**63),
        (b"123456789012345678", 123456789012345678),
        (b"-0.0", -0.0),
        (b"0.1", 0.1),
        (b"4.9e-324", 5e-324),
        (b"1.7976931348623157e308", 1.7976931348623157e308),
        (b"1e400", math.inf),
        (b"01", None),
        (b"1.", None),
        (b"-", None),
        (b"1e", None),
        (b"NaN", None),
        (b"truex", None),
    ],
)
def test_numbers_keep_their_type_and_bits(text: bytes, want: float | None) -> None:
    """Integers of 64 bits stay integers, doubles are rounded once, malformed ones are absent."""
    assert same(find([text], ())[0], want)


def test_deep_nesting_is_passed_over() -> None:
    """A value behind 100,000 brackets is found: depth is counted, not recursed."""
    deep = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b',"b":1}'
    assert find([deep], ("b",)) == [1]


def test_the_first_of_two_equal_keys_counts() -> None:
    """A key given twice has its first value, as the module says."""
    assert find([b'{"a":1,"a":2}'], ("a",)) == [1]
