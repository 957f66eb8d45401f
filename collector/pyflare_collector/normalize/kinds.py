"""The type and the status of each span, from the signs of `conventions.types`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyflare_collector.normalize.attributes import AttributeIndex
from pyflare_collector.normalize.conventions.types import (
    ERROR_LEVELS,
    ERROR_NUMBERS,
    MODEL_KEYS,
    TYPE_SOURCES,
    TypeSource,
)
from pyflare_collector.normalize.conventions.usage import USAGE_DOCUMENTS
from pyflare_collector.normalize.draft import Draft
from pyflare_proto.record import CALL_TYPES, SPAN_TYPES, STATUS_CODES

__all__ = ["LLM", "SPAN", "close_types", "is_call", "sign_types", "statuses"]

_CODE = {name: code for code, name in enumerate(SPAN_TYPES)}
LLM = _CODE["llm"]
SPAN = _CODE["span"]
_CALL_CODES = np.array([name in CALL_TYPES for name in SPAN_TYPES], dtype=np.bool_)


def sign_types(index: AttributeIndex, span_type: NDArray[np.int8]) -> None:
    """Fill the types that a sign tells, in place, where they are still open (-1)."""
    for source in TYPE_SOURCES:
        found = _types_of(source, index)
        if found is not None:
            open_rows = span_type < 0
            if not open_rows.any():
                return
            span_type[open_rows] = found[open_rows]


def _types_of(source: TypeSource, index: AttributeIndex) -> NDArray[np.int8] | None:
    """Return (n,) the type that one sign tells, -1 where it tells none."""
    if source.present:
        rows = index.rows(source.key)
        if rows is None:
            return None
        return np.where(rows >= 0, np.int8(_CODE[source.present]), np.int8(-1))
    column = index.categories(source.key)
    if column is None:
        return None
    codes = [_CODE.get(source.meaning(value) or "", -1) for value in column.values]
    return np.array([*codes, -1], dtype=np.int8)[column.codes]


def close_types(draft: Draft) -> None:
    """Settle the types that are still open: `llm` with a model and tokens, else `span`."""
    open_rows = draft.span_type < 0
    if not open_rows.any():
        return
    has_usage = np.zeros(len(open_rows), dtype=np.bool_)
    for field in ("input_tokens", "output_tokens", "total_tokens"):
        values = draft.usage.counts.get(field)
        if values is not None:
            has_usage |= values >= 0
    for key in {document.key for document in USAGE_DOCUMENTS if not document.path}:
        _mark_present(draft.index, key, has_usage)
    has_model = np.zeros(len(open_rows), dtype=np.bool_)
    if has_usage.any():
        for key in MODEL_KEYS:
            _mark_present(draft.index, key, has_model)
    is_llm = has_usage & has_model
    draft.span_type[open_rows] = np.where(is_llm, np.int8(LLM), np.int8(SPAN))[open_rows]


def _mark_present(index: AttributeIndex, key: str, mask: NDArray[np.bool_]) -> None:
    rows = index.rows(key)
    if rows is not None:
        mask |= rows >= 0


def is_call(span_type: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Return (n,) which spans are calls of a model.

    Args:
        span_type: (n,) indices into `SPAN_TYPES`, none open.
    """
    result: NDArray[np.bool_] = _CALL_CODES[span_type]
    return result


def statuses(index: AttributeIndex) -> NDArray[np.int32]:
    """Return (n,) indices into `STATUS_CODES`.

    A span whose status is not set is an error where its emitter's level says so. A
    status of a later version of OTLP counts as not set.
    """
    codes = index.batch.status_code
    codes = np.where((codes >= 0) & (codes < len(STATUS_CODES)), codes, np.int32(0))
    failed = np.zeros(len(codes), dtype=np.bool_)
    for key, levels in ERROR_LEVELS.items():
        column = index.categories(key)
        if column is not None:
            is_error = [value.strip().lower() in levels for value in column.values]
            failed |= np.array([*is_error, False])[column.codes]
    for key, least in ERROR_NUMBERS.items():
        rows = index.rows(key)
        if rows is not None:
            values, ok = index.integers(rows)
            failed |= ok & (values >= least)
    codes[failed & (codes == 0)] = STATUS_CODES.index("error")
    return codes
