"""Conditions, keys and aggregates as ClickHouse SQL with bound parameters.

The definitions are those of `expressions` and `aggregates`; everything given here has
been resolved against the source's columns. Values only ever enter a statement as
parameters (`{p0:String}`); identifiers come from the schema and are quoted.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count

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
    operand,
)
from pyflare_storage.clickhouse_schema import quoted
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
    operand_type,
)
from pyflare_storage.json_lookup import Wanted

__all__ = ["Parameter", "SqlCompiler"]

Parameter = str | int | float | bool | list[float]
"""A value of a bound parameter."""

_NUMBER_TYPES = "('Int64', 'UInt64', 'Double')"


def _wanted(value: Scalar) -> Wanted:
    if isinstance(value, bool):
        return "boolean"
    return "text" if isinstance(value, str) else "number"


def _canonical_like(pattern: str) -> str:
    """Return a LIKE pattern in which a backslash stands before special characters only."""
    parts: list[str] = []
    characters = iter(pattern)
    for c in characters:
        if c == "\\":
            literal = next(characters, "\\")
            parts.append(f"\\{literal}" if literal in "%_\\" else literal)
        else:
            parts.append(c)
    return "".join(parts)


class SqlCompiler:
    """Compiles one statement and collects its parameters.

    Args:
        columns: logical type of each column, by name.
        stored: names of the columns that the table has; the others read as null.
    """

    def __init__(self, columns: Mapping[str, str], stored: frozenset[str]) -> None:
        self._columns = columns
        self._stored = stored
        self.parameters: dict[str, Parameter] = {}

    def bind(self, value: Parameter | Timestamp) -> str:
        """Return the place of a value in the statement."""
        if isinstance(value, Timestamp):
            return f"fromUnixTimestamp64Nano({self.bind(value.ns)}, 'UTC')"
        name = f"p{len(self.parameters)}"
        self.parameters[name] = value
        if isinstance(value, bool):
            return f"{{{name}:Bool}}"
        if isinstance(value, list):
            return f"{{{name}:Array(Float64)}}"
        kinds = {int: "Int64", float: "Float64", str: "String"}
        return f"{{{name}:{kinds[type(value)]}}}"

    def value(self, value: Operand, wanted: Wanted = "any") -> str:
        """Return an operand's value; `NaN` is null, an attribute is of the wanted type only."""
        if isinstance(value, Attribute):
            return self._attribute(value, wanted)
        if not isinstance(value, Column):
            raise TypeError(f"not an operand: {value!r}")
        if value.name not in self._stored:
            type_ = self._columns[value.name]
            kinds = {"int64": "Int64", "float64": "Float64", "timestamp_ns": "DateTime64(9, 'UTC')"}
            if type_.startswith("list"):
                return "[]"
            return f"CAST(NULL AS Nullable({kinds.get(type_, 'String')}))"
        name = quoted(value.name)
        if self._columns[value.name] == "float64":
            return f"if(isNaN({name}), NULL, {name})"
        return name

    def _attribute(self, value: Attribute, wanted: Wanted) -> str:
        if value.of not in self._stored:
            kinds = {"number": "Float64", "boolean": "Bool"}
            missing = f"CAST(NULL AS Nullable({kinds.get(wanted, 'String')}))"
            return "false" if wanted == "present" else missing
        at = f"ifNull({quoted(value.of)}, ''), {self.bind(value.key)}"
        type_ = f"JSONType({at})"
        match wanted:
            case "present":
                return f"({type_} != 'Null')"
            case "text":
                return f"if({type_} = 'String', JSONExtractString({at}), NULL)"
            case "number":
                return f"if({type_} IN {_NUMBER_TYPES}, JSONExtractFloat({at}), NULL)"
            case "boolean":
                return f"if({type_} = 'Bool', JSONExtractBool({at}), NULL)"
        return (
            f"multiIf({type_} = 'String', JSONExtractString({at}), "
            f"{type_} = 'Double', toString(JSONExtractFloat({at})), "
            f"{type_} IN ('Int64', 'UInt64', 'Bool'), JSONExtractRaw({at}), NULL)"
        )

    def condition(self, expr: Expr) -> str:  # noqa: PLR0911  # one return a kind of condition
        """Return a condition."""
        match expr:
            case And(terms):
                return f"({' AND '.join(self.condition(t) for t in terms) or 'true'})"
            case Or(terms):
                return f"({' OR '.join(self.condition(t) for t in terms) or 'false'})"
            case Not(term):
                return f"(NOT {self.condition(term)})"
            case IsNull(subject):
                return self._is_null(subject)
            case In(subject, values):
                return self._in(subject, values)
            case Match(op, subject, text):
                value = self.value(subject, "text")
                if op == "like":
                    return f"({value} LIKE {self.bind(_canonical_like(text))})"
                function = "startsWith" if op == "startswith" else "0 < position"
                return f"({function}({value}, {self.bind(text)}))"
            case Compare(op, left, right):
                sign = "=" if op == "==" else op
                if isinstance(right, Operand):
                    return f"({self.value(left)} {sign} {self.value(right)})"
                return f"({self.value(left, _wanted(right))} {sign} {self.bind(right)})"
        raise TypeError(f"not a condition: {expr!r}")

    def _is_null(self, subject: Operand) -> str:
        if isinstance(subject, Attribute):
            return f"(NOT {self.value(subject, 'present')})"
        if operand_type(subject, self._columns).startswith("list"):
            return f"empty({self.value(subject)})"
        return f"isNull({self.value(subject)})"

    def _in(self, subject: Operand, values: tuple[Scalar, ...]) -> str:
        if not values:
            return "false"
        # Plain equalities keep null null (IN makes it false) and compare each type as itself.
        tests = (f"{self.value(subject, _wanted(v))} = {self.bind(v)}" for v in values)
        return f"({' OR '.join(tests)})"

    def key(self, key: Key) -> str:
        """Return a key."""
        if isinstance(key, Day):
            return f"toDate32({self.value(Column(key.column))}, {self.bind(key.tz)})"
        if isinstance(key, TimeBucket):
            return self._bucket(key)
        if isinstance(key, Bins):
            return self._bin(key)
        return self.value(operand(key))

    def _bucket(self, key: TimeBucket) -> str:
        time = self.value(Column(key.column))
        unit = key.calendar_unit()
        if unit is None:
            length, offset = (self.bind(number) for number in key.fixed_ns())
            ns = f"toUnixTimestamp64Nano({time})"
            into = f"positiveModulo({ns} - {offset}, {length})"
            return f"fromUnixTimestamp64Nano({ns} - {into}, 'UTC')"
        tz = self.bind(key.tz)
        if unit == "day":
            return f"toDateTime64(toStartOfDay({time}, {tz}), 9, 'UTC')"
        function = {"week": "toMonday", "month": "toStartOfMonth"}[unit]
        return f"toDateTime64(toDateTime({function}({time}, {tz}), {tz}), 9, 'UTC')"

    def _bin(self, key: Bins) -> str:
        value = f"toFloat64({self.value(Column(key.column))})"
        edges = self.bind(list(key.edges))
        low, high, last = key.edges[0], key.edges[-1], len(key.edges) - 2
        passed = f"arrayCount(e -> e <= ifNull({value}, 0.), {edges})"
        inside = f"{value} >= {self.bind(low)} AND {value} <= {self.bind(high)}"
        return f"if({inside}, toInt64(least({passed} - 1, {self.bind(last)})), NULL)"

    def weight(self) -> str:
        """Return how many spans each row stands for, 1 or more."""
        if "sampling_probability" not in self._stored:
            return "1."
        probability = quoted("sampling_probability")
        return f"if({probability} > 0, 1 / assumeNotNull({probability}), 1.)"

    def _chosen(self, subject: Operand, where: Expr | None, wanted: Wanted) -> str:
        """Return a value, null in rows that do not take part."""
        value = self.value(subject, wanted)
        return value if where is None else f"if({self.condition(where)}, {value}, NULL)"

    def aggregate(self, aggregate: Aggregate) -> str:
        """Return an aggregate; of a weighted quantile, what `finish` makes it of."""
        match aggregate:
            case Count(column=column, weighted=weighted):
                return self._count(aggregate, column, weighted=weighted)
            case First():
                return self._first(aggregate)
            case Sum() | Mean() | Quantile():
                return self._numeric(aggregate)
            case Min(column=column) | Max(column=column) | CountDistinct(column=column):
                value = self._chosen(operand(column), aggregate.where, "any")
                names = {Min: "minOrNull", Max: "maxOrNull", CountDistinct: "uniqExact"}
                return f"{names[type(aggregate)]}({value})"
        raise TypeError(f"not an aggregate: {aggregate!r}")

    def _count(self, aggregate: Aggregate, column: str | Operand | None, *, weighted: bool) -> str:
        tests = [] if column is None else [f"(NOT {self._is_null(operand(column))})"]
        if aggregate.where is not None:
            tests.append(self.condition(aggregate.where))
        condition = " AND ".join(tests) or "true"
        return f"sumIf({self.weight()}, {condition})" if weighted else f"countIf({condition})"

    def _numeric(self, aggregate: Sum | Mean | Quantile) -> str:
        value = self._chosen(operand(aggregate.column), aggregate.where, "number")
        if isinstance(aggregate, Quantile):
            if aggregate.weighted:
                pair = f"(toFloat64(assumeNotNull({value})), {self.weight()})"
                return f"arraySort(groupArrayIf({pair}, isNotNull({value})))"
            # A parameter of the function itself: only a literal may stand here.
            return f"quantileExactInclusiveOrNull({float(aggregate.q)!r})({value})"
        if not aggregate.weighted:
            return f"{'avg' if isinstance(aggregate, Mean) else 'sum'}OrNull({value})"
        total = f"sumOrNull(toFloat64({value}) * {self.weight()})"
        if isinstance(aggregate, Mean):
            return f"{total} / sumIf({self.weight()}, isNotNull({value}))"
        return total

    def _first(self, aggregate: First) -> str:
        value = self.value(operand(aggregate.column))
        order = self.value(Column(aggregate.order_by))
        tests = [f"isNotNull({value})", f"isNotNull({order})"]
        if aggregate.where is not None:
            tests.append(self.condition(aggregate.where))
        if self._columns[aggregate.order_by] == "timestamp_ns":
            order = f"toUnixTimestamp64Nano({order})"
        if aggregate.descending:
            order = f"-{order}"
        condition = " AND ".join(tests)
        return f"argMinOrNullIf({value}, ({order}, {value}), {condition})"

    def finish(self, aggregate: Aggregate, name: str) -> str:
        """Return the final value of an aggregate from what `aggregate` gave it under `name`."""
        if not (isinstance(aggregate, Quantile) and aggregate.weighted):
            return name
        # See `aggregates`: F(t_i) for the sorted values, then the mean weighted by its steps.
        total, square = f"arraySum({name}.2)", f"arraySum(w -> w * w, {name}.2)"
        effective = f"({total} * {total} / {square})"
        low = f"{self.bind(float(aggregate.q))} * ({effective} - 1)"
        share = (
            f"arrayMap(c -> least(greatest({effective} * (c / {total}) - {low}, 0.), 1.), "
            f"arrayCumSum({name}.2))"
        )
        steps = f"arrayDifference(arrayPushFront({share}, 0.))"
        parts = f"arrayPopFront({steps})"
        weighted = f"arraySum((x, s) -> x * s, {name}.1, {parts}) / arraySum({parts})"
        return f"if(empty({name}), NULL, {weighted})"

    def sample_hash(self, seed: int) -> str:
        """Return the hash of `polars_expressions.PolarsCompiler.sample_hash`."""
        names = (f"m{i}" for i in count())

        def shifted(x: str, bits: int) -> str:
            # Each step is written once, under a name: nested copies would double every time.
            name = next(names)
            return f"bitXor(({x} AS {name}), bitShiftRight({name}, {bits}))"

        def mixed(x: str) -> str:
            x = f"{shifted(x, 30)} * toUInt64({0xBF58476D1CE4E5B9})"
            x = f"{shifted(x, 27)} * toUInt64({0x94D049BB133111EB})"
            return shifted(x, 31)

        def number(name: str) -> str:
            return f"reinterpretAsUInt64(reverse(unhex(substring({quoted(name)}, -16))))"

        start = mixed(f"reinterpretAsUInt64({self.bind(_signed(seed))})")
        trace = mixed(f"({start} + {number('trace_id')})")
        return mixed(f"({trace} + {number('span_id')})")


def _signed(seed: int) -> int:
    """Return the signed 64-bit integer with the low 64 bits of `seed`."""
    low = seed % 2**64
    return low - 2**64 if low >= 2**63 else low
