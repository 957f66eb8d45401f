"""Token counts: from attributes and usage documents to totals that include all parts.

The record's `input_tokens` includes cache reads and writes, its `output_tokens`
includes reasoning. Most emitters report that; some report parts that stand beside
each other ("exclusive"). A span's input is exclusive when

    (a) cache reads + writes > input                       the parts cannot be inside
    (b) its emitter is known for it                        see `emitters`
    (c) it comes from non-overlapping buckets              see `UsageDocument`
    (d) total = input + cache reads + writes + output      with cache tokens over 0

and inclusive otherwise. Exclusive input is converted by adding the parts, and the
span's `usage_basis` becomes `inferred`. The same holds for reasoning over output.

Only calls of a model keep tokens: what agents, chains and workflows carry is a copy
of their calls' usage, and stays readable in `attributes`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyflare_collector.normalize.attributes import Categories
from pyflare_collector.normalize.conventions.sources import Path
from pyflare_collector.normalize.conventions.usage import (
    INTEGER_FIELDS,
    USAGE_DOCUMENTS,
    UsageDocument,
)
from pyflare_collector.normalize.documents import Document, Documents
from pyflare_collector.normalize.draft import Usage
from pyflare_collector.normalize.member_kernels import MemberTree, build_tree, read_counts
from pyflare_collector.normalize.resolve import Resolver

__all__ = ["basis", "plain_usage", "read_documents", "settle"]


def plain_usage(resolver: Resolver) -> Usage:
    """Return the tokens that stand in plain attributes."""
    return Usage(
        counts={field: resolver.counts(keys) for field, keys in INTEGER_FIELDS.items()},
        exclusive=np.zeros(resolver.n, dtype=np.bool_),
        flat=np.zeros(resolver.n, dtype=np.bool_),
        inferred=np.zeros(resolver.n, dtype=np.bool_),
    )


class _Reader(NamedTuple):
    """A usage document with the tree of all its places."""

    source: UsageDocument
    tree: MemberTree
    leaves: tuple[tuple[str, Path], ...]
    """(field, place) of each leaf of the tree, in the order in which they are asked."""


def _reader(source: UsageDocument) -> _Reader:
    leaves = [(name, path) for name, paths in source.fields.items() for path in paths]
    return _Reader(source, build_tree([path for _, path in leaves]), tuple(leaves))


_READERS = tuple(map(_reader, USAGE_DOCUMENTS))


def read_documents(usage: Usage, documents: Documents, calls: NDArray[np.bool_]) -> None:
    """Add, in place, what the usage documents of the spans in `calls` know and attributes do not.

    Args:
        usage: the tokens from plain attributes.
        documents: the JSON documents of the batch.
        calls: (n,) spans that are calls of a model.
    """
    for reader in _READERS:
        source = reader.source
        for document in documents.get(source.key):
            asked = calls
            if source.lone:
                known = (usage.get("input_tokens") >= 0) | (usage.get("output_tokens") >= 0)
                asked = calls & ~known
            texts = document.at(asked)
            if source.path and len(texts.spans):
                texts = texts.inside(source.path)
            if len(texts.spans):
                _read(reader, texts, usage)


def _read(reader: _Reader, document: Document, usage: Usage) -> None:
    """Fill the counts that are open from one group of documents."""
    spans = document.spans
    has_input = np.zeros(len(spans), dtype=np.bool_)
    beside = np.zeros(len(spans), dtype=np.bool_)
    counts, seen = read_counts(document.buffer, document.slices, reader.tree)
    for leaf in np.flatnonzero(seen).tolist():
        name, path = reader.leaves[leaf]
        column = usage.column(name)
        known, found = column[spans], counts[leaf]
        # A cache of 0 leaves the question open, and the next place may know more.
        taken = (known < (1 if "cache" in name else 0)) & (found >= 0)
        column[spans] = np.where(taken, found, known)
        if name == "input_tokens":
            has_input |= taken
        elif path in reader.source.exclusive:
            beside |= taken
    flat = reader.source.flat
    usage.exclusive[spans] |= has_input & (beside | flat)
    if flat:
        usage.flat[spans] |= has_input


def settle(usage: Usage, calls: NDArray[np.bool_]) -> None:
    """Turn the counts into totals that include their parts, in place.

    Args:
        usage: the counts as read; afterwards every known part is at most its total.
        calls: (n,) spans that keep tokens; the others lose them.
    """
    for values in usage.counts.values():
        if values is not None:
            values[~calls] = -1
    _settle_writes(usage)
    _from_total(usage)
    _settle_input(usage)
    _settle_output(usage)
    _settle_total(usage)


def _settle_writes(usage: Usage) -> None:
    """Let cache writes be at least the sum of their kinds."""
    kinds = [usage.counts.get(f"cache_write_{kind}_tokens") for kind in ("1h", "5m")]
    known = [np.maximum(values, 0) for values in kinds if values is not None]
    if known:
        writes = usage.column("cache_write_tokens")
        np.maximum(writes, sum(known[1:], known[0]), out=writes, where=sum(known) > 0)


def _from_total(usage: Usage) -> None:
    """Take the input from the total where only that and perhaps the output are known."""
    total = usage.counts.get("total_tokens")
    if total is None:
        return
    output = usage.get("output_tokens")
    rest = total - np.maximum(output, 0)
    # Without output tokens, a total says how much went in only where nothing came out.
    where = (usage.get("input_tokens") < 0) & (total >= 0) & (output >= 0) & (rest >= 0)
    if where.any():
        usage.column("input_tokens")[where] = rest[where]
        usage.inferred |= where


def _settle_input(usage: Usage) -> None:
    tokens = usage.counts.get("input_tokens")
    if tokens is None:
        for part in ("cache_read", "cache_write", "cache_write_1h", "audio_input"):
            usage.counts[f"{part}_tokens"] = None
        return
    reads, writes = usage.counts.get("cache_read_tokens"), usage.counts.get("cache_write_tokens")
    cached = np.maximum(usage.get("cache_read_tokens"), 0)
    if writes is not None:
        cached = cached + np.maximum(writes, 0)
    if reads is not None or writes is not None:
        total = usage.get("total_tokens")
        output = np.maximum(usage.get("output_tokens"), 0)
        exclusive = usage.exclusive | (cached > tokens) | (total == tokens + cached + output)
        exclusive &= (cached > 0) & (tokens >= 0)
        tokens[exclusive] += cached[exclusive]
        usage.inferred |= exclusive
    audio = usage.counts.get("audio_input_tokens")
    if audio is not None:
        beside = usage.flat & (audio > 0) & (tokens >= 0)
        tokens[beside] += audio[beside]
        usage.inferred |= beside
    for part in ("cache_read", "cache_write", "cache_write_1h", "audio_input"):
        values = usage.counts.get(f"{part}_tokens")
        if values is not None:
            values[values > tokens] = -1


def _settle_output(usage: Usage) -> None:
    tokens = usage.counts.get("output_tokens")
    reasoning = usage.counts.get("reasoning_tokens")
    audio = usage.counts.get("audio_output_tokens")
    if tokens is None:
        usage.counts["reasoning_tokens"] = usage.counts["audio_output_tokens"] = None
        return
    if reasoning is not None:
        whole = usage.get("input_tokens") + tokens
        # Buckets whose sum without reasoning is the total hold it inside the output.
        beside = usage.flat & (usage.get("total_tokens") != whole)
        beside = (beside | (reasoning > tokens)) & (reasoning > 0) & (tokens >= 0)
        tokens[beside] += reasoning[beside]
        usage.inferred |= beside
        reasoning[tokens < 0] = -1
    if audio is not None:
        beside = usage.flat & (audio > 0) & (tokens >= 0)
        tokens[beside] += audio[beside]
        usage.inferred |= beside
        audio[audio > tokens] = -1


def _settle_total(usage: Usage) -> None:
    """Take the total as reported where it covers the parts, else as their sum."""
    known_input, known_output = usage.get("input_tokens"), usage.get("output_tokens")
    parts = np.maximum(known_input, 0) + np.maximum(known_output, 0)
    known = (known_input >= 0) | (known_output >= 0)
    if known.any() or usage.counts.get("total_tokens") is not None:
        total = usage.column("total_tokens")
        np.maximum(total, parts, out=total, where=known)


_BASES = ["reported", "inferred"]


def basis(usage: Usage) -> Categories:
    """Return `usage_basis`: null without usage."""
    codes = np.full(len(usage.inferred), -1, dtype=np.int32)
    for field in ("input_tokens", "output_tokens", "total_tokens"):
        values = usage.counts.get(field)
        if values is not None:
            codes[values >= 0] = 0
    codes[usage.inferred & (codes == 0)] = 1
    return Categories(codes, _BASES)
