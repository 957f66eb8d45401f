"""From accepted requests to one table of span records: dedupe, normalise, mark, once a row group.

Spans and calls are compared with those of a window before them, so the state moves
forward with the files: it is filled from the newest files at the start and after a
failure (`reset`), and from every row group on its way to a file.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pyflare_proto.otlp.batch import OtlpBatch

if TYPE_CHECKING:
    from pyflare_storage.dataset import DataDirectory
    from pyflare_storage.prices import PriceBook

__all__ = ["Accepted", "Transform", "Transformed", "batch_bytes"]

_logger = logging.getLogger("pyflare.pipeline")

_SEED_SPANS = 1_000_000
"""Spans of the newest files whose keys are read at the start."""

_SEED_CALL_ROWS = 65_536
"""Rows of the newest file that are read for calls told twice."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """One request that is in the log, or the part of it that is kept."""

    segment: int
    """Number of the log segment that holds it."""
    batch: OtlpBatch
    """Its kept spans, all with valid ids."""
    probability: NDArray[np.float64]
    """(n,) probability with which each span was kept."""
    size_bytes: int
    """Memory that the batch occupies."""

    def __len__(self) -> int:
        """Return the number of spans."""
        return len(self.batch)


@dataclass(frozen=True, slots=True)
class Transformed:
    """A row group and what was left out of it."""

    table: pa.Table
    deduplicated: int
    """Spans that had been seen before."""


def batch_bytes(batch: OtlpBatch) -> int:
    """Return about how many bytes a decoded batch occupies: its buffer and its arrays.

    The arrays are counted by their row widths: 49 bytes an attribute, 16 an event or a
    link, 140 a span.
    """
    attributes = (
        len(batch.attributes.owner)
        + len(batch.resource_attributes.owner)
        + len(batch.scope_attributes.owner)
    )
    messages = len(batch.events.owner) + len(batch.links.owner)
    return int(batch.buffer.nbytes) + 49 * attributes + 16 * messages + 140 * len(batch)


class Transform:
    """Turns accepted requests into tables of the span record.

    Memory: the windows of recent spans (under 150 MB when full) and of recent calls.

    Args:
        data: where published files are found.
        prices: what calls are priced with.
    """

    def __init__(self, data: DataDirectory, prices: PriceBook) -> None:
        self._data = data
        self._prices = prices
        self._new_windows()

    def _new_windows(self) -> None:
        from pyflare_collector.calls import RecentCalls, RecentSpans

        self._spans = RecentSpans()
        self._calls = RecentCalls()

    def __call__(self, items: Sequence[Accepted]) -> Transformed:
        """Return one row group of all items, without the spans seen before."""
        from pyflare_collector.normalize import normalize
        from pyflare_proto.otlp.decode import concat, select

        batch = concat([item.batch for item in items])
        probability = np.concatenate([item.probability for item in items])
        first = self._spans.first_seen(batch.trace_id, batch.span_id)
        repeated = len(batch) - int(first.sum())
        if repeated:
            batch, probability = select(batch, first), probability[first]
        table = normalize(batch, self._prices, sampling_probability=probability)
        table = self._calls.apply(table, distinct=True)
        self._spans.add(batch.trace_id, batch.span_id)
        return Transformed(table, repeated)

    def reset(self) -> None:
        """Forget everything and read the newest published files again.

        At most 1,000,000 spans, newest files first: a client that has not been answered
        repeats its request within seconds. A file that cannot be read is passed over.
        """
        self._new_windows()
        wanted = _SEED_SPANS
        newest = True
        with self._data.snapshot() as listed:  # compaction deletes none of them meanwhile
            for file in sorted(listed, key=lambda file: file.sequence or 0, reverse=True):
                if wanted <= 0:
                    return
                if file.writer is None:
                    continue
                try:
                    wanted -= self._seed(file.path, newest=newest)
                except (OSError, pa.ArrowException, ValueError) as error:
                    _logger.warning("cannot read %s for duplicates: %s", file.name, error)
                newest = False

    def _seed(self, path: object, *, newest: bool) -> int:
        import pyarrow.parquet as pq

        file = pq.ParquetFile(path)
        keys = file.read(columns=["trace_id", "span_id"])
        self._spans.add(_hex_bytes(keys["trace_id"], 16), _hex_bytes(keys["span_id"], 8))
        if newest:
            self._calls.apply(_last_rows(file))
        return int(keys.num_rows)


def _last_rows(file: object) -> pa.Table:
    """Return the last row groups of a file, about `_SEED_CALL_ROWS` rows."""
    import pyarrow.parquet as pq

    if not isinstance(file, pq.ParquetFile):
        raise TypeError(type(file).__name__)
    groups: list[int] = []
    rows = 0
    for group in reversed(range(file.num_row_groups)):
        groups.insert(0, group)
        rows += file.metadata.row_group(group).num_rows
        if rows >= _SEED_CALL_ROWS:
            break
    return file.read_row_groups(groups)


_NIBBLES = np.full(256, 0, dtype=np.uint8)
_NIBBLES[np.frombuffer(b"0123456789abcdef", dtype=np.uint8)] = np.arange(16, dtype=np.uint8)


def _hex_bytes(column: pa.ChunkedArray, width: int) -> NDArray[np.uint8]:
    """Return ids of `2 * width` hexadecimal digits as (n, width) bytes.

    Raises:
        ValueError: an id has another length.
    """
    array = column.combine_chunks().cast(pa.string())
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    _, offsets, values = array.buffers()
    ends = np.frombuffer(offsets, dtype=np.int32)[array.offset : array.offset + len(array) + 1]
    digits = np.frombuffer(values, dtype=np.uint8)[ends[0] : ends[-1]]
    if len(digits) != 2 * width * len(array):
        raise ValueError(f"an id that has not {2 * width} digits")
    nibbles = _NIBBLES[digits].reshape(-1, width, 2)
    return (nibbles[:, :, 0] << 4 | nibbles[:, :, 1]).astype(np.uint8)
