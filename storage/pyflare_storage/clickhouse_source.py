"""The source over ClickHouse: one SQL for a server and for the embedded engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import parse_qs

import polars as pl
import pyarrow as pa

from pyflare_proto.errors import NotFoundError, UsageError
from pyflare_proto.record import COLUMNS
from pyflare_storage.aggregates import key_name
from pyflare_storage.base_source import BaseSource, Ordering, Question, polars_type
from pyflare_storage.clickhouse_engines import Engine, open_engine
from pyflare_storage.clickhouse_expressions import SqlCompiler
from pyflare_storage.clickhouse_schema import create_statement, quoted
from pyflare_storage.expressions import Column, Expr

__all__ = ["ClickHouseSource", "open_clickhouse"]

_RECORD_TYPES = {c.name: str(c.type) for c in COLUMNS}


def open_clickhouse(
    url: str, *, password: str | None = None, create: bool = False
) -> ClickHouseSource:
    """Open a table of spans.

    Args:
        url: `clickhouse://user@host:8123/database` or `chdb:///folder`; `?table=NAME` when it
            is not called `spans`.
        password: of the server's user.
        create: create folder and table when they are not there.

    Raises:
        NotFoundError: there is no such folder or table.
        SourceUnavailableError: the engine does not answer.
        UsageError: the address cannot be read.
    """
    query = parse_qs(url.partition("?")[2], keep_blank_values=True)
    unknown = set(query) - {"table"}
    if unknown:
        raise UsageError(
            f"unknown part {min(unknown)!r} of {url}", hint="only ?table=NAME is known"
        )
    table = query.get("table", ["spans"])[-1]
    engine = open_engine(url, password=password, create=create)
    try:
        if create:
            engine.command(create_statement(table))
        return ClickHouseSource(url, table, engine)
    except BaseException:
        engine.close()
        raise


def _logical(type_: str) -> str:
    """Return the logical type of a column that is not of the record."""
    inner = type_
    for wrapper in ("LowCardinality(", "Nullable("):
        if inner.startswith(wrapper):
            inner = inner[len(wrapper) : -1]
    if inner.startswith(("Int", "UInt")):
        return "int64"
    if inner.startswith(("Float", "Decimal")):
        return "float64"
    if inner.startswith("Date"):
        return "timestamp_ns"
    return {"String": "string", "Bool": "bool", "Array(String)": "list<string>"}.get(inner, "other")


class ClickHouseSource(BaseSource):
    """Spans in a table as `clickhouse_schema` creates it. Redelivered spans count once.

    Args:
        url: the address, without a password.
        table: name of the table.
        engine: the engine, owned from here on.

    Raises:
        NotFoundError: there is no such table.
    """

    def __init__(self, url: str, table: str, engine: Engine) -> None:
        self._url = url
        self._engine = engine
        self._table = quoted(table)
        described = engine.query(
            "SELECT name, type FROM system.columns WHERE database = currentDatabase() "
            "AND table = {p0:String} ORDER BY position",
            {"p0": table},
        )
        stored = {str(row["name"]): str(row["type"]) for row in described.to_pylist()}
        if not stored:
            plain = url.partition("?")[0]
            raise NotFoundError(
                f"no table {table!r} in {plain}",
                hint=f"copy some spans there: pyflare load --source DIR --to {url}",
            )
        self._stored = frozenset(stored)
        extra = {n: _logical(t) for n, t in stored.items() if n not in _RECORD_TYPES}
        self._columns = {**_RECORD_TYPES, **extra}

    @property
    def url(self) -> str:
        """Where the rows are, without a password."""
        return self._url

    @property
    def engine(self) -> Engine:
        """The engine, for loading."""
        return self._engine

    @property
    def table(self) -> str:
        """Name of the table, quoted."""
        return self._table

    def columns(self) -> Mapping[str, str]:
        """Return the logical type of each column, by name."""
        return self._columns

    def close(self) -> None:
        """Release the connection."""
        self._engine.close()

    def _compiler(self) -> SqlCompiler:
        return SqlCompiler(self._columns, self._stored)

    def _from(self, sql: SqlCompiler, where: Expr | None) -> str:
        condition = "" if where is None else f" WHERE {sql.condition(where)}"
        return f"FROM {self._table} FINAL{condition}"

    def _scan(
        self, columns: list[str], where: Expr | None, order: Ordering | None, limit: int | None
    ) -> Iterator[pl.DataFrame]:
        sql = self._compiler()
        ordered = ""
        if order is not None:
            ordered = " ORDER BY " + _order(
                (self._raw(sql, name) for name in order.names), order.descending
            )
        statement = f"SELECT {self._selected_sql(sql, columns)} {self._from(sql, where)}{ordered}"
        if limit is not None:
            statement += f" LIMIT {sql.bind(limit)}"
        for batch in self._engine.stream(statement, sql.parameters):
            yield self._frame(pa.Table.from_batches([batch]), columns)

    @staticmethod
    def _raw(sql: SqlCompiler, name: str) -> str:
        return sql.value(Column(name))

    def _selected_sql(self, sql: SqlCompiler, columns: list[str]) -> str:
        # Results stand under names of their own: a name of the table would be ambiguous.
        return ", ".join(
            f"{quoted(name) if name in self._stored else self._raw(sql, name)} AS c{i}"
            for i, name in enumerate(columns)
        )

    def _frame(self, table: pa.Table, columns: list[str]) -> pl.DataFrame:
        """Return an answer in the types of the door: an empty list is null."""
        frame = pl.from_arrow(table)
        if not isinstance(frame, pl.DataFrame):
            raise TypeError("an answer without columns")
        shown: list[pl.Expr] = []
        for i, name in enumerate(columns):
            type_, column = self._columns[name], pl.col(f"c{i}")
            if type_.startswith("list"):
                column = pl.when(column.list.len() > 0).then(column)
            if type_ != "other":
                column = column.cast(polars_type(type_))
            shown.append(column.alias(name))
        return frame.select(shown)

    def _aggregate(self, question: Question) -> pl.DataFrame:
        sql = self._compiler()
        keys = {f"k{i}": key for i, key in enumerate(question.by)}
        values = {f"a{i}": a for i, a in enumerate(question.aggregates.values())}
        inner = [f"{sql.key(key)} AS {name}" for name, key in keys.items()]
        inner += [f"{sql.aggregate(a)} AS {name}" for name, a in values.items()]
        statement = f"SELECT {', '.join(inner)} {self._from(sql, question.where)}"
        if keys:
            statement += f" GROUP BY {', '.join(keys)}"
        # Final values stand under names of their own: `a0` is what they are made of.
        finals = {f"v{name[1:]}": sql.finish(a, name) for name, a in values.items()}
        outer = [*keys, *(f"{final} AS {name}" for name, final in finals.items())]
        # Values are bound; names come from the schema and are quoted.
        statement = f"SELECT {', '.join(outer)} FROM ({statement})"  # noqa: S608  # see above
        shown = [*(key_name(key) for key in keys.values()), *question.aggregates]
        names = dict(zip(shown, [*keys, *finals], strict=True))
        if question.order.names:
            columns = (names[name] for name in question.order.names)
            statement += f" ORDER BY {_order(columns, question.order.descending)}"
        if question.limit is not None:
            statement += f" LIMIT {sql.bind(question.limit)}"
        frame = pl.from_arrow(self._engine.query(statement, sql.parameters))
        if not isinstance(frame, pl.DataFrame):
            raise TypeError("an answer without columns")
        return frame.rename({own: name for name, own in names.items()})

    def _sample(self, n: int, seed: int, columns: list[str], where: Expr | None) -> pl.DataFrame:
        sql = self._compiler()
        hashed = sql.sample_hash(seed)
        # The ids alone are sorted; wide columns are read for the rows that were drawn.
        chosen = (
            f"SELECT {hashed} AS h, trace_id AS t, span_id AS s {self._from(sql, where)} "
            f"ORDER BY h, t, s LIMIT {sql.bind(n)}"
        )
        condition = "" if where is None else f"{sql.condition(where)} AND "
        statement = (
            f"SELECT {self._selected_sql(sql, columns)} "  # noqa: S608  # as in _aggregate
            f"FROM {self._table} FINAL "
            f"WHERE {condition}(trace_id, span_id) IN (SELECT t, s FROM ({chosen})) "
            f"ORDER BY {hashed}, trace_id, span_id LIMIT {sql.bind(n)}"
        )
        return self._frame(self._engine.query(statement, sql.parameters), columns)


def _order(columns: Iterator[str], descending: tuple[bool, ...]) -> str:
    return ", ".join(
        f"{column} {'DESC' if falls else 'ASC'} NULLS LAST"
        for column, falls in zip(columns, descending, strict=True)
    )
