"""Where spans come in: OTLP over gRPC and HTTP."""

from pyflare_collector.receiver.receiver import OtlpReceiver

__all__ = ["OtlpReceiver"]
