"""The report: every suitable column over windows of time, against a reference or the window before.

Each cell of the answer is a PSI with its law (see `psi_columns`); q-values are over all cells
at once. Rows are counted in one pass and in memory of a few batches and the counts.

Example:
    >>> with open_source("pyflare-data") as source:
    ...     heat = drift_report(
    ...         source, windows=Windows("1d"), by=["model"], where=population(source)
    ...     )
    >>> for row in heat.movers(5):
    ...     print(row.column, row.segment, row.worst.psi, row.worst.moved)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl

from pyflare_analysis.cost import dimension_key
from pyflare_analysis.drift.clusters.effects import (
    TRACE,
    Strata,
    cluster_column,
    design_effects,
    reference_effects,
)
from pyflare_analysis.drift.profiles.columns import (
    Feature,
    Passed,
    feature_named,
    suitable_features,
)
from pyflare_analysis.drift.profiles.profile import Profile, fit_profile
from pyflare_analysis.drift.psi.config import PSIConfig
from pyflare_analysis.drift.report.cells import mix_name
from pyflare_analysis.drift.report.heat_rows import Effects, heat_rows
from pyflare_analysis.drift.report.heatmap import HeatMap, Window
from pyflare_analysis.drift.report.strata import (
    Grouped,
    Ints,
    Segments,
    aligned,
    count_grouped,
)
from pyflare_analysis.drift.report.time_span import fitting_length, time_column, time_span
from pyflare_analysis.drift.report.units import Sides
from pyflare_analysis.drift.report.windows import MAX_WINDOWS, Windows
from pyflare_proto.errors import NotEnoughDataError, SchemaError, UsageError
from pyflare_storage.expressions import all_of, col

if TYPE_CHECKING:
    from pyflare_analysis.drift.profiles.counts import Counts
    from pyflare_storage.expressions import Expr
    from pyflare_storage.source import Source

__all__ = ["MAX_CELLS", "Against", "drift_report", "fitting_length", "time_column"]

Against = Literal["reference", "previous"]

MAX_CELLS = 250_000
"""More cells than these are refused: they take about 150 MB and nobody reads them."""


@dataclass(frozen=True, slots=True)
class _Question:
    """What was asked."""

    current: Source
    reference: Source | Profile | None
    windows: Windows
    against: Against
    same_hour_of_week: bool
    by: tuple[str, ...]
    where: Expr | None
    reference_where: Expr | None
    config: PSIConfig
    weighted: bool

    @property
    def reference_url(self) -> str:
        if self.reference is None:
            return "previous"
        return self.reference.source if isinstance(self.reference, Profile) else self.reference.url


def drift_report(
    current: Source,
    reference: Source | Profile | None = None,
    *,
    windows: Windows | None = None,
    against: Against | None = None,
    same_hour_of_week: bool = False,
    by: Sequence[str] = (),
    columns: Sequence[str] = (),
    where: Expr | None = None,
    reference_where: Expr | None = None,
    config: PSIConfig | None = None,
    weighted: bool = True,
    most_segments: int = 10,
    cluster: str | None = TRACE,
    reference_name: str | None = None,
) -> HeatMap:
    """Judge every suitable column in every window of time.

    Args:
        current: the rows, with a column of times.
        reference: what windows are compared with; a fitted profile where hours and segments
            are not asked for. None: each window with the one before.
        windows: the windows; days by default.
        against: `reference`, or `previous`: the window before. By default the reference
            where there is one.
        same_hour_of_week: compare with the same hours of the week of the reference, or with
            the window of a week before.
        by: dimensions of segments, as for costs. Each segment is judged by itself, the shares
            of segments as a column `mix(...)`, and the PSI of all rows is split into both.
        columns: what to look at; every suitable column when empty.
        where: rows of `current` that count, for spans mostly `columns.population`; all when
            None.
        reference_where: likewise of the reference; as `where` when None.
        config: settings of PSI.
        weighted: count rows 1/sampling_probability times.
        most_segments: the largest segments are told apart, the others are one.
        cluster: rows that are equal here are not independent, as the calls of a trace; see
            `clusters.effects`. None: all rows are independent, as without the column `trace_id`.
        reference_name: what the answer calls the reference; its URL when None.

    Raises:
        UsageError: options that do not go together, or too many windows or cells.
        SchemaError: a column that is not there or of the wrong type.
        NotEnoughDataError: no rows on a side, or nothing to look at.
    """
    question = _Question(
        current,
        reference,
        windows or Windows(column=time_column(current.columns())),
        against or ("previous" if reference is None else "reference"),
        same_hour_of_week,
        tuple(by),
        where,
        where if reference_where is None else reference_where,
        config or PSIConfig(),
        weighted,
    )
    _check(question)
    features, passed = _features(question, columns)
    profile = _profile(question, features)
    segments = _segments(question, most_segments)
    sides, profile, found = _count(question, profile, segments)
    rows = heat_rows(
        profile,
        sides,
        segments,
        windows=found,
        config=question.config,
        by=question.by,
        effects=_effects(question, profile, segments, cluster),
    )
    return HeatMap(
        source=current.url,
        reference=reference_name or question.reference_url,
        against=question.against,
        every=question.windows.every,
        timezone=question.windows.tz,
        same_hour_of_week=same_hour_of_week,
        by=question.by,
        alpha=question.config.alpha,
        threshold=question.config.threshold,
        weighted=profile.weighted,
        windows=found,
        rows=tuple(rows),
        passed=tuple((item.column, item.reason) for item in passed),
    )


def _check(question: _Question) -> None:
    """Refuse what does not go together."""
    reference = question.reference
    if question.against == "reference" and reference is None:
        raise UsageError("no reference", hint="--ref R, --ref-until TIME, or --against previous")
    if question.against == "previous" and reference is not None:
        raise UsageError(
            "a reference together with the window before",
            hint="leave out --ref, or write --against reference",
        )
    if isinstance(reference, Profile) and (question.by or question.same_hour_of_week):
        raise UsageError(
            f"the profile of {reference.source} has neither segments nor hours",
            hint="give the reference's data to --ref",
        )
    if len(set(question.by)) != len(question.by):
        raise UsageError(f"--by {','.join(question.by)} names a dimension twice", hint="once each")


def _features(question: _Question, columns: Sequence[str]) -> tuple[list[Feature], list[Passed]]:
    """Return what to look at, and what was passed over."""
    types = question.current.columns()
    if columns:
        return [feature_named(name, types) for name in columns], []
    if isinstance(question.reference, Profile):
        saved = [column.feature for column in question.reference.columns.values()]
        gone = [f for f in saved if f.column not in types]
        there = [f for f in saved if f.column in types]
        if not there:
            raise SchemaError(
                f"{question.current.url} has none of the profile's columns",
                hint=f"columns of the profile: {', '.join(question.reference.columns)}",
            )
        return there, [Passed(f.name, "is not in the current rows") for f in gone]
    features, passed = suitable_features(question.current)
    if question.reference is not None:
        known = question.reference.columns()
        passed += [
            Passed(f.name, "is not in the reference") for f in features if f.column not in known
        ]
        features = [f for f in features if f.column in known]
    if not features:
        raise NotEnoughDataError(
            f"no column of numbers or categories in {question.current.url}",
            hint="--column NAME names what to look at",
        )
    return features, passed


def _profile(question: _Question, features: list[Feature]) -> Profile:
    """Return the bins, and the reference where it is one for all windows."""
    reference = question.reference
    if isinstance(reference, Profile):
        names = [feature.name for feature in features]
        unknown = [name for name in names if name not in reference.columns]
        if unknown:
            raise SchemaError(
                f"the profile of {reference.source} has no column {unknown[0]!r}",
                hint=f"its columns: {', '.join(reference.columns)}",
            )
        return replace(reference, columns={name: reference.columns[name] for name in names})
    config = question.config
    profile = fit_profile(
        question.current if reference is None else reference,
        features,
        where=question.reference_where,
        weighted=question.weighted,
        num_bins=config.num_bins,
        min_samples_per_bin=config.min_samples_per_bin,
    )
    if not profile.rows:
        raise NotEnoughDataError(
            f"no rows in {question.current.url if reference is None else reference.url}",
            hint="widen --since and --until, drop filters, or give another --ref",
        )
    return profile


def _segments(question: _Question, most: int) -> Segments | None:
    if not question.by:
        return None
    types = question.current.columns()
    keys = [dimension_key(name, types, question.windows.tz) for name in question.by]
    sides = [(question.current, question.where)]
    if question.reference is not None and not isinstance(question.reference, Profile):
        sides.append((question.reference, question.reference_where))
    return Segments.choose(sides, question.by, keys, most)


def _with_values(profile: Profile, counts: Counts) -> Profile:
    """Leave out columns without a value on either side."""
    columns = {
        name: column
        for name, column in profile.columns.items()
        if column.present or counts.columns[name].counts[:, :-1].any()
    }
    if not columns:
        raise NotEnoughDataError(
            "no column has a value", hint="--column NAME names what to look at"
        )
    return replace(profile, columns=columns)


def _count(
    question: _Question, profile: Profile, segments: Segments | None
) -> tuple[Sides, Profile, tuple[Window, ...]]:
    """Count both sides; return them, the columns that have values, and the windows."""
    windows, same = question.windows, question.same_hour_of_week
    by_hour = same and question.against == "reference"
    timed = all_of([question.where, col(windows.column).is_not_null()])
    _check_size(question, timed, len(profile.columns), len(segments.labels) if segments else 0)
    current = count_grouped(
        profile,
        question.current,
        timed,
        windows,
        by_window=True,
        by_hour=by_hour,
        segments=segments,
    )
    profile = _with_values(profile, current.counts)
    starts, found = _windows(windows, current)
    reference, before = None, None
    if question.against == "previous":
        earlier = windows.a_week_before(starts) if same else windows.before(starts)
        before = _numbers(earlier, starts)
    elif (by_hour or segments is not None) and not isinstance(question.reference, Profile):
        assert question.reference is not None  # noqa: S101 - `_check` says so
        where = question.reference_where
        if by_hour:
            own = time_column(question.reference.columns(), windows.column)
            where = all_of([where, col(own).is_not_null()])
        counted = count_grouped(
            profile,
            question.reference,
            where,
            windows,
            by_window=False,
            by_hour=by_hour,
            segments=segments,
        )
        reference = aligned(counted, current)
    sides = Sides(
        current=current,
        place=_numbers(current.start, starts),
        windows=len(found),
        segments=len(segments.labels) + 1 if segments else 1,
        reference=reference,
        before=before,
        by_hour=by_hour,
        missing=_missing(question),
    )
    return sides, profile, found


def _effects(
    question: _Question, profile: Profile, segments: Segments | None, cluster: str | None
) -> Effects:
    """Return the design effects of both sides; none where rows are independent."""
    column = cluster_column(cluster, question.current.columns())
    if column is None:
        return Effects({}, {})
    windows, reference = question.windows, question.reference
    strata = Strata(windows, by_window=True, segments=segments, mix=mix_name(question.by))
    timed = all_of([question.where, col(windows.column).is_not_null()])
    current = design_effects(profile, question.current, timed, column, strata)
    if isinstance(reference, Profile):
        own = reference_effects(profile, column, {})
        known = {name: np.array([effect]) for name, effect in own.items()}
        return Effects(current | known, current)
    if question.against == "previous" or reference is None or column not in reference.columns():
        return Effects(current, current)
    where, by_hour = question.reference_where, question.same_hour_of_week
    if by_hour:
        own_time = time_column(reference.columns(), windows.column)
        where = all_of([where, col(own_time).is_not_null()])
    strata = replace(strata, by_window=False, by_hour=by_hour)
    return Effects(design_effects(profile, reference, where, column, strata), current)


def _missing(question: _Question) -> str:
    if question.against == "previous":
        when = "a week before" if question.same_hour_of_week else "before"
        return f"no rows in the window {when}"
    if question.same_hour_of_week:
        return "the reference has no rows of these hours"
    return "the reference has no rows of this segment"


def _numbers(times: pl.Series, starts: pl.Series) -> Ints:
    """Return the number of the window that starts at each time, -1 where there is none."""
    known = pl.DataFrame({"time": starts, "number": range(len(starts))})
    found = times.to_frame("time").join(known, on="time", how="left", maintain_order="left")
    return found["number"].fill_null(-1).to_numpy().astype(np.int64)


def _windows(windows: Windows, counted: Grouped) -> tuple[pl.Series, tuple[Window, ...]]:
    """Return the windows from the first to the last with rows, empty ones too."""
    starts = counted.start
    first, last = starts.min(), starts.max()
    chain = pl.Series([first], dtype=starts.dtype)
    # Windows of a calendar differ in length, so each is found from the one before.
    steps = [chain]
    while steps[-1][0] < last:
        steps.append(windows.ends(steps[-1]))
    chain = pl.concat(steps)
    rows = np.zeros(len(chain), np.int64)
    np.add.at(rows, _numbers(starts, chain), counted.counts.rows)
    ends = windows.ends(chain).dt.epoch("ns").to_list()
    found = zip(chain.dt.epoch("ns").to_list(), ends, rows.tolist(), strict=True)
    return chain, tuple(Window(*window) for window in found)


def _check_size(question: _Question, where: Expr | None, columns: int, segments: int) -> None:
    """Refuse what would take too much memory, before rows are counted.

    Raises:
        NotEnoughDataError: no row has a time.
        UsageError: too many windows or cells.
    """
    windows = question.windows
    first, last = time_span(question.current, windows.column, where)
    if first is None or last is None:
        raise NotEnoughDataError(
            f"no rows with a time in {question.current.url}",
            hint="widen --since and --until, or drop filters",
        )
    number = math.ceil((last - first).total_seconds() * 1e9 / windows.least_ns) + 1
    if number > MAX_WINDOWS:
        raise UsageError(
            f"about {number:,} windows of {windows.every} from {first:%Y-%m-%d} to "
            f"{last:%Y-%m-%d}, more than {MAX_WINDOWS:,}",
            hint="--every 1d or longer, or --since for a part of the time",
        )
    cells = number * columns * (1 + segments)
    if cells > MAX_CELLS:
        raise UsageError(
            f"about {cells:,} cells ({number:,} windows, {columns} columns, {segments} "
            f"segments), more than {MAX_CELLS:,}",
            hint="longer windows (--every), fewer columns (--column) or no segments (--by)",
        )
