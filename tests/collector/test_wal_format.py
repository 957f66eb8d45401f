"""The bytes of a log segment, and what a reader makes of damaged ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyflare_collector.wal_format import (
    RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    Damage,
    Record,
    encode_record_header,
    encode_segment_header,
    read_segment,
)

SALT = 0x12345678
BODIES = [(b"", b"first"), (b"note", b"second request"), (b"n", b"")]


def segment(bodies: list[tuple[bytes, bytes]], salt: int = SALT) -> bytes:
    """Return the bytes of a segment."""
    parts = [encode_segment_header(salt)]
    for note, payload in bodies:
        parts += [encode_record_header(salt, note, payload), note, payload]
    return b"".join(parts)


def read(tmp_path: Path, data: bytes) -> tuple[list[Record], Damage]:
    """Return the records and the damage of a segment with these bytes."""
    path = tmp_path / "segment.wal"
    path.write_bytes(data)
    damage = Damage()
    return list(read_segment(path, damage)), damage


@given(bodies=st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=200)), max_size=8))
def test_records_come_back(
    bodies: list[tuple[bytes, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever the bytes, every record comes back, in order, without damage."""
    records, damage = read(tmp_path_factory.mktemp("wal"), segment(bodies))
    assert records == [Record(*body) for body in bodies]
    assert damage == Damage()


def test_every_truncation_is_a_torn_tail(tmp_path: Path) -> None:
    """Cut at any byte: the records before the cut come back, and nothing counts as damaged."""
    data = segment(BODIES)
    ends = [SEGMENT_HEADER_BYTES]
    for note, payload in BODIES:
        ends.append(ends[-1] + RECORD_HEADER_BYTES + len(note) + len(payload))
    for cut in range(len(data) + 1):
        records, damage = read(tmp_path, data[:cut])
        whole = sum(end <= cut for end in ends[1:])
        assert records == [Record(*body) for body in BODIES[:whole]]
        assert damage.records == 0
        assert damage.torn_bytes == max(0, cut - ends[whole])


def test_a_flipped_byte_costs_one_record(tmp_path: Path) -> None:
    """Flip any byte: all records but the one that holds it come back."""
    data = segment(BODIES)
    ends = [SEGMENT_HEADER_BYTES]
    for note, payload in BODIES:
        ends.append(ends[-1] + RECORD_HEADER_BYTES + len(note) + len(payload))
    for position in range(len(data)):
        flipped = bytearray(data)
        flipped[position] ^= 0x40
        records, damage = read(tmp_path, bytes(flipped))
        hit = sum(end <= position for end in ends) - 1
        expected = [Record(*body) for i, body in enumerate(BODIES) if i != hit]
        assert records == expected
        if 0 <= hit < len(BODIES) - 1:
            assert damage.records == 1
        elif hit == len(BODIES) - 1:
            assert damage.torn_bytes > 0


def test_a_record_inside_a_payload_is_not_taken(tmp_path: Path) -> None:
    """A payload with the bytes of a record of another salt gives no record when its own is torn."""
    inner = segment([(b"", b"forged")], salt=SALT + 1)[SEGMENT_HEADER_BYTES:]
    data = bytearray(segment([(b"", b"a"), (b"", inner + inner), (b"", b"z")]))
    position = data.index(inner) - 3
    data[position] ^= 0xFF
    records, damage = read(tmp_path, bytes(data))
    assert [record.payload for record in records] == [b"a", b"z"]
    assert damage.records == 1


def test_an_empty_file_holds_nothing(tmp_path: Path) -> None:
    """A segment that was created and never written is read as empty."""
    assert read(tmp_path, b"") == ([], Damage())
