"""A run as it was started: the options it trains under and the policy of its workspace, parsed once.

What always holds: a `TrainingOptions` or `Policy` has been read whole; no other part of the coordinator looks
into the JSON of a run's row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, TypeVar

from federated_sql.compliance import is_covered
from heliosdb.domain.encoding import EncodingSettings
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.folds import Fold, Series
from heliosdb.domain.hierarchy import Aggregators
from heliosdb.domain.ids import ModelName, NodeName, RunId, WorkspaceName
from heliosdb.domain.parent import Parent
from heliosdb.domain.privacy import Budget, Noise, Trust
from heliosdb.domain.settings import read_settings
from heliosdb.domain.transforms import Transform, read_transforms
from heliosdb.domain.update_settings import UpdateSettings

S = TypeVar("S")


class RunStatus(StrEnum):
    """How a run stands; the values are those of federated.run_status."""

    QUEUED = "queued"
    RUNNING = "running"
    CONVERGED = "converged"
    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"
    BUDGET_EXHAUSTED = "budget_exhausted"
    DIVERGED = "diverged"


class Outcome(StrEnum):
    """What became of a task; the values are those of federated.participation_outcome."""

    PENDING = "pending"
    RECEIVED = "received"
    DROPPED = "dropped"
    REFUSED = "refused"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """The training options of one run.

    feature_ranges: (lower, upper) by column name, () where none are declared; the target may have one too.
    validation_split: fraction of subjects held out, [0, 1); of a fold its share. fold: which part of the
    subjects is held out, None where it is a fraction and no fold. validation_frequency: evaluate every n-th
    round.
    max_update_norm: largest L2 norm of an update, None for the derived one. keep_best: whether the best
    evaluated round is published, not the last. promote: whether its version becomes the current one.
    roles: of further columns, as in `Reading`. given: every option by name, from which the parts read their
    settings.
    """

    algorithm: str
    features: tuple[str, ...]
    target: str
    dataset: str | None
    feature_ranges: tuple[tuple[str, float, float], ...]
    seed: int | None
    rounds: int
    aggregation: str
    convergence_threshold: float | None
    early_stopping_rounds: int | None
    target_accuracy: float | None
    validation_split: float
    validation_frequency: int
    max_update_norm: float | None = None
    keep_best: bool = True
    promote: bool = True
    roles: tuple[tuple[str, str], ...] = ()
    given: Mapping[str, Any] = field(default_factory=dict)
    fold: Fold | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are read: features, roles and, last, the target."""
        return (*self.features, *(column for _, column in self.roles), self.target)

    def settings(self, kind: type[S]) -> S:
        """The settings of a part, read from the options of its fields' names; FederatedError
        INVALID_VALUE.
        """
        return read_settings(kind, self.given)

    @property
    def target_classes(self) -> tuple[str, ...]:
        """The labels of the target's classes in the order of their indices, () where none are named."""
        return tuple(self.given.get("target_classes") or ())

    @property
    def transforms(self) -> tuple[Transform, ...]:
        """What is made of single features; FederatedError INVALID_VALUE as `read_transforms`."""
        return read_transforms(self.encoding_settings().feature_transforms or (), self.features)

    def encoding_settings(self) -> EncodingSettings:
        """How columns are to become inputs."""
        return self.settings(EncodingSettings)

    @property
    def protocol(self) -> str:
        """The sum protocol under which updates are added up; FederatedError INVALID_VALUE for none."""
        if not self.given.get("secure_aggregation"):
            return "plain"
        if not self.given.get("aggregation_protocol"):
            raise invalid_value("secure_aggregation has no aggregation_protocol")
        return str(self.given["aggregation_protocol"])

    @property
    def hides_updates(self) -> bool:
        """Whether the coordinator sees sums of updates alone."""
        return bool(self.given.get("secure_aggregation"))

    @property
    def rounds_hidden(self) -> bool:
        """Whether updates are added up hidden, and rounded to one lattice before."""
        return self.hides_updates and self.sending.bits is not None

    @property
    def codec(self) -> str:
        """How vectors are encoded for the wire."""
        return str(self.given.get("compression") or "none")

    @property
    def sending(self) -> UpdateSettings:
        """What of an update is sent; FederatedError INVALID_VALUE as `settings`."""
        return self.settings(UpdateSettings)


@dataclass(frozen=True, slots=True)
class Policy:
    """The workspace's rules as they stood when the run was started; timeouts in seconds.

    compliance_mode: nodes are told it with each task, and hold its rules (federated_sql.compliance).
    trust_model: who adds the noise, None: whichever the sums of a run have (`Run.trust`).
    aggregators: by node, the one that gathers for it. buffer: how many updates close a round of an
    asynchronous run; 0: rounds are synchronous. adaptive_clipping: whether the norm to which a round clips
    follows those of gradients, from clipping_threshold on. noise: of a budget's releases. overlap: whether a
    subject may be in several nodes, whose ε then add up; delta is each node's part of the workspace's.
    """

    workspace: WorkspaceName
    privacy_budget: float | None
    delta: float
    privacy_per_round: float | None
    noise_multiplier: float | None
    clipping_threshold: float
    min_nodes: int
    max_nodes: int
    min_nodes_per_round: int
    round_timeout: float
    stragglers_timeout: float
    data_residency: str | None
    compliance_mode: str = "none"
    node_selection: str = "all"
    aggregators: Aggregators = field(default_factory=dict)
    buffer: int = 0
    adaptive_clipping: bool = False
    noise: Noise = "gaussian"
    overlap: bool = False
    trust_model: Trust | None = None

    @property
    def budget(self) -> Budget | None:
        """What any one node may spend, None without a privacy budget; with `overlap` all nodes together may
        spend the same ε, each at this δ."""
        return None if self.privacy_budget is None else Budget(self.privacy_budget, self.delta)

    def laxity(self, current: Policy) -> str | None:
        """Say in what this policy protects less than the workspace's current one; None where in nothing."""
        own, theirs = self.budget, current.budget
        if not is_covered(current.compliance_mode, by=self.compliance_mode):
            stricter = f"workspace {current.workspace} is under {current.compliance_mode}"
            return f"the run was started under compliance_mode {self.compliance_mode}, and {stricter}"
        if theirs is None:
            return None
        if own is None:
            return f"the run has no privacy_budget, and workspace {current.workspace} has one"
        if own.epsilon > theirs.epsilon:
            larger = f"larger than the workspace's {theirs.epsilon:g}"
            return f"the run's privacy_budget {own.epsilon:g} is {larger}"
        if own.delta > theirs.delta:
            return f"the run's delta {own.delta:g} is larger than the workspace's {theirs.delta:g}"
        return None


def seals_prediction(options: Mapping[str, Any], compliance_mode: str) -> bool:
    """Whether a run of these options predicts by sealed numbers: as `prediction` says, else as the mode."""
    given = options.get("prediction")
    return given == "sealed" or (given is None and is_covered("HIPAA", by=compliance_mode))


@dataclass(frozen=True, slots=True)
class Run:
    """One START FEDERATED TRAINING, as claimed, or one of the runs that it made.

    group_nodes: of the run of a group that votes, the nodes that alone take part; None: all may.
    seed_run: of a run that goes on from a checkpoint of another one, or is made anew in its place, the first
    of these. is_resumed: whether it goes on from a file. parent: the version whose parameters it begins with;
    None for none.
    """

    id: RunId
    model: ModelName
    model_id: int
    workspace_id: int
    options: TrainingOptions
    policy: Policy
    series: Series | None = None
    seed_run: RunId | None = None
    is_resumed: bool = False
    group_nodes: frozenset[NodeName] | None = None
    parent: Parent | None = None

    def admits(self, node: NodeName) -> bool:
        """Whether a node may take part: where groups vote, those of the run's own alone."""
        return self.group_nodes is None or node in self.group_nodes

    @property
    def seals_prediction(self) -> bool:
        """Whether the numbers of its version are sealed to the database's server."""
        return seals_prediction(self.options.given, self.policy.compliance_mode)

    @property
    def chance(self) -> RunId:
        """Which run's random choices it makes: its own, or those of the first that it goes on from."""
        return self.id if self.seed_run is None else self.seed_run

    def laxity(self, current: Policy) -> str | None:
        """Say in what the run protects less than the workspace's current policy; None where in nothing."""
        theirs = replace(self, policy=current).trust
        if current.budget is not None and _TRUST.index(self.trust) > _TRUST.index(theirs):
            name = current.workspace
            return f"the run {_ADDING[self.trust]}, and workspace {name} is under trust_model {theirs}"
        return self.policy.laxity(current)

    @property
    def trust(self) -> Trust:
        """Who adds the noise: where sums are secure what the workspace says, else each node all of it."""
        if self.options.protocol == "plain" or self.policy.budget is None:
            return "local"
        return self.policy.trust_model or "distributed"

    @property
    def noises_sums(self) -> bool:
        """Whether the noise is that of the nodes' sum, and no answer has enough of it by itself."""
        return self.trust != "local"

    @property
    def publishes(self) -> bool:
        """Whether its model becomes a version when it has ended."""
        return self.series is None or self.series.publishes

    @property
    def measures_vote(self) -> bool:
        """Whether it measures what the groups of its series predict together, and trains nothing."""
        return self.series is not None and self.series.measures_vote

    @property
    def seed(self) -> int:
        """The seed option, else one derived from a run's id; in [0, 2**63)."""
        if self.options.seed is not None:
            return self.options.seed
        return _seed_from(b"run:" + self.chance.bytes)


_TRUST: tuple[Trust, ...] = ("local", "distributed", "central")
"""By how much has to be taken for granted of others."""

_ADDING = {"distributed": "has its nodes share the noise", "central": "has the coordinator add the noise"}


def _seed_from(text: bytes) -> int:
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1
