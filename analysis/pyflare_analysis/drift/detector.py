"""What every drift detector is: fitted on a reference, scored on what came later.

Example:
    >>> from pyflare_analysis.drift import PSIDriftDetector
    >>> detector = PSIDriftDetector()
    >>> detector.set_reference(last_week["duration_ms"])
    >>> detector.compute(today["duration_ms"]).verdict
    <Verdict.STABLE: 'stable'>
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, Protocol, Self, TypeVar

__all__ = ["DriftDetector", "DriftResult", "DriftType", "Verdict"]

Data_contra = TypeVar("Data_contra", contravariant=True)


class DriftType(StrEnum):
    """What a detector watches."""

    FEATURE = "feature"
    """The distribution of a column."""
    EMBEDDING = "embedding"
    """The distribution of vectors."""


class Verdict(StrEnum):
    """What a detector says; "cannot say" is an answer of its own."""

    STABLE = "stable"
    """No drift that is both significant and larger than the threshold."""
    DRIFT = "drift"
    """Drift that is both significant and larger than the threshold."""
    INSUFFICIENT = "insufficient"
    """Too little data to say either."""


@dataclass(frozen=True, slots=True)
class DriftResult:
    """The answer of one detector for one batch."""

    detector: str
    """Name of the detector."""
    type: DriftType
    """What was watched."""
    verdict: Verdict
    """What it says."""
    score: float
    """The statistic, in the detector's own unit; NaN where it is undefined."""
    threshold: float
    """The score that drift must exceed."""
    p_value: float
    """Probability of such a score under no change, (0, 1]; NaN where untested."""
    reference_count: int
    """Values or vectors of the reference."""
    current_count: int
    """Values or vectors of the batch."""
    details: dict[str, Any] = field(default_factory=dict)
    """Further figures of the detector, by name, as they stand in JSON."""

    @property
    def is_drift(self) -> bool:
        """Whether the verdict is drift."""
        return self.verdict is Verdict.DRIFT


class DriftDetector(Protocol, Generic[Data_contra]):
    """A detector: fit on a reference, keep, score batches."""

    @property
    def name(self) -> str:
        """Name of the detector, the class's own."""

    @property
    def type(self) -> DriftType:
        """What it watches."""

    def set_reference(self, reference: Data_contra) -> None:
        """Fit on the reference.

        Raises:
            SchemaError: data of the wrong type or shape.
        """

    def compute(self, current: Data_contra) -> DriftResult:
        """Score a batch against the reference.

        Raises:
            UsageError: no reference was set.
            SchemaError: data that does not fit the reference.
        """

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted state to a small versioned file."""

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a fitted detector.

        Raises:
            InvalidDataError: the file is none of this detector, or of a later version.
        """
