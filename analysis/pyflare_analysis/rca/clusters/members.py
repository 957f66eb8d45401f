"""Second pass over failures: what is known of each cluster.

Memory: figures of each cluster, its latest `keep` members and traces, and the hashes of at
most half a million pairs of cluster and trace; beyond that every second hash is let go, again
and again, and the number of traces becomes an estimate (the k minimum values of Bar-Yossef
et al. 2002, with a threshold in place of k).
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from pyflare_analysis.rca.clusters.failure_rows import Window
from pyflare_analysis.rca.clusters.forms import KEYS
from pyflare_storage.pieces import detached

__all__ = ["ClusterFacts", "ClusterMembers"]

_MAX_PAIRS = 500_000
_HASH_SEED = 20_262
_FIGURES = {
    "stored": pl.Int64(),
    "weight": pl.Float64(),
    "first_ns": pl.Int64(),
    "last_ns": pl.Int64(),
    "before": pl.Float64(),
    "before_squares": pl.Float64(),
    "recent": pl.Float64(),
    "recent_squares": pl.Float64(),
}


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What the failures of one cluster add up to."""

    cluster: int
    """Number of the cluster."""
    stored: int
    weight: float
    first_ns: int | None
    last_ns: int | None
    before: float
    """Weight before the recent part."""
    before_squares: float
    recent: float
    """Weight in the recent part."""
    recent_squares: float
    traces: int
    """Different traces."""
    member_ids: tuple[str, ...]
    """The latest first."""
    trace_ids: tuple[str, ...]
    """The latest first."""
    examples: tuple[tuple[str, int], ...]
    """A message of each of the most frequent forms, and the messages of that form."""


class ClusterMembers:
    """Adds up the failures of each cluster.

    Args:
        window: the recent part; what follows it is neither recent nor before. None without
            times.
        keep: latest members and traces to keep of each cluster; all when None.
        example_forms: forms to keep a message of: `cluster`, the columns of `KEYS`, `count`.
    """

    def __init__(
        self, *, window: Window | None, keep: int | None, example_forms: pl.DataFrame
    ) -> None:
        self._window = window
        self._keep = keep
        self._example_forms = example_forms
        self._figures: list[pl.DataFrame] = []
        self._latest: dict[str, list[pl.DataFrame]] = {"id": [], "trace_id": []}
        self._examples: list[pl.DataFrame] = []
        self._pairs: list[pl.DataFrame] = []
        self._pair_rows = 0
        self._halvings = 0
        self.unclustered = 0.0
        """Weight of the failures without a cluster."""

    def add(self, batch: pl.DataFrame) -> None:
        """Add a batch that `Assignment.assign` returned."""
        self.unclustered += float(batch.filter(pl.col("cluster").is_null())["weight"].sum())
        rows = batch.filter(pl.col("cluster").is_not_null())
        if rows.is_empty():
            return
        self._figures.append(self._sums(rows))
        for column in self._latest:
            self._add_latest(column, rows)
        self._add_examples(rows)
        self._add_pairs(rows)
        if len(self._figures) > 64:
            self._figures = [_summed(self._figures)]

    def facts(self) -> list[ClusterFacts]:
        """Return the facts of each cluster, by number."""
        if not self._figures:
            return []
        members, traces = (self._lists(column) for column in self._latest)
        counted = self._trace_counts()
        examples = self._example_texts()
        return [
            ClusterFacts(
                **row,
                traces=counted.get(row["cluster"], 0),
                member_ids=members.get(row["cluster"], ()),
                trace_ids=traces.get(row["cluster"], ()),
                examples=examples.get(row["cluster"], ()),
            )
            for row in _summed(self._figures).sort("cluster").iter_rows(named=True)
        ]

    def traces(self) -> int:
        """Return the number of different traces over all clusters."""
        if not self._pairs:
            return 0
        return int(self._merged_pairs()["trace"].n_unique()) << self._halvings

    def _sums(self, rows: pl.DataFrame) -> pl.DataFrame:
        weight = pl.col("weight")
        time = pl.col("time_ns")
        start, end = self._window or (0, 0)
        recent = ((time >= start) & (time < end)).fill_null(value=False)
        before = (time < start).fill_null(value=True)
        return rows.group_by("cluster").agg(
            pl.len().cast(pl.Int64).alias("stored"),
            weight.sum(),
            pl.col("time_ns").min().alias("first_ns"),
            pl.col("time_ns").max().alias("last_ns"),
            weight.filter(before).sum().alias("before"),
            (weight**2).filter(before).sum().alias("before_squares"),
            weight.filter(recent).sum().alias("recent"),
            (weight**2).filter(recent).sum().alias("recent_squares"),
        )

    def _add_latest(self, column: str, rows: pl.DataFrame) -> None:
        kept = self._latest[column]
        # Copies: a few texts of a batch would hold the text of all of it.
        kept.append(detached(self._newest(column, rows.select("cluster", column, "time_ns"))))
        if len(kept) > 64:
            self._latest[column] = [self._newest(column, pl.concat(kept))]

    def _newest(self, column: str, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the latest distinct values of each cluster, the latest first."""
        time = pl.col("time_ns")
        latest = rows.drop_nulls(column)
        if column == "trace_id":
            latest = latest.group_by("cluster", column).agg(time.max())
        if self._keep is not None:
            # Sorting is dear: first only those that can be among the latest.
            bound = time.top_k(self._keep).min().over("cluster")
            latest = latest.filter(bound.is_null() | time.is_null() | (time >= bound))
        latest = latest.sort("time_ns", column, descending=[True, False], nulls_last=True)
        if self._keep is None:
            return latest
        return latest.group_by("cluster", maintain_order=True).head(self._keep)

    def _lists(self, column: str) -> dict[int, tuple[str, ...]]:
        newest = self._newest(column, pl.concat(self._latest[column]))
        grouped = newest.group_by("cluster", maintain_order=True).agg(column)
        return {cluster: tuple(values) for cluster, values in grouped.iter_rows()}

    def _add_examples(self, rows: pl.DataFrame) -> None:
        found = rows.join(self._example_forms, on=["cluster", *KEYS]).group_by("cluster", *KEYS)
        self._examples.append(
            detached(found.agg(pl.col("text").fill_null("").min(), pl.col("count").first()))
        )
        if len(self._examples) > 64:
            self._examples = [self._merged_examples()]

    def _merged_examples(self) -> pl.DataFrame:
        grouped = pl.concat(self._examples).group_by("cluster", *KEYS)
        return grouped.agg(pl.col("text").min(), pl.col("count").first())

    def _example_texts(self) -> dict[int, tuple[tuple[str, int], ...]]:
        ordered = self._merged_examples().sort("count", "text", descending=[True, False])
        texts: dict[int, list[tuple[str, int]]] = {}
        for cluster, text, count in ordered.select("cluster", "text", "count").iter_rows():
            texts.setdefault(cluster, []).append((text, count))
        return {cluster: tuple(found) for cluster, found in texts.items()}

    def _add_pairs(self, rows: pl.DataFrame) -> None:
        pairs = rows.select(
            "cluster", pl.col("trace_id").hash(_HASH_SEED).alias("trace"), pl.col("trace_id")
        ).drop_nulls("trace_id")
        self._pairs.append(self._thinned(pairs.select("cluster", "trace").unique()))
        self._pair_rows += self._pairs[-1].height
        if self._pair_rows > _MAX_PAIRS:
            merged = self._merged_pairs()
            while merged.height > _MAX_PAIRS // 2:
                self._halvings += 1
                merged = self._thinned(merged)
            self._pairs, self._pair_rows = [merged], merged.height

    def _thinned(self, pairs: pl.DataFrame) -> pl.DataFrame:
        if not self._halvings:
            return pairs
        return pairs.filter(pl.col("trace") < (1 << (64 - self._halvings)))

    def _merged_pairs(self) -> pl.DataFrame:
        return self._thinned(pl.concat(self._pairs).unique())

    def _trace_counts(self) -> dict[int, int]:
        if not self._pairs:
            return {}
        counted = self._merged_pairs().group_by("cluster").len()
        return {cluster: count << self._halvings for cluster, count in counted.iter_rows()}


def _summed(parts: list[pl.DataFrame]) -> pl.DataFrame:
    sums = [name for name in _FIGURES if name not in ("first_ns", "last_ns")]
    return (
        pl.concat(parts)
        .group_by("cluster")
        .agg(*(pl.col(name).sum() for name in sums), pl.col("first_ns").min(),
             pl.col("last_ns").max())
        .select("cluster", *_FIGURES)
    )  # fmt: skip
