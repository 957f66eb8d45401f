"""OTLP/HTTP, line by line: H1 to H15 of the protocol's testable statements."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass, field

import pytest
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from pyflare_collector.config import HttpConfig
from pyflare_collector.ingest import IngestResult
from pyflare_proto.errors import InvalidDataError, RetryableError, StorageError
from tests.collector.receiver_helpers import (
    JSON,
    PROTOBUF,
    Sink,
    get,
    post,
    raising,
    request_bytes,
    running,
    running_alone,
)

MIB = 1024 * 1024
SPAN_JSON = (
    b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"5b8efff798038103d269b633813fc60c",'
    b'"spanId":"eee19b7ec3c1b174","name":"chat"}]}]}]}'
)


def test_h01_paths_of_the_three_signals() -> None:
    """Each signal has its path; profiles, which are not served, and others are not found."""
    metrics = ExportMetricsServiceRequest()
    metrics.resource_metrics.add().scope_metrics.add().metrics.add().gauge.data_points.add()
    logs = ExportLogsServiceRequest()
    logs.resource_logs.add().scope_logs.add().log_records.add()
    sink = Sink()
    with running(sink) as receiver:
        assert post(receiver, request_bytes()).status == 200
        answer = post(receiver, metrics.SerializeToString(), path="/v1/metrics")
        counted = ExportMetricsServiceResponse.FromString(answer.body).partial_success
        assert counted.rejected_data_points == 1
        answer = post(receiver, logs.SerializeToString(), path="/v1/logs")
        assert (
            ExportLogsServiceResponse.FromString(answer.body).partial_success.rejected_log_records
            == 1
        )
        for path in ("/v1development/profiles", "/", "/v1/traces/", "/v1", "/%00"):
            answer = post(receiver, request_bytes(), path=path)
            assert answer.status == 404
            assert answer.error.message
    assert sink.spans == 1


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/x-protobuf", request_bytes()),
        ("APPLICATION/X-Protobuf", request_bytes()),
        ("application/x-protobuf; charset=utf-8", request_bytes()),
        ("application/json", SPAN_JSON),
        ("Application/JSON ; charset=UTF-8", SPAN_JSON),
    ],
)
def test_h02_h03_one_port_for_both_encodings(content_type: str, body: bytes) -> None:
    """The Content-Type chooses the encoding, and the answer has the same one, bare."""
    sink = Sink()
    with running(sink) as receiver:
        answer = post(receiver, body, {"Content-Type": content_type})
    assert answer.status == 200
    assert answer.headers["content-type"] == content_type.split(";", maxsplit=1)[0].strip().lower()
    assert sink.spans == 1


@pytest.mark.parametrize(
    ("headers", "body", "expected"), [(PROTOBUF, request_bytes(), b""), (JSON, SPAN_JSON, b"{}")]
)
def test_h04_full_success_has_no_partial_success(
    headers: dict[str, str], body: bytes, expected: bytes
) -> None:
    """Zero bytes of protobuf, an empty object of JSON."""
    with running() as receiver:
        assert post(receiver, body, headers).body == expected


def test_h05_partial_success() -> None:
    """Rejections are told within a 200; JSON writes the count as a string."""
    with running(Sink(lambda _: IngestResult(4, 3, "bad ids"))) as receiver:
        as_json = post(receiver, SPAN_JSON, JSON)
        as_protobuf = post(receiver, request_bytes())
    assert as_json.status == as_protobuf.status == 200
    assert as_json.document == {"partialSuccess": {"rejectedSpans": "3", "errorMessage": "bad ids"}}
    partial = ExportTraceServiceResponse.FromString(as_protobuf.body).partial_success
    assert (partial.rejected_spans, partial.error_message) == (3, "bad ids")


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        (
            "/v1/metrics",
            (
                b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","sum":'
                b'{"dataPoints":[{"asInt":"1"},{"asInt":"2"}]}}]}]}]}'
            ),
            ("rejectedDataPoints", "2"),
        ),
        (
            "/v1/logs",
            b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"x"}}]}]}]}',
            ("rejectedLogRecords", "1"),
        ),
    ],
)
def test_h05_other_signals_in_json(path: str, body: bytes, expected: tuple[str, str]) -> None:
    """Metrics and logs in JSON are counted as rejected under their own keys."""
    with running() as receiver:
        partial = post(receiver, body, JSON, path=path).document["partialSuccess"]
    assert partial[expected[0]] == expected[1]
    assert partial["errorMessage"]


@pytest.mark.parametrize("path", ["/v1/traces", "/v1/metrics", "/v1/logs"])
@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (PROTOBUF, b""),
        (JSON, b""),
        (JSON, b"{}"),
        (JSON, b'{"resourceSpans":[],"resourceMetrics":[],"resourceLogs":[]}'),
    ],
)
def test_h06_empty_requests_are_accepted(path: str, headers: dict[str, str], body: bytes) -> None:
    """Nothing to export is a success of every signal."""
    with running() as receiver:
        answer = post(receiver, body, headers, path=path)
    assert (answer.status, answer.body) == (200, b"{}" if headers is JSON else b"")


@pytest.mark.parametrize("path", ["/v1/traces", "/v1/metrics", "/v1/logs"])
@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (PROTOBUF, b"\x0a\xff\xff\xff\x7f"),
        (JSON, b"{"),
        (JSON, b"[]"),
        (JSON, b"nonsense"),
        (JSON, b'{"resourceSpans":[1],"resourceMetrics":[1],"resourceLogs":[1]}'),
    ],
)
def test_h07_undecodable_bodies(path: str, headers: dict[str, str], body: bytes) -> None:
    """400 with INVALID_ARGUMENT in the request's own encoding."""
    with running_alone() as receiver:
        answer = post(receiver, body, headers, path=path)
    assert answer.status == 400
    assert answer.headers["content-type"] == headers["Content-Type"]
    assert answer.error.code == 3
    assert answer.error.message


def test_h07_the_status_holds_bad_request_details() -> None:
    """Both encodings say which part was wrong, as google.rpc.BadRequest."""
    with running(raising(InvalidDataError("truncated"))) as receiver:
        as_protobuf = post(receiver, b"x")
        as_json = post(receiver, SPAN_JSON, JSON).document
    details = BadRequest()
    assert Status.FromString(as_protobuf.body).details[0].Unpack(details)
    assert details.field_violations[0].description == "truncated"
    assert as_json == {
        "code": 3,
        "message": "truncated",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": [{"field": "body", "description": "truncated"}],
            }
        ],
    }


@dataclass(frozen=True)
class Case:
    """A request that fails, as one on `/v1/traces` that would succeed, with changes."""

    status: int
    method: str = "POST"
    path: str = "/v1/traces"
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    error: Exception | None = None


FAILURES = {
    "404": Case(404, path="/nowhere"),
    "405": Case(405, method="PUT"),
    "405-page": Case(405, method="DELETE", path="/health"),
    "415": Case(415, headers={"Content-Encoding": "br"}),
    "413": Case(413, body=b" " * 1001),
    "401": Case(401, headers={"Authorization": "Bearer no"}),
    "400": Case(400, headers={"Content-Encoding": "gzip"}, body=b"no gzip"),
    "503": Case(503, error=RetryableError("busy")),
    "500": Case(500, error=ZeroDivisionError()),
}


@pytest.mark.parametrize("encoding", ["application/x-protobuf", "application/json"])
@pytest.mark.parametrize("case", FAILURES.values(), ids=FAILURES)
def test_h08_every_failure_is_a_status(case: Case, encoding: str) -> None:
    """Every 4xx and 5xx body is a Status in the encoding of the request."""
    sink = raising(case.error) if case.error else Sink()
    headers = {"Authorization": "Bearer t", "Content-Type": encoding, **case.headers}
    config = HttpConfig(max_request_body_bytes=1000)
    with running(sink, tokens=("t",), http_config=config) as receiver:
        answer = post(receiver, case.body, headers, path=case.path, method=case.method)
    assert answer.status == case.status
    assert answer.headers["content-type"] == encoding
    assert answer.error.code != 0
    assert answer.error.message


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("application/x-protobuf", "application/x-protobuf"),
        ("text/html, */*", "application/json"),
        ("", "application/json"),
    ],
)
def test_h08_a_request_of_no_known_encoding(accept: str, expected: str) -> None:
    """Accept decides, and where it does not, JSON is what a person can read."""
    with running() as receiver:
        answer = post(receiver, b"x", {"Content-Type": "text/plain", "Accept": accept})
    assert answer.status == 415
    assert answer.headers["content-type"] == expected
    assert "text/plain" in answer.error.message


@pytest.mark.parametrize("chunked", [False, True], ids=["content-length", "chunked"])
def test_h09_a_body_over_the_limit_before_decompression(*, chunked: bool) -> None:
    """413 for one byte too many, whether its length was declared or not; not for the limit."""
    sink = Sink()
    with running(sink, http_config=HttpConfig(max_request_body_bytes=MIB)) as receiver:
        for size, status in ((MIB, 200), (MIB + 1, 413)):
            # Field 100 with a length: a request of unknown fields, exactly `size` bytes long.
            body = b"\xa2\x06" + _varint3(size - 5) + bytes(size - 5)
            sent = iter([body[:100_000], body[100_000:]]) if chunked else body
            assert post(receiver, sent).status == status
    assert len(sink.payloads) == 1


def test_h09_a_body_over_the_limit_after_decompression() -> None:
    """413 also where the compressed body is small."""
    with running(http_config=HttpConfig(max_request_body_bytes=MIB)) as receiver:
        for size, status in ((MIB, 200), (MIB + 1, 413)):
            body = b"\xa2\x06" + _varint3(size - 5) + bytes(size - 5)
            headers = {**PROTOBUF, "Content-Encoding": "gzip"}
            assert post(receiver, gzip.compress(body), headers).status == status


def test_h09_the_default_limit_is_64_mib() -> None:
    """As the specification recommends."""
    assert HttpConfig().max_request_body_bytes == 64 * MIB


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        ("gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("x-gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", lambda data: zlib.compress(data, wbits=-15)),
        ("identity", bytes),
        ("", bytes),
    ],
    ids=["gzip", "upper-case", "x-gzip", "deflate", "raw-deflate", "identity", "empty"],
)
def test_h10_content_encodings(encoding: str, compress: object) -> None:
    """Each supported encoding yields the request that was compressed."""
    assert callable(compress)
    sink = Sink()
    payload = request_bytes(200)
    with running(sink) as receiver:
        headers = {**PROTOBUF, "Content-Encoding": encoding}
        assert post(receiver, compress(payload), headers).status == 200
    assert sink.payloads == [payload]


@pytest.mark.parametrize("encoding", ["br", "invalid", "gzip, gzip", "snappy"])
def test_h10_unknown_encodings_are_refused(encoding: str) -> None:
    """415, naming the encodings that are supported."""
    with running() as receiver:
        answer = post(receiver, b"x", {**PROTOBUF, "Content-Encoding": encoding})
    assert answer.status == 415
    assert "gzip" in answer.headers["accept-encoding"]
    assert answer.error.message


@pytest.mark.parametrize(
    "body",
    [
        b"this is no gzip",
        gzip.compress(request_bytes(), mtime=0)[:-1],
        gzip.compress(request_bytes(), mtime=0)[:12],
        b"\x1f\x8b",
        gzip.compress(request_bytes(), mtime=0)[:-8] + b"\xff" * 8,
        gzip.compress(request_bytes(), mtime=0) + b"trailing",
        gzip.compress(request_bytes(), mtime=0) + b"\0\0trailing",
    ],
    ids=["text", "cut-1", "cut-12", "magic", "checksum", "trailing", "padded-trailing"],
)
def test_h10_h12_bad_gzip(body: bytes) -> None:
    """400, and nothing of the body is taken."""
    sink = Sink()
    with running(sink) as receiver:
        answer = post(receiver, body, {**PROTOBUF, "Content-Encoding": "gzip"})
        assert post(receiver, request_bytes()).status == 200
    assert answer.status == 400
    assert "gzip" in answer.error.message
    assert len(sink.payloads) == 1


def test_h12_gzip_of_several_members() -> None:
    """A body of concatenated members, zero padding behind, is their concatenation (RFC 1952)."""
    sink = Sink()
    one, two = request_bytes(1), request_bytes(2)
    with running(sink) as receiver:
        body = gzip.compress(one) + gzip.compress(b"") + gzip.compress(two) + bytes(100)
        assert post(receiver, body, {**PROTOBUF, "Content-Encoding": "gzip"}).status == 200
    assert sink.payloads == [one + two]


def test_h12_a_chunked_body() -> None:
    """A body in chunks arrives as one."""
    sink = Sink()
    payload = request_bytes(50)
    with running(sink) as receiver:
        chunks = iter([payload[i : i + 7] for i in range(0, len(payload), 7)])
        assert post(receiver, chunks).status == 200
    assert sink.payloads == [payload]


@pytest.mark.parametrize("content_type", [None, "", "text/plain", "multipart/form-data", "json"])
def test_h13_missing_or_unknown_content_type(content_type: str | None) -> None:
    """415, also for an empty body."""
    headers = {} if content_type is None else {"Content-Type": content_type}
    with running() as receiver:
        assert post(receiver, request_bytes(), headers).status == 415
        assert post(receiver, b"", headers).status == 415


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_h13_other_methods(method: str) -> None:
    """405 with the method that is allowed."""
    with running() as receiver:
        answer = post(receiver, b"", PROTOBUF, method=method)
    assert answer.status == 405
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (RetryableError("busy", retry_after_s=0.5), "1"),
        (RetryableError("busy", retry_after_s=2.01), "3"),
        (RetryableError("busy", retry_after_s=3), "3"),
        (StorageError("no space left on device"), "5"),
    ],
)
def test_h14_overload_is_retryable(error: Exception, seconds: str) -> None:
    """503 with Retry-After in whole seconds, rounded up, and RetryInfo in the Status."""
    with running(raising(error)) as receiver:
        as_protobuf = post(receiver, request_bytes())
        as_json = post(receiver, SPAN_JSON, JSON)
    for answer in (as_protobuf, as_json):
        assert answer.status == 503
        assert answer.headers["retry-after"] == seconds
        assert answer.error.code == 14
        assert answer.error.message == str(error)
    info = RetryInfo()
    assert as_protobuf.error.details[0].Unpack(info)
    delay = info.retry_delay.ToTimedelta().total_seconds()
    assert delay == getattr(error, "retry_after_s", 5.0)
    assert as_json.document["details"][0]["retryDelay"] == f"{delay:.3f}s"


@pytest.mark.parametrize(
    "header", [None, "", "Bearer wrong", "Bearer", "secret", "Basic secret", "Bearer  secretx"]
)
def test_h15_credentials(header: str | None, caplog: pytest.LogCaptureFixture) -> None:
    """401 without a good token, never with one; the token is in no answer and no log."""
    sink = Sink()
    headers = PROTOBUF if header is None else {**PROTOBUF, "Authorization": header}
    with running(sink, tokens=("other", "secret")) as receiver:
        answer = post(receiver, request_bytes(), headers)
        assert sink.payloads == []
        good = {**PROTOBUF, "authorization": "bearer secret"}
        assert post(receiver, request_bytes(), good).status == 200
        assert get(receiver, "/status").status == get(receiver, "/metrics").status == 401
        assert get(receiver, "/status", {"Authorization": "Bearer secret"}).status == 200
        assert get(receiver, "/health").status == 200
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "secret" not in answer.body.decode("latin-1") + caplog.text


def test_h15_a_defect_is_a_500_of_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """The client hears that it happened, the log what; the message is not sent out."""
    with running(raising(RuntimeError("path /var/secret\nline 2"))) as receiver:
        answer = post(receiver, request_bytes())
    assert answer.status == 500
    assert answer.error.code == 13
    assert "\n" not in answer.error.message
    assert "/var/secret" not in answer.error.message
    assert "/var/secret" in caplog.text


def _varint3(number: int) -> bytes:
    """Return a number below 2^21 as a varint of three bytes."""
    return bytes([number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80, number >> 14])
