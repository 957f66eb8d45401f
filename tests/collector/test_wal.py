"""The write-ahead log: what it acknowledges it keeps, whatever fails."""

from __future__ import annotations

import os
import resource
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pyflare_collector import wal
from pyflare_collector.log import VolatileLog
from pyflare_collector.wal import WriteAheadLog, open_log, segment_path
from pyflare_collector.wal_format import Damage
from pyflare_proto.errors import RetryableError, StorageError
from tests.collector.pipeline_helpers import Gate, wait_until


@pytest.fixture
def log(tmp_path: Path) -> Iterator[WriteAheadLog]:
    """Return a running log with sync."""
    result = WriteAheadLog(tmp_path / "wal")
    result.start()
    yield result
    result.shutdown()


def payloads(log: WriteAheadLog) -> list[bytes]:
    """Return the payloads of all sealed segments, in order."""
    damage = Damage()
    return [record.payload for seq in log.unpublished() for record in log.read(seq, damage)]


def test_files_are_private(log: WriteAheadLog) -> None:
    """The folder is 0700 and a segment 0600: they hold prompts and answers."""
    seq = log.append(b"", b"secret")
    path = segment_path(log.directory, seq)
    assert stat.S_IMODE(log.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.name == f"{seq:016d}.wal"


def test_waiting_requests_share_one_sync(
    log: WriteAheadLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one sync is under way, all requests that arrive are committed by the next one."""
    gate = Gate(is_open=False)
    entered = threading.Event()

    def slow_sync(_: int) -> None:
        entered.set()
        gate()

    monkeypatch.setattr(wal, "_fdatasync", slow_sync)
    acknowledged: list[bytes] = []

    def send(payload: bytes) -> None:
        log.append(b"", payload)
        acknowledged.append(payload)

    threads = [threading.Thread(target=send, args=(b"%d" % i,)) for i in range(20)]
    threads[0].start()
    assert entered.wait(30)
    for thread in threads[1:]:
        thread.start()
    wait_until(lambda: len(log._waiting) == 19)
    assert acknowledged == [], "a client was answered before the sync"
    gate.open()
    for thread in threads:
        thread.join(30)
    assert log.statistics.fsyncs == 2
    assert log.statistics.records == 20
    log.roll()
    assert sorted(payloads(log)) == sorted(acknowledged)


def test_roll_seals_and_counts(log: WriteAheadLog) -> None:
    """A sealed segment says how many records it holds; the next record is in a newer one."""
    first = log.append(b"", b"a")
    assert log.append(b"", b"b") == first
    assert log.sealed_records(first) is None
    assert log.unpublished() == []
    log.roll()
    assert log.sealed_records(first) == 2
    second = log.append(b"", b"c")
    assert second > first
    open_segment = log.open_segment()
    assert open_segment is not None
    assert (open_segment.seq, open_segment.records) == (second, 1)
    log.remove(first)
    assert not segment_path(log.directory, first).exists()
    log.roll()
    assert payloads(log) == [b"c"]


def test_numbers_never_come_again(tmp_path: Path) -> None:
    """A clock that stands still, goes back, or a folder emptied meanwhile: numbers grow."""
    seen: list[int] = []
    above = 0
    for now in (5_000, 5_000, 1_000):
        log = WriteAheadLog(tmp_path, wall_clock_ns=lambda now=now: now)
        log.start(above=above)
        for _ in range(2):
            seen.append(log.append(b"", b"x"))
            log.roll()
        log.shutdown()
        above = seen[-1]
        for seq in log.unpublished():
            log.remove(seq)
    assert seen == sorted(set(seen))


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the kernel refuse to make any file larger than `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_refused_write_loses_nothing_acknowledged(log: WriteAheadLog) -> None:
    """The kernel cuts a write short: the client hears StorageError, the log is as before."""
    log.append(b"", b"before")
    with largest_file(4096), pytest.raises(StorageError) as caught:
        log.append(b"", b"x" * 10_000)
    assert caught.value.hint
    log.append(b"", b"after")
    log.roll()
    assert payloads(log) == [b"before", b"after"]
    assert log.statistics.failed_commits == 1


@pytest.mark.parametrize("function", ["writev", "fsync", "open"])
def test_a_full_disk_while_a_segment_begins(
    log: WriteAheadLog, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    """No room for a new segment: refused, no file left over, and it works again later."""

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, function, full)
        with pytest.raises(StorageError, match="No space left"):
            log.append(b"", b"x")
    assert list(log.directory.iterdir()) == []
    log.append(b"", b"y")
    log.roll()
    assert payloads(log) == [b"y"]


def test_a_failed_sync_is_not_trusted_again(
    log: WriteAheadLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed sync the record is cut off and the next one goes to a new segment."""
    first = log.append(b"", b"good")

    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(wal, "_fdatasync", broken)
        with pytest.raises(StorageError, match="Input/output error"):
            log.append(b"", b"not acknowledged")
    assert log.append(b"", b"next") > first
    log.roll()
    assert payloads(log) == [b"good", b"next"]


def test_many_buffers_in_one_group(log: WriteAheadLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """More buffers than one `writev` takes, and writes cut short anywhere, leave whole records."""
    real = os.writev

    def short(descriptor: int, buffers: list[bytes]) -> int:
        return real(descriptor, [bytes(buffers[0])[: max(1, len(buffers[0]) // 2)]])

    gate = Gate(is_open=False)
    entered = threading.Event()

    def slow_sync(_: int) -> None:
        entered.set()
        gate()

    monkeypatch.setattr(wal, "_fdatasync", slow_sync)
    monkeypatch.setattr(wal, "_VECTORS_PER_WRITE", 7)
    sent = [b"payload %d" % i for i in range(40)]
    threads = [threading.Thread(target=log.append, args=(b"note", text)) for text in sent]
    threads[0].start()
    assert entered.wait(30)
    for thread in threads[1:]:
        thread.start()
    wait_until(lambda: len(log._waiting) == 39)
    monkeypatch.setattr(os, "writev", short)
    gate.open()
    for thread in threads:
        thread.join(30)
    log.roll()
    assert sorted(payloads(log)) == sorted(sent)


def test_an_unwritable_folder_is_said(tmp_path: Path) -> None:
    """A file where the folder should be: StorageError at the start, not at the first request."""
    (tmp_path / "wal").write_text("in the way")
    with pytest.raises(StorageError, match="wal"):
        WriteAheadLog(tmp_path / "wal").start()


def test_after_shutdown_requests_are_refused(log: WriteAheadLog) -> None:
    """What comes after the shutdown is refused and retryable; what was committed stays."""
    log.append(b"", b"x")
    log.shutdown()
    log.shutdown()
    with pytest.raises(RetryableError):
        log.append(b"", b"y")
    assert payloads(log) == [b"x"]


def test_size_follows_what_is_on_the_disk(log: WriteAheadLog) -> None:
    """`size_bytes` is the sum of the segment files, through rolls, removals and failures."""

    def on_disk() -> int:
        return sum(path.stat().st_size for path in log.directory.iterdir())

    first = log.append(b"", b"x" * 1000)
    assert log.size_bytes() == on_disk()
    log.roll()
    log.append(b"note", b"y")
    assert log.size_bytes() == on_disk()
    with largest_file(2048), pytest.raises(StorageError):
        log.append(b"", b"z" * 5000)
    assert log.size_bytes() == on_disk()
    log.remove(first)
    assert log.size_bytes() == on_disk()


def test_set_aside_keeps_the_bytes(log: WriteAheadLog) -> None:
    """A segment that is set aside is not replayed and not deleted."""
    seq = log.append(b"", b"x")
    path = log.set_aside(seq)
    assert path.exists()
    assert log.unpublished() == []
    again = WriteAheadLog(log.directory)
    again.start()
    assert again.unpublished() == []
    again.shutdown()


def test_durability_chooses_the_log(tmp_path: Path) -> None:
    """`fsync` syncs, `os` writes without a sync, `none` writes nothing."""
    for durability, fsyncs, files in (("fsync", 1, 1), ("os", 0, 1), ("none", 0, 0)):
        folder = tmp_path / durability
        log = open_log(folder, durability)  # type: ignore[arg-type]  # literals from a tuple
        log.start()
        log.append(b"", b"x")
        assert log.statistics.fsyncs == fsyncs
        assert len(list(folder.glob("*.wal"))) == files
        log.shutdown()


def test_the_volatile_log_counts_like_the_other() -> None:
    """Without a disk the numbers and counts that the writer lives on are the same."""
    log = VolatileLog(wall_clock_ns=lambda: 7_000)
    log.start(above=10)
    first = log.append(b"", b"a")
    assert (first, log.append(b"", b"b"), log.sealed_records(first)) == (11, 11, None)
    log.roll()
    assert log.sealed_records(first) == 2
    assert log.append(b"", b"c") == 12
    assert log.unpublished() == []
    log.shutdown()
    with pytest.raises(RetryableError):
        log.append(b"", b"d")
