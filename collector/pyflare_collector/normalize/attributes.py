"""Attributes of a batch by key: which row of the attribute table a span has for a key.

The decoder leaves one long table of attributes, owner by owner. Normalisation asks
the other way round: "the value of `gen_ai.request.model`, for all spans". An
`AttributeIndex` turns the table over once per batch, in two passes of one kernel,
and answers each such question with an array of rows into that table, -1 where a
span does not have the key. The value readers take such arrays.

Empty strings, bytes, arrays and lists of pairs, and values that are not set, count
as absent everywhere. A key given twice on one span has its last value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pyflare_collector.normalize.attribute_kernels import (
    count_present,
    place_rows,
    read_integers,
)
from pyflare_proto.otlp.batch import AttributeTable, OtlpBatch, Slices, ValueType
from pyflare_proto.otlp.columns import distinct_strings, strings
from pyflare_proto.otlp.keys import KeyTable

__all__ = ["AttributeIndex", "Categories", "TableIndex"]

Rows = NDArray[np.int32]
_INT64_MIN = -(1 << 63)


@dataclass(frozen=True, slots=True)
class Categories:
    """A text column of few distinct values."""

    codes: NDArray[np.int32]
    """(n,) index into `values`, -1 for absent."""
    values: list[str]
    """Distinct values; none is empty."""

    def map(self, function: Callable[[str], str | None]) -> Categories:
        """Return the column with `function` applied to each distinct value.

        Args:
            function: the new value, or None (or an empty text) for absent.
        """
        lookup: dict[str, int] = {}
        table = np.full(len(self.values) + 1, -1, dtype=np.int32)  # [-1] stays absent
        for code, value in enumerate(self.values):
            new = function(value)
            if new:
                table[code] = lookup.setdefault(new, len(lookup))
        return Categories(table[self.codes], list(lookup))

    def take(self, rows: NDArray[np.int32]) -> Categories:
        """Return the values at `rows`, none of them negative."""
        return Categories(self.codes[rows], self.values)


class TableIndex:
    """The attributes of one kind of owner (spans, resources or scopes) by key.

    Args:
        table: the attributes.
        n_owners: how many owners there are; rows of the answers.
        buffer: (bytes,) what the slices of `table` point into.
        keys: the key table that the batch was decoded with.
    """

    def __init__(
        self, table: AttributeTable, n_owners: int, buffer: NDArray[np.uint8], keys: KeyTable
    ) -> None:
        self.table = table
        self.n_owners = n_owners
        self.buffer = buffer
        self._keys = keys
        self._categories: dict[str, Categories] = {}
        self._families: dict[str, NDArray[np.int64]] = {}
        n_keys = len(keys)
        self._lines: dict[str, Rows | None] = dict.fromkeys(keys.keys)
        self._family_rows: dict[str, NDArray[np.int64]] = {}
        if not len(table.key_id):
            return
        slot = np.full(n_keys, -1, dtype=np.int32)
        counts = np.zeros(n_keys, dtype=np.int64)
        count_present(table.key_id, table.type, table.value.length, counts)
        present = counts > 0
        wide = _wide_keys(keys)
        plain = np.flatnonzero(present & ~wide)
        families = np.flatnonzero(present & wide)
        slot[plain] = np.arange(len(plain), dtype=np.int32)
        slot[families] = -2 - np.arange(len(families), dtype=np.int32)
        matrix = np.full((len(plain), n_owners), -1, dtype=np.int32)
        ends = np.cumsum(counts[families])
        starts = ends - counts[families]
        family_rows = np.empty(int(ends[-1]) if len(ends) else 0, dtype=np.int64)
        place_rows(
            table.key_id,
            table.owner,
            table.type,
            table.value.length,
            slot,
            matrix,
            starts.copy(),
            family_rows,
        )
        names = keys.keys
        self._lines.update((names[k], matrix[i]) for i, k in enumerate(plain.tolist()))
        self._family_rows = {
            names[k]: family_rows[a:b]
            for k, a, b in zip(families.tolist(), starts.tolist(), ends.tolist(), strict=True)
        }

    def rows(self, key: str) -> Rows | None:
        """Return the row of `key` for each owner, or None when no owner has it.

        Args:
            key: a key of the key table, without `#`.

        Returns:
            (n_owners,) rows into `table`, -1 where absent or empty.

        Raises:
            KeyError: the key table does not list `key`.
        """
        return self._lines[key]

    def family(self, pattern: str) -> NDArray[np.int64] | None:
        """Return the rows of a key with `#`, or None when no owner has one.

        Args:
            pattern: a key of the key table with `#`, such as `gen_ai.prompt.#.content`.

        Returns:
            (m,) rows into `table` by (owner, index0, index1); empty values are left out.

        Raises:
            KeyError: the key table does not list `pattern`.
        """
        rows = self._family_rows.get(pattern)
        if rows is None:
            if pattern not in self._keys:
                raise KeyError(pattern)
            return None
        found = self._families.get(pattern)
        if found is None:
            table = self.table
            order = np.lexsort((table.index1[rows], table.index0[rows], table.owner[rows]))
            found = self._families[pattern] = rows[order]
        return found

    def slices(self, rows: Rows) -> Slices:
        """Return the bytes of strings, bytes, arrays and lists of pairs at `rows`.

        Args:
            rows: (n,) rows into `table`, -1 for absent.

        Returns:
            (n,) slices; length 0 where absent and for numbers and booleans.
        """
        if not len(self.table.key_id):
            return Slices(np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int32))
        present = rows >= 0
        value = self.table.value
        return Slices(
            np.where(present, value.offset[rows], 0),
            np.where(present, value.length[rows], np.int32(0)),
        )

    def text(self, rows: Rows) -> Slices:
        """Return the slices of string values at `rows`; length 0 for other types."""
        found = self.slices(rows)
        if len(self.table.key_id):
            is_text = self.table.type[rows] == ValueType.STRING
            if not is_text.all():
                return Slices(found.offset, np.where(is_text, found.length, np.int32(0)))
        return found

    def strings(self, rows: Rows) -> pa.StringArray:
        """Return string values at `rows`; null where absent or of another type."""
        return strings(self.buffer, self.text(rows))

    def integers(self, rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return integer values at `rows` and where there is one.

        An INT counts, a STRING of at most 18 decimal digits, and a DOUBLE without a
        fraction up to 2^53.
        """
        values = np.zeros(len(rows), dtype=np.int64)
        ok = np.zeros(len(rows), dtype=np.bool_)
        self.fill_integers(rows, values, ok)
        return values, ok

    def fill_integers(
        self,
        rows: Rows,
        values: NDArray[np.int64],
        ok: NDArray[np.bool_],
        *,
        minimum: int = _INT64_MIN,
    ) -> None:
        """Write integers at `rows` into `values` and `ok`, in place, where `ok` is False.

        Integers below `minimum` are passed over; `values` means nothing where `ok` is False.
        """
        table = self.table
        if len(table.key_id):
            read_integers(
                rows,
                table.type,
                table.number,
                table.value.offset,
                table.value.length,
                self.buffer,
                minimum,
                values,
                ok,
            )

    def doubles(self, rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return finite numbers at `rows` and where there is one.

        A DOUBLE counts, an INT, and a STRING that holds a number.
        """
        table = self.table
        values = np.zeros(len(rows), dtype=np.float64)
        if not len(table.key_id):
            return values, np.zeros(len(rows), dtype=np.bool_)
        present = rows >= 0
        kinds = np.where(present, table.type[rows], np.uint8(0))
        numbers = table.number[rows]
        is_double, is_int = kinds == ValueType.DOUBLE, kinds == ValueType.INT
        values[is_double] = numbers[is_double].view(np.float64)
        values[is_int] = numbers[is_int]
        ok = is_double | is_int
        is_text = kinds == ValueType.STRING
        if is_text.any():
            codes, texts = distinct_strings(self.buffer, self.text(rows))
            parsed = np.array([*(_number(text) for text in texts), np.nan])
            values = np.where(is_text, parsed[codes], values)
            ok |= is_text
        ok &= np.isfinite(values)
        return np.where(ok, values, 0.0), ok

    def booleans(self, rows: Rows) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return booleans at `rows` and where there is one; text `true` and `false` count."""
        table = self.table
        if not len(table.key_id):
            nothing = np.zeros(len(rows), dtype=np.bool_)
            return nothing, nothing.copy()
        kinds = np.where(rows >= 0, table.type[rows], np.uint8(0))
        ok = kinds == ValueType.BOOL
        values = ok & (table.number[rows] != 0)
        is_text = kinds == ValueType.STRING
        if is_text.any():
            codes, texts = distinct_strings(self.buffer, self.text(rows))
            truth = np.array([*(text.strip().lower() == "true" for text in texts), False])
            known = np.array(
                [*(text.strip().lower() in {"true", "false"} for text in texts), False]
            )
            values = values | (is_text & truth[codes])
            ok = ok | (is_text & known[codes])
        return values, ok

    def categories(self, key: str) -> Categories | None:
        """Return the distinct texts of `key`, or None when no owner has it.

        Numbers and booleans are taken as their text; arrays and lists of pairs are
        absent, and so is the text `None`, which some emitters write for no value.

        Raises:
            KeyError: the key table does not list `key`.
        """
        found = self._categories.get(key)
        if found is None:
            rows = self.rows(key)
            if rows is not None:
                found = self._categories[key] = self.categories_at(rows)
        return found

    def categories_at(self, rows: Rows) -> Categories:
        """Return the distinct texts at `rows`, as `categories` does for a key."""
        codes, values = distinct_strings(self.buffer, self.text(rows))
        if "None" in values:
            codes, values = _without(codes, values, "None")
        others = self.numbers_as_text(rows)
        if others is None:
            return Categories(codes, values)
        where, texts = others
        lookup = {value: code for code, value in enumerate(values)}
        codes[where] = [lookup.setdefault(text, len(lookup)) for text in texts]
        return Categories(codes, list(lookup))

    def numbers_as_text(self, rows: Rows) -> tuple[NDArray[np.int64], list[str]] | None:
        """Return (where, texts) of numbers and booleans at `rows`, None without any."""
        if not len(self.table.key_id):
            return None
        kinds = np.where(rows >= 0, self.table.type[rows], np.uint8(0))
        where = np.flatnonzero((kinds >= ValueType.BOOL) & (kinds <= ValueType.DOUBLE))
        if not len(where):
            return None
        pairs = np.stack([kinds[where].astype(np.int64), self.table.number[rows[where]]], axis=1)
        distinct, inverse = np.unique(pairs, axis=0, return_inverse=True)
        texts = [_scalar_text(kind, number) for kind, number in distinct.tolist()]
        return where, [texts[i] for i in inverse.ravel().tolist()]


class AttributeIndex(TableIndex):
    """The attributes of a batch's spans by key, and those of their resources and scopes.

    Args:
        batch: the spans.
        keys: the key table that the batch was decoded with.
    """

    def __init__(self, batch: OtlpBatch, keys: KeyTable) -> None:
        super().__init__(batch.attributes, len(batch), batch.buffer, keys)
        self.batch = batch
        self.resources = TableIndex(
            batch.resource_attributes, batch.n_resources, batch.buffer, keys
        )
        self.scopes = TableIndex(
            batch.scope_attributes, len(batch.scope_name.length), batch.buffer, keys
        )

    def resource_rows(self, key: str) -> Rows | None:
        """Return rows into `batch.resource_attributes` of `key`, one a span; None without any."""
        rows = self.resources.rows(key)
        return None if rows is None else rows[self.batch.resource_index]

    def scope_rows(self, key: str) -> Rows | None:
        """Return rows into `batch.scope_attributes` of `key`, one a span; None without any."""
        rows = self.scopes.rows(key)
        return None if rows is None else rows[self.batch.scope_index]


_WIDE: dict[int, tuple[KeyTable, NDArray[np.bool_]]] = {}


def _wide_keys(keys: KeyTable) -> NDArray[np.bool_]:
    """Return (n_keys,) which keys hold a `#`."""
    known = _WIDE.get(id(keys))
    if known is None or known[0] is not keys:
        known = (keys, np.array(["#" in key for key in keys.keys], dtype=np.bool_))
        _WIDE.clear()
        _WIDE[id(keys)] = known
    return known[1]


def _without(
    codes: NDArray[np.int32], values: Sequence[str], unwanted: str
) -> tuple[NDArray[np.int32], list[str]]:
    """Return the column with one value made absent."""
    kept = Categories(codes, list(values)).map(lambda value: None if value == unwanted else value)
    return kept.codes, kept.values


def _number(text: str) -> float:
    """Return the number that `text` holds, NaN for none."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _scalar_text(kind: int, number: int) -> str:
    """Return a boolean, integer or double (given by its 64 bits) as text."""
    if kind == ValueType.BOOL:
        return "true" if number else "false"
    if kind == ValueType.INT:
        return str(number)
    return repr(float(np.int64(number).view(np.float64)))
