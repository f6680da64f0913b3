"""How the answer to round 0 is laid out; see features.py for what is in it.

What always holds: sizes follow from the number of columns and the kind of the answer alone.
"""

from __future__ import annotations

LOWEST_OCTAVE, HIGHEST_OCTAVE = -20, 40
OCTAVES = HIGHEST_OCTAVE - LOWEST_OCTAVE
MISSING, ZERO = 0, 1
POSITIVE, NEGATIVE = 2, 2 + OCTAVES
BINS = 2 + 2 * OCTAVES
RANGE_BLOCK = 3


def plain_size(n_features: int, *, scales_target: bool) -> int:
    """Values of a plain answer."""
    return 1 + 3 * n_features + (3 if scales_target else 1)


def private_size(blocks: int, *, ranges: bool) -> int:
    """Values of a private answer about so many columns."""
    return blocks * (RANGE_BLOCK if ranges else BINS) + 1
