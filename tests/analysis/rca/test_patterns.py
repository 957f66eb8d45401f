"""Patterns in spans: planted faults are found, quiet traffic stays quiet, thin data is refused."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from benchmarks.rca_patterns import found, span_table
from pyflare_analysis.rca.patterns.detector import (
    Pattern,
    PatternDetector,
    PatternDetectorConfig,
    PatternType,
)
from pyflare_collector.workload import TrafficConfig, make_traffic
from pyflare_proto.errors import NotEnoughDataError, UsageError
from pyflare_storage.filters import Filters
from pyflare_storage.source import open_source
from tests.span_rows import START_NS, span, write_spans

WEEK = 168.0
Weeks = Callable[..., tuple[Path, list[dict[str, object]]]]


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Weeks:
    """Return file and truth of a week of traffic with faults."""
    folder = tmp_path_factory.mktemp("weeks")
    made: dict[tuple[str, ...], tuple[Path, list[dict[str, object]]]] = {}

    def make(*faults: str) -> tuple[Path, list[dict[str, object]]]:
        if faults not in made:
            traffic = make_traffic(TrafficConfig(40_000, seed=11, hours=WEEK, faults=faults))
            path = folder / f"{'-'.join(faults) or 'quiet'}.parquet"
            span_table(traffic).write_parquet(path)
            made[faults] = (path, traffic.planted)
        return made[faults]

    return make


def _patterns(path: Path, **options: object) -> list[Pattern]:
    with open_source(path) as source:
        return PatternDetector(source).detect_patterns(**options)  # type: ignore[arg-type]  # options of the test


@pytest.mark.parametrize(
    "fault",
    [
        "error-spike",
        "latency-creep",
        "quality-drop",
        "cost-jump",
        "night-pattern",
        "bad-user-segment",
        "input-drift",
        "runaway-agent",
    ],
)
def test_a_planted_fault_is_told_once_with_its_slice_and_time(week: Weeks, fault: str) -> None:
    """Type, slice and time are the planted ones, and each action names the slice."""
    path, (truth,) = week(fault)

    told = [pattern for pattern in _patterns(path) if found(pattern, truth)]

    assert len(told) == 1
    (pattern,) = told
    value = next(iter(pattern.affected.values()), "all calls")
    for action in pattern.suggested_actions:
        if not isinstance(value, list) and not action.startswith("See the change itself"):
            assert str(value) in action
    assert 0 < pattern.severity <= 1
    assert 0.9 <= pattern.confidence <= 1


def test_a_quiet_week_stays_quiet(week: Weeks) -> None:
    """Noise around a daily pattern is no pattern."""
    path, _ = week()

    assert _patterns(path) == []


def test_a_method_for_each_type_returns_that_type_only(week: Weeks) -> None:
    """The seed's methods are filters of the one search."""
    path, _ = week("cost-jump")
    with open_source(path) as source:
        detector = PatternDetector(source)

        assert [p.type for p in detector.detect_cost_anomalies()] == [PatternType.COST_ANOMALY]
        assert detector.detect_quality_drops() == []
        assert detector.detect_drift_correlations() == []


def test_json_has_the_keys_of_the_contract_and_finite_numbers(week: Weeks) -> None:
    """The contract's keys are there, and times are ISO 8601 in UTC."""
    path, _ = week("error-spike")

    (row,) = [pattern.to_dict() for pattern in _patterns(path)]

    keys = "type start_time end_time metric baseline observed severity confidence affected"
    assert {*keys.split(), "suggested_actions"} <= set(row)
    assert (row["type"], row["affected"], row["metric"]) == ("error_spike", {}, "error_rate")
    assert row["start_time"] < row["end_time"]
    assert row["start_time"].endswith("Z")
    assert row["ci_low"] < row["observed"] < row["ci_high"]
    assert row["baseline"] < 0.05 < row["observed"]


def test_since_leaves_out_what_ended_before_and_keeps_the_baseline(week: Weeks) -> None:
    """An episode after `since` is judged by the history before it; one before it is not told."""
    path, (truth,) = week("error-spike")
    start, end = (int(str(truth[f"{name}_time_unix_nano"])) for name in ("start", "end"))

    just_before = _patterns(path, filters=Filters(since_ns=start - 3_600_000_000_000))
    after = _patterns(path, filters=Filters(since_ns=end + 4 * 3_600_000_000_000))

    assert [pattern.type for pattern in just_before] == [PatternType.ERROR_SPIKE]
    assert just_before[0].baseline_count > 1000
    assert after == []


def test_a_model_has_its_failed_calls_too(week: Weeks) -> None:
    """A call that failed knows only the name that was asked for; it counts for the model."""
    path, _ = week("error-spike")

    by_answer = _patterns(path, model_id="gpt-4o-2024-08-06")
    by_request = _patterns(path, model_id="gpt-4o")

    assert [pattern.type for pattern in by_answer] == [PatternType.ERROR_SPIKE]
    assert by_answer == by_request


def test_weighted_rates_are_those_of_the_traffic_before_sampling(
    week: Weeks, tmp_path: Path
) -> None:
    """Of calls that were kept with probability 1/4, failures always, the rate is the true one."""
    path, _ = week("error-spike")
    whole = pl.read_parquet(path)
    failed = pl.col("status_code") == "error"
    kept = whole.filter(failed | (pl.int_range(pl.len()) % 4 == 0)).with_columns(
        pl.when(failed).then(1.0).otherwise(0.25).alias("sampling_probability")
    )
    kept.write_parquet(tmp_path / "kept.parquet")

    (full,) = _patterns(path)
    (weighted,) = _patterns(tmp_path / "kept.parquet")
    with open_source(tmp_path / "kept.parquet") as source:
        stored = PatternDetector(source, weighted=False).detect_error_spikes()

    assert weighted.baseline == pytest.approx(full.baseline, rel=0.1)
    assert weighted.observed == pytest.approx(full.observed, rel=0.15)
    assert stored[0].baseline > 2.5 * full.baseline


def test_ten_spans_are_refused_with_what_would_be_needed(tmp_path: Path) -> None:
    """One model, no errors, no variation: it cannot be told, and the hint says what could."""
    rows = [
        span(span_id=f"{i:016x}", model="gpt-4o", start_time=START_NS + i * 1_000_000_000)
        for i in range(10)
    ]
    path = write_spans(tmp_path / "ten.parquet", rows)

    with open_source(path) as source, pytest.raises(NotEnoughDataError) as told:
        PatternDetector(source).detect_patterns()

    assert "10 calls" in told.value.message
    assert "60 calls in 8 intervals" in (told.value.hint or "")


def test_many_calls_without_any_variation_have_no_pattern(tmp_path: Path) -> None:
    """No errors, one duration, one cost: there is nothing to tell, and that is an answer."""
    rows = [
        span(
            span_id=f"{i:016x}",
            model="gpt-4o",
            cost_nano_usd=1000,
            start_time=START_NS + i * 60_000_000_000,
        )
        for i in range(600)
    ]
    path = write_spans(tmp_path / "same.parquet", rows)

    assert _patterns(path) == []


def test_what_cannot_be_looked_for_is_said(tmp_path: Path) -> None:
    """Without scores, prices, days and users the types that need them are named with a reason."""
    rows = [
        span(span_id=f"{i:016x}", model="m", start_time=START_NS + i * 60_000_000_000)
        for i in range(200)
    ]
    path = write_spans(tmp_path / "few.parquet", rows)
    with open_source(path) as source:
        detector = PatternDetector(source)
        report = detector.report()
        with pytest.raises(NotEnoughDataError, match="no scores of evaluations"):
            detector.detect_quality_drops()

    assert set(report.not_tested) == {"quality_drop", "temporal_pattern", "user_segment_issue"}
    assert report.patterns == ()


def test_wrong_types_settings_and_sources_are_named(tmp_path: Path, week: Weeks) -> None:
    """Each says what is wrong and what would be right."""
    table = tmp_path / "t.csv"
    table.write_text("a,b\n1,2\n")
    with open_source(table) as source, pytest.raises(UsageError, match="holds no spans"):
        PatternDetector(source).detect_patterns()
    with open_source(week()[0]) as source:
        with pytest.raises(UsageError, match="no type of pattern 'spike'"):
            PatternDetector(source).detect_patterns(types=["spike"])
        with pytest.raises(UsageError, match="alpha is 0"):
            PatternDetector(source, PatternDetectorConfig(alpha=0.0))
        with pytest.raises(UsageError, match="makes 604"):
            PatternDetector(source, PatternDetectorConfig(every="1s")).detect_patterns()


@pytest.mark.service
def test_the_embedded_engine_gives_the_same_patterns(week: Weeks, tmp_path: Path) -> None:
    """Aggregates are all that is asked for, so the source does not matter."""
    pytest.importorskip("chdb", reason="the embedded engine comes with the chdb extra")
    from pyflare_storage.load import load

    whole = pl.read_parquet(week("latency-creep")[0]).with_columns(
        pl.lit("call").alias("name"),
        pl.lit("internal").alias("kind"),
        pl.lit("{}").alias("resource_attributes"),
    )
    path = tmp_path / "whole.parquet"
    whole.write_parquet(path)
    load(str(path), f"chdb://{tmp_path / 'engine'}")

    with open_source(f"chdb://{tmp_path / 'engine'}") as engine:
        there = PatternDetector(engine).report()
    with open_source(path) as source:
        here = PatternDetector(source).report()

    assert [p.to_dict() for p in there.patterns] == [p.to_dict() for p in here.patterns]
    assert (there.calls, there.tests) == (here.calls, here.tests)
