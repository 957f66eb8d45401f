"""Batches for the sampler's tests, by way of real OTLP bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from pyflare_proto.otlp.batch import OtlpBatch
from pyflare_proto.otlp.decode import KeyTable, decode
from tests.otlp_payloads import any_value

START_NS = 1_760_000_000_000_000_000
STATUS = {"unset": 0, "ok": 1, "error": 2}


@dataclass
class S:
    """One span; `trace` is 16 bytes, or a number that is spread over them."""

    trace: bytes | int
    root: bool = True
    service: str = ""
    status: str = "unset"
    duration_ms: float = 0.0
    state: str = ""
    flags: int = 0
    attributes: dict[str, object] = field(default_factory=dict)


def trace_bytes(trace: bytes | int) -> bytes:
    """Return a trace id; numbers give ids that look random and differ."""
    if isinstance(trace, bytes):
        return trace
    return np.random.default_rng(trace).bytes(16)


def batch_of(spans: Sequence[S]) -> OtlpBatch:
    """Return spans as the decoder gives them, each under a resource of its own."""
    message = ExportTraceServiceRequest()
    for number, span in enumerate(spans):
        resource = message.resource_spans.add()
        if span.service:
            attribute = resource.resource.attributes.add(key="service.name")
            attribute.value.CopyFrom(any_value(span.service))
        added = resource.scope_spans.add().spans.add(
            trace_id=trace_bytes(span.trace),
            span_id=(number + 1).to_bytes(8),
            parent_span_id=b"" if span.root else b"\x09" * 8,
            trace_state=span.state,
            flags=span.flags,
            start_time_unix_nano=START_NS,
            end_time_unix_nano=START_NS + round(span.duration_ms * 1e6),
        )
        added.status.code = STATUS[span.status]
        for key, value in span.attributes.items():
            added.attributes.add(key=key).value.CopyFrom(any_value(value))
    return decode([message.SerializeToString()], KeyTable(()))


def random_ids(n: int, seed: int = 1) -> list[bytes]:
    """Return n random trace ids."""
    raw = np.random.default_rng(seed).bytes(16 * n)
    return [raw[i : i + 16] for i in range(0, 16 * n, 16)]


def ids_batch(ids: Sequence[bytes], *, root: bool = True, state: str = "") -> OtlpBatch:
    """Return one plain span per id."""
    return batch_of([S(trace, root=root, state=state) for trace in ids])


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the seconds on the clock."""
        return self.now
