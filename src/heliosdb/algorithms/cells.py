"""Cells of log-odds in which held-out rows are counted by class, for ROC curves and calibration.

What always holds: the edges are the same everywhere; a node's counts are known of parts that hold at least
min_cell of its subjects each (of all of them where it has fewer), cut at the coarsest edges that leave so
many on either side; how many rows of either class there are, of groups of parts in each of which a class has
no rows or as many subjects; of a part nothing is told but its sums, spread evenly over the tenth in which
their mean is. So no edge is nearer to a row than it has to be, no cell tells of a row that is alone in it,
and calibration is off by no more rows than a node has too few of in a tenth.

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
"""Subjects: the least groups of explained rows, and of what a node's columns are described by."""

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


def cut(subjects: Places, least: int = SMALLEST_PART) -> Places:
    """Return where parts begin, ascending, the first at 0. subjects: the cell of each, in any order; least:
    of them in a part."""
    ranked, starts = np.sort(subjects), [0]
    parts = [(0, ranked.size)]
    while parts:
        first, end = parts.pop()
        edge = _edge_between(ranked, first, end, least)
        if edge is not None:
            starts.append(edge)
            middle = int(np.searchsorted(ranked, edge))
            parts += [(first, middle), (middle, end)]
    return np.array(sorted(starts), dtype=np.int64)


def _edge_between(ranked: Places, first: int, end: int, least_part: int) -> int | None:
    """Return the coarsest edge that leaves enough subjects on either side, of several the one nearest to the
    median; None for none."""
    if end - first < 2 * least_part:
        return None
    lowest, highest = int(ranked[first + least_part - 1]) + 1, int(ranked[end - least_part])
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


def join(rows: Matrix, subjects: Matrix, least: int) -> list[slice] | None:
    """Return which parts, adjacent ones, are told by class together: in each such group a class has no rows
    or `least` subjects; None where one has fewer in all.

    rows, subjects: (2, parts) of each class, its rows and the subjects who have them.
    """
    ends, start = [0], 0
    for place in range(1, rows.shape[1] + 1):
        if _may_be_told(rows[:, start:place], subjects[:, start:place], least):
            ends.append(place)
            start = place
    # What is left behind the last group belongs to that, or to as many more as are enough together.
    while start < rows.shape[1]:
        if len(ends) == 1:
            return None
        ends.pop()
        start = ends[-1]
        if _may_be_told(rows[:, start:], subjects[:, start:], least):
            ends.append(rows.shape[1])
            break
    return [slice(*pair) for pair in pairwise(ends)]


def _may_be_told(rows: Matrix, subjects: Matrix, least: int) -> bool:
    return bool(np.all((rows.sum(axis=1) == 0.0) | (subjects.sum(axis=1) >= least)))


def spread_classes(sums: Matrix, groups: list[slice]) -> Matrix:
    """Return the sums of parts with the rows of a group by class as they would be by their probabilities, if
    all odds were off by one factor; (3, parts) as `tell` takes them.

    So of a part alone nothing is told by class.
    """
    made = sums.copy()
    for group in groups:
        rows, positives = sums[:2, group].sum(axis=0), float(sums[1, group].sum())
        chances = np.clip(sums[2, group] / np.maximum(rows, 1.0), 1e-9, 1.0 - 1e-9)
        made[1, group] = _at_odds(rows, chances, positives)
        made[0, group] = rows - made[1, group]
    return made


def _at_odds(rows: Vector, chances: Vector, positives: float) -> Vector:
    """Return how many rows of each part are positive at the factor of odds that gives so many in all."""
    total = float(rows.sum())
    if positives in {0.0, total}:
        return rows * (positives > 0.0)
    low, high = -60.0, 60.0
    odds = np.log(chances) - np.log1p(-chances)
    for _ in range(60):
        middle = 0.5 * (low + high)
        expected = rows * 0.5 * (1.0 + np.tanh(0.5 * (odds + middle)))
        low, high = (middle, high) if float(expected.sum()) < positives else (low, middle)
    found: Vector = expected * (positives / float(expected.sum()))
    return np.minimum(found, rows)


def tell(counted: Matrix, starts: Places, groups: list[slice] | None = None) -> Matrix:
    """Return what is told of what stands in the cells: that of each part, evenly over its probabilities.

    counted: (3, CELLS), negative rows, positive rows and the sum of their probabilities; so is what is told.
    groups: of parts that are told by class together; None: each by itself. Of a part that lies in several
    tenths it is told in the one in which the mean of its probabilities is.
    """
    sums = np.add.reduceat(counted, starts, axis=1)
    sums = sums if groups is None else spread_classes(sums, groups)
    ends = np.append(starts[1:], CELLS)
    means = sums[2] / np.maximum(sums[0] + sums[1], 1.0)
    tenths = np.floor(means * TENTHS).astype(np.int64)
    tenths = np.clip(tenths, starts // CELLS_A_TENTH, (ends - 1) // CELLS_A_TENTH)
    lowest = np.maximum(starts, tenths * CELLS_A_TENTH)
    highest = np.minimum(ends, (tenths + 1) * CELLS_A_TENTH)
    told = np.zeros(counted.shape)
    for part, (low, high) in enumerate(zip(lowest.tolist(), highest.tolist(), strict=True)):
        widths = _WIDTHS[low:high]
        told[:, low:high] = np.outer(sums[:, part] / widths.sum(), widths)
    return told


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
