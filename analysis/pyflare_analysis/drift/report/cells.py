"""Cells of the heat map, made of judged columns: what moved, and what of it is mix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyflare_analysis.drift.detector import Verdict
from pyflare_analysis.drift.profiles.columns import Feature
from pyflare_analysis.drift.profiles.profile import ColumnProfile, Profile
from pyflare_analysis.drift.profiles.sketch import Points
from pyflare_analysis.drift.report.heatmap import Cell, Part, Window, segment_label
from pyflare_analysis.drift.report.segments import Split, split_psi

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyflare_analysis.drift.psi.columns import PSIColumn
    from pyflare_analysis.drift.report.heatmap import Segment
    from pyflare_analysis.drift.report.strata import Floats

__all__ = ["cell_of", "empty_cell", "mix_name", "mix_profile", "moved", "split_of"]

_MOST_PARTS = 5


def mix_name(by: Sequence[str]) -> str:
    """Return what the column of the segments themselves is called."""
    return f"mix({','.join(by)})"


def mix_profile(profile: Profile, by: Sequence[str], labels: Sequence[Segment]) -> Profile:
    """Return a profile of one column, the segments; their counts come with the windows."""
    name = mix_name(by)
    nothing = np.empty(0)
    column = ColumnProfile(
        feature=Feature(name, "categorical", name),
        counts=np.zeros(len(labels) + 2),
        edges=nothing,
        points=Points(nothing, nothing),
        categories=tuple(segment_label(label) for label in labels),
    )
    return Profile(
        {name: column},
        profile.rows,
        profile.weight,
        profile.weight_squared,
        profile.num_bins,
        profile.min_samples_per_bin,
        profile.weighted,
        profile.source,
    )


def empty_cell(
    column: PSIColumn, segment: Segment, window: Window, reason: str, rows: tuple[int, int]
) -> Cell:
    """Return the cell of a window that cannot be compared.

    Args:
        column: the column.
        segment: whose rows.
        window: when.
        reason: why not.
        rows: of the reference and of the window.
    """
    return Cell(
        column=column.name,
        kind=_kind(column),
        segment=segment,
        window=window,
        psi=None,
        psi_corrected=None,
        p_value=None,
        q_value=None,
        severity="none",
        verdict=Verdict.INSUFFICIENT,
        reference_count=rows[0],
        current_count=rows[1],
        reason=reason,
    )


def cell_of(
    column: PSIColumn,
    unit: int,
    *,
    segment: Segment,
    window: Window,
    rows: tuple[int, int],
    split: tuple[Split, Sequence[Segment]] | None = None,
) -> Cell:
    """Return the cell of a judged unit.

    Args:
        column: the judged column.
        unit: number of the unit in it.
        segment: whose rows.
        window: when.
        rows: of the reference and of the window.
        split: the PSI by segments, with their labels.
    """
    return Cell(
        column=column.name,
        kind=_kind(column),
        segment=segment,
        window=window,
        psi=_finite(column.psi_smoothed[unit]),
        psi_corrected=_finite(column.psi_corrected[unit]),
        p_value=_finite(column.p_value[unit]),
        q_value=_finite(column.q_value[unit]),
        severity=column.severity[unit],
        verdict=column.verdict[unit],
        reference_count=rows[0],
        current_count=rows[1],
        moved=moved(column, unit) if column.severity[unit] != "none" else None,
        mix=float(split[0].mix.sum()) if split else None,
        within=float(split[0].within.sum()) if split else None,
        parts=_parts(*split) if split else (),
        reason=column.reason[unit],
    )


def moved(column: PSIColumn, unit: int) -> str:
    """Return the bin that contributes most, with its share before and after, in words."""
    cell = int(np.argmax(column.contribution_smoothed[unit]))
    shares = []
    for counts in (column.reference[unit], column.current[unit]):
        total = float(counts.sum())
        shares.append(float(counts[cell]) / total if total else 0.0)
    return f"{_words(column.labels[cell])}: {_percent(shares[0])} → {_percent(shares[1])}"


def split_of(
    column: PSIColumn, unit: int, reference: Floats, current: Floats, scale: tuple[float, float]
) -> Split:
    """Return the PSI of a unit split by segments.

    Args:
        column: the judged column.
        unit: number of the unit in it.
        reference: (S, B) weighted counts by segment and cell.
        current: (S, B) likewise.
        scale: effective rows for each weighted row, of the reference and of the window.
    """
    left = column.reference[unit] + column.current[unit] > 0
    rare = (reference + current).sum(axis=0) > 0
    sides = []
    for counts, factor in zip((reference, current), scale, strict=True):
        side = np.where(left, counts, 0.0)
        if len(left) > 1 and column.kind == "categorical":
            side[:, -2] += counts[:, rare & ~left].sum(axis=1)
        sides.append(side[:, left] * factor)
    return split_psi(sides[0], sides[1])


def _kind(column: PSIColumn) -> str:
    return "mix" if column.name.startswith("mix(") else column.kind


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _parts(split: Split, labels: Sequence[Segment]) -> tuple[Part, ...]:
    """Return the segments that add most, the largest first."""
    order = np.argsort(-np.abs(split.mix + split.within))[:_MOST_PARTS]
    return tuple(Part(labels[i], float(split.mix[i]), float(split.within[i])) for i in order)


def _words(label: Mapping[str, object]) -> str:
    """Return what a bin holds: `1,200 or more`, `gpt-4o`, `new: o3`, `no value`."""
    kind = label["bin"]
    if kind in {"missing", "other"}:
        return {"missing": "no value", "other": "other categories"}[str(kind)]
    if kind in {"category", "new_category"}:
        text = str(label["category"])
        text = text if len(text) <= 60 else f"{text[:59]}…"
        return f"new: {text}" if kind == "new_category" else text or "(empty)"
    low, high = label["low"], label["high"]
    if kind == "value":
        return _number(low)
    if low is None and high is None:
        return "any value"
    above = "above" if label.get("low_open") else "from"
    if low is None:
        return f"below {_number(high)}"
    return f"{above} {_number(low)}" + ("" if high is None else f" to {_number(high)}")


def _number(value: object) -> str:
    number = float(str(value))
    return f"{number:,.0f}" if 1000 <= abs(number) < 1e15 else f"{number:.4g}"


def _percent(share: float) -> str:
    percent = 100 * share
    return f"{percent:.0f} %" if percent >= 10 or percent == 0 else f"{percent:.1f} %"
