"""A run's parts, found once: what each exchange of a round asks, and what its answers lead to.

What always holds: everything here is a pure function of the run, of committed rows and of updates, so that a
task that is asked again after a restart is the same task to the byte; no part is known by name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, cast

from heliosdb.aggregation.coding import coded
from heliosdb.aggregation.custom_function import Call, CustomFunction
from heliosdb.aggregation.gathering import (
    EachGathering,
    Gathering,
    SumGathering,
    WeightedGathering,
    gathering_for,
)
from heliosdb.aggregation.groups import GroupGathering, mean_update
from heliosdb.aggregation.masked_sum import (
    AddsInRing,
    AddsMasked,
    MaskedAdding,
    MaskedGathering,
    MaskedSum,
    sums_in,
)
from heliosdb.aggregation.partial_sum import Adding
from heliosdb.aggregation.strategy import Strategy, check_fits, companions, strategy, weighs
from heliosdb.aggregation.sums import KnowsCohort, Shape, Stage, SumProtocol, protocol
from heliosdb.algorithms.certifying import CERTIFY, Certifying, CertifyStep
from heliosdb.algorithms.registry import algorithm
from heliosdb.algorithms.report import report_noise_of
from heliosdb.algorithms.steps import (
    PERSONALIZE,
    REPORT,
    Algorithm,
    Asked,
    ClipsSums,
    Describing,
    HasOwnNoise,
    JudgesTerms,
    Remembering,
    ScalesSum,
    Step,
    Taken,
)
from heliosdb.algorithms.sum_noise import noise_variance
from heliosdb.algorithms.transfer import Carried, Transferring
from heliosdb.coordinator.budget import Release
from heliosdb.coordinator.group_sums import find_sum
from heliosdb.coordinator.hidden_updates import in_fewer_bits, read_total, without_state
from heliosdb.coordinator.local_rules import check_local, moved_by, tell_rule
from heliosdb.domain.classes import read_classes
from heliosdb.domain.errors import ErrorCode, FederatedError, not_supported
from heliosdb.domain.events import Next
from heliosdb.domain.findings import RunPlan
from heliosdb.domain.groups import Groups, dealt
from heliosdb.domain.ids import NodeName, StepName
from heliosdb.domain.origin import Origin
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.run import Run
from heliosdb.domain.state import NO_STATE, State, flatten
from heliosdb.domain.task import Reading, Summing, Task, TaskKey, Work
from heliosdb.domain.update import Term, Total, Update, Updates
from heliosdb.domain.vector import AnyVector
from heliosdb.parts.checks import check_parts
from heliosdb.parts.personal import personal_of
from heliosdb.parts.protocols import PROTOCOLS, least_of_group
from heliosdb.parts.strategies import STRATEGIES, groups_of
from heliosdb.scoring.ballot import Ballot


@dataclass(frozen=True, slots=True)
class ModelState:
    """What a run has learned so far: the model's state, and what its strategy remembers."""

    state: State
    memory: State = field(default_factory=lambda: NO_STATE)


@dataclass(frozen=True, slots=True)
class Course:
    """The parts of one run."""

    run: Run
    algorithm: Algorithm
    strategy: Strategy
    settings: Any
    protocol: SumProtocol
    origin: Origin | None = None
    """The version that the run begins with, until its round 0 is closed."""

    @classmethod
    def of(cls, run: Run) -> Course:
        """Find the parts; FederatedError where one is not there, or they do not fit together."""
        options = run.options
        check_parts(options, run.policy)
        rule, sums = strategy(options.aggregation), protocol(options.protocol)
        settings: Any = options.settings(STRATEGIES.entry(options.aggregation).settings)
        sums = sums.with_settings(options.settings(PROTOCOLS.entry(options.protocol).settings))
        check_fits(rule, sums, settings)
        learned = algorithm(options.algorithm)
        check_local(learned, rule, settings)
        done = Certifying(learned) if run.measures_vote else learned
        return cls(run, done, rule, settings, sums)

    def about(self, ballot: Ballot) -> Course:
        """Return the same course of a run that measures this vote."""
        assert isinstance(self.algorithm, Certifying)
        return replace(self, algorithm=replace(self.algorithm, step=CertifyStep(ballot)))

    def calling(self, call: Call) -> Course:
        """Return the same course, where its strategy is a function of people's with what calls it."""
        if not isinstance(self.strategy, CustomFunction):
            return self
        return replace(self, strategy=replace(self.strategy, call=call))

    @property
    def _carrying(self) -> int:
        return next(number for number, stage in enumerate(self.protocol.stages) if stage.carries)

    def stage(self, exchange: int) -> Stage:
        """Return which of the sum protocol's messages an exchange is."""
        return self.protocol.stages[exchange % len(self.protocol.stages)]

    def is_last_stage(self, exchange: int) -> bool:
        """Return whether a step's sum is known after an exchange."""
        return (exchange + 1) % len(self.protocol.stages) == 0

    def step(self, name: StepName) -> Step:
        """Return the step of that name."""
        return self.algorithm.steps[name]

    def next(self, name: StepName) -> Next:
        """Return what the round machine is to know of a step."""
        return Next(name, self.step(name).required, reports=name in (PERSONALIZE, REPORT, CERTIFY))

    @property
    def remembered(self) -> str | None:
        """What nodes remember of the run from round to round, without which their answers are others, in
        words; None where it is nothing."""
        told = self.strategy.local(self.settings)
        if self.run.options.sending.sparsifies:
            return "what of their updates they have not sent"
        steps = (one for one in self.algorithm.steps.values() if isinstance(one, Remembering))
        return next((said for one in steps if (said := one.remembered(self.run, told))), None)

    @property
    def report(self) -> Next | None:
        """What is asked first of the model that a run is about to publish: that nodes make their own parts
        of it, then a report; None where its algorithm has no report, or nothing is held out. Under a budget
        its plan says whether it is; see `report_releases`."""
        if personal_of(self.run.options) is not None:
            return self.next(PERSONALIZE)
        if REPORT not in self.algorithm.steps or self.run.options.validation_split == 0:
            return None
        return self.next(REPORT)

    def may_report(self, plan: RunPlan) -> bool:
        """Return whether a report, where there is one, is asked for: always without a budget."""
        return self.run.policy.budget is None or report_noise_of(plan) is not None

    def report_releases(self, plan: RunPlan, exchange: int) -> list[Release]:
        """Return what a report that begins with an exchange costs each node; none without a budget."""
        noise = report_noise_of(plan)
        return [] if noise is None else [(exchange + self._carrying, REPORT, Mechanism(noise))]

    def first(self, plan: RunPlan) -> Next:
        """Return with what the plan's round begins."""
        return self.next(self.algorithm.first(plan))

    def states_rows(self, exchange: int) -> bool:
        """Return whether the weights of a round's first answers are in an exchange."""
        return self.protocol.is_open and exchange == self._carrying

    def releases(self, plan: RunPlan) -> list[Release]:
        """Return the private releases of a round at each node; none without a budget. NOT_SUPPORTED for a
        step that has no form with the workspace's noise."""
        count, place = len(self.protocol.stages), self._carrying
        costs, noise = self.algorithm.releases(plan), self.run.policy.noise
        for cost in costs:
            step = self.step(cost.step)
            if cost.mechanism.noise != (step.own_noise if isinstance(step, HasOwnNoise) else noise):
                raise not_supported(f"step {cost.step} is not supported under noise_mechanism {noise}")
        return [(index * count + place, one.step, one.mechanism) for index, one in enumerate(costs)]

    def clipping_norms(self, plan: RunPlan) -> dict[StepName, float]:
        """Return the clipping norms that the ledger shows; the other releases are bounded by construction."""
        costs = self.algorithm.releases(plan)
        return {one.step: one.clipping_norm for one in costs if one.clipping_norm is not None}

    def deal(self, nodes: Collection[NodeName]) -> Groups:
        """Return the groups of a run in whose round 0 these nodes took part; () where its rule has none."""
        groups = groups_of(self.settings)
        return () if groups is None else dealt(nodes, min(groups, len(nodes)), self.run.policy.workspace)

    def initial_model(self, plan: RunPlan) -> ModelState:
        """Return the model with which round 1 begins, of a run that begins with no version."""
        return ModelState(self.algorithm.begin(plan))

    def carry(self, plan: RunPlan, fresh: State) -> Carried | None:
        """Return with what round 1 begins where the run begins with a version, and `fresh` else; None where
        it does not. FederatedError INVALID_VALUE where nothing of it can be taken over."""
        if self.origin is None:
            return None
        if not isinstance(self.algorithm, Transferring):
            raise not_supported(f"transfer_from with {self.algorithm.name}")
        return self.algorithm.carry(plan, fresh, self.origin)

    def ask(self, plan: RunPlan, exchange: int, name: StepName, model: ModelState, nodes: int) -> Question:
        """Return what an exchange asks. nodes: how many were to be asked, as committed with it."""
        step, stage = self.step(name), self.stage(exchange)
        asked = step.ask(plan, model.state)
        if step.gathers == "rule":
            size = flatten(model.state, step.moving).size
            asked = tell_rule(asked, size, model.memory, self.strategy, self.settings)
        # An open sum needs no number, and without it a task does not change with who is still registered.
        summing = Summing(
            self.protocol.name,
            stage.name,
            nodes=1 if self.protocol.is_open else nodes,
            trust="local" if asked.work.privacy is None else self.run.trust,
        )
        work = coded(asked.work, self.run.options, is_update=step.gathers == "rule" and self.protocol.is_open)
        asked = replace(asked, work=replace(work, summing=summing))
        if isinstance(self.protocol, AddsInRing):
            whole = Question(self, plan, step, exchange, asked)
            summing = in_fewer_bits(plan, step, asked.work, lambda: whole.sensitivity)
            asked = replace(asked, work=replace(work, summing=summing))
        if not self.protocol.is_open and not stage.carries:
            asked = without_state(asked)
        return Question(self, plan, step, exchange, asked)

    def conclude(self, question: Question, model: ModelState, gathered: Total | Updates) -> Conclusion:
        """Return what the sum, or the updates, of a step lead to."""
        step, memory = question.step, model.memory
        trust = question.asked.work.summing.trust
        if trust == "central" and isinstance(gathered, Total):
            _check_noised(gathered)
        if isinstance(gathered, Total) and trust == "distributed":
            # Of a simulated sum, which no protocol has opened, as it would be.
            variance = gathered.variance or noise_variance(self.run, gathered.nodes)
            gathered = replace(gathered, variance=variance)
        if step.gathers == "sum":
            assert isinstance(gathered, Total)
            taken = step.read(question.plan, model.state, gathered)
        else:
            if isinstance(step, ScalesSum) and not question.groups:
                assert isinstance(gathered, Total)
                gathered = step.scaled(question.plan, gathered)
            old = flatten(model.state, step.moving)
            new, memory = self.strategy.combine(old, memory, gathered, self.settings)
            moved = moved_by(new, gathered)
            if question.groups:
                # Which of a group's updates is the longest nobody has seen.
                moved = replace(moved, largest=None)
            taken = step.read(question.plan, model.state, moved)
        return Conclusion(ModelState(taken.state, memory), taken)


AnyGathering = Gathering[Total | Updates] | MaskedGathering | GroupGathering[Total] | GroupGathering[Updates]


@dataclass(frozen=True, slots=True)
class Conclusion:
    """The model after a step, and what else the step made of its answers."""

    model: ModelState
    taken: Taken


@dataclass(frozen=True, slots=True)
class Question:
    """What one exchange asks of every node of its cohort."""

    course: Course
    plan: RunPlan
    step: Step
    exchange: int
    asked: Asked

    @property
    def stage(self) -> Stage:
        """Which message of the sum protocol it is."""
        return self.course.stage(self.exchange)

    @property
    def groups(self) -> Groups:
        """Whose answers are summed by themselves; () where they are all summed together, or each is seen."""
        return self.plan.findings.groups if self.step.gathers == "rule" else ()

    @property
    def shape(self) -> Shape:
        """Of the answers, where they all have one: see `shape_of`."""
        return self._shape(self.asked.work.summing.nodes)

    def shape_of(self, node: NodeName, heard: State) -> Shape:
        """Of one node's answer. heard: as in `task`."""
        return self._shape(self._asked_with(node, heard))

    def _shape(self, nodes: int) -> Shape:
        work, protocol = self.asked.work, self._protocol
        if protocol.is_open:
            return Shape(work.size, work.dtype)
        return protocol.shape(self.stage.name, self._summed, nodes)

    @property
    def _protocol(self) -> SumProtocol:
        """The course's, in the ring of this question's values."""
        return sums_in(self.course.protocol, self.asked.work.summing)

    def _asked_with(self, node: NodeName, heard: State) -> int:
        """How many nodes are asked for the message, of whose sum it is."""
        if self.course.protocol.is_open or not self.groups:
            return self.asked.work.summing.nodes
        return find_sum(heard, self.groups, node).asked

    @property
    def _summed(self) -> int:
        """How many values a protocol sums: the weight is behind them."""
        return self.asked.work.size + 1

    @property
    def mechanism(self) -> Mechanism | None:
        """What an answer must say that it cost."""
        privacy = self.asked.work.privacy
        return privacy.mechanism if privacy is not None and self.stage.carries else None

    def task(self, node: NodeName, node_dataset: str | None, heard: State) -> Task:
        """Return the one task of a node. heard: what the protocol's earlier messages left."""
        nodes = self._asked_with(node, heard)
        if self.groups:
            heard = find_sum(heard, self.groups, node).heard
        note = self.course.protocol.ask(self.stage.name, node, heard)
        return self._task(node, node_dataset, note, nodes)

    @property
    def sensitivity(self) -> float:
        """How far one data subject moves a private answer; NOT_SUPPORTED of a step that does not say."""
        if not isinstance(self.step, ClipsSums):
            raise not_supported(f"step {self.step.name} has no form yet where the coordinator adds the noise")
        return self.step.sensitivity(self._task(NodeName(""), None, b"", self.asked.work.summing.nodes))

    def _key(self, node: NodeName) -> TaskKey:
        run = self.plan.run
        return TaskKey(run.policy.workspace, run.id, self.plan.round, self.exchange, self.step.name, node)

    def _task(self, node: NodeName, node_dataset: str | None, note: bytes, nodes: int) -> Task:
        run, work = self.plan.run, self.asked.work
        return Task(
            key=self._key(node),
            reading=Reading(
                dataset=run.options.dataset or node_dataset,
                features=run.options.features,
                target=run.options.target,
                validation_split=run.options.validation_split,
                seed=run.seed,
                classes=read_classes(run.options.target_classes),
                fold=run.options.fold,
                roles=run.options.roles,
            ),
            work=replace(work, summing=replace(work.summing, note=note, nodes=nodes)),
            scaling=self.asked.scaling,
            state=self.asked.state,
            budget=run.policy.budget,
            compliance_mode=run.policy.compliance_mode,
            encoding=self.plan.findings.encoding,
            model=run.model,
        )

    def check(self, update: Update) -> None:
        """Raise FederatedError UPDATE_REJECTED, with the reason, for an answer that must not count.

        How much an answer counts follows from what is public or was committed before it came, never from its
        own word alone.
        """
        if not self.course.protocol.is_open:
            return
        work = self.asked.work
        fault = _weight_fault(work, update) or self.step.fault(self.plan, work, update)
        if fault is not None:
            raise FederatedError(ErrorCode.UPDATE_REJECTED, fault)

    def adding(self, sketch_key: int) -> Adding | MaskedAdding | None:
        """Return how aggregators add the answers up; None where the coordinator has to see each."""
        course, shape = self.course, self.shape
        if not course.protocol.is_open:
            return self.masked_adding
        is_seen = course.strategy.sees == "each"
        if self.step.gathers != "rule" or is_seen or not isinstance(self.step, JudgesTerms):
            return None
        parts = 1 + len(companions(course.strategy))
        return Adding(shape.size, shape.dtype, not weighs(course.settings), parts, sketch_key)

    @property
    def masked_adding(self) -> MaskedAdding | None:
        """How answers that hide the vector are added up; None where they carry none, or where the protocol,
        or the sums of several groups, need each by itself."""
        protocol = self._protocol
        is_added = self.stage.carries and not self.groups
        return protocol.adding(self._summed) if is_added and isinstance(protocol, AddsMasked) else None

    def check_term(self, term: Term) -> None:
        """Raise FederatedError UPDATE_REJECTED for an answer, added to others, that must not count: as
        `check`."""
        work = self.asked.work
        if not self.course.protocol.is_open:
            # What a node's vector weighs is hidden in it.
            if term.weight != (1.0 if work.privacy is None else work.privacy.weight):
                raise FederatedError(ErrorCode.UPDATE_REJECTED, "what is told of its weight is not its own")
            return
        assert isinstance(self.step, JudgesTerms)
        fault = _weight_fault(work, term) or self.step.fault_of_term(self.plan, work, term)
        if fault is not None:
            raise FederatedError(ErrorCode.UPDATE_REJECTED, fault)

    def own(self, update: Update) -> Update:
        """Return an update without what stands behind it for the companions of the strategy."""
        parts = 1 + len(companions(self.course.strategy))
        return update if parts == 1 else replace(update, vector=update.vector[: update.vector.size // parts])

    def rows(self, update: Update) -> int | None:
        """Return how many rows a node has, as its answer states."""
        return self.step.rows(self.plan, update) if self.course.protocol.is_open else None

    def describe(self, update: Update) -> Mapping[str, Any] | None:
        """Return what is kept of a node's own answer; nothing under a budget, nor where it is hidden."""
        shown = self.course.protocol.is_open and self.asked.work.privacy is None
        if not shown or not _describes(type(self.step)):
            return None
        return cast(Describing, self.step).describe(self.plan, update)

    def gathering(self) -> AnyGathering:
        """Return where the answers are gathered as they arrive."""
        shape, is_open = self.shape, self.course.protocol.is_open
        if self.groups:
            size, dtype = shape.size, shape.dtype
            if is_open:
                return GroupGathering(self.groups, lambda: WeightedGathering(size, dtype))
            return GroupGathering(self.groups, lambda: EachGathering(dtype=dtype))
        if not is_open:
            masked = self.masked_adding
            return EachGathering(shape.size, shape.dtype) if masked is None else MaskedGathering(masked)
        if self.step.gathers == "sum":
            return SumGathering(shape.size, shape.dtype)
        return gathering_for(self.course.strategy, shape.size, shape.dtype, self.course.settings)

    def hear(self, heard: State, updates: Sequence[Update] | MaskedSum) -> State:
        """Return what a protocol knows after one of its messages."""
        if isinstance(updates, MaskedSum):
            assert isinstance(self._protocol, AddsMasked)
            return self._protocol.take_sum(heard, updates)
        answers: Mapping[NodeName, AnyVector] = {update.node: update.vector for update in updates}
        return self._protocol.take(self.stage.name, self._summed, heard, answers)

    def group_update(self, number: int, total: Total) -> Update:
        """Return what the rule is given for a group; FederatedError UPDATE_REJECTED where it is left out."""
        if self.asked.work.summing.trust == "central":
            _check_noised(total)
        if isinstance(self.step, ScalesSum):
            total = self.step.scaled(self.plan, total)
        return mean_update(number, total, least_of_group(self.plan.run.options.protocol))

    def open_sum(self, heard: State, nodes: int) -> Total:
        """Return what a protocol's last message has opened, without the noise that is the coordinator's."""
        protocol, variance = self._protocol, None
        total = protocol.total(self._summed, heard)
        vector, weight = read_total(self.asked.work, total, nodes, self._key(NodeName("")))
        if self.asked.work.summing.trust == "distributed":
            cohort = protocol.cohort(heard) if isinstance(protocol, KnowsCohort) else None
            variance = None if cohort is None else nodes / cohort.honest
        return Total(vector, weight, nodes, variance=variance)


def _check_noised(total: Total) -> None:
    if total.variance is None:
        raise FederatedError(ErrorCode.INTERNAL, "a sum is read that has no noise")


@lru_cache(maxsize=64)
def _describes(kind: type[Step]) -> bool:
    """As isinstance says, which looks a Protocol up at each call."""
    return issubclass(kind, Describing)


def _weight_fault(work: Work, update: Update | Term) -> str | None:
    """Say where the weight of a private answer is another than its task's."""
    if work.privacy is None or update.weight == work.privacy.weight:
        return None
    return f"its weight {update.weight:g} is not the {work.privacy.weight:g} that its task says"
