"""The C library gives large blocks back as soon as they are free.

What always holds: it changes what the process holds, never what it computes; where the C library knows no
such setting nothing is done.
"""

from __future__ import annotations

import ctypes

_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of glibc's malloc.h
_LARGE = 1024 * 1024


def give_back_large_blocks() -> None:
    """Fix the size from which a block is mapped for itself.

    Left to itself glibc raises it to the size of what was freed last, up to 32 MiB: vectors of models then
    come from heaps, one for each thread, which keep the holes.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_MMAP_THRESHOLD, _LARGE)
