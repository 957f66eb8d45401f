"""The SDK's prices against a second opinion, LiteLLM's list: every disagreement has a reason."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from types import ModuleType

import pytest

from pyflare._prices.catalog import load_catalog
from tests.sdk.price_oracle import ROOT
from tests.shared_data import shared_path

AT = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)

STATED_DIFFERENTLY = {
    "bedrock/us-gov-east-1/amazon.titan-embed-text-v2:0",
    "bedrock/us-gov-east-1/amazon.titan-text-express-v1",
    "bedrock/us-gov-east-1/meta.llama3-8b-instruct-v1:0",
    "bedrock/us-gov-west-1/amazon.titan-embed-text-v2:0",
    "bedrock/us-gov-west-1/amazon.titan-text-express-v1",
    "cloudflare/@cf/meta/llama-2-7b-chat-fp16",
    "cloudflare/@cf/mistral/mistral-7b-instruct-v0.1",
    "deepseek/deepseek-v3.2",
    "fireworks_ai/accounts/fireworks/models/deepseek-v4-flash-0731",
    "fireworks_ai/accounts/fireworks/models/deepseek-v4-pro",
    "fireworks_ai/accounts/fireworks/models/gemma-3-27b-it",
    "fireworks_ai/accounts/fireworks/models/llama-v3p1-8b-instruct",
    "gemini-2.5-flash-lite",
    "gemini-3.5-flash-lite",
    "gpt-4o-mini-transcribe",
    "gpt-4o-mini-tts",
    "gpt-4o-transcribe",
    "gpt-4o-transcribe-diarize",
    "mistral/open-mistral-nemo",
    "novita/deepseek/deepseek-v4-pro-0813",
    "novita/mindai/macaron-v1-tall",
    "novita/mindai/macaron-v1-venti",
    "novita/mistralai/mistral-nemo",
    "perplexity/sonar",
    "together_ai/NousResearch/Nous-Hermes-2-Mixtral-8x7B-DPO",
    "together_ai/Qwen/Qwen3.7-Max",
    "together_ai/Qwen/Qwen3.8-2.4T-A95B",
    "together_ai/meta-llama/Llama-3.3-70B-Instruct-Turbo",
    "together_ai/mistralai/Mixtral-8x7B-Instruct-v0.1",
    "vertex_ai/claude-3-5-haiku",
    "vertex_ai/claude-3-5-haiku@20241022",
    "vertex_ai/gemini-2.0-flash",
    "vertex_ai/gemini-3.5-flash-lite",
    "xai/grok-code-fast-1",
    "xai/grok-code-fast-1-0825",
}
"""Models whose prices the two lists state differently without a reason that they tell.

Looked at one by one when the snapshot was made; a model that is not here is news.
"""


def script() -> ModuleType:
    """Import the script that compares."""
    path = ROOT / "fixtures/compare_prices.py"
    spec = importlib.util.spec_from_file_location("compare_prices", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # A module must be known by its name for its dataclasses to be made.
    __import__("sys").modules["compare_prices"] = module
    spec.loader.exec_module(module)
    return module


def test_every_disagreement_with_litellm_has_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """7,000 rates of 1,300 models: those that differ differ for one of twelve reasons."""
    path = shared_path("data", "prices", "litellm-model-prices-1.109.1.json")
    compare = script()
    document = json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)

    found, counted = compare.differences(document, load_catalog(), AT)

    assert counted["models compared"] > 1_000
    assert counted["rates compared"] > 7_000
    assert counted["models that agree on every rate"] > 600
    assert {d.reason for d in found} <= set(compare.REASONS)
    stated = {d.key for d in found if d.reason == "different statement"}
    assert stated == STATED_DIFFERENTLY
    # OpenAI's and Anthropic's own models: their standard prices agree.
    plain = Counter(
        d.key for d in found if d.reason == "different statement" and not d.rate.context
    )
    assert not [key for key in plain if key.startswith(("claude", "o3", "o4", "gpt-4o-20"))]
    compare.main(str(path))
    assert "rates that differ" in capsys.readouterr().out
