"""The text of the parts of a message: text, tool calls, tool results, and the rest."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TypeAlias

import orjson

__all__ = [
    "Json",
    "as_json",
    "call_text",
    "content_text",
    "first",
    "is_part",
    "is_tool_call",
    "lines",
    "parse",
    "part_text",
    "tool_calls_text",
]

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

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


def first(value: dict[str, Json], *keys: str) -> Json:
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
    if isinstance(value, list) and value and all(is_part(item) for item in value):
        return content_text(value)
    return _argument_text(value)


def is_part(value: Json) -> bool:
    """Tell whether `value` is a part of a message even where it stands alone."""
    if not isinstance(value, dict):
        return False
    kind = value.get("type")
    if isinstance(kind, str):
        known = kind in _PART_TEXTS or kind in _PLACEHOLDERS or kind in _SILENT_TYPES
        return known or (kind in _TEXT_TYPES and part_text(value) is not None)
    return isinstance(value.get("text"), str) and value.keys() <= _TEXT_ITEM_KEYS


def _media_text(data: dict[str, Json]) -> str:
    mime = str(first(data, "mimeType", "mime_type") or "file")
    return f"[{mime.split('/', maxsplit=1)[0]}]"


def _untyped_call(call: dict[str, Json]) -> str:
    return call_text(call.get("name"), first(call, "args", "input"))


_UNTYPED: tuple[tuple[tuple[str, ...], Callable[[dict[str, Json]], str]], ...] = (
    (("functionCall", "function_call", "toolUse"), _untyped_call),
    (
        ("functionResponse", "function_response"),
        lambda result: _result_text(result.get("response")),
    ),
    (("toolResult",), lambda result: content_text(result.get("content"))),
    (("inlineData", "inline_data", "fileData", "file_data"), _media_text),
    (("image",), lambda _: "[image]"),
    (("video",), lambda _: "[video]"),
    (("document",), lambda _: "[file]"),
    (("json",), as_json),
)
"""Parts that Gemini and Bedrock Converse write without a type: keys, and their text."""


def _untyped_part_text(part: dict[str, Json]) -> str | None:
    """Return the text of a part without a type, None when it is of no known kind."""
    if isinstance(part.get("text"), str):
        return str(part["text"])
    for keys, reader in _UNTYPED:
        value = first(part, *keys)
        if isinstance(value, dict):
            return reader(value)
    return None


_PART_TEXTS: dict[str, Callable[[dict[str, Json]], str]] = {
    "tool_call": lambda p: call_text(p.get("name"), first(p, "arguments", "args")),
    "tool_use": lambda p: call_text(p.get("name"), p.get("input")),
    "server_tool_use": lambda p: call_text(p.get("name"), p.get("input")),
    "function_call": lambda p: call_text(p.get("name"), p.get("arguments")),
    "tool-call": lambda p: call_text(p.get("toolName"), first(p, "input", "args")),
    "tool_call_response": lambda p: _result_text(first(p, "response", "result")),
    "tool_result": lambda p: _result_text(p.get("content")),
    "function_call_output": lambda p: _result_text(p.get("output")),
    "tool-result": lambda p: _result_text(first(p, "output", "result")),
    "refusal": lambda p: _argument_text(first(p, "refusal", "text", "content")),
}
"""Text of each type of part that is neither text nor a placeholder."""


def part_text(part: dict[str, Json]) -> str | None:
    """Return the text of a part of a message, None when `part` is none."""
    kind = part.get("type")
    if not isinstance(kind, str):
        return _untyped_part_text(part)
    if kind in _TEXT_TYPES:
        text = first(part, "text", "content")
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


def content_text(content: Json) -> str:
    """Return the text of a message's content: a string, a part or a list of parts."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        text = part_text(content)
        return as_json(content) if text is None else text
    if isinstance(content, list):
        return lines(part if isinstance(part, str) else content_text(part) for part in content)
    return as_json(content)


def lines(texts: Iterable[str]) -> str:
    """Join the texts that are not empty, one a line."""
    return "\n".join(text for text in texts if text)


def is_tool_call(value: Json) -> bool:
    """Tell whether `value` is a tool call as OpenAI or the AI SDK write it."""
    if not isinstance(value, dict):
        return False
    function = value.get("function")
    called = isinstance(function, dict) and "arguments" in function
    return called or isinstance(value.get("toolName"), str)


def tool_calls_text(calls: Json) -> str:
    """Return the tool calls of a message, one a line."""
    if not isinstance(calls, list):
        return ""
    texts = []
    for call in calls:
        if isinstance(call, dict):
            function = call.get("function")
            inner = function if isinstance(function, dict) else call
            name = first(inner, "name", "toolName")
            texts.append(call_text(name, first(inner, "arguments", "args", "input")))
    return lines(texts)
