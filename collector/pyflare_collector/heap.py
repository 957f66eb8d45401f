"""How the process keeps its memory: freed blocks are used again instead of going back.

By default glibc maps every large block anew and unmaps it when it is freed, and so each
array that holds a request is paid for in page faults and zeroed pages: a quarter of the
collector's CPU time (`benchmarks/collect.py`). The arrays of one request have the sizes
of those of the last, so a heap that keeps what was freed serves them from warm memory.
"""

from __future__ import annotations

import gc

from pyflare_storage.malloc import (
    ARENA_MAX,
    MMAP_THRESHOLD,
    TOP_PAD,
    TRIM_THRESHOLD,
    set_malloc,
)

__all__ = ["collect_garbage_seldom", "keep_freed_memory"]

_LARGEST_KEPT_BYTES = 32 * 1024 * 1024
"""The most that glibc takes; larger blocks are still mapped and unmapped."""

_KEPT_BYTES = 256 * 1024 * 1024
"""Free memory at the end of a heap above which it is given back."""

_ARENAS = 4
"""Heaps shared by all threads: each keeps its own freed memory, so few bound the sum."""


def keep_freed_memory() -> bool:
    """Tell the C library to keep freed memory; return whether it does (glibc only).

    For a process that serves requests, called before its threads start.
    """
    return set_malloc(
        (ARENA_MAX, _ARENAS),
        (MMAP_THRESHOLD, _LARGEST_KEPT_BYTES),
        (TRIM_THRESHOLD, _KEPT_BYTES),
        (TOP_PAD, 16 * 1024 * 1024),
    )


def collect_garbage_seldom() -> None:
    """Leave what is loaded so far out of garbage collection, and look less often at the rest.

    The data of the pipeline is in arrays, which reference counts free; the half million
    objects of the loaded libraries would be walked again and again. Called when everything
    is loaded.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
