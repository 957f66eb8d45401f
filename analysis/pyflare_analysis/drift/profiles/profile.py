"""Reference profiles: what a reference looked like, small enough to keep, exact to score by.

A profile is fitted once, in one pass over the reference (a second one where a column has
too many values to hold), saved as a small JSON file, and scored later without the
reference data, with equal results. Profiles of shards merge into one.

Example:
    >>> with open_source("last-week.parquet") as source:
    ...     profile = fit_profile(source)
    >>> profile.save("reference.json")
    >>> with open_source("today.parquet") as source:
    ...     counts = count_rows(profile, source, by=[TimeBucket(every="1h")])
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pyflare_analysis.drift.profiles.bins import bin_counts, quantile_edges
from pyflare_analysis.drift.profiles.columns import Feature, suitable_features
from pyflare_analysis.drift.profiles.counts import count_rows
from pyflare_analysis.drift.profiles.rows import Rows, as_rows
from pyflare_analysis.drift.profiles.sketch import Points, certain_count, merge_points, thin
from pyflare_analysis.drift.univariate.summary import Categories, Numbers, Summary, summarize_rows
from pyflare_proto.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pyflare_storage.expressions import Expr

    Floats = NDArray[np.float64]

__all__ = [
    "ColumnProfile",
    "Profile",
    "certain_share",
    "fit_profile",
    "merge_profiles",
    "profile_of",
]

SKETCH_POINTS = 1024
"""Points of a numeric column that are kept for merging: see `sketch` for the error."""
_MOST_CATEGORIES = 1000
_LEAST_SHARE = 0.001
_OPEN = 20_000


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """One feature of the reference."""

    feature: Feature
    counts: Floats
    """(cells,) weighted rows: the bins (numeric) or the categories and the rest, last the
    rows without a value."""
    edges: Floats
    """(bins - 1,) inner edges of a numeric feature's bins, see `bins`; else empty."""
    points: Points
    """Of a numeric feature: what the bins of a merged profile are made from; else empty."""
    categories: tuple[str, ...] = ()
    """Of a categorical feature: those that are counted by themselves, most frequent first."""
    distinct: int | None = None
    """Different categories; None where there were too many to count."""
    singletons: float | None = None
    """Categories that occurred once; None like `distinct`, and where rows are weighted."""
    least_share: float = 0.0
    """Share of the rows from which a category is among those counted, whatever chance did; 0
    where every one is."""
    design_effect: float = 1.0
    """How many rows are worth one independent row, 1 or more; see `Profile.cluster`."""

    @property
    def is_open(self) -> bool:
        """Whether the categories are without end (ids), so that new ones mean nothing."""
        kind = self.feature.kind == "categorical"
        return kind and (self.distinct is None or self.distinct > _OPEN)

    @property
    def present(self) -> float:
        """Weighted rows with a value."""
        return float(self.counts[:-1].sum())


@dataclass(frozen=True, slots=True)
class Profile:
    """A reference, summarised."""

    columns: dict[str, ColumnProfile]
    """By name of the feature."""
    rows: int
    """Rows as they are stored."""
    weight: float
    """Rows before sampling: the sum of 1/sampling_probability."""
    weight_squared: float
    """Sum of the squared weights."""
    num_bins: int
    min_samples_per_bin: int
    weighted: bool
    """Whether rows count 1/sampling_probability times."""
    source: str = ""
    """Where the reference was, without a password."""
    psi_settings: dict[str, Any] | None = None
    """Of a saved `PSIDriftDetector`: its settings beside the bins."""
    cluster: str | None = None
    """The column whose equal values are a cluster of the design effects; None: they are unknown."""

    @property
    def effective(self) -> float:
        """Effective sample size, (sum w)^2 / sum w^2 (Kish 1965)."""
        return self.weight**2 / self.weight_squared if self.weight_squared else 0.0

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the profile to a file.

        Raises:
            StorageError: the file cannot be written.
        """
        from pyflare_analysis.drift.profiles.profile_file import write_profile

        write_profile(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Profile:
        """Read a profile.

        Raises:
            NotFoundError: there is no such file.
            InvalidDataError: it is no profile, damaged, or of a later version.
        """
        from pyflare_analysis.drift.profiles.profile_file import read_profile

        return read_profile(path)


def fit_profile(
    rows: Rows,
    features: Sequence[Feature] | None = None,
    *,
    where: Expr | None = None,
    weighted: bool = True,
    num_bins: int = 10,
    min_samples_per_bin: int = 5,
) -> Profile:
    """Fit a profile in bounded memory.

    The bins are those of the exact quantiles up to 2^19 values of a column (or 2^15
    different ones); beyond, the rank of an edge is off by at most 2^-14 of the rows. The
    counts are exact in any case.

    Args:
        rows: the reference, a source or whatever `as_rows` takes.
        features: what to watch; every suitable one when None.
        where: the rows that count; all when None.
        weighted: count rows 1/sampling_probability times, where there is that column.
        num_bins: bins of a numeric feature at most, 2 or more.
        min_samples_per_bin: values a bin at least, 1 or more.

    Raises:
        UsageError: bins that cannot be.
        SchemaError: a column that is not there or of another type.
    """
    if num_bins < 2 or min_samples_per_bin < 1:
        raise UsageError(
            f"{num_bins} bins of {min_samples_per_bin} values at least",
            hint="two or more bins, of one value or more",
        )
    rows = as_rows(rows)
    chosen = list(suitable_features(rows)[0] if features is None else features)
    summary = summarize_rows(rows, chosen, where=where, weighted=weighted)
    profile = profile_of(
        summary,
        chosen,
        num_bins=num_bins,
        min_samples_per_bin=min_samples_per_bin,
        weighted=weighted,
        source=rows.url,
    )
    # Where no category is kept, what the summary knows (all, and the missing) is exact.
    estimated = [
        name
        for name, found in summary.features.items()
        if not found.exact and (isinstance(found, Numbers) or profile.columns[name].categories)
    ]
    return _counted(profile, estimated, rows, where) if estimated else profile


def profile_of(
    summary: Summary,
    features: Sequence[Feature],
    *,
    num_bins: int = 10,
    min_samples_per_bin: int = 5,
    weighted: bool = True,
    source: str = "",
) -> Profile:
    """Return the profile of rows that were summarised.

    Counts are estimates where the summary is not exact.

    Args:
        summary: the rows.
        features: of the summary.
        num_bins: bins of a numeric feature at most.
        min_samples_per_bin: values a bin at least.
        weighted: whether rows counted 1/sampling_probability times.
        source: where the rows were.
    """
    columns: dict[str, ColumnProfile] = {}
    for feature in features:
        found = summary.features[feature.name]
        if isinstance(found, Numbers):
            columns[feature.name] = numeric_column(
                feature, found.points, found.missing, num_bins, min_samples_per_bin
            )
        else:
            scale = summary.effective / summary.weight if summary.weight else 1.0
            columns[feature.name] = categorical_column(feature, found, scale)
    return Profile(
        columns=columns,
        rows=summary.rows,
        weight=summary.weight,
        weight_squared=summary.weight_squared,
        num_bins=num_bins,
        min_samples_per_bin=min_samples_per_bin,
        weighted=weighted,
        source=source,
    )


def _counted(profile: Profile, names: list[str], rows: Rows, where: Expr | None) -> Profile:
    """Count the columns whose summary is not exact in a second pass."""
    part = replace(profile, columns={name: profile.columns[name] for name in names})
    counts = count_rows(part, rows, where=where)
    columns = dict(profile.columns)
    for name in names:
        column = columns[name]
        cells = counts.columns[name]
        new = len(cells.new_categories)
        counted = cells.counts[0].copy()
        if new:
            first = len(column.categories)
            counted[first + new] += counted[first : first + new].sum()
            counted = np.delete(counted, slice(first, first + new))
        columns[name] = replace(column, counts=counted)
    return replace(profile, columns=columns)


def numeric_column(
    feature: Feature, points: Points, missing: float, num_bins: int, least: int
) -> ColumnProfile:
    """Return the profile of a numeric feature, given its values as points."""
    edges = quantile_edges(points, num_bins, least) if len(points.values) else np.empty(0)
    counts = np.append(bin_counts(points, edges), missing)
    return ColumnProfile(feature, counts, edges, thin(points, SKETCH_POINTS))


def categorical_column(feature: Feature, found: Categories, scale: float = 1.0) -> ColumnProfile:
    """Return the profile of a categorical feature.

    All categories are kept where there are at most 1,000, else those of at least 0.1 % of the rows.

    Args:
        feature: the feature.
        found: its categories.
        scale: effective rows a weighted row.
    """
    ordered = list(found.counts.items())
    total = sum(found.counts.values()) + found.rest
    once = sum(count == 1 for count in found.counts.values())
    distinct = len(ordered) if found.exact else None
    if len(ordered) > _MOST_CATEGORIES:
        ordered = [item for item in ordered if item[1] >= _LEAST_SHARE * total]
    kept = [count for _, count in ordered]
    complete = len(kept) == distinct
    rest = 0.0 if complete else max(total - sum(kept), 0.0)
    size = total * scale
    least_share = 0.0 if complete else certain_share(size)
    return ColumnProfile(
        feature,
        np.array([*kept, rest, found.missing]),
        np.empty(0),
        Points(np.empty(0), np.empty(0)),
        tuple(name for name, _ in ordered),
        distinct,
        float(once) if found.exact and not found.weighted else None,
        least_share,
    )


def certain_share(size: float) -> float:
    """Return the share from which a category is kept for certain, of so many effective rows."""
    return certain_count(_LEAST_SHARE * size) / max(size, 1.0)


def merge_profiles(profiles: Sequence[Profile]) -> Profile:
    """Return the profile of all shards together.

    Categories add up (those that a shard did not keep count as the rest, less than 0.1 % of
    the shard each). Numeric bins are made anew from the points of the shards: every bin's
    share is within 1/1024 of the exact one, and exact where each shard has at most 1,024
    different values. One profile stays as it is.

    Raises:
        UsageError: no profiles, or of different columns, bins or weights.
    """
    if not profiles:
        raise UsageError("no profiles to merge", hint="give one or more")
    first = profiles[0]
    if len(profiles) == 1:
        return first
    shape = [(c.feature, first.num_bins, first.min_samples_per_bin) for c in first.columns.values()]
    for other in profiles[1:]:
        same = [
            (c.feature, other.num_bins, other.min_samples_per_bin) for c in other.columns.values()
        ]
        if same != shape or other.weighted != first.weighted:
            raise UsageError(
                f"the profiles of {first.source} and {other.source} are of different kinds",
                hint="fit all shards with the same columns, bins and weights",
            )
    columns = {
        name: _merged([profile.columns[name] for profile in profiles], first)
        for name in first.columns
    }
    return replace(
        first,
        columns=columns,
        rows=sum(p.rows for p in profiles),
        weight=sum(p.weight for p in profiles),
        weight_squared=sum(p.weight_squared for p in profiles),
        source=", ".join(dict.fromkeys(p.source for p in profiles)),
        cluster=None,  # a cluster may have rows in several shards
    )


def _merged(columns: list[ColumnProfile], like: Profile) -> ColumnProfile:
    feature = columns[0].feature
    missing = sum(float(c.counts[-1]) for c in columns)
    if feature.kind == "numeric":
        points = merge_points([c.points for c in columns])
        return numeric_column(feature, points, missing, like.num_bins, like.min_samples_per_bin)
    known: dict[str, float] = {}
    for column in columns:
        for name, count in zip(column.categories, column.counts.tolist(), strict=False):
            known[name] = known.get(name, 0.0) + count
    rest = sum(float(c.counts[-2]) for c in columns)
    whole = all(c.distinct == len(c.categories) for c in columns)
    weighted = any(c.singletons is None for c in columns)
    known = dict(sorted(known.items(), key=lambda item: (-item[1], item[0])))
    merged = categorical_column(feature, Categories(known, rest, missing, weighted))
    least_share = max(column.least_share for column in [*columns, merged])
    if whole:
        return merged
    return replace(merged, distinct=None, singletons=None, least_share=least_share)
