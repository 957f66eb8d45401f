"""The root cause report on a terminal and in Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pyflare_cli.rca.report_page import Chart, Paragraph, Steps, Table
from pyflare_cli.tables import Column, markdown_table, text_table
from pyflare_cli.text import printable, width

if TYPE_CHECKING:
    from pyflare_cli.output import Terminal
    from pyflare_cli.rca.report_page import Block, Page, Step

__all__ = ["markdown_page", "text_page"]

BOLD, DIM, RED, YELLOW, RESET = "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[33m", "\x1b[0m"
_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 100
_CHART = 64
_MARKS = {"low": "·", "medium": "•", "high": "!", "critical": "‼"}


def text_page(page: Page, terminal: Terminal) -> Iterator[str]:
    """Yield the lines of the page for a terminal, or for a pipe."""
    size = min(_WIDTH, terminal.columns) if terminal.is_tty else _WIDTH

    def styled(text: str, style: str) -> str:
        return f"{style}{text}{RESET}" if terminal.color else text

    colour = RED if page.verdict == "trouble" else ""
    for line in _wrapped(page.headline, size):
        yield styled(line, BOLD + colour)
    yield styled("   ".join(f"{name} {value}" for name, value in page.facts), DIM)
    for section in page.sections:
        yield ""
        yield styled(section.title, BOLD)
        for block in section.blocks:
            yield from _text_block(block, terminal, size)


def _text_block(block: Block, terminal: Terminal, size: int) -> Iterator[str]:
    match block:
        case Paragraph(text, level):
            mark = f"{_MARKS[level]} " if level else "  "
            first, *rest = _wrapped(text, size - 2) or [""]
            if terminal.color and level in ("high", "critical"):
                yield f"{RED}{mark}{RESET}{first}"
            else:
                yield f"{mark}{first}"
            yield from (f"  {line}" for line in rest)
        case Table(heads, rows, numbers):
            limit = terminal.columns - 2 if terminal.is_tty else None
            text = _table(heads, rows, numbers, limit=limit, color=terminal.color)
            yield from (f"  {line}" for line in text.splitlines())
        case Steps(steps):
            for number, step in enumerate(steps, 1):
                yield from _text_step(number, step, terminal, size)
        case Chart():
            yield from _text_chart(block, terminal)


def _text_step(number: int, step: Step, terminal: Terminal, size: int) -> Iterator[str]:
    first, *rest = _wrapped(step.text, size - 5) or [""]
    yield f"{number:>3}. {first}"
    yield from (f"     {line}" for line in rest)
    if step.command is not None:
        # One line whatever the width: it is there to be copied.
        yield f"     $ {printable(step.command)}"
    because = _wrapped(f"because: {step.because}", size - 5)
    yield from (
        f"     {DIM}{line}{RESET}" if terminal.color else f"     {line}" for line in because
    )


def _text_chart(chart: Chart, terminal: Terminal) -> Iterator[str]:
    names = max((width(series.name) for series in chart.series), default=0)
    columns = min(_CHART, len(chart.times)) or 1
    for series in chart.series:
        values = _squeezed(series.values, columns)
        known = [value for value in values if value is not None]
        low, high = min(known), max(known)
        line = "".join(_bar(value, low, high) for value in values)
        yield f"  {series.name:<{names}}  {line}  {series.low} to {series.high}"
    if chart.windows:
        marks = [" "] * columns
        for start, end in chart.windows:
            for place in range(
                int(start * columns), max(int(start * columns) + 1, round(end * columns))
            ):
                if place < columns:
                    marks[place] = "^"
        line = "".join(marks).rstrip()
        shown = f"{RED}{line}{RESET}" if terminal.color else line
        yield f"  {'changes':<{names}}  {shown}"
    if chart.times:
        first, last = chart.times[0], chart.times[-1]
        gap = max(1, columns - len(first) - len(last))
        yield f"  {'':<{names}}  {first}{' ' * gap}{last}  every {chart.every}, UTC"


def _squeezed(values: Sequence[float | None], columns: int) -> list[float | None]:
    """Return the largest value of each column of the chart."""
    result: list[float | None] = []
    for place in range(columns):
        first = place * len(values) // columns
        last = max(first + 1, (place + 1) * len(values) // columns)
        known = [value for value in values[first:last] if value is not None]
        result.append(max(known) if known else None)
    return result


def _bar(value: float | None, low: float, high: float) -> str:
    if value is None:
        return " "
    share = (value - low) / (high - low) if high > low else 0.0
    return _BARS[min(len(_BARS) - 1, int(share * len(_BARS)))]


def markdown_page(page: Page) -> str:
    """Return the page as Markdown."""
    return "\n".join(_markdown_lines(page)) + "\n"


def _markdown_lines(page: Page) -> Iterator[str]:
    yield f"# {page.title}"
    yield ""
    yield f"**{_escaped(page.headline)}**"
    yield ""
    yield " · ".join(f"{name}: {_escaped(value)}" for name, value in page.facts)
    for section in page.sections:
        yield ""
        yield f"## {section.title}"
        for block in section.blocks:
            yield ""
            yield from _markdown_block(block)


def _markdown_block(block: Block) -> Iterator[str]:
    match block:
        case Paragraph(text, level):
            yield f"- **{level}**: {_escaped(text)}" if level else _escaped(text)
        case Table(heads, rows, numbers):
            columns, dicts = _columns(heads, rows, numbers)
            yield markdown_table(columns, dicts).rstrip()
        case Steps(steps):
            for number, step in enumerate(steps, 1):
                command = "" if step.command is None else f": `{printable(step.command)}`"
                yield f"{number}. {_escaped(step.text)}{command}  "
                yield f"   *{_escaped(step.because)}*"
        case Chart():
            yield "```text"
            from pyflare_cli.output import Terminal

            plain = Terminal(is_tty=False, columns=_WIDTH, color=False)
            yield from (line[2:] for line in _text_chart(block, plain))
            yield "```"


def _table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    numbers: frozenset[int],
    *,
    limit: int | None,
    color: bool,
) -> str:
    columns, dicts = _columns(heads, rows, numbers)
    return text_table(columns, dicts, limit=limit, color=color)


def _columns(
    heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: frozenset[int]
) -> tuple[list[Column], list[dict[str, object]]]:
    """Return columns and rows as the tables of other commands have them."""
    columns = [
        Column(f"c{place}", head, cut=place not in numbers) for place, head in enumerate(heads)
    ]
    return columns, [{f"c{place}": cell for place, cell in enumerate(row)} for row in rows]


def _wrapped(text: str, size: int) -> list[str]:
    return textwrap.wrap(printable(text), max(20, size), break_on_hyphens=False)


def _escaped(text: str) -> str:
    text = printable(text)
    for character in "\\`*_|<>[]":
        text = text.replace(character, "\\" + character)
    return text
