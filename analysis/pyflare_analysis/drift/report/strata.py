"""Counts by window, hour of the week and segment, and the references they are compared with.

Where the hours of the week are told apart, the reference of a window is standardised to the
window's own hours: with the share w_h of the window's rows in hour h and the reference's
shares of bins p_h there, it is q = sum_h w_h p_h (direct standardisation; Keiding & Clayton
2014, Stat. Sci. 29:529-558). So neither a daily rhythm of the values nor another number of
requests at night counts as drift. Its variance is at most that of a sample of

    m = 1 / sum_h (w_h^2 / m_h)

rows, with m_h the (effective) rows of the reference in hour h. The PSI's law takes that m; it
is on the safe side, because the spread between hours is no noise here. Rows of hours that the
reference lacks are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pyflare_analysis.drift.profiles.counts import CellCounts, Counts, count_rows
from pyflare_analysis.drift.report.windows import HOURS_OF_WEEK, Windows
from pyflare_analysis.plain import key_text
from pyflare_storage.aggregates import Count, Key, key_name
from pyflare_storage.polars_expressions import PolarsCompiler

if TYPE_CHECKING:
    from pyflare_analysis.drift.profiles.profile import Profile
    from pyflare_analysis.drift.profiles.rows import Rows
    from pyflare_analysis.drift.report.heatmap import Segment
    from pyflare_storage.expressions import Expr
    from pyflare_storage.source import Source

__all__ = [
    "HOUR",
    "SEGMENT",
    "SHARES",
    "Floats",
    "Grouped",
    "Ints",
    "KeyedRows",
    "Segments",
    "aligned",
    "count_grouped",
    "joined",
    "marginal",
    "regroup",
    "standardised",
    "take",
]

SHARES = "weight of each segment"
"""Name of the column that `joined` adds."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

HOUR = "hour of the week"
"""Name of the key that tells the hour of the week of a row."""
SEGMENT = "number of the segment"
"""Name of the key that tells the segment of a row."""


@dataclass(frozen=True, slots=True)
class Segments:
    """The segments that are told apart; all others are one more, the last."""

    keys: tuple[Key, ...]
    """What rows are divided by."""
    labels: tuple[Segment, ...]
    """(S,) value of each dimension, the largest segment first."""
    table: pl.DataFrame
    """(S, dimensions + 1) the keys as text, `key 0`, `key 1`, ..., and the number."""

    @classmethod
    def choose(
        cls,
        sides: Sequence[tuple[Source, Expr | None]],
        names: Sequence[str],
        keys: Sequence[Key],
        most: int,
    ) -> Segments:
        """Return the segments with the most rows.

        Args:
            sides: sources and their conditions, whose rows count together.
            names: of the dimensions, as they were asked for.
            keys: of the dimensions.
            most: so many segments at most.
        """
        own = [f"key {i}" for i in range(len(keys))]
        frames = []
        for source, where in sides:
            counted = source.aggregate({"rows of it": Count()}, by=keys, where=where)
            frames.append(counted.rename(dict(zip(map(key_name, keys), own, strict=True))))
        rows = pl.concat(frames).group_by(own).agg(pl.col("rows of it").sum())
        chosen = rows.sort(["rows of it", *own], descending=[True, *(False for _ in own)])
        chosen = chosen.head(most).select(own)
        labels = tuple(
            {name: key_text(value) for name, value in zip(names, row, strict=True)}
            for row in chosen.rows()
        )
        table = chosen.with_columns(pl.all().cast(pl.String)).with_row_index(SEGMENT)
        return cls(tuple(keys), labels, table.with_columns(pl.col(SEGMENT).cast(pl.Int64)))

    def numbers(self, frame: pl.DataFrame, types: Mapping[str, str]) -> pl.Series:
        """Return the number of each row's segment, that of the others where it is none."""
        compiler = PolarsCompiler(types)
        own = self.table.columns[1:]
        keys = frame.select(
            compiler.key(key).cast(pl.String).alias(name)
            for key, name in zip(self.keys, own, strict=True)
        )
        joined = keys.join(self.table, on=own, how="left", nulls_equal=True, maintain_order="left")
        return joined[SEGMENT].fill_null(len(self.labels))

    def columns(self) -> list[str]:
        """Return the columns that the keys are read from."""
        found = []
        for key in self.keys:
            read = getattr(key, "of", None) or getattr(key, "column", None)
            found.append(key if isinstance(key, str) else str(read or key.name))
        return found


class KeyedRows:
    """Rows with the hour of the week and the number of the segment as two more columns.

    Args:
        rows: the rows.
        windows: whose hours.
        segments: the segments; None without.
    """

    def __init__(self, rows: Rows, windows: Windows, segments: Segments | None) -> None:
        self._rows = rows
        self._windows = windows
        self._segments = segments

    @property
    def url(self) -> str:
        """Where the rows are."""
        return self._rows.url

    def columns(self) -> Mapping[str, str]:
        """Return the logical type of each column."""
        return {**self._rows.columns(), HOUR: "int64", SEGMENT: "int64"}

    def scan(
        self,
        columns: Sequence[str] | None = None,
        where: Expr | None = None,
        *,
        limit: int | None = None,
    ) -> Iterator[pl.DataFrame]:
        """Yield rows in batches of bounded size."""
        types = self._rows.columns()
        wanted = list(self.columns() if columns is None else columns)
        needed = [name for name in wanted if name in types]
        if HOUR in wanted:
            needed.append(self._windows.column)
        if SEGMENT in wanted and self._segments is not None:
            needed += self._segments.columns()
        for frame in self._rows.scan(list(dict.fromkeys(needed)), where, limit=limit):
            more: list[pl.Expr | pl.Series] = []
            if HOUR in wanted:
                more.append(self._windows.hour_of_week().alias(HOUR))
            if SEGMENT in wanted and self._segments is not None:
                more.append(self._segments.numbers(frame, types).alias(SEGMENT))
            yield frame.with_columns(more).select(wanted)


@dataclass(frozen=True, slots=True)
class Grouped:
    """Counts with what each group is."""

    counts: Counts
    start: pl.Series
    """(G,) start of the window, Datetime("ns", "UTC"); all null without windows."""
    hour: Ints
    """(G,) hour of the week, 0 where hours are not told apart."""
    segment: Ints
    """(G,) number of the segment, 0 without segments."""


def count_grouped(
    profile: Profile,
    rows: Rows,
    where: Expr | None,
    windows: Windows,
    *,
    by_window: bool,
    by_hour: bool,
    segments: Segments | None,
) -> Grouped:
    """Count rows into the cells of a profile by window, hour and segment, in one pass.

    Args:
        profile: the cells.
        rows: the rows.
        where: those that count.
        windows: the windows, and whose time zone the hours are of.
        by_window: tell windows apart.
        by_hour: tell the hours of the week apart.
        segments: tell these apart.
    """
    key = windows.key
    by: list[Key] = [key] if by_window else []
    by += [HOUR] if by_hour else []
    by += [SEGMENT] if segments is not None else []
    counts = count_rows(profile, KeyedRows(rows, windows, segments), where=where, by=by)
    number = len(counts.rows)

    def whole(name: str) -> Ints:
        if name not in counts.keys.columns:
            return np.zeros(number, np.int64)
        return counts.keys[name].to_numpy().astype(np.int64)

    starts = (
        counts.keys[key.name]
        if key.name in counts.keys.columns
        else pl.Series([None] * number, dtype=pl.Datetime("ns", "UTC"))
    )
    return Grouped(counts, starts, whole(HOUR), whole(SEGMENT))


def aligned(grouped: Grouped, current: Grouped) -> Grouped:
    """Return counts of a reference with the cells of the current ones, column by column."""
    columns = {}
    for name, cells in grouped.counts.columns.items():
        new = current.counts.columns[name].new_categories
        known = cells.counts.shape[1] - 2 - len(cells.new_categories)
        if not (new or cells.new_categories):
            columns[name] = cells
            continue
        nothing = np.zeros(len(cells.counts))
        own = dict(zip(cells.new_categories, cells.counts[:, known:-2].T, strict=True))
        named = [own.pop(category, nothing) for category in new]
        rest = cells.counts[:, -2] + sum(own.values(), nothing)
        parts = [cells.counts[:, :known], *named, rest, cells.counts[:, -1]]
        columns[name] = CellCounts(np.column_stack(parts), new)
    return replace(grouped, counts=replace(grouped.counts, columns=columns))


def joined(grouped: Grouped, window: Ints, segments: int) -> tuple[Grouped, Ints]:
    """Return groups by window and hour whose cells are those of all segments, side by side.

    A column of (G, B) counts becomes (K, segments x B), and there is one more, `SHARES`,
    with the weight of each segment, (K, segments).

    Args:
        grouped: groups by window, hour and segment.
        window: (G,) number of the window of each.
        segments: how many there are, the others included.

    Returns:
        The K groups, and the number of the window of each.
    """
    keys, first, place = np.unique(
        window * HOURS_OF_WEEK + grouped.hour, return_index=True, return_inverse=True
    )
    flat = place * segments + grouped.segment
    size = len(keys) * segments
    apart = regroup(grouped.counts, flat, size)
    whole = regroup(grouped.counts, place, len(keys))
    columns = {
        name: replace(cells, counts=cells.counts.reshape(len(keys), -1))
        for name, cells in apart.columns.items()
    }
    columns[SHARES] = CellCounts(apart.weight.reshape(len(keys), segments))
    counts = replace(whole, columns=columns)
    nothing = np.zeros(len(keys), np.int64)
    return Grouped(counts, grouped.start[first], grouped.hour[first], nothing), window[first]


def marginal(counts: Counts, segments: int) -> Counts:
    """Return the counts of all segments together, given those of `joined`."""
    columns = {
        name: replace(
            cells, counts=cells.counts.reshape(len(cells.counts), segments, -1).sum(axis=1)
        )
        for name, cells in counts.columns.items()
        if name != SHARES
    }
    return replace(counts, columns=columns)


def regroup(counts: Counts, index: Ints, size: int) -> Counts:
    """Add groups up.

    Args:
        counts: of G groups.
        index: (G,) number of the new group of each, negative to leave it out.
        size: new groups.
    """
    there = index >= 0

    def total(values: NDArray[np.float64] | Ints) -> Floats:
        result = np.zeros((size, *values.shape[1:]))
        np.add.at(result, index[there], values[there])
        return result

    return Counts(
        keys=pl.DataFrame(),
        rows=total(counts.rows).astype(np.int64),
        weight=total(counts.weight),
        weight_squared=total(counts.weight_squared),
        columns={
            name: replace(cells, counts=total(cells.counts))
            for name, cells in counts.columns.items()
        },
    )


def take(counts: Counts, index: Ints) -> Counts:
    """Return groups by number; a negative number is a group without rows."""
    there = index >= 0

    def chosen(values: NDArray[np.float64] | Ints) -> Floats:
        result = np.zeros((len(index), *values.shape[1:]))
        result[there] = values[index[there]]
        return result

    return Counts(
        keys=pl.DataFrame(),
        rows=chosen(counts.rows).astype(np.int64),
        weight=chosen(counts.weight),
        weight_squared=chosen(counts.weight_squared),
        columns={
            name: replace(cells, counts=chosen(cells.counts))
            for name, cells in counts.columns.items()
        },
    )


def standardised(
    current: Grouped, unit: Ints, reference: Grouped, block: Ints
) -> tuple[Counts, Counts]:
    """Return current counts and the reference standardised to their hours, unit by unit.

    Args:
        current: groups by window, hour and segment.
        unit: (G,) the unit that each current group belongs to, negative to leave it out.
        reference: groups by hour and segment.
        block: (U,) number of the reference's segment that each unit is compared with;
            negative: all of them together.
    """
    units = len(block)
    blocks = int(reference.segment.max(initial=0)) + 1
    whole = regroup(reference.counts, reference.hour, HOURS_OF_WEEK)
    parts = regroup(
        reference.counts, reference.segment * HOURS_OF_WEEK + reference.hour, blocks * HOURS_OF_WEEK
    )
    rows = np.zeros(units, np.int64)
    size = np.zeros(units)
    cells = {name: np.zeros((units, c.counts.shape[1])) for name, c in whole.columns.items()}
    matched = np.zeros((units, HOURS_OF_WEEK), bool)
    volume = np.zeros((units, HOURS_OF_WEEK))
    there = unit >= 0
    np.add.at(volume, (unit[there], current.hour[there]), current.counts.weight[there])
    for number in np.unique(block):
        chosen = np.flatnonzero(block == number)
        hours = np.arange(HOURS_OF_WEEK) + max(int(number), 0) * HOURS_OF_WEEK
        known = int(number) < blocks
        side = whole if number < 0 else take(parts, hours if known else np.full_like(hours, -1))
        effective = side.effective
        held = effective > 0
        matched[chosen] = held & (volume[chosen] > 0)
        shares = np.where(matched[chosen], volume[chosen], 0.0)
        total = shares.sum(axis=1, keepdims=True)
        shares = shares / np.where(total > 0, total, 1.0)
        spread = (shares**2 / np.where(held, effective, 1.0)).sum(axis=1)
        size[chosen] = np.where(spread > 0, 1 / np.where(spread > 0, spread, 1.0), 0.0)
        rows[chosen] = matched[chosen].astype(np.int64) @ side.rows
        weight = np.where(side.weight > 0, side.weight, 1.0)[:, None]
        for name, column in side.columns.items():
            cells[name][chosen] = shares @ (column.counts / weight) * size[chosen, None]
    left = np.where(there & matched[unit, current.hour], unit, -1)
    expected = Counts(
        keys=pl.DataFrame(),
        rows=rows,
        weight=size,
        weight_squared=size,
        columns={
            name: CellCounts(counts, whole.columns[name].new_categories)
            for name, counts in cells.items()
        },
    )
    return regroup(current.counts, left, units), expected
