"""`pyflare compact`: few large files of many small ones."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from pyflare_cli.command import Run, command, single_command
from pyflare_cli.options import DataOptions
from pyflare_cli.output import Document

app = single_command()


@command(
    app,
    "compact",
    examples="""
    pyflare compact
    pyflare compact --data /var/lib/pyflare --target-mib 512
    """,
)
def compact(
    run: Run,
    *,
    target_mib: Annotated[
        float, typer.Option("--target-mib", metavar="MIB", help="Size of the merged files.")
    ] = 256,
    data: DataOptions,
) -> None:
    """Merge small files of spans.

    Files of one UTC day become one, sorted by time. Readers may read and the collector may
    write meanwhile: no answer of PyFlare counts a span twice or not at all. Another program
    that reads spans/*.parquet may see both old and new files until the old ones are deleted.
    """
    del data  # taken up by the settings
    from pyflare_storage.compact import compact as merge
    from pyflare_storage.dataset import DataDirectory

    report = merge(DataDirectory(run.settings.data), target_mib=target_mib)
    run.answer(Document("pyflare.compact/1", asdict(report)))
