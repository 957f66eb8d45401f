"""Times and durations as people write them, in nanoseconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime

__all__ = ["format_time", "is_duration", "parse_duration_ns", "parse_iso"]

_UNITS_NS = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
    "w": 604_800_000_000_000,
}
_DURATION = re.compile(r"(?P<number>\d+)\s*(?P<unit>ns|us|ms|s|m|h|d|w)")
_ISO = re.compile(
    r"(?P<date>\d{4}-\d{2}-\d{2})"
    r"([T ](?P<time>\d{2}:\d{2}(:\d{2})?)(\.(?P<fraction>\d{1,9}))?)?"
    r"\s*(?P<zone>[Zz]|[+-]\d{2}:?\d{2})?"
)


def format_time(time_ns: int) -> str:
    """Return nanoseconds since 1970 as ISO 8601 in UTC, always with nine decimals.

    >>> format_time(1_764_000_000_123_456_789)
    '2025-11-24T16:00:00.123456789Z'
    """
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"


def parse_iso(text: str) -> int:
    """Return an ISO 8601 date or time as nanoseconds since 1970; without a zone it is UTC.

    Raises:
        ValueError: it is no ISO 8601 time.
    """
    match = _ISO.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not an ISO 8601 time: {text!r}")
    zone = (match["zone"] or "Z").upper().replace("Z", "+00:00")
    moment = datetime.fromisoformat(f"{match['date']}T{match['time'] or '00:00'}{zone}")
    delta = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    seconds = delta.days * 86_400 + delta.seconds
    return seconds * 1_000_000_000 + int((match["fraction"] or "0").ljust(9, "0"))


def parse_duration_ns(text: str) -> int:
    """Return a duration like `15m`, `24h` or `7d` in nanoseconds.

    Raises:
        ValueError: it is no duration.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a duration: {text!r}")
    return int(match["number"]) * _UNITS_NS[match["unit"]]


def is_duration(text: str) -> bool:
    """Return whether `text` is written as a duration."""
    return _DURATION.fullmatch(text.strip()) is not None
