"""How well a PSI is known: a confidence interval."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["psi_interval"]


def psi_interval(x: Floats, y: Floats, level: float) -> tuple[Floats, Floats]:
    """Return the bounds of the PSI before sampling.

    PSI - (B-1) s +- z sqrt(v + 2 (B-1) s^2), s = 1/n + 1/m, not below 0, from counts with half a
    count added: the mean under no change is taken off, and the variance is that of the delta
    method, v = Var_q(ln(q/p) + 1 - p/q) / m + Var_p(ln(p/q) + 1 - q/p) / n, plus that of the
    chi-square part. Simulated coverage at 95 %: 0.95 to 0.99 where the PSI is 0.08 or more, 0.96
    to 1 nearer to 0, where the interval is wide (docs/drift.md, "How well a PSI is known").

    Args:
        x: (groups, B) effective counts of the reference.
        y: (groups, B) effective counts of the current rows.
        level: confidence in (0, 1).

    Source: the delta method for functions of two multinomials (Agresti 2013, "Categorical Data
    Analysis", 16.1).
    """
    cells = (x + y) > 0
    half = 0.5 * cells
    p, q = x + half, y + half
    n, m = p.sum(axis=1, keepdims=True), q.sum(axis=1, keepdims=True)
    p, q = p / np.where(n > 0, n, 1.0), q / np.where(m > 0, m, 1.0)
    ratio = np.divide(q, p, out=np.ones_like(q), where=(p > 0) & (q > 0))
    log = np.log(ratio)
    psi = ((q - p) * log).sum(axis=1)

    def spread(share: Floats, slope: Floats) -> Floats:
        return np.asarray((share * slope**2).sum(axis=1) - (share * slope).sum(axis=1) ** 2)

    degrees = cells.sum(axis=1) - 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        n_rows, m_rows = x.sum(axis=1), y.sum(axis=1)
        noise = 1 / n_rows + 1 / m_rows
        variance = spread(q, log + 1 - 1 / ratio) / m_rows + spread(p, -log + 1 - ratio) / n_rows
        width = NormalDist().inv_cdf(0.5 + level / 2) * np.sqrt(variance + 2 * degrees * noise**2)
        center = psi - degrees * noise
    return np.maximum(center - width, 0.0), np.maximum(center + width, 0.0)
