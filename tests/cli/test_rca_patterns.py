"""`pyflare rca patterns`: documents, forms, gates and refusals."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.rca_patterns import span_table
from pyflare_collector.workload import TrafficConfig, make_traffic
from tests.cli.conftest import Pyflare
from tests.span_rows import ANSWERED, data_directory


@pytest.fixture(scope="module")
def spike(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two days of traffic with a spike of errors."""
    path = tmp_path_factory.mktemp("spike") / "spans.parquet"
    config = TrafficConfig(15_000, seed=4, hours=48.0, faults=("error-spike",))
    span_table(make_traffic(config)).write_parquet(path)
    return path


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """Ten days of a wave with one spike, as CSV."""
    rng = np.random.default_rng(0)
    hours = np.arange(240)
    values = 50 + 20 * np.sin(hours * 2 * np.pi / 24) + rng.normal(0, 1, 240)
    values[200] += 90
    when = pl.from_epoch(pl.Series("at", 1_764_000_000 + hours * 3600), time_unit="s")
    path = tmp_path / "series.csv"
    pl.DataFrame({"at": when, "requests": values}).write_csv(path)
    return path


def test_the_answer_is_one_document_with_the_keys_of_the_contract(
    pyflare: Pyflare, spike: Path
) -> None:
    """Schema, intervals, what was not looked for, and the patterns."""
    result = pyflare("rca", "patterns", "--source", spike)

    body = result.json()

    assert result.code == 0
    assert body["schema"] == "pyflare.rca.patterns/1"
    (pattern,) = body["patterns"]
    assert (pattern["type"], pattern["affected"]) == ("error_spike", {})
    assert len(pattern["suggested_actions"]) == 3
    assert "temporal_pattern" in body["not_tested"]
    assert "note: temporal_pattern was not looked for" in result.err


def test_a_person_reads_what_where_when_and_what_to_try(pyflare: Pyflare, spike: Path) -> None:
    """The table form is a few lines for each pattern, percentages for rates."""
    out = pyflare("rca", "patterns", "--source", spike, "--format", "table").out

    first, second, third, *actions = out.splitlines()

    assert first.endswith(": error_spike in all calls")
    assert second.startswith("  error_rate 1.")
    assert "%" in second
    assert third.endswith("UTC")
    assert all(line.startswith("  - ") for line in actions)


def test_a_type_chooses_and_nothing_found_is_an_answer(pyflare: Pyflare, spike: Path) -> None:
    """Without patterns the code is 0, the list is empty and the text says what was looked at."""
    asked = ("rca", "patterns", "--source", spike, "--type", "cost_anomaly")

    result, text = pyflare(*asked), pyflare(*asked, "--format", "table")

    assert (result.code, result.json()["patterns"]) == (0, [])
    assert text.out.startswith("no pattern in ")


@pytest.mark.parametrize(("gate", "code"), [("low", 1), ("error_spike", 1), ("quality_drop", 0)])
def test_a_gate_fails_after_the_answer_was_written(
    pyflare: Pyflare, spike: Path, gate: str, code: int
) -> None:
    """`--fail-on` takes a severity or a type."""
    result = pyflare("rca", "patterns", "--source", spike, "--fail-on", gate)

    assert result.code == code
    assert len(result.json()["patterns"]) == 1


def test_few_spans_are_refused_with_what_is_needed(pyflare: Pyflare, tmp_path: Path) -> None:
    """Exit code 4: not "no", but "cannot say"."""
    result = pyflare("rca", "patterns", "--data", data_directory(tmp_path / "d", ANSWERED))

    assert (result.code, result.out) == (4, "")
    assert "error: 2 calls in" in result.err
    assert "hint: a pattern needs 60 calls in 8 intervals" in result.err


def test_any_series_has_anomalies_a_trend_and_changes_of_level(
    pyflare: Pyflare, series: Path
) -> None:
    """The same document over a column of numbers."""
    asked = ("rca", "patterns", "--input", series, "--time", "at", "--value", "requests")

    body, text = pyflare(*asked).json(), pyflare(*asked, "--format", "table").out

    (pattern,) = body["patterns"]
    assert (pattern["metric"], pattern["shape"], pattern["type"]) == ("requests", "spike", "custom")
    assert pattern["start_time"] == "2025-12-03T00:00:00.000000000Z"
    assert (body["points"], body["step_seconds"], body["change_points"]) == (240, 3600.0, [])
    assert set(body["trend"]) == {"slope_per_day", "kendall_tau", "p_value"}
    assert "anomaly of requests" in text
    assert pyflare(*asked, "--fail-on", "low").code == 1


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--input", "x.csv"), "--input, --time and --value belong together"),
        (("--type", "spike"), "no type of pattern 'spike'"),
        (("--sensitivity", "extreme"), "--sensitivity is extreme"),
        (("--fail-on", "never"), "--fail-on is never"),
        (("--limit", "0"), "--limit is 0"),
        (("--history", "long"), "--history is long"),
        (("--every", "7x"), "not an interval: '7x'"),
        (("--dimension", "fature"), "no dimension 'fature'"),
        (
            ("--input", "x.csv", "--time", "a", "--value", "b", "--model", "m"),
            "--model with --input",
        ),
    ],
)
def test_wrong_usage_is_named_with_a_hint(
    pyflare: Pyflare, spike: Path, words: tuple[str, ...], error: str
) -> None:
    """Exit code 2, an error and a hint."""
    source = () if "--input" in words else ("--source", spike)

    result = pyflare("rca", "patterns", *source, *words)

    assert (result.code, result.out) == (2, "")
    assert f"error: {error}" in result.err
    assert "hint: " in result.err
