"""Figures as people read them: money, durations, times of tables and trees."""

from __future__ import annotations

__all__ = ["milliseconds", "short_time", "usd"]

_NANO = 1_000_000_000


def usd(value: object) -> str:
    """Return nano-dollars as dollars with the digits that matter: `$12.34`, `$0.002922`."""
    nano = int(str(value))
    dollars = nano / _NANO
    if abs(dollars) >= 100 or nano == 0:
        return f"${dollars:,.2f}"
    decimals = 4 if abs(dollars) >= 1 else 6 if abs(nano) >= 1000 else 9
    whole, _, fraction = f"{dollars:,.{decimals}f}".partition(".")
    return f"${whole}.{fraction.rstrip('0').ljust(2, '0')}"


def milliseconds(value: object) -> str:
    """Return milliseconds in the unit that fits: `0.4 ms`, `823 ms`, `1.24 s`, `3 min 5 s`."""
    duration = float(str(value))
    if duration < 10:
        return f"{duration:.1f} ms"
    if duration < 999.5:
        return f"{duration:.0f} ms"
    seconds = duration / 1000
    if seconds < 99.995:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def short_time(value: object) -> str:
    """Return an ISO 8601 time with nanoseconds as `2026-11-23 03:04:05.123`."""
    text = str(value)
    return f"{text[:10]} {text[11:23]}"
