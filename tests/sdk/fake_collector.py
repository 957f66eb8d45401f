"""A server that takes spans over OTLP/HTTP, and misbehaves on request."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

__all__ = ["FakeCollector", "attributes_of", "until"]


class FakeCollector:
    """Listens on a port of this machine; `spans` are what it took.

    Args:
        status: HTTP status of the answers; 200 takes the spans.
        hang_seconds: how long it waits before it answers.
        rejected: spans of each request that it claims not to have taken.
        headers: further headers of the answers.
        port: to listen on; 0 picks one.
    """

    def __init__(
        self,
        status: int = 200,
        *,
        hang_seconds: float = 0.0,
        rejected: int = 0,
        headers: dict[str, str] | None = None,
        port: int = 0,
    ) -> None:
        self.status = status
        self.hang_seconds = hang_seconds
        self.rejected = rejected
        self.headers = headers or {}
        self.requests: list[ExportTraceServiceRequest] = []
        self.seen_headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.stopping = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()

    @property
    def spans(self) -> list[Span]:
        """The spans that it took, in order."""
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def names(self) -> list[str]:
        """Their names."""
        return [span.name for span in self.spans]

    def resource(self) -> dict[str, Any]:
        """Return the attributes of the first resource."""
        return attributes_of(self.requests[0].resource_spans[0].resource)

    def stop(self) -> None:
        """Close the port: whoever connects from now on is refused."""
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        """Serve."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.times.append(time.monotonic())
                collector.seen_headers.append({k.lower(): v for k, v in self.headers.items()})
                if collector.hang_seconds and collector.stopping.wait(collector.hang_seconds):
                    self.close_connection = True
                    return
                answer = ExportTraceServiceResponse()
                if collector.status == 200:
                    if self.headers.get("content-encoding") == "gzip":
                        body = gzip.decompress(body)
                    collector.requests.append(ExportTraceServiceRequest.FromString(body))
                    if collector.rejected:
                        told = ExportTracePartialSuccess(rejected_spans=collector.rejected)
                        answer.partial_success.CopyFrom(told)
                text = answer.SerializeToString()
                self.send_response(collector.status)
                for name, value in collector.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


def attributes_of(thing: Any) -> dict[str, Any]:
    """Return the attributes of a span, a resource or an event as plain values."""
    return {item.key: _plain(item.value) for item in thing.attributes}


def _plain(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None


def until(condition: Callable[[], bool], limit_seconds: float = 10.0) -> bool:
    """Wait for a condition; return whether it came."""
    end = time.monotonic() + limit_seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
