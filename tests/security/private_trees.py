"""Tasks about trees under a budget, honest and as a hostile coordinator would make them up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from heliosdb.algorithms.trees.bins import Ragged
from heliosdb.algorithms.trees.grown import Trees
from heliosdb.algorithms.trees.private_work import LeavesWork
from heliosdb.algorithms.trees.structure import Drawing
from heliosdb.algorithms.trees.work import Model
from heliosdb.algorithms.works import EvaluateWork
from heliosdb.domain.bounds import CLIPPING_NORM, NOISE_MULTIPLIER
from heliosdb.domain.ids import StepName
from heliosdb.domain.privacy import Budget, Mechanism
from heliosdb.domain.state import State
from heliosdb.domain.task import Privacy, Reading, Scaling, Task
from tests.support.federation import READING, SCALING, key, new_run

FOREST, BOOSTING = "random_forest", "gradient_boosting"
LEAVES, EVALUATE = StepName("leaves"), StepName("evaluate")
EDGES = Ragged.of([np.array([-1e300, 40.0, 50.0, 60.0]), np.array([100.0, 5e307])])


def make_model(
    name: str, trees: int, *, edges: Ragged = EDGES, depth: int = 2, classes: int = 2, value: float = 0.0
) -> Model:
    """So many drawn trees, every node of which has one value."""
    levels = (0,) * edges.counts.size
    outputs = max(1, classes - 1) if name == FOREST else 1
    made = Drawing(edges, levels, depth, 7).added(Trees.empty(outputs, 0), trees)
    base = np.zeros(1) if name == BOOSTING else np.empty(0)
    return Model(edges, levels, base, replace(made, values=np.full_like(made.values, value)))


def leaves_task(
    name: str,
    model: Model,
    *,
    finished: int = 0,
    classes: int = 2,
    noise: float = 4.0,
    rate: float = 1.0,
    clipping_norm: float = 1.0,
    budget: Budget,
    reading: Reading = READING,
    scaling: Scaling = SCALING,
) -> Task:
    """Sums over the leaves of the trees after the finished ones."""
    privacy = Privacy(Mechanism(noise, rate), 100.0)
    work = LeavesWork(name, classes, finished, clipping_norm, privacy, model)
    asked = work.to_work(boosts=name == BOOSTING)
    return Task(key(LEAVES, run=new_run()), reading, asked, scaling, model.to_state(), budget)


def evaluate_task(name: str, model: Model, *, noise: float = 4.0, budget: Budget, classes: int = 2) -> Task:
    """Loss and accuracy of trees."""
    work = EvaluateWork(name, SCALING, noise, classes=classes).to_work()
    return Task(key(EVALUATE, run=new_run()), READING, work, SCALING, model.to_state(), budget)


def answered(budget: Budget) -> list[Task]:
    """What a node answers, whatever its rows are."""
    extreme = make_model(BOOSTING, 3, value=1e9)
    least = {"noise": NOISE_MULTIPLIER.least, "clipping_norm": CLIPPING_NORM.most}
    return [
        leaves_task(BOOSTING, extreme, finished=2, budget=budget, **least),
        leaves_task(BOOSTING, make_model(BOOSTING, 2), rate=0.5, classes=0, budget=budget),
        leaves_task(FOREST, make_model(FOREST, 5, depth=4), budget=budget),
        leaves_task(FOREST, make_model(FOREST, 1, classes=0), classes=0, budget=budget),
        evaluate_task(BOOSTING, extreme, noise=NOISE_MULTIPLIER.least, budget=budget),
        evaluate_task(FOREST, make_model(FOREST, 2, value=0.5), budget=budget),
    ]


def refused(budget: Budget) -> list[tuple[str, Task]]:
    """What a node refuses before a row is read, and in which words."""
    asked = leaves_task(BOOSTING, make_model(BOOSTING, 2), finished=1, budget=budget)
    bare = replace(asked, state={**asked.state, "values": asked.state["values"][1:]})
    opened = asked.state["feature"].copy()
    opened[-1] = -2
    several = make_model(FOREST, 1, classes=3)
    many = leaves_task(FOREST, several, classes=3, budget=budget)
    many = replace(many, work=replace(many.work, algorithm=BOOSTING, size=8))
    return [
        ("sums over leaves are asked for under", working(asked, privacy=None)),
        ("noise_multiplier 0.001 is outside", working(asked, privacy=Privacy(Mechanism(1e-3), 100.0))),
        ("sampling_rate 2 is outside", working(asked, privacy=Privacy(Mechanism(4.0, 2.0), 100.0))),
        ("expected_subjects 0.5 is outside", working(asked, privacy=Privacy(Mechanism(4.0), 0.5))),
        ("sums over leaves are released once", working(asked, privacy=Privacy(Mechanism(4.0, 1.0, 2), 9.0))),
        ("clipping_norm 1e-07 is outside", setting(asked, clipping_norm=1e-7)),
        ("of two classes, or of a number", many),
        ("the task's trees are none", bare),
        ("the task's trees are not whole", replace(asked, state={**asked.state, "feature": opened})),
        ("asks for the leaves of no tree", setting(asked, finished=2)),
        ("the task asks for 9 values", working(asked, size=9)),
        ("coordinates is too much", working(asked, privacy=Privacy(Mechanism(1e6), 100.0))),
        ("scaling does not fit its inputs", replace(asked, scaling=None)),
        ("the task asks for more sums than", huge(budget)),
        *((_NO_SUMS, replace(asked, key=replace(asked.key, step=StepName(name)))) for name in _PLAIN),
    ]  # fmt: skip


_PLAIN = ("histograms", "quantiles")
_NO_SUMS = "sums without noise over rows are not asked for under a privacy_budget"


def huge(budget: Budget) -> Task:
    """More leaves than an answer may have."""
    model = make_model(FOREST, 1, depth=1, classes=1_000)
    one = leaves_task(FOREST, model, classes=1_000, budget=budget)
    many = make_model(FOREST, 1_001, depth=1, classes=1_000)
    state: State = {**one.state, **many.to_state()}
    return replace(one, state=state)


def working(asked: Task, **changes: Any) -> Task:
    """The task with changes of its work."""
    return replace(asked, work=replace(asked.work, **changes))


def setting(asked: Task, **settings: Any) -> Task:
    """The task with other settings of its work."""
    return working(asked, settings={**asked.work.settings, **settings})
