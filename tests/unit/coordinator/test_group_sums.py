"""A rule over the means of groups, by the secure sum of each group or by the plain one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from uuid import UUID

import numpy as np
import pytest

from heliosdb.aggregation.secure_sum import MASKED, SECURE_SUM
from heliosdb.algorithms.gradient import GRADIENT
from heliosdb.algorithms.training import TRAIN
from heliosdb.coordinator.central_noise import CentralNoise
from heliosdb.coordinator.course import Course, ModelState, Question
from heliosdb.coordinator.keeping import Kept, open_kept, seal_kept
from heliosdb.coordinator.opened import CombinedExchange, RoundUnderWay
from heliosdb.coordinator.rules import make_rules
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.findings import Findings, PrivacyPlan, RunPlan
from heliosdb.domain.groups import dealt
from heliosdb.domain.ids import NodeName, RoundNumber, RunId, StepName
from heliosdb.domain.run import Run
from heliosdb.domain.state import NO_STATE, State, make_state
from heliosdb.domain.update import Update
from heliosdb.domain.vector import Vector
from heliosdb.privacy.shares import Cohort
from heliosdb.transport.messages import encode_task
from heliosdb.transport.sealing import AtRestKey
from tests.support.runs import PRIVATE, RUN, SCALING, with_options
from tests.support.sums import Site, spoken

NODES = tuple(NodeName(f"n{number}") for number in range(13))
KEY = AtRestKey(b"k" * 32)
NO_NOISE = CentralNoise(b"n" * 32)
"""Of runs in which it is not the coordinator's to add."""
START = np.array([0.1, 1 / 3, -2.0])
GROUPED = with_options(RUN, aggregation="median", robust_groups=4)
SECRET = {"secure_aggregation": True, "aggregation_protocol": "shamir"}
HIDDEN = with_options(GROUPED, **SECRET)
GROUPS = dealt(NODES, 4, RUN.policy.workspace)
FOUND = Findings(SCALING, groups=GROUPS)
OF_NOISE = PrivacyPlan(
    2.0, training_noise=1.5, sampling_rate=0.1, steps=20, expected_subjects=80.0, evaluation_noise=9.0
)

Faults = Callable[[Question, NodeName], bool]
"""Whether a node says nothing in an exchange."""


def nobody(_question: Question, _node: NodeName) -> bool:
    return False


@dataclass
class Training:
    """One training sum, message by message. said: each node's update and weight. kept: what a node keeps."""

    run: Run
    said: Mapping[NodeName, tuple[Vector, float]]
    findings: Findings = FOUND
    step: StepName = TRAIN
    silent: Faults = nobody
    kept: dict[NodeName, State] = field(default_factory=dict)
    asked: list[frozenset[NodeName]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.course = Course.of(self.run)
        self.opened = RoundUnderWay.begin(ModelState(make_state(parameters=START)), self.findings)

    def question(self, exchange: int, nodes: Collection[NodeName]) -> Question:
        stated = {node: self.said[node][1] for node in self.said}
        plan = RunPlan(self.run, self.findings, RoundNumber(1), stated)
        return self.course.ask(plan, exchange, self.step, self.opened.model, len(nodes))

    def train(self) -> CombinedExchange:
        """All messages of the sum, of whoever is still asked."""
        nodes = frozenset(self.said)
        for exchange in range(len(self.course.protocol.stages)):
            asked = self.question(exchange, nodes)
            self.asked.append(nodes)
            self.restart(exchange)
            self.opened.gather(asked, 7)
            nodes = frozenset(node for node in nodes if not self.silent(asked, node))
            for node in sorted(nodes):
                self.opened.take(self.answer(asked, node))
            found = self.opened.combine(asked, NO_NOISE)
            nodes -= {loss.node for loss in found.left_out}
        return found

    def restart(self, exchange: int) -> None:
        """Go on from what is kept, as another coordinator does."""
        if exchange:
            sealed = seal_kept(self.opened.kept(), self.run.id, 1, KEY, version=exchange)
            kept: Kept = open_kept(sealed, self.run.id, 1, KEY, version=exchange)
            self.opened = replace(self.opened, model=kept.model, heard=kept.heard, notes=list(kept.notes))

    def answer(self, question: Question, node: NodeName) -> Update:
        task, (vector, weight) = question.task(node, None, self.opened.heard), self.said[node]
        if self.course.protocol.is_open:
            return Update(node, vector, weight)
        stage, shape = task.work.summing.stage, question.shape_of(node, self.opened.heard)
        summand = np.append(vector * weight, weight) if stage == MASKED else None
        before = self.kept.get(node, NO_STATE)
        answer, self.kept[node] = spoken(
            SECURE_SUM, stage, task.key, task.work.summing.note, summand, before, site=Site(node)
        )
        assert (answer.size, answer.dtype.name) == (shape.size, shape.dtype.value)
        return Update(node, answer, 1.0)

    @property
    def moved(self) -> Vector:
        moved: Vector = self.opened.model.state["parameters"] - START
        return moved


def updates(*hostile: NodeName) -> dict[NodeName, tuple[Vector, float]]:
    """Honest updates lie around (1, -2, 3); hostile ones are turned round, five times as long."""
    drawn = np.random.default_rng(3)
    honest = {
        node: (np.array([1.0, -2.0, 3.0]) + 0.1 * drawn.standard_normal(3), float(20 + number))
        for number, node in enumerate(NODES)
    }
    return {
        node: (-5.0 * vector, weight) if node in hostile else (vector, weight)
        for node, (vector, weight) in honest.items()
    }


def trained(run: Run, said: Mapping[NodeName, tuple[Vector, float]], silent: Faults = nobody) -> Training:
    training = Training(run, said, silent=silent)
    training.train()
    return training


def weighted_mean(said: Mapping[NodeName, tuple[Vector, float]], group: Sequence[NodeName]) -> Vector:
    vectors, weights = zip(*(said[node] for node in group), strict=True)
    mean: Vector = np.average(np.array(vectors), axis=0, weights=weights)
    return mean


def test_hidden_sums_lead_to_the_bits_of_plain_ones() -> None:
    plain, hidden = trained(GROUPED, updates()), trained(HIDDEN, updates())

    assert (
        hidden.opened.model.state["parameters"].tobytes() == plain.opened.model.state["parameters"].tobytes()
    )
    assert len(hidden.asked) == 5
    assert hidden.opened.notes == []


def test_the_rule_is_given_each_groups_weighted_mean() -> None:
    said = updates()
    means = np.array([weighted_mean(said, group) for group in GROUPS])

    assert trained(HIDDEN, said).moved == pytest.approx(np.median(means, axis=0), rel=1e-12)


@pytest.mark.parametrize("run", [GROUPED, HIDDEN])
def test_a_hostile_node_moves_the_mean_and_no_median_of_groups(run: Run) -> None:
    said = updates(NODES[4])
    mean = Training(with_options(RUN, aggregation="fedavg"), said, Findings(SCALING))
    mean.train()

    assert np.abs(mean.moved - [1.0, -2.0, 3.0]).max() > 0.5
    assert np.abs(trained(run, said).moved - [1.0, -2.0, 3.0]).max() < 0.1


def test_as_many_hostile_nodes_as_half_of_the_groups_are_too_many() -> None:
    said = updates(GROUPS[0][0], GROUPS[1][0])

    assert np.abs(trained(HIDDEN, said).moved - [1.0, -2.0, 3.0]).max() > 0.5


def test_groups_sums_have_their_own_keys_threshold_and_sizes() -> None:
    training = Training(HIDDEN, updates())
    for exchange in range(2):
        asked = training.question(exchange, NODES)
        training.opened.gather(asked, 7)
        for node in NODES:
            training.opened.take(training.answer(asked, node))
        training.opened.combine(asked, NO_NOISE)

    cohorts = {len(group): SECURE_SUM.cohort(training.kept[node]) for group in GROUPS for node in group}
    assert cohorts == {3: Cohort(3, 3), 4: Cohort(4, 3)}
    # Of three that all have to be there each adds a third; who counts on a curious one adds more, or all.
    assert Cohort(3, 3).share(0) == Fraction(1, 3)
    assert Cohort(3, 3).share(2) == Fraction(1)


def test_a_node_that_is_lost_after_its_shares_is_made_up_for_where_its_group_is_large_enough() -> None:
    large = next(group for group in GROUPS if len(group) == 4)

    def silent(asked: Question, node: NodeName) -> bool:
        return asked.stage.name == MASKED and node == large[0]

    said = updates()
    left = {node: one for node, one in said.items() if node != large[0]}
    lost, without = trained(HIDDEN, said, silent), trained(GROUPED, left)

    assert lost.moved.tobytes() == without.moved.tobytes()
    assert lost.opened.notes == []


@pytest.mark.parametrize("stage", ["keys", "shares", "masked", "consistency", "unmask"])
def test_a_group_of_which_too_few_are_left_is_left_out(stage: str) -> None:
    small = next(group for group in GROUPS if len(group) == 3)

    def silent(asked: Question, node: NodeName) -> bool:
        return asked.stage.name == stage and node == small[0]

    said = updates()
    training = Training(HIDDEN, said, silent=silent)
    found = training.train()
    plain = trained(GROUPED, {node: one for node, one in said.items() if node not in small})

    assert training.moved.tobytes() == plain.moved.tobytes()
    (note,) = training.opened.notes
    assert note.startswith(f"without the group of {', '.join(sorted(small))}: ")
    # Those of it that have answered are asked nothing further.
    assert training.asked[-1].isdisjoint(small) is (stage != "unmask")
    assert ({loss.node for loss in found.left_out} == set(small)) is (stage == "unmask")


def test_a_weight_that_is_none_costs_its_own_group_alone() -> None:
    said, liar = updates(), GROUPS[1][0]
    said[liar] = said[liar][0], -1000.0
    training = Training(HIDDEN, said)

    found = training.train()

    assert {loss.node for loss in found.left_out} == set(GROUPS[1])
    assert np.abs(training.moved - [1.0, -2.0, 3.0]).max() < 0.2


@pytest.mark.parametrize("stage", ["keys", "shares", "masked", "consistency", "unmask"])
@pytest.mark.parametrize("rule", ["median", "trimmed_mean", "geometric_median"])
def test_a_rule_of_which_too_few_groups_are_left_fails_the_round(rule: str, stage: str) -> None:
    """Of four groups two are left, one of them with a hostile node: of two means a rule makes their mean."""
    small = [group for group in GROUPS if len(group) == 3]
    run = with_options(HIDDEN, aggregation=rule)
    first, second = small[0][0], small[1][0]

    def silent(asked: Question, node: NodeName) -> bool:
        return node == first or (node == second and asked.stage.name == stage)

    with pytest.raises(FederatedError, match=f"2 of 4 groups are left, and {rule} needs 3") as caught:
        trained(run, updates(small[2][0]), silent)
    assert caught.value.code is ErrorCode.UPDATE_REJECTED
    for group in small[:2]:
        assert f"without the group of {', '.join(sorted(group))}: " in str(caught.value.detail)


def test_groups_without_secure_sums_are_as_many_as_the_rule_needs() -> None:
    gone = {node for group in GROUPS[:2] for node in group}

    with pytest.raises(FederatedError, match="2 of 4 groups are left, and median needs 3"):
        trained(GROUPED, updates(), lambda _, node: node in gone)


def test_a_rule_that_is_to_withstand_more_needs_more_groups() -> None:
    """multi_krum over five groups withstands one that is hostile; of four it would withstand none."""
    groups = dealt(NODES, 5, RUN.policy.workspace)
    for options in ({}, {"byzantine_nodes": 1}):
        run = with_options(RUN, aggregation="multi_krum", robust_groups=5, **options)
        training = Training(run, updates(), Findings(SCALING, groups=groups), silent=nobody)
        training.silent = lambda _, node: node in groups[2]

        with pytest.raises(FederatedError, match="4 of 5 groups are left, and multi_krum needs 5"):
            training.train()


def test_where_no_group_has_a_sum_the_round_fails_with_the_reason() -> None:
    gone = {node for group in GROUPS for node in group[:2]}

    with pytest.raises(FederatedError, match="Too few nodes are left to open the sum"):
        trained(HIDDEN, updates(), lambda asked, node: asked.stage.name == MASKED and node in gone)


def test_gradients_of_groups_are_scaled_before_the_rule_sees_them() -> None:
    run = with_options(PRIVATE, aggregation="median", robust_groups=4, local_epochs=1, **SECRET)
    said = {node: (np.array([80.0, -160.0, 240.0]) + number, 1.0) for number, node in enumerate(NODES)}
    training = Training(run, said, findings=Findings(SCALING, OF_NOISE, groups=GROUPS), step=GRADIENT)
    training.train()
    means = np.array([weighted_mean(said, group) for group in GROUPS])

    # learning_rate 0.1 over 0.1 x 80 expected subjects of a node.
    assert training.moved == pytest.approx(-0.1 / 8.0 * np.median(means, axis=0), rel=1e-12)


def test_a_task_made_again_is_the_same_to_the_byte_whoever_is_unregistered_since() -> None:
    training = Training(HIDDEN, updates())

    once, again = (training.question(0, nodes).task(NODES[0], None, NO_STATE) for nodes in (NODES, NODES[:4]))

    assert encode_task(once, b"k" * 32) == encode_task(again, b"k" * 32)


def test_groups_are_dealt_once_a_workspace_and_kept_with_the_run() -> None:
    course = Course.of(HIDDEN)

    groups = course.deal(NODES)
    found = Findings(SCALING, groups=groups)

    assert groups == dealt(NODES[::-1], 4, HIDDEN.policy.workspace)
    assert Findings.from_json(found.scaling_json(), None) == found
    assert Course.of(replace(HIDDEN, id=RunId(UUID(int=9)))).deal(NODES) == groups
    assert Course.of(RUN).deal(NODES) == ()


def test_sums_of_several_runs_over_the_same_nodes_tell_no_more_than_those_of_one() -> None:
    """A sum is a row of zeros and ones. As many independent rows as nodes would tell each node's update."""
    rows = [
        [float(node in group) for node in NODES]
        for number in range(6)
        for group in Course.of(replace(HIDDEN, id=RunId(UUID(int=number)))).deal(NODES)
    ]
    assert np.linalg.matrix_rank(np.array(rows)) == 4


@pytest.mark.parametrize(("run", "needed"), [(HIDDEN, 12), (GROUPED, 4), (RUN, 2)])
def test_a_run_waits_for_as_many_nodes_as_its_groups_need(run: Run, needed: int) -> None:
    assert make_rules(run).min_nodes == needed
