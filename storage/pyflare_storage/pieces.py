"""Local Parquet in pieces of bounded size: the row groups of a file, some at a time.

Polars reads a query's files in the background and far ahead of a reader that takes its time
with each batch: hundreds of megabytes, whatever the batch. A piece is a query of its own, so
what is held is one piece, however many files there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import polars as pl

from pyflare_storage.files import Location, read_files, read_own, read_rows
from pyflare_storage.span_files import SpanFile

__all__ = ["Pieces", "Place", "detached", "in_pieces"]

Place = tuple[tuple[tuple[str, int, int], ...], int, int]
"""A piece: its files, each with size and time of change (ns); first row; number of rows."""

_MOST_ROWS = 1 << 16
_MOST_BYTES = 1 << 25
_HASH = "sample hash"
_IDS = ("trace_id", "span_id")


def in_pieces(location: Location) -> bool:
    """Return whether the files can be read in pieces."""
    return location.format == "parquet" and not location.remote


@dataclass(frozen=True, slots=True)
class Pieces:
    """Files that are read piece by piece.

    Args:
        location: where they are.
        files: the files of the folder that count; None where the location has paths.
        condition: which rows; all when None.
    """

    location: Location
    files: tuple[SpanFile, ...] | None
    condition: pl.Expr | None

    def select(self, columns: Sequence[pl.Expr]) -> Iterator[pl.DataFrame]:
        """Yield columns of the matching rows of each piece that has any."""
        empty = False
        for rows in self._rows(self._read_by(columns)):
            # Where nothing matched, the next rows may not either: the condition's columns
            # alone tell.
            if empty and not rows.select(pl.len()).collect().item():
                continue
            found = rows.select(columns).collect()
            empty = found.is_empty()
            if not empty:
                yield found

    def sample(self, n: int, hashed: pl.Expr, columns: Sequence[pl.Expr]) -> pl.DataFrame:
        """Return columns of the `n` matching rows with the smallest hashes, by hash.

        First the n-th smallest hash from the ids alone, then the rows up to it: wide columns
        are read only where one of these is.

        Args:
            n: rows at most.
            hashed: of each row.
            columns: what to return.
        """
        hashed = hashed.alias(_HASH)
        smallest = pl.Series(_HASH, [], dtype=pl.UInt64)
        least: list[int | None] = []
        for rows in self._rows(self._read_by([hashed])):
            own = rows.select(hashed).collect().to_series()
            least.append(_whole_number(own.min()))
            smallest = smallest.append(own).bottom_k(n)
        bound = _whole_number(smallest.max())
        ties = [pl.col(name).alias(f"tie {name}") for name in _IDS]
        taken = [*columns, hashed, *ties]
        rows = self._whole().select(taken)
        found = [rows.head(0).collect()]
        for rows, first in zip(self._rows(self._read_by(taken)), least, strict=True):
            if first is not None and bound is not None and first <= bound:
                kept = pl.col(_HASH) <= pl.lit(bound, dtype=pl.UInt64)
                found.append(detached(rows.select(taken).filter(kept).collect()))
        order = [_HASH, *(f"tie {name}" for name in _IDS)]
        return pl.concat(found).sort(order).head(n).drop(order)

    def _whole(self) -> pl.LazyFrame:
        return read_files(self.location, self.files)

    def _read_by(self, expressions: Sequence[pl.Expr]) -> frozenset[str]:
        """Return the columns that expressions and the condition read."""
        conditions = [] if self.condition is None else [self.condition]
        return frozenset(name for e in [*expressions, *conditions] for name in e.meta.root_names())

    def nothing(self) -> pl.LazyFrame:
        """Return a frame of the columns of all files, without rows."""
        return pl.LazyFrame(schema=self._whole().collect_schema())

    def all_rows(self, columns: frozenset[str]) -> Iterator[tuple[Place, pl.LazyFrame]]:
        """Yield the place of each piece and its rows, lazily, with the columns of all files.

        Args:
            columns: what decides where pieces end.
        """
        schema = self._whole().collect_schema()
        for place, rows in self._read(columns):
            yield place, _completed(rows, schema)

    def _read(self, columns: frozenset[str]) -> Iterator[tuple[Place, pl.LazyFrame]]:
        """Yield the place of each piece and its rows, with the columns of its file."""
        small = _SmallFiles()
        for path, own in self._places():
            parts = list(_pieces(path, columns))
            whole = own and len(parts) == 1
            if not (whole and small.has_room(parts[0])):
                yield from small.taken()
            if whole:
                small.add(path, parts[0])
                continue
            for part in parts:
                rows = read_rows(path, part.first, part.rows, own=own)
                yield (_identities([path]), part.first, part.rows), rows
        yield from small.taken()

    def _rows(self, columns: frozenset[str]) -> Iterator[pl.LazyFrame]:
        """Yield the matching rows of each piece."""
        for _, rows in self.all_rows(columns):
            yield rows if self.condition is None else rows.filter(self.condition)

    def _places(self) -> list[tuple[str, bool]]:
        if self.files is None:
            return [(path, False) for path in self.location.paths]
        return [(str(file.path), file.writer is not None) for file in self.files]


def _whole_number(value: object) -> int | None:
    return value if isinstance(value, int) else None


def detached(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a copy that holds only its own text.

    Text in Polars is views of a buffer, and a few rows of many keep the buffer of all.
    """
    arrow = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    copy = pl.from_arrow(arrow, schema=frame.schema)
    return copy if isinstance(copy, pl.DataFrame) else copy.to_frame()


def _completed(frame: pl.LazyFrame, schema: pl.Schema) -> pl.LazyFrame:
    """Give a file the columns that only others have, as null."""
    own = frame.collect_schema()
    missing = [pl.lit(None, dtype=dtype).alias(n) for n, dtype in schema.items() if n not in own]
    return frame.with_columns(missing) if missing else frame


class _Part(NamedTuple):
    """Row groups of a file that follow one another."""

    first: int
    """Number of the first row."""
    rows: int
    size: int
    """Decompressed bytes."""

    def has_room(self, other: _Part) -> bool:
        """Return whether both together are no more than a piece, or this one is nothing."""
        fits = self.rows + other.rows <= _MOST_ROWS and self.size + other.size <= _MOST_BYTES
        return not self.rows or fits

    def joined(self, other: _Part) -> _Part:
        """Return both together."""
        return _Part(self.first, self.rows + other.rows, self.size + other.size)


class _SmallFiles:
    """Whole files of PyFlare that are read together: a query of its own for each would cost more.

    All of them have the columns of the record.
    """

    def __init__(self) -> None:
        self._paths: list[str] = []
        self._together = _Part(0, 0, 0)

    def has_room(self, part: _Part) -> bool:
        """Return whether one more file fits."""
        return self._together.has_room(part)

    def add(self, path: str, part: _Part) -> None:
        """Take a file."""
        self._paths.append(path)
        self._together = self._together.joined(part)

    def taken(self) -> Iterator[tuple[Place, pl.LazyFrame]]:
        """Yield the files as one piece, if there are any, and let them go."""
        if self._paths:
            place = (_identities(self._paths), 0, self._together.rows)
            yield place, read_own(self._paths)
        self._paths, self._together = [], _Part(0, 0, 0)


def _identities(paths: Sequence[str]) -> tuple[tuple[str, int, int], ...]:
    """Return what tells files from others of their names."""
    found = ((path, Path(path).stat()) for path in paths)
    return tuple((path, status.st_size, status.st_mtime_ns) for path, status in found)


def _pieces(path: str, columns: frozenset[str]) -> Iterator[_Part]:
    """Yield the pieces of a file: up to 64 Ki rows or 32 MiB of columns.

    A row group is the least that can be read.
    """
    part = _Part(0, 0, 0)
    for rows, size in _row_groups(path, columns):
        own = _Part(part.first + part.rows, rows, size)
        if part.has_room(own):
            part = part.joined(own)
        else:
            yield part
            part = own
    if part.rows:
        yield part


def _row_groups(path: str, columns: frozenset[str]) -> Iterator[tuple[int, int]]:
    """Yield rows and decompressed bytes of each row group.

    Raises:
        OSError: the file is damaged or gone.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        footer = pq.read_metadata(path)
    except pa.ArrowException as error:
        raise OSError(f"{path}: {error}") from error
    if not footer.num_row_groups:
        return
    group = footer.row_group(0)
    wanted = [
        number
        for number in range(footer.num_columns)
        if group.column(number).path_in_schema.partition(".")[0] in columns
    ]
    for index in range(footer.num_row_groups):
        group = footer.row_group(index)
        yield group.num_rows, sum(group.column(n).total_uncompressed_size for n in wanted)
