"""Starts receivers for tests, and speaks to them byte by byte."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import orjson
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from pyflare_collector.config import AuthConfig, GrpcConfig, HttpConfig, ReceiverConfig
from pyflare_collector.ingest import IngestResult
from pyflare_collector.receiver import OtlpReceiver
from tests.otlp_payloads import key_values

PROTOBUF = {"Content-Type": "application/x-protobuf"}
JSON = {"Content-Type": "application/json"}
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


class Sink:
    """An ingest in memory: keeps what it is given, and answers as it is told.

    Args:
        answer: makes the answer of a payload, or raises; by default all is accepted.
    """

    def __init__(self, answer: Callable[[bytes], IngestResult] | None = None) -> None:
        self._answer = answer
        self._lock = threading.Lock()
        self.payloads: list[bytes] = []

    def __call__(self, payload: bytes, /) -> IngestResult:
        """Keep a payload unless the answer is an error."""
        result = self._answer(payload) if self._answer else IngestResult(spans_in(payload))
        with self._lock:
            self.payloads.append(payload)
        return result

    @property
    def spans(self) -> int:
        """Spans kept."""
        return sum(spans_in(payload) for payload in self.payloads)


def raising(error: Exception) -> Sink:
    """Return a sink that answers everything with an error."""

    def answer(_payload: bytes) -> IngestResult:
        raise error

    return Sink(answer)


@contextmanager
def running(
    ingest: Callable[[bytes], IngestResult] | None = None,
    *,
    grpc_config: GrpcConfig | None = None,
    http_config: HttpConfig | None = None,
    tokens: tuple[str, ...] = (),
    **options: Any,
) -> Iterator[OtlpReceiver]:
    """Run a receiver on free ports of the loopback interface."""
    with _started(ingest or Sink(), grpc_config, http_config, tokens, options) as receiver:
        yield receiver


@contextmanager
def running_alone(
    note: Callable[[int], object] = lambda _: None, **options: Any
) -> Iterator[OtlpReceiver]:
    """Run a receiver without an ingest, on the real decoder.

    Args:
        note: told the number of spans taken of each request.
        options: as of `running`.
    """
    with _started(None, None, options.pop("http_config", None), (), options) as receiver:
        receiver.on_spans(lambda batch: note(len(batch)))
        yield receiver


@contextmanager
def _started(
    ingest: Callable[[bytes], IngestResult] | None,
    grpc_config: GrpcConfig | None,
    http_config: HttpConfig | None,
    tokens: tuple[str, ...],
    options: Mapping[str, Any],
) -> Iterator[OtlpReceiver]:
    config = ReceiverConfig(
        grpc=replace(grpc_config or GrpcConfig(), endpoint="127.0.0.1:0"),
        http=replace(http_config or HttpConfig(), endpoint="127.0.0.1:0"),
        auth=AuthConfig(bearer_tokens=tokens),
    )
    receiver = OtlpReceiver(config, ingest, **options)
    receiver.start()
    try:
        yield receiver
    finally:
        receiver.shutdown(5.0)


def varint(number: int) -> bytes:
    """Return the protobuf encoding of a number that is not negative."""
    result = bytearray()
    while number > 0x7F:
        result.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*result, number])


def wait_until(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Wait for a condition that another thread brings about; fail after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come about"
        time.sleep(0.005)


def request_bytes(spans: int = 1, *, trace_id: bytes = b"\x01" * 16, name: str = "chat") -> bytes:
    """Return a request of `spans` spans of one trace."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.extend(key_values({"service.name": "shop"}))
    scope = resource.scope_spans.add()
    for number in range(1, spans + 1):
        scope.spans.add(
            trace_id=trace_id,
            span_id=number.to_bytes(8, "big"),
            name=name,
            kind=3,
            start_time_unix_nano=1_760_000_000_000_000_000,
            end_time_unix_nano=1_760_000_001_000_000_000,
        )
    return request.SerializeToString()


def spans_in(payload: bytes) -> int:
    """Return the number of spans of a request, through the official parser."""
    request = ExportTraceServiceRequest.FromString(payload)
    return sum(len(s.spans) for r in request.resource_spans for s in r.scope_spans)


@dataclass
class Answer:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    """By lower-case name."""
    body: bytes

    @property
    def error(self) -> Status:
        """The body as a `google.rpc.Status`, in the encoding that its Content-Type says."""
        if self.headers["content-type"] == "application/x-protobuf":
            return Status.FromString(self.body)
        assert self.headers["content-type"] == "application/json"
        document = orjson.loads(self.body)
        assert set(document) <= {"code", "message", "details"}
        return Status(code=document["code"], message=document["message"])

    @property
    def document(self) -> Any:
        """The body as JSON."""
        return orjson.loads(self.body)


def post(
    receiver: OtlpReceiver,
    body: Any = b"",
    headers: Mapping[str, str] = PROTOBUF,
    *,
    path: str = "/v1/traces",
    method: str = "POST",
) -> Answer:
    """Send one HTTP request on a connection of its own."""
    host, port = receiver.http_address.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    try:
        chunked = not isinstance(body, bytes)
        connection.request(method, path, body, dict(headers), encode_chunked=chunked)
        return read_answer(connection)
    finally:
        connection.close()


def get(receiver: OtlpReceiver, path: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Get a page."""
    return post(receiver, b"", headers or {}, path=path, method="GET")


def read_answer(connection: http.client.HTTPConnection) -> Answer:
    """Read the answer on a connection."""
    response = connection.getresponse()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, response.read())


def raw_connection(receiver: OtlpReceiver) -> socket.socket:
    """Return a socket connected to the HTTP server."""
    host, port = receiver.http_address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=20)


def read_raw(connection: socket.socket) -> Answer:
    """Read one answer from a socket."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, response.read())


@dataclass
class Call:
    """The outcome of a gRPC call."""

    code: grpc.StatusCode
    details: str
    response: bytes = b""
    trailers: dict[str, str | bytes] = field(default_factory=dict)
    status: Status | None = None
    """From `grpc-status-details-bin`."""


@contextmanager
def channel(receiver: OtlpReceiver, **options: Any) -> Iterator[grpc.Channel]:
    """Connect to the gRPC server."""
    pairs = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    pairs += [(f"grpc.{name}", value) for name, value in options.items()]
    with grpc.insecure_channel(receiver.grpc_address, options=pairs) as open_channel:
        yield open_channel


def call(
    receiver: OtlpReceiver,
    payload: bytes = b"",
    *,
    method: str = EXPORT,
    through: grpc.Channel | None = None,
    **options: Any,
) -> Call:
    """Make one unary call with raw bytes."""
    if through is None:
        with channel(receiver) as opened:
            return call(receiver, payload, method=method, through=opened, **options)
    try:
        response = through.unary_unary(method)(payload, timeout=20, **options)
    except grpc.RpcError as error:
        trailers = dict(error.trailing_metadata() or ())
        return Call(
            error.code(), error.details(), trailers=trailers, status=rpc_status.from_call(error)
        )
    return Call(grpc.StatusCode.OK, "", response)
