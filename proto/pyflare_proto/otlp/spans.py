"""The kernel that walks `ExportTraceServiceRequest` messages into offset arrays.

One pass over the bytes, each column written where it will stay. A row that does
not fit is counted and not stored: the caller makes room and walks again.

All that the walk needs lies in one array of words, the context: rooms and counts of
the tables, the addresses of their columns, scratch memory, and the cache of keys.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyflare_proto.otlp.jit import (
    address,
    helper,
    int32_at,
    int64_at,
    kernel,
    put8,
    put32,
    put64,
)
from pyflare_proto.otlp.keys import CACHE_WORDS, find_key
from pyflare_proto.otlp.wire import (
    ENTITY_REF,
    EVENT,
    KEY,
    KEY_SIZE,
    KIND,
    LINK,
    NUMBER,
    SCRATCH_WORDS,
    TRUNCATED,
    VALUE,
    VALUE_SIZE,
    key_value,
    length,
    skip,
    tag_at,
    validate,
    varint,
)

__all__ = ["COLUMNS", "CONTEXT_WORDS", "FIRST_COLUMN", "TABLES", "walk"]

# Tables, and the words of the context that hold their counts and rooms.
SPANS, ATTRIBUTES, RESOURCE_ATTRIBUTES, SCOPE_ATTRIBUTES, SCOPES, EVENTS, LINKS = range(7)
TABLES = 7
RESOURCES, BAD_REQUEST, BAD_PLACE, BASE, KEYS, REQUEST_NUMBER = range(7, 13)
ROOM = 16
FIRST_COLUMN = 24

# Columns of each table: bytes of an element, in order. The first word of a table's columns in
# the context is FIRST_COLUMN + the number of columns before it.
_SPAN_BYTES = (8, 8, 8, 8, 8, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 16, 8, 8, 12)
_ATTRIBUTE_BYTES = (8, 8, 8, 4, 4, 4, 4, 4, 4, 1)
_SCOPE_BYTES = (8, 8, 4, 4, 4)
_MESSAGE_BYTES = (8, 4, 4)
COLUMNS: tuple[tuple[int, ...], ...] = (
    _SPAN_BYTES,
    _ATTRIBUTE_BYTES,
    _ATTRIBUTE_BYTES,
    _ATTRIBUTE_BYTES,
    _SCOPE_BYTES,
    _MESSAGE_BYTES,
    _MESSAGE_BYTES,
)
"""Bytes of an element of each column, by table; each column of a table has its room of rows."""

_FIRST = [FIRST_COLUMN + sum(map(len, COLUMNS[:i])) for i in range(TABLES + 1)]

# Spans: byte offsets into the context.
(
    _START, _END, _NAME, _MESSAGE, _STATE,
    _NAME_SIZE, _MESSAGE_SIZE, _STATE_SIZE, _REQUEST, _FLAGS, _KIND, _CODE,
    _RESOURCE, _SCOPE, _VALID, _TRACE_ID, _SPAN_ID, _PARENT_ID, _DROPPED,
) = range(8 * _FIRST[SPANS], 8 * _FIRST[ATTRIBUTES], 8)  # fmt: skip
# Attributes: byte offsets from the table's first column address.
(_A_KEY, _A_VALUE, _A_NUMBER, _A_OWNER, _A_KEY_SIZE, _A_ID, _A_INDEX0, _A_INDEX1, _A_SIZE,
 _A_KIND) = range(0, 80, 8)  # fmt: skip
(_S_NAME, _S_VERSION, _S_NAME_SIZE, _S_VERSION_SIZE, _S_RESOURCE) = range(
    8 * _FIRST[SCOPES], 8 * _FIRST[EVENTS], 8
)
_AT_ATTRIBUTES = 8 * _FIRST[ATTRIBUTES]
_AT_RESOURCE_ATTRIBUTES = 8 * _FIRST[RESOURCE_ATTRIBUTES]
_AT_SCOPE_ATTRIBUTES = 8 * _FIRST[SCOPE_ATTRIBUTES]
_AT_EVENTS = 8 * _FIRST[EVENTS]
_AT_LINKS = 8 * _FIRST[LINKS]
_LAST_COLUMN = _FIRST[TABLES]
_SCRATCH = 8 * _LAST_COLUMN
_CACHE = _SCRATCH + 8 * SCRATCH_WORDS
CONTEXT_WORDS = _LAST_COLUMN + SCRATCH_WORDS + CACHE_WORDS
"""Words of 8 bytes that the context must have, zeroed but for rooms and columns."""

_LOW32 = 0xFFFFFFFF
_INT32_MAX = 0x7FFFFFFF
_INT64_MAX = 0x7FFFFFFFFFFFFFFF


@helper
def _column(context: int, column: int, row: int, size: int) -> int:
    """Return the address of an element."""
    return int64_at(context + column) + row * size


@helper
def _set64(context: int, column: int, row: int, value: int) -> None:
    put64(_column(context, column, row, 8), value)


@helper
def _set32(context: int, column: int, row: int, value: int) -> None:
    put32(_column(context, column, row, 4), value)


@helper
def _next_row(context: int, table: int) -> int:
    """Count a row of a table: its number, -1 when there is no room for it."""
    row = int64_at(context + 8 * table)
    put64(context + 8 * table, row + 1)
    return row if row < int64_at(context + 8 * (ROOM + table)) else -1


@helper
def _attribute(
    context: int, table: int, columns: int, owner: int, pos: int, end: int, depth: int
) -> int:
    """Store the `KeyValue` whose length stands at `pos`: the next position."""
    start, stop = length(pos, end)
    if start < 0:
        return start
    record = context + _SCRATCH
    after = key_value(start, stop, depth, record)
    row = _next_row(context, table)
    if after < 0 or row < 0:
        return after
    base = int64_at(context + 8 * BASE)
    key = int64_at(record + KEY)
    key_size = int64_at(record + KEY_SIZE)
    found = find_key(int64_at(context + 8 * KEYS), context + _CACHE, key, key_size)
    at = context + columns
    _set64(at, _A_KEY, row, key - base)
    _set64(at, _A_VALUE, row, int64_at(record + VALUE) - base)
    _set64(at, _A_NUMBER, row, int64_at(record + NUMBER))
    _set32(at, _A_OWNER, row, owner)
    _set32(at, _A_KEY_SIZE, row, key_size)
    _set32(at, _A_ID, row, int64_at(found))
    _set32(at, _A_INDEX0, row, int64_at(found + 8))
    _set32(at, _A_INDEX1, row, int64_at(found + 16))
    _set32(at, _A_SIZE, row, int64_at(record + VALUE_SIZE))
    put8(_column(at, _A_KIND, row, 1), int64_at(record + KIND))
    return after


@helper
def _message(
    context: int, table: int, columns: int, owner: int, pos: int, end: int, message: int
) -> int:
    """Check and store the event or link whose length stands at `pos`: the next position."""
    start, stop = length(pos, end)
    if start < 0:
        return start
    after = validate(start, stop, message, 4, context + _SCRATCH)
    row = _next_row(context, table)
    if after >= 0 and row >= 0:
        at = context + columns
        _set64(at, 0, row, start - int64_at(context + 8 * BASE))
        _set32(at, 8, row, owner)
        _set32(at, 16, row, stop - start)
    return after


@helper
def _text(context: int, place: int, size: int, row: int, start: int, stop: int) -> None:
    """Store the slice [start, stop) in the columns `place` and `size`."""
    _set64(context, place, row, start - int64_at(context + 8 * BASE))
    _set32(context, size, row, stop - start)


@helper
def _status(context: int, row: int, pos: int, end: int) -> int:
    while pos < end:
        tag, pos = tag_at(pos, end)
        if pos < 0:
            return pos
        if tag == 0x12:
            start, stop = length(pos, end)
            if start < 0:
                return start
            _text(context, _MESSAGE, _MESSAGE_SIZE, row, start, stop)
            pos = stop
        elif tag == 0x18:
            value, pos = varint(pos, end)
            _set32(context, _CODE, row, value)
        else:
            pos = skip(pos, end, tag, 4, context + _SCRATCH)
        if pos < 0:
            return pos
    return end


@helper
def _identify(place: int, start: int, stop: int, size: int) -> int:
    """Store an id of 8 or 16 bytes, zeros for one of another length: 1 for a good id, else 0."""
    fits = stop - start == size
    some = 0
    for i in range(0, size, 8):
        word = int64_at(start + i) if fits else 0
        put64(place + i, word)
        some |= word
    return 1 if some != 0 else 0


@helper
def _clear(context: int, row: int, resource: int, scope: int) -> None:
    """Give a new span the values of a span without fields."""
    for column in range(_START, _NAME_SIZE, 8):
        _set64(context, column, row, 0)
    for column in range(_NAME_SIZE, _TRACE_ID, 8):
        _set32(context, column, row, 0)
    put64(_column(context, _TRACE_ID, row, 16), 0)
    put64(_column(context, _TRACE_ID, row, 16) + 8, 0)
    _set64(context, _SPAN_ID, row, 0)
    _set64(context, _PARENT_ID, row, 0)
    dropped = _column(context, _DROPPED, row, 12)
    put64(dropped, 0)
    put32(dropped + 8, 0)
    _set32(context, _REQUEST, row, int64_at(context + 8 * REQUEST_NUMBER))
    _set32(context, _RESOURCE, row, resource)
    _set32(context, _SCOPE, row, scope)


@helper
def _text_field(context: int, row: int, pos: int, end: int, tag: int) -> int:
    """Store the field of a span that has a length and is no attribute, event or link."""
    start, stop = length(pos, end)
    if start < 0:
        return start
    valid = _column(context, _VALID, row, 4)
    if tag == 0x0A:
        good = _identify(_column(context, _TRACE_ID, row, 16), start, stop, 16)
        put32(valid, int32_at(valid) & 2 | good)
    elif tag == 0x12:
        good = _identify(_column(context, _SPAN_ID, row, 8), start, stop, 8)
        put32(valid, int32_at(valid) & 1 | good << 1)
    elif tag == 0x22:
        _identify(_column(context, _PARENT_ID, row, 8), start, stop, 8)
    elif tag == 0x1A:
        _text(context, _STATE, _STATE_SIZE, row, start, stop)
    elif tag == 0x2A:
        _text(context, _NAME, _NAME_SIZE, row, start, stop)
    else:
        return _status(context, row, start, stop)
    return stop


@helper
def _number_field(context: int, row: int, pos: int, end: int, tag: int) -> int:
    """Store a numeric field of a span; a field that is not known is passed over."""
    if tag == 0x39 or tag == 0x41:
        if pos + 8 > end:
            return TRUNCATED
        time = int64_at(pos)
        _set64(context, _START if tag == 0x39 else _END, row, time if time >= 0 else _INT64_MAX)
        return pos + 8
    if tag == 0x85:
        if pos + 4 > end:
            return TRUNCATED
        _set32(context, _FLAGS, row, int32_at(pos))
        return pos + 4
    if tag == 0x30:
        value, pos = varint(pos, end)
        _set32(context, _KIND, row, value)
        return pos
    if tag == 0x50 or tag == 0x60 or tag == 0x70:
        value, pos = varint(pos, end)
        dropped = _column(context, _DROPPED, row, 12) + 4 * ((tag >> 4) - 5)
        put32(dropped, min(value & _LOW32, _INT32_MAX))
        return pos
    return skip(pos, end, tag, 3, context + _SCRATCH)


@helper
def _span(context: int, row: int, pos: int, end: int) -> int:
    """Store the span that fills [pos, end) as row `row`, which has room."""
    while pos < end:
        tag, pos = tag_at(pos, end)
        if pos < 0:
            return pos
        if tag == 0x4A:
            pos = _attribute(context, ATTRIBUTES, _AT_ATTRIBUTES, row, pos, end, 4)
        elif tag == 0x0A or tag == 0x12 or tag == 0x22 or tag == 0x1A or tag == 0x2A or tag == 0x7A:
            pos = _text_field(context, row, pos, end, tag)
        elif tag == 0x5A:
            pos = _message(context, EVENTS, _AT_EVENTS, row, pos, end, EVENT)
        elif tag == 0x6A:
            pos = _message(context, LINKS, _AT_LINKS, row, pos, end, LINK)
        else:
            pos = _number_field(context, row, pos, end, tag)
        if pos < 0:
            return pos
    return end


@helper
def _resource(context: int, pos: int, end: int) -> int:
    owner = int64_at(context + 8 * RESOURCES) - 1
    while pos < end:
        tag, pos = tag_at(pos, end)
        if pos < 0:
            return pos
        if tag == 0x0A:
            pos = _attribute(
                context, RESOURCE_ATTRIBUTES, _AT_RESOURCE_ATTRIBUTES, owner, pos, end, 3
            )
        elif tag == 0x1A:
            start, stop = length(pos, end)
            if start < 0:
                return start
            pos = validate(start, stop, ENTITY_REF, 3, context + _SCRATCH)
        else:
            pos = skip(pos, end, tag, 2, context + _SCRATCH)
        if pos < 0:
            return pos
    return end


@helper
def _scope(context: int, scope: int, room: bool, pos: int, end: int) -> int:
    while pos < end:
        tag, pos = tag_at(pos, end)
        if pos < 0:
            return pos
        if tag == 0x0A or tag == 0x12:
            start, stop = length(pos, end)
            if start < 0:
                return start
            if room and tag == 0x0A:
                _text(context, _S_NAME, _S_NAME_SIZE, scope, start, stop)
            elif room:
                _text(context, _S_VERSION, _S_VERSION_SIZE, scope, start, stop)
            pos = stop
        elif tag == 0x1A:
            pos = _attribute(context, SCOPE_ATTRIBUTES, _AT_SCOPE_ATTRIBUTES, scope, pos, end, 4)
        else:
            pos = skip(pos, end, tag, 3, context + _SCRATCH)
        if pos < 0:
            return pos
    return end


@helper
def _scope_spans(context: int, pos: int, end: int) -> int:
    scope = int64_at(context + 8 * SCOPES)
    resource = int64_at(context + 8 * RESOURCES) - 1
    room = _next_row(context, SCOPES) >= 0
    if room:
        _set64(context, _S_NAME, scope, 0)
        _set64(context, _S_VERSION, scope, 0)
        _set32(context, _S_NAME_SIZE, scope, 0)
        _set32(context, _S_VERSION_SIZE, scope, 0)
        _set32(context, _S_RESOURCE, scope, resource)
    while pos < end:
        tag, pos = tag_at(pos, end)
        if pos < 0:
            return pos
        if tag == 0x0A or tag == 0x12:
            start, stop = length(pos, end)
            if start < 0:
                return start
            pos = stop
            if tag == 0x0A:
                pos = _scope(context, scope, room, start, stop)
            else:
                row = _next_row(context, SPANS)
                if row >= 0:
                    _clear(context, row, resource, scope)
                    pos = _span(context, row, start, stop)
        else:
            pos = skip(pos, end, tag, 2, context + _SCRATCH)
        if pos < 0:
            return pos
    return end


@helper
def _resource_spans(context: int, pos: int, end: int) -> int:
    put64(context + 8 * RESOURCES, int64_at(context + 8 * RESOURCES) + 1)
    while pos < end:
        tag, pos = tag_at(pos, end)
        if pos < 0:
            return pos
        if tag == 0x0A or tag == 0x12:
            start, stop = length(pos, end)
            if start < 0:
                return start
            if tag == 0x0A:
                pos = _resource(context, start, stop)
            else:
                pos = _scope_spans(context, start, stop)
        else:
            pos = skip(pos, end, tag, 1, context + _SCRATCH)
        if pos < 0:
            return pos
    return end


@kernel
def walk(
    buffer: NDArray[np.uint8],
    bounds: NDArray[np.int64],
    keys: NDArray[np.int64],
    context: NDArray[np.int64],
    arena: NDArray[np.uint8],
) -> int:
    """Walk the requests that lie in `buffer` between `bounds`.

    Args:
        buffer: all requests, one after the other.
        bounds: (requests + 1,) where each begins, and the end of the last.
        keys: `KeyTable.words`.
        context: (`CONTEXT_WORDS`,) zeros, but for the rooms from `ROOM` on and, from
            `FIRST_COLUMN` on, the byte of `arena` at which each column begins. Holds the
            rows found afterwards, from 0 on in the order of `COLUMNS`.
        arena: memory of all columns.

    Returns:
        0, or an error code of `wire`; `BAD_REQUEST` and `BAD_PLACE` then hold the request
        and the place of the field in `buffer`.
    """
    base = address(buffer)
    memory = address(arena)
    for column in range(FIRST_COLUMN, _LAST_COLUMN):
        context[column] += memory
    context[BASE] = base
    context[KEYS] = address(keys)
    at = address(context)
    for request in range(len(bounds) - 1):
        context[REQUEST_NUMBER] = request
        pos = base + bounds[request]
        end = base + bounds[request + 1]
        while pos < end:
            field = pos
            tag, pos = tag_at(pos, end)
            if pos >= 0:
                if tag == 0x0A:
                    start, stop = length(pos, end)
                    pos = _resource_spans(at, start, stop) if start >= 0 else start
                else:
                    pos = skip(pos, end, tag, 0, at + _SCRATCH)
            if pos < 0:
                context[BAD_REQUEST] = request
                context[BAD_PLACE] = field - base
                return pos
    return 0
