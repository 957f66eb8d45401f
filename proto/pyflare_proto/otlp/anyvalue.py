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

from pyflare_proto.otlp.batch import AttributeTable, MessageTable, OtlpBatch
from pyflare_proto.otlp.columns import string_array
from pyflare_proto.otlp.doubles import put_digits
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
from pyflare_proto.otlp.jsonvalues import (
    ATTRIBUTES,
    CLOSE_LIST,
    CLOSE_OBJECT,
    COMMA,
    DROPPED,
    FLAGS,
    FRAME_WORDS,
    NAME,
    OPEN_LIST,
    OPEN_OBJECT,
    QUOTE,
    ROOM,
    SPAN_ID,
    TIME,
    TRACE_ID,
    TRACE_STATE,
    put_pair,
    put_word,
)
from pyflare_proto.otlp.text import NO_ROOM, put_hex, put_string
from pyflare_proto.otlp.wire import (
    KEY,
    KEY_SIZE,
    KIND,
    NUMBER,
    SCRATCH_WORDS,
    VALUE,
    VALUE_SIZE,
    key_value,
    length,
    skip,
    tag_at,
    varint,
)

__all__ = ["attributes_json", "events_json", "links_json", "restore"]


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
    frame_words = np.empty(FRAME_WORDS, np.int64)
    scratch = address(scratch_words)
    frames = address(frame_words)
    source = address(buffer)
    end = source + len(buffer)
    base = address(out)
    limit = base + len(out)
    rows = len(owner)
    for i in range(first, len(starts) - 1):
        place = base + starts[i]
        if limit - place < ROOM:
            return i
        put8(place, OPEN_OBJECT)
        place += 1
        begun = row
        while row < rows and owner[row] == i:
            if row > begun:
                put8(place, COMMA)
                place += 1
            put64(scratch + KEY, source + key_offset[row])
            put64(scratch + KEY_SIZE, int64(key_length[row]))
            put64(scratch + KIND, int64(kind[row]))
            put64(scratch + VALUE, source + value_offset[row])
            put64(scratch + VALUE_SIZE, int64(value_length[row]))
            put64(scratch + NUMBER, number[row])
            place = put_pair(scratch, place, limit, end, frames)
            if place == NO_ROOM or limit - place < ROOM:
                return i
            row += 1
        put8(place, CLOSE_OBJECT)
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
            put8(out, COMMA)
            out += 1
        first = False
        key_value(start, pos, -1, scratch)
        out = put_pair(scratch, out, limit, readable, frames)
        if out == NO_ROOM or limit - out < ROOM:
            return NO_ROOM
    put8(out, CLOSE_OBJECT)
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
    out = put_word(NAME, put_digits(np.uint64(time), put_word(TIME, out)))
    out = put_string(name, size, out, limit, readable)
    if out == NO_ROOM or limit - out < ROOM:
        return NO_ROOM
    out = _attributes(begin, end, 0x1A, put_word(ATTRIBUTES, out), limit, readable, scratch, frames)
    if out == NO_ROOM or limit - out < ROOM:
        return NO_ROOM
    if dropped != 0:
        out = put_digits(np.uint64(dropped & 0xFFFFFFFF), put_word(DROPPED, out))
    put8(out, CLOSE_OBJECT)
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
    if limit - out < 2 * (trace_size + span_size) + 2 * ROOM:
        return NO_ROOM
    out = put_hex(trace, trace_size, put_word(TRACE_ID, out))
    out = put_hex(span, span_size, put_word(SPAN_ID, out))
    put8(out, QUOTE)
    out += 1
    if state_size > 0:
        out = put_string(state, state_size, put_word(TRACE_STATE, out), limit, readable)
        if out == NO_ROOM or limit - out < ROOM:
            return NO_ROOM
    out = _attributes(begin, end, 0x22, put_word(ATTRIBUTES, out), limit, readable, scratch, frames)
    if out == NO_ROOM or limit - out < 2 * ROOM:
        return NO_ROOM
    if dropped != 0:
        out = put_digits(np.uint64(dropped & 0xFFFFFFFF), put_word(DROPPED, out))
    if flags != 0:
        out = put_digits(np.uint64(flags), put_word(FLAGS, out))
    put8(out, CLOSE_OBJECT)
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
    frame_words = np.empty(FRAME_WORDS, np.int64)
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
        if limit - place < 2 * ROOM:
            return i
        begun = row
        while row < rows and owner[row] == i:
            put8(place, OPEN_LIST if row == begun else COMMA)
            begin = source + offset[row]
            end = begin + int64(size[row])
            if links != 0:
                place = _link(begin, end, place + 1, limit, readable, scratch, frames)
            else:
                place = _event(begin, end, place + 1, limit, readable, scratch, frames)
            if place == NO_ROOM or limit - place < 2 * ROOM:
                return i
            row += 1
        put8(place, CLOSE_LIST)
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
