"""Distances between two rows of counts: Jensen-Shannon and chi-square."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from pyflare_analysis.drift.psi.cells import join_gaps
from pyflare_analysis.drift.psi.law import null_p_values
from pyflare_analysis.drift.univariate.measured import Measured

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["chi_square", "divergence", "jensen_shannon", "pearson"]


def divergence(x: Floats, y: Floats, cells: Floats) -> Floats:
    """Return eight times the Jensen-Shannon divergence in nats, which has the law of PSI.

    Args:
        x: (..., B) counts of the reference.
        y: (..., B) counts of the current rows.
        cells: (..., B) 1 for the cells that take part.
    """
    p = x / x.sum(axis=-1, keepdims=True)
    q = y / y.sum(axis=-1, keepdims=True)
    middle = (p + q) / 2
    safe = np.where(middle > 0, middle, 1.0)
    terms = sum(
        np.where(side > 0, side * np.log(np.where(side > 0, side, 1.0) / safe), 0.0)
        for side in (p, q)
    )
    return np.asarray(4 * (terms * cells).sum(axis=-1))


def jensen_shannon(
    x: Floats,
    y: Floats,
    *,
    alpha: float = 0.05,
    seed: int = 42,
    quantile_bins: bool = False,
    single: NDArray[np.bool_] | None = None,
) -> Measured:
    """Measure the Jensen-Shannon distance, sqrt of the divergence in nats (as SciPy's).

    The effect size is the distance over its largest value, sqrt(ln 2), with the mean of the
    divergence under no change taken off before the root. The interval is by the delta method
    on that divergence.

    Args:
        x: (B,) effective counts of the reference, the last cell for missing values.
        y: (B,) effective counts of the current rows.
        alpha: of the interval and of the critical value.
        seed: of the simulated law.
        quantile_bins: see `law.null_p_values`.
        single: see `cells.join_gaps`: (B - 1,) the cells of one value, where each value of the
            reference has one.

    Source: Lin 1991, IEEE Trans. Inf. Theory 37:145-151.
    """
    from scipy.special import chdtri

    n, m = float(x.sum()), float(y.sum())
    cells = (x + y) > 0
    scaled = float(divergence(x, y, cells.astype(np.float64)))
    tested = (x[None], y[None]) if single is None else join_gaps(x[None], y[None], single)
    observed = divergence(*tested, (tested[0] + tested[1] > 0).astype(np.float64))
    p = null_p_values(
        *tested, observed, quantile_bins=quantile_bins, seed=seed, statistic=divergence
    )
    noise, degrees = 1 / n + 1 / m, int(cells.sum()) - 1
    first, second = x / n, y / m
    middle = np.where(cells, (first + second) / 2, 1.0)
    variance = 2 * degrees * (noise / 8) ** 2
    for share, size in ((first, n), (second, m)):
        slope = np.log(np.where(share > 0, share, 1.0) / middle) / 2
        slope = np.where(share > 0, slope, 0.0)
        variance += float((share * slope**2).sum() - (share * slope).sum() ** 2) / size
    half = NormalDist().inv_cdf(1 - alpha / 2) * math.sqrt(max(variance, 0.0))
    center = scaled / 8 - degrees * noise / 8
    most = math.sqrt(math.log(2))

    def effect(value: float) -> float:
        return min(math.sqrt(max(value, 0.0)) / most, 1.0)

    critical = float(chdtri(degrees, alpha)) - degrees if degrees > 0 else 0.0
    large = bool((x + y)[cells].min() * min(n, m) / (n + m) >= 200)
    return Measured(
        math.sqrt(scaled / 8),
        effect(center),
        effect(center - half),
        effect(center + half),
        float(p[0]),
        "asymptotic" if large else "permutation",
        effect(critical * noise / 8),
    )


def pearson(x: Floats, y: Floats, cells: Floats) -> Floats:
    """Return Pearson's chi-square of two rows of counts, times (1/n + 1/m)."""
    n, m = x.sum(axis=-1, keepdims=True), y.sum(axis=-1, keepdims=True)
    pooled = (x + y) / (n + m)
    safe = np.where(pooled > 0, pooled, 1.0)
    return np.asarray(((x / n - y / m) ** 2 / safe * cells).sum(axis=-1))


def chi_square(x: Floats, y: Floats, *, alpha: float = 0.05, seed: int = 42) -> Measured:
    """Measure Pearson's chi-square of the two rows of counts, without a correction.

    The p-value is asymptotic where five rows are expected in every cell (Cochran 1954),
    else that of a permutation. The effect size is Cramer's V = sqrt(chi2 / (n + m)) with the
    bias correction of Bergsma 2013 (J. Korean Stat. Soc. 42:323-328), the interval that of the
    non-central chi-square law (Smithson 2003, "Confidence intervals", chapter 4).

    Args:
        x: (B,) effective counts of the reference.
        y: (B,) effective counts of the current rows.
        alpha: of the interval and of the critical value.
        seed: of the permutations.
    """
    from scipy.special import chdtrc, chdtri

    n, m = float(x.sum()), float(y.sum())
    cells = (x + y) > 0
    degrees = int(cells.sum()) - 1
    scaled = float(pearson(x, y, cells.astype(np.float64)))
    chi2 = scaled / (1 / n + 1 / m)
    smallest = float(((x + y)[cells] * min(n, m) / (n + m)).min())
    if degrees < 1:
        return Measured(0.0, 0.0, 0.0, 0.0, math.nan, "exact", 0.0)
    if smallest >= 5:
        p = float(chdtrc(degrees, chi2))
    else:
        p = float(
            null_p_values(
                x[None], y[None], np.array([scaled]), quantile_bins=False, seed=seed,
                statistic=pearson, least=math.inf,
            )[0]
        )  # fmt: skip
    total = n + m
    low, high = _noncentral(chi2, degrees, alpha)
    return Measured(
        chi2,
        min(math.sqrt(max(chi2 - degrees, 0.0) / total), 1.0),
        min(math.sqrt(low / total), 1.0),
        min(math.sqrt(high / total), 1.0),
        max(p, float(np.finfo(np.float64).tiny)),
        "asymptotic" if smallest >= 5 else "permutation",
        math.sqrt(max(float(chdtri(degrees, alpha)) - degrees, 0.0) / total),
    )


def _noncentral(chi2: float, degrees: int, alpha: float) -> tuple[float, float]:
    """Return the bounds of the non-centrality of an observed chi-square."""
    from scipy.special import chndtr, chndtrinc

    bounds = []
    for share in (1 - alpha / 2, alpha / 2):
        if chndtr(chi2, degrees, 0.0) <= share:
            bounds.append(0.0)
            continue
        found = float(chndtrinc(chi2, degrees, share))
        bounds.append(found if math.isfinite(found) else max(chi2 - degrees, 0.0))
    return bounds[0], bounds[1]
