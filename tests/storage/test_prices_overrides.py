"""The user's price file."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyflare_proto.errors import ConfigError, NotFoundError
from pyflare_storage.prices import PriceBook
from pyflare_storage.prices.overrides import _matches, load_overrides, parse_overrides
from pyflare_storage.prices.rates import Slot

DAY = date(2026, 11, 22)
TEXT = """
prices:
  - model: llama-3.3-70b
    provider: together_ai
    input: 0.1
    output: "0.30"
    cache_read: "0.000000000000000001"
  - model: llama-3.3-70b
    input: "1"
    output: "2"
    valid_from: 2026-01-01
    valid_to: 2026-11-22
  - model: "llama-*"
    input: "7"
    output: "8"
    tiers:
      - {above: 1000, input: "14"}
      - {above: 2000, output: "16"}
  - model: gpt-4o
    input: "1"
    output: "2"
    batch: true
  - model: gpt-4o
    input: "3"
    output: "4"
    service_tier: flex
"""


def book(tmp_path: Path, text: str = TEXT) -> PriceBook:
    """Return a price book over a file with this text."""
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    return PriceBook.load(path)


def input_rate(
    book: PriceBook,
    model: str,
    provider: str = "",
    day: date = DAY,
    *,
    tier: str = "",
    batch: bool = False,
) -> str:
    """Return source and USD per million input tokens."""
    found = book.day_prices(provider, model, "", day, service_tier=tier, batch=batch)
    if found is None or found.cards[0] is None:
        return "unpriced"
    card = found.cards[0]
    return f"{card.source} {card.rates[0][Slot.INPUT] / 10**18:g}"


def test_the_most_precise_entry_wins(tmp_path: Path) -> None:
    """Exact before pattern, provider before any, and each only on its days."""
    prices = book(tmp_path)
    assert input_rate(prices, "llama-3.3-70b", "together") == "user 0.1"
    assert input_rate(prices, "together/llama-3.3-70b") == "user 0.1"
    assert input_rate(prices, "llama-3.3-70b", "groq", date(2026, 11, 21)) == "user 1"
    assert input_rate(prices, "llama-3.3-70b", "groq", DAY) == "user 7"
    assert input_rate(prices, "llama-3.3-70b", "groq", date(2025, 12, 31)) == "user 7"
    assert input_rate(prices, "llama-4-scout") == "user 7"
    assert input_rate(prices, "not-llama-4") == "unpriced"


def test_an_entry_may_hold_for_a_context_only(tmp_path: Path) -> None:
    """Batch and tier entries leave the standard price to the price list."""
    prices = book(tmp_path)
    assert input_rate(prices, "gpt-4o", "openai", batch=True) == "user 1"
    assert input_rate(prices, "gpt-4o", "openai", tier="flex") == "user 3"
    assert input_rate(prices, "gpt-4o", "openai").endswith(" 2.5")


def test_numbers_are_read_as_they_are_written(tmp_path: Path) -> None:
    """0.1 without quotes is a tenth exactly, and 18 decimals are kept."""
    (entry, *_) = load_overrides_of(tmp_path, TEXT)
    assert entry.card.rates[0][Slot.INPUT] == 10**17
    assert entry.card.rates[0][Slot.CACHE_READ] == 1


def load_overrides_of(tmp_path: Path, text: str) -> tuple[object, ...]:
    """Return the entries of a file with this text."""
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    return load_overrides(path)


def test_tiers_build_on_each_other(tmp_path: Path) -> None:
    """A tier changes the rates that it names and keeps the others of the one before."""
    prices = book(tmp_path)
    costs = [
        prices.quote("llama-9", input_tokens=n, output_tokens=1).cost_nano_usd
        for n in (1000, 1001, 2001)
    ]
    assert costs == [1000 * 7000 + 8000, 1001 * 14_000 + 8000, 2001 * 14_000 + 16_000]


def test_json_is_read_too(tmp_path: Path) -> None:
    """A JSON list without `prices` is a price file."""
    text = '[{"model": "m", "input": "1.5", "output": "2"}]'
    assert input_rate(book(tmp_path, text), "m") == "user 1.5"


def test_an_empty_file_has_no_prices(tmp_path: Path) -> None:
    """Nothing in the file leaves the price list alone."""
    assert book(tmp_path, "").overrides == ()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("model: m\n    input: '1'", "prices[0].output is missing"),
        ("model: m\n    output: '1'", "prices[0].input is missing"),
        ("input: '1'\n    output: '1'", "prices[0].model is None"),
        ("model: m\n    inputs: '1'", "unknown key 'inputs'"),
        ("model: m\n    input: '-1'\n    output: '1'", "prices[0].input is '-1'"),
        ("model: m\n    input: NaN\n    output: '1'", "prices[0].input is 'NaN'"),
        ("model: m\n    input: a lot\n    output: '1'", "prices[0].input is 'a lot'"),
        ("model: m\n    input: true\n    output: '1'", "prices[0].input is True"),
        ("model: m\n    input: '1e9'\n    output: '1'", "prices[0].input is '1e9'"),
        (f"model: m\n    input: '0.{'1' * 19}'\n    output: '1'", "more than 18 decimals"),
        ("model: m\n    input: 1\n    output: 1\n    valid_from: soon", "valid_from is 'soon'"),
        (
            "{model: m, input: 1, output: 1, valid_from: 2026-02-01, valid_to: 2026-02-01}",
            "ends before it starts",
        ),
        ("model: m\n    input: 1\n    output: 1\n    batch: maybe", "batch is 'maybe'"),
        ("model: m\n    input: 1\n    output: 1\n    tiers: 3", "tiers is no list"),
        (
            "model: m\n    input: 1\n    output: 1\n    tiers: [{input: 2}]",
            "tiers[0].above is None",
        ),
        (
            "model: m\n    input: 1\n    output: 1\n    tiers: [{above: 9}, {above: 9}]",
            "tiers[1].above is '9'",
        ),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, entry: str, message: str) -> None:
    """The message names file, entry, key and value; nothing is read half."""
    with pytest.raises(ConfigError) as caught:
        book(tmp_path, f"prices:\n  - {entry}\n")
    assert message in caught.value.message
    assert "prices.yaml" in caught.value.message


@pytest.mark.parametrize("text", ["prices: 3", "price: []", "{", "a: !!python/object:os.x {}"])
def test_what_is_no_price_file_is_refused(tmp_path: Path, text: str) -> None:
    """Other documents, broken YAML and YAML that asks for objects are configuration errors."""
    with pytest.raises(ConfigError, match=r"prices\.yaml"):
        book(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A path without a file is not taken as "no prices"."""
    with pytest.raises(NotFoundError, match=r"absent\.yaml"):
        PriceBook.load(tmp_path / "absent.yaml")


def test_a_hostile_pattern_does_not_hang() -> None:
    """Many wildcards against a long name answer at once: matching does not backtrack."""
    pattern = "a*" * 20 + "b"
    entries = parse_overrides([{"model": pattern, "input": "1", "output": "1"}], "test")
    assert input_rate(PriceBook(entries), "a" * 200) == "unpriced"
    assert input_rate(PriceBook(entries), "a" * 200 + "b") == "user 1"


@given(st.text("ab*", max_size=8), st.text("ab", max_size=8))
def test_patterns_mean_what_a_regular_expression_says(pattern: str, name: str) -> None:
    """`*` is any characters, everything else is itself."""
    expected = re.fullmatch(pattern.replace("*", ".*"), name) is not None
    assert _matches(pattern, name) == expected
