"""Draws docs/answers.svg from real output: generated spans, imported, summed and shown.

python docs/picture.py
"""

# ruff: noqa: INP001 - a script, not a package

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

HERE = Path(__file__).resolve().parent
COLUMNS = 112
END = "2026-11-20T18:00:00Z"


def main() -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as folder:
        spans = Path(folder) / "spans.binpb"
        data = str(Path(folder) / "pyflare-data")
        _pyflare("generate", "--spans", "4000", "--seed", "7", "--end", END, "-o", str(spans))
        _pyflare("import", str(spans), "--data", data)
        listed = json.loads(
            _pyflare("traces", "list", "--data", data, "--order", "spans", "--limit", "40")
        )
        trace_id = next(trace["trace_id"] for trace in listed["traces"] if trace["error_count"])
        summary = _pyflare("cost", "summary", "--by", "model", "--data", data, "--format", "table")
        tree = _pyflare("traces", "show", trace_id, "--data", data, "--format", "table")
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for command, answer in (
        ("pyflare cost summary --by model", summary),
        (f"pyflare traces show {trace_id[:6]}", tree),
    ):
        console.print(Text(f"$ {command}", style="bold"))
        console.print(Text(answer))
    svg = console.export_svg(title="pyflare")
    # An image cannot load fonts from elsewhere, and should not try.
    svg = re.sub(r"@font-face\s*\{[^}]*\}", "", svg)
    svg = "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"
    (HERE / "answers.svg").write_text(svg, encoding="utf-8")


def _pyflare(*words: str) -> str:
    command = [sys.executable, "-m", "pyflare_cli", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 - this program itself


if __name__ == "__main__":
    main()
