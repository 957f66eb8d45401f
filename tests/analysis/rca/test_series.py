"""Anomalies of series: causal scores, one alert an episode, real data with known truth."""

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.rca_series import (
    Series,
    event_score,
    load_cloud,
    load_nab,
    nab_score,
    nab_weights,
    pyflare,
    rolling_z,
    seasonal_naive,
)
from pyflare_analysis.rca.patterns.series import (
    SeriesConfig,
    detect_series,
    score_series,
)
from pyflare_analysis.rca.patterns.series_table import read_series
from pyflare_proto.errors import NotEnoughDataError, SchemaError, UsageError
from pyflare_storage.source import open_source
from tests.shared_data import shared_path

STEP_S = 900.0


def _days(days: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A daily wave with noise, every 15 minutes."""
    n = days * 96
    wave = 100 + 40 * np.sin(np.arange(n) * 2 * np.pi / 96)
    return np.arange(n) * STEP_S, wave + np.random.default_rng(seed).normal(0, 3, n)


def test_nothing_later_has_a_part_in_a_score() -> None:
    """Scores, alerts and expectations of the first part are the same without the rest."""
    times, values = _days(14)
    values[900:910] += 200
    whole = score_series(times, values)

    for cut in (50, 500, 905, 1200):
        part = score_series(times[:cut], values[:cut])

        np.testing.assert_array_equal(part.score, whole.score[:cut])
        np.testing.assert_array_equal(part.alert, whole.alert[:cut])
        np.testing.assert_array_equal(part.expected, whole.expected[:cut])


def test_a_spike_alerts_once_and_quiet_days_do_not() -> None:
    """Ten bad points in two weeks are one episode, at their place; the wave itself is none."""
    times, values = _days(14)
    ns = (times * 1e9).astype(np.int64)
    quiet = detect_series(ns, values, metric="latency")
    values[900:910] += 200

    (pattern,) = detect_series(ns, values, metric="latency").patterns

    assert quiet.patterns == ()
    assert pattern.start_ns == ns[900]
    assert ns[909] <= pattern.end_ns <= ns[920]
    assert pattern.observed > pattern.baseline + 100
    assert "latency" in pattern.suggested_actions[0]


def test_what_the_time_of_day_makes_unusual_is_found() -> None:
    """The value of noon at night is within the range of the series, and an anomaly there."""
    times, values = _days(14)
    values[10 * 96 + 60 : 10 * 96 + 84] = 100 + 40

    report = detect_series((times * 1e9).astype(np.int64), values, metric="x")

    assert len(report.patterns) == 1
    assert abs(report.patterns[0].start_ns - (10 * 96 + 60) * STEP_S * 1e9) <= 4 * STEP_S * 1e9


def test_a_flat_series_and_one_with_gaps_score_nothing() -> None:
    """Without variation there is no surprise; a missing point is none either."""
    times, values = _days(7)
    gaps = values.copy()
    gaps[200:230] = np.nan

    assert score_series(times, np.full(len(times), 5.0)).score.max() < 1e-6
    assert not score_series(times, gaps).alert.any()
    assert not score_series(times, gaps).score[200:230].any()
    assert score_series(times[:1], values[:1]).score.tolist() == [0.0]


def test_a_missing_row_does_not_move_the_time_of_day() -> None:
    """A series of which rows were lost scores its spike like the whole one."""
    times, values = _days(14)
    values[900] += 300
    keep = np.ones(len(times), dtype=bool)
    keep[300:340] = False

    part = score_series(times[keep], values[keep])
    whole = score_series(times, values)

    at = int(np.flatnonzero(np.flatnonzero(keep) == 900)[0])
    assert part.score[at] == pytest.approx(whole.score[900], rel=0.1)


def test_trend_and_change_of_level_are_told() -> None:
    """Thirty days that rise by 1 a day, and thirty that step up by 30 once."""
    times, values = _days(30)
    ns = (times * 1e9).astype(np.int64)

    rising = detect_series(ns, values + times / 86_400, metric="x")
    stepped = detect_series(ns, values + np.where(times > 20 * 86_400, 30.0, 0.0), metric="x")

    assert rising.trend.slope == pytest.approx(1.0, rel=0.1)
    assert rising.trend.p_value < 0.001
    assert [round((c.after - c.before) / 10) for c in stepped.change_points] == [3]


def test_tables_of_times_in_any_form_are_read(tmp_path: Path) -> None:
    """Text, timestamps and seconds give the same series; equal times become their mean."""
    start = 1_764_000_000
    rows = pl.DataFrame({"s": [start, start + 60, start + 60, start + 120], "v": [1.0, 2, 4, 5]})
    when = pl.from_epoch("s", time_unit="s")
    rows = rows.with_columns(when.alias("t"), when.dt.strftime("%Y-%m-%dT%H:%M:%SZ").alias("text"))
    rows.write_parquet(tmp_path / "a.parquet")
    expected = [start * 10**9, (start + 60) * 10**9, (start + 120) * 10**9]

    with open_source(tmp_path / "a.parquet") as source:
        for column in ("s", "t", "text"):
            ns, values, every = read_series(source, column, "v")
            assert (ns.tolist(), values.tolist(), every) == (expected, [1.0, 3.0, 5.0], "")
        ns, values, every = read_series(source, "t", "v", every="1h")
        assert (len(ns), values.tolist(), every) == (1, [3.0], "1h")


def test_wrong_columns_and_thin_series_are_named(tmp_path: Path) -> None:
    """A typo has the nearest name, text is no number, thirty points are needed."""
    pl.DataFrame({"when": ["soon"] * 3, "value": [1.0, 2.0, 3.0]}).write_parquet(
        tmp_path / "a.parquet"
    )
    with open_source(tmp_path / "a.parquet") as source:
        with pytest.raises(SchemaError, match="no column 'valu'") as told:
            read_series(source, "when", "valu")
        assert told.value.hint == "did you mean value?"
        with pytest.raises(SchemaError, match="'when' is no column of numbers"):
            read_series(source, "value", "when")
        with pytest.raises(SchemaError, match="'when' holds no times"):
            read_series(source, "when", "value")
    with pytest.raises(NotEnoughDataError, match="3 points"):
        detect_series(np.arange(3), np.arange(3.0), metric="x")
    with pytest.raises(UsageError, match="threshold is 0"):
        score_series(np.arange(3.0), np.arange(3.0), SeriesConfig(threshold=0))


def test_the_benchmarks_score_by_hand() -> None:
    """No detection is 0, one in the window's first point 100 less nothing, late ones less."""
    times = np.arange(1000) * 300.0
    series = Series("x", times, np.zeros(1000), [(500, 599)])
    nothing, first, last, false = (np.zeros(1000) for _ in range(4))
    first[500], last[599], false[400] = 1, 1, 1

    window, weight = nab_weights(series)

    assert set(window[:150]) == {-2}
    assert nab_score([nothing], [series], 1.0) == 0.0
    assert nab_score([first], [series], 1.0) == pytest.approx(100.0)
    sigma = 2 / (1 + math.exp(-5 / 100)) - 1
    full = 2 / (1 + math.exp(-5)) - 1
    assert weight[599] == pytest.approx(sigma / full)
    assert nab_score([last], [series], 1.0) == pytest.approx(50 * (1 + sigma / full))
    assert nab_score([false + first], [series], 1.0) == pytest.approx(100 - 50 * 0.11)
    assert event_score([false + first], [series], 1.0) == (pytest.approx(2 / 3), 0.5, 1.0, 1)


def test_real_series_are_scored_better_than_by_both_baselines() -> None:
    """At its default, on both sets: above the rolling z-score and the seasonal-naive detector.

    The baselines have the threshold that is best for them on the set.
    """
    folder = shared_path("data", "time-series")
    nab, cloud = load_nab(folder), load_cloud(shared_path("data", "cloud-monitoring"))
    default = SeriesConfig().threshold
    ours = nab_score([pyflare(s.times_s, s.values) for s in nab], nab, default)
    events = event_score([pyflare(s.times_s, s.values) for s in cloud], cloud, default)

    for detector, best_nab, best_cloud in ((rolling_z, 4.26, 6.98), (seasonal_naive, 4.54, 5.96)):
        theirs = nab_score([detector(s.times_s, s.values) for s in nab], nab, best_nab)
        found = event_score([detector(s.times_s, s.values) for s in cloud], cloud, best_cloud)
        assert ours > theirs
        assert events[0] > found[0]
