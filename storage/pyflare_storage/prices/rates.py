"""Rate cards: what each kind of token costs, exactly, and the arithmetic on whole columns.

A rate is an integer number of *yocto-dollars* (1e-24 USD) per unit. A price list
says USD per million tokens, with up to 18 decimals; times 1e18 that is an
integer, so no rate is rounded. A cost is the sum of count times rate, rounded
once, half to even, to nano-dollars (1e-9 USD = 1e15 yocto-dollars).

int64 holds neither such a rate nor such a product, so a rate is split into three
limbs: whole nano-dollars, and two parts of the fraction in steps of 1e-7 and
1e-15 nano-dollars. With counts of at most `MAX_TOKENS` and rates of at most
`MAX_USD_PER_MILLION`, every sum of products of one limb stays below 2^63:
2^33 tokens * 1e8 * 10 slots = 8.6e18 < 9.2e18.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from enum import IntEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "MAX_TOKENS",
    "MAX_USD_PER_MILLION",
    "YOCTO_PER_NANO",
    "Counts",
    "RateCard",
    "Slot",
    "leaf_counts",
    "price_one",
    "price_rows",
    "yocto_per_unit",
]

YOCTO_PER_NANO = 10**15
_MID = 10**8
"""Low limb: steps of 1e-15 nano-dollars, 0 to 1e8 - 1."""
_MID_PER_NANO = 10**7
"""Middle limb: steps of 1e-7 nano-dollars, 0 to 1e7 - 1."""

MAX_TOKENS = 2**33
"""A call with a larger count is not priced: the count cannot be real."""
MAX_USD_PER_MILLION = 100_000
"""No rate may be larger."""


class Slot(IntEnum):
    """Kinds of units with a rate of their own; together they cover a call without overlap."""

    INPUT = 0
    """Input tokens that are none of the kinds below."""
    OUTPUT = 1
    """Output tokens that are none of the kinds below."""
    CACHE_READ = 2
    CACHE_WRITE = 3
    """Cache writes other than for an hour."""
    CACHE_WRITE_1H = 4
    AUDIO_INPUT = 5
    AUDIO_CACHE_READ = 6
    AUDIO_OUTPUT = 7
    REASONING = 8
    REQUEST = 9
    """The call itself, counted once."""


N_SLOTS = len(Slot)

_ANCESTORS: dict[Slot, tuple[Slot, ...]] = {
    Slot.CACHE_READ: (Slot.INPUT,),
    Slot.CACHE_WRITE: (Slot.INPUT,),
    Slot.CACHE_WRITE_1H: (Slot.CACHE_WRITE, Slot.INPUT),
    Slot.AUDIO_INPUT: (Slot.INPUT,),
    Slot.AUDIO_CACHE_READ: (Slot.AUDIO_INPUT, Slot.CACHE_READ, Slot.INPUT),
    Slot.AUDIO_OUTPUT: (Slot.OUTPUT,),
    Slot.REASONING: (Slot.OUTPUT,),
}
"""Whose rate applies to a kind without one, nearest first."""


def yocto_per_unit(usd: Decimal, per: int = 1_000_000) -> int:
    """Return a price of `usd` per `per` units as whole yocto-dollars per unit.

    Decimals beyond the 18th (of a price per million) are rounded half to even.
    """
    with localcontext() as context:
        context.prec = 60
        scaled = usd * 10**24 / per
        return int(scaled.to_integral_value(rounding=ROUND_HALF_EVEN))


@dataclass(frozen=True)
class RateCard:
    """The rates of one model at one moment in one context.

    Attributes:
        provider: whose price it is, by the price list's name.
        model: the model in the price list.
        source: which price list, such as `user` or `genai-prices 0.2.3`.
        approximate: True when it is the price of a near model.
        thresholds: ascending totals of input tokens; above the i-th, the rates of
            row i + 1 hold for *all* tokens of the call.
        rates: one mapping per row: yocto-dollars per unit of the slots that the list
            prices. A slot that it does not price takes the rate of its nearest
            ancestor (cache reads are input, reasoning is output), else 0.
    """

    provider: str
    model: str
    source: str
    approximate: bool
    thresholds: tuple[int, ...]
    rates: tuple[Mapping[Slot, int], ...]

    @cached_property
    def table(self) -> tuple[tuple[int, ...], ...]:
        """Effective rate of each slot by row, in yocto-dollars per unit."""
        return tuple(tuple(_effective(row, slot) for slot in Slot) for row in self.rates)

    @cached_property
    def limbs(self) -> NDArray[np.int64]:
        """(3, rows, slots) the effective rates as whole, middle and low limb."""
        split = [[[_limbs(rate)[limb] for rate in row] for row in self.table] for limb in range(3)]
        return np.array(split, dtype=np.int64)

    @cached_property
    def charges_output(self) -> bool:
        """True when output tokens cost something: an unknown number of them matters."""
        return any(row[Slot.OUTPUT] > 0 for row in self.table)

    def row_for(self, input_tokens: int) -> tuple[int, ...]:
        """Return the effective rates for a call with this many input tokens in total."""
        return self.table[sum(input_tokens > start for start in self.thresholds)]


def _effective(row: Mapping[Slot, int], slot: Slot) -> int:
    for candidate in (slot, *_ANCESTORS.get(slot, ())):
        if candidate in row:
            return row[candidate]
    return 0


def _limbs(rate: int) -> tuple[int, int, int]:
    whole, fraction = divmod(rate, YOCTO_PER_NANO)
    middle, low = divmod(fraction, _MID)
    return whole, middle, low


@dataclass(frozen=True, slots=True)
class Counts:
    """Token counts of a call or of (n,) calls; a part that is missing counts as 0."""

    input: NDArray[np.int64]
    output: NDArray[np.int64]
    cache_read: NDArray[np.int64] | None = None
    cache_write: NDArray[np.int64] | None = None
    cache_write_1h: NDArray[np.int64] | None = None
    reasoning: NDArray[np.int64] | None = None
    audio_input: NDArray[np.int64] | None = None
    audio_output: NDArray[np.int64] | None = None

    def arrays(self) -> list[NDArray[np.int64]]:
        """Return the arrays that are there."""
        return [a for a in (getattr(self, name) for name in self.__slots__) if a is not None]


def leaf_counts(counts: Counts) -> tuple[dict[Slot, NDArray[np.int64]], NDArray[np.bool_] | None]:
    """Split totals into disjoint slots.

    Cached input is taken as text unless the parts then exceed the total: the
    excess is cached audio. Parts that exceed their total even so are kept and
    the rest is 0.

    Args:
        counts: (n,) counts, none negative.

    Returns:
        The slots with a count, and (n,) True where the parts exceeded their total
        (None where they never did).
    """
    slots: dict[Slot, NDArray[np.int64]] = {}
    odd: list[NDArray[np.bool_]] = []
    rest_in, rest_out = counts.input, counts.output
    cached = counts.cache_read
    audio = counts.audio_input
    if counts.cache_write is not None or counts.cache_write_1h is not None:
        write = counts.cache_write
        hour = counts.cache_write_1h
        total = hour if write is None else write
        if write is not None and hour is not None:
            total = np.maximum(write, hour)
        if total is not None:
            rest_in = rest_in - total
            slots[Slot.CACHE_WRITE] = total if hour is None else total - hour
        if hour is not None:
            slots[Slot.CACHE_WRITE_1H] = hour
    if cached is not None:
        rest_in = rest_in - cached
        slots[Slot.CACHE_READ] = cached
    if audio is not None:
        rest_in = rest_in - audio
        slots[Slot.AUDIO_INPUT] = audio
        if cached is not None:
            both = np.minimum(np.maximum(-rest_in, 0), np.minimum(cached, audio))
            rest_in = rest_in + both
            slots[Slot.AUDIO_CACHE_READ] = both
            slots[Slot.CACHE_READ] = cached - both
            slots[Slot.AUDIO_INPUT] = audio - both
    if counts.reasoning is not None:
        rest_out = rest_out - counts.reasoning
        slots[Slot.REASONING] = counts.reasoning
    if counts.audio_output is not None:
        rest_out = rest_out - counts.audio_output
        slots[Slot.AUDIO_OUTPUT] = counts.audio_output
    for slot, rest, total in (
        (Slot.INPUT, rest_in, counts.input),
        (Slot.OUTPUT, rest_out, counts.output),
    ):
        slots[slot] = rest
        if rest is not total and len(rest) and rest.min() < 0:
            odd.append(rest < 0)
            slots[slot] = np.maximum(rest, 0)
    return slots, (np.logical_or.reduce(odd) if odd else None)


def price_rows(
    cards: Sequence[RateCard], card: NDArray[np.intp], counts: Counts
) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
    """Price many calls: the sum of count times rate, rounded once, half to even.

    Args:
        cards: the rate cards in use.
        card: (n,) index into `cards`.
        counts: (n,) counts, from 0 to `MAX_TOKENS`.

    Returns:
        (n,) nano-dollars, and (n,) True where the parts exceeded their total (or None).
    """
    limbs = np.concatenate([c.limbs for c in cards], axis=1)
    sizes = np.array([len(c.rates) for c in cards], dtype=np.intp)
    row = (np.cumsum(sizes) - sizes)[card]
    deepest = int(sizes.max()) - 1
    if deepest:
        padding = np.iinfo(np.int64).max
        thresholds = np.array(
            [[*c.thresholds, *[padding] * (deepest - len(c.thresholds))] for c in cards],
            dtype=np.int64,
        )
        for level in range(deepest):
            row += counts.input > thresholds[card, level]
    slots, odd = leaf_counts(counts)
    sums: list[NDArray[np.int64] | None] = [None, None, None]
    for slot, count in slots.items():
        for limb in range(3):
            rates = limbs[limb, :, slot]
            if rates.any():
                part = count * rates[row]
                have = sums[limb]
                sums[limb] = part if have is None else have + part
    for limb in range(3):
        rates = limbs[limb, :, Slot.REQUEST]
        if rates.any():
            have = sums[limb]
            sums[limb] = rates[row] if have is None else have + rates[row]
    return _round_half_even(sums[0], sums[1], sums[2], len(card)), odd


def _round_half_even(
    whole: NDArray[np.int64] | None,
    middle: NDArray[np.int64] | None,
    low: NDArray[np.int64] | None,
    n: int,
) -> NDArray[np.int64]:
    """Return whole + middle / 1e7 + low / 1e15 as integers, half to even."""
    total = np.zeros(n, dtype=np.int64) if whole is None else whole
    if middle is None and low is None:
        return total
    fine = np.zeros(n, dtype=np.int64) if middle is None else middle
    if low is not None:
        carry, low = np.divmod(low, _MID)
        fine = fine + carry
    carry, fine = np.divmod(fine, _MID_PER_NANO)
    total = total + carry
    fraction = fine * _MID if low is None else fine * _MID + low
    half = YOCTO_PER_NANO // 2
    up = (fraction > half) | ((fraction == half) & (total % 2 == 1))
    rounded: NDArray[np.int64] = total + up
    return rounded


def price_one(card: RateCard, counts: Mapping[Slot, int], input_tokens: int) -> int:
    """Price one call in Python integers; the reference for `price_rows`.

    Args:
        card: the rates.
        counts: disjoint counts by slot.
        input_tokens: input tokens in total, which choose the tier.

    Returns:
        Nano-dollars, rounded half to even.
    """
    rates = card.row_for(input_tokens)
    yocto = sum(rates[slot] * count for slot, count in counts.items()) + rates[Slot.REQUEST]
    whole, rest = divmod(yocto, YOCTO_PER_NANO)
    twice = 2 * rest
    return whole + (twice > YOCTO_PER_NANO or (twice == YOCTO_PER_NANO and whole % 2 == 1))
