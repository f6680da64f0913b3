"""How many data subjects' rows lie far out, read from the counts in which scaling was found.

What always holds: it is read from released counts, and costs nothing; every cell is counted as a whole, so
that what is told is exact but for the noise, and for the cell in which the edge lies.

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

FAR_OUT = 4.0
"""Scales (standard deviations) from the mean, beyond which a value counts as an outlier, with a budget and
without."""

REACH = 64.0
"""Scales from the mean up to which all cells are counted."""


def count_outliers(located: Located, column: int, found: Found) -> tuple[float, float]:
    """Return about how many subjects of a node have values that lie far out in a column, those of one
    subject's rows adding up to 1, and the standard error of that."""
    far, believed = _distances(located, column, found)
    counts, noise = located.counts[column, 2:], math.sqrt(float(located.variances[column]))
    chosen = far | (believed & (counts > BELIEVED * noise))
    return max(0.0, float(counts[chosen].sum())), noise * math.sqrt(np.count_nonzero(chosen))


def _distances(located: Located, column: int, found: Found) -> tuple[Mask, Mask]:
    """Say of each cell whether it lies far out within reach, and whether beyond that."""
    centre, width = located.read[column].tolist()
    grid = window() if width else logarithmic()
    # Of a cell of the grid by octaves the middle is that of its magnitudes.
    middles = 0.5 * (grid.lows + grid.highs)
    places = centre + width * middles if width else middles
    distances = np.abs(places - found.mean) / found.scale
    return (distances > FAR_OUT) & (distances <= REACH), distances > REACH
