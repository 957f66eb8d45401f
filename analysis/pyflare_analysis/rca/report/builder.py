"""How the parts of the report are asked for and joined."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from pyflare_analysis.calls import CALL, FAILED, SAMPLED
from pyflare_analysis.plain import format_time
from pyflare_analysis.rca.clusters.clusterer import (
    ClusterAnswer,
    FailureCluster,
    FailureClustererConfig,
    cluster_spans,
)
from pyflare_analysis.rca.clusters.error_kinds import kind_of
from pyflare_analysis.rca.dimensions import span_condition
from pyflare_analysis.rca.patterns.actions import slice_text
from pyflare_analysis.rca.patterns.frame import with_history
from pyflare_analysis.rca.patterns.pattern import (
    Pattern,
    PatternDetectorConfig,
    PatternReport,
    PatternType,
)
from pyflare_analysis.rca.report.page import Action, Change, MissingPart, RcaReport, ReportConfig
from pyflare_analysis.rca.report.words import (
    change_sentence,
    cluster_name,
    filter_words,
    headline_of,
    slice_sentence,
)
from pyflare_proto.errors import NotEnoughDataError
from pyflare_storage.aggregates import Aggregate, Count, Max, Mean, Min, Sum
from pyflare_storage.expressions import Timestamp, all_of, col

if TYPE_CHECKING:
    from pyflare_analysis.rca.attribution.answer import Attribution
    from pyflare_analysis.rca.clusters.state import Registry
    from pyflare_analysis.rca.slices.analyzer import SliceAnalysis
    from pyflare_storage.filters import Filters
    from pyflare_storage.source import Source

__all__ = ["ReportBuilder"]

_Answer = TypeVar("_Answer")

_MEMBERS = 20
_INTERVALS = ("1m", "5m", "15m", "30m", "1h", "3h", "6h", "12h", "1d", "7d")
_MOST_INTERVALS = 96
_EXPLAINED = {
    PatternType.ERROR_SPIKE,
    PatternType.LATENCY_DEGRADATION,
    PatternType.COST_ANOMALY,
    PatternType.QUALITY_DROP,
}


@dataclass(frozen=True, slots=True)
class _Totals:
    """All calls together."""

    calls: float
    failed: float
    sampled: int
    cost: float | None
    first_ns: int
    last_ns: int


class ReportBuilder:
    """Asks every part of the report; see `report.build_report` for the arguments."""

    def __init__(
        self,
        source: Source,
        filters: Filters | None,
        config: ReportConfig,
        evaluations: Source | None,
        registry: Registry | None,
    ) -> None:
        self.source = source
        self.filters = filters
        self.config = config
        self.evaluations = evaluations
        self.registry = registry
        self.where = None if filters is None else span_condition(source, filters)
        # As the patterns do: what `--since` cuts off still serves to compare with.
        self.longer, _ = with_history(filters, PatternDetectorConfig().history)
        self.missing: list[MissingPart] = []

    def build(self) -> RcaReport:
        """Return the report."""
        totals = self._totals()
        every, timeline = self._timeline(totals)
        patterns = self._tried("patterns", self._patterns)
        found = () if patterns is None else patterns.patterns[: self.config.changes]
        if patterns is not None:
            self.missing += [
                MissingPart(f"patterns of type {type_}", reason, None)
                for type_, reason in patterns.not_tested.items()
            ]
        changes = [self._change(pattern, totals) for pattern in found]
        slices = self._slices(found)
        clusters = self._tried("clusters", lambda: self._clusters(0.25, self.filters))
        if patterns is None and not slices and clusters is None:
            raise self._nothing(totals)
        troubled = bool(changes) or any(
            s.is_statistically_significant for a in slices.values() for s in a.slices
        )
        grown = [] if clusters is None else _growing(clusters)
        verdict = "trouble" if troubled or grown else "partial" if self.missing else "quiet"
        report = RcaReport(
            verdict=verdict,
            headline="",
            start_ns=totals.first_ns,
            end_ns=totals.last_ns,
            calls=round(totals.calls),
            failed_calls=round(totals.failed),
            cost_nano_usd=None if totals.cost is None else round(totals.cost),
            every=every,
            timeline=timeline,
            changes=tuple(changes),
            slices=slices,
            clusters=clusters,
            actions=(),
            missing=tuple(self.missing),
            weighted=self.config.weighted,
            sampled=totals.sampled > 0,
            config=self.config,
        )
        return replace(
            report,
            headline=headline_of(report.verdict, changes, report.shown_slices(), grown),
            actions=tuple(_once(_actions(report, grown)))[: self.config.actions],
        )

    def _totals(self) -> _Totals:
        weighted = self.config.weighted
        figures: dict[str, Aggregate] = {
            "calls": Count(weighted=weighted),
            "failed": Count(where=FAILED, weighted=weighted),
            "sampled": Count(where=SAMPLED),
            "cost": Sum("cost_nano_usd", weighted=weighted),
            "first": Min("start_time"),
            "last": Max("start_time"),
        }
        frame = self.source.aggregate(figures, where=all_of([CALL, self.where]))
        row = dict(zip(frame.columns, frame.row(0), strict=True))
        if not row["calls"]:
            hint = "pyflare import FILE... or pyflare collect brings some in; widen the filters"
            raise NotEnoughDataError(f"no calls in {self.source.url}", hint=hint)
        first, last = (int(ns) for ns in _nanoseconds(frame, "first", "last"))
        return _Totals(
            calls=float(row["calls"]),
            failed=float(row["failed"]),
            sampled=int(row["sampled"]),
            cost=None if row["cost"] is None else float(row["cost"]),
            first_ns=first,
            last_ns=last,
        )

    def _timeline(self, totals: _Totals) -> tuple[str, tuple[Mapping[str, object], ...]]:
        from pyflare_storage.times import parse_duration_ns

        length = totals.last_ns - totals.first_ns
        fitting = (e for e in _INTERVALS if length / parse_duration_ns(e) <= _MOST_INTERVALS)
        every = next(fitting, _INTERVALS[-1])
        weighted = self.config.weighted
        figures: dict[str, Aggregate] = {
            "calls": Count(weighted=weighted),
            "failed_calls": Count(where=FAILED, weighted=weighted),
            "latency_mean_ms": Mean("duration_ms", weighted=weighted),
            "cost_nano_usd": Sum("cost_nano_usd", weighted=weighted),
        }
        frame = self.source.time_series(figures, every, where=all_of([CALL, self.where]))
        # The last digits of a mean depend on the order of summation, which differs by source.
        frame = frame.with_columns(frame["latency_mean_ms"].round(6))
        times = _nanoseconds(frame, "time")
        names = list(figures)
        return every, tuple(
            {"time": format_time(time), **dict(zip(names, row, strict=True))}
            for time, row in zip(times, frame.select(names).iter_rows(), strict=True)
        )

    def _tried(self, part: str, ask: Callable[[], _Answer]) -> _Answer | None:
        """Return the answer of a part; note why there is none."""
        try:
            return ask()
        except NotEnoughDataError as error:
            self.missing.append(MissingPart(part, error.message, error.hint))
            return None

    def _patterns(self) -> PatternReport:
        from pyflare_analysis.rca.patterns.detector import PatternDetector

        detector = PatternDetector(
            self.source, evaluations=self.evaluations, weighted=self.config.weighted
        )
        return detector.report(filters=self.filters)

    def _change(self, pattern: Pattern, totals: _Totals) -> Change:
        attribution = None
        if pattern.type in _EXPLAINED and pattern.metric != "calls":
            attribution = self._tried(
                f"attribution of {pattern.metric}", lambda: self._attribution(pattern, totals)
            )
        grown: list[FailureCluster] = []
        if pattern.type is PatternType.ERROR_SPIKE:
            window = (pattern.start_ns, pattern.end_ns)
            answer = self._tried(
                "clusters within a change", lambda: self._clusters(window, self.longer)
            )
            grown = [] if answer is None else _growing(answer)
        return Change(
            pattern,
            change_sentence(pattern),
            attribution,
            tuple(grown),
            mean_weight=self._mean_weight(pattern) if totals.sampled else 1.0,
        )

    def _mean_weight(self, pattern: Pattern) -> float:
        time = col("start_time")
        within = (time >= Timestamp(pattern.start_ns)) & (time < Timestamp(pattern.end_ns))
        figures: dict[str, Aggregate] = {
            "stored": Count(),
            "calls": Count(weighted=self.config.weighted),
        }
        frame = self.source.aggregate(figures, where=all_of([CALL, self.where, within]))
        stored, calls = frame.row(0)
        return float(calls) / stored if stored else 1.0

    def _attribution(self, pattern: Pattern, totals: _Totals) -> Attribution:
        from pyflare_analysis.rca.attribution.sources import attribute_spans

        longer = self.longer
        since = totals.first_ns if longer is None or longer.since_ns is None else longer.since_ns
        return attribute_spans(
            self.source,
            pattern.metric,
            before=(since, pattern.start_ns),
            after=(pattern.start_ns, pattern.end_ns),
            where=None if longer is None else span_condition(self.source, longer),
            evaluations=self.evaluations,
        )

    def _slices(self, patterns: Iterable[Pattern]) -> dict[str, SliceAnalysis]:
        """Return the slices of the error rate, and of scores that changed.

        Cost and latency differ between models and features by their nature: of these the page
        tells changes only.
        """
        metrics = ["error_rate"]
        metrics += [p.metric for p in patterns if p.type is PatternType.QUALITY_DROP]
        found: dict[str, SliceAnalysis] = {}
        for metric in dict.fromkeys(metrics):
            analysis = self._tried(f"slices of {metric}", lambda metric=metric: self._slice(metric))  # type: ignore[misc]  # the default binds the metric of this turn
            if analysis is not None:
                found[metric] = analysis
        return found

    def _slice(self, metric: str) -> SliceAnalysis:
        from pyflare_analysis.rca.slices.analyzer import SliceAnalyzer, SliceAnalyzerConfig

        analyzer = SliceAnalyzer(
            self.source,
            SliceAnalyzerConfig(weighted=self.config.weighted),
            where=self.where,
            evaluations=self.evaluations,
        )
        return analyzer.analyze(metric, limit=self.config.slices)

    def _clusters(self, recent: float | tuple[int, int], filters: Filters | None) -> ClusterAnswer:
        return cluster_spans(
            self.source,
            filters,
            config=FailureClustererConfig(recent=recent, max_members=_MEMBERS),
            registry=self.registry,
            weighted=self.config.weighted,
        )

    def _nothing(self, totals: _Totals) -> NotEnoughDataError:
        reasons = "; ".join(f"{m.part}: {m.reason}" for m in self.missing)
        return NotEnoughDataError(
            f"{round(totals.calls)} calls are too few to tell anything ({reasons})",
            hint=next((m.hint for m in self.missing if m.hint), None)
            or "widen --since or drop a filter",
        )


def _growing(answer: ClusterAnswer) -> list[FailureCluster]:
    """Return the clusters that grew, those that explain most of the rise first."""
    grown = [c for c in answer.clusters if c.growth is not None and c.growth.is_growing]
    return sorted(grown, key=lambda c: (-(c.growth.recent if c.growth else 0.0), c.id))


def _actions(report: RcaReport, grown: Sequence[FailureCluster]) -> Iterable[Action]:
    """Yield what to try: for the changes, for slices that are bad all the time, for failures."""
    for number, change in enumerate(report.changes, 1):
        for text in change.pattern.suggested_actions[:2]:
            yield Action(text, f"change {number}")
        for cluster in change.clusters[:2]:
            yield from _advice(cluster)
    for metric, found in report.shown_slices():
        words = filter_words(found.definition)
        if metric == "error_rate" and words:
            text = f"Read what the failures of the slice say: pyflare rca clusters {words}"
        else:
            text = f"Find out what is special about {slice_text(found.definition)}"
        yield Action(text, slice_sentence(metric, found))
    for cluster in [*grown, *report.shown_clusters[:3]]:
        yield from _advice(cluster)
    for cluster in report.shown_clusters[:1]:
        if cluster.affected_traces:
            text = f"Look at a failed trace: pyflare traces show {cluster.affected_traces[0]}"
            yield Action(text, cluster_name(cluster))


def _advice(cluster: FailureCluster) -> Iterable[Action]:
    kind = kind_of(cluster.error_type, cluster.representative_error)
    if kind is not None:
        yield Action(kind.advice, cluster_name(cluster))


def _once(actions: Iterable[Action]) -> Iterable[Action]:
    """Yield each thing to try once."""
    seen: set[str] = set()
    for action in actions:
        if action.text not in seen:
            seen.add(action.text)
            yield action


def _nanoseconds(frame: object, *names: str) -> list[int]:
    """Return the values of columns of times as nanoseconds since 1970."""
    import polars as pl

    assert isinstance(frame, pl.DataFrame)  # noqa: S101 - typed loosely: polars is imported late
    columns = frame.select(pl.col(*names).dt.cast_time_unit("ns").to_physical())
    return [int(value) for row in columns.iter_rows() for value in row]
