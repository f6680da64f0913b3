"""The later exchanges of a private round 0: the same columns are counted again, closer to where they lie.

What always holds: how many exchanges there are, and what each costs, is decided before round 0 opens;
everything at the coordinator is a pure function of the run and of what was released.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from heliosdb.algorithms.answers import statistics_fault
from heliosdb.algorithms.checks import check_refinement
from heliosdb.algorithms.described_inputs import measured, measured_inputs, measured_part, scaled_columns
from heliosdb.algorithms.features import statistics
from heliosdb.algorithms.located import Located, take_counts
from heliosdb.algorithms.registry import classes_of
from heliosdb.algorithms.statistics import REFINE, statistics_sensitivity, taken_counts
from heliosdb.algorithms.steps import Asked, Draws, Taken
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.works import StatisticsWork
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.findings import RunPlan
from heliosdb.domain.ids import StepName
from heliosdb.domain.privacy import Noise
from heliosdb.domain.state import NO_STATE, State
from heliosdb.domain.task import Scaling, Task, Work
from heliosdb.domain.update import Moved, Total, Update
from heliosdb.domain.vector import Contribution

__all__ = ["REFINE", "RefineStep"]


@dataclass(frozen=True, slots=True)
class RefineStep:
    """One closer look. The state between the exchanges is what was located, which no node is told."""

    noises: ClassVar[tuple[Noise, ...]] = ("gaussian", "laplacian")

    algorithm: str
    name: StepName = REFINE
    required: bool = True
    gathers: Literal["sum"] = "sum"
    reads: Sequence[str] = ()
    moving: Sequence[str] = ()
    streams: bool = False
    adds_blocks: bool = False

    def ask(self, plan: RunPlan, state: State) -> Asked:
        """Ask for counts in the windows that were chosen."""
        return Asked(_work(plan, state).to_work(len(measured_inputs(plan))))

    def fault(self, plan: RunPlan, work: Work, update: Update) -> str | None:
        """Say what no rows can have led to."""
        columns = (*measured_inputs(plan), plan.run.options.target)
        return statistics_fault(update.vector, update.weight, StatisticsWork.of(work), columns)

    def rows(self, plan: RunPlan, update: Update) -> int | None:
        """Return None: the first exchange has told them."""
        del plan, update
        return None

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """Take in the counts; look closer or turn them into scaling and plan; as
        `StatisticsStep.read`."""
        assert isinstance(gathered, Total)
        columns = len(scaled_columns(plan))
        located = take_counts(Located.from_state(state), gathered, _work(plan, state), columns)
        return taken_counts(plan, located, gathered.nodes, self.rescale)

    def rescale(self, plan: RunPlan, scaling: Scaling) -> Scaling:
        """See `StatisticsStep.rescale`."""
        del plan
        return scaling

    def check(self, task: Task) -> None:
        """Refuse what no table could answer."""
        if task.state != NO_STATE or task.scaling is not None:
            raise invalid_value("statistics depend on no state and no scaling")
        check_refinement(sum(measured(task)), task.work)

    def sensitivity(self, task: Task) -> float:
        """Return the norm of what a subject adds."""
        return statistics_sensitivity(task)

    def least_rows(self, task: Task) -> int | None:
        """Return None: every sum is over all rows."""
        del task
        return None

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Return the node's counts."""
        del memory, draws
        return statistics(measured_part(table, task), StatisticsWork.of(task.work))


def _work(plan: RunPlan, state: State) -> StatisticsWork:
    located, made = Located.from_state(state), plan.findings.plan
    assert made is not None
    noise = made.refinement_noise[located.exchanges - 1]
    algorithm, classes, kind = plan.run.options.algorithm, len(classes_of(plan)), plan.run.policy.noise
    return StatisticsWork(algorithm, noise, windows=located.windows(), classes=classes, noise=kind)
