"""The commands by name, each loaded when it is called.

`pyflare --help` must not import what the commands need, so the list here holds a
name, a summary and a module; a test compares the summaries with the commands'
own help.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

from pyflare_cli.output import Output

__all__ = ["COMMANDS", "CommandEntry", "build", "invoke"]


class CommandEntry(NamedTuple):
    """One command or group of commands."""

    module: str
    """Module under `pyflare_cli` that holds it as `app`."""
    summary: str
    """First sentence of its help."""
    panel: str
    """Heading in `pyflare --help`."""


COLLECT = "Collect and move"
ANSWER = "Answers"
SETUP = "Set up"

COMMANDS: dict[str, CommandEntry] = {
    "demo": CommandEntry("demo", "Send a day of synthetic traffic and answer from it.", SETUP),
    "init": CommandEntry("init", "Write a commented pyflare.yaml.", SETUP),
    "doctor": CommandEntry("doctor", "Check what PyFlare needs on this machine.", SETUP),
    "config": CommandEntry("config", "Show, validate and describe settings.", SETUP),
    "help": CommandEntry(
        "help_topics", "Explain a topic: exit-codes, formats, filters, settings.", SETUP
    ),
    "collect": CommandEntry("collect", "Receive spans over OTLP and keep them.", COLLECT),
    "import": CommandEntry("import_files", "Import files of spans.", COLLECT),
    "load": CommandEntry("load", "Copy spans between Parquet and ClickHouse.", COLLECT),
    "compact": CommandEntry("compact", "Merge small files of spans.", COLLECT),
    "generate": CommandEntry("generate", "Make a workload of known truth.", COLLECT),
    "traces": CommandEntry("traces", "List, show and follow traces.", ANSWER),
    "cost": CommandEntry("cost", "What the calls of models cost.", ANSWER),
    "drift": CommandEntry("drift", "What changed between a reference and what came later.", ANSWER),
    "rca": CommandEntry(
        "rca", "Which segment fails, since when, and what the failures say.", ANSWER
    ),
    "alerts": CommandEntry("alerts", "What somebody should look at.", ANSWER),
}
"""Every command, in the order of the help."""

_ROOT_HELP = """Observability for LLM applications without a server to run.

Collect OpenTelemetry spans into files you own, and ask them questions.

\b
Examples:
  $ pyflare demo
  $ pyflare collect
  $ pyflare cost summary --by model
  $ pyflare traces list --since 24h
"""


class _Commands(MutableMapping[str, Any]):
    """The commands as a mapping that imports a command when it is looked up."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - typer's class moved between versions
        if name not in self._loaded:
            entry = COMMANDS[name]
            module = importlib.import_module(f"pyflare_cli.{entry.module}")
            command = typer.main.get_command(module.app)
            command.name = name
            self._loaded[name] = command
        return self._loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:  # noqa: ANN401 - as above
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        self._loaded.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*COMMANDS, *self._loaded)))

    def __len__(self) -> int:
        return len(COMMANDS)


class LazyGroup(TyperGroup):
    """The root: its help reads the list above, not the commands."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - passed on to typer
        settings["commands"] = None
        super().__init__(**settings)
        self.commands = _Commands()

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401, ARG002 - typer's signature
        """Write the commands under their headings without importing them."""
        for panel in dict.fromkeys(entry.panel for entry in COMMANDS.values()):
            rows = [
                (name, entry.summary) for name, entry in COMMANDS.items() if entry.panel == panel
            ]
            with formatter.section(panel):
                formatter.write_dl(rows)


def build() -> typer.Typer:
    """Return the application."""
    app = typer.Typer(
        cls=LazyGroup,
        help=_ROOT_HELP,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        invoke_without_command=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def root(
        context: typer.Context,
        *,
        version: Annotated[
            bool, typer.Option("--version", help="Show the version and exit.", is_eager=True)
        ] = False,
    ) -> None:
        if version:
            Output().write_text(f"pyflare {_version()}\n")
            raise typer.Exit
        if context.invoked_subcommand is None:
            Output().write_text(f"{context.get_help()}\n")
            raise typer.Exit

    return app


def invoke(arguments: Sequence[str]) -> int:
    """Run one command line; errors are raised for `diagnostics` to tell.

    Returns:
        The exit code of commands that end by `typer.Exit`, else 0.
    """
    command = typer.main.get_command(build())
    result = command.main(
        args=_hoisted(list(arguments)), prog_name="pyflare", standalone_mode=False
    )
    return result if isinstance(result, int) else 0


_WITH_VALUE = frozenset(
    {"--config", "--data", "--source", "--format", "--output", "-o", "--prices"}
)
_WITHOUT_VALUE = frozenset({"--debug", "--no-color"})


def _hoisted(words: list[str]) -> list[str]:
    """Move common options that stand before the command behind it, where they are declared."""
    early: list[str] = []
    position = 0
    while position < len(words):
        name, separator, _ = words[position].partition("=")
        if name in _WITHOUT_VALUE or (name in _WITH_VALUE and separator):
            taken = 1
        elif name in _WITH_VALUE:
            taken = 2
        else:
            break
        early += words[position : position + taken]
        position += taken
    rest = words[position:]
    if not early or not rest or rest[0].startswith("-"):
        return words
    end = rest.index("--") if "--" in rest else len(rest)
    return rest[:end] + early + rest[end:]


def _version() -> str:
    """Return the version of the installed distribution."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("pyflare-suite")
    except PackageNotFoundError:
        return "(not installed)"
