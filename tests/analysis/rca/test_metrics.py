"""Metrics and scores: what each row counts as, from spans and from any table."""

import json
from pathlib import Path

import polars as pl
import pytest

from pyflare_analysis.rca.metrics import (
    MetricReader,
    SliceMetric,
    outcome_metric,
    resolve_metric,
)
from pyflare_analysis.rca.scores import ScoreReader, plain_name
from pyflare_proto.errors import SchemaError, UsageError
from pyflare_storage.source import Source, open_source
from tests.span_rows import ANSWERED, EMBEDDED, SAMPLED, span, write_spans


def evaluated(name: str, **attributes: object) -> str:
    """Return the events of a span with one evaluation."""
    told = {f"gen_ai.evaluation.{key.replace('_', '.')}": v for key, v in attributes.items()}
    event = {"gen_ai.evaluation.name": name, **told}
    return json.dumps([{"name": "gen_ai.evaluation.result", "attributes": event}])


def read(source: Source, name: str, evaluations: Source | None = None) -> list[float | None]:
    """Return a metric's numbers of all rows that it looks at."""
    metric = resolve_metric(name, source.columns())
    reader = MetricReader(metric, source.columns(), evaluations)
    frames = source.scan(list(reader.columns), where=reader.where)
    return [value for frame in frames for value in reader.read(frame).to_list()]


@pytest.fixture
def spans(tmp_path: Path) -> Source:
    """Traces A, B and C: four calls, one failed, and a call told twice."""
    return open_source(write_spans(tmp_path / "a.parquet", [*ANSWERED, *EMBEDDED, *SAMPLED]))


def test_numbers_of_calls(spans: Source) -> None:
    """Workflows and copies are no calls; a failed call has a latency and no cost."""
    assert sorted(read(spans, "error_rate")) == [0, 0, 0, 1]  # type: ignore[type-var]  # no nulls
    assert sorted(read(spans, "latency_p95")) == [20, 100, 1000, 1000]  # type: ignore[type-var]  # likewise
    assert sorted(x for x in read(spans, "cost") if x is not None) == [140, 670_000, 1e9]


def test_sources_aggregate_the_same(spans: Source) -> None:
    """What is pushed down to the source is what is read row by row."""
    for name in ("error_rate", "latency_p50", "cost", "token_usage", "input_tokens"):
        metric = resolve_metric(name, spans.columns())
        values = [x for x in read(spans, name) if x is not None]
        row = spans.aggregate(metric.aggregates()).row(0, named=True)

        assert row["count"] == len(values)
        if metric.kind == "rate":
            assert row["bad"] == sum(values)
        elif metric.kind == "mean" and values:
            assert row["value"] == pytest.approx(sum(values) / len(values))


def test_other_spans_than_calls(spans: Source) -> None:
    """With --span-type the rows are those of that type."""
    metric = resolve_metric("error_rate", spans.columns(), span_types=["workflow"])

    assert spans.count(metric.where) == 1


def test_scores_of_events(tmp_path: Path) -> None:
    """Scores by name; a rate is bad from 0.5 on, or by the label; lists are no score."""
    events = [
        evaluated("Hallucination", score_value=0.9),
        evaluated("hallucination_score", score_value=0.2),
        evaluated("hallucination", score_label="hallucinated"),
        evaluated("hallucination", score_label="pass"),
        evaluated("hallucination", score_value=[1]),
        evaluated("toxicity", score_value=1),
        None,
    ]
    source = open_source(write_spans(tmp_path / "a.parquet", [span(events=e) for e in events]))

    assert read(source, "hallucination_rate") == [1, 0, 1, 0, None, None]
    assert read(source, "toxicity_rate") == [None, None, None, None, None, 1]
    assert read(source, "hallucination") == [0.9, 0.2, None, None, None, None]


def test_later_evaluations_go_before_events(tmp_path: Path) -> None:
    """Results in evaluations/ are joined by span id, as rows of a name or as columns."""
    told = evaluated("hallucination", score_value=0.9)
    source = open_source(
        write_spans(
            tmp_path / "spans.parquet",
            [span(span_id=f"{i:016x}", events=told if i == 1 else None) for i in (1, 2, 3)],
        )
    )
    long = pl.DataFrame(
        {
            "span_id": [f"{i:016x}" for i in (1, 2, 2)],
            "name": ["hallucination", "toxicity", "hallucination"],
            "score": [0.1, 0.9, 0.8],
        }
    )
    wide = pl.DataFrame({"span_id": [f"{2:016x}"], "has_hallucination": [True]})
    long.write_parquet(tmp_path / "long.parquet")
    wide.write_parquet(tmp_path / "wide.parquet")

    with_rows = read(source, "hallucination_rate", open_source(tmp_path / "long.parquet"))
    with_columns = read(source, "hallucination_rate", open_source(tmp_path / "wide.parquet"))

    assert with_rows == [0, 1, None]
    assert with_columns == [1, 1, None]


def test_columns_hold_scores_too() -> None:
    """A column of the source named like the score is read without events."""
    reader = ScoreReader("hallucination", {"has_hallucination": "bool"}, bad=0.5)
    frame = pl.DataFrame({"has_hallucination": [True, False, None]})

    assert reader.columns == ("has_hallucination",)
    assert reader.read(frame).to_list() == [1, 0, None]


def test_names_of_scores() -> None:
    """Spelling does not part what is one evaluation."""
    assert {
        plain_name(x) for x in ("Hallucination", "has_hallucination", "hallucination-score")
    } == {"hallucination"}


def test_outcomes_of_tables(tmp_path: Path) -> None:
    """0 and 1 make a rate, other numbers a mean, a condition a rate."""
    frame = pl.DataFrame({"failed": [0, 1, 1], "ms": [1.5, 2.0, 9.0], "status": ["a", "b", "b"]})
    frame.write_parquet(tmp_path / "t.parquet")
    source = open_source(tmp_path / "t.parquet")

    def numbers(outcome: str, metric: str | None = None) -> tuple[str, list[float | None]]:
        resolved = outcome_metric(source, outcome, metric=metric)
        reader = MetricReader(resolved, source.columns())
        (batch,) = source.scan(list(reader.columns))
        return resolved.kind, reader.read(batch).to_list()

    assert numbers("failed") == ("rate", [0, 1, 1])
    assert numbers("ms") == ("mean", [1.5, 2, 9])
    assert numbers("ms", "latency_p95") == ("quantile", [1.5, 2, 9])
    assert numbers("status = 'b'") == ("rate", [0, 1, 1])
    with pytest.raises(SchemaError, match="status"):
        numbers("status")
    with pytest.raises(SchemaError) as caught:
        numbers("faild")
    assert "failed" in (caught.value.hint or "")


def test_unknown_metrics_name_the_nearest(spans: Source) -> None:
    """A slip of the pen is no evaluation that nobody ran."""
    with pytest.raises(UsageError) as caught:
        resolve_metric("eror_rate", spans.columns())

    assert "error_rate" in (caught.value.hint or "")
    assert resolve_metric("answer_quality", spans.columns()).worse == "lower"
    with pytest.raises(UsageError, match="no error_rate"):
        resolve_metric(SliceMetric.ERROR_RATE, {"a": "string"})
