"""What to try: a few sentences for each pattern that name the slice, the time and a command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pyflare_analysis.plain import format_time
from pyflare_analysis.rca.patterns.pattern import Pattern, PatternType

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["slice_text", "suggested_actions"]

_SHOWN = 3


def slice_text(affected: Mapping[str, Any]) -> str:
    """Return a slice as text.

    >>> slice_text({"model": "gpt-4o"})
    'model=gpt-4o'
    >>> slice_text({})
    'all calls'
    """
    if not affected:
        return "all calls"
    return ", ".join(f"{name}={_value_text(value)}" for name, value in affected.items())


def _value_text(value: object) -> str:
    if not isinstance(value, list | tuple):
        return str(value)
    shown = "|".join(str(item) for item in value[:_SHOWN])
    return shown if len(value) <= _SHOWN else f"{shown} and {len(value) - _SHOWN} more"


def suggested_actions(pattern: Pattern) -> tuple[str, ...]:
    """Return what to try, the most telling first; each names the slice."""
    makers: dict[PatternType, Callable[[Pattern, str], list[str]]] = {
        PatternType.ERROR_SPIKE: _errors,
        PatternType.LATENCY_DEGRADATION: _latency,
        PatternType.QUALITY_DROP: _quality,
        PatternType.COST_ANOMALY: _cost,
        PatternType.DRIFT_CORRELATION: _drift,
        PatternType.TEMPORAL_PATTERN: _temporal,
        PatternType.USER_SEGMENT_ISSUE: _segment,
    }
    maker = makers.get(pattern.type, _series)
    return tuple(maker(pattern, slice_text(pattern.affected)))


def _window(pattern: Pattern) -> str:
    start, end = (format_time(ns)[:19] + "Z" for ns in (pattern.start_ns, pattern.end_ns))
    return f"--since {start} --until {end}"


def _filter(pattern: Pattern) -> str:
    """Return the options that choose the slice."""
    flags = {
        "model": "--model",
        "feature": "--feature",
        "service_name": "--service",
        "environment": "--environment",
        "user_id": "--user",
    }
    parts = []
    for name, value in pattern.affected.items():
        values = value if isinstance(value, list | tuple) else [value]
        if name in flags:
            parts += [f"{flags[name]} {_quoted(item)}" for item in values[:_SHOWN]]
        elif name not in ("time_of_day", "column"):
            quoted = str(values[0]).replace("'", "''")
            parts.append(_quoted(f"{name} = '{quoted}'", option="--where"))
    return "".join(f" {part}" for part in parts)


def _quoted(text: object, *, option: str = "") -> str:
    from shlex import quote

    return f"{option} {quote(str(text))}".strip()


def _errors(pattern: Pattern, where: str) -> list[str]:
    started = "went up at once" if pattern.shape == "spike" else "went up and stayed up"
    if not pattern.ongoing:
        started = "went up for a while"
    return [
        (
            f"Read what the failures of {where} say: "
            f"pyflare rca clusters {_window(pattern)}{_filter(pattern)}"
        ),
        (
            f"Errors of {where} {started}: look for a deployment, a changed limit or an incident "
            f"of the provider at {format_time(pattern.start_ns)[:19]}Z"
        ),
        f"Until it is mended, retry with back-off or send {where} to another model or provider",
    ]


def _latency(pattern: Pattern, where: str) -> list[str]:
    creeping = pattern.shape == "trend"
    cause = (
        "it creeps: look for growing prompts or histories, a filling queue or index, a leak"
        if creeping
        else "it changed at once: look for a deployment, another model or region, a limit reached"
    )
    return [
        (
            f"Latency of {where} is {pattern.observed / max(pattern.baseline, 1e-9):.1f} times "
            f"what it was; {cause}"
        ),
        (
            f"Compare the lengths of input and output of {where} before and after: pyflare rca "
            f"slices --metric token_usage {_window(pattern)}{_filter(pattern)}"
        ),
        f"Set a timeout and a fallback for {where}; stream the answers if they grew longer",
    ]


def _quality(pattern: Pattern, where: str) -> list[str]:
    return [
        (
            f"Roll {where} back to what it was before {format_time(pattern.start_ns)[:19]}Z, "
            "or compare the two on the same questions"
        ),
        (
            f"Read the worst answers of {where}: "
            f"pyflare traces list {_window(pattern)}{_filter(pattern)}"
        ),
        f"Check what {where} is given: retrieved documents, prompt version, model version",
    ]


def _cost(pattern: Pattern, where: str) -> list[str]:
    details = pattern.details
    if pattern.metric == "calls":
        return [
            (
                f"Find who makes the calls of {where}: pyflare cost summary --by "
                f"user_id,agent_name {_window(pattern)}{_filter(pattern)}"
            ),
            f"Look for a loop of an agent, a retry storm or a batch job in {where}",
            f"Set a limit for {where}: pyflare budget set --period daily --limit-usd X",
        ]
    moved = []
    for name in ("output_tokens", "input_tokens"):
        before, within = (details.get(f"{name}_per_call_{w}", 0) for w in ("before", "within"))
        if before and within and within / before >= 1.15:
            moved.append(f"{name} per call went from {before:g} to {within:g}")
    why = " and ".join(moved) if moved else "tokens per call did not grow: look at the price list"
    return [
        (
            f"A call of {where} costs {pattern.observed / max(pattern.baseline, 1e-9):.1f} times "
            f"what it did; {why}"
        ),
        (
            f"Check prompt, max_tokens and model of {where} for a change at "
            f"{format_time(pattern.start_ns)[:19]}Z"
        ),
        (
            f"See who pays for {where}: pyflare cost summary --by user_id,day "
            f"{_window(pattern)}{_filter(pattern)}"
        ),
    ]


def _drift(pattern: Pattern, where: str) -> list[str]:
    column = pattern.details.get("drift_column", "an input")
    metric = pattern.details.get("correlated_metric", pattern.metric)
    return [
        (
            f"{column} of {where} changed while {metric} got worse: find out where the new inputs "
            f"come from: pyflare rca attribution {_window(pattern)}"
        ),
        f"See the change itself: pyflare drift psi --column {column}",
        (
            f"Evaluate {where} on the new inputs before changing prompts or models; the two moved "
            "together, which does not say that one caused the other"
        ),
    ]


def _temporal(pattern: Pattern, where: str) -> list[str]:
    return [
        (
            f"It is worse at the same hours every day in {where}: look for batch jobs, backups, "
            "limits that reset at midnight, or the provider's busy hours"
        ),
        f"Read what fails at these hours in {where}: pyflare rca clusters{_filter(pattern)}",
        f"Move what can wait out of these hours, or raise limits for them, in {where}",
    ]


def _segment(pattern: Pattern, where: str) -> list[str]:
    return [
        f"Read what the failures of {where} say: pyflare rca clusters{_filter(pattern)}",
        f"See what {where} have in common: pyflare rca slices{_filter(pattern)}",
        f"Check keys, quotas, plan and input lengths of {where}",
    ]


def _series(pattern: Pattern, where: str) -> list[str]:
    return [
        (
            f"Look at what changed in {pattern.metric} ({where}) at "
            f"{format_time(pattern.start_ns)[:19]}Z"
        )
    ]
