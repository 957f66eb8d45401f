"""Compiled loops of the sampler: hashes, tracestate, attributes, the table of decisions.

Arrays are contiguous; the wire buffer is read-only (`frozen`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyflare_proto.otlp.jit import helper, kernel

__all__ = [
    "ABSENT",
    "INCONSISTENT",
    "attribute_rows",
    "group_traces",
    "hash_traces",
    "randomness",
    "table_find",
    "table_put",
]

ABSENT = -1
"""For a threshold or randomness that is not there."""
INCONSISTENT = -2
"""For an incoming threshold that contradicts the randomness: it must be erased."""

_FNV_OFFSET = np.uint64(0xCBF29CE484222325)
_FNV_PRIME = np.uint64(0x100000001B3)
_MIX_1 = np.uint64(0xFF51AFD7ED558CCD)
_MIX_2 = np.uint64(0xC4CEB9FE1A85EC53)
_SHIFT_33 = np.uint64(33)
_EIGHT = np.uint64(8)
_RANDOM_FLAG = 0x02
_RANDOMNESS_MASK = np.uint64(0x00FFFFFFFFFFFFFF)


@helper
def _fmix64(value: np.uint64) -> np.uint64:
    """Finalizer of MurmurHash3: each input bit changes each output bit with probability 1/2."""
    value ^= value >> _SHIFT_33
    value *= _MIX_1
    value ^= value >> _SHIFT_33
    value *= _MIX_2
    return value ^ (value >> _SHIFT_33)


@helper
def _word(ids: NDArray[np.uint8], row: int, start: int) -> np.uint64:
    """Eight bytes, big-endian."""
    word = np.uint64(0)
    for i in range(start, start + 8):
        word = (word << _EIGHT) | np.uint64(ids[row, i])
    return word


@kernel
def hash_traces(trace_id: NDArray[np.uint8], out: NDArray[np.uint64]) -> None:
    """FNV-1a (64 bits) of the 16 bytes of each id, finished with fmix64.

    FNV-1a alone carries its last bytes into the low bits only, so ids that end in
    a counter share their high bits; the finalizer spreads them.
    """
    for row in range(len(out)):
        value = _FNV_OFFSET
        for i in range(16):
            value = (value ^ np.uint64(trace_id[row, i])) * _FNV_PRIME
        out[row] = _fmix64(value)


@helper
def _hex_digit(byte: int) -> int:
    if 48 <= byte <= 57:
        return byte - 48
    if 97 <= byte <= 102:
        return byte - 87
    return -1


@helper
def _hex_number(buffer: NDArray[np.uint8], start: int, end: int) -> int:
    """Return 1 to 14 hexadecimal digits as a fraction of 2^56, -1 for anything else."""
    if not 1 <= end - start <= 14:
        return -1
    number = 0
    for i in range(start, end):
        digit = _hex_digit(buffer[i])
        if digit < 0:
            return -1
        number = number * 16 + digit
    return number << (4 * (14 - (end - start)))


@helper
def _ot_entry(buffer: NDArray[np.uint8], start: int, end: int) -> tuple[int, int]:
    """Return the place of the value of the first `ot=` member, (0, 0) without one."""
    at = start
    while at < end:
        stop = at
        while stop < end and buffer[stop] != 44:  # ,
            stop += 1
        first = at
        while first < stop and (buffer[first] == 32 or buffer[first] == 9):
            first += 1
        last = stop
        while last > first and (buffer[last - 1] == 32 or buffer[last - 1] == 9):
            last -= 1
        if (
            last - first >= 3
            and buffer[first] == 111  # o
            and buffer[first + 1] == 116  # t
            and buffer[first + 2] == 61  # =
        ):
            return first + 3, last
        at = stop + 1
    return 0, 0


@helper
def _parse_state(buffer: NDArray[np.uint8], start: int, end: int) -> tuple[int, int]:
    """Return (`th`, `rv`) of a tracestate, -1 where absent or malformed."""
    threshold, random_value = -1, -1
    at, last = _ot_entry(buffer, start, end)
    if last - at > 256:
        return -1, -1
    while at < last:
        stop = at
        while stop < last and buffer[stop] != 59:  # ;
            stop += 1
        if stop - at >= 3 and buffer[at + 2] == 58:  # :
            if buffer[at] == 116 and buffer[at + 1] == 104:  # th
                threshold = _hex_number(buffer, at + 3, stop)
            elif buffer[at] == 114 and buffer[at + 1] == 118:  # rv
                random_value = -1
                if stop - at == 17:
                    random_value = _hex_number(buffer, at + 3, stop)
        at = stop + 1
    return threshold, random_value


@helper
def _evidently_not_random(ids: NDArray[np.uint8], row: int) -> bool:
    """See `Sampler`: zeros where a counter has its leading digits, or few distinct bytes."""
    if ids[row, 12] == 0 and ids[row, 13] == 0:
        return True
    zeros = 0
    for i in range(9, 16):
        if ids[row, i] == 0:
            zeros += 1
    if zeros >= 3:
        return True
    distinct = 0
    for i in range(16):
        seen = False
        for j in range(i):
            if ids[row, j] == ids[row, i]:
                seen = True
                break
        if not seen:
            distinct += 1
    return distinct <= 10


@kernel
def randomness(  # noqa: PLR0917 - kernels take their arrays by position
    trace_id: NDArray[np.uint8],
    flags: NDArray[np.uint32],
    buffer: NDArray[np.uint8],
    state_offset: NDArray[np.int64],
    state_length: NDArray[np.int32],
    threshold: NDArray[np.int64],
    explicit: NDArray[np.int64],
    derived: NDArray[np.bool_],
    value: NDArray[np.int64],
) -> None:
    """Fill in what the sampling of each span can go by.

    Args:
        trace_id: (n, 16) ids.
        flags: (n,) W3C trace flags in the lowest byte.
        buffer: the wire bytes.
        state_offset: (n,) where the tracestate lies.
        state_length: (n,) its bytes.
        threshold: (n,) out: incoming `th`, `ABSENT` without one, `INCONSISTENT` where
            it would have rejected the span.
        explicit: (n,) out: incoming `rv`, -1 without one.
        derived: (n,) out: True where the id is evidently not random and is hashed.
        value: (n,) out: 56 bits of randomness.
    """
    for row in range(len(value)):
        th, rv = -1, -1
        if state_length[row] > 0:
            start = state_offset[row]
            th, rv = _parse_state(buffer, start, start + state_length[row])
        derived[row] = False
        r = np.int64(rv)
        if rv < 0:
            r = np.int64(_word(trace_id, row, 8) & _RANDOMNESS_MASK)
            unmarked = th < 0 and (flags[row] & _RANDOM_FLAG) == 0
            if unmarked and _evidently_not_random(trace_id, row):
                mixed = _fmix64(_word(trace_id, row, 0) + _MIX_1) ^ _word(trace_id, row, 8)
                r = np.int64(_fmix64(mixed) >> _EIGHT)
                derived[row] = True
        threshold[row] = th if r >= th else INCONSISTENT
        explicit[row] = rv
        value[row] = r


@kernel
def attribute_rows(  # noqa: PLR0917 - kernels take their arrays by position
    buffer: NDArray[np.uint8],
    key_offset: NDArray[np.int64],
    key_length: NDArray[np.int32],
    owner: NDArray[np.int32],
    name: NDArray[np.uint8],
    rows: NDArray[np.int64],
) -> int:
    """Find the attribute called `name` of each owner.

    Args:
        buffer: the wire bytes.
        key_offset: (m,) where the keys lie.
        key_length: (m,) their bytes.
        owner: (m,) owner of each attribute.
        name: the key that is looked for.
        rows: (owners,) out: row of the last attribute of that name; others are left.

    Returns:
        How many attributes have that name.
    """
    found = 0
    size = len(name)
    for row in range(len(owner)):
        if key_length[row] != size:
            continue
        start = key_offset[row]
        equal = True
        for i in range(size):
            if buffer[start + i] != name[i]:
                equal = False
                break
        if equal:
            rows[owner[row]] = row
            found += 1
    return found


@helper
def _slot(high: np.uint64, low: np.uint64, mask: np.uint64) -> np.uint64:
    return _fmix64(high * _MIX_2 ^ low) & mask


@kernel
def group_traces(
    trace_id: NDArray[np.uint8],
    table: NDArray[np.int32],
    seed: np.uint64,
    group: NDArray[np.int32],
    first: NDArray[np.int32],
) -> int:
    """Number the distinct traces of a batch in order of appearance.

    Args:
        trace_id: (n, 16) ids.
        table: (power of two, at least 2n) scratch, all -1.
        seed: secret of this process, so that nobody can choose ids that collide.
        group: (n,) out: number of each row's trace.
        first: (n,) out: first row of each trace.

    Returns:
        The number of traces.
    """
    mask = np.uint64(len(table) - 1)
    one = np.uint64(1)
    count = 0
    for row in range(len(group)):
        high, low = _word(trace_id, row, 0), _word(trace_id, row, 8)
        at = _slot(high ^ seed, low, mask)
        while True:
            number = table[at]
            if number < 0:
                table[at] = count
                first[count] = row
                group[row] = count
                count += 1
                break
            known = first[number]
            if _word(trace_id, known, 0) == high and _word(trace_id, known, 8) == low:
                group[row] = number
                break
            at = (at + one) & mask
    return count


@kernel
def table_find(
    keys: NDArray[np.uint64],
    values: NDArray[np.float64],
    seed: np.uint64,
    trace_id: NDArray[np.uint8],
    out: NDArray[np.float64],
) -> int:
    """Look traces up in an open-addressing table; NaN in `out` stands for not found.

    Args:
        keys: (slots, 2) ids as big-endian words.
        values: (slots,) NaN for a free slot.
        seed: secret of this process.
        trace_id: (n, 16) ids.
        out: (n,) in and out: only rows that are NaN are looked up.

    Returns:
        How many were found.
    """
    mask = np.uint64(len(values) - 1)
    one = np.uint64(1)
    found = 0
    for row in range(len(out)):
        if not np.isnan(out[row]):
            continue
        high, low = _word(trace_id, row, 0), _word(trace_id, row, 8)
        at = _slot(high ^ seed, low, mask)
        while not np.isnan(values[at]):
            if keys[at, 0] == high and keys[at, 1] == low:
                out[row] = values[at]
                found += 1
                break
            at = (at + one) & mask
    return found


@kernel
def table_put(  # noqa: PLR0917 - kernels take their arrays by position
    keys: NDArray[np.uint64],
    values: NDArray[np.float64],
    seed: np.uint64,
    trace_id: NDArray[np.uint8],
    new: NDArray[np.float64],
    start: int,
    room: int,
) -> tuple[int, int]:
    """Put traces from row `start` on into a table, over what it knows of them.

    Args:
        keys: (slots, 2) ids as big-endian words.
        values: (slots,) NaN for a free slot.
        seed: secret of this process.
        trace_id: (n, 16) ids.
        new: (n,) values; rows that are NaN are passed over.
        start: first row.
        room: how many new ids may be added.

    Returns:
        The row at which room ran out (n when it did not), and how many ids were added.
    """
    mask = np.uint64(len(values) - 1)
    one = np.uint64(1)
    added = 0
    for row in range(start, len(new)):
        if np.isnan(new[row]):
            continue
        high, low = _word(trace_id, row, 0), _word(trace_id, row, 8)
        at = _slot(high ^ seed, low, mask)
        while not np.isnan(values[at]):
            if keys[at, 0] == high and keys[at, 1] == low:
                break
            at = (at + one) & mask
        if np.isnan(values[at]):
            if added == room:
                return row, added
            keys[at, 0] = high
            keys[at, 1] = low
            added += 1
        values[at] = new[row]
    return len(new), added
