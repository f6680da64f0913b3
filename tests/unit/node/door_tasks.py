"""Tasks of the tests of a node's door and policy."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import numpy as np

from heliosdb.algorithms.works import PrivateTraining, StatisticsWork, TrainWork
from heliosdb.catalog.participant import SharedDataset
from heliosdb.domain.disclosure_rules import DEFAULT_RULES
from heliosdb.domain.handshake import DatasetDescription
from heliosdb.domain.ids import DatasetName, NodeName, RoundNumber, RunId, StepName, WorkspaceName
from heliosdb.domain.privacy import Budget
from heliosdb.domain.state import make_state
from heliosdb.domain.task import Reading, Scaling, Task, TaskKey
from heliosdb.domain.vector import Dtype
from heliosdb.node.guards import (
    sensitivity_of,
)
from heliosdb.node.policy import check_policy

KEY = TaskKey(
    WorkspaceName("w"), RunId(UUID(int=1)), RoundNumber(1), 0, StepName("statistics"), NodeName("n")
)
READING = Reading(None, ("x",), "y", 0.2, 1)
SCALING = Scaling((0.0,), (1.0,))
BUDGET = Budget(1.0, 1e-5)
VECTOR = np.array([1.0, 2.0])


def statistics(noise: float | None, budget: Budget | None = BUDGET) -> Task:
    work = StatisticsWork("logistic_regression", noise, classes=2).to_work(len(READING.features))
    return Task(KEY, READING, work, budget=budget)


def training(privacy: PrivateTraining | None, budget: Budget | None = BUDGET) -> Task:
    work = TrainWork("logistic_regression", SCALING, 1, 32, 0.1, privacy, classes=2).to_work(VECTOR.size)
    key = replace(KEY, step=StepName("train"))
    return Task(key, READING, work, SCALING, make_state(parameters=VECTOR), budget)


def answering(task: Task, size: int, dtype: Dtype = Dtype.FLOAT64) -> Task:
    """The task, of a vector of another size or type."""
    return replace(task, work=replace(task.work, size=size, dtype=dtype))


def check(task: Task, dataset: SharedDataset, *, plain_answers: bool = True) -> None:
    check_policy(task, dataset, plain_answers=plain_answers)


MOST = sensitivity_of(statistics(3.0))
"""What one subject adds to these statistics."""

PRIVATE = PrivateTraining(2.0, 1.0, 0.5, 10, expected_subjects=80.0)


def dataset(max_epsilon: float | None = None) -> SharedDataset:
    description = DatasetDescription(DatasetName("d"), ("x", "y"), ("integer", "integer"))
    return SharedDataset(1, description, "public.t", None, None, DEFAULT_RULES, max_epsilon)
