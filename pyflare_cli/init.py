"""`pyflare init`: a configuration file to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pyflare_cli.command import Run, command, single_command
from pyflare_cli.declarations import Setting, all_settings, describe
from pyflare_cli.output import Document, json_text
from pyflare_cli.settings import PROJECT_FILE
from pyflare_cli.values import expected, plain
from pyflare_proto.errors import StorageError, UsageError

app = single_command()

_HEAD = """\
## Settings of PyFlare. Every line shows a default; remove the "# " in front of it, and of
## the sections above it, to change one. Flags and PYFLARE_* variables go before this file;
## `pyflare config show` says what is in effect and why. ${NAME} is taken from the environment.
"""


@command(
    app,
    "init",
    examples="""
    pyflare init
    pyflare init deploy/pyflare.yaml
    """,
)
def init(
    run: Run,
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File to write.")] = Path(
        PROJECT_FILE
    ),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a commented pyflare.yaml.

    Every setting stands there with its default and its meaning, commented out.
    """
    if file.exists() and not force:
        raise UsageError(f"{file} exists", hint=f"pyflare init {file} --force replaces it")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(commented_file(), encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"cannot write {file}: {error.strerror}", hint="pyflare init FILE names another file"
        ) from error
    run.answer(Document("pyflare.init/1", {"file": str(file)}, render=lambda _: [f"wrote {file}"]))


def commented_file() -> str:
    """Return the text of a configuration file that sets nothing and shows everything."""
    lines = [_HEAD]
    open_sections: list[str] = []
    for name, item in all_settings().items():
        *parents, leaf = name.split(".")
        if name == "storage.parquet.directory":
            continue  # the same as `data`, which stands above
        shared = 0
        while (
            shared < min(len(parents), len(open_sections))
            and parents[shared] == open_sections[shared]
        ):
            shared += 1
        lines += [
            f"{'' if depth else chr(10)}# {'  ' * depth}{parents[depth]}:"
            for depth in range(shared, len(parents))
        ]
        open_sections = parents
        indent = "  " * len(parents)
        lines += [f"# {indent}# {line}" for line in _comment(item)]
        lines.append(f"# {indent}{leaf}: {_yaml_value(item)}".rstrip())
    return "\n".join(lines) + "\n"


def _comment(item: Setting) -> list[str]:
    import textwrap

    kind = expected(item.type)
    text = f"{describe(item.name)} ({kind})".strip() if kind != "text" else describe(item.name)
    return textwrap.wrap(text, 88) if text else []


def _yaml_value(item: Setting) -> str:
    if item.default is None:
        return ""
    return json_text(plain(item.default))
