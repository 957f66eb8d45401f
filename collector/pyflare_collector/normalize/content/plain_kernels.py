"""Compiled rendering of plain messages in one pass, while their JSON is read.

A list of messages of which each tells its role before its text, and has text only,
is what most calls send. It is written on the way, before it is known whether the
rest is as plain; where it is not, `message_kernels` reads it again in full. Where
both can read a list, they write the same.

Positions are addresses. A position of -1 says that the list is not that plain.
"""

# Helpers read a grammar in one function, as each call would cost what they exist to save,
# and compare with `or`, as a set would be an object.
# ruff: noqa: PLR1714, SIM109

from __future__ import annotations

from pyflare_collector.normalize.content.scan_kernels import (
    CONTENT,
    NAME,
    PARTS,
    ROLE,
    TEXT,
    TEXT_PART,
    TYPE,
    key_code,
    part_code,
)
from pyflare_collector.normalize.json_text import (
    copy_bytes,
    skip_space,
    skip_string,
    skip_value,
    unescape_to_quote,
)
from pyflare_proto.otlp.jit import byte_at, helper, put8

__all__ = ["copy_plain_messages"]


@helper
def _key(pos: int, end: int) -> tuple[int, int]:
    """Read a key and its colon: (code of the key, position of the value)."""
    if pos >= end or byte_at(pos) != 34:
        return -1, -1
    close = skip_string(pos + 1, end)
    if close < 0:
        return -1, -1
    code = key_code(pos + 1, close, end)
    pos = skip_space(close + 1, end)
    if pos >= end or byte_at(pos) != 58:
        return -1, -1
    pos = skip_space(pos + 1, end)
    return code, pos if pos < end else -1


@helper
def _plain_part(pos: int, end: int, out: int) -> tuple[int, int]:
    """Write a text part: (position behind its brace, position behind the text)."""
    text = out
    written = 0
    is_text = False
    pos = skip_space(pos + 1, end)
    while True:
        code, pos = _key(pos, end)
        if pos < 0:
            return -1, out
        c = byte_at(pos)
        if (code == TEXT or code == CONTENT) and c == 34 and written == 0:
            pos, text = unescape_to_quote(pos + 1, end, out)
            written = 1
        elif code == TYPE and c == 34:
            close = skip_string(pos + 1, end)
            is_text = close >= 0 and part_code(pos + 1, close) == TEXT_PART
            pos = close + 1 if is_text else -1
        elif code < 0 or c == 110:
            pos = skip_value(pos, end)
        else:
            return -1, out
        if pos < 0:
            return -1, out
        pos = skip_space(pos, end)
        if pos < end and byte_at(pos) == 125:
            return (pos + 1, text) if is_text and written > 0 else (-1, out)
        if pos >= end or byte_at(pos) != 44:
            return -1, out
        pos = skip_space(pos + 1, end)


@helper
def _plain_parts(pos: int, end: int, out: int) -> tuple[int, int]:
    """Write a list of text parts, one a line: the positions behind list and text."""
    first = out
    pos = skip_space(pos + 1, end)
    while pos < end and byte_at(pos) == 123:
        start = out
        if out > first:
            put8(out, 10)
            start += 1
        pos, stop = _plain_part(pos, end, start)
        if pos < 0:
            return -1, out
        if stop > start:
            out = stop
        pos = skip_space(pos, end)
        if pos < end and byte_at(pos) == 93:
            return pos + 1, out
        if pos >= end or byte_at(pos) != 44:
            return -1, out
        pos = skip_space(pos + 1, end)
    return -1, out


@helper
def _plain_message(pos: int, end: int, out: int) -> tuple[int, int, int]:
    """Write `role: text`: the positions behind the message and the text, and of the text."""
    text = 0
    stop = out
    pos = skip_space(pos + 1, end)
    while True:
        code, pos = _key(pos, end)
        if pos < 0:
            return -1, out, out
        c = byte_at(pos)
        if code == ROLE and c == 34 and text == 0:
            pos, stop = unescape_to_quote(pos + 1, end, out)
            put8(stop, 58)
            put8(stop + 1, 32)
            text = stop + 2
            stop = -1
        elif (code == CONTENT or code == PARTS) and text > 0 and stop < 0:
            if c == 34:
                pos, stop = unescape_to_quote(pos + 1, end, text)
            elif c == 91:
                pos, stop = _plain_parts(pos, end, text)
            else:
                return -1, out, out
        elif code < 0 or code == NAME or c == 110:
            pos = skip_value(pos, end)
        else:
            return -1, out, out
        if pos < 0:
            return -1, out, out
        pos = skip_space(pos, end)
        if pos < end and byte_at(pos) == 125:
            return (pos + 1, stop, text) if text > 0 and stop > 0 else (-1, out, out)
        if pos >= end or byte_at(pos) != 44:
            return -1, out, out
        pos = skip_space(pos + 1, end)


@helper
def copy_plain_messages(pos: int, end: int, blocks: int, out: int) -> int:
    """Write a list of plain messages.

    Args:
        pos: position of its first item, an object.
        end: end of the text, behind the list.
        blocks: 1 when system instructions stand before `out`, else 0.
        out: where to write.

    Returns:
        The position behind the text: `out` when there is none; -1 when the list needs
        a reader of more shapes.
    """
    origin = out
    only = out
    told = blocks
    while pos < end and byte_at(pos) == 123:
        start = out
        if told > 0:
            put8(out, 10)
            put8(out + 1, 10)
            start += 2
        pos, stop, text = _plain_message(pos, end, start)
        if pos < 0:
            return -1
        if stop > text:
            out = stop
            only = text
            told += 1
        pos = skip_space(pos, end)
        if pos < end and byte_at(pos) == 93:
            if skip_space(pos + 1, end) != end:
                return -1
            # One message has text: it stands without its role.
            return copy_bytes(only, out, origin) if told == 1 and blocks == 0 else out
        if pos >= end or byte_at(pos) != 44:
            return -1
        pos = skip_space(pos + 1, end)
    return -1
