"""aiohttp's connections with OTLP's error bodies and a time limit for the head of a request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler

from pyflare_collector.receiver.body import encoding_of
from pyflare_collector.receiver.outcome import (
    CONTENT_TYPES,
    Code,
    Encoding,
    Failure,
    RefusedError,
    failure_of,
    retry_after_header,
    status_body,
)

__all__ = ["Connection", "HttpConnections", "error_response"]

_LOG = logging.getLogger("pyflare.receiver.http")

KEEPALIVE_S = 120.0
"""Idle connections are closed after this time: longer than exporters wait between batches."""

LINGER_S = 2.0
"""How long the rest of a refused body is read, so that the client reads its answer."""

MAX_LINE_BYTES = 8190
"""Longest request line and header field; longer ones are answered 431."""


class HttpConnections(web.Server):
    """Makes the connections of one HTTP server.

    Args:
        handler: answers a request.
        head_timeout_s: seconds in which the head of a request must arrive.
    """

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        head_timeout_s: float,
    ) -> None:
        super().__init__(handler)
        self.head_timeout_s = head_timeout_s

    def __call__(self) -> RequestHandler:
        """Return the protocol of a new connection."""
        return Connection(self)


class Connection(RequestHandler):
    """One connection.

    aiohttp closes connections that send nothing; this one also closes those that
    send a head too slowly, and answers bytes that are no HTTP with a `Status`.
    """

    # The base has slots; without these every connection would grow a dictionary.
    __slots__ = ("_busy", "_head_timeout_s", "_head_timer")

    def __init__(self, server: HttpConnections) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=KEEPALIVE_S,
            lingering_time=LINGER_S,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
            # Bodies are decompressed in the workers, within their own limit.
            auto_decompress=False,
            logger=_LOG,
            access_log=None,  # type: ignore[arg-type]  # aiohttp tests it for truth
        )
        self._head_timeout_s = server.head_timeout_s
        self._head_timer: asyncio.TimerHandle | None = None
        self._busy = False

    def data_received(self, data: bytes) -> None:
        """Start the clock at the first bytes that belong to no request in work."""
        if self._head_timer is None and not self._busy:
            loop = asyncio.get_running_loop()
            self._head_timer = loop.call_later(self._head_timeout_s, self._too_slow)
        super().data_received(data)

    def request_begins(self) -> None:
        """Stop the clock: a request has been read up to its body."""
        self._busy = True
        self._stop_clock()

    def request_ends(self) -> None:
        """Say that the request in work has been answered."""
        self._busy = False

    def _stop_clock(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the clock."""
        self._stop_clock()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer bytes that are no HTTP request, and errors of aiohttp itself.

        The parser's message is left out: it quotes the bytes, and they may hold a token.
        """
        del message
        self._stop_clock()
        name = type(exc).__name__ if exc is not None else "no details"
        _LOG.warning("request of %s could not be read: %s", request.remote, name)
        if request.writer.output_size > 0:
            raise ConnectionResetError("the answer has been started already")
        if isinstance(exc, LineTooLong):
            reason = f"a line of the request's head is longer than {MAX_LINE_BYTES} bytes"
            error = RefusedError(Code.INVALID_ARGUMENT, reason, http_status=431)
        elif status < 500:
            error = RefusedError(Code.INVALID_ARGUMENT, f"this is no HTTP request ({name})")
        else:
            error = RefusedError(Code.INTERNAL, f"internal error ({name})")
        response = error_response(request, failure_of(error))
        response.force_close()
        return response

    def _too_slow(self) -> None:
        self._head_timer = None
        if not self._busy and self.transport is not None:
            _LOG.info("closed a connection whose request did not arrive in time")
            self.transport.close()


def error_response(request: web.BaseRequest, failure: Failure) -> web.Response:
    """Return the answer to a request that failed.

    Its body is encoded as the request's is, else as `Accept` asks, else as JSON.
    """
    encoding: Encoding
    try:
        encoding = encoding_of(request.headers.get("Content-Type"))
    except RefusedError:
        wanted = request.headers.get("Accept", "")
        encoding = "protobuf" if "application/x-protobuf" in wanted else "json"
    headers = {"Content-Type": CONTENT_TYPES[encoding], **dict(failure.headers)}
    if (seconds := retry_after_header(failure)) is not None:
        headers["Retry-After"] = seconds
    return web.Response(
        status=failure.http_status, body=status_body(failure, encoding), headers=headers
    )
