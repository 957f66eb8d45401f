"""Traces: a list with their figures, one trace as a tree of spans.

Example:
    >>> for trace in list_traces(open_source("pyflare-data"), limit=10):
    ...     print(trace.trace_id, trace.root_name, trace.duration_ms)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, get_args

from pyflare_analysis.calls import CALL, FAILED
from pyflare_analysis.plain import format_time, plain_rows, span_records
from pyflare_analysis.trace_tree import TreeNode, tree_order
from pyflare_proto.errors import NotFoundError, UsageError, nearest
from pyflare_storage.aggregates import Aggregate, Count, First, Max, Min, Sum
from pyflare_storage.expressions import Expr, col

if TYPE_CHECKING:
    from pyflare_storage.filters import Filters
    from pyflare_storage.source import Source

__all__ = ["Trace", "TraceOrder", "TraceSummary", "list_traces", "show_trace"]

TraceOrder = Literal["start", "duration", "cost", "tokens", "errors", "spans"]
"""What traces can be sorted by; the largest or latest first."""

_TRACE_ID = re.compile(r"[0-9a-f]{1,32}")
_FULL_ID_LENGTH = 32
_MATCHES_SHOWN = 5
_LONGEST_LIST = 1000
"""Ids that are handed to the source as a condition; more are picked from all traces."""


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """Figures of one trace, over all of its spans."""

    trace_id: str
    start_time: str
    """Start of the earliest span, ISO 8601, UTC, nanoseconds."""
    duration_ms: float
    """From the earliest start to the latest end, milliseconds."""
    service_name: str | None
    """Service of the root span, else of the earliest span."""
    root_name: str | None
    """Name of the root span, else of the earliest span."""
    span_count: int
    calls: int
    """Calls of models, each once, failed ones too."""
    error_count: int
    """Spans that ended in an error."""
    input_tokens: int
    """Over the calls."""
    output_tokens: int
    """Over the calls."""
    cost_nano_usd: int | None
    """Known cost of the calls; null where there are calls and the cost of none is known."""

    def to_dict(self) -> dict[str, object]:
        """Return the trace as it stands in JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Trace:
    """One trace with all its spans."""

    trace_id: str
    spans: tuple[Mapping[str, object], ...]
    """Span records (see `pyflare_proto.record`), parents before children."""
    nodes: tuple[TreeNode, ...]
    """Place in the tree of each span, in the same order."""

    def to_dict(self) -> dict[str, object]:
        """Return the trace as it stands in JSON."""
        return {"trace_id": self.trace_id, "spans": list(self.spans)}


def list_traces(
    source: Source,
    *,
    filters: Filters | None = None,
    limit: int | None = 50,
    order: TraceOrder = "start",
) -> list[TraceSummary]:
    """List traces that have a span which passes the filters.

    The figures of a trace are over all of its spans. With filters, which traces are
    the first `limit` is decided by the spans that pass.

    Args:
        source: where the spans are.
        filters: which spans to look for; all when None.
        limit: traces at most; None for all.
        order: what to sort by, largest or latest first; ties by trace id.

    Raises:
        UsageError: an unknown order, or a limit below 1.
    """
    if order not in get_args(TraceOrder):
        guess = nearest(order, get_args(TraceOrder))
        raise UsageError(
            f"cannot sort traces by {order!r}",
            hint=f"did you mean {guess}?" if guess else f"one of {', '.join(get_args(TraceOrder))}",
        )
    if limit is not None and limit < 1:
        raise UsageError(f"limit is {limit}", hint="--limit takes a number from 1")
    condition = filters.to_expr() if filters is not None else None
    ids = None
    if limit is not None or condition is not None:
        ids = _first_ids(source, condition, limit, order)
    summaries = _summaries(source, ids)
    summaries.sort(key=lambda summary: summary.trace_id)
    summaries.sort(key=lambda summary: _rank(summary, order), reverse=True)
    return summaries


def show_trace(source: Source, trace_id: str) -> Trace:
    """Return one trace with every span and every attribute.

    Args:
        source: where the spans are.
        trace_id: 32 hexadecimal digits, or the first digits of one trace's id.

    Raises:
        UsageError: no trace id, or several traces begin with it.
        NotFoundError: no such trace.
    """
    import polars as pl

    wanted = trace_id.strip().lower()
    if not _TRACE_ID.fullmatch(wanted):
        raise UsageError(
            f"{trace_id!r} is no trace id: 1 to 32 hexadecimal digits",
            hint="pyflare traces list shows the ids",
        )
    condition = _id_condition(wanted)
    if len(wanted) < _FULL_ID_LENGTH:
        found = source.aggregate({"spans": Count()}, by=["trace_id"], where=condition, limit=50)
        ids = sorted(found["trace_id"].to_list())
        if len(ids) > 1:
            shown = ids[:_MATCHES_SHOWN] + ["..."] * (len(ids) > _MATCHES_SHOWN)
            raise UsageError(
                f"several traces begin with {wanted}: {', '.join(shown)}",
                hint="give more digits",
            )
        condition = _id_condition(ids[0]) if ids else condition
    frames = list(source.scan(list(source.columns()), where=condition))
    frames = [frame for frame in frames if frame.height]
    if not frames:
        raise NotFoundError(
            f"no trace {wanted} in {source.url}", hint="pyflare traces list shows the ids"
        )
    frame = pl.concat(frames)
    starts = frame["start_time"].dt.cast_time_unit("ns").to_physical().to_list()
    nodes = tree_order(frame["span_id"].to_list(), frame["parent_span_id"].to_list(), starts)
    records = list(span_records(frame))
    return Trace(
        trace_id=str(records[0]["trace_id"]),
        spans=tuple(records[node.index] for node in nodes),
        nodes=tuple(nodes),
    )


def _id_condition(wanted: str) -> Expr:
    column = col("trace_id")
    return column.eq(wanted) if len(wanted) == _FULL_ID_LENGTH else column.startswith(wanted)


_FIGURES: dict[str, Aggregate] = {
    "start_time": Min("start_time"),
    "end_time": Max("end_time"),
    "root_service": First("service_name", "start_time", where=col("parent_span_id").is_null()),
    "any_service": First("service_name", "start_time"),
    "root_name": First("name", "start_time", where=col("parent_span_id").is_null()),
    "any_name": First("name", "start_time"),
    "span_count": Count(),
    "calls": Count(where=CALL),
    "error_count": Count(where=FAILED),
    "input_tokens": Sum("input_tokens", where=CALL),
    "output_tokens": Sum("output_tokens", where=CALL),
    "cost_nano_usd": Sum("cost_nano_usd", where=CALL),
}

_SORTABLE: dict[TraceOrder, str] = {
    "start": "start_time",
    "cost": "cost_nano_usd",
    "errors": "error_count",
    "spans": "span_count",
}
"""Orders that are one figure, so that the source itself can sort and cut."""

_COMPUTED: dict[TraceOrder, tuple[str, str]] = {
    "duration": ("start_time", "end_time"),
    "tokens": ("input_tokens", "output_tokens"),
}
"""Orders that are made of two figures."""


def _first_ids(
    source: Source, where: Expr | None, limit: int | None, order: TraceOrder
) -> list[str]:
    """Return the ids of the first traces that pass, from the few figures that decide it."""
    names = ("start_time", *_COMPUTED.get(order, (_SORTABLE.get(order, "start_time"),)))
    figures = {name: _FIGURES[name] for name in dict.fromkeys(names)}
    sortable = _SORTABLE.get(order)
    frame = source.aggregate(
        figures,
        by=["trace_id"],
        where=where,
        order_by=None if sortable is None else list(dict.fromkeys((sortable, "start_time"))),
        descending=sortable is not None,
        limit=None if sortable is None else limit,
    )
    if sortable is None:
        import polars as pl

        low, high = (pl.col(name) for name in _COMPUTED[order])
        rank = high - low if order == "duration" else low.fill_null(0) + high.fill_null(0)
        frame = frame.sort(
            rank, "start_time", "trace_id", descending=[True, True, False], nulls_last=True
        )
    return frame["trace_id"].head(frame.height if limit is None else limit).to_list()


def _summaries(source: Source, ids: list[str] | None) -> list[TraceSummary]:
    """Return the figures of traces, over all their spans; of every trace when `ids` is None."""
    if ids is not None and not ids:
        return []
    few = ids is not None and len(ids) <= _LONGEST_LIST
    where = col("trace_id").is_in(ids) if ids is not None and few else None
    frame = source.aggregate(_FIGURES, by=["trace_id"], where=where)
    if ids is not None and not few:
        import polars as pl

        frame = frame.filter(pl.col("trace_id").is_in(pl.Series(ids).implode()))
    return [_summary(row) for row in plain_rows(frame)]


def _summary(row: Mapping[str, object]) -> TraceSummary:
    def whole(name: str) -> int:
        value = row[name]
        return value if isinstance(value, int) else 0

    def text(*names: str) -> str | None:
        return next((str(row[name]) for name in names if row[name] is not None), None)

    calls = whole("calls")
    known = row["cost_nano_usd"] is not None
    return TraceSummary(
        trace_id=str(row["trace_id"]),
        start_time=format_time(whole("start_time")),
        duration_ms=max(whole("end_time") - whole("start_time"), 0) / 1e6,
        service_name=text("root_service", "any_service"),
        root_name=text("root_name", "any_name"),
        span_count=whole("span_count"),
        calls=calls,
        error_count=whole("error_count"),
        input_tokens=whole("input_tokens"),
        output_tokens=whole("output_tokens"),
        cost_nano_usd=whole("cost_nano_usd") if known or not calls else None,
    )


def _rank(summary: TraceSummary, order: TraceOrder) -> tuple[float, str]:
    ranks: dict[TraceOrder, float] = {
        "start": 0.0,
        "duration": summary.duration_ms,
        "cost": summary.cost_nano_usd if summary.cost_nano_usd is not None else -1,
        "tokens": summary.input_tokens + summary.output_tokens,
        "errors": summary.error_count,
        "spans": summary.span_count,
    }
    return (ranks[order], summary.start_time)
