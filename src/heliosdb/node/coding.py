"""What of an update a node sends, and what it keeps for the next one.

What always holds: what is left out or rounded here may leave already, with its noise where there is a budget:
so nothing made of it costs anything (Dwork and Roth 2014, proposition 2.1), neither what is sent nor what is
kept, which is a function of vectors that were charged. What is kept is added to the run's next update of the
same step, so that whatever was computed is sent in the end (error feedback: Stich et al. 2018, Karimireddy et
al. 2019, algorithm 1); but for what was kept of rows of people who are left out by now. The same task packs
the same vector to the same bytes, for ever: chance is of the node's secret and the task. It hides nothing of
an answer, and needs not to.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from dataclasses import dataclass

import numpy as np

from heliosdb.aggregation.masked_sum import lattice_of
from heliosdb.algorithms.draws import TaskDraws
from heliosdb.domain.errors import ErrorCode, FederatedError, place_of
from heliosdb.domain.state import NO_STATE, State, freeze
from heliosdb.domain.task import Task
from heliosdb.domain.vector import AnyVector, Vector
from heliosdb.node.guards import not_finite
from heliosdb.node.policy import asked_mechanism
from heliosdb.transport.lossy import pack, unpack
from heliosdb.transport.packing import EncodedVector, encode_vector

log = logging.getLogger(__name__)

_WHOSE = "whose rows"


@dataclass(frozen=True, slots=True)
class Packed:
    """A vector as it travels, and what the node keeps of it."""

    vector: AnyVector
    unsent: State


class UpdateCoder:
    """Packs one node's updates. secret: the node's."""

    def __init__(self, secret: bytes) -> None:
        self._key = hmac.digest(secret, b"rounding of updates", hashlib.sha256)

    def pack(self, task: Task, vector: AnyVector, unsent: State, whose: bytes = b"") -> Packed:
        """Pack a vector that may leave, of the type that its task names.

        unsent: what the run has kept. whose: says which rows the vector is about; what was kept of others is
        not sent any more. Nor is what was kept of an answer without noise in one that has its own: nothing
        of it would be paid for.

        FederatedError UPDATE_REJECTED where a value, with what was kept of it, is no number, or none of the
        type in which it is written, INTERNAL where what was kept is of another update.
        """
        coding, step = task.work.coding, str(task.key.step)
        if not coding.is_lossy:
            return Packed(vector, unsent)
        whose = (b"plain" if asked_mechanism(task) is None else b"noised") + b"\0" + whose
        if coding.sent is not None:
            vector = _with_rest(vector, unsent, step, whose)
        try:
            packed = pack(vector, coding, TaskDraws(task, self._key).rng())
        except ValueError as error:
            raise not_finite() from error
        if coding.sent is None:
            return Packed(packed, NO_STATE)
        rest = vector - unpack(packed, vector.size, task.work.dtype, coding)
        about = np.frombuffer(whose, dtype=np.uint8)
        return Packed(packed, freeze({step: rest, _WHOSE: about}))

    def round(self, task: Task, vector: AnyVector, weight: float) -> Vector:
        """The whole numbers that are added up hidden in place of an update and its weight."""
        rounding = task.work.summing.rounding
        assert rounding is not None
        lattice = lattice_of(rounding, vector.size, task.key)
        return lattice.encode(vector, weight, TaskDraws(task, self._key).rng())


def _with_rest(vector: AnyVector, unsent: State, step: str, whose: bytes) -> AnyVector:
    rest, before = unsent.get(step), unsent.get(_WHOSE)
    if rest is None or before is None or before.tobytes() != whose:
        return vector
    if rest.shape != vector.shape or rest.dtype != vector.dtype:
        raise FederatedError(ErrorCode.INTERNAL, "what the node has kept is of another update")
    with np.errstate(over="ignore"):
        made: AnyVector = vector + rest
    if not np.isfinite(made).all():
        raise not_finite()
    return made


def encode_answer(task: Task, vector: AnyVector) -> EncodedVector:
    """Encode what leaves; FederatedError as `encode_vector`, INTERNAL where the task's codec fails."""
    try:
        return encode_vector(task.work, vector)
    except FederatedError:
        raise
    except Exception as error:
        # The edge to a codec, which is a part: what it cannot encode may depend on a row, and is not told.
        log.error("the codec %s failed: %s", task.work.coding.codec, place_of(error))
        raise FederatedError(ErrorCode.INTERNAL, "the answer cannot be encoded") from error
