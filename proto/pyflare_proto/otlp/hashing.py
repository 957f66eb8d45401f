"""Hash and comparison of byte ranges, shared by the kernels that look text up."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyflare_proto.otlp.jit import kernel, load64, mulhi

__all__ = ["equal_bytes", "hash_bytes"]

_K0 = np.uint64(0xA0761D6478BD642F)
_K1 = np.uint64(0xE7037ED1A0B428DB)


@kernel
def _partial(buf: NDArray[np.uint8], pos: int, size: int) -> np.uint64:
    """Return `size` < 8 bytes as an integer."""
    word = np.uint64(0)
    for i in range(size):
        word |= np.uint64(buf[pos + i]) << np.uint64(8 * i)
    return word


@kernel
def hash_bytes(buf: NDArray[np.uint8], pos: int, size: int, seed: np.uint64) -> np.uint64:
    """Return a 64-bit hash of `size` bytes from `pos` on.

    Folded 128-bit products of 8-byte words, the construction of wyhash: with a
    secret `seed` nobody can prepare texts that collide.
    """
    h = (seed ^ np.uint64(size)) * _K0 + _K1
    stop = pos + size
    i = pos
    while i + 8 <= stop:
        a = load64(buf, i) ^ _K0
        b = h ^ _K1
        h = (a * b) ^ mulhi(a, b)
        i += 8
    if i < stop:
        word = load64(buf, stop - 8) if size >= 8 else _partial(buf, i, stop - i)
        a = word ^ _K1
        b = h ^ _K0
        h = (a * b) ^ mulhi(a, b)
    return h


@kernel
def equal_bytes(
    a: NDArray[np.uint8], pos_a: int, b: NDArray[np.uint8], pos_b: int, size: int
) -> bool:
    """Return whether two ranges of `size` bytes are equal."""
    if size >= 8:
        last = size - 8
        for i in range(0, last, 8):
            if load64(a, pos_a + i) != load64(b, pos_b + i):
                return False
        return bool(load64(a, pos_a + last) == load64(b, pos_b + last))
    return bool(_partial(a, pos_a, size) == _partial(b, pos_b, size))
