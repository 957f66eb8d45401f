"""Files as OTLP requests: the format is told by the content, never by the name.

| content | read as |
|---|---|
| gzip | what is inside |
| protobuf | one or several ExportTraceServiceRequest, a resource at a time |
| 4-byte length, protobuf, and so on | the Collector's file exporter with `format: proto` |
| one JSON document | an ExportTraceServiceRequest in OTLP/JSON |
| a JSON document a line | the Collector's file exporter |

Memory: one resource of a protobuf file, one line of JSON lines, or one JSON document.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, cast

from pyflare_proto.errors import InvalidDataError
from pyflare_proto.otlp.jsonotlp import transcode

__all__ = ["BadLine", "read_payloads"]

_GZIP_MAGIC = b"\x1f\x8b"
_HEAD = 4096
"""Bytes at the beginning of a file that tell its format."""
_RESOURCE_SPANS = 0x0A
"""Tag of field 1, length-delimited: how every ExportTraceServiceRequest begins."""
_CONTROL = bytes(set(range(32)) - set(b"\t\r\n"))
"""Bytes that no JSON text holds and every protobuf request does (the tag of its scope spans)."""
_PIECE = 1 << 24
"""Bytes of a message that are read at once."""
_HINT = "`pyflare import` reads OTLP protobuf, OTLP/JSON, JSON lines and gzip of each"


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line of JSON lines that is no export request."""

    reason: str
    """Why, without the position, so that equal reasons can be counted."""
    line: int
    """Number of the line, from 1."""


def read_payloads(stream: BinaryIO, name: str) -> Iterator[bytes | BadLine]:
    """Yield the requests of a file as protobuf bytes.

    Args:
        stream: the file, at its beginning.
        name: what messages call it.

    Raises:
        InvalidDataError: the file is truncated, corrupt or of another format.
    """
    buffered = _buffered(stream)
    if buffered.peek(2)[:2] == _GZIP_MAGIC:
        with gzip.GzipFile(fileobj=buffered) as unpacked:
            inner = _buffered(cast("BinaryIO", unpacked))
            try:
                yield from _read_plain(inner, name)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise InvalidDataError(
                    f"{name}: the gzip stream is damaged or cut short ({error})",
                    hint="copy the file again, or unpack what is intact with `gzip -dc`",
                ) from None
    else:
        yield from _read_plain(buffered, name)


def _buffered(stream: BinaryIO) -> io.BufferedReader:
    return io.BufferedReader(cast("io.RawIOBase", stream), 1 << 20)


def _read_plain(stream: io.BufferedReader, name: str) -> Iterator[bytes | BadLine]:
    head = stream.peek(_HEAD)[:_HEAD]
    if not head:
        return
    if _is_json(head):
        yield from _read_json(stream, name)
    elif head[0] == _RESOURCE_SPANS:
        yield from _read_protobuf(stream, name)
    elif head[0] == 0:
        yield from _read_length_prefixed(stream, name)
    else:
        raise InvalidDataError(f"{name} is neither OTLP protobuf nor JSON", hint=_HINT)


def _is_json(head: bytes) -> bool:
    """Tell JSON from protobuf: a line feed is also the tag that every request begins with."""
    text = head.lstrip(b" \t\r\n")
    begins = text[:1] in (b"{", b"[", b"") or b'"resourceSpans"' in text
    return begins and len(head.translate(None, _CONTROL)) == len(head)


def _read_protobuf(stream: io.BufferedReader, name: str) -> Iterator[bytes]:
    """Yield each ResourceSpans as a request of its own; messages in a row are one message."""
    at = 0
    while tag := stream.read(1):
        if tag[0] != _RESOURCE_SPANS:
            raise InvalidDataError(f"{name}: no OTLP request at byte {at}", hint=_HINT)
        length, prefix = _read_varint(stream, name, at)
        body = _read_up_to(stream, length)
        if len(body) < length:
            raise _truncated(name, at)
        yield tag + prefix + body
        at += 1 + len(prefix) + length


def _read_varint(stream: io.BufferedReader, name: str, at: int) -> tuple[int, bytes]:
    value, raw = 0, b""
    while True:
        byte = stream.read(1)
        if not byte:
            raise _truncated(name, at)
        raw += byte
        value |= (byte[0] & 0x7F) << (7 * (len(raw) - 1))
        if byte[0] < 0x80:
            return value, raw
        if len(raw) >= 5:
            raise InvalidDataError(f"{name}: no OTLP request at byte {at}", hint=_HINT)


def _read_length_prefixed(stream: io.BufferedReader, name: str) -> Iterator[bytes]:
    at = 0
    while prefix := stream.read(4):
        length = int.from_bytes(prefix, "big")
        body = _read_up_to(stream, length) if len(prefix) == 4 else b""
        if len(prefix) < 4 or len(body) < length:
            raise _truncated(name, at)
        if body and body[0] != _RESOURCE_SPANS:
            raise InvalidDataError(f"{name} is neither OTLP protobuf nor JSON", hint=_HINT)
        yield body
        at += 4 + length


def _read_up_to(stream: io.BufferedReader, length: int) -> bytes:
    """Read a message: a length that is a lie takes no memory that the file does not fill."""
    if length <= _PIECE:
        return stream.read(length)
    pieces = []
    while length and (piece := stream.read(min(length, _PIECE))):
        pieces.append(piece)
        length -= len(piece)
    return b"".join(pieces)


def _truncated(name: str, at: int) -> InvalidDataError:
    return InvalidDataError(
        f"{name} is truncated: the message at byte {at} is not whole",
        hint="copy or export the file again; nothing of it was imported",
    )


def _read_json(stream: io.BufferedReader, name: str) -> Iterator[bytes | BadLine]:
    number, line = 0, b""
    while not line:
        raw = stream.readline()
        if not raw:
            return
        number += 1
        line = raw.strip()
    if not (line.startswith(b"{") and line.endswith(b"}")):
        yield from _document_or_lines(line + b"\n" + stream.read(), number, name)
        return
    following = _next_line(stream)
    if following is None:
        yield _document(line, name)
        return
    yield _line(line, number)
    while following is not None:
        skipped, line = following
        number += skipped
        yield _line(line, number)
        following = _next_line(stream)


def _document_or_lines(text: bytes, number: int, name: str) -> Iterator[bytes | BadLine]:
    """Yield a document over several lines, or the lines after a first one that is damaged."""
    lines = [line.strip() for line in text.splitlines()]
    if not any(_is_request(line) for line in lines[1:]):
        yield _document(text, name)
        return
    for at, line in enumerate(lines):
        if line:
            yield _line(line, number + at)


def _is_request(line: bytes) -> bool:
    """Tell a line that is a request by itself: no line of a longer document is one."""
    return line.startswith(b"{") and line.endswith(b"}") and b'"resourceSpans"' in line


def _next_line(stream: io.BufferedReader) -> tuple[int, bytes] | None:
    """Return the next line that is not blank with how many lines on it stands."""
    skipped = 0
    while raw := stream.readline():
        skipped += 1
        if line := raw.strip():
            return skipped, line
    return None


def _document(text: bytes, name: str) -> bytes:
    reason = _why_not_traces(text)
    if reason is None:
        try:
            return transcode(text)
        except InvalidDataError as error:
            reason = error.message
    raise InvalidDataError(f"{name}: {reason}", hint=_HINT)


def _line(text: bytes, number: int) -> bytes | BadLine:
    reason = _why_not_traces(text)
    if reason is not None:
        return BadLine(reason, number)
    try:
        return transcode(text)
    except InvalidDataError as error:
        return BadLine(error.message, number)


def _why_not_traces(text: bytes) -> str | None:
    if b'"resourceSpans"' in text:
        return None
    for key, signal in ((b'"resourceLogs"', "logs"), (b'"resourceMetrics"', "metrics")):
        if key in text:
            return f"holds {signal}, not traces"
    return None if text.strip() == b"{}" else "no resourceSpans: not an OTLP/JSON export"
