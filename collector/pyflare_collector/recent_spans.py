"""The spans that were seen lately: a bounded, exact set of (trace id, span id)."""

from __future__ import annotations

import secrets
import threading

import numpy as np
from numpy.typing import NDArray

from pyflare_proto.errors import UsageError
from pyflare_proto.otlp.jit import kernel

__all__ = ["RecentSpans"]

_MIX = np.uint64(0x9E3779B97F4A7C15)
_MAX_CAPACITY = 1 << 30
_SEED = np.uint64(secrets.randbits(64))
"""Secret of the process: nobody can prepare ids that fall into one bucket."""


@kernel
def _hash(key: NDArray[np.uint64], row: int, seed: np.uint64) -> np.uint64:
    """Mix the key in a row to 64 bits."""
    h = (key[row, 0] ^ seed) * _MIX
    h = (h ^ (h >> np.uint64(29)) ^ key[row, 1]) * _MIX
    h = (h ^ (h >> np.uint64(32)) ^ key[row, 2]) * _MIX
    mixed: np.uint64 = h ^ (h >> np.uint64(31))
    return mixed


@kernel
def _find(  # noqa: PLR0917  # kernels take their arrays by position
    ring: NDArray[np.uint64],
    heads: NDArray[np.int32],
    newest: int,
    keys: NDArray[np.uint64],
    row: int,
    bucket: np.int64,
) -> bool:
    """Tell whether the ring holds the key in a row of `keys`.

    A chain leads from the newest entry of a bucket to older ones. An entry that was
    overwritten is newer than the one that points to it: there the chain ends.
    """
    capacity = len(ring)
    slot = np.int64(heads[bucket])
    age = np.int64(-1)
    while slot >= 0:
        own = newest - slot
        if own < 0:
            own += capacity
        if own <= age:
            return False
        if (
            ring[slot, 0] == keys[row, 0]
            and ring[slot, 1] == keys[row, 1]
            and ring[slot, 2] == keys[row, 2]
        ):
            return True
        age = own
        slot = np.int64(ring[slot, 3])
    return False


@kernel
def _first_seen(  # noqa: PLR0917  # kernels take their arrays by position
    ring: NDArray[np.uint64],
    heads: NDArray[np.int32],
    newest: int,
    asked: NDArray[np.uint64],
    slots: NDArray[np.int32],
    result: NDArray[np.bool_],
    seed: np.uint64,
) -> None:
    """Answer for each asked key whether neither the ring nor an earlier row holds it."""
    mask = len(slots) - 1
    buckets = len(heads) - 1
    for row in range(len(asked)):
        h = np.int64(_hash(asked, row, seed) >> np.uint64(1))
        slot = h & mask
        fresh = True
        while slots[slot] >= 0:
            earlier = slots[slot]
            if (
                asked[earlier, 0] == asked[row, 0]
                and asked[earlier, 1] == asked[row, 1]
                and asked[earlier, 2] == asked[row, 2]
            ):
                fresh = False
                break
            slot = (slot + 1) & mask
        if fresh:
            slots[slot] = row
            fresh = not _find(ring, heads, newest, asked, row, h & buckets)
        result[row] = fresh


@kernel
def _add(
    ring: NDArray[np.uint64],
    heads: NDArray[np.int32],
    newest: int,
    given: NDArray[np.uint64],
    seed: np.uint64,
) -> int:
    """Enter keys that the ring does not hold; return the slot of the newest entry."""
    capacity = len(ring)
    buckets = len(heads) - 1
    for row in range(len(given)):
        bucket = np.int64(_hash(given, row, seed) >> np.uint64(1)) & buckets
        if _find(ring, heads, newest, given, row, bucket):
            continue
        newest = newest + 1 if newest + 1 < capacity else 0
        ring[newest, 0] = given[row, 0]
        ring[newest, 1] = given[row, 1]
        ring[newest, 2] = given[row, 2]
        ring[newest, 3] = np.uint64(np.int64(heads[bucket]))
        heads[bucket] = newest
    return newest


class RecentSpans:
    """The last `capacity` different spans, by trace id and span id.

    Whole keys are kept and compared: a span that was not seen is never taken for one
    that was. Memory is 32 bytes a span and 4 to 8 for the hash table: 145 MB for the
    default, taken page by page as spans arrive. Safe to use from several threads.

    Args:
        capacity: spans to remember, 1 to 2^30; the oldest is forgotten first.

    Raises:
        UsageError: capacity is out of range.
    """

    def __init__(self, capacity: int = 4_000_000) -> None:
        if not 1 <= capacity <= _MAX_CAPACITY:
            raise UsageError(
                f"capacity {capacity} is not between 1 and {_MAX_CAPACITY}",
                hint="choose a capacity within that range",
            )
        self.capacity = capacity
        """Spans that are remembered."""
        self._lock = threading.Lock()
        self._newest = capacity - 1
        # Three words of the key, and the slot of the next older entry of the bucket.
        self._ring = np.empty((capacity, 4), np.uint64)
        self._heads = np.full(1 << max(capacity - 1, 1).bit_length(), -1, np.int32)

    @property
    def nbytes(self) -> int:
        """Bytes that the set takes when it is full."""
        return self._ring.nbytes + self._heads.nbytes

    def first_seen(
        self, trace_id: NDArray[np.uint8], span_id: NDArray[np.uint8]
    ) -> NDArray[np.bool_]:
        """Tell which spans are new.

        Args:
            trace_id: (n, 16).
            span_id: (n, 8).

        Returns:
            (n,) False for a span that was added before, and for one that stands in an
            earlier row of this call.
        """
        asked = _keys(trace_id, span_id)
        result = np.empty(len(asked), np.bool_)
        slots = np.full(1 << (2 * len(asked) + 1).bit_length(), -1, np.int32)
        with self._lock:
            _first_seen(self._ring, self._heads, self._newest, asked, slots, result, _SEED)
        return result

    def add(self, trace_id: NDArray[np.uint8], span_id: NDArray[np.uint8]) -> None:
        """Remember spans; those that are known already do not become newer.

        Args:
            trace_id: (n, 16).
            span_id: (n, 8).
        """
        given = _keys(trace_id, span_id)
        with self._lock:
            self._newest = int(_add(self._ring, self._heads, self._newest, given, _SEED))


def _keys(trace_id: NDArray[np.uint8], span_id: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return (n, 3) the two halves of the trace id, and the span id."""
    keys = np.empty((len(trace_id), 3), np.uint64)
    keys[:, :2] = np.ascontiguousarray(trace_id).view(np.uint64)
    keys[:, 2:] = np.ascontiguousarray(span_id).view(np.uint64)
    return keys
