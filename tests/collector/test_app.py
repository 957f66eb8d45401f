"""The collector as a whole: from its sockets to its files, and how it ends."""

from __future__ import annotations

import http.client
import json
import queue
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

from pyflare_collector.app import run_collector, stop_on_signals
from pyflare_collector.config import CollectorConfig, GrpcConfig, HttpConfig, ReceiverConfig
from pyflare_proto.errors import ConfigError
from pyflare_storage.dataset import DataDirectory
from pyflare_storage.prices import PriceBook
from tests.collector.pipeline_helpers import published_numbers, request

LOCAL = CollectorConfig(
    receiver=ReceiverConfig(
        grpc=GrpcConfig(endpoint="127.0.0.1:0"), http=HttpConfig(endpoint="127.0.0.1:0")
    )
)


@contextmanager
def running(data: DataDirectory) -> Iterator[tuple[str, str]]:
    """Run a collector in a thread; yield its gRPC and HTTP addresses, then stop it."""
    stop = threading.Event()
    ready: queue.Queue[tuple[str, str] | BaseException] = queue.Queue()

    def run() -> None:
        try:
            run_collector(LOCAL, data, lambda *at: ready.put(at), stop, prices=PriceBook())
        except BaseException as error:  # noqa: BLE001  # handed to the test's thread
            ready.put(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        answer = ready.get(timeout=200)
        if isinstance(answer, BaseException):
            raise answer
        yield answer
    finally:
        stop.set()
        thread.join(60)
        assert not thread.is_alive()


def exchange(address: str, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    """Return status and body of one HTTP request."""
    connection = http.client.HTTPConnection(address, timeout=30)
    headers = {"Content-Type": "application/x-protobuf"} if body else {}
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, content


@pytest.mark.service
def test_from_the_socket_to_the_files(tmp_path: Path) -> None:
    """Spans over gRPC and HTTP are in the files after the stop; `/status` and `/metrics` count."""
    data = DataDirectory(tmp_path / "data")
    with running(data) as (grpc_at, http_at):
        with grpc.insecure_channel(grpc_at) as channel:
            message = ExportTraceServiceRequest.FromString(request(1, 10))
            assert not TraceServiceStub(channel).Export(message).HasField("partial_success")
            message = ExportTraceServiceRequest.FromString(request(101, 4, bad_ids=1))
            answer = TraceServiceStub(channel).Export(message)
            assert answer.partial_success.rejected_spans == 1
        status, _ = exchange(http_at, "POST", "/v1/traces", request(11, 5))
        assert status == 200
        _, text = exchange(http_at, "GET", "/status")
        document = json.loads(text)
        assert document["state"] == "ready"
        assert document["spans"]["accepted"] == 18
        _, text = exchange(http_at, "GET", "/metrics")
        assert b"\npyflare_collector_spans_accepted_total 18\n" in text
    assert published_numbers(data.spans) == [*range(1, 16), *range(101, 104)]
    assert list(data.wal.iterdir()) == []


@pytest.mark.service
def test_a_second_collector_is_told(tmp_path: Path) -> None:
    """Two collectors on one directory: the second ends with an error, the first goes on."""
    data = DataDirectory(tmp_path / "data")
    with running(data) as (grpc_at, _):
        with pytest.raises(ConfigError, match="another collector"), running(data):
            pass
        with grpc.insecure_channel(grpc_at) as channel:
            TraceServiceStub(channel).Export(ExportTraceServiceRequest.FromString(request(1, 2)))
    assert published_numbers(data.spans) == [1, 2]


def test_the_second_signal_is_not_caught() -> None:
    """The first signal sets the event; then the system's own handling is in place again."""
    stop = threading.Event()
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signals(stop):
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_set()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is before
