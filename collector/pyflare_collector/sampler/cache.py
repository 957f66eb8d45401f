"""A bounded memory of what was decided about traces."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from pyflare_collector.sampler.kernels import table_find, table_put

__all__ = ["DecisionCache"]


class DecisionCache:
    """Remembers one number per trace, for at least the `capacity` traces used last.

    Two generations of an open-addressing table: what is found in the older one
    moves to the newer one, and when the newer one is full the older one is
    forgotten. Memory is at most 96 bytes per trace of capacity (rounded up to a
    power of two). Not thread-safe.

    Args:
        capacity: traces remembered at least; below 1 counts as 1.
        seed: secret that places ids in the table, so that nobody can choose ids that
            collide; random when None. It changes no decision.
    """

    def __init__(self, capacity: int = 65536, *, seed: int | None = None) -> None:
        self.capacity = capacity = max(1, capacity)
        random = int.from_bytes(os.urandom(8)) if seed is None else seed
        self._seed = np.uint64(random & 0xFFFFFFFFFFFFFFFF)
        self._slots = 1 << (2 * capacity - 1).bit_length()
        self._new = self._empty()
        self._old = self._empty()
        self._count = 0
        self._total_old = 0

    def __len__(self) -> int:
        """Return the number of ids held; an id in both generations counts twice."""
        return self._count + self._total_old

    def find(self, trace_id: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return what is remembered of (n, 16) distinct traces, NaN where nothing is."""
        out = np.full(len(trace_id), np.nan)
        if not len(self):
            return out
        found = table_find(*self._new, self._seed, trace_id, out)
        if found < len(out) and self._total_old:
            moved = np.full(len(trace_id), np.nan)
            missing = np.isnan(out)
            if table_find(*self._old, self._seed, trace_id, moved):
                out = np.where(missing, moved, out)
                self.put(trace_id, np.where(missing, moved, np.nan))
        return out

    def put(self, trace_id: NDArray[np.uint8], values: NDArray[np.float64]) -> None:
        """Remember (n,) values of (n, 16) traces; NaN rows are passed over."""
        row = 0
        while True:
            room = self.capacity - self._count
            row, added = table_put(*self._new, self._seed, trace_id, values, row, room)
            self._count += added
            if row == len(values):
                return
            self._old, self._total_old = self._new, self._count
            self._new, self._count = self._empty(), 0

    def _empty(self) -> tuple[NDArray[np.uint64], NDArray[np.float64]]:
        return np.zeros((self._slots, 2), dtype=np.uint64), np.full(self._slots, np.nan)
