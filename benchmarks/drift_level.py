"""Level and power of PSI and the univariate tests, by simulation, into a table.

    python benchmarks/drift_level.py             # 1,000 runs a cell, into results/drift_level.md
    python benchmarks/drift_level.py --runs 200  # a quick look, printed only

Level: both samples have the same law; the share of runs with p <= 0.05 must lie within the
binomial interval of 0.05. Power: the same with a change. Every run draws new data; the seed
of the data is the cell's, the seed of the simulated laws is the run's.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from scipy.stats import binom

from pyflare_analysis.drift import PSIConfig, UnivariateConfig, count_rows, fit_profile, psi_columns
from pyflare_analysis.drift.profiles.columns import Feature, feature_named
from pyflare_analysis.drift.profiles.rows import as_rows
from pyflare_analysis.drift.univariate.columns import compact_summary, measure_columns
from pyflare_analysis.drift.univariate.summary import summarize_rows

RESULTS = Path(__file__).parent / "results"
ALPHA = 0.05
TESTS = ("psi", "ks", "wasserstein", "js", "chi2")
Draw = Callable[[np.random.Generator, int], np.ndarray]


def _zipf(categories: int) -> np.ndarray:
    shares = 1 / np.arange(1, categories + 1)
    return shares / shares.sum()


def _names(rng: np.random.Generator, n: int, shares: np.ndarray) -> np.ndarray:
    return np.char.add("c", rng.choice(len(shares), n, p=shares).astype(str))


KINDS: dict[str, Draw] = {
    "continuous: normal": lambda rng, n: rng.normal(size=n),
    "heavy-tailed: Pareto 0.8": lambda rng, n: rng.pareto(0.8, n),
    "tied: 60 % zeros, else exponential": lambda rng, n: np.where(
        rng.random(n) < 0.6, 0.0, rng.exponential(10, n)
    ),
    "tied: Poisson 3": lambda rng, n: rng.poisson(3, n).astype(np.float64),
    "tied: whole numbers 0 to 19": lambda rng, n: rng.integers(0, 20, n).astype(np.float64),
    "3 % missing, else normal": lambda rng, n: np.where(
        rng.random(n) < 0.03, np.nan, rng.normal(size=n)
    ),
    "categorical: 8, Zipf": lambda rng, n: _names(rng, n, _zipf(8)),
    "categorical: 200, Zipf": lambda rng, n: _names(rng, n, _zipf(200)),
    "categorical: 5,000, Zipf": lambda rng, n: _names(rng, n, _zipf(5000)),
}
_MOVED = _zipf(8) + np.array([-0.08, 0, 0, 0.08, 0, 0, 0, 0])
CHANGES: dict[str, tuple[Draw, Draw]] = {
    "mean + 0.3 sd": (KINDS["continuous: normal"], lambda rng, n: rng.normal(0.3, 1, n)),
    "spread x 1.3": (KINDS["continuous: normal"], lambda rng, n: rng.normal(0, 1.3, n)),
    "latency x 1.5 (lognormal, sigma 1)": (
        lambda rng, n: rng.lognormal(6, 1, n),
        lambda rng, n: 1.5 * rng.lognormal(6, 1, n),
    ),
    "zeros 60 -> 50 %": (
        KINDS["tied: 60 % zeros, else exponential"],
        lambda rng, n: np.where(rng.random(n) < 0.5, 0.0, rng.exponential(10, n)),
    ),
    "missing 3 -> 8 %": (
        KINDS["3 % missing, else normal"],
        lambda rng, n: np.where(rng.random(n) < 0.08, np.nan, rng.normal(size=n)),
    ),
    "8 categories, 8 points moved": (
        KINDS["categorical: 8, Zipf"],
        lambda rng, n: _names(rng, n, _MOVED),
    ),
    "a new category of 3 %": (
        KINDS["categorical: 8, Zipf"],
        lambda rng, n: np.where(rng.random(n) < 0.03, "new", _names(rng, n, _zipf(8))),
    ),
}


def p_values(reference: np.ndarray, current: np.ndarray, seed: int) -> dict[str, float]:
    """Return the p-value of each test that fits the data."""
    sides = as_rows(reference), as_rows(current)
    feature: Feature = feature_named("value", sides[0].columns())
    profile = fit_profile(sides[0], [feature])
    psi = psi_columns(profile, count_rows(profile, sides[1]), PSIConfig(random_seed=seed))[0]
    summaries = [summarize_rows(side, [feature]) for side in sides]
    config = UnivariateConfig(random_seed=seed, bootstraps=0)
    columns = measure_columns([feature], compact_summary(summaries[0]), summaries[1], config)
    return {"psi": float(psi.p_value[0])} | {
        column.test: column.measured.p_value for column in columns if column.measured is not None
    }


def rates(first: Draw, second: Draw, sizes: tuple[int, int], runs: int) -> dict[str, float]:
    """Return the share of runs in which each test rejects."""
    rng = np.random.default_rng(sum(sizes))
    rejected: dict[str, int] = {}
    for seed in range(runs):
        found = p_values(first(rng, sizes[0]), second(rng, sizes[1]), seed)
        for test, p in found.items():
            rejected[test] = rejected.get(test, 0) + (p <= ALPHA)
    return {test: count / runs for test, count in rejected.items()}


def table(rows: list[tuple[str, str, dict[str, float]]], bounds: tuple[float, float] | None) -> str:
    """Return a Markdown table; values outside the bounds are bold."""
    lines = ["| data | n, m | " + " | ".join(TESTS) + " |", "|---|---:|" + "---:|" * len(TESTS)]
    for name, sizes, found in rows:
        cells = []
        for test in TESTS:
            text = f"{found[test]:.3f}" if test in found else ""
            outside = bounds and test in found and not bounds[0] <= found[test] <= bounds[1]
            cells.append(f"**{text}**" if outside else text)
        lines.append(f"| {name} | {sizes} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def summary(rows: list[tuple[str, str, dict[str, float]]]) -> str:
    """Return the smallest and largest share of each test over all sizes, as Markdown."""
    lines = ["| data | " + " | ".join(TESTS) + " |", "|---|" + "---:|" * len(TESTS)]
    for name in dict.fromkeys(row[0] for row in rows):
        cells = []
        for test in TESTS:
            values = [row[2][test] for row in rows if row[0] == name and test in row[2]]
            cells.append(f"{min(values):.3f}-{max(values):.3f}" if values else "")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def document(
    level: list[tuple[str, str, dict[str, float]]],
    power: list[tuple[str, str, dict[str, float]]],
    runs: int,
    planned: int,
) -> str:
    """Return the results as Markdown."""
    done = len(level) + len(power)
    missing = (
        "" if done == planned else f"\n{done} of {planned} rows are done; the others are missing.\n"
    )
    low, high = (value / runs for value in binom.interval(0.95, runs, ALPHA))
    wide = tuple(value / runs for value in binom.interval(0.999, runs, ALPHA))
    values = [value for row in level for value in row[2].values()]
    outside = sum(not low <= value <= high for value in values)
    far = sum(not wide[0] <= value <= wide[1] for value in values)
    return f"""# Level and power of PSI and the univariate tests

{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.machine()}, Python \
{platform.python_version()}; `python benchmarks/drift_level.py`. {runs:,} runs a cell, a fifth of \
that for power; alpha {ALPHA}.
{missing}
## False alarms where nothing changed

The 95 % binomial interval of alpha is {low:.3f} to {high:.3f}, the 99.9 % one {wide[0]:.3f} to \
{wide[1]:.3f}. Of {len(values)} cells {outside} lie outside the first (about \
{0.05 * len(values):.0f} would by chance; bold below) and {far} outside the second. \
Exact tests of data with few possible values stay below alpha by what no further value fills: \
KS of few values, and PSI of 50 rows of 5,000 categories, of which two or three are frequent \
enough for a bin.

Smallest and largest share over all sizes:

{summary(level)}

{table(level, (low, high))}

## Power

{table(power, None)}
"""


def cells(
    kinds: list[str], sizes: list[int], runs: int
) -> list[tuple[str, str, Draw, Draw, tuple[int, int], int]]:
    """Return what to simulate, small samples first: table, name, both laws, sizes, runs."""
    pairs = [(n, n) for n in sizes]
    unequal = [(1000, 200), (200, 1000)] if 1000 in sizes else []
    level = [
        ("level", name, KINDS[name], KINDS[name], pair, runs)
        for pair in [*pairs, *unequal]
        for name in kinds
    ]
    power = [
        ("power", name, first, second, (n, n), max(runs // 5, 20))
        for n in (100, 300, 1000)
        for name, (first, second) in CHANGES.items()
    ]
    return [*level[: 2 * len(kinds)], *power, *level[2 * len(kinds) :]]


def main() -> None:
    """Run the simulations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--sizes", type=int, nargs="*", default=[50, 200, 1000, 5000])
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--cache", type=Path, help="keep finished cells here and go on from there")
    parser.add_argument("--cached-only", action="store_true", help="tables of what is finished")
    arguments = parser.parse_args()
    finished = _read(arguments.cache)
    planned = cells(arguments.kinds, arguments.sizes, arguments.runs)
    tables: dict[str, list[tuple[str, str, dict[str, float]]]] = {"level": [], "power": []}
    started = time.process_time()
    for kind, name, first, second, pair, runs in planned:
        key = json.dumps([kind, name, *pair, runs])
        if arguments.cached_only and key not in finished:
            continue
        if key not in finished:
            finished[key] = rates(first, second, pair, runs)
            if arguments.cache is not None:
                with arguments.cache.open("a") as file:
                    file.write(json.dumps({"key": key, "rates": finished[key]}) + "\n")
        tables[kind].append((name, f"{pair[0]:,}, {pair[1]:,}", finished[key]))
        print(f"{time.process_time() - started:7.0f} s", key, finished[key], flush=True)
        if arguments.runs >= 1000 and arguments.kinds == list(KINDS):
            order = [*KINDS, *CHANGES]
            tables[kind].sort(key=lambda row: order.index(row[0]))
            text = document(tables["level"], tables["power"], arguments.runs, len(planned))
            (RESULTS / "drift_level.md").write_text(text)


def _read(cache: Path | None) -> dict[str, dict[str, float]]:
    if cache is None or not cache.exists():
        return {}
    lines = [json.loads(line) for line in cache.read_text().splitlines()]
    return {line["key"]: line["rates"] for line in lines}


if __name__ == "__main__":
    main()
