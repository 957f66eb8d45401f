"""What genai-prices and the suite say, for the tests of the SDK's price snapshot."""

from __future__ import annotations

import importlib.util
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

from genai_prices import Usage
from genai_prices.types import ModelInfo, Provider

from pyflare._prices.catalog import SNAPSHOT, Catalog, load_catalog
from pyflare.types import TokenUsage

__all__ = ["generator", "nano_of_library", "usage_of", "working_catalog"]

ROOT = Path(__file__).parents[2]


def generator() -> ModuleType:
    """Import the script that writes the snapshot."""
    path = ROOT / "fixtures/generate_price_snapshot.py"
    spec = importlib.util.spec_from_file_location("generate_price_snapshot", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def working_catalog() -> Catalog:
    """Return the committed snapshot, or a fresh one where another genai-prices is installed.

    Prices change almost daily: a newer library must not make the comparison fail, and
    must not make it pass by being skipped either.
    """
    script = generator()
    committed = load_catalog(SNAPSHOT)
    if committed.source == script.snapshot()["source"]:
        return committed
    with TemporaryDirectory() as folder:
        path = Path(folder) / "snapshot.json"
        script.write(path)
        return load_catalog(path)


def usage_of(counts: dict[str, int]) -> TokenUsage:
    """Return genai-prices' usage keys as ours."""
    names = {
        "input_tokens": "input_tokens",
        "output_tokens": "output_tokens",
        "cache_read_tokens": "cache_read_tokens",
        "cache_write_tokens": "cache_write_tokens",
        "cache_write_1h_tokens": "cache_write_1h_tokens",
        "output_reasoning_tokens": "reasoning_tokens",
        "input_audio_tokens": "audio_input_tokens",
        "output_audio_tokens": "audio_output_tokens",
    }
    return TokenUsage(**{names[key]: count for key, count in counts.items() if key in names})


def nano_of_library(
    provider: Provider,
    model: ModelInfo,
    usage: dict[str, int],
    at: datetime,
    context: dict[str, str] | None = None,
) -> int:
    """Return genai-prices' total in nano-dollars, rounded once, half to even."""
    price = model.calc_price(
        Usage(**usage), provider, genai_request_timestamp=at, price_context=context
    )
    return int((price.total_price * 10**9).quantize(Decimal(1), rounding=ROUND_HALF_EVEN))
