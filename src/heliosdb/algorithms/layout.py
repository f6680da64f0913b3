"""How the answers of round 0 are laid out; see features.py for what is in them.

What always holds: sizes follow from the number of columns and the kind of the answer alone. The grids are
what nodes count on and the coordinator reads, so both have their cells from here.
"""

from __future__ import annotations

MISSING, ZERO = 0, 1
LOWEST_OCTAVE, HIGHEST_OCTAVE = -74, 74
OCTAVES = HIGHEST_OCTAVE - LOWEST_OCTAVE
POSITIVE, NEGATIVE = 2, 2 + OCTAVES
BINS = 2 + 2 * OCTAVES
"""Of either grid. The logarithmic one: missing, zero, and per sign the octaves of magnitude."""

CELLS, TAIL = 128, 20
LINEAR, ABOVE, BELOW = 2, 2 + 2 * CELLS, 2 + 2 * CELLS + TAIL
"""A window: missing, zero, so many cells of one width on either side of its centre, and per side cells that
double, of which the last has no end."""

assert BINS == 2 + 2 * CELLS + 2 * TAIL

RANGE_BLOCK = 3

CLASS_COUNTS = 3
"""Of a target's classes: the subjects of class 0, of class 1 and of neither."""

CLASSES_SENSITIVITY = 1.0
"""The L2 norm of the most that one subject adds to them; see classes.py."""

DIGIT_BITS = 32
SUM_DIGITS = 67
SQUARE_DIGITS = 133
COLUMN_DIGITS = 1 + SUM_DIGITS + SQUARE_DIGITS
"""A plain column: its count, and the digits of its exact sum and sum of squares; see exact.py."""


def plain_size(n_inputs: int, classes: int) -> int:
    """Values of a plain answer; classes: of the target, 0 where it is a number."""
    return 1 + COLUMN_DIGITS * n_inputs + (classes - 1 if classes else COLUMN_DIGITS)


def private_size(blocks: int, *, ranges: bool) -> int:
    """Values of a private answer about so many columns."""
    return blocks * (RANGE_BLOCK if ranges else BINS) + 1
