"""MMD with 100 permutations beside its bare matrix products and its peers, in one run.

    python benchmarks/mmd.py                      # the table, into results/mmd.md
    python benchmarks/mmd.py --peer frouros=/path/venv/bin/python --peer alibi=/path/venv/bin/python

The bare products are the Gram matrix Z Z' of the pool in float32, by blocks of 1,024 rows, and
that block times the (N, 101) memberships of the splits: what any exact test of all
permutations at once computes, without distances, kernel, median or anything else. Peers run in
environments of their own, each size at most `--peer-seconds`. The ratio is of one process that
does both by turns, the best of ten (three at 5,000) of each, one thread, CPU seconds with those
of children; memory is the peak of a process of its own, imports included.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
SIZES = (1000, 2000, 5000)
MOST_RATIO, MOST_MB = 1.5, 300

DATA = """
import json, resource, sys, time
import numpy as np
n = int(sys.argv[1])
rng = np.random.default_rng(1)
centers = rng.standard_normal((20, 384)); centers /= np.linalg.norm(centers, axis=1)[:, None]
def draw():
    z = centers[rng.integers(20, size=n)] + rng.standard_normal((n, 384)) * (0.65 / 384**0.5)
    return (z / np.linalg.norm(z, axis=1)[:, None]).astype(np.float32)
x, y = draw(), draw()
def spent():
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF,
                                                         resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
def measure(run, other=None, times=None):
    best, value = [1e9, 1e9], None
    for _ in range(times or (10 if n < 3000 else 3)):  # by turns, under the same load
        for turn, job in enumerate((run, other)):
            if job is not None:
                start = spent(); found = job(); best[turn] = min(best[turn], spent() - start)
                value = found if turn == 0 else value
    # ru_maxrss would begin with what the parent held when it forked.
    lines = open("/proc/self/status").read().splitlines()
    memory = next(int(x.split()[1]) for x in lines if x.startswith("VmHWM")) / 1024
    print(json.dumps({"cpu_s": best[0], "bare_s": best[1], "mb": memory, "value": value}))
"""
BARE = """
z = np.concatenate([x, y])
members = np.zeros((2 * n, 101), np.float32)
for column in range(101):
    members[rng.permutation(2 * n)[:n], column] = 1
def bare():
    for start in range(0, 2 * n, 1024):
        gram = z[start : start + 1024] @ z.T
        gram @ members
"""
OURS = """
from pyflare_analysis.drift.embeddings.kernels import Distances, Gaussian, kernel_sums
from pyflare_analysis.drift.embeddings.pooled import Pooled, permutation_p_value
def run():
    pool = Pooled.of(x, y, permutations=100, seed=1)
    distances = Distances(pool.rows)
    sums = kernel_sums(distances, [Gaussian(1 / distances.median())], pool)[0]
    found = sums.mmd2(pool)
    return [float(found[0]), permutation_p_value(found)]
"""
PAIR = BARE + OURS + "measure(run, bare)"
ALONE = OURS + "measure(run, None, 1)"
DETECTOR = """
from pyflare_analysis.drift import MMDConfig, MMDDriftDetector
detector = MMDDriftDetector(MMDConfig(random_seed=1), METHOD)
detector.set_reference_embeddings(x)
def run():
    found = detector.compare(y)
    return [found.mmd2, found.p_value]
measure(run, None, 1)
"""
PEERS = {
    "frouros": """
from frouros.detectors.data_drift.batch import MMD
from frouros.callbacks.batch import PermutationTestDistanceBased
count = 10  # scaled to 100 below
def run():
    test = PermutationTestDistanceBased(num_permutations=count, random_state=1, num_jobs=1,
                                        method="conservative", name="test")
    detector = MMD(callbacks=[test]); detector.fit(X=x)
    result, log = detector.compare(X=y)
    return [float(result.distance), float(log["test"]["p_value"])]
measure(run, None, 1)
""",
    "alibi": """
import os
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
from alibi_detect.cd import MMDDrift
def run():
    found = MMDDrift(x, backend=BACKEND, n_permutations=100).predict(y)["data"]
    return [float(found["distance"]), float(found["p_val"])]
measure(run, None, 1)
""",
}
PEER_SCALE = {"frouros": 10, "alibi": 1}


@dataclass(frozen=True)
class Figure:
    """What one process measured."""

    cpu_s: float
    bare_s: float
    mb: float
    value: list[float] | None


def measured(code: str, n: int, python: str, timeout_s: float | None = None) -> Figure | str:
    """Run a script in a process of its own; return the figure, or why there is none."""
    threads = ("OMP", "OPENBLAS", "MKL", "NUMBA", "TF_NUM_INTRAOP", "TF_NUM_INTEROP")
    environment = os.environ | {f"{name}_NUM_THREADS": "1" for name in threads}
    script = DATA + textwrap.dedent(code)
    try:
        ended = subprocess.run(
            [python, "-c", script, str(n)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"not within {timeout_s:.0f} s"
    if ended.returncode != 0:
        return (ended.stderr.strip().splitlines() or ["failed"])[-1][:120]
    return Figure(**json.loads(ended.stdout.strip().splitlines()[-1]))


def our_rows(n: int) -> tuple[list[str], bool]:
    """Return the rows of one size, and whether the bars hold."""
    pair, alone = (measured(script, n, sys.executable) for script in (PAIR, ALONE))
    assert isinstance(pair, Figure), pair
    assert isinstance(alone, Figure), alone
    ratio = pair.cpu_s / pair.bare_s
    rows = [
        f"| {n:,} | the bare products | {pair.bare_s:.3f} | 1.00 | | |",
        f"| {n:,} | MMD² | {pair.cpu_s:.3f} | {ratio:.2f} | {alone.mb:.0f} | {_value(pair)} |",
    ]
    for method in ("rff", "auto"):
        found = measured(DETECTOR.replace("METHOD", repr(method)), n, sys.executable)
        assert isinstance(found, Figure), found
        rows.append(
            f"| {n:,} | detector, {method} | {found.cpu_s:.3f} | {found.cpu_s / pair.bare_s:.1f} | "
            f"{found.mb:.0f} | {_value(found)} |"
        )
    return rows, ratio <= MOST_RATIO and alone.mb <= MOST_MB


def _value(found: Figure) -> str:
    return f"{found.value[0]:.8f}, p {found.value[1]:.3f}" if found.value else ""


def peer_row(name: str, python: str, n: int, timeout_s: float) -> str:
    """Return the row of a peer."""
    script = PEERS[name].replace("BACKEND", repr("tensorflow"))
    found = measured(script, n, python, timeout_s)
    if isinstance(found, str):
        return f"| {n:,} | {name} | - | - | - | {found} |"
    scale = PEER_SCALE[name]
    note = f"{found.value[0]:.8f}, p {found.value[1]:.3f}" if found.value else ""
    note += f"; {100 // scale} permutations, times {scale}" if scale > 1 else ""
    return f"| {n:,} | {name} | {found.cpu_s * scale:.1f} | | {found.mb:.0f} | {note} |"


def main() -> None:
    """Measure and write the table; exit with 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description="MMD beside its bare matrix products.")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--peer-seconds", type=float, default=240)
    parser.add_argument("--peer-most", type=int, default=1000, help="largest size for peers")
    parser.add_argument("--output", type=Path, default=RESULTS / "mmd.md")
    given = parser.parse_args()
    lines = [
        "# MMD with 100 permutations in 384 dimensions",
        "",
        (
            f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.machine()}, "
            f"Python {platform.python_version()}; `python benchmarks/mmd.py`. One thread, CPU "
            "seconds, peak memory of the process. Read the ratios: the machine is shared."
        ),
        "",
        "| n = m | what | CPU s | of the products | MB | MMD², p |",
        "|---:|---|---:|---:|---:|---|",
    ]
    all_hold = True
    for n in SIZES:
        rows, holds = our_rows(n)
        lines += rows
        all_hold &= holds
        for peer in given.peer if n <= given.peer_most else ():
            name, _, python = peer.partition("=")
            lines.append(peer_row(name, python, n, given.peer_seconds))
        print("\n".join(lines), flush=True)
    verdict = "held" if all_hold else "MISSED"
    lines += ["", f"MMD² within {MOST_RATIO} times the products and {MOST_MB} MB: {verdict}."]
    print(lines[-1])
    given.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sys.exit(0 if all_hold else 1)


if __name__ == "__main__":
    main()
