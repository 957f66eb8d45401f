"""Settings of PSI, and the bands that its values are read by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pyflare_proto.errors import UsageError

__all__ = ["MODERATE", "SIGNIFICANT", "PSIConfig", "Severity"]

MODERATE = 0.1
"""PSI from which a shift is moderate."""
SIGNIFICANT = 0.25
"""PSI from which a shift is significant."""

Severity = Literal["none", "moderate", "significant"]


@dataclass(frozen=True, slots=True)
class PSIConfig:
    """Settings of PSI.

    Raises:
        UsageError: a value out of its range.
    """

    threshold: float = 0.2
    """Smoothed PSI that drift exceeds, 0 or more."""
    num_bins: int = 10
    """Quantile bins of a numeric column, 2 or more."""
    min_samples_per_bin: int = 5
    """Values of the reference in a bin at least; rows of a category expected on either side."""
    epsilon: float = 1e-10
    """Share that an empty bin has in `psi`, in (0, 1); it decides nothing else."""
    alpha: float = 0.05
    """False discovery rate at which a change is significant, in (0, 1)."""
    random_seed: int = 42
    """Seed of the simulated law, 0 or more."""

    def __post_init__(self) -> None:
        for name, fits in {
            "threshold": self.threshold >= 0,
            "num_bins": self.num_bins >= 2,
            "min_samples_per_bin": self.min_samples_per_bin >= 1,
            "epsilon": 0 < self.epsilon < 1,
            "alpha": 0 < self.alpha < 1,
            "random_seed": self.random_seed >= 0,
        }.items():
            if not fits:
                raise UsageError(
                    f"{name} is {getattr(self, name)}",
                    hint="threshold from 0, num_bins from 2, min_samples_per_bin from 1, "
                    "epsilon and alpha within (0, 1), random_seed from 0",
                )
