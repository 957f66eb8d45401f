"""The price snapshot: which model a name means, and what it cost when.

`snapshot.json` is written by `fixtures/generate_price_snapshot.py` from genai-prices
(MIT, the notice is in the file). Its `providers` map a name to
`[rule, fallbacks, models]`; a model is `[id, rule, dated prices, variants, context
window]`, a dated price `[condition, prices]`, a variant `[context, condition, prices]`.

- A rule is null, a text to equal, a list of alternatives, or one of `{"starts"|"ends"|
  "contains"|"regex": text}`, `{"all": [rule, ...]}`.
- A condition is null, the first UTC day, or `[start, end]` microseconds of the UTC day.
- A price is USD per million tokens (`request`: per thousand calls) as decimal text, or
  `[base, threshold, price above it, ...]`, ascending.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from pyflare._prices.names import Names, Reading
from pyflare._prices.rates import Ladder, RateCard, card_rows, yocto

__all__ = ["Catalog", "Listing", "load_catalog"]

SNAPSHOT = Path(__file__).with_name("snapshot.json")
_CACHE_SIZE = 2048
"""Names kept at most, because names come from outside."""
_MICROSECOND = timedelta(microseconds=1)

Rule = str | list[Any] | Mapping[str, Any]
Condition = str | tuple[int, int] | None


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """A model in the price list; equal to itself alone, so that caches can be keyed by it."""

    provider: str
    model: str
    own: bool
    """True when it is the provider's own entry, not one that it falls back on."""
    near: bool
    """True when it is a near model and not the one that was named."""
    dated: tuple[tuple[Any, Mapping[str, Any]], ...]
    variants: tuple[tuple[Mapping[str, str], Any, Mapping[str, Any]], ...]
    context_window: int


class Catalog:
    """A price snapshot. Thread-safe: nothing changes after it is made but caches.

    Args:
        document: the content of a snapshot file.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.source: str = document["source"]
        self.generated: str = document["generated"]
        self.names = Names(document["names"])
        self.max_tokens: int = document["names"]["max_tokens"]
        self._providers: Mapping[str, Sequence[Any]] = document["providers"]
        self.match = lru_cache(_CACHE_SIZE)(self._match)
        self._card = lru_cache(_CACHE_SIZE)(self._make_card)

    def model_names(self) -> tuple[str, ...]:
        """Return the names of all models that the list has, without repeats."""
        rows = (row for _, _, models in self._providers.values() for row in models)
        return tuple(dict.fromkeys(row[0] for row in rows))

    def _match(self, provider: str, model: str) -> Listing | None:
        """Find what a model's name means, None where the list has no such model.

        Args:
            provider: who serves the call, empty where not known.
            model: the name as an application writes it.
        """
        given = self.names.provider_key(provider)
        if given in self.names.local:
            return None
        readings = self.names.readings(model)
        for reading in readings:
            for seller in dict.fromkeys((reading.provider, given)):
                if found := self._find(seller, reading, near=reading.approximate):
                    return found
        for reading in readings:
            guess = self.names.guess_provider(reading.name) or self._guess(reading.name)
            if guess == given:
                continue
            near = reading.approximate or given is not None
            if found := self._find(guess, reading, near=near):
                return found
        return None

    def _find(self, provider: str | None, reading: Reading, *, near: bool) -> Listing | None:
        if provider is None or provider not in self._providers:
            return None
        for name in dict.fromkeys((reading.name, _dashed(reading.name))):
            for seller in (provider, *self._providers[provider][1]):
                for row in self._providers.get(seller, (None, (), ()))[2]:
                    if _matches(row[1], name):
                        return _listing(provider, row, own=seller == provider, near=near)
        return None

    def _guess(self, name: str) -> str | None:
        """Return the first provider whose own rule says that `name` is one of its models."""
        rules = ((key, entry[0]) for key, entry in self._providers.items())
        return next((key for key, rule in rules if rule is not None and _matches(rule, name)), None)

    def card(self, listing: Listing, at: datetime, tier: str, *, batch: bool) -> RateCard | None:
        """Return the rates of a model at a moment, None where it is not priced by the token.

        Args:
            listing: the model.
            at: the moment, in UTC.
            tier: `default`, `flex`, `priority`, `fast`, or empty where not known.
            batch: whether the call goes through a batch interface.
        """
        later_first = reversed(range(len(listing.dated)))
        dated = next((i for i in later_first if _active(listing.dated[i][0], at)), 0)
        context = {"service_tier": tier} if tier else {}
        if batch:
            context["processing"] = "batch"
        variants = tuple(
            i
            for i, (when, condition, _) in enumerate(listing.variants)
            if listing.own
            and _active(condition, at)
            and all(context.get(key) == value for key, value in when.items())
        )
        unmet = any(
            value != "default" and not any(key in listing.variants[i][0] for i in variants)
            for key, value in context.items()
        )
        return self._card(listing, dated, variants, near=listing.near or unmet)

    def _make_card(
        self, listing: Listing, dated: int, variants: tuple[int, ...], *, near: bool
    ) -> RateCard | None:
        prices: dict[str, Any] = {}
        for index in variants:
            prices = {**listing.variants[index][2], **prices}
        prices = {**listing.dated[dated][1], **prices}
        if "input" not in prices and "output" not in prices:
            # An empty entry says "free" of a free tier, and nothing of any other model.
            if not listing.model.endswith(":free"):
                return None
            prices = {"input": "0", "output": "0"}
        ladders = {slot: _ladder(slot, price) for slot, price in prices.items()}
        thresholds, rows = card_rows(ladders)
        return RateCard(
            listing.provider, listing.model, self.source, near, thresholds, rows, frozenset(ladders)
        )


@cache
def load_catalog(path: Path = SNAPSHOT) -> Catalog:
    """Read a snapshot once."""
    return Catalog(json.loads(path.read_text(encoding="utf-8")))


def _listing(provider: str, row: Sequence[Any], *, own: bool, near: bool) -> Listing:
    variants = row[3] if len(row) > 3 else ()
    return Listing(
        provider=provider,
        model=row[0],
        own=own,
        near=near,
        dated=tuple((condition, prices) for condition, prices in row[2]),
        variants=tuple((when, condition, prices) for when, condition, prices in variants),
        context_window=row[4] if len(row) > 4 else 0,
    )


def _matches(rule: Rule, name: str) -> bool:
    if isinstance(rule, str):
        return name == rule
    if isinstance(rule, list):
        return any(_matches(inner, name) for inner in rule)
    ((kind, value),) = rule.items()
    return _TESTS[kind](name, value)


_TESTS: dict[str, Callable[[str, Any], bool]] = {
    "starts": lambda name, text: name.startswith(text),
    "ends": lambda name, text: name.endswith(text),
    "contains": lambda name, text: text in name,
    "regex": lambda name, pattern: re.search(pattern, name) is not None,
    "all": lambda name, rules: all(_matches(rule, name) for rule in rules),
}


def _active(condition: Condition, at: datetime) -> bool:
    if condition is None:
        return True
    if isinstance(condition, str):
        return at.date().isoformat() >= condition
    start, end = condition
    since = (at - at.replace(hour=0, minute=0, second=0, microsecond=0)) // _MICROSECOND
    inside: bool = start <= since < end if start <= end else since >= start or since < end
    return inside


def _ladder(slot: str, price: str | list[Any]) -> Ladder:
    per = 1_000 if slot == "request" else 1_000_000
    steps = [price] if isinstance(price, str) else price
    starts = (-1, *steps[1::2])
    return tuple((start, yocto(usd, per)) for start, usd in zip(starts, steps[::2], strict=True))


_COMPACT_DATE = re.compile(r"(-)(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")


def _dashed(name: str) -> str:
    """Return the name with `-20251211` written as `-2025-12-11`, as the list has it."""

    def replace(match: re.Match[str]) -> str:
        year, month, day = (int(match[index]) for index in (2, 3, 4))
        try:
            datetime(year, month, day, tzinfo=UTC)
        except ValueError:
            return match[0]
        return f"-{year:04d}-{month:02d}-{day:02d}"

    return _COMPACT_DATE.sub(replace, name)
