"""Temporary files: what goes in comes out, and a full disk is said at once."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pyflare_storage.spill_file import SpillFile


@contextmanager
def room(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_bytes_come_back_from_their_places() -> None:
    """In any order, also after the file was cleared and filled again."""
    file = SpillFile()
    places = [file.append(data) for data in (b"abc", b"", b"defgh")]

    assert [file.read(place, size) for place, size in zip(places, (3, 0, 5), strict=True)] == [
        b"abc", b"", b"defgh",
    ]  # fmt: skip
    assert file.read(places[0], 3) == b"abc"
    file.clear()
    assert file.size == 0
    assert file.read(file.append(b"xy"), 2) == b"xy"


def test_a_full_disk_is_said_by_the_write_and_loses_nothing_before() -> None:
    """The bytes that do not fit leave no trace; those before them stay."""
    file = SpillFile()
    with room(10):
        first = file.append(b"12345678")
        with pytest.raises(OSError, match="File too large"):
            file.append(b"too much")
        assert file.read(first, 8) == b"12345678"
    assert file.read(file.append(b"again"), 5) == b"again"
