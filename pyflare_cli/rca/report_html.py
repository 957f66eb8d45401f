"""The root cause report as one HTML file.

Nothing is loaded from elsewhere and nothing runs: it can be mailed, kept, and opened
without a network. Colours follow the reader's light or dark setting.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

from pyflare_cli.rca.report_page import Chart, Paragraph, Steps, Table
from pyflare_cli.text import printable

if TYPE_CHECKING:
    from pyflare_cli.rca.report_page import Block, Page, Series, Step

__all__ = ["html_page"]

_STYLE = """\
:root { color-scheme: light dark; --ink: #1f2328; --soft: #59636e; --rule: #d1d9e0;
  --paper: #ffffff; --card: #f6f8fa; --line: #0969da; --bad: #cf222e; --warn: #9a6700;
  --good: #1a7f37; --shade: rgba(207, 34, 46, .14); }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9198a1; --rule: #3d444d;
  --paper: #0d1117; --card: #151b23; --line: #4493f8; --bad: #f85149; --warn: #d29922;
  --good: #3fb950; --shade: rgba(248, 81, 73, .2); } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 2rem 1.25rem 4rem; color: var(--ink);
  background: var(--paper);
  font: 15px/1.5 ui-sans-serif, system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
header { border-left: 5px solid var(--soft); padding: .2rem 0 .2rem 1rem; }
header.trouble { border-color: var(--bad); } header.quiet { border-color: var(--good); }
header.partial { border-color: var(--warn); }
header p { margin: 0; color: var(--soft); font-size: 13px; }
h1 { font-size: 1.35rem; line-height: 1.35; margin: .2rem 0 .5rem; }
h2 { font-size: 1.05rem; margin: 2rem 0 .6rem; padding-bottom: .3rem;
  border-bottom: 1px solid var(--rule); }
.facts { display: flex; flex-wrap: wrap; gap: .3rem 1.6rem; margin: 0; }
.facts div { display: flex; gap: .4rem; } .facts dt { color: var(--soft); } .facts dd { margin: 0; }
p { margin: .5rem 0; }
.finding { display: flex; gap: .7rem; align-items: baseline; font-weight: 600; }
.level { flex: none; font-size: 11px; font-weight: 600; padding: .05rem .5rem; border-radius: 1rem;
  border: 1px solid currentColor; color: var(--soft); }
.level.high, .level.critical { color: var(--bad); } .level.medium { color: var(--warn); }
.wide { overflow-x: auto; margin: .5rem 0; }
table { border-collapse: collapse; font-size: 13px; width: 100%; }
th { font-weight: 600; color: var(--soft); white-space: nowrap; }
th, td { padding: .35rem .9rem .35rem 0; text-align: left; border-bottom: 1px solid var(--rule);
  vertical-align: top; overflow-wrap: anywhere; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.t { white-space: nowrap; }
td:first-child:not(.n) { min-width: 12rem; }
td.says { min-width: 16rem; max-width: 30rem; }
code { font: 12.5px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
ol { padding-left: 1.4rem; } li { margin: .6rem 0; } li p { margin: .1rem 0; }
li p.why { color: var(--soft); font-size: 13px; }
pre { margin: .3rem 0; padding: .45rem .7rem; background: var(--card); border-radius: 6px;
  overflow-x: auto; }
@media (max-width: 40rem) { body { padding: 1rem .8rem 3rem; } .chart .range { display: none; }
  .chart { grid-template-columns: max-content 1fr !important; } }
.chart { display: grid; grid-template-columns: max-content 1fr max-content; gap: .2rem .9rem;
  align-items: center; font-size: 13px; }
.chart .name, .chart .range { color: var(--soft); } .chart .range { font-size: 12px; }
.chart svg { width: 100%; height: 46px; display: block; }
.axis { display: flex; justify-content: space-between; color: var(--soft); font-size: 12px;
  white-space: nowrap; }
footer { margin-top: 3rem; color: var(--soft); font-size: 12px; }
@media print { body { max-width: none; } pre, tr { break-inside: avoid; } }
"""
_WIDTH, _HEIGHT = 600, 46


def html_page(page: Page) -> str:
    """Return the page as an HTML document."""
    facts = "".join(
        f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in page.facts
    )
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_text(page.headline)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
        f'<header class="{_text(page.verdict)}"><p>{_text(page.title)}</p>',
        f"<h1>{_text(page.headline)}</h1>",
        f'<dl class="facts">{facts}</dl></header>',
    ]
    for section in page.sections:
        parts.append(f"<section>\n<h2>{_text(section.title)}</h2>")
        for block in section.blocks:
            parts += _block(block)
        parts.append("</section>")
    parts.append("<footer>Made by pyflare rca report. All times are UTC.</footer>")
    parts.append("</body>\n</html>")
    return "\n".join(parts) + "\n"


def _block(block: Block) -> Iterator[str]:
    match block:
        case Paragraph(text, ""):
            yield f"<p>{_text(text)}</p>"
        case Paragraph(text, level):
            mark = f'<span class="level {_text(level)}">{_text(level)}</span>'
            yield f'<p class="finding">{mark}<span>{_text(text)}</span></p>'
        case Table():
            yield from _table(block)
        case Steps(steps):
            yield "<ol>"
            for step in steps:
                yield from _step(step)
            yield "</ol>"
        case Chart():
            yield from _chart(block)


def _table(table: Table) -> Iterator[str]:
    def line(cells: Sequence[str], tag: str) -> str:
        shown = []
        for place, text in enumerate(cells):
            kind = _cell_class(table, place, text, tag)
            body = f"<code>{_text(text)}</code>" if kind == "says" else _text(text)
            shown.append(f"<{tag}{f' class={kind}' if kind else ''}>{body}</{tag}>")
        return f"<tr>{''.join(shown)}</tr>"

    yield f'<div class="wide"><table>\n<thead>{line(table.heads, "th")}</thead>\n<tbody>'
    for cells in table.rows:
        yield line(cells, "td")
    yield "</tbody></table></div>"


def _cell_class(table: Table, place: int, text: str, tag: str) -> str:
    if place in table.numbers:
        return "n"
    if tag == "td" and table.heads[place] == "says":
        return "says"
    short = len(text) <= 24 or (len(text) == 32 and " " not in text)
    return "t" if tag == "td" and short else ""


def _step(step: Step) -> Iterator[str]:
    yield f"<li><p>{_text(step.text)}</p>"
    if step.command is not None:
        yield f"<pre><code>{_text(step.command)}</code></pre>"
    yield f'<p class="why">{_text(step.because)}</p></li>'


def _chart(chart: Chart) -> Iterator[str]:
    yield '<div class="chart">'
    for series in chart.series:
        yield f'<span class="name">{_text(series.name)}</span>'
        yield _svg(series, chart)
        yield f'<span class="range">{_text(series.low)} to {_text(series.high)}</span>'
    if chart.times:
        yield (
            f'<span></span><span class="axis"><span>{_text(chart.times[0])}</span>'
            f"<span>{_text(chart.times[-1])}</span></span>"
            f'<span class="range">every {_text(chart.every)}</span>'
        )
    yield "</div>"


def _svg(series: Series, chart: Chart) -> str:
    """Return one line over time; shaded where something changed."""
    known = [value for value in series.values if value is not None]
    low, high = min(known), max(known)
    scale = (_HEIGHT - 8) / (high - low) if high > low else 0.0
    step = _WIDTH / max(1, len(series.values))
    shades = "".join(
        f'<rect x="{start * _WIDTH:.1f}" y="0" width="{max(2.0, (end - start) * _WIDTH):.1f}" '
        f'height="{_HEIGHT}" fill="var(--shade)"/>'
        for start, end in chart.windows
    )
    shades += "".join(
        f'<line x1="{start * _WIDTH:.1f}" y1="0" x2="{start * _WIDTH:.1f}" y2="{_HEIGHT}" '
        'stroke="var(--bad)" stroke-dasharray="3 3" vector-effect="non-scaling-stroke"/>'
        for start in chart.starts
    )
    lines = []
    for run in _runs(series.values):
        points = " ".join(
            f"{(place + 0.5) * step:.1f},{_HEIGHT - 4 - (value - low) * scale:.1f}"
            for place, value in run
        )
        if len(run) == 1:
            x, _, y = points.partition(",")
            lines.append(f'<circle cx="{x}" cy="{y}" r="1.5" fill="var(--line)"/>')
        else:
            lines.append(
                f'<polyline points="{points}" fill="none" stroke="var(--line)" '
                'stroke-width="1.5" vector-effect="non-scaling-stroke"/>'
            )
    label = f"{series.name}: {series.low} to {series.high}"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{_text(label)}">{shades}{"".join(lines)}</svg>'
    )


def _runs(values: Sequence[float | None]) -> Iterator[list[tuple[int, float]]]:
    """Yield the stretches without gaps."""
    run: list[tuple[int, float]] = []
    for place, value in enumerate(values):
        if value is not None:
            run.append((place, value))
        elif run:
            yield run
            run = []
    if run:
        yield run


def _text(text: str) -> str:
    return escape(printable(text))
