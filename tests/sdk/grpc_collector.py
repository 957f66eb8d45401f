"""A server that takes spans over OTLP/gRPC, and misbehaves on request."""

from __future__ import annotations

from concurrent import futures
from typing import Any, Self

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

__all__ = ["GrpcCollector"]


class GrpcCollector(trace_service_pb2_grpc.TraceServiceServicer):
    """Listens on a port of this machine.

    Args:
        code: status that it answers with; None takes the spans.
        trailer: metadata of the answer.
    """

    def __init__(
        self, code: grpc.StatusCode | None = None, trailer: tuple[tuple[str, Any], ...] = ()
    ) -> None:
        self.code = code
        self.trailer = trailer
        self.requests: list[ExportTraceServiceRequest] = []
        self.metadata: list[dict[str, str]] = []
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def Export(  # noqa: N802 - the service's name for it
        self, request: ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> ExportTraceServiceResponse:
        """Take a request."""
        self.metadata.append({key: str(value) for key, value in context.invocation_metadata()})
        if self.code is not None:
            context.set_trailing_metadata(self.trailer)
            context.abort(self.code, "as asked")
        self.requests.append(request)
        return ExportTraceServiceResponse()

    @property
    def names(self) -> list[str]:
        """The names of the spans that it took."""
        return [
            span.name
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def __enter__(self) -> Self:
        """Serve."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._server.stop(None)
