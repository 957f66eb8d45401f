"""Writes the documents that are made from the code: commands, settings, exit codes.

python docs/generate.py            write them
python docs/generate.py --check    exit 1 when one of them is out of date
"""

# ruff: noqa: INP001 - a script, not a package

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
NOTE = "<!-- Made by docs/generate.py: change the code and run `make docs`. -->\n\n"
COMMANDS_HEAD = """\
What holds for all of them: `pyflare help formats`, `pyflare help filters`,
`pyflare help settings`, `pyflare help exit-codes`.
"""
SETTINGS_HEAD = """\
In a file, `${NAME}` is taken from the environment, and an unset variable is an error; `$${`
stands for the characters `${`. Unknown keys are errors that name the nearest known key.
Paths are relative to the working directory. In a variable a list is comma-separated, a
mapping is `name=value` pairs, and anything may be JSON.
"""
ERRORS_HEAD = """\
Errors are two lines on stderr, `error: <what, with the value>` and
`hint: <what fixes it>`; a traceback appears with `--debug` only.
A reader that closes the pipe early (`| head`) is no error.
"""


def main() -> int:
    """Write or check every generated document; return the exit code."""
    for folder in ("collector", "analysis", "storage", "proto", "query", "sdk", "."):
        sys.path.insert(0, str(ROOT / folder))
    documents = {
        "cli.md": cli(),
        "configuration.md": configuration(),
        "exit-codes.md": exit_codes(),
    }
    stale = [
        name
        for name, text in documents.items()
        if not (HERE / name).exists() or (HERE / name).read_text(encoding="utf-8") != text
    ]
    if "--check" in sys.argv[1:]:
        for name in stale:
            sys.stderr.write(f"error: docs/{name} is out of date\nhint: make docs\n")
        return 1 if stale else 0
    for name in stale:
        (HERE / name).write_text(documents[name], encoding="utf-8")
        sys.stdout.write(f"wrote docs/{name}\n")
    return 0


def cli() -> str:
    """Return docs/cli.md: the help of every command."""
    os.environ["COLUMNS"] = "80"  # the width of the help does not depend on who runs this
    import typer

    from pyflare_cli.app import COMMANDS, build

    root: Any = typer.main.get_command(build())
    panels = dict.fromkeys(entry.panel for entry in COMMANDS.values())
    parts = [
        NOTE,
        "# Commands\n\n",
        COMMANDS_HEAD,
    ]
    for panel in panels:
        parts.append(f"\n## {panel}\n")
        for name, entry in COMMANDS.items():
            if entry.panel != panel:
                continue
            for words, command in _leaves(name, root.commands[name]):
                context = command.make_context(
                    f"pyflare {words}", [], parent=None, resilient_parsing=True
                )
                parts.append(
                    f"\n### pyflare {words}\n\n```text\n{context.get_help().rstrip()}\n```\n"
                )
    return "".join(_plain(part) for part in parts)


def _plain(text: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def _leaves(name: str, command: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - typer's class moved between versions
    inner = getattr(command, "commands", None)
    if not inner:
        yield name, command
        return
    for sub in inner:
        yield f"{name} {sub}", inner[sub]


def configuration() -> str:
    """Return docs/configuration.md: every setting, from the declarations."""
    from pyflare_cli.declarations import all_settings, describe
    from pyflare_cli.help_topics import TOPICS
    from pyflare_cli.output import json_text
    from pyflare_cli.values import expected, plain

    lines = [
        NOTE + "# Settings\n",
        "```text\n" + TOPICS["settings"]().rstrip() + "\n```\n",
        SETTINGS_HEAD,
        "Secrets are marked; `pyflare config show` masks them, and none can be given by a flag.",
    ]
    section = None
    for name, item in all_settings().items():
        parent = name.rpartition(".")[0]
        if parent != section or (section is None and name == "data"):
            section = parent
            lines += [f"\n## {section or 'All commands'}\n"]
            lines += ["| key | default | expected | variable and flag | meaning |"]
            lines += ["|---|---|---|---|---|"]
        default = "" if item.default is None else f"`{json_text(plain(item.default))}`"
        where = f"`{item.env}`" + (f" `{item.flag}`" if item.flag else "")
        meaning = describe(name) + (" Secret." if item.secret else "")
        cells = [f"`{name}`", default, expected(item.type), where, meaning.strip()]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def exit_codes() -> str:
    """Return docs/exit-codes.md: the codes, and which error becomes which."""
    from pyflare_cli.help_topics import EXIT_CODES
    from pyflare_proto.errors import OUTCOMES

    lines = [
        NOTE + "# Exit codes\n",
        ERRORS_HEAD,
        "| code | meaning |",
        "|---:|---|",
        *(f"| {code.value} | {text} |" for code, text in EXIT_CODES.items()),
        "",
        "| error class | exit code | meaning |",
        "|---|---:|---|",
    ]
    for cls, outcome in OUTCOMES.items():
        meaning = " ".join((cls.__doc__ or "").split("\n\n")[0].split())
        lines.append(f"| `{cls.__name__}` | {outcome.exit_code.value} | {meaning} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
