"""Rows as a private computation reads them: one column of a matrix for each, scaled and bounded.

What always holds: a row's column and score are functions of that row, the scaling and the parameters, to the
last bit, whichever other rows there are; every value lies within `INPUT`, whatever was in the row. Columns,
because the additions of `fold` then run over many rows at once.

Elementwise functions of numpy (multiplication, tanh, logaddexp) treat every element alike, wherever it stands
in its array; tests/security/test_row_independence.py holds that for the numpy in use.
"""

from __future__ import annotations

import numpy as np

from heliosdb.algorithms.space import MEMORY, Space
from heliosdb.domain.bounds import INPUT, PARAMETER
from heliosdb.domain.task import Scaling
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.privacy.clipping import BLOCK, columns_at_once, fold

_SCORED_AT_ONCE = BLOCK // 2
"""Rows: columns that are soon done with should not send the allocator to the kernel for their memory."""


def scale_columns(features: Matrix, scaling: Scaling, space: Space = MEMORY) -> Matrix:
    """Scale features, cut to `INPUT`, fill what is missing with 0, the mean; (n, d) → (d + 1, n).

    The last row of the result is ones, for the bias. space: where it is put.
    """
    rows, width = features.shape
    columns = space.empty((width + 1, rows))
    columns[-1] = 1.0
    means, scales = np.array(scaling.means)[:, None], np.array(scaling.scales)[:, None]
    # What overflows is cut, what is not a number is filled.
    with np.errstate(over="ignore", invalid="ignore"):
        at_once = columns_at_once(width + 1)
        for start in range(0, rows, at_once):
            block = columns[:-1, start : start + at_once]
            block[...] = features[start : start + at_once].T
            missing = ~np.isfinite(block)
            block -= means
            block /= scales
            np.minimum(np.maximum(block, INPUT.least, out=block), INPUT.most, out=block)
            np.copyto(block, 0.0, where=missing)
            space.rest(2 * block.nbytes)
    return columns


def scale_target(target: Vector, scaling: Scaling) -> Vector:
    """Scale the target of a regression, cut to `INPUT`; what is not finite counts as the mean."""
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = (target - scaling.target_mean) / scaling.target_scale
        cut: Vector = np.minimum(np.maximum(scaled, INPUT.least), INPUT.most)
    return np.where(np.isfinite(target), cut, 0.0)


def private_targets(target: Vector, scaling: Scaling, classes: int) -> Vector:
    """Return a class for each row, the nearest one of what is none, or where there are no classes its scaled
    number; (n,)."""
    if not classes:
        return scale_target(target, scaling)
    # fmax, fmin: what is not a number counts as class 0.
    nearest: Vector = np.rint(np.fmin(np.fmax(target, 0.0), classes - 1.0))
    return nearest


def scores(features: Matrix, scaling: Scaling, parameters: Vector) -> Vector:
    """Return the sum of parameter x scaled input of each row; (n, d), (d + 1,) → (n,)."""
    out, at_once = np.empty(features.shape[0]), columns_at_once(parameters.size, _SCORED_AT_ONCE)
    for start in range(0, out.size, at_once):
        stop = start + at_once
        columns = scale_columns(features[start:stop], scaling)
        columns *= parameters[:, None]
        out[start:stop] = fold(columns)
    return out


def clamp_parameters(parameters: Vector) -> Vector:
    """Cut parameters to `PARAMETER`, within which no score overflows."""
    clamped: Vector = np.minimum(np.maximum(parameters, PARAMETER.least), PARAMETER.most)
    return clamped
