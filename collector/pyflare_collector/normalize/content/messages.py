"""The text form of a conversation: what `input` and `output` hold.

Emitters write messages in a dozen JSON shapes. The record holds one text form, the
same for the same conversation whoever told it; the JSON itself stays in `attributes`.

- Plain text, and JSON that is no conversation, stays as it stands.
- A single message is its text alone; several are blocks `role: text`, with an empty
  line between them. System instructions come first, as `system: ...`. A message
  without text is left out.
- The parts of a message stand on lines of their own. A tool call is
  `name(arguments)`, its arguments as JSON with a space behind each comma and colon; a
  tool result is its text. Other parts are `[image]`, `[audio]`, `[file]`,
  `[<type>]`. Reasoning is left out.

`message_kernels` writes the common shapes straight from the bytes; this module reads
all of them and says what is right. It works on one document at a time, so it is for
the shapes that the kernels leave over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from pyflare_collector.normalize.content.parts import (
    Json,
    call_text,
    content_text,
    first,
    is_part,
    is_tool_call,
    lines,
    parse,
    part_text,
    tool_calls_text,
)

__all__ = [
    "Message",
    "answer_text",
    "call_text",
    "document_text",
    "event_messages",
    "join",
]

_MAX_DEPTH = 16
"""Wrappers within wrappers that are followed, far beyond what emitters nest."""


class Message(NamedTuple):
    """One message of a conversation."""

    role: str
    """Who says it; empty when that is not told."""
    text: str
    """What it says."""
    is_instruction: bool = False
    """System instructions that came beside the messages: never without their role."""


_CHAT_TYPES = {
    "human": "user",
    "ai": "assistant",
    "AIMessageChunk": "assistant",
    "HumanMessage": "user",
    "AIMessage": "assistant",
    "SystemMessage": "system",
    "ToolMessage": "tool",
    "FunctionMessage": "function",
    "system": "system",
    "tool": "tool",
    "function": "function",
    "chat": "chat",
}
"""LangChain's types of messages, by role."""
_ITEM_ROLES = {
    "function_call": "assistant",
    "tool_call": "assistant",
    "function_call_output": "tool",
}
"""Items of a conversation that have no role of their own."""


def _body_text(message: dict[str, Json]) -> str:
    """Return the text of a message without its role."""
    body = first(message, "parts", "content")
    content = content_text(body)
    refusal = message.get("refusal")
    if body is None and isinstance(refusal, str):
        content = refusal
    calls = message.get("tool_calls")
    extra = message.get("additional_kwargs")
    if not calls and isinstance(extra, dict):
        calls = extra.get("tool_calls")
    single = message.get("function_call")
    if isinstance(single, dict):
        calls = [single]
    text = tool_calls_text(calls)
    if text and isinstance(body, list) and text in content:
        return content  # LangChain repeats the calls of the content
    return lines((content, text))


def _langchain_object(value: dict[str, Json]) -> Message | None:
    """Read a serialised LangChain message: {"lc": 1, "id": [...], "kwargs": {...}}."""
    kwargs = value.get("kwargs")
    if value.get("lc") is None or not isinstance(kwargs, dict):
        return None
    names = value.get("id")
    name = str(names[-1] if isinstance(names, list) and names else kwargs.get("type"))
    return Message(_CHAT_TYPES.get(name, name), _body_text(kwargs))


def _typed_item(value: dict[str, Json]) -> Message | None:
    """Read an item of OpenAI's Responses, or LangChain's {"type": "human", ...}."""
    kind, data = value.get("type"), value.get("data")
    if not isinstance(kind, str):
        return None
    if kind in _ITEM_ROLES:
        return Message(_ITEM_ROLES[kind], part_text(value) or "")
    if kind == "reasoning" and ("summary" in value or "content" in value):
        return Message("assistant", "")
    body = data if isinstance(data, dict) else value
    if kind in _CHAT_TYPES and "content" in body and "role" not in value:
        return Message(_CHAT_TYPES[kind], _body_text(body))
    return None


def _role_message(value: dict[str, Json]) -> Message | None:
    """Read {"role": "user", "content": ...} or the same with `parts`."""
    role = value.get("role")
    return Message(role, _body_text(value)) if isinstance(role, str) else None


def _wrapped_message(value: dict[str, Json]) -> Message | None:
    """Read a choice {"message": {...}}, or a candidate or content of Gemini."""
    inner = value.get("message")
    if isinstance(inner, dict):
        return _typed_item(inner) or _langchain_object(inner) or _role_message(inner)
    content = value.get("content")
    if isinstance(content, dict) and isinstance(content.get("parts"), list):
        return Message(str(content.get("role") or "model"), _body_text(content))
    if isinstance(value.get("parts"), list):
        return Message("user", content_text(value["parts"]))
    return None


_READERS: tuple[Callable[[dict[str, Json]], Message | None], ...] = (
    _langchain_object,
    _typed_item,
    _role_message,
    _wrapped_message,
)


def _message(value: Json) -> Message | None:
    """Return `value` as a message, None when it is none."""
    if isinstance(value, dict):
        for reader in _READERS:
            message = reader(value)
            if message is not None:
                return message
    return None


def _event_message(event: dict[str, Json]) -> tuple[bool, Message] | None:
    """Return (is a choice, message) of one event of OpenTelemetry's older form."""
    name = event.get("event.name")
    if not isinstance(name, str):
        return None
    if name == "gen_ai.choice":
        message = event.get("message")
        if not isinstance(message, dict):
            return True, Message("assistant", content_text(message))
        return True, Message(str(message.get("role", "assistant")), _body_text(message))
    role = event.get("role")
    if not isinstance(role, str):
        role = name.removeprefix("gen_ai.").removesuffix(".message")
    return False, Message(role, _body_text(event))


def event_messages(value: Json) -> tuple[list[Message], list[Message]]:
    """Split events `gen_ai.*.message` and `gen_ai.choice` into (input, output) messages.

    Args:
        value: list of events as objects with `event.name`.
    """
    asked: list[Message] = []
    answered: list[Message] = []
    for event in value if isinstance(value, list) else []:
        found = _event_message(event) if isinstance(event, dict) else None
        if found is not None:
            (answered if found[0] else asked).append(found[1])
    return asked, answered


def _list_messages(value: list[Json], depth: int) -> list[Message] | None:
    """Return the conversation in a list, None when it is none."""
    if value and all(isinstance(item, list) for item in value):
        # LangChain runs a batch of conversations; each is told by a span of its own.
        return _messages(value[0], depth + 1) if len(value) == 1 else None
    messages = [_message(item) for item in value]
    if all(message is not None for message in messages):
        return [message for message in messages if message is not None]
    if all(isinstance(item, str) for item in value):
        return [Message("", "\n\n".join(str(item) for item in value))]
    if all(is_part(item) for item in value):
        return [Message("", content_text(value))]
    if all(is_tool_call(item) for item in value):
        return [Message("", tool_calls_text(value))]
    return None


_SYSTEM_KEYS = (
    "system",
    "instructions",
    "system_instruction",
    "systemInstruction",
    "system_instructions",
)
_BODY_KEYS = (
    "messages",
    "choices",
    "candidates",
    "generations",
    "contents",
    "items",
    "inputs",
    "outputs",
    "input",
    "output",
    "message",
    "prompt",
    "content",
)
"""Where a body keeps its conversation, the surest first."""


def _system_text(body: dict[str, Json]) -> str:
    """Return the system instructions of a request body."""
    config = body.get("config")
    for source in (body, config if isinstance(config, dict) else {}):
        value = first(source, *_SYSTEM_KEYS)
        if isinstance(value, dict) and isinstance(value.get("parts"), list):
            value = value["parts"]
        if isinstance(value, (str, list)):
            return content_text(value)
    return ""


def _dict_messages(value: dict[str, Json], depth: int) -> list[Message] | None:
    """Return the conversation in an object, None when it is none."""
    message = _message(value)
    if message is not None:
        return [message]
    system = _system_text(value)
    # {"input": "..."} is a wrapper of text, {"input": "...", "size": 3} is data.
    is_wrapper = len(value) == 1 or "model" in value or bool(system)
    for key in _BODY_KEYS:
        body = value.get(key)
        is_text = isinstance(body, str) or (
            isinstance(body, list) and all(isinstance(item, str) for item in body)
        )
        if not body or (is_text and not (is_wrapper and (key != "content" or len(value) == 1))):
            continue
        if isinstance(body, str):
            found: list[Message] | None = [Message("", body)]
        else:
            found = _messages(body, depth + 1)
        if found:
            return _instructed(system, found) if system else found
    if isinstance(value.get("type"), str) or value.keys() == {"text"}:
        return [Message("", part_text(value) or "")] if is_part(value) else None
    return None


def _instructed(system: str, messages: list[Message]) -> list[Message]:
    """Return the conversation with system instructions before it."""
    told = [Message(m.role or "user", m.text, m.is_instruction) for m in messages]
    return [Message("system", system, is_instruction=True), *told]


def _messages(value: Json, depth: int = 0) -> list[Message] | None:
    """Return the conversation that a document holds, None when it holds none."""
    if depth > _MAX_DEPTH:
        return None
    if isinstance(value, list):
        return _list_messages(value, depth)
    if isinstance(value, dict):
        return _dict_messages(value, depth)
    return None


def join(messages: Sequence[Message]) -> str | None:
    """Return the text form of a conversation, None when it has no text."""
    told = [message for message in messages if message.text]
    if not told:
        return None
    if len(told) == 1 and not told[0].is_instruction:
        return told[0].text
    return "\n\n".join(f"{m.role}: {m.text}" if m.role else m.text for m in told)


def document_text(text: str, system: str | None = None) -> str | None:
    """Return the text form of an attribute's value.

    Args:
        text: plain text or a JSON document.
        system: system instructions that came in an attribute of their own: plain text,
            a JSON string or a JSON list of parts.

    Returns:
        The text, None when there is none (an empty document, `null`).
    """
    if not text.strip(" \n\r\t"):
        return None
    instructions = _system_attribute(system) if system else ""
    try:
        messages = _read(text)
    except RecursionError:
        # Nested deeper than any conversation: data, which stays as it stands.
        messages = None
    if messages is None:
        messages = [Message("", text)]
    return join(_instructed(instructions, messages) if instructions else messages)


def _read(text: str) -> list[Message] | None:
    """Return the conversation in JSON text, None when the text is plain or holds none."""
    if text.lstrip(" \n\r\t")[:1] not in {"[", "{", '"', "n"}:
        return None
    try:
        value = parse(text)
    except ValueError:
        return None
    if value is None or value in ([], {}, ""):
        return []
    return [Message("", value)] if isinstance(value, str) else _messages(value)


def _system_attribute(text: str) -> str:
    """Return the text of an attribute that holds system instructions."""
    if text.lstrip(" \n\r\t")[:1] in {"[", "{", '"'}:
        try:
            return content_text(parse(text))
        except (ValueError, RecursionError):
            return text
    return text


def answer_text(text: bytes, calls: bytes) -> str | None:
    """Return an answer's text with its tool calls behind it, None when it has neither.

    Args:
        text: text of the answer, may be empty.
        calls: JSON list of tool calls.
    """
    try:
        told = tool_calls_text(parse(calls))
    except (ValueError, RecursionError):
        told = ""
    return lines((text.decode("utf-8", "replace"), told)) or None
