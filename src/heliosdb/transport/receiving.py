"""What the coordinator sends in a stream, gathered at the node: a signed head, then its body in chunks.

What always holds: the signature is checked before a byte of the body is taken; what is returned is whole, of
the announced length and hash, signed by the pinned coordinator; anything else raises FederatedError.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value
from heliosdb.domain.limits import Limits
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport import limits
from heliosdb.transport.checks import parse
from heliosdb.transport.codecs import check_coding
from heliosdb.transport.delivery_messages import DeliveryHeader, ReceivedDelivery, decode_delivery
from heliosdb.transport.identity import fingerprint
from heliosdb.transport.limit_messages import limits_from_proto
from heliosdb.transport.messages import ReceivedTask, TaskHeader, received_task, task_from_header
from heliosdb.transport.streams import ExcessBytesError, Gatherer
from heliosdb.transport.verification import find_signer, verify_task


class _Header(Protocol):
    """Announces a body."""

    @property
    def body_bytes(self) -> int: ...

    @property
    def body_sha256(self) -> bytes: ...


_H = TypeVar("_H", bound=_Header)
_Kind = type[pb.TaskMessage] | type[pb.DeliveryMessage]


async def receive_task(messages: AsyncIterator[bytes], pinned: Sequence[bytes]) -> ReceivedTask:
    """Gather one task; FederatedError where it is not a whole task of the pinned coordinator."""

    asked: list[Limits] = []

    async def verified(head: pb.SignedHeader) -> TaskHeader:
        header = task_from_header(head.header)
        if not verify_task(pinned, header, head.signature):
            raise FederatedError(ErrorCode.IDENTITY, "the task is not signed by the pinned coordinator")
        asked.append(limits_from_proto(head.limits))
        # Not first when the answer, which may have been paid for, is encoded.
        check_coding(header.task.work.coding)
        return header

    header, gatherer = await _gather("task", pb.TaskMessage, messages, verified)
    return replace(received_task(header, gatherer.payload()), limits=asked[0])


async def receive_delivery(
    messages: AsyncIterator[bytes],
    pinned: Sequence[bytes],
    expect: Callable[[DeliveryHeader], Awaitable[None]],
) -> ReceivedDelivery:
    """Gather one delivery; FederatedError where it is not a whole one of the pinned coordinator.

    expect: raises for a header whose body is not to be taken.
    """
    signed: list[tuple[bytes, bytes]] = []

    async def verified(head: pb.SignedHeader) -> DeliveryHeader:
        header = decode_delivery(head.header)
        signer = find_signer(pinned, head.header, head.signature)
        if signer is None:
            raise FederatedError(ErrorCode.IDENTITY, "the delivery is not signed by the pinned coordinator")
        signed.append((bytes(head.signature), bytes.fromhex(fingerprint(signer))))
        await expect(header)
        return header

    header, gatherer = await _gather("delivery", pb.DeliveryMessage, messages, verified)
    return ReceivedDelivery(header, *signed[0], header.content(gatherer))


async def _gather(
    what: str,
    kind: _Kind,
    messages: AsyncIterator[bytes],
    verified: Callable[[pb.SignedHeader], Awaitable[_H]],
) -> tuple[_H, Gatherer]:
    header: _H | None = None
    gatherer = Gatherer(0)
    async for raw in messages:
        message = parse(kind, raw)
        match message.WhichOneof("part"):
            case "head" if header is None:
                if len(message.head.signature) > limits.MAX_SIGNATURE_BYTES:
                    raise invalid_value(f"the {what}'s signature is too large")
                header = await verified(message.head)
                gatherer = Gatherer(header.body_bytes)
                _add(gatherer, message.head.chunk, what)
            case "chunk" if header is not None:
                _add(gatherer, message.chunk, what)
            case _:
                raise invalid_value(f"the {what}'s messages are out of order")
    if header is None or not gatherer.complete:
        raise invalid_value(f"the {what} is shorter than announced")
    if gatherer.sha256 != header.body_sha256:
        raise invalid_value(f"the {what}'s body is not what its header says")
    return header, gatherer


def _add(gatherer: Gatherer, chunk: bytes, what: str) -> None:
    try:
        gatherer.add(chunk)
    except ExcessBytesError:
        raise invalid_value(f"the {what} is longer than announced") from None
