"""Columns in the making: values of some spans, source by source, and the whole in the end."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pyflare_collector.normalize.arrow import Column, take

__all__ = ["Column", "Merged", "lists_of"]


class Merged:
    """A column of any type; the first value that a span is given counts.

    Args:
        n: spans.
        kind: Arrow type of the column.
    """

    def __init__(self, n: int, kind: pa.DataType) -> None:
        self.open = np.ones(n, np.bool_)
        """(n,) spans that have no value yet."""
        self._kind = kind
        self._place = np.full(n, -1, np.int64)
        self._pieces: list[Column] = []
        self._size = 0

    def add(self, spans: NDArray[np.int64], values: Column) -> None:
        """Take (m,) values of (m,) different spans; those of spans that have one are left out."""
        fresh = np.flatnonzero(self.open[spans])
        self._place[spans[fresh]] = fresh + self._size
        self.open[spans[fresh]] = False
        self._pieces.append(values)
        self._size += len(values)

    def array(self) -> Column:
        """Return (n,) the column, null where no value was given."""
        if self.open.all():
            # The stubs list each type by itself.
            nothing: Column = pa.nulls(len(self.open), self._kind)
            return nothing
        return take(pa.concat_arrays(self._pieces), self._place, self._place < 0)


def lists_of(
    owner: NDArray[np.int64], values: Column, kind: pa.DataType
) -> tuple[NDArray[np.int64], Column]:
    """Return (spans, lists) of values by their owners, which ascend.

    Args:
        owner: (m,) span of each value.
        values: (m,) values.
        kind: Arrow type of the lists.
    """
    first = np.ones(len(owner), np.bool_)
    first[1:] = np.diff(owner) != 0
    starts = np.flatnonzero(first)
    offsets = pa.array(np.append(starts, len(owner)), pa.int32())
    lists: Column = pa.ListArray.from_arrays(offsets, values)
    return owner[starts], lists.cast(kind)
