"""Algorithms of as many parameters as they are told, for `benchmarks.round`: cheap to compute, costly to carry.

Importing this module registers them, as a site does by naming it in its daemons' setting `parts`. `wide` has an array
of doubles, `wide_single` one of single-precision numbers, whose updates travel as such. A step moves each parameter
by what depends on the rows and on where it is, so that no two nodes' and no two rounds' updates are alike; there is no
noise. An evaluation carries all parameters out, and a single number back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from heliosdb.algorithms.schedule import evaluates
from heliosdb.algorithms.steps import Asked, Cost, Draws, Step, Taken
from heliosdb.algorithms.table import Table
from heliosdb.domain.bounds import Bounds
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.events import Figures
from heliosdb.domain.findings import Findings, RunPlan
from heliosdb.domain.ids import StepName
from heliosdb.domain.prediction import Prediction
from heliosdb.domain.settings import within
from heliosdb.domain.state import State, flatten, make_state, with_vector
from heliosdb.domain.task import Task, Work
from heliosdb.domain.update import Moved, Term, Total, Update
from heliosdb.domain.vector import Contribution, Dtype, Plain
from heliosdb.parts.algorithms import ALGORITHMS

FEATURES = tuple(f"x{number}" for number in range(1, 10))
"""Of every model of the benchmark."""

HELLO, MOVE, EVALUATE = map(StepName, ("wide_hello", "wide_move", "wide_evaluate"))


@dataclass(frozen=True, slots=True)
class WideSettings:
    """parameters: how many."""

    parameters: int = within(Bounds(1, 10_000_000), default=10)


@dataclass(frozen=True, slots=True)
class Hello:
    """Round 0: how many rows there are."""

    algorithm: str
    dtype: Dtype
    name: StepName = HELLO
    required: bool = True
    gathers: Literal["sum", "rule"] = "sum"
    reads: Sequence[str] = ()
    moving: Sequence[str] = ()

    def ask(self, plan: RunPlan, state: State) -> Asked:
        """Ask for as many values as the step has."""
        return Asked(Work(self.algorithm, self.size(state), self.dtype), state=state)

    def size(self, state: State) -> int:
        """How many values an answer has."""
        return 1

    def fault(self, plan: RunPlan, work: Work, update: Update) -> str | None:
        """Say that a weight is no number of rows."""
        return None if update.weight.is_integer() else "its weight is no number of rows"

    def rows(self, plan: RunPlan, update: Update) -> int | None:
        """Return the weight in round 0."""
        return round(update.weight) if plan.round == 0 else None

    def check(self, task: Task) -> None:
        """Refuse private tasks, and answers of another size."""
        if task.work.privacy is not None or task.work.size != self.size(task.state):
            raise invalid_value("this is no task of a wide model")

    def least_rows(self, task: Task) -> int | None:
        """Return None: answers are over all rows."""
        return None

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """Take in how many rows all have: where hidden updates are rounded, their range follows from that."""
        assert isinstance(gathered, Total)
        return Taken(state, replace(plan.findings, rows=gathered.weight))

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Count."""
        return Contribution(np.array([table.rows], self.dtype.value), float(table.rows), Plain())


@dataclass(frozen=True, slots=True)
class Move(Hello):
    """Every other round: all parameters move."""

    name: StepName = MOVE
    gathers: Literal["sum", "rule"] = "rule"
    moving: Sequence[str] = ("weights",)

    def size(self, state: State) -> int:
        """One value a parameter."""
        return int(state["weights"].size)

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """Take the new parameters."""
        assert isinstance(gathered, Moved)
        moved = with_vector(state, self.moving, gathered.parameters)
        return Taken(moved, following=EVALUATE if evaluates(plan) else None)

    def fault_of_term(self, plan: RunPlan, work: Work, term: Term) -> str | None:
        """As `fault`."""
        return None if term.weight.is_integer() else "its weight is no number of rows"

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Pull each parameter towards the mean of one feature."""
        rows = table.training()
        means = np.nan_to_num(rows.features).mean(axis=0) / 100.0
        weights = flatten(task.state, self.moving)
        vector = 0.1 * (np.resize(means, weights.size) - weights)
        return Contribution(vector.astype(self.dtype.value), float(rows.rows), Plain())


@dataclass(frozen=True, slots=True)
class Evaluate(Hello):
    """A figure that takes all parameters to find: the mean, over the rows, of some of them."""

    name: StepName = EVALUATE
    required: bool = False

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """Take the mean over all rows as the loss."""
        assert isinstance(gathered, Total)
        loss = float(gathered.vector[0]) / gathered.weight if gathered.nodes else None
        return Taken(state, figures=Figures(loss, None))

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Sum the first parameters over the rows."""
        rows = table.rows
        found = float(np.abs(task.state["weights"][: len(FEATURES)]).sum()) * rows
        return Contribution(np.array([found], self.dtype.value), float(rows), Plain())


@dataclass(frozen=True, slots=True)
class Wide:
    """A linear model, most of whose weights are of no feature."""

    name: str
    dtype: Dtype

    @property
    def steps(self) -> Mapping[StepName, Step]:
        """By name."""
        made = (Hello(self.name, self.dtype), Move(self.name, self.dtype), Evaluate(self.name, self.dtype))
        return {step.name: step for step in made}

    def prepare(self, plan: RunPlan) -> Findings:
        """Nothing."""
        return plan.findings

    def begin(self, plan: RunPlan) -> State:
        """As many zeros."""
        count = plan.run.options.settings(WideSettings).parameters
        return make_state(weights=np.zeros(count, self.dtype.value))

    def first(self, plan: RunPlan) -> StepName:
        """Hello, then moves."""
        return HELLO if plan.round == 0 else MOVE

    def releases(self, plan: RunPlan) -> Sequence[Cost]:
        """Nothing: there is no privacy here."""
        return ()

    def predict(self, state: State, findings: Findings) -> Prediction:
        """The first weights, as the catalog knows linear predictions."""
        first = np.zeros(1 + len(FEATURES))
        first[: state["weights"].size] = state["weights"][: first.size]
        zeros = [0.0] * len(FEATURES)
        return Prediction(
            "linear",
            {
                "intercept": float(first[0]),
                "slopes": first[1:].tolist(),
                "fills": zeros,
                "shifts": zeros,
                "link": "identity",
                "target_mean": 0.0,
                "target_scale": 1.0,
            },
        )


ALGORITHMS.register("wide", Wide("wide", Dtype.FLOAT64), settings=WideSettings)
ALGORITHMS.register("wide_single", Wide("wide_single", Dtype.FLOAT32), settings=WideSettings)
