"""The Python of the documentation runs: each page from top to bottom, in one process."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sdk.fake_collector import FakeCollector
from tests.sdk.model_server import ModelServer

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def snippets(page: Path) -> list[str]:
    """Return the Python blocks of a page."""
    return _BLOCK.findall(page.read_text(encoding="utf-8"))


PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    if any("pyflare" in snippet for snippet in snippets(page))
]


def test_the_guide_is_among_them() -> None:
    """The pages are found."""
    assert ROOT / "docs" / "sdk.md" in PAGES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_snippets_run(page: Path, tmp_path: Path) -> None:
    """Every block runs after those above it, against a collector and model servers nearby.

    A line `print(...)  # text` prints that text.
    """
    blocks = snippets(page)
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks), encoding="utf-8")
    with FakeCollector() as collector, ModelServer() as models:
        done = subprocess.run(
            [sys.executable, "-W", "ignore::DeprecationWarning", script],
            env={
                "PYTHONPATH": ":".join(sys.path),
                "PYFLARE_ENDPOINT": collector.url,
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
                "OPENAI_BASE_URL": f"{models.url}/v1",
                "OPENAI_API_KEY": "none",
                "ANTHROPIC_BASE_URL": models.url,
                "ANTHROPIC_API_KEY": "none",
                "HOME": str(tmp_path),
            },
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

        assert done.returncode == 0, done.stderr
        if any("pyflare.init(" in block for block in blocks):
            assert collector.spans
    printed = done.stdout
    for text in re.findall(r"^ *print\(.*\)  # (.+)$", "\n".join(blocks), re.MULTILINE):
        assert text in printed
