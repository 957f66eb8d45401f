"""First pass over failures: their distinct masked forms, and the cluster of each.

Memory: at most `max_forms` forms of up to `masks.MAX_CHARACTERS` each, 32 MB of counts, and
up to 64 MB of failures, so that few failures are read only once.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pyflare_analysis.rca.clusters.failure_rows import FailureRows
from pyflare_analysis.rca.clusters.masks import WILDCARD, mask
from pyflare_analysis.rca.clusters.stacktraces import in_app_frames
from pyflare_analysis.rca.clusters.state import ClusterKey, Registry, covers
from pyflare_analysis.rca.clusters.templates import (
    FREE_TEXT,
    TemplateOptions,
    find_templates,
    template_pattern,
)

__all__ = ["KEYS", "Assignment", "FormCounts"]

KEYS = ["error_type", "place", "form"]
"""What makes a form: type of the exception, frames of the application, masked message."""

NO_MESSAGE = "(no message)"
"""Template of failures that say nothing."""

_EXAMPLES = 5
_SINGLE_FORMS = 8
_RECONCILED = 5_000
"""Most templates of a run that are compared with the known ones."""
_CACHED_PLACES = 50_000
_BUCKETS = 1 << 22
_KEPT_BYTES = 64 << 20
"""Size up to which failures are kept between the passes."""
_HASH_SEED = 20_261


class _Places:
    """Frames of the application for lines of stack traces; few are distinct."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {"": ""}

    def of(self, lines: pl.Series) -> pl.Series:
        """Return the frames of each row, one a line."""
        distinct = lines.unique().to_list()
        if len(distinct) == 1:
            return pl.repeat(self._place(distinct[0]), len(lines), dtype=pl.String, eager=True)
        places = [self._place(text) for text in distinct]
        return lines.replace_strict(distinct, places, return_dtype=pl.String)

    def _place(self, lines: str) -> str:
        place = self._known.get(lines)
        if place is None:
            if len(self._known) > _CACHED_PLACES:
                self._known = {"": ""}
            place = self._known[lines] = "\n".join(in_app_frames(lines))
        return place


class FormCounts:
    """The distinct forms of all batches with their counts.

    Where there are more than `limit`, the forms are read once more: those that come often
    are kept (by the counts of their hashes in `_BUCKETS` buckets, which never lets a frequent
    form go), and of the others those with the smallest hashes. Which ones these are does not
    depend on the order of the failures.

    Args:
        limit: most forms that are kept.
    """

    def __init__(self, limit: int) -> None:
        self.places = _Places()
        self._limit = limit
        self._buckets = np.zeros(_BUCKETS, dtype=np.int64)
        self._frequent: NDArray[np.bool_] | None = None
        self._kept: list[pl.DataFrame] | None = []
        self._kept_bytes = 0
        self._clear()

    def read(self, rows: FailureRows) -> None:
        """Count the forms of all failures."""
        for batch in rows.batches():
            prepared = self._prepared(batch)
            self._keep(prepared)
            self._add(prepared)
        self._merge()
        if self.is_complete:
            return
        least = np.partition(self._buckets, -self._limit // 2)[-self._limit // 2]
        self._frequent = self._buckets > max(1, least)
        self._clear()
        for prepared in self.batches(rows):
            self._add(prepared)
        self._merge()

    def batches(self, rows: FailureRows) -> Iterator[pl.DataFrame]:
        """Yield the failures again, with `place` and `form`; read anew unless they are few."""
        if self._kept is not None:
            yield from self._kept
        else:
            yield from map(self._prepared, rows.batches())

    @property
    def is_complete(self) -> bool:
        """Whether every form was kept."""
        return self._bound is None and self._frequent is None

    @property
    def distinct(self) -> int:
        """Forms that were kept."""
        return self._frame.height

    def frame(self) -> pl.DataFrame:
        """Return the forms: the columns of `KEYS`, and `count`; sorted."""
        return self._frame.drop("hash").sort(KEYS)

    def _prepared(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Return a batch with `place` and `form`."""
        return batch.with_columns(
            self.places.of(batch["frames"]).alias("place"),
            mask(batch["text"]).alias("form"),
        )

    def _clear(self) -> None:
        self._frame = pl.DataFrame(
            schema={**dict.fromkeys(KEYS, pl.String()), "count": pl.Int64(), "hash": pl.UInt64()}
        )
        self._waiting: list[pl.DataFrame] = []
        self._waiting_rows = 0
        self._bound: int | None = None

    def _keep(self, prepared: pl.DataFrame) -> None:
        if self._kept is None:
            return
        self._kept.append(prepared)
        self._kept_bytes += int(prepared.estimated_size())
        if self._kept_bytes > _KEPT_BYTES:
            self._kept = None

    def _add(self, prepared: pl.DataFrame) -> None:
        counted = (
            prepared.group_by(KEYS)
            .agg(pl.len().cast(pl.Int64).alias("count"))
            .with_columns(pl.struct(KEYS).hash(_HASH_SEED).alias("hash"))
        )
        if self._frequent is None:
            np.add.at(self._buckets, _bucket(counted), counted["count"].to_numpy())
        self._waiting.append(counted)
        self._waiting_rows += counted.height
        if self._waiting_rows > self._limit:
            self._merge()

    def _merge(self) -> None:
        merged = (
            pl.concat([self._frame, *self._waiting])
            .group_by([*KEYS, "hash"])
            .agg(pl.col("count").sum())
            .select(self._frame.columns)
        )
        self._waiting, self._waiting_rows = [], 0
        often = pl.repeat(value=False, n=merged.height, dtype=pl.Boolean, eager=True)
        if self._frequent is not None:
            often = pl.Series(self._frequent[_bucket(merged)])
        frequent, rare = merged.filter(often), merged.filter(~often)
        if self._bound is not None:
            rare = rare.filter(pl.col("hash") <= self._bound)
        room = max(1, self._limit - frequent.height)
        if rare.height > room:
            # The forms with the smallest hashes: a form that goes never comes back, because
            # the bound only falls, so the counts of those that stay are complete.
            rare = rare.sort("hash", *KEYS).head(room)
            self._bound = int(rare["hash"][-1])
        self._frame = pl.concat([frequent, rare])


def _bucket(forms: pl.DataFrame) -> NDArray[np.int64]:
    return (forms["hash"].to_numpy() % np.uint64(_BUCKETS)).astype(np.int64)


class Assignment:
    """The cluster of each form.

    Args:
        forms: the forms of the first pass.
        options: limits of the rules that find templates.
        registry: known clusters.
    """

    def __init__(self, forms: FormCounts, options: TemplateOptions, registry: Registry) -> None:
        self._forms = forms
        table = forms.frame()
        templates = pl.concat(
            [_with_templates(group, options) for _, group in _by_type(table)]
        ) if table.height else table.with_columns(pl.lit("").alias("template"))  # fmt: skip
        templates = _one_place(templates)
        keys = templates.select("error_type", "place", "template").unique().sort(pl.all())
        self.keys: list[tuple[str, ClusterKey]] = []
        """Id and key of each cluster, by number."""
        numbers: dict[str, int] = {}
        cluster_of: list[int] = []
        for error_type, place, template in keys.iter_rows():
            frames = tuple(place.split("\n")) if place else ()
            key = ClusterKey(error_type, frames, template)
            identifier, key = registry.identify(key, exactly=keys.height > _RECONCILED)
            if identifier not in numbers:
                numbers[identifier] = len(self.keys)
                self.keys.append((identifier, key))
            elif covers(key.template, self.keys[numbers[identifier]][1].template):
                self.keys[numbers[identifier]] = (identifier, key)
            cluster_of.append(numbers[identifier])
        numbered = keys.with_columns(pl.Series("cluster", cluster_of, dtype=pl.Int64))
        self._table = templates.join(
            numbered, on=["error_type", "place", "template"], how="left"
        ).select(*KEYS, "template", "cluster", "count")
        self.example_forms = (
            self._table.sort(["count", "form"], descending=[True, False])
            .group_by("cluster", maintain_order=True)
            .head(_EXAMPLES)
            .select("cluster", *KEYS, "count")
        )
        """The most frequent forms of each cluster."""
        self._lookup = self._table.select(*KEYS, "cluster")

    def assign(self, prepared: pl.DataFrame) -> pl.DataFrame:
        """Return a batch of `FormCounts.batches` with its `cluster`, null where none fits."""
        found = prepared.join(self._lookup, on=KEYS, how="left", maintain_order="left")
        if self._forms.is_complete or not found["cluster"].null_count():
            return found
        return self._matched(found)

    def _matched(self, found: pl.DataFrame) -> pl.DataFrame:
        """Match the forms that were not kept to the templates of those that were."""
        missing = found.filter(pl.col("cluster").is_null()).select(KEYS).unique().sort(KEYS)
        wide = (
            self._table.filter(pl.col("template").str.contains_any([WILDCARD, FREE_TEXT]))
            .select("error_type", "place", "template", "cluster")
            .unique()
            .sort(pl.col("template").str.len_bytes(), "template", descending=[True, False])
        )
        parts: list[pl.DataFrame] = []
        for error_type, place, template, cluster in wide.iter_rows():
            fits = missing.select(
                (pl.col("error_type") == error_type)
                & (pl.col("place") == place)
                & pl.col("form").str.contains(template_pattern(template))
            ).to_series()
            parts.append(missing.filter(fits).with_columns(pl.lit(cluster).alias("late")))
            missing = missing.filter(~fits)
        if not parts:
            return found
        late = pl.concat(parts)
        return (
            found.join(late, on=KEYS, how="left", maintain_order="left")
            .with_columns(pl.coalesce("cluster", "late").alias("cluster"))
            .drop("late")
        )


def _by_type(table: pl.DataFrame) -> list[tuple[tuple[object, ...], pl.DataFrame]]:
    return list(table.group_by("error_type", maintain_order=True))


def _with_templates(group: pl.DataFrame, options: TemplateOptions) -> pl.DataFrame:
    """Return the forms of one type of exception with their templates."""
    forms = group.group_by("form").agg(pl.col("count").sum()).sort("form")
    texts = forms["form"].to_list()
    found = find_templates(texts, forms["count"].to_list(), options)
    named = [template or NO_MESSAGE for template in found]
    return group.join(
        forms.select("form", pl.Series("template", named, dtype=pl.String)), on="form", how="left"
    )


def _one_place(templates: pl.DataFrame) -> pl.DataFrame:
    """Join what was said once only at one place of the application: text that no rule reads."""
    at_place = ["error_type", "place"]
    seen = templates.group_by(*at_place, "template").agg(pl.col("count").sum())
    single = seen.filter((pl.col("place") != "") & (pl.col("count") == 1))
    counted = single.group_by(at_place).agg(pl.len().alias("singles"))
    many = counted.filter(pl.col("singles") >= _SINGLE_FORMS).select(at_place)
    joined = single.join(many, on=at_place, how="semi").select(
        *at_place, "template", pl.lit(FREE_TEXT).alias("joined")
    )
    return (
        templates.join(joined, on=[*at_place, "template"], how="left")
        .with_columns(pl.coalesce("joined", "template").alias("template"))
        .drop("joined")
    )
