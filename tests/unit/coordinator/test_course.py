"""What each exchange asks, and which answers count: pure, and the same in every life of a coordinator."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from heliosdb.aggregation.masked_sum import MaskedAdding, masked_term
from heliosdb.aggregation.partial_sum import Adding, term_of
from heliosdb.aggregation.sums import Shape
from heliosdb.algorithms.evaluation import EVALUATE
from heliosdb.algorithms.exact import exact_moments
from heliosdb.algorithms.layout import SUM_DIGITS
from heliosdb.algorithms.statistics import STATISTICS
from heliosdb.algorithms.training import TRAIN
from heliosdb.coordinator import hidden_updates
from heliosdb.coordinator.course import Course, ModelState, Question
from heliosdb.coordinator.keeping import Kept, open_kept, seal_kept
from heliosdb.domain.bounds import UPDATE_NORM
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.findings import Findings, PrivacyPlan, RunPlan
from heliosdb.domain.ids import NodeName, RoundNumber, RunId, StepName
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.run import Run
from heliosdb.domain.state import NO_STATE, make_state, state_to_bytes
from heliosdb.domain.task import Privacy, Rounding, Summing, Work
from heliosdb.domain.update import OversizedUpdateError, Update
from heliosdb.domain.vector import Dtype
from heliosdb.privacy.ring import LEAST_RANGE, MOST_WIDE, WIDE, Word
from heliosdb.transport.messages import encode_task, task_sha256
from heliosdb.transport.sealing import AtRestKey
from tests.contracts.toy_parts import TOY_MASKS
from tests.support.runs import NODE, PRIVATE, RUN, SCALING, with_options, with_policy

OF_NOISE = PrivacyPlan(
    2.0, training_noise=1.5, sampling_rate=0.1, steps=20, expected_subjects=80.0, evaluation_noise=9.0
)
FOUND = Findings(SCALING)
NOISY = Findings(SCALING, OF_NOISE)
STEPS = (STATISTICS, TRAIN, EVALUATE)
MODEL = ModelState(make_state(parameters=np.array([0.1, 1 / 3, -2.0])))


def question(
    run: Run,
    step: StepName,
    findings: Findings = FOUND,
    *,
    model: ModelState = MODEL,
    stated: Mapping[NodeName, float] | None = None,
) -> Question:
    number, exchange = RoundNumber(int(step != STATISTICS)), int(step == EVALUATE)
    plan = RunPlan(run, findings, number, stated or {})
    return Course.of(run).ask(plan, exchange, step, model, 3)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("run", "findings"), [(RUN, FOUND), (PRIVATE, NOISY)])
def test_a_task_made_again_from_the_rows_is_the_same_to_the_byte(
    run: Run, findings: Findings, step: StepName
) -> None:
    key = AtRestKey(b"k" * 32)
    read = Findings.from_json(findings.scaling_json(), findings.plan_json())
    kept = open_kept(seal_kept(Kept(MODEL), run.id, 1, key), run.id, 1, key)

    once, again = (
        question(run, step, found, model=model).task(NODE, "mine", NO_STATE)
        for found, model in ((findings, MODEL), (read, kept.model))
    )

    (header, state), (header_again, state_again) = (encode_task(one, b"k" * 32) for one in (once, again))
    assert (task_sha256(header), state) == (task_sha256(header_again), state_again)


@pytest.mark.parametrize("step", STEPS)
def test_a_task_says_how_often_which_step_was_asked_of_whom(step: StepName) -> None:
    task = question(RUN, step).task(NODE, None, NO_STATE)

    assert (task.key.workspace, task.key.run, task.key.node) == ("w", RUN.id, NODE)
    assert (task.key.step, task.key.round, task.key.exchange) == (
        step,
        int(step != STATISTICS),
        int(step == EVALUATE),
    )


def test_a_task_says_the_compliance_mode_of_its_run() -> None:
    for run, mode in ((RUN, "none"), (with_policy(RUN, compliance_mode="HIPAA"), "HIPAA")):
        assert question(run, TRAIN).task(NODE, None, NO_STATE).compliance_mode == mode


def test_a_given_seed_is_in_every_task_whatever_the_run() -> None:
    seeds = {
        question(run, step).task(NODE, None, NO_STATE).reading.seed
        for run in (RUN, replace(RUN, id=RunId(UUID(int=2))))
        for step in STEPS
    }

    assert seeds == {7}


def test_a_node_reads_the_dataset_that_the_model_names_else_its_own() -> None:
    named = with_options(RUN, dataset="of the model")

    for run, expected in ((RUN, "of the node"), (named, "of the model")):
        task = question(run, STATISTICS, Findings()).task(NODE, "of the node", NO_STATE)
        assert task.reading.dataset == expected


def test_a_task_holds_no_more_of_the_model_than_its_step_needs() -> None:
    states = [dict(question(RUN, step).task(NODE, None, NO_STATE).state) for step in STEPS]

    assert [list(state) for state in states] == [[], ["parameters"], ["parameters"]]


@pytest.mark.parametrize(
    ("step", "mechanism"),
    [(STATISTICS, Mechanism(2.0)), (TRAIN, Mechanism(1.5, 0.1, 20)), (EVALUATE, Mechanism(9.0))],
)
def test_an_answer_must_say_that_it_cost_what_was_asked_for(step: StepName, mechanism: Mechanism) -> None:
    assert question(PRIVATE, step, NOISY).mechanism == mechanism
    assert question(RUN, step).mechanism is None


def fault_of(asked: Question, vector: list[float], weight: float, node: str = "a") -> str | None:
    try:
        asked.check(Update(NodeName(node), np.array(vector), weight))
    except FederatedError as error:
        assert error.code is ErrorCode.UPDATE_REJECTED
        return error.message
    return None


@pytest.mark.parametrize("step", STEPS)
def test_a_private_answer_counts_as_much_as_its_task_says(step: StepName) -> None:
    asked = question(PRIVATE, step, NOISY, stated={NODE: 1.0})
    weight = 80.0 if step == TRAIN else 1.0
    vector = [0.0] * asked.shape.size

    assert fault_of(asked, vector, weight) is None
    assert (
        fault_of(asked, vector, weight + 1.0)
        == f"its weight {weight + 1.0:g} is not the {weight:g} that its task says"
    )


@pytest.mark.parametrize(
    ("weight", "node", "fault"),
    [
        (60.0, "a", None),
        (1.0, "a", None),
        (61.0, "a", "its weight 61 is more than the 60 rows that it stated in round 0"),
        (0.5, "a", "its weight 0.5 is no number of rows"),
        (1.0, "b", "its weight 1 is more than the 0 rows that it stated in round 0"),
    ],
)
def test_a_plain_answer_counts_no_more_than_the_rows_that_were_stated(
    weight: float, node: str, fault: str | None
) -> None:
    asked = question(RUN, TRAIN, stated={NODE: 60.0})

    assert fault_of(asked, [1.0, 2.0, 3.0], weight, node) == fault


def test_an_update_is_no_longer_than_the_run_allows() -> None:
    own = with_options(RUN, max_update_norm=5.0)

    for run, most in ((own, 5.0), (RUN, UPDATE_NORM)):
        asked = question(run, TRAIN, stated={NODE: 60.0})
        assert fault_of(asked, [0.0, most, 0.0], 60.0) is None
        with pytest.raises(OversizedUpdateError, match="is larger than max_update_norm"):
            asked.check(Update(NODE, np.array([0.0, most * 1.01, 0.0]), 60.0))


def test_an_update_in_part_may_be_longer_by_what_was_kept_but_for_a_norm_that_was_given() -> None:
    part, given = with_options(RUN, top_k=1), with_options(RUN, top_k=1, max_update_norm=5.0)
    longer = [0.0, UPDATE_NORM * 5, 0.0]
    asked = question(part, TRAIN, stated={NODE: 60.0})
    # Of three values one is sent: an update and what is kept come to no more than 1 / (1 - √(2/3)) of one.
    assert asked.asked.work.coding.reach(3) == pytest.approx(1 / (1 - (2 / 3) ** 0.5))
    assert fault_of(asked, longer, 60.0) is None
    for run, update in ((part, [0.0, UPDATE_NORM * 6, 0.0]), (given, [0.0, 5.1, 0.0])):
        with pytest.raises(OversizedUpdateError):
            question(run, TRAIN, stated={NODE: 60.0}).check(Update(NODE, np.array(update), 60.0))


def test_only_training_is_sent_in_part_and_everything_is_compressed() -> None:
    run = with_options(RUN, compression="zstd", quantization=8, top_k=2)
    codings = {step: question(run, step).asked.work.coding for step in STEPS}
    assert {one.codec for one in codings.values()} == {"zstd"}
    assert {step for step, one in codings.items() if one.is_lossy} == {TRAIN}
    assert (codings[TRAIN].bits, codings[TRAIN].sent) == (8, 2)


def test_private_training_may_be_moved_by_its_noise_beyond_what_plain_training_may() -> None:
    asked = question(PRIVATE, TRAIN, NOISY, stated={NODE: 1.0})

    assert fault_of(asked, [0.0, UPDATE_NORM * 1.0001, 0.0], 80.0) is None


def test_sums_that_no_rows_have_are_rejected_by_name_of_the_column() -> None:
    asked = question(RUN, STATISTICS, Findings())
    column = exact_moments(np.array([1.0, 3.0, 3.0, 1.0])).tolist()
    honest = [4.0, *column, *column, 2.0]
    lying = [4.0, 4.0, *exact_moments(np.array([80.0]))[1 : 1 + SUM_DIGITS], *honest[2 + SUM_DIGITS :]]

    assert fault_of(asked, honest, 4.0) is None
    assert "in column age" in (fault_of(asked, lying, 4.0) or "")


@pytest.mark.parametrize(("run", "findings", "rows"), [(RUN, Findings(), 4), (PRIVATE, NOISY, 0)])
def test_round_zero_says_how_many_rows_its_nodes_have(run: Run, findings: Findings, rows: int) -> None:
    asked = question(run, STATISTICS, findings)
    vector = np.zeros(asked.shape.size)
    vector[-1] = 0.3

    assert asked.rows(Update(NODE, vector, 4.0)) == rows
    assert question(RUN, TRAIN).rows(Update(NODE, np.zeros(3), 4.0)) is None


# A sum protocol of four messages, of which the third carries.


def masked(run: Run) -> Course:
    return replace(Course.of(run), protocol=TOY_MASKS)


def test_a_protocols_messages_are_so_many_exchanges_of_one_step() -> None:
    course = masked(RUN)

    stages = [course.stage(exchange).name for exchange in range(8)]

    assert stages == ["advertise", "share", "masked", "unmask"] * 2
    assert [course.is_last_stage(exchange) for exchange in range(5)] == [False, False, False, True, False]
    assert not any(course.states_rows(exchange) for exchange in range(4))


def test_what_a_round_may_cost_is_reserved_for_the_message_that_carries() -> None:
    course, plan = masked(PRIVATE), RunPlan(PRIVATE, NOISY, RoundNumber(3))

    reserved = [(exchange, step) for exchange, step, _ in course.releases(plan)]

    assert reserved == [(2, TRAIN), (6, EVALUATE)]
    asked = [course.ask(plan, exchange, TRAIN, MODEL, 3) for exchange in range(4)]
    assert [one.mechanism is not None for one in asked] == [False, False, True, False]


def test_an_algorithm_that_there_is_not_is_refused() -> None:
    with pytest.raises(FederatedError) as caught:
        Course.of(with_options(RUN, algorithm="alchemy"))

    assert caught.value.code is ErrorCode.NOT_SUPPORTED


def said(check: Callable[[], None]) -> str | None:
    """What an answer is rejected for, the kind of the error included; None where it counts."""
    try:
        check()
    except FederatedError as error:
        return f"{type(error).__name__}: {error.message}"
    return None


@pytest.mark.parametrize(("run", "findings"), [(RUN, Findings(SCALING)), (PRIVATE, NOISY)])
@pytest.mark.parametrize("weight", [60.0, 61.0, 0.5, 80.0])
@pytest.mark.parametrize("length", [1.0, UPDATE_NORM * 1.01, 1e12])
def test_an_update_that_an_aggregator_adds_counts_exactly_where_it_would_by_itself(
    run: Run, findings: Findings, weight: float, length: float
) -> None:
    asked = question(run, TRAIN, findings, stated={NODE: 60.0})
    adding = asked.adding(7)
    assert adding is not None
    update = Update(NODE, np.array([0.0, length, 0.0]), weight)

    assert said(lambda: asked.check_term(term_of(update, adding))) == said(lambda: asked.check(update))


@pytest.mark.parametrize(("step", "aggregation", "adds"), [
    (TRAIN, "fedavg", True), (TRAIN, "fedadam", True), (TRAIN, "median", False),
    (STATISTICS, "fedavg", False), (EVALUATE, "fedavg", False),
])  # fmt: skip
def test_only_what_the_coordinator_needs_no_single_answer_of_is_added_up_below(
    step: StepName, aggregation: str, adds: bool
) -> None:
    asked = question(with_options(RUN, aggregation=aggregation), step, stated={NODE: 60.0})

    assert (asked.adding(7) is not None) is adds


def test_updates_that_count_alike_are_added_up_as_they_are() -> None:
    alike = question(with_options(RUN, weighted_aggregation=False), TRAIN, stated={NODE: 60.0}).adding(7)
    weighted = question(RUN, TRAIN, stated={NODE: 60.0}).adding(7)

    assert alike == Adding(3, Dtype.FLOAT64, True, 1, 7)
    assert weighted == Adding(3, Dtype.FLOAT64, False, 1, 7)


def test_messages_of_a_sum_are_without_a_large_state_but_the_one_with_the_vector(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is signed with them all is the sum of that state."""
    run = with_options(RUN, secure_aggregation=True, aggregation_protocol="shamir")
    plan, asked = RunPlan(run, FOUND, RoundNumber(1), {}), Course.of(run)
    exchanges = range(len(asked.protocol.stages))
    whole = [
        asked.ask(plan, exchange, TRAIN, MODEL, 3).task(NODE, None, NO_STATE) for exchange in exchanges[:1]
    ]
    assert (whole[0].state, whole[0].work.summing.state_sha256) == (MODEL.state, b"")
    monkeypatch.setattr(hidden_updates, "_LEFT_OUT", 1)
    told = hashlib.sha256(state_to_bytes(MODEL.state)).digest()
    for exchange in exchanges:
        question = asked.ask(plan, exchange, TRAIN, MODEL, 3)
        carries = question.stage.carries
        assert question.asked.state == (MODEL.state if carries else NO_STATE)
        assert question.asked.work.summing.state_sha256 == (b"" if carries else told)
    open_ask = Course.of(RUN).ask(RunPlan(RUN, FOUND, RoundNumber(1), {}), 0, TRAIN, MODEL, 3)
    assert open_ask.asked.state == MODEL.state


def fraction(rows: float | None, nodes: int, size: int = MOST_WIDE, **changes: Any) -> int | None:
    plan = RunPlan(with_options(RUN, **HIDDEN), replace(FOUND, rows=rows), RoundNumber(1), {})
    step = Course.of(plan.run).step(changes.pop("step", TRAIN))
    summing = Summing("shamir", "masked", nodes=nodes, trust=changes.pop("trust", "local"))
    asked = Work("a", size, summing=summing, **changes)
    return hidden_updates.in_fewer_bits(plan, step, asked, lambda: 1.0).fraction


@pytest.mark.parametrize(("rows", "nodes"), [(1.0, 3), (960_000.0, 16), (1e8, 100), (2.0**30, 1_000)])
def test_hidden_updates_of_many_values_take_a_word_each_that_holds_means_of_65536(
    rows: float, nodes: int
) -> None:
    found = fraction(rows, nodes)
    assert found is not None
    ring = Word(found)
    # One node may have all the rows; the weight is a value, too.
    assert ring.largest(nodes) >= rows * 65_536.0 / 2
    assert ring.largest(nodes) >= LEAST_RANGE
    worst = nodes * (nodes + 1) * 2.0**-46 * max(1.0, 2.0**14 / rows)
    assert nodes * 2.0 ** -(found + 1) / rows <= worst


def test_hidden_values_take_as_many_bits_as_any_where_one_word_may_not_do() -> None:
    assert fraction(2.0**41, 100) is None
    assert fraction(None, 100) is None
    assert fraction(1_500.0, 3, MOST_WIDE - 1) is None
    noised = Privacy(Mechanism(2.0), 1.0)
    assert fraction(1_500.0, 3, privacy=noised) is None
    assert fraction(1_500.0, 3, privacy=Privacy(Mechanism(2.0), 9.0), trust="distributed") is None
    assert fraction(1_500.0, 900, privacy=noised, trust="distributed") is None
    assert fraction(None, 3, privacy=noised, trust="distributed") is not None
    assert fraction(1_500.0, 3, step=EVALUATE) is None
    assert fraction(1_500.0, 3) is not None


HIDDEN: dict[str, Any] = {"secure_aggregation": True, "aggregation_protocol": "shamir"}


def hidden_question(exchange: int = 2, rows: float | None = 1_500.0, **options: Any) -> Question:
    """The message with the vector of a hidden sum, or another one."""
    run = with_options(RUN, **HIDDEN, **options)
    plan = RunPlan(run, replace(FOUND, rows=rows), RoundNumber(1), {})
    return Course.of(run).ask(plan, exchange, TRAIN, MODEL, 3)


@pytest.mark.parametrize(("bits", "dtype"), [(8, Dtype.UINT16), (16, Dtype.UINT32)])
def test_hidden_updates_are_rounded_to_the_lattice_that_every_message_names(bits: int, dtype: Dtype) -> None:
    for exchange in range(5):
        asked = hidden_question(exchange, quantization=bits, max_update_norm=0.5)
        assert asked.asked.work.summing.rounding == Rounding(bits, 0.5, 2_048.0)
        assert not asked.asked.work.coding.is_lossy
    asked = hidden_question(quantization=bits, max_update_norm=0.5)
    assert asked.asked.work.summing.fraction is None
    assert asked.shape == Shape(4, dtype)
    assert asked.adding(7) == MaskedAdding(4, 1, dtype)
    assert hidden_question().asked.work.summing.rounding is None
    with pytest.raises(FederatedError, match="their range is not known"):
        hidden_question(rows=None, quantization=bits, max_update_norm=0.5)


def test_aggregators_add_up_what_a_hidden_sums_message_with_the_vector_carries_and_no_other() -> None:
    assert [hidden_question(exchange).adding(7) for exchange in (0, 1, 3, 4)] == [None] * 4
    adding = hidden_question().adding(7)
    assert adding == MaskedAdding(4 * WIDE.limbs, WIDE.limbs)


def test_what_an_aggregator_tells_of_a_hidden_vectors_weight_is_what_is_public_of_it() -> None:
    asked = hidden_question()
    asked.check_term(masked_term(NODE, 1.0))
    with pytest.raises(FederatedError, match="not its own"):
        asked.check_term(masked_term(NODE, 60.0))
