"""Rates and the arithmetic: exact integers, rounded once.

A rate is an integer number of *yocto-dollars* (1e-24 USD) per token. A price says
USD per million tokens with up to 18 decimals; times 1e18 that is an integer, so no
rate is rounded. A cost is the sum of count times rate, rounded once, half to even,
to nano-dollars (1e-9 USD = 1e15 yocto-dollars).
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation, localcontext
from typing import NamedTuple

from pyflare.types import Price, TokenUsage

__all__ = [
    "MAX_USD_PER_MILLION",
    "SLOTS",
    "Ladder",
    "RateCard",
    "card_rows",
    "nano_usd",
    "split",
    "usd_per_million",
    "yocto",
]

YOCTO_PER_NANO = 10**15
MAX_USD_PER_MILLION = 100_000
"""No rate may be larger."""

PARENTS: dict[str, tuple[str, ...]] = {
    "input": (),
    "output": (),
    "cache_read": ("input",),
    "cache_write": ("input",),
    "cache_write_1h": ("cache_write", "input"),
    "audio_input": ("input",),
    "audio_cache_read": ("audio_input", "cache_read", "input"),
    "audio_output": ("output",),
    "reasoning": ("output",),
    "request": (),
}
"""Kinds of units with a rate of their own, and whose rate applies where there is none."""
SLOTS = tuple(PARENTS)
_OUTPUT = frozenset({"output", "audio_output", "reasoning"})

Ladder = tuple[tuple[int, int], ...]
"""(above this many input tokens, rate in yocto-dollars), ascending; the first is above -1."""


class RateCard(NamedTuple):
    """The rates of one model at one moment in one context.

    Above the i-th threshold of input tokens, row i + 1 holds for all tokens of the
    call. A row is a mapping from each slot to yocto-dollars per unit.
    """

    provider: str
    model: str
    source: str
    approximate: bool
    thresholds: tuple[int, ...]
    rows: tuple[Mapping[str, int], ...]
    listed: frozenset[str]
    """Slots that the list prices itself."""

    def row_for(self, input_tokens: int) -> Mapping[str, int]:
        """Return the rates of a call with this many input tokens in total."""
        return self.rows[sum(input_tokens > start for start in self.thresholds)]


def yocto(price: Price, per: int = 1_000_000, name: str = "price") -> int:
    """Return a price of `price` USD per `per` units as yocto-dollars per unit.

    A float counts as the decimal number that it prints as. Decimals beyond the 18th
    of a price per million are rounded half to even.

    Raises:
        ValueError: it is no number from 0 to `MAX_USD_PER_MILLION`.
    """
    try:
        usd = Decimal(str(price))
        good = usd.is_finite() and 0 <= usd <= MAX_USD_PER_MILLION
    except InvalidOperation:
        good = False
    if isinstance(price, bool) or not good:
        raise ValueError(f"{name} is {price!r}, not a number from 0 to {MAX_USD_PER_MILLION}")
    with localcontext() as context:
        context.prec = 60
        return int((usd * 10**24 / per).to_integral_value(rounding=ROUND_HALF_EVEN))


def usd_per_million(rate: int) -> float:
    """Return yocto-dollars per token as USD per million tokens, as close as a float is."""
    return rate / 10**18


def card_rows(
    ladders: Mapping[str, Ladder],
) -> tuple[tuple[int, ...], tuple[Mapping[str, int], ...]]:
    """Merge the thresholds of all slots and fill the slots that have no rate.

    Returns:
        (thresholds, rows) of a `RateCard`.
    """
    starts = sorted({start for ladder in ladders.values() for start, _ in ladder if start >= 0})
    rows = []
    for above in (-1, *starts):
        own = {
            slot: max(step for step in ladder if step[0] <= above)[1]
            for slot, ladder in ladders.items()
            if ladder[0][0] <= above
        }
        rows.append(
            {
                slot: next((own[name] for name in (slot, *parents) if name in own), 0)
                for slot, parents in PARENTS.items()
            }
        )
    return tuple(starts), tuple(rows)


def split(usage: TokenUsage) -> tuple[dict[str, int], bool]:
    """Split totals into slots that do not overlap.

    Cached input is taken as text unless the parts then exceed the total: the excess
    is cached audio. Parts that exceed their total even so are kept, the rest is 0.

    Returns:
        The counts by slot, and whether parts exceeded their total.
    """
    write = max(usage.cache_write_tokens, usage.cache_write_1h_tokens)
    hour = usage.cache_write_1h_tokens
    cached, audio = usage.cache_read_tokens, usage.audio_input_tokens
    rest_in = usage.input_tokens - write - cached - audio
    both = min(max(-rest_in, 0), cached, audio)
    rest_in += both
    rest_out = usage.output_tokens - usage.reasoning_tokens - usage.audio_output_tokens
    counts = {
        "input": max(rest_in, 0),
        "output": max(rest_out, 0),
        "cache_read": cached - both,
        "cache_write": write - hour,
        "cache_write_1h": hour,
        "audio_input": audio - both,
        "audio_cache_read": both,
        "audio_output": usage.audio_output_tokens,
        "reasoning": usage.reasoning_tokens,
        "request": 1,
    }
    return counts, rest_in < 0 or rest_out < 0


def nano_usd(card: RateCard, counts: Mapping[str, int], input_tokens: int) -> tuple[int, int]:
    """Return the whole cost and the input's part of it (the call itself included).

    Both are nano-dollars, rounded half to even from the exact sums.
    """
    rates = card.row_for(input_tokens)
    parts = {slot: count * rates[slot] for slot, count in counts.items()}
    whole = sum(parts.values())
    return _rounded(whole), _rounded(whole - sum(parts[slot] for slot in _OUTPUT))


def _rounded(yocto_usd: int) -> int:
    whole, rest = divmod(yocto_usd, YOCTO_PER_NANO)
    twice = 2 * rest
    return whole + (twice > YOCTO_PER_NANO or (twice == YOCTO_PER_NANO and whole % 2 == 1))
