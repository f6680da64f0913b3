"""Two toy parts that use every seam: a strategy with settings and a memory, a sum protocol of four messages.

They are here to hold the contracts up to, and to show how a part is written; `toys.py` registers them. The
protocol hides nothing from its coordinator, who passes on the seeds of all masks: it is a toy of the seams.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from heliosdb.aggregation.sums import Prepared, Shape, Signatory, Stage
from heliosdb.domain.bounds import Bounds
from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value
from heliosdb.domain.ids import NodeName
from heliosdb.domain.settings import Setting, within
from heliosdb.domain.state import NO_STATE, State, make_state
from heliosdb.domain.task import TaskKey
from heliosdb.domain.update import Total, Updates
from heliosdb.domain.vector import AnyVector, Dtype, Vector
from heliosdb.parts.strategies import Needs

Ring = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class ToyMomentumSettings:
    """decay: how much of the last round's velocity stays, in [0, 0.999]."""

    decay: float = within(Bounds(0.0, 0.999), default=0.5)

    needs: ClassVar[Needs] = "whole"


class ToyMomentum:
    """velocity = decay x velocity + the updates' median by coordinate; new = old + velocity."""

    name = "toy_momentum"
    sees: Literal["each", "sum"] = "each"

    def local(self, settings: ToyMomentumSettings) -> Mapping[str, Setting]:
        """Nothing."""
        return {}

    def combine(
        self, parameters: Vector, memory: State, gathered: Total | Updates, settings: ToyMomentumSettings
    ) -> tuple[Vector, State]:
        """The moved parameters, and the velocity."""
        if isinstance(gathered, Total):
            raise TypeError("the median is of single updates")
        if not gathered or any(update.vector.shape != parameters.shape for update in gathered):
            raise FederatedError(ErrorCode.UPDATE_REJECTED, "There is no update of the parameters' shape.")
        velocity = np.array(memory.get("velocity", np.zeros(parameters.size)))
        if velocity.shape != parameters.shape:
            raise FederatedError(ErrorCode.UPDATE_REJECTED, "What was remembered is of another model.")
        velocity *= settings.decay
        with np.errstate(over="ignore", invalid="ignore"):
            velocity += np.median([update.vector for update in gathered], axis=0)
            moved = parameters + velocity
        if not np.isfinite(moved).all():
            raise FederatedError(ErrorCode.UPDATE_REJECTED, "The median is larger than the largest number.")
        return moved, make_state(velocity=velocity)


TOY_MOMENTUM = ToyMomentum()

SCALE = 2.0**24
MOST = 2.0**38
"""The sum of the cohort's values is smaller in magnitude, so that it does not wrap around."""


class ToyMasks:
    """Each pair of nodes shares two seeds, of masks that one adds and the other subtracts.

    advertise: each node draws a secret and says its hash. share: it sends a seed for each other node, in the
    clear. masked: it sends its vector in fixed point, in the ring of whole numbers modulo 2**64, behind the
    masks of its seeds and of those that it was sent. unmask: the masks towards nodes that were lost since do
    not cancel; who is left says what their sum is.
    """

    name = "toy_masks"
    is_open = False
    stages: Sequence[Stage] = (
        Stage("advertise", carries=False),
        Stage("share", carries=False),
        Stage("masked", carries=True),
        Stage("unmask", carries=False),
    )

    def with_settings(self, settings: Any) -> ToyMasks:
        """It has none."""
        return self

    def largest(self, size: int, nodes: int) -> float:
        """It checks that itself."""
        return np.inf

    def shape(self, stage: str, size: int, nodes: int) -> Shape:
        """A hash; a seed for each node; the vector; the masks that are left."""
        if stage == "advertise":
            return Shape(32, Dtype.UINT8)
        return Shape(nodes if stage == "share" else size, Dtype.UINT64)

    def ask(self, stage: str, node: NodeName, heard: State) -> bytes:
        """share: who advertised. masked: who shared, and the seeds for the node. unmask: who was lost."""
        if stage == "advertise":
            return b""
        names = _names(heard["lost" if stage == "unmask" else "names"])
        note: dict[str, Any] = {"names": names}
        if stage == "masked":
            note["seeds"] = [int(seed) for seed in heard["seeds"][:, names.index(node)]]
        return json.dumps(note, sort_keys=True).encode()

    def take(self, stage: str, size: int, heard: State, answers: Mapping[NodeName, AnyVector]) -> State:
        """What is known after a stage."""
        if not answers:
            raise FederatedError(ErrorCode.UPDATE_REJECTED, "There is no update to add up.")
        names = sorted(answers)
        stacked = np.stack([answers[name] for name in names])
        if stage == "advertise":
            return make_state(names=_packed(names), hashes=stacked)
        if stage == "share":
            known = _names(heard["names"])
            return make_state(names=_packed(names), seeds=stacked[:, [known.index(name) for name in names]])
        if stage == "masked":
            lost = [name for name in _names(heard["names"]) if name not in answers]
            return make_state(names=_packed(names), lost=_packed(lost), sum=_summed(stacked))
        if heard["lost"].size and set(_names(heard["names"])) - set(names):
            raise FederatedError(ErrorCode.UNREACHABLE, "Too many nodes were lost to unmask the sum.")
        return make_state(sum=heard["sum"] - _summed(stacked))

    def total(self, size: int, heard: State) -> Vector:
        """The sum, out of the ring."""
        found: Vector = heard["sum"].view(np.int64) / SCALE
        return found

    def answer(
        self, stage: str, key: TaskKey, note: bytes, memory: State, *, site: Signatory
    ) -> tuple[AnyVector, State]:
        """Each stage's answer; what is kept are the secret, the seeds, and the vector's size."""
        if stage == "advertise":
            secret = np.frombuffer(secrets.token_bytes(32), dtype=np.uint8)
            digest = np.frombuffer(hashlib.sha256(secret.tobytes()).digest(), dtype=np.uint8)
            return digest, make_state(secret=secret)
        names, _ = _read_note(note)
        if stage == "share":
            return _own_seeds(memory, key, _with(key.node, names)), memory
        return _left_over(memory, key, names), NO_STATE

    def prepare(self, key: TaskKey, note: bytes, size: int, memory: State, *, site: Signatory) -> Prepared:
        """The seeds are all there; the masks are made with the vector."""
        names, seeds = _read_note(note)
        return _masked(memory, key, _with(key.node, names), seeds, size)


TOY_MASKS = ToyMasks()


def _masked(memory: State, key: TaskKey, names: list[str], seeds: list[int], size: int) -> Prepared:
    if len(seeds) != len(names):
        raise invalid_value("there is a seed missing")
    kept = make_state(
        secret=memory["secret"],
        names=_packed(names),
        received=np.array(seeds, dtype=np.uint64),
        size=np.array([size], dtype=np.uint64),
    )

    def hide(vector: Vector) -> AnyVector:
        # Written so that a value that is no number is refused, too.
        if not (np.abs(vector) * len(names) < MOST).all():
            raise invalid_value("a value is too large for the masked sum")
        return np.rint(vector * SCALE).astype(np.int64).view(np.uint64) + _masks(kept, key, set(names))

    return Prepared(hide, kept)


def _left_over(memory: State, key: TaskKey, lost: list[str]) -> Ring:
    """The sum of a node's masks towards the lost ones; never all others, for that is all that hides it."""
    if not set(lost) <= set(_names(memory["names"])) - {key.node}:
        raise invalid_value("a lost node was not there before")
    if len(lost) > max(0, memory["received"].size - 2):
        raise invalid_value("too many nodes were lost to unmask the sum")
    return _masks(memory, key, set(lost))


def _masks(memory: State, key: TaskKey, towards: set[str]) -> Ring:
    names, size = _names(memory["names"]), int(memory["size"][0])
    total = np.zeros(size, dtype=np.uint64)
    for name, own, other in zip(names, _own_seeds(memory, key, names), memory["received"], strict=True):
        if name in towards - {key.node}:
            total += np.random.Philox(key=int(own)).random_raw(size)
            total -= np.random.Philox(key=int(other)).random_raw(size)
    return total


def _own_seeds(memory: State, key: TaskKey, names: Iterable[str]) -> Ring:
    """By name, from the secret; bound to the run, round and step, which are the same in all stages."""
    bound = memory["secret"].tobytes() + f"{key.run}/{key.round}/{key.step}/{key.node}/".encode()
    digests = (hashlib.sha256(bound + name.encode()).digest() for name in names)
    return np.array([int.from_bytes(digest[:8], "big") for digest in digests], dtype=np.uint64)


def _read_note(note: bytes) -> tuple[list[str], list[int]]:
    """The names and seeds of a note, of a coordinator that may have sent anything."""
    try:
        told = json.loads(note)
        names, seeds = told["names"], told.get("seeds", [])
        if names != sorted(set(map(str, names))) or not all(type(s) is int and 0 <= s < 2**64 for s in seeds):
            raise ValueError("not names in order, or not seeds")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise invalid_value("this is no note of the protocol") from error
    return names, seeds


def _with(node: NodeName, names: list[str]) -> list[str]:
    if node not in names:
        raise invalid_value("the node is not in its own cohort")
    return names


def _summed(stacked: Ring) -> Ring:
    found: Ring = stacked.sum(axis=0, dtype=np.uint64)
    return found


def _packed(names: Sequence[str]) -> NDArray[np.uint8]:
    return np.frombuffer("\n".join(names).encode(), dtype=np.uint8)


def _names(packed: NDArray[Any]) -> list[str]:
    return packed.tobytes().decode().split("\n") if packed.size else []
