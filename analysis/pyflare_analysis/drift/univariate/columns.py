"""Tests of single columns: Kolmogorov-Smirnov, Wasserstein, Jensen-Shannon, chi-square."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pyflare_analysis.drift.clusters.effects import INDEPENDENT, ColumnEffect
from pyflare_analysis.drift.detector import Verdict
from pyflare_analysis.drift.profiles.bins import (
    bin_counts,
    quantile_edges,
    single_values,
    stand_alone,
)
from pyflare_analysis.drift.profiles.columns import Feature
from pyflare_analysis.drift.profiles.sketch import (
    Points,
    certain_count,
    merge_points,
    points_of,
    thin,
)
from pyflare_analysis.drift.univariate.count_distances import chi_square, jensen_shannon
from pyflare_analysis.drift.univariate.distances import (
    Sample,
    kolmogorov_smirnov,
    split_infinite,
    wasserstein,
)
from pyflare_analysis.drift.univariate.measured import Measured
from pyflare_analysis.drift.univariate.summary import Categories, Numbers, Summary
from pyflare_analysis.statistics import benjamini_hochberg
from pyflare_proto.errors import UsageError

__all__ = [
    "TESTS",
    "TestName",
    "UnivariateColumn",
    "UnivariateConfig",
    "compact_summary",
    "measure_columns",
    "overall_verdict",
]

Floats = NDArray[np.float64]
TestName = Literal["ks", "wasserstein", "js", "chi2"]
TESTS: dict[str, tuple[TestName, ...]] = {
    "numeric": ("ks", "wasserstein", "js"),
    "categorical": ("js", "chi2"),
}
"""Tests of each kind of column, in the order in which they are shown."""

_REFERENCE_POINTS = 8192
_REFERENCE_CATEGORIES = 1000
_LEAST_SHARE = 0.001
_LARGE = 2.0**960
"""Beyond, a difference to the smallest float may overflow."""


@dataclass(frozen=True, slots=True)
class UnivariateConfig:
    """Settings of the tests.

    Raises:
        UsageError: a value out of its range.
    """

    tests: tuple[str, ...] = ("ks", "wasserstein", "js", "chi2")
    """Tests to do, each where it fits the kind of column."""
    threshold: float = 0.1
    """Effect size that drift exceeds, 0 or more."""
    alpha: float = 0.05
    """False discovery rate at which a change is significant, in (0, 1)."""
    num_bins: int = 10
    """Quantile bins of a numeric column for Jensen-Shannon, 2 or more."""
    min_samples_per_bin: int = 5
    """Values of the reference in a bin at least, 1 or more."""
    random_seed: int = 42
    """Seed of permutations and bootstraps, 0 or more."""
    bootstraps: int = 200
    """Draws of the interval of Wasserstein's distance; 0: no interval."""

    def __post_init__(self) -> None:
        known = {name for names in TESTS.values() for name in names}
        unknown = [name for name in self.tests if name not in known]
        if unknown or not self.tests:
            raise UsageError(
                f"unknown test {unknown[0]!r}" if unknown else "no tests",
                hint=f"tests: {', '.join(sorted(known))}",
            )
        for name, fits in {
            "threshold": self.threshold >= 0,
            "alpha": 0 < self.alpha < 1,
            "num_bins": self.num_bins >= 2,
            "min_samples_per_bin": self.min_samples_per_bin >= 1,
            "random_seed": self.random_seed >= 0,
            "bootstraps": self.bootstraps >= 0,
        }.items():
            if not fits:
                raise UsageError(
                    f"{name} is {getattr(self, name)}",
                    hint="threshold, random_seed and bootstraps from 0, alpha within (0, 1), "
                    "num_bins from 2, min_samples_per_bin from 1",
                )


@dataclass(frozen=True, slots=True)
class UnivariateColumn:
    """One test of one column."""

    name: str
    kind: str
    test: TestName
    measured: Measured | None
    """None where there is too little to compute anything."""
    q_value: float
    """p-value after Benjamini and Hochberg over all tests of the answer; NaN where untested."""
    verdict: Verdict
    reason: str | None
    """Why the verdict is insufficient."""
    reference_count: float
    """Weighted values of the reference."""
    current_count: float
    """Weighted current values."""
    design_effect: float
    """How many current rows are worth one independent row, 1 or more."""
    reference_design_effect: float
    """Likewise rows of the reference."""
    reference_infinite_count: float = 0.0
    """How many of `reference_count` are infinite: Wasserstein leaves these out."""
    current_infinite_count: float = 0.0
    """How many of `current_count` are."""

    def document(self) -> dict[str, object]:
        """Return the test as it stands in JSON."""
        measured = self.measured
        figures: dict[str, object] = dict.fromkeys(
            ("statistic", "effect_size", "ci_low", "ci_high", "p_value", "p_value_method",
             "critical_value")
        )  # fmt: skip
        if measured is not None:
            figures = {name: getattr(measured, name) for name in figures}
        return {
            "column": self.name,
            "kind": self.kind,
            "test": self.test,
            **figures,
            "q_value": self.q_value,
            "verdict": str(self.verdict),
            "reason": self.reason,
            "reference_count": self.reference_count,
            "current_count": self.current_count,
            "design_effect": self.design_effect,
            "reference_design_effect": self.reference_design_effect,
            "reference_infinite_count": self.reference_infinite_count,
            "current_infinite_count": self.current_infinite_count,
        }


def compact_summary(summary: Summary) -> Summary:
    """Return a summary that is small enough to save: at most 16,384 points and 1,000 categories.

    Infinite values stay what they are, and finite ones finite. A cumulative share is then too
    small by at most 2^-13, which the tests allow for.
    """
    found: dict[str, Numbers | Categories] = {}
    for name, feature in summary.features.items():
        if isinstance(feature, Numbers):
            finite, infinite = split_infinite(feature.points)
            points = thin(finite, _REFERENCE_POINTS)
            moved = 0.0 if points is finite else 1 / _REFERENCE_POINTS
            points = merge_points([points, infinite]) if len(infinite.values) else points
            found[name] = replace(feature, points=points, rank_error=feature.rank_error + moved)
        else:
            ordered = sorted(feature.counts.items(), key=lambda item: (-item[1], item[0]))
            gone = sum(count for _, count in ordered[_REFERENCE_CATEGORIES:])
            kept = dict(ordered[:_REFERENCE_CATEGORIES])
            found[name] = replace(feature, counts=kept, rest=feature.rest + gone)
    return replace(summary, features=found)


def measure_columns(
    features: Sequence[Feature],
    reference: Summary,
    current: Summary,
    config: UnivariateConfig | None = None,
    *,
    effects: tuple[Mapping[str, ColumnEffect], Mapping[str, ColumnEffect]] = ({}, {}),
) -> list[UnivariateColumn]:
    """Test columns.

    Args:
        features: which.
        reference: summary of the reference.
        current: summary of the current rows, with the same features.
        config: settings.
        effects: design effects of features whose rows are not independent, of the reference
            and of the current rows: n rows are worth n over it.
    """
    config = config or UnivariateConfig()
    columns = [
        _measure(feature, test, (reference, current), config, _effects(feature, test, effects))
        for feature in features
        for test in TESTS[feature.kind]
        if test in config.tests
    ]
    p = np.array([math.nan if c.measured is None else c.measured.p_value for c in columns])
    return [
        _judge(column, float(q), config)
        for column, q in zip(columns, benjamini_hochberg(p), strict=True)
    ]


def _effects(
    feature: Feature, test: TestName, sides: Sequence[Mapping[str, ColumnEffect]]
) -> tuple[float, float]:
    """Return the design effect that a test needs, of both sides."""
    before, now = (side.get(feature.name, INDEPENDENT) for side in sides)
    if test in {"ks", "wasserstein"}:
        return before.functions, now.functions
    return before.shares, now.shares


def _measure(
    feature: Feature,
    test: TestName,
    summaries: tuple[Summary, Summary],
    config: UnivariateConfig,
    effects: tuple[float, float],
) -> UnivariateColumn:
    sides = summaries[0].features[feature.name], summaries[1].features[feature.name]
    counts = [_present(side) for side in sides]
    scales = [
        side.effective / side.weight / effect if side.weight else 0.0
        for side, effect in zip(summaries, effects, strict=True)
    ]
    infinite = [_infinite(side) for side in sides]
    left_out = infinite if test == "wasserstein" else [0.0, 0.0]
    reason = _too_few(counts, left_out, scales, 2 * config.min_samples_per_bin)
    measured = None
    if reason is None:
        if isinstance(sides[0], Numbers) and isinstance(sides[1], Numbers):
            measured = _numeric(test, sides[0], sides[1], (scales[0], scales[1]), config)
            if math.isinf(measured.statistic):
                measured, reason = None, "the distance is too large for a 64-bit float"
        elif isinstance(sides[0], Categories) and isinstance(sides[1], Categories):
            x, y = _categories(sides[0], sides[1], (scales[0], scales[1]))
            if len(x) == 2 and not x[1] + y[1]:
                reason = "no category is frequent enough to be compared"
            else:
                measured = _counts(test, x, y, config)
    return UnivariateColumn(
        feature.name, feature.kind, test, measured, math.nan, Verdict.INSUFFICIENT, reason,
        counts[0], counts[1], effects[1], effects[0], infinite[0], infinite[1],
    )  # fmt: skip


def _too_few(
    counts: Sequence[float], left_out: Sequence[float], scales: Sequence[float], least: int
) -> str | None:
    """Return why a side has too few values for a test; None where both have enough.

    Args:
        counts: weighted values of both sides.
        left_out: how many of them are infinite and do not take part.
        scales: effective values for each weighted one.
        least: effective values at least.
    """
    for name, start, count, infinite, scale in zip(
        ("reference", "current"), ("the reference has", "current:"), counts, left_out, scales,
        strict=True,
    ):  # fmt: skip
        if 0 < count == infinite:
            return f"the {name} values are all infinite"
        size = (count - infinite) * scale
        if size < least:
            return f"{start} {size:.0f} {'finite ' if infinite else ''}values, fewer than {least}"
    return None


def _infinite(side: Numbers | Categories) -> float:
    return split_infinite(side.points)[1].total if isinstance(side, Numbers) else 0.0


def _present(side: Numbers | Categories) -> float:
    if isinstance(side, Numbers):
        return side.points.total
    return sum(side.counts.values()) + side.rest


def _numeric(
    test: TestName,
    reference: Numbers,
    current: Numbers,
    scales: tuple[float, float],
    config: UnivariateConfig,
) -> Measured:
    alpha, seed = config.alpha, config.random_seed
    if test == "js":
        before, now = _for_bins(reference.points, current.points)
        edges = quantile_edges(before, config.num_bins, config.min_samples_per_bin)
        x = np.append(bin_counts(before, edges), reference.missing)
        y = np.append(bin_counts(now, edges), current.missing)
        alone = stand_alone(edges, x[:-1])
        return jensen_shannon(
            x * scales[0], y * scales[1], alpha=alpha, seed=seed, quantile_bins=not alone,
            single=single_values(edges) if alone and len(edges) else None,
        )  # fmt: skip
    samples = [
        Sample(side.points, side.points.total * scale, side.rank_error)
        for side, scale in zip((reference, current), scales, strict=True)
    ]
    if test == "ks":
        return kolmogorov_smirnov(samples[0], samples[1], alpha=alpha, seed=seed)
    return wasserstein(samples[0], samples[1], alpha=alpha, seed=seed, bootstraps=config.bootstraps)


def _for_bins(*sides: Points) -> list[Points]:
    """Return the points of both sides, in the same order, such that any value can have a bin.

    The bin of a value lies between its neighbours among the floats. Minus infinity has none
    before it, so it becomes the smallest float; values that would be near that are divided by
    2^64. The edges serve for nothing but counting.
    """
    finite = np.concatenate([split_infinite(side)[0].values for side in sides])
    large = bool((np.abs(finite) > _LARGE).any())
    if not large and not any(np.isneginf(side.values).any() for side in sides):
        return list(sides)
    moved = []
    for values, weights in sides:
        scaled = np.ldexp(values, -64) if large else values
        moved.append(points_of(np.maximum(scaled, -np.finfo(np.float64).max), weights))
    return moved


def _categories(
    reference: Categories, current: Categories, scales: tuple[float, float]
) -> tuple[Floats, Floats]:
    """Return the effective counts of both sides: frequent categories, the rest, missing.

    At most 1,000 categories stand alone, chosen by both sides together: the law of the tests
    holds given the counts of the pool. Where a side has let rare categories go, what it kept
    was chosen by its own counts, and would be found fallen on the other side. There a category
    needs as many rows as could not have been let go by chance (`_least_rows`).
    """
    sides = (reference, current)
    names = sorted({**reference.counts, **current.counts})
    counts = np.array([[side.counts.get(name, 0.0) for name in names] for side in sides])
    counts *= np.array(scales)[:, None]
    pooled = counts.sum(axis=0)
    sizes = np.array([_present(side) * scale for side, scale in zip(sides, scales, strict=True)])
    alone = np.zeros(len(names), bool)
    alone[np.argsort(-pooled, kind="stable")[:_REFERENCE_CATEGORIES]] = True
    for side, scale, size in zip(sides, scales, sizes, strict=True):
        if not side.exact:
            alone &= pooled * size / sizes.sum() >= _least_rows(side, scale, size)
    rest = np.zeros(2)
    if not alone.all() or not (reference.exact and current.exact):
        rest = np.maximum(sizes - counts[:, alone].sum(axis=1), 0.0)
    missing = [side.missing * scale for side, scale in zip(sides, scales, strict=True)]
    rows = [np.array([*counts[i, alone], rest[i], missing[i]]) for i in (0, 1)]
    return rows[0], rows[1]


def _least_rows(side: Categories, scale: float, size: float) -> float:
    """Return the expected effective rows from which a category cannot have been let go.

    The sketch never lets a thousandth of all rows go.
    """
    rarest = min(side.counts.values(), default=0.0) * scale
    return max(certain_count(rarest), _LEAST_SHARE * size)


def _counts(test: TestName, x: Floats, y: Floats, config: UnivariateConfig) -> Measured:
    if test == "js":
        return jensen_shannon(x, y, alpha=config.alpha, seed=config.random_seed)
    return chi_square(x, y, alpha=config.alpha, seed=config.random_seed)


def _judge(column: UnivariateColumn, q: float, config: UnivariateConfig) -> UnivariateColumn:
    measured = column.measured
    if measured is None:
        return column
    verdict, reason = Verdict.STABLE, None
    # An effect without a scale (a reference of one value) exceeds any threshold.
    large = math.isnan(measured.effect_size) or measured.effect_size > config.threshold
    if q <= config.alpha:
        verdict = Verdict.DRIFT if large else Verdict.STABLE
    elif measured.critical_value > config.threshold:
        verdict = Verdict.INSUFFICIENT
        reason = (
            f"an effect of {config.threshold:g} would not be significant: the smallest that "
            f"would is {measured.critical_value:.3g}"
        )
    return replace(column, q_value=q, verdict=verdict, reason=reason)


def overall_verdict(columns: Sequence[UnivariateColumn]) -> Verdict:
    """Return drift where any test says so, insufficient where none can say anything."""
    verdicts = {column.verdict for column in columns}
    if Verdict.DRIFT in verdicts:
        return Verdict.DRIFT
    return Verdict.STABLE if Verdict.STABLE in verdicts else Verdict.INSUFFICIENT
