"""Commands from words to documents, over data that is there."""

from pathlib import Path

import pytest

from pyflare_cli.app import COMMANDS, build
from tests.cli.conftest import Pyflare
from tests.span_rows import ANSWERED, EMBEDDED, SAMPLED, TRACE_A, data_directory


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The default data directory with all the spans of `span_rows`."""
    return data_directory(tmp_path / "work" / "pyflare-data", [*ANSWERED, *EMBEDDED, *SAMPLED])


def _leaf_commands() -> list[tuple[str, ...]]:
    import typer

    root = typer.main.get_command(build())
    found: list[tuple[str, ...]] = []
    for name in COMMANDS:
        command = root.commands[name]  # type: ignore[attr-defined]  # the root is a group
        inner = getattr(command, "commands", None)
        found += [(name, sub) for sub in inner] if inner else [(name,)]
    return found


@pytest.mark.parametrize("words", _leaf_commands(), ids=" ".join)
def test_every_command_has_help_with_examples_that_name_it(
    words: tuple[str, ...], pyflare: Pyflare
) -> None:
    """A sentence, examples, and a line for each option."""
    result = pyflare(*words, "--help")

    assert result.code == 0
    assert "\n  Examples:\n" in result.out
    assert (
        f"$ pyflare {' '.join(words)}" in result.out or f"pyflare {' '.join(words)}" in result.out
    )
    assert "Args:" not in result.out
    options = result.out.partition("\nOptions:\n")[2]
    for line in options.splitlines():
        if line.startswith("  -") and "  " not in line[3:].strip():
            assert len(line) > 20, f"{words}: {line} has no help"


def test_the_summary_in_the_root_help_is_the_commands_own(pyflare: Pyflare) -> None:
    """The list that help reads without importing does not drift from the commands."""
    for name, entry in COMMANDS.items():
        help_text = pyflare(name, "--help").out
        assert f"\n  {entry.summary}\n" in help_text, name


def test_pyflare_alone_shows_the_help(pyflare: Pyflare) -> None:
    """A first call is answered, not refused."""
    result = pyflare()

    assert (result.code, result.err) == (0, "")
    assert all(name in result.out for name in COMMANDS)


def test_cost_summary_has_the_documented_keys(pyflare: Pyflare, data: Path) -> None:
    """Schema, dimensions, figures, total; weighting is said in the document and in a note."""
    del data
    result = pyflare("cost", "summary", "--by", "model,day")
    document = result.json()

    assert result.code == 0
    assert list(document) == ["schema", "by", "weighted", "sampled", "rows", "total"]
    assert document["schema"] == "pyflare.cost.summary/1"
    assert document["rows"][0] == {
        "model": "claude-sonnet-4-5",
        "day": "2025-11-24",
        "calls": 4,
        "unpriced_calls": 0,
        "input_tokens": 40,
        "output_tokens": 20,
        "cache_read_tokens": 0,
        "cost_nano_usd": 4_000_000_000,
        "cost_usd": "4.00",
    }
    assert document["weighted"] is True
    assert result.err.startswith("note: some spans were sampled")


def test_unweighted_counts_stored_spans(pyflare: Pyflare, data: Path) -> None:
    """--unweighted is said in the document."""
    del data
    document = pyflare("cost", "summary", "--unweighted").json()

    assert document["weighted"] is False
    assert document["total"]["calls"] == 4


def test_filters_of_the_contract_are_taken(pyflare: Pyflare, data: Path) -> None:
    """Each filter narrows the calls; several values of one are alternatives."""
    del data

    def calls(*words: str) -> int:
        total = pyflare("cost", "summary", "--unweighted", *words).json()["total"]
        return int(total["calls"])

    assert calls() == 4
    assert calls("--model", "gpt-4o") == 2
    assert calls("--model", "gpt-4o", "--model", "claude-sonnet-4-5") == 3
    assert calls("--service", "search") == 1
    assert calls("--environment", "production") == 1
    assert calls("--user", "ada") == 1
    assert calls("--feature", "none") == 0
    assert calls("--since", "2025-11-25") == 1
    assert calls("--until", "2025-11-25T00:00:00Z") == 3
    assert calls("--where", "input_tokens >= 100") == 1


def test_cost_price_by_hand(pyflare: Pyflare) -> None:
    """36 x 2.50 + 64 x 1.25 + 50 x 10 = 670 micro-dollars."""
    document = pyflare(
        "cost", "price", "gpt-4o-2024-08-06", "--input-tokens", 100, "--cache-read-tokens", 64,
        "--output-tokens", 50, "--at", "2026-11-01",
    ).json()  # fmt: skip

    assert (document["cost_nano_usd"], document["cost_usd"]) == (670_000, "0.00067")
    assert document["at"] == "2026-11-01T00:00:00Z"


def test_traces_list_and_show_agree(pyflare: Pyflare, data: Path) -> None:
    """The list's keys are the documented ones, and its figures are those of the spans shown."""
    del data
    listed = pyflare("traces", "list", "--service", "bot", "--order", "spans").json()
    shown = pyflare("traces", "show", TRACE_A[:4]).json()

    (first, *_) = listed["traces"]
    assert listed["schema"] == "pyflare.traces.list/1"
    assert (
        list(first)
        == (
            "trace_id start_time duration_ms service_name root_name span_count calls error_count "
            "input_tokens output_tokens cost_nano_usd"
        ).split()
    )
    assert shown["schema"] == "pyflare.traces.show/1"
    assert shown["trace_id"] == first["trace_id"] == TRACE_A
    assert len(shown["spans"]) == first["span_count"]


def test_a_trace_on_a_terminal_is_a_tree(pyflare: Pyflare, data: Path) -> None:
    """Branches, a time line, tokens, costs, and errors with their message, on one line each."""
    del data
    result = pyflare("traces", "show", TRACE_A, "--format", "table")

    assert result.out == (
        f"trace {TRACE_A}  2025-11-24 16:00:00.000 UTC\n"
        "4 spans · 2 calls · 3.00 s · 100 tokens in · 50 out · $0.00067 · 1 error · 1 unpriced\n"
        "\n"
        "answer [workflow]          |████████████████████████|  3.00 s\n"
        "├─ chat gpt-4o [llm]       |    ████████            |  1.00 s  100→50 tok    $0.00067\n"
        "│  └─ chat gpt-4o [llm]    |    ████                |  1.00 s  100→50 tok  told twice\n"
        "└─ chat boom gpt-4o [llm]  |            ▊           |  100 ms                no usage\n"
        "     ✗ RateLimitError: slow \\x1b[31mdown\n"
    )


def test_every_form_of_every_listing(pyflare: Pyflare, data: Path) -> None:
    """Lists answer in all five forms."""
    del data
    for words in (
        ["traces", "list"],
        ["cost", "summary"],
        ["config", "show"],
        ["doctor", "--quick"],
    ):
        for form in ("table", "json", "jsonl", "csv", "markdown"):
            result = pyflare(*words, "--format", form)
            assert result.code == 0, (words, form, result.err)
            assert result.out


def test_doctor_finds_a_port_that_is_taken_by_no_server(
    pyflare: Pyflare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address that is not of this machine cannot be listened on: exit 3 with a hint."""
    monkeypatch.setenv("PYFLARE_RECEIVER__HTTP__ENDPOINT", "192.0.2.1:4318")

    result = pyflare("doctor", "--quick")

    checks = {check["check"]: check for check in result.json()["checks"]}
    assert result.code == 3
    assert result.json()["healthy"] is False
    assert checks["port http"]["state"] == "failed"
    assert "--http" in checks["port http"]["hint"]
    assert checks["python"]["state"] == "ok"
