"""Decompression within limits."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyflare_collector.receiver.body import (
    MAX_MEMBERS,
    content_encodings,
    decompress,
    encoding_of,
)
from pyflare_collector.receiver.outcome import RefusedError
from pyflare_proto.errors import InvalidDataError

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": lambda data: _zstd().compress(data),
}
ENCODINGS = [name for name in COMPRESS if name in content_encodings()]


def _zstd():  # noqa: ANN202 - a module of one of two names
    try:
        from compression import zstd
    except ImportError:
        from backports import zstd
    return zstd


def hold(_size: int) -> None:
    """Agree to any size."""


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(pieces=st.lists(st.binary(max_size=300), min_size=1, max_size=4), limit=st.integers(0, 1200))
def test_the_content_or_a_refusal(encoding: str, pieces: list[bytes], limit: int) -> None:
    """What was compressed comes back exactly when it fits; several members are joined."""
    if encoding == "deflate":
        pieces = pieces[:1]
    content = b"".join(pieces)
    body = b"".join(COMPRESS[encoding](piece) for piece in pieces)
    if len(content) <= limit:
        assert decompress(body, encoding, limit, hold) == content
    else:
        with pytest.raises(RefusedError):
            decompress(body, encoding, limit, hold)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_truncation_is_invalid(encoding: str) -> None:
    """No proper prefix of a compressed body is taken for the whole."""
    body = COMPRESS[encoding](bytes(range(256)) * 4)
    for length in range(1, len(body)):
        with pytest.raises(InvalidDataError):
            decompress(body[:length], encoding, 10_000, hold)


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(noise=st.binary(min_size=1, max_size=200))
def test_noise_is_invalid_or_content(encoding: str, noise: bytes) -> None:
    """Random bytes raise InvalidDataError and nothing else (or happen to be compressed data)."""
    try:
        decompress(noise, encoding, 10_000, hold)
    except (InvalidDataError, RefusedError):
        return


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_bomb_stops_near_the_limit(encoding: str) -> None:
    """Of 256 MiB of zeros no more than the limit and one step are ever held."""
    size = 256 * 1024 * 1024
    limit = 4 * 1024 * 1024
    held: list[int] = []
    body = COMPRESS[encoding](bytes(size))
    with pytest.raises(RefusedError, match="after decompression"):
        decompress(body, encoding, limit, held.append)
    assert sum(held) <= limit
    assert max(held) <= 1024 * 1024


def test_empty_members_are_limited() -> None:
    """Millions of empty gzip members would cost time and stay below every limit of size."""
    empty = gzip.compress(b"")
    assert decompress(empty * MAX_MEMBERS, "gzip", 10, hold) == b""
    with pytest.raises(InvalidDataError, match="members"):
        decompress(empty * (MAX_MEMBERS + 1), "gzip", 10, hold)


def test_a_refusal_of_the_holder_ends_it() -> None:
    """When there is no room for the content, decompression stops with the holder's error."""

    def refuse(_size: int) -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        decompress(gzip.compress(b"x" * 1000), "gzip", 10_000, refuse)


def test_what_stands_behind_deflate_is_invalid() -> None:
    """A deflate body is one stream (RFC 9110)."""
    with pytest.raises(InvalidDataError, match="stand behind"):
        decompress(zlib.compress(b"x") + b"more", "deflate", 100, hold)


@pytest.mark.parametrize("content_type", [None, "", "text/json", "application/jsonx", "/"])
def test_other_content_types_are_refused(content_type: str | None) -> None:
    """Only the two media types of OTLP name an encoding."""
    with pytest.raises(RefusedError) as error:
        encoding_of(content_type)
    assert error.value.failure.http_status == 415
