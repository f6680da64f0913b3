"""Toy parts for daemons: two algorithms and a codec, and the strategy and the sum protocol of the contract suite.

Importing this module registers them, as a site does by naming it in its daemons' setting `parts`. They learn badly and
are there to show what a part may be: rounds of several exchanges, states of named arrays, a prediction of a kind of its
own, a part of a model that stays at the node, bytes that are not the values themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

import tests.contracts.toys  # noqa: F401 - registers a strategy and a sum protocol
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
from heliosdb.domain.update import Moved, Total, Update
from heliosdb.domain.vector import Contribution, Plain
from heliosdb.parts.algorithms import ALGORITHMS
from heliosdb.parts.codecs import CODECS
from tests.contracts.toy_codec import TOY_DEFLATED

SPAN, COUNT, TOTAL, ERROR = map(StepName, ("toy_span", "toy_count", "toy_total", "toy_error"))
HELLO, MOVE = map(StepName, ("toy_hello", "toy_move"))


@dataclass(frozen=True, slots=True)
class ToyBinsSettings:
    """bins: of the first feature."""

    bins: int = within(Bounds(2, 64), default=6)


@dataclass(frozen=True, slots=True)
class ToyStep:
    """What toy steps have in common: plain sums over rows."""

    algorithm: str
    name: StepName
    required: bool = True
    gathers: Literal["sum", "rule"] = "sum"
    reads: Sequence[str] = ()
    moving: Sequence[str] = ()

    def ask(self, plan: RunPlan, state: State) -> Asked:
        """Ask for as many sums as the step has."""
        return Asked(Work(self.algorithm, self.size(state)), state=state)

    def size(self, state: State) -> int:
        """How many values an answer has."""
        return int(state["means"].size) if state else 3

    def fault(self, plan: RunPlan, work: Work, update: Update) -> str | None:
        """Say that a weight is no number of rows."""
        return None if update.weight.is_integer() else "its weight is no number of rows"

    def rows(self, plan: RunPlan, update: Update) -> int | None:
        """Return the weight in round 0."""
        return round(update.weight) if plan.round == 0 else None

    def check(self, task: Task) -> None:
        """Refuse private tasks, and answers of another size."""
        if task.work.privacy is not None or task.work.size != self.size(task.state):
            raise invalid_value("this is no task of a toy")

    def least_rows(self, task: Task) -> int | None:
        """Return None: sums are over all rows."""
        return None

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """Take nothing in."""
        return Taken(state)


def _bin_of(table: Table, state: State) -> np.ndarray:
    return np.searchsorted(state["edges"], np.nan_to_num(table.features[:, 0]))


@dataclass(frozen=True, slots=True)
class Span(ToyStep):
    """Round 0: where the first feature lies."""

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """Lay out the bins: floats for their edges and means, integers for their counts."""
        assert isinstance(gathered, Total)
        rows, total, squares = map(float, gathered.vector)
        mean = total / rows
        spread = np.sqrt(squares / rows - mean * mean)
        bins = plan.run.options.settings(ToyBinsSettings).bins
        edges = mean + spread * np.linspace(-1.5, 1.5, bins - 1)
        return Taken(make_state(edges=edges, counts=np.zeros(bins, np.int64), means=np.zeros(bins)))

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Return count, sum and sum of squares."""
        x = table.features[:, 0]
        return Contribution(np.array([x.size, x.sum(), x @ x]), float(table.rows), Plain())


@dataclass(frozen=True, slots=True)
class Count(ToyStep):
    """The rows in each bin."""

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """Keep the counts as integers; the totals come next."""
        assert isinstance(gathered, Total)
        counts = np.rint(gathered.vector).astype(np.int64)
        return Taken(make_state(**{**state, "counts": counts}), following=TOTAL)

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Count the rows of each bin."""
        rows = table.training()
        counts = np.bincount(_bin_of(rows, task.state), minlength=task.work.size).astype(np.float64)
        return Contribution(counts, float(rows.rows), Plain())


@dataclass(frozen=True, slots=True)
class BinTotal(ToyStep):
    """The sum of the target in each bin."""

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """Divide by the counts that the exchange before has left, and move a part of the way there."""
        assert isinstance(gathered, Total)
        found = gathered.vector / np.maximum(state["counts"], 1)
        return Taken(make_state(**{**state, "means": 0.5 * (state["means"] + found)}), following=ERROR)

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Add up the target."""
        rows = table.training()
        place, size = _bin_of(rows, task.state), task.work.size
        return Contribution(np.bincount(place, rows.target, size), float(rows.rows), Plain())


@dataclass(frozen=True, slots=True)
class BinError(ToyStep):
    """The squared error over held-out rows; a round stands without it."""

    def size(self, state: State) -> int:
        """Error and rows."""
        return 2

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """Return the mean error as the loss."""
        assert isinstance(gathered, Total)
        error, rows = map(float, gathered.vector)
        return Taken(state, figures=Figures(error / rows if rows else None, None))

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Add up the squared errors."""
        rows = table.validation()
        errors = np.square(rows.target - task.state["means"][_bin_of(rows, task.state)])
        return Contribution(np.array([errors.sum(), rows.rows]), max(1.0, float(rows.rows)), Plain())


class ToyBins:
    """The mean of the target in each bin of the first feature: three exchanges a round."""

    name = "toy_bins"

    @property
    def steps(self) -> Mapping[StepName, Step]:
        """By name."""
        made: Sequence[Step] = (
            Span(self.name, SPAN),
            Count(self.name, COUNT),
            BinTotal(self.name, TOTAL),
            BinError(self.name, ERROR, required=False),
        )
        return {step.name: step for step in made}

    def prepare(self, plan: RunPlan) -> Findings:
        """Nothing."""
        return plan.findings

    def begin(self, plan: RunPlan) -> State:
        """Round 0 has made the state."""
        raise AssertionError("round 0 makes the state")

    def first(self, plan: RunPlan) -> StepName:
        """Span, then counts."""
        return SPAN if plan.round == 0 else COUNT

    def releases(self, plan: RunPlan) -> Sequence[Cost]:
        """Nothing: a toy knows no privacy."""
        return ()

    def predict(self, state: State, findings: Findings) -> Prediction:
        """Edges and means."""
        return Prediction("toy_bins", {name: state[name].tolist() for name in ("edges", "means")})


class Hello(ToyStep):
    """Round 0 of the personal toy: how many rows there are."""

    def size(self, state: State) -> int:
        """Rows alone."""
        return 1

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Count."""
        return Contribution(np.array([float(table.rows)]), float(table.rows), Plain())


@dataclass(frozen=True, slots=True)
class Move(ToyStep):
    """Slopes that all share move; an offset that each node has for itself moves with them, and stays."""

    gathers: Literal["sum", "rule"] = "rule"
    moving: Sequence[str] = ("slopes",)

    def size(self, state: State) -> int:
        """One value a slope."""
        return int(state["slopes"].size)

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """Take the new slopes."""
        assert isinstance(gathered, Moved)
        return Taken(with_vector(state, self.moving, gathered.parameters))

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Return a gradient step about the node's own offset, and keep the next offset."""
        rows, slopes = table.training(), flatten(task.state, self.moving)
        x = np.nan_to_num(rows.features) / 100.0
        offset = float(memory["offset"][0]) if memory else 0.0
        errors = rows.target - (x @ slopes + offset)
        kept = make_state(offset=np.array([offset + 0.5 * errors.mean()]))
        return Contribution(0.1 * (errors @ x) / rows.rows, float(rows.rows), Plain(), stays=kept)


class ToyPersonal:
    """A linear model whose intercept is each node's own, and never leaves it."""

    name = "toy_personal"

    @property
    def steps(self) -> Mapping[StepName, Step]:
        """By name."""
        return {HELLO: Hello(self.name, HELLO), MOVE: Move(self.name, MOVE)}

    def prepare(self, plan: RunPlan) -> Findings:
        """Nothing."""
        return plan.findings

    def begin(self, plan: RunPlan) -> State:
        """Slopes of zero."""
        return make_state(slopes=np.zeros(len(plan.run.options.features)))

    def first(self, plan: RunPlan) -> StepName:
        """Hello, then moves."""
        return HELLO if plan.round == 0 else MOVE

    def releases(self, plan: RunPlan) -> Sequence[Cost]:
        """Nothing: a toy knows no privacy."""
        return ()

    def predict(self, state: State, findings: Findings) -> Prediction:
        """The slopes without an offset, as the catalog knows linear predictions."""
        slopes = (state["slopes"] / 100.0).tolist()
        zeros = [0.0] * len(slopes)
        return Prediction(
            "linear",
            {
                "intercept": 0.0,
                "slopes": slopes,
                "fills": zeros,
                "shifts": zeros,
                "link": "identity",
                "target_mean": 0.0,
                "target_scale": 1.0,
            },
        )


ALGORITHMS.register("toy_bins", ToyBins(), settings=ToyBinsSettings)
ALGORITHMS.register("toy_personal", ToyPersonal())
CODECS.register(TOY_DEFLATED.name, TOY_DEFLATED)
