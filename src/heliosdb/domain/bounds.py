"""Between which bounds the numbers of a task lie: what is outside is refused before it is used.

What always holds: honest training stays inside with room to spare; between the bounds no private computation
overflows, or divides by what is nearly nothing. docs/security.md lists them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """A closed interval; NaN lies in none."""

    least: float
    most: float

    def hold(self, number: float) -> bool:
        """Whether `number` lies inside."""
        return self.least <= number <= self.most

    def clamp(self, number: float) -> float:
        """Return the number inside that is nearest to `number`, which is no NaN."""
        return min(self.most, max(self.least, number))


NOISE_MULTIPLIER = Bounds(1e-2, 1e6)
"""σ; at the least of them one release costs an ε in the thousands."""

CLIPPING_NORM = Bounds(1e-6, 1e6)
SAMPLING_RATE = Bounds(1e-9, 1.0)
STEPS = Bounds(1, 10_000_000)
"""Of one private training task."""

EXPECTED_SUBJECTS = Bounds(1.0, 1e12)

MOST_EPSILON, BELOW_DELTA = 1e6, 0.1
"""ε of a budget lies in (0, MOST_EPSILON], δ in (0, BELOW_DELTA)."""

LEARNING_RATE = Bounds(1e-12, 1e3)
PROXIMAL_TERM = Bounds(0.0, 1e6)
EPOCHS = Bounds(1, 10_000)
BATCH_SIZE = Bounds(1, 1_000_000)

SCALE = Bounds(1e-290, 1e290)
"""Of a feature or a scaled target, and the width of a window's cells: a parameter over it is a number too."""

LOCATION = Bounds(-1e290, 1e290)
"""Of a mean, and of a window's centre."""

RANGE_WIDTH, RANGE_END = Bounds(1e-150, 1e150), Bounds(-1e150, 1e150)
"""Of a declared range."""

RANGE_RESOLUTION = 1e-9
"""A declared range is at least this part of its larger end's magnitude wide."""

PENALTY = Bounds(0.0, 1e6)
"""Of an elastic net, on coefficients of scaled inputs."""

PARAMETER = Bounds(-1e9, 1e9)
"""Of a model on scaled inputs."""

COEFFICIENT = Bounds(-100.0, 100.0)
"""Of one whose second derivatives weigh rows by their scores: farther out a few rows alone would count."""

INPUT = Bounds(-1e6, 1e6)
"""Of a scaled value in a private computation: what lies outside counts as the bound."""

UPDATE_NORM = 1e4
"""L2 norm of an update where the model's option max_update_norm is not given."""

UNITS, LAYERS = Bounds(1, 65_536), Bounds(1, 64)
"""Units of a network's layer, and how many layers it has."""

SIDE, CHANNELS, KERNEL = Bounds(1, 1_600), Bounds(1, 512), Bounds(1, 11)
"""Of an image: how long a side is, how many channels it and each block have; how wide a kernel is, an odd
number."""

BLOCKS, PIXELS = Bounds(1, 8), Bounds(1, 16_000)
"""Blocks of a convolutional network, and inputs that are an image: as many as a row may become."""

IMAGE_BYTES, PIXEL = Bounds(1, 1 << 20), Bounds(-1e9, 1e9)
"""Of an image that is stored as a file: how large that is, and what a number in it is."""

WINDOWS = Bounds(1, 1 << 21)
"""Numbers that a block multiplies for one row: of each place those beneath the kernel."""

WIDTH, STACK, HEADS = Bounds(1, 1_024), Bounds(1, 8), Bounds(1, 64)
"""Of a network on series: numbers that a step becomes, cells or blocks one upon the other, heads of each."""

NETWORK_PARAMETERS = Bounds(1, 50_000_000)
"""Of a network: as many values as an update may carry."""

UNNAMED = Bounds(0, 256)
"""Categories whose levels one release finds: what they take together has to fit into an update."""

CLASSES = Bounds(0, 1_000)
"""How many a target has; 0 where it is a number."""

CONTROL_VARIATE = Bounds(-UPDATE_NORM / LEARNING_RATE.least, UPDATE_NORM / LEARNING_RATE.least)
"""Of a mean gradient: a single step along it would be an update of that norm."""

ROWS = Bounds(0.0, 1e12)
"""Rows or subjects that a node may state."""

CLASS = Bounds(1.0 - 2.0**53, 2.0**53 - 1.0)
"""Of a declared class of a target: here no two whole numbers of a column are one double."""

TREES, DEPTH, BINS = Bounds(1, 10_000), Bounds(1, 32), Bounds(2, 1_024)
"""Of a forest; bins: of one input, besides those of a category."""

ROWS_PER_LEAF, SUBSAMPLE = Bounds(1, 10**9), Bounds(1e-3, 1.0)
