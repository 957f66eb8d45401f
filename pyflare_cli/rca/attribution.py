"""`pyflare rca attribution`: where a change between two periods comes from."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from pyflare_cli.command import Run, command
from pyflare_cli.options import FilterOptions, SourceOptions
from pyflare_cli.output import Document
from pyflare_cli.rca.group import app
from pyflare_cli.rca.slices import (
    InputFile,
    filter_condition,
    open_evaluations,
    percent,
    slice_text,
    table_condition,
)
from pyflare_cli.tables import Column
from pyflare_proto.errors import UsageError

if TYPE_CHECKING:
    from pyflare_analysis.rca.attribution.answer import Attribution, AttributionConfig

DAY_NS = 86_400_000_000_000


@dataclass(frozen=True, slots=True)
class CauseOptions:
    """What is looked at, and how closely."""

    metric: Annotated[
        str,
        typer.Option(
            metavar="METRIC",
            help="error_rate, latency_p95, cost, ... as `rca slices` takes it.",
        ),
    ] = "error_rate"
    total: Annotated[
        bool,
        typer.Option("--total", help="Explain the sum (spend, errors) instead of the mean."),
    ] = False
    dimension: Annotated[
        list[str] | None,
        typer.Option(metavar="DIM", help="Look here only; again for more.  [default: all]"),
    ] = None
    depth: Annotated[int, typer.Option(metavar="N", help="Dimensions combined at most: 1-3.")] = 3
    limit: Annotated[int, typer.Option(metavar="N", help="Causes at most.")] = 5
    min_power: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of the change that a cause explains.")
    ] = 0.1
    bins: Annotated[int, typer.Option(metavar="N", help="Bins of numbers, by quantiles.")] = 5
    unweighted: Annotated[
        bool, typer.Option("--unweighted", help="Count sampled spans once each.")
    ] = False

    def config(self) -> AttributionConfig:
        """Return the options as the analysis takes them."""
        from pyflare_analysis.rca.attribution.answer import AttributionConfig

        return AttributionConfig(
            depth=self.depth,
            limit=self.limit,
            min_power=self.min_power,
            bins=self.bins,
            weighted=not self.unweighted,
        )


@dataclass(frozen=True, slots=True)
class PeriodOptions:
    """Which two periods are compared, beside --since and --until."""

    at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="When the change began: what is before is compared with what is after.",
        ),
    ] = None
    baseline_since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Begin of the period to compare with.  "
            "[default: as long before as the period after lasts]",
        ),
    ] = None
    baseline_until: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Its end.  [default: where the period after begins]"),
    ] = None


@dataclass(frozen=True, slots=True)
class TableOptions:
    """Columns of any table, with --input."""

    time_column: Annotated[
        str | None, typer.Option("--time", metavar="COLUMN", help="With --input: times.")
    ] = None
    value: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="With --input: numbers that changed.")
    ] = None
    count: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="With --input: what the value is divided by."),
    ] = None


@command(
    app,
    "attribution",
    examples="""
    pyflare rca attribution --since 2h
    pyflare rca attribution --metric cost --total --since 24h --baseline-since 8d
    pyflare rca attribution --metric latency_p95 --at 2026-11-24T14:05Z --until 2026-11-24T15:00Z
    pyflare rca attribution --input kpi.csv --time min --at 1566397800 --value failed --count n
    """,
)
def attribution(
    run: Run,
    *,
    options: CauseOptions,
    periods: PeriodOptions,
    input_file: InputFile = None,
    table: TableOptions,
    source: SourceOptions,
    filters: FilterOptions,
) -> None:
    """Where a change between two periods comes from, the most probable cause first.

    Compares the spans from --since (or --at) to --until with those of the period before. Each
    cause says how much of the change it carries, split exactly into what got worse
    (rate_effect) and what grew (mix_effect). With --input the same over any table.
    """
    if input_file is not None:
        answer = _of_table(str(input_file), options, periods, table, filters)
    else:
        given = [name for name in ("time_column", "value", "count") if getattr(table, name)]
        if given:
            flag = given[0].partition("_")[0]
            raise UsageError(
                f"--{flag} without --input", hint="name the table: --input FILE, or leave it out"
            )
        answer = _of_spans(run, options, periods, source, filters)
    _answer(run, answer)


def _of_table(
    path: str,
    options: CauseOptions,
    periods: PeriodOptions,
    table: TableOptions,
    filters: FilterOptions,
) -> Attribution:
    from dataclasses import replace

    from pyflare_analysis.rca.attribution.sources import TableChange, attribute_table
    from pyflare_storage.source import open_source

    if table.time_column is None or table.value is None or periods.at is None:
        missing = "--time" if table.time_column is None else "--value"
        missing = missing if table.time_column is None or table.value is None else "--at"
        raise UsageError(
            f"--input without {missing}",
            hint="--input FILE --time COLUMN --at TIME --value COLUMN [--count COLUMN]",
        )
    change = TableChange(
        time=table.time_column,
        at=periods.at,
        value=table.value,
        count=table.count,
        since=periods.baseline_since or filters.since,
        until=filters.until,
    )
    with open_source(path) as opened:
        where = table_condition(opened, replace(filters, since=None, until=None))
        return attribute_table(
            opened,
            change,
            where=where,
            dimensions=options.dimension or (),
            config=options.config(),
        )


def _of_spans(
    run: Run,
    options: CauseOptions,
    periods: PeriodOptions,
    source: SourceOptions,
    filters: FilterOptions,
) -> Attribution:
    from dataclasses import replace

    from pyflare_analysis.rca.attribution.sources import attribute_spans

    before, after = _ranges(periods, filters, time.time_ns())
    others = replace(filters, since=None, until=None)
    with source.open(run.settings) as opened:
        evaluations = open_evaluations(run, source)
        try:
            return attribute_spans(
                opened,
                options.metric,
                before=before,
                after=after,
                where=filter_condition(opened, others),
                dimensions=options.dimension,
                config=options.config(),
                evaluations=evaluations,
                total=options.total,
            )
        finally:
            if evaluations is not None:
                evaluations.close()


def _ranges(
    periods: PeriodOptions, filters: FilterOptions, now_ns: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the two periods, nanoseconds since 1970."""
    from pyflare_storage.filters import parse_time

    def moment(text: str | None, option: str, default: int) -> int:
        return default if text is None else parse_time(text, now_ns, option=option)

    until = moment(filters.until, "--until", now_ns)
    if periods.at is not None:
        begin = moment(periods.at, "--at", now_ns)
        early = moment(filters.since, "--since", 2 * begin - until)
    else:
        begin = moment(filters.since, "--since", until - DAY_NS)
        early = 2 * begin - until
    end = moment(periods.baseline_until, "--baseline-until", begin)
    early = moment(periods.baseline_since, "--baseline-since", early - begin + end)
    for low, high, names in (
        (begin, until, "--since or --at is not before --until"),
        (early, end, "the baseline does not begin before it ends"),
    ):
        if low >= high:
            raise UsageError(names, hint="give the earlier time first, as 24h, 7d or ISO 8601")
    if end > begin:
        raise UsageError(
            "the baseline ends after the change began",
            hint="end it earlier with --baseline-until, or leave it out",
        )
    return (early, end), (begin, until)


def _answer(run: Run, answer: Attribution) -> None:
    share = answer.unit == "share"
    shown = percent if share else None
    text = percent if share else _plain
    run.note(
        f"{answer.measure} {text(answer.before)} -> {text(answer.after)} {answer.unit}".rstrip()
        + f" ({answer.before_rows:,} rows before, {answer.after_rows:,} after)"
        + ("" if answer.causes else "; no slice stands out as a cause")
    )
    columns = [
        Column("slice", show=slice_text),
        Column("explanatory_power", "explains", percent, cut=False),
        Column("before", show=shown, cut=False),
        Column("after", show=shown, cut=False),
        Column("rate_effect", "by rate", shown, cut=False),
        Column("mix_effect", "by mix", shown, cut=False),
        Column("surprise", cut=False),
    ]
    run.answer(Document("pyflare.rca.attribution/1", answer.to_dict(), "causes", columns))


def _plain(value: object) -> str:
    return f"{float(str(value)):,.6g}"
