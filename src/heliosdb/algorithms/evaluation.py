"""Loss and accuracy over the held-out subjects of all nodes.

What always holds: a round stands without its evaluation; figures that noise or absence leave undefined are
None, and of those that noise has left no use for the round's message says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, cast

from heliosdb.algorithms.answers import evaluation_fault
from heliosdb.algorithms.checks import check_evaluation
from heliosdb.algorithms.own_model import count_staying, with_head
from heliosdb.algorithms.private_measuring import read_evaluation
from heliosdb.algorithms.registry import Supervised, classes_of, supervised
from heliosdb.algorithms.stated import weight_fault
from heliosdb.algorithms.steps import Asked, Draws, Taken
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.works import PARAMETERS, EvaluateWork
from heliosdb.domain.errors import not_supported
from heliosdb.domain.findings import RunPlan
from heliosdb.domain.ids import StepName
from heliosdb.domain.privacy import Noise
from heliosdb.domain.state import State, told_of
from heliosdb.domain.task import Task, Work
from heliosdb.domain.update import Moved, Total, Update
from heliosdb.domain.vector import Contribution, Vector
from heliosdb.parts.personal import local_layers

EVALUATE = StepName("evaluate")


class Evaluable(Supervised, Protocol):
    """An algorithm whose parameters can be measured on rows."""

    def evaluate(self, table: Table, parameters: Vector, work: EvaluateWork) -> Contribution:
        """Measure the parameters on the held-out rows, as sums."""
        ...


@dataclass(frozen=True, slots=True)
class EvaluateStep:
    """One measurement of the parameters that a round has led to.

    is_private: whether there is a private form of it. told: the arrays of the state that nodes are told, None
    for all; what else a state holds is how these were found.
    """

    noises: ClassVar[tuple[Noise, ...]] = ("gaussian", "laplacian")

    algorithm: str
    name: StepName = EVALUATE
    required: bool = False
    gathers: Literal["sum"] = "sum"
    reads: Sequence[str] = ()
    moving: Sequence[str] = ()
    is_private: bool = True
    told: Sequence[str] | None = None
    streams: bool = False
    streams_privately: bool = False
    adds_blocks: bool = False

    def ask(self, plan: RunPlan, state: State) -> Asked:
        """Ask for the sums of loss and quality."""
        work = evaluate_work(plan)
        return Asked(work.to_work(), work.scaling, told_of(state, self.told))

    def fault(self, plan: RunPlan, work: Work, update: Update) -> str | None:
        """Say what no rows can have led to, or were not stated in round 0."""
        fault = evaluation_fault(update.vector, update.weight, evaluate_work(plan))
        return fault or (weight_fault(plan.stated, update) if work.privacy is None else None)

    def rows(self, plan: RunPlan, update: Update) -> int | None:
        """Return None: these are the held-out ones only."""
        del plan, update
        return None

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """Return loss and accuracy over all nodes."""
        assert isinstance(gathered, Total)
        if gathered.nodes == 0:
            return Taken(state)
        found = read_evaluation(gathered.vector, evaluate_work(plan), gathered.noise_variance)
        return Taken(state, figures=found.figures, notes=found.notes)

    def check(self, task: Task) -> None:
        """Refuse what no table could answer."""
        check_evaluation(task)
        layers = EvaluateWork.of(task).local_layers
        if layers is not None:
            count_staying(self.algorithm, task, layers)
        if task.work.privacy is not None and not self.is_private:
            raise not_supported(f"{self.algorithm} is not supported under a privacy_budget yet")

    def sensitivity(self, task: Task) -> float:
        """Return the norm of what a subject adds."""
        work = EvaluateWork.of(task)
        return work.measure.boxes.norm(work.noise)

    def least_rows(self, task: Task) -> int | None:
        """Return None: every sum is over all held-out rows."""
        del task
        return None

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Return the sums."""
        del draws
        work = EvaluateWork.of(task)
        task = with_head(self.algorithm, task, memory, work.local_layers)
        method = cast(Evaluable, supervised(self.algorithm).of(task.state, task.n_inputs))
        if work.noise_multiplier is None:
            method.check_target(table, work.classes)
        return method.evaluate(table, task.state[PARAMETERS], work)


def evaluate_work(plan: RunPlan) -> EvaluateWork:
    """Return the work of an evaluation."""
    scaling, made = plan.findings.scaling, plan.findings.plan
    assert scaling is not None
    noise = None if made is None else made.evaluation_noise
    algorithm, classes = plan.run.options.algorithm, len(classes_of(plan))
    return EvaluateWork(
        algorithm,
        scaling,
        noise,
        classes=classes,
        noise=plan.run.policy.noise,
        local_layers=local_layers(plan.run.options),
    )
