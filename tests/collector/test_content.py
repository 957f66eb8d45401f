"""Content columns of hand-made spans: attributes and events in, texts and lists out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from pyflare_collector.normalize import json_kernels
from pyflare_collector.normalize.attributes import AttributeIndex
from pyflare_collector.normalize.content import (
    content_columns,
    events,
    family_kernels,
    render,
    vectors,
)
from pyflare_collector.normalize.content.warm_up import warm_up
from pyflare_collector.normalize.keys import KEYS
from pyflare_proto.otlp.decode import decode
from pyflare_proto.record import SPAN_TYPES, arrow_schema
from tests.otlp_payloads import START_NS, key_values

BRIEF = "system: be brief\n\nuser: Capital of France?"
WEATHER = 'get_weather({"city": "Paris"})'
Event = tuple[str, Mapping[str, object]]


def contents(
    *spans: Mapping[str, object],
    types: Sequence[str] = (),
    told: Sequence[Sequence[Event]] = (),
    errors: Sequence[str | None] = (),
) -> list[dict[str, Any]]:
    """Return the content columns of spans, a dictionary of what is not null each."""
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for i, attributes in enumerate(spans):
        span = scope.spans.add()
        span.trace_id = (i + 1).to_bytes(16, "big")
        span.span_id = (i + 1).to_bytes(8, "big")
        span.start_time_unix_nano = span.end_time_unix_nano = START_NS
        span.attributes.extend(key_values(dict(attributes)))
        for name, values in told[i] if told else ():
            event = span.events.add()
            event.time_unix_nano = START_NS
            event.name = name
            event.attributes.extend(key_values(dict(values)))
        if errors and errors[i] is not None:
            span.status.code = Status.STATUS_CODE_ERROR
            span.status.message = errors[i] or ""
    batch = decode([request.SerializeToString()], KEYS)
    kinds = types or ["llm"] * len(spans)
    codes = np.array([SPAN_TYPES.index(kind) for kind in kinds], np.int8)
    columns = content_columns(batch, AttributeIndex(batch, KEYS), codes)
    for column in columns.values():
        column.validate(full=True)
        assert len(column) == len(spans)
    lists = {name: column.to_pylist() for name, column in columns.items()}
    return [
        {name: values[i] for name, values in lists.items() if values[i] is not None}
        for i in range(len(spans))
    ]


def content(attributes: Mapping[str, object], kind: str = "llm") -> dict[str, Any]:
    """Return the content columns of one span."""
    return contents(attributes, types=[kind])[0]


def messages(*pairs: tuple[str, str]) -> list[dict[str, Any]]:
    """Return messages as the GenAI conventions write them."""
    return [{"role": role, "parts": [{"type": "text", "content": text}]} for role, text in pairs]


ASKED = messages(("system", "be brief"), ("user", "Capital of France?"))
ANSWERED = messages(("assistant", "Paris"))
OPENAI = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "Capital of France?"},
]

EMITTERS: dict[str, tuple[str, dict[str, object], dict[str, Any]]] = {
    "genai, JSON": (
        "llm",
        {
            "gen_ai.input.messages": json.dumps(ASKED),
            "gen_ai.output.messages": json.dumps([{**ANSWERED[0], "finish_reason": "stop"}]),
        },
        {"input": BRIEF, "output": "Paris", "finish_reasons": ["stop"]},
    ),
    "genai, structured": (
        "llm",
        {
            "gen_ai.system_instructions": [{"type": "text", "content": "be brief"}],
            "gen_ai.input.messages": messages(("user", "Capital of France?")),
            "gen_ai.output.messages": ANSWERED,
            "gen_ai.response.finish_reasons": ["stop", "length"],
        },
        {"input": BRIEF, "output": "Paris", "finish_reasons": ["stop", "length"]},
    ),
    "genai, instructions structured and messages JSON": (
        "llm",
        {
            "gen_ai.system_instructions": [{"type": "text", "content": "be brief"}],
            "gen_ai.input.messages": json.dumps(messages(("user", "Capital of France?"))),
        },
        {"input": BRIEF},
    ),
    "traceloop": (
        "llm",
        {
            "gen_ai.prompt.1.role": "user",
            "gen_ai.prompt.1.content": "Capital of France?",
            "gen_ai.prompt.0.role": "system",
            "gen_ai.prompt.0.content": "be brief",
            "gen_ai.completion.0.role": "assistant",
            "gen_ai.completion.0.content": "Paris",
            "gen_ai.completion.0.finish_reason": "stop",
        },
        {"input": BRIEF, "output": "Paris", "finish_reasons": ["stop"]},
    ),
    "traceloop, ten messages": (
        "llm",
        {f"gen_ai.prompt.{i}.content": f"m{i}" for i in range(12)},
        {"input": "\n\n".join(f"m{i}" for i in range(12))},
    ),
    "traceloop, tools and parts": (
        "llm",
        {
            "gen_ai.prompt.0.role": "user",
            "gen_ai.prompt.0.content": json.dumps(
                [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {}}]
            ),
            "gen_ai.completion.0.role": "assistant",
            "gen_ai.completion.0.content": "Let me see",
            "gen_ai.completion.0.tool_calls.0.id": "c",
            "gen_ai.completion.0.tool_calls.0.name": "get_weather",
            "gen_ai.completion.0.tool_calls.0.arguments": '{"city":"Paris"}',
            "gen_ai.completion.0.tool_calls.1.name": "now",
        },
        {"input": "see\n[image]", "output": f"Let me see\n{WEATHER}\nnow()"},
    ),
    "openinference": (
        "llm",
        {
            "llm.input_messages.0.message.role": "system",
            "llm.input_messages.0.message.content": "be brief",
            "llm.input_messages.1.message.role": "user",
            "llm.input_messages.1.message.contents.0.message_content.type": "text",
            "llm.input_messages.1.message.contents.0.message_content.text": "Capital of France?",
            "llm.input_messages.1.message.contents.1.message_content.type": "image",
            "llm.output_messages.0.message.role": "assistant",
            "llm.output_messages.0.message.contents.0.message_content.type": "reasoning",
            "llm.output_messages.0.message.contents.0.message_content.text": "hm",
            "llm.output_messages.0.message.contents.1.message_content.type": "text",
            "llm.output_messages.0.message.contents.1.message_content.text": "Paris",
            "llm.finish_reason": "stop",
            "input.value": "{}",
        },
        {"input": f"{BRIEF}\n[image]", "output": "Paris", "finish_reasons": ["stop"]},
    ),
    "openinference, values only": (
        "chain",
        {"input.value": json.dumps({"messages": OPENAI}), "output.value": "Paris"},
        {"input": BRIEF, "output": "Paris"},
    ),
    "langfuse": (
        "llm",
        {
            "langfuse.observation.input": json.dumps(OPENAI),
            "langfuse.observation.output": json.dumps({"role": "assistant", "content": "Paris"}),
            "gen_ai.output.messages": json.dumps(messages(("assistant", "Lyon"))),
        },
        {"input": BRIEF, "output": "Paris"},
    ),
    "langsmith": (
        "llm",
        {
            "gen_ai.prompt": json.dumps({"messages": OPENAI}),
            "gen_ai.completion": json.dumps({"output": ANSWERED[0]}),
        },
        {"input": BRIEF, "output": "Paris"},
    ),
    "ai sdk": (
        "llm",
        {
            "ai.prompt.messages": json.dumps(OPENAI),
            "ai.response.text": "Let me see",
            "ai.response.toolCalls": json.dumps(
                [{"toolCallId": "c", "toolName": "get_weather", "args": '{"city":"Paris"}'}]
            ),
            "ai.response.finishReason": "tool-calls",
        },
        {"input": BRIEF, "output": f"Let me see\n{WEATHER}", "finish_reasons": ["tool-calls"]},
    ),
    "ai sdk, text alone": ("llm", {"ai.response.text": "Paris"}, {"output": "Paris"}),
    "logfire": (
        "llm",
        {
            "events": json.dumps(
                [
                    {"event.name": "gen_ai.system.message", "content": "be brief"},
                    {"event.name": "gen_ai.user.message", "content": "Capital of France?"},
                    {
                        "event.name": "gen_ai.choice",
                        "message": {"role": "assistant", "content": "Paris"},
                    },
                ]
            ),
            "gen_ai.response.finish_reasons": '["stop"]',
        },
        {"input": BRIEF, "output": "Paris", "finish_reasons": ["stop"]},
    ),
    "logfire, older": (
        "llm",
        {
            "request_data": json.dumps({"model": "gpt-4o", "messages": OPENAI}),
            "response_data": json.dumps({"message": {"role": "assistant", "content": "Paris"}}),
        },
        {"input": BRIEF, "output": "Paris"},
    ),
    "openlit": (
        "llm",
        {"gen_ai.tool.name": "get_weather", "gen_ai.tool.args": '{"city": "Paris"}'},
        {"output": WEATHER},
    ),
    "pyflare": (
        "llm",
        {"pyflare.input.preview": "Capital of France?", "pyflare.output.preview": "Paris"},
        {"input": "Capital of France?", "output": "Paris"},
    ),
    "tool": (
        "tool",
        {
            "gen_ai.tool.call.arguments": '{"city":"Paris"}',
            "gen_ai.tool.call.result": '{"role":"user","content":"not a message here"}',
        },
        {
            "input": '{"city":"Paris"}',
            "output": '{"role":"user","content":"not a message here"}',
        },
    ),
    "tool, structured arguments": (
        "tool",
        {"gen_ai.tool.call.arguments": {"city": "Paris"}},
        {"input": '{"city":"Paris"}'},
    ),
    "empty values are absent": (
        "llm",
        {
            "langfuse.observation.input": "null",
            "gen_ai.input.messages": "[]",
            "ai.prompt": "",
            "input.value": "hello",
            "gen_ai.response.finish_reasons": "[]",
            "anthropic.message.stop_reason": "end_turn",
        },
        {"input": "hello", "finish_reasons": ["end_turn"]},
    ),
    "embedding": (
        "embedding",
        {
            "embedding.embeddings.1.embedding.vector": [9.0],
            "embedding.embeddings.0.embedding.text": "hello",
            "embedding.embeddings.0.embedding.vector": [0.5, -2, 0.25],
            "output.value": '{"data":[{"embedding":[1,2]}]}',
        },
        {"input": "hello", "embedding": [0.5, -2.0, 0.25]},
    ),
    "embedding, ai sdk": (
        "embedding",
        {"ai.value": "hello", "ai.embedding": "[0.5, -1.5e-1, 2]"},
        {"input": "hello", "embedding": [0.5, float(np.float32(-0.15)), 2.0]},
    ),
    "embeddings, ai sdk": (
        "embedding",
        {"ai.values": ["a", "b"], "ai.embeddings": ["[0.5]", "[1]"]},
        {"input": "a\n\nb", "embedding": [0.5]},
    ),
    "embedding in the body": (
        "embedding",
        {"output.value": '{"data":[{"embedding":[0.5,1e-3]}],"model":"m"}'},
        {"embedding": [0.5, float(np.float32(0.001))]},
    ),
    "retriever": (
        "retriever",
        {
            "input.value": "capital?",
            "retrieval.documents.1.document.content": "b",
            "retrieval.documents.0.document.id": "d0",
            "retrieval.documents.0.document.content": "a",
            "retrieval.documents.0.document.score": 0.5,
        },
        {
            "input": "capital?",
            "retrieval_query": "capital?",
            "retrieval_documents": [
                {"id": "d0", "content": "a", "score": 0.5},
                {"id": None, "content": "b", "score": None},
            ],
        },
    ),
    "retriever, genai": (
        "retriever",
        {
            "gen_ai.retrieval.query.text": "capital?",
            "gen_ai.retrieval.documents": [{"id": "d0", "score": 1}, {"id": 7, "score": 0.5}],
        },
        {
            "input": "capital?",
            "retrieval_query": "capital?",
            "retrieval_documents": [
                {"id": "d0", "content": None, "score": 1.0},
                {"id": "7", "content": None, "score": 0.5},
            ],
        },
    ),
    "reranker": (
        "rerank",
        {
            "reranker.query": "capital?",
            "reranker.output_documents.0.document.id": "d0",
            "reranker.output_documents.0.document.score": 0.25,
        },
        {
            "retrieval_query": "capital?",
            "retrieval_documents": [{"id": "d0", "content": None, "score": 0.25}],
        },
    ),
}


@pytest.mark.parametrize("name", list(EMITTERS))
def test_each_emitter_has_its_content(name: str) -> None:
    """The content columns of each emitter's span are exactly these."""
    kind, attributes, want = EMITTERS[name]
    assert content(attributes, kind) == want


def test_all_emitters_together_are_what_they_are_alone() -> None:
    """Sources do not disturb each other's spans: one batch of all spans gives the same."""
    got = contents(
        *(attributes for _, attributes, _ in EMITTERS.values()),
        types=[kind for kind, _, _ in EMITTERS.values()],
    )
    assert got == [want for _, _, want in EMITTERS.values()]


def test_documents_of_langchain_and_others_are_read() -> None:
    """Documents in an output's JSON: LangChain's, scored pairs, metadata, Langfuse's list."""
    spans = [
        {
            "output.value": json.dumps(
                {
                    "documents": [
                        {"page_content": "a", "metadata": {"score": 0.5}, "id": "x"},
                        {"page_content": "b", "metadata": {}, "id": None},
                    ]
                }
            )
        },
        {"output.value": json.dumps([[{"page_content": "a"}, 0.5]])},
        {"langfuse.observation.output": json.dumps(["a", "b"])},
        {"output.value": json.dumps({"documents": []})},
        {"output.value": "[" * 900 + "]" * 900},
    ]
    got = [row.get("retrieval_documents") for row in contents(*spans, types=["retriever"] * 5)]
    assert got == [
        [
            {"id": "x", "content": "a", "score": 0.5},
            {"id": None, "content": "b", "score": None},
        ],
        [{"id": None, "content": "a", "score": 0.5}],
        [
            {"id": None, "content": "a", "score": None},
            {"id": None, "content": "b", "score": None},
        ],
        None,
        None,
    ]


EVENTS: dict[str, tuple[list[Event], dict[str, Any]]] = {
    "one event a message": (
        [
            ("gen_ai.system.message", {"content": "be brief"}),
            ("gen_ai.user.message", {"content": "Capital of France?", "role": "user"}),
            (
                "gen_ai.choice",
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": json.dumps({"role": "assistant", "content": "Paris"}),
                },
            ),
        ],
        {"input": BRIEF, "output": "Paris", "finish_reasons": ["stop"]},
    ),
    "structured message and tool calls": (
        [
            ("gen_ai.user.message", {"content": "Weather?"}),
            (
                "gen_ai.choice",
                {
                    "message": {"role": "assistant", "content": "Let me see"},
                    "tool_calls": [
                        {"function": {"name": "get_weather", "arguments": '{"city":"Paris"}'}}
                    ],
                },
            ),
        ],
        {"input": "Weather?", "output": f"Let me see\n{WEATHER}"},
    ),
    "prompt and completion": (
        [
            ("gen_ai.content.prompt", {"gen_ai.prompt": json.dumps(OPENAI)}),
            ("gen_ai.content.completion", {"gen_ai.completion": "Paris"}),
        ],
        {"input": BRIEF, "output": "Paris"},
    ),
    "operation details": (
        [
            (
                "gen_ai.client.inference.operation.details",
                {
                    "gen_ai.system_instructions": json.dumps(
                        [{"type": "text", "content": "be brief"}]
                    ),
                    "gen_ai.input.messages": messages(("user", "Capital of France?")),
                    "gen_ai.output.messages": json.dumps(ANSWERED),
                },
            )
        ],
        {"input": BRIEF, "output": "Paris"},
    ),
}


@pytest.mark.parametrize("name", list(EVENTS))
def test_events_tell_the_conversation(name: str) -> None:
    """Span events give the same texts as attributes, and leave other spans alone."""
    given, want = EVENTS[name]
    other = {"gen_ai.output.messages": json.dumps(ANSWERED)}
    got = contents({}, other, {}, told=[given, [("noise", {"content": "x"})], given])
    assert got == [want, {"output": "Paris"}, want]


def test_result_events_are_documents() -> None:
    """One `db.query.result` event is one document."""
    results: list[Event] = [
        ("db.query.result", {"db.query.result.id": "a", "db.query.result.score": 0.5}),
        ("db.query.result", {"db.query.result.id": "b", "db.query.result.document": "text"}),
    ]
    got = contents({}, types=["retriever"], told=[results])[0]["retrieval_documents"]
    assert got == [
        {"id": "a", "content": None, "score": 0.5},
        {"id": "b", "content": "text", "score": None},
    ]


def test_errors_are_told_by_status_attribute_or_event() -> None:
    """`error.type`, else the first exception, else the HTTP status; the status's message first."""
    exception: Event = (
        "exception",
        {"exception.type": "openai.RateLimitError", "exception.message": "slow down"},
    )
    second: Event = ("exception", {"exception.type": "Other", "exception.message": "other"})
    got = contents(
        {"error.type": "RateLimitError"},
        {},
        {"http.response.status_code": 429},
        {"http.response.status_code": 429},
        {},
        {"langfuse.observation.level": "ERROR", "langfuse.observation.status_message": "no"},
        {"error.type": ""},
        told=[[exception], [exception, second], [], [], [exception], [], []],
        errors=["429", None, "", None, "", None, "failed"],
    )
    assert got == [
        {"error_type": "RateLimitError", "error_message": "429"},
        {"error_type": "openai.RateLimitError", "error_message": "slow down"},
        {"error_type": "429"},
        {},
        {"error_type": "openai.RateLimitError", "error_message": "slow down"},
        {"error_message": "no"},
        {"error_message": "failed"},
    ]


def test_several_choices_keep_their_order() -> None:
    """Reasons of several choices stand in the order of the choices, for each source."""
    choices = [{**ANSWERED[0], "finish_reason": reason} for reason in ("stop", "length", "stop")]
    got = contents(
        {f"gen_ai.completion.{i}.finish_reason": r for i, r in enumerate(("b", "a", "c"))},
        {"gen_ai.output.messages": json.dumps(choices)},
        {"gen_ai.response.finish_reasons": "stop"},
    )
    assert [row.get("finish_reasons") for row in got] == [
        ["b", "a", "c"],
        ["stop", "length", "stop"],
        ["stop"],
    ]


def test_no_spans_and_no_content_give_null_columns() -> None:
    """Columns have the record's types where nothing is told, too."""
    assert contents({}, {}) == [{}, {}]
    batch = decode([b""], KEYS)
    columns = content_columns(batch, AttributeIndex(batch, KEYS), np.zeros(0, np.int8))
    for name, column in columns.items():
        kind = arrow_schema().field(name).type
        assert column.cast(kind).type == kind
        assert len(column) == 0


def test_invalid_text_is_repaired() -> None:
    """Bytes that are not UTF-8, and half surrogate pairs, become U+FFFD."""
    message = ExportTraceServiceRequest()
    span = message.resource_spans.add().scope_spans.add().spans.add()
    span.trace_id, span.span_id = b"t" * 16, b"s" * 8
    text = r'[{"role":"user","content":"a\ud800b!!!"}]'
    span.attributes.extend(key_values({"gen_ai.input.messages": text}))
    payload = message.SerializeToString().replace(b"!!!", b"\xff\xfe!")
    batch = decode([payload], KEYS)
    columns = content_columns(batch, AttributeIndex(batch, KEYS), np.zeros(1, np.int8))
    assert columns["input"].to_pylist() == ["a�b��!"]


def test_warming_up_compiles_every_kernel() -> None:
    """After `warm_up` all kernels of the content readers have been compiled or loaded."""
    warm_up()
    modules = (render, family_kernels, events, vectors, json_kernels)
    kernels = [
        value
        for module in modules
        for value in vars(module).values()
        if getattr(value, "targetoptions", {}).get("nogil")
        and value.py_func.__module__ == module.__name__
    ]
    assert kernels
    assert all(kernel.signatures for kernel in kernels)
