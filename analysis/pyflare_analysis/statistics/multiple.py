"""Corrections for testing many hypotheses at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["benjamini_hochberg"]


def benjamini_hochberg(p_values: ArrayLike) -> NDArray[np.float64]:
    """Return the adjusted p-values that control the false discovery rate.

    q_(i) = min over j >= i of p_(j) k / j, for the k p-values in increasing order.
    A hypothesis that could not be tested has p = NaN: it keeps NaN and does not count in k.

    Args:
        p_values: (k,) in [0, 1] or NaN, any order.

    Returns:
        (k,) float64 q-values in the order of `p_values`; rejecting q <= a keeps the false
        discovery rate at or below a for independent or positively dependent tests.

    Raises:
        ValueError: a p-value outside [0, 1], or an array of more than one dimension.

    Source: Benjamini & Hochberg 1995, J. R. Stat. Soc. B 57:289-300; in the adjusted form
    of Yekutieli & Benjamini 1999, J. Stat. Plan. Inference 82:171-196.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1:
        raise ValueError(f"p-values of shape {p.shape}, not (k,)")
    tested = ~np.isnan(p)
    values = p[tested]
    if values.size and (values.min() < 0 or values.max() > 1):
        raise ValueError("p-values outside [0, 1]")
    order = np.argsort(values, kind="stable")
    ranks = np.arange(1, values.size + 1)
    stepped = values[order] * values.size / ranks
    monotone = np.minimum.accumulate(stepped[::-1])[::-1]
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(monotone, 1.0)
    result = np.full(p.shape, np.nan)
    result[tested] = adjusted
    return result
