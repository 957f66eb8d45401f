"""Tables as text and as Markdown.

The layout is the same on a terminal and in a pipe; only on a terminal are wide
columns cut to fit. Cells come from outside, so control characters in them are
always shown as escapes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from pyflare_cli.text import clip, printable, width

__all__ = ["Column", "markdown_table", "text_table"]

GAP = "  "
SMALLEST_CUT = 8
EMPTY = "-"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    key: str
    """Key of the row."""
    title: str = ""
    """Heading; the key with spaces when empty."""
    show: Callable[[object], str] | None = None
    """Text of a value; numbers, text and JSON by default."""
    cut: bool = True
    """Whether the column may be cut when the terminal is too narrow."""

    @property
    def heading(self) -> str:
        """The heading."""
        return self.title or self.key.replace("_", " ")

    def text(self, value: object) -> str:
        """Return a cell's text on one line."""
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            return EMPTY
        return printable(_default_text(value) if self.show is None else self.show(value))


def _default_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def text_table(
    columns: Sequence[Column],
    rows: Sequence[Mapping[str, object]],
    footer: Sequence[Mapping[str, object]] = (),
    *,
    limit: int | None = None,
    color: bool = False,
) -> str:
    """Return a table of aligned columns, numbers to the right.

    Args:
        columns: what to show.
        rows: one mapping a row.
        footer: rows below a second rule.
        limit: columns of the terminal; None: nothing is cut.
        color: whether headings may be bold.
    """
    if not rows and not footer:
        return "(no rows)\n"
    cells = [[column.text(row.get(column.key)) for column in columns] for row in (*rows, *footer)]
    headings = [column.heading for column in columns]
    right = [_is_numeric([row.get(column.key) for row in (*rows, *footer)]) for column in columns]
    widths = [
        max(width(heading), *(width(line[position]) for line in cells))
        for position, heading in enumerate(headings)
    ]
    if limit is not None:
        widths = _fit(columns, widths, limit)
    rule = GAP.join("─" * size for size in widths)
    head = _line(headings, widths, right)
    lines = [f"\x1b[1m{head}\x1b[0m" if color else head, rule]
    lines += [_line(line, widths, right) for line in cells[: len(rows)]]
    if footer:
        lines.append(rule)
        lines += [_line(line, widths, right) for line in cells[len(rows) :]]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def markdown_table(
    columns: Sequence[Column],
    rows: Sequence[Mapping[str, object]],
    footer: Sequence[Mapping[str, object]] = (),
) -> str:
    """Return a GitHub table; footers are its last rows, in bold."""
    right = [_is_numeric([row.get(column.key) for row in (*rows, *footer)]) for column in columns]
    lines = [
        _pipes([column.heading for column in columns]),
        _pipes(["---:" if flag else "---" for flag in right]),
    ]
    for style, group in (("{}", rows), ("**{}**", footer)):
        lines += [
            _pipes([style.format(_markdown(item.text(row.get(item.key)))) for item in columns])
            for row in group
        ]
    return "".join(f"{line}\n" for line in lines)


def _pipes(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown(text: str) -> str:
    for character in "\\`*_|<>[]":
        text = text.replace(character, "\\" + character)
    return text


def _is_numeric(values: Sequence[object]) -> bool:
    present = [value for value in values if value is not None]
    return bool(present) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in present
    )


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    parts = []
    for text, size, flag in zip(cells, widths, right, strict=True):
        shown = clip(text, size)
        padding = " " * (size - width(shown))
        parts.append(padding + shown if flag else shown + padding)
    return GAP.join(parts)


def _fit(columns: Sequence[Column], widths: list[int], limit: int) -> list[int]:
    """Take columns from the widest cuttable column until the line fits or none is wide."""
    widths = list(widths)
    while sum(widths) + len(GAP) * (len(widths) - 1) > limit:
        candidates = [
            position
            for position, column in enumerate(columns)
            if column.cut and widths[position] > SMALLEST_CUT
        ]
        if not candidates:
            break
        widest = max(candidates, key=lambda position: widths[position])
        widths[widest] -= 1
    return widths
