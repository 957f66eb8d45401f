"""Slices of spans: every metric at once, one dimension, the baseline."""

from pathlib import Path

import numpy as np
import pytest

from pyflare_analysis.rca.slices.analyzer import SliceAnalyzer
from pyflare_proto.errors import NotEnoughDataError
from pyflare_storage.source import open_source
from tests.span_rows import span, write_spans


def calls(n: int = 6000, seed: int = 4) -> list[dict[str, object]]:
    """Return calls of which searches fail, one team is slow and one model is dear."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        feature = str(rng.choice(["chat", "search", "mail"]))
        team = str(rng.choice(["red", "green", "blue", "grey", "pink"]))
        model = str(rng.choice(["small", "medium", "large"]))
        slow, dear = (4.0 if team == "red" else 1.0), (3.0 if model == "large" else 1.0)
        rows.append(
            span(
                span_id=f"{i:016x}",
                feature=feature,
                team=team,
                model=model,
                status_code="error"
                if rng.random() < (0.3 if feature == "search" else 0.02)
                else "ok",
                duration_ms=float(slow * rng.lognormal(6.0, 0.4)),
                cost_nano_usd=int(dear * rng.lognormal(12.0, 0.4)),
            )
        )
    return rows


def test_the_top_slices_are_the_causes_of_every_metric(tmp_path: Path) -> None:
    """Each metric that there is data for names its own cause; evaluations are missing here."""
    with open_source(write_spans(tmp_path / "s.parquet", calls())) as source:
        analyzer = SliceAnalyzer(source, dimensions=["feature", "team", "model"])
        top = analyzer.find_top_problematic_slices()
        first = analyzer.find_top_problematic_slices(limit=1)
        of_one = analyzer.find_top_problematic_slices("large")

    found = {(result.metric, *dict(result.definition).items()) for result in top}
    assert found == {
        ("error_rate", ("feature", "search")),
        ("latency_p95", ("team", "red")),
        ("cost", ("model", "large")),
    }
    impacts = [result.impact_score for result in top]
    assert impacts == sorted(impacts, reverse=True)
    assert first == top[:1]
    assert {result.metric for result in of_one} == {"error_rate", "latency_p95"}


def test_nothing_to_tell_by_any_metric_is_said(tmp_path: Path) -> None:
    """Ten calls are not "no problem"."""
    with open_source(write_spans(tmp_path / "s.parquet", calls(10))) as source:
        analyzer = SliceAnalyzer(source, dimensions=["feature", "team", "model"])
        with pytest.raises(NotEnoughDataError, match="10 rows with a value of error_rate"):
            analyzer.find_top_problematic_slices()


def test_one_dimension_and_the_baseline(tmp_path: Path) -> None:
    """Every value of a dimension is listed, the worst first; the baseline is that of all rows."""
    rows = calls()
    with open_source(write_spans(tmp_path / "s.parquet", rows)) as source:
        analyzer = SliceAnalyzer(source)
        values = analyzer.analyze_dimension(dimension="feature")
        baseline = analyzer.get_baseline()

    assert dict(values[0].definition) == {"feature": "search"}
    assert {str(dict(v.definition)["feature"]) for v in values} == {"chat", "search", "mail"}
    assert sum(value.sample_count for value in values) == len(rows)
    assert baseline == sum(row["status_code"] == "error" for row in rows) / len(rows)
