"""Make one span file of several: sorted by start time, each span once, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pyflare_proto.errors import InvalidDataError
from pyflare_storage.files import Location, read_files, readable
from pyflare_storage.span_files import SpanFile
from pyflare_storage.writing import SpanWriter

__all__ = ["Merged", "merge"]

_ROW = "row number"
_HASH = "hash of the ids"
_SLICE_BYTES = 64 * 1024 * 1024
"""Uncompressed bytes of a slice, as the files' footers tell them."""
_SLICE_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge wrote."""

    rows: int
    """Spans in the new file."""
    duplicates: int
    """Spans that were there more than once, counted without their first."""
    first_start_ns: int
    last_start_ns: int


def merge(
    files: Sequence[SpanFile], temporary: Path, *, slice_rows: int | None = None
) -> Merged | None:
    """Write the spans of several files into one.

    Args:
        files: the files, in the order in which the first of equal spans counts.
        temporary: where to write.
        slice_rows: rows of a row group; by default as many as fit the memory of a slice.

    Returns:
        What was written; None when the files have no rows, and there is no file.

    Raises:
        InvalidDataError: a file cannot be read.
        StorageError: the disk is full.

    Memory: 24 bytes a row for the order of all rows, and one slice of the rows themselves:
    the spans of one stretch of time, which the row groups' statistics find. (Spans that
    start in the same nanosecond stay in one slice.)
    """
    place = Location(str(files[0].path.parent), "parquet", folder=files[0].path.parent)
    paths = [str(file.path) for file in files]
    with readable(place, paths):
        rows = read_files(place, files).with_row_index(_ROW)
        times, dropped = _order(rows)
        if not len(times):
            return None
        bounds = _slices(times, slice_rows or _slice_rows(paths))
        writer = SpanWriter(temporary)
        for frame in _sorted_slices(rows, dropped, bounds):
            writer.write(frame)
        writer.close()
    if writer.rows != len(times):
        raise InvalidDataError(f"only {writer.rows} of {len(times)} spans of {place.url} were read")
    return Merged(writer.rows, len(dropped), int(times[0]), int(times[-1]))


def _order(rows: pl.LazyFrame) -> tuple[NDArray[np.int64], pl.Series]:
    """Return the sorted start times of the rows that stay, and the numbers of those that go."""
    hashed = pl.col("trace_id").hash(0) ^ pl.col("span_id").hash(1)
    keys = rows.select(
        _ROW, pl.col("start_time").dt.epoch("ns").alias("ns"), hashed.alias(_HASH)
    ).collect(engine="streaming")
    # Equal ids have equal hashes: only rows whose hash is not alone are looked at closely.
    suspects = keys.filter(pl.col(_HASH).is_duplicated())[_ROW]
    dropped = suspects.clear()
    if len(suspects):
        ids = rows.filter(pl.col(_ROW).is_in(suspects.implode())).select(
            _ROW, "trace_id", "span_id"
        )
        again = ~pl.struct("trace_id", "span_id").is_first_distinct()
        dropped = ids.collect(engine="streaming").sort(_ROW).filter(again)[_ROW]
        keys = keys.filter(~pl.col(_ROW).is_in(dropped.implode()))
    return np.sort(keys["ns"].to_numpy()), dropped


def _slice_rows(paths: Sequence[str]) -> int:
    rows = size = 0
    for path in paths:
        footer = pq.read_metadata(path)
        rows += footer.num_rows
        size += sum(footer.row_group(i).total_byte_size for i in range(footer.num_row_groups))
    return max(1024, min(_SLICE_ROWS, _SLICE_BYTES * rows // max(1, size)))


def _slices(times: NDArray[np.int64], slice_rows: int) -> list[int]:
    """Return where slices of about so many rows begin, and where the last one ends, in ns."""
    starts = np.unique(times[::slice_rows])
    return [*(int(t) for t in starts), int(times[-1]) + 1]


def _sorted_slices(
    rows: pl.LazyFrame, dropped: pl.Series, bounds: Sequence[int]
) -> Iterator[pl.DataFrame]:
    time = pl.col("start_time")
    for since, until in pairwise(bounds):
        low, high = (
            pl.lit(ns, dtype=pl.Int64).cast(pl.Datetime("ns", "UTC")) for ns in (since, until)
        )
        chosen = rows.filter((time >= low) & (time < high))
        if len(dropped):
            chosen = chosen.filter(~pl.col(_ROW).is_in(dropped.implode()))
        yield chosen.collect(engine="streaming").sort("start_time", "trace_id", "span_id")
