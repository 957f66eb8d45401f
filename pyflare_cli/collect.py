"""`pyflare collect`: the live collector."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Annotated

import typer

from pyflare_cli import diagnostics
from pyflare_cli.command import Run, command, single_command
from pyflare_cli.options import DataOptions, PricesFile

app = single_command()


@dataclass(frozen=True, slots=True)
class CollectOptions:
    """Options that set one key of the collector's configuration each."""

    grpc: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="OTLP/gRPC; port 0 picks one; '' is off.  [default: 127.0.0.1:4317]",
        ),
    ] = None
    http: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="OTLP/HTTP; port 0 picks one; '' is off.  [default: 127.0.0.1:4318]",
        ),
    ] = None
    sampler: Annotated[
        str | None,
        typer.Option(
            metavar="STRATEGY",
            help="always_on, always_off, probabilistic, rate_limiting, parent_based, composite.  "
            "[default: always_on]",
        ),
    ] = None
    durability: Annotated[
        str | None,
        typer.Option(
            metavar="fsync|os|none",
            help="Answer when spans are on the disk, with the system, or queued.  [default: fsync]",
        ),
    ] = None
    kafka: Annotated[
        str | None,
        typer.Option(metavar="BROKERS", help="Refused: this version writes Parquet only."),
    ] = None
    clickhouse: Annotated[
        str | None, typer.Option(metavar="URL", help="Refused: `pyflare load` copies there.")
    ] = None


@command(
    app,
    "collect",
    examples="""
    pyflare collect
    pyflare collect --grpc 127.0.0.1:0 --http 127.0.0.1:0 --data /var/lib/pyflare
    PYFLARE_SAMPLER__PROBABILITY=0.1 pyflare collect --sampler probabilistic
    """,
)
def collect(
    run: Run,
    *,
    options: CollectOptions,
    data: DataOptions,
    prices: PricesFile = None,
) -> None:
    """Receive spans over OTLP and keep them.

    Serves OTLP/gRPC and OTLP/HTTP (protobuf and JSON, gzip), and /health, /metrics and
    /status over HTTP. The line `ready grpc=HOST:PORT http=HOST:PORT` on stderr says that it
    serves. SIGTERM and Ctrl-C stop it after everything that was taken is in place; a second
    one stops it at once, and the next start recovers what was acknowledged.
    """
    del options, data, prices  # taken up by the settings
    from pyflare_collector.app import run_collector, stop_on_signals
    from pyflare_storage.dataset import DataDirectory
    from pyflare_storage.prices import PriceBook

    diagnostics.install_log_handler()
    config = run.settings.collector()
    stop = threading.Event()
    with stop_on_signals(stop):
        run_collector(
            config,
            DataDirectory(run.settings.data),
            lambda grpc_at, http_at: diagnostics.progress_line(
                f"ready grpc={grpc_at} http={http_at}"
            ),
            stop,
            prices=PriceBook.load(run.settings.prices),
        )
