"""What was found, as patterns: figures, shape, severity, and the slice."""

from __future__ import annotations

import numpy as np

from pyflare_analysis.rca.patterns.cells import Grid
from pyflare_analysis.rca.patterns.drift_links import DriftLink
from pyflare_analysis.rca.patterns.incidents import Incident
from pyflare_analysis.rca.patterns.pattern import Pattern, PatternType
from pyflare_analysis.rca.patterns.recurring import Recurring
from pyflare_analysis.rca.patterns.segments import Segments
from pyflare_analysis.rca.patterns.trend import trend_of
from pyflare_analysis.rca.patterns.volume import Surge

__all__ = [
    "drift_pattern",
    "incident_pattern",
    "recurring_pattern",
    "segment_pattern",
    "severity_of",
    "surge_pattern",
]

_DAY_NS = 86_400_000_000_000


def severity_of(effect: float, reach: float) -> float:
    """Return effect^(1/2) reach^(1/4): how much worse, and for how large a part of the calls.

    Args:
        effect: 0 to 1, see `Measure.effect`.
        reach: share of the calls that are affected while it lasts, 0 to 1.
    """
    return round(float(effect**0.5 * max(reach, 0.0) ** 0.25), 4)


def incident_pattern(grid: Grid, incident: Incident, q: float) -> Pattern:
    """Return an episode of a metric of a slice as a pattern."""
    episode, measure = incident.episode, incident.measure
    before, within = incident.before, incident.within
    ongoing = episode.last >= grid.count - 1
    shape, details = _shape(grid, incident, ongoing=ongoing)
    effect = measure.effect(before.value, within.value, incident.scale)
    return Pattern(
        type=measure.type,
        start_ns=grid.time_ns(episode.first),
        end_ns=grid.time_ns(episode.last),
        metric=measure.name,
        unit=measure.unit,
        baseline=before.value,
        observed=within.value,
        severity=severity_of(effect, incident.reach),
        confidence=1 - q,
        affected=_affected(incident.dimension, incident.value),
        ci_low=within.low,
        ci_high=within.high,
        p_value=episode.p_value,
        q_value=q,
        baseline_count=round(before.count, 3),
        observed_count=round(within.count, 3),
        shape=shape,
        ongoing=ongoing,
        details=incident.details | details,
    )


def _shape(grid: Grid, incident: Incident, *, ongoing: bool) -> tuple[str, dict[str, float]]:
    """Return whether an episode is a spike, a step or a trend, and the trend's slope."""
    episode = incident.episode
    length = episode.last - episode.first
    assert incident.series is not None  # noqa: S101 - every accepted incident has one
    days = np.arange(length) * grid.every_ns / _DAY_NS
    trend = trend_of(days, incident.series[episode.first : episode.last])
    change = abs(incident.within.value - incident.before.value)
    worse = np.sign(incident.within.value - incident.before.value)
    moved = trend.slope * worse * (days[-1] if length else 0.0)
    if length >= 8 and trend.p_value < 0.01 and moved >= 0.75 * change:
        return "trend", {"slope_per_day": trend.slope, "kendall_tau": trend.tau}
    short = length <= max(2, grid.count // 10)
    return ("spike" if short and not ongoing else "step"), {}


def surge_pattern(grid: Grid, surge: Surge, q: float) -> Pattern:
    """Return an episode of more calls as a pattern."""
    effect = 1 - surge.expected / surge.observed
    length = surge.episode.last - surge.episode.first
    ongoing = surge.episode.last >= grid.count - 1
    return Pattern(
        type=PatternType.COST_ANOMALY,
        start_ns=grid.time_ns(surge.episode.first),
        end_ns=grid.time_ns(surge.episode.last),
        metric="calls",
        unit="calls_per_hour",
        baseline=surge.expected,
        observed=surge.observed,
        severity=severity_of(effect, surge.reach),
        confidence=1 - q,
        affected=_affected(surge.dimension, surge.value),
        p_value=surge.episode.p_value,
        q_value=q,
        baseline_count=round(surge.expected_calls, 3),
        observed_count=round(surge.calls, 3),
        shape="spike" if length <= max(2, grid.count // 10) and not ongoing else "step",
        ongoing=ongoing,
    )


def drift_pattern(grid: Grid, incident: Incident, links: list[DriftLink]) -> Pattern:
    """Return an input that drifted along with an episode as a pattern."""
    link, episode = links[0], incident.episode
    effect = min(1.0, max(0.0, link.correlation))
    return Pattern(
        type=PatternType.DRIFT_CORRELATION,
        start_ns=grid.time_ns(episode.first),
        end_ns=grid.time_ns(episode.last),
        metric="psi",
        unit="",
        baseline=link.psi_before,
        observed=link.psi,
        severity=severity_of(effect * min(1.0, link.psi), incident.reach),
        confidence=1 - link.p_shift,
        affected=_affected(incident.dimension, incident.value),
        p_value=link.p_value,
        baseline_count=link.reference_count,
        observed_count=link.current_count,
        ongoing=episode.last >= grid.count - 1,
        details={
            "drift_column": link.column,
            "correlated_metric": incident.measure.name,
            "correlation": link.correlation,
            "p_circular_shift": link.p_shift,
            "windows": link.windows,
            "further_columns": [other.column for other in links[1:]],
        },
    )


def recurring_pattern(grid: Grid, item: Recurring) -> Pattern:
    """Return hours of the day that are worse as a pattern."""
    effect = item.measure.effect(item.rest.value, item.within.value, 1.0)
    return Pattern(
        type=PatternType.TEMPORAL_PATTERN,
        start_ns=grid.time_ns(item.first),
        end_ns=grid.time_ns(item.last),
        metric=item.measure.name,
        unit=item.measure.unit,
        baseline=item.rest.value,
        observed=item.within.value,
        severity=severity_of(effect, item.reach * len(item.hours) / 24),
        confidence=1 - item.q_value,
        affected=_affected(item.dimension, item.value) | {"time_of_day": item.hours},
        ci_low=item.within.low,
        ci_high=item.within.high,
        p_value=item.p_value,
        q_value=item.q_value,
        baseline_count=round(item.rest.count, 3),
        observed_count=round(item.within.count, 3),
        shape="recurring",
        ongoing=True,
        details={"timezone": "UTC"},
    )


def segment_pattern(grid: Grid, found: Segments) -> Pattern:
    """Return users that fail more than the others as a pattern."""
    episode = found.episode
    start, end = (episode.first, episode.last) if episode else (0, grid.count)
    shown = zip(found.values, found.rates, found.calls, strict=True)
    effect = (found.observed - found.baseline) / max(1e-9, 1 - found.baseline)
    return Pattern(
        type=PatternType.USER_SEGMENT_ISSUE,
        start_ns=grid.time_ns(start),
        end_ns=grid.time_ns(end),
        metric="error_rate",
        unit="share",
        baseline=found.baseline,
        observed=found.observed,
        severity=severity_of(effect, found.share),
        confidence=1 - found.p_value,
        affected={
            found.dimension: found.values[0] if len(found.values) == 1 else list(found.values)
        },
        ci_low=found.ci_low,
        ci_high=found.ci_high,
        q_value=found.p_value,
        baseline_count=round(found.baseline_calls, 3),
        observed_count=round(sum(found.calls), 3),
        shape="step" if episode else "constant",
        ongoing=end >= grid.count - 1,
        details={
            "segments": [
                {"value": value, "error_rate": rate, "calls": calls} for value, rate, calls in shown
            ],
            "segments_total": found.total,
        },
    )


def _affected(dimension: str | None, value: str) -> dict[str, object]:
    return {} if dimension is None else {dimension: value}
