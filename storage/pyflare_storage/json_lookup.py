"""Look one key up in columns of JSON objects, without an object per row.

A compiled kernel walks the text of each row to the first top-level occurrence of the
key and gives the place and type of its value. Works on the JSON that the collector
writes (see `pyflare_proto.otlp.anyvalue`) and on any other valid JSON object.
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Wanted", "lookup"]

Wanted = Literal["text", "number", "boolean", "any"]
"""What a lookup returns: values of one JSON type, or every value as text."""

_TEXT, _NUMBER, _TRUE, _FALSE, _OTHER = 1, 2, 3, 4, 5


@cache
def _kernel() -> Callable[..., None]:
    """Compile the walk over the rows (numba is loaded on the first lookup only)."""
    from numba import njit

    @njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]  # numba ships no types
    def string_end(data: Any, i: int, end: int) -> int:  # noqa: ANN401  # numba array
        # i stands on the opening quote; returns the place behind the closing one.
        i += 1
        while i < end and data[i] != 34:
            i += 2 if data[i] == 92 else 1
        return i + 1

    @njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]  # numba ships no types
    def value_end(data: Any, i: int, end: int) -> int:  # noqa: ANN401  # numba array
        if data[i] == 34:
            return int(string_end(data, i, end))
        depth = 0
        while i < end:
            c = data[i]
            if c == 34:
                i = string_end(data, i, end)
                continue
            if c in (123, 91):
                depth += 1
            elif c in (125, 93):
                if depth == 0:
                    return i
                depth -= 1
            elif c == 44 and depth == 0:
                return i
            i += 1
        return end

    @njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]  # numba ships no types
    def locate(  # noqa: C901, PLR0912  # one pass over a grammar reads best in one piece
        data: Any,  # noqa: ANN401  # numba array
        offsets: Any,  # noqa: ANN401  # numba array
        key: Any,  # noqa: ANN401  # numba array
        start: Any,  # noqa: ANN401  # numba array
        length: Any,  # noqa: ANN401  # numba array
        kind: Any,  # noqa: ANN401  # numba array
    ) -> None:
        for row in range(len(start)):
            i, end = offsets[row], offsets[row + 1]
            while i < end and data[i] != 123:
                i += 1
            i += 1
            while i < end:
                c = data[i]
                if c != 34:  # white space and commas; a closing brace ends the object
                    if c == 125:
                        break
                    i += 1
                    continue
                name = i + 1
                i = string_end(data, i, end)
                same = i - 1 - name == len(key)
                if same:
                    for j in range(len(key)):
                        if data[name + j] != key[j]:
                            same = False
                            break
                while i < end and data[i] in (58, 32, 9, 10, 13):
                    i += 1
                if i >= end:
                    break
                stop = value_end(data, i, end)
                if not same:
                    i = stop
                    continue
                while stop > i and data[stop - 1] in (32, 9, 10, 13):
                    stop -= 1
                first = data[i]
                start[row], length[row] = i, stop - i
                if first == 34:
                    kind[row] = 1
                elif first == 45 or 48 <= first <= 57:
                    kind[row] = 2
                elif first == 116:
                    kind[row] = 3
                elif first == 102:
                    kind[row] = 4
                elif first != 110:  # null counts as absent
                    kind[row] = 5
                break

    return locate  # type: ignore[no-any-return]  # numba ships no types


def _slices(column: pl.Series, key: str) -> tuple[pl.Series, np.ndarray[Any, np.dtype[np.uint8]]]:
    """Return the raw JSON of each row's value (empty where absent) and its type."""
    import pyarrow as pa

    arrow = column.cast(pl.String).to_arrow(compat_level=pl.CompatLevel.oldest())
    n = len(arrow)
    raw, kind = np.zeros(n, np.int64), np.zeros(n, np.uint8)
    length = np.zeros(n, np.int64)
    if n:
        buffers = arrow.buffers()
        offsets = np.frombuffer(buffers[1], np.int64)[arrow.offset : arrow.offset + n + 1]
        data = np.frombuffer(buffers[2] or b"", np.uint8)
        # The key as it stands in the text, between its quotes.
        written = np.frombuffer(json.dumps(key, ensure_ascii=False)[1:-1].encode(), np.uint8)
        _kernel()(data, offsets, written, raw, length, kind)
    else:
        data = np.zeros(0, np.uint8)
    # Gather the slices behind one another: index = start of the slice + place within it.
    ends = np.cumsum(length)
    new_offsets = np.concatenate([np.zeros(1, np.int64), ends])
    index = np.repeat(raw - new_offsets[:-1], length) + np.arange(new_offsets[-1])
    values = pa.LargeStringArray.from_buffers(
        n, pa.py_buffer(new_offsets), pa.py_buffer(data[index])
    )
    return pl.Series("", values), kind


def _unescaped(raw: pl.Series) -> pl.Series:
    """Return JSON strings as the text they stand for."""
    text = raw.str.slice(1, raw.str.len_chars() - 2)
    if not bool(raw.str.contains("\\", literal=True).any()):
        return text
    # Few values hold escapes: each distinct one is read once.
    escaped = raw.filter(raw.str.contains("\\", literal=True)).unique()
    meaning = [json.loads(value, strict=False) for value in escaped.to_list()]
    known = pl.Series([m.encode("utf-8", "replace").decode() for m in meaning], dtype=pl.String)
    replaced = raw.replace_strict(escaped, known, default=None, return_dtype=pl.String)
    return pl.select(pl.coalesce(pl.lit(replaced), pl.lit(text))).to_series()


def lookup(column: pl.Series, key: str, wanted: Wanted) -> pl.Series:
    """Return the value of `key` in each row's JSON object.

    Args:
        column: text, one JSON object a row; null counts as empty.
        key: the attribute's key.
        wanted: `text`: strings, as text; `number`: as float64; `boolean`; `any`: strings
            as text and every other value as its JSON text.

    Returns:
        A series as long as `column`; null where the key is absent or of another type.
    """
    raw, kind = _slices(column, key)
    kinds = pl.Series("", kind)
    name = column.name
    if wanted == "number":
        numbers = raw.set(kinds != _NUMBER, None).cast(pl.Float64, strict=False)
        return numbers.alias(name)
    if wanted == "boolean":
        booleans = pl.select(
            pl.when(pl.lit(kinds) == _TRUE)
            .then(statement=True)
            .when(pl.lit(kinds) == _FALSE)
            .then(statement=False)
        )
        return booleans.to_series().alias(name)
    text = _unescaped(raw.set(kinds != _TEXT, None))
    if wanted == "any":
        other = raw.set((kinds == 0) | (kinds == _TEXT), None)
        text = pl.select(pl.coalesce(pl.lit(text), pl.lit(other))).to_series()
    return text.alias(name)
