"""Reading one column's noisy counts in the cells of a grid: where its values lie and how wide.

What always holds: only released counts are read. The better the counts stand out from their noise, the more
the answer rests on them alone; the less, the more on the assumption that a column has one bell-shaped hump.

Two grids. The logarithmic one needs no knowledge of the data: a cell for each sign and octave. A window is
laid about a place that an earlier reading found, in units of its cells: see layout.py.

The reading, for counts h with noise of standard deviation s in each cell:

1. Zero is a case of its own (indicators, amounts that are mostly nil), believed where it stands out.
2. The other values are compared with templates: what a distribution of mean m and scale σ puts into each
   cell. On the logarithmic grid these are logistic, of half-octave steps of σ over the whole grid and |m| / σ
   up to 6 (a narrower hump looks the same, being within one or two octaves). On a window they are normal, of
   means all over it and of scales from a part of a cell on, and the best one is moved and stretched until it
   fits best. Each is weighed by the evidence for it: Gaussian noise, and an amplitude that the count of
   subjects bounds beforehand. If the best one does not stand out, the column's range is unknown.
3. The templates near the best one are averaged, so that the scale covers what is left undecided.
4. A cell that departs from that average by more than five s is believed (heavy tails, several humps); mean
   and variance are then taken over the cells, each with the moments that the fitted shape has within it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms import layout
from heliosdb.domain.vector import Matrix, Vector

STANDS_OUT = 3.5
"""A template, or zero, is believed from this many noise deviations on."""

BESIDE_ZEROS = 4.5
"""A template is, where zeros are seen already: then there need be nothing else, and a bell that is none would
be the scale of an indicator."""

BELIEVED = 5.0
"""A cell that departs from the fitted shape is believed from this many on: noise alone, once in 10,000."""

FLAT = 6.0
"""The largest |m| / σ of a template on the logarithmic grid: a narrower hump looks like one of that."""

NARROWEST = 0.25
"""The least scale of a template on a window, in cells."""

_SUBDIVISION = 8
_STEPS = 24
"""In which the best template of a window is fitted closer."""


@dataclass(frozen=True, slots=True)
class Hump:
    """Values other than zero: mean, scale and about how many; zeros: how many subjects have a zero there."""

    mean: float
    scale: float
    amount: float
    zeros: float

    def moments(self) -> tuple[float, float]:
        """Mean and scale of all values; those of an indicator where there are only zeros."""
        share = self.amount / (self.amount + self.zeros)
        variance = share * (self.scale**2 + self.mean**2) - (share * self.mean) ** 2
        return share * self.mean, math.sqrt(variance) if variance > 0 else 1.0


@dataclass(frozen=True, slots=True)
class Grid:
    """Cells of values that are not zero, in the order of the layout, after missing and zero; shapes (cells,).

    means, scales: (t,), of the templates; near: which of them may be averaged with one. polishes: whether
    the best is fitted closer.
    """

    lows: Vector
    highs: Vector
    means: Vector
    scales: Vector
    near: Callable[[Grid, int], NDArray[np.bool_]]
    polishes: bool
    cumulated: Callable[[Matrix], Matrix]

    def shares(self, means: Vector, scales: Vector) -> Matrix:
        """What templates put into each cell: (templates, missing, zero and cells)."""
        found = np.zeros((means.size, 2 + self.lows.size))
        below, above = (
            self.cumulated((ends - means[:, None]) / scales[:, None]) for ends in (self.lows, self.highs)
        )
        found[:, 2:] = above - below
        return found


def _logistic(deviations: Matrix) -> Matrix:
    """Return the logistic distribution function of mean 0 and deviation 1."""
    values: Matrix = 0.5 * (1.0 + np.tanh(deviations * (0.5 * math.pi / math.sqrt(3.0))))
    return values


def _normal(deviations: Matrix) -> Matrix:
    """Return the normal distribution function, to 3e-4."""
    near = np.clip(deviations, -10.0, 10.0)
    values: Matrix = 0.5 * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (near * (1.0 + 0.044715 * near * near))))
    return values


def _near_in_size(grid: Grid, best: int) -> NDArray[np.bool_]:
    """A rival octaves away is noise, and would draw the mean out of proportion to its small weight."""
    size = np.log2(np.hypot(grid.means, grid.scales))
    close: NDArray[np.bool_] = np.abs(size - size[best]) < 1.5
    return close


def _near_in_place(grid: Grid, best: int) -> NDArray[np.bool_]:
    apart = np.abs(grid.means - grid.means[best]) < 2.0 * grid.scales[best]
    close: NDArray[np.bool_] = apart & (np.abs(np.log2(grid.scales / grid.scales[best])) < 1.1)
    return close


@cache
def logarithmic() -> Grid:
    """The grid with which round 0 begins."""
    edges = np.exp2(np.arange(layout.LOWEST_OCTAVE, layout.HIGHEST_OCTAVE + 1, dtype=np.float64))
    exponents = np.arange(layout.LOWEST_OCTAVE + 1, layout.HIGHEST_OCTAVE - 1, 0.5)
    ratios = np.arange(-FLAT, FLAT + 0.5, 0.5)
    scales = np.repeat(np.exp2(exponents), ratios.size)
    means = scales * np.tile(ratios, exponents.size)
    lows, highs = np.concatenate([edges[:-1], -edges[1:]]), np.concatenate([edges[1:], -edges[:-1]])
    return Grid(lows, highs, means, scales, _near_in_size, False, _logistic)


@cache
def window() -> Grid:
    """The grid about a place, in cells from it."""
    linear = np.arange(-layout.CELLS, layout.CELLS, dtype=np.float64)
    outer = layout.CELLS * np.exp2(np.arange(layout.TAIL, dtype=np.float64))
    lows = np.concatenate([linear, outer, -2.0 * outer])
    highs = np.concatenate([linear + 1.0, 2.0 * outer, -outer])
    means, scales = [], []
    for scale in np.exp2(np.arange(math.log2(NARROWEST), math.log2(4 * layout.CELLS) + 0.5, 0.5)):
        reach = max(layout.CELLS, 2.0 * scale)
        places = np.arange(-reach, reach + 0.1, max(0.5 * scale, 0.25))
        means.append(places)
        scales.append(np.full(places.size, scale))
    return Grid(lows, highs, np.concatenate(means), np.concatenate(scales), _near_in_place, True, _normal)


@cache
def _templates(grid: Callable[[], Grid]) -> tuple[Matrix, Vector]:
    """Shares of all templates of a grid, and their squared norms."""
    shares = grid().shares(grid().means, grid().scales)
    return shares, np.einsum("ij,ij->i", shares, shares)


def read_grid(made: Callable[[], Grid], counts: Vector, noise: float, subjects: float) -> Hump | None:
    """Return the hump behind noisy `counts`, or None where nothing stands out.

    counts: missing, zero, cells; noise: their standard deviation, > 0; subjects: about how many there are.
    Where nothing but zeros can be seen, the amount is 0.
    """
    zeros = float(counts[layout.ZERO])
    if zeros < STANDS_OUT * noise:
        # Where the mean is large beside the spread a few zeros that are none would be most of the variance.
        zeros = 0.0
    elsewhere = subjects - max(0.0, float(counts[layout.MISSING])) - zeros
    needed = BESIDE_ZEROS if zeros else STANDS_OUT
    fit = _fit(made, counts, noise, max(elsewhere, noise), needed)
    if fit is None:
        return Hump(0.0, 1.0, 0.0, zeros) if zeros else None
    mean, scale, expected = fit
    kept = _kept(counts, expected, noise)
    if kept is None:
        return Hump(mean, scale, float(expected.sum()), zeros)
    centres, variances = _moments_within(made(), mean, scale)
    amount = float(kept.sum())
    middle = float(kept @ centres) / amount
    square = float(kept @ (variances + np.square(centres - middle))) / amount
    return Hump(middle, math.sqrt(square), amount, zeros)


def _fit(
    made: Callable[[], Grid], counts: Vector, noise: float, amplitude: float, needed: float
) -> tuple[float, float, Vector] | None:
    """Return mean, scale and expected counts of the average template, None where even the best is lost in
    noise.

    The amplitude's prior is Gaussian about `amplitude`, 1.5 noise deviations wide; it is integrated out.
    """
    grid, (shares, powers) = made(), _templates(made)
    match, evidence, amplitudes = _weigh(shares, powers, counts, noise, amplitude)
    best = int(np.argmax(evidence))
    if match[best] < needed * noise * math.sqrt(powers[best]):
        return None
    if grid.polishes:
        closer = _polish(grid, best, counts, noise, amplitude)
        if closer is not None:
            return closer
    near = (evidence >= evidence[best] - 6.0) & grid.near(grid, best)
    weights = np.exp(evidence[near] - evidence[best])
    weights /= weights.sum()
    mean = float(weights @ grid.means[near])
    spread = np.square(grid.scales[near]) + np.square(grid.means[near] - mean)
    return mean, math.sqrt(float(weights @ spread)), (weights * amplitudes[near]) @ shares[near]


def _weigh(
    shares: Matrix, powers: Vector, counts: Vector, noise: float, amplitude: float
) -> tuple[Vector, Vector, Vector]:
    """Return how templates match the counts, the evidence for each, and the amplitude that fits it best."""
    prior = 1.0 / (1.5 * noise) ** 2
    match = shares @ counts
    pull, precision = match / noise**2 + amplitude * prior, powers / noise**2 + prior
    evidence = 0.5 * np.square(pull) / precision - 0.5 * np.log(precision)
    return match, evidence, np.maximum(pull / precision, 0.0)


def _polish(
    grid: Grid, best: int, counts: Vector, noise: float, amplitude: float
) -> tuple[float, float, Vector] | None:
    """Move and stretch the best template in ever smaller steps."""
    mean, scale = float(grid.means[best]), float(grid.scales[best])
    # To stay comes first, so that it wins a tie.
    moves, stretches = (part.ravel() for part in np.meshgrid([0.0, -1.0, 1.0], [0.0, -1.0, 1.0]))
    step = 0.5
    expected = np.empty(0)
    for _ in range(_STEPS):
        means = mean + 0.5 * step * moves * max(scale, 0.5)
        scales = np.maximum(scale * np.exp2(0.5 * step * stretches), NARROWEST)
        shares = grid.shares(means, scales)
        _, evidence, amplitudes = _weigh(
            shares, np.einsum("ij,ij->i", shares, shares), counts, noise, amplitude
        )
        chosen = int(np.argmax(evidence))
        if chosen == 0:
            step *= 0.5
        mean, scale = float(means[chosen]), float(scales[chosen])
        expected = amplitudes[chosen] * shares[chosen]
    return mean, scale, expected


def _kept(counts: Vector, expected: Vector, noise: float) -> Vector | None:
    """Return the expected counts, corrected where a cell departs beyond doubt; None where none does."""
    departure = counts - expected
    departure[[layout.MISSING, layout.ZERO]] = 0.0
    believed = np.abs(departure) > BELIEVED * noise
    if not believed.any():
        return None
    kept: Vector = np.maximum(0.0, expected + np.where(believed, departure, 0.0))
    return kept if kept.sum() > 0 else None


def _moments_within(grid: Grid, mean: float, scale: float) -> tuple[Vector, Vector]:
    """Return mean and variance of the values in each cell: the fitted shape's, uniform where that has
    none."""
    width = (grid.highs - grid.lows)[:, None]
    edges = grid.lows[:, None] + width * np.linspace(0.0, 1.0, _SUBDIVISION + 1)
    middles = 0.5 * (edges[:, 1:] + edges[:, :-1])
    mass = np.diff(grid.cumulated((edges - mean) / scale))
    mass = np.where(mass.sum(axis=1, keepdims=True) > 1e-6, mass, 1.0)
    mass = mass / mass.sum(axis=1, keepdims=True)
    centres, variances = np.zeros((2, 2 + grid.lows.size))
    centres[2:] = (mass * middles).sum(axis=1)
    within = (mass * np.square(middles - centres[2:, None])).sum(axis=1)
    variances[2:] = within + np.square(width[:, 0] / _SUBDIVISION) / 12.0
    return centres, variances
