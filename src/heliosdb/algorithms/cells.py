"""Cells of log-odds in which held-out rows are counted by class, for ROC curves and calibration.

What always holds: the edges are the same everywhere; a node's counts are known of parts that hold at least
`SMALLEST_PART` of its subjects each (of all of them where it has fewer), cut at the coarsest edges that leave
so many on either side; within a part they are spread evenly over its probabilities. So no edge is nearer to a
row than it has to be, and no cell tells of a row that is alone in it.

The edges: the tenths of probability, between which calibration is shown, and between each two of them
`CELLS_A_TENTH` cells of one width in log-odds, at most 0.03, and .001 around even odds; beyond ±`FARTHEST`
the first and the last cell have no end.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from heliosdb.domain.vector import Matrix, Vector

Places = NDArray[np.int64]

TENTHS, CELLS_A_TENTH = 10, 512
CELLS = TENTHS * CELLS_A_TENTH

FARTHEST = 16.0
"""Log-odds of a probability of 1 - 1e-7."""

SMALLEST_PART = 5
"""Subjects: as the smallest cell of a feature, see node/disclosure.py."""

_LEVELS = CELLS_A_TENTH.bit_length()


def _log_odds_of_tenth(tenth: int) -> float:
    share = tenth / TENTHS
    if share in (0.0, 1.0):
        return math.copysign(FARTHEST, share - 0.5)
    return math.log(share) - math.log1p(-share)


def _make_edges() -> Vector:
    ends = [_log_odds_of_tenth(tenth) for tenth in range(TENTHS + 1)]
    inner = [np.linspace(low, high, CELLS_A_TENTH, endpoint=False) for low, high in pairwise(ends)]
    return np.concatenate([*inner, [ends[-1]]])


EDGES = _make_edges()
"""(CELLS + 1,) ascending, in log-odds."""

PROBABILITIES = np.concatenate([[0.0], 0.5 * (1.0 + np.tanh(0.5 * EDGES[1:-1])), [1.0]])
"""The same as probabilities; the ends are 0 and 1."""

_WIDTHS = np.diff(PROBABILITIES)


def place(scores: Vector) -> Places:
    """Return the cell of each score, in log-odds; an edge belongs to the cell above it."""
    return np.searchsorted(EDGES[1:-1], scores, side="right").astype(np.int64)


def cut(subjects: Places) -> Places:
    """Return where parts begin, ascending, the first at 0. subjects: the cell of each, in any order."""
    ranked, starts = np.sort(subjects), [0]
    parts = [(0, ranked.size)]
    while parts:
        first, end = parts.pop()
        edge = _edge_between(ranked, first, end)
        if edge is not None:
            starts.append(edge)
            middle = int(np.searchsorted(ranked, edge))
            parts += [(first, middle), (middle, end)]
    return np.array(sorted(starts), dtype=np.int64)


def _edge_between(ranked: Places, first: int, end: int) -> int | None:
    """Return the coarsest edge that leaves enough subjects on either side, of several the one nearest to the
    median; None for none."""
    if end - first < 2 * SMALLEST_PART:
        return None
    lowest, highest = int(ranked[first + SMALLEST_PART - 1]) + 1, int(ranked[end - SMALLEST_PART])
    if lowest <= CELLS // 2 <= highest:
        return CELLS // 2
    median = int(ranked[(first + end) // 2])
    for level in reversed(range(_LEVELS)):
        stride = 1 << level
        least, most = -(-lowest // stride) * stride, highest // stride * stride
        if least <= most:
            nearest = (median + stride // 2) // stride * stride
            return min(max(nearest, least), most)
    return None


def spread(values: Matrix, starts: Places) -> Matrix:
    """Spread what stands in each part's cells evenly over the part's probabilities; (v, CELLS) → the same."""
    sums = np.add.reduceat(values, starts, axis=1)
    widths = np.add.reduceat(_WIDTHS, starts)
    lengths = np.diff(starts, append=CELLS)
    return np.repeat(sums / widths, lengths, axis=1) * _WIDTHS


def ordered_pairs(negatives: Vector, positives: Vector) -> float:
    """Return how many pairs of a negative and a positive row are in the right order, one of the same cell
    counting half."""
    below = np.cumsum(negatives) - 0.5 * negatives
    return float(below @ positives)


def ordered_pairs_of_rows(scores: Vector, positive: NDArray[np.bool_]) -> float:
    """Return the same of rows, from their ranks (Mann and Whitney 1947)."""
    _, rank, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - 0.5 * (counts - 1)
    count = int(np.count_nonzero(positive))
    return float(middle[rank[positive]].sum()) - 0.5 * count * (count + 1)
