"""Patterns over time: since when is it worse, of what, for whom, and what to try.

Example:
    >>> with open_source("pyflare-data") as source:
    ...     report = PatternDetector(source).report()
    >>> for pattern in report.patterns:
    ...     print(pattern.type, pattern.affected, pattern.baseline, pattern.observed)

The order of the search: hours of the day that are worse on many days; episodes of errors,
latency, cost and scores against what was before them, slice by slice, the best explanation
first; users that fail more than the rest; inputs that drifted along with an episode. What is
found is taken out before the search goes on, so that one fault is one pattern. All p-values of
episodes are adjusted together (Benjamini-Hochberg). See docs/rca-patterns.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pyflare_analysis.rca.actions import suggested_actions
from pyflare_analysis.rca.cells import Cube, Exclusion, Grid, SliceKey, load_calls, load_costs
from pyflare_analysis.rca.drift_links import find_drift_links
from pyflare_analysis.rca.frame import make_grid, slice_keys, with_history
from pyflare_analysis.rca.incidents import Family, Incident, find_incidents, first_tests
from pyflare_analysis.rca.measures import CALL_MEASURES, COST_MEASURES, Measure
from pyflare_analysis.rca.pattern import (
    Pattern,
    PatternDetectorConfig,
    PatternReport,
    PatternType,
)
from pyflare_analysis.rca.quality import quality_families
from pyflare_analysis.rca.recurring import Recurring, find_recurring
from pyflare_analysis.rca.segments import Segments, find_segments
from pyflare_analysis.rca.trend import trend_of
from pyflare_analysis.rca.volume import volume_family
from pyflare_analysis.statistics import benjamini_hochberg
from pyflare_proto.errors import NotEnoughDataError, UsageError
from pyflare_storage.expressions import Expr, all_of
from pyflare_storage.source import is_sampled

if TYPE_CHECKING:
    from pyflare_storage.filters import Filters
    from pyflare_storage.source import Source

__all__ = [
    "Pattern",
    "PatternDetector",
    "PatternDetectorConfig",
    "PatternReport",
    "PatternType",
    "severity_of",
]

_DAY_NS = 86_400_000_000_000
ALL_TYPES = tuple(type_ for type_ in PatternType if type_ is not PatternType.CUSTOM)


def severity_of(effect: float, reach: float) -> float:
    """Return effect^(1/2) reach^(1/4): how much worse, and for how large a part of the calls.

    Args:
        effect: 0 to 1, see `Measure.effect`.
        reach: share of the calls that are affected while it lasts, 0 to 1.
    """
    return round(float(effect**0.5 * max(reach, 0.0) ** 0.25), 4)


class PatternDetector:
    """Finds patterns over time in spans.

    Args:
        source: where the spans are. It is asked for aggregates only; scores are read in batches.
        config: settings; the defaults when None.
        evaluations: results of evaluations that ran later, see `rca.scores`.
        weighted: count sampled spans 1/sampling_probability times.
    """

    def __init__(
        self,
        source: Source,
        config: PatternDetectorConfig | None = None,
        *,
        evaluations: Source | None = None,
        weighted: bool = True,
    ) -> None:
        self._source = source
        self._config = config or PatternDetectorConfig()
        self._config.validate()
        self._evaluations = evaluations
        self._weighted = weighted

    def detect_patterns(
        self,
        model_id: str = "",
        *,
        filters: Filters | None = None,
        types: Iterable[PatternType | str] | None = None,
    ) -> list[Pattern]:
        """Return the patterns, the most severe first; see `report`."""
        return list(self.report(model_id, filters=filters, types=types).patterns)

    def detect_error_spikes(
        self, model_id: str = "", *, filters: Filters | None = None
    ) -> list[Pattern]:
        """Return when and where more calls failed than before."""
        return self.detect_patterns(model_id, filters=filters, types=[PatternType.ERROR_SPIKE])

    def detect_latency_degradation(
        self, model_id: str = "", *, filters: Filters | None = None
    ) -> list[Pattern]:
        """Return when and where calls took longer than before."""
        types = [PatternType.LATENCY_DEGRADATION]
        return self.detect_patterns(model_id, filters=filters, types=types)

    def detect_quality_drops(
        self, model_id: str = "", *, filters: Filters | None = None
    ) -> list[Pattern]:
        """Return when and where scores of evaluations were worse than before."""
        return self.detect_patterns(model_id, filters=filters, types=[PatternType.QUALITY_DROP])

    def detect_cost_anomalies(
        self, model_id: str = "", *, filters: Filters | None = None
    ) -> list[Pattern]:
        """Return when and where calls cost more, or were more, than before."""
        return self.detect_patterns(model_id, filters=filters, types=[PatternType.COST_ANOMALY])

    def detect_drift_correlations(
        self, model_id: str = "", *, filters: Filters | None = None
    ) -> list[Pattern]:
        """Return inputs that drifted while errors, latency or scores got worse."""
        types = [PatternType.DRIFT_CORRELATION]
        return self.detect_patterns(model_id, filters=filters, types=types)

    def detect_temporal_patterns(
        self, model_id: str = "", *, filters: Filters | None = None
    ) -> list[Pattern]:
        """Return hours of the day that are worse than the rest on many days."""
        types = [PatternType.TEMPORAL_PATTERN]
        return self.detect_patterns(model_id, filters=filters, types=types)

    def detect_user_segment_issues(
        self, model_id: str = "", *, filters: Filters | None = None
    ) -> list[Pattern]:
        """Return users that fail much more than the others."""
        types = [PatternType.USER_SEGMENT_ISSUE]
        return self.detect_patterns(model_id, filters=filters, types=types)

    def generate_suggested_actions(self, pattern: Pattern) -> list[str]:
        """Return what to try about a pattern, the most telling first."""
        return list(suggested_actions(pattern))

    def report(
        self,
        model_id: str = "",
        *,
        filters: Filters | None = None,
        types: Iterable[PatternType | str] | None = None,
    ) -> PatternReport:
        """Return the patterns and what was looked at.

        Args:
            model_id: model, as asked for or as answered; all when empty.
            filters: which spans count. Before `since` the baseline reaches back by
                `config.history`; patterns that ended before `since` are left out.
            types: which patterns are wanted; all when None.

        Raises:
            UsageError: an unknown type, or a source that holds no spans.
            NotEnoughDataError: too few calls, within too short a time, or nothing that the
                wanted types could be told from.
        """
        search = _Search.open(
            self._source,
            self._config,
            model_id,
            filters,
            _types(types),
            evaluations=self._evaluations,
            weighted=self._weighted,
        )
        return search.run()


def _types(types: Iterable[PatternType | str] | None) -> tuple[PatternType, ...]:
    if types is None:
        return ALL_TYPES
    known = [str(type_) for type_ in ALL_TYPES]
    asked = tuple(str(type_) for type_ in types)
    for name in asked:
        if name not in known:
            raise UsageError(f"no type of pattern {name!r}", hint=f"types: {', '.join(known)}")
    return tuple(PatternType(name) for name in asked) or ALL_TYPES


@dataclass(slots=True)
class _Search:
    """One search: what is looked at, and what has been found so far."""

    source: Source
    config: PatternDetectorConfig
    where: Expr | None
    since_ns: int | None
    types: tuple[PatternType, ...]
    evaluations: Source | None
    weighted: bool
    sampled: bool
    grid: Grid
    calls: int
    first: int
    keys: list[tuple[SliceKey, list[str]]]
    not_tested: dict[str, str]
    patterns: list[Pattern]
    tests: int = 0

    @classmethod
    def open(
        cls,
        source: Source,
        config: PatternDetectorConfig,
        model_id: str,
        filters: Filters | None,
        types: tuple[PatternType, ...],
        *,
        evaluations: Source | None,
        weighted: bool,
    ) -> _Search:
        """Look at the data as a whole."""
        from pyflare_analysis.rca.dimensions import model_condition
        from pyflare_analysis.rca.metrics import is_spans

        columns = source.columns()
        if not is_spans(columns):
            raise UsageError(
                f"{source.url} holds no spans",
                hint="any series: --input FILE --time COLUMN --value COLUMN",
            )
        models = [model_id] if model_id else list(filters.model if filters else ())
        if filters is not None:
            filters = replace(filters, model=())
        widened, since_ns = with_history(filters, config.history)
        where = widened.to_expr() if widened is not None else None
        if models:
            where = all_of([where, model_condition(source, models, where)])
        grid, calls = make_grid(source, where, config)
        sampled = is_sampled(source, where)
        first = max(2, int(np.ceil(config.baseline_share * grid.count)))
        return cls(
            source,
            config,
            where,
            since_ns,
            types,
            evaluations,
            weighted and sampled,
            sampled,
            grid,
            calls,
            first,
            slice_keys(source, columns, where, config),
            {},
            [],
        )

    def run(self) -> PatternReport:
        """Search, and return what was found."""
        families = self._families()
        recurring = self._recurring(families)
        incidents = self._incidents(families)
        excluded = self._explained(families, recurring)
        self._segments(excluded)
        self._drift(incidents)
        self._check_tested()
        wanted = [
            pattern
            for pattern in self.patterns
            if pattern.type in self.types
            and (self.since_ns is None or pattern.end_ns > self.since_ns)
        ]
        wanted.sort(key=lambda p: (-p.severity, p.start_ns, p.metric))
        return PatternReport(
            tuple(replace(p, suggested_actions=suggested_actions(p)) for p in wanted),
            self.calls,
            self.grid.time_ns(0),
            self.grid.time_ns(self.grid.count),
            self.grid.every,
            self.tests,
            self.weighted,
            self.sampled,
            {name: why for name, why in self.not_tested.items() if name in self.types},
        )

    def _wants(self, *types: PatternType) -> bool:
        return any(type_ in self.types for type_ in types)

    def _families(self) -> dict[str, list[Family]]:
        """Load the counts that the wanted types need."""
        wants_links = self._wants(PatternType.DRIFT_CORRELATION)
        families: dict[str, list[Family]] = {}
        calls = self._wants(
            PatternType.ERROR_SPIKE,
            PatternType.LATENCY_DEGRADATION,
            PatternType.TEMPORAL_PATTERN,
            PatternType.USER_SEGMENT_ISSUE,
        )
        if calls or wants_links or self._wants(PatternType.COST_ANOMALY):
            cubes = [self._load(load_calls, key, values) for key, values in self._slices()]
            families["errors"] = [self._family(CALL_MEASURES[:1], cubes)]
            families["latency"] = [self._family(CALL_MEASURES[1:], [_copy(c) for c in cubes])]
        if self._wants(PatternType.COST_ANOMALY):
            volume, why = volume_family(families["errors"][0].cubes, self._keys(), self.grid)
            families["volume"] = [volume] if volume is not None else []
            costs = [self._load(load_costs, key, values) for key, values in self._slices()]
            families["cost"] = []
            if costs[0].trials.sum() >= 2 * self.config.min_calls:
                families["cost"] = [self._family(COST_MEASURES, costs, load_costs)]
            elif volume is None:
                self.not_tested["cost_anomaly"] = f"too few priced calls, and {why}"
        if self._wants(PatternType.QUALITY_DROP) or wants_links:
            families["quality"], why = quality_families(
                self.source, self.grid, self._slices(), self.where, self.config, self.evaluations
            )
            if why:
                self.not_tested["quality_drop"] = why
        return families

    def _slices(self) -> list[tuple[SliceKey | None, list[str]]]:
        return [(None, [""]), *self.keys]

    def _keys(self) -> list[SliceKey | None]:
        return [key for key, _ in self._slices()]

    def _load(
        self,
        load: object,
        key: SliceKey | None,
        values: list[str],
        exclusions: Iterable[Exclusion] = (),
    ) -> Cube:
        where = all_of([self.where, *(exclusion.expr() for exclusion in exclusions)])
        assert callable(load)  # noqa: S101 - one of the two loaders
        cube: Cube = load(self.source, self.grid, key, values, where, weighted=self.weighted)
        return cube

    def _family(
        self, measures: tuple[Measure, ...], cubes: list[Cube], load: object = load_calls
    ) -> Family:
        return Family(
            measures,
            cubes,
            self._keys(),
            lambda key, values, exclusions: self._load(load, key, list(values), exclusions),
        )

    def _recurring(self, families: dict[str, list[Family]]) -> list[Recurring]:
        """Find hours of the day that are worse; the families then expect them."""
        if int(self.grid.day()[-1]) + 1 < self.config.min_days or self.grid.every_ns > _DAY_NS // 4:
            self.not_tested["temporal_pattern"] = (
                f"hours of the day are compared on {self.config.min_days} days or more, "
                "in intervals of at most 6 h"
            )
            return []
        found: list[Recurring] = []
        for family in [*families.get("errors", []), *families.get("latency", [])]:
            items, tested = find_recurring(family, self.grid, self.first, self.config)
            found += items
            self.tests += tested
        self.patterns += [self._recurring_pattern(item) for item in found]
        return found

    def _incidents(self, families: dict[str, list[Family]]) -> list[Incident]:
        """Find episodes of all families, their p-values adjusted together."""
        flat = [family for group in families.values() for family in group]
        scanned = [first_tests(family, self.grid, self.first, self.config) for family in flat]
        p_values = np.array([p for _, ps in scanned for p in ps])
        self.tests += len(p_values)
        if not len(p_values):
            return []
        q_values = benjamini_hochberg(p_values)
        passed = p_values[q_values <= self.config.alpha]
        if not len(passed):
            return []
        limit = float(passed.max())
        found: list[Incident] = []
        for family, (candidates, _) in zip(flat, scanned, strict=True):
            found += find_incidents(family, candidates, self.grid, self.first, self.config, limit)
        for incident in found:
            p = incident.episode.p_value
            q = float(benjamini_hochberg(np.append(p_values, p))[-1])
            self.patterns.append(self._incident_pattern(incident, min(q, 1.0)))
        return found

    def _explained(
        self, families: dict[str, list[Family]], recurring: list[Recurring]
    ) -> list[Exclusion]:
        """Return the rows whose errors are explained already."""
        excluded = [e for family in families.get("errors", []) for e in family.explained]
        hours = {h for item in recurring if item.measure.name == "error_rate" for h in item.hours}
        if hours:
            inside = np.isin(self.grid.hour_of_day(), list(hours)).astype(int)
            edges = np.diff(np.concatenate(([0], inside, [0])))
            runs = zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True)
            excluded += [
                Exclusion(None, self.grid.time_ns(int(a)), self.grid.time_ns(int(b)))
                for a, b in runs
            ]
        return excluded

    def _segments(self, excluded: list[Exclusion]) -> None:
        """Find users that fail more than the others, outside of what is explained."""
        if not self._wants(PatternType.USER_SEGMENT_ISSUE):
            return
        dimensions = self.config.segments
        if dimensions is None:
            dimensions = ("user_id", *(k.name for k, _ in self.keys if k.name.startswith("attr")))
        tested: dict[str, int] = {}
        for _ in range(len(dimensions)):
            where = all_of([self.where, *(exclusion.expr() for exclusion in excluded)])
            options = []
            for dimension in dimensions:
                segments, tested[dimension] = find_segments(
                    self.source,
                    self.grid,
                    dimension,
                    where,
                    self.config,
                    first=self.first,
                    weighted=self.weighted,
                )
                options += [segments] if segments is not None else []
            if not options:
                break
            # A fault of a group is told by its name, not by the names of its members.
            best = max(options, key=lambda item: item.evidence)
            self.patterns.append(self._segment_pattern(best))
            dimensions = tuple(name for name in dimensions if name != best.dimension)
            excluded = [*excluded, Exclusion(best.outside(), *self._whole())]
        self.tests += sum(tested.values())
        if not any(tested.values()):
            self.not_tested["user_segment_issue"] = (
                f"fewer than 3 values of {' or '.join(dimensions)}, or hardly an error"
            )

    def _whole(self) -> tuple[int, int]:
        return self.grid.time_ns(0), self.grid.time_ns(self.grid.count)

    def _drift(self, incidents: list[Incident]) -> None:
        """Find inputs that drifted along with an episode."""
        if not self._wants(PatternType.DRIFT_CORRELATION):
            return
        troubled = [i for i in incidents if i.measure.type is not PatternType.COST_ANOMALY]
        keys = {key.name: key for key, _ in self.keys}
        for incident in troubled:
            self.patterns += find_drift_links(
                self.source, self.grid, incident, keys, self.where, self.config
            )

    def _check_tested(self) -> None:
        """Raise `NotEnoughDataError` where nothing of what was wanted could be looked for."""
        if all(str(type_) in self.not_tested for type_ in self.types):
            reasons = "; ".join(f"{t}: {self.not_tested[str(t)]}" for t in self.types)
            raise NotEnoughDataError(
                f"not enough to look for {', '.join(self.types)} in {self.source.url}: {reasons}",
                hint="widen --since or the filters, or collect longer",
            )

    def _incident_pattern(self, incident: Incident, q: float) -> Pattern:
        episode, measure = incident.episode, incident.measure
        before, within = incident.before, incident.within
        ongoing = episode.last >= self.grid.count - 1
        shape, details = self._shape(incident, ongoing=ongoing)
        effect = measure.effect(before.value, within.value, incident.scale)
        return Pattern(
            type=measure.type,
            start_ns=self.grid.time_ns(episode.first),
            end_ns=self.grid.time_ns(episode.last),
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

    def _shape(self, incident: Incident, *, ongoing: bool) -> tuple[str, dict[str, float]]:
        """Return whether an episode is a spike, a step or a trend, and the trend's slope."""
        episode = incident.episode
        length = episode.last - episode.first
        assert incident.series is not None  # noqa: S101 - every accepted incident has one
        days = np.arange(length) * self.grid.every_ns / _DAY_NS
        trend = trend_of(days, incident.series[episode.first : episode.last])
        change = abs(incident.within.value - incident.before.value)
        worse = np.sign(incident.within.value - incident.before.value)
        moved = trend.slope * worse * (days[-1] if length else 0.0)
        if length >= 8 and trend.p_value < 0.01 and moved >= 0.75 * change:
            return "trend", {"slope_per_day": trend.slope, "kendall_tau": trend.tau}
        short = length <= max(2, self.grid.count // 10)
        return ("spike" if short and not ongoing else "step"), {}

    def _recurring_pattern(self, item: Recurring) -> Pattern:
        effect = item.measure.effect(item.rest.value, item.within.value, 1.0)
        return Pattern(
            type=PatternType.TEMPORAL_PATTERN,
            start_ns=self.grid.time_ns(item.first),
            end_ns=self.grid.time_ns(item.last),
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

    def _segment_pattern(self, found: Segments) -> Pattern:
        episode = found.episode
        start, end = (episode.first, episode.last) if episode else (0, self.grid.count)
        shown = zip(found.values, found.rates, found.calls, strict=True)
        effect = (found.observed - found.baseline) / max(1e-9, 1 - found.baseline)
        return Pattern(
            type=PatternType.USER_SEGMENT_ISSUE,
            start_ns=self.grid.time_ns(start),
            end_ns=self.grid.time_ns(end),
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
            ongoing=end >= self.grid.count - 1,
            details={
                "segments": [
                    {"value": value, "error_rate": rate, "calls": calls}
                    for value, rate, calls in shown
                ],
                "segments_total": found.total,
            },
        )


def _affected(dimension: str | None, value: str) -> dict[str, object]:
    return {} if dimension is None else {dimension: value}


def _copy(cube: Cube) -> Cube:
    return Cube(
        cube.dimension,
        cube.values,
        cube.edges,
        cube.bins.copy(),
        {name: values.copy() for name, values in cube.sums.items()},
    )
