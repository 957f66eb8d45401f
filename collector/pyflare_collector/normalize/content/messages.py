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

import json
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

import orjson

__all__ = [
    "Json",
    "Message",
    "answer_text",
    "as_json",
    "call_text",
    "document_text",
    "event_messages",
    "join",
    "parse",
]

Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"

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

_TEXT_TYPES = {"text", "input_text", "output_text", "summary_text"}
_SILENT_TYPES = {"reasoning", "thinking", "redacted_thinking", "reasoning-delta", "step-start"}
_TEXT_ITEM_KEYS = {"text", "index", "finish_reason", "logprobs", "thought", "generation_info"}
"""What may stand beside the text of an untyped part or a completion's choice."""
_PLACEHOLDERS = {
    "image": "image",
    "audio": "audio",
    "video": "video",
    "file": "file",
    "image_url": "image",
    "input_image": "image",
    "input_audio": "audio",
    "input_file": "file",
    "document": "file",
}


def parse(text: str | bytes) -> Json:
    """Return the JSON document `text`.

    Raises:
        ValueError: it is none, or is nested too deep to read.
    """
    try:
        value: Json = orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            # Half a surrogate pair, which orjson refuses, may stand in a cut text.
            value = _without_surrogates(json.loads(text))
        except RecursionError as error:
            raise ValueError("JSON is nested too deep") from error
    return value


def _without_surrogates(value: Json) -> Json:
    """Return the document with half surrogate pairs replaced by U+FFFD."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {str(_without_surrogates(k)): _without_surrogates(v) for k, v in value.items()}
    return value


def as_json(value: Json) -> str:
    """Return JSON text with one space behind each comma and colon."""
    return json.dumps(value, ensure_ascii=False)


def _argument_text(value: Json) -> str:
    """Return a tool's arguments as text; JSON in a string is spaced evenly."""
    if value is None:
        return ""
    if isinstance(value, str):
        if value.lstrip(" \n\r\t")[:1] in {"{", "["}:
            try:
                return as_json(parse(value))
            except ValueError:
                return value
        return value
    return as_json(value)


def call_text(name: Json, arguments: Json) -> str:
    """Return a tool call as `name(arguments)`."""
    return f"{name or 'tool'}({_argument_text(arguments)})"


def _first(value: dict[str, Json], *keys: str) -> Json:
    """Return the first value of `keys` that is there and not null."""
    for key in keys:
        found = value.get(key)
        if found is not None:
            return found
    return None


def _result_text(value: Json) -> str:
    """Return a tool's result as text; a list of parts is read as a message's content."""
    if isinstance(value, dict) and isinstance(value.get("type"), str) and "value" in value:
        value = value["value"]  # {"type": "text", "value": ...} of the AI SDK
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(_is_part(item) for item in value):
        return _content_text(value)
    return _argument_text(value)


def _is_part(value: Json) -> bool:
    """Tell whether `value` is a part of a message even where it stands alone."""
    if not isinstance(value, dict):
        return False
    kind = value.get("type")
    if isinstance(kind, str):
        known = kind in _PART_TEXTS or kind in _PLACEHOLDERS or kind in _SILENT_TYPES
        return known or (kind in _TEXT_TYPES and _part_text(value) is not None)
    return isinstance(value.get("text"), str) and value.keys() <= _TEXT_ITEM_KEYS


def _untyped_part_text(part: dict[str, Json]) -> str | None:
    """Return the text of a part that Gemini or Bedrock Converse writes, without a type."""
    if isinstance(part.get("text"), str):
        return str(part["text"])
    call = _first(part, "functionCall", "function_call", "toolUse")
    if isinstance(call, dict):
        return call_text(call.get("name"), _first(call, "args", "input"))
    result = _first(part, "functionResponse", "function_response")
    if isinstance(result, dict):
        return _result_text(result.get("response"))
    result = part.get("toolResult")
    if isinstance(result, dict):
        return _content_text(result.get("content"))
    data = _first(part, "inlineData", "inline_data", "fileData", "file_data")
    if isinstance(data, dict):
        mime = str(_first(data, "mimeType", "mime_type") or "file")
        return f"[{mime.split('/', maxsplit=1)[0]}]"
    for kind in ("image", "video", "document"):
        if isinstance(part.get(kind), dict):
            return f"[{_PLACEHOLDERS.get(kind, kind)}]"
    if isinstance(part.get("json"), (dict, list)):
        return as_json(part["json"])
    return None


_PART_TEXTS: dict[str, Callable[[dict[str, Json]], str]] = {
    "tool_call": lambda p: call_text(p.get("name"), _first(p, "arguments", "args")),
    "tool_use": lambda p: call_text(p.get("name"), p.get("input")),
    "server_tool_use": lambda p: call_text(p.get("name"), p.get("input")),
    "function_call": lambda p: call_text(p.get("name"), p.get("arguments")),
    "tool-call": lambda p: call_text(p.get("toolName"), _first(p, "input", "args")),
    "tool_call_response": lambda p: _result_text(_first(p, "response", "result")),
    "tool_result": lambda p: _result_text(p.get("content")),
    "function_call_output": lambda p: _result_text(p.get("output")),
    "tool-result": lambda p: _result_text(_first(p, "output", "result")),
    "refusal": lambda p: _argument_text(_first(p, "refusal", "text", "content")),
}
"""Text of each type of part that is neither text nor a placeholder."""


def _part_text(part: dict[str, Json]) -> str | None:
    """Return the text of a part of a message, None when `part` is none."""
    kind = part.get("type")
    if not isinstance(kind, str):
        return _untyped_part_text(part)
    if kind in _TEXT_TYPES:
        text = _first(part, "text", "content")
        return text if isinstance(text, str) else None
    if kind in _SILENT_TYPES:
        return ""
    reader = _PART_TEXTS.get(kind)
    if reader is not None:
        return reader(part)
    modality = part.get("modality")
    if isinstance(modality, str):
        return f"[{modality}]"
    return f"[{_PLACEHOLDERS.get(kind, kind)}]"


def _content_text(content: Json) -> str:
    """Return the text of a message's content: a string, a part or a list of parts."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        text = _part_text(content)
        return as_json(content) if text is None else text
    if isinstance(content, list):
        return _lines(part if isinstance(part, str) else _content_text(part) for part in content)
    return as_json(content)


def _lines(texts: Iterable[str]) -> str:
    """Join the texts that are not empty, one a line."""
    return "\n".join(text for text in texts if text)


def _is_tool_call(value: Json) -> bool:
    """Tell whether `value` is a tool call as OpenAI or the AI SDK write it."""
    return isinstance(value, dict) and (
        isinstance(value.get("function"), dict) or isinstance(value.get("toolName"), str)
    )


def _tool_calls_text(calls: Json) -> str:
    """Return the tool calls of a message, one a line."""
    if not isinstance(calls, list):
        return ""
    texts = []
    for call in calls:
        if isinstance(call, dict):
            function = call.get("function")
            inner = function if isinstance(function, dict) else call
            name = _first(inner, "name", "toolName")
            texts.append(call_text(name, _first(inner, "arguments", "args", "input")))
    return _lines(texts)


def _body_text(message: dict[str, Json]) -> str:
    """Return the text of a message without its role."""
    body = _first(message, "parts", "content")
    content = _content_text(body)
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
    text = _tool_calls_text(calls)
    if text and isinstance(body, list) and text in content:
        return content  # LangChain repeats the calls of the content
    return _lines((content, text))


def _message(value: Json) -> Message | None:
    """Return `value` as a message, None when it is none."""
    if not isinstance(value, dict):
        return None
    kwargs = value.get("kwargs")
    if value.get("lc") is not None and isinstance(kwargs, dict):
        names = value.get("id")
        name = names[-1] if isinstance(names, list) and names else kwargs.get("type")
        return Message(_CHAT_TYPES.get(str(name), str(name)), _body_text(kwargs))
    role, kind, data = value.get("role"), value.get("type"), value.get("data")
    if isinstance(role, str) and (
        isinstance(kind, str) and kind in {"function_call", "function_call_output"}
    ):
        role = None
    if isinstance(role, str):
        return Message(role, _body_text(value))
    if isinstance(kind, str):
        if kind in _CHAT_TYPES:
            body = data if isinstance(data, dict) else value
            if "content" in body:
                return Message(_CHAT_TYPES[kind], _body_text(body))
        if kind in {"function_call", "tool_call"}:
            return Message("assistant", _part_text(value) or "")
        if kind == "function_call_output":
            return Message("tool", _part_text(value) or "")
        if kind == "reasoning" and ("summary" in value or "content" in value):
            return Message("assistant", "")
    inner = value.get("message")
    if isinstance(inner, dict):
        return _message(inner)
    content = value.get("content")  # a candidate of Gemini
    if isinstance(content, dict) and isinstance(content.get("parts"), list):
        role = content.get("role")
        return Message(str(role or "model"), _body_text(content))
    if isinstance(value.get("parts"), list):
        return Message("user", _content_text(value["parts"]))
    return None


def _event_message(event: dict[str, Json]) -> tuple[bool, Message] | None:
    """Return (is a choice, message) of one event of OpenTelemetry's older form."""
    name = event.get("event.name")
    if not isinstance(name, str):
        return None
    if name == "gen_ai.choice":
        message = event.get("message")
        if not isinstance(message, dict):
            return True, Message("assistant", _content_text(message))
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
    if not value:
        return []
    if all(isinstance(item, str) for item in value):
        return [Message("", "\n\n".join(str(item) for item in value))]
    if all(isinstance(item, list) for item in value):
        # LangChain runs a batch of conversations; each is told by a span of its own.
        return _messages(value[0], depth + 1) if len(value) == 1 else None
    messages = [_message(item) for item in value]
    if all(message is not None for message in messages):
        return [message for message in messages if message is not None]
    if all(_is_part(item) for item in value):
        return [Message("", _content_text(value))]
    if all(_is_tool_call(item) for item in value):
        return [Message("", _tool_calls_text(value))]
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
        value = _first(source, *_SYSTEM_KEYS)
        if isinstance(value, dict) and isinstance(value.get("parts"), list):
            value = value["parts"]
        if isinstance(value, (str, list)):
            return _content_text(value)
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
        return [Message("", _part_text(value) or "")] if _is_part(value) else None
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
    messages: list[Message] | None = None
    if text.lstrip(" \n\r\t")[:1] in {"[", "{", '"', "n"}:
        try:
            value = parse(text)
        except ValueError:
            value = text
        if value is None or value in ([], {}, ""):
            messages = []
        elif isinstance(value, str):
            messages = [Message("", value)]
        else:
            messages = _messages(value)
    if messages is None:
        messages = [Message("", text)]
    return join(_instructed(instructions, messages) if instructions else messages)


def _system_attribute(text: str) -> str:
    """Return the text of an attribute that holds system instructions."""
    if text.lstrip(" \n\r\t")[:1] in {"[", "{", '"'}:
        try:
            return _content_text(parse(text))
        except ValueError:
            return text
    return text


def answer_text(text: bytes, calls: bytes) -> str | None:
    """Return an answer's text with its tool calls behind it, None when it has neither.

    Args:
        text: text of the answer, may be empty.
        calls: JSON list of tool calls.
    """
    try:
        told = _tool_calls_text(parse(calls))
    except ValueError:
        told = ""
    return _lines((text.decode("utf-8", "replace"), told)) or None
