"""Rendering of many attribute values at once: bytes in, texts out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pyflare_collector.normalize.arrow import take
from pyflare_collector.normalize.content.message_kernels import (
    WORK_WORDS,
    copy_system,
    copy_text,
)
from pyflare_collector.normalize.content.messages import document_text
from pyflare_collector.normalize.json_kernels import string_array
from pyflare_proto.errors import InvalidDataError
from pyflare_proto.otlp.batch import Slices
from pyflare_proto.otlp.jit import address, frozen, kernel

_ARROW_LIMIT = 2**31 - 1  # a string array has 32-bit offsets

__all__ = ["Texts", "no_slices", "render"]


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts of some rows."""

    values: pa.StringArray
    """(n,) text of each row; empty where there is none."""
    present: NDArray[np.bool_]
    """(n,) where there is a text."""


def no_slices(n: int) -> Slices:
    """Return (n,) slices of length 0."""
    return Slices(np.zeros(n, np.int64), np.zeros(n, np.int32))


@kernel
def _render_rows(  # noqa: PLR0917  # kernels take their arrays by position
    buffer: NDArray[np.uint8],
    offset: NDArray[np.int64],
    length: NDArray[np.int32],
    system_offset: NDArray[np.int64],
    system_length: NDArray[np.int32],
    out: NDArray[np.uint8],
    out_offset: NDArray[np.int32],
    scratch: NDArray[np.uint8],
    work: NDArray[np.int64],
    left: NDArray[np.bool_],
) -> int:
    """Write the text form of many values; return how many are left to the other reader."""
    base = address(buffer)
    first = address(out)
    room = address(scratch)
    at = address(work)
    count = 0
    o = first
    for row in range(len(offset)):
        stop = o
        if length[row] > 0:
            blocks = 0
            if system_length[row] > 0:
                pos = base + system_offset[row]
                stop = copy_system(pos, pos + system_length[row], o, room, at)
                blocks = 1 if stop > o else 0
            if stop >= 0:
                pos = base + offset[row]
                stop = copy_text(pos, pos + length[row], blocks, stop, room, at)
            if stop < 0:
                left[row] = True
                count += 1
                stop = o
        o = stop
        out_offset[row + 1] = o - first
    return count


def render(buffer: NDArray[np.uint8], slices: Slices, system: Slices | None = None) -> Texts:
    """Return the text form of attribute values (see `messages`).

    Args:
        buffer: (b,) holds the values, UTF-8.
        slices: (n,) the values: JSON documents or plain text; length 0 for absent.
        system: (n,) system instructions that belong to them.

    Returns:
        (n,) texts; absent where the value holds none. Invalid UTF-8 becomes U+FFFD.

    Raises:
        InvalidDataError: the texts may take 2 GiB or more.
    """
    n = len(slices.offset)
    system = no_slices(n) if system is None else system
    longest = max(slices.length.max(initial=0), system.length.max(initial=0))
    size = 2 * int(slices.length.sum(dtype=np.int64) + system.length.sum(dtype=np.int64)) + 32 * n
    if size > _ARROW_LIMIT:
        raise InvalidDataError(
            f"{size} bytes of messages in one batch, over 2 GiB", hint="use smaller batches"
        )
    # Memory that is not written is not taken: the texts are mostly shorter than the values.
    out = np.empty(size + 16, np.uint8)
    out_offset = np.zeros(n + 1, np.int32)
    left = np.zeros(n, np.bool_)
    count = _render_rows(
        frozen(buffer),
        *slices,
        *system,
        out,
        out_offset,
        np.empty(int(longest) + 16, np.uint8),
        np.empty(WORK_WORDS, np.int64),
        left,
    )
    texts = Texts(string_array(out, out_offset), np.diff(out_offset) > 0)
    return _with_others(buffer, slices, system, texts, left) if count else texts


def _with_others(
    buffer: NDArray[np.uint8],
    slices: Slices,
    system: Slices,
    known: Texts,
    left: NDArray[np.bool_],
) -> Texts:
    """Return the texts with those that the kernel left over, each distinct value read once."""

    def raw(part: Slices, row: int) -> bytes:
        start, size = int(part.offset[row]), int(part.length[row])
        return buffer[start : start + size].tobytes()

    places: dict[tuple[bytes, bytes], int] = {}
    texts: list[str | None] = []
    rows = np.arange(len(left))
    for row in np.flatnonzero(left).tolist():
        key = (raw(slices, row), raw(system, row))
        place = places.setdefault(key, len(texts))
        if place == len(texts):
            document, instructions = (part.decode("utf-8", "replace") for part in key)
            texts.append(document_text(document, instructions))
        rows[row] = len(left) + place
        known.present[row] = texts[place] is not None
    others: pa.StringArray = pa.array([text or "" for text in texts], pa.string())
    return Texts(take(pa.concat_arrays([known.values, others]), rows), known.present)
