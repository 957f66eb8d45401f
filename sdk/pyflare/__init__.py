"""PyFlare's SDK: traces, token usage and cost of LLM calls, on OpenTelemetry.

    import pyflare

    pyflare.init("my-service")

    @pyflare.trace(model_id="gpt-4o", inference_type=pyflare.InferenceType.LLM)
    def answer(question: str) -> str: ...

Importing it loads the OpenTelemetry API only; `init` loads the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyflare._version import __version__
from pyflare.capture import CaptureConfig
from pyflare.context import context
from pyflare.sdk import PyFlare, init
from pyflare.spans import LLMSpan, current_span, llm_span, span
from pyflare.tracing import trace
from pyflare.types import CostResult, InferenceType, ModelPricing, ModelProvider, TokenUsage

if TYPE_CHECKING:
    from pyflare import cost, integrations
    from pyflare.delivery.statistics import Statistics

__all__ = [
    "CaptureConfig",
    "CostResult",
    "InferenceType",
    "LLMSpan",
    "ModelPricing",
    "ModelProvider",
    "PyFlare",
    "TokenUsage",
    "__version__",
    "context",
    "cost",
    "current_span",
    "flush",
    "init",
    "integrations",
    "llm_span",
    "shutdown",
    "span",
    "stats",
    "trace",
]

_MODULES = frozenset({"cost", "integrations"})


def flush(timeout_seconds: float = 10.0) -> bool:
    """Send what has ended, now; wait for it up to a limit.

    Returns:
        True if the collector has all of it, or nothing was set up.
    """
    sdk = PyFlare.get_instance()
    return sdk is None or sdk.flush(timeout_seconds)


def shutdown(timeout_seconds: float | None = None) -> bool:
    """Send what has ended, within a limit, and stop tracing; see `PyFlare.shutdown`."""
    sdk = PyFlare.get_instance()
    return sdk is None or sdk.shutdown(timeout_seconds)


def stats() -> Statistics:
    """Return what became of the spans of this process so far."""
    from pyflare.delivery.statistics import Statistics

    sdk = PyFlare.get_instance()
    return Statistics() if sdk is None else sdk.stats()


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        from importlib import import_module

        return import_module(f"pyflare.{name}")
    raise AttributeError(f"module 'pyflare' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
