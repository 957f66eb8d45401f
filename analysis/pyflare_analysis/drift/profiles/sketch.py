"""Summaries of columns in bounded memory that can be merged: of numbers and of categories.

Numbers are kept as weighted points: a point (v, w) stands for rows of total weight w with
values above the point before it and not above v. While there are few points they are the
values themselves and everything is exact. `thin` keeps k points and moves each value up to
the next kept one, so that a cumulative share is too small by at most 1/k and never too
large; values that hold a k-th of the rows or more stay as they are. Merging joins the
points, which adds no error: a profile of shards that were thinned to k points each has
every cumulative share within 1/k of the whole's, and so the share of every bin.

Categories are counted exactly until there are too many; then the rarest are let go, and
their rows are known only as a sum (after Manku and Motwani 2002, "Approximate frequency
counts over data streams", VLDB).
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = [
    "SKETCH_RANK_ERROR",
    "CategorySketch",
    "NumberSketch",
    "Points",
    "certain_count",
    "merge_points",
    "thin",
]

_BUFFER_VALUES = 2**19
_BUFFER_POINTS = 2**15
_TOTAL_POINTS = 2**18
SKETCH_RANK_ERROR = 2 / _BUFFER_POINTS
"""Error of a cumulative share of a `NumberSketch` that is not exact."""
_CATEGORIES = 2**16


class Points(NamedTuple):
    """Weighted points, values increasing."""

    values: Floats
    """(k,) increasing; infinities allowed, no NaN."""
    weights: Floats
    """(k,) greater than 0."""

    @property
    def total(self) -> float:
        """Total weight."""
        return float(self.weights.sum())

    def below(self, edges: Floats) -> Floats:
        """Return the weight of the values below each edge."""
        cumulative = np.concatenate([[0.0], np.cumsum(self.weights)])
        return np.asarray(cumulative[np.searchsorted(self.values, edges, side="left")])

    def quantiles(self, probabilities: Floats) -> Floats:
        """Return quantiles by linear interpolation between the ordered values.

        Type 7 of Hyndman and Fan 1996 (NumPy's default): at position (n - 1) q, counted from
        0, where n is the total weight.
        """
        cumulative = np.cumsum(self.weights)
        position = (cumulative[-1] - 1.0) * probabilities
        # A hair above, for positions that are whole numbers up to rounding.
        floor = np.floor(position + 1e-9)
        last = len(self.values) - 1
        low = self.values[np.minimum(np.searchsorted(cumulative, floor, side="right"), last)]
        high = self.values[np.minimum(np.searchsorted(cumulative, floor + 1, side="right"), last)]
        part = np.maximum(position - floor, 0.0)
        with np.errstate(invalid="ignore"):
            between = low + (high - low) * part
        between = np.where(np.isnan(between), high, between)  # between infinities
        return np.asarray(np.where((part == 0) | (low == high), low, between))


def points_of(values: Floats, weights: Floats | None = None) -> Points:
    """Return the distinct values with their weights.

    Args:
        values: (n,) without NaN.
        weights: (n,); 1 each when None.
    """
    if weights is None:
        ordered = np.sort(values)
        if not (ordered[1:] == ordered[:-1]).any():
            return Points(ordered, np.ones(len(ordered)))
    else:
        order = np.argsort(values, kind="stable")
        ordered, weights = values[order], weights[order]
    if not len(ordered):
        return Points(np.empty(0), np.empty(0))
    first = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    starts = np.flatnonzero(first)
    if weights is None:
        sums = np.diff(np.append(starts, len(ordered))).astype(np.float64)
    else:
        sums = np.add.reduceat(weights, starts)
    return Points(ordered[starts], sums)


def merge_points(parts: list[Points]) -> Points:
    """Return the points of several summaries together."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return Points(np.empty(0), np.empty(0))
    return points_of(
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.weights for part in parts]),
    )


def thin(points: Points, k: int) -> Points:
    """Return about `k` of the points (2k at the most), each value moved up to the next kept one.

    Args:
        points: what to thin.
        k: every cumulative share stays within 1/k.
    """
    if len(points.values) <= k:
        return points
    if (points.weights == 1).all():  # the same points, without sums over all of them
        return _thin_ones(points.values, k)
    cumulative = np.cumsum(points.weights)
    step = cumulative[-1] / k
    # The last point of each of the k cells stays, and the one before a heavy value: else the
    # light values beside it would seem to have that value.
    ends = np.searchsorted(cumulative / step, np.arange(1, k)) - 1
    heavy = np.flatnonzero(points.weights >= step)
    chosen = np.unique(np.concatenate([ends, heavy, heavy - 1, [len(cumulative) - 1]]))
    chosen = chosen[chosen >= 0]
    sums = np.diff(np.concatenate([[0.0], cumulative[chosen]]))
    return Points(points.values[chosen], sums)


def _thin_ones(values: Floats, k: int) -> Points:
    n = len(values)
    below = -(-np.arange(1, k) * n // k) - 1  # values in the cells up to each one's end
    chosen = np.unique(np.append(below - 1, n - 1))
    chosen = chosen[chosen >= 0]
    return Points(values[chosen], np.diff(chosen, prepend=-1).astype(np.float64))


class NumberSketch:
    """Numbers, summarised while they come; exact up to 2^19 values or 2^15 distinct ones.

    Beyond, cumulative shares are too small by at most 2^-15 + 2^-15.
    """

    def __init__(self) -> None:
        self._values: list[Floats] = []
        self._weights: list[Floats | None] = []
        self._waiting = 0
        self._parts: list[Points] = []
        self.exact = True
        """Whether no value was moved."""

    def add(self, values: Floats, weights: Floats | None = None) -> None:
        """Take values without NaN, each of weight 1 when `weights` is None."""
        self._values.append(values)
        self._weights.append(weights)
        self._waiting += len(values)
        if self._waiting >= _BUFFER_VALUES:
            self._parts.append(self._thin(self._drain()))
            if sum(len(part.values) for part in self._parts) > _TOTAL_POINTS:
                self._parts = [self._thin(merge_points(self._parts))]

    def points(self) -> Points:
        """Return everything so far."""
        if self._waiting:
            part = self._drain()
            self._parts.append(self._thin(part) if self._parts else part)
        self._parts = [merge_points(self._parts)]
        return self._parts[0]

    def _thin(self, points: Points) -> Points:
        thinned = thin(points, _BUFFER_POINTS)
        self.exact &= thinned is points
        return thinned

    def _drain(self) -> Points:
        values = np.concatenate(self._values)
        weights = None
        if any(part is not None for part in self._weights):
            weights = np.concatenate(
                [
                    np.ones(len(v)) if w is None else w
                    for v, w in zip(self._values, self._weights, strict=True)
                ]
            )
        self._values, self._weights, self._waiting = [], [], 0
        return points_of(values, weights)


def certain_count(rarest: float) -> float:
    """Return the expected count from which a category was kept for certain.

    Where a sample let its rare categories go, those just above the limit are there because
    they happened to be frequent in it, and would be found fallen in the next sample. Five
    standard deviations of a Poisson count above the limit chance plays no part any more.

    Args:
        rarest: rows of the rarest category that was kept, effective ones where rows are weighted.
    """
    return rarest + 5 * math.sqrt(rarest) + 5


class CategorySketch:
    """Categories by group, counted while they come; all rows with groups, or none.

    Args:
        keep: categories whose counts are never let go.
    """

    def __init__(self, keep: Collection[str] = ()) -> None:
        self._keep = pl.Series(list(keep), dtype=pl.String).implode()
        self._frames: list[pl.DataFrame] = []
        self._waiting = 0
        self.exact = True
        """Whether no category was let go."""

    def add(
        self, values: pl.Series, groups: NDArray[np.int64] | None, weights: Floats | None
    ) -> None:
        """Take values; null does not count.

        Args:
            values: text.
            groups: (n,) number of each row's group; all 0 when None.
            weights: (n,); 1 each when None.
        """
        frame = pl.DataFrame({"value": values})
        by = ["value"]
        if groups is not None:
            frame = frame.with_columns(pl.Series("group", groups, dtype=pl.Int64))
            by = ["group", "value"]
        if weights is not None:
            frame = frame.with_columns(pl.Series("weight", weights))
        count = pl.len().cast(pl.Float64) if weights is None else pl.col("weight").sum()
        counted = frame.lazy().filter(pl.col("value").is_not_null()).group_by(by)
        result = counted.agg(count.alias("count")).collect()
        self._keep_counted(result.select(*by, "count"))

    def add_counts(self, values: pl.Series, counts: Floats) -> None:
        """Take values of group 0 that are counted already.

        Args:
            values: (k,) text, each value once, no null.
            counts: (k,) rows with each value, greater than 0.
        """
        self._keep_counted(pl.DataFrame([values.alias("value"), pl.Series("count", counts)]))

    def _keep_counted(self, frame: pl.DataFrame) -> None:
        if frame.height > _CATEGORIES:  # before their texts are compared with others
            frame = self._frequent(frame)
        self._frames.append(frame)
        self._waiting += frame.height
        if self._waiting > _CATEGORIES:
            self._compact()

    def _frequent(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the categories above the count that leaves a quarter of the room."""
        bound = frame["count"].sort(descending=True)[_CATEGORIES // 4]
        self.exact = False
        return frame.filter((pl.col("count") > bound) | pl.col("value").is_in(self._keep))

    def counts(self) -> pl.DataFrame:
        """Return `group` (int64), `value` (text), `count` (float64), most frequent first."""
        if not self._frames:
            return pl.DataFrame(
                schema={"group": pl.Int64(), "value": pl.String(), "count": pl.Float64()}
            )
        summed = self._summed()
        self._frames = [summed]
        if "group" not in summed.columns:
            summed = summed.with_columns(pl.lit(0, dtype=pl.Int64).alias("group"))
        ordered = summed.sort(["count", "value", "group"], descending=[True, False, False])
        return ordered.select("group", "value", "count")

    def _summed(self) -> pl.DataFrame:
        if len(self._frames) == 1:
            return self._frames[0]
        joined = pl.concat(self._frames)
        return joined.group_by(joined.columns[:-1]).agg(pl.col("count").sum())

    def _compact(self) -> None:
        summed = self._summed()
        if summed.height > _CATEGORIES // 2:
            summed = self._frequent(summed)
        self._frames = [summed]
        self._waiting = summed.height
