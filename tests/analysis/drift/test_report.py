"""The report: each number by hand, what is compared with what, and when it says nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from pyflare_analysis.drift.detector import Verdict
from pyflare_analysis.drift.profiles.columns import feature_named
from pyflare_analysis.drift.profiles.counts import count_rows
from pyflare_analysis.drift.profiles.profile import fit_profile
from pyflare_analysis.drift.report.heatmap import Cell, HeatMap, iso
from pyflare_analysis.drift.report.report import drift_report, fitting_length, time_column
from pyflare_analysis.drift.report.windows import Windows
from pyflare_analysis.statistics import benjamini_hochberg
from pyflare_proto.errors import NotEnoughDataError, SchemaError, UsageError
from pyflare_storage.source import Source
from tests.analysis.drift.report_tables import before, events, opened, since

DAYS = Windows("1d", "time")
HOURS = Windows("1h", "time")


def _psi(reference: np.ndarray, current: np.ndarray) -> float:
    """PSI of two vectors of counts, half a count added to each."""
    p = (reference + 0.5) / (reference + 0.5).sum()
    q = (current + 0.5) / (current + 0.5).sum()
    return float(((q - p) * np.log(q / p)).sum())


def _cells(heat: HeatMap, column: str, **segment: object) -> list[Cell]:
    (row,) = [row for row in heat.rows if row.column == column and dict(row.segment) == segment]
    return list(row.cells)


def _day(frame: pl.DataFrame, day: int) -> pl.DataFrame:
    return frame.filter(pl.col("hour") // 24 == day)


def _binned(values: pl.Series, edges: np.ndarray) -> np.ndarray:
    return np.bincount(
        np.searchsorted(edges, values.to_numpy(), side="right"), minlength=len(edges) + 1
    )


def test_a_cell_is_the_psi_of_its_window_against_the_reference(tmp_path: Path) -> None:
    """Ten bins by the reference's quantiles; reference the first two days, a cell a day."""
    frame = events(96, 50)
    source = opened(frame, tmp_path / "a.parquet")
    cut = "2026-11-04T00:00:00Z"

    heat = drift_report(source, source, windows=DAYS, where=since(cut), reference_where=before(cut))

    reference = frame.filter(pl.col("hour") < 48)
    edges = np.quantile(reference["size"].to_numpy(), np.arange(1, 10) / 10)
    expected = [
        _psi(_binned(reference["size"], edges), _binned(_day(frame, day)["size"], edges))
        for day in (2, 3)
    ]
    cells = _cells(heat, "size")
    assert [cell.psi for cell in cells] == pytest.approx(expected, abs=1e-9)
    assert [iso(cell.window.start_ns) for cell in cells] == [cut, "2026-11-05T00:00:00Z"]
    assert {(cell.reference_count, cell.current_count) for cell in cells} == {(2400, 1200)}
    assert heat.verdict is Verdict.STABLE


def test_a_cell_is_the_psi_of_its_window_against_the_one_before(tmp_path: Path) -> None:
    """Bins by the quantiles of all rows, so that both sides are treated alike."""
    frame = events(72, 50)

    heat = drift_report(opened(frame, tmp_path / "a.parquet"), windows=DAYS)

    edges = np.quantile(frame["size"].to_numpy(), np.arange(1, 10) / 10)
    days = [_binned(_day(frame, day)["size"], edges) for day in range(3)]
    first, *others = _cells(heat, "size")
    expected = [_psi(days[0], days[1]), _psi(days[1], days[2])]
    assert [cell.psi for cell in others] == pytest.approx(expected, abs=1e-9)
    assert (first.verdict, first.reason) == (
        Verdict.INSUFFICIENT,
        "no rows in the window before",
    )


def test_a_planted_change_is_found_where_and_what_it_is(tmp_path: Path) -> None:
    """Sizes double on the fourth of five days: that column, that day and the day back."""
    frame = events(120, 40).with_columns(
        pl.when(pl.col("hour") // 24 == 3)
        .then(pl.col("size") * 2)
        .otherwise(pl.col("size"))
        .alias("size")
    )

    heat = drift_report(opened(frame, tmp_path / "a.parquet"), windows=DAYS)

    drifting = [
        (cell.column, iso(cell.window.start_ns)[:10]) for cell in heat.cells() if cell.is_drift
    ]
    assert heat.verdict is Verdict.DRIFT
    assert drifting == [("size", "2026-11-05"), ("size", "2026-11-06")]
    (mover,) = heat.movers()
    assert (mover.drift_windows, mover.worst.severity) == (2, "significant")
    assert "→" in str(mover.worst.moved)


@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize("against", ["reference", "previous"])
def test_unchanged_traffic_stays_quiet(tmp_path: Path, against: Any, *, same: bool) -> None:
    """Two weeks of one law, hour by hour and by segment: no drift, no moderate severity."""
    source = opened(events(336, 30, seed=7), tmp_path / "a.parquet")
    cut = "2026-11-09T00:00:00Z"
    extra = {"where": since(cut), "reference_where": before(cut)} if against == "reference" else {}

    heat = drift_report(
        source,
        source if against == "reference" else None,
        windows=Windows("12h", "time"),
        by=["team"],
        same_hour_of_week=same,
        **extra,
    )

    assert heat.verdict is Verdict.STABLE
    assert {cell.severity for cell in heat.cells()} == {"none"}


def test_q_values_are_over_all_cells_of_the_map(tmp_path: Path) -> None:
    """Columns, windows, segments and the mix of segments are one family."""
    heat = drift_report(opened(events(96, 60), tmp_path / "a.parquet"), windows=DAYS, by=["team"])

    tested = [cell for cell in heat.cells() if cell.p_value is not None]
    assert {cell.kind for cell in tested} == {"numeric", "categorical", "mix"}
    q = [cell.q_value for cell in tested]
    assert q == pytest.approx(list(benjamini_hochberg([cell.p_value for cell in tested])))


def _rhythm(weeks: int, per_hour: int = 40) -> pl.DataFrame:
    """Sizes that are ten times as large in the second half of each day."""
    frame = events(168 * weeks, per_hour, seed=3)
    night = pl.col("hour") % 24 >= 12
    return frame.with_columns(
        pl.when(night).then(pl.col("size") * 10).otherwise(pl.col("size")).alias("size")
    )


def test_a_daily_rhythm_is_drift_only_without_the_hours_of_the_week(tmp_path: Path) -> None:
    """Against the whole reference each half day differs; against the same hours none does."""
    source = opened(_rhythm(2), tmp_path / "a.parquet")
    cut = "2026-11-09T00:00:00Z"

    def drifting(*, same: bool) -> int:
        heat = drift_report(
            source,
            source,
            windows=Windows("12h", "time"),
            where=since(cut),
            reference_where=before(cut),
            columns=["size"],
            same_hour_of_week=same,
        )
        return heat.figures()["drift_cells"]

    assert (drifting(same=False), drifting(same=True)) == (14, 0)


def test_more_requests_at_night_are_no_drift_of_what_they_are(tmp_path: Path) -> None:
    """The reference takes the window's own hours: a night with six times the rows stays quiet."""
    quiet, busy = _rhythm(1), _rhythm(1, per_hour=240)
    night = busy.filter(pl.col("hour") % 24 >= 12)
    week = pl.concat([quiet.filter(pl.col("hour") % 24 < 12), night]).with_columns(
        pl.col("time").dt.offset_by("1w"), pl.col("hour") + 168
    )
    current = opened(week, tmp_path / "b.parquet")
    reference = opened(quiet, tmp_path / "a.parquet")

    plain = drift_report(current, reference, windows=DAYS, columns=["size"])
    same = drift_report(current, reference, windows=DAYS, columns=["size"], same_hour_of_week=True)

    assert plain.figures()["drift_cells"] == 7
    assert same.figures()["drift_cells"] == 0


def test_a_change_inside_the_hours_is_drift_nevertheless(tmp_path: Path) -> None:
    """Daytime sizes at night: the whole day's law is another, hour by hour."""
    frame = _rhythm(2)
    swapped = pl.col("hour") >= 168 + 24
    frame = frame.with_columns(
        pl.when(swapped & (pl.col("hour") % 24 >= 12))
        .then(pl.col("size") / 10)
        .when(swapped)
        .then(pl.col("size") * 10)
        .otherwise(pl.col("size"))
        .alias("size")
    )
    cut = "2026-11-09T00:00:00Z"
    source = opened(frame, tmp_path / "a.parquet")

    heat = drift_report(
        source, source, windows=Windows("12h", "time"), columns=["size"],
        where=since(cut), reference_where=before(cut), same_hour_of_week=True,
    )  # fmt: skip

    verdicts = [cell.is_drift for cell in _cells(heat, "size")]
    assert verdicts == [False, False] + [True] * 12


def test_the_standardised_reference_by_hand(tmp_path: Path) -> None:
    """The shares are sum(w_h p_h), of m = 1 / sum(w_h^2 / m_h) rows.

    Reference: at 00h 200 rows, half `a`; at 01h 100 rows, all `b`. The window: 60 rows at
    00h, 20 at 01h. So w = (3/4, 1/4), the share of `a` is 3/8, and
    m = 1 / (0.5625 / 200 + 0.0625 / 100) = 290.909.
    """

    def rows(day: str, hour: int, a: int, b: int) -> pl.DataFrame:
        time = pl.Series([f"{day}T0{hour}:30:00Z"] * (a + b)).str.to_datetime(time_unit="ns")
        return pl.DataFrame({"time": time, "kind": ["a"] * a + ["b"] * b})

    reference = pl.concat([rows("2026-11-02", 0, 100, 100), rows("2026-11-02", 1, 0, 100)])
    current = pl.concat([rows("2026-11-09", 0, 30, 30), rows("2026-11-09", 1, 0, 20)])

    heat = drift_report(
        opened(current, tmp_path / "b.parquet"),
        opened(reference, tmp_path / "a.parquet"),
        windows=DAYS,
        same_hour_of_week=True,
    )

    m = 1 / (0.75**2 / 200 + 0.25**2 / 100)
    (cell,) = _cells(heat, "kind")
    assert m == pytest.approx(290.909, abs=1e-3)
    assert cell.psi == pytest.approx(
        _psi(np.array([3 / 8, 5 / 8]) * m, np.array([30.0, 50.0])), abs=1e-12
    )
    assert (cell.reference_count, cell.current_count) == (300, 80)


def test_hours_that_the_reference_lacks_are_not_judged(tmp_path: Path) -> None:
    """A window outside the reference's hours says so, with its rows."""
    frame = events(6, 100)
    source = opened(frame, tmp_path / "a.parquet")
    cut = "2026-11-02T03:00:00Z"

    heat = drift_report(
        source, source, windows=HOURS, where=since(cut), reference_where=before(cut),
        same_hour_of_week=True,
    )  # fmt: skip

    cells = _cells(heat, "size")
    assert heat.verdict is Verdict.INSUFFICIENT
    assert {cell.reason for cell in cells} == {"the reference has no rows of these hours"}
    assert {cell.current_count for cell in cells} == {100}


def test_segments_are_judged_each_against_its_own(tmp_path: Path) -> None:
    """Sizes of team blue double; red is stable, and blue's number is that of its rows alone."""
    frame = events(96, 120)
    blue = (pl.col("team") == "blue") & (pl.col("hour") >= 72)
    frame = frame.with_columns(
        pl.when(blue).then(pl.col("size") * 2).otherwise(pl.col("size")).alias("size")
    )

    heat = drift_report(opened(frame, tmp_path / "a.parquet"), windows=DAYS, by=["team"])

    edges = np.quantile(frame["size"].to_numpy(), np.arange(1, 10) / 10)
    days = [
        _binned(_day(frame, day).filter(pl.col("team") == "blue")["size"], edges) for day in (2, 3)
    ]
    last = _cells(heat, "size", team="blue")[-1]
    assert last.is_drift
    assert last.psi == pytest.approx(_psi(*days), abs=1e-9)
    assert not any(cell.is_drift for cell in _cells(heat, "size", team="red"))
    assert not any(row.column == "team" and row.segment for row in heat.rows)


def test_a_drift_is_split_into_mix_and_within(tmp_path: Path) -> None:
    """Both parts add up to the PSI; a change inside is within, a change of shares is mix."""
    frame = events(96, 200)
    frame = frame.with_columns(
        pl.when(pl.col("team") == "blue").then(pl.col("size") * 8).otherwise(pl.col("size"))
    )
    late = pl.col("hour") >= 72
    inside = frame.with_columns(
        pl.when(late).then(pl.col("size") * 3).otherwise(pl.col("size")).alias("size")
    )
    rng = np.random.default_rng(0)
    kept = pl.Series(rng.random(frame.height) < 0.15)
    shares = frame.filter(~late | (pl.col("team") == "blue") | kept)

    def last(table: pl.DataFrame, column: str) -> Cell:
        heat = drift_report(opened(table, tmp_path / "a.parquet"), windows=DAYS, by=["team"])
        return _cells(heat, column)[-1]

    changed, mixed = last(inside, "size"), last(shares, "size")
    for cell in (changed, mixed):
        assert cell.is_drift
        assert (cell.mix or 0) + (cell.within or 0) == pytest.approx(cell.psi, abs=1e-9)
    assert (changed.within or 0) > 0.9 * (changed.psi or 0)
    assert (mixed.mix or 0) > 0.9 * (mixed.psi or 0)
    mix = last(shares, "mix(team)")
    assert (mix.is_drift, mix.kind) == (True, "mix")
    assert str(mix.moved).startswith("red: ")
    assert {tuple(part.segment.values()) for part in mixed.parts} >= {("red",), ("blue",)}


def test_the_split_adds_up_with_rare_categories_hours_and_the_others(tmp_path: Path) -> None:
    """Pooled categories, standardised hours, and segments beyond the largest ones."""
    rng = np.random.default_rng(5)
    frame = events(336, 60, seed=9)
    weights = 1 / np.arange(1, 41) ** 1.5
    law = weights / weights.sum()
    n = frame.height
    late = frame["hour"].to_numpy() >= 168 + 84
    names = np.array([f"k{i}" for i in range(40)])
    draws = np.where(late, rng.choice(names, n, p=law[::-1]), rng.choice(names, n, p=law))
    frame = frame.with_columns(
        kind=pl.Series(draws), team=pl.Series([f"t{i}" for i in rng.integers(0, 5, n)])
    )
    source = opened(frame, tmp_path / "a.parquet")
    cut = "2026-11-09T00:00:00Z"

    heat = drift_report(
        source, source, windows=DAYS, by=["team"], where=since(cut), reference_where=before(cut),
        same_hour_of_week=True, most_segments=3,
    )  # fmt: skip

    split = [cell for cell in _cells(heat, "kind") if cell.mix is not None]
    assert len(split) == 4
    for cell in split:
        assert (cell.mix or 0) + (cell.within or 0) == pytest.approx(cell.psi, abs=1e-9)
        assert {"team": "(others)"} in [dict(part.segment) for part in cell.parts]


def test_a_new_category_is_named(tmp_path: Path) -> None:
    """What the reference never had stands in the words of the cell."""
    frame = events(96, 50)
    fresh = (pl.col("hour") >= 72) & (pl.col("kind") == "c")
    frame = frame.with_columns(
        pl.when(fresh).then(pl.lit("d")).otherwise(pl.col("kind")).alias("kind")
    )
    source = opened(frame, tmp_path / "a.parquet")
    cut = "2026-11-05T00:00:00Z"

    heat = drift_report(source, source, windows=DAYS, where=since(cut), reference_where=before(cut))

    assert str(_cells(heat, "kind")[0].moved).startswith("new: d: 0 % → ")


def test_thin_windows_say_so_and_empty_ones_have_a_place(tmp_path: Path) -> None:
    """4 rows are no verdict; a day without rows stands between its neighbours."""
    frame = events(72, np.array([50] * 24 + [0] * 24 + [1] * 4 + [0] * 20))

    heat = drift_report(
        opened(frame, tmp_path / "a.parquet"),
        opened(events(72, 50), tmp_path / "r.parquet"),
        windows=DAYS,
    )

    enough, nothing, thin = _cells(heat, "size")
    assert enough.verdict is Verdict.STABLE
    assert (nothing.verdict, nothing.reason, nothing.current_count) == (
        Verdict.INSUFFICIENT,
        "no rows",
        0,
    )
    assert (thin.verdict, thin.current_count, thin.q_value) == (Verdict.INSUFFICIENT, 4, None)
    assert "4 current rows" in str(thin.reason)


def test_sampled_rows_count_by_their_weight(tmp_path: Path) -> None:
    """Half of one category was sampled away with 1/2: weighted there is no drift."""
    frame = events(96, 400).with_columns(sampling_probability=pl.lit(1.0))
    rng = np.random.default_rng(2)
    kept = pl.Series(rng.random(frame.height) < 0.1)
    sampled = (pl.col("hour") >= 48) & (pl.col("kind") == "a")
    frame = frame.with_columns(
        sampling_probability=pl.when(sampled).then(0.1).otherwise(pl.col("sampling_probability"))
    ).filter(~sampled | kept)
    source = opened(frame, tmp_path / "a.parquet")

    def drifting(*, weighted: bool) -> bool:
        heat = drift_report(source, windows=DAYS, columns=["kind"], weighted=weighted)
        assert heat.weighted is weighted
        return heat.verdict is Verdict.DRIFT

    assert (drifting(weighted=True), drifting(weighted=False)) == (False, True)


def test_rounding_of_weights_makes_no_cell(tmp_path: Path) -> None:
    """Sums of 1/0.3 in another order leave residues; the rest of three categories is nothing."""
    frame = events(96, 100)
    probability = np.random.default_rng(3).choice([1.0, 0.7, 0.3, 0.1], frame.height)
    frame = frame.with_columns(sampling_probability=probability)
    source = opened(frame, tmp_path / "a.parquet")
    profile = fit_profile(source, [feature_named("kind", source.columns())])

    counts = count_rows(profile, source, by=[Windows("1h", "time").key, "team"])

    assert counts.columns["kind"].counts.shape == (192, 5)
    assert not counts.columns["kind"].counts[:, -2].any()


def test_a_saved_profile_gives_the_numbers_of_its_data(tmp_path: Path) -> None:
    """The reference's data are not needed again."""
    source = opened(events(48, 50, seed=2), tmp_path / "a.parquet")
    reference = opened(events(96, 50), tmp_path / "r.parquet")
    profile = fit_profile(reference)

    by_data = drift_report(source, reference, windows=DAYS)
    by_profile = drift_report(source, profile, windows=DAYS)

    assert [cell.to_dict() for cell in by_data.cells()] == [
        cell.to_dict() for cell in by_profile.cells()
    ]
    with pytest.raises(UsageError, match="neither segments nor hours"):
        drift_report(source, profile, windows=DAYS, by=["team"])
    part = fit_profile(reference, [feature_named("kind", reference.columns())])
    with pytest.raises(SchemaError, match="no column 'size'"):
        drift_report(source, part, windows=DAYS, columns=["size"])


class _Watched:
    """A source that counts the passes over its rows."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.passes: list[list[str]] = []

    def scan(self, columns: Sequence[str] | None = None, *args: Any, **more: Any) -> Iterator[Any]:
        self.passes.append(list(columns or ()))
        return self._source.scan(columns, *args, **more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


def test_the_current_rows_are_counted_in_one_pass(tmp_path: Path) -> None:
    """However many windows, segments and columns; the look for ids takes 20,000 rows more."""
    current = _Watched(opened(events(96, 50), tmp_path / "a.parquet"))
    reference = opened(events(96, 50, seed=2), tmp_path / "r.parquet")

    drift_report(current, reference, windows=HOURS, by=["team", "kind"])  # type: ignore[arg-type]  # a source by its methods

    assert sum("time" in columns for columns in current.passes) == 1


def test_infinities_and_missing_values_have_bins(tmp_path: Path) -> None:
    """NaN is no value, infinity the outermost bin; neither makes a number that means nothing."""
    frame = events(72, 50)
    place = pl.int_range(pl.len())
    frame = frame.with_columns(
        size=pl.when(place % 10 == 0)
        .then(float("inf"))
        .when(place % 10 == 1)
        .then(float("nan"))
        .otherwise(pl.col("size")),
        nothing=pl.lit(None, dtype=pl.Float64),
        constant=pl.lit(5),
    )

    heat = drift_report(opened(frame, tmp_path / "a.parquet"), windows=DAYS)

    assert {row.column for row in heat.rows} == {"size", "kind", "team", "constant"}
    assert heat.verdict is Verdict.STABLE
    for cell in heat.cells():
        assert cell.psi is None or np.isfinite(cell.psi)
    assert {cell.psi for cell in _cells(heat, "constant")[1:]} == {0.0}


def test_a_missing_column_of_a_window_is_drift_to_missing(tmp_path: Path) -> None:
    """A field that is no longer sent is a change, told as `no value`."""
    frame = events(72, 50).with_columns(size=pl.when(pl.col("hour") < 48).then(pl.col("size")))

    heat = drift_report(opened(frame, tmp_path / "a.parquet"), windows=DAYS, columns=["size"])

    assert _cells(heat, "size")[-1].moved == "no value: 0 % → 100 %"


def test_requests_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    """Each names what is wrong and what to write."""
    source = opened(events(48, 20), tmp_path / "a.parquet")

    def refused(message: str, kind: type[Exception] = UsageError, **options: Any) -> None:
        with pytest.raises(kind, match=message) as caught:
            drift_report(source, **{"windows": DAYS, **options})
        assert getattr(caught.value, "hint", None)

    refused("no reference", against="reference")
    refused("together with the window before", reference=source, against="previous")
    refused("twice", by=["team", "team"])
    refused("no dimension 'tean'", by=["tean"])
    refused("unknown column 'sise'", kind=SchemaError, columns=["sise"])
    refused(
        "windows of 10s from 2026-11-02 to 2026-11-03, more than 5,000",
        windows=Windows("10s", "time"),
    )
    refused("no same hours", windows=Windows("5h", "time"), same_hour_of_week=True)
    refused("no rows", kind=NotEnoughDataError, where=since("2030-01-01"))


def test_too_many_cells_are_refused_before_they_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit counts windows, columns and segments."""
    monkeypatch.setattr("pyflare_analysis.drift.report.report.MAX_CELLS", 100)
    source = opened(events(48, 20), tmp_path / "a.parquet")

    with pytest.raises(UsageError, match=r"441 cells \(49 windows, 3 columns, 2 segments\)"):
        drift_report(source, windows=HOURS, by=["team"])


def test_no_rows_at_all_is_not_stable(tmp_path: Path) -> None:
    """An empty table, one without a time in any row, one row, a reference of nine rows."""
    frame = events(24, 2)
    full = opened(frame, tmp_path / "full.parquet")
    timeless = frame.with_columns(time=pl.lit(None, dtype=pl.Datetime("ns", "UTC")))
    for name, table in (("empty", frame.head(0)), ("timeless", timeless)):
        with pytest.raises(NotEnoughDataError):
            drift_report(opened(table, tmp_path / f"{name}.parquet"), full, windows=DAYS)
    one = drift_report(opened(frame.head(1), tmp_path / "one.parquet"), full, windows=DAYS)
    assert one.verdict is Verdict.INSUFFICIENT
    few = opened(frame.head(9), tmp_path / "few.parquet")
    assert drift_report(full, few, windows=DAYS).verdict is Verdict.INSUFFICIENT


def test_the_column_of_times_is_found_or_asked_for() -> None:
    """Start_time, else the only one; otherwise the message lists them."""
    both = {"a": "timestamp_ns", "b": "timestamp_ns", "n": "int64"}
    assert time_column({"x": "string", "start_time": "timestamp_ns", **both}) == "start_time"
    assert time_column({"b": "timestamp_ns", "n": "int64"}) == "b"
    assert time_column(both, "a") == "a"
    for types, asked, message in (
        (both, None, "a, b"),
        ({"n": "int64"}, None, "no column holds times"),
        (both, "n", "int64"),
        (both, "c", "unknown column 'c'"),
    ):
        with pytest.raises(SchemaError, match=message) as caught:
            time_column(types, asked)
        assert caught.value.hint


@pytest.mark.parametrize(("hours", "length"), [(5, "1h"), (24 * 9, "1d"), (24 * 200, "1w")])
def test_windows_fit_the_time_covered(tmp_path: Path, hours: int, length: str) -> None:
    """Up to two days by the hour, half a year by the day."""
    assert fitting_length(opened(events(hours, 1), tmp_path / "a.parquet"), "time") == length
