"""OTLP/HTTP at the level of connections: H9, H12, H15 and H24 to H30 of the testable statements."""

from __future__ import annotations

import http.client
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pyflare_collector.config import HttpConfig
from pyflare_collector.ingest import IngestResult
from pyflare_proto.errors import InvalidDataError
from tests.collector.receiver_helpers import (
    JSON,
    PROTOBUF,
    Sink,
    get,
    post,
    raising,
    raw_connection,
    read_answer,
    read_raw,
    request_bytes,
    running,
    wait_until,
)

MIB = 1024 * 1024


def test_h09_a_declared_length_over_the_limit_is_refused_unseen() -> None:
    """The answer comes before any byte of the body has been sent."""
    head = b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    config = HttpConfig(max_request_body_bytes=1000)
    with running(http_config=config) as receiver, raw_connection(receiver) as connection:
        connection.sendall(head + b"Content-Length: 1001\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "raw",
    [
        (
            b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\n"
            b"Transfer-Encoding: chunked\r\n\r\nZZ\r\nnot a chunk\r\n"
        ),
        b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
    ],
    ids=["bad-chunk", "negative-length", "two-lengths", "tls", "http2", "zeros"],
)
def test_h12_broken_http_is_answered(raw: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Bytes that break HTTP itself get a 400 with a Status, and the server goes on."""
    with running() as receiver:
        with raw_connection(receiver) as connection:
            connection.sendall(raw)
            answer = read_raw(connection)
        assert answer.status == 400
        assert answer.error.message
        assert post(receiver, request_bytes()).status == 200
    assert "Traceback" not in caplog.text


def test_h12_a_body_shorter_than_declared_times_out() -> None:
    """408 when the rest does not come; nothing is taken."""
    sink = Sink()
    with running(sink, http_config=HttpConfig(read_timeout_seconds=0.3)) as receiver:
        with raw_connection(receiver) as connection:
            connection.sendall(
                b"POST /v1/traces HTTP/1.1\r\nHost: x\r\n"
                b"Content-Type: application/x-protobuf\r\nContent-Length: 100\r\n\r\nshort"
            )
            answer = read_raw(connection)
        assert answer.status == 408
        assert answer.error.message
    assert sink.payloads == []


def test_h12_a_client_that_leaves_takes_nothing_along() -> None:
    """A connection closed amid a body is forgotten: no span, no request in work."""
    sink = Sink()
    with running(sink) as receiver:
        with raw_connection(receiver) as connection:
            connection.sendall(
                b"POST /v1/traces HTTP/1.1\r\nHost: x\r\n"
                b"Content-Type: application/x-protobuf\r\nContent-Length: 100\r\n\r\nshort"
            )
            wait_until(lambda: get(receiver, "/status").document["requests_in_flight"] == 1)
        wait_until(lambda: get(receiver, "/status").document["requests_in_flight"] == 0)
        assert get(receiver, "/status").document["bytes_in_flight"] == 0
    assert sink.payloads == []


def test_h15_credentials_are_decided_before_the_body() -> None:
    """A client without a token is answered though it has sent no byte of its body."""
    head = b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    with running(tokens=("secret",)) as receiver, raw_connection(receiver) as connection:
        connection.sendall(head + b"Content-Length: 1000000\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 401 ")


def test_h24_answers_are_small() -> None:
    """An error message of 5 MiB is cut, also inside a partial success."""
    text = "ü" * (5 * MIB)
    with running(Sink(lambda _: IngestResult(0, 1, text))) as receiver:
        assert len(post(receiver, request_bytes()).body) < 1100
    with running(raising(InvalidDataError(text))) as receiver:
        assert len(post(receiver, request_bytes()).body) < 4096


ORIGINS = ("https://app.example.com", "https://*.example.org")


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        ((), "https://app.example.com", None),
        (ORIGINS, "https://app.example.com", "https://app.example.com"),
        (ORIGINS, "https://a.b.example.org", "https://a.b.example.org"),
        (ORIGINS, "https://example.org", None),
        (ORIGINS, "http://app.example.com", None),
        (ORIGINS, "https://app.example.com.evil.net", None),
        (ORIGINS, "https://evil.net/.example.org", None),
        (ORIGINS, "https://appxexample.com", None),
        (("*",), "https://anything.net", "*"),
    ],
)
def test_h25_cross_origin(origins: tuple[str, ...], origin: str, allowed: str | None) -> None:
    """Only allowed origins get a preflight of 204 and may read answers; no token is asked of it."""
    config = HttpConfig(cors_allowed_origins=origins)
    preflight = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,authorization",
    }
    with running(http_config=config, tokens=("t",)) as receiver:
        asked = post(receiver, b"", preflight, method="OPTIONS")
        sent = {**PROTOBUF, "Origin": origin, "Authorization": "Bearer t"}
        answered = post(receiver, request_bytes(), sent)
        refused = post(receiver, request_bytes(), {**PROTOBUF, "Origin": origin})
    assert asked.status == (204 if allowed else 403 if origins else 405)
    for answer in (asked, answered, refused):
        assert answer.headers.get("access-control-allow-origin") == allowed
    if allowed:
        assert asked.headers["access-control-allow-methods"] == "POST"
        assert asked.headers["access-control-allow-headers"] == "content-type,authorization"
        assert int(asked.headers["access-control-max-age"]) > 0
        assert ("access-control-allow-credentials" in asked.headers) is (allowed != "*")
    assert answered.status == 200


def test_h26_a_slow_head_is_cut() -> None:
    """A connection that begins a request and does not go on is closed."""
    config = HttpConfig(read_timeout_seconds=0.3)
    with running(http_config=config) as receiver, raw_connection(receiver) as connection:
        connection.sendall(b"POST /v1/traces HTTP/1.1\r\nX-Slow: ")
        assert connection.recv(4096) == b""


def test_h26_a_slow_head_after_a_request_is_cut() -> None:
    """The limit holds for every request of a connection, not only for the first."""
    config = HttpConfig(read_timeout_seconds=0.3)
    with running(http_config=config) as receiver, raw_connection(receiver) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
        connection.sendall(b"GET /health HT")
        assert connection.recv(4096) == b""


def test_h26_an_idle_connection_is_kept() -> None:
    """Exporters pause between batches for longer than a request may take."""
    config = HttpConfig(read_timeout_seconds=0.2)
    with running(http_config=config) as receiver, raw_connection(receiver) as connection:
        for _ in range(2):
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
            threading.Event().wait(0.5)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /health HTTP/1.1\r\nAuthorization: Bearer " + b"s3cret" * 3000,
        b"GET /" + b"s3cret" * 3000,
    ],
    ids=["header", "request-line"],
)
def test_h27_a_long_head(head: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """431 with a Status, without a word of the line, which may hold a token."""
    with running() as receiver:
        with raw_connection(receiver) as connection:
            connection.sendall(head + b"\r\n\r\n")
            answer = read_raw(connection)
        assert answer.status == 431
        assert "8190" in answer.error.message
        assert get(receiver, "/health").status == 200
    assert "s3cret" not in answer.body.decode() + caplog.text


def test_h28_a_thousand_requests_on_one_connection() -> None:
    """Keep-alive holds for as many requests as the client likes."""
    sink = Sink()
    with running(sink) as receiver:
        host, port = receiver.http_address.rsplit(":", 1)
        connection = http.client.HTTPConnection(host, int(port), timeout=20)
        for _ in range(1000):
            connection.request("POST", "/v1/traces", request_bytes(), PROTOBUF)
            assert read_answer(connection).status == 200
        connection.close()
    assert len(sink.payloads) == 1000


def test_h29_health() -> None:
    """200 when ready, 503 while a shutdown waits for the requests in work."""
    entered, leave = threading.Event(), threading.Event()

    def answer(_payload: bytes) -> IngestResult:
        entered.set()
        leave.wait(20)
        return IngestResult(1)

    with running(Sink(answer)) as receiver, ThreadPoolExecutor(2) as pool:
        ready = get(receiver, "/health")
        assert (ready.status, ready.document) == (200, {"status": "ok"})
        sent = pool.submit(post, receiver, request_bytes())
        assert entered.wait(20)
        stopped = pool.submit(receiver.shutdown, 20.0)
        wait_until(lambda: receiver.state == "draining")
        draining = get(receiver, "/health")
        assert (draining.status, draining.document) == (503, {"status": "draining"})
        late = post(receiver, request_bytes())
        assert late.status == 503
        assert "retry-after" in late.headers
        leave.set()
        stopped.result(20)
        assert sent.result(20).status == 200


def test_h30_the_default_is_the_loopback_interface() -> None:
    """Nobody else reaches a collector that was not told to listen to them."""
    assert HttpConfig().endpoint == "127.0.0.1:4318"


def test_random_bytes_are_always_answered() -> None:
    """Noise in every encoding gets a 4xx with a Status: no 500, no hang, no crash."""
    with running(raising(InvalidDataError("noise"))) as receiver:
        for size in (1, 10, 1000, 100_000):
            for headers in (PROTOBUF, JSON):
                for encoding in ("identity", "gzip", "deflate"):
                    sent = {**headers, "Content-Encoding": encoding}
                    answer = post(receiver, os.urandom(size), sent)
                    assert answer.status == 400
                    assert answer.error.message


def test_metrics_and_status_show_what_was_answered() -> None:
    """The counters by outcome, and what the pipeline adds, are on the pages."""
    options = {"status": lambda: {"spans": 7}, "metrics": lambda: "pyflare_spans_total 7\n"}
    with running(**options) as receiver:
        post(receiver, request_bytes())
        post(receiver, b"x", {"Content-Type": "text/plain"})
        status = get(receiver, "/status")
        metrics = get(receiver, "/metrics")
    assert status.document["spans"] == 7
    assert status.document["state"] == "ready"
    outcomes = {r["outcome"]: r["count"] for r in status.document["requests"]}
    assert outcomes == {"ok": 1, "invalid_argument": 1}
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = metrics.body.decode().splitlines()
    assert (
        'pyflare_receiver_requests_total{protocol="http",signal="traces",outcome="ok"} 1' in lines
    )
    assert lines[-1] == "pyflare_spans_total 7"
