"""The OTLP services: where they are called, and what they answer.

Only traces are kept. Metrics and logs are answered as OTLP's partial success that
rejects every data point or record: SDKs on their defaults send all three signals
to one endpoint, and this is the one answer after which they neither try again nor
believe that something was stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from pyflare_collector.ingest import IngestResult
from pyflare_collector.receiver.outcome import Encoding, cut
from pyflare_proto.errors import InvalidDataError

if TYPE_CHECKING:
    from google.protobuf.message import Message

__all__ = ["LOGS", "METRICS", "SIGNALS", "TRACES", "Signal", "reject_all", "response_body"]


@dataclass(frozen=True, slots=True)
class Signal:
    """One of OTLP's services."""

    name: str
    """Lower case, plural."""
    service: str
    """Full name of the gRPC service."""
    http_path: str
    rejected_key: str
    """Key of the number of rejected items in a JSON response."""

    @property
    def grpc_method(self) -> str:
        """The path of the gRPC call."""
        return f"/{self.service}/Export"


TRACES = Signal(
    "traces",
    "opentelemetry.proto.collector.trace.v1.TraceService",
    "/v1/traces",
    "rejectedSpans",
)
METRICS = Signal(
    "metrics",
    "opentelemetry.proto.collector.metrics.v1.MetricsService",
    "/v1/metrics",
    "rejectedDataPoints",
)
LOGS = Signal(
    "logs",
    "opentelemetry.proto.collector.logs.v1.LogsService",
    "/v1/logs",
    "rejectedLogRecords",
)
SIGNALS = (TRACES, METRICS, LOGS)


def response_body(signal: Signal, result: IngestResult, encoding: Encoding) -> bytes:
    """Return the encoded `Export...ServiceResponse`.

    `partial_success` is left out when everything was taken without a word. The
    three responses have the same field numbers (`opentelemetry-proto`,
    `collector/*/v1/*_service.proto`), so one class encodes them all.
    """
    if not result.rejected and not result.message:
        return b"{}" if encoding == "json" else b""
    message = cut(result.message) or "rejected without a reason"
    if encoding == "json":
        # 64-bit integers are strings in the JSON mapping of protobuf.
        partial = {signal.rejected_key: str(result.rejected), "errorMessage": message}
        return orjson.dumps({"partialSuccess": partial})
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
        ExportTraceServiceResponse,
    )

    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = result.rejected
    response.partial_success.error_message = message
    data: bytes = response.SerializeToString()
    return data


def reject_all(signal: Signal, body: bytes, encoding: Encoding) -> IngestResult:
    """Return the answer to a request of a signal that is not kept.

    Raises:
        InvalidDataError: the bytes are no such request.
    """
    count = _count_json(signal, body) if encoding == "json" else _count_protobuf(signal, body)
    if not count:
        return IngestResult(accepted=0)
    what = "data points" if signal is METRICS else "log records"
    return IngestResult(
        accepted=0,
        rejected=count,
        message=(
            f"this collector keeps traces only: {count} {what} are not stored; "
            f"set OTEL_{signal.name.upper()}_EXPORTER=none to stop sending them"
        ),
    )


def _count_protobuf(signal: Signal, body: bytes) -> int:
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
        ExportMetricsServiceRequest,
    )

    try:
        if signal is LOGS:
            logs = ExportLogsServiceRequest.FromString(body)
            return sum(len(s.log_records) for r in logs.resource_logs for s in r.scope_logs)
        metrics = ExportMetricsServiceRequest.FromString(body)
    except DecodeError as error:
        raise InvalidDataError(f"the body is no request of {signal.name}: {error}") from error
    return sum(
        _data_points(metric)
        for resource in metrics.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    )


def _data_points(metric: Message) -> int:
    kind = metric.WhichOneof("data")
    return len(getattr(metric, kind).data_points) if kind else 0


def _count_json(signal: Signal, body: bytes) -> int:
    try:
        document = orjson.loads(body) if body.strip() else {}
    except orjson.JSONDecodeError as error:
        raise InvalidDataError(f"the body is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidDataError(f"the body is a JSON {type(document).__name__}, not an object")
    if signal is LOGS:
        return sum(1 for _ in _walk(document, "resourceLogs", "scopeLogs", "logRecords"))
    metrics = _walk(document, "resourceMetrics", "scopeMetrics", "metrics")
    return sum(
        1
        for metric in metrics
        for data in metric.values()
        if isinstance(data, dict)
        for _ in _walk(data, "dataPoints")
    )


def _walk(node: dict[str, object], *path: str) -> Iterator[dict[str, object]]:
    """Yield the objects at the end of a path of lists."""
    children = node.get(path[0])
    for child in children if isinstance(children, list) else ():
        if not isinstance(child, dict):
            raise InvalidDataError(f"{path[0]} holds a {type(child).__name__}, not an object")
        if len(path) == 1:
            yield child
        else:
            yield from _walk(child, *path[1:])
