"""The number of calls against what that time of day had before."""

from __future__ import annotations

from collections.abc import Sequence

from pyflare_analysis.rca.cells import Cube, Grid, SliceKey
from pyflare_analysis.rca.incidents import Family

__all__ = ["volume_family"]


def volume_family(
    cubes: Sequence[Cube], keys: Sequence[SliceKey | None], grid: Grid
) -> tuple[Family | None, str]:
    del cubes, keys, grid
    return None, "calls are not compared yet"
