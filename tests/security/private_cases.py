"""Tables of every kind of value, and tasks' numbers as a hostile coordinator chooses them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from uuid import UUID

import numpy as np
from hypothesis import strategies as st

from heliosdb.algorithms import Table
from heliosdb.algorithms.linear import LINEAR_REGRESSION, LOGISTIC_REGRESSION, LinearModel
from heliosdb.algorithms.private_layout import PrivateLayout
from heliosdb.algorithms.works import (
    PrivateReportWork,
)
from heliosdb.domain.bounds import LOCATION, NOISE_MULTIPLIER, PARAMETER, RANGE_WIDTH, SCALE
from heliosdb.domain.encoding import Encoding
from heliosdb.domain.ids import NodeName, RoundNumber, RunId, StepName, WorkspaceName
from heliosdb.domain.privacy import Budget
from heliosdb.domain.state import NO_STATE, State, make_state
from heliosdb.domain.task import Reading, Scaling, Task, TaskKey, Work
from heliosdb.domain.vector import ClippedSum, Contribution, Vector
from heliosdb.privacy.mechanisms import Integers, Lattice

MODELS = (LOGISTIC_REGRESSION, LINEAR_REGRESSION)
SEEDS = st.integers(0, 2**32 - 1)
VALUES = [
    0.0, -0.0, 1.0, -1.0, 0.1, 1 / 3, 7.25, 1e6, -1e6, 1e9 + 1, 1e150, -1e150, 1e300, -1e300, 1.7e308, 5e-324,
    -1e-310, 2.0**-20, math.nan, math.inf, -math.inf,
]  # fmt: skip
TARGETS = [0.0, 1.0, 0.5, -3.0, 1e300, -1e300, 5e-324]
SCALES = [SCALE.least, 1e-3, 1.0, 1.0, 3.0, SCALE.most]
MEANS = [LOCATION.least, 0.0, 0.0, 1.0, LOCATION.most]
PARAMETERS = [PARAMETER.least, PARAMETER.most, 1e-9, 1e-300, 0.0, 1.0, -1 / 3]


@dataclass(frozen=True, slots=True)
class Case:
    """A table of every kind of value, and a task's numbers as a hostile coordinator chooses them."""

    table: Table
    scaling: Scaling
    parameters: Vector
    ranges: tuple[tuple[float, float], ...]
    noise_multiplier: float
    clipping_norm: float

    def ranges_for(self, model: LinearModel) -> tuple[tuple[float, float], ...]:
        """One for each feature, and one for the target where that is scaled."""
        return self.ranges if model.scales_target else self.ranges[:-1]


def case(seed: int, *, rows: int | None = None, features: int | None = None) -> Case:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 61)) if rows is None else rows
    d = int(rng.integers(1, 41)) if features is None else features
    values = np.where(rng.random((n, d)) < 0.5, rng.normal(size=(n, d)), rng.choice(VALUES, size=(n, d)))
    subjects = np.arange(n) if rng.random() < 0.5 else rng.integers(0, 1 + n // 4, size=n)
    table = Table.from_rows(values, rng.choice(TARGETS, size=n), subjects, np.zeros(n, dtype=bool))
    width = float(rng.choice([RANGE_WIDTH.least, 1.0, RANGE_WIDTH.most]))
    return Case(
        table,
        Scaling(
            tuple(rng.choice(MEANS, size=d).tolist()),
            tuple(rng.choice(SCALES, size=d).tolist()),
            float(rng.choice(MEANS)),
            float(rng.choice(SCALES)),
        ),
        rng.choice(PARAMETERS, size=d + 1),
        ((0.0, width),) * (d + 1),
        float(rng.choice([NOISE_MULTIPLIER.least, 0.7, 5.0, 300.0])),
        float(rng.choice([1e-6, 0.3, 1.0, 1e6])),
    )


def kept(table: Table, keep: np.ndarray) -> Table:
    return Table(table.features[keep], table.target[keep], table.subjects[keep], table.held_out[keep])


def held_out(table: Table) -> Table:
    return replace(table, held_out=np.ones(table.rows, dtype=bool))


def of(answer: Contribution, noise_multiplier: float) -> Integers:
    """The integers that the release door finds in an answer before it adds noise."""
    assert isinstance(answer.guard, ClippedSum)
    lattice = Lattice.of(answer.guard.sensitivity, noise_multiplier, answer.vector.size)
    return np.rint(answer.vector / lattice.step).astype(np.int64)


def report_task(given: Case, model: LinearModel) -> Task:
    """A task for a report, checked as a node checks it."""
    names = tuple(f"f{i}" for i in range(given.table.features.shape[1]))
    classes = 0 if model.scales_target else 2
    work = PrivateReportWork(model.name, given.scaling, given.noise_multiplier, classes=classes)
    asked, state = work.to_work(PrivateLayout(classes, len(names)).size), given.parameters
    return check_task(model, "report", names, asked, given.scaling, make_state(parameters=state))


def check_task(
    model: LinearModel,
    step: str,
    names: tuple[str, ...],
    work: Work,
    scaling: Scaling | None = None,
    state: State = NO_STATE,
    encoding: Encoding | None = None,
) -> Task:
    """As a node checks a task before it charges it; returns it."""
    name = StepName(step)
    key = TaskKey(WorkspaceName("w"), RunId(UUID(int=1)), RoundNumber(1), 0, name, NodeName("n"))
    reading = Reading(None, names, "t", 0.2, 1)
    task = Task(key, reading, work, scaling, state, Budget(1.0, 1e-5), encoding=encoding)
    model.steps[name].check(task)
    return task
