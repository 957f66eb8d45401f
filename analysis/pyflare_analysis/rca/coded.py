"""Rows as small whole numbers: one code a dimension, so that slices are counted, not queried.

`fit_dimensions` reads the values once and gives the frequent ones a code each; all others
share one code that stands for no slice. `CodedRows` reads the rows again as codes and keeps
these in a `BlockStore` for the passes to come, so memory is bounded whatever the number of rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pyflare_analysis.plain import key_text
from pyflare_analysis.rca.block_store import Block, BlockStore
from pyflare_analysis.rca.dimensions import Dimension
from pyflare_storage.expressions import Expr

if TYPE_CHECKING:
    import polars as pl

    from pyflare_analysis.rca.metrics import MetricReader
    from pyflare_storage.source import Source

__all__ = ["Block", "CodedDimension", "CodedRows", "fit_dimensions"]

Label = str | int | float | bool | None

MOST_LABELS = 1000
"""Values of one dimension that can be slices; a slice needs more rows than one in a thousand."""
_BLOCK_ROWS = 1 << 16
_BLOCK_BYTES = 1 << 25
_SAMPLE_ROWS = 20_000
_TABLE_VALUES = 1 << 20
"""Different values that are counted at once; beyond, the rare ones are let go."""
_MOST_PARTS = 16
"""Tables of counts that wait to be added up."""
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True, slots=True)
class CodedDimension:
    """A dimension whose values have codes: 0 to len(labels) - 1, and `rest` for all others."""

    dimension: Dimension
    labels: tuple[Label, ...]
    """What each code stands for, as in JSON."""
    edges: tuple[float, ...] = ()
    """(len(labels) + 1,) increasing, of numbers, from -inf to inf; bin i is
    [edges[i], edges[i+1])."""

    @property
    def name(self) -> str:
        """Name of the dimension."""
        return self.dimension.name

    @property
    def rest(self) -> int:
        """The code of rare values and missing numbers, which are no slice."""
        return len(self.labels)

    @property
    def ordered(self) -> bool:
        """Whether neighbouring codes may be joined to a range."""
        return bool(self.edges) or self.cyclic

    @property
    def cyclic(self) -> bool:
        """Whether the last code is followed by the first: hours and weekdays."""
        return self.dimension.kind in {"hour", "weekday"}

    def encode(self, frame: pl.DataFrame, columns: Mapping[str, str]) -> NDArray[np.uint16]:
        """Return (n,) the code of each row."""
        import polars as pl

        values = self.dimension.values(frame, columns)
        if self.edges:
            x = values.to_numpy()
            codes = np.searchsorted(self.edges, x, side="right") - 1
            codes[x == np.inf] = self.rest - 1
            codes[np.isnan(x)] = self.rest
            return codes.astype(np.uint16)
        if self.cyclic:
            first = 1 if self.dimension.kind == "weekday" else 0
            hours = values.cast(pl.Int64).fill_null(self.rest + first).to_numpy() - first
            return hours.astype(np.uint16)
        texts = [_text(label) for label in self.labels if label is not None]
        found = values.cast(pl.String).cast(pl.Enum(texts), strict=False).to_physical()
        # Null has a code of its own: the label None, behind the others.
        missing = self.labels.index(None) if None in self.labels else self.rest
        known = found.cast(pl.UInt16).fill_null(self.rest)
        coded: NDArray[np.uint16] = known.set(values.is_null(), missing).to_numpy()
        return coded

    def label(self, low: int, high: int) -> Label:
        """Return what the codes from `low` to `high`, both included, stand for.

        Ranges are half-open: `[120, 480)`, `< 120`, `>= 480`, `01:00-05:00`; weekdays are
        named: `Saturday-Sunday`.
        """
        if self.dimension.kind == "hour":
            return f"{low:02d}:00-{(high + 1) % 24:02d}:00"
        if self.dimension.kind == "weekday":
            return _DAYS[low] if low == high else f"{_DAYS[low]}-{_DAYS[high]}"
        if self.edges:
            return _range_text(self.edges[low], self.edges[high + 1])
        return self.labels[low]


def _text(label: Label) -> str:
    """Return a label as Polars writes it as text."""
    return str(label).lower() if isinstance(label, bool) else str(label)


def _range_text(low: float, high: float) -> str:
    if low == -np.inf:
        return f"< {_number(high)}"
    return f">= {_number(low)}" if high == np.inf else f"[{_number(low)}, {_number(high)})"


def _number(value: float) -> str:
    return f"{value:.0f}" if value == round(value) else f"{value:.6g}"


def fit_dimensions(
    source: Source,
    dimensions: Sequence[Dimension],
    where: Expr | None,
    *,
    bins: int,
    seed: int = 0,
) -> tuple[list[CodedDimension], int]:
    """Give the values of dimensions codes.

    Categories: at most the 1000 most frequent. Numbers: bins between quantiles of a seeded
    sample, equal quantiles joined.

    Returns:
        The dimensions that have any value, and the number of rows.
    """
    columns = source.columns()
    categories = [d for d in dimensions if d.kind == "category"]
    counted, rows = _count_values(source, categories, where, columns)
    numbers = [d for d in dimensions if d.is_number]
    edges = _edges(source, numbers, where, bins=bins, seed=seed) if rows else {}
    fitted: list[CodedDimension] = []
    for dimension in dimensions:
        if dimension.kind == "category":
            labels = _labels(counted[dimension.name])
            fitted.append(CodedDimension(dimension, labels))
        elif dimension.is_number:
            found = edges.get(dimension.name, ())
            labels = tuple(found[:-1])
            fitted.append(CodedDimension(dimension, labels, tuple(found)))
        else:
            labels = tuple(range(24)) if dimension.kind == "hour" else _DAYS
            fitted.append(CodedDimension(dimension, labels))
    return [item for item in fitted if item.labels], rows


def _labels(counts: pl.DataFrame) -> tuple[Label, ...]:
    """Return the frequent values, the most frequent first, null last."""
    import polars as pl

    top = counts.sort(["count", "value"], descending=[True, False]).head(MOST_LABELS)
    values = [key_text(value) for value in top.filter(pl.col("value").is_not_null())["value"]]
    return (*values, None) if top["value"].null_count() else tuple(values)


def _count_values(
    source: Source,
    dimensions: Sequence[Dimension],
    where: Expr | None,
    columns: Mapping[str, str],
) -> tuple[dict[str, pl.DataFrame], int]:
    """Count the values of all categories in one pass: frames of `value` and `count`."""
    import polars as pl

    from pyflare_storage.pieces import detached

    needed = _needed(dimensions, columns)
    parts: dict[str, list[pl.DataFrame]] = {d.name: [] for d in dimensions}
    rows = 0
    for frame in _gathered(source.scan(needed or list(columns)[:1], where=where)):
        rows += frame.height
        for dimension in dimensions:
            values = dimension.values(frame, columns).alias("value")
            mine = parts[dimension.name]
            mine.append(values.value_counts(name="count"))
            if len(mine) > _MOST_PARTS:
                whole = _sum_counts(mine)
                if whole.height > _TABLE_VALUES:
                    # Lossy counting (Manku and Motwani 2002): what is rarer than one in ten
                    # thousand so far can be no slice.
                    whole = whole.filter(pl.col("count") * 10_000 > rows)
                parts[dimension.name] = [detached(whole)]
    return {name: _sum_counts(mine) for name, mine in parts.items()}, rows


def _sum_counts(parts: list[pl.DataFrame]) -> pl.DataFrame:
    import polars as pl

    if not parts:
        return pl.DataFrame(schema={"value": pl.String, "count": pl.UInt32})
    whole = pl.concat(parts, how="vertical_relaxed")
    return whole.group_by("value").agg(pl.col("count").cast(pl.Int64).sum())


def _needed(dimensions: Sequence[Dimension], columns: Mapping[str, str]) -> list[str]:
    names = dict.fromkeys(name for d in dimensions for name in d.columns)
    return [name for name in columns if name in names]


def _edges(
    source: Source, dimensions: Sequence[Dimension], where: Expr | None, *, bins: int, seed: int
) -> dict[str, tuple[float, ...]]:
    """Return the edges of the bins of each dimension of numbers."""
    if not dimensions:
        return {}
    columns = source.columns()
    sample = source.sample(_SAMPLE_ROWS, seed, _needed(dimensions, columns), where)
    result: dict[str, tuple[float, ...]] = {}
    for dimension in dimensions:
        values = dimension.values(sample, columns).drop_nulls().drop_nans()
        if not values.len():
            continue
        edges = np.unique(np.quantile(values.to_numpy(), np.linspace(0, 1, bins + 1)))
        if len(edges) == 1:
            continue
        # The sample does not hold the extremes: the outer bins are open.
        edges[0], edges[-1] = -np.inf, np.inf
        result[dimension.name] = tuple(edges.tolist())
    return result


class CodedRows:
    """The rows with a number, as codes, as often as they are asked for.

    Args:
        source: where the rows are.
        reader: reads the metric.
        dimensions: with their codes.
        where: the rows.
        weighted: read 1/sampling_probability.
    """

    def __init__(
        self,
        source: Source,
        reader: MetricReader,
        dimensions: Sequence[CodedDimension],
        where: Expr | None,
        *,
        weighted: bool,
    ) -> None:
        self.dimensions = tuple(dimensions)
        self._source = source
        self._reader = reader
        self._where = where
        self._weighted = weighted
        self._kept: BlockStore | None = None
        self._threshold: float | None = None

    def blocks(self) -> Iterator[Block]:
        """Yield the rows, in the source's order."""
        for block in self._kept if self._kept is not None else self._first_pass():
            yield block if self._threshold is None else _above(block, self._threshold)

    def _first_pass(self) -> Iterator[Block]:
        """Yield the rows as the source has them, and keep them for the next pass."""
        kept = BlockStore(self.dimensions)
        for block in self._read():
            kept.add(block)
            yield block
        if not kept.lost:
            self._kept = kept

    def _read(self) -> Iterator[Block]:
        columns = self._source.columns()
        needed = {name for d in self.dimensions for name in d.dimension.columns}
        needed |= set(self._reader.columns)
        if self._weighted:
            needed.add("sampling_probability")
        names = [name for name in columns if name in needed]
        for frame in _gathered(self._source.scan(names, where=self._where)):
            yield self._coded(frame, columns)

    def above(self, threshold: float) -> CodedRows:
        """Return the same rows with the value 1 where the number is above a threshold, else 0."""
        result = CodedRows(
            self._source, self._reader, self.dimensions, self._where, weighted=self._weighted
        )
        result._kept = self._kept
        result._threshold = threshold
        return result

    def _coded(self, frame: pl.DataFrame, columns: Mapping[str, str]) -> Block:
        values = self._reader.read(frame).to_numpy()
        codes = np.empty((len(self.dimensions), frame.height), np.uint16)
        for row, dimension in enumerate(self.dimensions):
            codes[row] = dimension.encode(frame, columns)
        weights = None
        if self._weighted:
            from pyflare_storage.polars_expressions import PolarsCompiler

            weights = frame.select(PolarsCompiler(columns).weight()).to_series().to_numpy()
        known = ~np.isnan(values)
        if not known.all():
            codes, values = codes[:, known], values[known]
            weights = None if weights is None else weights[known]
        return Block(codes, values, weights)


def _above(block: Block, threshold: float) -> Block:
    return Block(block.codes, (block.values > threshold).astype(np.float64), block.weights)


def _gathered(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Join frames to larger ones, of up to 64 Ki rows or 32 MiB."""
    import polars as pl

    waiting: list[pl.DataFrame] = []
    rows, size = 0, 0
    for frame in frames:
        waiting.append(frame)
        rows += frame.height
        size += int(frame.estimated_size())
        if rows >= _BLOCK_ROWS or size >= _BLOCK_BYTES:
            yield pl.concat(waiting)
            waiting, rows, size = [], 0, 0
    if waiting:
        yield pl.concat(waiting)
