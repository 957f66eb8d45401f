"""`PriceBook`: what a call costs, for columns of spans and for one question.

A price is resolved once per (provider, model names, tier, batch, day) and then
multiplied; the resolutions are kept in bounded tables because model names come
from outside. The order of the search:

1. The user's table: the response model, then the request model, as they are and
   without prefixes. An entry for a provider holds where the span or the name says
   so, or where neither names one and the model is one of that provider's own.
2. genai-prices at the span's end time, in the same order: the names as they are;
   without prefixes (`openai/`, `models/`, `us.`), where a provider that the name
   itself names counts more than the span's; the base of a fine-tuned model; the
   name without its date. The last two are `approximate`.
3. genai-prices again with the provider guessed from the model's name;
   `approximate` when the span names another provider.
4. Nothing: `unpriced`.

A call in a context that changes prices (batch, flex, priority) whose price for it
is not listed has the standard price, `approximate`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyflare_storage.prices.catalog import Catalog, DayPrices, Listing
from pyflare_storage.prices.columns import (
    APPROXIMATE,
    NO_USAGE,
    NOT_BILLABLE,
    PRICED,
    UNPRICED,
    Coded,
    PricedColumns,
    PriceInputs,
)
from pyflare_storage.prices.grouping import (
    DAY_NS,
    BoundedCache,
    days_from_first,
    group_rows,
    keep_counts,
    take_counts,
)
from pyflare_storage.prices.names import (
    LOCAL_PROVIDERS,
    MAX_NAME_LENGTH,
    Candidate,
    Step,
    candidates,
    guess_provider,
    provider_key,
)
from pyflare_storage.prices.overrides import Override, load_overrides
from pyflare_storage.prices.rates import MAX_TOKENS, RateCard, price_rows

if TYPE_CHECKING:
    from pyflare_storage.prices.quote import Quote

__all__ = ["PriceBook"]

_EPOCH = date(1970, 1, 1).toordinal()
_TIERS = {"default": "default", "standard": "default", "flex": "flex", "priority": "priority",
          "fast": "fast"}  # fmt: skip
"""Service tiers that price lists know; others (auto, scale, ...) change nothing."""


class _Call(NamedTuple):
    """All that a rate depends on; empty strings for what is not known."""

    provider: str
    model_response: str
    model_request: str
    service_tier: str
    batch: bool
    ordinal: int
    """UTC day, as `date.toordinal()`."""

    def without_long_names(self) -> _Call:
        """Blank the names that are too long to be looked up."""
        provider, response, request, tier = (
            name if len(name) <= MAX_NAME_LENGTH else "" for name in self[:4]
        )
        return _Call(provider, response, request, tier, self.batch, self.ordinal)


class PriceBook:
    """The user's prices in front of genai-prices. Thread-safe.

    Args:
        overrides: the user's entries.
        catalog: the price list behind them.
        cache_size: resolutions kept at most, per table (a few hundred bytes each).
    """

    def __init__(
        self,
        overrides: Sequence[Override] = (),
        *,
        catalog: Catalog | None = None,
        cache_size: int = 8192,
    ) -> None:
        self.catalog = Catalog() if catalog is None else catalog
        self.overrides = tuple(sorted(overrides, key=lambda o: o.specificity, reverse=True))
        self._lock = threading.Lock()
        self._days: BoundedCache[_Call, DayPrices | None] = BoundedCache(cache_size)
        self._listings: BoundedCache[tuple[str, str, str], tuple[Listing, bool] | None] = (
            BoundedCache(cache_size)
        )

    @classmethod
    def load(cls, path: str | Path | None = None) -> PriceBook:
        """Open the price book, with the user's price file when a path is given.

        Raises:
            NotFoundError: there is no such file.
            ConfigError: the file cannot be used; names entry and key.
        """
        return cls(() if path is None else load_overrides(Path(path)))

    def day_prices(
        self,
        provider: str,
        model_response: str,
        model_request: str,
        day: date,
        *,
        service_tier: str = "",
        batch: bool = False,
    ) -> DayPrices | None:
        """Return the rates of a call's model over one UTC day, None when unpriced."""
        return self._resolve(
            _Call(provider, model_response, model_request, service_tier, batch, day.toordinal())
        )

    def _resolve(self, call: _Call) -> DayPrices | None:
        if max(map(len, call[:4])) > MAX_NAME_LENGTH:
            call = call.without_long_names()
        with self._lock:
            return self._days.get_or(call, lambda: self._look_up(call))

    def _look_up(self, call: _Call) -> DayPrices | None:
        tier = call.service_tier.strip().lower()
        batch = call.batch or tier == "batch"
        tier = _TIERS.get(tier, "")
        names = _readings(call.model_response, call.model_request)
        given = provider_key(call.provider)
        for candidate in names:
            if candidate.approximate:
                continue
            named = candidate.provider or given or guess_provider(candidate.name)
            sellers = {given, named}
            for entry in self.overrides:
                if entry.applies(candidate.name, sellers, call.ordinal, tier, batch=batch):
                    return DayPrices((0,), (entry.card,))
        found = self._listings.get_or(call[:3], lambda: self._match(given, names))
        if found is None:
            return None
        listing, approximate = found
        context = {"service_tier": tier} if tier else {}
        if batch:
            context["processing"] = "batch"
        return self.catalog.day_prices(listing, call.ordinal, context, approximate=approximate)

    def _match(
        self, given: str | None, names: Sequence[Candidate]
    ) -> tuple[Listing, bool] | None:  # fmt: skip
        """Find the listing of the first reading that has one; True with it for a near model."""
        if given in LOCAL_PROVIDERS:
            return None
        for candidate in names:
            for provider in dict.fromkeys((candidate.provider, given)):
                if provider is None:
                    continue
                listing = self.catalog.find(provider, candidate.name)
                if listing is not None:
                    return listing, candidate.approximate
        for candidate in names:
            guessed = guess_provider(candidate.name) or self.catalog.guess(candidate.name)
            if guessed is None or guessed == given:
                continue
            listing = self.catalog.find(guessed, candidate.name)
            if listing is not None:
                return listing, candidate.approximate or given is not None
        return None

    def quote(
        self,
        model: str,
        *,
        input_tokens: int,
        output_tokens: int,
        cache_read_tokens: int = 0,
        cache_write_tokens: int = 0,
        cache_write_1h_tokens: int = 0,
        reasoning_tokens: int = 0,
        audio_input_tokens: int = 0,
        audio_output_tokens: int = 0,
        at: datetime | None = None,
        provider: str | None = None,
        service_tier: str | None = None,
        batch: bool = False,
    ) -> Quote:
        """Price one call.

        Args:
            model: name as an application writes it.
            input_tokens: in total, cache reads and writes included.
            output_tokens: in total, reasoning included.
            cache_read_tokens: part of the input.
            cache_write_tokens: part of the input, one-hour writes included.
            cache_write_1h_tokens: part of the cache writes.
            reasoning_tokens: part of the output.
            audio_input_tokens: part of the input.
            audio_output_tokens: part of the output.
            at: the moment whose price applies; naive is UTC, None is now.
            provider: who serves the model; None: as its name says.
            service_tier: default, flex, priority, batch, ...
            batch: the call goes through a batch interface.

        Raises:
            NotFoundError: no rate is known; the hint names the nearest models.
            UsageError: a count is out of range, or parts exceed their total.
        """
        from pyflare_storage.prices.quote import quote

        counts = {
            "input": input_tokens,
            "output": output_tokens,
            "cache_read": cache_read_tokens,
            "cache_write": cache_write_tokens,
            "cache_write_1h": cache_write_1h_tokens,
            "reasoning": reasoning_tokens,
            "audio_input": audio_input_tokens,
            "audio_output": audio_output_tokens,
        }
        return quote(
            self, model, counts, at=at, provider=provider, service_tier=service_tier, batch=batch
        )

    def price_columns(self, inputs: PriceInputs) -> PricedColumns:
        """Price a batch of spans.

        Rows that are not billable become `not_billable`, those with neither input
        nor output tokens `no_usage`, those without a known rate (or with a count
        above 2^33) `unpriced`. `approximate` are prices of near models, calls whose
        parts exceed their total, and calls that lack a count which costs something.
        """
        n = len(inputs)
        status = np.full(n, NOT_BILLABLE, dtype=np.uint8)
        cost = np.zeros(n, dtype=np.int64)
        source = np.full(n, -1, dtype=np.int32)
        billable = np.ones(n, dtype=np.bool_) if inputs.billable is None else inputs.billable
        known_in, known_out = inputs.input_tokens >= 0, inputs.output_tokens >= 0
        used = billable & (known_in | known_out)
        status[billable] = NO_USAGE
        rows = np.flatnonzero(used)
        whole = len(rows) == n
        if not len(rows):
            return PricedColumns(cost, status == PRICED, status, source, ())
        status[rows] = UNPRICED
        cards, card = self._cards(inputs, rows, whole=whole)
        counts = take_counts(inputs, rows, whole=whole)
        real = card >= 0
        for count in counts.arrays():
            if len(count) and count.max() > MAX_TOKENS:
                real &= count <= MAX_TOKENS
        if not real.all():
            rows, card = rows[real], card[real]
            counts = keep_counts(counts, real)
        if not len(rows):
            return PricedColumns(cost, status == PRICED, status, source, ())
        nano, odd = price_rows(cards, card, counts)
        near = np.array([c.approximate for c in cards])[card]
        if odd is not None:
            near |= odd
        near |= ~known_in[rows]
        if not known_out.all():
            near |= ~known_out[rows] & np.array([c.charges_output for c in cards])[card]
        cost[rows] = nano
        status[rows] = np.where(near, APPROXIMATE, PRICED)
        sources = tuple(dict.fromkeys(c.source for c in cards))
        source[rows] = np.array([sources.index(c.source) for c in cards], dtype=np.int32)[card]
        return PricedColumns(cost, source >= 0, status, source, sources)

    def _cards(
        self, inputs: PriceInputs, rows: NDArray[np.intp], *, whole: bool
    ) -> tuple[list[RateCard], NDArray[np.intp]]:
        """Return the rate cards of `rows` and which one each row has (-1: none)."""

        def take(column: NDArray[np.int32]) -> NDArray[np.int32]:
            return column if whole else column[rows]

        ends = inputs.end_time_ns if whole else inputs.end_time_ns[rows]
        day, base = days_from_first(ends)
        names = [inputs.provider, inputs.model_response, inputs.model_request]
        tier = inputs.service_tier
        codes = [take(column.codes) for column in names]
        sizes = [len(column.values) + 1 for column in names]
        if tier is not None:
            codes.append(take(tier.codes))
            sizes.append(len(tier.values) + 1)
        if inputs.batch is not None:
            codes.append(take(inputs.batch.astype(np.int32)) - np.int32(1))
            sizes.append(2)
        group, distinct = group_rows(codes, sizes, day)
        cards: list[RateCard] = []
        place: dict[int, int] = {}
        first = np.full(len(distinct), -1, dtype=np.intp)
        result: NDArray[np.intp] | None = None
        for position, key in enumerate(distinct):
            *parts, offset = key
            provider, response, request = (
                _value(column, code) for column, code in zip(names, parts, strict=False)
            )
            rest = parts[3:]
            tier_name = "" if tier is None else _value(tier, rest.pop(0))
            batch = bool(rest and rest[0] == 0)
            ordinal = base + offset + _EPOCH
            found = self._resolve(_Call(provider, response, request, tier_name, batch, ordinal))
            if found is None:
                continue
            indices = [_place(card, cards, place) for card in found.cards]
            first[position] = indices[0]
            if len(indices) > 1:
                if result is None:
                    result = np.full(len(rows), -1, dtype=np.intp)
                mine = np.flatnonzero(group == position)
                in_day = ends[mine] - (base + offset) * DAY_NS
                segment = np.searchsorted(np.array(found.starts_ns), in_day, side="right") - 1
                result[mine] = np.array(indices, dtype=np.intp)[segment]
        whole_day = first[group]
        if result is not None:
            whole_day = np.where(result >= 0, result, whole_day)
        return cards, whole_day

    def known_names(self) -> Iterator[str]:
        """Yield the names of all models with an entry, the user's first."""
        for entry in self.overrides:
            yield entry.pattern
        for _, model in self.catalog.names():
            yield model


def _readings(response: str, request: str) -> list[Candidate]:
    """Return the readings of both names: by step, the response model's first."""
    both = [*candidates(response), *candidates(request)]
    return [c for step in Step for c in both if c.step == step]


def _place(card: RateCard | None, cards: list[RateCard], place: dict[int, int]) -> int:
    if card is None:
        return -1
    key = id(card)
    if key not in place:
        place[key] = len(cards)
        cards.append(card)
    return place[key]


def _value(column: Coded, code: int) -> str:
    return column.values[code] if code >= 0 else ""
