"""Measures the drift report: false alarms and power by simulation, and what it costs.

    python benchmarks/drift_report.py                 both, about ten minutes of CPU
    python benchmarks/drift_report.py --runs 4        the simulation in small
    python benchmarks/drift_report.py --rows 20000000 the cost on more rows

Level: four weeks of traffic with a daily rhythm in volume and one column whose values follow
the hour; nothing else changes. For each way to compare it counts how many p-values are at
most 0.05, and in how many runs anything was called drift. Power: one window of a later week
doubles the values of one column. Cost: CPU seconds and the largest memory of a process that
reports, beside a bare Polars pass that groups the same bins by the same windows.

Writes benchmarks/results/drift_report.md.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import polars as pl

from pyflare_analysis.drift.report.heatmap import HeatMap
from pyflare_analysis.drift.report.report import drift_report
from pyflare_analysis.drift.report.windows import Windows
from pyflare_storage.expressions import Timestamp, col
from pyflare_storage.source import Source, open_source

ROOT = Path(__file__).resolve().parent
HOUR_NS = 3_600_000_000_000
START_NS = 493_896 * HOUR_NS  # a Monday
WEEK = 168
COLUMNS = ("flat", "rhythm", "tied", "kind")
MODES = {
    "window before": (False, False),
    "window before, same hours of the week": (False, True),
    "reference": (True, False),
    "reference, same hours of the week": (True, True),
}
ALPHA = 0.05
LEVEL_HEAD = (
    "## Level: share of p-values at most 0.05 where nothing changed (number of tests)\n",
    "Without the hours of the week `rhythm` does change; 5 % of what is found may then be false.\n",
)
POWER_HEAD = (
    "\n## Power: one window of six hours with doubled values\n",
    "`found`: share of runs in which that window drifts; the one after it differs from it too.\n",
)


def traffic(seed: int, per_hour: float, *, doubled: bool = False) -> pl.DataFrame:
    """Return four weeks of rows; in one window of the last week `flat` may be doubled."""
    rng = np.random.default_rng(seed)
    hours = np.arange(4 * WEEK)
    volume = rng.poisson(per_hour * (1 + 0.8 * np.sin(hours * 2 * np.pi / 24)))
    hour = np.repeat(hours, volume)
    n = len(hour)
    flat = rng.lognormal(6, 1, n)
    if doubled:
        late = (hour >= 3 * WEEK + 78) & (hour < 3 * WEEK + 84)
        flat = np.where(late, flat * 2, flat)
    ns = START_NS + hour * HOUR_NS + rng.integers(0, HOUR_NS, n)
    return pl.DataFrame(
        {
            "time": pl.Series(ns).cast(pl.Datetime("ns", "UTC")),
            "flat": flat,
            "rhythm": rng.normal(np.sin(hour * 2 * np.pi / 24), 1),
            "tied": rng.poisson(2, n),
            "kind": rng.choice(list("abcdefgh"), n, p=[0.4, 0.3, 0.1, 0.1, 0.05, 0.03, 0.01, 0.01]),
            "team": rng.choice(list("xyz"), n, p=[0.6, 0.3, 0.1]),
        }
    )


def asked(source: Source, mode: str) -> HeatMap:
    """Return the report of a source in one of the modes, in windows of six hours."""
    with_reference, same = MODES[mode]
    cut = Timestamp(START_NS + 3 * WEEK * HOUR_NS)
    return drift_report(
        source,
        source if with_reference else None,
        windows=Windows("6h", "time"),
        columns=COLUMNS,
        by=["team"],
        where=col("time") >= cut if with_reference else None,
        reference_where=col("time") < cut if with_reference else None,
        same_hour_of_week=same,
    )


def level(runs: int, folder: Path) -> list[str]:
    """Simulate unchanged traffic; return the table."""
    found: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    alarms: dict[str, int] = dict.fromkeys(MODES, 0)
    false_cells: dict[str, int] = dict.fromkeys(MODES, 0)
    called: dict[str, int] = dict.fromkeys(MODES, 0)
    for seed in range(runs):
        path = folder / "level.parquet"
        traffic(seed, 60).write_parquet(path)
        for mode in MODES:
            heat = asked(open_source(path), mode)
            for cell in heat.cells():
                if cell.p_value is None:
                    continue
                name = cell.column + (" by team" if cell.segment else "")
                found[mode, name][0] += cell.p_value <= ALPHA
                found[mode, name][1] += 1
            real = not MODES[mode][1]  # without the hours the rhythm is a real change
            wrong = [c for c in heat.cells() if c.is_drift and not (real and c.column == "rhythm")]
            alarms[mode] += bool(wrong)
            false_cells[mode] += len(wrong)
            called[mode] += heat.figures()["drift_cells"]
    names = [n + more for n in COLUMNS for more in ("", " by team")] + ["mix(team)"]
    lines = [
        f"| compared with | {' | '.join(names)} | runs with a false alarm | false of all drift |",
        f"|---|{'---:|' * (len(names) + 2)}",
    ]
    for mode in MODES:
        shares = []
        for name in names:
            hits, tests = found[mode, name]
            shares.append(f"{hits / tests:.3f} ({tests})" if tests else "-")
        lines.append(
            f"| {mode} | {' | '.join(shares)} | {alarms[mode]} of {runs} | "
            f"{false_cells[mode]} of {called[mode]} |"
        )
    return lines


def power(runs: int, folder: Path) -> list[str]:
    """Simulate one window with doubled values; return the table."""
    lines = [
        "| rows an hour | compared with | found | other cells of `flat` |",
        "|---:|---|---:|---:|",
    ]
    for per_hour in (15, 30, 60):
        hits, others = dict.fromkeys(MODES, 0), dict.fromkeys(MODES, 0)
        for seed in range(runs):
            path = folder / "power.parquet"
            traffic(1000 + seed, per_hour, doubled=True).write_parquet(path)
            for mode in MODES:
                heat = asked(open_source(path), mode)
                start = START_NS + (3 * WEEK + 78) * HOUR_NS
                row = next(row for row in heat.rows if row.column == "flat" and not row.segment)
                drifting = [cell.window.start_ns for cell in row.cells if cell.is_drift]
                hits[mode] += start in drifting
                others[mode] += sum(time != start for time in drifting)
        lines += [
            f"| {per_hour} | {mode} | {hits[mode] / runs:.2f} | {others[mode] / runs:.2f} |"
            for mode in MODES
        ]
    return lines


def cost(rows: int, folder: Path) -> list[str]:
    """Measure processes that report, and a bare pass; return the table."""
    path = folder / "rows.parquet"
    _write_rows(path, rows)
    day = 86_400 * 10**9
    cut = dt.datetime.fromtimestamp((START_NS + 15 * day) / 1e9, dt.UTC).isoformat()
    cli = [sys.executable, "-m", "pyflare_cli", "drift", "report", "--no-store", "--cur", str(path)]
    until = ["--ref-until", cut.replace("+00:00", "Z")]
    bare = [sys.executable, __file__, "--bare", str(path)]
    commands = {
        "bare Polars pass: bins by day": bare,
        "window before": [*cli, "--every", "1d"],
        "reference": [*cli, "--every", "1d", *until],
        "reference, by team": [*cli, "--every", "1d", *until, "--by", "team"],
        "reference, by team, same hours": [
            *cli, "--every", "1d", *until, "--by", "team", "--same-hour-of-week",
        ],
    }  # fmt: skip
    lines = ["| what | CPU s | of the bare pass | memory MB |", "|---|---:|---:|---:|"]
    first = None
    for name, words in commands.items():
        seconds, memory = _measured(words)
        first = first or seconds
        lines.append(f"| {name} | {seconds:.1f} | {seconds / first:.1f} | {memory:.0f} |")
    return lines


def _write_rows(path: Path, rows: int) -> None:
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    writer = None
    for start in range(0, rows, 500_000):
        m = min(500_000, rows - start)
        ns = START_NS + (start + np.arange(m)) * (30 * 86_400 * 10**9 // rows)
        frame = pl.DataFrame(
            {
                "time": pl.Series(ns).cast(pl.Datetime("ns", "UTC")),
                **{f"number{i}": rng.lognormal(0, 1, m) for i in range(6)},
                **{f"kind{i}": rng.choice([f"v{j}" for j in range(12)], m) for i in range(4)},
                "team": rng.choice(list("abcd"), m),
            }
        ).to_arrow()
        writer = writer or pq.ParquetWriter(path, frame.schema)
        writer.write_table(frame, row_group_size=100_000)
    assert writer is not None
    writer.close()


def bare_pass(path: str) -> None:
    """Count ten bins of each number and the categories by day, with edges by quantiles."""
    frame = pl.scan_parquet(path)
    names = frame.collect_schema().names()
    numbers = [name for name in names if name.startswith("number")]
    probabilities = [i / 10 for i in range(1, 10)]
    edges = frame.select(
        pl.col(name).quantile(q).alias(f"{name} {q}") for name in numbers for q in probabilities
    ).collect(engine="streaming")
    day = pl.col("time").dt.truncate("1d").alias("day")
    for name in names:
        if name == "time":
            continue
        value = pl.col(name)
        if name in numbers:
            cuts = np.array([edges[f"{name} {q}"][0] for q in probabilities])
            value = value.cut(cuts.tolist())
        frame.group_by(day, value.alias("bin")).len().collect(engine="streaming")


def _measured(words: list[str]) -> tuple[float, float]:
    """Return CPU seconds and largest memory, MB, of a process."""
    code = (
        "import json, resource, subprocess, sys; "
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
        "u = resource.getrusage(resource.RUSAGE_CHILDREN); "
        "print(json.dumps([u.ru_utime + u.ru_stime, u.ru_maxrss / 1024]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *words], check=True, capture_output=True, text=True
    )
    seconds, memory = json.loads(result.stdout)
    return float(seconds), float(memory)


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--bare", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        bare_pass(options.bare)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = f"benchmarks/drift_report.py --runs {options.runs} --rows {options.rows}"
        head = (
            f"{dt.datetime.now(dt.UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.machine()}, "
            f"Python {platform.python_version()}; `python {command}`. "
            "Read the ratios: the machine is shared.\n"
        )
        parts = ["# Drift report\n", head, *LEVEL_HEAD, *level(options.runs, folder)]
        parts += [*POWER_HEAD, *power(max(options.runs // 2, 1), folder)]
        parts.append(f"\n## Cost: {options.rows:,} rows, 11 columns, 30 days\n")
        parts += cost(options.rows, folder)
    text = "\n".join(parts) + "\n"
    (ROOT / "results" / "drift_report.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
