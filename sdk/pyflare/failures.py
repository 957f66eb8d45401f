"""How an exception that passes a span is written on it."""

from __future__ import annotations

import traceback

from opentelemetry.trace import Span, StatusCode

from pyflare import keys
from pyflare.capture import CaptureConfig, unicode_only

__all__ = ["record_failure"]

_LONGEST_MESSAGE = 4096  # characters; clients put whole answers into messages
_LONGEST_STACK = 16_384  # characters; the end of a stack trace says most


def record_failure(span: Span, error: BaseException, capture: CaptureConfig) -> None:
    """Write `error` on a span: status, `error.type`, and the event `exception`.

    What ends a call without being an error of it (cancellation, the end of the
    process, a stream that is closed early) is marked as such and is no error.
    """
    try:
        if not isinstance(error, Exception):
            if not isinstance(error, GeneratorExit):
                span.set_attribute(keys.CANCELLED, True)
            return
        kind = type(error)
        name = kind.__qualname__
        if kind.__module__ not in {"builtins", "__main__"}:
            name = f"{kind.__module__}.{name}"
        message = _safely(capture, str(error))[:_LONGEST_MESSAGE]
        stack = _safely(capture, "".join(traceback.format_exception(error)))
        span.set_attribute(keys.ERROR_TYPE, name)
        span.add_event(
            "exception",
            {
                "exception.type": name,
                "exception.message": message,
                "exception.stacktrace": stack[-_LONGEST_STACK:],
            },
        )
        span.set_status(StatusCode.ERROR, message)
    except Exception:  # noqa: BLE001 - __str__ of the application's exception; the exception itself goes on
        span.set_status(StatusCode.ERROR, type(error).__name__)


def _safely(capture: CaptureConfig, text: str) -> str:
    """Return `text` through the mask, where there is one, and fit to be sent."""
    text = unicode_only(text)
    if capture.mask is None:
        return text
    unlimited = CaptureConfig(capture.enabled, max(len(text) * 2, _LONGEST_STACK), capture.mask)
    return unlimited.masked(text)
