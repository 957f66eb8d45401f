"""How each metric of spans becomes a series of counts, and a figure with its interval.

Error rates are counts as they are. Of latency, cost and scores the calls are counted whose value
lies beyond a quantile of the baseline: under no change the share is the same later, whatever
the distribution, and tests of counts hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from pyflare_analysis.rca.patterns.baseline import (
    binned_mean_sd,
    binned_quantile,
    quantile_interval,
    threshold_bin,
)
from pyflare_analysis.rca.patterns.pattern import PatternDetectorConfig, PatternType
from pyflare_analysis.statistics import wilson_interval

if TYPE_CHECKING:
    from pyflare_analysis.rca.patterns.cells import Cube

__all__ = ["CALL_MEASURES", "COST_MEASURES", "Figure", "Measure", "score_measures"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Figure:
    """A metric over some intervals."""

    value: float
    low: float
    """Bounds of the 95 % confidence interval."""
    high: float
    count: float
    """Calls or scores."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric, and the quantile beyond which its values are counted."""

    name: str
    type: PatternType
    unit: str
    kind: Literal["rate", "quantile", "mean"]
    """How the figure is made."""
    beyond: float = 0.0
    """Quantile of the baseline that is a hit beyond; of a rate the errors are the hits."""
    worse: Literal["higher", "lower"] = "higher"

    def hits(self, cube: Cube, row: int, baseline: NDArray[np.bool_]) -> Floats:
        """Return (T,) hits of one slice.

        Args:
            cube: counts.
            row: the slice.
            baseline: (T,) the intervals whose quantile counts.
        """
        if self.kind == "rate":
            errors: Floats = cube.sums["errors"][row]
            return errors
        bins = cube.bins[row]
        at = threshold_bin(bins[baseline].sum(axis=0), self.beyond)
        beyond: Floats = bins[:, :at] if self.worse == "lower" else bins[:, at:]
        counted: Floats = beyond.sum(axis=1)
        return counted

    def figure(self, cube: Cube, row: int, inside: NDArray[np.bool_]) -> Figure:
        """Return the metric over the intervals `inside` (T,)."""
        n = float(cube.trials[row][inside].sum())
        if n <= 0:
            return Figure(np.nan, np.nan, np.nan, 0.0)
        if self.kind == "rate":
            k = float(cube.sums["errors"][row][inside].sum())
            interval = wilson_interval(min(k, n), n)
            return Figure(k / n, float(interval.low), float(interval.high), n)
        bins = cube.bins[row][inside].sum(axis=0)
        if self.kind == "quantile":
            q = self.beyond
            low, high = quantile_interval(bins, cube.edges, q)
            return Figure(binned_quantile(bins, cube.edges, q), low, high, n)
        mean = float(cube.sums["value"][row][inside].sum()) / n
        half = 1.96 * binned_mean_sd(bins, cube.edges) / np.sqrt(n)
        return Figure(mean, mean - half, mean + half, n)

    def large_enough(
        self, before: Figure, within: Figure, config: PatternDetectorConfig, scale: float
    ) -> bool:
        """Return whether a change reaches the minimum effect.

        Args:
            before: the baseline.
            within: the episode.
            config: minimum effects.
            scale: range of the baseline's values, for scores.
        """
        old, new = before.value, within.value
        if not (np.isfinite(old) and np.isfinite(new)):
            return False
        match self.type:
            case PatternType.ERROR_SPIKE:
                grown = new - old >= config.min_error_increase
                return grown and new >= config.min_error_ratio * old
            case PatternType.LATENCY_DEGRADATION:
                return new >= config.min_latency_ratio * old
            case PatternType.COST_ANOMALY:
                return new >= config.min_cost_ratio * old
            case _:
                change = new - old if self.worse == "higher" else old - new
                return change >= config.min_score_change * scale and change > 0

    def effect(self, old: float, new: float, scale: float) -> float:
        """Return the size of a change between 0 and 1, see `severity` in the documentation."""
        if self.type is PatternType.ERROR_SPIKE:
            size = (new - old) / max(1e-9, 1 - old)
        elif self.type is PatternType.QUALITY_DROP:
            size = abs(new - old) / scale if scale > 0 else 0.0
        else:
            size = 1 - old / new if new > 0 else 0.0
        return float(min(1.0, max(0.0, size)))


CALL_MEASURES = (
    Measure("error_rate", PatternType.ERROR_SPIKE, "share", "rate"),
    Measure("latency_p50", PatternType.LATENCY_DEGRADATION, "ms", "quantile", 0.5),
    Measure("latency_p95", PatternType.LATENCY_DEGRADATION, "ms", "quantile", 0.95),
)
COST_MEASURES = (
    Measure("cost", PatternType.COST_ANOMALY, "nano_usd", "mean", 0.5),
    Measure("cost", PatternType.COST_ANOMALY, "nano_usd", "mean", 0.9),
)


def score_measures(name: str, worse: Literal["higher", "lower"]) -> tuple[Measure, ...]:
    """Return the measures of an evaluation's scores: their middle and their bad end."""
    quantiles = (0.25, 0.05) if worse == "lower" else (0.75, 0.95)
    return tuple(
        Measure(name, PatternType.QUALITY_DROP, "score", "mean", q, worse) for q in quantiles
    )
