"""Counts by interval of time and slice: all that patterns are found from.

A source is asked for aggregates only: calls by interval, value of a dimension and bin of their
duration or cost. What comes back is bounded by intervals x values x bins, whatever the number
of spans. Scores of evaluations, which no source aggregates, are read in batches and counted at
once.

Sampled spans count 1/sampling_probability each, and all counts of a dimension are then scaled
so that they add up to the spans that are stored: rates are those of the traffic, and tests do
not take estimates for observations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pyflare_analysis.calls import CALL, FAILED
from pyflare_storage.aggregates import Aggregate, Bins, Count, Key, Sum, TimeBucket
from pyflare_storage.expressions import Attribute, Column, Expr, all_of, col, timestamp

if TYPE_CHECKING:
    import polars as pl

    from pyflare_analysis.rca.metrics import MetricReader
    from pyflare_storage.source import Source

__all__ = [
    "COST_EDGES",
    "DURATION_EDGES",
    "Cube",
    "Exclusion",
    "Grid",
    "SliceKey",
    "load_calls",
    "load_costs",
    "load_scores",
]

Floats = NDArray[np.float64]

DURATION_EDGES = (0.0, *(float(2.0 ** (k / 6)) for k in range(-6, 139)), 1e12)
"""Bins of 12 % width from half a millisecond to two hours."""
COST_EDGES = (0.0, *(float(2.0 ** (k / 4)) for k in range(161)), 1e18)
"""Bins of 19 % width from a nano-dollar to a thousand dollars."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Intervals of equal length."""

    start_ns: int
    """Start of the first interval."""
    every: str
    """Their length as text."""
    every_ns: int
    count: int
    """How many there are."""

    def time_ns(self, bucket: int) -> int:
        """Return the start of an interval."""
        return self.start_ns + bucket * self.every_ns

    def buckets(self, times: pl.Series) -> NDArray[np.int64]:
        """Return the number of the interval of each time."""
        ns = times.dt.cast_time_unit("ns").to_physical().to_numpy()
        return np.asarray((ns - self.start_ns) // self.every_ns, dtype=np.int64)

    def hour_of_day(self) -> NDArray[np.int64]:
        """Return (T,) the UTC hour of each interval."""
        starts = self.start_ns + np.arange(self.count, dtype=np.int64) * self.every_ns
        return starts // 3_600_000_000_000 % 24

    def day(self) -> NDArray[np.int64]:
        """Return (T,) the number of the UTC day of each interval, from 0."""
        starts = self.start_ns + np.arange(self.count, dtype=np.int64) * self.every_ns
        days: NDArray[np.int64] = starts // 86_400_000_000_000 - starts[0] // 86_400_000_000_000
        return days


@dataclass(frozen=True, slots=True)
class SliceKey:
    """A dimension as rows are grouped by it."""

    name: str
    """As it stands in slices."""
    keys: tuple[str | Attribute, ...]
    """Columns or attributes to group by; for the model the name asked for as well."""
    renamed: Mapping[str, str]
    """For the model: the name shown for each model that was asked for."""

    def operands(self) -> list[Column | Attribute]:
        """Return what the rows are grouped by."""
        return [Column(key) if isinstance(key, str) else key for key in self.keys]

    def values(self, frame: pl.DataFrame) -> pl.Series:
        """Return the value of each row of an answer grouped by `keys`, text, null for none."""
        import polars as pl

        first = frame[frame.columns[0]].cast(pl.String)
        if not self.renamed:
            return first
        asked = frame[frame.columns[1]]
        shown = asked.replace_strict(
            list(self.renamed), list(self.renamed.values()), default=asked, return_dtype=pl.String
        )
        return pl.select(pl.coalesce(pl.lit(shown), pl.lit(first))).to_series()

    def places(self, frame: pl.DataFrame, values: Sequence[str]) -> NDArray[np.int64]:
        """Return the position in `values` of each row's value, -1 for none of them."""
        import polars as pl

        shown = self.values(frame)
        found = shown.replace_strict(
            list(values), list(range(len(values))), default=-1, return_dtype=pl.Int64
        )
        places: NDArray[np.int64] = np.array(found.fill_null(-1).to_numpy(), dtype=np.int64)
        return places

    def outside(self, value: str) -> Expr:
        """Return the condition of rows that have another value, or none."""
        operand = self.operands()[0]
        other: Expr = operand.is_null() | operand.ne(value)
        if not self.renamed:
            return other
        asked = [name for name, shown in self.renamed.items() if shown == value]
        request = col("model_request")
        return (request.is_null() & other) | (request.is_not_null() & ~request.is_in(asked))


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Rows that an accepted pattern explains: a slice within a time."""

    outside: Expr | None
    """Rows that are not of the slice; None: the slice is everything."""
    start_ns: int
    end_ns: int

    def expr(self) -> Expr:
        """Return the condition of the rows that stay."""
        start = col("start_time")
        stays: Expr = (start < timestamp(self.start_ns)) | (start >= timestamp(self.end_ns))
        return stays if self.outside is None else stays | self.outside


@dataclass(slots=True)
class Cube:
    """Counts of one metric by value of a dimension and interval."""

    dimension: str | None
    """None: all rows as one slice."""
    values: list[str]
    """(V,) values of the dimension; one empty text without a dimension."""
    edges: Floats
    """(B+1,) edges of the bins of the metric."""
    bins: Floats
    """(V, T, B) rows in each bin."""
    sums: dict[str, Floats]
    """(V, T) sums by name: `errors`, `value`, tokens."""

    @property
    def trials(self) -> Floats:
        """Return (V, T) rows."""
        total: Floats = self.sums["trials"]
        return total


def _aggregate(
    source: Source,
    grid: Grid,
    key: SliceKey | None,
    *,
    bins: Bins,
    aggregates: Mapping[str, Aggregate],
    where: Expr | None,
) -> pl.DataFrame:
    by: list[Key] = [TimeBucket(every=grid.every), *(key.keys if key else ()), bins]
    return source.aggregate(aggregates, by, where)


def _cube(
    frame: pl.DataFrame,
    grid: Grid,
    key: SliceKey | None,
    values: Sequence[str],
    *,
    edges: Sequence[float],
    names: Sequence[str],
    weighted: bool,
) -> Cube:
    """Return an answer as dense arrays."""
    row = np.zeros(frame.height, dtype=np.int64)
    if key is not None:
        row = key.places(frame.select(frame.columns[1 : 1 + len(key.keys)]), values)
    bucket = grid.buckets(frame["time"])
    inside = (row >= 0) & (bucket >= 0) & (bucket < grid.count)
    bin_ = frame["bin"].fill_null(-1).to_numpy()
    shape = (len(values), grid.count)

    def total(name: str) -> Floats:
        column = frame[name].fill_null(0).cast(float).to_numpy()
        out = np.zeros(shape)
        np.add.at(out, (row[inside], bucket[inside]), column[inside])
        return out

    stored = float(frame["stored"].sum() or 0)
    counted = float(frame["trials"].sum() or 0)
    scale = stored / counted if weighted and counted else 1.0
    binned = np.zeros((*shape, len(edges) - 1))
    known = inside & (bin_ >= 0)
    counts = frame["trials"].cast(float).to_numpy()
    np.add.at(binned, (row[known], bucket[known], bin_[known]), counts[known])
    if scale != 1.0:  # what is written to takes memory, and most bins are empty
        binned *= scale
    sums = {name: total(name) * scale for name in names}
    return Cube(key.name if key else None, list(values), np.asarray(edges), binned, sums)


def load_calls(
    source: Source,
    grid: Grid,
    key: SliceKey | None,
    values: Sequence[str],
    *,
    where: Expr | None,
    weighted: bool,
) -> Cube:
    """Return calls by duration: sums `trials` (calls) and `errors`.

    Args:
        source: where the spans are.
        grid: intervals.
        key: dimension; None for all calls.
        values: of the dimension, those that are looked at.
        where: the spans.
        weighted: count sampled spans 1/sampling_probability times.
    """
    bins = Bins("duration_ms", DURATION_EDGES)
    aggregates: dict[str, Aggregate] = {
        "stored": Count(),
        "trials": Count(weighted=weighted),
        "errors": Count(where=FAILED, weighted=weighted),
    }
    calls = all_of([CALL, where])
    frame = _aggregate(source, grid, key, bins=bins, aggregates=aggregates, where=calls)
    names = ("trials", "errors")
    return _cube(frame, grid, key, values, edges=DURATION_EDGES, names=names, weighted=weighted)


def load_costs(
    source: Source,
    grid: Grid,
    key: SliceKey | None,
    values: Sequence[str],
    *,
    where: Expr | None,
    weighted: bool,
) -> Cube:
    """Return priced calls by cost: sums `trials`, `value` (nano-dollars) and tokens."""
    bins = Bins("cost_nano_usd", COST_EDGES)
    aggregates: dict[str, Aggregate] = {
        "stored": Count(),
        "trials": Count(weighted=weighted),
        "value": Sum("cost_nano_usd", weighted=weighted),
        "input_tokens": Sum("input_tokens", weighted=weighted),
        "output_tokens": Sum("output_tokens", weighted=weighted),
    }
    priced = all_of([CALL, col("cost_nano_usd").is_not_null(), where])
    frame = _aggregate(source, grid, key, bins=bins, aggregates=aggregates, where=priced)
    names = ("trials", "value", "input_tokens", "output_tokens")
    return _cube(frame, grid, key, values, edges=COST_EDGES, names=names, weighted=weighted)


def load_scores(
    source: Source,
    grid: Grid,
    keys: Sequence[tuple[SliceKey | None, Sequence[str]]],
    *,
    reader: MetricReader,
    edges: Sequence[float],
    where: Expr | None,
) -> list[Cube]:
    """Return scores of one evaluation by value, for several dimensions in one pass.

    Scores are read in batches of rows and counted at once; each counts once.

    Args:
        source: where the spans are.
        grid: intervals.
        keys: dimensions with the values that are looked at; None for all scores.
        reader: reads the scores.
        edges: (B+1,) increasing, open to both sides.
        where: the spans.
    """
    inner = np.asarray(edges, dtype=np.float64)[1:-1]
    known = source.columns()
    cubes = []
    for key, values in keys:
        shape = (len(values), grid.count)
        sums = {"trials": np.zeros(shape), "value": np.zeros(shape)}
        bins = np.zeros((*shape, len(edges) - 1))
        cubes.append(Cube(key.name if key else None, list(values), np.asarray(edges), bins, sums))
    for frame, scores in _scored(source, [key for key, _ in keys], reader, where):
        bucket = grid.buckets(frame["start_time"])
        bin_ = np.searchsorted(inner, scores, side="right")
        for cube, (key, values) in zip(cubes, keys, strict=True):
            row = _rows(frame, key, values, known)
            inside = (row >= 0) & (bucket >= 0) & (bucket < grid.count)
            at = (row[inside], bucket[inside])
            np.add.at(cube.sums["trials"], at, 1.0)
            np.add.at(cube.sums["value"], at, scores[inside])
            np.add.at(cube.bins, (*at, bin_[inside]), 1.0)
    return cubes


def _rows(
    frame: pl.DataFrame, key: SliceKey | None, values: Sequence[str], known: Mapping[str, str]
) -> NDArray[np.int64]:
    """Return the row of the cube for each row of a batch, -1 for none."""
    from pyflare_storage.polars_expressions import PolarsCompiler

    if key is None:
        return np.zeros(frame.height, dtype=np.int64)
    compiler = PolarsCompiler(known)
    named = {f"key {i}": compiler.value(o) for i, o in enumerate(key.operands())}
    return key.places(frame.select(**named), values)


def _scored(
    source: Source, keys: Sequence[SliceKey | None], reader: MetricReader, where: Expr | None
) -> Iterator[tuple[pl.DataFrame, Floats]]:
    """Yield batches of the spans that have a score, with the scores."""
    columns = {"start_time", *reader.columns}
    for key in keys:
        for operand in key.operands() if key else ():
            columns.add(operand.of if isinstance(operand, Attribute) else operand.name)
    ordered = [name for name in source.columns() if name in columns]
    for frame in source.scan(ordered, where=all_of([reader.where, where])):
        scores = reader.read(frame)
        known = scores.is_not_null()
        if known.any():
            yield frame.filter(known), scores.filter(known).to_numpy()
