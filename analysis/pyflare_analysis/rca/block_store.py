"""Coded rows between passes: packed, in memory while they are few, then in a temporary file.

A row takes a byte or two a dimension, and a byte or eight for its number. Reading packed rows
back costs a fraction of reading and coding the source again, so the number of passes hardly
matters. The file has no name, and the system removes it with the process.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pyflare_storage.spill_file import SpillFile

__all__ = ["Block", "BlockStore"]

_log = logging.getLogger("pyflare.analysis")

_MEMORY_BYTES = 64 * 2**20
_BYTE_CODES = 256


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows as codes."""

    codes: NDArray[np.uint16]
    """(d, n) one row a dimension."""
    values: NDArray[np.float64]
    """(n,) the metric's numbers."""
    weights: NDArray[np.float64] | None
    """(n,) how many rows each stands for; None: one each."""


class _Coding(Protocol):
    """A dimension with codes 0 to `rest`."""

    @property
    def rest(self) -> int:
        """The largest code."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """How the bytes of one block are divided."""

    rows: int
    bits: bool
    """Values are 0 or 1, a byte each."""
    weighted: bool


class BlockStore:
    """Blocks in the order they were added, as often as they are asked for.

    Add all blocks, then iterate; `lost` tells that they could not be kept.

    Args:
        dimensions: what the rows of `Block.codes` are codes of.
        memory_bytes: packed bytes to hold before they go to a file; 64 MiB when None.
    """

    def __init__(self, dimensions: Sequence[_Coding], *, memory_bytes: int | None = None) -> None:
        self._types = [
            np.dtype(np.uint8 if dimension.rest < _BYTE_CODES else np.uint16)
            for dimension in dimensions
        ]
        self._room = _MEMORY_BYTES if memory_bytes is None else memory_bytes
        self._held: list[bytes] = []
        self._file = SpillFile()
        self._layouts: list[_Layout] = []
        self.lost = False
        """Whether the disk took no more: nothing is kept."""

    def add(self, block: Block) -> None:
        """Keep a block."""
        if self.lost:
            return
        values = block.values
        bits = bool(((values == 0.0) | (values == 1.0)).all())
        parts = [
            codes.astype(type_, copy=False).tobytes()
            for codes, type_ in zip(block.codes, self._types, strict=True)
        ]
        parts.append(values.astype(np.uint8).tobytes() if bits else values.tobytes())
        if block.weights is not None:
            parts.append(block.weights.tobytes())
        self._layouts.append(_Layout(len(values), bits, block.weights is not None))
        self._keep(b"".join(parts))

    def __iter__(self) -> Iterator[Block]:
        """Yield the blocks."""
        place = 0
        for number, layout in enumerate(self._layouts):
            if number < len(self._held):
                yield self._unpacked(self._held[number], layout)
            else:
                data = self._file.read(place, self._size(layout))
                place += len(data)
                yield self._unpacked(data, layout)

    def _keep(self, data: bytes) -> None:
        self._room -= len(data)
        if self._room >= 0:
            self._held.append(data)
            return
        try:
            self._file.append(data)
        except OSError as error:
            _log.info("rows are read again for each pass, the disk takes none: %s", error)
            self.lost = True
            self._held, self._layouts, self._file = [], [], SpillFile()

    def _size(self, layout: _Layout) -> int:
        row = sum(type_.itemsize for type_ in self._types)
        row += (1 if layout.bits else 8) + (8 if layout.weighted else 0)
        return row * layout.rows

    def _unpacked(self, data: bytes, layout: _Layout) -> Block:
        n, place = layout.rows, 0
        codes = np.empty((len(self._types), n), np.uint16)
        for row, type_ in enumerate(self._types):
            codes[row] = np.frombuffer(data, type_, n, place)
            place += n * type_.itemsize
        stored = np.dtype(np.uint8 if layout.bits else np.float64)
        values = np.frombuffer(data, stored, n, place).astype(np.float64, copy=False)
        place += n * stored.itemsize
        weights = np.frombuffer(data, np.float64, n, place) if layout.weighted else None
        return Block(codes, values, weights)
