"""Which cells of a two-way table of counts may be told beside its totals: primary and complementary
suppression (Hundepool et al. 2012, "Statistical Disclosure Control", chapter 4).

What always holds: whoever knows all row and column totals and every cell that is told cannot say of a
withheld cell which of `least` neighbouring numbers it is, unless all cells are withheld. For where two rows
cross two columns, what is added to two opposite cells and taken from the other two changes no total: so a
small cell is withheld with three others that leave it, and them, so many numbers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Counts = NDArray[np.float64]


def withheld(counts: Counts, subjects: Counts, least: int) -> Mask:
    """Return which cells are not told, (r, c): all of them where no fewer hide the small ones.

    counts: whole numbers of rows, (r, c); subjects: of how many data subjects each is, (r, c). A cell is
    small where it is of anybody and of fewer than `least` subjects.
    """
    small = (counts > 0.0) & (subjects < least)
    hidden = np.zeros(counts.shape, dtype=np.bool_)
    for row, column in np.argwhere(small).tolist():
        if hidden[row, column]:
            continue
        cost = np.where(hidden, 0.0, counts)
        together = cost + cost[row, :] + cost[:, [column]]
        together[widths(counts, row, column) < least - 1] = np.inf
        if not np.isfinite(together).any():
            return np.ones(counts.shape, dtype=np.bool_)
        other_row, other_column = np.unravel_index(int(np.argmin(together)), counts.shape)
        hidden[np.ix_((row, int(other_row)), (column, int(other_column)))] = True
    return hidden


def widths(counts: Counts, row: int, column: int) -> Counts:
    """Return by how much a cell may move, beside each other one with which it is withheld, and the two that
    share a row and a column with both; -1 where these are not four cells; (r, c)."""
    down = np.minimum(counts[row, column], counts)
    up = np.minimum(counts[row, :], counts[:, [column]])
    found: Counts = down + up
    found[row, :] = found[:, column] = -1.0
    return found
