"""What of a call's input and output is kept: on or off, how much of it, and through which mask.

Values become text by a writer that stops when it has enough, so that an argument of
any size costs as much as the part of it that is kept. Nothing here raises: what the
application's own `__repr__` or mask raises stays here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields, is_dataclass
from json.encoder import encode_basestring
from typing import Any

__all__ = ["DEFAULT_MAX_CHARS", "UNPRINTABLE", "WITHHELD", "CaptureConfig", "unicode_only", "write"]

DEFAULT_MAX_CHARS = 8192
"""Characters of an input or an output that are kept."""
UNPRINTABLE = "<unprintable>"
"""Stands for a value whose own code failed while it was written."""
WITHHELD = "<withheld: the mask failed>"
"""Stands for a text whose mask failed: what could not be masked is not sent."""

_CUT = "..."
_MARGIN = 1024  # characters a mask sees beyond the cut, so that it meets whole words there
_MAX_DEPTH = 12
_ITEM_COST = 2  # the comma and the blank


@dataclass(frozen=True, slots=True)
class CaptureConfig:
    """How input and output of traced calls are kept.

    Attributes:
        enabled: False keeps neither input nor output, anywhere.
        max_chars: characters of each that are kept; the rest is cut off, marked by `...`.
        mask: called with each text before it is cut; what it returns is kept in its
            place. Where it raises, nothing of the text is kept.
    """

    enabled: bool = True
    max_chars: int = DEFAULT_MAX_CHARS
    mask: Callable[[str], str] | None = None

    def text(self, value: object) -> str:
        """Return `value` as the text to keep: itself if it is text, else as JSON."""
        limit = self.max_chars
        if self.mask is None:
            if type(value) is str:
                text = value if len(value) <= limit else value[:limit] + _CUT
            else:
                text = write(value, limit)
        else:
            seen = limit + _MARGIN
            text = self.masked(value[:seen] if type(value) is str else write(value, seen))
        return text if text.isascii() else unicode_only(text)

    def masked(self, text: str) -> str:
        """Return `text` as the mask leaves it, cut to `max_chars`."""
        if self.mask is not None:
            try:
                text = str(self.mask(text))
            except Exception:  # noqa: BLE001 - the mask is the application's own code
                return WITHHELD
        return text if len(text) <= self.max_chars else text[: self.max_chars] + _CUT


def unicode_only(text: str) -> str:
    """Return `text` without lone surrogates, which no message can carry."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace").decode()
    return text


def write(value: object, max_chars: int) -> str:
    """Return `value` as JSON of about `max_chars` characters at the most.

    Objects that JSON does not know are written by what they hold (data classes,
    Pydantic models) or as their `repr`. The text is cut, marked by `...`, once it is
    long enough; cut text is not valid JSON.
    """
    parts: list[str] = []
    try:
        left = _write(value, parts, max_chars, 0)
    except Exception:  # noqa: BLE001 - __repr__, __iter__ or properties of the application's objects
        return UNPRINTABLE
    text = "".join(parts)
    if left > 0 and len(text) <= max_chars:
        return text
    return text[:max_chars] + _CUT


def _write(value: Any, parts: list[str], left: int, depth: int) -> int:
    """Append `value` to `parts` and return how many characters are left."""
    kind = type(value)
    if kind is str:
        text = encode_basestring(value if len(value) <= left else value[: left + 1])
    elif value is None:
        text = "null"
    elif kind is bool:
        text = "true" if value else "false"
    elif kind is int or kind is float:
        text = repr(value)
    elif kind is dict:
        return _write_mapping(value, parts, left, depth)
    elif kind is list or kind is tuple:
        return _write_items(value, parts, left, depth)
    else:
        return _write_object(value, parts, left, depth)
    parts.append(text)
    return left - len(text)


def _write_mapping(value: Mapping[Any, Any], parts: list[str], left: int, depth: int) -> int:
    if depth >= _MAX_DEPTH:
        parts.append(encode_basestring(_CUT))
        return left - len(_CUT)
    mark = "{"
    for key, item in value.items():
        name = key if type(key) is str else str(key)
        if len(name) > left:
            name = name[:left]
        text = f"{mark}{encode_basestring(name)}: "
        parts.append(text)
        left = _write(item, parts, left - len(text), depth + 1)
        if left <= 0:
            return 0
        mark = ", "
    parts.append("{}" if mark == "{" else "}")
    return left - 1


def _write_items(value: Any, parts: list[str], left: int, depth: int) -> int:
    if depth >= _MAX_DEPTH:
        parts.append(encode_basestring(_CUT))
        return left - len(_CUT)
    parts.append("[")
    first = True
    for item in value:
        if not first:
            parts.append(", ")
        first = False
        left = _write(item, parts, left - _ITEM_COST, depth + 1)
        if left <= 0:
            return 0
    parts.append("]")
    return left - 1


def _write_object(value: object, parts: list[str], left: int, depth: int) -> int:
    if isinstance(value, bytes | bytearray | memoryview):
        text = f'"<{len(value)} bytes>"'
    elif isinstance(value, str | int | float):  # subclasses: enums, NewTypes, numpy floats
        return _write(_plain(value), parts, left, depth)
    elif isinstance(value, Mapping):
        return _write_mapping(value, parts, left, depth)
    elif isinstance(value, Sequence | AbstractSet):
        return _write_items(value, parts, left, depth)
    elif is_dataclass(value) and not isinstance(value, type):
        held = {field.name: getattr(value, field.name, None) for field in fields(value)}
        return _write_mapping(held, parts, left, depth)
    elif type(getattr(type(value), "model_fields", None)) is dict:  # a Pydantic model
        return _write_mapping(vars(value), parts, left, depth)
    else:
        text = encode_basestring(repr(value)[: left + 1])
    parts.append(text)
    return left - len(text)


def _plain(value: str | float) -> str | int | float:
    if isinstance(value, str):
        return str.__str__(value)
    return int(value) if isinstance(value, int) else float(value)
