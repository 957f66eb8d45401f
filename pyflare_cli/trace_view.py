"""A trace on a terminal: the tree of its spans with a time line, tokens and costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyflare_cli.figures import milliseconds, short_time, usd
from pyflare_cli.text import clip, printable, width
from pyflare_storage.times import parse_iso

if TYPE_CHECKING:
    from pyflare_analysis.trace_tree import TreeNode
    from pyflare_analysis.traces import Trace
    from pyflare_cli.output import Terminal

__all__ = ["span_line", "trace_lines"]

BAR_WIDTH = 24
NARROW_BAR_WIDTH = 12
NARROW_TERMINAL = 100
WIDEST_NAME = 56
NARROWEST_NAME = 16
_EIGHTHS = " ▏▎▍▌▋▊▉"
RED, DIM, BOLD, RESET = "\x1b[31m", "\x1b[2m", "\x1b[1m", "\x1b[0m"


@dataclass(frozen=True, slots=True)
class _Line:
    """One span: the tree's name column and the figures beside it."""

    name: str
    figures: tuple[str, ...]
    begin: float
    """Start and end of the span as shares of the trace, 0 to 1."""
    end: float
    failed: bool
    message: str


def trace_lines(trace: Trace, terminal: Terminal) -> list[str]:
    """Return the lines of a trace: a headline, then one line a span.

    Args:
        trace: the trace.
        terminal: its width decides how long names may be; a pipe cuts nothing.
    """
    starts = [_time(span["start_time"]) for span in trace.spans]
    ends = [
        max(_time(span["end_time"]), start) for span, start in zip(trace.spans, starts, strict=True)
    ]
    first, length = min(starts), max(max(ends) - min(starts), 1)
    lines = [
        _Line(
            name=_branches(node) + _label(span),
            figures=_figures(span),
            begin=(start - first) / length,
            end=(end - first) / length,
            failed=span["status_code"] == "error",
            message=_message(span),
        )
        for node, span, start, end in zip(trace.nodes, trace.spans, starts, ends, strict=True)
    ]
    return [*_headline(trace, length), "", *_aligned(lines, terminal)]


def span_line(span: Mapping[str, object], terminal: Terminal) -> str:
    """Return one span on a line, for following."""
    figures = "  ".join(figure for figure in _figures(span) if figure)
    failed = span["status_code"] == "error"
    text = printable(
        f"{short_time(span['start_time'])}  {str(span['trace_id'])[:8]}  "
        f"{span['service_name'] or '-'}  {_label(span)}  {figures}"
    )
    message = _message(span)
    text = f"{text}  ✗ {message}" if failed else text
    return f"{RED}{text}{RESET}" if failed and terminal.color else text


def _headline(trace: Trace, length_ns: int) -> list[str]:
    calls = [span for span in trace.spans if _is_call(span)]
    known = [cost for span in calls if isinstance(cost := span["cost_nano_usd"], int)]
    errors = sum(span["status_code"] == "error" for span in trace.spans)
    figures = [
        _count(len(trace.spans), "span"),
        _count(len(calls), "call"),
        milliseconds(length_ns / 1e6),
        f"{sum(_whole(span['input_tokens']) for span in calls):,} tokens in",
        f"{sum(_whole(span['output_tokens']) for span in calls):,} out",
        usd(sum(known)) if known or not calls else "cost unknown",
    ]
    if errors:
        figures.append(_count(errors, "error"))
    if len(known) < len(calls) and known:
        figures.append(f"{len(calls) - len(known)} unpriced")
    return [
        f"trace {trace.trace_id}  {short_time(min(str(s['start_time']) for s in trace.spans))} UTC",
        " · ".join(figures),
    ]


def _aligned(lines: Sequence[_Line], terminal: Terminal) -> list[str]:
    columns = [max(width(line.figures[place]) for line in lines) for place in range(4)]
    name = max(width(line.name) for line in lines)
    bar = BAR_WIDTH
    if terminal.is_tty:
        bar = BAR_WIDTH if terminal.columns >= NARROW_TERMINAL else NARROW_BAR_WIDTH
        used = sum(size + 2 for size in columns if size) + bar + 4
        name = min(name, max(terminal.columns - used, NARROWEST_NAME), WIDEST_NAME)
    shown = []
    for line in lines:
        label = clip(line.name, name) if terminal.is_tty else line.name
        cells = [
            text + " " * (size - width(text)) if place == 0 else " " * (size - width(text)) + text
            for place, (text, size) in enumerate(zip(line.figures, columns, strict=True))
            if size
        ]
        text = "  ".join(
            [label + " " * (name - width(label)), f"|{_bar(line.begin, line.end, bar)}|", *cells]
        ).rstrip()
        shown.append(f"{RED}{text}{RESET}" if line.failed and terminal.color else text)
        if line.message:
            indent = " " * min(len(line.name) - len(line.name.lstrip(" │├└─")) + 2, name)
            message = f"{indent}✗ {line.message}"
            shown.append(clip(message, terminal.columns) if terminal.is_tty else message)
    return shown


def _branches(node: TreeNode) -> str:
    if not node.depth:
        return "(parent missing) " if node.orphan else ""
    return "".join("   " if last else "│  " for last in node.last[:-1]) + (
        "└─ " if node.last[-1] else "├─ "
    )


def _label(span: Mapping[str, object]) -> str:
    name = printable(str(span["name"]))
    model = span["model"]
    if model and _is_call(span, duplicates=True) and str(model) not in name:
        name = f"{name} {printable(str(model))}"
    return f"{name} [{span['span_type']}]" if span["span_type"] != "span" else name


def _figures(span: Mapping[str, object]) -> tuple[str, ...]:
    """Return duration, time to first token, tokens and cost of a span."""
    first_token = span["time_to_first_token_ms"]
    tokens = ""
    if span["input_tokens"] is not None or span["output_tokens"] is not None:
        tokens = f"{_whole(span['input_tokens']):,}→{_whole(span['output_tokens']):,} tok"
    cost = ""
    if span["cost_status"] == "duplicate":
        cost = "told twice"
    elif span["cost_nano_usd"] is not None:
        cost = usd(span["cost_nano_usd"])
    elif _is_call(span):
        cost = "unpriced" if span["cost_status"] == "unpriced" else "no usage"
    return (
        milliseconds(span["duration_ms"]),
        f"first token {milliseconds(first_token)}" if first_token is not None else "",
        tokens,
        cost,
    )


def _message(span: Mapping[str, object]) -> str:
    if span["status_code"] != "error":
        return ""
    parts = [span["error_type"], span["error_message"] or span["status_message"]]
    return printable(": ".join(str(part) for part in parts if part))


def _bar(begin: float, end: float, size: int) -> str:
    """Return a bar from `begin` to `end` of `size` columns, at least an eighth of one wide."""
    left = min(int(begin * size), size - 1)
    eighths = max(round(end * size * 8) - left * 8, 1)
    full, rest = divmod(min(eighths, (size - left) * 8), 8)
    return (" " * left + "█" * full + (_EIGHTHS[rest] if rest else "")).ljust(size)


def _is_call(span: Mapping[str, object], *, duplicates: bool = False) -> bool:
    from pyflare_proto.record import CALL_TYPES

    return span["span_type"] in CALL_TYPES and (duplicates or span["cost_status"] != "duplicate")


def _time(value: object) -> int:
    return parse_iso(str(value))


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
