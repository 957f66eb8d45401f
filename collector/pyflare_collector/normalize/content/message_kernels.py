"""Compiled rendering of messages: JSON text in, the text of the conversation out.

The shapes that most emitters send are written in one pass over the bytes, without
an object per message: lists of messages with `parts` or `content`, one message,
request bodies with `messages`, response bodies with `choices`, with text, tool
calls and tool results inside. `messages.document_text` reads every shape and says
what the text form is; what these helpers do not know is left to it.

Positions are addresses. A helper that writes takes `out`, where to write, and
returns the position behind the text, or -1 when the document needs the other reader.
"""

# Helpers take their arguments by position and read a grammar in one function, as each call
# would cost what they exist to save.
# ruff: noqa: PLR0917, PLR0911, PLR0912, PLR1714, SIM109, C901

from __future__ import annotations

from pyflare_collector.normalize.content.argument_kernels import copy_argument_text, copy_json
from pyflare_collector.normalize.content.plain_kernels import copy_plain_messages
from pyflare_collector.normalize.content.scan_kernels import (
    ARGUMENTS,
    CALL_PART,
    CHOICES,
    CONTENT,
    FIELDS,
    FUNCTION,
    INPUT,
    MESSAGE,
    MESSAGES,
    NAME,
    OTHER,
    PARTS,
    REFUSAL,
    RESULT,
    RESULT_PART,
    ROLE,
    SILENT_PART,
    SYSTEM,
    TEXT,
    TEXT_PART,
    TOOL_CALLS,
    TYPE,
    USE_PART,
    begin_of,
    end_of,
    part_code,
    scan,
)
from pyflare_collector.normalize.json_text import (
    copy_bytes,
    skip_space,
    skip_string,
    skip_value,
    unescape_into,
)
from pyflare_proto.otlp.jit import byte_at, helper, put8, put64

__all__ = ["WORK_WORDS", "copy_system", "copy_text"]

WORK_WORDS = 2 * 2 * FIELDS
"""Words of work space that rendering needs: places of a message and of a part."""
_ITEM = 16 * FIELDS
"""Bytes from the places of a message to those of a part."""
_NO_SUSPICION = 1 << NAME | 1 << ARGUMENTS | 1 << RESULT | 1 << REFUSAL  # any object may have these
_NOT_A_CONVERSATION = -2
_SYSTEM_PREFIX = int.from_bytes(b"system: ", "little")


@helper
def _copy_string(pos: int, end: int, out: int) -> int:
    """Write the JSON string [pos, end), given with its quotes, unescaped."""
    return unescape_into(pos + 1, end - 1, out)


@helper
def _copy_argument(pos: int, end: int, out: int, scratch: int) -> int:
    """Write a tool's arguments: a string's text, or JSON with even spacing."""
    if byte_at(pos) != 34:
        return copy_json(pos, end, out)
    return copy_argument_text(scratch, _copy_string(pos, end, scratch), out)


@helper
def _copy_call(at: int, argument: int, out: int, scratch: int) -> int:
    """Write `name(arguments)` of a scanned tool call."""
    pos = begin_of(at, NAME)
    if pos < 0 or byte_at(pos) != 34 or end_of(at, NAME) == pos + 2:
        return -1
    out = _copy_string(pos, end_of(at, NAME), out)
    put8(out, 40)
    out += 1
    if begin_of(at, argument) >= 0:
        out = _copy_argument(begin_of(at, argument), end_of(at, argument), out, scratch)
    put8(out, 41)
    return out + 1


@helper
def _copy_part(at: int, out: int, scratch: int) -> int:
    """Write one scanned part of a message."""
    kind = begin_of(at, TYPE)
    code = TEXT_PART
    if kind >= 0:
        if byte_at(kind) != 34:
            return -1
        code = part_code(kind + 1, end_of(at, TYPE) - 1)
    place = -1
    if code == TEXT_PART:
        place = TEXT if begin_of(at, TEXT) >= 0 or kind < 0 else CONTENT
    elif code == RESULT_PART:
        place = RESULT
    if place >= 0:
        pos = begin_of(at, place)
        if pos < 0 or byte_at(pos) != 34:
            return -1
        return _copy_string(pos, end_of(at, place), out)
    if code == CALL_PART or code == USE_PART:
        return _copy_call(at, ARGUMENTS if code == CALL_PART else INPUT, out, scratch)
    return out if code == SILENT_PART else -1


@helper
def _copy_call_item(out: int, scratch: int, at: int) -> int:
    """Write one scanned tool call."""
    function = begin_of(at, FUNCTION)
    if function >= 0 and (byte_at(function) != 123 or scan(function, end_of(at, FUNCTION), at) < 0):
        return -1
    return _copy_call(at, ARGUMENTS, out, scratch)


@helper
def _copy_items(
    pos: int,
    end: int,
    is_calls: bool,  # noqa: FBT001  # helpers take no keywords
    first: int,
    out: int,
    scratch: int,
    at: int,
) -> int:
    """Write the parts, or the tool calls, of the array at `pos`, one a line.

    Args:
        pos: position of the opening bracket.
        end: end of the array.
        is_calls: the items are tool calls, not parts.
        first: where the message's text starts: no line break is put there.
        out: where to write.
        scratch: room for one unescaped string.
        at: places of `FIELDS` values.
    """
    pos = skip_space(pos + 1, end)
    if pos < end and byte_at(pos) == 93:
        return out
    while pos < end:
        start = out
        if out > first:
            put8(out, 10)
            start += 1
        if byte_at(pos) == 123:
            stop = scan(pos, end, at)
            if stop < 0:
                return -1
            if is_calls:
                written = _copy_call_item(start, scratch, at)
            else:
                written = _copy_part(at, start, scratch)
        elif byte_at(pos) == 34 and not is_calls:
            stop = skip_value(pos, end)
            if stop < 0:
                return -1
            written = _copy_string(pos, stop, start)
        else:
            return -1
        if written < 0:
            return -1
        if written > start:
            out = written
        pos = skip_space(stop, end)
        if pos >= end:
            return -1
        if byte_at(pos) == 93:
            return out
        if byte_at(pos) != 44:
            return -1
        pos = skip_space(pos + 1, end)
    return -1


@helper
def _copy_message(at: int, out: int, scratch: int) -> int:
    """Write the text of the scanned message, without its role."""
    place = PARTS if begin_of(at, PARTS) >= 0 else CONTENT
    pos = begin_of(at, place)
    calls = begin_of(at, TOOL_CALLS)
    if begin_of(at, OTHER) >= 0 or (pos < 0 and calls < 0 and begin_of(at, TYPE) >= 0):
        return -1
    first = out
    if pos >= 0:
        if byte_at(pos) == 34:
            out = _copy_string(pos, end_of(at, place), out)
        elif byte_at(pos) == 91:
            out = _copy_items(pos, end_of(at, place), False, first, out, scratch, at + _ITEM)
            if out < 0:
                return -1
        else:
            return -1
    elif begin_of(at, REFUSAL) >= 0:
        return -1
    if calls < 0:
        return out
    if byte_at(calls) != 91:
        return -1
    return _copy_items(calls, end_of(at, TOOL_CALLS), True, first, out, scratch, at + _ITEM)


@helper
def _copy_block(at: int, blocks: int, alone: bool, out: int, scratch: int) -> int:  # noqa: FBT001  # helpers take no keywords
    """Write the scanned message as a block `role: text`.

    Args:
        at: places of the message's values.
        blocks: blocks that were written before this one.
        alone: there is no other message: its text stands without the role.
        out: where to write; returned for a message without text.
        scratch: room for one unescaped string.
    """
    role = begin_of(at, ROLE)
    if role < 0 or byte_at(role) != 34:
        return -1
    start = out
    if blocks > 0:
        put8(start, 10)
        put8(start + 1, 10)
        start += 2
    if not alone:
        start = _copy_string(role, end_of(at, ROLE), start)
        put8(start, 58)
        put8(start + 1, 32)
        start += 2
    stop = _copy_message(at, start, scratch)
    return out if stop == start else stop


@helper
def copy_system(pos: int, end: int, out: int, scratch: int, at: int) -> int:
    """Write system instructions as the block `system: text`.

    They are a JSON string, a list of parts, or plain text.
    """
    pos = skip_space(pos, end)
    if pos >= end:
        return out
    put64(out, _SYSTEM_PREFIX)
    start = out + 8
    c = byte_at(pos)
    if c == 91:
        stop = _copy_items(pos, end, False, start, start, scratch, at)
    elif c == 34 and skip_space(max(skip_value(pos, end), pos), end) == end:
        stop = _copy_string(pos, skip_value(pos, end), start)
    elif c == 123:
        stop = -1
    else:
        stop = copy_bytes(pos, end, start)
    return out if stop == start else stop


@helper
def _copy_messages(
    pos: int, stop: int, end: int, blocks: int, out: int, scratch: int, at: int
) -> int:
    """Write the messages (or choices) of an array.

    Args:
        pos: position of its first item, an object.
        stop: end of the first item when `at` holds its places already, else 0.
        end: end of the text, behind the array.
        blocks: 1 when system instructions stand before `out`, else 0.
        out: where to write.
        scratch: room for one unescaped string.
        at: work space of `WORK_WORDS`.
    """
    origin = out
    text_start = out
    given = blocks
    while pos < end and byte_at(pos) == 123:
        if stop == 0:
            stop = scan(pos, end, at)
            if stop < 0:
                return -1
        inner = begin_of(at, MESSAGE)
        if (
            begin_of(at, ROLE) < 0
            and inner >= 0
            and (byte_at(inner) != 123 or scan(inner, end_of(at, MESSAGE), at) < 0)
        ):
            return -1
        pos = skip_space(stop, end)
        stop = 0
        if pos >= end or (byte_at(pos) != 44 and byte_at(pos) != 93):
            return -1
        is_last = byte_at(pos) == 93
        alone = blocks == 0 and is_last
        before = out
        out = _copy_block(at, blocks, alone, out, scratch)
        if out < 0:
            return -1
        if out > before:
            blocks += 1
            if blocks == 1 and not alone:
                text_start = _copy_string(begin_of(at, ROLE), end_of(at, ROLE), before) + 2
        if is_last:
            if skip_space(pos + 1, end) != end:
                return -1
            if blocks == 1 and given == 0 and text_start > origin:
                # Only one message has text, after all: its text stands alone.
                return copy_bytes(text_start, out, origin)
            return out
        pos = skip_space(pos + 1, end)
    return -1


@helper
def _no_conversation(at: int) -> int:
    """Return -1 when the scanned object may belong to a conversation, else -2."""
    for place in range(FIELDS):
        if begin_of(at, place) >= 0 and (_NO_SUSPICION >> place) & 1 == 0:
            return -1
    return _NOT_A_CONVERSATION


@helper
def _copy_body(at: int, blocks: int, out: int, scratch: int) -> int:
    """Write the conversation of a scanned request or response body."""
    place = MESSAGES if begin_of(at, MESSAGES) >= 0 else CHOICES
    pos = begin_of(at, place)
    stop = end_of(at, place)
    system = begin_of(at, SYSTEM)
    if byte_at(pos) != 91 or begin_of(at, INPUT) >= 0:
        return -1
    pos = skip_space(pos + 1, stop)
    if byte_at(pos) != 123:
        return -1
    if system >= 0:
        if blocks > 0 or (byte_at(system) != 34 and byte_at(system) != 91):
            return -1
        before = out
        out = copy_system(system, end_of(at, SYSTEM), out, scratch, at + _ITEM)
        if out < 0:
            return -1
        if out > before:
            blocks = 1
    return _copy_messages(pos, 0, stop, blocks, out, scratch, at)


@helper
def _copy_document(pos: int, end: int, blocks: int, out: int, scratch: int, at: int) -> int:
    """Write the conversation in the JSON array or object at `pos`, -2 when it is none."""
    if byte_at(pos) == 91:
        pos = skip_space(pos + 1, end)
        if pos >= end:
            return -1
        c = byte_at(pos)
        if c != 123:
            return -1 if c == 34 or c == 91 or c == 93 else _NOT_A_CONVERSATION
        plain = copy_plain_messages(pos, end, blocks, out)
        if plain >= 0:
            return plain
        stop = scan(pos, end, at)
        if stop < 0:
            return -1
        if begin_of(at, ROLE) >= 0 or begin_of(at, MESSAGE) >= 0:
            return _copy_messages(pos, stop, end, blocks, out, scratch, at)
        return _no_conversation(at)
    stop = scan(pos, end, at)
    if stop < 0 or skip_space(stop, end) != end or begin_of(at, OTHER) >= 0:
        return -1
    if begin_of(at, ROLE) >= 0:
        return _copy_block(at, blocks, blocks == 0, out, scratch)
    if begin_of(at, MESSAGES) >= 0 or begin_of(at, CHOICES) >= 0:
        return _copy_body(at, blocks, out, scratch)
    return _no_conversation(at)


@helper
def copy_text(pos: int, end: int, blocks: int, out: int, scratch: int, at: int) -> int:
    """Write the text form of one value, JSON or plain text.

    Args:
        pos: first byte of the value.
        end: end of the value.
        blocks: 1 when system instructions stand before `out`, else 0.
        out: where to write; twice the bytes of the value and 32 more are enough.
        scratch: room for the value and 8 bytes more.
        at: work space of `WORK_WORDS`.

    Returns:
        The position behind the text: `out` when there is none; -1 when the value needs
        `messages.document_text`.
    """
    start = skip_space(pos, end)
    if start >= end:
        return out
    c = byte_at(start)
    size = end - start
    if (c | 32) == 123:
        if size == 2 and byte_at(start + 1) == c + 2:
            return out
        stop = _copy_document(start, end, blocks, out, scratch, at)
        if stop != _NOT_A_CONVERSATION:
            return stop
    elif c == 34:
        close = skip_string(start + 1, end)
        if close >= 0 and skip_space(close + 1, end) == end:
            return -1 if blocks > 0 else _copy_string(start, close + 1, out)
    elif c == 110 and size == 4 and byte_at(start + 1) == 117 and byte_at(start + 2) == 108:
        return out
    return -1 if blocks > 0 else copy_bytes(pos, end, out)
