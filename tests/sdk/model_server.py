"""A server that speaks OpenAI's and Anthropic's APIs, streams included, with chosen usage.

The last message of a request says what to answer, in words such as
`in=1200 out=300 cached=1000`; see `Wish`. The server keeps what it answered, so that a
test knows the truth without asking the code under test.
"""

from __future__ import annotations

import base64
import itertools
import json
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

__all__ = ["Call", "ModelServer"]


@dataclass
class Call:
    """One request that was answered."""

    path: str
    model: str
    body: dict[str, Any]
    headers: dict[str, str]
    status: int = 200
    usage: dict[str, int] = field(default_factory=dict)
    """genai-prices' keys: input_tokens (the total), output_tokens, cache_read_tokens, ..."""
    tier: str = ""


class Wish(dict[str, str]):
    """What a request asks to be answered, in words such as `in=7`.

    `in`, `out`, `cached`, `reasoning`, `audio_in`, `audio_out` (OpenAI), `read`, `write`,
    `hour` (Anthropic) are token counts; `model` and `tier` are told in the answer; `tool`
    asks for a call of a tool, `status` for an error, `break` breaks a stream off.
    """

    def __init__(self, text: str) -> None:
        super().__init__(word.split("=", 1) for word in text.split() if "=" in word)

    def count(self, name: str) -> int:
        """Return a count, 0 where it is not said."""
        return int(self.get(name, 0))


class ModelServer:
    """The server, on a port of its own, as a context manager."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        ids = itertools.count(1)
        owner = self

        class Handler(_Handler):
            server_state = owner

            def next_id(self, prefix: str) -> str:
                return f"{prefix}{next(ids):08d}"

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def answered(self) -> list[Call]:
        """The calls that got an answer of a model."""
        return [call for call in self.calls if call.status == 200]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that go away: some tests let them."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: ModelServer

    def next_id(self, prefix: str) -> str:
        """Return an id that no other answer has."""
        raise NotImplementedError

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""

    def do_POST(self) -> None:
        """Answer a request."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path = self.path.partition("?")[0]
        wish = Wish(_last_text(body))
        call = Call(path, str(wish.get("model") or body["model"]), body, dict(self.headers))
        self.server_state.calls.append(call)
        if "status" in wish:
            call.status = wish.count("status")
            error = {"error": {"type": "overloaded", "message": "no", "code": "overloaded"}}
            self._json(error, call.status)
            return
        kind = {
            "/v1/chat/completions": self._chat,
            "/v1/completions": self._completion,
            "/v1/responses": self._response,
            "/v1/embeddings": self._embeddings,
            "/v1/messages": self._message,
        }[path]
        kind(call, wish)

    # OpenAI

    def _openai_usage(self, call: Call, wish: Wish) -> None:
        call.tier = wish.get("tier", "")
        call.usage = _some(
            input_tokens=wish.count("in"),
            output_tokens=wish.count("out"),
            cache_read_tokens=wish.count("cached"),
            output_reasoning_tokens=wish.count("reasoning"),
            input_audio_tokens=wish.count("audio_in"),
            output_audio_tokens=wish.count("audio_out"),
        )

    def _chat_usage(self, wish: Wish) -> dict[str, Any]:
        return {
            "prompt_tokens": wish.count("in"),
            "completion_tokens": wish.count("out"),
            "total_tokens": wish.count("in") + wish.count("out"),
            "prompt_tokens_details": {
                "cached_tokens": wish.count("cached"),
                "audio_tokens": wish.count("audio_in"),
            },
            "completion_tokens_details": {
                "reasoning_tokens": wish.count("reasoning"),
                "audio_tokens": wish.count("audio_out"),
            },
        }

    def _chat(self, call: Call, wish: Wish) -> None:
        self._openai_usage(call, wish)
        head = {
            "id": self.next_id("chatcmpl-"),
            "created": 1_790_000_000,
            "model": call.model,
            "service_tier": call.tier or "default",
            "system_fingerprint": "fp_test",
        }
        tool = {"name": "weather", "arguments": '{"city": "Rome"}'}
        reason = "tool_calls" if "tool" in wish else "stop"
        if not call.body.get("stream"):
            message: dict[str, Any] = {"role": "assistant", "content": "The answer."}
            if "tool" in wish:
                calls = [{"id": "call_1", "type": "function", "function": tool}]
                message = {"role": "assistant", "content": None, "tool_calls": calls}
            choice = {"index": 0, "message": message, "finish_reason": reason}
            usage = self._chat_usage(wish)
            self._json({**head, "object": "chat.completion", "choices": [choice], "usage": usage})
            return
        asked = (call.body.get("stream_options") or {}).get("include_usage")
        if not asked:
            call.usage = {}

        def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            more = {"usage": None} if asked else {}
            return {**head, "object": "chat.completion.chunk", "choices": [choice], **more}

        def chunks() -> Iterator[Any]:
            yield chunk({"role": "assistant", "content": ""})
            if "tool" in wish:
                first = {"index": 0, "id": "call_1", "type": "function"}
                named = {**first, "function": {"name": "weather", "arguments": ""}}
                yield chunk({"tool_calls": [named]})
                for piece in ('{"city": ', '"Rome"}'):
                    yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
            else:
                for piece in ("The ", "answer", "."):
                    yield chunk({"content": piece})
            if "break" in wish:
                yield None
            yield chunk({}, reason)
            if asked:
                usage = self._chat_usage(wish)
                yield {**head, "object": "chat.completion.chunk", "choices": [], "usage": usage}

        self._stream(((None, c) for c in chunks()), done=True)

    def _completion(self, call: Call, wish: Wish) -> None:
        self._openai_usage(call, wish)
        head = {"id": self.next_id("cmpl-"), "object": "text_completion", "created": 1}
        choice = {"index": 0, "text": "The answer.", "finish_reason": "stop", "logprobs": None}
        usage = self._chat_usage(wish)
        self._json({**head, "model": call.model, "choices": [choice], "usage": usage})

    def _response(self, call: Call, wish: Wish) -> None:
        self._openai_usage(call, wish)
        text = {"type": "output_text", "text": "The answer.", "annotations": []}
        output: list[dict[str, Any]] = [
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
             "content": [text]}
        ]  # fmt: skip
        if "tool" in wish:
            output = [
                {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "weather",
                 "arguments": '{"city": "Rome"}', "status": "completed"}
            ]  # fmt: skip
        response = {
            "id": self.next_id("resp_"),
            "object": "response",
            "created_at": 1_790_000_000,
            "model": call.model,
            "status": "completed",
            "service_tier": call.tier or "default",
            "output": output,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": {
                "input_tokens": wish.count("in"),
                "input_tokens_details": {"cached_tokens": wish.count("cached")},
                "output_tokens": wish.count("out"),
                "output_tokens_details": {"reasoning_tokens": wish.count("reasoning")},
                "total_tokens": wish.count("in") + wish.count("out"),
            },
        }
        if not call.body.get("stream"):
            self._json(response)
            return
        begun = {**response, "status": "in_progress", "output": [], "usage": None}
        place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
        events: list[dict[str, Any]] = [{"type": "response.created", "response": begun}]
        if "tool" not in wish:
            item = {**output[0], "status": "in_progress", "content": []}
            empty = {**text, "text": ""}
            events += [
                {"type": "response.output_item.added", "output_index": 0, "item": item},
                {"type": "response.content_part.added", **place, "part": empty},
                {"type": "response.output_text.delta", **place, "delta": "The answer.",
                 "logprobs": []},
                {"type": "response.output_text.done", **place, "text": "The answer.",
                 "logprobs": []},
                {"type": "response.content_part.done", **place, "part": text},
            ]  # fmt: skip
        events.append({"type": "response.completed", "response": response})
        numbered = [{**event, "sequence_number": i} for i, event in enumerate(events)]
        self._stream((event["type"], event) for event in numbered)

    def _embeddings(self, call: Call, wish: Wish) -> None:
        call.usage = {"input_tokens": wish.count("in")}
        vector: Any = [0.1, 0.2, 0.3]
        if call.body.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack("<3f", *vector)).decode()
        self._json(
            {
                "object": "list",
                "model": call.model,
                "data": [{"object": "embedding", "index": 0, "embedding": vector}],
                "usage": {"prompt_tokens": wish.count("in"), "total_tokens": wish.count("in")},
            }
        )

    # Anthropic

    def _message(self, call: Call, wish: Wish) -> None:
        read, write, hour = wish.count("read"), wish.count("write"), wish.count("hour")
        call.tier = wish.get("tier", "")
        call.usage = _some(
            input_tokens=wish.count("in") + read + write,
            output_tokens=wish.count("out"),
            cache_read_tokens=read,
            cache_write_tokens=write,
            cache_write_1h_tokens=hour,
        )
        usage = {
            "input_tokens": wish.count("in"),
            "output_tokens": wish.count("out"),
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": write,
            "cache_creation": {
                "ephemeral_5m_input_tokens": write - hour,
                "ephemeral_1h_input_tokens": hour,
            },
            "service_tier": call.tier or "standard",
        }
        block: dict[str, Any] = {"type": "text", "text": "The answer."}
        reason = "end_turn"
        if "tool" in wish:
            reason = "tool_use"
            block = {"type": "tool_use", "id": "toolu_1", "name": "weather",
                     "input": {"city": "Rome"}}  # fmt: skip
        message = {
            "id": self.next_id("msg_"),
            "type": "message",
            "role": "assistant",
            "model": call.model,
            "content": [block],
            "stop_reason": reason,
            "stop_sequence": None,
            "usage": usage,
        }
        if not call.body.get("stream"):
            self._json(message)
            return
        begun = {**message, "content": [], "stop_reason": None, "usage": {**usage,
                 "output_tokens": 1}}  # fmt: skip

        def events() -> Iterator[Any]:
            yield {"type": "message_start", "message": begun}
            start = {"type": "content_block_start", "index": 0}
            delta = {"type": "content_block_delta", "index": 0}
            if "tool" in wish:
                yield {**start, "content_block": {**block, "input": {}}}
                for piece in ('{"city": ', '"Rome"}'):
                    yield {**delta, "delta": {"type": "input_json_delta", "partial_json": piece}}
            else:
                yield {**start, "content_block": {"type": "text", "text": ""}}
                for piece in ("The ", "answer", "."):
                    yield {**delta, "delta": {"type": "text_delta", "text": piece}}
            if "break" in wish:
                yield None
            yield {"type": "content_block_stop", "index": 0}
            end = {"stop_reason": reason, "stop_sequence": None}
            total = {"output_tokens": wish.count("out")}
            yield {"type": "message_delta", "delta": end, "usage": total}
            yield {"type": "message_stop"}

        self._stream((None if e is None else e["type"], e) for e in events())

    # HTTP

    def _json(self, document: object, status: int = 200) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, events: Iterator[Any], *, done: bool = False) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for name, event in events:
            if event is None:  # the connection breaks
                self.close_connection = True
                return
            head = f"event: {name}\n" if name else ""
            self._chunk(f"{head}data: {json.dumps(event)}\n\n")
        if done:
            self._chunk("data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()


def _some(**counts: int) -> dict[str, int]:
    return {
        name: count
        for name, count in counts.items()
        if count or name in {"input_tokens", "output_tokens"}
    }


def _last_text(body: dict[str, Any]) -> str:
    given = body.get("messages") or body.get("input") or body.get("prompt")
    last = given[-1] if isinstance(given, list) else given
    content = last.get("content", "") if isinstance(last, dict) else last
    if isinstance(content, list):
        content = " ".join(block.get("text", "") for block in content)
    return str(content)
