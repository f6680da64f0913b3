"""Bins of inputs: cells are counted, split where they are full, and at last become the edges of bins.

What always holds: cells and edges follow from summed counts alone, so that the same rows give the same edges
wherever they lie. A cell (low, high] has no low end if it is an input's first, and no high end if it is the
last. A value that is missing has a cell, and later a bin, of its own, the last.

Cells begin around the mean that the statistics found. A full one is split at points that are half of them
evenly spaced and half of them evenly spaced among the doubles, as the doubles lie: the first find the cells
of values far from 0 and close together, the second those of values of all magnitudes. So after a few
exchanges values whose spread is a billionth of their mean, and values beside one that is 1e300, lie in cells
of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heliosdb.domain.task import Scaling
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.scoring.ways import bins_of

Counts = NDArray[np.int64]

LOOKS = 4
"""Exchanges in which cells are counted, at most."""

_FULL = 4
"""A cell is full with more than a bin's share of the values (`_share`) over this."""

_POINTS = 32
"""Into how many cells a full one is split, and a little more."""

MOST_CELLS = 2_000_000
"""Of all inputs together, about: what an exchange of counts may be long."""

_LARGEST = float(np.finfo(np.float64).max)


def _offsets() -> Vector:
    """Where the first cells end, in standard deviations: sixteenths of one, and beyond four of them ever
    wider, up to where no value of 1e12 rows can lie."""
    beyond = 4.0 * np.exp2(np.arange(1, 73) / 4.0)
    return np.concatenate([-beyond[::-1], np.arange(-64, 65) / 16.0, beyond])


_OFFSETS = _offsets()


@dataclass(frozen=True, slots=True)
class Ragged:
    """As many ascending numbers for each input as it has: `values` of all of them in one, (v,), `counts` of
    them, (inputs,)."""

    values: Vector
    counts: Counts

    @classmethod
    def of(cls, parts: Sequence[Vector]) -> Ragged:
        """Put the inputs' numbers together."""
        values = np.concatenate(parts) if parts else np.empty(0)
        return cls(values, np.array([part.size for part in parts], dtype=np.int64))

    def parts(self) -> list[Vector]:
        """Return the numbers of each input."""
        return np.split(self.values, np.cumsum(self.counts)[:-1]) if self.counts.size else []

    @property
    def widths(self) -> Counts:
        """How many cells or bins each input has, with that of missing values."""
        widths: Counts = self.counts + 2
        return widths

    def are_ascending(self) -> bool:
        """Whether each input's numbers rise strictly."""
        rises = np.diff(self.values) > 0.0
        # Between two inputs they may fall.
        ends = np.cumsum(self.counts)[:-1] - 1
        rises[ends[(ends >= 0) & (ends < rises.size)]] = True
        return bool(rises.all())


def first_cells(scaling: Scaling, levels: Sequence[int]) -> Ragged:
    """Return the cells with which counting begins. levels: of each input, how many levels its category has,
    whose indices its values are; 0: it is a number."""
    described = zip(scaling.means, scaling.scales, levels, strict=True)
    return Ragged.of([np.empty(0) if many else _around(mean, scale) for mean, scale, many in described])


def _around(mean: float, scale: float) -> Vector:
    with np.errstate(over="ignore"):
        points: Vector = np.unique(np.clip(mean + scale * _OFFSETS, -_LARGEST, _LARGEST))
    return points


def codes_of(features: Matrix, edges: Ragged) -> NDArray[np.int64]:
    """Return the bin of every value; (n, inputs) → (inputs, n). A value that is an edge lies below it."""
    return bins_of(features, edges.values, edges.counts)


def split_full(cells: Ragged, counts: Vector, bins: int) -> Ragged | None:
    """Return finer cells where some are full, None where none is. counts: of all inputs' cells, summed over
    nodes, as `widths` lays them out. Cells without a value are joined."""
    inputs = max(1, cells.counts.size)
    found = [_split(*one, bins, inputs) for one in zip(cells.parts(), _by_input(cells, counts), strict=True)]
    if all(part is None for part in found):
        return None
    both = zip(cells.parts(), found, strict=True)
    kept: list[Vector] = [old if new is None else new for old, new in both]
    return Ragged.of(kept)


def _by_input(cells: Ragged, counts: Vector) -> list[Vector]:
    return np.split(counts, np.cumsum(cells.widths)[:-1]) if cells.counts.size else []


def _split(points: Vector, counts: Vector, bins: int, inputs: int) -> Vector | None:
    there = counts[:-1]
    lows, highs = np.append(-_LARGEST, points), np.append(points, _LARGEST)
    full = np.flatnonzero((there * _FULL > _share(there, bins)) & (lows < highs))
    if not points.size or not full.size:
        return None
    many = min(_POINTS, max(2, MOST_CELLS // (inputs * full.size)))
    between = [_between(low, high, many // 2) for low, high in zip(lows[full], highs[full], strict=True)]
    # An end is of use where there are values on one side of it.
    beside = (there[:-1] > 0) | (there[1:] > 0)
    finer: Vector = np.unique(np.concatenate([points[beside], *between]))
    return None if np.array_equal(finer, points[beside]) else finer


def _large(counts: Vector, bins: int) -> NDArray[np.bool_]:
    """Return which cells hold a bin's share of the values, or more."""
    large: NDArray[np.bool_] = counts * bins >= counts.sum()
    return large


def _share(counts: Vector, bins: int) -> float:
    """Return how many values a bin is to hold of those that lie in no large cell: a value that most rows have
    takes one bin, and not those of all others."""
    large = _large(counts, bins)
    return float(counts[~large].sum()) / max(1, bins - int(large.sum()))


def _ends(counts: Vector, bins: int) -> NDArray[np.int64]:
    """Return with which cells bins end, but for the last one: at most bins - 1 of them, ascending."""
    large, share = _large(counts, bins), _share(counts, bins)
    ends: list[int] = []
    held = 0.0
    for place, count in enumerate(counts[:-1]):
        held += count
        # A large cell has a bin of its own, whatever lies before it.
        before_large = large[place + 1] and held >= 0.5 * share
        if large[place] or held >= share or before_large:
            ends.append(place)
            # What is too much for this bin counts for the next: as many bins are made as there may be.
            held = max(0.0, held - share) % share if share and not large[place] else 0.0
    return np.array(ends[: bins - 1], dtype=np.int64)


def _between(low: float, high: float, many: int) -> Vector:
    """Return points in (low, high), evenly spaced as numbers and as doubles."""
    shares = np.arange(1, many + 1) / (many + 1)
    even = low * (1.0 - shares) + high * shares
    first, last = _rank(low), _rank(high)
    ranks = [first + (last - first) * place // (many + 1) for place in range(1, many + 1)]
    points = np.concatenate([even, [_unrank(rank) for rank in ranks]])
    inside: Vector = points[(points > low) & (points < high)]
    return inside


def _rank(number: float) -> int:
    """Return how many doubles lie between 0 and the number, with its sign."""
    bits = int(np.float64(abs(number)).view(np.int64))
    return bits if number >= 0.0 else -bits


def _unrank(rank: int) -> float:
    number = float(np.int64(abs(rank)).view(np.float64))
    return number if rank >= 0 else -number


def edges_of(cells: Ragged, counts: Vector, bins: int, levels: Sequence[int]) -> Ragged:
    """Return at most bins - 1 edges for each number, about as many values in each bin, and one between each
    two levels of a category. A number with no more values than bins has an edge between each two of them, as
    far as cells tell them apart."""
    found = zip(cells.parts(), _by_input(cells, counts), levels, strict=True)
    return Ragged.of([_edges(*one, bins) for one in found])


def _edges(points: Vector, counts: Vector, levels: int, bins: int) -> Vector:
    if levels:
        return np.arange(levels - 1, dtype=np.float64) + 0.5
    taken = np.flatnonzero(counts[:-1] > 0)
    if taken.size < 2:
        return np.empty(0)
    last = np.arange(taken.size - 1) if taken.size <= bins else _ends(counts[taken], bins)
    # In the middle of what lies empty between the two.
    edges: Vector = 0.5 * points[taken[last]] + 0.5 * points[taken[last + 1] - 1]
    return edges
