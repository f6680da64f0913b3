"""Who said it, and whether all of it came: signatures over tasks, updates and deliveries, and an answer as it
arrives.

What always holds: no byte of a payload is taken before its header was found to be of the shape that was asked
for, and no longer than the task's coding may make that; what cannot be the answer raises FederatedError
UPDATE_REJECTED with the reason. No I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from heliosdb.aggregation.sums import Shape
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.task import Task
from heliosdb.domain.wording import counted
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport import limits
from heliosdb.transport.checks import parse
from heliosdb.transport.codecs import most_bytes
from heliosdb.transport.delivery_messages import delivery_sha256
from heliosdb.transport.identity import Identity, verify
from heliosdb.transport.messages import TaskHeader, refusal_from_proto
from heliosdb.transport.streams import ExcessBytesError, Gatherer
from heliosdb.transport.update_messages import SealedUpdate, UpdateHeader, decode_update_header

_TASK_SIGNATURE = b"heliosdb task signature v2\0"
_UPDATE_SIGNATURE = b"heliosdb update signature v2\0"
_DELIVERY_SIGNATURE = b"heliosdb delivery signature v2\0"
_ORDER_SIGNATURE = b"heliosdb order signature v2\0"
_STATEMENT_SIGNATURE = b"heliosdb statement signature v2\0"
_SUM_SIGNATURE = b"heliosdb sum signature v1\0"
_CONTACT_SIGNATURE = b"heliosdb contact signature v1\0"
_CERTIFICATE_SIGNATURE = b"heliosdb certificate signature v1\0"


def rejected(reason: str) -> FederatedError:
    """The error for an update that is not believed."""
    return FederatedError(ErrorCode.UPDATE_REJECTED, f"update rejected: {reason}")


def sign_task(identity: Identity, task_sha256: bytes) -> bytes:
    """The coordinator's signature over a task: through its hash over header, sealing key and body."""
    return identity.sign(_TASK_SIGNATURE + task_sha256)


def verify_task(pinned: Sequence[bytes], header: TaskHeader, signature: bytes) -> bool:
    """Whether a task was signed with the key of a pinned coordinator certificate."""
    return verify_task_hash(pinned, header.task_sha256, signature)


def verify_task_hash(pinned: Sequence[bytes], task_sha256: bytes, signature: bytes) -> bool:
    """As `verify_task`, of a task that is only passed on."""
    return any(verify(certificate, _TASK_SIGNATURE + task_sha256, signature) for certificate in pinned)


# The same from round to round, for as many nodes as there are.
@lru_cache(maxsize=16_384)
def sign_contact(identity: Identity, contact: bytes) -> bytes:
    """The coordinator's signature over where a node answers (`contact_bytes`)."""
    return identity.sign(_CONTACT_SIGNATURE + contact)


@lru_cache(maxsize=16_384)
def verify_contact(pinned: tuple[bytes, ...], contact: bytes, signature: bytes) -> bool:
    """Whether a contact was signed with the key of a pinned coordinator certificate."""
    return any(verify(certificate, _CONTACT_SIGNATURE + contact, signature) for certificate in pinned)


def sign_update(identity: Identity, header: bytes) -> bytes:
    """The node's signature over an update's header, which holds the hash of the payload."""
    return identity.sign(_UPDATE_SIGNATURE + header)


def verify_update(pinned: Sequence[bytes], header: bytes, signature: bytes) -> bool:
    """Whether an update's header was signed with the key of one of the node's certificates (PEM)."""
    message = _UPDATE_SIGNATURE + header
    return any(verify(certificate, message, signature) for certificate in pinned)


def sign_sum(identity: Identity, header: bytes) -> bytes:
    """An aggregator's signature over a sum's header, which holds the hash of the payload."""
    return identity.sign(_SUM_SIGNATURE + header)


def verify_sum(pinned: Sequence[bytes], header: bytes, signature: bytes) -> bool:
    """Whether a sum's header was signed with the key of one of the aggregator's certificates (PEM)."""
    return any(verify(certificate, _SUM_SIGNATURE + header, signature) for certificate in pinned)


def sign_delivery(identity: Identity, header: bytes) -> bytes:
    """The coordinator's signature over a delivery's header, which holds the hash of the body."""
    return identity.sign(_DELIVERY_SIGNATURE + delivery_sha256(header))


def find_signer(pinned: Sequence[bytes], header: bytes, signature: bytes) -> bytes | None:
    """The pinned coordinator certificate (PEM) whose key signed a delivery; None where none did."""
    message = _DELIVERY_SIGNATURE + delivery_sha256(header)
    return next((one for one in pinned if verify(one, message, signature)), None)


def sign_order(identity: Identity, header: bytes) -> bytes:
    """The coordinator's signature over a subject order."""
    return identity.sign(_ORDER_SIGNATURE + header)


def verify_order(pinned: Sequence[bytes], header: bytes, signature: bytes) -> bool:
    """Whether a subject order was signed with the key of a pinned coordinator certificate."""
    return any(verify(one, _ORDER_SIGNATURE + header, signature) for one in pinned)


def sign_statement(identity: Identity, statement: bytes) -> bytes:
    """The node's signature over what it says that it did."""
    return identity.sign(_STATEMENT_SIGNATURE + statement)


def find_statement_signer(certificates: Sequence[bytes], statement: bytes, signature: bytes) -> bytes | None:
    """The node's certificate (PEM) whose key signed a statement; None where none did."""
    message = _STATEMENT_SIGNATURE + statement
    return next((one for one in certificates if verify(one, message, signature)), None)


def sign_certificate(identity: Identity, certificate: bytes) -> bytes:
    """The coordinator's signature over a certificate of erasure."""
    return identity.sign(_CERTIFICATE_SIGNATURE + certificate)


def verify_certificate(signer: bytes, certificate: bytes, signature: bytes) -> bool:
    """Whether a certificate of erasure was signed with the key of a coordinator's certificate (PEM)."""
    return verify(signer, _CERTIFICATE_SIGNATURE + certificate, signature)


class UpdateCollector:
    """Takes the messages of one answer in order, bounded at each step; `finish` gives the sealed update.

    expected: the shape that the answer must have; None: the one of the task's work.
    """

    def __init__(self, task: Task, expected: Shape | None = None) -> None:
        self._node = task.key.node
        self._expected = expected or Shape(task.work.size, task.work.dtype)
        self._most_bytes = most_bytes(self._expected.size, self._expected.dtype, task.work.coding)
        self._head: pb.SignedHeader | None = None
        self._gatherer: Gatherer | None = None
        self._header: UpdateHeader | None = None

    def take(self, raw: bytes) -> int | None:
        """Take one message; FederatedError UPDATE_REJECTED, or NODE_REFUSED where that is the answer.

        Returns how many bytes the update takes at most, as payload or once it is opened, where the message
        announces it, else None.
        """
        try:
            message = parse(pb.UpdateMessage, raw)
        except FederatedError as error:
            raise rejected(error.message) from error
        match message.WhichOneof("part"):
            case "refusal":
                raise refusal_from_proto(message.refusal, self._node)
            case "head" if self._head is None:
                return self._take_head(message.head)
            case "chunk" if self._gatherer is not None:
                self._take_chunk(self._gatherer, message.chunk)
            case _:
                raise rejected("its messages are out of order")
        return None

    @property
    def is_whole(self) -> bool:
        """Whether every byte that was announced has arrived."""
        return self._gatherer is not None and self._gatherer.complete

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

    def _take_head(self, head: pb.SignedHeader) -> int:
        if len(head.signature) > limits.MAX_SIGNATURE_BYTES:
            raise rejected("its signature is too large")
        try:
            header = decode_update_header(head.header)
        except FederatedError as error:
            raise rejected(error.message) from error
        self._check_shape(header)
        self._head, self._header, self._gatherer = head, header, Gatherer(header.payload_bytes)
        self._take_chunk(self._gatherer, head.chunk)
        return max(header.payload_bytes, header.length * header.dtype.itemsize)

    def _check_shape(self, header: UpdateHeader) -> None:
        size, dtype = self._expected.size, self._expected.dtype
        if header.length != size:
            raise rejected(f"its vector has {counted(header.length, 'value')} instead of {size}")
        if header.dtype is not dtype:
            raise rejected(f"its vector is of type {header.dtype} instead of {dtype}")
        if header.payload_bytes > limits.payload_bytes(self._most_bytes):
            raise rejected("its payload is larger than such a vector is")

    @staticmethod
    def _take_chunk(gatherer: Gatherer, chunk: bytes) -> None:
        try:
            gatherer.add(chunk)
        except ExcessBytesError:
            raise rejected("its payload is longer than announced") from None
