"""Helpers of the price book: rows to groups, columns to counts, a bounded cache."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from pyflare_storage.prices.columns import PriceInputs
from pyflare_storage.prices.rates import Counts

__all__ = [
    "DAY_NS",
    "BoundedCache",
    "days_from_first",
    "group_rows",
    "keep_counts",
    "take_counts",
]

DAY_NS = 86_400 * 10**9
_MAX_DENSE_KEYS = 1 << 18
"""Largest key space that is grouped by a table instead of by sorting."""

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


class BoundedCache(Generic[KeyT, ValueT]):
    """A map of at most `size` entries that forgets the least recently used.

    Not thread-safe.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: OrderedDict[KeyT, ValueT] = OrderedDict()

    def get_or(self, key: KeyT, make: Callable[[], ValueT]) -> ValueT:
        """Return the value of `key`, made by `make` where there is none."""
        if key in self._items:
            self._items.move_to_end(key)
            return self._items[key]
        value = make()
        self._items[key] = value
        if len(self._items) > self._size:
            self._items.popitem(last=False)
        return value

    def __len__(self) -> int:
        return len(self._items)


def days_from_first(ends: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Return the days of `ends` counted from the earliest, and that one since 1970."""
    low, high = int(ends.min()) // DAY_NS, int(ends.max()) // DAY_NS
    if low == high:
        return np.zeros(len(ends), dtype=np.int64), low
    return ends // DAY_NS - low, low


def group_rows(
    codes: Sequence[NDArray[np.int32]], sizes: Sequence[int], day: NDArray[np.int64]
) -> tuple[NDArray[np.intp], list[tuple[int, ...]]]:
    """Group rows by their codes and day.

    Args:
        codes: (n,) columns of codes from -1 to size - 2.
        sizes: the number of codes of each column, -1 included.
        day: (n,) days from 0.

    Returns:
        (n,) group of each row, and the codes and day of each group.
    """
    n_days = int(day.max()) + 1
    space = n_days
    for size in sizes:
        space *= size
    if space >= 2**62:
        stacked = np.stack([*(c.astype(np.int64) for c in codes), day], axis=1)
        unique, inverse = np.unique(stacked, axis=0, return_inverse=True)
        return inverse.reshape(-1), [tuple(int(v) for v in row) for row in unique]
    key = np.zeros(len(day), dtype=np.int64)
    for column, size in zip(codes, sizes, strict=True):
        key *= size
        key += column
        key += 1
    if n_days > 1:
        key *= n_days
        key += day
    if space <= _MAX_DENSE_KEYS:
        present = np.zeros(space, dtype=np.intp)
        present[key] = 1
        keys = np.flatnonzero(present)
        present[keys] = np.arange(len(keys))
        group = present[key]
    else:
        keys, group = np.unique(key, return_inverse=True)
    return group, [_unpack(int(k), sizes, n_days) for k in keys]


def _unpack(key: int, sizes: Sequence[int], n_days: int) -> tuple[int, ...]:
    key, day = divmod(key, n_days)
    parts = []
    for size in reversed(sizes):
        key, code = divmod(key, size)
        parts.append(code - 1)
    return (*reversed(parts), day)


def take_counts(inputs: PriceInputs, rows: NDArray[np.intp], *, whole: bool) -> Counts:
    """Return the counts of `rows`, missing values as 0, columns without any as None."""

    def take(column: NDArray[np.int64] | None) -> NDArray[np.int64] | None:
        if column is None:
            return None
        part = column if whole else column[rows]
        return np.maximum(part, 0) if part.max() > 0 else None

    zero = np.zeros(len(rows), dtype=np.int64)
    total_in, total_out = take(inputs.input_tokens), take(inputs.output_tokens)
    return Counts(
        input=zero if total_in is None else total_in,
        output=zero if total_out is None else total_out,
        cache_read=take(inputs.cache_read_tokens),
        cache_write=take(inputs.cache_write_tokens),
        cache_write_1h=take(inputs.cache_write_1h_tokens),
        reasoning=take(inputs.reasoning_tokens),
        audio_input=take(inputs.audio_input_tokens),
        audio_output=take(inputs.audio_output_tokens),
    )


def keep_counts(counts: Counts, keep: NDArray[np.bool_]) -> Counts:
    """Return the counts of the rows that `keep` is True for."""

    def take(column: NDArray[np.int64] | None) -> NDArray[np.int64] | None:
        return None if column is None else column[keep]

    return Counts(
        input=counts.input[keep],
        output=counts.output[keep],
        cache_read=take(counts.cache_read),
        cache_write=take(counts.cache_write),
        cache_write_1h=take(counts.cache_write_1h),
        reasoning=take(counts.reasoning),
        audio_input=take(counts.audio_input),
        audio_output=take(counts.audio_output),
    )
