"""What every source shares: checks, and the questions that are made of others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import polars as pl

from pyflare_proto.errors import SchemaError, UsageError, nearest
from pyflare_storage.aggregates import (
    Aggregate,
    Bins,
    Count,
    Key,
    Quantile,
    TimeBucket,
    key_name,
    output_types,
    resolve_aggregates,
    resolve_keys,
)
from pyflare_storage.expressions import Expr, resolve

__all__ = ["BaseSource", "Ordering", "Question", "is_span_table", "polars_type"]

_TYPES: dict[str, pl.DataType] = {
    "string": pl.String(),
    "category": pl.String(),
    "json": pl.String(),
    "int64": pl.Int64(),
    "float64": pl.Float64(),
    "bool": pl.Boolean(),
    "date": pl.Date(),
    "timestamp_ns": pl.Datetime("ns", "UTC"),
    "list<string>": pl.List(pl.String()),
    "list<float32>": pl.List(pl.Float32()),
    "list<document>": pl.List(
        pl.Struct({"id": pl.String(), "content": pl.String(), "score": pl.Float64()})
    ),
}


def polars_type(type_: str) -> pl.DataType:
    """Return the Polars type of a logical type.

    Raises:
        KeyError: it is "other".
    """
    return _TYPES[type_]


def is_span_table(columns: Mapping[str, object]) -> bool:
    """Return whether a table with these columns holds spans."""
    return "trace_id" in columns and "span_id" in columns


@dataclass(frozen=True, slots=True)
class Ordering:
    """Columns to sort by, and which of them fall."""

    names: tuple[str, ...]
    descending: tuple[bool, ...]

    @classmethod
    def of(
        cls,
        order_by: str | Sequence[str] | None,
        descending: bool | Sequence[bool],  # noqa: FBT001  # mirrors the arguments of Source
        ties: Sequence[str],
        known: Mapping[str, object],
    ) -> Ordering:
        """Return the ordering, made total by `ties`.

        Raises:
            SchemaError: an unknown column.
            UsageError: as many directions as columns are needed.
        """
        names = [order_by] if isinstance(order_by, str) else list(order_by or ())
        flags = [descending] * len(names) if isinstance(descending, bool) else list(descending)
        if len(names) != len(flags):
            raise UsageError(f"{len(names)} columns to sort by and {len(flags)} directions")
        for name in names:
            if name not in known:
                near = nearest(name, known)
                hint = f"did you mean {near}?" if near else None
                raise SchemaError(f"unknown column {name!r} to sort by", hint=hint)
        more = [name for name in ties if name not in names]
        return cls((*names, *more), (*flags, *(False for _ in more)))


@dataclass(frozen=True, slots=True)
class Question:
    """An aggregation that has been checked."""

    aggregates: dict[str, Aggregate]
    by: tuple[Key, ...]
    where: Expr | None
    order: Ordering
    limit: int | None
    types: dict[str, str]
    """Logical type of each column of the answer."""


class BaseSource(ABC):
    """Base of the sources: checks every question once, for all backends."""

    @property
    @abstractmethod
    def url(self) -> str:
        """Where the rows are, without a password."""

    @abstractmethod
    def columns(self) -> Mapping[str, str]:
        """Return the logical type of each column, by name."""

    @abstractmethod
    def close(self) -> None:
        """Release the connection; may be called twice."""

    @abstractmethod
    def _scan(
        self, columns: list[str], where: Expr | None, order: Ordering | None, limit: int | None
    ) -> Iterator[pl.DataFrame]:
        """Yield the columns of rows in batches; all arguments have been checked."""

    @abstractmethod
    def _aggregate(self, question: Question) -> pl.DataFrame:
        """Answer a checked question; types may still differ from `question.types`."""

    @abstractmethod
    def _sample(self, n: int, seed: int, columns: list[str], where: Expr | None) -> pl.DataFrame:
        """Draw rows; all arguments have been checked."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _where(self, where: Expr | None) -> Expr | None:
        return None if where is None else resolve(where, self.columns())

    def _selected(self, columns: Sequence[str] | None) -> list[str]:
        known = self.columns()
        if columns is None:
            return list(known)
        for name in columns:
            if name not in known:
                near = nearest(name, known)
                hint = f"did you mean {near}?" if near else f"columns: {', '.join(known)}"
                raise SchemaError(f"unknown column {name!r} in {self.url}", hint=hint)
        return list(columns)

    def scan(
        self,
        columns: Sequence[str] | None = None,
        where: Expr | None = None,
        order_by: str | Sequence[str] | None = None,
        *,
        descending: bool | Sequence[bool] = False,
        limit: int | None = None,
    ) -> Iterator[pl.DataFrame]:
        """Yield rows in batches of bounded size; see `Source.scan`."""
        known = self.columns()
        selected = self._selected(columns)
        ties = ("trace_id", "span_id") if order_by and is_span_table(known) else ()
        order = Ordering.of(order_by, descending, ties, known) if order_by else None
        return self._scan(selected, self._where(where), order, limit)

    def aggregate(
        self,
        aggregates: Mapping[str, Aggregate],
        by: Sequence[Key] = (),
        where: Expr | None = None,
        order_by: str | Sequence[str] | None = None,
        *,
        descending: bool | Sequence[bool] = False,
        limit: int | None = None,
    ) -> pl.DataFrame:
        """Return aggregates, one row a group; see `Source.aggregate`."""
        known = self.columns()
        keys = resolve_keys(by, known)
        resolved = resolve_aggregates(aggregates, known)
        types = output_types(resolved, keys, known)
        if len(types) < len(keys) + len(resolved):
            raise UsageError("a key and an aggregate have the same name")
        order = Ordering.of(order_by, descending, [key_name(k) for k in keys], types)
        question = Question(resolved, keys, self._where(where), order, limit, types)
        answer = self._aggregate(question)
        return answer.select(pl.col(name).cast(_TYPES[type_]) for name, type_ in types.items())

    def count(self, where: Expr | None = None) -> int:
        """Return the number of rows."""
        return int(self.aggregate({"n": Count()}, where=where).item())

    def histogram(
        self,
        column: str,
        edges: Sequence[float],
        where: Expr | None = None,
        by: Sequence[Key] = (),
        *,
        weighted: bool = False,
    ) -> pl.DataFrame:
        """Return how many values fall into each bin; see `Source.histogram`."""
        bins = Bins(column, tuple(float(edge) for edge in edges))
        counted = self.aggregate({"count": Count(weighted=weighted)}, [*by, bins], where)
        names = [key_name(key) for key in by]
        empty = pl.DataFrame(
            {
                "bin": pl.Series(range(len(bins.edges) - 1), dtype=pl.Int64),
                "low": pl.Series(bins.edges[:-1], dtype=pl.Float64),
                "high": pl.Series(bins.edges[1:], dtype=pl.Float64),
            }
        )
        if names:
            groups = counted.select(names).unique(maintain_order=True)
            empty = groups.join(empty, how="cross", maintain_order="left_right")
        result = empty.join(
            counted, on=[*names, "bin"], how="left", nulls_equal=True, maintain_order="left"
        )
        return result.with_columns(pl.col("count").fill_null(0))

    def quantiles(
        self,
        column: str,
        probabilities: Sequence[float],
        where: Expr | None = None,
        by: Sequence[Key] = (),
        *,
        weighted: bool = False,
    ) -> pl.DataFrame:
        """Return exact quantiles; see `Source.quantiles`."""
        asked: dict[str, Aggregate] = {
            f"quantile {i}": Quantile(column, q, weighted) for i, q in enumerate(probabilities)
        }
        wide = self.aggregate(asked, by, where)
        names = [key_name(key) for key in by]
        parts = [
            wide.select(
                *names,
                pl.lit(float(q)).alias("probability"),
                pl.col(f"quantile {i}").alias("value"),
                pl.int_range(pl.len()).alias("group"),
            )
            for i, q in enumerate(probabilities)
        ]
        if not parts:
            raise UsageError("no probabilities: which quantiles?")
        return pl.concat(parts).sort("group", maintain_order=True).drop("group")

    def time_series(
        self,
        aggregates: Mapping[str, Aggregate],
        every: str,
        where: Expr | None = None,
        by: Sequence[Key] = (),
        *,
        tz: str = "UTC",
    ) -> pl.DataFrame:
        """Return aggregates by interval of `start_time`; see `Source.time_series`."""
        return self.aggregate(aggregates, [TimeBucket("start_time", every, tz), *by], where)

    def sample(
        self,
        n: int,
        seed: int,
        columns: Sequence[str] | None = None,
        where: Expr | None = None,
    ) -> pl.DataFrame:
        """Return `n` rows drawn uniformly; see `Source.sample`."""
        if n < 0:
            raise UsageError(f"cannot draw {n} rows")
        return self._sample(n, seed, self._selected(columns), self._where(where))
