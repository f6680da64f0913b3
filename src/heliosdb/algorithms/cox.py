"""Cox regression: proportional hazards, by Newton steps on sums over a grid of times.

What always holds: the parameters are coefficients of scaled inputs, without an intercept; ties are Breslow's.
Round 0 ends with the grid: after the statistics nodes are asked of which cells they can answer until they can
of all (survival_grid.py), and then for the events in each. Under a budget hazards.py takes the place of that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from heliosdb.algorithms.binning import BINS, BinsStep, first_of_round_0
from heliosdb.algorithms.budget_plan import prepare
from heliosdb.algorithms.checks import check_rows
from heliosdb.algorithms.coefficients import Units, describe_coefficients
from heliosdb.algorithms.hazards import HAZARDS, INTERVALS, LEVELS_OF_TIME, HazardStep
from heliosdb.algorithms.levels import LEVELS, LevelsStep
from heliosdb.algorithms.linear import scale_inputs
from heliosdb.algorithms.newton import NEWTON, check_newton_run, check_size, ending, fit_of
from heliosdb.algorithms.newton_solver import Penalty, Search, advance
from heliosdb.algorithms.private_newton import training_noise
from heliosdb.algorithms.refinement import REFINE, RefineStep
from heliosdb.algorithms.sql import linear_prediction
from heliosdb.algorithms.stated import weight_fault
from heliosdb.algorithms.statistics import STATISTICS, StatisticsStep
from heliosdb.algorithms.steps import REPORT, Asked, Cost, Draws, Step, Taken
from heliosdb.algorithms.survival import survival_curvature, survival_fault, survival_size, survival_sums
from heliosdb.algorithms.survival_grid import (
    LEAVES,
    Leaves,
    are_starts,
    demand_answerable,
    join_cells,
    keep_events,
    leaf_width,
    leaves_of,
    unanswerable,
)
from heliosdb.algorithms.survival_report import SurvivalReportStep
from heliosdb.algorithms.survival_step import (
    NAME,
    GridSettings,
    SurvivalStep,
    check_coefficients,
    check_survivors,
)
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.transfer import Carried
from heliosdb.algorithms.transferred_scores import carry_hazards
from heliosdb.algorithms.vocabulary import VOCABULARY, VocabularyStep, costs_of_levels
from heliosdb.algorithms.works import PARAMETERS, scaling_of
from heliosdb.domain.bounds import COEFFICIENT, ROWS
from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value, not_supported
from heliosdb.domain.findings import Findings, RunPlan
from heliosdb.domain.ids import StepName
from heliosdb.domain.origin import Origin
from heliosdb.domain.prediction import Prediction
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.settings import read_settings
from heliosdb.domain.state import State, make_state
from heliosdb.domain.task import Task, Work
from heliosdb.domain.update import Moved, Total, Update
from heliosdb.domain.vector import Contribution, Plain
from heliosdb.domain.wording import counted
from heliosdb.parts.algorithms import NetSettings, by_newton

GRID, TIMES = StepName("grid"), StepName("times")
STARTS, EVENTS = "starts", "events"
"""Arrays of the state: the leaf at which each cell starts, and the events in it over all nodes."""

_OF_TIMES = 4
"""Values for each cell: events, rows, and the sums of their times in it and of the squares of these."""

_TOLERANCE = 1e-9

_EVERY_LEAF: Leaves = np.arange(LEAVES, dtype=np.int64)


def is_count(weight: float) -> bool:
    """Whether a weight is a number of rows that a node may have."""
    return ROWS.hold(weight) and weight.is_integer()


def _starts_of(task: Task) -> Leaves:
    """The starts of a task's cells, every leaf where it names none; FederatedError for what is no grid."""
    listed = read_settings(GridSettings, task.work.settings, exact=True).starts
    if listed is None:
        return _EVERY_LEAF
    starts = np.array(listed, dtype=np.int64)
    if not are_starts(starts):
        raise invalid_value("The task's grid of times is none.")
    return starts


def demand_same_cells(memory: State, starts: Leaves) -> None:
    """Raise FederatedError NODE_REFUSED for cells that are not made of those that the run began with.

    Two grids may differ by a few rows, about which the difference of their answers would be.
    """
    known = memory.get(STARTS)
    if known is not None and not bool(np.isin(starts, known).all()):
        raise FederatedError(
            ErrorCode.NODE_REFUSED, "the grid of times is not the one that the run began with"
        )


@dataclass(frozen=True, slots=True)
class GridStep(SurvivalStep):
    """Of which cells a node cannot answer: 1 for each, behind the number of rows."""

    name: StepName = GRID

    def ask(self, plan: RunPlan, state: State) -> Asked:
        """Ask about every leaf, and then about what was joined."""
        starts = state.get(STARTS)
        return self._ask(plan, 1 + (LEAVES if starts is None else starts.size), starts)

    def fault(self, plan: RunPlan, work: Work, update: Update) -> str | None:
        """Say that an answer is neither yes nor no for each cell, behind the node's rows."""
        del plan, work
        if update.weight != float(update.vector[0]) or not is_count(update.weight):
            return f"its weight {update.weight:g} is not that of its rows"
        is_flag = np.isin(update.vector[1:], (0.0, 1.0))
        return None if bool(is_flag.all()) else "of a cell it says neither yes nor no"

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """Join cells and ask again; where all can be answered, ask for the events in them."""
        assert isinstance(gathered, Total)
        starts, refused = state.get(STARTS, _EVERY_LEAF), gathered.vector[1:] > 0.0
        if not refused.any():
            return Taken(make_state(**{STARTS: starts}), following=TIMES)
        joined = join_cells(starts, refused)
        if joined.size == starts.size:
            raise FederatedError(
                ErrorCode.INVALID_VALUE,
                "at some node too few data subjects had the event, or too few did not",
            )
        return Taken(make_state(**{STARTS: joined}), following=GRID)

    def check(self, task: Task) -> None:
        """Refuse what no table could answer."""
        starts = _starts_of(task)
        self._check(task, [], 1 + starts.size)

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Say of which cells there are too few subjects for an answer."""
        del memory, draws
        rows = _survivors(table)
        found = unanswerable(rows, _starts_of(task), scaling_of(task), empty=False)
        return Contribution(np.r_[float(rows.rows), found], float(rows.rows), Plain())


@dataclass(frozen=True, slots=True)
class TimesStep(SurvivalStep):
    """The events in each cell, and whether all its rows leave at one time."""

    name: StepName = TIMES

    def ask(self, plan: RunPlan, state: State) -> Asked:
        """Ask about every cell."""
        return self._ask(plan, _OF_TIMES * state[STARTS].size, state[STARTS])

    def fault(self, plan: RunPlan, work: Work, update: Update) -> str | None:
        """Say that counts are not of these rows, or that sums of times are of none of them."""
        del plan, work
        events, rows, times, squares = update.vector.reshape(_OF_TIMES, -1)
        counts = np.concatenate([events, rows, rows - events])
        if not (bool((counts >= 0.0).all()) and bool((counts == np.rint(counts)).all())):
            return "its counts of events are not those of rows"
        if float(rows.sum()) > update.weight or not is_count(update.weight):
            return f"its weight {update.weight:g} is not that of its rows"
        within = (times >= 0.0) & (times <= LEAVES * rows) & (squares >= 0.0) & (squares <= LEAVES**2 * rows)
        return None if bool(within.all()) else "its times are not those of its rows"

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """Keep the cells with events, and begin; FederatedError 22023 where there are none."""
        assert isinstance(gathered, Total)
        events, rows, times, squares = gathered.vector.reshape(_OF_TIMES, -1)
        if not (events > 0.0).any():
            raise FederatedError(ErrorCode.INVALID_VALUE, "no row has the event: there is nothing to learn")
        starts, is_whole = keep_events(state[STARTS], events)
        of = np.searchsorted(starts, state[STARTS], side="right") - 1
        counted = np.bincount(of[of >= 0], weights=events[of >= 0], minlength=starts.size)
        there = np.maximum(rows, 1.0)
        means = times / there
        is_one = squares / there - np.square(means) <= _TOLERANCE * (1.0 + np.square(means))
        is_exact = is_whole and bool(is_one[events > 0.0].all())
        width = leaf_width(scaling_of_plan(plan))
        note = (
            f"the hazard is of {starts.size} distinct times with events"
            if is_exact
            else f"times count by {starts.size} intervals, in each of which every node has enough rows, in"
            f" steps of {width:g}"
        )
        arrays = {PARAMETERS: np.zeros(len(plan.inputs)), STARTS: starts, EVENTS: counted}
        return Taken(make_state(**arrays), notes=(note,))

    def check(self, task: Task) -> None:
        """Refuse what no table could answer."""
        starts = _starts_of(task)
        self._check(task, [], _OF_TIMES * starts.size)

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Return the sums; a grid that is too fine, or another than before in the run, is refused."""
        del draws
        rows, starts, scaling = _survivors(table), _starts_of(task), scaling_of(task)
        demand_same_cells(memory, starts)
        demand_answerable(rows, starts, scaling)
        leaves = leaves_of(rows.target, scaling)
        places = np.searchsorted(starts, leaves, side="right") - 1
        own = places >= 0
        within = np.minimum(rows.target / leaf_width(scaling), LEAVES) - starts[places]
        columns = (rows.roles["event"], np.ones(rows.rows), within, np.square(within))
        sums = [np.bincount(places[own], weights=one[own], minlength=starts.size) for one in columns]
        return Contribution(np.concatenate(sums), float(rows.rows), Plain(), stays={STARTS: starts})


@dataclass(frozen=True, slots=True)
class CoxNewtonStep(SurvivalStep):
    """The sums of survival.py at the parameters."""

    name: StepName = NEWTON

    def ask(self, plan: RunPlan, state: State) -> Asked:
        """Ask at the parameters; nodes are not told how these were found."""
        told = make_state(**{PARAMETERS: state[PARAMETERS]})
        size = survival_size(state[PARAMETERS].size, state[STARTS].size)
        return self._ask(plan, size, state[STARTS], told)

    def fault(self, plan: RunPlan, work: Work, update: Update) -> str | None:
        """Say what no rows can have led to."""
        rows, events = map(float, update.vector[:2])
        if not (update.weight == rows >= events >= 0.0 and events.is_integer()):
            return (
                f"{counted(events, 'event')} cannot be of {counted(rows, 'row')}, or its weight is not theirs"
            )
        return weight_fault(plan.stated, update) or survival_fault(update.vector, len(plan.inputs))

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """Move the parameters; FederatedError 22023 names inputs that are collinear."""
        assert isinstance(gathered, Total)
        parameters, net = state[PARAMETERS], plan.run.options.settings(NetSettings)
        found = survival_curvature(gathered.vector, parameters, state[EVENTS])
        penalty = Penalty(net.penalty, net.l1_ratio, np.ones(parameters.size))
        search, names = Search.from_state(np.array(parameters), state), list(plan.inputs)
        step = advance(search, found, penalty, names, most=COEFFICIENT.most, dispersed=False)
        ended = ending(plan, step, names)
        findings = plan.findings if ended is None else replace(plan.findings, ended=ended)
        kept = {PARAMETERS: step.search.parameters, STARTS: state[STARTS], EVENTS: state[EVENTS]}
        return Taken(make_state(**kept, **step.search.to_arrays()), findings)

    def check(self, task: Task) -> None:
        """Refuse what no table could answer."""
        starts = _starts_of(task)
        self._check(task, [PARAMETERS], survival_size(task.n_inputs, starts.size))
        check_coefficients(task)

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Return the sums; a grid that is too fine, or another than before in the run, is refused."""
        del draws
        rows, starts, scaling = _survivors(table), _starts_of(task), scaling_of(task)
        demand_same_cells(memory, starts)
        demand_answerable(rows, starts, scaling)
        with np.errstate(over="ignore", invalid="ignore"):
            inputs = scale_inputs(rows.features, scaling)[:, :-1]
            sums = survival_sums(inputs, rows, task.state[PARAMETERS], starts, scaling)
        return Contribution(sums, float(rows.rows), Plain())


class _SurvivalStatistics(StatisticsStep):
    """Round 0's statistics, after which the grid is looked for."""

    __slots__ = ()

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """Turn the sums into a scaling, and go on to the grid, for which a private run has no use."""
        taken = super().read(plan, state, gathered)
        return taken if plan.findings.plan is not None else replace(taken, following=GRID)


def scaling_of_plan(plan: RunPlan) -> Any:
    """The scaling that round 0 has found."""
    assert plan.findings.scaling is not None
    return plan.findings.scaling


def _survivors(table: Table) -> Table:
    """The rows that are trained on; FederatedError 22023 for times and events that are none."""
    check_survivors(table)
    rows = table.training()
    check_rows(rows.rows)
    return rows


@dataclass(frozen=True, slots=True)
class CoxRegression:
    """See the module."""

    name: str = NAME

    @property
    def steps(self) -> Mapping[StepName, Step]:
        """Levels, statistics and the grid in round 0, then a Newton step a round; in the end a report."""
        return {
            BINS: BinsStep(self.name),
            LEVELS: LevelsStep(self.name),
            VOCABULARY: VocabularyStep(self.name),
            STATISTICS: _SurvivalStatistics(self.name, streams=True, adds_blocks=True),
            REFINE: RefineStep(self.name, streams=True, adds_blocks=True),
            GRID: GridStep(),
            TIMES: TimesStep(),
            NEWTON: CoxNewtonStep(),
            HAZARDS: HazardStep(),
            REPORT: SurvivalReportStep(),
        }

    def prepare(self, plan: RunPlan) -> Findings:
        """Refuse what there is no form of: descent, runs without an event, a penalty under a budget."""
        options = plan.run.options
        if plan.run.policy.budget is not None and options.given.get("penalty"):
            raise not_supported("the option penalty is not supported under a privacy_budget yet")
        if not by_newton(options.algorithm, options.given):
            raise invalid_value(f"{self.name} is trained by optimizer newton alone")
        if "event" not in dict(options.roles):
            raise invalid_value(f"{self.name} needs the option event")
        check_newton_run(plan)
        check_size(survival_size(len(plan.inputs), 1))
        return prepare(plan)

    def begin(self, plan: RunPlan) -> State:
        """Return zeros; (inputs,). The last step of round 0 makes them too, with the grid; under a budget
        there are the hazards of intervals beside them."""
        slopes = {PARAMETERS: np.zeros(len(plan.inputs))}
        if plan.findings.plan is None:
            return make_state(**slopes)
        return make_state(**slopes, **{LEVELS_OF_TIME: np.zeros(INTERVALS)})

    def first(self, plan: RunPlan) -> StepName:
        """Return for round 0 statistics, before which levels are asked for; else a Newton step."""
        if plan.round == 0:
            return first_of_round_0(plan)
        return NEWTON if plan.run.policy.budget is None else HAZARDS

    def releases(self, plan: RunPlan) -> Sequence[Cost]:
        """Return what the steps of a round cost a node."""
        made = plan.findings.plan
        if made is None:
            return []
        if plan.round == 0:
            counts = [Cost(REFINE, Mechanism(noise)) for noise in made.refinement_noise]
            return [*costs_of_levels(made), Cost(STATISTICS, Mechanism(made.statistics_noise)), *counts]
        return [Cost(HAZARDS, Mechanism(training_noise(made)), plan.run.policy.clipping_threshold)]

    def carry(self, plan: RunPlan, fresh: State, origin: Origin) -> Carried:
        """Return the version's coefficients on the run's inputs; the hazard is found anew."""
        return carry_hazards(plan, fresh, origin)

    def predict(self, state: State, findings: Findings) -> Prediction:
        """Return the hazard beside that of a row at the means of the inputs: exp(β x), x scaled."""
        scaling, parameters = findings.scaling, state[PARAMETERS]
        assert scaling is not None
        # No intercept, and no mean of the target under the link.
        centred, padded = replace(scaling, target_mean=1.0), np.r_[parameters, 0.0]
        made = linear_prediction("exp", centred, padded).to_prediction()
        fit = fit_of(state, findings, dispersed=False)
        if fit.covariance is not None:
            fit = replace(fit, covariance=np.pad(fit.covariance, (0, 1)))
        names = () if findings.encoding is None else findings.encoding.inputs
        table = describe_coefficients(scaling, padded[None], Units(), fit, inputs=names, has_bias=False)
        return Prediction(made.kind, {**made.content, "coefficients": table})

    def allows(self, classes: int) -> bool:
        """Whether the target is a number."""
        return classes == 0

    def check_target(self, table: Table, classes: int) -> None:
        """Raise FederatedError (22023), revealing no value, for a time below 0, and an event that is no 0 or
        1."""
        del classes
        check_survivors(table)


COX_REGRESSION = CoxRegression()
