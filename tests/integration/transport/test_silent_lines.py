"""A peer that has gone silent is noticed by the signs of life that a connection is asked for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.handshake import Greeting, Introduction
from heliosdb.domain.ids import NodeName, WorkspaceName
from heliosdb.transport import dialling
from heliosdb.transport.answering import Answerer
from heliosdb.transport.authority import Authority
from heliosdb.transport.client import NodeClient
from heliosdb.transport.server import ServerIdentity, make_server, server_credentials
from tests.support.federation import until
from tests.support.line import Line, opened
from tests.support.performers import Unsubscribed
from tests.support.ways import ARRIVAL, receiving

TIMEOUT = 120.0
FOUND_OUT = 30.0
"""Seconds: less than the default interval, and many times those of these tests."""

GREETING = Greeting(WorkspaceName("w"), NodeName("n"))
AUTHORITY = Authority.create("one")
NODE, COORDINATOR = AUTHORITY.issue("n", ["localhost"]), AUTHORITY.issue("c", ["localhost"])


class Thinker(Unsubscribed):
    """Answers a greeting when it is told to."""

    def __init__(self) -> None:
        self.asked, self.answers = asyncio.Event(), asyncio.Event()

    async def introduce(self, greeting: Greeting) -> Introduction:
        self.asked.set()
        await self.answers.wait()
        return Introduction(())


@asynccontextmanager
async def over_a_line(node: Thinker, keepalive: int) -> AsyncIterator[tuple[NodeClient, Line]]:
    identity = ServerIdentity(NODE, (COORDINATOR.certificate_pem,))
    server, port = make_server(
        node, lambda: identity.pinned, server_credentials(lambda: identity), "127.0.0.1", 0
    )
    await server.start()
    async with opened(port) as line:
        pinned = [NODE.certificate_pem]
        client = NodeClient(f"https://localhost:{line.port}", pinned, COORDINATOR, keepalive=keepalive)
        yield client, line
        await client.close()
    await server.stop(0)


async def comes_back(client: NodeClient) -> None:
    """Greet until there is an answer: a call may still find the connection that is just being given up."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            try:
                await client.greet(GREETING, TIMEOUT)
            except FederatedError as error:
                assert error.code is ErrorCode.UNREACHABLE
            else:
                return


async def test_a_line_that_goes_deaf_ends_the_call_on_it_and_another_is_made() -> None:
    node = Thinker()
    async with over_a_line(node, keepalive=1) as (client, line):
        call = asyncio.create_task(client.greet(GREETING, TIMEOUT))
        await node.asked.wait()
        assert line.deafen() == 1

        began = time.monotonic()
        with pytest.raises(FederatedError) as caught:
            await call
        assert caught.value.code is ErrorCode.UNREACHABLE
        assert time.monotonic() - began < FOUND_OUT

        node.answers.set()
        await comes_back(client)
        assert line.accepted == 2


async def test_an_idle_connection_is_asked_again_and_again_and_stays() -> None:
    node = Thinker()
    node.answers.set()
    async with over_a_line(node, keepalive=1) as (client, line):
        await client.greet(GREETING, TIMEOUT)
        carried = line.blocks

        # More than the two that gRPC sends by itself, and the three after which a server hangs up.
        await until(lambda: line.blocks >= carried + 6)

        await client.greet(GREETING, TIMEOUT)
        assert line.accepted == 1


async def test_a_node_that_dials_finds_out_that_its_line_went_deaf() -> None:
    pinned = (COORDINATOR.certificate_pem,)
    answerer = Answerer(Thinker(), lambda: pinned)  # type: ignore[arg-type]
    async with receiving(COORDINATOR) as (reception, port), opened(port) as line:
        carrier = reception.carrier([NODE.certificate_pem], "the node")
        address, identity = f"https://localhost:{line.port}", ServerIdentity(NODE, pinned)
        dialled = dialling.Line(address, identity, answerer, keepalive=1)
        await dialled.open()
        await carrier.arrival(ARRIVAL)
        assert not dialled.is_broken
        assert line.deafen() == 1

        async with asyncio.timeout(FOUND_OUT):
            assert (await dialled.broken()).code is ErrorCode.UNREACHABLE
        await dialled.close()
