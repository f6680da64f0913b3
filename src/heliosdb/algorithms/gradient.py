"""Training where the noise of a sum is shared: one gradient a round, and one step at the coordinator.

What always holds: what a node answers is the sum of clipped gradients over a Poisson sample of its subjects,
at the task's parameters, in whole steps of the noise's lattice; noise is added at the door. So the sum over
all nodes is one release of the Gaussian mechanism over a Poisson sample of all subjects (DP-SGD with the
batch spread over nodes; FedSGD of McMahan et al. 2017). With more than one step a node would have to noise
what it goes on from, and shares of that noise are no noise.

The move. The sum is divided by what is fixed before: sampling_rate x expected_subjects for each node that is
in the sum. Its learning_rate-th part, with the sign turned, is the update that the run's rule combines, so
that a server's optimizer (fedopt, fedadam) takes it as it takes any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, cast

from heliosdb.algorithms.checks import check_shape, check_target
from heliosdb.algorithms.columns import clamp_parameters
from heliosdb.algorithms.evaluation import EVALUATE
from heliosdb.algorithms.norms import NORMS, adapts, clipping_norm_of
from heliosdb.algorithms.private_layered import layered_rows
from heliosdb.algorithms.private_layers import Shape
from heliosdb.algorithms.registry import Supervised, classes_of, supervised
from heliosdb.algorithms.schedule import evaluates
from heliosdb.algorithms.steps import Asked, Draws, Taken
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.training import check_combined, private_training
from heliosdb.algorithms.works import PARAMETERS, scaling_of
from heliosdb.domain import bounds
from heliosdb.domain.errors import invalid_value, not_supported
from heliosdb.domain.findings import RunPlan
from heliosdb.domain.ids import StepName
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.settings import outside, read_settings, settings_of, within
from heliosdb.domain.state import State, flatten, with_vector
from heliosdb.domain.task import Privacy, Scaling, Task, Work
from heliosdb.domain.update import Moved, Total, Update
from heliosdb.domain.vector import ClippedSum, Contribution, Vector
from heliosdb.parts.algorithms import learning_rate_of
from heliosdb.privacy.mechanisms import Lattice, Secret

GRADIENT = StepName("gradient")


@dataclass(frozen=True, slots=True)
class _GradientSettings:
    classes: int = within(bounds.CLASSES)
    clipping_norm: float = within(bounds.CLIPPING_NORM)


@dataclass(frozen=True, slots=True)
class GradientWork:
    """The sum of clipped gradients over a Poisson sample. classes: of the target, 0 where it is a number."""

    algorithm: str
    scaling: Scaling
    noise_multiplier: float
    sampling_rate: float
    clipping_norm: float
    classes: int

    @classmethod
    def of(cls, task: Task) -> GradientWork:
        """Read the envelope; FederatedError INVALID_VALUE for what is none."""
        work, given = task.work, read_settings(_GradientSettings, task.work.settings, exact=True)
        if work.privacy is None:
            raise invalid_value("single gradients are summed under a privacy budget alone")
        mechanism = work.privacy.mechanism
        asked = Mechanism(mechanism.noise_multiplier, mechanism.sampling_rate)
        if work.privacy != Privacy(asked, 1.0):
            raise invalid_value("a sum of gradients is neither repeated nor weighted")
        for name, number, allowed in (
            ("noise_multiplier", asked.noise_multiplier, bounds.NOISE_MULTIPLIER),
            ("sampling_rate", asked.sampling_rate, bounds.SAMPLING_RATE),
        ):
            if not allowed.hold(number):
                raise outside(name, number, allowed)
        return cls(
            work.algorithm,
            scaling_of(task),
            asked.noise_multiplier,
            asked.sampling_rate,
            given.clipping_norm,
            given.classes,
        )

    @property
    def mechanism(self) -> Mechanism:
        """What the sum costs, whose whole noise that of the nodes adds up to."""
        return Mechanism(self.noise_multiplier, self.sampling_rate)

    def to_work(self, size: int) -> Work:
        """Write the envelope. size: of the parameters."""
        settings = settings_of(_GradientSettings(self.classes, self.clipping_norm))
        return Work(self.algorithm, size, privacy=Privacy(self.mechanism, 1.0), settings=settings)


class Differentiable(Supervised, Protocol):
    """An algorithm of whose subjects clipped gradients can be summed."""

    def sum_gradients(
        self, table: Table, parameters: Vector, work: GradientWork, secret: Secret
    ) -> Contribution:
        """Over the rows that are not held out; a ClippedSum of `clipping_norm`, of weight 1."""
        ...


@dataclass(frozen=True, slots=True)
class GradientStep:
    """One step of descent on the sum of all nodes' gradients."""

    algorithm: str
    name: StepName = GRADIENT
    required: bool = True
    gathers: Literal["rule"] = "rule"
    reads: Sequence[str] = ()
    moving: Sequence[str] = (PARAMETERS,)
    is_private: bool = True
    streams: bool = False

    def ask(self, plan: RunPlan, state: State) -> Asked:
        """Ask for the sum at the parameters as they are."""
        work = gradient_work(plan)
        return Asked(work.to_work(flatten(state, self.moving).size), work.scaling, state)

    def fault(self, plan: RunPlan, work: Work, update: Update) -> str | None:
        """Return None: single answers are not seen where noise is shared."""
        del plan, work, update
        return None

    def rows(self, plan: RunPlan, update: Update) -> int | None:
        """Return None: how many were sampled is not told."""
        del plan, update
        return None

    def scaled(self, plan: RunPlan, total: Total) -> Total:
        """Return the sum of moves: the mean gradient of each node's subjects, times minus the step size."""
        made = plan.findings.plan
        assert made is not None and made.expected_subjects is not None and made.sampling_rate is not None
        rate = learning_rate_of(plan.run, clipping_norm_of(plan, made))
        assert rate is not None
        factor = -rate / (made.sampling_rate * made.expected_subjects)
        return replace(total, vector=factor * total.vector)

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """Take the new parameters; DivergedError where no task may carry them."""
        assert isinstance(gathered, Moved)
        check_combined(plan.round, gathered)
        following = NORMS if adapts(plan) else EVALUATE if evaluates(plan) else None
        return Taken(with_vector(state, self.moving, gathered.parameters), following=following)

    def check(self, task: Task) -> None:
        """Refuse what no table could answer."""
        if not self.is_private:
            raise not_supported(f"{self.algorithm} is not supported under a privacy_budget yet")
        work = GradientWork.of(task)
        check_target(work.algorithm, work.classes)
        supervised(work.algorithm).check_state(task.state, task.n_inputs, work.classes)
        check_shape(task.work, task.state[PARAMETERS].size)
        Lattice.of(work.clipping_norm, work.noise_multiplier, task.work.size)

    def sensitivity(self, task: Task) -> float:
        """Return the norm of what a subject adds."""
        return GradientWork.of(task).clipping_norm

    def least_rows(self, task: Task) -> int | None:
        """Return None: it is never plain."""
        del task
        return None

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Return the sum."""
        del memory
        method = cast(Differentiable, supervised(self.algorithm).of(task.state, task.n_inputs))
        return method.sum_gradients(table, task.state[PARAMETERS], GradientWork.of(task), draws.secret())


def sum_layer_gradients(
    shape: Shape, rows: Table, parameters: Vector, work: GradientWork, secret: Secret
) -> Contribution:
    """Sum the clipped gradients over all layers of a Poisson sample of subjects, at parameters (k,).

    rows: those that are not held out. The products of whole numbers are added up exactly and rounded to the
    lattice once (private_layers.py), so the sum is one of lattice steps as that of a model of one score is.
    """
    lattice = Lattice.of(work.clipping_norm, work.noise_multiplier, parameters.size)
    norm = work.clipping_norm
    held = layered_rows(shape, rows, work.scaling, work.classes, clipping_norm=norm, lattice=lattice)
    taken = secret.poisson_sample(held.subjects, work.sampling_rate)
    total = lattice.total(held.gradient_steps(taken, clamp_parameters(parameters)))
    return Contribution(total, 1.0, ClippedSum(work.clipping_norm, work.mechanism))


def gradient_work(plan: RunPlan) -> GradientWork:
    """Return the work of a training round; scaling and privacy plan are known after round 0."""
    scaling, made = plan.findings.scaling, plan.findings.plan
    assert scaling is not None and made is not None
    training = private_training(plan, made)
    return GradientWork(
        plan.run.options.algorithm,
        scaling,
        training.noise_multiplier,
        training.sampling_rate,
        training.clipping_norm,
        len(classes_of(plan)),
    )
