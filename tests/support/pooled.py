"""A run played over split tables without a coordinator's process: what pooled estimates are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from heliosdb.algorithms import Table
from heliosdb.algorithms.draws import TaskDraws
from heliosdb.coordinator.course import Course, ModelState
from heliosdb.domain.encoding import ColumnEncoding, Encoding
from heliosdb.domain.findings import Findings, RunPlan
from heliosdb.domain.ids import NodeName, RoundNumber
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.run import Run
from heliosdb.domain.state import NO_STATE, State, freeze
from heliosdb.domain.update import Update
from heliosdb.node.guards import make_private
from tests.support.runs import RUN, with_options


@dataclass(frozen=True)
class Played:
    """What a run ended with. rounds: how many were played; coefficients: as the catalog stores them."""

    course: Course
    model: ModelState
    findings: Findings
    rounds: int
    notes: tuple[str, ...]

    @property
    def coefficients(self) -> dict[str, Any]:
        """The version's coefficients."""
        content = self.course.algorithm.predict(self.model.state, self.findings).content
        found: dict[str, Any] = content["coefficients"]
        return found

    def column(self, name: str, score: int = 0) -> np.ndarray:
        """One figure of all coefficients of a score, the intercept first; NaN for none."""
        return np.array(self.coefficients["scores"][score][name], dtype=float)


def make_run(algorithm: str, features: Sequence[str], **options: Any) -> Run:
    """A run without held-out rows, by Newton steps unless said otherwise."""
    given = {"optimizer": "newton", "validation_split": 0.0, "rounds": 30} | options
    return with_options(RUN, algorithm=algorithm, features=tuple(features), target="y", **given)


def split(rows: int, nodes: int, seed: int = 0) -> list[np.ndarray]:
    """The rows of each node: of different sizes, and one unlike the others (the first rows in order)."""
    rng = np.random.default_rng(seed)
    first = np.arange(rows // (nodes + 1))
    rest = rng.permutation(np.arange(first.size, rows))
    return [first, *np.array_split(rest, nodes - 1)] if nodes > 1 else [np.arange(rows)]


def make_tables(features: np.ndarray, target: np.ndarray, nodes: int, **columns: np.ndarray) -> list[Table]:
    """The rows over so many nodes, none held out. columns: by role."""
    return [
        replace(
            Table.from_rows(
                features[rows], target[rows], np.arange(rows.size), np.zeros(rows.size, dtype=bool)
            ),
            roles={role: column[rows] for role, column in columns.items()},
        )
        for rows in split(target.size, nodes)
    ]


def play(run: Run, tables: Sequence[Table], classes: Sequence[str] = ()) -> Played:
    """Play round after round until the run ends by itself, or its rounds are over."""
    course, model, stated = Course.of(run), ModelState(NO_STATE), dict[NodeName, float]()
    encoding = Encoding(tuple(map(ColumnEncoding, run.options.features)), tuple(classes)) if classes else None
    findings, notes, number = Findings(encoding=encoding), list[str](), 0
    kept: dict[NodeName, State] = {}
    past: list[Mechanism] = []
    while number <= run.options.rounds and findings.ended is None:
        plan = RunPlan(run, findings, RoundNumber(number), stated, past)
        if number == 0:
            plan = replace(plan, findings=course.algorithm.prepare(plan))
        past = [*past, *(cost.mechanism for cost in course.algorithm.releases(plan))]
        plan = replace(plan, past=past)
        name, exchange = course.algorithm.first(plan), 0
        while name is not None:
            question = course.ask(plan, exchange, name, model, len(tables))
            gathering = question.gathering()
            for place, table in enumerate(tables):
                node = NodeName(f"n{place}")
                task = question.task(node, None, NO_STATE)
                question.step.check(task)
                memory = kept.get(node, NO_STATE)
                made = question.step.compute(table, task, memory, TaskDraws(task, b"secret"))
                if made.stays is not None:
                    kept[node] = freeze(made.stays)
                update = Update(node, make_private(made), made.weight)
                question.check(update)
                gathering.take(update)
                if number == exchange == 0:
                    stated[node] = made.weight
            conclusion = course.conclude(question, model, gathering.result())
            model, taken = conclusion.model, conclusion.taken
            findings, name = taken.findings or plan.findings, taken.following
            notes += taken.notes
            plan, exchange = replace(plan, findings=findings), exchange + 1
        if not model.state:
            model = course.initial_model(replace(plan, stated=stated))
        number += 1
    return Played(course, model, findings, number - 1, tuple(notes))
