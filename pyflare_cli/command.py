"""How a command is declared: options in groups, settings loaded, help with examples.

A command is a function of a `Run`, of option groups (frozen dataclasses whose fields
are `Annotated` with their option), and of options of its own. `@command` spreads the
groups into options for the parser, loads the settings, and calls the function with
the groups put together again. An option that sets a setting is named by
`SETTING_OPTIONS`, so that flags join the one order of precedence.

Example:
    >>> @command(app, "summary", examples="pyflare cost summary --by model")
    ... def summary(run: Run, filters: FilterOptions, by: Annotated[str, ...] = "model") -> None:
    ...     "Calls, tokens and cost by any dimension."
    ...     run.output.write(...)
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import typer

from pyflare_cli import diagnostics
from pyflare_cli.options import SETTING_OPTIONS, CommonOptions, OutputOptions
from pyflare_cli.output import Document, Output
from pyflare_cli.settings import Settings

__all__ = ["Run", "command", "new_group", "single_command"]

Function = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a command: settings in effect and where the answer goes."""

    settings: Settings
    output: Output

    def answer(self, document: Document) -> None:
        """Write the answer."""
        self.output.write(document)

    @staticmethod
    def note(message: str) -> None:
        """Write a remark to stderr."""
        diagnostics.note(message)


def new_group(help_text: str) -> typer.Typer:
    """Return a group of commands without typer's own error pages and rich markup."""
    group = typer.Typer(
        help=help_text,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        no_args_is_help=True,
    )

    @group.callback()
    def _group() -> None:
        """Keep one command from becoming the group itself."""

    return group


def single_command() -> typer.Typer:
    """Return the application of a command that stands alone, such as `pyflare init`."""
    return typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


def command(
    group: typer.Typer, name: str, *, examples: str, extra_arguments: bool = False
) -> Callable[[Function], Function]:
    """Return a decorator that registers a function as the command `name` of `group`.

    Args:
        group: where the command belongs.
        name: its name there.
        examples: command lines, one a line, for the end of the help.
        extra_arguments: pass words that are no options of the command through `typer.Context`.
    """

    def register(function: Function) -> Function:
        parameters = inspect.signature(function).parameters
        hints = typing.get_type_hints(function, include_extras=True)
        groups = {
            parameter: hints[parameter]
            for parameter in parameters
            if isinstance(hints[parameter], type) and dataclasses.is_dataclass(hints[parameter])
        }
        groups.pop("run", None)

        @functools.wraps(function)
        def wrapper(**given: object) -> None:
            built = {
                parameter: cls(**{f.name: given.pop(f.name) for f in dataclasses.fields(cls)})
                for parameter, cls in groups.items()
            }
            own = {
                parameter: given.pop(parameter) for parameter in parameters if parameter in given
            }
            flags = {
                SETTING_OPTIONS[option]: value
                for source in (given, own, *(vars_of(item) for item in built.values()))
                for option, value in source.items()
                if option in SETTING_OPTIONS
            }
            function(run=_start(given, flags), **built, **own)

        wrapper.__signature__ = _signature(parameters, hints, groups)  # type: ignore[attr-defined]  # how inspect is told
        wrapper.__annotations__ = {
            parameter.name: parameter.annotation
            for parameter in wrapper.__signature__.parameters.values()  # type: ignore[attr-defined]  # set above
        }
        settings = {"allow_extra_args": True, "ignore_unknown_options": True}
        group.command(
            name,
            help=_help_text(function, examples),
            context_settings=settings if extra_arguments else None,
        )(wrapper)
        return function

    return register


def vars_of(group: object) -> dict[str, object]:
    """Return the fields of an option group that are options of settings."""
    assert dataclasses.is_dataclass(group)  # noqa: S101 - option groups are dataclasses
    return {field.name: getattr(group, field.name) for field in dataclasses.fields(group)}


def _start(given: dict[str, object], flags: dict[str, object]) -> Run:
    config = given.get("config")
    settings = Settings.load(
        {name: str(value) if isinstance(value, Path) else value for name, value in flags.items()},
        config=config if isinstance(config, Path) else None,
    )
    path = given.get("output")
    output = Output(
        format=settings.format,
        path=path if isinstance(path, Path) else None,
        no_color=bool(settings["no_color"].value),
    )
    return Run(settings, output)


def _signature(
    parameters: typing.Mapping[str, inspect.Parameter],
    hints: dict[str, typing.Any],
    groups: dict[str, type],
) -> inspect.Signature:
    """Return the signature that the parser sees: groups spread in place, common options last."""
    spread: list[inspect.Parameter] = []
    for name, parameter in parameters.items():
        if name in groups:
            spread += _fields(groups[name])
        elif name != "run":
            spread.append(
                parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name])
            )
    return inspect.Signature([*spread, *_fields(OutputOptions), *_fields(CommonOptions)])


def _fields(cls: type) -> list[inspect.Parameter]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=hints[field.name],
        )
        for field in dataclasses.fields(cls)
    ]


def _help_text(function: Function, examples: str) -> str:
    """Return the docstring up to its `Args:` or `Raises:`, then the examples as they stand."""
    text = inspect.getdoc(function) or ""
    for section in ("\nArgs:", "\nRaises:", "\nReturns:"):
        text = text.partition(section)[0]
    lines = [f"  $ {line.strip()}" for line in examples.strip().splitlines()]
    return text.rstrip() + "\n\n\b\nExamples:\n" + "\n".join(lines)
