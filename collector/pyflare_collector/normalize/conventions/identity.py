"""Who and what: operation, provider, models, response, user, session, team, feature, ..."""

from __future__ import annotations

from pyflare_collector.normalize.conventions.sources import Sources, fields, json, key, resource

__all__ = ["CATEGORY_FIELDS", "TEXT_FIELDS"]

_TOOL = ("tool",)
_AGENT = ("agent",)

CATEGORY_FIELDS: dict[str, Sources] = fields(
    {
        "operation": (
            "pyflare.operation",
            "gen_ai.operation.name",
            "llm.request.type",
            "ai.operationId",
            "langsmith.span.kind",
            "openinference.span.kind",
        ),
        "provider": (
            key("pyflare.model.provider", change="provider"),
            key("gen_ai.provider.name", change="provider"),
            key("gen_ai.system", change="provider"),
            key("llm.provider", change="provider"),
            key("llm.system", change="provider"),
            key("decision.provider", change="provider"),
            key("ai.model.provider", change="provider"),
            key("langsmith.metadata.ls_provider", change="provider"),
            json("metadata", "ls_provider", change="provider"),
        ),
        "model_request": (
            "pyflare.model.id",
            "gen_ai.request.model",
            "llm.request.model_name",
            "ai.model.id",
            "llm.model_name",
            "embedding.model_name",
            "reranker.model_name",
            "decision.request.model_name",
            json("llm.invocation_parameters", "model"),
            json("embedding.invocation_parameters", "model"),
            "langsmith.metadata.ls_model_name",
            "langfuse.observation.model.name",
            json("request_data", "model"),
            "model_name",
            "model",
        ),
        "model_response": (
            "pyflare.model.response",
            "langfuse.observation.model.name",
            "gen_ai.response.model",
            "llm.response.model_name",
            "ai.response.model",
            "llm.model_name",
            "decision.response.model_name",
        ),
        "service_name": (resource("service.name"), "service.name"),
        "service_version": (
            resource("service.version"),
            "service.version",
            "langfuse.release",
            resource("langfuse.release"),
        ),
        "environment": (
            "pyflare.environment",
            resource("pyflare.environment"),
            "langfuse.environment",
            resource("langfuse.environment"),
            "deployment.environment.name",
            resource("deployment.environment.name"),
            # OpenLIT writes "default" here when the application names none.
            "deployment.environment",
            resource("deployment.environment"),
            resource("service.environment"),
        ),
        "team": (
            "pyflare.team",
            "litellm.team.alias",
            "litellm.team.id",
            "metadata.user_api_key_team_alias",
            "metadata.user_api_key_team_id",
            "traceloop.association.properties.team",
            "langfuse.trace.metadata.team",
            "ai.telemetry.metadata.team",
            "ai.settings.context.team",
            json("metadata", "team"),
            resource("pyflare.team"),
            resource("service.namespace"),
            resource("team"),
        ),
        # The name of the trace's root span comes last; see `resolve.root_names`.
        "feature": (
            "pyflare.feature",
            "traceloop.association.properties.feature",
            "traceloop.workflow.name",
            "gen_ai.workflow.name",
            "ai.telemetry.functionId",
            "langfuse.trace.name",
            "gen_ai.prompt.name",
            json("metadata", "feature"),
            resource("pyflare.feature"),
        ),
        "agent_name": (
            "pyflare.agent.name",
            "gen_ai.agent.name",
            "agent_name",
            "agent.name",
            "gen_ai.agent.id",
            key("traceloop.entity.name", when=_AGENT),
            "lk.agent_name",
        ),
        "tool_name": (
            key("pyflare.tool.name", when=_TOOL),
            key("gen_ai.tool.name", when=_TOOL),
            key("tool.name", when=_TOOL),
            key("ai.toolCall.name", when=_TOOL),
            key("traceloop.entity.name", when=_TOOL),
            key("lk.function_tool.name", when=_TOOL),
            key("tool_name", when=_TOOL),
        ),
        "prompt_template": (
            "pyflare.prompt.template",
            "llm.prompt_template.template",
            "gen_ai.prompt.name",
            "traceloop.prompt.key",
            "traceloop.prompt.template",
            "langfuse.observation.prompt.name",
        ),
        "prompt_version": (
            "pyflare.prompt.version",
            "llm.prompt_template.version",
            "gen_ai.prompt.version",
            "traceloop.prompt.version",
            "traceloop.prompt.version_hash",
            "langfuse.observation.prompt.version",
        ),
    }
)
"""Fields of few distinct values."""

TEXT_FIELDS: dict[str, Sources] = fields(
    {
        "response_id": (
            "pyflare.response.id",
            "gen_ai.response.id",
            "ai.response.id",
            json("output.value", "id"),
            "llm.response.id",
        ),
        "user_id": (
            "pyflare.user.id",
            "langfuse.user.id",
            "user.id",
            "enduser.id",
            "traceloop.association.properties.user_id",
            "traceloop.association.properties.customer_id",
            "gen_ai.request.user",
            "gen_ai.user",
            "llm.user",
            "litellm.end_user.id",
            "metadata.user_api_key_user_id",
            "ai.telemetry.metadata.userId",
            "ai.settings.context.userId",
            "langsmith.metadata.user_id",
            json("metadata", "user_id"),
        ),
        # Not langsmith.trace.session_id or session_name: they name the LangSmith project.
        "session_id": (
            "pyflare.session.id",
            "langfuse.session.id",
            "session.id",
            "gen_ai.conversation.id",
            "traceloop.association.properties.session_id",
            "ai.telemetry.metadata.sessionId",
            "ai.settings.context.sessionId",
            "langfuse.trace.metadata.langfuse_session_id",
            "langfuse.observation.metadata.langfuse_session_id",
            "langsmith.metadata.session_id",
            "langsmith.metadata.conversation_id",
            "langsmith.metadata.thread_id",
            json("metadata", "session_id"),
            key("mcp.session.id", when=_TOOL),
        ),
    }
)
"""Fields of many distinct values."""
