"""Names of models and providers as emitters write them, and what they may stand for.

Pure functions on strings. A name is taken apart step by step, never shortened to
a bare prefix: `gpt-4o-mini` is not `gpt-4o` with something behind it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

__all__ = [
    "LOCAL_PROVIDERS",
    "MAX_NAME_LENGTH",
    "PROVIDER_ALIASES",
    "Candidate",
    "Step",
    "candidates",
    "guess_provider",
    "provider_key",
]

MAX_NAME_LENGTH = 256
"""A longer model name is not looked up; no provider has one."""

PROVIDER_ALIASES: dict[str, str] = {
    "ai21_labs": "ai21",
    "amazon": "aws",
    "amazon-bedrock": "aws",
    "amazon_bedrock": "aws",
    "aws.bedrock": "aws",
    "aws_bedrock": "aws",
    "bedrock": "aws",
    "bedrock_converse": "aws",
    "az.ai.inference": "azure",
    "az.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "azure_ai": "azure",
    "azure_openai": "azure",
    "azure-openai": "azure",
    "fireworks_ai": "fireworks",
    "fireworks-ai": "fireworks",
    "gcp": "google",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "gemini": "google",
    "google-gla": "google",
    "google-genai": "google",
    "google-vertex": "google",
    "google_genai": "google",
    "google_vertexai": "google",
    "vertex": "google",
    "vertex_ai": "google",
    "vertexai": "google",
    "mistral_ai": "mistral",
    "mistralai": "mistral",
    "moonshot": "moonshotai",
    "moonshot_ai": "moonshotai",
    "perplexity_ai": "perplexity",
    "pplx": "perplexity",
    "together-ai": "together",
    "together_ai": "together",
    "togetherai": "together",
    "voyage": "voyageai",
    "voyage_ai": "voyageai",
    "x_ai": "x-ai",
    "xai": "x-ai",
    "z_ai": "zai",
}
"""Provider names in the wild, folded to the price list's."""

_NO_PROVIDER = frozenset(
    {"", "_other", "other", "unknown", "none", "langchain", "litellm", "llamaindex", "custom"}
)
"""Names that say nothing about who served the call."""

LOCAL_PROVIDERS = frozenset(
    {"ollama", "vllm", "llama.cpp", "llamacpp", "llama_cpp", "lmstudio", "lm_studio", "local",
     "localai", "tgi", "sglang", "mlx", "triton", "xinference"}
)  # fmt: skip
"""Software that runs a model on the user's own machines: no price list applies."""

_PREFIX_PROVIDERS = frozenset(
    {
        "anthropic", "azure", "cerebras", "cohere", "deepseek", "fireworks", "google", "groq",
        "mistral", "moonshotai", "openai", "openrouter", "perplexity", "together", "voyageai",
        "x-ai", "aws", "novita", "cloudflare", "zai",
    }
)  # fmt: skip
"""Providers that may stand before a model's name, as in `openai/gpt-4o` or `groq:llama-3`."""

_REGION = re.compile(r"^(?:us-gov|us|eu|apac|jp|au|ca|global)[./](?=[a-z0-9])")
_DATE = re.compile(r"(?:[-@]20\d{2}-?(?:0[1-9]|1[0-2])-?(?:0[1-9]|[12]\d|3[01])|@\d{3})$")
_FLOATING = re.compile(r"(?::latest|@default|@latest)$")

_NAMING: dict[str, str] = {
    "aws": r"(?:[a-z-]+\.)?(?:anthropic|amazon|meta|cohere|ai21|mistral|deepseek|qwen|openai)\.",
    "openai": (
        r"(?:ft:)?(?:gpt-|chatgpt-|o[1345](?:-|$)|text-embedding-(?:3|ada)|davinci|babbage)"
        r"|codex-|computer-use|omni-moderation|text-moderation|dall-e|whisper-1|tts-1"
    ),
    "anthropic": r"claude",
    "google": r"gemini|gemma|text-embedding-00|text-multilingual-embedding|imagen|learnlm",
    "cohere": r"command|embed-|rerank-|c4ai-",
    "deepseek": r"deepseek",
    "mistral": r"(?:mi|code|dev|magi|mini)stral|pixtral|voxtral|mixtral|open-mi[sx]tral",
    "x-ai": r"grok",
    "perplexity": r"sonar",
    "voyageai": r"voyage-",
    "moonshotai": r"kimi|moonshot",
    "zhipuai": r"glm-",
    "minimax": r"minimax-",
    "fireworks": r"accounts/fireworks/",
    "cloudflare": r"@cf/",
    "databricks": r"databricks-",
}
"""How each provider's own models begin; open models that many hosts serve are not here."""

_GUESSES = tuple((re.compile(rule), provider) for provider, rule in _NAMING.items())


class Step(IntEnum):
    """How far a candidate is from the name that was given."""

    EXACT = 0
    """The name itself."""
    STRIPPED = 1
    """Without a provider's, path's or region's prefix, or a tag that names no version."""
    BASE = 2
    """The model that a fine-tuned model is made of."""
    UNDATED = 3
    """Without its date."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One reading of a model's name."""

    name: str
    """Lower case."""
    provider: str | None
    """Provider that the name itself names, by the price list's name."""
    step: Step

    @property
    def approximate(self) -> bool:
        """True when it is a near model and not the same one."""
        return self.step >= Step.BASE


def provider_key(provider: str) -> str | None:
    """Fold a provider's name to the price list's; None when it names nobody.

    A name that is not known comes back in lower case.
    """
    name = provider.strip().lower()
    if name in _NO_PROVIDER:
        return None
    if name in PROVIDER_ALIASES:
        return PROVIDER_ALIASES[name]
    head = name.split(".", 1)[0]
    if "." in name and name not in LOCAL_PROVIDERS and head in _PREFIX_PROVIDERS:
        return head
    return name


def guess_provider(model: str) -> str | None:
    """Return the provider whose naming `model` follows, None for names that many hosts use."""
    for pattern, provider in _GUESSES:
        if pattern.match(model):
            return provider
    return None


def candidates(model: str) -> tuple[Candidate, ...]:
    """Return the readings of a model's name, nearest first.

    Empty for an empty name and for one longer than `MAX_NAME_LENGTH`.
    """
    name = model.strip().lower()
    if not name or len(name) > MAX_NAME_LENGTH:
        return ()
    found = [Candidate(name, None, Step.EXACT)]
    provider: str | None = None
    while (peeled := _peel(name)) is not None:
        hint, name = peeled
        provider = hint or provider
        found.append(Candidate(name, provider, Step.STRIPPED))
    step = Step.STRIPPED
    if name.startswith("ft:"):
        name = name.split(":")[1]
        step = Step.BASE
        found.append(Candidate(name, provider, step))
    undated = _DATE.sub("", name)
    if undated and undated != name:
        found.append(Candidate(undated, provider, Step.UNDATED))
    return tuple(c for c in dict.fromkeys(found) if c.name)


def _peel(name: str) -> tuple[str | None, str] | None:
    """Take one prefix or tag off; None when there is none."""
    if (floating := _FLOATING.sub("", name)) != name:
        return None, floating
    if name.startswith("arn:aws:bedrock:"):
        return "aws", name.rsplit("/", 1)[-1] if "/" in name else ""
    head, path, rest = name.rpartition("models/")
    if path and rest and (not head or head.endswith("/")) and "fireworks" not in head:
        return ("google" if "publishers/" in head or not head else None), rest
    for separator in ("/", ":"):
        prefix, found, rest = name.partition(separator)
        folded = PROVIDER_ALIASES.get(prefix, prefix)
        if found and rest and folded in _PREFIX_PROVIDERS:
            return folded, rest
    region = _REGION.match(name)
    if region:
        return ("aws" if region[0].endswith(".") else None), name[region.end() :]
    return None
