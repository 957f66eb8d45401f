"""From a source's address to the files it means, and from files to one lazy frame."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from pyflare_proto.errors import InvalidDataError, NotFoundError, SourceUnavailableError, UsageError
from pyflare_proto.record import COLUMNS
from pyflare_storage.base_source import is_span_table, polars_type
from pyflare_storage.span_files import SpanFile, current_files

__all__ = ["Location", "located", "read_files", "read_own", "read_rows", "readable"]

_log = logging.getLogger("pyflare.storage")

# Row groups that Polars decodes ahead. More of them make nothing faster and hold hundreds of
# megabytes. Polars looks at this when it reads the first file.
os.environ.setdefault("POLARS_ROW_GROUP_PREFETCH_SIZE", "2")

Format = Literal["parquet", "csv", "jsonl"]
_FORMATS: dict[str, Format] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
_RECORD = {c.name: polars_type(c.type) for c in COLUMNS}
_NO_SPANS_HINT = "collect or import some first: pyflare import FILE, pyflare collect"
_INFER_ROWS = 100_000
"""Rows of a text file that its column types are read from."""


_UNREADABLE = (
    pl.exceptions.ComputeError,
    pl.exceptions.InvalidOperationError,
    pl.exceptions.SchemaError,
)
"""What Polars raises for files that it cannot read."""


@dataclass(frozen=True, slots=True)
class Location:
    """What an address means."""

    url: str
    """The address."""
    format: Format
    folder: Path | None = None
    """A local folder of span files, whose contents may change."""
    paths: tuple[str, ...] = ()
    """Files or addresses, where it is no folder."""
    remote: bool = False
    """In an object store."""


def _format_of(name: str) -> Format:
    suffixes = [s.lower() for s in Path(name).suffixes]
    if suffixes and suffixes[-1] in {".gz", ".zst"}:
        suffixes.pop()
    return _FORMATS.get(suffixes[-1] if suffixes else "", "parquet")


def located(url: str) -> Location:
    """Find what an address means.

    Raises:
        NotFoundError: there is nothing.
    """
    if "://" in url and not url.startswith("file://"):
        last = url.rstrip("/").rpartition("/")[2]
        whole = url if "*" in url or Path(last).suffix else f"{url.rstrip('/')}/*.parquet"
        return Location(url, _format_of(last), paths=(whole,), remote=True)
    text = url.removeprefix("file://")
    path = Path(text).expanduser()
    if path.is_dir():
        folder = path / "spans" if (path / "spans").is_dir() else path
        if folder is path and not any(folder.glob("*.parquet")) and path.name != "spans":
            raise NotFoundError(f"no Parquet files and no spans/ in {path}", hint=_NO_SPANS_HINT)
        return Location(url, "parquet", folder=folder)
    if path.is_file():
        return Location(url, _format_of(path.name), paths=(str(path),))
    if glob.has_magic(text):
        return _located_glob(url, path)
    if path.name == "pyflare-data":
        raise NotFoundError(f"no data directory {text}", hint=_NO_SPANS_HINT)
    raise NotFoundError(
        f"no such file or folder: {text}", hint=f"see what is there: ls {path.parent}"
    )


def _located_glob(url: str, path: Path) -> Location:
    # Absolute patterns are what Path.glob cannot do.
    everything = glob.glob(str(path), recursive=True)  # noqa: PTH207  # see above
    found = sorted(p for p in everything if Path(p).is_file())
    # Files that a compaction has replaced stay out, as in a folder.
    current: set[Path] = set()
    for folder in {Path(p).parent for p in found}:
        current.update(file.path for file in current_files(folder))
    chosen = [p for p in found if Path(p) in current or not p.endswith(".parquet")]
    if not chosen:
        raise NotFoundError(
            f"no file fits {url}", hint="put the pattern in quotes: 'spans/*.parquet'"
        )
    formats = {_format_of(p) for p in chosen}
    if len(formats) > 1:
        raise UsageError(f"files of several kinds fit {url}: {', '.join(sorted(formats))}")
    return Location(url, formats.pop(), paths=tuple(chosen))


@contextmanager
def readable(location: Location, paths: Sequence[str]) -> Iterator[None]:
    """Turn the errors of reading into errors that say which file and what to do.

    Raises:
        NotFoundError: a file is gone, or an address holds nothing.
        SourceUnavailableError: the object store does not answer or refuses.
        InvalidDataError: a file is damaged or of another kind.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise NotFoundError(f"no file at {location.url}: {_first_line(error)}") from error
    except PermissionError as error:
        raise SourceUnavailableError(
            f"cannot open {error.filename or location.url}: permission denied",
            hint=f"see who may read it: ls -l {location.url}",
        ) from error
    except pl.exceptions.NoDataError as error:
        raise InvalidDataError(
            f"cannot read {location.url}: it is empty", hint="give a file with a header and rows"
        ) from error
    except (*_UNREADABLE, OSError) as error:
        if location.remote:
            _raise_remote(location, error)
        found = _damaged(location.format, paths)
        if found is None and location.format == "parquet":
            raise  # every file reads well: the fault is not in the data
        culprit, reason = found or (location.url, _first_line(error))
        raise InvalidDataError(
            f"cannot read {culprit}: {reason}", hint=_mending_hint(location, culprit)
        ) from error


def _mending_hint(location: Location, culprit: str) -> str:
    """Return what to do about a file that cannot be read."""
    if _is_reference(culprit):
        return "it is a saved reference: give it to --ref of the command that saved it"
    if location.format == "csv":
        return "CSV is read as UTF-8 with commas (.tsv: tabs) and one header line: convert it"
    if location.format == "jsonl":
        return "JSON lines are one object a line, in UTF-8"
    if location.folder is None:
        return (
            "it is cut off, or no Parquet (CSV and JSON lines need their endings): copy it again, "
            f"or see what it is: file '{culprit}'"
        )
    return f"move it out of the way and ask again: mv '{culprit}' '{culprit}.damaged'"


def _is_reference(path: str) -> bool:
    """Return whether a file is a saved reference of drift, by its first bytes."""
    try:
        with Path(path).open("rb") as file:
            return b"pyflare.drift." in file.read(4096)
    except OSError:
        return False


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _raise_remote(location: Location, error: BaseException) -> None:
    text = str(error).lower()
    if "not found" in text or "expanded paths were empty" in text or "404" in text:
        raise NotFoundError(f"nothing at {location.url}", hint="check bucket and path") from error
    if "parquet" in text and "specification" in text:
        raise InvalidDataError(f"cannot read {location.url}: {_first_line(error)}") from error
    raise SourceUnavailableError(
        f"cannot reach {location.url}: {_first_line(error)}",
        hint="check the network and the credentials (AWS_*, GOOGLE_* or AZURE_* variables)",
    ) from error


def _damaged(format_: Format, paths: Sequence[str]) -> tuple[str, str] | None:
    """Find the first file that cannot be read by itself: footers first, then all bytes."""
    if format_ != "parquet":
        return None
    for path in paths:
        try:
            pl.read_parquet_schema(path)
        except (pl.exceptions.PolarsError, OSError) as error:
            return path, _first_line(error)
    for path in paths:
        try:
            for _ in pl.scan_parquet(path).collect_batches():
                pass
        except (pl.exceptions.PolarsError, OSError) as error:
            return path, _first_line(error)
    return None


def read_files(  # noqa: PLR0911  # one return a kind of place
    location: Location, files: Sequence[SpanFile] | None = None
) -> pl.LazyFrame:
    """Return a lazy frame over files, in the types of the door.

    Args:
        location: where they are.
        files: the files of the folder that count; None where the location has paths.

    A table of spans gets every column of the record; of files with different columns
    each is brought into that form by itself.
    """
    if location.format == "csv":
        separator = "\t" if ".tsv" in location.paths[0] else ","
        frame = pl.scan_csv(
            list(location.paths),
            separator=separator,
            try_parse_dates=True,
            infer_schema_length=_INFER_ROWS,
        )
        return _in_shape(frame, dict(frame.collect_schema()))
    if location.format == "jsonl":
        frame = pl.scan_ndjson(list(location.paths), infer_schema_length=_INFER_ROWS)
        return _in_shape(frame, dict(frame.collect_schema()))
    if location.remote:
        frame = pl.scan_parquet(
            list(location.paths), missing_columns="insert", extra_columns="ignore"
        )
        return _in_shape(frame, dict(frame.collect_schema()))
    if files is None:
        return _by_schema([str(path) for path in location.paths])
    if not files:
        return pl.LazyFrame(schema=_RECORD)
    own = [str(f.path) for f in files if f.writer is not None]
    foreign = [str(f.path) for f in files if f.writer is None]
    if not foreign:
        return read_own(own)
    rest = _by_schema(foreign)
    if not own:
        return rest
    return pl.concat([read_own(own), rest], how="diagonal")


def read_rows(path: str, first: int, count: int, *, own: bool) -> pl.LazyFrame:
    """Return a lazy frame over some rows of one local Parquet file, in the types of the door.

    Args:
        path: the file.
        first: number of the first row.
        count: how many.
        own: whether PyFlare wrote it.

    The frame has the columns that `read_files` gives this file alone.
    """
    if own:
        return read_own([path]).slice(first, count)
    schema = dict(pl.read_parquet_schema(path))
    return _in_shape(pl.scan_parquet(path).slice(first, count), schema)


def read_own(paths: list[str]) -> pl.LazyFrame:
    """Return a lazy frame over files that PyFlare wrote: the record, of any version."""
    return pl.scan_parquet(
        paths,
        schema=_RECORD,
        missing_columns="insert",
        extra_columns="ignore",
        cast_options=pl.ScanCastOptions(categorical_to_string="allow"),
    )


def _by_schema(paths: list[str]) -> pl.LazyFrame:
    """Files of anybody: those of one schema are read together."""
    groups: dict[tuple[tuple[str, pl.DataType], ...], list[str]] = {}
    for path in paths:
        schema = tuple(pl.read_parquet_schema(path).items())
        groups.setdefault(schema, []).append(path)
    frames = [_in_shape(pl.scan_parquet(group), dict(key)) for key, group in groups.items()]
    return frames[0] if len(frames) == 1 else pl.concat(frames, how="diagonal")


def _in_shape(frame: pl.LazyFrame, schema: dict[str, pl.DataType]) -> pl.LazyFrame:
    """Bring a table into the types of the door; spans get every column of the record."""
    if not is_span_table(schema):
        return frame.select(_converted(name, dtype) for name, dtype in schema.items())
    record = [
        _converted(name, schema[name], wanted)
        if name in schema
        else pl.lit(None, dtype=wanted).alias(name)
        for name, wanted in _RECORD.items()
    ]
    extra = [_converted(name, dtype) for name, dtype in schema.items() if name not in _RECORD]
    return frame.select(*record, *extra)


def _converted(name: str, dtype: pl.DataType, wanted: pl.DataType | None = None) -> pl.Expr:
    """Return a column in the type that stands for its logical type, or in a wanted one."""
    column = pl.col(name)
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is None:
        column = column.dt.replace_time_zone("UTC")
    target = wanted or _natural(dtype)
    if target is None or target == dtype:
        return column
    return column.cast(target, strict=wanted is not None)


def _natural(dtype: pl.DataType) -> pl.DataType | None:  # noqa: PLR0911  # one return a type
    """Return the door's type for a Polars type; None where it stays as it is."""
    if dtype.is_integer():
        # What int64 cannot hold would be null.
        wide = isinstance(dtype, (pl.UInt64, pl.Int128))
        return pl.Float64() if wide else pl.Int64()
    if dtype.is_float() or dtype.is_decimal():
        return pl.Float64()
    if isinstance(dtype, (pl.Datetime, pl.Date)):
        return pl.Datetime("ns", "UTC")
    if isinstance(dtype, (pl.Categorical, pl.Enum, pl.Null)):
        return pl.String()
    if isinstance(dtype, pl.Array):
        return pl.List(pl.Float32()) if dtype.inner.is_float() else pl.List(dtype.inner)
    if isinstance(dtype, pl.List) and isinstance(dtype.inner, pl.Float64):
        return pl.List(pl.Float32())
    return None
