"""What slices and patterns measure: rates, means and quantiles, of spans or of any table.

A metric gives each row a number or nothing. Of a rate the number is 1 (bad) or 0, of a mean
or a quantile it is the value itself. Rows without a number take no part.

| metric | kind | rows of spans | number |
|---|---|---|---|
| `error_rate` | rate | calls | status_code is error |
| `latency_p50`, `_p95`, `_p99` | quantile | calls, failed ones too | duration_ms |
| `cost` | mean | calls whose cost is known | cost_nano_usd |
| `token_usage` | mean | calls with usage | total_tokens |
| `toxicity_rate`, `hallucination_rate` | rate | evaluated spans | score 0.5 or more, or label |
| `drift_score` | mean | evaluated spans | score |
| a column, `attributes.KEY` | mean, rate if true or false | calls with a value | value |
| any other name | mean, lower is worse | spans evaluated under that name | score |

Where scores come from is told in `scores`.

Example:
    >>> metric = resolve_metric("latency_p95", source.columns())
    >>> reader = MetricReader(metric, source.columns())
    >>> for frame in source.scan(["model", *reader.columns], where=reader.where):
    ...     values = reader.read(frame)  # float64, null where there is none
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from pyflare_analysis.calls import CALL, FAILED
from pyflare_analysis.rca.scores import EVALUATION_EVENT, ScoreReader, plain_name
from pyflare_proto.errors import SchemaError, UsageError, nearest
from pyflare_storage.aggregates import Aggregate, Count, Mean, Quantile
from pyflare_storage.expressions import (
    ATTRIBUTE_COLUMNS,
    Attribute,
    Column,
    Expr,
    Operand,
    all_of,
    col,
    resolve,
)

if TYPE_CHECKING:
    import polars as pl

    from pyflare_storage.source import Source

__all__ = [
    "Metric",
    "MetricReader",
    "SliceMetric",
    "columns_of",
    "is_spans",
    "outcome_metric",
    "resolve_metric",
]

Kind = Literal["rate", "mean", "quantile"]
Worse = Literal["higher", "lower", "either"]

_NUMBERS = {"int64", "float64"}
_SLIP = 0.85
_BAD_SCORES = {"hallucination", "toxicity", "drift"}
"""Scores of something bad; of all others, such as quality and relevance, lower is worse."""
BAD_SCORE = 0.5
"""A score of toxicity or hallucination from here on is bad: evaluators give a probability."""


class SliceMetric(StrEnum):
    """The metrics by name; `CUSTOM` stands for any other name."""

    ERROR_RATE = "error_rate"
    LATENCY_P50 = "latency_p50"
    LATENCY_P95 = "latency_p95"
    LATENCY_P99 = "latency_p99"
    COST = "cost"
    TOKEN_USAGE = "token_usage"  # noqa: S105 - tokens of a model, no secret
    TOXICITY_RATE = "toxicity_rate"
    HALLUCINATION_RATE = "hallucination_rate"
    DRIFT_SCORE = "drift_score"
    CUSTOM = "custom"


@dataclass(frozen=True, slots=True)
class Metric:
    """What is measured on a row, and how the numbers of many rows become one."""

    name: str
    kind: Kind
    """rate: share of 1 among 0 and 1; mean: arithmetic mean; quantile: quantile `q`."""
    unit: str
    """Unit of the value: share, ms, nano_usd, tokens, score, or empty where it is unknown."""
    worse: Worse
    """Which way is bad."""
    value: Operand | Expr | None = None
    """The number, or the condition that makes a row bad; None where it is `score`."""
    where: Expr | None = None
    """Rows that the metric looks at; all when None."""
    score: str | None = None
    """Name of the evaluation whose score is the number."""
    q: float = 0.5
    """Probability of the quantile."""

    @property
    def pushed_down(self) -> bool:
        """Whether a source can aggregate the metric itself: `aggregates` works."""
        return self.score is None

    def aggregates(self, *, weighted: bool = False) -> dict[str, Aggregate]:
        """Return `count` (rows with a number), `value`, and for a rate `bad`, for `Source`.

        A rate is bad / count: it has no `value`.

        Raises:
            UsageError: the metric reads scores, which no source aggregates.
        """
        if self.score is not None:
            raise UsageError(f"{self.name} is read from evaluations", hint="read it row by row")
        if isinstance(self.value, Expr):
            bad = all_of([self.where, self.value])
            return {
                "count": Count(where=self.where, weighted=weighted),
                "bad": Count(where=bad, weighted=weighted),
            }
        assert self.value is not None  # noqa: S101 - neither a score nor a condition
        count = Count(self.value, weighted=weighted, where=self.where)
        if self.kind == "quantile":
            return {
                "count": count,
                "value": Quantile(self.value, self.q, weighted=weighted, where=self.where),
            }
        mean = Mean(self.value, weighted=weighted, where=self.where)
        return {"count": count, "value": mean}


def is_spans(columns: Mapping[str, str]) -> bool:
    """Return whether a table with these columns holds spans."""
    return {"trace_id", "span_id", "span_type", "status_code"} <= set(columns)


def resolve_metric(
    name: str,
    columns: Mapping[str, str],
    *,
    span_types: Sequence[str] = (),
    worse: Worse | None = None,
) -> Metric:
    """Return the metric called `name` on spans.

    Args:
        name: a `SliceMetric`, a column of numbers or of true and false, `attributes.KEY`, or
            the name of an evaluation.
        columns: logical type of each column of the source.
        span_types: values of `span_type` instead of calls.
        worse: which way is bad, where the name does not decide it well.

    Raises:
        UsageError: the table holds no spans, or the name is near a known one.
        SchemaError: a column of another type.
    """
    if not is_spans(columns):
        raise UsageError(
            f"no {name} in a table that holds no spans",
            hint="name the column to look at: --input FILE --outcome COLUMN",
        )
    rows = CALL if not span_types else _of_types(span_types)
    metric = _built_in(name, rows) or _custom(name, columns, rows)
    return metric if worse is None else replace(metric, worse=worse)


def _of_types(span_types: Sequence[str]) -> Expr:
    return col("span_type").is_in(list(span_types)) & col("cost_status").ne("duplicate")


def _built_in(name: str, rows: Expr) -> Metric | None:
    """Return a metric that needs no look at the columns."""
    result: Metric | None = None
    match name:
        case SliceMetric.ERROR_RATE:
            result = Metric(name, "rate", "share", "higher", FAILED, rows)
        case SliceMetric.LATENCY_P50 | SliceMetric.LATENCY_P95 | SliceMetric.LATENCY_P99:
            q = int(name.removeprefix("latency_p")) / 100
            result = Metric(name, "quantile", "ms", "higher", col("duration_ms"), rows, q=q)
        case SliceMetric.COST:
            result = Metric(name, "mean", "nano_usd", "higher", col("cost_nano_usd"), rows)
        case SliceMetric.TOKEN_USAGE:
            result = Metric(name, "mean", "tokens", "higher", col("total_tokens"), rows)
        case SliceMetric.TOXICITY_RATE | SliceMetric.HALLUCINATION_RATE:
            score = name.removesuffix("_rate")
            result = Metric(name, "rate", "share", "higher", score=score)
        case SliceMetric.DRIFT_SCORE:
            result = Metric(name, "mean", "score", "higher", score="drift")
    return result


def _custom(name: str, columns: Mapping[str, str], rows: Expr) -> Metric:
    """Return the metric of a column, an attribute, or the score of an evaluation."""
    container, separator, key = name.partition(".")
    if separator and container in ATTRIBUTE_COLUMNS and key:
        value = Attribute(key, container)
        return Metric(name, "mean", "", "higher", value, rows & value.is_not_null())
    if name in columns:
        return _column_metric(name, columns, rows)
    known = [metric.value for metric in SliceMetric if metric is not SliceMetric.CUSTOM]
    # Only a slip of the pen: any other name may be that of an evaluation.
    near = difflib.get_close_matches(name, known, n=1, cutoff=_SLIP)
    if near:
        raise UsageError(f"no metric {name!r}", hint=f"did you mean {near[0]}?")
    worse: Worse = "higher" if plain_name(name) in _BAD_SCORES else "lower"
    return Metric(name, "mean", "score", worse, score=name)


def _column_metric(name: str, columns: Mapping[str, str], rows: Expr | None) -> Metric:
    column = Column(name)
    present = all_of([rows, column.is_not_null()])
    if columns[name] == "bool":
        return Metric(name, "rate", "share", "higher", column.eq(True), present)
    if columns[name] not in _NUMBERS:
        raise SchemaError(
            f"{name!r} holds neither numbers nor true and false ({columns[name]})",
            hint="name a condition instead, such as --outcome \"status = 'failed'\"",
        )
    unit = name.rpartition("_")[2] if name.endswith(("_ms", "_tokens")) else ""
    return Metric(name, "mean", unit, "higher", column, present)


def outcome_metric(
    source: Source, outcome: str, *, metric: str | None = None, worse: Worse | None = None
) -> Metric:
    """Return the metric of a column of any table.

    Args:
        source: the table.
        outcome: a column of numbers or of true and false, or a condition that is true of the
            bad rows. Numbers that are all 0 or 1 make a rate.
        metric: `latency_p50`, `latency_p95` or `latency_p99` ask for that quantile of it.
        worse: which way is bad; higher when None.

    Raises:
        UsageError: neither a column nor a condition.
        SchemaError: a column of another type.
    """
    columns = source.columns()
    if outcome not in columns:
        result = _condition_metric(outcome, columns)
    else:
        result = _column_metric(outcome, columns, None)
        if result.kind == "mean" and not source.count(
            where=col(outcome).is_not_null() & ~col(outcome).is_in([0, 1])
        ):
            result = replace(result, kind="rate", unit="share", value=col(outcome).eq(1))
    if metric is not None and metric.startswith("latency_p"):
        if result.kind == "rate":
            raise UsageError(f"no quantile of {outcome!r}: it holds only two values")
        q = int(metric.removeprefix("latency_p")) / 100
        result = replace(result, kind="quantile", q=q)
    return result if worse is None else replace(result, worse=worse)


def _condition_metric(text: str, columns: Mapping[str, str]) -> Metric:
    from pyflare_storage.where import parse_where

    if not any(sign in text for sign in "=<>( "):
        near = nearest(text, columns)
        raise SchemaError(
            f"no column {text!r}",
            hint=f"did you mean {near}?" if near else f"columns: {', '.join(list(columns)[:12])}",
        )
    condition = parse_where(text, columns)
    return Metric(text, "rate", "share", "higher", condition)


class MetricReader:
    """Reads a metric's numbers from the rows of a source.

    Args:
        metric: what to read.
        columns: logical type of each column of the source.
        evaluations: results of evaluations that ran later; see `scores`.
    """

    def __init__(
        self, metric: Metric, columns: Mapping[str, str], evaluations: Source | None = None
    ) -> None:
        from pyflare_storage.polars_expressions import PolarsCompiler

        self._metric = metric
        self._known = columns
        self._compiler = PolarsCompiler(columns)
        self._scores = (
            None
            if metric.score is None
            else ScoreReader(
                metric.score, columns, evaluations, bad=BAD_SCORE if metric.kind == "rate" else None
            )
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the source that `read` needs."""
        if self._scores is not None:
            return self._scores.columns
        return tuple(name for name in self._known if name in columns_of(self._metric.value))

    @property
    def where(self) -> Expr | None:
        """Rows that can have a number, for the source to leave out the others."""
        if self._scores is not None and self._scores.columns == ("events",):
            return col("events").contains(EVALUATION_EVENT)
        return self._metric.where

    def read(self, frame: pl.DataFrame) -> pl.Series:
        """Return the number of each row.

        Args:
            frame: rows with `columns`, of those that `where` lets through.

        Returns:
            float64, as long as the frame; null where there is no number. NaN is null.
        """
        import polars as pl

        if self._scores is not None:
            return self._scores.read(frame)
        value = self._metric.value
        if isinstance(value, Expr):
            expression = self._compiler.condition(resolve(value, self._known)).fill_null(False)
        elif isinstance(value, Attribute):
            expression = self._compiler.value(value, "number")
        else:
            assert value is not None  # noqa: S101 - a metric without a score has a value
            expression = self._compiler.value(value)
        return frame.select(expression.cast(pl.Float64).fill_nan(None).alias("value")).to_series()


def columns_of(value: object) -> set[str]:
    """Return the columns that a value or a condition reads."""
    if isinstance(value, Attribute):
        return {value.of}
    if isinstance(value, Column):
        return {value.name}
    found: set[str] = set()
    if isinstance(value, Expr):
        for field in value.__dataclass_fields__:  # type: ignore[attr-defined]  # every condition is a dataclass
            item = getattr(value, field)
            parts = item if isinstance(item, tuple) else (item,)
            found |= set().union(*(columns_of(part) for part in parts))
    return found
