"""Compiled readers of JSON text that stands in a byte buffer.

Emitters put JSON into string attributes. These kernels find a value in such a
text without parsing the rest of it and without an object per value. They read
the way up to the value and the value itself; what follows is not checked.
Malformed text never raises: the value is absent.

Positions are byte offsets into the buffer; `end` is exclusive; -1 stands for
"not there" or "not JSON".
"""

# Kernels take their arrays by position, loop where Python would call `all`, and read a
# grammar in one function, because each call and each object costs what they exist to save.
# ruff: noqa: PLR0917, PLR0911, PLR0912, C901, SIM110

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from pyflare_proto.otlp.batch import Slices

__all__ = [
    "JsonType",
    "JsonValues",
    "as_double",
    "find_path",
    "key_equals",
    "load_u64",
    "lookup",
    "skip_space",
    "skip_string",
    "skip_value",
    "string_array",
    "unescape",
    "unescape_into",
]

_ONES = np.uint64(0x0101010101010101)
_HIGHS = np.uint64(0x8080808080808080)
_QUOTES = np.uint64(0x2222222222222222)
_BACKSLASHES = np.uint64(0x5C5C5C5C5C5C5C5C)
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


@intrinsic  # type: ignore[untyped-decorator]  # numba ships no types
def load_u64(typing_context, array, index):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, ARG001  # read by numba
    """Load 8 bytes of a uint8 array at any offset; the caller keeps within bounds."""

    def build(context, builder, signature, args):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202  # read by numba
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        address = builder.gep(data, [args[1]])
        address = builder.bitcast(address, ir.IntType(64).as_pointer())
        return builder.load(address, align=1)

    return types.uint64(array, types.intp), build


@njit(cache=True, nogil=True)
def skip_space(buffer: NDArray[np.uint8], pos: int, end: int) -> int:
    """Return the first position at or after `pos` that is not JSON white space."""
    while pos < end:
        c = buffer[pos]
        if c not in (32, 10, 13, 9):
            break
        pos += 1
    return pos


@njit(cache=True, nogil=True)
def skip_string(buffer: NDArray[np.uint8], pos: int, end: int) -> tuple[int, bool]:
    """Return the position of the closing quote and whether the string has escapes.

    Args:
        buffer: the text.
        pos: first byte after the opening quote.
        end: end of the text.
    """
    escaped = False
    while True:
        while pos + 8 <= end:
            word = load_u64(buffer, pos)
            quote = word ^ _QUOTES
            slash = word ^ _BACKSLASHES
            hit = ((quote - _ONES) & ~quote) | ((slash - _ONES) & ~slash)
            if hit & _HIGHS != 0:
                break
            pos += 8
        while pos < end and buffer[pos] != 34 and buffer[pos] != 92:
            pos += 1
        if pos >= end:
            return -1, escaped
        if buffer[pos] == 34:
            return pos, escaped
        escaped = True
        pos += 2


@njit(cache=True, nogil=True)
def skip_value(buffer: NDArray[np.uint8], pos: int, end: int) -> int:
    """Return the end of the JSON value that starts at `pos`, -1 when it is cut off.

    `pos` stands on the value's first byte. Brackets are counted, not matched by kind.
    """
    if pos >= end:
        return -1
    c = buffer[pos]
    if c == 34:
        close, _ = skip_string(buffer, pos + 1, end)
        return close + 1 if close >= 0 else -1
    if c in (123, 91):
        depth = 0
        while pos < end:
            c = buffer[pos]
            if c == 34:
                pos, _ = skip_string(buffer, pos + 1, end)
                if pos < 0:
                    return -1
            elif c in (123, 91):
                depth += 1
            elif c in (125, 93):
                depth -= 1
                if depth == 0:
                    return pos + 1
            pos += 1
        return -1
    start = pos
    while pos < end:
        c = buffer[pos]
        if c in (44, 93, 125, 32, 10, 13, 9, 58, 34, 91, 123):
            break
        pos += 1
    return pos if pos > start else -1


@njit(cache=True, nogil=True)
def _hex4(buffer: NDArray[np.uint8], pos: int, end: int) -> int:
    """Return the value of four hexadecimal digits, -1 when they are none."""
    if pos + 4 > end:
        return -1
    value = 0
    for i in range(pos, pos + 4):
        c = np.int64(buffer[i])
        if 48 <= c <= 57:
            digit = c - 48
        elif 97 <= (c | 32) <= 102:
            digit = (c | 32) - 87
        else:
            return -1
        value = value * 16 + digit
    return value


@njit(cache=True, nogil=True)
def _put_utf8(out: NDArray[np.uint8], o: int, code: int) -> int:
    """Write a code point as UTF-8 and return the position behind it."""
    if code < 0x80:
        out[o] = code
        return o + 1
    if code < 0x800:
        out[o] = 0xC0 | (code >> 6)
        out[o + 1] = 0x80 | (code & 63)
        return o + 2
    if code < 0x10000:
        out[o] = 0xE0 | (code >> 12)
        out[o + 1] = 0x80 | ((code >> 6) & 63)
        out[o + 2] = 0x80 | (code & 63)
        return o + 3
    out[o] = 0xF0 | (code >> 18)
    out[o + 1] = 0x80 | ((code >> 12) & 63)
    out[o + 2] = 0x80 | ((code >> 6) & 63)
    out[o + 3] = 0x80 | (code & 63)
    return o + 4


@njit(cache=True, nogil=True)
def _unicode_escape(
    buffer: NDArray[np.uint8], pos: int, end: int, out: NDArray[np.uint8], o: int
) -> tuple[int, int]:
    r"""Write the character of `\uXXXX` at `pos`; half a surrogate pair becomes U+FFFD."""
    code = _hex4(buffer, pos + 2, end)
    if code < 0:
        out[o] = buffer[pos]
        return pos + 1, o + 1
    pos += 6
    if 0xD800 <= code < 0xDC00:
        low = -1
        if pos + 6 <= end and buffer[pos] == 92 and buffer[pos + 1] == 117:
            low = _hex4(buffer, pos + 2, end)
        if 0xDC00 <= low < 0xE000:
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
            pos += 6
        else:
            code = 0xFFFD
    elif 0xDC00 <= code < 0xE000:
        code = 0xFFFD
    return pos, _put_utf8(out, o, code)


@njit(cache=True, nogil=True)
def unescape_into(
    buffer: NDArray[np.uint8], pos: int, end: int, out: NDArray[np.uint8], o: int
) -> int:
    """Write a JSON string's characters as UTF-8; never longer than the source.

    Args:
        buffer: the text.
        pos: first byte between the quotes.
        end: position of the closing quote.
        out: where to write.
        o: first free position of `out`.

    Returns:
        The position behind the last byte written.
    """
    while pos < end:
        c = buffer[pos]
        if c != 92 or pos + 1 >= end:
            out[o] = c
            o += 1
            pos += 1
            continue
        c = buffer[pos + 1]
        if c == 117:
            pos, o = _unicode_escape(buffer, pos, end, out, o)
            continue
        if c == 110:
            c = np.uint8(10)
        elif c == 116:
            c = np.uint8(9)
        elif c == 114:
            c = np.uint8(13)
        elif c == 98:
            c = np.uint8(8)
        elif c == 102:
            c = np.uint8(12)
        out[o] = c
        o += 1
        pos += 2
    return o


@njit(cache=True, nogil=True)
def key_equals(
    buffer: NDArray[np.uint8],
    pos: int,
    end: int,
    key: NDArray[np.uint8],
    key_start: int,
    key_end: int,
) -> bool:
    """Tell whether the JSON string buffer[pos:end] (without quotes) says key[key_start:key_end]."""
    n = key_end - key_start
    if end - pos == n:
        for i in range(n):
            if buffer[pos + i] != key[key_start + i]:
                return False
        return True
    if end - pos < n:
        return False
    for i in range(pos, end):
        if buffer[i] == 92:
            plain = np.empty(end - pos, np.uint8)
            size = unescape_into(buffer, pos, end, plain, 0)
            if size != n:
                return False
            for j in range(n):
                if plain[j] != key[key_start + j]:
                    return False
            return True
    return False


@njit(cache=True, nogil=True)
def _find_key(
    buffer: NDArray[np.uint8],
    pos: int,
    end: int,
    key: NDArray[np.uint8],
    key_start: int,
    key_end: int,
) -> int:
    """Return the position of a key's value in the object at `pos`, -1 when it is not there."""
    pos += 1
    while True:
        pos = skip_space(buffer, pos, end)
        if pos >= end or buffer[pos] != 34:
            return -1
        first = pos + 1
        close, _ = skip_string(buffer, first, end)
        if close < 0:
            return -1
        pos = skip_space(buffer, close + 1, end)
        if pos >= end or buffer[pos] != 58:
            return -1
        pos = skip_space(buffer, pos + 1, end)
        if key_equals(buffer, first, close, key, key_start, key_end):
            return pos
        pos = skip_value(buffer, pos, end)
        if pos < 0:
            return -1
        pos = skip_space(buffer, pos, end)
        if pos >= end or buffer[pos] != 44:
            return -1
        pos += 1


@njit(cache=True, nogil=True)
def _find_item(buffer: NDArray[np.uint8], pos: int, end: int, index: int) -> int:
    """Return the position of an item of the array at `pos`, -1 when it is not there."""
    pos = skip_space(buffer, pos + 1, end)
    if pos >= end or buffer[pos] == 93:
        return -1
    for _ in range(index):
        pos = skip_value(buffer, pos, end)
        if pos < 0:
            return -1
        pos = skip_space(buffer, pos, end)
        if pos >= end or buffer[pos] != 44:
            return -1
        pos = skip_space(buffer, pos + 1, end)
    return pos


@njit(cache=True, nogil=True)
def find_path(
    buffer: NDArray[np.uint8],
    pos: int,
    end: int,
    keys: NDArray[np.uint8],
    key_offsets: NDArray[np.int64],
    indices: NDArray[np.int64],
) -> tuple[int, int]:
    """Find a value by its path in the JSON text buffer[pos:end].

    Args:
        buffer: the text.
        pos: first byte of the text.
        end: end of the text.
        keys: the path's keys, one after the other, UTF-8.
        key_offsets: (k + 1,) where each step's key starts in `keys`.
        indices: (k,) index of a step into an array, -1 for a step by key.

    Returns:
        First byte and end of the value, or (-1, -1). The first key of its name counts.
    """
    pos = skip_space(buffer, pos, end)
    for step in range(len(indices)):
        if pos >= end:
            return -1, -1
        if indices[step] >= 0:
            if buffer[pos] != 91:
                return -1, -1
            pos = _find_item(buffer, pos, end, indices[step])
        else:
            if buffer[pos] != 123:
                return -1, -1
            pos = _find_key(buffer, pos, end, keys, key_offsets[step], key_offsets[step + 1])
        if pos < 0:
            return -1, -1
    stop = skip_value(buffer, pos, end)
    return (pos, stop) if stop >= 0 else (-1, -1)


@njit(cache=True, nogil=True)
def _number(buffer: NDArray[np.uint8], pos: int, end: int) -> tuple[int, int, float]:
    """Read a JSON number.

    Returns:
        (type, integer, double); type is ABSENT for malformed text and 255 where
        the double needs more digits than can be rounded here.
    """
    negative = buffer[pos] == 45
    if negative:
        pos += 1
    first = pos
    mantissa = np.int64(0)
    digits = 0
    exact = True
    scale = 0
    is_integer = True
    while pos < end and 48 <= buffer[pos] <= 57:
        if digits < 18:
            mantissa = mantissa * 10 + np.int64(buffer[pos] - 48)
            digits += 1 if mantissa > 0 else 0
        else:
            exact = False
        pos += 1
    if pos == first or (buffer[first] == 48 and pos - first > 1):
        return 0, 0, 0.0
    if pos < end and buffer[pos] == 46:
        is_integer = False
        pos += 1
        first = pos
        while pos < end and 48 <= buffer[pos] <= 57:
            if digits < 18:
                mantissa = mantissa * 10 + np.int64(buffer[pos] - 48)
                digits += 1 if mantissa > 0 else 0
                scale -= 1
            else:
                exact = False
            pos += 1
        if pos == first:
            return 0, 0, 0.0
    if pos < end and (buffer[pos] | 32) == 101:
        is_integer = False
        pos += 1
        down = False
        if pos < end and (buffer[pos] in (43, 45)):
            down = buffer[pos] == 45
            pos += 1
        first = pos
        power = 0
        while pos < end and 48 <= buffer[pos] <= 57:
            power = min(power * 10 + np.int64(buffer[pos] - 48), 10000)
            pos += 1
        if pos == first:
            return 0, 0, 0.0
        scale += -power if down else power
    if pos != end:
        return 0, 0, 0.0
    if is_integer and exact:
        return 3, -mantissa if negative else mantissa, 0.0
    if not exact or mantissa > _MAX_EXACT or scale > 22 or scale < -22:
        return 255, 0, 0.0
    value = np.float64(mantissa)
    value = value * _POWERS_OF_TEN[scale] if scale >= 0 else value / _POWERS_OF_TEN[-scale]
    return 4, 0, -value if negative else value


@njit(cache=True, nogil=True)
def _is_word(buffer: NDArray[np.uint8], pos: int, end: int) -> int:
    """Return 1 for `true`, 0 for `false`, 2 for `null`, -1 for anything else."""
    n = end - pos
    if (
        n == 4
        and buffer[pos] == 116
        and buffer[pos + 1] == 114
        and buffer[pos + 2] == 117
        and buffer[pos + 3] == 101
    ):
        return 1
    if (
        n == 4
        and buffer[pos] == 110
        and buffer[pos + 1] == 117
        and buffer[pos + 2] == 108
        and buffer[pos + 3] == 108
    ):
        return 2
    if (
        n == 5
        and buffer[pos] == 102
        and buffer[pos + 1] == 97
        and buffer[pos + 2] == 108
        and buffer[pos + 3] == 115
        and buffer[pos + 4] == 101
    ):
        return 0
    return -1


@njit(cache=True, nogil=True)
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
    """Fill one row of the result arrays a text; return how many doubles are left to round."""
    left = 0
    for row in range(len(offset)):
        if length[row] <= 0:
            continue
        pos, end = find_path(
            buffer, offset[row], offset[row] + length[row], keys, key_offsets, indices
        )
        if pos < 0:
            continue
        c = buffer[pos]
        if c == 34:
            _, escaped[row] = skip_string(buffer, pos + 1, end)
            kind[row] = 1
            pos += 1
            end -= 1
        elif c == 91:
            kind[row] = 5
        elif c == 123:
            kind[row] = 6
        elif c == 45 or 48 <= c <= 57:
            kind[row], number[row], double[row] = _number(buffer, pos, end)
            left += kind[row] == 255
        else:
            word = _is_word(buffer, pos, end)
            if word not in (0, 1):
                continue
            kind[row] = 2
            number[row] = word
        value_offset[row] = pos
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
    # A copy, for numba compiles a read-only array separately.
    keys = np.array(list(b"".join(encoded)), np.uint8)
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
        buffer,
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


@njit(cache=True, nogil=True)
def _gather(
    buffer: NDArray[np.uint8],
    offset: NDArray[np.int64],
    length: NDArray[np.int32],
    escaped: NDArray[np.bool_],
    valid: NDArray[np.bool_],
    out: NDArray[np.uint8],
    out_offset: NDArray[np.int32],
) -> int:
    """Copy the valid slices one after the other, unescaped; return the bytes' logical or."""
    o = 0
    bits = np.uint8(0)
    for row in range(len(offset)):
        if valid[row]:
            pos = offset[row]
            end = pos + length[row]
            first = o
            if escaped[row]:
                o = unescape_into(buffer, pos, end, out, o)
            else:
                o += end - pos
                out[first:o] = buffer[pos:end]
            for i in range(first, o):
                bits |= out[i]
        out_offset[row + 1] = o
    return bits


def string_array(
    data: NDArray[np.uint8],
    offsets: NDArray[np.int32],
    valid: NDArray[np.bool_] | None = None,
    *,
    ascii_only: bool = False,
) -> pa.StringArray:
    """Wrap UTF-8 bytes and offsets as an Arrow string array without a copy.

    Args:
        data: (b,) the strings' bytes, one after the other.
        offsets: (n + 1,) where each string starts.
        valid: (n,) False for null; None when every row has a value.
        ascii_only: the caller knows that all bytes are ASCII.

    Returns:
        (n,) strings; invalid UTF-8 is repaired with U+FFFD.
    """
    n = len(offsets) - 1
    bitmap = None
    if valid is not None and not valid.all():
        bitmap = pa.py_buffer(np.packbits(valid, bitorder="little"))
    buffers = [bitmap, pa.py_buffer(offsets), pa.py_buffer(data)]
    result = pa.Array.from_buffers(pa.string(), n, buffers)
    if ascii_only:
        return result
    try:
        result.validate(full=True)
    except pa.ArrowInvalid:
        raw = pa.Array.from_buffers(pa.binary(), n, buffers)
        texts = [None if v is None else v.decode("utf-8", "replace") for v in raw.to_pylist()]
        return pa.array(texts, pa.string())
    return result


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
    out = np.empty(size, np.uint8)
    out_offset = np.zeros(len(valid) + 1, np.int32)
    bits = _gather(buffer, *values.slices, values.escaped, valid, out, out_offset)
    return string_array(out[: out_offset[-1]], out_offset, valid, ascii_only=bits < 128)


def as_double(number: int) -> float:
    """Return the double whose 64 bits `number` holds (see `JsonValues.number`)."""
    value: float = struct.unpack("<d", struct.pack("<q", number))[0]
    return value
