"""`pyflare config`: settings with their source, a check of files, the schema of files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from pyflare_cli.command import Run, command, new_group
from pyflare_cli.declarations import all_settings, describe
from pyflare_cli.options import DataDir, PricesFile, SourceUrl
from pyflare_cli.output import Document, json_text
from pyflare_cli.settings import check_file, masked
from pyflare_cli.tables import Column
from pyflare_cli.values import json_schema, plain

app = new_group("Show, validate and describe settings.")


@command(
    app,
    "show",
    examples="""
    pyflare config show
    pyflare config show --format json
    PYFLARE_SAMPLER__PROBABILITY=0.1 pyflare config show --changed
    """,
)
def show(
    run: Run,
    *,
    data: DataDir = None,  # noqa: ARG001 - taken up by the settings
    source: SourceUrl = None,  # noqa: ARG001 - taken up by the settings
    prices: PricesFile = None,  # noqa: ARG001 - taken up by the settings
    changed: Annotated[
        bool, typer.Option("--changed", help="Only settings that are not at their default.")
    ] = False,
) -> None:
    """Print each setting with its value and where the value comes from.

    Secrets are masked, and so are passwords inside URLs.
    """
    rows = [
        {
            "key": item.name,
            "value": plain(masked(item, given.value)),
            "source": given.source,
            "env": item.env,
            "flag": item.flag,
        }
        for item, given in run.settings.items()
        if not (changed and given.source == "default")
    ]
    columns = [
        Column("key", cut=False),
        Column("value", show=_shown),
        Column("source"),
        Column("env", "environment variable"),
    ]
    run.answer(Document("pyflare.config.show/1", {"settings": rows}, "settings", columns))


@command(
    app,
    "validate",
    examples="""
    pyflare config validate
    pyflare config validate production.yaml
    """,
)
def validate(
    run: Run,
    *,
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Default: the files in effect.")
    ] = None,
) -> None:
    """Check a configuration file: keys, types, ranges, variables.

    Exits 0 when all is well and 2 with the file, the key and the nearest known key when not.
    """
    if file is not None:
        check_file(file)
        files = [file]
    else:
        run.settings.collector()
        _ = run.settings.webhooks
        files = list(run.settings.files)
    body = {"valid": True, "files": [str(path) for path in files]}
    run.answer(
        Document(
            "pyflare.config.validate/1",
            body,
            render=lambda _: (
                [f"{path}: valid" for path in files] or ["no file; defaults are valid"]
            ),
        )
    )


@command(
    app,
    "schema",
    examples="""
    pyflare config schema -o pyflare.schema.json
    """,
)
def schema(run: Run) -> None:
    """Print the JSON Schema of pyflare.yaml, for editors and checks."""
    body = file_schema()
    run.answer(
        Document(
            "pyflare.config.schema/1",
            body,
            render=lambda _: json_text(body, indent=2).splitlines(),
        )
    )


def file_schema() -> dict[str, object]:
    """Return the JSON Schema of the configuration file, each key with its meaning."""
    root: dict[str, object] = {"type": "object", "properties": {}, "additionalProperties": False}
    for name, item in all_settings().items():
        *parents, leaf = name.split(".")
        node = root
        for parent in parents:
            node = _child(node, parent)
        properties = node["properties"]
        assert isinstance(properties, dict)  # noqa: S101 - made so above
        entry = json_schema(item.type)
        if describe(name):
            entry["description"] = describe(name)
        if item.default is not None:
            entry["default"] = plain(item.default)
        properties[leaf] = entry
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pyflare.yaml",
        **root,
    }


def _child(node: dict[str, object], name: str) -> dict[str, object]:
    properties = node["properties"]
    assert isinstance(properties, dict)  # noqa: S101 - made so by the caller
    child = properties.setdefault(
        name, {"type": "object", "properties": {}, "additionalProperties": False}
    )
    assert isinstance(child, dict)  # noqa: S101 - made so above
    return child


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping | list):
        return json_text(value)
    return str(value) if value != "" else '""'
