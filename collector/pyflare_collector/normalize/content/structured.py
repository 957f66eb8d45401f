"""Structured values (arrays and lists of pairs) as JSON text."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyflare_collector.normalize.arrow import string_bounds, string_data
from pyflare_collector.normalize.content.events import EventValues
from pyflare_proto.otlp.anyvalue import attributes_json
from pyflare_proto.otlp.batch import AttributeTable, Slices, ValueType

__all__ = ["json_slices", "json_texts"]


def json_slices(
    buffer: NDArray[np.uint8],
    kinds: NDArray[np.uint8],
    slices: Slices,
    numbers: NDArray[np.int64],
) -> tuple[NDArray[np.uint8], Slices]:
    """Return structured values as JSON text.

    Args:
        buffer: (b,) what `slices` points into.
        kinds: (n,) `ValueType`: ARRAY or KVLIST.
        slices: (n,) the encoded values.
        numbers: (n,) their numbers, not used by these types.

    Returns:
        A buffer and (n,) the JSON text of each value in it.
    """
    n = len(kinds)
    nameless = Slices(np.zeros(n, np.int64), np.zeros(n, np.int32))
    nothing = np.full(n, -1, np.int32)
    table = AttributeTable(
        owner=np.arange(n, dtype=np.int32),
        key=nameless,
        key_id=nothing,
        index0=nothing,
        index1=nothing,
        type=np.ascontiguousarray(kinds),
        value=Slices(np.ascontiguousarray(slices.offset), np.ascontiguousarray(slices.length)),
        number=np.ascontiguousarray(numbers),
    )
    texts = attributes_json(buffer, table, n)
    bounds = string_bounds(texts)
    # Each text is {"":<value>}.
    start = bounds[:-1].astype(np.int64) + 4
    return string_data(texts), Slices(start, np.diff(bounds) - np.int32(5))


def json_texts(values: EventValues, key: str) -> tuple[NDArray[np.uint8], Slices]:
    """Return a key's values in events as plain or JSON text; length 0 where absent."""
    kinds, slices = values.kinds(key), values.slices(key)
    structured = np.flatnonzero((kinds == ValueType.ARRAY) | (kinds == ValueType.KVLIST))
    is_text = kinds == ValueType.STRING
    length = np.where(is_text, slices.length, np.int32(0))
    if not len(structured):
        return values.buffer, Slices(slices.offset, length)
    own = Slices(slices.offset[structured], slices.length[structured])
    extra, texts = json_slices(
        values.buffer, kinds[structured], own, values.numbers(key)[structured]
    )
    offset = slices.offset.copy()
    offset[structured] = texts.offset + len(values.buffer)
    length[structured] = texts.length
    return np.concatenate([values.buffer, extra]), Slices(offset, length)
