"""The cells that PSI is summed over: rare categories pooled, names, unseen categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pyflare_analysis.drift.profiles.bins import bin_bounds, split_value

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pyflare_analysis.drift.profiles.counts import CellCounts
    from pyflare_analysis.drift.profiles.profile import ColumnProfile

    Floats = NDArray[np.float64]

__all__ = ["cell_labels", "join_gaps", "plain_count", "pool_rare", "unseen_categories"]

_CHANCE = 0.03


def plain_count(value: float) -> int | float | None:
    """Return a count as it stands in JSON: whole where it is whole, null where undefined."""
    if not np.isfinite(value):
        return None
    return int(value) if float(value).is_integer() else float(value)


def pool_rare(
    x: Floats,
    y: Floats,
    to_n: Floats,
    to_m: Floats,
    *,
    sure: NDArray[np.bool_],
    least: int,
) -> tuple[Floats, Floats]:
    """Move the rows of rare categories to the rest.

    A category stands alone where `least` rows of it are expected in the smaller sample,
    judged by both samples together: a choice by the reference alone would favour what it
    holds by chance, and find it fallen.

    Args:
        x: (groups, cells) weighted rows of the reference; the last two cells are the rest and
            the missing.
        y: (groups, cells) weighted current rows.
        to_n: (groups,) effective rows a weighted row of the reference.
        to_m: (groups,) the same of the current rows.
        sure: (groups, cells) categories that may stand alone.
        least: expected effective rows.
    """
    xe, ye = x * to_n[:, None], y * to_m[:, None]
    n, m = xe.sum(axis=1), ye.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = (xe + ye) * (np.minimum(n, m) / (n + m))[:, None]
    rare = (np.nan_to_num(expected) < least) | ~sure
    rare[:, -2:] = False
    # One rare category and no rest: pooling would only take its name away.
    lone = ((rare & (xe + ye > 0)).sum(axis=1) == 1) & ((xe + ye)[:, -2] == 0)
    rare[lone] = False
    pooled = []
    for counts in (x, y):
        moved = np.where(rare, 0.0, counts)
        moved[:, -2] += np.where(rare, counts, 0.0).sum(axis=1)
        pooled.append(moved)
    return pooled[0], pooled[1]


def join_gaps(x: Floats, y: Floats, single: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Join the cells between and beyond the values of a reference to the value beside them.

    Where each value of the reference has a cell of its own, the others are empty because the
    reference was not there. A permutation does not know that, and takes a few rows there for
    more than they are. They stand alone where chance would have left the reference without
    them in at most 3 % of all splits: (m / (n + m))^y.

    Args:
        x: (groups, B + 1) effective counts of the reference, last the missing.
        y: (groups, B + 1) effective current counts.
        single: (B,) the cells of one value.

    Returns:
        Both sides, (groups, B + 1); that of the reference as it is.
    """
    n, m = x.sum(axis=1, keepdims=True), y.sum(axis=1, keepdims=True)
    gaps = np.flatnonzero(~single)
    with np.errstate(divide="ignore", invalid="ignore"):
        chance = (m / (n + m)) ** y[:, gaps]
    moved = np.where((chance > _CHANCE) & (x[:, gaps] == 0), y[:, gaps], 0.0)
    joined = y.copy()
    joined[:, gaps] -= moved
    for column, gap in enumerate(gaps.tolist()):
        joined[:, gap - 1 if gap else 1] += moved[:, column]
    return x, joined


def cell_labels(column: ColumnProfile, new: Sequence[str]) -> tuple[dict[str, object], ...]:
    """Return what each cell holds, as it stands in JSON: `bin` and its bounds or category."""
    if column.feature.kind == "numeric":
        labels: list[dict[str, object]] = []
        value: float | None = None
        for low, high in bin_bounds(column.edges):
            before, value = value, split_value(low, high)
            if value is not None:
                labels.append({"bin": "value", "low": value, "high": value})
            elif before is not None:  # beyond a single value, which is not part of the bin
                labels.append({"bin": "range", "low": before, "high": high, "low_open": True})
            else:
                labels.append({"bin": "range", "low": low, "high": high})
        return (*labels, {"bin": "missing", "low": None, "high": None})
    named = [("category", name) for name in column.categories]
    named += [("new_category", name) for name in new]
    categories: list[dict[str, object]] = [{"bin": bin_, "category": name} for bin_, name in named]
    categories += [{"bin": "other", "category": None}, {"bin": "missing", "category": None}]
    return tuple(categories)


def unseen_categories(
    column: ColumnProfile, cells: CellCounts, group: int
) -> dict[str, object] | None:
    """Return the rows of categories that the reference never had; None where nobody knows.

    As many are to be expected as the reference has rows of categories that occur once
    (Good 1953, Biometrika 40:237-264).
    """
    if column.feature.kind == "numeric" or column.distinct != len(column.categories):
        return None
    row = cells.counts[group]
    first = len(column.categories)
    count = float(row[first:-1].sum())
    total = float(row[:-1].sum())
    expected: float | None = None
    if column.singletons is not None and column.present:
        expected = column.singletons / column.present
    names: Mapping[str, float] = dict(zip(cells.new_categories, row[first:-2], strict=True))
    return {
        "count": plain_count(count),
        "share": count / total if total else None,
        "expected_share": expected,
        "categories": [name for name, rows in names.items() if rows > 0][:10],
    }
