"""The official protobuf parser as the oracle of the decoder, and bytes to try both on."""

from __future__ import annotations

import random
import struct
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from pyflare_proto.otlp.batch import AttributeTable, MessageTable, OtlpBatch, Slices, ValueType

__all__ = [
    "ArrayValue",
    "Event",
    "KeyValueList",
    "Link",
    "Request",
    "accepts",
    "field",
    "mutated",
    "random_wire",
    "rows_of_batch",
    "rows_of_request",
    "varint",
]


def _classes() -> dict[str, type[Any]]:
    """Return the OTLP messages with `bytes` in the place of every `string`.

    The wire form is the same, but the parser does not refuse text that is not UTF-8,
    which is the one thing that the decoder accepts on purpose.
    """
    pool = descriptor_pool.DescriptorPool()
    for module in (common_pb2, resource_pb2, trace_pb2, trace_service_pb2):
        file = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        for message in file.message_type:
            for inner in (message, *message.nested_type):
                for item in inner.field:
                    if item.type == descriptor_pb2.FieldDescriptorProto.TYPE_STRING:
                        item.type = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
        pool.Add(file)
    names = {
        "Request": "collector.trace.v1.ExportTraceServiceRequest",
        "Event": "trace.v1.Span.Event",
        "Link": "trace.v1.Span.Link",
        "ArrayValue": "common.v1.ArrayValue",
        "KeyValueList": "common.v1.KeyValueList",
    }
    return {
        short: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"opentelemetry.proto.{name}")
        )
        for short, name in names.items()
    }


_ALL = _classes()
Request, Event, Link = _ALL["Request"], _ALL["Event"], _ALL["Link"]
ArrayValue, KeyValueList = _ALL["ArrayValue"], _ALL["KeyValueList"]


def accepts(payload: bytes) -> bool:
    """Return whether the official parser takes `payload` for a request."""
    try:
        Request.FromString(payload)
    except DecodeError:
        return False
    return True


def _value_of_message(value: Message) -> object:
    kind = value.WhichOneof("value")
    if kind is None or kind == "string_value_strindex":
        return ValueType.EMPTY, None
    inner = getattr(value, kind)
    if kind == "double_value":
        inner = struct.pack("<d", inner)
    return value.DESCRIPTOR.fields_by_name[kind].number, inner


def _attributes_of_message(pairs: Any) -> list[object]:
    return [(pair.key, _value_of_message(pair.value)) for pair in pairs]


def rows_of_request(request: Any, number: int = 0) -> list[dict[str, object]]:
    """Return all that a parsed request says, span by span."""
    rows = []
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                good_trace = len(span.trace_id) == 16 and any(span.trace_id)
                good_span = len(span.span_id) == 8 and any(span.span_id)
                dropped = (
                    span.dropped_attributes_count,
                    span.dropped_events_count,
                    span.dropped_links_count,
                )
                rows.append(
                    {
                        "request": number,
                        "resource": _attributes_of_message(resource.resource.attributes),
                        "scope_name": scope.scope.name,
                        "scope_version": scope.scope.version,
                        "scope": _attributes_of_message(scope.scope.attributes),
                        "trace_id": span.trace_id if good_trace else bytes(16),
                        "span_id": span.span_id if good_span else bytes(8),
                        "parent": span.parent_span_id
                        if len(span.parent_span_id) == 8
                        else bytes(8),
                        "valid": good_trace and good_span,
                        "flags": span.flags,
                        "kind": span.kind,
                        "start": min(span.start_time_unix_nano, 2**63 - 1),
                        "end": min(span.end_time_unix_nano, 2**63 - 1),
                        "code": span.status.code,
                        "name": span.name,
                        "message": span.status.message,
                        "state": span.trace_state,
                        "dropped": [min(count, 2**31 - 1) for count in dropped],
                        "attributes": _attributes_of_message(span.attributes),
                        "events": list(span.events),
                        "links": list(span.links),
                    }
                )
    return rows


def _texts(batch: OtlpBatch, slices: Slices) -> list[bytes]:
    data = batch.buffer.tobytes()
    return [
        data[at : at + size]
        for at, size in zip(slices.offset.tolist(), slices.length.tolist(), strict=True)
    ]


def _attributes(batch: OtlpBatch, table: AttributeTable, n: int) -> list[list[object]]:
    found: list[list[object]] = [[] for _ in range(n)]
    assert np.all(np.diff(table.owner) >= 0)
    for owner, key, kind, text, number in zip(
        table.owner.tolist(),
        _texts(batch, table.key),
        table.type.tolist(),
        _texts(batch, table.value),
        table.number.tolist(),
        strict=True,
    ):
        value: object = None
        if kind in (ValueType.STRING, ValueType.BYTES):
            value = text
        elif kind == ValueType.BOOL:
            value = bool(number)
        elif kind == ValueType.INT:
            value = number
        elif kind == ValueType.DOUBLE:
            value = struct.pack("<q", number)
        elif kind == ValueType.ARRAY:
            value = ArrayValue.FromString(text)
        elif kind == ValueType.KVLIST:
            value = KeyValueList.FromString(text)
        found[owner].append((key, (kind, value)))
    return found


def _messages(batch: OtlpBatch, table: MessageTable, cls: Any) -> list[list[object]]:
    found: list[list[object]] = [[] for _ in range(len(batch))]
    for owner, text in zip(table.owner.tolist(), _texts(batch, table.message), strict=True):
        found[owner].append(cls.FromString(text))
    return found


def rows_of_batch(batch: OtlpBatch) -> list[dict[str, object]]:
    """Return all that a decoded batch says, span by span, as `rows_of_request` does."""
    resources = _attributes(batch, batch.resource_attributes, batch.n_resources)
    scopes = _attributes(batch, batch.scope_attributes, len(batch.scope_resource))
    scope_of, resource_of = batch.scope_index.tolist(), batch.resource_index.tolist()
    scope_names, scope_versions = (
        _texts(batch, batch.scope_name),
        _texts(batch, batch.scope_version),
    )
    assert batch.scope_resource[batch.scope_index].tolist() == resource_of
    columns = {
        "request": batch.request.tolist(),
        "resource": [resources[i] for i in resource_of],
        "scope_name": [scope_names[i] for i in scope_of],
        "scope_version": [scope_versions[i] for i in scope_of],
        "scope": [scopes[i] for i in scope_of],
        "trace_id": [row.tobytes() for row in batch.trace_id],
        "span_id": [row.tobytes() for row in batch.span_id],
        "parent": [row.tobytes() for row in batch.parent_span_id],
        "valid": batch.valid_ids.tolist(),
        "flags": batch.flags.tolist(),
        "kind": batch.kind.tolist(),
        "start": batch.start_time_ns.tolist(),
        "end": batch.end_time_ns.tolist(),
        "code": batch.status_code.tolist(),
        "name": _texts(batch, batch.name),
        "message": _texts(batch, batch.status_message),
        "state": _texts(batch, batch.trace_state),
        "dropped": batch.dropped_counts.tolist(),
        "attributes": _attributes(batch, batch.attributes, len(batch)),
        "events": _messages(batch, batch.events, Event),
        "links": _messages(batch, batch.links, Link),
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def varint(value: int) -> bytes:
    """Return a number from 0 to 2^64-1 as a varint."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, content: bytes | int, wire: int | None = None) -> bytes:
    """Return a field: bytes with their length, or a number as a varint; `wire` overrides."""
    if isinstance(content, int):
        return varint(number << 3 | (wire or 0)) + varint(content)
    if wire is None:
        return varint(number << 3 | 2) + varint(len(content)) + content
    return varint(number << 3 | wire) + content


def random_wire(rng: random.Random, depth: int = 0) -> bytes:
    """Return fields at random that are mostly sound, with the numbers that OTLP uses."""
    out = bytearray()
    for _ in range(rng.randrange(4)):
        number = rng.choice((1, 1, 2, 2, 3, 4, 5, 6, 7, 9, 9, 11, 13, 15, 16, 99, 2**29 - 1))
        wire = rng.choice((2, 2, 2, 2, 2, 0, 1, 3, 5))
        if rng.random() < 0.01:
            wire = rng.choice((4, 6, 7))
        if wire == 2:
            inner = random_wire(rng, depth + 1) if depth < 12 else b""
            if rng.random() < 0.1:
                inner = rng.randbytes(rng.randrange(12))
            out += field(number, inner)
        elif wire == 0:
            out += field(number, rng.getrandbits(rng.choice((1, 7, 14, 32, 64))))
        elif wire == 3:
            out += field(number, random_wire(rng, depth + 1) if depth < 12 else b"", 3)
            out += field(number if rng.random() < 0.9 else number + 1, b"", 4)
        else:
            out += field(number, rng.randbytes({1: 8, 5: 4}.get(wire, 0)), wire)
    return bytes(out)


def mutated(rng: random.Random, payload: bytes) -> bytes:
    """Return `payload` with one to three bytes changed, put in or taken out."""
    data = bytearray(payload)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(data) + 1)
        how = rng.randrange(4)
        if how == 0:
            data[at:at] = rng.randbytes(rng.randrange(1, 4))
        elif how == 1:
            del data[at : at + rng.randrange(1, 4)]
        elif at < len(data):
            data[at] = rng.randrange(256) if how == 2 else data[at] ^ 1 << rng.randrange(8)
    return bytes(data)
