"""The write-ahead log: what is acknowledged is on the disk before the client is answered.

Requests wait in a queue; one committer thread takes all that wait, writes them with
`writev` and makes them durable with one `fdatasync` for the whole group. The group
grows by itself while a sync is under way, so the cost of a sync is shared by as many
requests as arrive meanwhile.

The log is a folder of segments `<seq>.wal`. The newest is appended to; `roll` seals
it. A sealed segment is removed once the Parquet file made of it is in place. `seq`
is the time of creation in microseconds since 1970 (16 digits), moved up where needed
to be above every number used before, so that it is never used twice.

When a write or a sync fails, every request of the group gets a `StorageError`, the
segment is cut back to its durable end and sealed, and the next group starts a new
segment: a descriptor whose sync has failed is not trusted again. What was
acknowledged before is not touched.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pyflare_collector.config import Durability
from pyflare_collector.log import Log, LogStatistics, OpenSegment, VolatileLog
from pyflare_collector.wal_format import (
    RECORD_HEADER_BYTES,
    Damage,
    Record,
    encode_record_header,
    encode_segment_header,
    read_segment,
)
from pyflare_proto.errors import RetryableError, StorageError

__all__ = ["WriteAheadLog", "open_log", "segment_path"]

_logger = logging.getLogger("pyflare.wal")

_SUFFIX = ".wal"
_VECTORS_PER_WRITE = 1020
"""Buffers in one `writev`, below the 1024 that POSIX systems take."""


def segment_path(directory: Path, seq: int) -> Path:
    """Return the path of segment `seq` in the log's folder."""
    return directory / f"{seq:016d}{_SUFFIX}"


@dataclass(slots=True)
class _Ticket:
    """One request on its way to the disk."""

    buffers: tuple[bytes, bytes, bytes]
    size: int
    done: threading.Event = field(default_factory=threading.Event)
    seq: int = 0
    error: StorageError | None = None


@dataclass(slots=True)
class _Segment:
    """The segment that is appended to."""

    seq: int
    path: Path
    descriptor: int
    opened_at: float
    last_append_at: float
    size: int = 0
    records: int = 0


class WriteAheadLog:
    """A log in a folder, with group commit.

    Args:
        directory: folder of the segments; created with mode 0700.
        sync: True makes a record durable with `fdatasync` before `append` returns;
            False hands it to the operating system: it survives a crash of the
            process, not of the machine.
        max_group_bytes: bytes written before one sync, at most, apart from the first record.
        clock: monotonic seconds.
        wall_clock_ns: nanoseconds since 1970.
        salt: start of all checksums (u32); random when None.
    """

    durable = True

    def __init__(
        self,
        directory: Path,
        *,
        sync: bool = True,
        max_group_bytes: int = 64 * 1024 * 1024,
        clock: Callable[[], float] = time.monotonic,
        wall_clock_ns: Callable[[], int] = time.time_ns,
        salt: int | None = None,
    ) -> None:
        self.directory = directory
        self.statistics = LogStatistics()
        self._sync = sync
        self._max_group_bytes = max_group_bytes
        self._clock = clock
        self._wall_clock_ns = wall_clock_ns
        self._salt = random.SystemRandom().getrandbits(32) if salt is None else salt
        self._arrived = threading.Condition()
        self._waiting: deque[_Ticket] = deque()
        self._running = False
        self._thread: threading.Thread | None = None
        self._state = threading.RLock()
        self._segment: _Segment | None = None
        self._sealed: dict[int, int] = {}
        self._sizes: dict[int, int] = {}
        self._total_bytes = 0
        self._last_seq = 0

    def start(self, *, above: int = 0) -> None:
        """Create the folder, list the segments of earlier runs, start the committer.

        Args:
            above: greatest segment number known from elsewhere (published files).

        Raises:
            StorageError: the folder cannot be created or read.
        """
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path in self.directory.glob(f"*{_SUFFIX}"):
                if path.stem.isdigit():
                    self._sizes[int(path.stem)] = path.stat().st_size
        except OSError as error:
            raise _storage_error(self.directory, error) from error
        # A folder that has just been made must outlive a power cut with what is in it.
        for folder in (self.directory.parent, self.directory.parent.parent):
            with contextlib.suppress(OSError):
                self._sync_directory(folder)
        self._total_bytes = sum(self._sizes.values())
        self._last_seq = max([above, *self._sizes])
        self._running = True
        self._thread = threading.Thread(target=self._run, name="pyflare-wal", daemon=True)
        self._thread.start()

    def append(self, note: bytes, payload: bytes) -> int:
        """Return the segment's number once the record is durable; thread-safe, blocks.

        Raises:
            StorageError: the disk took nothing of it; it may later.
            RetryableError: the log is not running.
        """
        header = encode_record_header(self._salt, note, payload)
        ticket = _Ticket((header, note, payload), RECORD_HEADER_BYTES + len(note) + len(payload))
        with self._arrived:
            if not self._running:
                raise RetryableError("the collector is shutting down")
            self._waiting.append(ticket)
            self._arrived.notify()
        ticket.done.wait()
        if ticket.error is not None:
            raise ticket.error
        return ticket.seq

    def roll(self) -> None:
        """Seal the open segment; the next record starts a new one."""
        with self._state:
            if self._segment is not None:
                self._seal(self._segment)

    def open_segment(self) -> OpenSegment | None:
        """Return the segment that is appended to, None when there is none with records."""
        with self._state:
            segment = self._segment
            if segment is None or segment.records == 0:
                return None
            return OpenSegment(
                segment.seq,
                segment.records,
                segment.size,
                segment.opened_at,
                segment.last_append_at,
            )

    def sealed_records(self, seq: int) -> int | None:
        """Return how many records of this run the sealed segment holds, None while it is open."""
        with self._state:
            return self._sealed.get(seq)

    def unpublished(self) -> list[int]:
        """Return the numbers of the segments that are kept and not appended to, oldest first."""
        with self._state:
            own = self._segment.seq if self._segment is not None else None
            return sorted(seq for seq in self._sizes if seq != own)

    def read(self, seq: int, damage: Damage) -> Iterator[Record]:
        """Yield the intact records of a segment in order.

        Raises:
            StorageError: the segment cannot be read.
        """
        path = segment_path(self.directory, seq)
        try:
            yield from read_segment(path, damage)
        except OSError as error:
            raise _storage_error(path, error) from error

    def remove(self, seq: int) -> None:
        """Delete a segment whose spans are in place, and make the deletion durable.

        A segment that cannot be deleted is left: the next start sees that its file
        exists and deletes it then.
        """
        self._forget(seq, lambda path: path.unlink(missing_ok=True))

    def set_aside(self, seq: int) -> Path:
        """Rename a damaged segment to `<seq>.wal.damaged`, where nothing replays it."""
        target = segment_path(self.directory, seq).with_suffix(f"{_SUFFIX}.damaged")
        self._forget(seq, lambda path: path.rename(target))
        return target

    def _forget(self, seq: int, dispose: Callable[[Path], object]) -> None:
        path = segment_path(self.directory, seq)
        with self._state:
            if self._segment is not None and self._segment.seq == seq:
                self._seal(self._segment)
            self._sealed.pop(seq, None)
            self._total_bytes -= self._sizes.pop(seq, 0)
        try:
            dispose(path)
            self._sync_directory()
        except OSError as error:
            _logger.warning("cannot remove log segment %s: %s", path.name, error.strerror)

    def size_bytes(self) -> int:
        """Return the bytes of all segments that are kept; never waits for a sync."""
        return self._total_bytes

    def shutdown(self, timeout_s: float = 30.0) -> None:
        """Commit what waits, seal the open segment, stop the committer. May be called twice."""
        with self._arrived:
            self._running = False
            self._arrived.notify_all()
        if self._thread is not None:
            self._thread.join(timeout_s)
        self.roll()

    def _run(self) -> None:
        while True:
            with self._arrived:
                while not self._waiting and self._running:
                    self._arrived.wait()
                if not self._waiting:
                    return
                group = self._take_group()
            self._commit(group)

    def _take_group(self) -> list[_Ticket]:
        group = [self._waiting.popleft()]
        size = group[0].size
        while self._waiting and size + self._waiting[0].size <= self._max_group_bytes:
            size += self._waiting[0].size
            group.append(self._waiting.popleft())
        return group

    def _commit(self, group: list[_Ticket]) -> None:
        error: StorageError | None = None
        with self._state:
            try:
                self._write(group)
            except OSError as cause:
                error = _storage_error(self.directory, cause)
                error.__cause__ = cause
                self.statistics.failed_commits += 1
                self._cut_back()
            except Exception as cause:
                _logger.exception("the log failed")
                error = StorageError(f"cannot write the log: {cause!r}")
                self._cut_back()
        for ticket in group:
            ticket.error = error
            ticket.done.set()

    def _write(self, group: list[_Ticket]) -> None:
        segment = self._segment
        if segment is None:
            segment = self._create()
        size = sum(ticket.size for ticket in group)
        buffers = [part for ticket in group for part in ticket.buffers if part]
        _write_all(segment.descriptor, buffers)
        if self._sync:
            _fdatasync(segment.descriptor)
            self.statistics.fsyncs += 1
        segment.size += size
        self._total_bytes += size
        segment.records += len(group)
        segment.last_append_at = self._clock()
        self._sizes[segment.seq] = segment.size
        self.statistics.commits += 1
        self.statistics.records += len(group)
        self.statistics.written_bytes += size
        for ticket in group:
            ticket.seq = segment.seq

    def _create(self) -> _Segment:
        seq = max(self._wall_clock_ns() // 1000, self._last_seq + 1)
        path = segment_path(self.directory, seq)
        header = encode_segment_header(self._salt)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _write_all(descriptor, [header])
            self._sync_directory()
        except BaseException:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            raise
        now = self._clock()
        self._last_seq = seq
        self._segment = _Segment(seq, path, descriptor, now, now, size=len(header))
        self._sizes[seq] = len(header)
        self._total_bytes += len(header)
        return self._segment

    def _cut_back(self) -> None:
        """After a failed write: leave the segment with exactly what was acknowledged."""
        segment = self._segment
        if segment is None:
            return
        try:
            os.ftruncate(segment.descriptor, segment.size)
        except OSError as error:
            # The tail stays unacknowledged. A replay may bring it back, and the client's
            # own retry is then recognised as a duplicate.
            _logger.warning("cannot cut %s back: %s", segment.path.name, error.strerror)
        self._seal(segment)

    def _seal(self, segment: _Segment) -> None:
        self._segment = None
        with contextlib.suppress(OSError):
            os.close(segment.descriptor)
        if segment.records:
            self._sealed[segment.seq] = segment.records
        else:
            self._total_bytes -= self._sizes.pop(segment.seq, 0)
            with contextlib.suppress(OSError):
                segment.path.unlink(missing_ok=True)

    def _sync_directory(self, folder: Path | None = None) -> None:
        if not self._sync:
            return
        descriptor = os.open(folder or self.directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write_all(descriptor: int, buffers: Sequence[bytes]) -> None:
    for start in range(0, len(buffers), _VECTORS_PER_WRITE):
        rest: list[bytes | memoryview] = list(buffers[start : start + _VECTORS_PER_WRITE])
        while rest:
            written = os.writev(descriptor, rest)
            position = 0
            while position < len(rest) and written >= len(rest[position]):
                written -= len(rest[position])
                position += 1
            rest = rest[position:]
            if rest and written:
                rest[0] = memoryview(rest[0])[written:]


_fdatasync: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)
"""Syncs data and size; systems without it sync the times too."""


def _storage_error(path: Path, error: OSError) -> StorageError:
    reason = error.strerror or str(error)
    return StorageError(
        f"cannot write to {path}: {reason}",
        hint="free space on the disk or choose another folder: pyflare collect --data DIR",
    )


def open_log(
    directory: Path,
    durability: Durability,
    *,
    clock: Callable[[], float] = time.monotonic,
    wall_clock_ns: Callable[[], int] = time.time_ns,
) -> Log:
    """Return the log that `durability` asks for; it is not started yet."""
    if durability == "none":
        return VolatileLog(clock=clock, wall_clock_ns=wall_clock_ns)
    return WriteAheadLog(
        directory, sync=durability == "fsync", clock=clock, wall_clock_ns=wall_clock_ns
    )
