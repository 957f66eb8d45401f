"""Everything on stderr, and the exit code that an exception becomes.

No other module of the command line writes to stderr. A failure is two lines,
`error: <what, with the value>` and `hint: <command or setting that fixes it>`; a
remark is one line, `note: ...`. A traceback appears with `--debug` only.
"""

from __future__ import annotations

import itertools
import logging
import os
import sys
import traceback
from collections.abc import Sequence

from pyflare_cli.text import printable
from pyflare_proto.errors import ExitCode, PyFlareError, nearest, outcome_of

__all__ = [
    "EXTRAS",
    "configure",
    "debugging",
    "forget_stdout",
    "install_log_handler",
    "note",
    "progress_line",
    "report",
]

DISTRIBUTION = "pyflare-suite"
LONGEST_DEFECT = 300
"""Characters of an unexpected exception's message that are shown; --debug shows all."""
OWN_PACKAGES = frozenset(
    {
        "pyflare",
        "pyflare_analysis",
        "pyflare_cli",
        "pyflare_collector",
        "pyflare_proto",
        "pyflare_query",
        "pyflare_storage",
    }
)


class _State:
    """What the flags of this process ask of messages."""

    debug = False
    words: tuple[str, ...] = ()


def configure(arguments: Sequence[str]) -> None:
    """Take `--debug` from the words of a command line, wherever it stands.

    It is read before the command line is parsed, so that errors of the parser
    and of imports obey it too. `PYFLARE_DEBUG=1` does the same.
    """
    words = list(arguments)
    if "--" in words:
        words = words[: words.index("--")]
    _State.words = tuple(words)
    wanted = os.environ.get("PYFLARE_DEBUG", "").lower()
    _State.debug = "--debug" in words or wanted in {"1", "true", "yes", "on"}


def debugging() -> bool:
    """Return whether tracebacks were asked for."""
    return _State.debug


def note(message: str) -> None:
    """Write a remark on the answer to stderr."""
    _write(f"note: {printable(message)}")


def progress_line(message: str) -> None:
    """Write one line of progress to stderr as it is: what scripts wait for (`ready ...`)."""
    _write(printable(message))


def install_log_handler() -> None:
    """Send the operational log of long-running commands to stderr, one line a record."""
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLineFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger("pyflare")
    root.handlers = [handler]
    root.setLevel(logging.DEBUG if _State.debug else logging.INFO)
    root.propagate = False


EXTRAS = {
    **dict.fromkeys(("typer", "rich", "yaml", "platformdirs"), "cli"),
    **dict.fromkeys(("polars", "pyarrow", "numpy", "genai_prices"), "storage"),
    **dict.fromkeys(("numba", "grpc", "google", "aiohttp", "orjson"), "collector"),
    "scipy": "analysis",
    "clickhouse_connect": "clickhouse",
    "chdb": "chdb",
}
"""The extra that brings a package, by the name it is imported by."""


def report(error: BaseException) -> ExitCode:
    """Write what went wrong to stderr and return the exit code.

    A `PyFlareError` becomes its message and hint, a usage error of the command
    line's parser the same two lines, a missing third-party package the extra
    that brings it, a closed pipe nothing. Anything else is an internal error.
    """
    if isinstance(error, BrokenPipeError):
        forget_stdout()
        return ExitCode.OK
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        return ExitCode.INTERRUPTED
    if _State.debug:
        _write("".join(traceback.format_exception(error)).rstrip())
    if isinstance(error, PyFlareError):
        code = outcome_of(error).exit_code
        if code is not ExitCode.INTERNAL:
            _failure(error.message, error.hint)
            return code
    elif _is_parser_error(error):
        _failure(*_parser_message(error))
        return ExitCode.USAGE
    elif isinstance(error, ModuleNotFoundError) and (package := _missing_package(error)):
        extra = EXTRAS.get(package)
        part = f" for every command, '{DISTRIBUTION}[{extra}]' for this package" if extra else ""
        _failure(
            f"this command needs '{package}', which is not installed",
            f"pip install '{DISTRIBUTION}[all]'{part}",
        )
        return ExitCode.USAGE
    what = f"{type(error).__name__}: {error}"
    _failure(
        f"internal error: {what if len(what) <= LONGEST_DEFECT else what[:LONGEST_DEFECT] + '...'}",
        "run the same command with --debug for the traceback, and report it",
    )
    return ExitCode.INTERNAL


def _failure(message: str, hint: str | None) -> None:
    _write(f"error: {printable(message)}")
    if hint:
        _write(f"hint: {printable(hint)}")


def _write(line: str) -> None:
    try:
        stream = sys.stderr
        encoded = (line + "\n").encode("utf-8", "replace")
        if hasattr(stream, "buffer"):
            stream.flush()
            stream.buffer.write(encoded)
        else:
            stream.write(encoded.decode("utf-8"))
        stream.flush()
    except (BrokenPipeError, ValueError):
        return  # stderr is closed: there is nobody left to tell


def forget_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's flush at exit does not fail again."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    except (OSError, ValueError):
        return  # stdout is not a file, as in tests


def _missing_package(error: ModuleNotFoundError) -> str | None:
    """Return the third-party package that is missing, None when it is one of ours."""
    root = (error.name or "").partition(".")[0]
    return root if root and root not in OWN_PACKAGES else None


def _is_parser_error(error: BaseException) -> bool:
    """Tell usage errors of the parser apart by shape: their class moved between typer versions."""
    return hasattr(error, "format_message") and hasattr(error, "exit_code")


def _parser_message(error: BaseException) -> tuple[str, str]:
    """Return message and hint for a usage error of the command line's parser."""
    context = getattr(error, "ctx", None)
    path = str(context.command_path) if context is not None else _command_path()
    help_hint = f"{path} --help"
    if type(error).__name__ == "NoArgsIsHelpError":
        return f"{path} needs a command", _commands_hint(context, path)
    possibilities = getattr(error, "possibilities", None)
    if hasattr(error, "option_name") and hasattr(error, "possibilities"):
        wrong = str(error.option_name)
        guess = nearest(wrong, possibilities or ()) or nearest(wrong, _options_of(context))
        text = f"no such option: {wrong}"
        return text, f"did you mean {guess}? see {help_hint}" if guess else help_hint
    message = str(error.format_message())  # type: ignore[attr-defined]  # checked by shape
    message, _, suggestion = message.partition(". Did you mean ")
    message = message.strip().rstrip(".")
    message = message[:1].lower() + message[1:]
    if suggestion:
        return message, f"did you mean {suggestion.rstrip('?')}? see {help_hint}"
    return " ".join(message.split()), help_hint


def _command_path() -> str:
    """Return the command that was meant, for errors of the parser that do not tell."""
    names = itertools.takewhile(lambda word: not word.startswith("-"), _State.words)
    return " ".join(("pyflare", *itertools.islice(names, 2)))


def _options_of(context: object) -> list[str]:
    command = getattr(context, "command", None)
    return [name for item in getattr(command, "params", ()) for name in getattr(item, "opts", ())]


def _commands_hint(context: object, path: str) -> str:
    command = getattr(context, "command", None)
    names = list(getattr(command, "commands", ()))
    return f"{path} {names[0]} --help; commands: {', '.join(names)}" if names else f"{path} --help"


class _OneLineFormatter(logging.Formatter):
    """A record on one line, so that a log stays greppable; the traceback with `--debug` only."""

    def formatException(self, ei: object) -> str:  # noqa: N802 - the name is logging's
        """Return the traceback with `--debug`, else nothing."""
        return super().formatException(ei) if _State.debug else ""  # type: ignore[arg-type]  # logging's own tuple

    def format(self, record: logging.LogRecord) -> str:
        """Return the record without line breaks or control characters."""
        text = super().format(record)
        return text if _State.debug else printable(text.strip())
