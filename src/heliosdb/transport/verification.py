"""What makes an update believable: each check between a node's bytes and a vector to be aggregated. No I/O.

What always holds: `open_update` returns a vector that the pinned node computed for exactly this task, whole,
finite and of the expected size, or raises FederatedError UPDATE_REJECTED with the reason; nothing is
repaired.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import numpy as np

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.handshake import Update
from heliosdb.domain.task import Task, TaskKey
from heliosdb.domain.usage import Usage
from heliosdb.domain.vector import Vector, vector_from_bytes
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport import limits
from heliosdb.transport.checks import parse
from heliosdb.transport.identity import Identity, verify
from heliosdb.transport.messages import TaskHeader, refusal_from_proto
from heliosdb.transport.sealing import SealingKey, UnopenedError
from heliosdb.transport.streams import ExcessBytesError, Gatherer
from heliosdb.transport.update_messages import (
    SealedUpdate,
    UpdateHeader,
    decode_update_header,
    pack_signed_header,
)

_TASK_SIGNATURE = b"heliosdb task signature v1\0"
_UPDATE_SIGNATURE = b"heliosdb update signature v1\0"

_FRONT = struct.Struct("<4d")
assert _FRONT.size == limits.WEIGHT_BYTES + limits.USAGE_BYTES
_UNTOLD = (math.nan,) * 3


def rejected(reason: str) -> FederatedError:
    """The error for an update that is not believed."""
    return FederatedError(ErrorCode.UPDATE_REJECTED, f"update rejected: {reason}")


def sign_task(identity: Identity, task_sha256: bytes) -> bytes:
    """The coordinator's signature over a task: through its hash over header, sealing key and vector."""
    return identity.sign(_TASK_SIGNATURE + task_sha256)


def verify_task(pinned: Sequence[bytes], header: TaskHeader, signature: bytes) -> bool:
    """Whether a task was signed with the key of a pinned coordinator certificate."""
    message = _TASK_SIGNATURE + header.task_sha256
    return any(verify(certificate, message, signature) for certificate in pinned)


def sign_update(identity: Identity, header: bytes) -> bytes:
    """The node's signature over an update's header, which holds the hash of the payload."""
    return identity.sign(_UPDATE_SIGNATURE + header)


def verify_update(pinned: Sequence[bytes], header: bytes, signature: bytes) -> bool:
    """Whether an update's header was signed with the key of one of the node's certificates (PEM)."""
    message = _UPDATE_SIGNATURE + header
    return any(verify(certificate, message, signature) for certificate in pinned)


def pack_payload(vector: bytes, weight: float, usage: Usage | None = None) -> bytes:
    """What is sealed: the weight, what the computation took (NaN: not told), then the vector."""
    told = _UNTOLD if usage is None else (usage.seconds, usage.cpu_seconds, usage.memory_bytes)
    return _FRONT.pack(weight, *told) + vector


class UpdateCollector:
    """Takes the messages of one answer in order, bounded at each step; `finish` gives the sealed update."""

    def __init__(self, key: TaskKey, expected_size: int | None) -> None:
        self._key = key
        self._expected_size = expected_size
        self._head: pb.SignedHeader | None = None
        self._gatherer: Gatherer | None = None
        self._header: UpdateHeader | None = None

    def take(self, raw: bytes) -> None:
        """Take one message; FederatedError UPDATE_REJECTED, or NODE_REFUSED where that is the answer."""
        try:
            message = parse(pb.UpdateMessage, raw)
        except FederatedError as error:
            raise rejected(error.message) from error
        match message.WhichOneof("part"):
            case "refusal":
                raise refusal_from_proto(message.refusal, self._key.node)
            case "head" if self._head is None:
                self._take_head(message.head)
            case "chunk" if self._gatherer is not None:
                self._take_chunk(self._gatherer, message.chunk)
            case _:
                raise rejected("its messages are out of order")

    def finish(self) -> tuple[UpdateHeader, SealedUpdate]:
        """The whole update; FederatedError UPDATE_REJECTED where something is missing."""
        if self._header is None or self._head is None or self._gatherer is None:
            raise rejected("the answer is empty")
        if not self._gatherer.complete:
            raise rejected("its payload is shorter than announced")
        if self._gatherer.sha256 != self._header.payload_sha256:
            raise rejected("its payload is not what its header says")
        head = self._head
        return self._header, SealedUpdate(head.header, head.signature, self._gatherer.payload())

    def _take_head(self, head: pb.SignedHeader) -> None:
        if len(head.signature) > limits.MAX_SIGNATURE_BYTES:
            raise rejected("its signature is too large")
        try:
            header = decode_update_header(head.header)
        except FederatedError as error:
            raise rejected(error.message) from error
        if self._expected_size is not None and header.length != self._expected_size:
            raise rejected(f"its vector has {header.length} values instead of {self._expected_size}")
        self._head, self._header, self._gatherer = head, header, Gatherer(header.payload_bytes)
        self._take_chunk(self._gatherer, head.chunk)

    @staticmethod
    def _take_chunk(gatherer: Gatherer, chunk: bytes) -> None:
        try:
            gatherer.add(chunk)
        except ExcessBytesError:
            raise rejected("its payload is longer than announced") from None


def open_update(
    task: Task,
    task_sha256: bytes,
    collected: tuple[UpdateHeader, SealedUpdate],
    pinned: Sequence[bytes],
    sealing: SealingKey,
    *,
    traffic: tuple[int, int],
) -> Update:
    """Verify and open an update to `task`. traffic: bytes sent and received in the exchange."""
    header, sealed = collected
    _check_header(task, task_sha256, header)
    if not verify_update(pinned, sealed.header, sealed.signature):
        raise rejected("its signature is not the node's")
    try:
        payload = sealing.open(sealed.payload, header.ephemeral_key, task.key, task_sha256)
    except UnopenedError:
        raise rejected("its payload does not open: changed, or sealed for another task") from None
    weight, *told = _FRONT.unpack_from(payload)
    vector = vector_from_bytes(payload[_FRONT.size :])
    _check_content(vector, weight, header.length)
    usage = _read_usage(Usage(*told))
    signed = pack_signed_header(sealed.header, sealed.signature)
    return Update(task.key, vector, weight, header.mechanism, header.spending, *traffic, usage, signed)


def _check_header(task: Task, task_sha256: bytes, header: UpdateHeader) -> None:
    asked, answered = task.key, header.key
    for what in ("workspace", "run", "round", "step", "node"):
        if getattr(asked, what) != getattr(answered, what):
            raise rejected(f"it is of another {what}")
    if header.task_sha256 != task_sha256:
        raise rejected("it answers another task")
    if task.budget is not None and (header.mechanism is None or header.spending is None):
        raise rejected("it is not private although the workspace has a privacy budget")


def _read_usage(told: Usage) -> Usage | None:
    if all(math.isnan(each) for each in (told.seconds, told.cpu_seconds, told.memory_bytes)):
        return None
    if not told.is_plausible():
        raise rejected("what it says of its computation's time and memory cannot be")
    return told


def _check_content(vector: Vector, weight: float, length: int) -> None:
    if len(vector) != length:
        raise rejected("its vector is not of the announced length")
    if not (math.isfinite(weight) and weight > 0):
        raise rejected("its weight is not a number greater than 0")
    if not np.isfinite(vector).all():
        raise rejected("its vector holds values that are not finite")
