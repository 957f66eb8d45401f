"""Growth of a cluster: its rate in the recent part of the time against its rate before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyflare_analysis.statistics import benjamini_hochberg

__all__ = ["Counts", "Growth", "Trend", "growths"]


class Trend(StrEnum):
    """What the growth says."""

    NEW = "new"
    """Nothing before, and more now than chance explains."""
    GROWING = "growing"
    SHRINKING = "shrinking"
    STEADY = "steady"
    """No change that chance does not explain."""
    INSUFFICIENT = "insufficient"
    """So few failures that no split of them could be significant."""


class Counts(NamedTuple):
    """Failures of one cluster before and after the split, as sums of weights."""

    before: float
    before_squares: float
    """Sum of squared weights."""
    recent: float
    recent_squares: float


@dataclass(frozen=True, slots=True)
class Growth:
    """Change of a cluster's rate."""

    before: float
    """Failures before the recent part, weighted."""
    recent: float
    """Failures in the recent part, weighted."""
    ratio: float
    """Recent rate over the rate before; infinite where there was nothing before."""
    ratio_low: float
    """Lower bound of the ratio."""
    ratio_high: float
    """Upper bound of the ratio."""
    p_value: float
    """Two-sided, (0, 1]."""
    q_value: float
    """Adjusted for all clusters (Benjamini and Hochberg); NaN where the trend is insufficient."""
    trend: Trend

    @property
    def is_growing(self) -> bool:
        """Whether there is significantly more now."""
        return self.trend in (Trend.NEW, Trend.GROWING)

    def to_dict(self) -> dict[str, object]:
        """Return the growth as it stands in JSON; an infinite ratio is null there."""
        return {
            "before": self.before,
            "recent": self.recent,
            "ratio": self.ratio,
            "ratio_low": self.ratio_low,
            "ratio_high": self.ratio_high,
            "p_value": self.p_value,
            "q_value": self.q_value,
            "trend": self.trend.value,
        }


def growths(
    counts: Sequence[Counts], before: float, recent: float, *, level: float = 0.95
) -> list[Growth | None]:
    """Compare the rates of each cluster.

    Given k failures in total, those in the recent part are binomial with share
    s = e1 / (e0 + e1) where the rates are the same (Przyborowski and Wilenski 1940,
    Biometrika 31:313-323; the exact conditional test of two Poisson rates). The p-value
    doubles the smaller tail; the interval of the ratio is that of Clopper and Pearson
    (1934, Biometrika 26:404-413) for the share, turned into odds over s / (1 - s). Weighted
    counts enter with Kish's effective size (sum w)^2 / sum w^2, and the exposures are scaled
    with them.

    Args:
        counts: of each cluster.
        before: exposure before the split, > 0: spans, or a length of time.
        recent: exposure after it, > 0, in the same unit.
        level: confidence of the intervals; 1 - level is the false discovery rate.

    Returns:
        One growth a cluster; None for all where an exposure is 0.
    """
    from scipy import special

    if not counts or before <= 0 or recent <= 0:
        return [None] * len(counts)
    sums = np.array(counts, dtype=np.float64)
    w0, sq0, w1, sq1 = sums.T
    k0, k1 = _effective(w0, sq0), _effective(w1, sq1)
    scale = (w0 + w1) / np.maximum(k0 + k1, 1e-300)
    e0 = before / np.where(k0 > 0, w0 / np.maximum(k0, 1e-300), scale)
    e1 = recent / np.where(k1 > 0, w1 / np.maximum(k1, 1e-300), scale)
    n, s = k0 + k1, e1 / (e0 + e1)
    at_least = np.where(k1 > 0, special.betainc(np.maximum(k1, 1e-12), k0 + 1, s), 1.0)
    at_most = np.where(k0 > 0, special.betaincc(k1 + 1, np.maximum(k0, 1e-12), s), 1.0)
    p = np.minimum(1.0, 2 * np.minimum(at_least, at_most))
    tail = (1 - level) / 2
    low = np.where(k1 > 0, special.betaincinv(np.maximum(k1, 1e-12), k0 + 1, tail), 0.0)
    high = np.where(k0 > 0, special.betaincinv(k1 + 1, np.maximum(k0, 1e-12), 1 - tail), 1.0)
    odds = s / (1 - s)
    # The smallest p-value that n failures can have: all of them in one part.
    smallest = 2 * np.minimum(s, 1 - s) ** n
    testable = smallest <= 1 - level
    q = benjamini_hochberg(np.where(testable, p, np.nan))
    with np.errstate(divide="ignore"):
        ratio = (w1 / recent) / (w0 / before)
        bounds = (low / (1 - low)) / odds, (high / (1 - high)) / odds
    return [
        Growth(
            before=float(w0[i]),
            recent=float(w1[i]),
            ratio=float(ratio[i]),
            ratio_low=float(bounds[0][i]),
            ratio_high=float(bounds[1][i]),
            p_value=float(p[i]),
            q_value=float(q[i]),
            trend=_trend(testable=bool(testable[i]), q=float(q[i]), level=level,
                         before=float(w0[i]), ratio=float(ratio[i])),
        )
        for i in range(len(counts))
    ]  # fmt: skip


def _trend(*, testable: bool, q: float, level: float, before: float, ratio: float) -> Trend:
    if not testable:
        return Trend.INSUFFICIENT
    if q > 1 - level:
        return Trend.STEADY
    if not before:
        return Trend.NEW
    return Trend.GROWING if ratio > 1 else Trend.SHRINKING


def _effective(sums: NDArray[np.float64], squares: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(squares > 0, sums * sums / np.maximum(squares, 1e-300), 0.0)
