"""The univariate tests: SciPy's numbers, their level, their effects and intervals."""

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon

from pyflare_analysis.drift import UnivariateConfig, UnivariateDriftDetector
from pyflare_analysis.drift.profiles.sketch import points_of
from pyflare_analysis.drift.univariate.count_distances import chi_square, jensen_shannon
from pyflare_analysis.drift.univariate.distances import Sample, kolmogorov_smirnov, wasserstein
from pyflare_proto.errors import InvalidDataError, UsageError


def _sample(values: np.ndarray) -> Sample:
    return Sample(points_of(np.asarray(values, np.float64)), len(values))


def _rows(reference: object, current: object, **config: object) -> dict[str, dict]:
    detector = UnivariateDriftDetector(UnivariateConfig(**config))
    detector.set_reference(reference)
    return {row["test"]: row for row in detector.compute(current).details["columns"]}


@pytest.mark.parametrize(("n", "m"), [(300, 400), (50, 1000), (12_000, 15_000)])
def test_kolmogorov_smirnov_is_scipys(n: int, m: int) -> None:
    """D and p to 1e-9, exact and asymptotic."""
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=n), rng.normal(0.05, 1, m)

    measured, scipys = kolmogorov_smirnov(_sample(x), _sample(y)), stats.ks_2samp(x, y)

    assert measured.statistic == pytest.approx(scipys.statistic, abs=1e-9)
    assert measured.p_value == pytest.approx(scipys.pvalue, abs=1e-9)


def test_d_of_tied_values_is_scipys_and_p_is_not_too_large() -> None:
    """With ties the classical p-value is an upper bound; the permutation has the level."""
    rng = np.random.default_rng(0)
    x, y = rng.poisson(3, 300), rng.poisson(3.4, 400)

    measured, scipys = kolmogorov_smirnov(_sample(x), _sample(y)), stats.ks_2samp(x, y)

    assert measured.statistic == pytest.approx(scipys.statistic, abs=1e-12)
    assert measured.p_value_method == "permutation"
    assert measured.p_value < scipys.pvalue


@pytest.mark.parametrize("draw", ["normal", "pareto", "poisson"])
def test_wasserstein_is_scipys(draw: str) -> None:
    """To 1e-9, whatever the tails and ties."""
    rng = np.random.default_rng(1)
    sides = [
        {"normal": rng.normal, "pareto": rng.pareto, "poisson": rng.poisson}[draw](2, size=size)
        for size in (500, 700)
    ]

    measured = wasserstein(_sample(sides[0]), _sample(sides[1]))

    scipys = stats.wasserstein_distance(*sides)
    assert measured.statistic == pytest.approx(scipys, rel=1e-9)
    assert measured.effect_size == pytest.approx(scipys / np.std(sides[0]), rel=1e-9)


def test_jensen_shannon_is_scipys() -> None:
    """The distance in nats, of counts as they are."""
    x, y = np.array([50.0, 30, 20, 0, 4]), np.array([60.0, 20, 30, 5, 0])

    assert jensen_shannon(x, y).statistic == pytest.approx(jensenshannon(x, y), abs=1e-9)


def test_chi_square_is_scipys() -> None:
    """Statistic and p to 1e-9, without a continuity correction."""
    x, y = np.array([50.0, 30, 20, 10]), np.array([60.0, 20, 30, 5])

    measured = chi_square(x, y)

    scipys = stats.chi2_contingency([x, y], correction=False)
    assert measured.statistic == pytest.approx(scipys.statistic, abs=1e-9)
    assert measured.p_value == pytest.approx(scipys.pvalue, abs=1e-9)


def test_numbers_by_hand() -> None:
    """The worked example of docs/drift.md: {1, 2, 3, 4} against {3, 4, 5, 6}.

    D = 1/2 at 2; every value moves by 2, so W1 = 2; sd of the reference = sqrt(1.25).
    """
    x, y = np.array([1.0, 2, 3, 4]), np.array([3.0, 4, 5, 6])

    assert kolmogorov_smirnov(_sample(x), _sample(y)).statistic == 0.5
    assert wasserstein(_sample(x), _sample(y)).statistic == 2.0
    assert wasserstein(_sample(x), _sample(y)).effect_size == pytest.approx(2 / math.sqrt(1.25))


def test_chi_square_and_jensen_shannon_by_hand() -> None:
    """50/30/20 against 30/30/40: chi2 = 400/80 + 0 + 400/60 = 11.6667; JSD = .029623 nats."""
    x, y = np.array([50.0, 30, 20]), np.array([30.0, 30, 40])
    middle = (x + y) / 200
    jsd = 0.5 * sum((side / 100 * np.log(side / 100 / middle)).sum() for side in (x, y))

    assert chi_square(x, y).statistic == pytest.approx(11.6667, abs=1e-4)
    assert jensen_shannon(x, y).statistic == pytest.approx(math.sqrt(jsd), abs=1e-12)
    assert jsd == pytest.approx(0.029623, abs=1e-6)
    assert chi_square(x, y).effect_size == pytest.approx(math.sqrt((11.66667 - 2) / 200), abs=1e-6)


@pytest.mark.parametrize(
    ("draw", "tests"),
    [
        (lambda rng, n: rng.normal(size=n), ("ks", "wasserstein", "js")),
        (lambda rng, n: np.where(rng.random(n) < 0.6, 0.0, rng.exponential(1, n)), ("ks", "js")),
        (lambda rng, n: [f"c{i}" for i in rng.integers(0, 8, n)], ("js", "chi2")),
    ],
    ids=["continuous", "tied", "categories"],
)
def test_false_alarms_are_as_rare_as_alpha_says(draw: object, tests: tuple[str, ...]) -> None:
    """100 unchanged pairs of 80; benchmarks/drift_level.py does 1,000 of more kinds and sizes."""
    rng = np.random.default_rng(3)
    alarms = dict.fromkeys(tests, 0)
    for seed in range(100):
        rows = _rows(draw(rng, 80), draw(rng, 80), tests=tests, random_seed=seed)
        for test in tests:
            alarms[test] += rows[test]["p_value"] <= 0.05

    # 99.9 % of binomial(100, 0.05) lies within 0..13.
    assert all(count <= 13 for count in alarms.values()), alarms


def test_effects_and_intervals_say_how_much() -> None:
    """A shift by half a standard deviation: W1/sd = 0.5, D = 2 Phi(.25) - 1 = 0.197."""
    rng = np.random.default_rng(4)
    rows = _rows(rng.normal(size=4000), rng.normal(0.5, 1, 4000))

    assert rows["wasserstein"]["ci_low"] <= 0.5 <= rows["wasserstein"]["ci_high"]
    assert rows["ks"]["ci_low"] <= 0.1974 <= rows["ks"]["ci_high"]
    assert rows["js"]["ci_low"] <= rows["js"]["effect_size"] <= rows["js"]["ci_high"]
    assert {row["verdict"] for row in rows.values()} == {"drift"}


def test_a_certain_and_small_change_is_no_drift() -> None:
    """20,000 rows shifted by 0.05 sd: significant, and below the threshold."""
    rng = np.random.default_rng(5)
    row = _rows(rng.normal(size=20_000), rng.normal(0.05, 1, 20_000), tests=("ks",))["ks"]

    assert row["q_value"] < 0.01
    assert row["verdict"] == "stable"


def test_thin_data_are_refused() -> None:
    """Nine values say nothing; forty cannot show an effect of 0.1."""
    rng = np.random.default_rng(6)

    nine = _rows(rng.normal(size=9), rng.normal(size=500))
    forty = _rows(rng.normal(size=40), rng.normal(size=40), tests=("ks",))["ks"]

    assert {row["verdict"] for row in nine.values()} == {"insufficient"}
    assert {row["p_value"] for row in nine.values()} == {None}
    assert forty["verdict"] == "insufficient"
    assert "0.1 would not be significant" in forty["reason"]


def test_infinite_and_missing_values() -> None:
    """Infinities order like numbers for D and are left out of W1; missing ones are no values."""
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=400), rng.normal(size=400)
    with_odd = pl.Series([*y, math.inf, None, math.nan])

    rows, plain = _rows(x, with_odd), _rows(x, y)

    assert rows["ks"]["current_count"] == 401
    assert rows["wasserstein"]["statistic"] == plain["wasserstein"]["statistic"]
    assert rows["ks"]["statistic"] == pytest.approx(stats.ks_2samp(x, [*y, 1e300]).statistic)


def test_constant_columns_say_stable_or_drift() -> None:
    """The same value everywhere has distance 0; another value is drift by every test."""
    same = _rows([2.0] * 1000, [2.0] * 1000)
    other = _rows([2.0] * 1000, [3.0] * 1000)

    assert {row["verdict"] for row in same.values()} == {"stable"}
    assert {row["verdict"] for row in other.values()} == {"drift"}


def _ids(seed: int, rows: int, kinds: int, power: float) -> list[str]:
    """Return ids drawn with shares that fall as 1/rank^power."""
    weights = 1 / np.arange(1, kinds + 1) ** power
    drawn = np.random.default_rng(seed).choice(kinds, rows, p=weights / weights.sum())
    return np.char.add("id", drawn.astype(str)).tolist()


@pytest.mark.parametrize(("rows", "kinds", "power"), [(5000, 20_000, 0.0), (20_000, 5000, 1.0)])
def test_ids_of_one_law_are_no_drift(rows: int, kinds: int, power: float) -> None:
    """The reference keeps 1,000 of its ids; its choice of them is not found fallen later."""
    p_values: list[float] = []
    for seed in range(0, 60, 2):
        detector = UnivariateDriftDetector()
        detector.set_reference(_ids(seed, rows, kinds, power))
        result = detector.compute(_ids(seed + 1, rows, kinds, power))
        assert result.verdict != "drift"
        for row in result.details["columns"]:
            if row["p_value"] is None:
                assert row["reason"] == "no category is frequent enough to be compared"
            else:
                p_values.append(row["p_value"])
    assert len(p_values) in (0, 60)
    assert sum(p <= 0.05 for p in p_values) <= stats.binom.ppf(0.9999, 60, 0.05)


def test_a_change_of_frequent_ids_is_drift() -> None:
    """Where rare ids were let go, a frequent one that moves and a new one are still seen."""
    before, after = (_ids(seed, 20_000, 5000, 1.0) for seed in (1, 2))
    detector = UnivariateDriftDetector()
    detector.set_reference(before)
    for changed in (
        [v for v in after if v != "id0"],
        ["new" if i % 10 == 0 else v for i, v in enumerate(after)],
    ):
        assert detector.compute(changed).verdict == "drift"


def test_a_saved_detector_scores_the_same(tmp_path: Path) -> None:
    """Also beyond the values that are kept: the detector uses the same points before."""
    rng = np.random.default_rng(8)
    reference = {"x": rng.lognormal(size=40_000), "model": rng.choice(["a", "b"], 40_000)}
    current = {"x": rng.lognormal(0.1, 1, 3000), "model": rng.choice(["a", "b"], 3000)}
    detector = UnivariateDriftDetector(UnivariateConfig(threshold=0.2, tests=("ks", "js", "chi2")))
    detector.set_reference(reference)

    detector.save(tmp_path / "r.json")
    loaded = UnivariateDriftDetector.load(tmp_path / "r.json")

    assert loaded.config == detector.config
    assert repr(loaded.compute(current)) == repr(detector.compute(current))
    d = {row["test"]: row for row in detector.compute(current).details["columns"]}["ks"]
    exact = stats.ks_2samp(reference["x"], current["x"])
    assert d["statistic"] == pytest.approx(exact.statistic, abs=1 / 8192)
    assert d["p_value"] >= exact.pvalue * 0.99  # D counts less what the points may be off
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(InvalidDataError, match=r"no pyflare\.drift\.reference"):
        UnivariateDriftDetector.load(tmp_path / "x.json")


def test_streams_and_misuse() -> None:
    """Batches add up; unknown tests and absent references are told."""
    rng = np.random.default_rng(9)
    detector = UnivariateDriftDetector()
    with pytest.raises(UsageError, match="no reference"):
        detector.compute([1.0])
    with pytest.raises(UsageError, match="unknown test 'ad'"):
        UnivariateConfig(tests=("ad",))
    detector.set_reference(rng.normal(size=300))
    batches = [rng.normal(size=60) for _ in range(4)]

    for batch in batches:
        detector.update(batch)

    assert detector.result() == detector.compute(np.concatenate(batches))
