"""Span events by name: the attributes that content is read from, for all events at once."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pyflare_proto.otlp.batch import OtlpBatch, Slices
from pyflare_proto.otlp.columns import distinct_strings
from pyflare_proto.otlp.jit import address, byte_at, frozen, int64_at, kernel
from pyflare_proto.otlp.wire import (
    KEY,
    KEY_SIZE,
    KIND,
    NUMBER,
    SCRATCH_WORDS,
    VALUE,
    VALUE_SIZE,
    key_value,
    length,
    skip,
    tag_at,
)

__all__ = ["EventTable", "EventValues"]

_NAME_TAG = 0x12
_ATTRIBUTE_TAG = 0x1A


@kernel
def _names(  # noqa: PLR0917  # kernels take their arrays by position
    buffer: NDArray[np.uint8],
    offset: NDArray[np.int64],
    size: NDArray[np.int32],
    name_offset: NDArray[np.int64],
    name_size: NDArray[np.int32],
    scratch: NDArray[np.int64],
) -> None:
    """Find the name of each event."""
    base = address(buffer)
    for row in range(len(offset)):
        pos = base + offset[row]
        end = pos + size[row]
        while 0 <= pos < end:
            tag, pos = tag_at(pos, end)
            if tag == _NAME_TAG:
                start, pos = length(pos, end)
                name_offset[row] = start - base
                name_size[row] = pos - start
            else:
                pos = skip(pos, end, tag, 0, address(scratch))


@kernel
def _values(  # noqa: PLR0917  # kernels take their arrays by position
    buffer: NDArray[np.uint8],
    offset: NDArray[np.int64],
    size: NDArray[np.int32],
    keys: NDArray[np.uint8],
    key_bounds: NDArray[np.int64],
    kinds: NDArray[np.uint8],
    value_offset: NDArray[np.int64],
    value_size: NDArray[np.int32],
    number: NDArray[np.int64],
    scratch: NDArray[np.int64],
) -> None:
    """Find the value of each of k keys in each of m events; the last of a key counts."""
    base = address(buffer)
    record = address(scratch)
    names = address(keys)
    for row in range(len(offset)):
        pos = base + offset[row]
        end = pos + size[row]
        while 0 <= pos < end:
            tag, pos = tag_at(pos, end)
            if tag != _ATTRIBUTE_TAG:
                pos = skip(pos, end, tag, 0, record)
                continue
            start, pos = length(pos, end)
            key_value(start, pos, -1, record)
            key = int64_at(record + KEY)
            key_size = int64_at(record + KEY_SIZE)
            for k in range(len(key_bounds) - 1):
                if key_bounds[k + 1] - key_bounds[k] != key_size:
                    continue
                same = 0
                while same < key_size and byte_at(key + same) == byte_at(
                    names + key_bounds[k] + same
                ):
                    same += 1
                if same == key_size:
                    kinds[k, row] = int64_at(record + KIND)
                    value_offset[k, row] = int64_at(record + VALUE) - base
                    value_size[k, row] = int64_at(record + VALUE_SIZE)
                    number[k, row] = int64_at(record + NUMBER)
                    break


class EventValues:
    """Values of some keys in some events.

    Args:
        buffer: (b,) what the slices point into.
        keys: the keys.
        slices: (m,) encoded events.
    """

    def __init__(self, buffer: NDArray[np.uint8], keys: Iterable[str], slices: Slices) -> None:
        self.buffer = buffer
        self._place = {key: place for place, key in enumerate(keys)}
        encoded = [key.encode() for key in self._place]
        bounds = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum([len(key) for key in encoded], out=bounds[1:])
        shape = (len(encoded), len(slices.offset))
        self._kinds = np.zeros(shape, np.uint8)
        self._offset = np.zeros(shape, np.int64)
        self._size = np.zeros(shape, np.int32)
        self._number = np.zeros(shape, np.int64)
        _values(
            frozen(buffer),
            *slices,
            frozen(np.frombuffer(b"".join(encoded), np.uint8)),
            bounds,
            self._kinds,
            self._offset,
            self._size,
            self._number,
            np.zeros(SCRATCH_WORDS, np.int64),
        )

    def kinds(self, key: str) -> NDArray[np.uint8]:
        """Return (m,) the `ValueType` of a key's values, 0 where absent."""
        kinds: NDArray[np.uint8] = self._kinds[self._place[key]]
        return kinds

    def slices(self, key: str) -> Slices:
        """Return (m,) the bytes of a key's values, length 0 where absent or a number."""
        place = self._place[key]
        return Slices(self._offset[place], self._size[place])

    def numbers(self, key: str) -> NDArray[np.int64]:
        """Return (m,) integers, booleans, or the 64 bits of doubles."""
        numbers: NDArray[np.int64] = self._number[self._place[key]]
        return numbers


class EventTable:
    """The span events of a batch by name.

    Args:
        batch: the spans.
    """

    def __init__(self, batch: OtlpBatch) -> None:
        self.batch = batch
        self.owner = batch.events.owner
        """(m,) row of each event's span."""

    @cached_property
    def _by_name(self) -> tuple[NDArray[np.int32], list[str]]:
        message = self.batch.events.message
        found = Slices(np.zeros(len(self.owner), np.int64), np.zeros(len(self.owner), np.int32))
        _names(frozen(self.batch.buffer), *message, *found, np.zeros(SCRATCH_WORDS, np.int64))
        return distinct_strings(self.batch.buffer, found)

    def of(self, *names: str) -> dict[str, NDArray[np.int64]]:
        """Return the events (rows, in order) of each of the names that occurs."""
        if not len(self.owner):
            return {}
        codes, known = self._by_name
        return {name: np.flatnonzero(codes == known.index(name)) for name in names if name in known}

    def values(self, events: NDArray[np.int64], keys: Iterable[str]) -> EventValues:
        """Return the values of `keys` in `events`."""
        message = self.batch.events.message
        slices = Slices(message.offset[events], message.length[events])
        return EventValues(self.batch.buffer, keys, slices)
