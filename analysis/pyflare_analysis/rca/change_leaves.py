"""The two periods of a change as leaves: one row a combination of values, with its sums.

Leaves are what attribution works on. Their number is bounded: of each dimension the most
frequent values have a leaf of their own, and of many dimensions only those take part that a
first pass finds related to the change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pyflare_analysis.rca.coded import CodedDimension
from pyflare_analysis.rca.slice_tests import deviance

if TYPE_CHECKING:
    import polars as pl

    from pyflare_storage.expressions import Expr
    from pyflare_storage.source import Source

__all__ = ["Leaves", "PeriodReader", "PeriodRows", "read_leaves"]

MOST_DIMENSIONS = 6
"""Dimensions whose values are combined to leaves."""
MOST_VALUES = 100
"""Values of one dimension with leaves of their own."""
_BEFORE, _AFTER = 0, 1


@dataclass(frozen=True, slots=True)
class PeriodRows:
    """Some rows: the period each falls into, and its numbers."""

    period: NDArray[np.int64]
    """(n,) 0 before, 1 after, -1 neither."""
    value: NDArray[np.float64]
    """(n,) what is summed up: bad rows, cost, the value column."""
    count: NDArray[np.float64]
    """(n,) what it is divided by."""
    square: NDArray[np.float64]
    """(n,) squares of single values, for their spread."""


@dataclass(frozen=True, slots=True)
class PeriodReader:
    """Reads period and numbers of rows."""

    columns: tuple[str, ...]
    """Columns that it needs."""
    read: Callable[[pl.DataFrame], PeriodRows]


@dataclass(slots=True)
class Leaves:
    """Combinations of values, k of them, with their sums before (row 0) and after (row 1)."""

    dimensions: tuple[CodedDimension, ...]
    codes: NDArray[np.int64]
    """(d, k)"""
    value: NDArray[np.float64]
    """(2, k)"""
    count: NDArray[np.float64]
    """(2, k)"""
    square: NDArray[np.float64]
    """(2, k)"""
    rows: NDArray[np.int64]
    """(2,) rows read."""


def read_leaves(
    source: Source,
    dimensions: Sequence[CodedDimension],
    where: Expr | None,
    reader: PeriodReader,
    *,
    depth: int,
) -> Leaves:
    """Read the two periods.

    Args:
        source: where the rows are.
        dimensions: with their codes.
        where: the rows of both periods.
        reader: reads period and numbers.
        depth: dimensions that a cause combines at most.
    """
    dimensions = [_fewer_values(dimension) for dimension in dimensions]
    rows = _Rows(source, where, reader)
    if len(dimensions) > MOST_DIMENSIONS:
        dimensions = _related(rows, dimensions, min(depth, 2))
    return _leaves(rows, dimensions)


def _fewer_values(dimension: CodedDimension) -> CodedDimension:
    if dimension.edges or dimension.cyclic or dimension.rest <= MOST_VALUES:
        return dimension
    return CodedDimension(dimension.dimension, dimension.labels[:MOST_VALUES])


class _Rows:
    """Reads codes and numbers of the rows of both periods, in batches."""

    def __init__(self, source: Source, where: Expr | None, reader: PeriodReader) -> None:
        self._source = source
        self._where = where
        self._reader = reader

    def batches(
        self, dimensions: Sequence[CodedDimension]
    ) -> Iterator[tuple[NDArray[np.int64], PeriodRows]]:
        columns: Mapping[str, str] = self._source.columns()
        needed = {*self._reader.columns}.union(*(d.dimension.columns for d in dimensions))
        for frame in self._source.scan([n for n in columns if n in needed], where=self._where):
            rows = self._reader.read(frame)
            kept = rows.period >= 0
            codes = np.empty((len(dimensions), int(kept.sum())), np.int64)
            for i, dimension in enumerate(dimensions):
                codes[i] = dimension.encode(frame, columns)[kept]
            yield (
                codes,
                PeriodRows(
                    rows.period[kept], rows.value[kept], rows.count[kept], rows.square[kept]
                ),
            )


def _related(rows: _Rows, dimensions: list[CodedDimension], depth: int) -> list[CodedDimension]:
    """Return the dimensions of the slices whose own rate explains the change best."""
    sizes = [dimension.rest + 1 for dimension in dimensions]
    chosen = [
        combination
        for level in range(1, depth + 1)
        for combination in combinations(range(len(sizes)), level)
    ]
    tables: dict[tuple[int, ...], NDArray[np.float64]] = {}
    for codes, batch in rows.batches(dimensions):
        for combination in chosen:
            key = batch.period.copy()
            cells = 2
            for position in combination:
                key = key * sizes[position] + codes[position]
                cells *= sizes[position]
            table = tables.setdefault(combination, np.zeros((2, cells)))
            table[0] += np.bincount(key, weights=batch.value, minlength=cells)
            table[1] += np.bincount(key, weights=batch.count, minlength=cells)
    best = {combination: _best_split(table) for combination, table in tables.items()}
    related: list[int] = []
    for combination in sorted(best, key=lambda item: (-best[item], item)):
        related += [position for position in combination if position not in related]
        if len(related) >= MOST_DIMENSIONS:
            break
    return [dimensions[position] for position in sorted(related[:MOST_DIMENSIONS])]


def _best_split(table: NDArray[np.float64]) -> float:
    """Return the largest deviance of one cell with a change of its own."""
    value, count = (column.reshape(2, -1) for column in table)
    total = value.sum(axis=1)
    whole = count.sum(axis=1)
    if not total[_BEFORE] or not whole[_BEFORE]:
        return 0.0
    usual = total[_BEFORE] / whole[_BEFORE]
    rate = (value[_BEFORE] + 1) / (count[_BEFORE] + 1 / usual)
    expected = count[_AFTER] * rate * (total[_AFTER] / max(whole[_AFTER], 1e-300)) / usual
    return float(deviance(value[_AFTER], np.maximum(total[_AFTER], 1e-9), expected).max())


def _leaves(rows: _Rows, dimensions: Sequence[CodedDimension]) -> Leaves:
    sizes = [dimension.rest + 1 for dimension in dimensions]
    keys = np.zeros(0, np.int64)
    sums = np.zeros((6, 0))
    read = np.zeros(2, np.int64)
    for codes, batch in rows.batches(dimensions):
        read += np.bincount(batch.period, minlength=2)
        key = np.zeros(codes.shape[1], np.int64)
        for position, size in enumerate(sizes):
            key = key * size + codes[position]
        # What is known so far and the batch, as one list with one entry a leaf.
        keys, inverse = np.unique(np.concatenate([keys, key]), return_inverse=True)
        known = sums.shape[1]
        joined = np.zeros((6, len(keys)))
        joined[:, inverse[:known]] = sums
        place = inverse[known:] + batch.period * len(keys)
        for row, addend in enumerate((batch.value, batch.count, batch.square)):
            added = np.bincount(place, weights=addend, minlength=2 * len(keys))
            joined[2 * row : 2 * row + 2] += added.reshape(2, -1)
        sums = joined
    codes_of = np.zeros((len(sizes), len(keys)), np.int64)
    rest = keys
    for position in range(len(sizes) - 1, -1, -1):
        rest, codes_of[position] = np.divmod(rest, sizes[position])
    return Leaves(tuple(dimensions), codes_of, sums[0:2], sums[2:4], sums[4:6], read)
