"""From the requests of a log segment to its published file: once, whenever the process dies.

`Segments` has no thread and no queue; `pyflare_collector.writer.SpanWriter` drives it.

A span is written exactly once:

1. Before the log record is whole: the client has no answer; the torn record is passed
   over at the next start.
2. After the record is durable and before the answer, or before the file: the segment has
   no file, so it is replayed. The client's retry is a duplicate in the window of recent
   spans, in whichever segment it lands.
3. While the file is written: it has a temporary name, which the next start deletes; the
   segment is replayed.
4. After the rename, which is durable before anything is deleted, and before the segment is
   removed: the next start finds a file with the segment's number and only deletes the
   segment. Compaction leaves such a file alone while its segment exists.
5. During the replay: it goes through the same steps, so it is case 3 or 4 again.
6. A segment whose spans were all duplicates has no file; removing the segment is its
   commit. Replayed again, its spans are duplicates again: the window is filled from the
   newest files first.

A request that cannot be turned into a table, or a damaged record, does not hold up the
others: what is intact is published and the segment is kept beside the log as
`<seq>.wal.damaged`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pyflare_collector.counters import Counters
from pyflare_collector.log import Log
from pyflare_collector.segment_file import TEMPORARY_SUFFIX, WRITER, Compression, SegmentFile
from pyflare_collector.wal_format import Damage, Record
from pyflare_proto.errors import InvalidDataError, StorageError
from pyflare_storage.span_files import sync_folder

if TYPE_CHECKING:
    from pyflare_collector.transform import Accepted, Transformed
    from pyflare_storage.dataset import DataDirectory

__all__ = ["ROW_GROUP_BYTES", "ROW_GROUP_SPANS", "Segments", "Transformer"]

_logger = logging.getLogger("pyflare.writer")

ROW_GROUP_SPANS = 32_768
"""Spans of a row group: enough to make the cost of a NumPy call small."""

ROW_GROUP_BYTES = 48 * 1024 * 1024
"""Decoded bytes of a row group; long texts make smaller groups."""


class Transformer(Protocol):
    """Makes a table of requests; see `pyflare_collector.transform.Transform`."""

    def __call__(self, items: Sequence[Accepted], /) -> Transformed:
        """Return the row group of all items; remembers them only when it succeeds."""

    def reset(self) -> None:
        """Forget the windows and fill them from the published files."""


@dataclass(slots=True)
class _Segment:
    """A segment that has no file yet."""

    file: SegmentFile
    written: int = 0
    """Spans in the file."""
    deduplicated: int = 0
    """Spans left out because they had been seen before."""
    dropped: int = 0
    """Spans that could not be turned into a table."""
    damaged: bool = False
    """Something of it could not be read or turned into a table."""


class Segments:
    """The segments between the log and their published files; used by one thread at a time.

    Args:
        data: the data directory; it exists, and this process holds its lock.
        log: the log that the requests are in.
        transform: makes tables of requests.
        restore: makes a request of a log record and its segment's number.
        compression: codec of the files.
        counters: where written, deduplicated, recovered and dropped spans are counted.
        row_group_spans: spans of a row group in a replay.
        row_group_bytes: decoded bytes of a row group in a replay.
    """

    def __init__(
        self,
        data: DataDirectory,
        log: Log,
        transform: Transformer,
        restore: Callable[[Record, int], Accepted],
        *,
        compression: Compression = "zstd",
        counters: Counters,
        row_group_spans: int = ROW_GROUP_SPANS,
        row_group_bytes: int = ROW_GROUP_BYTES,
    ) -> None:
        self.counters = counters
        self.row_group_spans = row_group_spans
        self.row_group_bytes = row_group_bytes
        self._data = data
        self._log = log
        self._transform = transform
        self._restore = restore
        self._compression: Compression = compression
        self._unfinished: dict[int, _Segment] = {}

    def recover(self) -> None:
        """Delete unfinished files of earlier runs and bring their segments into files.

        Raises:
            StorageError: a file cannot be written.
        """
        for path in self._data.temporary.glob(f"*{TEMPORARY_SUFFIX}"):
            path.unlink(missing_ok=True)
        self.replay("recovered")

    def unfinished(self) -> list[int]:
        """Return the segments that have row groups and no file yet, oldest first."""
        return sorted(self._unfinished)

    def unfinished_spans(self) -> int:
        """Return the spans in files that are not published yet."""
        return sum(segment.written for segment in self._unfinished.values())

    def write(self, seq: int, items: Sequence[Accepted]) -> None:
        """Append the items to the file of segment `seq` as one row group.

        Raises:
            StorageError: the file cannot be written; call `abandon`, and `replay` later.
        """
        if seq not in self._unfinished:
            self._unfinished[seq] = self._new(seq)
        self._append(self._unfinished[seq], items)

    def publish(self, seq: int) -> None:
        """Put the segment's file in place, then let go of the segment.

        Raises:
            StorageError: the file cannot be written; call `abandon`, and `replay` later.
        """
        if seq in self._unfinished:
            self._finish(self._unfinished[seq])
            del self._unfinished[seq]
        else:
            self._log.remove(seq)

    def abandon(self) -> None:
        """Delete all unfinished files."""
        for segment in self._unfinished.values():
            segment.file.abandon()
        self._unfinished.clear()

    def replay(self, counter: str) -> None:
        """Make files of the log's segments that have none, and remove those that have one.

        Args:
            counter: where the replayed spans are counted.

        Raises:
            StorageError: a file cannot be written; segments that are done stay done.
        """
        segments = self._log.unpublished()
        present = [seq for seq in segments if self._has_file(seq)]
        if present:
            self._sync_spans()
        for seq in present:
            self._log.remove(seq)
        self._transform.reset()
        for seq in segments:
            if seq not in present:
                self._replay(seq, counter)

    def _new(self, seq: int) -> _Segment:
        return _Segment(SegmentFile(self._data, seq, self._compression))

    def _append(self, segment: _Segment, items: Sequence[Accepted]) -> None:
        try:
            result = self._transform(items)
            table = segment.file.fit(result.table)
        except (StorageError, MemoryError):
            raise
        except Exception:
            if len(items) == 1:
                _logger.exception("cannot normalise a request of %d spans", len(items[0]))
                segment.dropped += len(items[0])
                segment.damaged = True
                return
            for item in items:
                self._append(segment, [item])
            return
        segment.file.write(table)
        segment.written += table.num_rows
        segment.deduplicated += result.deduplicated
        self.counters.add("row_groups", 1)

    def _finish(self, segment: _Segment) -> None:
        published = segment.file.publish() is not None
        self.counters.add("files", int(published))
        self.counters.add("written", segment.written)
        self.counters.add("deduplicated", segment.deduplicated)
        self.counters.add("dropped", segment.dropped, "defect")
        if not segment.damaged:
            self._log.remove(segment.file.seq)
            return
        path = self._log.set_aside(segment.file.seq)
        if path is not None:
            _logger.warning("kept the damaged log segment as %s", path)

    def _has_file(self, seq: int) -> bool:
        return any(self._data.spans.glob(f"spans-*-{WRITER}-{seq:016d}.parquet"))

    def _sync_spans(self) -> None:
        """Make sure that the files' names are durable before their segments go."""
        try:
            sync_folder(self._data.spans)
        except OSError as error:
            raise StorageError(f"cannot sync {self._data.spans}: {error.strerror}") from error

    def _replay(self, seq: int, counter: str) -> None:
        damage = Damage()
        segment = self._new(seq)
        try:
            for items in self._gather(seq, damage, segment):
                self._append(segment, items)
            segment.damaged = segment.damaged or damage.records > 0
            self._finish(segment)
        except BaseException:
            segment.file.abandon()
            raise
        self.counters.add(counter, segment.written + segment.deduplicated + segment.dropped)
        self.counters.add("damaged_records", damage.records)
        self.counters.add("torn_bytes", damage.torn_bytes)
        _logger.info("replayed log segment %d: %d spans", seq, segment.written)

    def _gather(self, seq: int, damage: Damage, segment: _Segment) -> Iterator[list[Accepted]]:
        """Yield the requests of a segment, a row group at a time."""
        items: list[Accepted] = []
        spans = size = 0
        for record in self._log.read(seq, damage):
            try:
                item = self._restore(record, seq)
            except InvalidDataError as error:
                _logger.warning("a record of log segment %d: %s", seq, error.message)
                self.counters.add("damaged_records", 1)
                segment.damaged = True
                continue
            items.append(item)
            spans += len(item)
            size += item.size_bytes
            if spans >= self.row_group_spans or size >= self.row_group_bytes:
                yield items
                items, spans, size = [], 0, 0
        if items:
            yield items
