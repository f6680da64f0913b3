"""A node that dials: what it says while it is not connected, and that it comes back, whatever was in the way."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.handshake import Greeting
from heliosdb.domain.ids import NodeName, WorkspaceName
from heliosdb.node.config import NodeConfig
from heliosdb.node.service import serve
from heliosdb.transport.client import NodeClient
from heliosdb.transport.identity import Identity
from heliosdb.transport.reception import DialledCarrier, Reception
from tests.support.cluster import Cluster
from tests.support.connect_proxy import connect_proxy
from tests.support.federation import WORKSPACE, Federation, create_patients, until
from tests.support.ports import free_port

TIMEOUT = 180.0
GREETING = Greeting(WorkspaceName(WORKSPACE), NodeName("node"))


@dataclass
class Coordinator:
    """A reception in this loop, and the client of the one node that it expects."""

    federation: Federation
    port: int
    reception: Reception
    carrier: DialledCarrier
    client: NodeClient

    async def greets(self) -> int:
        """Wait for the node, and ask it what it shares; how many datasets."""
        await self.carrier.arrival(TIMEOUT)
        return len((await self.client.greet(GREETING, TIMEOUT)).datasets)

    async def greets_again(self) -> int:
        """The same, again and again while the connection that was cut is still taken for one."""
        async with asyncio.timeout(TIMEOUT):
            while True:
                try:
                    return await self.greets()
                except FederatedError as error:
                    assert error.code is ErrorCode.UNREACHABLE
                    await asyncio.sleep(0.05)


@asynccontextmanager
async def coordinator(
    federation: Federation, port: int, *, certificates: tuple[str, ...] = ("node",)
) -> AsyncIterator[Coordinator]:
    reception = Reception(lambda: federation.coordinator)
    await reception.listen("localhost", port)
    pinned = [(federation.directory / f"{name}.pem").read_bytes() for name in certificates]
    carrier = reception.carrier(pinned, "the node")
    client = NodeClient("the node", pinned, federation.coordinator, carrier=carrier)
    try:
        yield Coordinator(federation, port, reception, carrier, client)
    finally:
        await client.close()
        await reception.close()


@asynccontextmanager
async def dialling(config: NodeConfig) -> AsyncIterator[None]:
    """A node in this loop."""
    stopped = asyncio.Event()
    serving = asyncio.create_task(serve(config, stopped=stopped))
    try:
        yield
    finally:
        stopped.set()
        await serving


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation(tmp_path)


@pytest.fixture
def filled(cluster: Cluster, federated_database: str) -> str:
    create_patients(cluster, federated_database, rows=30)
    return federated_database


def told(config: NodeConfig) -> dict[str, str]:
    """What stands in the ready file."""
    assert config.ready_file is not None
    found: dict[str, str] = json.loads(config.ready_file.read_text()) if config.ready_file.exists() else {}
    return found


async def test_what_is_in_the_way_is_said_and_the_node_comes_once_it_is_gone(
    cluster: Cluster, filled: str, federation: Federation, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    async with connect_proxy(password="right") as proxy:
        config = federation.node_config(
            cluster,
            filled,
            dial=f"https://localhost:{port}",
            proxy=f"http://node:wrong@127.0.0.1:{proxy.port}",
            ready_file=tmp_path / "node.ready",
        )
        with caplog.at_level(logging.INFO):
            async with dialling(config):
                await until(lambda: "(407)" in told(config).get("reason", ""))
                assert told(config)["state"] == "waiting"
                assert "proxy =" in told(config)["remedy"]
                said = (
                    f"the proxy on the way to https://localhost:{port} asks for a user and a password (407)"
                )
                assert any(said in line for line in caplog.messages)
                assert "wrong" not in caplog.text
                proxy.forget_password()
                await until(lambda: "(407)" not in told(config).get("reason", ""))
                async with coordinator(federation, port) as asking:
                    assert await asking.greets() == 1
                    await until(lambda: told(config)["state"] == "ready")
                    assert proxy.targets[-1] == f"localhost:{port}"


async def test_a_node_goes_to_the_coordinator_that_leads_and_comes_back_to_one_that_was_away(
    cluster: Cluster, filled: str, federation: Federation
) -> None:
    first, second = free_port(), free_port()
    addresses = [f"https://localhost:{first}", f"https://localhost:{second}"]
    async with dialling(federation.node_config(cluster, filled, dial=addresses)):
        for port in (second, first, first):
            async with coordinator(federation, port) as asking:
                assert await asking.greets() == 1


async def test_a_new_certificate_is_shown_over_a_connection_that_stands_before_the_former_is_left(
    cluster: Cluster, filled: str, federation: Federation
) -> None:
    port = free_port()
    config = federation.node_config(cluster, filled, dial=f"https://localhost:{port}")
    former = Identity.load(config.certificate, config.private_key)
    federation.write("next", federation.authority.issue("node", ["localhost"]))
    following = (federation.directory / "next.pem").read_bytes()
    async with dialling(config), coordinator(federation, port, certificates=("node", "next")) as asking:
        assert await asking.greets() == 1
        for kind in ("key", "pem"):
            (federation.directory / f"next.{kind}").replace(federation.directory / f"node.{kind}")
        new = asking.reception.carrier([following], "the node with its new certificate")
        failed: list[FederatedError] = []
        while not new.is_there():
            try:
                await asking.client.heartbeat(TIMEOUT)
            except FederatedError as error:
                failed.append(error)
            await asyncio.sleep(0.01)
        assert failed == []
        old = asking.reception.carrier([former.certificate_pem], "the node with its former certificate")
        await until(lambda: not old.is_there())
        assert await asking.greets() == 1


async def test_a_connection_that_is_cut_is_made_anew(
    cluster: Cluster, filled: str, federation: Federation
) -> None:
    port = free_port()
    async with connect_proxy() as proxy:
        config = federation.node_config(
            cluster, filled, dial=f"https://localhost:{port}", proxy=f"http://127.0.0.1:{proxy.port}"
        )
        async with coordinator(federation, port) as asking, dialling(config):
            for cuts in range(5):
                assert await asking.greets_again() == 1
                proxy.cut()
                await until(lambda expected=cuts + 2: len(proxy.targets) >= expected)  # type: ignore[misc]
            assert await asking.greets_again() == 1
