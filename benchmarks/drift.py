"""What PSI costs, beside a bare Polars pass and the peers, in one run, into a table.

    python benchmarks/drift.py                                  # without peers
    python benchmarks/drift.py --peers DIR                      # DIR/evidently, DIR/nannyml, ...
    python benchmarks/drift.py --rows 1000000 --large 100000000 # also one long file set

10 columns (6 of numbers, 4 of text) x 1 million rows a side in Parquet. Each contender runs in a
process of its own and reads both files. The clock starts after the imports, for the peers once
with the data in memory and once before they are read; the peak of resident memory is that of
the process. Peers live in environments of their own:

    python -m venv DIR/evidently && DIR/evidently/bin/pip install evidently 'pandas<3'
    python -m venv DIR/nannyml && DIR/nannyml/bin/pip install nannyml statsmodels 'pandas<3'
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

RESULTS = Path(__file__).parent / "results"
LARGE = "the long files"
VALUES = {"psi", "js"}

COMMON = """
import json, resource, sys
def used():
    r = resource.getrusage(resource.RUSAGE_SELF)
    return r.ru_utime + r.ru_stime
def report(**more):
    # ru_maxrss would begin with what the parent held when it forked.
    lines = open("/proc/self/status").read().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    whole = used() - globals().get("began", started)
    print(json.dumps({"cpu_s": used() - started, "whole_cpu_s": whole, "peak_mb": peak, **more}))
ref, cur = sys.argv[1:3]
"""

BARE = """
# The least that any PSI does: quantiles of the reference, then counts, in Polars' own engine.
import polars as pl
started = used()
schema = pl.read_parquet_schema(ref)
numbers = [n for n, t in schema.items() if t.is_numeric()]
texts = [n for n in schema if n not in numbers]
probabilities = [k / 10 for k in range(1, 10)]
r, c = pl.scan_parquet(ref), pl.scan_parquet(cur)
edges = r.select(
    pl.col(n).quantile(q, "linear").alias(f"{n} {q}") for n in numbers for q in probabilities
).collect(engine="streaming").row(0, named=True)
for side in (r, c):
    side.select(
        (pl.col(n) < edges[f"{n} {q}"]).sum().alias(f"{n} {q}")
        for n in numbers for q in probabilities
    ).collect(engine="streaming")
    for n in texts:
        side.group_by(n).len().collect(engine="streaming")
report()
"""

READ = """
# Reading alone: every value decoded once, and one maximum a column.
import polars as pl
started = used()
for path in (ref, cur):
    pl.scan_parquet(path).select(pl.all().max()).collect(engine="streaming")
report()
"""

PYFLARE = """
import os
os.environ.setdefault("POLARS_MAX_CONCURRENT_SCANS", "1")  # as the command does
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
from pyflare_analysis.drift.profiles.columns import feature_named
from pyflare_analysis.drift.profiles.counts import count_rows
from pyflare_analysis.drift.profiles.profile import fit_profile
from pyflare_analysis.drift.psi.columns import psi_columns
from pyflare_storage.arrow_batches import give_large_blocks_back
from pyflare_storage.source import open_source
import pyarrow.parquet, scipy.special
give_large_blocks_back()  # as the command does
started = used()
with open_source(ref) as reference, open_source(cur) as current:
    types = reference.columns()
    profile = fit_profile(reference, [feature_named(name, types) for name in types])
    columns = psi_columns(profile, count_rows(profile, current))
report(psi={column.name: float(column.psi[0]) for column in columns}, rows=profile.rows)
"""

EVIDENTLY = """
import pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset
began = used()
r, c = pd.read_parquet(ref), pd.read_parquet(cur)
started = used()
result = Report([DataDriftPreset(method="psi")]).run(current_data=c, reference_data=r)
metrics = result.dict()["metrics"]
psi = {}
for metric in metrics:
    column = metric.get("config", {}).get("column")
    if column is not None:
        psi[column] = float(metric["value"])
report(psi=psi)
"""

NANNYML = """
import logging, warnings
warnings.filterwarnings("ignore")
import nannyml, pandas as pd
nannyml.disable_usage_logging()
began = used()
r, c = pd.read_parquet(ref), pd.read_parquet(cur)
started = used()
names = list(r.columns)
calculator = nannyml.UnivariateDriftCalculator(
    column_names=names, continuous_methods=["jensen_shannon"],
    categorical_methods=["jensen_shannon"], chunk_number=1,
)
calculator.fit(r)
frame = calculator.calculate(c).filter(period="analysis").to_df()
report(js={n: float(frame[(n, "jensen_shannon", "value")].iloc[0]) for n in names})
"""

FROUROS = """
import pandas as pd
from frouros.detectors.data_drift import PSI
began = used()
r, c = pd.read_parquet(ref), pd.read_parquet(cur)
started = used()
psi = {}
for name in r.columns:
    if r[name].dtype.kind == "f" or r[name].dtype.kind == "i":
        detector = PSI()
        detector.fit(X=r[name].to_numpy())
        psi[name] = float(detector.compare(X=c[name].to_numpy())[0].distance)
report(psi=psi)
"""


def table(path: Path, rows: int, seed: int, *, ids: bool = True) -> None:
    """Write one side."""
    rng = np.random.default_rng(seed)
    columns = {
        "normal": rng.normal(size=rows),
        "latency_ms": rng.lognormal(6, 1, rows),
        "tokens": rng.poisson(300, rows),
        "zeros": np.where(rng.random(rows) < 0.6, 0.0, rng.exponential(10, rows)),
        "cost": rng.lognormal(10, 2, rows),
        "uniform": rng.random(rows),
        "model": pl.Series([f"m{i}" for i in range(8)])[rng.integers(0, 8, rows)],
        "feature": pl.Series([f"feature {i}" for i in range(200)])[rng.integers(0, 200, rows)],
        "finish_reason": pl.Series(["stop", "length", "tool"])[rng.integers(0, 3, rows)],
    }
    if ids:
        names = pl.Series([f"user{i}" for i in range(100_000)])
        columns["user_id"] = names[rng.integers(0, 100_000, rows)]
    pl.DataFrame(columns).write_parquet(path)


def run(python: str, code: str, *paths: str) -> dict:
    """Run a contender and return what it reports."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    result = subprocess.run(
        [python, "-c", COMMON + code, *paths],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    if result.returncode:
        print(result.stderr[-2000:], file=sys.stderr)
        return {}
    return json.loads(result.stdout.strip().splitlines()[-1])


def contenders(arguments: argparse.Namespace) -> dict[str, tuple[str, str]]:
    """Return interpreter and code of each contender that is installed."""
    mine, peers = sys.executable, arguments.peers
    found = {
        "reading alone (Polars, a maximum a column)": (mine, READ),
        "bare Polars pass (quantiles, counts, group by)": (mine, BARE),
        "PyFlare": (mine, PYFLARE),
    }
    if peers is not None:
        for name, code in (("evidently", EVIDENTLY), ("nannyml", NANNYML), ("frouros", FROUROS)):
            python = peers / name / "bin" / "python"
            if python.exists():
                found[name] = (str(python), code)
    return found


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--large", type=int, default=0, help="rows of the long run a side")
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--cache", type=Path, help="keep what was measured here and go on")
    parser.add_argument("--no-write", action="store_true")
    arguments = parser.parse_args()
    cache = arguments.cache
    found = json.loads(cache.read_text()) if cache is not None and cache.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        ref, cur = Path(folder, "ref.parquet"), Path(folder, "cur.parquet")
        table(ref, arguments.rows, 1)
        table(cur, arguments.rows, 2)
        work = {name: (*rest, str(ref), str(cur)) for name, rest in contenders(arguments).items()}
        if arguments.large:
            sides = large(Path(folder), arguments.large // arguments.rows)
            work[LARGE] = (sys.executable, PYFLARE, *sides)
        for name, words in work.items():
            if not found.get(name):
                found[name] = run(*words)
                print(name, {k: v for k, v in found[name].items() if k not in VALUES}, flush=True)
                if cache is not None:
                    cache.write_text(json.dumps(found))
    long = found.pop(LARGE, {})
    text = document(found, long, arguments)
    print(text)
    if not arguments.no_write:
        (RESULTS / "drift.md").write_text(text)


def large(folder: Path, times: int) -> list[str]:
    """Make a long set of files of each side out of links to one file."""
    sides = []
    for name in ("ref", "cur"):
        side = folder / f"large-{name}"
        side.mkdir()
        for i in range(times):
            (side / f"part-{i:04d}.parquet").hardlink_to(folder / f"{name}.parquet")
        sides.append(str(side))
    return sides


def document(found: dict[str, dict], long: dict, arguments: argparse.Namespace) -> str:
    """Return the results as Markdown."""
    bare = found["bare Polars pass (quantiles, counts, group by)"]["cpu_s"]
    head = f"""# What PSI costs

{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.machine()}, Python \
{platform.python_version()}; `python benchmarks/drift.py`. 10 columns (6 of numbers, 4 of text, \
one of them 100,000 ids) x {arguments.rows:,} rows a side. "From Parquet" includes reading the \
files, "in memory" is what the peers take once they have been read. Read the ratios: the machine \
is shared.
"""
    lines = [
        head,
        "| who | from Parquet: CPU s | of bare | of PyFlare | in memory: CPU s | of PyFlare | MB |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    mine = found["PyFlare"]["cpu_s"]
    for name, row in found.items():
        if row:
            whole, work = row["whole_cpu_s"], row["cpu_s"]
            cells = [name, f"{whole:.2f}", f"{whole / bare:.2f}", f"{whole / mine:.1f}"]
            cells += [f"{work:.2f}", f"{work / mine:.1f}"] if whole > work else ["", ""]
            lines.append(f"| {' | '.join(cells)} | {row['peak_mb']:.0f} |")
    if long:
        lines.append(
            f"| PyFlare, {long['rows']:,} rows a side | {long['cpu_s']:.0f} | | | | | "
            f"{long['peak_mb']:.0f} |"
        )
    lines += [
        "",
        "Values on these unchanged columns:",
        "",
        "| column | "
        + " | ".join(name for name, row in found.items() if row.get("psi") or row.get("js"))
        + " |",
        "|---|" + "---:|" * sum(bool(r.get("psi") or r.get("js")) for r in found.values()),
    ]
    shown = [row.get("psi") or row.get("js") for row in found.values()]
    shown = [row for row in shown if row]
    for column in shown[0]:
        cells = [f"{row[column]:.5f}" if column in row else "" for row in shown]
        lines.append(f"| {column} | " + " | ".join(cells) + " |")
    lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
