"""The answer to `cost price`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from pyflare_proto.errors import NotFoundError, UsageError
from pyflare_storage.prices import PriceBook, usd_text

AT = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def book() -> PriceBook:
    """Return a book without entries of a user."""
    return PriceBook.load()


def test_a_quote_says_what_it_costs_and_why(book: PriceBook) -> None:
    """36 x 3 + 54 x 0.30 + 10 x 3.75 + 50 x 15 = 911.7 micro-dollars."""
    quote = book.quote(
        "claude-sonnet-4-5-20250929",
        input_tokens=100,
        output_tokens=50,
        cache_read_tokens=54,
        cache_write_tokens=10,
        at=AT,
    )
    assert (quote.cost_nano_usd, quote.cost_usd) == (911_700, "0.0009117")
    assert (quote.provider, quote.resolved_model) == ("anthropic", "claude-sonnet-4-5")
    assert quote.price_source == f"genai-prices {book.catalog.version}"
    assert quote.rates_usd_per_million == {
        "input": "3",
        "output": "15",
        "cache_read": "0.3",
        "cache_write": "3.75",
        "cache_write_1h": "6",
    }
    assert quote.tier_above_tokens is None
    assert quote.status == "priced"


def test_a_quote_above_a_threshold_shows_the_rates_that_hold(book: PriceBook) -> None:
    """gemini-2.5-pro at 200,001 input tokens: all of them at 2.50."""
    quote = book.quote("gemini-2.5-pro", input_tokens=200_001, output_tokens=0, at=AT)
    assert quote.tier_above_tokens == 200_000
    assert quote.rates_usd_per_million["input"] == "2.5"
    assert quote.cost_usd == "0.5000025"


def test_the_moment_is_taken_in_utc(book: PriceBook) -> None:
    """02:30 in UTC+9 is 17:30 UTC the day before: off-peak; a naive time is UTC."""
    tokyo = timezone(timedelta(hours=9))
    cheap = datetime(2026, 11, 23, 2, 30, tzinfo=tokyo)
    costs = [
        book.quote("deepseek-chat", input_tokens=10**6, output_tokens=0, at=at).cost_usd
        for at in (cheap, AT, AT.replace(tzinfo=None))
    ]
    assert costs == ["0.135", "0.27", "0.27"]


@pytest.mark.parametrize(
    ("model", "provider", "hint"),
    [
        ("gpt-4o-minx", None, "gpt-4o-mini"),
        ("claude-sonnet-4-55-turbo", "anthropic", "a price file adds models of your own"),
        ("whisper-1", None, "a price file"),
    ],
)
def test_an_unknown_model_is_an_error_that_names_the_nearest(
    book: PriceBook, model: str, provider: str | None, hint: str
) -> None:
    """No cost of 0 for the unknown: an error, with what is known."""
    if model.startswith("claude"):
        provider = "ollama"
    with pytest.raises(NotFoundError) as caught:
        book.quote(model, input_tokens=1, output_tokens=1, provider=provider)
    assert repr(model) in caught.value.message
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    "counts",
    [
        {"input_tokens": -1, "output_tokens": 0},
        {"input_tokens": 2**40, "output_tokens": 0},
        {"input_tokens": 36, "output_tokens": 0, "cache_read_tokens": 54},
        {"input_tokens": 10, "output_tokens": 0, "cache_read_tokens": 6, "cache_write_tokens": 5},
        {"input_tokens": 1, "output_tokens": 5, "reasoning_tokens": 6},
    ],
)
def test_counts_that_cannot_be_are_refused(book: PriceBook, counts: dict[str, int]) -> None:
    """Negative, impossible, and parts above their total."""
    with pytest.raises(UsageError):
        book.quote("gpt-4o", **counts)


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "0.00"),
        (1, "0.000000001"),
        (911_700, "0.0009117"),
        (2 * 10**9, "2.00"),
        (1_500_000_000, "1.50"),
        (12_345_678_901, "12.345678901"),
        (-5, "-0.000000005"),
    ],
)
def test_dollars_are_written_exactly(nano: int, text: str) -> None:
    """All nine decimals that matter, at least two, no exponent, no float."""
    assert usd_text(nano) == text
