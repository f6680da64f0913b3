"""A node's side of a sum protocol: its order, its memory, and that nothing of a vector gets where a message could be."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import NodeName, RoundNumber, RunId, StepName, WorkspaceName
from heliosdb.domain.state import NO_STATE, make_state, state_to_bytes
from heliosdb.domain.task import Reading, Summing, Task, TaskKey, Work
from heliosdb.domain.vector import Dtype
from heliosdb.node.memory import NO_MEMORY, Memory
from heliosdb.node.summing import Said, about, carry, is_message, is_open, prepare, say_message, stage_of
from heliosdb.transport import limits
from tests.support.sums import (
    SECRET_BYTES,
    Marking,
    Masked,
    Site,
    registered,
    unmasked,
)

KEY = TaskKey(WorkspaceName("w"), RunId(UUID(int=1)), RoundNumber(1), 3, StepName("train"), NodeName("node"))
VECTOR = np.array([0.5, -2.25, 4.0])
OWN = make_state(personal=np.array([9.0]))
SITE = Site()
PLACES = {"draw": 0, "mask": 1, "tell": 2}


@pytest.fixture(autouse=True)
def masked() -> Iterator[Masked]:
    protocol = Masked()
    with registered(protocol, Marking()):
        yield protocol


def task(stage: str, *, protocol: str = "masked", note: bytes = b"", first: int = 3) -> Task:
    summing = Summing(protocol, stage, note, nodes=3)
    key = replace(KEY, exchange=first + PLACES.get(stage, 0))
    return Task(key, Reading(None, ("x",), "y", 0.0, 1), Work("a", VECTOR.size, summing=summing))


def after(said: Said, memory: Memory) -> Memory:
    return replace(memory, protocol=said.keeps, turn=said.turn, version=memory.version + 1)


def carried(
    asked: Task, vector: np.ndarray, weight: float, memory: Memory, site: Site, *, weighted: bool
) -> Said:
    return carry(prepare(asked, memory, site), vector, weight, weighted=weighted)


def drawn(protocol: str = "masked", *, first: int = 3) -> Memory:
    memory = Memory(step=OWN)
    return after(say_message(task("draw", protocol=protocol, first=first), memory, SITE), memory)


def test_messages_of_a_sum_follow_each_other_and_nothing_is_kept_after_the_last(masked: Masked) -> None:
    memory = drawn()
    said = carried(task("mask"), VECTOR, 4.0, memory, SITE, weighted=True)
    told = say_message(task("tell"), after(said, memory), SITE)
    assert unmasked(said.vector, told.vector).tolist() == [2.0, -9.0, 16.0, 4.0]
    assert (dict(told.keeps), told.turn) == ({}, b"")
    assert [stage for stage, _ in masked.asked] == ["draw", "mask", "tell"]


def test_answers_that_are_added_up_are_summed_as_they_are_with_their_weight_behind() -> None:
    memory = drawn()
    said = carried(task("mask"), VECTOR, 4.0, memory, SITE, weighted=False)
    assert unmasked(said.vector, memory.protocol["secret"]).tolist() == [0.5, -2.25, 4.0, 4.0]


def test_what_a_step_keeps_is_never_shown_to_a_protocol(masked: Masked) -> None:
    memory = drawn()
    prepare(task("mask"), memory, SITE)
    said = carried(task("mask"), VECTOR, 4.0, memory, SITE, weighted=True)
    say_message(task("tell"), after(said, memory), SITE)
    assert {name for _, kept in masked.asked for name in kept} == {"secret"}


@pytest.mark.parametrize("stage", ["mask", "tell"])
@pytest.mark.parametrize("memory", [NO_MEMORY, Memory(step=OWN, protocol=make_state(secret=np.zeros(16)))])
def test_a_stage_without_the_one_before_is_refused(stage: str, memory: Memory) -> None:
    with pytest.raises(FederatedError, match="does not follow") as raised:
        say_message(task(stage), memory, SITE) if stage == "tell" else prepare(task(stage), memory, SITE)
    assert raised.value.code is ErrorCode.NODE_REFUSED


def test_no_stage_is_said_before_its_turn_or_twice() -> None:
    memory = drawn()
    with pytest.raises(FederatedError, match='stage "tell" of the sum protocol "masked" does not follow'):
        say_message(task("tell"), memory, SITE)
    memory = after(carried(task("mask"), VECTOR, 1.0, memory, SITE, weighted=True), memory)
    with pytest.raises(FederatedError, match="does not follow"):
        prepare(task("mask", note=b"again"), memory, SITE)
    memory = after(say_message(task("tell"), memory, SITE), memory)
    with pytest.raises(FederatedError, match="does not follow"):
        say_message(task("tell", note=b"again"), memory, SITE)


@pytest.mark.parametrize(
    "elsewhere",
    [
        task("mask", first=6),
        task("mask", protocol="marking"),
        replace(task("mask"), key=replace(task("mask").key, round=RoundNumber(2))),
        replace(task("mask"), key=replace(task("mask").key, step=StepName("evaluate"))),
    ],
)
def test_no_stage_of_another_sum_takes_its_place(elsewhere: Task) -> None:
    with pytest.raises(FederatedError, match="does not follow"):
        prepare(elsewhere, drawn(), SITE)


def test_a_sum_that_begins_gets_nothing_of_the_one_before(masked: Masked) -> None:
    say_message(task("draw", first=6), drawn(), SITE)
    assert masked.asked[-1] == ("draw", {})


def test_what_is_kept_of_the_message_with_the_vector_is_there_before_the_vector(masked: Masked) -> None:
    ready = prepare(task("mask", protocol="marking"), drawn("marking"), SITE)
    assert sorted(ready.keeps) == ["secret", "size"]
    assert ready.keeps["size"].tolist() == [VECTOR.size + 1]
    said = carry(ready, VECTOR, 1.0, weighted=True)
    assert (said.keeps, said.turn) == (ready.keeps, ready.turn)


def test_a_protocol_is_asked_and_makes_masks_once(masked: Masked) -> None:
    carry(prepare(task("mask"), drawn(), SITE), VECTOR, 1.0, weighted=True)
    assert masked.carried == [VECTOR.size + 1]
    assert [stage for stage, _ in masked.asked] == ["draw", "mask"]


@pytest.mark.parametrize("vector", [np.array([1e300, 0.0, 0.0]), np.array([np.nan, 0.0, 0.0])])
def test_what_is_not_finite_is_not_carried(vector: np.ndarray) -> None:
    with pytest.raises(FederatedError, match="not finite"):
        carried(task("mask"), vector, 1e12, drawn(), SITE, weighted=True)


def test_a_note_that_a_protocol_cannot_have_is_refused_before_anything_is_computed() -> None:
    with pytest.raises(FederatedError, match="the note is none"):
        prepare(task("mask", note=b"bad"), drawn(), SITE)
    with pytest.raises(FederatedError, match="the sum protocol gave no answer") as raised:
        prepare(task("mask", note=b"worse"), drawn(), SITE)
    assert "secret" not in str(raised.value)


def test_an_answer_of_another_shape_is_none(masked: Masked, monkeypatch: pytest.MonkeyPatch) -> None:
    said: object = (np.zeros(SECRET_BYTES + 1, dtype=np.uint8), {})
    monkeypatch.setattr(masked, "answer", lambda *_, **__: said)
    with pytest.raises(FederatedError, match="not of its stage's shape"):
        say_message(task("draw"), NO_MEMORY, SITE)


@pytest.mark.parametrize(("stage", "first"), [("draw", 4), ("mask", 0 + 5), ("tell", 1)])
def test_a_stage_out_of_its_turn_in_the_exchanges_is_none(stage: str, first: int) -> None:
    with pytest.raises(FederatedError, match="is no turn of stage") as raised:
        stage_of(task(stage, first=first))
    assert raised.value.code is ErrorCode.INVALID_VALUE


@pytest.mark.parametrize(
    ("summing", "message"),
    [
        (Summing("nobody's", "draw"), 'sum protocol "nobody\'s" is not supported'),
        (Summing("masked", "vector"), 'the sum protocol "masked" has no stage "vector"'),
        (Summing("plain", "tell"), 'the sum protocol "plain" has no stage "tell"'),
    ],
)
def test_a_stage_that_is_not_there_is_refused(summing: Summing, message: str) -> None:
    asked = replace(task("draw"), work=Work("a", 3, summing=summing))
    with pytest.raises(FederatedError, match=message) as raised:
        stage_of(asked)
    assert raised.value.code is ErrorCode.NOT_SUPPORTED


def test_an_answer_that_is_too_large_is_refused_before_it_is_made() -> None:
    for stage, size in (("mask", limits.MAX_VECTOR_BYTES // 8), ("draw", 1 + limits.MAX_VECTOR_BYTES // 8)):
        asked = task(stage)
        with pytest.raises(FederatedError, match="larger than an update may be") as raised:
            stage_of(replace(asked, work=replace(asked.work, size=size)))
        assert raised.value.code is ErrorCode.PROGRAM_LIMIT


def test_a_message_may_name_the_state_that_it_is_without() -> None:
    """It is of the same sum as the message with the vector, and of no other that has another state."""
    state = make_state(parameters=np.arange(3.0))
    told = hashlib.sha256(state_to_bytes(state)).digest()
    short, whole = task("draw"), replace(task("mask"), state=state)
    short = replace(short, work=replace(short.work, summing=replace(short.work.summing, state_sha256=told)))
    assert stage_of(short).name == "draw"
    assert about(short) == about(whole) != about(task("mask"))
    memory = after(say_message(short, Memory(step=OWN), SITE), Memory(step=OWN))
    assert carried(whole, VECTOR, 4.0, memory, SITE, weighted=True).turn
    with pytest.raises(FederatedError, match="does not follow what the node said last"):
        carried(
            replace(whole, state=make_state(parameters=np.ones(3))), VECTOR, 4.0, memory, SITE, weighted=True
        )


@pytest.mark.parametrize(("stage", "has_state"), [("mask", False), ("mask", True), ("draw", True)])
def test_a_message_with_the_vector_has_its_state(stage: str, has_state: bool) -> None:
    asked = replace(task(stage), state=make_state(parameters=np.ones(2)) if has_state else NO_STATE)
    asked = replace(
        asked, work=replace(asked.work, summing=replace(asked.work.summing, state_sha256=bytes(32)))
    )
    with pytest.raises(FederatedError, match="names that state") as raised:
        stage_of(asked)
    assert raised.value.code is ErrorCode.INVALID_VALUE


def test_the_nodes_own_protocol_says_which_stages_carry_no_vector() -> None:
    assert [is_message(task(stage)) for stage in PLACES] == [True, False, True]
    plain = replace(task("draw"), work=Work("a", 3, Dtype.FLOAT32))
    assert is_open(plain)
    assert not is_message(plain)
    assert not is_open(task("mask"))
