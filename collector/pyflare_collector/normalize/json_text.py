"""Compiled helpers over JSON text: skip a value, read a string.

A position is an address (see `pyflare_proto.otlp.jit`), `end` is exclusive, and -1
stands for "cut off" or "not JSON". Strings are scanned eight bytes at a time.
"""

# A grammar is read in one function, as each call would cost what these helpers exist to save.
# ruff: noqa: PLR0912, PLR1714, C901

from __future__ import annotations

from pyflare_proto.otlp.jit import byte_at, helper, int64_at, put8, put64, trailing_zeros

__all__ = [
    "copy_bytes",
    "find_escape",
    "skip_space",
    "skip_string",
    "skip_value",
    "unescape_into",
    "unescape_one",
    "unescape_to_quote",
]

_ONES = 0x0101010101010101
_HIGHS = -0x7F7F7F7F7F7F7F80
_QUOTES = 0x2222222222222222
_BACKSLASHES = 0x5C5C5C5C5C5C5C5C


@helper
def skip_space(pos: int, end: int) -> int:
    """Return the first position at or after `pos` that is neither space nor control character."""
    while pos < end and byte_at(pos) <= 32:
        pos += 1
    return pos


@helper
def find_escape(pos: int, end: int) -> int:
    """Return the position of the first backslash, or `end`."""
    while pos + 8 <= end:
        word = int64_at(pos) ^ _BACKSLASHES
        hit = (word - _ONES) & ~word & _HIGHS
        if hit != 0:
            return pos + (trailing_zeros(hit) >> 3)
        pos += 8
    while pos < end and byte_at(pos) != 92:
        pos += 1
    return pos


@helper
def skip_string(pos: int, end: int) -> int:
    """Return the position of the closing quote of the string whose first byte is at `pos`."""
    while pos < end:
        if pos + 8 <= end:
            word = int64_at(pos)
            quote = word ^ _QUOTES
            slash = word ^ _BACKSLASHES
            hit = (((quote - _ONES) & ~quote) | ((slash - _ONES) & ~slash)) & _HIGHS
            if hit == 0:
                pos += 8
                continue
            pos += trailing_zeros(hit) >> 3
        c = byte_at(pos)
        if c == 34:
            return pos
        pos += 2 if c == 92 else 1
    return -1


@helper
def skip_value(pos: int, end: int) -> int:
    """Return the end of the JSON value that starts at `pos`, -1 when it is cut off.

    `pos` stands on the value's first byte. Brackets are counted, not matched by kind.
    """
    if pos >= end:
        return -1
    c = byte_at(pos)
    if c == 34:
        close = skip_string(pos + 1, end)
        return close + 1 if close >= 0 else -1
    # With bit 5 set a square bracket is the curly one of its side.
    if (c | 32) == 123:
        depth = 0
        while pos < end:
            c = byte_at(pos)
            if c == 34:
                pos = skip_string(pos + 1, end)
                if pos < 0:
                    return -1
            elif (c | 32) == 123:
                depth += 1
            elif (c | 32) == 125:
                depth -= 1
                if depth == 0:
                    return pos + 1
            pos += 1
        return -1
    start = pos
    while pos < end:
        c = byte_at(pos)
        if not (c == 43 or c == 45 or c == 46 or 48 <= c <= 57 or 97 <= (c | 32) <= 122):
            break
        pos += 1
    return pos if pos > start else -1


@helper
def copy_bytes(pos: int, end: int, out: int) -> int:
    """Copy bytes and return the end of the copy; bytes may be moved to the left over themselves."""
    while pos + 8 <= end:
        put64(out, int64_at(pos))
        pos += 8
        out += 8
    while pos < end:
        put8(out, byte_at(pos))
        pos += 1
        out += 1
    return out


@helper
def _hex4(pos: int, end: int) -> int:
    """Return the value of four hexadecimal digits, -1 when they are none."""
    if pos + 4 > end:
        return -1
    value = 0
    for i in range(4):
        c = byte_at(pos + i)
        if 48 <= c <= 57:
            digit = c - 48
        elif 97 <= (c | 32) <= 102:
            digit = (c | 32) - 87
        else:
            return -1
        value = value * 16 + digit
    return value


@helper
def _put_utf8(out: int, code: int) -> int:
    """Write a code point as UTF-8 and return the position behind it."""
    if code < 0x80:
        put8(out, code)
        return out + 1
    if code < 0x800:
        put8(out, 0xC0 | (code >> 6))
        put8(out + 1, 0x80 | (code & 63))
        return out + 2
    if code < 0x10000:
        put8(out, 0xE0 | (code >> 12))
        put8(out + 1, 0x80 | ((code >> 6) & 63))
        put8(out + 2, 0x80 | (code & 63))
        return out + 3
    put8(out, 0xF0 | (code >> 18))
    put8(out + 1, 0x80 | ((code >> 12) & 63))
    put8(out + 2, 0x80 | ((code >> 6) & 63))
    put8(out + 3, 0x80 | (code & 63))
    return out + 4


@helper
def unescape_one(pos: int, end: int, out: int) -> tuple[int, int]:
    """Write the character of the escape at `pos`; half a surrogate pair becomes U+FFFD.

    Returns:
        The positions behind the escape and behind what was written.
    """
    if pos + 1 >= end:
        put8(out, 92)
        return pos + 1, out + 1
    c = byte_at(pos + 1)
    if c == 117:
        code = _hex4(pos + 2, end)
        if code < 0:
            put8(out, 92)
            return pos + 1, out + 1
        pos += 6
        if 0xD800 <= code < 0xDC00:
            low = -1
            if pos + 6 <= end and byte_at(pos) == 92 and byte_at(pos + 1) == 117:
                low = _hex4(pos + 2, end)
            if 0xDC00 <= low < 0xE000:
                code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
                pos += 6
            else:
                code = 0xFFFD
        elif 0xDC00 <= code < 0xE000:
            code = 0xFFFD
        return pos, _put_utf8(out, code)
    if c == 110:
        c = 10
    elif c == 116:
        c = 9
    elif c == 114:
        c = 13
    elif c == 98:
        c = 8
    elif c == 102:
        c = 12
    put8(out, c)
    return pos + 2, out + 1


@helper
def unescape_into(pos: int, end: int, out: int) -> int:
    """Write a JSON string's characters as UTF-8; never longer than the source.

    Args:
        pos: first byte between the quotes.
        end: position of the closing quote.
        out: where to write; up to 7 bytes behind the text may be written.

    Returns:
        The position behind the last byte of the text.
    """
    while pos < end:
        if pos + 8 <= end:
            word = int64_at(pos)
            slash = word ^ _BACKSLASHES
            hit = (slash - _ONES) & ~slash & _HIGHS
            put64(out, word)
            size = 8 if hit == 0 else trailing_zeros(hit) >> 3
            pos += size
            out += size
            if hit == 0:
                continue
        elif byte_at(pos) != 92:
            put8(out, byte_at(pos))
            pos += 1
            out += 1
            continue
        pos, out = unescape_one(pos, end, out)
    return out


@helper
def unescape_to_quote(pos: int, end: int, out: int) -> tuple[int, int]:
    """Write a JSON string's characters as UTF-8 up to its closing quote.

    Args:
        pos: first byte behind the opening quote.
        end: end of the text.
        out: where to write; up to 7 bytes behind the string may be written.

    Returns:
        The positions behind the closing quote, -1 when there is none, and behind the
        last byte of the string.
    """
    while pos < end:
        if pos + 8 <= end:
            word = int64_at(pos)
            quote = word ^ _QUOTES
            slash = word ^ _BACKSLASHES
            hit = (((quote - _ONES) & ~quote) | ((slash - _ONES) & ~slash)) & _HIGHS
            put64(out, word)
            if hit == 0:
                pos += 8
                out += 8
                continue
            size = trailing_zeros(hit) >> 3
            pos += size
            out += size
        c = byte_at(pos)
        if c == 34:
            return pos + 1, out
        if c == 92:
            pos, out = unescape_one(pos, end, out)
        else:
            put8(out, c)
            pos += 1
            out += 1
    return -1, out
