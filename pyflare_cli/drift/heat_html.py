"""The report as one HTML file: the heat map, what moved most, every cell that drifts.

Nothing is loaded from elsewhere and nothing runs: it can be mailed, kept, and opened
without a network.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from pyflare_analysis.drift.report.heatmap import iso, segment_label
from pyflare_cli.drift.heat_svg import heat_svg
from pyflare_cli.drift.heat_text import headline
from pyflare_cli.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pyflare_analysis.drift.report.heatmap import Cell, HeatMap, HeatRow

__all__ = ["heat_html"]

_MOST_CELLS = 1000
_STYLE = """\
:root { color-scheme: light dark; --ink: #1f2328; --soft: #59636e; --rule: #d1d9e0;
  --paper: #ffffff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9198a1; --rule: #3d444d;
  --paper: #0d1117; } }
body { margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: var(--ink);
  background: var(--paper);
  font: 15px/1.5 ui-sans-serif, system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
p, dt { color: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; }
th, td { padding: .3rem .8rem .3rem 0; text-align: left; border-bottom: 1px solid var(--rule);
  vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
dl { display: grid; grid-template-columns: max-content auto; gap: .1rem 1rem; font-size: 13px; }
dd { margin: 0; }
"""


def heat_html(heat: HeatMap) -> str:
    """Return the report as an HTML document."""
    _, second = headline(heat)
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(second)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
        "<h1>Drift report</h1>",
        f'<div class="wide">\n{heat_svg(heat)}</div>',
        *_movers(heat),
        *_cells(heat),
        *_facts(heat),
        "</body>\n</html>",
    ]
    return "\n".join(parts) + "\n"


def _movers(heat: HeatMap) -> Iterator[str]:
    movers = heat.movers()
    if not movers:
        return
    yield "<h2>What moved most</h2>"
    heads = ["column", "segment", "windows", "PSI", "q", "at", "moved"]
    yield from _table(
        [*heads, *(["mix", "within"] if heat.by else [])],
        (_mover(heat, row) for row in movers[:_MOST_CELLS]),
        numbers={2, 3, 4, 7, 8},
    )


def _mover(heat: HeatMap, row: HeatRow) -> list[str]:
    worst = row.worst
    cells = [
        row.column,
        segment_label(row.segment) if row.segment else "all",
        str(row.drift_windows),
        _number(worst.psi),
        _small(worst.q_value),
        iso(worst.window.start_ns),
        worst.moved or "",
    ]
    return [*cells, *([_number(worst.mix), _number(worst.within)] if heat.by else [])]


def _cells(heat: HeatMap) -> Iterator[str]:
    drifting: list[Cell] = [cell for cell in heat.cells() if cell.is_drift]
    if not drifting:
        return
    yield f"<h2>All {len(drifting):,} cells that drift</h2>"
    if len(drifting) > _MOST_CELLS:
        yield f"<p>The first {_MOST_CELLS:,}; the JSON has all.</p>"
    yield from _table(
        ["window", "column", "segment", "PSI", "q", "rows", "reference", "moved"],
        (
            [
                iso(cell.window.start_ns),
                cell.column,
                segment_label(cell.segment) if cell.segment else "all",
                _number(cell.psi),
                _small(cell.q_value),
                f"{cell.current_count:,}",
                f"{cell.reference_count:,}",
                cell.moved or "",
            ]
            for cell in drifting[:_MOST_CELLS]
        ),
        numbers={3, 4, 5, 6},
    )


def _facts(heat: HeatMap) -> Iterator[str]:
    """Yield what was asked, and what was not looked at."""
    figures = heat.figures()
    facts = {
        "current": heat.source,
        "reference": heat.reference,
        "windows": f"{len(heat.windows)} of {heat.every}, {heat.timezone}"
        + (", same hours of the week" if heat.same_hour_of_week else ""),
        "segments": ", ".join(heat.by) or "none",
        "drift means": f"q ≤ {heat.alpha:g} (Benjamini-Hochberg over {figures['judged_cells']:,} "
        f"cells) and PSI > {heat.threshold:g}, with half a count added to each bin",
        "rows count": "1/sampling_probability times" if heat.weighted else "once each",
    }
    yield "<h2>How it was judged</h2>\n<dl>"
    for name, text in facts.items():
        yield f"<dt>{escape(name)}</dt><dd>{escape(printable(text))}</dd>"
    for column, reason in heat.passed:
        yield f"<dt>not looked at</dt><dd>{escape(printable(f'{column}: {reason}'))}</dd>"
    yield "</dl>"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: set[int]) -> Iterator[str]:
    def line(cells: Sequence[str], tag: str) -> str:
        shown = (
            f"<{tag}{' class=n' if place in numbers else ''}>{escape(printable(text))}</{tag}>"
            for place, text in enumerate(cells)
        )
        return f"<tr>{''.join(shown)}</tr>"

    yield f'<div class="wide"><table>\n<thead>{line(heads, "th")}</thead>\n<tbody>'
    for cells in rows:
        yield line(cells, "td")
    yield "</tbody></table></div>"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _small(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"
