"""A node and the coordinator's client of it, whoever of them dials: what answers is a test's performer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from heliosdb.transport.answering import Answerer, Performer
from heliosdb.transport.client import NodeClient
from heliosdb.transport.dialling import Line
from heliosdb.transport.identity import Identity
from heliosdb.transport.reception import Reception
from heliosdb.transport.server import ServerIdentity, make_server, server_credentials

ARRIVAL = 60.0

Way = Callable[[Performer, Identity, Identity], AbstractAsyncContextManager[NodeClient]]
"""Connects a performer's node (its identity first) and a coordinator, and gives the coordinator's client."""


@asynccontextmanager
async def listening(performer: Performer, node: Identity, coordinator: Identity) -> AsyncIterator[NodeClient]:
    """The node listens, and the coordinator dials."""
    identity = ServerIdentity(node, (coordinator.certificate_pem,))
    credentials = server_credentials(lambda: identity)
    server, port = make_server(performer, lambda: identity.pinned, credentials, "localhost", 0)
    await server.start()
    client = NodeClient(f"https://localhost:{port}", [node.certificate_pem], coordinator)
    try:
        yield client
    finally:
        await client.close()
        await server.stop(0)


@asynccontextmanager
async def dialling(performer: Performer, node: Identity, coordinator: Identity) -> AsyncIterator[NodeClient]:
    """The coordinator listens, and the node dials."""
    async with receiving(coordinator) as (reception, port):
        carrier = reception.carrier([node.certificate_pem], "the node")
        client = NodeClient("the node", [node.certificate_pem], coordinator, carrier=carrier)
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


WAYS: tuple[Way, ...] = (listening, dialling)
