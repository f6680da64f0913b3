"""Both ends of an update: a node closes one over what it releases, the coordinator opens it. No I/O.

What always holds: what `close_update` closed, `open_update` opens to the vector that was encoded, with its
weight and usage; the latter returns what the pinned node released for exactly this task, whole, of the shape
that was asked for, its floats finite, or raises FederatedError UPDATE_REJECTED with the reason; nothing is
repaired.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from heliosdb.aggregation.sums import Shape
from heliosdb.domain.coding import Coding
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.opened_update import OpenedTerm, OpenedUpdate
from heliosdb.domain.privacy import Mechanism, Spending
from heliosdb.domain.task import Task, Work
from heliosdb.domain.update import Term
from heliosdb.domain.usage import Usage
from heliosdb.domain.vector import AnyVector, Dtype
from heliosdb.transport import limits
from heliosdb.transport.codecs import codec, encode
from heliosdb.transport.gather_messages import SignedTerm
from heliosdb.transport.identity import Identity
from heliosdb.transport.lossy import unpack
from heliosdb.transport.messages import ReceivedTask
from heliosdb.transport.sealing import SealingKey, UnopenedError, seal_to
from heliosdb.transport.update_messages import (
    SealedUpdate,
    UpdateHeader,
    encode_update_header,
    pack_signed_header,
)
from heliosdb.transport.verification import rejected, sign_update, verify_update

# Weight, then what the computation took (NaN: not told): the same length whatever is told.
_FRONT = struct.Struct("<4d")
assert _FRONT.size == limits.FRONT_BYTES
_UNTOLD = (math.nan,) * 3


@dataclass(frozen=True, slots=True)
class EncodedVector:
    """A vector of an answer as bytes. length, dtype: of the vector that they become."""

    encoded: bytes
    length: int
    dtype: Dtype


def encode_vector(work: Work, vector: AnyVector) -> EncodedVector:
    """Encode the vector that answers a task, as the task's work says.

    It has its own length and type; of a lossy coding it is what `pack` (transport/lossy.py) made of a vector
    of the work's. FederatedError PROGRAM_LIMIT where it is too large, INTERNAL where it is none or its codec
    does not keep to its own bound.
    """
    length, dtype = np.size(vector), _type_of(vector)
    encoded = encode(vector, dtype, work.coding)
    if len(encoded) > codec(work.coding.codec).most(length, dtype):
        raise FederatedError(ErrorCode.INTERNAL, "the answer's codec does not keep to its own bound")
    if not work.coding.is_lossy:
        return EncodedVector(encoded, length, dtype)
    if (length, dtype) != work.coding.travelling(work.size, work.dtype):
        raise FederatedError(ErrorCode.INTERNAL, "the answer is not packed as its task asks")
    return EncodedVector(encoded, work.size, work.dtype)


def close_update(  # noqa: PLR0917 - in the order in which they stand in the update
    identity: Identity,
    received: ReceivedTask,
    answer: EncodedVector,
    weight: float,
    usage: Usage | None,
    mechanism: Mechanism | None,
    spending: Spending | None,
) -> SealedUpdate:
    """Seal to the coordinator, and sign with the node's key, what answers a task.

    usage None: not told. mechanism, spending: what the release cost and what the ledger shows after it; None
    for a plain one. FederatedError IDENTITY where the coordinator's key is none.
    """
    key = received.task.key
    told = _UNTOLD if usage is None else (usage.seconds, usage.cpu_seconds, usage.memory_bytes)
    payload = _FRONT.pack(weight, *told) + answer.encoded
    ephemeral_key, sealed = seal_to(received.sealing_key, payload, key, received.sha256)
    header = encode_update_header(
        UpdateHeader(
            key=key,
            task_sha256=received.sha256,
            dtype=answer.dtype,
            length=answer.length,
            ephemeral_key=ephemeral_key,
            payload_bytes=len(sealed),
            payload_sha256=hashlib.sha256(sealed).digest(),
            mechanism=mechanism,
            spending=spending,
        )
    )
    return SealedUpdate(header, sign_update(identity, header), sealed)


def open_update(
    task: Task,
    task_sha256: bytes,
    collected: tuple[UpdateHeader, SealedUpdate],
    pinned: Sequence[bytes],
    sealing: SealingKey,
    *,
    traffic: tuple[int, int],
    private: bool | None = None,
) -> OpenedUpdate:
    """Verify and open an update to `task`, of the shape that its collector expected.

    traffic: bytes sent and received in the exchange. private: whether it must name what it cost; None: where
    the task's work is private.
    """
    header, sealed = collected
    _check_header(task, task_sha256, header)
    if private is None:
        private = task.work.privacy is not None
    if private and (header.mechanism is None or header.spending is None):
        raise rejected("it is not private although its task is")
    if not verify_update(pinned, sealed.header, sealed.signature):
        raise rejected("its signature is not the node's")
    try:
        payload = sealing.open(sealed.payload, header.ephemeral_key, task.key, task_sha256)
    except UnopenedError:
        raise rejected("its payload does not open: changed, or sealed for another task") from None
    weight, *told = _FRONT.unpack_from(payload)
    vector = _decode(task.work.coding, payload[_FRONT.size :], header)
    _check_content(vector, weight)
    usage = _read_usage(Usage(*told))
    signed = pack_signed_header(sealed.header, sealed.signature)
    return OpenedUpdate(task.key, vector, weight, header.mechanism, header.spending, *traffic, usage, signed)


def open_term(
    task: Task,
    task_sha256: bytes,
    signed: SignedTerm,
    term: Term,
    pinned: Sequence[bytes],
    *,
    private: bool,
    expected: Shape | None = None,
) -> OpenedTerm:
    """Verify that a node released an update to `task`, of which its aggregator has told `term`.

    private: whether it must name what it cost. expected: the shape that the update must have; None: that of
    the task's work.
    """
    header, shape = signed.header, expected or Shape(task.work.size, task.work.dtype)
    _check_header(task, task_sha256, header)
    if (header.length, header.dtype) != (shape.size, shape.dtype):
        raise rejected("its vector is not of the length and type that were asked for")
    if private and (header.mechanism is None or header.spending is None):
        raise rejected("it is not private although its task is")
    if not verify_update(pinned, signed.raw, signed.signature):
        raise rejected("its signature is not the node's")
    packed = pack_signed_header(signed.raw, signed.signature)
    return OpenedTerm(task.key, term, header.mechanism, header.spending, packed)


def _type_of(vector: AnyVector) -> Dtype:
    try:
        dtype = Dtype(vector.dtype.name)
    except ValueError as error:
        raise FederatedError(ErrorCode.INTERNAL, "the answer is of a type that does not travel") from error
    if vector.ndim != 1:
        raise FederatedError(ErrorCode.INTERNAL, "the answer is not one-dimensional")
    if vector.nbytes > limits.MAX_VECTOR_BYTES:
        raise FederatedError(ErrorCode.PROGRAM_LIMIT, "the answer is larger than an update may be")
    return dtype


def _decode(coding: Coding, encoded: bytes, header: UpdateHeader) -> AnyVector:
    """The vector; a codec is bounded by the length that it is given, and what it gives is looked at again."""
    length, dtype = coding.travelling(header.length, header.dtype)
    try:
        vector = codec(coding.codec).decode(encoded, length, dtype)
    except Exception as error:  # A codec is a part of anybody's, and what it stumbles over a node's bytes.
        raise rejected("its values cannot be decoded") from error
    if vector.shape != (length,) or vector.dtype.name != dtype.value:
        raise rejected("its vector is not of the announced length and type")
    if not coding.is_lossy:
        return vector
    try:
        return unpack(vector, header.length, header.dtype, coding)
    except ValueError as error:
        raise rejected(f"its values cannot be unpacked: {error}") from error


def _check_header(task: Task, task_sha256: bytes, header: UpdateHeader) -> None:
    asked, answered = task.key, header.key
    for what in ("workspace", "run", "round", "exchange", "step", "node"):
        if getattr(asked, what) != getattr(answered, what):
            raise rejected(f"it is of another {what}")
    if header.task_sha256 != task_sha256:
        raise rejected("it answers another task")


def _read_usage(told: Usage) -> Usage | None:
    if all(math.isnan(each) for each in (told.seconds, told.cpu_seconds, told.memory_bytes)):
        return None
    if not told.is_plausible():
        raise rejected("what it says of its computation's time and memory cannot be")
    return told


def _check_content(vector: AnyVector, weight: float) -> None:
    if not (math.isfinite(weight) and weight > 0):
        raise rejected("its weight is not a number greater than 0")
    # Elements of a ring may be any.
    if vector.dtype.kind == "f" and not np.isfinite(vector).all():
        raise rejected("its vector holds values that are not finite")
