"""From the slices that differ to the few that explain why: greedy explain-away.

A cause makes thousands of slices differ: those within it and those that overlap it. In each
round the slice with the strongest evidence is taken as a cause; its rows are then expected at
their own rate, and every other slice is tested again against what is expected of it by now:
stratified by what has been explained (the statistic of Mantel and Haenszel 1959). It stops when
nothing is significant by Bonferroni over all slices looked at. In the end causes that the others
explain are dropped.

The evidence is the deviance of the slice (2 log of its likelihood ratio), less 2 ln(L) for each
condition after the first, L being the number of values that could have been added: a slice within
a cause must be better than the best of so many chances (the risk inflation criterion, Foster and
George 1994).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pyflare_analysis.rca.coded import Block, CodedRows
from pyflare_analysis.rca.slices.cells import Cells, Sums, cell_keys
from pyflare_analysis.rca.slices.comparison import deviance, tail

__all__ = ["Cause", "CauseFinder", "Item", "SliceKey", "matching", "tally"]

MOST_CANDIDATES = 20_000
"""Slices that are tested again in each round: those that differ most at first."""
_LEAST_Z = 2.0
_MOST_EQUIVALENT = 5
_EXACT_BELOW = 50.0
_MOST_TOGETHER = 12
"""Causes that are tested given all others at once."""


@dataclass(frozen=True, slots=True, order=True)
class Item:
    """One condition of a slice: a dimension's codes from `low` to `high`."""

    dim: int
    """Position of the dimension."""
    low: int
    high: int
    """Included; below `low` where a range of hours or weekdays goes over the end."""


SliceKey = tuple[Item, ...]


def matching(codes: NDArray[np.uint16], items: Sequence[Item]) -> NDArray[np.bool_]:
    """Return (n,) which rows of (d, n) codes are in a slice."""
    inside = np.ones(codes.shape[1], np.bool_)
    for item in items:
        own = codes[item.dim]
        if item.low == item.high:
            inside &= own == item.low
        elif item.low < item.high:
            inside &= (own >= item.low) & (own <= item.high)
        else:
            inside &= (own >= item.low) | (own <= item.high)
    return inside


def tally(rows: CodedRows, key_of: Callable[[Block], NDArray[np.int64]], size: int) -> Sums:
    """Return the sums of rows by a key of theirs, (size,); rows of key -1 are left out."""
    sums = np.zeros((6, size))
    for block in rows.blocks():
        key = key_of(block)
        kept = key >= 0
        key, y, w = key[kept], block.values[kept], block.weights
        count = np.bincount(key, minlength=size)
        sums[0] += count
        if w is None:
            sums[1:3] += count
        else:
            w = w[kept]
            for row, addend in enumerate((w, w * w), 1):
                sums[row] += np.bincount(key, weights=addend, minlength=size)
        # Of a rate few values are not 0, and only those add anything up.
        some = np.flatnonzero(y)
        key, y = key[some], y[some]
        wy = y if w is None else w[some] * y
        for row, addend in enumerate((wy, wy * y, wy * y * y), 3):
            sums[row] += np.bincount(key, weights=addend, minlength=size)
    return Sums(*sums)


def _standardised(
    difference: NDArray[np.float64], spread: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return differences over their standard deviations; 0 where there is no variation."""
    known = spread > 0
    return np.where(known, difference / np.sqrt(np.where(known, spread, 1.0)), 0.0)


@dataclass(frozen=True, slots=True)
class Cause:
    """One slice that explains a part of the deviation."""

    key: SliceKey
    p_value: float
    """Given the causes before it, two-sided."""
    expected: float
    """Mean of its rows as the causes before it explain it."""
    equivalent: tuple[SliceKey, ...] = ()
    """Other names of the same rows."""


@dataclass(slots=True)
class _Groups:
    """Rows by what explains them: group 0 is not explained."""

    picks: list[SliceKey] = field(default_factory=list)
    outside: list[NDArray[np.int64]] = field(default_factory=list)
    """For each pick, (groups before it,): the new number of the group for other rows."""
    inside: list[NDArray[np.int64]] = field(default_factory=list)
    """Likewise, for the rows of the pick."""
    size: int = 1

    def of(self, codes: NDArray[np.uint16]) -> NDArray[np.int64]:
        """Return (n,) the group of each row."""
        group = np.zeros(codes.shape[1], np.int64)
        for pick, outside, inside in zip(self.picks, self.outside, self.inside, strict=True):
            group = np.where(matching(codes, pick), inside[group], outside[group])
        return group

    def add(self, pick: SliceKey) -> None:
        """Split each group into the rows of the pick and the others."""
        self.picks.append(pick)
        self.outside.append(np.arange(self.size))
        self.inside.append(np.arange(self.size, 2 * self.size))
        self.size *= 2

    def drop_empty(self, rows: NDArray[np.float64]) -> NDArray[np.intp]:
        """Renumber the groups without those that have no rows; return the groups kept."""
        kept = np.flatnonzero(rows > 0)
        numbers = np.zeros(self.size, np.int64)
        numbers[kept] = np.arange(len(kept))
        self.outside[-1], self.inside[-1] = numbers[self.outside[-1]], numbers[self.inside[-1]]
        self.size = len(kept)
        return kept


class CauseFinder:
    """Finds the causes among slices, one a round.

    Args:
        rows: the rows.
        cells: the slices that were looked at.
        total: sums of all rows, (1,).
        binary: values are 0 or 1.
        sign: 1 where higher is worse, -1 where lower is, 0 for either.
        level: of the Bonferroni test that ends the search.
        least_effect: relative difference from what is expected that a cause needs.
    """

    def __init__(
        self,
        rows: CodedRows,
        cells: Cells,
        total: Sums,
        *,
        binary: bool,
        sign: int,
        level: float,
        least_effect: float,
    ) -> None:
        self._rows = rows
        self._binary = binary
        self._sign = sign
        self._limit = level / max(len(cells), 1)
        self._least_effect = least_effect
        self._price = 2 * math.log(max(2, sum(d.rest for d in rows.dimensions)))
        self._groups = _Groups()
        self._group_sums = total
        self._cells = cells
        self._weight = cells.sums.weight[:, None]
        self._weight2 = cells.sums.weight2[:, None]
        self._keep(self._preselected())

    def _keep(self, index: NDArray[np.intp]) -> None:
        self._cells = self._cells.take(index)
        self._weight, self._weight2 = self._weight[index], self._weight2[index]
        self._items = (self._cells.dims >= 0).sum(axis=1)

    def _preselected(self) -> NDArray[np.intp]:
        z = self._z(self._cells.sums, self._weight, self._weight2)
        z = np.abs(z) if self._sign == 0 else self._sign * z
        index = np.flatnonzero(z >= _LEAST_Z)
        if len(index) > MOST_CANDIDATES:
            best = np.argpartition(-z[index], MOST_CANDIDATES)[:MOST_CANDIDATES]
            index = np.sort(index[best])
        return index

    def _z(
        self, sums: Sums, weight: NDArray[np.float64], weight2: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        expected, spread = self._expected(weight, weight2)
        return _standardised(sums.first - expected, spread)

    def _expected(
        self, weight: NDArray[np.float64], weight2: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the expected sum of values of slices, and its variance.

        Args:
            weight: (k, g) weight of each slice's rows in each group.
            weight2: (k, g) likewise, squared weights.
        """
        groups = self._group_sums
        mean = groups.mean
        spread = np.maximum(groups.second / groups.weight - mean**2, 0.0)
        n = groups.effective
        spread *= n / np.maximum(n - 1, 1.0)
        left = np.maximum(1 - weight / groups.weight, 0.0)
        return weight @ mean, (weight2 * left) @ spread

    def find(self, most: int) -> list[Cause]:
        """Return at most `most` causes, the strongest first.

        A cause that was found early may be explained by later ones: the union of two causes
        may be stronger than either. So in the end each is tested given all others, and the
        weakest that is no longer needed is dropped, until all are needed.
        """
        causes = list(self._found(most))
        if not 1 < len(causes) <= _MOST_TOGETHER:
            return causes
        table = self._crossed([cause.key for cause in causes])
        while len(causes) > 1:
            p = [self._needed(table, axis) for axis in range(len(causes))]
            weakest = int(np.argmax(p))
            if p[weakest] <= self._limit:
                break
            del causes[weakest]
            table = table.sum(axis=weakest + 1)
        return causes

    def _crossed(self, keys: Sequence[SliceKey]) -> NDArray[np.float64]:
        """Return (6, 2, 2, ...) sums of the rows by whether each slice holds them."""

        def key_of(block: Block) -> NDArray[np.int64]:
            number = np.zeros(block.codes.shape[1], np.int64)
            for key in keys:
                number *= 2
                number += matching(block.codes, key)
            return number

        sums = tally(self._rows, key_of, 2 ** len(keys))
        return np.stack(sums.columns()).reshape(6, *(2,) * len(keys))

    def _needed(self, table: NDArray[np.float64], axis: int) -> float:
        """Return the p-value of a cause given all others; 1 where its effect is too small.

        Args:
            table: see `_crossed`.
            axis: position of the cause.
        """
        rest, inside = (
            Sums(*np.take(table, side, axis=axis + 1).reshape(6, -1)) for side in (0, 1)
        )
        used = np.flatnonzero((rest.rows > 0) & (inside.rows > 0))
        if not len(used):
            return 0.0
        rest, inside = rest.take(used), inside.take(used)
        mean = rest.mean
        expected, seen = float(inside.weight @ mean), float(inside.first.sum())
        effect = (seen - expected) / max(abs(expected), 1e-300)
        effect = abs(effect) if self._sign == 0 else self._sign * effect
        if effect < self._least_effect:
            return 1.0
        spread = np.maximum((inside.second + rest.second) / (inside.weight + rest.weight), 0.0)
        pooled = (inside.first + rest.first) / (inside.weight + rest.weight)
        spread = np.maximum(spread - pooled**2, 0.0)
        inflated = 1 + inside.effective / rest.effective
        total = float(inside.weight2 @ (spread * inflated))
        return math.erfc(abs(seen - expected) / math.sqrt(2 * total)) if total > 0 else 1.0

    def _found(self, most: int) -> Iterator[Cause]:
        """Yield at most `most` causes, one a round."""
        for _ in range(most):
            if not len(self._cells):
                return
            cause = self._next()
            if cause is None:
                return
            yield cause

    def _next(self) -> Cause | None:
        expected, spread = self._expected(self._weight, self._weight2)
        sums = self._cells.sums
        evidence, p = self._evidence(sums, expected, spread)
        with np.errstate(divide="ignore", invalid="ignore"):
            effect = np.nan_to_num((sums.first - expected) / np.abs(expected), posinf=np.inf)
        effect = np.abs(effect) if self._sign == 0 else self._sign * effect
        good = (p <= self._limit) & (effect >= self._least_effect)
        if not good.any():
            return None
        score = np.where(good, evidence - self._price * (self._items - 1), -np.inf)
        best = int(np.argmax(score))
        key = self._key(best)
        key = self._widened(key)
        equivalent = self._explain(key, best)
        mean = float(expected[best] / sums.weight[best])
        return Cause(key, float(p[best]), mean, equivalent)

    def _evidence(
        self, sums: Sums, expected: NDArray[np.float64], spread: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the deviance and the two-sided p-value of slices given the groups."""
        from scipy.special import ndtr

        z = _standardised(sums.first - expected, spread)
        p = np.asarray(2 * ndtr(-np.abs(z)), dtype=np.float64)
        wrong = z <= 0 if self._sign > 0 else z >= 0
        wrong = np.zeros(len(z), np.bool_) if self._sign == 0 else wrong
        if not self._binary:
            return np.where(wrong, -np.inf, z * z), np.where(wrong, 1.0, p)
        # Counts on the scale of the effective sample size.
        scale = sums.effective / np.maximum(sums.weight, 1e-300)
        n, bad, mean = sums.effective, sums.first * scale, expected * scale
        whole = self._group_sums
        m = float(whole.weight.sum()) * scale - n
        rest_bad = float(whole.first.sum()) * scale - bad
        rest_mean = float(whole.first.sum()) * scale - mean
        both = deviance(bad, n, mean) + deviance(
            np.maximum(rest_bad, 0.0), np.maximum(m, 1e-9), np.maximum(rest_mean, 0.0)
        )
        few = np.flatnonzero(np.minimum(mean, n - mean) < _EXACT_BELOW)
        if len(few):
            upper = tail(bad[few], n[few], mean[few])
            lower = tail((n - bad)[few], n[few], (n - mean)[few])
            exact = np.minimum(1.0, 2 * np.minimum(upper, lower))
            p[few] = np.maximum(p[few], exact)
        return np.where(wrong, -np.inf, both), np.where(wrong, 1.0, p)

    def _key(self, index: int) -> SliceKey:
        dims, codes = self._cells.dims[index], self._cells.codes[index]
        return tuple(
            Item(int(dim), int(code), int(code))
            for dim, code in zip(dims, codes, strict=True)
            if dim >= 0
        )

    def _widened(self, key: SliceKey) -> SliceKey:
        """Join neighbouring bins, hours or weekdays while that makes the evidence stronger."""
        for item in key:
            dimension = self._rows.dimensions[item.dim]
            if dimension.ordered:
                others = tuple(other for other in key if other.dim != item.dim)
                low, high = self._best_range(item, others, dimension.rest, dimension.cyclic)
                key = tuple(Item(i.dim, low, high) if i == item else i for i in key)
        return key

    def _best_range(
        self,
        item: Item,
        others: SliceKey,
        size: int,
        cyclic: bool,  # noqa: FBT001 - private
    ) -> tuple[int, int]:
        """Return the range of codes around an item's with the strongest evidence."""
        groups = self._groups.size

        def key_of(block: Block) -> NDArray[np.int64]:
            code: NDArray[np.int64] = block.codes[item.dim].astype(np.int64)
            key: NDArray[np.int64] = code * groups + self._groups.of(block.codes)
            key[~matching(block.codes, others) | (code >= size)] = -1
            return key

        table = tally(self._rows, key_of, size * groups)
        ranges = [
            (low, length)
            for length in range(1, size)
            for low in range(size if cyclic else size - length + 1)
            if (item.low - low) % size < length
        ]
        members = np.zeros((len(ranges), size))
        for row, (low, length) in enumerate(ranges):
            members[row, np.arange(low, low + length) % size] = 1.0
        by_code = [column.reshape(size, groups) for column in table.columns()]
        joined = Sums(*(members @ column.sum(axis=1) for column in by_code))
        expected, spread = self._expected(members @ by_code[1], members @ by_code[2])
        evidence, _ = self._evidence(joined, expected, spread)
        low, length = ranges[int(np.argmax(evidence))]
        return int(low), int((low + length - 1) % size)

    def _explain(self, key: SliceKey, best: int) -> tuple[SliceKey, ...]:
        """Expect the rows of a slice at their own rate from now on; return its other names."""
        inside, inside2 = self._within(key)
        held = inside.sum(axis=1)
        same = np.flatnonzero(
            (np.abs(held - self._cells.sums.weight) < 1e-6)
            & (np.abs(held - held[best]) < 1e-6)
            & (self._items <= len(key))
        )
        plain = all(item.low == item.high for item in key)
        names = [self._key(int(i)) for i in same if i != best] if plain else []
        self._groups.add(key)

        def group_of(block: Block) -> NDArray[np.int64]:
            return self._groups.of(block.codes)

        sums = tally(self._rows, group_of, self._groups.size)
        kept = self._groups.drop_empty(sums.rows)
        self._group_sums = sums.take(kept)
        self._weight = np.hstack([self._weight - inside, inside])[:, kept]
        self._weight2 = np.hstack([self._weight2 - inside2, inside2])[:, kept]
        return tuple(names[:_MOST_EQUIVALENT])

    def _within(self, key: SliceKey) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (k, g) weights, and squared weights, of the rows that slices share with one."""
        groups = self._groups.size
        sizes = [dimension.rest + 1 for dimension in self._rows.dimensions]
        shared = np.zeros((2, len(self._cells), groups))
        members = self._by_dimensions()
        for block in self._rows.blocks():
            index = np.flatnonzero(matching(block.codes, key))
            if not len(index):
                continue
            codes = block.codes[:, index]
            group = self._groups.of(codes)
            w = None if block.weights is None else block.weights[index]
            for combination, (mine, cell) in members.items():
                cells = math.prod(sizes[position] for position in combination)
                keys = cell_keys(codes, combination, sizes) * groups + group
                for row, addend in enumerate((w, None if w is None else w * w)):
                    counts = np.bincount(keys, weights=addend, minlength=cells * groups)
                    shared[row, mine] += counts.reshape(cells, groups)[cell]
        return shared[0], shared[1]

    def _by_dimensions(
        self,
    ) -> dict[tuple[int, ...], tuple[NDArray[np.intp], NDArray[np.int64]]]:
        """Return, for each combination of dimensions, its slices and their cells."""
        sizes = [dimension.rest + 1 for dimension in self._rows.dimensions]
        unique, inverse = np.unique(self._cells.dims, axis=0, return_inverse=True)
        result = {}
        for number, dims in enumerate(unique):
            mine: NDArray[np.intp] = np.flatnonzero(inverse.ravel() == number)
            combination = tuple(int(dim) for dim in dims if dim >= 0)
            cell = np.zeros(len(mine), np.int64)
            for place, position in enumerate(combination):
                cell = cell * sizes[position] + self._cells.codes[mine, place]
            result[combination] = (mine, cell)
        return result
