"""Which columns are watched.

A feature is a column as it stands, or what is derived from one: the length of a text, the
joined reasons why a call finished. Numbers come out as float64 with `NaN` as null;
everything else as text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import polars as pl

from pyflare_analysis.calls import CALL
from pyflare_proto.errors import SchemaError, nearest
from pyflare_storage.base_source import is_span_table
from pyflare_storage.expressions import ATTRIBUTE_COLUMNS, Attribute, Expr, col
from pyflare_storage.polars_expressions import PolarsCompiler

if TYPE_CHECKING:
    from pyflare_analysis.drift.profiles.rows import Rows

__all__ = [
    "SPAN_FEATURES",
    "Feature",
    "Kind",
    "Passed",
    "check_feature",
    "feature_named",
    "population",
    "suitable_features",
]

Kind = Literal["numeric", "categorical"]
Reading = Literal["as_is", "length", "joined", "attribute"]

_LOOK_ROWS = 20_000
_SHARE_OF_IDS = 0.5
_LONG_TEXT = 200
_LENGTHS = {"input_length_chars": "input", "output_length_chars": "output"}


@dataclass(frozen=True, slots=True)
class Feature:
    """One thing to watch."""

    name: str
    """Name in the answer: the column's, or that of what is derived from it."""
    kind: Kind
    """How it is binned."""
    column: str
    """The column it is read from."""
    reading: Reading = "as_is"
    """How: as it stands, its length in characters, its items joined, one of its attributes."""

    def expression(self, types: Mapping[str, str]) -> pl.Expr:
        """Return the values: float64 without NaN for numbers, text for categories.

        Args:
            types: logical type of each column, by name.
        """
        value = pl.col(self.column)
        if self.reading == "length":
            value = value.str.len_chars()
        elif self.reading == "joined":
            value = value.list.join(",")
        elif self.reading == "attribute":
            key = self.name.removeprefix(f"{self.column}.")
            value = PolarsCompiler(types).value(Attribute(key, self.column), "any")
        if self.kind == "numeric":
            return value.cast(pl.Float64).fill_nan(None).alias(self.name)
        return value.cast(pl.String).alias(self.name)


@dataclass(frozen=True, slots=True)
class Passed:
    """A column that was not taken, and why."""

    column: str
    reason: str


SPAN_FEATURES: tuple[Feature, ...] = (
    Feature("input_tokens", "numeric", "input_tokens"),
    Feature("output_tokens", "numeric", "output_tokens"),
    Feature("cache_read_tokens", "numeric", "cache_read_tokens"),
    Feature("reasoning_tokens", "numeric", "reasoning_tokens"),
    Feature("duration_ms", "numeric", "duration_ms"),
    Feature("time_to_first_token_ms", "numeric", "time_to_first_token_ms"),
    Feature("cost_nano_usd", "numeric", "cost_nano_usd"),
    Feature("input_length_chars", "numeric", "input", "length"),
    Feature("output_length_chars", "numeric", "output", "length"),
    Feature("model", "categorical", "model"),
    Feature("finish_reasons", "categorical", "finish_reasons", "joined"),
    Feature("status_code", "categorical", "status_code"),
    Feature("error_type", "categorical", "error_type"),
    Feature("span_type", "categorical", "span_type"),
    Feature("service_name", "categorical", "service_name"),
    Feature("environment", "categorical", "environment"),
    Feature("feature", "categorical", "feature"),
    Feature("prompt_version", "categorical", "prompt_version"),
)
"""What is watched of spans without any option; features without a value fall out."""


def population(source: Rows) -> Expr | None:
    """Return the rows that are compared by default: the calls among spans, else all rows."""
    return CALL if is_span_table(source.columns()) else None


def feature_named(name: str, types: Mapping[str, str]) -> Feature:
    """Return the feature called `name`: a column, a length, or `attributes.KEY`.

    Args:
        name: as the user writes it.
        types: logical type of each column, by name.

    Raises:
        SchemaError: there is no such column, or it holds neither numbers nor categories.
    """
    if name not in types:
        if name in _LENGTHS and types.get(_LENGTHS[name]) == "string":
            return Feature(name, "numeric", _LENGTHS[name], "length")
        head, dot, key = name.partition(".")
        if dot and key and head in ATTRIBUTE_COLUMNS and head in types:
            return Feature(name, "categorical", head, "attribute")
        near = nearest(name, [*types, *_LENGTHS])
        shown = ", ".join(list(types)[:8])
        raise SchemaError(
            f"unknown column {name!r}",
            hint=f"did you mean {near}?" if near else f"columns: {shown}, ...",
        )
    feature = _feature_of(name, types[name])
    if isinstance(feature, Passed):
        raise SchemaError(
            f"column {name!r} {feature.reason}",
            hint="pyflare drift mmd --column embedding compares vectors"
            if types[name] == "list<float32>"
            else "choose a column of numbers or of categories",
        )
    return feature


def _feature_of(name: str, type_: str) -> Feature | Passed:
    if type_ in {"int64", "float64"}:
        return Feature(name, "numeric", name)
    if type_ in {"string", "category", "bool"}:
        return Feature(name, "categorical", name)
    if type_ == "list<string>":
        return Feature(name, "categorical", name, "joined")
    reasons = {"list<float32>": "holds vectors", "timestamp_ns": "holds times"}
    return Passed(name, reasons.get(type_, f"is of type {type_}, neither number nor category"))


def suitable_features(source: Rows) -> tuple[list[Feature], list[Passed]]:
    """Return what can be watched of a source without being asked for columns.

    Of spans the features of `SPAN_FEATURES`; of any other table every column of numbers
    and of categories. Whether text is a category is judged by the first 20,000 rows: ids
    (more than half of the values differ) and free text (200 characters or more on
    average) are passed over.

    Returns:
        The features, and the columns that were passed over.
    """
    types = source.columns()
    if is_span_table(types):
        return list(SPAN_FEATURES), []
    features: list[Feature] = []
    passed: list[Passed] = []
    for name, type_ in types.items():
        found = _feature_of(name, type_)
        (passed if isinstance(found, Passed) else features).append(found)  # type: ignore[arg-type]  # each to its list
    texts = [f for f in features if types[f.column] == "string"]
    whole = [f for f in features if types[f.column] == "int64"]
    doubtful = _doubtful(source, texts, whole)
    passed += [Passed(name, reason) for name, reason in doubtful.items()]
    return [f for f in features if f.name not in doubtful], passed


def _doubtful(source: Rows, texts: Sequence[Feature], whole: Sequence[Feature]) -> dict[str, str]:
    """Return the columns that only look like features, and why they are none."""
    names = [f.column for f in (*texts, *whole)]
    if not names:
        return {}
    frames = list(source.scan(names, limit=_LOOK_ROWS))
    if not frames:
        return {}
    look = pl.concat(frames)
    result: dict[str, str] = {}
    for feature in texts:
        values = look[feature.column].drop_nulls()
        if values.len() >= 50 and values.n_unique() > _SHARE_OF_IDS * values.len():
            result[feature.name] = "looks like an id: most values differ"
        elif values.len() and (values.str.len_chars().mean() or 0) >= _LONG_TEXT:  # type: ignore[operator]  # mean of whole numbers
            result[feature.name] = "looks like free text"
    for feature in whole:
        values = look[feature.column].drop_nulls()
        if values.len() >= 50 and values.diff().drop_nulls().eq(1).all():
            result[feature.name] = "counts the rows"
    return result


def check_feature(feature: Feature, source: Rows) -> None:
    """Check that a source has the column of a feature, of the right type or without any value.

    A file that holds no value of a column cannot tell its type.

    Args:
        feature: what to read.
        source: where.

    Raises:
        SchemaError: it has not.
    """
    types, where = source.columns(), source.url
    if feature.column not in types:
        near = nearest(feature.column, types)
        raise SchemaError(
            f"no column {feature.column!r} in {where}",
            hint=f"did you mean {near}?" if near else f"columns: {', '.join(list(types)[:8])}, ...",
        )
    type_ = types[feature.column]
    if feature.reading == "as_is":
        numeric = type_ in {"int64", "float64"}
        if (feature.kind == "numeric") != numeric and _has_values(source, feature.column):
            held = "numbers" if feature.kind == "numeric" else "categories"
            raise SchemaError(
                f"column {feature.column!r} of {where} is of type {type_}, "
                f"and the reference holds {held}",
                hint="compare columns of one type, or leave this one out with --column",
            )


def _has_values(source: Rows, column: str) -> bool:
    found = source.scan([column], col(column).is_not_null(), limit=1)
    return source.columns()[column] != "null" and any(frame.height for frame in found)
