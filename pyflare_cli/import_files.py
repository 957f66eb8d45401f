"""`pyflare import`: spans from files."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from pyflare_cli.command import Run, command, single_command
from pyflare_cli.options import DataOptions, PricesFile
from pyflare_cli.output import Document

app = single_command()


@command(
    app,
    "import",
    examples="""
    pyflare import traces.json
    pyflare import exports/*.binpb exports/*.jsonl.gz
    zcat spans.jsonl.gz | pyflare import -
    """,
)
def import_(
    run: Run,
    *,
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Files; - is standard input.")
    ],
    data: DataOptions,
    prices: PricesFile = None,
) -> None:
    """Import files of spans.

    Takes OTLP protobuf, OTLP/JSON, JSON lines (the Collector's file exporter), and gzip of
    each. Importing the same file twice changes nothing.
    """
    del data, prices  # taken up by the settings
    from pyflare_collector.importer import import_files
    from pyflare_storage.dataset import DataDirectory
    from pyflare_storage.prices import PriceBook

    prices_in_effect = PriceBook.load(run.settings.prices)
    report = import_files(files, DataDirectory(run.settings.data), prices_in_effect)
    body = asdict(report)

    def render(_: object) -> list[str]:
        lines = [f"{report.spans_imported:,} spans imported from {_files(report.files)}"]
        lines += [f"{report.spans_known:,} were there already"] if report.spans_known else []
        lines += [f"{item.count:,} rejected: {item.reason}" for item in report.rejections]
        return lines

    run.answer(Document("pyflare.import/1", body, render=render))


def _files(number: int) -> str:
    return f"{number:,} file{'' if number == 1 else 's'}"
