"""The bytes of a write-ahead log segment, and a reader that survives damage.

A segment is a header and records, one after the other, little-endian:

    segment header   magic "PFLWAL01", salt u32, crc32 of the twelve bytes before
    record           magic "PFR1", salt u32, type u8, 3 zero bytes, note length u32,
                     payload length u32, crc32 of note and payload u32,
                     crc32 of the 24 bytes before u32; then the note, then the payload

The payload is an export request as it arrived, the note is what the collector
decided about it (`pyflare_collector.decision`). The record header has a checksum of
its own, so a damaged body costs one record: its length can still be trusted. After a
damaged header the reader looks for the next record magic.

The salt is random for each log and starts every checksum, so that a payload that
holds the bytes of a record is never taken for one when the reader searches.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pyflare_proto.errors import InvalidDataError

__all__ = [
    "RECORD_HEADER_BYTES",
    "SEGMENT_HEADER_BYTES",
    "Damage",
    "Record",
    "encode_record_header",
    "encode_segment_header",
    "read_segment",
]

_SEGMENT_MAGIC = b"PFLWAL01"
_RECORD_MAGIC = b"PFR1"
_SEGMENT = struct.Struct("<8sI")
_RECORD = struct.Struct("<4sIB3xIII")
_CRC = struct.Struct("<I")

SEGMENT_HEADER_BYTES = _SEGMENT.size + _CRC.size
RECORD_HEADER_BYTES = _RECORD.size + _CRC.size

REQUEST_RECORD = 1
"""Type of a record that holds one `ExportTraceServiceRequest`."""

_MAX_BODY_BYTES = 2**32 - 1


class Record(NamedTuple):
    """One intact record."""

    note: bytes
    payload: bytes


@dataclass(slots=True)
class Damage:
    """What a reader had to leave out; filled while it reads."""

    records: int = 0
    """Damaged places with intact records behind them: each held at least one record."""
    torn_bytes: int = 0
    """Bytes at the end that form no whole record: a write that a crash cut short."""


def encode_segment_header(salt: int) -> bytes:
    """Return the header of a segment whose records are salted with `salt` (u32)."""
    head = _SEGMENT.pack(_SEGMENT_MAGIC, salt)
    return head + _CRC.pack(zlib.crc32(head))


def encode_record_header(salt: int, note: bytes, payload: bytes) -> bytes:
    """Return the header that stands before `note` and `payload` in the segment.

    Raises:
        InvalidDataError: note or payload has 4 GiB or more.
    """
    if max(len(note), len(payload)) > _MAX_BODY_BYTES:
        raise InvalidDataError(f"a request of {len(payload)} bytes does not fit a log record")
    body_crc = zlib.crc32(payload, zlib.crc32(note, salt))
    head = _RECORD.pack(_RECORD_MAGIC, salt, REQUEST_RECORD, len(note), len(payload), body_crc)
    return head + _CRC.pack(zlib.crc32(head, salt))


def read_segment(path: Path, damage: Damage) -> Iterator[Record]:
    """Yield the intact records of a segment in order; count in `damage` what is not.

    Memory: one record at a time, the file is mapped.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        if size == 0:
            return
        with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as data:
            yield from _records(data, size, damage)


class _Header(NamedTuple):
    salt: int
    kind: int
    note_length: int
    payload_length: int
    body_crc: int


def _records(data: mmap.mmap, size: int, damage: Damage) -> Iterator[Record]:
    salt = _segment_salt(data, size)
    position = min(SEGMENT_HEADER_BYTES, size)
    while position < size:
        header = _header_at(data, position, size, salt)
        if header is None:
            following = _next_header(data, position + 1, size, salt)
            if following is None:
                damage.torn_bytes += size - position
                return
            damage.records += 1
            position = following
            continue
        salt = header.salt
        note_start = position + RECORD_HEADER_BYTES
        payload_start = note_start + header.note_length
        end = payload_start + header.payload_length
        if end > size:
            damage.torn_bytes += size - position
            return
        note, payload = data[note_start:payload_start], data[payload_start:end]
        if zlib.crc32(payload, zlib.crc32(note, salt)) != header.body_crc:
            # Writing a group stops short in its last pages: without anything behind it,
            # a damaged body is a torn write and not a loss of something acknowledged.
            if end == size:
                damage.torn_bytes += size - position
                return
            damage.records += 1
        elif header.kind == REQUEST_RECORD:
            yield Record(note, payload)
        else:
            damage.records += 1
        position = end


def _segment_salt(data: mmap.mmap, size: int) -> int | None:
    """Return the salt, or None where the segment header is damaged: then the first record says."""
    if size < SEGMENT_HEADER_BYTES:
        return None
    head = data[: _SEGMENT.size]
    magic, salt = _SEGMENT.unpack(head)
    (crc,) = _CRC.unpack_from(data, _SEGMENT.size)
    return int(salt) if magic == _SEGMENT_MAGIC and crc == zlib.crc32(head) else None


def _header_at(data: mmap.mmap, position: int, size: int, salt: int | None) -> _Header | None:
    if position + RECORD_HEADER_BYTES > size:
        return None
    head = data[position : position + _RECORD.size]
    magic, own_salt, kind, note_length, payload_length, body_crc = _RECORD.unpack(head)
    (crc,) = _CRC.unpack_from(data, position + _RECORD.size)
    if magic != _RECORD_MAGIC or (salt is not None and own_salt != salt):
        return None
    if crc != zlib.crc32(head, own_salt):
        return None
    return _Header(own_salt, kind, note_length, payload_length, body_crc)


def _next_header(data: mmap.mmap, start: int, size: int, salt: int | None) -> int | None:
    position = data.find(_RECORD_MAGIC, start)
    while position != -1:
        if _header_at(data, position, size, salt) is not None:
            return position
        position = data.find(_RECORD_MAGIC, position + 1)
    return None
