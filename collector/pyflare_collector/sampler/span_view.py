"""One span as the sampler sees it, for decisions outside a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from pyflare_proto.errors import InvalidDataError
from pyflare_proto.otlp.batch import AttributeTable, MessageTable, OtlpBatch, Slices, ValueType
from pyflare_proto.record import STATUS_CODES

__all__ = ["SpanView"]

Scalar = str | bool | int | float


@dataclass(frozen=True, slots=True)
class SpanView:
    """What a sampling decision can depend on."""

    trace_id: str
    """32 hexadecimal digits."""
    parent_span_id: str = ""
    """16 hexadecimal digits; empty for a root."""
    service_name: str = ""
    status_code: str = "unset"
    """unset, ok or error."""
    duration_ms: float = 0.0
    """0 or more."""
    attributes: Mapping[str, Scalar] = field(default_factory=dict)
    """Span attributes; those that are neither text, truth value nor number are ignored."""
    flags: int = 0
    """W3C trace flags, and OTLP's remote bits."""
    trace_state: str = ""
    """W3C tracestate."""
    cost_nano_usd: int | None = None
    """Cost in 1e-9 US dollars, None when unknown."""

    def batch(self) -> OtlpBatch:
        """Return the span as a batch of one.

        Raises:
            InvalidDataError: an id is not hexadecimal or has the wrong length, or the
                status is none of the three.
        """
        trace_id = _id(self.trace_id, 16, "trace_id")
        parent = _id(self.parent_span_id or "0" * 16, 8, "parent_span_id")
        if self.status_code not in STATUS_CODES:
            raise InvalidDataError(f"status_code is {self.status_code!r}", hint="unset, ok, error")
        text = _Text()
        state = text.add(self.trace_state)
        attributes = text.table(self.attributes)
        resource = text.table({"service.name": self.service_name} if self.service_name else {})
        nothing = text.table({})
        empty = Slices(np.zeros(0, np.int64), np.zeros(0, np.int32))
        one = Slices(np.zeros(1, np.int64), np.zeros(1, np.int32))
        messages = MessageTable(np.zeros(0, np.int32), empty)
        zero = np.zeros(1, np.int32)
        return OtlpBatch(
            buffer=np.frombuffer(bytes(text.buffer), dtype=np.uint8),
            request=zero,
            trace_id=trace_id,
            span_id=np.ones((1, 8), np.uint8),
            parent_span_id=parent,
            valid_ids=np.array([bool(trace_id.any())]),
            flags=np.array([self.flags & 0xFFFFFFFF], dtype=np.uint32),
            kind=zero,
            start_time_ns=np.zeros(1, np.int64),
            end_time_ns=np.array([round(self.duration_ms * 1e6)], dtype=np.int64),
            status_code=np.array([STATUS_CODES.index(self.status_code)], dtype=np.int32),
            name=one,
            status_message=one,
            trace_state=Slices(np.array([state[0]], np.int64), np.array([state[1]], np.int32)),
            resource_index=zero,
            scope_index=zero,
            scope_name=one,
            scope_version=one,
            scope_resource=zero,
            n_resources=1,
            attributes=attributes,
            resource_attributes=resource,
            scope_attributes=nothing,
            events=messages,
            links=messages,
            dropped_counts=np.zeros((1, 3), np.int32),
        )


def _id(text: str, size: int, name: str) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != size:
        raise InvalidDataError(f"{name} is {text!r}", hint=f"{2 * size} hexadecimal digits")
    return np.frombuffer(raw, dtype=np.uint8).reshape(1, size).copy()


class _Text:
    """A buffer of wire bytes that grows, and tables over it."""

    def __init__(self) -> None:
        self.buffer = bytearray()

    def add(self, text: str) -> tuple[int, int]:
        raw = text.encode("utf-8", errors="replace")
        self.buffer += raw
        return len(self.buffer) - len(raw), len(raw)

    def table(self, attributes: Mapping[str, Scalar]) -> AttributeTable:
        keys, values, kinds, numbers = [], [], [], []
        for key, value in attributes.items():
            kind, number, text = _scalar(value)
            if kind == ValueType.EMPTY:
                continue
            keys.append(self.add(key))
            values.append(self.add(text))
            kinds.append(kind)
            numbers.append(number)
        n = len(keys)
        none = np.full(n, -1, dtype=np.int32)
        return AttributeTable(
            owner=np.zeros(n, dtype=np.int32),
            key=_slices(keys),
            key_id=none,
            index0=none,
            index1=none,
            type=np.array(kinds, dtype=np.uint8),
            value=_slices(values),
            number=np.array(numbers, dtype=np.int64),
        )


def _scalar(value: Scalar) -> tuple[int, int, str]:
    if isinstance(value, bool):
        return ValueType.BOOL, int(value), ""
    if isinstance(value, int):
        return ValueType.INT, min(max(value, -(2**63)), 2**63 - 1), ""
    if isinstance(value, float):
        return ValueType.DOUBLE, int(np.float64(value).view(np.int64)), ""
    if isinstance(value, str):
        return ValueType.STRING, 0, value
    return ValueType.EMPTY, 0, ""


def _slices(places: list[tuple[int, int]]) -> Slices:
    return Slices(
        np.array([offset for offset, _ in places], dtype=np.int64),
        np.array([length for _, length in places], dtype=np.int32),
    )
