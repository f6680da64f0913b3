"""Drives one run: performs what the round machine asks for, and tells it what happened.

What always holds: the driver decides nothing, and keeps nothing that the catalog does not hold but the
updates that no round has taken yet; so it can be killed at any point and another one goes on from the
committed rows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

from heliosdb import faults
from heliosdb.catalog.rounds import StoredState
from heliosdb.catalog.runs import list_ended_runs
from heliosdb.coordinator import loading, records
from heliosdb.coordinator.asking import Asking
from heliosdb.coordinator.budget import Release
from heliosdb.coordinator.buffering import AnyExchange
from heliosdb.coordinator.central_noise import CentralNoise
from heliosdb.coordinator.course import ModelState
from heliosdb.coordinator.exchange import Wire
from heliosdb.coordinator.farewell import say_farewell
from heliosdb.coordinator.keeping import Kept, seal_kept
from heliosdb.coordinator.measuring import RoundMeter
from heliosdb.coordinator.opened import RoundUnderWay
from heliosdb.coordinator.rules import explain_error, make_rules
from heliosdb.coordinator.selection import find_columns
from heliosdb.coordinator.session import CatalogSession
from heliosdb.coordinator.settling import settle
from heliosdb.coordinator.waiting import NodeWatch
from heliosdb.coordinator.watch import RunWatch
from heliosdb.domain.buffered_round import decide, resume
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.events import (
    Action,
    AskAgain,
    CloseRound,
    Combine,
    Combined,
    Event,
    FailRun,
    Figures,
    FinishRun,
    Loss,
    Next,
    OpenRound,
    PrepareReport,
    PublishVersion,
    ReportLeftOut,
    ReportPrepared,
    RoundClosed,
    RoundOpened,
    RunEnded,
    Say,
    SendTasks,
    StopRequested,
    SumArrived,
    UpdateArrived,
    Wait,
    describe,
)
from heliosdb.domain.findings import Findings, RunPlan
from heliosdb.domain.ids import Epoch, NodeName, RoundNumber
from heliosdb.domain.round import begin
from heliosdb.domain.run import Policy, RunStatus
from heliosdb.domain.run_state import Decision, Phase
from heliosdb.domain.usage import Moment
from heliosdb.transport.sealing import AtRestKey

log = logging.getLogger(__name__)

_HEARING = 5.0
"""Seconds for which a private run that ends early hears out its nodes: a refusal leaves nothing reserved."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What every run of a term shares."""

    epoch: Epoch
    wire: Wire
    at_rest: AtRestKey


class Left(Enum):
    """How a driver left its run."""

    ENDED = auto()
    TO_READ_ANEW = auto()  # it goes on from a checkpoint's file
    GAVE_WAY = auto()  # to other runs: it goes on from its committed rows


class RunDriver:
    """One run of one term, over a session of its own. since: when it began to wait for its first nodes, on
    the loop's clock; None: now."""

    def __init__(
        self,
        setting: Setting,
        session: CatalogSession,
        loaded: loading.Loaded,
        *,
        since: float | None = None,
    ) -> None:
        self._setting = setting
        self._session = session
        self._course = loaded.course
        self._run = loaded.course.run
        self._writer = records.Writer(setting.epoch, self._run)
        self._findings = loaded.findings
        self._stated = loaded.stated
        self._model = loaded.model
        self._round = RoundUnderWay.resumed(loaded)
        self._progress = loaded.progress
        self._events: asyncio.Queue[Event | BaseException | None] = asyncio.Queue()
        self._rules = make_rules(self._run, reports=self._course.report is not None)
        self._nodes = NodeWatch(
            setting.wire.directory, session, self._run, self._rules, self._events.put_nowait, since=since
        )
        self._said: str | None = None
        self._waits = False
        opened = loaded.progress.opened
        about = b"noise of sums\0" + self._run.policy.workspace.encode()
        self._noise = CentralNoise(setting.at_rest.derive_key(about))
        self._meter = RoundMeter(is_whole=opened is None or opened.exchange == 0)
        self._goes_on = False
        self._gives_way = False
        self._has_closed = False
        self._watch = RunWatch(self._run)
        self._asking = Asking(setting.wire, self._report, self._watch)
        self._state = begin(self._rules)

    def request_stop(self) -> None:
        """Pass on that somebody typed STOP."""
        self._report(StopRequested())

    def give_way(self) -> None:
        """Leave the run to others once it has closed a round, or at once where it waits for nodes."""
        self._gives_way = True
        self._events.put_nowait(None)

    @property
    def policy(self) -> Policy:
        """Of the run."""
        return self._run.policy

    @property
    def has_begun(self) -> bool:
        """Whether round 0 is closed."""
        return self._state.closed >= 0

    @property
    def is_idle(self) -> bool:
        """Whether it waits for nodes."""
        return self._waits and self._state.phase in (Phase.WAITING, Phase.AWAY)

    @property
    def _is_at_rest(self) -> bool:
        """Whether it can leave: all is committed, and each turn has closed a round."""
        return self.is_idle or (self._state.phase is Phase.WAITING and self._has_closed)

    async def drive(self) -> Left:
        """Go on with the run until it has ended, or is left as it is; RunGoneError where it was dropped."""
        self._watch.begin()
        try:
            await self._apply(resume(self._rules, self._progress))
            while self._state.phase is not Phase.ENDED:
                if self._goes_on:
                    return Left.TO_READ_ANEW
                if self._gives_way and self._is_at_rest:
                    return Left.GAVE_WAY
                event = await self._events.get()
                if isinstance(event, BaseException):
                    raise event
                if event is None:
                    continue
                decision = decide(self._state, event)
                if isinstance(event, UpdateArrived | SumArrived):
                    # Whatever the machine asks for next.
                    before, counted = self._state.answered, decision[0].answered
                    await self._asking.take_in(self._round, event, before, counted)
                await self._apply(decision)
            await self._say_farewell()
            return Left.ENDED
        finally:
            await self._nodes.end()
            await self._asking.close()
            self._watch.leave()

    def _report(self, event: Event) -> None:
        self._events.put_nowait(event)

    async def _apply(self, decision: Decision) -> None:
        """Take the new state, then act; what an action answers comes back as an event."""
        self._state, actions = decision
        if self._state.phase in (Phase.WAITING, Phase.AWAY):
            self._nodes.begin(self._state.round, self._state.members)
        else:
            await self._nodes.end()
        for action in actions:
            try:
                await self._perform(action)
            except FederatedError as error:
                await self._react(action, error)

    async def _react(self, action: Action, error: FederatedError) -> None:
        """Tell the machine; where the end itself failed there is nobody to tell, and the run fails."""
        event = explain_error(action, error, self._state.round)
        if self._state.phase is not Phase.ENDING:
            self._report(event)
        elif isinstance(action, PublishVersion):
            await self._end(RunStatus.FAILED, f"no version can be published: {error.text}")
        else:
            raise error

    async def _perform(self, action: Action) -> None:
        match action:
            case Wait(message):
                await self._asking.break_off()
                self._waits = True
                await self._say(message)
                faults.reach("coordinator.run.waits")
            case Say(message):
                await self._say(message)
            case OpenRound():
                await self._open_round(action)
            case SendTasks():
                await self._send_tasks(action)
            case AskAgain():
                await self._ask_again(action)
            case Combine():
                await self._combine(action)
            case PrepareReport():
                await self._prepare_report(action)
            case CloseRound():
                await self._close_round(action)
            case PublishVersion(number, status, message):
                await self._end(status, message, publish=number)
            case FinishRun(status, message):
                await self._end(status, message)
            case FailRun(reason):
                await self._end(RunStatus.FAILED, reason)

    async def _say(self, message: str) -> None:
        """Tell the user how the run stands; the same is said once."""
        if message != self._said:
            self._said = message
            log.info("run says: run=%s %s", self._run.id, message)
            await self._session.call(records.say, self._writer, message)

    # Rounds.

    async def _open_round(self, action: OpenRound) -> None:
        run, cohort = self._run, sorted(action.cohort)
        if action.round == 0:
            past = await self._session.call(records.past_of, run, cohort)
            allowance = await self._session.call(records.allowance_of, run, cohort)
            found = self._find_columns(cohort)
            plan = replace(self._plan(action.round), findings=found, past=past, allowance=allowance)
            self._findings = await asyncio.to_thread(self._course.algorithm.prepare, plan)
        plan = self._plan(action.round)
        first = self._course.first(plan)
        await self._session.call(
            records.open_round,
            self._writer,
            action.round,
            cohort,
            step=first.step,
            findings=self._findings,
            releases=self._course.releases(plan),
            clipping_norms=self._course.clipping_norms(plan),
            left_out=self._nodes.left_out,
            known=self._nodes.known,
            settled=self._asking.settled_lost(action.lost, first.step),
        )
        self._round = RoundUnderWay.begin(self._model, self._findings)
        self._round.lost = action.lost
        self._asking.committed(action.round, 0)
        self._said, self._waits = None, False
        self._meter = RoundMeter()
        self._watch.round_opened(action.round)
        log.info("round opened: run=%s round=%s nodes=%s", run.id, action.round, len(cohort))
        faults.reach("coordinator.round.opened")
        self._report(RoundOpened(action.round, first))

    def _plan(self, number: RoundNumber) -> RunPlan:
        return RunPlan(self._run, self._findings, number, self._stated)

    def _find_columns(self, cohort: Sequence[NodeName]) -> Findings:
        workspace, find = self._run.policy.workspace, self._setting.wire.directory.find
        return find_columns([find(workspace, node) for node in cohort], self._run)

    async def _send_tasks(self, action: SendTasks) -> None:
        await self._asking.pause()
        self._waits = False
        opened, number = self._round, action.exchange
        plan = replace(self._plan(action.round), findings=opened.findings)
        nodes = opened.asked.get(number, len(action.nodes))
        model = opened.model if action.about is None else await self._find_model(action.about)
        question = self._course.ask(plan, number, action.step, model, nodes)
        if question.mechanism is not None:
            await self._session.call(records.demand_reserved, self._run, question, action.nodes)
        sketch_key = self._setting.at_rest.derive_number(b"agreement\0" + self._run.chance.bytes)
        opened.gather(question, sketch_key)
        await self._asking.begin(question, action.nodes, opened, sketch_key=sketch_key)
        await self._asking.take_waiting(opened, self._state.answered)

    async def _ask_again(self, action: AskAgain) -> None:
        """Ask for what nodes were asked before in a round that is closed."""
        plan = self._plan(action.round)
        model = await self._find_model(RoundNumber(action.round - 1))
        question = self._course.ask(plan, 0, self._course.first(plan).step, model, len(action.nodes))
        await self._asking.ask_again(question, action.nodes)
        faults.reach("coordinator.task.asked_again")

    async def _combine(self, action: Combine) -> None:
        ended = Moment.now()
        exchange = await self._asking.ended()
        question, opened = exchange.question, self._round
        if question.step.required:
            self._meter.combining_begins(exchange.meter.phases(action.nodes, ended))
        else:
            self._meter.go_on()
        if action.round == 0:
            past = await self._session.call(records.past_of, self._run, sorted(action.nodes))
            question = replace(question, plan=replace(question.plan, past=past))
        with self._watch.part("combine"):
            combined = await asyncio.to_thread(opened.combine, question, self._noise)
        opened.note(question, exchange.rows(action.nodes), exchange.weights(action.nodes))
        opened.notes += exchange.notes()
        if combined.agreement is not None:
            self._meter.compared(combined.agreement)
        faults.reach("coordinator.aggregated")
        if combined.following is not None:
            await self._keep(action, exchange, combined.following, combined.left_out)
        self._report(
            Combined(
                action.round,
                action.exchange,
                combined.figures,
                combined.following,
                opened.findings.ended,
                combined.left_out,
            )
        )

    async def _prepare_report(self, action: PrepareReport) -> None:
        asked, exchange = self._course.report, await self._asking.ended()
        assert asked is not None
        plan = replace(self._plan(action.round), findings=self._round.findings)
        if not self._course.may_report(plan):
            self._report(ReportLeftOut(action.round))
            return
        releases = self._course.report_releases(plan, action.exchange + 1)
        try:
            await self._keep(action, exchange, asked, figures=action.figures, releases=releases)
        except FederatedError as error:
            if error.code is not ErrorCode.BUDGET_EXHAUSTED:
                raise
            self._round.notes.append(f"no report is made of the model: {error.message}")
            self._report(ReportLeftOut(action.round))
            return
        self._report(ReportPrepared(action.round, asked))

    async def _keep(
        self,
        action: Combine | PrepareReport,
        exchange: AnyExchange,
        following: Next,
        left_out: Sequence[Loss] = (),
        *,
        figures: Figures | None = None,
        releases: Sequence[Release] = (),
    ) -> None:
        opened = self._round
        without = {loss.node for loss in left_out}
        onward = ((action.onward if isinstance(action, Combine) else None) or action.nodes) - without
        gone = (self._state.cohort - self._state.answered) | without
        settled = replace(settle(self._state, exchange), gone=gone & self._state.cohort)
        await self._session.call(
            records.keep_exchange,
            self._writer,
            action.round,
            settled,
            nodes=sorted(onward),
            step=following.step,
            findings=opened.new_findings(self._findings),
            sizes=opened.sizes,
            kept=self._seal(action.round, opened.kept(), action.exchange + 1),
            measured=self._meter.take(),
            figures=figures,
            releases=releases,
        )
        opened.lost += self._state.lost
        opened.is_kept = True
        self._asking.committed(action.round, action.exchange + 1)
        self._meter.pause()

    async def _close_round(self, action: CloseRound) -> None:
        # Of a round of which only the report was missing nobody may have been asked here.
        settled = None if self._asking.is_begun else self._asking.settled_at_end(self._state)
        settled = settled or settle(self._state, await self._asking.ended())
        opened = self._round
        if action.round == 0:
            opened.begin_model(self._course, self._plan(action.round))
            opened.deal(self._course, self._state.counted)
        notes = [
            f"left out: {describe(node, reason)}" for node, reason in sorted(self._nodes.left_out.items())
        ]
        self._goes_on = await self._session.call(
            records.close_round,
            self._writer,
            action.round,
            settled,
            findings=opened.new_findings(self._findings),
            sizes=opened.sizes,
            figures=action.figures,
            kept=None if opened.is_kept else self._seal(action.round, Kept(opened.model)),
            keep=action.keep,
            held=action.held,
            key=self._setting.at_rest,
            report=opened.report if action.is_reported else None,
            message=self._round_message([*(notes if action.round == 0 else []), *opened.notes]),
            measure=self._meter.finish,
        )
        self._model, self._findings = opened.model, opened.findings
        if action.round == 0:
            self._stated = opened.stated
        self._watch.round_closed()
        log.info("round closed: run=%s round=%s %s", self._run.id, action.round, _shown(action.figures))
        self._asking.round_closed()
        self._has_closed = True
        faults.reach("coordinator.round.closed")
        self._report(RoundClosed(action.round))

    def _seal(self, number: RoundNumber, kept: Kept, version: int = 0) -> StoredState:
        """Seal it; version: the exchange that goes on from it, 0 of a round that is closed with it."""
        workspace = self._run.policy.workspace
        return seal_kept(
            kept, self._run.id, number, self._setting.at_rest, workspace=workspace, version=version
        )

    def _round_message(self, notes: Sequence[str]) -> str | None:
        lost = sorted((*self._round.lost, *self._state.lost), key=lambda loss: loss.node)
        return "; ".join([*notes, *(f"without {_which(loss)}" for loss in lost)]) or None

    async def _end(self, status: RunStatus, message: str, *, publish: RoundNumber | None = None) -> None:
        private = self._run.policy.budget is not None and status is not RunStatus.STOPPED
        await self._asking.close(grace=_HEARING if private else 0.0)
        version, publishes = None, self._run.publishes
        if publish is not None and publishes:
            model = await self._find_model(publish)
            version = records.new_version(self._course, self._findings, publish, model)
        message = await self._session.call(
            records.end_run,
            self._writer,
            status,
            message,
            number=self._state.round,
            settled=self._asking.settled_at_end(self._state),
            version=version,
            result=None if publishes else publish,
        )
        self._watch.run_ended(status)
        log.info("run ended: run=%s status=%s %s", self._run.id, status, message)
        if publish is not None:
            faults.reach("coordinator.version.committed")
        self._report(RunEnded())

    async def _find_model(self, number: RoundNumber) -> ModelState:
        return await self._session.call(loading.find_model, self._run.id, number, self._setting.at_rest)

    async def _say_farewell(self) -> None:
        workspace = self._run.policy.workspace
        ended = await self._session.call(list_ended_runs, workspace)
        members, _ = self._setting.wire.directory.look(workspace)
        await say_farewell(members, workspace, frozenset(ended))


def _which(loss: Loss) -> str:
    text = describe(loss.node, loss.reason)
    return text if text.startswith(f"{loss.node}:") else f"{loss.node}, which {loss.reason}"


def _shown(figures: Figures | None) -> str:
    if figures is None:
        return "not evaluated"
    return f"loss={figures.loss} accuracy={figures.accuracy}"
