"""Sums over data subjects of vectors that are computed row by row, each subject's bounded as a whole.

A row of a subject of k rows counts 1/k, so that a subject adds the mean of its rows' vectors; where these are
within the bound already it is not cut, and counts as a subject of one row does.

What always holds: what a subject adds is a function of its own rows, to the last bit, in whole steps of the
noise's lattice, and after clipping no longer than the bound but for the roundings that privacy/mechanisms.py
allows for; nothing in a row makes it fail; what is held in memory follows the size of a vector, never the
number of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import add

import numpy as np

from heliosdb.algorithms.blockwise import sum_parts
from heliosdb.algorithms.space import slices
from heliosdb.algorithms.table import Grouping, Table, group_by_subject, sums_of_runs
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.privacy.clipping import clip_steps, column_norms, columns_at_once
from heliosdb.privacy.mechanisms import Integers, Lattice

Vectors = Callable[[Table], Matrix]
"""Rows → the vector of each as a column, (size, rows), finite and each of its row alone; used up."""

_ROW_STEPS = float(1 << 33)
"""L2 norm, in lattice steps, to which one row of several is cut: at least four times the clipping norm, and
2^29 rows of a subject still add exactly in 64 bits."""


def sum_bounded(
    rows: Table, vectors_of: Vectors, size: int, clipping_norm: float, lattice: Lattice
) -> Vector:
    """Return the sum over subjects of the mean of their rows, clipped to L2 `clipping_norm`; (size,).

    vectors_of: holds no table and nothing secret, for where rows lie with workers it travels to them. The
    result is in the vector's units; the door finds the lattice's integers in it again.
    """
    bound = clipping_norm / lattice.step

    def steps_of(block: Table) -> Integers:
        return _sum_block(block, vectors_of, size, bound, lattice.step)

    return lattice.total(sum_parts(rows.subject_blocks(), steps_of, add))


def _sum_block(rows: Table, vectors_of: Vectors, size: int, bound: float, step: float) -> Integers:
    """Sum whole subjects; (size,)."""
    grouping, total = group_by_subject(rows.subjects), np.zeros(size, dtype=np.int64)
    for clipped in _clipped(rows, vectors_of, grouping, size, bound, step):
        total += clipped.astype(np.int64).sum(axis=1)
    return total


def _clipped(  # noqa: PLR0917
    rows: Table, vectors_of: Vectors, grouping: Grouping, size: int, bound: float, step: float
) -> Iterator[Matrix]:
    """Yield the vectors of subjects, whose rows may go on in the next block."""
    ends, begun = np.cumsum(grouping.sizes), np.zeros(size, dtype=np.int64)
    # A subject of one row is cut in the same way whether or not somebody else has several.
    of_row = np.repeat(grouping.sizes, grouping.sizes)
    for block in slices(rows.rows, columns_at_once(size)):
        chosen = rows.at(block if grouping.order is None else grouping.order[block])
        vectors = vectors_of(chosen)
        vectors /= step * of_row[block]
        cut = _cut(vectors, np.where(of_row[block] > 1, _ROW_STEPS, bound))
        if grouping.order is None:
            yield cut
            continue
        steps = cut.astype(np.int64)
        first, last = np.searchsorted(ends, (block.start, block.stop), side="right")
        if first == last:
            begun += steps.sum(axis=1)
            continue
        ended = ends[first:last] - (block.start + 1)
        summed = sums_of_runs(steps, ended)
        summed[:, 0] += begun
        begun = steps[:, int(ended[-1]) + 1 :].sum(axis=1)
        yield clip_steps(summed, bound)


def _cut(vectors: Matrix, limits: Vector) -> Matrix:
    """Cut each column to its limit, both in lattice steps, and round; (size, m)."""
    norms = column_norms(vectors)
    vectors *= np.where(norms <= limits, 1.0, limits / np.maximum(norms, limits))
    return np.rint(vectors, out=vectors)
