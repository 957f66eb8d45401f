"""What the receiver hands a request to, and what it hears back.

`Ingest` is the one call between the sockets and the rest of the collector. Its
outcome is the answer to the client: an `IngestResult` when the spans are kept as
the configured durability says, an error of `pyflare_proto.errors` otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["Ingest", "IngestResult"]


@dataclass(frozen=True, slots=True)
class IngestResult:
    """How one export request fared.

    `rejected` of 0 with a message is a warning: everything was taken, and the
    client is told something (OTLP's partial success).
    """

    accepted: int
    """Spans taken, those that the sampler decided not to keep included; 0 or more."""
    rejected: int = 0
    """Spans that will never be taken; the client must not send them again."""
    message: str = ""
    """Why spans were rejected, or a warning; English, one line; empty when all is well."""


class Ingest(Protocol):
    """Takes the protobuf bytes of one `ExportTraceServiceRequest`; thread-safe, may block."""

    def __call__(self, payload: bytes, /) -> IngestResult:
        """Return when the spans are durable.

        Raises:
            InvalidDataError: the bytes are no such request; nothing was taken.
            RetryableError: nothing was taken; the same request may succeed later.
            StorageError: nothing was taken; the disk takes no data at the moment.
        """
