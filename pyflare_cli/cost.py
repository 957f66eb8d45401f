"""`pyflare cost`: what calls cost, and what one call would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from pyflare_cli.command import Run, command, new_group
from pyflare_cli.figures import usd
from pyflare_cli.options import FilterOptions, PricesFile, SourceOptions
from pyflare_cli.output import Document
from pyflare_cli.tables import Column
from pyflare_proto.errors import UsageError

if TYPE_CHECKING:
    from pyflare_analysis.cost import CostSummary

app = new_group("What the calls of models cost.")

FIGURES = (
    Column("calls", cut=False),
    Column("unpriced_calls", "unpriced", cut=False),
    Column("input_tokens", "input", cut=False),
    Column("output_tokens", "output", cut=False),
    Column("cache_read_tokens", "cached", cut=False),
    Column("cost_nano_usd", "cost", usd, cut=False),
)


@dataclass(frozen=True, slots=True)
class CallOptions:
    """One call of a model, as `cost price` takes it."""

    input_tokens: Annotated[
        int, typer.Option(metavar="N", help="In total, cache reads and writes included.")
    ] = 0
    output_tokens: Annotated[
        int, typer.Option(metavar="N", help="In total, reasoning included.")
    ] = 0
    cache_read_tokens: Annotated[
        int, typer.Option(metavar="N", help="Part of the input that is read from a cache.")
    ] = 0
    cache_write_tokens: Annotated[
        int, typer.Option(metavar="N", help="Part of the input that is written to a cache.")
    ] = 0
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="Price at that time, ISO 8601.")
    ] = None
    provider: Annotated[str | None, typer.Option(metavar="P", help="Who serves the model.")] = None
    service_tier: Annotated[
        str | None, typer.Option(metavar="TIER", help="default, flex, priority.")
    ] = None
    batch: Annotated[bool, typer.Option("--batch", help="Through a batch interface.")] = False


@command(
    app,
    "summary",
    examples="""
    pyflare cost summary
    pyflare cost summary --by model,day --since 7d
    pyflare cost summary --by user_id --environment production --limit 10
    pyflare cost summary --by attributes.app.tier --format csv
    """,
)
def summary(
    run: Run,
    *,
    by: Annotated[
        str,
        typer.Option(
            metavar="DIM,...",
            help="model, user_id, feature, team, environment, service_name, provider, agent_name, "
            "hour, day, week, month, any column of text, attributes.KEY.",
        ),
    ] = "model",
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", help="Rows at most; the total is over all of them."),
    ] = None,
    timezone: Annotated[
        str, typer.Option(metavar="TZ", help="IANA time zone of days, weeks and months.")
    ] = "UTC",
    unweighted: Annotated[
        bool, typer.Option("--unweighted", help="Count sampled spans once each.")
    ] = False,
    source: SourceOptions,
    filters: FilterOptions,
) -> None:
    """Calls, tokens and cost by any dimension.

    Each call counts once, failed ones too. A call whose cost is unknown is counted as
    unpriced and adds nothing to the cost. Sampled spans count 1/sampling_probability each.
    """
    from pyflare_analysis.cost import summarize

    dimensions = [name.strip() for name in by.split(",") if name.strip()]
    if len(set(dimensions)) != len(dimensions):
        raise UsageError(f"--by {by} names a dimension twice", hint="name each dimension once")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit is {limit}", hint="--limit takes a number from 1")
    with source.open(run.settings) as opened:
        answer = summarize(
            opened,
            by=dimensions,
            filters=filters.filters(),
            weighted=not unweighted,
            limit=limit,
            timezone=timezone,
        )
    _answer(run, answer)


@command(
    app,
    "price",
    examples="""
    pyflare cost price gpt-4o --input-tokens 1000 --output-tokens 200
    pyflare cost price claude-sonnet-4-5 --input-tokens 1000 --cache-read-tokens 800
    pyflare cost price o3 --input-tokens 1000 --output-tokens 200 --at 2025-01-01
    """,
)
def price(
    run: Run,
    *,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model as applications write it.")],
    call: CallOptions,
    prices: PricesFile = None,  # noqa: ARG001 - taken up by the settings
) -> None:
    """What one call of a model costs, and the rates behind it."""
    from datetime import UTC, datetime, timedelta

    from pyflare_storage.filters import parse_time
    from pyflare_storage.prices import PriceBook

    moment = datetime.now(UTC)
    if call.at is not None:
        now_ns = int(moment.timestamp() * 1e9)
        microseconds = parse_time(call.at, now_ns, option="--at") // 1000
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    tokens = {
        "input_tokens": call.input_tokens,
        "output_tokens": call.output_tokens,
        "cache_read_tokens": call.cache_read_tokens,
        "cache_write_tokens": call.cache_write_tokens,
    }
    quote = PriceBook.load(run.settings.prices).quote(
        model,
        **tokens,
        at=moment,
        provider=call.provider,
        service_tier=call.service_tier,
        batch=call.batch,
    )
    body: dict[str, object] = {
        "model": quote.model,
        "resolved_model": quote.resolved_model,
        "provider": quote.provider,
        "at": quote.at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        **tokens,
        "cost_nano_usd": quote.cost_nano_usd,
        "cost_usd": quote.cost_usd,
        "cost_status": quote.status,
        "price_source": quote.price_source,
        "rates_usd_per_million": dict(quote.rates_usd_per_million),
        "request_usd": quote.request_usd,
        "tier_above_tokens": quote.tier_above_tokens,
    }
    run.answer(Document("pyflare.cost.price/1", body, render=lambda _: _price_lines(body)))


def _price_lines(body: dict[str, object]) -> list[str]:
    rates = body["rates_usd_per_million"]
    lines = [
        f"${body['cost_usd']}  {body['model']} at {body['at']}",
        f"  priced as {body['resolved_model']} of {body['provider'] or 'any provider'}",
        f"  {body['cost_status']}, by {body['price_source']}",
    ]
    if isinstance(rates, dict):
        lines += [f"  {name}: ${rate} per million tokens" for name, rate in rates.items()]
    if body["tier_above_tokens"] is not None:
        lines.append(f"  rates of calls above {body['tier_above_tokens']} input tokens")
    return lines


def _answer(run: Run, summary: CostSummary) -> None:
    if summary.sampled and summary.weighted:
        run.note(
            "some spans were sampled: figures are weighted by 1/sampling_probability; "
            "pass --unweighted for the spans as they are stored"
        )
    elif summary.sampled:
        run.note("some spans were sampled: figures are of the stored spans only")
    label = {summary.by[0]: "total"} if summary.by else {}
    run.answer(
        Document(
            "pyflare.cost.summary/1",
            summary.to_dict(),
            "rows",
            [*(Column(name) for name in summary.by), *FIGURES],
            footer=[{**label, **summary.total.to_dict()}],
        )
    )
