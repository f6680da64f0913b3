"""Drives one run: performs what the round machine asks for, and tells it what happened.

What always holds: the driver decides nothing, and keeps nothing that the catalog does not hold but the
updates of the exchange that is open; so it can be killed at any point and another one goes on from the
committed rows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from heliosdb import faults
from heliosdb.aggregation import Agreement, measure_agreement, strategy
from heliosdb.aggregation import Update as Answer
from heliosdb.aggregation.convergence import converged
from heliosdb.aggregation.registry import Strategy
from heliosdb.coordinator import planning, records
from heliosdb.coordinator.acceptance import check_combined, make_acceptance
from heliosdb.coordinator.exchange import Exchange, Question, Wire
from heliosdb.coordinator.measuring import RoundMeter
from heliosdb.coordinator.selection import boolean_features, select_nodes
from heliosdb.coordinator.session import Session
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.events import (
    NOBODY,
    UNREGISTERED,
    Absence,
    Action,
    BudgetWouldBeExceeded,
    CloseRound,
    Combine,
    Combined,
    Event,
    FailRun,
    Figures,
    FinishRun,
    Loss,
    NodesSeen,
    OpenRound,
    ProblemFound,
    PublishVersion,
    RoundClosed,
    RoundOpened,
    RunEnded,
    SendTasks,
    StopRequested,
    Wait,
    WaitedTooLong,
    describe,
)
from heliosdb.domain.ids import Epoch, NodeName, RoundNumber
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.round import Decision, Phase, RunState, decide, resume
from heliosdb.domain.run import RunStatus
from heliosdb.domain.task import Step, Task, TaskKey
from heliosdb.domain.usage import Moment
from heliosdb.domain.vector import Vector
from heliosdb.transport.sealing import AtRestKey

log = logging.getLogger(__name__)

_NOTHING = planning.Findings()

_HEARING = 5.0
"""Seconds for which a private run that ends early hears out its nodes: a refusal leaves nothing reserved."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What every run of a term shares."""

    epoch: Epoch
    wire: Wire
    at_rest: AtRestKey


class RunDriver:
    """One run of one term, over a session of its own."""

    def __init__(self, setting: Setting, session: Session, loaded: records.Loaded) -> None:
        self._setting = setting
        self._session = session
        self._run = loaded.run
        self._writer = records.Writer(setting.epoch, loaded.run)
        self._findings = loaded.findings
        self._parameters = (
            loaded.parameters if loaded.parameters is not None else planning.initial_parameters(loaded.run)
        )
        self._stated = loaded.stated
        self._candidate = loaded.kept
        self._combined = _NOTHING
        self._progress = loaded.progress
        self._events: asyncio.Queue[Event | BaseException] = asyncio.Queue()
        self._exchange: Exchange | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._left_out: dict[NodeName, str] = {}
        self._lost_in_training: tuple[Loss, ...] = ()
        self._unasked = False  # whether a round was opened here and nobody was asked yet
        self._opened_here: RoundNumber | None = None
        self._meter = RoundMeter()
        self._state: RunState

    def request_stop(self) -> None:
        """Pass on that somebody typed STOP."""
        self._report(StopRequested())

    async def drive(self) -> None:
        """Go on with the run until it has ended; RunGoneError where it was dropped meanwhile."""
        try:
            await self._apply(self._resume())
            while self._state.phase is not Phase.ENDED:
                event = await self._events.get()
                if isinstance(event, BaseException):
                    raise event
                await self._apply(decide(self._state, event))
        finally:
            await self._stop_watching()
            await self._close_exchange()

    def _resume(self) -> Decision:
        rules = planning.make_rules(self._run, self._findings)
        progress = replace(self._progress, converged=self._has_converged(self._progress.losses))
        return resume(rules, progress)

    def _report(self, event: Event) -> None:
        self._events.put_nowait(event)

    async def _apply(self, decision: Decision) -> None:
        """Take the new state, then act; what an action answers comes back as an event."""
        self._state, actions = decision
        if self._state.phase is not Phase.WAITING:
            await self._stop_watching()
        elif self._watcher is None:
            self._watcher = asyncio.create_task(self._watch_nodes(self._state.round))
            self._watcher.add_done_callback(self._watcher_ended)
        for action in actions:
            try:
                await self._perform(action)
            except FederatedError as error:
                await self._react(action, error)

    async def _react(self, action: Action, error: FederatedError) -> None:
        """Tell the machine; where the end itself failed there is nobody to tell, and the run fails."""
        event = self._explain(error)
        if self._state.phase is not Phase.ENDING:
            self._report(event)
        elif isinstance(action, PublishVersion):
            await self._end(RunStatus.FAILED, f"no version can be published: {error.message}", publish=False)
        else:
            raise error

    def _explain(self, error: FederatedError) -> Event:
        """What an error means to the run; one that means the term is over is raised again."""
        if error.code is ErrorCode.FENCED:
            raise error
        reason = error.message if error.detail is None else f"{error.message} {error.detail}"
        if error.code is ErrorCode.BUDGET_EXHAUSTED:
            return BudgetWouldBeExceeded(self._state.round, reason)
        return ProblemFound(reason)

    async def _perform(self, action: Action) -> None:
        match action:
            case Wait(message):
                log.info("run waits: run=%s %s", self._run.id, message)
                await self._session.call(records.say, self._writer, message)
            case OpenRound():
                await self._open_round(action)
            case SendTasks():
                await self._send_tasks(action)
            case Combine():
                await self._combine(action)
            case CloseRound():
                await self._close_round(action)
            case PublishVersion(_, status, message) | FinishRun(status, message):
                await self._end(status, message, publish=isinstance(action, PublishVersion))
            case FailRun(reason):
                await self._end(RunStatus.FAILED, reason, publish=False)

    # Waiting for nodes.

    async def _watch_nodes(self, number: RoundNumber) -> None:
        """Report who is there, again at every change, until the time to wait is over."""
        loop, directory = asyncio.get_running_loop(), self._setting.wire.directory
        deadline = loop.time() + self._run.policy.round_timeout
        while not directory.is_settled():
            await directory.wait_for_change(1.0)
        if number == 0:
            await directory.greet_again(self._run.policy.workspace)
        while True:
            present, absent = self._look(number)
            # Enough nodes at the last moment are enough: then it is not waited for any more.
            self._report(NodesSeen(number, present, absent))
            if loop.time() >= deadline:
                self._report(WaitedTooLong(number, present, absent))
                return
            await directory.wait_for_change(deadline - loop.time())

    def _look(self, number: RoundNumber) -> tuple[frozenset[NodeName], tuple[Absence, ...]]:
        members, absent = self._setting.wire.directory.look(self._run.policy.workspace)
        if number > 0:
            known = {member.name for member in members} | {one.node for one in absent}
            gone = [Absence(name, UNREGISTERED) for name in sorted((self._state.members or NOBODY) - known)]
            return frozenset(member.name for member in members), (*absent, *gone)
        selection = select_nodes(members, self._run.options)
        self._left_out = {one.node: one.reason for one in selection.left_out}
        if not selection.able and len(members) >= self._run.policy.min_nodes:
            names = "no node shares all columns of the model"
            if selection.missing:
                names = f"no node shares column {', '.join(selection.missing)}"
            reasons = "; ".join(describe(one.node, one.reason) for one in selection.left_out)
            self._report(ProblemFound(f"{names} ({reasons})"))
        return selection.able, (*selection.left_out, *absent)

    async def _stop_watching(self) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.cancel()
            await asyncio.wait({watcher})

    def _watcher_ended(self, watcher: asyncio.Task[None]) -> None:
        error = None if watcher.cancelled() else watcher.exception()
        if error is not None:
            self._events.put_nowait(error)

    # Rounds.

    async def _open_round(self, action: OpenRound) -> None:
        run, cohort = self._run, sorted(action.cohort)
        if action.round == 0:
            past = await self._session.call(records.past_of, run, cohort)
            booleans = self._boolean_features(cohort)
            self._findings = await asyncio.to_thread(planning.plan_round_zero, run, past, booleans)
        await self._session.call(
            records.open_round,
            self._writer,
            action.round,
            cohort,
            findings=self._findings,
            releases=planning.releases(run, self._findings, action.round, evaluated=action.evaluates),
            left_out=self._left_out,
        )
        self._unasked, self._opened_here = True, action.round
        self._meter = RoundMeter()
        self._lost_in_training = ()
        log.info("round opened: run=%s round=%s nodes=%s", run.id, action.round, len(cohort))
        faults.reach("coordinator.round.opened")
        self._report(RoundOpened(action.round))

    def _boolean_features(self, cohort: Sequence[NodeName]) -> tuple[bool, ...]:
        workspace, find = self._run.policy.workspace, self._setting.wire.directory.find
        members = [find(workspace, node) for node in cohort]
        there = [member for member in members if member is not None]
        if len(there) < len(members):
            return (False,) * len(self._run.options.features)
        return boolean_features(there, self._run.options)

    async def _send_tasks(self, action: SendTasks) -> None:
        await self._close_exchange()
        self._unasked = False
        # An evaluation is asked only after training was combined: where that was here, nobody was asked yet.
        trained = self._exchange is not None and self._exchange.step is Step.TRAIN
        fresh = trained if action.step is Step.EVALUATE else self._opened_here == action.round
        run, findings, step = self._run, self._findings, action.step
        parameters = self._parameters_for(step)
        size = planning.expected_size(run, findings, step, parameters)

        def task(node: NodeName, dataset: str | None) -> Task:
            key = TaskKey(run.policy.workspace, run.id, action.round, step, node)
            return planning.build_task(run, findings, key, parameters, dataset)

        question = Question(
            workspace=run.policy.workspace,
            round=action.round,
            step=step,
            task=task,
            fresh=fresh,
            size=size,
            mechanism=planning.expected_mechanism(run, findings, step),
            accept=make_acceptance(run, findings, step, size, self._stated).check,
            stragglers_timeout=run.policy.stragglers_timeout,
            timeout=run.policy.round_timeout,
        )
        self._exchange = Exchange(self._setting.wire, question, self._report)
        await self._exchange.open(action.nodes)

    def _parameters_for(self, step: Step) -> Vector:
        match step:
            case Step.STATISTICS:
                return self._parameters[:0]
            case Step.TRAIN:
                return self._parameters
            case Step.EVALUATE:
                assert self._candidate is not None
                return self._candidate

    async def _combine(self, action: Combine) -> None:
        ended = Moment.now()
        exchange = await self._ended_exchange()
        if action.step is Step.EVALUATE:
            self._meter.go_on()
        else:
            self._meter.combining_begins(exchange.meter.phases(action.nodes, ended))
        answers = exchange.answers(action.nodes)
        figures: Figures | None = None
        match action.step:
            case Step.STATISTICS:
                past = await self._session.call(records.past_of, self._run, sorted(action.nodes))
                self._combined = await self._read_statistics(answers, past)
            case Step.TRAIN:
                rule = strategy(self._run.options.aggregation)
                combined, agreement = await asyncio.to_thread(
                    _combine_and_compare, rule, self._parameters, answers
                )
                check_combined(action.round, combined, answers)
                self._candidate = combined
                self._meter.compared(agreement)
            case Step.EVALUATE:
                if answers:
                    figures = planning.read_evaluation(self._run, self._findings, answers)
        faults.reach("coordinator.aggregated")
        if action.keep:
            await self._keep_training(action, exchange)
        self._report(Combined(action.round, action.step, figures))

    async def _read_statistics(
        self, answers: Sequence[Answer], past: Sequence[Mechanism]
    ) -> planning.Findings:
        return await asyncio.to_thread(planning.read_statistics, self._run, self._findings, answers, past)

    async def _keep_training(self, action: Combine, exchange: Exchange) -> None:
        assert self._candidate is not None
        self._lost_in_training = self._state.lost
        await self._session.call(
            records.keep_training,
            self._writer,
            action.round,
            self._settled(exchange),
            nodes=sorted(action.nodes),
            parameters=records.seal(self._run.id, action.round, self._candidate, self._setting.at_rest),
            measured=self._meter.take(),
        )
        self._meter.pause()

    async def _close_round(self, action: CloseRound) -> None:
        exchange = await self._ended_exchange()
        if action.round == 0:
            await self._close_round_zero(exchange)
        else:
            await self._close_training_round(action, exchange)
        log.info("round closed: run=%s round=%s %s", self._run.id, action.round, _shown(action.figures))
        self._exchange = None
        faults.reach("coordinator.round.closed")
        losses = self._state.losses
        if action.figures is not None and action.figures.loss is not None:
            losses = (*losses, action.figures.loss)
        rules = planning.make_rules(self._run, self._findings)
        self._report(
            RoundClosed(action.round, self._has_converged(losses), evaluates=rules.evaluate_every > 0)
        )

    async def _close_round_zero(self, exchange: Exchange) -> None:
        answers = exchange.answers(self._state.answered)
        sizes = {answer.node: planning.count_rows(self._findings, answer) for answer in answers}
        notes = [f"left out: {describe(node, reason)}" for node, reason in sorted(self._left_out.items())]
        if self._combined.plan is not None and self._combined.plan.reason is not None:
            notes.append(self._combined.plan.reason)
        await self._session.call(
            records.close_round_zero,
            self._writer,
            self._settled(exchange),
            findings=self._combined,
            sizes=sizes,
            message=self._round_message(notes),
            measure=self._meter.finish,
        )
        self._findings = self._combined
        self._stated = {answer.node: answer.weight for answer in answers}

    async def _close_training_round(self, action: CloseRound, exchange: Exchange) -> None:
        assert self._candidate is not None
        kept = exchange.step is Step.EVALUATE
        await self._session.call(
            records.close_round,
            self._writer,
            action.round,
            self._settled(exchange),
            figures=action.figures,
            parameters=None
            if kept
            else records.seal(self._run.id, action.round, self._candidate, self._setting.at_rest),
            message=self._round_message([]),
            measure=self._meter.finish,
        )
        self._parameters, self._candidate = self._candidate, None

    def _round_message(self, notes: Sequence[str]) -> str | None:
        lost = sorted((*self._lost_in_training, *self._state.lost), key=lambda loss: loss.node)
        return "; ".join([*notes, *(f"without {_which(loss)}" for loss in lost)]) or None

    def _has_converged(self, losses: Sequence[float]) -> bool:
        options = self._run.options
        if options.convergence_threshold is None or options.early_stopping_rounds is None:
            return False
        return converged(losses, options.convergence_threshold, options.early_stopping_rounds)

    async def _end(self, status: RunStatus, message: str, *, publish: bool) -> None:
        private = self._run.policy.budget is not None and status is not RunStatus.STOPPED
        await self._close_exchange(grace=_HEARING if private else 0.0)
        version = None
        if publish:
            number = RoundNumber(self._state.closed)
            version = records.new_version(self._run, self._findings, number, self._parameters)
        message = await self._session.call(
            records.end_run,
            self._writer,
            status,
            message,
            number=self._state.round,
            settled=self._settled_at_end(),
            version=version,
        )
        log.info("run ended: run=%s status=%s %s", self._run.id, status, message)
        if publish:
            faults.reach("coordinator.version.committed")
        self._report(RunEnded())

    # The exchange that is open.

    def _settled(self, exchange: Exchange) -> records.Settled:
        state = self._state
        if exchange.step is not state.step:
            return records.Settled(exchange.step, [])
        unspent = [(node, exchange.step) for node in sorted(exchange.unspent() - state.answered)]
        if exchange.step is Step.TRAIN:
            # Only those whose training counts are asked to evaluate it.
            unspent += [(node, Step.EVALUATE) for node in sorted(state.cohort - state.answered)]
        return records.Settled(exchange.step, exchange.settle(state.answered, state.lost), unspent)

    def _settled_at_end(self) -> records.Settled | None:
        """What there is to settle where a run ends within a round: what was not asked is not spent."""
        state, exchange = self._state, self._exchange
        first = Step.STATISTICS if state.round == 0 else Step.TRAIN
        if self._unasked and exchange is None:
            everyone = [(node, step) for node in sorted(state.cohort) for step in (first, Step.EVALUATE)]
            return records.Settled(first, [], everyone)
        if exchange is None:
            return None
        settled = self._settled(exchange)
        if settled.step is Step.TRAIN and state.step is Step.TRAIN:
            unasked = [(node, Step.EVALUATE) for node in sorted(state.cohort & state.answered)]
            settled = replace(settled, unspent=[*settled.unspent, *unasked])
        return settled

    async def _ended_exchange(self) -> Exchange:
        assert self._exchange is not None
        await self._exchange.close()
        return self._exchange

    async def _close_exchange(self, *, grace: float = 0.0) -> None:
        if self._exchange is not None:
            await self._exchange.close(grace=grace)


def _combine_and_compare(
    rule: Strategy, parameters: Vector, answers: Sequence[Answer]
) -> tuple[Vector, Agreement]:
    return rule.combine(parameters, answers), measure_agreement(answers)


def _which(loss: Loss) -> str:
    text = describe(loss.node, loss.reason)
    return text if text.startswith(f"{loss.node}:") else f"{loss.node}, which {loss.reason}"


def _shown(figures: Figures | None) -> str:
    if figures is None:
        return "not evaluated"
    return f"loss={figures.loss} accuracy={figures.accuracy}"
