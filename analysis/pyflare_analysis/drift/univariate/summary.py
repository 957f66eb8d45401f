"""What one pass over rows keeps of each feature: values as points, or categories with counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pyflare_analysis.drift.profiles.rows import Batch, Rows, read_features
from pyflare_analysis.drift.profiles.sketch import (
    SKETCH_RANK_ERROR,
    CategorySketch,
    NumberSketch,
    Points,
    merge_points,
    points_of,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pyflare_analysis.drift.profiles.columns import Feature
    from pyflare_storage.expressions import Expr

    Floats = NDArray[np.float64]

__all__ = ["Categories", "Numbers", "Summarizer", "Summary", "passes", "summarize_rows"]

_FEATURES_A_PASS = 3
_FEATURES_A_PASS_OF_TEXT_FILES = 16
_TEXT_FILES = (".csv", ".tsv", ".jsonl", ".ndjson")


def passes(names: Sequence[str], rows: Rows) -> list[list[str]]:
    """Return features in the groups that are read in one pass, evenly filled.

    A reader holds some row groups of all columns that it reads, so few columns at a time keep the
    memory small. Reading other columns of Parquet again costs little; text files are parsed
    as a whole each time, and so get more columns a pass.
    """
    text = any(ending in rows.url for ending in _TEXT_FILES)
    most = _FEATURES_A_PASS_OF_TEXT_FILES if text else _FEATURES_A_PASS
    number = max(1, math.ceil(len(names) / most))
    size = max(1, math.ceil(len(names) / number))
    return [list(names[i : i + size]) for i in range(0, max(len(names), 1), size)]


@dataclass(frozen=True, slots=True)
class Numbers:
    """A numeric feature."""

    points: Points
    missing: float
    """Weighted rows without a value."""
    rank_error: float = 0.0
    """How much too small a cumulative share of the points may be; 0: they are the values."""

    @property
    def exact(self) -> bool:
        """Whether the points are the values."""
        return self.rank_error == 0


@dataclass(frozen=True, slots=True)
class Categories:
    """A categorical feature."""

    counts: dict[str, float]
    """Weighted rows by category, most frequent first."""
    rest: float
    """Weighted rows of categories that were let go."""
    missing: float
    """Weighted rows without a value."""
    weighted: bool
    """Whether some row counted other than once."""

    @property
    def exact(self) -> bool:
        """Whether every category is there."""
        return self.rest == 0


@dataclass(frozen=True, slots=True)
class Summary:
    """All features of some rows."""

    features: dict[str, Numbers | Categories]
    """By name."""
    rows: int
    """Rows as they are stored."""
    weight: float
    """Sum of the weights."""
    weight_squared: float
    """Sum of the squared weights."""

    @property
    def effective(self) -> float:
        """Effective sample size, (sum w)^2 / sum w^2 (Kish 1965)."""
        return self.weight**2 / self.weight_squared if self.weight_squared else 0.0


class _NumberFit:
    """Gathers a numeric feature, the infinite values apart: no finite one is moved to them."""

    def __init__(self) -> None:
        self._sketch = NumberSketch()
        self._infinite: list[Points] = []
        self._missing = 0.0

    def add(self, batch: Batch, name: str) -> None:
        values, weights = batch.values[name], batch.weights
        numbers = values.to_numpy()  # null becomes NaN
        if values.null_count():
            there = ~np.isnan(numbers)
            gone = values.null_count() if weights is None else weights[~there].sum()
            self._missing += float(gone)
            numbers = numbers[there]
            weights = None if weights is None else weights[there]
        infinite = np.isinf(numbers)
        if infinite.any():
            apart = points_of(numbers[infinite], None if weights is None else weights[infinite])
            self._infinite = [merge_points([*self._infinite, apart])]
            numbers = numbers[~infinite]
            weights = None if weights is None else weights[~infinite]
        self._sketch.add(numbers, weights)

    def finish(self) -> Numbers:
        points = merge_points([self._sketch.points(), *self._infinite])
        error = 0.0 if self._sketch.exact else SKETCH_RANK_ERROR
        return Numbers(points, self._missing, error)


class _CategoryFit:
    """Gathers a categorical feature."""

    def __init__(self) -> None:
        self._sketch = CategorySketch()
        self._missing = 0.0
        self._present = 0.0
        self._weighted = False

    def add(self, batch: Batch, name: str) -> None:
        counted = batch.counted.get(name)
        if counted is not None:
            self._missing += counted.missing
            self._present += batch.rows - counted.missing
            self._sketch.add_counts(counted.values, counted.counts)
            return
        values, weights = batch.values[name], batch.weights
        missing, total = float(values.null_count()), float(values.len())
        if weights is not None:
            missing = float(weights[values.is_null().to_numpy()].sum()) if missing else 0.0
            total = float(weights.sum())
            self._weighted = True
        self._missing += missing
        self._present += total - missing
        self._sketch.add(values, None, weights)

    def finish(self) -> Categories:
        counted = self._sketch.counts()
        known = dict(zip(counted["value"].to_list(), counted["count"].to_list(), strict=True))
        # Sums of weights differ by rounding; a rest there is only where some were let go.
        rest = 0.0 if self._sketch.exact else max(self._present - sum(known.values()), 0.0)
        return Categories(known, rest, self._missing, self._weighted)


class Summarizer:
    """Summarises rows as they come.

    Args:
        features: what to keep.
        weighted: count rows 1/sampling_probability times, where there is that column.
    """

    def __init__(self, features: Sequence[Feature], *, weighted: bool = True) -> None:
        self._features = features
        self._weighted = weighted
        self._fits = {
            f.name: _NumberFit() if f.kind == "numeric" else _CategoryFit() for f in features
        }
        self._rows, self._weight, self._squared = 0, 0.0, 0.0

    def add(self, rows: Rows, where: Expr | None = None) -> None:
        """Take the rows of a source or frame that fulfil a condition.

        Raises:
            SchemaError: a column that is not there or of another type.
            ExpressionError: an unknown column in `where`.
        """
        for batch in read_features(rows, self._features, where=where, weighted=self._weighted):
            self._rows += batch.rows
            if batch.weights is None:
                self._weight += batch.rows
                self._squared += batch.rows
            else:
                self._weight += float(batch.weights.sum())
                self._squared += float((batch.weights**2).sum())
            for name, fit in self._fits.items():
                fit.add(batch, name)

    def summary(self) -> Summary:
        """Return what was kept so far."""
        found = {name: fit.finish() for name, fit in self._fits.items()}
        return Summary(found, self._rows, self._weight, self._squared)


def summarize_rows(
    rows: Rows,
    features: Sequence[Feature],
    *,
    where: Expr | None = None,
    weighted: bool = True,
) -> Summary:
    """Summarise rows in bounded memory, a few features a pass.

    Args:
        rows: a source or a frame.
        features: what to keep.
        where: the rows that count; all when None.
        weighted: count rows 1/sampling_probability times, where there is that column.

    Raises:
        SchemaError: a column that is not there or of another type.
        ExpressionError: an unknown column in `where`.
    """
    by_name = {feature.name: feature for feature in features}
    parts = []
    for group in passes(list(by_name), rows):
        summarizer = Summarizer([by_name[name] for name in group], weighted=weighted)
        summarizer.add(rows, where)
        parts.append(summarizer.summary())
    found = {name: side for part in parts for name, side in part.features.items()}
    return replace(parts[0], features=found)
