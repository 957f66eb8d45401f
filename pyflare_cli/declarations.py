"""The one list of settings: name, environment variable, type, default, meaning.

Flags, the environment, `pyflare.yaml`, `pyflare config` and docs/configuration.md
all come from it. General settings are declared here; those of the collector are
the dataclasses of `pyflare_collector.config`, one setting for each leaf, named by
its dotted path.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Iterator
from functools import cache
from typing import Literal

from pyflare_cli.values import field_types
from pyflare_collector.config import CollectorConfig
from pyflare_storage.webhooks import Webhook

__all__ = ["COLLECTOR_SECTIONS", "GENERAL", "Format", "Setting", "all_settings", "setting"]

Format = Literal["table", "json", "jsonl", "csv", "markdown"]


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """One setting."""

    name: str
    """Dotted name, as in the configuration file."""
    env: str
    """Environment variable."""
    type: object
    """Declared type (see `pyflare_cli.values`)."""
    default: object
    """Value when nothing sets it; None: see `doc`."""
    doc: str
    """What it does, one or two sentences."""
    secret: bool = False
    """Masked wherever settings are shown, never accepted as a flag."""
    flag: str | None = None
    """The flag that sets it, None when there is none."""


GENERAL: tuple[Setting, ...] = (
    Setting(
        "data",
        "PYFLARE_DATA",
        str,
        "./pyflare-data",
        "Data directory: where collect and import write and, by default, every analysis reads. "
        "In a file, storage.parquet.directory means the same.",
        flag="--data",
    ),
    Setting(
        "source",
        "PYFLARE_SOURCE",
        str,
        None,
        "Where analyses read: a Parquet file, folder or glob (local, s3://, gs://, az://), "
        "clickhouse://user@host:8123/database or chdb:///folder. Default: the data directory.",
        flag="--source",
    ),
    Setting(
        "format",
        "PYFLARE_FORMAT",
        Format,
        None,
        "Form of the answer. Default: table on a terminal, json when piped.",
        flag="--format",
    ),
    Setting(
        "prices",
        "PYFLARE_PRICES",
        str,
        None,
        "File with your own model prices (YAML or JSON), which go before the built-in list.",
        flag="--prices",
    ),
    Setting(
        "no_color",
        "PYFLARE_NO_COLOR",
        bool,
        False,
        "No colour on a terminal. NO_COLOR and TERM=dumb do the same.",
        flag="--no-color",
    ),
    Setting(
        "alerts.webhooks",
        "PYFLARE_ALERTS__WEBHOOKS",
        tuple[Webhook, ...],
        (),
        "Where alerts are posted as JSON: a list of {url, secret, timeout_seconds}; with a secret "
        "each request is signed (Standard Webhooks).",
        secret=True,
    ),
)
"""Settings of all commands."""

COLLECTOR_SECTIONS: tuple[str, ...] = tuple(
    field.name for field in dataclasses.fields(CollectorConfig)
)
"""Top-level sections of the configuration file that belong to the collector."""

_ENV = {"storage.clickhouse.password": "PYFLARE_CLICKHOUSE_PASSWORD"}
"""Environment variables that are not derived from the dotted name."""

_FLAGS = {
    "receiver.grpc.endpoint": "--grpc",
    "receiver.http.endpoint": "--http",
    "sampler.strategy": "--sampler",
    "storage.durability": "--durability",
    "storage.clickhouse.url": "--clickhouse",
    "kafka.brokers": "--kafka",
}
"""Flags of `pyflare collect` that set one key."""


@cache
def all_settings() -> dict[str, Setting]:
    """Return every setting by name: the general ones, then the collector's, in file order."""
    found = {item.name: item for item in GENERAL}
    for item in _leaves(CollectorConfig, ""):
        found[item.name] = item
    return found


def setting(name: str) -> Setting:
    """Return the setting called `name`.

    Raises:
        KeyError: there is no such setting.
    """
    return all_settings()[name]


@cache
def documentation(cls: type) -> dict[str, str]:
    """Return the docstring under each field of a dataclass, read from its source."""
    try:
        source = textwrap.dedent(inspect.getsource(cls))
    except OSError:
        return {}  # installed without sources: settings keep their names and types
    body = ast.parse(source).body[0]
    found: dict[str, str] = {}
    name = None
    for node in body.body if isinstance(body, ast.ClassDef) else ():
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and name:
            found[name] = " ".join(str(node.value.value).split())
            name = None
    return found


def _leaves(cls: type, prefix: str) -> Iterator[Setting]:
    hints = field_types(cls)
    for field in dataclasses.fields(cls):
        name = f"{prefix}{field.name}"
        declared = hints[field.name]
        if isinstance(declared, type) and dataclasses.is_dataclass(declared):
            yield from _leaves(declared, f"{name}.")
            continue
        if field.default is not dataclasses.MISSING:
            default = field.default
        else:
            assert field.default_factory is not dataclasses.MISSING  # noqa: S101 - every setting has a default
            default = field.default_factory()
        yield Setting(
            name=name,
            env=_ENV.get(name, "PYFLARE_" + name.upper().replace(".", "__")),
            type=declared,
            default=default,
            doc="",
            secret=bool(field.metadata.get("secret")),
            flag=_FLAGS.get(name),
        )


def describe(name: str) -> str:
    """Return what a setting does; for the collector's, the docstring under its field."""
    item = setting(name)
    if item.doc:
        return item.doc
    cls: type = CollectorConfig
    *parents, leaf = name.split(".")
    for parent in parents:
        inner = field_types(cls)[parent]
        assert isinstance(inner, type)  # noqa: S101 - sections are dataclasses
        cls = inner
    return documentation(cls).get(leaf, "")
