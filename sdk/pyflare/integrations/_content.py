"""Messages as OpenTelemetry has them, masked and cut as `capture` says."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pyflare.capture import CaptureConfig
from pyflare.integrations._api import Message

__all__ = ["messages_text", "parts_text", "preview"]

_TEXTS = ("content", "arguments", "response")
"""Members of a part that hold what people and models said."""
_MOST_MESSAGES = 256


def messages_text(messages: Sequence[Message], capture: CaptureConfig) -> str:
    """Return messages as JSON with at most `max_chars` characters of text, the newest kept.

    A conversation repeats with each call: what is cut is its beginning.
    """
    left = capture.max_chars
    kept: list[Message] = []
    for message in reversed(messages[-_MOST_MESSAGES:]):
        if left <= 0:
            break
        parts, left = _parts(message["parts"], capture, left)
        kept.append({**message, "parts": parts})
    kept.reverse()
    return json.dumps(kept, ensure_ascii=False, default=str)


def parts_text(parts: Sequence[Message], capture: CaptureConfig) -> str:
    """Return the parts of one message as JSON, cut likewise."""
    kept, _ = _parts(parts, capture, capture.max_chars)
    return json.dumps(kept, ensure_ascii=False, default=str)


def preview(messages: Sequence[Message], capture: CaptureConfig) -> str:
    """Return the texts of messages, one a line."""
    texts = [part.get("content", "") for message in messages for part in message["parts"]]
    return capture.text("\n".join(texts))


def _parts(
    parts: Sequence[Message], capture: CaptureConfig, left: int
) -> tuple[list[Message], int]:
    kept = []
    for part in parts:
        copy = dict(part)
        for name in _TEXTS:
            if copy.get(name) is not None:
                limited = CaptureConfig(True, max(left, 0), capture.mask)
                text = limited.text(copy[name])
                left -= len(text)
                copy[name] = text if isinstance(copy[name], str) else _value(text)
        kept.append(copy)
    return kept, left


def _value(text: str) -> object:
    """Return the value that JSON text stands for; cut or masked text stays text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
