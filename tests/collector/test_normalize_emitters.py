"""Spans of emitters that no capture is held of, made by hand after the conventions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.collector.normalize_helpers import SpanCase, record, records

GPT_4O_CALL_NANO_USD = 670_000
"""36 * 2.50 + 64 * 1.25 + 50 * 10 = 670 micro-dollars."""
CLAUDE_CALL_NANO_USD = 911_700
"""36 * 3 + 54 * 0.30 + 10 * 3.75 + 50 * 15 = 911.7 micro-dollars."""
CLAUDE = "claude-sonnet-4-5-20250929"

CASES: dict[str, tuple[SpanCase, dict[str, Any]]] = {
    "langfuse_flat": (
        SpanCase(
            {
                "langfuse.observation.type": "generation",
                "langfuse.observation.model.name": CLAUDE,
                "langfuse.observation.usage_details": json.dumps(
                    {
                        "input": 36,
                        "output": 50,
                        "cache_read_input_tokens": 54,
                        "cache_creation_input_tokens": 10,
                        "total": 150,
                    }
                ),
                "session.id": "s",
                "user.id": "u",
                "langfuse.trace.name": "support",
                "langfuse.environment": "prod",
                "langfuse.release": "1.2",
                "langfuse.trace.metadata.team": "core",
                "langfuse.observation.prompt.name": "greet",
                "langfuse.observation.prompt.version": 3,
                "langfuse.observation.completion_start_time": '"2025-10-09T08:53:20.250000Z"',
            },
            scope="langfuse-sdk",
        ),
        {
            "span_type": "llm",
            "provider": "anthropic",
            "model": CLAUDE,
            "input_tokens": 100,
            "cache_read_tokens": 54,
            "cache_write_tokens": 10,
            "output_tokens": 50,
            "total_tokens": 150,
            "usage_basis": "inferred",
            "cost_nano_usd": CLAUDE_CALL_NANO_USD,
            "user_id": "u",
            "session_id": "s",
            "feature": "support",
            "environment": "prod",
            "service_version": "1.2",
            "team": "core",
            "prompt_template": "greet",
            "prompt_version": "3",
            "time_to_first_token_ms": 250.0,
        },
    ),
    "langfuse_raw_openai_usage": (
        SpanCase(
            {
                "langfuse.observation.type": "generation",
                "langfuse.observation.model.name": "gpt-4o-2024-08-06",
                "langfuse.observation.usage_details": json.dumps(
                    {
                        "prompt_tokens": 100,
                        "completion_tokens": 50,
                        "total_tokens": 150,
                        "prompt_tokens_details": {"cached_tokens": 64},
                        "completion_tokens_details": {"reasoning_tokens": 20},
                    }
                ),
            },
            scope="langfuse-sdk",
        ),
        {
            "input_tokens": 100,
            "cache_read_tokens": 64,
            "reasoning_tokens": 20,
            "output_tokens": 50,
            "usage_basis": "reported",
            "cost_nano_usd": GPT_4O_CALL_NANO_USD,
        },
    ),
    "logfire": (
        SpanCase(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.system": "openai",
                "request_data": '{"messages": [], "model": "gpt-4o"}',
                "gen_ai.request.model": "gpt-4o",
                "gen_ai.response.model": "gpt-4o-2024-08-06",
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 50,
                "gen_ai.usage.raw": json.dumps(
                    {
                        "prompt_tokens": 100,
                        "completion_tokens": 50,
                        "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 0},
                    }
                ),
                "operation.cost": 0.00067,
                "gen_ai.response.finish_reasons": '["stop"]',
            },
            scope="logfire.openai",
        ),
        {
            "span_type": "llm",
            "input_tokens": 100,
            "cache_read_tokens": 64,
            "cost_nano_usd": GPT_4O_CALL_NANO_USD,
            "cost_status": "priced",
            "usage_basis": "reported",
        },
    ),
    "logfire_anthropic_raw": (
        SpanCase(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.system": "anthropic",
                "gen_ai.response.model": CLAUDE,
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 50,
                "gen_ai.usage.raw": json.dumps(
                    {
                        "input_tokens": 36,
                        "output_tokens": 50,
                        "cache_read_input_tokens": 54,
                        "cache_creation_input_tokens": 10,
                        "cache_creation": {
                            "ephemeral_5m_input_tokens": 10,
                            "ephemeral_1h_input_tokens": 0,
                        },
                    }
                ),
            },
            scope="logfire.anthropic",
        ),
        {
            "input_tokens": 100,
            "cache_read_tokens": 54,
            "cache_write_tokens": 10,
            "usage_basis": "reported",
            "cost_nano_usd": CLAUDE_CALL_NANO_USD,
        },
    ),
    "langsmith_llm": (
        SpanCase(
            {
                "langsmith.span.kind": "llm",
                "gen_ai.operation.name": "chat",
                "gen_ai.system": "langchain",
                "langsmith.metadata.ls_provider": "openai",
                "langsmith.metadata.ls_model_name": "gpt-4o",
                "gen_ai.response.model": "gpt-4o-2024-08-06",
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 50,
                "gen_ai.usage.total_tokens": 150,
                "gen_ai.usage.input_token_details": "{'cache_read': 64}",
                "gen_ai.usage.output_token_details": "{'reasoning': 20}",
                "langsmith.metadata.user_id": "u",
                "langsmith.metadata.thread_id": "t",
                "langsmith.trace.session_name": "project",
            },
            scope="langsmith",
        ),
        {
            "span_type": "llm",
            "provider": "openai",
            "model_request": "gpt-4o",
            "cache_read_tokens": 64,
            "reasoning_tokens": 20,
            "user_id": "u",
            "session_id": "t",
            "cost_nano_usd": GPT_4O_CALL_NANO_USD,
        },
    ),
    "langsmith_chain_with_copied_usage": (
        SpanCase(
            {
                "langsmith.span.kind": "chain",
                "gen_ai.operation.name": "chat",
                "gen_ai.response.model": "gpt-4o-2024-08-06",
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 50,
            },
            scope="langsmith",
        ),
        {
            "span_type": "chain",
            "cost_status": "not_billable",
            "cost_nano_usd": None,
            "input_tokens": None,
            "usage_basis": None,
        },
    ),
    "langsmith_retriever_that_says_embeddings": (
        SpanCase(
            {"langsmith.span.kind": "retriever", "gen_ai.operation.name": "embeddings"},
            scope="langsmith",
        ),
        {"span_type": "retriever", "operation": "embeddings"},
    ),
    "vercel_legacy_call": (
        SpanCase(
            {
                "ai.operationId": "ai.generateText.doGenerate",
                "operation.name": "ai.generateText.doGenerate support-chat",
                "ai.telemetry.functionId": "support-chat",
                "ai.telemetry.metadata.userId": "u",
                "ai.telemetry.metadata.sessionId": "s",
                "ai.telemetry.metadata.team": "core",
                "ai.model.provider": "openai.chat",
                "ai.model.id": "gpt-4o",
                "ai.response.model": "gpt-4o-2024-08-06",
                "ai.response.id": "chatcmpl-1",
                "ai.usage.promptTokens": 100,
                "ai.usage.completionTokens": 50,
                "ai.usage.cachedInputTokens": 64,
                "ai.usage.reasoningTokens": 20,
                "ai.response.msToFirstChunk": 120.5,
            },
            scope="ai",
        ),
        {
            "span_type": "llm",
            "provider": "openai",
            "model_request": "gpt-4o",
            "model_response": "gpt-4o-2024-08-06",
            "response_id": "chatcmpl-1",
            "input_tokens": 100,
            "output_tokens": 50,
            "total_tokens": 150,
            "cache_read_tokens": 64,
            "reasoning_tokens": 20,
            "user_id": "u",
            "session_id": "s",
            "team": "core",
            "feature": "support-chat",
            "time_to_first_token_ms": 120.5,
            "cost_nano_usd": GPT_4O_CALL_NANO_USD,
        },
    ),
    "vercel_legacy_cache_in_provider_metadata": (
        SpanCase(
            {
                "ai.operationId": "ai.streamText.doStream",
                "ai.model.provider": "openai.responses",
                "ai.model.id": "gpt-4o-2024-08-06",
                "ai.usage.promptTokens": 100,
                "ai.usage.completionTokens": 50,
                "ai.response.providerMetadata": '{"openai": {"cachedPromptTokens": 64}}',
            },
            scope="ai",
        ),
        {"span_type": "llm", "cache_read_tokens": 64, "cost_nano_usd": GPT_4O_CALL_NANO_USD},
    ),
    "vercel_legacy_outer_span": (
        SpanCase(
            {
                "ai.operationId": "ai.generateText",
                "ai.model.id": "gpt-4o",
                "ai.usage.promptTokens": 100,
                "ai.usage.completionTokens": 50,
            },
            scope="ai",
        ),
        {"span_type": "chain", "cost_status": "not_billable", "input_tokens": None},
    ),
    "vercel_legacy_embedding": (
        SpanCase(
            {
                "ai.operationId": "ai.embed.doEmbed",
                "ai.model.provider": "openai.embedding",
                "ai.model.id": "text-embedding-3-small",
                "ai.usage.tokens": 7,
            },
            scope="ai",
        ),
        {"span_type": "embedding", "input_tokens": 7, "cost_nano_usd": 140},
    ),
    "vercel_legacy_tool": (
        SpanCase({"ai.operationId": "ai.toolCall", "ai.toolCall.name": "weather"}, scope="ai"),
        {"span_type": "tool", "tool_name": "weather"},
    ),
    "vercel_7_agent_with_copied_usage": (
        SpanCase(
            {
                "gen_ai.operation.name": "invoke_agent",
                "gen_ai.agent.name": "a",
                "gen_ai.request.model": "gpt-4o",
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 50,
            },
            scope="@ai-sdk/otel",
        ),
        {"span_type": "agent", "agent_name": "a", "cost_nano_usd": None, "input_tokens": None},
    ),
    "vercel_7_call": (
        SpanCase(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "anthropic",
                "gen_ai.request.model": "claude-sonnet-4-5",
                "gen_ai.response.model": CLAUDE,
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 50,
                "gen_ai.usage.cache_read.input_tokens": 54,
                "gen_ai.usage.cache_creation.input_tokens": 10,
                "gen_ai.client.operation.time_to_first_chunk": 0.25,
                "ai.settings.context.userId": "u",
                "ai.settings.context.team": "core",
            },
            scope="@ai-sdk/otel",
        ),
        {
            "span_type": "llm",
            "cost_nano_usd": CLAUDE_CALL_NANO_USD,
            "time_to_first_token_ms": 250.0,
            "user_id": "u",
            "team": "core",
        },
    ),
    "litellm": (
        SpanCase(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "gpt-4o",
                "gen_ai.response.model": "gpt-4o-2024-08-06",
                "gen_ai.response.id": "chatcmpl-1",
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 50,
                "gen_ai.usage.cache_read.input_tokens": 64,
                "litellm.cost.total": 0.5,
                "litellm.team.alias": "core",
                "litellm.team.id": "7",
                "litellm.end_user.id": "u",
            },
            scope="litellm",
        ),
        {
            "cost_nano_usd": GPT_4O_CALL_NANO_USD,
            "cost_status": "priced",
            "team": "core",
            "user_id": "u",
        },
    ),
    "litellm_of_a_model_without_price": (
        SpanCase(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "litellm",
                "gen_ai.request.model": "our-own-model",
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 50,
                "litellm.cost.total": 0.0125,
                "metadata.user_api_key_team_alias": "core",
                "metadata.user_api_key_user_id": "u",
            },
            scope="litellm",
        ),
        {
            "provider": None,
            "cost_nano_usd": 12_500_000,
            "cost_status": "reported",
            "price_source": "reported",
            "team": "core",
            "user_id": "u",
        },
    ),
    "litellm_inner_span": (
        SpanCase({"gen_ai.operation.name": "litellm.proxy_pre_call"}, scope="litellm"),
        {"span_type": "span", "cost_status": "not_billable"},
    ),
    "claude_code": (
        SpanCase(
            {
                "span.type": "llm_request",
                "model": CLAUDE,
                "input_tokens": 36,
                "output_tokens": 50,
                "cache_read_tokens": 54,
                "cache_creation_tokens": 10,
                "ttft_ms": 800,
                "session.id": "s",
                "user.id": "u",
            },
            scope="com.anthropic.claude_code.tracing",
            name="claude_code.llm_request",
        ),
        {
            "span_type": "llm",
            "provider": "anthropic",
            "input_tokens": 100,
            "usage_basis": "inferred",
            "cost_nano_usd": CLAUDE_CALL_NANO_USD,
            "time_to_first_token_ms": 800.0,
            "session_id": "s",
        },
    ),
    "mlflow": (
        SpanCase(
            {
                "mlflow.spanType": "CHAT_MODEL",
                "gen_ai.request.model": "gpt-4o-2024-08-06",
                "mlflow.chat.tokenUsage": json.dumps(
                    {"input_tokens": 100, "output_tokens": 50, "total_tokens": 150}
                ),
            },
            scope="mlflow",
        ),
        # 100 * 2.50 + 50 * 10 = 750 micro-dollars.
        {"span_type": "llm", "input_tokens": 100, "cost_nano_usd": 750_000},
    ),
    "openlit_anthropic": (
        SpanCase(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "anthropic",
                "gen_ai.response.model": CLAUDE,
                "gen_ai.usage.input_tokens": 36,
                "gen_ai.usage.output_tokens": 50,
                "gen_ai.client.token.usage": 86,
                "gen_ai.usage.cache_read.input_tokens": 24,
                "gen_ai.usage.cache_creation.input_tokens": 10,
                "gen_ai.usage.cost": 0,
                "gen_ai.request.stream": True,
                "gen_ai.server.time_to_first_token": 0.5,
                "deployment.environment": "prod",
            },
            scope="openlit.instrumentation.anthropic",
        ),
        {
            "input_tokens": 70,
            "total_tokens": 120,
            "usage_basis": "inferred",
            # 36 * 3 + 24 * 0.30 + 10 * 3.75 + 50 * 15 = 902.7 micro-dollars.
            "cost_nano_usd": 902_700,
            "environment": "prod",
            "time_to_first_token_ms": 500.0,
        },
    ),
    "pydantic_ai_1_agent_run": (
        SpanCase(
            {
                "agent_name": "capital_agent",
                "model_name": "gpt-4o",
                "gen_ai.response.model": "gpt-4o",
                "gen_ai.usage.input_tokens": 200,
                "gen_ai.usage.output_tokens": 100,
            },
            scope="pydantic-ai",
            name="agent run",
        ),
        {
            "span_type": "agent",
            "agent_name": "capital_agent",
            "input_tokens": None,
            "cost_status": "not_billable",
        },
    ),
    "openlit_default_environment": (
        SpanCase(
            {"deployment.environment": "default", "service.name": "default"},
            scope="openlit.instrumentation.openai",
            resource={"deployment.environment.name": "production", "service.name": "shop"},
        ),
        {"environment": "production", "service_name": "shop"},
    ),
    "traceloop_workflow": (
        SpanCase(
            {
                "traceloop.span.kind": "workflow",
                "traceloop.workflow.name": "joke",
                "traceloop.entity.name": "joke",
                "traceloop.association.properties.user_id": "u",
                "traceloop.association.properties.session_id": "s",
                "traceloop.association.properties.team": "core",
            },
            scope="traceloop.tracer",
        ),
        {
            "span_type": "workflow",
            "feature": "joke",
            "user_id": "u",
            "session_id": "s",
            "team": "core",
            "tool_name": None,
            "agent_name": None,
        },
    ),
    "traceloop_tool": (
        SpanCase(
            {"traceloop.span.kind": "tool", "traceloop.entity.name": "search"},
            scope="traceloop.tracer",
        ),
        {"span_type": "tool", "tool_name": "search"},
    ),
    "openinference_langchain_user_in_metadata": (
        SpanCase(
            {
                "openinference.span.kind": "CHAIN",
                "metadata": '{"user_id": "zo\\u00eb", "session_id": 17, "team": "core"}',
            },
            scope="openinference.instrumentation.langchain",
        ),
        {"span_type": "chain", "user_id": "zoë", "session_id": "17", "team": "core"},
    ),
    "structured_metadata": (
        SpanCase(
            {"openinference.span.kind": "AGENT", "metadata": {"user_id": "u", "feature": "f"}},
            scope="openinference.instrumentation.langchain",
        ),
        {"span_type": "agent", "user_id": "u", "feature": "f"},
    ),
    "openinference_reranker": (
        SpanCase(
            {"openinference.span.kind": "RERANKER", "reranker.model_name": "rerank-v3.5"},
            scope="openinference.instrumentation.cohere",
        ),
        {
            "span_type": "rerank",
            "model": "rerank-v3.5",
            "provider": "cohere",
            "cost_status": "no_usage",
        },
    ),
    "pyflare_sdk": (
        SpanCase(
            {
                "pyflare.inference.type": "llm",
                "pyflare.model.id": "gpt-4o-2024-08-06",
                "pyflare.model.provider": "openai",
                "pyflare.tokens.input": 100,
                "pyflare.tokens.cache_read": 64,
                "pyflare.tokens.output": 50,
                "pyflare.cost.micros": 1,
                "pyflare.user.id": "u",
                "pyflare.session.id": "s",
                "pyflare.team": "core",
                "pyflare.feature": "search",
                "pyflare.prompt.template": "Capital of {c}?",
                "pyflare.prompt.version": "v1",
            },
            resource={"service.name": "shop", "deployment.environment": "staging"},
        ),
        {
            "span_type": "llm",
            "provider": "openai",
            "model": "gpt-4o-2024-08-06",
            "input_tokens": 100,
            "cost_nano_usd": GPT_4O_CALL_NANO_USD,
            "cost_status": "priced",
            "user_id": "u",
            "session_id": "s",
            "team": "core",
            "feature": "search",
            "environment": "staging",
            "service_name": "shop",
            "prompt_template": "Capital of {c}?",
            "prompt_version": "v1",
        },
    ),
    "pyflare_custom_function": (
        SpanCase({"pyflare.inference.type": "custom"}, name="work"),
        {"span_type": "span", "cost_status": "not_billable", "feature": "work"},
    ),
    "haystack_style_first_generation": (
        SpanCase(
            {
                "llm.request.type": "completion",
                "gen_ai.system": "Azure",
                "gen_ai.request.model": "gpt-4o",
                "gen_ai.usage.prompt_tokens": "100",
                "gen_ai.usage.completion_tokens": "50",
                "llm.user": "None",
                "enduser.id": 12,
            }
        ),
        {
            "span_type": "llm",
            "operation": "completion",
            "provider": "azure.ai.openai",
            "input_tokens": 100,
            "output_tokens": 50,
            "user_id": "12",
        },
    ),
}


@pytest.mark.parametrize("name", list(CASES))
def test_record_of_an_emitter(name: str) -> None:
    """A span as the emitter writes it becomes the record that its meaning asks for."""
    case, expected = CASES[name]
    row = records(case)[0]
    assert {key: row[key] for key in expected} == expected


def test_all_emitters_in_one_batch() -> None:
    """A span's record does not depend on what else is in the batch."""
    cases = [case for case, _ in CASES.values()]
    together = records(*cases)
    for (case, expected), row in zip(CASES.values(), together, strict=True):
        assert {key: row[key] for key in expected} == expected, case.scope


@pytest.mark.parametrize(
    ("attributes", "span_type"),
    [
        ({"gen_ai.operation.name": "text_completion"}, "llm"),
        ({"gen_ai.operation.name": "generate_content"}, "llm"),
        ({"gen_ai.operation.name": "rerank"}, "rerank"),
        ({"gen_ai.operation.name": "retrieval"}, "retriever"),
        ({"gen_ai.operation.name": "create_agent"}, "agent"),
        ({"gen_ai.operation.name": "invoke_workflow"}, "workflow"),
        ({"gen_ai.operation.name": "handle_conversation_turn"}, "workflow"),
        ({"gen_ai.operation.name": "execute_task"}, "task"),
        ({"gen_ai.operation.name": "search_memory"}, "memory"),
        ({"gen_ai.operation.name": "create_memory_store"}, "memory"),
        ({"langfuse.observation.type": "guardrail"}, "guardrail"),
        ({"langfuse.observation.type": "event"}, "span"),
        ({"openinference.span.kind": "EVALUATOR"}, "evaluator"),
        ({"openinference.span.kind": "DECISION"}, "llm"),
        ({"traceloop.span.kind": "task"}, "task"),
        ({"ai.operationId": "ai.streamObject.doStream my function"}, "llm"),
        ({"gen_ai.tool.call.id": "call_1"}, "tool"),
        ({"llm.request.type": "rerank"}, "rerank"),
        ({"gen_ai.request.model": "gpt-4o"}, "span"),
        ({"gen_ai.request.model": "gpt-4o", "gen_ai.usage.input_tokens": 1}, "llm"),
        ({"model_name": "gpt-4o", "gen_ai.usage.input_tokens": 1}, "span"),
        ({"http.request.method": "POST"}, "span"),
        # The signs of the more specific emitters come first.
        ({"langfuse.observation.type": "span", "gen_ai.operation.name": "chat"}, "span"),
        ({"openinference.span.kind": "TOOL", "gen_ai.operation.name": "chat"}, "tool"),
        ({"openinference.span.kind": "UNKNOWN", "gen_ai.operation.name": "chat"}, "llm"),
        ({"gen_ai.operation.name": "chat", "gen_ai.tool.name": "weather"}, "llm"),
    ],
)
def test_type_of_a_span(attributes: dict[str, object], span_type: str) -> None:
    """The first sign that tells a type decides it; unknown values leave it to the next."""
    assert record(attributes)["span_type"] == span_type
