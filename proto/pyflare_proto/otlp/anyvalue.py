"""Attributes, events and links as JSON text, straight from the wire bytes.

| AnyValue | JSON |
|---|---|
| string | string; bytes that are not UTF-8 become U+FFFD |
| bool | true, false |
| int | integer, also beyond 2^53 |
| double | shortest decimal that reads back as the same double, always with a point or exponent |
| array | array |
| kvlist | object |
| not set | null |
| bytes | {"bytesValue": "<base64>"}: the form of OTLP/JSON, as JSON has none of its own |
| NaN, infinite double | {"doubleValue": "NaN"}, "Infinity" or "-Infinity", likewise |

So a double stays a double (1.0) and an integer an integer (1), and every value comes
back as it was (`restore`). A key that stands twice in one list is written twice.
"""

from __future__ import annotations

import base64
from collections.abc import Callable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pyflare_proto.otlp.batch import AttributeTable, MessageTable, OtlpBatch, ValueType
from pyflare_proto.otlp.columns import string_array
from pyflare_proto.otlp.doubles import DOUBLE_BYTES, put_digits, put_double
from pyflare_proto.otlp.jit import (
    address,
    frozen,
    helper,
    int32_at,
    int64,
    int64_at,
    kernel,
    put8,
    put64,
)
from pyflare_proto.otlp.text import NO_ROOM, put_base64, put_hex, put_string
from pyflare_proto.otlp.wire import (
    KEY,
    KEY_SIZE,
    KIND,
    MAX_DEPTH,
    NUMBER,
    SCRATCH_WORDS,
    VALUE,
    VALUE_SIZE,
    any_value,
    key_value,
    length,
    skip,
    tag_at,
    varint,
)

__all__ = ["attributes_json", "events_json", "links_json", "restore"]

_STRING, _BOOL, _INT, _DOUBLE = (
    ValueType.STRING,
    ValueType.BOOL,
    ValueType.INT,
    ValueType.DOUBLE,
)
_ARRAY, _KVLIST, _BYTES = ValueType.ARRAY, ValueType.KVLIST, ValueType.BYTES

_COMMA, _COLON, _QUOTE = 44, 58, 34
_OPEN_OBJECT, _CLOSE_OBJECT, _OPEN_LIST, _CLOSE_LIST = 123, 125, 91, 93

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
    _TIME,
    _NAME,
    _ATTRIBUTES,
    _DROPPED,
    _TRACE_ID,
    _SPAN_ID,
    _TRACE_STATE,
    _FLAGS,
) = range(len(_WORDS))
_LONGEST = max(len(word) for word in _WORDS)
_TEXT = np.array([list(word.ljust(_LONGEST)) for word in _WORDS], np.uint8)
_SIZE = np.array([len(word) for word in _WORDS], np.int64)
_ROOM = 2 * _LONGEST + DOUBLE_BYTES
"""Bytes that every scalar but text fits in, with punctuation."""

_FRAME_BYTES = 24
_FRAME_WORDS = 3 * (MAX_DEPTH + 2)
_EXPONENT = 0x7FF0000000000000
_FRACTION = 0x000FFFFFFFFFFFFF


@helper
def _word(which: int, out: int) -> int:
    """Write a fixed text: the next place."""
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
        return _word(_NAN, out)
    return _word(_MINUS_INFINITY if bits < 0 else _INFINITY, out)


@helper
def _scalar(kind: int, pos: int, size: int, number: int, out: int, limit: int, end: int) -> int:
    """Write a value that holds no others: the next place, or `NO_ROOM`."""
    if limit - out < _ROOM:
        return NO_ROOM
    if kind == _STRING:
        return put_string(pos, size, out, limit, end)
    if kind == _INT:
        return _integer(number, out)
    if kind == _DOUBLE:
        return _double(number, out)
    if kind == _BOOL:
        return _word(_TRUE if number != 0 else _FALSE, out)
    if kind != _BYTES:
        return _word(_NULL, out)
    if limit - out < _ROOM + (size + 2) // 3 * 4:
        return NO_ROOM
    out = put_base64(pos, size, _word(_BYTES_VALUE, out))
    put8(out, _QUOTE)
    put8(out + 1, _CLOSE_OBJECT)
    return out + 2


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
    if limit - out < _ROOM:
        return NO_ROOM
    top = frames
    put64(top, kind)
    put64(top + 8, pos + size)
    put64(top + 16, pos + size)
    put8(out, _OPEN_LIST if kind == _ARRAY else _OPEN_OBJECT)
    out += 1
    first = True
    while True:
        if limit - out < _ROOM:
            return NO_ROOM
        kind = int64_at(top)
        stop = int64_at(top + 8)
        if pos >= stop:
            put8(out, _CLOSE_LIST if kind == _ARRAY else _CLOSE_OBJECT)
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
            put8(out, _COMMA)
            out += 1
        first = False
        if kind == _ARRAY:
            any_value(start, after, -1, scratch)
        else:
            key_value(start, after, -1, scratch)
            out = put_string(int64_at(scratch + KEY), int64_at(scratch + KEY_SIZE), out, limit, end)
            if out == NO_ROOM or limit - out < _ROOM:
                return NO_ROOM
            put8(out, _COLON)
            out += 1
        kind = int64_at(scratch + KIND)
        inner = int64_at(scratch + VALUE)
        size = int64_at(scratch + VALUE_SIZE)
        if kind == _ARRAY or kind == _KVLIST:
            top += _FRAME_BYTES
            put64(top, kind)
            put64(top + 8, inner + size)
            put64(top + 16, after)
            put8(out, _OPEN_LIST if kind == _ARRAY else _OPEN_OBJECT)
            out += 1
            pos = inner
            first = True
            continue
        out = _scalar(kind, inner, size, int64_at(scratch + NUMBER), out, limit, end)
        if out == NO_ROOM:
            return NO_ROOM
        pos = after


@helper
def _pair(scratch: int, out: int, limit: int, end: int, frames: int) -> int:
    """Write the key and the value in the record of `scratch`."""
    out = put_string(int64_at(scratch + KEY), int64_at(scratch + KEY_SIZE), out, limit, end)
    if out == NO_ROOM or limit - out < _ROOM:
        return NO_ROOM
    put8(out, _COLON)
    return _value(scratch, out + 1, limit, end, frames)


@kernel
def _objects(
    buffer: NDArray[np.uint8],
    owner: NDArray[np.int32],
    key_offset: NDArray[np.int64],
    key_length: NDArray[np.int32],
    kind: NDArray[np.uint8],
    value_offset: NDArray[np.int64],
    value_length: NDArray[np.int32],
    number: NDArray[np.int64],
    row: int,
    first: int,
    starts: NDArray[np.int64],
    out: NDArray[np.uint8],
) -> int:
    """Write one object an owner, from owner `first` with its row `row` on.

    Returns:
        The number of owners that are done; fewer than all when `out` is full.
    """
    scratch_words = np.empty(SCRATCH_WORDS, np.int64)
    frame_words = np.empty(_FRAME_WORDS, np.int64)
    scratch = address(scratch_words)
    frames = address(frame_words)
    source = address(buffer)
    end = source + len(buffer)
    base = address(out)
    limit = base + len(out)
    rows = len(owner)
    for i in range(first, len(starts) - 1):
        place = base + starts[i]
        if limit - place < _ROOM:
            return i
        put8(place, _OPEN_OBJECT)
        place += 1
        begun = row
        while row < rows and owner[row] == i:
            if row > begun:
                put8(place, _COMMA)
                place += 1
            put64(scratch + KEY, source + key_offset[row])
            put64(scratch + KEY_SIZE, int64(key_length[row]))
            put64(scratch + KIND, int64(kind[row]))
            put64(scratch + VALUE, source + value_offset[row])
            put64(scratch + VALUE_SIZE, int64(value_length[row]))
            put64(scratch + NUMBER, number[row])
            place = _pair(scratch, place, limit, end, frames)
            if place == NO_ROOM or limit - place < _ROOM:
                return i
            row += 1
        put8(place, _CLOSE_OBJECT)
        starts[i + 1] = place + 1 - base
    # What keeps the scratch memory alive while its address is in use.
    return len(starts) - 1 + 0 * (scratch_words.size + frame_words.size)


@helper
def _attributes(
    pos: int, end: int, wanted: int, out: int, limit: int, readable: int, scratch: int, frames: int
) -> int:
    """Write the key-value pairs of a message, those in fields with the tag `wanted`."""
    first = True
    while pos < end:
        tag, pos = tag_at(pos, end)
        if tag != wanted:
            pos = skip(pos, end, tag, 0, scratch)
            continue
        start, pos = length(pos, end)
        if not first:
            put8(out, _COMMA)
            out += 1
        first = False
        key_value(start, pos, -1, scratch)
        out = _pair(scratch, out, limit, readable, frames)
        if out == NO_ROOM or limit - out < _ROOM:
            return NO_ROOM
    put8(out, _CLOSE_OBJECT)
    return out + 1


@helper
def _event(
    begin: int, end: int, out: int, limit: int, readable: int, scratch: int, frames: int
) -> int:
    """Write a `Span.Event`."""
    time = name = size = dropped = 0
    pos = begin
    while pos < end:
        tag, pos = tag_at(pos, end)
        if tag == 0x09:
            time = int64_at(pos)
            pos += 8
        elif tag == 0x12:
            name, pos = length(pos, end)
            size = pos - name
        elif tag == 0x20:
            dropped, pos = varint(pos, end)
        else:
            pos = skip(pos, end, tag, 0, scratch)
    out = _word(_NAME, put_digits(np.uint64(time), _word(_TIME, out)))
    out = put_string(name, size, out, limit, readable)
    if out == NO_ROOM or limit - out < _ROOM:
        return NO_ROOM
    out = _attributes(begin, end, 0x1A, _word(_ATTRIBUTES, out), limit, readable, scratch, frames)
    if out == NO_ROOM or limit - out < _ROOM:
        return NO_ROOM
    if dropped != 0:
        out = put_digits(np.uint64(dropped & 0xFFFFFFFF), _word(_DROPPED, out))
    put8(out, _CLOSE_OBJECT)
    return out + 1


@helper
def _link(
    begin: int, end: int, out: int, limit: int, readable: int, scratch: int, frames: int
) -> int:
    """Write a `Span.Link`."""
    trace = trace_size = span = span_size = state = state_size = flags = dropped = 0
    pos = begin
    while pos < end:
        tag, pos = tag_at(pos, end)
        if tag == 0x0A:
            trace, pos = length(pos, end)
            trace_size = pos - trace
        elif tag == 0x12:
            span, pos = length(pos, end)
            span_size = pos - span
        elif tag == 0x1A:
            state, pos = length(pos, end)
            state_size = pos - state
        elif tag == 0x28:
            dropped, pos = varint(pos, end)
        elif tag == 0x35:
            flags = int32_at(pos) & 0xFFFFFFFF
            pos += 4
        else:
            pos = skip(pos, end, tag, 0, scratch)
    if limit - out < 2 * (trace_size + span_size) + 2 * _ROOM:
        return NO_ROOM
    out = put_hex(trace, trace_size, _word(_TRACE_ID, out))
    out = put_hex(span, span_size, _word(_SPAN_ID, out))
    put8(out, _QUOTE)
    out += 1
    if state_size > 0:
        out = put_string(state, state_size, _word(_TRACE_STATE, out), limit, readable)
        if out == NO_ROOM or limit - out < _ROOM:
            return NO_ROOM
    out = _attributes(begin, end, 0x22, _word(_ATTRIBUTES, out), limit, readable, scratch, frames)
    if out == NO_ROOM or limit - out < 2 * _ROOM:
        return NO_ROOM
    if dropped != 0:
        out = put_digits(np.uint64(dropped & 0xFFFFFFFF), _word(_DROPPED, out))
    if flags != 0:
        out = put_digits(np.uint64(flags), _word(_FLAGS, out))
    put8(out, _CLOSE_OBJECT)
    return out + 1


@kernel
def _lists(
    buffer: NDArray[np.uint8],
    owner: NDArray[np.int32],
    offset: NDArray[np.int64],
    size: NDArray[np.int32],
    row: int,
    first: int,
    starts: NDArray[np.int64],
    out: NDArray[np.uint8],
    links: int,
) -> int:
    """Write one list of events, or of links, an owner; as `_objects`, nothing without messages."""
    scratch_words = np.empty(SCRATCH_WORDS, np.int64)
    frame_words = np.empty(_FRAME_WORDS, np.int64)
    scratch = address(scratch_words)
    frames = address(frame_words)
    source = address(buffer)
    readable = source + len(buffer)
    base = address(out)
    limit = base + len(out)
    rows = len(owner)
    for i in range(first, len(starts) - 1):
        place = base + starts[i]
        if row >= rows or owner[row] != i:
            starts[i + 1] = starts[i]
            continue
        if limit - place < 2 * _ROOM:
            return i
        begun = row
        while row < rows and owner[row] == i:
            put8(place, _OPEN_LIST if row == begun else _COMMA)
            begin = source + offset[row]
            end = begin + int64(size[row])
            if links != 0:
                place = _link(begin, end, place + 1, limit, readable, scratch, frames)
            else:
                place = _event(begin, end, place + 1, limit, readable, scratch, frames)
            if place == NO_ROOM or limit - place < 2 * _ROOM:
                return i
            row += 1
        put8(place, _CLOSE_LIST)
        starts[i + 1] = place + 1 - base
    return len(starts) - 1 + 0 * (scratch_words.size + frame_words.size)


def _grow(
    owner: NDArray[np.int32],
    n_owners: int,
    estimate: int,
    write: Callable[[int, int, NDArray[np.int64], NDArray[np.uint8]], int],
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Call `write` with more and more room until every owner is written.

    Returns:
        (n_owners + 1,) starts of the texts, and the texts.
    """
    starts = np.zeros(n_owners + 1, np.int64)
    out = np.empty(estimate, np.uint8)
    done = 0
    while True:
        row = int(np.searchsorted(owner, done)) if done else 0
        done = write(row, done, starts, out)
        if done >= n_owners:
            return starts, out[: starts[-1]]
        larger = np.empty(2 * len(out), np.uint8)
        larger[: starts[done]] = out[: starts[done]]
        out = larger


def attributes_json(
    buffer: NDArray[np.uint8],
    table: AttributeTable,
    n_owners: int,
    *,
    none_is_null: bool = False,
) -> pa.StringArray:
    """Return the attributes of each owner as one JSON object.

    Args:
        buffer: what the table's offsets point into; decoded, so its messages are valid.
        table: the attributes.
        n_owners: number of spans, resources or scopes.
        none_is_null: null instead of `{}` for an owner without attributes.

    Raises:
        InvalidDataError: the text has 2 GiB or more.
    """
    source = frozen(buffer)
    owner = table.owner
    text = int(table.key.length.sum(dtype=np.int64) + table.value.length.sum(dtype=np.int64))
    estimate = text + text // 8 + 16 * len(owner) + 2 * n_owners + 4096

    def write(row: int, first: int, starts: NDArray[np.int64], out: NDArray[np.uint8]) -> int:
        return _objects(
            source,
            owner,
            table.key.offset,
            table.key.length,
            table.type,
            table.value.offset,
            table.value.length,
            table.number,
            row,
            first,
            starts,
            out,
        )

    starts, out = _grow(owner, n_owners, estimate, write)
    valid = np.bincount(owner, minlength=n_owners)[:n_owners] > 0 if none_is_null else None
    return string_array(starts, out, valid)


def _messages_json(batch: OtlpBatch, table: MessageTable, links: int) -> pa.StringArray:
    if not len(table.owner):
        return pa.nulls(len(batch), pa.string())
    source = frozen(batch.buffer)
    text = int(table.message.length.sum(dtype=np.int64))
    estimate = text + text // 2 + 128 * len(table.owner) + 4096

    def write(row: int, first: int, starts: NDArray[np.int64], out: NDArray[np.uint8]) -> int:
        return _lists(
            source,
            table.owner,
            table.message.offset,
            table.message.length,
            row,
            first,
            starts,
            out,
            links,
        )

    starts, out = _grow(table.owner, len(batch), estimate, write)
    return string_array(starts, out, np.diff(starts) > 0)


def events_json(batch: OtlpBatch) -> pa.StringArray:
    """Return (n,) the events of each span as a JSON list, null without any.

    An event is {"time_unix_nano", "name", "attributes"} and, where the emitter dropped
    some, "dropped_attributes_count".
    """
    return _messages_json(batch, batch.events, 0)


def links_json(batch: OtlpBatch) -> pa.StringArray:
    """Return (n,) the links of each span as a JSON list, null without any.

    A link is {"trace_id", "span_id", "attributes"} and, where they are set,
    "trace_state", "dropped_attributes_count" and "flags".
    """
    return _messages_json(batch, batch.links, 1)


def restore(value: object) -> object:
    """Return the typed value of parsed JSON: bytes and non-finite doubles as Python has them.

    A kvlist that itself is {"bytesValue": "<base64>"} cannot be told from bytes.
    """
    if isinstance(value, list):
        return [restore(item) for item in value]
    if isinstance(value, dict):
        if len(value) == 1:
            ((key, inner),) = value.items()
            if key == "bytesValue" and isinstance(inner, str):
                return base64.b64decode(inner)
            if key == "doubleValue" and inner in ("NaN", "Infinity", "-Infinity"):
                return float(inner)
        return {key: restore(item) for key, item in value.items()}
    return value
