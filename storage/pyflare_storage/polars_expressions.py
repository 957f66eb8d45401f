"""Conditions, keys and aggregates as Polars expressions.

The definitions are those of `expressions` and `aggregates`; everything given here
has been resolved against the source's columns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pyflare_storage.aggregates import (
    Aggregate,
    Bins,
    Count,
    CountDistinct,
    Day,
    First,
    Key,
    Max,
    Mean,
    Min,
    Quantile,
    Sum,
    TimeBucket,
    key_name,
    operand,
)
from pyflare_storage.expressions import (
    And,
    Attribute,
    Column,
    Compare,
    Expr,
    In,
    IsNull,
    Match,
    Not,
    Operand,
    Or,
    Scalar,
    Timestamp,
)
from pyflare_storage.json_lookup import Wanted, lookup

__all__ = ["RETURNED", "PolarsCompiler", "seeded_hash"]

_TIME = pl.Datetime("ns", "UTC")
RETURNED: dict[Wanted, type[pl.DataType]] = {
    "text": pl.String,
    "number": pl.Float64,
    "boolean": pl.Boolean,
    "any": pl.String,
    "present": pl.Boolean,
}
"""Types of what is looked up."""
_COMPARE = {
    "==": pl.Expr.eq,
    "!=": pl.Expr.ne,
    "<": pl.Expr.lt,
    "<=": pl.Expr.le,
    ">": pl.Expr.gt,
    ">=": pl.Expr.ge,
}


def _literal(value: Scalar) -> pl.Expr:
    if isinstance(value, Timestamp):
        return pl.lit(value.ns, dtype=pl.Int64).cast(_TIME)
    return pl.lit(value)


def _wanted(value: Scalar) -> Wanted:
    if isinstance(value, bool):
        return "boolean"
    return "text" if isinstance(value, str) else "number"


def _is_in(value: pl.Expr, values: tuple[Scalar, ...]) -> pl.Expr:
    """Return membership; a fraction among numbers makes the comparison one of float64."""
    numbers = [v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]
    if not numbers:
        return value.is_in(list(values))
    if all(isinstance(v, int) for v in numbers):
        return pl.any_horizontal([value == v for v in numbers])
    return value.cast(pl.Float64).is_in([float(v) for v in numbers])


def _like_to_regex(pattern: str) -> str:
    """Return an SQL LIKE pattern as a regular expression of the whole text."""
    parts: list[str] = []
    characters = iter(pattern)
    for c in characters:
        if c == "\\":
            parts.append(re.escape(next(characters, "\\")))
        else:
            parts.append({"%": ".*", "_": "."}.get(c) or re.escape(c))
    return f"(?s)^(?:{''.join(parts)})$"


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the finaliser of SplitMix64 of unsigned 64-bit integers.

    A bijection that spreads every input bit over all output bits (Steele, Lea and Flood,
    "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014; constants of
    variant 13 by Stafford).
    """
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def seeded_hash(seed: int, *numbers: pl.Expr) -> pl.Expr:
    """Return h = mix(... mix(mix(seed) + first) + second ...), modulo 2^64.

    Args:
        seed: any integer; its low 64 bits count.
        numbers: columns of unsigned 64-bit integers without nulls.
    """

    def hashed(columns: Sequence[pl.Series]) -> pl.Series:
        state = mix(np.array([seed % 2**64], np.uint64))
        for column in columns:
            state = mix(state + column.to_numpy())
        return pl.Series(columns[0].name, state)

    return pl.map_batches(numbers, hashed, return_dtype=pl.UInt64, is_elementwise=True)


def _place(values: pl.Series, edges: NDArray[np.float64]) -> pl.Series:
    """Return the number of each value's bin, null outside."""
    x = values.to_numpy()  # null becomes NaN, which sorts behind every edge
    bins = np.searchsorted(edges, x, side="right") - 1
    bins[x == edges[-1]] = len(edges) - 2
    outside = (bins < 0) | (bins > len(edges) - 2)
    return pl.Series(values.name, bins, dtype=pl.Int64).set(pl.Series(outside), None)


class PolarsCompiler:
    """Compiles against one source's columns.

    Args:
        columns: logical type of each column, by name.
    """

    def __init__(self, columns: Mapping[str, str]) -> None:
        self._columns = columns

    def value(self, value: Operand, wanted: Wanted = "any") -> pl.Expr:
        """Return an operand's value; `NaN` is null, an attribute is of the wanted type only."""
        if isinstance(value, Attribute):
            return pl.col(value.of).map_batches(
                partial(lookup, key=value.key, wanted=wanted),
                return_dtype=RETURNED[wanted],
                is_elementwise=True,
            )
        if not isinstance(value, Column):
            raise TypeError(f"not an operand: {value!r}")
        column = pl.col(value.name)
        return column.fill_nan(None) if self._columns[value.name] == "float64" else column

    def condition(self, expr: Expr) -> pl.Expr:  # noqa: PLR0911  # one return a kind of condition
        """Return a condition."""
        match expr:
            case And(terms):
                return pl.all_horizontal([self.condition(t) for t in terms] or [pl.lit(value=True)])
            case Or(terms):
                return pl.any_horizontal(
                    [self.condition(t) for t in terms] or [pl.lit(value=False)]
                )
            case Not(term):
                return ~self.condition(term)
            case IsNull(subject):
                return self._is_null(subject)
            case In(subject, values):
                return self._in(subject, values)
            case Match(op, subject, text):
                value = self.value(subject, "text").str
                if op == "like":
                    return value.contains(_like_to_regex(text))
                return (
                    value.starts_with(text)
                    if op == "startswith"
                    else value.contains(text, literal=True)
                )
            case Compare(op, left, right):
                if isinstance(right, Operand):
                    return _COMPARE[op](self.value(left), self.value(right))
                return _COMPARE[op](self.value(left, _wanted(right)), _literal(right))
        raise TypeError(f"not a condition: {expr!r}")

    def _is_null(self, subject: Operand) -> pl.Expr:
        if isinstance(subject, Attribute):
            return ~self.value(subject, "present")
        value = self.value(subject)
        if isinstance(subject, Column) and self._columns[subject.name].startswith("list"):
            return value.is_null() | (value.list.len() == 0)
        return value.is_null()

    def _in(self, subject: Operand, values: tuple[Scalar, ...]) -> pl.Expr:
        if not values:
            return pl.lit(value=False)
        if not isinstance(subject, Attribute):
            if isinstance(values[0], Timestamp):
                return pl.any_horizontal([self.value(subject) == _literal(v) for v in values])
            return _is_in(self.value(subject), values)
        # An attribute is compared with each type of value as that type.
        kinds: dict[Wanted, list[Scalar]] = {}
        for value in values:
            kinds.setdefault(_wanted(value), []).append(value)
        return pl.any_horizontal(
            [_is_in(self.value(subject, kind), tuple(group)) for kind, group in kinds.items()]
        )

    def key(self, key: Key) -> pl.Expr:
        """Return a key, under its name."""
        if isinstance(key, Day):
            return pl.col(key.column).dt.convert_time_zone(key.tz).dt.date().alias(key.name)
        if isinstance(key, TimeBucket):
            return self._bucket(key).alias(key.name)
        if isinstance(key, Bins):
            place = partial(_place, edges=np.asarray(key.edges, np.float64))
            value = self.value(Column(key.column)).cast(pl.Float64)
            bins = value.map_batches(place, return_dtype=pl.Int64, is_elementwise=True)
            return bins.alias(key.name)
        return self.value(operand(key)).alias(key_name(key))

    @staticmethod
    def _bucket(key: TimeBucket) -> pl.Expr:
        time = pl.col(key.column)
        unit = key.calendar_unit()
        if unit is not None:
            every = {"day": "1d", "week": "1w", "month": "1mo"}[unit]
            local = time.dt.convert_time_zone(key.tz).dt.truncate(every)
            return local.dt.convert_time_zone("UTC")
        length, offset = key.fixed_ns()
        ns = time.dt.epoch("ns")
        return (ns - (ns - offset) % length).cast(_TIME)

    def weight(self) -> pl.Expr:
        """Return how many spans each row stands for, 1 or more."""
        if "sampling_probability" not in self._columns:
            return pl.lit(1.0)
        probability = pl.col("sampling_probability").fill_nan(None)
        return pl.when(probability > 0).then(1.0 / probability).otherwise(1.0)

    def aggregate(self, aggregate: Aggregate) -> pl.Expr:
        """Return an aggregate."""
        match aggregate:
            case Count(column=column, weighted=weighted):
                return self._count(aggregate, column, weighted=weighted)
            case First():
                return self._first(aggregate)
            case Sum() | Mean() | Quantile():
                return self._numeric(aggregate)
            case CountDistinct():
                return self._distinct(aggregate).n_unique()
            case Min(column=column) | Max(column=column):
                value = self._chosen(operand(column), aggregate.where, "any")
                return value.min() if isinstance(aggregate, Min) else value.max()
        raise TypeError(f"not an aggregate: {aggregate!r}")

    def distinct(self, aggregate: CountDistinct) -> pl.Expr:
        """Return the values that an aggregate counts, each once."""
        return self._distinct(aggregate).unique()

    def _distinct(self, aggregate: CountDistinct) -> pl.Expr:
        return self._chosen(operand(aggregate.column), aggregate.where, "any").drop_nulls()

    def _chosen(self, subject: Operand, where: Expr | None, wanted: Wanted) -> pl.Expr:
        """Return a value, null in rows that do not take part."""
        value = self.value(subject, wanted)
        return value if where is None else pl.when(self.condition(where)).then(value)

    def _count(
        self, aggregate: Aggregate, column: str | Operand | None, *, weighted: bool
    ) -> pl.Expr:
        taking_part = [] if column is None else [~self._is_null(operand(column))]
        if aggregate.where is not None:
            taking_part.append(self.condition(aggregate.where).fill_null(value=False))
        if not taking_part:
            return self.weight().sum() if weighted else pl.len()
        mask = pl.all_horizontal(taking_part)
        return pl.when(mask).then(self.weight()).otherwise(0.0).sum() if weighted else mask.sum()

    def _numeric(self, aggregate: Sum | Mean | Quantile) -> pl.Expr:
        value = self._chosen(operand(aggregate.column), aggregate.where, "number")
        weighted = aggregate.weighted
        if isinstance(aggregate, Quantile):
            return (
                self._weighted_quantile(value, aggregate.q)
                if weighted
                else value.quantile(aggregate.q, interpolation="linear")
            )
        if not weighted:
            if isinstance(aggregate, Mean):
                return value.mean()
            return pl.when(value.count() > 0).then(value.sum())
        weight = pl.when(value.is_not_null()).then(self.weight())
        total = (value.cast(pl.Float64) * weight).sum()
        if isinstance(aggregate, Mean):
            total = total / weight.sum()
        return pl.when(value.count() > 0).then(total)

    def _weighted_quantile(self, value: pl.Expr, q: float) -> pl.Expr:
        """Akinshin's weighted type 7 quantile; see `aggregates`."""
        present = value.is_not_null()
        x = value.filter(present).cast(pl.Float64)
        w = self.weight().filter(present)
        if "sampling_probability" not in self._columns:
            return x.quantile(q, interpolation="linear")
        w = w.sort_by(x)
        x = x.sort()
        total = w.sum()
        effective = total * total / (w * w).sum()
        share = (effective * (w.cum_sum() / total) - q * (effective - 1.0)).clip(0.0, 1.0)
        part = share - share.shift(1, fill_value=0.0)
        return pl.when(x.len() > 0).then((x * part).sum() / part.sum())

    def _first(self, aggregate: First) -> pl.Expr:
        value = self.value(operand(aggregate.column))
        order = self.value(Column(aggregate.order_by))
        mask = value.is_not_null() & order.is_not_null()
        if aggregate.where is not None:
            mask &= self.condition(aggregate.where)
        # Rows that do not take part sort last, as nulls: filtering each group by itself is
        # many times slower where there are many groups.
        chosen = pl.when(mask).then(value)
        by = [pl.when(mask).then(order), chosen]
        falls = [aggregate.descending, False]
        return chosen.sort_by(by, descending=falls, nulls_last=True).first()

    def sample_hash(self, seed: int) -> pl.Expr:
        """Return a hash of each span's ids and a seed: unsigned 64-bit, uniform.

        h = mix(mix(seed' + low 64 bits of trace_id) + span_id), all modulo 2^64, with
        seed' = mix of the seed. Ids that are not hexadecimal count as 0.
        """

        def number(digits: pl.Expr) -> pl.Expr:
            return digits.str.to_integer(base=16, dtype=pl.UInt64, strict=False).fill_null(0)

        ids = (number(pl.col(name).str.slice(-16)) for name in ("trace_id", "span_id"))
        return seeded_hash(seed, *ids)
