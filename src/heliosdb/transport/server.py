"""Calls over gRPC at a node that listens: they come in from the pinned coordinator, to what answers them.

What always holds: nothing is asked of a node but by a peer that has shown a certificate that is pinned still;
one that is an aggregator's, and no coordinator's, brings signed tasks and has answers gathered, and nothing
else; a call under way is cut off where what its peer has shown is pinned no longer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.transport.answering import Answerer, Performer
from heliosdb.transport.carriers import Answering, CannotAnswerError, Method
from heliosdb.transport.identity import Identity, fingerprint, pinned_bundle
from heliosdb.transport.pacing import Pace
from heliosdb.transport.rpc import SERVER_OPTIONS, SERVICE, aio, grpc

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """What a daemon shows and whom it lets in; asked for at each handshake, so that certificates rotate.

    pinned: the coordinator's; of a coordinator that listens, the nodes'. aggregators: those through which a
    node answers too.
    """

    identity: Identity
    pinned: tuple[bytes, ...]
    aggregators: tuple[bytes, ...] = ()


def server_credentials(current: Callable[[], ServerIdentity]) -> Any:
    """gRPC credentials that demand a pinned client certificate; `current` is asked at every handshake."""

    shown: list[ServerIdentity] = []

    def configuration() -> Any:
        now = current()
        if [now] == shown:
            # As it is: there may be a thousand certificates to read.
            return None
        shown[:] = [now]
        return grpc.ssl_server_certificate_configuration(
            [(now.identity.private_key_pem, now.identity.certificate_pem)],
            pinned_bundle((*now.pinned, *now.aggregators)),
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
    aggregators: Callable[[], Sequence[bytes]] = tuple,
    pace: Pace | None = None,
) -> tuple[Any, int]:
    """A gRPC server for one node, not started yet, and its port (the one given, or the one found for 0).

    aggregators: the certificates of those through which the node answers too. pace: at which answers to tasks
    and orders leave; None: as fast as the line takes them.
    """
    server = aio.server(options=SERVER_OPTIONS)
    pace = pace or Pace()
    callers = (
        _Callers(pinned, frozenset(Method), Answerer(performer, pinned, pace)),
        _Callers(aggregators, _OF_AGGREGATORS, Answerer(performer, pinned, pace, asks_limits=False)),
    )
    handlers = {str(method): _over_grpc(callers, method) for method in Method}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    return server, bind(server, credentials, host, port)


def bind(server: Any, credentials: Any, host: str, port: int) -> int:
    """Have a server that is not started listen; its port (the one given, or the one found for 0)."""
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound: int = server.add_secure_port(address, credentials)
    except RuntimeError:
        bound = 0
    if not bound:
        raise FederatedError(ErrorCode.WRONG_STATE, f"cannot listen on {address}")
    return bound


_LOOK_SECONDS = 0.5
"""Of a call under way: how often it is looked at whether its peer may still ask."""

_OF_AGGREGATORS = frozenset({Method.PERFORM, Method.GATHER})
"""Calls of which each task shows who has signed it."""


@dataclass(frozen=True, slots=True)
class _Callers:
    """Who may call what. certificates: one of which they have shown; asked for at each call, since a
    connection may be older than the last change."""

    certificates: Callable[[], Sequence[bytes]]
    methods: Collection[Method]
    answering: Answering


def _over_grpc(callers: Sequence[_Callers], method: Method) -> Any:
    async def handle(messages: AsyncIterator[bytes], context: Any) -> AsyncGenerator[bytes]:
        of_method = (one for one in callers if method in one.methods)
        found = next((one for one in of_method if _is_shown(context, one.certificates())), None)
        if found is None:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "this is for the coordinator alone")
            return
        metadata = context.invocation_metadata() or ()
        try:
            async with (
                _cut_off(context, found.certificates),
                aclosing(found.answering.answer(method, messages, metadata)) as answers,
            ):
                async for raw in answers:
                    yield raw
        except CannotAnswerError as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))

    # On the wire a call of one message is a stream of one.
    return grpc.stream_stream_rpc_method_handler(handle)


@asynccontextmanager
async def _cut_off(context: Any, certificates: Callable[[], Sequence[bytes]]) -> AsyncIterator[None]:
    """Cancel the call, for the length of a block, as soon as its peer's certificate is pinned no longer."""
    call = asyncio.current_task()
    assert call is not None

    async def watch() -> None:
        known = tuple(certificates())
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now = tuple(certificates())
            if now != known and not _is_shown(context, now):
                log.warning("a call is cut off: its certificate is pinned no longer")
                call.cancel()
                return
            known = now

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()


def _is_shown(context: Any, pinned: Sequence[bytes]) -> bool:
    """Whether the peer has shown one of these certificates in the handshake."""
    shown = {fingerprint(pem) for pem in context.auth_context().get("x509_pem_cert", ())}
    return any(fingerprint(pem) in shown for pem in pinned)
