"""Alerts as HTTP requests: POST of JSON, signed, retried, never fatal.

The form is that of Standard Webhooks (standardwebhooks.com, version 1): the headers
`webhook-id`, `webhook-timestamp` and, with a secret, `webhook-signature:
v1,<base64 of HMAC-SHA256 over "id.timestamp.body">`; the body is `{"type",
"timestamp", "data"}`. Its `data` is the alert as `pyflare alerts list` prints it. The
additional `text` is what chat tools show of an incoming webhook.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from pyflare_proto.errors import ConfigError
from pyflare_storage.alerts import Alert, Delivery, Raised
from pyflare_storage.json_text import compact_json
from pyflare_storage.times import format_time

__all__ = ["Webhook", "deliver", "signature"]

_BACKOFF_S = (0.5, 2.0)
"""Seconds to wait before the second and the third request."""
_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Webhook:
    """One place that alerts are posted to."""

    url: str
    """http:// or https:// address. It is a secret: many tools put a key into its path."""
    secret: str = ""
    """Key of the signature, `whsec_...` (base64) or any text; without one nothing is signed."""
    timeout_seconds: float = 5.0
    """Seconds that one request may take."""

    def validate(self, path: str) -> None:
        """Raise `ConfigError` for an address or a time that cannot be used."""
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigError(
                f"{path}.url is no http:// or https:// address",
                hint=f"set {path}.url to something like https://hooks.example.com/alerts",
            )
        if not 0 < self.timeout_seconds <= 60:
            raise ConfigError(
                f"{path}.timeout_seconds is {self.timeout_seconds}",
                hint=f"set {path}.timeout_seconds to more than 0 and at most 60",
            )

    @property
    def destination(self) -> str:
        """The address without what may be secret: scheme, host and port."""
        parts = urlsplit(self.url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname}{port}"


def signature(secret: str, message_id: str, timestamp_s: int, body: bytes) -> str:
    """Return the value of `webhook-signature`.

    Source: Standard Webhooks 1.0.0, "Signature scheme", symmetric.
    """
    key = secret.encode()
    if secret.startswith("whsec_"):
        try:
            key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except binascii.Error as error:
            raise ConfigError(
                "the secret of a webhook starts with whsec_ and is not base64 after it",
                hint="copy it again, or use a text without that prefix",
            ) from error
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def deliver(
    raised: Iterable[Raised],
    webhooks: Sequence[Webhook],
    *,
    now_ns: Callable[[], int] = time.time_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Delivery]:
    """Post the alerts that are news to every webhook.

    A request that fails by the network, a time-out, or a status that promises better luck
    later is made three times. A place that failed once is not tried for the further
    alerts of the same call, so that a dead one costs its time-outs once.

    Args:
        raised: what became of sightings; only news are posted.
        webhooks: where to.
        now_ns: the clock.
        sleep: waits so many seconds.

    Returns:
        One delivery for each piece of news and webhook.
    """
    deliveries = []
    news = [item for item in raised if item.is_news]
    for webhook in webhooks:
        dead = False
        for item in news:
            if dead:
                delivery = _failed(item.alert, webhook, "not tried: the one before failed")
            else:
                delivery = _post(item, webhook, now_ns, sleep)
                dead = not delivery.delivered
            deliveries.append(delivery)
    return deliveries


def _failed(
    alert: Alert, webhook: Webhook, error: str, attempts: int = 0, status: int | None = None
) -> Delivery:
    return Delivery(
        alert.id,
        webhook.destination,
        delivered=False,
        attempts=attempts,
        status=status,
        error=error,
    )


def _post(
    item: Raised, webhook: Webhook, now_ns: Callable[[], int], sleep: Callable[[float], None]
) -> Delivery:
    alert = item.alert
    body = compact_json(
        {
            "type": "alert.raised" if item.is_new else "alert.escalated",
            "timestamp": format_time(now_ns()),
            "data": alert.to_dict(),
            "text": f"[{alert.severity}] {alert.message}",
        }
    ).encode()
    # The same for each try, so that a receiver can tell a repetition.
    message_id = f"alert_{alert.id}_{alert.occurrences}"
    status, error, attempts = None, "", 0
    for attempts, pause in enumerate((*_BACKOFF_S, None), 1):
        status, error = _request(webhook, message_id, body, now_ns() // 1_000_000_000)
        if status is not None and 200 <= status < 300:
            return Delivery(alert.id, webhook.destination, True, attempts, status, None)
        if pause is None or (status is not None and status not in _TRY_AGAIN):
            break
        sleep(pause)
    return _failed(alert, webhook, error, attempts, status)


def _request(
    webhook: Webhook, message_id: str, body: bytes, timestamp_s: int
) -> tuple[int | None, str]:
    """Make one request; return its status, None without an answer, and what went wrong."""
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import Request, build_opener

    headers = {
        "content-type": "application/json",
        "user-agent": "pyflare",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
    }
    if webhook.secret:
        headers["webhook-signature"] = signature(webhook.secret, message_id, timestamp_s, body)
    request = Request(webhook.url, data=body, headers=headers, method="POST")  # noqa: S310 - validate allows http and https only
    try:
        with build_opener(_no_redirects()).open(request, timeout=webhook.timeout_seconds) as answer:
            return answer.status, f"HTTP status {answer.status}"
    except HTTPError as error:
        error.close()
        return error.code, f"HTTP status {error.code}"
    except HTTPException as error:  # its text may hold the address
        return None, type(error).__name__
    except OSError as error:
        reason = getattr(error, "reason", None) or error
        return None, f"{type(reason).__name__}: {reason}"[:200]


def _no_redirects() -> type:
    """Return a handler that follows no redirect: it would repeat a secret to another host."""
    from urllib.request import HTTPRedirectHandler

    class NoRedirects(HTTPRedirectHandler):
        def redirect_request(self, *_: object, **__: object) -> None:
            return None

    return NoRedirects
