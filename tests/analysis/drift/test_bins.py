"""Bins of numbers: quantiles of the reference, heavy values apart, nothing outside."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyflare_analysis.drift.profiles.bins import (
    bin_counts,
    quantile_edges,
    single_values,
    stand_alone,
)
from pyflare_analysis.drift.profiles.sketch import (
    NumberSketch,
    Points,
    merge_points,
    points_of,
    thin,
)


def _edges(values: list[float] | np.ndarray, bins: int = 10, least: int = 5) -> np.ndarray:
    return quantile_edges(points_of(np.asarray(values, np.float64)), bins, least)


@pytest.mark.parametrize("n", [50, 101, 1000, 1003])
def test_edges_of_different_values_are_numpys_quantiles(n: int) -> None:
    """Type 7, at 1/B ... (B-1)/B, to rounding."""
    values = np.random.default_rng(n).lognormal(size=n)

    edges = _edges(values)

    assert edges == pytest.approx(np.quantile(values, np.arange(1, 10) / 10), rel=1e-12)


def test_a_small_reference_has_fewer_bins() -> None:
    """23 values at 5 a bin make 4 bins; 9 make none."""
    assert len(_edges(np.arange(23.0))) == 3
    assert len(_edges(np.arange(9.0))) == 0


def test_a_heavy_value_has_a_bin_of_its_own() -> None:
    """60 zeros among 100: one bin holds the zeros exactly, the rest is divided."""
    values = np.concatenate([np.zeros(60), np.linspace(1, 2, 40)])

    edges = _edges(values)
    counts = bin_counts(points_of(values), edges)

    (zero,) = np.flatnonzero(single_values(edges))
    assert (edges[zero - 1], counts[zero]) == (0.0, 60)
    assert counts[:zero].sum() == 0  # below zero: empty, and there for what may come
    assert counts[zero + 1 :] == pytest.approx([10, 10, 10, 10], abs=1)


def test_a_constant_column_has_a_bin_below_at_and_above() -> None:
    """A change in either direction is seen, one that is as small as a float too."""
    edges = _edges([7.0] * 20)

    assert edges.tolist() == [7.0, math.nextafter(7.0, math.inf)]
    assert bin_counts(points_of(np.full(20, 7.0)), edges).tolist() == [0, 20, 0]


def test_every_value_of_a_few_valued_column_stands_alone() -> None:
    """Ten ratings or fewer are no quantiles: each has its bin, however rare."""
    values = np.repeat([1.0, 2.0, 5.0], [50, 1, 49])
    edges = _edges(values)
    counts = bin_counts(points_of(values), edges)

    assert counts[single_values(edges)].tolist() == [50, 1, 49]
    assert stand_alone(edges, counts)


def test_infinities_are_values_like_others() -> None:
    """They fall into the outer bins and move no edge."""
    finite = np.random.default_rng(0).normal(size=998)
    edges = _edges(np.concatenate([finite, [np.inf, -np.inf]]))

    assert np.isfinite(edges).all()
    assert edges == pytest.approx(_edges(finite), abs=0.02)
    assert bin_counts(points_of(np.array([np.inf, -np.inf])), edges)[[0, -1]].tolist() == [1, 1]


def test_edges_where_a_tenth_is_infinite_are_numbers() -> None:
    """An edge between infinities is no NaN."""
    values = np.concatenate([np.full(20, -np.inf), np.arange(60.0), np.full(20, np.inf)])

    edges = _edges(values)

    assert not np.isnan(edges).any()
    assert bin_counts(points_of(values), edges).sum() == 100


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(-5, 5) | st.floats(-1e6, 1e6), min_size=1, max_size=120),
    st.integers(2, 12),
    st.integers(1, 6),
)
def test_bins_of_any_column_increase_and_hold_every_value(
    values: list[float], bins: int, least: int
) -> None:
    """Whatever the ties: edges increase, no value is lost, no bin is both chosen and tiny."""
    column = np.array(values, np.float64)
    edges = quantile_edges(points_of(column), bins, least)
    counts = bin_counts(points_of(column), edges)

    assert (np.diff(edges) > 0).all()
    assert counts.sum() == len(column)
    assert (
        counts.tolist()
        == np.bincount(
            np.searchsorted(edges, column, side="right"), minlength=len(edges) + 1
        ).tolist()
    )


def test_thinning_moves_no_cumulative_share_by_more_than_it_says() -> None:
    """Shares of a thinned summary are too small by at most 1/k, heavy values exact."""
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.pareto(1.0, 20_000), np.full(3000, 0.5)])
    points = points_of(values)

    thinned = thin(points, 100)

    probes = np.quantile(values, np.linspace(0.001, 0.999, 501))
    error = (points.below(probes) - thinned.below(probes)) / len(values)
    assert len(thinned.values) <= 200
    assert error.min() >= -1e-12
    assert error.max() <= 1 / 100 + 1e-12
    heavy = thinned.weights[thinned.values == 0.5]
    assert heavy.tolist() == [3000]


@pytest.mark.parametrize(("rows", "k"), [(10, 3), (1000, 999), (1001, 7), (70_000, 2**15)])
def test_single_rows_are_thinned_to_the_same_points_as_weighted_ones(rows: int, k: int) -> None:
    """The short way for values of one row each changes nothing."""
    values = np.random.default_rng(4).random(rows)

    single, double = thin(points_of(values), k), thin(points_of(values, np.full(rows, 2.0)), k)

    assert single.values.tolist() == double.values.tolist()
    assert (single.weights * 2).tolist() == double.weights.tolist()
    assert single.total == rows


def test_a_long_stream_is_summarised_within_the_stated_error() -> None:
    """1.5 million different values in bounded memory: every share within 2^-14."""
    rng = np.random.default_rng(2)
    values = rng.normal(size=1_500_000)
    sketch = NumberSketch()
    for part in np.array_split(values, 30):
        sketch.add(part)

    points = sketch.points()

    probes = np.quantile(values, [0.001, 0.1, 0.5, 0.9, 0.999])
    error = np.searchsorted(np.sort(values), probes) - points.below(probes)
    assert not sketch.exact
    assert points.total == len(values)
    assert len(points.values) < 400_000
    assert np.abs(error / len(values)).max() <= 2.0**-14


def test_a_stream_of_few_values_stays_exact() -> None:
    """Token counts repeat: however many rows, nothing is moved."""
    values = np.random.default_rng(3).integers(0, 5000, 1_200_000).astype(np.float64)
    sketch = NumberSketch()
    for part in np.array_split(values, 20):
        sketch.add(part)

    assert sketch.exact
    assert np.array_equal(sketch.points().weights, points_of(values).weights)


def test_weights_add_up_by_value() -> None:
    """1/0.25 and 1/0.5 of the value 2 weigh 6."""
    points = points_of(np.array([2.0, 1.0, 2.0]), np.array([4.0, 1.0, 2.0]))

    assert points.values.tolist() == [1.0, 2.0]
    assert points.weights.tolist() == [1.0, 6.0]
    assert merge_points([points, Points(np.array([2.0]), np.array([1.0]))]).weights.tolist() == [
        1.0,
        7.0,
    ]
