"""The answer to one question: what does a call of this model cost?"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from pyflare_proto.errors import NotFoundError, UsageError
from pyflare_storage.prices.rates import MAX_TOKENS, Counts, RateCard, Slot, leaf_counts, price_one

if TYPE_CHECKING:
    from pyflare_storage.prices.book import PriceBook

__all__ = ["Quote", "quote", "usd_text"]

_NANO = 9


@dataclass(frozen=True, slots=True)
class Quote:
    """What a call costs and why."""

    model: str
    """Model as it was asked for."""
    resolved_model: str
    """Model in the price list."""
    provider: str
    """Whose price it is, by the price list's name; empty for the user's entry for any."""
    at: datetime
    """The moment whose price applies, UTC."""
    status: str
    """`priced`, or `approximate` for the price of a near model."""
    price_source: str
    """Which price list, with its version."""
    cost_nano_usd: int
    """Cost in 1e-9 US dollars, rounded half to even."""
    cost_usd: str
    """The same as a decimal number of US dollars."""
    rates_usd_per_million: Mapping[str, str]
    """Rate of each kind of token that the list prices at this size of call, decimal."""
    request_usd: str | None
    """Price of the call itself, None where there is none."""
    tier_above_tokens: int | None
    """The threshold of input tokens that the call exceeds, None for the base rates."""


def usd_text(nano_usd: int) -> str:
    """Return nano-dollars as a decimal number of dollars, without needless zeros.

    At least two decimals stay: 911700 is `0.0009117`, 2000000000 is `2.00`.
    """
    sign = "-" if nano_usd < 0 else ""
    whole, fraction = divmod(abs(nano_usd), 10**_NANO)
    digits = f"{fraction:0{_NANO}d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole}.{digits}"


def quote(
    book: PriceBook,
    model: str,
    counts: Mapping[str, int],
    *,
    at: datetime | None = None,
    provider: str | None = None,
    service_tier: str | None = None,
    batch: bool = False,
) -> Quote:
    """Price one call; see `PriceBook.quote`."""
    moment = datetime.now(tz=UTC) if at is None else at
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    _check(counts)
    found = book.day_prices(
        provider or "", "", model, moment.date(), service_tier=service_tier or "", batch=batch
    )
    card = None
    if found is not None:
        midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
        since = (moment - midnight).seconds * 10**9 + moment.microsecond * 1000
        card = found.cards[sum(start <= since for start in found.starts_ns) - 1]
    if card is None:
        raise _unknown(book, model, provider, listed=found is not None)
    arrays = {name: np.array([value]) for name, value in counts.items() if value}
    for total in ("input", "output"):
        arrays.setdefault(total, np.array([0]))
    slots, _ = leaf_counts(Counts(**arrays))
    nano = price_one(card, {slot: int(v[0]) for slot, v in slots.items()}, counts["input"])
    return _answer(model, card, moment, nano, counts["input"])


def _check(counts: Mapping[str, int]) -> None:
    for name, value in counts.items():
        if not 0 <= value <= MAX_TOKENS:
            raise UsageError(
                f"{name.replace('_', ' ')} tokens are {value}",
                hint=f"a number from 0 to {MAX_TOKENS}",
            )
    parts = counts["cache_read"] + max(counts["cache_write"], counts["cache_write_1h"])
    if parts > counts["input"]:
        raise UsageError(
            f"{parts} cached tokens exceed the {counts['input']} input tokens",
            hint="input tokens are the total, cache reads and writes included",
        )
    if counts["reasoning"] > counts["output"]:
        raise UsageError(
            f"{counts['reasoning']} reasoning tokens exceed the {counts['output']} output tokens",
            hint="output tokens are the total, reasoning included",
        )


def _unknown(book: PriceBook, model: str, provider: str | None, *, listed: bool) -> NotFoundError:
    what = f"no price for model {model!r}" + (f" of provider {provider!r}" if provider else "")
    if listed:
        return NotFoundError(
            f"{what}: it is not priced by the token", hint="add it to a price file"
        )
    near = difflib.get_close_matches(
        model.lower(), sorted(set(book.known_names())), n=3, cutoff=0.5
    )
    own = "a price file adds models of your own"
    return NotFoundError(what, hint=f"did you mean {' or '.join(near)}; {own}" if near else own)


def _answer(model: str, card: RateCard, at: datetime, nano: int, input_tokens: int) -> Quote:
    row = card.row_for(input_tokens)
    passed = [start for start in card.thresholds if input_tokens > start]
    listed = [slot for slot in card.rates[0] if slot != Slot.REQUEST]
    return Quote(
        model=model,
        resolved_model=card.model,
        provider=card.provider,
        at=at,
        status="approximate" if card.approximate else "priced",
        price_source=card.source,
        cost_nano_usd=nano,
        cost_usd=usd_text(nano),
        rates_usd_per_million={
            slot.name.lower(): _plain(row[slot], 10**18) for slot in sorted(listed)
        },
        request_usd=_plain(row[Slot.REQUEST], 10**24) if row[Slot.REQUEST] else None,
        tier_above_tokens=passed[-1] if passed else None,
    )


def _plain(yocto: int, per: int) -> str:
    """Return yocto-dollars / per as an exact decimal number without an exponent."""
    whole, rest = divmod(yocto, per)
    digits = len(str(per)) - 1
    fraction = f"{rest:0{digits}d}".rstrip("0")
    return f"{whole}.{fraction}" if fraction else str(whole)
