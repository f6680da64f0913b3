"""A node's connection to the coordinator that it dials: over it the node offers to take calls.

What always holds: nothing is offered but to a peer that has shown a pinned coordinator certificate; some
offers are open that carry no call while there are fewer than MAX_OFFERS; a call that the coordinator has left
is not answered on.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Any, TypeAlias

from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value, place_of
from heliosdb.observing.tracing import HEADER
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport.carriers import Answering, CannotAnswerError, read_method
from heliosdb.transport.checks import parse
from heliosdb.transport.grpc_carrier import CONNECTION_FAILURES
from heliosdb.transport.identity import pinned_bundle, split_endpoint
from heliosdb.transport.limits import MAX_OFFERS
from heliosdb.transport.rpc import KEEPALIVE, OFFER, OFFER_ACCEPTED, aio, dialling_options, grpc
from heliosdb.transport.server import ServerIdentity

log = logging.getLogger(__name__)

_SPARE = 2
_CONNECT_SECONDS = 20.0
_PROXY_SAID = re.compile(r"HTTP proxy returned response code (\d+)")
_UNKNOWN_HERE = (
    "REGISTER FEDERATED NODE tells the coordinator this node's certificate, in a workspace with "
    "communication_protocol = 'https'."
)

_Call: TypeAlias = "aio.StreamStreamCall[bytes, bytes]"


class Line:
    """One connection. address: `https://host:port`; proxy: the HTTP proxy that is between, as a URL.

    keepalive: seconds after which a silent connection is asked for a sign of life.
    """

    def __init__(
        self,
        address: str,
        identity: ServerIdentity,
        answering: Answering,
        *,
        proxy: str | None = None,
        keepalive: int = KEEPALIVE,
    ) -> None:
        host, port = split_endpoint(address)
        self.address = address
        self._answering = answering
        credentials = grpc.ssl_channel_credentials(
            root_certificates=pinned_bundle(identity.pinned),
            private_key=identity.identity.private_key_pem,
            certificate_chain=identity.identity.certificate_pem,
        )
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        channel = aio.secure_channel(target, credentials, options=dialling_options(proxy, keepalive))
        self._channel, self._call = channel, channel.stream_stream(OFFER, None, None)
        self._idle: set[asyncio.Task[None]] = set()
        self._busy: set[asyncio.Task[None]] = set()
        loop = asyncio.get_running_loop()
        self._accepted: asyncio.Future[None] = loop.create_future()
        self._broken: asyncio.Future[FederatedError] = loop.create_future()

    async def open(self) -> None:
        """Connect, and begin to offer; FederatedError says what was in the way."""
        self._offer()
        waited: set[asyncio.Future[Any]] = {self._accepted, self._broken}
        await asyncio.wait(waited, timeout=_CONNECT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if self._broken.done():
            raise self._broken.result()
        if not self._accepted.done():
            raise FederatedError(ErrorCode.TIMEOUT, f"{self.address} did not answer in time")

    @property
    def is_broken(self) -> bool:
        """Whether the connection is lost, or was left."""
        return self._broken.done()

    async def broken(self) -> FederatedError:
        """Wait until the connection is lost; say why."""
        return await asyncio.shield(self._broken)

    async def drain(self, settle: float = 0.0) -> None:
        """Offer no more, answer the calls that were taken, and close.

        settle: seconds for which offers that were made still stand: a call may be on its way to one.
        """
        self._leave()
        if self._idle and settle > 0:
            await asyncio.wait(self._idle, timeout=settle, return_when=asyncio.ALL_COMPLETED)
        for task in self._idle:
            task.cancel()
        if self._busy:
            await asyncio.wait(self._busy)
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls under way are answered no more."""
        self._leave()
        tasks = self._idle | self._busy
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._channel.close(None)

    def _leave(self) -> None:
        self._break(FederatedError(ErrorCode.UNREACHABLE, f"the connection to {self.address} was left"))

    def _break(self, failure: FederatedError) -> None:
        if not self._broken.done():
            self._broken.set_result(failure)

    def _offer(self) -> None:
        while not self._broken.done() and len(self._idle) < _SPARE:
            if len(self._idle) + len(self._busy) >= MAX_OFFERS:
                return
            task = asyncio.create_task(self._take())
            self._idle.add(task)
            task.add_done_callback(self._offer_ended)

    def _offer_ended(self, task: asyncio.Task[None]) -> None:
        self._idle.discard(task)
        self._busy.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("taking calls failed: %s", place_of(error))
            self._break(FederatedError(ErrorCode.INTERNAL, "taking calls failed inside the node"))
        self._offer()

    async def _take(self) -> None:
        """Offer to take a call, and answer it."""
        this, call = asyncio.current_task(), self._call()
        assert this is not None
        try:
            head = await self._head(call)
            self._idle.discard(this)
            self._busy.add(this)
            self._offer()
            await self._answer(call, head)
        except aio.AioRpcError as error:
            self._break(_failure(self.address, error.code(), error.details() or ""))
        except FederatedError as error:
            self._break(error)
        except asyncio.CancelledError:
            # gRPC's word also for a call that the coordinator has left before it was read here.
            if this.cancelling():
                raise
        finally:
            call.cancel()

    async def _head(self, call: _Call) -> pb.CallHead:
        name, value = OFFER_ACCEPTED
        if (await call.initial_metadata()).get(name) == value and not self._accepted.done():
            self._accepted.set_result(None)
        raw = await call.read()
        frame = pb.Asked() if raw is aio.EOF else parse(pb.Asked, raw)
        if frame.WhichOneof("part") != "head":
            raise _failure(self.address, grpc.StatusCode.UNKNOWN, "")
        return frame.head

    async def _answer(self, call: _Call, head: pb.CallHead) -> None:
        """Answer until that is done, or the coordinator has left the call."""
        answering = asyncio.create_task(self._write_answers(call, head))
        call.add_done_callback(lambda _: answering.cancel())
        try:
            await asyncio.wait({answering})
        finally:
            answering.cancel()
            await asyncio.wait({answering})
        # To the end that the coordinator sends, which may have been sending when it was answered.
        with suppress(aio.AioRpcError):
            while await call.read() is not aio.EOF:
                pass

    async def _write_answers(self, call: _Call, head: pb.CallHead) -> None:
        end = pb.CallEnd()
        metadata = ((HEADER, head.traceparent),) if head.HasField("traceparent") else ()
        # What is in the way of writing is that the coordinator has left the call.
        with suppress(aio.AioRpcError, asyncio.InvalidStateError):
            try:
                method = read_method(head.method)
                async with aclosing(self._answering.answer(method, _asked(call), metadata)) as answers:
                    async for answer in answers:
                        await call.write(pb.Answered(message=answer).SerializeToString())
            except CannotAnswerError as error:
                end.cannot = str(error)
            await call.write(pb.Answered(end=end).SerializeToString())
            await call.done_writing()


async def _asked(call: _Call) -> AsyncIterator[bytes]:
    """The messages of the call, to their end."""
    while True:
        raw = await call.read()
        frame = pb.Asked() if raw is aio.EOF else parse(pb.Asked, raw)
        match frame.WhichOneof("part"):
            case "message":
                yield frame.message
            case "end":
                return
            case _:
                raise invalid_value("the call's messages are out of order")


def _failure(where: str, code: grpc.StatusCode, details: str) -> FederatedError:
    """A clear reason for a connection that does not stand."""
    match code:
        case grpc.StatusCode.UNAVAILABLE:
            return _unavailable(where, details)
        case grpc.StatusCode.PERMISSION_DENIED:
            return FederatedError(
                ErrorCode.IDENTITY, f"{where} knows no node with this certificate", hint=_UNKNOWN_HERE
            )
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return FederatedError(ErrorCode.PROGRAM_LIMIT, f"{where} holds too many connections of this node")
        case _:
            return FederatedError(ErrorCode.UNREACHABLE, f"{where} does not answer as a coordinator does")


def _unavailable(where: str, details: str) -> FederatedError:
    said = _PROXY_SAID.search(details)
    if said is not None and said[1] == "407":
        return FederatedError(
            ErrorCode.IDENTITY,
            f"the proxy on the way to {where} asks for a user and a password (407)",
            hint="Set proxy = 'http://user:password@host:port'.",
        )
    if said is not None:
        return FederatedError(ErrorCode.UNREACHABLE, f"the proxy on the way to {where} refuses ({said[1]})")
    for sign, code, message in CONNECTION_FAILURES:
        if sign in details:
            closed = sign in ("Socket closed", "Connection reset")
            return FederatedError(code, message.format(where), hint=_UNKNOWN_HERE if closed else None)
    return FederatedError(ErrorCode.UNREACHABLE, f"{where} cannot be reached")
