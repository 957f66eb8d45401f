"""`pyflare load`: spans from one place to another."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from pyflare_cli.command import Run, command, single_command
from pyflare_cli.options import SourceOptions
from pyflare_cli.output import Document

app = single_command()


@command(
    app,
    "load",
    examples="""
    pyflare load --source ./pyflare-data --to chdb:///tmp/spans
    pyflare load --source clickhouse://default@localhost:8123/default --to ./copy
    """,
)
def load(
    run: Run,
    *,
    to: Annotated[
        str,
        typer.Option("--to", metavar="URL", help="Data directory, clickhouse://... or chdb:///..."),
    ],
    source: SourceOptions,
) -> None:
    """Copy spans between Parquet and ClickHouse.

    Copying twice changes nothing. The password of a ClickHouse server comes from
    PYFLARE_CLICKHOUSE_PASSWORD.
    """
    from pyflare_storage.load import load as copy

    report = copy(source.url(run.settings), to, password=run.settings.clickhouse_password)
    body = asdict(report)
    run.answer(Document("pyflare.load/1", body))
