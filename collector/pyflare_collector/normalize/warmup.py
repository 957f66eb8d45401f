"""Compiles or loads the kernels of normalisation before the first span arrives."""

from __future__ import annotations

import numpy as np
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from pyflare_collector.normalize.attributes import AttributeIndex
from pyflare_collector.normalize.content.warm_up import warm_up as warm_up_content
from pyflare_collector.normalize.conventions import TEXT_FIELDS
from pyflare_collector.normalize.documents import Documents
from pyflare_collector.normalize.keys import KEYS
from pyflare_collector.normalize.resolve import Resolver, root_rows
from pyflare_collector.normalize.tokens import plain_usage, read_documents, settle
from pyflare_proto.otlp.decode import decode

__all__ = ["warm_up"]


def warm_up() -> None:
    """Resolve one span that has a text, a count and a usage document, and read its content.

    Takes seconds where the kernels are not compiled yet, else well below one.
    """
    warm_up_content()
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add(name="warm-up")
    for key, text in (
        ("user.id", "u"),
        ("metadata", '{"session_id": "s"}'),
        ("gen_ai.usage.output_tokens", "1"),
        ("gen_ai.usage.raw", '{"input_tokens": 1}'),
    ):
        span.attributes.add(key=key, value=AnyValue(string_value=text))
    batch = decode([request.SerializeToString()], KEYS)
    index = AttributeIndex(batch, KEYS)
    documents = Documents(index)
    resolver = Resolver(index, documents)
    for name in ("user_id", "session_id"):
        resolver.text(TEXT_FIELDS[name]).array(batch.buffer)
    usage = plain_usage(resolver)
    everything = np.ones(len(batch), dtype=np.bool_)
    read_documents(usage, documents, everything)
    settle(usage, everything)
    root_rows(batch.trace_id, everything)
