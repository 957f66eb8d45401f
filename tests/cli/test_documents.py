"""The documents say what the code does."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import typer

from pyflare_cli.app import build
from tests.cli.conftest import Pyflare
from tests.span_rows import ANSWERED, EMBEDDED, SAMPLED, data_directory, span

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
ENDLESS = {"collect", "demo"}
"""Commands that listen or take long; the tests of the collector and of the demo run them."""


def test_generated_documents_are_up_to_date() -> None:
    """`make docs` would change nothing."""
    result = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )

    assert (result.returncode, result.stderr) == (0, "")


def _commands_of_the_readme() -> list[str]:
    in_blocks = re.findall(r"^\$ (pyflare .*)$", README, flags=re.MULTILINE)
    in_table = re.findall(r"^\|[^|]*\| `(pyflare .*)` \|$", README, flags=re.MULTILINE)
    return in_blocks + in_table


def _examples_of_the_help() -> list[str]:
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    return re.findall(r"^    \$ (.*pyflare .*)$", text, flags=re.MULTILINE)


def test_the_readme_has_commands() -> None:
    """The patterns above find what they are for."""
    assert len(_commands_of_the_readme()) >= 15
    assert len(_examples_of_the_help()) >= 30


ANALYSES = {"drift", "rca"}
"""Commands that need more than a few spans to say anything."""


def _readme(*, analyses: bool) -> list[str]:
    return [line for line in _commands_of_the_readme() if (line.split()[1] in ANALYSES) == analyses]


@pytest.fixture(scope="module")
def ten_days(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ten days of traffic, a profile of it, and vectors of two weeks."""
    folder = tmp_path_factory.mktemp("traffic")
    rng = np.random.default_rng(3)
    for name, shift in (("last-week", 0.0), ("today", 0.2)):
        vectors = rng.normal(shift, 1, (300, 16)).astype(np.float32)
        pl.DataFrame({"embedding": list(vectors)}).write_parquet(folder / f"{name}.parquet")
    for line in (
        "generate --spans 20000 --hours 240 --seed 5 --fault slice-error-2 -o spans.jsonl.gz",
        "import spans.jsonl.gz",
        "drift psi --ref pyflare-data --save-profile last-week.json",
    ):
        words = [sys.executable, "-m", "pyflare_cli", *line.split()]
        subprocess.run(words, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("line", _readme(analyses=True))
def test_analyses_of_the_readme_work(
    line: str, pyflare: Pyflare, ten_days: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is answered from ten days of traffic; a gate may say no."""
    monkeypatch.chdir(ten_days)

    result = pyflare(*shlex.split(line)[1:])

    assert result.code in ({0, 1} if "--fail-on" in line else {0}), result.err
    assert result.out


@pytest.mark.parametrize("line", _readme(analyses=False))
def test_commands_of_the_readme_work(line: str, pyflare: Pyflare, tmp_path: Path) -> None:
    """Each is answered from a data directory that holds spans; elsewhere it is understood."""
    words = shlex.split(line)[1:]
    if (
        words[0] in ENDLESS
        or any("://" in word for word in words)
        or words[:2]
        in (
            ["traces", "tail"],
            ["import", "traces.jsonl"],
        )
    ):
        _parse(words)
        return
    now = span(trace_id="4bf92f3577b34da6a3ce929d0e0e4736", model="gpt-4o", user_id="ada")
    data_directory(tmp_path / "work" / "pyflare-data", [*ANSWERED, *EMBEDDED, *SAMPLED, now])

    result = pyflare(*words)

    assert result.code in ({0, 3} if words[0] == "doctor" else {0}), result.err
    assert result.out


@pytest.mark.parametrize("line", sorted(set(_examples_of_the_help())))
def test_examples_of_the_help_are_understood(line: str) -> None:
    """Every option and argument of an example exists and takes what it is given."""
    line = re.sub(r"^.*?pyflare ", "", line)
    line = re.sub(r" > \S+$", "", line)
    _parse(shlex.split(line))


def _parse(words: list[str]) -> None:
    """Let the parser read a command line without running the command."""
    command = typer.main.get_command(build())
    context = command.make_context("pyflare", list(words))
    while hasattr(command, "commands"):
        rest = [*context._protected_args, *context.args]
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    """No relative link is broken."""
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def test_the_readme_is_short() -> None:
    """Details stand elsewhere."""
    assert 60 <= len(README.splitlines()) <= 140
