"""What a feature is replaced by where its importance is asked for under a budget: points of its distribution
as it was released.

What always holds: the points follow from the task's scaling and encoding alone, never from a row. To shuffle
a feature among rows, as is done without a budget, would hand each row another's value: one subject's rows
would be in the losses of all others, and what a subject adds would not be its own. Here the mean over the
points stands for that over other rows, so that by how much a row's loss grows is a function of that row.

A number is replaced by five equally likely points of a normal distribution of its released mean and scale; a
category by its levels, a flag by no and yes, weighed as the scaling says; an array's elements each by a
different one of the five.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from heliosdb.domain.encoding import ColumnEncoding, ColumnKind
from heliosdb.domain.task import Scaling, Task
from heliosdb.domain.vector import Matrix, Vector

_QUANTILES = np.array([-1.2815515655446004, -0.5244005127080407, 0.0, 0.5244005127080407, 1.2815515655446004])
"""Of the standard normal distribution, at .1, .3, .5, .7, .9."""

_MOST_LEVELS = 16
"""Of more levels, or bins, so many are taken, evenly spaced."""


@dataclass(frozen=True, slots=True)
class Points:
    """Of one feature: which inputs are its own, what they are replaced by, (points, inputs) in their own
    units, and how likely each point is, (points,), adding up to 1."""

    inputs: slice
    values: Matrix
    weights: Vector


def reference_points(task: Task) -> Iterator[Points]:
    """Yield those of each feature of a task, in order; the task's scaling has been checked."""
    scaling, encoding = task.scaling, task.encoding
    assert scaling is not None
    names = task.reading.features
    columns = tuple(map(ColumnEncoding, names)) if encoding is None else encoding.columns
    ends = np.cumsum([0, *(len(column.inputs) for column in columns)]).tolist()
    for column, (start, end) in zip(columns, pairwise(ends), strict=True):
        yield _points(column, slice(start, end), scaling)


def _points(column: ColumnEncoding, inputs: slice, scaling: Scaling) -> Points:
    means, scales = np.array(scaling.means[inputs]), np.array(scaling.scales[inputs])
    own = means.size - int(column.missing_indicator)
    values, weights = _values(column, means[:own], scales[:own])
    # A value that is there is not missing.
    made = np.column_stack([values, np.zeros((len(values), means.size - own))])
    return Points(inputs, made, weights / weights.sum())


def _values(column: ColumnEncoding, means: Vector, scales: Vector) -> tuple[Matrix, Vector]:
    match column.form:
        case "indicators":
            return _steps(np.eye(means.size + 1)[:, 1:])
        case "bins":
            return _steps(np.tri(means.size + 1, means.size, -1))
        case "index":
            return _steps(np.arange(max(1.0, float(len(column.level_names))))[:, None])
    if column.kind is ColumnKind.BOOLEAN:
        share = min(1.0, max(0.0, float(means[0])))
        return np.array([[0.0], [1.0]]), np.array([1.0 - share, share])
    turns = (np.arange(_QUANTILES.size)[:, None] + np.arange(means.size)) % _QUANTILES.size
    return means + scales * _QUANTILES[turns], np.ones(_QUANTILES.size)


def _steps(values: Matrix) -> tuple[Matrix, Vector]:
    """Equally likely rows, of many a few."""
    chosen = np.unique(np.linspace(0, len(values) - 1, _MOST_LEVELS).astype(int))
    return values[chosen], np.ones(chosen.size)
