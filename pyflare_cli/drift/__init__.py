"""`pyflare drift`: what changed. Each command is a module of this package."""

from pyflare_cli.drift import (  # noqa: F401 - the import registers the command
    centroid,
    mmd,
    psi,
    report,
    univariate,
)
from pyflare_cli.drift.group import app

__all__ = ["app"]
