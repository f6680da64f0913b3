"""The coordinator's end of the wire: one client per node, over whatever carries its calls.

What always holds: a call returns what the pinned node answered, verified and opened, or raises
FederatedError, as `UnsentError` where nothing of the call can have reached the node. Cheap enough for a
hundred clients in one event loop; how many calls run at once is bounded by who calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from google.protobuf.message import Message

from heliosdb.aggregation.sums import Shape
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.handshake import Greeting, Introduction
from heliosdb.domain.ids import NodeName, RunId, WorkspaceName
from heliosdb.domain.limits import NO_LIMITS, Limits
from heliosdb.domain.opened_update import OpenedUpdate
from heliosdb.domain.orders import Order
from heliosdb.domain.subscription import Content, Offer, Subscription
from heliosdb.domain.task import Task
from heliosdb.domain.tree_head import WitnessAnswer, WitnessRequest
from heliosdb.domain.usage import Moment
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport.carriers import Awaiting, Carrier, Method
from heliosdb.transport.checks import parse
from heliosdb.transport.delivery_messages import encode_delivery
from heliosdb.transport.gather_messages import (
    GatherRequest,
    PassedOn,
    SignedTask,
    SignedTerm,
    gather_to_messages,
)
from heliosdb.transport.gathering import GatherCollector, GatheredSum
from heliosdb.transport.grpc_carrier import GrpcCarrier
from heliosdb.transport.identity import Identity, fingerprint
from heliosdb.transport.limit_messages import limits_to_proto
from heliosdb.transport.messages import (
    EncodedState,
    encode_header,
    forget_to_proto,
    greeting_to_proto,
    introduction_from_proto,
    refusal_from_proto,
    task_sha256,
)
from heliosdb.transport.order_messages import AnswerCollector, CarriedOrder, encode_order
from heliosdb.transport.pacing import Pace
from heliosdb.transport.packing import open_update
from heliosdb.transport.rpc import KEEPALIVE
from heliosdb.transport.sealing import SealingKey
from heliosdb.transport.streams import cut
from heliosdb.transport.subscription_messages import subscription_from_proto
from heliosdb.transport.verification import UpdateCollector, rejected, sign_delivery, sign_order, sign_task
from heliosdb.transport.witness_messages import answer_from_proto, request_to_proto

_LARGE = 100_000
"""Values of a sum that is opened beside the event loop."""

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


class NodeClient:
    """Talks to one node.

    endpoint: `https://host:port`. pinned: the node's certificates (PEM), any of which it may show; during a
    rotation there are two. identity: the coordinator's, which the node has pinned. keepalive: seconds after
    which a silent connection is asked for a sign of life. limits: what the workspace asks of the node's
    machine; what is sent to it keeps to their bandwidth. carrier: what brings its calls to the node; None:
    gRPC, to that endpoint. `certificate`: the one of the pinned that the node is taken to sign with.
    """

    def __init__(
        self,
        endpoint: str,
        pinned: Sequence[bytes],
        identity: Identity,
        *,
        traffic: Callable[[], Traffic] = Traffic,
        keepalive: int = KEEPALIVE,
        limits: Limits = NO_LIMITS,
        carrier: Carrier | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.certificate = pinned[0]
        self._pinned = tuple(pinned)
        self._identity = identity
        self._new_traffic = traffic
        self._limits = limits_to_proto(limits)
        self._pace = Pace(limits.max_bandwidth_mbps)
        self._carrier = carrier or GrpcCarrier(endpoint, self._pinned, identity, keepalive=keepalive)

    @property
    def identity(self) -> Identity:
        """Who asks."""
        return self._identity

    async def greet(self, greeting: Greeting, timeout: float) -> Introduction:  # noqa: ASYNC109 - gRPC's deadline
        """Introduce the coordinator to the node, and learn what it shares."""
        raw = await self._ask(Method.GREET, greeting_to_proto(greeting), timeout)
        answer = parse(pb.Introduction, raw)
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
        raw = await self._ask(Method.HEARTBEAT, pb.HeartbeatRequest(workspace=workspace), timeout)
        return bytes(parse(pb.HeartbeatAnswer, raw).subscriptions)

    async def forget(
        self,
        workspace: WorkspaceName,
        node: NodeName,
        ended: frozenset[RunId],
        timeout: float,  # noqa: ASYNC109 - gRPC's deadline
    ) -> None:
        """Tell the node which of the workspace's runs have ended; it forgets them."""
        request = forget_to_proto(workspace, node, ended)
        parse(pb.ForgetAnswer, await self._ask(Method.FORGET, request, timeout))

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
        already. admit: waited for, with the bytes that the answer takes, before more than its first chunk
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
        call = self._carrier.call(Method.PERFORM, messages, timeout=timeout, traceparent=traceparent)
        async with aclosing(call) as answers:
            async for raw in answers:
                announced = collector.take(traffic.receive(raw))
                if announced is not None and admit is not None:
                    await admit(announced)
        counted = (traffic.sent, traffic.received)
        return open_update(
            task, sha256, collector.finish(), self._pinned, sealing, traffic=counted, private=private
        )

    async def forward(
        self,
        task: SignedTask,
        state: bytes,
        timeout: float,  # noqa: ASYNC109 - gRPC's deadline
    ) -> AsyncGenerator[bytes]:
        """Bring the node a task that the coordinator has signed; gives the messages of its answer, unread.

        timeout: seconds for the whole exchange.
        """
        signed = pb.SignedHeader(header=task.header, signature=task.signature, limits=self._limits)
        messages = _task_messages(signed, (task.note, state), self._new_traffic(), self._pace)
        async with aclosing(self._carrier.call(Method.PERFORM, messages, timeout=timeout)) as answers:
            async for raw in answers:
                yield raw

    async def gather(
        self,
        request: GatherRequest,
        sealing: SealingKey,
        timeout: float,  # noqa: ASYNC109 - gRPC's deadline
        *,
        traffic: Callable[[NodeName], Traffic] | None = None,
        admit: Admit | None = None,
    ) -> AsyncGenerator[PassedOn | GatheredSum]:
        """Have the node gather what others answer; gives what it passes on, or in the end their sum.

        sealing: what the sum is sealed to. timeout: seconds for the whole of it. traffic: where to count
        what is about a node. admit: waited for, with the bytes of the sum, before it is read.
        """
        collector = GatherCollector(request, self._pinned, sealing)
        count = traffic or (lambda _: self._new_traffic())
        messages = _gather_messages(request, count, self._pace)
        async with aclosing(self._carrier.call(Method.GATHER, messages, timeout=timeout)) as answers:
            async for raw in answers:
                told = collector.take(raw)
                about = told.node if isinstance(told, PassedOn | SignedTerm) else request.key.node
                count(about).receive(raw)
                if isinstance(told, PassedOn):
                    yield told
                elif isinstance(told, int) and admit is not None:
                    await admit(told)
        # What it takes to open a large sum would hold up everybody else's calls.
        large = request.shape.size >= _LARGE
        gathered = await asyncio.to_thread(collector.finish) if large else collector.finish()
        if gathered is not None:
            yield gathered

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
        header = encode_delivery(offer, content, bytes.fromhex(fingerprint(self.certificate)))
        signed = pb.SignedHeader(header=header, signature=sign_delivery(self._identity, header))
        body = () if content is None else (content.prediction, content.arrays)
        messages = _delivery_messages(signed, body, traffic, self._pace, sent)
        raw = await self._only_answer(Method.DELIVER, messages, timeout, traffic)
        answer = parse(pb.DeliveryAnswer, raw)
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
        header = encode_order(order, bytes.fromhex(fingerprint(self.certificate)))
        signed = pb.SignedHeader(header=header, signature=sign_order(self._identity, header))
        collector = AnswerCollector(order, self._pinned)
        messages = _single(_bytes(signed), traffic, sent)
        async with aclosing(self._carrier.call(Method.CARRY, messages, timeout=timeout)) as answers:
            async for raw in answers:
                collector.take(traffic.receive(raw))
        return collector.finish()

    async def witness(self, request: WitnessRequest, timeout: float) -> WitnessAnswer:  # noqa: ASYNC109 - gRPC's deadline
        """Show the node a head of the workspace's audit log; its word is not verified here."""
        raw = await self._ask(Method.WITNESS, request_to_proto(request), timeout)
        return answer_from_proto(parse(pb.WitnessAnswer, raw))

    @property
    def pinned(self) -> tuple[bytes, ...]:
        """The certificates (PEM) of which the node may sign with any."""
        return self._pinned

    def accept(self, pinned: Sequence[bytes]) -> None:
        """Verify what is answered from now on against these certificates too: of a rotation that came
        meanwhile."""
        self._pinned = tuple(dict.fromkeys((*self._pinned, *pinned)))

    async def arrival(self, seconds: float) -> None:
        """Wait until the node has come, where it is the one to come; at most `seconds`."""
        if isinstance(self._carrier, Awaiting):
            await self._carrier.arrival(seconds)

    async def close(self) -> None:
        """Close what carries the calls; those under way fail."""
        await self._carrier.close()

    async def _ask(self, method: Method, request: Message, timeout: float) -> bytes:  # noqa: ASYNC109 - gRPC's deadline
        """The one answer to one message."""
        traffic = self._new_traffic()
        return await self._only_answer(method, _single(_bytes(request), traffic), timeout, traffic)

    async def _only_answer(
        self,
        method: Method,
        messages: AsyncIterator[bytes],
        timeout: float,  # noqa: ASYNC109 - gRPC's deadline
        traffic: Traffic,
    ) -> bytes:
        answer: bytes | None = None
        async with aclosing(self._carrier.call(method, messages, timeout=timeout)) as answers:
            async for raw in answers:
                if answer is not None:
                    raise self._odd()
                answer = traffic.receive(raw)
        if answer is None:
            raise self._odd()
        return answer

    def _odd(self) -> FederatedError:
        return FederatedError(ErrorCode.UNREACHABLE, f"{self.endpoint} does not answer as a node does")


async def _single(
    message: bytes, traffic: Traffic, sent: Callable[[], None] = lambda: None
) -> AsyncIterator[bytes]:
    yield traffic.send(message)
    sent()


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


async def _gather_messages(
    request: GatherRequest, count: Callable[[NodeName], Traffic], pace: Pace
) -> AsyncIterator[bytes]:
    for node, message in gather_to_messages(request):
        await pace.wait(len(message))
        yield count(node).send(message)


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
