"""The source over files: Polars, lazily, with predicates and projections pushed down."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from pyflare_proto.errors import NotFoundError
from pyflare_proto.record import COLUMNS
from pyflare_storage.aggregates import key_name
from pyflare_storage.arrow_batches import arrow_batches, plain_columns
from pyflare_storage.attribute_codes import AttributeCodes
from pyflare_storage.base_source import BaseSource, Ordering, Question, is_span_table, polars_type
from pyflare_storage.expressions import ATTRIBUTE_COLUMNS, Expr, time_range
from pyflare_storage.files import located, read_files, readable
from pyflare_storage.pieces import Pieces, in_pieces
from pyflare_storage.piecewise import aggregate_pieces, can_be_joined
from pyflare_storage.polars_expressions import PolarsCompiler, seeded_hash
from pyflare_storage.span_files import SpanFile, current_files, reading

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["TableSource"]

_log = logging.getLogger("pyflare.storage")

_ATTEMPTS = 4
_BATCH_ROWS = 8192
_HASH = "sample hash"
_ROW = "row number"
_NATURAL = (
    *("string", "int64", "float64", "bool", "timestamp_ns"),
    *("list<string>", "list<float32>", "list<document>"),
)
_RECORD_TYPES = {c.name: str(c.type) for c in COLUMNS}


def _logical(dtype: pl.DataType) -> str:
    return next((name for name in _NATURAL if dtype == polars_type(name)), "other")


class TableSource(BaseSource):
    """Rows in files: Parquet, CSV or JSON lines.

    Files of a folder whose names tell their time are passed over without being opened
    when a condition on `start_time` excludes them. While a question is answered, no
    compaction deletes a file that it reads; where the file system knows no locks and a
    file vanishes, the question is asked again of a fresh listing.

    Args:
        url: see `pyflare_storage.source.open_source`.

    Raises:
        NotFoundError: there is nothing at that place.
        InvalidDataError: a file is damaged.
        SourceUnavailableError: the object store does not answer.
    """

    def __init__(self, url: str) -> None:
        self._location = located(url)
        self._columns = self._read_columns()
        self._compiler = PolarsCompiler(self._columns)
        self._codes = AttributeCodes()

    @property
    def url(self) -> str:
        """Where the rows are."""
        return self._location.url

    def columns(self) -> Mapping[str, str]:
        """Return the logical type of each column, by name."""
        return self._columns

    def close(self) -> None:
        """Nothing is held between questions."""

    def _read_columns(self) -> dict[str, str]:
        with self._opened(None) as frame:
            schema = frame.collect_schema()
        if is_span_table(schema):
            types = {n: _RECORD_TYPES.get(n) or _logical(d) for n, d in schema.items()}
        else:
            types = {name: _logical(dtype) for name, dtype in schema.items()}
        return types

    @contextmanager
    def _opened(self, where: Expr | None) -> Iterator[pl.LazyFrame]:
        """Hold the files and yield the frame over those that can hold a match."""
        with self._held(where) as files:
            yield read_files(self._location, files)

    @contextmanager
    def _held(self, where: Expr | None) -> Iterator[tuple[SpanFile, ...] | None]:
        """Hold the files and yield those that can hold a match; None where it is no folder."""
        location = self._location
        if location.folder is None:
            with readable(location, location.paths):
                yield None
            return
        with reading(location.folder):
            files = self._files(location.folder, where)
            with readable(location, [str(file.path) for file in files]):
                yield files

    def _files(self, folder: Path, where: Expr | None) -> tuple[SpanFile, ...]:
        files = current_files(folder)
        since, until = time_range(where)
        chosen = tuple(file for file in files if file.may_hold(since, until))
        if chosen or not files or files[0].writer is not None:
            return chosen
        return files[:1]  # a foreign file, for its columns

    def _retried(self, answer: Callable[[], pl.DataFrame]) -> pl.DataFrame:
        """Answer again of a fresh listing when a file vanishes."""
        for _ in range(_ATTEMPTS - 1):
            try:
                return answer()
            except NotFoundError:
                if self._location.folder is None:
                    raise
                _log.info("a file of %s vanished, reading again", self.url)
        return answer()

    def _matching(self, frame: pl.LazyFrame, where: Expr | None) -> pl.LazyFrame:
        return frame if where is None else frame.filter(self._compiler.condition(where))

    def _shown(self, columns: list[str]) -> list[pl.Expr]:
        """Return columns as they come out: an empty list is null."""
        return [
            pl.when(pl.col(name).list.len() > 0).then(pl.col(name)).alias(name)
            if self._columns[name].startswith("list")
            else pl.col(name)
            for name in columns
        ]

    def _scan(
        self, columns: list[str], where: Expr | None, order: Ordering | None, limit: int | None
    ) -> Iterator[pl.DataFrame]:
        yielded = False
        for attempt in range(_ATTEMPTS):
            try:
                with self._held(where) as files:
                    for batch in self._batches(files, columns, where, order, limit):
                        yielded = True
                        yield batch
                return  # noqa: TRY300  # in an else the files would be let go before
            except NotFoundError:
                if yielded or self._location.folder is None or attempt == _ATTEMPTS - 1:
                    raise
                _log.info("a file of %s vanished, reading again", self.url)

    def _batches(
        self,
        files: tuple[SpanFile, ...] | None,
        columns: list[str],
        where: Expr | None,
        order: Ordering | None,
        limit: int | None,
    ) -> Iterator[pl.DataFrame]:
        if order is None and limit is None and in_pieces(self._location):
            for found in self._pieces(files, where).select(self._shown(columns)):
                yield from found.iter_slices(_BATCH_ROWS)
            return
        rows = self._matching(read_files(self._location, files), where)
        if order is not None:
            rows = self._sorted(rows, order, columns)
        if limit is not None:
            rows = rows.head(limit)
        shown = rows.select(self._shown(columns))
        yield from shown.collect_batches(chunk_size=_BATCH_ROWS, engine="streaming")

    def _pieces(self, files: tuple[SpanFile, ...] | None, where: Expr | None) -> Pieces:
        condition = None if where is None else self._compiler.condition(where)
        return Pieces(self._location, files, condition)

    @staticmethod
    def _sorted(frame: pl.LazyFrame, order: Ordering, columns: list[str]) -> pl.LazyFrame:
        needed = list(dict.fromkeys([*columns, *order.names]))
        return frame.select(needed).sort(
            order.names, descending=list(order.descending), nulls_last=True
        )

    def arrow_batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch] | None:
        """Yield all rows as Arrow batches, text as codes; see `pyflare_storage.arrow_batches`.

        Args:
            columns: known columns.

        Returns:
            None where only `scan` can read them: spans, other than local Parquet, columns
            that are neither number nor text.

        Raises:
            InvalidDataError: while they are read: a file is damaged.
            NotFoundError: while they are read: a file is gone.
        """
        location = self._location
        if location.remote or location.format != "parquet" or is_span_table(self._columns):
            return None
        paths = list(location.paths)
        if location.folder is not None:
            paths = [str(file.path) for file in self._files(location.folder, None)]
        return self._read(paths, columns) if plain_columns(paths, columns) else None

    def _read(self, paths: Sequence[str], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with readable(self._location, paths):
            yield from arrow_batches(paths, columns)

    def _aggregate(self, question: Question) -> pl.DataFrame:
        # Keys stand under names of their own at first: an aggregate may read a column
        # that a key is named after.
        own = {f"key {i}": key for i, key in enumerate(question.by)}
        keys = [self._compiler.key(key).alias(name) for name, key in own.items()]
        names = {name: key_name(key) for name, key in own.items()}
        values = [
            self._compiler.aggregate(aggregate).alias(name)
            for name, aggregate in question.aggregates.items()
        ]
        read = {name for e in [*keys, *values] for name in e.meta.root_names()}
        if question.where is not None:
            read.update(self._compiler.condition(question.where).meta.root_names())
        reads_attributes = not read.isdisjoint(ATTRIBUTE_COLUMNS)

        def answer() -> pl.DataFrame:
            with self._held(question.where) as files:
                if reads_attributes and in_pieces(self._location) and can_be_joined(question):
                    pieces = self._pieces(files, None)
                    found = aggregate_pieces(pieces, question, self._columns, self._codes, own)
                    result = found.lazy()
                else:
                    rows = self._matching(read_files(self._location, files), question.where)
                    result = rows.group_by(keys).agg(values) if keys else rows.select(values)
                result = result.rename(names)
                if question.order.names:
                    result = result.sort(
                        question.order.names,
                        descending=list(question.order.descending),
                        nulls_last=True,
                    )
                if question.limit is not None:
                    result = result.head(question.limit)
                return result.collect(engine="streaming")

        return self._retried(answer)

    def _sample(self, n: int, seed: int, columns: list[str], where: Expr | None) -> pl.DataFrame:
        hashed, shown = self._hash(seed), self._shown(columns)
        spans = is_span_table(self._columns)

        def answer() -> pl.DataFrame:
            with self._held(where) as files:
                if spans and in_pieces(self._location):
                    return self._pieces(files, where).sample(n, hashed, shown)
                frame = self._numbered(read_files(self._location, files))
                rows = self._matching(frame, where).with_columns(hashed.alias(_HASH))
                ties = ["trace_id", "span_id"] if spans else [_ROW]
                # First the n-th smallest hash, then the rows up to it: wide columns are
                # read for these only.
                smallest = rows.select(_HASH).bottom_k(n, by=_HASH)
                bound = smallest.select(pl.col(_HASH).max()).collect(engine="streaming").item()
                if bound is None:
                    return rows.head(0).select(shown).collect()
                chosen = rows.filter(pl.col(_HASH) <= pl.lit(bound, dtype=pl.UInt64))
                drawn = chosen.sort(_HASH, *ties).head(n)
                return drawn.select(shown).collect(engine="streaming")

        return self._retried(answer)

    def _numbered(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        return frame if is_span_table(self._columns) else frame.with_row_index(_ROW)

    def _hash(self, seed: int) -> pl.Expr:
        if is_span_table(self._columns):
            return self._compiler.sample_hash(seed)
        return seeded_hash(seed, pl.col(_ROW).cast(pl.UInt64))
