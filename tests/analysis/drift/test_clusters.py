"""Design effects: what dependent rows are worth, and that the report takes it into account."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pyflare_analysis.drift.profiles.rows import as_rows
from pyflare_analysis.drift.psi.answer import PSIAnswer, compare_columns, fit_reference
from pyflare_analysis.drift.report.clusters import design_effect
from pyflare_analysis.drift.report.report import drift_report
from pyflare_analysis.drift.report.windows import Windows
from pyflare_analysis.drift.univariate.answer import examine_columns
from pyflare_analysis.drift.univariate.columns import UnivariateConfig
from pyflare_proto.errors import SchemaError
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


def test_psi_refuses_a_cluster_that_is_not_there() -> None:
    """The default may be absent, another column may not."""
    rows = as_rows(_told(1, 1))
    profile, _ = fit_reference(rows, ["size"])

    with pytest.raises(SchemaError, match="unknown column 'trace' for --cluster"):
        compare_columns(profile, rows, ["size"], cluster="trace")
    without = as_rows(_told(1, 1).drop("trace_id"))
    assert compare_columns(profile, without, ["size"]).cluster is None
