"""A token bucket over traces, with the probability at which each was admitted."""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["TraceLimiter"]

_ROUNDING = 1e-9
"""Tokens that float arithmetic may be short of a whole one."""


class TraceLimiter:
    """Admits at most `burst + rate * t` traces in any t seconds.

    Traces are offered in groups (those of one request). Of a group of n, k are
    admitted as tokens allow; the caller chooses which, at random. A trace of the
    group is then admitted with probability k / (n + d), where d counts the traces
    offered and dropped since the last admission: so the weights 1/probability of
    the admitted traces add up to the traces offered, exactly, at each admission.

    Not thread-safe.

    Args:
        rate: traces per second, above 0.
        clock: monotonic seconds.
    """

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self.rate = rate
        self.burst = max(1.0, rate)
        self._clock = clock
        self._tokens = self.burst
        self._updated = clock()
        self._dropped = 0

    def admit(self, offered: int) -> tuple[int, float]:
        """Return how many of `offered` traces are admitted, and with which probability each.

        The probability is 0 when none is.
        """
        now = self._clock()
        elapsed = max(0.0, now - self._updated)
        self._updated = max(now, self._updated)
        self._tokens = min(self.burst, self._tokens + elapsed * self.rate)
        admitted = min(offered, math.floor(self._tokens + _ROUNDING))
        if admitted <= 0:
            self._dropped += offered
            return 0, 0.0
        self._tokens -= admitted
        probability = admitted / (offered + self._dropped)
        self._dropped = 0
        return admitted, probability
