"""A node that is stopped between two messages of a secure sum: no secret is drawn anew for the same sum, and none is
used in two.

A node writes what it says and what it keeps in one transaction (node/door.py), so that after a crash either both are
there or neither is: here a crash loses the last of both, or nothing.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from heliosdb.aggregation.secure_keys import Secrets
from heliosdb.aggregation.secure_sum import SecureSum
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.ids import NodeName, RoundNumber
from heliosdb.domain.state import NO_STATE, State
from heliosdb.domain.task import Task
from heliosdb.domain.vector import AnyVector
from heliosdb.node.memory import Memory
from heliosdb.node.summing import Said, carry, prepare, say_message
from heliosdb.parts.protocols import ShamirSettings
from tests.security.test_distributed_noise import SIZE, STAGES, task_of
from tests.support.sums import Site

NAMES = ("node_0", "node_1", "node_2", "node_3")
PROTOCOL = SecureSum(ShamirSettings())


class Node:
    """One node. records: what it has committed, by round and stage, as the release table has it."""

    def __init__(self, name: str) -> None:
        self.name, self.site = name, Site(name, NAMES)
        self.memory, self.records = Memory(), dict[tuple[int, str], AnyVector]()
        self.drawn: list[Secrets] = []

    def task(self, number: int, stage: str, note: bytes, there: int) -> Task:
        asked = task_of(self.name, stage, note, there)
        return replace(asked, key=replace(asked.key, round=RoundNumber(number)))

    def say(self, number: int, stage: str, note: bytes, there: int) -> Said:
        task = self.task(number, stage, note, there)
        if stage == "masked":
            return carry(prepare(task, self.memory, self.site), np.zeros(SIZE), 1.0, weighted=True)
        said = say_message(task, self.memory, self.site)
        if stage == "keys":
            self.drawn.append(Secrets.read(said.keeps["secrets"]))
        return said

    def answer(
        self, number: int, stage: str, note: bytes, there: int, *, dies: str | None = None
    ) -> AnyVector:
        """What it answers in the end. dies: before what it says is committed, after that, or not at all."""
        if (number, stage) not in self.records:
            said = self.say(number, stage, note, there)
            if dies == "before":
                said = self.say(number, stage, note, there)
            self.memory = replace(self.memory, protocol=said.keeps, turn=said.turn)
            self.records[number, stage] = said.vector
        # Asked again for what it has released it has nothing but the very bytes.
        return self.records[number, stage]


def play(nodes: list[Node], number: int, *, victim: int, stage: str, dies: str | None) -> np.ndarray:
    heard: State = NO_STATE
    for one in STAGES:
        answers = {}
        for place, node in enumerate(nodes):
            here = dies if (place, one) == (victim, stage) else None
            note = PROTOCOL.ask(one, NodeName(node.name), heard)
            answers[NodeName(node.name)] = node.answer(number, one, note, len(nodes), dies=here)
            if here == "after":
                again = node.answer(number, one, note, len(nodes))
                assert np.array_equal(again, answers[NodeName(node.name)])
        heard = PROTOCOL.take(one, SIZE + 1, heard, answers)
    return PROTOCOL.total(SIZE + 1, heard)


@pytest.mark.parametrize("dies", ["before", "after"])
def test_whenever_a_node_is_stopped_the_sum_opens_and_no_secret_serves_twice(dies: str) -> None:
    nodes = [Node(name) for name in NAMES]
    for number, (victim, stage) in enumerate(itertools.product((0, 3), STAGES), 1):
        total = play(nodes, number, victim=victim, stage=stage, dies=dies)
        assert total.tolist() == [0.0] * SIZE + [4.0]
    told = [(node.name, one) for node in nodes for one in node.drawn]
    for part in ("masks", "own", "shares"):
        assert len({getattr(one, part) for _, one in told}) == len(told)
    # Those of a life that committed nothing were never told: what is in a sum's keys was drawn once for it.
    stated = [node.records[number, "keys"].tobytes() for node in nodes for number in range(1, 11)]
    assert len(set(stated)) == len(stated)


@pytest.mark.parametrize("stage", STAGES[1:])
def test_a_node_that_has_said_a_message_says_none_of_the_sum_anew(stage: str) -> None:
    """Asked under another name of the message, as by a coordinator that lost its own memory."""
    nodes = [Node(name) for name in NAMES]
    play(nodes, 1, victim=0, stage="keys", dies=None)
    with pytest.raises(FederatedError, match="does not follow what the node said last"):
        nodes[0].say(1, stage, b"", 4)


@pytest.mark.parametrize("stage", STAGES[1:])
def test_the_keys_of_one_sum_serve_no_message_of_the_next(stage: str) -> None:
    nodes = [Node(name) for name in NAMES]
    heard = NO_STATE
    for one in STAGES[: STAGES.index(stage)]:
        answers = {
            NodeName(node.name): node.answer(1, one, PROTOCOL.ask(one, NodeName(node.name), heard), 4)
            for node in nodes
        }
        heard = PROTOCOL.take(one, SIZE + 1, heard, answers)
    with pytest.raises(FederatedError, match="does not follow what the node said last"):
        nodes[0].say(2, stage, PROTOCOL.ask(stage, NodeName(NAMES[0]), heard), 4)
