"""Arrow arrays as NumPy sees them: the bytes of strings, and rows by number."""

from __future__ import annotations

from typing import Any, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = ["Column", "buffer_of", "string_bounds", "string_data", "take"]

Column: TypeAlias = "pa.Array[Any]"
ArrayT = TypeVar("ArrayT", bound=Column)

_NOTHING = np.zeros(1, np.uint8)


def buffer_of(array: NDArray[Any]) -> pa.Buffer:
    """Return a contiguous array's bytes as an Arrow buffer, without a copy."""
    source: Any = array  # the stubs do not know that NumPy arrays are buffers
    return pa.py_buffer(source)


def string_bounds(values: pa.StringArray) -> NDArray[np.int32]:
    """Return (n + 1,) where each string starts in `string_data`."""
    offsets: Any = values.buffers()[1]
    if offsets is None:
        return np.zeros(1, np.int32)
    bounds: NDArray[np.int32] = np.frombuffer(offsets, np.int32)
    return bounds[values.offset : values.offset + len(values) + 1]


def string_data(values: pa.StringArray) -> NDArray[np.uint8]:
    """Return the bytes of strings; at least one byte, so that there is an address."""
    data: Any = values.buffers()[2]
    return np.frombuffer(data, np.uint8) if data is not None and data.size else _NOTHING


def take(
    values: ArrayT, rows: NDArray[np.integer[Any]], missing: NDArray[np.bool_] | None = None
) -> ArrayT:
    """Return the values at `rows`, null where `missing`."""
    indices: Any = pa.array(rows, mask=missing)
    result: ArrayT = values.take(indices)
    return result
