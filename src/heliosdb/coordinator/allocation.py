"""The C library gives large blocks back as soon as they are free.

What always holds: it changes what the process holds, never what it computes; where the C library knows no
such setting nothing is done.
"""

from __future__ import annotations

import ctypes

_MMAP_THRESHOLD, _ARENA_MAX = -3, -8  # M_MMAP_THRESHOLD and M_ARENA_MAX of glibc's malloc.h
_LARGE = 1024 * 1024
_HEAPS = 2


def give_back_large_blocks() -> None:
    """Fix the size from which a block is mapped for itself, and have few heaps for the smaller ones.

    Left to itself glibc raises it to the size of what was freed last, up to 32 MiB: vectors of models then
    come from heaps, one for each thread, which keep the holes. What comes over the wire in chunks still does:
    by a hundred nodes at once, through as many threads as gRPC likes.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_MMAP_THRESHOLD, _LARGE)
        set_option(_ARENA_MAX, _HEAPS)
