"""The receiver's life: start, ports, callbacks, shutdown."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from pyflare_collector.config import AuthConfig, GrpcConfig, HttpConfig, ReceiverConfig
from pyflare_collector.ingest import IngestResult
from pyflare_collector.receiver import OtlpReceiver
from pyflare_proto.errors import ConfigError, RetryableError, UsageError
from pyflare_proto.otlp.batch import OtlpBatch
from tests.collector.receiver_helpers import (
    Sink,
    call,
    post,
    request_bytes,
    running,
    running_alone,
)

OFF = ""
FREE = "127.0.0.1:0"


def receiver(grpc_endpoint: str, http_endpoint: str) -> OtlpReceiver:
    """Return a receiver that is not started."""
    config = ReceiverConfig(
        grpc=GrpcConfig(endpoint=grpc_endpoint), http=HttpConfig(endpoint=http_endpoint)
    )
    return OtlpReceiver(config, Sink())


@contextmanager
def taken_port() -> Iterator[int]:
    """Listen on a port of the loopback interface."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def nobody_listens(port: int) -> bool:
    """Whether nobody listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_addresses_are_those_that_clients_use() -> None:
    """With port 0 the addresses hold the ports that were found."""
    with running() as running_receiver:
        for address in (running_receiver.grpc_address, running_receiver.http_address):
            host, port = address.split(":")
            assert host == "127.0.0.1"
            assert int(port) > 0
        assert running_receiver.ready
    assert running_receiver.state == "stopped"


@pytest.mark.parametrize("endpoint", ["localhost:0", "[::1]:0", "0.0.0.0:0"])
def test_other_hosts(endpoint: str) -> None:
    """Names and IPv6 addresses can be listened on, and answer under the same host."""
    if endpoint.startswith("[") and not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    host = endpoint.removesuffix(":0")
    started = receiver(endpoint, endpoint)
    started.start()
    try:
        assert started.grpc_address.startswith(f"{host}:")
        assert call(started, request_bytes()).code is grpc.StatusCode.OK
        if not endpoint.startswith("["):
            assert post(started, request_bytes()).status == 200
    finally:
        started.shutdown(5)


@pytest.mark.parametrize(("flag", "number"), [("--grpc", 0), ("--http", 1)])
def test_a_port_taken_is_a_configuration_error(flag: str, number: int) -> None:
    """The error names the address and the flag, and no port stays open."""
    with taken_port() as port:
        endpoints = [OFF, OFF]
        endpoints[number] = f"127.0.0.1:{port}"
        failing = receiver(*endpoints)
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}: address already in use") as error:
            failing.start()
    assert error.value.hint == f"{flag} HOST:PORT, port 0 picks a free one"


def test_both_ports_or_none() -> None:
    """When the HTTP port is taken, the gRPC port is free again after the error."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        grpc_port = free.getsockname()[1]
    with taken_port() as port:
        failing = receiver(f"127.0.0.1:{grpc_port}", f"127.0.0.1:{port}")
        with pytest.raises(ConfigError, match="address already in use"):
            failing.start()
        assert nobody_listens(grpc_port)
        assert not failing.ready
        failing.shutdown()


@pytest.mark.parametrize("which", ["grpc_address", "http_address"])
def test_two_receivers_never_share_a_port(which: str) -> None:
    """A second collector on the same port fails instead of taking half of the requests."""
    with running() as first:
        address = getattr(first, which)
        endpoints = (address, OFF) if which == "grpc_address" else (OFF, address)
        with pytest.raises(ConfigError, match="address already in use"):
            receiver(*endpoints).start()


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [("no.such.host.invalid:0", "unknown host"), ("192.0.2.1:0", "no such address")],
)
def test_an_address_of_nobody(endpoint: str, reason: str) -> None:
    """An unknown name and another machine's address say so."""
    for endpoints in ((endpoint, OFF), (OFF, endpoint)):
        with pytest.raises(ConfigError, match=reason):
            receiver(*endpoints).start()


def test_one_server_alone() -> None:
    """An empty endpoint switches a server off."""
    for endpoints in ((FREE, OFF), (OFF, FREE)):
        started = receiver(*endpoints)
        started.start()
        assert bool(started.grpc_address) is bool(endpoints[0])
        assert bool(started.http_address) is bool(endpoints[1])
        started.shutdown(5)


def test_an_empty_token_is_a_configuration_error() -> None:
    """A token that came out empty must not let `Bearer ` in."""
    config = ReceiverConfig(auth=AuthConfig(bearer_tokens=("good", "")))
    with pytest.raises(ConfigError, match=r"bearer_tokens\[1\] is empty") as error:
        OtlpReceiver(config, Sink())
    assert "good" not in str(error.value)


def test_shutdown_at_any_time() -> None:
    """Shutdown works without start and twice; a receiver is started once."""
    never = receiver(FREE, FREE)
    never.shutdown()
    never.shutdown()
    with pytest.raises(UsageError, match="stopped"):
        never.start()
    with running() as once, pytest.raises(UsageError, match="ready"):
        once.start()


def test_shutdown_closes_the_ports() -> None:
    """Afterwards nobody listens, and a new receiver may have the same ports."""
    with running() as first:
        addresses = (first.grpc_address, first.http_address)
    second = receiver(*addresses)
    second.start()
    assert (second.grpc_address, second.http_address) == addresses
    assert call(second, request_bytes()).code is grpc.StatusCode.OK
    second.shutdown(5)
    assert all(nobody_listens(int(address.split(":")[1])) for address in addresses)


def test_shutdown_waits_for_the_requests_in_work() -> None:
    """Requests that have begun are answered with their own outcome on both ports."""
    entered = threading.Barrier(3, timeout=20)
    leave = threading.Event()

    def answer(_payload: bytes) -> IngestResult:
        entered.wait()
        leave.wait(20)
        return IngestResult(1)

    with running(Sink(answer)) as busy, ThreadPoolExecutor(3) as pool:
        by_grpc = pool.submit(call, busy, request_bytes())
        by_http = pool.submit(post, busy, request_bytes())
        entered.wait()
        stopped = pool.submit(busy.shutdown, 20.0)
        assert not stopped.done()
        leave.set()
        stopped.result(20)
        assert by_grpc.result(20).code is grpc.StatusCode.OK
        assert by_http.result(20).status == 200


def test_shutdown_gives_up_after_its_timeout() -> None:
    """An ingest that hangs does not hold a shutdown for longer than it was told to wait."""
    entered, leave = threading.Event(), threading.Event()

    def answer(_payload: bytes) -> IngestResult:
        entered.set()
        leave.wait(60)
        return IngestResult(1)

    with running(Sink(answer)) as stuck, ThreadPoolExecutor(1) as pool:
        sent = pool.submit(call, stuck, request_bytes())
        assert entered.wait(20)
        stuck.shutdown(0.1)
        assert stuck.state == "stopped"
        assert sent.result(20).code is not grpc.StatusCode.OK
        leave.set()


def test_callbacks_take_the_spans_without_an_ingest() -> None:
    """Alone, a receiver gives callbacks the decoded spans with valid ids, one call at a time."""
    batches: list[OtlpBatch] = []
    with running_alone() as alone:
        alone.on_spans(batches.append)
        request = ExportTraceServiceRequest.FromString(request_bytes(3))
        request.resource_spans[0].scope_spans[0].spans.add(name="no ids")
        assert call(alone, request.SerializeToString()).response
        assert post(alone, request_bytes(2)).status == 200
    assert [len(batch) for batch in batches] == [3, 2]
    assert batches[0].trace_id[0].tobytes() == b"\x01" * 16


def test_an_error_of_the_only_taker_is_the_answer() -> None:
    """What a callback cannot take is not acknowledged."""

    def refuse(_batch: OtlpBatch) -> None:
        raise RetryableError("not now", retry_after_s=1)

    with running_alone() as alone:
        alone.on_spans(refuse)
        assert call(alone, request_bytes()).code is grpc.StatusCode.UNAVAILABLE
        assert post(alone, request_bytes()).status == 503


def test_an_error_of_a_watcher_is_logged_only(caplog: pytest.LogCaptureFixture) -> None:
    """Behind an ingest a callback watches: the spans are kept, so the client must not repeat."""

    def fail(_batch: OtlpBatch) -> None:
        raise ZeroDivisionError

    sink = Sink()
    with running(sink) as watched:
        watched.on_spans(fail)
        assert call(watched, request_bytes()).code is grpc.StatusCode.OK
    assert sink.spans == 1
    assert "a callback of on_spans failed" in caplog.text


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False
