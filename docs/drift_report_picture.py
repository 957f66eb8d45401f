"""Draws docs/drift-report.svg from real output: generated spans with faults, reported by model.

python docs/drift_report_picture.py
"""

# ruff: noqa: INP001 - a script, not a package

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
END = "2026-11-21T00:00:00Z"
FAULTS = ("latency-creep", "cost-jump")


def main() -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as folder:
        spans = str(Path(folder) / "spans.binpb")
        faults = [word for name in FAULTS for word in ("--fault", name)]
        size = ["--spans", "60000", "--hours", "240", "--seed", "5", "--end", END]
        _pyflare(folder, "generate", *size, *faults, "-o", spans)
        _pyflare(folder, "import", spans)
        report = ["--ref-until", "2026-11-15", "--every", "6h", "--by", "model", "--no-store"]
        _pyflare(folder, "drift", "report", *report, "--svg", str(HERE / "drift-report.svg"))


def _pyflare(folder: str, *words: str) -> None:
    command = [sys.executable, "-m", "pyflare_cli", *words]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - this program itself


if __name__ == "__main__":
    main()
