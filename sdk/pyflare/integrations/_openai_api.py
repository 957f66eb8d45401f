"""OpenAI's APIs: how their requests and answers are read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pyflare.integrations._api import Answer, Api, Message, items, part, text_of
from pyflare.types import TokenUsage

__all__ = ["APIS"]


def _usage(answer: object) -> TokenUsage | None:
    usage = part(answer, "usage")
    return None if usage is None else TokenUsage.from_response(usage)


def _head(answer: object) -> Answer:
    return Answer(
        response_id=text_of(answer, "id"),
        model=text_of(answer, "model"),
        usage=_usage(answer),
        service_tier=text_of(answer, "service_tier"),
        fingerprint=text_of(answer, "system_fingerprint"),
    )


# Chat


def _content_parts(content: object) -> list[Message]:
    if isinstance(content, str):
        return [{"type": "text", "content": content}] if content else []
    found: list[Message] = []
    for block in content if isinstance(content, list | tuple) else ():
        kind = text_of(block, "type")
        if kind in {"text", "input_text", "output_text"}:
            found.append({"type": "text", "content": text_of(block, "text")})
        elif kind == "refusal":
            found.append({"type": "text", "content": text_of(block, "refusal")})
        elif kind:
            # Pictures, sound and files are told by their kind; they are no text to keep.
            found.append({"type": kind})
    return found


def _arguments(text: object) -> object:
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _tool_call(identity: object, name: object, arguments: object) -> Message:
    return {
        "type": "tool_call",
        "id": identity,
        "name": name,
        "arguments": _arguments(arguments),
    }


def _tool_calls(message: object) -> list[Message]:
    return [
        _tool_call(
            part(call, "id"),
            part(call, "function", "name") or part(call, "custom", "name"),
            part(call, "function", "arguments") or part(call, "custom", "input"),
        )
        for call in items(message, "tool_calls")
    ]


def _chat_message(message: object) -> Message:
    role = text_of(message, "role")
    parts = _content_parts(part(message, "content"))
    if role == "tool":
        response = "".join(text_of(p, "content") for p in parts)
        identity = part(message, "tool_call_id")
        parts = [{"type": "tool_call_response", "id": identity, "response": response}]
    if refusal := text_of(message, "refusal"):
        parts.append({"type": "text", "content": refusal})
    return {"role": role, "parts": [*parts, *_tool_calls(message)]}


def _chat_messages(body: Mapping[str, Any]) -> tuple[list[Message], list[Message]]:
    return [], [_chat_message(message) for message in items(body, "messages")]


def _read_chat(answer: object, content: bool) -> Answer:
    found = _head(answer)
    for choice in items(answer, "choices"):
        found.finish_reasons.append(text_of(choice, "finish_reason"))
        if content:
            message = _chat_message(part(choice, "message"))
            message["role"] = message["role"] or "assistant"
            found.messages.append({**message, "finish_reason": found.finish_reasons[-1]})
    return found


class _ChatReader:
    """Puts the chunks of a chat stream together."""

    def __init__(self, content: bool) -> None:
        self.answer = Answer()
        self._content = content
        self._reasons: dict[int, str] = {}
        self._texts: dict[int, list[str]] = {}
        self._calls: dict[tuple[int, int], dict[str, str]] = {}

    def add(self, event: object) -> None:
        """Take the next chunk."""
        answer = self.answer
        answer.response_id = answer.response_id or text_of(event, "id")
        answer.model = answer.model or text_of(event, "model")
        answer.service_tier = answer.service_tier or text_of(event, "service_tier")
        answer.fingerprint = answer.fingerprint or text_of(event, "system_fingerprint")
        answer.usage = _usage(event) or answer.usage
        for choice in items(event, "choices"):
            index = part(choice, "index") or 0
            if reason := text_of(choice, "finish_reason"):
                self._reasons[index] = reason
            if self._content:
                self._keep(index, part(choice, "delta"), text_of(choice, "text"))

    def _keep(self, index: int, delta: object, text: str) -> None:
        said = text or text_of(delta, "content") or text_of(delta, "refusal")
        self._texts.setdefault(index, []).append(said)
        for call in items(delta, "tool_calls"):
            place = index, part(call, "index") or 0
            kept = self._calls.setdefault(place, {"id": "", "name": "", "arguments": ""})
            kept["id"] += text_of(call, "id")
            kept["name"] += text_of(call, "function", "name")
            kept["arguments"] += text_of(call, "function", "arguments")

    def finish(self) -> None:
        """Complete the answer."""
        self.answer.finish_reasons = [self._reasons[index] for index in sorted(self._reasons)]
        self.answer.messages = [
            {
                "role": "assistant",
                "parts": [
                    *_content_parts("".join(texts)),
                    *(
                        _tool_call(call["id"], call["name"], call["arguments"])
                        for (choice, _), call in sorted(self._calls.items())
                        if choice == index
                    ),
                ],
                "finish_reason": self._reasons.get(index, ""),
            }
            for index, texts in sorted(self._texts.items())
        ]


# Completions, the API before chat


def _read_completion(answer: object, content: bool) -> Answer:
    found = _head(answer)
    for choice in items(answer, "choices"):
        found.finish_reasons.append(text_of(choice, "finish_reason"))
        if content:
            parts = _content_parts(text_of(choice, "text"))
            found.messages.append({"role": "assistant", "parts": parts})
    return found


def _prompt(body: Mapping[str, Any]) -> tuple[list[Message], list[Message]]:
    prompts = body.get("prompt")
    texts = prompts if isinstance(prompts, list) else [prompts]
    parts = [{"type": "text", "content": text} for text in texts if isinstance(text, str)]
    return [], [{"role": "user", "parts": parts}] if parts else []


# Responses


def _responses_input(body: Mapping[str, Any]) -> tuple[list[Message], list[Message]]:
    given = body.get("input")
    system = _content_parts(body.get("instructions"))
    if isinstance(given, str):
        return system, [{"role": "user", "parts": _content_parts(given)}]
    return system, [_responses_item(item) for item in items(body, "input")]


def _responses_item(item: object) -> Message:
    kind = text_of(item, "type")
    if kind in {"function_call", "custom_tool_call"}:
        arguments = part(item, "arguments") or part(item, "input")
        call = _tool_call(part(item, "call_id"), part(item, "name"), arguments)
        return {"role": "assistant", "parts": [call]}
    if kind in {"function_call_output", "custom_tool_call_output"}:
        output = part(item, "output")
        parts = {"type": "tool_call_response", "id": part(item, "call_id"), "response": output}
        return {"role": "tool", "parts": [parts]}
    role = text_of(item, "role") or "assistant"
    parts_of = _content_parts(part(item, "content"))
    return {"role": role, "parts": parts_of or [{"type": kind or "message"}]}


def _read_response(answer: object, content: bool) -> Answer:
    found = _head(answer)
    found.error_type = text_of(answer, "error", "code")
    output = items(answer, "output")
    calls = any(text_of(item, "type") == "function_call" for item in output)
    reason = text_of(answer, "incomplete_details", "reason")
    if reason:
        found.finish_reasons = [reason]
    elif text_of(answer, "status") == "completed":
        found.finish_reasons = ["tool_calls" if calls else "stop"]
    if content:
        found.messages = [_responses_item(item) for item in output]
    return found


class _ResponsesReader:
    """Waits for the event of a responses stream that holds the whole answer."""

    def __init__(self, content: bool) -> None:
        self.answer = Answer()
        self._content = content

    def add(self, event: object) -> None:
        """Take the next event."""
        response = part(event, "response")
        if response is not None and text_of(event, "type").startswith("response."):
            self.answer = _read_response(response, self._content)
        elif text_of(event, "type") == "error":
            self.answer.error_type = text_of(event, "code") or "error"

    def finish(self) -> None:
        """Nothing is left to be done."""


# Embeddings


def _read_embeddings(answer: object, content: bool) -> Answer:  # noqa: ARG001 - Api.read
    found = _head(answer)
    vectors = items(answer, "data")
    found.dimensions = len(items(vectors[0], "embedding")) if vectors else 0
    return found


def _texts_to_embed(body: Mapping[str, Any]) -> tuple[list[Message], list[Message]]:
    given = body.get("input")
    texts = given if isinstance(given, list) else [given]
    parts = [{"type": "text", "content": text} for text in texts if isinstance(text, str)]
    return [], [{"role": "user", "parts": parts}] if parts else []


_SAMPLING = {
    "gen_ai.request.temperature": "temperature",
    "gen_ai.request.top_p": "top_p",
    "openai.request.service_tier": "service_tier",
}
_CHOICES = {
    **_SAMPLING,
    "gen_ai.request.max_tokens": "max_tokens",
    "gen_ai.request.seed": "seed",
    "gen_ai.request.choice.count": "n",
    "gen_ai.request.stop_sequences": "stop",
    "gen_ai.request.frequency_penalty": "frequency_penalty",
    "gen_ai.request.presence_penalty": "presence_penalty",
}

_RESPONSES = Api(
    "chat",
    "llm",
    {
        **_SAMPLING,
        "gen_ai.request.max_tokens": "max_output_tokens",
        "gen_ai.request.reasoning.level": "reasoning.effort",
        "gen_ai.request.previous_response.id": "previous_response_id",
    },
    _read_response,
    _ResponsesReader,
    _responses_input,
)

APIS: Mapping[str, Api] = {
    "/chat/completions": Api(
        "chat",
        "llm",
        {
            **_CHOICES,
            "gen_ai.request.max_tokens": "max_completion_tokens|max_tokens",
            "gen_ai.request.reasoning.level": "reasoning_effort",
        },
        _read_chat,
        _ChatReader,
        _chat_messages,
        asks_stream_usage=True,
    ),
    "/completions": Api(
        "text_completion",
        "llm",
        _CHOICES,
        _read_completion,
        _ChatReader,
        _prompt,
        asks_stream_usage=True,
    ),
    "/responses": _RESPONSES,
    "/responses/compact": _RESPONSES,
    "/embeddings": Api(
        "embeddings",
        "embedding",
        {"gen_ai.embeddings.dimension.count": "dimensions"},
        _read_embeddings,
        messages=_texts_to_embed,
    ),
}
"""Path of the request, as the client's methods give it, to its API."""
