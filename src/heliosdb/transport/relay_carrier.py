"""Brings calls to a node over what another system carries: each whole, sealed, as one envelope.

What always holds: a call of which nothing was handed over fails as `UnsentError`; whoever leaves a call has
the node told so; what a call may take is what it was given, and what the system may take to carry it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import suppress
from weakref import finalize

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport.carriers import Method, UnsentError
from heliosdb.transport.limits import MAX_RELAYED_BYTES
from heliosdb.transport.messages import printable
from heliosdb.transport.reception import dismiss_soon
from heliosdb.transport.relay import Outgoing, Relay, Session

CARRIED_SECONDS = 120.0
"""What the way there and back may take: Flower's programs ask every few seconds, and start one a batch."""


class RelayedCarrier:
    """Brings calls to the node that has one of these certificates (PEM). peer: what errors call the node."""

    def __init__(self, relay: Relay, pinned: Sequence[bytes], peer: str) -> None:
        self._relay = relay
        self._pinned = tuple(pinned)
        self._peer = peer
        relay.expect(self._pinned)
        loop = asyncio.get_running_loop()
        # Whoever drops it without closing it expects the node no more either.
        self._dismissal = finalize(self, dismiss_soon, loop, relay, self._pinned)
        self._dismissal.atexit = False

    async def arrival(self, seconds: float) -> None:
        """Wait until there is a session with the node, at most `seconds`."""
        deadline = asyncio.get_running_loop().time() + seconds
        with suppress(TimeoutError):
            while self._relay.find(self._pinned) is None:
                await self._relay.wait_for_change(deadline)

    async def call(
        self,
        method: Method,
        messages: AsyncIterator[bytes],
        *,
        timeout: float,  # noqa: ASYNC109 - of the whole call
        traceparent: str | None = None,
    ) -> AsyncGenerator[bytes]:
        """As `Carrier.call`; `timeout` is what the node may take, and the way comes to it."""
        session = self._session()
        deadline = asyncio.get_running_loop().time() + timeout + CARRIED_SECONDS
        call = pb.RelayCall(head=pb.CallHead(method=method, traceparent=traceparent))
        size = 0
        async for message in messages:
            size += len(message)
            if size > MAX_RELAYED_BYTES:
                raise UnsentError(
                    ErrorCode.PROGRAM_LIMIT, f"the call to {self._peer} is larger than what is relayed"
                )
            call.messages.append(message)
        try:
            async with asyncio.timeout_at(deadline), session.slots:
                answer = await self._asked(session, call)
        except TimeoutError:
            raise FederatedError(ErrorCode.TIMEOUT, f"{self._peer} did not answer in time") from None
        for raw in answer.messages:
            yield raw
        if answer.end.HasField("cannot"):
            reason = printable(answer.end.cannot)
            raise FederatedError(ErrorCode.UNREACHABLE, f"{self._peer} cannot answer: {reason}")

    async def close(self) -> None:
        """Expect the node no more; calls under way fail."""
        if self._dismissal.detach() is not None:
            self._relay.dismiss(self._pinned)

    def _session(self) -> Session:
        session = self._relay.find(self._pinned) if self._dismissal.alive else None
        if session is not None:
            return session
        if not self._relay.is_connected:
            raise UnsentError(
                ErrorCode.UNREACHABLE,
                f"{self._peer} is not there: Flower's ServerApp has not connected",
                hint="Start it: flwr run in the directory of heliosdb-flower.",
            )
        raise UnsentError(ErrorCode.UNREACHABLE, f"{self._peer} has not answered over Flower yet")

    async def _asked(self, session: Session, call: pb.RelayCall) -> pb.RelayAnswer:
        call.alone = not session.place.former
        number = session.next_number()
        envelope = await asyncio.to_thread(session.sealing.seal, number, call)
        if session.over:
            raise UnsentError(ErrorCode.UNREACHABLE, f"the session with {self._peer} is over")
        answer: asyncio.Future[pb.RelayAnswer] = asyncio.get_running_loop().create_future()
        session.calls[number] = answer
        outgoing = self._relay.send(session.place, envelope)
        try:
            await asyncio.wait({answer})
            if answer.cancelled():
                kind = FederatedError if outgoing.sent else UnsentError
                raise kind(ErrorCode.UNREACHABLE, f"the session with {self._peer} ended under the call")
            return answer.result()
        finally:
            del session.calls[number]
            if not answer.done():
                self._leave(session, number, outgoing)

    def _leave(self, session: Session, number: int, outgoing: Outgoing) -> None:
        """Have the node told that nobody waits for this call any more."""
        if outgoing in session.place.waiting:
            session.place.waiting.remove(outgoing)
        elif not session.over:
            told = session.sealing.seal(session.next_number(), pb.RelayCall(cancelled=number))
            self._relay.send(session.place, told)
