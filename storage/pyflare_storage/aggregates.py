"""What can be asked of rows: aggregates, and keys to group them by.

Definitions, the same on every backend:

- Values that are null or `NaN` take part in no aggregate. `Count` of rows and
  `CountDistinct` of nothing are 0, every other aggregate of nothing is null.
- `weighted=True` counts a row 1/`sampling_probability` times (once where that is null),
  which estimates the figure before sampling (Horvitz and Thompson 1952). Weighted
  counts and sums are float64. With no sampled row they equal the unweighted ones
  exactly up to 2^53.
- `Quantile` interpolates linearly between order statistics (type 7 of Hyndman and Fan
  1996, the default of NumPy) and is exact: it looks at every value. Weighted, it is
  the generalisation of type 7 by Akinshin ("Weighted quantile estimators", 2023,
  arXiv:2304.07265, section 4) with Kish's effective sample size: for sorted values x_i
  with weights w_i, n* = (sum w)^2 / sum w^2, h = q (n* - 1), t_i = sum_{j<=i} w_j / sum w,
  Q = sum x_i (F(t_i) - F(t_{i-1})) with F(t) = min(max(n* t - h, 0), 1). Equal weights
  give type 7.
- Days are calendar days of a time zone. Other buckets of fixed length are aligned to
  1970-01-01T00:00Z (weeks to Monday), months to the calendar.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pyflare_proto.errors import SchemaError, UsageError
from pyflare_storage.expressions import Attribute, Column, Expr, Operand, operand_type, resolve
from pyflare_storage.times import is_duration, parse_duration_ns

__all__ = [
    "Aggregate",
    "Bins",
    "Count",
    "CountDistinct",
    "Day",
    "First",
    "Key",
    "Max",
    "Mean",
    "Min",
    "Quantile",
    "Sum",
    "TimeBucket",
    "key_name",
    "operand",
    "output_types",
    "resolve_aggregates",
    "resolve_keys",
]

_NUMBERS = {"int64", "float64", "attribute"}
_MONTHS = re.compile(r"(?P<count>\d+)mo")
_DAY_NS = 86_400_000_000_000


def operand(column: str | Operand) -> Operand:
    """Return a column's name as an operand."""
    return Column(column) if isinstance(column, str) else column


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate:
    """Base of the aggregates: each may look at some of the rows only."""

    where: Expr | None = None
    """Rows that take part; all when None."""


@dataclass(frozen=True, slots=True)
class Count(Aggregate):
    """Number of rows, or of values of a column. int64, weighted float64."""

    column: str | Operand | None = None
    weighted: bool = False


@dataclass(frozen=True, slots=True)
class Sum(Aggregate):
    """Sum of a column of numbers. int64 for integers, otherwise float64, weighted float64."""

    column: str | Operand
    weighted: bool = False


@dataclass(frozen=True, slots=True)
class Min(Aggregate):
    """Smallest value; of text by its bytes."""

    column: str | Operand


@dataclass(frozen=True, slots=True)
class Max(Aggregate):
    """Largest value; of text by its bytes."""

    column: str | Operand


@dataclass(frozen=True, slots=True)
class Mean(Aggregate):
    """Arithmetic mean, float64; weighted: sum of w x over sum of w."""

    column: str | Operand
    weighted: bool = False


@dataclass(frozen=True, slots=True)
class Quantile(Aggregate):
    """Quantile, float64; see the module for its definition."""

    column: str | Operand
    q: float
    """Probability, in [0, 1]."""
    weighted: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.q <= 1.0:
            raise UsageError(f"not a probability: {self.q}", hint="a quantile is between 0 and 1")


@dataclass(frozen=True, slots=True)
class CountDistinct(Aggregate):
    """Number of different values, exact, int64."""

    column: str | Operand


@dataclass(frozen=True, slots=True)
class First(Aggregate):
    """The value of the row that comes first by another column.

    Rows where either is null do not take part; of rows that tie, the smallest value.
    """

    column: str | Operand
    order_by: str
    descending: bool = False
    """Take the row that comes last."""


@dataclass(frozen=True, slots=True)
class Day:
    """Key: the calendar day of a time, a date."""

    column: str = "start_time"
    tz: str = "UTC"
    """IANA name of the time zone."""
    name: str = "day"


@dataclass(frozen=True, slots=True)
class TimeBucket:
    """Key: the start of the interval that a time falls into, a UTC time."""

    column: str = "start_time"
    every: str = "1h"
    """Length: like `30s`, `5m`, `1h`, `1d`, `2w` or `1mo`."""
    tz: str = "UTC"
    """IANA name of the time zone of days, weeks and months of length 1."""
    name: str = "time"

    def calendar_unit(self) -> Literal["day", "week", "month"] | None:
        """Return the calendar's unit of the bucket; None for a fixed length."""
        units: dict[str, Literal["day", "week", "month"]] = {
            "1d": "day",
            "1w": "week",
            "1mo": "month",
        }
        return units.get(self.every.strip())

    def fixed_ns(self) -> tuple[int, int]:
        """Return length and offset of the grid of buckets, in nanoseconds.

        Raises:
            UsageError: it is no length, or several months.
        """
        if _MONTHS.fullmatch(self.every.strip()) or not is_duration(self.every):
            raise UsageError(
                f"not an interval: {self.every!r}", hint="write 30s, 5m, 1h, 1d, 1w or 1mo"
            )
        length = parse_duration_ns(self.every)
        if length <= 0:
            raise UsageError(f"an interval of length 0: {self.every!r}", hint="write 1h or 1d")
        # 1970-01-05 was a Monday.
        return length, 4 * _DAY_NS if self.every.strip().endswith("w") else 0


@dataclass(frozen=True, slots=True)
class Bins:
    """Key: the number of the bin that a number falls into, int64, null outside all bins."""

    column: str
    edges: tuple[float, ...]
    """(k+1,) increasing; bin i is [edges[i], edges[i+1]), the last one closed."""
    name: str = "bin"

    def __post_init__(self) -> None:
        pairs = zip(self.edges, self.edges[1:], strict=False)
        if len(self.edges) < 2 or not all(low < high for low, high in pairs):
            raise UsageError(
                f"not the edges of bins: {self.edges}", hint="two or more increasing numbers"
            )


Key = str | Column | Attribute | Day | TimeBucket | Bins
"""What rows are grouped by: a column, an attribute, a time rounded down, a bin."""


def key_name(key: Key) -> str:
    """Return the name of a key's column in the result."""
    return key if isinstance(key, str) else key.name


def resolve_keys(by: Sequence[Key], columns: Mapping[str, str]) -> tuple[Key, ...]:
    """Check keys against the columns of a source.

    Raises:
        ExpressionError: an unknown column.
        SchemaError: a column that cannot be grouped by, or two keys of one name.
        UsageError: an unknown time zone or interval.
    """
    for key in by:
        if isinstance(key, (Day, TimeBucket)):
            if operand_type(Column(key.column), columns) != "timestamp_ns":
                raise SchemaError(f"{key.column!r} is no time: it cannot be put into intervals")
            _check_zone(key.tz)
            if isinstance(key, TimeBucket) and key.calendar_unit() is None:
                key.fixed_ns()
        elif isinstance(key, Bins):
            if operand_type(Column(key.column), columns) not in _NUMBERS:
                raise SchemaError(f"{key.column!r} is no column of numbers")
        elif operand_type(operand(key), columns).startswith(("list", "other")):
            raise SchemaError(f"cannot group by {key_name(key)!r}: it holds lists")
    names = [key_name(key) for key in by]
    for name in names:
        if names.count(name) > 1:
            raise SchemaError(f"two keys are called {name!r}")
    return tuple(by)


def _check_zone(tz: str) -> None:
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(tz)
    except (KeyError, ValueError, OSError) as error:
        raise UsageError(f"unknown time zone {tz!r}", hint="like UTC or Europe/Berlin") from error


def resolve_aggregates(
    aggregates: Mapping[str, Aggregate], columns: Mapping[str, str]
) -> dict[str, Aggregate]:
    """Check aggregates against the columns of a source; conditions come back resolved.

    Raises:
        ExpressionError: an unknown column in a condition.
        SchemaError: a column of the wrong type.
    """
    from dataclasses import replace

    result: dict[str, Aggregate] = {}
    for name, aggregate in aggregates.items():
        _check_column(aggregate, columns)
        where = None if aggregate.where is None else resolve(aggregate.where, columns)
        result[name] = replace(aggregate, where=where)
    return result


def _check_column(aggregate: Aggregate, columns: Mapping[str, str]) -> None:
    match aggregate:
        case Count(column=None):
            return
        case Sum(column=column) | Mean(column=column) | Quantile(column=column):
            type_ = operand_type(operand(column), columns)
            if type_ not in _NUMBERS:
                raise SchemaError(f"{column!r} is no column of numbers ({type_})")
        case First(column=column, order_by=order_by):
            if operand_type(Column(order_by), columns) not in {*_NUMBERS, "timestamp_ns"}:
                raise SchemaError(f"{order_by!r} holds neither numbers nor times to order by")
            if operand_type(operand(column), columns).startswith(("list", "other")):
                raise SchemaError(f"{column!r} holds lists")
        case (
            Count(column=column)
            | CountDistinct(column=column)
            | Min(column=column)
            | Max(column=column)
        ) if column is not None:
            type_ = operand_type(operand(column), columns)
            if type_.startswith("list") and not isinstance(aggregate, Count):
                raise SchemaError(f"{column!r} holds lists ({type_})")


def output_types(
    aggregates: Mapping[str, Aggregate], by: Sequence[Key], columns: Mapping[str, str]
) -> dict[str, str]:
    """Return the logical type of each column of an answer: the keys, then the aggregates."""
    result: dict[str, str] = {}
    for key in by:
        if isinstance(key, Day):
            result[key.name] = "date"
        elif isinstance(key, TimeBucket):
            result[key.name] = "timestamp_ns"
        elif isinstance(key, Bins):
            result[key.name] = "int64"
        else:
            result[key_name(key)] = _value_type(operand(key), columns)
    for name, aggregate in aggregates.items():
        result[name] = _aggregate_type(aggregate, columns)
    return result


def _value_type(value: Operand, columns: Mapping[str, str]) -> str:
    type_ = operand_type(value, columns)
    return "string" if type_ in {"attribute", "category"} else type_


def _aggregate_type(aggregate: Aggregate, columns: Mapping[str, str]) -> str:
    match aggregate:
        case Count(weighted=weighted):
            return "float64" if weighted else "int64"
        case CountDistinct():
            return "int64"
        case Sum(column=column, weighted=weighted):
            integer = operand_type(operand(column), columns) == "int64" and not weighted
            return "int64" if integer else "float64"
        case Min(column=column) | Max(column=column) | First(column=column):
            return _value_type(operand(column), columns)
        case _:
            return "float64"
