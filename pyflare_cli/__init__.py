"""The command line: arguments in, one document on stdout, messages on stderr, an exit code.

Only `main` and `run` are imported here, so that a missing extra gives a message
and not a traceback, and so that `pyflare --help` loads nothing heavy.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main", "run"]


def main() -> None:
    """Run the command of `sys.argv` and exit with its code: the console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; nothing is raised.

    Args:
        arguments: the words after `pyflare`.
    """
    from pyflare_cli import diagnostics

    diagnostics.configure(arguments)
    try:
        from pyflare_cli.app import invoke

        return invoke(arguments)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException as error:  # noqa: BLE001 - the one place where exceptions become exit codes
        return int(diagnostics.report(error))
