"""Which classes a target has: counted before the feature statistics, where integers under a budget are
undeclared.

What always holds: whether it is asked is known before round 0 opens, from what nodes say of their columns;
what it costs is reserved then and charged before a row is read. A subject's part is the shares of its rows
whose target is 0, 1, and neither. A row's place depends on its own target alone, and a row without a target
has none; so the shares are not negative and sum to 1, or are all 0 where no row has a place. Their norm, L1
or L2, is at most their sum, 1: the sensitivity. Sums, rounding and noise are those of the feature statistics
(features.py): exact whole steps of the lattice, whatever else is in the table. What is read of the noisy
sums is post-processing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import add
from typing import ClassVar, Literal

import numpy as np

from heliosdb.algorithms.answers import classes_fault
from heliosdb.algorithms.blockwise import sum_parts
from heliosdb.algorithms.checks import check_classes
from heliosdb.algorithms.layout import CLASS_COUNTS, CLASSES_SENSITIVITY
from heliosdb.algorithms.space import AT_ONCE
from heliosdb.algorithms.statistics import STATISTICS
from heliosdb.algorithms.steps import Asked, Draws, Taken
from heliosdb.algorithms.table import Table, group_by_subject
from heliosdb.algorithms.works import ClassesWork
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.findings import RunPlan
from heliosdb.domain.ids import StepName
from heliosdb.domain.privacy import Mechanism, Noise
from heliosdb.domain.state import NO_STATE, State
from heliosdb.domain.task import Task, Work
from heliosdb.domain.update import Moved, Total, Update
from heliosdb.domain.vector import ClippedSum, Contribution, Vector
from heliosdb.privacy.mechanisms import Integers, Lattice, judged_deviation

CLASSES = StepName("classes")

DEVIATIONS = 4.0
"""A count stands out of the noise from so many of its standard deviations on: noise alone does in one of
30,000 runs."""

FEW = 0.01
"""No run is refused for a smaller part of its subjects: these rows are left out."""


@dataclass(frozen=True, slots=True)
class ClassesStep:
    """The exchange with which round 0 begins where the target's classes are not declared."""

    noises: ClassVar[tuple[Noise, ...]] = ("gaussian", "laplacian")

    algorithm: str
    name: StepName = CLASSES
    required: bool = True
    gathers: Literal["sum"] = "sum"
    reads: Sequence[str] = ()
    moving: Sequence[str] = ()
    streams: bool = False
    adds_blocks: bool = False

    def ask(self, plan: RunPlan, state: State) -> Asked:
        """Ask for the noisy counts."""
        del state
        return Asked(_work(plan).to_work())

    def fault(self, plan: RunPlan, work: Work, update: Update) -> str | None:
        """Say what no rows can have led to."""
        del plan
        return classes_fault(update.vector, ClassesWork.of(work))

    def rows(self, plan: RunPlan, update: Update) -> int | None:
        """Return None: the statistics tell them, with less noise."""
        del plan, update
        return None

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """Go on to the statistics; FederatedError 22023 names the target where its classes are others."""
        del state
        assert isinstance(gathered, Total)
        work = _work(plan)
        deviation = judged_deviation(work.noise_multiplier, work.noise)
        noise = deviation * math.sqrt(gathered.noise_count)
        notes = read_counts(gathered.vector, noise, plan.run.options.target)
        return Taken(NO_STATE, following=STATISTICS, notes=notes)

    def check(self, task: Task) -> None:
        """Refuse what no table could answer."""
        check_classes(task)

    def sensitivity(self, task: Task) -> float:
        """Return that of shares which add up to 1."""
        del task
        return CLASSES_SENSITIVITY

    def least_rows(self, task: Task) -> int | None:
        """Return None: every sum is over all rows."""
        del task
        return None

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Return the node's counts."""
        del memory, draws
        return count_classes(table, ClassesWork.of(task.work))


def count_classes(table: Table, work: ClassesWork) -> Contribution:
    """Return the sums of the subjects' shares of rows of class 0, class 1 and neither; see the module."""
    lattice = _lattice(work)

    def steps_of(rows: Table) -> Integers:
        subjects = np.concatenate([rows.subjects, rows.others])
        places = np.zeros((CLASS_COUNTS, subjects.size))
        places[0, : rows.rows] = rows.target == 0.0
        places[1, : rows.rows] = rows.target == 1.0
        places[2] = (places[0] + places[1]) == 0.0
        return lattice.sum_steps(group_by_subject(subjects).means(places, 1.0))

    # A subject may have rows of both kinds.
    parts = [table] if table.others.size else table.subject_blocks(AT_ONCE)
    steps = sum_parts(parts, steps_of, add)
    guard = ClippedSum(CLASSES_SENSITIVITY, Mechanism(work.noise_multiplier, noise=work.noise))
    return Contribution(lattice.total(steps), 1.0, guard)


def read_counts(counts: Vector, noise: float, target: str) -> tuple[str, ...]:
    """Say what cannot be told of a target's classes; noise: the standard deviation of each of the counts.

    FederatedError 22023 where more than noise, and more than a `FEW`, is of neither.
    """
    neither, total, stands_out = float(counts[2]), float(counts.sum()), DEVIATIONS * noise
    if neither > max(stands_out, FEW * total):
        raise invalid_value(
            f'the target "{target}" is neither 0 nor 1 for about {neither:.0f} of about'
            f" {max(neither, total):.0f} subjects, as counted under the privacy budget:"
            " target_classes names its two classes, class 0 first"
        )
    if total <= math.sqrt(CLASS_COUNTS) * stands_out:
        return (
            f'whether the target "{target}" is 0 or 1 could not be told from noise:'
            " target_classes, or a CHECK at every node, declares it",
        )
    return tuple(
        f'class {number} of the target "{target}" could not be told from noise'
        for number in (0, 1)
        if counts[number] <= stands_out
    )


def _lattice(work: ClassesWork) -> Lattice:
    return Lattice.of(CLASSES_SENSITIVITY, work.noise_multiplier, CLASS_COUNTS, work.noise)


def _work(plan: RunPlan) -> ClassesWork:
    made = plan.findings.plan
    assert made is not None
    assert made.classes_noise is not None
    return ClassesWork(plan.run.options.algorithm, made.classes_noise, plan.run.policy.noise)
