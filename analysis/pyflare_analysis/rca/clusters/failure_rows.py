"""Failures as batches of one shape, wherever they come from: spans, a table, a list.

Each batch is a frame of the columns of `SCHEMA`. The batches can be asked for again, and
only one is held at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import polars as pl

from pyflare_analysis.calls import FAILED
from pyflare_analysis.rca.clusters.stacktraces import frame_lines, span_stack_traces
from pyflare_analysis.rca.dimensions import span_condition
from pyflare_proto.errors import NotEnoughDataError, SchemaError, nearest
from pyflare_storage.aggregates import Aggregate, Count, Max, Min
from pyflare_storage.expressions import Timestamp, all_of, col

if TYPE_CHECKING:
    from pyflare_storage.filters import Filters
    from pyflare_storage.source import Source

__all__ = [
    "SCHEMA",
    "Exposure",
    "FailureRecord",
    "FailureRows",
    "RecordRows",
    "SpanRows",
    "TableRows",
]

SCHEMA = {
    "id": pl.String(),
    "trace_id": pl.String(),
    "time_ns": pl.Int64(),
    "weight": pl.Float64(),
    "error_type": pl.String(),
    "text": pl.String(),
    "frames": pl.String(),
}
"""Columns of a batch; `frames` holds the lines of frames of the stack trace."""

Window = tuple[int, int]
"""First nanosecond since 1970 that counts, and the first that counts no more."""

_MANY_SPANS = 300
"""Spans without a failure that bound the failure rate at 1 % (rule of three: 3/n at 95 %)."""


@dataclass(frozen=True, slots=True)
class FailureRecord:
    """One failure."""

    id: str
    """What it is called in `member_ids`."""
    error_message: str
    """What it says."""
    error_type: str = ""
    """Type of the exception, where known."""
    trace_id: str | None = None
    """Trace that it happened in."""
    time_ns: int | None = None
    """When, nanoseconds since 1970."""
    stack_trace: str | None = None
    """Stack trace as its language prints it."""
    weight: float = 1.0
    """Failures that it stands for; 1/sampling_probability of a sampled span."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """How much there was to fail, before a time and from it on."""

    split_ns: int
    """Where the recent part begins, nanoseconds since 1970."""
    end_ns: int
    """Where it ends: the first nanosecond that counts no more."""
    before: float
    """Spans before, or nanoseconds where only the failures themselves are known."""
    recent: float
    """The same of the recent part."""
    unit: str
    """`spans` or `time`."""


class FailureRows(Protocol):
    """Failures that can be read more than once."""

    @property
    def spans(self) -> float | None:
        """Spans that failed or not, weighted; None where only failures are known."""

    def batches(self) -> Iterator[pl.DataFrame]:
        """Yield the failures in batches of the columns of `SCHEMA`."""

    def exposure(self, recent: float | Window) -> Exposure | None:
        """Return what to compare a recent part with; None without times.

        Args:
            recent: the recent part: a share of the whole time in (0, 1), a length in
                nanoseconds, or a window.
        """


class RecordRows:
    """Failures that are in memory."""

    def __init__(self, records: Sequence[FailureRecord]) -> None:
        frame = pl.DataFrame(
            {
                "id": [r.id for r in records],
                "trace_id": [r.trace_id for r in records],
                "time_ns": [r.time_ns for r in records],
                "weight": [r.weight for r in records],
                "error_type": [r.error_type for r in records],
                "text": [r.error_message for r in records],
                "stack": [r.stack_trace for r in records],
            },
            schema={**{k: v for k, v in SCHEMA.items() if k != "frames"}, "stack": pl.String()},
        )
        self._frame = frame.with_columns(
            pl.col("stack").map_batches(frame_lines, return_dtype=pl.String).alias("frames")
        ).select(*SCHEMA)

    @property
    def spans(self) -> float | None:
        """Nothing but failures is known."""
        return None

    def batches(self) -> Iterator[pl.DataFrame]:
        """Yield the failures."""
        if self._frame.height:
            yield self._frame

    def exposure(self, recent: float | Window) -> Exposure | None:
        """Return the lengths of time before and after the split."""
        times = self._frame["time_ns"]
        if times.null_count():
            return None
        return None if times.is_empty() else _time_exposure(*_bounds(times), recent)


class SpanRows:
    """Failed spans of a source.

    The text of a failure is its `error_message`, else its `status_message`.

    Args:
        source: where the spans are.
        filters: which spans count; all when None.
        weighted: count sampled spans 1/sampling_probability times.

    Raises:
        NotEnoughDataError: there are no spans, or too few to say that none fails.
    """

    def __init__(
        self, source: Source, filters: Filters | None = None, *, weighted: bool = True
    ) -> None:
        self._source = source
        self._where = None if filters is None else span_condition(source, filters)
        self._weighted = weighted
        figures: dict[str, Aggregate] = {
            "spans": Count(weighted=weighted),
            "stored": Count(),
            "failed": Count(where=FAILED),
            "first": Min("start_time"),
            "last": Max("start_time"),
        }
        row = source.aggregate(figures, where=self._where).with_columns(
            pl.col("first", "last").dt.cast_time_unit("ns").to_physical()
        )
        found = row.row(0, named=True)
        self._spans = float(found["spans"])
        self._first, self._last = found["first"], found["last"]
        self._refuse_thin_data(int(found["stored"]), int(found["failed"]))

    def _refuse_thin_data(self, stored: int, failed: int) -> None:
        if not stored:
            raise NotEnoughDataError(
                f"no spans in {self._source.url}"
                + (" match the filters" if self._where is not None else ""),
                hint="pyflare import FILE... or pyflare collect brings some in; "
                "--since, --model and the other filters choose among them",
            )
        if not failed and stored < _MANY_SPANS:
            bound = min(1.0, 3 / stored)
            raise NotEnoughDataError(
                f"none of {stored} spans failed: too few to say that nothing fails "
                f"(a failure rate up to {bound:.0%} would fit)",
                hint=f"{_MANY_SPANS} spans without a failure would bound it at 1 %; "
                "widen --since or drop a filter",
            )

    @property
    def spans(self) -> float | None:
        """Spans that match the filters, weighted."""
        return self._spans

    def batches(self) -> Iterator[pl.DataFrame]:
        """Yield the failed spans."""
        columns = (
            *("span_id", "trace_id", "start_time", "sampling_probability"),
            *("error_type", "error_message", "status_message", "events"),
        )
        weight = (1 / pl.col("sampling_probability")).fill_null(1.0)
        for batch in self._source.scan(columns, where=all_of([FAILED, self._where])):
            traces = frame_lines(span_stack_traces(batch["events"].cast(pl.String)))
            yield batch.select(
                pl.col("span_id").alias("id"),
                "trace_id",
                pl.col("start_time").dt.cast_time_unit("ns").to_physical().alias("time_ns"),
                (weight if self._weighted else pl.lit(1.0)).alias("weight"),
                pl.col("error_type").cast(pl.String).fill_null(""),
                pl.coalesce(pl.col("error_message", "status_message").replace("", None)).alias(
                    "text"
                ),
                traces.alias("frames"),
            ).cast(SCHEMA)  # type: ignore[arg-type]  # a mapping of names to types

    def exposure(self, recent: float | Window) -> Exposure | None:
        """Return the spans before and after the split."""
        if self._first is None or self._last <= self._first:
            return None
        split, end = _window(self._first, self._last, recent)
        time = col("start_time")
        late = (time >= Timestamp(split)) & (time < Timestamp(end))
        figures: dict[str, Aggregate] = {
            "before": Count(where=time < Timestamp(split), weighted=self._weighted),
            "recent": Count(where=late, weighted=self._weighted),
        }
        before, after = self._source.aggregate(figures, where=self._where).row(0)
        return Exposure(split, end, float(before), float(after), "spans")


class TableRows:
    """Rows of any table, each a failure.

    Args:
        source: where the rows are.
        text: column of the messages.
        id_column: column that names a row; its number when None.
        error_type: column of types of exceptions.
        time: column of times.
        trace: column of trace ids.
        stack: column of stack traces.

    Raises:
        SchemaError: a column that is not there.
        NotEnoughDataError: the table is empty.
    """

    def __init__(
        self,
        source: Source,
        *,
        text: str,
        id_column: str | None = None,
        error_type: str | None = None,
        time: str | None = None,
        trace: str | None = None,
        stack: str | None = None,
    ) -> None:
        self._source = source
        self._text = text
        self._optional = {
            "id": id_column,
            "trace_id": trace,
            "time_ns": time,
            "error_type": error_type,
            "frames": stack,
        }
        known = source.columns()
        for name in (text, *filter(None, self._optional.values())):
            if name not in known:
                near = nearest(name, known)
                raise SchemaError(
                    f"no column {name!r} in {source.url}",
                    hint=f"did you mean {near}?" if near else f"columns: {', '.join(known)}",
                )
        if not source.count():
            raise NotEnoughDataError(f"no rows in {source.url}", hint="give a file with rows")

    @property
    def spans(self) -> float | None:
        """Nothing but failures is known."""
        return None

    def batches(self) -> Iterator[pl.DataFrame]:
        """Yield the rows."""
        columns = list(dict.fromkeys([self._text, *filter(None, self._optional.values())]))
        number = 0
        for batch in self._source.scan(columns):
            yield self._standard(batch, number)
            number += batch.height

    def _standard(self, batch: pl.DataFrame, number: int) -> pl.DataFrame:
        def text_of(name: str) -> pl.Expr:
            column = self._optional[name]
            return pl.lit(None, pl.String) if column is None else pl.col(column).cast(pl.String)

        numbers = pl.int_range(number + 1, number + batch.height + 1)
        stack = pl.Series([None], dtype=pl.String).new_from_index(0, batch.height)
        if self._optional["frames"] is not None:
            stack = batch[self._optional["frames"]].cast(pl.String)
        identity = numbers.cast(pl.String) if self._optional["id"] is None else text_of("id")
        return batch.select(
            identity.alias("id"),
            text_of("trace_id").alias("trace_id"),
            self._times(batch).alias("time_ns"),
            pl.lit(1.0).alias("weight"),
            text_of("error_type").fill_null("").alias("error_type"),
            pl.col(self._text).cast(pl.String).alias("text"),
            frame_lines(stack).alias("frames"),
        )

    def _times(self, batch: pl.DataFrame) -> pl.Series:
        """Return times as nanoseconds since 1970; text is read as ISO 8601."""
        name = self._optional["time_ns"]
        if name is None:
            return pl.Series([None], dtype=pl.Int64).new_from_index(0, batch.height)
        values = batch[name]
        if values.dtype == pl.String:
            values = values.str.to_datetime(time_unit="ns", time_zone="UTC", strict=False)
        if not isinstance(values.dtype, pl.Datetime):
            raise SchemaError(
                f"{name!r} holds no times ({values.dtype})",
                hint="--time takes a column of ISO 8601 times, like 2026-11-23T03:04:05Z",
            )
        return values.dt.cast_time_unit("ns").to_physical()

    def exposure(self, recent: float | Window) -> Exposure | None:
        """Return the lengths of time before and after the split."""
        name = self._optional["time_ns"]
        if name is None:
            return None
        bounds: list[int] = []
        for batch in self._source.scan([name]):
            times = self._times(batch).drop_nulls()
            bounds += _bounds(times) if len(times) else ()
        return _time_exposure(min(bounds), max(bounds), recent) if bounds else None


def _bounds(times: pl.Series) -> tuple[int, int]:
    values = times.to_numpy()
    return int(values.min()), int(values.max())


def _window(first: int, last: int, recent: float | Window) -> Window:
    """Return the recent part of the times from `first` to `last`."""
    if isinstance(recent, tuple):
        return recent
    length = int((last - first) * recent) if 0 < recent < 1 else int(recent)
    return max(first, last - length), last + 1


def _time_exposure(first: int, last: int, recent: float | Window) -> Exposure | None:
    if last <= first:
        return None
    split, end = _window(first, last, recent)
    before = min(split, last) - first
    return Exposure(split, end, float(max(0, before)), float(end - split), "time")
