"""The univariate tests of infinite values and of values near the ends of the floats."""

import itertools
import math
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from scipy import stats

from pyflare_analysis.drift import UnivariateConfig, UnivariateDriftDetector
from pyflare_analysis.drift.profiles.rows import as_rows
from pyflare_analysis.drift.univariate.answer import examine_columns
from pyflare_analysis.drift.univariate.summary import Numbers, Summarizer
from pyflare_cli.output import json_text
from pyflare_proto.errors import UsageError

_SIDES = {
    "finite": [1.0] * 150 + [2.0] * 150,
    "plus": [math.inf] * 300,
    "minus": [-math.inf] * 300,
    "mixed": [math.inf] * 150 + [-math.inf] * 150,
}
_PAIRS = [pair for pair in itertools.product(_SIDES, repeat=2) if pair != ("finite", "finite")]


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    """Let a warning of NumPy, which a user would see, fail the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def _examined(reference: object, current: object, **config: object) -> dict[str, dict]:
    answer = examine_columns(
        as_rows({"x": reference}), as_rows({"x": current}), config=UnivariateConfig(**config)
    )
    return {row["test"]: row for row in answer.rows()}


@pytest.mark.parametrize(("before", "now"), _PAIRS)
def test_a_side_of_infinities_alone_has_no_area(before: str, now: str) -> None:
    """Wasserstein says which side has nothing finite; the others take infinities in order."""
    rows = _examined(_SIDES[before], _SIDES[now])

    side = "current" if before == "finite" else "reference"
    assert rows["wasserstein"]["reason"] == f"the {side} values are all infinite"
    assert rows["wasserstein"]["verdict"] == "insufficient"
    assert rows["wasserstein"]["statistic"] is None
    assert rows["wasserstein"]["p_value"] is None
    shares = [
        [np.mean([v == u for v in _SIDES[name]]) for u in (-math.inf, 1.0, 2.0, math.inf)]
        for name in (before, now)
    ]
    d = np.abs(np.cumsum(shares[0]) - np.cumsum(shares[1])).max()
    assert rows["ks"]["statistic"] == pytest.approx(d)
    assert rows["ks"]["verdict"] == ("drift" if d else "insufficient")
    assert rows["js"]["verdict"] == ("drift" if d else "stable")
    apart = not np.minimum(shares[0], shares[1]).any()
    assert (rows["js"]["statistic"] == pytest.approx(math.sqrt(math.log(2)))) == apart


@pytest.mark.parametrize("power", [-1060, -1000, -700, -400, 0, 400, 700, 1000, 1020])
def test_the_magnitude_changes_the_statistic_alone(power: int) -> None:
    """Values times a power of two: the same row, W1 times that power, which is SciPy's."""
    rng = np.random.default_rng(1)
    # Whole multiples of 2^-10 keep all their digits among the smallest floats.
    x, y = (np.rint(rng.normal(mean, 1, 500) * 1024) / 1024 for mean in (0, 0.5))
    scaled_x, scaled_y = np.ldexp(x, power), np.ldexp(y, power)

    plain, scaled = _examined(x, y), _examined(scaled_x, scaled_y)

    moved = scaled["wasserstein"].pop("statistic")
    assert moved == math.ldexp(plain["wasserstein"].pop("statistic"), power)
    assert scaled == plain
    assert moved == pytest.approx(stats.wasserstein_distance(scaled_x, scaled_y), rel=1e-9)


@pytest.mark.parametrize("factor", [1e-320, 1e-300, 1e-200, 1e200, 1e300])
def test_large_and_tiny_values_drift_like_others(factor: float) -> None:
    """Three standard deviations are three whatever the unit, in the notebook too."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=500) * factor, rng.normal(3, 1, 500) * factor
    detector = UnivariateDriftDetector(UnivariateConfig(tests=("wasserstein",)))
    detector.set_reference(x)

    row = detector.compute(y).details["columns"][0]

    assert row["effect_size"] == pytest.approx(3, rel=0.05)
    assert row["ci_low"] < 3 < row["ci_high"]
    assert row["p_value"] < 1e-10
    assert row["verdict"] == "drift"


def test_a_side_of_another_magnitude_is_measured_in_the_reference_s() -> None:
    """N(0, 1) 1e-200 against N(3, 1): W1 is some 3, which is 3e200 standard deviations."""
    rng = np.random.default_rng(3)
    row = _examined(rng.normal(size=300) * 1e-200, rng.normal(3, 1, 300))["wasserstein"]

    assert row["statistic"] == pytest.approx(3, rel=0.05)
    assert row["effect_size"] == pytest.approx(3e200, rel=0.1)


def test_a_distance_beyond_the_floats_is_told() -> None:
    """From -1.7e308 to 1.7e308 it is 3.4e308, which no float holds; D and JS are what they are."""
    rows = _examined([-1.7e308] * 300, [1.7e308] * 300)

    assert rows["wasserstein"]["statistic"] is None
    assert rows["wasserstein"]["effect_size"] is None
    assert rows["wasserstein"]["verdict"] == "insufficient"
    assert rows["wasserstein"]["reason"] == "the distance is too large for a 64-bit float"
    assert rows["ks"]["statistic"] == 1.0
    assert {rows["ks"]["verdict"], rows["js"]["verdict"]} == {"drift"}


def test_what_wasserstein_leaves_out_is_told() -> None:
    """40 % infinite current rows: the row says how many, and rests on the finite ones alone."""
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=500), rng.normal(0.3, 1, 300)

    rows = _examined([*x, -math.inf], [*y, *[math.inf] * 200])
    finite = _examined(x, y)["wasserstein"]

    for row in rows.values():
        assert (row["reference_count"], row["current_count"]) == (501, 500)
        assert (row["reference_infinite_count"], row["current_infinite_count"]) == (1, 200)
    assert (finite["reference_infinite_count"], finite["current_infinite_count"]) == (0, 0)
    for key in ("statistic", "effect_size", "ci_low", "ci_high", "p_value"):
        assert rows["wasserstein"][key] == finite[key]
    assert not {"NaN", "Infinity"} & set(json_text(rows).replace(",", " ").split())


def test_few_finite_values_are_too_few_for_wasserstein() -> None:
    """Nine finite values say nothing about an area, however many infinite ones there are."""
    rng = np.random.default_rng(5)
    rows = _examined(rng.normal(size=300), [*rng.normal(size=9), *[math.inf] * 300])

    assert rows["wasserstein"]["reason"] == "current: 9 finite values, fewer than 10"
    assert rows["ks"]["verdict"] == "drift"


def test_infinite_values_stay_apart_where_values_are_moved() -> None:
    """40,000 values and three infinite ones in a saved reference: three are infinite there."""
    rng = np.random.default_rng(6)
    detector = UnivariateDriftDetector(UnivariateConfig(tests=("wasserstein",)))
    detector.set_reference([*rng.normal(size=40_000), math.inf, math.inf, -math.inf])

    row = detector.compute(rng.normal(size=1000)).details["columns"][0]

    assert row["reference_count"] == 40_003
    assert row["reference_infinite_count"] == 3


def test_a_sketch_keeps_infinite_values_as_they_are() -> None:
    """Beyond the values that are kept, finite ones are moved to finite ones."""
    rng = np.random.default_rng(7)
    summarizer = Summarizer(_features())
    for _ in range(2):
        summarizer.add(as_rows({"x": [*rng.normal(size=600_000), math.inf]}))

    found = summarizer.summary().features["x"]

    assert isinstance(found, Numbers)
    assert not found.exact
    assert found.points.values[-1] == math.inf
    assert found.points.weights[-1] == 2
    assert found.points.total == 1_200_002


def _features() -> list:
    from pyflare_analysis.drift.profiles.columns import suitable_features

    return suitable_features(as_rows({"x": [0.5, 1.5, 2.5]}))[0]


def test_a_reference_of_one_value_has_no_scale() -> None:
    """The mean of 0.1s may be another float than 0.1; no deviation comes of that."""
    row = _examined([0.1] * 300, [0.2] * 300)["wasserstein"]

    assert row["statistic"] == pytest.approx(0.1)
    assert math.isnan(row["effect_size"])
    assert row["verdict"] == "drift"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threshold", math.nan),
        ("threshold", -0.1),
        ("alpha", math.nan),
        ("alpha", 0.0),
        ("alpha", 1.0),
        ("random_seed", -1),
        ("num_bins", 1),
        ("min_samples_per_bin", 0),
        ("bootstraps", -1),
    ],
)
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    """NaN is in no range, and a seed is no negative number."""
    with pytest.raises(UsageError, match=f"{name} is {value}"):
        UnivariateConfig(**{name: value})
