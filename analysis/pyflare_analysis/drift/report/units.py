"""What is judged: windows, and windows of segments, each beside the reference it has."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pyflare_analysis.drift.profiles.counts import CellCounts
from pyflare_analysis.drift.report.strata import (
    SHARES,
    Grouped,
    Ints,
    joined,
    marginal,
    regroup,
    standardised,
    take,
)

if TYPE_CHECKING:
    from pyflare_analysis.drift.profiles.counts import Counts

__all__ = ["Sides", "Units", "segment_units", "shares_of", "window_units"]


@dataclass(frozen=True, slots=True)
class Sides:
    """Both sides, counted."""

    current: Grouped
    """By window, hour and segment."""
    place: Ints
    """(G,) number of the window of each current group."""
    windows: int
    segments: int
    """Segments, the others included; 1 without segments."""
    reference: Grouped | None
    """By hour and segment; None where the profile says all, or for the window before."""
    before: Ints | None
    """(W,) number of the window that each is compared with, -1 for none; None: the reference."""
    by_hour: bool
    """Whether hours of the week are told apart."""
    missing: str
    """Why a window may have nothing to be compared with."""


@dataclass(frozen=True, slots=True)
class Units:
    """Windows, or windows of segments, in one order, and those that can be compared."""

    window: Ints
    """(U,) number of the window."""
    segment: Ints
    """(U,) number of the segment; -1: all rows."""
    current: Counts
    reference: Counts | None
    """None: the profile, for each of them."""
    rows: Ints
    """(U,) current rows as they are stored, also those of hours that the reference lacks."""

    def kept(self, least: int) -> Units:
        """Return those with at least so many effective rows now, and any before."""
        there = self.current.effective >= least
        if self.reference is not None:
            there &= self.reference.weight > 0
        chosen = np.flatnonzero(there)
        return Units(
            self.window[chosen],
            self.segment[chosen],
            take(self.current, chosen),
            None if self.reference is None else take(self.reference, chosen),
            self.rows[chosen],
        )


def window_units(sides: Sides) -> tuple[Units, Units | None]:
    """Return the windows with all their rows.

    Returns:
        The units, with the segments added up; and with the cells of all segments side by side
        (see `strata.joined`), None where there are no segments.
    """
    told = sides.segments > 1
    current, place = joined(sides.current, sides.place, sides.segments)
    number = np.arange(sides.windows)
    everything = np.full(sides.windows, -1)
    rows = regroup(current.counts, place, sides.windows).rows
    reference: Counts | None = None
    if sides.before is not None:
        counts = regroup(current.counts, place, sides.windows)
        reference = take(counts, sides.before)
    elif sides.reference is None:
        counts = regroup(current.counts, place, sides.windows)
    else:
        zero = np.zeros(len(sides.reference.hour), np.int64)
        whole, _ = joined(sides.reference, zero, sides.segments)
        if sides.by_hour:
            counts, reference = standardised(current, place, whole, everything)
        else:
            counts = regroup(current.counts, place, sides.windows)
            reference = take(whole.counts, np.zeros(sides.windows, np.int64))
    apart = Units(number, everything, counts, reference, rows)
    together = Units(
        number,
        everything,
        marginal(counts, sides.segments),
        None if reference is None else marginal(reference, sides.segments),
        rows,
    )
    return together, apart if told else None


def segment_units(sides: Sides) -> Units:
    """Return the windows of each segment; the others, the last segment, are left out."""
    told = sides.segments - 1
    units = sides.windows * told
    window, segment = np.divmod(np.arange(units), max(told, 1))
    inside = sides.current.segment < told
    unit = np.where(inside, sides.place * told + sides.current.segment, -1)
    counts = regroup(sides.current.counts, unit, units)
    if sides.before is not None:
        earlier = sides.before[window]
        index = np.where(earlier >= 0, earlier * told + segment, -1)
        return Units(window, segment, counts, take(counts, index), counts.rows)
    assert sides.reference is not None  # noqa: S101 - a profile has no segments
    if sides.by_hour:
        matched, reference = standardised(sides.current, unit, sides.reference, segment)
        return Units(window, segment, matched, reference, counts.rows)
    by_segment = regroup(sides.reference.counts, sides.reference.segment, sides.segments)
    return Units(window, segment, counts, take(by_segment, segment), counts.rows)


def shares_of(units: Units, name: str) -> Units:
    """Return units whose one column are the segments, given those side by side."""

    def counts_of(counts: Counts) -> Counts:
        shares = counts.columns[SHARES].counts
        missing = np.zeros((len(shares), 1))
        return replace(counts, columns={name: CellCounts(np.hstack([shares, missing]))})

    assert units.reference is not None  # noqa: S101 - a profile has no segments
    return replace(units, current=counts_of(units.current), reference=counts_of(units.reference))
