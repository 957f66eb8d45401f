"""The spans of one trace as a tree: parents before children, whatever arrived.

Spans may come without their parent, twice, or in a circle. A span whose parent is
not there is a root; of spans that are each other's ancestors the earliest is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["TreeNode", "tree_order"]


@dataclass(frozen=True, slots=True)
class TreeNode:
    """Place of one span in the tree."""

    index: int
    """Position of the span in the input."""
    depth: int
    """0 for a root."""
    last: tuple[bool, ...]
    """For each level from 1 to `depth`: whether no sibling follows there."""
    orphan: bool
    """Whether the span names a parent that is not there."""


def tree_order(
    span_ids: Sequence[str], parent_ids: Sequence[str | None], start_ns: Sequence[int]
) -> list[TreeNode]:
    """Order the spans of a trace: each parent before its children, siblings by start time.

    Args:
        span_ids: (n,) id of each span; of a span that came twice the first is the parent.
        parent_ids: (n,) id of the parent, None for a root.
        start_ns: (n,) start, nanoseconds; ties keep the order of the input.

    Returns:
        (n,) every span exactly once.
    """
    by_start = sorted(range(len(span_ids)), key=lambda index: (start_ns[index], index))
    first: dict[str, int] = {}
    for index in by_start:
        first.setdefault(span_ids[index], index)
    children: dict[int, list[int]] = {}
    roots: list[int] = []
    orphans: set[int] = set()
    for index in by_start:
        parent = parent_ids[index]
        place = first.get(parent) if parent is not None else None
        if place is None or place == index:
            roots.append(index)
            if parent is not None:
                orphans.add(index)
        else:
            children.setdefault(place, []).append(index)
    ordered: list[TreeNode] = []
    seen: set[int] = set()
    _walk(roots, children, orphans, ordered, seen)
    for index in by_start:  # what no root leads to goes round in a circle
        if index not in seen:
            _walk([index], children, {*orphans, index}, ordered, seen)
    return ordered


def _walk(
    roots: Sequence[int],
    children: Mapping[int, Sequence[int]],
    orphans: set[int],
    ordered: list[TreeNode],
    seen: set[int],
) -> None:
    """Append the trees under `roots`, depth first, without recursion: traces can be deep."""
    stack = [TreeNode(index, 0, (), index in orphans) for index in reversed(roots)]
    while stack:
        node = stack.pop()
        if node.index in seen:
            continue
        seen.add(node.index)
        ordered.append(node)
        below = [child for child in children.get(node.index, ()) if child not in seen]
        stack += [
            TreeNode(child, node.depth + 1, (*node.last, position == len(below) - 1), orphan=False)
            for position, child in reversed(list(enumerate(below)))
        ]
