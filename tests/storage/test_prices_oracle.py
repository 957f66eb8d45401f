"""Our arithmetic against genai-prices' own, model by model, to the nano-dollar."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal

import numpy as np
import pytest
from genai_prices import Usage
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, Provider

from pyflare_storage.prices.catalog import Catalog, Listing, flatten
from pyflare_storage.prices.rates import Counts, RateCard, Slot, leaf_counts, price_one, price_rows

AT = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)
LISTED = [(provider, model) for provider in get_snapshot().providers for model in provider.models]


def usages() -> list[dict[str, int]]:
    """Return calls of several shapes: plain, cached, above the tiers, one token, huge."""
    rng = random.Random(7)
    plain = {"input_tokens": 1234, "output_tokens": 567}
    cached = {"input_tokens": 100, "cache_read_tokens": 54, "cache_write_tokens": 10,
              "cache_write_1h_tokens": 4, "output_tokens": 50}  # fmt: skip
    at_tier = {"input_tokens": 200_000, "output_tokens": 1}
    above = {"input_tokens": 200_001, "cache_read_tokens": 150_001, "output_tokens": 77_777}
    audio = {"input_tokens": 5000, "input_audio_tokens": 3000, "output_tokens": 900,
             "output_audio_tokens": 801, "cache_audio_read_tokens": 0}  # fmt: skip
    odd = {"input_tokens": rng.randrange(10**9), "output_tokens": rng.randrange(10**9)}
    thinking = {"input_tokens": 11, "output_tokens": 999, "output_reasoning_tokens": 640}
    return [plain, cached, at_tier, above, audio, odd, thinking, {"input_tokens": 1}]


def oracle(provider: Provider, model: ModelInfo, usage: dict[str, int]) -> int:
    """Return genai-prices' total in nano-dollars, rounded once, half to even."""
    price = model.calc_price(Usage(**usage), provider, genai_request_timestamp=AT).total_price
    return int((price * 10**9).quantize(Decimal(1), rounding=ROUND_HALF_EVEN))


def counts_of(usage: list[dict[str, int]]) -> Counts:
    """Return calls as columns."""

    def column(key: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array([u.get(key, 0) for u in usage], dtype=np.int64)

    return Counts(
        input=column("input_tokens"),
        output=column("output_tokens"),
        cache_read=column("cache_read_tokens"),
        cache_write=column("cache_write_tokens"),
        cache_write_1h=column("cache_write_1h_tokens"),
        reasoning=column("output_reasoning_tokens"),
        audio_input=column("input_audio_tokens"),
        audio_output=column("output_audio_tokens"),
    )


def card_of(provider: Provider, model: ModelInfo) -> RateCard | None:
    """Return the model's rates at the test's moment."""
    day = Catalog().day_prices(Listing(provider, model), AT.toordinal(), {}, approximate=False)
    since = (AT.hour * 3600 + AT.minute * 60) * 10**9
    return day.cards[sum(start <= since for start in day.starts_ns) - 1]


def test_every_listed_model_costs_what_genai_prices_says() -> None:
    """All models priced by the token agree exactly, for plain, cached, tiered and audio calls."""
    shapes = usages()
    counts = counts_of(shapes)
    models = compared = tiered = 0
    for provider, model in LISTED:
        card = card_of(provider, model)
        if card is None or model.id.endswith(":free"):
            continue
        ours, odd = price_rows([card], np.zeros(len(shapes), dtype=np.intp), counts)
        assert odd is None
        for shape, nano in zip(shapes, ours.tolist(), strict=True):
            assert nano == oracle(provider, model, shape), (provider.id, model.id, shape)
            compared += 1
        models += 1
        tiered += bool(card.thresholds)
    assert models > 1900
    assert tiered > 100
    assert compared == models * len(shapes)


def test_columns_of_many_cards_agree_with_one_call_at_a_time() -> None:
    """Pricing a mixed batch is pricing each of its calls alone, in Python integers."""
    rng = np.random.default_rng(3)
    cards = [card for listed in LISTED[::23] if (card := card_of(*listed)) is not None]
    n = 4000
    which = rng.integers(0, len(cards), n)
    total = rng.integers(0, 2**31, n)
    counts = Counts(
        input=total,
        output=rng.integers(0, 10**6, n),
        cache_read=total // 3,
        cache_write=total // 7,
        cache_write_1h=total // 14,
    )
    ours, _ = price_rows(cards, which, counts)
    slots, _ = leaf_counts(counts)
    for row in range(n):
        own = {slot: int(values[row]) for slot, values in slots.items()}
        assert ours[row] == price_one(cards[which[row]], own, int(total[row]))


@pytest.mark.parametrize("context", [{"processing": "batch"}, {"service_tier": "priority"}])
@pytest.mark.parametrize(
    ("provider", "name"), [("openai", "gpt-4o"), ("openai", "gpt-5"), ("google", "gemini-2.5-pro")]
)
def test_contexts_cost_what_genai_prices_says(
    provider: str, name: str, context: dict[str, str]
) -> None:
    """A batch or priority call has its own listed price, tiers included; else it is marked."""
    catalog = Catalog()
    listing = catalog.find(provider, name)
    assert listing is not None
    day = catalog.day_prices(listing, AT.toordinal(), context, approximate=False)
    card = day.cards[0]
    assert card is not None
    listed = [v.when for v in listing.model.price_variants or ()]
    assert card.approximate == (context not in listed)
    usage = {"input_tokens": 250_000, "output_tokens": 1000}
    price = listing.model.calc_price(
        Usage(**usage), listing.provider, genai_request_timestamp=AT, price_context=context
    )
    ours = price_one(card, {Slot.INPUT: 250_000, Slot.OUTPUT: 1000}, 250_000)
    assert ours == int(price.total_price * 10**9)


def test_flatten_merges_the_thresholds_of_all_kinds() -> None:
    """Tiers are cliffs by total input: gemini-2.5-pro doubles its input rate above 200,000."""
    listing = Catalog().find("google", "gemini-2.5-pro")
    assert listing is not None
    thresholds, rows = flatten(listing.model.get_prices(AT))
    assert thresholds == (200_000,)
    assert rows[0][Slot.INPUT] * 2 == rows[1][Slot.INPUT] == 2_500_000_000_000_000_000
