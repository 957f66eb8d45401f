"""Slices of a buffer to Arrow columns, whole columns at a time."""

from __future__ import annotations

import secrets
from functools import cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pyflare_proto.errors import InvalidDataError
from pyflare_proto.otlp.batch import Slices
from pyflare_proto.otlp.hashing import equal_bytes, hash_bytes
from pyflare_proto.otlp.jit import address, frozen, int64, kernel
from pyflare_proto.otlp.text import copy_bytes, put_repaired

__all__ = ["dictionary", "distinct_strings", "hex_ids", "string_array", "strings"]

_SEED = secrets.randbits(62)
_COPY, _MEASURE, _REPAIR = range(3)
_ARROW_LIMIT = 2**31 - 1  # a string array has 32-bit offsets


@kernel
def _gather(
    buffer: NDArray[np.uint8],
    offset: NDArray[np.int64],
    length: NDArray[np.int32],
    starts: NDArray[np.int64],
    out: NDArray[np.uint8],
    mode: int,
) -> int:
    """Put slices one behind the other.

    `starts` (n + 1,) says where each begins in `out`, but for mode `_MEASURE`, which
    fills it with the places that repaired text needs and writes nothing else.

    Returns:
        The bits that the copied bytes have, for mode `_COPY`.
    """
    source = address(buffer)
    target = address(out)
    seen = 0
    for i in range(len(offset)):
        place = source + offset[i]
        size = int64(length[i])
        if mode == _COPY:
            seen |= copy_bytes(place, size, target + starts[i])
        elif mode == _MEASURE:
            starts[i + 1] = put_repaired(place, size, starts[i], False)
        else:
            put_repaired(place, size, target + starts[i], True)
    return seen


@kernel
def _distinct(
    buffer: NDArray[np.uint8],
    offset: NDArray[np.int64],
    length: NDArray[np.int32],
    codes: NDArray[np.int32],
    firsts: NDArray[np.int64],
    slots: NDArray[np.int32],
    seed: int,
) -> int:
    """Number the distinct slices in the order of their first rows: how many there are."""
    source = address(buffer)
    mask = len(slots) - 1
    found = 0
    for i in range(len(offset)):
        size = int64(length[i])
        if size == 0:
            codes[i] = -1
            continue
        place = source + offset[i]
        slot = int64(hash_bytes(place, size, seed)) & mask
        while True:
            code = slots[slot]
            if code < 0:
                slots[slot] = found
                firsts[found] = i
                codes[i] = found
                found += 1
                break
            first = firsts[code]
            if length[first] == size and equal_bytes(source + offset[first], place, size):
                codes[i] = code
                break
            slot = (slot + 1) & mask
    return found


def _columns(slices: Slices) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    return (
        np.ascontiguousarray(slices.offset, np.int64),
        np.ascontiguousarray(slices.length, np.int32),
    )


def string_array(
    starts: NDArray[np.int64], data: NDArray[np.uint8], valid: NDArray[np.bool_] | None
) -> pa.StringArray:
    """Return valid UTF-8 as an Arrow array without a copy of the text.

    Args:
        starts: (n + 1,) where each string begins, and the end of the last.
        data: the strings, one after the other.
        valid: (n,) False for null; None when nothing is null.

    Raises:
        InvalidDataError: the text has 2 GiB or more.
    """
    if int(starts[-1]) > _ARROW_LIMIT:
        raise InvalidDataError(
            f"a column holds {int(starts[-1])} bytes of text, over 2 GiB",
            hint="use smaller batches",
        )
    bitmap = None
    if valid is not None and not bool(valid.all()):
        bitmap = pa.py_buffer(np.packbits(valid, bitorder="little").data)
    return pa.StringArray.from_buffers(
        len(starts) - 1, pa.py_buffer(starts.astype(np.int32).data), pa.py_buffer(data.data), bitmap
    )


def strings(
    buffer: NDArray[np.uint8], slices: Slices, *, empty_is_null: bool = True
) -> pa.StringArray:
    """Gather slices into strings; bytes that are not UTF-8 become U+FFFD.

    Args:
        buffer: what the offsets point into.
        slices: (n,) the texts.
        empty_is_null: make empty strings null.

    Raises:
        InvalidDataError: the text has 2 GiB or more.
    """
    buffer = frozen(buffer)
    offset, length = _columns(slices)
    starts = np.zeros(len(length) + 1, np.int64)
    np.cumsum(length, out=starts[1:])
    data = np.empty(int(starts[-1]), np.uint8)
    valid = length > 0 if empty_is_null else None
    if _gather(buffer, offset, length, starts, data, _COPY) & -0x7F7F7F7F7F7F7F80:
        repaired = np.zeros_like(starts)
        _gather(buffer, offset, length, repaired, data, _MEASURE)
        # Repair may keep the length (three bad bytes in a row are one U+FFFD at the most,
        # but a cut sequence of three bytes is exactly one): ask Arrow's fast check as well.
        plain = string_array(starts, data, valid)
        if repaired[-1] == starts[-1] and _is_utf8(plain):
            return plain
        data = np.empty(int(repaired[-1]), np.uint8)
        _gather(buffer, offset, length, repaired, data, _REPAIR)
        starts = repaired
    return string_array(starts, data, valid)


def _is_utf8(array: pa.StringArray) -> bool:
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


@cache
def _hex_pairs() -> NDArray[np.uint16]:
    """Return (256,) the two hexadecimal digits of each byte as one little-endian number."""
    text = b"".join(b"%02x" % i for i in range(256))
    return np.frombuffer(text, "<u2").astype(np.uint16)


def hex_ids(ids: NDArray[np.uint8], *, zero_is_null: bool) -> pa.StringArray:
    """Return ids as lower-case hexadecimal text.

    Args:
        ids: (n, k) bytes.
        zero_is_null: make ids null that are all zero.
    """
    n, k = ids.shape
    data = _hex_pairs()[ids].reshape(-1).view(np.uint8)
    starts = np.arange(n + 1, dtype=np.int64) * (2 * k)
    valid = np.logical_or.reduce(ids, axis=1) if zero_is_null else None
    return string_array(starts, data, valid)


def distinct_strings(
    buffer: NDArray[np.uint8], slices: Slices
) -> tuple[NDArray[np.int32], list[str]]:
    """Find the distinct texts among slices, for columns of few values such as models.

    Args:
        buffer: what the offsets point into.
        slices: (n,) the texts.

    Returns:
        (n,) the place of each text in the list, -1 for an empty one; and the list, in the
        order of first rows. Bytes that are not UTF-8 become U+FFFD, so that two entries of
        the list can be equal.
    """
    buffer = frozen(buffer)
    offset, length = _columns(slices)
    n = len(length)
    codes = np.empty(n, np.int32)
    firsts = np.empty(n, np.int64)
    slots = np.full(1 << (2 * n + 1).bit_length(), -1, np.int32)
    found = _distinct(buffer, offset, length, codes, firsts, slots, _SEED)
    at = firsts[:found]
    values = [
        buffer[begin : begin + size].tobytes().decode(errors="replace")
        for begin, size in zip(offset[at].tolist(), length[at].tolist(), strict=True)
    ]
    return codes, values


def dictionary(
    buffer: NDArray[np.uint8], slices: Slices
) -> pa.DictionaryArray[pa.lib.Int32Type, pa.lib.StringType]:
    """Gather slices into a dictionary-encoded column; empty texts are null."""
    codes, values = distinct_strings(buffer, slices)
    indices = pa.array(codes, pa.int32(), mask=codes < 0)
    return pa.DictionaryArray.from_arrays(indices, pa.array(values, pa.string()))
