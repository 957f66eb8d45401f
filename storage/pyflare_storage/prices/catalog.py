"""genai-prices as a source of rates: which model a name means, and what it cost when.

The package is imported on first use. Only its data and its matching rules are
used: its own lookup caches grow with every distinct name, and model names come
from outside.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING

from pyflare_storage.prices.rates import (
    MAX_USD_PER_MILLION,
    RateCard,
    Slot,
    yocto_per_unit,
)

if TYPE_CHECKING:
    from genai_prices.types import ConditionalPrice, ModelInfo, ModelPrice, PriceVariant, Provider

__all__ = ["Catalog", "DayPrices", "Listing", "flatten"]

logger = logging.getLogger("pyflare.prices")

_PRICE_KEYS: dict[str, tuple[Slot, int]] = {
    "input_mtok": (Slot.INPUT, 1_000_000),
    "output_mtok": (Slot.OUTPUT, 1_000_000),
    "cache_read_mtok": (Slot.CACHE_READ, 1_000_000),
    "cache_write_mtok": (Slot.CACHE_WRITE, 1_000_000),
    "cache_write_1h_mtok": (Slot.CACHE_WRITE_1H, 1_000_000),
    "input_audio_mtok": (Slot.AUDIO_INPUT, 1_000_000),
    "cache_audio_read_mtok": (Slot.AUDIO_CACHE_READ, 1_000_000),
    "output_audio_mtok": (Slot.AUDIO_OUTPUT, 1_000_000),
    "output_reasoning_mtok": (Slot.REASONING, 1_000_000),
    "requests_kcount": (Slot.REQUEST, 1_000),
}
"""genai-prices' price keys that a span's counts can be multiplied with, and their units."""

_DAY = timedelta(days=1)
_LAST_ORDINAL = date.max.toordinal() - 1


@dataclass(frozen=True, slots=True)
class Listing:
    """A model in the price list."""

    provider: Provider
    model: ModelInfo

    @property
    def has_own_variants(self) -> bool:
        """True when the model is the provider's own entry, not one it falls back on."""
        return any(self.model is own for own in self.provider.models)


@dataclass(frozen=True, slots=True)
class DayPrices:
    """Rates over one UTC day: `cards[i]` holds from `starts_ns[i]` on, counted from midnight."""

    starts_ns: tuple[int, ...]
    """Ascending, the first is 0."""
    cards: tuple[RateCard | None, ...]
    """None where the model has no price for tokens."""


def flatten(price: ModelPrice) -> tuple[tuple[int, ...], tuple[dict[Slot, int], ...]]:
    """Turn a price of genai-prices into thresholds and rates by slot.

    Tiers are cliffs there: above a threshold of *input* tokens all tokens of the
    call have the tier's rate. The thresholds of all keys are merged.

    Returns:
        (thresholds, rows): ascending totals of input tokens, and len(thresholds) + 1
        mappings from slot to yocto-dollars per unit. Prices of things that spans
        do not count (images, seconds, searches) are left out.
    """
    ladders: dict[Slot, list[tuple[int, int]]] = {}
    for key, value in price.__dict__.items():
        if value is None or key not in _PRICE_KEYS:
            continue
        slot, per = _PRICE_KEYS[key]
        if isinstance(value, Decimal):
            ladders[slot] = [(-1, yocto_per_unit(value, per))]
        else:
            steps = [(-1, value.base), *((tier.start, tier.price) for tier in value.tiers)]
            ladders[slot] = [(start, yocto_per_unit(usd, per)) for start, usd in steps]
    starts = sorted({start for ladder in ladders.values() for start, _ in ladder if start >= 0})
    rows = tuple(
        {
            slot: next(rate for start, rate in reversed(ladder) if start <= above)
            for slot, ladder in ladders.items()
        }
        for above in (-1, *starts)
    )
    return tuple(starts), rows


class Catalog:
    """The bundled price list of genai-prices, without network and without its caches."""

    @cached_property
    def version(self) -> str:
        """Version of the price list."""
        from importlib.metadata import version

        return version("genai-prices")

    @cached_property
    def source(self) -> str:
        """Name and version, as `price_source` has it."""
        return f"genai-prices {self.version}"

    @cached_property
    def providers(self) -> Mapping[str, Provider]:
        """Providers by their name in the list."""
        from genai_prices.data_snapshot import get_snapshot

        return {provider.id: provider for provider in get_snapshot().providers}

    def find(self, provider: str, name: str) -> Listing | None:
        """Return the model that `name` means at `provider` (both lower case), or None."""
        entry = self.providers.get(provider)
        if entry is None:
            return None
        model = entry.find_model(name, all_providers=list(self.providers.values()))
        return None if model is None else Listing(entry, model)

    def guess(self, name: str) -> str | None:
        """Return the first provider whose own rule says that `name` is one of its models."""
        for provider in self.providers.values():
            if provider.model_match is not None and provider.model_match.is_match(name):
                return provider.id
        return None

    def names(self) -> Iterable[tuple[str, str]]:
        """Yield (provider, model) of every entry."""
        for provider in self.providers.values():
            for model in provider.models:
                yield provider.id, model.id

    def day_prices(
        self, listing: Listing, ordinal: int, context: Mapping[str, str], *, approximate: bool
    ) -> DayPrices:
        """Return a model's rates over a UTC day.

        Args:
            listing: the model.
            ordinal: the day, as `date.toordinal()`; days outside the calendar are clamped.
            context: what the price list tells variants by (`processing`, `service_tier`).
            approximate: whether the listing is a near model.
        """
        midnight = datetime.fromordinal(min(max(ordinal, 1), _LAST_ORDINAL)).replace(tzinfo=UTC)
        usable = context if listing.has_own_variants else {}
        starts = _times_of_day(listing.model)
        cards = []
        for start in starts:
            moment = midnight + start
            price = listing.model.get_prices(moment, usable)
            unmet = any(value != "default" for value in context.values()) and not (
                listing.has_own_variants and _variant_applies(listing.model, moment, context)
            )
            cards.append(self._card(listing, price, approximate=approximate or unmet))
        starts_ns = tuple(start // timedelta(microseconds=1) * 1000 for start in starts)
        return DayPrices(starts_ns, tuple(cards))

    def _card(self, listing: Listing, price: ModelPrice, *, approximate: bool) -> RateCard | None:
        thresholds, rows = flatten(price)
        if not any(slot in rows[0] for slot in (Slot.INPUT, Slot.OUTPUT)):
            # An empty entry says "free" of a free tier, and nothing of any other model.
            if not listing.model.id.endswith(":free"):
                return None
            rows = ({Slot.INPUT: 0, Slot.OUTPUT: 0},)
            thresholds = ()
        limit = yocto_per_unit(Decimal(MAX_USD_PER_MILLION))
        if any(rate > limit for row in rows for slot, rate in row.items() if slot != Slot.REQUEST):
            logger.warning("price of %s is out of range, left out", listing.model.id)
            return None
        return RateCard(
            provider=listing.provider.id,
            model=listing.model.id,
            source=self.source,
            approximate=approximate,
            thresholds=thresholds,
            rates=rows,
        )


def _constraints(model: ModelInfo) -> list[ConditionalPrice | PriceVariant]:
    dated = model.prices if isinstance(model.prices, list) else []
    return [*dated, *(model.price_variants or ())]


def _times_of_day(model: ModelInfo) -> list[timedelta]:
    """Return the moments of a UTC day at which the model's price may change, midnight first."""
    from genai_prices.types import TimeOfDateConstraint

    moments = {timedelta(0)}
    for entry in _constraints(model):
        if isinstance(entry.constraint, TimeOfDateConstraint):
            for clock in (entry.constraint.start_time, entry.constraint.end_time):
                moments.add(_since_midnight(clock))
    return sorted(moments)


def _since_midnight(clock: time) -> timedelta:
    offset = clock.utcoffset() or timedelta(0)
    local = timedelta(
        hours=clock.hour, minutes=clock.minute, seconds=clock.second, microseconds=clock.microsecond
    )
    return (local - offset) % _DAY


def _variant_applies(model: ModelInfo, moment: datetime, context: Mapping[str, str]) -> bool:
    """Return whether some variant answers every part of the context that changes prices."""
    for key, value in context.items():
        if value == "default":
            continue
        if not any(
            variant.when.get(key) == value
            and all(context.get(k) == v for k, v in variant.when.items())
            and (variant.constraint is None or variant.constraint.active(moment))
            for variant in model.price_variants or ()
        ):
            return False
    return True
