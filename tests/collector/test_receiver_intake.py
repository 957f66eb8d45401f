"""Admission: bounds, patience and the closing of the gate."""

from __future__ import annotations

import contextlib
import gzip
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from pyflare_collector.config import AuthConfig, GrpcConfig
from pyflare_collector.ingest import IngestResult
from pyflare_collector.receiver.auth import BearerAuth
from pyflare_collector.receiver.grpc_server import WORKERS, GrpcServer
from pyflare_collector.receiver.intake import PATIENCE_S, Intake
from pyflare_proto.errors import RetryableError
from tests.collector.receiver_helpers import (
    EXPORT,
    PROTOBUF,
    Sink,
    call,
    channel,
    post,
    raw_connection,
    read_raw,
    request_bytes,
    running,
    wait_until,
)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_bytes_in_work_are_bounded() -> None:
    """A request that would exceed the bound is refused as retryable; room comes back."""
    intake = Intake(Sink(), max_bytes=100)
    with intake.admit() as first, intake.admit() as second:
        first.grow(60)
        second.grow(40)
        with pytest.raises(RetryableError, match="100 bytes are in work"):
            second.grow(1)
        assert intake.bytes_in_flight == 100
        assert intake.requests_in_flight == 2
    assert (intake.bytes_in_flight, intake.requests_in_flight) == (0, 0)


def test_one_request_alone_may_exceed_the_bound() -> None:
    """Else a request larger than the bound could never be taken; beside it nothing is admitted."""
    intake = Intake(Sink(), max_bytes=100)
    with intake.admit() as alone:
        alone.grow(60)
        alone.grow(60)
        with pytest.raises(RetryableError):
            intake.admit()


def test_a_refused_request_gives_its_bytes_back() -> None:
    """An error inside the block releases what the request held."""
    intake = Intake(Sink(), max_bytes=100)
    with contextlib.suppress(ZeroDivisionError), intake.admit() as slot:
        slot.grow(50)
        raise ZeroDivisionError
    assert (intake.bytes_in_flight, intake.requests_in_flight) == (0, 0)


def test_patience_ends() -> None:
    """Exactly the allowed wait is fine, more is retryable."""
    clock = Clock()
    intake = Intake(Sink(), max_bytes=1, clock=clock)
    clock.now += PATIENCE_S
    intake.check_patience(100.0)
    clock.now += 0.1
    with pytest.raises(RetryableError, match=r"waited 2\.1 s"):
        intake.check_patience(100.0)


def test_a_drained_gate_lets_nothing_through() -> None:
    """After drain both admission and take refuse, and the ingest is not called."""
    sink = Sink()
    intake = Intake(sink, max_bytes=100)
    slot = intake.admit()
    assert not intake.drain(0.0)
    with pytest.raises(RetryableError, match="shutting down"):
        intake.admit()
    with pytest.raises(RetryableError, match="shutting down"):
        intake.take(request_bytes())
    slot.__exit__(None, None, None)
    assert intake.drain(0.0)
    assert sink.payloads == []


def test_too_many_bytes_are_refused_on_both_ports() -> None:
    """While one request holds the room, others are told to try again; then they succeed."""
    entered, leave = threading.Event(), threading.Event()

    def answer(_payload: bytes) -> IngestResult:
        entered.set()
        leave.wait(20)
        return IngestResult(1)

    large = request_bytes(1, name="x" * 50_000)
    with (
        running(Sink(answer), max_in_flight_bytes=60_000) as receiver,
        ThreadPoolExecutor(1) as pool,
    ):
        first = pool.submit(post, receiver, large)
        assert entered.wait(20)
        refused = call(receiver, large)
        assert refused.code is grpc.StatusCode.UNAVAILABLE
        assert "google.rpc.retryinfo-bin" in refused.trailers
        assert post(receiver, large).status == 503
        # Refused by its declared length alone, before its body is sent.
        with raw_connection(receiver) as connection:
            connection.sendall(
                b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n"
                b"Content-Type: application/x-protobuf\r\n\r\n"
            )
            assert read_raw(connection).status == 503
        leave.set()
        assert first.result(20).status == 200
        assert post(receiver, large).status == 200
        assert call(receiver, large).code is grpc.StatusCode.OK


def test_what_decompression_yields_counts() -> None:
    """A small compressed body is refused when its content exceeds the room beside others."""
    entered, leave = threading.Event(), threading.Event()

    def answer(_payload: bytes) -> IngestResult:
        entered.set()
        leave.wait(20)
        return IngestResult(1)

    with (
        running(Sink(answer), max_in_flight_bytes=60_000) as receiver,
        ThreadPoolExecutor(1) as pool,
    ):
        first = pool.submit(post, receiver, request_bytes())
        assert entered.wait(20)
        body = gzip.compress(request_bytes(1, name="x" * 100_000))
        refused = post(receiver, body, {**PROTOBUF, "Content-Encoding": "gzip"})
        assert refused.status == 503
        leave.set()
        assert first.result(20).status == 200


def test_calls_that_waited_too_long_for_a_worker_are_sent_back() -> None:
    """With all workers busy, a call behind them is refused as retryable, not worked on late."""
    clock = Clock()
    leave = threading.Event()
    entered: list[int] = []

    def answer(_payload: bytes) -> IngestResult:
        entered.append(1)
        leave.wait(20)
        return IngestResult(1)

    with (
        running(Sink(answer), clock=clock) as receiver,
        channel(receiver) as opened,
    ):
        send = opened.unary_unary(EXPORT)
        first = [send.future(request_bytes(), timeout=20) for _ in range(WORKERS)]
        wait_until(lambda: len(entered) == WORKERS)
        late = [send.future(request_bytes(), timeout=20) for _ in range(8)]
        # They have arrived, at the time before it passes, when they stand in the queue.
        wait_until(lambda: _queued(receiver) == 8)
        clock.now += PATIENCE_S + 1
        leave.set()
        assert [future.result() for future in first] == [b""] * WORKERS
        for future in late:
            assert future.code() is grpc.StatusCode.UNAVAILABLE
        assert len(entered) == WORKERS


def _queued(receiver: object) -> int:
    """Return the number of calls that wait for a worker."""
    pool = receiver._grpc._pool  # type: ignore[attr-defined]  # looks inside on purpose
    return int(pool._work_queue.qsize())


def test_a_message_that_does_not_arrive_frees_its_worker() -> None:
    """A call whose message stays out is cancelled, which clients may repeat; nothing is taken."""
    sink = Sink()
    intake = Intake(sink, max_bytes=1000)
    config = GrpcConfig(endpoint="127.0.0.1:0")
    server = GrpcServer(config, BearerAuth(AuthConfig()), intake, receive_timeout_s=0.2)
    server.start()
    never = threading.Event()

    def nothing() -> Iterator[bytes]:
        never.wait(20)
        yield b""

    try:
        with grpc.insecure_channel(server.address) as opened:
            with pytest.raises(grpc.RpcError) as error:
                opened.stream_unary(EXPORT)(nothing(), timeout=20)
            never.set()
            assert error.value.code() is grpc.StatusCode.CANCELLED
            assert opened.unary_unary(EXPORT)(request_bytes(), timeout=20) == b""
    finally:
        server.stop(1.0)
    assert len(sink.payloads) == 1
    assert intake.requests_in_flight == 0


def test_a_call_without_a_message_is_invalid() -> None:
    """A stream that ends at once is no request."""
    with running() as receiver, channel(receiver) as opened:
        with pytest.raises(grpc.RpcError) as error:
            opened.stream_unary(EXPORT)(iter(()), timeout=20)
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_client_that_gave_up_leaves_nothing() -> None:
    """A call whose deadline passes while it waits for a worker is not ingested later."""
    leave = threading.Event()
    entered: list[int] = []

    def answer(_payload: bytes) -> IngestResult:
        entered.append(1)
        leave.wait(20)
        return IngestResult(1)

    with running(Sink(answer)) as receiver, channel(receiver) as opened:
        send = opened.unary_unary(EXPORT)
        first = [send.future(request_bytes(), timeout=20) for _ in range(WORKERS)]
        wait_until(lambda: len(entered) == WORKERS)
        given_up = send.future(request_bytes(2), timeout=0.3)
        wait_until(lambda: _queued(receiver) == 1)
        assert given_up.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        # The server hears of it a moment after the client.
        time.sleep(0.3)
        leave.set()
        for future in first:
            future.result()
        wait_until(lambda: receiver._intake.requests_in_flight == 0)
    assert len(entered) == WORKERS
