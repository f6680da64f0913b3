"""What a node sends of an update and keeps for the next: nothing is lost, and the same task sends the same."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest

from heliosdb.domain.coding import UNCHANGED, Coding
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import NodeName, RoundNumber, RunId, StepName, WorkspaceName
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.state import NO_STATE, State, freeze
from heliosdb.domain.task import Privacy, Reading, Task, TaskKey, Work
from heliosdb.domain.vector import Dtype
from heliosdb.node.coding import UpdateCoder, encode_answer
from heliosdb.transport.lossy import unpack

SIZE = 200
KEY = TaskKey(WorkspaceName("w"), RunId(UUID(int=1)), RoundNumber(1), 0, StepName("train"), NodeName("n"))
CODER = UpdateCoder(b"s" * 32)
PLAIN = np.frombuffer(b"plain\0", dtype=np.uint8)
"""Of whose rows what was kept is, where nobody is left out."""


def task(coding: Coding, number: int = 1) -> Task:
    work = Work("a", SIZE, Dtype.FLOAT64, coding=coding)
    return Task(replace(KEY, round=RoundNumber(number)), Reading(None, ("x",), "y", 0.0, 0), work)


def update(number: int) -> np.ndarray:
    return np.random.default_rng(number).normal(0, 1, SIZE)


@pytest.mark.parametrize(
    "coding", [Coding(sent=20), Coding(bits=8, sent=20), Coding(bits=16, sent=1)], ids=str
)
def test_what_was_not_sent_is_sent_later(coding: Coding) -> None:
    kept: State = NO_STATE
    computed, sent = np.zeros(SIZE), np.zeros(SIZE)
    for number in range(1, 30):
        asked = task(coding, number)
        packed = CODER.pack(asked, update(number), kept)
        found = unpack(packed.vector, SIZE, Dtype.FLOAT64, coding)
        assert 0 < np.count_nonzero(found) <= coding.count(SIZE)
        computed, sent, kept = computed + update(number), sent + found, packed.unsent
        assert np.allclose(sent + kept["train"], computed, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_where_nothing_is_rounded_not_a_bit_is_lost(dtype: str) -> None:
    """Whole numbers, whose sums are exact; many are equal, so that there are ties in every round."""
    rng, coding, kept = np.random.default_rng(2), Coding(sent=7), NO_STATE
    computed, sent = np.zeros(SIZE), np.zeros(SIZE)
    for number in range(1, 60):
        vector = rng.integers(-3, 4, SIZE).astype(dtype)
        asked = task(coding, number)
        asked = replace(asked, work=replace(asked.work, dtype=Dtype(dtype)))
        packed = CODER.pack(asked, vector, kept)
        found = unpack(packed.vector, SIZE, Dtype(dtype), coding)
        computed, sent, kept = computed + vector, sent + found, packed.unsent
        assert np.array_equal(sent + kept["train"], computed)


def test_nothing_is_kept_where_all_values_are_sent() -> None:
    vector = update(1)
    plain = CODER.pack(task(UNCHANGED), vector, NO_STATE)
    assert plain.vector is vector
    assert plain.unsent is NO_STATE
    assert not CODER.pack(task(Coding(bits=8)), vector, NO_STATE).unsent


def test_the_same_task_sends_the_same_bytes_and_another_others() -> None:
    coding = Coding(bits=8, sent=50)

    def sent(coder: UpdateCoder, number: int) -> bytes:
        return coder.pack(task(coding, number), update(1), NO_STATE).vector.tobytes()

    assert sent(CODER, 1) == sent(UpdateCoder(b"s" * 32), 1)
    assert sent(CODER, 1) != sent(CODER, 2)
    assert sent(CODER, 1) != sent(UpdateCoder(b"t" * 32), 1)


@pytest.mark.parametrize(
    ("rest", "code"),
    [
        (np.zeros(SIZE - 1), ErrorCode.INTERNAL),
        (np.zeros(SIZE, dtype=np.float32), ErrorCode.INTERNAL),
        (np.full(SIZE, np.finfo(np.float64).max), ErrorCode.UPDATE_REJECTED),
    ],
    ids=["of another length", "of another type", "no number together"],
)
def test_what_was_kept_of_another_update_is_never_added(rest: np.ndarray, code: ErrorCode) -> None:
    vector = np.full(SIZE, np.finfo(np.float64).max)
    with pytest.raises(FederatedError) as raised:
        CODER.pack(task(Coding(sent=20)), vector, freeze({"train": rest, "whose rows": PLAIN}))
    assert raised.value.code is code


def test_a_codec_that_fails_says_nothing_of_what_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_given: object) -> bytes:
        raise RuntimeError("value 42 of a row")

    monkeypatch.setattr("heliosdb.transport.packing.encode", fail)
    with pytest.raises(FederatedError, match="the answer cannot be encoded") as raised:
        encode_answer(task(UNCHANGED), update(1))
    assert raised.value.code is ErrorCode.INTERNAL
    assert "42" not in raised.value.text


def test_what_was_kept_of_other_peoples_rows_is_not_sent_any_more() -> None:
    coding = Coding(sent=20)
    before = CODER.pack(task(coding), update(1), NO_STATE, b"everybody")
    fresh = CODER.pack(task(coding, 2), update(2), NO_STATE, b"without one")
    again = CODER.pack(task(coding, 2), update(2), before.unsent, b"without one")
    assert again.vector.tobytes() == fresh.vector.tobytes()
    assert again.unsent["train"].tobytes() == fresh.unsent["train"].tobytes()
    kept = CODER.pack(task(coding, 2), update(2), before.unsent, b"everybody")
    assert kept.vector.tobytes() != fresh.vector.tobytes()


def test_what_was_kept_without_noise_is_in_no_private_answer() -> None:
    coding = Coding(sent=20)
    plain, private = task(coding), task(coding, 2)
    private = replace(private, work=replace(private.work, privacy=Privacy(Mechanism(1.0), 1.0)))
    before = CODER.pack(plain, update(1), NO_STATE)
    fresh = CODER.pack(private, update(2), NO_STATE)
    after = CODER.pack(private, update(2), before.unsent)
    assert after.vector.tobytes() == fresh.vector.tobytes()
    assert after.unsent["train"].tobytes() == fresh.unsent["train"].tobytes()
