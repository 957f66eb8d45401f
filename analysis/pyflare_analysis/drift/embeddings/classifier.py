"""A domain classifier: can the two samples be told apart, row by row?

Ridge regression of the sample on principal components, their squares and the length of
the rest. Every row is judged by the fit without it, in closed form, so the area under the
ROC curve is honest; the fit is redone for every split, which makes the level exact.

Source: classifier two-sample test, Lopez-Paz & Oquab 2017, ICLR, arXiv 1610.06545;
leave-one-out residuals of ridge regression, Hastie, Tibshirani & Friedman 2009, eq. 7.64.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyflare_analysis.drift.embeddings.pooled import Pooled, SplitTest

__all__ = ["classifier_test"]

_RIDGE = 1e-2
_EXAMPLES = 5
_ROUNDING = 1e-5


def classifier_test(pool: Pooled) -> SplitTest:
    """Return the area under the ROC curve for all splits, rows judged by fits without them.

    `details` has the area (1: told apart without error; 0.5 or less: not at all) and the
    current rows that look least like the reference.
    """
    features = _features(pool)
    size = len(features)
    targets = pool.members.astype(np.float64)
    targets -= pool.reference_counts / size
    ridge = _RIDGE * size * np.eye(features.shape[1])
    inverse = np.linalg.inv(features.T @ features + ridge)
    fitted = features @ (inverse @ (features.T @ targets))
    # The mean of the targets is left out too: 1/N of the leverage.
    leverage = np.einsum("ij,ij->i", features @ inverse, features) + 1 / size
    alone = (fitted - leverage[:, None] * targets) / (1 - leverage)[:, None]
    area = _area(alone, pool)
    least = np.argsort(alone[:, 0], kind="stable")
    rows = pool.order[least]
    unlike = rows[rows >= pool.reference_count][:_EXAMPLES] - pool.reference_count
    details = {"auc": float(area[0]), "unlike_rows": unlike.tolist()}
    return SplitTest("classifier", area, details)


def _features(pool: Pooled) -> NDArray[np.float64]:
    """Return (N, 2k + 1) standardised components, their squares and the squared rest."""
    components = pool.principal.astype(np.float64)
    squares = np.einsum("ij,ij->i", pool.rows, pool.rows, dtype=np.float64)
    rest = squares - np.einsum("ij,ij->i", components, components)
    rest[rest < _ROUNDING * squares.mean()] = 0  # where the components hold everything
    table = np.column_stack([components, components**2, rest])
    table -= table.mean(0)
    deviation = table.std(0)
    kept = deviation > 0
    return np.asarray(table[:, kept] / deviation[kept], np.float64)


def _area(scores: NDArray[np.float64], pool: Pooled) -> NDArray[np.float64]:
    """Return the area under the ROC curve of each column, by the rank sum of the reference."""
    n, m = pool.reference_counts, pool.current_counts
    sums = np.empty(scores.shape[1])
    for column in range(scores.shape[1]):
        _, place, counts = np.unique(scores[:, column], return_inverse=True, return_counts=True)
        ranks = np.cumsum(counts) - (counts - 1) / 2  # values that tie share their mean rank
        sums[column] = ranks[place] @ pool.members[:, column]
    return np.asarray((sums - n * (n + 1) / 2) / (n * m))
