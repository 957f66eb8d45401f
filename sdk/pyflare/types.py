"""The types that users of the SDK meet: kinds of calls, token counts, prices and costs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum

from pyflare._usage import usage_counts

__all__ = [
    "CostResult",
    "InferenceType",
    "ModelPricing",
    "ModelProvider",
    "Price",
    "PricingTier",
    "TokenUsage",
]

Price = float | int | str | Decimal
"""An amount of US dollars. A float counts as the decimal number that it prints as."""


class InferenceType(StrEnum):
    """What a span does; the values are those of the collector's `span_type`."""

    LLM = "llm"
    EMBEDDING = "embedding"
    RERANK = "rerank"
    RETRIEVER = "retriever"
    TOOL = "tool"
    AGENT = "agent"
    WORKFLOW = "workflow"
    CHAIN = "chain"
    TASK = "task"
    GUARDRAIL = "guardrail"
    EVALUATOR = "evaluator"
    MEMORY = "memory"
    CUSTOM = "custom"
    """Anything else: stored as `span`."""


class ModelProvider(StrEnum):
    """Who serves a model; the values are those of OpenTelemetry's `gen_ai.provider.name`.

    Names that OpenTelemetry does not list are the provider's own, in lower case.
    """

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    GOOGLE = "gcp.gemini"
    VERTEX_AI = "gcp.vertex_ai"
    AZURE = "azure.ai.openai"
    AWS_BEDROCK = "aws.bedrock"
    COHERE = "cohere"
    DEEPSEEK = "deepseek"
    GROQ = "groq"
    MISTRAL = "mistral_ai"
    MOONSHOT = "moonshot_ai"
    PERPLEXITY = "perplexity"
    XAI = "x_ai"
    CEREBRAS = "cerebras"
    FIREWORKS = "fireworks"
    OPENROUTER = "openrouter"
    TOGETHER = "together"
    VOYAGE = "voyageai"
    OLLAMA = "ollama"
    CUSTOM = "custom"
    """Nobody in particular: the price holds whoever serves the model."""


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Token counts of one call; parts that are not known are 0.

    Attributes:
        input_tokens: in total, cache reads and writes and audio included.
        output_tokens: in total, reasoning and audio included.
        cache_read_tokens: part of the input, read from the prompt cache.
        cache_write_tokens: part of the input, written to the prompt cache for
            whatever time; writes for five minutes are those less the hourly ones.
        cache_write_1h_tokens: part of the cache writes, kept for an hour.
        reasoning_tokens: part of the output.
        audio_input_tokens: part of the input.
        audio_output_tokens: part of the output.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0

    @classmethod
    def from_response(cls, usage: object) -> TokenUsage:
        """Read what OpenAI or Anthropic answered as `usage`, an object or a mapping.

        Anthropic counts cached tokens beside `input_tokens`; here they become part of it.
        """
        return cls(**usage_counts(usage))

    @property
    def total_tokens(self) -> int:
        """Input and output tokens."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class PricingTier:
    """Prices of calls with more than `above_tokens` input tokens, for all tokens of the call.

    Prices are in USD per million tokens; what is None costs as in the tier below.
    """

    above_tokens: int
    input_price_per_million: Price | None = None
    output_price_per_million: Price | None = None
    cache_read_price_per_million: Price | None = None
    cache_write_price_per_million: Price | None = None
    cache_write_1h_price_per_million: Price | None = None
    reasoning_price_per_million: Price | None = None
    audio_input_price_per_million: Price | None = None
    audio_cache_read_price_per_million: Price | None = None
    audio_output_price_per_million: Price | None = None


@dataclass(slots=True)
class ModelPricing:
    """Prices of a model, in USD per million tokens.

    A kind of token whose price is None costs what its nearest whole costs: cache
    reads and audio cost as input, one-hour cache writes as cache writes, reasoning
    as output.

    Attributes:
        model_id: name of the model; in custom prices `*` stands for any characters.
        provider: who serves it; `ModelProvider.CUSTOM` holds for any.
        input_price_per_million: of input tokens that are of no other kind.
        output_price_per_million: of output tokens that are of no other kind.
        context_window: tokens, 0 where unknown.
        supports_vision: whether it reads images; False where unknown.
        price_per_request: USD for the call itself.
        tiers: prices of larger calls, by ascending `above_tokens`.
        service_tier: the tier that the prices hold for (`flex`, `priority`); None: any.
        batch: True: only for batch calls, False: only for others; None: any.
        valid_from: first UTC day of the prices; None: always.
        valid_to: first UTC day on which they no longer hold; None: never.
    """

    model_id: str
    provider: ModelProvider | str
    input_price_per_million: Price
    output_price_per_million: Price
    context_window: int = 0
    supports_vision: bool = False
    cache_read_price_per_million: Price | None = None
    cache_write_price_per_million: Price | None = None
    cache_write_1h_price_per_million: Price | None = None
    reasoning_price_per_million: Price | None = None
    audio_input_price_per_million: Price | None = None
    audio_cache_read_price_per_million: Price | None = None
    audio_output_price_per_million: Price | None = None
    price_per_request: Price | None = None
    tiers: tuple[PricingTier, ...] = ()
    service_tier: str | None = None
    batch: bool | None = None
    valid_from: date | None = None
    valid_to: date | None = None


@dataclass(frozen=True, slots=True)
class CostResult:
    """What a call costs.

    Where no price is known the amounts in micro-dollars and dollars are 0 and
    `estimated` is True, as always; that this does not mean free is told by
    `cost_nano_usd`, which is None, by `status`, by `str(result)`, and by a warning
    in the log of `pyflare.cost`, once a model.

    Attributes:
        input_micros: cost of the input (and of the call itself) in 1e-6 USD, rounded.
        output_micros: cost of the output in 1e-6 USD; the two add up to the total.
        total_micros: the whole cost in 1e-6 USD, rounded from nano-dollars.
        total_dollars: the whole cost in USD.
        estimated: True unless the price is listed for just this call.
        cost_nano_usd: the whole cost in 1e-9 USD: the exact sum, rounded once, half to
            even. None where unknown.
        input_nano_usd: the part of it for the input and the call itself.
        output_nano_usd: the part of it for the output.
        status: `priced`; `approximate` for the price of a near model or of the standard
            tier, or for counts that contradict each other; `unpriced`.
        price_source: where the price is from: `custom`, or the list with its version.
        model: the model in the price list; empty where unpriced.
        provider: whose price it is, by the price list's name.
    """

    input_micros: int
    output_micros: int
    total_micros: int
    total_dollars: float
    estimated: bool = False
    cost_nano_usd: int | None = None
    input_nano_usd: int | None = None
    output_nano_usd: int | None = None
    status: str = "unpriced"
    price_source: str = ""
    model: str = ""
    provider: str = ""

    @property
    def priced(self) -> bool:
        """False where no price is known: then no amount says anything."""
        return self.cost_nano_usd is not None

    @property
    def cost_usd(self) -> str | None:
        """The cost as an exact decimal number of US dollars, None where unknown."""
        if self.cost_nano_usd is None:
            return None
        whole, fraction = divmod(self.cost_nano_usd, 10**9)
        return f"{whole}.{f'{fraction:09d}'.rstrip('0').ljust(2, '0')}"

    def __str__(self) -> str:
        if self.cost_nano_usd is None:
            return "unpriced (no price is known for this model)"
        about = "about " if self.estimated else ""
        return f"{about}${self.cost_usd}"
