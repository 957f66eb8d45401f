"""The user's own prices: a YAML or JSON file that stands before every price list.

    prices:
      - model: llama-3.3-70b          # `*` stands for any characters
        provider: together            # left out: any provider
        input: "0.88"                 # USD per million tokens
        output: "0.88"                # both are required; "0" says free
        cache_read: "0.10"            # left out: as input
        valid_from: 2026-01-01        # UTC days; left out: always
        valid_to: 2026-07-01          # the first day on which it no longer holds
        service_tier: flex            # left out: any tier
        batch: true                   # left out: batch calls or not
        tiers:
          - above: 200000             # input tokens of the call in total
            input: "1.76"             # holds for all tokens; left out: as above
            output: "1.32"

Further rates: `cache_write`, `cache_write_1h`, `audio_input`, `audio_cache_read`,
`audio_output`, `reasoning`, and `request` (USD per call). Write them as decimal
strings: a JSON or YAML number has been a binary fraction before it is read.
Of several entries that match, the one with most literal characters wins, then one
with a provider, then the one further down.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING

from pyflare_proto.errors import ConfigError, NotFoundError, nearest
from pyflare_storage.prices.names import MAX_NAME_LENGTH, provider_key
from pyflare_storage.prices.rates import MAX_USD_PER_MILLION, RateCard, Slot, yocto_per_unit

if TYPE_CHECKING:
    import yaml

__all__ = ["Override", "load_overrides", "parse_overrides"]

_RATE_KEYS: dict[str, Slot] = {
    "input": Slot.INPUT,
    "output": Slot.OUTPUT,
    "cache_read": Slot.CACHE_READ,
    "cache_write": Slot.CACHE_WRITE,
    "cache_write_1h": Slot.CACHE_WRITE_1H,
    "audio_input": Slot.AUDIO_INPUT,
    "audio_cache_read": Slot.AUDIO_CACHE_READ,
    "audio_output": Slot.AUDIO_OUTPUT,
    "reasoning": Slot.REASONING,
    "request": Slot.REQUEST,
}
_OTHER_KEYS = ("model", "provider", "valid_from", "valid_to", "service_tier", "batch", "tiers")
_MAX_DECIMALS = 18


@dataclass(frozen=True, slots=True)
class Override:
    """One entry of the user's price table."""

    pattern: str
    """Lower case; `*` stands for any characters."""
    provider: str | None
    """Folded as the price list has it; None for any."""
    first_day: int
    """Ordinal of the first day on which it holds."""
    end_day: int
    """Ordinal of the first day on which it no longer holds."""
    service_tier: str | None
    batch: bool | None
    card: RateCard
    position: int
    """Place in the file."""

    def applies(
        self, name: str, sellers: Container[str | None], ordinal: int, tier: str, *, batch: bool
    ) -> bool:
        """Return whether the entry holds for a model on a day in a context.

        Args:
            name: reading of the model's name, lower case.
            sellers: providers that may have served it, folded.
            ordinal: the UTC day, as `date.toordinal()`.
            tier: service tier, empty for none.
            batch: whether the call went through a batch interface.
        """
        return (
            self.first_day <= ordinal < self.end_day
            and (self.provider is None or self.provider in sellers)
            and (self.service_tier is None or self.service_tier == (tier or "default"))
            and (self.batch is None or self.batch == batch)
            and _matches(self.pattern, name)
        )

    @property
    def specificity(self) -> tuple[int, int, int, int]:
        """Sort key: the largest is the entry that is meant most precisely."""
        literal = len(self.pattern) - self.pattern.count("*")
        exact = int("*" not in self.pattern)
        context = (self.provider is not None) + (self.service_tier is not None) + (
            self.batch is not None
        )  # fmt: skip
        return exact, literal, context, self.position


def _matches(pattern: str, name: str) -> bool:
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


def load_overrides(path: Path) -> tuple[Override, ...]:
    """Read a price file.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: it is no YAML or JSON, or an entry is wrong; names file, entry and key.
    """
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFoundError(f"price file {path} does not exist", hint="check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"price file {path} cannot be read: {error}") from error
    try:
        loader = _text_loader()(text)
        document = loader.get_single_data()
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        where = f" line {place.line + 1}" if place is not None else ""
        raise ConfigError(
            f"price file {path}{where} is not valid YAML", hint="quote model names that hold `:`"
        ) from error
    return parse_overrides(document, str(path))


def _text_loader() -> type[yaml.SafeLoader]:
    """Return a safe YAML loader that leaves numbers as the text they were written in."""
    import yaml

    class TextLoader(yaml.SafeLoader):
        """Keeps `0.1` as "0.1": prices are decimal fractions, not binary ones."""

    number_tags = ("tag:yaml.org,2002:float", "tag:yaml.org,2002:int")
    TextLoader.yaml_implicit_resolvers = {
        first: [(tag, expression) for tag, expression in resolvers if tag not in number_tags]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    return TextLoader


def parse_overrides(document: object, where: str) -> tuple[Override, ...]:
    """Check a price table that has been read already.

    Args:
        document: `{"prices": [entry, ...]}`, or the list alone.
        where: name of the file for messages.

    Raises:
        ConfigError: an entry is wrong.
    """
    if isinstance(document, Mapping):
        for key in document:
            if key != "prices":
                raise ConfigError(f"{where}: unknown key {key!r}", hint="use `prices`")
        document = document.get("prices")
    if document is None:
        return ()
    if not isinstance(document, Sequence) or isinstance(document, str):
        raise ConfigError(f"{where}: prices is no list", hint="prices: [{model: ..., input: ...}]")
    return tuple(
        _entry(item, f"{where}: prices[{position}]", position)
        for position, item in enumerate(document)
    )


def _entry(item: object, where: str, position: int) -> Override:
    if not isinstance(item, Mapping):
        raise ConfigError(f"{where} is no mapping", hint="{model: ..., input: ..., output: ...}")
    known = (*_OTHER_KEYS, *_RATE_KEYS)
    for key in item:
        if key not in known:
            near = nearest(str(key), known)
            raise ConfigError(
                f"{where}: unknown key {key!r}",
                hint=f"did you mean {near}?" if near else f"known keys: {', '.join(known)}",
            )
    model = item.get("model")
    if not isinstance(model, str) or not 0 < len(model.strip()) <= MAX_NAME_LENGTH:
        raise ConfigError(f"{where}.model is {model!r}", hint="set it to the model's name")
    pattern = model.strip().lower()
    base = _rates(item, where)
    for key in ("input", "output"):
        if _RATE_KEYS[key] not in base:
            raise ConfigError(f"{where}.{key} is missing", hint=f'set it, "0" if {key} is free')
    provider = _text(item, "provider", where)
    tier = _text(item, "service_tier", where)
    batch = item.get("batch")
    if batch is not None and not isinstance(batch, bool):
        raise ConfigError(f"{where}.batch is {batch!r}", hint="true or false")
    first, end = _day(item, "valid_from", where), _day(item, "valid_to", where)
    first_day = 0 if first is None else first.toordinal()
    end_day = date.max.toordinal() + 1 if end is None else end.toordinal()
    if first_day >= end_day:
        raise ConfigError(f"{where} ends before it starts", hint="valid_to is the day after")
    thresholds, rows = _tiers(item.get("tiers"), base, where)
    folded = None if provider is None else provider_key(provider)
    card = RateCard(folded or "", pattern, "user", False, thresholds, rows)
    return Override(
        pattern=pattern,
        provider=folded,
        first_day=first_day,
        end_day=end_day,
        service_tier=None if tier is None else tier.strip().lower(),
        batch=batch,
        card=card,
        position=position,
    )


def _text(item: Mapping[object, object], key: str, where: str) -> str | None:
    value = item.get(key)
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"{where}.{key} is {value!r}", hint="set it to a name")
    return value


def _rates(item: Mapping[object, object], where: str) -> dict[Slot, int]:
    return {
        slot: _rate(item[key], f"{where}.{key}", 1 if slot == Slot.REQUEST else 1_000_000)
        for key, slot in _RATE_KEYS.items()
        if item.get(key) is not None
    }


def _rate(value: object, where: str, per: int) -> int:
    hint = f'a decimal string from "0" to "{MAX_USD_PER_MILLION}", such as "2.50"'
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise ConfigError(f"{where} is {value!r}", hint=hint)
    try:
        usd = Decimal(str(value))
    except InvalidOperation:
        raise ConfigError(f"{where} is {value!r}", hint=hint) from None
    exponent = usd.as_tuple().exponent
    if not usd.is_finite() or not 0 <= usd <= MAX_USD_PER_MILLION or not isinstance(exponent, int):
        raise ConfigError(f"{where} is {value!r}", hint=hint)
    if -exponent > _MAX_DECIMALS:
        raise ConfigError(f"{where} has more than {_MAX_DECIMALS} decimals", hint="round it")
    return yocto_per_unit(usd, per)


def _day(item: Mapping[object, object], key: str, where: str) -> date | None:
    value = item.get(key)
    if value is None:
        return None
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        raise ConfigError(f"{where}.{key} is {value!r}", hint="a day such as 2026-01-31") from None


def _tiers(
    value: object, base: dict[Slot, int], where: str
) -> tuple[tuple[int, ...], tuple[dict[Slot, int], ...]]:
    if value is None:
        return (), (base,)
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ConfigError(f"{where}.tiers is no list", hint="tiers: [{above: 200000, input: ...}]")
    thresholds: list[int] = []
    rows = [base]
    for position, tier in enumerate(value):
        place = f"{where}.tiers[{position}]"
        if not isinstance(tier, Mapping):
            raise ConfigError(f"{place} is no mapping", hint="{above: 200000, input: ...}")
        for key in tier:
            if key != "above" and key not in _RATE_KEYS:
                raise ConfigError(f"{place}: unknown key {key!r}", hint="above, input, output, ...")
        above = str(tier.get("above")).replace("_", "")
        if not above.isdecimal() or (thresholds and int(above) <= thresholds[-1]):
            raise ConfigError(
                f"{place}.above is {tier.get('above')!r}", hint="ascending numbers of input tokens"
            )
        thresholds.append(int(above))
        rows.append({**rows[-1], **_rates(tier, place)})
    return tuple(thresholds), tuple(rows)
