"""OTLP/gRPC, line by line: G1 to G23 of the protocol's testable statements."""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from pyflare_collector.config import GrpcConfig, KeepaliveConfig
from pyflare_collector.ingest import IngestResult
from pyflare_collector.receiver import OtlpReceiver
from pyflare_proto.errors import ConfigError, InvalidDataError, RetryableError, StorageError
from tests.collector.receiver_helpers import (
    EXPORT,
    Sink,
    call,
    channel,
    raising,
    request_bytes,
    running,
    running_alone,
    spans_in,
    varint,
    wait_until,
)

METRICS = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
HEALTH = "/grpc.health.v1.Health/Check"
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
OK = grpc.StatusCode.OK
MIB = 1024 * 1024


def test_g01_export_is_a_unary_call_of_the_official_stub() -> None:
    """The stub that protoc generates for TraceService reaches the ingest."""
    sink = Sink()
    with running(sink) as receiver, channel(receiver) as opened:
        request = ExportTraceServiceRequest.FromString(request_bytes(3))
        TraceServiceStub(opened).Export(request)
    assert sink.spans == 3


def test_g01_metrics_are_answered_and_none_is_acknowledged() -> None:
    """Every data point of every kind of metric is counted as rejected, with a reason."""
    request = ExportMetricsServiceRequest()
    metrics = request.resource_metrics.add().scope_metrics.add().metrics
    metrics.add(name="a").gauge.data_points.add(as_int=1)
    for _ in range(2):
        metrics.add(name="b").sum.data_points.add(as_double=2)
    metrics.add(name="c").histogram.data_points.add(count=1)
    metrics.add(name="d").exponential_histogram.data_points.add(count=1)
    metrics.add(name="e").summary.data_points.add(count=1)
    metrics.add(name="without data")
    sink = Sink()
    with running(sink) as receiver:
        answer = call(receiver, request.SerializeToString(), method=METRICS)
    partial = ExportMetricsServiceResponse.FromString(answer.response).partial_success
    assert partial.rejected_data_points == 6
    assert "OTEL_METRICS_EXPORTER" in partial.error_message
    assert sink.payloads == []


def test_g01_logs_are_answered_and_none_is_acknowledged() -> None:
    """Every log record is counted as rejected, with a reason."""
    request = ExportLogsServiceRequest()
    for _ in range(2):
        request.resource_logs.add().scope_logs.add().log_records.add(severity_number=9)
    with running() as receiver:
        answer = call(receiver, request.SerializeToString(), method=LOGS)
    partial = ExportLogsServiceResponse.FromString(answer.response).partial_success
    assert partial.rejected_log_records == 2
    assert "OTEL_LOGS_EXPORTER" in partial.error_message


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_g02_identity_and_gzip_are_accepted(compression: grpc.Compression) -> None:
    """A message arrives as it was sent, compressed or not."""
    sink = Sink()
    payload = request_bytes(100)
    with running(sink) as receiver:
        assert call(receiver, payload, compression=compression).code is OK
    assert sink.payloads == [payload]


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_g03_a_message_over_the_limit_is_final(compression: grpc.Compression) -> None:
    """RESOURCE_EXHAUSTED without RetryInfo, before and after decompression; nothing is taken."""
    sink = Sink()
    with running(sink, grpc_config=GrpcConfig(max_recv_msg_size_bytes=MIB)) as receiver:
        answer = call(receiver, bytes(MIB + 1), compression=compression)
        assert answer.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "google.rpc.retryinfo-bin" not in answer.trailers
        assert answer.status is None
        assert call(receiver, request_bytes()).code is OK
    assert len(sink.payloads) == 1


def test_g03_the_default_limit_is_64_mib() -> None:
    """5 MiB, over gRPC's own default of 4 MiB, are accepted."""
    sink = Sink()
    payload = request_bytes(1, name="x" * (5 * MIB))
    with running(sink) as receiver:
        assert call(receiver, payload).code is OK
    assert sink.payloads == [payload]
    assert GrpcConfig().max_recv_msg_size_bytes == 64 * MIB


def test_g05_empty_requests_are_accepted() -> None:
    """No bytes, and a resource without spans, are successes."""
    empty = ExportTraceServiceRequest()
    empty.resource_spans.add().scope_spans.add()
    with running(Sink()) as receiver:
        for payload in (b"", empty.SerializeToString()):
            answer = call(receiver, payload)
            assert (answer.code, answer.response) == (OK, b"")


def test_g06_full_success_leaves_partial_success_unset() -> None:
    """The response has no bytes at all."""
    with running() as receiver:
        response = call(receiver, request_bytes(2)).response
    assert response == b""
    assert not ExportTraceServiceResponse.FromString(response).HasField("partial_success")


@pytest.mark.parametrize(
    ("result", "rejected", "message"),
    [
        (IngestResult(5, 2, "2 spans without ids"), 2, "2 spans without ids"),
        (IngestResult(7, 0, "clock is off"), 0, "clock is off"),
        (IngestResult(5, 2, ""), 2, "rejected without a reason"),
    ],
    ids=["g07-rejected", "g08-warning", "g07-reason-is-never-empty"],
)
def test_g07_g08_partial_success(result: IngestResult, rejected: int, message: str) -> None:
    """Rejections and warnings are told within a success."""
    with running(Sink(lambda _: result)) as receiver:
        answer = call(receiver, request_bytes(7))
    partial = ExportTraceServiceResponse.FromString(answer.response).partial_success
    assert answer.code is OK
    assert (partial.rejected_spans, partial.error_message) == (rejected, message)


@pytest.mark.parametrize(
    "error",
    [RetryableError("queue full", retry_after_s=2.5), StorageError("no space left on device")],
    ids=["overload", "disk-full"],
)
def test_g09_g10_a_temporary_failure_is_unavailable_with_retry_info(error: Exception) -> None:
    """RetryInfo is found in the status details and by its own name, and is above zero."""
    with running(raising(error)) as receiver:
        answer = call(receiver, request_bytes())
    assert answer.code is grpc.StatusCode.UNAVAILABLE
    assert answer.details == str(error)
    assert answer.status is not None
    assert answer.status.code == grpc.StatusCode.UNAVAILABLE.value[0]
    in_details = RetryInfo()
    assert answer.status.details[0].Unpack(in_details)
    by_name = RetryInfo.FromString(answer.trailers["google.rpc.retryinfo-bin"])
    assert in_details == by_name
    seconds = by_name.retry_delay.ToTimedelta().total_seconds()
    assert seconds == getattr(error, "retry_after_s", 5.0)


def test_g11_undecodable_bytes_are_an_invalid_argument() -> None:
    """INVALID_ARGUMENT with BadRequest, and no RetryInfo: through the real decoder."""
    with running_alone() as receiver:
        answer = call(receiver, b"\x0a\xff\xff\xff\x7f nonsense")
        assert call(receiver, request_bytes()).code is OK
    assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
    assert answer.status is not None
    violations = BadRequest()
    assert answer.status.details[0].Unpack(violations)
    assert violations.field_violations[0].description == answer.details
    assert "google.rpc.retryinfo-bin" not in answer.trailers


RETRYABLE = {
    "CANCELLED",
    "DEADLINE_EXCEEDED",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNAVAILABLE",
    "DATA_LOSS",
}
"""Statuses after which an OTLP client tries again (specification, "Failures")."""


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (InvalidDataError("bad"), False),
        (RetryableError("busy"), True),
        (StorageError("full"), True),
        (ConfigError("defect"), False),
        (ValueError("defect"), False),
        (RecursionError(), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_g12_clients_repeat_exactly_what_may_succeed(error: Exception, *, retryable: bool) -> None:
    """Each error becomes a status of the side of the specification's table that it belongs to."""
    with running(raising(error)) as receiver:
        answer = call(receiver, request_bytes())
    assert (answer.code.name in RETRYABLE) is retryable
    assert "\n" not in answer.details


def test_g13_an_unknown_service_is_unimplemented() -> None:
    """Profiles, which are not served, are answered as the specification's table says."""
    method = "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export"
    with running() as receiver:
        assert call(receiver, method=method).code is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("text", ["x" * (5 * MIB), "ü" * (5 * MIB), "two\nlines"])
def test_g14_long_messages_are_cut(text: str) -> None:
    """No answer comes near 4 MiB, neither a success's nor a failure's, and clients can read it."""
    with running(Sink(lambda _: IngestResult(0, 1, text))) as receiver:
        response = call(receiver, request_bytes()).response
    with running(raising(RetryableError(text))) as receiver:
        failed = call(receiver, request_bytes())
    partial = ExportTraceServiceResponse.FromString(response).partial_success
    assert len(response) < 1100
    assert partial.error_message == failed.details
    assert "\n" not in failed.details
    assert failed.code is grpc.StatusCode.UNAVAILABLE


def test_g15_a_hundred_concurrent_calls_are_all_answered() -> None:
    """100 calls at once on one channel all succeed, though there are fewer workers."""
    sink = Sink()
    with running(sink) as receiver, channel(receiver) as opened:
        send = opened.unary_unary(EXPORT)
        futures = [send.future(request_bytes(n), timeout=20) for n in range(1, 101)]
        for future in futures:
            assert future.result() == b""
    assert sink.spans == sum(range(1, 101))


def test_g16_unknown_fields_are_kept() -> None:
    """A request with fields of a later version is accepted and handed on byte for byte."""
    # Field 1000, length-delimited: (1000 << 3 | 2) = 8002 = 0xC2 0x3E.
    payload = request_bytes() + b"\xc2\x3e\x05later"
    sink = Sink()
    with running(sink) as receiver:
        assert call(receiver, payload).code is OK
    assert sink.payloads == [payload]
    with running_alone() as receiver:
        assert call(receiver, payload).code is OK


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        [("authorization", "Bearer wrong")],
        [("authorization", "Bearer ")],
        [("authorization", "Basic b3BlbjpzZXNhbWU=")],
        [("authorization", "open sesame")],
        [("authorization", "Bearer open sesam")],
    ],
)
def test_g17_without_a_good_token_a_call_is_unauthenticated(
    metadata: list[tuple[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    """The refusal is final, names no token, and nothing reaches the ingest."""
    sink = Sink()
    with running(sink, tokens=("first", "open sesame")) as receiver:
        answer = call(receiver, request_bytes(), metadata=metadata)
        assert answer.code is grpc.StatusCode.UNAUTHENTICATED
        assert answer.status is None
        assert sink.payloads == []
        for token in ("first", "open sesame"):
            good = [("authorization", f"Bearer {token}")]
            assert call(receiver, request_bytes(), metadata=good).code is OK
    assert "sesam" not in answer.details + caplog.text


def test_g17_a_refused_call_is_not_received() -> None:
    """Credentials are decided before the message: one over the limit is UNAUTHENTICATED too."""
    config = GrpcConfig(max_recv_msg_size_bytes=1000)
    with running(tokens=("secret",), grpc_config=config) as receiver:
        assert call(receiver, bytes(100_000)).code is grpc.StatusCode.UNAUTHENTICATED


def test_g18_too_much_metadata_is_refused_and_the_server_goes_on() -> None:
    """RESOURCE_EXHAUSTED for 20 KB of metadata; the next call succeeds."""
    with running() as receiver:
        answer = call(receiver, request_bytes(), metadata=[("x-large", "a" * 20_000)])
        assert answer.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert call(receiver, request_bytes()).code is OK


def test_g19_an_idle_connection_survives_keepalive() -> None:
    """With a ping a second from the server, a channel idle for longer still delivers."""
    config = GrpcConfig(keepalive=KeepaliveConfig(time_seconds=1, timeout_seconds=1))
    with running(grpc_config=config) as receiver, channel(receiver) as opened:
        assert call(receiver, request_bytes(), through=opened).code is OK
        time.sleep(2.5)
        assert call(receiver, request_bytes(), through=opened).code is OK


def test_g19_concurrent_streams_are_limited() -> None:
    """With two streams a connection, no third of its calls is begun while two are in work.

    The others wait in the client. One that it sends before the server has counted an ended
    stream out is refused (REFUSED_STREAM, RFC 9113 section 8.7): not begun, and told as
    UNAVAILABLE, which exporters send again.
    """
    leave = threading.Event()
    entered: list[int] = []

    def answer(_payload: bytes) -> IngestResult:
        entered.append(1)
        leave.wait(20)
        return IngestResult(1)

    config = GrpcConfig(max_concurrent_streams=2)
    with running(Sink(answer), grpc_config=config) as receiver, channel(receiver) as opened:
        # The first call makes sure that the client has heard of the limit.
        assert call(receiver, method=HEALTH, through=opened).response == SERVING
        futures = [opened.unary_unary(EXPORT).future(b"", timeout=20) for _ in range(10)]
        wait_until(lambda: len(entered) == 2)
        time.sleep(0.2)
        assert len(entered) == 2
        leave.set()
        codes = [future.code() for future in futures]
        assert set(codes) <= {OK, grpc.StatusCode.UNAVAILABLE}
        assert len(entered) == codes.count(OK) >= 2
        assert call(receiver, request_bytes(), through=opened).code is OK


def test_g20_health_turns_from_serving_to_not_serving() -> None:
    """While requests in work hold a shutdown up, health says NOT_SERVING; no token is needed."""
    entered, leave = threading.Event(), threading.Event()

    def answer(_payload: bytes) -> IngestResult:
        entered.set()
        leave.wait(20)
        return IngestResult(1)

    with (
        running(Sink(answer), tokens=("t",)) as receiver,
        channel(receiver) as opened,
        ThreadPoolExecutor(2) as pool,
    ):
        assert call(receiver, method=HEALTH, through=opened).response == SERVING
        token = [("authorization", "Bearer t")]
        sent = pool.submit(call, receiver, request_bytes(), through=opened, metadata=token)
        assert entered.wait(20)
        stopped = pool.submit(receiver.shutdown, 20.0)
        wait_until(lambda: receiver.state == "draining")
        assert call(receiver, method=HEALTH, through=opened).response == NOT_SERVING
        leave.set()
        stopped.result(20)
        assert sent.result(20).code is OK


def test_g20_reflection_is_off_by_default() -> None:
    """Nobody is told about the services unless it is asked for."""
    with running() as receiver:
        assert call(receiver, method=REFLECTION).code is grpc.StatusCode.UNIMPLEMENTED


def test_g20_reflection_without_its_package_is_a_configuration_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error names the package to install."""
    monkeypatch.setitem(sys.modules, "grpc_reflection.v1alpha", None)
    with (
        pytest.raises(ConfigError, match="grpcio-reflection"),
        running(grpc_config=GrpcConfig(enable_reflection=True)),
    ):
        pass


@pytest.mark.parametrize(
    ("trace_id", "span_id"),
    [
        (b"\x01" * 15, b"\x02" * 8),
        (b"\x01" * 16, b"\x02" * 7),
        (b"\x01" * 24, b"\x02" * 8),
        (bytes(16), b"\x02" * 8),
        (b"\x01" * 16, bytes(8)),
        (b"", b""),
    ],
)
def test_g21_spans_with_bad_ids_are_rejected_alone(trace_id: bytes, span_id: bytes) -> None:
    """The span is rejected through partial_success, its neighbours are taken."""
    request = ExportTraceServiceRequest.FromString(request_bytes(2))
    request.resource_spans[0].scope_spans[0].spans.add(trace_id=trace_id, span_id=span_id)
    taken: list[int] = []
    with running_alone(taken.append) as receiver:
        answer = call(receiver, request.SerializeToString())
    partial = ExportTraceServiceResponse.FromString(answer.response).partial_success
    assert answer.code is OK
    assert partial.rejected_spans == 1
    assert partial.error_message
    assert taken == [2]


def test_g22_nothing_reaches_the_ingest_after_shutdown() -> None:
    """Senders race a shutdown: what was acknowledged was ingested, and then no more."""
    sink = Sink()
    stop = threading.Event()
    acknowledged: list[int] = []

    def send(receiver: OtlpReceiver) -> None:
        with channel(receiver) as opened:
            while not stop.is_set():
                if call(receiver, request_bytes(), through=opened).code is OK:
                    acknowledged.append(1)

    with running(sink) as receiver, ThreadPoolExecutor(4) as pool:
        senders = [pool.submit(send, receiver) for _ in range(4)]
        wait_until(lambda: len(acknowledged) > 50)
        receiver.shutdown(10.0)
        taken = len(sink.payloads)
        time.sleep(0.2)
        stop.set()
        for sender in senders:
            sender.result(20)
        assert len(sink.payloads) == taken
    # A call may be ingested whose answer the closing connection swallowed, never the reverse.
    assert len(acknowledged) <= taken


def test_g23_deep_nesting_is_an_invalid_argument() -> None:
    """An attribute value of 5,000 arrays in one another is refused, not a crash."""
    value = AnyValue(string_value="core").SerializeToString()
    for _ in range(5000):
        array = b"\x0a" + varint(len(value)) + value
        value = b"\x2a" + varint(len(array)) + array
    key_value = b"\x0a\x01k\x12" + varint(len(value)) + value
    span = b"\x0a\x10" + b"\x01" * 16 + b"\x12\x08" + b"\x02" * 8
    span += b"\x4a" + varint(len(key_value)) + key_value
    scope = b"\x12" + varint(len(span)) + span
    resource = b"\x12" + varint(len(scope)) + scope
    with running_alone() as receiver:
        answer = call(receiver, b"\x0a" + varint(len(resource)) + resource)
        assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
        assert call(receiver, request_bytes()).code is OK


def test_requests_are_handed_on_whole() -> None:
    """The ingest gets one payload for each call, never a part of one."""
    sink = Sink()
    with running(sink) as receiver:
        for spans in (1, 7, 512):
            call(receiver, request_bytes(spans))
    assert [spans_in(payload) for payload in sink.payloads] == [1, 7, 512]
