"""What can be said against a task without a row is said, each with its code; what passes is computed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.algorithms.checks import check_task
from heliosdb.domain.ids import NodeName, RoundNumber, RunId, WorkspaceName
from heliosdb.domain.privacy import Budget
from heliosdb.domain.task import (
    EvaluateWork,
    PrivateTraining,
    Reading,
    Scaling,
    StatisticsWork,
    Step,
    Task,
    TaskKey,
    TrainWork,
    Work,
)

SCALING = Scaling((0.0, 1.0), (1.0, 2.0))
PRIVATE = PrivateTraining(2.0, 1.0, 0.5, 10, expected_subjects=80.0)
TRAINING = TrainWork("logistic_regression", SCALING, 1, 32, 0.1, PRIVATE)
EVALUATION = EvaluateWork("linear_regression", SCALING, 3.0)
STATISTICS = StatisticsWork("linear_regression", 3.0, ((0.0, 1.0),) * 3)


def task(work: Work, parameters: object = (0.5, 0.0, -1.0)) -> Task:
    key = TaskKey(WorkspaceName("w"), RunId(UUID(int=1)), RoundNumber(1), Step.TRAIN, NodeName("n"))
    return Task(
        key,
        Reading(None, ("x", "y"), "t", 0.2, 1),
        work,
        np.array(parameters, dtype=float),
        Budget(1.0, 1e-5),
    )


@pytest.mark.parametrize("work", [STATISTICS, TRAINING, EVALUATION, replace(TRAINING, privacy=None)])
def test_what_fits_passes(work: Work) -> None:
    check_task(task(work))


@pytest.mark.parametrize(
    "work", [STATISTICS, TRAINING, EVALUATION, replace(EVALUATION, noise_multiplier=None)]
)
def test_an_algorithm_that_is_not_built_is_refused(work: Work) -> None:
    with pytest.raises(FederatedError) as caught:
        check_task(task(replace(work, algorithm="random_forest")))
    assert caught.value.code is ErrorCode.NOT_SUPPORTED


def _private(**changes: float) -> TrainWork:
    return replace(TRAINING, privacy=replace(PRIVATE, **changes))  # type: ignore[arg-type]  # a test's shorthand


@pytest.mark.parametrize(
    "work",
    [
        replace(STATISTICS, ranges=((0.0, 1.0),) * 2),
        replace(STATISTICS, ranges=((0.0, 1.0), (1.0, 1.0), (0.0, 1.0))),
        replace(STATISTICS, ranges=((-1e300, 1e300),) * 3),
        replace(STATISTICS, noise_multiplier=1e-3),
        replace(EVALUATION, noise_multiplier=math.nan),
        replace(EVALUATION, scaling=Scaling((0.0, 1.0), (1.0, 0.0))),
        replace(EVALUATION, scaling=Scaling((0.0, 1.0), (1.0, 1e-200))),
        replace(EVALUATION, scaling=replace(SCALING, target_scale=math.inf)),
        replace(TRAINING, scaling=Scaling((0.0, math.nan), (1.0, 1.0))),
        replace(TRAINING, scaling=Scaling((0.0,), (1.0,))),
        replace(TRAINING, scaling=Scaling((0.0,), (1.0,)), privacy=None),
        replace(TRAINING, learning_rate=math.inf),
        _private(noise_multiplier=0.0),
        _private(clipping_norm=1e-9),
        _private(sampling_rate=0.0),
        _private(steps=0),
        _private(expected_subjects=0.5),
    ],
)
def test_numbers_that_do_not_fit_are_refused(work: Work) -> None:
    with pytest.raises(FederatedError) as caught:
        check_task(task(work))
    assert caught.value.code is ErrorCode.INVALID_VALUE


@pytest.mark.parametrize("parameters", [[0.0, 0.0], [0.0] * 4, [], [[0.0] * 3]])
@pytest.mark.parametrize("work", [TRAINING, EVALUATION, replace(TRAINING, privacy=None)])
def test_parameters_of_another_length_are_refused(work: Work, parameters: object) -> None:
    with pytest.raises(FederatedError) as caught:
        check_task(task(work, parameters))
    assert caught.value.code is ErrorCode.INVALID_VALUE


@pytest.mark.parametrize("value", [math.nan, math.inf, -1e10])
def test_parameters_beyond_their_bounds_are_refused_where_private(value: float) -> None:
    for work in (TRAINING, EVALUATION):
        with pytest.raises(FederatedError) as caught:
            check_task(task(work, [0.0, value, 0.0]))
        assert caught.value.code is ErrorCode.INVALID_VALUE


@pytest.mark.parametrize(
    "noisy",
    [
        lambda noise: replace(STATISTICS, noise_multiplier=noise, ranges=None),
        lambda noise: replace(EVALUATION, noise_multiplier=noise),
        lambda noise: _private(noise_multiplier=noise),
    ],
)
def test_more_noise_than_the_lattice_takes_is_refused(noisy: Callable[[float], Work]) -> None:
    check_task(task(noisy(1e5)))
    big = noisy(1e6)
    if isinstance(big, StatisticsWork):
        with pytest.raises(FederatedError) as caught:
            check_task(task(big))
        assert caught.value.code is ErrorCode.PROGRAM_LIMIT
    else:
        check_task(task(big))
