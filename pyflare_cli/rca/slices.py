"""`pyflare rca slices`: which slices of the traffic are worse than the rest."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pyflare_cli.command import Run, command
from pyflare_cli.options import FilterOptions, SourceOptions
from pyflare_cli.output import Document
from pyflare_cli.rca.group import app
from pyflare_cli.tables import Column
from pyflare_proto.errors import UsageError

if TYPE_CHECKING:
    from pyflare_analysis.rca.metrics import Metric
    from pyflare_analysis.rca.slices.analyzer import SliceAnalysis, SliceAnalyzerConfig
    from pyflare_storage.expressions import Expr
    from pyflare_storage.source import Source

InputFile = Annotated[
    Path | None,
    typer.Option(
        "--input", metavar="FILE", help="Any table: Parquet, CSV or JSON lines, not only spans."
    ),
]


@dataclass(frozen=True, slots=True)
class SliceOptions:
    """What is looked at, and how closely."""

    metric: Annotated[
        str | None,
        typer.Option(
            metavar="METRIC",
            help="error_rate, latency_p50, latency_p95, latency_p99, cost, token_usage, "
            "toxicity_rate, hallucination_rate, drift_score, a column, attributes.KEY, or the "
            "name of an evaluation.  [default: error_rate]",
        ),
    ] = None
    dimension: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIM",
            help="Divide by this only; again for more: model, user_id, feature, input_length, "
            "output_length, latency, time_of_day, day_of_week, prompt_template, provider, "
            "environment, any column, attributes.KEY.  [default: all that fit]",
        ),
    ] = None
    depth: Annotated[int, typer.Option(metavar="N", help="Dimensions combined at most: 1-3.")] = 2
    limit: Annotated[int, typer.Option(metavar="N", help="Slices at most.")] = 10
    everything: Annotated[
        bool,
        typer.Option("--all", help="Every slice that differs, not only those that explain why."),
    ] = False
    worse: Annotated[
        str | None,
        typer.Option(
            metavar="higher|lower|either",
            help="Which way is bad.  [default: by the metric]",
        ),
    ] = None
    min_samples: Annotated[
        int, typer.Option(metavar="N", help="Rows that a slice needs at least.")
    ] = 30
    min_support: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of all rows that a slice needs.")
    ] = 0.001
    min_effect: Annotated[
        float,
        typer.Option(metavar="SHARE", help="Deviation that a slice needs, of the baseline."),
    ] = 0.2
    alpha: Annotated[
        float, typer.Option(metavar="Q", help="False discovery rate over all slices.")
    ] = 0.05
    bins: Annotated[int, typer.Option(metavar="N", help="Bins of numbers, by quantiles.")] = 5
    timezone: Annotated[
        str, typer.Option(metavar="TZ", help="IANA time zone of hours and weekdays.")
    ] = "UTC"
    unweighted: Annotated[
        bool, typer.Option("--unweighted", help="Count sampled spans once each.")
    ] = False

    def config(self) -> SliceAnalyzerConfig:
        """Return the options as the analyzer takes them."""
        from pyflare_analysis.rca.slices.analyzer import SliceAnalyzerConfig

        if self.limit < 1:
            raise UsageError(f"--limit is {self.limit}", hint="--limit takes a number from 1")
        return SliceAnalyzerConfig(
            depth=self.depth,
            min_samples=self.min_samples,
            min_support=self.min_support,
            min_effect=self.min_effect,
            alpha=self.alpha,
            bins=self.bins,
            timezone=self.timezone,
            weighted=not self.unweighted,
            causes_only=not self.everything,
        )


@command(
    app,
    "slices",
    examples="""
    pyflare rca slices
    pyflare rca slices --metric latency_p95 --since 24h --depth 3
    pyflare rca slices --model gpt-4o --dimension feature --dimension attributes.app.tier
    pyflare rca slices --input orders.csv --outcome failed --dimension country --dimension shop
    """,
)
def slices(
    run: Run,
    *,
    options: SliceOptions,
    span_type: Annotated[
        list[str] | None,
        typer.Option(metavar="TYPE", help="Spans of this type instead of calls; again for more."),
    ] = None,
    input_file: InputFile = None,
    outcome: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN|EXPR",
            help="With --input: column of numbers or of true and false, or a condition that is "
            "true of the bad rows.",
        ),
    ] = None,
    source: SourceOptions,
    filters: FilterOptions,
) -> None:
    """Which slices of the traffic are worse than the rest, causes first.

    Compares every combination of values with all other rows, and lists the few that explain
    the rest: not the slices that contain a cause or lie within one. Deviations have a 95 %
    interval and a p-value adjusted for all slices looked at. Without enough data it says what
    would be needed (exit code 4).
    """
    if (input_file is None) != (outcome is None):
        raise UsageError(
            "--outcome without --input" if input_file is None else "--input without --outcome",
            hint="over any table: --input FILE --outcome COLUMN; over spans: neither",
        )
    with ExitStack() as stack:
        if input_file is not None and outcome is not None:
            from pyflare_storage.source import open_source

            table = stack.enter_context(open_source(input_file))
            answer = _of_table(table, outcome, options, filters)
        else:
            spans = stack.enter_context(source.open(run.settings))
            evaluations = open_evaluations(run, source)
            if evaluations is not None:
                stack.enter_context(evaluations)
            answer = _of_spans(spans, evaluations, options, filters, span_type or ())
    _answer(run, answer)


def open_evaluations(run: Run, source: SourceOptions) -> Source | None:
    """Open `evaluations/` of the data directory, where the spans are read from it too."""
    from pyflare_storage.source import open_source

    folder = Path(source.url(run.settings)) / "evaluations"
    if not folder.is_dir() or not any(folder.glob("*.parquet")):
        return None
    return open_source(folder)


def _of_table(
    table: Source, outcome: str, options: SliceOptions, filters: FilterOptions
) -> SliceAnalysis:
    from pyflare_analysis.rca.metrics import outcome_metric
    from pyflare_analysis.rca.slices.analyzer import SliceAnalyzer

    metric = outcome_metric(table, outcome, metric=options.metric)
    where = table_condition(table, filters)
    analyzer = SliceAnalyzer(table, options.config(), where=where, dimensions=options.dimension)
    return analyzer.analyze(_turned(metric, options), limit=options.limit)


def _of_spans(
    spans: Source,
    evaluations: Source | None,
    options: SliceOptions,
    filters: FilterOptions,
    span_types: list[str] | tuple[str, ...],
) -> SliceAnalysis:
    from pyflare_analysis.rca.metrics import resolve_metric
    from pyflare_analysis.rca.slices.analyzer import SliceAnalyzer

    name = options.metric or "error_rate"
    metric = resolve_metric(name, spans.columns(), span_types=span_types)
    analyzer = SliceAnalyzer(
        spans,
        options.config(),
        where=filter_condition(spans, filters),
        evaluations=evaluations,
        dimensions=options.dimension,
        span_types=span_types,
    )
    return analyzer.analyze(_turned(metric, options), limit=options.limit)


def _turned(metric: Metric, options: SliceOptions) -> Metric:
    """Return the metric with the bad way that was asked for."""
    from dataclasses import replace

    match options.worse:
        case None:
            return metric
        case "higher" | "lower" | "either" as worse:
            return replace(metric, worse=worse)
    raise UsageError(f"--worse is {options.worse!r}", hint="--worse takes higher, lower or either")


def filter_condition(source: Source, filters: FilterOptions) -> Expr | None:
    """Return the filters as a condition; `--model` takes failed calls in (see `dimensions`)."""
    from pyflare_analysis.rca.dimensions import span_condition

    return span_condition(source, filters.filters())


def table_condition(table: Source, filters: FilterOptions) -> Expr | None:
    """Return the filters as a condition on any table: `--where` names its own columns."""
    return filters.filters(table.columns()).to_expr()


def slice_text(value: object) -> str:
    """Return a slice as people read it: `model=gpt-4o feature=summarize`."""
    assert isinstance(value, dict)  # noqa: S101 - slices are objects
    return "  ".join(f"{name}={'(none)' if v is None else v}" for name, v in value.items()) or "all"


def percent(value: object) -> str:
    """Return a share as percent."""
    return f"{100 * float(str(value)):.3g} %"


def _answer(run: Run, answer: SliceAnalysis) -> None:
    if answer.sampled:
        run.note(
            "some spans were sampled: figures are weighted by 1/sampling_probability; "
            "pass --unweighted for the spans as they are stored"
            if answer.weighted
            else "some spans were sampled: figures are of the stored spans only"
        )
    run.note(
        f"{answer.slices_tested:,} slices of {answer.sample_count:,} rows looked at, "
        f"{answer.min_samples:,} rows each at least; {answer.metric.name} is "
        + _in_unit(answer.value, answer.metric.unit)
        + (" overall" if answer.slices else " overall, and no slice is worse than the rest")
    )
    unit = answer.metric.unit
    show = percent if unit == "share" else None
    columns = [
        Column("slice", show=slice_text),
        Column("sample_count", "rows", cut=False),
        Column("metric_value", "value", show, cut=False),
        Column("baseline_value", "rest", show, cut=False),
        Column("ci_low", "differs from", show, cut=False),
        Column("ci_high", "to (95 %)", show, cut=False),
        Column("q_value", "q", lambda q: f"{float(str(q)):.1g}", cut=False),
        Column("impact_score", "impact", percent, cut=False),
    ]
    run.answer(Document("pyflare.rca.slices/1", answer.to_dict(), "slices", columns))


def _in_unit(value: float, unit: str) -> str:
    return percent(value) if unit == "share" else f"{value:,.6g} {unit}".rstrip()
