"""Baselines: what a series was like before, and what the time of day makes of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["binned_mean_sd", "binned_quantile", "dispersion", "quantile_interval", "threshold_bin"]

Floats = NDArray[np.float64]


def dispersion(hits: Floats, exposure: Floats) -> float:
    """Return how many times more a series of counts varies than Poisson counts do, at least 1.

    From differences of neighbouring Pearson residuals, so that steps and trends do not count as
    variation: with u_t = (h_t - r e_t) / sqrt(r e_t), r the rate of the neighbourhood,
    phi = (1.4826 median |u_t - u_{t-1}|)^2 / 2. Buckets are joined until 5 hits are expected.

    Args:
        hits: (T,) counts.
        exposure: (T,) exposures, 0 where the bucket holds nothing.
    """
    total, mass = hits.sum(), exposure.sum()
    if total < 20 or mass <= 0:
        return 1.0
    size = max(1, int(np.ceil(5 * np.count_nonzero(exposure) / total)))
    used = exposure > 0
    h, e = hits[used], exposure[used]
    whole = len(h) // size * size
    if whole // size < 8:
        return 1.0
    h = h[:whole].reshape(-1, size).sum(axis=1)
    e = e[:whole].reshape(-1, size).sum(axis=1)
    expected_first = e[:-1] * (h[:-1] + h[1:]) / (e[:-1] + e[1:])
    expected_second = e[1:] * (h[:-1] + h[1:]) / (e[:-1] + e[1:])
    fits = (expected_first > 0) & (expected_second > 0)
    # The difference of two counts given their sum has variance sum * p * (1 - p).
    p = e[:-1] / (e[:-1] + e[1:])
    spread = np.sqrt((h[:-1] + h[1:]) * p * (1 - p))
    z = np.abs(h[:-1] - expected_first)[fits] / np.maximum(spread[fits], 1e-12)
    if len(z) < 7:
        return 1.0
    return max(1.0, float(1.4826 * np.median(z)) ** 2)


def threshold_bin(bins: Floats, q: float) -> int:
    """Return the number of the first bin that lies above the q-quantile.

    Args:
        bins: (B,) counts of the baseline.
        q: probability.
    """
    cumulative = np.cumsum(bins)
    if cumulative[-1] <= 0:
        return len(bins)
    at = int(np.searchsorted(cumulative, q * cumulative[-1], side="left"))
    # The bin that holds the quantile counts to the side that it mostly lies on.
    below = cumulative[at - 1] if at else 0.0
    split = (q * cumulative[-1] - below) / max(bins[at], 1e-12) if at < len(bins) else 0.0
    return min(len(bins), at + (1 if split > 0.5 else 0))


def binned_quantile(bins: Floats, edges: Floats, q: float) -> float:
    """Return a quantile of binned values, NaN of none.

    Values are taken to lie evenly within a bin: on a logarithmic scale where the bin's edges
    are powers apart, on a linear one otherwise.

    Args:
        bins: (B,) counts.
        edges: (B+1,) increasing.
        q: probability.
    """
    total = bins.sum()
    if total <= 0:
        return float("nan")
    cumulative = np.cumsum(bins)
    at = int(np.searchsorted(cumulative, q * total, side="left"))
    at = min(at, len(bins) - 1)
    below = cumulative[at] - bins[at]
    share = min(1.0, max(0.0, (q * total - below) / bins[at])) if bins[at] > 0 else 0.0
    low, high = float(edges[at]), float(edges[at + 1])
    if low > 0 and high / low < 4:
        return float(low * (high / low) ** share)
    if not np.isfinite(high) or (low > 0 and high / low >= 4):
        return low
    if not np.isfinite(low):
        return high
    return low + (high - low) * share


def quantile_interval(bins: Floats, edges: Floats, q: float) -> tuple[float, float]:
    """Return the 95 % interval of a quantile from its order statistics.

    The bounds are the quantiles at q -+ 1.96 sqrt(q (1 - q) / n) (David and Nagaraja 2003,
    Order Statistics, section 7.1).
    """
    n = bins.sum()
    half = 1.96 * np.sqrt(q * (1 - q) / n) if n > 0 else 1.0
    low, high = max(0.0, q - half), min(1.0, q + half)
    return binned_quantile(bins, edges, low), binned_quantile(bins, edges, high)


def binned_mean_sd(bins: Floats, edges: Floats) -> float:
    """Return the standard deviation of binned values, each at the middle of its bin."""
    n = bins.sum()
    if n <= 1:
        return float("nan")
    low, high = edges[:-1], edges[1:]
    finite = np.isfinite(low) & np.isfinite(high)
    middle = np.where(finite, (low + high) / 2, np.where(np.isfinite(low), low, high))
    top = bins > 0
    middle = np.where(middle > 1e15, low, middle)
    mean = (bins * middle)[top].sum() / n
    return float(np.sqrt((bins * (middle - mean) ** 2)[top].sum() / (n - 1)))
