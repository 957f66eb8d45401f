"""The kernel that walks `ExportTraceServiceRequest` messages into offset arrays.

One pass over the bytes. Numbers, offsets and lengths go into two-dimensional
arrays, one row a column, so that each column is contiguous. A row that does not
fit is counted and not stored: the caller makes room and walks again.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyflare_proto.otlp.jit import kernel
from pyflare_proto.otlp.keys import KeyArrays, KeyCache, find_key, new_cache
from pyflare_proto.otlp.wire import (
    ENTITY_REF,
    EVENT,
    LINK,
    TRUNCATED,
    fixed64,
    key_value,
    length,
    skip,
    tag_at,
    validate,
    varint,
)

__all__ = ["Attributes", "Messages", "Output", "walk"]

Bytes = NDArray[np.uint8]

# Rows of `Output.long`: one int64 a span.
START, END, NAME, MESSAGE, STATE = range(5)
# Rows of `Output.short`: one int32 a span.
(
    REQUEST, VALID, FLAGS, KIND, CODE, NAME_SIZE, MESSAGE_SIZE, STATE_SIZE,
    RESOURCE, SCOPE, DROPPED_ATTRIBUTES, DROPPED_EVENTS, DROPPED_LINKS,
) = range(13)  # fmt: skip
# Rows of `Attributes.long` and `Attributes.short`.
KEY, VALUE, NUMBER = range(3)
OWNER, KEY_SIZE, KEY_ID, INDEX0, INDEX1, VALUE_SIZE = range(6)
# Rows of `Output.scope_long` and `Output.scope_short`.
SCOPE_NAME, SCOPE_VERSION = range(2)
SCOPE_NAME_SIZE, SCOPE_VERSION_SIZE, SCOPE_RESOURCE = range(3)
# Places in `Output.counts`.
(
    N_SPANS, N_ATTRIBUTES, N_RESOURCE_ATTRIBUTES, N_SCOPE_ATTRIBUTES, N_SCOPES,
    N_EVENTS, N_LINKS, N_RESOURCES, BAD_REQUEST, BAD_AT,
) = range(10)  # fmt: skip

_INT64_MAX = np.uint64(0x7FFFFFFFFFFFFFFF)
_LOW32 = np.uint64(0xFFFFFFFF)


class Attributes(NamedTuple):
    """Columns of an attribute table with room for `kind.size` rows."""

    long: NDArray[np.int64]
    """(3, room) offset of the key, offset of the value, number."""
    short: NDArray[np.int32]
    """(6, room) owner, length of the key, key id, first and second index, length of the value."""
    kind: NDArray[np.uint8]
    """(room,) `ValueType`."""


class Messages(NamedTuple):
    """Columns of a message table."""

    long: NDArray[np.int64]
    """(1, room) offset."""
    short: NDArray[np.int32]
    """(2, room) owner, length."""


class Output(NamedTuple):
    """All that a walk writes."""

    counts: NDArray[np.int64]
    """(10,) rows of each table, also those without room; request and place of an error."""
    long: NDArray[np.int64]
    """(5, room) of spans."""
    short: NDArray[np.int32]
    """(13, room) of spans."""
    ids: NDArray[np.uint8]
    """(room, 32) trace id, span id, parent span id."""
    scope_long: NDArray[np.int64]
    """(2, room)"""
    scope_short: NDArray[np.int32]
    """(3, room)"""
    attributes: Attributes
    resource_attributes: Attributes
    scope_attributes: Attributes
    events: Messages
    links: Messages


@kernel
def _attribute(
    buf: Bytes,
    pos: int,
    end: int,
    depth: int,
    owner: int,
    row: int,
    out: Attributes,
    keys: KeyArrays,
    cache: KeyCache,
) -> int:
    """Store the `KeyValue` whose length stands at `pos`: the next position."""
    start, stop = length(buf, pos, end)
    if start < 0:
        return start
    after, key, key_size, kind, value, size, number = key_value(buf, start, stop, depth)
    if after < 0 or row >= out.kind.size:
        return after
    key_id, index0, index1 = find_key(keys, cache, buf, key, key_size)
    out.long[KEY, row] = key
    out.long[VALUE, row] = value
    out.long[NUMBER, row] = np.int64(number)
    out.short[OWNER, row] = owner
    out.short[KEY_SIZE, row] = key_size
    out.short[KEY_ID, row] = key_id
    out.short[INDEX0, row] = index0
    out.short[INDEX1, row] = index1
    out.short[VALUE_SIZE, row] = size
    out.kind[row] = kind
    return after


@kernel
def _message(
    buf: Bytes, pos: int, end: int, message: int, owner: int, row: int, out: Messages
) -> int:
    """Check and store the event or link whose length stands at `pos`: the next position."""
    start, stop = length(buf, pos, end)
    if start < 0:
        return start
    after = validate(buf, start, stop, message, 4)
    if after >= 0 and row < out.long.shape[1]:
        out.long[0, row] = start
        out.short[0, row] = owner
        out.short[1, row] = stop - start
    return after


@kernel
def _status(buf: Bytes, pos: int, end: int, row: int, out: Output) -> int:
    while pos < end:
        tag, pos = tag_at(buf, pos, end)
        if pos < 0:
            return pos
        if tag == 0x12:
            start, stop = length(buf, pos, end)
            if start < 0:
                return start
            out.long[MESSAGE, row] = start
            out.short[MESSAGE_SIZE, row] = stop - start
            pos = stop
        elif tag == 0x18:
            value, pos = varint(buf, pos, end)
            out.short[CODE, row] = np.int32(value & _LOW32)
        else:
            pos = skip(buf, pos, end, tag, 4)
        if pos < 0:
            return pos
    return end


@kernel
def _identify(buf: Bytes, start: int, stop: int, size: int, row: int, at: int, ids: Bytes) -> bool:
    """Store an id of `size` bytes, zeros for one of another length: whether it is an id."""
    if stop - start != size:
        for i in range(size):
            ids[row, at + i] = 0
        return False
    some = np.uint8(0)
    for i in range(size):
        byte = buf[start + i]
        ids[row, at + i] = byte
        some |= byte
    return bool(some != 0)


@kernel
def _clear(row: int, out: Output) -> None:
    for i in range(5):
        out.long[i, row] = 0
    for i in range(13):
        out.short[i, row] = 0
    for i in range(32):
        out.ids[row, i] = 0


@kernel
def _text_field(buf: Bytes, pos: int, end: int, tag: int, row: int, out: Output) -> int:
    """Store the field of a span that has a length and is no attribute, event or link."""
    start, stop = length(buf, pos, end)
    if start < 0:
        return start
    if tag == 0x0A:
        good = _identify(buf, start, stop, 16, row, 0, out.ids)
        out.short[VALID, row] = (out.short[VALID, row] & 2) | np.int32(good)
    elif tag == 0x12:
        good = _identify(buf, start, stop, 8, row, 16, out.ids)
        out.short[VALID, row] = (out.short[VALID, row] & 1) | (np.int32(good) << 1)
    elif tag == 0x22:
        _identify(buf, start, stop, 8, row, 24, out.ids)
    elif tag == 0x1A:
        out.long[STATE, row] = start
        out.short[STATE_SIZE, row] = stop - start
    elif tag == 0x2A:
        out.long[NAME, row] = start
        out.short[NAME_SIZE, row] = stop - start
    elif tag == 0x7A:
        return _status(buf, start, stop, row, out)
    return stop


@kernel
def _number_field(buf: Bytes, pos: int, end: int, tag: int, row: int, out: Output) -> int:
    """Store a numeric field of a span; fields that are not known are passed over."""
    if tag == 0x39 or tag == 0x41:
        if pos + 8 > end:
            return TRUNCATED
        time = min(fixed64(buf, pos), _INT64_MAX)
        out.long[START if tag == 0x39 else END, row] = np.int64(time)
        return pos + 8
    if tag == 0x85:
        if pos + 4 > end:
            return TRUNCATED
        flags = np.uint64(0)
        for i in range(4):
            flags |= np.uint64(buf[pos + i]) << np.uint64(8 * i)
        out.short[FLAGS, row] = np.int32(flags)
        return pos + 4
    if tag == 0x30:
        at = KIND
    elif tag == 0x50:
        at = DROPPED_ATTRIBUTES
    elif tag == 0x60:
        at = DROPPED_EVENTS
    elif tag == 0x70:
        at = DROPPED_LINKS
    else:
        return skip(buf, pos, end, tag, 3)
    value, after = varint(buf, pos, end)
    if at == KIND:
        out.short[at, row] = np.int32(value & _LOW32)
    else:
        out.short[at, row] = np.int32(min(value & _LOW32, np.uint64(0x7FFFFFFF)))
    return after


@kernel
def _span(
    buf: Bytes, pos: int, end: int, row: int, out: Output, keys: KeyArrays, cache: KeyCache
) -> int:
    """Store the span that fills [pos, end) as row `row`, which has room."""
    counts = out.counts
    while pos < end:
        tag, pos = tag_at(buf, pos, end)
        if pos < 0:
            break
        if tag == 0x4A:
            at = counts[N_ATTRIBUTES]
            pos = _attribute(buf, pos, end, 4, row, at, out.attributes, keys, cache)
            counts[N_ATTRIBUTES] = at + 1
        elif tag == 0x5A:
            pos = _message(buf, pos, end, EVENT, row, counts[N_EVENTS], out.events)
            counts[N_EVENTS] += 1
        elif tag == 0x6A:
            pos = _message(buf, pos, end, LINK, row, counts[N_LINKS], out.links)
            counts[N_LINKS] += 1
        elif tag in (0x0A, 0x12, 0x22, 0x1A, 0x2A, 0x7A):
            pos = _text_field(buf, pos, end, tag, row, out)
        else:
            pos = _number_field(buf, pos, end, tag, row, out)
        if pos < 0:
            break
    return pos


@kernel
def _resource(
    buf: Bytes, pos: int, end: int, out: Output, keys: KeyArrays, cache: KeyCache
) -> int:
    counts = out.counts
    owner = counts[N_RESOURCES] - 1
    while pos < end:
        tag, pos = tag_at(buf, pos, end)
        if pos < 0:
            break
        if tag == 0x0A:
            at = counts[N_RESOURCE_ATTRIBUTES]
            pos = _attribute(buf, pos, end, 3, owner, at, out.resource_attributes, keys, cache)
            counts[N_RESOURCE_ATTRIBUTES] = at + 1
        elif tag == 0x1A:
            start, stop = length(buf, pos, end)
            pos = validate(buf, start, stop, ENTITY_REF, 3) if start >= 0 else start
        else:
            pos = skip(buf, pos, end, tag, 2)
        if pos < 0:
            break
    return pos


@kernel
def _scope(buf: Bytes, pos: int, end: int, out: Output, keys: KeyArrays, cache: KeyCache) -> int:
    counts = out.counts
    owner = counts[N_SCOPES] - 1
    room = owner < out.scope_long.shape[1]
    while pos < end:
        tag, pos = tag_at(buf, pos, end)
        if pos < 0:
            break
        if tag == 0x0A or tag == 0x12:
            start, stop = length(buf, pos, end)
            if start < 0:
                return start
            if room:
                at = SCOPE_NAME if tag == 0x0A else SCOPE_VERSION
                out.scope_long[at, owner] = start
                out.scope_short[at, owner] = stop - start
            pos = stop
        elif tag == 0x1A:
            at = counts[N_SCOPE_ATTRIBUTES]
            pos = _attribute(buf, pos, end, 4, owner, at, out.scope_attributes, keys, cache)
            counts[N_SCOPE_ATTRIBUTES] = at + 1
        else:
            pos = skip(buf, pos, end, tag, 3)
        if pos < 0:
            break
    return pos


@kernel
def _scope_spans(
    buf: Bytes, pos: int, end: int, request: int, out: Output, keys: KeyArrays, cache: KeyCache
) -> int:
    counts = out.counts
    scope = counts[N_SCOPES]
    resource = counts[N_RESOURCES] - 1
    counts[N_SCOPES] += 1
    if scope < out.scope_long.shape[1]:
        out.scope_long[:, scope] = 0
        out.scope_short[:, scope] = 0
        out.scope_short[SCOPE_RESOURCE, scope] = resource
    while pos < end:
        tag, pos = tag_at(buf, pos, end)
        if pos < 0:
            break
        if tag == 0x0A or tag == 0x12:
            start, stop = length(buf, pos, end)
            if start < 0:
                return start
            if tag == 0x0A:
                pos = _scope(buf, start, stop, out, keys, cache)
            else:
                row = counts[N_SPANS]
                counts[N_SPANS] += 1
                pos = stop
                if row < out.long.shape[1]:
                    _clear(row, out)
                    out.short[REQUEST, row] = request
                    out.short[RESOURCE, row] = resource
                    out.short[SCOPE, row] = scope
                    pos = _span(buf, start, stop, row, out, keys, cache)
        else:
            pos = skip(buf, pos, end, tag, 2)
        if pos < 0:
            break
    return pos


@kernel
def _resource_spans(
    buf: Bytes, pos: int, end: int, request: int, out: Output, keys: KeyArrays, cache: KeyCache
) -> int:
    out.counts[N_RESOURCES] += 1
    while pos < end:
        tag, pos = tag_at(buf, pos, end)
        if pos < 0:
            break
        if tag == 0x0A or tag == 0x12:
            start, stop = length(buf, pos, end)
            if start < 0:
                return start
            if tag == 0x0A:
                pos = _resource(buf, start, stop, out, keys, cache)
            else:
                pos = _scope_spans(buf, start, stop, request, out, keys, cache)
        else:
            pos = skip(buf, pos, end, tag, 1)
        if pos < 0:
            break
    return pos


@kernel
def walk(buf: Bytes, bounds: NDArray[np.int64], out: Output, keys: KeyArrays) -> int:
    """Walk the requests that lie in `buf` between `bounds`.

    Args:
        buf: all requests, one after the other.
        bounds: (requests + 1,) where each begins, and the end of the last.
        out: arrays to fill; `counts` is set to the rows that were found.
        keys: known keys.

    Returns:
        0, or an error code of `wire`; `counts` then holds the request and its place in `buf`.
    """
    out.counts[:] = 0
    cache = new_cache()
    for request in range(len(bounds) - 1):
        pos = bounds[request]
        end = bounds[request + 1]
        while pos < end:
            at = pos
            tag, pos = tag_at(buf, pos, end)
            if pos >= 0:
                if tag == 0x0A:
                    start, stop = length(buf, pos, end)
                    pos = start
                    if start >= 0:
                        pos = _resource_spans(buf, start, stop, request, out, keys, cache)
                else:
                    pos = skip(buf, pos, end, tag, 0)
            if pos < 0:
                out.counts[BAD_REQUEST] = request
                out.counts[BAD_AT] = at
                return pos
    return 0
