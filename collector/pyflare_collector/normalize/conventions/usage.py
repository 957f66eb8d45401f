"""How much: tokens, documents of raw usage, reported cost, the time to the first token.

Token sources that are plain attributes come before documents, and each field is
resolved on its own: a document adds the details that the attributes leave out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pyflare_collector.normalize.conventions.sources import Path, Sources, fields, json, key

__all__ = [
    "CONTEXT_FIELDS",
    "FLAGS",
    "INTEGER_FIELDS",
    "NUMBER_FIELDS",
    "USAGE_DOCUMENTS",
    "UsageDocument",
]

INTEGER_FIELDS: dict[str, tuple[str, ...]] = {
    "input_tokens": (
        "pyflare.tokens.input",
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.prompt_tokens",
        "llm.token_count.prompt",
        "llm.usage.prompt_tokens",
        "ai.usage.inputTokens",
        "ai.usage.promptTokens",
        "ai.usage.tokens",
        "decision.token_count.input",
        "usage.prompt_tokens",
        "input_tokens",
    ),
    "output_tokens": (
        "pyflare.tokens.output",
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.completion_tokens",
        "llm.token_count.completion",
        "llm.usage.completion_tokens",
        "ai.usage.outputTokens",
        "ai.usage.completionTokens",
        "decision.token_count.output",
        "usage.completion_tokens",
        "output_tokens",
    ),
    "total_tokens": (
        "pyflare.tokens.total",
        "gen_ai.usage.total_tokens",
        "llm.usage.total_tokens",
        "llm.token_count.total",
        "ai.usage.totalTokens",
        "gen_ai.client.token.usage",
        "usage.total_tokens",
    ),
    "cache_read_tokens": (
        "pyflare.tokens.cache_read",
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_read_input_tokens",
        "gen_ai.usage.cache_read_tokens",
        "gen_ai.usage.input_cached_tokens",
        "gen_ai.usage.details.cache_read_tokens",
        "gen_ai.usage.details.cache_read_input_tokens",
        "gen_ai.usage.input_tokens.cached",
        "llm.token_count.prompt_details.cache_read",
        "llm.token_count.prompt_details.cache_input",
        "llm.anthropic.usage.cache_read_input_tokens",
        "llm.usage.cache_read_input_tokens",
        "ai.usage.inputTokenDetails.cacheReadTokens",
        "ai.usage.cachedInputTokens",
        "cache_read_tokens",
    ),
    "cache_write_tokens": (
        "pyflare.tokens.cache_write",
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
        "gen_ai.usage.cache_write_tokens",
        "gen_ai.usage.details.cache_write_tokens",
        "gen_ai.usage.details.cache_creation_input_tokens",
        "gen_ai.usage.input_tokens.cache_write",
        "llm.token_count.prompt_details.cache_write",
        "llm.anthropic.usage.cache_creation_input_tokens",
        "llm.usage.cache_creation_input_tokens",
        "ai.usage.inputTokenDetails.cacheWriteTokens",
        "cache_creation_tokens",
    ),
    "cache_write_1h_tokens": (
        "pyflare.tokens.cache_write_1h",
        "anthropic.usage.cache_creation.ephemeral_1h_input_tokens",
    ),
    "cache_write_5m_tokens": (
        "pyflare.tokens.cache_write_5m",
        "anthropic.usage.cache_creation.ephemeral_5m_input_tokens",
    ),
    "reasoning_tokens": (
        "pyflare.tokens.reasoning",
        "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.usage.reasoning_tokens",
        "llm.usage.reasoning_tokens",
        "gen_ai.usage.details.reasoning_tokens",
        "llm.token_count.completion_details.reasoning",
        "ai.usage.outputTokenDetails.reasoningTokens",
        "ai.usage.reasoningTokens",
    ),
    "audio_input_tokens": (
        "pyflare.tokens.audio_input",
        "gen_ai.usage.audio.input_tokens",
        "llm.token_count.prompt_details.audio",
    ),
    "audio_output_tokens": (
        "pyflare.tokens.audio_output",
        "gen_ai.usage.audio.output_tokens",
        "llm.token_count.completion_details.audio",
    ),
}
"""Token counts from plain attributes. Negative numbers count as absent."""


@dataclass(frozen=True, slots=True)
class UsageDocument:
    """A document that holds usage: where it stands and what its members mean."""

    key: str
    """Span attribute that holds the document."""
    path: Path = ()
    """Where in the attribute the usage stands; empty for the whole of it."""
    fields: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    """Token field to the places in the document that may hold it, first wins."""
    exclusive: frozenset[Path] = frozenset()
    """Places whose cache tokens stand beside the input tokens and not inside them."""
    flat: bool = False
    """The members are buckets that do not overlap (Langfuse)."""
    lone: bool = False
    """Looked at only where neither input nor output tokens are known from attributes."""


# The usage objects of the providers' APIs: OpenAI chat, OpenAI responses, Anthropic
# messages, LangChain's usage_metadata. One table reads them all, because the names do
# not collide; only Anthropic's cache members stand beside its input_tokens.
_RAW: dict[str, tuple[Path, ...]] = {
    "input_tokens": (("input_tokens",), ("prompt_tokens",), ("inputTokens",)),
    "output_tokens": (("output_tokens",), ("completion_tokens",), ("outputTokens",)),
    "total_tokens": (("total_tokens",), ("totalTokens",)),
    "cache_read_tokens": (
        ("prompt_tokens_details", "cached_tokens"),
        ("input_tokens_details", "cached_tokens"),
        ("input_token_details", "cache_read"),
        ("cache_read_input_tokens",),
        ("cacheReadInputTokens",),
    ),
    "cache_write_tokens": (
        ("input_token_details", "cache_creation"),
        ("input_token_details", "cache_write"),
        ("input_token_details", "cache_write_tokens"),
        ("prompt_tokens_details", "cache_write_tokens"),
        ("input_tokens_details", "cache_write_tokens"),
        ("cache_creation_input_tokens",),
        ("cacheWriteInputTokens",),
    ),
    "cache_write_1h_tokens": (
        ("cache_creation", "ephemeral_1h_input_tokens"),
        ("input_token_details", "ephemeral_1h_input_tokens"),
    ),
    "cache_write_5m_tokens": (
        ("cache_creation", "ephemeral_5m_input_tokens"),
        ("input_token_details", "ephemeral_5m_input_tokens"),
    ),
    "reasoning_tokens": (
        ("completion_tokens_details", "reasoning_tokens"),
        ("output_tokens_details", "reasoning_tokens"),
        ("output_tokens_details", "thinking_tokens"),
        ("output_token_details", "reasoning"),
    ),
    "audio_input_tokens": (
        ("prompt_tokens_details", "audio_tokens"),
        ("input_token_details", "audio"),
    ),
    "audio_output_tokens": (
        ("completion_tokens_details", "audio_tokens"),
        ("output_token_details", "audio"),
    ),
}
_RAW_EXCLUSIVE: frozenset[Path] = frozenset(
    {
        ("cache_read_input_tokens",),
        ("cache_creation_input_tokens",),
        ("cacheReadInputTokens",),
        ("cacheWriteInputTokens",),
    }
)

USAGE_DOCUMENTS: tuple[UsageDocument, ...] = (
    # Langfuse's own buckets: input and output exclude what has a bucket of its own.
    UsageDocument(
        "langfuse.observation.usage_details",
        fields={
            "input_tokens": (("input",),),
            "output_tokens": (("output",),),
            "total_tokens": (("total",),),
            "cache_read_tokens": (
                ("cache_read_input_tokens",),
                ("input_cached_tokens",),
                ("input_cache_read",),
            ),
            "cache_write_tokens": (
                ("cache_creation_input_tokens",),
                ("input_cache_creation",),
                ("cache_write_input_tokens",),
            ),
            "cache_write_1h_tokens": (("input_cache_creation_1h",),),
            "cache_write_5m_tokens": (("input_cache_creation_5m",),),
            "reasoning_tokens": (("output_reasoning_tokens",), ("output_reasoning",)),
            "audio_input_tokens": (("input_audio_tokens",),),
            "audio_output_tokens": (("output_audio_tokens",),),
        },
        flat=True,
    ),
    # The same attribute as Langfuse's OpenAI wrapper fills it: the raw usage object.
    UsageDocument("langfuse.observation.usage_details", fields=_RAW, exclusive=_RAW_EXCLUSIVE),
    UsageDocument("gen_ai.usage.raw", fields=_RAW, exclusive=_RAW_EXCLUSIVE),
    UsageDocument("langsmith.metadata.usage_metadata", fields=_RAW),
    UsageDocument("mlflow.chat.tokenUsage", fields=_RAW),
    UsageDocument(
        "ai.response.providerMetadata",
        fields={
            "cache_read_tokens": (
                ("openai", "cachedPromptTokens"),
                ("anthropic", "usage", "cache_read_input_tokens"),
                ("anthropic", "cacheReadInputTokens"),
                ("bedrock", "usage", "cacheReadInputTokens"),
            ),
            "cache_write_tokens": (
                ("anthropic", "usage", "cache_creation_input_tokens"),
                ("anthropic", "cacheCreationInputTokens"),
                ("bedrock", "usage", "cacheWriteInputTokens"),
            ),
            "reasoning_tokens": (("openai", "reasoningTokens"),),
        },
    ),
    UsageDocument(
        "output.value", path=("usage",), fields=_RAW, exclusive=_RAW_EXCLUSIVE, lone=True
    ),
)
"""Documents of usage, in the order in which they are asked."""

NUMBER_FIELDS: dict[str, Sources] = fields(
    {
        # 0 is what emitters write for "no price known" and counts as absent.
        "cost_reported_usd": (
            json("langfuse.observation.cost_details", "total"),
            "gen_ai.usage.cost.amount",
            "operation.cost",
            "litellm.cost.total",
            "gen_ai.usage.cost",
            "llm.cost.total",
            json("mlflow.llm.cost", "total_cost"),
            key("pyflare.cost.micros", change="micro"),
        ),
        "time_to_first_token_ms": (
            "pyflare.time_to_first_token_ms",
            key("gen_ai.response.time_to_first_chunk", change="seconds_to_ms"),
            key("gen_ai.client.operation.time_to_first_chunk", change="seconds_to_ms"),
            key("gen_ai.server.time_to_first_token", change="seconds_to_ms"),
            "ai.response.msToFirstChunk",
            "ttft_ms",
        ),
    }
)
"""Numbers with a fraction."""

CONTEXT_FIELDS: dict[str, Sources] = fields(
    {
        "service_tier": (
            key("pyflare.service_tier", change="service_tier"),
            key("openai.response.service_tier", change="service_tier"),
            key("gen_ai.openai.response.service_tier", change="service_tier"),
            key("gen_ai.response.service_tier", change="service_tier"),
            key("anthropic.response.service_tier", change="service_tier"),
            key("openai.request.service_tier", change="service_tier"),
            key("gen_ai.openai.request.service_tier", change="service_tier"),
        ),
        "cost_currency": ("gen_ai.usage.cost.currency",),
    }
)
"""What a price depends on besides model and tokens; not columns of the record."""

FLAGS: dict[str, tuple[str, ...]] = {
    "batch": ("pyflare.batch",),
    "stream": ("gen_ai.request.stream", "gen_ai.is_streaming", "llm.is_streaming"),
}
"""Booleans that other fields depend on; not columns of the record."""
