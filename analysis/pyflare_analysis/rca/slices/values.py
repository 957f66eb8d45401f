"""What a slice measures beside the rest: rate, mean or quantile, with an interval.

- Rates: the difference with Newcombe's hybrid score interval.
- Means: the difference with the interval of Hall's transformation (`comparison`).
- Quantiles: each with the distribution-free interval of order statistics (Conover 1999,
  section 3.2), the difference by the same recovery of variances that Newcombe's interval uses
  (MOVER, Donner and Zou 2012, Stat. Methods Med. Res. 21:347-359).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pyflare_analysis.rca.slices.causes import SliceKey, matching
from pyflare_analysis.rca.slices.comparison import mean_interval
from pyflare_analysis.statistics import newcombe_interval

if TYPE_CHECKING:
    from pyflare_analysis.rca.coded import CodedRows
    from pyflare_analysis.rca.slices.cells import Sums

__all__ = ["Estimate", "mean_estimates", "quantile_estimates", "quantile_of", "rate_estimates"]

_KEPT_VALUES = 1 << 22
"""Values that quantiles are exact for; beyond, they are read from a histogram."""
_RATIO = 1.0005
"""Ratio of neighbouring edges of that histogram: its quantiles are within 0.05 %."""
_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A slice beside the rest."""

    value: float
    baseline: float
    ci_low: float
    """Bounds of the 95 % interval of value minus baseline."""
    ci_high: float


def rate_estimates(inside: Sums, rest: Sums) -> list[Estimate]:
    """Return the rates of slices and of what is left, from (k,) sums each."""
    n, m = inside.effective, rest.effective
    p, r = np.clip(inside.mean, 0, 1), np.clip(rest.mean, 0, 1)
    low, high = newcombe_interval(p * n, n, r * m, m, _LEVEL)
    return _estimates(p, r, low, high)


def mean_estimates(inside: Sums, rest: Sums) -> list[Estimate]:
    """Return the means of slices and of what is left, from (k,) sums each."""
    low, high = mean_interval(inside, rest, _LEVEL)
    return _estimates(inside.mean, rest.mean, low, high)


def _estimates(*columns: NDArray[np.float64]) -> list[Estimate]:
    return [Estimate(*(float(x) for x in row)) for row in zip(*columns, strict=True)]


def quantile_estimates(rows: CodedRows, keys: Sequence[SliceKey], q: float) -> list[Estimate]:
    """Return a quantile of slices and of what is left, from the rows themselves."""
    result = []
    for key in keys:
        inside, rest = _Sample(), _Sample()
        for block in rows.blocks():
            chosen = matching(block.codes, key)
            for sample, mask in ((inside, chosen), (rest, ~chosen)):
                weights = None if block.weights is None else block.weights[mask]
                sample.add(block.values[mask], weights)
        x, low, high = inside.quantile(q)
        y, rest_low, rest_high = rest.quantile(q)
        result.append(
            Estimate(
                x,
                y,
                x - y - math.hypot(x - low, rest_high - y),
                x - y + math.hypot(high - x, y - rest_low),
            )
        )
    return result


def quantile_of(rows: CodedRows, q: float) -> float:
    """Return a quantile of all rows; NaN without any."""
    sample = _Sample()
    for block in rows.blocks():
        sample.add(block.values, block.weights)
    return sample.quantile(q)[0]


class _Sample:
    """Values with weights: as they are while there is room, then as a histogram."""

    def __init__(self) -> None:
        self._values: list[NDArray[np.float64]] = []
        self._weights: list[NDArray[np.float64]] = []
        self._size = 0
        self._weight = 0.0
        self._weight2 = 0.0

    def add(self, values: NDArray[np.float64], weights: NDArray[np.float64] | None) -> None:
        """Take values in."""
        weights = np.ones(len(values)) if weights is None else weights
        self._values.append(values)
        self._weights.append(weights)
        self._weight += float(weights.sum())
        self._weight2 += float(weights @ weights)
        self._size += len(values)
        if self._size > _KEPT_VALUES:
            self._compress()

    def _compress(self) -> None:
        """Round values to a geometric grid and add up the weights of equal ones."""
        x, w = np.concatenate(self._values), np.concatenate(self._weights)
        size = np.round(np.log(np.maximum(np.abs(x), 1e-300)) / math.log(_RATIO))
        grid = np.where(x == 0, 0.0, np.sign(x) * np.exp(size * math.log(_RATIO)))
        unique, inverse = np.unique(grid, return_inverse=True)
        self._values = [np.asarray(unique, dtype=np.float64)]
        self._weights = [np.asarray(np.bincount(inverse, weights=w), dtype=np.float64)]
        self._size = len(unique)

    def quantile(self, q: float) -> tuple[float, float, float]:
        """Return the quantile of `pyflare_storage.aggregates`, and its 95 % interval."""
        if not self._size:
            return math.nan, math.nan, math.nan
        x, w = np.concatenate(self._values), np.concatenate(self._weights)
        order = np.argsort(x, kind="stable")
        x, w = x[order], w[order]
        effective = self._weight**2 / self._weight2
        share = np.cumsum(w) / w.sum()
        spread = 1.96 * math.sqrt(q * (1 - q) / effective)
        value = _weighted_quantile(x, share, q, effective)
        low = x[np.searchsorted(share, max(q - spread, 0.0))]
        high = x[min(int(np.searchsorted(share, min(q + spread, 1.0))), len(x) - 1)]
        return value, min(float(low), value), max(float(high), value)


def _weighted_quantile(
    x: NDArray[np.float64], share: NDArray[np.float64], q: float, effective: float
) -> float:
    """Return Akinshin's weighted quantile of type 7; see `pyflare_storage.aggregates`."""
    part = np.clip(effective * share - q * (effective - 1.0), 0.0, 1.0)
    part = np.diff(part, prepend=0.0)
    return float(x @ part / part.sum())
