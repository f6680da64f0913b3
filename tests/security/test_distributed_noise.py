"""Noise that nodes share: whoever lies about the sum, a node's own noise follows from what it can verify itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import cast
from uuid import UUID

import numpy as np
import pytest

from heliosdb.aggregation.secure_sum import SecureSum
from heliosdb.algorithms.gradient import GradientStep, GradientWork
from heliosdb.algorithms.steps import Step
from heliosdb.algorithms.training import TrainStep
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import NodeName, RoundNumber, RunId, StepName, WorkspaceName
from heliosdb.domain.privacy import Budget, Mechanism, Trust
from heliosdb.domain.state import NO_STATE, State, make_state
from heliosdb.domain.task import Privacy, Reading, Scaling, Summing, Task, TaskKey
from heliosdb.domain.vector import AlreadyPrivate, AnyVector, ClippedSum, Contribution, Plain
from heliosdb.node.guards import check_guard, make_private
from heliosdb.node.memory import Memory
from heliosdb.node.policy import find_step
from heliosdb.node.sum_terms import SumTerms, check_rounded, check_shared, check_willing, share_of
from heliosdb.node.summing import about, carry, prepare, say_message
from heliosdb.parts.protocols import ShamirSettings
from heliosdb.privacy.mechanisms import Lattice
from heliosdb.privacy.ring import Word
from heliosdb.privacy.shares import add_share, noise_unit, shared_fraction
from tests.support.sums import Site

STAGES = ("keys", "shares", "masked", "consistency", "unmask")
SIZE, NOISE = 400, 3.0
SCALING = Scaling((0.0,) * (SIZE - 1), (1.0,) * (SIZE - 1))
WORK = GradientWork("logistic_regression", SCALING, NOISE, 0.5, 1.0, 2).to_work(SIZE)
READING = Reading(None, tuple(f"x{number}" for number in range(SIZE - 1)), "y", 0.0, 1)
Change = Callable[[Task], Task]


def task_of(
    node: str,
    stage: str,
    note: bytes = b"",
    nodes: int = 5,
    trust: Trust = "distributed",
    fraction: int | None = None,
) -> Task:
    key = TaskKey(
        WorkspaceName("w"),
        RunId(UUID(int=1)),
        RoundNumber(1),
        STAGES.index(stage),
        StepName("gradient"),
        NodeName(node),
    )
    work = replace(WORK, summing=Summing("shamir", stage, note, nodes, trust=trust, fraction=fraction))
    state = make_state(parameters=np.zeros(SIZE))
    return Task(key, READING, work, SCALING, state, Budget(1.0, 1e-5))


@dataclass
class Nodes:
    """Nodes as their daemons are in one sum of zeros. terms: of single sites. asked: how a node's tasks differ from
    the others'."""

    count: int
    terms: Mapping[str, SumTerms] = field(default_factory=dict)
    asked: Mapping[str, Change] = field(default_factory=dict)
    trust: Trust = "distributed"
    fraction: int | None = None
    memories: dict[str, Memory] = field(default_factory=dict)
    shares: dict[str, Fraction] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names = [f"node_{number}" for number in range(self.count)]
        self.sites = {name: Site(name, self.names) for name in self.names}
        for name, terms in self.terms.items():
            self.sites[name].terms = terms

    def answer(self, name: str, stage: str, note: bytes, there: int) -> AnyVector:
        task = self.asked.get(name, lambda one: one)(
            task_of(name, stage, note, there, self.trust, self.fraction)
        )
        memory, site = self.memories.get(name, Memory()), self.sites[name]
        if stage == "masked":
            noise = share_of(task, memory.protocol, site)
            assert noise is not None and task.work.privacy is not None
            self.shares[name] = noise.share
            summed = Contribution(np.zeros(SIZE), 1.0, ClippedSum(1.0, task.work.privacy.mechanism))
            vector = make_private(summed, noise.share)
            said = carry(prepare(task, memory, site), vector, 1.0, weighted=True)
        else:
            said = say_message(task, memory, site)
        self.memories[name] = replace(memory, protocol=said.keeps, turn=said.turn)
        return said.vector

    def total(self, threshold: int | None = None, *, lost: str | None = None) -> np.ndarray:
        ring = None if self.fraction is None else Word(self.fraction)
        protocol, heard = SecureSum(ShamirSettings(threshold), ring), NO_STATE
        for stage in STAGES:
            there = [one for one in self.names if one != lost or stage in ("keys", "shares")]
            heard = self._stage(protocol, stage, there, heard)
        return protocol.total(SIZE + 1, heard)

    def _stage(self, protocol: SecureSum, stage: str, there: list[str], heard: State) -> State:
        said = {
            NodeName(one): self.answer(one, stage, protocol.ask(stage, NodeName(one), heard), len(there))
            for one in there
        }
        return protocol.take(stage, SIZE + 1, heard, said)


FRACTION = shared_fraction(1.0, NOISE, SIZE, 5)


def std_of(total: np.ndarray) -> float:
    return float(total[:-1].std()) / Lattice.of(1.0, NOISE, SIZE).std


@pytest.mark.parametrize("fraction", [None, FRACTION])
@pytest.mark.parametrize(("lost", "variance"), [(None, 5 / 3), ("node_3", 4 / 3)])
def test_the_sum_has_the_noise_that_is_charged_and_what_the_curious_one_adds(
    lost: str | None, variance: float, fraction: int | None
) -> None:
    total = Nodes(5, fraction=fraction).total(lost=lost)
    assert std_of(total) == pytest.approx(math.sqrt(variance), rel=0.15)
    steps = total[:-1] / noise_unit(Lattice.of(1.0, NOISE, SIZE))
    assert np.array_equal(steps, np.rint(steps))
    assert total[-1] == (5 if lost is None else 4)


def test_one_word_holds_the_very_steps_of_the_noise_and_what_would_round_or_cut_them_is_refused() -> None:
    assert FRACTION is not None
    assert noise_unit(Lattice.of(1.0, NOISE, SIZE)) == 2.0**-FRACTION
    step = find_step(task_of("node_0", "masked"))
    check_shared(task_of("node_0", "masked", fraction=FRACTION), step)
    with pytest.raises(FederatedError, match="bits behind the point are too few") as raised:
        check_shared(task_of("node_0", "masked", fraction=FRACTION - 1), step)
    assert raised.value.code is ErrorCode.INVALID_VALUE
    with pytest.raises(FederatedError, match="may pass the range of the secure sum"):
        check_shared(task_of("node_0", "masked", fraction=min(FRACTION + 9, 56)), step)


@pytest.mark.parametrize(("fraction", "nodes"), [(56, 5), (31, 5), (20, 1 << 20)])
def test_no_word_is_so_narrow_that_a_refusal_would_tell_how_many_rows_a_node_has(
    fraction: int, nodes: int
) -> None:
    """A coordinator names both, and what is beyond the range is refused: rows too, which are in no sum alone."""
    step = TrainStep("logistic_regression")
    asked = task_of("node_0", "masked", nodes=nodes, trust="local", fraction=fraction)
    plain = replace(asked, work=replace(asked.work, privacy=None), budget=None)
    with pytest.raises(FederatedError, match="bits behind the point leave too few") as raised:
        check_rounded(plain, step)
    assert raised.value.code is ErrorCode.INVALID_VALUE
    wide = replace(plain.work.summing, nodes=5, fraction=63 - 30 - 3)
    check_rounded(replace(plain, work=replace(plain.work, summing=wide)), step)


def test_no_share_leaves_in_a_word_that_would_round_it() -> None:
    assert FRACTION is not None
    with pytest.raises(FederatedError, match="too few bits for shares of the noise") as raised:
        Nodes(5, fraction=FRACTION - 3).total()
    assert raised.value.code is ErrorCode.INTERNAL


def test_a_node_whose_dba_trusts_fewer_adds_more_and_the_others_as_before() -> None:
    nodes = Nodes(5, {"node_1": SumTerms(curious_peers=2), "node_2": SumTerms(curious_peers=4)})
    nodes.total()
    # Two of five may work with the coordinator, and it opens no vector; of four that is not so.
    assert nodes.shares["node_1"] == Fraction(2, 3)
    assert nodes.shares["node_2"] == 1
    assert nodes.shares["node_0"] == Fraction(1, 3)


def test_a_dba_who_trusts_everybody_takes_no_noise_away_from_others() -> None:
    nodes = Nodes(5, {"node_1": SumTerms(curious_peers=0)})
    nodes.total()
    assert nodes.shares["node_1"] == Fraction(1, 3)


def test_a_low_threshold_named_by_the_coordinator_costs_accuracy_and_no_privacy() -> None:
    """Three of five open the sum: the protocol withstands none that works with the coordinator, and each node counts
    on one."""
    nodes = Nodes(5)
    nodes.total(threshold=3)
    assert set(nodes.shares.values()) == {Fraction(1)}


def test_a_group_picked_from_many_peers_has_as_many_curious_ones_as_all_of_them() -> None:
    nodes = Nodes(5)
    for site in nodes.sites.values():
        site.participants = 9
    nodes.total()
    assert set(nodes.shares.values()) == {Fraction(2, 3)}


def test_nodes_of_a_group_that_is_a_third_of_all_add_all_of_the_noise() -> None:
    nodes = Nodes(3)
    for site in nodes.sites.values():
        site.participants = 9
    nodes.total()
    assert set(nodes.shares.values()) == {Fraction(1)}


def louder(**changes: object) -> Change:
    def changed(task: Task) -> Task:
        assert task.work.privacy is not None
        return replace(task, work=replace(task.work, **changes))

    return changed


@pytest.mark.parametrize(
    "change",
    [
        louder(privacy=Privacy(Mechanism(0.01, 0.5), 1.0)),
        louder(privacy=Privacy(Mechanism(NOISE, 0.01), 1.0)),
        louder(settings={**WORK.settings, "clipping_norm": 1e-6}),
        louder(size=SIZE - 1),
        lambda task: replace(
            task, work=replace(task.work, summing=replace(task.work.summing, trust="local"))
        ),
        lambda task: replace(task, state=make_state(parameters=np.ones(SIZE))),
        lambda task: replace(task, scaling=replace(SCALING, means=(1.0,) * (SIZE - 1))),
        lambda task: replace(task, budget=Budget(2.0, 1e-5)),
    ],
)
def test_nodes_that_are_asked_for_unlike_noise_have_no_sum_together(change: Change) -> None:
    """The coordinator has four nodes add next to nothing, and the fifth its share of what it charges for."""
    nodes = Nodes(5, asked={f"node_{number}": change for number in range(1, 5)})
    with pytest.raises(FederatedError, match="are not of a peer, or not of this sum"):
        nodes.total()


def test_a_node_is_not_asked_for_other_noise_in_the_message_that_carries_it() -> None:
    def later(task: Task) -> Task:
        return (
            louder(privacy=Privacy(Mechanism(0.01, 0.5), 1.0))(task)
            if task.work.summing.stage == "masked"
            else task
        )

    with pytest.raises(FederatedError, match="does not follow what the node said last"):
        Nodes(5, asked={"node_0": later}).total()


def test_a_sum_is_named_alike_at_all_nodes_and_in_all_messages() -> None:
    whole = {about(task_of(node, stage, b"note")) for node in ("a", "b") for stage in STAGES}
    assert len(whole) == 1
    own = replace(READING, dataset="people")
    assert about(replace(task_of("a", "keys"), reading=own)) in whole


@pytest.mark.parametrize(("least", "threshold", "refused"), [(5, None, True), (4, None, False), (4, 3, True)])
def test_a_group_of_which_fewer_open_the_sum_is_refused_before_a_share_is_told(
    least: int, threshold: int | None, refused: bool
) -> None:
    nodes = Nodes(5, {"node_2": SumTerms(least_threshold=least)})
    if not refused:
        assert nodes.total(threshold)[-1] == 5
        return
    with pytest.raises(FederatedError, match=f"takes part in no sum of fewer than {least} nodes") as caught:
        nodes.total(threshold)
    assert caught.value.code is ErrorCode.NODE_REFUSED
    assert caught.value.detail == f"The threshold of this one is {threshold or 4} of 5 nodes."
    assert nodes.memories["node_2"].protocol.keys() == {"secrets", "own"}


def test_a_site_that_adds_the_whole_noise_says_so_to_every_message() -> None:
    site = Site()
    site.terms = SumTerms(distributed_noise=False)
    for stage in STAGES:
        with pytest.raises(FederatedError, match="distributed_noise = false"):
            check_willing(task_of("a", stage), site)
    check_willing(louder(summing=Summing("shamir", "keys"))(task_of("a", "keys")), site)


STEP = GradientStep("logistic_regression")


@pytest.mark.parametrize(
    ("step", "change", "match"),
    [
        (STEP, louder(privacy=None), "there is no noise to share"),
        (STEP, louder(summing=Summing(trust="distributed")), "lets nobody know whose noise"),
        (TrainStep("logistic_regression"), louder(), "adds its noise before there is a sum"),
        (STEP, louder(privacy=Privacy(Mechanism(NOISE, 0.5), 100.0)), "has the weight 1"),
        (
            STEP,
            louder(size=5_000, privacy=Privacy(Mechanism(1e6, 0.5), 1.0), settings={"clipping_norm": 1e6}),
            "may pass the range of the secure sum",
        ),
        (STEP, louder(size=5_000, settings={"clipping_norm": "wide"}), "may pass the range"),
    ],
)
def test_noise_that_nobody_could_add_up_is_refused_before_anything_is_charged(
    step: GradientStep, change: Change, match: str
) -> None:
    check_shared(task_of("a", "keys"), STEP)
    with pytest.raises(FederatedError, match=match):
        check_shared(change(task_of("a", "keys")), step)


def test_a_node_that_knows_no_group_shares_nothing() -> None:
    with pytest.raises(FederatedError, match="does not know whose noise"):
        share_of(task_of("a", "masked"), NO_STATE, Site())


@pytest.mark.parametrize("guard", [Plain(), AlreadyPrivate(Mechanism(NOISE))])
def test_only_a_clipped_sum_is_released_with_a_share(guard: Plain | AlreadyPrivate) -> None:
    with pytest.raises(FederatedError, match="no sum of which others add noise"):
        make_private(Contribution(np.zeros(3), 1.0, guard), Fraction(1, 3))


def test_where_the_coordinator_adds_the_noise_nodes_add_none_and_the_sum_has_it_once() -> None:
    total = Nodes(5, trust="central").total()
    assert not total[:-1].any() and total[-1] == 5
    noised = add_share(total[:-1], 1.0, NOISE, Fraction(1))
    assert std_of(np.append(noised, 0.0)) == pytest.approx(1.0, rel=0.15)
    unit = noise_unit(Lattice.of(1.0, NOISE, SIZE))
    assert np.array_equal(noised / unit, np.rint(noised / unit))


def test_nobody_leaves_the_noise_to_the_coordinator_whose_dba_has_not_said_so() -> None:
    site, allowing = Site(), Site()
    allowing.terms = SumTerms(central_noise=True)
    for stage in STAGES:
        task = task_of("a", stage, trust="central")
        with pytest.raises(FederatedError, match="its DBA has not set central_noise = true") as caught:
            check_willing(task, site)
        assert caught.value.code is ErrorCode.NODE_REFUSED
        check_willing(task, allowing)


@pytest.mark.parametrize("mode", ["HIPAA", "GDPR", "BOTH"])
def test_no_compliance_mode_lets_a_node_leave_the_noise_to_the_coordinator(mode: str) -> None:
    """Whoever writes the coordinator's tables passes by what its statements refuse."""
    site = Site()
    site.terms = SumTerms(central_noise=True)
    for stage in STAGES:
        task = replace(task_of("a", stage, trust="central"), compliance_mode=mode)
        with pytest.raises(FederatedError, match=f"under compliance_mode {mode}") as caught:
            check_willing(task, site)
        assert caught.value.code is ErrorCode.NODE_REFUSED


def test_nodes_of_which_some_are_to_add_no_noise_have_no_sum_together() -> None:
    def leaving(task: Task) -> Task:
        return replace(task, work=replace(task.work, summing=replace(task.work.summing, trust="central")))

    with pytest.raises(FederatedError, match="are not of a peer, or not of this sum"):
        Nodes(5, asked={"node_1": leaving}).total()


def test_a_step_that_tells_the_coordinator_no_sensitivity_is_refused_before_anything_is_charged() -> None:
    @dataclass(frozen=True)
    class Untold:
        name: str = "untold"
        gathers: str = "sum"

    task = task_of("a", "keys", trust="central")
    check_shared(task, STEP)
    with pytest.raises(FederatedError, match="does not tell the coordinator how much noise"):
        check_shared(task, cast(Step, Untold()))


@pytest.mark.parametrize(("sensitivity", "trust"), [(1.0, "central"), (1.5, "central"), (1.5, "distributed")])
def test_an_answer_that_is_bounded_otherwise_than_its_step_says_does_not_leave(
    sensitivity: float, trust: Trust
) -> None:
    task = task_of("a", "masked", trust=trust)
    assert task.work.privacy is not None
    made = Contribution(np.zeros(SIZE), 1.0, ClippedSum(sensitivity, task.work.privacy.mechanism))
    if sensitivity == 1.0:
        check_guard(task, made)
        return
    with pytest.raises(FederatedError, match="sensitivity is not that of its task"):
        check_guard(task, made)
