"""Users, or values of another dimension of many values, that fail much more than the others.

A user is compared with all others over the same time: an exact conditional test of the counts
(`episodes.conditional_p`), Benjamini-Hochberg over every user, also those too quiet to be
judged one by one, and a minimum effect. The source answers with totals by user, the ones with the
most failures first; time is looked at only for the users that were found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyflare_analysis.calls import CALL, FAILED
from pyflare_analysis.rca.patterns.baseline import dispersion
from pyflare_analysis.rca.patterns.episodes import Episode, conditional_p, scan_episodes
from pyflare_analysis.rca.patterns.pattern import PatternDetectorConfig
from pyflare_analysis.rca.patterns.scope import Scope
from pyflare_analysis.statistics import wilson_interval
from pyflare_storage.aggregates import Count, CountDistinct
from pyflare_storage.expressions import Attribute, Column, Expr, all_of, col

__all__ = ["Segments", "find_segments"]

Floats = NDArray[np.float64]
_MOST_SEGMENTS = 2000
"""Users that are judged one by one, those with the most failures first."""


@dataclass(frozen=True, slots=True)
class Segments:
    """The users of one dimension that fail more than the rest."""

    dimension: str
    values: tuple[str, ...]
    """The worst first."""
    rates: tuple[float, ...]
    calls: tuple[float, ...]
    baseline: float
    """Error rate of all others."""
    baseline_calls: float
    observed: float
    """Error rate of these together."""
    ci_low: float
    ci_high: float
    p_value: float
    """Of the segment that is the least certain."""
    share: float
    """Of all calls."""
    total: int
    """Values of the dimension."""
    episode: Episode | None
    """Since when, where it has not been so all the time."""
    evidence: float
    """Log-likelihood ratio of the values having rates of their own, less ln(total) for each."""

    def outside(self) -> Expr:
        """Return the condition of rows that belong to none of the segments."""
        operand = segment_operand(self.dimension)
        return operand.is_null() | ~operand.is_in(self.values)


def segment_operand(name: str) -> Column | Attribute:
    """Return what is grouped by: a column, or `attributes.KEY`."""
    container, separator, key = name.partition(".")
    return Attribute(key, container) if separator and key else col(name)


def find_segments(scope: Scope, dimension: str, where: Expr | None) -> tuple[Segments | None, int]:
    """Return the segments that fail more than the others, and how many were tested.

    Args:
        scope: what is looked at.
        dimension: a column or `attributes.KEY`.
        where: the spans, without those that other patterns explain.
    """
    source, weighted = scope.source, scope.weighted
    operand = segment_operand(dimension)
    calls = all_of([CALL, where, operand.is_not_null()])
    totals = source.aggregate(
        {
            "stored": Count(),
            "calls": Count(weighted=weighted),
            "errors": Count(where=FAILED, weighted=weighted),
            "values": CountDistinct(operand),
        },
        where=calls,
    ).row(0, named=True)
    many = int(totals["values"] or 0)
    if many < 3 or totals["errors"] < 3:
        return None, 0
    scale = totals["stored"] / totals["calls"]
    frame = source.aggregate(
        {
            "calls": Count(weighted=weighted),
            "errors": Count(where=FAILED, weighted=weighted),
        },
        by=[operand],
        where=calls,
        order_by="errors",
        descending=True,
        limit=_MOST_SEGMENTS,
    )
    names = [str(value) for value in frame[frame.columns[0]].to_list()]
    n, k = (frame[c].cast(float).to_numpy() * scale for c in ("calls", "errors"))
    whole = (float(totals["stored"]), float(totals["errors"]) * scale)
    chosen, p = _worse(n, k, whole, many, scope.config)
    if not len(chosen):
        return None, many
    chosen = chosen[np.argsort(-k[chosen] / n[chosen], kind="stable")]
    n1, k1 = n[chosen].sum(), k[chosen].sum()
    n0, k0 = totals["stored"] - n1, totals["errors"] * scale - k1
    interval = wilson_interval(min(k1, n1), n1)
    values = tuple(names[at] for at in chosen)
    return (
        Segments(
            dimension,
            values,
            tuple(float(x) for x in k[chosen] / n[chosen]),
            tuple(float(x) for x in n[chosen]),
            float(k0 / n0),
            float(n0),
            float(k1 / n1),
            float(interval.low),
            float(interval.high),
            float(p[chosen].max()),
            float(n1 / totals["stored"]),
            many,
            _since(scope, operand, values, calls),
            _evidence(k[chosen], n[chosen], float(k0 / n0)) - len(chosen) * float(np.log(many)),
        ),
        many,
    )


def _worse(
    n: Floats, k: Floats, whole: tuple[float, float], many: int, config: PatternDetectorConfig
) -> tuple[NDArray[np.intp], Floats]:
    """Return which segments are worse than the rest, and the adjusted p-value of each.

    The rest leaves out the segments that were found: few very bad ones must not hide in the
    average that they raise. Found ones are taken out until no more are found.
    """
    found = np.zeros(len(n), dtype=bool)
    q = np.ones(len(n))
    for _ in range(10):
        calls, errors = whole[0] - n[found].sum(), whole[1] - k[found].sum()
        rest_n = np.where(found, calls, calls - n)
        rest_k = np.where(found, errors, errors - k)
        p = np.where(n >= config.min_segment_calls, conditional_p(k, n, rest_k, rest_n), 1.0)
        q = _adjusted(p, many)
        base = np.maximum(rest_k, 0.0) / np.maximum(rest_n, 1.0)
        rate = k / np.maximum(n, 1e-12)
        large = (rate - base >= config.min_segment_increase) & (
            rate >= config.min_error_ratio * base
        )
        now = (q <= config.alpha) & large & (k >= 3)
        if (now == found).all() or now.sum() > many / 2:
            break
        found = now
    return np.flatnonzero(found), q


def _evidence(hits: Floats, exposure: Floats, rate: float) -> float:
    """Return the Poisson log-likelihood ratio of rates of their own against one common rate."""
    expected = np.maximum(exposure * rate, 1e-9)
    return float((hits * np.log(np.maximum(hits, 1e-9) / expected) - (hits - expected)).sum())


def _adjusted(p: Floats, many: int) -> Floats:
    """Return q-values of the smallest p-values among `many`; those not given count as 1."""
    from pyflare_analysis.statistics import benjamini_hochberg

    return benjamini_hochberg(np.concatenate((p, np.ones(max(0, many - len(p))))))[: len(p)]


def _since(
    scope: Scope, operand: Column | Attribute, values: Sequence[str], where: Expr | None
) -> Episode | None:
    """Return when the segments became worse; None where they have been so all the time."""
    grid, config = scope.grid, scope.config
    frame = scope.source.time_series(
        {"calls": Count(), "errors": Count(where=FAILED)},
        grid.every,
        where=all_of([where, operand.is_in(values)]),
    )
    trials, hits = np.zeros(grid.count), np.zeros(grid.count)
    at = grid.buckets(frame["time"])
    inside = (at >= 0) & (at < grid.count)
    trials[at[inside]] = frame["calls"].cast(float).to_numpy()[inside]
    hits[at[inside]] = frame["errors"].cast(float).to_numpy()[inside]
    found = scan_episodes(
        hits,
        trials,
        trials=trials,
        min_trials=config.min_segment_calls,
        first_bucket=scope.first,
        dispersion=dispersion(hits, trials),
        alpha=config.alpha,
    )
    clear = [e for e in found if e.ratio >= 2]
    return clear[0] if clear else None
