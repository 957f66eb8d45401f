"""What a pattern over time is, and the settings of its detection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pyflare_analysis.plain import format_time
from pyflare_proto.errors import UsageError

__all__ = ["Pattern", "PatternDetectorConfig", "PatternReport", "PatternType", "severity_level"]


class PatternType(StrEnum):
    """The kinds of patterns."""

    ERROR_SPIKE = "error_spike"
    """More calls fail than before."""
    LATENCY_DEGRADATION = "latency_degradation"
    """Calls take longer than before, at once or slowly."""
    QUALITY_DROP = "quality_drop"
    """Scores of an evaluation are worse than before."""
    COST_ANOMALY = "cost_anomaly"
    """A call costs more than before, or there are more calls than that time of day has."""
    DRIFT_CORRELATION = "drift_correlation"
    """An input moved away from what it was while errors, latency or quality got worse."""
    TEMPORAL_PATTERN = "temporal_pattern"
    """It is worse at the same hours of many days."""
    USER_SEGMENT_ISSUE = "user_segment_issue"
    """Some users fail much more often than the others."""
    CUSTOM = "custom"
    """A change of a series that is no metric of spans."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """One episode of trouble."""

    type: PatternType
    start_ns: int
    """Start of the first interval, ns since 1970."""
    end_ns: int
    """End of the last interval, ns since 1970."""
    metric: str
    """error_rate, latency_p50, latency_p95, cost, calls, an evaluation, or a column."""
    unit: str
    """Unit of `baseline` and `observed`: share, ms, nano_usd, calls_per_hour, score, or empty."""
    baseline: float
    """The metric before; of a segment or of hours, the metric of the rest."""
    observed: float
    """The metric within."""
    severity: float
    """0 to 1, see `severity_of`."""
    confidence: float
    """1 - q: the q-value is adjusted for all intervals, metrics and slices that were tested."""
    affected: Mapping[str, Any]
    """The slice: value of each dimension, lists where several; empty: all calls."""
    suggested_actions: tuple[str, ...] = ()
    """What to try, each naming the slice."""
    ci_low: float | None = None
    """Bounds of the 95 % confidence interval of `observed`."""
    ci_high: float | None = None
    p_value: float | None = None
    """Of the change, before adjustment for the other metrics and slices."""
    q_value: float | None = None
    """Benjamini-Hochberg over all tests of the run."""
    baseline_count: float = 0.0
    """Calls or scores of the baseline."""
    observed_count: float = 0.0
    """Calls or scores within."""
    shape: str = "step"
    """spike, step, trend, recurring or constant."""
    ongoing: bool = False
    """Whether it lasts to the end of the data."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Further figures, by name, as they stand in JSON."""

    def to_dict(self) -> dict[str, Any]:
        """Return the pattern as it stands in JSON."""
        return {
            "type": str(self.type),
            "start_time": format_time(self.start_ns),
            "end_time": format_time(self.end_ns),
            "metric": self.metric,
            "unit": self.unit,
            "baseline": self.baseline,
            "observed": self.observed,
            "ci_low": self.ci_low,
            "ci_high": self.ci_high,
            "severity": self.severity,
            "severity_level": severity_level(self.severity),
            "confidence": self.confidence,
            "p_value": self.p_value,
            "q_value": self.q_value,
            "baseline_count": self.baseline_count,
            "observed_count": self.observed_count,
            "shape": self.shape,
            "ongoing": self.ongoing,
            "affected": dict(self.affected),
            "details": dict(self.details),
            "suggested_actions": list(self.suggested_actions),
        }


def severity_level(severity: float) -> str:
    """Return low, medium, high or critical: below 0.25, 0.5, 0.75 and from there on."""
    levels = ("low", "medium", "high", "critical")
    return levels[min(3, int(severity * 4))]


@dataclass(frozen=True, slots=True)
class PatternDetectorConfig:
    """Settings of the detection; the defaults are explained in docs/rca-patterns.md."""

    every: str | None = None
    """Length of an interval, like `15m`; chosen from the length of the data when None."""
    alpha: float = 0.001
    """A pattern's q-value must be below."""
    min_calls: int = 30
    """Calls or scores that an episode and a baseline must have at least."""
    baseline_share: float = 0.1
    """Share of the intervals that serve as baseline only."""
    min_error_increase: float = 0.03
    """An error rate must grow by so much (3 points) ..."""
    min_error_ratio: float = 1.5
    """... and to so many times."""
    min_latency_ratio: float = 1.25
    """A latency must grow to so many times."""
    min_cost_ratio: float = 1.2
    """The cost of a call must grow to so many times."""
    min_volume_ratio: float = 2.0
    """The number of calls must grow to so many times what that time of day had."""
    min_score_change: float = 0.05
    """A score must get worse by so much of the range of the baseline's scores (1 % to 99 %)."""
    min_segment_calls: int = 20
    """Calls that a user must have to be judged."""
    min_segment_increase: float = 0.05
    """A user's error rate must be above that of the others by so much."""
    min_days: int = 3
    """Days that hours of the day need to be compared on."""
    history: str = "14d"
    """How far before `--since` the baseline may reach."""
    dimensions: tuple[str, ...] | None = None
    """Dimensions of the slices; those of docs/rca-patterns.md when None."""
    segments: tuple[str, ...] | None = None
    """Dimensions of `user_segment_issue`; users and the application's own attributes when None."""
    max_values: int = 50
    """Values of a dimension that are looked at, the most frequent first."""
    max_patterns: int = 20
    """Episodes of one metric that are looked for."""

    def validate(self) -> None:
        """Raise `UsageError` for a setting out of range."""
        if not 0 < self.alpha < 1:
            raise UsageError(f"alpha is {self.alpha}", hint="give a number between 0 and 1")
        if self.min_calls < 5:
            raise UsageError(f"min_calls is {self.min_calls}", hint="give a number from 5")
        if not 0 < self.baseline_share < 1:
            raise UsageError(
                f"baseline_share is {self.baseline_share}", hint="give a number between 0 and 1"
            )


@dataclass(frozen=True, slots=True)
class PatternReport:
    """The answer: what was found and what was looked at."""

    patterns: tuple[Pattern, ...]
    """The most severe first."""
    calls: int
    """Calls that were looked at, the history included."""
    start_ns: int
    end_ns: int
    every: str
    """Length of an interval."""
    tests: int
    """Tests whose p-values were adjusted together."""
    weighted: bool
    """Whether sampled spans count 1/sampling_probability each."""
    sampled: bool
    """Whether any span was sampled."""
    not_tested: Mapping[str, str]
    """Types of patterns that could not be looked for, with the reason."""
    notes: tuple[str, ...] = ()
    """What else was not looked at."""

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as it stands in JSON."""
        return {
            "start_time": format_time(self.start_ns),
            "end_time": format_time(self.end_ns),
            "every": self.every,
            "calls": self.calls,
            "tests": self.tests,
            "weighted": self.weighted,
            "sampled": self.sampled,
            "not_tested": dict(self.not_tested),
            "notes": list(self.notes),
            "patterns": [pattern.to_dict() for pattern in self.patterns],
        }
