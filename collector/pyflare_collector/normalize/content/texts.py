"""First source wins, for texts: which source tells the text of each span.

`TextColumn` collects the texts of sources in order; each source is asked for the
spans that are still open only. `resolve` asks a list of sources.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pyflare_collector.normalize.arrow import string_bounds, string_data, take
from pyflare_collector.normalize.attributes import AttributeIndex
from pyflare_collector.normalize.content import sources
from pyflare_collector.normalize.content.events import EventTable
from pyflare_collector.normalize.content.families import event_texts, family_texts
from pyflare_collector.normalize.content.messages import answer_text, event_messages, join
from pyflare_collector.normalize.content.parts import call_text, parse
from pyflare_collector.normalize.content.render import Texts, no_slices, render
from pyflare_collector.normalize.documents import Document, Documents
from pyflare_collector.normalize.json_kernels import string_array
from pyflare_proto.otlp.batch import Slices, ValueType
from pyflare_proto.otlp.columns import strings
from pyflare_proto.record import SPAN_TYPES

__all__ = ["Context", "TextColumn", "resolve", "type_mask"]


class Context:
    """What the sources of one batch are read from.

    Args:
        index: attributes of the batch.
        span_type: (n,) int8 index into `SPAN_TYPES`, -1 for unknown.
    """

    def __init__(self, index: AttributeIndex, span_type: NDArray[np.int8]) -> None:
        self.index = index
        self.span_type = span_type
        self.documents = Documents(index)
        self.events = EventTable(index.batch)


def type_mask(span_type: NDArray[np.int8], types: Iterable[str]) -> NDArray[np.bool_]:
    """Return (n,) which spans are of one of `types`."""
    codes = np.array([SPAN_TYPES.index(name) for name in types], np.int8)
    return np.isin(span_type, codes)


class TextColumn:
    """A text column in the making.

    Args:
        n: spans.
    """

    def __init__(self, n: int) -> None:
        self.open = np.ones(n, np.bool_)
        """(n,) spans that have no text yet."""
        self._pieces: list[tuple[NDArray[np.int64], pa.StringArray]] = []

    def add(self, spans: NDArray[np.int64], texts: Texts) -> None:
        """Take the texts of (m,) `spans`, ascending and open, where there is one."""
        if not texts.present.any():
            return
        values = texts.values
        if not texts.present.all():
            spans = spans[texts.present]
            values = values.filter(pa.array(texts.present))
        self.open[spans] = False
        self._pieces.append((spans, values))

    def array(self) -> pa.StringArray:
        """Return (n,) the texts, null where no source told one."""
        n = len(self.open)
        if not self._pieces:
            return pa.nulls(n, pa.string())
        if len(self._pieces) == 1:
            return _spread(*self._pieces[0], n)
        place = np.full(n, -1, np.int64)
        start = 0
        for spans, values in self._pieces:
            place[spans] = np.arange(start, start + len(values))
            start += len(values)
        together = pa.concat_arrays([values for _, values in self._pieces])
        return take(together, place, place < 0)


def _spread(spans: NDArray[np.int64], values: pa.StringArray, n: int) -> pa.StringArray:
    """Return (n,) texts with `values` at `spans`, ascending, and null elsewhere; no copy."""
    if len(spans) == n:
        return values
    bounds = string_bounds(values)
    sizes = np.zeros(n + 1, np.int32)
    sizes[spans + 1] = np.diff(bounds)
    sizes[0] = bounds[0]
    valid = np.zeros(n, np.bool_)
    valid[spans] = True
    return string_array(string_data(values), np.cumsum(sizes, dtype=np.int32), valid)


def resolve(context: Context, order: Iterable[sources.Source]) -> TextColumn:
    """Return the texts that a list of sources tells, the first that has one winning."""
    n = len(context.span_type)
    column = TextColumn(n)
    for source in order:
        if not column.open.any():
            break
        wanted = column.open
        if source.when:
            wanted = wanted & type_mask(context.span_type, source.when)
        if isinstance(source, sources.Document):
            _document(context, source, column, wanted)
        elif isinstance(source, sources.Text):
            _text(context, source, column, wanted)
        elif isinstance(source, sources.Family):
            found = family_texts(context.index, source, wanted)
            if found is not None:
                column.add(*found)
        elif isinstance(source, sources.Events):
            found = event_texts(context.events, source, wanted)
            if found is not None:
                column.add(*found)
        else:
            _call(context, source, column, wanted)
    return column


def _given(values: pa.StringArray) -> Texts:
    """Return texts as they are, empty ones absent."""
    sizes = np.diff(string_bounds(values))
    return Texts(values, sizes > 0)


def _text(
    context: Context, source: sources.Text, column: TextColumn, wanted: NDArray[np.bool_]
) -> None:
    """Add strings as they are, and structured values as JSON."""
    for document in context.documents.get(source.key):
        found = document.at(wanted)
        if len(found.spans):
            column.add(found.spans, _given(strings(found.buffer, found.slices)))


def _document(
    context: Context, source: sources.Document, column: TextColumn, wanted: NDArray[np.bool_]
) -> None:
    """Add the text form of documents."""
    documents = context.documents.get(source.key)
    if source.calls:
        _answer(context, source, column, wanted)
        return
    if not documents:
        return
    if source.never:
        wanted = wanted & ~type_mask(context.span_type, source.never)
    for document in documents:
        found = document.at(wanted)
        if not len(found.spans):
            continue
        if source.part:
            column.add(found.spans, _side(found, source.part))
            continue
        slices = found.slices
        if source.path:
            slices = found.lookup(source.path).values.slices
        buffer, system = _system(context, source.system, found)
        column.add(found.spans, render(buffer, slices, system))


def _system(
    context: Context, key: str, document: Document
) -> tuple[NDArray[np.uint8], Slices | None]:
    """Return the document's buffer and the system instructions of its spans in it."""
    groups = context.documents.get(key) if key else ()
    buffer = document.buffer
    if not groups:
        return buffer, None
    n = len(context.span_type)
    system = no_slices(n)
    for group in groups:
        shift = 0
        if group.buffer is not document.buffer:
            shift = len(buffer)
            buffer = np.concatenate([buffer, group.buffer])
        system.offset[group.spans] = group.slices.offset + shift
        system.length[group.spans] = group.slices.length
    return buffer, Slices(system.offset[document.spans], system.length[document.spans])


def _raw(document: Document, row: int) -> bytes:
    start = int(document.slices.offset[row])
    return document.buffer[start : start + int(document.slices.length[row])].tobytes()


def _side(document: Document, part: str) -> Texts:
    """Return one side of the conversations in lists of OpenTelemetry's older events."""
    known: dict[bytes, str | None] = {}
    texts: list[str | None] = []
    for row in range(len(document.spans)):
        raw = _raw(document, row)
        if raw not in known:
            known[raw] = _side_text(raw, part)
        texts.append(known[raw])
    return _texts(texts)


def _side_text(raw: bytes, part: str) -> str | None:
    try:
        asked, answered = event_messages(parse(raw))
    except (ValueError, RecursionError):
        return None
    return join(asked if part == "asked" else answered)


def _texts(values: list[str | None]) -> Texts:
    present = np.array([value is not None for value in values], np.bool_)
    return Texts(pa.array([value or "" for value in values], pa.string()), present)


def _answer(
    context: Context, source: sources.Document, column: TextColumn, wanted: NDArray[np.bool_]
) -> None:
    """Add texts with the tool calls of another attribute behind them."""
    calls: dict[int, bytes] = {}
    for group in context.documents.get(source.calls):
        found = group.at(wanted)
        calls.update({span: _raw(found, row) for row, span in enumerate(found.spans.tolist())})
    if calls:
        told: dict[int, bytes] = {}
        for group in context.documents.get(source.key):
            found = group.at(wanted)
            told.update(
                {
                    span: _raw(found, row)
                    for row, span in enumerate(found.spans.tolist())
                    if span in calls
                }
            )
        spans = sorted(calls)
        column.add(
            np.array(spans, np.int64),
            _texts([answer_text(told.get(span, b""), calls[span]) for span in spans]),
        )
    plain = sources.Document(source.key, when=source.when, never=source.never)
    _document(context, plain, column, column.open & wanted)


def _call(
    context: Context, source: sources.Call, column: TextColumn, wanted: NDArray[np.bool_]
) -> None:
    """Add `name(arguments)` of spans that have both attributes as strings."""
    index = context.index
    names, arguments = index.rows(source.name), index.rows(source.arguments)
    if names is None or arguments is None:
        return
    spans = np.flatnonzero(wanted & (names >= 0) & (arguments >= 0))
    spans = spans[index.table.type[names[spans]] == ValueType.STRING]
    if not len(spans):
        return
    pairs = zip(
        index.strings(names[spans]).to_pylist(),
        index.strings(arguments[spans]).to_pylist(),
        strict=True,
    )
    column.add(spans, _texts([call_text(name, value) for name, value in pairs]))
