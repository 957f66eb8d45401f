"""Coded rows between passes: what goes in comes out, wherever it was kept."""

from __future__ import annotations

import resource
import tempfile
from typing import NamedTuple

import numpy as np
import pytest

from pyflare_analysis.rca.block_store import Block, BlockStore


class Coding(NamedTuple):
    """A dimension with codes up to `rest`."""

    rest: int


DIMENSIONS = (Coding(3), Coding(255), Coding(256), Coding(1000))


def blocks(*, weighted: bool = False) -> list[Block]:
    """Return blocks of several lengths, of rates and of other numbers."""
    rng = np.random.default_rng(4)
    made = []
    for n in (1, 500, 0, 70):
        codes = np.stack([rng.integers(0, d.rest + 1, n) for d in DIMENSIONS]).astype(np.uint16)
        values = rng.integers(0, 2, n).astype(np.float64) if n != 70 else rng.normal(size=n)
        made.append(Block(codes, values, rng.random(n) if weighted else None))
    return made


def same(found: Block, given: Block) -> bool:
    """Return whether two blocks hold the same."""
    weights = (found.weights is None) == (given.weights is None)
    if found.weights is not None and given.weights is not None:
        weights = np.array_equal(found.weights, given.weights)
    codes = np.array_equal(found.codes, given.codes) and found.codes.dtype == np.uint16
    return bool(codes and np.array_equal(found.values, given.values) and weights)


@pytest.mark.parametrize("memory_bytes", [0, 1000, 1 << 20])
@pytest.mark.parametrize("weighted", [False, True])
def test_blocks_come_back(memory_bytes: int, weighted: bool) -> None:  # noqa: FBT001
    """The same blocks come in the same order, to readers that take turns too."""
    given = blocks(weighted=weighted)
    store = BlockStore(DIMENSIONS, memory_bytes=memory_bytes)
    for block in given:
        store.add(block)
    for first, second, block in zip(store, store, given, strict=True):
        assert same(first, block)
        assert same(second, block)


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room on the disk nothing is kept, and the store says so."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    store = BlockStore(DIMENSIONS, memory_bytes=0)
    for block in blocks():
        store.add(block)
    assert store.lost
    assert not list(store)


def test_a_disk_that_fills_up() -> None:
    """Where the file takes some blocks and then no more, the store says so while they are added."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    store = BlockStore(DIMENSIONS, memory_bytes=0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
    try:
        for block in blocks():
            store.add(block)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert store.lost
    assert not list(store)
