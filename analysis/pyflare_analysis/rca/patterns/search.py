"""The search for patterns, part after part; `patterns` says in which order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pyflare_analysis.rca.patterns.actions import suggested_actions
from pyflare_analysis.rca.patterns.cells import Cube, Exclusion, SliceKey, load_calls, load_costs
from pyflare_analysis.rca.patterns.drift_links import find_drift_links
from pyflare_analysis.rca.patterns.episodes import Episode
from pyflare_analysis.rca.patterns.family import Family, first_tests
from pyflare_analysis.rca.patterns.frame import make_grid, slice_keys, with_history
from pyflare_analysis.rca.patterns.incidents import Incident, find_incidents, set_apart
from pyflare_analysis.rca.patterns.measures import CALL_MEASURES, COST_MEASURES, Measure
from pyflare_analysis.rca.patterns.pattern import (
    Pattern,
    PatternDetectorConfig,
    PatternReport,
    PatternType,
)
from pyflare_analysis.rca.patterns.quality import quality_families
from pyflare_analysis.rca.patterns.recurring import Recurring, find_recurring
from pyflare_analysis.rca.patterns.scope import Scope
from pyflare_analysis.rca.patterns.segments import find_segments
from pyflare_analysis.rca.patterns.telling import (
    drift_pattern,
    incident_pattern,
    recurring_pattern,
    segment_pattern,
    surge_pattern,
)
from pyflare_analysis.rca.patterns.volume import find_surges, scan_surges
from pyflare_analysis.statistics import benjamini_hochberg
from pyflare_proto.errors import NotEnoughDataError, UsageError
from pyflare_storage.expressions import all_of
from pyflare_storage.source import is_sampled

if TYPE_CHECKING:
    from pyflare_storage.filters import Filters
    from pyflare_storage.source import Source

__all__ = ["PatternSearch"]

_DAY_NS = 86_400_000_000_000


@dataclass(slots=True)
class PatternSearch:
    """One search: what is looked at, and what has been found so far."""

    scope: Scope
    since_ns: int | None
    types: tuple[PatternType, ...]
    evaluations: Source | None
    sampled: bool
    calls: int
    keys: list[tuple[SliceKey, list[str]]]
    not_tested: dict[str, str] = field(default_factory=dict)
    patterns: list[Pattern] = field(default_factory=list)
    tests: int = 0
    notes: list[str] = field(default_factory=list)

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
    ) -> PatternSearch:
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
            Scope(source, where, grid, first, config, weighted and sampled),
            since_ns,
            types,
            evaluations,
            sampled,
            calls,
            slice_keys(source, columns, where, config),
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
            self.scope.grid.time_ns(0),
            self.scope.grid.time_ns(self.scope.grid.count),
            self.scope.grid.every,
            self.tests,
            self.scope.weighted,
            self.sampled,
            {name: why for name, why in self.not_tested.items() if name in self.types},
            tuple(self.notes),
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
            costs = [self._load(load_costs, key, values) for key, values in self._slices()]
            families["cost"] = []
            if costs[0].trials.sum() >= 2 * self.scope.config.min_calls:
                families["cost"] = [self._family(COST_MEASURES, costs, load_costs)]
        if self._wants(PatternType.QUALITY_DROP) or wants_links:
            families["quality"], why = quality_families(
                self.scope, self._slices(), self.evaluations
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
        where = all_of([self.scope.where, *(exclusion.expr() for exclusion in exclusions)])
        assert callable(load)  # noqa: S101 - one of the two loaders
        cube: Cube = load(
            self.scope.source,
            self.scope.grid,
            key,
            values,
            where=where,
            weighted=self.scope.weighted,
        )
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
        if (
            int(self.scope.grid.day()[-1]) + 1 < self.scope.config.min_days
            or self.scope.grid.every_ns > _DAY_NS // 4
        ):
            self.not_tested["temporal_pattern"] = (
                f"hours of the day are compared on {self.scope.config.min_days} days or more, "
                "in intervals of at most 6 h"
            )
            return []
        found: list[Recurring] = []
        for family in [*families.get("errors", []), *families.get("latency", [])]:
            items, tested = find_recurring(family, self.scope)
            found += items
            self.tests += tested
        self.patterns += [recurring_pattern(self.scope.grid, item) for item in found]
        return found

    def _incidents(self, families: dict[str, list[Family]]) -> list[Incident]:
        """Find episodes of all families, their p-values adjusted together."""
        flat = [family for group in families.values() for family in group]
        # Calls are counted before the search takes rows out.
        calls = [_calls_of(cube) for family in families.get("errors", []) for cube in family.cubes]
        surges, surge_p = self._surges(calls)
        scanned = [first_tests(family, self.scope) for family in flat]
        p_values = np.array([*(p for _, ps in scanned for p in ps), *surge_p])
        self.tests += len(p_values)
        passed = p_values[benjamini_hochberg(p_values) <= self.scope.config.alpha]
        if not len(passed):
            return []
        limit = float(passed.max())
        surging = find_surges(calls, surges, self.scope, limit)
        self.patterns += [
            surge_pattern(self.scope.grid, surge, _q_value(p_values, surge.episode.p_value))
            for surge in surging
        ]
        found: list[Incident] = []
        for family, (candidates, _) in zip(flat, scanned, strict=True):
            for surge in surging:
                if surge.dimension is not None:
                    set_apart(family, surge.dimension, surge.value, candidates, self.scope)
            found += find_incidents(family, candidates, self.scope, limit)
        for incident in found:
            q = _q_value(p_values, incident.episode.p_value)
            self.patterns.append(incident_pattern(self.scope.grid, incident, q))
        return found

    def _surges(self, calls: list[Cube]) -> tuple[list[tuple[int, int, Episode]], list[float]]:
        """Scan the number of calls, where the cost is of interest."""
        if not self._wants(PatternType.COST_ANOMALY):
            return [], []
        found, p_values, why = scan_surges(calls, self.scope)
        self.notes += [f"numbers of calls were not compared: {why}"] if why else []
        return found, p_values

    def _explained(
        self, families: dict[str, list[Family]], recurring: list[Recurring]
    ) -> list[Exclusion]:
        """Return the rows whose errors are explained already."""
        excluded = [e for family in families.get("errors", []) for e in family.explained]
        hours = {h for item in recurring if item.measure.name == "error_rate" for h in item.hours}
        if hours:
            inside = np.isin(self.scope.grid.hour_of_day(), list(hours)).astype(int)
            edges = np.diff(np.concatenate(([0], inside, [0])))
            runs = zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True)
            excluded += [
                Exclusion(None, self.scope.grid.time_ns(int(a)), self.scope.grid.time_ns(int(b)))
                for a, b in runs
            ]
        return excluded

    def _segments(self, excluded: list[Exclusion]) -> None:
        """Find users that fail more than the others, outside of what is explained."""
        if not self._wants(PatternType.USER_SEGMENT_ISSUE):
            return
        dimensions = self.scope.config.segments
        if dimensions is None:
            dimensions = ("user_id", *(k.name for k, _ in self.keys if k.name.startswith("attr")))
        tested: dict[str, int] = {}
        for _ in range(len(dimensions)):
            where = all_of([self.scope.where, *(exclusion.expr() for exclusion in excluded)])
            options = []
            for dimension in dimensions:
                segments, tested[dimension] = find_segments(self.scope, dimension, where)
                options += [segments] if segments is not None else []
            if not options:
                break
            # A fault of a group is told by its name, not by the names of its members.
            best = max(options, key=lambda item: item.evidence)
            self.patterns.append(segment_pattern(self.scope.grid, best))
            dimensions = tuple(name for name in dimensions if name != best.dimension)
            excluded = [*excluded, Exclusion(best.outside(), *self.scope.whole())]
        self.tests += sum(tested.values())
        if not any(tested.values()):
            self.not_tested["user_segment_issue"] = (
                f"fewer than 3 values of {' or '.join(dimensions)}, or hardly an error"
            )

    def _drift(self, incidents: list[Incident]) -> None:
        """Find inputs that drifted along with an episode."""
        if not self._wants(PatternType.DRIFT_CORRELATION):
            return
        troubled = [i for i in incidents if i.measure.type is not PatternType.COST_ANOMALY]
        keys = {key.name: key for key, _ in self.keys}
        for incident in troubled:
            links = find_drift_links(self.scope, incident, keys)
            # One alert an episode: further columns of it are named beside the first.
            if links:
                self.patterns.append(drift_pattern(self.scope.grid, incident, links))

    def _check_tested(self) -> None:
        """Raise `NotEnoughDataError` where nothing of what was wanted could be looked for."""
        if all(str(type_) in self.not_tested for type_ in self.types):
            reasons = "; ".join(f"{t}: {self.not_tested[str(t)]}" for t in self.types)
            raise NotEnoughDataError(
                f"not enough in {self.scope.source.url} to look for patterns: {reasons}",
                hint="widen --since or the filters, or collect longer",
            )


def _q_value(p_values: NDArray[np.float64], p: float) -> float:
    """Return the q-value of one more p-value among those that were tested."""
    return min(1.0, float(benjamini_hochberg(np.append(p_values, p))[-1]))


def _calls_of(cube: Cube) -> Cube:
    """Return the number of calls alone: bins are most of a cube."""
    none = np.zeros((*cube.trials.shape, 0))
    return Cube(cube.dimension, cube.values, cube.edges, none, {"trials": cube.trials.copy()})


def _copy(cube: Cube) -> Cube:
    return Cube(
        cube.dimension,
        cube.values,
        cube.edges,
        cube.bins.copy(),
        {name: values.copy() for name, values in cube.sums.items()},
    )
