"""Which spans are kept: strategies, keep rules, and the probability of each decision."""

from __future__ import annotations

from pyflare_collector.sampler.decision import RuleCount, SamplingDecision
from pyflare_collector.sampler.sampler import CostOf, Sampler
from pyflare_collector.sampler.span_view import SpanView

__all__ = ["CostOf", "RuleCount", "Sampler", "SamplingDecision", "SpanView", "warm_up"]


def warm_up() -> None:
    """Compile the sampler's kernels, or load them from the cache on disk."""
    from pyflare_collector.config import KeepRule, SamplerConfig

    span = SpanView("0123456789abcdef" * 2, attributes={"sampling.priority": 1})
    for config in (
        SamplerConfig(strategy="rate_limiting", mode="fnv", keep=(KeepRule(status="error"),)),
        SamplerConfig(strategy="parent_based", service_rates={"a": 0.5}),
    ):
        sampler = Sampler(config)
        sampler.should_sample(span)
        sampler.should_sample(SpanView("0123456789abcdef" * 2))
