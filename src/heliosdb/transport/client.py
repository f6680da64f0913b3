"""The coordinator's end of the wire: one client per node, its channel kept open.

What always holds: a call returns what the pinned node answered, verified and opened, or raises
FederatedError, as `UnsentError` where nothing of the call can have reached the node; the text of an error
names the node's endpoint and the kind of failure, never the inside of a library. Cheap enough for a hundred
clients in one event loop; how many calls run at once is bounded by who calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from google.protobuf.message import Message

from heliosdb.aggregation.sums import Shape
from heliosdb.domain.errors import ErrorCode, FederatedError, StrangerError
from heliosdb.domain.handshake import Greeting, Introduction
from heliosdb.domain.ids import NodeName, RunId, WorkspaceName
from heliosdb.domain.limits import NO_LIMITS, Limits
from heliosdb.domain.opened_update import OpenedUpdate
from heliosdb.domain.orders import Order
from heliosdb.domain.subscription import Content, Offer, Subscription
from heliosdb.domain.task import Task
from heliosdb.domain.tree_head import WitnessAnswer, WitnessRequest
from heliosdb.domain.usage import Moment
from heliosdb.observing.tracing import HEADER
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport.checks import parse
from heliosdb.transport.delivery_messages import encode_delivery
from heliosdb.transport.identity import Identity, fingerprint, pinned_bundle, split_endpoint
from heliosdb.transport.limit_messages import limits_to_proto
from heliosdb.transport.messages import (
    EncodedState,
    encode_header,
    forget_to_proto,
    greeting_to_proto,
    introduction_from_proto,
    printable,
    refusal_from_proto,
    task_sha256,
)
from heliosdb.transport.order_messages import AnswerCollector, CarriedOrder, encode_order
from heliosdb.transport.pacing import Pace
from heliosdb.transport.packing import open_update
from heliosdb.transport.rpc import (
    CARRY,
    CHANNEL_OPTIONS,
    DELIVER,
    FORGET,
    GREET,
    HEARTBEAT,
    PERFORM,
    WITNESS,
    aio,
    grpc,
)
from heliosdb.transport.sealing import SealingKey
from heliosdb.transport.streams import cut
from heliosdb.transport.subscription_messages import subscription_from_proto
from heliosdb.transport.verification import UpdateCollector, rejected, sign_delivery, sign_order, sign_task
from heliosdb.transport.witness_messages import answer_from_proto, request_to_proto

Admit = Callable[[int], Awaitable[None]]
"""Returns once so many bytes may be held."""


@dataclass(slots=True)
class Traffic:
    """The message bytes of an exchange, as they pass; `whole`: when gRPC had taken all of the task."""

    sent: int = 0
    received: int = 0
    whole: Moment | None = None

    def send(self, message: bytes) -> bytes:
        """Note a message that goes out."""
        self.sent += len(message)
        return message

    def receive(self, message: bytes) -> bytes:
        """Note a message that came in."""
        self.received += len(message)
        return message


class UnsentError(FederatedError):
    """No connection was made: not a byte of the call has left."""


class UnsentToStrangerError(UnsentError, StrangerError):
    """No connection was made, for the peer is not the one that is pinned."""


class NodeClient:
    """Talks to one node.

    endpoint: `https://host:port`. pinned: the node's certificates (PEM), any of which it may show; during a
    rotation there are two. identity: the coordinator's, which the node has pinned. limits: what the workspace
    asks of the node's machine; what is sent to it keeps to their bandwidth.
    """

    def __init__(
        self,
        endpoint: str,
        pinned: Sequence[bytes],
        identity: Identity,
        *,
        traffic: Callable[[], Traffic] = Traffic,
        limits: Limits = NO_LIMITS,
    ) -> None:
        host, port = split_endpoint(endpoint)
        self.endpoint = endpoint
        self.certificate = pinned[0]
        self._pinned = tuple(pinned)
        self._identity = identity
        self._new_traffic = traffic
        self._limits = limits_to_proto(limits)
        self._pace = Pace(limits.max_bandwidth_mbps)
        credentials = grpc.ssl_channel_credentials(
            root_certificates=pinned_bundle(self._pinned),
            private_key=identity.private_key_pem,
            certificate_chain=identity.certificate_pem,
        )
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._channel = aio.secure_channel(target, credentials, options=CHANNEL_OPTIONS)
        self._greet = self._channel.unary_unary(GREET, None, None)
        self._heartbeat = self._channel.unary_unary(HEARTBEAT, None, None)
        self._forget = self._channel.unary_unary(FORGET, None, None)
        self._perform = self._channel.stream_stream(PERFORM, None, None)
        self._deliver = self._channel.stream_unary(DELIVER, None, None)
        self._carry = self._channel.unary_stream(CARRY, None, None)
        self._witness = self._channel.unary_unary(WITNESS, None, None)
        self._mistaken: FederatedError | None = None

    async def greet(self, greeting: Greeting, timeout: float) -> Introduction:  # noqa: ASYNC109 - gRPC's deadline
        """Introduce the coordinator to the node, and learn what it shares."""
        traffic = self._new_traffic()
        try:
            raw = await self._greet(traffic.send(_bytes(greeting_to_proto(greeting))), timeout=timeout)
        except aio.AioRpcError as error:
            raise self._failure(error) from error
        self._mistaken = None
        answer = parse(pb.Introduction, traffic.receive(raw))
        if answer.HasField("refusal"):
            raise refusal_from_proto(answer.refusal, greeting.node)
        return introduction_from_proto(answer)

    async def heartbeat(
        self,
        timeout: float,  # noqa: ASYNC109 - gRPC's deadline
        workspace: WorkspaceName | None = None,
    ) -> bytes:
        """Ask whether the node is there; what comes back is the digest of what it would say of its
        subscriptions to the workspace, b"" where it has none."""
        traffic = self._new_traffic()
        try:
            request = traffic.send(_bytes(pb.HeartbeatRequest(workspace=workspace)))
            answer = parse(
                pb.HeartbeatAnswer, traffic.receive(await self._heartbeat(request, timeout=timeout))
            )
            self._mistaken = None
        except aio.AioRpcError as error:
            raise self._failure(error) from error
        return bytes(answer.subscriptions)

    async def forget(
        self,
        workspace: WorkspaceName,
        node: NodeName,
        ended: frozenset[RunId],
        timeout: float,  # noqa: ASYNC109 - gRPC's deadline
    ) -> None:
        """Tell the node which of the workspace's runs have ended; it forgets them."""
        traffic = self._new_traffic()
        request = traffic.send(_bytes(forget_to_proto(workspace, node, ended)))
        try:
            parse(pb.ForgetAnswer, traffic.receive(await self._forget(request, timeout=timeout)))
            self._mistaken = None
        except aio.AioRpcError as error:
            raise self._failure(error) from error

    async def perform(
        self,
        task: Task,
        sealing: SealingKey,
        timeout: float,  # noqa: ASYNC109 - gRPC's deadline
        *,
        expected: Shape | None = None,
        private: bool | None = None,
        traffic: Traffic | None = None,
        state: EncodedState | None = None,
        admit: Admit | None = None,
        traceparent: str | None = None,
    ) -> OpenedUpdate:
        """Have the node perform `task`; the update is sealed to `sealing` and comes back verified and opened.

        timeout: seconds for the whole exchange. expected: the shape that the answer must have; None: that of
        the task's work. private: whether the answer must name what it cost; None: where the task's work is
        private. traffic: where to count, also of a call that fails. state: the task's, where it is encoded
        already. admit: waited for, with the bytes of the answer's payload, before more than its first chunk
        is read; gRPC holds back the rest meanwhile. traceparent: of the span that the node goes on under.
        """
        state = state or EncodedState.of(task.state)
        header = encode_header(task, sealing.public, state)
        sha256 = task_sha256(header)
        signed = pb.SignedHeader(
            header=header, signature=sign_task(self._identity, sha256), limits=self._limits
        )
        traffic = traffic or self._new_traffic()
        collector = UpdateCollector(task, expected)
        messages = _task_messages(signed, (task.work.summing.note, state.raw), traffic, self._pace)
        metadata = None if traceparent is None else ((HEADER, traceparent),)
        with self._failures(self._perform(messages, timeout=timeout, metadata=metadata)) as call:
            async for raw in call:
                announced = collector.take(traffic.receive(raw))
                if announced is not None and admit is not None:
                    await admit(announced)
        self._mistaken = None
        counted = (traffic.sent, traffic.received)
        return open_update(
            task, sha256, collector.finish(), self._pinned, sealing, traffic=counted, private=private
        )

    async def deliver(
        self,
        offer: Offer,
        content: Content | None,
        timeout: float,  # noqa: ASYNC109 - gRPC's deadline
        *,
        sent: Callable[[], None] = lambda: None,
    ) -> Subscription:
        """Offer the node what it subscribes to; returns its word about the subscription after it.

        content: the version that is offered, or None where it does not go along. timeout: seconds for the
        whole of it. sent: called once gRPC has taken the last message.
        """
        traffic = self._new_traffic()
        header = encode_delivery(offer, content, bytes.fromhex(fingerprint(self._pinned[-1])))
        signed = pb.SignedHeader(header=header, signature=sign_delivery(self._identity, header))
        body = () if content is None else (content.prediction, content.arrays)
        try:
            messages = _delivery_messages(signed, body, traffic, self._pace, sent)
            raw = await self._deliver(messages, timeout=timeout)
        except aio.AioRpcError as error:
            raise self._failure(error) from error
        self._mistaken = None
        answer = parse(pb.DeliveryAnswer, traffic.receive(raw))
        if answer.WhichOneof("said") != "subscription":
            raise refusal_from_proto(answer.refusal, offer.node)
        said = subscription_from_proto(answer.subscription)
        if (said.name, said.model, said.wanted) != (offer.subscription, offer.model, offer.wanted):
            raise rejected("it is about another subscription")
        return said

    async def carry(
        self,
        order: Order,
        timeout: float,  # noqa: ASYNC109 - gRPC's deadline
        *,
        sent: Callable[[], None] = lambda: None,
    ) -> CarriedOrder:
        """Have the node carry out a subject order; its statement comes back verified.

        timeout: seconds for the whole of it. sent: called once gRPC has taken the order. NodeRefusedError
        where the node says why it does not.
        """
        traffic = self._new_traffic()
        header = encode_order(order, bytes.fromhex(fingerprint(self._pinned[-1])))
        signed = pb.SignedHeader(header=header, signature=sign_order(self._identity, header))
        collector = AnswerCollector(order, self._pinned)
        call = self._carry(traffic.send(_bytes(signed)), timeout=timeout)
        try:
            sent()
            async for raw in call:
                collector.take(traffic.receive(raw))
        except aio.AioRpcError as error:
            raise self._failure(error) from error
        finally:
            call.cancel()
        self._mistaken = None
        return collector.finish()

    async def witness(self, request: WitnessRequest, timeout: float) -> WitnessAnswer:  # noqa: ASYNC109 - gRPC's deadline
        """Show the node a head of the workspace's audit log; its word is not verified here."""
        traffic = self._new_traffic()
        try:
            raw = await self._witness(traffic.send(_bytes(request_to_proto(request))), timeout=timeout)
        except aio.AioRpcError as error:
            raise self._failure(error) from error
        self._mistaken = None
        return answer_from_proto(parse(pb.WitnessAnswer, traffic.receive(raw)))

    async def close(self) -> None:
        """Close the channel; calls under way fail."""
        await self._channel.close(None)

    @contextmanager
    def _failures(
        self, call: aio.StreamStreamCall[bytes, bytes]
    ) -> Iterator[aio.StreamStreamCall[bytes, bytes]]:
        """Say clearly why a call failed below our messages; what is left of it is cancelled."""
        try:
            yield call
        except aio.AioRpcError as error:
            raise self._failure(error) from error
        except asyncio.CancelledError:
            # gRPC's word also for a channel that was closed under the call; then nobody cancelled us.
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            raise FederatedError(
                ErrorCode.UNREACHABLE, f"the call to {self.endpoint} was cancelled"
            ) from None
        finally:
            call.cancel()

    def _failure(self, error: aio.AioRpcError) -> FederatedError:
        """A clear reason for a call that failed below our messages."""
        where, details = self.endpoint, error.details() or ""
        match error.code():
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                return FederatedError(ErrorCode.TIMEOUT, f"{where} did not answer in time")
            case grpc.StatusCode.UNAVAILABLE:
                return self._same_mistake(_unavailable(where, details))
            case grpc.StatusCode.FAILED_PRECONDITION if details:
                return FederatedError(ErrorCode.UNREACHABLE, f"{where} cannot answer: {printable(details)}")
            case grpc.StatusCode.RESOURCE_EXHAUSTED:
                return rejected("a message is larger than messages may be")
            case grpc.StatusCode.CANCELLED:
                return FederatedError(ErrorCode.UNREACHABLE, f"the call to {where} was cancelled")
            case _:
                return FederatedError(ErrorCode.UNREACHABLE, f"{where} does not answer as a node does")

    def _same_mistake(self, failure: FederatedError) -> FederatedError:
        """The identity that was found wrong before, where a later attempt only says that it did not connect.

        gRPC tells of the last address that it tried. Where a name has two (localhost: ::1 and 127.0.0.1) and
        the node listens at one, that is now the node's wrong certificate, now the other address's refusal.
        """
        if failure.code is ErrorCode.IDENTITY:
            self._mistaken = failure
        if self._mistaken is None or not isinstance(failure, UnsentError):
            return failure
        stranger = isinstance(self._mistaken, StrangerError)
        kind = UnsentToStrangerError if stranger else UnsentError
        return kind(self._mistaken.code, self._mistaken.message)


# What gRPC says when it cannot connect, in the order in which to look for it, and what that means.
_CONNECTION_FAILURES: tuple[tuple[str, ErrorCode, str], ...] = (
    ("certificate has expired", ErrorCode.IDENTITY, "the certificate of {} has expired"),
    ("certificate is not yet valid", ErrorCode.IDENTITY, "the certificate of {} is not yet valid"),
    ("CERTIFICATE_VERIFY_FAILED", ErrorCode.IDENTITY, "the certificate of {} is not the pinned one"),
    ("Hostname Verification", ErrorCode.IDENTITY, "the pinned certificate is not for the host name of {}"),
    ("andshake failed", ErrorCode.IDENTITY, "the TLS handshake with {} failed"),
    ("Connection refused", ErrorCode.UNREACHABLE, "connection to {} refused"),
    ("DNS resolution failed", ErrorCode.UNREACHABLE, "the host name of {} is not known"),
    ("Socket closed", ErrorCode.UNREACHABLE, "{} closed the connection"),
    ("Connection reset", ErrorCode.UNREACHABLE, "{} closed the connection"),
)


_STRANGERS = ("CERTIFICATE_VERIFY_FAILED", "Hostname Verification")
_NEVER_CONNECTED = ("failed to connect to all addresses", "DNS resolution failed")


def _unavailable(where: str, details: str) -> FederatedError:
    kind = UnsentError if any(sign in details for sign in _NEVER_CONNECTED) else FederatedError
    for sign, code, message in _CONNECTION_FAILURES:
        if sign in details:
            closed = sign in ("Socket closed", "Connection reset")
            hint = (
                "The node may have stopped, or may not accept the coordinator's certificate."
                if closed
                else None
            )
            if sign in _STRANGERS:
                kind = UnsentToStrangerError if kind is UnsentError else StrangerError
            return kind(code, message.format(where), hint=hint)
    return kind(ErrorCode.UNREACHABLE, f"{where} cannot be reached")


async def _task_messages(
    signed: pb.SignedHeader, body: Sequence[bytes], traffic: Traffic, pace: Pace
) -> AsyncIterator[bytes]:
    chunks = cut(*body)
    signed.chunk = next(chunks, b"")
    await pace.wait(signed.ByteSize())
    yield traffic.send(_bytes(pb.TaskMessage(head=signed)))
    for chunk in chunks:
        await pace.wait(len(chunk))
        yield traffic.send(_bytes(pb.TaskMessage(chunk=chunk)))
    # gRPC asks for more once it has taken the last message.
    traffic.whole = Moment.now()


async def _delivery_messages(
    signed: pb.SignedHeader, body: Sequence[bytes], traffic: Traffic, pace: Pace, sent: Callable[[], None]
) -> AsyncIterator[bytes]:
    chunks = cut(*body)
    signed.chunk = next(chunks, b"")
    await pace.wait(signed.ByteSize())
    yield traffic.send(_bytes(pb.DeliveryMessage(head=signed)))
    for chunk in chunks:
        await pace.wait(len(chunk))
        yield traffic.send(_bytes(pb.DeliveryMessage(chunk=chunk)))
    sent()


def _bytes(message: Message) -> bytes:
    return message.SerializeToString()
