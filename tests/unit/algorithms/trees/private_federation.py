"""Runs of trees under a budget over tables in memory: as nodes, door and coordinator go about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from heliosdb.algorithms.draws import TaskDraws
from heliosdb.algorithms.table import Table
from heliosdb.coordinator.course import Course, ModelState
from heliosdb.domain.encoding import Encoding
from heliosdb.domain.events import Figures
from heliosdb.domain.findings import Findings, RunPlan
from heliosdb.domain.ids import NodeName, RoundNumber, StepName
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.state import NO_STATE, State
from heliosdb.domain.task import Task
from heliosdb.domain.update import Update
from heliosdb.domain.vector import ClippedSum, Contribution, Vector
from heliosdb.node.guards import check_guard, make_private
from heliosdb.parts.algorithms import last_round
from heliosdb.scoring.kinds import find_kind
from tests.unit.algorithms.trees.federation import make_course


@dataclass(frozen=True)
class Grown:
    """What a run ended with. charged: each release of a node, in order. notes: of all rounds."""

    course: Course
    state: State
    findings: Findings
    figures: tuple[Figures | None, ...]
    charged: tuple[tuple[StepName, Mechanism], ...]
    notes: tuple[str, ...]

    def score(self, inputs: np.ndarray) -> np.ndarray:
        """As the catalog would."""
        made = self.course.algorithm.predict(self.state, self.findings)
        return find_kind(made.kind)(made.content, made.arrays, inputs)


def private_course(name: str, inputs: int, *, epsilon: float = 8.0, **options: Any) -> Course:
    """A run of these options under a budget; clipping_threshold is the workspace's."""
    threshold = options.pop("clipping_threshold", 1.0)
    course = make_course(name, inputs, **options)
    policy = replace(course.run.policy, privacy_budget=epsilon, clipping_threshold=threshold)
    return Course.of(replace(course.run, policy=policy))


def release(task: Task, made: Contribution) -> Vector:
    """What the door lets out."""
    check_guard(task, made)
    vector: Vector = make_private(made)
    return vector


def share_noise(nodes: int) -> Callable[[Task, Contribution], Vector]:
    """A door that adds a node's part of the noise alone, as nodes do that share it."""

    def out(task: Task, made: Contribution) -> Vector:
        assert isinstance(made.guard, ClippedSum)
        noised = release(task, made)
        return made.vector + (noised - made.vector) / np.sqrt(nodes)

    return out


def grow_privately(
    course: Course,
    tables: Sequence[Table],
    encoding: Encoding | None = None,
    door: Callable[[Task, Contribution], Vector] = release,
) -> Grown:
    """Hold the run."""
    is_number = encoding is not None and not encoding.classes
    findings, model = Findings(encoding=encoding, number_target=is_number), ModelState(NO_STATE)
    stated: dict[NodeName, float] = {}
    figures: list[Figures | None] = []
    charged: list[tuple[StepName, Mechanism]] = []
    notes: list[str] = []
    findings = course.algorithm.prepare(RunPlan(course.run, findings, RoundNumber(0)))
    for number in range(last_round(course.run.options) + 1):
        past = [mechanism for _, mechanism in charged]
        plan = RunPlan(course.run, findings, RoundNumber(number), {} if number == 0 else stated, past=past)
        if number == 0:
            costs = course.algorithm.releases(plan)
            plan = replace(plan, past=[one.mechanism for one in costs])
        if number == 1:
            model = course.initial_model(plan)
        costs = course.algorithm.releases(plan)
        name: StepName | None = course.algorithm.first(plan)
        found, exchange = None, 0
        while name is not None:
            question = course.ask(replace(plan, findings=findings), exchange, name, model, len(tables))
            assert question.asked.work.privacy is not None
            mechanism = question.asked.work.privacy.mechanism
            assert (costs[exchange].step, costs[exchange].mechanism) == (name, mechanism)
            charged.append((name, mechanism))
            gathering = question.gathering()
            for place, rows in enumerate(tables):
                node = NodeName(f"n{place}")
                task = question.task(node, None, NO_STATE)
                question.step.check(task)
                made = question.step.compute(rows, task, NO_STATE, TaskDraws(task, b"secret"))
                if number == exchange == 0:
                    stated[node] = 1.0
                update = Update(node, door(task, made), made.weight)
                question.check(update)
                gathering.take(update)
            conclusion = course.conclude(question, model, gathering.result())
            model, findings = conclusion.model, conclusion.taken.findings or findings
            notes += conclusion.taken.notes
            found, name, exchange = conclusion.taken.figures, conclusion.taken.following, exchange + 1
        figures.append(found)
    return Grown(course, model.state, findings, tuple(figures), tuple(charged), tuple(notes))
