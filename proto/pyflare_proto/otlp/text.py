"""Text in compiled helpers: UTF-8 and its repair, copying, and the strings of JSON.

Bytes that are not UTF-8 become U+FFFD, one for each maximal part of a sequence that
could have gone on, as `bytes.decode(errors="replace")` and the Unicode Standard
(section 3.9) have it.
"""

from __future__ import annotations

from pyflare_proto.otlp.jit import byte_at, helper, int64_at, put8, put32, put64, trailing_zeros

__all__ = [
    "NO_ROOM",
    "copy_bytes",
    "put_base64",
    "put_hex",
    "put_repaired",
    "put_string",
    "sequence",
]

NO_ROOM = -1
"""What a writer returns when its output does not fit."""

_HIGH = -0x7F7F7F7F7F7F7F80  # 0x8080808080808080
_ONES = 0x0101010101010101
_SPACES = 0x2020202020202020
_QUOTES = 0x2222222222222222
_BACKSLASHES = 0x5C5C5C5C5C5C5C5C


@helper
def sequence(pos: int, end: int) -> int:
    """Return the bytes of the UTF-8 sequence at `pos`; negative: bytes that one U+FFFD replaces."""
    first = byte_at(pos)
    if first < 0x80:
        return 1
    if first < 0xC2 or first > 0xF4:
        return -1
    size = 2 if first < 0xE0 else 3 if first < 0xF0 else 4
    low = 0xA0 if first == 0xE0 else 0x90 if first == 0xF0 else 0x80
    high = 0x9F if first == 0xED else 0x8F if first == 0xF4 else 0xBF
    for i in range(1, size):
        if pos + i >= end:
            return -i
        byte = byte_at(pos + i)
        if byte < low or byte > high:
            return -i
        low = 0x80
        high = 0xBF
    return size


@helper
def copy_bytes(pos: int, size: int, out: int) -> int:
    """Copy `size` bytes: the bits that any of them has, repeated in no particular byte."""
    seen = 0
    if size >= 8:
        last = size - 8
        for i in range(0, last, 8):
            word = int64_at(pos + i)
            seen |= word
            put64(out + i, word)
        word = int64_at(pos + last)
        put64(out + last, word)
        return seen | word
    for i in range(size):
        byte = byte_at(pos + i)
        seen |= byte
        put8(out + i, byte)
    return seen


@helper
def put_repaired(pos: int, size: int, out: int, write: bool) -> int:
    """Write text as valid UTF-8, or only measure it: the next place."""
    end = pos + size
    while pos < end:
        n = sequence(pos, end)
        if n > 0:
            if write:
                for i in range(n):
                    put8(out + i, byte_at(pos + i))
            out += n
            pos += n
        else:
            if write:
                put8(out, 0xEF)
                put8(out + 1, 0xBF)
                put8(out + 2, 0xBD)
            out += 3
            pos -= n
    return out


@helper
def _hex_digit(value: int) -> int:
    return value + 48 if value < 10 else value + 87


@helper
def put_hex(pos: int, size: int, out: int) -> int:
    """Write `size` bytes as lower-case hexadecimal digits: the next place."""
    for i in range(size):
        byte = byte_at(pos + i)
        put8(out + 2 * i, _hex_digit(byte >> 4))
        put8(out + 2 * i + 1, _hex_digit(byte & 15))
    return out + 2 * size


@helper
def _put_ascii(byte: int, out: int) -> int:
    """Write one character below 0x80, escaped where JSON wants it: the next place."""
    short = 0
    if byte == 34 or byte == 92:
        short = byte
    elif byte == 10:
        short = 110
    elif byte == 13:
        short = 114
    elif byte == 9:
        short = 116
    elif byte < 0x20:
        put32(out, 0x3030755C)  # backslash, u, 00
        put8(out + 4, 48 + (byte >> 4))
        put8(out + 5, _hex_digit(byte & 15))
        return out + 6
    if short != 0:
        put8(out, 92)
        out += 1
        byte = short
    put8(out, byte)
    return out + 1


@helper
def put_string(pos: int, size: int, out: int, limit: int, readable: int) -> int:
    """Write a JSON string with its quotes.

    Args:
        pos: the text.
        size: its bytes.
        out: where to write.
        limit: end of the memory for output.
        readable: end of the memory that may be read, at or behind the end of the text.

    Returns:
        The next place, or `NO_ROOM`.
    """
    end = pos + size
    # What is left must fit as it is, with one escape and one word more than it needs.
    if limit - out < size + 24:
        return NO_ROOM
    put8(out, 34)
    out += 1
    while pos < end:
        if pos + 8 <= readable:
            # Eight bytes at once; what lies behind the text is written too, and overwritten.
            word = int64_at(pos)
            quotes = word ^ _QUOTES
            slashes = word ^ _BACKSLASHES
            special = (
                word
                | (word - _SPACES) & ~word
                | (quotes - _ONES) & ~quotes
                | (slashes - _ONES) & ~slashes
            ) & _HIGH
            put64(out, word)
            clean = min(trailing_zeros(special) >> 3, end - pos)
            pos += clean
            out += clean
            if clean == 8 or pos >= end:
                continue
        if limit - out < end - pos + 24:
            return NO_ROOM
        byte = byte_at(pos)
        if byte >= 0x80:
            n = sequence(pos, end)
            out = put_repaired(pos, abs(n), out, True)
            pos += abs(n)
            continue
        pos += 1
        out = _put_ascii(byte, out)
    put8(out, 34)
    return out + 1


@helper
def _base64_digit(value: int) -> int:
    if value < 26:
        return value + 65
    if value < 52:
        return value + 71
    if value < 62:
        return value - 4
    return 43 if value == 62 else 47


@helper
def put_base64(pos: int, size: int, out: int) -> int:
    """Write bytes in padded base64 (RFC 4648, section 4), 4 for each 3: the next place."""
    for i in range(0, size, 3):
        left = min(size - i, 3)
        word = 0
        for j in range(left):
            word |= byte_at(pos + i + j) << (16 - 8 * j)
        for j in range(4):
            put8(out + j, _base64_digit((word >> (18 - 6 * j)) & 63) if j <= left else 61)
        out += 4
    return out
