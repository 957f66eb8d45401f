"""Content of spans: what was asked and answered as text, errors, documents and vectors.

sources.py        where each field may come from, in order, as data
messages.py       what the text form of a conversation is; reads every shape
message_kernels.py, render.py
the same for the common shapes, compiled, many values at once
families.py       messages in indexed attributes and in span events
texts.py          first source wins
outcomes.py       finish reasons and errors
retrieval.py, vectors.py
retrieved documents, embedding vectors
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyflare_collector.normalize.attributes import AttributeIndex
from pyflare_collector.normalize.content.columns import Column
from pyflare_collector.normalize.content.sources import CONTENT_KEYS
from pyflare_proto.otlp.batch import OtlpBatch

__all__ = ["CONTENT_KEYS", "content_columns"]


def content_columns(
    batch: OtlpBatch, index: AttributeIndex, span_type: NDArray[np.int8]
) -> dict[str, Column]:
    """Read the content columns of a batch.

    Args:
        batch: n spans, decoded with a key table that lists `CONTENT_KEYS`.
        index: attributes of the batch.
        span_type: (n,) index into `SPAN_TYPES`, -1 for unknown.

    Returns:
        `input`, `output`, `finish_reasons`, `error_type` (as a dictionary of int32 to
        string), `error_message`, `retrieval_query`, `retrieval_documents` and
        `embedding`, each with n rows, null where nothing is told.
    """
    from pyflare_collector.normalize.content import sources
    from pyflare_collector.normalize.content.outcomes import error_columns, finish_reasons
    from pyflare_collector.normalize.content.retrieval import retrieval_documents
    from pyflare_collector.normalize.content.texts import Context, resolve
    from pyflare_collector.normalize.content.vectors import embeddings

    if batch is not index.batch:
        raise ValueError("the index is of another batch")
    context = Context(index, span_type)
    return {
        "input": resolve(context, sources.INPUT).array(),
        "output": resolve(context, sources.OUTPUT).array(),
        "finish_reasons": finish_reasons(context),
        **error_columns(context),
        "retrieval_query": resolve(context, sources.RETRIEVAL_QUERY).array(),
        "retrieval_documents": retrieval_documents(context),
        "embedding": embeddings(context),
    }
