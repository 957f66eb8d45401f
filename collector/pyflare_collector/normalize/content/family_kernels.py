"""Compiled joins of messages that arrive in pieces."""

# Kernels take their arrays by position.
# ruff: noqa: PLR0917, C901, PLR0912, PLR1714, SIM109

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyflare_collector.normalize.content.argument_kernels import copy_argument_text
from pyflare_collector.normalize.content.scan_kernels import SILENT_PART, TEXT_PART, part_code
from pyflare_collector.normalize.json_text import copy_bytes
from pyflare_proto.otlp.jit import address, kernel, put8

__all__ = [
    "ARGUMENTS",
    "NAME",
    "PART_TEXT",
    "PART_TYPE",
    "TEXT",
    "join_messages",
    "join_pieces",
]

TEXT = 0
"""The text of a message."""
PART_TYPE, PART_TEXT = 2, 3
"""Type and text of a part; the type comes first."""
NAME, ARGUMENTS = 4, 5
"""Name and arguments of a tool call; the name comes first."""


@kernel
def join_pieces(
    buffer: NDArray[np.uint8],
    offset: NDArray[np.int64],
    length: NDArray[np.int32],
    codes: NDArray[np.int64],
    other: NDArray[np.uint8],
    other_offset: NDArray[np.int64],
    other_length: NDArray[np.int32],
    starts: NDArray[np.int64],
    out: NDArray[np.uint8],
    bounds: NDArray[np.int32],
) -> None:
    """Write the text of each message, its pieces on lines of their own.

    Args:
        buffer: holds the pieces.
        offset: (m,) first byte of each piece.
        length: (m,) bytes of each piece.
        codes: (m,) `TEXT`, `PART_TYPE`, `PART_TEXT`, `NAME` or `ARGUMENTS`.
        other: holds texts that stand for pieces.
        other_offset: (m,) first byte of the text that stands for a piece.
        other_length: (m,) its bytes, 0 where the piece stands for itself.
        starts: (k + 1,) first piece of each message.
        out: twice the bytes of all pieces, and 24 a piece, are enough.
        bounds: (k + 1,) filled with where each message's text starts in `out`.
    """
    base = address(buffer)
    base_other = address(other)
    base_out = address(out)
    o = base_out
    for message in range(len(starts) - 1):
        first = o
        i = starts[message]
        stop = starts[message + 1]
        while i < stop:
            code = codes[i]
            pos = base + offset[i]
            end = pos + length[i]
            following = codes[i + 1] if i + 1 < stop else -1
            start = o
            if o > first:
                put8(o, 10)
                start += 1
            written = start
            if code == PART_TYPE:
                kind = part_code(pos, end)
                if kind == SILENT_PART or kind == TEXT_PART:
                    # The text of the part follows; that of reasoning is passed over.
                    if kind == SILENT_PART and following == PART_TEXT:
                        i += 1
                elif following != PART_TEXT:
                    put8(written, 91)
                    written = copy_bytes(pos, end, written + 1)
                    put8(written, 93)
                    written += 1
            elif code == NAME or code == ARGUMENTS:
                if code == NAME:
                    written = copy_bytes(pos, end, written)
                    if following == ARGUMENTS:
                        i += 1
                        pos = base + offset[i]
                        end = pos + length[i]
                    else:
                        end = pos
                put8(written, 40)
                written = copy_argument_text(pos, end, written + 1)
                put8(written, 41)
                written += 1
            elif other_length[i] > 0:
                pos = base_other + other_offset[i]
                written = copy_bytes(pos, pos + other_length[i], written)
            else:
                written = copy_bytes(pos, end, written)
            if written > start:
                o = written
            i += 1
        bounds[message + 1] = o - base_out


@kernel
def join_messages(
    role_buffer: NDArray[np.uint8],
    role_offset: NDArray[np.int64],
    role_length: NDArray[np.int32],
    text_buffer: NDArray[np.uint8],
    text_offset: NDArray[np.int64],
    text_length: NDArray[np.int32],
    starts: NDArray[np.int64],
    out: NDArray[np.uint8],
    bounds: NDArray[np.int32],
) -> None:
    """Write the conversation of each span: one message alone, or blocks `role: text`.

    Args:
        role_buffer: holds the roles.
        role_offset: (m,) first byte of each message's role.
        role_length: (m,) its bytes, 0 where it is not told.
        text_buffer: holds the texts.
        text_offset: (m,) first byte of each message's text.
        text_length: (m,) its bytes; messages without text are left out.
        starts: (k + 1,) first message of each span.
        out: the bytes of all roles and texts, and 4 a message, are enough.
        bounds: (k + 1,) filled with where each span's text starts in `out`.
    """
    roles = address(role_buffer)
    texts = address(text_buffer)
    base = address(out)
    o = base
    for span in range(len(starts) - 1):
        told = 0
        for i in range(starts[span], starts[span + 1]):
            told += text_length[i] > 0
        first = o
        for i in range(starts[span], starts[span + 1]):
            if text_length[i] == 0:
                continue
            if o > first:
                put8(o, 10)
                put8(o + 1, 10)
                o += 2
            if told > 1 and role_length[i] > 0:
                pos = roles + role_offset[i]
                o = copy_bytes(pos, pos + role_length[i], o)
                put8(o, 58)
                put8(o + 1, 32)
                o += 2
            pos = texts + text_offset[i]
            o = copy_bytes(pos, pos + text_length[i], o)
        bounds[span + 1] = o - base
