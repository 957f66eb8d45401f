"""Two samples of vectors compared: the statistic, the tests, and the verdict."""

from __future__ import annotations

import dataclasses
import math
import secrets
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pyflare_analysis.drift.detector import Verdict
from pyflare_analysis.drift.embeddings.auto import METHODS, run
from pyflare_analysis.drift.embeddings.centroid import (
    centroid_distances,
    centroid_test,
    cosine_test,
)
from pyflare_analysis.drift.embeddings.kernels import Distances, Gaussian, gamma_of, kernel_sums
from pyflare_analysis.drift.embeddings.pooled import Clusters, Floats, Pooled, SplitTest
from pyflare_proto.errors import UsageError, nearest

__all__ = [
    "MINIMUM_COUNT",
    "Comparison",
    "MMDConfig",
    "all_equal",
    "coarser",
    "compare",
    "judged",
    "sigma_of",
]

MINIMUM_COUNT = 10
"""Vectors a side below which nothing is said: fewer have too few splits to be judged by."""
_Z95 = 1.959963984540054
_ROUNDING = {np.dtype(np.float32): 1e-12, np.dtype(np.float64): 1e-24}
"""Squared distance, in units of the squared norm, that is nothing but rounding, by precision."""
_EQUAL_PAIRS = 1e-12
"""Median squared distance, in units of the largest, that is one of equal pairs."""
_RFF_SIGMAS = 1e18
"""Bandwidths up to here, and from its inverse, have frequencies and angles within float32."""
_FLOAT32_RANGE = 80.0
"""Squared norm over sigma^2 from which float32 distances are too coarse for the kernel."""


@dataclass(frozen=True, slots=True)
class MMDConfig:
    """Settings of the detectors of vectors; names and defaults of the seed."""

    threshold: float = 0.1
    """MMD^2 above which drift is called significant; without permutations, drift at all."""
    rbf_sigma: float = 0.0
    """Bandwidth sigma of exp(-||x - y||^2 / (2 sigma^2)); 0: the median heuristic."""
    num_permutations: int = 100
    """Random splits; the smallest p-value is 1 / (num_permutations + 1). 0: no test."""
    p_value_threshold: float = 0.05
    """Drift needs a p-value of at most this, (0, 1)."""
    max_samples: int = 0
    """Vectors a side that are used, drawn with the seed; 0: all."""
    random_seed: int = 0
    """Of splits, samples and k-means; 0: a fresh one, which the answer tells."""
    min_effect: float = 0.0
    """Drift needs an MMD^2 of more than this."""

    def __post_init__(self) -> None:
        self._positive("rbf_sigma", self.rbf_sigma, 0)
        if self.rbf_sigma:
            gamma_of(self.rbf_sigma)
        self._positive("num_permutations", self.num_permutations, 0)
        self._positive("max_samples", self.max_samples, 0)
        self._positive("random_seed", self.random_seed, 0)
        self._positive("threshold", self.threshold, -math.inf)
        self._positive("min_effect", self.min_effect, -math.inf)
        if not 0 < self.p_value_threshold < 1:
            raise UsageError(
                f"p_value_threshold is {self.p_value_threshold}", hint="between 0 and 1, as 0.05"
            )

    @staticmethod
    def _positive(name: str, value: float, least: float) -> None:
        if not (math.isfinite(value) and value >= least):
            raise UsageError(f"{name} is {value}", hint=f"a finite number from {least}")

    def check(self, method: str) -> None:
        """Raise UsageError where there is no such method, or not with this bandwidth."""
        if method not in METHODS:
            near = nearest(method, METHODS)
            raise UsageError(
                f"no method {method!r}",
                hint=f"did you mean {near}?" if near else f"one of {', '.join(METHODS)}",
            )
        sigma = self.rbf_sigma
        if method == "rff" and sigma and not 1 / _RFF_SIGMAS <= sigma <= _RFF_SIGMAS:
            raise UsageError(
                f"a bandwidth of {sigma:g} is beyond the float32 of the method rff",
                hint=f"from {1 / _RFF_SIGMAS:g} to {_RFF_SIGMAS:g}, or the method mmd",
            )

    def to_dict(self) -> dict[str, float | int]:
        """Return the settings by name."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two samples of vectors have to do with each other."""

    method: str
    """What decided."""
    verdict: Verdict
    """What it says."""
    reason: str | None
    """Why the verdict is insufficient."""
    config: MMDConfig
    """Settings, with the seed that was used."""
    reference_count: int
    """Vectors of the reference."""
    current_count: int
    """Current vectors."""
    dimensions: int
    """Length of a vector."""
    mmd2: float = math.nan
    """Unbiased MMD^2 with `sigma`; NaN where undefined."""
    mmd2_interval: tuple[float, float] = (math.nan, math.nan)
    """95 % confidence interval of MMD^2."""
    mmd2_expected_high: float = math.nan
    """MMD^2 that 5 % of random splits exceed."""
    sigma: float = math.nan
    """Bandwidth, in the units of the vectors."""
    p_value: float = math.nan
    """Of the method; NaN where untested."""
    euclidean: float = math.nan
    """Distance of the means."""
    cosine: float = math.nan
    """Cosine distance of the means."""
    centroid: dict[str, Any] = field(default_factory=dict)
    """Tests of the means, by name as in JSON."""
    tests: tuple[SplitTest, ...] = ()
    """Every test that was made."""
    clusters: tuple[int, int] | None = None
    """Clusters of the reference and of the current vectors; None where all are independent."""

    @property
    def severity(self) -> str:
        """`none`, `moderate`, or `significant` where drift exceeds the threshold."""
        if self.verdict is not Verdict.DRIFT:
            return "none"
        return "significant" if self.mmd2 > self.config.threshold else "moderate"

    @property
    def topics(self) -> list[dict[str, Any]] | None:
        """Topics by how much they changed; None where the method did not look."""
        return next((t.details["topics"] for t in self.tests if t.name == "topics"), None)

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as it stands in JSON."""
        low, high = self.mmd2_interval
        clusters = self.clusters or (None, None)
        document: dict[str, Any] = {
            "mmd2": self.mmd2,
            "p_value": self.p_value,
            "sigma": self.sigma,
            "threshold": self.config.threshold,
            "verdict": str(self.verdict),
            "reference": {"rows": self.reference_count, "clusters": clusters[0]},
            "current": {"rows": self.current_count, "clusters": clusters[1]},
            "centroid": {"euclidean": self.euclidean, "cosine": self.cosine, **self.centroid},
            "reason": self.reason,
            "severity": self.severity,
            "method": self.method,
            "effect": {
                "mmd2_ci_low": low,
                "mmd2_ci_high": high,
                "mmd2_expected_high": self.mmd2_expected_high,
                "min_effect": self.config.min_effect,
            },
            "alpha": self.config.p_value_threshold,
            "permutations": self.config.num_permutations,
            "seed": self.config.random_seed,
            "dimensions": self.dimensions,
            "tests": [
                {
                    "method": test.name,
                    "p_value": test.p_value if len(test.statistics) > 1 else math.nan,
                    **{key: value for key, value in test.details.items() if key != "topics"},
                }
                for test in self.tests
            ],
        }
        if self.topics is not None:
            document["topics"] = [
                {key: value for key, value in topic.items() if key != "members"}
                for topic in self.topics
            ]
        return document


def compare(
    reference: Floats,
    current: Floats,
    config: MMDConfig,
    method: str,
    clusters: Clusters | None = None,
) -> Comparison:
    """Compare two samples.

    Args:
        reference: (n, d) finite.
        current: (m, d) finite.
        config: settings; `max_samples` has been seen to.
        method: see `auto.METHODS`.
        clusters: rows that are not independent; None: all are.

    Raises:
        UsageError: no such method.
    """
    config.check(method)
    seed = config.random_seed or secrets.randbits(31) + 1
    config = dataclasses.replace(config, random_seed=seed)
    n, m = len(reference), len(current)
    dimensions = int(reference.shape[1] if n else current.shape[1])
    base = Comparison(method, Verdict.INSUFFICIENT, None, config, n, m, dimensions)
    permutations = config.num_permutations
    if clusters is not None:
        first, both = clusters.numbers
        base = dataclasses.replace(base, clusters=(first, both - first))
        if min(first, both - first) < MINIMUM_COUNT:  # a split may leave a side without rows
            permutations = 0
        clusters = None if clusters.trivial else clusters
    if min(n, m) < 2:
        return dataclasses.replace(
            base, reason=f"{n} and {m} vectors, {MINIMUM_COUNT} a side are needed"
        )
    pool = Pooled.of(reference, current, permutations=permutations, seed=seed, clusters=clusters)
    measured, median_test = _measured(base, pool, reference, current, clusters)
    if math.isnan(measured.sigma):
        return dataclasses.replace(measured, reason=all_equal(coarser(reference[0], current[0])))
    if min(n, m) < MINIMUM_COUNT:
        reason = f"{n} and {m} vectors, {MINIMUM_COUNT} a side are needed"
        return dataclasses.replace(measured, reason=reason)
    if base.clusters is not None and min(base.clusters) < MINIMUM_COUNT:
        first, second = base.clusters
        reason = f"vectors of {first} and {second} clusters, {MINIMUM_COUNT} a side are needed"
        return dataclasses.replace(measured, reason=reason)
    if method == "mmd":
        tests = [median_test]
    elif method == "rff":
        from pyflare_analysis.drift.embeddings.features import features_test

        tests = [features_test(pool, measured.sigma)]
    else:
        tests = run(pool, method)
    return judged(dataclasses.replace(measured, tests=tuple(tests)))


def _measured(
    base: Comparison,
    pool: Pooled,
    reference: Floats,
    current: Floats,
    clusters: Clusters | None,
) -> tuple[Comparison, SplitTest]:
    """Return the comparison with what is always measured: MMD^2 and the centroids."""
    distances = Distances(pool.rows)
    row = coarser(reference[0], current[0])
    sigma = sigma_of(distances, row, base.config.rbf_sigma)
    means = [side.mean(0, dtype=np.float64) for side in (reference, current)]
    away = centroid_distances(*means)
    measured = dataclasses.replace(base, euclidean=away.euclidean, cosine=away.cosine)
    if math.isnan(sigma):
        return measured, SplitTest("mmd", np.zeros(1))
    if distances.largest_square > _FLOAT32_RANGE * sigma**2:
        pool = Pooled.of(
            reference,
            current,
            permutations=pool.permutations,
            seed=pool.seed,
            dtype=np.float64,
            clusters=clusters,
        )
        distances = Distances(pool.rows)
    sums = kernel_sums(distances, [Gaussian(gamma_of(sigma))], pool)[0]
    test = SplitTest("mmd", sums.mmd2(pool))
    value, margin = float(test.statistics[0]), _Z95 * sums.standard_error(pool)
    centroid: dict[str, Any] = {}
    if pool.permutations:
        n, m = len(reference), len(current)
        overall = (n * means[0] + m * means[1]) / (n + m)
        by_length = centroid_test(pool)
        centroid = {
            "euclidean_p_value": by_length.p_value,
            "euclidean_expected_high": by_length.expected_high,
            "cosine_p_value": cosine_test(pool, overall).p_value,
            "shift_in_sd": by_length.details["shift_in_sd"],
        }
    measured = dataclasses.replace(
        measured,
        mmd2=value,
        mmd2_interval=(value - margin, value + margin),
        mmd2_expected_high=test.expected_high,
        sigma=sigma,
        centroid=centroid,
    )
    return measured, test


def sigma_of(distances: Distances, row: Floats, given: float = 0.0) -> float:
    """Return the bandwidth: sqrt(median / 2) of the squared distances unless it is given.

    Where more than half of the pairs are equal, which makes the median 0, the largest
    squared norm of a centred vector takes its place.

    Args:
        distances: of centred vectors.
        row: (d,) a vector as it was, in the precision it has, to tell rounding from differences.
        given: bandwidth; 0: take the median.

    Returns:
        NaN where all vectors are equal.
    """
    largest = distances.largest_square
    rounding = _ROUNDING[row.dtype] * float(np.square(row, dtype=np.float64).sum())
    if largest <= rounding or largest == 0:
        return math.nan
    if given:
        return given
    median = distances.median()
    return math.sqrt((median if median > _EQUAL_PAIRS * largest else largest) / 2)


def coarser(first: Floats, second: Floats) -> Floats:
    """Return the one of less precision: what is equal to within that one is equal."""
    return first if first.dtype.itemsize <= second.dtype.itemsize else second


def all_equal(row: Floats) -> str:
    """Return the reason why vectors that all are `row` cannot be compared."""
    if row.any():
        return "the vectors are all equal"
    smallest = np.finfo(row.dtype).smallest_subnormal
    return f"the vectors are all zeros, or of numbers below {smallest:.1g}, which {row.dtype} lacks"


def judged(measured: Comparison) -> Comparison:
    """Return the comparison with p-value and verdict."""
    config = measured.config
    if not config.num_permutations:
        drift = measured.mmd2 > max(config.threshold, config.min_effect)
        return dataclasses.replace(measured, verdict=Verdict.DRIFT if drift else Verdict.STABLE)
    p_value = measured.tests[0].p_value
    smallest = 1 / (config.num_permutations + 1)
    if smallest > config.p_value_threshold:
        reason = (
            f"{config.num_permutations} permutations give no p-value below {smallest:.3g}, "
            f"and {config.p_value_threshold:g} is asked for"
        )
        return dataclasses.replace(measured, p_value=p_value, reason=reason)
    drift = p_value <= config.p_value_threshold
    if config.min_effect:
        drift = drift and measured.mmd2 > config.min_effect
    return dataclasses.replace(
        measured, p_value=p_value, verdict=Verdict.DRIFT if drift else Verdict.STABLE
    )
