"""Asynchronous rounds of four nodes, and what happens to them."""

from __future__ import annotations

from collections.abc import Iterable

from heliosdb.domain import events as ev
from heliosdb.domain.buffered_round import decide, resume
from heliosdb.domain.events import (
    Action,
    Event,
    Loss,
    Names,
)
from heliosdb.domain.ids import NodeName
from heliosdb.domain.progress import Progress
from heliosdb.domain.run import Outcome
from heliosdb.domain.run_state import Decision, Rules, RunState
from tests.unit.domain.played_rounds import TRAIN, Most, n

A, B, C, D = (NodeName(name) for name in "abcd")
ALL = frozenset((A, B, C, D))
RULES = Rules(rounds=3, min_nodes=2, min_nodes_per_round=2, choice=Most(), buffer=2, keep_best=False)


def play(state: RunState, *happened: Event) -> Decision:
    """Feed events one after the other; the actions are those of the last."""
    actions: tuple[Action, ...] = ()
    for event in happened:
        state, actions = decide(state, event)
    return state, actions


def begun(rules: Rules = RULES, *, members: Names = ALL) -> RunState:
    """A run whose first training round is open, and has asked all."""
    state, _ = resume(rules, Progress(closed=0, members=members))
    return play(state, ev.NodesSeen(n(1), members), ev.RoundOpened(n(1), TRAIN))[0]


def arrive(*nodes: NodeName, asked: int = 1) -> Iterable[Event]:
    return (ev.UpdateArrived(n(asked), 0, node) for node in nodes)


def lost(node: NodeName, *, asked: int = 1) -> Event:
    return ev.NodeLost(n(asked), 0, Loss(node, Outcome.REFUSED, "refused"))


def deadline(*, final: bool, asked: int = 1) -> Event:
    return ev.DeadlinePassed(n(asked), 0, final)


def next_round(state: RunState, *, present: Names = ALL) -> Decision:
    """Close the round that is being combined, without an evaluation, and open the next one."""
    number = state.round
    state, _ = play(state, ev.Combined(number, 0), ev.RoundClosed(number))
    return play(state, ev.NodesSeen(n(number + 1), present))
