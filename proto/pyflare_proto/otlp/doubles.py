"""The shortest decimal form of a double, in compiled code.

The algorithm is Schubfach: R. Giulietti, "The Schubfach way to render doubles"
(2020). It finds the shortest decimal that reads back as the same double, and of
those the nearest one. The text has the form of Python's `repr`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyflare_proto.otlp.jit import byte_at, helper, int64, mulhi, put8

__all__ = ["DOUBLE_BYTES", "put_digits", "put_double"]

DOUBLE_BYTES = 26
"""Most bytes that `put_double` writes."""

_LOWEST = -292
_HIGHEST = 324


def _powers() -> NDArray[np.uint64]:
    """Return (617, 2) high and low words of 10**k * 2**-r, rounded up, with the top bit set."""
    table = np.empty((_HIGHEST - _LOWEST + 1, 2), np.uint64)
    for k in range(_LOWEST, _HIGHEST + 1):
        if k >= 0:
            power = 10**k
            shift = power.bit_length() - 128
            value = power << -shift if shift <= 0 else -(-power >> shift)
        else:
            power = 10**-k
            value = -(-(1 << (127 + power.bit_length())) // power)
        table[k - _LOWEST] = value >> 64, value & 0xFFFFFFFFFFFFFFFF
    return table


_POWERS = _powers()
_U1, _U2, _U4, _U10, _U40 = (np.uint64(x) for x in (1, 2, 4, 10, 40))


@helper
def _scaled(high: np.uint64, low: np.uint64, x: np.uint64) -> np.uint64:
    """Return the upper 64 of the 192 bits of (high, low) * x, the lowest one sticky."""
    middle = high * x
    total = middle + mulhi(low, x)
    top = mulhi(high, x)
    if total < middle:
        top += _U1
    return top | _U1 if total > _U1 else top


@helper
def _shortest(bits: int) -> tuple[np.uint64, int]:
    """Return (digits, exponent) with digits * 10**exponent the finite double above 0 of `bits`."""
    fraction = np.uint64(bits & 0xFFFFFFFFFFFFF)
    biased = (bits >> 52) & 0x7FF
    c = fraction
    q = -1074
    if biased != 0:
        c |= np.uint64(1 << 52)
        q = biased - 1075
        if -52 <= q <= 0 and c & ((_U1 << np.uint64(-q)) - _U1) == np.uint64(0):
            return c >> np.uint64(-q), 0
    odd = c & _U1
    closer = 1 if fraction == np.uint64(0) and biased > 1 else 0
    k = (q * 1262611 - closer * 524031) >> 22
    h = np.uint64(q + ((-k * 1741647) >> 19) + 1)
    high = _POWERS[-k - _LOWEST, 0]
    low = _POWERS[-k - _LOWEST, 1]
    value = _scaled(high, low, (_U4 * c) << h)
    lower = _scaled(high, low, (_U4 * c - _U2 + np.uint64(closer)) << h) + odd
    upper = _scaled(high, low, (_U4 * c + _U2) << h) - odd
    s = value // _U4
    if s >= _U10:
        tens = s // _U10
        below = lower <= _U40 * tens
        above = _U40 * tens + _U40 <= upper
        if below != above:
            return tens + (_U1 if above else np.uint64(0)), k + 1
    below = lower <= _U4 * s
    above = _U4 * s + _U4 <= upper
    if below != above:
        return s + (_U1 if above else np.uint64(0)), k
    middle = _U4 * s + _U2
    up = value > middle or (value == middle and s & _U1 != np.uint64(0))
    return s + (_U1 if up else np.uint64(0)), k


@helper
def put_digits(value: np.uint64, out: int) -> int:
    """Write a number in decimal, at most 20 bytes: the next place."""
    size = 1
    rest = value // _U10
    while rest > np.uint64(0):
        size += 1
        rest //= _U10
    place = out + size
    while place > out:
        place -= 1
        rest = value // _U10
        put8(place, 48 + int64(value - rest * _U10))
        value = rest
    return out + size


@helper
def put_double(bits: int, out: int) -> int:
    """Write a finite double as Python's `repr` does, at most `DOUBLE_BYTES`: the next place."""
    if bits < 0:
        put8(out, 45)
        out += 1
    if bits & 0x7FFFFFFFFFFFFFFF == 0:
        put8(out, 48)
        put8(out + 1, 46)
        put8(out + 2, 48)
        return out + 3
    digits, exponent = _shortest(bits & 0x7FFFFFFFFFFFFFFF)
    while digits // _U10 * _U10 == digits:
        digits //= _U10
        exponent += 1
    size = 1
    rest = digits // _U10
    while rest > np.uint64(0):
        size += 1
        rest //= _U10
    point = size + exponent  # digits before the decimal point
    scientific = point < -3 or point > 16
    before = 1 if scientific else point
    place = out
    if before <= 0:
        put8(place, 48)
        put8(place + 1, 46)
        place += 2
        for _ in range(-before):
            put8(place, 48)
            place += 1
        place = put_digits(digits, place)
    elif before >= size:
        place = put_digits(digits, place)
        if not scientific:
            for _ in range(before - size):
                put8(place, 48)
                place += 1
            put8(place, 46)
            put8(place + 1, 48)
            place += 2
    else:
        place = put_digits(digits, place + 1)
        for i in range(before):
            put8(out + i, byte_at(out + i + 1))
        put8(out + before, 46)
    if scientific:
        power = point - 1
        put8(place, 101)
        put8(place + 1, 43 if power >= 0 else 45)
        place += 2
        power = abs(power)
        if power < 10:
            put8(place, 48)
            place += 1
        place = put_digits(np.uint64(power), place)
    return place
