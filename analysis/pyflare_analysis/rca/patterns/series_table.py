"""A series read from a table: its times, and the mean of the values at each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pyflare_proto.errors import SchemaError

if TYPE_CHECKING:
    import polars as pl

    from pyflare_storage.source import Source

__all__ = ["read_series"]

Floats = NDArray[np.float64]
_MOST_POINTS = 200_000
_LADDER = (("1m", 60), ("5m", 300), ("15m", 900), ("1h", 3600), ("6h", 21_600))


def read_series(
    source: Source, time: str, value: str, *, every: str | None = None
) -> tuple[NDArray[np.int64], Floats, str]:
    """Return times (ns since 1970, increasing) and values of a table.

    Points of one time, or of one interval where `every` is given, become their mean. A table of
    more than 200,000 rows is put into intervals by the source.

    Args:
        source: the table.
        time: column of times: timestamps, ISO 8601 text, or seconds since 1970.
        value: column of numbers.
        every: length of an interval.

    Returns:
        Times, values, and the interval, empty where points are as they stand.

    Raises:
        SchemaError: no such column, or one of the wrong type.
        NotEnoughDataError: fewer points than a series needs.
    """
    from pyflare_storage.aggregates import Count, Max, Mean, Min, TimeBucket

    columns = source.columns()
    _check(source, time, value)
    rows = source.count()
    if every is None and rows > _MOST_POINTS and columns[time] == "timestamp_ns":
        bounds = source.aggregate({"low": Min(time), "high": Max(time)})
        low, high = bounds["low"][0], bounds["high"][0]
        seconds = (high - low).total_seconds() if low is not None else 0.0
        every = next((e for e, s in _LADDER if seconds / s <= _MOST_POINTS / 4), "1d")
    if every is not None and columns[time] == "timestamp_ns":
        keys = [TimeBucket(time, every)]
        frame = source.aggregate({"value": Mean(value), "n": Count(value)}, by=keys)
        ns = frame["time"].dt.cast_time_unit("ns").to_physical()
        known = frame["value"].is_not_null() & ns.is_not_null()
        return ns.filter(known).to_numpy(), frame["value"].filter(known).to_numpy(), every
    points, values = _rows(source, time, value)
    if every is not None:
        length = TimeBucket(every=every).fixed_ns()[0]
        points = points // length * length
    return (*_means(points, values), every or "")


def _check(source: Source, time: str, value: str) -> None:
    from pyflare_proto.errors import nearest

    columns = source.columns()
    for name, option in ((time, "--time"), (value, "--value")):
        if name not in columns:
            near = nearest(name, columns)
            raise SchemaError(
                f"no column {name!r} in {source.url}",
                hint=f"did you mean {near}?"
                if near
                else f"{option} takes one of {', '.join(list(columns)[:12])}",
            )
    if columns[value] not in {"int64", "float64", "bool"}:
        raise SchemaError(
            f"{value!r} is no column of numbers ({columns[value]})",
            hint="--value takes a column of numbers",
        )


def _rows(source: Source, time: str, value: str) -> tuple[NDArray[np.int64], Floats]:
    """Return the rows with a time and a finite value."""
    import polars as pl

    parts = []
    for frame in source.scan([time, value]):
        ns = _nanoseconds(frame[time])
        values = frame[value].cast(pl.Float64)
        keep = ns.is_not_null() & values.is_finite().fill_null(value=False)
        parts.append((ns.filter(keep).to_numpy(), values.filter(keep).to_numpy()))
    if not parts:
        return np.zeros(0, dtype=np.int64), np.zeros(0)
    return np.concatenate([a for a, _ in parts]), np.concatenate([b for _, b in parts])


def _nanoseconds(times: pl.Series) -> pl.Series:
    """Return times as nanoseconds since 1970.

    Raises:
        SchemaError: the column holds no times.
    """
    import polars as pl

    if isinstance(times.dtype, pl.Datetime | pl.Date):
        return times.cast(pl.Datetime("ns")).to_physical()
    if times.dtype.is_numeric():
        return (times.cast(pl.Float64) * 1e9).round().cast(pl.Int64, strict=False)
    if times.dtype == pl.String:
        plain = times.str.strip_chars().str.replace("Z$", "").str.replace("T", " ", literal=True)
        for pattern in ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d"):
            parsed = plain.str.to_datetime(pattern, time_unit="ns", strict=False)
            if parsed.null_count() == times.null_count():
                return parsed.to_physical()
    raise SchemaError(
        f"{times.name!r} holds no times ({times.dtype})",
        hint="--time takes timestamps, ISO 8601 text in UTC, or seconds since 1970",
    )


def _means(ns: NDArray[np.int64], values: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Return increasing times, with the mean of the values of each."""
    unique, place, counts = np.unique(ns, return_inverse=True, return_counts=True)
    sums = np.bincount(place, weights=values, minlength=len(unique))
    return unique, sums / counts
