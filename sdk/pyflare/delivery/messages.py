"""What the application's log gets about delivery: each kind once a minute at the most."""

from __future__ import annotations

from pyflare.log import logger, warn_rarely

__all__ = ["full", "not_delivered", "refused", "unreachable"]

_COUNTED = "pyflare.stats() counts them"


def unreachable(address: str, reason: str) -> None:
    """Say that requests fail and will be sent again."""
    warn_rarely(
        "unreachable",
        "%s does not take spans: %s (they are kept and sent later)",
        address,
        reason,
        hint="start `pyflare collect`, or set PYFLARE_ENDPOINT; "
        "OTEL_EXPORTER_OTLP_PROTOCOL says grpc or http/protobuf",
    )


def refused(address: str, spans: int, reason: str) -> None:
    """Say that the collector refused spans for good."""
    reason = reason or "the answer says they are not valid"
    warn_rarely("refused", "%s refused %d spans: %s", address, spans, reason, hint=_COUNTED)


def full(address: str, spans: int) -> None:
    """Say that spans are dropped because too many wait."""
    warn_rarely(
        "full",
        "%d spans wait for %s, further ones are dropped",
        spans,
        address,
        hint=f"{_COUNTED}; PYFLARE_MAX_BACKLOG_BYTES and OTEL_BSP_MAX_QUEUE_SIZE make more room",
    )


def not_delivered(address: str, spans: int, seconds: float, reason: str) -> None:
    """Say what was lost at the end of the process."""
    logger.warning(
        "%d spans were not delivered to %s within %g seconds: %s",
        spans,
        address,
        seconds,
        reason or "no answer",
    )
