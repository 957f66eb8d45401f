"""Compiled copies of a tool's arguments: JSON with even spacing."""

# Kernels compare with `or`: a set would be an object.
# ruff: noqa: PLR1714

from __future__ import annotations

from pyflare_collector.normalize.json_text import (
    copy_bytes,
    skip_space,
    skip_value,
    unescape_one,
)
from pyflare_proto.otlp.jit import byte_at, helper, put8

__all__ = ["copy_argument_text", "copy_json"]


@helper
def _copy_escape(pos: int, end: int, out: int) -> tuple[int, int]:
    """Write the escape at `pos` as JSON needs it: resolved unless it must be an escape."""
    following = byte_at(pos + 1) if pos + 1 < end else 92
    if following == 117:
        after, stop = unescape_one(pos, end, out)
        c = byte_at(out)
        if stop != out + 1 or not (c < 32 or c == 34 or c == 92):
            return after, stop
        stop = copy_bytes(pos, after, out)
        return after, stop
    if following != 47:
        put8(out, 92)
        out += 1
    put8(out, following)
    return pos + 2, out + 1


@helper
def copy_json(pos: int, end: int, out: int) -> int:
    """Write a JSON value with one space behind each comma and colon and none elsewhere.

    Escapes of characters that may stand in a JSON string as they are, are resolved.
    The text grows by at most one byte a comma or colon.
    """
    inside = False
    while pos < end:
        c = byte_at(pos)
        if inside and c == 92:
            pos, out = _copy_escape(pos, end, out)
            continue
        pos += 1
        if c == 34:
            inside = not inside
        elif not inside:
            if c <= 32:
                continue
            if c == 44 or c == 58:
                put8(out, c)
                out += 1
                c = 32
        put8(out, c)
        out += 1
    return out


@helper
def copy_argument_text(pos: int, end: int, out: int) -> int:
    """Write a tool's arguments that are given as text: JSON with even spacing, else as it is."""
    start = skip_space(pos, end)
    if start < end and (byte_at(start) | 32) == 123:
        close = skip_value(start, end)
        if close >= 0 and skip_space(close, end) == end:
            return copy_json(start, close, out)
    return copy_bytes(pos, end, out)
