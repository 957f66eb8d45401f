"""Scores of evaluations over time: which there are, and their counts by slice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from pyflare_analysis.rca.metrics import MetricReader, resolve_metric
from pyflare_analysis.rca.patterns.cells import Cube, Exclusion, SliceKey, load_scores
from pyflare_analysis.rca.patterns.family import Family
from pyflare_analysis.rca.patterns.measures import score_measures
from pyflare_analysis.rca.patterns.scope import Scope
from pyflare_analysis.rca.scores import EVALUATION_EVENT, plain_name
from pyflare_storage.expressions import Expr, all_of, col

if TYPE_CHECKING:
    from pyflare_storage.source import Source

__all__ = ["quality_families", "score_names"]

_SAMPLE = 2000
_MOST_NAMES = 8
_BINS = 48
_BAD_WHEN_HIGH = {"hallucination", "toxicity", "drift", "bias"}
_SCORE_COLUMNS = ("overall_score", "hallucination_score", "toxicity_score")


def score_names(source: Source, where: Expr | None, evaluations: Source | None) -> list[str]:
    """Return the names of the evaluations whose scores the spans have, the most frequent first.

    Looks at a seeded sample of spans with events of evaluations, and at the stored results.
    """
    counts: dict[str, int] = {}
    columns = source.columns()
    if "events" in columns:
        told = all_of([col("events").contains(EVALUATION_EVENT), where])
        for text in source.sample(_SAMPLE, 0, ["events"], told)["events"].drop_nulls():
            for event in json.loads(text):
                attributes = event.get("attributes") or {}
                name = attributes.get("gen_ai.evaluation.name")
                value = attributes.get("gen_ai.evaluation.score.value")
                if isinstance(name, str) and isinstance(value, int | float):
                    counts[name] = counts.get(name, 0) + 1
    for name in _SCORE_COLUMNS:
        if name in columns or (evaluations is not None and name in evaluations.columns()):
            counts.setdefault(name, 1)
    if evaluations is not None and {"name", "score"} <= set(evaluations.columns()):
        from pyflare_storage.aggregates import Count

        stored = evaluations.aggregate({"n": Count()}, by=["name"], limit=_MOST_NAMES)
        counts |= {str(n): int(c) for n, c in stored.iter_rows() if n is not None}
    return sorted(counts, key=lambda name: (-counts[name], name))[:_MOST_NAMES]


def quality_families(
    scope: Scope,
    slices: Sequence[tuple[SliceKey | None, list[str]]],
    evaluations: Source | None,
) -> tuple[list[Family], str]:
    """Return a family for each evaluation, and why there is none."""
    families: list[Family] = []
    names = score_names(scope.source, scope.where, evaluations)
    for name in names:
        found = _family(scope, slices, evaluations, name)
        if found is not None:
            families.append(found)
    if families:
        return families, ""
    why = "too few scores" if names else "no scores of evaluations on the spans"
    return [], f"{why}: pyflare eval writes some, and so do gen_ai.evaluation.result events"


def _family(
    scope: Scope,
    slices: Sequence[tuple[SliceKey | None, list[str]]],
    evaluations: Source | None,
    name: str,
) -> Family | None:
    source, grid, where = scope.source, scope.grid, scope.where
    columns = source.columns()
    metric = resolve_metric(name, columns)
    reader = MetricReader(metric, columns, evaluations)
    wanted = [c for c in columns if c in reader.columns]
    sample = reader.read(source.sample(_SAMPLE, 0, wanted, all_of([reader.where, where])))
    scores = sample.drop_nulls().to_numpy()
    if len(scores) < 2 * scope.config.min_calls or np.ptp(scores) == 0:
        return None
    inner = np.unique(np.quantile(scores, np.linspace(0, 1, _BINS)))
    edges = [-np.inf, *(float(x) for x in inner), np.inf]

    def reload(
        key: SliceKey | None, values: Sequence[str], exclusions: Sequence[Exclusion]
    ) -> Cube:
        rest = all_of([where, *(exclusion.expr() for exclusion in exclusions)])
        return load_scores(source, grid, [(key, values)], reader=reader, edges=edges, where=rest)[0]

    worse: Literal["higher", "lower"] = "higher" if plain_name(name) in _BAD_WHEN_HIGH else "lower"
    cubes = load_scores(source, grid, slices, reader=reader, edges=edges, where=where)
    return Family(score_measures(name, worse), cubes, [key for key, _ in slices], reload)
