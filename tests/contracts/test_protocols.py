"""What every sum protocol keeps to: the sum of whoever sent a vector, in any order, through bytes kept between."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from uuid import UUID

import numpy as np
import pytest

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.aggregation import SumProtocol, protocol
from heliosdb.domain.ids import NodeName, RoundNumber, RunId, StepName, WorkspaceName
from heliosdb.domain.state import NO_STATE, State, state_from_bytes, state_to_bytes
from heliosdb.domain.task import TaskKey
from heliosdb.domain.vector import AnyVector, Dtype, Vector
from heliosdb.parts.protocols import PROTOCOLS
from heliosdb.parts.registry import RegisteredPart
from tests.contracts.support import entries_with
from tests.contracts.toy_parts import TOY_MASKS
from tests.support.sums import Site, spoken

NODES = [NodeName(name) for name in ("ärzte", "b", "clinic_1", "clinic_2", "d")]
SIZE = 37


@pytest.fixture(
    params=entries_with(PROTOCOLS, RegisteredPart(TOY_MASKS.name, TOY_MASKS)), ids=lambda entry: entry.name
)
def summing(request: pytest.FixtureRequest) -> SumProtocol:
    found: SumProtocol = request.param.part
    return found


def vectors(nodes: Collection[NodeName] = NODES, size: int = SIZE) -> dict[NodeName, Vector]:
    rng = np.random.default_rng(4)
    return {node: rng.normal(size=size) * 100 for node in nodes}


def key(node: NodeName, exchange: int) -> TaskKey:
    # 60: where a sum begins, of however many of a few stages.
    return TaskKey(
        WorkspaceName("w"), RunId(UUID(int=3)), RoundNumber(2), 60 + exchange, StepName("train"), node
    )


def kept(state: State) -> State:
    """As it comes back from where it was kept."""
    return state_from_bytes(state_to_bytes(state))


def taken(
    summing: SumProtocol, stage: str, size: int, heard: State, answers: Mapping[NodeName, AnyVector]
) -> State:
    """What is heard; in another order of answers it must be the same."""
    found = summing.take(stage, size, heard, answers)
    for seed in range(4):
        items = list(answers.items())
        random.Random(seed).shuffle(items)
        assert state_to_bytes(summing.take(stage, size, heard, dict(items))) == state_to_bytes(found)
    return kept(found)


def summed(
    summing: SumProtocol, sent: Mapping[NodeName, Vector], silent: Mapping[str, Collection[NodeName]]
) -> Vector:
    """One exchange from the first stage to the sum. silent: by stage, who does not answer from there on."""
    size = next(iter(sent.values())).size
    heard, memories, asked = NO_STATE, dict.fromkeys(sent, NO_STATE), sorted(sent)
    for number, stage in enumerate(summing.stages):
        shape = summing.shape(stage.name, size, len(asked))
        answers = {}
        for node in asked:
            note = summing.ask(stage.name, node, heard)
            assert isinstance(note, bytes)
            if node in silent.get(stage.name, ()):
                continue
            vector = sent[node] if stage.carries else None
            answer, memory = spoken(
                summing, stage.name, key(node, number), note, vector, memories[node], site=Site(node)
            )
            assert (answer.shape, answer.dtype.name) == ((shape.size,), shape.dtype.value)
            answers[node], memories[node] = answer, kept(memory)
        heard, asked = taken(summing, stage.name, size, heard, answers), sorted(answers)
    return summing.total(size, heard)


def expected(sent: Mapping[NodeName, Vector], nodes: Collection[NodeName]) -> Vector:
    found: Vector = np.sum([sent[node] for node in nodes], axis=0)
    return found


def carrying(summing: SumProtocol) -> str:
    return next(stage.name for stage in summing.stages if stage.carries)


def test_one_stage_carries_the_vector_and_stages_have_names_of_their_own(summing: SumProtocol) -> None:
    assert sum(stage.carries for stage in summing.stages) == 1
    assert len({stage.name for stage in summing.stages}) == len(summing.stages)
    assert all(stage.name for stage in summing.stages)


def test_an_open_protocol_is_one_message_with_the_vector_itself(summing: SumProtocol) -> None:
    if summing.is_open:
        (stage,) = summing.stages
        shape = summing.shape(stage.name, SIZE, len(NODES))
        assert (shape.size, shape.dtype) == (SIZE, Dtype.FLOAT64)
        vector = vectors()[NODES[0]]
        note = summing.ask(stage.name, NODES[0], NO_STATE)
        answer, memory = spoken(summing, stage.name, key(NODES[0], 0), note, vector, NO_STATE, site=Site())
        assert answer.tobytes() == vector.tobytes()
        assert memory == NO_STATE
    else:
        assert len(summing.stages) >= 1


@pytest.mark.parametrize("nodes", [3, 5])
@pytest.mark.parametrize("size", [1, SIZE])
def test_it_is_the_sum(summing: SumProtocol, nodes: int, size: int) -> None:
    sent = vectors(NODES[:nodes], size)
    found = summed(summing, sent, {})
    assert found.dtype == np.float64
    assert found == pytest.approx(expected(sent, sent), abs=1e-5)


def test_who_is_lost_before_sending_a_vector_is_not_in_the_sum(summing: SumProtocol) -> None:
    sent = vectors()
    for stage in summing.stages:
        found = summed(summing, sent, {stage.name: NODES[1:2]})
        assert found == pytest.approx(expected(sent, [NODES[0], *NODES[2:]]), abs=1e-5)
        if stage.carries:
            break


def test_who_is_lost_after_sending_a_vector_leaves_the_sum_right_or_refused(summing: SumProtocol) -> None:
    sent, names = vectors(), [stage.name for stage in summing.stages]
    for stage in names[names.index(carrying(summing)) + 1 :]:
        found = summed(summing, sent, {stage: NODES[:1]})
        assert found == pytest.approx(expected(sent, NODES), abs=1e-5)
        with pytest.raises(FederatedError):
            summed(summing, sent, {carrying(summing): NODES[3:4], stage: NODES[:1]})


def test_no_answer_at_all_is_refused(summing: SumProtocol) -> None:
    for stage in summing.stages:
        with pytest.raises(FederatedError) as caught:
            summed(summing, vectors(), {stage.name: NODES})
        assert caught.value.code is ErrorCode.UPDATE_REJECTED


@pytest.mark.parametrize("note", [b"x", b"\xff\x00", b"[]", b'{"names": 3}', b'{"names": ["zz"]}', b"null"])
def test_a_note_that_cannot_be_is_refused_by_a_node(summing: SumProtocol, note: bytes) -> None:
    first = summing.stages[0]
    told = summing.ask(first.name, NODES[0], NO_STATE)
    vector, site = vectors()[NODES[0]], Site(NODES[0])
    carried = vector if first.carries else None
    _, memory = spoken(summing, first.name, key(NODES[0], 0), told, carried, NO_STATE, site=site)
    later = summing.stages[1:] or summing.stages
    carried = vector if later[0].carries else None
    with pytest.raises(FederatedError) as caught:
        spoken(summing, later[0].name, key(NODES[0], 1), note, carried, memory, site=site)
    assert caught.value.code is ErrorCode.INVALID_VALUE


def test_the_typed_accessor_gives_the_registered_part() -> None:
    for name in PROTOCOLS.names():
        assert protocol(name.upper()) is PROTOCOLS.get(name)
        assert protocol(name).name == name


def test_masks_of_the_toy_hide_the_vector_and_a_node_alone_is_not_unmasked() -> None:
    zero = {node: np.zeros(SIZE) for node in NODES[:3]}
    with pytest.raises(FederatedError, match="too many nodes were lost"):
        summed(TOY_MASKS, zero, {"masked": NODES[1:3]})
    with pytest.raises(FederatedError, match="too large"):
        summed(TOY_MASKS, {NODES[0]: np.array([np.nan])}, {})
