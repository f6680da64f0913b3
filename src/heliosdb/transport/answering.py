"""What a node answers to each call, whichever way that came: complete, verified messages to a `Performer`.

What always holds: a task, a delivery or a subject order reaches the performer only whole, within its limits,
its hash right and its signature the coordinator's; what goes back is an update as the release door made it,
the node's word about its subscriptions or about a head of the audit log, its signed statement about an order,
what other nodes have released for it to pass on or to add up, or a refusal whose text is public.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol, TypeVar

from google.protobuf.message import Message

from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value, place_of
from heliosdb.domain.handshake import Greeting, Introduction
from heliosdb.domain.ids import NodeName, RunId, WorkspaceName
from heliosdb.domain.limits import NO_LIMITS
from heliosdb.domain.subscription import Subscription
from heliosdb.domain.tree_head import WitnessAnswer, WitnessRequest
from heliosdb.observing.tracing import asked_under
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport.carriers import CannotAnswerError, Metadata, Method
from heliosdb.transport.checks import parse
from heliosdb.transport.delivery_messages import DeliveryHeader, ReceivedDelivery
from heliosdb.transport.gather_messages import GatherRequest, Told, receive_gather, told_to_messages
from heliosdb.transport.gathering import check_signed
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
from heliosdb.transport.streams import cut, cut_first
from heliosdb.transport.subscription_messages import subscription_to_proto, subscriptions_sha256
from heliosdb.transport.update_messages import SealedUpdate
from heliosdb.transport.witness_messages import answer_to_proto, request_from_proto

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

    def gather(self, request: GatherRequest) -> AsyncGenerator[Told]:
        """Ask other nodes, and tell what they answered, or the sum of it, piece by piece."""
        ...


class Answerer:
    """Hands a node's calls to its performer.

    pinned: the coordinator's certificates; asked for at each call, since they rotate. pace: at which answers
    to tasks and orders, and what is gathered, leave; None: as fast as the line takes them. asks_limits:
    whether whoever calls may ask for limits, which no signature covers.
    """

    def __init__(
        self,
        performer: Performer,
        pinned: Callable[[], Sequence[bytes]],
        pace: Pace | None = None,
        *,
        asks_limits: bool = True,
    ) -> None:
        self._performer = performer
        self._asks_limits = asks_limits
        self._pinned = pinned
        self._pace = pace or Pace()
        self._delivering = asyncio.Lock()
        self._answers = {
            Method.GREET: self._greet,
            Method.HEARTBEAT: self._heartbeat,
            Method.FORGET: self._forget,
            Method.PERFORM: self._perform,
            Method.DELIVER: self._deliver,
            Method.CARRY: self._carry,
            Method.WITNESS: self._witness,
            Method.GATHER: self._gather,
        }

    def answer(
        self, method: Method, messages: AsyncIterator[bytes], metadata: Metadata
    ) -> AsyncGenerator[bytes]:
        """As `Answering.answer`."""
        return self._answers[method](messages, metadata)

    async def _greet(self, messages: AsyncIterator[bytes], _: Metadata) -> AsyncGenerator[bytes]:
        async def answer() -> bytes:
            greeting = greeting_from_proto(parse(pb.Greeting, await _only(messages)))
            return _bytes(introduction_to_proto(await self._performer.introduce(greeting)))

        result = await _or_refusal(answer)
        yield result if isinstance(result, bytes) else _bytes(pb.Introduction(refusal=result))

    async def _heartbeat(self, messages: AsyncIterator[bytes], _: Metadata) -> AsyncGenerator[bytes]:
        async def answer() -> bytes:
            workspace = heartbeat_from_proto(parse(pb.HeartbeatRequest, await _only(messages)))
            await self._performer.alive()
            if workspace is None:
                return b""
            return subscriptions_sha256(await self._performer.subscribed(workspace))

        yield _bytes(pb.HeartbeatAnswer(subscriptions=await _or_silence(answer)))

    async def _forget(self, messages: AsyncIterator[bytes], _: Metadata) -> AsyncGenerator[bytes]:
        async def answer() -> None:
            workspace, node, ended = forget_from_proto(parse(pb.ForgetRequest, await _only(messages)))
            await self._performer.forget(workspace, node, ended)

        await _or_silence(answer)
        yield _bytes(pb.ForgetAnswer())

    async def _perform(self, messages: AsyncIterator[bytes], metadata: Metadata) -> AsyncGenerator[bytes]:
        async def answer() -> tuple[ReceivedTask, SealedUpdate]:
            received = await receive_task(messages, self._pinned())
            if not self._asks_limits:
                received = replace(received, limits=NO_LIMITS)
            # Only now: the task's signature has shown who it is that names a trace.
            with asked_under(metadata):
                return received, await self._performer.perform(received)

        result = await _or_refusal(answer)
        if isinstance(result, pb.Refusal):
            yield _bytes(pb.UpdateMessage(refusal=result))
            return
        received, update = result
        pace = self._pace.at(received.limits.max_bandwidth_mbps, received.task.key.workspace)
        first, rest = cut_first(update.payload)
        await pace.wait(len(first))
        head = pb.SignedHeader(header=update.header, signature=update.signature, chunk=first)
        yield _bytes(pb.UpdateMessage(head=head))
        for chunk in cut(rest):
            await pace.wait(len(chunk))
            yield _bytes(pb.UpdateMessage(chunk=chunk))
        self._performer.sent(received)

    async def _deliver(self, messages: AsyncIterator[bytes], _: Metadata) -> AsyncGenerator[bytes]:
        async def answer() -> Subscription:
            # A body is held whole: of the next one no more is read than gRPC holds back.
            async with self._delivering:
                received = await receive_delivery(messages, self._pinned(), self._performer.expect)
                return await self._performer.deliver(received)

        result = await _or_refusal(answer)
        if isinstance(result, pb.Refusal):
            yield _bytes(pb.DeliveryAnswer(refusal=result))
        else:
            yield _bytes(pb.DeliveryAnswer(subscription=subscription_to_proto(result)))

    async def _carry(self, messages: AsyncIterator[bytes], _: Metadata) -> AsyncGenerator[bytes]:
        async def answer() -> CarriedOrder:
            return await self._performer.carry(receive_order(await _only(messages), self._pinned()))

        result = await _or_refusal(answer)
        if isinstance(result, pb.Refusal):
            yield _bytes(pb.OrderAnswer(refusal=result))
            return
        first, rest = cut_first(result.body)
        await self._pace.wait(len(first))
        signed = result.signed
        head = pb.SignedHeader(header=signed.statement, signature=signed.signature, chunk=first)
        yield _bytes(pb.OrderAnswer(head=head))
        for chunk in cut(rest):
            await self._pace.wait(len(chunk))
            yield _bytes(pb.OrderAnswer(chunk=chunk))

    async def _witness(self, messages: AsyncIterator[bytes], _: Metadata) -> AsyncGenerator[bytes]:
        async def answer() -> WitnessAnswer:
            request = request_from_proto(parse(pb.WitnessRequest, await _only(messages)))
            return await self._performer.witness(request)

        # Not a refusal of the head: the node could not look at it.
        yield _bytes(answer_to_proto(await _or_silence(answer)))

    async def _gather(self, messages: AsyncIterator[bytes], _: Metadata) -> AsyncGenerator[bytes]:
        async def begin() -> tuple[Pace, AsyncGenerator[Told]]:
            request = await receive_gather(messages)
            check_signed(request, self._pinned())
            asked = request.limits.max_bandwidth_mbps if self._asks_limits else None
            return self._pace.at(asked, request.key.workspace), self._performer.gather(request)

        begun = await _or_refusal(begin)
        if isinstance(begun, pb.Refusal):
            yield _bytes(pb.GatherAnswer(refusal=begun))
            return
        pace, telling = begun
        async with aclosing(telling) as gathered:
            while True:
                told = await _or_refusal(lambda: anext(gathered, None))
                if told is None:
                    return
                if isinstance(told, pb.Refusal):
                    yield _bytes(pb.GatherAnswer(refusal=told))
                    return
                for message in told_to_messages(told):
                    await pace.wait(len(message))
                    yield message


async def _only(messages: AsyncIterator[bytes]) -> bytes:
    """The one message of a call that has one."""
    only: bytes | None = None
    async for raw in messages:
        if only is not None:
            raise invalid_value("the call has more than one message")
        only = raw
    if only is None:
        raise invalid_value("the call has no message")
    return only


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


async def _or_silence(answer: Callable[[], Awaitable[_T]]) -> _T:
    """What `answer` gives; CannotAnswerError with the text of its refusal."""
    result = await _or_refusal(answer)
    if isinstance(result, pb.Refusal):
        raise CannotAnswerError(result.message)
    return result


def _bytes(message: Message) -> bytes:
    return message.SerializeToString()
