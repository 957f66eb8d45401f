"""Span files: their names, how one becomes visible, and which of them count.

Names
    `spans-<first>-<last>-<writer>-<sequence>.parquet`, where `first` and `last` are the
    smallest and largest `start_time` inside, in UTC with nanoseconds
    (`20261123T030405.123456789Z`). The fixed width makes names sort by time. Other
    `*.parquet` files in the folder are read too; their names just say nothing about time.

Visibility
    A file is written under a name in `tmp/`, beside the folder and on the same file
    system, and enters the folder by one rename: a reader sees it whole or not at all.

Replacement
    Compaction makes one new file of several old ones. Before the new file is renamed
    into place, a record `compaction/<new name>.json` that names the old ones is on
    the disk. `current_files` passes over a file that a present file's record names.
    A crash leaves one of these states, each of which reads right:

    1. before the record, or between record and rename: the new file is not in the
       folder, its record is void, the old files count;
    2. after the rename: the new file is there with its record, the old files are
       passed over, however many of them have been deleted;
    3. after the last deletion: the record names files that do not exist.

    A directory listing is not atomic, but every mix of it is right: a listing that
    misses the new file holds all old ones, because these are deleted only later.
    What a reader has listed stays on the disk while it reads: it holds a shared lock
    on the folder (`reading`), and the old files are deleted under an exclusive one.
    A reader that takes no lock (another program's `spans/*.parquet`) sees, between the
    rename and the last deletion, the rows of both; one that listed before and opens
    after the deletion gets "file not found", never a silent loss.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pyflare_proto.errors import StorageError

__all__ = [
    "RECORD_FOLDER",
    "TEMPORARY_FOLDER",
    "SpanFile",
    "compact_stamp",
    "current_files",
    "exclusive",
    "parse_name",
    "publish",
    "read_records",
    "reading",
    "replaced_names",
    "span_file_name",
    "sync_folder",
    "write_record",
]

_log = logging.getLogger("pyflare.storage")

TEMPORARY_FOLDER = "tmp"
"""Folder beside the span folder where unfinished files stand."""

RECORD_FOLDER = "compaction"
"""Folder beside the span folder where the records of replacements stand."""

_NANOSECONDS = 1_000_000_000
_STAMP = r"\d{8}T\d{6}\.\d{9}Z"
_NAME = re.compile(
    rf"spans-(?P<first>{_STAMP})-(?P<last>{_STAMP})-(?P<writer>[A-Za-z0-9_]+)"
    r"-(?P<sequence>\d+)\.parquet"
)


@dataclass(frozen=True, slots=True, order=True)
class SpanFile:
    """One Parquet file of spans."""

    name: str
    """File name inside the span folder."""
    path: Path
    """Where it is."""
    first_start_ns: int | None = None
    """Smallest start time inside, ns since 1970; None when the name does not tell."""
    last_start_ns: int | None = None
    """Largest start time inside, ns since 1970; None when the name does not tell."""
    writer: str | None = None
    """Who wrote it; None when the name does not tell."""
    sequence: int | None = None
    """The writer's number, for the collector that of its log segment."""

    def may_hold(self, since_ns: int | None, until_ns: int | None) -> bool:
        """Return whether a span that starts in [since_ns, until_ns) can be inside."""
        if self.first_start_ns is None or self.last_start_ns is None:
            return True
        return (since_ns is None or self.last_start_ns >= since_ns) and (
            until_ns is None or self.first_start_ns < until_ns
        )


def compact_stamp(time_ns: int) -> str:
    """Return nanoseconds since 1970 as `20261123T030405.123456789Z`."""
    seconds, nanoseconds = divmod(time_ns, _NANOSECONDS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y%m%dT%H%M%S}.{nanoseconds:09d}Z"


def _parse_stamp(stamp: str) -> int:
    whole = datetime.strptime(stamp[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    return int(whole.timestamp()) * _NANOSECONDS + int(stamp[16:25])


def span_file_name(first_start_ns: int, last_start_ns: int, writer: str, sequence: int) -> str:
    """Return the name of a span file.

    Args:
        first_start_ns: smallest start time inside, nanoseconds since 1970.
        last_start_ns: largest start time inside, nanoseconds since 1970.
        writer: letters, digits and `_`.
        sequence: the writer's number, 0 or more.

    Raises:
        ValueError: the writer's name has other characters, or first is after last.
    """
    if first_start_ns > last_start_ns:
        raise ValueError(f"first start time {first_start_ns} is after the last {last_start_ns}")
    name = (
        f"spans-{compact_stamp(first_start_ns)}-{compact_stamp(last_start_ns)}"
        f"-{writer}-{sequence:016d}.parquet"
    )
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"not a writer's name: {writer!r}")
    return name


def parse_name(path: Path) -> SpanFile:
    """Return what a file's name tells; a foreign name tells only itself."""
    match = _NAME.fullmatch(path.name)
    if match is not None:
        with contextlib.suppress(ValueError):  # digits that are no date: a foreign name
            return SpanFile(
                path.name,
                path,
                _parse_stamp(match["first"]),
                _parse_stamp(match["last"]),
                match["writer"],
                int(match["sequence"]),
            )
    return SpanFile(path.name, path)


def sync_folder(folder: Path) -> None:
    """Make renames and deletions in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(temporary: Path, final: Path) -> None:
    """Make a finished file visible: sync it, rename it, sync the folder.

    Raises:
        StorageError: the disk is full or read-only, or the two are on different file systems.
    """
    try:
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.rename(final)
        sync_folder(final.parent)
    except OSError as error:
        raise StorageError(
            f"cannot put {final} in place: {error.strerror}",
            hint="free space on the disk, or choose another folder with --data DIR",
        ) from error


def write_record(records: Path, new_name: str, replaced: Iterable[str]) -> None:
    """Put the record of a replacement on the disk, before the new file is published.

    Args:
        records: the folder of records.
        new_name: name of the file to come.
        replaced: names of the files that it stands for.

    Raises:
        StorageError: the folder takes no data.
    """
    document = {"schema": "pyflare.compaction/1", "new": new_name, "replaces": sorted(replaced)}
    final = records / f"{new_name}.json"
    temporary = final.with_suffix(".tmp")
    try:
        records.mkdir(mode=0o755, exist_ok=True)
        temporary.write_text(json.dumps(document))
    except OSError as error:
        raise StorageError(f"cannot write {final}: {error.strerror}") from error
    publish(temporary, final)


def read_records(records: Path) -> dict[str, frozenset[str]]:
    """Return, by new file, the names of the files that it replaces.

    A record is complete once it has its name, so one that cannot be read is
    damaged: it is logged and passed over.
    """
    result: dict[str, frozenset[str]] = {}
    for path in records.glob("*.json") if records.is_dir() else ():
        try:
            document = json.loads(path.read_text())
            result[str(document["new"])] = frozenset(map(str, document["replaces"]))
        except FileNotFoundError:  # just retired: its files are gone
            continue
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("passed over the damaged compaction record %s: %s", path, error)
    return result


def replaced_names(names: frozenset[str], records: dict[str, frozenset[str]]) -> frozenset[str]:
    """Return the names that present files replace, directly or through one another.

    Args:
        names: names of the files that are there.
        records: what each file replaces.
    """
    replaced: set[str] = set()
    pending = [name for name in records if name in names]
    while pending:
        found = records.get(pending.pop(), frozenset()) - replaced
        replaced |= found
        pending.extend(found)
    return frozenset(replaced)


def current_files(folder: Path) -> tuple[SpanFile, ...]:
    """Return the files of a span folder that count, sorted by name.

    The folder is listed before the records are read: a new file in the listing had
    its record on the disk before it appeared.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    names = frozenset(
        entry.name
        for entry in os.scandir(folder)
        if entry.name.endswith(".parquet") and not entry.name.startswith((".", "_"))
    )
    replaced = replaced_names(names, read_records(folder.parent / RECORD_FOLDER))
    return tuple(parse_name(folder / name) for name in sorted(names - replaced))


@contextlib.contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Keep the files of a folder on the disk while they are read.

    Takes a shared lock on the folder itself, so it works on a read-only one. On a file
    system without locks nothing is held: a reader then retries when a file vanishes.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # no locks here (some network file systems)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[bool]:
    """Try to be alone with a folder; yields whether no reader holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        alone = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            alone = False
        except OSError:  # no locks here (some network file systems): nobody can hold one
            alone = True
        yield alone
    finally:
        os.close(descriptor)
