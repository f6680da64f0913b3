"""What is kept between two exchanges opens as it was sealed, for its run and round, under its key alone."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest

from heliosdb.catalog.rounds import StoredState
from heliosdb.coordinator.course import ModelState
from heliosdb.coordinator.keeping import Kept, open_kept, seal_kept
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import RunId
from heliosdb.domain.state import NO_STATE, State, make_state, state_to_bytes
from heliosdb.domain.vector import vector_to_bytes
from heliosdb.transport.sealing import AtRestKey

KEY, OTHER_KEY = AtRestKey(b"k" * 32), AtRestKey(b"o" * 32)
RUN, OTHER_RUN = RunId(UUID(int=1)), RunId(UUID(int=2))
STATE = make_state(parameters=np.array([0.1, -1 / 3, 1e-300]))
MEMORY = make_state(velocity=np.array([1.0, 2.0, 3.0]))
HEARD = make_state(seeds=np.array([[1, 2], [3, 2**64 - 1]], dtype=np.uint64))


def as_bytes(kept: Kept) -> tuple[bytes, bytes, bytes, int, tuple[str, ...]]:
    states: tuple[State, ...] = (kept.model.state, kept.model.memory, kept.heard)
    one, two, three = (state_to_bytes(state) for state in states)
    return one, two, three, kept.summed, kept.notes


@pytest.mark.parametrize("state", [NO_STATE, STATE])
@pytest.mark.parametrize("memory", [NO_STATE, MEMORY])
@pytest.mark.parametrize("heard", [NO_STATE, HEARD])
@pytest.mark.parametrize("summed", [0, 3])
@pytest.mark.parametrize("notes", [(), ("b: ünsaid", "", "a")])
def test_what_was_sealed_opens_to_the_bit(
    state: State, memory: State, heard: State, summed: int, notes: tuple[str, ...]
) -> None:
    kept = Kept(ModelState(state, memory), heard, summed, notes)

    opened = open_kept(seal_kept(kept, RUN, 2, KEY), RUN, 2, KEY)

    assert as_bytes(opened) == as_bytes(kept)


def test_arrays_of_one_name_do_not_meet() -> None:
    same = make_state(nodes=np.array([7.0]))
    kept = Kept(ModelState(same, make_state(nodes=np.array([8.0]))), make_state(nodes=np.array([9.0])), 4)

    assert as_bytes(open_kept(seal_kept(kept, RUN, 1, KEY), RUN, 1, KEY)) == as_bytes(kept)


def test_a_model_that_remembers_nothing_is_stored_without_a_memory() -> None:
    stored = seal_kept(Kept(ModelState(STATE)), RUN, 1, KEY)

    assert stored.memory is None
    assert stored.sha256 == hashlib.sha256(vector_to_bytes(np.array(STATE["parameters"]))).digest()


def test_nothing_of_it_can_be_read_in_the_catalog() -> None:
    stored = seal_kept(Kept(ModelState(STATE, MEMORY), HEARD), RUN, 1, KEY)

    assert stored.memory is not None
    for sealed, array in ((stored.sealed, STATE["parameters"]), (stored.memory, MEMORY["velocity"])):
        assert array.tobytes() not in sealed


@pytest.mark.parametrize(("run", "number", "key"), [(RUN, 2, OTHER_KEY), (OTHER_RUN, 2, KEY), (RUN, 3, KEY)])
def test_it_opens_for_nothing_else(run: RunId, number: int, key: AtRestKey) -> None:
    stored = seal_kept(Kept(ModelState(STATE, MEMORY)), RUN, 2, KEY)

    with pytest.raises(FederatedError) as caught:
        open_kept(stored, run, number, key)

    assert caught.value.code is ErrorCode.IDENTITY
    assert caught.value.hint is not None


def test_state_and_memory_do_not_pass_for_each_other() -> None:
    stored = seal_kept(Kept(ModelState(STATE, STATE)), RUN, 2, KEY)
    assert stored.memory is not None

    for swapped in (replace(stored, sealed=stored.memory), replace(stored, memory=stored.sealed)):
        with pytest.raises(FederatedError) as caught:
            open_kept(swapped, RUN, 2, KEY)
        assert caught.value.code is ErrorCode.IDENTITY


@pytest.mark.parametrize("place", [0, 12, -1])
def test_what_was_tampered_with_does_not_open(place: int) -> None:
    stored = seal_kept(Kept(ModelState(STATE, MEMORY)), RUN, 2, KEY)
    for name in ("sealed", "memory"):
        changed = bytearray(getattr(stored, name))
        changed[place] ^= 1

        with pytest.raises(FederatedError) as caught:
            open_kept(replace(stored, **{name: bytes(changed)}), RUN, 2, KEY)

        assert caught.value.code is ErrorCode.IDENTITY


@pytest.mark.parametrize("sealed", [b"", b"short"])
def test_what_is_too_short_to_be_sealed_does_not_open(sealed: bytes) -> None:
    with pytest.raises(FederatedError) as caught:
        open_kept(StoredState(sealed, b""), RUN, 2, KEY)

    assert caught.value.code is ErrorCode.IDENTITY


def test_a_state_of_another_sum_is_not_taken_for_it() -> None:
    stored = seal_kept(Kept(ModelState(STATE)), RUN, 2, KEY)

    with pytest.raises(FederatedError, match="are not what was kept") as caught:
        open_kept(replace(stored, sha256=bytes(32)), RUN, 2, KEY)

    assert caught.value.code is ErrorCode.INTERNAL


def test_what_version_1_1_kept_is_the_parameters() -> None:
    plain = vector_to_bytes(np.array([0.1, -1 / 3, 1e-300]))
    about = b"parameters\0" + RUN.bytes + (2).to_bytes(8, "little")
    stored = StoredState(KEY.seal(plain, about=about), hashlib.sha256(plain).digest())

    opened = open_kept(stored, RUN, 2, KEY)

    assert as_bytes(opened) == as_bytes(Kept(ModelState(STATE)))
