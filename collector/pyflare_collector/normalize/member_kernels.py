"""Counts at many places of small JSON documents, in one pass over each.

Usage objects have a dozen members in several spellings. Looking each up on its own
would read the text once a spelling; `read_counts` walks a document once and matches
every key that it meets against the tree of the wanted ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyflare_collector.normalize.conventions.sources import Path
from pyflare_collector.normalize.json_kernels import approximate, key_equals
from pyflare_collector.normalize.json_text import skip_space, skip_string, skip_value
from pyflare_proto.otlp.batch import Slices
from pyflare_proto.otlp.jit import address, byte_at, frozen, helper, kernel

__all__ = ["MAX_DEPTH", "MemberTree", "build_tree", "read_counts"]

MAX_DEPTH = 4
"""Most members in a path."""

_QUOTE, _COMMA, _COLON, _OPEN, _CLOSE = 34, 44, 58, 123, 125
_MAX_EXACT = 2.0**53


class MemberTree(NamedTuple):
    """Wanted paths as edges of a tree, for kernels."""

    text: NDArray[np.uint8]
    """The edges' keys, one after the other, UTF-8."""
    bounds: NDArray[np.int64]
    """(e + 1,) where each key begins in `text`."""
    first_edge: NDArray[np.int64]
    """(nodes + 1,) edges of each node; node 0 is the document."""
    target: NDArray[np.int64]
    """(e,) path that ends at the edge, or -1 - node that it leads to."""


def build_tree(paths: Sequence[Path]) -> MemberTree:
    """Return the tree of `paths`; the number of a path is its place in the sequence.

    Raises:
        ValueError: a path steps into an array, is longer than `MAX_DEPTH`, is listed
            twice, or ends where another goes on.
    """
    nodes: list[dict[str, int]] = [{}]
    for number, path in enumerate(paths):
        if not 0 < len(path) <= MAX_DEPTH or not all(isinstance(step, str) for step in path):
            raise ValueError(f"path {path!r} cannot be read in one pass")
        node = 0
        for step in map(str, path[:-1]):
            target = nodes[node].setdefault(step, -1 - len(nodes))
            if target >= 0:
                raise ValueError(f"path {path!r} goes on where another ends")
            if -1 - target == len(nodes):
                nodes.append({})
            node = -1 - target
        if nodes[node].setdefault(str(path[-1]), number) != number:
            raise ValueError(f"path {path!r} is listed twice or ends where another goes on")
    keys = [key.encode() for node in nodes for key in node]
    targets = [target for node in nodes for target in node.values()]
    return MemberTree(
        frozen(np.frombuffer(b"".join(keys) + b"\0", np.uint8)),
        np.cumsum([0, *map(len, keys)], dtype=np.int64),
        np.cumsum([0, *map(len, nodes)], dtype=np.int64),
        np.array(targets, dtype=np.int64),
    )


@helper
def _key_and_value(pos: int, end: int) -> tuple[int, int, int]:
    """Read the key at `pos` up to its value.

    Returns:
        (first byte of the key, its closing quote, first byte of the value); the last is
        -1 where the text is malformed.
    """
    first = pos + 1
    close = skip_string(first, end)
    if close < 0:
        return first, close, -1
    pos = skip_space(close + 1, end)
    if pos >= end or byte_at(pos) != _COLON:
        return first, close, -1
    pos = skip_space(pos + 1, end)
    return first, close, pos if pos < end else -1


@helper
def _match(  # noqa: PLR0917 - numba kernels take their arguments by position
    first: int, close: int, keys: int, bounds: NDArray[np.int64], edge: int, last: int
) -> int:
    """Return which of the edges from `edge` up to `last` has the key, -1 for none."""
    while edge < last:
        if key_equals(first, close, keys + bounds[edge], keys + bounds[edge + 1]):
            return edge
        edge += 1
    return -1


@kernel
def _read_counts(  # noqa: PLR0917 - numba kernels take their arrays by position
    buffer: NDArray[np.uint8],
    offset: NDArray[np.int64],
    length: NDArray[np.int32],
    text: NDArray[np.uint8],
    bounds: NDArray[np.int64],
    first_edge: NDArray[np.int64],
    target: NDArray[np.int64],
    counts: NDArray[np.int64],
    seen: NDArray[np.bool_],
) -> None:
    """Walk each document member by member; `stack` holds the nodes of the open objects."""
    base, keys = address(buffer), address(text)
    stack = np.zeros(MAX_DEPTH + 1, np.int64)
    for row in range(offset.size):
        pos = base + offset[row]
        end = pos + length[row]
        pos = skip_space(pos, end)
        depth = 0 if pos < end and byte_at(pos) == _OPEN else -1
        pos += 1
        while depth >= 0:
            pos = skip_space(pos, end)
            byte = byte_at(pos) if pos < end else 0
            if byte in (_CLOSE, _COMMA):
                depth -= byte == _CLOSE
                pos += 1
                continue
            first, close, value = _key_and_value(pos, end) if byte == _QUOTE else (0, 0, -1)
            if value < 0:
                break
            node = stack[depth]
            edge = _match(first, close, keys, bounds, first_edge[node], first_edge[node + 1])
            leaf = target[edge] if edge >= 0 else np.int64(-1)
            if edge >= 0 and leaf < 0 and byte_at(value) == _OPEN:
                depth += 1
                stack[depth] = -1 - leaf
                pos = value + 1
                continue
            pos = skip_value(value, end)
            if pos < 0:
                break
            if leaf >= 0:
                number = approximate(value, pos)
                # NaN, which stands for no number, fails every comparison.
                if 0 <= number <= _MAX_EXACT and number == np.floor(number):
                    if counts[leaf, row] < 0:
                        counts[leaf, row] = np.int64(number)
                    seen[leaf] = True


def read_counts(
    buffer: NDArray[np.uint8], slices: Slices, tree: MemberTree
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Read the counts at the paths of `tree` in many documents.

    Args:
        buffer: holds the documents.
        slices: (n,) the documents; malformed ones are read as far as they are JSON.
        tree: the p wanted paths.

    Returns:
        (p, n) counts, -1 where there is no whole number from 0 to 2^53; the first wins
        where a member is given twice. And (p,) whether any document has the path.
    """
    n_paths = int(np.count_nonzero(tree.target >= 0))
    counts = np.full((n_paths, len(slices.length)), -1, dtype=np.int64)
    seen = np.zeros(n_paths, dtype=np.bool_)
    offset = np.ascontiguousarray(slices.offset, np.int64)
    length = np.ascontiguousarray(slices.length, np.int32)
    _read_counts(frozen(buffer), offset, length, *tree, counts, seen)
    return counts, seen
