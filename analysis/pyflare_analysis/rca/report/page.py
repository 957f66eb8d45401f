"""The root cause report: patterns, attribution, slices and clusters joined into one page.

What changed and since when comes from the patterns; each change is attributed to slices
between the time before and the time within, and a rise of errors is told with the clusters
of failures that grew within it. Slices that are bad all the time, and the failures as a
whole, follow. A part that lacks data says so, and the rest of the page stands.

Example:
    >>> report = build_report(open_source("pyflare-data"), Filters())
    >>> print(report.headline)
    >>> for change in report.changes:
    ...     print(change.sentence, change.pattern.suggested_actions)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyflare_analysis.plain import format_time
from pyflare_analysis.rca.clusters.clusterer import ClusterAnswer, FailureCluster
from pyflare_analysis.rca.patterns.pattern import Pattern
from pyflare_analysis.rca.report.words import cluster_sentence, slice_sentence

if TYPE_CHECKING:
    from pyflare_analysis.rca.attribution.answer import Attribution
    from pyflare_analysis.rca.clusters.state import Registry
    from pyflare_analysis.rca.slices.analyzer import SliceAnalysis, SliceAnalysisResult
    from pyflare_storage.filters import Filters
    from pyflare_storage.source import Source

__all__ = ["Action", "Change", "MissingPart", "RcaReport", "ReportConfig", "build_report"]


@dataclass(frozen=True, slots=True)
class ReportConfig:
    """How much the page holds."""

    changes: int = 5
    """Changes that are told, the most severe first."""
    slices: int = 5
    """Slices of each metric."""
    clusters: int = 8
    """Clusters of failures."""
    actions: int = 8
    """Things to try."""
    weighted: bool = True
    """Count sampled spans 1/sampling_probability each."""


@dataclass(frozen=True, slots=True)
class MissingPart:
    """A part of the page that could not be answered."""

    part: str
    """patterns, attribution, slices or clusters, with its metric where it has one."""
    reason: str
    hint: str | None


@dataclass(frozen=True, slots=True)
class Action:
    """Something to try."""

    text: str
    """What to do; ends with a command where there is one."""
    because: str
    """The finding that it follows from."""


@dataclass(frozen=True, slots=True)
class Change:
    """One pattern with what explains it."""

    pattern: Pattern
    sentence: str
    """What changed, by how much, since when and for whom."""
    attribution: Attribution | None
    """Where the change comes from; None where it was not attributed."""
    clusters: tuple[FailureCluster, ...]
    """Failures that grew within it; of a rise of errors only."""
    mean_weight: float = 1.0
    """Calls that a stored call within it stands for."""

    def to_dict(self) -> dict[str, object]:
        """Return the change as it stands in JSON."""
        return {
            "sentence": self.sentence,
            **self.pattern.to_dict(),
            "attribution": None if self.attribution is None else self.attribution.to_dict(),
            "growing_clusters": [
                {"id": c.id, "name": c.name, "growth": c.growth.to_dict() if c.growth else None}
                for c in self.clusters
            ],
        }


@dataclass(frozen=True, slots=True)
class RcaReport:
    """The page."""

    verdict: str
    """`trouble`, `quiet`, or `partial`: nothing was found where not everything was looked at."""
    headline: str
    start_ns: int
    """First start of a call."""
    end_ns: int
    """Last start of a call."""
    calls: int
    failed_calls: int
    cost_nano_usd: int | None
    every: str
    """Length of an interval of the timeline."""
    timeline: tuple[Mapping[str, object], ...]
    """Per interval: `time`, `calls`, `failed_calls`, `latency_mean_ms`, `cost_nano_usd`."""
    changes: tuple[Change, ...]
    slices: Mapping[str, SliceAnalysis]
    """Slices of each metric that was looked at."""
    clusters: ClusterAnswer | None
    actions: tuple[Action, ...]
    missing: tuple[MissingPart, ...]
    weighted: bool
    sampled: bool
    config: ReportConfig

    @property
    def shown_clusters(self) -> tuple[FailureCluster, ...]:
        """The clusters of the page."""
        return () if self.clusters is None else self.clusters.clusters[: self.config.clusters]

    def shown_slices(self) -> list[tuple[str, SliceAnalysisResult]]:
        """Return the significant slices of the page with their metric."""
        return [
            (metric, found)
            for metric, analysis in self.slices.items()
            for found in analysis.slices
            if found.is_statistically_significant
        ]

    def to_dict(self) -> dict[str, object]:
        """Return the page as it stands in JSON."""
        return {
            "verdict": self.verdict,
            "headline": self.headline,
            "start_time": format_time(self.start_ns),
            "end_time": format_time(self.end_ns),
            "weighted": self.weighted,
            "sampled": self.sampled,
            "calls": self.calls,
            "failed_calls": self.failed_calls,
            "error_rate": self.failed_calls / self.calls if self.calls else None,
            "cost_nano_usd": self.cost_nano_usd,
            "changes": [change.to_dict() for change in self.changes],
            "slices": [
                {"metric": metric, "sentence": slice_sentence(metric, found), **found.to_dict()}
                for metric, found in self.shown_slices()
            ],
            "clusters": [
                {"sentence": cluster_sentence(cluster), **cluster.to_dict()}
                for cluster in self.shown_clusters
            ],
            "actions": [{"text": a.text, "because": a.because} for a in self.actions],
            "missing": [{"part": m.part, "reason": m.reason, "hint": m.hint} for m in self.missing],
            "every": self.every,
            "timeline": [dict(row) for row in self.timeline],
        }


def build_report(
    source: Source,
    filters: Filters | None = None,
    *,
    config: ReportConfig | None = None,
    evaluations: Source | None = None,
    registry: Registry | None = None,
) -> RcaReport:
    """Look for causes in every way there is data for.

    Args:
        source: where the spans are.
        filters: which spans count; all when None.
        config: how much the page holds.
        evaluations: results of evaluations that ran later; see `scores`.
        registry: known clusters, whose ids are kept.

    Raises:
        NotEnoughDataError: there are no calls, or no part could be answered.
    """
    from pyflare_analysis.rca.report.builder import ReportBuilder

    return ReportBuilder(source, filters, config or ReportConfig(), evaluations, registry).build()
