"""The time of rows: which column tells it, what it spans, and windows that suit it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from pyflare_proto.errors import SchemaError, nearest
from pyflare_storage.aggregates import Max, Min

if TYPE_CHECKING:
    from pyflare_storage.expressions import Expr
    from pyflare_storage.source import Source

__all__ = ["fitting_length", "time_column", "time_span"]


def time_column(types: Mapping[str, str], asked: str | None = None) -> str:
    """Return the column that tells the time of a row.

    Args:
        types: logical type of each column.
        asked: the column's name; by default `start_time`, or the only column of times.

    Raises:
        SchemaError: it is not there, holds no times, or it is not clear which one it is.
    """
    times = [name for name, type_ in types.items() if type_ == "timestamp_ns"]
    if asked is not None:
        if asked in times:
            return asked
        if asked not in types:
            guess = nearest(asked, times or types)
            raise SchemaError(
                f"unknown column {asked!r} for --time",
                hint=f"did you mean {guess}?" if guess else f"columns of times: {times or 'none'}",
            )
        raise SchemaError(
            f"column {asked!r} is of type {types[asked]} and holds no times",
            hint=f"columns of times: {', '.join(times) or 'none'}",
        )
    if "start_time" in times:
        return "start_time"
    if len(times) == 1:
        return times[0]
    found = ", ".join(times)
    raise SchemaError(
        f"which column tells the time: {found}?" if times else "no column holds times",
        hint="--time COLUMN" if times else "pyflare drift psi compares two tables without times",
    )


def fitting_length(source: Source, column: str, where: Expr | None = None) -> str:
    """Return a length of windows that suits the data: an hour, a day or a week.

    Args:
        source: the rows.
        column: their time.
        where: those that count.
    """
    first, last = time_span(source, column, where)
    if first is None or last is None:
        return "1d"
    days = (last - first).total_seconds() / 86_400
    return "1h" if days <= 2 else "1d" if days <= 180 else "1w"


def time_span(
    source: Source, column: str, where: Expr | None = None
) -> tuple[datetime | None, datetime | None]:
    """Return the first and the last time of the rows, None where there are none.

    Args:
        source: the rows.
        column: their time.
        where: those that count.
    """
    ends = source.aggregate({"first": Min(column), "last": Max(column)}, where=where)
    return ends["first"][0], ends["last"][0]
