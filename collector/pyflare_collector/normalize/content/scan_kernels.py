"""Compiled reading of one JSON object: where the values of the keys of messages are.

Positions are addresses (see `pyflare_proto.otlp.jit`).
"""

# A grammar is read in one function, as each call would cost what this helper exists to save.
# ruff: noqa: PLR0911

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyflare_collector.normalize.json_text import skip_space, skip_string, skip_value
from pyflare_proto.otlp.jit import byte_at, helper, int64_at, put64

__all__ = [
    "ARGUMENTS",
    "CALL_PART",
    "CHOICES",
    "CONTENT",
    "FIELDS",
    "FUNCTION",
    "INPUT",
    "MESSAGE",
    "MESSAGES",
    "NAME",
    "OTHER",
    "PARTS",
    "REFUSAL",
    "RESULT",
    "RESULT_PART",
    "ROLE",
    "SILENT_PART",
    "SYSTEM",
    "TEXT",
    "TEXT_PART",
    "TOOL_CALLS",
    "TYPE",
    "USE_PART",
    "begin_of",
    "end_of",
    "key_code",
    "part_code",
    "scan",
]

(
    ROLE,
    CONTENT,
    PARTS,
    TOOL_CALLS,
    TYPE,
    TEXT,
    NAME,
    ARGUMENTS,
    INPUT,
    RESULT,
    MESSAGES,
    CHOICES,
    MESSAGE,
    SYSTEM,
    FUNCTION,
    REFUSAL,
    OTHER,
) = range(17)
_KEYS = {
    "role": ROLE,
    "content": CONTENT,
    "parts": PARTS,
    "tool_calls": TOOL_CALLS,
    "type": TYPE,
    "text": TEXT,
    "name": NAME,
    "arguments": ARGUMENTS,
    "args": ARGUMENTS,
    "input": INPUT,
    "response": RESULT,
    "result": RESULT,
    "messages": MESSAGES,
    "choices": CHOICES,
    "message": MESSAGE,
    "system": SYSTEM,
    "function": FUNCTION,
    "refusal": REFUSAL,
    # Any of these says that the document may be a conversation in a shape not known here.
    "prompt": OTHER,
    "output": OTHER,
    "inputs": OTHER,
    "outputs": OTHER,
    "kwargs": OTHER,
    "contents": OTHER,
    "candidates": OTHER,
    "generations": OTHER,
    "instructions": OTHER,
    "function_call": OTHER,
    "items": OTHER,
    "toolName": OTHER,
}
FIELDS = 17
"""Places that `scan` fills for one object."""

TEXT_PART, CALL_PART, USE_PART, RESULT_PART, SILENT_PART = range(5)
"""Types of parts that the compiled reader knows."""
_TYPES = {
    "text": TEXT_PART,
    "input_text": TEXT_PART,
    "output_text": TEXT_PART,
    "tool_call": CALL_PART,
    "tool_use": USE_PART,
    "tool_call_response": RESULT_PART,
    "reasoning": SILENT_PART,
    "thinking": SILENT_PART,
}


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
def _name_code(pos: int, size: int, end: int, factor: int, names: NDArray[np.int64]) -> int:
    """Return the code of the name of `size` bytes at `pos` in a table of `_names`, or -1.

    Bytes up to `end` may be read.
    """
    if size < 4 or size > 18:
        return -1
    if size >= 8:
        head = int64_at(pos)
        tail = int64_at(pos + size - 8)
    elif pos + 8 <= end:
        head = int64_at(pos) & ((1 << (8 * size)) - 1)
        tail = head
    else:
        head = 0
        for i in range(size):
            head |= byte_at(pos + i) << (8 * i)
        tail = head
    slot = (((head ^ (tail << 1) ^ size) * factor) >> 56) & 255
    if names[slot, 0] == head and names[slot, 1] == tail and names[slot, 2] == size:
        return int(names[slot, 3])
    return -1


@helper
def part_code(pos: int, end: int) -> int:
    """Return what type of part a name is: `TEXT_PART`, `SILENT_PART`, ..., -1 for another."""
    return _name_code(pos, end - pos, end, _TYPE_FACTOR, _TYPE_NAMES)


@helper
def key_code(pos: int, close: int, end: int) -> int:
    """Return which of the known keys stands at [pos, close), -1 for another; reads to `end`."""
    return _name_code(pos, close - pos, end, _KEY_FACTOR, _KEY_NAMES)


@helper
def begin_of(at: int, place: int) -> int:
    """Return where a scanned value starts, -1 when the object has none."""
    return int64_at(at + 16 * place)


@helper
def end_of(at: int, place: int) -> int:
    """Return where a scanned value ends."""
    return int64_at(at + 16 * place + 8)


@helper
def scan(pos: int, end: int, at: int) -> int:
    """Note where the values of the known keys of the object at `pos` start and end.

    Args:
        pos: position of the opening brace.
        end: end of the text.
        at: places of `FIELDS` values: start and end, start -1 where the object has
            no such key or its value is null.

    Returns:
        The position behind the closing brace, -1 for malformed text.
    """
    for place in range(FIELDS):
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
            place = key_code(first, close, end)
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
