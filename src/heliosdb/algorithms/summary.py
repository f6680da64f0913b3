"""Reading round 0: from summed feature statistics to the scaling that a run uses.

What always holds: only the released sums are read, so whatever is derived here costs no further privacy;
every scale is positive, every mean finite, or the feature is named in an error.

Reading a noisy grid. A feature usually fills a few neighbouring octaves. They are found by a scan: among
all runs of up to 16 octaves of one sign or of both, with and without zero, take the one whose total T over
k bins is the largest in units of its noise, T / (s sqrt(k)). If even that one does not stand out, the
feature cannot be scaled. Mean and variance come from the counts of these bins, of bins anywhere that stand
out on their own, and of the neighbours of the run less one noise deviation (a bin that was let in because
its noise was high should not count in full); in each octave values are taken as uniform.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.algorithms import features as grid
from heliosdb.algorithms.registry import algorithm
from heliosdb.domain.task import Scaling, StatisticsWork
from heliosdb.domain.vector import Vector

RUN_THRESHOLD = 3.0
"""A run of bins stands out from this many noise deviations on."""

BIN_THRESHOLD = 5.0
"""A bin far from the run counts from this many on: noise alone brings one of 122 there once in 28,000."""

LONGEST_RUN = 16

_CENTRES, _VARIANCES = np.zeros(grid.BINS), np.zeros(grid.BINS)
_WIDTHS = np.exp2(np.arange(grid.LOWEST_OCTAVE, grid.HIGHEST_OCTAVE, dtype=np.float64))
for _first, _sign in ((grid.POSITIVE, 1.0), (grid.NEGATIVE, -1.0)):
    _CENTRES[_first : _first + grid.OCTAVES] = _sign * 1.5 * _WIDTHS
    _VARIANCES[_first : _first + grid.OCTAVES] = np.square(_WIDTHS) / 12.0


@dataclass(frozen=True, slots=True)
class Summary:
    """What the coordinator knows after round 0.

    count: rows over all nodes; where private a noisy count of subjects, at least its own noise deviation.
    count_per_node: count / nodes. Held-out ones are among them.
    """

    scaling: Scaling
    count: float
    count_per_node: float

    def held_out(self, validation_split: float) -> float:
        """Return about how many are held out, over all nodes."""
        return self.count * validation_split

    def training_per_node(self, validation_split: float) -> float:
        """Return about how many a node trains on: the fixed denominator of private training."""
        return self.count_per_node * (1.0 - validation_split)


def summarise(total: Vector, work: StatisticsWork, features: Sequence[str], nodes: int) -> Summary:
    """Turn the sum of `nodes` answers into means, scales and a count.

    features: the names, in the order of the task. Raises FederatedError (22023), naming the feature, where
    one cannot be scaled, and where a class is missing altogether (plain only); UF003 for a sum of the wrong
    length.
    """
    if total.shape != (grid.vector_size(len(features), work),):
        raise FederatedError(ErrorCode.UPDATE_REJECTED, "The feature statistics have the wrong length.")
    scales_target = algorithm(work.algorithm).scales_target
    columns = [f'Feature "{name}"' for name in features] + (["The target"] if scales_target else [])
    if work.noise_multiplier is None:
        count = float(total[0])
        moments = list(_plain_moments(total, columns))
        if not scales_target:
            _check_classes(count, float(total[-1]))
    else:
        noise = grid.private_noise(len(features), work, nodes)
        # A count below its own noise says nothing; the floor keeps what is divided by it sane.
        count = max(float(total[-1]), noise, 1.0)
        moments = list(_private_moments(total, columns, work, count, noise))
    means, scales = zip(*moments, strict=True) if moments else ((), ())
    d = len(features)
    scaling = Scaling(means[:d], scales[:d], *((means[d], scales[d]) if scales_target else (0.0, 1.0)))
    return Summary(scaling, count, count / nodes)


def _unusable(column: str, detail: str, hint: str) -> FederatedError:
    return FederatedError(ErrorCode.INVALID_VALUE, f"{column} cannot be scaled.", detail=detail, hint=hint)


def _check_classes(count: float, positives: float) -> None:
    if positives in (0.0, count):
        raise FederatedError(
            ErrorCode.INVALID_VALUE,
            "The target has the same value in every row of every node: there is nothing to learn.",
        )


def _plain_moments(total: Vector, columns: Sequence[str]) -> Iterator[tuple[float, float]]:
    for index, column in enumerate(columns):
        present, value_sum, square_sum = map(float, total[1 + 3 * index : 4 + 3 * index])
        if present < 1:
            raise _unusable(
                column, "It is NULL in every row of every node.", "Leave it out, or share data that has it."
            )
        mean = value_sum / present
        variance = square_sum / present - mean * mean
        # What cancellation leaves of a constant column is not a spread.
        constant = variance <= 1e-13 * max(mean * mean, 1e-300)
        scale = 1.0 if constant else math.sqrt(variance)
        if not (math.isfinite(mean) and math.isfinite(scale)):
            raise _unusable(column, "Its values are too large to be squared.", "Leave it out, or rescale it.")
        yield mean, scale


def _private_moments(
    total: Vector, columns: Sequence[str], work: StatisticsWork, count: float, noise: float
) -> Iterator[tuple[float, float]]:
    for index, (column, block) in enumerate(
        zip(columns, grid.split_blocks(total, columns, work), strict=True)
    ):
        if work.ranges is None:
            yield _from_grid(column, block, noise)
        else:
            yield _from_range(column, block, work.ranges[index], count, noise)


def _from_grid(column: str, block: Vector, noise: float) -> tuple[float, float]:
    """Return mean and scale from one feature's noisy bins."""
    run, strength = _strongest_run(block, noise)
    if strength < RUN_THRESHOLD:
        raise _unusable(
            column,
            "No range of values stands out from the privacy noise: it is NULL nearly everywhere, or the "
            "budget is too small for so few subjects.",
            "Declare feature_ranges, raise privacy_budget, use fewer features, or leave this one out.",
        )
    alone = block > BIN_THRESHOLD * noise
    alone[grid.MISSING] = False
    weights = np.where(run | alone, np.maximum(block, 0.0), 0.0)
    beside = _neighbours(run) & ~run & ~alone
    weights[beside] = np.maximum(block[beside] - noise, 0.0)
    whole = float(weights.sum())
    mean = float(weights @ _CENTRES) / whole
    variance = float(weights @ (_VARIANCES + np.square(_CENTRES - mean))) / whole
    return mean, math.sqrt(variance) if variance > 0 else 1.0


def _strongest_run(block: Vector, noise: float) -> tuple[NDArray[np.bool_], float]:
    """Return the bins of the run that stands out most, and by how many noise deviations."""
    positive = block[grid.POSITIVE : grid.POSITIVE + grid.OCTAVES]
    negative = block[grid.NEGATIVE : grid.NEGATIVE + grid.OCTAVES]
    best, bins = float(block[grid.ZERO]), np.zeros(grid.BINS, dtype=np.bool_)
    bins[grid.ZERO] = True
    for values, firsts in (
        (positive, (grid.POSITIVE,)),
        (negative, (grid.NEGATIVE,)),
        (positive + negative, (grid.POSITIVE, grid.NEGATIVE)),
    ):
        cumulated = np.concatenate(([0.0], np.cumsum(values)))
        for length in range(1, LONGEST_RUN + 1):
            sums = cumulated[length:] - cumulated[:-length]
            start = int(np.argmax(sums))
            for zero in (0, 1):
                size = length * len(firsts) + zero
                score = (float(sums[start]) + zero * float(block[grid.ZERO])) / math.sqrt(size)
                if score > best:
                    best, bins = score, np.zeros(grid.BINS, dtype=np.bool_)
                    bins[grid.ZERO] = bool(zero)
                    for first in firsts:
                        bins[first + start : first + start + length] = True
    return bins, best / noise


def _neighbours(run: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the octaves right above and right below those of a run, of the same sign."""
    beside = np.zeros_like(run)
    for first in (grid.POSITIVE, grid.NEGATIVE):
        octaves = run[first : first + grid.OCTAVES]
        beside[first + 1 : first + grid.OCTAVES] |= octaves[:-1]
        beside[first : first + grid.OCTAVES - 1] |= octaves[1:]
    return beside


def _from_range(
    column: str, block: Vector, bounds: tuple[float, float], count: float, noise: float
) -> tuple[float, float]:
    """Return mean and scale from one feature's noisy sums of u and u², u in [-1, 1].

    A spread that does not stand out from its noise is taken as a third of the half-range, which is within a
    factor of three of any spread from a ninth of it to its whole.
    """
    half, middle = 0.5 * (bounds[1] - bounds[0]), 0.5 * (bounds[0] + bounds[1])
    present = count - max(0.0, float(block[2]))
    if present <= 2.0 * noise:
        raise _unusable(
            column,
            "It is NULL nearly everywhere, or the budget is too small for so few subjects.",
            "Raise privacy_budget, use fewer features, or leave this one out.",
        )
    mean = min(1.0, max(-1.0, float(block[0]) / present))
    variance = float(block[1]) / present - mean * mean
    error = noise * math.hypot(1.0, 2.0 * mean) / present
    spread = math.sqrt(variance) if variance > 2.0 * error else 1.0 / 3.0
    return middle + half * mean, half * min(1.0, spread)
