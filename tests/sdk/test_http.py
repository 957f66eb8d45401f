"""One attempt over HTTP: what each kind of answer means."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from pyflare.delivery.http_sender import HttpSender
from pyflare.delivery.outcome import Outcome
from pyflare.settings import Target
from tests.sdk.fake_collector import FakeCollector

_HEAD = "HTTP/1.1 {}\r\nContent-Type: application/x-protobuf\r\n"


@contextmanager
def answering(answer: bytes, *, close: bool) -> Iterator[str]:
    """Answer the first request with these bytes, then close the connection or hang."""
    server = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65_536)
            connection.sendall(answer)
            if not close:
                done.wait(30)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v1/traces"
    finally:
        done.set()
        server.close()


def send(url: str, timeout_seconds: float = 5.0) -> Outcome:
    """Make one attempt."""
    sender = HttpSender(Target("http", url, compression=""))
    try:
        return sender.send(b"", timeout_seconds)
    finally:
        sender.close()


@pytest.mark.parametrize(
    "body", [b"Content-Length: 10\r\n\r\nabc", b"Content-Length: 3\r\n\r\nabc"]
)
def test_taken_is_taken_whatever_the_body_is(body: bytes) -> None:
    """A 200 whose body hangs or is no message: sending again would be sending twice."""
    with answering(_HEAD.format("200 OK").encode() + body, close=False) as url:
        assert send(url, 0.3) == Outcome("sent")


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 2"])
def test_an_answer_that_is_none_is_tried_again(answer: bytes) -> None:
    """Whoever closes the connection or does not speak HTTP has not taken anything."""
    with answering(answer, close=True) as url:
        found = send(url)

    assert (found.kind, found.reached) == ("again", False)
    assert found.reason


def test_silence_ends_with_the_timeout() -> None:
    """No answer within the limit."""
    with answering(b"", close=False) as url:
        found = send(url, 0.2)

    assert (found.kind, found.reached) == ("again", False)


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/", "nonsense://x", "http://\x00/"])
def test_an_impossible_address_never_raises(url: str) -> None:
    """Whatever the endpoint is, there is an outcome."""
    assert send(url).kind in {"again", "refused"}


def _in_future() -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("2.5", 2.5, 2.5),
        ("-1", 0, 0),
        ("in half a minute", 1, 30),
        ("nan", None, None),
        ("soon", None, None),
    ],
)
def test_retry_after(text: str, least: float | None, most: float | None) -> None:
    """Seconds or a date; anything else says nothing."""
    if text == "in half a minute":
        text = _in_future()
    with FakeCollector(status=503, headers={"retry-after": text}) as collector:
        found = send(f"{collector.url}/v1/traces")

    assert found.kind == "again"
    if least is None or most is None:
        assert found.after_seconds is None
    else:
        assert found.after_seconds is not None
        assert least <= found.after_seconds <= most
