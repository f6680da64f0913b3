"""Reading one feature's noisy counts on the signed logarithmic grid: where its values lie and how wide.

What always holds: only released counts are read. The better the counts stand out from their noise, the more
the answer rests on them alone; the less, the more on the assumption that a feature has one bell-shaped
hump.

The reading, for counts h with noise of standard deviation s in each bin:

1. Zero is a case of its own (indicators, amounts that are mostly nil): its count is taken less one s. 2.
The other values are compared with templates: what a logistic distribution of mean m and scale σ puts into
each
   bin, for half-octave steps of σ over the whole grid and |m| / σ up to 6 (a narrower hump looks the same,
   being within one or two octaves). Each is weighed by the evidence for it: Gaussian noise, and an
   amplitude that the count of subjects bounds beforehand. If the best one does not stand out, the feature's
   range is unknown.
3. The templates near the best one are averaged, so that the scale covers what is left undecided.
4. A bin that departs from that average by more than five s is believed (heavy tails, several humps); mean and
   variance are then taken over the bins, each with the moments that the fitted shape has within it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

from heliosdb.algorithms import layout
from heliosdb.domain.vector import Matrix, Vector

STANDS_OUT = 3.5
"""A template, or zero, is believed from this many noise deviations on."""

BELIEVED = 5.0
"""A bin that departs from the fitted shape is believed from this many on: noise alone, once in 10,000."""

_OCTAVES = layout.OCTAVES
_LOWER = np.exp2(np.arange(layout.LOWEST_OCTAVE, layout.HIGHEST_OCTAVE, dtype=np.float64))
_EDGES = np.exp2(np.arange(layout.LOWEST_OCTAVE, layout.HIGHEST_OCTAVE + 1, dtype=np.float64))
_RATIOS = np.arange(-6.0, 6.5, 0.5)
_SUBDIVISION = 8
_SIGNS = (
    (slice(layout.POSITIVE, layout.POSITIVE + _OCTAVES), 1.0),
    (slice(layout.NEGATIVE, layout.NEGATIVE + _OCTAVES), -1.0),
)


@dataclass(frozen=True, slots=True)
class _Templates:
    """means, scales: (t,); shares: (t, bins), what each puts into a bin; powers: (t,), squared norms."""

    means: Vector
    scales: Vector
    shares: Matrix
    powers: Vector


def _cumulated(x: Vector | Matrix, mean: Vector | Matrix | float, scale: Vector | Matrix | float) -> Matrix:
    """Return the logistic distribution function; scale is its standard deviation."""
    values: Matrix = 0.5 * (1.0 + np.tanh((x - mean) / scale * (0.5 * math.pi / math.sqrt(3.0))))
    return values


@cache
def _templates() -> _Templates:
    exponents = np.arange(layout.LOWEST_OCTAVE + 1, layout.HIGHEST_OCTAVE - 1, 0.5)
    scales = np.repeat(np.exp2(exponents), _RATIOS.size)
    means = scales * np.tile(_RATIOS, exponents.size)
    shares = np.zeros((means.size, layout.BINS))
    for bins, sign in _SIGNS:
        shares[:, bins] = np.abs(np.diff(_cumulated(sign * _EDGES[None], means[:, None], scales[:, None])))
    return _Templates(means, scales, shares, np.einsum("ij,ij->i", shares, shares))


def read_grid(counts: Vector, noise: float, subjects: float) -> tuple[float, float] | None:
    """Return mean and scale of the values behind noisy `counts`, or None where nothing stands out.

    counts: (bins,), in the order of `features`; noise: its standard deviation, > 0; subjects: about how
    many there are. A feature of which nothing but zeros can be seen is taken for an indicator: mean 0,
    scale 1.
    """
    zeros = max(0.0, float(counts[layout.ZERO]) - noise)
    elsewhere = subjects - max(0.0, float(counts[layout.MISSING])) - zeros
    fit = _fit(counts, noise, max(elsewhere, noise))
    if fit is None:
        return (0.0, 1.0) if counts[layout.ZERO] > STANDS_OUT * noise else None
    mean, scale, expected = fit
    kept = _kept(counts, expected, noise)
    if kept is None:
        amount, square = float(expected.sum()), scale**2 + mean**2
    else:
        centres, variances = _moments_within(mean, scale)
        amount = float(kept.sum())
        mean = float(kept @ centres) / amount
        square = float(kept @ (variances + np.square(centres))) / amount
    share = amount / (amount + zeros)
    variance = share * square - (share * mean) ** 2
    return share * mean, math.sqrt(variance) if variance > 0 else 1.0


def _fit(counts: Vector, noise: float, amplitude: float) -> tuple[float, float, Vector] | None:
    """Return mean, scale and expected counts of the average template, None where even the best is lost in
    noise.

    The amplitude's prior is Gaussian about `amplitude`, 1.5 noise deviations wide; it is integrated out.
    """
    templates = _templates()
    prior = 1.0 / (1.5 * noise) ** 2
    match, power = templates.shares @ counts / noise**2, templates.powers / noise**2
    pull, precision = match + amplitude * prior, power + prior
    evidence = 0.5 * np.square(pull) / precision - 0.5 * np.log(precision)
    best = int(np.argmax(evidence))
    if match[best] * noise < STANDS_OUT * math.sqrt(templates.powers[best]):
        return None
    size = np.log2(np.hypot(templates.means, templates.scales))
    # A rival octaves away is noise, and would draw the mean out of proportion to its small weight.
    near = (evidence > evidence[best] - 6.0) & (np.abs(size - size[best]) < 1.5)
    weights = np.exp(evidence[near] - evidence[best])
    weights /= weights.sum()
    amplitudes = np.maximum(pull[near] / precision[near], 0.0)
    mean = float(weights @ templates.means[near])
    spread = np.square(templates.scales[near]) + np.square(templates.means[near] - mean)
    return mean, math.sqrt(float(weights @ spread)), (weights * amplitudes) @ templates.shares[near]


def _kept(counts: Vector, expected: Vector, noise: float) -> Vector | None:
    """Return the expected counts, corrected where a bin departs beyond doubt; None where none does."""
    departure = counts - expected
    departure[[layout.MISSING, layout.ZERO]] = 0.0
    believed = np.abs(departure) > BELIEVED * noise
    if not believed.any():
        return None
    kept: Vector = np.maximum(0.0, expected + np.where(believed, departure, 0.0))
    return kept


def _moments_within(mean: float, scale: float) -> tuple[Vector, Vector]:
    """Return mean and variance of the values in each bin: the fitted shape's, uniform where that has none."""
    centres, variances = np.zeros(layout.BINS), np.zeros(layout.BINS)
    edges = _LOWER[:, None] * np.linspace(1.0, 2.0, _SUBDIVISION + 1)
    middles = 0.5 * (edges[:, 1:] + edges[:, :-1])
    for bins, sign in _SIGNS:
        mass = np.abs(np.diff(_cumulated(sign * edges, mean, scale)))
        mass = np.where(mass.sum(axis=1, keepdims=True) > 1e-6, mass, 1.0)
        mass = mass / mass.sum(axis=1, keepdims=True)
        centre = (mass * middles).sum(axis=1)
        within = (mass * np.square(middles - centre[:, None])).sum(axis=1)
        centres[bins] = sign * centre
        variances[bins] = within + np.square(_LOWER / _SUBDIVISION) / 12.0
    return centres, variances
