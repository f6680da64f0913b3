"""Where nodes dial in: the coordinator listens, and its calls travel back over the nodes' connections.

What always holds: a handshake succeeds only for a certificate that some node is expected with, and a call to
a node goes over a connection on which that node's own certificate was shown. A node's offers are bounded; an
offer carries one call, so HTTP/2 holds back and cancels each by itself.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol
from weakref import finalize

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport.carriers import Method, UnsentError
from heliosdb.transport.checks import parse
from heliosdb.transport.identity import Identity, fingerprint
from heliosdb.transport.limits import MAX_OFFERS
from heliosdb.transport.messages import printable
from heliosdb.transport.rpc import OFFER_ACCEPTED, RECEPTION, RECEPTION_OPTIONS, aio, grpc
from heliosdb.transport.server import ServerIdentity, bind, server_credentials
from heliosdb.transport.verification import rejected

_GRACE_SECONDS = 1.0

_numbers = itertools.count()

# A node has two connections while it changes from one to the other, and maybe one that is dead unnoticed.
_MOST_OFFERS = 4 * MAX_OFFERS


class _Offer:
    """A stream on which a node takes one call; its handler waits for the end of that, and then sends it."""

    def __init__(self, context: Any) -> None:
        self.context = context
        self.number = next(_numbers)
        self._status: asyncio.Future[grpc.StatusCode] = asyncio.get_running_loop().create_future()
        self._writing: asyncio.Future[None] | None = None

    async def write(self, frame: pb.Asked) -> None:
        """Send a frame; cancelled, it is on its way all the same."""
        self._writing = asyncio.ensure_future(self.context.write(frame.SerializeToString()))
        await asyncio.shield(self._writing)

    def end(self, status: grpc.StatusCode) -> None:
        """Have the stream end, once."""
        if not self._status.done():
            self._status.set_result(status)

    async def ended(self) -> grpc.StatusCode:
        """Wait until a status can be sent: gRPC sends none past a frame, and a node reads on to the end."""
        status = await self._status
        if self._writing is not None:
            await asyncio.wait({self._writing})
        return status


class _Lobby:
    """The offers made with one certificate."""

    def __init__(self) -> None:
        self.offers: set[_Offer] = set()
        self.idle: list[_Offer] = []


class Reception:
    """Listens for nodes. identity: the coordinator's; asked at every handshake."""

    def __init__(self, identity: Callable[[], Identity]) -> None:
        self._identity = identity
        self._expected: Counter[str] = Counter()
        self._certificates: dict[str, bytes] = {}
        self._pinned: tuple[bytes, ...] = ()
        self._lobbies: dict[str, _Lobby] = {}
        self._changed = asyncio.Event()
        self._server: Any = None

    async def listen(self, host: str, port: int) -> int:
        """Listen, and return the port (the one given, or the one found for 0); FederatedError WRONG_STATE."""
        server = aio.server(options=RECEPTION_OPTIONS)
        handlers = {"Offer": grpc.stream_stream_rpc_method_handler(self._take_offer)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(RECEPTION, handlers),))
        bound = bind(server, server_credentials(self._server_identity), host, port)
        await server.start()
        self._server = server
        return bound

    async def close(self) -> None:
        """Listen no more; calls under way fail."""
        for lobby in self._lobbies.values():
            for offer in lobby.offers:
                offer.end(grpc.StatusCode.UNAVAILABLE)
        if self._server is not None:
            await self._server.stop(_GRACE_SECONDS)

    def carrier(self, pinned: Sequence[bytes], peer: str) -> DialledCarrier:
        """What brings calls to the node that shows one of these certificates (PEM).

        The node is let in until the carrier is closed. peer: what errors call the node.
        """
        for certificate in pinned:
            key = fingerprint(certificate)
            self._expected[key] += 1
            self._certificates[key] = certificate
        self._note_expected()
        return DialledCarrier(self, pinned, peer)

    def dismiss(self, pinned: Sequence[bytes]) -> None:
        """Let the holder of these certificates in no more, unless they are expected for another reason."""
        for key in map(fingerprint, pinned):
            self._expected[key] -= 1
            if self._expected[key] > 0:
                continue
            del self._expected[key], self._certificates[key]
            lobby = self._lobbies.get(key)
            for offer in list(lobby.offers) if lobby is not None else ():
                offer.end(grpc.StatusCode.PERMISSION_DENIED)
        self._note_expected()

    def is_there(self, pinned: Sequence[bytes]) -> bool:
        """Whether the holder of one of these certificates is connected."""
        return any(fingerprint(certificate) in self._lobbies for certificate in pinned)

    async def arrival(self, pinned: Sequence[bytes], seconds: float) -> None:
        """Wait until the holder of one of these certificates is connected, at most `seconds`."""
        deadline = asyncio.get_running_loop().time() + seconds
        with suppress(TimeoutError):
            while not self.is_there(pinned):
                await self.wait_for_change(deadline)

    def take_idle(self, pinned: Sequence[bytes]) -> _Offer | None:
        """The latest offer of theirs that carries no call yet; None where there is none."""
        lobbies = [self._lobbies.get(fingerprint(certificate)) for certificate in pinned]
        waiting = [lobby for lobby in lobbies if lobby is not None and lobby.idle]
        return max(waiting, key=lambda lobby: lobby.idle[-1].number).idle.pop() if waiting else None

    async def wait_for_change(self, deadline: float) -> None:
        """Wait until some node comes, goes or offers; TimeoutError at the loop's time `deadline`."""
        async with asyncio.timeout_at(deadline):
            await self._changed.wait()

    def _note_expected(self) -> None:
        # gRPC asks from threads of its own: what they see is replaced and never changed.
        self._pinned = tuple(self._certificates.values())

    def _server_identity(self) -> ServerIdentity:
        identity = self._identity()
        # Where nobody is expected, nobody but the coordinator itself could come: and that is no node.
        return ServerIdentity(identity, self._pinned or (identity.certificate_pem,))

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _take_offer(self, _messages: AsyncIterator[bytes], context: Any) -> None:
        shown = context.auth_context()["x509_pem_cert"][0]
        key = fingerprint(shown)
        # Not by the handshake alone: the connection may be older than the last change.
        if key not in self._expected:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "no node has this certificate")
        lobby = self._lobbies.setdefault(key, _Lobby())
        if len(lobby.offers) >= _MOST_OFFERS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "the node offers too much")
        offer = _Offer(context)
        lobby.offers.add(offer)
        try:
            await context.send_initial_metadata((OFFER_ACCEPTED,))
            lobby.idle.append(offer)
            self._notify()
            status = await offer.ended()
        finally:
            lobby.offers.discard(offer)
            if offer in lobby.idle:
                lobby.idle.remove(offer)
            if not lobby.offers and self._lobbies.get(key) is lobby:
                del self._lobbies[key]
            self._notify()
        if status is not grpc.StatusCode.OK:
            await context.abort(status, "")


class DialledCarrier:
    """Brings calls to a node that has dialled in."""

    def __init__(self, reception: Reception, pinned: Sequence[bytes], peer: str) -> None:
        self._reception = reception
        self._pinned = tuple(pinned)
        self._peer = peer
        # Whoever drops it without closing it lets the node in no more either.
        loop = asyncio.get_running_loop()
        self._dismissal = finalize(self, dismiss_soon, loop, reception, self._pinned)
        self._dismissal.atexit = False

    def is_there(self) -> bool:
        """Whether the node is connected."""
        return self._reception.is_there(self._pinned)

    async def arrival(self, seconds: float) -> None:
        """Wait until the node is connected, at most `seconds`."""
        await self._reception.arrival(self._pinned, seconds)

    async def call(
        self,
        method: Method,
        messages: AsyncIterator[bytes],
        *,
        timeout: float,  # noqa: ASYNC109 - of the whole call
        traceparent: str | None = None,
    ) -> AsyncGenerator[bytes]:
        """As `Carrier.call`."""
        deadline = asyncio.get_running_loop().time() + timeout
        offer = await self._offer(deadline)
        head = pb.CallHead(method=method, traceparent=traceparent)
        sender = asyncio.create_task(_send(offer, head, messages))
        status = grpc.StatusCode.CANCELLED
        try:
            while (answer := await self._read(offer.context, deadline)) is not None:
                yield answer
            status = grpc.StatusCode.OK
        finally:
            sender.cancel()
            offer.end(status)

    async def close(self) -> None:
        """Let the node in no more; calls under way fail."""
        if self._dismissal.detach() is not None:
            self._reception.dismiss(self._pinned)

    async def _offer(self, deadline: float) -> _Offer:
        while True:
            offer = self._reception.take_idle(self._pinned) if self._dismissal.alive else None
            if offer is not None:
                return offer
            if not self._dismissal.alive or not self.is_there():
                raise UnsentError(ErrorCode.UNREACHABLE, f"{self._peer} has not dialled in")
            try:
                await self._reception.wait_for_change(deadline)
            except TimeoutError:
                raise UnsentError(ErrorCode.TIMEOUT, f"{self._peer} did not take the call in time") from None

    async def _read(self, context: Any, deadline: float) -> bytes | None:
        """The next answer; None at the end."""
        try:
            async with asyncio.timeout_at(deadline):
                raw = await context.read()
        except TimeoutError:
            raise FederatedError(ErrorCode.TIMEOUT, f"{self._peer} did not answer in time") from None
        except aio.BaseError:
            raw = aio.EOF
        if raw is aio.EOF:
            raise FederatedError(ErrorCode.UNREACHABLE, f"{self._peer} closed the connection")
        frame = parse(pb.Answered, raw)
        match frame.WhichOneof("part"):
            case "message":
                return frame.message
            case "end" if frame.end.HasField("cannot"):
                reason = printable(frame.end.cannot)
                raise FederatedError(ErrorCode.UNREACHABLE, f"{self._peer} cannot answer: {reason}")
            case "end":
                return None
            case _:
                raise rejected("it is of an unknown kind")


class Dismissing(Protocol):
    """Expects nodes, until it is told not to."""

    def dismiss(self, pinned: Sequence[bytes]) -> None:
        """Expect the holder of these certificates no more."""
        ...


def dismiss_soon(loop: asyncio.AbstractEventLoop, reception: Dismissing, pinned: tuple[bytes, ...]) -> None:
    """Of a carrier that was dropped: that may be noticed in any thread, and after the loop has ended."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(reception.dismiss, pinned)


async def _send(offer: _Offer, head: pb.CallHead, messages: AsyncIterator[bytes]) -> None:
    # What is in the way shows where the answer is read.
    with suppress(aio.BaseError):
        await offer.write(pb.Asked(head=head))
        async for message in messages:
            await offer.write(pb.Asked(message=message))
        await offer.write(pb.Asked(end=pb.CallEnd()))
