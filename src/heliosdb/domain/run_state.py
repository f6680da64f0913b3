"""What the round machine knows of a run: the rules that it was started with, and how far it is.

What always holds: it is a value, which nothing changes; what a run becomes is said by `decide` alone
(round.py, buffered_round.py), and all that decides it is in here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from heliosdb.domain.buffer import EMPTY, Buffer
from heliosdb.domain.convergence import Trace
from heliosdb.domain.events import NOBODY, Action, Ended, Figures, Loss, Names, Next
from heliosdb.domain.ids import RoundNumber, StepName
from heliosdb.domain.selection import Standings


class Phase(Enum):
    """What the machine waits for."""

    WAITING = auto()  # enough nodes to open the round
    AWAY = auto()  # enough nodes of the exchange that was broken off to be there again
    OPENING = auto()  # the round, its cohort and its reservations being committed
    EXCHANGE = auto()  # updates
    COMBINING = auto()  # the combination of the updates
    REPORTING = auto()  # what the round has led to, and whom its report is asked of, being committed
    CLOSING = auto()  # the round's transaction
    ENDING = auto()  # the run's last transaction
    ENDED = auto()


class Choice(Protocol):
    """Who of the nodes that are able takes part in a round."""

    @property
    def ranks(self) -> bool:
        """Whether what is known of them is read."""

    def choose(self, able: Names, number: RoundNumber, known: Standings) -> Names:
        """Return some of them: the same for the same run, round, nodes and closed rounds."""
        ...


PATIENCE = 10
"""Evaluations that decide where early_stopping_rounds is not given."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a run was started with; min_nodes is for the start of the run.

    threshold (None: the losses end no run that goes well) and patience: see domain/convergence.py.
    noised: whether figures have privacy noise in them. learning_rate: None where the algorithm has none.
    needed: nodes without which no round is opened.
    reports: whether a report is asked for of the version that a run publishes.
    publishes: whether the run's model becomes a version, or a trial is judged by it; only messages tell.
    buffer: how many updates close a round of an asynchronous run (buffered_round.py); 0: it is none.
    """

    rounds: int
    min_nodes: int
    min_nodes_per_round: int
    choice: Choice
    target_accuracy: float | None = None
    threshold: float | None = None
    patience: int = PATIENCE
    keep_best: bool = True
    noised: bool = False
    learning_rate: float | None = None
    reports: bool = False
    publishes: bool = True
    needed: Names = NOBODY
    buffer: int = 0


@dataclass(frozen=True, slots=True)
class RunState:
    """Everything the machine knows. cohort: asked in the open exchange; answered: whose update counts.

    asked: the step of the open exchange, None before a round has one. counted: who answered the round's last
    required exchange. members: who counted in round 0 (None before it closed). closed: the last closed round,
    -1 before any. ended: why the algorithm needs no further round, where it says so. buffer: of an
    asynchronous run, who is at work beside the open exchange; here it is only carried along.
    """

    rules: Rules
    phase: Phase
    round: RoundNumber
    exchange: int = 0
    asked: Next | None = None
    closed: int = -1
    cohort: Names = NOBODY
    answered: Names = NOBODY
    counted: Names = NOBODY
    lost: tuple[Loss, ...] = ()
    members: Names | None = None
    trace: Trace = ()
    figures: Figures | None = None
    ended: Ended | None = None
    stragglers_dropped: bool = False
    stop_requested: bool = False
    buffer: Buffer = EMPTY

    @property
    def step(self) -> StepName | None:
        """The step that is asked."""
        return None if self.asked is None else self.asked.step


Decision = tuple[RunState, tuple[Action, ...]]
