"""`pyflare rca`: which segment, since when, and why. Each command is a module of this package."""

from pyflare_cli.rca import attribution as _attribution  # noqa: F401 - registers the command
from pyflare_cli.rca import clusters as _clusters  # noqa: F401 - registers the command
from pyflare_cli.rca import patterns as _patterns  # noqa: F401 - registers the command
from pyflare_cli.rca import report as _report  # noqa: F401 - registers the command
from pyflare_cli.rca import slices as _slices  # noqa: F401 - registers the command
from pyflare_cli.rca.group import app

__all__ = ["app"]
