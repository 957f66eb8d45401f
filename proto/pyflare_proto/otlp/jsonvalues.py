"""JSON text of attribute values in compiled helpers; `anyvalue` says which form it has."""

from __future__ import annotations

import numpy as np

from pyflare_proto.otlp.batch import ValueType
from pyflare_proto.otlp.doubles import DOUBLE_BYTES, put_digits, put_double
from pyflare_proto.otlp.jit import helper, int64, int64_at, put8, put64
from pyflare_proto.otlp.text import NO_ROOM, put_base64, put_string
from pyflare_proto.otlp.wire import (
    KEY,
    KEY_SIZE,
    KIND,
    MAX_DEPTH,
    NUMBER,
    VALUE,
    VALUE_SIZE,
    any_value,
    key_value,
    length,
    skip,
    tag_at,
)

__all__ = [
    "ATTRIBUTES",
    "CLOSE_LIST",
    "CLOSE_OBJECT",
    "COMMA",
    "DROPPED",
    "FLAGS",
    "FRAME_WORDS",
    "NAME",
    "OPEN_LIST",
    "OPEN_OBJECT",
    "QUOTE",
    "ROOM",
    "SPAN_ID",
    "TIME",
    "TRACE_ID",
    "TRACE_STATE",
    "put_pair",
    "put_word",
]

_STRING, _BOOL, _INT, _DOUBLE = (
    ValueType.STRING,
    ValueType.BOOL,
    ValueType.INT,
    ValueType.DOUBLE,
)
_ARRAY, _KVLIST, _BYTES = ValueType.ARRAY, ValueType.KVLIST, ValueType.BYTES

COMMA, _COLON, QUOTE = 44, 58, 34
OPEN_OBJECT, CLOSE_OBJECT, OPEN_LIST, CLOSE_LIST = 123, 125, 91, 93

_WORDS = (
    b"null",
    b"true",
    b"false",
    b'{"doubleValue":"NaN"}',
    b'{"doubleValue":"Infinity"}',
    b'{"doubleValue":"-Infinity"}',
    b'{"bytesValue":"',
    b'{"time_unix_nano":',
    b',"name":',
    b',"attributes":{',
    b',"dropped_attributes_count":',
    b'{"trace_id":"',
    b'","span_id":"',
    b',"trace_state":',
    b',"flags":',
)
(
    _NULL,
    _TRUE,
    _FALSE,
    _NAN,
    _INFINITY,
    _MINUS_INFINITY,
    _BYTES_VALUE,
    TIME,
    NAME,
    ATTRIBUTES,
    DROPPED,
    TRACE_ID,
    SPAN_ID,
    TRACE_STATE,
    FLAGS,
) = range(len(_WORDS))
_LONGEST = max(len(word) for word in _WORDS)
_TEXT = np.array([list(word.ljust(_LONGEST)) for word in _WORDS], np.uint8)
_SIZE = np.array([len(word) for word in _WORDS], np.int64)
ROOM = 2 * _LONGEST + DOUBLE_BYTES
"""Bytes that every scalar but text fits in, with punctuation."""

_FRAME_BYTES = 24
FRAME_WORDS = 3 * (MAX_DEPTH + 2)
"""Words of 8 bytes for the stack of open arrays and kvlists."""
_EXPONENT = 0x7FF0000000000000
_FRACTION = 0x000FFFFFFFFFFFFF


@helper
def put_word(which: int, out: int) -> int:
    """Write one of the fixed texts, at most half of `ROOM`: the next place."""
    for i in range(_SIZE[which]):
        put8(out + i, _TEXT[which, i])
    return out + int64(_SIZE[which])


@helper
def _integer(value: int, out: int) -> int:
    """Write a signed number: the next place."""
    if value < 0:
        put8(out, 45)
        return put_digits(np.uint64(-value), out + 1)
    return put_digits(np.uint64(value), out)


@helper
def _double(bits: int, out: int) -> int:
    if bits & _EXPONENT != _EXPONENT:
        return put_double(bits, out)
    if bits & _FRACTION != 0:
        return put_word(_NAN, out)
    return put_word(_MINUS_INFINITY if bits < 0 else _INFINITY, out)


@helper
def _scalar(kind: int, pos: int, size: int, number: int, out: int, limit: int, end: int) -> int:
    """Write a value that holds no others: the next place, or `NO_ROOM`."""
    if limit - out < ROOM:
        return NO_ROOM
    if kind == _STRING:
        return put_string(pos, size, out, limit, end)
    if kind == _INT:
        return _integer(number, out)
    if kind == _DOUBLE:
        return _double(number, out)
    if kind == _BOOL:
        return put_word(_TRUE if number != 0 else _FALSE, out)
    if kind != _BYTES:
        return put_word(_NULL, out)
    if limit - out < ROOM + (size + 2) // 3 * 4:
        return NO_ROOM
    out = put_base64(pos, size, put_word(_BYTES_VALUE, out))
    put8(out, QUOTE)
    put8(out + 1, CLOSE_OBJECT)
    return out + 2


@helper
def _open(kind: int, stop: int, after: int, frame: int, out: int) -> int:
    """Begin an array or kvlist whose message ends at `stop`: the next place."""
    put64(frame, kind)
    put64(frame + 8, stop)
    put64(frame + 16, after)
    put8(out, OPEN_LIST if kind == _ARRAY else OPEN_OBJECT)
    return out + 1


@helper
def _value(scratch: int, out: int, limit: int, end: int, frames: int) -> int:
    """Write the value in the record of `scratch`, nested ones with the stack at `frames`.

    A frame is what is open (array or kvlist), where its message ends, and where to go on
    behind it. The messages have been validated: no step can fail, and none nests deeper
    than `MAX_DEPTH`.
    """
    kind = int64_at(scratch + KIND)
    pos = int64_at(scratch + VALUE)
    size = int64_at(scratch + VALUE_SIZE)
    if kind != _ARRAY and kind != _KVLIST:
        return _scalar(kind, pos, size, int64_at(scratch + NUMBER), out, limit, end)
    if limit - out < ROOM:
        return NO_ROOM
    top = frames
    out = _open(kind, pos + size, pos + size, top, out)
    first = True
    while True:
        if limit - out < ROOM:
            return NO_ROOM
        kind = int64_at(top)
        stop = int64_at(top + 8)
        if pos >= stop:
            put8(out, CLOSE_LIST if kind == _ARRAY else CLOSE_OBJECT)
            out += 1
            pos = int64_at(top + 16)
            if top == frames:
                return out
            top -= _FRAME_BYTES
            first = False
            continue
        tag, pos = tag_at(pos, stop)
        if tag != 0x0A:
            pos = skip(pos, stop, tag, 0, scratch)
            continue
        start, after = length(pos, stop)
        if not first:
            put8(out, COMMA)
            out += 1
        first = False
        if kind == _ARRAY:
            any_value(start, after, -1, scratch)
        else:
            key_value(start, after, -1, scratch)
            out = put_string(int64_at(scratch + KEY), int64_at(scratch + KEY_SIZE), out, limit, end)
            if out == NO_ROOM or limit - out < ROOM:
                return NO_ROOM
            put8(out, _COLON)
            out += 1
        kind = int64_at(scratch + KIND)
        inner = int64_at(scratch + VALUE)
        size = int64_at(scratch + VALUE_SIZE)
        if kind == _ARRAY or kind == _KVLIST:
            top += _FRAME_BYTES
            out = _open(kind, inner + size, after, top, out)
            pos = inner
            first = True
            continue
        out = _scalar(kind, inner, size, int64_at(scratch + NUMBER), out, limit, end)
        if out == NO_ROOM:
            return NO_ROOM
        pos = after


@helper
def put_pair(scratch: int, out: int, limit: int, end: int, frames: int) -> int:
    """Write the key and the value in the record of `scratch`, which must be valid.

    Args:
        scratch: `wire.SCRATCH_WORDS` words with the record of a `KeyValue`.
        out: where to write.
        limit: end of the memory for output.
        end: end of the memory that may be read.
        frames: `FRAME_WORDS` words.

    Returns:
        The next place with `ROOM` bytes left or fewer, or `NO_ROOM`.
    """
    out = put_string(int64_at(scratch + KEY), int64_at(scratch + KEY_SIZE), out, limit, end)
    if out == NO_ROOM or limit - out < ROOM:
        return NO_ROOM
    put8(out, _COLON)
    return _value(scratch, out + 1, limit, end, frames)
