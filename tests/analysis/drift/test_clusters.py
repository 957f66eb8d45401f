"""Design effects: what dependent rows are worth, and that the report takes it into account."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pyflare_analysis.drift.clusters.effects import design_effect, function_effect
from pyflare_analysis.drift.profiles.profile import Profile, merge_profiles
from pyflare_analysis.drift.profiles.rows import Rows, as_rows
from pyflare_analysis.drift.psi.answer import PSIAnswer, compare_columns, fit_reference
from pyflare_analysis.drift.report.report import drift_report
from pyflare_analysis.drift.report.windows import Windows
from pyflare_analysis.drift.univariate.answer import examine_columns
from pyflare_analysis.drift.univariate.columns import UnivariateConfig
from pyflare_proto.errors import InvalidDataError, SchemaError
from pyflare_storage.expressions import Timestamp, col
from tests.analysis.drift.report_tables import events, opened

SHARES = [0.4, 0.3, 0.2, 0.1]


def _one_each(rng: np.random.Generator, rows: int) -> np.ndarray:
    return rng.multinomial(1, SHARES, rows).astype(float)


def test_independent_rows_are_worth_themselves() -> None:
    """By hand: clusters of one row give sum_b (1 - p_b) / (B - 1) = 1, whatever the shares."""
    rng = np.random.default_rng(1)

    assert design_effect(_one_each(rng, 5000)) == pytest.approx(1.0, abs=1e-12)
    mixed = _one_each(rng, 6000).reshape(2000, 3, 4).sum(axis=1)
    assert design_effect(mixed) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("times", [2, 5])
def test_a_row_told_k_times_is_worth_one(times: int) -> None:
    """The effective number is the number of different rows."""
    rows = _one_each(np.random.default_rng(1), 2000) * times

    assert design_effect(rows) == pytest.approx(times, rel=1e-9)


@pytest.mark.parametrize("times", [1, 2, 5])
def test_functions_of_rows_told_k_times_are_worth_one(times: int) -> None:
    """Where all rows of a cluster are equal both effects are its size."""
    rows = _one_each(np.random.default_rng(1), 4000) * times

    assert function_effect(rows) == pytest.approx(times, rel=1e-9)


def test_an_effect_on_functions_by_hand() -> None:
    """Two clusters of two rows, one low and one high: (2 - 1)^2 + (0 - 1)^2 over 4/4 is 2."""
    assert function_effect(np.array([[2.0, 0.0], [0.0, 2.0]])) == pytest.approx(2.0)
    # Four bins, a cluster in the lower two and one in the upper: still 2, and 4/3 on shares.
    spread = np.array([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]] * 100)
    assert function_effect(spread) == pytest.approx(2.0)
    assert design_effect(spread) == pytest.approx(2 / 3 * 2, rel=0.26)
    assert function_effect(np.ones((5, 1))) == 1.0


def test_rare_bins_count_together_and_one_bin_is_nothing() -> None:
    """Forty bins of one cluster of ten rows each decide nothing by themselves."""
    counts = np.zeros((1040, 42))
    counts[:600, 0] = counts[600:1000, 1] = 1
    counts[1000 + np.arange(40), 2 + np.arange(40)] = 10

    assert design_effect(counts) == pytest.approx(1.0 + 9 * (1 - 400 / 1400) / 2, rel=0.01)
    assert design_effect(np.ones((10, 1))) == 1.0


def test_calls_of_one_trace_are_no_evidence_of_their_own(tmp_path: Path) -> None:
    """Each event is told eight times: p-values are those of one telling, and stay level.

    Taken for independent, unchanged traffic is called drift in many windows.
    """
    frame = events(240, 12, seed=3).with_row_index("trace_id")
    frame = frame.with_columns(pl.col("trace_id").cast(pl.String))
    told = pl.concat([frame] * 8).sort("time")
    source = opened(told, tmp_path / "a.parquet")
    windows = Windows("6h", "time")

    naive = drift_report(source, windows=windows, columns=["size", "kind"], cluster=None)
    known = drift_report(source, windows=windows, columns=["size", "kind"])

    small = [cell.p_value <= 0.05 for cell in known.cells() if cell.p_value is not None]
    assert len([cell for cell in naive.cells() if cell.is_drift]) > 10
    assert known.figures()["drift_cells"] == 0
    assert sum(small) <= 0.15 * len(small)


def test_any_column_may_tell_what_belongs_together(tmp_path: Path) -> None:
    """A user who sends the same thing again and again is one user."""
    frame = events(240, 12, seed=3).with_columns(user=pl.int_range(pl.len()).cast(pl.String))
    source = opened(pl.concat([frame] * 8).sort("time"), tmp_path / "a.parquet")

    heat = drift_report(
        source, windows=Windows("6h", "time"), columns=["size", "kind"], cluster="user"
    )

    assert heat.figures()["drift_cells"] == 0


def _told(seed: int, times: int) -> pl.DataFrame:
    """Return 150 unchanged traces, each told so many times."""
    frame = events(50, 3, seed=seed).with_row_index("trace_id")
    return pl.concat([frame.with_columns(pl.col("trace_id").cast(pl.String))] * times)


def _psi(seed: int, times: int, cluster: str | None = "trace_id") -> PSIAnswer:
    names = ["size", "kind"]
    profile, _ = fit_reference(as_rows(_told(seed, times)), names)
    return compare_columns(profile, as_rows(_told(1000 + seed, times)), names, cluster=cluster)


def test_psi_takes_calls_of_one_trace_for_one() -> None:
    """60 unchanged tables of traces told six times: alarms at the level, far above it without."""
    known = [_psi(seed, 6) for seed in range(60)]
    naive = [_psi(seed, 6, cluster=None) for seed in range(60)]

    small = [
        [c.p_value[0] <= 0.05 for a in answers for c in a.columns] for answers in (known, naive)
    ]
    assert sum(small[0]) <= 12  # of 120; binomial(120, 0.05) is above it once in 100
    assert sum(small[1]) >= 60
    assert all(effect == pytest.approx(6, rel=0.2) for a in known for effect in a.effects.values())


def test_psi_of_traces_of_one_call_is_that_of_rows() -> None:
    """Where no trace has two calls the design effect is 1, but for chance."""
    known, naive = _psi(1, 1), _psi(1, 1, cluster=None)

    assert known.effects == {"size": 1.0, "kind": 1.0}
    assert known.to_dict() == {**naive.to_dict(), "cluster": "trace_id"}


def test_more_rows_are_needed_where_they_are_clustered() -> None:
    """The number of rows from which a PSI is significant counts rows, not traces."""
    known, naive = _psi(2, 6), _psi(2, 6, cluster=None)

    for column in known.columns:
        other = next(c for c in naive.columns if c.name == column.name)
        assert column.psi[0] == other.psi[0]
        assert column.critical_value[0] == pytest.approx(
            other.critical_value[0] * known.effects[column.name]
        )
        assert column.minimum_count[0] > 3 * other.minimum_count[0]


def test_univariate_tests_take_calls_of_one_trace_for_one() -> None:
    """40 unchanged tables of traces told six times: each test alarms at the level."""
    names = ["size", "kind"]
    config = UnivariateConfig(bootstraps=0)
    alarms: dict[tuple[str, str | None], int] = {}
    for seed in range(40):
        sides = [as_rows(_told(start + seed, 6)) for start in (0, 1000)]
        for cluster in ("trace_id", None):
            answer = examine_columns(sides[0], sides[1], names, config=config, cluster=cluster)
            for row in answer.rows():
                key = str(row["test"]), cluster
                alarms[key] = alarms.get(key, 0) + (row["p_value"] <= 0.05)
                assert row["design_effect"] == (pytest.approx(6, rel=0.2) if cluster else 1.0)
    # Of 40, of `js` 80: binomial(40, 0.05) exceeds 7 once in 1,000, binomial(80, 0.05) 11.
    for test in ("ks", "wasserstein", "js", "chi2"):
        assert alarms[test, "trace_id"] <= (11 if test == "js" else 7), test
        assert alarms[test, None] >= 15, test


def _sessions(seed: int) -> pl.DataFrame:
    """Return 4,000 sessions of ten rows, each of one of 1,500 users."""
    users = np.random.default_rng(seed).integers(0, 1500, 4000)
    each = pl.DataFrame({"trace_id": np.arange(4000), "user": users}).cast(pl.String)
    return pl.concat([each] * 10)


def test_thousands_of_categories_in_clusters_raise_no_alarm() -> None:
    """A category that a few sessions lifted above the limit is not found fallen later."""
    alarms = {"psi": 0, "js": 0, "chi2": 0}
    config = UnivariateConfig(tests=("js", "chi2"))
    for seed in range(0, 24, 2):
        sides = as_rows(_sessions(seed)), as_rows(_sessions(seed + 1))
        profile, _ = fit_reference(sides[0], ["user"])
        answer = compare_columns(profile, sides[1], ["user"])
        alarms["psi"] += answer.columns[0].p_value[0] <= 0.05
        assert answer.effects["user"] == pytest.approx(10, rel=0.05)
        for row in examine_columns(*sides, ["user"], config=config).rows():
            alarms[str(row["test"])] += row["p_value"] <= 0.05

    assert max(alarms.values()) <= 4  # binomial(12, 0.05) exceeds it twice in 10,000


def _of_users(rng: np.random.Generator, rows: int, users: int = 500) -> Rows:
    """Return rows of users in any order; each user has models and sizes of their own."""
    user = rng.integers(0, users, rows)
    shares = rng.dirichlet(np.full(5, 0.7), users).cumsum(axis=1)
    model = (rng.random(rows)[:, None] > shares[user]).sum(axis=1)
    size = rng.normal(size=rows) + rng.normal(size=users)[user]
    return as_rows(pl.DataFrame({"user_id": user, "model": model.astype(str), "size": size}))


@pytest.mark.parametrize(("before", "now"), [(30_000, 30_000), (60_000, 10_000)])
def test_users_all_over_the_rows_are_whole_clusters(before: int, now: int) -> None:
    """Other users each time, unchanged: every test keeps its level, also for sides unlike.

    The first 20,000 rows alone would make of each user a cluster of a few rows, and one effect
    for both sides would take the rows of the longer one for more than they are worth.
    """
    alarms: dict[str, int] = {}
    config = UnivariateConfig(bootstraps=0)
    for seed in range(20):
        rng = np.random.default_rng([5, seed])
        sides = _of_users(rng, before), _of_users(rng, now)
        profile, _ = fit_reference(sides[0], ["model", "size"], cluster="user_id")
        answer = compare_columns(profile, sides[1], cluster="user_id")
        for column in answer.columns:
            name = f"psi of {column.name}"
            alarms[name] = alarms.get(name, 0) + int(column.p_value[0] <= 0.05)
            excess = [e[column.name] - 1 for e in (answer.reference_effects, answer.effects)]
            assert excess[0] / excess[1] == pytest.approx(before / now, rel=0.3)
        tested = examine_columns(*sides, ["model", "size"], config=config, cluster="user_id")
        for row in tested.rows():
            name = f"{row['test']} of {row['column']}"
            alarms[name] = alarms.get(name, 0) + int(row["p_value"] <= 0.05)

    assert len(alarms) == 7
    assert max(alarms.values()) <= 5, alarms  # binomial(20, 0.05): above three times in 10,000


def test_a_saved_reference_keeps_its_design_effects(tmp_path: Path) -> None:
    """They are those of the reference's rows; of another column, and of merged shards, unknown."""
    rng = np.random.default_rng(3)
    profile, _ = fit_reference(_of_users(rng, 40_000), ["size"], cluster="user_id")
    current = _of_users(rng, 4000)
    profile.save(tmp_path / "p.json")

    loaded = Profile.load(tmp_path / "p.json")
    answer = compare_columns(loaded, current, cluster="user_id")
    other = compare_columns(loaded, current, cluster="model")
    merged = compare_columns(merge_profiles([loaded, loaded]), current, cluster="user_id")

    assert answer.to_dict() == compare_columns(profile, current, cluster="user_id").to_dict()
    assert answer.rows()[0]["reference_design_effect"] > 3 * answer.rows()[0]["design_effect"]
    for unknown in (other, merged):
        assert unknown.reference_effects == unknown.effects


def test_a_reference_saved_without_design_effects_is_read(tmp_path: Path) -> None:
    """As by versions that did not keep them."""
    profile, _ = fit_reference(as_rows(_told(1, 2)), ["size"])
    profile.save(tmp_path / "p.json")
    document = json.loads((tmp_path / "p.json").read_text())
    del document["cluster"], document["columns"][0]["design_effect"]
    (tmp_path / "p.json").write_text(json.dumps(document))

    answer = compare_columns(Profile.load(tmp_path / "p.json"), as_rows(_told(2, 2)))

    assert answer.reference_effects == answer.effects
    assert answer.effects["size"] == pytest.approx(2, rel=0.2)


@pytest.mark.parametrize("effect", [-1.0, 0.5, math.inf, math.nan])
def test_a_saved_design_effect_that_is_none_is_damage(tmp_path: Path, effect: float) -> None:
    """Whatever wrote it, it would make numbers that mean nothing."""
    profile, _ = fit_reference(as_rows(_told(1, 2)), ["size"])
    profile.save(tmp_path / "p.json")
    document = json.loads((tmp_path / "p.json").read_text())
    document["columns"][0]["design_effect"] = effect
    (tmp_path / "p.json").write_text(json.dumps(document))

    with pytest.raises(InvalidDataError, match="damaged"):
        Profile.load(tmp_path / "p.json")


def test_a_report_counts_the_rows_of_a_user_window_by_window(tmp_path: Path) -> None:
    """Hundreds of users who come again every day: unchanged, whatever the window is beside."""
    rng = np.random.default_rng(8)
    hours = pl.datetime_range(
        pl.datetime(2026, 3, 2), pl.datetime(2026, 3, 29, 23), "1h", eager=True, time_zone="UTC"
    ).cast(pl.Datetime("ns", "UTC"))
    rows = _of_users(rng, 40_000, users=60).scan()
    frame = pl.concat(list(rows)).with_columns(
        user_id=pl.col("user_id").cast(pl.String),
        time=hours.gather(np.sort(rng.integers(0, len(hours), 40_000))),
    )
    source = opened(frame, tmp_path / "a.parquet")
    where = {"where": col("time") >= Timestamp(1_773_619_200_000_000_000)}  # 16 March
    before = {"reference_where": col("time") < Timestamp(1_773_619_200_000_000_000)}

    for options in ({}, {"same_hour_of_week": True}):
        for reference in (None, source):
            heat = drift_report(
                source,
                reference,
                windows=Windows("1d", "time"),
                columns=["model", "size"],
                cluster="user_id",
                **options,
                **(where | before if reference is not None else {}),
            )
            small = [c.p_value <= 0.05 for c in heat.cells() if c.p_value is not None]
            assert len(small) >= 20
            assert sum(small) <= 0.15 * len(small)


def test_psi_refuses_a_cluster_that_is_not_there() -> None:
    """The default may be absent, another column may not."""
    rows = as_rows(_told(1, 1))
    profile, _ = fit_reference(rows, ["size"])

    with pytest.raises(SchemaError, match="unknown column 'trace' for --cluster"):
        compare_columns(profile, rows, ["size"], cluster="trace")
    without = as_rows(_told(1, 1).drop("trace_id"))
    assert compare_columns(profile, without, ["size"]).cluster is None
