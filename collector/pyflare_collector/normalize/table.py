"""From a decoded batch to a table of span records: `normalize`."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pyflare_collector.normalize import kinds, providers, tokens
from pyflare_collector.normalize.attributes import AttributeIndex, Categories
from pyflare_collector.normalize.content import content_columns
from pyflare_collector.normalize.conventions import (
    CATEGORY_FIELDS,
    CONTEXT_FIELDS,
    NUMBER_FIELDS,
    TEXT_FIELDS,
)
from pyflare_collector.normalize.costs import cost_columns
from pyflare_collector.normalize.documents import Documents
from pyflare_collector.normalize.draft import Draft
from pyflare_collector.normalize.emitters import EMITTERS, run_types, run_values
from pyflare_collector.normalize.keys import KEYS
from pyflare_collector.normalize.resolve import (
    Resolver,
    dictionary_of,
    first_of,
    root_rows,
)
from pyflare_proto.otlp.anyvalue import attributes_json, events_json, links_json
from pyflare_proto.otlp.batch import OtlpBatch, Slices
from pyflare_proto.otlp.columns import distinct_strings, hex_ids, strings
from pyflare_proto.record import COLUMNS, SPAN_KINDS, SPAN_TYPES, STATUS_CODES, arrow_schema
from pyflare_storage.prices import PriceBook

__all__ = ["normalize", "record_table", "table_schema"]

Column: TypeAlias = "pa.Array[Any]"

_DICTIONARY = pa.dictionary(pa.int32(), pa.string())
_SHARED = ("resource_attributes", "scope_attributes")
"""JSON columns of few distinct values: one for each resource or scope."""

_TOKEN_COLUMNS = (
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)


@cache
def table_schema() -> pa.Schema:
    """Return the schema of the tables that `normalize` makes.

    It is `arrow_schema()` with the columns of few distinct values (`category` and the
    attributes of resources and scopes) as dictionaries of int32 to string: they are
    made as dictionaries, and a Parquet writer takes them as they are. `record_table`
    turns a table into one of `arrow_schema()`.
    """
    schema = arrow_schema()
    for i, column in enumerate(COLUMNS):
        if column.type == "category" or column.name in _SHARED:
            coded = pa.field(column.name, _DICTIONARY, nullable=column.nullable)
            schema = schema.set(i, coded)
    return schema


def record_table(table: pa.Table) -> pa.Table:
    """Return a table of `table_schema()` with the plain types of `arrow_schema()`."""
    return table.cast(arrow_schema())


def normalize(
    batch: OtlpBatch,
    prices: PriceBook,
    *,
    sampling_probability: NDArray[np.float64] | None = None,
) -> pa.Table:
    """Turn spans into span records, priced.

    Every span becomes one row, in order; spans without valid ids are the caller's to
    leave out. A call that two scopes tell is priced on both rows here; see
    `pyflare_collector.calls` for the step that settles it.

    Args:
        batch: spans, decoded with `KEYS`.
        prices: what calls cost.
        sampling_probability: (n,) probability with which each span was kept, in (0, 1];
            None for spans that were not sampled.

    Returns:
        A table of `table_schema()` with n rows. `feature` falls back on the name of
        the trace's root span as far as that is in the same batch.
    """
    draft = _resolve(batch)
    calls = kinds.is_call(draft.span_type)
    costs = cost_columns(draft, calls, prices)
    columns: dict[str, Column] = {}
    columns.update(_span_columns(draft.index))
    columns.update(_field_columns(draft))
    columns.update(costs)
    columns.update(content_columns(batch, draft.index, draft.span_type))
    columns.update(_attribute_columns(batch))
    if sampling_probability is not None:
        columns["sampling_probability"] = pa.array(sampling_probability, pa.float64())
    schema = table_schema()
    nothing: dict[pa.DataType, Column] = {}
    arrays = [
        columns[field.name] if field.name in columns else _nothing(field, len(batch), nothing)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _resolve(batch: OtlpBatch) -> Draft:
    """Resolve types, fields and tokens, everything that is not copied as it is."""
    n = len(batch)
    index = AttributeIndex(batch, KEYS)
    documents = Documents(index)
    resolver = Resolver(index, documents)
    usage = tokens.plain_usage(resolver)
    draft = Draft(batch, index, documents, resolver, np.full(n, -1, dtype=np.int8), usage)
    run_types(EMITTERS, draft)
    kinds.sign_types(index, draft.span_type)
    kinds.close_types(draft)
    resolver.set_types(draft.span_type)
    for field, sources in (*CATEGORY_FIELDS.items(), *CONTEXT_FIELDS.items()):
        draft.categories[field] = resolver.categories(sources)
    for field, sources in NUMBER_FIELDS.items():
        draft.numbers[field] = resolver.numbers(sources, positive=field.startswith("cost"))
    calls = kinds.is_call(draft.span_type)
    tokens.read_documents(usage, documents, calls)
    _models(draft)
    run_values(EMITTERS, draft)
    tokens.settle(usage, calls)
    draft.categories["usage_basis"] = tokens.basis(usage)
    _features(draft)
    return draft


def _models(draft: Draft) -> None:
    """Add `model` and, where no attribute names the provider, what the model points to."""
    n = len(draft.batch)
    columns = draft.categories
    model = first_of([columns["model_response"], columns["model_request"]], n)
    columns["model"] = model
    if (columns["provider"].codes < 0).any() and model.values:
        columns["provider"] = first_of([columns["provider"], model.map(providers.guess)], n)


def _features(draft: Draft) -> None:
    """Fall back on the name of the root span where nothing names the feature."""
    feature = draft.categories["feature"]
    if not (feature.codes < 0).any():
        return
    batch = draft.batch
    is_root = np.all(batch.parent_span_id == 0, axis=1)
    roots = root_rows(batch.trace_id, is_root)
    # Only the names that are asked for are hashed: those of the roots.
    own = np.flatnonzero(is_root)
    slices = Slices(batch.name.offset[own], batch.name.length[own])
    codes, names = distinct_strings(batch.buffer, slices)
    by_row = np.full(len(batch) + 1, -1, dtype=np.int32)
    by_row[own] = codes
    draft.categories["feature"] = first_of([feature, Categories(by_row[roots], names)], len(batch))


def _span_columns(index: AttributeIndex) -> dict[str, Column]:
    """Return the columns that are fields of the OTLP span."""
    batch = index.batch
    buffer = batch.buffer
    duration = np.maximum(batch.end_time_ns - batch.start_time_ns, 0)
    scopes = batch.scope_index
    # A kind of a later version of OTLP becomes the first, "unspecified".
    known_kind = (batch.kind >= 0) & (batch.kind < len(SPAN_KINDS))
    return {
        "trace_id": hex_ids(batch.trace_id, zero_is_null=False),
        "span_id": hex_ids(batch.span_id, zero_is_null=False),
        "parent_span_id": hex_ids(batch.parent_span_id, zero_is_null=True),
        "trace_state": _strings(buffer, batch.trace_state),
        "name": strings(buffer, batch.name, empty_is_null=False),
        "kind": _coded(np.where(known_kind, batch.kind, np.int32(0)), SPAN_KINDS),
        "start_time": _timestamps(batch.start_time_ns),
        "end_time": _timestamps(batch.end_time_ns),
        "duration_ms": pa.array(duration / 1e6),
        "status_code": _coded(kinds.statuses(index), STATUS_CODES),
        "status_message": _strings(buffer, batch.status_message),
        "scope_name": _shared(distinct_strings(buffer, batch.scope_name), scopes),
        "scope_version": _shared(distinct_strings(buffer, batch.scope_version), scopes),
    }


def _field_columns(draft: Draft) -> dict[str, Column]:
    """Return the columns that were resolved from attributes."""
    columns: dict[str, Column] = {"span_type": _coded(draft.span_type, SPAN_TYPES)}
    for name, column in draft.categories.items():
        if name not in CONTEXT_FIELDS and column.values:
            columns[name] = _coded(column.codes, column.values)
    for name, sources in TEXT_FIELDS.items():
        columns[name] = draft.resolver.text(sources).array(draft.batch.buffer)
    for name in _TOKEN_COLUMNS:
        counts = draft.usage.counts.get(name)
        if counts is not None:
            columns[name] = pa.array(counts, mask=counts < 0)
    first_token = draft.numbers["time_to_first_token_ms"]
    if first_token is not None:
        values, ok = first_token
        columns["time_to_first_token_ms"] = pa.array(values, mask=~ok)
    return columns


def _attribute_columns(batch: OtlpBatch) -> dict[str, Column]:
    """Return the columns that keep everything that arrived."""
    buffer = batch.buffer
    resources = attributes_json(buffer, batch.resource_attributes, batch.n_resources)
    scopes = attributes_json(
        buffer, batch.scope_attributes, len(batch.scope_name.length), none_is_null=True
    )
    columns = {
        "attributes": attributes_json(buffer, batch.attributes, len(batch)),
        "resource_attributes": _by_owner(resources, batch.resource_index),
        "events": events_json(batch),
        "links": links_json(batch),
    }
    if len(batch.scope_attributes.key_id):
        columns["scope_attributes"] = _by_owner(scopes, batch.scope_index)
    return columns


def _nothing(field: pa.Field[Any], n: int, known: dict[pa.DataType, Column]) -> Column:
    """Return a column of n nulls, the same one for each type in `known`."""
    column = known.get(field.type)
    if column is None:
        column = known[field.type] = pa.nulls(n, field.type)
    return column


def _strings(buffer: NDArray[np.uint8], slices: Slices) -> Column:
    """Return strings, at once where there is none."""
    if slices.length.any():
        return strings(buffer, slices)
    nothing: Column = pa.nulls(len(slices.length), pa.string())
    return nothing


def _timestamps(values: NDArray[np.int64]) -> Column:
    return pa.array(values, pa.int64()).view(pa.timestamp("ns", tz="UTC"))


def _coded(
    codes: NDArray[np.int32] | NDArray[np.int8], values: list[str] | tuple[str, ...]
) -> Column:
    """Return a dictionary column; negative codes are null."""
    indices = codes.astype(np.int32, copy=False)
    dictionary = pa.array(values, pa.string())
    return pa.DictionaryArray.from_arrays(indices, dictionary, mask=codes < 0, safe=False)


def _shared(column: tuple[NDArray[np.int32], list[str]], owner: NDArray[np.int32]) -> Column:
    """Return a column of the owners (resources or scopes), one row a span."""
    codes, values = column
    return _coded(codes[owner] if len(codes) else owner, values)


def _by_owner(texts: pa.StringArray, owner: NDArray[np.int32]) -> Column:
    """Return the texts of the owners, one row a span."""
    codes, values = dictionary_of(texts)
    return _shared((codes, values), owner)
