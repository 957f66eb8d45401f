"""The wheel without extras, in an environment of its own: what it brings, and what it loads."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# OpenTelemetry's SDK and HTTP exporter with what they need; nothing of ours beside.
BRINGS = {
    "certifi", "charset-normalizer", "googleapis-common-protos", "idna", "opentelemetry-api",
    "opentelemetry-exporter-http-transport", "opentelemetry-exporter-otlp-common",
    "opentelemetry-exporter-otlp-proto-common", "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry-proto", "opentelemetry-sdk", "opentelemetry-semantic-conventions", "protobuf",
    "pyflare-suite", "requests", "typing-extensions", "urllib3",
}  # fmt: skip
MOST_MB = 40


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and install it without extras into a new environment."""
    pytest.importorskip("hatchling", reason="hatchling comes with the dev extra")
    folder = tmp_path_factory.mktemp("base")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = folder.glob("*.whl")
    home = folder / "env"
    venv.create(home, with_pip=False)
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--python", home / "bin" / "python", "install", "-q", wheel],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode and "No matching distribution" in done.stderr:
        pytest.skip("needs the package index")
    assert done.returncode == 0, done.stderr
    return home


def run(home: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the environment."""
    return subprocess.run(
        [home / "bin" / command[0], *command[1:]], capture_output=True, text=True, check=False,
        env={"PATH": ""},
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.service
def test_what_it_brings(home: Path) -> None:
    """OpenTelemetry's SDK and HTTP exporter, and what those need; a few MB."""
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "--python", home / "bin" / "python", "list", "--format=json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    installed = {
        package["name"].lower().replace("_", "-") for package in json.loads(listing.stdout)
    }
    size = sum(path.stat().st_size for path in (home / "lib").rglob("*") if path.is_file())

    assert installed - BRINGS == set()
    assert size < MOST_MB * 1e6


@pytest.mark.slow
@pytest.mark.service
def test_what_it_loads(home: Path) -> None:
    """`import pyflare` loads no other package of the wheel, and less than the tracer alone."""
    code = (
        "import sys; {}; "
        "print(len(sys.modules), *[m for m in sys.modules if m.startswith('pyflare_')])"
    )
    ours = run(home, "python", "-c", code.format("import pyflare"))
    theirs = run(home, "python", "-c", code.format("import opentelemetry.sdk.trace"))

    assert ours.returncode == theirs.returncode == 0, ours.stderr + theirs.stderr
    count, *suite = ours.stdout.split()
    assert suite == []
    assert int(count) < int(theirs.stdout)


@pytest.mark.slow
@pytest.mark.service
def test_it_works(home: Path) -> None:
    """A traced call, a cost and a flush to nobody work without any extra."""
    code = """
import pyflare
from pyflare.cost import calculate_cost
pyflare.init("a", "http://127.0.0.1:9")
@pyflare.trace
def f(x): return x
assert f(1) == 1
assert calculate_cost("gpt-4o", input_tokens=1000, output_tokens=500).total_micros == 7500
pyflare.shutdown()
assert pyflare.stats().lost_at_shutdown == 1
"""
    done = run(home, "python", "-c", code)

    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.service
@pytest.mark.parametrize("words", [["--help"], ["cost", "summary"]])
def test_the_command_line_says_what_is_missing(home: Path, words: list[str]) -> None:
    """`pyflare` without the extras ends with 2 and the command that brings them."""
    done = run(home, "pyflare", *words)

    assert done.returncode == 2
    assert done.stdout == ""
    error, hint = done.stderr.splitlines()
    assert error == "error: this command needs 'typer', which is not installed"
    assert hint.startswith("hint: pip install 'pyflare-suite[")
