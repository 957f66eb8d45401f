r"""Segments: what of a drift is another mix of segments, and what a change inside them.

The share of bin x is a sum over segments, p_x = sum_s p_s p_{x|s}, and so is its change:

    q_x - p_x = sum_s (q_s - p_s) (p_{x|s} + q_{x|s}) / 2      change of mix
              + sum_s (p_s + q_s) / 2 (q_{x|s} - p_{x|s})      change within

(Kitagawa 1955, J. Am. Stat. Assoc. 50:1168-1194; it is also the Shapley value of the two
causes.) PSI is linear in that change once the logarithms are taken as they are,
PSI = sum_x (q_x - p_x) ln(q_x / p_x), so the two parts times the logarithms add up to
the PSI exactly. A part may be negative: then it counteracts the other one.

The share of a segment that one side does not have moves as mix: nothing can be said about
a change inside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Split", "split_psi"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Split:
    """A PSI in two parts, each by segment."""

    mix: Floats
    """(S,) what the change of each segment's share adds; the sum is the change of mix."""
    within: Floats
    """(S,) what the change inside each segment adds; the sum is the change within."""

    @property
    def psi(self) -> float:
        """The PSI that is split, the sum of all parts."""
        return float(self.mix.sum() + self.within.sum())


def split_psi(reference: Floats, current: Floats, smoothing: float = 0.5) -> Split:
    """Split the PSI of a column into change of mix and change within segments.

    Shares are (count + smoothing) / (n + smoothing B) for the B bins of the whole, as for the
    PSI that verdicts rest on. The half count of a bin is divided among the segments by
    their shares, so that the shares of segments stay as they are and the parts add up.

    Args:
        reference: (S, B) counts by segment and bin, 0 or more, not all 0.
        current: (S, B) likewise.
        smoothing: added to each of the B bins of the whole, above 0 where bins are empty.

    Raises:
        ValueError: shapes that differ, or a side without any count.
    """
    p_s, p_xs = _shares(np.asarray(reference, np.float64), smoothing)
    q_s, q_xs = _shares(np.asarray(current, np.float64), smoothing)
    if p_xs.shape != q_xs.shape:
        raise ValueError(f"counts of shapes {p_xs.shape} and {q_xs.shape}")
    # A segment that one side lacks has there the shares it has on the other.
    p_xs = np.where((p_s > 0)[:, None], p_xs, q_xs)
    q_xs = np.where((q_s > 0)[:, None], q_xs, p_xs)
    p_x, q_x = p_s @ p_xs, q_s @ q_xs
    log_ratio = np.log(np.where(q_x > 0, q_x, 1.0) / np.where(p_x > 0, p_x, 1.0))
    means = (p_xs + q_xs) / 2 @ log_ratio
    # Shares sum to one on both sides, so only the distance from a common level matters:
    # a segment that grows at the level of the whole adds nothing.
    level = (p_s + q_s) / 2 @ means
    return Split(
        mix=(q_s - p_s) * (means - level),
        within=(p_s + q_s) / 2 * ((q_xs - p_xs) @ log_ratio),
    )


def _shares(counts: Floats, smoothing: float) -> tuple[Floats, Floats]:
    """Return the shares of segments, (S,), and of bins within each, (S, B)."""
    total = counts.sum()
    if counts.ndim != 2 or not total > 0:
        raise ValueError(f"no counts by segment and bin: shape {counts.shape}, total {total}")
    share = counts.sum(axis=1) / total
    added = counts + smoothing * share[:, None]
    sums = added.sum(axis=1, keepdims=True)
    return share, added / np.where(sums > 0, sums, 1.0)
