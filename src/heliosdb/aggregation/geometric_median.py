"""The geometric median of the updates (Pillutla et al. 2022, algorithm 2): of all points the one that is
nearest to them, by the sum of distances.

Found by the smoothed Weiszfeld iteration: the next point is the mean of the updates, each weighed by 1 over
its distance to the point, where a distance counts as at least ν. ν is a millionth of the median of the
updates' distances to where it begins, their median by coordinate, which no minority drags away.

What always holds: it ends; no sum overflows where the updates are finite; every update counts alike, for a
weight is a node's own word; it remembers nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from heliosdb.aggregation.distances import distance
from heliosdb.aggregation.updates import move, stack
from heliosdb.domain.settings import Setting
from heliosdb.domain.state import NO_STATE, State
from heliosdb.domain.update import Total, Updates
from heliosdb.domain.vector import Matrix, Vector

_SMOOTHING, _PRECISION, _MOST_STEPS = 1e-6, 1e-9, 200
"""ν and the last step's length, as parts of the median distance."""


class GeometricMedian:
    """new = old + the geometric median of the updates."""

    name = "geometric_median"
    sees: Literal["each", "sum"] = "each"

    def local(self, settings: Any) -> Mapping[str, Setting]:
        """Nothing."""
        return {}

    def combine(
        self, parameters: Vector, memory: State, gathered: Total | Updates, settings: Any
    ) -> tuple[Vector, State]:
        """The moved parameters; UF003 for no update, one of another shape, and what is not finite."""
        return move(parameters, _middle(stack(self.name, parameters, gathered, settings))), NO_STATE


def _middle(updates: Matrix) -> Vector:
    """The geometric median of the rows."""
    with np.errstate(over="ignore", invalid="ignore"):
        point: Vector = np.median(updates, axis=0)
    if not np.isfinite(point).all():
        return point
    unit = float(np.median([distance(point, update) for update in updates]))
    if unit == 0.0:
        # Half of them or more lie there.
        return point
    for _ in range(_MOST_STEPS):
        away = np.array([distance(point, update) for update in updates])
        weights = unit / np.maximum(away, _SMOOTHING * unit)
        weights /= weights.sum()
        new: Vector = np.zeros_like(point)
        for weight, update in zip(weights, updates, strict=True):
            new += weight * update
        step, point = distance(point, new), new
        if step <= _PRECISION * unit:
            break
    return point


GEOMETRIC_MEDIAN = GeometricMedian()
