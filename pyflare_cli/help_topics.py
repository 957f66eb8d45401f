"""`pyflare help TOPIC`: what holds for every command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from pyflare_cli.command import Run, command, single_command
from pyflare_cli.output import Document
from pyflare_proto.errors import ExitCode, NotFoundError, nearest

app = single_command()

EXIT_CODES: dict[ExitCode, str] = {
    ExitCode.OK: "Answered.",
    ExitCode.GATE: "A gate that you asked for said no (--fail-on, --fail-above, budget check).",
    ExitCode.USAGE: "Usage or configuration: the command line, a setting, a file or its content.",
    ExitCode.UNAVAILABLE: "A source, service or disk is unreachable.",
    ExitCode.NOT_ENOUGH_DATA: "Not enough data to answer: neither yes nor no.",
    ExitCode.INTERNAL: "Internal error: a defect of PyFlare. --debug shows the traceback.",
    ExitCode.INTERRUPTED: "Interrupted (Ctrl-C).",
}
"""What each exit code means."""

_FORMATS = """\
--format table      aligned columns; on a terminal they are cut to its width, in a pipe never
--format json       one document with "schema": the default in a pipe
--format jsonl      one row a line
--format csv        the rows, all keys, nested values as JSON text
--format markdown   a table for issues and reports
-o PATH             write to a file; without --format its suffix decides (.csv .jsonl .md .txt)

Only the answer goes to stdout. Notes, progress, logs and errors go to stderr.
Costs are whole nano-dollars (cost_nano_usd) and exact decimal text (cost_usd), times are
UTC with nanoseconds, an unknown value is null.
"""

_FILTERS = """\
--since / --until TIME   24h, 7d (before now) or ISO 8601: 2026-11-23, 2026-11-23T03:04:05Z
--model --service --environment --feature --user VALUE
                         again for alternatives: --model gpt-4o --model gpt-4o-mini
--where EXPR             = != < <= > >=, and, or, not, in (...), is null, like, contains,
                         startswith; columns by name, attributes['key']

  pyflare traces list --where "duration_ms > 5000 and status_code = 'error'"
  pyflare cost summary --where "attributes['app.tier'] = 'free'"

Spans that were sampled count 1/sampling_probability each; --unweighted counts them as stored.
"""

_SETTINGS = """\
A flag goes before an environment variable (PYFLARE_*), that before --config FILE or
./pyflare.yaml, that before pyflare.yaml in your configuration directory, that before the default.
The variable of a key is its path in capitals with two underscores for each dot:
sampler.probability is PYFLARE_SAMPLER__PROBABILITY.

  pyflare config show        each value with its source
  pyflare config validate    check the files
  pyflare init               write a commented pyflare.yaml
"""


def exit_codes_text() -> str:
    """Return the table of exit codes as text."""
    return "".join(f"{code.value:>4}  {text}\n" for code, text in EXIT_CODES.items())


TOPICS: dict[str, Callable[[], str]] = {
    "exit-codes": exit_codes_text,
    "formats": lambda: _FORMATS,
    "filters": lambda: _FILTERS,
    "settings": lambda: _SETTINGS,
}
"""Topics by name."""


@command(
    app,
    "help",
    examples="""
    pyflare help exit-codes
    pyflare help filters
    """,
)
def help_(
    run: Run,
    *,
    topic: Annotated[
        str | None,
        typer.Argument(metavar="TOPIC", help="exit-codes, formats, filters, settings."),
    ] = None,
) -> None:
    """Explain a topic: exit-codes, formats, filters, settings."""
    if topic is None:
        run.output.write_text("Topics:\n" + "".join(f"  pyflare help {name}\n" for name in TOPICS))
        return
    if topic not in TOPICS:
        guess = nearest(topic, TOPICS)
        raise NotFoundError(
            f"no help topic {topic!r}",
            hint=f"did you mean {guess}?" if guess else f"topics: {', '.join(TOPICS)}",
        )
    if topic == "exit-codes" and run.settings.format not in (None, "table"):
        rows = [{"code": code.value, "meaning": text} for code, text in EXIT_CODES.items()]
        run.answer(Document("pyflare.help.exit-codes/1", {"exit_codes": rows}, "exit_codes"))
        return
    run.output.write_text(TOPICS[topic]())
