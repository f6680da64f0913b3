"""What the coordinator asks of a node: one task, one vector.

What always holds: a task is complete in itself (a node needs no earlier task to answer it, beyond its own
data and ledger), and two tasks with the same key have the same content.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from heliosdb.domain.ids import NodeName, RoundNumber, RunId, WorkspaceName
from heliosdb.domain.privacy import Budget
from heliosdb.domain.vector import Vector


class Step(StrEnum):
    """The exchanges of which rounds consist."""

    STATISTICS = "statistics"
    TRAIN = "train"
    EVALUATE = "evaluate"


@dataclass(frozen=True, slots=True)
class TaskKey:
    """Names one task for ever: workspace, run, round, step and the node it is for."""

    workspace: WorkspaceName
    run: RunId
    round: RoundNumber
    step: Step
    node: NodeName


@dataclass(frozen=True, slots=True)
class Reading:
    """Which rows and columns a task is about. dataset None: the node's only one with all the columns.

    validation_split: the fraction of subjects held out, in [0, 1); a secret of the node decides who. seed: in
    [0, 2**63), of the run; with round and node it decides the order of training.
    """

    dataset: str | None
    features: tuple[str, ...]
    target: str
    validation_split: float
    seed: int


@dataclass(frozen=True, slots=True)
class Scaling:
    """How raw columns become model inputs: missing → mean, then (x - mean) / scale; scales > 0.

    Arrays are of length features, in the order of `Reading.features`. For regression the target is scaled
    too; for classification target_mean is 0 and target_scale is 1.
    """

    means: tuple[float, ...]
    scales: tuple[float, ...]
    target_mean: float = 0.0
    target_scale: float = 1.0


@dataclass(frozen=True, slots=True)
class StatisticsWork:
    """Round 0: what scaling needs. noise_multiplier None: plain sums; else noisy counts on a signed-log grid.

    `ranges` (lower, upper per feature, then for the target where it is scaled) replaces the grid by bounded
    sums.
    """

    algorithm: str
    noise_multiplier: float | None
    ranges: tuple[tuple[float, float], ...] | None = None


@dataclass(frozen=True, slots=True)
class PrivateTraining:
    """DP-SGD: `steps` Poisson samples of subjects at `sampling_rate`, per-subject clipping, Gaussian noise.

    expected_subjects: the fixed denominator is sampling_rate x expected_subjects (a released, noisy count).
    """

    noise_multiplier: float
    clipping_norm: float
    sampling_rate: float
    steps: int
    expected_subjects: float


@dataclass(frozen=True, slots=True)
class TrainWork:
    """Local epochs of mini-batch SGD from `Task.parameters`; the answer is how far the parameters moved."""

    algorithm: str
    scaling: Scaling
    local_epochs: int
    batch_size: int
    learning_rate: float
    privacy: PrivateTraining | None = None


@dataclass(frozen=True, slots=True)
class EvaluateWork:
    """Loss and accuracy of `Task.parameters` on the held-out subjects, as sums. None: plain; else noised."""

    algorithm: str
    scaling: Scaling
    noise_multiplier: float | None


Work = StatisticsWork | TrainWork | EvaluateWork


@dataclass(frozen=True, slots=True)
class Task:
    """One task: what to read, what to compute, from which parameters, under which workspace budget.

    parameters: empty for statistics. budget None: the workspace has no privacy budget. compliance_mode: the
    workspace's, "none" where there is none; a node gives plain answers under none unless its DBA allows it.
    """

    key: TaskKey
    reading: Reading
    work: Work
    parameters: Vector
    budget: Budget | None
    compliance_mode: str = "none"
