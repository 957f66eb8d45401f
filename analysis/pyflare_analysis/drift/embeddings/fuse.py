"""MMD with many bandwidths at once, on the principal components of the pool (MMD-FUSE).

One bandwidth sees one scale: the median of all distances is the scale of the differences
between topics, so a kernel with it is blind to what happens inside of them. Here ten
kernels from a quarter of the smallest scale to the largest are fused into one statistic;
they are chosen by the pool alone, so its permutation test keeps its level exactly.

Source: Biggs, Schrab & Gretton 2023, NeurIPS 36, arXiv 2306.08777.
"""

from __future__ import annotations

import numpy as np

from pyflare_analysis.drift.embeddings.kernels import (
    Distances,
    Exponential,
    Gaussian,
    Kernel,
    kernel_sums,
)
from pyflare_analysis.drift.embeddings.pooled import Pooled, SplitTest

__all__ = ["fuse_test"]

_SCALES = 5


def fuse_test(pool: Pooled) -> SplitTest:
    """Return the fused statistic of all splits.

    (1 / l) log mean_k exp(l MMD^2_k / sqrt(N_k)) with N_k the mean of K^2 over pairs
    and l = sqrt(s (s - 1)), s the smaller sample (equation 5 there).
    The paper's Laplace kernel of the L1 distance is one of the L2 distance here.
    """
    distances = Distances(pool.principal)
    kernels = _kernels(distances)
    if not kernels:
        return SplitTest("fuse", np.zeros(pool.permutations + 1))
    smaller = min(pool.reference_count, pool.current_count)
    scale = np.sqrt(smaller * (smaller - 1.0))
    sums = kernel_sums(distances, kernels, pool)
    each = np.stack([s.mmd2(pool) / np.sqrt(max(s.mean_square, 1e-30)) for s in sums]) * scale
    top = each.max(0)
    fused = (np.log(np.exp(each - top).mean(0)) + top) / scale
    strongest = int(each[:, 0].argmax())
    kernel = kernels[strongest]
    details = {
        "statistic": float(fused[0]),
        "kernels": len(kernels),
        "strongest_kernel": type(kernel).__name__.lower(),
        "strongest_bandwidth": _bandwidth(kernel),
    }
    return SplitTest("fuse", fused, details)


def _kernels(distances: Distances) -> list[Kernel]:
    """Return Gaussian and exponential kernels over the scales of the pool; none without scale."""
    small, large = np.sqrt(distances.quantiles([0.05, 0.95]))
    if large <= 0:
        return []
    scales = np.geomspace(max(small, large * 1e-3) / 4, large, _SCALES)
    kernels: list[Kernel] = []
    for scale in scales.tolist():
        kernels += [Gaussian(1 / (2 * scale * scale)), Exponential(1 / scale)]
    return kernels


def _bandwidth(kernel: Kernel) -> float:
    if isinstance(kernel, Gaussian):
        return float((2 * kernel.gamma) ** -0.5)
    assert isinstance(kernel, Exponential)  # noqa: S101 - the two kinds of `_kernels`
    return 1 / kernel.rate
