"""What a search for patterns looks at: the spans, the intervals, the settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyflare_analysis.rca.patterns.cells import Grid
from pyflare_analysis.rca.patterns.pattern import PatternDetectorConfig

if TYPE_CHECKING:
    from pyflare_storage.expressions import Expr
    from pyflare_storage.source import Source

__all__ = ["Scope"]


@dataclass(frozen=True, slots=True)
class Scope:
    """Handed to every part of a search."""

    source: Source
    where: Expr | None
    """The spans."""
    grid: Grid
    first: int
    """The first interval that may begin an episode; those before are baseline only."""
    config: PatternDetectorConfig
    weighted: bool
    """Count sampled spans 1/sampling_probability times."""

    def whole(self) -> tuple[int, int]:
        """Return start and end of all intervals, ns since 1970."""
        return self.grid.time_ns(0), self.grid.time_ns(self.grid.count)
