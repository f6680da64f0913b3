"""Rows to train on that do not lie in memory, read in the order in which a descent asks for them.

What always holds: the batches are those of the same rows in memory, to the bit: what is made of a row is made
of that row alone. Memory holds a window of batches, which is read by walking through the table once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from heliosdb.algorithms.space import AT_ONCE
from heliosdb.algorithms.table import Codes, Table
from heliosdb.domain.vector import Matrix, Vector


class StoredRows:
    """A table's rows that are not held out; a `TrainingRows`. scaled: inputs and targets of some rows."""

    def __init__(self, table: Table, scaled: Callable[[Table], tuple[Matrix, Vector]]) -> None:
        self._table, self._scaled = table, scaled
        self._places = np.flatnonzero(~table.held_out)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self._places.size)

    def batches(self, order: Codes, ends: Sequence[tuple[int, int]]) -> Iterator[tuple[Matrix, Vector]]:
        """Yield each batch; as many are read at once as fit into a window."""
        first = 0
        while first < len(ends):
            begins, last = ends[first][0], first + 1
            while last < len(ends) and ends[last][1] - begins <= AT_ONCE:
                last += 1
            window = self._table.at(self._places[order[begins : ends[last - 1][1]]])
            inputs, targets = self._scaled(window)
            for start, stop in ends[first:last]:
                yield inputs[start - begins : stop - begins], targets[start - begins : stop - begins]
            first = last
