"""Compute every private step on rows that take more than the memory that is left; run as a program.

Prints the steps that did not answer. Arguments: how many rows, of one subject or of as many ("one", "many").
"""

from __future__ import annotations

import resource
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from heliosdb.algorithms.encoding import task_classes
from heliosdb.algorithms.gradient import GradientWork
from heliosdb.algorithms.norms import NormsWork
from heliosdb.algorithms.perceptron import Perceptron
from heliosdb.algorithms.private_layout import PrivateLayout
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.trees.structure import normal_edges
from heliosdb.algorithms.works import (
    ClassesWork,
    EvaluateWork,
    PrivateReportWork,
    PrivateTraining,
    StatisticsWork,
    TrainWork,
)
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.ids import StepName
from heliosdb.domain.privacy import Budget
from heliosdb.domain.state import NO_STATE
from heliosdb.domain.task import Reading, Scaling, Task, Work
from heliosdb.domain.vector import Contribution
from heliosdb.node import worker
from heliosdb.node.policy import find_step
from heliosdb.node.scratch import Scratch
from tests.security.private_trees import BOOSTING, FOREST, leaves_task, make_model
from tests.support.federation import key, new_run, parameters_state
from tests.unit.node.test_stored_tables import REQUEST

COLUMNS, LEVELS, TREE_INPUTS = ("a", "b", "c", "d"), 2001, 2000
INPUTS = len(COLUMNS) * (LEVELS - 1)
ROOM = 96 * 2**20
"""Bytes beside what the program has taken already: 3,000 rows are 192 MB, and so are those of trees."""

NOISE, BUDGET = 100.0, Budget(1.0, 1e-5)
MODEL = "logistic_regression"


def linear_tasks() -> Iterator[Task]:
    """One of each kind about categories of many levels."""
    scaling = Scaling((0.0,) * INPUTS, (1.0,) * INPUTS)
    privacy = PrivateTraining(NOISE, 1.0, 1.0, 1, 100.0)
    size = INPUTS + 1

    def train(classes: int) -> Work:
        many = size * (1 if classes == 2 else classes - 1)
        return TrainWork(MODEL, scaling, 1, 32, 0.1, privacy, classes=classes).to_work(many)

    shown = PrivateLayout(2, len(COLUMNS)).size
    works = [
        ("statistics", 2, StatisticsWork(MODEL, NOISE, classes=2).to_work(0)),
        ("classes", 2, ClassesWork(MODEL, NOISE).to_work()),
        ("train", 2, train(2)),
        ("train", 3, train(3)),
        ("gradient", 2, GradientWork(MODEL, scaling, NOISE, 1.0, 1.0, 2).to_work(size)),
        ("norms", 2, NormsWork(MODEL, scaling, NOISE, 1.0, 2).to_work()),
        ("evaluate", 2, EvaluateWork(MODEL, scaling, NOISE, classes=2).to_work()),
        ("evaluate", 3, EvaluateWork(MODEL, scaling, NOISE, classes=3).to_work()),
        ("report", 2, PrivateReportWork(MODEL, scaling, NOISE, classes=2).to_work(shown)),
    ]
    columns, reading = _columns(), Reading(None, COLUMNS, "y", 0.5, 1)
    for step, classes, work in works:
        task = Task(key(StepName(step), run=new_run()), reading, work, budget=BUDGET)
        task = replace(task, encoding=Encoding(columns, tuple(map(str, range(classes)))))
        state = parameters_state(np.zeros(size if classes == 2 else (classes - 1, size)))
        is_first = step in {"statistics", "classes"}
        yield task if is_first else replace(task, scaling=scaling, state=state)


def network_tasks() -> Iterator[Task]:
    """The report of a network about categories of many levels: of many rows it takes long, and goes through rows
    as an evaluation of three classes does."""
    scaling, columns = Scaling((0.0,) * INPUTS, (1.0,) * INPUTS), _columns()
    state = Perceptron(INPUTS, (2, 1), "tanh", "sigmoid").begin(1)
    work = PrivateReportWork("neural_network", scaling, NOISE, classes=2)
    asked = work.to_work(PrivateLayout(2, len(COLUMNS)).size)
    reading = Reading(None, COLUMNS, "y", 0.5, 1)
    task = Task(key(StepName("report"), run=new_run()), reading, asked, scaling, state, BUDGET)
    yield replace(task, encoding=Encoding(columns, ("0", "1")))


def _columns() -> tuple[ColumnEncoding, ...]:
    named = tuple(sorted(map(str, range(LEVELS)), key=str.encode))
    return tuple(ColumnEncoding(one, ColumnKind.CATEGORY, "indicators", named) for one in COLUMNS)


def tree_tasks() -> Iterator[Task]:
    """One of each kind about many numbers."""
    scaling = Scaling((0.0,) * TREE_INPUTS, (1.0,) * TREE_INPUTS)
    levels, shown = (0,) * TREE_INPUTS, PrivateLayout(2, TREE_INPUTS).size
    edges = normal_edges(scaling, levels, (False,) * TREE_INPUTS, 4)
    reading = Reading(None, tuple(f"c{number}" for number in range(TREE_INPUTS)), "y", 0.5, 1)
    for name in (FOREST, BOOSTING):
        model = make_model(name, 3, edges=edges, depth=3)
        finished = 1 if name == BOOSTING else 0
        yield leaves_task(name, model, finished=finished, budget=BUDGET, reading=reading, scaling=scaling)
        for step, work in (
            ("statistics", StatisticsWork(name, NOISE, classes=2).to_work(TREE_INPUTS)),
            ("evaluate", EvaluateWork(name, scaling, NOISE, classes=2).to_work()),
            ("report", PrivateReportWork(name, scaling, NOISE, classes=2).to_work(shown)),
        ):
            task = Task(key(StepName(step), run=new_run()), reading, work, budget=BUDGET)
            is_first, covered = step == "statistics", {"cover": np.zeros(model.trees.size)}
            state = model.to_state(**(covered if step == "report" else {}))
            yield task if is_first else replace(task, scaling=scaling, state=state)


def stored_table(rows: int, width: int, space: Scratch, *, is_held_out: bool, is_one: bool) -> Table:
    """Rows in a file, each a one somewhere."""
    features = space.empty((rows, width))
    for start in range(0, rows, 100):
        part = features[start : start + 100]
        part[...] = 0.0
        part[:, start % width] = 1.0
    subjects = np.zeros(rows, dtype=np.int64) if is_one else np.arange(rows)
    held_out = np.full(rows, is_held_out)
    return Table(features, np.arange(rows, dtype=np.float64) % 2, subjects, held_out, space=space)


def compute(task: Task, table: Table) -> Contribution:
    """Return an answer, before noise but of training. table: what the task's encoding makes of one."""
    find_step(task).check(task)
    made: worker.Encoded = {(False, task.encoding, task_classes(task), ()): table}
    return worker.compute(task, table, replace(REQUEST, plain=False), NO_STATE, made)


def answer(task: Task, table: Table) -> str:
    """Return "" for an answer, else what came instead."""
    try:
        compute(task, table)
    except (MemoryError, FederatedError) as error:
        return f"{task.work.algorithm} {task.key.step}: {type(error).__name__} {error}"
    return ""


def main(rows: int, subjects: str) -> None:
    """Print what did not answer."""
    asked = [(task, INPUTS) for task in linear_tasks()]
    # The numbers of trees are fewer a row, and so are rows more.
    asked += [(task, TREE_INPUTS) for task in tree_tasks()]
    with tempfile.TemporaryDirectory() as directory:
        space = Scratch(directory)
        tables = {
            (width, held): stored_table(
                rows * INPUTS // width, width, space, is_held_out=held, is_one=subjects == "one"
            )
            for width in (INPUTS, TREE_INPUTS)
            for held in (False, True)
        }
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[5]
        limit = int(pages) * resource.getpagesize() + ROOM
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        for task, width in asked:
            found = answer(task, tables[width, task.key.step in {"evaluate", "report"}])
            if found:
                print(found)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
