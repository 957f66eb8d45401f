"""Drift of the vectors of two sources: read or sampled, compared, and put into an answer."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import Any

from pyflare_analysis.drift.detector import Verdict
from pyflare_analysis.drift.embeddings.checks import same_dimensions
from pyflare_analysis.drift.embeddings.comparison import Comparison, MMDConfig, compare
from pyflare_analysis.drift.embeddings.pooled import Clusters
from pyflare_analysis.drift.embeddings.streams import Stream, compare_streams
from pyflare_analysis.drift.embeddings.topic_words import distinctive_words
from pyflare_analysis.drift.embeddings.vectors import VectorColumn, Vectors
from pyflare_proto.errors import UsageError

__all__ = ["EmbeddingDrift", "embedding_drift"]

_SCALE_ROWS = 1_000
"""Vectors a side from which the method `rff` takes bandwidth and center."""


@dataclass(frozen=True, slots=True)
class EmbeddingDrift:
    """The answer of `embedding_drift`."""

    reference: VectorColumn
    """Where the reference came from."""
    current: VectorColumn
    """Where the current vectors came from."""
    comparison: Comparison
    """What was found."""
    sides: tuple[Vectors, Vectors] | None
    """The vectors; None where they were streamed."""

    @property
    def verdict(self) -> Verdict:
        """What the comparison says."""
        return self.comparison.verdict

    @property
    def notes(self) -> list[str]:
        """What a reader should know about the data."""
        found = []
        for name, side in zip(("reference", "current"), self.sides or (), strict=False):
            if side.sampled:
                found.append(
                    f"{name}: {len(side.values):,} of {side.available:,} vectors were drawn"
                )
            if side.missing:
                found.append(f"{name}: {side.missing:,} rows without a value were left out")
            if side.zero_count:
                found.append(
                    f"{name}: {side.zero_count:,} vectors are all zeros in {side.values.dtype}, "
                    "as failed embeddings are"
                )
        clusters, column = self.comparison.clusters, self.current.cluster
        counts = (self.comparison.reference_count, self.comparison.current_count)
        if clusters is not None and clusters != counts:
            found.append(
                f"{counts[0]:,} and {counts[1]:,} vectors are of {clusters[0]:,} and "
                f"{clusters[1]:,} values of {column}, which change sides whole"
            )
        elif self.sides is None and column is not None:
            found.append(f"rff takes all rows as independent, also those of one {column}")
        return found

    def record(self) -> dict[str, object]:
        """Return the verdict as it is kept; see `pyflare_storage.drift_results`."""
        found = self.comparison
        return {
            "column": self.current.column,
            "kind": "embedding",
            "mmd2": found.mmd2,
            "p_value": found.p_value,
            "severity": found.severity,
            "verdict": str(found.verdict),
            "reference_count": found.reference_count,
            "current_count": found.current_count,
            "details": {"method": found.method, "seed": found.config.random_seed},
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as it stands in JSON."""
        document = self.comparison.to_dict()
        embedder = self.current.embedder
        document |= {
            "column": self.current.column,
            "embedder": None if embedder is None else embedder.name,
            "cluster": None if self.comparison.clusters is None else self.current.cluster,
        }
        found = self.comparison
        counts = (found.reference_count, found.current_count)
        for i, column in enumerate((self.reference, self.current)):
            side = None if self.sides is None else self.sides[i]
            document[("reference", "current")[i]] = {
                "source": column.source.url,
                "rows": counts[i],
                "clusters": document[("reference", "current")[i]]["clusters"],
                "available": counts[i] if side is None else side.available,
                "missing": None if side is None else side.missing,
            }
        if self.sides is not None:
            self._name_examples(document)
        return document

    def _name_examples(self, document: dict[str, Any]) -> None:
        """Put ids, texts and words in the place of row numbers."""
        assert self.sides is not None  # noqa: S101 - the caller has looked
        reference, current = self.sides
        for topic in document.get("topics", ()):
            topic["reference_examples"] = [reference.row(i) for i in topic.pop("reference_rows")]
            topic["current_examples"] = [current.row(i) for i in topic.pop("current_rows")]
        for test in document["tests"]:
            if "unlike_rows" in test:
                test["unlike_examples"] = [current.row(i) for i in test.pop("unlike_rows")]
        if reference.texts is None or current.texts is None:
            return
        texts = [*reference.texts.to_list(), *current.texts.to_list()]
        listed = zip(document.get("topics", ()), self.comparison.topics or (), strict=True)
        for topic, found in listed:
            if topic["p_value"] <= self.comparison.config.p_value_threshold:
                topic["words"] = distinctive_words(texts, found["members"].tolist())


def embedding_drift(
    reference: VectorColumn, current: VectorColumn, config: MMDConfig, method: str = "mmd"
) -> EmbeddingDrift:
    """Compare the vectors of two sources.

    Up to 10,000 vectors a side (2,000 texts with an embedder; 64 MiB) are compared; of more,
    a sample is drawn with the seed. The method `rff` reads all of them unless `max_samples` is
    set.

    Args:
        reference: the reference.
        current: what came later.
        config: settings.
        method: see `MMDDriftDetector`.

    Raises:
        UsageError: no such method.
        SchemaError: a column that is not there, without vectors, or of another length.
        InvalidDataError: NaN or infinity.
        SourceUnavailableError: a source or the embedder does not answer.
    """
    config.check(method)
    seed = config.random_seed or secrets.randbits(31) + 1
    config = replace(config, random_seed=seed)
    if method == "rff" and not config.max_samples:
        return _streamed(reference, current, config)
    sides = [side.load(config.max_samples, seed) for side in (reference, current)]
    same_dimensions(sides[0].values, sides[1].values)
    clusters = None
    if sides[0].clusters is not None and sides[1].clusters is not None:
        clusters = Clusters(sides[0].clusters, sides[1].clusters)
    found = compare(sides[0].values, sides[1].values, config, method, clusters)
    return EmbeddingDrift(reference, current, found, (sides[0], sides[1]))


def _streamed(reference: VectorColumn, current: VectorColumn, config: MMDConfig) -> EmbeddingDrift:
    """Compare all vectors by random features."""
    streams = []
    for side in (reference, current):
        if side.embedder is not None:
            raise UsageError(
                "the method rff reads every row, which would embed every text",
                hint="--max-samples 2000, or --method auto, which draws a sample",
            )
        sample = side.load(_SCALE_ROWS, config.random_seed)
        streams.append(Stream(side.batches(), sample.available, sample.values))
    same_dimensions(streams[0].sample, streams[1].sample)
    found = compare_streams(streams[0], streams[1], config)
    return EmbeddingDrift(reference, current, found, None)
