"""Send export requests over OTLP, or write them to a file."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from pyflare_proto.errors import (
    InvalidDataError,
    SourceUnavailableError,
    StorageError,
    UsageError,
)

__all__ = ["SendReport", "send", "write_file"]

EXPORT_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
TIMEOUT_S = 30.0
TRIES = 8
_RETRYABLE_HTTP = (429, 502, 503, 504)
_RETRYABLE_GRPC = ("CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "UNAVAILABLE", "DATA_LOSS")


@dataclass(slots=True)
class SendReport:
    """What became of the spans that were sent."""

    requests: int = 0
    spans_sent: int = 0
    """Spans that the receiver acknowledged."""
    spans_rejected: int = 0
    """Spans that the receiver answered as rejected."""
    retries: int = 0


class _LaterError(Exception):
    """A retryable answer; `after_s` when the server said how long."""

    def __init__(self, what: str, after_s: float | None) -> None:
        super().__init__(what)
        self.after_s = after_s


def send(
    requests: Iterable[ExportTraceServiceRequest],
    endpoint: str,
    *,
    rate: float | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> SendReport:
    """Send export requests one after the other, trying again as OTLP says.

    Args:
        requests: the requests.
        endpoint: `http://HOST:PORT` (OTLP/HTTP; port 4317 means gRPC, as SDKs have it),
            or `grpc://HOST:PORT`.
        rate: spans per second at most; as fast as possible when None.
        clock: seconds, monotonic.
        sleep: waits for seconds.

    Raises:
        UsageError: the endpoint is no URL of that form.
        SourceUnavailableError: nobody answers, or the answers stay "try again".
        InvalidDataError: the receiver refuses a request for good.
    """
    report = SendReport()
    begun = clock()
    with _connection(endpoint) as export:
        for request in requests:
            spans = sum(len(s.spans) for r in request.resource_spans for s in r.scope_spans)
            rejected = _deliver(export, request.SerializeToString(), endpoint, report, sleep)
            report.requests += 1
            report.spans_sent += spans - rejected
            report.spans_rejected += rejected
            if rate is not None:
                ahead = (report.spans_sent + report.spans_rejected) / rate - (clock() - begun)
                if ahead > 0:
                    sleep(ahead)
    return report


def _deliver(
    export: Callable[[bytes], int],
    payload: bytes,
    endpoint: str,
    report: SendReport,
    sleep: Callable[[float], None],
) -> int:
    for attempt in range(TRIES):
        try:
            return export(payload)
        except _LaterError as answer:
            last = answer
            report.retries += 1
            sleep(answer.after_s if answer.after_s is not None else min(5.0, 0.2 * 2**attempt))
    raise SourceUnavailableError(
        f"{endpoint} took no spans after {TRIES} tries: {last}",
        hint="start one with `pyflare collect`, or lower --rate",
    )


@contextmanager
def _connection(endpoint: str) -> Iterator[Callable[[bytes], int]]:
    """Yield a function that exports bytes and returns the number of rejected spans."""
    parts = urlsplit(endpoint if "://" in endpoint else f"http://{endpoint}")
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme not in ("http", "grpc") or not parts.hostname:
        raise UsageError(
            f"--otlp-endpoint is {endpoint!r}",
            hint="give http://HOST:4318 for OTLP/HTTP or grpc://HOST:4317 for OTLP/gRPC",
        )
    if parts.scheme == "grpc" or port == 4317:
        with _grpc(f"{parts.hostname}:{port or 4317}") as export:
            yield export
    else:
        path = parts.path.rstrip("/")
        path = path if path.endswith("/v1/traces") else f"{path}/v1/traces"
        with _http(parts.hostname, port or 4318, path) as export:
            yield export


@contextmanager
def _http(host: str, port: int, path: str) -> Iterator[Callable[[bytes], int]]:
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)

    def export(payload: bytes) -> int:
        headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
        try:
            connection.request("POST", path, gzip.compress(payload, 1), headers)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise _LaterError(str(error) or type(error).__name__, None) from None
        if answer.status == 200:
            return _rejected(body)
        if answer.status in _RETRYABLE_HTTP:
            after = answer.getheader("Retry-After", "")
            raise _LaterError(f"HTTP {answer.status}", float(after) if after.isdigit() else None)
        raise InvalidDataError(
            f"http://{host}:{port}{path} answered HTTP {answer.status}",
            hint="check that the address is an OTLP/HTTP receiver (port 4318)",
        )

    try:
        yield export
    finally:
        connection.close()


@contextmanager
def _grpc(target: str) -> Iterator[Callable[[bytes], int]]:
    import grpc

    with grpc.insecure_channel(target) as channel:
        call: Callable[..., bytes] = channel.unary_unary(EXPORT_METHOD)

        def export(payload: bytes) -> int:
            try:
                return _rejected(call(payload, timeout=TIMEOUT_S))
            except grpc.RpcError as error:
                status = error.code()
                if status.name in _RETRYABLE_GRPC:
                    raise _LaterError(f"gRPC {status.name}", None) from None
                raise InvalidDataError(
                    f"grpc://{target} answered {status.name}: {error.details()}",
                    hint="check that the address is an OTLP/gRPC receiver (port 4317)",
                ) from None

        yield export


def _rejected(body: bytes) -> int:
    return int(ExportTraceServiceResponse.FromString(body).partial_success.rejected_spans)


def write_file(requests: Iterable[ExportTraceServiceRequest], path: Path) -> SendReport:
    """Write export requests to `path`: OTLP/JSON lines, or one protobuf for .binpb and .pb.

    A name that ends in `.gz` is compressed.

    Raises:
        StorageError: the file cannot be written.
    """
    report = SendReport()
    stem = path.name.removesuffix(".gz")
    binary = stem.endswith((".binpb", ".pb"))
    try:
        with _opened(path) as handle:
            for request in requests:
                # Protobuf messages in a row are their merged message: one file is one request.
                data = request.SerializeToString() if binary else _json_line(request)
                handle.write(data)
                report.requests += 1
                report.spans_sent += sum(
                    len(s.spans) for r in request.resource_spans for s in r.scope_spans
                )
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror}", hint="give -o a path that can be written"
        ) from None
    return report


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with path.open("wb") as raw:
        if path.name.endswith(".gz"):
            # No time stamp, so that one seed gives one file.
            with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1, mtime=0) as packed:
                yield packed  # type: ignore[misc]  # GzipFile writes bytes as IO[bytes] does
        else:
            yield raw


def _json_line(request: ExportTraceServiceRequest) -> bytes:
    """Return a request as one line of OTLP/JSON: hexadecimal ids, integer enums."""
    document = MessageToDict(request, use_integers_for_enums=True)
    for resource in document.get("resourceSpans", []):
        for scope in resource.get("scopeSpans", []):
            for span in scope.get("spans", []):
                _hex_ids(span)
                for link in span.get("links", []):
                    _hex_ids(link)
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def _hex_ids(message: dict[str, Any]) -> None:
    for key in ("traceId", "spanId", "parentSpanId"):
        if key in message:
            message[key] = base64.b64decode(message[key]).hex()
