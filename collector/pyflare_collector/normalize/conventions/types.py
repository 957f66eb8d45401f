"""What a span is: the order of the signs for its type, and the signs of a failure.

The order follows what was seen on the wire: LangSmith writes the operation
`embeddings` on a retriever, so its own kind is asked before the operation.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["ERROR_LEVELS", "ERROR_NUMBERS", "MODEL_KEYS", "TYPE_SOURCES", "TypeSource"]


@dataclass(frozen=True, slots=True)
class TypeSource:
    """A key whose value tells the type of a span."""

    key: str
    """Key of the span attribute."""
    values: dict[str, str] = field(default_factory=dict)
    """Value, in lower case, to span type."""
    starts: dict[str, str] = field(default_factory=dict)
    """Start of the value to span type, where `values` does not list it."""
    ends: dict[str, str] = field(default_factory=dict)
    """End of the value to span type, where neither of the others does."""
    contains: dict[str, str] = field(default_factory=dict)
    """Part of the value to span type, where none of the others does."""
    present: str = ""
    """Span type wherever the key is present, whatever its value."""
    first_word: bool = False
    """Only the value up to its first space counts."""

    def meaning(self, value: str) -> str | None:
        """Return the span type that `value` stands for, None for none."""
        if self.present:
            return self.present
        text = value.strip().lower()
        if self.first_word:
            text = text.partition(" ")[0]
        found = self.values.get(text)
        if found:
            return found
        for part, meaning in self.starts.items():
            if text.startswith(part):
                return meaning
        for part, meaning in self.ends.items():
            if text.endswith(part):
                return meaning
        for part, meaning in self.contains.items():
            if part in text:
                return meaning
        return None


_NAMES = {
    "llm": "llm",
    "embedding": "embedding",
    "embeddings": "embedding",
    "rerank": "rerank",
    "reranker": "rerank",
    "retriever": "retriever",
    "retrieval": "retriever",
    "tool": "tool",
    "agent": "agent",
    "workflow": "workflow",
    "chain": "chain",
    "task": "task",
    "guardrail": "guardrail",
    "evaluator": "evaluator",
    "evaluation": "evaluator",
    "memory": "memory",
    "span": "span",
}

TYPE_SOURCES: tuple[TypeSource, ...] = (
    TypeSource(
        "pyflare.inference.type",
        values={**_NAMES, "chat": "llm", "completion": "llm", "generation": "llm"},
    ),
    TypeSource(
        "langfuse.observation.type",
        values={**_NAMES, "generation": "llm", "event": "span"},
    ),
    TypeSource(
        "openinference.span.kind",
        values={**_NAMES, "decision": "llm", "prompt": "chain"},
    ),
    TypeSource(
        "langsmith.span.kind",
        values={**_NAMES, "prompt": "chain", "parser": "chain"},
    ),
    TypeSource(
        "gen_ai.operation.name",
        values={
            "chat": "llm",
            "text_completion": "llm",
            "completion": "llm",
            "generate_content": "llm",
            "generate": "llm",
            "response": "llm",
            "responses": "llm",
            "embeddings": "embedding",
            "embedding": "embedding",
            "rerank": "rerank",
            "retrieval": "retriever",
            "vector_db_retrieve": "retriever",
            "execute_tool": "tool",
            "invoke_agent": "agent",
            "create_agent": "agent",
            "plan": "agent",
            "invoke_workflow": "workflow",
            "handle_conversation_turn": "workflow",
            "execute_task": "task",
            "chain": "chain",
        },
        starts={"litellm.": "span"},
        contains={"_memory": "memory"},
    ),
    TypeSource(
        "traceloop.span.kind",
        values={"workflow": "workflow", "task": "task", "agent": "agent", "tool": "tool"},
    ),
    TypeSource(
        "ai.operationId",
        values={
            "ai.toolcall": "tool",
            "ai.generatetext": "chain",
            "ai.streamtext": "chain",
            "ai.generateobject": "chain",
            "ai.streamobject": "chain",
            "ai.embed": "chain",
            "ai.embedmany": "chain",
            "ai.rerank": "chain",
        },
        ends={
            ".dogenerate": "llm",
            ".dostream": "llm",
            ".doembed": "embedding",
            ".dorerank": "rerank",
        },
        first_word=True,
    ),
    TypeSource(
        "llm.request.type",
        values={
            "chat": "llm",
            "completion": "llm",
            "embedding": "embedding",
            "embeddings": "embedding",
            "rerank": "rerank",
        },
    ),
    TypeSource("gen_ai.tool.name", present="tool"),
    TypeSource("gen_ai.tool.call.id", present="tool"),
    TypeSource("lk.function_tool.name", present="tool"),
    TypeSource(
        "lmnr.span.type",
        values={**_NAMES, "default": "span", "executor": "chain", "human_evaluator": "evaluator"},
    ),
    TypeSource(
        "mlflow.spanType",
        values={**_NAMES, "chat_model": "llm", "parser": "chain", "unknown": "span"},
    ),
    TypeSource(
        "genkit:metadata:subtype",
        values={**_NAMES, "model": "llm", "embedder": "embedding", "flow": "workflow"},
    ),
    TypeSource(
        "span.type",
        values={**_NAMES, "llm_request": "llm", "tool_call": "tool", "interaction": "agent"},
        starts={"tool.": "tool"},
    ),
)
"""Signs of a span's type, first wins. A span with a model and tokens but no sign is `llm`."""

MODEL_KEYS: tuple[str, ...] = (
    "gen_ai.request.model",
    "gen_ai.response.model",
    "pyflare.model.id",
    "llm.request.model_name",
    "llm.response.model_name",
    "llm.model_name",
    "ai.model.id",
    "ai.response.model",
    "langsmith.metadata.ls_model_name",
    "langfuse.observation.model.name",
    "model",
)
"""Keys of which one, together with a token count, makes an unsigned span a call.

Not `model_name`: agent spans of Pydantic AI carry it.
"""

ERROR_LEVELS: dict[str, frozenset[str]] = {
    "langfuse.observation.level": frozenset({"error"}),
}
"""Key to the levels, in lower case, that make a span without a status a failed one."""

ERROR_NUMBERS: dict[str, int] = {
    "logfire.level_num": 17,
}
"""Key to the number from which on a span without a status is a failed one."""
