"""The exact arithmetic of rate cards."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pyflare_storage.prices.rates import (
    MAX_TOKENS,
    MAX_USD_PER_MILLION,
    Counts,
    RateCard,
    Slot,
    leaf_counts,
    price_one,
    price_rows,
    yocto_per_unit,
)

PRICES = st.decimals(0, MAX_USD_PER_MILLION, places=18)
TOKENS = st.integers(0, MAX_TOKENS)


def card(*rows: dict[Slot, str], thresholds: tuple[int, ...] = ()) -> RateCard:
    """Return a card from prices per million."""
    rates = tuple({s: yocto_per_unit(Decimal(p)) for s, p in row.items()} for row in rows)
    return RateCard("p", "m", "test", False, thresholds, rates)


def column(*values: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return int64 values."""
    return np.array(values, dtype=np.int64)


@given(st.tuples(PRICES, PRICES, PRICES), TOKENS, TOKENS, st.integers(0, 100))
def test_costs_are_exact_over_the_whole_range(
    usd: tuple[Decimal, Decimal, Decimal], n_in: int, n_out: int, percent: int
) -> None:
    """The largest counts and rates with 18 decimals give the decimal result, half to even."""
    kinds = (Slot.INPUT, Slot.OUTPUT, Slot.CACHE_READ)
    rates = card({slot: str(price) for slot, price in zip(kinds, usd, strict=True)})
    nano_in, nano_out, nano_read = (_nano(price) for price in usd)
    cached = n_in * percent // 100
    ours, _ = price_rows(
        [rates], np.zeros(1, dtype=np.intp), Counts(column(n_in), column(n_out), column(cached))
    )
    exact = (n_in - cached) * nano_in + cached * nano_read + n_out * nano_out
    whole, rest = divmod(exact, 10**15)
    expected = whole + (2 * rest > 10**15 or (2 * rest == 10**15 and whole % 2 == 1))
    assert int(ours[0]) == expected


def _nano(usd: Decimal) -> int:
    """Return USD per million as 1e-15 nano-dollars per token."""
    return int(usd.scaleb(18).to_integral_value(rounding=ROUND_HALF_EVEN))


def test_halves_round_to_even_once_per_call() -> None:
    """0.0005 USD per million is half a nano-dollar per token: 1 -> 0, 3 -> 2, 5 -> 2, 7 -> 4."""
    rates = card({Slot.INPUT: "0.0005", Slot.OUTPUT: "0"})
    n_in = column(1, 2, 3, 5, 7)
    ours, _ = price_rows([rates], np.zeros(5, dtype=np.intp), Counts(n_in, column(0, 0, 0, 0, 0)))
    assert ours.tolist() == [0, 1, 2, 2, 4]


def test_a_tier_is_a_cliff_above_its_threshold() -> None:
    """At 200,000 all tokens have the base rate, at 200,001 all have the higher one."""
    rates = card(
        {Slot.INPUT: "1", Slot.OUTPUT: "10"},
        {Slot.INPUT: "2", Slot.OUTPUT: "15"},
        {Slot.INPUT: "4", Slot.OUTPUT: "20"},
        thresholds=(200_000, 400_000),
    )
    flat = card({Slot.INPUT: "3", Slot.OUTPUT: "3"})
    ours, _ = price_rows(
        [flat, rates],
        np.array([1, 1, 1, 0]),
        Counts(column(200_000, 200_001, 400_001, 500_000), column(10, 10, 10, 10)),
    )
    assert ours.tolist() == [
        200_000 * 1000 + 10 * 10_000,
        200_001 * 2000 + 10 * 15_000,
        400_001 * 4000 + 10 * 20_000,
        500_010 * 3000,
    ]


def test_kinds_without_a_rate_cost_what_their_total_costs() -> None:
    """Cache reads without a rate of their own are input, one-hour writes are cache writes."""
    rates = card({Slot.INPUT: "2", Slot.OUTPUT: "4", Slot.CACHE_WRITE: "3"})
    slots = {Slot.CACHE_READ: 10, Slot.CACHE_WRITE_1H: 5, Slot.REASONING: 7}
    assert price_one(rates, slots, 15) == 10 * 2000 + 5 * 3000 + 7 * 4000


def test_the_price_of_a_request_is_charged_once() -> None:
    """Five dollars per thousand requests are 5,000,000 nano-dollars a call, tokens apart."""
    rates = {Slot.INPUT: yocto_per_unit(Decimal(1)), Slot.REQUEST: yocto_per_unit(Decimal(5), 1000)}
    one = RateCard("p", "m", "test", False, (), (rates,))
    ours, _ = price_rows([one], np.zeros(2, dtype=np.intp), Counts(column(0, 9), column(0, 0)))
    assert ours.tolist() == [5_000_000, 5_009_000]


def test_parts_that_exceed_their_total_are_kept_and_marked() -> None:
    """54 cached of 36 input tokens: the cached ones count, the rest is 0, the row is odd."""
    counts = Counts(column(36, 100), column(5, 5), cache_read=column(54, 54))
    slots, odd = leaf_counts(counts)
    assert slots[Slot.INPUT].tolist() == [0, 46]
    assert slots[Slot.CACHE_READ].tolist() == [54, 54]
    assert odd is not None
    assert odd.tolist() == [True, False]


def test_cached_audio_is_what_does_not_fit_as_text() -> None:
    """80 audio and 60 cached of 100 input tokens: at least 40 are cached audio."""
    counts = Counts(column(100), column(0), cache_read=column(60), audio_input=column(80))
    slots, odd = leaf_counts(counts)
    split = {slot: values.tolist()[0] for slot, values in slots.items()}
    assert odd is None
    assert split == {
        Slot.INPUT: 0,
        Slot.OUTPUT: 0,
        Slot.CACHE_READ: 20,
        Slot.AUDIO_INPUT: 40,
        Slot.AUDIO_CACHE_READ: 40,
    }
