"""What is known between the exchanges of a private round 0: where each column's values lie, and where to
look next.

What always holds: everything here is a pure function of released counts; what is kept is a state, from
which a restart goes on; the next grid is one that a task may name.

Round 0 counts on the logarithmic grid first. Where the counts stand out far enough to be spread over cells,
the next exchange counts in a window about the place that was found; where they do not, or where the spread
is told already, it counts on the same grid again, and both counts together have less noise. So a column
that noise hides loses nothing by there being several exchanges, and one whose spread is a ten thousandth of
its mean is found by two windows, each a sixty-fourth as wide as what the one before could tell apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from heliosdb.algorithms import layout
from heliosdb.algorithms.features import private_noise, split_blocks
from heliosdb.algorithms.grid import BELIEVED, FLAT, NARROWEST, Hump, logarithmic, read_grid, window
from heliosdb.algorithms.works import LOGARITHMIC, StatisticsWork, Window
from heliosdb.domain import bounds
from heliosdb.domain.state import State, make_state
from heliosdb.domain.update import Total
from heliosdb.domain.vector import Matrix, Vector

_SHARPEST = 1.0 / 32.0
"""The least width of a window's cells, as a part of the scale that was found: the window then reaches four
scales."""

_COARSEST = 0.5
"""A window of wider cells than this part of the scale would tell no more than the grid before it."""

_NEEDED = 174.0
"""A hump whose scale is k cells stands out by about 0.53 / sqrt(k) of its amount over the noise: by 7 where
the cells are this over the square of amount / noise wide, as a part of the scale."""

_RESOLVED, _WELL_RESOLVED = 0.6, 1.5
"""Scales in cells: from the first on a spread is told, from the second on a closer look gains nothing."""

_FLAT = 2.5
"""|mean| / scale up to which the logarithmic grid tells a spread."""


@dataclass(frozen=True, slots=True)
class Found:
    """One column as it was read: mean and scale of its values, zeros among them.

    hump: of the values that are not zero. told: whether the scale is the spread, and not merely as wide as
    the cells. beyond: whether values lie at the ends of the logarithmic grid.
    """

    mean: float
    scale: float
    hump: Hump
    told: bool
    beyond: bool


@dataclass(frozen=True, slots=True)
class Located:
    """Released counts by node, of b columns.

    exchanges: how many were read. count, count_variance: of a node's subjects. asked: the grids that come
    next, (b, 2). read: the grids of `counts`, (b, 2). counts: (b, bins); variances: of each count, (b,).
    """

    exchanges: int
    count: float
    count_variance: float
    asked: Matrix
    read: Matrix
    counts: Matrix
    variances: Vector

    @classmethod
    def from_state(cls, state: State) -> Located:
        """Read what `to_state` wrote."""
        exchanges, count, variance = state["count"].tolist()
        return cls(
            int(exchanges),
            count,
            variance,
            state["asked"],
            state["read"],
            state["counts"],
            state["variances"],
        )

    def to_state(self) -> State:
        """Write it for a restart."""
        return make_state(
            count=np.array([float(self.exchanges), self.count, self.count_variance]),
            asked=self.asked,
            read=self.read,
            counts=self.counts,
            variances=self.variances,
        )

    def windows(self) -> tuple[Window, ...]:
        """The grids that come next."""
        return tuple((float(centre), float(width)) for centre, width in self.asked)

    def subjects(self) -> float:
        """About how many a node has: a count below its own noise says nothing."""
        return max(self.count, math.sqrt(self.count_variance), 1.0)

    def find(self, column: int) -> Found | None:
        """Read one column; None where nothing stands out."""
        return _read(
            (float(self.read[column, 0]), float(self.read[column, 1])),
            self.counts[column],
            math.sqrt(float(self.variances[column])),
            self.subjects(),
        )


def take_counts(before: Located | None, total: Total, work: StatisticsWork, columns: int) -> Located:
    """Take in the counts of one exchange, each column's in place of those of another grid or together with
    those of the same. columns: that are counted. What comes next is the same again; see `look_closer`."""
    noise = private_noise(columns, work, total.noise_variance) / total.nodes
    counts = np.array(split_blocks(total.vector, columns, work)) / total.nodes
    count, variances = float(total.vector[-1]) / total.nodes, np.full(columns, noise**2)
    grids = np.array(work.windows if work.windows is not None else (LOGARITHMIC,) * columns)
    grids = grids.reshape(columns, 2)
    if before is None:
        return Located(1, count, noise**2, grids, grids, counts, variances)
    both, count_variance = _together(np.array(before.count), before.count_variance, np.array(count), noise**2)
    count = float(both)
    made = Located(before.exchanges + 1, count, count_variance, grids, grids, counts, variances)
    read = grids.copy()
    for column in range(columns):
        if np.array_equal(before.read[column], grids[column]):
            counts[column], variances[column] = _together(
                before.counts[column], float(before.variances[column]), counts[column], noise**2
            )
        elif made.find(column) is None:
            # A window beside the values tells nothing: what was known still holds.
            read[column], counts[column] = before.read[column], before.counts[column]
            variances[column] = before.variances[column]
    return replace(made, asked=read, read=read, counts=counts, variances=variances)


def look_closer(located: Located, noise: float) -> Located:
    """Choose the grids of the next exchange. noise: a node's in each count then."""
    asked = located.read.copy()
    for column in range(len(asked)):
        found = located.find(column)
        if found is not None and not found.beyond:
            asked[column] = _next_window(
                (float(asked[column, 0]), float(asked[column, 1])), found.hump, noise
            )
    return replace(located, asked=asked)


def _together(one: Vector, variance: float, other: Vector, its: float) -> tuple[Vector, float]:
    """Two measurements of the same, weighed by their noise."""
    weight = its / (variance + its)
    return weight * one + (1.0 - weight) * other, variance * its / (variance + its)


def _next_window(grid: Window, hump: Hump, noise: float) -> Window:
    """The window in which to count next, or the same grid again."""
    if hump.amount == 0.0:
        return grid
    width = max(_NEEDED * (noise / hump.amount) ** 2, _SHARPEST)
    if grid[1] == 0.0:
        # Octaves show long tails and several humps better than a window does.
        resolved = abs(hump.mean) <= _FLAT * hump.scale
    else:
        resolved = hump.scale >= _WELL_RESOLVED * grid[1]
    if width > _COARSEST or resolved:
        return grid
    scale = max(hump.scale, 0.5 * grid[1])
    return bounds.LOCATION.clamp(hump.mean), bounds.SCALE.clamp(scale * width)


def _read(grid: Window, counts: Vector, noise: float, subjects: float) -> Found | None:
    centre, width = grid
    if width == 0.0:
        hump = read_grid(logarithmic, counts, noise, subjects)
        if hump is None:
            return None
        mean, scale = hump.moments()
        told = hump.amount > 0.0 and abs(mean) <= _FLAT * scale
        return Found(mean, scale, hump, told, _is_beyond(counts, noise))
    hump = read_grid(window, counts, noise, subjects)
    if hump is None or hump.amount == 0.0:
        return None
    hump = Hump(centre + width * hump.mean, width * hump.scale, hump.amount, hump.zeros)
    mean, scale = hump.moments()
    if scale >= _RESOLVED * width:
        return Found(mean, scale, hump, told=True, beyond=False)
    # A place narrower than a cell may be one value that most have; others, which the noise hides, may lie
    # as far from it as it is large.
    return Found(mean, max(scale, abs(mean) / FLAT), hump, told=False, beyond=False)


def _is_beyond(counts: Vector, noise: float) -> bool:
    firsts = [layout.POSITIVE, layout.NEGATIVE]
    ends = [*firsts, *(first + layout.OCTAVES - 1 for first in firsts)]
    return bool(np.any(counts[ends] > BELIEVED * noise))


def notes_of(columns: Sequence[str], found: Sequence[Found]) -> list[str]:
    """What round 0's message says of columns whose spread could not be told."""
    beyond = [name for name, one in zip(columns, found, strict=True) if one.beyond]
    hidden = [one for one in zip(columns, found, strict=True) if not (one[1].told or one[1].beyond)]
    nil = [name for name, one in hidden if one.hump.amount == 0.0]
    untold = [name for name, one in hidden if one.hump.amount > 0.0]
    least, most = f"2^{layout.LOWEST_OCTAVE}", f"2^{layout.HIGHEST_OCTAVE}"
    said = {
        f"values of {', '.join(beyond)} lie outside of {least} to {most}: declare feature_ranges": beyond,
        f"the spread of {', '.join(untold)} could not be told from the mean: declare feature_ranges": untold,
        f"of {', '.join(nil)} only zeros can be seen, {_scaled_as_indicators(len(nil))}": nil,
    }
    return [note for note, named in said.items() if named]


def _scaled_as_indicators(count: int) -> str:
    if count == 1:
        return "it is scaled as an indicator of 0 and 1: declare feature_ranges where it is an amount"
    return "they are scaled as indicators of 0 and 1: declare feature_ranges where they are amounts"


assert NARROWEST < _RESOLVED
