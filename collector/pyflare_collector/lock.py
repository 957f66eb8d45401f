"""One collector a data directory, held by a file lock."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from pyflare_proto.errors import ConfigError, StorageError

__all__ = ["DirectoryLock"]


class DirectoryLock:
    """An exclusive `flock` on a file; the system releases it when the process ends.

    Args:
        path: the lock file; created with mode 0600, left in place, holds the process id.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock, or say who has it.

        Raises:
            ConfigError: another collector holds it.
            StorageError: the file cannot be made, or the file system has no locks.
        """
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(f"cannot open {self._path}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise ConfigError(
                f"another collector (process {holder}) writes to {self._path.parent}",
                hint="choose another data directory: pyflare collect --data DIR",
            ) from error
        except OSError as error:
            os.close(descriptor)
            raise StorageError(
                f"cannot lock {self._path}: {error.strerror}",
                hint="put the data directory on a local disk: pyflare collect --data DIR",
            ) from error
        with contextlib.suppress(OSError):  # a full disk: the lock holds without the number
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back; safe without `acquire`, and twice."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None
