"""A run as it was committed: what a coordinator that claims it, or is started anew, goes on from.

What always holds: it is read in one transaction and says where the run stands by the catalog alone; a state
that a run needs and that is not there ends it, and none is made up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from heliosdb.catalog import rounds, runs
from heliosdb.catalog.connection import Connection
from heliosdb.coordinator.checkpoints import check_closed
from heliosdb.coordinator.course import Course, ModelState
from heliosdb.coordinator.keeping import Kept, open_kept
from heliosdb.coordinator.origins import find_origin
from heliosdb.domain.convergence import measured
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.events import Figures, Names
from heliosdb.domain.findings import Findings, RunPlan
from heliosdb.domain.ids import NodeName, RoundNumber, RunId
from heliosdb.domain.progress import OpenedRound, Progress
from heliosdb.domain.run import Outcome
from heliosdb.transport.sealing import AtRestKey


@dataclass(frozen=True, slots=True)
class Loaded:
    """A run as committed.

    model: after the last closed round (None before one closed). kept: of the open round, at its last exchange
    (None at its first). stated: by node the weight of its answer in round 0, its rows where the run has no
    budget; empty before that is closed. stated_in_opened: the same of round 0 while it is open.
    asked: how many nodes each exchange of the open round asked.
    """

    course: Course
    findings: Findings
    progress: Progress
    model: ModelState | None
    kept: Kept | None
    stated: Mapping[NodeName, float]
    stated_in_opened: Mapping[NodeName, float]
    asked: Mapping[int, int]


def load(connection: Connection, run_id: RunId, key: AtRestKey) -> Loaded | None:
    """Read a running run and how far it came; nobody but this term's leader changes that."""
    with connection.transaction():
        record = runs.find_run(connection, run_id)
        if record is None:
            return None
        course = Course.of(record.run)
        listed = rounds.list_rounds(connection, run_id)
        closed = [one for one in listed if one.status == "closed"]
        opened = next((one.number for one in listed if one.status == "open"), None)
        last = closed[-1].number if closed else -1
        if not closed:
            course = replace(course, origin=find_origin(connection, record.run, key))
        first = rounds.list_participation(connection, run_id, 0) if closed else []
        tasks = [] if opened is None else rounds.list_participation(connection, run_id, opened)
        findings, stated = Findings.from_json(record.scaling, record.plan), _stated(course, first)
        progress = Progress(
            closed=last,
            members=_counted(course, first) if closed else None,
            trace=tuple(
                one
                for each in closed
                for one in measured(each.number, each.figures, noised=record.run.policy.budget is not None)
            ),
            figures=closed[-1].figures if closed else None,
            opened=None
            if opened is None
            else _opened(course, RunPlan(record.run, findings, opened), tasks, listed[-1].figures),
            stop_requested=record.stop_requested,
            ended=findings.ended,
            at_work=rounds.list_at_work(connection, run_id) if record.run.policy.buffer else {},
        )
        return Loaded(
            course,
            findings,
            progress,
            _find_model(connection, RunPlan(record.run, findings, RoundNumber(last), stated), course, key),
            None if progress.opened is None else _find_heard(connection, run_id, progress.opened, key),
            stated,
            _stated(course, tasks) if opened == 0 else {},
            {one.exchange: one.asked for one in tasks if one.asked is not None},
        )


def find_model(connection: Connection, run: RunId, number: RoundNumber, key: AtRestKey) -> ModelState:
    """Return the model after a closed round that was kept; FederatedError INTERNAL where it was not."""
    return _there(_find_kept(connection, run, number, key), number).model


def _find_model(connection: Connection, plan: RunPlan, course: Course, key: AtRestKey) -> ModelState | None:
    """The model after the plan's round, the last that was closed; None where none was."""
    if plan.round < 0:
        return None
    kept = _find_kept(connection, plan.run.id, plan.round, key)
    if kept is None and plan.round == 0:
        # Version 1.1 kept nothing of round 0.
        return course.initial_model(plan)
    return _there(kept, plan.round).model


def _find_heard(connection: Connection, run: RunId, opened: OpenedRound, key: AtRestKey) -> Kept | None:
    """What the open round's exchanges have led to so far; None at its first."""
    if opened.exchange == 0:
        return None
    return _there(_find_kept(connection, run, opened.round, key, opened.exchange), opened.round)


def _find_kept(
    connection: Connection, run: RunId, number: int, key: AtRestKey, version: int | None = None
) -> Kept | None:
    """What was kept of a round; version: of an open one. Of a closed one its manifest says which it is."""
    stored = rounds.find_state(connection, run, number)
    if stored is None:
        return None
    if version is None:
        check_closed(connection, run, number, stored, key)
    return open_kept(stored, run, number, key, version=version)


def _there(kept: Kept | None, number: int) -> Kept:
    if kept is None:
        raise FederatedError(ErrorCode.INTERNAL, f"the parameters of round {number} are missing")
    return kept


def _stated(course: Course, first: Sequence[rounds.Participation]) -> dict[NodeName, float]:
    return {
        one.node: one.weight or 0.0
        for one in first
        if course.states_rows(one.exchange) and one.outcome is Outcome.RECEIVED
    }


def _counted(course: Course, tasks: Sequence[rounds.Participation], before: int | None = None) -> Names:
    """Who answered the last required exchange of a round, of those before an exchange where one is given."""
    required = [
        one for one in tasks if course.step(one.step).required and (before is None or one.exchange < before)
    ]
    last = max((one.exchange for one in required), default=-1)
    received = (one for one in required if one.exchange == last and one.outcome is Outcome.RECEIVED)
    return frozenset(one.node for one in received)


def _opened(
    course: Course, plan: RunPlan, tasks: Sequence[rounds.Participation], figures: Figures
) -> OpenedRound:
    """The round that is open, the last of all. figures: what its row holds of them."""
    number = plan.round
    exchange = max((one.exchange for one in tasks), default=0)
    asked = [one for one in tasks if one.exchange == exchange]
    if len({one.step for one in asked}) > 1:
        raise FederatedError(
            ErrorCode.WRONG_STATE,
            f"round {number} was open in a catalog of an earlier version when that was dumped",
            hint="Start the training anew.",
        )
    if any(one.outcome is not Outcome.PENDING for one in asked):
        # It was settled when the next exchange was committed, whose nodes are not there any more. Asked
        # again, a node would release what is not reserved.
        raise FederatedError(
            ErrorCode.WRONG_STATE, f"the nodes with which round {number} went on were all unregistered"
        )
    step = asked[0].step if asked else course.algorithm.first(plan)
    cohort, following = frozenset(one.node for one in asked), course.next(step)
    found = figures if following.reports else None
    return OpenedRound(number, exchange, following, cohort, _counted(course, tasks, exchange), found)
