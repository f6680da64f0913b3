"""What the round machine is told and what it asks for: events of the shell, actions for the shell.

What always holds: an event names the round (and exchange) that it is about, so that a late one is known as
such.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from heliosdb.domain.absence import Absence
from heliosdb.domain.ids import NodeName, RoundNumber, StepName
from heliosdb.domain.run import Outcome, RunStatus
from heliosdb.domain.selection import NO_STANDINGS, Standings

Names = frozenset[NodeName]
NOBODY: Names = frozenset()


TIMED_OUT = "timed out"
"""Why a straggler was dropped: it has its task and did not answer in time. Shown as status slow."""

REFUSED = "refused: "
UNREGISTERED = "was unregistered"
"""Reasons that read on from the node's name."""


def describe(node: NodeName, reason: str) -> str:
    """Return a reason as lists show it: `b: timed out`, `b refused: …`, `b was unregistered`."""
    return f"{node} {reason}" if reason.startswith((REFUSED, UNREGISTERED)) else f"{node}: {reason}"


@dataclass(frozen=True, slots=True)
class Loss:
    """A node that an exchange goes on without, and why.

    over_budget: its own ledger refused. diverging: its update is larger than max_update_norm, or not finite.
    hint: what mends it, in a sentence of the node's. breach: which breach of security it is; None: it is
    none. asked: of an asynchronous run, the round in which it was asked; None: the open one.
    """

    node: NodeName
    outcome: Outcome
    reason: str
    over_budget: bool = False
    diverging: bool = False
    hint: str | None = None
    breach: str | None = None
    asked: RoundNumber | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """What an evaluation found over all nodes; None: too few answered, it is not defined for the algorithm or
    these rows, or the noise left no figure.

    loss: in the units that the user sees; base_loss: in the same, what the model has that predicts the base
    rate, or the mean, for every row; start_loss: what the model has with which training begins, None where
    that is the same. The errors are standard errors: of the held-out rows as a sample, and of the noise.
    """

    loss: float | None
    accuracy: float | None
    loss_error: float | None = None
    accuracy_error: float | None = None
    base_loss: float | None = None
    precision: float | None = None
    recall: float | None = None
    f1_score: float | None = None
    rmse: float | None = None
    start_loss: float | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """Why no further round is needed: an algorithm's own word. reason: reads on from the run's name.

    converged: whether the model is what was looked for; else it is as near as there is.
    """

    reason: str
    converged: bool = True


@dataclass(frozen=True, slots=True)
class Next:
    """The step of an exchange; required: whether a round counts only with enough updates in it. reports:
    whether it is about the model that is to be published, and so the last of a run."""

    step: StepName
    required: bool = True
    reports: bool = False


# Events.


@dataclass(frozen=True, slots=True)
class NodesSeen:
    """Who could take part in the round now, and who could not. known: what the closed rounds say of nodes,
    where the run's selection reads it."""

    round: RoundNumber
    present: Names
    absent: tuple[Absence, ...] = ()
    known: Standings = field(default_factory=lambda: NO_STANDINGS)


@dataclass(frozen=True, slots=True)
class WaitedTooLong:
    """The time to wait for nodes is over; who could take part, and who could not. Once round 0 is closed it
    ends only what no node that comes back could mend."""

    round: RoundNumber
    present: Names
    absent: tuple[Absence, ...] = ()


@dataclass(frozen=True, slots=True)
class RoundOpened:
    """The round and its cohort are committed; first: what they are asked."""

    round: RoundNumber
    first: Next


@dataclass(frozen=True, slots=True)
class BudgetWouldBeExceeded:
    """The round cannot be opened, or the rest not planned: it would spend more than the workspace may."""

    round: RoundNumber
    reason: str


@dataclass(frozen=True, slots=True)
class UpdateArrived:
    """A verified update."""

    round: RoundNumber
    exchange: int
    node: NodeName


@dataclass(frozen=True, slots=True)
class SumArrived:
    """A verified sum of the updates of these nodes: all of them count, or none."""

    round: RoundNumber
    exchange: int
    nodes: Names


@dataclass(frozen=True, slots=True)
class NodeLost:
    """A node refused, sent what was rejected, or cannot be reached any more."""

    round: RoundNumber
    exchange: int
    loss: Loss


@dataclass(frozen=True, slots=True)
class NodesAway:
    """These nodes of an exchange cannot be reached now. final: the round's deadline passed, else every node
    that has not answered is among them for some time."""

    round: RoundNumber
    exchange: int
    absent: tuple[Absence, ...]
    final: bool = False


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """A deadline of an exchange passed: the stragglers' (final False) or the round's."""

    round: RoundNumber
    exchange: int
    final: bool


@dataclass(frozen=True, slots=True)
class Combined:
    """The updates are combined. following: what those who answered are asked next in the round; the result is
    committed before. figures: what the exchange found of the model. ended: why no further round is needed.
    left_out: whose answers count no more, since their group has no sum."""

    round: RoundNumber
    exchange: int
    figures: Figures | None = None
    following: Next | None = None
    ended: Ended | None = None
    left_out: tuple[Loss, ...] = ()


@dataclass(frozen=True, slots=True)
class ReportPrepared:
    """What the round has led to is committed, and whom its report is asked of. asked: the report's step."""

    round: RoundNumber
    asked: Next


@dataclass(frozen=True, slots=True)
class ReportLeftOut:
    """No report is asked for after all: the privacy plan has none, or the budget holds none any more."""

    round: RoundNumber


@dataclass(frozen=True, slots=True)
class RoundClosed:
    """The round's transaction is committed."""

    round: RoundNumber


@dataclass(frozen=True, slots=True)
class TrainingDiverged:
    """The combination of the updates is not a model that any task may carry."""

    round: RoundNumber
    reason: str


@dataclass(frozen=True, slots=True)
class StopRequested:
    """Someone typed STOP FEDERATED TRAINING."""


@dataclass(frozen=True, slots=True)
class ProblemFound:
    """The run cannot go on, for a reason that is neither a node's nor a deadline's."""

    reason: str


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The run's last transaction is committed."""


Event = (
    NodesSeen
    | WaitedTooLong
    | RoundOpened
    | BudgetWouldBeExceeded
    | UpdateArrived
    | SumArrived
    | NodeLost
    | NodesAway
    | DeadlinePassed
    | Combined
    | ReportPrepared
    | ReportLeftOut
    | RoundClosed
    | TrainingDiverged
    | StopRequested
    | ProblemFound
    | RunEnded
)


# Actions.


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask nobody, and tell the user what the run waits for."""

    message: str


@dataclass(frozen=True, slots=True)
class Say:
    """Tell the user how the run stands; what is asked goes on."""

    message: str


@dataclass(frozen=True, slots=True)
class OpenRound:
    """Commit the round, its cohort and its reservations. Answer: RoundOpened or BudgetWouldBeExceeded. lost:
    what became of earlier tasks, committed with it."""

    round: RoundNumber
    cohort: Names
    lost: tuple[Loss, ...] = ()


@dataclass(frozen=True, slots=True)
class SendTasks:
    """Ask these nodes. Answers: UpdateArrived, SumArrived, NodeLost, DeadlinePassed. about: the earlier round
    whose model it is about, None for the open one's."""

    round: RoundNumber
    exchange: int
    step: StepName
    nodes: Names
    about: RoundNumber | None = None


@dataclass(frozen=True, slots=True)
class AskAgain:
    """Go on waiting for what these nodes were asked in a round that is closed. Answers: as of SendTasks."""

    round: RoundNumber
    nodes: Names


@dataclass(frozen=True, slots=True)
class Combine:
    """Ask no more; combine these nodes' updates, and commit the result where something follows. Answer:
    Combined. onward: whom what follows is asked of, where that is not all of them."""

    round: RoundNumber
    exchange: int
    nodes: Names
    onward: Names | None = None


@dataclass(frozen=True, slots=True)
class PrepareReport:
    """Commit what the round has led to, and that these nodes are asked, in one more exchange, for a report of
    the model that is to be published. Answer: ReportPrepared, or ReportLeftOut."""

    round: RoundNumber
    exchange: int
    nodes: Names
    figures: Figures | None


@dataclass(frozen=True, slots=True)
class CloseRound:
    """Commit the round in one transaction. keep: the earlier round whose state is still needed, or this one;
    is_reported: whether enough nodes have answered to a report of its model; held: earlier rounds from whose
    states nodes still train. Answer: RoundClosed."""

    round: RoundNumber
    figures: Figures | None
    keep: RoundNumber
    is_reported: bool = False
    held: frozenset[RoundNumber] = frozenset()


@dataclass(frozen=True, slots=True)
class PublishVersion:
    """Commit the version of a closed round and the run's end, in one transaction. Answer: RunEnded."""

    round: RoundNumber
    status: RunStatus
    message: str


@dataclass(frozen=True, slots=True)
class FinishRun:
    """Commit the run's end without a version. Answer: RunEnded."""

    status: RunStatus
    message: str


@dataclass(frozen=True, slots=True)
class FailRun:
    """Commit the failure of the run, and of its open round. Answer: RunEnded."""

    reason: str


Action = (
    Wait
    | Say
    | OpenRound
    | SendTasks
    | AskAgain
    | Combine
    | PrepareReport
    | CloseRound
    | PublishVersion
    | FinishRun
    | FailRun
)
