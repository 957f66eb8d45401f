"""Anthropic's messages: how requests, answers and streams are read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pyflare._usage import usage_counts
from pyflare.integrations._api import Answer, Api, Message, items, part, text_of
from pyflare.types import TokenUsage

__all__ = ["APIS"]


def _parts(content: object) -> list[Message]:
    if isinstance(content, str):
        return [{"type": "text", "content": content}] if content else []
    blocks = content if isinstance(content, list | tuple) else ()
    return [_block(block) for block in blocks]


def _block(block: object) -> Message:
    kind = text_of(block, "type")
    if kind == "text":
        return {"type": "text", "content": text_of(block, "text")}
    if kind == "thinking":
        return {"type": "reasoning", "content": text_of(block, "thinking")}
    if kind.endswith("tool_use"):
        return {
            "type": "tool_call",
            "id": part(block, "id"),
            "name": part(block, "name"),
            "arguments": part(block, "input"),
        }
    if kind.endswith("tool_result"):
        inner = part(block, "content")
        told = "".join(text_of(p, "content") for p in _parts(inner)) if inner else ""
        return {"type": "tool_call_response", "id": part(block, "tool_use_id"), "response": told}
    # Pictures and documents are told by their kind; they are no text to keep.
    return {"type": kind or "unknown"}


def _request_messages(body: Mapping[str, Any]) -> tuple[list[Message], list[Message]]:
    messages = [
        {"role": text_of(message, "role"), "parts": _parts(part(message, "content"))}
        for message in items(body, "messages")
    ]
    return _parts(body.get("system")), messages


def _read_message(answer: object, content: bool) -> Answer:
    usage = part(answer, "usage")
    reason = text_of(answer, "stop_reason")
    found = Answer(
        response_id=text_of(answer, "id"),
        model=text_of(answer, "model"),
        usage=None if usage is None else TokenUsage.from_response(usage),
        finish_reasons=[reason] if reason else [],
        service_tier=text_of(usage, "service_tier"),
    )
    if content:
        found.messages = [_said(_parts(part(answer, "content")), reason)]
    return found


def _said(parts: list[Message], reason: str) -> Message:
    return {"role": "assistant", "parts": parts, "finish_reason": reason}


class _MessageReader:
    """Puts the events of a message stream together.

    The usage stands in `message_start`; `message_delta` brings it up to date, with
    totals, not with differences.
    """

    def __init__(self, content: bool) -> None:
        self.answer = Answer()
        self._content = content
        self._usage: dict[str, Any] = {}
        self._blocks: dict[int, Message] = {}
        self._inputs: dict[int, list[str]] = {}

    def add(self, event: object) -> None:
        """Take the next event."""
        kind = text_of(event, "type")
        if kind == "message_start":
            self.answer = _read_message(part(event, "message"), content=False)
            self._update(part(event, "message", "usage"))
        elif kind == "message_delta":
            self._update(part(event, "usage"))
            if reason := text_of(event, "delta", "stop_reason"):
                self.answer.finish_reasons = [reason]
        elif self._content and kind == "content_block_start":
            self._blocks[part(event, "index")] = _block(part(event, "content_block"))
        elif self._content and kind == "content_block_delta":
            self._extend(part(event, "index"), part(event, "delta"))

    def _update(self, usage: object) -> None:
        for name in (
            "input_tokens",
            "output_tokens",
            "cache_read_input_tokens",
            "cache_creation_input_tokens",
            "cache_creation",
            "output_tokens_details",
        ):
            value = part(usage, name)
            if value is not None:
                self._usage[name] = value
        self.answer.service_tier = text_of(usage, "service_tier") or self.answer.service_tier
        if self._usage:
            self.answer.usage = TokenUsage(**usage_counts(self._usage))

    def _extend(self, index: int, delta: object) -> None:
        block = self._blocks.setdefault(index, {"type": "text", "content": ""})
        if pieces := text_of(delta, "partial_json"):
            self._inputs.setdefault(index, []).append(pieces)
        elif "content" in block:
            block["content"] += text_of(delta, "text") or text_of(delta, "thinking")

    def finish(self) -> None:
        """Complete the answer."""
        for index, pieces in self._inputs.items():
            text = "".join(pieces)
            try:
                self._blocks[index]["arguments"] = json.loads(text)
            except ValueError:
                self._blocks[index]["arguments"] = text
        if self._blocks:
            parts = [block for _, block in sorted(self._blocks.items())]
            self.answer.messages = [_said(parts, "".join(self.answer.finish_reasons))]


_MESSAGES = Api(
    "chat",
    "llm",
    {
        "gen_ai.request.max_tokens": "max_tokens",
        "gen_ai.request.temperature": "temperature",
        "gen_ai.request.top_p": "top_p",
        "gen_ai.request.top_k": "top_k",
        "gen_ai.request.stop_sequences": "stop_sequences",
        "gen_ai.request.reasoning.level": "output_config.effort",
    },
    _read_message,
    _MessageReader,
    _request_messages,
)

APIS: Mapping[str, Api] = {"/v1/messages": _MESSAGES}
"""Path of the request, as the client's methods give it, to its API."""
