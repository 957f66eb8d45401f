"""The findings of a report as sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from shlex import quote
from typing import TYPE_CHECKING

from pyflare_analysis.plain import format_time
from pyflare_analysis.rca.patterns.actions import slice_text
from pyflare_analysis.rca.patterns.pattern import Pattern, PatternType

if TYPE_CHECKING:
    from pyflare_analysis.rca.clusters.clusterer import FailureCluster
    from pyflare_analysis.rca.report.page import Change
    from pyflare_analysis.rca.slices.analyzer import SliceAnalysisResult

__all__ = [
    "change_sentence",
    "cluster_name",
    "cluster_sentence",
    "figure",
    "filter_words",
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
    "toxicity_rate": "share of toxic answers",
    "hallucination_rate": "share of hallucinations",
    "drift_score": "drift",
}
_FLAGS = {
    "model": "--model",
    "feature": "--feature",
    "service_name": "--service",
    "environment": "--environment",
    "user_id": "--user",
}
_COMPUTED = {
    *("time_of_day", "day_of_week", "input_length", "output_length", "latency"),
    *("input_tokens", "output_tokens", "duration_ms"),
}
"""Dimensions whose values are bins."""
_SHORT = 90


def metric_name(metric: str) -> str:
    """Return a metric as it is called in a sentence; the others are scores of evaluations."""
    return _NAMES.get(metric, f"score {metric}")


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
    return f"{value:,.3g}"


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
    when = _when(pattern)
    match pattern.type:
        case PatternType.TEMPORAL_PATTERN:
            return f"The {name} is {_against(pattern)} at the same hours every day: {where}"
        case PatternType.USER_SEGMENT_ISSUE:
            return f"The {name} of {where} is {_against(pattern)}, {when}"
        case PatternType.DRIFT_CORRELATION:
            column = pattern.details.get("drift_column", "An input")
            other = metric_name(str(pattern.details.get("correlated_metric", "errors")))
            return (
                f"{column} of {where} drifted (PSI {pattern.observed:.2f}) while the {other} got "
                f"worse, {when}"
            )
        case _:
            verb = "rose" if pattern.observed > pattern.baseline else "fell"
            return f"The {name} {verb} from {values} {when}, for {where}"


def _when(pattern: Pattern) -> str:
    start = minute(pattern.start_ns)
    if pattern.ongoing:
        return f"since {start} UTC"
    end = minute(pattern.end_ns)
    return f"between {start} and {end[11:] if end[:10] == start[:10] else end} UTC"


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
    return f"{cluster.size:,} failures ({cluster.share:.0%}){grown}: {cluster_name(cluster)}"


def cluster_name(cluster: FailureCluster) -> str:
    """Return a failure in one short line, by a message as it was: easier read than a template."""
    says = " ".join(cluster.representative_error.split()) or cluster.template
    text = says if cluster.error_type is None else f"{cluster.error_type}: {says}"
    return text if len(text) <= _SHORT else text[: _SHORT - 1] + "…"


def filter_words(definition: Mapping[str, object]) -> str:
    """Return the options that choose a slice; empty where none do (bins, hours)."""
    words = []
    for name, value in definition.items():
        if name in _FLAGS:
            words += [_FLAGS[name], quote(str(value))]
        elif name not in _COMPUTED and value is not None:
            escaped = str(value).replace("'", "''")
            words += ["--where", quote(f"{name} = '{escaped}'")]
    return " ".join(words)


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
