"""How the price book finds a price, and what it says where there is none."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from numpy.typing import NDArray

from pyflare_proto.record import COST_STATUSES
from pyflare_storage.prices import Coded, PriceBook, PriceInputs
from pyflare_storage.prices.overrides import parse_overrides

AT = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def book() -> PriceBook:
    """Return a book without entries of a user."""
    return PriceBook.load()


def nanoseconds(at: datetime) -> int:
    """Return whole seconds since 1970 as nanoseconds."""
    return int(at.timestamp()) * 10**9


def coded(values: list[str]) -> Coded:
    """Return one value a row; empty is missing."""
    codes = [-1 if not value else row for row, value in enumerate(values)]
    return Coded(np.array(codes, dtype=np.int32), values)


def column(*values: int) -> NDArray[np.int64]:
    """Return int64 values."""
    return np.array(values, dtype=np.int64)


def priced(
    book: PriceBook,
    model: str,
    *,
    provider: str = "",
    request: str = "",
    at: datetime = AT,
    tokens: tuple[int, int] = (1000, 1000),
    tier: str = "",
    batch: bool = False,
) -> tuple[int | None, str]:
    """Return cost and status of one call."""
    result = book.price_columns(
        PriceInputs(
            provider=coded([provider]),
            model_response=coded([model]),
            model_request=coded([request]),
            end_time_ns=column(nanoseconds(at)),
            input_tokens=column(tokens[0]),
            output_tokens=column(tokens[1]),
            service_tier=coded([tier]),
            batch=np.array([batch]),
        )
    )
    cost = int(result.cost_nano_usd[0]) if result.valid[0] else None
    return cost, COST_STATUSES[result.status[0]]


def test_the_calls_of_the_captures_cost_what_hand_arithmetic_says(book: PriceBook) -> None:
    """36 x 2.50 + 64 x 1.25 + 50 x 10 = 670 micro-dollars, and the other two alike."""
    result = book.price_columns(
        PriceInputs(
            provider=coded(["openai", "anthropic", "openai"]),
            model_response=coded(
                ["gpt-4o-2024-08-06", "claude-sonnet-4-5-20250929", "text-embedding-3-small"]
            ),
            model_request=coded(["gpt-4o", "claude-sonnet-4-5", "text-embedding-3-small"]),
            end_time_ns=np.full(3, nanoseconds(AT)),
            input_tokens=column(100, 100, 7),
            output_tokens=column(50, 50, -1),
            cache_read_tokens=column(64, 54, -1),
            cache_write_tokens=column(-1, 10, -1),
        )
    )
    assert result.cost_array().to_pylist() == [670_000, 911_700, 140]
    assert result.status_array().to_pylist() == ["priced"] * 3
    version = book.catalog.version
    assert result.source_array().to_pylist() == [f"genai-prices {version}"] * 3


@pytest.mark.parametrize(
    ("name", "provider", "same_as", "of"),
    [
        ("openai/gpt-4o", "", "gpt-4o", "openai"),
        ("azure/gpt-4o", "", "gpt-4o", "azure"),
        ("openai:gpt-4o", "", "gpt-4o", "openai"),
        ("GPT-4o ", "OpenAI", "gpt-4o", "openai"),
        ("gpt-4o", "azure.ai.openai", "gpt-4o", "azure"),
        ("gpt-4o", "langchain", "gpt-4o", "openai"),
        ("anthropic/claude-sonnet-4.5", "litellm", "claude-sonnet-4-5", "anthropic"),
        ("claude-3-5-sonnet@20240620", "gcp.vertex_ai", "claude-3-5-sonnet-20240620", "anthropic"),
        ("models/gemini-2.5-pro", "gcp.gen_ai", "gemini-2.5-pro", "google"),
        ("publishers/google/models/gemini-2.5-flash", "", "gemini-2.5-flash", "google"),
        ("bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0", "",
         "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "aws"),
        ("anthropic.claude-3-5-sonnet-20240620-v1:0", "",
         "anthropic.claude-3-5-sonnet-20240620-v1:0", "aws"),
        ("grok-4", "x_ai", "grok-4", "x-ai"),
        ("text-embedding-3-small", "", "text-embedding-3-small", "openai"),
        ("gpt-4o:latest", "", "gpt-4o", "openai"),
        ("gpt-5.2-20251211", "openai", "gpt-5.2", "openai"),
        ("mistral-large-latest", "mistralai", "mistral-large-latest", "mistral"),
    ],
)  # fmt: skip
def test_names_in_the_wild_are_the_models_they_mean(
    book: PriceBook, name: str, provider: str, same_as: str, of: str
) -> None:
    """Prefixes, aliases, case and compact dates lead to the listed model, not to a near one."""
    cost, status = priced(book, name, provider=provider)
    assert status == "priced"
    assert cost == priced(book, same_as, provider=of)[0]


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        ("gpt-4o-minx", "openai"),
        ("gpt-4omni", "openai"),
        ("gpt", "openai"),
        ("llama-3", ""),
        ("deepseek-r1", "ollama"),
        ("gpt-4o", "vllm"),
        ("x" * 300, "openai"),
        ("gpt-4o" + " " * 300, "openai"),
        ("", ""),
        ("whisper-1", "openai"),
        ("ft:", "openai"),
        (":::", "openai"),
        ("models/", "google"),
        ("\x00\ud800gpt-4o", "openai"),
    ],
)
def test_what_no_list_prices_is_unpriced_and_never_free(
    book: PriceBook, name: str, provider: str
) -> None:
    """No bare prefix, no guess for a model on own machines, no cost of 0 for the unknown."""
    assert priced(book, name, provider=provider) == (None, "unpriced")


@pytest.mark.parametrize(
    ("name", "provider", "base"),
    [
        ("ft:o1:acme::abc", "openai", "o1"),
        ("gpt-4o-2099-01-01", "openai", "gpt-4o"),
        ("gpt-4o", "my-gateway", "gpt-4o"),
        ("gpt-4o", "groq", "gpt-4o"),
    ],
)
def test_a_near_model_or_another_seller_is_approximate(
    book: PriceBook, name: str, provider: str, base: str
) -> None:
    """Fine-tunes without a listing, unknown dates, and sellers that do not list the model."""
    assert priced(book, name, provider=provider) == (
        priced(book, base, provider="openai")[0],
        "approximate",
    )


def test_a_small_model_does_not_take_the_price_of_the_large_one(book: PriceBook) -> None:
    """The longest name wins: gpt-4o-mini and its dated form cost 1/16.7 of gpt-4o."""
    mini = priced(book, "gpt-4o-mini-2024-07-18", provider="openai")
    assert mini == priced(book, "gpt-4o-mini", provider="openai") == (750_000, "priced")
    assert priced(book, "gpt-4o", provider="openai") == (12_500_000, "priced")


def test_the_response_model_counts_before_the_request(book: PriceBook) -> None:
    """The dated answer is priced; the request only where the answer's name says nothing."""
    both = priced(book, "gpt-4o-2024-05-13", request="gpt-4o", provider="openai")
    assert both == (20_000_000, "priced")
    deployment = priced(book, "my-deployment", request="gpt-4o", provider="azure")
    assert deployment == (12_500_000, "priced")


def test_the_price_is_that_of_the_moment_the_call_ended(book: PriceBook) -> None:
    """o3 cost 10 USD per million before June 2025 and 2 after; deepseek is half at night."""
    early = datetime(2025, 1, 1, tzinfo=UTC)
    late = datetime(2025, 7, 1, tzinfo=UTC)
    assert priced(book, "o3", provider="openai", at=early, tokens=(1000, 0))[0] == 10_000_000
    assert priced(book, "o3", provider="openai", at=late, tokens=(1000, 0))[0] == 2_000_000
    noon = AT.replace(hour=12)
    night = AT.replace(hour=17)
    edge = AT.replace(hour=16, minute=30)
    prices = [
        priced(book, "deepseek-chat", provider="deepseek", at=at, tokens=(10**6, 0))[0]
        for at in (noon, edge, night, AT.replace(hour=0, minute=29), AT.replace(hour=0, minute=30))
    ]
    assert prices == [270_000_000, 135_000_000, 135_000_000, 135_000_000, 270_000_000]


def test_spans_of_one_batch_on_both_sides_of_a_boundary_differ(book: PriceBook) -> None:
    """One batch over a change of price and over off-peak hours has each call's own price."""
    moments = [AT.replace(hour=h) for h in (1, 12, 16, 17, 23)]
    n = len(moments)
    result = book.price_columns(
        PriceInputs(
            provider=Coded(np.zeros(n, np.int32), ["deepseek"]),
            model_response=Coded(np.zeros(n, np.int32), ["deepseek-chat"]),
            model_request=Coded(np.full(n, -1, np.int32), []),
            end_time_ns=np.array([nanoseconds(m) for m in moments]),
            input_tokens=np.full(n, 10**6),
            output_tokens=np.zeros(n, dtype=np.int64),
        )
    )
    assert (result.cost_nano_usd // 10**6).tolist() == [270, 270, 270, 135, 135]


def test_batch_and_tiers_have_their_own_prices(book: PriceBook) -> None:
    """gpt-4o: 12.5 standard, 6.25 batch, 21.25 priority (micro-dollars per 1000 + 1000)."""
    standard = priced(book, "gpt-4o", provider="openai")
    assert standard == (12_500_000, "priced")
    assert priced(book, "gpt-4o", provider="openai", batch=True) == (6_250_000, "priced")
    assert priced(book, "gpt-4o", provider="openai", tier="batch") == (6_250_000, "priced")
    assert priced(book, "gpt-4o", provider="openai", tier="Priority") == (21_250_000, "priced")
    assert priced(book, "gpt-4o", provider="openai", tier="default") == standard
    assert priced(book, "gpt-4o", provider="openai", tier="auto") == standard


def test_a_context_without_a_listed_price_is_approximate(book: PriceBook) -> None:
    """Before batch prices were listed a batch call has the standard price, marked."""
    before = datetime(2026, 1, 1, tzinfo=UTC)
    cost, status = priced(book, "gpt-4o", provider="openai", at=before, batch=True)
    assert (cost, status) == (12_500_000, "approximate")


def test_a_host_without_prices_for_batches_is_approximate(book: PriceBook) -> None:
    """Azure's list takes models from OpenAI's, but OpenAI's batch price is not Azure's."""
    assert priced(book, "gpt-4.1", provider="azure")[1] == "priced"
    assert priced(book, "gpt-4.1", provider="azure", tier="default")[1] == "priced"
    assert priced(book, "gpt-4.1", provider="azure", batch=True) == (
        priced(book, "gpt-4.1", provider="azure")[0],
        "approximate",
    )


def test_statuses_tell_apart_why_there_is_no_cost(book: PriceBook) -> None:
    """Not billable, without usage, unpriced, an impossible count, and a missing half."""
    n = 7
    result = book.price_columns(
        PriceInputs(
            provider=Coded(np.zeros(n, np.int32), ["openai"]),
            model_response=Coded(np.array([0, 0, 1, 0, 0, 0, 0], np.int32), ["gpt-4o", "nope"]),
            model_request=Coded(np.full(n, -1, np.int32), []),
            end_time_ns=np.full(n, nanoseconds(AT)),
            input_tokens=column(1, -1, 1, 2**40, 1, -1, 0),
            output_tokens=column(1, -1, 1, 1, -1, 1, 0),
            billable=np.array([False, True, True, True, True, True, True]),
        )
    )
    assert result.status_array().to_pylist() == [
        "not_billable", "no_usage", "unpriced", "unpriced", "approximate", "approximate", "priced",
    ]  # fmt: skip
    assert result.cost_array().to_pylist() == [None, None, None, None, 2500, 10_000, 0]
    assert result.source_array().null_count == 4


def test_an_embedding_without_output_tokens_is_priced(book: PriceBook) -> None:
    """Output that costs nothing need not be known."""
    assert priced(book, "text-embedding-3-small", tokens=(1000, -1)) == (20_000, "priced")


def test_an_empty_batch_is_priced(book: PriceBook) -> None:
    """No rows in, no rows out."""
    none = Coded(np.zeros(0, np.int32), [])
    result = book.price_columns(PriceInputs(none, none, none, column(), column(), column()))
    assert len(result.cost_nano_usd) == len(result.cost_array()) == 0


def test_times_outside_the_calendar_are_priced(book: PriceBook) -> None:
    """The ends of int64 nanoseconds have a price and raise nothing."""
    far = Coded(np.zeros(2, np.int32), ["gpt-4o"])
    result = book.price_columns(
        PriceInputs(
            provider=Coded(np.full(2, -1, np.int32), []),
            model_response=far,
            model_request=far,
            end_time_ns=column(-(2**63), 2**63 - 1),
            input_tokens=column(1, 1),
            output_tokens=column(0, 0),
        )
    )
    assert result.cost_nano_usd.tolist() == [2500, 2500]


def test_the_order_of_rows_and_codes_does_not_matter(book: PriceBook) -> None:
    """A batch shuffled, recoded and split gives each row the same cost."""
    rng = np.random.default_rng(5)
    n, models = 3000, ["gpt-4o", "claude-sonnet-4-5", "nope", "gemini-2.5-pro", "deepseek-chat"]
    codes = rng.integers(-1, len(models), n).astype(np.int32)
    start = nanoseconds(AT)
    inputs = PriceInputs(
        provider=Coded(np.full(n, -1, np.int32), []),
        model_response=Coded(codes, models),
        model_request=Coded(np.full(n, -1, np.int32), []),
        end_time_ns=start + rng.integers(0, 3 * 86_400 * 10**9, n),
        input_tokens=rng.integers(-1, 300_000, n),
        output_tokens=rng.integers(-1, 1000, n),
        cache_read_tokens=rng.integers(-1, 1000, n),
    )
    whole = book.price_columns(inputs)
    order = rng.permutation(n)
    turned = PriceInputs(
        provider=inputs.provider,
        model_response=Coded(
            np.where(codes >= 0, len(models) - 1 - codes, -1).astype(np.int32)[order], models[::-1]
        ),
        model_request=inputs.model_request,
        end_time_ns=inputs.end_time_ns[order],
        input_tokens=inputs.input_tokens[order],
        output_tokens=inputs.output_tokens[order],
        cache_read_tokens=None if inputs.cache_read_tokens is None
        else inputs.cache_read_tokens[order],
    )  # fmt: skip
    again = book.price_columns(turned)
    assert np.array_equal(again.cost_nano_usd, whole.cost_nano_usd[order])
    assert np.array_equal(again.status, whole.status[order])


def test_junk_names_grow_neither_our_caches_nor_those_of_genai_prices() -> None:
    """Model names come from outside: 500 distinct ones leave 64 entries and nothing elsewhere."""
    from genai_prices.data_snapshot import get_snapshot

    snapshot = get_snapshot()
    before = len(snapshot._provider_cache), len(snapshot._provider_misses)
    book = PriceBook(cache_size=64)
    names = [f"junk-{i}" for i in range(500)]
    n = len(names)
    book.price_columns(
        PriceInputs(
            provider=Coded(np.zeros(n, np.int32), ["openai"]),
            model_response=Coded(np.arange(n, dtype=np.int32), names),
            model_request=Coded(np.full(n, -1, np.int32), []),
            end_time_ns=np.full(n, nanoseconds(AT)),
            input_tokens=np.ones(n, np.int64),
            output_tokens=np.ones(n, np.int64),
        )
    )
    assert len(book._days) == len(book._listings) == 64
    assert (len(snapshot._provider_cache), len(snapshot._provider_misses)) == before


def test_a_price_is_resolved_once_for_all_spans_of_a_day() -> None:
    """20,000 spans of two models on one day ask the price list for two models."""
    book = PriceBook()
    asked: list[str] = []
    find = book.catalog.find

    def counting(provider: str, name: str) -> object:
        asked.append(name)
        return find(provider, name)

    book.catalog.find = counting  # type: ignore[method-assign,assignment]  # a spy
    n = 20_000
    inputs = PriceInputs(
        provider=Coded(np.zeros(n, np.int32), ["openai"]),
        model_response=Coded(np.arange(n, dtype=np.int32) % 2, ["gpt-4o", "gpt-4o-mini"]),
        model_request=Coded(np.full(n, -1, np.int32), []),
        end_time_ns=nanoseconds(AT) + np.arange(n, dtype=np.int64),
        input_tokens=np.ones(n, np.int64),
        output_tokens=np.ones(n, np.int64),
    )
    book.price_columns(inputs)
    book.price_columns(inputs)
    assert sorted(asked) == ["gpt-4o", "gpt-4o-mini"]


def test_the_users_table_counts_before_the_price_list() -> None:
    """An entry for gpt-4o of one provider replaces that provider's price only."""
    entries = parse_overrides(
        [{"model": "gpt-4o", "provider": "azure", "input": "1", "output": "2"}], "test"
    )
    book = PriceBook(entries)
    assert priced(book, "gpt-4o", provider="azure.ai.openai") == (3_000_000, "priced")
    assert priced(book, "azure/gpt-4o") == (3_000_000, "priced")
    assert priced(book, "gpt-4o", provider="openai") == (12_500_000, "priced")
