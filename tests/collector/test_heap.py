"""The collector's memory is used again: no page faults for what was freed."""

import gc
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import numpy as np
sys.path[:0] = {path!r}
from pyflare_collector.heap import keep_freed_memory

if {keep}:
    assert keep_freed_memory()
before = 0
for turn in range(40):
    if turn == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [np.ones(200_000) for _ in range(8)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(*, keep: bool) -> int:
    code = FAULTS.format(path=sys.path, keep=keep)
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return int(result.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sets glibc's parameters")
def test_arrays_take_the_memory_of_those_before_them() -> None:
    """30 turns of 13 MB in arrays fault thousands of pages by default, and hardly any here."""
    kept, default = _faults(keep=True), _faults(keep=False)

    assert kept < default / 4


def test_what_is_loaded_is_left_out_of_garbage_collection() -> None:
    """The objects of the libraries are frozen, and new cycles are still collected."""
    code = f"""
import gc, sys, weakref
sys.path[:0] = {sys.path!r}
from pyflare_collector.heap import collect_garbage_seldom
collect_garbage_seldom()
assert gc.get_freeze_count() > 1000
class Node: pass
node = Node(); node.itself = node
seen = weakref.ref(node); del node
gc.collect()
assert seen() is None
"""
    before = gc.get_threshold()

    subprocess.run([sys.executable, "-c", code], check=True)

    assert gc.get_threshold() == before
