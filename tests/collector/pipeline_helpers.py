"""Stand-ins for the parts before and behind the stages under test."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from pyflare_collector.transform import Accepted, Transformed
from pyflare_proto.otlp.batch import OtlpBatch
from pyflare_proto.record import COLUMNS, arrow_schema

START_NS = 1_760_000_000_000_000_000


def request(first: int, count: int, *, bad_ids: int = 0, text_bytes: int = 0) -> bytes:
    """Return a request of `count` spans numbered from `first`, the last `bad_ids` without ids.

    A span's number is its span id and its trace id.
    """
    message = ExportTraceServiceRequest()
    spans = message.resource_spans.add().scope_spans.add().spans
    for number in range(first, first + count):
        bad = number >= first + count - bad_ids
        span = spans.add(
            trace_id=b"" if bad else number.to_bytes(16, "big"),
            span_id=number.to_bytes(8, "big"),
            name=f"span {number}",
            start_time_unix_nano=START_NS + number,
            end_time_unix_nano=START_NS + number + 1000,
        )
        if text_bytes:
            span.attributes.add(key="text").value.string_value = "x" * text_bytes
    return bytes(message.SerializeToString())


def numbers(batch: OtlpBatch) -> NDArray[np.int64]:
    """Return the numbers of the spans of `request`."""
    return batch.span_id.copy().view(">i8").ravel().astype(np.int64)


class PlainTransform:
    """Makes records with ids, names and times only; knows the spans of its lifetime.

    `fail` is called with each row group's numbers and may raise.
    """

    def __init__(self, fail: Callable[[list[int]], None] = lambda _: None) -> None:
        self.seen: set[int] = set()
        self.resets = 0
        self.fail = fail
        self.published: Callable[[], set[int]] = set

    def __call__(self, items: Sequence[Accepted], /) -> Transformed:
        """Return the records of the spans that have not been seen."""
        own = np.concatenate([numbers(item.batch) for item in items])
        self.fail(own.tolist())
        probability = np.concatenate([item.probability for item in items])
        fresh = []
        for row, number in enumerate(own.tolist()):
            if number not in self.seen:
                fresh.append(row)
                self.seen.add(number)
        return Transformed(table_of(own[fresh], probability[fresh]), len(own) - len(fresh))

    def reset(self) -> None:
        """Remember exactly what is published."""
        self.resets += 1
        self.seen = set(self.published())


def table_of(own: NDArray[np.int64], probability: NDArray[np.float64]) -> pa.Table:
    """Return records of the spans with these numbers."""
    n = len(own)
    values: dict[str, object] = {
        "trace_id": [f"{number:032x}" for number in own.tolist()],
        "span_id": [f"{number:016x}" for number in own.tolist()],
        "start_time": own + START_NS,
        "end_time": own + START_NS + 1000,
        "duration_ms": np.full(n, 0.001),
        "sampling_probability": probability,
    }
    schema = arrow_schema()
    columns = []
    for column in COLUMNS:
        kind = schema.field(column.name).type
        if column.name in values:
            columns.append(pa.array(values[column.name], type=kind))
        elif column.nullable:
            columns.append(pa.nulls(n, kind))
        else:
            columns.append(pa.array(["{}"] * n, type=kind))
    return pa.Table.from_arrays(columns, schema=schema)


@dataclass(frozen=True)
class Kept:
    """What a stand-in sampler decides."""

    keep: NDArray[np.bool_]
    probability: NDArray[np.float64]


class EveryNth:
    """Keeps the spans whose number is a multiple of `n`, with probability 1/n."""

    def __init__(self, n: int = 1) -> None:
        self.n = n

    def sample(self, batch: OtlpBatch, cost_nano_usd: object = None) -> Kept:
        """Return the decision."""
        del cost_nano_usd
        return Kept(numbers(batch) % self.n == 0, np.full(len(batch), 1 / self.n))


class Gate:
    """Lets a thread wait until it is opened, and says how many wait."""

    def __init__(self, *, is_open: bool = True) -> None:
        self._event = threading.Event()
        if is_open:
            self._event.set()

    def open(self) -> None:
        """Let everyone through."""
        self._event.set()

    def close(self) -> None:
        """Let no one through."""
        self._event.clear()

    def __call__(self, *_: object) -> None:
        """Wait until the gate is open."""
        if not self._event.wait(30):
            raise TimeoutError("the gate stayed closed")


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for another thread to get somewhere; fail when it never does."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "the other thread did not get there"
        time.sleep(0.001)


def published_numbers(spans: Path) -> list[int]:
    """Return the numbers of all spans in published files, sorted, repeated ones repeated."""
    found: list[int] = []
    for path in sorted(spans.glob("*.parquet")):
        table = pq.read_table(path, columns=["span_id"])
        found += [int(text, 16) for text in table["span_id"].to_pylist()]
    return sorted(found)
