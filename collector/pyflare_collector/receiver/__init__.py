"""Where spans come in: OTLP over gRPC and HTTP."""

import os

# Read by gRPC when it is imported: its core would write every failed handshake to stderr.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

from pyflare_collector.receiver.receiver import OtlpReceiver

__all__ = ["OtlpReceiver"]
