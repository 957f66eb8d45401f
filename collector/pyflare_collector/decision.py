"""What the collector decided about a request, as it stands beside it in the log.

A replay must not decide again: the sampler may be random or full, and its
configuration may have changed. So the log keeps the request as it arrived and, where
not every span is kept for certain, a note: which rows are kept, and with which
probability.

The note, little-endian: rows u32, flags u8; with `KEEP` the kept rows as bits (first row
in the lowest bit); with `UNIFORM` one f64, with `EACH` one f64 a kept row. An empty note
says that every span with valid ids is kept with probability 1.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyflare_proto.errors import InvalidDataError

__all__ = ["Decision"]

_HEAD = struct.Struct("<IB")
_KEEP, _UNIFORM, _EACH = 1, 2, 4


@dataclass(frozen=True, slots=True)
class Decision:
    """Which spans of a request are kept, and how."""

    keep: NDArray[np.bool_]
    """(n,) rows of the request that are kept."""
    probability: NDArray[np.float64]
    """(k,) probability with which each kept row was kept, in (0, 1]."""

    def encode(self, valid_ids: NDArray[np.bool_]) -> bytes:
        """Return the note; empty when all rows with valid ids are kept with probability 1.

        Args:
            valid_ids: (n,) rows with valid ids.
        """
        certain = bool((self.probability == 1.0).all())
        if certain and bool((self.keep == valid_ids).all()):
            return b""
        flags, parts = 0, [b""]
        if not self.keep.all():
            flags |= _KEEP
            parts.append(np.packbits(self.keep, bitorder="little").tobytes())
        if not certain:
            uniform = bool((self.probability == self.probability[0]).all())
            flags |= _UNIFORM if uniform else _EACH
            values = self.probability[:1] if uniform else self.probability
            parts.append(values.astype("<f8").tobytes())
        parts[0] = _HEAD.pack(len(self.keep), flags)
        return b"".join(parts)

    @staticmethod
    def decode(note: bytes, valid_ids: NDArray[np.bool_]) -> Decision:
        """Return the decision that `encode` wrote about the same request.

        Args:
            note: what `encode` returned.
            valid_ids: (n,) rows with valid ids.

        Raises:
            InvalidDataError: the note is about another number of rows, or cut short.
        """
        if not note:
            return Decision(valid_ids.copy(), np.ones(int(valid_ids.sum())))
        reader = _Reader(note)
        rows, flags = _HEAD.unpack(reader.take(_HEAD.size))
        if rows != len(valid_ids):
            raise InvalidDataError(f"a log note about {rows} spans for {len(valid_ids)} spans")
        keep = np.ones(rows, dtype=np.bool_)
        if flags & _KEEP:
            bits = np.frombuffer(reader.take((rows + 7) // 8), dtype=np.uint8)
            keep = np.unpackbits(bits, count=rows, bitorder="little").astype(np.bool_)
        kept = int(keep.sum())
        probability = np.ones(kept)
        if flags & _UNIFORM:
            probability *= np.frombuffer(reader.take(8), dtype="<f8")[0]
        elif flags & _EACH:
            probability = np.frombuffer(reader.take(8 * kept), dtype="<f8").astype(np.float64)
        return Decision(keep, probability)


class _Reader:
    """Takes bytes off the front of a note."""

    def __init__(self, note: bytes) -> None:
        self._note = note
        self._position = 0

    def take(self, size: int) -> bytes:
        end = self._position + size
        if end > len(self._note):
            raise InvalidDataError("a log note is cut short")
        part = self._note[self._position : end]
        self._position = end
        return part
