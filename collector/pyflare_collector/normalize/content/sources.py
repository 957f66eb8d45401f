"""Where the content of a span may come from, as data: each field and its sources in order.

On each span the first source with a text wins. To teach PyFlare a new emitter, add
its keys here, at the place in the order where they should be asked.

Text("ai.response.text")                       the attribute's string as it is
Document("input.value")                        JSON or plain text, rendered (see `messages`)
Document("request_data", path=("messages",))   the same for a member of the document
Family(...)                                    one message an index: `gen_ai.prompt.0.content`
Call("gen_ai.tool.name", "gen_ai.tool.args")   one tool call in two attributes
Events(...)                                    span events
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

__all__ = [
    "CONTENT_KEYS",
    "DOCUMENT_FAMILIES",
    "DOCUMENT_LISTS",
    "ERROR_MESSAGE",
    "ERROR_TYPE",
    "FINISH_DOCUMENTS",
    "FINISH_FAMILY",
    "FINISH_REASONS",
    "HTTP_STATUS",
    "INPUT",
    "OUTPUT",
    "RETRIEVAL_QUERY",
    "VECTOR_DOCUMENTS",
    "VECTOR_FAMILY",
    "Call",
    "Document",
    "DocumentFamily",
    "Events",
    "Family",
    "Source",
    "Text",
]

_RETRIEVAL = ("retriever", "rerank")


@dataclass(frozen=True, slots=True)
class Text:
    """An attribute whose string is the text."""

    key: str
    when: tuple[str, ...] = ()
    """Span types that the source counts for; empty for all."""

    def keys(self) -> Iterator[str]:
        """Yield the attribute keys that are read."""
        yield self.key


@dataclass(frozen=True, slots=True)
class Document:
    """An attribute that holds messages as JSON text or a structured value, or plain text."""

    key: str
    path: tuple[str | int, ...] = ()
    """Where in the document the messages are; empty for all of it."""
    system: str = ""
    """Key of the attribute that holds the system instructions."""
    calls: str = ""
    """Key of the attribute that holds the tool calls, which follow the text."""
    part: str = ""
    """`asked` or `answered`: that side of a list of OpenTelemetry's older events."""
    when: tuple[str, ...] = ()
    """Span types that the source counts for; empty for all."""
    never: tuple[str, ...] = ()
    """Span types that the source does not count for."""

    def keys(self) -> Iterator[str]:
        """Yield the attribute keys that are read."""
        yield from (key for key in (self.key, self.system, self.calls) if key)


@dataclass(frozen=True, slots=True)
class Family:
    """Messages in indexed attributes; the first `#` counts messages, the second parts of one."""

    role: str = ""
    text: str = ""
    part_type: str = ""
    part_text: str = ""
    call_name: str = ""
    call_arguments: str = ""
    when: tuple[str, ...] = ()
    """Span types that the source counts for; empty for all."""

    def keys(self) -> Iterator[str]:
        """Yield the attribute keys that are read."""
        yield from (
            key
            for key in (
                self.role,
                self.text,
                self.part_type,
                self.part_text,
                self.call_name,
                self.call_arguments,
            )
            if key
        )


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call in two attributes."""

    name: str
    arguments: str
    when: tuple[str, ...] = ()
    """Span types that the source counts for; empty for all."""

    def keys(self) -> Iterator[str]:
        """Yield the attribute keys that are read."""
        yield self.name
        yield self.arguments


@dataclass(frozen=True, slots=True)
class Events:
    """Span events that tell a conversation: one document each, or one message each."""

    documents: tuple[tuple[str, str, str], ...] = ()
    """(name of the event, attribute with the messages, attribute with instructions or "")."""
    messages: tuple[tuple[str, str], ...] = ()
    """(name of the event, role of its message when it names none)."""
    when: tuple[str, ...] = ()
    """Span types that the source counts for; empty for all."""

    def keys(self) -> Iterator[str]:
        """Yield the attribute keys that are read: none, events have their own attributes."""
        yield from ()


Source: TypeAlias = Text | Document | Family | Call | Events


def _traceloop(prefix: str) -> Family:
    return Family(
        role=f"{prefix}.#.role",
        text=f"{prefix}.#.content",
        call_name=f"{prefix}.#.tool_calls.#.name",
        call_arguments=f"{prefix}.#.tool_calls.#.arguments",
    )


def _openinference(prefix: str) -> Family:
    return Family(
        role=f"{prefix}.#.message.role",
        text=f"{prefix}.#.message.content",
        part_type=f"{prefix}.#.message.contents.#.message_content.type",
        part_text=f"{prefix}.#.message.contents.#.message_content.text",
        call_name=f"{prefix}.#.message.tool_calls.#.tool_call.function.name",
        call_arguments=f"{prefix}.#.message.tool_calls.#.tool_call.function.arguments",
    )


INPUT: tuple[Source, ...] = (
    Document("pyflare.input.preview"),
    Document("langfuse.observation.input"),
    Document("gen_ai.input.messages", system="gen_ai.system_instructions"),
    _traceloop("gen_ai.prompt"),
    Document("gen_ai.prompt"),
    _openinference("llm.input_messages"),
    Family(text="llm.prompts.#.prompt.text"),
    Document("ai.prompt.messages"),
    Document("ai.prompt"),
    Document("ai.value"),
    Document("ai.values"),
    Text("gen_ai.tool.call.arguments", when=("tool",)),
    Text("tool_arguments", when=("tool",)),
    Text("ai.toolCall.args", when=("tool",)),
    Family(text="embedding.embeddings.#.embedding.text"),
    Text("gen_ai.retrieval.query.text"),
    Document("input.value"),
    Document("traceloop.entity.input"),
    Document("pydantic_ai.all_messages", system="gen_ai.system_instructions"),
    Document("all_messages_events"),
    Document("gcp.vertex.agent.llm_request"),
    Document("mlflow.spanInputs"),
    Document("genkit:input"),
    Document("lk.chat_ctx"),
    Document("lmnr.span.input"),
    Document("prompt"),
    Document("input"),
    Events(
        documents=(
            (
                "gen_ai.client.inference.operation.details",
                "gen_ai.input.messages",
                "gen_ai.system_instructions",
            ),
            ("gen_ai.content.prompt", "gen_ai.prompt", ""),
        ),
        messages=(
            ("gen_ai.system.message", "system"),
            ("gen_ai.user.message", "user"),
            ("gen_ai.assistant.message", "assistant"),
            ("gen_ai.tool.message", "tool"),
        ),
    ),
    Document("events", part="asked"),
    Document("request_data"),
)
"""Sources of `input`."""

OUTPUT: tuple[Source, ...] = (
    Document("pyflare.output.preview"),
    Document("langfuse.observation.output", never=("embedding",)),
    Document("gen_ai.output.messages"),
    _traceloop("gen_ai.completion"),
    Document("gen_ai.completion"),
    _openinference("llm.output_messages"),
    Family(text="llm.choices.#.completion.text"),
    Document("ai.response.text", calls="ai.response.toolCalls"),
    Document("ai.response.object"),
    Document("ai.result.text"),
    Text("gen_ai.tool.call.result", when=("tool",)),
    Text("tool_response", when=("tool",)),
    Text("ai.toolCall.result", when=("tool",)),
    # An embedding's body is its vector, which has a column of its own.
    Document("output.value", never=("embedding",)),
    Document("traceloop.entity.output", never=("embedding",)),
    Document("final_result"),
    Document("gcp.vertex.agent.llm_response"),
    Document("mlflow.spanOutputs", never=("embedding",)),
    Document("genkit:output", never=("embedding",)),
    Text("lk.response.text"),
    Document("lmnr.span.output", never=("embedding",)),
    Document("output", never=("embedding",)),
    Events(
        documents=(
            ("gen_ai.client.inference.operation.details", "gen_ai.output.messages", ""),
            ("gen_ai.content.completion", "gen_ai.completion", ""),
        ),
        messages=(("gen_ai.choice", "assistant"),),
    ),
    Document("events", part="answered"),
    Document("response_data", never=("embedding",)),
    Call("gen_ai.tool.name", "gen_ai.tool.args", when=("llm",)),
)
"""Sources of `output`."""

RETRIEVAL_QUERY: tuple[Source, ...] = (
    Text("gen_ai.retrieval.query.text"),
    Text("reranker.query"),
    Document("input.value", when=_RETRIEVAL),
    Document("traceloop.entity.input", when=_RETRIEVAL),
    Document("gen_ai.prompt", path=("query",), when=_RETRIEVAL),
    Document("gen_ai.prompt", path=("question",), when=_RETRIEVAL),
    Document("gen_ai.prompt", path=("q",), when=_RETRIEVAL),
    Document("langfuse.observation.input", when=_RETRIEVAL),
)
"""Sources of `retrieval_query`."""

FINISH_REASONS = (
    "gen_ai.response.finish_reasons",
    "llm.finish_reason",
    "ai.response.finishReason",
    "anthropic.message.stop_reason",
)
"""Attributes that hold one reason, a list of reasons, or such a list as JSON text."""
FINISH_FAMILY = "gen_ai.completion.#.finish_reason"
"""One reason an index; asked after `llm.finish_reason`'s kind."""
FINISH_DOCUMENTS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("gen_ai.output.messages", (), ("finish_reason",)),
    ("output.value", ("choices",), ("finish_reason",)),
)
"""(attribute, path to a list in its document, path in each item to the reason)."""

ERROR_TYPE = ("error.type",)
"""Attributes that name the class of the error; then come `exception` events."""
ERROR_MESSAGE = ("error.message", "langfuse.observation.status_message")
"""Attributes that hold the message of a span that failed, asked after its status."""
HTTP_STATUS = ("http.response.status_code", "http.status_code")
"""Attributes whose number names the error of a failed span that tells no other."""


@dataclass(frozen=True, slots=True)
class DocumentFamily:
    """Retrieved documents in indexed attributes."""

    id: str
    content: str
    score: str


DOCUMENT_FAMILIES = (
    DocumentFamily(
        "retrieval.documents.#.document.id",
        "retrieval.documents.#.document.content",
        "retrieval.documents.#.document.score",
    ),
    DocumentFamily(
        "reranker.output_documents.#.document.id",
        "reranker.output_documents.#.document.content",
        "reranker.output_documents.#.document.score",
    ),
)
"""Indexed attributes that hold `retrieval_documents`."""
DOCUMENT_LISTS: tuple[Document, ...] = (
    Document("gen_ai.retrieval.documents"),
    Document("output.value", when=_RETRIEVAL),
    Document("gen_ai.completion", when=_RETRIEVAL),
    Document("langfuse.observation.output", when=_RETRIEVAL),
    Document("traceloop.entity.output", when=_RETRIEVAL),
)
"""Attributes whose JSON is a list of documents or has one in it."""

VECTOR_FAMILY = "embedding.embeddings.#.embedding.vector"
"""Indexed attribute that holds a vector as an array of numbers."""
VECTOR_DOCUMENTS: tuple[tuple[str, tuple[str | int, ...]], ...] = (
    ("ai.embedding", ()),
    ("ai.embeddings", (0,)),
    ("output.value", ("data", 0, "embedding")),
)
"""(attribute, path to the first vector in its document), for embedding spans."""


def _keys() -> Iterable[str]:
    for sources in (INPUT, OUTPUT, RETRIEVAL_QUERY, DOCUMENT_LISTS):
        for source in sources:
            yield from source.keys()
    yield from (*FINISH_REASONS, FINISH_FAMILY, *ERROR_TYPE, *ERROR_MESSAGE, *HTTP_STATUS)
    yield from (key for key, _, _ in FINISH_DOCUMENTS)
    yield from (key for key, _ in VECTOR_DOCUMENTS)
    yield VECTOR_FAMILY
    for family in DOCUMENT_FAMILIES:
        yield from (family.id, family.content, family.score)


CONTENT_KEYS: tuple[str, ...] = tuple(sorted(set(_keys())))
"""Every attribute key that the content columns are read from."""
