"""What a call of a model costs.

    from pyflare.cost import calculate_cost

    result = calculate_cost("gpt-4o", input_tokens=1000, output_tokens=500)
    print(f"Cost: ${result.total_dollars:.4f}")

Prices that the application adds come first, then a dated snapshot of genai-prices
that is part of the package. A name means the longest model that it fits
(`gpt-4o-mini-2024-07-18` is `gpt-4o-mini`). A model without a known price has none:
the result says `estimated=True`, `cost_nano_usd=None` and `status="unpriced"`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, MutableMapping
from datetime import UTC, datetime
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any

from pyflare.types import (
    CostResult,
    ModelPricing,
    ModelProvider,
    PricingTier,
    TokenUsage,
)

if TYPE_CHECKING:
    from pyflare._prices.catalog import Catalog
    from pyflare._prices.custom import Custom
    from pyflare._prices.names import Reading
    from pyflare._prices.rates import RateCard

__all__ = [
    "MODEL_PRICING",
    "CostCalculator",
    "CostResult",
    "ModelPricing",
    "ModelProvider",
    "PricingTier",
    "TokenUsage",
    "calculate_cost",
    "get_cost_calculator",
]

logger = logging.getLogger("pyflare.cost")
_MAX_WARNED = 1000


class CostCalculator:
    """Prices calls: the prices that were added, then the snapshot. Thread-safe.

    The snapshot (0.4 MB of JSON) is read at the first question, once a process.
    """

    def __init__(self) -> None:
        self._custom: tuple[Custom, ...] = ()
        self._lock = Lock()
        self._warned: set[str] = set()

    def calculate(
        self,
        model_id: str,
        token_usage: TokenUsage,
        *,
        provider: str = "",
        at: datetime | None = None,
        service_tier: str | None = None,
        batch: bool = False,
    ) -> CostResult:
        """Price one call.

        Args:
            model_id: the model, as the application or the answer names it.
            token_usage: the counts of the call.
            provider: who served it, by any usual name; empty: as the model's name says.
            at: the moment whose price applies; naive is UTC, None is now.
            service_tier: `flex`, `priority`, `batch`, ...; as the answer names it.
            batch: the call goes through a batch interface.

        Raises:
            ValueError: a count is negative or no number.
        """
        _check(token_usage)
        card = self._resolve(model_id, provider, at, service_tier, batch=batch)
        largest = max(token_usage.input_tokens, token_usage.output_tokens)
        if card is None or largest > _catalog().max_tokens:
            self._warn(model_id)
            return CostResult(0, 0, 0, 0.0, estimated=True)
        from pyflare._prices.rates import nano_usd, split

        counts, odd = split(token_usage)
        nano, input_nano = nano_usd(card, counts, token_usage.input_tokens)
        micros, input_micros = _micros(nano), _micros(input_nano)
        near = card.approximate or odd
        return CostResult(
            input_micros=input_micros,
            output_micros=micros - input_micros,
            total_micros=micros,
            total_dollars=nano / 10**9,
            estimated=near,
            cost_nano_usd=nano,
            input_nano_usd=input_nano,
            output_nano_usd=nano - input_nano,
            status="approximate" if near else "priced",
            price_source=card.source,
            model=card.model,
            provider=card.provider,
        )

    def get_pricing(
        self,
        model_id: str,
        *,
        provider: str = "",
        at: datetime | None = None,
        service_tier: str | None = None,
        batch: bool = False,
    ) -> ModelPricing | None:
        """Return the prices that `calculate` uses for such a call, None where it has none.

        Of the price list they come as floats, for reading; `calculate` uses the exact ones.
        """
        card = self._resolve(model_id, provider, at, service_tier, batch=batch)
        if card is None:
            return None
        if card.source == "custom":
            return next(p.pricing for p in self._custom if p.card.rows is card.rows)
        return _as_pricing(card, _context_window(model_id, provider))

    def add_pricing(self, pricing: ModelPricing) -> None:
        """Add a price of the application's own, in front of the price list.

        It holds for the model itself, for its dated versions, and, as an estimate, for
        names that begin with it where nothing else fits. It replaces an added price of
        the same model, provider, tier, batch and days.

        Raises:
            ValueError: a price or a day makes no sense.
        """
        from pyflare._prices.custom import Custom

        added = Custom.of(pricing, _catalog().names)
        with self._lock:
            kept = (price for price in self._custom if price.conditions != added.conditions)
            self._custom = (*kept, added)
            self._warned.clear()

    def remove_pricing(self, model_id: str) -> None:
        """Remove all prices that were added for a model."""
        pattern = model_id.strip().lower()
        with self._lock:
            self._custom = tuple(price for price in self._custom if price.pattern != pattern)

    def priced_names(self) -> Iterator[str]:
        """Yield the names of all models that have a price by name alone, the added first."""
        added = (price.pattern for price in self._custom)
        for name in dict.fromkeys((*added, *_catalog().model_names())):
            if self.get_pricing(name) is not None:
                yield name

    @property
    def pricing(self) -> MutableMapping[str, ModelPricing]:
        """The prices as a mapping from a model's name; setting an entry adds a price."""
        return _Pricing(self)

    def _resolve(
        self,
        model: str,
        provider: str,
        at: datetime | None,
        service_tier: str | None,
        *,
        batch: bool,
    ) -> RateCard | None:
        catalog = _catalog()
        longest = catalog.names.max_length
        if len(model) > longest or len(provider) > longest:
            return None
        moment = _utc(at)
        tier = (service_tier or "").strip().lower()
        batch = batch or tier == "batch"
        tier = catalog.names.tiers.get(tier, "")
        if self._custom:
            return self._with_custom(model, provider, moment, tier, batch=batch)
        listing = catalog.match(provider, model)
        return None if listing is None else catalog.card(listing, moment, tier, batch=batch)

    def _with_custom(
        self, model: str, provider: str, at: datetime, tier: str, *, batch: bool
    ) -> RateCard | None:
        """Take the added prices in front of the price list where they fit the name better."""
        from pyflare._prices.custom import Question, best, longest

        catalog = _catalog()
        readings = catalog.names.readings(model)
        given = catalog.names.provider_key(provider)

        def ask(reading: Reading) -> Question:
            sellers = frozenset((given, reading.provider)) - {None}
            return Question(sellers, at.date(), tier, batch)

        sure = (best(self._custom, r.name, ask(r)) for r in readings if not r.approximate)
        if found := next(filter(None, sure), None):
            return found.card
        listing = catalog.match(provider, model)
        if listing is not None:
            found = best(self._custom, listing.model, ask(readings[0]))
            if found is not None and "*" not in found.pattern:
                return found.card._replace(approximate=listing.near)
            if not listing.near:
                return catalog.card(listing, at, tier, batch=batch)
        near = (best(self._custom, r.name, ask(r)) for r in readings if r.approximate)
        found = next(filter(None, near), None)
        if found is None and listing is not None:
            return catalog.card(listing, at, tier, batch=batch)
        variants = (longest(self._custom, r.name, ask(r)) for r in readings)
        found = found or next(filter(None, variants), None)
        return None if found is None else found.card._replace(approximate=True)

    def _warn(self, model: str) -> None:
        name = model[:200]
        with self._lock:
            if name in self._warned or len(self._warned) >= _MAX_WARNED:
                return
            self._warned.add(name)
        logger.warning(
            "no price is known for model %r: its calls are unpriced, not free; "
            "add one with get_cost_calculator().add_pricing(ModelPricing(...))",
            name,
        )


class _Pricing(MutableMapping[str, ModelPricing]):
    """The prices of a calculator by the model's name."""

    def __init__(self, calculator: CostCalculator) -> None:
        self._calculator = calculator

    def __getitem__(self, name: str) -> ModelPricing:
        found = self._calculator.get_pricing(name)
        if found is None:
            raise KeyError(name)
        return found

    def __setitem__(self, name: str, pricing: ModelPricing) -> None:
        from dataclasses import replace

        self._calculator.add_pricing(replace(pricing, model_id=name))

    def __delitem__(self, name: str) -> None:
        self._calculator.remove_pricing(name)

    def __iter__(self) -> Iterator[str]:
        return self._calculator.priced_names()

    def __len__(self) -> int:
        return sum(1 for _ in self)


MODEL_PRICING: MutableMapping[str, ModelPricing] = _Pricing(CostCalculator())
"""The price list by the model's name, as of now; what is set here no calculator sees."""


@cache
def get_cost_calculator() -> CostCalculator:
    """Return the calculator that `calculate_cost` uses: one a process."""
    return CostCalculator()


def calculate_cost(
    model: str,
    input_tokens: int = 0,
    output_tokens: int = 0,
    *,
    cache_read_tokens: int | None = 0,
    cache_write_tokens: int | None = 0,
    cache_write_1h_tokens: int | None = 0,
    reasoning_tokens: int | None = 0,
    audio_input_tokens: int | None = 0,
    audio_output_tokens: int | None = 0,
    provider: str = "",
    at: datetime | None = None,
    service_tier: str | None = None,
    batch: bool = False,
) -> CostResult:
    """Price one call with the process's calculator.

    Args:
        model: the model, as the application or the answer names it.
        input_tokens: in total, cache reads and writes and audio included.
        output_tokens: in total, reasoning and audio included.
        cache_read_tokens: part of the input; None counts as 0, here and below.
        cache_write_tokens: part of the input, one-hour writes included.
        cache_write_1h_tokens: part of the cache writes.
        reasoning_tokens: part of the output.
        audio_input_tokens: part of the input.
        audio_output_tokens: part of the output.
        provider: see `CostCalculator.calculate`, also for what follows.
        at: the moment whose price applies.
        service_tier: the tier that served the call.
        batch: the call goes through a batch interface.

    Raises:
        ValueError: a count is negative or no number.
    """
    usage = TokenUsage(
        input_tokens,
        output_tokens,
        cache_read_tokens or 0,
        cache_write_tokens or 0,
        cache_write_1h_tokens or 0,
        reasoning_tokens or 0,
        audio_input_tokens or 0,
        audio_output_tokens or 0,
    )
    return get_cost_calculator().calculate(
        model, usage, provider=provider, at=at, service_tier=service_tier, batch=batch
    )


def _catalog() -> Catalog:
    from pyflare._prices.catalog import load_catalog

    return load_catalog()


def _check(usage: TokenUsage) -> None:
    for name in TokenUsage.__slots__:
        count: Any = getattr(usage, name)
        if not isinstance(count, int) or count < 0:
            raise ValueError(f"{name} is {count!r}, not a count")


def _utc(at: datetime | None) -> datetime:
    if at is None:
        return datetime.now(tz=UTC)
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _micros(nano: int) -> int:
    """Return nano-dollars as micro-dollars, rounded half to even."""
    whole, rest = divmod(nano, 1000)
    return whole + (rest > 500 or (rest == 500 and whole % 2 == 1))


def _context_window(model: str, provider: str) -> int:
    listing = _catalog().match(provider, model)
    return 0 if listing is None else listing.context_window


_SLOT_FIELDS = {
    "cache_read": "cache_read_price_per_million",
    "cache_write": "cache_write_price_per_million",
    "cache_write_1h": "cache_write_1h_price_per_million",
    "reasoning": "reasoning_price_per_million",
    "audio_input": "audio_input_price_per_million",
    "audio_cache_read": "audio_cache_read_price_per_million",
    "audio_output": "audio_output_price_per_million",
}


def _as_pricing(card: RateCard, context_window: int) -> ModelPricing:
    from pyflare._prices.rates import usd_per_million

    fields = {slot: name for slot, name in _SLOT_FIELDS.items() if slot in card.listed}
    base, *higher = card.rows

    def prices(row: Mapping[str, int]) -> dict[str, Any]:
        return {name: usd_per_million(row[slot]) for slot, name in fields.items()}

    return ModelPricing(
        model_id=card.model,
        provider=_PROVIDERS.get(card.provider, card.provider),
        input_price_per_million=usd_per_million(base["input"]),
        output_price_per_million=usd_per_million(base["output"]),
        context_window=context_window,
        price_per_request=base["request"] / 10**24 if "request" in card.listed else None,
        tiers=tuple(
            PricingTier(
                above_tokens=start,
                input_price_per_million=usd_per_million(row["input"]),
                output_price_per_million=usd_per_million(row["output"]),
                **prices(row),
            )
            for start, row in zip(card.thresholds, higher, strict=True)
        ),
        **prices(base),
    )


_PROVIDERS: dict[str, ModelProvider] = {
    "aws": ModelProvider.AWS_BEDROCK,
    "azure": ModelProvider.AZURE,
    "google": ModelProvider.GOOGLE,
    "mistral": ModelProvider.MISTRAL,
    "moonshotai": ModelProvider.MOONSHOT,
    "x-ai": ModelProvider.XAI,
    **{
        provider.value: provider
        for provider in ModelProvider
        if "." not in provider.value and "_" not in provider.value
    },
}
