"""What an algorithm consists of: steps, each asked, computed and read in one file.

What always holds: what a step does at the coordinator (`ask`, `fault`, `read`) is a pure function of
committed rows
and of updates; what it does at a node (`check`, `compute`) depends on its task, the table, the run's memory
and the
draws alone. `check` reads no row and is called before anything is charged; under a budget `compute` raises
nothing that depends on a row, and keeps nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from heliosdb.algorithms.table import Table
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.events import Figures
from heliosdb.domain.findings import Findings, RunPlan
from heliosdb.domain.ids import StepName
from heliosdb.domain.prediction import Prediction
from heliosdb.domain.privacy import Mechanism, Noise
from heliosdb.domain.run import Run
from heliosdb.domain.state import NO_STATE, State
from heliosdb.domain.task import Scaling, Task, Work
from heliosdb.domain.update import Moved, Term, Total, Update
from heliosdb.domain.vector import Contribution
from heliosdb.privacy.mechanisms import Secret

REPORT = StepName("report")
"""The step, of an algorithm that has one of this name, that looks at the model which a run is about to
publish."""


PERSONALIZE = StepName("personalize")
"""The step, of an algorithm that has one of this name, in which nodes make their own parts of the model that
a run is about to publish; before the report."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a step asks of every node: the work, the scaling and the state that it needs."""

    work: Work
    scaling: Scaling | None = None
    state: State = field(default_factory=lambda: NO_STATE)


@dataclass(frozen=True, slots=True)
class Taken:
    """What a step made of its answers. findings None: as they were. following: the step that comes next in
    the round.

    notes: what the round's message says of it. report: what is kept with the version that the state becomes,
    as JSON.
    """

    state: State
    findings: Findings | None = None
    figures: Figures | None = None
    following: StepName | None = None
    notes: Sequence[str] = ()
    report: Mapping[str, Any] | None = None


class Draws(Protocol):
    """Where a computation's randomness comes from."""

    def rng(self) -> np.random.Generator:
        """Of the node's secret, the seed, the round, the exchange and the node: the same for the same task,
        for ever. Never a source of privacy noise."""
        ...

    def secret(self) -> Secret:
        """Fresh, cryptographic: for sampling and noise."""
        ...


class Step(Protocol):
    """One exchange of a round.

    required: whether a round counts only with it; one that is not comes last in its round, and so does one
    that finds figures. gathers: `sum`, the answers are added up; `rule`, the run's
    strategy combines how far `moving` moved.
    """

    @property
    def name(self) -> StepName:
        """The name under which tasks, ledgers and reports know it."""
        ...

    @property
    def required(self) -> bool:
        """See the class."""
        ...

    @property
    def gathers(self) -> Literal["sum", "rule"]:
        """See the class."""
        ...

    @property
    def reads(self) -> Sequence[str]:
        """The names of the settings that it takes from a strategy (its `local`); () for none."""
        ...

    @property
    def moving(self) -> Sequence[str]:
        """The names of the state's arrays that updates move, in the order of their vector; () where none
        are."""
        ...

    def ask(self, plan: RunPlan, state: State) -> Asked:
        """Coordinator: what every node of the cohort is asked."""
        ...

    def fault(self, plan: RunPlan, work: Work, update: Update) -> str | None:
        """Coordinator: what is wrong with one node's update, in words that read on from its name; None for
        nothing.

        The update has the size and type of `work`, finite values and a positive weight. OversizedUpdateError
        (domain/update.py) is raised for one that is too long.
        """
        ...

    def rows(self, plan: RunPlan, update: Update) -> int | None:
        """Coordinator: the node's rows as its answer states them (noised where private); None where it does
        not."""
        ...

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """Coordinator: what the answers lead to. FederatedError where they lead to nothing."""
        ...

    def check(self, task: Task) -> None:
        """Node: FederatedError where no table could answer the task."""
        ...

    def least_rows(self, task: Task) -> int | None:
        """Node: over how few rows a number of a plain answer may be; None: over no fewer than all."""
        ...

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Node: the answer, of the size and type that the task's work says, guarded as it says."""
        ...


@runtime_checkable
class Describing(Protocol):
    """A step of whose single plain answers something is kept beside their sum, where the sum protocol shows
    them."""

    def describe(self, plan: RunPlan, update: Update) -> Mapping[str, Any] | None:
        """Coordinator: what a node's answer, which has no fault, says of its rows, as JSON; None for
        nothing."""
        ...


@runtime_checkable
class JudgesTerms(Protocol):
    """A step of whose single answers the weight and the length say all that the coordinator looks at: they
    may have been added up before they come to it. It states no rows."""

    def fault_of_term(self, plan: RunPlan, work: Work, term: Term) -> str | None:
        """Coordinator: what `fault` would say of the update that the term tells of."""
        ...


@runtime_checkable
class CountsParameters(Protocol):
    """A step whose plain answers teach less, or more, than the arrays of its state have numbers."""

    def parameters(self, task: Task) -> int:
        """Node: how many numbers of a model are learned from the answer; for the largest share of parameters
        to rows. The task was checked."""
        ...


@runtime_checkable
class ScalesSum(Protocol):
    """A step whose answers are no moves of the parameters: a rule combines what it makes of their sum."""

    def scaled(self, plan: RunPlan, total: Total) -> Total:
        """Coordinator: the sum of moves that the sum of answers stands for."""
        ...


@runtime_checkable
class ClipsSums(Protocol):
    """A step whose private answers are sums over subjects, to which the release door adds the noise, or where
    that is agreed the coordinator, to the sum of all nodes'."""

    def sensitivity(self, task: Task) -> float:
        """Node, outside of the training process, and coordinator: the norm of the most that one subject adds
        to the answer of a private task (L2, L1 under Laplace noise), from the task alone. The task was
        checked, or is the coordinator's own."""
        ...


def adds_own_noise(step: Step) -> bool:
    """Whether a step's private answers are noised where they are computed, and not at the door: then nodes
    cannot share it. It says so by an attribute of this name."""
    return bool(getattr(step, "adds_own_noise", False))


@runtime_checkable
class HasOwnNoise(Protocol):
    """A step whose private answers have one noise, whatever the workspace's noise_mechanism is."""

    @property
    def own_noise(self) -> Noise:
        """Which one."""
        ...


@runtime_checkable
class Remembering(Protocol):
    """A step whose answer at a node depends on what the run's earlier rounds left there."""

    def remembered(self, run: Run, told: Mapping[str, Any]) -> str | None:
        """Coordinator: what that is, in words; None where it is nothing. told: the strategy's settings for
        nodes."""
        ...


def count_parameters(step: Step, task: Task) -> int | None:
    """Return how many numbers of a model a step says are learned from a plain answer; None where it says
    nothing."""
    return step.parameters(task) if isinstance(step, CountsParameters) else None


def reads_columns(step: Step) -> bool:
    """Whether a step computes on the dataset's columns as they were read, and not on a model's inputs: it
    says so by an attribute of this name."""
    return bool(getattr(step, "reads_columns", False))


def check_streams(step: Step, task: Task, table: Table) -> None:
    """Raise FederatedError PROGRAM_LIMIT where a table does not lie in memory, and the step needs it there.

    A step says that it does not by an attribute `streams`, or `streams_privately` of its answers under a
    budget.
    """
    streams = getattr(step, "streams", False)
    if task.work.privacy is not None:
        streams = streams or getattr(step, "streams_privately", False)
    if table.space.is_memory or streams:
        return
    raise FederatedError(
        ErrorCode.PROGRAM_LIMIT,
        f"step {step.name} of {task.work.algorithm} needs all rows in the node's memory, about"
        f" {_IN_MEMORY * table.features.nbytes / 2**30:.2g} GB, and they do not fit into its limit",
        hint="The node's own DBA may raise max_memory_gb. logistic_regression, linear_regression and"
        " poisson_regression read the rows block by block.",
    )


def adds_blocks(step: Step) -> bool:
    """Whether all that a step computes is a sum over blocks of rows (`blockwise.sum_parts`), or a look at
    single columns: it says so by an attribute of this name. Then blocks may be computed elsewhere."""
    return bool(getattr(step, "adds_blocks", False))


def fits(table: Table, memory_bytes: int | None) -> bool:
    """Whether a process that may hold so many bytes can read a table's rows, and compute on them."""
    return memory_bytes is None or _IN_MEMORY * table.features.nbytes <= memory_bytes


_IN_MEMORY = 16
"""How many times what its features take a table may take of the limit: read, ordered and computed on."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a step costs a node. clipping_norm: for the ledger, where the step clips to a norm that a
    workspace chose."""

    step: StepName
    mechanism: Mechanism
    clipping_norm: float | None = None


class Algorithm(Protocol):
    """What is learned, and in which steps. Its settings class stands beside its name in heliosdb/parts."""

    @property
    def name(self) -> str:
        """The name in the language."""
        ...

    @property
    def steps(self) -> Mapping[StepName, Step]:
        """Its steps by name."""
        ...

    def prepare(self, plan: RunPlan) -> Findings:
        """What round 0 needs to know before it is opened, such as its noise; UF001 where the budget leaves
        none.
        """
        ...

    def begin(self, plan: RunPlan) -> State:
        """The state with which round 1 begins, once round 0 is closed."""
        ...

    def first(self, plan: RunPlan) -> StepName:
        """The step with which the plan's round begins; of round 0 after `prepare`."""
        ...

    def releases(self, plan: RunPlan) -> Sequence[Cost]:
        """What every step of the round costs a node, in their order and none left out: reserved when it
        opens. () without a budget."""
        ...

    def predict(self, state: State, findings: Findings) -> Prediction:
        """How the model predicts from raw features; findings: of the run, once round 0 is closed."""
        ...
