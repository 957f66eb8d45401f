"""What hostile and too many requests cost in memory, measured from outside."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from tests.collector.receiver_helpers import EXPORT, PROTOBUF

pytestmark = [
    pytest.mark.service,
    pytest.mark.skipif(sys.platform != "linux", reason="reads peak memory as Linux counts it"),
]

MIB = 1024 * 1024
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Server:
    """A receiver in another process."""

    grpc: str
    http: str
    grown_bytes: int = 0
    """Peak of its memory over that at the start, known after the `with` block."""


@contextmanager
def process(limit: int, *, in_flight: int = 512 * MIB, seconds: float = 0.0) -> Iterator[Server]:
    """Run a receiver in a process of its own."""
    folders = ["collector", "storage", "proto", "."]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(ROOT / f) for f in folders)}
    arguments = [str(limit), str(in_flight), str(seconds)]
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.collector.receiver_process", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=ROOT,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        server = Server(**json.loads(child.stdout.readline()))
        yield server
        child.stdin.write("\n")
        child.stdin.flush()
        server.grown_bytes = json.loads(child.stdout.readline())["grown_bytes"]
        assert child.wait(20) == 0
    finally:
        child.kill()
        child.wait()


def post(server: Server, body: bytes, headers: dict[str, str]) -> int:
    """Send a request; the status."""
    host, port = server.http.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    try:
        connection.request("POST", "/v1/traces", body, headers)
        return connection.getresponse().status
    finally:
        connection.close()


def zeros(size: int) -> bytes:
    """Return `size` zeros compressed by gzip, without holding them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(bytes(MIB)) for _ in range(size // MIB)) + packer.flush()


def test_h11_a_bomb_over_http() -> None:
    """512 MiB of zeros in half a megabyte are answered 413 and never unpacked whole."""
    with process(4 * MIB) as server:
        assert post(server, zeros(512 * MIB), {**PROTOBUF, "Content-Encoding": "gzip"}) == 413
    assert server.grown_bytes < 32 * MIB


def test_g04_a_bomb_over_grpc() -> None:
    """128 MiB of zeros, compressed by the client, are RESOURCE_EXHAUSTED and never unpacked."""
    options = [("grpc.max_send_message_length", -1)]
    with process(4 * MIB) as server, grpc.insecure_channel(server.grpc, options) as channel:
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary(EXPORT)(
                bytes(128 * MIB), compression=grpc.Compression.Gzip, timeout=60
            )
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert server.grown_bytes < 32 * MIB


def test_requests_beyond_the_bound_are_refused_and_cost_nothing() -> None:
    """Of 24 requests of 8 MiB at once some are refused, and memory stays near the bound."""
    body = b"\xa2\x06\x80\x80\x80\x04" + bytes(8 * MIB)
    with (
        process(16 * MIB, in_flight=48 * MIB, seconds=0.3) as server,
        ThreadPoolExecutor(24) as pool,
    ):
        statuses = Counter(pool.map(lambda _: post(server, body, PROTOBUF), range(24)))
    assert set(statuses) == {200, 503}
    # The bound, one body being put together, and what sockets and threads hold.
    assert server.grown_bytes < 48 * MIB + 8 * MIB + 40 * MIB
