"""How storage writes span files: the record's schema, its encodings and statistics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pyflare_proto.errors import StorageError
from pyflare_proto.record import COLUMN_NAMES, COLUMNS, arrow_schema

__all__ = ["SpanWriter", "as_record"]

_CATEGORIES = [c.name for c in COLUMNS if c.type == "category"]
_DICTIONARY = [*_CATEGORIES, "name", "user_id", "resource_attributes", "scope_attributes"]
"""Columns with few distinct values; for the others a dictionary is tried in vain."""
_LONG = {"input", "output", "status_message", "error_message", "retrieval_query"}
_STATISTICS = [
    c.name for c in COLUMNS if c.name not in _LONG and not c.type.startswith(("list", "json"))
]
"""Columns that readers filter by."""
_PER_COLUMN: dict[str, Any] = {  # lists of columns, which some stubs of pyarrow do not know
    "use_dictionary": _DICTIONARY,
    "write_statistics": _STATISTICS,
    "column_encoding": dict.fromkeys(("start_time", "end_time"), "DELTA_BINARY_PACKED"),
}


def as_record(frame: pl.DataFrame) -> pa.Table:
    """Return spans in the types of `pyflare_proto.record.arrow_schema`.

    Args:
        frame: every column of the record, in any order.
    """
    table = frame.select(COLUMN_NAMES).to_arrow(compat_level=pl.CompatLevel.oldest())
    return table.cast(arrow_schema())


class SpanWriter:
    """A span file in the making, readable by its owner only; one row group a `write`.

    Args:
        path: where to write; see `DataDirectory.temporary_path`.

    Raises:
        StorageError: the folder takes no files.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        """Spans so far."""
        self.first_start_ns = 2**63 - 1
        self.last_start_ns = -(2**63)
        try:
            path.touch(mode=0o600)
            self._writer = pq.ParquetWriter(
                path,
                arrow_schema(),
                compression="zstd",
                compression_level=3,
                **_PER_COLUMN,
                store_schema=False,
            )
        except OSError as error:
            raise self._failed(error) from error
        self._writer.add_key_value_metadata(
            {key.decode(): value.decode() for key, value in arrow_schema().metadata.items()}
        )

    def write(self, frame: pl.DataFrame) -> None:
        """Append spans, sorted by start time, as one row group.

        Raises:
            StorageError: the disk is full.
        """
        if frame.is_empty():
            return
        try:
            self._writer.write_table(as_record(frame), row_group_size=frame.height)
        except OSError as error:
            raise self._failed(error) from error
        ns = frame["start_time"].dt.epoch("ns")
        self.first_start_ns = min(self.first_start_ns, int(ns[0]))
        self.last_start_ns = max(self.last_start_ns, int(ns[-1]))
        self.rows += frame.height

    def close(self) -> None:
        """Write the footer; may be called twice.

        Raises:
            StorageError: the disk is full.
        """
        try:
            self._writer.close()
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> StorageError:
        return StorageError(
            f"cannot write {self.path}: {error.strerror or error}",
            hint="free space on the disk, or choose another folder",
        )
