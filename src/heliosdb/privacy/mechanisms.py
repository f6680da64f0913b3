"""Noise on an integer lattice, drawn from the operating system's cryptographic generator.

What always holds: a released value is (an integer) x (the lattice step), and the integer is the rounded sum
plus a discrete Gaussian integer. Floating-point Gaussian samplers leave gaps in their low bits that give
the secret away (Mironov 2012, "On significance of the least significant bits"; Jin et al. 2022); integers
have no low bits.

The lattice. Noise of standard deviation s has the step s / 2^24. Rounding to it can move two neighbouring
sums apart by less than two steps a coordinate (half a step each for the rounding, and half a step each for
the division by the step, whose error stays under half a step because quotients over 2^52 are refused); the
order of a floating-point sum over the subjects, and a clipped norm that is a few ulp too long, are far
under another two. The noise therefore covers the sensitivity plus 4 sqrt(d) steps, not the sensitivity
alone: with the usual few hundred coordinates that makes it larger by less than one part in 10,000.

The sampler. A discrete Gaussian over the integers with parameter 2^24 (Canonne, Kamath, Steinke 2020, "The
discrete Gaussian for differential privacy"; at this parameter its privacy loss is that of the continuous
one), by rejection under a staircase: choose one of 96 bands of width 2^21 by the Gaussian's height at the
band's inner edge, an integer uniformly inside the band, and accept it with the ratio of the heights. Every
proposal is an exact integer draw; only the two probabilities are rounded (2^-64 and 2^-52), and nothing
lies beyond 12 standard deviations (mass 2^-104), so that a draw is within 2^-50 in total variation of the
exact distribution: a million coordinates add less than 1e-9 to delta.
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
from heliosdb.domain.vector import Vector

Entropy = Callable[[int], bytes]
"""Gives that many unpredictable bytes: os.urandom, or a seeded source in a test."""

Integers = NDArray[np.int64]

STD_STEPS = 1 << 24
"""Standard deviation of the noise, in lattice steps."""

_BANDS_PER_STD = 8
_BAND = STD_STEPS // _BANDS_PER_STD
_BANDS = 12 * _BANDS_PER_STD
_SLACK_STEPS = 4.0
_LARGEST_QUOTIENT = float(1 << 52)


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


def _propose(count: int, entropy: Entropy) -> Integers:
    """Make `count` proposals and return those that are accepted (about 95 of 100)."""
    raw = entropy(20 * count)
    chooser = np.frombuffer(raw, dtype="<u8", count=count)
    accept = np.frombuffer(raw, dtype="<u8", count=count, offset=8 * count)
    place = np.frombuffer(raw, dtype="<u4", count=count, offset=16 * count).astype(np.int64)
    band = np.searchsorted(_band_thresholds(), chooser, side="right").astype(np.int64)
    offset = place & (_BAND - 1)
    negative = (place & _BAND) != 0
    inner, beyond = band / _BANDS_PER_STD, offset / STD_STEPS
    height = np.exp(-beyond * (inner + 0.5 * beyond))
    magnitude = band * _BAND + offset
    # Zero is reached by both signs; one of them is refused.
    keep = ((accept >> np.uint64(11)) * 2.0**-53 < height) & ~(negative & (magnitude == 0))
    accepted: Integers = np.where(negative, -magnitude, magnitude)[keep]
    return accepted


def discrete_gaussian(count: int, entropy: Entropy = os.urandom) -> Integers:
    """Draw `count` independent integers from the discrete Gaussian with standard deviation `STD_STEPS`."""
    out = np.empty(count, dtype=np.int64)
    filled = 0
    while filled < count:
        missing = count - filled
        drawn = _propose(missing + missing // 12 + 16, entropy)[:missing]
        out[filled : filled + drawn.size] = drawn
        filled += drawn.size
    return out


@dataclass(frozen=True, slots=True)
class Lattice:
    """A mechanism's lattice: `step`, and the noise's `std` (STD_STEPS of them), in the vector's units."""

    step: float
    std: float

    @classmethod
    def of(cls, sensitivity: float, noise_multiplier: float, dimensions: int) -> Lattice:
        """Choose the lattice for sums of L2 `sensitivity`: std = noise_multiplier x (sensitivity + slack).

        Raises FederatedError (22023) for a sensitivity or multiplier that is not positive and finite, and
        54000 where the multiplier and the number of dimensions are too large for the slack to stay small.
        """
        for name, value in (("sensitivity", sensitivity), ("noise multiplier", noise_multiplier)):
            if not (math.isfinite(value) and value > 0):
                raise FederatedError(ErrorCode.INVALID_VALUE, f"The {name} must be positive, not {value}.")
        slack = _SLACK_STEPS * noise_multiplier * math.sqrt(dimensions) / STD_STEPS
        if slack > 0.5:
            raise FederatedError(
                ErrorCode.PROGRAM_LIMIT,
                f"Noise multiplier {noise_multiplier:g} over {dimensions} coordinates is too much.",
                hint="Raise the privacy budget or train a smaller model.",
            )
        std = noise_multiplier * sensitivity / (1.0 - slack)
        return cls(step=std / STD_STEPS, std=std)

    def release(self, total: Vector, noise: Integers) -> Vector:
        """Round `total` to the lattice and add `noise` (steps, same shape).

        Raises FederatedError (22023) where the sum is not finite or too large for its noise to be exact.
        """
        steps = np.rint(total / self.step)
        # A NaN fails the comparison too.
        if not np.all(np.abs(steps) < _LARGEST_QUOTIENT):
            raise FederatedError(
                ErrorCode.INVALID_VALUE,
                "A sum to be released privately is not finite, or too large for its noise.",
            )
        released: Vector = (steps.astype(np.int64) + noise).astype(np.float64) * self.step
        return released


def add_noise(
    total: Vector, sensitivity: float, noise_multiplier: float, entropy: Entropy = os.urandom
) -> Vector:
    """Release a sum over subjects, each clipped to L2 norm `sensitivity`, under Gaussian noise.

    total: shape (d,). The noise's standard deviation is noise_multiplier x sensitivity (plus the lattice's
    slack) in every coordinate. Raises FederatedError as `Lattice.of` and `Lattice.release` do.
    """
    lattice = Lattice.of(sensitivity, noise_multiplier, total.size)
    return lattice.release(total, discrete_gaussian(total.size, entropy))


class Secret:
    """The randomness of one private computation, never derived from a run's seed and never kept.

    Noise comes from `entropy` itself. Poisson samples come from a generator seeded with 128 bits of it: which
    subjects were sampled is hidden by the noise of the same step, and is never released.
    """

    def __init__(self, entropy: Entropy = os.urandom) -> None:
        self._entropy = entropy
        self._sampler = np.random.Generator(np.random.Philox(int.from_bytes(entropy(16), "little")))

    def noise(self, shape: tuple[int, ...]) -> Integers:
        """Draw discrete Gaussian integers (lattice steps) in the given shape."""
        return discrete_gaussian(math.prod(shape), self._entropy).reshape(shape)

    def poisson_sample(self, subjects: int, rate: float) -> NDArray[np.bool_]:
        """Take each of `subjects` independently with probability `rate`; shape (subjects,)."""
        if rate >= 1.0:
            return np.ones(subjects, dtype=np.bool_)
        return self._sampler.random(subjects) < rate
