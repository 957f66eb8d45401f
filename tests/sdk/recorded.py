"""The SDK set up to keep finished spans in memory."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import pyflare

__all__ = ["Recorded"]


class Recorded:
    """What `pyflare.init(...)` without a collector records.

    Args:
        monkeypatch: switches the OTLP exporter off.
        **arguments: of `init`.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **arguments: Any) -> None:
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
        self.sdk = pyflare.init("test", **arguments)
        self._exporter = InMemorySpanExporter()
        self.sdk.tracer_provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def spans(self) -> list[ReadableSpan]:
        """Finished spans, in the order in which they finished."""
        return list(self._exporter.get_finished_spans())

    def one(self) -> ReadableSpan:
        """Return the only finished span."""
        (span,) = self.spans
        return span

    def named(self, name: str) -> ReadableSpan:
        """Return the finished span of that name."""
        (span,) = (span for span in self.spans if span.name == name)
        return span
