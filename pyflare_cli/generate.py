"""`pyflare generate`: a workload of known truth, sent or written."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pyflare_cli.command import Run, command, single_command
from pyflare_cli.output import Document, Output
from pyflare_proto.errors import UsageError

if TYPE_CHECKING:
    from pyflare_collector.workload import SendReport, Traffic

app = single_command()

BATCH_SPANS = 512


@command(
    app,
    "generate",
    examples="""
    pyflare generate --spans 10000 --seed 7 --otlp-endpoint http://127.0.0.1:4318
    pyflare generate --spans 50000 --fault error-spike --fault cost-jump -o day.jsonl.gz
    pyflare generate --like requests.csv --otlp-endpoint grpc://127.0.0.1:4317 --rate 5000
    """,
)
def generate(
    run: Run,
    *,
    spans: Annotated[
        int | None,
        typer.Option(metavar="N", help="Spans; with --like rows at most.  [default: 10000]"),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="S", help="The same seed, the same spans.")] = 0,
    otlp_endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="http://HOST:4318 sends OTLP/HTTP, grpc://HOST:4317 OTLP/gRPC."
        ),
    ] = None,
    rate: Annotated[float | None, typer.Option(metavar="R", help="Spans a second at most.")] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Plant a fault: slice-error, slice-error-2, slice-error-3, error-spike, "
            "latency-creep, quality-drop, cost-jump, night-pattern, bad-user-segment, input-drift, "
            "runaway-agent.",
        ),
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="Take times and tokens from TIMESTAMP,ContextTokens,GeneratedTokens.",
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(metavar="MODEL", help="Model of the calls of --like.")
    ] = "gpt-4o",
    hours: Annotated[float, typer.Option(metavar="H", help="Length of the simulated time.")] = 24,
    end: Annotated[
        str | None, typer.Option(metavar="TIME", help="Its end, ISO 8601.  [default: now]")
    ] = None,
) -> None:
    """Make a workload of known truth.

    Sends it over OTLP or writes it to the file of -o (.jsonl is OTLP/JSON lines, .binpb and
    .pb are protobuf, .gz compresses). The report on stdout says what was sent and what an
    analysis must find: calls, token sums, cost, and the slice and window of each fault.
    """
    from pyflare_collector.workload import encode, send, write_file

    path = run.output.path
    if (otlp_endpoint is None) == (path is None):
        raise UsageError(
            "no destination" if path is None else "both --otlp-endpoint and -o",
            hint="give one of --otlp-endpoint URL and -o FILE",
        )
    if rate is not None and rate <= 0:
        raise UsageError(f"--rate is {rate}", hint="give a number above 0")
    if like is not None and fault:
        raise UsageError(
            "--fault with --like", hint="faults are planted into generated traffic only"
        )
    traffic = _traffic(
        like, spans=spans, seed=seed, model=model, end=end, hours=hours, faults=fault or []
    )
    requests = encode(traffic, batch_size=BATCH_SPANS)
    if otlp_endpoint is not None:
        report = send(requests, otlp_endpoint, rate=rate)
    else:
        report = write_file(requests, path or Path())
    _answer(run, traffic, report)


def _traffic(
    like: Path | None,
    *,
    spans: int | None,
    seed: int,
    model: str,
    end: str | None,
    hours: float,
    faults: list[str],
) -> Traffic:
    from pyflare_collector.workload import TrafficConfig, make_traffic, traffic_like
    from pyflare_storage.filters import parse_time

    if like is not None:
        return traffic_like(like, model=model, seed=seed, limit=spans)
    now_ns = time.time_ns()
    end_ns = now_ns if end is None else parse_time(end, now_ns, option="--end")
    wanted = 10_000 if spans is None else spans
    return make_traffic(
        TrafficConfig(wanted, seed=seed, end_time_ns=end_ns, hours=hours, faults=faults)
    )


def _answer(run: Run, traffic: Traffic, report: SendReport) -> None:
    body = {
        "requests": report.requests,
        "spans_sent": report.spans_sent,
        "spans_rejected": report.spans_rejected,
        "retries": report.retries,
        "truth": traffic.truth(),
    }

    def render(_: object) -> list[str]:
        truth = traffic.truth()
        lines = [
            f"{report.spans_sent:,} spans in {report.requests:,} requests",
            (
                f"{truth['traces']:,} traces, {truth['calls']:,} calls, "
                f"{truth['failed_calls']:,} of them failed"
            ),
            f"{truth['input_tokens']:,} tokens in, {truth['output_tokens']:,} out",
            f"${truth['cost_nano_usd'] / 1e9:,.6f} by the public price list",
        ]
        return lines + [
            f"planted {f['fault']}: {f['metric']} {f['slice']}" for f in truth["faults"]
        ]

    Output(run.settings.format, no_color=run.output.no_color).write(
        Document("pyflare.generate/1", body, render=render)
    )
