"""No private step needs all rows in memory: whether they fit would be told by a refusal, after the charge."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from heliosdb.algorithms import space
from heliosdb.algorithms.binning import BINS
from heliosdb.algorithms.levels import LEVELS
from heliosdb.algorithms.registry import algorithm
from heliosdb.algorithms.steps import REPORT
from heliosdb.algorithms.table import Table
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.ids import StepName
from heliosdb.domain.privacy import Budget, Mechanism
from heliosdb.domain.task import Privacy, Task, Work
from heliosdb.node.scratch import Scratch
from heliosdb.parts.algorithms import ALGORITHMS
from tests.security.rows_in_files import INPUTS, TREE_INPUTS, compute, linear_tasks, network_tasks, tree_tasks
from tests.support.federation import EVALUATE, READING, SCALING, TRAIN, key

BUDGET = Budget(1.0, 1e-5)
PLAIN_ALONE = {BINS, LEVELS}
"""Refused under a budget once their settings are read: see the tests of binning.py and levels.py."""

STEPS = [(name, step) for name in ALGORITHMS.names() for step in algorithm(name).steps]


@pytest.mark.parametrize(("name", "step"), STEPS)
def test_a_step_reads_rows_block_by_block_or_is_refused_under_a_budget(name: str, step: StepName) -> None:
    found = algorithm(name).steps[step]
    if getattr(found, "streams", False) or getattr(found, "streams_privately", False):
        return
    if step in PLAIN_ALONE:
        return
    work = Work(name, 1, privacy=Privacy(Mechanism(4.0), 1.0))
    with pytest.raises(FederatedError, match=r"privacy[ _]budget"):
        found.check(Task(key(step), READING, work, SCALING, budget=BUDGET))


@pytest.mark.parametrize("subjects", ["one", "many"])
def test_every_private_step_answers_where_rows_take_more_than_the_memory(subjects: str) -> None:
    given = [sys.executable, "-m", "tests.security.rows_in_files", "3000", subjects]
    done = subprocess.run(given, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize(
    "task", [*linear_tasks(), *network_tasks(), *tree_tasks()], ids=lambda task: str(task.key.step)
)
def test_answers_do_not_tell_how_many_rows_are_computed_on_at_a_time(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if task.key.step == TRAIN:
        return  # Noise is in it from the first step on.
    width = TREE_INPUTS if task.encoding is None else INPUTS
    rng = np.random.default_rng(5)
    features, target = rng.normal(size=(40, width)), rng.integers(0, 2, 40).astype(float)
    held_out = np.full(40, task.key.step in {EVALUATE, REPORT})
    table = Table(features, target, np.arange(40) // 3, held_out, space=Scratch(str(tmp_path)))
    whole = compute(task, table).vector
    monkeypatch.setattr(space, "_NUMBERS", 2 * width)
    assert space.rows_at_once(width) == 2
    assert compute(task, table).vector.tobytes() == whole.tobytes()
