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
# ruff: noqa: PLR0917, PLR0911, PLR0912, PLR1714, C901

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyflare_collector.normalize.json_text import (
    copy_bytes,
    skip_space,
    skip_string,
    skip_value,
    unescape_into,
    unescape_one,
)
from pyflare_proto.otlp.jit import byte_at, helper, int64_at, put8, put64

__all__ = [
    "SILENT_PART",
    "TEXT_PART",
    "WORK_WORDS",
    "copy_argument_text",
    "copy_system",
    "copy_text",
    "part_code",
]

(
    _ROLE,
    _CONTENT,
    _PARTS,
    _TOOL_CALLS,
    _TYPE,
    _TEXT,
    _NAME,
    _ARGUMENTS,
    _INPUT,
    _RESULT,
    _MESSAGES,
    _CHOICES,
    _MESSAGE,
    _SYSTEM,
    _FUNCTION,
    _REFUSAL,
    _OTHER,
) = range(17)
_KEYS = {
    "role": _ROLE,
    "content": _CONTENT,
    "parts": _PARTS,
    "tool_calls": _TOOL_CALLS,
    "type": _TYPE,
    "text": _TEXT,
    "name": _NAME,
    "arguments": _ARGUMENTS,
    "args": _ARGUMENTS,
    "input": _INPUT,
    "response": _RESULT,
    "result": _RESULT,
    "messages": _MESSAGES,
    "choices": _CHOICES,
    "message": _MESSAGE,
    "system": _SYSTEM,
    "function": _FUNCTION,
    "refusal": _REFUSAL,
    # Any of these says that the document may be a conversation in a shape not known here.
    "prompt": _OTHER,
    "output": _OTHER,
    "inputs": _OTHER,
    "outputs": _OTHER,
    "kwargs": _OTHER,
    "contents": _OTHER,
    "candidates": _OTHER,
    "generations": _OTHER,
    "instructions": _OTHER,
    "function_call": _OTHER,
    "items": _OTHER,
}
_FIELDS = 17
"""Places that `_scan` fills for one object."""
WORK_WORDS = 2 * 2 * _FIELDS
"""Words of work space that rendering needs: places of a message and of a part."""
_ITEM = 16 * _FIELDS
"""Bytes from the places of a message to those of a part."""
_NO_SUSPICION = (
    1 << _NAME | 1 << _ARGUMENTS | 1 << _RESULT | 1 << _FUNCTION | 1 << _REFUSAL
)  # any object may have these

TEXT_PART, _CALL_PART, _USE_PART, _RESULT_PART, SILENT_PART = range(5)
"""Types of parts that the compiled reader knows."""
_TYPES = {
    "text": TEXT_PART,
    "input_text": TEXT_PART,
    "output_text": TEXT_PART,
    "tool_call": _CALL_PART,
    "tool_use": _USE_PART,
    "tool_call_response": _RESULT_PART,
    "reasoning": SILENT_PART,
    "thinking": SILENT_PART,
}
_NOT_A_CONVERSATION = -2
_SYSTEM_PREFIX = int.from_bytes(b"system: ", "little")


def _signed(word: int) -> int:
    """Return 64 bits as a signed integer, which they are in the kernels."""
    return (word & (2**64 - 1) ^ 2**63) - 2**63


def _slot(head: int, tail: int, size: int, factor: int) -> int:
    """Return a name's slot in its table; `_name_code` computes the same."""
    return (_signed((head ^ (tail << 1) ^ size) * factor) >> 56) & 255


def _names(codes: dict[str, int]) -> tuple[int, NDArray[np.int64]]:
    """Return a table of names without collisions.

    Args:
        codes: name (4 to 18 bytes) to code.

    Returns:
        The multiplier of the hash, and (256, 4) a row a slot: first 8 bytes of the
        name, last 8 bytes, size (0 for a free slot), code.
    """

    def word(part: bytes) -> int:
        return _signed(int.from_bytes(part, "little"))

    names = {(word(n.encode()[:8]), word(n.encode()[-8:]), len(n)): c for n, c in codes.items()}
    factor = 0x9E3779B97F4A7C15
    while len({_slot(*name, factor) for name in names}) < len(names):
        factor = (factor * 0x5851F42D4C957F2D + 2) & (2**64 - 1) | 1
    table = np.zeros((256, 4), np.int64)
    for name, code in names.items():
        table[_slot(*name, factor)] = (*name, code)
    return _signed(factor), table


_KEY_FACTOR, _KEY_NAMES = _names(_KEYS)
_TYPE_FACTOR, _TYPE_NAMES = _names(_TYPES)


@helper
def _name_code(pos: int, size: int, factor: int, names: NDArray[np.int64]) -> int:
    """Return the code of the name of `size` bytes at `pos` in a table of `_names`, or -1."""
    if size < 4 or size > 18:
        return -1
    if size >= 8:
        head = int64_at(pos)
        tail = int64_at(pos + size - 8)
    else:
        head = 0
        for i in range(size):
            head |= byte_at(pos + i) << (8 * i)
        tail = head
    slot = (((head ^ (tail << 1) ^ size) * factor) >> 56) & 255
    if names[slot, 0] == head and names[slot, 1] == tail and names[slot, 2] == size:
        return names[slot, 3]
    return -1


@helper
def part_code(pos: int, end: int) -> int:
    """Return what type of part a name is: `TEXT_PART`, `SILENT_PART`, ..., -1 for another."""
    return _name_code(pos, end - pos, _TYPE_FACTOR, _TYPE_NAMES)


@helper
def _start(at: int, place: int) -> int:
    """Return where a scanned value starts, -1 when the object has none."""
    return int64_at(at + 16 * place)


@helper
def _end(at: int, place: int) -> int:
    """Return where a scanned value ends."""
    return int64_at(at + 16 * place + 8)


@helper
def _scan(pos: int, end: int, at: int) -> int:
    """Note where the values of the known keys of the object at `pos` start and end.

    Args:
        pos: position of the opening brace.
        end: end of the text.
        at: places of `_FIELDS` values: start and end, start -1 where the object has
            no such key or its value is null.

    Returns:
        The position behind the closing brace, -1 for malformed text.
    """
    for place in range(_FIELDS):
        put64(at + 16 * place, -1)
    pos = skip_space(pos + 1, end)
    if pos < end and byte_at(pos) == 125:
        return pos + 1
    while pos < end and byte_at(pos) == 34:
        first = pos + 1
        close = skip_string(first, end)
        if close < 0:
            return -1
        pos = skip_space(close + 1, end)
        if pos >= end or byte_at(pos) != 58:
            return -1
        pos = skip_space(pos + 1, end)
        stop = skip_value(pos, end)
        if stop < 0:
            return -1
        if byte_at(pos) != 110:
            place = _name_code(first, close - first, _KEY_FACTOR, _KEY_NAMES)
            if place >= 0:
                put64(at + 16 * place, pos)
                put64(at + 16 * place + 8, stop)
        pos = skip_space(stop, end)
        if pos >= end:
            return -1
        if byte_at(pos) == 125:
            return pos + 1
        if byte_at(pos) != 44:
            return -1
        pos = skip_space(pos + 1, end)
    return -1


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
def _copy_json(pos: int, end: int, out: int) -> int:
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
def _copy_string(pos: int, end: int, out: int) -> int:
    """Write the JSON string [pos, end), given with its quotes, unescaped."""
    return unescape_into(pos + 1, end - 1, out)


@helper
def copy_argument_text(pos: int, end: int, out: int) -> int:
    """Write a tool's arguments that are given as text: JSON with even spacing, else as it is."""
    start = skip_space(pos, end)
    if start < end and (byte_at(start) | 32) == 123:
        close = skip_value(start, end)
        if close >= 0 and skip_space(close, end) == end:
            return _copy_json(start, close, out)
    return copy_bytes(pos, end, out)


@helper
def _copy_argument(pos: int, end: int, out: int, scratch: int) -> int:
    """Write a tool's arguments: a string's text, or JSON with even spacing."""
    if byte_at(pos) != 34:
        return _copy_json(pos, end, out)
    return copy_argument_text(scratch, _copy_string(pos, end, scratch), out)


@helper
def _copy_call(at: int, argument: int, out: int, scratch: int) -> int:
    """Write `name(arguments)` of a scanned tool call."""
    pos = _start(at, _NAME)
    if pos < 0 or byte_at(pos) != 34:
        return -1
    out = _copy_string(pos, _end(at, _NAME), out)
    put8(out, 40)
    out += 1
    if _start(at, argument) >= 0:
        out = _copy_argument(_start(at, argument), _end(at, argument), out, scratch)
    put8(out, 41)
    return out + 1


@helper
def _copy_part(at: int, out: int, scratch: int) -> int:
    """Write one scanned part of a message."""
    kind = _start(at, _TYPE)
    code = TEXT_PART
    if kind >= 0:
        if byte_at(kind) != 34:
            return -1
        code = part_code(kind + 1, _end(at, _TYPE) - 1)
    place = -1
    if code == TEXT_PART:
        place = _TEXT if _start(at, _TEXT) >= 0 or kind < 0 else _CONTENT
    elif code == _RESULT_PART:
        place = _RESULT
    if place >= 0:
        pos = _start(at, place)
        if pos < 0 or byte_at(pos) != 34:
            return -1
        return _copy_string(pos, _end(at, place), out)
    if code == _CALL_PART or code == _USE_PART:
        return _copy_call(at, _ARGUMENTS if code == _CALL_PART else _INPUT, out, scratch)
    return out if code == SILENT_PART else -1


@helper
def _copy_call_item(out: int, scratch: int, at: int) -> int:
    """Write one scanned tool call."""
    function = _start(at, _FUNCTION)
    if function >= 0 and (byte_at(function) != 123 or _scan(function, _end(at, _FUNCTION), at) < 0):
        return -1
    return _copy_call(at, _ARGUMENTS, out, scratch)


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
        at: places of `_FIELDS` values.
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
            stop = _scan(pos, end, at)
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
    place = _PARTS if _start(at, _PARTS) >= 0 else _CONTENT
    pos = _start(at, place)
    calls = _start(at, _TOOL_CALLS)
    if _start(at, _OTHER) >= 0 or (pos < 0 and calls < 0 and _start(at, _TYPE) >= 0):
        return -1
    first = out
    if pos >= 0:
        if byte_at(pos) == 34:
            out = _copy_string(pos, _end(at, place), out)
        elif byte_at(pos) == 91:
            out = _copy_items(pos, _end(at, place), False, first, out, scratch, at + _ITEM)
            if out < 0:
                return -1
        else:
            return -1
    elif _start(at, _REFUSAL) >= 0:
        return -1
    if calls < 0:
        return out
    if byte_at(calls) != 91:
        return -1
    return _copy_items(calls, _end(at, _TOOL_CALLS), True, first, out, scratch, at + _ITEM)


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
    role = _start(at, _ROLE)
    if role < 0 or byte_at(role) != 34:
        return -1
    start = out
    if blocks > 0:
        put8(start, 10)
        put8(start + 1, 10)
        start += 2
    if not alone:
        start = _copy_string(role, _end(at, _ROLE), start)
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
            stop = _scan(pos, end, at)
            if stop < 0:
                return -1
        inner = _start(at, _MESSAGE)
        if (
            _start(at, _ROLE) < 0
            and inner >= 0
            and (byte_at(inner) != 123 or _scan(inner, _end(at, _MESSAGE), at) < 0)
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
                text_start = _copy_string(_start(at, _ROLE), _end(at, _ROLE), before) + 2
        if is_last:
            if skip_space(pos + 1, end) != end:
                return -1
            if blocks == 1 and given == 0 and text_start > origin:
                # Only one message has text, after all: its text stands alone.
                return _move(text_start, out, origin)
            return out
        pos = skip_space(pos + 1, end)
    return -1


@helper
def _move(pos: int, end: int, out: int) -> int:
    """Move bytes to the left, where the two ranges may overlap."""
    while pos < end:
        put8(out, byte_at(pos))
        pos += 1
        out += 1
    return out


@helper
def _no_conversation(at: int) -> int:
    """Return -1 when the scanned object may belong to a conversation, else -2."""
    for place in range(_FIELDS):
        if _start(at, place) >= 0 and (_NO_SUSPICION >> place) & 1 == 0:
            return -1
    return _NOT_A_CONVERSATION


@helper
def _copy_body(at: int, blocks: int, out: int, scratch: int) -> int:
    """Write the conversation of a scanned request or response body."""
    place = _MESSAGES if _start(at, _MESSAGES) >= 0 else _CHOICES
    pos = _start(at, place)
    stop = _end(at, place)
    system = _start(at, _SYSTEM)
    if byte_at(pos) != 91 or _start(at, _INPUT) >= 0:
        return -1
    pos = skip_space(pos + 1, stop)
    if byte_at(pos) != 123:
        return -1
    if system >= 0:
        if blocks > 0 or (byte_at(system) != 34 and byte_at(system) != 91):
            return -1
        before = out
        out = copy_system(system, _end(at, _SYSTEM), out, scratch, at + _ITEM)
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
        stop = _scan(pos, end, at)
        if stop < 0:
            return -1
        if _start(at, _ROLE) >= 0 or _start(at, _MESSAGE) >= 0:
            return _copy_messages(pos, stop, end, blocks, out, scratch, at)
        return _no_conversation(at)
    stop = _scan(pos, end, at)
    if stop < 0 or skip_space(stop, end) != end or _start(at, _OTHER) >= 0:
        return -1
    if _start(at, _ROLE) >= 0:
        return _copy_block(at, blocks, blocks == 0, out, scratch)
    if _start(at, _MESSAGES) >= 0 or _start(at, _CHOICES) >= 0:
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
