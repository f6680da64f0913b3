"""Which way rows go through trees of binned inputs.

What always holds: where a row ends depends on its own bins and the trees alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliosdb.domain.state import State

Numbers = NDArray[np.int64]
Flags = NDArray[np.bool_]

_NODES_AT_ONCE = 4096


def bins_of(inputs: NDArray[np.float64], edges: NDArray[np.float64], counts: Numbers) -> Numbers:
    """Return the bin of every value; (n, inputs) → (inputs, n). edges: ascending, of all inputs in one;
    counts: how many each input has. A value that is an edge lies below it; what is missing has the last bin,
    which is two more than there are edges, less one."""
    bins = np.empty((inputs.shape[1], inputs.shape[0]), dtype=np.int64)
    for place, part in enumerate(np.split(edges, np.cumsum(counts)[:-1]) if counts.size else []):
        column = inputs[:, place]
        bins[place] = np.searchsorted(part, column, side="left")
        bins[place, np.isnan(column)] = part.size + 1
    return bins


def are_between_levels(edges: NDArray[np.float64], counts: Numbers, levels: Numbers) -> bool:
    """Whether the edges of each input that is a category lie half-way between the indices of its levels, so
    that a level has a bin. levels: of each input how many, 0 where it is a number."""
    if not np.array_equal(counts[levels > 0], levels[levels > 0] - 1):
        return False
    own = np.repeat(levels > 0, counts)
    place = np.arange(edges.size) - np.repeat(np.cumsum(counts) - counts, counts)
    return bool(np.array_equal(edges[own], place[own] + 0.5))


class Ways:
    """Where rows go: for every node a table of its input's bins, True where they go left.

    trees: arrays by name, for n nodes of all trees: `feature`, the input that is split, negative for a leaf;
    `split`, the last bin that goes left, or of a category the row of `subsets` whose bits are the bins that
    do; `left`, the first of two children that lie side by side; `missing_left`, whether missing values go
    left. widths: bins of each input, with that of missing values. categories: which inputs are some.
    """

    def __init__(self, trees: State, widths: Numbers, categories: Flags) -> None:
        feature = trees["feature"].astype(np.int64)
        self._feature = np.maximum(feature, 0)
        self._left = trees["left"].astype(np.int64)
        self._is_inner = feature >= 0
        taken = np.where(self._is_inner, widths[self._feature], 0)
        self._start = np.cumsum(taken) - taken
        self._goes_left = self._table(trees, taken, widths, categories)

    def _table(self, trees: State, taken: Numbers, widths: Numbers, categories: Flags) -> Flags:
        table: Flags = np.empty(int(taken.sum()), dtype=np.bool_)
        # Some nodes at a time: what an entry is found by takes thirty times as much as it.
        for first in range(0, taken.size, _NODES_AT_ONCE):
            nodes = np.arange(first, min(first + _NODES_AT_ONCE, taken.size))
            part = self._part(trees, np.repeat(nodes, taken[nodes]), widths, categories)
            table[self._start[first] : self._start[first] + part.size] = part
        return table

    def _part(self, trees: State, node: Numbers, widths: Numbers, categories: Flags) -> Flags:
        """Return the entries of some nodes. node: of each entry its node's; all of each node are there."""
        first = self._start[node[0]] if node.size else 0
        bin_of = first + np.arange(node.size) - self._start[node]
        left: Flags = bin_of <= trees["split"][node]
        chosen = categories[self._feature[node]]
        if chosen.any():
            row, place = trees["split"][node[chosen]], bin_of[chosen]
            # The bin of missing values, which may lie beyond the bits, is set below.
            byte = np.minimum(place // 8, trees["subsets"].shape[1] - 1)
            left[chosen] = (trees["subsets"][row, byte] >> (7 - place % 8)) & 1 > 0
        missing = bin_of == widths[self._feature[node]] - 1
        left[missing] = trees["missing_left"][node[missing]] > 0
        return left

    def directions(self, bins: NDArray[Any]) -> Flags:
        """Say of every node whether one row would go left there, (nodes,); of leaves nothing that holds.
        bins: (inputs,)."""
        place = np.where(self._is_inner, self._start + bins[self._feature], 0)
        found: Flags = self._goes_left[place] if self._goes_left.size else np.zeros(place.size, np.bool_)
        return found

    def follow(self, bins: NDArray[Any], start: int | np.integer[Any]) -> Numbers:
        """Return the end of each row's way from a node; (inputs, n) → (n,)."""
        place = np.full(bins.shape[1], start, dtype=np.int64)
        rows = np.flatnonzero(self._is_inner[place])
        while rows.size:
            node = place[rows]
            bin_of = bins[self._feature[node], rows]
            node = self._left[node] + ~self._goes_left[self._start[node] + bin_of]
            place[rows] = node
            rows = rows[self._is_inner[node]]
        return place

    def follow_all(self, bins: NDArray[Any], roots: Numbers) -> Numbers:
        """Return the ends of each row's ways from several nodes at once; (inputs, n) → (roots, n)."""
        count = bins.shape[1]
        place = np.repeat(roots.astype(np.int64), count)
        row = np.tile(np.arange(count), roots.size)
        moving = np.flatnonzero(self._is_inner[place])
        while moving.size:
            node = place[moving]
            bin_of = bins[self._feature[node], row[moving]]
            node = self._left[node] + ~self._goes_left[self._start[node] + bin_of]
            place[moving] = node
            moving = moving[self._is_inner[node]]
        return place.reshape(roots.size, count)
