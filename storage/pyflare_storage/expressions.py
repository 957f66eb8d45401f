"""Conditions on rows: a small tree that each backend compiles to its own language.

Example:
    >>> calls = col("span_type").is_in(["llm", "embedding"]) & (col("input_tokens") > 1000)
    >>> hot = attribute("gen_ai.request.temperature") >= 0.9
    >>> source.count(where=calls & ~hot)

Meaning, the same on every backend:

- Logic is SQL's: a comparison with null is null, and a row stays where the condition
  is true. `NaN` counts as null. An empty list counts as null.
- Text compares by its UTF-8 bytes. `like` knows `%` (any text) and `_` (one character),
  a backslash takes the next character literally; case matters everywhere.
- An attribute has the type it arrived with. Compared with text it is null unless it is
  text; compared with a number it is null unless it is a number (as float64); compared
  with a boolean, unless it is one. As a key to group by it is its text; numbers and
  booleans are written out, lists and objects are null there (though not for `is null`).
  Where a key stands twice in one span the first one counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from pyflare_proto.errors import ExpressionError, nearest
from pyflare_storage.times import parse_iso

__all__ = [
    "ATTRIBUTE_COLUMNS",
    "And",
    "Attribute",
    "Column",
    "Compare",
    "Expr",
    "In",
    "IsNull",
    "Match",
    "Not",
    "Operand",
    "Or",
    "Scalar",
    "Timestamp",
    "all_of",
    "attribute",
    "col",
    "operand_type",
    "resolve",
    "time_range",
    "timestamp",
]

ATTRIBUTE_COLUMNS = ("attributes", "resource_attributes", "scope_attributes")
"""Columns that hold a JSON object of attributes."""

CompareOp = Literal["==", "!=", "<", "<=", ">", ">="]
MatchOp = Literal["like", "contains", "startswith"]


@dataclass(frozen=True, slots=True)
class Timestamp:
    """A moment, nanoseconds since 1970, UTC."""

    ns: int


Scalar = str | int | float | bool | Timestamp
"""A literal value."""


class Operand:
    """What a condition looks at: a column or an attribute."""

    __slots__ = ()

    def eq(self, value: Scalar | Operand) -> Compare:
        """Return: equal to `value`."""
        return Compare("==", self, value)

    def ne(self, value: Scalar | Operand) -> Compare:
        """Return: there, and not equal to `value`."""
        return Compare("!=", self, value)

    def __lt__(self, value: Scalar | Operand) -> Compare:
        return Compare("<", self, value)

    def __le__(self, value: Scalar | Operand) -> Compare:
        return Compare("<=", self, value)

    def __gt__(self, value: Scalar | Operand) -> Compare:
        return Compare(">", self, value)

    def __ge__(self, value: Scalar | Operand) -> Compare:
        return Compare(">=", self, value)

    def is_in(self, values: Iterable[Scalar]) -> In:
        """Return: equal to one of `values`; false for every row when there are none."""
        return In(self, tuple(values))

    def is_null(self) -> IsNull:
        """Return: without a value."""
        return IsNull(self)

    def is_not_null(self) -> Not:
        """Return: with a value."""
        return Not(IsNull(self))

    def like(self, pattern: str) -> Match:
        """Return: text that fits an SQL LIKE pattern as a whole."""
        return Match("like", self, pattern)

    def contains(self, text: str) -> Match:
        """Return: text that holds `text`."""
        return Match("contains", self, text)

    def startswith(self, text: str) -> Match:
        """Return: text that begins with `text`."""
        return Match("startswith", self, text)


@dataclass(frozen=True, slots=True)
class Column(Operand):
    """A column by name."""

    name: str


@dataclass(frozen=True, slots=True)
class Attribute(Operand):
    """One attribute by key; also a key to group by."""

    key: str
    of: str = "attributes"
    """The column that holds it: one of `ATTRIBUTE_COLUMNS`."""

    @property
    def name(self) -> str:
        """Name of the result column when grouped by."""
        return self.key


class Expr:
    """A condition. `&`, `|` and `~` combine conditions."""

    __slots__ = ()

    def __and__(self, other: Expr) -> And:
        return And((self, other))

    def __or__(self, other: Expr) -> Or:
        return Or((self, other))

    def __invert__(self) -> Not:
        return Not(self)


@dataclass(frozen=True, slots=True)
class Compare(Expr):
    """`left op right`."""

    op: CompareOp
    left: Operand
    right: Scalar | Operand


@dataclass(frozen=True, slots=True)
class In(Expr):
    """`operand in (values)`."""

    operand: Operand
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class IsNull(Expr):
    """`operand is null`."""

    operand: Operand


@dataclass(frozen=True, slots=True)
class Match(Expr):
    """`operand like|contains|startswith 'text'`."""

    op: MatchOp
    operand: Operand
    text: str


@dataclass(frozen=True, slots=True)
class And(Expr):
    """All of `terms`; true when there are none."""

    terms: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Or(Expr):
    """Any of `terms`; false when there are none."""

    terms: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Not(Expr):
    """The opposite of `term`; null stays null."""

    term: Expr


def col(name: str) -> Column:
    """Return the column called `name`."""
    return Column(name)


def attribute(key: str, of: str = "attributes") -> Attribute:
    """Return the attribute `key` of the spans (or of `of`: see `ATTRIBUTE_COLUMNS`)."""
    return Attribute(key, of)


def timestamp(ns: int) -> Timestamp:
    """Return a moment given as nanoseconds since 1970, UTC."""
    return Timestamp(ns)


def all_of(conditions: Iterable[Expr | None]) -> Expr | None:
    """Return the conjunction of conditions; None where there is no condition at all."""
    terms = tuple(c for c in conditions if c is not None)
    return None if not terms else terms[0] if len(terms) == 1 else And(terms)


_KINDS = {
    "string": "text",
    "category": "text",
    "json": "text",
    "int64": "number",
    "float64": "number",
    "timestamp_ns": "time",
    "bool": "boolean",
}


def operand_type(operand: Operand, columns: Mapping[str, str]) -> str:
    """Return the logical type of an operand; "attribute" for an attribute.

    Args:
        operand: a column or an attribute.
        columns: logical type of each column, by name.

    Raises:
        ExpressionError: there is no such column.
    """
    name = operand.of if isinstance(operand, Attribute) else getattr(operand, "name", "")
    if name not in columns:
        near = nearest(name, columns)
        shown = ", ".join(list(columns)[:8])
        raise ExpressionError(
            f"unknown column {name!r}",
            hint=f"did you mean {near}?" if near else f"columns: {shown}, ...",
        )
    return "attribute" if isinstance(operand, Attribute) else columns[name]


def _kind(value: Scalar | Operand, columns: Mapping[str, str]) -> str:
    if isinstance(value, Operand):
        type_ = operand_type(value, columns)
        return "attribute" if type_ == "attribute" else _KINDS.get(type_, "other")
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "text"
    return "time" if isinstance(value, Timestamp) else "number"


def _label(value: Scalar | Operand) -> str:
    if isinstance(value, Attribute):
        return f"{value.of}[{value.key!r}]"
    return value.name if isinstance(value, Column) else repr(value)


def _as_time(value: Scalar | Operand) -> Scalar | Operand:
    """Text that is compared with a time column is a moment."""
    if not isinstance(value, str):
        return value
    try:
        return Timestamp(parse_iso(value))
    except ValueError as error:
        raise ExpressionError(
            f"not a time: {value!r}", hint="write ISO 8601, like '2026-11-23T03:04:05Z'"
        ) from error


def _resolve_pair(
    left: Operand, right: Scalar | Operand, columns: Mapping[str, str]
) -> Scalar | Operand:
    kind = _kind(left, columns)
    if kind == "time":
        right = _as_time(right)
    other = _kind(right, columns)
    if "attribute" in {kind, other}:
        # An attribute takes the type of a literal; two operands have none to take.
        if isinstance(right, Operand):
            raise ExpressionError(
                f"cannot compare {_label(left)} with {_label(right)}",
                hint="compare an attribute with a number, 'text', true or false",
            )
        if other == "time":
            raise ExpressionError(f"cannot compare {_label(left)} with a time")
        return right
    if kind != other or kind == "other":
        hints = {
            "text": "put text in quotes: 'text'",
            "number": "write a number without quotes",
            "boolean": "write true or false",
        }
        raise ExpressionError(
            f"cannot compare {_label(left)} ({kind}) with {_label(right)} ({other})",
            hint=hints.get(kind),
        )
    return right


def resolve(  # noqa: PLR0911  # one return a kind of condition
    expr: Expr, columns: Mapping[str, str]
) -> Expr:
    """Check a condition against the columns of a source, and give literals their types.

    Args:
        expr: the condition.
        columns: logical type of each column, by name.

    Returns:
        The same condition; text that is compared with a time column became `Timestamp`.

    Raises:
        ExpressionError: an unknown column, or values of types that do not compare.
    """
    match expr:
        case And(terms):
            return And(tuple(resolve(t, columns) for t in terms))
        case Or(terms):
            return Or(tuple(resolve(t, columns) for t in terms))
        case Not(term):
            return Not(resolve(term, columns))
        case IsNull(operand):
            operand_type(operand, columns)
            return expr
        case Match(op, operand, _):
            if _kind(operand, columns) not in {"text", "attribute"}:
                raise ExpressionError(f"{op} needs text, and {_label(operand)} is none")
            return expr
        case In(operand, values):
            resolved = (_resolve_pair(operand, v, columns) for v in values)
            return In(operand, tuple(v for v in resolved if not isinstance(v, Operand)))
        case Compare(op, left, right):
            return Compare(op, left, _resolve_pair(left, right, columns))
    raise TypeError(f"not a condition: {expr!r}")


def _conjuncts(expr: Expr) -> Iterator[Expr]:
    if isinstance(expr, And):
        for term in expr.terms:
            yield from _conjuncts(term)
    else:
        yield expr


def time_range(expr: Expr | None, column: str = "start_time") -> tuple[int | None, int | None]:
    """Return the time range outside which a resolved condition is never true.

    Args:
        expr: a condition that `resolve` returned.
        column: the time column.

    Returns:
        `since_ns` and `until_ns`, half-open [since, until); None where there is no bound.
    """
    since: list[int] = []
    until: list[int] = []
    for term in _conjuncts(expr) if expr is not None else ():
        match term:
            case Compare(op, Column(name), Timestamp(ns)) if name == column:
                if op in {"==", ">=", ">"}:
                    since.append(ns if op != ">" else ns + 1)
                if op in {"==", "<=", "<"}:
                    until.append(ns if op == "<" else ns + 1)
    return (max(since) if since else None, min(until) if until else None)
