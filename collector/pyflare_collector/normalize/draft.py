"""The record of a batch in the making, which the resolvers and emitters fill and correct."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pyflare_collector.normalize.attributes import AttributeIndex, Categories
from pyflare_collector.normalize.documents import Documents
from pyflare_collector.normalize.resolve import Resolver
from pyflare_proto.otlp.batch import OtlpBatch

__all__ = ["Draft", "Usage"]


@dataclass(slots=True)
class Usage:
    """Tokens of n spans: (n,) int64, -1 where not known; None where no span has any."""

    counts: dict[str, NDArray[np.int64] | None]
    """By field: `input_tokens`, `output_tokens`, `total_tokens`, `cache_read_tokens`,
    `cache_write_tokens`, `cache_write_1h_tokens`, `cache_write_5m_tokens`,
    `reasoning_tokens`, `audio_input_tokens`, `audio_output_tokens`."""
    exclusive: NDArray[np.bool_]
    """(n,) the cache tokens are known to stand beside `input_tokens`, not inside."""
    flat: NDArray[np.bool_]
    """(n,) audio and reasoning tokens, too, stand beside input and output tokens."""
    inferred: NDArray[np.bool_]
    """(n,) a count was converted from an emitter's other meaning."""

    def column(self, field: str) -> NDArray[np.int64]:
        """Return the column of `field`, made when there is none, to be changed in place."""
        values = self.counts.get(field)
        if values is None:
            values = self.counts[field] = np.full(len(self.exclusive), -1, dtype=np.int64)
        return values

    def get(self, field: str) -> NDArray[np.int64]:
        """Return the column of `field` for reading."""
        values = self.counts.get(field)
        return np.full(len(self.exclusive), -1, dtype=np.int64) if values is None else values


@dataclass(slots=True)
class Draft:
    """What is known of a batch so far; every array has one row a span."""

    batch: OtlpBatch
    index: AttributeIndex
    documents: Documents
    resolver: Resolver
    span_type: NDArray[np.int8]
    """(n,) index into `SPAN_TYPES`, -1 while it is open."""
    usage: Usage
    categories: dict[str, Categories] = field(default_factory=dict)
    """Columns of few distinct values, by field."""
    numbers: dict[str, tuple[NDArray[np.float64], NDArray[np.bool_]] | None] = field(
        default_factory=dict
    )
    """Numbers with a fraction and where there is one, by field."""
