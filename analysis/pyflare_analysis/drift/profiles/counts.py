"""Counting rows into the cells of a profile, all at once or by window and segment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from pyflare_analysis.drift.profiles.rows import Batch, Rows, as_rows, read_features
from pyflare_analysis.drift.profiles.sketch import CategorySketch
from pyflare_analysis.drift.univariate.summary import passes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pyflare_analysis.drift.profiles.profile import ColumnProfile, Profile
    from pyflare_storage.aggregates import Key
    from pyflare_storage.expressions import Expr

    Floats = NDArray[np.float64]

__all__ = ["CellCounts", "Counts", "RowCounter", "count_rows"]

NEW_CATEGORIES = 200
"""Categories beside those of a profile that are counted by themselves, at most."""
_ROUNDING = 1e-9
_FEW_EDGES = 30
"""Edges up to which comparing all values with each is quicker than looking each value up."""


@dataclass(frozen=True, slots=True)
class CellCounts:
    """Rows of each group in each cell of one column.

    The cells: the bins of a numeric column, or the reference's categories, the new
    categories and the rest; last the rows without a value.
    """

    counts: Floats
    """(groups, cells), weighted."""
    new_categories: tuple[str, ...] = ()
    """Frequent categories that are none of the profile's, most frequent first."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows counted into the cells of a profile, by group."""

    keys: pl.DataFrame
    """One row a group and one column a key; without columns where there is one group."""
    rows: NDArray[np.int64]
    """(groups,) rows as they are stored."""
    weight: Floats
    """(groups,) rows before sampling: the sum of 1/sampling_probability."""
    weight_squared: Floats
    """(groups,) sum of the squared weights."""
    columns: dict[str, CellCounts]
    """By feature, in the order of the profile."""

    @property
    def effective(self) -> Floats:
        """(groups,) effective sample size, (sum w)^2 / sum w^2 (Kish 1965)."""
        safe = np.where(self.weight_squared > 0, self.weight_squared, 1.0)
        return np.asarray(self.weight**2 / safe)


@dataclass(slots=True)
class _Groups:
    """Numbers the groups as they turn up."""

    numbers: dict[tuple[object, ...], int] = field(default_factory=dict)
    frames: list[pl.DataFrame] = field(default_factory=list)

    def of(self, keys: pl.DataFrame) -> NDArray[np.int64] | None:
        """Return the number of each row's group; None where there are no keys."""
        if not keys.width:
            self.numbers.setdefault((), 0)
            return None
        different = keys.unique(maintain_order=True)
        found = different.rows()
        fresh = [i for i, row in enumerate(found) if row not in self.numbers]
        for i in fresh:
            self.numbers[found[i]] = len(self.numbers)
        if fresh:
            self.frames.append(different[fresh])
        numbered = different.with_columns(
            pl.Series("number of the group", [self.numbers[row] for row in found], dtype=pl.Int64)
        )
        joined = keys.join(
            numbered, on=keys.columns, how="left", nulls_equal=True, maintain_order="left"
        )
        return joined["number of the group"].to_numpy()

    def frame(self) -> pl.DataFrame:
        """Return the keys of the groups in the order of their numbers."""
        return pl.concat(self.frames) if self.frames else pl.DataFrame()


class _Sums:
    """A matrix of sums with one row a group, which grows as groups turn up."""

    def __init__(self, cells: int) -> None:
        self._cells = cells
        self._sums = np.zeros((0, cells))

    def add(
        self, cells: NDArray[np.int64], groups: NDArray[np.int64] | None, weights: Floats | None
    ) -> None:
        """Add rows, given their cells."""
        if groups is not None:
            cells = groups * self._cells + cells
        size = self._cells if groups is None else (int(groups.max()) + 1) * self._cells
        added = np.bincount(cells, weights, minlength=size).reshape(-1, self._cells)
        self.add_sums(added)

    def add_sums(self, added: Floats | NDArray[np.int64]) -> None:
        """Add the sums of the first groups, (groups, cells)."""
        missing = len(added) - len(self._sums)
        if missing > 0:
            self._sums = np.concatenate([self._sums, np.zeros((missing, self._cells))])
        self._sums[: len(added)] += added

    def sums(self, groups: int) -> Floats:
        """Return the sums of the first `groups` groups, (groups, cells)."""
        missing = max(groups - len(self._sums), 0)
        return np.concatenate([self._sums, np.zeros((missing, self._cells))])[:groups]


class _NumberCells:
    """Counts a numeric column."""

    def __init__(self, column: ColumnProfile) -> None:
        self._edges = column.edges
        self._sums = _Sums(len(column.edges) + 2)

    def add(self, name: str, groups: NDArray[np.int64] | None, batch: Batch) -> None:
        values = batch.values[name]
        numbers = values.to_numpy()  # null becomes NaN, which is sorted behind every edge
        if groups is None and batch.weights is None and len(self._edges) <= _FEW_EDGES:
            below = [np.count_nonzero(numbers < edge) for edge in self._edges]
            there = len(values) - values.null_count()
            self._sums.add_sums(np.diff([0, *below, there, len(values)])[None, :])
            return
        cells = np.searchsorted(self._edges, numbers, side="right")
        if values.null_count():
            cells[np.isnan(numbers)] = len(self._edges) + 1
        self._sums.add(cells, groups, batch.weights)

    def finish(self, groups: int) -> CellCounts:
        return CellCounts(self._sums.sums(groups))


class _CategoryCells:
    """Counts a categorical column."""

    def __init__(self, column: ColumnProfile) -> None:
        self._categories = column.categories
        self._open = column.is_open
        self._sketch = CategorySketch(keep=column.categories)
        self._sums = _Sums(2)  # with a value, without

    def add(self, name: str, groups: NDArray[np.int64] | None, batch: Batch) -> None:
        counted = batch.counted.get(name)
        if counted is not None:
            self._sums.add_sums(np.array([[batch.rows - counted.missing, counted.missing]]))
            texts, counts = counted.values, counted.counts
            if self._open:
                known = self._known(texts).to_numpy()
                texts, counts = texts.filter(known), counts[known]
            self._sketch.add_counts(texts, counts)
            return
        values = batch.values[name]
        missing = values.is_null()
        self._sums.add(missing.to_numpy().astype(np.int64), groups, batch.weights)
        if self._open:
            # Ids: only those that the profile knows are worth counting one by one.
            values = values.set(~self._known(values).fill_null(value=False), None)
        self._sketch.add(values, groups, batch.weights)

    def _known(self, values: pl.Series) -> pl.Series:
        return values.is_in(pl.Series(list(self._categories), dtype=pl.String).implode())

    def finish(self, groups: int) -> CellCounts:
        counted = self._sketch.counts()
        known = pl.Series("value", list(self._categories), dtype=pl.String).implode()
        others = (
            counted.filter(~pl.col("value").is_in(known))
            .group_by("value")
            .agg(pl.col("count").sum())
        )
        others = others.sort(["count", "value"], descending=[True, False]).head(NEW_CATEGORIES)
        new = tuple(others["value"].to_list())
        labels = [*self._categories, *new]
        cells = pl.DataFrame(
            {"value": pl.Series(labels, dtype=pl.String), "cell": range(len(labels))},
            schema_overrides={"cell": pl.Int64()},
        )
        placed = counted.join(cells, on="value", how="inner")
        sums = np.zeros((groups, len(labels) + 2))
        sums[placed["group"].to_numpy(), placed["cell"].to_numpy()] = placed["count"].to_numpy()
        present, missing = self._sums.sums(groups).T
        rest = present - sums[:, :-2].sum(axis=1)
        # Weights are no whole numbers: what rounding leaves over is no row, and no cell.
        sums[:, -2] = np.where(rest > _ROUNDING * present, rest, 0.0)
        sums[:, -1] = missing
        return CellCounts(sums, new)


class RowCounter:
    """Counts rows into the cells of a profile as they come.

    Args:
        profile: the cells.
        by: windows (`TimeBucket`, `Day`) and segments; see `pyflare_storage.aggregates`.
        weighted: count rows 1/sampling_probability times; as the profile does when None.
    """

    def __init__(
        self, profile: Profile, by: Sequence[Key] = (), *, weighted: bool | None = None
    ) -> None:
        self._features = [column.feature for column in profile.columns.values()]
        self._by = by
        self._weighted = profile.weighted if weighted is None else weighted
        self._groups = _Groups()
        self._columns = {
            name: _NumberCells(c) if c.feature.kind == "numeric" else _CategoryCells(c)
            for name, c in profile.columns.items()
        }
        self._totals = _Sums(3)  # rows, weights, squared weights

    def add(self, rows: Rows, where: Expr | None = None) -> None:
        """Take the rows of a source or frame that fulfil a condition.

        Raises:
            SchemaError: a column of the profile that is not there or of another type.
            ExpressionError: an unknown column in `where` or in the keys.
        """
        for batch in read_features(
            rows, self._features, where=where, by=self._by, weighted=self._weighted
        ):
            groups = self._groups.of(batch.keys)
            self._add_totals(groups, batch)
            for name, column in self._columns.items():
                column.add(name, groups, batch)

    def _add_totals(self, groups: NDArray[np.int64] | None, batch: Batch) -> None:
        if groups is None and batch.weights is None:
            self._totals.add_sums(np.full((1, 3), batch.rows))
            return
        weights = np.ones(batch.rows) if batch.weights is None else batch.weights
        for i, power in enumerate((None, weights, weights**2)):
            self._totals.add(np.full(batch.rows, i), groups, power)

    def counts(self) -> Counts:
        """Return what has been counted so far."""
        groups = len(self._groups.numbers) if self._by else 1
        rows, weight, squared = self._totals.sums(groups).T
        return Counts(
            keys=self._groups.frame(),
            rows=rows.astype(np.int64),
            weight=weight,
            weight_squared=squared,
            columns={name: column.finish(groups) for name, column in self._columns.items()},
        )


def count_rows(
    profile: Profile,
    rows: Rows,
    *,
    where: Expr | None = None,
    by: Sequence[Key] = (),
    weighted: bool | None = None,
) -> Counts:
    """Count rows into the cells of a profile, in memory of a few batches.

    Args:
        profile: the cells.
        rows: a source or whatever `as_rows` takes.
        where: the rows that count; all when None.
        by: windows (`TimeBucket`, `Day`) and segments; see `pyflare_storage.aggregates`.
        weighted: count rows 1/sampling_probability times; as the profile does when None.

    Raises:
        SchemaError: a column of the profile that is not there or of another type.
        ExpressionError: an unknown column in `where` or `by`.
    """
    rows = as_rows(rows)
    names = list(profile.columns)
    parts = []
    # With keys it is one pass, in which the groups are numbered.
    for group in [names] if by else passes(names, rows):
        columns = {name: profile.columns[name] for name in group}
        counter = RowCounter(replace(profile, columns=columns), by, weighted=weighted)
        counter.add(rows, where)
        parts.append(counter.counts())
    return replace(parts[0], columns={k: v for part in parts for k, v in part.columns.items()})
