"""The frame of a search for patterns: intervals, dimensions, and what is too little."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from pyflare_analysis.calls import CALL
from pyflare_analysis.rca.dimensions import custom_attributes, model_names, resolve_dimension
from pyflare_analysis.rca.patterns.cells import Grid, SliceKey
from pyflare_analysis.rca.patterns.pattern import PatternDetectorConfig
from pyflare_proto.errors import NotEnoughDataError, UsageError
from pyflare_storage.aggregates import Count, Max, Min, TimeBucket
from pyflare_storage.expressions import Attribute, Column, Expr, all_of
from pyflare_storage.times import parse_duration_ns

if TYPE_CHECKING:
    from pyflare_storage.filters import Filters
    from pyflare_storage.source import Source

__all__ = ["DIMENSIONS", "MIN_INTERVALS", "make_grid", "slice_keys", "with_history"]

DIMENSIONS = (
    *("model", "feature", "prompt_version", "prompt_template", "provider", "environment"),
    *("service_name", "service_version", "team", "agent_name"),
)
"""In order of preference: of slices of the same calls the first is shown."""
MIN_INTERVALS = 8
_LADDER = ("1m", "5m", "10m", "15m", "30m", "1h", "2h", "3h", "6h", "12h", "1d", "1w")
_HOUR_NS = 3_600_000_000_000
_MOST_INTERVALS = 300
_MOST_HOURS = 750
_MOST_FINE = 2000
_MOST_ATTRIBUTES = 3
"""Attributes of the application's own that are dimensions without being asked for."""


def with_history(filters: Filters | None, history: str) -> tuple[Filters | None, int | None]:
    """Return the filters with the baseline's time before `--since`, and `--since` itself."""
    if filters is None or filters.since_ns is None:
        return filters, None
    since = filters.since_ns
    return replace(filters, since_ns=since - parse_duration_ns(history)), since


def make_grid(
    source: Source, where: Expr | None, config: PatternDetectorConfig
) -> tuple[Grid, int]:
    """Return the intervals of the calls, and the number of calls.

    Raises:
        NotEnoughDataError: too few calls, or within too short a time.
        UsageError: an interval that cannot be.
    """
    found = source.aggregate(
        {"n": Count(), "first": Min("start_time"), "last": Max("start_time")},
        where=all_of([CALL, where]),
    )
    n = int(found["n"][0])
    needed = (
        f"a pattern needs {2 * config.min_calls} calls in {MIN_INTERVALS} intervals of time: "
        f"{config.min_calls} before it to compare with and {config.min_calls} within; "
        "widen --since or the filters, or collect longer"
    )
    if n < 2 * config.min_calls:
        raise NotEnoughDataError(
            f"{n} call{'' if n == 1 else 's'} in {source.url}: not enough to tell a pattern",
            hint=needed,
        )
    first, last = (
        int(found[c].dt.cast_time_unit("ns").to_physical()[0]) for c in ("first", "last")
    )
    every = config.every or _interval(last - first, n)
    length, offset = TimeBucket(every=every).fixed_ns()
    start = (first - offset) // length * length + offset
    count = (last - start) // length + 1
    if count > _MOST_FINE:
        raise UsageError(
            f"--every {every} makes {count} intervals",
            hint=f"at most {_MOST_FINE}: give a longer interval or a later --since",
        )
    if count < MIN_INTERVALS:
        raise NotEnoughDataError(
            f"{n} calls within {count} interval{'' if count == 1 else 's'} of {every}: "
            "not enough to tell a pattern",
            hint=needed if config.every is None else f"a shorter --every; {needed}",
        )
    return Grid(start, every, length, count), n


def _interval(length_ns: int, calls: int) -> str:
    """Return the shortest interval that makes few enough of them, with calls enough in each.

    Hours are kept up to a month: hours of the day are compared with each other.
    """
    most = min(_MOST_INTERVALS, max(2 * MIN_INTERVALS, calls // 5))
    for every in _LADDER:
        step = parse_duration_ns(every)
        if length_ns / step <= most:
            return every
        if step == _HOUR_NS and length_ns / step <= min(_MOST_HOURS, calls // 5):
            return every
    return _LADDER[-1]


def slice_keys(
    source: Source,
    columns: Mapping[str, str],
    where: Expr | None,
    config: PatternDetectorConfig,
) -> list[tuple[SliceKey, list[str]]]:
    """Return the dimensions that divide the calls, with their most frequent values.

    A dimension with one value only says nothing and is left out.

    Raises:
        UsageError: an unknown dimension, or one that cannot be grouped by.
    """
    names = config.dimensions
    if names is None:
        names = tuple(name for name in DIMENSIONS if name in columns)
        names += tuple(custom_attributes(source, where)[:_MOST_ATTRIBUTES])
    result = []
    for name in names:
        key = _key(source, name, columns, where)
        frame = source.aggregate(
            {"n": Count()},
            by=key.keys,
            where=all_of([CALL, where]),
            order_by="n",
            descending=True,
            limit=4 * config.max_values,
        )
        totals: dict[str | None, int] = {}
        for value, n in zip(key.values(frame), frame["n"].to_list(), strict=True):
            totals[value] = totals.get(value, 0) + n
        if len(totals) < 2:
            continue
        named = sorted((-n, v) for v, n in totals.items() if v is not None)
        result.append((key, [value for _, value in named[: config.max_values]]))
    return result


def _key(source: Source, name: str, columns: Mapping[str, str], where: Expr | None) -> SliceKey:
    dimension = resolve_dimension(name, columns)
    if dimension.kind != "category" or not isinstance(dimension.operand, Column | Attribute):
        raise UsageError(
            f"patterns are not looked for by {name!r}",
            hint=f"dimensions: {', '.join(DIMENSIONS)}, a column of text, attributes.KEY",
        )
    if dimension.operand == Column("model"):
        return SliceKey(
            name, ("model", "model_request"), model_names(source, all_of([CALL, where]))
        )
    operand = dimension.operand
    return SliceKey(name, (operand.name if isinstance(operand, Column) else operand,), {})
