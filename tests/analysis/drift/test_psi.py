"""PSI: the number, its law, its verdict, and what each bin says."""

import math
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from scipy import stats

from pyflare_analysis.drift import (
    DriftDetector,
    PSIConfig,
    PSIDriftDetector,
    Verdict,
    count_rows,
    fit_profile,
    psi_columns,
)
from pyflare_analysis.drift.profiles.rows import as_rows
from pyflare_analysis.drift.psi.cells import join_gaps
from pyflare_proto.errors import InvalidDataError, NotFoundError, SchemaError, UsageError
from pyflare_storage.aggregates import TimeBucket
from pyflare_storage.expressions import col


def _column(reference: object, current: object, config: PSIConfig | None = None) -> dict:
    detector = PSIDriftDetector(config)
    detector.set_reference(reference)
    return detector.compute(current).details["columns"][0]


def _direct(reference: np.ndarray, current: np.ndarray, bins: int = 10) -> float:
    """PSI by a double loop over NumPy's quantile bins."""
    edges = np.quantile(reference, np.arange(1, bins) / bins)
    total = 0.0
    for i in range(bins):
        low = -math.inf if i == 0 else edges[i - 1]
        last = i == bins - 1
        p = sum(1 for x in reference if low <= x and (last or x < edges[i])) / len(reference)
        q = sum(1 for x in current if low <= x and (last or x < edges[i])) / len(current)
        p, q = max(p, 1e-10), max(q, 1e-10)
        total += (q - p) * math.log(q / p)
    return total


@pytest.mark.parametrize(("n", "m", "shift"), [(1000, 800, 0.3), (500, 500, 0.0), (300, 90, 2.0)])
def test_psi_equals_a_double_loop(n: int, m: int, shift: float) -> None:
    """To 1e-9, empty bins included."""
    rng = np.random.default_rng(n)
    reference, current = rng.normal(size=n), rng.normal(shift, 1, m)

    psi = PSIDriftDetector().compute_feature_psi(reference, current)

    assert psi == pytest.approx(_direct(reference, current), abs=1e-9)


def test_the_worked_example_of_the_docs() -> None:
    """100 calls at 50/30/20 against 100 at 30/30/40; by hand in docs/drift.md.

    (.3-.5) ln(.3/.5) + 0 + (.4-.2) ln(.4/.2) = 0.102165 + 0.138629 = 0.240794.
    """
    row = _column(["a"] * 50 + ["b"] * 30 + ["c"] * 20, ["a"] * 30 + ["b"] * 30 + ["c"] * 40)

    assert row["psi"] == pytest.approx(0.2407946, abs=1e-6)
    smoothed = {"a": (50.5, 30.5), "b": (30.5, 30.5), "c": (20.5, 40.5)}
    by_hand = sum((y - x) / 101.5 * math.log(y / x) for x, y in smoothed.values())
    assert row["psi_smoothed"] == pytest.approx(by_hand, abs=1e-12)
    assert row["psi_corrected"] == pytest.approx(by_hand - 2 * (1 / 100 + 1 / 100), abs=1e-12)
    parts = {part["category"]: part["contribution"] for part in row["bins"]}
    assert parts["a"] == pytest.approx(0.102165, abs=1e-6)
    assert parts["b"] == 0
    assert parts["c"] == pytest.approx(0.138629, abs=1e-6)


def test_contributions_add_up_to_both_values() -> None:
    """What moved is a part of the number that is shown."""
    rng = np.random.default_rng(0)
    row = _column(rng.normal(size=400), rng.normal(1, 1, 300))

    assert sum(b["contribution"] for b in row["bins"]) == pytest.approx(row["psi"])
    assert sum(b["contribution_smoothed"] for b in row["bins"]) == pytest.approx(
        row["psi_smoothed"]
    )


def test_an_empty_bin_is_a_cliff_for_epsilon_and_not_for_the_verdict() -> None:
    """A category of 1 % that vanishes: epsilon alone makes 0.18; the smoothed value is 0.05."""
    row = _column(["a"] * 9900 + ["b"] * 100, ["a"] * 10_000)

    assert row["psi"] == pytest.approx(0.01 * math.log(0.01 / 1e-10), rel=0.01)
    assert row["psi_smoothed"] == pytest.approx(0.053, abs=0.001)
    assert row["verdict"] == "stable"
    assert row["q_value"] < 1e-20  # the change is certain, and small


def test_epsilon_changes_psi_and_nothing_else() -> None:
    """The verdict rests on the smoothed value."""
    sides = (["a"] * 90 + ["b"] * 10, ["a"] * 100)
    rows = [_column(*sides, PSIConfig(epsilon=epsilon)) for epsilon in (1e-10, 1e-3)]

    assert rows[0].pop("psi") > rows[1].pop("psi")
    for row in rows:
        for part in row["bins"]:
            part.pop("contribution")
    assert rows[0] == rows[1]


def test_missing_values_are_a_bin_of_their_own() -> None:
    """Null and NaN alike: 2 % to 30 % missing is drift, and it says where."""
    rng = np.random.default_rng(1)
    reference = np.where(rng.random(1000) < 0.02, np.nan, rng.normal(size=1000))
    current = pl.Series([None if rng.random() < 0.3 else float(rng.normal()) for _ in range(1000)])

    row = _column(reference, current)

    worst = max(row["bins"], key=lambda part: part["contribution_smoothed"])
    assert row["verdict"] == "drift"
    assert worst["bin"] == "missing"
    assert worst["reference_count"] == np.isnan(reference).sum()


@pytest.mark.parametrize("value", [-math.inf, math.inf])
def test_a_reference_of_one_infinity_has_a_bin_for_it(value: float) -> None:
    """Whatever else comes is another value, on either side."""
    finite = np.arange(300.0) % 17

    for current in (finite, np.full(300, -value)):
        assert _column(np.full(300, value), current)["verdict"] == "drift"
    assert _column(np.full(300, value), np.full(300, value))["psi_smoothed"] == 0.0


def test_infinities_count_in_the_outer_bins() -> None:
    """One infinite value changes one bin by one row."""
    rng = np.random.default_rng(2)
    reference, current = rng.normal(size=500), rng.normal(size=500)
    current[np.argmax(current)] = np.inf

    row = _column(reference, current)

    assert sum(part["current_count"] for part in row["bins"]) == 500
    assert row["psi"] == pytest.approx(_direct(reference, current), abs=1e-9)


def test_an_outlier_hides_nothing() -> None:
    """Latency 1.5 times as long is drift with and without a value of 1e9."""
    rng = np.random.default_rng(3)
    reference, current = rng.lognormal(6, 0.5, 2000), 1.5 * rng.lognormal(6, 0.5, 2000)
    with_outlier = np.append(current, 1e9)

    plain, far = _column(reference, current), _column(reference, with_outlier)

    assert plain["verdict"] == far["verdict"] == "drift"
    assert far["psi"] == pytest.approx(plain["psi"], rel=0.01)


def test_ids_raise_no_alarm_whatever_the_sample_holds_by_chance() -> None:
    """Ids of the same law: no category is frequent enough, so there is nothing to say."""
    rng = np.random.default_rng(4)
    sides = [[f"u{i}" for i in rng.integers(0, 100_000, 800)] for _ in range(2)]

    row = _column(*sides)

    assert (row["verdict"], row["psi"]) == ("insufficient", 0.0)
    expected = row["unseen"]["expected_share"]
    assert row["unseen"]["share"] == pytest.approx(expected, abs=0.03)  # Good-Turing


def _zipf(seed: int, rows: int, kinds: int) -> list[str]:
    """Return names drawn with shares that fall as 1/rank."""
    weights = 1 / np.arange(1, kinds + 1)
    drawn = np.random.default_rng(seed).choice(kinds, rows, p=weights / weights.sum())
    return np.char.add("k", drawn.astype(str)).tolist()


@pytest.mark.parametrize(("n", "m", "kinds"), [(20_000, 20_000, 5000), (60_000, 10_000, 20_000)])
def test_thousands_of_categories_raise_no_alarm(n: int, m: int, kinds: int) -> None:
    """The profile keeps those of 0.1 %; its choice of them is not found fallen later."""
    rows = [_column(_zipf(seed, n, kinds), _zipf(seed + 1, m, kinds)) for seed in range(0, 80, 2)]

    assert {row["verdict"] for row in rows} == {"stable"}
    alarms = sum(row["p_value"] <= 0.05 for row in rows)
    assert alarms <= stats.binom.ppf(0.9999, 40, 0.05)


def test_a_frequent_one_of_thousands_that_appears_is_named() -> None:
    """Whatever the profile let go, 10 % of one value were not among it."""
    current = ["new" if i % 10 == 0 else name for i, name in enumerate(_zipf(1, 20_000, 5000))]

    row = _column(_zipf(0, 20_000, 5000), current)

    assert row["verdict"] == "drift"
    (named,) = [cell for cell in row["bins"] if cell["category"] == "new"]
    assert (named["bin"], named["reference_count"]) == ("new_category", 0)


def test_new_categories_have_bins_and_rare_ones_are_pooled() -> None:
    """A model of 3 % that appears is named; five that occur twice each are one bin."""
    rare = [f"rare{i}" for i in range(5) for _ in range(2)]
    row = _column(["a"] * 990 + rare, ["a"] * 960 + ["new"] * 30 + rare)

    bins = {(part["bin"], part["category"]): part for part in row["bins"]}
    assert bins["new_category", "new"]["current_count"] == 30
    assert bins["new_category", "new"]["reference_count"] == 0
    assert bins["other", None]["reference_count"] == 10
    assert row["unseen"] == {
        "count": 30, "share": 0.03, "expected_share": 0.0, "categories": ["new"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("reference", "current", "reason"),
    [
        ([1.0], [1.0, 2.0, 3.0], "the reference has 1 rows"),
        (list(range(9)), list(range(500)), "the reference has 9 rows"),
        (list(range(500)), [5.0], "1 current rows"),
        ([None] * 50, [None] * 50, "no values on either side"),
        (list(range(60)), list(range(60)), "would not be significant with so few rows"),
    ],
)
def test_too_little_is_insufficient_and_says_why(
    reference: list, current: list, reason: str
) -> None:
    """No number that means nothing: too few rows, no values, or too few to see the threshold."""
    row = _column(pl.Series(reference, dtype=pl.Float64), pl.Series(current, dtype=pl.Float64))

    assert row["verdict"] == "insufficient"
    assert reason in row["reason"]


def test_the_minimum_count_is_where_the_threshold_becomes_significant() -> None:
    """chi2_9(.95) = 16.919: with 1,000 of the reference m >= 1/(.2/16.919 - 1/1000) = 92.4."""
    rng = np.random.default_rng(6)
    reference = rng.normal(size=1000)

    few, enough = _column(reference, rng.normal(size=92)), _column(reference, rng.normal(size=93))

    assert few["minimum_current_count"] == enough["minimum_current_count"] == 93
    assert (few["verdict"], enough["verdict"]) == ("insufficient", "stable")


def test_values_beside_those_of_the_reference_count_once_chance_is_no_excuse() -> None:
    """One row of a new value says nothing, ten do; the number itself counts each."""
    reference = [1.0, 2.0, 3.0] * 40
    x, y = np.array([[0, 40, 0, 80, 0, 0]]), np.array([[0, 40, 1, 70, 9, 0]])
    single = np.array([False, True, False, True, False])

    assert join_gaps(x * 1.0, y * 1.0, single)[1].tolist() == [[0, 41, 0, 70, 9, 0]]
    one = _column(reference, [*reference[:-1], 4.0])
    ten = _column(reference, [*reference[:-10], *[4.0] * 10])
    assert one["p_value"] == 1.0
    assert ten["p_value"] < 0.01
    assert one["psi"] > 0
    assert one["bins"][-1]["current_count"] == 1


def test_constant_columns_are_stable_until_they_change() -> None:
    """Nothing to test where all is one value; a new value is drift."""
    same, other = _column([3] * 100, [3] * 100), _column([3] * 100, [3] * 50 + [4] * 50)

    assert (same["verdict"], same["psi"]) == ("stable", 0.0)
    assert math.isnan(same["p_value"])
    assert other["verdict"] == "drift"


def test_bands_and_threshold() -> None:
    """0.1 and 0.25 divide the severities; drift is above the threshold and significant."""
    reference = ["a"] * 5000 + ["b"] * 5000

    def row(share: int) -> dict:
        return _column(reference, ["a"] * share + ["b"] * (10_000 - share))

    small, middle, large = row(5500), row(6700), row(7500)

    assert [r["severity"] for r in (small, middle, large)] == ["none", "moderate", "significant"]
    assert [r["verdict"] for r in (small, middle, large)] == ["stable", "stable", "drift"]
    assert small["q_value"] < 1e-6  # significant and small


def test_q_values_are_over_the_columns() -> None:
    """Twenty unchanged columns: the smallest of 20 p-values alone would raise an alarm often."""
    alarms = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        sides = [{f"c{i}": rng.normal(size=300) for i in range(20)} for _ in range(2)]
        detector = PSIDriftDetector(PSIConfig(threshold=0.0))
        detector.set_reference(sides[0])
        alarms += detector.compute(sides[1]).is_drift

    assert alarms <= 5  # binomial(30, 0.05): P(more than 5) = 0.003


@pytest.mark.parametrize(
    ("draw", "n"),
    [
        (lambda rng, n: rng.normal(size=n), 50),
        (lambda rng, n: rng.pareto(0.8, n), 200),
        (lambda rng, n: np.where(rng.random(n) < 0.6, 0.0, rng.exponential(1, n)), 100),
        (lambda rng, n: rng.integers(0, 20, n).astype(float), 50),
        (lambda rng, n: [f"c{i}" for i in rng.zipf(1.5, n).clip(max=30)], 200),
    ],
    ids=["continuous", "heavy tail", "tied", "whole numbers", "categories"],
)
def test_false_alarms_are_as_rare_as_alpha_says(draw: object, n: int) -> None:
    """300 unchanged pairs each; benchmarks/drift_level.py does 1,000 of more kinds and sizes."""
    rng = np.random.default_rng(7)
    runs, alarms = 300, 0
    for seed in range(runs):
        p = _column(draw(rng, n), draw(rng, n), PSIConfig(random_seed=seed))["p_value"]
        alarms += p <= 0.05

    # 99.9 % of binomial(300, 0.05) lies within 4..29.
    assert 4 <= alarms <= 29


def test_the_interval_covers_the_true_psi() -> None:
    """PSI between N(0, 1) and N(0.5, 1) over decile bins is 0.2385."""
    rng = np.random.default_rng(8)
    covered = 0
    for _ in range(100):
        row = _column(rng.normal(size=1000), rng.normal(0.5, 1, 1000))
        covered += row["ci_low"] <= 0.2385 <= row["ci_high"]

    assert covered >= 88  # binomial(100, 0.95): P(fewer) = 0.003


def test_sampled_rows_are_weighted_and_the_law_knows() -> None:
    """Half of the rows stand for ten: shares are weighted, the effective size is smaller."""
    rng = np.random.default_rng(9)
    n = 2000
    probability = np.where(rng.random(n) < 0.5, 0.1, 1.0)
    frame = pl.DataFrame(
        {"model": np.where(probability < 1, "a", "b"), "sampling_probability": probability}
    )
    rows = as_rows(frame)

    profile = fit_profile(rows)
    stored = fit_profile(rows, weighted=False)

    sampled = int((probability < 1).sum())
    weight = 10 * sampled + (n - sampled)
    assert profile.weight == pytest.approx(weight)
    assert profile.effective == pytest.approx(weight**2 / (100 * sampled + (n - sampled)))
    assert dict(
        zip(profile.columns["model"].categories, profile.columns["model"].counts, strict=False)
    )["a"] == pytest.approx(10 * sampled)
    assert stored.weight == stored.effective == n


def test_windows_and_segments_are_counted_at_once() -> None:
    """Each group of two keys has the counts that its rows alone would have."""
    rng = np.random.default_rng(10)
    n = 3000
    frame = pl.DataFrame(
        {
            "at": pl.datetime_range(
                pl.datetime(2025, 1, 1), pl.datetime(2025, 1, 3), interval="1m", eager=True
            )[: n].dt.cast_time_unit("ns"),
            "x": rng.normal(size=2881)[:n],
            "model": rng.choice(["a", "b"], 2881)[:n],
        }
    )  # fmt: skip
    rows = as_rows(frame)
    profile = fit_profile(rows)

    counts = count_rows(profile, rows, by=[TimeBucket("at", "1d"), "model"])

    assert counts.rows.sum() == frame.height
    for i, (day, model) in enumerate(counts.keys.rows()):
        part = frame.filter(pl.col("at").dt.date() == day.date(), model=model)
        alone = count_rows(profile, as_rows(part))
        assert counts.rows[i] == part.height
        assert counts.columns["x"].counts[i].tolist() == alone.columns["x"].counts[0].tolist()
    together = psi_columns(profile, counts, family="all")
    assert together[0].psi.shape == (len(counts.rows),)


def test_conditions_hold_in_memory_too() -> None:
    """`where` is the one language everywhere."""
    frame = pl.DataFrame({"x": np.arange(100.0), "kind": ["a", "b"] * 50})
    profile = fit_profile(as_rows(frame), where=col("kind").eq("a"))

    assert profile.rows == 50


@pytest.mark.parametrize(
    "data",
    [
        [1.0, 2.0, 3.0, 4.0] * 20,
        np.arange(80.0),
        np.arange(160.0).reshape(80, 2),
        pl.Series("x", range(80)),
        pl.DataFrame({"x": range(80)}),
        pl.LazyFrame({"x": range(80)}),
        pa.table({"x": list(range(80))}),
        pa.array(range(80)),
        {"x": list(range(80)), "y": ["a", "b"] * 40},
    ],
    ids=lambda data: type(data).__module__.split(".")[0] + " " + type(data).__name__,
)
def test_whatever_a_notebook_holds_is_data(data: object) -> None:
    """Compared with itself every column is stable or too small to say; nothing drifts."""
    detector: DriftDetector[object] = PSIDriftDetector(PSIConfig(threshold=0.5))
    detector.set_reference(data)

    result = detector.compute(data)

    assert result.verdict is not Verdict.DRIFT
    assert (result.reference_count, result.current_count) == (80, 80)


def test_a_stream_of_batches_scores_like_the_whole() -> None:
    """update, update, result = compute of all; reset forgets."""
    rng = np.random.default_rng(11)
    detector = PSIDriftDetector()
    detector.set_reference(rng.normal(size=1000))
    batches = [rng.normal(0.4, 1, 100) for _ in range(5)]

    for batch in batches:
        detector.update(batch)
    streamed = detector.result()

    assert streamed == detector.compute(np.concatenate(batches))
    detector.reset()
    assert math.isnan(detector.result().score)


def test_a_saved_detector_scores_the_same(tmp_path: Path) -> None:
    """Bins, categories, infinities and settings survive the file."""
    rng = np.random.default_rng(12)
    values = rng.normal(size=500)
    values[:60] = np.inf
    reference = {"x": values, "model": rng.choice(["a", "b", "ü\n"], 500)}
    current = {"x": rng.normal(size=200), "model": rng.choice(["a", "c"], 200)}
    detector = PSIDriftDetector(PSIConfig(threshold=0.3, num_bins=7))
    detector.set_reference(reference)

    detector.save(tmp_path / "p.json")
    loaded = PSIDriftDetector.load(tmp_path / "p.json")

    assert loaded.config == detector.config
    assert repr(loaded.compute(current)) == repr(detector.compute(current))
    assert (tmp_path / "p.json").stat().st_size < 50_000


def test_what_is_no_profile_is_refused(tmp_path: Path) -> None:
    """Absent, foreign, truncated, of a later version, inconsistent: each has its error."""
    detector = PSIDriftDetector()
    detector.set_reference([1.0, 2.0] * 20)
    detector.save(tmp_path / "good.json")
    text = (tmp_path / "good.json").read_text()
    broken = {
        "foreign": "{}",
        "truncated": text[: len(text) // 2],
        "later": text.replace('"version": 1', '"version": 99'),
        "inconsistent": text.replace('"edges": [', '"edges": [0.5, '),
        "settings": text.replace('"threshold": 0.2', '"threshold": -1'),
    }

    with pytest.raises(NotFoundError):
        PSIDriftDetector.load(tmp_path / "absent.json")
    for name, content in broken.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(InvalidDataError):
            PSIDriftDetector.load(tmp_path / name)


def test_misuse_is_told() -> None:
    """No reference, a column of another type, an absent one, settings that cannot be."""
    detector = PSIDriftDetector()
    with pytest.raises(UsageError, match="no reference"):
        detector.compute([1.0])
    detector.set_reference({"x": [1.0, 2.0] * 20})
    with pytest.raises(SchemaError, match="type string"):
        detector.compute({"x": ["a", "b"]})
    with pytest.raises(SchemaError, match="no column 'x'"):
        detector.compute({"y": [1.0]})
    with pytest.raises(SchemaError, match="shape"):
        detector.set_reference(np.zeros((2, 2, 2)))
    for wrong in ({"num_bins": 1}, {"epsilon": 0.0}, {"threshold": -1.0}, {"alpha": 1.0}):
        with pytest.raises(UsageError):
            PSIConfig(**wrong)
