"""Options that many commands share, each declared once, in groups."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pyflare_proto.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyflare_cli.settings import Settings
    from pyflare_storage.filters import Filters
    from pyflare_storage.source import Source

__all__ = [
    "SETTING_OPTIONS",
    "CommonOptions",
    "DataDir",
    "DataOptions",
    "FilterOptions",
    "OutputOptions",
    "PricesFile",
    "SourceOptions",
    "SourceUrl",
]

SETTING_OPTIONS = {
    "data": "data",
    "source": "source",
    "format": "format",
    "prices": "prices",
    "no_color": "no_color",
    "grpc": "receiver.grpc.endpoint",
    "http": "receiver.http.endpoint",
    "sampler": "sampler.strategy",
    "durability": "storage.durability",
    "clickhouse": "storage.clickhouse.url",
    "kafka": "kafka.brokers",
}
"""Options by parameter name that set a setting."""

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Data directory.  [env: PYFLARE_DATA; default: ./pyflare-data]",
    ),
]
SourceUrl = Annotated[
    str | None,
    typer.Option(
        "--source",
        metavar="URL",
        help="Parquet file, folder or glob, clickhouse://... or chdb:///...  "
        "[env: PYFLARE_SOURCE; default: the data directory]",
    ),
]
PricesFile = Annotated[
    Path | None,
    typer.Option(
        "--prices",
        metavar="FILE",
        help="Your own model prices, before the built-in list.  [env: PYFLARE_PRICES]",
    ),
]


@dataclass(frozen=True, slots=True)
class CommonOptions:
    """Options of every command."""

    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="Configuration file.  [env: PYFLARE_CONFIG; default: ./pyflare.yaml]",
        ),
    ] = None
    no_color: Annotated[bool, typer.Option("--no-color", help="No colour.  [env: NO_COLOR]")] = (
        False
    )
    debug: Annotated[
        bool, typer.Option("--debug", help="Show a traceback on errors.  [env: PYFLARE_DEBUG]")
    ] = False


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """Form and place of the answer."""

    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="table|json|jsonl|csv|markdown",
            help="Form of the answer.  [env: PYFLARE_FORMAT; "
            "default: table on a terminal, else json]",
        ),
    ] = None
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="PATH", help="Write the answer to a file."),
    ] = None


@dataclass(frozen=True, slots=True)
class DataOptions:
    """The data directory, for commands that write."""

    data: DataDir = None


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """Where an analysis reads."""

    data: DataDir = None
    source: SourceUrl = None

    def url(self, settings: Settings) -> str:
        """Return the source in effect; `--data` on the command line goes before PYFLARE_SOURCE."""
        if self.source is None and self.data is not None:
            return str(settings.data)
        return settings.source

    def open(self, settings: Settings) -> Source:
        """Open the source in effect.

        Raises:
            NotFoundError: there is nothing at that place.
            SourceUnavailableError: the server or object store does not answer.
        """
        from pyflare_storage.source import open_source

        url = self.url(settings)
        if url == str(settings.data) and not settings.data.exists():
            raise NotFoundError(
                f"no data directory {url}",
                hint="pyflare import FILE... or pyflare collect brings spans in; "
                "--data DIR or --source URL reads others",
            )
        return open_source(url, password=settings.clickhouse_password)


@dataclass(frozen=True, slots=True)
class FilterOptions:
    """Which spans an analysis looks at; all given conditions hold."""

    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Started at or after: 24h, 7d ago or ISO 8601."),
    ] = None
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Started before: 24h, 7d ago or ISO 8601.")
    ] = None
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Model that answered or was asked for; again for alternatives."
        ),
    ] = None
    service: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Service; again for alternatives.")
    ] = None
    environment: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Environment; again for alternatives.")
    ] = None
    feature: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Feature; again for alternatives.")
    ] = None
    user: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="User; again for alternatives.")
    ] = None
    where: Annotated[
        str | None,
        typer.Option(
            metavar="EXPR",
            help="Condition on any column, such as "
            "\"duration_ms > 1000 and status_code = 'error'\".",
        ),
    ] = None

    def filters(self, columns: Mapping[str, str] | None = None) -> Filters:
        """Return the filters as the storage layer takes them.

        Args:
            columns: logical type of each column that `--where` may name; the span record's
                when None.

        Raises:
            UsageError: a time or an expression that cannot be read.
        """
        from pyflare_storage.filters import Filters

        return Filters.parse(
            now_ns=time.time_ns(),
            since=self.since,
            until=self.until,
            model=self.model or (),
            service=self.service or (),
            environment=self.environment or (),
            feature=self.feature or (),
            user=self.user or (),
            where=self.where,
            columns=columns,
        )
