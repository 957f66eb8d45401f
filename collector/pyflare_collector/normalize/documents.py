"""JSON documents in attributes: values at a path, for many spans at once.

A document arrives as JSON text in a string, or as a structured value (an array or a
list of pairs). Structured values are turned to JSON text once per batch and key, and
read by the same kernels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pyflare_collector.normalize.attributes import AttributeIndex
from pyflare_collector.normalize.conventions.sources import Path
from pyflare_collector.normalize.json_kernels import JsonType, JsonValues, lookup, unescape
from pyflare_proto.otlp.anyvalue import attributes_json
from pyflare_proto.otlp.batch import AttributeTable, Slices, ValueType
from pyflare_proto.otlp.jit import frozen

__all__ = ["Document", "Documents", "Found"]


_NO_VALUE = "None"


class Document(NamedTuple):
    """The documents of one attribute that stand in one buffer."""

    spans: NDArray[np.int64]
    """(m,) spans that have one, ascending."""
    buffer: NDArray[np.uint8]
    """What `slices` points into."""
    slices: Slices
    """(m,) JSON text."""

    def at(self, spans: NDArray[np.bool_]) -> Document:
        """Return the documents of the spans that the (n,) mask holds."""
        kept = spans[self.spans]
        if kept.all():
            return self
        slices = Slices(self.slices.offset[kept], self.slices.length[kept])
        return Document(self.spans[kept], self.buffer, slices)

    def inside(self, path: Path) -> Document:
        """Return the objects and arrays at `path` as documents of their own."""
        values = lookup(self.buffer, self.slices, path)
        kept = (values.type == JsonType.OBJECT) | (values.type == JsonType.ARRAY)
        slices = Slices(values.slices.offset[kept], values.slices.length[kept])
        return Document(self.spans[kept], self.buffer, slices)

    def lookup(self, path: Path) -> Found:
        """Return the values at `path`."""
        return Found(self, lookup(self.buffer, self.slices, path))


class Found(NamedTuple):
    """Values found in documents."""

    document: Document
    """Where they were looked for."""
    values: JsonValues
    """(m,) what was found, one for each of the document's spans."""

    def integers(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (spans, values) of the whole numbers that are not negative."""
        kind, number = self.values.type, self.values.number
        where = np.flatnonzero((kind == JsonType.INT) & (number >= 0))
        spans, values = self.document.spans[where], number[where]
        doubles = np.flatnonzero(kind == JsonType.DOUBLE)
        if len(doubles):
            reals = number[doubles].view(np.float64)
            good = (reals >= 0) & (reals <= 2.0**53) & (reals == np.floor(reals))
            spans = np.concatenate([spans, self.document.spans[doubles[good]]])
            values = np.concatenate([values, reals[good].astype(np.int64)])
        return spans, values

    def numbers(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return (spans, values) of the finite numbers."""
        kind, number = self.values.type, self.values.number
        reals = np.where(kind == JsonType.DOUBLE, number.view(np.float64), number.astype(float))
        good = (kind == JsonType.DOUBLE) | (kind == JsonType.INT)
        good &= np.isfinite(reals)
        return self.document.spans[good], reals[good]

    def texts(self) -> tuple[NDArray[np.int64], pa.StringArray]:
        """Return (spans, texts) of the strings that are not empty, and of numbers as text.

        The text `None`, which some emitters write for no value, counts as empty.
        """
        kind, number = self.values.type, self.values.number
        texts = unescape(self.document.buffer, self.values)
        for scalar, numbers in (
            (JsonType.BOOL, number != 0),
            (JsonType.INT, number),
            (JsonType.DOUBLE, number.view(np.float64)),
        ):
            mask = kind == scalar
            if mask.any():
                written = pc.cast(pa.array(numbers[mask]), pa.string())
                texts = pc.replace_with_mask(texts, pa.array(mask), written)
        lengths = pc.binary_length(texts).fill_null(0).to_numpy(zero_copy_only=False)
        mask = lengths > 0
        if (lengths == len(_NO_VALUE)).any():
            is_none = pc.equal(texts, pa.scalar(_NO_VALUE)).fill_null(False)
            mask &= ~is_none.to_numpy(zero_copy_only=False)
        return self.document.spans[mask], texts.filter(pa.array(mask))


class Documents:
    """The JSON documents of a batch by attribute.

    Args:
        index: the attributes of the batch.
    """

    def __init__(self, index: AttributeIndex) -> None:
        self._index = index
        self._known: dict[str, tuple[Document, ...]] = {}

    def get(self, key: str) -> tuple[Document, ...]:
        """Return the documents in span attribute `key`: none, or one group for each buffer.

        Raises:
            KeyError: the key table does not list `key`.
        """
        if key not in self._known:
            self._known[key] = tuple(self._find(key))
        return self._known[key]

    def _find(self, key: str) -> list[Document]:
        rows = self._index.rows(key)
        if rows is None:
            return []
        table = self._index.table
        spans = np.flatnonzero(rows >= 0)
        rows = rows[spans]
        kinds = table.type[rows]
        found = []
        text = kinds == ValueType.STRING
        if text.any():
            at = rows[text]
            slices = Slices(table.value.offset[at], table.value.length[at])
            found.append(Document(spans[text], self._index.buffer, slices))
        structured = (kinds == ValueType.ARRAY) | (kinds == ValueType.KVLIST)
        if structured.any():
            found.append(self._structured(key, spans[structured], rows[structured]))
        return found

    def _structured(self, key: str, spans: NDArray[np.int64], rows: NDArray[np.int32]) -> Document:
        """Return structured values as JSON text: the one member of an object a row."""
        table = self._index.table
        own = AttributeTable(
            owner=np.arange(len(rows), dtype=np.int32),
            key=Slices(table.key.offset[rows], table.key.length[rows]),
            key_id=table.key_id[rows],
            index0=table.index0[rows],
            index1=table.index1[rows],
            type=table.type[rows],
            value=Slices(table.value.offset[rows], table.value.length[rows]),
            number=table.number[rows],
        )
        texts = attributes_json(self._index.buffer, own, len(rows))
        _, offsets, data = texts.buffers()
        bounds = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(rows) + 1]
        buffer = frozen(np.frombuffer(data, np.uint8))
        wrapped = Slices(bounds[:-1].astype(np.int64), np.diff(bounds).astype(np.int32))
        return Document(spans, buffer, wrapped).inside((key,))
