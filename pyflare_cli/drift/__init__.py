"""`pyflare drift`: what changed. Each command is a module of this package."""

from pyflare_cli.drift import centroid, mmd, psi, report  # noqa: F401 - the import registers it
from pyflare_cli.drift.group import app

__all__ = ["app"]
