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
from pyflare_analysis.rca.slices.comparison import deviance

if TYPE_CHECKING:
    import polars as pl

    from pyflare_storage.expressions import Expr
    from pyflare_storage.source import Source

__all__ = ["Leaves", "PeriodReader", "PeriodRows", "before_and_after", "read_leaves"]

MOST_DIMENSIONS = 6
"""Dimensions whose values are combined to leaves."""
MOST_VALUES = 100
"""Values of one dimension with leaves of their own."""
LEAST_EVENTS = 10
"""Events that a leaf has on average, where the dimensions are chosen."""
HALVES = 3
"""Periods that rows are told apart by: two halves before the change, and after it."""


@dataclass(frozen=True, slots=True)
class PeriodRows:
    """Some rows: the period each falls into, and its numbers."""

    period: NDArray[np.int64]
    """(n,) 0 in the first half of the period before, 1 in the second, 2 after, -1 neither."""
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
    """Combinations of values, k of them, with their sums by period.

    Row 0 is the first half of the period before, row 1 its second half, row 2 the period after.
    """

    dimensions: tuple[CodedDimension, ...]
    codes: NDArray[np.int64]
    """(d, k)"""
    values: NDArray[np.float64]
    """(3, k)"""
    counts: NDArray[np.float64]
    """(3, k), or (3, 1): the exposure of the whole."""
    squares: NDArray[np.float64]
    """(3, k)"""
    rows: NDArray[np.int64]
    """(3,) rows read."""

    @property
    def value(self) -> NDArray[np.float64]:
        """Return (2, k) the values before and after."""
        return before_and_after(self.values)

    @property
    def count(self) -> NDArray[np.float64]:
        """Return the counts before and after, like `value`."""
        return before_and_after(self.counts)


def before_and_after(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (2, k) of (3, k): the halves before the change joined."""
    return np.stack([sums[0] + sums[1], sums[2]])


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
    """Return the dimensions of the slices whose own rate explains the change best.

    Only so many that leaves keep `LEAST_EVENTS` on average, and none that another one decides.
    """
    tables = _count_pairs(rows, dimensions, depth)
    best = {combination: _best_split(table) for combination, table in tables.items()}
    related: list[int] = []
    room = _rows_of(tables) / LEAST_EVENTS
    for combination in sorted(best, key=lambda item: (-best[item], item)):
        for position in combination:
            if position in related or _decided(tables, related, position):
                continue
            room /= dimensions[position].rest
            if related and (room < 1 or len(related) == MOST_DIMENSIONS):
                return [dimensions[position] for position in sorted(related)]
            related.append(position)
    return [dimensions[position] for position in sorted(related)]


def _count_pairs(
    rows: _Rows, dimensions: Sequence[CodedDimension], depth: int
) -> dict[tuple[int, ...], NDArray[np.float64]]:
    """Return the sums of single dimensions and pairs: (value and count, period, cell)."""
    sizes = [dimension.rest + 1 for dimension in dimensions]
    chosen = [
        combination
        for level in range(1, depth + 1)
        for combination in combinations(range(len(sizes)), level)
    ]
    tables: dict[tuple[int, ...], NDArray[np.float64]] = {}
    for codes, batch in rows.batches(dimensions):
        late = (batch.period == HALVES - 1).astype(np.int64)
        for combination in chosen:
            key, cells = late, 1
            for position in combination:
                key = key * sizes[position] + codes[position]
                cells *= sizes[position]
            table = tables.setdefault(combination, np.zeros((2, 2, cells)))
            for row, addend in enumerate((batch.value, batch.count)):
                counted = np.bincount(key, weights=addend, minlength=2 * cells)
                table[row] += counted.reshape(2, cells)
    return tables


def _rows_of(tables: Mapping[tuple[int, ...], NDArray[np.float64]]) -> float:
    return float(next(iter(tables.values()))[1].sum())


def _decided(
    tables: Mapping[tuple[int, ...], NDArray[np.float64]], related: Sequence[int], position: int
) -> bool:
    """Return whether a dimension has one value for each value of one already chosen."""
    for other in related:
        pair = tables.get((min(other, position), max(other, position)))
        if pair is None:
            continue
        cells = np.count_nonzero(pair[1].sum(axis=0))
        if cells <= np.count_nonzero(tables[other,][1].sum(axis=0)):
            return True
    return False


def _best_split(table: NDArray[np.float64]) -> float:
    """Return the largest deviance of one cell with a change of its own."""
    value, count = table
    total, whole = value.sum(axis=1), count.sum(axis=1)
    if total[0] <= 0 or not whole.all():
        return 0.0
    usual = total[0] / whole[0]
    rate = (value[0] + 1) / (count[0] + 1 / usual)
    expected = count[1] * rate * (total[1] / whole[1]) / usual
    return float(deviance(value[1], np.maximum(total[1], 1e-9), expected).max())


def _leaves(rows: _Rows, dimensions: Sequence[CodedDimension]) -> Leaves:
    sizes = [dimension.rest + 1 for dimension in dimensions]
    keys = np.zeros(0, np.int64)
    sums = np.zeros((3 * HALVES, 0))
    read = np.zeros(HALVES, np.int64)
    for codes, batch in rows.batches(dimensions):
        read += np.bincount(batch.period, minlength=HALVES)
        key = np.zeros(codes.shape[1], np.int64)
        for position, size in enumerate(sizes):
            key = key * size + codes[position]
        # What is known so far and the batch, as one list with one entry a leaf.
        keys, inverse = np.unique(np.concatenate([keys, key]), return_inverse=True)
        known = sums.shape[1]
        joined = np.zeros((3 * HALVES, len(keys)))
        joined[:, inverse[:known]] = sums
        place = inverse[known:] + batch.period * len(keys)
        for row, addend in enumerate((batch.value, batch.count, batch.square)):
            added = np.bincount(place, weights=addend, minlength=HALVES * len(keys))
            joined[HALVES * row : HALVES * (row + 1)] += added.reshape(HALVES, -1)
        sums = joined
    codes_of = np.zeros((len(sizes), len(keys)), np.int64)
    rest = keys
    for position in range(len(sizes) - 1, -1, -1):
        rest, codes_of[position] = np.divmod(rest, sizes[position])
    return Leaves(tuple(dimensions), codes_of, sums[:3], sums[3:6], sums[6:], read)
