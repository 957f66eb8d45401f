"""The root cause report as a page of blocks, whatever the form: text, Markdown or HTML."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pyflare_analysis.rca.patterns.actions import slice_text
from pyflare_analysis.rca.patterns.pattern import severity_level
from pyflare_analysis.rca.report.words import cluster_name, figure, metric_name, minute
from pyflare_cli.figures import usd
from pyflare_storage.times import parse_duration_ns, parse_iso

if TYPE_CHECKING:
    from pyflare_analysis.rca.clusters.clusterer import FailureCluster
    from pyflare_analysis.rca.report.page import Change, RcaReport

__all__ = [
    "Block",
    "Chart",
    "Page",
    "Paragraph",
    "Section",
    "Series",
    "Step",
    "Steps",
    "Table",
    "page_of",
]

_COMMAND = re.compile(r"^(?P<text>.*?):? ?(?P<command>pyflare [a-z].*)$")
_EVEN = 1.25
"""Share of a change over share of the calls from which on a slice stands out."""


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Text in one paragraph."""

    text: str
    level: str = ""
    """Severity of a finding: low, medium, high, critical; empty for plain text."""


@dataclass(frozen=True, slots=True)
class Table:
    """A small table of texts."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()
    """Columns of figures, by position."""


@dataclass(frozen=True, slots=True)
class Step:
    """Something to try."""

    text: str
    command: str | None
    because: str


@dataclass(frozen=True, slots=True)
class Steps:
    """Things to try, in order."""

    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart."""

    name: str
    values: tuple[float | None, ...]
    low: str
    """Text of the smallest and of the largest value."""
    high: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over the same intervals of time."""

    times: tuple[str, ...]
    series: tuple[Series, ...]
    windows: tuple[tuple[float, float], ...]
    """Times with a change, as shares of the time, 0 to 1; in order, none overlaps another."""
    starts: tuple[float, ...]
    """Where each change begins."""
    every: str


Block = Paragraph | Table | Steps | Chart


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page with a heading."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """The page, top to bottom."""

    title: str
    verdict: str
    headline: str
    facts: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...] = field(default=())


def page_of(report: RcaReport) -> Page:
    """Return the page: what changed, since when, for whom, what the errors say, what to try."""
    sections = (
        Section("What changed", tuple(_changes(report))),
        Section("Since when", (_chart(report),)),
        Section("For whom", tuple(_slices(report))),
        Section("What the errors say", tuple(_clusters(report))),
        Section("What to try", tuple(_steps(report))),
        Section("What could not be looked at", tuple(_missing(report))),
    )
    return Page(
        title="Root cause report",
        verdict=report.verdict,
        headline=report.headline,
        facts=tuple(_facts(report)),
        sections=tuple(section for section in sections if section.blocks),
    )


def _facts(report: RcaReport) -> Iterator[tuple[str, str]]:
    yield "time", f"{minute(report.start_ns)} to {minute(report.end_ns)} UTC"
    yield "calls", f"{report.calls:,}"
    rate = figure(report.failed_calls / report.calls, "error_rate")
    yield "failed", f"{report.failed_calls:,} ({rate})"
    if report.cost_nano_usd is not None:
        yield "cost", usd(report.cost_nano_usd)
    if report.sampled:
        yield "sampled spans", "weighted" if report.weighted else "counted once each"


def _changes(report: RcaReport) -> Iterator[Block]:
    if not report.changes and not any(m.part == "patterns" for m in report.missing):
        yield Paragraph("Nothing changed over time that chance does not explain.")
    for number, change in enumerate(report.changes, 1):
        yield Paragraph(f"{number}. {change.sentence}.", severity_level(change.pattern.severity))
        yield from _attribution(change)
        if change.clusters:
            yield Paragraph(f"Failures that grew with it: {_grown(change.clusters)}.")


def _attribution(change: Change) -> Iterator[Block]:
    attribution = change.attribution
    if attribution is None or not attribution.causes:
        return
    metric = change.pattern.metric
    rows = []
    for cause in attribution.causes:
        share = cause.after_count / max(1.0, attribution.after_rows * change.mean_weight)
        if cause.explanatory_power < _EVEN * share:
            continue
        before, after = (
            "-" if value is None else figure(value, metric, attribution.unit)
            for value in (cause.before, cause.after)
        )
        power = f"{cause.explanatory_power:.0%}"
        rows.append((slice_text(cause.definition), power, f"{share:.0%}", before, after))
    if not rows:
        yield Paragraph("It is spread over the calls alike: no slice carries more than its share.")
        return
    # Of a quantile the share of calls above the quantile of the time before is explained.
    quantile = "slower than the old p95, " if metric.startswith("latency") else ""
    heads = ("slice", "of the change", "of the calls", f"{quantile}before", f"{quantile}after")
    yield Table(heads, tuple(rows), frozenset({1, 2, 3, 4}))


def _grown(clusters: Sequence[FailureCluster]) -> str:
    texts = []
    for cluster in clusters[:4]:
        growth = cluster.growth
        assert growth is not None  # noqa: S101 - clusters that grew have a growth
        times = "new" if not growth.before else f"{growth.ratio:.2g} times as often"
        texts.append(f"{cluster_name(cluster)} ({times})")
    more = len(clusters) - len(texts)
    return "; ".join(texts) + (f"; and {more} more" if more else "")


def _chart(report: RcaReport) -> Chart:
    rows = report.timeline
    first = parse_iso(str(rows[0]["time"]))
    length = parse_iso(str(rows[-1]["time"])) + parse_duration_ns(report.every) - first

    def share(time_ns: int) -> float:
        return min(1.0, max(0.0, (time_ns - first) / length))

    windows = tuple(
        (share(change.pattern.start_ns), share(change.pattern.end_ns)) for change in report.changes
    )
    calls = [_float(row["calls"]) for row in rows]
    failed = [_float(row["failed_calls"]) for row in rows]
    rates = [f / c if c and f is not None else None for c, f in zip(calls, failed, strict=True)]
    latency = [_float(row["latency_mean_ms"]) for row in rows]
    cost = [_float(row["cost_nano_usd"]) for row in rows]
    candidates = (
        _series("error rate", rates, "error_rate"),
        _series("mean latency", latency, "latency"),
        _series("calls", calls, "calls"),
        _series("cost", cost, "cost"),
    )
    return Chart(
        times=tuple(str(row["time"])[:16].replace("T", " ") for row in rows),
        series=tuple(series for series in candidates if series is not None),
        windows=_union(windows),
        starts=tuple(start for start, _ in windows),
        every=report.every,
    )


def _union(windows: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Return windows with those joined that overlap."""
    joined: list[tuple[float, float]] = []
    for start, end in sorted(windows):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return tuple(joined)


def _series(name: str, values: Sequence[float | None], metric: str) -> Series | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Series(name, tuple(values), figure(min(known), metric), figure(max(known), metric))


def _float(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _slices(report: RcaReport) -> Iterator[Block]:
    found = report.shown_slices()
    if not found and report.slices:
        looked = ", ".join(metric_name(metric) for metric in report.slices)
        yield Paragraph(f"No slice differs from the rest in its {looked} beyond chance.")
        return
    if found:
        yield Table(
            ("slice", "metric", "slice has", "rest has", "deviation, 95 % interval", "calls"),
            tuple(
                (
                    slice_text(result.definition),
                    metric_name(metric),
                    figure(result.metric_value, metric),
                    figure(result.baseline_value, metric),
                    f"{figure(result.ci_low, metric)} to {figure(result.ci_high, metric)}",
                    f"{result.sample_count:,}",
                )
                for metric, result in found
            ),
            frozenset({2, 3, 4, 5}),
        )


def _clusters(report: RcaReport) -> Iterator[Block]:
    if report.clusters is None:
        return
    if not report.clusters.clusters:
        yield Paragraph("No span failed.")
        return
    rows = [
        (
            f"{cluster.size:,}",
            f"{cluster.share:.0%}",
            _trend(cluster),
            "-" if cluster.last_seen_ns is None else minute(cluster.last_seen_ns),
            cluster.error_type or "-",
            cluster.representative_error,
            cluster.affected_traces[0] if cluster.affected_traces else "-",
        )
        for cluster in report.shown_clusters
    ]
    heads = ("failures", "share", "trend", "last seen", "type", "says", "trace")
    yield Table(heads, tuple(rows), frozenset({0, 1}))
    more = len(report.clusters.clusters) - len(rows)
    if more:
        yield Paragraph(f"And {more} more: pyflare rca clusters --limit {more + len(rows)}")


def _trend(cluster: FailureCluster) -> str:
    growth = cluster.growth
    if growth is None:
        return "-"
    trend = growth.trend.value
    if trend in ("growing", "shrinking"):
        return f"{trend} x{growth.ratio:.2g}"
    return "too few" if trend == "insufficient" else trend


def _steps(report: RcaReport) -> Iterator[Block]:
    steps = []
    for action in report.actions:
        match = _COMMAND.match(action.text)
        text, command = (match["text"], match["command"]) if match else (action.text, None)
        steps.append(Step(text, command, action.because))
    if steps:
        yield Steps(tuple(steps))


def _missing(report: RcaReport) -> Iterator[Block]:
    if report.missing:
        rows = tuple((m.part, m.reason, m.hint or "-") for m in report.missing)
        yield Table(("part", "why", "what would help"), rows)
