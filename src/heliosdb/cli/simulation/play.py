"""Plays a run over simulated nodes: performs what the round machine asks for, as the coordinator's driver
does.

What always holds: what follows from what is decided by `decide`, the course and the opened round, which the
coordinator uses; here events are answered at once, one after another, and nothing is committed.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from types import MappingProxyType

from heliosdb.aggregation.custom_function import CustomFunction
from heliosdb.aggregation.sums import protocol
from heliosdb.aggregation.updates import check_update
from heliosdb.algorithms.evaluation import EVALUATE
from heliosdb.algorithms.opening import describe_columns
from heliosdb.algorithms.sum_noise import cohort_of
from heliosdb.catalog.ledger import Spent
from heliosdb.cli.simulation.nodes import SimulatedNode, without_budget
from heliosdb.coordinator.budget import most_spent, plan_reservations
from heliosdb.coordinator.central_noise import CentralNoise
from heliosdb.coordinator.course import Course, ModelState, Question
from heliosdb.coordinator.losses import loss_of
from heliosdb.coordinator.opened import RoundUnderWay
from heliosdb.coordinator.rules import explain_error, make_rules
from heliosdb.coordinator.selection import contract_problem
from heliosdb.domain.absence import Absence
from heliosdb.domain.contract import Eligibility
from heliosdb.domain.errors import FederatedError, not_supported
from heliosdb.domain.events import (
    Action,
    CloseRound,
    Combine,
    Combined,
    Event,
    FailRun,
    Figures,
    FinishRun,
    NodeLost,
    NodesSeen,
    OpenRound,
    ProblemFound,
    PublishVersion,
    RoundClosed,
    RoundOpened,
    RunEnded,
    SendTasks,
    UpdateArrived,
    Wait,
    WaitedTooLong,
)
from heliosdb.domain.findings import Findings, RunPlan
from heliosdb.domain.groups import group_of
from heliosdb.domain.ids import NodeName, RoundNumber
from heliosdb.domain.privacy import Mechanism, Spending
from heliosdb.domain.progress import Progress
from heliosdb.domain.round import decide, resume
from heliosdb.domain.run import Run, RunStatus
from heliosdb.domain.run_state import Decision, Phase, RunState
from heliosdb.domain.selection import NEW, NO_STANDINGS, Standing, Standings
from heliosdb.domain.state import NO_STATE
from heliosdb.domain.task import Task
from heliosdb.domain.update import Total
from heliosdb.parts.protocols import PLAIN
from heliosdb.privacy.neighbours import most_curious


@dataclass(frozen=True, slots=True)
class PlayedRound:
    """A closed round. nodes: how many took part; epsilon: what the most charged node has spent so far; None
    without a budget. notes: what its steps said, as a run's round has in its message."""

    number: RoundNumber
    nodes: int
    lost: int
    figures: Figures | None
    epsilon: float | None
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a simulated run ended. published: the round whose model would be published, None for none. lost:
    why the nodes that were lost last were. measured: what the published model has at each node that took
    part, on its own held-out rows, without noise; empty where nothing is held out."""

    status: RunStatus
    message: str
    rounds: Sequence[PlayedRound]
    published: RoundNumber | None
    lost: Mapping[NodeName, str]
    members: frozenset[NodeName]
    measured: Mapping[NodeName, Figures] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def final(self) -> PlayedRound | None:
        """The published round."""
        return next((one for one in self.rounds if one.number == self.published), None)


class Play:
    """One run over simulated nodes."""

    def __init__(
        self,
        run: Run,
        nodes: Iterable[SimulatedNode],
        eligible: Eligibility,
        show: Callable[[PlayedRound], None],
    ) -> None:
        """eligible: what of the nodes' columns is known. FederatedError where the run's parts do not fit."""
        if run.options.rounds_hidden:
            raise not_supported(
                "hidden updates that are rounded are not simulated",
                hint="Simulate without quantization: of 16 bits the difference is not seen.",
            )
        # What nodes would send behind masks is added up as it is: a secure sum is the same to the bit.
        self._run, self._course = run, replace(Course.of(run), protocol=protocol(PLAIN))
        if isinstance(self._course.strategy, CustomFunction):
            raise not_supported(
                f"aggregation {run.options.aggregation} is a function of a database, which is not here"
            )
        self._nodes = {node.name: node for node in nodes}
        self._eligible = eligible
        self._show = show
        self._findings, self._stated = Findings(), dict[NodeName, float]()
        self._kept: dict[RoundNumber, ModelState] = {}
        self._round = RoundUnderWay.begin(None, self._findings)
        self._question: Question | None = None
        self._rows: dict[NodeName, int] = {}
        self._weights: dict[NodeName, float] = {}
        self._known: Standings = NO_STANDINGS
        self._noise = CentralNoise(secrets.token_bytes(32))
        self._asked = frozenset[NodeName]()
        self._aligned: Mapping[NodeName, float | None] = {}
        self._spent: dict[NodeName, tuple[Spent, ...]] = {}
        self._reached: dict[NodeName, Spending] = {}
        self._lost = {one.node: one.reason for one in eligible.left_out}
        self._lost_in_round: set[NodeName] = set()
        self._played: list[PlayedRound] = []
        self._began = 0.0
        self._end: tuple[RunStatus, str, RoundNumber | None] = (RunStatus.FAILED, "", None)
        self._events: deque[Event] = deque()
        self._state: RunState

    def play(self) -> Outcome:
        """Go on until the run has ended."""
        self._apply(resume(make_rules(self._run), Progress()))
        while self._state.phase is not Phase.ENDED:
            if self._state.phase is Phase.WAITING and not self._events:
                self._look()
            self._apply(decide(self._state, self._events.popleft()))
        status, message, published = self._end
        members = self._state.members or frozenset()
        measured = {} if published is None else self._measure(published, sorted(members))
        return Outcome(status, message, self._played, published, self._lost, members, measured)

    def _look(self) -> None:
        if self._state.round == 0:
            needed = self._state.rules.needed
            problem = contract_problem(self._eligible, self._run, there=len(self._nodes), needed=needed)
            if problem is not None:
                self._events.append(ProblemFound(problem))
        self._events.append(NodesSeen(self._state.round, *self._present, self._known))

    @property
    def _present(self) -> tuple[frozenset[NodeName], tuple[Absence, ...]]:
        return frozenset(self._eligible.able), self._eligible.left_out

    def _apply(self, decision: Decision) -> None:
        self._state, actions = decision
        for action in actions:
            try:
                self._perform(action)
            except FederatedError as error:
                self._events.append(explain_error(action, error, self._state.round))

    def _perform(self, action: Action) -> None:
        match action:
            case Wait():
                # Nobody else will come.
                self._events.append(WaitedTooLong(self._state.round, *self._present))
            case OpenRound():
                self._open_round(action)
            case SendTasks():
                self._send_tasks(action)
            case Combine():
                self._combine(action)
            case CloseRound():
                self._close_round(action)
            case PublishVersion(number, status, message):
                self._finish(status, message, number)
            case FinishRun(status, message):
                self._finish(status, message)
            case FailRun(reason):
                self._finish(RunStatus.FAILED, reason)

    def _finish(self, status: RunStatus, message: str, published: RoundNumber | None = None) -> None:
        self._end = (status, message, published)
        self._events.append(RunEnded())

    def _plan(self, number: RoundNumber) -> RunPlan:
        return RunPlan(self._run, self._findings, number, self._stated)

    def _open_round(self, action: OpenRound) -> None:
        self._began = time.monotonic()
        self._lost_in_round = set()
        if action.round == 0:
            findings = describe_columns(self._eligible.able, self._run, are_all=True)
            plan = replace(self._plan(action.round), findings=findings, past=self._past(action.cohort))
            self._findings = self._course.algorithm.prepare(plan)
        plan = self._plan(action.round)
        self._reserve(sorted(action.cohort), plan)
        model = self._kept.get(RoundNumber(action.round - 1))
        self._round = RoundUnderWay.begin(model, self._findings)
        self._events.append(RoundOpened(action.round, self._course.first(plan)))

    def _reserve(self, cohort: Sequence[NodeName], plan: RunPlan) -> None:
        budget = self._run.policy.budget
        if budget is None:
            return
        norms = self._course.clipping_norms(plan)
        releases = self._course.releases(plan)
        made = plan_reservations(self._spent, self._reached, cohort, releases, budget, clipping_norms=norms)
        for one in made:
            self._spent[one.node] = _with(self._spent.get(one.node, ()), one.mechanism)
            self._reached[one.node] = Spending(one.epsilon_basic, one.epsilon_tight)

    def _past(self, cohort: Iterable[NodeName]) -> Sequence[Mechanism]:
        if self._run.policy.budget is None:
            return ()
        return most_spent(self._spent, sorted(cohort), self._run.policy.delta)

    def _send_tasks(self, action: SendTasks) -> None:
        plan = replace(self._plan(action.round), findings=self._round.findings)
        model = self._round.model if action.about is None else self._kept[action.about]
        question = self._course.ask(plan, action.exchange, action.step, model, len(action.nodes))
        self._question, self._rows, self._weights = question, {}, {}
        if action.exchange == 0:
            self._asked, self._aligned = action.nodes, {}
        self._round.gather(question, self._run.seed)
        following: list[Action] = []
        for node in sorted(action.nodes):
            if self._state.phase is not Phase.EXCHANGE:
                break
            event = self._ask(question, node)
            self._state, actions = decide(self._state, event)
            following += actions
        # By themselves: what fails in them is no fault of the exchange.
        self._apply((self._state, tuple(following)))

    def _ask(self, question: Question, node: NodeName) -> UpdateArrived | NodeLost:
        number, exchange, shape = question.plan.round, question.exchange, question.shape
        try:
            task = question.task(node, None, NO_STATE)
            update = self._nodes[node].answer(task, self._share(question, node))
            check_update(update, shape.size, shape.dtype)
            question.check(update)
        except FederatedError as error:
            loss = loss_of(node, error)
            self._lost[node] = loss.reason
            self._lost_in_round.add(node)
            return NodeLost(number, exchange, loss)
        self._round.take(update)
        self._weights[node] = update.weight
        rows = question.rows(update)
        if rows is not None:
            self._rows[node] = rows
        return UpdateArrived(number, exchange, node)

    def _share(self, question: Question, node: NodeName) -> Fraction | None:
        """Which part of the noise a node adds; None: all of it."""
        match question.asked.work.summing.trust:
            case "local":
                return None
            case "distributed":
                group = question.groups[group_of(question.groups, node)] if question.groups else self._asked
                # As of a node whose DBA has named all participants, and says no more of them.
                return cohort_of(self._run, len(group)).share(most_curious(len(self._nodes)))
            case "central":
                return Fraction(0)

    def _combine(self, action: Combine) -> None:
        question = self._question
        assert question is not None
        if action.round == 0:
            question = replace(question, plan=replace(question.plan, past=self._past(action.nodes)))
        combined = self._round.combine(question, self._noise)
        if combined.agreement is not None:
            self._aligned = combined.agreement.alignments
        self._round.note(question, self._rows, self._weights)
        self._events.append(
            Combined(
                action.round,
                action.exchange,
                combined.figures,
                combined.following,
                self._round.findings.ended,
                combined.left_out,
            )
        )

    def _close_round(self, action: CloseRound) -> None:
        opened = self._round
        if action.round == 0:
            opened.begin_model(self._course, self._plan(action.round))
            opened.deal(self._course, self._state.counted)
            self._stated = opened.stated
        self._findings = opened.findings
        self._known = self._standings(action.round)
        self._kept = {number: model for number, model in self._kept.items() if number == action.keep}
        self._kept[action.round] = opened.model
        counted = self._state.counted
        epsilon = max((one.epsilon_tight for one in self._reached.values()), default=None)
        closed = PlayedRound(
            action.round,
            len(counted),
            len(self._lost_in_round),
            action.figures,
            epsilon,
            time.monotonic() - self._began,
            tuple(opened.notes),
        )
        self._played.append(closed)
        self._show(closed)
        self._events.append(RoundClosed(action.round))

    def _standings(self, number: RoundNumber) -> Standings:
        """What is known of nodes once a round is closed, as the catalog would have it."""
        if number == 0:
            return {node: Standing(rows) for node, rows in sorted(self._round.sizes.items())}
        known = dict(self._known)
        for node in self._asked:
            one = known.get(node, NEW)
            aligned = one.aligned + (self._aligned.get(node) or 0.0)
            known[node] = replace(one, asked=one.asked + 1, aligned=aligned, last_asked=int(number))
        return known

    def _measure(self, published: RoundNumber, members: Sequence[NodeName]) -> dict[NodeName, Figures]:
        """Measure the model that would be published at each node, as only a simulation can: without noise."""
        if not self._run.options.validation_split or EVALUATE not in self._course.algorithm.steps:
            return {}
        model, found = self._kept[published], dict[NodeName, Figures]()
        question = self._plain_question(published)
        for node in members:
            gathering = question.gathering()
            gathering.take(self._nodes[node].measure(without_budget(question.task(node, None, NO_STATE))))
            gathered = gathering.result()
            assert isinstance(gathered, Total)
            figures = question.course.conclude(question, model, gathered).taken.figures
            if figures is not None:
                found[node] = figures
        return found

    def plain_task(self, published: RoundNumber) -> Task:
        """Return what a node would be asked to measure the model of a round on its rows without noise."""
        return without_budget(self._plain_question(published).task(NodeName("measured"), None, NO_STATE))

    def _plain_question(self, published: RoundNumber) -> Question:
        run = replace(self._run, policy=replace(self._run.policy, privacy_budget=None))
        plan = RunPlan(run, replace(self._findings, plan=None), published, self._stated)
        return replace(self._course, run=run).ask(plan, 1, EVALUATE, self._kept[published], 1)


def _with(spent: tuple[Spent, ...], mechanism: Mechanism) -> tuple[Spent, ...]:
    """Count one more release among those that are equal."""
    for place, one in enumerate(spent):
        if one.mechanism == mechanism:
            return (*spent[:place], replace(one, times=one.times + 1), *spent[place + 1 :])
    return (*spent, Spent(mechanism, 1))
