"""Slices: counts that a group-by confirms, causes and nothing else, thin data refused."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pyflare_analysis.rca import block_store, coded
from pyflare_analysis.rca.metrics import outcome_metric
from pyflare_analysis.rca.slices.analyzer import (
    SliceAnalysis,
    SliceAnalysisResult,
    SliceAnalyzer,
    SliceAnalyzerConfig,
    SliceDimension,
    SliceMetric,
)
from pyflare_analysis.statistics import newcombe_interval
from pyflare_proto.errors import NotEnoughDataError, UsageError
from pyflare_storage.source import open_source

NAMES = ("a", "b", "c", "d")


def table(n: int = 20_000, seed: int = 1, sizes: tuple[int, ...] = (3, 4, 5, 6)) -> pl.DataFrame:
    """Return rows of four dimensions, fair coins of 5 % as outcome, and a lognormal value."""
    rng = np.random.default_rng(seed)
    columns = {
        name: [f"{name}{code}" for code in rng.integers(0, size, n)]
        for name, size in zip(NAMES, sizes, strict=True)
    }
    return pl.DataFrame(
        {**columns, "bad": rng.random(n) < 0.05, "value": rng.lognormal(3.0, 0.8, n)}
    )


def planted(frame: pl.DataFrame, rate: float, seed: int = 2, **where: str) -> pl.DataFrame:
    """Return the rows with another rate of bad ones in a slice."""
    inside = pl.all_horizontal([pl.col(name) == value for name, value in where.items()])
    drawn = pl.Series(np.random.default_rng(seed).random(frame.height) < rate)
    return frame.with_columns(pl.when(inside).then(drawn).otherwise(pl.col("bad")).alias("bad"))


def analyze(
    path: Path,
    frame: pl.DataFrame,
    outcome: str = "bad",
    metric: str | None = None,
    limit: int = 10,
    **config: object,
) -> SliceAnalysis:
    """Return the answer over a table with the four dimensions."""
    frame.write_parquet(path / "table.parquet")
    with open_source(path / "table.parquet") as source:
        analyzer = SliceAnalyzer(
            source,
            SliceAnalyzerConfig(**{"depth": 3, **config}),  # type: ignore[arg-type]  # as given
            dimensions=[name for name in frame.columns if name not in {"bad", "value"}],
        )
        return analyzer.analyze(outcome_metric(source, outcome, metric=metric), limit=limit)


def test_every_slice_counts_what_a_group_by_counts(tmp_path: Path) -> None:
    """Rows and bad rows of all 1-, 2- and 3-way slices equal Polars' own, to the last row."""
    frame = table(6000)
    answer = analyze(
        tmp_path,
        frame,
        limit=10_000,
        causes_only=False,
        alpha=0.999999,
        min_effect=0.0,
        min_samples=2,
        min_support=0.0,
    )

    for result in answer.slices:
        inside = frame.filter(**dict(result.definition))
        assert result.sample_count == inside.height
        assert result.metric_value == pytest.approx(inside["bad"].mean())
    assert len(answer.slices) > 100
    # 3+4+5+6 values, 12+15+18+20+24+30 pairs and 60+72+90+120 triples, all large enough.
    assert answer.slices_tested == 18 + 119 + 342


@pytest.mark.parametrize(
    "where", [{"a": "a1"}, {"b": "b2", "d": "d3"}, {"a": "a0", "b": "b1", "c": "c4"}], ids=str
)
def test_a_planted_slice_is_the_only_one_listed(tmp_path: Path, where: dict[str, str]) -> None:
    """Not the slices within it, nor those that contain it or cross it."""
    answer = analyze(tmp_path, planted(table(), 0.35, **where))

    (result,) = answer.slices
    assert result.definition == where
    assert result.is_statistically_significant
    assert result.impact_score == pytest.approx(1.0)


def test_several_causes_are_told_apart(tmp_path: Path) -> None:
    """Two slices that overlap are both listed, and share the deviation."""
    frame = planted(planted(table(40_000), 0.3, a="a1", b="b1"), 0.4, seed=5, c="c2", d="d2")

    answer = analyze(tmp_path, frame)

    found = {tuple(sorted(result.definition.items())) for result in answer.slices}
    assert found == {(("a", "a1"), ("b", "b1")), (("c", "c2"), ("d", "d2"))}
    assert sum(result.impact_score for result in answer.slices) == pytest.approx(1.0)


def test_noise_has_no_causes(tmp_path: Path) -> None:
    """Twenty tables of 479 slices each without any effect: nothing is listed in any."""
    listed = [analyze(tmp_path, table(4000, seed)).slices for seed in range(20)]

    assert sum(map(bool, listed)) == 0


def test_figures_of_a_slice_by_hand(tmp_path: Path) -> None:
    """30 of 200 against 40 of 800: rates, Newcombe's interval, the score test, impact.

    z = (.15 - .05) / sqrt(.07 * .93 * (1/200 + 1/800)) = 4.957, two-sided p = 7.1e-7; the
    smallest expected count is 14, so Fisher's exact test decides: p = 6.0e-6 (twice the tail).
    """
    frame = pl.DataFrame(
        {
            "a": ["x"] * 200 + ["y"] * 800,
            "bad": [True] * 30 + [False] * 170 + [True] * 40 + [False] * 760,
        }
    )

    (result,) = analyze(tmp_path, frame).slices

    low, high = newcombe_interval(30, 200, 40, 800)
    assert (result.sample_count, result.baseline_count) == (200, 800)
    assert (result.metric_value, result.baseline_value) == (0.15, 0.05)
    assert result.deviation == pytest.approx(0.10)
    assert result.deviation_percentage == pytest.approx(200)
    assert (result.ci_low, result.ci_high) == (pytest.approx(low), pytest.approx(high))
    from scipy.stats import hypergeom

    assert result.p_value == pytest.approx(2 * hypergeom.sf(29, 1000, 70, 200))
    # Two slices were looked at, x and y, with the same p-value.
    assert result.q_value == pytest.approx(result.p_value)


def test_the_same_rows_by_another_name_are_told_once(tmp_path: Path) -> None:
    """A dimension that repeats another gives no second cause, but an equivalent definition."""
    frame = planted(table(), 0.3, a="a2").with_columns(e=pl.col("a").str.replace("a", "team-"))

    (result,) = analyze(tmp_path, frame).slices

    assert dict(result.definition) == {"a": "a2"}
    assert [dict(item) for item in result.equivalent] == [{"e": "team-2"}]


def test_null_is_a_value_of_its_own(tmp_path: Path) -> None:
    """Rows without a value of a dimension are a slice, shown as null."""
    frame = planted(table(), 0.3, a="a2").with_columns(
        pl.when(pl.col("a") != "a2").then(pl.col("a")).alias("a")
    )

    (result,) = analyze(tmp_path, frame).slices

    assert dict(result.definition) == {"a": None}


def test_numbers_are_binned_and_neighbouring_bins_joined(tmp_path: Path) -> None:
    """A cause from the 80th percentile of a number on is one slice, of an open range."""
    rng = np.random.default_rng(4)
    size = rng.lognormal(6, 1, 20_000)
    cut = float(np.quantile(size, 0.6))
    frame = table().with_columns(size=pl.Series(size)).drop("d")
    frame = frame.with_columns(bad=pl.Series(rng.random(20_000) < np.where(size > cut, 0.2, 0.02)))

    (result,) = analyze(tmp_path, frame).slices

    (label,) = result.definition.values()
    assert str(label).startswith(">= ")
    assert float(str(label).removeprefix(">= ")) == pytest.approx(cut, rel=0.05)
    assert result.sample_count == pytest.approx(8000, rel=0.05)


def test_means_and_quantiles_are_exact(tmp_path: Path) -> None:
    """A slice of three times the value: mean, median and p95 are NumPy's, with intervals."""
    frame = table()
    frame = frame.with_columns(
        value=pl.when(pl.col("b") == "b3").then(pl.col("value") * 3).otherwise(pl.col("value"))
    )
    inside = frame.filter(b="b3")["value"].to_numpy()
    rest = frame.filter(pl.col("b") != "b3")["value"].to_numpy()

    for metric, figure in (
        (None, np.mean),
        ("latency_p50", np.median),
        ("latency_p95", lambda x: np.quantile(x, 0.95)),
    ):
        (result,) = analyze(tmp_path, frame, "value", metric).slices

        assert dict(result.definition) == {"b": "b3"}
        assert result.metric_value == pytest.approx(figure(inside))
        assert result.baseline_value == pytest.approx(figure(rest))
        assert result.ci_low < result.deviation < result.ci_high
        assert result.ci_low > 0


def test_the_interval_of_a_skewed_mean_covers(tmp_path: Path) -> None:
    """Of 100 tables without an effect about 95 intervals of the difference hold 0."""
    held = 0
    for seed in range(100):
        frame = table(800, seed).select("a", "value")
        frame.write_parquet(tmp_path / "t.parquet")
        with open_source(tmp_path / "t.parquet") as source:
            analyzer = SliceAnalyzer(source)
            results = analyzer.analyze_dimension("", "a", outcome_metric(source, "value"))
        held += results[0].ci_low <= 0 <= results[0].ci_high
    # The worst of three values is looked at, so fewer than 95 are expected: 0.95^3 = 86 %.
    assert held >= 78


@pytest.mark.parametrize(("outcome", "metric"), [("bad", None), ("value", "latency_p95")])
@pytest.mark.parametrize("room", [True, False])
def test_rows_are_kept_on_disk_without_changing_the_answer(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    outcome: str,
    metric: str | None,
    *,
    room: bool,
) -> None:
    """Rows beyond memory go to a file, or are read again: the same answer to the last digit."""
    frame = planted(table(), 0.3, a="a1", c="c1")
    kept = analyze(tmp_path, frame, outcome, metric).to_dict()

    monkeypatch.setattr(block_store, "_MEMORY_BYTES", 0)
    monkeypatch.setattr(coded, "_BLOCK_ROWS", 1000)
    if not room:
        monkeypatch.setattr(tempfile, "TemporaryFile", _full_disk)

    assert analyze(tmp_path, frame, outcome, metric).to_dict() == kept


def _full_disk(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def test_rare_values_are_let_go_without_changing_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dimension of ever new values is counted in bounded memory; its frequent ones stay."""
    frame = planted(table(), 0.3, a="a1", c="c1")
    number = pl.int_range(pl.len())
    frame = frame.with_columns(
        e=pl.when(number % 3 > 0).then(pl.format("e{}", number % 3)).otherwise(number.cast(str))
    )
    kept = analyze(tmp_path, frame).to_dict()

    monkeypatch.setattr(coded, "_BLOCK_ROWS", 1000)
    monkeypatch.setattr(coded, "_TABLE_VALUES", 2000)
    monkeypatch.setattr(coded, "_MOST_PARTS", 1)

    assert analyze(tmp_path, frame).to_dict() == kept


def test_sampled_rows_count_by_their_weight(tmp_path: Path) -> None:
    """Good rows kept with probability 1/10 stand for ten: rates are those before sampling."""
    frame = planted(table(40_000), 0.4, a="a1", b="b1")
    rng = np.random.default_rng(9)
    kept = frame["bad"].to_numpy() | (rng.random(frame.height) < 0.1)
    sampled = frame.with_columns(
        sampling_probability=pl.when("bad").then(1.0).otherwise(0.1)
    ).filter(pl.Series(kept))
    truth = frame.filter(a="a1", b="b1")["bad"].mean()

    def run(*, weighted: bool) -> SliceAnalysisResult:
        sampled.write_parquet(tmp_path / "s.parquet")
        with open_source(tmp_path / "s.parquet") as source:
            config = SliceAnalyzerConfig(weighted=weighted)
            analyzer = SliceAnalyzer(source, config, dimensions=NAMES)
            (result,) = analyzer.analyze(outcome_metric(source, "bad")).slices
        return result

    weighted, stored = run(weighted=True), run(weighted=False)

    assert dict(weighted.definition) == dict(stored.definition) == {"a": "a1", "b": "b1"}
    assert weighted.metric_value == pytest.approx(truth, abs=0.02)
    assert stored.metric_value > 0.8
    assert weighted.effective_count < weighted.sample_count == stored.effective_count


def test_lower_is_worse_where_it_is_asked_for(tmp_path: Path) -> None:
    """With --worse lower the slice with fewer is listed, and none with more."""
    from dataclasses import replace

    frame = planted(planted(table(), 0.3, b="b1", c="c1"), 0.0, a="a1")
    frame.write_parquet(tmp_path / "t.parquet")
    with open_source(tmp_path / "t.parquet") as source:
        metric = replace(outcome_metric(source, "bad"), worse="lower")
        found = SliceAnalyzer(source, dimensions=NAMES).analyze(metric).slices

    assert {"a": "a1"} in [dict(result.definition) for result in found]
    assert all(result.deviation < 0 for result in found)


def thin(path: Path, frame: pl.DataFrame) -> NotEnoughDataError:
    """Return the refusal of a table."""
    with pytest.raises(NotEnoughDataError) as caught:
        analyze(path, frame)
    return caught.value


CASES: dict[str, tuple[Callable[[], pl.DataFrame], str, str]] = {
    "no rows": (lambda: table(0), "no rows", "widen"),
    "ten rows": (lambda: table(10), "10 rows", "at least 50 more"),
    "one value": (
        lambda: table(1000, sizes=(1, 1, 1, 1)),
        "same value in every dimension (a=a0",
        "--dimension",
    ),
    "none bad": (
        lambda: table(1000).with_columns(bad=pl.lit(False)),
        "none of them bad",
        "below 0.38 % with 95 % confidence",
    ),
    "all bad": (lambda: table(1000).with_columns(bad=pl.lit(True)), "all the same", "--since"),
    "two bad": (
        lambda: table(1000).with_columns(bad=pl.int_range(1000) < 2),
        "2 of them bad: no slice could be told from chance",
        "at least 3 bad rows",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_thin_data_says_what_would_be_needed(tmp_path: Path, case: str) -> None:
    """Too little to tell is an error of its own, with the number that is missing."""
    make, message, hint = CASES[case]

    error = thin(tmp_path, make())

    assert message in error.message
    assert hint in (error.hint or "")


def test_figures_out_of_range_are_refused() -> None:
    """Each setting names its range."""
    for wrong in ({"depth": 4}, {"alpha": 0.0}, {"bins": 1}, {"min_support": 1.0}):
        with pytest.raises(UsageError, match=next(iter(wrong)).replace("_", "-")):
            SliceAnalyzerConfig(**wrong)  # type: ignore[arg-type]  # on purpose


def test_names_are_those_of_the_seed() -> None:
    """The dimensions and metrics that people know are all there."""
    assert {d.name for d in SliceDimension} >= {
        *("MODEL", "USER", "FEATURE", "INPUT_LENGTH", "OUTPUT_LENGTH", "LATENCY"),
        *("TIME_OF_DAY", "DAY_OF_WEEK", "PROMPT_TEMPLATE", "PROVIDER", "ENVIRONMENT", "CUSTOM"),
    }
    assert {m.name for m in SliceMetric} >= {
        *("ERROR_RATE", "LATENCY_P50", "LATENCY_P95", "LATENCY_P99", "COST", "TOKEN_USAGE"),
        *("TOXICITY_RATE", "HALLUCINATION_RATE", "DRIFT_SCORE", "CUSTOM"),
    }
