"""The keys of span attributes, as the SDK writes them.

OpenTelemetry's GenAI conventions have no package of constants (they moved to a
repository of their own in 2026), so the strings are kept here: the current ones, from
semantic-conventions-genai, beside PyFlare's own.
"""

from __future__ import annotations

__all__: list[str] = []

# OpenTelemetry
ENVIRONMENT = "deployment.environment.name"
ERROR_TYPE = "error.type"
SERVICE_NAME = "service.name"
SERVICE_VERSION = "service.version"
SESSION_ID = "session.id"
USER_ID = "user.id"

# OpenTelemetry, GenAI
AGENT_NAME = "gen_ai.agent.name"
AUDIO_INPUT_TOKENS = "gen_ai.usage.audio.input_tokens"
AUDIO_OUTPUT_TOKENS = "gen_ai.usage.audio.output_tokens"
CACHE_READ_TOKENS = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS = "gen_ai.usage.cache_write.input_tokens"
CONVERSATION_ID = "gen_ai.conversation.id"
FINISH_REASONS = "gen_ai.response.finish_reasons"
GENAI_PROMPT_NAME = "gen_ai.prompt.name"
GENAI_PROMPT_VERSION = "gen_ai.prompt.version"
INPUT_MESSAGES = "gen_ai.input.messages"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OPERATION = "gen_ai.operation.name"
OUTPUT_MESSAGES = "gen_ai.output.messages"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
PROVIDER = "gen_ai.provider.name"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"
REQUEST_MODEL = "gen_ai.request.model"
RETRIEVAL_DOCUMENTS = "gen_ai.retrieval.documents"
RETRIEVAL_QUERY = "gen_ai.retrieval.query.text"
RESPONSE_ID = "gen_ai.response.id"
RESPONSE_MODEL = "gen_ai.response.model"
STREAM = "gen_ai.request.stream"
SYSTEM_INSTRUCTIONS = "gen_ai.system_instructions"
TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
TOOL_NAME = "gen_ai.tool.name"

# PyFlare
BATCH = "pyflare.batch"
CACHE_WRITE_1H_TOKENS = "pyflare.tokens.cache_write_1h"
CANCELLED = "pyflare.cancelled"
FEATURE = "pyflare.feature"
INFERENCE_TYPE = "pyflare.inference.type"
INPUT_PREVIEW = "pyflare.input.preview"
MODEL_ID = "pyflare.model.id"
MODEL_PROVIDER = "pyflare.model.provider"
OUTPUT_PREVIEW = "pyflare.output.preview"
PROMPT_TEMPLATE = "pyflare.prompt.template"
PROMPT_VERSION = "pyflare.prompt.version"
SERVICE_TIER = "pyflare.service_tier"
STREAM_ITEMS = "pyflare.stream.items"
TEAM = "pyflare.team"

OPERATIONS = {
    "llm": "chat",
    "embedding": "embeddings",
    "rerank": "rerank",
    "retriever": "retrieval",
    "tool": "execute_tool",
    "agent": "invoke_agent",
    "workflow": "invoke_workflow",
}
"""Inference type to the name of its operation; other types have none."""
CALL_TYPES = frozenset({"llm", "embedding", "rerank"})
"""Inference types that call a model."""
