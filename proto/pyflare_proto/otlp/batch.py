"""What the decoder makes of OTLP bytes: offset arrays over the request's own buffer.

Nothing is copied and no object is made per span: a string is an (offset, length)
pair into `OtlpBatch.buffer`, a number is its value. The arrays come from
`pyflare_proto.otlp.decode`; everything behind it works on whole arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["AttributeTable", "MessageTable", "OtlpBatch", "Slices", "ValueType"]


class ValueType:
    """Types of an `AnyValue`: the field number of its oneof, 0 where none is set."""

    EMPTY = 0
    STRING = 1
    BOOL = 2
    INT = 3
    DOUBLE = 4
    ARRAY = 5
    KVLIST = 6
    BYTES = 7


class Slices(NamedTuple):
    """Byte ranges of a buffer, one a row; a length of 0 is an absent or empty field."""

    offset: NDArray[np.int64]
    """(n,) first byte."""
    length: NDArray[np.int32]
    """(n,) bytes."""


@dataclass(frozen=True, slots=True)
class AttributeTable:
    """Attributes of many owners (spans, resources or scopes), owner by owner in wire order."""

    owner: NDArray[np.int32]
    """(m,) row of the span, resource or scope; not decreasing."""
    key: Slices
    """(m,) UTF-8 key."""
    key_id: NDArray[np.int32]
    """(m,) index into the key table given to `decode`, -1 for a key it does not list.

    A listed key may hold `#` for a decimal index (`gen_ai.prompt.#.content`): all
    keys of that form share its id, and `index0`, `index1`, ... hold the indices.
    """
    index0: NDArray[np.int32]
    """(m,) first decimal index in the key, -1 without one."""
    index1: NDArray[np.int32]
    """(m,) second decimal index in the key, -1 without one."""
    type: NDArray[np.uint8]
    """(m,) `ValueType`."""
    value: Slices
    """(m,) bytes of a string or bytes value, or the message of an array or kvlist."""
    number: NDArray[np.int64]
    """(m,) the integer, the boolean as 0 or 1, or the 64 bits of the double."""


@dataclass(frozen=True, slots=True)
class MessageTable:
    """Sub-messages of spans (events or links), span by span in wire order."""

    owner: NDArray[np.int32]
    """(m,) row of the span; not decreasing."""
    message: Slices
    """(m,) the encoded message."""


@dataclass(frozen=True, slots=True)
class OtlpBatch:
    """The spans of one or several export requests as offset arrays.

    Rows are in wire order. n is the number of spans, r of resources, s of scopes.
    """

    buffer: NDArray[np.uint8]
    """The requests' bytes, one after the other; every offset points into it."""
    request: NDArray[np.int32]
    """(n,) which of the requests given to `decode` the span came in."""
    trace_id: NDArray[np.uint8]
    """(n, 16)"""
    span_id: NDArray[np.uint8]
    """(n, 8)"""
    parent_span_id: NDArray[np.uint8]
    """(n, 8), zero for a root."""
    valid_ids: NDArray[np.bool_]
    """(n,) False where trace or span id has the wrong length or is all zero."""
    flags: NDArray[np.uint32]
    """(n,) W3C trace flags and OTLP's remote bits."""
    kind: NDArray[np.int32]
    """(n,) OTLP span kind."""
    start_time_ns: NDArray[np.int64]
    """(n,) nanoseconds since 1970, UTC; values over 2^63-1 are cut to it."""
    end_time_ns: NDArray[np.int64]
    """(n,) nanoseconds since 1970, UTC."""
    status_code: NDArray[np.int32]
    """(n,) OTLP status code."""
    name: Slices
    status_message: Slices
    trace_state: Slices
    resource_index: NDArray[np.int32]
    """(n,) row into the resources."""
    scope_index: NDArray[np.int32]
    """(n,) row into the scopes."""
    scope_name: Slices
    """(s,)"""
    scope_version: Slices
    """(s,)"""
    scope_resource: NDArray[np.int32]
    """(s,) the resource that a scope stands under."""
    n_resources: int
    attributes: AttributeTable
    """Attributes of the spans."""
    resource_attributes: AttributeTable
    scope_attributes: AttributeTable
    events: MessageTable
    links: MessageTable
    dropped_counts: NDArray[np.int32]
    """(n, 3) dropped attributes, events and links, as the emitter counted them."""

    def __len__(self) -> int:
        """Return the number of spans."""
        return len(self.kind)
