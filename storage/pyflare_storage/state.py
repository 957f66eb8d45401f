"""The state of a data directory: one SQLite file that several processes share.

Each part of the state (alerts, budgets) is a component with tables of its own and a
list of migrations; the table `schema_version` holds how many of them have run. The
file is readable by its owner only. Readers see the last committed state while one
process writes (write-ahead logging); a second writer waits.

Example:
    >>> MIGRATIONS = (("CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL)",),)
    >>> with StateDatabase("pyflare-data/state.db", "notes", MIGRATIONS) as state:
    ...     with state.write() as connection:
    ...         connection.execute("INSERT INTO note (text) VALUES (?)", ("hello",))
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from pyflare_proto.errors import InvalidDataError, PyFlareError, RetryableError, StorageError

__all__ = ["Migrations", "StateDatabase"]

Migrations = Sequence[Sequence[str]]
"""Migrations in order, each a list of SQL statements. Released ones never change."""

_VERSIONS = """\
CREATE TABLE IF NOT EXISTS schema_version (component TEXT PRIMARY KEY, version INTEGER NOT NULL)
WITHOUT ROWID"""
_POLL_S = 0.05


class StateDatabase:
    """One component's connection to the state. Use in one thread; close it.

    Args:
        path: the SQLite file; made, with its folder, when absent.
        component: name of the part of the state.
        migrations: see `Migrations`; those that have not run yet run now.
        timeout_s: seconds to wait for another process that writes.

    Raises:
        StorageError: the file cannot be made or written.
        InvalidDataError: it is no SQLite file, or a later version of PyFlare wrote it.
        RetryableError: another process kept it locked for `timeout_s`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        component: str,
        migrations: Migrations,
        *,
        timeout_s: float = 10.0,
    ) -> None:
        self.path = Path(path)
        self._timeout_s = timeout_s
        self._create()
        with self._translated():
            self._connection = sqlite3.connect(
                self.path, timeout=timeout_s, isolation_level=None, cached_statements=32
            )
            try:
                self._connection.row_factory = sqlite3.Row
                self._use_wal()
                self._connection.execute("PRAGMA foreign_keys = ON")
                self._migrate(component, migrations)
            except BaseException:
                self._connection.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; may be called twice."""
        self._connection.close()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection inside a transaction that other writers wait for.

        What was done is committed at the end, and undone when an exception passes.

        Raises:
            RetryableError: another process kept the file locked.
            StorageError: the disk is full or read-only.
        """
        with self._translated():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection inside a transaction that sees one state throughout."""
        with self._translated():
            self._connection.execute("BEGIN")
            try:
                yield self._connection
            finally:
                self._connection.execute("ROLLBACK")

    def _create(self) -> None:
        """Make the file private before SQLite opens it; its `-wal` and `-shm` follow its mode."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise StorageError(
                f"cannot write {self.path}: {error.strerror}",
                hint="choose another data directory with --data DIR, or change its permissions",
            ) from error

    def _use_wal(self) -> None:
        """Switch to write-ahead logging once; SQLite does not wait here by itself."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL").fetchone()
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_S)
            else:
                return

    def _migrate(self, component: str, migrations: Migrations) -> None:
        if self._version(component) == len(migrations):
            return
        with self.write() as connection:
            connection.execute(_VERSIONS)
            done = self._version(component)
            if done > len(migrations):
                raise InvalidDataError(
                    f"{self.path} holds {component} of version {done}, "
                    f"this PyFlare knows {len(migrations)}",
                    hint="upgrade PyFlare, or use another data directory",
                )
            for statement in (text for step in migrations[done:] for text in step):
                connection.execute(statement)
            connection.execute(
                "INSERT INTO schema_version VALUES (?, ?) "
                "ON CONFLICT (component) DO UPDATE SET version = excluded.version",
                (component, len(migrations)),
            )

    def _version(self, component: str) -> int:
        """Return how many migrations of a component have run."""
        known = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'schema_version'"
        with closing(self._connection.execute(known)) as found:
            if found.fetchone() is None:
                return 0
        query = "SELECT version FROM schema_version WHERE component = ?"
        with closing(self._connection.execute(query, (component,))) as found:
            row = found.fetchone()
        return 0 if row is None else int(row["version"])

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._told(error) from error

    def _told(self, error: sqlite3.Error) -> PyFlareError:
        text = str(error)
        if "locked" in text or "busy" in text:
            return RetryableError(
                f"{self.path} is in use by another process",
                hint="try again; a long pyflare command may be writing to it",
            )
        if isinstance(error, sqlite3.OperationalError):
            return StorageError(
                f"cannot use {self.path}: {text}",
                hint="free space on the disk, or choose another data directory with --data DIR",
            )
        if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError):
            raise error  # a defect of the caller
        return InvalidDataError(
            f"cannot read {self.path}: {text}",
            hint=f"restore the file from a backup, or move it away: mv {self.path}{{,.broken}}",
        )
