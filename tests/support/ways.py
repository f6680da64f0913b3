"""A node and the coordinator's client of it, whoever of them dials: what answers is a test's performer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from heliosdb.domain.limits import NO_LIMITS, Limits
from heliosdb.transport.answering import Answerer, Performer
from heliosdb.transport.client import NodeClient
from heliosdb.transport.dialling import Line
from heliosdb.transport.identity import Identity
from heliosdb.transport.reception import Reception
from heliosdb.transport.relay import Relay
from heliosdb.transport.relay_carrier import RelayedCarrier
from heliosdb.transport.relayed import RelayedCalls
from heliosdb.transport.server import ServerIdentity, make_server, server_credentials
from tests.support.courier import Courier, carrying

ARRIVAL = 60.0


class Way(Protocol):
    """Connects a performer's node and a coordinator, and gives the coordinator's client."""

    def __call__(
        self, performer: Performer, node: Identity, coordinator: Identity, limits: Limits = NO_LIMITS
    ) -> AbstractAsyncContextManager[NodeClient]:
        """limits: what is asked of the node's machine."""
        ...


@asynccontextmanager
async def listening(
    performer: Performer, node: Identity, coordinator: Identity, limits: Limits = NO_LIMITS
) -> AsyncIterator[NodeClient]:
    """The node listens, and the coordinator dials."""
    identity = ServerIdentity(node, (coordinator.certificate_pem,))
    credentials = server_credentials(lambda: identity)
    server, port = make_server(performer, lambda: identity.pinned, credentials, "localhost", 0)
    await server.start()
    client = NodeClient(f"https://localhost:{port}", [node.certificate_pem], coordinator, limits=limits)
    try:
        yield client
    finally:
        await client.close()
        await server.stop(0)


@asynccontextmanager
async def dialling(
    performer: Performer, node: Identity, coordinator: Identity, limits: Limits = NO_LIMITS
) -> AsyncIterator[NodeClient]:
    """The coordinator listens, and the node dials."""
    async with receiving(coordinator) as (reception, port):
        carrier = reception.carrier([node.certificate_pem], "the node")
        client = NodeClient("the node", [node.certificate_pem], coordinator, limits=limits, carrier=carrier)
        pinned = (coordinator.certificate_pem,)
        answerer = Answerer(performer, lambda: pinned)
        line = Line(f"https://localhost:{port}", ServerIdentity(node, pinned), answerer)
        try:
            await line.open()
            await carrier.arrival(ARRIVAL)
            yield client
        finally:
            await line.close()
            await client.close()


@asynccontextmanager
async def receiving(coordinator: Identity) -> AsyncIterator[tuple[Reception, int]]:
    """A coordinator that listens, and its port."""
    reception = Reception(lambda: coordinator)
    port = await reception.listen("localhost", 0)
    try:
        yield reception, port
    finally:
        await reception.close()


@asynccontextmanager
async def relayed(
    performer: Performer, node: Identity, coordinator: Identity, limits: Limits = NO_LIMITS
) -> AsyncIterator[NodeClient]:
    """Somebody else carries the messages, as Flower does, and neither listens on a network."""
    pinned = (coordinator.certificate_pem,)
    calls = RelayedCalls(lambda: ServerIdentity(node, pinned), Answerer(performer, lambda: pinned))
    async with relaying(coordinator) as (relay, socket), carrying(Courier(socket, {7: calls.exchange})):
        carrier = RelayedCarrier(relay, [node.certificate_pem], "the node")
        client = NodeClient("the node", [node.certificate_pem], coordinator, limits=limits, carrier=carrier)
        try:
            await client.arrival(ARRIVAL)
            yield client
        finally:
            await client.close()
            await calls.close()


@asynccontextmanager
async def relaying(coordinator: Identity) -> AsyncIterator[tuple[Relay, Path]]:
    """A coordinator that hands batches over, and the socket at which it does."""
    relay = Relay(lambda: coordinator, hold=0.1)
    with TemporaryDirectory() as directory:
        socket = Path(directory) / "coordinator.sock"
        await relay.listen(socket)
        try:
            yield relay, socket
        finally:
            await relay.close()


WAYS: tuple[Way, ...] = (listening, dialling, relayed)
