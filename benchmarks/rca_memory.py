"""Memory and time of the root-cause commands at 1, 10 and 100 million rows.

    python benchmarks/rca_memory.py FOLDER [--only COMMAND ...] [--million N ...]

The spans are those of `pyflare generate`: a million over a week, 43 in a thousand of them failed
calls, with four planted faults. Ten files hold them with other ids and times each; more rows are
more links to these files. The table of `slices --input` is that of `rca_slices.py`, ten seeds.
Each command is a process of its own; CPU seconds and peak memory are the kernel's for that process.

FOLDER keeps the data (1 GB) and what was measured; the table has all that was measured there. So
a long run can be taken in steps.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "rca_memory.md"
FILES = 10
ROWS = 1_000_000
FAULTS = ("slice-error-2", "error-spike", "latency-creep", "bad-user-segment")
END = "2026-11-08T00:00:00Z"
PERIODS = ("--since", "2026-11-01T00:00:00Z", "--at", "2026-11-05T00:00:00Z", "--until", END)
COMMANDS = {
    "slices": ("slices", "--data", "{spans}"),
    "slices --depth 3 --input": (
        *("slices", "--depth", "3", "--input", "{table}", "--outcome", "failed"),
    ),
    "patterns": ("patterns", "--data", "{spans}"),
    "clusters": ("clusters", "--no-state", "--data", "{spans}"),
    "attribution": ("attribution", "--data", "{spans}", *PERIODS),
}


def main() -> None:
    """Make the data, run the commands and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", choices=list(COMMANDS), default=list(COMMANDS))
    parser.add_argument("--million", nargs="*", type=int, default=[1, 10, 100])
    parser.add_argument("--make", choices=["spans", "table"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        {"spans": _make_spans, "table": _make_table}[options.make](options.folder)
        return
    measured = options.folder / "measured.json"
    known = json.loads(measured.read_text()) if measured.exists() else {}
    for million in options.million:
        spans, table = _data(options.folder, million)
        for name in options.only:
            words = [word.format(spans=spans, table=table) for word in COMMANDS[name]]
            known.setdefault(name, {})[str(million)] = _run(words)
            measured.write_text(json.dumps(known))
            print(name, million, known[name][str(million)], flush=True)
    RESULTS.write_text("\n".join(_lines(known)) + "\n")


def _lines(known: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    head = (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, shared with other work: read the "
        "ratios. `python benchmarks/rca_memory.py FOLDER`; each command a process of its own."
    )
    lines = ["# Memory of the root-cause commands", "", head, ""]
    lines += ["| `pyflare rca` | million rows | CPU s | CPU s a million | peak MiB |"]
    lines += ["|---|--:|--:|--:|--:|"]
    for name, runs in known.items():
        for million, use in sorted(runs.items(), key=lambda item: int(item[0])):
            each = use["cpu_s"] / int(million)
            lines.append(
                f"| {name} | {million} | {use['cpu_s']:.1f} | {each:.2f} | {use['mib']:.0f} |"
            )
    return lines


def _run(arguments: list[str]) -> dict[str, float]:
    """Run one command; this process is small, so the peak is that of the command."""
    command = [sys.executable, "-m", "pyflare_cli", "rca", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, use = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"failed: {' '.join(command)}")
    return {"cpu_s": use.ru_utime + use.ru_stime, "mib": use.ru_maxrss / 1024}


def _data(folder: Path, million: int) -> tuple[Path, Path]:
    """Return a data directory and a folder of tables of so many million rows."""
    made = folder / "parts"
    for kind in ("spans", "table"):
        if not (made / kind / "done").exists():
            (made / kind).mkdir(parents=True, exist_ok=True)
            command = [sys.executable, __file__, str(made / kind), "--make", kind]
            subprocess.run(command, check=True)
            (made / kind / "done").touch()
    spans, table = folder / f"spans{million}" / "spans", folder / f"table{million}"
    for kind, target in (("spans", spans), ("table", table)):
        target.mkdir(parents=True, exist_ok=True)
        files = sorted((made / kind).glob("*.parquet"))
        for number in range(million):
            source = files[number % FILES]
            # The last digits of a span file's name are its number.
            link = target / f"{source.stem[:-4]}{number:04d}.parquet"
            if not link.exists():
                link.hardlink_to(source)
    return spans.parent, table


def _make_spans(folder: Path) -> None:
    """Write the files of spans: one is generated, the others have other ids and times."""
    import polars as pl
    import pyarrow.parquet as pq

    from pyflare_storage.span_files import span_file_name
    from pyflare_storage.writing import SpanWriter

    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        sent, data = Path(scratch) / "spans.binpb", Path(scratch) / "data"
        size = ["--spans", str(ROWS), "--seed", "11", "--hours", "168", "--end", END]
        faults = [word for fault in FAULTS for word in ("--fault", fault)]
        for arguments in (
            ["generate", *size, *faults, "-o", str(sent)],
            ["import", str(sent), "--data", str(data)],
        ):
            command = [sys.executable, "-m", "pyflare_cli", *arguments]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        with pq.ParquetFile(next((data / "spans").glob("*.parquet"))) as file:
            for number in range(FILES):
                writer = SpanWriter(folder / "spans.tmp")
                later = pl.duration(microseconds=37 * number)
                ids = [
                    (pl.lit(f"{number:x}") + pl.col(name).str.slice(1)).alias(name)
                    for name in ("trace_id", "span_id", "parent_span_id")
                ]
                times = [pl.col(name) + later for name in ("start_time", "end_time")]
                for group in range(file.num_row_groups):
                    frame = pl.DataFrame(file.read_row_group(group))
                    writer.write(frame.with_columns(*ids, *times))
                writer.close()
                bounds = (writer.first_start_ns, writer.last_start_ns)
                writer.path.rename(folder / span_file_name(*bounds, "import", number))


def _make_table(folder: Path) -> None:
    """Write the files of the table of `rca_slices.py`, a seed each."""
    from rca_slices import write_rows

    for number in range(FILES):
        write_rows(folder / f"table-{number:04d}.parquet", ROWS, seed=5 + number)


if __name__ == "__main__":
    main()
