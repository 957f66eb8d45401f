"""OTLP/HTTP, and the pages about the collector itself, on one port.

| path | methods | token needed |
|---|---|---|
| `/v1/traces`, `/v1/metrics`, `/v1/logs` | POST, OPTIONS with CORS | yes |
| `/health` | GET, HEAD | no |
| `/metrics`, `/status` | GET, HEAD | yes |
| `/tail` | GET | yes |

The event loop only moves bytes: decompression, transcoding and ingest run in a
pool of threads. Every answer of 400 and above is a `google.rpc.Status` in the
request's encoding, JSON where that is unknown.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

from aiohttp import web

from pyflare_collector.config import HttpConfig
from pyflare_collector.receiver.addresses import bind, join_endpoint, split_endpoint
from pyflare_collector.receiver.auth import BearerAuth
from pyflare_collector.receiver.body import content_encoding_of, decompress, encoding_of, too_large
from pyflare_collector.receiver.cors import Cors
from pyflare_collector.receiver.http_connection import Connection, HttpConnections, error_response
from pyflare_collector.receiver.intake import Intake, Slot
from pyflare_collector.receiver.outcome import CONTENT_TYPES, Code, RefusedError, failure_of
from pyflare_collector.receiver.signals import SIGNALS, TRACES, Signal, reject_all, response_body
from pyflare_collector.receiver.tls import ssl_context
from pyflare_proto.errors import InvalidDataError

__all__ = ["HttpServer", "Page"]

_LOG = logging.getLogger("pyflare.receiver.http")

WORKERS = 32
"""Requests worked on at once; the bodies of those that wait count as in flight."""

TAIL_PATH = "/tail"
"""Where those who watch get the spans as they are taken."""

ARROW_STREAM = "application/vnd.apache.arrow.stream"
"""IANA media type of an Arrow IPC stream."""

SERVER = "pyflare"
"""`Server` header, in place of aiohttp's, which tells its and Python's version."""

PAGE_HEADERS = {"Cache-Control": "no-store", "Server": SERVER}
"""Headers of what is not OTLP."""

T = TypeVar("T")

Page = Callable[[], tuple[int, str, bytes]]
"""Makes a page: HTTP status, Content-Type, body."""


class Stream(Protocol):
    """An answer that goes on; `pyflare_collector.live.Watch`."""

    def read(self) -> bytes | None:
        """Return the next bytes within a second or so, None at the end."""

    def close(self) -> None:
        """Let go of it."""


class HttpServer:
    """One listening HTTP server with an event loop in a thread of its own.

    Args:
        config: address, limits, origins, transport security.
        auth: who may send.
        intake: where requests go.
        pages: the pages behind GET by path; `/health` is open to all.
        watch: starts the stream of `/tail`.
    """

    def __init__(
        self,
        config: HttpConfig,
        auth: BearerAuth,
        intake: Intake,
        pages: dict[str, Page],
        watch: Callable[[], Stream] | None = None,
    ) -> None:
        self._config = config
        self._auth = auth
        self._intake = intake
        self._pages = pages
        self._watch = watch
        self._cors = Cors(config.cors_allowed_origins)
        self._signals = {signal.http_path: signal for signal in SIGNALS}
        self._pool: ThreadPoolExecutor | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self.address = ""
        """`HOST:PORT` while it listens."""

    def start(self) -> None:
        """Listen; returns when connections are accepted.

        Raises:
            ConfigError: the address cannot be had, or a certificate cannot be loaded.
        """
        config = self._config
        context = ssl_context(config.tls, "receiver.http.tls")
        sockets = bind(config.endpoint, "--http")
        port = sockets[0].getsockname()[1]
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="pyflare-http")
        listening: Future[None] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(sockets, context, listening)),
            name="pyflare-http",
            daemon=True,
        )
        self._thread.start()
        try:
            listening.result()
        except BaseException:
            self._thread.join()
            self._thread = None
            raise
        self.address = join_endpoint(split_endpoint(config.endpoint)[0], port)

    def stop(self) -> None:
        """Close all connections and stop listening."""
        if self._thread is None or self._loop is None or self._stopping is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._thread = None
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    async def _serve(
        self,
        sockets: list[socket.socket],
        context: ssl.SSLContext | None,
        listening: Future[None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        runner = web.ServerRunner(
            HttpConnections(self._handle, self._config.read_timeout_seconds),
            shutdown_timeout=1.0,
        )
        try:
            await runner.setup()
            for listener in sockets:
                await web.SockSite(runner, listener, ssl_context=context).start()
        except Exception as error:  # noqa: BLE001 - raised again in the thread that waits
            listening.set_exception(error)
            await runner.cleanup()
            return
        listening.set_result(None)
        await self._stopping.wait()
        await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request; no error leaves it but that of a lost connection."""
        connection = request.protocol
        if isinstance(connection, Connection):
            connection.request_begins()
        try:
            response = await self._route(request)
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - every failure is answered, none ends the server
            failure = failure_of(error)
            self._count(request, failure.code.name.lower())
            response = error_response(request, failure)
        finally:
            if isinstance(connection, Connection):
                connection.request_ends()
        response.headers.update(self._cors.headers(request.headers.get("Origin")))
        response.headers["Server"] = SERVER
        return response

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        if (signal := self._signals.get(request.path)) is not None:
            return await self._export(request, signal)
        if request.path == TAIL_PATH and self._watch is not None:
            return await self._tail(request, self._watch)
        page = self._pages.get(request.path)
        if page is None:
            raise RefusedError(
                Code.UNIMPLEMENTED,
                f"there is nothing at {request.path!r}, spans go to {TRACES.http_path}",
            )
        if request.method not in ("GET", "HEAD"):
            raise _not_allowed(request, "GET, HEAD")
        if request.path != "/health":
            self._auth.check(request.headers.get("Authorization"))
        status, content_type, body = await self._in_pool(page)
        return web.Response(
            status=status,
            body=body,
            headers={"Content-Type": content_type, **PAGE_HEADERS},
        )

    async def _tail(
        self, request: web.BaseRequest, watch: Callable[[], Stream]
    ) -> web.StreamResponse:
        """Stream spans until the watcher goes or the collector drains."""
        if request.method != "GET":
            raise _not_allowed(request, "GET")
        self._auth.check(request.headers.get("Authorization"))
        stream = watch()
        response = web.StreamResponse(headers={"Content-Type": ARROW_STREAM, **PAGE_HEADERS})
        try:
            await response.prepare(request)
            while (piece := await self._in_pool(stream.read)) is not None:
                await response.write(piece)
            await response.write_eof()
        except ConnectionError:
            raise
        except Exception:  # noqa: BLE001 - logged, and the connection is closed
            # Too late for an answer of its own: the watcher sees the stream break off.
            _LOG.exception("a stream of spans failed")
            response.force_close()
        finally:
            stream.close()
        return response

    async def _export(self, request: web.BaseRequest, signal: Signal) -> web.Response:
        if request.method == "OPTIONS" and self._cors.enabled:
            # A browser's preflight carries no credentials.
            return web.Response(status=204, headers=self._cors.preflight(request.headers))
        if request.method != "POST":
            raise _not_allowed(request, "POST")
        self._auth.check(request.headers.get("Authorization"))
        encoding = encoding_of(request.headers.get("Content-Type"))
        compression = content_encoding_of(request.headers.get("Content-Encoding"))
        with self._intake.admit() as slot:
            body = await self._body(request, slot)
            arrived = self._intake.clock()

            def work() -> bytes:
                self._intake.check_patience(arrived)
                limit = self._config.max_request_body_bytes
                data = decompress(body, compression, limit, slot.grow)
                if signal is not TRACES:
                    return response_body(signal, reject_all(signal, data, encoding), encoding)
                result = self._intake.take(_transcode(data) if encoding == "json" else data)
                return response_body(signal, result, encoding)

            answer = await self._in_pool(work)
        self._count(request, "ok")
        return web.Response(body=answer, headers={"Content-Type": CONTENT_TYPES[encoding]})

    async def _body(self, request: web.BaseRequest, slot: Slot) -> bytes:
        """Read a body within its limit, holding its size before its bytes are here."""
        limit = self._config.max_request_body_bytes
        declared = request.content_length or 0
        if declared > limit:
            raise too_large(limit)
        slot.grow(declared)
        await _expect(request)
        chunks: list[bytes] = []
        total = 0
        try:
            async with asyncio.timeout(self._config.read_timeout_seconds):
                async for chunk in request.content.iter_any():
                    total += len(chunk)
                    if total > limit:
                        raise too_large(limit)
                    slot.grow(max(0, total - max(declared, total - len(chunk))))
                    chunks.append(chunk)
        except TimeoutError:
            raise RefusedError(
                Code.DEADLINE_EXCEEDED,
                f"the body did not arrive in {self._config.read_timeout_seconds:g} s",
                headers=(("Connection", "close"),),
            ) from None
        except web.RequestPayloadError as error:
            raise InvalidDataError(f"the body cannot be read: {error}") from error
        return b"".join(chunks)

    async def _in_pool(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _count(self, request: web.BaseRequest, outcome: str) -> None:
        signal = self._signals.get(request.path)
        if signal is not None:
            self._intake.answered("http", signal.name, outcome)


def _not_allowed(request: web.BaseRequest, allowed: str) -> RefusedError:
    return RefusedError(
        Code.UNIMPLEMENTED,
        f"{request.method} is not possible at {request.path}, only {allowed}",
        http_status=405,
        headers=(("Allow", allowed),),
    )


async def _expect(request: web.BaseRequest) -> None:
    """Ask for the body of a client that waits for a word before it sends one (RFC 9110, 10.1.1)."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # The answer itself has not been started.
        request.writer.output_size = 0


def _transcode(text: bytes) -> bytes:
    """Return the protobuf bytes of an OTLP/JSON request; an empty body is an empty request."""
    if not text.strip():
        return b""
    from pyflare_proto.otlp.jsonotlp import transcode

    return transcode(text)
