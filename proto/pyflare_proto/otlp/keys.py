"""The attribute keys that PyFlare knows, as a hash table that kernels can read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyflare_proto.otlp.hashing import equal_bytes, hash_bytes
from pyflare_proto.otlp.jit import frozen, kernel

__all__ = ["KeyArrays", "KeyCache", "KeyTable", "find_key", "new_cache"]

_SEED = np.uint64(0)  # known keys are fixed: nobody gains by colliding with them
_CACHE_BITS = 10
_DOT, _HASH, _ZERO, _NINE = 0x2E, 0x23, 0x30, 0x39
_FNV_OFFSET = np.uint64(0xCBF29CE484222325)
_FNV_PRIME = np.uint64(0x100000001B3)


class KeyArrays(NamedTuple):
    """A `KeyTable` for kernels; k keys, slots are powers of two with -1 for a free one."""

    text: NDArray[np.uint8]
    """All keys, one after the other."""
    offset: NDArray[np.int64]
    """(k + 1,) where each key begins in `text`."""
    indices: NDArray[np.int64]
    """(k,) number of `#` segments in each key."""
    literal: NDArray[np.int64]
    """Slots of the keys without `#`, by `hash_bytes`."""
    pattern: NDArray[np.int64]
    """Slots of the keys with `#`, by the FNV-1a hash of the key."""


class KeyCache(NamedTuple):
    """Keys met before in the same buffer, one a slot: the same few keys come in every span."""

    offset: NDArray[np.int64]
    length: NDArray[np.int64]
    """-1 for a free slot."""
    found: NDArray[np.int32]
    """(slots, 3) key id, first index, second index."""


class KeyTable:
    """Known attribute keys with their ids 0, 1, 2, ...

    A key may hold `#` where a decimal index stands as a whole dotted segment:
    `gen_ai.prompt.#.content` is `gen_ai.prompt.0.content`, `gen_ai.prompt.1.content`
    and so on. A listed key without `#` goes before one with it. Indices are decimal
    digits of ASCII, at most 2147483647.

    Args:
        keys: the keys, each once.

    Raises:
        ValueError: a key is listed twice, or has both `#` and a segment of digits only.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = tuple(keys)
        self._ids = {key: i for i, key in enumerate(self._keys)}
        if len(self._ids) != len(self._keys):
            repeated = sorted({key for key in self._keys if self._keys.count(key) > 1})
            raise ValueError(f"keys listed twice: {', '.join(repeated)}")
        for key in self._keys:
            segments = key.split(".")
            if "#" in segments and any(s.isascii() and s.isdigit() for s in segments):
                raise ValueError(f"key {key!r} has both # and a segment of digits")

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys; a key's place is its id."""
        return self._keys

    @cached_property
    def arrays(self) -> KeyArrays:
        """The table as kernels read it."""
        encoded = [key.encode() for key in self._keys]
        counts = [key.split(".").count("#") for key in self._keys]
        bounds = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        # 8 bytes of slack keep the array from being empty.
        text = np.frombuffer(b"".join(encoded) + bytes(8), np.uint8)
        size = 1 << max(4, (4 * len(self._keys)).bit_length())
        literal = np.full(size, -1, np.int64)
        pattern = np.full(size, -1, np.int64)
        for i, data in enumerate(encoded):
            if counts[i]:
                table, slot = pattern, _fnv1a(data)
            else:
                slot = int(hash_bytes(text, int(bounds[i]), len(data), _SEED))
                table = literal
            slot &= size - 1
            while table[slot] >= 0:
                slot = (slot + 1) & (size - 1)
            table[slot] = i
        return KeyArrays(frozen(text), bounds, np.array(counts, np.int64), literal, pattern)

    def id(self, key: str) -> int:
        """Return the id of a listed key, `#` written as it is listed.

        Raises:
            KeyError: the key is not listed.
        """
        return self._ids[key]

    def __len__(self) -> int:
        """Return the number of keys."""
        return len(self._keys)

    def __contains__(self, key: object) -> bool:
        """Return whether `key` is listed, `#` written as it is listed."""
        return key in self._ids


def _fnv1a(data: bytes) -> int:
    """Return the FNV-1a hash of `data`, 64 bits."""
    h = int(_FNV_OFFSET)
    for byte in data:
        h = ((h ^ byte) * int(_FNV_PRIME)) & 0xFFFFFFFFFFFFFFFF
    return h


@kernel
def new_cache() -> KeyCache:
    """Return an empty cache of keys."""
    size = 1 << _CACHE_BITS
    return KeyCache(
        np.empty(size, np.int64), np.full(size, -1, np.int64), np.empty((size, 3), np.int32)
    )


@kernel
def _index_end(buf: NDArray[np.uint8], pos: int, stop: int) -> int:
    """Return the end of the segment of digits that begins at `pos`, 0 if it is none."""
    i = pos
    while i < stop and _ZERO <= buf[i] <= _NINE:
        i += 1
    if i == pos or (i < stop and buf[i] != _DOT):
        return 0
    return i


@kernel
def _matches(
    table: KeyArrays, key: int, buf: NDArray[np.uint8], pos: int, stop: int
) -> bool:
    """Return whether [pos, stop) is listed key `key` with a decimal index for each `#`."""
    t = table.offset[key]
    t_stop = table.offset[key + 1]
    start = True
    while pos < stop and t < t_stop:
        if start:
            after = _index_end(buf, pos, stop)
            if after > 0:
                if table.text[t] != _HASH:
                    return False
                pos = after
                t += 1
                start = False
                continue
        if buf[pos] != table.text[t]:
            return False
        start = buf[pos] == _DOT
        pos += 1
        t += 1
    return bool(pos == stop and t == t_stop)


@kernel
def _find_pattern(
    table: KeyArrays, buf: NDArray[np.uint8], pos: int, stop: int
) -> tuple[int, int, int]:
    h = _FNV_OFFSET
    count = 0
    index0 = -1
    index1 = -1
    i = pos
    start = True
    while i < stop:
        after = _index_end(buf, i, stop) if start else 0
        if after > 0:
            if after - i > 10:
                return -1, -1, -1
            index = np.int64(0)
            for j in range(i, after):
                index = index * 10 + np.int64(buf[j]) - _ZERO
            if index > 0x7FFFFFFF:
                return -1, -1, -1
            if count == 0:
                index0 = index
            elif count == 1:
                index1 = index
            count += 1
            h = (h ^ np.uint64(_HASH)) * _FNV_PRIME
            i = after
            start = False
            continue
        h = (h ^ np.uint64(buf[i])) * _FNV_PRIME
        start = buf[i] == _DOT
        i += 1
    if count == 0:
        return -1, -1, -1
    mask = len(table.pattern) - 1
    slot = np.int64(h & np.uint64(mask))
    while table.pattern[slot] >= 0:
        key = table.pattern[slot]
        # An equal count keeps a literal # in the key from passing for an index.
        if table.indices[key] == count and _matches(table, key, buf, pos, stop):
            return key, index0, index1
        slot = (slot + 1) & mask
    return -1, -1, -1


@kernel
def find_key(
    table: KeyArrays, cache: KeyCache, buf: NDArray[np.uint8], pos: int, size: int
) -> tuple[int, int, int]:
    """Return (id, first index, second index) of the key of `size` bytes at `pos`, -1 for none."""
    h = hash_bytes(buf, pos, size, _SEED)
    slot = np.int64(h >> np.uint64(64 - _CACHE_BITS))
    if cache.length[slot] == size and equal_bytes(buf, cache.offset[slot], buf, pos, size):
        found = cache.found
        return np.int64(found[slot, 0]), np.int64(found[slot, 1]), np.int64(found[slot, 2])
    key = np.int64(-1)
    index0 = np.int64(-1)
    index1 = np.int64(-1)
    mask = len(table.literal) - 1
    probe = np.int64(h & np.uint64(mask))
    while table.literal[probe] >= 0:
        listed = table.literal[probe]
        begin = table.offset[listed]
        if table.offset[listed + 1] - begin == size and equal_bytes(
            table.text, begin, buf, pos, size
        ):
            key = listed
            break
        probe = (probe + 1) & mask
    if key < 0:
        key, index0, index1 = _find_pattern(table, buf, pos, pos + size)
    cache.offset[slot] = pos
    cache.length[slot] = size
    cache.found[slot, 0] = key
    cache.found[slot, 1] = index0
    cache.found[slot, 2] = index1
    return key, index0, index1
