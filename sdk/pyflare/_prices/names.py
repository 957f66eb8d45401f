"""Names of models and providers as applications write them, and what they may stand for.

The tables are in the snapshot. A name is taken apart step by step, never shortened
to a bare prefix: `gpt-4o-mini` is not `gpt-4o` with something behind it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, NamedTuple

__all__ = ["Names", "Reading", "Step"]


class Step(IntEnum):
    """How far a reading is from the name that was given."""

    EXACT = 0
    """The name itself."""
    STRIPPED = 1
    """Without a provider's, path's or region's prefix, or a tag that names no version."""
    BASE = 2
    """The model that a fine-tuned model is made of."""
    UNDATED = 3
    """Without its date."""


class Reading(NamedTuple):
    """One reading of a model's name."""

    name: str
    """Lower case."""
    provider: str | None
    """Provider that the name itself names, by the price list's name."""
    step: Step

    @property
    def approximate(self) -> bool:
        """True when it is a near model and not the same one."""
        return self.step >= Step.BASE


class Names:
    """The rules for names.

    Args:
        tables: the snapshot's `names`.
    """

    def __init__(self, tables: Mapping[str, Any]) -> None:
        self.aliases: Mapping[str, str] = tables["aliases"]
        self.local = frozenset(tables["local"])
        self.tiers: Mapping[str, str] = tables["tiers"]
        self.max_length: int = tables["max_length"]
        self._nobody = frozenset(tables["nobody"])
        self._prefixes = frozenset(tables["prefixes"])
        self._naming = [(re.compile(rule), name) for name, rule in tables["naming"].items()]
        self._region = re.compile(tables["region"])
        self._date = re.compile(tables["date"])
        self._floating = re.compile(tables["floating"])

    def provider_key(self, provider: str) -> str | None:
        """Fold a provider's name to the price list's; None when it names nobody."""
        name = provider.strip().lower()
        if name in self._nobody:
            return None
        if name in self.aliases:
            return self.aliases[name]
        head = name.split(".", 1)[0]
        if "." in name and name not in self.local and head in self._prefixes:
            return head
        return name

    def guess_provider(self, model: str) -> str | None:
        """Return the provider whose naming `model` follows, None where many hosts use it."""
        return next((name for rule, name in self._naming if rule.match(model)), None)

    def readings(self, model: str) -> tuple[Reading, ...]:
        """Return the readings of a model's name, nearest first; none of a name too long."""
        name = model.strip().lower()
        if not name or len(name) > self.max_length:
            return ()
        found = [Reading(name, None, Step.EXACT)]
        provider: str | None = None
        while (peeled := self._peel(name)) is not None:
            hint, name = peeled
            provider = hint or provider
            found.append(Reading(name, provider, Step.STRIPPED))
        if name.startswith("ft:"):
            name = name.split(":")[1]
            found.append(Reading(name, provider, Step.BASE))
        undated = self._date.sub("", name)
        if undated != name:
            found.append(Reading(undated, provider, Step.UNDATED))
        return tuple(reading for reading in dict.fromkeys(found) if reading.name)

    def _peel(self, name: str) -> tuple[str | None, str] | None:
        """Take one prefix or tag off; None when there is none."""
        if (floating := self._floating.sub("", name)) != name:
            return None, floating
        if name.startswith("arn:aws:bedrock:"):
            return "aws", name.rsplit("/", 1)[-1] if "/" in name else ""
        head, path, rest = name.rpartition("models/")
        if path and rest and (not head or head.endswith("/")) and "fireworks" not in head:
            return ("google" if "publishers/" in head or not head else None), rest
        for separator in ("/", ":"):
            prefix, found, rest = name.partition(separator)
            folded = self.aliases.get(prefix, prefix)
            if found and rest and folded in self._prefixes:
                return folded, rest
        region = self._region.match(name)
        if region:
            return ("aws" if region[0].endswith(".") else None), name[region.end() :]
        return None
