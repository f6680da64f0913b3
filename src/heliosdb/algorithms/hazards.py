"""Cox regression under a privacy budget: hazards that are constant within intervals of time.

What always holds: a subject takes part once in a round, and what it adds is no longer than the clipping norm;
intervals follow from what round 0 released and from no single row; ties and single times are told nowhere.

A partial likelihood is no sum over subjects: who is at risk with whom makes one subject a part of every
earlier event's term, so that no clipping of subjects bounds it. The likelihood of hazards exp(α_j + xβ) that
are constant within intervals is such a sum, of Poisson's form with the logarithm of the time at risk as an
offset (Holford 1980; Laird and Olivier 1981), and comes to the partial likelihood's estimate as intervals
become short; a few are enough, since β has little to do with the shape of the hazard within them. So a
private run estimates β and every α_j by the noisy Newton steps of noisy_newton.py.

Times count by their mean, up to a horizon, where those who are left are censored. Intervals are quantiles of
a gamma distribution of the released mean and spread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from heliosdb.algorithms.bounded_curvature import CurvatureLayout, Reach, Shares
from heliosdb.algorithms.bounded_sums import sum_bounded
from heliosdb.algorithms.checks import check_shape
from heliosdb.algorithms.columns import scale_columns
from heliosdb.algorithms.newton import check_size
from heliosdb.algorithms.noisy_newton import FURTHEST_SCORE
from heliosdb.algorithms.private_newton import lattice_of, move_noisily, noisy_fault, training_noise
from heliosdb.algorithms.steps import Asked, Draws, Taken
from heliosdb.algorithms.survival_step import NAME
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.works import PARAMETERS, one_noise, scaling_of
from heliosdb.domain import bounds
from heliosdb.domain.bounds import COEFFICIENT, Bounds
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.findings import RunPlan
from heliosdb.domain.ids import StepName
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.settings import outside, read_settings, settings_of, within
from heliosdb.domain.state import State, make_state
from heliosdb.domain.task import Privacy, Scaling, Task, Work
from heliosdb.domain.update import Moved, Total, Update
from heliosdb.domain.vector import ClippedSum, Contribution, Matrix, Vector
from heliosdb.privacy.clipping import fold

HAZARDS = StepName("hazards")
LEVELS_OF_TIME = "hazards"
"""The array of the state that holds α, the logarithm of the hazard in each interval; (J,)."""

INTERVALS = 5
_QUANTILES = tuple(0.18 * number for number in range(1, INTERVALS + 1))
_SHAPE = Bounds(0.25, 25.0)
_SHARES = Shares(0.5, 0.5)
_ENDS = Bounds(1e-6, 1e6)
_MOST_INTERVALS = 64


@dataclass(frozen=True, slots=True)
class HazardSettings:
    """ends: of the intervals, in units of `unit`; the first begins at 0. clipping_norm: of a subject."""

    ends: tuple[float, ...] = within(_ENDS)
    unit: float = within(bounds.SCALE)
    clipping_norm: float = within(bounds.CLIPPING_NORM)


def intervals_of(scaling: Scaling) -> tuple[float, tuple[float, ...]]:
    """Return the unit of time and the intervals' ends in it, from the released mean and spread of times."""
    # Where rows are read nothing needs it.
    from scipy.special import gammaincinv  # type: ignore[import-untyped]  # it has no stubs

    mean, spread = scaling.target_mean, scaling.target_scale
    if not mean > spread * 1e-3:
        # Noise has left no mean of times, which are not below 0.
        mean = spread
    shape = _SHAPE.clamp((mean / spread) ** 2)
    ends = tuple(_ENDS.clamp(float(gammaincinv(shape, one)) / shape) for one in _QUANTILES)
    return bounds.SCALE.clamp(mean), ends


@dataclass(frozen=True, slots=True)
class HazardStep:
    """Gradient and Hessian of the slopes and of the intervals' hazards, each subject's bounded; noised."""

    name: StepName = HAZARDS
    required: bool = True
    gathers: Literal["sum"] = "sum"
    reads: Sequence[str] = ()
    moving: Sequence[str] = ()
    streams: bool = True
    adds_blocks: bool = True

    def ask(self, plan: RunPlan, state: State) -> Asked:
        """Ask at the parameters."""
        scaling = plan.findings.scaling
        assert scaling is not None
        unit, ends = intervals_of(scaling)
        settings = HazardSettings(ends, unit, plan.run.policy.clipping_threshold)
        private = Privacy(Mechanism(training_noise(plan.findings.plan)), 1.0)
        size = _layout(len(plan.inputs), len(ends)).size
        work = Work(NAME, size, privacy=private, settings=settings_of(settings))
        told = {name: state[name] for name in (PARAMETERS, LEVELS_OF_TIME)}
        return Asked(work, scaling, make_state(**told))

    def fault(self, plan: RunPlan, work: Work, update: Update) -> str | None:
        """Say what no subjects and no noise can have led to."""
        del plan
        return noisy_fault(update.vector, work, _settings(work).clipping_norm)

    def rows(self, plan: RunPlan, update: Update) -> int | None:
        """Return None: the statistics tell them."""
        del plan, update
        return None

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """Move slopes and hazards by what noise leaves of the sums."""
        assert isinstance(gathered, Total)
        slopes, levels = state[PARAMETERS], state[LEVELS_OF_TIME]
        layout, old = _layout(slopes.size, levels.size), np.concatenate([slopes, levels])
        made = move_noisily(plan, old, gathered, layout, "exp", COEFFICIENT)
        findings = plan.findings if made.ended is None else replace(plan.findings, ended=made.ended)
        new = {PARAMETERS: made.parameters[: slopes.size], LEVELS_OF_TIME: made.parameters[slopes.size :]}
        return Taken(make_state(**new), findings, notes=_notes(plan) if plan.round == 1 else ())

    def check(self, task: Task) -> None:
        """Refuse what no table could answer."""
        given = _settings(task.work)
        noise = one_noise(task.work)
        if noise is None:
            raise invalid_value("hazards of intervals are asked for under a privacy budget alone")
        rising = all(one < other for one, other in zip(given.ends, given.ends[1:], strict=False))
        if not (0 < len(given.ends) <= _MOST_INTERVALS and rising):
            raise invalid_value("the intervals of time are none")
        if "event" not in dict(task.reading.roles):
            raise invalid_value(f"{NAME} reads a column with the role event")
        # Each row has a vector that grows with their square.
        check_size(task.n_inputs + len(given.ends))
        scaling_of(task)
        if sorted(task.state) != sorted((PARAMETERS, LEVELS_OF_TIME)):
            raise invalid_value("The task's state does not fit its algorithm and step.")
        _check_numbers(task.state[PARAMETERS], task.n_inputs)
        _check_numbers(task.state[LEVELS_OF_TIME], len(given.ends))
        size = _layout(task.n_inputs, len(given.ends)).size
        check_shape(task.work, size)
        lattice_of(noise, given.clipping_norm, size)

    def sensitivity(self, task: Task) -> float:
        """Return the clipping norm."""
        return _settings(task.work).clipping_norm

    def least_rows(self, task: Task) -> int | None:
        """Return None: every sum is over all rows."""
        del task
        return None

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Return the sums, each subject's clipped; the door adds the noise."""
        del memory, draws
        noise = one_noise(task.work)
        assert noise is not None
        slopes, levels, given = task.state[PARAMETERS], task.state[LEVELS_OF_TIME], _settings(task.work)
        return bounded_hazards(table.training(), slopes, levels, scaling_of(task), given, noise)


def bounded_hazards(  # noqa: PLR0917
    rows: Table, slopes: Vector, levels: Vector, scaling: Scaling, given: HazardSettings, noise: float
) -> Contribution:
    """Return gradient and Hessian over some rows; slopes: (p,), levels: (J,)."""
    layout, norm = _layout(slopes.size, levels.size), given.clipping_norm
    ends = np.array(given.ends)[:, None]
    widths = np.diff(ends, axis=0, prepend=0.0)

    def vectors_of(block: Table) -> Matrix:
        columns = scale_columns(block.features, scaling)[:-1]
        scores = fold(columns * slopes[:, None]) + levels[:, None]
        hazards = np.exp(np.minimum(np.maximum(scores, -FURTHEST_SCORE), FURTHEST_SCORE))
        with np.errstate(over="ignore"):
            times = np.minimum(np.maximum(block.target / given.unit, 0.0), _ENDS.most)
        at_risk = np.minimum(np.maximum(times - (ends - widths), 0.0), widths)
        # A time of 0 is in the first interval.
        inside = (times <= ends) & ((times > ends - widths) | (ends - widths == 0.0))
        happened = np.where(inside, np.fmin(np.fmax(block.roles["event"], 0.0), 1.0), 0.0)
        expected = hazards * at_risk
        most = fold(hazards * widths)
        reach = Reach(np.sqrt(np.square(most) + 1.0), most)
        counts = layout.case_weights(columns, reach, norm)
        return layout.row_vectors(columns, expected - happened, expected, counts)

    total = sum_bounded(rows, vectors_of, layout.size, norm, lattice_of(noise, norm, layout.size))
    return Contribution(total, 1.0, ClippedSum(norm, Mechanism(noise)))


def _layout(inputs: int, intervals: int) -> CurvatureLayout:
    return CurvatureLayout(inputs, intervals, _SHARES)


def _settings(work: Work) -> HazardSettings:
    return read_settings(HazardSettings, work.settings, exact=True)


def _notes(plan: RunPlan) -> Sequence[str]:
    assert plan.findings.scaling is not None
    unit, ends = intervals_of(plan.findings.scaling)
    horizon = f"times count by {len(ends)} intervals up to {unit * ends[-1]:.4g}"
    return (f"{horizon}, in each of which the hazard is constant; whoever is left then counts as censored",)


def _check_numbers(numbers: Vector, count: int) -> None:
    if numbers.dtype != np.float64 or numbers.shape != (count,):
        raise invalid_value("The task's parameters do not fit its algorithm and features.")
    inside = (numbers >= COEFFICIENT.least) & (numbers <= COEFFICIENT.most)
    if not np.all(inside):
        raise outside("a parameter", float(numbers[~inside][0]), COEFFICIENT)
