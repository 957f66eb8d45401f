"""Failure clusters: what the failures say, and since when.

The messages of failures are masked (`masks`), the distinct masked forms of each type of
exception get their templates (`templates`), and failures with the same type, the same
innermost frames of the application (`stacktraces`) and the same template are one cluster.

The failures are read in batches, and held between the passes only while they are few. The
first pass gathers the distinct forms (at most `max_forms`; beyond that the frequent ones and a
sample of the others in a pass of their own, and what was not kept is matched to the templates
of these), the last pass what is known of each cluster. The answer depends on the set of
failures only, never on their order.

Example:
    >>> answer = cluster_spans(open_source("pyflare-data"), Filters())
    >>> for cluster in answer.clusters:
    ...     print(cluster.size, cluster.growth.trend, cluster.template)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pyflare_analysis.plain import format_time
from pyflare_analysis.rca.clusters.failure_rows import (
    FailureRecord,
    FailureRows,
    RecordRows,
    SpanRows,
    TableRows,
    Window,
)
from pyflare_analysis.rca.clusters.growth import Counts, Growth, growths
from pyflare_analysis.rca.clusters.masks import WILDCARD
from pyflare_analysis.rca.clusters.state import ALGORITHM, ClusterKey, KnownCluster, Registry
from pyflare_analysis.rca.clusters.templates import FREE_TEXT, TemplateOptions
from pyflare_analysis.rca.clusters.words import STOP_WORDS

if TYPE_CHECKING:
    from pyflare_analysis.rca.clusters.members import ClusterFacts
    from pyflare_storage.filters import Filters
    from pyflare_storage.source import Source

__all__ = [
    "ClusterAnswer",
    "FailureCluster",
    "FailureClusterer",
    "FailureClustererConfig",
    "FailureExample",
    "FailureRecord",
    "Growth",
    "cluster_spans",
    "cluster_table",
]

_NAME_CHARACTERS = 100
_KEYWORDS = 8
_REMEMBERED = 1_000
_MARKS = "\"'`()[]{}<>:,;.!?=*"


@dataclass(frozen=True, slots=True)
class FailureClustererConfig:
    """Settings of the clusterer."""

    templates: TemplateOptions = field(default_factory=TemplateOptions)
    """Limits of the rules that find templates."""
    recent: float | Window = 0.25
    """Recent part that is compared with what was before: a share of the time in (0, 1), a
    length in nanoseconds, or a window (start and end, nanoseconds since 1970)."""
    level: float = 0.95
    """Confidence of the interval of the growth; 1 - level is the false discovery rate."""
    max_members: int | None = None
    """Latest members and traces that are listed for a cluster; all when None."""
    max_forms: int = 100_000
    """Distinct masked messages that are compared with each other."""


@dataclass(frozen=True, slots=True)
class FailureExample:
    """A message of a cluster as it was."""

    text: str
    count: int
    """Messages with the same masked form."""


@dataclass(frozen=True, slots=True)
class FailureCluster:
    """Failures of one kind."""

    id: str
    """`fc_` and 12 hex digits; the same from run to run."""
    name: str
    """Type of the exception and template, in one short line."""
    size: int
    """Failures; sampled ones count 1/sampling_probability each where weighted."""
    representative_error: str
    """The message that is most like the others."""
    template: str
    """What the messages share: `<*>` is one value, `<...>` text of any length."""
    common_keywords: tuple[str, ...]
    """Words of the template that say something, in its order."""
    severity: float
    """In [0, 1]; see `severity_of`."""
    member_ids: tuple[str, ...]
    """Ids of the latest members."""
    affected_traces: tuple[str, ...]
    """Ids of the latest traces."""
    error_type: str | None = None
    """Type of the exception, where known."""
    in_app_frames: tuple[str, ...] = ()
    """Innermost frames of the application, innermost first."""
    share: float = 0.0
    """Part of all failures, in [0, 1]."""
    stored_size: int = 0
    """Failures as they are stored: `size` without weights."""
    affected_trace_count: int = 0
    """Different traces; an estimate beyond half a million of them over all clusters."""
    first_seen_ns: int | None = None
    """Earliest failure over all known runs, nanoseconds since 1970."""
    last_seen_ns: int | None = None
    """Latest failure."""
    growth: Growth | None = None
    """Rate of the recent part against the rate before; None without times."""
    is_known: bool = False
    """Whether an earlier run found it."""
    examples: tuple[FailureExample, ...] = ()
    """A message of each of the most frequent forms."""

    def to_dict(self) -> dict[str, object]:
        """Return the cluster as it stands in JSON."""
        return {
            "id": self.id,
            "name": self.name,
            "size": self.size,
            "representative_error": self.representative_error,
            "template": self.template,
            "common_keywords": list(self.common_keywords),
            "severity": self.severity,
            "member_ids": list(self.member_ids),
            "affected_traces": list(self.affected_traces),
            "affected_trace_count": self.affected_trace_count,
            "stored_size": self.stored_size,
            "share": self.share,
            "error_type": self.error_type,
            "in_app_frames": list(self.in_app_frames),
            "first_seen": None if self.first_seen_ns is None else format_time(self.first_seen_ns),
            "last_seen": None if self.last_seen_ns is None else format_time(self.last_seen_ns),
            "growth": None if self.growth is None else self.growth.to_dict(),
            "is_known": self.is_known,
            "examples": [{"text": e.text, "count": e.count} for e in self.examples],
        }


@dataclass(frozen=True, slots=True)
class ClusterAnswer:
    """The answer of the clusterer."""

    clusters: tuple[FailureCluster, ...]
    """The most severe first."""
    failures: int
    """Failures over all clusters."""
    spans: int | None
    """Spans, failed or not; None where only failures are known."""
    weighted: bool
    """Whether failures count by their weights."""
    unclustered: int
    """Failures whose form fits no template of those that were compared."""
    distinct_forms: int
    """Different masked messages that were compared."""
    recent_since_ns: int | None
    """Where the recent part begins; None without times."""
    merged: Mapping[str, str] = field(default_factory=dict)
    """Known clusters that became part of another, by id."""

    def to_dict(self) -> dict[str, object]:
        """Return the answer as it stands in JSON."""
        recent = self.recent_since_ns
        return {
            "algorithm": ALGORITHM,
            "weighted": self.weighted,
            "failures": self.failures,
            "spans": self.spans,
            "unclustered": self.unclustered,
            "distinct_forms": self.distinct_forms,
            "recent_since": None if recent is None else format_time(recent),
            "merged": dict(self.merged),
            "clusters": [cluster.to_dict() for cluster in self.clusters],
        }

    def known(self) -> list[KnownCluster]:
        """Return the clusters as the next run has to know them: the most severe thousand."""
        return [
            KnownCluster(
                cluster.id,
                ClusterKey(cluster.error_type or "", cluster.in_app_frames, cluster.template),
                cluster.first_seen_ns,
                cluster.last_seen_ns,
            )
            for cluster in self.clusters[:_REMEMBERED]
        ]


class FailureClusterer:
    """Groups failures by what they say.

    Args:
        config: settings.
        registry: clusters of earlier runs, whose ids are kept.
    """

    def __init__(
        self, config: FailureClustererConfig | None = None, registry: Registry | None = None
    ) -> None:
        self.config = config or FailureClustererConfig()
        self.registry = registry or Registry()

    def cluster_failures(self, failures: Sequence[FailureRecord]) -> list[FailureCluster]:
        """Return the clusters of failures in memory, the most severe first."""
        return list(self.cluster_rows(RecordRows(failures)).clusters)

    def cluster_rows(self, rows: FailureRows, *, weighted: bool = True) -> ClusterAnswer:
        """Return the clusters of failures that are read in batches.

        Args:
            rows: the failures; read up to three times.
            weighted: what the answer says about the weights that `rows` gives.
        """
        from pyflare_analysis.rca.clusters.forms import Assignment, FormCounts
        from pyflare_analysis.rca.clusters.members import ClusterMembers

        forms = FormCounts(self.config.max_forms)
        forms.read(rows)
        assignment = Assignment(forms, self.config.templates, self.registry)
        exposure = rows.exposure(self.config.recent)
        members = ClusterMembers(
            window=None if exposure is None else (exposure.split_ns, exposure.end_ns),
            keep=self.config.max_members,
            example_forms=assignment.example_forms,
        )
        for batch in forms.batches(rows):
            members.add(assignment.assign(batch))
        facts = members.facts()
        counts = [Counts(f.before, f.before_squares, f.recent, f.recent_squares) for f in facts]
        growth = (
            [None] * len(facts)
            if exposure is None
            else growths(counts, exposure.before, exposure.recent, level=self.config.level)
        )
        total = sum(fact.weight for fact in facts)
        traces = members.traces()
        says = _representatives(facts)
        clusters = [
            self._cluster(
                assignment.keys[fact.cluster], fact, grown, text, total=total, traces=traces
            )
            for fact, grown, text in zip(facts, growth, says, strict=True)
        ]
        return ClusterAnswer(
            clusters=tuple(sorted(clusters, key=lambda c: (-c.severity, -c.size, c.id))),
            failures=round(total + members.unclustered),
            spans=None if rows.spans is None else round(rows.spans),
            weighted=weighted,
            unclustered=round(members.unclustered),
            distinct_forms=forms.distinct,
            recent_since_ns=None if exposure is None else exposure.split_ns,
            merged=dict(self.registry.merged),
        )

    def find_representative_error(self, cluster: FailureCluster) -> str:
        """Return the message that is most like the other messages of a cluster.

        The medoid of its examples: the largest mean similarity to the others, each counted
        as often as its form occurs; of equal ones the first by text.
        """
        if not cluster.examples:
            return cluster.representative_error
        tokens = _tokens([example.text for example in cluster.examples])
        return _medoid(cluster.examples, tokens)

    def extract_common_keywords(self, cluster: FailureCluster) -> list[str]:
        """Return the words of the template that say something, in its order."""
        words: dict[str, None] = {}
        for word in cluster.template.replace("=", " ").split():
            plain = word.strip(_MARKS).lower()
            if len(plain) > 1 and plain not in STOP_WORDS and WILDCARD not in word:
                words[plain] = None
        return [word for word in words if word != FREE_TEXT.strip(_MARKS)][:_KEYWORDS]

    def calculate_text_similarity(self, text1: str, text2: str) -> float:
        """Return the similarity of two messages: Jaccard index of their masked tokens.

        |A & B| / |A | B|, in [0, 1]; two messages without tokens are alike. Source: Jaccard
        1912, New Phytologist 11:37-50.
        """
        first, second = _tokens([text1, text2])
        return _jaccard(first, second)

    def _cluster(
        self,
        identity: tuple[str, ClusterKey],
        fact: ClusterFacts,
        growth: Growth | None,
        representative: str,
        *,
        total: float,
        traces: int,
    ) -> FailureCluster:
        """Return the cluster of what is known about it."""
        identifier, key = identity
        known = self.registry.known.get(identifier)
        earlier = None if known is None else known.first_seen_ns
        seen = [ns for ns in (fact.first_ns, earlier) if ns is not None]
        bare = FailureCluster(
            id=identifier,
            name=_name(key),
            size=round(fact.weight),
            representative_error=representative,
            template=key.template,
            common_keywords=(),
            severity=severity_of(fact.traces / traces if traces else fact.weight / total, growth),
            member_ids=fact.member_ids,
            affected_traces=fact.trace_ids,
            error_type=key.error_type or None,
            in_app_frames=key.frames,
            share=fact.weight / total,
            stored_size=fact.stored,
            affected_trace_count=fact.traces,
            first_seen_ns=min(seen) if seen else None,
            last_seen_ns=fact.last_ns,
            growth=growth,
            is_known=known is not None,
            examples=tuple(FailureExample(text, count) for text, count in fact.examples),
        )
        return replace(bare, common_keywords=tuple(self.extract_common_keywords(bare)))


def severity_of(affected_share: float, growth: Growth | None) -> float:
    """Return how much a cluster matters, in [0, 1].

    1 - (1 - a)(1 - g): a is the share of the failing traces that it affects (of the failures,
    without traces); g = 1 - 1/r with r the lower bound of the rate ratio of a growing
    cluster, else 0. A cluster that affects everything, or grows without bound, has 1.
    """
    grown = 0.0
    if growth is not None and growth.is_growing and growth.ratio_low > 1:
        grown = 1 - 1 / growth.ratio_low
    return round(1 - (1 - min(1.0, affected_share)) * (1 - grown), 6)


def cluster_spans(
    source: Source,
    filters: Filters | None = None,
    *,
    config: FailureClustererConfig | None = None,
    registry: Registry | None = None,
    weighted: bool = True,
) -> ClusterAnswer:
    """Cluster the failed spans of a source.

    Args:
        source: where the spans are.
        filters: which spans count; all when None.
        config: settings.
        registry: clusters of earlier runs.
        weighted: count sampled spans 1/sampling_probability times.

    Raises:
        NotEnoughDataError: there are no spans, or too few to say that none fails.
    """
    rows = SpanRows(source, filters, weighted=weighted)
    return FailureClusterer(config, registry).cluster_rows(rows, weighted=weighted)


def cluster_table(
    source: Source,
    *,
    text: str,
    id_column: str | None = None,
    error_type: str | None = None,
    time: str | None = None,
    trace: str | None = None,
    stack: str | None = None,
    config: FailureClustererConfig | None = None,
    registry: Registry | None = None,
) -> ClusterAnswer:
    """Cluster the rows of any table by one of its columns; see `TableRows` for the others.

    Raises:
        SchemaError: a column that is not there.
        NotEnoughDataError: the table is empty.
    """
    rows = TableRows(
        source,
        text=text,
        id_column=id_column,
        error_type=error_type,
        time=time,
        trace=trace,
        stack=stack,
    )
    return FailureClusterer(config, registry).cluster_rows(rows)


def _name(key: ClusterKey) -> str:
    text = f"{key.error_type}: {key.template}" if key.error_type else key.template
    return text if len(text) <= _NAME_CHARACTERS else text[: _NAME_CHARACTERS - 1] + "…"


def _representatives(facts: Sequence[ClusterFacts]) -> list[str]:
    """Return the representative message of each cluster; all examples are masked at once."""
    tokens = iter(_tokens([text for fact in facts for text, _ in fact.examples]))
    result = []
    for fact in facts:
        examples = [FailureExample(text, count) for text, count in fact.examples]
        own = [next(tokens) for _ in examples]
        result.append(_medoid(examples, own) if examples else "")
    return result


def _medoid(examples: Sequence[FailureExample], tokens: Sequence[frozenset[str]]) -> str:
    """Return the text with the largest sum of similarities to all examples."""

    def closeness(number: int) -> float:
        return sum(
            _jaccard(tokens[number], other) * example.count
            for other, example in zip(tokens, examples, strict=True)
        )

    best = min(range(len(examples)), key=lambda n: (-closeness(n), examples[n].text))
    return examples[best].text


def _tokens(texts: Sequence[str]) -> list[frozenset[str]]:
    """Return the masked tokens of each text."""
    import polars as pl

    from pyflare_analysis.rca.clusters.masks import mask

    masked: list[str] = mask(pl.Series(texts, dtype=pl.String)).to_list()
    return [frozenset(_plain_tokens(text)) for text in masked]


def _plain_tokens(masked: str) -> Iterator[str]:
    for word in masked.lower().split():
        yield word if WILDCARD in word else word.strip(_MARKS) or word


def _jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    union = len(first | second)
    return len(first & second) / union if union else 1.0
