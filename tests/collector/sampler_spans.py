"""Makes batches for the sampler: many bare ids at once, or a few spans with all they carry."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from pyflare_collector.normalize import KEYS
from pyflare_collector.sampler import SpanView
from pyflare_proto.otlp.batch import OtlpBatch, Slices
from pyflare_proto.otlp.decode import decode
from tests.otlp_payloads import START_NS, key_values

__all__ = ["IdFamily", "TestSpan", "batch_of", "counter_ids", "id_families", "ids_batch", "span"]


@dataclass(frozen=True)
class TestSpan:
    """A span to be, as far as a sampler looks at it."""

    __test__ = False

    trace: bytes
    parent: int = 0
    service: str = "checkout"
    error: bool = False
    duration_ms: float = 1.0
    state: str = ""
    flags: int = 0
    attributes: Mapping[str, object] = field(default_factory=dict)


def span(trace: int | bytes = 1, **other: object) -> TestSpan:
    """Return a span of a trace whose id is random-looking for each number."""
    if isinstance(trace, int):
        trace = np.random.default_rng(trace).bytes(16)
    return TestSpan(trace, **other)  # type: ignore[arg-type]  # the caller names the fields


def batch_of(spans: Sequence[TestSpan]) -> OtlpBatch:
    """Return the spans, encoded by the official classes and decoded by ours."""
    message = ExportTraceServiceRequest()
    for number, item in enumerate(spans, start=1):
        resource = message.resource_spans.add()
        resource.resource.attributes.extend(key_values({"service.name": item.service}))
        out = resource.scope_spans.add().spans.add(
            trace_id=item.trace,
            span_id=number.to_bytes(8, "big"),
            parent_span_id=item.parent.to_bytes(8, "big") if item.parent else b"",
            trace_state=item.state,
            flags=item.flags,
            start_time_unix_nano=START_NS,
            end_time_unix_nano=START_NS + round(item.duration_ms * 1e6),
        )
        out.attributes.extend(key_values(dict(item.attributes)))
        if item.error:
            out.status.code = 2
    return decode([message.SerializeToString()], KEYS)


def ids_batch(ids: NDArray[np.uint8]) -> OtlpBatch:
    """Return bare root spans with (n, 16) trace ids, all of one service, without flags."""
    one = SpanView("ab" * 16, service_name="checkout").batch()
    n = len(ids)
    zero32, zero64 = np.zeros(n, np.int32), np.zeros(n, np.int64)
    nothing = Slices(zero64, zero32)
    span_id = np.arange(1, n + 1, dtype=">u8").view(np.uint8).reshape(n, 8)
    return dataclasses.replace(
        one,
        request=zero32,
        trace_id=np.ascontiguousarray(ids),
        span_id=span_id,
        parent_span_id=np.zeros((n, 8), np.uint8),
        valid_ids=np.ones(n, np.bool_),
        flags=np.zeros(n, np.uint32),
        kind=zero32,
        start_time_ns=zero64,
        end_time_ns=zero64,
        status_code=zero32,
        name=nothing,
        status_message=nothing,
        trace_state=nothing,
        resource_index=zero32,
        scope_index=zero32,
        dropped_counts=np.zeros((n, 3), np.int32),
    )


def counter_ids(n: int, prefix: bytes = b"", *, first: int = 1) -> NDArray[np.uint8]:
    """Return (n, 16) ids: the prefix, then a big-endian counter."""
    ids = np.zeros((n, 16), np.uint8)
    ids[:, 8:] = np.arange(first, first + n, dtype=">u8").view(np.uint8).reshape(n, 8)
    ids[:, : len(prefix)] = np.frombuffer(prefix, np.uint8)
    return ids


IdFamily = tuple[str, NDArray[np.uint8]]


def id_families(n: int) -> list[IdFamily]:
    """Return the families of trace ids of the reference, and two more; (n, 16) each."""
    rng = np.random.default_rng(20261123)
    random = rng.integers(0, 256, (n, 16)).astype(np.uint8)
    epoch = random.copy()
    epoch[:, :4] = np.frombuffer((1_760_000_000).to_bytes(4, "big"), np.uint8)
    narrow = counter_ids(n, bytes(rng.integers(1, 256, 12).tolist()))
    return [
        ("random", random),
        ("fixed prefix, counter", counter_ids(n, b"\x5f\x1a\x9c\x07\xe2\x44\xb1\x80")),
        ("counter", counter_ids(n)),
        ("epoch, 96 random bits", epoch),
        ("prefix of 12 bytes, counter", counter_ids(n, bytes(range(200, 212)))),
        ("digits in order, counter", counter_ids(n, bytes.fromhex("0123456789abcdef01234567"))),
        ("counter from 10^9", counter_ids(n, b"\x5f\x1a\x9c\x07\xe2\x44\xb1\x80", first=10**9)),
        ("counter in both halves", np.concatenate([narrow[:, 8:], counter_ids(n)[:, 8:]], axis=1)),
    ]
