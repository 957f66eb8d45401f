"""All methods for vectors on one pool, and all of them as one test.

Each method sees another kind of change. `auto` computes their statistics for the same
splits and takes the most extreme one, judged by what the most extreme one is in the random
splits: one p-value at the stated level, without dividing it by the number of methods.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from pyflare_analysis.drift.embeddings.centroid import centroid_test
from pyflare_analysis.drift.embeddings.classifier import classifier_test
from pyflare_analysis.drift.embeddings.fuse import fuse_test
from pyflare_analysis.drift.embeddings.pooled import Pooled, SplitTest, combined
from pyflare_analysis.drift.embeddings.spread import spread_test
from pyflare_analysis.drift.embeddings.topics import Partition, partitions, topics_test

__all__ = ["AUTO", "METHODS", "run"]


class _Pool:
    """A pool whose clusterings are made once."""

    def __init__(self, pool: Pooled) -> None:
        self.pool = pool

    @cached_property
    def partitions(self) -> list[Partition]:
        return partitions(self.pool)


_TESTS: dict[str, Callable[[_Pool], SplitTest]] = {
    "centroid": lambda shared: centroid_test(shared.pool),
    "fuse": lambda shared: fuse_test(shared.pool),
    "topics": lambda shared: topics_test(shared.pool, shared.partitions),
    "spread": lambda shared: spread_test(shared.pool, shared.partitions),
    "classifier": lambda shared: classifier_test(shared.pool),
}
AUTO = tuple(_TESTS)
"""The methods that `auto` combines."""
METHODS = ("mmd", "fuse", "topics", "spread", "rff", "classifier", "centroid", "auto")
"""Every method by name; `mmd` and `rff` need no pool of their own here."""


def run(pool: Pooled, method: str) -> list[SplitTest]:
    """Return the tests behind a method, the deciding one first.

    Args:
        pool: rows and splits.
        method: one of `AUTO`, or `auto`.
    """
    shared = _Pool(pool)
    if method != "auto":
        return [_TESTS[method](shared)]
    tests = [test(shared) for test in _TESTS.values()]
    return [
        SplitTest("auto", combined([test.parts or (test.statistics,) for test in tests])),
        *tests,
    ]
