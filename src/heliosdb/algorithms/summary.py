"""Reading round 0: from summed feature statistics to the scaling that a run uses.

What always holds: only the released sums are read, so whatever is derived here costs no further privacy;
every scale is positive, every mean finite, or the feature is named in an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.algorithms.counted_outliers import count_outliers
from heliosdb.algorithms.exact import read_moments
from heliosdb.algorithms.features import private_noise, split_blocks
from heliosdb.algorithms.layout import COLUMN_DIGITS, MISSING
from heliosdb.algorithms.located import Found, Located, notes_of
from heliosdb.algorithms.works import StatisticsWork
from heliosdb.domain.bounds import LOCATION, SCALE
from heliosdb.domain.task import Scaling
from heliosdb.domain.vector import Vector


@dataclass(frozen=True, slots=True)
class Summary:
    """What the coordinator knows after round 0.

    count: rows over all nodes; where private a noisy count of subjects, at least its own noise deviation.
    count_per_node: count / nodes. Held-out ones are among them. notes: what the round's message says.
    missing: where private of each input about how many subjects' rows lack a value (those of one add up to
    1), and the standard error of that; () of a plain answer, of which every node's own is kept. outliers: the
    same of values that lie far out; () also where ranges were declared, beyond which nothing is told apart.
    constant: the places of the features that have one value in every row, of plain answers; their scale is 1.
    """

    scaling: Scaling
    count: float
    count_per_node: float
    notes: tuple[str, ...] = ()
    missing: tuple[tuple[float, float], ...] = ()
    outliers: tuple[tuple[float, float], ...] = ()
    constant: frozenset[int] = frozenset()

    def held_out(self, validation_split: float) -> float:
        """Return about how many are held out, over all nodes."""
        return self.count * validation_split

    def training_per_node(self, validation_split: float) -> float:
        """Return about how many a node trains on: the fixed denominator of private training."""
        return self.count_per_node * (1.0 - validation_split)


def summarise(
    total: Vector,
    work: StatisticsWork,
    features: Sequence[str],
    nodes: int,
    *,
    variance: float | None = None,
) -> Summary:
    """Turn the sum of `nodes` answers, exact or noisy ones in ranges, into means, scales and a count.

    features: the names, in the order of the task. variance: of the noise, see `Total`. Raises FederatedError
    (22023), naming the feature, where one cannot be scaled, and where a class is missing altogether (plain
    only); UF003 for a sum of the wrong length.
    """
    if total.shape != (work.size(len(features)),):
        raise FederatedError(ErrorCode.UPDATE_REJECTED, "The feature statistics have the wrong length.")
    scales_target = work.scales_target
    missing: tuple[tuple[float, float], ...] = ()
    constant: frozenset[int] = frozenset()
    columns = _named(features, scales_target=scales_target)
    if work.noise_multiplier is None:
        count = float(total[0])
        found = list(_plain_moments(total, columns))
        constant = frozenset(place for place, (_, scale) in enumerate(found[: len(features)]) if not scale)
        moments = [(mean, scale or 1.0) for mean, scale in found]
        if not scales_target:
            _check_classes(count, total[1 - work.classes :])
    else:
        assert work.ranges is not None
        noise = private_noise(len(columns), work, nodes if variance is None else variance)
        # A count below its own noise says nothing; the floor keeps what is divided by it sane.
        count = max(float(total[-1]), noise, 1.0)
        blocks = split_blocks(total, len(columns), work)
        moments = [_from_range(*one, count, noise) for one in zip(columns, blocks, work.ranges, strict=True)]
        missing = tuple((max(0.0, float(block[2])), noise) for block in blocks[: len(features)])
    scaling = _scaling(moments, len(features))
    return Summary(scaling, count, count / nodes, missing=missing, constant=constant)


def summarise_located(located: Located, inputs: Sequence[str], target: Sequence[str], nodes: int) -> Summary:
    """Turn what was located into means, scales and a count; target: its name where it is scaled, else ().

    Raises FederatedError (22023) for a column of which nothing stands out.
    """
    columns = _named(inputs, scales_target=bool(target))
    found = [_found(located, *one) for one in enumerate(columns)]
    scaling = _scaling([(one.mean, one.scale) for one in found], len(inputs))
    count = located.subjects()
    # The last exchange's counts, together with those of earlier ones on the same grid.
    missing = tuple(
        (max(0.0, nodes * float(counts[MISSING])), nodes * math.sqrt(float(variance)))
        for counts, variance in zip(located.counts[: len(inputs)], located.variances, strict=False)
    )
    far = [count_outliers(located, place, one) for place, one in enumerate(found[: len(inputs)])]
    outliers = tuple((nodes * one, nodes * error) for one, error in far)
    notes = tuple(notes_of([*inputs, *target], found))
    return Summary(scaling, nodes * count, count, notes, missing, outliers)


def _named(features: Sequence[str], *, scales_target: bool) -> list[str]:
    return [f'Feature "{name}"' for name in features] + (["The target"] if scales_target else [])


def _scaling(moments: Sequence[tuple[float, float]], features: int) -> Scaling:
    """Of the features, and of the target where there is one more pair."""
    means, scales = zip(*moments, strict=True) if moments else ((), ())
    target = (means[features], scales[features]) if len(moments) > features else (0.0, 1.0)
    return Scaling(means[:features], scales[:features], *target)


def _unusable(column: str, detail: str, hint: str) -> FederatedError:
    return FederatedError(ErrorCode.INVALID_VALUE, f"{column} cannot be scaled.", detail=detail, hint=hint)


def _check_classes(count: float, others: Vector) -> None:
    """others: the rows of every class but the first."""
    if count in (count - float(others.sum()), *others):
        raise FederatedError(
            ErrorCode.INVALID_VALUE,
            "The target has the same value in every row of every node: there is nothing to learn.",
        )


def _plain_moments(total: Vector, columns: Sequence[str]) -> Iterator[tuple[float, float]]:
    for index, column in enumerate(columns):
        found = read_moments(total[1 + COLUMN_DIGITS * index : 1 + COLUMN_DIGITS * (index + 1)])
        if found.count < 1:
            raise _unusable(
                column, "It is NULL in every row of every node.", "Leave it out, or share data that has it."
            )
        mean, scale = found.mean(), found.deviation()
        if not (LOCATION.hold(mean) and scale <= SCALE.most):
            raise _unusable(
                column,
                f"Its values are larger than {SCALE.most:g}.",
                "Leave it out, or rescale it in a view.",
            )
        yield mean, scale


def _found(located: Located, index: int, column: str) -> Found:
    found = located.find(index)
    if found is None:
        raise _unusable(
            column,
            "No range of values stands out from the privacy noise: it is NULL nearly everywhere, or the "
            "budget is too small for so few subjects.",
            "Declare feature_ranges, raise privacy_budget, use fewer features, or leave this one out.",
        )
    return found


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
