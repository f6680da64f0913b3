"""A link takes other pins, another identity and another address without a word to the calls under way."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from heliosdb.catalog.nodes import NodeRecord, NodeStatus
from heliosdb.coordinator.config import CoordinatorConfig
from heliosdb.coordinator.links import Link
from heliosdb.domain.clock import SystemClock
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.handshake import Greeting, Introduction
from heliosdb.domain.ids import NodeName, WorkspaceName
from heliosdb.transport.authority import Authority
from heliosdb.transport.grpc_carrier import GrpcCarrier
from heliosdb.transport.identity import Identity, fingerprint
from heliosdb.transport.server import ServerIdentity, make_server, server_credentials
from tests.support.performers import Unsubscribed

AUTHORITY = Authority.create("authority")
OLD, NEW, OTHER = (AUTHORITY.issue(name, ["localhost"]) for name in ("old", "new", "other"))
BEFORE, AFTER = (AUTHORITY.issue("coordinator", ["localhost"]) for _ in range(2))
TIMEOUT = 120.0
SLOW = Greeting(WorkspaceName("w"), NodeName("slow"))
CONFIG = cast(CoordinatorConfig, SimpleNamespace(heartbeat_timeout=TIMEOUT, ca_bundle=None))


class Node(Unsubscribed):
    """Answers at once, and the greeting of a slow node when it is told to."""

    def __init__(self) -> None:
        self.shows, self.signs = OLD, OLD
        self.asked, self.answers = asyncio.Event(), asyncio.Event()

    def identity(self) -> ServerIdentity:
        return ServerIdentity(self.shows, (BEFORE.certificate_pem, AFTER.certificate_pem))

    async def introduce(self, greeting: Greeting) -> Introduction:
        if greeting.node == SLOW.node:
            self.asked.set()
            await self.answers.wait()
        return Introduction((), certificate_sha256=bytes.fromhex(fingerprint(self.signs.certificate_pem)))


@asynccontextmanager
async def serving(node: Node) -> AsyncIterator[int]:
    credentials = server_credentials(node.identity)
    server, port = make_server(node, lambda: node.identity().pinned, credentials, "127.0.0.1", 0)
    await server.start()
    yield port
    await server.stop(0)


def record(port: int, *pinned: Identity) -> NodeRecord:
    text = "".join(one.certificate_pem.decode() for one in pinned)
    name, workspace = NodeName("n"), WorkspaceName("w")
    endpoint = f"https://localhost:{port}"
    return NodeRecord(1, name, workspace, "{}", endpoint, text, None, NodeStatus.PENDING, None)


def link(identity: Callable[[], Identity]) -> Link:
    return Link(CONFIG, identity, SystemClock())


async def test_a_call_under_way_outlives_a_rotation_on_both_sides_and_its_client_then_closes() -> None:
    node, now = Node(), [BEFORE]
    held = link(lambda: now[-1])
    async with serving(node) as port:
        await held.meet(record(port, OLD), lambda _: None)
        client = held.client
        assert client is not None
        call = asyncio.create_task(client.greet(SLOW, TIMEOUT))
        await node.asked.wait()
        assert isinstance(client._carrier, GrpcCarrier)
        channel = client._carrier._channel._channel

        both = record(port, OLD, NEW)
        await held.meet(both, lambda _: None)
        assert held.certificate == OLD.certificate_pem
        now.append(AFTER)
        node.shows = node.signs = NEW
        assert await held.is_outdated(both)
        await held.meet(both, lambda _: None)
        assert held.client is not client
        assert held.certificate == NEW.certificate_pem
        assert not await held.is_outdated(both)

        del client
        node.answers.set()
        assert await call == Introduction(
            (), certificate_sha256=bytes.fromhex(fingerprint(NEW.certificate_pem))
        )
        del call
        gc.collect()
        assert channel.closed()
        await held.close()


async def test_other_pins_without_one_of_the_former_close_what_is_under_way() -> None:
    node = Node()
    held = link(lambda: BEFORE)
    async with serving(node) as port:
        await held.meet(record(port, OLD), lambda _: None)
        assert held.client is not None
        call = asyncio.create_task(held.client.greet(SLOW, TIMEOUT))
        await node.asked.wait()
        with pytest.raises(FederatedError) as refused:
            await held.meet(record(port, NEW), lambda _: None)
        assert refused.value.code is ErrorCode.IDENTITY
        assert held.client is None
        with pytest.raises(FederatedError):
            await call
        await held.close()


async def test_a_node_that_signs_with_a_certificate_that_is_not_pinned_is_not_met() -> None:
    node = Node()
    node.signs = OTHER
    held = link(lambda: BEFORE)
    async with serving(node) as port:
        with pytest.raises(FederatedError, match="signs with a certificate that is not pinned") as caught:
            await held.meet(record(port, OLD), lambda _: None)
        assert fingerprint(OTHER.certificate_pem) in caught.value.message
        assert held.client is None
        await held.close()


async def test_the_backup_endpoint_is_left_alone_while_the_endpoint_answers() -> None:
    node = Node()
    held = link(lambda: BEFORE)
    async with serving(node) as port:
        away = await _closed_port()
        given = replace(record(away, OLD), backup_endpoint=f"https://localhost:{port}")
        await held.meet(given, lambda _: None)
        assert held.endpoint == f"https://localhost:{port}"
        assert await held.return_to_endpoint(given) is None
        assert held.endpoint == f"https://localhost:{port}"

        there = replace(given, endpoint=f"https://localhost:{port}", backup_endpoint=given.endpoint)
        await held.meet(there, lambda _: None)
        assert held.endpoint == there.endpoint
        await held.close()


async def _closed_port() -> int:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port
