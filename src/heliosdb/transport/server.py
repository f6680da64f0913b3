"""The node's end of the wire: generic gRPC handlers that hand complete, verified messages to a
`Performer`.

What always holds: a handler runs only for a peer that has shown a pinned coordinator certificate; a task, a
delivery or a subject order reaches the performer only whole, within its limits, its hash right and its
signature the coordinator's; what goes back is an update as the release door made it, the node's word about
its subscriptions or about a head of the audit log, its signed statement about an order, or a refusal whose
text is public.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from google.protobuf.message import Message

from heliosdb.domain.errors import ErrorCode, FederatedError, place_of
from heliosdb.domain.handshake import Greeting, Introduction
from heliosdb.domain.ids import NodeName, RunId, WorkspaceName
from heliosdb.domain.subscription import Subscription
from heliosdb.domain.tree_head import WitnessAnswer, WitnessRequest
from heliosdb.observing.tracing import asked_under
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport.checks import parse
from heliosdb.transport.delivery_messages import DeliveryHeader, ReceivedDelivery
from heliosdb.transport.identity import Identity, pinned_bundle
from heliosdb.transport.messages import (
    ReceivedTask,
    forget_from_proto,
    greeting_from_proto,
    heartbeat_from_proto,
    introduction_to_proto,
    refusal_to_proto,
)
from heliosdb.transport.order_messages import CarriedOrder, ReceivedOrder, receive_order
from heliosdb.transport.pacing import Pace
from heliosdb.transport.receiving import receive_delivery, receive_task
from heliosdb.transport.rpc import SERVER_OPTIONS, SERVICE, aio, grpc
from heliosdb.transport.streams import cut, cut_first
from heliosdb.transport.subscription_messages import subscription_to_proto, subscriptions_sha256
from heliosdb.transport.update_messages import SealedUpdate
from heliosdb.transport.witness_messages import answer_to_proto, request_from_proto

__all__ = ["Performer", "ReceivedTask", "ServerIdentity", "make_server", "receive_task", "server_credentials"]

_T = TypeVar("_T")

log = logging.getLogger(__name__)


class Performer(Protocol):
    """What a node does behind the wire; FederatedErrors become refusals."""

    async def introduce(self, greeting: Greeting) -> Introduction:
        """Say what is shared with the coordinator's workspace."""
        ...

    async def alive(self) -> None:
        """Return where tasks can be answered; else raise a FederatedError that says what is missing."""
        ...

    async def forget(self, workspace: WorkspaceName, node: NodeName, ended: frozenset[RunId]) -> None:
        """Drop what is kept of these runs of the workspace, which have ended."""
        ...

    async def perform(self, received: ReceivedTask) -> SealedUpdate:
        """Perform a task; what is returned may leave."""
        ...

    def sent(self, received: ReceivedTask) -> None:
        """Hear that the whole update was handed to the wire."""
        ...

    async def subscribed(self, workspace: WorkspaceName) -> Sequence[Subscription]:
        """Say to which of a workspace's models the node subscribes, in ascending order of their names."""
        ...

    async def expect(self, header: DeliveryHeader) -> None:
        """Raise where a delivery is not for this node, or for no subscription of it."""
        ...

    async def deliver(self, received: ReceivedDelivery) -> Subscription:
        """Take a delivery, or what it says instead of one; return the node's word after it."""
        ...

    async def carry(self, received: ReceivedOrder) -> CarriedOrder:
        """Carry out a subject order; return what was done, signed."""
        ...

    async def witness(self, request: WitnessRequest) -> WitnessAnswer:
        """Cosign a head of an audit log where it continues what the node has seen of that; else say so."""
        ...


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """What a node shows and whom it lets in; asked for at each handshake, so that certificates rotate."""

    identity: Identity
    pinned: tuple[bytes, ...]


def server_credentials(current: Callable[[], ServerIdentity]) -> Any:
    """gRPC credentials that demand a pinned client certificate; `current` is asked at every handshake."""

    def configuration() -> Any:
        now = current()
        return grpc.ssl_server_certificate_configuration(
            [(now.identity.private_key_pem, now.identity.certificate_pem)], pinned_bundle(now.pinned)
        )

    return grpc.dynamic_ssl_server_credentials(
        configuration(), configuration, require_client_authentication=True
    )


def make_server(
    performer: Performer,
    pinned: Callable[[], Sequence[bytes]],
    credentials: Any,
    host: str,
    port: int,
    *,
    pace: Pace | None = None,
) -> tuple[Any, int]:
    """A gRPC server for one node, not started yet, and its port (the one given, or the one found for 0).

    pace: at which answers to tasks and orders leave; None: as fast as the line takes them.
    """
    server = aio.server(options=SERVER_OPTIONS)
    handlers = _Handlers(performer, pinned, pace or Pace())
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                SERVICE,
                {
                    "Greet": grpc.unary_unary_rpc_method_handler(handlers.greet),
                    "Heartbeat": grpc.unary_unary_rpc_method_handler(handlers.heartbeat),
                    "Forget": grpc.unary_unary_rpc_method_handler(handlers.forget),
                    "Perform": grpc.stream_stream_rpc_method_handler(handlers.perform),
                    "Deliver": grpc.stream_unary_rpc_method_handler(handlers.deliver),
                    "Carry": grpc.unary_stream_rpc_method_handler(handlers.carry),
                    "Witness": grpc.unary_unary_rpc_method_handler(handlers.witness),
                },
            ),
        )
    )
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = server.add_secure_port(address, credentials)
    except RuntimeError:
        bound = 0
    if not bound:
        raise FederatedError(ErrorCode.WRONG_STATE, f"cannot listen on {address}")
    return server, bound


class _Handlers:
    def __init__(self, performer: Performer, pinned: Callable[[], Sequence[bytes]], pace: Pace) -> None:
        self._pace = pace
        self._performer = performer
        self._pinned = pinned
        self._delivering = asyncio.Lock()

    async def greet(self, raw: bytes, _context: Any) -> bytes:
        async def answer() -> bytes:
            greeting = greeting_from_proto(parse(pb.Greeting, raw))
            return _bytes(introduction_to_proto(await self._performer.introduce(greeting)))

        result = await _or_refusal(answer)
        return result if isinstance(result, bytes) else _bytes(pb.Introduction(refusal=result))

    async def heartbeat(self, raw: bytes, context: Any) -> bytes:
        async def answer() -> bytes:
            workspace = heartbeat_from_proto(parse(pb.HeartbeatRequest, raw))
            await self._performer.alive()
            if workspace is None:
                return b""
            return subscriptions_sha256(await self._performer.subscribed(workspace))

        result = await _or_refusal(answer)
        if isinstance(result, pb.Refusal):
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, result.message)
            return b""
        return _bytes(pb.HeartbeatAnswer(subscriptions=result))

    async def forget(self, raw: bytes, context: Any) -> bytes:
        async def answer() -> None:
            workspace, node, ended = forget_from_proto(parse(pb.ForgetRequest, raw))
            await self._performer.forget(workspace, node, ended)

        result = await _or_refusal(answer)
        if isinstance(result, pb.Refusal):
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, result.message)
        return _bytes(pb.ForgetAnswer())

    async def perform(self, messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async def answer() -> tuple[ReceivedTask, SealedUpdate]:
            received = await receive_task(messages, self._pinned())
            # Only now: the task's signature has shown who it is that names a trace.
            with asked_under(context.invocation_metadata()):
                return received, await self._performer.perform(received)

        result = await _or_refusal(answer)
        if isinstance(result, pb.Refusal):
            yield _bytes(pb.UpdateMessage(refusal=result))
            return
        received, update = result
        pace = self._pace.at(received.limits.max_bandwidth_mbps)
        first, rest = cut_first(update.payload)
        await pace.wait(len(first))
        head = pb.SignedHeader(header=update.header, signature=update.signature, chunk=first)
        yield _bytes(pb.UpdateMessage(head=head))
        for chunk in cut(rest):
            await pace.wait(len(chunk))
            yield _bytes(pb.UpdateMessage(chunk=chunk))
        self._performer.sent(received)

    async def deliver(self, messages: AsyncIterator[bytes], _context: Any) -> bytes:
        async def answer() -> Subscription:
            # A body is held whole: of the next one no more is read than gRPC holds back.
            async with self._delivering:
                received = await receive_delivery(messages, self._pinned(), self._performer.expect)
                return await self._performer.deliver(received)

        result = await _or_refusal(answer)
        if isinstance(result, pb.Refusal):
            return _bytes(pb.DeliveryAnswer(refusal=result))
        return _bytes(pb.DeliveryAnswer(subscription=subscription_to_proto(result)))

    async def carry(self, raw: bytes, _context: Any) -> AsyncIterator[bytes]:
        async def answer() -> CarriedOrder:
            return await self._performer.carry(receive_order(raw, self._pinned()))

        result = await _or_refusal(answer)
        if isinstance(result, pb.Refusal):
            yield _bytes(pb.OrderAnswer(refusal=result))
            return
        first, rest = cut_first(result.body)
        signed = result.signed
        head = pb.SignedHeader(header=signed.statement, signature=signed.signature, chunk=first)
        yield _bytes(pb.OrderAnswer(head=head))
        for chunk in cut(rest):
            await self._pace.wait(len(chunk))
            yield _bytes(pb.OrderAnswer(chunk=chunk))

    async def witness(self, raw: bytes, context: Any) -> bytes:
        async def answer() -> WitnessAnswer:
            return await self._performer.witness(request_from_proto(parse(pb.WitnessRequest, raw)))

        result = await _or_refusal(answer)
        if isinstance(result, pb.Refusal):
            # Not a refusal of the head: the node could not look at it.
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, result.message)
            return b""
        return _bytes(answer_to_proto(result))


async def _or_refusal(answer: Callable[[], Awaitable[_T]]) -> _T | pb.Refusal:
    """What `answer` gives, or the refusal for its error; only a FederatedError's text is public."""
    try:
        return await answer()
    except FederatedError as error:
        log.info("refused: %s", error.message)
        return refusal_to_proto(error)
    except Exception as error:  # noqa: BLE001 -- the edge: logged, and must not leave as text
        log.error("internal error: %s", place_of(error))
        return refusal_to_proto(FederatedError(ErrorCode.INTERNAL, "internal error"))


def _bytes(message: Message) -> bytes:
    return message.SerializeToString()
