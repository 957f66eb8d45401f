"""Death at every step between the log and the published file: each span is written once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pyflare_collector import segment_file
from pyflare_collector.counters import Counters
from pyflare_collector.segments import Segments
from pyflare_collector.transform import Accepted, batch_bytes
from pyflare_collector.wal import WriteAheadLog, segment_path
from pyflare_collector.wal_format import Record
from pyflare_proto.otlp.decode import KeyTable, decode
from pyflare_storage.dataset import DataDirectory
from tests.collector.pipeline_helpers import PlainTransform, published_numbers, request

KEYS = KeyTable(())


class Died(BaseException):
    """The process ends here."""


class Fuse:
    """Lets a number of steps of the main thread pass, then dies before or after one."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self) -> None:
        """Pass a point at which the process may die."""
        if threading.current_thread() is not threading.main_thread():
            return
        if self.left == 0:
            self.left = -1
            raise Died
        self.left -= 1

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function` with such a point before and behind it."""

        def wrapped(*args: Any, **named: Any) -> Any:
            self.step()
            result = function(*args, **named)
            self.step()
            return result

        return wrapped


def restore(record: Record, seq: int) -> Accepted:
    """Make a request of a log record."""
    batch = decode([record.payload], KEYS)
    probability = batch.valid_ids.astype(float)
    return Accepted(seq, batch, probability, batch_bytes(batch))


class Run:
    """One life of a collector, without threads of its own but the log's."""

    def __init__(self, data: DataDirectory) -> None:
        self.data = data
        self.counters = Counters()
        self.log = WriteAheadLog(data.wal, sync=False)
        self.transform = PlainTransform()
        self.transform.published = lambda: set(published_numbers(data.spans))
        self.segments = Segments(
            data, self.log, self.transform, restore, counters=self.counters, row_group_spans=4
        )

    def start(self) -> None:
        """Start the log and recover."""
        self.log.start(above=self.data.max_sequence())
        self.segments.recover()

    def collect(self, first: int, acknowledged: set[int]) -> None:
        """Take three requests in two segments and publish both."""
        seqs = []
        for number in (first, first + 10, first + 20):
            payload = request(number, 3)
            seq = self.log.append(b"", payload)
            acknowledged.update(range(number, number + 3))
            self.segments.write(seq, [restore(Record(b"", payload), seq)])
            seqs.append(seq)
            if number == first + 10:
                self.log.roll()
        self.log.roll()
        for seq in sorted(set(seqs)):
            self.segments.publish(seq)


def test_death_at_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the step: after the next start every acknowledged span is there, none twice."""
    steps = 0
    finished = False
    while not finished:
        data = DataDirectory(tmp_path / f"{steps}")
        data.create()
        acknowledged: set[int] = set()
        with monkeypatch.context() as patch:
            fuse = Fuse(steps)
            for owner, name in (
                (pq.ParquetWriter, "write_table"),
                (pq.ParquetWriter, "close"),
                (Path, "rename"),
                (Path, "unlink"),
                (WriteAheadLog, "append"),
                (WriteAheadLog, "roll"),
                (WriteAheadLog, "_sync_directory"),
            ):
                patch.setattr(owner, name, fuse.around(getattr(owner, name)))
            run = Run(data)
            try:
                run.start()
                run.collect(1, acknowledged)
                finished = True
            except Died:
                pass
        run.log.shutdown()
        recover_and_check(data, acknowledged)
        steps += 1
    assert steps > 20


def recover_and_check(data: DataDirectory, acknowledged: set[int]) -> None:
    """Start again, take a client's retry of everything, and look at the files."""
    run = Run(data)
    run.start()
    found = published_numbers(data.spans)
    assert len(found) == len(set(found))
    assert acknowledged <= set(found)
    for number in (1, 11, 21):
        seq = run.log.append(b"", request(number, 3))
        run.segments.write(seq, [restore(Record(b"", request(number, 3)), seq)])
    run.log.roll()
    run.segments.publish(seq)
    run.log.shutdown()
    assert published_numbers(data.spans) == sorted([*range(1, 4), *range(11, 14), *range(21, 24)])
    assert list(data.wal.iterdir()) == []
    assert list(data.temporary.iterdir()) == []


def test_death_at_every_step_of_a_recovery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recovery that dies is recovered by the next one: each span is written once."""
    steps = 0
    finished = False
    while not finished:
        data = DataDirectory(tmp_path / f"{steps}")
        data.create()
        log = WriteAheadLog(data.wal, sync=False)
        log.start()
        for number in (1, 11, 21):
            log.append(b"", request(number, 3))
            log.roll()
        log.shutdown()
        with monkeypatch.context() as patch:
            fuse = Fuse(steps)
            for owner, name in (
                (pq.ParquetWriter, "write_table"),
                (pq.ParquetWriter, "close"),
                (Path, "rename"),
                (Path, "unlink"),
            ):
                patch.setattr(owner, name, fuse.around(getattr(owner, name)))
            run = Run(data)
            try:
                run.start()
                finished = True
            except Died:
                pass
        run.log.shutdown()
        recover_and_check(data, {*range(1, 4), *range(11, 14), *range(21, 24)})
        steps += 1
    assert steps > 20


def test_leftovers_of_a_dead_collector_go(tmp_path: Path) -> None:
    """Its unfinished files are deleted at the next start; those of others stay."""
    data = DataDirectory(tmp_path / "data")
    data.create()
    own = data.temporary_path(segment_file.TEMPORARY_SUFFIX)
    other = data.temporary_path()
    own.write_bytes(b"PAR1")
    other.write_bytes(b"PAR1")
    run = Run(data)
    run.start()
    run.log.shutdown()
    assert not own.exists()
    assert other.exists()


def test_a_damaged_segment_gives_the_rest_and_is_kept(tmp_path: Path) -> None:
    """A flipped byte costs its request, counted; the others are published, the bytes are kept."""
    data = DataDirectory(tmp_path / "data")
    data.create()
    log = WriteAheadLog(data.wal, sync=False)
    log.start()
    for number in (1, 11, 21):
        seq = log.append(b"", request(number, 3))
    log.shutdown()
    path = segment_path(data.wal, seq)
    content = bytearray(path.read_bytes())
    content[content.index(b"span 12")] ^= 1
    path.write_bytes(content)
    run = Run(data)
    run.start()
    run.log.shutdown()
    assert published_numbers(data.spans) == [1, 2, 3, 21, 22, 23]
    assert run.counters.get("damaged_records") == 1
    assert run.counters.get("recovered") == 6
    assert [file.name for file in data.wal.iterdir()] == [f"{seq:016d}.wal.damaged"]


def test_a_request_that_cannot_be_normalised_costs_itself(tmp_path: Path) -> None:
    """One request that breaks the transform is dropped, counted and kept in the log's folder."""

    def fail(own: list[int]) -> None:
        if 12 in own:
            raise ValueError("a defect")

    data = DataDirectory(tmp_path / "data")
    data.create()
    run = Run(data)
    run.start()
    run.transform.fail = fail
    items = []
    for number in (1, 11, 21):
        seq = run.log.append(b"", request(number, 3))
        items.append(restore(Record(b"", request(number, 3)), seq))
    run.segments.write(seq, items)
    run.log.roll()
    run.segments.publish(seq)
    run.log.shutdown()
    assert published_numbers(data.spans) == [1, 2, 3, 21, 22, 23]
    assert run.counters.by_reason("dropped") == {"defect": 3}
    assert len(list(data.wal.glob("*.damaged"))) == 1
