"""The tree of a trace: parents before children, whatever arrived."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pyflare_analysis.trace_tree import tree_order


def test_parents_come_before_children_and_siblings_by_start() -> None:
    """Spans given backwards come out as a tree, the earlier sibling first."""
    nodes = tree_order(["c", "b", "a"], ["a", "a", None], [30, 20, 10])

    assert [node.index for node in nodes] == [2, 1, 0]
    assert [node.depth for node in nodes] == [0, 1, 1]
    assert [node.last for node in nodes] == [(), (False,), (True,)]


def test_a_span_without_its_parent_is_a_root_and_marked() -> None:
    """Nothing is lost when the parent never arrived."""
    (node,) = tree_order(["a"], ["gone"], [0])

    assert (node.depth, node.orphan) == (0, True)


def test_spans_that_are_each_others_ancestors_appear_once() -> None:
    """A circle of parents is cut at its earliest span."""
    nodes = tree_order(["a", "b"], ["b", "a"], [20, 10])

    assert [(node.index, node.depth) for node in nodes] == [(1, 0), (0, 1)]


def test_a_span_that_is_its_own_parent_is_a_root() -> None:
    """The shortest circle."""
    assert [node.depth for node in tree_order(["a"], ["a"], [0])] == [0]


def test_deep_traces_need_no_recursion() -> None:
    """A chain of 20,000 spans is ordered from the root to the leaf."""
    n = 20_000
    ids = [str(i) for i in range(n)]
    nodes = tree_order(ids, [None, *ids[:-1]], [0] * n)

    assert [node.index for node in nodes] == list(range(n))
    assert nodes[-1].depth == n - 1


@given(
    st.lists(
        st.tuples(st.integers(0, 8), st.none() | st.integers(0, 10), st.integers(0, 5)), max_size=20
    )
)
def test_every_span_appears_once_and_after_its_parent(
    spans: list[tuple[int, int | None, int]],
) -> None:
    """Whatever ids and parents arrive, no span is lost or doubled, and depth grows by one."""
    parents = [None if parent is None else str(parent) for _, parent, _ in spans]
    nodes = tree_order([str(i) for i, _, _ in spans], parents, [start for *_, start in spans])

    assert sorted(node.index for node in nodes) == list(range(len(spans)))
    depths = [node.depth for node in nodes]
    assert all(depth <= before + 1 for before, depth in pairwise(depths))
    assert all(len(node.last) == node.depth for node in nodes)
