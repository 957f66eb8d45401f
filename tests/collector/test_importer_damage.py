"""Files that are truncated, corrupt or of another format: named, and nothing left behind."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import pytest

from pyflare_proto.errors import InvalidDataError
from tests.collector.pipeline_helpers import request
from tests.collector.test_importer import FORMATS, MESSAGES, Folder, otlp_json

__all__: list[str] = []


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Return a data directory into which nothing was imported."""
    return Folder(tmp_path)


def refused(folder: Folder, content: bytes) -> InvalidDataError:
    """Import a good file and then one with this content; return what was said of it."""
    good = folder.file(request(100, 3), "good")
    damaged = folder.file(content, "damaged.bin")
    with pytest.raises(InvalidDataError) as caught:
        folder.load(good, damaged)
    assert damaged in caught.value.message
    assert caught.value.hint
    assert folder.on_disk() == []
    return caught.value


WHOLE = [form for form in FORMATS if "lines" not in form]


@pytest.mark.parametrize("form", WHOLE)
@pytest.mark.parametrize("lost", [1, 20, 75])
def test_truncated_file(folder: Folder, form: str, lost: int) -> None:
    """A file cut short is refused, and so is the good file before it."""
    refused(folder, FORMATS[form](MESSAGES)[:-lost])


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("lost", [1, 12])
def test_truncated_gzip(folder: Folder, form: str, lost: int) -> None:
    """Gzip that is cut short is refused, even where what is inside is whole."""
    refused(folder, gzip.compress(FORMATS[form](MESSAGES))[:-lost])


def test_corrupt_gzip(folder: Folder) -> None:
    """A flipped bit inside gzip is noticed by its checksum or its structure."""
    packed = bytearray(gzip.compress(FORMATS["protobuf"](MESSAGES)))
    packed[-6] ^= 1
    refused(folder, bytes(packed))


def test_garbage_after_gzip(folder: Folder) -> None:
    """What follows a gzip stream is not skipped in silence."""
    refused(folder, gzip.compress(MESSAGES[0]) + b"garbage")


@pytest.mark.parametrize(
    "content",
    [
        b"PAR1" + bytes(100),
        b"PK\x03\x04" + bytes(100),
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"name,value\n1,2\n",
        b"\xff" * 64,
        b"\n\x05hello",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\x01",
        bytes(64) + b"x",
        (5).to_bytes(4, "big") + b"hello",
        b'{"resourceLogs": []}',
        b'{"resourceMetrics": []}',
        b'{"hello": "world"}',
        b'[{"hello": 1}]',
        b'{"resourceSpans": 5}',
        b'{"hello": 1}\n{"hello": 2}\n',
    ],
    ids=repr,
)
def test_foreign_file(folder: Folder, content: bytes) -> None:
    """A file of another format is refused by name, packed or not."""
    refused(folder, content)
    refused(folder, gzip.compress(content))


def test_corrupt_message_inside_a_row(folder: Folder) -> None:
    """Damage in the middle of a file is found, whatever was read before it."""
    middle = bytearray(MESSAGES[1])
    middle[4:10] = b"\xff" * 6
    refused(folder, MESSAGES[0] + bytes(middle) + MESSAGES[2])


@pytest.mark.parametrize("prefix", [b"\x0a\xff\xff\xff\xff\x7f", b"\x00" * 4 + b"\xff" * 4])
def test_length_that_is_a_lie(folder: Folder, prefix: bytes) -> None:
    """A message of gigabytes in a file of a few bytes is refused without taking memory."""
    content = prefix + MESSAGES[0]
    tracemalloc.start()
    try:
        refused(folder, content)
        assert tracemalloc.get_traced_memory()[1] < 1 << 28
    finally:
        tracemalloc.stop()


def test_damage_keeps_what_was_imported_before(folder: Folder) -> None:
    """A refused file changes nothing of what earlier imports wrote."""
    folder.load(folder.file(MESSAGES[0]))
    before = folder.on_disk()
    with pytest.raises(InvalidDataError):
        folder.load(folder.file(request(50, 2)), folder.file(b"no spans", "bad"))
    assert folder.on_disk() == before
    assert folder.numbers() == [1, 2, 3]


def test_last_line_cut_short(folder: Folder) -> None:
    """JSON lines cut short lose the last line only, which is counted."""
    lines = b"\n".join(otlp_json(message) for message in MESSAGES)
    report = folder.load(folder.file(lines[:-30]))
    assert sum(rejection.count for rejection in report.rejections) == 1
    assert folder.numbers() == [1, 2, 3, 4]
