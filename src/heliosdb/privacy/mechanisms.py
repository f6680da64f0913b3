"""Noise on an integer lattice, drawn from the operating system's cryptographic generator.

What always holds: a released value is (an integer) x (the lattice step), and the integer is a sum of the
subjects' integers plus a discrete Gaussian integer. Floating-point Gaussian samplers leave gaps in their low
bits that give the secret away (Mironov 2012, "On significance of the least significant bits"; Jin et al.
2022), and floating-point sums let one subject move the rounding of all others (Casacuberta et al. 2022,
"Widespread underestimation of sensitivity"); integers do neither. Whether noise can be added depends on the
mechanism alone: whatever the sum is, it is released.

The lattice. Noise of standard deviation s has the step s / 2^24. For L2 sensitivity S, noise multiplier σ
and d coordinates let c = S / step. The noise is 2^24 = σ (c + 4 sqrt(d)) steps: it covers c + 4 sqrt(d)
steps, not c alone. What one subject can move, in steps:

- Its own vector, clipped to c and rounded once a coordinate, is at most c + sqrt(d) / 2 long. The clipping is
  itself computed with a relative error below 2^-46 (sums of squares are folded, log2(d) additions deep), and
  c < 2^31 (σ is at least 1/100): less than 2^-13 more.
- Nothing else. What it adds is a function of its own rows, to the last bit (privacy/clipping.py). The sum of
  integers is exact (c + 1 for each of fewer than 2^31 subjects is less than 2^63), in whatever order; and
  cutting it to ±2^52 brings two sums nearer to each other, coordinate by coordinate.
- Where vectors are added in finer units (algorithms/private_layers.py) they are cut and not rounded, and the
  exact sum is rounded once: two neighbours can so be moved apart by sqrt(d) more, and a hundredth of a step.
- A sum that reaches the noise as doubles, integer x step (`Lattice.total`), is divided by the step again: two
  roundings, a relative error of 2^-52, so that rounding gives back the very integer up to 2^50, and beyond it
  one that is at most 1 off. Two neighbours can so be moved apart by at most 2 sqrt(d).

Together c + 2.5 sqrt(d) and a little. With the usual few hundred coordinates the slack makes the noise larger
by less than one part in 10,000.

Laplace noise (privacy/laplacian.py) has the scale b = 2^24 steps = λ (c + 4 d), with c the L1 sensitivity in
steps: in that norm a rounding in every coordinate adds up to d / 2, and finding the integers again to 2 d.
Its standard deviation is sqrt(2) b.

The sampler. A discrete Gaussian over the integers with parameter 2^24 (Canonne, Kamath, Steinke 2020, "The
discrete Gaussian for differential privacy"; at this parameter its privacy loss is that of the continuous
one), by rejection under a staircase: choose one of 96 bands of width 2^21 (or what another standard deviation
asks for) by the Gaussian's height at the band's inner edge, an integer uniformly inside the band, and accept
it with the ratio of the heights. Every proposal is an exact integer draw; only the two probabilities are
rounded (2^-64 and 2^-52), and nothing lies beyond 12 standard deviations (mass 2^-104), so that a draw is
within 2^-50 in total variation of the exact distribution: a million coordinates add less than 1e-9 to delta.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import cache

import numpy as np
from numpy.typing import NDArray

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.domain.bounds import CLIPPING_NORM, NOISE_MULTIPLIER
from heliosdb.domain.privacy import Noise
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.privacy.laplacian import discrete_laplace

Entropy = Callable[[int], bytes]
"""Gives that many unpredictable bytes: os.urandom, or a seeded source in a test."""

Integers = NDArray[np.int64]

STD_STEPS = 1 << 24
"""Standard deviation of Gaussian noise, and the scale of Laplace noise, in lattice steps."""

LARGEST_STD_STEPS = 1 << 27
"""Of the sampler: twelve of them, and the largest sum, are exact as doubles."""

_BANDS_PER_STD = 8
_BANDS = 12 * _BANDS_PER_STD
_SLACK_STEPS = 4.0
LARGEST_STEPS = 1 << 52
"""Sums are cut to this many steps: with noise on top they are still exact as doubles."""

_DRAWN_AT_ONCE = 1 << 20

_SUMMED_AT_ONCE = 1 << 20
"""Subjects whose integers (below 2^32) doubles add exactly: less than 2^53 in any order."""


@cache
def _band_thresholds() -> NDArray[np.uint64]:
    """Cumulated band probabilities times 2^64, without the last (which is 2^64)."""
    with localcontext() as context:
        context.prec = 60
        heights = [(-Decimal(j * j) / (2 * _BANDS_PER_STD**2)).exp() for j in range(_BANDS)]
        total = sum(heights, Decimal(0))
        running, thresholds = Decimal(0), []
        for height in heights[:-1]:
            running += height
            thresholds.append(int(running / total * (1 << 64)))
    return np.array(thresholds, dtype=np.uint64)


def _propose(count: int, entropy: Entropy, width: int) -> Integers:
    """Make `count` proposals and return those that are accepted (about 95 of 100, and where the width is no
    power of two, half as many at worst)."""
    raw = entropy(20 * count)
    chooser = np.frombuffer(raw, dtype="<u8", count=count)
    accept = np.frombuffer(raw, dtype="<u8", count=count, offset=8 * count)
    place = np.frombuffer(raw, dtype="<u4", count=count, offset=16 * count).astype(np.int64)
    band = np.searchsorted(_band_thresholds(), chooser, side="right").astype(np.int64)
    sign = 1 << (width - 1).bit_length()
    offset = place & (sign - 1)
    negative = (place & sign) != 0
    inner, beyond = band / _BANDS_PER_STD, offset / (_BANDS_PER_STD * width)
    height = np.exp(-beyond * (inner + 0.5 * beyond))
    magnitude = band * width + offset
    # Zero is reached by both signs; one of them is refused.
    keep = ((accept >> np.uint64(11)) * 2.0**-53 < height) & ~(negative & (magnitude == 0)) & (offset < width)
    accepted: Integers = np.where(negative, -magnitude, magnitude)[keep]
    return accepted


def discrete_gaussian(count: int, entropy: Entropy = os.urandom, *, std_steps: int = STD_STEPS) -> Integers:
    """Draw `count` independent integers from the discrete Gaussian with standard deviation `std_steps`: a
    multiple of 8, up to 2^27."""
    width, rest = divmod(std_steps, _BANDS_PER_STD)
    if rest or not 0 < std_steps <= LARGEST_STD_STEPS:
        raise ValueError("no standard deviation of the sampler's")
    out = np.empty(count, dtype=np.int64)
    filled = 0
    while filled < count:
        # What many draws take at a time is large beside what they leave.
        missing = min(count - filled, _DRAWN_AT_ONCE)
        drawn = _propose(missing + missing // 12 + 16, entropy, width)[:missing]
        out[filled : filled + drawn.size] = drawn
        filled += drawn.size
    return out


def integer_sum(steps: Matrix) -> Integers:
    """Sum whole numbers below 2^32 in magnitude over the last axis, exactly; (d, n) → (d,)."""
    total = np.zeros(steps.shape[0], dtype=np.int64)
    for start in range(0, steps.shape[1], _SUMMED_AT_ONCE):
        total += steps[:, start : start + _SUMMED_AT_ONCE].sum(axis=1).astype(np.int64)
    return total


@dataclass(frozen=True, slots=True)
class Lattice:
    """A mechanism's lattice: `step`, and the `std` of its `noise`, in the vector's units."""

    step: float
    std: float
    noise: Noise = "gaussian"

    @classmethod
    def of(
        cls, sensitivity: float, noise_multiplier: float, dimensions: int, noise: Noise = "gaussian"
    ) -> Lattice:
        """Choose the lattice for sums of `sensitivity`, L2 for Gaussian noise and L1 for Laplace noise: its
        deviation, or scale, is noise_multiplier x (sensitivity + slack).

        Raises FederatedError (22023) for a sensitivity outside the bounds of a clipping norm or a multiplier
        outside its own, and 54000 where the multiplier and the number of dimensions are too large for the
        slack to stay small.
        """
        for name, value, bounds in (
            ("sensitivity", sensitivity, CLIPPING_NORM),
            ("noise multiplier", noise_multiplier, NOISE_MULTIPLIER),
        ):
            if not bounds.hold(value):
                raise FederatedError(
                    ErrorCode.INVALID_VALUE,
                    f"The {name} must lie between {bounds.least:g} and {bounds.most:g}, not at {value:g}.",
                )
        spread = float(dimensions) if noise == "laplacian" else math.sqrt(dimensions)
        slack = _SLACK_STEPS * noise_multiplier * spread / STD_STEPS
        if slack > 0.5:
            raise FederatedError(
                ErrorCode.PROGRAM_LIMIT,
                f"Noise multiplier {noise_multiplier:g} over {dimensions} coordinates is too much.",
                hint="Raise the privacy budget or train a smaller model.",
            )
        scale = noise_multiplier * sensitivity / (1.0 - slack)
        return cls(scale / STD_STEPS, deviation(scale, noise), noise)

    def std_of_sum(self, noise_variance: float) -> float:
        """Return the standard deviation of the noise in every value of a sum. noise_variance: of that noise,
        one node's whole noise having 1."""
        return self.std * math.sqrt(noise_variance)

    def sum_steps(self, vectors: Matrix) -> Integers:
        """Round each subject's vector (a column, within the sensitivity) and sum; (d, subjects) → (d,)."""
        return integer_sum(np.rint(vectors / self.step))

    def total(self, steps: Integers) -> Vector:
        """Return a sum of subjects' integers in the vector's units; `release` finds the integers again."""
        total: Vector = np.clip(steps, -LARGEST_STEPS, LARGEST_STEPS).astype(np.float64) * self.step
        return total

    def release(self, total: Vector, noise: Integers) -> Vector:
        """Round `total` to the lattice and add `noise` (steps, same shape).

        Whatever the sum is, it is released: NaN counts as 0, what is too large as the largest.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            steps = np.nan_to_num(np.rint(total / self.step), nan=0.0)
        return self.release_steps(np.clip(steps, -LARGEST_STEPS, LARGEST_STEPS).astype(np.int64), noise)

    def release_steps(self, steps: Integers, noise: Integers) -> Vector:
        """Add `noise` to a sum of subjects' integers; both in steps, the result in the vector's units."""
        kept = np.minimum(np.maximum(steps, -LARGEST_STEPS), LARGEST_STEPS)
        released: Vector = (kept + noise).astype(np.float64) * self.step
        return released


def deviation(scale: float, noise: Noise) -> float:
    """Return the standard deviation of noise whose multiplier x sensitivity is `scale`."""
    return math.sqrt(2.0) * scale if noise == "laplacian" else scale


def judged_deviation(scale: float, noise: Noise) -> float:
    """Return by how many deviations of a Gaussian noise like this is judged: for Laplace noise twice its own,
    since its tail beyond 2 k deviations is about a Gaussian's beyond k, for the k from 3 to 5 that matter."""
    return 2.0 * deviation(scale, noise) if noise == "laplacian" else scale


def draw(count: int, noise: Noise, entropy: Entropy = os.urandom) -> Integers:
    """Draw `count` independent integers, lattice steps, of the noise."""
    return discrete_laplace(count, entropy) if noise == "laplacian" else discrete_gaussian(count, entropy)


def add_noise(
    total: Vector,
    sensitivity: float,
    noise_multiplier: float,
    entropy: Entropy = os.urandom,
    *,
    noise: Noise = "gaussian",
) -> Vector:
    """Release a sum over subjects, each clipped to the norm `sensitivity` (see `Lattice.of`), under noise.

    total: shape (d,), from `Lattice.total` of the same sensitivity, multiplier, dimensions and noise. The
    noise's deviation, or scale, is noise_multiplier x sensitivity (plus the lattice's slack) in every
    coordinate. Raises FederatedError as `Lattice.of` does, never for what the sum is.
    """
    lattice = Lattice.of(sensitivity, noise_multiplier, total.size, noise)
    return lattice.release(total, draw(total.size, noise, entropy))


class Secret:
    """The randomness of one private computation, never derived from a run's seed and never kept.

    Noise comes from `entropy` itself. Poisson samples come from a generator seeded with 128 bits of it: which
    subjects were sampled is hidden by the noise of the same step, and is never released.
    """

    def __init__(self, entropy: Entropy = os.urandom) -> None:
        self._entropy = entropy
        self._sampler = np.random.Generator(np.random.Philox(int.from_bytes(entropy(16), "little")))

    def noise(self, shape: tuple[int, ...], noise: Noise = "gaussian") -> Integers:
        """Draw integers of the noise (lattice steps) in the given shape."""
        return draw(math.prod(shape), noise, self._entropy).reshape(shape)

    def poisson_sample(self, subjects: int, rate: float) -> NDArray[np.bool_]:
        """Take each of `subjects` independently with probability `rate`; shape (subjects,)."""
        if rate >= 1.0:
            return np.ones(subjects, dtype=np.bool_)
        return self._sampler.random(subjects) < rate
