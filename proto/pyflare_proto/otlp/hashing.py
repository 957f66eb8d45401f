"""Hash and comparison of byte ranges, shared by the kernels that look text up."""

from __future__ import annotations

import numpy as np

from pyflare_proto.otlp.jit import byte_at, helper, int64_at, mulhi

__all__ = ["equal_bytes", "hash_bytes"]

_K0 = np.uint64(0xA0761D6478BD642F)
_K1 = np.uint64(0xE7037ED1A0B428DB)


@helper
def _partial(place: int, size: int) -> int:
    """Return `size` < 8 bytes as an integer."""
    word = 0
    for i in range(size):
        word |= byte_at(place + i) << (8 * i)
    return word


@helper
def hash_bytes(place: int, size: int, seed: int) -> np.uint64:
    """Return a 64-bit hash of `size` bytes at the address `place`.

    Folded 128-bit products of 8-byte words, the construction of wyhash: with a
    secret `seed` nobody can prepare texts that collide.
    """
    h = np.uint64(seed ^ size) * _K0 + _K1
    stop = place + size
    while place + 8 <= stop:
        a = np.uint64(int64_at(place)) ^ _K0
        b = h ^ _K1
        h = (a * b) ^ mulhi(a, b)
        place += 8
    if place < stop:
        word = int64_at(stop - 8) if size >= 8 else _partial(place, stop - place)
        a = np.uint64(word) ^ _K1
        b = h ^ _K0
        h = (a * b) ^ mulhi(a, b)
    return h


@helper
def equal_bytes(a: int, b: int, size: int) -> bool:
    """Return whether the `size` bytes at the addresses `a` and `b` are equal."""
    if size >= 8:
        last = size - 8
        for i in range(0, last, 8):
            if int64_at(a + i) != int64_at(b + i):
                return False
        return int64_at(a + last) == int64_at(b + last)
    return _partial(a, size) == _partial(b, size)
