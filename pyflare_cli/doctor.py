"""`pyflare doctor`: what PyFlare needs, checked on this machine."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from pyflare_cli.command import Run, command, single_command
from pyflare_cli.figures import milliseconds
from pyflare_cli.options import SourceOptions
from pyflare_cli.output import Document
from pyflare_cli.settings import Settings
from pyflare_cli.tables import Column
from pyflare_proto.errors import ExitCode, PyFlareError

app = single_command()

EXTRAS: dict[str, tuple[str, ...]] = {
    "cli": ("typer", "rich", "yaml", "platformdirs"),
    "storage": ("polars", "pyarrow", "numpy", "genai_prices"),
    "collector": ("numba", "grpc", "google.protobuf", "google.rpc", "aiohttp", "orjson"),
    "clickhouse": ("clickhouse_connect",),
    "chdb": ("chdb",),
    "grpc": ("opentelemetry.exporter.otlp.proto.grpc",),
}
"""Modules that each extra of the distribution brings."""

REQUIRED = ("cli", "storage", "collector")
"""Extras without which `pyflare demo` does not run."""

SMALLEST_PYTHON = (3, 11)

State = Literal["ok", "failed", "absent"]


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found."""

    check: str
    """What was looked at."""
    state: State
    """`absent`: not there, and not needed."""
    detail: str
    """What was found."""
    hint: str | None
    """What mends it."""
    ms: float
    """How long the check took, milliseconds."""


@command(
    app,
    "doctor",
    examples="""
    pyflare doctor
    pyflare doctor --source clickhouse://default@localhost:8123/default
    pyflare doctor --quick --format json
    """,
)
def doctor(
    run: Run,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Leave the compiled kernels out.")] = False,
    source: SourceOptions,
) -> None:
    """Check what PyFlare needs on this machine.

    Python, the extras, settings, the data directory, the collector's ports, the compiled
    kernels, and the source. Exits 0 when all that is needed is there, else 3.
    """
    checks = list(_run_checks(run.settings, source.url(run.settings), quick=quick))
    healthy = all(check.state != "failed" for check in checks)
    body = {"healthy": healthy, "checks": [asdict(check) for check in checks]}
    columns = [
        Column("check", cut=False),
        Column("state", cut=False),
        Column("ms", "time", milliseconds, cut=False),
        Column("detail"),
        Column("hint"),
    ]
    run.answer(Document("pyflare.doctor/1", body, "checks", columns))
    if not healthy:
        raise typer.Exit(int(ExitCode.UNAVAILABLE))


Probe = Callable[[], tuple[State, str, str | None]]


def _run_checks(settings: Settings, source: str, *, quick: bool) -> Iterator[Check]:
    yield _timed("python", _python)
    for extra, modules in EXTRAS.items():
        yield _timed(f"extra {extra}", partial(_extra, extra, modules))
    yield _timed("settings", partial(_settings, settings))
    yield _timed("data directory", partial(_data, settings.data))
    for name in ("grpc", "http"):
        endpoint = str(settings[f"receiver.{name}.endpoint"].value)
        yield _timed(f"port {name}", partial(_port, endpoint))
    if not quick:
        yield _timed("kernels", _kernels)
    yield _timed("source", partial(_source, settings, source))


def _timed(name: str, probe: Probe) -> Check:
    start = time.perf_counter()
    try:
        state, detail, hint = probe()
    except PyFlareError as error:
        state, detail, hint = "failed", error.message, error.hint
    except ImportError as error:
        state, detail, hint = "failed", str(error), "pip install 'pyflare-suite[all]'"
    elapsed = round((time.perf_counter() - start) * 1000, 3)
    return Check(name, state, detail, hint, elapsed)


def _python() -> tuple[State, str, str | None]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info[:2] < SMALLEST_PYTHON:
        return "failed", version, "install Python 3.11 or newer"
    return "ok", f"{version} at {sys.executable}", None


def _extra(extra: str, modules: tuple[str, ...]) -> tuple[State, str, str | None]:
    from importlib.util import find_spec

    missing = []
    for module in modules:
        try:
            found = find_spec(module) is not None
        except ModuleNotFoundError:
            found = False
        if not found:
            missing.append(module)
    if not missing:
        return "ok", ", ".join(modules), None
    state: State = "failed" if extra in REQUIRED else "absent"
    return state, f"missing: {', '.join(missing)}", f"pip install 'pyflare-suite[{extra}]'"


def _settings(settings: Settings) -> tuple[State, str, str | None]:
    settings.collector()
    changed = sorted({given.source for _, given in settings.items() if given.source != "default"})
    return "ok", ", ".join(changed) if changed else "all at their defaults", None


def _data(directory: Path) -> tuple[State, str, str | None]:
    """Look for a place that takes files, without making anything that was not there."""
    place = directory
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        return "failed", f"{place} is no directory", "choose another with --data DIR"
    if not os.access(place, os.W_OK | os.X_OK):
        return "failed", f"cannot write to {place}", "choose another with --data DIR"
    if place != directory:
        return "ok", f"{directory} will be made in {place.resolve()}", None
    return "ok", f"{directory} takes files", None


def _port(endpoint: str) -> tuple[State, str, str | None]:
    if not endpoint:
        return "absent", "switched off", None
    host, _, port = endpoint.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError as error:
            if _answers(host, int(port)):
                return "ok", f"{endpoint} is taken by a running server", None
            return (
                "failed",
                f"{endpoint}: {error.strerror}",
                "collect --grpc and --http take others",
            )
    return "ok", f"{endpoint} is free", None


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False


def _kernels() -> tuple[State, str, str | None]:
    from pyflare_collector.warmup import warm_up
    from pyflare_storage.prices import PriceBook

    warm_up(PriceBook.load(None))
    return "ok", "compiled and loaded", None


def _source(settings: Settings, url: str) -> tuple[State, str, str | None]:
    from pyflare_storage.source import open_source

    if settings["source"].value is None and not Path(url).exists():
        return "absent", f"no data at {url} yet", "pyflare import FILE... or pyflare collect"
    with open_source(url, password=settings.clickhouse_password) as source:
        return "ok", f"{source.count():,} spans in {source.url}", None
