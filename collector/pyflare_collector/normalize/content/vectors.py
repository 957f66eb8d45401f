"""Embedding vectors: the first of each span."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pyflare_collector.normalize.content import sources
from pyflare_collector.normalize.content.columns import Column, Merged
from pyflare_collector.normalize.content.texts import Context, type_mask
from pyflare_collector.normalize.json_kernels import JsonType, approximate
from pyflare_collector.normalize.json_text import skip_space, skip_value
from pyflare_proto.otlp.batch import Slices, ValueType
from pyflare_proto.otlp.jit import address, byte_at, frozen, int64_at, kernel
from pyflare_proto.otlp.wire import KIND, NUMBER, SCRATCH_WORDS, any_value, length, skip, tag_at

__all__ = ["embeddings"]

_VECTOR = pa.list_(pa.float32())
_ITEM_TAG = 0x0A


def embeddings(context: Context) -> Column:
    """Return (n,) list<float32>: the first vector of each span; null where there is none."""
    column = Merged(len(context.span_type), _VECTOR)
    _family(context, column)
    wanted = type_mask(context.span_type, ("embedding",))
    if wanted.any():
        for key, path in sources.VECTOR_DOCUMENTS:
            for group in context.documents.get(key):
                found = group.at(wanted & column.open)
                if not len(found.spans):
                    continue
                values = found.lookup(path).values
                # A list, or a list as JSON text.
                is_list = (values.type == JsonType.ARRAY) | (values.type == JsonType.STRING)
                offset, size = values.slices.offset[is_list], values.slices.length[is_list]
                _add(column, found.spans[is_list], found.buffer, Slices(offset, size), wire=False)
    return column.array()


def _family(context: Context, column: Merged) -> None:
    index = context.index
    rows = index.family(sources.VECTOR_FAMILY)
    if rows is None:
        return
    table = index.table
    spans, first = np.unique(table.owner[rows], return_index=True)
    rows = rows[first]
    for kind, wire in ((ValueType.ARRAY, True), (ValueType.STRING, False)):
        own = table.type[rows] == kind
        if own.any():
            at = rows[own]
            slices = Slices(table.value.offset[at], table.value.length[at])
            _add(column, spans[own].astype(np.int64), index.buffer, slices, wire=wire)


def _add(
    column: Merged,
    spans: NDArray[np.int64],
    buffer: NDArray[np.uint8],
    slices: Slices,
    *,
    wire: bool,
) -> None:
    """Add the vectors in encoded arrays, or in JSON lists."""
    if not len(spans):
        return
    # A number takes two bytes at the least, with its comma or its tag.
    room = int(slices.length.sum(dtype=np.int64)) // 2 + len(spans) + 1
    out = np.empty(room, np.float32)
    bounds = np.zeros(len(spans) + 1, np.int32)
    if wire:
        _wire_vectors(frozen(buffer), *slices, out, bounds, np.zeros(SCRATCH_WORDS, np.int64))
    else:
        _json_vectors(frozen(buffer), *slices, out, bounds)
    told = np.diff(bounds) > 0
    if told.any():
        offsets: pa.Int32Array = pa.array(bounds, pa.int32())
        values: Column = pa.ListArray.from_arrays(
            offsets, pa.array(out[: bounds[-1]], pa.float32())
        )
        column.add(spans[told], values.filter(pa.array(told)).cast(_VECTOR))


@kernel
def _wire_vectors(  # noqa: PLR0917  # kernels take their arrays by position
    buffer: NDArray[np.uint8],
    offset: NDArray[np.int64],
    size: NDArray[np.int32],
    out: NDArray[np.float32],
    bounds: NDArray[np.int32],
    scratch: NDArray[np.int64],
) -> None:
    """Read arrays of numbers; a vector with anything else in it is empty."""
    base = address(buffer)
    record = address(scratch)
    number = np.empty(1, np.int64)
    o = 0
    for row in range(len(offset)):
        first = o
        pos = base + offset[row]
        end = pos + size[row]
        while 0 <= pos < end:
            tag, pos = tag_at(pos, end)
            if tag != _ITEM_TAG:
                pos = skip(pos, end, tag, 0, record)
                continue
            start, pos = length(pos, end)
            any_value(start, pos, -1, record)
            kind = int64_at(record + KIND)
            number[0] = int64_at(record + NUMBER)
            if kind == 4:
                out[o] = number.view(np.float64)[0]
            elif kind == 3:
                out[o] = number[0]
            else:
                o = first
                break
            o += 1
        bounds[row + 1] = o


@kernel
def _json_vectors(
    buffer: NDArray[np.uint8],
    offset: NDArray[np.int64],
    size: NDArray[np.int32],
    out: NDArray[np.float32],
    bounds: NDArray[np.int32],
) -> None:
    """Read JSON lists of numbers; a list with anything else in it is empty."""
    base = address(buffer)
    o = 0
    for row in range(len(offset)):
        first = o
        pos = base + offset[row]
        end = pos + size[row]
        pos = skip_space(pos, end)
        good = pos < end and byte_at(pos) == 91
        pos = skip_space(pos + 1, end)
        while good:
            stop = skip_value(pos, end)
            good = stop >= 0
            if good:
                value = approximate(pos, stop)
                good = not np.isnan(value)
                out[o] = value
                o += 1
                pos = skip_space(stop, end)
                good = good and pos < end and (byte_at(pos) == 44 or byte_at(pos) == 93)
                if good and byte_at(pos) == 93:
                    break
                pos = skip_space(pos + 1, end)
        if not good:
            o = first
        bounds[row + 1] = o
