"""No table, and no task within the bounds, makes a private answer fail, and noise is added to the very sums."""

from __future__ import annotations

import math
import random
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from heliosdb.algorithms import Table, derive_rng
from heliosdb.algorithms.classes import count_classes
from heliosdb.algorithms.features import statistics
from heliosdb.algorithms.linear import LinearModel
from heliosdb.algorithms.local_terms import NO_TERMS, LocalTerms
from heliosdb.algorithms.private_report import report_privately
from heliosdb.algorithms.table import RawColumn
from heliosdb.algorithms.works import (
    ClassesWork,
    EvaluateWork,
    PrivateTraining,
    StatisticsWork,
    TrainWork,
)
from heliosdb.domain.bounds import NOISE_MULTIPLIER, PARAMETER, PROXIMAL_TERM, SCALE
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.state import make_state
from heliosdb.domain.task import Scaling
from heliosdb.domain.vector import ClippedSum, Contribution, Vector
from heliosdb.node.encoding import encode_privately
from heliosdb.parts.algorithms import LocalOptimizer
from heliosdb.privacy.mechanisms import Lattice, add_noise, discrete_gaussian
from tests.security.private_cases import (
    MODELS,
    SEEDS,
    VALUES,
    Case,
    case,
    check_task,
    held_out,
    of,
    report_task,
)


def answers(given: Case, model: LinearModel) -> list[Vector]:
    """Every private answer about a table, with its noise, and each checked as a task first."""
    names = tuple(f"f{i}" for i in range(given.table.features.shape[1]))
    privacy = PrivateTraining(given.noise_multiplier, given.clipping_norm, 0.6, 4, 1.0)
    training = TrainWork(
        model.name, given.scaling, 1, 32, 1e3, privacy, classes=0 if model.scales_target else 2
    )
    evaluation = EvaluateWork(
        model.name, given.scaling, given.noise_multiplier, classes=0 if model.scales_target else 2
    )
    released = []
    for ranges in (None, given.ranges_for(model)):
        work = StatisticsWork(
            model.name, given.noise_multiplier, ranges, classes=0 if model.scales_target else 2
        )
        check_task(model, "statistics", names, work.to_work(len(names)))
        released.append(_noised(statistics(given.table, work), given.noise_multiplier))
    state, size = make_state(parameters=given.parameters), given.parameters.size
    check_task(model, "evaluate", names, evaluation.to_work(), given.scaling, state)
    for optimizer, terms in LOCAL:
        asked = replace(training, optimizer=optimizer, terms=terms)
        check_task(model, "train", names, asked.to_work(size), given.scaling, state)
        trained = model.train(given.table, given.parameters, asked, derive_rng(1, 1, "n", b""))
        assert trained.weight == 1.0
        assert np.all(np.abs(given.parameters + trained.vector) <= PARAMETER.most * (1 + 1e-9))
        released.append(trained.vector)
    measured = model.evaluate(held_out(given.table), given.parameters, evaluation)
    counted = count_classes(given.table, ClassesWork(model.name, given.noise_multiplier))
    reported = report_privately(model, held_out(given.table), report_task(given, model))
    return [*released, *(_noised(one, given.noise_multiplier) for one in (measured, counted, reported))]


LOCAL: tuple[tuple[LocalOptimizer, LocalTerms], ...] = (
    ("sgd", NO_TERMS),
    ("sgd", LocalTerms(PROXIMAL_TERM.most)),
    ("momentum", NO_TERMS),
    ("adam", LocalTerms(1.0)),
)
"""What a private task may make of its gradients."""


def _noised(answer: Contribution, noise_multiplier: float) -> Vector:
    assert isinstance(answer.guard, ClippedSum)
    assert answer.weight == 1.0
    return add_noise(answer.vector, answer.guard.sensitivity, noise_multiplier)


def check_answers(given: Case) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for model in MODELS:
            assert all(np.all(np.isfinite(vector)) for vector in answers(given, model))


@settings(max_examples=100, deadline=None)
@given(seed=SEEDS)
def test_no_table_makes_a_private_answer_fail(seed: int) -> None:
    check_answers(case(seed))


@pytest.mark.parametrize("value", [math.nan, math.inf, 1.7e308, -1.7e308, 5e-324, 0.0])
@pytest.mark.parametrize("rows", [0, 1, 1000])
@pytest.mark.parametrize("one_subject", [False, True])
def test_nobody_and_one_value_only_are_answered_too(value: float, rows: int, one_subject: bool) -> None:
    subjects = np.zeros(rows, dtype=int) if one_subject else np.arange(rows)
    table = Table.from_rows(np.full((rows, 3), value), np.ones(rows), subjects, np.zeros(rows, dtype=bool))
    check_answers(replace(case(rows, rows=0, features=3), table=table))


@pytest.mark.parametrize("scale", [SCALE.least, SCALE.most, 1e-300, 5e-324])
def test_scaling_and_noise_cannot_be_chosen_so_that_one_row_silences_a_node(scale: float) -> None:
    # The least noise has the finest lattice; beside it a scaled value of 1e150 and parameters of 1e9 are the
    # largest sums that a task can bring about.
    table = Table.from_rows(np.ones((9, 2)), np.ones(9), np.arange(9), np.ones(9, dtype=bool))
    parameters, scaling = np.full(3, PARAMETER.most), Scaling((0.0, 0.0), (scale, scale), 0.0, scale)
    privacy = PrivateTraining(NOISE_MULTIPLIER.least, 1e-6, 1.0, 3, 1.0)
    for model in MODELS:
        evaluation = EvaluateWork(
            model.name, scaling, NOISE_MULTIPLIER.least, classes=0 if model.scales_target else 2
        )
        answer = model.evaluate(table, parameters, evaluation)
        assert np.all(np.isfinite(_noised(answer, NOISE_MULTIPLIER.least)))
        training = TrainWork(
            model.name, scaling, 1, 32, 1e3, privacy, classes=0 if model.scales_target else 2
        )
        trained = model.train(
            replace(table, held_out=~table.held_out), parameters, training, derive_rng(1, 1, "n", b"")
        )
        assert np.all(np.isfinite(trained.vector))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_the_door_s_noise_is_added_to_the_very_integers(model: LinearModel, seed: int) -> None:
    given = case(seed)
    noise_multiplier = given.noise_multiplier
    for answer in (
        statistics(
            given.table, StatisticsWork(model.name, noise_multiplier, classes=0 if model.scales_target else 2)
        ),
        statistics(
            given.table,
            StatisticsWork(
                model.name, noise_multiplier, given.ranges_for(model), classes=0 if model.scales_target else 2
            ),
        ),
        model.evaluate(
            held_out(given.table),
            given.parameters,
            EvaluateWork(
                model.name, given.scaling, noise_multiplier, classes=0 if model.scales_target else 2
            ),
        ),
    ):
        assert isinstance(answer.guard, ClippedSum)
        lattice = Lattice.of(answer.guard.sensitivity, noise_multiplier, answer.vector.size)
        noise = discrete_gaussian(answer.vector.size, random.Random(seed).randbytes)
        expected = lattice.release_steps(of(answer, noise_multiplier), noise)
        entropy = random.Random(seed).randbytes
        released = add_noise(answer.vector, answer.guard.sensitivity, noise_multiplier, entropy)
        assert released.tobytes() == expected.tobytes()


CATEGORIES = (
    ColumnEncoding("c", ColumnKind.CATEGORY, "indicators", ("", "a", "b"), null_level=True, other_level=True),
    ColumnEncoding("d", ColumnKind.CATEGORY, "indicators", ("1", "2"), missing_indicator=True),
    ColumnEncoding("x", form="log1p", missing_indicator=True),
    ColumnEncoding("t", ColumnKind.TIME),
)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_under_a_budget_a_row_s_inputs_are_its_own_and_no_value_makes_them_fail(seed: int) -> None:
    """The node's rules about few subjects are of answers without noise: here they would tell of others."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 30))
    levels = rng.choice([-1.0, 0.0, 1.0, math.nan], size=n)
    values = np.column_stack([levels, *(rng.choice(VALUES, size=n) for _ in range(3))])
    columns = (RawColumn(ColumnKind.CATEGORY, levels=("a", "rare")), *(RawColumn(),) * 3)
    table = Table(values, np.zeros(n), np.arange(n), np.zeros(n, dtype=bool), columns=columns)
    encoding = Encoding(CATEGORIES)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = encode_privately(table, encoding).features
        for row in range(n):
            one = replace(
                table,
                features=values[row : row + 1],
                target=np.zeros(1),
                subjects=np.zeros(1, dtype=np.int64),
                held_out=np.zeros(1, dtype=bool),
            )
            alone = encode_privately(one, encoding).features
            assert alone.tobytes() == whole[row : row + 1].tobytes()
