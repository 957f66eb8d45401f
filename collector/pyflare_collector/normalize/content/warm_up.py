"""Compiles or loads every kernel of the content readers before the first span arrives."""

from __future__ import annotations

import numpy as np
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue

from pyflare_collector.normalize.attributes import AttributeIndex
from pyflare_collector.normalize.content import content_columns
from pyflare_collector.normalize.keys import KEYS
from pyflare_proto.otlp.decode import decode
from pyflare_proto.record import SPAN_TYPES

__all__ = ["warm_up"]

_VECTOR = AnyValue(array_value=ArrayValue(values=[AnyValue(double_value=0.5)]))
_TEXTS = {
    "gen_ai.output.messages": '[{"role":"assistant","parts":[{"type":"text","content":"a"}]}]',
    "gen_ai.prompt.0.role": "user",
    "gen_ai.prompt.0.content": "a",
    "gen_ai.prompt.0.tool_calls.0.name": "a",
}


def warm_up() -> None:
    """Read the content of one span that has something of every kind.

    Takes seconds where the kernels are not compiled yet, else well below one.
    """
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for kind in ("llm", "embedding"):
        span = spans.add(trace_id=b"t" * 16, span_id=b"s" * 8, name=kind)
        for key, text in _TEXTS.items():
            span.attributes.add(key=key, value=AnyValue(string_value=text))
        key = "embedding.embeddings.0.embedding.vector" if kind == "llm" else "ai.embedding"
        value = _VECTOR if kind == "llm" else AnyValue(string_value="[0.5]")
        span.attributes.add(key=key, value=value)
        event = span.events.add(name="exception")
        event.attributes.add(key="exception.type", value=AnyValue(string_value="a"))
    batch = decode([request.SerializeToString()], KEYS)
    types = np.array([SPAN_TYPES.index("llm"), SPAN_TYPES.index("embedding")], np.int8)
    content_columns(batch, AttributeIndex(batch, KEYS), types)
