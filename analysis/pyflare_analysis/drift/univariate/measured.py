"""What a measure of one column says: the same for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Measured", "Method"]

Method = Literal["exact", "asymptotic", "permutation"]
"""Where a p-value comes from."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One measure of one column."""

    statistic: float
    """The measure in its own unit."""
    effect_size: float
    """The measure without a unit, in [0, 1] but for Wasserstein's."""
    ci_low: float
    """Lower confidence bound of the effect size."""
    ci_high: float
    p_value: float
    """Under no change, (0, 1]."""
    p_value_method: Method
    critical_value: float
    """Effect size from which it is significant before correction."""
