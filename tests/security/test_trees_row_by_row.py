"""Trees of a hostile coordinator's score each row by itself, however many rows there are.

The attack that these tests keep: two ways of scoring that differ for trees that nobody would grow, and a number of
rows from which the second is taken. One subject more then moves everybody's score.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from heliosdb.algorithms.draws import TaskDraws
from heliosdb.algorithms.private_layout import PrivateLayout
from heliosdb.algorithms.private_measuring import ScoresRows
from heliosdb.algorithms.registry import algorithm
from heliosdb.algorithms.steps import REPORT
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.trees import work as tree_work
from heliosdb.algorithms.trees.bins import Ragged
from heliosdb.algorithms.trees.growing import GROW
from heliosdb.algorithms.trees.grown import Trees
from heliosdb.algorithms.trees.structure import Drawing
from heliosdb.algorithms.trees.work import GrowingWork, Model
from heliosdb.algorithms.works import EvaluateWork, PrivateReportWork
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.ids import StepName
from heliosdb.domain.privacy import Budget
from heliosdb.domain.state import NO_STATE
from heliosdb.domain.task import Reading, Scaling, Task
from heliosdb.domain.vector import ClippedSum, Vector
from heliosdb.scoring.trees import BLOCK, FEW
from tests.security.private_trees import BOOSTING, EVALUATE, FOREST, LEAVES, leaves_task

BUDGET = Budget(1.0, 1e-5)
KINDS = [(FOREST, 2), (FOREST, 5), (FOREST, 0), (BOOSTING, 2), (BOOSTING, 0)]
LEVELS = 3


def stump(name: str, levels: int) -> Model:
    """One tree of one split: of a number beyond its last edge, or of a category whose edges are none of its
    levels'."""
    if levels:
        edges, split, subsets = Ragged.of([np.array([100.5, 200.5])]), 0, np.array([[0b10000000]], np.uint8)
    else:
        edges, split, subsets = Ragged.of([np.array([0.0])]), 1, np.zeros((0, 0), np.uint8)
    trees = Trees(
        tree=np.zeros(3, np.int32),
        feature=np.array([0, -1, -1], np.int32),
        split=np.array([split, 0, 0], np.int32),
        left=np.array([1, 0, 0], np.int32),
        missing_left=np.zeros(3, np.uint8),
        values=np.array([[0.0], [0.0], [1.0]]),
        subsets=subsets,
        cover=np.zeros(3),
    )
    return Model(edges, (levels,), np.zeros(1) if name == BOOSTING else np.empty(0), trees)


def adversarial(rng: np.random.Generator, name: str, classes: int) -> Model:
    """Trees with splits that are none of their inputs' and with edges of categories anywhere."""
    levels = tuple(int(one) for one in rng.choice([0, LEVELS], size=int(rng.integers(1, 5))))
    edges = Ragged.of([np.sort(rng.normal(1.0, 1.0, LEVELS - 1 if many else 5)) for many in levels])
    outputs = max(1, classes - 1) if name == FOREST else 1
    empty = Trees.empty(outputs, LEVELS + 1 if any(levels) else 0)
    trees = Drawing(edges, levels, int(rng.integers(1, 6)), int(rng.integers(1000))).added(empty, 7)
    is_number = (trees.feature >= 0) & (np.array(levels)[np.maximum(trees.feature, 0)] == 0)
    split = np.where(is_number, rng.integers(-3, 9, trees.size), trees.split).astype(np.int32)
    values = rng.random(trees.values.shape) / outputs
    base = np.zeros(1) if name == BOOSTING else np.empty(0)
    return Model(edges, levels, base, replace(trees, split=split, values=values))


def asked(name: str, model: Model, step: StepName, classes: int = 2) -> Task:
    inputs = len(model.levels)
    names = tuple(f"f{place}" for place in range(inputs))
    scaling, reading = Scaling((0.0,) * inputs, (1.0,) * inputs), Reading(None, names, "t", 0.2, 1)
    columns = [
        ColumnEncoding(one, ColumnKind.CATEGORY, "index", ("a", "b", "c")) if many else ColumnEncoding(one)
        for one, many in zip(names, model.levels, strict=True)
    ]
    made = leaves_task(name, model, classes=classes, budget=BUDGET, reading=reading, scaling=scaling)
    made = replace(made, encoding=Encoding(tuple(columns), tuple(map(str, range(classes)))))
    made = replace(made, key=replace(made.key, step=step))
    if step == EVALUATE:
        return replace(made, work=EvaluateWork(name, scaling, 20.0, classes=classes).to_work())
    if step == REPORT:
        work = PrivateReportWork(name, scaling, 20.0, classes=classes)
        state = {**made.state, "cover": np.zeros(model.trees.size)}
        return replace(made, work=work.to_work(PrivateLayout(classes, inputs).size), state=state)
    return made


def answer(task: Task, rows: int) -> tuple[Vector, float]:
    features = np.ones((rows, task.n_inputs))
    held_out = np.full(rows, task.key.step != LEAVES)
    table = Table.from_rows(features, np.zeros(rows), np.arange(rows), held_out)
    made = (
        algorithm(task.work.algorithm)
        .steps[task.key.step]
        .compute(table, task, NO_STATE, TaskDraws(task, b"secret"))
    )
    assert isinstance(made.guard, ClippedSum)
    return made.vector, made.guard.sensitivity


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that lets such trees pass: what it answers is bounded all the same."""
    monkeypatch.setattr(Trees, "_check_splits", lambda *_: None)
    monkeypatch.setattr(tree_work, "are_between_levels", lambda *_: True)


@pytest.mark.parametrize("step", [LEAVES, EVALUATE, REPORT])
@pytest.mark.parametrize("levels", [0, LEVELS])
@pytest.mark.parametrize("name", [FOREST, BOOSTING])
def test_a_node_refuses_splits_and_edges_that_its_inputs_do_not_have(
    name: str, levels: int, step: StepName
) -> None:
    task = asked(name, stump(name, levels), step)
    with pytest.raises(
        FederatedError, match="do not fit its inputs" if levels else "the task's trees are none"
    ):
        algorithm(name).steps[step].check(task)


@pytest.mark.parametrize("levels", [0, LEVELS])
def test_nor_are_such_trees_grown_further(levels: int) -> None:
    model = stump(FOREST, levels)
    opened = replace(model, trees=replace(model.trees, feature=np.array([0, -1, -2], np.int32)))
    work = GrowingWork(FOREST, 2, 0, 0, 1.0, opened, np.array([2]), np.array([[0]]))
    task = replace(
        asked(FOREST, model, GROW), state=work.to_state(), work=work.to_work(boosts=False), budget=None
    )
    with pytest.raises(
        FederatedError, match="do not fit its inputs" if levels else "the task's trees are none"
    ):
        algorithm(FOREST).steps[GROW].check(task)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("step", [LEAVES, EVALUATE, REPORT])
@pytest.mark.parametrize("levels", [0, LEVELS])
@pytest.mark.parametrize("name", [FOREST, BOOSTING])
@pytest.mark.parametrize("rows", [FEW, BLOCK])
def test_one_subject_more_moves_an_answer_by_no_more_than_is_charged(
    name: str, levels: int, step: StepName, rows: int
) -> None:
    task = asked(name, stump(name, levels), step)
    (without, sensitivity), (also, _) = answer(task, rows), answer(task, rows + 1)
    assert np.linalg.norm(also - without) <= sensitivity * 1.01


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("name", "classes"), KINDS)
def test_a_row_s_score_is_the_same_alone_and_among_any_others(name: str, classes: int, seed: int) -> None:
    """Around the number of rows from which predictions go as bits, and around the size of a block."""
    rng = np.random.default_rng(seed)
    model = adversarial(rng, name, classes)
    learned = algorithm(name)
    assert isinstance(learned, ScoresRows)
    scores_of = learned.private_scores(asked(name, model, EVALUATE, classes))
    rows = rng.normal(1.0, 1.5, (BLOCK + 70, len(model.levels)))
    rows[:, np.array(model.levels) > 0] = rng.integers(0, LEVELS, (len(rows), sum(map(bool, model.levels))))
    rows[rng.random(rows.shape) < 0.1] = np.nan

    whole = scores_of(rows)

    for count in (1, FEW - 1, FEW, FEW + 1, FEW + 2, BLOCK - 1, BLOCK, BLOCK + 1):
        assert scores_of(rows[:count]).tobytes() == whole[:count].tobytes()
    for place in rng.integers(0, len(rows), 5):
        assert scores_of(rows[place : place + 1]).tobytes() == whole[place : place + 1].tobytes()
