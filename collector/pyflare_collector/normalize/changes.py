"""What a source does to its value on the way into a field, by the name used in `conventions`."""

from __future__ import annotations

from collections.abc import Callable

from pyflare_collector.normalize import providers

__all__ = ["FACTORS", "TEXT_CHANGES"]


def _service_tier(value: str) -> str | None:
    """Return a service tier in lower case; None where it leaves the tier open."""
    text = value.strip().lower()
    return None if text in {"auto", "none", "null", "unknown"} else text


TEXT_CHANGES: dict[str, Callable[[str], str | None]] = {
    "provider": providers.fold,
    "service_tier": _service_tier,
}
"""Distinct value to new value; None makes it absent, so that the next source is asked."""

FACTORS: dict[str, float] = {
    "seconds_to_ms": 1e3,
    "micro": 1e-6,
}
"""Factor of a number."""
