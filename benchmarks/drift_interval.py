"""How often the confidence interval of PSI covers the true one, by simulation, as a table.

    python benchmarks/drift_interval.py

PSI over ten bins between N(0, 1) and N(shift, 1): quantile bins of each reference, whose truth is
that of the deciles, and fixed bins. 2,000 runs a row; deterministic.
"""

from statistics import NormalDist

import numpy as np

from pyflare_analysis.drift.psi.interval import psi_interval

RUNS = 2000
SIZES = (200, 1000, 5000)
SHIFTS = (0.0, 0.1, 0.3, 0.5)
TENTHS = np.arange(1, 10) / 10


def counted(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the values in each bin."""
    return np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)


def main() -> None:
    """Print the table."""
    rng = np.random.default_rng(1)
    p = np.full(10, 0.1)
    print("| n = m | shift, sd | PSI | quantile bins | fixed bins |")
    print("|---:|---:|---:|---:|---:|")
    for n in SIZES:
        for shift in SHIFTS:
            law = NormalDist(shift)
            below = [law.cdf(NormalDist().inv_cdf(tenth)) for tenth in TENTHS]
            q = np.diff([0.0, *below, 1.0])
            truth = float(((q - p) * np.log(q / p)).sum())
            pairs = []
            for _ in range(RUNS):
                reference = rng.normal(size=n)
                edges = np.quantile(reference, TENTHS)
                pairs.append(
                    [counted(side, edges) for side in (reference, rng.normal(shift, 1, n))]
                )
            sides = np.array(pairs, dtype=np.float64)
            fixed = [rng.multinomial(n, share, RUNS).astype(np.float64) for share in (p, q)]
            cells = [str(n), f"{shift:g}", f"{truth:.4f}"]
            for x, y in ((sides[:, 0], sides[:, 1]), fixed):
                low, high = psi_interval(x, y, 0.95)
                cells.append(f"{((low <= truth) & (truth <= high)).mean():.3f}")
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
