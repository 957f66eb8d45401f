"""First present and not empty wins, for all spans at once.

Each function takes the ordered sources of a field and goes through those whose key
occurs in the batch. Documents are opened only for the spans that are still without a
value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pyflare_collector.normalize.attributes import AttributeIndex, Categories
from pyflare_collector.normalize.changes import FACTORS, TEXT_CHANGES
from pyflare_collector.normalize.conventions.sources import Source, Sources
from pyflare_collector.normalize.documents import Documents
from pyflare_proto.otlp.batch import Slices
from pyflare_proto.otlp.columns import strings
from pyflare_proto.otlp.jit import kernel
from pyflare_proto.record import SPAN_TYPES

__all__ = ["Resolver", "TextColumn", "absent", "dictionary_of", "first_of", "root_rows"]


def dictionary_of(texts: pa.StringArray) -> tuple[NDArray[np.int32], list[str]]:
    """Return texts as (codes, distinct values); -1 for null."""
    encoded = texts.dictionary_encode()
    indices = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return indices.astype(np.int32), [str(value) for value in encoded.dictionary.to_pylist()]


def absent(n: int) -> Categories:
    """Return a column of `n` rows without a value."""
    return Categories(np.full(n, -1, dtype=np.int32), [])


def first_of(columns: Sequence[Categories | None], n: int) -> Categories:
    """Return, row by row, the first of `columns` that has a value.

    Args:
        columns: columns of n rows; None is a column without values.
        n: number of rows.
    """
    merged: Categories | None = None
    for column in columns:
        if column is None or not column.values:
            continue
        if merged is None:
            merged = column
            continue
        open_rows = merged.codes < 0
        if not open_rows.any():
            break
        lookup = {value: code for code, value in enumerate(merged.values)}
        table = np.array(
            [*(lookup.setdefault(value, len(lookup)) for value in column.values), -1],
            dtype=np.int32,
        )
        codes = np.where(open_rows, table[column.codes], merged.codes)
        merged = Categories(codes, list(lookup))
    return absent(n) if merged is None else merged


@dataclass(slots=True)
class TextColumn:
    """A text column in the making: slices of the batch's buffer, and texts from elsewhere."""

    slices: Slices
    """(n,) slices; length 0 where there is none."""
    filled: NDArray[np.bool_]
    """(n,) whether the row has a value yet."""
    others: list[tuple[NDArray[np.int64], pa.StringArray]] = field(default_factory=list)
    """(rows, texts) that do not stand in the buffer as they are; rows ascending."""

    def put(self, rows: NDArray[np.int64], texts: pa.StringArray) -> None:
        """Set `texts` at `rows`, which are ascending and not filled yet."""
        if len(rows):
            self.others.append((rows, texts))
            self.filled[rows] = True

    def array(self, buffer: NDArray[np.uint8]) -> pa.StringArray:
        """Return the column, null where no source had a value."""
        n = len(self.filled)
        if not self.filled.any():
            return pa.nulls(n, pa.string())
        result = strings(buffer, self.slices)
        for rows, texts in self.others:
            mask = np.zeros(n, dtype=np.bool_)
            mask[rows] = True
            result = pc.replace_with_mask(result, pa.array(mask), texts)
        return result


class Resolver:
    """Resolves fields of one batch.

    Args:
        index: the attributes of the batch.
        documents: the JSON documents of the batch.
    """

    def __init__(self, index: AttributeIndex, documents: Documents) -> None:
        self.index = index
        self.documents = documents
        self.n = len(index.batch)
        self._of_type: dict[tuple[str, ...], NDArray[np.bool_]] = {}
        self._span_type: NDArray[np.int8] | None = None

    def set_types(self, span_type: NDArray[np.int8]) -> None:
        """Tell the types of the spans, which sources with `when` need.

        Args:
            span_type: (n,) indices into `SPAN_TYPES`.
        """
        self._span_type = span_type
        self._of_type.clear()

    def of_type(self, names: tuple[str, ...]) -> NDArray[np.bool_]:
        """Return (n,) which spans are of one of the types `names`."""
        if self._span_type is None:
            raise RuntimeError("a source with `when` was asked before the types of the spans")
        mask = self._of_type.get(names)
        if mask is None:
            wanted = np.array([name in names for name in SPAN_TYPES], dtype=np.bool_)
            mask = self._of_type[names] = wanted[self._span_type]
        return mask

    def categories(self, sources: Sources) -> Categories:
        """Resolve a field of few distinct values."""
        columns: list[Categories] = []
        for source in sources:
            if source.place == "span" and self.index.rows(source.key) is None:
                continue
            column = self._category(source, columns)
            if column is None:
                continue
            if source.change:
                column = column.map(TEXT_CHANGES[source.change])
            if source.when:
                codes = np.where(self.of_type(source.when), column.codes, np.int32(-1))
                column = Categories(codes, column.values)
            columns.append(column)
        if len(self.index.scopes.table.key_id):
            columns.extend(self._scope_columns(sources))
        return first_of(columns, self.n)

    def _category(self, source: Source, before: list[Categories]) -> Categories | None:
        """Return one source's column; `before` are the columns that go first."""
        if source.place == "resource":
            column = self.index.resources.categories(source.key)
            return None if column is None else column.take(self.index.batch.resource_index)
        if not source.path:
            return self.index.categories(source.key)
        open_rows = first_of(before, self.n).codes < 0
        result = None
        for rows, texts in self._document_texts(source, open_rows):
            found, values = dictionary_of(texts)
            codes = np.full(self.n, -1, dtype=np.int32)
            codes[rows] = found
            column = Categories(codes, values)
            result = column if result is None else first_of([result, column], self.n)
        return result

    def _document_texts(
        self, source: Source, open_rows: NDArray[np.bool_]
    ) -> list[tuple[NDArray[np.int64], pa.StringArray]]:
        """Return (rows, texts) of a document source on those of `open_rows` that it counts for."""
        if source.when:
            open_rows = open_rows & self.of_type(source.when)
        found = []
        for document in self.documents.get(source.key):
            asked = document.at(open_rows)
            if len(asked.spans):
                rows, texts = asked.lookup(source.path).texts()
                if len(rows):
                    found.append((rows, texts))
        return found

    def _scope_columns(self, sources: Sources) -> list[Categories]:
        """Return the columns of plain keys that stand on the instrumentation scopes."""
        scopes = self.index.scopes
        columns = []
        for source in sources:
            if source.place == "span" and not source.path and not source.when:
                column = scopes.categories(source.key)
                if column is not None:
                    if source.change:
                        column = column.map(TEXT_CHANGES[source.change])
                    columns.append(column.take(self.index.batch.scope_index))
        return columns

    def text(self, sources: Sources) -> TextColumn:
        """Resolve a field of many distinct values."""
        index = self.index
        slices = Slices(np.zeros(self.n, np.int64), np.zeros(self.n, np.int32))
        column = TextColumn(slices, np.zeros(self.n, dtype=np.bool_))
        for source in sources:
            rows = index.rows(source.key) if source.place == "span" else None
            if rows is None:
                continue
            open_rows = ~column.filled
            if not open_rows.any():
                break
            if source.path:
                for where, texts in self._document_texts(source, open_rows):
                    column.put(where, texts)
                continue
            if source.when:
                rows = np.where(self.of_type(source.when), rows, np.int32(-1))
            table = index.table
            others = _fill_text(
                rows,
                table.type,
                table.value.offset,
                table.value.length,
                index.buffer,
                column.slices.offset,
                column.slices.length,
                column.filled,
            )
            if others:
                numbers = index.numbers_as_text(np.where(column.filled, np.int32(-1), rows))
                if numbers is not None:
                    column.put(numbers[0], pa.array(numbers[1], pa.string()))
        return column

    def counts(self, keys: Sequence[str]) -> NDArray[np.int64] | None:
        """Resolve a count from plain attributes.

        Returns:
            (n,) counts, -1 where absent or negative; None when no span has one of `keys`.
        """
        values: NDArray[np.int64] | None = None
        for key in keys:
            rows = self.index.rows(key)
            if rows is None:
                continue
            if values is None:
                values = np.full(self.n, -1, dtype=np.int64)
                ok = np.zeros(self.n, dtype=np.bool_)
            self.index.fill_integers(rows, values, ok, minimum=0)
        if values is not None:
            values[~ok] = -1
        return values

    def numbers(
        self, sources: Sources, *, positive: bool = False
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]] | None:
        """Resolve a number with a fraction.

        Args:
            sources: the sources.
            positive: whether 0 counts as absent; negative numbers always do.

        Returns:
            (n,) values and where there is one; None when no span has a source.
        """
        values: NDArray[np.float64] | None = None
        for source in sources:
            rows = self.index.rows(source.key)
            if rows is None:
                continue
            if values is None:
                values = np.zeros(self.n)
                ok = np.zeros(self.n, dtype=np.bool_)
            if source.path:
                new, has = self._document_numbers(source, ~ok)
            else:
                new, has = self.index.doubles(rows)
            if source.change:
                new = new * FACTORS[source.change]
            has = has & ~ok & ((new > 0) if positive else (new >= 0))
            values[has] = new[has]
            ok |= has
        return None if values is None else (values, ok)

    def _document_numbers(
        self, source: Source, open_rows: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        values, ok = np.zeros(self.n), np.zeros(self.n, dtype=np.bool_)
        for document in self.documents.get(source.key):
            rows, numbers = document.at(open_rows).lookup(source.path).numbers()
            values[rows] = numbers
            ok[rows] = True
        return values, ok

    def flags(self, keys: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
        """Resolve a boolean: (n,) values and where there is one; None without any."""
        values: NDArray[np.bool_] | None = None
        for key in keys:
            rows = self.index.rows(key)
            if rows is None:
                continue
            new, has = self.index.booleans(rows)
            if values is None:
                values, ok = new, has
            else:
                values = np.where(ok, values, new)
                ok = ok | has
        return None if values is None else (values, ok)


@kernel
def _fill_text(  # noqa: PLR0917 - numba kernels take their arrays by position
    rows: NDArray[np.int32],
    kind: NDArray[np.uint8],
    value_offset: NDArray[np.int64],
    value_length: NDArray[np.int32],
    buffer: NDArray[np.uint8],
    offset: NDArray[np.int64],
    length: NDArray[np.int32],
    filled: NDArray[np.bool_],
) -> int:
    """Fill the rows that are open from string values; return how many are of other types."""
    others = 0
    for i in range(rows.size):
        r = rows[i]
        if r < 0 or filled[i]:
            continue
        if kind[r] != 1:
            others += 1
            continue
        a, size = value_offset[r], value_length[r]
        # "None" is what some emitters write for no value.
        if (
            size == 4
            and buffer[a] == 78
            and buffer[a + 1] == 111
            and buffer[a + 2] == 110
            and buffer[a + 3] == 101
        ):
            continue
        offset[i] = a
        length[i] = size
        filled[i] = True
    return others


@kernel
def _roots(ids: NDArray[np.uint64], is_root: NDArray[np.bool_], result: NDArray[np.int32]) -> None:
    """Write for each row of `ids` (n, 2) the row of the first root with the same id, else -1."""
    n_roots = 0
    for i in range(is_root.size):
        n_roots += is_root[i]
    size = 16
    while size < 2 * n_roots:
        size *= 2
    mask = np.uint64(size - 1)
    table = np.full(size, -1, np.int32)
    factor = np.uint64(0x9E3779B97F4A7C15)
    for building in (True, False):
        for i in range(is_root.size):
            if building and not is_root[i]:
                continue
            mixed = (ids[i, 0] ^ (ids[i, 1] * factor)) * factor
            slot = (mixed ^ (mixed >> np.uint64(32))) & mask
            while True:
                row = table[slot]
                if row < 0:
                    if building:
                        table[slot] = i
                    else:
                        result[i] = -1
                    break
                if ids[row, 0] == ids[i, 0] and ids[row, 1] == ids[i, 1]:
                    if not building:
                        result[i] = row
                    break
                slot = (slot + np.uint64(1)) & mask


def root_rows(trace_id: NDArray[np.uint8], is_root: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return the row of each span's root span, as far as it is in the batch.

    Args:
        trace_id: (n, 16) trace ids.
        is_root: (n,) whether the span has no parent.

    Returns:
        (n,) row of the first root of the same trace, -1 where the batch holds none.
    """
    result = np.empty(len(is_root), dtype=np.int32)
    _roots(np.ascontiguousarray(trace_id).view(np.uint64), is_root, result)
    return result
