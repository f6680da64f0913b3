"""How far updates lie apart, and which of them lie closest to others (the score of Blanchard et al. 2017).

What always holds: no distance overflows where the updates are finite, whatever their size, and none is lost
for another update's; scores depend on the distances alone, and of equal scores the first update's is the
better.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from heliosdb.domain.update import norm
from heliosdb.domain.vector import Matrix, Vector

_SMALL, _LARGE = 1e-200, 1e300
"""Between these a sum of squares has lost nothing that counts."""


def distance(one: Vector, other: Vector) -> float:
    """Half the L2 norm of the difference of two finite vectors; infinite only where half of it is."""
    difference = 0.5 * one
    difference -= 0.5 * other
    with np.errstate(over="ignore", under="ignore"):
        squares = float(np.square(difference).sum())
    return math.sqrt(squares) if _SMALL < squares < _LARGE else norm(difference)


def distances(updates: Matrix) -> Matrix:
    """Between each two of the rows, (n, n), by `distance`."""
    nodes = updates.shape[0]
    found = np.zeros((nodes, nodes))
    for one in range(nodes):
        for other in range(one + 1, nodes):
            found[one, other] = found[other, one] = distance(updates[one], updates[other])
    return found


def by_score(apart: Matrix, hostile: int) -> NDArray[np.intp]:
    """The rows in the order of their scores, the best first.

    apart: (n, n). A row's score is the root of the sum of the squared distances to the n - f - 2 rows nearest
    to it, at least one, itself not among them (section 4).
    """
    nodes = apart.shape[0]
    nearest = max(1, nodes - hostile - 2)
    scores = [norm(np.sort(np.delete(row, place))[:nearest]) for place, row in enumerate(apart)]
    return np.argsort(scores, kind="stable")
