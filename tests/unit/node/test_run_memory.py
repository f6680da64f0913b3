"""What a node remembers of a run: sealed for that run alone, bounded, and each owner's part by itself."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest

from heliosdb.catalog.participant import StoredMemory
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import NodeName, RoundNumber, RunId, StepName, WorkspaceName
from heliosdb.domain.state import make_state, state_to_bytes
from heliosdb.domain.task import TaskKey
from heliosdb.node.memory import NO_MEMORY, Memory, MemoryKey
from heliosdb.transport import limits

KEY = TaskKey(WorkspaceName("w"), RunId(UUID(int=1)), RoundNumber(1), 0, StepName("train"), NodeName("node"))
SECRET = bytes(range(32))
WORDS = b"nobody may read this in the database"
MEMORY = Memory(
    step=make_state(head=np.array([0.25, -1.5]), codes=np.arange(3)),
    protocol=make_state(head=np.frombuffer(WORDS, dtype=np.uint8)),
    turn=b"next",
    version=6,
)


def stored(memory: Memory = MEMORY, *, secret: bytes = SECRET, key: TaskKey = KEY) -> StoredMemory:
    return StoredMemory(MemoryKey(secret).seal(memory, key), memory.version + 1)


def test_a_memory_is_opened_as_it_was_sealed_with_the_version_of_what_is_stored() -> None:
    opened = MemoryKey(SECRET).open(stored(), KEY)
    assert state_to_bytes(opened.step) == state_to_bytes(MEMORY.step)
    assert state_to_bytes(opened.protocol) == state_to_bytes(MEMORY.protocol)
    assert (opened.turn, opened.version) == (b"next", 7)
    assert opened.to_bytes() == MEMORY.to_bytes()


def test_a_run_of_which_nothing_is_stored_is_not_remembered() -> None:
    assert MemoryKey(SECRET).open(None, KEY) is NO_MEMORY
    empty = MemoryKey(SECRET).open(stored(NO_MEMORY), KEY)
    assert (dict(empty.step), dict(empty.protocol), empty.turn) == ({}, {}, b"")


def test_later_tasks_of_the_run_open_it() -> None:
    later = replace(KEY, round=RoundNumber(9), exchange=4, step=StepName("evaluate"))
    assert MemoryKey(SECRET).open(stored(), later).to_bytes() == MEMORY.to_bytes()


@pytest.mark.parametrize(
    "other",
    [
        replace(KEY, run=RunId(UUID(int=2))),
        replace(KEY, node=NodeName("nodew")),
        replace(KEY, workspace=WorkspaceName("x")),
        # The same letters, cut elsewhere.
        replace(KEY, node=NodeName("nod"), workspace=WorkspaceName("ew")),
    ],
)
def test_no_other_run_node_or_workspace_opens_it(other: TaskKey) -> None:
    with pytest.raises(FederatedError, match="cannot open what it remembers") as raised:
        MemoryKey(SECRET).open(stored(), other)
    assert raised.value.code is ErrorCode.INTERNAL


@pytest.mark.parametrize(
    "changed", [b"", b"short", stored().sealed[:-1], bytes([stored().sealed[0] ^ 1]) + stored().sealed[1:]]
)
def test_bytes_that_were_changed_are_no_memory(changed: bytes) -> None:
    with pytest.raises(FederatedError, match="cannot open what it remembers"):
        MemoryKey(SECRET).open(StoredMemory(changed, 1), KEY)


def test_another_nodes_secret_does_not_open_it_and_nothing_of_it_is_in_the_clear() -> None:
    with pytest.raises(FederatedError, match="cannot open what it remembers"):
        MemoryKey(b"x" * 32).open(stored(), KEY)
    sealed = stored().sealed
    assert WORDS not in sealed
    assert MEMORY.step["head"].tobytes() not in sealed
    assert sealed != stored().sealed


def test_a_memory_is_bounded_as_it_is_stored_to_the_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(step=make_state(a=np.zeros(100)))
    stored_bytes = len(MemoryKey(SECRET).seal(memory, KEY))
    monkeypatch.setattr(limits, "MAX_VECTOR_BYTES", stored_bytes)
    assert len(MemoryKey(SECRET).seal(memory, KEY)) == stored_bytes
    monkeypatch.setattr(limits, "MAX_VECTOR_BYTES", stored_bytes - 1)
    with pytest.raises(FederatedError, match="remember too much") as raised:
        MemoryKey(SECRET).seal(memory, KEY)
    assert raised.value.code is ErrorCode.PROGRAM_LIMIT


def test_what_could_not_be_read_again_is_not_sealed() -> None:
    name = "a" * 255
    with pytest.raises(FederatedError, match="name is empty or too long"):
        MemoryKey(SECRET).seal(Memory(step=make_state(**{name: np.zeros(1)})), KEY)
