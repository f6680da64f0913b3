"""The grid of survival times on which a Cox regression is computed, and what of it a node may tell.

What always holds: a plain answer about a cell of the grid is about no row, or about at least `least_subjects`
data subjects, of whom none or at least five had the event, and none or at least five were censored there (the
smallest cell of DataSHIELD's tables, and as many rows a parameter as its glm asks; see node/disclosure.py).
A grid of which that does not hold at a node is refused there, whoever proposes it.

Leaves. Times count by `leaf`, a width that is a power of two, so that whole numbers and halves of them lie
each in a leaf of their own; what lies beyond the last leaf counts there. Cells are runs of leaves.

How a grid is found. Nodes say of each cell whether they could answer about it. Cells of which one says no are
joined, in pairs where they are neighbours, else to the one before, until every node can answer about all; so
where every distinct time has enough rows everywhere, each keeps a cell of its own, and the estimate is exact.
That a cell is empty a node says of those alone that lie behind all of its rows, to a 64th of the whole: what
it says of others does not tell none from a few.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.table import Table
from heliosdb.domain.disclosure_rules import DEFAULT_RULES
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.task import Scaling
from heliosdb.domain.vector import Matrix, Vector

Leaves = NDArray[np.int64]

LEAVES = 1 << 13
"""As many as a setting may have values; whole days of ten years have mostly one each."""

SMALLEST_CELL = DEFAULT_RULES.min_cell
ROWS_A_PARAMETER = 3
MOST_CELLS = 512
"""With events; more are joined."""

_TAIL = LEAVES // 64


def leaf_width(scaling: Scaling) -> float:
    """Return the width of a leaf: all but a few times lie within six deviations of their mean."""
    reach = max(scaling.target_mean, 0.0) + 6.0 * scaling.target_scale
    return float(2.0 ** math.ceil(math.log2(reach / LEAVES)))


def leaves_of(times: Vector, scaling: Scaling) -> Leaves:
    """Return the leaf of each time; (n,)."""
    with np.errstate(over="ignore"):
        places = np.floor(times / leaf_width(scaling))
    return np.clip(places, 0, LEAVES - 1).astype(np.int64)


def least_subjects(inputs: int, min_cell: int = SMALLEST_CELL) -> int:
    """Return of how many subjects a cell is at least, where sums over it are of so many inputs."""
    return max(min_cell, ROWS_A_PARAMETER * inputs)


def count_cells(table: Table, starts: Leaves, scaling: Scaling) -> Matrix:
    """Return the subjects with an event and without one in each cell, (cells, 2); cells: from a leaf in
    `starts`, ascending, to the next; a row before the first is in none."""
    places = np.searchsorted(starts, leaves_of(table.target, scaling), side="right") - 1
    pairs = 2 * places + (table.roles["event"] == 0.0)
    known = np.unique(np.column_stack([pairs, table.subjects])[places >= 0], axis=0)
    return np.bincount(known[:, 0], minlength=2 * starts.size).reshape(-1, 2).astype(np.float64)


def unanswerable(table: Table, starts: Leaves, scaling: Scaling, *, empty: bool) -> NDArray[np.bool_]:
    """Return of which cells no plain answer may be given. empty: whether one may be given of no row at all;
    else of those alone that lie behind all rows."""
    counts = count_cells(table, starts, scaling)
    total = counts.sum(axis=1)
    small = ((counts > 0.0) & (counts < table.min_cell)).any(axis=1)
    few = (total > 0.0) & (total < least_subjects(table.features.shape[1], table.min_cell))
    if empty:
        return np.asarray(small | few)
    last = int(leaves_of(table.target, scaling).max(initial=-1))
    behind = starts >= _TAIL * (last // _TAIL + 1)
    return np.asarray(small | few | ((total == 0.0) & ~behind))


def demand_answerable(table: Table, starts: Leaves, scaling: Scaling) -> None:
    """Raise FederatedError NODE_REFUSED for a grid of which a cell is about too few."""
    if unanswerable(table, starts, scaling, empty=True).any():
        raise FederatedError(
            ErrorCode.NODE_REFUSED,
            "in a cell of the grid of times there are too few data subjects for an answer without noise",
        )


def join_cells(starts: Leaves, refused: NDArray[np.bool_]) -> Leaves:
    """Return the starts of fewer cells: those that were refused are joined; see the module."""
    kept = np.ones(starts.size, dtype=np.bool_)
    place = 0
    while place < starts.size:
        if not refused[place]:
            place += 1
            continue
        stop = place
        while stop < starts.size and refused[stop]:
            stop += 1
        if stop - place > 1:
            # In pairs; a last one that is left over joins the pair before it.
            kept[place + 1 : stop : 2] = False
            kept[stop - 1] = kept[stop - 1] and (stop - place) % 2 == 0
        elif place > 0:
            kept[place] = False
        elif stop < starts.size:
            # The first has none before it.
            kept[stop] = False
            stop += 1
        place = stop
    return starts[kept]


def keep_events(starts: Leaves, events: Vector) -> tuple[Leaves, bool]:
    """Return the starts of the cells with events, `MOST_CELLS` at most, and whether none had to be joined.

    A cell without events is a part of the one before it: who leaves there is at risk until then.
    """
    own, counts = starts[events > 0.0], events[events > 0.0]
    if own.size <= MOST_CELLS:
        return own, True
    place = np.minimum(MOST_CELLS * (np.cumsum(counts) - counts) / counts.sum(), MOST_CELLS - 1).astype(
        np.int64
    )
    return own[np.flatnonzero(np.diff(place, prepend=-1))], False


def are_starts(starts: Leaves) -> bool:
    """Whether leaves are those at which cells may start."""
    return (
        0 < starts.size <= LEAVES
        and int(starts[0]) >= 0
        and int(starts[-1]) < LEAVES
        and all(one < other for one, other in pairwise(starts.tolist()))
    )
