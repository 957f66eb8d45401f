"""The cost calculator: seed's calls, exact money, custom prices, and models nobody knows."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from datetime import UTC, date, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from pyflare import cost
from pyflare.cost import (
    MODEL_PRICING,
    CostCalculator,
    CostResult,
    ModelPricing,
    ModelProvider,
    PricingTier,
    TokenUsage,
    calculate_cost,
    get_cost_calculator,
)

AT = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)


@pytest.fixture
def calculator() -> CostCalculator:
    """Return a calculator of the test's own."""
    return CostCalculator()


def custom(model: str, price: Any = 1, output: Any = 2, **more: Any) -> ModelPricing:
    """Return a price of one dollar in and two out per million tokens."""
    return ModelPricing(model, more.pop("provider", ModelProvider.CUSTOM), price, output, **more)


def nano(result: CostResult) -> int | None:
    """Return the exact cost."""
    return result.cost_nano_usd


# The API that users were promised


def test_the_first_example_of_the_guide() -> None:
    """1,000 tokens at $2.50 and 500 at $10 a million: $0.0025 + $0.005."""
    result = calculate_cost("gpt-4o", input_tokens=1000, output_tokens=500)

    assert f"Cost: ${result.total_dollars:.4f}" == "Cost: $0.0075"
    assert (result.input_micros, result.output_micros, result.total_micros) == (2500, 5000, 7500)
    assert result.estimated is False
    assert (result.cost_nano_usd, result.cost_usd) == (7_500_000, "0.0075")
    assert (result.input_nano_usd, result.output_nano_usd) == (2_500_000, 5_000_000)
    assert (result.status, result.model, result.provider) == ("priced", "gpt-4o", "openai")
    assert result.price_source.startswith("genai-prices ")
    assert str(result) == "$0.0075"


def test_the_second_example_of_the_guide() -> None:
    """A custom model is added to the process's calculator and priced by it."""
    calculator = get_cost_calculator()
    assert calculator is get_cost_calculator()
    calculator.add_pricing(
        ModelPricing(
            model_id="my-custom-model",
            provider=ModelProvider.CUSTOM,
            input_price_per_million=1.0,
            output_price_per_million=2.0,
        )
    )
    try:
        result = calculate_cost("my-custom-model", 3, 5)
    finally:
        calculator.remove_pricing("my-custom-model")

    assert (nano(result), result.price_source, result.estimated) == (13_000, "custom", False)
    assert not calculate_cost("my-custom-model", 3, 5).priced


def test_the_seeds_types_take_their_arguments_by_place() -> None:
    """Field order as the guide has it."""
    pricing = ModelPricing("gpt-4o", ModelProvider.OPENAI, 2.50, 10.00, 128000)
    assert (pricing.context_window, pricing.supports_vision) == (128000, False)
    result = CostResult(1, 2, 3, 0.000003)
    assert (result.total_micros, result.estimated) == (3, False)
    assert TokenUsage(3, 4).total_tokens == 7


@pytest.mark.parametrize(
    ("model", "provider", "price", "output"),
    [
        ("gpt-4o", ModelProvider.OPENAI, 2.5, 10.0),
        ("gpt-4o-mini", ModelProvider.OPENAI, 0.15, 0.6),
        ("gpt-4-turbo", ModelProvider.OPENAI, 10.0, 30.0),
        ("claude-3-5-sonnet-20241022", ModelProvider.ANTHROPIC, 3.0, 15.0),
        ("claude-3-opus-20240229", ModelProvider.ANTHROPIC, 15.0, 75.0),
    ],
)
def test_every_model_of_the_guide_has_the_price_of_the_guide(
    calculator: CostCalculator, model: str, provider: ModelProvider, price: float, output: float
) -> None:
    """By `get_pricing`, by `MODEL_PRICING` and by `pricing`."""
    for found in (calculator.get_pricing(model), MODEL_PRICING[model], calculator.pricing[model]):
        assert found is not None
        assert (found.provider, found.input_price_per_million, found.output_price_per_million) == (
            provider,
            price,
            output,
        )


def test_prices_are_a_mapping(calculator: CostCalculator) -> None:
    """As the guide's dictionaries were: look up, set, delete, iterate."""
    assert "gpt-4o" in calculator.pricing
    assert "nobody" not in calculator.pricing
    calculator.pricing["nobody"] = custom("x", 7)
    assert calculator.pricing["nobody"].input_price_per_million == 7
    assert next(iter(calculator.pricing)) == "nobody"
    assert "nobody" not in MODEL_PRICING
    del calculator.pricing["nobody"]
    assert "nobody" not in calculator.pricing
    assert len(MODEL_PRICING) > 500


# Names


def test_a_name_means_the_longest_model_that_it_fits(calculator: CostCalculator) -> None:
    """`gpt-4o-mini-2024-07-18` begins with `gpt-4o` and is `gpt-4o-mini`."""
    mini = calculator.calculate("gpt-4o-mini-2024-07-18", TokenUsage(1_000_000, 1_000_000))
    assert (mini.model, mini.total_dollars, mini.estimated) == ("gpt-4o-mini", 0.75, False)
    calculator.add_pricing(custom("my-model", 1))
    calculator.add_pricing(custom("my-model-mini", 9))
    assert nano(calculator.calculate("my-model-mini-v2", TokenUsage(1, 0))) == 9_000
    assert nano(calculator.calculate("my-model-v2", TokenUsage(1, 0))) == 1_000
    assert not calculator.calculate("my-modelling", TokenUsage(1, 0)).priced


@pytest.mark.parametrize(
    ("name", "provider", "status"),
    [
        ("openai/gpt-4o", "", "priced"),
        ("azure/gpt-4o", "", "priced"),
        ("GPT-4o", "OpenAI", "priced"),
        ("gpt-4o", "azure.ai.openai", "priced"),
        ("gpt-4o", ModelProvider.AZURE, "priced"),
        ("gpt-4o-2024-08-06", "", "priced"),
        ("ft:gpt-4o:acme::1", "openai", "approximate"),
        ("gpt-4o-turbo-ultra", "", "unpriced"),
        ("gpt-4o", "ollama", "unpriced"),
        ("", "", "unpriced"),
        ("x" * 5000, "y" * 5000, "unpriced"),
    ],
)
def test_status_of_names(calculator: CostCalculator, name: str, provider: str, status: str) -> None:
    """A near model is an estimate, a made-up one is nothing."""
    result = calculator.calculate(name, TokenUsage(1, 1), provider=provider, at=AT)
    assert result.status == status
    assert result.estimated is (status != "priced")


def test_an_unknown_model_is_never_silently_free(
    calculator: CostCalculator, caplog: pytest.LogCaptureFixture
) -> None:
    """The amounts are those of the guide, and four things say that they are not known."""
    with caplog.at_level(logging.WARNING, "pyflare.cost"):
        for _ in range(3):
            result = calculator.calculate("no-such-model", TokenUsage(1000, 1000))

    assert (result.total_micros, result.total_dollars, result.estimated) == (0, 0.0, True)
    assert result.cost_nano_usd is None
    assert result.cost_usd is None
    assert not result.priced
    assert result.status == "unpriced"
    assert str(result) == "unpriced (no price is known for this model)"
    assert caplog.text.count("no-such-model") == 1
    assert "unpriced, not free" in caplog.text
    assert calculator.get_pricing("no-such-model") is None


def test_made_up_names_do_not_fill_the_memory(calculator: CostCalculator) -> None:
    """Names come from outside: neither look-ups nor warnings grow without bound."""
    for i in range(3000):
        calculator.calculate(f"junk-{i}", TokenUsage(1, 1))
    assert cost._catalog().match.cache_info().currsize <= 2048
    assert len(calculator._warned) <= 1000


# Money


def test_cached_tokens_by_hand(calculator: CostCalculator) -> None:
    """Sonnet 4.5: $3 in, $0.30 read, $3.75 and $6 (an hour) written, $15 out.

    100 in, of which 54 read and 10 written, 4 of them for an hour; 50 out:
    36*3 + 54*0.3 + 6*3.75 + 4*6 + 50*15 = 920.7 micro-dollars.
    """
    usage = TokenUsage(100, 50, 54, 10, 4)
    result = calculator.calculate("claude-sonnet-4-5", usage, at=AT)
    assert nano(result) == 920_700
    assert (result.input_nano_usd, result.output_nano_usd) == (170_700, 750_000)
    assert (result.input_micros, result.output_micros, result.total_micros) == (171, 750, 921)


def test_tiers_by_hand(calculator: CostCalculator) -> None:
    """Gemini 2.5 Pro: above 200,000 input tokens all of them cost $2.50 instead of $1.25."""
    below = calculator.calculate("gemini-2.5-pro", TokenUsage(200_000, 1000), at=AT)
    above = calculator.calculate("gemini-2.5-pro", TokenUsage(200_001, 1000), at=AT)
    assert nano(below) == 200_000 * 1_250 + 1000 * 10_000
    assert nano(above) == 200_001 * 2_500 + 1000 * 15_000


def test_the_price_of_the_day_and_of_the_hour(calculator: CostCalculator) -> None:
    """o3 cost $10 until June 2025 and $2 after; DeepSeek was cheaper at night."""
    old, new = datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 7, 1)  # noqa: DTZ001 - naive is UTC
    assert calculator.calculate("o3", TokenUsage(1_000_000), at=old).total_dollars == 10
    assert calculator.calculate("o3", TokenUsage(1_000_000), at=new).total_dollars == 2
    day, night = (datetime(2025, 7, 1, hour, tzinfo=UTC) for hour in (12, 17))
    usage = TokenUsage(1_000_000)
    assert calculator.calculate("deepseek-chat", usage, at=day).total_dollars == 0.27
    assert calculator.calculate("deepseek-chat", usage, at=night).total_dollars == 0.135


def test_batch_and_service_tiers(calculator: CostCalculator) -> None:
    """Half for a batch; a tier without a price of its own is an estimate."""
    usage = TokenUsage(1_000_000, 1_000_000)
    plain = calculator.calculate("gpt-4o", usage, at=AT)
    for batch in (
        calculator.calculate("gpt-4o", usage, at=AT, batch=True),
        calculator.calculate("gpt-4o", usage, at=AT, service_tier="batch"),
    ):
        assert (batch.total_micros, batch.status) == (plain.total_micros // 2, "priced")
    flex = calculator.calculate("gpt-4o", usage, at=AT, service_tier="flex")
    assert (flex.total_micros, flex.status) == (plain.total_micros, "approximate")
    assert calculator.calculate("gpt-4o", usage, at=AT, service_tier="standard") == plain


def test_a_small_call_is_not_rounded_away(calculator: CostCalculator) -> None:
    """7 tokens at $0.02 a million are 140 nano-dollars, 0 micro-dollars."""
    result = calculator.calculate("text-embedding-3-small", TokenUsage(7), at=AT)
    assert (nano(result), result.total_micros, result.cost_usd) == (140, 0, "0.00000014")
    assert result.total_dollars == 1.4e-07


@pytest.mark.parametrize("price", [0.1, "0.1", Decimal("0.1")])
def test_prices_are_decimal_numbers(calculator: CostCalculator, price: Any) -> None:
    """Three tokens at $0.10 are 300 nano-dollars, however the price is written."""
    calculator.add_pricing(custom("m", price, "0.000000000000000001"))
    assert nano(calculator.calculate("m", TokenUsage(3))) == 300
    # 1e-18 dollars a million tokens: ten times the largest count is not half a nano-dollar.
    assert nano(calculator.calculate("m", TokenUsage(0, 2**33))) == 0


def test_half_a_nano_dollar_is_rounded_to_even(calculator: CostCalculator) -> None:
    """$0.0005 a million is half a nano-dollar a token."""
    calculator.add_pricing(custom("m", "0.0005", 0))
    costs = [nano(calculator.calculate("m", TokenUsage(n))) for n in (1, 2, 3, 5, 7)]
    assert costs == [0, 1, 2, 2, 4]


def test_the_two_parts_add_up(calculator: CostCalculator) -> None:
    """Rounding never makes the parts differ from the whole."""
    calculator.add_pricing(custom("m", "0.0005", "0.0005", price_per_request="0.0000000005"))
    for n in range(20):
        result = calculator.calculate("m", TokenUsage(n, n + 1))
        assert result.input_micros + result.output_micros == result.total_micros
        assert (result.input_nano_usd or 0) + (result.output_nano_usd or 0) == nano(result)


def test_audio_reasoning_and_the_call_itself(calculator: CostCalculator) -> None:
    """10*1 + 5*40 + 3*20 (audio) + 4*2 + 6*3 (reasoning) + 2*50 (audio) + $0.01."""
    calculator.add_pricing(
        custom(
            "m",
            reasoning_price_per_million=3,
            audio_input_price_per_million=20,
            audio_output_price_per_million=50,
            cache_read_price_per_million=40,
            price_per_request="0.01",
        )
    )
    usage = TokenUsage(18, 12, 5, reasoning_tokens=6, audio_input_tokens=3, audio_output_tokens=2)
    micros = 10 * 1 + 5 * 40 + 3 * 20 + 4 * 2 + 6 * 3 + 2 * 50
    assert nano(calculator.calculate("m", usage)) == micros * 1000 + 10_000_000


def test_parts_beyond_their_total_are_an_estimate(calculator: CostCalculator) -> None:
    """Anthropic's input tokens leave the cache out: a count that cannot be is said to be."""
    calculator.add_pricing(custom("m", cache_read_price_per_million="0.1"))
    result = calculator.calculate("m", TokenUsage(36, 0, 54))
    assert (nano(result), result.status, result.estimated) == (5_400, "approximate", True)


@pytest.mark.parametrize("count", [-1, 1.5, None, "7"])
def test_what_is_no_count_is_refused(calculator: CostCalculator, count: Any) -> None:
    """With its name and value."""
    with pytest.raises(ValueError, match=rf"input_tokens is {count!r}, not a count"):
        calculator.calculate("gpt-4o", TokenUsage(count, 1))


def test_none_is_no_part() -> None:
    """Clients answer None for what they do not count."""
    assert nano(calculate_cost("gpt-4o", 4, 0, cache_read_tokens=None)) == 10_000


def test_a_count_that_cannot_be_real_is_unpriced(calculator: CostCalculator) -> None:
    """As in the collector: above 2^33 tokens."""
    assert calculator.calculate("gpt-4o", TokenUsage(2**33)).priced
    assert not calculator.calculate("gpt-4o", TokenUsage(2**33 + 1)).priced


# Custom prices


def test_a_custom_price_comes_first(calculator: CostCalculator) -> None:
    """For the model, its prefixed and dated names; not for models that are others."""
    calculator.add_pricing(custom("gpt-4o", 1, 1, provider=ModelProvider.OPENAI))
    usage = TokenUsage(1_000_000)
    for name in ("gpt-4o", "openai/gpt-4o", "GPT-4o", "gpt-4o-2024-08-06"):
        assert calculator.calculate(name, usage, at=AT).total_dollars == 1, name
    mini = calculator.calculate("gpt-4o-mini-2024-07-18", usage, at=AT)
    assert (mini.total_dollars, mini.price_source[:12]) == (0.15, "genai-prices")
    # It has a price of its own in the list, and is the longer name.
    assert calculator.calculate("gpt-4o-2024-05-13", usage, at=AT).total_dollars == 5
    assert calculator.calculate("gpt-4o", usage, provider="azure", at=AT).total_dollars == 2.5


def test_custom_prices_by_tier_batch_day_and_provider(calculator: CostCalculator) -> None:
    """The price that is meant most precisely holds; the newest of equal ones."""
    calculator.add_pricing(custom("m", 1))
    calculator.add_pricing(custom("m", 2, batch=True))
    calculator.add_pricing(custom("m", 3, service_tier="flex"))
    calculator.add_pricing(custom("m", 4, provider="groq"))
    calculator.add_pricing(custom("m", 5, valid_from=date(2030, 1, 1), valid_to=date(2031, 1, 1)))
    calculator.add_pricing(custom("m", 6, valid_from=date(2032, 1, 1)))

    def price(**context: Any) -> float:
        return calculator.calculate("m", TokenUsage(1_000_000), **context).total_dollars

    assert price(at=AT, provider="x") == 1
    assert price(at=AT, provider="x", batch=True) == 2
    assert price(at=AT, provider="x", service_tier="flex") == 3
    assert price(at=AT, provider="groq") == 4
    assert price(at=datetime(2030, 12, 31, 23, tzinfo=UTC), provider="x") == 5
    assert price(at=datetime(2031, 1, 1, tzinfo=UTC), provider="x") == 1
    assert price(at=datetime(2033, 1, 1, tzinfo=UTC), provider="x") == 6
    calculator.add_pricing(custom("m", 8))
    assert price(at=AT, provider="x") == 8
    found = calculator.get_pricing("m", at=AT, provider="x", batch=True)
    assert found is not None
    assert found.input_price_per_million == 2


def test_custom_tiers_and_patterns(calculator: CostCalculator) -> None:
    """A tier holds for all tokens; a pattern for many names, a name before patterns."""
    tier = PricingTier(1000, input_price_per_million=5, cache_read_price_per_million=1)
    calculator.add_pricing(custom("llama-*-chat", tiers=(tier,)))
    calculator.add_pricing(custom("llama-7-chat", 9))
    assert nano(calculator.calculate("llama-3-chat", TokenUsage(1000, 1))) == 1000 * 1000 + 2000
    above = calculator.calculate("llama-3-chat", TokenUsage(1001, 1, 1))
    assert nano(above) == 1000 * 5000 + 1 * 1000 + 2000
    assert nano(calculator.calculate("llama-7-chat", TokenUsage(1))) == 9000
    assert not calculator.calculate("llama-3", TokenUsage(1)).priced


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"price": -1}, r"input_price_per_million of m is -1, not a number from 0 to 100000"),
        ({"price": float("nan")}, r"input_price_per_million of m is nan"),
        ({"output": "dear"}, r"output_price_per_million of m is 'dear'"),
        ({"price": None}, r"input_price_per_million of m is None"),
        ({"model": " "}, r"model_id is ' ', not a model's name"),
        ({"valid_from": date(2026, 1, 2), "valid_to": date(2026, 1, 2)}, r"ends before it starts"),
        ({"tiers": (PricingTier(5), PricingTier(5))}, r"tiers of m do not ascend: 5 after 5"),
    ],
)
def test_prices_that_make_no_sense_are_refused(
    calculator: CostCalculator, change: dict[str, Any], message: str
) -> None:
    """With what is wrong and its value; nothing is added."""
    model = change.pop("model", "m")
    with pytest.raises(ValueError, match=message):
        calculator.add_pricing(custom(model, **change))
    assert not calculator._custom


def test_a_price_that_was_added_is_not_changed_from_outside(calculator: CostCalculator) -> None:
    """`ModelPricing` can be changed; what was added is a copy."""
    pricing = custom("m", 1)
    calculator.add_pricing(pricing)
    pricing.input_price_per_million = 100
    assert nano(calculator.calculate("m", TokenUsage(1))) == 1000


def test_get_pricing_tells_tiers_and_parts(calculator: CostCalculator) -> None:
    """All that the list prices, as numbers to read."""
    found = calculator.get_pricing("gemini-2.5-pro", at=AT)
    assert found is not None
    assert found.cache_read_price_per_million == 0.125
    assert found.cache_write_price_per_million is None
    (tier,) = found.tiers
    assert (tier.above_tokens, tier.output_price_per_million) == (200_000, 15)
    gpt = calculator.get_pricing("gpt-4o", at=AT)
    assert gpt is not None
    assert gpt.context_window == 128_000


def test_threads_may_add_and_ask(calculator: CostCalculator) -> None:
    """No price is lost, no call fails."""
    failures: list[BaseException] = []

    def work(i: int) -> None:
        try:
            for j in range(20):
                calculator.add_pricing(custom(f"m-{i}-{j}"))
                assert nano(calculator.calculate(f"m-{i}-{j}", TokenUsage(1))) == 1000
        except BaseException as error:  # noqa: BLE001 - brought to the test's thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(calculator._custom) == 160


# Usage as providers answer it


def test_usage_of_openai_and_anthropic() -> None:
    """OpenAI counts cached tokens within the input, Anthropic beside it."""
    chat = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "prompt_tokens_details": {"cached_tokens": 54, "audio_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 7, "audio_tokens": 3},
    }
    expected = TokenUsage(100, 50, 54, 0, 0, 7, 2, 3)
    assert TokenUsage.from_response(chat) == expected
    responses = SimpleNamespace(
        input_tokens=100,
        output_tokens=50,
        input_tokens_details=SimpleNamespace(cached_tokens=54),
        output_tokens_details=SimpleNamespace(reasoning_tokens=7),
    )
    assert TokenUsage.from_response(responses) == TokenUsage(100, 50, 54, 0, 0, 7)
    assert TokenUsage.from_response({"prompt_tokens": 7, "total_tokens": 7}) == TokenUsage(7)
    messages = {
        "input_tokens": 36,
        "output_tokens": 50,
        "cache_read_input_tokens": 54,
        "cache_creation_input_tokens": 10,
        "cache_creation": {"ephemeral_1h_input_tokens": 4, "ephemeral_5m_input_tokens": 6},
    }
    assert TokenUsage.from_response(messages) == TokenUsage(100, 50, 54, 10, 4)
    bare = {"input_tokens": 3, "output_tokens": 4, "cache_read_input_tokens": None}
    assert TokenUsage.from_response(bare) == TokenUsage(3, 4)
    assert TokenUsage.from_response(None) == TokenUsage()


# Weight


def test_importing_reads_no_prices() -> None:
    """The snapshot is read at the first question, and no price library is needed."""
    code = (
        "import sys; sys.path.insert(0, 'sdk'); import pyflare.cost as c;"
        "assert 'pyflare._prices.catalog' not in sys.modules;"
        "assert c.calculate_cost('gpt-4o', 1000, 500).total_micros == 7500;"
        "assert not {'genai_prices', 'pydantic', 'numpy', 'opentelemetry.sdk'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
