"""The heat map: one verdict for each column, window of time and segment."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pyflare_analysis.drift.detector import Verdict

__all__ = [
    "Cell",
    "HeatMap",
    "HeatRow",
    "Part",
    "Segment",
    "Window",
    "grouped",
    "iso",
    "segment_label",
    "short_label",
    "worst_of",
]

Segment = Mapping[str, str | int | float | bool | None]
"""Value of each dimension; empty for all rows together."""

_RANK = {Verdict.INSUFFICIENT: 0, Verdict.STABLE: 1, Verdict.DRIFT: 2}


@dataclass(frozen=True, slots=True)
class Window:
    """A window of time."""

    start_ns: int
    """First moment, ns since 1970."""
    end_ns: int
    """First moment after it, ns since 1970."""
    rows: int
    """Rows that count, as they are stored."""

    def to_dict(self) -> dict[str, object]:
        """Return the window as it stands in JSON."""
        return {
            "window_start": iso(self.start_ns),
            "window_end": iso(self.end_ns),
            "rows": self.rows,
        }


@dataclass(frozen=True, slots=True)
class Part:
    """What one segment adds to a PSI."""

    segment: Segment
    mix: float
    """By the change of its share."""
    within: float
    """By the change inside it."""

    def to_dict(self) -> dict[str, object]:
        """Return the part as it stands in JSON."""
        return {"segment": dict(self.segment), "mix": self.mix, "within": self.within}


@dataclass(frozen=True, slots=True)
class Cell:
    """One verdict."""

    column: str
    """The column, or `mix(dimensions)`: the shares of the segments."""
    kind: str
    """`numeric`, `categorical`, or `mix`."""
    segment: Segment
    """Whose rows; empty: all."""
    window: Window
    psi: float | None
    """Of the counts with half a count added to each bin; null where there is none."""
    psi_corrected: float | None
    """What is left of it after what noise alone gives, 0 or more."""
    p_value: float | None
    """Probability of such a PSI under no change, (0, 1]; null where untested."""
    q_value: float | None
    """Adjusted over all cells of the map (Benjamini-Hochberg)."""
    severity: str
    """`none`, `moderate` or `significant`, by the size of the PSI."""
    verdict: Verdict
    reference_count: int
    current_count: int
    moved: str | None = None
    """The bin that contributes most, with its share before and after."""
    mix: float | None = None
    """Part of the PSI that a change of the segments' shares makes; null without segments."""
    within: float | None = None
    """Part of the PSI that changes inside the segments make."""
    parts: tuple[Part, ...] = ()
    """The segments that add most to the PSI, the largest first."""
    reason: str | None = None
    """Why there is no verdict."""

    @property
    def is_drift(self) -> bool:
        """Whether the verdict is drift."""
        return self.verdict is Verdict.DRIFT

    @property
    def judged(self) -> bool:
        """Whether there is a verdict."""
        return self.verdict is not Verdict.INSUFFICIENT

    def to_dict(self) -> dict[str, object]:
        """Return the cell as it stands in JSON."""
        return {
            "column": self.column,
            "kind": self.kind,
            "segment": dict(self.segment) or None,
            "window_start": iso(self.window.start_ns),
            "window_end": iso(self.window.end_ns),
            "psi": self.psi,
            "psi_corrected": self.psi_corrected,
            "p_value": self.p_value,
            "q_value": self.q_value,
            "severity": self.severity,
            "verdict": self.verdict.value,
            "reference_count": self.reference_count,
            "current_count": self.current_count,
            "moved": self.moved,
            "mix": self.mix,
            "within": self.within,
            "parts": [part.to_dict() for part in self.parts],
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class HeatRow:
    """The cells of one column and segment, over all windows in order."""

    column: str
    kind: str
    segment: Segment
    cells: tuple[Cell, ...]

    @property
    def worst(self) -> Cell:
        """The cell of the largest drift; without drift, of the largest PSI that was judged."""
        return max(self.cells, key=_size)

    @property
    def verdict(self) -> Verdict:
        """Drift when any window drifts; insufficient when none could be judged."""
        return self.worst.verdict

    @property
    def drift_windows(self) -> int:
        """Windows that drift."""
        return sum(cell.is_drift for cell in self.cells)

    @property
    def label(self) -> str:
        """What the row is about, for people."""
        return segment_label(self.segment) if self.segment else self.column

    def to_dict(self) -> dict[str, object]:
        """Return the summary of the row as it stands in JSON."""
        worst = self.worst
        return {
            "column": self.column,
            "kind": self.kind,
            "segment": dict(self.segment) or None,
            "verdict": self.verdict.value,
            "drift_windows": self.drift_windows,
            "judged_windows": sum(cell.judged for cell in self.cells),
            "psi": worst.psi,
            "q_value": worst.q_value,
            "severity": worst.severity,
            "window_start": iso(worst.window.start_ns),
            "moved": worst.moved,
            "mix": worst.mix,
            "within": worst.within,
        }


@dataclass(frozen=True, slots=True)
class HeatMap:
    """The answer of `report`: every suitable column over time."""

    source: str
    """URL of what was judged."""
    reference: str
    """URL of what it was compared with, or what stands for it."""
    against: str
    """`reference`, or `previous`: the window before."""
    every: str
    timezone: str
    same_hour_of_week: bool
    by: tuple[str, ...]
    """Dimensions of the segments."""
    alpha: float
    """False discovery rate that is allowed over all cells."""
    threshold: float
    """PSI that drift must exceed."""
    weighted: bool
    """Whether rows count 1/sampling_probability times."""
    windows: tuple[Window, ...]
    rows: tuple[HeatRow, ...]
    """Columns in order, each for all rows and then by segment."""
    passed: tuple[tuple[str, str], ...] = field(default=())
    """Columns that were not looked at, with the reason."""

    def cells(self) -> Iterator[Cell]:
        """Yield every cell, row by row."""
        for row in self.rows:
            yield from row.cells

    @property
    def verdict(self) -> Verdict:
        """Drift when any cell drifts; insufficient when none could be judged."""
        ranks = [row.verdict for row in self.rows]
        return max(ranks, key=_RANK.__getitem__, default=Verdict.INSUFFICIENT)

    def mark(self, cell: Cell | None) -> str:
        """Return how a picture shows a cell.

        Returns:
            `significant` or `drift`; `moved`: a change that is no chance and has not reached
            the threshold; `none`; `insufficient`; or nothing where there are no rows.
        """
        if cell is None or not (cell.judged or cell.current_count):
            return ""
        if not cell.judged:
            return "insufficient"
        if cell.is_drift:
            return "significant" if cell.severity == "significant" else "drift"
        chance = cell.q_value is None or cell.q_value > self.alpha
        return "none" if chance or cell.severity == "none" else "moved"

    def overall(self) -> tuple[HeatRow, ...]:
        """Return the rows of all segments together."""
        return tuple(row for row in self.rows if not row.segment)

    def movers(self, limit: int | None = None) -> tuple[HeatRow, ...]:
        """Return the rows that drift, the largest first by what noise does not explain."""
        drifting = [row for row in self.rows if row.verdict is Verdict.DRIFT]
        return tuple(sorted(drifting, key=lambda row: _size(row.worst), reverse=True)[:limit])

    def shown(self) -> tuple[HeatRow, ...]:
        """Return the rows of a picture: all columns, and the segments of each that drift."""
        return tuple(row for row in self.rows if not row.segment or row.verdict is Verdict.DRIFT)

    def to_dict(self) -> dict[str, object]:
        """Return the answer as it stands in JSON."""
        return {
            "source": self.source,
            "reference": self.reference,
            "against": self.against,
            "every": self.every,
            "timezone": self.timezone,
            "same_hour_of_week": self.same_hour_of_week,
            "by": list(self.by),
            "alpha": self.alpha,
            "threshold": self.threshold,
            "weighted": self.weighted,
            "verdict": self.verdict.value,
            **self.figures(),
            "windows": [window.to_dict() for window in self.windows],
            "columns": [row.to_dict() for row in self.rows],
            "movers": [row.to_dict() for row in self.movers(10)],
            "cells": [cell.to_dict() for cell in self.cells()],
            "passed_columns": [
                {"column": column, "reason": reason} for column, reason in self.passed
            ],
        }

    def figures(self) -> dict[str, int]:
        """Return how many cells there are, were judged, and drift."""
        cells = list(self.cells())
        return {
            "cell_count": len(cells),
            "judged_cells": sum(cell.judged for cell in cells),
            "drift_cells": sum(cell.is_drift for cell in cells),
        }


def _size(cell: Cell) -> tuple[int, float, float]:
    return (_RANK[cell.verdict], cell.psi_corrected or 0.0, cell.psi or 0.0)


def iso(time_ns: int) -> str:
    """Return a time as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def segment_label(segment: Segment) -> str:
    """Return a segment in words: its values, joined."""
    return " · ".join("(none)" if value is None else str(value) for value in segment.values())


def short_label(time_ns: int, every_ns: int, zone: str = "UTC") -> str:
    """Return a window's start as short as its length allows: `11-24`, `11-24 06h`, `06:30`."""
    from zoneinfo import ZoneInfo

    moment = datetime.fromtimestamp(time_ns // 1_000_000_000, ZoneInfo(zone))
    if every_ns >= 23 * 3_600_000_000_000:
        return f"{moment:%m-%d}"
    return f"{moment:%m-%d %Hh}" if every_ns >= 3_600_000_000_000 else f"{moment:%H:%M}"


def worst_of(cells: Iterable[Cell | None]) -> Cell | None:
    """Return the cell that a picture shows where several share a place; None for no rows."""
    there = [cell for cell in cells if cell is not None and (cell.judged or cell.current_count)]
    return max(there, key=_size, default=None)


def grouped(cells: Sequence[Cell], places: int) -> list[Cell | None]:
    """Return one cell for each of at most `places` places: the worst of neighbours.

    Args:
        cells: of one row.
        places: 1 or more.
    """
    size = max(1, math.ceil(len(cells) / places))
    return [worst_of(cells[i : i + size]) for i in range(0, len(cells), size)]
