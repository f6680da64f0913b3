"""Reading round 0: from summed feature statistics to the scaling that a run uses.

What always holds: only the released sums are read, so whatever is derived here costs no further privacy;
every scale is positive, every mean finite, or the feature is named in an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.algorithms.features import private_noise, split_blocks
from heliosdb.algorithms.grid import read_grid
from heliosdb.algorithms.registry import supervised
from heliosdb.algorithms.works import StatisticsWork
from heliosdb.domain.task import Scaling
from heliosdb.domain.vector import Vector


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
    if total.shape != (work.size(len(features)),):
        raise FederatedError(ErrorCode.UPDATE_REJECTED, "The feature statistics have the wrong length.")
    scales_target = supervised(work.algorithm).scales_target
    columns = [f'Feature "{name}"' for name in features] + (["The target"] if scales_target else [])
    if work.noise_multiplier is None:
        count = float(total[0])
        moments = list(_plain_moments(total, columns))
        if not scales_target:
            _check_classes(count, float(total[-1]))
    else:
        noise = private_noise(len(features), work, nodes)
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
    for index, (column, block) in enumerate(zip(columns, split_blocks(total, columns, work), strict=True)):
        if work.ranges is None:
            yield _from_grid(column, block, count, noise)
        else:
            yield _from_range(column, block, work.ranges[index], count, noise)


def _from_grid(column: str, block: Vector, count: float, noise: float) -> tuple[float, float]:
    """Return mean and scale from one feature's noisy bins."""
    moments = read_grid(block, noise, count)
    if moments is None:
        raise _unusable(
            column,
            "No range of values stands out from the privacy noise: it is NULL nearly everywhere, or the "
            "budget is too small for so few subjects.",
            "Declare feature_ranges, raise privacy_budget, use fewer features, or leave this one out.",
        )
    return moments


def _from_range(
    column: str, block: Vector, bounds: tuple[float, float], count: float, noise: float
) -> tuple[float, float]:
    """Return mean and scale from one feature's noisy sums of u and u² - 1/2.

    A spread that does not stand out from its noise is taken as a third of the half-range, which is within a
    factor of three of any spread from a ninth of it to its whole.
    """
    half, middle = 0.5 * (bounds[1] - bounds[0]), 0.5 * (bounds[0] + bounds[1])
    present = count - max(0.0, float(block[2]))
    if present <= noise:
        raise _unusable(
            column,
            "It is NULL nearly everywhere, or the budget is too small for so few subjects.",
            "Raise privacy_budget, use fewer features, or leave this one out.",
        )
    mean = min(1.0, max(-1.0, float(block[0]) / present))
    variance = float(block[1]) / present + 0.5 - mean * mean
    error = noise * math.hypot(1.0, 2.0 * mean) / present
    spread = math.sqrt(variance) if variance > 3.0 * error else 1.0 / 3.0
    return middle + half * mean, half * min(1.0, spread)
