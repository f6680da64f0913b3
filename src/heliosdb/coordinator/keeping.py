"""What is kept of a run between two exchanges: the model, and what a sum protocol has heard, sealed.

What always holds: what was sealed for one run and round opens for that one alone, and is what was sealed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from heliosdb.catalog.rounds import StoredState
from heliosdb.coordinator.course import ModelState
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import RunId
from heliosdb.domain.state import (
    NO_STATE,
    State,
    is_state,
    join_parts,
    make_state,
    part_of,
    state_from_bytes,
    state_sha256,
    state_to_bytes,
)
from heliosdb.domain.vector import vector_from_bytes
from heliosdb.transport import limits
from heliosdb.transport.at_rest import AtRestKey, UnopenedError, version_of

_STRATEGY, _HEARD, _SUM, _NOTES = "strategy", "heard", "sum", "notes"


@dataclass(frozen=True, slots=True)
class Kept:
    """Of a closed round its model; of an open one also what the sum protocol has heard since its step
    began, of how many nodes the sum will be (0 before that is known), and what its message will say.
    """

    model: ModelState
    heard: State = field(default_factory=lambda: NO_STATE)
    summed: int = 0
    notes: tuple[str, ...] = ()


def seal_kept(
    kept: Kept, run: RunId, number: int, key: AtRestKey, *, workspace: str = "", version: int = 0
) -> StoredState:
    """Seal it for the catalog; only for this run and round does it open again, and as this version: of an
    open round the exchange that goes on from it.
    """
    state = state_to_bytes(kept.model.state)
    summed = make_state(nodes=np.array([kept.summed], dtype=np.int64)) if kept.summed else NO_STATE
    memory = join_parts(
        **{
            _STRATEGY: kept.model.memory,
            _HEARD: kept.heard,
            _SUM: summed,
            _NOTES: _notes_to_state(kept.notes),
        }
    )
    told = state_to_bytes(memory)
    if max(len(state), len(told)) > limits.MAX_VECTOR_BYTES:
        raise FederatedError(
            ErrorCode.PROGRAM_LIMIT, f"what is to be kept of round {number} is larger than a value may be"
        )
    scope = scope_of(workspace)
    return StoredState(
        key.seal(state, about=_about(b"parameters", run, number), scope=scope, version=version),
        state_sha256(kept.model.state),
        key.seal(told, about=_about(b"memory", run, number), scope=scope, version=version)
        if memory
        else None,
    )


def open_kept(
    stored: StoredState, run: RunId, number: int, key: AtRestKey, *, version: int | None = None
) -> Kept:
    """Open what `seal_kept` made; FederatedError IDENTITY for another key or version, INTERNAL for other
    bytes. version: None: any, and any for what an earlier release sealed.
    """
    wanted = version if version_of(stored.sealed) is not None else None
    state = _state(_open(stored.sealed, _about(b"parameters", run, number), number, key, wanted))
    if state_sha256(state) != stored.sha256:
        raise FederatedError(ErrorCode.INTERNAL, f"the parameters of round {number} are not what was kept")
    memory = NO_STATE
    if stored.memory is not None:
        memory = state_from_bytes(_open(stored.memory, _about(b"memory", run, number), number, key, wanted))
    summed = part_of(memory, _SUM)
    nodes = int(summed["nodes"][0]) if summed else 0
    notes = _notes_from_state(part_of(memory, _NOTES))
    return Kept(ModelState(state, part_of(memory, _STRATEGY)), part_of(memory, _HEARD), nodes, notes)


def seal_again(
    sealed: bytes,
    memory: bytes | None,
    number: int,
    key: AtRestKey,
    *,
    run: RunId,
    other: RunId,
    workspace: str = "",
    version: int | None = None,
) -> StoredState:
    """Seal what was kept of a round of one run as the same of another, or anew; errors as `open_kept`.

    version: None: the one that it has, and 0 of what an earlier release sealed.
    """
    scope = scope_of(workspace)
    version = (version_of(sealed) or 0) if version is None else version
    state = _open(sealed, _about(b"parameters", run, number), number, key)
    told = None if memory is None else _open(memory, _about(b"memory", run, number), number, key)
    return StoredState(
        key.seal(state, about=_about(b"parameters", other, number), scope=scope, version=version),
        state_sha256(_state(state)),
        None
        if told is None
        else key.seal(told, about=_about(b"memory", other, number), scope=scope, version=version),
    )


def _notes_to_state(notes: tuple[str, ...]) -> State:
    """The notes by their place; nothing where there are none."""
    texts = (np.frombuffer(note.encode(), dtype=np.uint8) for note in notes)
    return make_state(**{f"{place:06d}": text for place, text in enumerate(texts)})


def _notes_from_state(state: State) -> tuple[str, ...]:
    return tuple(state[place].tobytes().decode() for place in sorted(state))


def scope_of(workspace: str) -> str:
    """By which the wrapping key of what is kept of a workspace's runs is chosen."""
    return f"run\0{workspace}"


def _open(sealed: bytes, about: bytes, number: int, key: AtRestKey, version: int | None = None) -> bytes:
    try:
        return key.open(sealed, about=about, version=version)
    except UnopenedError:
        raise FederatedError(
            ErrorCode.IDENTITY,
            f"the parameters of round {number} do not open with this coordinator's key",
            hint="Coordinators that stand by for each other must share the state directory's keys.",
        ) from None


def _state(plain: bytes) -> State:
    """Read a state; what version 1.1 kept is the values of one array."""
    if is_state(plain):
        return state_from_bytes(plain)
    return make_state(parameters=np.array(vector_from_bytes(plain)))


def _about(what: bytes, run: RunId, number: int) -> bytes:
    return what + b"\0" + run.bytes + number.to_bytes(8, "little")
