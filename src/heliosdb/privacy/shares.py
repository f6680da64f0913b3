"""Each node's share of a sum's noise, where the sum alone is seen (`trust_model = 'distributed'`).

What always holds: what a node adds is a whole number of steps that are the same at every node and a power of
two, so that the sum of all that nodes release is exact as a double for each of them and in the ring, and is a
function of the sum of their whole numbers alone; what is added has at least the variance that the node's own
count of honest peers asks for, and never more than the whole noise.

How much. n nodes state keys, and at least t of them are in the sum. Every honest node takes for granted that
no more than c0 = min(ceil(n / 3) - 1, 2 t - n - 1) of them work with the coordinator: fewer than a third, and
no more than the sum protocol withstands. So h = t - c0 honest ones are left, and each adds the 1/h-th part of
the variance, at least. A node whose own DBA (or file of peers) counts on c > c0 that do takes for granted
that t - c - 1 others add so much, and adds the rest itself: 1 - (t - c - 1) / h = (c - c0 + 1) / h. Where c
is more than the protocol withstands (2 t - n - 1; beyond 200 nodes, where each draws its neighbours, a third:
privacy/neighbours.py) it adds the whole noise, as under `trust_model = 'local'`.
Either way the noise of those whom it counts as honest has, with its own, the variance of the whole.

The law. A sum of independent discrete Gaussians is not one, but next to it: for h of standard deviation s the
largest divergence is below 10 h exp(-pi² s²) (Kairouz, Liu, Steinke 2021, "The distributed discrete Gaussian
mechanism for federated learning with secure aggregation", theorem 9 and corollary 12). Here s is at least
2^19 steps: 0 as a double, and as any number that could be written down.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from heliosdb.domain.vector import Vector
from heliosdb.privacy.mechanisms import (
    LARGEST_STEPS,
    Entropy,
    Integers,
    Lattice,
    discrete_gaussian,
)
from heliosdb.privacy.neighbours import COMPLETE, most_curious
from heliosdb.privacy.ring import FRACTIONS, Word

_MULTIPLE = 8
"""The sampler's standard deviations are multiples of this."""

LARGEST_VALUE = 2.0**30
"""No released value is larger, in units of noise_multiplier x sensitivity: it has at most 2^53 steps, 2^24 of
them are no more than the noise's standard deviation, and that is at most twice such a unit."""


@dataclass(frozen=True, slots=True)
class Cohort:
    """Whose sum it is. nodes: that stated keys. threshold: how many at least are in the sum."""

    nodes: int
    threshold: int

    @property
    def withstood(self) -> int:
        """How many may work with the coordinator, and it still opens no vector and no second sum; where nodes
        draw whom they share their seeds with, no more than they were drawn for."""
        most = max(0, 2 * self.threshold - self.nodes - 1)
        return most if self.nodes <= COMPLETE else min(most, most_curious(self.nodes))

    @property
    def curious(self) -> int:
        """How many each node takes for granted at most to work with the coordinator."""
        return min(most_curious(self.nodes), self.withstood)

    @property
    def honest(self) -> int:
        """How many honest ones then add noise, at least."""
        return self.threshold - self.curious

    def counted_by(self, curious: int) -> int:
        """How many a node that counts on so many curious peers takes for honest, with itself; 1: nobody
        else."""
        own = max(curious, self.curious)
        return self.threshold - own if own <= self.withstood and own < self.threshold else 1

    def share(self, curious: int) -> Fraction:
        """The part of the variance that a node adds which counts on so many curious peers."""
        honest = self.counted_by(curious)
        return 1 - Fraction(honest - 1, self.honest)


def noise_unit(lattice: Lattice) -> float:
    """The steps in which nodes release: the largest power of two that is no more than the lattice's step."""
    return 2.0 ** (math.frexp(lattice.step)[1] - 1)


def shared_fraction(sensitivity: float, noise_multiplier: float, dimensions: int, nodes: int) -> int | None:
    """How many bits behind the point what so many nodes release has, so that one word holds their sum, to the
    bit; None where there is none that does."""
    unit = noise_unit(Lattice.of(sensitivity, noise_multiplier, dimensions))
    fraction = 1 - math.frexp(unit)[1]
    if fraction not in FRACTIONS:
        return None
    most = Word(fraction).largest(nodes)
    return fraction if max(1.0, LARGEST_VALUE * noise_multiplier * sensitivity) <= most else None


def share_std_steps(lattice: Lattice, share: Fraction) -> int:
    """The standard deviation of a share above 0, in units of `noise_unit`: rounded up."""
    whole = lattice.std / noise_unit(lattice)
    return _MULTIPLE * max(1, math.ceil(whole * math.sqrt(share) / _MULTIPLE))


def add_share(
    total: Vector,
    sensitivity: float,
    noise_multiplier: float,
    share: Fraction,
    entropy: Entropy = os.urandom,
) -> Vector:
    """Release a sum over subjects with a share of its noise; as `mechanisms.add_noise` otherwise.

    share: of the variance; 0 of a node whose sum gets it elsewhere, 1 of whoever adds it there, to the sum of
    what such nodes released. total: shape (d,), from `Lattice.total`, or that sum. Rounding it to
    `noise_unit` moves two sums apart by at most one such step a coordinate, and its own rounding by one of
    the lattice's: the slack of `Lattice.of` has room.
    """
    lattice = Lattice.of(sensitivity, noise_multiplier, total.size)
    unit = noise_unit(lattice)
    with np.errstate(over="ignore", invalid="ignore"):
        steps = np.nan_to_num(np.rint(total / unit), nan=0.0)
    kept: Integers = np.clip(steps, -LARGEST_STEPS, LARGEST_STEPS).astype(np.int64)
    if share:
        kept += discrete_gaussian(total.size, entropy, std_steps=share_std_steps(lattice, share))
    released: Vector = kept.astype(np.float64) * unit
    return released
