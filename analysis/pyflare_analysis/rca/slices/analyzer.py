"""Which slices of the traffic are worse than the rest, and which of them are causes.

Example:
    >>> analyzer = SliceAnalyzer(open_source("pyflare-data"))
    >>> for result in analyzer.analyze_slices(metric="error_rate"):
    ...     print(dict(result.definition), result.metric_value, result.baseline_value)
    {'model': 'gpt-4o-2024-08-06', 'feature': 'summarize'} 0.31 0.015
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pyflare_analysis.rca.coded import CodedDimension, CodedRows, Label, fit_dimensions
from pyflare_analysis.rca.dimensions import (
    Dimension,
    SliceDimension,
    default_dimensions,
    model_condition,
    model_names,
    resolve_dimension,
)
from pyflare_analysis.rca.metrics import (
    Metric,
    MetricReader,
    SliceMetric,
    is_spans,
    resolve_metric,
)
from pyflare_proto.errors import NotEnoughDataError, UsageError
from pyflare_storage.expressions import Expr, all_of

if TYPE_CHECKING:
    from pyflare_analysis.rca.slices.search import Search
    from pyflare_storage.source import Source

__all__ = [
    "SliceAnalysis",
    "SliceAnalysisResult",
    "SliceAnalyzer",
    "SliceAnalyzerConfig",
    "SliceDefinition",
    "SliceDimension",
    "SliceMetric",
]

SliceDefinition = Mapping[str, Label]
"""A slice: the value of each of its dimensions. Null is "no value"."""

MOST_DEPTH = 3


@dataclass(frozen=True, slots=True)
class SliceAnalyzerConfig:
    """How slices are looked for.

    Raises:
        UsageError: a value out of range.
    """

    depth: int = 2
    """Dimensions that a slice combines at most, 1 to 3."""
    min_samples: int = 30
    """Rows that a slice needs."""
    min_support: float = 0.001
    """Share of all rows that a slice needs."""
    alpha: float = 0.05
    """False discovery rate over all slices that are looked at (Benjamini and Hochberg)."""
    min_effect: float = 0.2
    """Deviation relative to the baseline that a slice needs to be worth a line."""
    bins: int = 5
    """Bins of numbers, between quantiles."""
    weighted: bool = True
    """Count sampled rows 1/sampling_probability each."""
    causes_only: bool = True
    """List causes; False lists every slice that differs, with all that contain it."""
    timezone: str = "UTC"
    """IANA name, of hours and weekdays."""
    seed: int = 0
    """Of the sample that bins are taken from."""

    def __post_init__(self) -> None:
        checks = (
            ("depth", 1 <= self.depth <= MOST_DEPTH, f"1 to {MOST_DEPTH}"),
            ("min_samples", self.min_samples >= 2, "2 or more"),
            ("min_support", 0 <= self.min_support < 1, "from 0 to below 1"),
            ("alpha", 0 < self.alpha < 1, "between 0 and 1"),
            ("min_effect", self.min_effect >= 0, "0 or more"),
            ("bins", 2 <= self.bins <= 100, "2 to 100"),
        )
        for name, good, range_ in checks:
            if not good:
                flag = name.replace("_", "-")
                raise UsageError(
                    f"--{flag} is {getattr(self, name)}", hint=f"--{flag} takes {range_}"
                )


@dataclass(frozen=True, slots=True)
class SliceAnalysisResult:
    """One slice beside its complement: all other rows."""

    definition: SliceDefinition
    metric: str
    sample_count: int
    """Rows of the slice with a number, as they are stored."""
    metric_value: float
    baseline_value: float
    """The metric of the complement."""
    deviation: float
    """metric_value minus baseline_value."""
    deviation_percentage: float | None
    """Deviation in percent of the baseline; null where that is 0."""
    ci_low: float
    """Bounds of the 95 % interval of the deviation."""
    ci_high: float
    p_value: float
    """Two-sided, of this slice against its complement."""
    q_value: float
    """The p-value adjusted for all slices that were looked at."""
    is_statistically_significant: bool
    """Whether q is at most alpha and the deviation, the bad way, at least min_effect."""
    impact_score: float
    """Share of the deviation of all rows, from what they would be without the causes listed,
    that this slice carries; rows that two causes hold count for the first."""
    baseline_count: int
    """Rows of the complement."""
    effective_count: float
    """Effective sample size of the slice: sample_count where nothing was sampled."""
    equivalent: tuple[SliceDefinition, ...] = ()
    """Other definitions of the very same rows."""

    def to_dict(self) -> dict[str, object]:
        """Return the slice as it stands in JSON."""
        return {
            "slice": dict(self.definition),
            "sample_count": self.sample_count,
            "metric_value": self.metric_value,
            "baseline_value": self.baseline_value,
            "deviation": self.deviation,
            "deviation_percentage": self.deviation_percentage,
            "ci_low": self.ci_low,
            "ci_high": self.ci_high,
            "p_value": self.p_value,
            "q_value": self.q_value,
            "significant": self.is_statistically_significant,
            "impact_score": self.impact_score,
            "baseline_count": self.baseline_count,
            "effective_count": self.effective_count,
            "equivalent": [dict(definition) for definition in self.equivalent],
        }


@dataclass(frozen=True, slots=True)
class SliceAnalysis:
    """The answer of `SliceAnalyzer.analyze`."""

    metric: Metric
    value: float
    """The metric of all rows."""
    sample_count: int
    """Rows with a number."""
    weighted: bool
    """Whether sampled rows count 1/sampling_probability each."""
    sampled: bool
    """Whether any row was sampled."""
    dimensions: tuple[str, ...]
    """Dimensions that were looked at: those with two values or more."""
    depth: int
    slices_tested: int
    """Slices with enough rows: the number that q-values are adjusted for."""
    min_samples: int
    """Rows that a slice needed."""
    slices: tuple[SliceAnalysisResult, ...]

    def to_dict(self) -> dict[str, object]:
        """Return the answer as it stands in JSON."""
        return {
            "metric": self.metric.name,
            "kind": self.metric.kind,
            "unit": self.metric.unit or None,
            "worse": self.metric.worse,
            "value": self.value,
            "sample_count": self.sample_count,
            "weighted": self.weighted,
            "sampled": self.sampled,
            "dimensions": list(self.dimensions),
            "depth": self.depth,
            "slices_tested": self.slices_tested,
            "min_samples": self.min_samples,
            "slices": [result.to_dict() for result in self.slices],
        }


class SliceAnalyzer:
    """Looks for the slices of a source that are worse than the rest.

    Args:
        source: spans, or any table.
        config: how to look.
        where: the rows; all when None.
        evaluations: results of later evaluations; see `scores`.
        dimensions: names of the dimensions; `default_dimensions` when None.
        span_types: look at spans of these types instead of calls.
    """

    def __init__(
        self,
        source: Source,
        config: SliceAnalyzerConfig | None = None,
        *,
        where: Expr | None = None,
        evaluations: Source | None = None,
        dimensions: Sequence[str] | None = None,
        span_types: Sequence[str] = (),
    ) -> None:
        self._source = source
        self._config = config or SliceAnalyzerConfig()
        self._where = where
        self._evaluations = evaluations
        self._dimensions = dimensions
        self._span_types = tuple(span_types)

    def analyze(
        self,
        metric: Metric | str = SliceMetric.ERROR_RATE,
        *,
        model_id: str = "",
        limit: int = 10,
    ) -> SliceAnalysis:
        """Return the slices that are worse than the rest, the strongest evidence first.

        Args:
            metric: what to measure; see `resolve_metric` and `outcome_metric`.
            model_id: look at the calls of this model only.
            limit: slices at most.

        Raises:
            NotEnoughDataError: too few rows, no variation, or nothing to divide by.
            UsageError: an unknown metric or dimension.
        """
        search = self._search(metric, model_id)
        if self._config.causes_only:
            return search.causes(limit)
        return search.everything(limit)

    def analyze_slices(
        self, model_id: str = "", metric: Metric | str = SliceMetric.ERROR_RATE, limit: int = 10
    ) -> list[SliceAnalysisResult]:
        """Return the slices of `analyze`."""
        return list(self.analyze(metric, model_id=model_id, limit=limit).slices)

    def analyze_dimension(
        self,
        model_id: str = "",
        dimension: str = SliceDimension.MODEL,
        metric: Metric | str = SliceMetric.ERROR_RATE,
    ) -> list[SliceAnalysisResult]:
        """Return every value of one dimension with enough rows, the worst first."""
        config = replace(self._config, depth=1)
        one = SliceAnalyzer(
            self._source,
            config,
            where=self._where,
            evaluations=self._evaluations,
            dimensions=[dimension],
            span_types=self._span_types,
        )
        return list(one._search(metric, model_id).values().slices)

    def find_top_problematic_slices(
        self, model_id: str = "", limit: int = 10
    ) -> list[SliceAnalysisResult]:
        """Return the causes of every metric that there is data for, the largest impact first.

        Raises:
            NotEnoughDataError: there is not enough data for any metric.
        """
        found: list[SliceAnalysisResult] = []
        refused: list[NotEnoughDataError] = []
        metrics = (
            SliceMetric.ERROR_RATE,
            SliceMetric.LATENCY_P95,
            SliceMetric.COST,
            SliceMetric.TOXICITY_RATE,
            SliceMetric.HALLUCINATION_RATE,
        )
        for metric in metrics:
            try:
                found += self.analyze_slices(model_id, metric, limit)
            except NotEnoughDataError as error:
                refused.append(error)
        if len(refused) == len(metrics):
            raise refused[0]
        found.sort(key=lambda result: (-result.impact_score, result.p_value))
        return found[:limit]

    def get_baseline(
        self, model_id: str = "", metric: Metric | str = SliceMetric.ERROR_RATE
    ) -> float:
        """Return the metric of all rows.

        Raises:
            NotEnoughDataError: no row has a number.
        """
        from pyflare_analysis.rca.slices.cells import totals
        from pyflare_analysis.rca.slices.values import quantile_of

        resolved = self._metric(metric)
        reader, where = self._rows_of(resolved, model_id)
        rows = CodedRows(self._source, reader, (), where, weighted=self._weighted(where)[0])
        total = totals(rows)
        if not total.rows[0]:
            raise self._nothing(resolved)
        return (
            quantile_of(rows, resolved.q) if resolved.kind == "quantile" else float(total.mean[0])
        )

    def _metric(self, metric: Metric | str) -> Metric:
        if isinstance(metric, Metric):
            return metric
        return resolve_metric(metric, self._source.columns(), span_types=self._span_types)

    def _rows_of(self, metric: Metric, model_id: str) -> tuple[MetricReader, Expr | None]:
        reader = MetricReader(metric, self._source.columns(), self._evaluations)
        where = all_of([reader.where, self._where])
        if model_id:
            where = all_of([where, model_condition(self._source, [model_id], self._where)])
        return reader, where

    def _weighted(self, where: Expr | None) -> tuple[bool, bool]:
        """Return whether rows are weighted, and whether any was sampled."""
        from pyflare_storage.source import is_sampled

        sampled = is_sampled(self._source, where)
        return sampled and self._config.weighted, sampled

    def _nothing(self, metric: Metric) -> NotEnoughDataError:
        if not self._source.count(self._where):
            return NotEnoughDataError(
                f"no rows in {self._source.url}",
                hint="widen --since and the filters, or bring spans in: pyflare import FILE...",
            )
        if metric.score is not None:
            return NotEnoughDataError(
                f"no span has a score {metric.score!r}",
                hint="evaluations are read from gen_ai.evaluation.result events, from columns of "
                "the source and from evaluations/ of the data directory",
            )
        return NotEnoughDataError(
            f"no row has a value of {metric.name}", hint="choose another --metric or widen --since"
        )

    def _search(self, metric: Metric | str, model_id: str) -> Search:
        from pyflare_analysis.rca.slices.search import Search

        resolved = self._metric(metric)
        reader, where = self._rows_of(resolved, model_id)
        wanted = self._wanted(resolved, where)
        fitted, count = fit_dimensions(
            self._source, wanted, where, bins=self._config.bins, seed=self._config.seed
        )
        if not count:
            raise self._nothing(resolved)
        weighted, sampled = self._weighted(where)
        rows = CodedRows(self._source, reader, _varied(fitted), where, weighted=weighted)
        search = Search(rows, resolved, self._config, weighted=weighted, sampled=sampled)
        if not search.count:
            raise self._nothing(resolved)
        _check_variation(fitted, count)
        search.check()
        return search

    def _wanted(self, metric: Metric, where: Expr | None) -> list[Dimension]:
        columns = self._source.columns()
        timezone = self._config.timezone
        if self._dimensions is None:
            wanted = default_dimensions(self._source, metric, where, timezone=timezone)
        else:
            characters = metric.name == SliceMetric.ERROR_RATE
            wanted = [
                resolve_dimension(
                    name, columns, timezone=timezone, source=self._source, characters=characters
                )
                for name in dict.fromkeys(self._dimensions)
            ]
        if not is_spans(columns):
            return wanted
        names = model_names(self._source, where)
        return [
            replace(dimension, renamed=names) if dimension.columns == ("model",) else dimension
            for dimension in wanted
        ]


def _varied(fitted: Sequence[CodedDimension]) -> list[CodedDimension]:
    """Return the dimensions that have more than one value."""
    return [dimension for dimension in fitted if dimension.rest > 1]


def _check_variation(fitted: Sequence[CodedDimension], count: int) -> None:
    if _varied(fitted):
        return
    shown = [f"{d.name}={d.label(0, 0)}" for d in fitted[:5]]
    only = f" ({', '.join(shown)})" if shown else ""
    raise NotEnoughDataError(
        f"all {count:,} rows have the same value in every dimension{only}",
        hint="there is nothing to compare: name a dimension with two values or more, such as "
        "--dimension attributes.KEY",
    )


def percentage(deviation: float, baseline: float) -> float | None:
    """Return the deviation in percent of the baseline; None where that is 0."""
    return None if baseline == 0 or not math.isfinite(baseline) else 100 * deviation / abs(baseline)
