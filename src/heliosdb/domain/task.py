"""What the coordinator asks of a node: one task, one vector.

What always holds: a task is complete in itself (a node needs no earlier task to answer it, beyond its own
data,
ledger and memory of the run), and two tasks with the same key have the same content. Nothing here knows a
step, an algorithm, a protocol or a codec by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from heliosdb.domain.coding import UNCHANGED, Coding
from heliosdb.domain.encoding import Encoding
from heliosdb.domain.folds import Fold
from heliosdb.domain.ids import ModelName, NodeName, RoundNumber, RunId, StepName, WorkspaceName
from heliosdb.domain.privacy import Budget, Mechanism, Trust
from heliosdb.domain.settings import Setting
from heliosdb.domain.state import NO_STATE, State
from heliosdb.domain.vector import Dtype

MOST_EXCHANGES = 1 << 16
"""Of one round."""


@dataclass(frozen=True, slots=True)
class TaskKey:
    """Names one task for ever: workspace, run, round, exchange of the round, step and the node it is for.

    exchange: from 0, counts the messages of a round; a step whose sum takes several has as many.
    """

    workspace: WorkspaceName
    run: RunId
    round: RoundNumber
    exchange: int
    step: StepName
    node: NodeName


ROLES = ("weights", "offset", "event")
"""What a column beside features and target may be to the rows; see parts/algorithms.py."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Which rows and columns a task is about. dataset None: the node's only one with all the columns.

    validation_split: the fraction of subjects held out, in [0, 1); a secret of the node decides who. seed: in
    [0, 2**63), of the run; with round and node it decides the order of training. classes: the labels of the
    target's classes as the run names them, in the order of their indices; () where it names none. fold: of
    cross-validation, which part of the subjects is held out; validation_split is then its share. roles:
    (role, column) of further columns, each role of `ROLES` once at most, in their order; a row without a
    value in one is left out.
    """

    dataset: str | None
    features: tuple[str, ...]
    target: str
    validation_split: float
    seed: int
    classes: tuple[str, ...] = ()
    fold: Fold | None = None
    roles: tuple[tuple[str, str], ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns: features, roles and, last, the target."""
        return (*self.features, *(column for _, column in self.roles), self.target)


@dataclass(frozen=True, slots=True)
class Scaling:
    """How inputs are scaled: missing → mean, then (x - mean) / scale; scales > 0.

    Arrays are of length inputs, in their order. A target that is a number is scaled too; for one that has
    classes target_mean is 0 and target_scale is 1.
    """

    means: tuple[float, ...]
    scales: tuple[float, ...]
    target_mean: float = 0.0
    target_scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Privacy:
    """How an answer is private: all that the release door reads of a task's work.

    weight: what the answer says as its weight; it follows from what was released before, never from rows.
    """

    mechanism: Mechanism
    weight: float


@dataclass(frozen=True, slots=True)
class Rounding:
    """How updates are rounded that are added up hidden: see privacy/rounding.py.

    bits: of a value of the mean node, at least, where there are up to 100 nodes; the ring has twice as many.
    norm: to which each update is cut. weight: no less than all nodes weigh together.
    """

    bits: int
    norm: float
    weight: float


@dataclass(frozen=True, slots=True)
class Summing:
    """How an answer travels into its exchange's sum: see aggregation/sums.py.

    protocol: its name. stage: which of the protocol's messages this is. note: what the coordinator tells the
    node with it. nodes: how many are asked for it. trust: who adds the noise of a private answer: the node
    all of it, a share of the sum's, or none (privacy/shares.py). state_sha256: where the task is without the
    state that the message with the vector has, of that state's bytes; else b"". rounding: of a hidden update
    that is sent in few bits; None: as it is. fraction: bits behind the point of hidden values that are added
    up in 64; None: as many as any value takes.
    """

    protocol: str = "plain"
    stage: str = "vector"
    note: bytes = b""
    nodes: int = 1
    trust: Trust = "local"
    state_sha256: bytes = b""
    rounding: Rounding | None = None
    fraction: int | None = None


PLAIN_SUM = Summing()


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be computed: the one envelope of all steps.

    size, dtype: of the vector that is computed. privacy None: a plain answer. settings: what the step reads,
    each within the step's own bounds. coding: how the vector travels.
    """

    algorithm: str
    size: int
    dtype: Dtype = Dtype.FLOAT64
    privacy: Privacy | None = None
    settings: Mapping[str, Setting] = field(default_factory=lambda: MappingProxyType({}))
    summing: Summing = PLAIN_SUM
    coding: Coding = UNCHANGED


@dataclass(frozen=True, slots=True)
class Task:
    """One task: what to read, what to compute, from which state, under which workspace budget.

    encoding: how columns become inputs; None where every feature is one. scaling: None before round 0 has
    found one. state: the model's, empty where there is none yet. budget
    None: the
    workspace has no privacy budget. compliance_mode: the workspace's, "none" where there is none; a node
    gives plain answers under none unless its DBA allows it. model: what the coordinator calls it, for the
    node's own records: its claim, which decides nothing.
    """

    key: TaskKey
    reading: Reading
    work: Work
    scaling: Scaling | None = None
    state: State = field(default_factory=lambda: NO_STATE)
    budget: Budget | None = None
    compliance_mode: str = "none"
    encoding: Encoding | None = None
    model: ModelName | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs that its columns become."""
        return self.reading.features if self.encoding is None else self.encoding.inputs

    @property
    def n_inputs(self) -> int:
        """How many inputs there are."""
        return len(self.inputs)
