"""The protobuf wire format in compiled helpers: tags, lengths, skipping, and `AnyValue`.

Positions are addresses. Every function takes a position and the end of what it
may read, and returns the next position; a negative one is an error code. What is
accepted is what the official parser (upb) accepts: unknown fields of every wire
type are skipped, a known field of another wire type counts as unknown, and
messages nest at most `MAX_DEPTH` levels.

Two rules of protobuf for fields given twice are simplified, as no encoder writes
them: of two `value`s of one `KeyValue`, and of two arrays or kvlists of one
`AnyValue`, the last one counts where protobuf would merge the two.
"""

from __future__ import annotations

import numpy as np

from pyflare_proto.otlp.jit import byte_at, helper, int64_at, put64

__all__ = [
    "BAD_GROUP",
    "BAD_TAG",
    "ENTITY_REF",
    "EVENT",
    "KEY",
    "KEY_SIZE",
    "KIND",
    "LINK",
    "MAX_DEPTH",
    "NUMBER",
    "SCRATCH_WORDS",
    "TOO_DEEP",
    "TOO_LONG",
    "TRUNCATED",
    "VALUE",
    "VALUE_SIZE",
    "VARINT",
    "any_value",
    "key_value",
    "length",
    "skip",
    "tag_at",
    "validate",
    "varint",
]

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

# Scratch memory of the helpers: one record, then the stack of `_walk`. Byte offsets:
KEY, KEY_SIZE, KIND, VALUE, VALUE_SIZE, NUMBER, _STACK = range(0, 56, 8)
SCRATCH_WORDS = 7 + 2 * (MAX_DEPTH + 1)
"""Words of 8 bytes that `scratch` must have."""

ANY_VALUE, ARRAY_VALUE, KEY_VALUE_LIST, KEY_VALUE, EVENT, LINK, ENTITY_REF = range(7)
_NONE = -1
_GROUP = 100  # message types from here on are groups: 100 + field number

# The fields that are messages themselves: _CHILD[message, field].
_CHILD = np.full((7, 8), _NONE, np.int64)
_CHILD[ANY_VALUE, 5] = ARRAY_VALUE
_CHILD[ANY_VALUE, 6] = KEY_VALUE_LIST
_CHILD[ARRAY_VALUE, 1] = ANY_VALUE
_CHILD[KEY_VALUE_LIST, 1] = KEY_VALUE
_CHILD[KEY_VALUE, 2] = ANY_VALUE
_CHILD[EVENT, 3] = KEY_VALUE
_CHILD[LINK, 4] = KEY_VALUE


@helper
def _long_varint(pos: int, end: int) -> tuple[int, int]:
    value = 0
    stop = min(end, pos + 10)
    for i in range(pos, stop):
        byte = byte_at(i)
        value |= (byte & 0x7F) << (7 * (i - pos))
        if byte < 0x80:
            return value, i + 1
    return 0, TRUNCATED if stop < pos + 10 else VARINT


@helper
def varint(pos: int, end: int) -> tuple[int, int]:
    """Read a varint: (its 64 bits, next position)."""
    if pos >= end:
        return 0, TRUNCATED
    byte = byte_at(pos)
    if byte < 0x80:
        return byte, pos + 1
    return _long_varint(pos, end)


@helper
def _short_varint(pos: int, end: int, limit: int) -> tuple[int, int]:
    """Read a varint of at most 5 bytes and of at most `limit`."""
    value = 0
    stop = min(end, pos + 5)
    for i in range(pos, stop):
        byte = byte_at(i)
        value |= (byte & 0x7F) << (7 * (i - pos))
        if byte < 0x80:
            return (value, i + 1) if value <= limit else (0, VARINT)
    return 0, TRUNCATED if stop < pos + 5 else VARINT


@helper
def tag_at(pos: int, end: int) -> tuple[int, int]:
    """Read a tag: (field number * 8 + wire type, next position); `pos` must be below `end`."""
    tag = byte_at(pos)
    after = pos + 1
    if tag >= 0x80:
        tag, after = _short_varint(pos, end, 0xFFFFFFFF)
    if tag < 8 and after >= 0:
        return 0, BAD_TAG
    return tag, after


@helper
def length(pos: int, end: int) -> tuple[int, int]:
    """Read a length: (start, end) of the field's bytes; start is negative on an error."""
    if pos >= end:
        return TRUNCATED, 0
    size = byte_at(pos)
    start = pos + 1
    if size >= 0x80:
        size, start = _short_varint(pos, end, 0x7FFFFFFF)
        if start < 0:
            return start, 0
    if size > end - start:
        return TOO_LONG, 0
    return start, start + size


@helper
def _skip_number(pos: int, end: int, wire: int) -> int:
    """Pass over a field of wire type `wire` without a length."""
    if wire == 0:
        return varint(pos, end)[1]
    if wire == 1:
        return pos + 8 if pos + 8 <= end else TRUNCATED
    if wire == 5:
        return pos + 4 if pos + 4 <= end else TRUNCATED
    return BAD_TAG


@helper
def skip(pos: int, end: int, tag: int, depth: int, scratch: int) -> int:
    """Pass over the field whose `tag` was read; `depth` is that of the message it stands in."""
    wire = tag & 7
    if wire == 2:
        start, stop = length(pos, end)
        return stop if start >= 0 else start
    if wire == 3:
        return validate(pos, end, _GROUP + (tag >> 3), depth + 1, scratch)
    return BAD_GROUP if wire == 4 else _skip_number(pos, end, wire)


@helper
def validate(pos: int, end: int, message: int, depth: int, scratch: int) -> int:
    """Check a message that fills [pos, end), or a group up to and with its end tag.

    Args:
        pos: first byte behind the length, or behind the tag of the group.
        end: end of the message, or of what the group may fill.
        message: type of the message, or 100 + the field number of the group.
        depth: level of the message, 0 for the request.
        scratch: `SCRATCH_WORDS` words; the record in it is not touched.

    Returns:
        The position behind the message or group, or an error code.
    """
    if depth > MAX_DEPTH:
        return TOO_DEEP
    top = bottom = scratch + _STACK
    limit = bottom + 16 * (MAX_DEPTH - depth)
    put64(top, message)
    put64(top + 8, end)
    while True:
        kind = int64_at(top)
        stop = int64_at(top + 8)
        if pos >= stop:
            if kind >= _GROUP:
                return TRUNCATED
            if top == bottom:
                return pos
            top -= 16
            continue
        tag, pos = tag_at(pos, stop)
        if pos < 0:
            return pos
        wire = tag & 7
        field = tag >> 3
        child = _NONE
        if wire == 4:
            if kind != _GROUP + field:
                return BAD_GROUP
            if top == bottom:
                return pos
            top -= 16
        elif wire == 3:
            child = _GROUP + field
        elif wire == 2:
            start, after = length(pos, stop)
            if start < 0:
                return start
            if kind < 7 and field < 8:
                child = _CHILD[kind, field]
            pos, stop = (start if child != _NONE else after), after
        else:
            pos = _skip_number(pos, stop, wire)
            if pos < 0:
                return pos
        if child != _NONE:
            if top == limit:
                return TOO_DEEP
            top += 16
            put64(top, child)
            put64(top + 8, stop)


@helper
def any_value(pos: int, end: int, depth: int, scratch: int) -> int:
    """Read the `AnyValue` in [pos, end) into the record of `scratch`: `end`, or an error code.

    `KIND` is its `ValueType`; `VALUE` and `VALUE_SIZE` are the place and the bytes of a
    string, of bytes, or of the message of an array or kvlist; `NUMBER` is a boolean, an
    integer, or the 64 bits of a double.

    Args:
        pos: where the message begins.
        end: where it ends.
        depth: level of this message, to check arrays and kvlists inside; -1 when they
            have been checked before.
        scratch: `SCRATCH_WORDS` words.
    """
    put64(scratch + KIND, 0)
    put64(scratch + VALUE, pos)
    put64(scratch + VALUE_SIZE, 0)
    put64(scratch + NUMBER, 0)
    while pos < end:
        tag, pos = tag_at(pos, end)
        if pos < 0:
            return pos
        if tag == 0x0A or tag == 0x2A or tag == 0x32 or tag == 0x3A:
            start, stop = length(pos, end)
            if start < 0:
                return start
            if depth >= 0 and (tag == 0x2A or tag == 0x32):
                message = ARRAY_VALUE if tag == 0x2A else KEY_VALUE_LIST
                checked = validate(start, stop, message, depth + 1, scratch)
                if checked < 0:
                    return checked
            put64(scratch + KIND, tag >> 3)
            put64(scratch + VALUE, start)
            put64(scratch + VALUE_SIZE, stop - start)
            put64(scratch + NUMBER, 0)
            pos = stop
        elif tag == 0x10 or tag == 0x18 or tag == 0x40:
            number, pos = varint(pos, end)
            if pos < 0:
                return pos
            if tag == 0x10:
                number = 1 if number != 0 else 0
            # Field 8 refers to the string table of a profile, which a trace does not have.
            put64(scratch + KIND, tag >> 3 if tag != 0x40 else 0)
            put64(scratch + VALUE_SIZE, 0)
            put64(scratch + NUMBER, number if tag != 0x40 else 0)
        elif tag == 0x21:
            if pos + 8 > end:
                return TRUNCATED
            put64(scratch + KIND, 4)
            put64(scratch + VALUE_SIZE, 0)
            put64(scratch + NUMBER, int64_at(pos))
            pos += 8
        else:
            pos = skip(pos, end, tag, max(depth, 0), scratch)
            if pos < 0:
                return pos
    return end


@helper
def key_value(pos: int, end: int, depth: int, scratch: int) -> int:
    """Read the `KeyValue` that fills [pos, end) into the record of `scratch`.

    `KEY` and `KEY_SIZE` are the place and the bytes of the key; the rest, the arguments
    and the result are as for `any_value`.
    """
    put64(scratch + KEY, pos)
    put64(scratch + KEY_SIZE, 0)
    put64(scratch + KIND, 0)
    put64(scratch + VALUE, pos)
    put64(scratch + VALUE_SIZE, 0)
    put64(scratch + NUMBER, 0)
    while pos < end:
        tag, pos = tag_at(pos, end)
        if pos < 0:
            return pos
        if tag == 0x0A or tag == 0x12:
            start, stop = length(pos, end)
            if start < 0:
                return start
            if tag == 0x0A:
                put64(scratch + KEY, start)
                put64(scratch + KEY_SIZE, stop - start)
                pos = stop
            else:
                inner = depth + 1 if depth >= 0 else -1
                if inner > MAX_DEPTH:
                    return TOO_DEEP
                pos = any_value(start, stop, inner, scratch)
        else:
            pos = skip(pos, end, tag, max(depth, 0), scratch)
        if pos < 0:
            return pos
    return end
