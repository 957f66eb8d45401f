"""The text form of conversations, shape by shape, and compiled against plain reading."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyflare_collector.normalize.content.messages import document_text
from pyflare_collector.normalize.content.render import render
from pyflare_proto.otlp.batch import Slices

WEATHER = 'get_weather({"city": "Paris"})'


def rendered(texts: list[str], systems: list[str] | None = None) -> list[str | None]:
    """Return the text forms through the compiled path."""
    parts = [*texts, *(systems or [])]
    encoded = [part.encode() for part in parts]
    length = np.array([len(part) for part in encoded], np.int32)
    offset = (np.cumsum(length) - length).astype(np.int64)
    n = len(texts)
    system = Slices(offset[n:], length[n:]) if systems else None
    buffer = np.frombuffer(b"".join(encoded) or b" ", np.uint8)
    found = render(buffer, Slices(offset[:n], length[:n]), system)
    return [
        text if present else None
        for text, present in zip(found.values.to_pylist(), found.present, strict=True)
    ]


def gen_ai(role: str, *parts: dict[str, Any]) -> dict[str, Any]:
    """Return a message as the GenAI conventions write it."""
    return {"role": role, "parts": list(parts)}


def text_part(text: str) -> dict[str, Any]:
    """Return a text part as the GenAI conventions write it."""
    return {"type": "text", "content": text}


CALL_PART = {"type": "tool_call", "id": "c", "name": "get_weather", "arguments": {"city": "Paris"}}
OPENAI_CALL = {
    "id": "c",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
}
PARIS = {"content": "Paris", "role": "assistant"}
QUESTION = [{"type": "text", "text": "Capital of France?"}]
USE = {"type": "tool_use", "name": "get_weather", "input": {"city": "Paris"}}
ITEM = {"type": "function_call", "name": "get_weather", "arguments": '{"city":"Paris"}'}
FUNCTION = {"functionCall": {"name": "get_weather", "args": {"city": "Paris"}}}
BRIEF = "system: be brief\n\nuser: Capital of France?"

SHAPES: dict[str, tuple[Any, str | None]] = {
    "one message": ([gen_ai("assistant", text_part("Paris"))], "Paris"),
    "two messages": (
        [gen_ai("system", text_part("be brief")), gen_ai("user", text_part("Capital of France?"))],
        BRIEF,
    ),
    "tool call": ([gen_ai("assistant", CALL_PART)], WEATHER),
    "tool call, arguments as text": (
        [gen_ai("assistant", {**CALL_PART, "arguments": '{"city":"Paris"}'})],
        WEATHER,
    ),
    "tool call without arguments": (
        [gen_ai("assistant", {"type": "tool_call", "name": "now", "arguments": None})],
        "now()",
    ),
    "text and tool call": (
        [gen_ai("assistant", text_part("Let me see"), CALL_PART)],
        f"Let me see\n{WEATHER}",
    ),
    "tool result": (
        [
            gen_ai("assistant", CALL_PART),
            gen_ai("tool", {"type": "tool_call_response", "id": "c", "response": "rainy"}),
        ],
        f"assistant: {WEATHER}\n\ntool: rainy",
    ),
    "tool result as JSON": (
        [gen_ai("tool", {"type": "tool_call_response", "response": {"sky": "rain"}})],
        '{"sky": "rain"}',
    ),
    "reasoning is left out": (
        [gen_ai("assistant", {"type": "reasoning", "content": "hm"}, text_part("Paris"))],
        "Paris",
    ),
    "image beside text": (
        [gen_ai("user", text_part("what is it?"), {"type": "blob", "modality": "image"})],
        "what is it?\n[image]",
    ),
    "empty message is left out": (
        [gen_ai("system", text_part("")), gen_ai("user", text_part("hi"))],
        "hi",
    ),
    "openai text": ([{"role": "user", "content": "hi"}], "hi"),
    "openai parts": (
        [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "see"},
                    {"type": "image_url", "image_url": {"url": "data:"}},
                    {"type": "input_audio", "input_audio": {}},
                    {"type": "file", "file": {}},
                ],
            }
        ],
        "see\n[image]\n[audio]\n[file]",
    ),
    "openai tool calls": (
        [{"role": "assistant", "content": None, "tool_calls": [OPENAI_CALL]}],
        WEATHER,
    ),
    "openai function call": (
        [{"role": "assistant", "content": None, "function_call": OPENAI_CALL["function"]}],
        WEATHER,
    ),
    "openai refusal": ([{"role": "assistant", "content": None, "refusal": "no"}], "no"),
    "openai request": (
        {
            "model": "gpt-4o",
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": "Capital of France?"},
            ],
        },
        BRIEF,
    ),
    "openai response": (
        {
            "id": "x",
            "choices": [{"index": 0, "message": {"content": "Paris", "role": "assistant"}}],
        },
        "Paris",
    ),
    "openai response, two choices": (
        {
            "choices": [
                {"message": {"role": "assistant", "content": "Paris"}},
                {"message": {"role": "assistant", "content": "Lyon"}},
            ]
        },
        "assistant: Paris\n\nassistant: Lyon",
    ),
    "openai completion": ({"choices": [{"text": "Paris", "index": 0}]}, "Paris"),
    "openai responses request": (
        {"model": "gpt-4o", "input": "Capital of France?", "instructions": "be brief"},
        BRIEF,
    ),
    "openai responses answer": (
        {
            "id": "resp_1",
            "output": [
                {"type": "reasoning", "summary": []},
                {
                    "type": "message",
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": "Paris", "annotations": []}],
                },
            ],
        },
        "Paris",
    ),
    "openai responses tool call": (
        {
            "output": [
                {"type": "function_call", "name": "get_weather", "arguments": '{"city":"Paris"}'}
            ]
        },
        WEATHER,
    ),
    "openai embedding request": ({"model": "text-embedding-3-small", "input": "hello"}, "hello"),
    "anthropic request": (
        {
            "system": "be brief",
            "messages": [{"role": "user", "content": "Capital of France?"}],
            "max_tokens": 5,
        },
        BRIEF,
    ),
    "anthropic system blocks": (
        {
            "system": [{"type": "text", "text": "be brief"}],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Capital of France?"}]}
            ],
        },
        BRIEF,
    ),
    "anthropic response": (
        {
            "id": "msg_1",
            "role": "assistant",
            "type": "message",
            "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Paris"}],
        },
        "Paris",
    ),
    "anthropic tool use": (
        [
            {
                "role": "assistant",
                "content": [
                    {"type": "tool_use", "name": "get_weather", "input": {"city": "Paris"}}
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "content": [{"type": "text", "text": "rainy"}]}
                ],
            },
        ],
        f"assistant: {WEATHER}\n\nuser: rainy",
    ),
    "ai sdk": (
        [
            {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "tool-call", "toolName": "get_weather", "input": {"city": "Paris"}}
                ],
            },
            {
                "role": "tool",
                "content": [{"type": "tool-result", "output": {"type": "text", "value": "rainy"}}],
            },
        ],
        f"user: Weather?\n\nassistant: {WEATHER}\n\ntool: rainy",
    ),
    "ai sdk prompt": ({"system": "be brief", "prompt": "Capital of France?"}, BRIEF),
    "gemini request": (
        {
            "contents": [{"role": "user", "parts": [{"text": "Capital of France?"}]}],
            "systemInstruction": {"parts": [{"text": "be brief"}]},
        },
        BRIEF,
    ),
    "gemini response": (
        {"candidates": [{"content": {"role": "model", "parts": [{"text": "Paris"}]}}]},
        "Paris",
    ),
    "gemini function call": (
        {
            "candidates": [
                {
                    "content": {
                        "parts": [
                            {"functionCall": {"name": "get_weather", "args": {"city": "Paris"}}}
                        ]
                    }
                }
            ]
        },
        WEATHER,
    ),
    "bedrock converse": (
        {"output": {"message": {"role": "assistant", "content": [{"text": "Paris"}]}}},
        "Paris",
    ),
    "langchain serialised": (
        {
            "messages": [
                [
                    {
                        "lc": 1,
                        "type": "constructor",
                        "id": ["langchain", "schema", "messages", "SystemMessage"],
                        "kwargs": {"content": "be brief", "type": "system"},
                    },
                    {
                        "lc": 1,
                        "type": "constructor",
                        "id": ["langchain", "schema", "messages", "HumanMessage"],
                        "kwargs": {"content": "Capital of France?", "type": "human"},
                    },
                ]
            ]
        },
        BRIEF,
    ),
    "langchain typed": (
        [
            {"type": "system", "data": {"content": "be brief"}},
            {"type": "human", "data": {"content": "Capital of France?"}},
        ],
        BRIEF,
    ),
    "langchain generations": (
        {
            "generations": [
                [
                    {
                        "text": "Paris",
                        "type": "ChatGeneration",
                        "message": {"lc": 1, "id": ["AIMessage"], "kwargs": {"content": "Paris"}},
                    }
                ]
            ]
        },
        "Paris",
    ),
    "langchain wrapper": ({"input": "Capital of France?"}, "Capital of France?"),
    "livekit": (
        {"items": [{"id": "1", "type": "message", "role": "user", "content": ["hi"]}]},
        "hi",
    ),
    "genkit": ({"message": {"role": "model", "content": [{"text": "Paris"}]}}, "Paris"),
    "older events": (
        [
            {"event.name": "gen_ai.user.message", "role": "user", "content": "hi"},
        ],
        "hi",
    ),
    "batch of embedding inputs": (["hello", "world"], "hello\n\nworld"),
    "nothing": ([], None),
    "null": (None, None),
    "empty text": ("", None),
    "a JSON string": ("quoted", "quoted"),
}

DATA = [
    '{"city":"Paris"}',
    '{"prompt": "a cat", "size": "1024"}',
    '{"args":["x"],"kwargs":{}}',
    "[1,2,3]",
    '[{"id":"d1","score":0.5}]',
    '[{"type":"Feature","properties":{}}]',
    '{"type":"object","properties":{}}',
    '[{"type":"function","function":{"name":"get_weather","parameters":{}}}]',
    '{"messages":[]}',
    "plain text",
    '"Hello," she said.',
    "{not json",
    '[{"role":"user","content":"cut off',
    "[" * 3000 + "]" * 3000,
    '{"message":' * 900 + "1" + "}" * 900,
    "  spaced  ",
    "true",
    "12",
]


@pytest.mark.parametrize("name", list(SHAPES))
@pytest.mark.parametrize("spaced", [False, True])
def test_each_shape_has_its_text(name: str, spaced: bool) -> None:  # noqa: FBT001  # parameter of the test
    """Every emitter's shape gives the documented text, by both readers, however it is spaced."""
    value, want = SHAPES[name]
    text = json.dumps(value, indent=2) if spaced else json.dumps(value, separators=(",", ":"))
    assert document_text(text) == want
    assert rendered([text]) == [want]


@pytest.mark.parametrize("text", DATA)
def test_data_and_plain_text_stay_as_they_are(text: str) -> None:
    """What is no conversation is not touched: data, plain text, cut or deeply nested JSON."""
    assert document_text(text) == text
    assert rendered([text]) == [text]


@pytest.mark.parametrize(
    "system", ['[{"type":"text","content":"be brief"}]', '"be brief"', "be brief"]
)
def test_system_instructions_come_first(system: str) -> None:
    """Instructions of an attribute of their own are the first block, whatever their form."""
    messages = json.dumps([gen_ai("user", text_part("Capital of France?"))])
    assert document_text(messages, system) == BRIEF
    assert rendered([messages], [system]) == [BRIEF]
    assert rendered(["[]"], [system]) == ["system: be brief"]
    assert rendered(["Capital of France?"], [system]) == [BRIEF]


def test_leftovers_stand_at_their_rows() -> None:
    """Rows that need the other reader keep their place among compiled and empty rows."""
    texts = [json.dumps(SHAPES["gemini response"][0]), "a", "", json.dumps([]), "b"]
    assert rendered([*texts, texts[0]]) == ["Paris", "a", None, None, "b", "Paris"]


TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)
ROLES = st.sampled_from(["user", "assistant", "system", "tool"])
ARGUMENTS = st.dictionaries(
    TEXTS, st.one_of(st.integers(-999, 999), TEXTS, st.booleans(), st.none()), max_size=3
)
PARTS = st.one_of(
    TEXTS.map(text_part),
    TEXTS.map(lambda text: {"type": "text", "text": text}),
    TEXTS,
    st.builds(lambda n, a: {"type": "tool_call", "name": n, "arguments": a}, TEXTS, ARGUMENTS),
    st.builds(
        lambda n, a: {"type": "tool_use", "name": n, "input": json.dumps(a)}, TEXTS, ARGUMENTS
    ),
    TEXTS.map(lambda text: {"type": "tool_call_response", "response": text}),
    st.just({"type": "reasoning", "content": "hm"}),
    st.just({"type": "image"}),
)
CALLS = st.builds(
    lambda n, a: {"id": "c", "function": {"name": n, "arguments": json.dumps(a)}}, TEXTS, ARGUMENTS
)
MESSAGES = st.one_of(
    st.builds(lambda r, p: {"role": r, "parts": p}, ROLES, st.lists(PARTS, max_size=3)),
    st.builds(lambda c, r: {"content": c, "role": r}, TEXTS, ROLES),
    st.builds(
        lambda c, t, r: {"content": c, "tool_calls": t, "role": r, "name": None},
        st.one_of(st.none(), TEXTS),
        st.lists(CALLS, max_size=2),
        ROLES,
    ),
)
BODIES = st.one_of(
    st.lists(MESSAGES, max_size=4),
    MESSAGES,
    st.builds(lambda m: {"model": "x", "messages": m}, st.lists(MESSAGES, min_size=1, max_size=3)),
    st.builds(
        lambda s, m: {"system": s, "messages": m}, TEXTS, st.lists(MESSAGES, min_size=1, max_size=3)
    ),
    st.builds(
        lambda m: {"choices": [{"index": 0, "message": one} for one in m]},
        st.lists(MESSAGES, min_size=1, max_size=3),
    ),
    ARGUMENTS,
)


@settings(deadline=None, max_examples=400)
@given(st.lists(st.tuples(BODIES, st.booleans(), st.booleans()), min_size=1, max_size=4))
def test_the_compiled_reader_agrees_with_the_plain_one(
    bodies: list[tuple[Any, bool, bool]],
) -> None:
    """Both readers give the same text for any conversation in the common shapes."""
    texts = [
        json.dumps(body, ensure_ascii=ascii_only, separators=None if spaced else (",", ":"))
        for body, ascii_only, spaced in bodies
    ]
    assert rendered(texts) == [document_text(text) for text in texts]


@settings(deadline=None, max_examples=150)
@given(BODIES, st.integers(0, 300))
def test_a_cut_document_stays_as_it_is(body: Any, cut: int) -> None:
    """A document that an attribute limit cut short is plain text to both readers."""
    text = json.dumps(body)
    cut_text = text[: min(cut, len(text) - 1)]
    assert rendered([cut_text]) == [document_text(cut_text)]


@settings(deadline=None, max_examples=150)
@given(st.lists(st.binary(max_size=60), max_size=5))
def test_any_bytes_are_rendered_without_an_error(values: list[bytes]) -> None:
    """Random bytes give valid UTF-8 and one text a row."""
    length = np.array([len(value) for value in values], np.int32)
    buffer = np.frombuffer(b"".join(values) or b" ", np.uint8)
    found = render(buffer, Slices((np.cumsum(length) - length).astype(np.int64), length))
    found.values.validate(full=True)
    assert len(found.values) == len(values)
