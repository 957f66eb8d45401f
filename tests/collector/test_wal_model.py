"""The log against a model of it: random histories of writes, crashes and damage."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pyflare_collector.wal import WriteAheadLog, segment_path
from pyflare_collector.wal_format import (
    RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    Damage,
    Record,
    encode_record_header,
)


@dataclass
class Written:
    """A record that was acknowledged, and where it lies."""

    record: Record
    start: int
    end: int
    lost: bool = False
    """Damage has hit its bytes."""


class LogMachine(RuleBasedStateMachine):
    """Keeps beside the log what it has acknowledged, by segment."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.model: dict[int, list[Written]] = {}
        self.torn: dict[int, list[Record]] = {}
        self.count = 0

    def teardown(self) -> None:
        """Remove the folder."""
        self.log.shutdown()
        shutil.rmtree(self.folder)

    @initialize()
    def begin(self) -> None:
        """Start the first run."""
        self.open()

    def open(self) -> None:
        """Start a run."""
        # Without syncs: the model crashes the process; the disk's cache is not part of it.
        self.log = WriteAheadLog(self.folder, sync=False)
        self.log.start()

    @rule(note=st.binary(max_size=8), payload=st.binary(max_size=64))
    def write(self, note: bytes, payload: bytes) -> None:
        """Append a record; when it returns, it is acknowledged."""
        self.count += 1
        record = Record(note, b"%d:" % self.count + payload)
        seq = self.log.append(*record)
        written = self.model.setdefault(seq, [])
        start = written[-1].end if written else SEGMENT_HEADER_BYTES
        size = RECORD_HEADER_BYTES + len(record.note) + len(record.payload)
        written.append(Written(record, start, start + size))

    @rule()
    def roll(self) -> None:
        """Seal the segment."""
        self.log.roll()

    @precondition(lambda self: self.log.unpublished())
    @rule()
    def publish(self) -> None:
        """Remove the oldest sealed segment, as the writer does when its file is in place."""
        seq = self.log.unpublished()[0]
        self.log.remove(seq)
        del self.model[seq]
        self.torn.pop(seq, None)

    @rule(data=st.data(), payload=st.binary(max_size=64))
    def crash_while_writing(self, data: st.DataObject, payload: bytes) -> None:
        """Die with a part of a further record on the disk, then start again."""
        open_segment = self.log.open_segment()
        self.log.shutdown()
        if open_segment is not None:
            self.tear(open_segment.seq, data, payload)
        self.open()

    def tear(self, seq: int, data: st.DataObject, payload: bytes) -> None:
        """Append a prefix of a record that is not acknowledged."""
        record = Record(b"", b"torn:" + payload)
        salt = self.log._salt
        whole = encode_record_header(salt, *record) + record.payload
        cut = data.draw(st.integers(0, len(whole)), label="cut")
        with segment_path(self.folder, seq).open("ab") as file:
            file.write(whole[:cut])
        if cut == len(whole):
            self.torn.setdefault(seq, []).append(record)

    @precondition(lambda self: self.log.unpublished())
    @rule(data=st.data(), bit=st.integers(0, 7))
    def damage(self, data: st.DataObject, bit: int) -> None:
        """Flip a bit of a sealed segment."""
        seq = data.draw(st.sampled_from(self.log.unpublished()), label="segment")
        path = segment_path(self.folder, seq)
        content = bytearray(path.read_bytes())
        position = data.draw(st.integers(0, len(content) - 1), label="position")
        content[position] ^= 1 << bit
        path.write_bytes(content)
        for written in self.model[seq]:
            written.lost = written.lost or written.start <= position < written.end

    @invariant()
    def nothing_intact_is_missing(self) -> None:
        """Sealed segments give their intact acknowledged records in order, once, and no others."""
        if not hasattr(self, "log"):
            return
        for seq in self.log.unpublished():
            found = list(self.log.read(seq, Damage()))
            certain = [w.record for w in self.model[seq] if not w.lost]
            possible = [w.record for w in self.model[seq]] + self.torn.get(seq, [])
            assert [record for record in found if record in certain] == certain
            assert all(record in possible for record in found)
            assert len(set(found)) == len(found)

    @invariant()
    def no_segment_is_forgotten(self) -> None:
        """Every segment with acknowledged records is open or waits to be replayed."""
        if hasattr(self, "log"):
            open_segment = self.log.open_segment()
            known = set(self.log.unpublished())
            if open_segment is not None:
                known.add(open_segment.seq)
            assert set(self.model) <= known


LogMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestLogModel = LogMachine.TestCase
