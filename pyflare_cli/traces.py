"""`pyflare traces`: which requests ran, what happened inside, what is coming in."""

from __future__ import annotations

from typing import Annotated

import typer

from pyflare_cli.command import Run, command, new_group
from pyflare_cli.figures import milliseconds, short_time, usd
from pyflare_cli.options import DataOptions, FilterOptions, SourceOptions
from pyflare_cli.output import Document, Terminal
from pyflare_cli.tables import Column

app = new_group("List, show and follow traces.")

LIST_COLUMNS = (
    Column("trace_id", "trace", cut=False),
    Column("start_time", "start", short_time, cut=False),
    Column("duration_ms", "duration", milliseconds, cut=False),
    Column("service_name", "service"),
    Column("root_name", "name"),
    Column("span_count", "spans", cut=False),
    Column("calls", cut=False),
    Column("error_count", "errors", cut=False),
    Column("input_tokens", "input", cut=False),
    Column("output_tokens", "output", cut=False),
    Column("cost_nano_usd", "cost", usd, cut=False),
)


@command(
    app,
    "list",
    examples="""
    pyflare traces list --since 24h
    pyflare traces list --order cost --limit 10
    pyflare traces list --model gpt-4o --where "status_code = 'error'"
    pyflare traces list --source 'exports/*.parquet' --format csv -o traces.csv
    """,
)
def list_(
    run: Run,
    *,
    order: Annotated[
        str,
        typer.Option(
            metavar="start|duration|cost|tokens|errors|spans", help="Largest or latest first."
        ),
    ] = "start",
    limit: Annotated[
        int, typer.Option(metavar="N", help="Traces at most; 0 for all of them.")
    ] = 50,
    source: SourceOptions,
    filters: FilterOptions,
) -> None:
    """List traces with their duration, calls, errors, tokens and cost.

    A trace is listed when one of its spans passes the filters; its figures are over all of
    its spans.
    """
    from typing import cast

    from pyflare_analysis.traces import TraceOrder, list_traces

    with source.open(run.settings) as opened:
        traces = list_traces(
            opened,
            filters=filters.filters(),
            limit=None if limit == 0 else limit,
            order=cast("TraceOrder", order),
        )
        if not traces and not opened.count():
            run.note(f"no spans in {opened.url}: pyflare import or pyflare collect brings some in")
    if limit and len(traces) == limit:
        run.note(f"the first {limit} traces; pass --limit 0 for all of them")
    body = {"traces": [trace.to_dict() for trace in traces]}
    run.answer(Document("pyflare.traces.list/1", body, "traces", LIST_COLUMNS))


@command(
    app,
    "show",
    examples="""
    pyflare traces show 4bf92f3577b34da6a3ce929d0e0e4736
    pyflare traces show 4bf92f
    pyflare traces show 4bf92f --format json
    """,
)
def show(
    run: Run,
    *,
    trace_id: Annotated[
        str, typer.Argument(metavar="TRACE_ID", help="Its id, or the first digits of it.")
    ],
    source: SourceOptions,
) -> None:
    """Show one trace: a tree with timings, tokens and costs, or every span with all it holds.

    JSON holds the full span records, parents before children, attributes with their types.
    """
    from pyflare_analysis.traces import show_trace

    with source.open(run.settings) as opened:
        trace = show_trace(opened, trace_id)

    def render(terminal: Terminal) -> list[str]:
        from pyflare_cli.trace_view import trace_lines

        return trace_lines(trace, terminal)

    run.answer(Document("pyflare.traces.show/1", trace.to_dict(), "spans", render=render))


@command(
    app,
    "tail",
    examples="""
    pyflare traces tail
    pyflare traces tail --where "status_code = 'error'"
    pyflare traces tail --collector http://127.0.0.1:4318
    pyflare traces tail --data /var/lib/pyflare --format jsonl > spans.jsonl
    """,
)
def tail(
    run: Run,
    *,
    last: Annotated[
        int, typer.Option("--last", metavar="N", help="Begin with the last N spans.")
    ] = 10,
    every: Annotated[
        float, typer.Option("--every", metavar="SECONDS", help="Seconds between two looks.")
    ] = 1.0,
    collector: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Follow a running collector instead, by its HTTP address."
        ),
    ] = None,
    data: DataOptions,  # noqa: ARG001 - taken up by the settings
    filters: FilterOptions,
) -> None:
    """Follow the data directory or a collector: print spans as they come, until Ctrl-C.

    The directory shows spans when their file is there, a collector at once, with the token of
    receiver.auth.bearer_tokens where it asks for one. A terminal gets a line a span, a pipe
    the span records as JSON lines.
    """
    import time

    from pyflare_analysis.tail import follow, follow_collector
    from pyflare_cli.trace_view import span_line
    from pyflare_storage.dataset import DataDirectory

    if collector is not None:
        tokens = run.settings.collector().receiver.auth.bearer_tokens
        token = tokens[0] if tokens else None
        live = follow_collector(collector, token=token, filters=filters.filters())
        run.output.stream(live, span_line)
        run.note(f"the collector at {collector} has ended")
        return
    batches = follow(
        DataDirectory(run.settings.data),
        filters=filters.filters(),
        last=last,
        wait=lambda: time.sleep(max(every, 0.05)),
    )
    run.output.stream(batches, span_line)
