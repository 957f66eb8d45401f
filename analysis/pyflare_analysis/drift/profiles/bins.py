"""Bins of numbers: quantiles of the reference, with values of their own where they are heavy.

Bins are half-open, [low, high), the first and last open to the ends, so that no value of a
later sample, infinite or not, falls outside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyflare_analysis.drift.profiles.sketch import Points

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = [
    "bin_bounds",
    "bin_counts",
    "quantile_edges",
    "single_values",
    "split_value",
    "stand_alone",
]


def quantile_edges(points: Points, num_bins: int, min_samples_per_bin: int) -> Floats:
    """Return the inner edges of the bins.

    The edges are quantiles of type 7 (NumPy's default) of the reference at 1/B, ..., (B-1)/B,
    with B = `num_bins`, fewer where a bin would hold less than `min_samples_per_bin` values. A
    value that holds a whole bin or more ([v, next float) is its bin) stands alone, and so
    does every value of a column with at most `num_bins` different ones. Bins with a few
    values only, which ties may leave, join a neighbour that is no single value.

    Args:
        points: the reference; its total weight counts as the number of values.
        num_bins: bins at most, 2 or more.
        min_samples_per_bin: values a bin at least, 1 or more.

    Returns:
        (k,) increasing edges of k + 1 bins; none where the values do not suffice for two bins.
    """
    total = points.total
    bins = int(min(num_bins, total // min_samples_per_bin))
    if bins < 2:
        return np.empty(0)
    if len(points.values) <= num_bins:
        alone, edges = points.values, np.empty(0)
    else:
        cuts = points.quantiles(np.arange(1, bins) / bins)
        share = total / bins
        alone = points.values[points.weights >= share + 2 * np.sqrt(share)]
        edges = np.unique(cuts)
    edges = np.unique(np.concatenate([edges, alone, np.nextafter(alone, np.inf)]))
    # No edge at infinity: nothing lies beyond, and [inf, ...) is the last bin anyway.
    edges = edges[(edges > -np.inf) & ~np.isnan(edges)]
    return _joined(points, edges, alone, min_samples_per_bin)


def _joined(points: Points, edges: Floats, alone: Floats, least: int) -> Floats:
    """Join bins of fewer than `least` values to the bin before or after them.

    A bin of one value takes nothing in: between two of these a small bin stays.
    """
    counts = bin_counts(points, edges)
    # Below every float there is -inf alone.
    single = np.concatenate([[bool(np.isneginf(alone).any())], np.isin(edges, alone)])
    kept: list[float] = []
    carried, carried_single = counts[0], bool(single[0])
    for edge, count, is_single in zip(
        edges.tolist(), counts[1:].tolist(), single[1:].tolist(), strict=True
    ):
        small = count < least or carried < least
        if small and not is_single and not carried_single:
            carried += count
            continue
        kept.append(edge)
        carried, carried_single = count, is_single
    return np.asarray(kept, dtype=np.float64)


def bin_counts(points: Points, edges: Floats) -> Floats:
    """Return the weight in each of the `len(edges) + 1` bins."""
    below = np.concatenate([[0.0], points.below(edges), [points.total]])
    return np.diff(below)


def bin_bounds(edges: Floats) -> list[tuple[float | None, float | None]]:
    """Return low and high of each bin, None at the open ends."""
    inner = edges.tolist()
    return list(zip([None, *inner], [*inner, None], strict=True))


def single_values(edges: Floats) -> NDArray[np.bool_]:
    """Return which of the `len(edges) + 1` bins hold one value, (bins,)."""
    inner = np.nextafter(edges[:-1], np.inf) == edges[1:]
    return np.concatenate([[False], inner, [False]]) if len(edges) else np.array([False])


def stand_alone(edges: Floats, counts: Floats) -> bool:
    """Return whether all values of the reference have bins of their own: none was chosen.

    Args:
        edges: (k,) inner edges.
        counts: (k + 1,) the reference's rows in the bins.
    """
    return not counts[~single_values(edges)].any()


def split_value(low: float | None, high: float | None) -> float | None:
    """Return the one value that a bin holds; None where it holds more."""
    if low is None or high is None or np.nextafter(low, np.inf) != high:
        return None
    return low
