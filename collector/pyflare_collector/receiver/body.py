"""HTTP bodies: what they are encoded as, and their decompression within a limit."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import cache
from typing import Protocol, cast

from pyflare_collector.receiver.outcome import Code, Encoding, RefusedError
from pyflare_proto.errors import InvalidDataError

__all__ = ["content_encodings", "decompress", "encoding_of", "media_type", "too_large"]

_MEDIA_TYPES: dict[str, Encoding] = {
    "application/x-protobuf": "protobuf",
    "application/protobuf": "protobuf",
    "application/json": "json",
}

_IN_CHUNK = 1 << 16
"""Compressed bytes given to a decompressor at once."""

_OUT_CHUNK = 1 << 20
"""Decompressed bytes taken at once: the most by which the limit can be overrun."""

MAX_MEMBERS = 4096
"""Most gzip members or zstd frames in a body: empty ones cost time and no bytes."""

ZSTD_WINDOW_LOG = 23
"""Largest window of a zstd frame, 2^23 bytes: RFC 9659's limit for HTTP."""


def media_type(content_type: str | None) -> str:
    """Return the media type of a Content-Type: lower case, without parameters."""
    return (content_type or "").partition(";")[0].strip().lower()


def encoding_of(content_type: str | None) -> Encoding:
    """Return the encoding that a Content-Type names.

    Raises:
        RefusedError: HTTP 415, for one that is missing or unknown.
    """
    media = media_type(content_type)
    encoding = _MEDIA_TYPES.get(media)
    if encoding is None:
        shown = f"Content-Type {media!r}" if media else "a request without Content-Type"
        raise RefusedError(
            Code.INVALID_ARGUMENT,
            f"{shown} is not supported, send application/x-protobuf or application/json",
            http_status=415,
        )
    return encoding


class _Decompressor(Protocol):
    """What the three libraries have in common, as `_inflate` uses it."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Zlib:
    """`zlib` behind the interface of `_Decompressor`: keeps the input it has not read."""

    def __init__(self, window_bits: int) -> None:
        self._inner = zlib.decompressobj(window_bits)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


@cache
def _zstd() -> Callable[[], _Decompressor] | None:
    """Return a maker of zstd decompressors, None where Python has none (before 3.14)."""
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]  # 3.14
    except ImportError:
        try:
            from backports import zstd  # type: ignore[no-redef, import-not-found, unused-ignore]
        except ImportError:
            return None
    options = {zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG}
    return lambda: cast("_Decompressor", zstd.ZstdDecompressor(options=options))


def content_encodings() -> dict[str, Callable[[bytes], _Decompressor]]:
    """Return the supported values of Content-Encoding, each with its decompressor.

    A maker is given the first bytes of the body: some senders of `deflate` leave
    out the zlib header that RFC 9110 asks for, and only the bytes tell.
    """
    known: dict[str, Callable[[bytes], _Decompressor]] = {
        "gzip": lambda _: _Zlib(16 + zlib.MAX_WBITS),
        "x-gzip": lambda _: _Zlib(16 + zlib.MAX_WBITS),
        "deflate": lambda head: _Zlib(zlib.MAX_WBITS if _zlib_header(head) else -zlib.MAX_WBITS),
    }
    if (zstd := _zstd()) is not None:
        known["zstd"] = lambda _: zstd()
    return known


def content_encoding_of(header: str | None) -> str:
    """Return the Content-Encoding of a request, empty for none.

    Raises:
        RefusedError: HTTP 415 with the supported ones in `Accept-Encoding` (RFC 7694).
    """
    name = (header or "").strip().lower()
    if name in ("", "identity"):
        return ""
    known = content_encodings()
    if name not in known:
        raise RefusedError(
            Code.INVALID_ARGUMENT,
            f"Content-Encoding {name!r} is not supported, send one of {', '.join(known)}",
            http_status=415,
            headers=(("Accept-Encoding", ", ".join(known)),),
        )
    return name


def too_large(limit: int, *, decompressed: bool = False) -> RefusedError:
    """Return the answer to a body over the limit of `limit` bytes."""
    when = " after decompression" if decompressed else ""
    return RefusedError(
        Code.RESOURCE_EXHAUSTED,
        f"the body is larger than {limit} bytes{when} (receiver.http.max_request_body_bytes)",
    )


def decompress(data: bytes, encoding: str, limit: int, hold: Callable[[int], None]) -> bytes:
    """Decompress a body, never beyond `limit` bytes.

    Args:
        data: the whole compressed body; gzip may have several members, zstd several frames.
        encoding: a key of `content_encodings`, or empty for a body that is not compressed.
        limit: largest size of the result, bytes.
        hold: told the size of each piece before it is kept; may raise.

    Raises:
        RefusedError: HTTP 413, the result is larger than `limit`.
        InvalidDataError: the bytes are truncated or no such compression.
    """
    if not encoding or not data:
        return data
    make = content_encodings()[encoding]
    pieces: list[bytes] = []
    total = members = 0
    rest = memoryview(data)
    while rest:
        members += 1
        if members > MAX_MEMBERS:
            raise InvalidDataError(f"the {encoding} body has more than {MAX_MEMBERS} members")
        decoder = make(bytes(rest[:2]))
        while rest and not decoder.eof:
            chunk, rest = bytes(rest[:_IN_CHUNK]), rest[_IN_CHUNK:]
            while True:
                piece = _step(decoder, chunk, encoding)
                chunk = b""
                total += len(piece)
                if total > limit:
                    raise too_large(limit, decompressed=True)
                if piece:
                    hold(len(piece))
                    pieces.append(piece)
                if len(piece) < _OUT_CHUNK or decoder.eof:
                    break
        if not decoder.eof:
            raise InvalidDataError(f"the {encoding} body is truncated")
        rest = _behind(data, rest, decoder, encoding)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _step(decoder: _Decompressor, chunk: bytes, encoding: str) -> bytes:
    try:
        return decoder.decompress(chunk, _OUT_CHUNK)
    except Exception as error:
        # zlib.error and the ZstdError of two libraries have no base in common.
        raise InvalidDataError(f"the body is not valid {encoding}: {error}") from error


def _behind(data: bytes, rest: memoryview, decoder: _Decompressor, encoding: str) -> memoryview:
    """Return what stands behind a member that has ended: the next one, or nothing.

    gzip allows zero padding behind the last member.
    """
    unused = len(decoder.unused_data) + len(rest)
    behind = memoryview(data)[len(data) - unused :]
    if not behind:
        return behind
    if encoding == "deflate":
        raise InvalidDataError(f"{unused} bytes stand behind the end of the deflate body")
    if encoding != "zstd" and not behind[0]:
        if bytes(behind).strip(b"\0"):
            raise InvalidDataError("bytes that are no gzip stand behind the end of the gzip body")
        return behind[unused:]
    return behind


def _zlib_header(head: bytes) -> bool:
    """Whether two bytes are a zlib header: method 8 and a check of 31 (RFC 1950)."""
    return len(head) == 2 and head[0] & 0x0F == 8 and int.from_bytes(head, "big") % 31 == 0
