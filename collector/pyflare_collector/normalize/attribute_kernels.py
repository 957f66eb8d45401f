"""Compiled passes over a table of attributes: which row has a key, and its whole number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyflare_proto.otlp.jit import kernel

__all__ = ["count_present", "place_rows", "read_integers"]


@kernel
def count_present(
    key_id: NDArray[np.int32],
    kind: NDArray[np.uint8],
    length: NDArray[np.int32],
    counts: NDArray[np.int64],
) -> None:
    """Count the attributes that are present and not empty, by key."""
    for i in range(key_id.size):
        k = key_id[i]
        if k >= 0:
            t = kind[i]
            # A boolean, integer or double always has a value.
            if 2 <= t <= 4 or (t != 0 and length[i] > 0):
                counts[k] += 1


@kernel
def place_rows(  # noqa: PLR0917 - numba kernels take their arrays by position
    key_id: NDArray[np.int32],
    owner: NDArray[np.int32],
    kind: NDArray[np.uint8],
    length: NDArray[np.int32],
    slot: NDArray[np.int32],
    matrix: NDArray[np.int32],
    next_place: NDArray[np.int64],
    family_rows: NDArray[np.int64],
) -> None:
    """Write each attribute's row to its key's line of `matrix`, or to its key's family.

    A slot of s >= 0 is line s of the matrix; -2 - f is family f; -1 is neither.
    """
    for i in range(key_id.size):
        k = key_id[i]
        if k < 0:
            continue
        t = kind[i]
        if not (2 <= t <= 4 or (t != 0 and length[i] > 0)):
            continue
        s = slot[k]
        if s >= 0:
            matrix[s, owner[i]] = i
        elif s <= -2:
            f = -2 - s
            family_rows[next_place[f]] = i
            next_place[f] += 1


@kernel
def read_integers(  # noqa: PLR0917 - numba kernels take their arrays by position
    rows: NDArray[np.int32],
    kind: NDArray[np.uint8],
    number: NDArray[np.int64],
    offset: NDArray[np.int64],
    length: NDArray[np.int32],
    buffer: NDArray[np.uint8],
    minimum: int,
    values: NDArray[np.int64],
    ok: NDArray[np.bool_],
) -> None:
    """Fill `values` and `ok` where `ok` is still False, from integers in any dress."""
    for i in range(rows.size):
        r = rows[i]
        if r < 0 or ok[i]:
            continue
        t = kind[r]
        if t == 3:
            values[i] = number[r]
            ok[i] = number[r] >= minimum
        elif t == 4:
            x = number[r : r + 1].view(np.float64)[0]
            # Beyond 2^53 a double no longer tells one integer from the next.
            if -9007199254740992.0 <= x <= 9007199254740992.0 and x == np.floor(x):
                values[i] = np.int64(x)
                ok[i] = values[i] >= minimum
        elif t == 1 and length[r] <= 19:
            start = offset[r]
            end = start + length[r]
            negative = buffer[start] == 45  # "-"
            if negative:
                start += 1
            total = np.int64(0)
            good = start < end and end - start <= 18
            while good and start < end:
                digit = np.int64(buffer[start]) - 48
                good = 0 <= digit <= 9
                total = total * 10 + digit
                start += 1
            if good:
                values[i] = -total if negative else total
                ok[i] = values[i] >= minimum
