"""`ExportTraceServiceRequest` bytes to `OtlpBatch`, and batches to smaller or larger ones.

Acceptance is that of the official parser, with two deliberate differences. Text
that is not UTF-8 is accepted here and repaired with U+FFFD where it becomes a
string, as one bad byte in a prompt must not cost the whole request. And a field
that protobuf would merge from two places is taken from the last one in two cases
that no encoder produces (see `wire`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

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


@dataclasses.dataclass
class _Room:
    """Rows to allocate for each table."""

    spans: int
    attributes: int
    resource_attributes: int
    scope_attributes: int
    scopes: int
    events: int
    links: int

    @classmethod
    def guess(cls, size: int, requests: int) -> _Room:
        """Return room that common spans of `size` bytes fit into: over 40 bytes an attribute."""
        few = 16 + 4 * requests + size // 2048
        return cls(16 + size // 128, 64 + size // 40, 8 * few, few, few, few, few)

    def grow(self, counts: NDArray[np.int64]) -> bool:
        """Make room for `counts` rows: whether there was too little."""
        grown = False
        for field, found in zip(dataclasses.fields(self), counts.tolist(), strict=False):
            if found > getattr(self, field.name):
                setattr(self, field.name, found)
                grown = True
        return grown

    def allocate(self) -> rows.Output:
        """Return uninitialised arrays of this size."""

        def attributes(n: int) -> rows.Attributes:
            return rows.Attributes(
                np.empty((3, n), np.int64), np.empty((6, n), np.int32), np.empty(n, np.uint8)
            )

        def messages(n: int) -> rows.Messages:
            return rows.Messages(np.empty((1, n), np.int64), np.empty((2, n), np.int32))

        return rows.Output(
            counts=np.zeros(10, np.int64),
            long=np.empty((5, self.spans), np.int64),
            short=np.empty((13, self.spans), np.int32),
            ids=np.empty((self.spans, 32), np.uint8),
            scope_long=np.empty((2, self.scopes), np.int64),
            scope_short=np.empty((3, self.scopes), np.int32),
            attributes=attributes(self.attributes),
            resource_attributes=attributes(self.resource_attributes),
            scope_attributes=attributes(self.scope_attributes),
            events=messages(self.events),
            links=messages(self.links),
        )


def _attribute_table(columns: rows.Attributes, n: int) -> AttributeTable:
    long, short = columns.long, columns.short
    return AttributeTable(
        owner=short[rows.OWNER, :n],
        key=Slices(long[rows.KEY, :n], short[rows.KEY_SIZE, :n]),
        key_id=short[rows.KEY_ID, :n],
        index0=short[rows.INDEX0, :n],
        index1=short[rows.INDEX1, :n],
        type=columns.kind[:n],
        value=Slices(long[rows.VALUE, :n], short[rows.VALUE_SIZE, :n]),
        number=long[rows.NUMBER, :n],
    )


def _message_table(columns: rows.Messages, n: int) -> MessageTable:
    return MessageTable(columns.short[0, :n], Slices(columns.long[0, :n], columns.short[1, :n]))


def _batch(buffer: NDArray[np.uint8], out: rows.Output) -> OtlpBatch:
    counts = out.counts
    n = int(counts[rows.N_SPANS])
    s = int(counts[rows.N_SCOPES])
    long = out.long[:, :n]
    short = out.short[:, :n]
    ids = out.ids[:n]
    scope_long, scope_short = out.scope_long[:, :s], out.scope_short[:, :s]
    dropped = short[rows.DROPPED_ATTRIBUTES : rows.DROPPED_LINKS + 1]
    return OtlpBatch(
        buffer=buffer,
        request=short[rows.REQUEST],
        trace_id=np.ascontiguousarray(ids[:, :16]),
        span_id=np.ascontiguousarray(ids[:, 16:24]),
        parent_span_id=np.ascontiguousarray(ids[:, 24:]),
        valid_ids=short[rows.VALID] == 3,
        flags=short[rows.FLAGS].view(np.uint32),
        kind=short[rows.KIND],
        start_time_ns=long[rows.START],
        end_time_ns=long[rows.END],
        status_code=short[rows.CODE],
        name=Slices(long[rows.NAME], short[rows.NAME_SIZE]),
        status_message=Slices(long[rows.MESSAGE], short[rows.MESSAGE_SIZE]),
        trace_state=Slices(long[rows.STATE], short[rows.STATE_SIZE]),
        resource_index=short[rows.RESOURCE],
        scope_index=short[rows.SCOPE],
        scope_name=Slices(scope_long[rows.SCOPE_NAME], scope_short[rows.SCOPE_NAME_SIZE]),
        scope_version=Slices(scope_long[rows.SCOPE_VERSION], scope_short[rows.SCOPE_VERSION_SIZE]),
        scope_resource=scope_short[rows.SCOPE_RESOURCE],
        n_resources=int(counts[rows.N_RESOURCES]),
        attributes=_attribute_table(out.attributes, int(counts[rows.N_ATTRIBUTES])),
        resource_attributes=_attribute_table(
            out.resource_attributes, int(counts[rows.N_RESOURCE_ATTRIBUTES])
        ),
        scope_attributes=_attribute_table(
            out.scope_attributes, int(counts[rows.N_SCOPE_ATTRIBUTES])
        ),
        events=_message_table(out.events, int(counts[rows.N_EVENTS])),
        links=_message_table(out.links, int(counts[rows.N_LINKS])),
        dropped_counts=np.ascontiguousarray(dropped.T),
    )


_TABLES = [
    rows.N_SPANS,
    rows.N_ATTRIBUTES,
    rows.N_RESOURCE_ATTRIBUTES,
    rows.N_SCOPE_ATTRIBUTES,
    rows.N_SCOPES,
    rows.N_EVENTS,
    rows.N_LINKS,
]  # in the order of `_Room`


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
    room = _Room.guess(len(data), len(payloads))
    while True:
        out = room.allocate()
        code = rows.walk(buffer, bounds, out, keys.arrays)
        if code < 0:
            index = int(out.counts[rows.BAD_REQUEST])
            position = int(out.counts[rows.BAD_AT] - bounds[index])
            raise OtlpDecodeError(index, position, _REASONS[code])
        if not room.grow(out.counts[_TABLES]):
            return _batch(buffer, out)


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


def select(
    batch: OtlpBatch, keep: NDArray[np.bool_] | NDArray[np.integer]
) -> OtlpBatch:
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
    return np.concatenate(
        [part + np.int32(shift) for part, shift in zip(parts, by, strict=True)]
    )


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
        resource_attributes=_join_attributes(
            [b.resource_attributes for b in bs], resources, by
        ),
        scope_attributes=_join_attributes([b.scope_attributes for b in bs], scopes, by),
        events=_join_messages([b.events for b in bs], spans, by),
        links=_join_messages([b.links for b in bs], spans, by),
        dropped_counts=np.concatenate([b.dropped_counts for b in bs]),
    )
