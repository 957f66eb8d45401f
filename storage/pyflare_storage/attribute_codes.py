"""Attributes that were looked up once, as codes: the next question reads no JSON.

Each piece of a file keeps a byte or two a row and attribute, in memory while they are few,
then in a temporary file without a name. An attribute with more than 65,535 different values is
not kept.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pyflare_storage.json_lookup import Wanted
from pyflare_storage.pieces import Place
from pyflare_storage.spill_file import SpillFile

__all__ = ["AttributeCodes", "Looked"]

_log = logging.getLogger("pyflare.storage")

_MEMORY_BYTES = 32 * 2**20
_FILE_BYTES = 2 * 2**30
"""With more in the file everything is forgotten: much may be of files that are gone."""
_MOST_VALUES = 65_535
_BYTE = 256


class Looked(NamedTuple):
    """What was looked up."""

    of: str
    """The column."""
    key: str
    wanted: Wanted

    @property
    def column(self) -> str:
        """Name of the values where they stand beside plain columns."""
        return f"{self.of}\0{self.key}\0{self.wanted}"


class _Part(NamedTuple):
    """The codes of one piece, or where they are in the file."""

    data: bytes | None
    place: int
    size: int
    type: np.dtype[np.uint8] | np.dtype[np.uint16]


@dataclass(slots=True)
class _Values:
    """Values of one attribute; code 0 is null."""

    codes: pl.Series
    parts: dict[Place, _Part] = field(default_factory=dict)


class AttributeCodes:
    """Keeps the values of attributes by piece. Thread-safe.

    Args:
        memory_bytes: bytes of codes to hold before they go to a file.
    """

    def __init__(self, *, memory_bytes: int = _MEMORY_BYTES) -> None:
        self._known: dict[Looked, _Values | None] = {}
        self._memory_bytes = self._room = memory_bytes
        self._file = SpillFile()
        self._lock = threading.Lock()

    def get(self, looked: Looked, piece: Place) -> pl.Series | None:
        """Return the values of a piece's rows; None where they are not kept."""
        with self._lock:
            known = self._known.get(looked)
            part = None if known is None else known.parts.get(piece)
            if known is None or part is None:
                return None
            data = part.data
            if data is None:
                data = self._file.read(part.place, part.size)
            return known.codes.gather(np.frombuffer(data, part.type)).alias(looked.column)

    def put(self, looked: Looked, piece: Place, values: pl.Series) -> None:
        """Keep the values of a piece's rows."""
        with self._lock:
            known = self._known.setdefault(looked, _Values(pl.Series([None], dtype=values.dtype)))
            if known is None:
                return
            coded = self._coded(known, values)
            if coded is None:
                self._known[looked] = None
                return
            part = self._kept(coded)
            if part is not None:
                known.parts[piece] = part

    @staticmethod
    def _coded(known: _Values, values: pl.Series) -> NDArray[np.uint16] | None:
        """Return the codes of values, new values at the end; None where there are too many."""
        found = values.unique()
        new = found.filter(~found.is_in(known.codes.implode(), nulls_equal=True))
        if len(known.codes) + len(new) > _MOST_VALUES:
            return None
        known.codes = known.codes.append(new)
        table = pl.DataFrame({"value": known.codes}).with_row_index("code")
        joined = pl.DataFrame({"value": values}).join(
            table, on="value", how="left", nulls_equal=True, maintain_order="left"
        )
        return joined["code"].cast(pl.UInt16).to_numpy()

    def _kept(self, codes: NDArray[np.uint16]) -> _Part | None:
        small = not len(codes) or int(codes.max()) < _BYTE
        type_ = np.dtype(np.uint8) if small else np.dtype(np.uint16)
        data = codes.astype(type_).tobytes()
        self._room -= len(data)
        if self._room >= 0:
            return _Part(data, 0, len(data), type_)
        if self._file.size + len(data) > _FILE_BYTES:
            self._known.clear()
            self._file.clear()
            self._room = self._memory_bytes
            return None
        try:
            place = self._file.append(data)
        except OSError as error:
            _log.info("attributes are read again for each question: %s", error)
            return None
        return _Part(None, place, len(data), type_)
