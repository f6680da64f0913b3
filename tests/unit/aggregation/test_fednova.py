"""FedNova: updates count by what a step of theirs is worth, as written down by hand and where fedavg goes astray."""

from __future__ import annotations

import numpy as np
import pytest

from heliosdb.aggregation.fedavg import FEDAVG
from heliosdb.aggregation.fednova import FEDNOVA, length_of
from heliosdb.aggregation.gathering import WeightedGathering
from heliosdb.algorithms.optimizers import make_optimizer
from heliosdb.catalog.run_options import parse_options
from heliosdb.domain.descent import MOMENTUM, added_steps, count_steps
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import NodeName
from heliosdb.domain.state import NO_STATE
from heliosdb.domain.update import Update
from heliosdb.domain.vector import Vector
from heliosdb.parts.checks import check_rule
from heliosdb.parts.strategies import MeanSettings, NovaSettings
from tests.unit.parts.test_part_checks import OPTIONS

SETTINGS = NovaSettings(local_epochs=2, batch_size=10)


def updates(*given: tuple[float, list[float]]) -> list[Update]:
    return [
        Update(NodeName(chr(97 + place)), np.array(vector), weight)
        for place, (weight, vector) in enumerate(given)
    ]


def test_it_is_the_papers_formula_by_hand() -> None:
    # 100 rows: 2 x 10 steps; 25 rows: 2 x 2 steps; 4 rows fill no batch: 2 x 1.
    given = updates((100.0, [2.0, -4.0]), (25.0, [1.0, 1.0]), (4.0, [0.5, 0.0]))
    shares, steps = (100 / 129, 25 / 129, 4 / 129), (20, 4, 2)
    effective = sum(p * t for p, t in zip(shares, steps, strict=True))
    expected = [
        7.0 + effective * sum(p * u.vector[k] / t for p, u, t in zip(shares, given, steps, strict=True))
        for k in (0, 1)
    ]

    new, memory = FEDNOVA.combine(np.array([7.0, 7.0]), NO_STATE, given, SETTINGS)

    assert new == pytest.approx(expected, rel=1e-14)
    assert memory == NO_STATE


def test_of_nodes_that_take_as_many_steps_it_is_the_mean() -> None:
    given = updates((31.0, [2.0, -4.0]), (35.0, [1.0, 1.0]), (39.0, [0.5, 0.0]))
    gathering = WeightedGathering(2)
    for one in given:
        gathering.take(one)
    mean, _ = FEDAVG.combine(np.zeros(2), NO_STATE, gathering.result(), MeanSettings())

    new, _ = FEDNOVA.combine(np.zeros(2), NO_STATE, given, SETTINGS)

    assert new == pytest.approx(mean, rel=1e-12)


def test_steps_with_momentum_are_worth_what_the_optimizer_makes_of_a_gradient_of_one() -> None:
    for steps in (1, 2, 7, 300):
        optimizer, moved = make_optimizer("momentum", 1.0, (1,)), 0.0
        for _ in range(steps):
            moved += float(optimizer(np.ones(1), 1)[0])
        assert added_steps(steps, MOMENTUM) == pytest.approx(moved, rel=1e-9)
    momentum = NovaSettings(local_epochs=2, batch_size=10, optimizer="momentum")
    assert length_of(100.0, momentum) == pytest.approx(added_steps(20, MOMENTUM))


def _descend(start: Vector, minimum: float, steps: int) -> Vector:
    """So many steps on 1/2 (w - minimum)²."""
    current = start.copy()
    for _ in range(steps):
        current -= 0.002 * (current - minimum)
    return current - start


def test_where_nodes_take_unlike_numbers_of_steps_it_is_nearer_to_the_minimum_of_all_than_the_mean() -> None:
    rows, minima, settings = (300.0, 30.0), (0.0, 11.0), NovaSettings(local_epochs=1, batch_size=10)
    nova, mean = np.zeros(1), np.zeros(1)
    for _ in range(400):
        given = [
            updates(
                *(
                    (n, _descend(at, m, count_steps(int(n), 1, 10)).tolist())
                    for n, m in zip(rows, minima, strict=True)
                )
            )
            for at in (nova, mean)
        ]
        nova, _ = FEDNOVA.combine(nova, NO_STATE, given[0], settings)
        gathering = WeightedGathering(1)
        for one in given[1]:
            gathering.take(one)
        mean, _ = FEDAVG.combine(mean, NO_STATE, gathering.result(), MeanSettings())
    wanted = 11.0 * 30.0 / 330.0

    assert abs(nova[0] - wanted) < 0.1 * abs(mean[0] - wanted)
    assert mean[0] < wanted


def test_steps_that_adapt_have_no_length_and_are_refused() -> None:
    with pytest.raises(FederatedError) as refused:
        check_rule(parse_options({**OPTIONS, "aggregation": "fednova", "optimizer": "adam"}), private=False)
    assert refused.value.code is ErrorCode.INVALID_VALUE
    with pytest.raises(FederatedError, match="steps of one length") as refused:
        check_rule(
            parse_options({**OPTIONS, "aggregation": "fednova", "adaptive_learning": True}), private=False
        )
    assert refused.value.code is ErrorCode.INVALID_VALUE
    with pytest.raises(FederatedError) as refused:
        check_rule(parse_options({**OPTIONS, "aggregation": "fednova"}), private=True)
    assert refused.value.code is ErrorCode.NOT_SUPPORTED
