"""Prices of calls at the edges: thresholds, hours, days, names, and what the user says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN
from functools import cache

import numpy as np
import pytest
from genai_prices import Usage, calc_price
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pyflare_proto.record import COST_STATUSES
from pyflare_storage.prices import Coded, PriceBook, PricedColumns, PriceInputs
from pyflare_storage.prices.grouping import group_rows
from pyflare_storage.prices.overrides import parse_overrides

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@cache
def book() -> PriceBook:
    """Return the price book without a user's prices."""
    return PriceBook.load()


def overridden(*entries: dict[str, object]) -> PriceBook:
    """Return a price book with entries of the user."""
    return PriceBook(parse_overrides({"prices": list(entries)}, "prices.yaml"))


def nanoseconds(moment: datetime) -> int:
    """Return a moment as nanoseconds since 1970."""
    whole = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(whole.timestamp()) * 10**9 + whole.microsecond * 1000


def coded(values: list[str]) -> Coded:
    """Return strings as a dictionary-coded column; empty is missing."""
    distinct = list(dict.fromkeys(v for v in values if v))
    return Coded(
        np.array([distinct.index(v) if v else -1 for v in values], dtype=np.int32), distinct
    )


def inputs_of(
    calls: list[tuple[str, str, dict[str, int]]], at: datetime | list[datetime] = NOON
) -> PriceInputs:
    """Return (provider, response model, tokens) as columns; a missing count is -1."""
    moments = at if isinstance(at, list) else [at] * len(calls)

    def column(name: str) -> NDArray[np.int64]:
        return np.array([tokens.get(name, -1) for _, _, tokens in calls], dtype=np.int64)

    return PriceInputs(
        provider=coded([provider for provider, _, _ in calls]),
        model_response=coded([model for _, model, _ in calls]),
        model_request=coded([""] * len(calls)),
        end_time_ns=np.array([nanoseconds(moment) for moment in moments], dtype=np.int64),
        input_tokens=column("input_tokens"),
        output_tokens=column("output_tokens"),
        cache_read_tokens=column("cache_read_tokens"),
        cache_write_tokens=column("cache_write_tokens"),
    )


def statuses(priced: PricedColumns) -> list[str]:
    """Return the statuses by name."""
    return [COST_STATUSES[code] for code in priced.status.tolist()]


def one(provider: str, model: str, at: datetime = NOON, **tokens: int) -> tuple[int | None, str]:
    """Return cost and status of one call."""
    tokens = tokens or {"input_tokens": 1_000_000, "output_tokens": 0}
    priced = book().price_columns(inputs_of([(provider, model, tokens)], at))
    cost = int(priced.cost_nano_usd[0]) if priced.valid[0] else None
    return cost, statuses(priced)[0]


def listed(tokens: dict[str, int], provider: str, model: str, at: datetime) -> int | None:
    """Return what genai-prices itself says, in nano-dollars; None where it says nothing.

    An entry without any price is nothing too: it is not free of charge.
    """
    try:
        answer = calc_price(
            Usage(**tokens), model, provider_id=provider, genai_request_timestamp=at
        )
    except LookupError:
        return None
    price = answer.model_price
    if price.input_mtok is None and price.output_mtok is None:
        return None
    return int((answer.total_price * 10**9).to_integral_value(ROUND_HALF_EVEN))


@pytest.fixture
def clean_lists() -> Iterator[None]:
    """Leave genai-prices' own caches as they were found."""
    snapshot = get_snapshot()
    yield
    for memory in ("_lookup_cache", "_provider_cache", "_provider_misses"):
        getattr(snapshot, memory).clear()


@pytest.mark.usefixtures("clean_lists")
def test_every_tiered_model_around_its_thresholds() -> None:
    """At a threshold the base rates hold; one token above, the tier's for all tokens."""
    calls, expected = [], []
    for provider in get_snapshot().providers:
        for model in provider.models:
            prices = book().day_prices(provider.id, model.id, "", NOON.date())
            cards = [card for card in (prices.cards if prices else ()) if card is not None]
            totals = {t + more for card in cards for t in card.thresholds for more in (0, 1)}
            for total in sorted(totals):
                tokens = {"input_tokens": total, "output_tokens": 10, "cache_read_tokens": 3}
                nano = listed(tokens, provider.id, model.id, NOON)
                if nano is not None:
                    calls.append((provider.id, model.id, tokens))
                    expected.append(nano)
    priced = book().price_columns(inputs_of(calls))

    assert len({model for _, model, _ in calls}) > 50
    assert priced.cost_nano_usd.tolist() == expected
    assert one("google", "gemini-2.5-pro", input_tokens=200_000, output_tokens=0)[0] == 250_000_000
    assert one("google", "gemini-2.5-pro", input_tokens=200_001, output_tokens=0)[0] == 500_002_500


def test_what_is_listed_as_free_is_free() -> None:
    """An entry that says `:free` costs 0, which is a known cost."""
    free = next(
        (p.id, m.id)
        for p in get_snapshot().providers
        for m in p.models
        if m.id.endswith(":free")
    )  # fmt: skip

    assert one(*free) == (0, "priced")


def test_a_count_that_is_missing_and_costs_something() -> None:
    """Without the output count a chat call is `approximate`, an embedding exact."""
    assert one("openai", "gpt-4o", input_tokens=4) == (10_000, "approximate")
    assert one("openai", "gpt-4o", output_tokens=4) == (40_000, "approximate")
    assert one("openai", "text-embedding-3-small", input_tokens=7) == (140, "priced")


@pytest.mark.usefixtures("clean_lists")
def test_off_peak_within_one_batch() -> None:
    """Spans of one day in one batch each have the price of their own minute, to its edges."""
    day = date(2025, 7, 1)
    moments = [
        datetime(day.year, day.month, day.day, hour, minute, second, tzinfo=UTC)
        for hour in range(24)
        for minute, second in ((0, 0), (29, 59), (30, 0), (59, 59))
    ]
    tokens = {"input_tokens": 1_000, "output_tokens": 100, "cache_read_tokens": 10}
    calls = [("deepseek", "deepseek-chat", tokens)] * len(moments)
    expected = [listed(tokens, "deepseek", "deepseek-chat", moment) for moment in moments]
    priced = book().price_columns(inputs_of(calls, moments))

    assert len(set(expected)) == 2
    assert priced.cost_nano_usd.tolist() == expected


@pytest.mark.parametrize(
    ("provider", "model", "found", "status"),
    [
        ("openai", "gpt-4o-mini", "openai/gpt-4o-mini", "priced"),
        ("openai", "gpt-4o-mini-2024-07-18", "openai/gpt-4o-mini", "priced"),
        ("openai", "gpt-4o-2024-05-13", "openai/gpt-4o-2024-05-13", "priced"),
        ("", "GPT-4o", "openai/gpt-4o", "priced"),
        ("", "openai/gpt-4o", "openai/gpt-4o", "priced"),
        ("", "openai:gpt-4o", "openai/gpt-4o", "priced"),
        ("", "azure/gpt-4o", "azure/gpt-4o", "priced"),
        ("langchain", "gpt-4o:latest", "openai/gpt-4o", "priced"),
        ("_OTHER", "gpt-4o", "openai/gpt-4o", "priced"),
        ("", "anthropic/claude-sonnet-4.5", "anthropic/claude-sonnet-4-5", "priced"),
        ("", "models/gemini-2.5-pro", "google/gemini-2.5-pro", "priced"),
        ("", "publishers/google/models/gemini-2.5-pro", "google/gemini-2.5-pro", "priced"),
        ("gcp.gen_ai", "gemini-2.5-pro", "google/gemini-2.5-pro", "priced"),
        ("", "claude-3-5-sonnet@20240620", "anthropic/claude-3-5-sonnet", "priced"),
        ("", "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
         "aws/regional.anthropic.claude-sonnet-4-5-20250929-v1:0", "priced"),
        ("", "text-embedding-3-small", "openai/text-embedding-3-small", "priced"),
        ("openai", "ft:gpt-4o-mini-2024-07-18:acme::abc", "openai/ft:gpt-4o-mini", "priced"),
        ("openai", "ft:gpt-5-2025-08-07:acme::abc", "openai/gpt-5", "approximate"),
        ("openai", "gpt-4.1-2029-01-01", "openai/gpt-4.1", "approximate"),
        ("x_ai", "gpt-4o", "openai/gpt-4o", "approximate"),
        ("nobody-llc", "gpt-4o", "openai/gpt-4o", "approximate"),
    ],
)  # fmt: skip
def test_names_in_the_wild(provider: str, model: str, found: str, status: str) -> None:
    """Prefixes, regions, dates and aliases lead to the model; a near one is `approximate`."""
    quote = book().quote(model, provider=provider, input_tokens=1, output_tokens=1, at=NOON)

    assert (f"{quote.provider}/{quote.resolved_model}", quote.status) == (found, status)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40), st.text(max_size=60))
def test_any_text_is_a_name(provider: str, model: str) -> None:
    """No name breaks the resolver."""
    assert one(provider, model)[1] in {"priced", "approximate", "unpriced"}


def test_an_entry_for_a_provider_holds_where_the_name_says_it() -> None:
    """Named by the span, by the model's prefix or by its own naming; not for another provider."""
    mine = overridden({"model": "gpt-4o", "provider": "openai", "input": "1", "output": "1"})

    def source(model: str, provider: str | None) -> str:
        return mine.quote(model, provider=provider, input_tokens=1, output_tokens=1).price_source

    assert source("gpt-4o", "openai") == source("openai/gpt-4o", None) == "user"
    assert source("gpt-4o", None) == "user"
    assert source("gpt-4o", "azure") != "user"


def test_local_models_can_be_given_a_price() -> None:
    """What no list has is priced by the user's entry, with wildcards; the nearest entry wins."""
    mine = overridden(
        {"model": "*", "provider": "ollama", "input": "0", "output": "0"},
        {"model": "llama*", "input": "1", "output": "1"},
        {"model": "llama3*", "input": "2", "output": "2"},
        {"model": "llama3-70b", "input": "3", "output": "3"},
    )

    def cost(model: str, provider: str) -> int:
        return mine.quote(
            model, provider=provider, input_tokens=1, output_tokens=0
        ).cost_nano_usd  # fmt: skip

    assert cost("qwen", "ollama") == 0
    assert cost("llama2", "ollama") == 1000
    assert cost("llama3-8b", "vllm") == 2000
    assert cost("llama3-70b", "vllm") == 3000


def test_entries_hold_between_their_days() -> None:
    """`valid_from` is the first day, `valid_to` the first that is no longer in."""
    mine = overridden(
        {"model": "own", "input": "1", "output": "1", "valid_to": "2026-02-01"},
        {"model": "own", "input": "2", "output": "2", "valid_from": "2026-02-01",
         "valid_to": "2026-03-01"},
    )  # fmt: skip
    days = [datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC),
            datetime(2026, 2, 28, 23, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)]  # fmt: skip
    calls = [("", "own", {"input_tokens": 1, "output_tokens": 1})] * 4
    priced = mine.price_columns(inputs_of(calls, days))

    assert priced.cost_array().to_pylist() == [2000, 4000, 4000, None]
    assert statuses(priced)[3] == "unpriced"


def test_one_hour_cache_writes_and_audio_have_their_own_rates() -> None:
    """Anthropic: one-hour writes at twice the input rate; audio as the list has it."""
    quote = book().quote("claude-sonnet-4-5", input_tokens=100, output_tokens=0, at=NOON,
                         cache_write_tokens=100, cache_write_1h_tokens=40)  # fmt: skip
    assert quote.cost_nano_usd == 60 * 3750 + 40 * 6000
    usage = Usage(input_tokens=100, output_tokens=100, input_audio_tokens=30,
                  output_audio_tokens=70)  # fmt: skip
    listed_price = calc_price(
        usage, "gpt-4o-audio-preview", provider_id="openai", genai_request_timestamp=NOON
    ).total_price
    audio = book().quote("gpt-4o-audio-preview", input_tokens=100, output_tokens=100, at=NOON,
                         audio_input_tokens=30, audio_output_tokens=70)  # fmt: skip
    assert audio.cost_nano_usd == listed_price * 10**9


@given(
    rows=st.lists(st.tuples(st.integers(-1, 3), st.integers(-1, 5), st.integers(0, 3)),
                  min_size=1, max_size=50),
    wide=st.booleans(),
)  # fmt: skip
def test_rows_are_grouped_by_all_their_codes(
    rows: list[tuple[int, int, int]], *, wide: bool
) -> None:
    """Each group is one combination, by table, by sorting, and where 64 bits hold no key."""
    columns = [np.array(c, dtype=np.int32) for c in zip(*rows, strict=True)]
    sizes = [2**31, 2**31] if wide else [5, 7]
    group, distinct = group_rows(columns[:2], sizes, columns[2].astype(np.int64))

    assert [distinct[g] for g in group.tolist()] == rows
    assert len(set(distinct)) == len(distinct)
