"""Slices on 1 million rows x 10 dimensions: cost, agreement with a group-by, and divexplorer.

    python benchmarks/rca_slices.py [--peer VENV/bin/python] [-o results/rca_slices.md]

Dimensions of 3 to 50 values, 3.3 % bad rows, and three planted slices of one, two and three
dimensions. Each part runs in a process of its own; CPU seconds are those of user and system of
the process, from its start, imports and reading included. The group-by is Polars' own over every
combination of dimensions. The peer is divexplorer (any environment that has it), over the same
file, with the same least support; it has no limit of length.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import numpy as np

SIZES = (3, 4, 5, 8, 10, 12, 20, 30, 40, 50)
NAMES = [f"d{i}" for i in range(len(SIZES))]
PLANTED = [
    ({"d6": "v15"}, 0.12),
    ({"d2": "v4", "d5": "v9"}, 0.15),
    ({"d0": "v2", "d3": "v5", "d7": "v3"}, 0.30),
]
SUPPORT = 0.001

PEER = """
import json, resource, sys
import pandas as pd
from divexplorer import DivergenceExplorer
frame = pd.read_parquet(sys.argv[1])
frame["failed"] = frame["failed"].astype(int)
names = sys.argv[4].split(",")
found = DivergenceExplorer(frame).get_pattern_divergence(
    min_support=float(sys.argv[2]), attributes=names, boolean_outcomes=["failed"])
wanted = [frozenset(x) for x in json.loads(sys.argv[3])]
rows = {frozenset(r.itemset): r for r in found[found["length"] <= 3].itertuples()}
order = found.sort_values("failed_div", ascending=False)
ranks = {frozenset(s): i for i, s in enumerate(order["itemset"], 1)}
use = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({
    "cpu_s": use.ru_utime + use.ru_stime, "itemsets": len(found),
    "mib": int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024,
    "planted": [[float(rows[w].failed_div), float(rows[w].support), ranks[w]] if w in rows
                else None for w in wanted],
}))
"""


def main() -> None:
    """Run all parts and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--peer", help="Python of an environment with divexplorer")
    parser.add_argument("--peer-support", type=float, default=0.005)
    parser.add_argument("--run", choices=["slices", "group-by", "check"], help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--depth", type=int, default=3, help=argparse.SUPPRESS)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    if options.run:
        {"slices": _slices, "group-by": _group_by, "check": _check}[options.run](options)
        return
    with tempfile.TemporaryDirectory(prefix="rca-slices-") as folder:
        path = Path(folder) / "rows.parquet"
        write_rows(path, options.rows, seed=5)
        lines = _report(path, options)
    print("\n".join(lines))
    if options.output is not None:
        options.output.write_text("# Cost of slices\n\n" + "\n".join(lines) + "\n")


def write_rows(path: Path, rows: int, *, seed: int) -> None:
    """Write a table of rows to a Parquet file."""
    import polars as pl

    rng = np.random.default_rng(seed)
    codes = {}
    for name, size in zip(NAMES, SIZES, strict=True):
        weight = 1 / np.arange(1, size + 1) ** 0.5
        codes[name] = rng.choice(size, rows, p=weight / weight.sum())
    rate = np.full(rows, 0.03)
    for where, own in PLANTED:
        inside = np.all([codes[n] == int(v.removeprefix("v")) for n, v in where.items()], axis=0)
        rate[inside] = own
    frame = pl.DataFrame(
        {name: np.array([f"v{v}" for v in range(50)])[c] for name, c in codes.items()}
    )
    frame.with_columns(failed=pl.Series(rng.random(rows) < rate)).write_parquet(path)


def _report(path: Path, options: argparse.Namespace) -> list[str]:
    made = f"{options.rows:,} rows, 10 dimensions of {SIZES} values, least support {SUPPORT:.1%}"
    lines = [
        f"{made}; {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores.",
        "",
        "| | CPU s | peak MiB | slices |",
        "|---|--:|--:|--:|",
    ]
    ours = {}
    for depth in (2, 3):
        ours[depth] = _child("slices", path, depth)
        lines.append(_row(f"`rca slices --depth {depth}`", ours[depth], ours[depth]["tested"]))
    plain = _child("group-by", path, 3)
    lines.append(_row("Polars `group_by` a combination, to depth 3", plain, plain["slices"]))
    peer = None if options.peer is None else _peer(path, options, NAMES, options.peer_support)
    if peer is not None:
        name = f"divexplorer, least support {options.peer_support:.1%}"
        lines.append(_row(name, peer, peer["itemsets"]))
        lines.append("")
        lines.append(
            f"divexplorer / `rca slices --depth 3`: {peer['cpu_s'] / ours[3]['cpu_s']:.0f}"
        )
    lines += ["", "Listed:", ""]
    lines += [f"- {json.dumps(item['slice'])}: {item['value']:.4f}" for item in ours[3]["listed"]]
    check = _child("check", path, 3)
    lines += [
        "",
        f"Agreement with the group-by: {check['slices']:,} slices of up to 3 dimensions, ",
    ]
    lines[-1] += f"{check['different']} of them with other counts of rows or bad rows."
    if peer is not None:
        names = sorted({name for where, _ in PLANTED for name in where})
        listed = _peer(path, options, names, SUPPORT)
        lines += ["", f"The planted slices in divexplorer's list ({', '.join(names)} only, least "]
        lines[-1] += f"support {SUPPORT:.1%}, {listed['itemsets']:,} itemsets):"
        lines.append("")
        for (where, _), found in zip(PLANTED, listed["planted"], strict=True):
            own = check["divergence"][json.dumps(where)]
            told = f"divergence {found[0]:.6f}, rank {found[2]:,}" if found else "not listed"
            lines.append(f"- {json.dumps(where)}: ours {own:.6f}; {told}")
    return lines


def _row(name: str, use: dict, slices: int) -> str:
    return f"| {name} | {use['cpu_s']:.2f} | {use['mib']:.0f} | {slices:,} |"


def _child(run: str, path: Path, depth: int) -> dict:
    command = [sys.executable, __file__, "--run", run, "--file", str(path), "--depth", str(depth)]
    told = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(told.stdout))


def _peer(path: Path, options: argparse.Namespace, names: list[str], support: float) -> dict:
    wanted = json.dumps([[f"{k}={v}" for k, v in where.items()] for where, _ in PLANTED])
    command = [options.peer, "-c", PEER, str(path), str(support), wanted, ",".join(names)]
    told = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(told.stdout))


def _answer(**figures: object) -> None:
    use = resource.getrusage(resource.RUSAGE_SELF)
    spent = {"cpu_s": use.ru_utime + use.ru_stime, "mib": _peak_mib()}
    print(json.dumps({**spent, **figures}))


def _peak_mib() -> float:
    """Return the peak of resident memory; `ru_maxrss` would hold that of the parent too."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _slices(options: argparse.Namespace) -> None:
    from pyflare_analysis.rca.metrics import outcome_metric
    from pyflare_analysis.rca.slices.analyzer import SliceAnalyzer, SliceAnalyzerConfig
    from pyflare_storage.source import open_source

    source = open_source(options.file)
    config = SliceAnalyzerConfig(depth=options.depth, min_support=SUPPORT)
    analyzer = SliceAnalyzer(source, config, dimensions=NAMES)
    answer = analyzer.analyze(outcome_metric(source, "failed"))
    listed = [{"slice": dict(r.definition), "value": r.metric_value} for r in answer.slices]
    _answer(tested=answer.slices_tested, listed=listed)


def _group_by(options: argparse.Namespace) -> None:
    _answer(slices=len(_counted(options)))


def _counted(options: argparse.Namespace) -> dict:
    """Count rows and bad rows of every slice by hand."""
    import polars as pl

    frame = pl.read_parquet(options.file)
    least = SUPPORT * frame.height
    found = {}
    for level in range(1, options.depth + 1):
        for names in combinations(NAMES, level):
            groups = frame.group_by(names).agg(rows=pl.len(), bad=pl.col("failed").sum())
            for *values, rows, bad in groups.filter(pl.col("rows") >= least).iter_rows():
                found[tuple(zip(names, values, strict=True))] = (rows, bad)
    return found


def _check(options: argparse.Namespace) -> None:
    """Compare the counts of all slices with the group-by."""
    from pyflare_analysis.rca.coded import CodedRows, fit_dimensions
    from pyflare_analysis.rca.dimensions import resolve_dimension
    from pyflare_analysis.rca.metrics import MetricReader, outcome_metric
    from pyflare_analysis.rca.slices.cells import find_cells, totals
    from pyflare_storage.source import open_source

    source = open_source(options.file)
    columns = source.columns()
    reader = MetricReader(outcome_metric(source, "failed"), columns)
    wanted = [resolve_dimension(name, columns) for name in NAMES]
    fitted, rows = fit_dimensions(source, wanted, None, bins=5)
    coded = CodedRows(source, reader, fitted, None, weighted=False)
    cells = find_cells(coded, options.depth, int(SUPPORT * rows), binary=True)
    total = totals(coded)
    ours = {}
    divergence = {}
    for dims, codes, n, bad in zip(
        cells.dims.tolist(),
        cells.codes.tolist(),
        cells.sums.rows.tolist(),
        cells.sums.first.tolist(),
        strict=True,
    ):
        pairs = [(fitted[d], c) for d, c in zip(dims, codes, strict=True) if d >= 0]
        key = tuple((dimension.name, dimension.label(c, c)) for dimension, c in pairs)
        ours[key] = (int(n), int(bad))
        if dict(key) in [where for where, _ in PLANTED]:
            divergence[json.dumps(dict(key))] = bad / n - float(total.mean[0])
    theirs = _counted(options)
    different = sum(ours.get(key) != theirs.get(key) for key in ours.keys() | theirs.keys())
    _answer(slices=len(theirs), different=different, divergence=divergence)


if __name__ == "__main__":
    main()
