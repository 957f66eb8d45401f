"""One attempt to send a request over OTLP/HTTP."""

from __future__ import annotations

import codecs
import gzip
import netrc  # noqa: F401 - see _PRELOADED
from email.utils import parsedate_to_datetime
from math import isfinite
from time import time
from urllib.parse import urlsplit

import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from pyflare._version import __version__
from pyflare.delivery.outcome import Outcome
from pyflare.settings import Target

__all__ = ["HttpSender"]

_AGAIN = frozenset({429, 502, 503, 504})  # the OTLP specification: no other may be sent again
_HINTS = {
    401: "the collector wants a token: set headers or OTEL_EXPORTER_OTLP_HEADERS",
    403: "the token in headers or OTEL_EXPORTER_OTLP_HEADERS is not accepted",
    404: "nothing takes spans at this path",
    405: "nothing takes spans at this path",
}
_MAX_ANSWER_BYTES = 65_536
# What requests and sockets would import with the first request, in the sender's thread:
# a process forked during an import waits for ever for the lock of that module.
_PRELOADED = codecs.lookup("idna"), requests


class HttpSender:
    """Posts encoded requests.

    Args:
        target: where to; its protocol is `http`.
    """

    def __init__(self, target: Target) -> None:
        parts = urlsplit(target.url)
        self.address = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
        self._target = target
        self._headers = {
            "user-agent": f"pyflare-python/{__version__}",
            **target.headers,
            "content-type": "application/x-protobuf",
        }
        if target.compression:
            self._headers["content-encoding"] = target.compression
        self._session: requests.Session | None = None

    def pack(self, body: bytes) -> bytes:
        """Return an encoded request as it goes over the wire."""
        # Level 1 takes most of what text and repeated keys give, at a tenth of the time of 9.
        return gzip.compress(body, compresslevel=1) if self._target.compression else body

    def send(self, body: bytes, timeout_seconds: float) -> Outcome:
        """Make one attempt to send a packed request; never raises."""
        try:
            return self._post(body, timeout_seconds)
        except requests.exceptions.InvalidURL as error:
            return Outcome("refused", f"the endpoint is not a URL: {error}", reached=False)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong on the way, it may go right later
            return Outcome("again", _cause(error), reached=False)

    def reset(self) -> None:
        """Forget the connections without using them: they belong to the parent process."""
        self._session = None

    def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _post(self, body: bytes, timeout_seconds: float) -> Outcome:
        session = self._session = self._session or self._open()
        with session.post(
            self._target.url,
            data=body,
            headers=self._headers,
            timeout=timeout_seconds,
            allow_redirects=False,
            stream=True,
        ) as answer:
            if 200 <= answer.status_code < 300:
                return Outcome("sent", rejected=_rejected(answer))
            reason = f"HTTP {answer.status_code} {answer.reason}".rstrip()
            if answer.status_code in _AGAIN:
                return Outcome("again", reason, _retry_after(answer.headers.get("retry-after")))
            hint = _HINTS.get(answer.status_code)
            return Outcome("refused", f"{reason}: {hint}" if hint else reason)

    def _open(self) -> requests.Session:
        session = requests.Session()
        if "authorization" in self._headers:
            session.auth = lambda request: request  # or a .netrc of the machine would replace it
        session.verify = self._target.certificate or True
        if self._target.client_certificate:
            key = self._target.client_key
            own = self._target.client_certificate
            session.cert = (own, key) if key else own
        return session


def _rejected(answer: requests.Response) -> int:
    """Return how many spans of a request that was taken were not."""
    try:
        body = answer.raw.read(_MAX_ANSWER_BYTES, decode_content=True)
        told = ExportTraceServiceResponse.FromString(body)
    except Exception:  # noqa: BLE001 - an answer that cannot be read says nothing of rejections
        return 0
    return int(told.partial_success.rejected_spans)


def _retry_after(text: str | None) -> float | None:
    """Return the seconds of a Retry-After header: a number of them or a date (RFC 9110)."""
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        pass
    else:
        return max(seconds, 0.0) if isfinite(seconds) else None
    try:
        return max(parsedate_to_datetime(text).timestamp() - time(), 0.0)
    except (TypeError, ValueError):
        return None


def _cause(error: BaseException) -> str:
    """Return the innermost reason: `requests` wraps what the system said several times."""
    seen: list[BaseException] = []
    while error not in seen:
        seen.append(error)
        inner = error.__cause__ or error.__context__
        if inner is None:
            break
        error = inner
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"{type(error).__name__}: {words}"
