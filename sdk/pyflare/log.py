"""What the SDK says: through the logger `pyflare`, and the same thing not twice a minute."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable

__all__ = ["logger", "say_everything", "warn", "warn_rarely"]

logger = logging.getLogger("pyflare")
_INTERVAL_SECONDS = 60.0


def warn(what: str, *values: object, hint: str) -> None:
    """Log a warning with what to do about it."""
    logger.warning(what + "; hint: %s", *values, hint)  # noqa: G003 - `what` is a format


def say_everything() -> None:
    """Log details too, on stderr where the application has set up no logging: `debug=True`."""
    logger.setLevel(logging.DEBUG)
    if not logger.hasHandlers():
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
        logger.addHandler(handler)


class _Rarely:
    """Passes a message of a kind at most once in an interval."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next: dict[str, float] = {}

    def allows(self, kind: str) -> bool:
        # Without a lock, which a fork could leave locked: at worst two threads say it.
        now = self._clock()
        if now < self._next.get(kind, now):
            return False
        self._next[kind] = now + _INTERVAL_SECONDS
        return True


_rarely = _Rarely()


def warn_rarely(kind: str, what: str, *values: object, hint: str) -> None:
    """Log a warning unless one of its kind was logged in the last minute."""
    if _rarely.allows(kind):
        warn(what, *values, hint=hint)
