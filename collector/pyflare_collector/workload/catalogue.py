"""The application that the generated traffic comes from: services, models, features, texts.

Rates are in nano-dollars per token and restate the public price lists; they are
the generator's own arithmetic, so that a cost computed elsewhere has something
independent to be compared with.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "ENVIRONMENTS",
    "ERRORS",
    "FEATURES",
    "MODELS",
    "PLANS",
    "SEGMENT_KEY",
    "SERVICES",
    "TEAMS",
    "TOOLS",
    "TOPICS",
    "USER_SEGMENTS",
    "Feature",
    "Model",
    "Step",
    "segment_name",
]


@dataclass(frozen=True, slots=True)
class Model:
    """A model with its rates (nano-dollars per token) and its speed."""

    request: str
    response: str
    provider: str
    input_rate: int
    cache_read_rate: int
    cache_write_rate: int
    output_rate: int
    ms_per_token: float
    overhead_ms: float


MODELS: tuple[Model, ...] = (
    Model("gpt-4o", "gpt-4o-2024-08-06", "openai", 2500, 1250, 2500, 10000, 11.0, 320.0),
    Model("gpt-4o-mini", "gpt-4o-mini-2024-07-18", "openai", 150, 75, 150, 600, 7.0, 240.0),
    Model(
        "claude-sonnet-4-5",
        "claude-sonnet-4-5-20250929",
        "anthropic",
        3000,
        300,
        3750,
        15000,
        14.0,
        510.0,
    ),
    Model("text-embedding-3-small", "text-embedding-3-small", "openai", 20, 20, 20, 0, 0.0, 85.0),
)
"""Chat models first; the last one is the embedding model."""


@dataclass(frozen=True, slots=True)
class Step:
    """One span of a trace."""

    type: str
    """`span_type` of the record."""
    parent: int
    """Position of the parent in the plan, -1 for the root."""


PLANS: dict[str, tuple[Step, ...]] = {
    "rag": (
        Step("workflow", -1),
        Step("embedding", 0),
        Step("retriever", 0),
        Step("llm", 0),
    ),
    "agent": (
        Step("agent", -1),
        Step("llm", 0),
        Step("tool", 0),
        Step("llm", 0),
    ),
    "single": (Step("llm", -1),),
}
"""Shapes of traces."""


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature of the application: who runs it, how its traces look, how many tokens it takes."""

    name: str
    service: int
    team: int
    plan: str
    weight: float
    input_tokens: float
    """Median."""
    output_tokens: float
    """Median."""


USER_SEGMENTS = 20
"""Segments of the users, by which an application groups them; user u is of segment u mod 20."""
SEGMENT_KEY = "app.user.segment"
"""Attribute of every span: an attribute of the application's own, in no convention."""
SERVICES = ("chat-api", "search-api", "batch-worker")
TEAMS = ("assist", "search", "platform")
ENVIRONMENTS = ("production", "staging")
FEATURES: tuple[Feature, ...] = (
    Feature("support-chat", 0, 0, "agent", 0.34, 900.0, 210.0),
    Feature("document-search", 1, 1, "rag", 0.31, 1700.0, 260.0),
    Feature("summarize", 2, 2, "single", 0.20, 2600.0, 330.0),
    Feature("classify", 2, 0, "single", 0.15, 320.0, 12.0),
)
TOOLS = ("get_order", "refund_order", "search_docs", "get_weather")
ERRORS: tuple[tuple[str, str], ...] = (
    ("RateLimitError", "429 rate limit reached for requests on tokens per minute"),
    ("APITimeoutError", "request timed out after 60.0 s"),
    ("BadRequestError", "400 maximum context length exceeded"),
    ("InternalServerError", "500 the server had an error while processing the request"),
)
TOPICS: tuple[tuple[str, str], ...] = (
    ("Where is my order?", "Your order left the warehouse this morning and arrives on Thursday."),
    ("How do I change my address?", "Open Settings, then Addresses, and choose Edit."),
    ("Summarize the contract.", "The contract runs for two years and renews unless cancelled."),
    ("Which plan includes exports?", "Exports are part of the Team and Enterprise plans."),
    ("Is the battery replaceable?", "Yes, the battery can be replaced at any service point."),
    ("Classify: the app crashes at start.", "bug"),
)
"""Questions with the answer that their document supports."""


def segment_name(segment: int) -> str:
    """Return the value of `SEGMENT_KEY`."""
    return f"segment-{segment:02d}"
