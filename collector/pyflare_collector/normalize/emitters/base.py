"""What an emitter with ways of its own brings along."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyflare_collector.normalize.draft import Draft
from pyflare_proto.otlp.columns import distinct_strings

__all__ = ["Emitter", "run_types", "run_values", "spans_of"]

Step = Callable[[Draft, NDArray[np.bool_]], None]


@dataclass(frozen=True, slots=True)
class Emitter:
    """An emitter with ways of its own."""

    name: str
    """Name, for readers."""
    scopes: tuple[str, ...] = ()
    """Starts of its scope names; empty: all spans are shown to it."""
    marks: tuple[str, ...] = ()
    """Span attributes of which one must occur in the batch; empty: none needs to."""
    keys: tuple[str, ...] = ()
    """Attribute keys it reads that the convention lists do not hold."""
    types: Step | None = None
    """Sets `draft.span_type` where it knows better than the general signs."""
    values: Step | None = None
    """Corrects what was resolved; runs before token counts become totals."""


def spans_of(emitter: Emitter, draft: Draft) -> NDArray[np.bool_] | None:
    """Return (n,) which spans an emitter wrote; None where it wrote none of the batch."""
    if emitter.marks and all(draft.index.rows(key) is None for key in emitter.marks):
        return None
    if not emitter.scopes:
        return np.ones(len(draft.batch), dtype=np.bool_)
    codes, names = distinct_strings(draft.batch.buffer, draft.batch.scope_name)
    known = np.array([*(name.startswith(emitter.scopes) for name in names), False])
    if not known.any():
        return None
    spans: NDArray[np.bool_] = known[codes][draft.batch.scope_index]
    return spans


def run_types(emitters: Iterable[Emitter], draft: Draft) -> None:
    """Let each emitter settle the types of its spans."""
    for emitter in emitters:
        if emitter.types is not None:
            spans = spans_of(emitter, draft)
            if spans is not None:
                emitter.types(draft, spans)


def run_values(emitters: Iterable[Emitter], draft: Draft) -> None:
    """Let each emitter correct its values."""
    for emitter in emitters:
        if emitter.values is not None:
            spans = spans_of(emitter, draft)
            if spans is not None:
                emitter.values(draft, spans)
