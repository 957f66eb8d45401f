"""`pyflare rca`: which segment, since when, and why. Each command is a module of this package."""

from pyflare_cli.rca.group import app

__all__ = ["app"]
