"""One Parquet file in the making: row groups go to a temporary file until it is published."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pyflare_proto.errors import StorageError
from pyflare_proto.record import COLUMN_NAMES, COLUMNS, arrow_schema

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pyflare_storage.dataset import DataDirectory

__all__ = ["TEMPORARY_SUFFIX", "WRITER", "Compression", "SegmentFile"]

Compression = Literal["zstd", "lz4", "snappy", "gzip", "none"]

WRITER = "collect"
"""The collector's name in the names of its files."""

TEMPORARY_SUFFIX = ".collect.tmp"
"""End of the names of the collector's unfinished files."""

_CATEGORIES = [c.name for c in COLUMNS if c.type == "category"]

_DICTIONARY = [*_CATEGORIES, "name", "user_id", "resource_attributes", "scope_attributes"]
"""Columns with few distinct values; for the others a dictionary is tried in vain."""

_DELTA = {"start_time": "DELTA_BINARY_PACKED", "end_time": "DELTA_BINARY_PACKED"}

_STATISTICS = [
    *_CATEGORIES,
    *("trace_id", "span_id", "start_time", "end_time", "duration_ms", "user_id", "session_id"),
    *("input_tokens", "output_tokens", "total_tokens", "cost_nano_usd", "sampling_probability"),
]
"""Columns that readers filter by; statistics of long texts cost more than they save."""


class SegmentFile:
    """The Parquet file of one log segment, from the first row group to its publication.

    Nothing is on the disk before the first `write`.

    Args:
        data: the data directory; it exists.
        seq: number of the log segment.
        compression: codec of all columns.
        writer: name of the writer in the file's name.
    """

    def __init__(
        self,
        data: DataDirectory,
        seq: int,
        compression: Compression = "zstd",
        *,
        writer: str = WRITER,
    ) -> None:
        self.seq = seq
        self.rows = 0
        self._data = data
        self._compression = compression
        self._writer_name = writer
        self._path: Path | None = None
        self._writer: pq.ParquetWriter | None = None
        self._first_ns = 2**63 - 1
        self._last_ns = -(2**63)

    def fit(self, table: pa.Table) -> pa.Table:
        """Return the table as the file takes it: row groups of a file have one schema.

        Raises:
            ValueError: the columns are not those of the span record, or of other types.
        """
        if table.schema.names != list(COLUMN_NAMES):
            raise ValueError(f"not the columns of the span record: {table.schema.names}")
        if self._writer is None or table.schema == self._writer.schema:
            return table
        return table.cast(self._writer.schema)

    def write(self, table: pa.Table) -> None:
        """Append a row group.

        Args:
            table: span records: the columns of `arrow_schema()`, any of the strings as
                dictionaries. They are written as they are, and read as plain strings.

        Raises:
            StorageError: the disk took nothing; the file cannot be used any more.
        """
        import pyarrow.compute as pc

        if table.num_rows == 0:
            return
        with _storage_errors(self._data.temporary):
            if self._writer is None:
                self._writer = self._open(table.schema)
            self._writer.write_table(self.fit(table), row_group_size=table.num_rows)
        times = pc.min_max(table["start_time"].cast("int64")).as_py()
        self._first_ns = min(self._first_ns, times["min"])
        self._last_ns = max(self._last_ns, times["max"])
        self.rows += table.num_rows

    def _open(self, schema: pa.Schema) -> pq.ParquetWriter:
        import pyarrow.parquet as pq

        self._path = self._data.temporary_path(TEMPORARY_SUFFIX)
        self._path.touch(mode=0o600)
        writer = pq.ParquetWriter(
            self._path,
            schema,
            compression=self._compression,
            compression_level=1 if self._compression == "zstd" else None,
            use_dictionary=_DICTIONARY,
            column_encoding=_DELTA,
            write_statistics=_STATISTICS,
            # Without Arrow's own schema inside, dictionaries are read as plain strings.
            store_schema=False,
        )
        writer.add_key_value_metadata(arrow_schema().metadata)
        return writer

    def publish(self) -> Path | None:
        """Write the footer, sync, and put the file in place by rename.

        Returns:
            The path, or None when there were no rows and so there is no file.

        Raises:
            StorageError: the disk is full or read-only; the file can only be abandoned.
        """
        if self._path is None:
            return None
        with _storage_errors(self._data.spans):
            self._close()
        name = self._data.file_name(self._first_ns, self._last_ns, self._writer_name, self.seq)
        final = self._data.spans / name
        self._data.publish(self._path, final)
        return final

    def abandon(self) -> None:
        """Delete what has been written; safe at any time."""
        with contextlib.suppress(OSError, ValueError):
            self._close()
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()


@contextlib.contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write to {path}: {error.strerror or error}",
            hint="free space on the disk or choose another folder: pyflare collect --data DIR",
        ) from error
