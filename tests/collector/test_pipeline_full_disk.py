"""A real file system that is full: what was taken is kept, and work goes on when there is room."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyflare_collector import writer as writer_module
from pyflare_collector.config import BatcherConfig, CollectorConfig
from pyflare_collector.pipeline import Pipeline
from pyflare_proto.errors import StorageError
from pyflare_storage.dataset import DataDirectory
from pyflare_storage.prices import PriceBook
from tests.collector.pipeline_helpers import (
    EveryNth,
    PlainTransform,
    published_numbers,
    request,
    wait_until,
)

DISK_BYTES = 4 * 1024 * 1024


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Return the root of an empty file system of 4 MiB in memory."""
    root = tmp_path / "disk"
    root.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(root)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a small file system")
    yield root
    subprocess.run(["umount", "--lazy", str(root)], check=True, capture_output=True)


def fill(disk: Path) -> Path:
    """Take all the room that is left; return the file to delete for making room again."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
    return ballast


def make(disk: Path, *, timeout_ms: int = 20) -> Pipeline:
    """Return a pipeline whose data is on the disk."""
    data = DataDirectory(disk / "data")
    transform = PlainTransform()
    transform.published = lambda: set(published_numbers(data.spans))
    config = CollectorConfig(
        batcher=BatcherConfig(max_batch_size=8, max_batch_timeout_ms=timeout_ms)
    )
    return Pipeline(config, data, PriceBook(), sampler=EveryNth(), transform=transform)


def test_a_full_disk_refuses_requests_until_there_is_room(disk: Path) -> None:
    """Full: StorageError to the client. Room again: taken. Nothing taken is lost or doubled."""
    pipeline = make(disk)
    pipeline.start()
    pipeline.ingest(request(1, 10))
    ballast = fill(disk)
    for _ in range(3):
        with pytest.raises(StorageError, match="No space left"):
            pipeline.ingest(request(100, 2000))
    ballast.unlink()
    pipeline.ingest(request(100, 20))
    pipeline.shutdown()
    assert published_numbers(disk / "data" / "spans") == [*range(1, 11), *range(100, 120)]
    assert list((disk / "data" / "wal").iterdir()) == []


def test_a_disk_that_fills_up_before_the_file_is_written(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Acknowledged, then no room for the Parquet file: published when there is room again."""
    monkeypatch.setattr(writer_module, "_RETRY_FIRST_S", 0.01)
    monkeypatch.setattr(writer_module, "_RETRY_LONGEST_S", 0.05)
    pipeline = make(disk)
    pipeline.start()
    pipeline.ingest(request(1, 100))
    ballast = fill(disk)
    wait_until(lambda: pipeline.writer.error is not None)
    assert "No space left" in str(pipeline.snapshot()["files"])
    ballast.unlink()
    wait_until(lambda: published_numbers(disk / "data" / "spans") == list(range(1, 101)))
    wait_until(lambda: pipeline.writer.error is None)
    pipeline.ingest(request(200, 10))
    pipeline.shutdown()
    assert published_numbers(disk / "data" / "spans") == [*range(1, 101), *range(200, 210)]


def test_a_start_on_a_full_disk_says_so(disk: Path) -> None:
    """Segments wait and there is no room for their files: the start fails, and keeps them."""
    pipeline = make(disk, timeout_ms=60_000)
    pipeline.start()
    pipeline.ingest(request(1, 100))
    ballast = fill(disk)
    pipeline.shutdown(1)
    again = make(disk)
    with pytest.raises(StorageError):
        again.start()
    ballast.unlink()
    third = make(disk)
    third.start()
    third.shutdown()
    assert published_numbers(disk / "data" / "spans") == list(range(1, 101))
