"""Dimensions: what each row is filed under, and which are looked at by themselves."""

import json
from pathlib import Path

import pytest

from pyflare_analysis.rca.coded import fit_dimensions
from pyflare_analysis.rca.dimensions import (
    custom_attributes,
    default_dimensions,
    model_condition,
    model_names,
    resolve_dimension,
)
from pyflare_analysis.rca.metrics import resolve_metric
from pyflare_analysis.rca.slices.analyzer import SliceAnalyzer, SliceAnalyzerConfig
from pyflare_proto.errors import UsageError
from pyflare_storage.source import Source, open_source
from tests.span_rows import START_NS, span, write_spans

HOUR_NS = 3_600_000_000_000


def source(path: Path, rows: list[dict[str, object]]) -> Source:
    """Return spans in a file."""
    return open_source(write_spans(path / "spans.parquet", rows))


def values(spans: Source, name: str, **options: object) -> list[object]:
    """Return what a dimension files each span under."""
    dimension = resolve_dimension(name, spans.columns(), **options)  # type: ignore[arg-type]  # as given
    (frame,) = spans.scan(list(dimension.columns))
    return dimension.values(frame, spans.columns()).to_list()


def test_columns_attributes_times_and_lengths(tmp_path: Path) -> None:
    """16:00 UTC is 17:00 in Berlin, Monday; lengths are tokens, or characters."""
    spans = source(
        tmp_path,
        [span(user_id="ada", input="héllo", input_tokens=7, attributes='{"app.tier":"free"}')],
    )

    assert values(spans, "user") == ["ada"]
    assert values(spans, "attributes.app.tier") == ["free"]
    assert values(spans, "time_of_day") == [16]
    assert values(spans, "hour", timezone="Europe/Berlin") == [17]
    assert values(spans, "day_of_week") == [1]
    assert values(spans, "latency") == [1000]
    assert values(spans, "input_length") == [7]
    assert values(spans, "input_length", characters=True) == [5]


def test_unknown_dimensions_name_the_nearest(tmp_path: Path) -> None:
    """A slip of the pen gets the column that was meant; lists cannot be sliced by."""
    columns = source(tmp_path, [span()]).columns()

    with pytest.raises(UsageError) as caught:
        resolve_dimension("featur", columns)
    assert "feature" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="list"):
        resolve_dimension("embedding", columns)


def test_failed_calls_go_by_the_model_that_answers_the_others(tmp_path: Path) -> None:
    """A failed call knows only the model asked for; it must not be a slice of failures alone."""
    answered = [span(model="gpt-4o-2024", model_request="gpt-4o", model_response="gpt-4o-2024")] * 3
    failed = [span(model="gpt-4o", model_request="gpt-4o", status_code="error")]
    spans = source(tmp_path, [*answered, *failed])

    assert model_names(spans) == {"gpt-4o": "gpt-4o-2024"}
    assert spans.count(model_condition(spans, ["gpt-4o-2024"])) == 4
    assert spans.count(model_condition(spans, ["gpt-4o"])) == 4

    analyzer = SliceAnalyzer(spans, SliceAnalyzerConfig(min_samples=2), dimensions=["model"])
    assert analyzer.get_baseline(model_id="gpt-4o-2024") == 0.25


def test_models_that_several_answer_for_go_by_the_request(tmp_path: Path) -> None:
    """Where two versions answered, a failed call belongs to neither for sure."""
    rows = [
        span(model=name, model_request="gpt-4o", model_response=name) for name in ("old", "new")
    ]

    assert model_names(source(tmp_path, rows)) == {"gpt-4o": "gpt-4o"}


def test_attributes_of_the_application_are_dimensions(tmp_path: Path) -> None:
    """Keys with a few values are; those of conventions, of one value and of many are not."""
    rows = [
        span(
            attributes=json.dumps(
                {
                    "app.tier": ["free", "pro"][i % 2],
                    "app.version": 3,
                    "app.request": f"r{i}",
                    "gen_ai.operation.name": ["chat", "embeddings"][i % 2],
                    "http.response.status_code": [200, 500][i % 2],
                }
            )
        )
        for i in range(100)
    ]
    spans = source(tmp_path, rows)

    assert custom_attributes(spans) == ["attributes.app.tier"]
    names = [d.name for d in default_dimensions(spans, resolve_metric("cost", spans.columns()))]
    assert "attributes.app.tier" in names
    assert "output_length" not in names


def test_scores_are_also_divided_by_what_the_call_did(tmp_path: Path) -> None:
    """Length of the output and latency come before an evaluation, not before an error."""
    spans = source(tmp_path, [span()])
    metric = resolve_metric("hallucination_rate", spans.columns())

    names = [dimension.name for dimension in default_dimensions(spans, metric)]

    assert {"output_length", "latency"} <= set(names)


def test_codes_and_labels(tmp_path: Path) -> None:
    """Frequent values first, null last; hours as ranges; the outer bins are open."""
    rows = [
        span(
            feature=[None, "b", "b", "a"][i % 4],
            start_time=START_NS + (i % 4) * HOUR_NS,
            input_tokens=i,
        )
        for i in range(100)
    ]
    spans = source(tmp_path, rows)
    columns = spans.columns()
    wanted = [resolve_dimension(n, columns) for n in ("feature", "time_of_day", "input_length")]

    fitted, count = fit_dimensions(spans, wanted, None, bins=4)

    feature, hour, length = fitted
    (frame,) = spans.scan(["feature", "start_time", "input_tokens"])
    assert count == 100
    assert feature.labels == ("b", "a", None)
    assert feature.encode(frame, columns)[:4].tolist() == [2, 0, 0, 1]
    assert hour.encode(frame, columns)[:4].tolist() == [16, 17, 18, 19]
    assert (hour.label(16, 16), hour.label(22, 1)) == ("16:00-17:00", "22:00-02:00")
    assert [length.label(i, i) for i in range(4)] == [
        "< 24.75",
        "[24.75, 49.5)",
        "[49.5, 74.25)",
        ">= 74.25",
    ]
    assert length.label(1, 3) == ">= 24.75"
    assert length.encode(frame, columns)[[0, 30, 99]].tolist() == [0, 1, 3]
