"""Aggregates over attributes, piece by piece: each piece's own aggregates, then their sums.

A lookup in JSON is slow, and Polars holds much text while it waits for one. So the pieces are
read one after another, and what was looked up is kept for the next question
(`attribute_codes`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import polars as pl

from pyflare_storage.aggregates import Aggregate, Count, CountDistinct, Key, Max, Min, Sum
from pyflare_storage.attribute_codes import AttributeCodes, Looked
from pyflare_storage.base_source import Question
from pyflare_storage.expressions import Attribute, Operand
from pyflare_storage.json_lookup import Wanted, lookups
from pyflare_storage.pieces import Pieces
from pyflare_storage.polars_expressions import RETURNED, PolarsCompiler

__all__ = ["aggregate_pieces", "can_be_joined"]

_JOIN_AFTER = 64
_JOIN_BYTES = 1 << 25
_TOGETHER: tuple[Wanted, ...] = ("any", "present", "text")
"""What is looked up of a key at once: groups ask for `any`, conditions for the others."""


def can_be_joined(question: Question) -> bool:
    """Return whether the answers of parts of the rows add up to the answer of all."""
    joined = Count | Sum | Min | Max | CountDistinct
    return all(isinstance(aggregate, joined) for aggregate in question.aggregates.values())


class _Compiler(PolarsCompiler):
    """Compiles attributes to columns, and remembers which."""

    def __init__(self, columns: Mapping[str, str]) -> None:
        super().__init__(columns)
        self.looked: set[Looked] = set()

    def value(self, value: Operand, wanted: Wanted = "any") -> pl.Expr:
        """Return an operand's value."""
        if not isinstance(value, Attribute):
            return super().value(value, wanted)
        looked = Looked(value.of, value.key, wanted)
        self.looked.add(looked)
        return pl.col(looked.column)


@dataclass(slots=True)
class _Parts:
    """Answers of parts, joined now and then."""

    keys: list[str]
    aggregates: Mapping[str, Aggregate]
    waiting: list[pl.DataFrame] = field(default_factory=list)
    waiting_bytes: int = 0

    def add(self, answer: pl.DataFrame) -> None:
        """Take the answer of a part."""
        self.waiting.append(answer)
        self.waiting_bytes += int(answer.estimated_size())
        if len(self.waiting) > _JOIN_AFTER or self.waiting_bytes > _JOIN_BYTES:
            self.waiting, self.waiting_bytes = [self._joined()], 0

    def _joined(self) -> pl.DataFrame:
        frame = pl.concat(self.waiting, how="vertical_relaxed").lazy()
        sums = [_joining(aggregate, name) for name, aggregate in self.aggregates.items()]
        grouped = frame.group_by(self.keys).agg(sums) if self.keys else frame.select(sums)
        return grouped.collect()

    def result(self) -> pl.DataFrame:
        """Return the answer of all rows."""
        distinct = [n for n, a in self.aggregates.items() if isinstance(a, CountDistinct)]
        return self._joined().with_columns(pl.col(name).list.len() for name in distinct)


def aggregate_pieces(
    pieces: Pieces,
    question: Question,
    columns: Mapping[str, str],
    codes: AttributeCodes,
    keys: Mapping[str, Key],
) -> pl.DataFrame:
    """Answer a question that `can_be_joined`; the keys under the names of `keys`.

    Args:
        pieces: the files, without a condition.
        question: what is asked.
        columns: logical type of each column.
        codes: what was looked up before.
        keys: the question's keys by the name of their column.
    """
    compiler = _Compiler(columns)
    condition = None if question.where is None else compiler.condition(question.where)
    by = [compiler.key(key).alias(name) for name, key in keys.items()]
    values = [
        _part_of(compiler, aggregate).alias(name) for name, aggregate in question.aggregates.items()
    ]
    expressions = [*by, *values, *([] if condition is None else [condition])]
    own = {looked.column for looked in compiler.looked}
    plain = {n for e in expressions for n in e.meta.root_names() if n not in own}
    parts = _Parts(list(keys), question.aggregates)
    for rows in _with_attributes(pieces, plain, compiler.looked, codes):
        chosen = rows if condition is None else rows.filter(condition)
        answer = chosen.group_by(by).agg(values) if by else chosen.select(values)
        parts.add(answer.collect())
    return parts.result()


def _with_attributes(
    pieces: Pieces, plain: set[str], looked: set[Looked], codes: AttributeCodes
) -> Iterator[pl.LazyFrame]:
    """Yield the plain columns of each piece with the attributes as columns; first no rows."""
    none = [pl.lit(None, dtype=RETURNED[item.wanted]).alias(item.column) for item in looked]
    yield pieces.nothing().with_columns(none)
    # The same pieces, whatever a question reads beside.
    for place, rows in pieces.all_rows(frozenset(item.of for item in looked)):
        kept = [values for item in looked if (values := codes.get(item, place)) is not None]
        known = {values.name for values in kept}
        missing = {item for item in looked if item.column not in known}
        read = plain | {item.of for item in missing}
        if not read:
            yield pl.LazyFrame(kept)
            continue
        frame = rows.select(sorted(read)).collect()
        found = _found(frame, missing)
        for item, values in found.items():
            codes.put(item, place, values)
        asked = [values for item, values in found.items() if item in missing]
        yield frame.with_columns(*kept, *asked).lazy()


def _found(frame: pl.DataFrame, missing: set[Looked]) -> dict[Looked, pl.Series]:
    """Look up what is missing, and of the same keys what the next question may ask."""
    keys: dict[tuple[str, str], set[Wanted]] = {}
    for of, key, wanted in missing:
        keys.setdefault((of, key), set(_TOGETHER)).add(wanted)
    found: dict[Looked, pl.Series] = {}
    for (of, key), kinds in keys.items():
        items = [Looked(of, key, kind) for kind in sorted(kinds)]
        values = lookups(frame[of], key, [item.wanted for item in items])
        found |= {
            item: column.alias(item.column) for item, column in zip(items, values, strict=True)
        }
    return found


def _part_of(compiler: PolarsCompiler, aggregate: Aggregate) -> pl.Expr:
    if isinstance(aggregate, CountDistinct):
        return compiler.distinct(aggregate).implode()
    expression = compiler.aggregate(aggregate)
    # Counts of Polars are 32 bits wide.
    whole = isinstance(aggregate, Count) and not aggregate.weighted
    return expression.cast(pl.Int64) if whole else expression


def _joining(aggregate: Aggregate, name: str) -> pl.Expr:
    column = pl.col(name)
    if isinstance(aggregate, CountDistinct):
        return column.explode().drop_nulls().unique().implode()
    if isinstance(aggregate, Min | Max):
        return column.min() if isinstance(aggregate, Min) else column.max()
    return pl.when(column.count() > 0).then(column.sum())
