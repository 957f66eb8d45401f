"""Errors, hints and exit codes."""

import subprocess
import sys
from pathlib import Path

import pytest

from pyflare_cli import diagnostics, help_topics
from pyflare_proto import errors
from pyflare_proto.errors import OUTCOMES, ExitCode
from tests.cli.conftest import Pyflare
from tests.span_rows import ANSWERED, data_directory, write_spans


@pytest.mark.parametrize("cls", OUTCOMES)
def test_every_error_class_becomes_its_exit_code(
    cls: type[errors.PyFlareError], capfd: pytest.CaptureFixture[str]
) -> None:
    """Message and hint are two lines; the base class alone is a defect."""
    code = diagnostics.report(cls("it is so", hint="do this"))

    assert code is OUTCOMES[cls].exit_code
    if code is not ExitCode.INTERNAL:
        assert capfd.readouterr().err == "error: it is so\nhint: do this\n"


def test_help_explains_every_exit_code(pyflare: Pyflare) -> None:
    """The topic lists the codes of the enum, no more and no fewer."""
    result = pyflare("help", "exit-codes")

    assert result.code == 0
    assert set(help_topics.EXIT_CODES) == set(ExitCode)
    assert [int(line.split()[0]) for line in result.out.splitlines()] == [c.value for c in ExitCode]


BAD_LINES = {
    "unknown command": (["trcaes", "list"], 2, "no such command 'trcaes'", "'traces'"),
    "unknown option": (["traces", "list", "--sinec", "1h"], 2, "--sinec", "--since"),
    "option without value": (["traces", "list", "--since"], 2, "--since", "traces list --help"),
    "missing argument": (["traces", "show"], 2, "TRACE_ID", "traces show --help"),
    "no number": (["traces", "list", "--limit", "many"], 2, "--limit", "traces list --help"),
    "negative limit": (["traces", "list", "--limit", "-1"], 2, "limit", "--limit"),
    "group alone": (["cost"], 2, "needs a command", "summary"),
    "unknown format": (["traces", "list", "--format", "xml"], 2, "'xml'", "json"),
    "unknown order": (["traces", "list", "--order", "strat"], 2, "'strat'", "start"),
    "bad time": (["traces", "list", "--since", "yesterday"], 2, "yesterday", "--since"),
    "bad expression": (["traces", "list", "--where", "duration_ms >"], 2, "", ""),
    "unknown column": (["traces", "list", "--where", "nam = 'x'"], 2, "'nam'", "name"),
    "unknown dimension": (["cost", "summary", "--by", "modle"], 2, "modle", "model"),
    "dimension twice": (["cost", "summary", "--by", "model,model"], 2, "twice", "once"),
    "no trace id": (["traces", "show", "not-hex"], 2, "not-hex", "traces list"),
    "unknown trace": (["traces", "show", "f" * 32], 2, "f" * 32, "traces list"),
    "missing source": (["traces", "list", "--source", "no.parquet"], 2, "no.parquet", ""),
    "unknown scheme": (["traces", "list", "--source", "ftp://x/y"], 2, "ftp", "clickhouse://"),
    "missing config": (["config", "show", "--config", "no.yaml"], 2, "no.yaml", "pyflare init"),
    "unknown topic": (["help", "exit-code"], 2, "exit-code", "exit-codes"),
    "unknown model": (
        ["cost", "price", "gtp-4o", "--input-tokens", "1"], 2, "gtp-4o", "gpt-4o",
    ),
    "unwritable output": (["config", "schema", "-o", "no/such/dir.json"], 3, "no/such", "-o"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_LINES)
def test_bad_lines_get_an_error_a_hint_and_their_code(
    case: str, pyflare: Pyflare, tmp_path: Path
) -> None:
    """Each says what was wrong with the value in it, and what to do; nothing goes to stdout."""
    words, code, message, hint = BAD_LINES[case]
    data_directory(tmp_path / "work" / "pyflare-data", ANSWERED)

    result = pyflare(*words)

    lines = result.err.splitlines()
    assert (result.code, result.out) == (code, "")
    assert [line.split(":")[0] for line in lines] == ["error", "hint"]
    assert message in lines[0]
    assert hint in lines[1]


def test_no_spans_is_too_little_to_sum_and_an_empty_list(pyflare: Pyflare, tmp_path: Path) -> None:
    """Costs cannot be told without spans (4); a list of nothing is a list (0), with a note."""
    data_directory(tmp_path / "work" / "pyflare-data", [])

    cost = pyflare("cost", "summary")
    traces = pyflare("traces", "list")

    assert (cost.code, cost.out) == (4, "")
    assert "pyflare import" in cost.err
    assert (traces.code, traces.json()["traces"]) == (0, [])
    assert traces.err.startswith("note: no spans")


def test_a_traceback_appears_with_debug_only(pyflare: Pyflare) -> None:
    """--debug may stand before or behind the command."""
    plain = pyflare("traces", "list", "--source", "no.parquet")
    behind = pyflare("traces", "list", "--source", "no.parquet", "--debug")
    before = pyflare("--debug", "traces", "list", "--source", "no.parquet")

    assert "Traceback" not in plain.err
    assert "Traceback" in behind.err
    assert "Traceback" in before.err


def test_a_defect_is_an_internal_error(pyflare: Pyflare, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever nobody expected exits 70 and asks for a report."""

    def broken() -> str:
        raise ZeroDivisionError("oops")

    monkeypatch.setitem(help_topics.TOPICS, "formats", broken)

    result = pyflare("help", "formats")

    assert result.code == 70
    assert result.err.startswith("error: internal error: ZeroDivisionError: oops\nhint: ")


def test_an_interruption_exits_130(pyflare: Pyflare, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is no error and leaves no message."""

    def interrupted() -> str:
        raise KeyboardInterrupt

    monkeypatch.setitem(help_topics.TOPICS, "formats", interrupted)

    result = pyflare("help", "formats")

    assert (result.code, result.err) == (130, "")


def test_data_in_messages_cannot_command_the_terminal(pyflare: Pyflare) -> None:
    """Control characters of file names appear as escapes."""
    result = pyflare("traces", "list", "--source", "evil\x1b[2J.parquet")

    assert "\x1b" not in result.err
    assert "\\x1b[2J" in result.err


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    """`pyflare ... | head` leaves stderr empty."""
    path = write_spans(tmp_path / "a.parquet", ANSWERED)
    line = f"{sys.executable} -m pyflare_cli traces show aa --source {path} | head -c 1"

    result = subprocess.run(line, shell=True, capture_output=True, text=True, check=True)  # noqa: S602 - a pipe is what is tested

    assert (result.stdout, result.stderr) == ("{", "")


def test_options_of_every_command_may_stand_in_front(pyflare: Pyflare, tmp_path: Path) -> None:
    """`pyflare --format csv traces list` is `pyflare traces list --format csv`."""
    path = write_spans(tmp_path / "a.parquet", ANSWERED)

    before = pyflare("--format", "csv", f"--source={path}", "traces", "list")
    behind = pyflare("traces", "list", "--format", "csv", "--source", path)

    assert before.code == 0
    assert before.out == behind.out
