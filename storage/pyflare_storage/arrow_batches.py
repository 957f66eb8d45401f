"""Local Parquet as Arrow batches, text as codes into a dictionary: the cheapest way to count it.

Text comes out as it is stored, number by number with one table of the different values a
batch, and the memory is that of one batch, however many files and columns there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pyflare_storage.malloc import MMAP_THRESHOLD, set_malloc

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["arrow_batches", "give_large_blocks_back", "plain_columns"]

_BATCH_ROWS = 131_072
_BUFFER_BYTES = 1 << 20
"""Bytes of a column chunk that are read at a time."""
_LARGE_BYTES = 2_000_000


def give_large_blocks_back() -> bool:
    """Tell the C library to map blocks of 2 MB or more; return whether it does (glibc only).

    Such a block goes back to the system when it is freed. By default the limit grows with the
    blocks that were freed, and after a hundred files their rest lies in pieces that fit nothing:
    a fifth of the memory, for a sixth of the CPU time in page faults.
    """
    return set_malloc((MMAP_THRESHOLD, _LARGE_BYTES))


def plain_columns(paths: Sequence[str], columns: Sequence[str]) -> bool:
    """Return whether the columns are numbers or text of one type in all Parquet files.

    Also false where a file cannot be read: another reader says what is wrong.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    first: list[pa.DataType] | None = None
    for path in paths:
        try:
            schema = pq.read_schema(path)
        except (OSError, pa.ArrowException):
            return False
        if not set(columns) <= set(schema.names):
            return False
        types = [schema.field(name).type for name in columns]
        if first is None:
            first = types
        if types != first or not all(map(_is_plain, types)):
            return False
    return first is not None


def _is_plain(type_: pa.DataType) -> bool:
    from pyarrow import types

    whole = types.is_signed_integer(type_) or types.is_uint8(type_) or types.is_uint16(type_)
    number = whole or types.is_float32(type_) or types.is_float64(type_)
    return bool(number or types.is_string(type_) or types.is_large_string(type_))


def arrow_batches(paths: Sequence[str], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of Parquet files in batches of 131,072 at most.

    Args:
        paths: local files.
        columns: `plain_columns` of them; text comes out as dictionary arrays.

    Raises:
        OSError: a file is damaged or gone.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in paths:
        try:
            types = pq.read_schema(path)
            texts = [n for n in columns if not pa.types.is_primitive(types.field(n).type)]
            with pq.ParquetFile(
                path, read_dictionary=texts, pre_buffer=False, buffer_size=_BUFFER_BYTES
            ) as file:
                for group in range(file.num_row_groups):
                    yield from file.iter_batches(
                        _BATCH_ROWS, [group], columns=list(columns), use_threads=False
                    )
        except pa.ArrowException as error:
            raise OSError(f"{path}: {error}") from error
