"""The round that is open: its model so far, and what its exchanges have led to.

What always holds: nothing here is decided by the order in which updates arrive; what a restart needs of it
is kept before anybody is asked for what depends on it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from heliosdb.aggregation.agreement import Agreement, AgreementMeter
from heliosdb.aggregation.gathering import WeightedGathering
from heliosdb.aggregation.groups import GroupGathering, Results, check_left, go_on, named, split
from heliosdb.aggregation.masked_sum import MaskedGathering, MaskedSum
from heliosdb.aggregation.partial_sum import PartialSum
from heliosdb.coordinator import group_sums
from heliosdb.coordinator.central_noise import CentralNoise
from heliosdb.coordinator.course import AnyGathering, Course, ModelState, Question
from heliosdb.coordinator.keeping import Kept
from heliosdb.coordinator.loading import Loaded
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.events import Figures, Loss, Next
from heliosdb.domain.findings import Findings, RunPlan
from heliosdb.domain.ids import NodeName
from heliosdb.domain.run import Outcome
from heliosdb.domain.state import NO_STATE, State
from heliosdb.domain.update import Total, Update, Updates
from heliosdb.parts.strategies import fewest_groups

NOTHING = ModelState(NO_STATE)

GroupResults = Results[Total] | Results[Updates]


@dataclass(frozen=True, slots=True)
class CombinedExchange:
    """What an exchange led to, besides the model. following: what comes next in the round. left_out: who
    counts no more, since there is no sum of their group."""

    figures: Figures | None = None
    following: Next | None = None
    agreement: Agreement | None = None
    left_out: tuple[Loss, ...] = ()


@dataclass(slots=True)
class RoundUnderWay:
    """One round while it is open.

    model, findings: as the exchanges so far have made them. heard: what the sum protocol knows since its step
    began; summed: of how many nodes. is_kept: whether exactly this is in the catalog. lost: in earlier
    exchanges. report: of the model that is about to be published. sizes, stated: what nodes said of their
    rows. asked: how many nodes the exchanges asked that are committed from before.
    """

    model: ModelState
    findings: Findings
    heard: State = field(default_factory=lambda: NO_STATE)
    summed: int = 0
    is_kept: bool = False
    lost: tuple[Loss, ...] = ()
    notes: list[str] = field(default_factory=list)
    report: Mapping[str, Any] | None = None
    sizes: dict[NodeName, int] = field(default_factory=dict)
    stated: dict[NodeName, float] = field(default_factory=dict)
    asked: Mapping[int, int] = field(default_factory=dict)
    _question: Question | None = None
    _gathering: AnyGathering | None = None
    _taken: int = 0
    _agreement: AgreementMeter | None = None

    @classmethod
    def begin(cls, model: ModelState | None, findings: Findings) -> RoundUnderWay:
        """Return a round of which nothing was asked."""
        return cls(model or NOTHING, findings)

    @classmethod
    def resumed(cls, loaded: Loaded) -> RoundUnderWay:
        """Return what is committed of the open round."""
        kept, stated = loaded.kept, dict(loaded.stated_in_opened)
        if kept is None:
            return cls(loaded.model or NOTHING, loaded.findings, stated=stated, asked=loaded.asked)
        return cls(
            kept.model,
            loaded.findings,
            kept.heard,
            kept.summed,
            is_kept=True,
            notes=list(kept.notes),
            stated=stated,
            asked=loaded.asked,
        )

    def gather(self, question: Question, sketch_key: int) -> None:
        """Begin to gather the answers to a question. sketch_key: of the sketches in which they are
        compared.
        """
        self._question, self._gathering, self._taken = question, question.gathering(), 0
        is_compared = question.step.gathers == "rule" and question.course.protocol.is_open
        self._agreement = AgreementMeter(sketch_key) if is_compared else None

    def take(self, update: Update) -> None:
        """Take in an update that counts."""
        assert self._gathering is not None and self._question is not None
        self._gathering.take(update)
        self._taken += 1
        if self._agreement is not None:
            self._agreement.take(self._question.own(update))

    def take_sum(self, partial: PartialSum | MaskedSum) -> None:
        """Take in a sum of updates that count, as if each of them had been taken."""
        if isinstance(partial, MaskedSum):
            assert isinstance(self._gathering, MaskedGathering)
            self._gathering.join(partial)
            self._taken += len(partial.terms)
            return
        assert isinstance(self._gathering, WeightedGathering) and self._agreement is not None
        self._gathering.join(partial)
        self._taken += len(partial.terms)
        for term in partial.terms:
            self._agreement.take_term(term)

    def combine(self, question: Question, noise: CentralNoise) -> CombinedExchange:
        """Make of what was gathered what it leads to; FederatedError where that is nothing. noise: of a sum
        to which the coordinator adds it."""
        assert self._gathering is not None
        course = question.course
        if not self._taken:
            # Only a step without which the round stands comes so far.
            return self._do_without(None)
        if isinstance(self._gathering, GroupGathering):
            return self._combine_groups(question, self._gathering.result(), noise)
        gathered = self._gathering.result()
        if not course.protocol.is_open:
            assert not isinstance(gathered, Total) and gathered is not None
            try:
                total = self._hear(question, gathered)
            except FederatedError as error:
                if question.step.required:
                    raise
                return self._do_without(f"no {question.step.name}: {error.message}")
            if total is None:
                return CombinedExchange(following=course.next(question.step.name))
            gathered = total
        assert not isinstance(gathered, MaskedSum) and gathered is not None
        if isinstance(gathered, Total):
            gathered = noise.add(question, gathered)
        return self._conclude(question, gathered)

    def _combine_groups(
        self, question: Question, gathered: GroupResults, noise: CentralNoise
    ) -> CombinedExchange:
        """As `combine`, where each group has a sum of its own: it goes on without those that have none, while
        the rule has enough of them."""
        course, totals = question.course, cast(Results[Total], gathered)
        if not course.protocol.is_open:
            answers, carries = cast(Results[Updates], gathered), question.stage.carries
            sums = group_sums.hear(self.heard, answers, question.hear, carries=carries)
            if not course.is_last_stage(question.exchange):
                left, failed = split(sums)
                self.heard, self.is_kept = group_sums.keep(left), False
                following = course.next(question.step.name)
                return CombinedExchange(following=following, left_out=self._leave_out(question, left, failed))
            totals = go_on(sums, lambda _, one: question.open_sum(one.heard, one.summed))
            self.heard, self.is_kept = NO_STATE, False
        noised = go_on(totals, lambda number, total: noise.add(question, total, question.groups[number]))
        updates, failed = split(go_on(noised, question.group_update))
        left_out = self._leave_out(question, updates, failed)
        return replace(self._conclude(question, tuple(updates.values())), left_out=left_out)

    def _leave_out(
        self, question: Question, left: Collection[int], failed: Mapping[int, FederatedError]
    ) -> tuple[Loss, ...]:
        """Say of which groups there is no sum, and who is lost with them; FederatedError UPDATE_REJECTED
        where too few are left for the rule."""
        lost = list[Loss]()
        for number, error in failed.items():
            group = question.groups[number]
            self.notes.append(f"without {named(group)}: {error.message}")
            reason = f"its group has no sum: {error.message}"
            lost += [Loss(node, Outcome.DROPPED, reason) for node in sorted(group)]
        course = question.course
        least, groups = fewest_groups(course.settings), len(question.groups)
        check_left(course.strategy.name, len(left), groups, least, [one.rstrip(".") for one in self.notes])
        return tuple(lost)

    def _conclude(self, question: Question, gathered: Total | Updates) -> CombinedExchange:
        """Make of what a step's answers came to what it leads to."""
        course, agreement = question.course, self._agreement
        conclusion = course.conclude(question, self.model, gathered)
        taken = conclusion.taken
        before, after = self.model, conclusion.model
        if after.state is not before.state or after.memory is not before.memory:
            self.model, self.is_kept = after, False
        self.findings = taken.findings or self.findings
        self.notes += taken.notes
        self.report = taken.report or self.report
        following = None if taken.following is None else course.next(taken.following)
        found = None if agreement is None else agreement.result()
        return CombinedExchange(taken.figures, following, found)

    def _hear(self, question: Question, answers: Updates | MaskedSum) -> Total | None:
        """Take in one message of the sum protocol; returns the sum after its last."""
        self.heard, self.is_kept = question.hear(self.heard, answers), False
        if question.stage.carries:
            # Who is lost in a later message is in the sum all the same.
            self.summed = self._taken
        if not question.course.is_last_stage(question.exchange):
            return None
        total = question.open_sum(self.heard, self.summed)
        self.heard, self.summed = NO_STATE, 0
        return total

    def _do_without(self, why: str | None) -> CombinedExchange:
        """Go on without a step that led to nothing."""
        self.heard, self.summed = NO_STATE, 0
        self.notes += [] if why is None else [why]
        return CombinedExchange()

    def kept(self) -> Kept:
        """Return what the next exchange depends on."""
        return Kept(self.model, self.heard, self.summed, tuple(self.notes))

    def note(
        self, question: Question, rows: Mapping[NodeName, int], weights: Mapping[NodeName, float]
    ) -> None:
        """Take in what the answers to a question say of their nodes' rows. rows: where they state them."""
        self.sizes |= rows
        if question.course.states_rows(question.exchange):
            self.stated = dict(weights)

    def new_findings(self, before: Findings) -> Findings | None:
        """Return what was found in this round; None where nothing was."""
        return None if self.findings == before else self.findings

    def deal(self, course: Course, nodes: Collection[NodeName]) -> None:
        """Deal those who took part in round 0 to groups, where the run has some."""
        self.findings = replace(self.findings, groups=course.deal(nodes))

    def begin_model(self, course: Course, plan: RunPlan) -> None:
        """Make the model with which round 1 begins, where round 0 has made none, or of a version."""
        plan = replace(plan, findings=self.findings)
        if not self.model.state:
            self.model, self.is_kept = course.initial_model(plan), False
        carried = course.carry(plan, self.model.state)
        if carried is not None:
            self.model, self.is_kept = replace(self.model, state=carried.state), False
            self.notes += carried.notes
