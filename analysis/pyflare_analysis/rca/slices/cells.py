"""Counting slices: every combination of values of up to three dimensions, level by level.

A slice of level k is looked at when it has enough rows, all its parts of level k-1 have
(the Apriori rule, Agrawal and Srikant 1994), and, for rates, when it could still be
significant. Cells are dense tables, one a combination of dimensions, so a pass over the rows
is one addition a row and combination, and memory depends on the number of cells alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from pyflare_analysis.rca.coded import Block, CodedRows

__all__ = ["Cells", "Sums", "cell_keys", "count_cells", "find_cells", "totals"]

MOST_CELLS = 1 << 23
"""Cells of all tables of one pass; further combinations wait for another pass."""
_NONE = -1

Combination = tuple[int, ...]


@dataclass(slots=True)
class Sums:
    """Sums over the rows of each cell, each (k,) float64."""

    rows: NDArray[np.float64]
    """Rows as they are stored."""
    weight: NDArray[np.float64]
    """Sum of weights; the same as `rows` where nothing was sampled."""
    weight2: NDArray[np.float64]
    """Sum of squared weights."""
    first: NDArray[np.float64]
    """Weighted sum of the values: the bad rows of a rate."""
    second: NDArray[np.float64]
    """Weighted sum of squared values; of a rate the same as `first`."""
    third: NDArray[np.float64]
    """Weighted sum of cubed values; of a rate the same as `first`."""

    def columns(self) -> tuple[NDArray[np.float64], ...]:
        """Return all sums, in order."""
        return (self.rows, self.weight, self.weight2, self.first, self.second, self.third)

    def take(self, index: NDArray[np.intp]) -> Sums:
        """Return the sums of some cells."""
        return Sums(*(column[index] for column in self.columns()))

    def minus(self, other: Sums) -> Sums:
        """Return the sums of what is left when `other` is taken away."""
        pairs = zip(self.columns(), other.columns(), strict=True)
        return Sums(*(mine - theirs for mine, theirs in pairs))

    @property
    def effective(self) -> NDArray[np.float64]:
        """Effective sample size (sum w)^2 / sum w^2 (Kish 1965); rows where unweighted."""
        return np.asarray(self.weight**2 / np.where(self.weight2 > 0, self.weight2, 1.0))

    @property
    def mean(self) -> NDArray[np.float64]:
        """Weighted mean; NaN for no rows."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.first / self.weight


@dataclass(slots=True)
class Cells:
    """Slices that are looked at, k of them."""

    dims: NDArray[np.int16]
    """(k, 3) positions of the dimensions, ascending; -1 where there is none."""
    codes: NDArray[np.int32]
    """(k, 3) codes of the values."""
    sums: Sums

    def __len__(self) -> int:
        """Return the number of slices."""
        return len(self.dims)

    @classmethod
    def joined(cls, parts: Sequence[Cells]) -> Cells:
        """Return the slices of several tables as one."""
        columns = zip(*(part.sums.columns() for part in parts), strict=True)
        return cls(
            np.concatenate([part.dims for part in parts]),
            np.concatenate([part.codes for part in parts]),
            Sums(*(np.concatenate(column) for column in columns)),
        )

    def take(self, index: NDArray[np.intp]) -> Cells:
        """Return some of the slices."""
        return Cells(self.dims[index], self.codes[index], self.sums.take(index))


def cell_keys(
    codes: NDArray[np.uint16], combination: Combination, sizes: Sequence[int]
) -> NDArray[np.int64]:
    """Return (n,) the cell of each row in the table of a combination of dimensions.

    Args:
        codes: (d, n).
        combination: positions of one to three dimensions.
        sizes: codes of each dimension, the rest included.
    """
    key: NDArray[np.int64] = codes[combination[0]].astype(np.int64)
    for position in combination[1:]:
        key *= sizes[position]
        key += codes[position]
    return key


def totals(rows: CodedRows) -> Sums:
    """Return the sums over all rows, each (1,)."""
    sums = np.zeros((6, 1))
    for block in rows.blocks():
        y = block.values
        w = np.ones(len(y)) if block.weights is None else block.weights
        wy = w * y
        sums[:, 0] += [len(y), w.sum(), w @ w, wy.sum(), wy @ y, (wy * y) @ y]
    return Sums(*sums)


def count_cells(
    rows: CodedRows, chosen: Sequence[Combination], *, binary: bool
) -> dict[Combination, Sums]:
    """Count the cells of combinations of dimensions, in one pass over the rows.

    Args:
        rows: the rows.
        chosen: positions of dimensions.
        binary: values are 0 or 1.

    Returns:
        For each combination the sums of its cells, (product of sizes,) in the order of
        `cell_keys`.
    """
    sizes = [dimension.rest + 1 for dimension in rows.dimensions]
    weighted = False
    tables: dict[Combination, NDArray[np.float64]] = {}
    for block in rows.blocks():
        weighted = block.weights is not None
        addends = _addends(block, binary=binary)
        # Bad rows are few: counting them apart is cheaper than adding all values up.
        bad = None
        if binary and not weighted:
            bad = block.codes[:, np.flatnonzero(block.values)]
        for combination, key in _keys(block.codes, chosen, sizes):
            cells = math.prod(sizes[position] for position in combination)
            table = tables.setdefault(combination, np.zeros((len(addends) + 1, cells)))
            table[0] += np.bincount(key, minlength=cells)
            if bad is not None:
                table[1] += np.bincount(cell_keys(bad, combination, sizes), minlength=cells)
                continue
            for row, addend in enumerate(addends):
                table[row + 1] += np.bincount(key, weights=addend, minlength=cells)
    return {key: _sums(table, weighted=weighted, binary=binary) for key, table in tables.items()}


def _keys(
    codes: NDArray[np.uint16], chosen: Sequence[Combination], sizes: Sequence[int]
) -> Iterable[tuple[Combination, NDArray[np.int64]]]:
    """Yield `cell_keys` of each combination; those that begin alike share what they can."""
    beginning: Combination = ()
    shared: NDArray[np.int64] = np.zeros(codes.shape[1], np.int64)
    for combination in chosen:
        *most, last = combination
        if tuple(most) != beginning:
            beginning = tuple(most)
            shared = cell_keys(codes, beginning, sizes)
        key = shared * sizes[last]
        key += codes[last]
        yield combination, key


def _addends(block: Block, *, binary: bool) -> list[NDArray[np.float64]]:
    """Return what is added up for each cell beside the number of rows."""
    y, w = block.values, block.weights
    powers = [y] if binary else [y, y * y, y * y * y]
    if w is None:
        return powers
    return [w, w * w, *(w * power for power in powers)]


def _sums(table: NDArray[np.float64], *, weighted: bool, binary: bool) -> Sums:
    rows = table[0]
    weight, weight2 = (table[1], table[2]) if weighted else (rows, rows)
    powers = table[3:] if weighted else table[1:]
    first = powers[0]
    second, third = (first, first) if binary else (powers[1], powers[2])
    return Sums(rows, weight, weight2, first, second, third)


def find_cells(
    rows: CodedRows, depth: int, least: int, *, binary: bool, least_bad: float = 0.0
) -> Cells:
    """Return all slices of up to `depth` dimensions with at least `least` rows.

    Args:
        rows: the rows.
        depth: 1 to 3.
        least: rows that a slice needs.
        binary: values are 0 or 1.
        least_bad: combinations of dimensions of which no slice holds bad rows of this weight
            are not divided further: no part of them could be significant.
    """
    sizes = [dimension.rest + 1 for dimension in rows.dimensions]
    parts: list[Cells] = []
    alive: set[Combination] = set()
    for level in range(1, depth + 1):
        waiting = [
            combination
            for combination in combinations(range(len(sizes)), level)
            if level == 1 or all(part in alive for part in combinations(combination, level - 1))
        ]
        alive = set()
        for group in _groups(waiting, sizes):
            for combination, sums in count_cells(rows, group, binary=binary).items():
                found = _frequent(combination, sums, sizes, least)
                parts.append(found)
                if len(found) and float(found.sums.first.max()) >= least_bad:
                    alive.add(combination)
    return Cells.joined(parts)


def _groups(waiting: Sequence[Combination], sizes: Sequence[int]) -> Iterable[list[Combination]]:
    """Yield combinations together as long as their cells fit into memory."""
    group: list[Combination] = []
    cells = 0
    for combination in waiting:
        own = math.prod(sizes[position] for position in combination)
        if group and cells + own > MOST_CELLS:
            yield group
            group, cells = [], 0
        group.append(combination)
        cells += own
    if group:
        yield group


def _frequent(combination: Combination, sums: Sums, sizes: Sequence[int], least: int) -> Cells:
    """Return the cells with enough rows whose values all are slices."""
    key = np.flatnonzero(sums.rows >= least)
    codes = np.full((len(key), 3), _NONE, np.int32)
    rest = key
    for place in range(len(combination) - 1, -1, -1):
        rest, codes[:, place] = np.divmod(rest, sizes[combination[place]])
    real = np.ones(len(key), np.bool_)
    for place, position in enumerate(combination):
        real &= codes[:, place] < sizes[position] - 1
    dims = np.full((int(real.sum()), 3), _NONE, np.int16)
    dims[:, : len(combination)] = combination
    return Cells(dims, codes[real], sums.take(key[real]))
