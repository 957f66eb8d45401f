"""A temporary file without a name for what memory has no room for; it goes with the process."""

from __future__ import annotations

import os
import tempfile
from typing import IO

__all__ = ["SpillFile"]


class SpillFile:
    """Bytes at places of their own. Readers may take turns and threads.

    Nothing is buffered: what the disk does not take is said at once, and not by a later read.
    """

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._end = 0

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return self._end

    def append(self, data: bytes) -> int:
        """Keep some bytes; return their place.

        Raises:
            OSError: the disk takes no more. What was kept before stays.
        """
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="pyflare-", buffering=0)  # noqa: SIM115  # until the end
        place, rest = self._end, memoryview(data)
        while rest:
            rest = rest[os.pwrite(self._file.fileno(), rest, place + len(data) - len(rest)) :]
        self._end = place + len(data)
        return place

    def read(self, place: int, size: int) -> bytes:
        """Return bytes that were kept.

        Raises:
            OSError: the disk does not give them back.
        """
        assert self._file is not None or not size  # noqa: S101  # a place is of `append`
        data = b"" if self._file is None else os.pread(self._file.fileno(), size, place)
        if len(data) < size:
            raise OSError(f"a temporary file holds {len(data)} of {size} bytes at {place}")
        return data

    def clear(self) -> None:
        """Forget everything; the room is used again."""
        self._end = 0
