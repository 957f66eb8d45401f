"""Columns as plain Python data: times with nanoseconds, typed attributes, shortest floats."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from pyflare_proto.record import COLUMNS
from pyflare_storage.times import format_time

if TYPE_CHECKING:
    import polars as pl

__all__ = ["PlainValue", "format_time", "key_text", "plain_rows", "span_records"]

PlainValue = None | bool | int | float | str | list["PlainValue"] | dict[str, "PlainValue"]
"""What JSON can hold."""

_JSON_COLUMNS = frozenset(column.name for column in COLUMNS if column.type == "json")
_FLOAT32_COLUMNS = frozenset(column.name for column in COLUMNS if column.type == "list<float32>")
_RECORD_COLUMNS = tuple(column.name for column in COLUMNS)


def key_text(value: object) -> str | int | float | bool | None:
    """Return the value of a grouping key: dates and times as ISO 8601, the rest as it is."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)


def plain_rows(frame: pl.DataFrame) -> Iterator[dict[str, object]]:
    """Yield the rows of a small answer; times become integers, nanoseconds since 1970."""
    import polars as pl

    times = [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.Datetime)]
    frame = frame.with_columns(
        pl.col(name).dt.cast_time_unit("ns").to_physical().alias(name) for name in times
    )
    yield from frame.iter_rows(named=True)


def span_records(frame: pl.DataFrame) -> Iterator[dict[str, object]]:
    """Yield spans as JSON-ready records: every column of the record, in its order.

    Times are ISO 8601 with nanoseconds; attributes, events and links are objects and
    lists with their types; an embedding has the shortest text of each float32.
    Columns beyond the record, as foreign files may have, follow at the end.
    """
    names = [*_RECORD_COLUMNS, *(name for name in frame.columns if name not in _RECORD_COLUMNS)]
    for row in plain_rows(frame):
        yield {name: _plain_field(name, row.get(name)) for name in names}


def _plain_field(name: str, value: object) -> object:
    result = value
    if name in ("start_time", "end_time") and isinstance(value, int):
        result = format_time(value)
    elif name in _JSON_COLUMNS and isinstance(value, str):
        result = json.loads(value)
    elif name in _FLOAT32_COLUMNS and isinstance(value, list):
        import numpy as np

        result = [None if item is None else float(str(np.float32(item))) for item in value]
    elif isinstance(value, float) and not math.isfinite(value):
        result = None
    elif isinstance(value, date | bytes):
        result = str(value)
    return result
