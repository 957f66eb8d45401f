"""Documents that a retriever or reranker returned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from pyflare_collector.normalize.content import sources
from pyflare_collector.normalize.content.columns import Column, Merged, lists_of
from pyflare_collector.normalize.content.events import EventValues
from pyflare_collector.normalize.content.parts import Json, as_json, parse
from pyflare_collector.normalize.content.texts import Context, type_mask
from pyflare_proto.otlp.batch import Slices, ValueType
from pyflare_proto.otlp.columns import strings
from pyflare_proto.record import arrow_schema

__all__ = ["documents_of", "retrieval_documents"]

_EVENTS = ("db.query.result", "db.search.result")
_EVENT_KEYS = ("db.query.result.id", "db.query.result.document", "db.query.result.score")
_LISTS = ("documents", "output", "outputs", "results", "docs", "matches", "source_nodes", "data")
_ID = ("id", "document_id", "_id", "doc_id")
_CONTENT = ("content", "page_content", "pageContent", "text", "document")
_SCORE = ("score", "relevance_score", "similarity", "_score", "rank_score")


def retrieval_documents(context: Context) -> Column:
    """Return (n,) list<{id, content, score}>; null where no documents are told."""
    kind = arrow_schema().field("retrieval_documents").type
    column = Merged(len(context.span_type), kind)
    for family in sources.DOCUMENT_FAMILIES:
        _family(context, family, column, kind)
    for source in sources.DOCUMENT_LISTS:
        _lists(context, source, column, kind)
    _events(context, column, kind)
    return column.array()


def _struct(kind: pa.DataType, arrays: list[Column]) -> Column:
    lists: Any = kind
    result: Column = pa.StructArray.from_arrays(arrays, fields=list(lists.value_type))
    return result


def _family(
    context: Context, family: sources.DocumentFamily, column: Merged, kind: pa.DataType
) -> None:
    """Add documents in indexed attributes."""
    index = context.index
    table = index.table
    found = [index.family(key) for key in (family.id, family.content, family.score)]
    keys = [
        np.zeros(0, np.int64)
        if rows is None
        else table.owner[rows].astype(np.int64) << 32 | table.index0[rows]
        for rows in found
    ]
    every = np.unique(np.concatenate(keys))
    every = every[column.open[every >> 32]]
    if not len(every):
        return
    rows_of = []
    for rows, own in zip(found, keys, strict=True):
        at = np.full(len(every), -1, np.int32)
        if rows is not None:
            place = np.minimum(np.searchsorted(own, every), len(own) - 1)
            at = np.where(own[place] == every, rows[place], -1).astype(np.int32)
        rows_of.append(at)
    scores, ok = index.doubles(rows_of[2])
    arrays: list[Column] = [
        index.strings(rows_of[0]),
        index.strings(rows_of[1]),
        pa.array(scores, mask=~ok),
    ]
    column.add(*lists_of(every >> 32, _struct(kind, arrays), kind))


def _lists(context: Context, source: sources.Document, column: Merged, kind: pa.DataType) -> None:
    """Add documents in JSON; one document at a time, as retrievals seldom repeat."""
    wanted = column.open
    if source.when:
        wanted = wanted & type_mask(context.span_type, source.when)
    for group in context.documents.get(source.key):
        found = group.at(wanted)
        spans: list[int] = []
        values: list[list[dict[str, Any]]] = []
        for row, span in enumerate(found.spans.tolist()):
            start = int(found.slices.offset[row])
            raw = found.buffer[start : start + int(found.slices.length[row])].tobytes()
            documents = documents_of(raw)
            if documents:
                spans.append(span)
                values.append(documents)
        if spans:
            column.add(np.array(spans, np.int64), pa.array(values, kind))


def _events(context: Context, column: Merged, kind: pa.DataType) -> None:
    """Add documents that are told one an event."""
    for rows in context.events.of(*_EVENTS).values():
        events = rows[column.open[context.events.owner[rows]]]
        if not len(events):
            continue
        owner = context.events.owner[events].astype(np.int64)
        values = context.events.values(events, _EVENT_KEYS)
        texts: list[Column] = [_event_strings(values, key) for key in _EVENT_KEYS[:2]]
        score, kinds = values.numbers(_EVENT_KEYS[2]), values.kinds(_EVENT_KEYS[2])
        numbers = np.where(kinds == ValueType.DOUBLE, score.view(np.float64), score)
        told = (kinds == ValueType.DOUBLE) | (kinds == ValueType.INT)
        arrays: list[Column] = [*texts, pa.array(numbers, pa.float64(), mask=~told)]
        column.add(*lists_of(owner, _struct(kind, arrays), kind))


def _event_strings(values: EventValues, key: str) -> pa.StringArray:
    offset, length = values.slices(key)
    is_text = values.kinds(key) == ValueType.STRING
    return strings(values.buffer, Slices(offset, np.where(is_text, length, np.int32(0))))


def documents_of(raw: bytes) -> list[dict[str, Any]] | None:
    """Return the documents {id, content, score} in JSON text, None when it holds none."""
    try:
        return _documents(parse(raw), 0)
    except (ValueError, RecursionError):
        return None


def _documents(value: Json, depth: int) -> list[dict[str, Any]] | None:
    if isinstance(value, dict) and depth < 3:
        for key in _LISTS:
            if isinstance(value.get(key), (list, dict)):
                found = _documents(value[key], depth + 1)
                if found:
                    return found
        return None
    if not isinstance(value, list) or not value:
        return None
    items = [_one(item) for item in value]
    known = [document for document in items if document is not None]
    return known if len(known) == len(value) else None


def _one(item: Json) -> dict[str, Any] | None:
    """Return a document {id, content, score}, None when `item` is none."""
    score: Json = None
    if isinstance(item, list) and len(item) == 2:
        item, score = item  # a document with its score
    if isinstance(item, str):
        return {"id": None, "content": item, "score": _as_number(score)}
    if not isinstance(item, dict):
        return None
    for wrapper in ("kwargs", "document", "node"):
        inner = item.get(wrapper)
        if isinstance(inner, dict):
            score = _first(item, _SCORE) if score is None else score
            item = {**inner, "id": _first(inner, _ID) or item.get("id")}
    metadata = item.get("metadata")
    extra = metadata if isinstance(metadata, dict) else {}
    name = _first(item, _ID)
    name = _first(extra, _ID) if name is None or isinstance(name, list) else name
    content = _first(item, _CONTENT)
    if score is None:
        score = _first(item, _SCORE)
    if score is None:
        score = _first(extra, _SCORE)
    if name is None and content is None:
        return None
    return {"id": _as_text(name), "content": _as_text(content), "score": _as_number(score)}


def _first(value: dict[str, Json], keys: tuple[str, ...]) -> Json:
    for key in keys:
        if value.get(key) is not None:
            return value[key]
    return None


def _as_text(value: Json) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return as_json(value)


def _as_number(value: Json) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except ValueError:
        return None
