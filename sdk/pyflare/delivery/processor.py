"""What OpenTelemetry calls when spans start and end."""

from __future__ import annotations

import sys

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import ConsoleSpanExporter

from pyflare.context import attributes_of
from pyflare.delivery.encoding import Rewrite
from pyflare.delivery.pipeline import Pipeline

__all__ = ["ConsoleProcessor", "PyFlareProcessor"]


class PyFlareProcessor(SpanProcessor):
    """Puts the context's attributes on spans that start, and delivers those that end.

    Args:
        pipeline: delivers; None delivers nothing.
        rewrite: says which spans of a foreign provider are delivered; None: all.
        default_limit_seconds: of a shutdown that is given none.
    """

    def __init__(
        self,
        pipeline: Pipeline | None,
        rewrite: Rewrite | None = None,
        default_limit_seconds: float = 5.0,
    ) -> None:
        self.pipeline = pipeline
        self._rewrite = rewrite
        self._limit = default_limit_seconds

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Put session, user, team, feature and prompt version on a span."""
        attributes = attributes_of(parent_context)
        if attributes:
            span.set_attributes(attributes)

    def on_end(self, span: ReadableSpan) -> None:
        """Take a finished span; never waits."""
        context = span.context
        if context is None or not context.trace_flags.sampled or self.pipeline is None:
            return
        if self._rewrite is None or self._rewrite.keeps(span):
            self.pipeline.put(span)

    def shutdown(self) -> None:
        """Deliver what waits, within the time limit of the shutdown, and stop."""
        if self.pipeline is not None:
            self.pipeline.shutdown(self._limit)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Deliver what waits; return whether all of it was."""
        return self.pipeline is None or self.pipeline.flush(timeout_millis / 1000)


class ConsoleProcessor(PyFlareProcessor):
    """Prints spans on stdout as they end: `OTEL_TRACES_EXPORTER=console`."""

    def __init__(self) -> None:
        super().__init__(None)
        self._exporter = ConsoleSpanExporter(out=sys.stdout)

    def on_end(self, span: ReadableSpan) -> None:
        """Print a finished span."""
        if span.context is not None and span.context.trace_flags.sampled:
            self._exporter.export((span,))
