"""The personal part of a model at each node: made once, of the version that a run is about to publish, and
measured beside it on the rows that the node holds out.

What always holds: the part is no part of the answer: what leaves is two plain evaluations, of the version and
of the node's own model, over the same held-out rows. Without a privacy budget alone: how good a model is that
was fitted to few rows tells of them, and has no private form.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, cast

import numpy as np

from heliosdb.algorithms.answers import evaluation_fault
from heliosdb.algorithms.checks import check_shape, check_target
from heliosdb.algorithms.evaluation import Evaluable
from heliosdb.algorithms.measures import Evaluation
from heliosdb.algorithms.own_model import OWN, Descending, count_staying, put_head, train_beside
from heliosdb.algorithms.own_terms import OwnTerms
from heliosdb.algorithms.registry import algorithm, supervised
from heliosdb.algorithms.stated import weight_fault
from heliosdb.algorithms.steps import PERSONALIZE, REPORT, Asked, Draws, Taken
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.training import check_steps, train_work
from heliosdb.algorithms.works import PARAMETERS, EvaluateWork, TrainWork, scaling_of
from heliosdb.domain import bounds
from heliosdb.domain.errors import invalid_value, not_supported
from heliosdb.domain.findings import Findings, RunPlan
from heliosdb.domain.ids import StepName
from heliosdb.domain.personal import PersonalPart
from heliosdb.domain.prediction import Prediction
from heliosdb.domain.settings import read_settings, settings_of, within
from heliosdb.domain.state import State, told_of, with_vector
from heliosdb.domain.task import Scaling, Task, Work
from heliosdb.domain.update import Moved, Total, Update
from heliosdb.domain.vector import Contribution, Plain, Vector
from heliosdb.domain.wording import counted
from heliosdb.parts.algorithms import LocalOptimizer
from heliosdb.parts.personal import Personalization, personal_of


class Personalized(Evaluable, Descending, Protocol):
    """An algorithm whose parameters a node can train for itself and measure."""


@dataclass(frozen=True, slots=True)
class _PersonalSettings:
    way: Personalization
    classes: int = within(bounds.CLASSES)
    local_epochs: int = within(bounds.EPOCHS)
    batch_size: int = within(bounds.BATCH_SIZE)
    learning_rate: float = within(bounds.LEARNING_RATE)
    penalty: float = within(bounds.PENALTY, default=0.0)
    l1_ratio: float = within(bounds.Bounds(0.0, 1.0), default=0.0)
    optimizer: LocalOptimizer = "sgd"
    local_layers: int | None = within(bounds.LAYERS, default=None)
    personal_term: float | None = within(bounds.PROXIMAL_TERM, default=None)


@dataclass(frozen=True, slots=True)
class PersonalWork:
    """How a node comes to its own model. training: the descent that leads there, from the task's parameters
    where nothing is kept of the run's rounds."""

    way: Personalization
    training: TrainWork

    @classmethod
    def of(cls, task: Task) -> PersonalWork:
        """Read the envelope; FederatedError INVALID_VALUE for what is none, NOT_SUPPORTED under a budget."""
        if task.budget is not None or task.work.privacy is not None:
            raise not_supported("personalization is not supported under a privacy_budget yet")
        given = read_settings(_PersonalSettings, task.work.settings, exact=True)
        own = OwnTerms(given.local_layers, given.personal_term)
        if (own.layers is not None, own.term is not None) != (
            given.way == "local_head",
            given.way == "ditto",
        ):
            raise invalid_value(f"these are not the settings of personalization = '{given.way}'")
        training = TrainWork(
            task.work.algorithm,
            scaling_of(task),
            given.local_epochs,
            given.batch_size,
            given.learning_rate,
            optimizer=given.optimizer,
            classes=given.classes,
            penalty=given.penalty,
            l1_ratio=given.l1_ratio,
            own=own,
        )
        return cls(given.way, training)

    def to_work(self) -> Work:
        """Write the envelope."""
        training = self.training
        given = _PersonalSettings(
            self.way,
            training.classes,
            training.local_epochs,
            training.batch_size,
            training.learning_rate,
            training.penalty,
            training.l1_ratio,
            training.optimizer,
            training.own.layers,
            training.own.term,
        )
        return Work(training.algorithm, self.size, settings=settings_of(given))

    @property
    def measuring(self) -> EvaluateWork:
        """How both models are measured."""
        training = self.training
        return EvaluateWork(training.algorithm, training.scaling, None, classes=training.classes)

    @property
    def size(self) -> int:
        """How many values an answer holds: an evaluation of each of both models."""
        return 2 * self.measuring.size


@dataclass(frozen=True, slots=True)
class PersonalizeStep:
    """One look at a version and at what each node makes of it. told: as of an evaluation."""

    algorithm: str
    name: StepName = PERSONALIZE
    required: bool = False
    gathers: Literal["sum"] = "sum"
    reads: Sequence[str] = ()
    moving: Sequence[str] = ()
    told: Sequence[str] | None = None
    streams: bool = False

    def ask(self, plan: RunPlan, state: State) -> Asked:
        """Ask each node to make its own model, and for the evaluations."""
        work = personal_work(plan)
        return Asked(work.to_work(), work.training.scaling, told_of(state, self.told))

    def fault(self, plan: RunPlan, work: Work, update: Update) -> str | None:
        """Say what no rows can have led to, or were not stated in round 0."""
        measuring = personal_work(plan).measuring
        of_both = np.split(update.vector, 2)
        if of_both[0][0] != of_both[1][0]:
            return "it measures its two models on rows that are not the same"
        faults = (evaluation_fault(one, update.weight, measuring) for one in of_both)
        return next(filter(None, faults), None) or weight_fault(plan.stated, update)

    def rows(self, plan: RunPlan, update: Update) -> int | None:
        """Return None: these are the held-out ones only."""
        del plan, update
        return None

    def describe(self, plan: RunPlan, update: Update) -> Mapping[str, Any] | None:
        """Return the figures of both models at one node; None where it holds no rows out."""
        return compare(personal_work(plan).measuring, update.vector) if update.vector[0] else None

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """Say how both do over all nodes; a report follows where anything is held out."""
        assert isinstance(gathered, Total)
        options = plan.run.options
        reports = options.validation_split > 0 and REPORT in algorithm(self.algorithm).steps
        following = REPORT if reports and gathered.nodes else None
        return Taken(state, following=following, notes=_notes(personal_work(plan), gathered))

    def check(self, task: Task) -> None:
        """Refuse what no table could answer."""
        work = PersonalWork.of(task)
        training = work.training
        check_target(training.algorithm, training.classes)
        supervised(training.algorithm).check_state(task.state, task.n_inputs, training.classes)
        check_shape(task.work, work.size)
        if training.own.layers is not None:
            count_staying(self.algorithm, task, training.own.layers)

    def least_rows(self, task: Task) -> int | None:
        """Return None: every sum is over all held-out rows."""
        del task
        return None

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Return the evaluations, and beside them the node's own model, which stays."""
        work = PersonalWork.of(task)
        method = cast(Personalized, supervised(self.algorithm).of(task.state, task.n_inputs))
        check_steps(work.training, table.training_rows)
        method.check_target(table, work.training.classes)
        start = task.state[PARAMETERS]
        own = own_parameters(method, table, task, work, memory, draws)
        before, after = (method.evaluate(table, one, work.measuring) for one in (start, own))
        vector = np.concatenate([before.vector, after.vector])
        figures = compare(work.measuring, vector)
        state = with_vector(task.state, (PARAMETERS,), np.ravel(own).astype(np.float64))
        part = PersonalPart(work.way, _predict(self.algorithm, state, task), figures)
        return Contribution(vector, before.weight, Plain(), personal=part.to_state())


def own_parameters(  # noqa: PLR0917
    method: Descending, table: Table, task: Task, work: PersonalWork, memory: State, draws: Draws
) -> Vector:
    """Return the parameters of the node's own model, in the shape of the task's.

    A node of which no training round has left anything makes its own now, as its first round would have.
    """
    start, training = task.state[PARAMETERS], work.training
    layers = training.own.layers
    if layers is not None:
        staying = count_staying(training.algorithm, task, layers)
        own = put_head(start, memory, staying)
        if OWN in memory:
            return own
        moved = method.train(table, start, training, draws.rng()).vector
        return put_head(start, {OWN: start[-staying:] + moved[-staying:]}, staying)
    if training.own.term is not None:
        kept = memory.get(OWN)
        if kept is not None and kept.shape == start.shape:
            return kept
        return train_beside(method, table, start, training, memory, draws.rng())
    tuned: Vector = start + method.train(table, start, training, draws.rng()).vector.reshape(start.shape)
    return tuned


def _predict(name: str, state: State, task: Task) -> Prediction:
    """Return how the node predicts with its own model: without figures of how it was found."""
    made = algorithm(name).predict(state, Findings(task.scaling, encoding=task.encoding))
    content = {key: value for key, value in made.content.items() if key != "coefficients"}
    return Prediction(made.kind, content, made.arrays)


def compare(measuring: EvaluateWork, vector: Vector) -> dict[str, Any]:
    """Return the figures of both models, as JSON: of the version that all have, and of the node's own."""
    before, after = (measuring.measure.read_plain(one, _scale(measuring)) for one in np.split(vector, 2))
    return {"rows": int(vector[0]), "global": _figures(before), "personal": _figures(after)}


def _scale(measuring: EvaluateWork) -> float:
    scaling: Scaling = measuring.scaling
    return scaling.target_scale


def _figures(found: Evaluation) -> dict[str, float]:
    told = {name: getattr(found.figures, name) for name in ("loss", "accuracy", "rmse")}
    return {name: float(one) for name, one in told.items() if one is not None and math.isfinite(one)}


def _notes(work: PersonalWork, gathered: Total) -> tuple[str, ...]:
    """Say in the round's message how the nodes' own models do, in the mean over held-out rows."""
    if not gathered.nodes:
        return ("no node has made a model of its own",)
    found = compare(work.measuring, gathered.vector)
    said = (
        f"{counted(gathered.nodes, 'node')} made a model of {'its' if gathered.nodes == 1 else 'their'} own"
    )
    name = "accuracy" if "accuracy" in found["personal"] else "rmse"
    own, before = found["personal"].get(name), found["global"].get(name)
    if own is None or before is None:
        return (said,)
    return (
        f"{said}: {name} {own:.4g} on {counted(found['rows'], 'held-out row')}, of the version {before:.4g}",
    )


def personal_work(plan: RunPlan) -> PersonalWork:
    """Return the work of the step; of fine_tune with its own number of epochs."""
    personal = personal_of(plan.run.options)
    assert personal is not None
    training = replace(train_work(plan), adaptive_learning=False)
    if personal.way == "fine_tune":
        training = replace(training, local_epochs=personal.epochs)
    return PersonalWork(personal.way, training)
