"""Looking a key up in columns of JSON objects, against the standard library."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from pyflare_storage.json_lookup import lookup

KEYS = st.sampled_from(["k", "a.b", "k ", "", ":", ",", '"', "x\\", 'say "k"', "ключ", "k:1"])
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text(max_size=5), KEYS)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=8,
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=5)
SEPARATORS = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: ")])


def plain(value: Any) -> str | None:
    """Return a value as `any` gives it."""
    if value is None or isinstance(value, list | dict):
        return None
    return value if isinstance(value, str) else json.dumps(value)


@given(st.lists(OBJECTS, max_size=6), KEYS, SEPARATORS)
def test_values_are_those_of_the_outer_object(
    rows: list[dict[str, Any]], key: str, separators: tuple[str, str]
) -> None:
    """Keys within values, and text that looks like a key, are not taken for the key."""
    texts = [json.dumps(row, ensure_ascii=False, separators=separators) for row in rows]
    column = pl.Series(texts, dtype=pl.String)
    assert lookup(column, key, "any").to_list() == [plain(row.get(key)) for row in rows]
    present = [row.get(key) is not None for row in rows]
    assert lookup(column, key, "present").to_list() == present
