"""Messages in indexed attributes and in span events, put together to one text a span.

Emitters that know no structured attributes number them: `gen_ai.prompt.0.role`,
`gen_ai.prompt.0.content`, `gen_ai.prompt.1.tool_calls.0.name`. First the pieces of
each message are joined, then the messages of each span, both in compiled passes over
sorted rows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pyflare_collector.normalize.arrow import string_bounds, string_data
from pyflare_collector.normalize.attributes import AttributeIndex
from pyflare_collector.normalize.content import sources
from pyflare_collector.normalize.content.events import EventTable, EventValues
from pyflare_collector.normalize.content.family_kernels import (
    ARGUMENTS,
    NAME,
    PART_TEXT,
    PART_TYPE,
    TEXT,
    join_messages,
    join_pieces,
)
from pyflare_collector.normalize.content.render import Texts, no_slices, render
from pyflare_collector.normalize.content.structured import json_texts
from pyflare_collector.normalize.json_kernels import string_array
from pyflare_proto.otlp.batch import Slices, ValueType
from pyflare_proto.otlp.columns import strings
from pyflare_proto.otlp.jit import frozen

__all__ = ["event_texts", "family_texts"]

SpanTexts = tuple[NDArray[np.int64], Texts]


class _Pieces(NamedTuple):
    """Attributes of messages in the order in which they are told."""

    owner: NDArray[np.int64]
    """(m,) span."""
    message: NDArray[np.int64]
    """(m,) index of the message in its span."""
    role: NDArray[np.int64]
    """(m,) which attribute of the message it is: a code of `family_kernels`."""
    slices: Slices
    """(m,) its string."""


def _pieces(
    index: AttributeIndex, source: sources.Family, wanted: NDArray[np.bool_]
) -> _Pieces | None:
    """Return the attributes of a family but the roles, None when there are none."""
    table = index.table
    parts = (
        (source.text, TEXT),
        (source.part_type, PART_TYPE),
        (source.part_text, PART_TEXT),
        (source.call_name, NAME),
        (source.call_arguments, ARGUMENTS),
    )
    found: list[NDArray[np.int64]] = []
    codes: list[NDArray[np.int64]] = []
    for key, piece in parts:
        every = index.family(key) if key else None
        if every is not None:
            own = every[wanted[table.owner[every]] & (table.type[every] == ValueType.STRING)]
            found.append(own)
            codes.append(np.full(len(own), piece, np.int64))
    if not found or not sum(map(len, found)):
        return None
    rows = np.concatenate(found)
    code: NDArray[np.int64] = np.concatenate(codes)
    owner, message = table.owner[rows].astype(np.int64), table.index0[rows].astype(np.int64)
    if len(found) > 1:
        # The text of a message, then its parts in order, then its tool calls in order.
        kind = code // 2
        order = np.lexsort((code, table.index1[rows], kind, message, owner))
        rows, code, owner, message = rows[order], code[order], owner[order], message[order]
    value = table.value
    return _Pieces(owner, message, code, Slices(value.offset[rows], value.length[rows]))


def family_texts(
    index: AttributeIndex, source: sources.Family, wanted: NDArray[np.bool_]
) -> SpanTexts | None:
    """Return (spans, texts) of an indexed family, None when no wanted span has one.

    Args:
        index: attributes of the batch.
        source: the family.
        wanted: (n,) spans to read.
    """
    pieces = _pieces(index, source, wanted)
    if pieces is None:
        return None
    m = len(pieces.owner)
    first = np.ones(m, np.bool_)
    first[1:] = np.diff(pieces.owner) != 0
    first[1:] |= np.diff(pieces.message) != 0
    starts = np.append(np.flatnonzero(first), m)
    rendered, alternative = _part_lists(index.buffer, pieces)
    size = int(pieces.slices.length.sum(dtype=np.int64)) + int(rendered.length.sum(dtype=np.int64))
    out = np.empty(2 * size + 24 * m + 16, np.uint8)
    bounds = np.zeros(len(starts), np.int32)
    join_pieces(
        frozen(index.buffer),
        *pieces.slices,
        pieces.role,
        frozen(alternative),
        *rendered,
        starts,
        out,
        bounds,
    )
    owner, message = pieces.owner[starts[:-1]], pieces.message[starts[:-1]]
    roles = _roles(index, source.role, owner, message)
    texts = Slices(bounds[:-1].astype(np.int64), np.diff(bounds))
    return _conversations(owner, index.buffer, roles, out, texts)


def _part_lists(buffer: NDArray[np.uint8], pieces: _Pieces) -> tuple[Slices, NDArray[np.uint8]]:
    """Return the text form of the texts that are JSON lists of parts, and its buffer.

    OpenLLMetry writes the parts of a message as JSON into its content.
    """
    empty = no_slices(len(pieces.owner))
    start = np.where(pieces.slices.length > 2, pieces.slices.offset, 0)
    is_list = (pieces.role == TEXT) & (pieces.slices.length > 2)
    is_list &= (buffer[start] == ord("[")) & np.isin(buffer[start + 1], (ord("{"), ord(" ")))
    rows = np.flatnonzero(is_list) if len(buffer) > 1 else np.zeros(0, np.int64)
    if not len(rows):
        return empty, np.zeros(1, np.uint8)
    texts = render(buffer, Slices(pieces.slices.offset[rows], pieces.slices.length[rows]))
    bounds = string_bounds(texts.values)
    empty.offset[rows] = bounds[:-1]
    empty.length[rows] = np.diff(bounds)
    return empty, string_data(texts.values)


def _roles(
    index: AttributeIndex, key: str, owner: NDArray[np.int64], message: NDArray[np.int64]
) -> Slices:
    """Return the roles of messages, given by span and index, length 0 where there is none."""
    result = no_slices(len(owner))
    rows = index.family(key) if key else None
    if rows is None:
        return result
    table = index.table
    rows = rows[table.type[rows] == ValueType.STRING]
    if not len(rows):
        return result
    known = table.owner[rows].astype(np.int64) << 32 | table.index0[rows]
    asked = owner << 32 | message
    at = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    same = known[at] == asked
    result.offset[same] = table.value.offset[rows[at[same]]]
    result.length[same] = table.value.length[rows[at[same]]]
    return result


def _conversations(
    owner: NDArray[np.int64],
    role_buffer: NDArray[np.uint8],
    roles: Slices,
    text_buffer: NDArray[np.uint8],
    texts: Slices,
) -> SpanTexts:
    """Join the messages of each span; `owner` ascends."""
    first = np.ones(len(owner), np.bool_)
    first[1:] = np.diff(owner) != 0
    starts = np.append(np.flatnonzero(first), len(owner))
    size = int(texts.length.sum(dtype=np.int64) + roles.length.sum(dtype=np.int64))
    out = np.empty(size + 4 * len(owner) + 16, np.uint8)
    bounds = np.zeros(len(starts), np.int32)
    join_messages(frozen(role_buffer), *roles, frozen(text_buffer), *texts, starts, out, bounds)
    return owner[starts[:-1]], Texts(string_array(out, bounds), np.diff(bounds) > 0)


_MESSAGE_KEYS = ("content", "message", "gen_ai.event.content", "tool_calls", "role")


def event_texts(
    table: EventTable, source: sources.Events, wanted: NDArray[np.bool_]
) -> SpanTexts | None:
    """Return (spans, texts) of conversations in span events, None when there are none.

    Args:
        table: the events of the batch.
        source: names of the events and where they tell messages.
        wanted: (n,) spans to read.
    """
    for name, key, system in source.documents:
        events = table.of(name).get(name)
        if events is not None:
            events = events[wanted[table.owner[events]]]
            # An event of a span that has several of them adds nothing to the first.
            spans, place = np.unique(table.owner[events], return_index=True)
            if len(spans):
                values = table.values(events[place], (key, system) if system else (key,))
                return spans.astype(np.int64), _event_documents(values, key, system)
    return _event_messages(table, source, wanted)


def _event_documents(values: EventValues, key: str, system: str) -> Texts:
    buffer, slices = json_texts(values, key)
    if not system:
        return render(buffer, slices)
    extra, instructions = json_texts(values, system)
    shifted = Slices(instructions.offset + len(buffer), instructions.length)
    return render(np.concatenate([buffer, extra]), slices, shifted)


def _event_messages(
    table: EventTable, source: sources.Events, wanted: NDArray[np.bool_]
) -> SpanTexts | None:
    """Return the conversations that are told one message an event."""
    default = dict(source.messages)
    found = table.of(*default)
    if not found:
        return None
    events = np.concatenate(list(found.values()))
    names = np.concatenate([np.full(len(rows), i) for i, rows in enumerate(found.values())])
    kept = wanted[table.owner[events]]
    events, names = events[kept], names[kept]
    if not len(events):
        return None
    order = np.argsort(events, kind="stable")
    events, names = events[order], names[order]
    values = table.values(events, _MESSAGE_KEYS)
    text = np.full(len(events), "", object)
    for key in ("content", "message", "gen_ai.event.content", "tool_calls"):
        buffer, slices = json_texts(values, key)
        rendered = render(buffer, slices)
        told = np.array(rendered.values.to_pylist(), object)
        # Tool calls stand beside the content; the others are names for the same.
        use = rendered.present & ((text == "") if key != "tool_calls" else np.True_)
        separator = np.where(use & (text != ""), "\n", "")
        text = np.where(use, text + separator + told, text)
    spoken = np.array(strings(values.buffer, _strings_only(values, "role")).to_pylist(), object)
    usual = np.array([default[name] for name in found], object)[names]
    role = np.where(spoken == None, usual, spoken)  # noqa: E711  # elementwise
    return _from_strings(table.owner[events].astype(np.int64), role, text)


def _strings_only(values: EventValues, key: str) -> Slices:
    slices = values.slices(key)
    is_text = values.kinds(key) == ValueType.STRING
    return Slices(slices.offset, np.where(is_text, slices.length, np.int32(0)))


def _from_strings(
    owner: NDArray[np.int64], roles: NDArray[np.object_], texts: NDArray[np.object_]
) -> SpanTexts:
    """Join messages that are given as strings."""
    role_values = pa.array(roles.tolist(), pa.string())
    text_values = pa.array(texts.tolist(), pa.string())

    def parts(values: pa.StringArray) -> tuple[NDArray[np.uint8], Slices]:
        bounds = string_bounds(values)
        return string_data(values), Slices(bounds[:-1].astype(np.int64), np.diff(bounds))

    return _conversations(owner, *parts(role_values), *parts(text_values))
