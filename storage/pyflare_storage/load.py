"""Copy spans from one place to another: Parquet, a ClickHouse server, the embedded engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import polars as pl

from pyflare_proto.errors import InvalidDataError, SchemaError, UsageError
from pyflare_proto.record import COLUMN_NAMES, COLUMNS
from pyflare_storage.aggregates import Aggregate, Count, TimeBucket
from pyflare_storage.base_source import is_span_table, polars_type
from pyflare_storage.clickhouse_source import ClickHouseSource, open_clickhouse
from pyflare_storage.dataset import DataDirectory
from pyflare_storage.expressions import And, Expr, Timestamp, col
from pyflare_storage.source import Source, open_source
from pyflare_storage.writing import SpanWriter, as_record

__all__ = ["LoadReport", "load"]

_ENGINES = ("clickhouse://", "clickhouses://", "chdb://")
_LEVELS_NS = {
    "1d": 86_400_000_000_000,
    "1h": 3_600_000_000_000,
    "1m": 60_000_000_000,
    "1s": 1_000_000_000,
}
_DAY_NS = _LEVELS_NS["1d"]
_SLICE_ROWS = 65_536
_FILE_ROWS = 2_000_000
_SUFFIX = ".load.tmp"
_NO_SPANS = pl.DataFrame(schema={c.name: polars_type(c.type) for c in COLUMNS})


@dataclass(slots=True)
class LoadReport:
    """What a copy did."""

    source: str
    """Where the spans came from."""
    to: str
    """Where they went."""
    spans_read: int = 0
    """Spans of the source, each counted once."""
    spans_written: int = 0
    """Spans that were new there."""
    spans_present: int = 0
    """Spans that were there before; they stay as they are."""


class _Target(Protocol):
    """Where spans go."""

    @property
    def source(self) -> Source:
        """What is there already."""

    def write(self, frame: pl.DataFrame, since_ns: int) -> None:
        """Append spans that are not there, sorted by time."""

    def finish(self) -> None:
        """Make all that was written visible."""

    def close(self) -> None:
        """Let go; what is unfinished is thrown away."""


def load(
    source: str, to: str, *, password: str | None = None, slice_rows: int = _SLICE_ROWS
) -> LoadReport:
    """Copy the spans that the target does not have yet. A second run copies nothing.

    Args:
        source: see `pyflare_storage.source.open_source`.
        to: a data directory, `clickhouse://...` or `chdb:///folder`; made when missing.
        password: of the ClickHouse server.
        slice_rows: about how many rows to hold in memory at a time.

    Raises:
        NotFoundError: there is nothing at the source.
        SchemaError: the source holds no spans.
        InvalidDataError: spans of the source lack an id, a time or another required value.
        SourceUnavailableError: a server does not answer.
        StorageError: the target's disk takes no data.
        UsageError: an address cannot be read or written to.

    Memory: one slice of rows: the spans of a day, or of an hour, minute or second where a
    day has more than `slice_rows`.
    """
    if "://" in to and not to.startswith(("file://", *_ENGINES)):
        raise UsageError(
            f"cannot write to {to}", hint="a data directory, clickhouse://... or chdb:///folder"
        )
    with ExitStack() as stack:
        opened = stack.enter_context(open_source(source, password=password))
        _check(opened)
        target = _engine(to, password) if to.startswith(_ENGINES) else _Folder(to)
        stack.callback(target.close)
        report = LoadReport(opened.url, to)
        for since, until in _slices(opened, slice_rows):
            _copy(opened, target, since, until, report)
        target.finish()
    return report


def _check(source: Source) -> None:
    if not is_span_table(source.columns()):
        raise SchemaError(
            f"{source.url} holds no spans: it has no columns trace_id and span_id",
            hint="OTLP files are read by: pyflare import FILE",
        )
    required = [c.name for c in COLUMNS if not c.nullable]
    missing: dict[str, Aggregate] = {name: Count(where=col(name).is_null()) for name in required}
    for name, count in source.aggregate(missing).row(0, named=True).items():
        if count:
            raise InvalidDataError(
                f"{count} rows of {source.url} have no {name}",
                hint="a span has a value in each of: " + ", ".join(required),
            )


def _between(since_ns: int, until_ns: int) -> Expr:
    start = col("start_time")
    return And((start >= Timestamp(since_ns), start < Timestamp(until_ns)))


def _slices(
    source: Source, slice_rows: int, where: Expr | None = None, level: int = 0
) -> Iterator[tuple[int, int]]:
    """Yield stretches of time [since, until), in ns, that have spans, in order."""
    every, length = list(_LEVELS_NS.items())[level]
    counts = source.aggregate({"n": Count()}, [TimeBucket("start_time", every)], where)
    times = counts["time"].dt.epoch("ns").to_list()
    for since, n in zip(times, counts["n"].to_list(), strict=True):
        until = since + length
        if n > slice_rows and level + 1 < len(_LEVELS_NS):
            yield from _slices(source, slice_rows, _between(since, until), level + 1)
        else:
            yield since, until


def _copy(source: Source, target: _Target, since: int, until: int, report: LoadReport) -> None:
    ids = ["trace_id", "span_id"]
    where = _between(since, until)
    rows = pl.concat([_NO_SPANS, *source.scan(COLUMN_NAMES, where, "start_time")]).unique(
        ids, keep="first", maintain_order=True
    )
    there = pl.concat([_NO_SPANS.select(ids), *target.source.scan(ids, where)])
    fresh = rows.join(there, on=ids, how="anti", maintain_order="left")
    report.spans_read += rows.height
    report.spans_present += rows.height - fresh.height
    report.spans_written += fresh.height
    if fresh.height:
        target.write(fresh, since)


class _Engine:
    """A table of a ClickHouse engine."""

    def __init__(self, source: ClickHouseSource) -> None:
        self.source = source

    def write(self, frame: pl.DataFrame, since_ns: int) -> None:
        """Insert spans as one block."""
        del since_ns
        self.source.engine.insert(self.source.table, as_record(frame))

    def finish(self) -> None:
        """Inserts are visible at once."""

    def close(self) -> None:
        """Release the connection."""
        self.source.close()


def _engine(url: str, password: str | None) -> _Engine:
    return _Engine(open_clickhouse(url, password=password, create=True))


class _Folder:
    """A data directory: a file for each day that something is written to."""

    def __init__(self, to: str) -> None:
        path = Path(to.removeprefix("file://")).expanduser()
        if path.is_file() or (path.suffix == ".parquet" and not path.is_dir()):
            raise UsageError(
                f"cannot write to the single file {to}", hint="give a directory: --to ./copy"
            )
        if path.name == "spans":
            path = path.parent
        elif not (path / "spans").is_dir() and any(path.glob("*.parquet")):
            raise UsageError(
                f"{to} holds Parquet files of its own and is no data directory",
                hint="give a new directory: --to ./copy",
            )
        self._data = DataDirectory(path)
        self._data.create()
        self.source = open_source(path)
        self._writer: SpanWriter | None = None
        self._day = 0

    def write(self, frame: pl.DataFrame, since_ns: int) -> None:
        """Append a row group to the day's file."""
        day = since_ns // _DAY_NS
        if self._writer is not None and (day != self._day or self._writer.rows >= _FILE_ROWS):
            self.finish()
        if self._writer is None:
            self._writer = SpanWriter(self._data.temporary_path(_SUFFIX))
            self._day = day
        self._writer.write(frame)

    def finish(self) -> None:
        """Put the day's file in place."""
        writer = self._writer
        if writer is None:
            return
        writer.close()
        name = self._data.file_name(
            writer.first_start_ns, writer.last_start_ns, "load", self._data.max_sequence() + 1
        )
        self._data.publish(writer.path, self._data.spans / name)
        self._writer = None

    def close(self) -> None:
        """Throw an unfinished file away."""
        if self._writer is not None:
            self._writer.path.unlink(missing_ok=True)
            self._writer = None
