"""How a span ended: finish reasons and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pyflare_collector.normalize import kinds
from pyflare_collector.normalize.arrow import take
from pyflare_collector.normalize.content import sources
from pyflare_collector.normalize.content.columns import Column, Merged, lists_of
from pyflare_collector.normalize.content.parts import parse
from pyflare_collector.normalize.content.render import Texts
from pyflare_collector.normalize.content.structured import json_slices
from pyflare_collector.normalize.content.texts import Context, TextColumn
from pyflare_collector.normalize.json_kernels import JsonType, unescape
from pyflare_proto.otlp.batch import Slices, ValueType
from pyflare_proto.otlp.columns import distinct_strings, strings

__all__ = ["error_columns", "finish_reasons"]

_REASONS = pa.list_(pa.string())
_MAX_CHOICES = 64
"""Choices of one answer whose reasons are read; OpenAI's limit is 128, asked for by nobody."""
_FAILED, _OK = 2, 1


def finish_reasons(context: Context) -> Column:
    """Return (n,) list<string>: why each choice ended; null where that is not told."""
    n = len(context.span_type)
    column = Merged(n, _REASONS)
    _reason_attribute(context, sources.FINISH_REASONS[0], column)
    _reason_attribute(context, sources.FINISH_REASONS[1], column)
    _reason_family(context, column)
    for key in sources.FINISH_REASONS[2:]:
        _reason_attribute(context, key, column)
    for key, path, inner in sources.FINISH_DOCUMENTS:
        _reason_documents(context, (key, path, inner), column)
    _reason_events(context, column)
    return column.array()


def _reason_attribute(context: Context, key: str, column: Merged) -> None:
    """Add the reasons of an attribute: one reason, a list, or a list as JSON text."""
    index = context.index
    rows = index.rows(key)
    if rows is None:
        return
    spans = np.flatnonzero(column.open & (rows >= 0))
    slices = index.slices(rows[spans])
    codes, values = distinct_strings(index.buffer, slices)
    if not values:
        return
    # The bytes of a list are not text: read one of each kind.
    _, first = np.unique(codes[codes >= 0], return_index=True)
    samples = rows[spans[np.flatnonzero(codes >= 0)[first]]]
    types = index.table.type[samples]
    is_list = np.flatnonzero(types == ValueType.ARRAY)
    if len(is_list):
        at = samples[is_list]
        value = index.table.value
        buffer, texts = json_slices(
            index.buffer,
            types[is_list],
            Slices(value.offset[at], value.length[at]),
            index.table.number[at],
        )
        for place, text in zip(is_list.tolist(), strings(buffer, texts).to_pylist(), strict=True):
            values[place] = text or ""
    lists = [_reasons(text) for text in values]
    told = np.array([bool(reasons) for reasons in lists] + [False])[codes]
    chosen = take(pa.array(lists, _REASONS), codes[told])
    column.add(spans[told], chosen)


def _reasons(text: str) -> list[str]:
    """Return the reasons in an attribute's value."""
    if text.lstrip().startswith("["):
        try:
            found = parse(text)
        except ValueError:
            return [text]
        if isinstance(found, list):
            return [str(reason) for reason in found if isinstance(reason, str) and reason]
    return [text] if text else []


def _reason_family(context: Context, column: Merged) -> None:
    """Add the reasons that stand in indexed attributes, one a choice."""
    index = context.index
    rows = index.family(sources.FINISH_FAMILY)
    if rows is None:
        return
    table = index.table
    rows = rows[column.open[table.owner[rows]] & (table.type[rows] == ValueType.STRING)]
    if len(rows):
        values = strings(index.buffer, Slices(table.value.offset[rows], table.value.length[rows]))
        column.add(*lists_of(table.owner[rows].astype(np.int64), values, _REASONS))


def _reason_documents(
    context: Context,
    source: tuple[str, tuple[str, ...], tuple[str, ...]],
    column: Merged,
) -> None:
    """Add the reasons in the items of a list in a document."""
    key, path, inner = source
    for document in context.documents.get(key):
        found = document.at(column.open)
        owners: list[NDArray[np.int64]] = []
        texts: list[pa.StringArray] = []
        for choice in range(_MAX_CHOICES):
            if not len(found.spans):
                break
            values = found.lookup((*path, choice, *inner)).values
            told = values.type == JsonType.STRING
            if told.any():
                owners.append(found.spans[told])
                texts.append(unescape(found.buffer, values).filter(pa.array(told)))
            more = found.lookup((*path, choice + 1)).values.type != JsonType.ABSENT
            mask = np.zeros(len(column.open), np.bool_)
            mask[found.spans[more]] = True
            found = found.at(mask)
        if owners:
            owner = np.concatenate(owners)
            order = np.argsort(owner, kind="stable")
            together = take(pa.concat_arrays(texts), order)
            column.add(*lists_of(owner[order], together, _REASONS))


def _reason_events(context: Context, column: Merged) -> None:
    """Add the reasons of `gen_ai.choice` events."""
    events = context.events.of("gen_ai.choice").get("gen_ai.choice")
    if events is None:
        return
    owner = context.events.owner[events]
    values = context.events.values(events, ("finish_reason",))
    told = (values.kinds("finish_reason") == ValueType.STRING) & column.open[owner]
    told &= values.slices("finish_reason").length > 0
    if told.any():
        offset, length = values.slices("finish_reason")
        texts = strings(values.buffer, Slices(offset[told], length[told]))
        column.add(*lists_of(owner[told].astype(np.int64), texts, _REASONS))


def error_columns(context: Context) -> dict[str, Column]:
    """Return `error_type` (a dictionary of strings) and `error_message`, null without error."""
    n = len(context.span_type)
    batch = context.index.batch
    status = np.asarray(kinds.statuses(context.index))
    failed = status == _FAILED
    kind, message = TextColumn(n), TextColumn(n)
    for key in sources.ERROR_TYPE:
        _strings(context, key, kind, np.ones(n, np.bool_))
    rows = np.flatnonzero(failed & (batch.status_message.length > 0))
    _add(message, rows, context, batch.status_message)
    for key in sources.ERROR_MESSAGE:
        _strings(context, key, message, failed)
    _exceptions(context, status != _OK, kind, message)
    for key in sources.HTTP_STATUS:
        _http_status(context, key, kind, failed)
    return {"error_type": kind.array().dictionary_encode(), "error_message": message.array()}


def _add(column: TextColumn, rows: NDArray[np.int64], context: Context, slices: Slices) -> None:
    if len(rows):
        values = strings(
            context.index.buffer,
            Slices(slices.offset[rows], slices.length[rows]),
            empty_is_null=False,
        )
        column.add(rows, Texts(values, slices.length[rows] > 0))


def _strings(context: Context, key: str, column: TextColumn, wanted: NDArray[np.bool_]) -> None:
    """Add the strings of an attribute."""
    rows = context.index.rows(key)
    if rows is not None:
        spans = np.flatnonzero(wanted & column.open & (rows >= 0))
        slices = context.index.text(rows)
        _add(column, spans[slices.length[spans] > 0], context, slices)


def _exceptions(
    context: Context, wanted: NDArray[np.bool_], kind: TextColumn, message: TextColumn
) -> None:
    """Add type and message of the first `exception` event of each span."""
    events = context.events.of("exception").get("exception")
    if events is None:
        return
    spans, first = np.unique(context.events.owner[events], return_index=True)
    kept = wanted[spans]
    spans, events = spans[kept].astype(np.int64), events[first[kept]]
    if not len(spans):
        return
    values = context.events.values(events, ("exception.type", "exception.message"))
    for key, column in (("exception.type", kind), ("exception.message", message)):
        offset, length = values.slices(key)
        told = (values.kinds(key) == ValueType.STRING) & (length > 0) & column.open[spans]
        if told.any():
            texts = strings(values.buffer, Slices(offset[told], length[told]))
            column.add(spans[told], Texts(texts, np.ones(len(texts), np.bool_)))


def _http_status(context: Context, key: str, column: TextColumn, failed: NDArray[np.bool_]) -> None:
    """Add the HTTP status of failed spans, from 400 on, as text."""
    rows = context.index.rows(key)
    if rows is None:
        return
    values, ok = context.index.integers(rows)
    spans = np.flatnonzero(failed & column.open & ok & (values >= 400) & (values < 600))
    if len(spans):
        texts: Any = pa.array(values[spans]).cast(pa.string())
        column.add(spans, Texts(texts, np.ones(len(spans), np.bool_)))
