"""One attempt to send a request over OTLP/gRPC; needs the extra `grpc`."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
from google.rpc.error_details_pb2 import RetryInfo
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from pyflare._version import __version__
from pyflare.delivery.outcome import Outcome
from pyflare.settings import Target

__all__ = ["GrpcSender"]

_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_RETRY_KEY = "google.rpc.retryinfo-bin"
# The retryable codes of the OTLP specification.
_AGAIN = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
_UNREACHED = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})


class GrpcSender:
    """Calls the trace service with encoded requests.

    Args:
        target: where to; its protocol is `grpc`.
    """

    def __init__(self, target: Target) -> None:
        parts = urlsplit(target.url)
        self._server = parts.netloc.rpartition("@")[2]
        self.address = f"{self._server} (gRPC)"
        self._target = target
        self._metadata = tuple(target.headers.items())
        self._channel: grpc.Channel | None = None
        self._call: Any = None

    def pack(self, body: bytes) -> bytes:
        """Return an encoded request as it goes over the wire; gRPC compresses by itself."""
        return body

    def send(self, body: bytes, timeout_seconds: float) -> Outcome:
        """Make one attempt to send a packed request; never raises."""
        try:
            if self._channel is None:
                self._open()
            answer = self._call(body, timeout=timeout_seconds, metadata=self._metadata)
            return Outcome("sent", rejected=int(answer.partial_success.rejected_spans))
        except grpc.RpcError as error:
            return _failure(error)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong on the way, it may go right later
            return Outcome("again", f"{type(error).__name__}: {error}", reached=False)

    def reset(self) -> None:
        """Forget the channel without using it: it belongs to the parent process."""
        self._channel = self._call = None

    def close(self) -> None:
        """Close the channel."""
        channel, self._channel, self._call = self._channel, None, None
        if channel is not None:
            channel.close()

    def _open(self) -> None:
        gzip = self._target.compression == "gzip"
        options = [("grpc.primary_user_agent", f"pyflare-python/{__version__}")]
        compression = grpc.Compression.Gzip if gzip else grpc.Compression.NoCompression
        if self._target.insecure:
            channel = grpc.insecure_channel(self._server, options, compression)
        else:
            credentials = grpc.ssl_channel_credentials(
                _bytes_of(self._target.certificate),
                _bytes_of(self._target.client_key),
                _bytes_of(self._target.client_certificate),
            )
            channel = grpc.secure_channel(self._server, credentials, options, compression)
        self._channel = channel
        self._call = channel.unary_unary(
            _METHOD,
            request_serializer=None,
            response_deserializer=ExportTraceServiceResponse.FromString,
        )


def _failure(error: grpc.RpcError) -> Outcome:
    code = error.code()
    reason = f"gRPC {code.name}: {error.details()}"
    if code not in _AGAIN:
        return Outcome("refused", reason)
    after = None
    told: Any = error.trailing_metadata() or ()
    for key, value in told:
        if key == _RETRY_KEY:
            after = RetryInfo.FromString(value).retry_delay.ToTimedelta().total_seconds()
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and after is None:
        # The specification: without RetryInfo this is a limit that stays.
        return Outcome("refused", reason)
    return Outcome("again", reason, after, reached=code not in _UNREACHED)


def _bytes_of(path: str) -> bytes | None:
    return Path(path).read_bytes() if path else None
