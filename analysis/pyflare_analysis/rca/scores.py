"""Scores of evaluations, one a span, wherever they are kept.

Three places, the later ones first where several tell a score for one span:

1. `evaluations/` of the data directory: Parquet with `span_id` and either one row a score
   (`name`, `score`, `label`) or a column a score (`hallucination_score`, `has_hallucination`);
   of several for one span the last row counts.
2. A column of the source itself (`hallucination_score`, `has_hallucination`, `drift_score`).
3. Span events `gen_ai.evaluation.result` of the OpenTelemetry GenAI conventions, with
   `gen_ai.evaluation.name`, `.score.value` and `.score.label`.

Names are compared in lower case without `_score`, `_rate`, `has_` and `is_`. A rate needs bad
or not bad: a score of at least the limit is bad, and without a score the label decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

    from pyflare_storage.source import Source

__all__ = ["EVALUATION_EVENT", "ScoreReader", "plain_name"]

EVALUATION_EVENT = "gen_ai.evaluation.result"
"""Name of the event, and the text by which spans with scores are found."""
_NAME = "gen_ai.evaluation.name"
_VALUE = "gen_ai.evaluation.score.value"
_LABEL = "gen_ai.evaluation.score.label"
_BAD_LABELS = ("fail", "failed", "bad", "true", "yes", "unsafe", "incorrect", "hallucinated")


def plain_name(name: str) -> str:
    """Return what an evaluation is about: `has_hallucination` is `hallucination`.

    >>> plain_name("Hallucination_Score")
    'hallucination'
    """
    name = name.lower().replace("-", "_").replace(" ", "_")
    for prefix in ("has_", "is_"):
        name = name.removeprefix(prefix)
    for suffix in ("_score", "_rate"):
        name = name.removesuffix(suffix)
    return {"toxic": "toxicity", "hallucinated": "hallucination"}.get(name, name)


class ScoreReader:
    """Reads the score of one evaluation.

    Args:
        name: of the evaluation.
        columns: logical type of each column of the spans.
        evaluations: the results in `evaluations/`, if there are any.
        bad: turn scores into 1 (at least this) and 0; None leaves them as they are.
    """

    def __init__(
        self,
        name: str,
        columns: Mapping[str, str],
        evaluations: Source | None = None,
        *,
        bad: float | None = None,
    ) -> None:
        self._name = plain_name(name)
        self._bad = bad
        self._column = _score_column(self._name, columns)
        self._events = "events" in columns
        self._later = None if evaluations is None else self._read_evaluations(evaluations)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the spans that `read` needs."""
        names = [self._column] if self._column else []
        names += ["events"] if self._events else []
        return (*names, "span_id") if self._later is not None else tuple(names)

    def read(self, frame: pl.DataFrame) -> pl.Series:
        """Return the score of each row: float64, null without one."""
        import polars as pl

        found: list[pl.Series] = []
        if self._later is not None:
            joined = frame.select("span_id").join(
                self._later, on="span_id", how="left", maintain_order="left"
            )
            found.append(joined["value"])
        if self._column:
            found.append(self._valued(frame[self._column].cast(pl.Float64), None))
        if self._events:
            found.append(self._event_scores(frame["events"]))
        if not found:
            return pl.repeat(None, frame.height, dtype=pl.Float64, eager=True)
        return pl.select(pl.coalesce([pl.lit(series) for series in found])).to_series()

    def _event_scores(self, events: pl.Series) -> pl.Series:
        """Return the score that a span's events tell, the last of several."""
        import polars as pl

        told = _told(events)
        told = told.filter(self._named(told["evaluation"]))
        value = self._valued(told["score"], told["label"])
        last = told.select("row", value.alias("value")).drop_nulls("value")
        every = pl.DataFrame({"row": pl.int_range(len(events), dtype=pl.UInt32, eager=True)})
        return every.join(
            last.unique("row", keep="last"), on="row", how="left", maintain_order="left"
        )["value"]

    def _named(self, names: pl.Series) -> pl.Series:
        known = names.drop_nulls().unique().to_list()
        return names.is_in([name for name in known if plain_name(name) == self._name])

    def _valued(self, score: pl.Series, label: pl.Series | None) -> pl.Series:
        """Return scores, or 1 and 0 where a rate is asked for."""
        import polars as pl

        if self._bad is None:
            return score
        by_score = (score >= self._bad).cast(pl.Float64)
        if label is None:
            return by_score
        words = label.str.to_lowercase()
        by_label = (words.is_in([*_BAD_LABELS, self._name]) | words.is_in(["toxic"])).cast(
            pl.Float64
        )
        return pl.select(pl.coalesce(pl.lit(by_score), pl.lit(by_label))).to_series()

    def _read_evaluations(self, evaluations: Source) -> pl.DataFrame | None:
        """Return `span_id` and `value` of the results that are about this score."""
        import polars as pl

        columns = evaluations.columns()
        if "span_id" not in columns:
            return None
        frames: list[pl.DataFrame] = []
        wide = _score_column(self._name, columns)
        if wide is not None:
            for frame in evaluations.scan(["span_id", wide]):
                value = self._valued(frame[wide].cast(pl.Float64), None)
                frames.append(frame.select("span_id", value.alias("value")))
        elif {"name", "score"} <= set(columns):
            label = ["label"] if "label" in columns else []
            for frame in evaluations.scan(["span_id", "name", "score", *label]):
                mine = frame.filter(self._named(frame["name"]))
                value = self._valued(
                    mine["score"].cast(pl.Float64), mine["label"] if label else None
                )
                frames.append(mine.select("span_id", value.alias("value")))
        if not frames:
            return None
        return pl.concat(frames).drop_nulls().unique("span_id", keep="last")


def _told(events: pl.Series) -> pl.DataFrame:
    """Return the evaluations that spans' events tell: `row`, `evaluation`, `score`, `label`."""
    import polars as pl

    attributes = pl.Struct({_NAME: pl.String, _VALUE: pl.String, _LABEL: pl.String})
    decoded = pl.List(pl.Struct({"name": pl.String, "attributes": attributes}))
    rows = (
        pl.DataFrame({"events": events})
        .with_row_index("row")
        .filter(pl.col("events").str.contains(EVALUATION_EVENT, literal=True))
    )
    try:
        lists = rows["events"].str.json_decode(decoded)
    except pl.exceptions.PolarsError:
        # Some emitter wrote a list or an object where a number or a text belongs.
        lists = pl.Series([_tolerant(text) for text in rows["events"]], dtype=decoded)
    return (
        rows.with_columns(lists.alias("events"))
        .explode("events", empty_as_null=False)
        .unnest("events")
        .filter(pl.col("name") == EVALUATION_EVENT)
        .unnest("attributes")
        .select(
            "row",
            pl.col(_NAME).alias("evaluation"),
            pl.col(_VALUE).cast(pl.Float64, strict=False).fill_nan(None).alias("score"),
            pl.col(_LABEL).alias("label"),
        )
    )


def _tolerant(text: str) -> list[dict[str, object]]:
    """Return the events of one span; attributes that are no plain values are null."""
    import json

    def plain(value: object) -> str | None:
        return None if value is None or isinstance(value, list | dict) else str(value)

    return [
        {
            "name": plain(event.get("name")),
            "attributes": {
                key: plain((event.get("attributes") or {}).get(key))
                for key in (_NAME, _VALUE, _LABEL)
            },
        }
        for event in json.loads(text)
    ]


def _score_column(name: str, columns: Mapping[str, str]) -> str | None:
    """Return the column of numbers, or of true and false, that holds the score."""
    fitting = [
        column
        for column, type_ in columns.items()
        if type_ in {"float64", "int64", "bool"} and plain_name(column) == name
    ]
    return fitting[0] if fitting else None
