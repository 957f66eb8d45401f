"""What a failed request is answered: one table for gRPC and HTTP.

Every failure is a `google.rpc.Status`: gRPC carries it in the call's status and
trailers, HTTP as the body in the request's own encoding. Only `UNAVAILABLE` and
HTTP 503 may be tried again (OTLP specification, "Failures" and "OTLP/HTTP
Response"); they say after how long, `RetryInfo` on both, `Retry-After` on HTTP.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import orjson

from pyflare_proto.errors import (
    InvalidDataError,
    PyFlareError,
    RetryableError,
    SourceUnavailableError,
    StorageError,
)

__all__ = [
    "CONTENT_TYPES",
    "Code",
    "Encoding",
    "Failure",
    "LogLimit",
    "RefusedError",
    "cut",
    "failure_of",
    "retry_after_header",
    "retry_info",
    "status_body",
]

_LOG = logging.getLogger("pyflare.receiver")

Encoding = Literal["protobuf", "json"]
"""How a body is encoded."""

CONTENT_TYPES: dict[Encoding, str] = {
    "protobuf": "application/x-protobuf",
    "json": "application/json",
}
"""Content-Type of a response by its encoding."""

MAX_MESSAGE_BYTES = 1024
"""Longest message sent to a client, UTF-8 bytes.

It travels percent-encoded and once more inside base64 in gRPC trailers, for which
clients allow 8 KiB by default.
"""

DISK_RETRY_AFTER_S = 5.0
"""When to try again after the disk took no data: time enough for somebody to make room."""


class Code(IntEnum):
    """Codes of `google.rpc.Code` that the receiver answers with."""

    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


_HTTP_STATUS = {
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 408,
    Code.NOT_FOUND: 404,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 413,
    Code.UNIMPLEMENTED: 404,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.UNAUTHENTICATED: 401,
}


@dataclass(frozen=True, slots=True)
class Failure:
    """The answer to a request of which nothing was taken."""

    code: Code
    http_status: int
    message: str
    """One line, at most `MAX_MESSAGE_BYTES`."""
    retry_after_s: float | None = None
    """Seconds to wait before the next try; None when trying again is of no use."""
    headers: tuple[tuple[str, str], ...] = ()
    """HTTP headers beyond Content-Type and Retry-After."""


class RefusedError(PyFlareError):
    """A request that is turned away before its spans are looked at.

    Args:
        code: what kind of refusal.
        message: why.
        http_status: the HTTP status where it is not the code's usual one.
        headers: HTTP headers of the answer, such as `Allow`.
    """

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        http_status: int | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.failure = Failure(
            code, http_status or _HTTP_STATUS[code], cut(message), headers=headers
        )


class LogLimit:
    """Says which errors to log, so that a failing disk does not fill another one with text.

    The same error is due again after `every_s` seconds; clients hear of it each time.

    Args:
        every_s: seconds.
        clock: monotonic seconds.
    """

    _MOST = 64

    def __init__(self, every_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_s = every_s
        self._clock = clock
        self._last: dict[tuple[type[Exception], str], float] = {}
        self._lock = threading.Lock()

    def is_due(self, error: Exception) -> bool:
        """Whether to log an error now."""
        key = (type(error), str(error)[:200])
        now = self._clock()
        with self._lock:
            if now - self._last.get(key, -math.inf) < self._every_s:
                return False
            self._last.pop(key, None)
            self._last[key] = now
            while len(self._last) > self._MOST:
                del self._last[next(iter(self._last))]
            return True


_LOGGED = LogLimit(10.0)


def cut(message: str) -> str:
    """Return `message` as one line of at most `MAX_MESSAGE_BYTES` UTF-8 bytes."""
    line = " ".join(message.split())
    data = line.encode("utf-8", "replace")
    if len(data) <= MAX_MESSAGE_BYTES:
        return data.decode()
    return data[: MAX_MESSAGE_BYTES - 3].decode("utf-8", "ignore") + "..."


def failure_of(error: Exception) -> Failure:
    """Return the answer that an error becomes; what is a defect of ours is logged."""
    if isinstance(error, RefusedError):
        return error.failure
    if isinstance(error, InvalidDataError):
        return Failure(Code.INVALID_ARGUMENT, 400, cut(error.message))
    if isinstance(error, RetryableError):
        return Failure(Code.UNAVAILABLE, 503, cut(error.message), max(error.retry_after_s, 0.001))
    if isinstance(error, (StorageError, SourceUnavailableError)):
        if _LOGGED.is_due(error):
            _LOG.error("cannot take spans: %s", error.message)
        return Failure(Code.UNAVAILABLE, 503, cut(error.message), DISK_RETRY_AFTER_S)
    if _LOGGED.is_due(error):
        _LOG.error("request failed: %s", error, exc_info=error)
    message = f"internal error ({type(error).__name__}), see the log of the collector"
    return Failure(Code.INTERNAL, 500, message)


def retry_info(failure: Failure) -> bytes | None:
    """Return the serialised `google.rpc.RetryInfo` of a failure, None when it is final."""
    if failure.retry_after_s is None:
        return None
    from google.protobuf.duration_pb2 import Duration
    from google.rpc.error_details_pb2 import RetryInfo

    delay = Duration()
    delay.FromMilliseconds(_milliseconds(failure.retry_after_s))
    data: bytes = RetryInfo(retry_delay=delay).SerializeToString()
    return data


def retry_after_header(failure: Failure) -> str | None:
    """Return the value of `Retry-After`: whole seconds, rounded up, None when final."""
    return None if failure.retry_after_s is None else str(math.ceil(failure.retry_after_s))


def status_body(failure: Failure, encoding: Encoding) -> bytes:
    """Return the `google.rpc.Status` of a failure.

    Its details are a `RetryInfo` for a failure to try again, and a `BadRequest`
    for an invalid request.
    """
    if encoding == "json":
        return _status_json(failure)
    from google.protobuf.any_pb2 import Any as AnyMessage
    from google.rpc.error_details_pb2 import BadRequest
    from google.rpc.status_pb2 import Status

    status = Status(code=failure.code, message=failure.message)
    if (info := retry_info(failure)) is not None:
        name = "type.googleapis.com/google.rpc.RetryInfo"
        status.details.append(AnyMessage(type_url=name, value=info))
    elif failure.code == Code.INVALID_ARGUMENT:
        request = BadRequest()
        request.field_violations.add(field="body", description=failure.message)
        status.details.add().Pack(request)
    data: bytes = status.SerializeToString()
    return data


def _status_json(failure: Failure) -> bytes:
    status: dict[str, object] = {"code": int(failure.code), "message": failure.message}
    if failure.retry_after_s is not None:
        delay = f"{_milliseconds(failure.retry_after_s) / 1000:.3f}s"
        status["details"] = [
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}
        ]
    elif failure.code == Code.INVALID_ARGUMENT:
        violation = {"field": "body", "description": failure.message}
        status["details"] = [
            {
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": [violation],
            }
        ]
    return orjson.dumps(status)


def _milliseconds(seconds: float) -> int:
    return max(1, math.ceil(seconds * 1000))
