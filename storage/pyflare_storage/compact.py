"""Compaction: few large span files of many small ones, while others read and write.

What makes it safe for readers is said in `span_files`. For the collector: the file of a log
segment that still exists is left alone, because after a crash the collector tells by that
file whether the segment has been written. The new file carries the largest sequence of
those it replaces, so `DataDirectory.max_sequence` never falls.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from pyflare_proto.errors import RetryableError, StorageError
from pyflare_storage import span_files
from pyflare_storage.dataset import DataDirectory
from pyflare_storage.span_files import SpanFile

__all__ = ["CompactReport", "compact"]

_log = logging.getLogger("pyflare.storage")

_DAY_NS = 86_400_000_000_000
_COLLECTOR = "collect"
_WRITER = "compact"
_SUFFIX = ".compact.tmp"
_POLL_S = 0.05


@dataclass(slots=True)
class CompactReport:
    """What a compaction did."""

    files_before: int = 0
    """Files that counted before."""
    files_after: int = 0
    """Files that count now."""
    files_merged: int = 0
    """Files that others took the place of."""
    files_written: int = 0
    """New files."""
    files_in_use: int = 0
    """Files left alone because the collector has not let go of their log segment yet."""
    files_to_delete: int = 0
    """Replaced files that readers held; no one reads them anew, the next run deletes them."""
    spans: int = 0
    """Spans in the new files."""
    duplicates_removed: int = 0
    """Rows that told a span of the same file group again."""
    bytes_before: int = 0
    """Size of the merged files."""
    bytes_after: int = 0
    """Size of the new files."""


def compact(
    data: DataDirectory,
    *,
    target_mib: float = 256,
    wait_s: float = 5.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> CompactReport:
    """Merge the small files of each UTC day into files of about `target_mib`, sorted by time.

    Only files that PyFlare wrote are merged; other Parquet files in the folder stay.
    Running it again changes nothing.

    Args:
        data: the data directory.
        target_mib: size of the merged files, greater than 0; files of half of it stay.
        wait_s: how long to wait for readers before replaced files are left to the next run.
        clock: monotonic seconds.
        sleep: waits.

    Raises:
        NotFoundError: there are no spans.
        RetryableError: another compaction is running.
        InvalidDataError: a file is damaged; nothing of its group has changed.
        StorageError: the disk takes no data.

    Memory: one slice of rows (about 64 MiB in Parquet), and 24 bytes a span of one file.
    """
    data.list_files()  # raises where there is nothing
    data.create()
    report = CompactReport()
    with _alone(data):
        data.remove_stale_temporaries()
        for unfinished in data.temporary.glob(f"*{_SUFFIX}"):
            unfinished.unlink(missing_ok=True)  # of a run that died: this one is alone
        _retire(data, 0.0, clock, sleep)
        current = data.list_files()
        report.files_before = len(current)
        for group in _groups(_free(data, current, report), target_mib * 1024 * 1024):
            _replace(data, group, report)
        report.files_to_delete = _retire(data, wait_s, clock, sleep)
        report.files_after = len(data.list_files())
    return report


@contextlib.contextmanager
def _alone(data: DataDirectory) -> Iterator[None]:
    """Hold the lock of the one compaction."""
    try:
        file = data.compaction_lock_file.open("ab")
    except OSError as error:
        raise StorageError(f"cannot open {data.compaction_lock_file}: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RetryableError(
                f"another compaction of {data.path} is running", hint="wait until it ends"
            ) from error
        except OSError as error:  # no locks here (some network file systems)
            _log.warning("cannot lock %s: %s", data.compaction_lock_file, error.strerror)
        yield


def _free(data: DataDirectory, files: Iterable[SpanFile], report: CompactReport) -> list[SpanFile]:
    """Return our files that the collector has let go of."""
    # A deletion that is not durable yet could bring a segment back after its file has gone.
    span_files.sync_folder(data.wal)
    free: list[SpanFile] = []
    for file in files:
        if file.writer is None:
            continue
        if file.writer == _COLLECTOR and (data.wal / f"{file.sequence:016d}.wal").exists():
            report.files_in_use += 1
            continue
        free.append(file)
    return free


def _groups(files: Sequence[SpanFile], target_bytes: float) -> Iterator[list[SpanFile]]:
    """Yield files to merge: neighbours in time, of one day, together not above the target."""
    days: dict[int, list[SpanFile]] = {}
    for file in files:
        if file.first_start_ns is not None and _size(file) < target_bytes / 2:
            days.setdefault(file.first_start_ns // _DAY_NS, []).append(file)
    for day in sorted(days):
        group: list[SpanFile] = []
        total = 0
        for file in sorted(days[day]):
            if group and total + _size(file) > target_bytes:
                if len(group) > 1:
                    yield group
                group, total = [], 0
            group.append(file)
            total += _size(file)
        if len(group) > 1:
            yield group


def _size(file: SpanFile) -> int:
    return file.path.stat().st_size


def _replace(data: DataDirectory, group: Sequence[SpanFile], report: CompactReport) -> None:
    from pyflare_storage.merge import merge

    files = sorted(group, key=lambda file: (file.sequence or 0, file.name))
    temporary = data.temporary_path(_SUFFIX)
    try:
        merged = merge(files, temporary)
        if merged is None:
            return
        sequence = max(file.sequence or 0 for file in files)
        name = _free_name(data, merged.first_start_ns, merged.last_start_ns, sequence)
        size = temporary.stat().st_size
        span_files.write_record(data.records, name, (file.name for file in files))
        data.publish(temporary, data.spans / name)
    finally:
        temporary.unlink(missing_ok=True)
    report.files_merged += len(files)
    report.files_written += 1
    report.spans += merged.rows
    report.duplicates_removed += merged.duplicates
    report.bytes_before += sum(_size(file) for file in files)
    report.bytes_after += size
    _log.info("merged %d files into %s: %d spans", len(files), name, merged.rows)


def _free_name(data: DataDirectory, first_ns: int, last_ns: int, sequence: int) -> str:
    """Return a name that neither a file nor a record bears.

    A replaced file's name must not come back while a record says that it is replaced.
    """
    records = span_files.read_records(data.records)
    taken = {*records, *(name for names in records.values() for name in names)}
    for generation in count():
        writer = f"{_WRITER}{generation or ''}"
        name = data.file_name(first_ns, last_ns, writer, sequence)
        if name not in taken and not (data.spans / name).exists():
            return name
    raise AssertionError  # pragma: no cover  # count() does not end


def _retire(
    data: DataDirectory,
    wait_s: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> int:
    """Delete replaced files and void records; return how many files readers still hold."""
    deadline = clock() + wait_s
    while True:
        with span_files.exclusive(data.spans) as alone:
            records = span_files.read_records(data.records)
            present = frozenset(path.name for path in data.spans.glob("*.parquet"))
            gone = span_files.replaced_names(present, records) & present
            if alone or not gone:
                _delete(data, gone)
                _forget(data, records, present - gone)
                return 0
        if clock() >= deadline:
            return len(gone)
        sleep(_POLL_S)


def _delete(data: DataDirectory, names: Iterable[str]) -> None:
    deleted = False
    try:
        for name in names:
            (data.spans / name).unlink(missing_ok=True)
            deleted = True
        if deleted:
            span_files.sync_folder(data.spans)
    except OSError as error:
        raise StorageError(f"cannot delete in {data.spans}: {error.strerror}") from error


def _forget(data: DataDirectory, names: Iterable[str], present: frozenset[str]) -> None:
    """Delete the records of files that are not there.

    Either the file never came, or it has itself been replaced and deleted; what present files
    replace has been deleted by now, so nothing hangs on such a record. The others stay:
    by its record a reader that follows the folder tells a merged file from a new one.
    """
    for name in names:
        if name not in present:
            (data.records / f"{name}.json").unlink(missing_ok=True)
