"""Providers: the spellings in the wild folded to one name each.

The names are those of the OpenTelemetry enumeration of `gen_ai.provider.name`.
"""

from __future__ import annotations

__all__ = ["ALIASES", "UNKNOWN", "fold", "guess"]

ALIASES: dict[str, str] = {
    alias: name
    for name, aliases in {
        "openai": ("open_ai", "oai"),
        "azure.ai.openai": (
            "az.ai.openai",
            "azure",
            "azure_openai",
            "azure-openai",
            "azureopenai",
            "azure_ai_openai",
        ),
        "azure.ai.inference": ("az.ai.inference", "azure_ai", "azure-ai", "azure_ai_inference"),
        "anthropic": ("claude",),
        "aws.bedrock": ("aws", "bedrock", "amazon-bedrock", "amazon_bedrock", "bedrock_converse"),
        "gcp.vertex_ai": (
            "vertex_ai",
            "vertexai",
            "vertex",
            "google_vertexai",
            "google-vertex",
            "google.vertex",
            "vertex_ai_beta",
        ),
        "gcp.gemini": (
            "gemini",
            "google",
            "google_genai",
            "google-genai",
            "google_generativeai",
            "google-generative-ai",
            "google.generative-ai",
            "googleai",
        ),
        "gcp.gen_ai": ("gen_ai", "gcp_gen_ai"),
        "mistral_ai": ("mistralai", "mistral"),
        "x_ai": ("xai", "x-ai", "x.ai", "grok"),
        "cohere": (),
        "deepseek": (),
        "groq": (),
        "perplexity": (),
        "ibm.watsonx.ai": ("ibm.watson.ai", "watsonx", "watsonx.ai", "ibm"),
        "moonshot_ai": ("moonshot", "moonshotai"),
        "together_ai": ("together", "togetherai", "together.ai"),
        "fireworks": ("fireworks_ai", "fireworksai"),
        "ollama": (),
        "openrouter": (),
        "hugging_face": ("huggingface", "hugging-face", "hf"),
    }.items()
    for alias in (name, *aliases)
}
"""Spelling, in lower case, to name."""

UNKNOWN = frozenset({"langchain", "_other", "other", "litellm", "unknown", "none", "custom"})
"""Values that name no provider, in lower case: the next source is asked."""

_MODEL_STARTS: tuple[tuple[str, str], ...] = (
    ("gpt-", "openai"),
    ("chatgpt-", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
    ("text-embedding-3", "openai"),
    ("text-embedding-ada", "openai"),
    ("dall-e", "openai"),
    ("whisper-", "openai"),
    ("davinci", "openai"),
    ("babbage", "openai"),
    ("ft:gpt-", "openai"),
    ("claude-", "anthropic"),
    ("gemini-", "gcp.gemini"),
    ("gemma-", "gcp.gemini"),
    ("mistral-", "mistral_ai"),
    ("mixtral-", "mistral_ai"),
    ("open-mistral", "mistral_ai"),
    ("open-mixtral", "mistral_ai"),
    ("codestral", "mistral_ai"),
    ("ministral", "mistral_ai"),
    ("magistral", "mistral_ai"),
    ("devstral", "mistral_ai"),
    ("pixtral", "mistral_ai"),
    ("command-", "cohere"),
    ("embed-english", "cohere"),
    ("embed-multilingual", "cohere"),
    ("rerank-", "cohere"),
    ("deepseek-", "deepseek"),
    ("grok-", "x_ai"),
    ("sonar", "perplexity"),
    ("kimi-", "moonshot_ai"),
    ("moonshot-", "moonshot_ai"),
)
_BEDROCK_STARTS = (
    "amazon.",
    "anthropic.",
    "meta.",
    "mistral.",
    "cohere.",
    "ai21.",
    "deepseek.",
    "stability.",
)
_BEDROCK_REGIONS = frozenset({"us", "eu", "apac", "global", "jp", "au", "us-gov"})


def fold(value: str) -> str | None:
    """Return the one name of a provider.

    Args:
        value: as an emitter writes it (`OpenAI`, `azure`, `openai.chat`).

    Returns:
        The folded name; the value in lower case where it is not listed; None where it
        names no provider.
    """
    text = value.strip().lower()
    name = ALIASES.get(text)
    if name:
        return name
    if not text or text in UNKNOWN:
        return None
    # The Vercel AI SDK appends the API: openai.chat, anthropic.messages.
    head = text.partition(".")[0]
    return ALIASES.get(head, text)


def guess(model: str) -> str | None:
    """Return the provider that a model's name points to, None where it tells nothing."""
    text = model.strip().lower()
    head, slash, rest = text.partition("/")
    if slash:
        return ALIASES.get(head) or guess(rest)
    region, dot, rest = text.partition(".")
    if text.startswith(_BEDROCK_STARTS) or (
        dot and region in _BEDROCK_REGIONS and rest.startswith(_BEDROCK_STARTS)
    ):
        return "aws.bedrock"
    for start, name in _MODEL_STARTS:
        if text.startswith(start):
            return name
    return None
