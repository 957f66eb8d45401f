"""Compiled walk over JSON objects: where a top-level key's value stands, and its type.

Imports numba: import this module only inside the function that needs it.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["ABSENT", "FALSE", "NUMBER", "OTHER", "TEXT", "TRUE", "copy_slices", "locate"]

ABSENT = 0
"""There is no such key, or its value is null."""
TEXT = 1
NUMBER = 2
TRUE = 3
FALSE = 4
OTHER = 5
"""A list or an object."""

_QUOTE, _BACKSLASH, _COLON, _COMMA, _MINUS = 34, 92, 58, 44, 45
_OPEN_OBJECT, _CLOSE_OBJECT, _OPEN_LIST, _CLOSE_LIST = 123, 125, 91, 93
_SPACE, _ZERO, _NINE, _LETTER_F, _LETTER_N, _LETTER_T = 32, 48, 57, 102, 110, 116


@njit(cache=True, nogil=True)
def _string_end(data: NDArray[np.uint8], i: int, end: int) -> int:
    """Return the place behind the closing quote of the string that opens at i."""
    i += 1
    while i < end and data[i] != _QUOTE:
        i += 2 if data[i] == _BACKSLASH else 1
    return i + 1


@njit(cache=True, nogil=True)
def _value_end(data: NDArray[np.uint8], i: int, end: int) -> int:
    """Return the place behind the value that starts at i, white space included."""
    depth = 0
    while i < end:
        c = data[i]
        if c == _QUOTE:
            i = _string_end(data, i, end)
            continue
        if c in (_OPEN_OBJECT, _OPEN_LIST):
            depth += 1
        elif c in (_CLOSE_OBJECT, _CLOSE_LIST):
            if depth == 0:
                return i
            depth -= 1
        elif c == _COMMA and depth == 0:
            return i
        i += 1
    return end


@njit(cache=True, nogil=True)
def _same(data: NDArray[np.uint8], start: int, stop: int, key: NDArray[np.uint8]) -> bool:
    if stop - start != len(key):
        return False
    for j in range(len(key)):  # noqa: SIM110  # numba compiles no generator
        if data[start + j] != key[j]:
            return False
    return True


@njit(cache=True, nogil=True)
def _find(data: NDArray[np.uint8], i: int, end: int, key: NDArray[np.uint8]) -> tuple[int, int]:
    """Return start and stop of the value of `key` in the object within [i, end), else (0, 0)."""
    while i < end and data[i] != _OPEN_OBJECT:
        i += 1
    i += 1
    while i < end and data[i] != _CLOSE_OBJECT:
        if data[i] != _QUOTE:  # white space and commas
            i += 1
            continue
        name = i + 1
        i = _string_end(data, i, end)
        found = _same(data, name, i - 1, key)
        while i < end and (data[i] == _COLON or data[i] <= _SPACE):
            i += 1
        stop = _value_end(data, i, end)
        if found:
            while stop > i and data[stop - 1] <= _SPACE:
                stop -= 1
            return i, stop
        i = stop
    return 0, 0


@njit(cache=True, nogil=True)
def _hinted(
    data: NDArray[np.uint8], first: int, hint: int, end: int, length: int
) -> tuple[int, int]:
    """Return start and stop of the value whose quoted key stands at first + hint.

    (0, 0) where that is not surely a key of the outer object. It is one when but one object
    has been opened before it, and a colon follows: no string holds a quote without a
    backslash.
    """
    if hint < 0:
        return 0, 0
    at = first + hint
    opened = 0
    for i in range(first, at):
        opened += data[i] == _OPEN_OBJECT
    before = data[at - 1] if at > first else 0
    if opened != 1 or not (before in (_COMMA, _OPEN_OBJECT) or before <= _SPACE):
        return 0, 0
    i = at + length + 2
    while i < end and data[i] <= _SPACE:
        i += 1
    if i >= end or data[i] != _COLON:
        return 0, 0
    i += 1
    while i < end and data[i] <= _SPACE:
        i += 1
    stop = _value_end(data, i, end)
    while stop > i and data[stop - 1] <= _SPACE:
        stop -= 1
    return i, stop


@njit(cache=True, nogil=True)
def copy_slices(data: NDArray[np.uint8], bounds: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
    """Copy slices behind one another.

    Args:
        data: the bytes.
        bounds: (n, 2) start and length of each slice.
        out: receives the slices, as long as all together.
    """
    place = 0
    for row in range(len(bounds)):
        start = bounds[row, 0]
        for i in range(start, start + bounds[row, 1]):
            out[place] = data[i]
            place += 1


@njit(cache=True, nogil=True)
def _kind(first: int) -> int:
    """Return the type of a value by its first byte."""
    if first == _QUOTE:
        return TEXT
    if first == _MINUS or (_ZERO <= first <= _NINE):
        return NUMBER
    if first == _LETTER_T:
        return TRUE
    if first == _LETTER_F:
        return FALSE
    return ABSENT if first == _LETTER_N else OTHER


@njit(cache=True, nogil=True)
def locate(  # noqa: PLR0917  # numba takes arrays by position
    data: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    key: NDArray[np.uint8],
    hints: NDArray[np.int64],
    bounds: NDArray[np.int64],
    kinds: NDArray[np.uint8],
) -> None:
    """Find the first value of a key in each row.

    Args:
        data: the rows' UTF-8 text.
        offsets: (n+1,) row i is data[offsets[i]:offsets[i+1]].
        key: the key as it is written between its quotes.
        hints: (n,) place of the first `"key"` in the row; -1: there is none; -2: not known.
        bounds: (n, 2) receives start and length of the value, 0 and 0 where absent.
        kinds: (n,) receives the type of the value.
    """
    for row in range(len(kinds)):
        start, stop = 0, 0
        if hints[row] != -1:
            first, end = offsets[row], offsets[row + 1]
            start, stop = _hinted(data, first, hints[row], end, len(key))
            if stop == 0:
                start, stop = _find(data, first, end, key)
        bounds[row, 0] = start
        bounds[row, 1] = stop - start
        kinds[row] = _kind(data[start]) if stop > start else ABSENT
