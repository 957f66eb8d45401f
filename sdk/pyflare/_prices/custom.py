"""Prices that the application adds itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date

from pyflare._prices.names import Names
from pyflare._prices.rates import RateCard, card_rows, yocto
from pyflare.types import ModelPricing, Price

__all__ = ["Custom", "Question", "best", "longest"]

_FIELDS = {
    "input": "input_price_per_million",
    "output": "output_price_per_million",
    "cache_read": "cache_read_price_per_million",
    "cache_write": "cache_write_price_per_million",
    "cache_write_1h": "cache_write_1h_price_per_million",
    "reasoning": "reasoning_price_per_million",
    "audio_input": "audio_input_price_per_million",
    "audio_cache_read": "audio_cache_read_price_per_million",
    "audio_output": "audio_output_price_per_million",
}
_BOUNDARY = "-.:@/_ "
"""What may follow a model's name in the name of its variant."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a custom price may depend on, beside the model's name."""

    sellers: frozenset[str | None]
    """Providers that may have served the call, folded; empty when nothing says who."""
    day: date
    tier: str
    batch: bool


@dataclass(frozen=True, slots=True)
class Custom:
    """One price of the application's own."""

    pattern: str
    """Lower case; `*` stands for any characters."""
    provider: str | None
    """Folded; None for any."""
    pricing: ModelPricing
    card: RateCard

    @classmethod
    def of(cls, pricing: ModelPricing, names: Names) -> Custom:
        """Check a price and make it ready.

        Raises:
            ValueError: the name is empty, a price is no number from 0 to 100,000, the
                tiers do not ascend, or the days end before they start.
        """
        pricing = replace(pricing)
        pattern = pricing.model_id.strip().lower()
        if not 0 < len(pattern) <= names.max_length:
            raise ValueError(f"model_id is {pricing.model_id!r}, not a model's name")
        if pricing.valid_from and pricing.valid_to and pricing.valid_from >= pricing.valid_to:
            raise ValueError(f"price of {pattern} ends before it starts: valid_to is the day after")
        provider = names.provider_key(str(pricing.provider))
        thresholds, rows = card_rows(_ladders(pricing))
        listed = frozenset(_ladders(pricing))
        card = RateCard(provider or "", pattern, "custom", False, thresholds, rows, listed)
        return cls(pattern, provider, pricing, card)

    @property
    def conditions(self) -> tuple[object, ...]:
        """What tells this price from others of the same model."""
        p = self.pricing
        return self.pattern, self.provider, p.service_tier, p.batch, p.valid_from, p.valid_to

    def applies(self, name: str, question: Question) -> bool:
        """Return whether the price holds for a reading of a model's name."""
        return self.holds(question) and _fits(self.pattern, name)

    def holds(self, question: Question) -> bool:
        """Return whether the price's conditions hold, whatever the model."""
        p = self.pricing
        return (
            (self.provider is None or not question.sellers or self.provider in question.sellers)
            and (p.service_tier is None or p.service_tier.lower() == (question.tier or "default"))
            and (p.batch is None or p.batch == question.batch)
            and (p.valid_from is None or p.valid_from <= question.day)
            and (p.valid_to is None or question.day < p.valid_to)
        )

    def precision(self) -> tuple[int, int, int]:
        """Sort key: the largest is the price that is meant most precisely."""
        literal = len(self.pattern) - self.pattern.count("*")
        p = self.pricing
        context = (self.provider, p.service_tier, p.batch, p.valid_from, p.valid_to)
        return "*" not in self.pattern, literal, sum(part is not None for part in context)


def best(prices: Iterable[Custom], name: str, question: Question) -> Custom | None:
    """Return the most precise price that holds for a name, the newest of equals."""
    found = [price for price in prices if price.applies(name, question)]
    return max(reversed(found), key=Custom.precision, default=None)


def longest(prices: Iterable[Custom], name: str, question: Question) -> Custom | None:
    """Return the price with the longest name that `name` is a variant of.

    A variant has the name before one of the characters of `-.:@/_`.
    """
    found = [
        price
        for price in prices
        if name.startswith(price.pattern)
        and name[len(price.pattern) : len(price.pattern) + 1] in _BOUNDARY
        and price.holds(question)
    ]
    return max(reversed(found), key=Custom.precision, default=None)


def _ladders(pricing: ModelPricing) -> dict[str, tuple[tuple[int, int], ...]]:
    where = f"of {pricing.model_id}"
    ladders: dict[str, tuple[tuple[int, int], ...]] = {}
    for slot, name in _FIELDS.items():
        base: Price = getattr(pricing, name)
        if base is not None or slot in ("input", "output"):
            ladders[slot] = ((-1, yocto(base, name=f"{name} {where}")),)
    if pricing.price_per_request is not None:
        rate = yocto(pricing.price_per_request, 1, f"price_per_request {where}")
        ladders["request"] = ((-1, rate),)
    last = -1
    for tier in pricing.tiers:
        if tier.above_tokens <= last:
            raise ValueError(f"tiers {where} do not ascend: {tier.above_tokens} after {last}")
        last = tier.above_tokens
        for slot, name in _FIELDS.items():
            price: Price | None = getattr(tier, name)
            if price is not None:
                step = (tier.above_tokens, yocto(price, name=f"{name} {where}"))
                ladders[slot] = (*ladders.get(slot, ()), step)
    return ladders


def _fits(pattern: str, name: str) -> bool:
    """Return whether `name` is `pattern` with any characters for each `*`.

    Each literal part is looked for once, at its first place behind the one before: a
    regular expression would try all places, in time exponential in the number of `*`.
    """
    first, *rest = pattern.split("*")
    if not rest:
        return name == pattern
    if not name.startswith(first):
        return False
    at = len(first)
    for part in rest[:-1]:
        found = name.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return name.endswith(rest[-1]) and at + len(rest[-1]) <= len(name)
