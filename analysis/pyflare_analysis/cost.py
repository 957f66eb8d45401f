"""What the calls of models cost, by any dimension.

A call is a span of type `llm`, `embedding` or `rerank` that no other span tells as
well; failed calls are calls. Sums are over what is known: a call whose cost is
unknown is counted in `unpriced_calls` and adds nothing to the cost.

Example:
    >>> summary = summarize(open_source("pyflare-data"), by=["model"], filters=Filters())
    >>> for row in summary.rows:
    ...     print(row.dimensions["model"], row.calls, row.cost_usd)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyflare_analysis.calls import CALL, SAMPLED, UNPRICED_CALL
from pyflare_analysis.plain import key_text
from pyflare_proto.errors import NotEnoughDataError, UsageError, nearest
from pyflare_storage.aggregates import Aggregate, Count, Day, Key, Sum, TimeBucket
from pyflare_storage.expressions import ATTRIBUTE_COLUMNS, Attribute, all_of
from pyflare_storage.prices.quote import usd_text

if TYPE_CHECKING:
    from pyflare_storage.filters import Filters
    from pyflare_storage.source import Source

__all__ = ["CostRow", "CostSummary", "dimension_key", "summarize"]

DimensionValue = str | int | float | bool | None

_ALIASES = {"user": "user_id", "service": "service_name", "session": "session_id"}
_TIMES = {"hour": "1h", "week": "1w", "month": "1mo"}
_SUMS = ("input_tokens", "output_tokens", "cache_read_tokens", "cost_nano_usd")
_GROUPABLE = frozenset({"string", "category", "int64", "bool"})


@dataclass(frozen=True, slots=True)
class CostRow:
    """Figures of one group of calls. Weighted figures are estimates, rounded to whole numbers."""

    dimensions: Mapping[str, DimensionValue]
    """Value of each dimension; null is a group of its own. Empty in a total."""
    calls: int
    """Calls, failed ones too."""
    unpriced_calls: int
    """Calls whose cost is unknown."""
    input_tokens: int
    """Input tokens, cache reads and writes included."""
    output_tokens: int
    """Output tokens, reasoning included."""
    cache_read_tokens: int
    """Part of the input tokens that was read from a cache."""
    cost_nano_usd: int | None
    """Known cost, 1e-9 US dollars; null where there are calls and the cost of none is known."""

    @property
    def cost_usd(self) -> str | None:
        """The cost in US dollars as exact decimal text; null like `cost_nano_usd`."""
        return None if self.cost_nano_usd is None else usd_text(self.cost_nano_usd)

    def to_dict(self) -> dict[str, object]:
        """Return the row as it stands in JSON."""
        return {
            **self.dimensions,
            "calls": self.calls,
            "unpriced_calls": self.unpriced_calls,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cache_read_tokens": self.cache_read_tokens,
            "cost_nano_usd": self.cost_nano_usd,
            "cost_usd": self.cost_usd,
        }


@dataclass(frozen=True, slots=True)
class CostSummary:
    """The answer of `summarize`."""

    by: tuple[str, ...]
    """Dimensions, as they were asked for."""
    weighted: bool
    """Whether sampled spans count 1/sampling_probability each."""
    sampled: bool
    """Whether any of the calls was sampled, so that weighting makes a difference."""
    rows: tuple[CostRow, ...]
    """Groups: in order of time where a dimension is a time, else the dearest first."""
    total: CostRow
    """All groups together."""

    def to_dict(self) -> dict[str, object]:
        """Return the answer as it stands in JSON."""
        return {
            "by": list(self.by),
            "weighted": self.weighted,
            "sampled": self.sampled,
            "rows": [row.to_dict() for row in self.rows],
            "total": self.total.to_dict(),
        }


def summarize(
    source: Source,
    *,
    by: Sequence[str] = ("model",),
    filters: Filters | None = None,
    weighted: bool = True,
    limit: int | None = None,
    timezone: str = "UTC",
) -> CostSummary:
    """Sum calls, tokens and cost over groups of calls.

    Args:
        source: where the spans are.
        by: dimensions: any column of text, `user`, `service`, `hour`, `day`, `week`, `month`,
            or an attribute as `attributes.KEY`.
        filters: which spans count; all when None.
        weighted: count sampled spans 1/sampling_probability times.
        limit: return so many rows at most; the total is over all of them.
        timezone: IANA name, for days, weeks and months.

    Raises:
        UsageError: an unknown dimension.
        NotEnoughDataError: the source holds no span at all.
    """
    columns = source.columns()
    keys = [dimension_key(name, columns, timezone) for name in by]
    condition = all_of([CALL, filters.to_expr() if filters is not None else None])
    frame = source.aggregate(_aggregates(weighted=weighted), by=keys, where=condition)
    groups = [
        _Group(
            {name: key_text(value) for name, value in zip(by, row[: len(keys)], strict=True)},
            dict(zip(frame.columns[len(keys) :], row[len(keys) :], strict=True)),
        )
        for row in frame.iter_rows()
    ]
    groups = [group for group in groups if group.figures["calls"]]
    if not groups and not source.count():
        raise NotEnoughDataError(
            f"no spans in {source.url}",
            hint="pyflare import FILE... or pyflare collect brings some in",
        )
    rows = _ordered([group.row(weighted=weighted) for group in groups], by)
    return CostSummary(
        by=tuple(by),
        weighted=weighted,
        sampled=any(group.figures["sampled"] for group in groups),
        rows=tuple(rows if limit is None else rows[:limit]),
        total=_Group({}, _total(groups)).row(weighted=weighted),
    )


def dimension_key(name: str, columns: Mapping[str, str], timezone: str = "UTC") -> Key:
    """Return the grouping key of a dimension.

    Args:
        name: a column, an alias, a unit of time, or `attributes.KEY`.
        columns: logical type of each column of the source.
        timezone: IANA name, for days, weeks and months.

    Raises:
        UsageError: there is no such dimension; the hint has the nearest.
    """
    if name == "day":
        return Day(tz=timezone)
    if name in _TIMES:
        return TimeBucket(every=_TIMES[name], tz=timezone, name=name)
    container, separator, key = name.partition(".")
    if separator and container in ATTRIBUTE_COLUMNS and key:
        return Attribute(key, container)
    column = _ALIASES.get(name, name)
    if columns.get(column) in _GROUPABLE:
        return column
    known = [key for key, type_ in columns.items() if type_ in _GROUPABLE]
    guess = nearest(name, [*known, *_ALIASES, *_TIMES, "day"])
    raise UsageError(
        f"no dimension {name!r}",
        hint=f"did you mean {guess}?"
        if guess
        else "dimensions: model, user_id, feature, team, environment, service_name, day, "
        "attributes.KEY, ...",
    )


@dataclass(frozen=True, slots=True)
class _Group:
    """One group as the source returned it."""

    dimensions: Mapping[str, DimensionValue]
    figures: Mapping[str, float | int | None]

    def row(self, *, weighted: bool) -> CostRow:
        """Return the row; estimates of groups without sampled calls are the exact integers."""
        prefix = "weighted_" if weighted and self.figures["sampled"] else ""

        def whole(name: str) -> int:
            return round(self.figures[f"{prefix}{name}"] or 0)

        calls = whole("calls")
        known = self.figures["cost_nano_usd"] is not None
        return CostRow(
            dimensions=self.dimensions,
            calls=calls,
            unpriced_calls=whole("unpriced_calls"),
            input_tokens=whole("input_tokens"),
            output_tokens=whole("output_tokens"),
            cache_read_tokens=whole("cache_read_tokens"),
            cost_nano_usd=whole("cost_nano_usd") if known or not calls else None,
        )


def _aggregates(*, weighted: bool) -> dict[str, Aggregate]:
    """Return the figures of a group; integers stay exact where nothing was sampled."""
    figures: dict[str, Aggregate] = {"sampled": Count(where=SAMPLED)}
    for flag, prefix in ((False, ""), (True, "weighted_")):
        if flag and not weighted:
            continue
        figures[f"{prefix}calls"] = Count(weighted=flag)
        figures[f"{prefix}unpriced_calls"] = Count(weighted=flag, where=UNPRICED_CALL)
        for name in _SUMS:
            figures[f"{prefix}{name}"] = Sum(name, weighted=flag)
    return figures


def _total(groups: Iterable[_Group]) -> dict[str, float | int | None]:
    """Add groups up, unrounded; in a mixed total the exact groups join the weighted sums."""
    total: dict[str, float | int | None] = {"sampled": 0}
    for prefix in ("", "weighted_"):
        total |= {f"{prefix}calls": 0, f"{prefix}unpriced_calls": 0}
        total |= dict.fromkeys(f"{prefix}{name}" for name in _SUMS)
    for group in groups:
        for name, value in group.figures.items():
            if value is not None:
                total[name] = (total.get(name) or 0) + value
    return total


def _ordered(rows: list[CostRow], by: Sequence[str]) -> list[CostRow]:
    """Sort rows: by time where a dimension is a time, then by cost, calls and dimensions."""
    times = [name for name in by if name == "day" or name in _TIMES]

    def position(row: CostRow) -> tuple[object, ...]:
        return (
            tuple(str(row.dimensions[name]) for name in times),
            -(row.cost_nano_usd or 0),
            -row.calls,
            tuple((value is None, str(value)) for value in row.dimensions.values()),
        )

    return sorted(rows, key=position)
