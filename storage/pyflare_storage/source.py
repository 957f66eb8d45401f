"""One door to the data: every analysis asks its questions here, whatever holds the rows.

Example:
    >>> from pyflare_storage.aggregates import Count, Day, Quantile, Sum
    >>> from pyflare_storage.expressions import col
    >>> from pyflare_storage.source import open_source
    >>> calls = col("span_type").is_in(["llm", "embedding", "rerank"])
    >>> with open_source("pyflare-data") as source:
    ...     by_model = source.aggregate(
    ...         {
    ...             "calls": Count(weighted=True),
    ...             "failed": Count(where=col("status_code").eq("error"), weighted=True),
    ...             "cost_nano_usd": Sum("cost_nano_usd", weighted=True),
    ...             "p95_ms": Quantile("duration_ms", 0.95),
    ...         },
    ...         by=["model", Day()],
    ...         where=calls,
    ...         order_by="calls",
    ...         descending=True,
    ...         limit=10,
    ...     )
    ...     for batch in source.scan(["trace_id", "name"], where=col("duration_ms") > 10_000):
    ...         print(batch.height)

A source is a Parquet file, folder or glob here or in an object store, a data directory,
a CSV or JSON-lines file, a ClickHouse server, or a folder of the embedded ClickHouse
engine. The same question gives the same answer on each; `expressions` and `aggregates`
say what the questions mean.

A source of spans (one with `trace_id` and `span_id`) has every column of the span
record: those that its files lack are null. Any other table has the columns it has.
Empty lists come out as null.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from pyflare_proto.errors import UsageError
from pyflare_storage.aggregates import Aggregate, Key
from pyflare_storage.expressions import Expr

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Source", "is_sampled", "open_source"]


class Source(Protocol):
    """Rows that can be asked. Thread-safe; use as a context manager or call `close`.

    Every method raises `ExpressionError` for a condition or key on an unknown column,
    `SchemaError` for a column of the wrong type, `InvalidDataError` for damaged
    data and `SourceUnavailableError` when the source does not answer.
    """

    @property
    def url(self) -> str:
        """Where the rows are, without a password."""

    def columns(self) -> Mapping[str, str]:
        """Return the logical type of each column, by name, in order.

        Types are those of `pyflare_proto.record.ColumnType`, `bool`, and `other`.
        """

    def scan(
        self,
        columns: Sequence[str] | None = None,
        where: Expr | None = None,
        order_by: str | Sequence[str] | None = None,
        *,
        descending: bool | Sequence[bool] = False,
        limit: int | None = None,
    ) -> Iterator[pl.DataFrame]:
        """Yield rows in batches of bounded size.

        Args:
            columns: the columns, in this order; all when None.
            where: the rows; all when None.
            order_by: columns to sort by, null last; rows that tie are sorted by trace and
                span id. Without it the order is the source's own.
            descending: for all columns of `order_by`, or for each.
            limit: at most so many rows.

        Memory: without `order_by` a few batches; with `order_by` and `limit` that many
        rows; with `order_by` alone, all rows of the answer.
        """

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
        """Return aggregates, one row a group: the keys, then the aggregates, by name.

        Args:
            aggregates: what to compute, by name.
            by: keys; null is a key like any other. Without keys there is one row.
            where: the rows; all when None.
            order_by: columns of the answer to sort by, null last; groups that tie, and all
                groups without it, are sorted by their keys.
            descending: for all columns of `order_by`, or for each.
            limit: at most so many groups.
        """

    def count(self, where: Expr | None = None) -> int:
        """Return the number of rows."""

    def histogram(
        self,
        column: str,
        edges: Sequence[float],
        where: Expr | None = None,
        by: Sequence[Key] = (),
        *,
        weighted: bool = False,
    ) -> pl.DataFrame:
        """Return how many values fall into each bin.

        Args:
            column: a column of numbers.
            edges: (k+1,) increasing; bin i is [edges[i], edges[i+1]), the last one closed.
            where: the rows; all when None.
            by: keys; each group has all k bins.
            weighted: count rows by their weight.

        Returns:
            The keys, then `bin` (int64, from 0), `low`, `high` (float64), `count` (int64,
            weighted float64). Values outside the edges, null and `NaN` are not counted.
        """

    def quantiles(
        self,
        column: str,
        probabilities: Sequence[float],
        where: Expr | None = None,
        by: Sequence[Key] = (),
        *,
        weighted: bool = False,
    ) -> pl.DataFrame:
        """Return exact quantiles as defined in `aggregates`.

        Returns:
            The keys, then `probability` and `value` (float64), one row a group and
            probability.
        """

    def time_series(
        self,
        aggregates: Mapping[str, Aggregate],
        every: str,
        where: Expr | None = None,
        by: Sequence[Key] = (),
        *,
        tz: str = "UTC",
    ) -> pl.DataFrame:
        """Return aggregates by interval of `start_time`.

        Args:
            aggregates: what to compute, by name.
            every: length of an interval; see `aggregates.TimeBucket`.
            where: the rows; all when None.
            by: further keys.
            tz: time zone of days, weeks and months.

        Returns:
            `time` (start of the interval), the keys, the aggregates; sorted by `time` and
            keys. Intervals without rows are absent.
        """

    def sample(
        self,
        n: int,
        seed: int,
        columns: Sequence[str] | None = None,
        where: Expr | None = None,
    ) -> pl.DataFrame:
        """Return `n` rows drawn uniformly without replacement, fewer when there are fewer.

        The rows with the smallest hash of seed, trace id and span id: the same rows on
        every backend and in every order of arrival, and the first m of a sample of n are
        the sample of m. In a table without these ids the row's number takes their place.
        """

    def close(self) -> None:
        """Release the connection; may be called twice."""

    def __enter__(self) -> Self:
        """Return the source itself."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        """Close the source."""


def open_source(url: str | os.PathLike[str], *, password: str | None = None) -> Source:
    """Open a source of rows.

    Args:
        url: a Parquet, CSV or JSON-lines file, a folder of Parquet files, a data directory,
            a glob, an address in an object store (`s3://`, `gs://`, `az://`),
            `clickhouse://user@host:8123/database?table=spans`, or `chdb:///folder`.
        password: of the ClickHouse server; never part of `url`.

    Raises:
        NotFoundError: there is nothing at that place.
        SourceUnavailableError: the server or object store does not answer.
        InvalidDataError: a file is no file of its kind.
        UsageError: the address cannot be read.
    """
    text = os.fspath(url)
    scheme = text.partition("://")[0].lower() if "://" in text else ""
    if scheme in {"clickhouse", "clickhouses", "chdb"}:
        from pyflare_storage.clickhouse_source import open_clickhouse

        return open_clickhouse(text, password=password)
    if scheme not in {"", "file", "s3", "gs", "az", "abfss", "gcs", "s3a"}:
        raise UsageError(
            f"unknown kind of source: {scheme}://",
            hint="a path, s3://, gs://, az://, clickhouse:// or chdb:///",
        )
    from pyflare_storage.table_source import TableSource

    return TableSource(text)


def is_sampled(source: Source, where: Expr | None = None) -> bool:
    """Return whether any row stands for more than one span.

    Where none does, weighted and unweighted figures are the same, and the latter are exact
    integers.
    """
    from pyflare_storage.aggregates import Min

    if "sampling_probability" not in source.columns():
        return False
    smallest = source.aggregate({"p": Min("sampling_probability")}, where=where).item()
    return smallest is not None and smallest < 1.0
