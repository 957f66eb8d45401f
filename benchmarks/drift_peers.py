"""The same samples through PyFlare and four peers, number beside number, into a table.

    python benchmarks/drift_peers.py --peers DIR                # DIR/evidently/bin/python, ...
    python benchmarks/drift_peers.py --peers DIR --traffic CSV  # also a file of real requests

Each tool runs in an environment of its own over the same files, with its own defaults:

    python -m venv DIR/evidently && DIR/evidently/bin/pip install evidently 'pandas<3'
    python -m venv DIR/nannyml && DIR/nannyml/bin/pip install nannyml statsmodels 'pandas<3'
    python -m venv DIR/frouros && DIR/frouros/bin/pip install frouros pandas pyarrow
    python -m venv DIR/alibi && DIR/alibi/bin/pip install 'alibi-detect[tensorflow]' pyarrow

What the differences come from is told in docs/drift-peers.md.
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

COMMON = """
import json, os, sys, warnings
warnings.filterwarnings("ignore")
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
from importlib.metadata import version
def sides():
    for name in sys.argv[1:]:
        yield name, name + ".ref.parquet", name + ".cur.parquet"
def tell(found, package):
    print(json.dumps({"version": version(package), "found": found}))
def attempt(job):
    try:
        return job()
    except Exception as error:  # what a tool says of a sample is a result
        return "error: " + (str(error).splitlines() or [type(error).__name__])[0][:60]
"""

PYFLARE = """
import polars as pl
from pyflare_analysis.drift import PSIConfig, PSIDriftDetector, UnivariateDriftDetector
found = {}
for name, ref, cur in sides():
    r, c = pl.read_parquet(ref), pl.read_parquet(cur)
    psi = PSIDriftDetector(PSIConfig())
    psi.set_reference(r)
    column = psi.compute(c).details["columns"][0]
    tests = UnivariateDriftDetector()
    tests.set_reference(r)
    rows = {row["test"]: row for row in tests.compute(c).details["columns"]}
    found[name] = {"psi": column["psi"], "psi_smoothed": column["psi_smoothed"],
                   "verdict": column["verdict"]}
    for test, row in rows.items():
        found[name] |= {test: row["statistic"], test + "_p": row["p_value"],
                        test + "_effect": row["effect_size"]}
tell(found, "pyflare-suite")
"""

EVIDENTLY = """
import pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset
def one(method, r, c):
    result = Report([DataDriftPreset(method=method)]).run(current_data=c, reference_data=r)
    values = [float(m["value"]) for m in result.dict()["metrics"]
              if m.get("config", {}).get("column") is not None]
    return values[0]
found = {}
for name, ref, cur in sides():
    r, c = pd.read_parquet(ref), pd.read_parquet(cur)
    methods = ["psi"] if r["value"].dtype == object else ["psi", "wasserstein"]
    found[name] = {m: attempt(lambda: one(m, r, c)) for m in methods}
tell(found, "evidently")
"""

FROUROS = """
import pandas as pd
from frouros.detectors.data_drift import EMD, PSI, KSTest
found = {}
def distance(kind, r, c):
    detector = kind()
    detector.fit(X=r)
    result = detector.compare(X=c)[0]
    return float(result.distance if hasattr(result, "distance") else result.statistic)
for name, ref, cur in sides():
    r, c = (pd.read_parquet(path)["value"].to_numpy() for path in (ref, cur))
    kinds = {"psi": PSI, "ks": KSTest, "wasserstein": EMD}
    found[name] = {k: attempt(lambda: distance(v, r, c)) for k, v in kinds.items()}
tell(found, "frouros")
"""

NANNYML = """
import logging
import nannyml, pandas as pd
nannyml.disable_usage_logging()
found = {}
def one(method, r, c):
    text = r["value"].dtype == object
    methods = {"categorical_methods" if text else "continuous_methods": [method]}
    calculator = nannyml.UnivariateDriftCalculator(
        column_names=["value"], chunk_number=1, **methods)
    calculator.fit(r)
    frame = calculator.calculate(c).filter(period="analysis").to_df()
    return float(frame[("value", method, "value")].iloc[0])
names = {"js": "jensen_shannon", "ks": "kolmogorov_smirnov", "wasserstein": "wasserstein"}
for name, ref, cur in sides():
    r, c = pd.read_parquet(ref), pd.read_parquet(cur)
    kept = {"js": "jensen_shannon"} if r["value"].dtype == object else names
    found[name] = {k: attempt(lambda: one(v, r, c)) for k, v in kept.items()}
tell(found, "nannyml")
"""

ALIBI = """
import pandas as pd
from alibi_detect.cd import ChiSquareDrift, KSDrift
found = {}
def one(r, c):
    text = r.dtype == object
    kind = ChiSquareDrift if text else KSDrift
    detector = kind(r.astype(str)[:, None] if text else r.astype(float)[:, None])
    data = detector.predict(c.astype(str)[:, None] if text else c.astype(float)[:, None])["data"]
    test = "chi2" if text else "ks"
    return {test: float(data["distance"][0]), test + "_p": float(data["p_val"][0])}
for name, ref, cur in sides():
    r, c = (pd.read_parquet(path)["value"].to_numpy() for path in (ref, cur))
    told = attempt(lambda: one(r, c))
    found[name] = told if isinstance(told, dict) else {"ks_p": told}
tell(found, "alibi-detect")
"""

PEERS = {"evidently": EVIDENTLY, "frouros": FROUROS, "nannyml": NANNYML, "alibi": ALIBI}


def samples(traffic: Path | None) -> dict[str, tuple[str, np.ndarray, np.ndarray]]:
    """Return each pair: what is true of it, the reference and the current values."""
    rng = np.random.default_rng(0)
    long = rng.lognormal(6, 1, 100_000), 1.5 * rng.lognormal(6, 1, 100_000)
    short = long[0][:1000], long[1][:1000]
    names = np.repeat(["a", "b", "c", "d"], (4900, 3000, 2000, 100))
    gone = np.repeat(["a", "b", "c"], (4900, 3060, 2040))
    ids = [np.char.add("id", rng.integers(0, 100_000, 100_000).astype(str)) for _ in range(2)]
    tokens = [rng.poisson(3, 1000).astype(np.float64) for _ in range(2)]
    pairs = {
        "latency x 1.5": ("moved", *long),
        "1,000 of these": ("moved", *short),
        "the same and one value of 1e9": ("moved", np.append(short[0], 1e9), short[1]),
        "a category of 1 % vanishes (10,000 rows)": ("small change", names, gone),
        "the same, and another occurs once": (
            "small change",
            np.append(names, "e"),
            np.append(gone, "e"),
        ),
        "100,000 ids of one law, 100,000 rows": ("unchanged", *ids),
        "a constant column, half of it changes": (
            "moved",
            np.full(1000, 5.0),
            np.repeat([5.0, 6.0], 500),
        ),
        "one NaN in the reference": ("unchanged", np.append(short[0], np.nan), short[0][::-1]),
        "whole numbers, Poisson of 3, 1,000 rows": ("unchanged", *tokens),
        "normal, 1,000 rows, mean + 0.2": (
            "moved",
            rng.normal(size=1000),
            rng.normal(0.2, 1, 1000),
        ),
    }
    if traffic is not None:
        table = pl.read_csv(traffic).sort("TIMESTAMP")
        half = len(table) // 2
        for column in ("ContextTokens", "GeneratedTokens"):
            values = table[column].to_numpy().astype(np.float64)
            title = f"real conversations, first against second half: {column}"
            pairs[title] = ("moved", values[:half], values[half:])
    return pairs


def run(python: str, code: str, stems: list[str]) -> dict:
    """Return what one tool says of all pairs."""
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS")}
    ended = subprocess.run(
        [python, "-c", COMMON + code, *stems],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | threads,
    )
    if ended.returncode:
        sys.exit(f"error: {python}: {ended.stderr[-1500:]}")
    return json.loads(ended.stdout.strip().splitlines()[-1])


def number(value: object) -> str:
    """Return a value for a cell of the table."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if np.isnan(value):
        return "none"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def document(pairs: dict, tools: dict[str, dict], stems: dict[str, str]) -> str:
    """Return the tables as Markdown."""

    def cell(tool: str, title: str, key: str) -> str:
        return number(tools.get(tool, {}).get("found", {}).get(stems[title], {}).get(key))

    def told(tool: str, title: str, *keys: str) -> str:
        return " / ".join(filter(None, (cell(tool, title, key) for key in keys)))

    versions = ", ".join(f"{name} {tool['version']}" for name, tool in tools.items())
    head = (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.machine()}, Python "
        f"{platform.python_version()}; `python benchmarks/drift_peers.py`. {versions}. Each with "
        "its defaults; the reasons are in [docs/drift-peers.md](../../docs/drift-peers.md)."
    )
    lines = [
        "# The same samples, five tools",
        "",
        head,
        "",
        "## PSI",
        "",
        "| data | truth | PyFlare `psi` / `psi_smoothed`, verdict | evidently | frouros |",
        "|---|---|---:|---:|---:|",
    ]
    for title, (truth, *_) in pairs.items():
        ours = (
            f"{told('pyflare', title, 'psi', 'psi_smoothed')}, {cell('pyflare', title, 'verdict')}"
        )
        peers = (cell(peer, title, "psi") for peer in ("evidently", "frouros"))
        lines.append(f"| {title} | {truth} | {ours} | {' | '.join(peers)} |")
    lines += [
        "",
        "## Jensen-Shannon distance",
        "",
        "| data | PyFlare, nats | PyFlare, base 2 | NannyML, base 2 |",
        "|---|---:|---:|---:|",
    ]
    for title in pairs:
        nats = tools["pyflare"]["found"][stems[title]].get("js")
        base2 = None if nats is None else nats / np.log(2) ** 0.5
        lines.append(
            f"| {title} | {number(nats)} | {number(base2)} | {cell('nannyml', title, 'js')} |"
        )
    lines += [
        "",
        "## Kolmogorov-Smirnov D and p (chi-square of categories)",
        "",
        "| data | PyFlare | alibi-detect | frouros D | NannyML D |",
        "|---|---:|---:|---:|---:|",
    ]
    for title in pairs:
        cells = [
            told(tool, title, "ks", "ks_p") or told(tool, title, "chi2", "chi2_p")
            for tool in ("pyflare", "alibi")
        ]
        cells += [cell(tool, title, "ks") for tool in ("frouros", "nannyml")]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    lines += [
        "",
        "## Wasserstein distance",
        "",
        "| data | PyFlare, unit / sd | evidently | frouros | NannyML |",
        "|---|---:|---:|---:|---:|",
    ]
    for title in pairs:
        if cell("pyflare", title, "wasserstein"):
            cells = [told("pyflare", title, "wasserstein", "wasserstein_effect")]
            cells += [cell(t, title, "wasserstein") for t in ("evidently", "frouros", "nannyml")]
            lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run all tools and write the tables."""
    parser = argparse.ArgumentParser(description="The same samples through all tools.")
    parser.add_argument("--peers", type=Path, required=True)
    parser.add_argument("--traffic", type=Path, help="a file with ContextTokens, GeneratedTokens")
    parser.add_argument("--output", type=Path, default=RESULTS / "drift_peers.md")
    given = parser.parse_args()
    pairs = samples(given.traffic)
    with tempfile.TemporaryDirectory() as folder:
        stems = {title: str(Path(folder, f"pair{i}")) for i, title in enumerate(pairs)}
        for title, (_, *both) in pairs.items():
            for side, values in zip(("ref", "cur"), both, strict=True):
                pl.DataFrame({"value": values}).write_parquet(f"{stems[title]}.{side}.parquet")
        tools = {"pyflare": run(sys.executable, PYFLARE, list(stems.values()))}
        for name, code in PEERS.items():
            python = given.peers / name / "bin" / "python"
            if python.exists():
                tools[name] = run(str(python), code, list(stems.values()))
                print(name, tools[name]["version"], flush=True)
        text = document(pairs, tools, stems)
    print(text)
    given.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
