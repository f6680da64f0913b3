"""Runs of trees over tables in memory, through the steps that coordinator and nodes use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from heliosdb.algorithms.draws import TaskDraws
from heliosdb.algorithms.table import Table
from heliosdb.coordinator.course import Course, ModelState
from heliosdb.domain.encoding import ColumnEncoding, Encoding
from heliosdb.domain.events import Figures
from heliosdb.domain.findings import Findings, RunPlan
from heliosdb.domain.ids import NodeName, RoundNumber, StepName
from heliosdb.domain.prediction import Prediction
from heliosdb.domain.state import NO_STATE, State, state_sha256
from heliosdb.domain.update import Update
from heliosdb.parts.algorithms import last_round
from heliosdb.scoring.kinds import find_kind
from tests.support.runs import RUN, with_options

NAMES = ("random_forest", "gradient_boosting")


@dataclass(frozen=True)
class Grown:
    """What a run ended with."""

    course: Course
    state: State
    findings: Findings
    figures: tuple[Figures | None, ...]
    exchanges: tuple[StepName, ...]

    @property
    def sha256(self) -> str:
        """Of the model."""
        return state_sha256(self.state).hex()

    @property
    def prediction(self) -> Prediction:
        """Of the model."""
        return self.course.algorithm.predict(self.state, self.findings)

    def score(self, inputs: np.ndarray) -> np.ndarray:
        """As the catalog would."""
        made = self.prediction
        return find_kind(made.kind)(made.content, made.arrays, inputs)


def make_course(name: str, inputs: int, **options: Any) -> Course:
    """A run of these options."""
    features = tuple(f"x{place}" for place in range(inputs))
    chosen = {"rounds": 4, "validation_split": 0.0, "validation_frequency": 1} | options
    run = with_options(RUN, algorithm=name, features=features, target="y", aggregation="fedavg", **chosen)
    given = {key: value for key, value in run.options.given.items() if key in options}
    return Course.of(replace(run, options=replace(run.options, given=given)))


def encoded(inputs: int, classes: int, levels: Mapping[int, int] | None = None) -> Encoding:
    """An encoding whose inputs are numbers, but for those that are indices of so many levels."""
    many = levels or {}
    columns = [
        ColumnEncoding(
            f"x{place}",
            form="index" if place in many else "value",
            levels=tuple(f"{level:03d}" for level in range(many.get(place, 0))),
        )
        for place in range(inputs)
    ]
    return Encoding(tuple(columns), tuple(str(one) for one in range(classes)))


def table(features: np.ndarray, target: np.ndarray, held_out: np.ndarray | None = None, **more: Any) -> Table:
    """Rows of as many subjects."""
    none = np.zeros(len(target), dtype=bool) if held_out is None else held_out
    rows = Table.from_rows(
        np.asarray(features, dtype=float), np.asarray(target, dtype=float), np.arange(len(target)), none
    )
    return replace(rows, **more)


def split(rows: Table, nodes: int, seed: int = 0) -> list[Table]:
    """The rows over nodes, some of which have many and some few."""
    owner = np.minimum(np.random.default_rng(seed).geometric(0.4, rows.rows) - 1, nodes - 1)
    return [rows.where(owner == node) for node in range(nodes)]


def grow(course: Course, tables: Sequence[Table], encoding: Encoding | None = None) -> Grown:
    """Hold the run."""
    is_number = encoding is not None and not encoding.classes
    findings, model = Findings(encoding=encoding, number_target=is_number), ModelState(NO_STATE)
    stated: dict[NodeName, float] = {}
    figures: list[Figures | None] = []
    exchanges: list[StepName] = []
    for number in range(last_round(course.run.options) + 1):
        plan = RunPlan(course.run, findings, RoundNumber(number), {} if number == 0 else stated)
        name: StepName | None = course.algorithm.first(plan)
        found, exchange = None, 0
        while name is not None:
            exchanges.append(name)
            question = course.ask(replace(plan, findings=findings), exchange, name, model, len(tables))
            gathering = question.gathering()
            for place, rows in enumerate(tables):
                node = NodeName(f"n{place}")
                task = question.task(node, None, NO_STATE)
                question.step.check(task)
                made = question.step.compute(rows, task, NO_STATE, TaskDraws(task, b"secret"))
                if number == exchange == 0:
                    stated[node] = made.weight
                update = Update(node, made.vector, made.weight)
                question.check(update)
                gathering.take(update)
            conclusion = course.conclude(question, model, gathering.result())
            model, findings = conclusion.model, conclusion.taken.findings or findings
            found, name, exchange = conclusion.taken.figures, conclusion.taken.following, exchange + 1
        figures.append(found)
    return Grown(course, model.state, findings, tuple(figures), tuple(exchanges))
