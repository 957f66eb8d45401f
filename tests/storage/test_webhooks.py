"""Webhooks, against a real HTTP server: what is sent, signed, tried again and given up."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pyflare_proto.errors import ConfigError
from pyflare_storage.alerts import AlertStore, NewAlert, Raised, Severity
from pyflare_storage.webhooks import Webhook, deliver, signature

NOW = 1_800_000_000_000_000_000


class Receiver:
    """A server that keeps what it gets and answers as it is told."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        self.pause = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.requests.append((headers | {"path": self.path}, body))
                status = receiver.statuses.pop(0) if receiver.statuses else 204
                if status == 0:  # say nothing until the test is over
                    receiver.pause.wait(10)
                    return
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hooks/key-in-the-path"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Stop the server."""
        self.pause.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A server on a free port."""
    server = Receiver()
    yield server
    server.close()


def _raised(tmp_path: Path, *keys: str) -> list[Raised]:
    with AlertStore(tmp_path / "state.db") as store:
        return [
            store.raise_alert(
                NewAlert("drift", Severity.WARNING, key, f"{key} drifted", key), now_ns=NOW
            )
            for key in keys
        ]


def _deliver(raised: list[Raised], *webhooks: Webhook) -> tuple[list[Any], list[float]]:
    slept: list[float] = []
    return deliver(raised, webhooks, now_ns=lambda: NOW, sleep=slept.append), slept


def test_an_alert_is_posted_as_json_once(receiver: Receiver, tmp_path: Path) -> None:
    """The body is the alert as the list prints it, with its type, time and a line for chats."""
    raised = _raised(tmp_path, "latency")

    (delivery,), slept = _deliver(raised, Webhook(receiver.url))

    ((headers, body),) = receiver.requests
    document = json.loads(body)
    assert (delivery.delivered, delivery.status, delivery.attempts, slept) == (True, 204, 1, [])
    assert headers["content-type"] == "application/json"
    assert headers["webhook-id"] == "alert_1_1"
    assert headers["webhook-timestamp"] == str(NOW // 10**9)
    assert "webhook-signature" not in headers
    assert document["type"] == "alert.raised"
    assert document["text"] == "[warning] latency drifted"
    assert document["data"] == json.loads(json.dumps(raised[0].alert.to_dict()))


@pytest.mark.parametrize(
    ("secret", "key"),
    [("tøp", "tøp".encode()), ("whsec_" + base64.b64encode(b"0" * 24).decode(), b"0" * 24)],
)
def test_a_secret_signs_id_time_and_body(
    receiver: Receiver, tmp_path: Path, secret: str, key: bytes
) -> None:
    """The receiver computes the same HMAC from what it got and the shared secret."""
    _deliver(_raised(tmp_path, "latency"), Webhook(receiver.url, secret))

    ((headers, body),) = receiver.requests
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert secret not in str(headers) + body.decode()


def test_the_signature_of_the_specification_s_example() -> None:
    """The example that Standard Webhooks gives for verifying implementations."""
    assert (
        signature(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1614265330,
            b'{"test": 2432232314}',
        )
        == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


def test_only_news_are_posted(receiver: Receiver, tmp_path: Path) -> None:
    """The same trouble again is no second request; a worse one is, as an escalation."""
    _raised(tmp_path, "latency")
    again = _raised(tmp_path, "latency")
    assert _deliver(again, Webhook(receiver.url))[0] == []

    worse = NewAlert("drift", Severity.CRITICAL, "latency", "worse", "latency")
    with AlertStore(tmp_path / "state.db") as store:
        raised = [store.raise_alert(worse, now_ns=NOW)]
    _deliver(raised, Webhook(receiver.url))
    assert [json.loads(body)["type"] for _, body in receiver.requests] == ["alert.escalated"]


def test_a_passing_failure_is_tried_again(receiver: Receiver, tmp_path: Path) -> None:
    """503 and 429 get another try, each with the same id."""
    receiver.statuses = [503, 429, 200]

    (delivery,), slept = _deliver(_raised(tmp_path, "latency"), Webhook(receiver.url))

    assert (delivery.delivered, delivery.attempts, slept) == (True, 3, [0.5, 2.0])
    assert {headers["webhook-id"] for headers, _ in receiver.requests} == {"alert_1_1"}


@pytest.mark.parametrize("status", [400, 404, 410])
def test_a_refusal_is_not_tried_again(receiver: Receiver, tmp_path: Path, status: int) -> None:
    """What the receiver does not want, it does not want three times."""
    receiver.statuses = [status]

    (delivery,), _ = _deliver(_raised(tmp_path, "latency"), Webhook(receiver.url))

    assert (delivery.delivered, delivery.attempts, delivery.status) == (False, 1, status)
    assert delivery.error == f"HTTP status {status}"


@pytest.mark.parametrize("status", [302, 307, 308])
def test_a_redirect_is_not_followed(receiver: Receiver, tmp_path: Path, status: int) -> None:
    """The signed body goes to the address that was configured and to no other."""
    receiver.statuses = [status]

    (delivery,), _ = _deliver(_raised(tmp_path, "latency"), Webhook(receiver.url))

    assert (delivery.delivered, delivery.status, len(receiver.requests)) == (False, status, 1)


def test_a_server_that_says_nothing_costs_its_time_outs_once(
    receiver: Receiver, tmp_path: Path
) -> None:
    """Three requests for the first alert, none for the second, and the other place gets both."""
    other = Receiver()
    receiver.statuses = [0, 0, 0]
    silent = Webhook(receiver.url, timeout_seconds=0.1)

    deliveries, _ = _deliver(_raised(tmp_path, "a", "b"), silent, Webhook(other.url))

    other.close()
    assert [(d.delivered, d.attempts) for d in deliveries] == [
        (False, 3),
        (False, 0),
        (True, 1),
        (True, 1),
    ]
    assert "imed out" in str(deliveries[0].error)


def test_a_dead_server_is_told_without_the_path(receiver: Receiver, tmp_path: Path) -> None:
    """The path of a webhook is often its key: neither destination nor error holds it."""
    receiver.close()

    (delivery,), _ = _deliver(_raised(tmp_path, "latency"), Webhook(receiver.url, "s3cret"))

    assert delivery.attempts == 3
    assert delivery.destination == receiver.url.removesuffix("/hooks/key-in-the-path")
    assert "refused" in str(delivery.error)
    assert "key-in-the-path" not in str(delivery)


def test_deliveries_are_kept_with_their_alert(receiver: Receiver, tmp_path: Path) -> None:
    """What was recorded comes back in order."""
    raised = _raised(tmp_path, "latency")
    receiver.statuses = [404, 200]
    with AlertStore(tmp_path / "state.db") as store:
        made = [d for _ in range(2) for d in _deliver(raised, Webhook(receiver.url))[0]]
        for delivery in made:
            store.record_delivery(delivery, now_ns=NOW)
        kept = store.deliveries(1)

    assert kept == made
    assert [delivery.delivered for delivery in kept] == [False, True]


@pytest.mark.parametrize("url", ["ftp://example.com/x", "file:///etc/passwd", "example.com", ""])
def test_an_address_that_is_not_http_is_refused(url: str) -> None:
    """Named by its key, without its value."""
    with pytest.raises(ConfigError, match=r"alerts\.webhooks\[0\]\.url"):
        Webhook(url).validate("alerts.webhooks[0]")
    with pytest.raises(ConfigError, match="timeout_seconds"):
        dataclasses.replace(Webhook("http://a"), timeout_seconds=0).validate("x")
