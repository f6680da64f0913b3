"""Bulyan over Krum (El Mhamdi et al. 2018, section 4): no coordinate is far from the honest ones.

Krum chooses one update after another, each from those that are left, until n - 2f are chosen; of these each
coordinate's result is the mean of the n - 4f values nearest to the median.

What always holds: n >= 4f + 3 wherever f is given; of equal scores the first in the order of names is chosen,
of values equally near the smaller; weights, which are a node's own word, have no part in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from heliosdb.aggregation.distances import by_score, distances
from heliosdb.aggregation.updates import move, stack
from heliosdb.domain.settings import Setting
from heliosdb.domain.state import NO_STATE, State
from heliosdb.domain.update import Total, Updates
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.parts.strategies import BulyanSettings


class Bulyan:
    """new = old + the mean, by coordinate, of what is near the median of the updates that Krum chose."""

    name = "bulyan"
    sees: Literal["each", "sum"] = "each"

    def local(self, settings: Any) -> Mapping[str, Setting]:
        """Nothing."""
        return {}

    def combine(
        self, parameters: Vector, memory: State, gathered: Total | Updates, settings: BulyanSettings
    ) -> tuple[Vector, State]:
        """The moved parameters; UF003 for fewer than 4f + 3 updates, one of another shape, and what is not
        finite."""
        updates = stack(self.name, parameters, gathered, settings)
        nodes = updates.shape[0]
        hostile = settings.hostile(nodes)
        chosen = updates[_choose(distances(updates), hostile, nodes - 2 * hostile)]
        return move(parameters, _near_median(chosen, max(1, nodes - 4 * hostile))), NO_STATE


def _choose(apart: Matrix, hostile: int, count: int) -> list[int]:
    """The rows that Krum chooses one after the other."""
    left, chosen = list(range(apart.shape[0])), list[int]()
    while len(chosen) < count:
        best = left[by_score(apart[np.ix_(left, left)], hostile)[0]]
        left.remove(best)
        chosen.append(best)
    return sorted(chosen)


def _near_median(chosen: Matrix, count: int) -> Vector:
    """The mean of the `count` values nearest to the median, in each column."""
    ordered = np.sort(chosen, axis=0)
    with np.errstate(over="ignore", invalid="ignore"):
        away = np.abs(ordered - np.median(ordered, axis=0))
        nearest = np.sort(np.argsort(away, axis=0, kind="stable")[:count], axis=0)
        mean: Vector = np.take_along_axis(ordered, nearest, axis=0).mean(axis=0)
    return mean


BULYAN = Bulyan()
