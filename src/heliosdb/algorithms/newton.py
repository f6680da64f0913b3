"""Newton steps: nodes add up loss, gradient and Hessian, and the coordinator moves the parameters.

What always holds: a step's answers are sums over all rows that are trained on, so that what the search finds
is the estimate of the pooled rows, whatever the split (Fisher scoring for canonical links: McCullagh and
Nelder 1989, section 2.5); under a budget each subject's part of them is bounded and noise is added
(private_newton.py). A run ends by itself: where the estimate no longer moves, or grows without end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, cast

import numpy as np

from heliosdb.algorithms.bounded_curvature import CurvatureLayout
from heliosdb.algorithms.checks import check_parameters, check_shape, check_target
from heliosdb.algorithms.coefficients import BY_DESCENT, FITTED, NOISED, PENALISED, UNFINISHED, Fit
from heliosdb.algorithms.curvature import MOST_PARAMETERS, Curvature, curvature_size
from heliosdb.algorithms.evaluation import EVALUATE
from heliosdb.algorithms.families import Family
from heliosdb.algorithms.newton_solver import Advance, Penalty, Search, advance
from heliosdb.algorithms.private_newton import (
    NoisyWork,
    check_noisy,
    layout_of,
    move_noisily,
    noisy_fault,
)
from heliosdb.algorithms.registry import Supervised, algorithm, classes_of
from heliosdb.algorithms.schedule import evaluates
from heliosdb.algorithms.stated import weight_fault
from heliosdb.algorithms.steps import Asked, Draws, Taken
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.works import PARAMETERS, scaling_of
from heliosdb.domain import bounds
from heliosdb.domain.bounds import Bounds
from heliosdb.domain.errors import ErrorCode, FederatedError, not_supported
from heliosdb.domain.events import Ended
from heliosdb.domain.findings import Findings, RunPlan
from heliosdb.domain.ids import StepName
from heliosdb.domain.settings import read_settings, settings_of, within
from heliosdb.domain.state import State, make_state
from heliosdb.domain.task import Scaling, Task, Work
from heliosdb.domain.update import Moved, Total, Update
from heliosdb.domain.vector import Contribution, Plain, Vector
from heliosdb.domain.wording import counted
from heliosdb.parts.algorithms import NetSettings, by_newton

NEWTON = StepName("newton")

INTERCEPT = "the intercept"


class Differentiable(Supervised, Protocol):
    """An algorithm whose loss has derivatives by the parameters that are sums over rows."""

    @property
    def family(self) -> Family:
        """Of what the losses are."""
        ...

    def curvature(self, table: Table, parameters: Vector, scaling: Scaling) -> Curvature:
        """Return loss, gradient and Hessian over the rows that are not held out."""
        ...

    def bounded_curvature(
        self, table: Table, parameters: Vector, scaling: Scaling, work: NoisyWork
    ) -> Contribution:
        """Return gradient and Hessian over these rows, each subject's clipped, for the door to add noise."""
        ...


@dataclass(frozen=True, slots=True)
class _NewtonSettings:
    classes: int = within(bounds.CLASSES)


@dataclass(frozen=True, slots=True)
class NewtonStep:
    """Loss, gradient and Hessian at the parameters; see curvature.py for the vector."""

    algorithm: str
    name: StepName = NEWTON
    required: bool = True
    gathers: Literal["sum"] = "sum"
    reads: Sequence[str] = ()
    moving: Sequence[str] = ()
    streams: bool = True
    adds_blocks: bool = True

    def ask(self, plan: RunPlan, state: State) -> Asked:
        """Ask at the parameters; nodes are not told how these were found."""
        parameters = state[PARAMETERS]
        if plan.findings.plan is not None:
            asked = NoisyWork.planned(plan).to_work(self.algorithm, self._layout(parameters.size - 1).size)
            return Asked(asked, plan.findings.scaling, make_state(**{PARAMETERS: parameters}))
        settings = settings_of(_NewtonSettings(len(classes_of(plan))))
        work = Work(self.algorithm, curvature_size(parameters.size), settings=settings)
        return Asked(work, plan.findings.scaling, make_state(**{PARAMETERS: parameters}))

    def fault(self, plan: RunPlan, work: Work, update: Update) -> str | None:
        """Say what no rows can have led to, or were not stated in round 0."""
        if work.privacy is not None:
            return noisy_fault(update.vector, work, NoisyWork.of(work).clipping_norm)
        found = Curvature.from_vector(update.vector, _parameters_of(work))
        fault = weight_fault(plan.stated, update) or found.fault()
        if fault is None and update.weight != found.rows:
            fault = (
                f"its weight {update.weight:g} is not that of the {counted(found.rows, 'row')} that it states"
            )
        return fault

    def rows(self, plan: RunPlan, update: Update) -> int | None:
        """Return None: held-out rows are not among them."""
        del plan, update
        return None

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """Move the parameters; FederatedError 22023 names inputs that are collinear."""
        assert isinstance(gathered, Total)
        old, scaling = state[PARAMETERS], plan.findings.scaling
        assert scaling is not None
        family = self._family
        if plan.findings.plan is not None:
            return self._read_noisily(plan, old, gathered)
        found = Curvature.from_vector(gathered.vector, old.size).times(family.unit(scaling))
        search = Search.from_state(old.ravel(), state)
        shift = _first_shift(family, search, found)
        if shift != 0.0:
            moved = make_state(**{PARAMETERS: np.r_[old[:-1], old[-1] + shift]})
            return Taken(moved, following=EVALUATE if evaluates(plan) else None)
        names = parameter_names(plan)
        step = advance(
            search,
            found,
            _penalty(plan, len(names)),
            names,
            most=parameter_bounds(family).most,
            dispersed=family.has_dispersion,
        )
        ended = ending(plan, step, names)
        findings = plan.findings if ended is None else replace(plan.findings, ended=ended)
        new = make_state(**{PARAMETERS: step.search.parameters.reshape(old.shape)}, **step.search.to_arrays())
        following = EVALUATE if evaluates(plan, ends=ended is not None) else None
        return Taken(new, findings, following=following)

    def _read_noisily(self, plan: RunPlan, old: Vector, gathered: Total) -> Taken:
        """Move the parameters by what noise leaves of the sums."""
        family, layout = self._family, self._layout(old.size - 1)
        within = parameter_bounds(family)
        made = move_noisily(plan, np.array(old), gathered, layout, family.link, within)
        findings = plan.findings if made.ended is None else replace(plan.findings, ended=made.ended)
        # An evaluation is reserved with its round: where one ends sooner than planned there is none.
        following = EVALUATE if evaluates(plan) else None
        return Taken(make_state(**{PARAMETERS: made.parameters}), findings, following=following)

    @property
    def _family(self) -> Family:
        return cast(Differentiable, algorithm(self.algorithm)).family

    def _layout(self, inputs: int) -> CurvatureLayout:
        return layout_of(self._family, inputs)

    def check(self, task: Task) -> None:
        """Refuse what no table could answer."""
        private = task.work.privacy is not None
        classes = (
            NoisyWork.of(task.work).classes
            if private
            else read_settings(_NewtonSettings, task.work.settings, exact=True).classes
        )
        check_target(self.algorithm, classes)
        scaling_of(task)
        check_parameters(task.state, task.n_inputs, classes, parameter_bounds(self._family))
        size = task.state[PARAMETERS].size
        check_size(size)
        if private:
            check_noisy(task, self._family)
        else:
            check_shape(task.work, curvature_size(size))

    def sensitivity(self, task: Task) -> float:
        """Return the clipping norm."""
        return NoisyWork.of(task.work).clipping_norm

    def least_rows(self, task: Task) -> int | None:
        """Return None: every sum is over all rows."""
        del task
        return None

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Return the sums."""
        del memory, draws
        method = cast(Differentiable, algorithm(self.algorithm))
        if task.work.privacy is not None:
            return method.bounded_curvature(
                table, task.state[PARAMETERS], scaling_of(task), NoisyWork.of(task.work)
            )
        method.check_target(table, read_settings(_NewtonSettings, task.work.settings).classes)
        found = method.curvature(table, task.state[PARAMETERS], scaling_of(task))
        return Contribution(found.to_vector(), found.rows, Plain())


def check_newton_run(plan: RunPlan) -> None:
    """Raise FederatedError for a run that cannot take Newton steps: 54000 for too many parameters; nothing
    for one that takes none."""
    options = plan.run.options
    newton = by_newton(options.algorithm, options.given)
    for role, _ in options.roles:
        if role != "event" and not newton:
            raise not_supported(f"the option {role} is not supported by optimizer sgd yet")
    if not newton:
        return
    check_size(max(1, len(classes_of(plan)) - 1) * (len(plan.inputs) + 1))


def check_size(parameters: int) -> None:
    """Raise FederatedError PROGRAM_LIMIT for more parameters than a Hessian may have."""
    if parameters > MOST_PARAMETERS:
        raise FederatedError(
            ErrorCode.PROGRAM_LIMIT,
            f"optimizer newton takes at most {MOST_PARAMETERS} parameters, and the model has {parameters}",
        )


def parameter_bounds(family: Family) -> Bounds:
    """Return where parameters lie: where rows weigh by their scores, not so far out that few are left."""
    return bounds.PARAMETER if family.has_dispersion else bounds.COEFFICIENT


def parameter_names(plan: RunPlan) -> list[str]:
    """Return how messages call the parameters, in the order of the Hessian."""
    one = [*plan.inputs, INTERCEPT]
    classes = classes_of(plan)
    return one if len(classes) <= 2 else [f"{label}: {name}" for label in classes[1:] for name in one]


def fit_of(state: State, findings: Findings, *, dispersed: bool) -> Fit:
    """Return what is known of how sure the estimates are."""
    reason = _withheld(state, findings)
    if reason is not None:
        return Fit(reason=reason)
    covariance = np.array(state["covariance"])
    if not dispersed:
        return Fit(covariance, reason=None)
    search = Search.from_state(np.ravel(state[PARAMETERS]), state)
    rows, _, loss = search.fit
    degrees = rows - int((covariance.diagonal() > 0.0).sum())
    if degrees < 1:
        return Fit(reason="there are no more rows than coefficients, so these have no standard errors")
    return Fit(covariance, degrees, None if loss > 0.0 else FITTED, dispersion=2.0 * loss / degrees)


def _withheld(state: State, findings: Findings) -> str | None:
    """Say why estimates have no standard errors; None where they have."""
    if findings.plan is not None:
        return NOISED
    if "search" not in state:
        return BY_DESCENT
    if "covariance" not in state:
        return PENALISED
    if findings.ended is None:
        return UNFINISHED
    return None if findings.ended.converged else findings.ended.reason


def _parameters_of(work: Work) -> int:
    """How many parameters an answer of that size is about."""
    return int(((8 * (work.size - 3) + 9) ** 0.5 - 3.0) / 2.0 + 0.5)


def _penalty(plan: RunPlan, parameters: int) -> Penalty:
    net, width = plan.run.options.settings(NetSettings), len(plan.inputs) + 1
    return Penalty(net.penalty, net.l1_ratio, (np.arange(parameters) % width != width - 1).astype(np.float64))


def _first_shift(family: Family, search: Search, found: Curvature) -> float:
    """How far the intercept of a logarithmic mean is off before the first step: exactly, for the sum of means
    is the second derivative by it. Newton steps would take about one round for every unit."""
    if family.link != "exp" or search.accepted is not None:
        return 0.0
    means = float(found.hessian[-1, -1])
    observed = means - float(found.gradient[-1])
    if not (means > 0.0 and observed > 0.0):
        return 0.0
    shift = math.log(observed / means)
    return shift if abs(shift) > 1.0 and parameter_bounds(family).hold(shift) else 0.0


def ending(plan: RunPlan, step: Advance, names: Sequence[str]) -> Ended | None:
    """Say why a search is over; None where it is not."""
    if not step.ended:
        return None
    if step.separated:
        grown = [names[place] for place in step.separated if not names[place].endswith(INTERCEPT)]
        of = f" of {', '.join(grown)}" if grown else ""
        return Ended(
            f"separation: the estimates{of} grow without end, since they settle the target of some rows; "
            f"those of round {plan.round} are kept, and have no standard errors",
            converged=False,
        )
    return Ended(f"the estimates no longer move after round {plan.round}")
