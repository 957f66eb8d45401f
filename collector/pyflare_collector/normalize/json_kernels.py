"""Compiled readers of JSON text that stands in a byte buffer.

Emitters put JSON into string attributes. These kernels find a value in such a
text without parsing the rest of it and without an object per value. They read
the way up to the value and the value itself; what follows is not checked.
Malformed text never raises: the value is absent.

Inside the helpers a position is an address (see `pyflare_proto.otlp.jit`), `end`
is exclusive, and -1 stands for "not there" or "not JSON".
"""

# Kernels take their arrays by position, loop where Python would call `all`, and read a
# grammar in one function, because each call and each object costs what they exist to save.
# ruff: noqa: PLR0917, PLR0911, PLR1714, SIM110

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pyflare_collector.normalize.arrow import buffer_of
from pyflare_collector.normalize.json_text import (
    find_escape,
    skip_space,
    skip_string,
    skip_value,
    unescape_into,
)
from pyflare_proto.otlp.batch import Slices
from pyflare_proto.otlp.jit import address, byte_at, frozen, helper, kernel

__all__ = [
    "JsonType",
    "JsonValues",
    "approximate",
    "as_double",
    "find_path",
    "key_equals",
    "lookup",
    "string_array",
    "unescape",
]

_MAX_EXACT = 1 << 53
_POWERS_OF_TEN = np.array([10.0**k for k in range(23)])
"""Powers that a double holds exactly: m * 10^k is rounded once for m < 2^53."""


class JsonType:
    """Types of a JSON value; the codes of `ValueType` where both have the type."""

    ABSENT = 0
    """Not there, malformed, or `null`."""
    STRING = 1
    BOOL = 2
    INT = 3
    """An integer that fits 64 bits."""
    DOUBLE = 4
    ARRAY = 5
    OBJECT = 6


class JsonValues(NamedTuple):
    """One value a row, as found by `lookup`."""

    type: NDArray[np.uint8]
    """(n,) `JsonType`."""
    slices: Slices
    """(n,) the value's text; for a string what stands between the quotes."""
    escaped: NDArray[np.bool_]
    """(n,) True for a string with backslash escapes: see `unescape`."""
    number: NDArray[np.int64]
    """(n,) the integer, the boolean as 0 or 1, or the 64 bits of the double."""


@helper
def key_equals(pos: int, end: int, key: int, key_end: int) -> bool:
    """Tell whether the JSON string [pos, end), without its quotes, says the bytes of `key`."""
    size = key_end - key
    if end - pos == size:
        for i in range(size):
            if byte_at(pos + i) != byte_at(key + i):
                return False
        return True
    if end - pos < size or find_escape(pos, end) == end:
        return False
    plain = np.empty(end - pos + 8, np.uint8)
    out = address(plain)
    if unescape_into(pos, end, out) - out != size:
        return False
    for i in range(size):
        if plain[i] != byte_at(key + i):
            return False
    return True


@helper
def _find_key(pos: int, end: int, key: int, key_end: int) -> int:
    """Return the position of a key's value in the object at `pos`, -1 when it is not there."""
    pos += 1
    while True:
        pos = skip_space(pos, end)
        if pos >= end or byte_at(pos) != 34:
            return -1
        first = pos + 1
        close = skip_string(first, end)
        if close < 0:
            return -1
        pos = skip_space(close + 1, end)
        if pos >= end or byte_at(pos) != 58:
            return -1
        pos = skip_space(pos + 1, end)
        if key_equals(first, close, key, key_end):
            return pos
        pos = skip_value(pos, end)
        if pos < 0:
            return -1
        pos = skip_space(pos, end)
        if pos >= end or byte_at(pos) != 44:
            return -1
        pos += 1


@helper
def _find_item(pos: int, end: int, index: int) -> int:
    """Return the position of an item of the array at `pos`, -1 when it is not there."""
    pos = skip_space(pos + 1, end)
    if pos >= end or byte_at(pos) == 93:
        return -1
    for _ in range(index):
        pos = skip_value(pos, end)
        if pos < 0:
            return -1
        pos = skip_space(pos, end)
        if pos >= end or byte_at(pos) != 44:
            return -1
        pos = skip_space(pos + 1, end)
    return pos


@helper
def find_path(
    pos: int, end: int, keys: int, key_offsets: NDArray[np.int64], indices: NDArray[np.int64]
) -> tuple[int, int]:
    """Find a value by its path in the JSON text [pos, end).

    Args:
        pos: first byte of the text.
        end: end of the text.
        keys: address of the path's keys, one after the other, UTF-8.
        key_offsets: (k + 1,) where each step's key starts in `keys`.
        indices: (k,) index of a step into an array, -1 for a step by key.

    Returns:
        First byte and end of the value, or (-1, -1). The first key of its name counts.
    """
    pos = skip_space(pos, end)
    for step in range(len(indices)):
        if pos >= end:
            return -1, -1
        if indices[step] >= 0:
            if byte_at(pos) != 91:
                return -1, -1
            pos = _find_item(pos, end, indices[step])
        else:
            if byte_at(pos) != 123:
                return -1, -1
            pos = _find_key(pos, end, keys + key_offsets[step], keys + key_offsets[step + 1])
        if pos < 0:
            return -1, -1
    stop = skip_value(pos, end)
    return (pos, stop) if stop >= 0 else (-1, -1)


@helper
def _digits(pos: int, end: int, mantissa: int, count: int) -> tuple[int, int, int]:
    """Read decimal digits behind `count` significant ones.

    Returns:
        (position behind them, mantissa, significant digits); digits behind the 18th
        are counted and not added.
    """
    while pos < end and 48 <= byte_at(pos) <= 57:
        if count < 18:
            mantissa = mantissa * 10 + (byte_at(pos) - 48)
        if mantissa > 0:
            count += 1
        pos += 1
    return pos, mantissa, count


@helper
def _number(pos: int, end: int) -> tuple[int, int, float]:
    """Read a JSON number.

    Returns:
        (type, integer, double); type is ABSENT for malformed text and 255 where
        the number needs more digits than can be rounded here.
    """
    negative = byte_at(pos) == 45
    if negative:
        pos += 1
    first = pos
    pos, mantissa, count = _digits(pos, end, 0, 0)
    if pos == first or (byte_at(first) == 48 and pos - first > 1):
        return 0, 0, 0.0
    if pos == end and count <= 18:
        return 3, -mantissa if negative else mantissa, 0.0
    scale = 0
    if pos < end and byte_at(pos) == 46:
        first = pos + 1
        pos, mantissa, count = _digits(first, end, mantissa, count)
        if pos == first:
            return 0, 0, 0.0
        scale = first - pos
    if pos < end and (byte_at(pos) | 32) == 101:
        pos += 1
        down = False
        if pos < end and (byte_at(pos) == 43 or byte_at(pos) == 45):
            down = byte_at(pos) == 45
            pos += 1
        first = pos
        pos, power, _ = _digits(pos, end, 0, 0)
        if pos == first:
            return 0, 0, 0.0
        scale += -power if down else power
    if pos != end:
        return 0, 0, 0.0
    if count > 18 or mantissa > _MAX_EXACT or scale > 22 or scale < -22:
        return 255, 0, 0.0
    value = np.float64(mantissa)
    value = value * _POWERS_OF_TEN[scale] if scale >= 0 else value / _POWERS_OF_TEN[-scale]
    return 4, 0, -value if negative else value


@helper
def approximate(pos: int, end: int) -> float:
    """Return a JSON number as a double, good to its last bit or two; NaN for none."""
    code, integer, value = _number(pos, end)
    if code == 4:
        return value
    if code == 3:
        return np.float64(integer)
    if code == 0:
        return np.nan
    negative = byte_at(pos) == 45
    start = pos + 1 if negative else pos
    point, mantissa, count = _digits(start, end, 0, 0)
    scale = max(count - 18, 0)
    if point < end and byte_at(point) == 46:
        whole = count
        stop, mantissa, count = _digits(point + 1, end, mantissa, count)
        # Digits behind the 18th were not added, leading zeros were not counted.
        scale = max(whole - 18, 0) - (stop - point - 1) + max(count - max(whole, 18), 0)
        point = stop
    if point < end and (byte_at(point) | 32) == 101:
        down = byte_at(point + 1) == 45
        point += 2 if down or byte_at(point + 1) == 43 else 1
        _, power, _ = _digits(point, end, 0, 0)
        scale += -power if down else power
    value = np.float64(mantissa) * 10.0**scale
    return -value if negative else value


@helper
def word_of(pos: int, end: int) -> int:
    """Return 1 for `true`, 0 for `false`, 2 for `null`, -1 for anything else."""
    size = end - pos
    if size != 4 and size != 5:
        return -1
    word = 0
    for i in range(size):
        word = (word << 8) | byte_at(pos + i)
    if word == 0x74727565:
        return 1
    if word == 0x66616C7365:
        return 0
    return 2 if word == 0x6E756C6C else -1


@kernel
def _lookup(
    buffer: NDArray[np.uint8],
    offset: NDArray[np.int64],
    length: NDArray[np.int32],
    keys: NDArray[np.uint8],
    key_offsets: NDArray[np.int64],
    indices: NDArray[np.int64],
    kind: NDArray[np.uint8],
    value_offset: NDArray[np.int64],
    value_length: NDArray[np.int32],
    escaped: NDArray[np.bool_],
    number: NDArray[np.int64],
    double: NDArray[np.float64],
) -> int:
    """Fill one row of the result arrays a text; return how many numbers are left to round."""
    base = address(buffer)
    left = 0
    for row in range(len(offset)):
        if length[row] <= 0:
            continue
        pos = base + offset[row]
        pos, end = find_path(pos, pos + length[row], address(keys), key_offsets, indices)
        if pos < 0:
            continue
        c = byte_at(pos)
        if c == 34:
            kind[row] = 1
            pos += 1
            end -= 1
            escaped[row] = find_escape(pos, end) < end
        elif c == 91:
            kind[row] = 5
        elif c == 123:
            kind[row] = 6
        elif c == 45 or 48 <= c <= 57:
            code, number[row], double[row] = _number(pos, end)
            kind[row] = code
            left += code == 255
        else:
            word = word_of(pos, end)
            if word < 0 or word > 1:
                continue
            kind[row] = 2
            number[row] = word
        value_offset[row] = pos - base
        value_length[row] = end - pos
    return left


def _round_numbers(
    buffer: NDArray[np.uint8],
    kind: NDArray[np.uint8],
    slices: Slices,
    number: NDArray[np.int64],
    double: NDArray[np.float64],
) -> None:
    """Read in place the few numbers that need correct rounding of many digits, or 19 digits."""
    for row in np.flatnonzero(kind == 255):
        start, size = int(slices.offset[row]), int(slices.length[row])
        text = buffer[start : start + size].tobytes()
        kind[row] = JsonType.DOUBLE
        if text.lstrip(b"-").isdigit() and size <= 20:
            integer = int(text)
            if -(1 << 63) <= integer < 1 << 63:
                kind[row] = JsonType.INT
                number[row] = integer
                continue
        double[row] = float(text)


def lookup(buffer: NDArray[np.uint8], slices: Slices, path: tuple[str | int, ...]) -> JsonValues:
    """Find the value at one path in many JSON texts.

    Args:
        buffer: (b,) uint8, holds the texts.
        slices: (n,) the texts; a length of 0 is an absent text.
        path: object keys and array indices (from 0); empty for the whole text.

    Returns:
        One value a row; ABSENT where the path leads nowhere, the value is `null`, or
        the text is malformed before the end of the value. Numbers over 64 bits are
        doubles, infinite when over the range of a double.
    """
    encoded = [step.encode() if isinstance(step, str) else b"" for step in path]
    keys = frozen(np.array(list(b"".join(encoded)), np.uint8))
    key_offsets = np.zeros(len(path) + 1, np.int64)
    np.cumsum([len(key) for key in encoded], out=key_offsets[1:])
    indices = np.array([-1 if isinstance(step, str) else step for step in path], np.int64)
    n = len(slices.offset)
    kind = np.zeros(n, np.uint8)
    found = Slices(np.zeros(n, np.int64), np.zeros(n, np.int32))
    escaped = np.zeros(n, np.bool_)
    number = np.zeros(n, np.int64)
    double = np.zeros(n, np.float64)
    left = _lookup(
        frozen(buffer),
        slices.offset,
        slices.length,
        keys,
        key_offsets,
        indices,
        kind,
        found.offset,
        found.length,
        escaped,
        number,
        double,
    )
    if left:
        _round_numbers(buffer, kind, found, number, double)
    is_double = kind == JsonType.DOUBLE
    if is_double.any():
        number[is_double] = double.view(np.int64)[is_double]
    return JsonValues(kind, found, escaped, number)


@kernel
def _gather(
    buffer: NDArray[np.uint8],
    offset: NDArray[np.int64],
    length: NDArray[np.int32],
    valid: NDArray[np.bool_],
    out: NDArray[np.uint8],
    out_offset: NDArray[np.int32],
) -> None:
    """Write the valid strings one after the other, unescaped."""
    base = address(buffer)
    first = address(out)
    o = first
    for row in range(len(offset)):
        if valid[row]:
            pos = base + offset[row]
            o = unescape_into(pos, pos + length[row], o)
        out_offset[row + 1] = o - first


def string_array(
    data: NDArray[np.uint8], offsets: NDArray[np.int32], valid: NDArray[np.bool_] | None = None
) -> pa.StringArray:
    """Wrap UTF-8 bytes and offsets as an Arrow string array without a copy.

    Args:
        data: (b,) the strings' bytes, one after the other.
        offsets: (n + 1,) where each string starts.
        valid: (n,) False for null; None when every row has a value.

    Returns:
        (n,) strings; invalid UTF-8 is repaired with U+FFFD.
    """
    n = len(offsets) - 1
    bitmap: pa.Buffer | None = None
    if valid is not None and not valid.all():
        bitmap = buffer_of(np.packbits(valid, bitorder="little"))
    buffers = [bitmap, buffer_of(offsets), buffer_of(data)]
    # The stubs tell arrays by the type of their scalars, not by their class.
    result: Any = pa.Array.from_buffers(pa.string(), n, buffers)
    try:
        result.validate(full=True)
    except pa.ArrowInvalid:
        raw = pa.Array.from_buffers(pa.binary(), n, buffers)
        texts = [None if v is None else v.decode("utf-8", "replace") for v in raw.to_pylist()]
        result = pa.array(texts, pa.string())
    strings: pa.StringArray = result
    return strings


def unescape(buffer: NDArray[np.uint8], values: JsonValues) -> pa.StringArray:
    """Return the strings among `values`, unescaped to UTF-8; null for other types.

    Args:
        buffer: the buffer that `lookup` was given.
        values: (n,) what `lookup` found.

    Returns:
        (n,) strings. Half a surrogate pair and invalid UTF-8 become U+FFFD.
    """
    valid = values.type == JsonType.STRING
    size = int(values.slices.length[valid].sum(dtype=np.int64))
    out = np.empty(size + 8, np.uint8)
    out_offset = np.zeros(len(valid) + 1, np.int32)
    _gather(frozen(buffer), *values.slices, valid, out, out_offset)
    return string_array(out, out_offset, valid)


def as_double(number: int) -> float:
    """Return the double whose 64 bits `number` holds (see `JsonValues.number`)."""
    value: float = struct.unpack("<d", struct.pack("<q", number))[0]
    return value
