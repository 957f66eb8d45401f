"""The data directory: where the collector writes and every analysis reads.

    DIR/
      spans/        Parquet files of spans, flat, nothing else: any reader opens spans/*.parquet
      evaluations/  results of evaluations
      drift/        results of drift detection
      wal/          the collector's write-ahead log
      tmp/          unfinished files
      compaction/   which files replace which (see `span_files`)
      state.db      budgets and other state (SQLite)

Example:
    >>> data = DataDirectory("pyflare-data")
    >>> data.create()
    >>> temporary = data.temporary_path()
    >>> # ... write a Parquet file there ...
    >>> data.publish(temporary, data.spans / data.file_name(first_ns, last_ns, "collect", 7))
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyflare_proto.errors import NotFoundError, StorageError
from pyflare_storage import span_files
from pyflare_storage.span_files import SpanFile

__all__ = ["DataDirectory", "SpanFile"]

_STALE_AFTER_S = 24 * 3600.0


class DataDirectory:
    """The folders and files of one data directory. Making the object touches no disk.

    Args:
        path: the directory; it need not exist yet.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"DataDirectory({str(self.path)!r})"

    @property
    def spans(self) -> Path:
        """Folder of the span files."""
        return self.path / "spans"

    @property
    def evaluations(self) -> Path:
        """Folder of evaluation results."""
        return self.path / "evaluations"

    @property
    def drift(self) -> Path:
        """Folder of drift results."""
        return self.path / "drift"

    @property
    def wal(self) -> Path:
        """Folder of the write-ahead log."""
        return self.path / "wal"

    @property
    def state_db(self) -> Path:
        """SQLite database of state."""
        return self.path / "state.db"

    @property
    def lock_file(self) -> Path:
        """File that the one collector of this directory holds locked."""
        return self.path / "collector.lock"

    @property
    def compaction_lock_file(self) -> Path:
        """File that the one compaction of this directory holds locked."""
        return self.path / "compaction.lock"

    @property
    def temporary(self) -> Path:
        """Folder of unfinished files: beside `spans`, on the same file system."""
        return self.spans.resolve().parent / span_files.TEMPORARY_FOLDER

    @property
    def records(self) -> Path:
        """Folder of the records of replacements."""
        return self.spans.resolve().parent / span_files.RECORD_FOLDER

    def create(self) -> None:
        """Make what is missing.

        A new directory is private (0700): spans hold prompts and answers. The log is
        private in any case; the folders of results follow the directory.

        Raises:
            StorageError: a folder cannot be made or takes no files.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (self.spans, self.evaluations, self.drift):
                folder.mkdir(mode=0o755, exist_ok=True)
            for folder in (self.wal, self.temporary, self.records):
                folder.mkdir(mode=0o700, exist_ok=True)
            probe = self.temporary_path()
            probe.touch(mode=0o600)
            probe.unlink()
        except OSError as error:
            raise StorageError(
                f"cannot write to the data directory {self.path}: {error.strerror}",
                hint="choose another with --data DIR or PYFLARE_DATA, or change its permissions",
            ) from error

    def temporary_path(self, suffix: str = ".parquet.tmp") -> Path:
        """Return a fresh name for an unfinished file; no reader ever looks at it."""
        return self.temporary / f"{os.getpid()}-{secrets.token_hex(8)}{suffix}"

    @staticmethod
    def file_name(first_start_ns: int, last_start_ns: int, writer: str, sequence: int) -> str:
        """Return the name of a span file; see `span_files.span_file_name`."""
        return span_files.span_file_name(first_start_ns, last_start_ns, writer, sequence)

    @staticmethod
    def publish(temporary: Path, final: Path) -> None:
        """Make a finished file visible, durably; see `span_files.publish`.

        Raises:
            StorageError: the disk is full or read-only.
        """
        span_files.publish(temporary, final)

    def list_files(
        self, since_ns: int | None = None, until_ns: int | None = None
    ) -> tuple[SpanFile, ...]:
        """Return the span files that count and may hold a start time in [since_ns, until_ns).

        Files that a compaction has replaced are left out.

        Raises:
            NotFoundError: there is no span folder.
        """
        try:
            files = span_files.current_files(self.spans)
        except FileNotFoundError as error:
            raise NotFoundError(
                f"no spans at {self.spans}",
                hint="collect or import some first: pyflare import FILE, pyflare collect",
            ) from error
        return tuple(file for file in files if file.may_hold(since_ns, until_ns))

    @contextmanager
    def snapshot(
        self, since_ns: int | None = None, until_ns: int | None = None
    ) -> Iterator[tuple[SpanFile, ...]]:
        """Hold the files that count: compaction deletes none of them meanwhile.

        Raises:
            NotFoundError: there is no span folder.
        """
        if not self.spans.is_dir():
            self.list_files()  # raises, with the hint
        with span_files.reading(self.spans):
            yield self.list_files(since_ns, until_ns)

    def max_sequence(self) -> int:
        """Return the largest sequence number of any span file, also a replaced one; -1 if none.

        A compacted file carries the largest of those it replaces, so the number never
        falls when files are merged and deleted.
        """
        if not self.spans.is_dir():
            return -1
        numbers = (
            span_files.parse_name(path).sequence for path in self.spans.glob("spans-*.parquet")
        )
        return max((number for number in numbers if number is not None), default=-1)

    def remove_stale_temporaries(self, *, now_s: float | None = None) -> int:
        """Delete unfinished files that nobody has touched for a day; return how many.

        Args:
            now_s: seconds since 1970; the clock's when None.
        """
        now_s = time.time() if now_s is None else now_s
        removed = 0
        for path in self.temporary.glob("*.tmp") if self.temporary.is_dir() else ():
            try:
                if now_s - path.stat().st_mtime > _STALE_AFTER_S:
                    path.unlink()
                    removed += 1
            except FileNotFoundError:  # its writer finished
                continue
        return removed
