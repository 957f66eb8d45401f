"""The parameters of the C library's allocator (glibc's `mallopt`)."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["ARENA_MAX", "MMAP_THRESHOLD", "TOP_PAD", "TRIM_THRESHOLD", "set_malloc"]

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, ARENA_MAX = -1, -2, -3, -8
"""From glibc's malloc.h."""


def set_malloc(*settings: tuple[int, int]) -> bool:
    """Set parameters to values; return whether the library took all of them (glibc only)."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all(mallopt(parameter, value) == 1 for parameter, value in settings)
