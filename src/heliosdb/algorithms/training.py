"""Local training: every node moves the parameters over its own rows, and answers how far.

What always holds: how much an update counts follows from what is public or was committed before it came (the
task under a budget, else the rows that its node stated in round 0), never from its own word; how far it can
move the model is bounded by its norm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Protocol, cast

import numpy as np

from heliosdb.algorithms.checks import check_training
from heliosdb.algorithms.described_inputs import statistics_work
from heliosdb.algorithms.evaluation import EVALUATE
from heliosdb.algorithms.features import block_count, private_noise
from heliosdb.algorithms.local_terms import LocalTerms
from heliosdb.algorithms.norms import NORMS, adapts, clipping_norm_of
from heliosdb.algorithms.optimizers import REACH, adam_reach
from heliosdb.algorithms.own_model import count_staying, train_own
from heliosdb.algorithms.own_terms import OwnTerms
from heliosdb.algorithms.pace import keep_pace, next_pace, read_pace
from heliosdb.algorithms.registry import Supervised, algorithm, classes_of, supervised
from heliosdb.algorithms.schedule import evaluates
from heliosdb.algorithms.stated import weight_fault
from heliosdb.algorithms.steps import Asked, Draws, Taken
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.works import (
    CONTROL,
    PARAMETERS,
    PrivateTraining,
    TrainWork,
    without_control,
)
from heliosdb.domain import bounds
from heliosdb.domain.descent import count_steps
from heliosdb.domain.errors import ErrorCode, FederatedError, not_supported
from heliosdb.domain.findings import PrivacyPlan, RunPlan
from heliosdb.domain.ids import StepName
from heliosdb.domain.privacy import Noise
from heliosdb.domain.run import Run, TrainingOptions
from heliosdb.domain.state import State, flatten, with_vector
from heliosdb.domain.task import Task, Work
from heliosdb.domain.update import DivergedError, Moved, Term, Total, Update, check_norm, norm
from heliosdb.domain.vector import Contribution, Vector
from heliosdb.parts.algorithms import DescentSettings, NetSettings, OptimizerSettings
from heliosdb.parts.personal import personal_of
from heliosdb.privacy.mechanisms import Secret

TRAIN = StepName("train")

_TAIL = 10.0
"""Standard deviations that chance exceeds less than once in 10²¹ times."""


class Trainable(Supervised, Protocol):
    """An algorithm whose parameters move by local descent."""

    def train(
        self,
        table: Table,
        parameters: Vector,
        work: TrainWork,
        rng: np.random.Generator,
        secret: Secret | None = None,
    ) -> Contribution:
        """Train on the rows that are not held out; the vector is the difference of the parameters."""
        ...

    def objective(self, table: Table, parameters: Vector, work: TrainWork) -> float:
        """Return what plain training descends on, but for `work.terms`: a mean over the same rows, of which
        there is one at least."""
        ...


@dataclass(frozen=True, slots=True)
class TrainStep:
    """Some epochs of descent from the global parameters.

    is_private: whether there is a private form of it.
    """

    noises: ClassVar[tuple[Noise, ...]] = ("gaussian", "laplacian")

    algorithm: str
    name: StepName = TRAIN
    required: bool = True
    gathers: Literal["rule"] = "rule"
    reads: Sequence[str] = ()
    moving: Sequence[str] = (PARAMETERS,)
    is_private: bool = True
    streams: bool = False
    streams_privately: bool = False
    adds_own_noise: bool = True

    def ask(self, plan: RunPlan, state: State) -> Asked:
        """Ask how far the parameters move."""
        work = train_work(plan)
        dtype = cast(Trainable, algorithm(self.algorithm)).dtype
        return Asked(work.to_work(flatten(state, self.moving).size, dtype), work.scaling, state)

    def fault(self, plan: RunPlan, work: Work, update: Update) -> str | None:
        """Say where the weight is not of rows that were stated; raise OversizedUpdateError for the norm."""
        parts = 2 if work.settings.get("control_variates") else 1
        norms = [norm(part) for part in np.split(update.vector, parts)]
        return _fault(plan, work, update, norms)

    def fault_of_term(self, plan: RunPlan, work: Work, term: Term) -> str | None:
        """As `fault`, of an update that was added to others: its weight and its length are all it takes."""
        return _fault(plan, work, term, term.norms)

    def rows(self, plan: RunPlan, update: Update) -> int | None:
        """Return None: held-out rows are not among them."""
        del plan, update
        return None

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """Take the new parameters; DivergedError where no task may carry them."""
        assert isinstance(gathered, Moved)
        check_combined(plan.round, gathered)
        following = NORMS if adapts(plan) else EVALUATE if evaluates(plan) else None
        return Taken(with_vector(state, self.moving, gathered.parameters), following=following)

    def check(self, task: Task) -> None:
        """Refuse what no table could answer."""
        check_training(task)
        layers = TrainWork.of(task).own.layers
        if layers is not None:
            count_staying(self.algorithm, task, layers)
        if task.work.privacy is not None and not self.is_private:
            raise not_supported(f"{self.algorithm} is not supported under a privacy_budget yet")

    def remembered(self, run: Run, told: Mapping[str, Any]) -> str | None:
        """Say what becomes of a node's earlier rounds in its next."""
        if told.get("control_variates"):
            return "their control variates"
        if own_terms(run.options):
            return "their own parts of the model"
        return "their pace" if run.options.given.get("adaptive_learning") else None

    def least_rows(self, task: Task) -> int | None:
        """Return the rows of a batch: the update is a sum over batches."""
        return TrainWork.of(task).batch_size

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Return how far the parameters moved."""
        work = TrainWork.of(task)
        model = without_control(task.state, work)
        method = cast(Trainable, supervised(self.algorithm).of(model, task.n_inputs))
        if work.privacy is None:
            check_steps(work, table.training_rows)
            method.check_target(table, work.classes)
        if work.control_variates:
            correction = task.state[CONTROL] - memory.get(CONTROL, np.zeros(task.state[CONTROL].size))
            shaped = correction.reshape(task.state[PARAMETERS].shape)
            work = replace(work, terms=LocalTerms(correction=shaped))
        if work.own:
            return train_own(method, table, task, work, memory, draws)
        if work.adaptive_learning:
            return _train_at_own_pace(method, table, task.state[PARAMETERS], work, memory, draws)
        moved = method.train(table, task.state[PARAMETERS], work, draws.rng(), draws.secret())
        return _with_variate(moved, work) if work.control_variates else moved


def _train_at_own_pace(  # noqa: PLR0917
    method: Trainable, table: Table, start: Vector, work: TrainWork, memory: State, draws: Draws
) -> Contribution:
    """Train with the part of the learning rate that the node has kept; that of its next round stays."""
    pace = read_pace(memory)
    made = method.train(table, start, replace(work, learning_rate=pace * work.learning_rate), draws.rng())
    moved = made.vector.reshape(start.shape)
    before, after = (method.objective(table, at, work) for at in (start, start + moved))
    return replace(made, stays=keep_pace(next_pace(pace, before, after + work.terms.value(moved))))


def _with_variate(moved: Contribution, work: TrainWork) -> Contribution:
    """Put the node's new control variate behind how far the parameters moved, and have it stay.

    It is the mean of the steps' gradients (option II of Karimireddy et al. 2020, algorithm 1): what the
    steps made, less the correction that was in each.
    """
    steps = count_steps(int(moved.weight), work.local_epochs, work.batch_size)
    assert work.terms.correction is not None
    variate = -moved.vector / (steps * work.learning_rate) - work.terms.correction.ravel()
    variate = variate.astype(moved.vector.dtype)
    return replace(moved, vector=np.concatenate([moved.vector, variate]), stays={CONTROL: variate})


def _fault(plan: RunPlan, work: Work, update: Update | Term, norms: Sequence[float]) -> str | None:
    """What is wrong with an update of these norms: of its move, and of a control variate where one is behind
    it. OversizedUpdateError where it is too long, or a single step along the control variate would be.
    """
    fault = weight_fault(plan.stated, update) if work.privacy is None else None
    if fault is not None:
        return fault
    most = largest_norm(plan, work.size // len(norms))
    if len(norms) > 1:
        check_norm(norms[0], most)
        check_norm(norms[1], most / plan.run.options.settings(DescentSettings).learning_rate)
        return None
    # Of a given norm nobody but who gave it knows for which updates it is meant.
    given = plan.run.options.max_update_norm is not None
    check_norm(norms[0], most if given else work.coding.reach(work.size) * most)
    return None


def check_steps(work: TrainWork, rows: int) -> None:
    """Raise FederatedError NODE_REFUSED for more steps of training than one task may take."""
    steps = work.local_epochs * -(-rows // work.batch_size)
    if not bounds.STEPS.hold(max(1, steps)):
        raise FederatedError(
            ErrorCode.NODE_REFUSED, f"the task takes more than {bounds.STEPS.most:.0f} steps of training"
        )


def train_work(plan: RunPlan) -> TrainWork:
    """Return the work of a training round; scaling and privacy plan are known after round 0."""
    scaling, made = plan.findings.scaling, plan.findings.plan
    assert scaling is not None
    descent, net = plan.run.options.settings(DescentSettings), plan.run.options.settings(NetSettings)
    return TrainWork(
        algorithm=plan.run.options.algorithm,
        scaling=scaling,
        classes=len(classes_of(plan)),
        local_epochs=descent.local_epochs,
        batch_size=descent.batch_size,
        learning_rate=descent.learning_rate,
        privacy=None if made is None else private_training(plan, made),
        optimizer=plan.run.options.settings(OptimizerSettings).optimizer,
        penalty=net.penalty,
        l1_ratio=net.l1_ratio,
        adaptive_learning=descent.adaptive_learning,
        own=own_terms(plan.run.options),
    )


def own_terms(options: TrainingOptions) -> OwnTerms:
    """Return what nodes train for themselves in each round."""
    personal = personal_of(options)
    if personal is None or not personal.goes_along:
        return OwnTerms()
    return OwnTerms(personal.layers) if personal.way == "local_head" else OwnTerms(term=personal.term)


def private_training(plan: RunPlan, made: PrivacyPlan) -> PrivateTraining:
    """Return the DP-SGD of a training round."""
    assert made.training_noise is not None
    assert made.sampling_rate is not None
    assert made.steps is not None
    assert made.expected_subjects is not None
    return PrivateTraining(
        noise_multiplier=made.training_noise,
        clipping_norm=clipping_norm_of(plan, made),
        sampling_rate=made.sampling_rate,
        steps=made.steps,
        expected_subjects=made.expected_subjects,
        noise=plan.run.policy.noise,
    )


def check_combined(number: int, moved: Moved) -> None:
    """Raise DivergedError, naming the largest update, where no task may carry the result."""
    within = bounds.PARAMETER
    if np.all((moved.parameters >= within.least) & (moved.parameters <= within.most)):
        return
    message = f"training diverged in round {number}"
    if moved.largest is not None:
        node, norm = moved.largest
        message += f": the largest update is node {node}'s (norm {norm:.3g})"
    raise DivergedError(message)


def largest_norm(plan: RunPlan, size: int) -> float:
    """Return max_update_norm, else what no honest training meets.

    Inputs are scaled, so plain training that has not diverged stays orders of magnitude below UPDATE_NORM.
    Private training is moved by noise too, and may honestly go further: see `private_reach`.
    """
    given, made, nodes = plan.run.options.max_update_norm, plan.findings.plan, len(plan.stated)
    if given is not None:
        return given
    if made is None:
        return bounds.UPDATE_NORM
    privacy = private_training(plan, made)
    whole = nodes * privacy.expected_subjects / (1.0 - plan.run.options.validation_split)
    work = statistics_work(plan)
    blocks = block_count(len(plan.inputs), work)
    whole += _TAIL * private_noise(blocks, work, max(1, nodes))
    rate = plan.run.options.settings(DescentSettings).learning_rate
    optimizer = plan.run.options.settings(OptimizerSettings).optimizer
    if optimizer == "adam":
        return bounds.UPDATE_NORM + adam_reach(rate, privacy.steps, size)
    return bounds.UPDATE_NORM + REACH[optimizer] * private_reach(privacy, rate, size, whole)


def private_reach(privacy: PrivateTraining, learning_rate: float, size: int, subjects: float) -> float:
    """Return an L2 norm that a DP-SGD update of `size` values at a node of at most `subjects` never meets.

    The update is the sum over T steps of learning_rate / (q N) x (clipped gradients + noise).

    No clipped gradient is longer than C, so all together are no longer than C times the subjects sampled,
    which are binomial with mean m = q T subjects: by Bernstein's inequality more than m + 10 √m + 100 with
    probability below e⁻⁵⁰. The noise of T steps is Gaussian, its deviation at most 2 σ C √T a value (the
    lattice's slack at most doubles it): longer than 2 σ C √T (√size + 10) with probability below e⁻⁵⁰
    (Laurent and Massart 2000, lemma 1). Of Laplace noise of scale b = σ C the sum of T draws is beyond b (√(8
    T x) + √8 x) with probability below 2 e⁻ˣ (its moments are below exp(2 b² t² T) for t up to 1/(√2 b)); x =
    60 + log(size) covers every value. N is the nodes' mean, so that a node with all subjects of the
    federation reaches further than the others: hence `subjects` is the federation's count, its own noise on
    top.
    """
    sampled = privacy.sampling_rate * privacy.steps * subjects
    clipped = sampled + _TAIL * math.sqrt(sampled) + _TAIL**2
    noise = 2.0 * privacy.noise_multiplier * math.sqrt(privacy.steps) * (math.sqrt(size) + _TAIL)
    if privacy.noise == "laplacian":
        far = 60.0 + math.log(size)
        reach = math.sqrt(8.0 * privacy.steps * far) + math.sqrt(8.0) * far
        noise = 2.0 * privacy.noise_multiplier * math.sqrt(size) * reach
    denominator = privacy.sampling_rate * privacy.expected_subjects
    return learning_rate * privacy.clipping_norm / denominator * (clipped + noise)
