"""The heat map on a terminal: one sign a cell, in colour where there is colour.

    ·  stable                        ?  not enough rows
    ░  moved, below the threshold    (blank) no rows at all
    ▓  drift
    █  drift, significant by size

The signs alone say everything; colour repeats it. A row that is wider than the terminal
shows the worst of neighbouring windows in each place, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING

from pyflare_analysis.drift.report.heatmap import grouped, short_label
from pyflare_cli.text import clip, printable, width

if TYPE_CHECKING:
    from pyflare_analysis.drift.report.heatmap import Cell, HeatMap, HeatRow
    from pyflare_cli.output import Terminal

__all__ = ["headline", "heat_lines", "row_label"]

_SIGNS = {"none": "·", "moved": "░", "drift": "▓", "significant": "█", "insufficient": "?"}
_COLORS = {
    "none": "2",
    "moved": "33",
    "drift": "38;5;208",
    "significant": "31",
    "insufficient": "2",
}
_LEGEND = {
    "none": "stable",
    "moved": "moved, below the threshold",
    "drift": "drift",
    "significant": "drift of PSI 0.25 or more",
    "insufficient": "not enough rows",
}
_LONGEST_LABEL = 30
_TAIL_WIDTH = 34
_MOVERS = 5
_GAP = "   "


def row_label(row: HeatRow) -> str:
    """Return what a row is about; segments stand indented under their column."""
    return printable(f"  {row.label}" if row.segment else row.label)


def headline(heat: HeatMap) -> list[str]:
    """Return what was compared with what, and what came of it, in sentences."""
    figures = heat.figures()
    compared = "the window before" if heat.against == "previous" else heat.reference
    if heat.same_hour_of_week:
        compared += ", same hours of the week"
    columns = [row for row in heat.overall() if row.kind != "mix"]
    drifting = sum(row.verdict == "drift" for row in columns)
    unjudged = figures["cell_count"] - figures["judged_cells"]
    return [
        printable(
            f"{heat.source} against {compared}: {_several(len(columns), 'column')}, "
            f"{_several(len(heat.windows), 'window')} of {heat.every}"
        ),
        f"{heat.verdict.value}: {drifting} of {_several(len(columns), 'column')} drift, "
        f"in {figures['drift_cells']} of {figures['judged_cells']} cells judged"
        + (f"; {unjudged} without enough rows" if unjudged else ""),
    ]


def heat_lines(heat: HeatMap, terminal: Terminal) -> Iterator[str]:
    """Yield the picture line by line."""
    first, second = headline(heat)
    yield first
    yield _bold(second, terminal)
    yield ""
    rows = heat.shown()
    labels = max((width(row_label(row)) for row in rows), default=0)
    labels = min(labels, _LONGEST_LABEL, max(12, terminal.columns // 3))
    room = terminal.columns - labels - 2
    tail = room - _TAIL_WIDTH >= len(heat.windows)
    places = max(1, room - (_TAIL_WIDTH if tail else 0))
    size = max(1, math.ceil(len(heat.windows) / places))
    count = math.ceil(len(heat.windows) / size)
    step = max(1, min(3, places // max(count, 1)))
    yield from _axis(heat, labels, step, size, room)
    for row in rows:
        marks = [heat.mark(cell) for cell in grouped(row.cells, places)]
        cells = "".join(
            _colored(_sign(kind, step) * len(list(run)), kind, terminal)
            for kind, run in groupby(marks)
        )
        label = clip(row_label(row), labels)
        line = f"{label}{' ' * (labels - width(label))}  {cells}"
        yield (line + _tail(row)).rstrip() if tail else line.rstrip()
    yield ""
    if size > 1:
        yield f"each place is {size} windows, the worst of them shown"
    yield from _legend(heat, terminal)
    yield from _movers(heat, terminal)


def _sign(kind: str, step: int) -> str:
    if not kind:
        return " " * step
    # A filled cell fills its place, so that stretches of drift show as bars.
    filled = kind in {"moved", "drift", "significant"}
    return (_SIGNS[kind] * (max(1, step - 1) if filled else 1)).ljust(step)


def _tail(row: HeatRow) -> str:
    worst = row.worst
    if not worst.is_drift or worst.psi is None:
        return ""
    return f"  {worst.psi:5.2f}  {clip(printable(worst.moved or ''), _TAIL_WIDTH - 9)}"


def _axis(heat: HeatMap, labels: int, step: int, size: int, room: int) -> Iterator[str]:
    """Yield the labels of the windows, as many as fit, over where they start."""
    if not heat.windows:
        return
    length = heat.windows[0].end_ns - heat.windows[0].start_ns
    line = ""
    for place in range(math.ceil(len(heat.windows) / size)):
        label = short_label(heat.windows[place * size].start_ns, length, heat.timezone)
        fits = place * step + len(label) <= room
        if fits and (not line or len(line) + 2 <= place * step):
            line = line.ljust(place * step) + label
    yield f"{' ' * labels}  {line}"


def _legend(heat: HeatMap, terminal: Terminal) -> Iterator[str]:
    there = {heat.mark(cell) for cell in heat.cells()}
    parts = [
        (f"{_SIGNS[kind]} {text}", f"{_colored(_SIGNS[kind], kind, terminal)} {text}")
        for kind, text in _LEGEND.items()
        if kind in there
    ]
    rule = f"drift: q <= {heat.alpha:g} and PSI > {heat.threshold:g}"
    yield from _packed([*parts, (rule, rule)], terminal.columns)


def _packed(parts: Iterable[tuple[str, str]], limit: int, indent: str = "") -> Iterator[str]:
    """Yield lines that hold as many parts as fit; a part is its text, and as it is shown."""
    line, used = "", 0
    for text, shown in parts:
        size = width(text)
        if used and used + len(_GAP) + size > limit:
            yield line
            line, used = indent, len(indent)
        elif used:
            line, used = line + _GAP, used + len(_GAP)
        line, used = line + shown, used + size
    if used:
        yield line


def _movers(heat: HeatMap, terminal: Terminal) -> Iterator[str]:
    """Yield the largest drifts in words."""
    movers = heat.movers(_MOVERS)
    if not movers:
        return
    yield ""
    yield _bold("What moved most", terminal)
    length = heat.windows[0].end_ns - heat.windows[0].start_ns
    for row in movers:
        worst = row.worst
        name = f"{row.column}, {row.label}" if row.segment else row.column
        when = short_label(worst.window.start_ns, length, heat.timezone)
        parts = [
            f"  {printable(name)}: PSI {worst.psi or 0:.2f} (q {_small(worst.q_value)}) at {when}",
            printable(worst.moved or ""),
            f"{_several(row.drift_windows, 'window')} drift",
            _split(worst),
        ]
        yield from _packed(((part, part) for part in parts if part), terminal.columns, "    ")
    rest = len(heat.movers()) - len(movers)
    if rest:
        yield f"  and {rest} more: --format json has them all"


def _split(cell: Cell) -> str:
    if cell.mix is None or cell.within is None:
        return ""
    return f"mix {cell.mix:+.2f}, within {cell.within:+.2f}"


def _several(count: int, name: str) -> str:
    return f"{count} {name}{'' if count == 1 else 's'}"


def _small(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1g}" if value >= 1e-6 else "< 1e-6"


def _colored(text: str, kind: str, terminal: Terminal) -> str:
    colored = terminal.color and kind
    return f"\x1b[{_COLORS[kind]}m{text}\x1b[0m" if colored else text


def _bold(text: str, terminal: Terminal) -> str:
    return f"\x1b[1m{text}\x1b[0m" if terminal.color else text
