"""Compiled search for calls that were told before: the links between tellings.

Spans, calls and open ends of ancestries are kept in rings of fixed size, the oldest
overwritten first. Each entry has a serial number, from 1 on, and stands at serial
modulo size; a hash table leads to the newest entry of a bucket, and each entry to
the next older one.
"""

# Kernels take their arrays by position.
# ruff: noqa: PLR0917

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyflare_proto.otlp.hashing import hash_bytes
from pyflare_proto.otlp.jit import address, helper, int64_at, kernel

__all__ = [
    "CALL_WORDS",
    "COUNTERS",
    "OPEN_WORDS",
    "SPAN_WORDS",
    "find_links",
    "first_rows",
    "hash_strings",
    "parse_ids",
]

(
    RESPONSE0,
    RESPONSE1,
    SCOPE,
    START,
    END,
    TRACE0,
    TRACE1,
    SPAN,
    PARENT,
    INPUT,
    OUTPUT,
    MODEL0,
    MODEL1,
    MODEL2,
    KEEPER,
    ARRIVAL,
    OLDER,
) = range(17)
CALL_WORDS = 17
"""Words of a call; `KEEPER` is the scope whose telling of the call counts."""
S_TRACE0, S_TRACE1, S_SPAN, S_PARENT, S_CALL, S_OLDER = range(6)
SPAN_WORDS = 6
"""Words of a span; `S_CALL` is the serial number of its call, 0 for none."""
O_TRACE0, O_TRACE1, O_SPAN, O_CALL, O_OLDER = range(5)
OPEN_WORDS = 5
"""Words of an open end: the ancestor `O_SPAN` of the call `O_CALL` has not arrived."""
CALLS, SPANS, OPEN, OLDEST, SEED = range(5)
COUNTERS = 5
"""Words that count the serial numbers given out, by ring; the serial number of the oldest
call that counts; and the secret of the hash tables."""

_MAX_STEPS = 64
"""Ancestors that are climbed to look for a call that encloses a call."""
_MAX_TELLINGS = 256
"""Earlier calls of one response id that are compared with a call."""


@helper
def _hex8(word: int) -> int:
    """Return the value of 8 hexadecimal digits, loaded as one word, -1 when they are none."""
    digits = (word & 0x0F0F0F0F0F0F0F0F) + ((word >> 6) & 0x0101010101010101) * 9
    letters = ((digits + 0x0606060606060606) >> 4) & 0x0101010101010101
    text = digits + 0x3030303030303030 + letters * 0x27
    if text != word | 0x2020202020202020:
        return -1
    value = 0
    for i in range(8):
        value = value << 4 | ((digits >> (8 * i)) & 15)
    return value


@kernel
def parse_ids(data: NDArray[np.uint8], bounds: NDArray[np.int32], words: NDArray[np.int64]) -> None:
    """Read hexadecimal ids of 16 digits a word into integers.

    Args:
        data: the ids' text.
        bounds: (n + 1,) where each id starts.
        words: (n, k) filled; zero for an empty id, a hash for one of another form.
    """
    base = address(data)
    for row in range(len(bounds) - 1):
        pos = base + bounds[row]
        size = int(bounds[row + 1]) - int(bounds[row])
        good = size == 16 * words.shape[1]
        for k in range(words.shape[1] if good else 0):
            high = _hex8(int64_at(pos + 16 * k))
            low = _hex8(int64_at(pos + 16 * k + 8))
            good = good and high >= 0 and low >= 0
            words[row, k] = high << 32 | low
        if not good:
            for k in range(words.shape[1]):
                words[row, k] = np.int64(hash_bytes(pos, size, k + 1)) if size > 0 else 0


@kernel
def hash_strings(
    data: NDArray[np.uint8],
    bounds: NDArray[np.int32],
    words: NDArray[np.int64],
    seed: int,
) -> None:
    """Hash strings to 64 bits a word.

    Args:
        data: the strings.
        bounds: (n + 1,) where each starts.
        words: (n, k) filled; zero for an empty string.
        seed: secret of the process.
    """
    base = address(data)
    for row in range(len(bounds) - 1):
        size = int(bounds[row + 1]) - int(bounds[row])
        for k in range(words.shape[1]):
            if size > 0:
                words[row, k] = np.int64(hash_bytes(base + bounds[row], size, seed + k)) | 1


@helper
def _bucket(a: int, b: int, c: int, seed: int, buckets: int) -> int:
    """Return the bucket of a key; with a secret `seed` nobody can prepare keys that collide."""
    h = (a ^ seed) * -0x61C8864680B583EB
    h = (h ^ (h >> 29) ^ b) * -0x61C8864680B583EB
    h = (h ^ (h >> 32) ^ c) * -0x61C8864680B583EB
    return (h ^ (h >> 31)) & (buckets - 1)


@kernel
def first_rows(
    ids: NDArray[np.int64], slots: NDArray[np.int32], fresh: NDArray[np.bool_], seed: int
) -> None:
    """Tell which rows are the first of their ids.

    Args:
        ids: (n, 3 or more) the ids in the first three words.
        slots: (power of two above n,) work space, all -1.
        fresh: (n,) filled.
        seed: secret of the process.
    """
    mask = len(slots) - 1
    for row in range(len(ids)):
        slot = _bucket(ids[row, 0], ids[row, 1], ids[row, 2], seed, len(slots))
        fresh[row] = True
        while slots[slot] >= 0:
            other = slots[slot]
            if (
                ids[other, 0] == ids[row, 0]
                and ids[other, 1] == ids[row, 1]
                and ids[other, 2] == ids[row, 2]
            ):
                fresh[row] = False
                break
            slot = (slot + 1) & mask
        if fresh[row]:
            slots[slot] = row


@helper
def _root(roots: NDArray[np.int32], i: int) -> int:
    while roots[i] != i:
        roots[i] = roots[roots[i]]
        i = roots[i]
    return i


@helper
def _keep(
    keepers: NDArray[np.int64], since: NDArray[np.int64], i: int, keeper: int, start: int
) -> None:
    """Note which scope counts for a group: that of its earliest known telling."""
    if keepers[i] == 0 or start < since[i]:
        keepers[i] = keeper
        since[i] = start


@helper
def _has_no_tokens(ring: NDArray[np.int64], a: int) -> bool:
    return bool(ring[a, INPUT] < 0 and ring[a, OUTPUT] < 0)


@helper
def _link(
    ring: NDArray[np.int64],
    first: int,
    local: NDArray[np.int32],
    roots: NDArray[np.int32],
    keepers: NDArray[np.int64],
    since: NDArray[np.int64],
    a: int,
    b: int,
) -> None:
    """Put two calls, given by serial number, into one group; known ones decide who counts."""
    if b >= first:
        a, b = b, a
    if a < first:
        return
    i = _root(roots, local[a - first])
    if b >= first:
        j = _root(roots, local[b - first])
        if i == j:
            return
        i, j = min(i, j), max(i, j)
        roots[j] = i
        if keepers[j] != 0:
            _keep(keepers, since, i, keepers[j], since[j])
    else:
        slot, told = b % len(ring), a % len(ring)
        if (
            ring[slot, KEEPER] == ring[slot, SCOPE]
            and _has_no_tokens(ring, slot)
            and not _has_no_tokens(ring, told)
        ):
            return  # what was handed on has no cost: this one must
        _keep(keepers, since, i, ring[slot, KEEPER], ring[slot, START])


@helper
def _same_model(ring: NDArray[np.int64], a: int, b: int) -> bool:
    for i in range(MODEL0, MODEL2 + 1):
        for j in range(MODEL0, MODEL2 + 1):
            if ring[a, i] != 0 and ring[a, i] == ring[b, j]:
                return True
    return False


@helper
def _says_nothing(ring: NDArray[np.int64], a: int) -> bool:
    """Tell whether a call has neither a response id nor tokens."""
    return bool((ring[a, RESPONSE0] & 1) == 0 and _has_no_tokens(ring, a))


@helper
def _names_no_model(ring: NDArray[np.int64], a: int) -> bool:
    return bool(ring[a, MODEL0] == 0 and ring[a, MODEL1] == 0 and ring[a, MODEL2] == 0)


@helper
def _is_told_twice(ring: NDArray[np.int64], a: int, b: int) -> bool:
    """Tell whether a call and one of its ancestors (slots) tell the same call.

    Hashes of response ids are odd; 0 is none, and other even words are made up.
    """
    if ring[a, SCOPE] == ring[b, SCOPE]:
        return False
    if _says_nothing(ring, a) or _says_nothing(ring, b):
        same = _same_model(ring, a, b)
        return same or _names_no_model(ring, a) or _names_no_model(ring, b)
    return (
        ((ring[a, RESPONSE0] & 1) == 0 or (ring[b, RESPONSE0] & 1) == 0)
        and ring[a, INPUT] == ring[b, INPUT]
        and ring[a, OUTPUT] == ring[b, OUTPUT]
        and _same_model(ring, a, b)
    )


@helper
def _find_span(
    ring: NDArray[np.int64],
    heads: NDArray[np.int64],
    counters: NDArray[np.int64],
    t0: int,
    t1: int,
    span: int,
) -> int:
    """Return the slot of a span, -1 when it is not known."""
    size = len(ring)
    serial = heads[_bucket(t0, t1, span, counters[SEED], len(heads))]
    while serial > 0 and serial > counters[SPANS] - size:
        slot = serial % size
        if ring[slot, S_SPAN] == span and ring[slot, S_TRACE0] == t0 and ring[slot, S_TRACE1] == t1:
            return int(slot)
        serial = ring[slot, S_OLDER]
    return -1


@helper
def _climb(
    calls: NDArray[np.int64],
    spans: NDArray[np.int64],
    span_heads: NDArray[np.int64],
    ends: NDArray[np.int64],
    end_heads: NDArray[np.int64],
    counters: NDArray[np.int64],
    oldest: int,
    first: int,
    local: NDArray[np.int32],
    roots: NDArray[np.int32],
    keepers: NDArray[np.int64],
    since: NDArray[np.int64],
    call: int,
    t0: int,
    t1: int,
    ancestor: int,
) -> None:
    """Link a call (by serial number) with the calls among its ancestors from `ancestor` on."""
    slot = call % len(calls)
    for _ in range(_MAX_STEPS):
        if ancestor == 0:
            return
        found = _find_span(spans, span_heads, counters, t0, t1, ancestor)
        if found < 0:
            counters[OPEN] += 1
            serial = counters[OPEN]
            bucket = _bucket(t0, t1, ancestor, counters[SEED], len(end_heads))
            place = serial % len(ends)
            ends[place, O_TRACE0] = t0
            ends[place, O_TRACE1] = t1
            ends[place, O_SPAN] = ancestor
            ends[place, O_CALL] = call
            ends[place, O_OLDER] = end_heads[bucket]
            end_heads[bucket] = serial
            return
        other = spans[found, S_CALL]
        if other >= oldest and other != call and _is_told_twice(calls, slot, other % len(calls)):
            _link(calls, first, local, roots, keepers, since, call, other)
        ancestor = spans[found, S_PARENT]


@helper
def _forget(ring: NDArray[np.int64], counters: NDArray[np.int64], m: int, earliest: int) -> int:
    """Make room for `m` calls and return the serial number of the oldest that counts."""
    first = counters[CALLS] + 1
    oldest = max(counters[OLDEST], 1)
    while oldest < first and (
        oldest <= first + m - 1 - len(ring) or ring[oldest % len(ring), ARRIVAL] < earliest
    ):
        oldest += 1
    counters[OLDEST] = oldest
    return int(oldest)


@helper
def _link_response(
    ring: NDArray[np.int64],
    oldest: int,
    first: int,
    local: NDArray[np.int32],
    roots: NDArray[np.int32],
    keepers: NDArray[np.int64],
    since: NDArray[np.int64],
    serial: int,
    other: int,
) -> None:
    """Link a call with earlier ones of its response id, of other scopes and at its time.

    `other` is the newest earlier call of the bucket.
    """
    slot = serial % len(ring)
    for _ in range(_MAX_TELLINGS):
        if other < oldest:
            break
        place = other % len(ring)
        if (
            ring[place, RESPONSE0] == ring[slot, RESPONSE0]
            and ring[place, RESPONSE1] == ring[slot, RESPONSE1]
            and ring[place, SCOPE] != ring[slot, SCOPE]
            and ring[place, START] <= ring[slot, END]
            and ring[slot, START] <= ring[place, END]
        ):
            _link(ring, first, local, roots, keepers, since, serial, other)
        other = ring[place, OLDER]


@helper
def _enter_spans(
    ring: NDArray[np.int64],
    heads: NDArray[np.int64],
    counters: NDArray[np.int64],
    given: NDArray[np.int64],
    serials: NDArray[np.int64],
) -> None:
    """Enter spans into their ring, each with the serial number of its call."""
    for row in range(len(given)):
        counters[SPANS] += 1
        serial = counters[SPANS]
        place = serial % len(ring)
        for word in range(SPAN_WORDS):
            ring[place, word] = given[row, word]
        ring[place, S_CALL] = serials[given[row, S_CALL]]
        bucket = _bucket(
            given[row, S_TRACE0],
            given[row, S_TRACE1],
            given[row, S_SPAN],
            counters[SEED],
            len(heads),
        )
        ring[place, S_OLDER] = heads[bucket]
        heads[bucket] = serial


@kernel
def find_links(
    calls: NDArray[np.int64],
    call_heads: NDArray[np.int64],
    spans: NDArray[np.int64],
    span_heads: NDArray[np.int64],
    ends: NDArray[np.int64],
    end_heads: NDArray[np.int64],
    counters: NDArray[np.int64],
    given_calls: NDArray[np.int64],
    order: NDArray[np.int64],
    given_spans: NDArray[np.int64],
    earliest: int,
    local: NDArray[np.int32],
    roots: NDArray[np.int32],
    keepers: NDArray[np.int64],
    since: NDArray[np.int64],
) -> None:
    """Enter spans and calls, and group the calls that tell one call.

    Args:
        calls: (size, CALL_WORDS) ring of calls.
        call_heads: (power of two,) newest serial number by response id.
        spans: (size, SPAN_WORDS) ring of spans.
        span_heads: (power of two,) newest serial number by trace and span id.
        ends: (size, OPEN_WORDS) ring of open ends.
        end_heads: (power of two,) newest serial number by trace and missing span id.
        counters: (COUNTERS,) serial numbers given out.
        given_calls: (m, CALL_WORDS) new calls, with keeper and older not set; m at most
            the size of the ring.
        order: (m,) the calls by start time.
        given_spans: (n, SPAN_WORDS) new spans; `S_CALL` is 1 + the row of the span's
            call, 0 for none.
        earliest: arrival time before which a call in the ring counts no more.
        local: (m,) work space.
        roots: (m,) filled with the first call of each call's group.
        keepers: (m,) filled, at the first call of a group, with the scope that counts
            because an earlier batch tells the call already, 0 when none does.
        since: (m,) work space.
    """
    first = counters[CALLS] + 1
    oldest = _forget(calls, counters, len(given_calls), earliest)
    serials = np.zeros(len(given_calls) + 1, np.int64)
    for k in range(len(order)):
        i = order[k]
        counters[CALLS] += 1
        serial = counters[CALLS]
        local[serial - first] = i
        serials[i + 1] = serial
        slot = serial % len(calls)
        for word in range(CALL_WORDS):
            calls[slot, word] = given_calls[i, word]
        r0 = given_calls[i, RESPONSE0]
        if r0 != 0:
            bucket = _bucket(r0, given_calls[i, RESPONSE1], 0, counters[SEED], len(call_heads))
            other = call_heads[bucket]
            calls[slot, OLDER] = other
            call_heads[bucket] = serial
            # A call to a helper with arrays costs more than all of the above.
            if other >= oldest:
                _link_response(calls, oldest, first, local, roots, keepers, since, serial, other)
    _enter_spans(spans, span_heads, counters, given_spans, serials)
    waiting = counters[OPEN]
    for i in range(len(given_calls)):
        if given_calls[i, PARENT] == 0:
            continue
        _climb(
            calls,
            spans,
            span_heads,
            ends,
            end_heads,
            counters,
            oldest,
            first,
            local,
            roots,
            keepers,
            since,
            serials[i + 1],
            given_calls[i, TRACE0],
            given_calls[i, TRACE1],
            given_calls[i, PARENT],
        )
    for row in range(len(given_spans) if waiting > 0 else 0):
        t0 = given_spans[row, S_TRACE0]
        t1 = given_spans[row, S_TRACE1]
        span = given_spans[row, S_SPAN]
        serial = end_heads[_bucket(t0, t1, span, counters[SEED], len(end_heads))]
        while serial > 0 and serial > counters[OPEN] - len(ends):
            place = serial % len(ends)
            call = ends[place, O_CALL]
            following = ends[place, O_OLDER]
            if (
                serial <= waiting
                and call >= oldest
                and ends[place, O_SPAN] == span
                and ends[place, O_TRACE0] == t0
                and ends[place, O_TRACE1] == t1
            ):
                _climb(
                    calls,
                    spans,
                    span_heads,
                    ends,
                    end_heads,
                    counters,
                    oldest,
                    first,
                    local,
                    roots,
                    keepers,
                    since,
                    call,
                    t0,
                    t1,
                    span,
                )
            serial = following
