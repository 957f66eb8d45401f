"""The attribute keys that PyFlare knows, as a hash table that kernels can read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pyflare_proto.otlp.hashing import equal_bytes, hash_bytes
from pyflare_proto.otlp.jit import address, byte_at, helper, int64, int64_at, kernel, put64

__all__ = ["CACHE_WORDS", "KeyTable", "find_key"]

_SEED = 0  # known keys are fixed: nobody gains by colliding with them
_DOT, _HASH, _ZERO, _NINE = 0x2E, 0x23, 0x30, 0x39
_FNV_OFFSET = np.uint64(0xCBF29CE484222325)
_FNV_PRIME = np.uint64(0x100000001B3)

# The cache of keys met before in the same requests: the same few come in every span.
# A slot has 5 words, byte offsets:
_CACHE_BITS = 9
_AT, _SIZE, _ID, _INDEX0, _INDEX1, _SLOT = range(0, 48, 8)
CACHE_WORDS = 5 << _CACHE_BITS
"""Words of 8 bytes that the cache must have, zeroed before its first use."""

# The table in words: a header, then k records, the two arrays of slots (-1 is free), the text.
_MASK, _LITERAL, _PATTERN, _TEXT, _RECORDS = range(5)


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
    def words(self) -> NDArray[np.int64]:
        """The table as kernels read it (see `find_key`)."""
        encoded = [key.encode() for key in self._keys]
        size = 1 << max(4, (4 * len(encoded)).bit_length())
        records = [
            [0, len(data), key.split(".").count("#")]
            for data, key in zip(encoded, self._keys, strict=True)
        ]
        literal = _RECORDS + 3 * len(encoded)
        text = literal + 2 * size
        header = [size - 1, literal, literal + size, text]
        at = 8 * text
        for record in records:
            record[0] = at
            at += record[1]
        head = np.array([*header, *(x for record in records for x in record)], np.int64)
        body = b"".join(encoded)
        tail = np.frombuffer(body + bytes(-len(body) % 8), np.int64)
        words = np.concatenate([head, np.full(2 * size, -1), tail])
        _fill(words, len(encoded))
        return words

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


@kernel
def _fill(words: NDArray[np.int64], n: int) -> None:
    """Enter the keys into the slots of the table."""
    table = address(words)
    mask = words[_MASK]
    for key in range(n):
        place = table + words[_RECORDS + 3 * key]
        size = words[_RECORDS + 3 * key + 1]
        if words[_RECORDS + 3 * key + 2] > 0:
            slots = words[_PATTERN]
            h = _FNV_OFFSET
            for i in range(size):
                h = (h ^ np.uint64(byte_at(place + i))) * _FNV_PRIME
        else:
            slots = words[_LITERAL]
            h = hash_bytes(place, size, _SEED)
        slot = int64(h) & mask
        while words[slots + slot] >= 0:
            slot = (slot + 1) & mask
        words[slots + slot] = key


@helper
def _index_end(pos: int, stop: int) -> int:
    """Return the end of the segment of digits that begins at `pos`, 0 if it is none."""
    i = pos
    while i < stop and _ZERO <= byte_at(i) <= _NINE:
        i += 1
    if i == pos or (i < stop and byte_at(i) != _DOT):
        return 0
    return i


@helper
def _matches(text: int, text_stop: int, pos: int, stop: int) -> bool:
    """Return whether [pos, stop) is the listed key at `text` with an index for each `#`."""
    start = True
    while pos < stop and text < text_stop:
        after = _index_end(pos, stop) if start else 0
        if after > 0:
            if byte_at(text) != _HASH:
                return False
            pos = after
            start = False
        else:
            if byte_at(pos) != byte_at(text):
                return False
            start = byte_at(pos) == _DOT
            pos += 1
        text += 1
    return pos == stop and text == text_stop


@helper
def _find_literal(table: int, h: int, pos: int, size: int) -> int:
    """Return the id of the listed key without `#` that stands at `pos`, -1 for none."""
    mask = int64_at(table + 8 * _MASK)
    slots = table + 8 * int64_at(table + 8 * _LITERAL)
    slot = h & mask
    while True:
        key = int64_at(slots + 8 * slot)
        if key < 0:
            return -1
        record = table + 8 * (_RECORDS + 3 * key)
        if int64_at(record + 8) == size and equal_bytes(table + int64_at(record), pos, size):
            return key
        slot = (slot + 1) & mask


@helper
def _find_pattern(table: int, pos: int, stop: int, entry: int) -> int:
    """Return the id of the listed key with `#` that stands at `pos`, and store its indices."""
    h = _FNV_OFFSET
    count = 0
    i = pos
    start = True
    while i < stop:
        after = _index_end(i, stop) if start else 0
        if after > 0:
            index = 0
            for j in range(i, min(after, i + 11)):
                index = index * 10 + byte_at(j) - _ZERO
            if index > 0x7FFFFFFF or after - i > 10:
                return -1
            if count < 2:
                put64(entry + _INDEX0 + 8 * count, index)
            count += 1
            h = (h ^ np.uint64(_HASH)) * _FNV_PRIME
            i = after
            start = False
        else:
            h = (h ^ np.uint64(byte_at(i))) * _FNV_PRIME
            start = byte_at(i) == _DOT
            i += 1
    if count == 0:
        return -1
    mask = int64_at(table + 8 * _MASK)
    slots = table + 8 * int64_at(table + 8 * _PATTERN)
    slot = int64(h) & mask
    while True:
        key = int64_at(slots + 8 * slot)
        if key < 0:
            return -1
        record = table + 8 * (_RECORDS + 3 * key)
        text = table + int64_at(record)
        # An equal count keeps a literal # in the key from passing for an index.
        if int64_at(record + 16) == count and _matches(
            text, text + int64_at(record + 8), pos, stop
        ):
            return key
        slot = (slot + 1) & mask


@helper
def find_key(table: int, cache: int, pos: int, size: int) -> int:
    """Look up the key of `size` bytes at `pos`.

    Args:
        table: address of `KeyTable.words`.
        cache: address of `CACHE_WORDS` words.
        pos: where the key stands; it must stay there as long as the cache is used.
        size: its bytes.

    Returns:
        The address of three words: id, first and second index, each -1 for none.
    """
    h = hash_bytes(pos, size, _SEED)
    entry = cache + int64(h >> np.uint64(64 - _CACHE_BITS)) * _SLOT
    at = int64_at(entry + _AT)
    # A free entry has no place.
    if at != 0 and int64_at(entry + _SIZE) == size and equal_bytes(at, pos, size):
        return entry + _ID
    put64(entry + _AT, pos)
    put64(entry + _SIZE, size)
    put64(entry + _INDEX0, -1)
    put64(entry + _INDEX1, -1)
    key = _find_literal(table, int64(h), pos, size)
    if key < 0:
        key = _find_pattern(table, pos, pos + size, entry)
        if key < 0:
            put64(entry + _INDEX0, -1)
            put64(entry + _INDEX1, -1)
    put64(entry + _ID, key)
    return entry + _ID
