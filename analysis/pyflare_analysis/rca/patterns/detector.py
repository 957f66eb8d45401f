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
from typing import TYPE_CHECKING

from pyflare_analysis.rca.patterns.actions import suggested_actions
from pyflare_analysis.rca.patterns.pattern import (
    Pattern,
    PatternDetectorConfig,
    PatternReport,
    PatternType,
)
from pyflare_analysis.rca.patterns.search import PatternSearch
from pyflare_analysis.rca.patterns.telling import severity_of
from pyflare_proto.errors import UsageError

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

ALL_TYPES = tuple(type_ for type_ in PatternType if type_ is not PatternType.CUSTOM)


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
        search = PatternSearch.open(
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
