"""Level and power of the detectors of vectors by simulation, for docs/drift-embeddings.md.

    python benchmarks/mmd_power.py                  # the tables, into results/mmd_power.md
    python benchmarks/mmd_power.py --level-runs 50 --power-runs 20   # a look
    python benchmarks/mmd_power.py --processes 2    # the same tables, sooner
    python benchmarks/mmd_power.py --cache FILE     # keep finished runs there and go on from them

Vectors are of unit length in 384 dimensions around 20 topics: a random unit vector a topic, plus
normal noise of length 0.65, drawn anew for each run. The changes:

    mean shift          0.06 along one random direction, before scaling to unit length
    new topic 2 %, 5 %  that share of the current vectors is around a 21st topic
    topic mix           shares of the topics from half to one and a half times what they were
    tighter             noise of all current vectors 0.9 times what it was
    half and half       noise of every second topic 0.9 times, of the others 1.1 times
    half and half rows  the same, by a coin for each vector instead of by topic
"""

import argparse
import json
import os
import platform
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from pathlib import Path

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")  # before numpy loads: figures are of one core

import numpy as np  # noqa: E402  # after the variables above
from numpy.typing import NDArray  # noqa: E402
from scipy.stats import binom  # noqa: E402

from pyflare_analysis.drift.embeddings.auto import AUTO, run  # noqa: E402
from pyflare_analysis.drift.embeddings.features import features_test  # noqa: E402
from pyflare_analysis.drift.embeddings.kernels import Distances, Gaussian, kernel_sums  # noqa: E402
from pyflare_analysis.drift.embeddings.pooled import Pooled, permutation_p_value  # noqa: E402

RESULTS = Path(__file__).parent / "results"
DIMENSIONS, TOPICS, NOISE = 384, 20, 0.65
METHODS = ("mmd", "rff", *AUTO, "auto")
ALPHA, PERMUTATIONS = 0.05, 100
RUNS_OF_A_PART = 20
"""Runs that one process makes at a time, and that the cache keeps together."""
LEVELS = ((50, 50), (200, 200), (500, 500), (500, 100), (1000, 1000), (5000, 5000))
"""Reference and current vectors."""
CHANGES = ("mean shift", "new topic 2 %", "new topic 5 %", "topic mix", "tighter",
           "half and half", "half and half rows")  # fmt: skip
BARS = (0.85, 0.55, 0.9, 1.0, 0.95, 0.8, None)
"""What `auto` has to reach at n = m = 1,000."""
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class World:
    """Topics of one run."""

    centers: NDArray[np.float64]
    direction: NDArray[np.float64]

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> "World":
        """Draw the topics."""
        vectors = rng.standard_normal((TOPICS + 2, DIMENSIONS))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return cls(vectors[:-1], vectors[-1])

    def sample(self, n: int, rng: np.random.Generator, change: str | None = None) -> Vectors:
        """Draw n vectors, changed or not."""
        shares = np.ones(TOPICS)
        if change == "topic mix":
            shares = np.linspace(0.5, 1.5, TOPICS)
        topic = rng.choice(TOPICS, n, p=shares / shares.sum())
        if change is not None and change.startswith("new topic"):
            share = 0.02 if "2" in change else 0.05
            topic = np.where(rng.random(n) < share, TOPICS, topic)
        scale = np.ones(n)
        if change == "tighter":
            scale[:] = 0.9
        elif change == "half and half":
            scale = np.where(topic % 2 == 0, 0.9, 1.1)
        elif change == "half and half rows":
            scale = np.where(rng.random(n) < 0.5, 0.9, 1.1)
        noise = rng.standard_normal((n, DIMENSIONS)) * (NOISE / DIMENSIONS**0.5)
        vectors = self.centers[topic] + scale[:, None] * noise
        if change == "mean shift":
            vectors += 0.06 * self.direction
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def p_values(reference: Vectors, current: Vectors, seed: int) -> dict[str, float]:
    """Return the p-value of every method, all on the same splits."""
    pool = Pooled.of(reference, current, permutations=PERMUTATIONS, seed=seed)
    distances = Distances(pool.rows)
    median = distances.median()
    sums = kernel_sums(distances, [Gaussian(1 / median)], pool)[0]
    found = {
        "mmd": permutation_p_value(sums.mmd2(pool)),
        "rff": features_test(pool, (median / 2) ** 0.5).p_value,
    }
    return found | {test.name: test.p_value for test in run(pool, "auto")}


@dataclass(frozen=True)
class Part:
    """Some runs of one row of the tables; a run's data depend on the row and its index alone."""

    n: int
    m: int
    change: str | None
    first_seed: int
    start: int
    stop: int

    @property
    def key(self) -> str:
        """Its name in the cache."""
        return json.dumps(astuple(self))

    def rejections(self) -> dict[str, int]:
        """Simulate: return in how many of the runs each method says drift."""
        counts = dict.fromkeys(METHODS, 0)
        for index in range(self.start, self.stop):
            rng = np.random.default_rng([self.first_seed, index])
            world = World.drawn(rng)
            reference = world.sample(self.n, rng)
            current = world.sample(self.m, rng, self.change)
            for method, p in p_values(reference, current, index + 1).items():
                counts[method] += p <= ALPHA
        return counts


class Simulation:
    """Counts rejections, and keeps the parts that are finished.

    Args:
        cache: file of finished parts, one JSON object a line; None keeps none.
        processes: makes runs in that many processes.
    """

    def __init__(self, cache: Path | None, processes: int) -> None:
        self._cache = cache
        self._pool = ProcessPoolExecutor(processes)
        self._known: dict[str, dict[str, int]] = {}
        if cache is not None and cache.exists():
            lines = (json.loads(line) for line in cache.read_text().splitlines())
            self._known = {line["part"]: line["rejections"] for line in lines}

    def rejections(
        self, runs: int, sizes: tuple[int, int], change: str | None, first_seed: int
    ) -> dict[str, int]:
        """Return in how many runs each method says drift."""
        starts = range(0, runs, RUNS_OF_A_PART)
        parts = [
            Part(*sizes, change, first_seed, start, min(runs, start + RUNS_OF_A_PART))
            for start in starts
        ]
        waiting = {
            self._pool.submit(part.rejections): part
            for part in parts
            if part.key not in self._known
        }
        for done in as_completed(waiting):
            self._keep(waiting[done], done.result())
        found = [self._known[part.key] for part in parts]
        return {method: sum(part[method] for part in found) for method in METHODS}

    def _keep(self, part: Part, rejections: dict[str, int]) -> None:
        self._known[part.key] = rejections
        if self._cache is not None:
            with self._cache.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"part": part.key, "rejections": rejections}) + "\n")


def level_table(simulation: Simulation, runs: int, say: Callable[[str], None]) -> None:
    """Write the rows of false alarms."""
    say(f"| vectors | runs | 95 % | 99.9 % | {' | '.join(METHODS)} |")
    say("|---|---:|---:|---:|" + "---:|" * len(METHODS))
    cells = outside = 0
    for index, (n, m) in enumerate(LEVELS):
        counts = simulation.rejections(runs, (n, m), None, 1_000 + index)
        bounds = [binom.interval(level, runs, ALPHA) for level in (0.95, 0.999)]
        text = [f"{low / runs:.3f}-{high / runs:.3f}" for low, high in bounds]
        values = " | ".join(f"{counts[method] / runs:.3f}" for method in METHODS)
        say(f"| {n:,} + {m:,} | {runs:,} | {' | '.join(text)} | {values} |")
        low, high = bounds[0]
        cells += len(METHODS)
        outside += sum(not low <= counts[method] <= high for method in METHODS)
    say(f"\n{outside} of {cells} cells lie outside their 95 % interval; {cells * 0.05:.1f} would "
        "by chance.")  # fmt: skip


def power_table(simulation: Simulation, runs: int, say: Callable[[str], None]) -> None:
    """Write the rows of detections at n = m = 1,000."""
    say(f"| change | runs | {' | '.join(METHODS)} | `auto` must reach |")
    say("|---|---:|" + "---:|" * (len(METHODS) + 1))
    for index, (change, bar) in enumerate(zip(CHANGES, BARS, strict=True)):
        counts = simulation.rejections(runs, (1000, 1000), change, 2_000 + index)
        values = " | ".join(f"{counts[method] / runs:.3f}" for method in METHODS)
        say(f"| {change} | {runs} | {values} | {'' if bar is None else bar} |")


def main() -> None:
    """Run the simulations and write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--level-runs", type=int, default=1000)
    parser.add_argument("--power-runs", type=int, default=200)
    parser.add_argument("--output", type=Path, default=RESULTS / "mmd_power.md")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--cache", type=Path, help="file of finished runs")
    given = parser.parse_args()
    simulation = Simulation(given.cache, given.processes)
    lines: list[str] = []

    def say(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    say("# Level and power of the detectors of vectors\n")
    say(
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.machine()}, Python "
        f"{platform.python_version()}; `python benchmarks/mmd_power.py`. {PERMUTATIONS} "
        f"permutations, alpha {ALPHA}; 384 dimensions, 20 topics, as the script says.\n"
    )
    say("## False alarms when nothing changed\n")
    level_table(simulation, given.level_runs, say)
    say("\n## Detections, 1,000 against 1,000 vectors\n")
    power_table(simulation, given.power_runs, say)
    given.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
