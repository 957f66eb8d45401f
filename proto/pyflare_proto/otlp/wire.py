"""The protobuf wire format in compiled kernels: tags, lengths, skipping, and `AnyValue`.

Every function takes a position and returns the next one; a negative position is
one of the codes below. What is accepted is what the official parser (upb)
accepts: unknown fields of every wire type are skipped, a known field of another
wire type counts as unknown, and messages nest at most `MAX_DEPTH` levels.

Two rules of protobuf for fields given twice are simplified, as no encoder writes
them: of two `value`s of one `KeyValue`, and of two arrays of one `AnyValue`, the
last one counts where protobuf would merge the two.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyflare_proto.otlp.jit import kernel

__all__ = [
    "ANY_VALUE",
    "ARRAY_VALUE",
    "BAD_GROUP",
    "BAD_TAG",
    "ENTITY_REF",
    "EVENT",
    "KEY_VALUE",
    "LINK",
    "MAX_DEPTH",
    "STATUS",
    "TOO_DEEP",
    "TOO_LONG",
    "TRUNCATED",
    "VARINT",
    "any_value",
    "fixed64",
    "key_value",
    "length",
    "skip",
    "tag_at",
    "validate",
    "varint",
]

Bytes = NDArray[np.uint8]

MAX_DEPTH = 100
"""Levels of messages below the request, as in upb and most other parsers."""

TRUNCATED = -1
"""The bytes end inside a field."""
VARINT = -2
"""A varint has more than 10 bytes, or a tag or a length more than 5."""
BAD_TAG = -3
"""A tag has the field number 0 or a wire type that does not exist."""
BAD_GROUP = -4
"""A group ends that was not begun."""
TOO_DEEP = -5
"""Messages nest deeper than `MAX_DEPTH`."""
TOO_LONG = -6
"""A field is longer than the message that it stands in."""

ANY_VALUE, ARRAY_VALUE, KEY_VALUE_LIST, KEY_VALUE, EVENT, LINK, STATUS, ENTITY_REF = range(8)
_NONE = -1
_GROUP = 100  # stack entries from here on are groups: 100 + field number

# The fields that are messages themselves: _CHILD[message, field].
_CHILD = np.full((8, 8), _NONE, np.int8)
_CHILD[ANY_VALUE, 5] = ARRAY_VALUE
_CHILD[ANY_VALUE, 6] = KEY_VALUE_LIST
_CHILD[ARRAY_VALUE, 1] = ANY_VALUE
_CHILD[KEY_VALUE_LIST, 1] = KEY_VALUE
_CHILD[KEY_VALUE, 2] = ANY_VALUE
_CHILD[EVENT, 3] = KEY_VALUE
_CHILD[LINK, 4] = KEY_VALUE

_LOW7 = np.uint64(0x7F)


@kernel
def _long_varint(buf: Bytes, pos: int, end: int) -> tuple[np.uint64, int]:
    value = np.uint64(0)
    shift = np.uint64(0)
    stop = min(end, pos + 10)
    for i in range(pos, stop):
        byte = np.uint64(buf[i])
        value |= (byte & _LOW7) << shift
        if byte <= _LOW7:
            return value, i + 1
        shift += np.uint64(7)
    if stop < pos + 10:
        return value, TRUNCATED
    return value, VARINT


@kernel
def varint(buf: Bytes, pos: int, end: int) -> tuple[np.uint64, int]:
    """Read a varint: (its 64 bits, next position)."""
    if pos >= end:
        return np.uint64(0), TRUNCATED
    byte = buf[pos]
    if byte < 0x80:
        return np.uint64(byte), pos + 1
    return _long_varint(buf, pos, end)


@kernel
def _short_varint(buf: Bytes, pos: int, end: int, limit: int) -> tuple[int, int]:
    """Read a varint of at most 5 bytes and of at most `limit`."""
    value = np.int64(0)
    stop = min(end, pos + 5)
    for i in range(pos, stop):
        byte = np.int64(buf[i])
        value |= (byte & 0x7F) << (7 * (i - pos))
        if byte < 0x80:
            if value > limit:
                return 0, VARINT
            return value, i + 1
    if stop < pos + 5:
        return 0, TRUNCATED
    return 0, VARINT


@kernel
def tag_at(buf: Bytes, pos: int, end: int) -> tuple[int, int]:
    """Read a tag: (field number * 8 + wire type, next position); `pos` must be below `end`."""
    byte = buf[pos]
    if byte < 0x80:
        if byte < 8:
            return 0, BAD_TAG
        return np.int64(byte), pos + 1
    tag, after = _short_varint(buf, pos, end, 0xFFFFFFFF)
    if after >= 0 and tag < 8:
        return 0, BAD_TAG
    return tag, after


@kernel
def length(buf: Bytes, pos: int, end: int) -> tuple[int, int]:
    """Read a length: (start, end of the field's bytes); start is negative on an error."""
    if pos >= end:
        return TRUNCATED, 0
    size = np.int64(buf[pos])
    start = pos + 1
    if size >= 0x80:
        size, start = _short_varint(buf, pos, end, 0x7FFFFFFF)
        if start < 0:
            return start, 0
    stop = start + size
    if stop > end:
        return TOO_LONG, 0
    return start, stop


@kernel
def fixed64(buf: Bytes, pos: int) -> np.uint64:
    """Read 8 little-endian bytes; the caller has checked that they are there."""
    value = np.uint64(0)
    for i in range(8):
        value |= np.uint64(buf[pos + i]) << np.uint64(8 * i)
    return value


@kernel
def skip(buf: Bytes, pos: int, end: int, tag: int, depth: int) -> int:
    """Pass over the field whose `tag` was read; `depth` is that of the message it stands in."""
    wire = tag & 7
    if wire == 0:
        return varint(buf, pos, end)[1]
    if wire == 1:
        return pos + 8 if pos + 8 <= end else TRUNCATED
    if wire == 5:
        return pos + 4 if pos + 4 <= end else TRUNCATED
    if wire == 2:
        start, stop = length(buf, pos, end)
        return stop if start >= 0 else start
    if wire == 3:
        return _walk(buf, pos, end, _GROUP + (tag >> 3), depth + 1)
    return BAD_GROUP if wire == 4 else BAD_TAG


@kernel
def validate(buf: Bytes, pos: int, end: int, message: int, depth: int) -> int:
    """Check a message of type `message` that fills [pos, end): `end`, or an error code."""
    return _walk(buf, pos, end, message, depth)


@kernel
def _walk(buf: Bytes, pos: int, end: int, kind: int, depth: int) -> int:
    """Check a message, or a group up to and with its end tag: the position behind it."""
    if depth > MAX_DEPTH:
        return TOO_DEEP
    kinds = np.empty(MAX_DEPTH + 1, np.int64)
    ends = np.empty(MAX_DEPTH + 1, np.int64)
    top = 0
    kinds[0] = kind
    ends[0] = end
    while True:
        if pos >= ends[top]:
            if kinds[top] >= _GROUP:
                return TRUNCATED
            if top == 0:
                return pos
            top -= 1
            continue
        tag, pos = tag_at(buf, pos, ends[top])
        if pos < 0:
            return pos
        wire = tag & 7
        field = tag >> 3
        child = np.int64(_NONE)
        stop = ends[top]
        if wire == 4:
            if kinds[top] != _GROUP + field:
                return BAD_GROUP
            if top == 0:
                return pos
            top -= 1
            continue
        if wire == 3:
            child = _GROUP + field
        elif wire == 2:
            start, stop = length(buf, pos, ends[top])
            if start < 0:
                return start
            if kinds[top] < 8 and field < 8:
                child = np.int64(_CHILD[kinds[top], field])
            pos = start if child != _NONE else stop
        elif wire == 0:
            pos = varint(buf, pos, stop)[1]
        elif wire == 1 or wire == 5:
            pos += 8 if wire == 1 else 4
            if pos > stop:
                return TRUNCATED
        else:
            return BAD_TAG
        if pos < 0:
            return pos
        if child != _NONE:
            top += 1
            if depth + top > MAX_DEPTH:
                return TOO_DEEP
            kinds[top] = child
            ends[top] = stop


@kernel
def any_value(
    buf: Bytes, pos: int, end: int, depth: int
) -> tuple[int, int, int, int, np.uint64]:
    """Read the `AnyValue` that fills [pos, end).

    Args:
        buf: the bytes.
        pos: where the message begins.
        end: where it ends.
        depth: level of this message, to check arrays and kvlists inside; -1 when they
            have been checked before.

    Returns:
        (`end` or an error code, `ValueType`, offset, length, number): offset and length of a
        string, of bytes, or of the message of an array or kvlist; the 64 bits of a number.
    """
    kind = 0
    offset = 0
    size = 0
    number = np.uint64(0)
    while pos < end:
        tag, pos = tag_at(buf, pos, end)
        if pos < 0:
            return pos, 0, 0, 0, number
        if tag == 0x0A or tag == 0x2A or tag == 0x32 or tag == 0x3A:
            start, stop = length(buf, pos, end)
            if start < 0:
                return start, 0, 0, 0, number
            kind = tag >> 3
            if depth >= 0 and (tag == 0x2A or tag == 0x32):
                message = ARRAY_VALUE if tag == 0x2A else KEY_VALUE_LIST
                checked = _walk(buf, start, stop, message, depth + 1)
                if checked < 0:
                    return checked, 0, 0, 0, number
            offset = start
            size = stop - start
            number = np.uint64(0)
            pos = stop
        elif tag == 0x10 or tag == 0x18 or tag == 0x40:
            number, pos = varint(buf, pos, end)
            if pos < 0:
                return pos, 0, 0, 0, number
            offset = size = 0
            kind = tag >> 3
            if tag == 0x10:
                number = np.uint64(1) if number != np.uint64(0) else np.uint64(0)
            elif tag == 0x40:
                # A reference into the string table of a profile, which a trace does not have.
                kind = 0
                number = np.uint64(0)
        elif tag == 0x21:
            if pos + 8 > end:
                return TRUNCATED, 0, 0, 0, number
            number = fixed64(buf, pos)
            offset = size = 0
            kind = 4
            pos += 8
        else:
            pos = skip(buf, pos, end, tag, max(depth, 0))
            if pos < 0:
                return pos, 0, 0, 0, number
    return end, kind, offset, size, number


@kernel
def key_value(
    buf: Bytes, pos: int, end: int, depth: int
) -> tuple[int, int, int, int, int, int, np.uint64]:
    """Read the `KeyValue` that fills [pos, end); arguments as for `any_value`.

    Returns:
        (`end` or an error code, offset of the key, its length, and the value's type, offset,
        length and number as `any_value` returns them).
    """
    key = 0
    key_size = 0
    kind = 0
    offset = 0
    size = 0
    number = np.uint64(0)
    while pos < end:
        tag, pos = tag_at(buf, pos, end)
        if pos < 0:
            return pos, 0, 0, 0, 0, 0, number
        if tag == 0x0A:
            start, stop = length(buf, pos, end)
            if start < 0:
                return start, 0, 0, 0, 0, 0, number
            key = start
            key_size = stop - start
            pos = stop
        elif tag == 0x12:
            start, stop = length(buf, pos, end)
            if start < 0:
                return start, 0, 0, 0, 0, 0, number
            inner = depth + 1 if depth >= 0 else -1
            if inner > MAX_DEPTH:
                return TOO_DEEP, 0, 0, 0, 0, 0, number
            pos, kind, offset, size, number = any_value(buf, start, stop, inner)
            if pos < 0:
                return pos, 0, 0, 0, 0, 0, number
        else:
            pos = skip(buf, pos, end, tag, max(depth, 0))
            if pos < 0:
                return pos, 0, 0, 0, 0, 0, number
    return end, key, key_size, kind, offset, size, number
