"""The span record: the one list of columns that every part of PyFlare uses.

A column is named the same on the wire between the stages, in Parquet, in
ClickHouse, in JSON and in the documentation. Nothing else declares columns:
`arrow_schema()` and `clickhouse_columns()` are derived from `COLUMNS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "CALL_TYPES",
    "COLUMNS",
    "COLUMN_NAMES",
    "COST_STATUSES",
    "SCHEMA_VERSION",
    "SPAN_KINDS",
    "SPAN_TYPES",
    "STATUS_CODES",
    "USAGE_BASES",
    "Column",
    "ColumnType",
    "arrow_schema",
    "clickhouse_columns",
    "column",
]

SCHEMA_VERSION = 1
"""Version of the record, kept in the metadata of every Parquet file."""

STATUS_CODES = ("unset", "ok", "error")
"""`status_code`, indexed by OTLP's `Status.StatusCode`."""

SPAN_KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
"""`kind`, indexed by OTLP's `Span.SpanKind`."""

SPAN_TYPES = (
    "llm",
    "embedding",
    "rerank",
    "retriever",
    "tool",
    "agent",
    "workflow",
    "chain",
    "task",
    "guardrail",
    "evaluator",
    "memory",
    "span",
)
"""`span_type`: what a span does in an LLM application."""

CALL_TYPES = ("llm", "embedding", "rerank")
"""Span types that are calls of a model: only these carry a cost."""

USAGE_BASES = ("reported", "inferred")
"""`usage_basis`: tokens as reported, or converted from an emitter's other meaning."""

COST_STATUSES = (
    "priced",
    "approximate",
    "reported",
    "unpriced",
    "no_usage",
    "duplicate",
    "not_billable",
)
"""`cost_status`: how `cost_nano_usd` came about.

`priced`: rate and usage are known. `approximate`: priced by a near model (a fine-tune's base).
`reported`: the emitter's own figure. `unpriced`: no rate is known, cost is null.
`no_usage`: a call without token counts, cost is null. `duplicate`: another span tells the same
call, cost is null. `not_billable`: not a call of a model, cost is null.
"""

ColumnType = Literal[
    "string",
    "category",
    "int64",
    "float64",
    "timestamp_ns",
    "list<string>",
    "list<float32>",
    "list<document>",
    "json",
]
"""Logical types of columns.

`category` is a string of few distinct values (dictionary-encoded in memory).
`json` is a string that holds one JSON document (see `pyflare_proto.otlp.anyvalue`).
`document` is a struct {id: string, content: string, score: float64}.
"""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the span record."""

    name: str
    """Name, the same everywhere."""
    type: ColumnType
    """Logical type."""
    description: str
    """What it holds, with unit and range."""
    nullable: bool = True
    """False where every span has a value."""


COLUMNS: tuple[Column, ...] = (
    Column("trace_id", "string", "Trace, 32 lower-case hexadecimal digits.", nullable=False),
    Column("span_id", "string", "Span, 16 lower-case hexadecimal digits.", nullable=False),
    Column("parent_span_id", "string", "Parent span, 16 hexadecimal digits; null for a root."),
    Column("trace_state", "string", "W3C tracestate as it arrived; null when empty."),
    Column("name", "string", "Name of the span.", nullable=False),
    Column("kind", "category", "OpenTelemetry span kind in lower case.", nullable=False),
    Column("start_time", "timestamp_ns", "Start, UTC, nanoseconds.", nullable=False),
    Column("end_time", "timestamp_ns", "End, UTC, nanoseconds.", nullable=False),
    Column("duration_ms", "float64", "End minus start, milliseconds, not below 0.", nullable=False),
    Column("status_code", "category", "unset, ok or error.", nullable=False),
    Column("status_message", "string", "Text of the status; null when empty."),
    Column("service_name", "category", "Resource attribute service.name."),
    Column("service_version", "category", "Resource attribute service.version."),
    Column("environment", "category", "Deployment environment."),
    Column("scope_name", "category", "Instrumentation scope."),
    Column("scope_version", "category", "Version of the instrumentation scope."),
    Column("span_type", "category", "What the span does: one of SPAN_TYPES.", nullable=False),
    Column("operation", "category", "Operation as the emitter names it (chat, embeddings, ...)."),
    Column("provider", "category", "Provider, aliases folded (openai, anthropic, ...)."),
    Column("model", "category", "Model that is grouped and priced by: response, else request."),
    Column("model_request", "category", "Model that was asked for."),
    Column("model_response", "category", "Model that answered."),
    Column("response_id", "string", "The provider's id of the response."),
    Column("input_tokens", "int64", "Input tokens in total, cache reads and writes included."),
    Column("output_tokens", "int64", "Output tokens in total, reasoning included."),
    Column("total_tokens", "int64", "As reported, else input plus output."),
    Column("cache_read_tokens", "int64", "Part of input_tokens that was read from a cache."),
    Column("cache_write_tokens", "int64", "Part of input_tokens that was written to a cache."),
    Column("reasoning_tokens", "int64", "Part of output_tokens spent on reasoning."),
    Column("usage_basis", "category", "reported or inferred; null without usage."),
    Column("cost_nano_usd", "int64", "Cost in 1e-9 US dollars; null when unknown, never 0 for it."),
    Column("cost_status", "category", "One of COST_STATUSES.", nullable=False),
    Column(
        "price_source", "category", "Where the price comes from (genai-prices 0.2.3, user, ...)."
    ),
    Column("user_id", "string", "User on whose behalf the call was made."),
    Column("session_id", "string", "Conversation or session."),
    Column("team", "category", "Team that owns the call."),
    Column("feature", "category", "Feature or workflow of the application."),
    Column("agent_name", "category", "Agent."),
    Column("tool_name", "category", "Tool that was executed."),
    Column("prompt_template", "category", "Name or text of the prompt template."),
    Column("prompt_version", "category", "Version of the prompt template."),
    Column("finish_reasons", "list<string>", "Why each choice ended."),
    Column("time_to_first_token_ms", "float64", "Time to the first token, milliseconds."),
    Column("input", "string", "What the model or tool was given, as text."),
    Column("output", "string", "What came back, as text."),
    Column("error_type", "category", "Class of the error, last dotted part not cut."),
    Column("error_message", "string", "Message of the error."),
    Column("retrieval_query", "string", "Query of a retriever or reranker."),
    Column("retrieval_documents", "list<document>", "Documents that were retrieved."),
    Column("embedding", "list<float32>", "Embedding vector (the first of a batch)."),
    Column("sampling_probability", "float64", "Probability with which this span was kept, (0, 1]."),
    Column("attributes", "json", "All span attributes, typed.", nullable=False),
    Column("resource_attributes", "json", "All resource attributes, typed.", nullable=False),
    Column("scope_attributes", "json", "All scope attributes, typed; null when there are none."),
    Column(
        "events",
        "json",
        "Span events: [{time_unix_nano, name, attributes}]; null when there are none.",
    ),
    Column("links", "json", "Span links: [{trace_id, span_id, attributes}]; null when none."),
)
"""The span record, in column order."""

COLUMN_NAMES: tuple[str, ...] = tuple(c.name for c in COLUMNS)
"""Names of the columns, in order."""

_BY_NAME = {c.name: c for c in COLUMNS}


def column(name: str) -> Column:
    """Return the column called `name`.

    Raises:
        KeyError: there is no such column.
    """
    return _BY_NAME[name]


@cache
def arrow_schema() -> pa.Schema:
    """Return the Arrow schema of the span record, as it is written to Parquet."""
    import pyarrow as pa

    document = pa.struct([("id", pa.string()), ("content", pa.string()), ("score", pa.float64())])
    types: dict[str, pa.DataType] = {
        "string": pa.string(),
        "category": pa.string(),
        "json": pa.string(),
        "int64": pa.int64(),
        "float64": pa.float64(),
        "timestamp_ns": pa.timestamp("ns", tz="UTC"),
        "list<string>": pa.list_(pa.string()),
        "list<float32>": pa.list_(pa.float32()),
        "list<document>": pa.list_(document),
    }
    fields = [pa.field(c.name, types[c.type], nullable=c.nullable) for c in COLUMNS]
    return pa.schema(fields, metadata={"pyflare.schema": f"pyflare.spans/{SCHEMA_VERSION}"})


_CLICKHOUSE_TYPES: dict[str, str] = {
    "string": "String",
    "category": "LowCardinality(String)",
    "json": "String",
    "int64": "Int64",
    "float64": "Float64",
    "timestamp_ns": "DateTime64(9, 'UTC')",
    "list<string>": "Array(String)",
    "list<float32>": "Array(Float32)",
    "list<document>": (
        "Array(Tuple(id Nullable(String), content Nullable(String), score Nullable(Float64)))"
    ),
}


def clickhouse_columns() -> dict[str, str]:
    """Return the ClickHouse type of each column, by name, in order.

    Lists are empty where Parquet has null: ClickHouse has no nullable arrays.
    """
    result: dict[str, str] = {}
    for c in COLUMNS:
        base = _CLICKHOUSE_TYPES[c.type]
        if c.nullable and not c.type.startswith("list"):
            base = (
                "LowCardinality(Nullable(String))" if c.type == "category" else f"Nullable({base})"
            )
        result[c.name] = base
    return result
