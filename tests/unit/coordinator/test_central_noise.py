"""The noise that the coordinator adds: of the variance that is charged, before anything is read, once a sum."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from uuid import UUID

import numpy as np
import pytest

from heliosdb.aggregation.sums import protocol
from heliosdb.algorithms.gradient import GRADIENT
from heliosdb.coordinator.central_noise import CentralNoise
from heliosdb.coordinator.course import Course, ModelState, Question
from heliosdb.coordinator.opened import RoundUnderWay
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.findings import Findings, PrivacyPlan, RunPlan
from heliosdb.domain.ids import NodeName, RoundNumber, RunId
from heliosdb.domain.run import Run
from heliosdb.domain.state import make_state
from heliosdb.domain.task import Scaling
from heliosdb.domain.update import Total, Update
from heliosdb.domain.vector import Vector
from heliosdb.parts.protocols import PLAIN
from heliosdb.privacy.mechanisms import Lattice
from heliosdb.privacy.shares import noise_unit
from tests.support.runs import RUN, with_policy

SIZE = 1_000
PLAN = PrivacyPlan(
    2.0, training_noise=1.5, sampling_rate=0.5, steps=1, expected_subjects=80.0, evaluation_noise=9.0
)
SCALING = Scaling((0.0,) * (SIZE - 1), (1.0,) * (SIZE - 1))
FEATURES = tuple(f"x{place}" for place in range(SIZE - 1))
MODEL = ModelState(make_state(parameters=np.zeros(SIZE)))
NOISE = CentralNoise(b"k" * 32)
LATTICE = Lattice.of(RUN.policy.clipping_threshold, 1.5, SIZE)


def central_run() -> Run:
    run = with_policy(RUN, privacy_budget=4.0, trust_model="central")
    given = {
        **run.options.given,
        "secure_aggregation": True,
        "aggregation_protocol": "shamir",
        "local_epochs": 1,
    }
    return replace(run, options=replace(run.options, given=given, features=FEATURES))


def question_of(run: Run | None = None, number: int = 1, exchange: int = 4) -> Question:
    course = Course.of(run or central_run())
    plan = RunPlan(course.run, Findings(SCALING, PLAN), RoundNumber(number))
    return course.ask(plan, exchange, GRADIENT, MODEL, 3)


def noised(question: Question, vector: np.ndarray, noise: CentralNoise = NOISE) -> np.ndarray:
    found = noise.add(question, Total(vector, 3.0, 3))
    assert found.noise_variance == 1.0
    return found.vector


def test_the_sum_has_the_noise_that_is_charged_on_the_lattice_of_the_answers() -> None:
    vector = noised(question_of(), np.zeros(SIZE))
    assert vector.std() == pytest.approx(LATTICE.std, rel=0.1)
    assert abs(vector.mean()) < 4.0 * LATTICE.std / np.sqrt(SIZE)
    steps = vector / noise_unit(LATTICE)
    assert np.array_equal(steps, np.rint(steps))


def test_the_same_sum_of_the_same_exchange_never_has_two_noises() -> None:
    """Whoever had it twice could take the mean: one who kills coordinators, or sets their database back."""
    exact = np.arange(SIZE) * noise_unit(LATTICE)
    assert np.array_equal(noised(question_of(), exact), noised(question_of(), exact))


def test_another_sum_run_round_exchange_noise_or_key_has_noise_of_its_own() -> None:
    exact = np.zeros(SIZE)
    first = noised(question_of(), exact)
    another = replace(central_run(), id=RunId(UUID(int=9)))
    moved = np.array(exact)
    moved[0] = noise_unit(LATTICE)
    others = [
        noised(question_of(another), exact),
        noised(question_of(number=2), exact),
        noised(question_of(exchange=9), exact),
        noised(question_of(), exact, CentralNoise(b"o" * 32)),
        noised(question_of(), moved) - moved,
    ]
    for other in others:
        assert abs(np.corrcoef(first, other)[0, 1]) < 0.2


def test_equal_sums_of_two_groups_have_noises_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever saw the same noised sum twice would know that the exact ones are equal, to the last bit."""
    run = central_run()
    given = {**run.options.given, "aggregation": "median", "robust_groups": 3}
    run = replace(run, options=replace(run.options, given=given, aggregation="median"))
    course = replace(Course.of(run), protocol=protocol(PLAIN))
    nodes = [NodeName(f"n{number}") for number in range(9)]
    findings = Findings(SCALING, PLAN, groups=course.deal(nodes))
    question = course.ask(RunPlan(run, findings, RoundNumber(1)), 0, GRADIENT, MODEL, 9)
    seen, group_update = list[Vector](), Question.group_update

    def see(question: Question, number: int, total: Total) -> Update:
        seen.append(total.vector)
        return group_update(question, number, total)

    monkeypatch.setattr(Question, "group_update", see)
    opened = RoundUnderWay.begin(MODEL, findings)
    opened.gather(question, 0)
    for node in nodes:
        opened.take(Update(node, np.zeros(SIZE), 1.0))
    opened.combine(question, NOISE)

    for one, other in combinations(seen, 2):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.2
    assert len(seen) == 3


def test_the_same_sum_of_the_same_group_has_the_same_noise_in_whatever_order_it_is_named() -> None:
    exact, group = Total(np.zeros(SIZE), 3.0, 3), [NodeName("a"), NodeName("b"), NodeName("c")]
    once, again = (NOISE.add(question_of(), exact, named).vector for named in (group, group[::-1]))
    assert np.array_equal(once, again)
    assert not np.array_equal(once, noised(question_of(), exact.vector))


def test_a_round_reads_no_sum_before_it_has_its_noise() -> None:
    course = replace(Course.of(central_run()), protocol=protocol(PLAIN))
    plan = RunPlan(course.run, Findings(SCALING, PLAN), RoundNumber(1))
    question = course.ask(plan, 0, GRADIENT, MODEL, 3)
    with pytest.raises(FederatedError, match="a sum is read that has no noise"):
        course.conclude(question, MODEL, Total(np.zeros(SIZE), 3.0, 3))
    opened = RoundUnderWay.begin(MODEL, plan.findings)
    opened.gather(question, 0)
    for node in ("a", "b", "c"):
        opened.take(Update(NodeName(node), np.zeros(SIZE), 1.0))
    opened.combine(question, NOISE)
    assert np.abs(opened.model.state["parameters"]).min() > 0.0


def test_the_key_is_in_no_text() -> None:
    assert "k" * 8 not in repr(NOISE)
