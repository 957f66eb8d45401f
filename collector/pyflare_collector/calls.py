"""One call told twice: which telling of a model call carries its cost.

Two instrumentations that are on at once tell the same call: the provider's own SDK
and a library around it, an application and the gateway that it calls. Counting both
doubles the cost. The rules, which no convention states and real payloads show:

- The same trace and span id twice is one span.
- The same response id under different scopes, at overlapping times, is one call; in
  one trace or in two.
- Where one of two spans has no response id: different scopes, one an ancestor of the
  other, the same model and the same tokens is one call.
- One of two that has neither a response id nor tokens says nothing that another call
  would: different scopes, one an ancestor of the other, the same model (or none) is one
  call.
- Failed calls, which have neither response id nor tokens: different scopes, the same
  parent, the same model, at overlapping times is one call.
- Two spans of one scope are two calls, whatever their ids: test servers repeat ids.

Of tellings that are connected by these rules, those of one scope are kept: of a scope
with usage, then of the one with the most of them (a scope that tells two calls is not
thrown away for one that tells one), then with usage on most, first hand, with cache
tokens, with content, the earliest. The others get the cost status `duplicate` and no
cost.

`mark_duplicate_calls` settles a table; `RecentCalls` tables that arrive one after
another, where what was written first stays.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pyflare_collector import call_kernels as k
from pyflare_collector.normalize.arrow import Column, string_bounds, string_data
from pyflare_collector.recent_spans import RecentSpans
from pyflare_proto.errors import UsageError
from pyflare_proto.otlp.jit import frozen
from pyflare_proto.record import CALL_TYPES, arrow_schema

__all__ = ["RecentCalls", "RecentSpans", "mark_duplicate_calls", "warm_up"]

_DUPLICATE = "duplicate"
_FIRST_HAND = ("pyflare.integrations.", "com.anthropic.sdk.python")
"""How scopes begin that pass on all that prices depend on, as the provider answered it.

Others leave out service tiers and one-hour cache writes, or count tokens of streams
themselves."""
_ERROR = "error"
_NO_TOKENS = -1


def mark_duplicate_calls(table: pa.Table) -> pa.Table:
    """Keep the cost of each call on one telling of it.

    Args:
        table: span records, in any order; strings may be dictionaries.

    Returns:
        The table without second rows of one (trace id, span id), and with
        `cost_status` `duplicate` and `cost_nano_usd` null on the tellings that do not
        count. The answer does not depend on the order of the rows (but for which of two
        rows of one span is the first), and giving it again changes nothing.
    """
    if not table.num_rows:
        return table
    return RecentCalls(max_calls=table.num_rows, max_spans=table.num_rows).apply(table)


class RecentCalls:
    """Calls of recent tables, so that a telling in a later table is recognised.

    A call that was handed on keeps its cost; tellings of it that arrive later are
    marked, but for one with tokens of a call that was handed on without: the cost must
    stand somewhere, and the call counts twice. What was seen is forgotten after
    `max_calls` calls, after `window_s` seconds, or on a restart: a telling that comes
    later than that is counted again.

    Memory is at most 208 bytes for each of `max_calls` (its entry, an open end, and two
    places in hash tables, whose sizes are powers of two) and 64 for each of `max_spans`:
    40 MB by default, taken page by page. Safe to use from several threads.

    Args:
        max_calls: calls to remember, at least 1.
        max_spans: spans to remember, to follow parents from call to call, at least 1.
        window_s: seconds for which a call is remembered, above 0.
        clock: returns seconds that never go back.

    Raises:
        UsageError: an argument is out of range.
    """

    def __init__(
        self,
        max_calls: int = 1 << 17,
        max_spans: int = 1 << 18,
        window_s: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if max_calls < 1 or max_spans < 1 or not window_s > 0:
            raise UsageError(
                f"a window of {max_calls} calls, {max_spans} spans and {window_s} s holds nothing",
                hint="choose numbers above 0",
            )
        self._clock = clock
        self._window_ns = int(window_s * 1e9)
        self._lock = threading.Lock()
        self._calls = np.empty((max_calls, k.CALL_WORDS), np.int64)
        self._spans = np.empty((max_spans, k.SPAN_WORDS), np.int64)
        self._open = np.empty((max_calls, k.OPEN_WORDS), np.int64)
        self._heads = [
            np.zeros(1 << max(size - 1, 1).bit_length(), np.int64)
            for size in (max_calls, max_spans, max_calls)
        ]
        self._counters = np.zeros(k.COUNTERS, np.int64)
        self._counters[k.SEED] = self._seed = secrets.randbits(62)
        self._waiting: deque[tuple[int, pa.Table]] | None = deque()
        self._only_scope: str | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that the window takes when it is full."""
        return sum(a.nbytes for a in (self._calls, self._spans, self._open, *self._heads))

    def apply(self, table: pa.Table, *, distinct: bool = False) -> pa.Table:
        """Mark the tellings of calls that this table or an earlier one tells already.

        Tellings of one call have different scopes. As long as all calls are of one scope
        the tables are only kept, a few columns of them; they are gone through when a
        second scope arrives.

        Args:
            table: span records.
            distinct: no span stands twice in the table; it is not looked at again.

        Returns:
            The table as `mark_duplicate_calls` returns it.
        """
        now = int(self._clock() * 1e9)
        with self._lock:
            if self._waiting is not None and self._keeps_waiting(table):
                if not distinct:
                    table, _ = _without_repeats(table, _span_words(table), self._seed)
                self._wait(table, now)
                return table
            for arrival, earlier in self._waiting or ():
                self._apply_all(earlier, arrival)
            self._waiting = None
            return self._apply_all(table, now)

    def _keeps_waiting(self, table: pa.Table) -> bool:
        """Return whether all calls so far, and those of the table, are of one scope."""
        scopes = _call_scopes(table)
        if len(scopes) > 1 or (scopes and self._only_scope not in (None, *scopes)):
            return False
        self._only_scope = next(iter(scopes), self._only_scope)
        return True

    def _wait(self, table: pa.Table, now: int) -> None:
        """Keep what may be asked of a table later, within the bounds of the window."""
        assert self._waiting is not None  # noqa: S101 - the caller looked
        self._waiting.append((now, _light(table)))
        rows = sum(kept.num_rows for _, kept in self._waiting)
        while len(self._waiting) > 1 and (
            rows - self._waiting[0][1].num_rows >= len(self._calls)
            or self._waiting[0][0] < now - self._window_ns
        ):
            rows -= self._waiting.popleft()[1].num_rows

    def _apply_all(self, table: pa.Table, now: int) -> pa.Table:
        spans = _span_words(table)
        table, spans = _without_repeats(table, spans, self._seed)
        size = min(len(self._calls), len(self._spans))
        if table.num_rows <= size:
            return self._apply(table, spans, now)
        return pa.concat_tables(
            [
                self._apply(table.slice(start, size), spans[start : start + size], now)
                for start in range(0, table.num_rows, size)
            ]
        )

    def _apply(self, table: pa.Table, spans: NDArray[np.int64], now: int) -> pa.Table:
        types, names = _codes(table["span_type"])
        call_types = [names.index(name) for name in CALL_TYPES if name in names]
        rows = np.flatnonzero(np.isin(types, call_types))
        spans[rows, k.S_CALL] = np.arange(1, len(rows) + 1)
        calls, worth = _call_words(table, rows, spans, self._seed)
        calls[:, k.ARRIVAL] = now
        order = np.argsort(calls[:, k.START], kind="stable")
        chosen = self._settle(calls, order, spans, worth, now - self._window_ns)
        told = rows[chosen != calls[:, k.SCOPE]]
        return _marked(table, told) if len(told) else table

    def _settle(
        self,
        calls: NDArray[np.int64],
        order: NDArray[np.int64],
        spans: NDArray[np.int64],
        worth: NDArray[np.int64],
        earliest: int,
    ) -> NDArray[np.int64]:
        """Return (m,) the scope that counts for each call's group, and remember it."""
        m = len(calls)
        first = int(self._counters[k.CALLS]) + 1
        roots = np.arange(m, dtype=np.int32)
        keepers = np.zeros(m, np.int64)
        k.find_links(
            self._calls,
            self._heads[0],
            self._spans,
            self._heads[1],
            self._open,
            self._heads[2],
            self._counters,
            calls,
            order,
            spans,
            earliest,
            np.empty(m, np.int32),
            roots,
            keepers,
            np.zeros(m, np.int64),
        )
        while True:
            above = roots[roots]
            if np.array_equal(above, roots):
                break
            roots = above
        chosen = calls[:, k.SCOPE].copy()
        known = keepers[roots]
        chosen[known != 0] = known[known != 0]
        several = np.flatnonzero((np.bincount(roots, minlength=m) > 1)[roots] & (known == 0))
        if len(several):
            best = _best_scopes(roots[several], calls[several], worth[several])
            chosen[several] = best
        slots = (first + np.arange(m)) % len(self._calls)
        self._calls[slots, k.KEEPER] = chosen[order]
        return chosen


def warm_up() -> None:
    """Compile or load the kernels of this module before the first table arrives."""
    schema = arrow_schema()
    row = {"trace_id": "0" * 31 + "1", "span_id": "0" * 15 + "1", "span_type": CALL_TYPES[0]}
    moment = {"start_time": 0, "end_time": 1, "response_id": "r", "scope_name": "s"}
    columns = {
        field.name: pa.array([{**row, **moment}.get(field.name)], field.type) for field in schema
    }
    RecentCalls(1, 1).apply(pa.table(columns))
    spans = RecentSpans(1)
    trace_id, span_id = np.ones((1, 16), np.uint8), np.ones((1, 8), np.uint8)
    spans.first_seen(trace_id, span_id)
    spans.add(trace_id, span_id)


_WINDOW_COLUMNS = (
    *("trace_id", "span_id", "parent_span_id", "span_type", "scope_name", "response_id"),
    *("start_time", "end_time", "model", "model_request", "model_response", "cost_status"),
    *("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"),
    *("cost_nano_usd", "status_code"),
)
"""Columns that settling reads; of `input` and `output` only whether they are given."""


def _light(table: pa.Table) -> pa.Table:
    """Return a table with what settling reads, without the texts."""
    light = table.select(list(_WINDOW_COLUMNS))
    for name in ("input", "output"):
        given = pc.if_else(pc.is_valid(table[name]), pa.scalar(True), pa.scalar(None, pa.bool_()))
        light = light.append_column(name, given)
    return light


def _call_scopes(table: pa.Table) -> set[str]:
    """Return the scopes of a table's calls; a call without one has the scope ""."""
    scopes, names = _codes(table["scope_name"])
    types, kinds = _codes(table["span_type"])
    call = np.isin(types, [kinds.index(name) for name in CALL_TYPES if name in kinds])
    return {names[code] if code >= 0 else "" for code in np.unique(scopes[call]).tolist()}


def _best_scopes(
    groups: NDArray[np.int32], calls: NDArray[np.int64], worth: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return (m,) the scope to keep of each call's group.

    Args:
        groups: (m,) group of each call.
        calls: (m, CALL_WORDS) the calls.
        worth: (m, 5) whether a call is marked already, has usage, is told first hand,
            has cache tokens, and content.
    """
    order = np.lexsort((calls[:, k.SCOPE], groups))
    group, scope = groups[order], calls[order, k.SCOPE]
    first = np.ones(len(order), np.bool_)
    first[1:] = (np.diff(group) != 0) | (np.diff(scope) != 0)
    starts = np.flatnonzero(first)
    count = np.diff(np.append(starts, len(order)))
    sums = np.add.reduceat(worth[order], starts)
    since = np.minimum.reduceat(calls[order, k.START], starts)
    span = np.minimum.reduceat(calls[order, k.SPAN], starts)
    group, scope = group[starts], scope[starts]
    # A scope that was marked before gives way: its cost is gone.
    rank = np.lexsort(
        (
            *(span, since, -sums[:, 4], -sums[:, 3], -sums[:, 2], -sums[:, 1]),
            *(-count, sums[:, 1] == 0, sums[:, 0], group),
        )
    )
    winners, at = np.unique(group[rank], return_index=True)
    result: NDArray[np.int64] = scope[rank[at]][np.searchsorted(winners, groups)]
    return result


def _span_words(table: pa.Table) -> NDArray[np.int64]:
    """Return (n, SPAN_WORDS) the ids of the spans, `S_CALL` and `S_OLDER` zero."""
    spans = np.zeros((table.num_rows, k.SPAN_WORDS), np.int64)
    spans[:, k.S_TRACE0 : k.S_TRACE1 + 1] = _ids(table["trace_id"], 2)
    spans[:, k.S_SPAN] = _ids(table["span_id"], 1)[:, 0]
    spans[:, k.S_PARENT] = _ids(table["parent_span_id"], 1)[:, 0]
    return spans


def _call_words(
    table: pa.Table, rows: NDArray[np.int64], spans: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (m, CALL_WORDS) the calls at `rows`, and (m, 5) what their tellings are worth."""
    calls = np.zeros((len(rows), k.CALL_WORDS), np.int64)
    wanted: Any = pa.array(rows)
    taken = table if len(rows) == table.num_rows else table.take(wanted)
    calls[:, k.RESPONSE0 : k.RESPONSE1 + 1] = _hashes(taken["response_id"], 2, seed)
    calls[:, k.SCOPE] = _category_hashes(taken["scope_name"], seed)
    # A call without a scope has one all the same: that of spans without a scope.
    calls[calls[:, k.SCOPE] == 0, k.SCOPE] = 1
    for place, name in ((k.START, "start_time"), (k.END, "end_time")):
        calls[:, place] = _flat(taken[name]).cast(pa.timestamp("ns", "UTC")).view(pa.int64())
    calls[:, [k.TRACE0, k.TRACE1, k.SPAN, k.PARENT]] = spans[rows][
        :, [k.S_TRACE0, k.S_TRACE1, k.S_SPAN, k.S_PARENT]
    ]
    for place, name in ((k.INPUT, "input_tokens"), (k.OUTPUT, "output_tokens")):
        calls[:, place] = _integers(taken[name])
    for place, name in (
        (k.MODEL0, "model"),
        (k.MODEL1, "model_request"),
        (k.MODEL2, "model_response"),
    ):
        calls[:, place] = _category_hashes(taken[name], seed)
    status, statuses = _codes(taken["cost_status"])
    marked = statuses.index(_DUPLICATE) if _DUPLICATE in statuses else -1
    _name_failures(calls, taken)
    worth = np.stack(
        [
            (status == marked) & (marked >= 0),
            _is_given(taken, "input_tokens", "output_tokens"),
            _is_first_hand(taken["scope_name"]),
            _is_given(taken, "cache_read_tokens", "cache_write_tokens"),
            _is_given(taken, "input", "output"),
        ],
        axis=1,
    ).astype(np.int64)
    return calls, worth


def _name_failures(calls: NDArray[np.int64], table: pa.Table) -> None:
    """Give failed calls that have no response id one of their parent and model.

    It is even, where hashes of real ones are odd: `_is_told_twice` tells them by it.
    """
    status, statuses = _codes(table["status_code"])
    failed = status == (statuses.index(_ERROR) if _ERROR in statuses else -2)
    failed &= (calls[:, k.RESPONSE0] == 0) & (calls[:, k.PARENT] != 0)
    failed &= (calls[:, k.INPUT] == _NO_TOKENS) & (calls[:, k.OUTPUT] == _NO_TOKENS)
    rows = np.flatnonzero(failed)
    if len(rows):
        mixed = calls[rows, k.PARENT] ^ calls[rows, k.MODEL0]
        calls[rows, k.RESPONSE0] = (mixed ^ calls[rows, k.TRACE0]) & ~1 | 2
        calls[rows, k.RESPONSE1] = mixed ^ calls[rows, k.TRACE1]


def _is_first_hand(column: pa.ChunkedArray[Any]) -> NDArray[np.bool_]:
    """Return (n,) where a scope passes on all that prices depend on."""
    codes, names = _codes(column)
    known = np.array([*(str(name or "").startswith(_FIRST_HAND) for name in names), False])
    result: NDArray[np.bool_] = known[codes]
    return result


def _flat(column: pa.ChunkedArray[Any]) -> Column:
    """Return a column in one piece."""
    whole: Any = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = whole.chunk(0)
    flat: Column = whole
    return flat


def _strings(column: Column) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Return the bytes of strings and (n + 1,) where each starts; null is empty."""
    values: Any = column
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if values.type != pa.string():
        values = values.cast(pa.string())
    if values.null_count:
        values = pc.fill_null(values, "")
    return frozen(string_data(values)), np.array(string_bounds(values))


def _ids(column: pa.ChunkedArray[Any], words: int) -> NDArray[np.int64]:
    """Return (n, words) hexadecimal ids as integers."""
    result = np.zeros((len(column), words), np.int64)
    k.parse_ids(*_strings(_flat(column)), result)
    return result


def _hashes(column: pa.ChunkedArray[Any], words: int, seed: int) -> NDArray[np.int64]:
    """Return (n, words) hashes of strings, 0 for null and empty."""
    result = np.zeros((len(column), words), np.int64)
    k.hash_strings(*_strings(_flat(column)), result, seed)
    return result


def _codes(column: pa.ChunkedArray[Any]) -> tuple[NDArray[np.int64], list[str]]:
    """Return (n,) codes of a column of few values, -1 for null, and the values."""
    flat: Any = _flat(column)
    if not pa.types.is_dictionary(flat.type):
        flat = flat.dictionary_encode()
    codes = flat.indices.cast(pa.int64())
    if codes.null_count:
        codes = pc.fill_null(codes, -1)
    return codes.to_numpy(), flat.dictionary.to_pylist()


def _category_hashes(column: pa.ChunkedArray[Any], seed: int) -> NDArray[np.int64]:
    """Return (n,) hashes of a column of few values, 0 for null and empty."""
    codes, values = _codes(column)
    hashes = np.zeros(len(values) + 1, np.int64)
    if values:
        hashed = np.zeros((len(values), 1), np.int64)
        k.hash_strings(*_strings(pa.array(values, pa.string())), hashed, seed)
        hashes[:-1] = hashed[:, 0]
    result: NDArray[np.int64] = hashes[codes]
    return result


def _integers(column: pa.ChunkedArray[Any]) -> NDArray[np.int64]:
    flat: Any = _flat(column).cast(pa.int64())
    if flat.null_count:
        flat = pc.fill_null(flat, _NO_TOKENS)
    result: NDArray[np.int64] = flat.to_numpy()
    return result


def _is_given(table: pa.Table, *names: str) -> NDArray[np.bool_]:
    """Return (n,) where any of the columns is not null."""
    given = np.zeros(table.num_rows, np.bool_)
    for name in names:
        given |= _flat(table[name]).is_valid().to_numpy(zero_copy_only=False)
    return given


def _without_repeats(
    table: pa.Table, spans: NDArray[np.int64], seed: int
) -> tuple[pa.Table, NDArray[np.int64]]:
    """Return the table and the words of its spans with the first row of each span only."""
    fresh = np.empty(len(spans), np.bool_)
    slots = np.full(1 << (2 * len(spans) + 1).bit_length(), -1, np.int32)
    k.first_rows(spans, slots, fresh, seed)
    return (table, spans) if fresh.all() else (table.filter(pa.array(fresh)), spans[fresh])


def _marked(table: pa.Table, rows: NDArray[np.int64]) -> pa.Table:
    """Return the table with the calls at `rows` marked and without cost."""
    mask = np.zeros(table.num_rows, np.bool_)
    mask[rows] = True
    where = pa.array(mask)
    cost = table["cost_nano_usd"]
    unknown = pa.scalar(None, cost.type)
    place = table.schema.get_field_index("cost_nano_usd")
    table = table.set_column(place, table.field(place), pc.if_else(where, unknown, cost))
    place = table.schema.get_field_index("cost_status")
    field = table.field(place)
    if pa.types.is_dictionary(field.type):
        codes, values = _codes(table[place])
        if _DUPLICATE not in values:
            values.append(_DUPLICATE)
        codes = np.where(mask, values.index(_DUPLICATE), codes)
        indices = pa.array(codes, field.type.index_type, mask=codes < 0)
        status: Column = pa.DictionaryArray.from_arrays(
            indices, pa.array(values, field.type.value_type)
        )
    else:
        status = pc.if_else(where, pa.scalar(_DUPLICATE, field.type), table[place])
    return table.set_column(place, field, status)
