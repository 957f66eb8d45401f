"""Look one key up in columns of JSON objects, without an object per row.

A compiled kernel finds the value of each row; what follows works on whole columns, and
on distinct values where text must be unescaped. Reads the JSON that the collector
writes (see `pyflare_proto.otlp.anyvalue`) and any other valid JSON object.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

__all__ = ["Wanted", "lookup", "lookups", "number_text"]

Wanted = Literal["text", "number", "boolean", "any", "present"]
"""What a lookup returns: values of one JSON type, any plain value as text, or whether there
is one."""

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.\-/]+")


def lookup(column: pl.Series, key: str, wanted: Wanted) -> pl.Series:
    """Return the value of `key` in each row's JSON object.

    Args:
        column: text, one JSON object a row; null counts as empty.
        key: the attribute's key.
        wanted: `text`: strings, as text. `number`: as float64. `boolean`. `any`: strings as
            they are, integers in digits, `true`, `false`, fractions as `number_text`;
            lists and objects are null. `present`: true where there is any value.

    Returns:
        A series as long as `column`; null where the key is absent or of another type.
    """
    return lookups(column, key, [wanted])[0]


def lookups(column: pl.Series, key: str, wanted: Sequence[Wanted]) -> list[pl.Series]:
    """Return several `lookup` of one key, for little more than one."""
    raw, kinds = _values(column, key)
    return [_as_wanted(raw, kinds, item).alias(column.name) for item in wanted]


def _as_wanted(raw: pl.Series, kinds: pl.Series, wanted: Wanted) -> pl.Series:
    from pyflare_storage import json_kernels as k

    if wanted == "present":
        return kinds != k.ABSENT
    if wanted == "number":
        return raw.set(kinds != k.NUMBER, None).cast(pl.Float64, strict=False)
    if wanted == "boolean":
        return (kinds == k.TRUE).set((kinds != k.TRUE) & (kinds != k.FALSE), None)
    text = _unescaped(raw.set(kinds != k.TEXT, None))
    other = (kinds == k.ABSENT) | (kinds == k.TEXT) | (kinds == k.OTHER)
    if wanted == "text" or other.all():
        return text
    plain = _numbers_as_text(raw.set(other, None))
    return pl.select(pl.coalesce(pl.lit(text), pl.lit(plain))).to_series()


def _values(column: pl.Series, key: str) -> tuple[pl.Series, pl.Series]:
    """Return the raw JSON of each row's value (empty where absent) and its type."""
    import pyarrow as pa

    from pyflare_storage.json_kernels import copy_slices, locate

    n = len(column)
    bounds, kinds = np.zeros((n, 2), np.int64), np.zeros(n, np.uint8)
    data = np.zeros(1, np.uint8)
    if n:
        column = column.cast(pl.String)
        arrow = column.to_arrow(compat_level=pl.CompatLevel.oldest())
        _, offset_buffer, text_buffer = arrow.buffers()
        offsets = np.frombuffer(memoryview(offset_buffer), np.int64)
        if text_buffer is not None and text_buffer.size:
            data = np.frombuffer(memoryview(text_buffer), np.uint8)
        # The key as it stands in the text, between its quotes.
        written = json.dumps(key, ensure_ascii=False)[1:-1]
        place = offsets[arrow.offset : arrow.offset + n + 1]
        hints = _hints(column, written)
        locate(data, place, np.frombuffer(written.encode(), np.uint8), hints, bounds, kinds)
    offsets = np.zeros(n + 1, np.int64)
    np.cumsum(bounds[:, 1], out=offsets[1:])
    # The slices behind one another.
    joined = np.empty(int(offsets[-1]), np.uint8)
    copy_slices(data, bounds, joined)
    text = pa.LargeStringArray.from_buffers(n, pa.py_buffer(offsets), pa.py_buffer(joined))
    return pl.Series("", text), pl.Series("", kinds)


def _hints(column: pl.Series, written: str) -> NDArray[np.int64]:
    """Return (n,) where the quoted key first stands in each row's text, -1 where nowhere.

    -2 where the place tells nothing: a key with other than plain characters may begin within
    what is no key.
    """
    if _PLAIN_KEY.fullmatch(written) is None:
        return np.full(len(column), -2, np.int64)
    found = column.str.find(f'"{written}"', literal=True)
    return found.cast(pl.Int64).fill_null(-1).to_numpy()


def _unescaped(raw: pl.Series) -> pl.Series:
    """Return JSON strings as the text they stand for."""
    text = raw.str.strip_prefix('"').str.strip_suffix('"')
    escapes = text.str.contains("\\", literal=True)
    if not escapes.any():
        return text
    written = raw.filter(escapes.fill_null(value=False)).unique()
    meant = [_text(value) for value in written.to_list()]
    known = raw.replace_strict(written, meant, default=None, return_dtype=pl.String)
    return pl.select(pl.coalesce(pl.lit(known), pl.lit(text))).to_series()


def _text(written: str) -> str:
    """Return one JSON string's text; half of a surrogate pair becomes `?`."""
    return str(json.loads(written, strict=False)).encode("utf-8", "replace").decode()


def _numbers_as_text(raw: pl.Series) -> pl.Series:
    """Return integers and words as they stand, and fractions in their one form."""
    fraction = raw.str.contains(r"^-?\d.*[.eE]")
    if not fraction.any():
        return raw
    written = raw.filter(fraction.fill_null(value=False)).unique()
    texts = [number_text(float(value)) for value in written.to_list()]
    return raw.replace(written, pl.Series(texts, dtype=pl.String))


def number_text(value: float) -> str:
    """Return the shortest decimal text that reads back as the finite `value`.

    Plain digits from 1e-6 up to below 1e21, else `d.ddde<exponent>`: `1`, `0.1`, `1e22`.
    ECMA-262's Number::toString but for the sign of the exponent; the form of ClickHouse.
    """
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    text = "".join(map(str, digits))
    minus = "-" if sign else ""
    point = len(text) + int(exponent)
    if text == "0":
        return f"{minus}0"
    if not -6 < point <= 21:
        fraction = f".{text[1:]}" if len(text) > 1 else ""
        return f"{minus}{text[0]}{fraction}e{point - 1}"
    if point <= 0:
        return f"{minus}0.{'0' * -point}{text}"
    return minus + (
        text.ljust(point, "0") if point >= len(text) else f"{text[:point]}.{text[point:]}"
    )
