"""What rows are divided by: columns, attributes, lengths, hours, weekdays.

A dimension gives each row a category, or a number that is later put into bins. Its name is
the key in `slice: {dimension: value}`.

Example:
    >>> columns = source.columns()
    >>> dimension = resolve_dimension("user", columns)
    >>> dimension.columns, dimension.values(frame, columns).head(2).to_list()
    (('user_id',), ['ada', 'bob'])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from pyflare_analysis.rca.metrics import Metric, SliceMetric, columns_of, is_spans
from pyflare_proto.errors import UsageError, nearest
from pyflare_storage.aggregates import Count
from pyflare_storage.expressions import (
    ATTRIBUTE_COLUMNS,
    Attribute,
    Column,
    Expr,
    Operand,
    all_of,
    col,
)

if TYPE_CHECKING:
    import polars as pl

    from pyflare_storage.filters import Filters
    from pyflare_storage.source import Source

__all__ = [
    "Dimension",
    "DimensionKind",
    "SliceDimension",
    "custom_attributes",
    "default_dimensions",
    "model_condition",
    "model_names",
    "resolve_dimension",
    "span_condition",
]

DimensionKind = Literal["category", "number", "text_length", "hour", "weekday"]


class SliceDimension(StrEnum):
    """The dimensions of spans by name; `CUSTOM` stands for any column or `attributes.KEY`."""

    MODEL = "model"
    USER = "user_id"
    FEATURE = "feature"
    INPUT_LENGTH = "input_length"
    OUTPUT_LENGTH = "output_length"
    LATENCY = "latency"
    TIME_OF_DAY = "time_of_day"
    DAY_OF_WEEK = "day_of_week"
    PROMPT_TEMPLATE = "prompt_template"
    PROVIDER = "provider"
    ENVIRONMENT = "environment"
    CUSTOM = "custom"


_ALIASES = {
    "user": "user_id",
    "service": "service_name",
    "session": "session_id",
    "hour": "time_of_day",
    "hour_of_day": "time_of_day",
    "weekday": "day_of_week",
    "duration": "latency",
}
_DEFAULTS = (
    *("model", "feature", "prompt_version", "prompt_template", "provider", "environment"),
    *("service_name", "service_version", "team", "agent_name", "tool_name", "user_id"),
    *("input_length", "time_of_day", "day_of_week"),
)
"""In order of preference: of dimensions that cut out the same rows the first is shown."""
_OUTCOMES = ("output_length", "latency")
"""Known only after the call: dimensions by default of what is judged later still."""
_CATEGORIES = {"string", "category", "bool", "date"}
_NUMBERS = {"int64", "float64"}
_FEW_VALUES = 20
"""Columns of whole numbers with at most so many values are categories."""

_KNOWN_KEYS = (
    *("gen_ai.", "llm.", "ai.", "openinference.", "traceloop.", "langfuse.", "langsmith."),
    *("error.", "exception.", "http.", "rpc.", "otel.", "telemetry.", "code.", "thread."),
    *("pyflare.", "user.", "session.", "input.", "output.", "embedding.", "retrieval.", "tool."),
    *("server.", "client.", "network.", "url.", "lk.", "logfire.", "openlit.", "enduser."),
)
"""Keys that the record has columns for, that tell how the call ended, or plumbing."""
_SAMPLED_SPANS = 2000
_MOST_VALUES = 50
_SEEN_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Dimension:
    """One dimension of a source."""

    name: str
    """As it was asked for, and as it stands in slices."""
    kind: DimensionKind
    """category: the value itself; number: put into bins; text_length: characters, put into
    bins; hour: 0 to 23; weekday: 1 (Monday) to 7."""
    operand: Operand
    timezone: str = "UTC"
    """IANA name, of hours and weekdays."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """For the model: the name shown for each model that was asked for."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the source that `values` needs."""
        if isinstance(self.operand, Attribute):
            return (self.operand.of,)
        name = self.operand.name if isinstance(self.operand, Column) else ""
        return (name, "model_request") if self.renamed else (name,)

    @property
    def is_number(self) -> bool:
        """Whether values are put into bins."""
        return self.kind in {"number", "text_length"}

    def values(self, frame: pl.DataFrame, columns: Mapping[str, str]) -> pl.Series:
        """Return the category or number of each row; null is a category of its own.

        Args:
            frame: rows with the dimension's columns.
            columns: logical type of each column of the source.
        """
        import polars as pl

        from pyflare_storage.polars_expressions import PolarsCompiler

        value = PolarsCompiler(columns).value(self.operand)
        if self.kind == "text_length":
            value = value.str.len_chars()
        elif self.kind == "hour":
            value = value.dt.convert_time_zone(self.timezone).dt.hour()
        elif self.kind == "weekday":
            value = value.dt.convert_time_zone(self.timezone).dt.weekday()
        elif self.renamed:
            asked = pl.col("model_request")
            shown = asked.replace_strict(
                list(self.renamed),
                list(self.renamed.values()),
                default=None,
                return_dtype=pl.String,
            )
            value = pl.coalesce(shown, asked, value)
        if self.is_number:
            value = value.cast(pl.Float64)
        return frame.select(value.alias(self.name)).to_series()


def resolve_dimension(
    name: str,
    columns: Mapping[str, str],
    *,
    timezone: str = "UTC",
    source: Source | None = None,
    characters: bool = False,
) -> Dimension:
    """Return the dimension called `name`.

    Args:
        name: a `SliceDimension`, an alias (`user`, `service`), any column, or `attributes.KEY`.
        columns: logical type of each column of the source.
        timezone: IANA name, for hours and weekdays.
        source: asked whether a column of whole numbers has few values; without it, it has.
        characters: measure lengths in characters of the text instead of tokens: a call that
            failed has no token counts.

    Raises:
        UsageError: there is no such dimension; the hint has the nearest.
    """
    container, separator, key = name.partition(".")
    if separator and container in ATTRIBUTE_COLUMNS and key and container in columns:
        return Dimension(name, "category", Attribute(key, container))
    plain = name if name in columns else _ALIASES.get(name, name)
    if is_spans(columns) and name not in columns:
        built_in = _span_dimension(name, plain, timezone, characters=characters)
        if built_in is not None:
            return built_in
    if plain in columns:
        return _column_dimension(name, plain, columns, timezone, source)
    known = [*columns, *_ALIASES, *(SliceDimension if is_spans(columns) else ())]
    guess = nearest(name, known)
    shown = ", ".join(_DEFAULTS if is_spans(columns) else list(columns)[:12])
    raise UsageError(
        f"no dimension {name!r}",
        hint=f"did you mean {guess}?" if guess else f"dimensions: {shown}, ...",
    )


def _span_dimension(name: str, plain: str, timezone: str, *, characters: bool) -> Dimension | None:
    kind: DimensionKind = "text_length" if characters else "number"
    match plain:
        case SliceDimension.TIME_OF_DAY:
            return Dimension(name, "hour", col("start_time"), timezone)
        case SliceDimension.DAY_OF_WEEK:
            return Dimension(name, "weekday", col("start_time"), timezone)
        case SliceDimension.LATENCY:
            return Dimension(name, "number", col("duration_ms"))
        case SliceDimension.INPUT_LENGTH:
            return Dimension(name, kind, col("input" if characters else "input_tokens"))
        case SliceDimension.OUTPUT_LENGTH:
            return Dimension(name, kind, col("output" if characters else "output_tokens"))
    return None


def _column_dimension(
    name: str, column: str, columns: Mapping[str, str], timezone: str, source: Source | None
) -> Dimension:
    type_ = columns[column]
    if type_ in _CATEGORIES:
        return Dimension(name, "category", col(column))
    if type_ == "timestamp_ns":
        return Dimension(name, "hour", col(column), timezone)
    if type_ == "int64" and not _many_values(column, source):
        return Dimension(name, "category", col(column))
    if type_ in _NUMBERS:
        return Dimension(name, "number", col(column))
    raise UsageError(
        f"cannot slice by {name!r}: it holds {type_}",
        hint="slice by text, numbers, true and false, times, or attributes.KEY",
    )


def _many_values(column: str, source: Source | None) -> bool:
    if source is None:
        return False
    few = source.aggregate({"number of rows": Count()}, by=[column], limit=_FEW_VALUES + 1)
    return few.height > _FEW_VALUES


def default_dimensions(
    source: Source, metric: Metric, where: Expr | None = None, *, timezone: str = "UTC"
) -> list[Dimension]:
    """Return the dimensions that are looked at when none is named.

    Of spans: those of `SliceDimension` that are known before the call ends, further columns of
    the record that name a part of the application, and the attributes of `custom_attributes`;
    for scores also the length of the output and the latency. Of a table: every column of text,
    of true and false, or of few whole numbers, that the metric does not read.

    Args:
        source: where the rows are.
        metric: what is measured.
        where: the rows.
        timezone: IANA name, for hours and weekdays.
    """
    columns = source.columns()
    if not is_spans(columns):
        taken = columns_of(metric.value)
        names = [
            name
            for name, type_ in columns.items()
            if name not in taken and (type_ in _CATEGORIES or type_ == "int64")
        ]
        resolved = [resolve_dimension(n, columns, timezone=timezone, source=source) for n in names]
        return [dimension for dimension in resolved if dimension.kind == "category"]
    names = [*_DEFAULTS, *(_OUTCOMES if metric.score is not None else ())]
    names += custom_attributes(source, where)
    characters = metric.name == SliceMetric.ERROR_RATE
    return [
        resolve_dimension(name, columns, timezone=timezone, characters=characters) for name in names
    ]


def custom_attributes(source: Source, where: Expr | None = None) -> list[str]:
    """Return the attributes of the application's own that divide its spans, `attributes.KEY`.

    Looks at a seeded sample of spans: keys with 2 to 50 plain values on at least 1 % of them,
    without those of the conventions, which are columns or tell how the call ended.
    """
    import json
    from collections import Counter, defaultdict

    sample = source.sample(_SAMPLED_SPANS, 0, ["attributes"], where)
    values: dict[str, Counter[str]] = defaultdict(Counter)
    for text in sample["attributes"].drop_nulls():
        for key, value in json.loads(text).items():
            if isinstance(value, str | int) and not key.startswith(_KNOWN_KEYS):
                values[key][str(value)] += 1
    return [
        f"attributes.{key}"
        for key, counts in sorted(values.items())
        if 2 <= len(counts) <= _MOST_VALUES and counts.total() >= _SEEN_SHARE * sample.height
    ]


def model_names(source: Source, where: Expr | None = None) -> dict[str, str]:
    """Return the name to show for each model that was asked for.

    A call that failed knows only the model that was asked for (`gpt-4o`), one that was answered
    the model that answered too (`gpt-4o-2024-08-06`). Told apart, the first name would hold
    nothing but failures. So calls go by the model that answered where only one ever did, and by
    the model that was asked for where several did.
    """
    frame = source.aggregate(
        {"n": Count()},
        by=["model_request", "model_response"],
        where=all_of([where, col("model_request").is_not_null()]),
    )
    answers: dict[str, set[str]] = {}
    for asked, answered, _ in frame.iter_rows():
        answers.setdefault(asked, set()).update({answered} - {None})
    return {
        asked: next(iter(names)) if len(names) == 1 else asked for asked, names in answers.items()
    }


def model_condition(source: Source, models: Sequence[str], where: Expr | None = None) -> Expr:
    """Return the condition of `--model` on calls, failed ones included.

    A call counts by the model that answered, by the one that was asked for, and, where none
    answered, by what `model_names` shows for it.
    """
    names = model_names(source, where)
    asked = [name for name, shown in names.items() if shown in models]
    condition: Expr = col("model").is_in(models) | col("model_request").is_in(models)
    if asked:
        condition |= col("model_response").is_null() & col("model_request").is_in(asked)
    return condition


def span_condition(source: Source, filters: Filters) -> Expr | None:
    """Return the filters as a condition; a model takes the failed calls in that asked for it."""
    others = replace(filters, model=()).to_expr()
    if not filters.model:
        return others
    return all_of([others, model_condition(source, filters.model, others)])
