"""`pyflare rca patterns`: since when it is worse, of what, for whom, and what to try."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pyflare_cli.command import Run, command
from pyflare_cli.figures import milliseconds, short_time, usd
from pyflare_cli.options import FilterOptions, SourceOptions
from pyflare_cli.output import Document, Terminal
from pyflare_cli.rca.group import app
from pyflare_cli.rca.slices import open_evaluations
from pyflare_proto.errors import GateError, UsageError

if TYPE_CHECKING:
    from pyflare_analysis.rca.patterns.pattern import PatternDetectorConfig, PatternReport
    from pyflare_analysis.rca.patterns.series import SeriesReport

__all__ = ["patterns"]

LEVELS = {"low": 0.0, "medium": 0.25, "high": 0.5, "critical": 0.75}
_ALPHAS = {"low": 1e-6, "normal": 1e-3, "high": 1e-2}
_THRESHOLDS = {"low": 4.0, "normal": 2.75, "high": 2.0}


@dataclass(frozen=True, slots=True)
class PatternOptions:
    """What is looked for, and how closely."""

    type: Annotated[
        list[str] | None,
        typer.Option(
            metavar="T",
            help="error_spike, latency_degradation, quality_drop, cost_anomaly, "
            "drift_correlation, temporal_pattern or user_segment_issue; again for more.  "
            "[default: all]",
        ),
    ] = None
    every: Annotated[
        str | None,
        typer.Option(metavar="LENGTH", help="Intervals of time, like 15m.  [default: by the data]"),
    ] = None
    sensitivity: Annotated[
        str,
        typer.Option(
            metavar="low|normal|high",
            help="How sure it must be: false discovery rate 1e-6, 0.001 or 0.01; of a series a "
            "score of 4, 2.75 or 2.",
        ),
    ] = "normal"
    dimension: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIM",
            help="Look for the slice in these only; again for more: model, feature, "
            "attributes.KEY, ...  [default: all that divide the calls]",
        ),
    ] = None
    history: Annotated[
        str, typer.Option(metavar="LENGTH", help="How far before --since the baseline may reach.")
    ] = "14d"
    limit: Annotated[int, typer.Option(metavar="N", help="Patterns at most.")] = 20
    unweighted: Annotated[
        bool, typer.Option("--unweighted", help="Count sampled spans once each.")
    ] = False
    fail_on: Annotated[
        str | None,
        typer.Option(
            metavar="LEVEL|TYPE",
            help="Exit with 1 when there is a pattern of this severity or more (low, medium, high, "
            "critical), or of this type.",
        ),
    ] = None

    def check(self) -> None:
        """Raise `UsageError` for a value that cannot be."""
        from pyflare_analysis.rca.patterns.pattern import PatternType
        from pyflare_storage.times import is_duration

        if self.sensitivity not in _ALPHAS:
            raise UsageError(
                f"--sensitivity is {self.sensitivity}",
                hint=f"--sensitivity takes {', '.join(_ALPHAS)}",
            )
        if self.limit < 1:
            raise UsageError(f"--limit is {self.limit}", hint="--limit takes a number from 1")
        if not is_duration(self.history):
            raise UsageError(f"--history is {self.history}", hint="write --history 14d")
        known = [*LEVELS, *(str(type_) for type_ in PatternType)]
        if self.fail_on is not None and self.fail_on not in known:
            raise UsageError(
                f"--fail-on is {self.fail_on}", hint=f"--fail-on takes {', '.join(known)}"
            )

    def config(self) -> PatternDetectorConfig:
        """Return the options as the detector takes them."""
        from pyflare_analysis.rca.patterns.pattern import PatternDetectorConfig

        return PatternDetectorConfig(
            every=self.every,
            alpha=_ALPHAS[self.sensitivity],
            history=self.history,
            dimensions=None if self.dimension is None else tuple(self.dimension),
        )


@dataclass(frozen=True, slots=True)
class SeriesOptions:
    """Any series instead of spans."""

    input_file: Annotated[
        Path | None,
        typer.Option(
            "--input", metavar="FILE", help="Any series: Parquet, CSV or JSON lines, not spans."
        ),
    ] = None
    time: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="With --input: column of times.")
    ] = None
    value: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="With --input: column of numbers.")
    ] = None


@command(
    app,
    "patterns",
    examples="""
    pyflare rca patterns
    pyflare rca patterns --since 24h --model gpt-4o --fail-on high
    pyflare rca patterns --type error_spike --type latency_degradation --every 5m
    pyflare rca patterns --input requests.csv --time timestamp --value count
    """,
)
def patterns(
    run: Run,
    *,
    options: PatternOptions,
    series: SeriesOptions,
    source: SourceOptions,
    filters: FilterOptions,
) -> None:
    """Since when it is worse, of what, for whom, and what to try.

    Looks for rises of errors, latency and cost, drops of scores, hours of the day that are bad
    every day, users that fail more than the rest, and inputs that drifted along. Each episode
    is compared with what was before it, is told once, and names the slice that explains it.
    Over any series it tells anomalies, changes of level and the trend. Without enough data it
    says what would be needed (exit code 4).
    """
    options.check()
    if series.input_file is not None or series.time is not None or series.value is not None:
        _series(run, options, series, filters)
        return
    from pyflare_analysis.rca.patterns.detector import PatternDetector

    with ExitStack() as stack:
        spans = stack.enter_context(source.open(run.settings))
        evaluations = open_evaluations(run, source)
        if evaluations is not None:
            stack.enter_context(evaluations)
        detector = PatternDetector(
            spans, options.config(), evaluations=evaluations, weighted=not options.unweighted
        )
        report = detector.report(filters=filters.filters(), types=options.type)
    _answer(run, report, options)


def _answer(run: Run, report: PatternReport, options: PatternOptions) -> None:
    if report.sampled:
        how = "weighted by 1/sampling_probability" if report.weighted else "of the stored spans"
        run.note(f"some spans were sampled: figures are {how}")
    for type_, why in report.not_tested.items():
        run.note(f"{type_} was not looked for: {why}")
    body = report.to_dict()
    rows = body["patterns"][: options.limit]
    body |= {"patterns": rows}
    empty = (
        f"no pattern in {report.calls:,} calls from {body['start_time'][:16]}Z to "
        f"{body['end_time'][:16]}Z, in intervals of {report.every}"
    )
    run.answer(_document(body, rows, empty))
    _gate([pattern.to_dict() for pattern in report.patterns], options)


def _series(
    run: Run, options: PatternOptions, series: SeriesOptions, filters: FilterOptions
) -> None:
    from pyflare_analysis.rca.patterns.series import SeriesConfig, detect_series
    from pyflare_analysis.rca.patterns.series_table import read_series
    from pyflare_storage.source import open_source

    if series.input_file is None or series.time is None or series.value is None:
        raise UsageError(
            "--input, --time and --value belong together",
            hint="over any series: --input FILE --time COLUMN --value COLUMN; over spans: none",
        )
    if options.type:
        raise UsageError("--type with --input", hint="types are those of patterns in spans")
    names = ("since", "until", "model", "service", "environment", "feature", "user", "where")
    used = [f"--{name}" for name in names if getattr(filters, name)]
    if used:
        raise UsageError(
            f"{used[0]} with --input", hint="filters are those of spans: cut the file beforehand"
        )
    with open_source(series.input_file) as table:
        times, values, every = read_series(table, series.time, series.value, every=options.every)
    config = SeriesConfig(threshold=_THRESHOLDS[options.sensitivity])
    report = detect_series(times, values, metric=series.value, config=config)
    body = report.to_dict(every)
    rows = body["patterns"]
    assert isinstance(rows, list)  # noqa: S101 - the report makes it one
    body |= {"patterns": rows[: options.limit]}
    empty = f"no anomaly in {report.points:,} points of {series.value}"
    run.answer(_document(body, rows[: options.limit], empty, _series_lines(report)))
    _gate(rows, options)


def _series_lines(report: SeriesReport) -> list[str]:
    from pyflare_analysis.plain import format_time

    lines = [
        f"level {_number(change.before)} -> {_number(change.after)} at "
        f"{short_time(format_time(change.time_ns))[:16]}"
        for change in report.change_points
    ]
    if report.trend.p_value < 0.01:
        lines.append(
            f"trend {_number(report.trend.slope)} a day (Theil-Sen), "
            f"p {report.trend.p_value:.2g} (Mann-Kendall)"
        )
    return lines


def _document(
    body: Mapping[str, object],
    rows: Iterable[Mapping[str, object]],
    empty: str,
    more: Iterable[str] = (),
) -> Document:
    def render(_: Terminal) -> list[str]:
        lines: list[str] = []
        for row in rows:
            lines += _pattern_lines(row)
        return [*(lines or [empty]), *more]

    return Document("pyflare.rca.patterns/1", body, "patterns", render=render)


def _pattern_lines(row: Mapping[str, object]) -> list[str]:
    """Return a pattern as it is read on a terminal: what, where, when, how much, what to try."""
    from pyflare_analysis.rca.patterns.actions import slice_text
    from pyflare_cli.text import printable

    affected, actions = row["affected"], row["suggested_actions"]
    assert isinstance(affected, Mapping)  # noqa: S101 - the contract of a pattern
    assert isinstance(actions, list)  # noqa: S101 - likewise
    show = _shown(str(row["unit"]))
    start, end = (short_time(row[key])[:16] for key in ("start_time", "end_time"))
    until = "still going on" if row["ongoing"] else f"to {end}"
    what = f"{row['type']} in {slice_text(affected)}"
    if row["type"] == "custom":
        what = f"anomaly of {row['metric']}"
    q = row["q_value"]
    sure = f"q {float(str(q)):.2g}" if q is not None else f"confidence {row['confidence']}"
    return [
        printable(f"{row['severity_level']}: {what}"),
        (
            f"  {row['metric']} {show(row['baseline'])} -> {show(row['observed'])} "
            f"({row['shape']}, {sure})"
        ),
        f"  {start} {until} UTC",
        *(printable(f"  - {action}") for action in actions),
    ]


def _number(value: object) -> str:
    return f"{float(str(value)):.6g}"


def _shown(unit: str) -> Callable[[object], str]:
    """Return how figures of a unit are written."""
    if unit == "share":
        return lambda value: f"{float(str(value)):.2%}"
    if unit == "ms":
        return milliseconds
    if unit == "nano_usd":
        return lambda value: usd(round(float(str(value))))
    return _number


def _gate(rows: Iterable[Mapping[str, object]], options: PatternOptions) -> None:
    """Raise `GateError` where a pattern is what `--fail-on` names."""
    if options.fail_on is None:
        return
    limit = LEVELS.get(options.fail_on)
    failing = [
        row
        for row in rows
        if (
            row["type"] == options.fail_on
            if limit is None
            else float(str(row["severity"])) >= limit
        )
    ]
    if failing:
        raise GateError(
            f"{len(failing)} pattern{'' if len(failing) == 1 else 's'} of {options.fail_on}"
            f"{'' if limit is None else ' severity or more'}",
            hint="the answer lists them with what to try",
        )
