"""The rows of the heat map: every unit compared, all of them judged together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pyflare_analysis.drift.psi.columns import judged_columns, measured_columns
from pyflare_analysis.drift.report.cells import cell_of, empty_cell, mix_profile, split_of
from pyflare_analysis.drift.report.heatmap import HeatRow, Segment
from pyflare_analysis.drift.report.units import Sides, Units, segment_units, shares_of, window_units

if TYPE_CHECKING:
    from pyflare_analysis.drift.profiles.counts import Counts
    from pyflare_analysis.drift.profiles.profile import Profile
    from pyflare_analysis.drift.psi.columns import PSIColumn
    from pyflare_analysis.drift.psi.config import PSIConfig
    from pyflare_analysis.drift.report.heatmap import Cell, Window
    from pyflare_analysis.drift.report.segments import Split
    from pyflare_analysis.drift.report.strata import Floats, Ints, Segments

__all__ = ["Effects", "heat_rows"]

_ALL: tuple[int, Segment] = (-1, {})
"""All rows together."""


@dataclass(frozen=True, slots=True)
class Effects:
    """Design effect of each column, by segment and last of all rows; see `clusters.effects`.

    A column that is not there has independent rows.
    """

    reference: Mapping[str, Floats]
    current: Mapping[str, Floats]

    def of(self, name: str) -> tuple[Floats, Floats]:
        """Return those of a column, reference first."""
        nothing = np.ones(1)
        return self.reference.get(name, nothing), self.current.get(name, nothing)


@dataclass(frozen=True, slots=True)
class _Compared:
    """Judged columns with the units that they were compared for."""

    profile: Profile
    columns: tuple[PSIColumn, ...]
    units: Units
    """All units, also those that could not be compared."""
    kept: Units
    """Those that could, in the order of the columns' arrays."""


def heat_rows(
    profile: Profile,
    sides: Sides,
    segments: Segments | None,
    *,
    windows: Sequence[Window],
    config: PSIConfig,
    by: Sequence[str],
    effects: Effects,
) -> list[HeatRow]:
    """Return the rows: each column for all rows and by segment, then the mix of segments.

    Args:
        profile: the columns, and the reference where it is one for all windows.
        sides: both sides, counted.
        segments: the segments; None without.
        windows: the windows.
        config: settings of PSI.
        by: names of the dimensions of segments.
        effects: what dependent rows are worth.
    """
    together, apart = window_units(sides)
    whole = _whole(together, sides)
    measured: list[tuple[Profile, Units]] = [(profile, whole)]
    if segments is not None and apart is not None:
        shares = mix_profile(profile, by, segments.labels)
        measured.append((shares, shares_of(apart, next(iter(shares.columns)))))
        measured.append((_inside(profile, segments), segment_units(sides)))
    compared = _compare(measured, config, effects)
    split = None if apart is None or segments is None else _Splits(apart, segments, by, effects)
    rows: list[HeatRow] = []
    inner = {c.name: i for i, c in enumerate(compared[-1].columns)} if segments else {}
    for place, name in enumerate(profile.columns):
        rows.append(_row(compared[0], place, _ALL, windows, sides.missing, split=split))
        if name in inner and segments is not None:
            rows += [
                _row(compared[-1], inner[name], segment, windows, sides.missing)
                for segment in enumerate(segments.labels)
            ]
    if segments is not None:
        rows.append(_row(compared[1], 0, _ALL, windows, sides.missing))
    return rows


def _inside(profile: Profile, segments: Segments) -> Profile:
    """Return the columns to judge inside segments: not those that segments are made of."""
    made_of = set(segments.columns())
    kept = {n: c for n, c in profile.columns.items() if c.feature.column not in made_of}
    return replace(profile, columns=kept)


def _whole(units: Units, sides: Sides) -> Units:
    """Return windows as a whole; the profile is their reference where it can be."""
    from_profile = sides.before is None and not sides.by_hour
    return replace(units, reference=None) if from_profile else units


def _compare(
    measured: Sequence[tuple[Profile, Units]],
    config: PSIConfig,
    effects: Effects,
) -> list[_Compared]:
    """Compare all units with their references and judge them as one family."""
    # Fewer rows are never judged, and their law is the dearest to simulate.
    least = 2 * config.min_samples_per_bin
    kept = [units.kept(least) for _, units in measured]
    columns = [
        _measured(profile, units, config, effects)
        for (profile, _), units in zip(measured, kept, strict=True)
    ]
    judged = iter(judged_columns([column for part in columns for column in part], config))
    return [
        _Compared(profile, tuple(next(judged) for _ in part), units, used)
        for part, (profile, units), used in zip(columns, measured, kept, strict=True)
    ]


def _measured(
    profile: Profile, units: Units, config: PSIConfig, effects: Effects
) -> list[PSIColumn]:
    """Compare units column by column, each with its own effective numbers of rows."""
    measured = []
    for name, column in profile.columns.items():
        before, now = effects.of(name)
        measured += measured_columns(
            replace(
                profile,
                columns={name: column},
                weight_squared=profile.weight_squared * float(before[-1]),
            ),
            _worth(units.current, now, units.segment),
            config,
            reference=None
            if units.reference is None
            else _worth(units.reference, before, units.segment),
        )
    return measured


def _worth(counts: Counts, effect: Floats, segment: Ints) -> Counts:
    """Return counts whose effective numbers of rows are divided by the design effect.

    Args:
        counts: of units.
        effect: (S + 1,) by segment and last of all rows, or (1,) of all.
        segment: (U,) of each unit, -1 for all rows.
    """
    by_unit = effect[segment] if len(effect) > 1 else effect
    return replace(counts, weight_squared=counts.weight_squared * by_unit)


class _Splits:
    """Splits the PSI of a window by segments, where that is worth saying."""

    def __init__(
        self,
        apart: Units,
        segments: Segments,
        by: Sequence[str],
        effects: Effects,
    ) -> None:
        assert apart.reference is not None  # noqa: S101 - segments are counted on both sides
        self._effects = effects
        self._current, self._reference = apart.current, apart.reference
        others: Segment = dict.fromkeys(by, "(others)")
        self.labels: tuple[Segment, ...] = (*segments.labels, others)

    def of(self, column: PSIColumn, unit: int, window: int) -> tuple[Split, Sequence[Segment]]:
        """Return the split of a unit, with the labels of its segments."""
        sides, scales = [], []
        both = zip((self._reference, self._current), self._effects.of(column.name), strict=True)
        for counts, effects in both:
            cells = counts.columns[column.name].counts[window]
            sides.append(cells.reshape(len(self.labels), -1))
            weight = float(counts.weight[window])
            effective = float(counts.effective[window]) / float(effects[-1])
            scales.append(effective / weight if weight else 0.0)
        return split_of(column, unit, sides[0], sides[1], (scales[0], scales[1])), self.labels


def _row(
    compared: _Compared,
    place: int,
    segment: tuple[int, Segment],
    windows: Sequence[Window],
    missing: str,
    *,
    split: _Splits | None = None,
) -> HeatRow:
    """Return a row of the map.

    Args:
        compared: what was compared.
        place: of the column in it.
        segment: number of the segment, -1 for all rows, and its label.
        windows: the windows.
        missing: why a window may have nothing to be compared with.
        split: for splitting drift by segments.
    """
    number, label = segment
    column = compared.columns[place]
    chosen = np.flatnonzero(compared.units.segment == number)
    used = np.flatnonzero(compared.kept.segment == number)
    unit_of = dict(zip(compared.kept.window[used].tolist(), used.tolist(), strict=True))
    rows_of = _rows(compared, chosen)
    cells: list[Cell] = []
    for index, window in enumerate(windows):
        rows = rows_of[index]
        unit = unit_of.get(index)
        if unit is None:
            reason = "no rows" if not rows[1] else f"{rows[1]} current rows, too few to judge"
            reason = missing if rows[1] and not rows[0] else reason
            cells.append(empty_cell(column, label, window, reason, rows))
            continue
        parts = None
        if split is not None and column.severity[unit] != "none":
            parts = split.of(column, unit, index)
        cells.append(cell_of(column, unit, segment=label, window=window, rows=rows, split=parts))
    return HeatRow(column.name, cells[0].kind, label, tuple(cells))


def _rows(compared: _Compared, chosen: NDArray[np.intp]) -> list[tuple[int, int]]:
    """Return the rows of reference and window of each window, as they are stored."""
    units = compared.units
    current = units.rows[chosen].tolist()
    if units.reference is None:
        return [(compared.profile.rows, rows) for rows in current]
    return list(zip(units.reference.rows[chosen].tolist(), current, strict=True))
