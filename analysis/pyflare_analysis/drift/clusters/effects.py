r"""Rows that are not independent: calls of one trace share their environment, prompt, input.

Where rows come in clusters the law of PSI (and of any chi-square) is too narrow: n rows are
worth n / d independent ones, with the design effect

    d = sum_i sum_b (c_ib - m_i p_b)^2 / p_b / (n (B - 1))

for clusters i of m_i rows, c_ib of them in bin b, and p_b the share of the bin (the mean
of the generalised design effects; Rao & Scott 1981, J. Am. Stat. Assoc. 76:221-230). It is 1 for
independent rows, and k where each cluster is one row told k times. Tests that compare the
distribution functions, with F_b the share up to the end of bin b and C_ib such rows of
cluster i, need that of the functions,

    d = max_b sum_i (C_ib - m_i F_b)^2 / max_b n F_b (1 - F_b),

the ratio of the largest variances: what moves all values of a cluster a little moves few bins
much, but the function everywhere.

It is estimated column by column and segment by segment, for each side by itself, from at most
4,096 clusters, each with all its rows wherever they lie.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from pyflare_analysis.drift.clusters.sample import WholeClusters
from pyflare_analysis.drift.profiles.counts import count_rows
from pyflare_analysis.drift.report.strata import HOUR, SEGMENT, Floats, Ints, KeyedRows, regroup
from pyflare_analysis.drift.report.windows import Windows
from pyflare_proto.errors import SchemaError, nearest
from pyflare_storage.aggregates import Key, key_name
from pyflare_storage.expressions import all_of, col

if TYPE_CHECKING:
    from pyflare_analysis.drift.profiles.counts import Counts
    from pyflare_analysis.drift.profiles.profile import Profile
    from pyflare_analysis.drift.profiles.rows import Rows
    from pyflare_analysis.drift.report.strata import Segments
    from pyflare_storage.expressions import Expr

__all__ = [
    "INDEPENDENT",
    "TRACE",
    "ColumnEffect",
    "Strata",
    "cluster_column",
    "design_effect",
    "design_effects",
    "function_effect",
    "on_shares",
    "overall_effects",
    "reference_effects",
    "with_effects",
]

TRACE = "trace_id"
"""What rows of spans are clustered by."""
_FEW_CLUSTERS = 50
_FEW_ROWS = 50


@dataclass(frozen=True, slots=True)
class ColumnEffect:
    """How many rows of a column are worth one independent row, 1 or more."""

    shares: float = 1.0
    """For what compares the shares of bins: PSI, chi-square, Jensen-Shannon."""
    functions: float = 1.0
    """For what compares distribution functions; 1 for categories."""


INDEPENDENT = ColumnEffect()


@dataclass(frozen=True, slots=True)
class Strata:
    """What rows are divided by beside clusters: the rows of a cluster in each count apart."""

    windows: Windows
    by_window: bool = False
    by_hour: bool = False
    segments: Segments | None = None
    mix: str = ""
    """What the column of the segments themselves is called."""

    @property
    def keys(self) -> list[Key]:
        """What a cluster is divided by."""
        keys: list[Key] = [self.windows.key] if self.by_window else []
        return [*keys, HOUR] if self.by_hour else keys


def cluster_column(cluster: str | None, known: Collection[str]) -> str | None:
    """Return the column that tells which rows belong together; None where all stand alone.

    Args:
        cluster: the column that was asked for; the default, `TRACE`, may be absent.
        known: the columns of the rows.

    Raises:
        SchemaError: there is no such column.
    """
    if cluster is None or cluster in known:
        return cluster
    if cluster == TRACE:
        return None
    guess = nearest(cluster, known)
    raise SchemaError(
        f"unknown column {cluster!r} for --cluster",
        hint=f"did you mean {guess}?" if guess else f"columns: {', '.join(list(known)[:8])}",
    )


def design_effect(counts: Floats) -> float:
    """Return the design effect of clusters on the shares of bins, 1 or more.

    Args:
        counts: (clusters, B) rows of each cluster in each bin; bins with fewer than 50 rows, and
            less than half as many as a bin has on average, count as one.
    """
    totals = counts.sum(axis=0)
    rare = totals < min(_FEW_ROWS, totals.sum() / (2 * max(counts.shape[1], 1)))
    table = np.column_stack([counts[:, ~rare], counts[:, rare].sum(axis=1)])
    table = table[:, table.sum(axis=0) > 0]
    rows = float(table.sum())
    if table.shape[1] < 2:
        return 1.0
    shares = table.sum(axis=0) / rows
    away = table - table.sum(axis=1, keepdims=True) * shares
    return max(1.0, float((away**2 / shares).sum() / (rows * (table.shape[1] - 1))))


def function_effect(counts: Floats) -> float:
    """Return the design effect of clusters on the distribution function, 1 or more.

    Args:
        counts: (clusters, B) rows of each cluster in each bin, in the order of the values.
    """
    rows = float(counts.sum())
    if counts.shape[1] < 2 or not rows:
        return 1.0
    below = np.cumsum(counts, axis=1)
    shares = below[:, :-1].sum(axis=0) / rows
    away = below[:, :-1] - below[:, -1:] * shares
    apart = float((rows * shares * (1 - shares)).max())
    return max(1.0, float((away**2).sum(axis=0).max()) / apart) if apart > 0 else 1.0


def design_effects(
    profile: Profile, rows: Rows, where: Expr | None, cluster: str, strata: Strata
) -> dict[str, Floats]:
    """Return the design effect of each column on shares, by segment.

    Args:
        profile: the columns and their bins.
        rows: the rows.
        where: those that count.
        cluster: the column whose equal values are a cluster; rows without one stand alone.
        strata: what divides clusters, and the segments.

    Returns:
        (S + 1,) for each column: of each segment, and last of all rows. A segment with fewer
        than 50 clusters takes that of all rows.
    """
    segments = strata.segments
    counts, owner = _counted(profile, rows, where, cluster, strata)
    if not len(counts.rows):
        return {}
    clusters = int(owner.max()) + 1
    whole = regroup(counts, owner, clusters)
    if segments is None:
        return {
            name: np.array([design_effect(cells.counts)]) for name, cells in whole.columns.items()
        }
    told = len(segments.labels)
    number = counts.keys[SEGMENT].to_numpy()
    shares = np.zeros((clusters, told + 1))
    np.add.at(shares, (owner, number), counts.rows)
    result = {strata.mix: np.full(told + 1, design_effect(shares))}
    for name, cells in whole.columns.items():
        overall = design_effect(cells.counts)
        parts = [counts.columns[name].counts[number == i] for i in range(told)]
        inside = [design_effect(p) if len(p) >= _FEW_CLUSTERS else overall for p in parts]
        result[name] = np.array([*inside, overall])
    return result


def overall_effects(
    profile: Profile, rows: Rows, where: Expr | None, cluster: str | None
) -> dict[str, ColumnEffect]:
    """Return the design effects of each column over all rows; none where rows are independent.

    Args:
        profile: the columns and their bins.
        rows: the rows.
        where: those that count.
        cluster: the column whose equal values are a cluster; None, or one that the rows do not
            have: nothing is known.
    """
    if cluster is None or cluster not in rows.columns():
        return {}
    counts, owner = _counted(profile, rows, where, cluster, Strata(Windows()))
    if not len(counts.rows):
        return {}
    whole = regroup(counts, owner, int(owner.max()) + 1)
    return {
        name: ColumnEffect(
            design_effect(cells.counts),
            function_effect(cells.counts[:, :-1]) if column.feature.kind == "numeric" else 1.0,
        )
        for (name, cells), column in zip(
            whole.columns.items(), profile.columns.values(), strict=True
        )
    }


def with_effects(profile: Profile, rows: Rows, where: Expr | None, cluster: str | None) -> Profile:
    """Return a profile with the design effects of the rows that it was fitted to.

    Args:
        profile: as fitted.
        rows: the rows.
        where: those that count.
        cluster: the column whose equal values are a cluster; where the rows do not have it,
            their design effects stay unknown.
    """
    if cluster is None or cluster not in rows.columns():
        return profile
    found = on_shares(overall_effects(profile, rows, where, cluster))
    columns = {
        name: replace(column, design_effect=found.get(name, 1.0))
        for name, column in profile.columns.items()
    }
    return replace(profile, columns=columns, cluster=cluster)


def reference_effects(
    profile: Profile, cluster: str | None, current: Mapping[str, float]
) -> dict[str, float]:
    """Return the design effects of a reference; those of the current rows where unknown."""
    if cluster is None or profile.cluster != cluster:
        return dict(current)
    return {name: column.design_effect for name, column in profile.columns.items()}


def on_shares(effects: Mapping[str, ColumnEffect]) -> dict[str, float]:
    """Return the effects on shares alone."""
    return {name: effect.shares for name, effect in effects.items()}


def _counted(
    profile: Profile, rows: Rows, where: Expr | None, cluster: str, strata: Strata
) -> tuple[Counts, Ints]:
    """Return counts by cluster (and stratum and segment), and the cluster of each group."""
    known = all_of([where, col(cluster).is_not_null()])
    keys: list[Key] = [cluster, *strata.keys]
    keyed = KeyedRows(rows, strata.windows, strata.segments)
    sample = WholeClusters(keyed, keys, known)
    by = keys if strata.segments is None else [*keys, SEGMENT]
    counts = count_rows(profile, sample, where=known, by=by, weighted=False)
    if not len(counts.rows):
        return counts, np.zeros(0, np.int64)
    own = counts.keys.select(key_name(key) for key in keys)
    names = own.columns
    numbered = own.unique(maintain_order=True).with_row_index("number of the cluster")
    found = own.join(numbered, on=names, how="left", nulls_equal=True, maintain_order="left")
    return counts, found["number of the cluster"].cast(pl.Int64).to_numpy()
