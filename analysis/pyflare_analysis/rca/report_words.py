"""The findings of a report as sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyflare_analysis.plain import format_time
from pyflare_analysis.rca.actions import slice_text
from pyflare_analysis.rca.pattern import Pattern, PatternType

if TYPE_CHECKING:
    from pyflare_analysis.rca.clusters import FailureCluster
    from pyflare_analysis.rca.report import Change
    from pyflare_analysis.rca.slices import SliceAnalysisResult

__all__ = [
    "change_sentence",
    "cluster_sentence",
    "figure",
    "headline_of",
    "metric_name",
    "minute",
    "slice_sentence",
]

_NAMES = {
    "error_rate": "error rate",
    "latency_p50": "median latency",
    "latency_p95": "95th percentile of latency",
    "latency_p99": "99th percentile of latency",
    "cost": "cost of a call",
    "calls": "number of calls",
    "token_usage": "tokens of a call",
}
_SHORT = 70


def metric_name(metric: str) -> str:
    """Return a metric as it is called in a sentence."""
    return _NAMES.get(metric, metric)


def figure(value: float, metric: str, unit: str = "") -> str:
    """Return a value of a metric with its unit: `12.3 %`, `1.24 s`, `$0.0021`, `0.72`."""
    if metric.endswith("_rate") or unit == "share":
        return f"{100 * value:.3g} %"
    if metric.startswith("latency") or unit == "ms":
        return f"{value:.0f} ms" if value < 1000 else f"{value / 1000:.3g} s"
    if metric == "cost" or unit == "nano_usd":
        return f"${value / 1e9:.3g}"
    if unit == "calls_per_hour":
        return f"{value:,.0f} calls an hour"
    return f"{value:,.4g}"


def minute(time_ns: int) -> str:
    """Return a time to the minute: `2026-11-23 03:04`."""
    return format_time(time_ns)[:16].replace("T", " ")


def change_sentence(pattern: Pattern) -> str:
    """Return what changed, by how much, since when, and for whom."""
    name = metric_name(pattern.metric)
    values = (
        f"{figure(pattern.baseline, pattern.metric, pattern.unit)} to "
        f"{figure(pattern.observed, pattern.metric, pattern.unit)}"
    )
    where = slice_text(pattern.affected)
    since = f"since {minute(pattern.start_ns)}"
    until = "" if pattern.ongoing else f" until {minute(pattern.end_ns)}"
    match pattern.type:
        case PatternType.TEMPORAL_PATTERN:
            return f"The {name} is {_against(pattern)} at the same hours every day: {where}"
        case PatternType.USER_SEGMENT_ISSUE:
            return f"The {name} of {where} is {_against(pattern)}, {since}"
        case PatternType.DRIFT_CORRELATION:
            return f"Inputs drifted along with the {name} ({values}): {where}, {since}{until}"
        case _:
            verb = "rose" if pattern.observed > pattern.baseline else "fell"
            ongoing = ", and it goes on" if pattern.ongoing else ""
            return f"The {name} {verb} from {values} {since}{until}{ongoing}, for {where}"


def _against(pattern: Pattern) -> str:
    observed = figure(pattern.observed, pattern.metric, pattern.unit)
    baseline = figure(pattern.baseline, pattern.metric, pattern.unit)
    return f"{observed} against {baseline} of the rest"


def slice_sentence(metric: str, found: SliceAnalysisResult) -> str:
    """Return how a slice differs from the rest."""
    return (
        f"The {metric_name(metric)} of {slice_text(found.definition)} is "
        f"{figure(found.metric_value, metric)} against {figure(found.baseline_value, metric)} of "
        f"the rest"
    )


def cluster_sentence(cluster: FailureCluster) -> str:
    """Return how often a failure happened and how it grows."""
    grown = ""
    if cluster.growth is not None and cluster.growth.is_growing:
        ratio = cluster.growth.ratio
        grown = ", new" if ratio == float("inf") else f", {ratio:.2g} times as often as before"
    name = cluster.name if len(cluster.name) <= _SHORT else cluster.name[: _SHORT - 1] + "…"
    return f"{cluster.size:,} failures ({cluster.share:.0%}){grown}: {name}"


def headline_of(
    verdict: str,
    changes: Sequence[Change],
    slices: Sequence[tuple[str, SliceAnalysisResult]],
    grown: Sequence[FailureCluster],
) -> str:
    """Return the one sentence to read first."""
    if changes:
        more = len(changes) - 1
        others = "" if not more else f" (and {more} more change{'s' if more > 1 else ''})"
        return changes[0].sentence + others
    if slices:
        return slice_sentence(*slices[0])
    if grown:
        return cluster_sentence(grown[0])
    if verdict == "quiet":
        return "Nothing changed that chance does not explain"
    return "Nothing was found, but not everything could be looked at"
