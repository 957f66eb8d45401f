"""The SDK's snapshot against genai-prices and against the suite, to the nano-dollar."""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, Provider

from pyflare import cost
from pyflare._prices.catalog import SNAPSHOT, load_catalog
from pyflare.cost import CostCalculator
from pyflare.types import TokenUsage
from pyflare_proto.record import COST_STATUSES
from pyflare_storage.prices import Coded, PriceBook, PriceInputs
from tests.sdk.price_oracle import generator, nano_of_library, usage_of, working_catalog

DATES = (
    datetime(2024, 6, 1, 12, tzinfo=UTC),
    datetime(2025, 1, 15, 12, tzinfo=UTC),
    datetime(2025, 7, 1, 0, 30, tzinfo=UTC),
    datetime(2025, 7, 1, 17, tzinfo=UTC),
    datetime(2026, 2, 28, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(2026, 11, 22, 12, 30, tzinfo=UTC),
)
USAGES: tuple[dict[str, int], ...] = (
    {"input_tokens": 1234, "output_tokens": 567},
    {"input_tokens": 100, "cache_read_tokens": 54, "cache_write_tokens": 10,
     "cache_write_1h_tokens": 4, "output_tokens": 50},
    {"input_tokens": 200_000, "output_tokens": 1},
    {"input_tokens": 272_001, "cache_read_tokens": 150_001, "output_tokens": 77_777},
    {"input_tokens": 5000, "input_audio_tokens": 3000, "output_tokens": 900,
     "output_audio_tokens": 801, "cache_audio_read_tokens": 0},
    {"input_tokens": 11, "output_tokens": 999, "output_reasoning_tokens": 640},
    {"input_tokens": 1},
)  # fmt: skip
LISTED = [(provider, model) for provider in get_snapshot().providers for model in provider.models]


@pytest.fixture(autouse=True)
def calculator(monkeypatch: pytest.MonkeyPatch) -> CostCalculator:
    """Return a calculator over the snapshot of the installed library."""
    monkeypatch.setattr(cost, "_catalog", working_catalog)
    return CostCalculator()


def by_token(model: ModelInfo, at: datetime) -> bool:
    """Return whether the library prices the model by tokens at that moment."""
    price = model.get_prices(at)
    return price.input_mtok is not None or price.output_mtok is not None


def found(provider: Provider, name: str) -> ModelInfo | None:
    """Return what the library itself reads a name as."""
    return provider.find_model(name, all_providers=get_snapshot().providers)


def test_every_listed_model_costs_what_genai_prices_says(calculator: CostCalculator) -> None:
    """All 2,330 models at different dates: plain, cached, tiered, audio, reasoning calls."""
    rng = random.Random(20261126)
    compared: Counter[str] = Counter()
    for provider, model in LISTED:
        moving = isinstance(model.prices, list)
        for at in DATES if moving else rng.sample(DATES, 1):
            for usage in USAGES if moving else rng.sample(USAGES, 3):
                meant = found(provider, model.id)
                if meant is None:
                    continue
                result = calculator.calculate(
                    model.id, usage_of(usage), provider=provider.id, at=at
                )
                if not by_token(meant, at):
                    free = meant.id.endswith(":free")
                    assert result.cost_nano_usd == (0 if free else None), (provider.id, model.id)
                    continue
                expected = nano_of_library(provider, meant, usage, at)
                assert result.cost_nano_usd == expected, (provider.id, model.id, at, usage)
                assert result.status == "priced"
                compared[model.id] += 1
    assert len(compared) >= 1500
    assert compared.total() > 5000


@pytest.mark.parametrize(
    ("tier", "batch", "context"),
    [
        (None, True, {"processing": "batch"}),
        ("batch", False, {"processing": "batch"}),
        ("flex", False, {"service_tier": "flex"}),
        ("priority", False, {"service_tier": "priority"}),
    ],
)
def test_contexts_cost_what_genai_prices_says(
    calculator: CostCalculator,
    tier: str | None,
    batch: bool,  # noqa: FBT001 - a parameter of the test
    context: dict[str, str],
) -> None:
    """Batch, flex and priority calls of every model that lists them, before and after."""
    compared = 0
    for provider, model in LISTED:
        kinds = [variant.when for variant in model.price_variants or ()]
        if context not in kinds or found(provider, model.id) is not model:
            continue
        if not by_token(model, DATES[5]):
            continue
        for at in (DATES[3], DATES[5]):
            for usage in USAGES[:4]:
                result = calculator.calculate(
                    model.id,
                    usage_of(usage),
                    provider=provider.id,
                    at=at,
                    service_tier=tier,
                    batch=batch,
                )
                expected = nano_of_library(provider, model, usage, at, context)
                assert result.cost_nano_usd == expected, (provider.id, model.id, at, usage)
                compared += 1
    assert compared >= 100


def names_in_the_wild() -> list[tuple[str, str]]:
    """Return (provider, model) as emitters write them: prefixes, dates, regions, tags."""
    rng = random.Random(3)
    plain = [("", model.id) for _, model in LISTED]
    named = [(provider.id, model.id) for provider, model in LISTED]
    some = rng.sample(named, 400)
    wild = [("", f"{provider}/{model}") for provider, model in some]
    wild += [("langchain", f"{provider}:{model}") for provider, model in some]
    wild += [(provider, f"{model}-2026-05-01") for provider, model in some]
    wild += [(provider, f"{model}-20260501") for provider, model in some]
    wild += [("my-proxy", model) for _, model in some]
    wild += [("aws.bedrock", f"us.{model}") for provider, model in named if provider == "aws"]
    wild += [("gcp.vertex_ai", f"publishers/google/models/{m}") for p, m in named if p == "google"]
    wild += [("az.ai.openai", model) for provider, model in named if provider == "openai"]
    wild += [("ollama", model) for _, model in some[:20]]
    wild += [
        ("openai", "ft:gpt-4o-mini-2024-07-18:acme::abc"),
        ("openai", "GPT-4o"),
        ("openai", "gpt-4o-mini-2024-07-18"),
        ("openai", "gpt-4o-2024-08-06"),
        ("openai", "gpt-4o-20240806"),
        ("", "openai:gpt-4o"),
        ("", "anthropic/claude-sonnet-4.5"),
        ("", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("", "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-lite-v1:0"),
        ("", "models/gemini-2.5-pro"),
        ("", "text-embedding-3-small"),
        ("", "nobody-knows-this"),
        ("", ""),
        ("", "x" * 300),
    ]
    return [*plain, *wild, *rng.sample(named, 500)]


def test_names_mean_what_the_suite_reads_in_them(calculator: CostCalculator) -> None:
    """The SDK and the collector agree on model, provider, certainty and cost of any name."""
    book = PriceBook()
    at = DATES[5]
    statuses: Counter[str] = Counter()
    for provider, model in dict.fromkeys(names_in_the_wild()):
        ours = calculator.calculate(model, TokenUsage(1234, 567, 100), provider=provider, at=at)
        statuses[ours.status] += 1
        day = book.day_prices(provider, "", model, at.date())
        if day is None or day.cards == (None,):
            assert not ours.priced, (provider, model, ours)
            continue
        theirs = book.quote(
            model,
            input_tokens=1234,
            output_tokens=567,
            cache_read_tokens=100,
            provider=provider,
            at=at,
        )
        assert (ours.model, ours.provider, ours.status, ours.cost_nano_usd) == (
            theirs.resolved_model,
            theirs.provider,
            theirs.status,
            theirs.cost_nano_usd,
        ), (provider, model)
        assert ours.cost_usd == theirs.cost_usd
    assert statuses["priced"] > 1000
    assert statuses["approximate"] > 100
    assert statuses["unpriced"] > 100


def test_any_call_costs_what_the_collector_says(calculator: CostCalculator) -> None:
    """4,000 random calls: parts that exceed their totals, tiers, batch, days and hours."""
    rng = random.Random(11)
    n = 4000
    picked = [rng.choice(LISTED) for _ in range(n)]
    counts = [[rng.choice([0, 0, 1, 77, 10**5, 10**7]) for _ in range(8)] for _ in range(n)]
    for row in counts:
        row[4] = min(row[3], row[4])
    tiers = [rng.choice(["", "default", "flex", "priority", "batch", "auto"]) for _ in range(n)]
    batch = [rng.random() < 0.2 for _ in range(n)]
    ends = [rng.choice(DATES) for _ in range(n)]
    columns = np.array(counts, dtype=np.int64).T
    priced = PriceBook().price_columns(
        PriceInputs(
            provider=coded([provider.id for provider, _ in picked]),
            model_response=coded([model.id for _, model in picked]),
            model_request=Coded(np.full(n, -1, dtype=np.int32), ()),
            end_time_ns=np.array([nanoseconds(end) for end in ends], dtype=np.int64),
            input_tokens=columns[0],
            output_tokens=columns[1],
            cache_read_tokens=columns[2],
            cache_write_tokens=columns[3],
            cache_write_1h_tokens=columns[4],
            reasoning_tokens=columns[5],
            audio_input_tokens=columns[6],
            audio_output_tokens=columns[7],
            service_tier=coded(tiers),
            batch=np.array(batch),
        )
    )
    for i, (provider, model) in enumerate(picked):
        result = calculator.calculate(
            model.id,
            TokenUsage(*counts[i]),
            provider=provider.id,
            at=ends[i],
            service_tier=tiers[i],
            batch=batch[i],
        )
        where = (provider.id, model.id, counts[i], tiers[i], batch[i], ends[i])
        expected = int(priced.cost_nano_usd[i]) if priced.valid[i] else None
        assert result.cost_nano_usd == expected, where
        assert result.status == COST_STATUSES[priced.status[i]], where


def coded(values: list[str]) -> Coded:
    """Return a column of strings as the price book takes it."""
    distinct = sorted(set(values))
    place = {value: i for i, value in enumerate(distinct)}
    return Coded(np.array([place[value] for value in values], dtype=np.int32), distinct)


def nanoseconds(moment: datetime) -> int:
    """Return a moment as nanoseconds since 1970, exactly."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


def test_the_committed_snapshot_is_what_the_script_writes() -> None:
    """Nobody edits it by hand: the installed library of the same version gives the same file."""
    script = generator()
    document, committed = script.snapshot(), json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    if document["source"] != committed["source"]:
        pytest.skip(f"installed is {document['source']}, the snapshot is of {committed['source']}")
    document["generated"] = committed["generated"]

    assert document == committed
    assert "MIT License" in committed["notice"]


def test_a_written_snapshot_reads_back(tmp_path: Path) -> None:
    """The script's file is a snapshot, dated, with every model of the library."""
    path = tmp_path / "snapshot.json"
    generator().write(path)

    catalog = load_catalog(path)

    assert set(catalog.model_names()) == {model.id for _, model in LISTED}
    assert datetime.fromisoformat(catalog.generated)
    assert path.stat().st_size < 600_000
