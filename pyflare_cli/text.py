"""Text for terminals: control characters made visible, widths in columns, cuts with an ellipsis.

Span names, prompts and error messages come from outside. Written raw to a
terminal, an escape sequence in them could move the cursor, rename the window or
hide a line; `printable` shows it as text.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["clip", "printable", "width"]

# C0 and C1 controls, the separators that break lines, and the marks that reorder text.
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str) -> str:
    """Return `text` on one line with each control character written as its escape."""
    if text.isascii() and text.isprintable():
        return text
    text = _CONTROL.sub(lambda match: _escape(match.group()), text)
    return _SURROGATE.sub("\ufffd", text)


def _escape(character: str) -> str:
    if character in _SHORT:
        return _SHORT[character]
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def width(text: str) -> int:
    """Return the columns that `text` takes on a terminal (East Asian wide ones count two)."""
    if text.isascii():
        return len(text)
    return sum(_character_width(character) for character in text)


def _character_width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def clip(text: str, limit: int) -> str:
    """Return `text` in at most `limit` columns, the end replaced by `…` when it is cut."""
    if width(text) <= limit:
        return text
    if limit < 1:
        return ""
    kept: list[str] = []
    used = 0
    for character in text:
        used += _character_width(character)
        if used > limit - 1:
            break
        kept.append(character)
    return "".join(kept) + "…"
