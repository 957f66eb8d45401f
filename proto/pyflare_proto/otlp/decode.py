"""`ExportTraceServiceRequest` bytes to `OtlpBatch`, and batches to smaller or larger ones.

Acceptance is that of the official parser, with two deliberate differences. Text
that is not UTF-8 is accepted here and repaired with U+FFFD where it becomes a
string, as one bad byte in a prompt must not cost the whole request. And a field
that protobuf would merge from two places is taken from the last one in two cases
that no encoder produces (see `wire`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pyflare_proto.errors import InvalidDataError
from pyflare_proto.otlp import spans as rows
from pyflare_proto.otlp import wire
from pyflare_proto.otlp.batch import AttributeTable, MessageTable, OtlpBatch, Slices
from pyflare_proto.otlp.jit import frozen
from pyflare_proto.otlp.keys import KeyTable

__all__ = ["KeyTable", "OtlpDecodeError", "concat", "count_spans", "decode", "select"]

_REASONS = {
    wire.TRUNCATED: "truncated inside a field",
    wire.VARINT: "a number is longer than protobuf allows",
    wire.BAD_TAG: "a field has the number 0 or an unknown wire type",
    wire.BAD_GROUP: "a group ends that was not begun",
    wire.TOO_DEEP: f"messages nest deeper than {wire.MAX_DEPTH} levels",
    wire.TOO_LONG: "a field is longer than the message around it",
}

_NO_KEYS = KeyTable(())


class OtlpDecodeError(InvalidDataError):
    """A payload is not an `ExportTraceServiceRequest`.

    Args:
        payload_index: which of the payloads given to `decode`.
        position: byte in that payload at which the damaged `ResourceSpans` begins.
        reason: what is wrong.
    """

    def __init__(self, payload_index: int, position: int, reason: str) -> None:
        super().__init__(
            f"payload {payload_index} is no OTLP trace request: {reason} "
            f"(in the field that begins at byte {position})",
            hint="send ExportTraceServiceRequest as protobuf, or JSON as application/json",
        )
        self.payload_index = payload_index
        self.position = position
        self.reason = reason


def _guess(size: int, requests: int) -> list[int]:
    """Return room for the spans of `size` bytes, by table of `spans`: over 40 bytes an attribute.

    Memory that stays unused is never touched, so that it costs next to nothing.
    """
    few = 16 + 4 * requests + size // 2048
    return [16 + size // 128, 64 + size // 40, 8 * few, few, few, few, few]


class _Tables:
    """Memory for the columns of all tables, with `room` rows each."""

    def __init__(self, room: Sequence[int]) -> None:
        self.context = np.zeros(rows.CONTEXT_WORDS, np.int64)
        self.context[rows.ROOM : rows.ROOM + rows.TABLES] = room
        begins = [0]
        for table, n in enumerate(room):
            for size in rows.COLUMNS[table]:
                begins.append(begins[-1] + (size * n + 7) // 8 * 8)
        self.context[rows.FIRST_COLUMN : rows.FIRST_COLUMN + len(begins) - 1] = begins[:-1]
        self.arena = np.empty(begins[-1], np.uint8)
        self._begins = begins

    def columns(self, table: int) -> Iterator[NDArray[np.uint8]]:
        """Yield the bytes of each column of a table, cut to the rows that were found."""
        n = int(self.context[table])
        first = sum(len(columns) for columns in rows.COLUMNS[:table])
        for i, size in enumerate(rows.COLUMNS[table]):
            begin = self._begins[first + i]
            yield self.arena[begin : begin + n * size]

    def attributes(self, table: int) -> AttributeTable:
        """Return one of the three attribute tables."""
        key, value, number, owner, key_size, key_id, index0, index1, size, kind = self.columns(
            table
        )
        return AttributeTable(
            owner=owner.view(np.int32),
            key=_slices(key, key_size),
            key_id=key_id.view(np.int32),
            index0=index0.view(np.int32),
            index1=index1.view(np.int32),
            type=kind,
            value=_slices(value, size),
            number=number.view(np.int64),
        )

    def messages(self, table: int) -> MessageTable:
        """Return the events or the links."""
        place, owner, size = self.columns(table)
        return MessageTable(owner.view(np.int32), _slices(place, size))


def _slices(offset: NDArray[np.uint8], size: NDArray[np.uint8]) -> Slices:
    return Slices(offset.view(np.int64), size.view(np.int32))


def _batch(buffer: NDArray[np.uint8], tables: _Tables) -> OtlpBatch:
    (
        start, end, name, message, state, name_size, message_size, state_size, request, flags,
        kind, code, resource, scope, valid, trace_id, span_id, parent_id, dropped,
    ) = tables.columns(rows.SPANS)  # fmt: skip
    scope_name, scope_version, name_bytes, version_bytes, scope_resource = tables.columns(
        rows.SCOPES
    )
    return OtlpBatch(
        buffer=buffer,
        request=request.view(np.int32),
        trace_id=trace_id.reshape(-1, 16),
        span_id=span_id.reshape(-1, 8),
        parent_span_id=parent_id.reshape(-1, 8),
        valid_ids=valid.view(np.int32) == 3,
        flags=flags.view(np.uint32),
        kind=kind.view(np.int32),
        start_time_ns=start.view(np.int64),
        end_time_ns=end.view(np.int64),
        status_code=code.view(np.int32),
        name=_slices(name, name_size),
        status_message=_slices(message, message_size),
        trace_state=_slices(state, state_size),
        resource_index=resource.view(np.int32),
        scope_index=scope.view(np.int32),
        scope_name=_slices(scope_name, name_bytes),
        scope_version=_slices(scope_version, version_bytes),
        scope_resource=scope_resource.view(np.int32),
        n_resources=int(tables.context[rows.RESOURCES]),
        attributes=tables.attributes(rows.ATTRIBUTES),
        resource_attributes=tables.attributes(rows.RESOURCE_ATTRIBUTES),
        scope_attributes=tables.attributes(rows.SCOPE_ATTRIBUTES),
        events=tables.messages(rows.EVENTS),
        links=tables.messages(rows.LINKS),
        dropped_counts=dropped.view(np.int32).reshape(-1, 3),
    )


def decode(payloads: Sequence[bytes], keys: KeyTable) -> OtlpBatch:
    """Decode export requests into one batch.

    All of the bytes are checked, nested values and events too: later passes over
    the batch cannot fail. One payload is not copied; several are joined.

    Args:
        payloads: `ExportTraceServiceRequest` messages; an empty one has no spans.
        keys: the attribute keys to recognise.

    Returns:
        The spans in wire order, `request` holding the payload's place in `payloads`.

    Raises:
        OtlpDecodeError: (an `InvalidDataError`) a payload is damaged, with its index.
    """
    data = payloads[0] if len(payloads) == 1 else b"".join(payloads)
    bounds = np.zeros(len(payloads) + 1, np.int64)
    np.cumsum([len(payload) for payload in payloads], out=bounds[1:])
    buffer = frozen(np.frombuffer(data, np.uint8))
    room = _guess(len(data), len(payloads))
    while True:
        tables = _Tables(room)
        context = tables.context
        code = rows.walk(buffer, bounds, keys.words, context, tables.arena)
        if code < 0:
            index = int(context[rows.BAD_REQUEST])
            position = int(context[rows.BAD_PLACE] - bounds[index])
            raise OtlpDecodeError(index, position, _REASONS[code])
        found = context[: rows.TABLES].tolist()
        if all(n <= limit for n, limit in zip(found, room, strict=True)):
            return _batch(buffer, tables)
        room = [max(n, limit) for n, limit in zip(found, room, strict=True)]


def count_spans(payload: bytes) -> int:
    """Return the number of spans in a request, all of which is checked.

    Raises:
        OtlpDecodeError: the payload is damaged.
    """
    return len(decode((payload,), _NO_KEYS))


def _ranges(
    owner: NDArray[np.int32], index: NDArray[np.int64], n: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return the rows of a table whose owners are `index`, in its order, and their new owners."""
    counts = np.bincount(owner, minlength=n)
    starts = np.cumsum(counts) - counts
    taken = counts[index]
    total = int(taken.sum())
    ends = np.cumsum(taken)
    shift = np.repeat(starts[index] - (ends - taken), taken)
    new_owner = np.repeat(np.arange(len(index), dtype=np.int32), taken)
    return np.arange(total) + shift, new_owner


def _take(slices: Slices, index: NDArray[np.int64]) -> Slices:
    return Slices(slices.offset[index], slices.length[index])


def _take_attributes(table: AttributeTable, index: NDArray[np.int64], n: int) -> AttributeTable:
    at, owner = _ranges(table.owner, index, n)
    return AttributeTable(
        owner=owner,
        key=_take(table.key, at),
        key_id=table.key_id[at],
        index0=table.index0[at],
        index1=table.index1[at],
        type=table.type[at],
        value=_take(table.value, at),
        number=table.number[at],
    )


def _take_messages(table: MessageTable, index: NDArray[np.int64], n: int) -> MessageTable:
    at, owner = _ranges(table.owner, index, n)
    return MessageTable(owner, _take(table.message, at))


def select(batch: OtlpBatch, keep: NDArray[np.bool_] | NDArray[np.integer]) -> OtlpBatch:
    """Return some spans of a batch, with their attributes, events and links.

    The buffer, the resources and the scopes stay as they are.

    Args:
        batch: the spans.
        keep: (n,) a mask, or row numbers in the order wanted.
    """
    n = len(batch)
    if keep.dtype == np.bool_:
        if bool(keep.all()):
            return batch
        index = np.flatnonzero(keep)
    else:
        index = keep.astype(np.int64)
    return dataclasses.replace(
        batch,
        request=batch.request[index],
        trace_id=batch.trace_id[index],
        span_id=batch.span_id[index],
        parent_span_id=batch.parent_span_id[index],
        valid_ids=batch.valid_ids[index],
        flags=batch.flags[index],
        kind=batch.kind[index],
        start_time_ns=batch.start_time_ns[index],
        end_time_ns=batch.end_time_ns[index],
        status_code=batch.status_code[index],
        name=_take(batch.name, index),
        status_message=_take(batch.status_message, index),
        trace_state=_take(batch.trace_state, index),
        resource_index=batch.resource_index[index],
        scope_index=batch.scope_index[index],
        attributes=_take_attributes(batch.attributes, index, n),
        events=_take_messages(batch.events, index, n),
        links=_take_messages(batch.links, index, n),
        dropped_counts=batch.dropped_counts[index],
    )


def _shifted(parts: Sequence[NDArray[np.int32]], by: Sequence[int]) -> NDArray[np.int32]:
    return np.concatenate([part + np.int32(shift) for part, shift in zip(parts, by, strict=True)])


def _join(parts: Sequence[Slices], by: Sequence[int]) -> Slices:
    offsets = [part.offset + shift for part, shift in zip(parts, by, strict=True)]
    return Slices(np.concatenate(offsets), np.concatenate([part.length for part in parts]))


def _join_attributes(
    parts: Sequence[AttributeTable], owners: Sequence[int], by: Sequence[int]
) -> AttributeTable:
    return AttributeTable(
        owner=_shifted([p.owner for p in parts], owners),
        key=_join([p.key for p in parts], by),
        key_id=np.concatenate([p.key_id for p in parts]),
        index0=np.concatenate([p.index0 for p in parts]),
        index1=np.concatenate([p.index1 for p in parts]),
        type=np.concatenate([p.type for p in parts]),
        value=_join([p.value for p in parts], by),
        number=np.concatenate([p.number for p in parts]),
    )


def _join_messages(
    parts: Sequence[MessageTable], owners: Sequence[int], by: Sequence[int]
) -> MessageTable:
    return MessageTable(
        _shifted([p.owner for p in parts], owners), _join([p.message for p in parts], by)
    )


def _starts(sizes: Sequence[int]) -> list[int]:
    return [0, *np.cumsum(sizes[:-1]).tolist()]


def concat(batches: Sequence[OtlpBatch]) -> OtlpBatch:
    """Return the spans of several batches as one; all must come from the same `KeyTable`.

    Requests are renumbered so that those of different batches stay apart.

    Args:
        batches: at least one.

    Raises:
        ValueError: `batches` is empty.
    """
    if not batches:
        raise ValueError("concat needs at least one batch")
    if len(batches) == 1:
        return batches[0]
    bs = batches
    by = _starts([len(b.buffer) for b in bs])
    spans = _starts([len(b) for b in bs])
    resources = _starts([b.n_resources for b in bs])
    scopes = _starts([len(b.scope_resource) for b in bs])
    requests = _starts([int(b.request.max(initial=-1)) + 1 for b in bs])
    return OtlpBatch(
        buffer=frozen(np.concatenate([b.buffer for b in bs])),
        request=_shifted([b.request for b in bs], requests),
        trace_id=np.concatenate([b.trace_id for b in bs]),
        span_id=np.concatenate([b.span_id for b in bs]),
        parent_span_id=np.concatenate([b.parent_span_id for b in bs]),
        valid_ids=np.concatenate([b.valid_ids for b in bs]),
        flags=np.concatenate([b.flags for b in bs]),
        kind=np.concatenate([b.kind for b in bs]),
        start_time_ns=np.concatenate([b.start_time_ns for b in bs]),
        end_time_ns=np.concatenate([b.end_time_ns for b in bs]),
        status_code=np.concatenate([b.status_code for b in bs]),
        name=_join([b.name for b in bs], by),
        status_message=_join([b.status_message for b in bs], by),
        trace_state=_join([b.trace_state for b in bs], by),
        resource_index=_shifted([b.resource_index for b in bs], resources),
        scope_index=_shifted([b.scope_index for b in bs], scopes),
        scope_name=_join([b.scope_name for b in bs], by),
        scope_version=_join([b.scope_version for b in bs], by),
        scope_resource=_shifted([b.scope_resource for b in bs], resources),
        n_resources=sum(b.n_resources for b in bs),
        attributes=_join_attributes([b.attributes for b in bs], spans, by),
        resource_attributes=_join_attributes([b.resource_attributes for b in bs], resources, by),
        scope_attributes=_join_attributes([b.scope_attributes for b in bs], scopes, by),
        events=_join_messages([b.events for b in bs], spans, by),
        links=_join_messages([b.links for b in bs], spans, by),
        dropped_counts=np.concatenate([b.dropped_counts for b in bs]),
    )
