"""OpenTelemetry's consistent probability sampling: thresholds, randomness, tracestate.

After "TraceState: Probability Sampling" of the OpenTelemetry specification: a
span has 56 bits of randomness R and is kept when R >= T, where the rejection
threshold T = (1 - p) * 2^56. What samplers before this one did stands in the
tracestate entry `ot`, as `th` (their threshold) and `rv` (randomness where it is
not the end of the trace id).
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import NamedTuple

__all__ = [
    "FULL_PRECISION",
    "MAX_THRESHOLD",
    "OtelState",
    "format_threshold",
    "parse_trace_state",
    "probability_to_threshold",
    "threshold_to_probability",
    "update_trace_state",
]

MAX_THRESHOLD = 1 << 56
"""Rejects everything; not a threshold that can be written."""
FULL_PRECISION = 14
"""Hexadecimal digits of a threshold that is not rounded."""

_DIGITS = re.compile(r"[0-9a-f]{1,14}\Z")
_MAX_ENTRY_LENGTH = 256
"""Longest `ot` entry; a longer one is ignored and must not be written."""
_MAX_MEMBERS = 32
"""Most members of a tracestate (W3C Trace Context)."""


class OtelState(NamedTuple):
    """What the `ot` entry of a tracestate says about sampling."""

    threshold: int | None
    """`th`, 0 to 2^56 - 1; None without a valid one."""
    randomness: int | None
    """`rv`, 0 to 2^56 - 1; None without a valid one."""


def probability_to_threshold(probability: float, precision: int = FULL_PRECISION) -> int:
    """Return the rejection threshold of a sampling probability, exactly rounded.

    Args:
        probability: 0 to 1; above 0 it is at least taken as 2^-56.
        precision: hexadecimal digits behind the leading f's, 1 to 12; 14 for all 56 bits.

    Returns:
        0 (keep all) to 2^56 (keep none, for probability 0 only).
    """
    share = Fraction(float(probability))
    if share <= 0:
        return MAX_THRESHOLD
    if share >= 1:
        return 0
    if precision >= FULL_PRECISION:
        return min(MAX_THRESHOLD - round(share * MAX_THRESHOLD), MAX_THRESHOLD - 1)
    digits = max(1, min(12, precision + math.frexp(probability)[1] // -4))
    step = 1 << 4 * (FULL_PRECISION - digits)
    steps = math.floor((1 - share) * (MAX_THRESHOLD // step) + Fraction(1, 2))
    return min(steps * step, MAX_THRESHOLD - step)


def threshold_to_probability(threshold: int) -> float:
    """Return the sampling probability of a threshold from 0 to 2^56."""
    return (MAX_THRESHOLD - threshold) / MAX_THRESHOLD


def format_threshold(threshold: int) -> str:
    """Return the `th` value of a threshold from 0 to 2^56 - 1."""
    return f"{threshold:014x}".rstrip("0") or "0"


def parse_trace_state(text: str) -> OtelState:
    """Return what a tracestate says about sampling; malformed parts count as absent."""
    entry = _ot_entry(text)
    if entry is None or len(entry) > _MAX_ENTRY_LENGTH:
        return OtelState(None, None)
    threshold = randomness = None
    for member in entry.split(";"):
        key, _, value = member.partition(":")
        if key == "th":
            threshold = int(value.ljust(14, "0"), 16) if _DIGITS.match(value) else None
        elif key == "rv":
            whole = len(value) == FULL_PRECISION and _DIGITS.match(value)
            randomness = int(value, 16) if whole else None
    return OtelState(threshold, randomness)


def update_trace_state(text: str, threshold: int | None, randomness: int | None) -> str:
    """Return a tracestate with another `th` and, when it has none, an `rv`.

    An `rv` that is there is never overwritten, other sub-keys of `ot` stay while
    they fit in 256 characters, and a changed entry goes to the front as W3C
    Trace Context asks. Of more than 32 members the last are dropped.

    Args:
        text: the tracestate as it arrived.
        threshold: 0 to 2^56 - 1; None erases `th`.
        randomness: 0 to 2^56 - 1; None adds none.
    """
    entry = _ot_entry(text) or ""
    usable = len(entry) <= _MAX_ENTRY_LENGTH
    before = parse_trace_state(text)
    if before.randomness is not None:
        randomness = before.randomness
    parts = []
    if threshold is not None:
        parts.append(f"th:{format_threshold(threshold)}")
    if randomness is not None:
        parts.append(f"rv:{randomness:014x}")
    for member in entry.split(";") if usable else ():
        if member and member.partition(":")[0] not in {"th", "rv"}:
            longer = ";".join([*parts, member])
            if len(longer) <= _MAX_ENTRY_LENGTH:
                parts.append(member)
    members = [m for m in (m.strip(" \t") for m in text.split(",")) if m]
    others = [m for m in members if m.partition("=")[0] != "ot"]
    own = [f"ot={';'.join(parts)}"] if parts else []
    return ",".join([*own, *others][:_MAX_MEMBERS])


def _ot_entry(text: str) -> str | None:
    for member in text.split(","):
        key, found, value = member.strip(" \t").partition("=")
        if key == "ot" and found:
            return value
    return None
