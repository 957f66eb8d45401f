"""JSON in compiled helpers: its strings and numbers, read strictly and written for the wire.

Positions are addresses. What is read ends with 32 zero bytes, so that a few bytes behind
the end may be looked at; `BAIL` in place of a position means that this is no JSON, or a
rare form of it.
"""

from __future__ import annotations

import numpy as np

from pyflare_proto.otlp.jit import (
    byte_at,
    helper,
    int64,
    int64_at,
    put8,
    put64,
    trailing_zeros,
)
from pyflare_proto.otlp.text import copy_bytes, sequence

__all__ = [
    "BAIL",
    "bits_of",
    "digits",
    "number_end",
    "put_id",
    "put_length",
    "put_text",
    "put_varint",
    "space",
    "string_end",
    "whole",
]

BAIL = -1
"""In place of a position."""

_HIGH = -0x7F7F7F7F7F7F7F80  # 0x8080808080808080
_ONES = 0x0101010101010101
_SPACES = 0x2020202020202020
_QUOTES = 0x2222222222222222
_BACKSLASHES = 0x5C5C5C5C5C5C5C5C


@helper
def space(pos: int) -> int:
    """Return the next place that is no white space; a zero byte ends the text."""
    byte = byte_at(pos)
    while byte == 32 or byte == 10 or byte == 13 or byte == 9:
        pos += 1
        byte = byte_at(pos)
    return pos


@helper
def string_end(pos: int, end: int) -> tuple[int, bool]:
    """Return where a string's closing quote is, and whether it has escapes; `BAIL` if not."""
    escaped = False
    while pos < end:
        word = int64_at(pos)
        quotes = word ^ _QUOTES
        slashes = word ^ _BACKSLASHES
        special = (
            word
            | (word - _SPACES) & ~word
            | (quotes - _ONES) & ~quotes
            | (slashes - _ONES) & ~slashes
        ) & _HIGH
        clean = trailing_zeros(special) >> 3
        pos += clean
        if clean == 8:
            continue
        if pos >= end:
            break
        byte = byte_at(pos)
        if byte == 34:
            return pos, escaped
        if byte == 92:
            escaped = True
            pos += 2
        elif byte >= 0x80:
            n = sequence(pos, end)
            if n < 0:
                return BAIL, False
            pos += n
        else:
            return BAIL, False  # a control character
    return BAIL, False


@helper
def _hex_value(byte: int) -> int:
    """Return the value of a hexadecimal digit, `BAIL` for another byte."""
    if 48 <= byte <= 57:
        return byte - 48
    letter = byte | 32
    return letter - 87 if 97 <= letter <= 102 else BAIL


@helper
def _put_code_point(code: int, out: int) -> int:
    """Write a code point of the basic plane in UTF-8: the next place."""
    if code < 0x80:
        put8(out, code)
        return out + 1
    if code < 0x800:
        put8(out, 0xC0 | code >> 6)
        put8(out + 1, 0x80 | code & 0x3F)
        return out + 2
    put8(out, 0xE0 | code >> 12)
    put8(out + 1, 0x80 | code >> 6 & 0x3F)
    put8(out + 2, 0x80 | code & 0x3F)
    return out + 3


@helper
def _simple_escape(byte: int) -> int:
    """Return what a letter behind a backslash stands for, `BAIL` for none."""
    if byte == 34 or byte == 92 or byte == 47:
        return byte
    if byte == 110:
        return 10
    if byte == 116:
        return 9
    if byte == 114:
        return 13
    if byte == 98:
        return 8
    return 12 if byte == 102 else BAIL


@helper
def _unescape(pos: int, end: int, out: int) -> int:
    """Write a string's text without its escapes: the next place, or `BAIL` for a surrogate."""
    while pos < end:
        byte = byte_at(pos)
        if byte != 92:
            put8(out, byte)
            out += 1
            pos += 1
            continue
        byte = byte_at(pos + 1)
        if byte != 117:
            byte = _simple_escape(byte)
            if byte < 0:
                return BAIL
            put8(out, byte)
            out += 1
            pos += 2
            continue
        code = 0
        for i in range(4):
            digit = _hex_value(byte_at(pos + 2 + i))
            if digit < 0:
                return BAIL
            code = code << 4 | digit
        if 0xD800 <= code <= 0xDFFF:
            return BAIL
        out = _put_code_point(code, out)
        pos += 6
    return out


@helper
def put_varint(value: int, out: int) -> int:
    """Write the 64 bits of `value`: the next place."""
    rest = np.uint64(value)
    while rest > np.uint64(0x7F):
        put8(out, int64(rest) & 0x7F | 0x80)
        rest >>= np.uint64(7)
        out += 1
    put8(out, int64(rest))
    return out + 1


@helper
def _moved(start: int, out: int, by: int, doubles: int, count: int) -> int:
    """Move what was written from `start` on, and the places of its doubles: the next place."""
    place = out - 8
    while place >= start:
        put64(place + by, int64_at(place))
        place -= 8
    for i in range(place + 7, start - 1, -1):
        put8(i + by, byte_at(i))
    entry = doubles + 24 * (count - 1)
    while entry >= doubles and int64_at(entry) >= start:
        put64(entry, int64_at(entry) + by)
        entry -= 24
    return out + by


@helper
def put_length(start: int, out: int, doubles: int, count: int) -> int:
    """Write the length of what stands from `start` on into the byte before: the next place."""
    size = out - start
    if size < 0x80:
        put8(start - 1, size)
        return out
    extra = 0
    rest = size >> 7
    while rest > 0:
        extra += 1
        rest >>= 7
    out = _moved(start, out, extra, doubles, count)
    put_varint(size, start - 1)
    return out


@helper
def put_text(pos: int, stop: int, escaped: bool, out: int) -> int:
    """Write a string with its length: the next place, or `BAIL`."""
    if not escaped:
        size = stop - pos
        out = put_varint(size, out)
        copy_bytes(pos, size, out)
        return out + size
    start = out + 1
    out = _unescape(pos, stop, start)
    return out if out < 0 else put_length(start, out, 0, 0)


@helper
def put_id(pos: int, stop: int, out: int) -> int:
    """Write hexadecimal digits as bytes with their length: the next place, or `BAIL`."""
    size = stop - pos
    if size & 1 != 0 or size > 64:
        return BAIL
    put8(out, size >> 1)
    out += 1
    for i in range(pos, stop, 2):
        high = _hex_value(byte_at(i))
        low = _hex_value(byte_at(i + 1))
        if high < 0 or low < 0:
            return BAIL
        put8(out, high << 4 | low)
        out += 1
    return out


@helper
def digits(pos: int, most: int) -> tuple[int, int]:
    """Read decimal digits as JSON has them: (value, next place), `BAIL` for none or too many."""
    begun = pos
    value = 0
    byte = byte_at(pos)
    while 48 <= byte <= 57:
        if pos - begun >= most:
            return 0, BAIL
        value = 10 * value + byte - 48
        pos += 1
        byte = byte_at(pos)
    if pos == begun or (byte_at(begun) == 48 and pos - begun > 1):
        return 0, BAIL
    return value, pos


@helper
def whole(pos: int, signed: bool) -> tuple[int, int]:
    """Read an integer of at most 18 digits, as a number or a string: (value, next place).

    Times of today have 19 digits: those are read too where no sign may stand.
    """
    quoted = byte_at(pos) == 34
    if quoted:
        pos += 1
    negative = signed and byte_at(pos) == 45
    if negative:
        pos += 1
    value, pos = digits(pos, 18 if signed else 19)
    if pos < 0 or value < 0 or (negative and value == 0):
        return 0, BAIL
    byte = byte_at(pos)
    if quoted:
        if byte != 34:
            return 0, BAIL
        pos += 1
    elif byte == 46 or byte == 101 or byte == 69:
        return 0, BAIL
    return -value if negative else value, pos


@helper
def number_end(pos: int) -> int:
    """Return where a JSON number ends, `BAIL` where there is none (RFC 8259, section 6)."""
    if byte_at(pos) == 45:
        pos += 1
    begun = pos
    while 48 <= byte_at(pos) <= 57:
        pos += 1
    if pos == begun or (byte_at(begun) == 48 and pos - begun > 1):
        return BAIL
    if byte_at(pos) == 46:
        pos += 1
        begun = pos
        while 48 <= byte_at(pos) <= 57:
            pos += 1
        if pos == begun:
            return BAIL
    if byte_at(pos) | 32 == 101:
        pos += 1
        if byte_at(pos) == 43 or byte_at(pos) == 45:
            pos += 1
        begun = pos
        while 48 <= byte_at(pos) <= 57:
            pos += 1
        if pos == begun:
            return BAIL
    return pos


@helper
def bits_of(value: int) -> int:
    """Return the bits of a double that is a whole number from 0 to 2**53."""
    if value == 0:
        return 0
    exponent = 63
    while value >> exponent == 0:
        exponent -= 1
    return (1023 + exponent) << 52 | (value << (52 - exponent)) & 0xFFFFFFFFFFFFF
