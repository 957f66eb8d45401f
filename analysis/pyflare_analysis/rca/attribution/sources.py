"""The two periods of a change, read from spans or from any table with a time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pyflare_analysis.rca.attribution.answer import Attribution, AttributionConfig, explain
from pyflare_analysis.rca.attribution.leaves import Leaves, PeriodReader, PeriodRows, read_leaves
from pyflare_analysis.rca.coded import fit_dimensions
from pyflare_analysis.rca.dimensions import (
    Dimension,
    default_dimensions,
    model_names,
    resolve_dimension,
)
from pyflare_analysis.rca.metrics import Metric, MetricReader, SliceMetric, resolve_metric
from pyflare_proto.errors import NotEnoughDataError, SchemaError, UsageError, nearest
from pyflare_storage.aggregates import CountDistinct, Max, Min, Quantile
from pyflare_storage.expressions import Expr, Timestamp, all_of, col, resolve

if TYPE_CHECKING:
    import polars as pl

    from pyflare_storage.expressions import Scalar
    from pyflare_storage.source import Source

__all__ = ["TableChange", "attribute_spans", "attribute_table"]

TimeRange = tuple[int, int]
"""First nanosecond since 1970 that counts, and the first that counts no more."""


def attribute_spans(
    source: Source,
    metric: Metric | str = SliceMetric.ERROR_RATE,
    *,
    before: TimeRange,
    after: TimeRange,
    where: Expr | None = None,
    dimensions: Sequence[str] | None = None,
    config: AttributionConfig | None = None,
    evaluations: Source | None = None,
    total: bool = False,
) -> Attribution:
    """Return where the change of a metric of spans between two periods comes from.

    Args:
        source: spans.
        metric: see `resolve_metric`. Of a quantile, the share of rows above the quantile of
            the period before is explained.
        before: the period to compare with.
        after: the period to explain.
        where: the rows; all when None.
        dimensions: names; `default_dimensions` without times of day and week when None.
        config: how to look.
        evaluations: results of later evaluations; see `scores`.
        total: explain the sum of the values, for the length of the periods, not their mean.

    Raises:
        NotEnoughDataError: a period is empty.
        UsageError: an unknown metric or dimension.
    """
    config = config or AttributionConfig()
    columns = source.columns()
    resolved = metric if isinstance(metric, Metric) else resolve_metric(metric, columns)
    reader = MetricReader(resolved, columns, evaluations)
    early, late = (_within("start_time", period) for period in (before, after))
    where = all_of([reader.where, where, early | late])
    names = dimensions
    if names is None:
        found = default_dimensions(source, resolved, where, timezone=config.timezone)
        names = [d.name for d in found if d.kind not in {"hour", "weekday"}]
    wanted = [
        resolve_dimension(
            name,
            columns,
            timezone=config.timezone,
            characters=resolved.name == SliceMetric.ERROR_RATE,
        )
        for name in dict.fromkeys(names)
    ]
    shown = model_names(source, where)
    wanted = [replace(d, renamed=shown) if d.columns == ("model",) else d for d in wanted]
    threshold = _quantile_before(source, resolved, early, where)
    middle = Timestamp((before[0] + before[1]) // 2)
    periods = _Periods(columns, early, late, col("start_time") < middle)

    def read(frame: pl.DataFrame) -> PeriodRows:
        value = reader.read(frame).to_numpy()
        known = ~np.isnan(value)
        value = np.where(known, value if threshold is None else value > threshold, 0.0)
        weight = periods.weight(frame) if config.weighted else np.ones(len(value))
        period = np.where(known, periods.of(frame), -1)
        return PeriodRows(period, weight * value, weight, weight * value * value)

    needed = (*reader.columns, "start_time", "sampling_probability")
    leaves = _leaves(source, wanted, where, PeriodReader(needed, read), config)
    unit = "share" if resolved.kind != "mean" else resolved.unit
    if total:
        half, whole = (before[1] - before[0]) / 2e9, (after[1] - after[0]) / 1e9
        leaves.counts = np.array([[half], [half], [whole]])
        return explain(leaves, config, measure=f"total {resolved.name}", unit=unit, ratio=False)
    return explain(leaves, config, measure=resolved.name, unit=unit, ratio=True)


def _quantile_before(
    source: Source, metric: Metric, early: Expr, where: Expr | None
) -> float | None:
    """Return the quantile of the period before, where the metric is one."""
    if metric.kind != "quantile" or metric.value is None or isinstance(metric.value, Expr):
        return None
    asked = {"q": Quantile(metric.value, metric.q, weighted=True)}
    value = source.aggregate(asked, where=all_of([early, where])).item()
    if value is None:
        raise NotEnoughDataError(
            f"no rows with a value of {metric.name} before the change",
            hint="move the period before with --baseline-since and --baseline-until",
        )
    return float(value)


def _within(column: str, period: TimeRange) -> Expr:
    return (col(column) >= Timestamp(period[0])) & (col(column) < Timestamp(period[1]))


class _Periods:
    """Tells the periods of rows apart."""

    def __init__(self, columns: Mapping[str, str], early: Expr, late: Expr, first: Expr) -> None:
        from pyflare_storage.polars_expressions import PolarsCompiler

        self._compiler = PolarsCompiler(columns)
        self._early = self._compiler.condition(resolve(early, columns))
        self._late = self._compiler.condition(resolve(late, columns))
        self._first = self._compiler.condition(resolve(first, columns))

    def of(self, frame: pl.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Return (n,) the periods of `PeriodRows`."""
        asked = {"early": self._early, "late": self._late, "first": self._first}
        flags = frame.select(**{name: flag.fill_null(False) for name, flag in asked.items()})
        early, late, first = (flags[name].to_numpy() for name in asked)
        return np.where(late, 2, np.where(early, np.where(first, 0, 1), -1))

    def weight(self, frame: pl.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Return (n,) how many rows each stands for."""
        weight = frame.select(self._compiler.weight().alias("weight")).to_series()
        return weight.to_numpy() if len(weight) == frame.height else np.ones(frame.height)


@dataclass(frozen=True, slots=True)
class TableChange:
    """A change in a table: which columns, and when."""

    time: str
    """Column of times: timestamps, numbers, or ISO 8601 text."""
    at: str
    """When the change began, as the column has it."""
    value: str
    """Column of numbers that changed."""
    count: str | None = None
    """Column of numbers that the value is divided by; None: the value's total changed."""
    since: str | None = None
    """Begin of the period before; None: the first row."""
    until: str | None = None
    """End of the period after; None: one step of the times where they are a grid (each shared
    by several rows), else the last row."""


def attribute_table(
    source: Source,
    change: TableChange,
    *,
    where: Expr | None = None,
    dimensions: Sequence[str] = (),
    config: AttributionConfig | None = None,
) -> Attribution:
    """Return where a change in any table comes from.

    Args:
        source: the table.
        change: which columns, and when.
        where: the rows; all when None.
        dimensions: columns; all of text or of few whole numbers when empty.
        config: how to look.

    Raises:
        NotEnoughDataError: a period is empty.
        SchemaError: a column that is missing or of another type.
        UsageError: a time that cannot be read.
    """
    config = config or AttributionConfig()
    columns = source.columns()
    for name in (change.value, *([change.count] if change.count else [])):
        _check_number(name, columns)
    if change.time not in columns:
        raise _no_column(change.time, columns)
    early, late = _table_periods(source, change, columns, where)
    where = all_of([where, early | late])
    wanted = _table_dimensions(source, change, columns, dimensions)
    first = _first_half(source, change.time, early, where)
    periods = _Periods(columns, early, late, first)

    def read(frame: pl.DataFrame) -> PeriodRows:
        import polars as pl

        value = frame[change.value].cast(pl.Float64).fill_nan(None).fill_null(0.0).to_numpy()
        if change.count is None:
            return PeriodRows(periods.of(frame), value, np.ones(len(value)), value * value)
        count = frame[change.count].cast(pl.Float64).fill_nan(None).fill_null(0.0).to_numpy()
        # Whole numbers up to the count are events; else a row of c values of sum v has squares
        # of v^2 / c at least.
        events = (value <= count) & (value == np.round(value))
        square = np.where(events, value, value * value / np.maximum(count, 1e-300))
        return PeriodRows(periods.of(frame), value, count, square)

    needed = (change.time, change.value, *([change.count] if change.count else []))
    leaves = _leaves(source, wanted, where, PeriodReader(needed, read), config)
    if change.count is None:
        leaves.counts = _exposures(
            source, change.time, (early & first, early & ~first, late), where
        )
        return explain(leaves, config, measure=f"total {change.value}", unit="", ratio=False)
    measure = f"{change.value} / {change.count}"
    return explain(leaves, config, measure=measure, unit="", ratio=True)


def _leaves(
    source: Source,
    wanted: Sequence[Dimension],
    where: Expr | None,
    read: PeriodReader,
    config: AttributionConfig,
) -> Leaves:
    fitted, rows = fit_dimensions(source, wanted, where, bins=config.bins)
    varied = [dimension for dimension in fitted if dimension.rest > 1]
    if not rows:
        raise NotEnoughDataError(
            f"no rows of either period in {source.url}",
            hint="check the times: --since, --until, --at and the baseline's",
        )
    if not varied:
        raise NotEnoughDataError(
            f"all {rows:,} rows have the same value in every dimension",
            hint="name a dimension with two values or more: --dimension NAME",
        )
    return read_leaves(source, varied, where, read, depth=config.depth)


def _check_number(name: str, columns: Mapping[str, str]) -> None:
    if name not in columns:
        raise _no_column(name, columns)
    if columns[name] not in {"int64", "float64"}:
        raise SchemaError(
            f"{name!r} holds no numbers ({columns[name]})", hint="name a column of numbers"
        )


def _no_column(name: str, columns: Mapping[str, str]) -> SchemaError:
    near = nearest(name, columns)
    shown = ", ".join(list(columns)[:12])
    return SchemaError(
        f"no column {name!r}", hint=f"did you mean {near}?" if near else f"columns: {shown}"
    )


def _table_dimensions(
    source: Source, change: TableChange, columns: Mapping[str, str], names: Sequence[str]
) -> list[Dimension]:
    taken = {change.time, change.value, change.count}
    if names:
        return [resolve_dimension(name, columns, source=source) for name in dict.fromkeys(names)]
    fitting = {"string", "category", "bool", "int64"}
    every = [
        resolve_dimension(name, columns, source=source)
        for name, type_ in columns.items()
        if name not in taken and type_ in fitting
    ]
    return [dimension for dimension in every if dimension.kind == "category"]


def _table_periods(
    source: Source, change: TableChange, columns: Mapping[str, str], where: Expr | None
) -> tuple[Expr, Expr]:
    """Return the conditions of the two periods."""
    time = col(change.time)
    at = _moment(change.at, "--at", columns[change.time])
    early: Expr = time < at
    if change.since is not None:
        early &= time >= _moment(change.since, "--since", columns[change.time])
    if change.until is not None:
        return early, (time >= at) & (time < _moment(change.until, "--until", columns[change.time]))
    if _is_grid(source, change.time, where) and source.count(all_of([where, time.eq(at)])):
        return early, time.eq(at)
    return early, time >= at


def _is_grid(source: Source, time: str, where: Expr | None) -> bool:
    times = source.aggregate({"n": CountDistinct(time)}, where=where).item()
    return 0 < 2 * int(times) <= source.count(where)


def _moment(text: str, option: str, type_: str) -> Scalar:
    """Return a time as a column of that type has it."""
    if type_ in {"int64", "float64"}:
        try:
            return int(text) if type_ == "int64" else float(text)
        except ValueError as error:
            raise UsageError(
                f"not a time for {option}: {text!r}",
                hint=f"the column holds numbers: write one, such as {option} 1566397800",
            ) from error
    if type_ == "timestamp_ns":
        from pyflare_storage.filters import parse_time

        return Timestamp(parse_time(text, 0, option=option))
    if type_ in {"string", "category"}:
        return text
    raise SchemaError(f"the time column holds {type_}", hint="times, numbers or ISO 8601 text")


def _first_half(source: Source, time: str, early: Expr, where: Expr | None) -> Expr:
    """Return the condition of the first half of the period before."""
    asked = {"first": Min(time), "last": Max(time)}
    first, last = source.aggregate(asked, where=all_of([where, early])).row(0)
    type_ = source.columns()[time]
    if first is None:
        raise NotEnoughDataError(
            "nothing to compare: no rows before the change",
            hint="check the times: --at, and --since for the begin of the period before",
        )
    if type_ not in {"int64", "float64", "timestamp_ns"}:
        return col(time) <= _scalar(last, type_)  # text has no middle: all is the first half
    middle = first + (last - first) / 2
    return col(time) < _scalar(middle, type_)


def _scalar(value: object, type_: str) -> Scalar:
    """Return a value of a time column as a literal."""
    import polars as pl

    if type_ == "timestamp_ns":
        return Timestamp(int(pl.Series([value]).dt.epoch("ns")[0]))
    if type_ == "int64":
        return math.ceil(float(str(value)))
    return float(str(value)) if type_ == "float64" else str(value or "")


def _exposures(
    source: Source, time: str, periods: Sequence[Expr], where: Expr | None
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return (3, 1) how long periods are: times of a grid, else from first to last row."""
    measured = source.columns()[time] in {"int64", "float64", "timestamp_ns"}
    if not measured or _is_grid(source, time, where):
        asked = {str(i): CountDistinct(time, where=period) for i, period in enumerate(periods)}
        return np.array([source.aggregate(asked, where=where).row(0)], np.float64).T
    frames = [
        source.aggregate({"first": Min(time), "last": Max(time)}, where=all_of([where, period]))
        for period in periods
    ]
    numbers = [frame.select(_as_numbers()).row(0) for frame in frames]
    # A period ends where the next one begins; the last one with its last row.
    starts = [first or 0.0 for first, _ in numbers]
    ends = [*starts[1:], numbers[-1][1] or 0.0]
    return np.array([[end - start] for start, end in zip(starts, ends, strict=True)], np.float64)


def _as_numbers() -> pl.Expr:
    """Return all columns as float64; times in nanoseconds."""
    import polars as pl

    return pl.all().cast(pl.Int64).cast(pl.Float64)
