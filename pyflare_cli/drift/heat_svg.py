"""The heat map as SVG: one file, no fonts or scripts from elsewhere, light and dark.

Every cell has a `<title>` that says it in words, which browsers show on hover and screen
readers read. The signs differ in size and lightness as well as in hue; where cells are wide
enough they hold the PSI.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from pyflare_analysis.drift.report.heatmap import short_label
from pyflare_cli.drift.heat_text import headline, row_label
from pyflare_cli.text import clip, printable, width

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyflare_analysis.drift.report.heatmap import Cell, HeatMap, HeatRow

__all__ = ["cell_words", "heat_svg"]

_HEIGHT = 20
_LEFT = 16
_TOP = 78
_GRID = 760
_WIDEST = 44
_NARROWEST = 3
_NUMBER_FROM = 26
_LETTER = 6.6
_HEAD_LETTER = 8.4
_FONT = 'ui-sans-serif, system-ui, "Segoe UI", Helvetica, Arial, sans-serif'
_LIGHT = {
    "paper": "#ffffff",
    "ink": "#1f2328",
    "soft": "#59636e",
    "rule": "#d1d9e0",
    "none": "#e9edf1",
    "moved": "#f5cf5d",
    "drift": "#ec8a3c",
    "significant": "#b3261e",
    "on": "#ffffff",
}
_DARK = {
    "paper": "#0d1117",
    "ink": "#e6edf3",
    "soft": "#9198a1",
    "rule": "#3d444d",
    "none": "#21262d",
    "moved": "#7a6419",
    "drift": "#c2621b",
    "significant": "#ff7b72",
    "on": "#0d1117",
}
_SHAPES = """\
.heat { font-family: %s; font-size: 12px; }
.heat .head { font-size: 14px; font-weight: 600; }
.heat .part { font-style: italic; }
.heat .end { text-anchor: end; }
.heat .mid { text-anchor: middle; font-size: 10px; }
.heat .on { font-weight: 600; }
.heat .insufficient { fill: none; stroke-dasharray: 2 2; }
.heat .cell:hover rect { stroke-width: 1.5; }
"""
_COLORS = """\
.heat .paper { fill: %(paper)s; }
.heat text { fill: %(ink)s; }
.heat .soft, .heat .part { fill: %(soft)s; }
.heat .tick, .heat .insufficient { stroke: %(rule)s; }
.heat .none { fill: %(none)s; }
.heat .moved { fill: %(moved)s; }
.heat .drift { fill: %(drift)s; }
.heat .significant { fill: %(significant)s; }
.heat .on { fill: %(on)s; }
.heat .cell:hover rect { stroke: %(ink)s; }
"""
_LEGEND = (
    ("none", "stable"),
    ("moved", "moved, below the threshold"),
    ("drift", "drift"),
    ("significant", "drift of PSI 0.25 or more"),
    ("insufficient", "not enough rows"),
)
_INSET = {"none": 0.0, "moved": 0.25, "drift": 0.0, "significant": 0.0, "insufficient": 0.08}


def heat_svg(heat: HeatMap) -> str:
    """Return the picture as an SVG document."""
    rows = heat.shown()
    labels = max((min(width(row_label(row)), 34) for row in rows), default=0)
    grid_left = _LEFT + round(labels * _LETTER) + 10
    count = max(len(heat.windows), 1)
    step = max(_NARROWEST, min(_WIDEST, _GRID // count))
    bottom = _TOP + len(rows) * _HEIGHT
    first, second = headline(heat)
    legend = list(_legend(heat, bottom + 26))
    total = max(
        grid_left + step * count + 96,
        _LEFT + round(width(second) * _HEAD_LETTER) + _LEFT,
        _LEFT + round(width(first) * _LETTER) + _LEFT,
        _legend_width(heat),
    )
    size = f'width="{total}" height="{bottom + 48}" viewBox="0 0 {total} {bottom + 48}"'
    parts = [
        f'<svg class="heat" xmlns="http://www.w3.org/2000/svg" role="img" {size}',
        '  aria-labelledby="heat-title heat-desc">',
        f'<title id="heat-title">Drift: {escape(first)}</title>',
        f'<desc id="heat-desc">{escape(_description(heat))}</desc>',
        f"<style>{_style()}</style>",
        '<rect class="paper" width="100%" height="100%"/>',
        f'<text class="head" x="{_LEFT}" y="26">{escape(second)}</text>',
        f'<text class="soft" x="{_LEFT}" y="44">{escape(first)}</text>',
        *_axis(heat, grid_left, step, bottom),
    ]
    for number, row in enumerate(rows):
        parts += _row(heat, row, grid_left, _TOP + number * _HEIGHT, step)
    parts += [*legend, "</svg>"]
    return "\n".join(parts) + "\n"


def _style() -> str:
    """Return the style: plain rules, which viewers without variables know too."""
    dark = "".join(f"  {line}\n" for line in (_COLORS % _DARK).splitlines())
    query = f"@media (prefers-color-scheme: dark) {{\n{dark}}}\n"
    return f"\n{_SHAPES % _FONT}{_COLORS % _LIGHT}{query}"


def cell_words(heat: HeatMap, cell: Cell) -> str:
    """Return what a cell says, in words."""
    about = f"{cell.column}, {', '.join(f'{k} {v}' for k, v in cell.segment.items())}"
    about = about if cell.segment else cell.column
    length = cell.window.end_ns - cell.window.start_ns
    when = short_label(cell.window.start_ns, length, heat.timezone)
    counts = f"{cell.current_count:,} rows against {cell.reference_count:,}"
    if not cell.judged:
        return printable(f"{about}, {when}: cannot say, {cell.reason or counts}")
    parts = [f"PSI {cell.psi:.3f}" if cell.psi is not None else ""]
    parts.append("" if cell.q_value is None else f"q {cell.q_value:.2g}")
    parts.append(cell.verdict.value)
    parts.append(cell.moved if cell.is_drift and cell.moved else "")
    if cell.mix is not None and cell.within is not None:
        parts.append(f"mix {cell.mix:+.3f}, within {cell.within:+.3f}")
    parts.append(counts)
    return printable(f"{about}, {when}: {'; '.join(part for part in parts if part)}")


def _description(heat: HeatMap) -> str:
    """Return the picture in words, for those who do not see it."""
    movers = heat.movers(10)
    if not movers:
        return f"No column drifts. Verdict: {heat.verdict.value}."
    said = "; ".join(cell_words(heat, row.worst) for row in movers)
    return f"{len(heat.movers())} rows drift. The largest: {said}."


def _axis(heat: HeatMap, left: int, step: int, bottom: int) -> Iterator[str]:
    if not heat.windows:
        return
    length = heat.windows[0].end_ns - heat.windows[0].start_ns
    free = -1.0
    for number, window in enumerate(heat.windows):
        x = left + number * step
        if x < free:
            continue
        label = short_label(window.start_ns, length, heat.timezone)
        yield f'<line class="tick" x1="{x}" y1="{_TOP - 6}" x2="{x}" y2="{bottom}"/>'
        yield f'<text class="soft" x="{x}" y="{_TOP - 10}">{label}</text>'
        free = x + len(label) * _LETTER + 12


def _row(heat: HeatMap, row: HeatRow, left: int, top: int, step: int) -> Iterator[str]:
    label = clip(row_label(row).strip(), 34)
    base = top + _HEIGHT - 6
    kind = "end part" if row.segment else "end"
    yield f'<text class="{kind}" x="{left - 8}" y="{base}">{escape(label)}</text>'
    for number, cell in enumerate(row.cells):
        yield from _cell(heat, cell, left + number * step, top, step)
    worst = row.worst
    if worst.is_drift and worst.psi is not None:
        x = left + len(row.cells) * step + 10
        yield f'<text class="soft" x="{x}" y="{base}">max {worst.psi:.2f}</text>'


def _cell(heat: HeatMap, cell: Cell, x: int, y: int, step: int) -> Iterator[str]:
    kind = heat.mark(cell)
    if not kind:
        return
    gap = 1 if step > 4 else 0
    wide, high, round_ = step - gap, _HEIGHT - 2, 2 if step > 8 else 0
    yield f'<g class="cell"><title>{escape(cell_words(heat, cell))}</title>'
    if _INSET[kind] and kind != "insufficient":
        yield f'<rect class="none" x="{x}" y="{y}" width="{wide}" height="{high}" rx="{round_}"/>'
    inset = high * _INSET[kind]
    yield (
        f'<rect class="{kind}" x="{x}" y="{y + inset:g}" width="{wide}" '
        f'height="{high - 2 * inset:g}" rx="{round_}"/>'
    )
    if step >= _NUMBER_FROM and kind in {"drift", "significant", "moved"} and cell.psi is not None:
        shown = f"{cell.psi:.2f}".removeprefix("0")
        on = " on" if kind == "significant" else ""
        yield f'<text class="mid{on}" x="{x + wide / 2:g}" y="{y + 13}">{shown}</text>'
    yield "</g>"


def _legend_items(heat: HeatMap) -> list[tuple[str, str]]:
    there = {heat.mark(cell) for cell in heat.cells()}
    rule = f"drift: q <= {heat.alpha:g} and PSI > {heat.threshold:g}"
    return [*((kind, text) for kind, text in _LEGEND if kind in there), ("", rule)]


def _legend_width(heat: HeatMap) -> int:
    return _LEFT + sum(40 + round(len(text) * _LETTER) for _, text in _legend_items(heat))


def _legend(heat: HeatMap, y: int) -> Iterator[str]:
    x = _LEFT
    for kind, text in _legend_items(heat):
        inset = 12 * _INSET.get(kind, 0.0)
        if kind == "moved":
            yield f'<rect class="none" x="{x}" y="{y - 10}" width="12" height="12" rx="2"/>'
        if kind:
            yield (
                f'<rect class="{kind}" x="{x}" y="{y - 10 + inset:g}" width="12" '
                f'height="{12 - 2 * inset:g}" rx="2"/>'
            )
        yield f'<text class="soft" x="{x + (18 if kind else 0)}" y="{y}">{escape(text)}</text>'
        x += 40 + round(len(text) * _LETTER)
