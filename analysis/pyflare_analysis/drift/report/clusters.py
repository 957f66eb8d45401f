r"""Rows that are not independent: calls of one trace share their environment, prompt, input.

Where rows come in clusters the law of PSI (and of any chi-square) is too narrow: n rows are
worth n / d independent ones, with the design effect

    d = sum_i sum_b (c_ib - m_i p_b)^2 / p_b / (n (B - 1))

for clusters i of m_i rows, c_ib of them in bin b, and p_b the share of the bin (the mean
of the generalised design effects; Rao & Scott 1981, J. Am. Stat. Assoc. 76:221-230). It is 1 for
independent rows, and k where each cluster is one row told k times. It is estimated from the
first rows, since clusters such as traces lie close together, column by column and
segment by segment.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from pyflare_analysis.drift.profiles.counts import count_rows
from pyflare_analysis.drift.report.strata import SEGMENT, Floats, KeyedRows, regroup
from pyflare_proto.errors import SchemaError, nearest

if TYPE_CHECKING:
    from pyflare_analysis.drift.profiles.profile import Profile
    from pyflare_analysis.drift.profiles.rows import Rows
    from pyflare_analysis.drift.report.strata import Segments
    from pyflare_analysis.drift.report.windows import Windows
    from pyflare_storage.expressions import Expr

__all__ = ["TRACE", "cluster_column", "design_effect", "design_effects", "overall_effects"]

TRACE = "trace_id"
"""What rows of spans are clustered by."""
_ROWS = 20_000
_FEW_CLUSTERS = 50
_FEW_ROWS = 50


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
    """Return the design effect of clusters, 1 or more.

    Args:
        counts: (clusters, B) rows of each cluster in each bin; bins with fewer than 50 rows
            count as one.
    """
    totals = counts.sum(axis=0)
    rare = totals < _FEW_ROWS
    table = np.column_stack([counts[:, ~rare], counts[:, rare].sum(axis=1)])
    table = table[:, table.sum(axis=0) > 0]
    rows = float(table.sum())
    if table.shape[1] < 2:
        return 1.0
    shares = table.sum(axis=0) / rows
    away = table - table.sum(axis=1, keepdims=True) * shares
    return max(1.0, float((away**2 / shares).sum() / (rows * (table.shape[1] - 1))))


def design_effects(
    profile: Profile,
    rows: Rows,
    where: Expr | None,
    windows: Windows,
    *,
    cluster: str,
    segments: Segments | None,
    mix: str,
) -> dict[str, Floats]:
    """Return the design effect of each column, by segment.

    Args:
        profile: the columns and their bins.
        rows: the rows.
        where: those that count.
        windows: the windows.
        cluster: the column whose equal values are a cluster; rows without one stand alone.
        segments: the segments; None without.
        mix: what the column of the segments themselves is called.

    Returns:
        (S + 1,) for each column: of each segment, and last of all rows. A segment with fewer
        than 50 clusters takes that of all rows.
    """
    keyed = KeyedRows(rows, windows, segments, most=_ROWS)
    by = [cluster] if segments is None else [cluster, SEGMENT]
    known = _with_cluster(where, cluster)
    counts = count_rows(profile, keyed, where=known, by=by, weighted=False)
    told = len(segments.labels) if segments else 0
    if not len(counts.rows):
        return {}
    _, owner = np.unique(counts.keys[cluster].cast(str).to_numpy().astype(str), return_inverse=True)
    clusters = int(owner.max()) + 1
    whole = regroup(counts, owner, clusters)
    if segments is None:
        return {
            name: np.array([design_effect(cells.counts)]) for name, cells in whole.columns.items()
        }
    number = counts.keys[SEGMENT].to_numpy()
    shares = np.zeros((clusters, told + 1))
    np.add.at(shares, (owner, number), counts.rows)
    result = {mix: np.full(told + 1, design_effect(shares))}
    for name, cells in whole.columns.items():
        overall = design_effect(cells.counts)
        parts = [counts.columns[name].counts[number == i] for i in range(told)]
        inside = [design_effect(p) if len(p) >= _FEW_CLUSTERS else overall for p in parts]
        result[name] = np.array([*inside, overall])
    return result


def overall_effects(
    profile: Profile, rows: Rows, where: Expr | None, cluster: str | None
) -> dict[str, float]:
    """Return the design effect of each column over all rows; none where rows are independent.

    Args:
        profile: the columns and their bins.
        rows: the rows.
        where: those that count.
        cluster: the column whose equal values are a cluster; None: all rows are independent.
    """
    from pyflare_analysis.drift.report.windows import Windows

    if cluster is None:
        return {}
    found = design_effects(profile, rows, where, Windows(), cluster=cluster, segments=None, mix="")
    return {name: float(effect[0]) for name, effect in found.items()}


def _with_cluster(where: Expr | None, cluster: str) -> Expr | None:
    from pyflare_storage.expressions import all_of, col

    return all_of([where, col(cluster).is_not_null()])
