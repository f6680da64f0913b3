"""How many data subjects' rows lie far out, read from the counts in which scaling was found.

What always holds: it is read from released counts, and costs nothing; a cell in which the edge lies counts by
how much of it is beyond, and what that leaves open is in the standard error as the noise is.

Most cells of a grid are further out than anything that there is, and each has noise. So cells are added up as
far as `REACH` scales, and beyond these only those that stand out by themselves, as they do where a scale is
found (grid.py).
"""

from __future__ import annotations

import math

import numpy as np

from heliosdb.algorithms.grid import BELIEVED, logarithmic, window
from heliosdb.algorithms.located import Found, Located
from heliosdb.algorithms.table import Mask
from heliosdb.domain.vector import Vector

FAR_OUT = 4.0
"""Scales (standard deviations) from the mean, beyond which a value counts as an outlier, with a budget and
without."""

REACH = 64.0
"""Scales from the mean up to which all cells are counted."""


def count_outliers(located: Located, column: int, found: Found) -> tuple[float, float]:
    """Return about how many subjects of a node have values that lie far out in a column, those of one
    subject's rows adding up to 1, and the standard error of that."""
    shares, is_beyond = _shares(located, column, found)
    counts, noise = located.counts[column, 2:], math.sqrt(float(located.variances[column]))
    parts = np.where(is_beyond & (counts <= BELIEVED * noise), 0.0, shares)
    # Of a cell that is cut as if all that is in it lay at one place, which may be any of it.
    cut = np.square(np.maximum(counts, 0.0)) * parts * (1.0 - parts)
    error = math.sqrt(float(noise**2 * np.square(parts).sum() + cut.sum()))
    return max(0.0, float(parts @ counts)), error


def _shares(located: Located, column: int, found: Found) -> tuple[Vector, Mask]:
    """Say of each cell which part of it lies far out, and whether it is beyond reach."""
    centre, width = located.read[column].tolist()
    grid = window() if width else logarithmic()
    lows, highs = (centre + width * one if width else one for one in (grid.lows, grid.highs))
    near = FAR_OUT * found.scale
    inner = np.minimum(highs, found.mean + near) - np.maximum(lows, found.mean - near)
    shares = 1.0 - np.clip(inner / (highs - lows), 0.0, 1.0)
    # Where the mean lies most are close to it, however wide the cell is.
    shares[(lows <= found.mean) & (found.mean < highs)] = 0.0
    # Of a cell of the grid by octaves the middle is that of its magnitudes.
    return shares, np.abs(0.5 * (lows + highs) - found.mean) > REACH * found.scale
