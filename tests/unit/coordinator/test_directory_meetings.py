"""How many nodes a coordinator meets at once: a thousand are met one after the other, and who dials in is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from heliosdb.catalog.nodes import CommunicationProtocol, LinkPolicy, NodeRecord, NodeStatus
from heliosdb.coordinator import directory
from heliosdb.coordinator.config import CoordinatorConfig
from heliosdb.coordinator.directory import Directory
from heliosdb.coordinator.session import CatalogSession
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import Epoch, NodeName, WorkspaceName

NODES = 80


class Meetings:
    """Takes the place of every link: meetings last until they are told to end, and then fail."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.end = asyncio.Event()
        self.client = None

    async def meet(self, record: NodeRecord, check: Callable[..., None]) -> None:
        del check
        self.begun.append(record.name)
        await self.end.wait()
        raise FederatedError(ErrorCode.UNREACHABLE, "nobody is there")

    async def close(self) -> None:
        """Nothing."""


class NoCatalog:
    """A session that writes nothing."""

    async def call(self, write: Callable[[Any], None]) -> None:
        del write


@pytest.fixture
def meetings(monkeypatch: pytest.MonkeyPatch) -> Iterator[Meetings]:
    made = Meetings()
    monkeypatch.setattr(directory, "Link", lambda *_: made)
    return made


async def known(link: LinkPolicy) -> Directory:
    config = cast(CoordinatorConfig, SimpleNamespace(reconnect_interval=1000.0))
    nodes = Directory(config, lambda: None, cast(CatalogSession, NoCatalog()), Epoch(1))  # type: ignore[arg-type, return-value]
    await nodes.refresh([record(number, link) for number in range(NODES)], as_of=0.0)
    return nodes


def record(number: int, link: LinkPolicy) -> NodeRecord:
    name = NodeName(f"n{number:02}")
    at = "" if link.nodes_come else f"https://{name}"
    return NodeRecord(
        number, name, WorkspaceName("w"), "{}", at, None, None, NodeStatus.PENDING, None, link=link
    )


async def turns() -> None:
    """Let everybody do what can be done without waiting."""
    for _ in range(2 * NODES):
        await asyncio.sleep(0)


async def test_many_nodes_are_met_some_at_a_time(meetings: Meetings) -> None:
    nodes = await known(LinkPolicy())
    await turns()
    first = list(meetings.begun)

    meetings.end.set()
    await turns()
    await nodes.close()

    assert len(first) == 32
    assert first == sorted(first)
    assert sorted(meetings.begun) == [f"n{number:02}" for number in range(NODES)]


async def test_nodes_that_dial_are_all_waited_for(meetings: Meetings) -> None:
    nodes = await known(LinkPolicy(protocol=CommunicationProtocol.HTTPS))
    await turns()
    await nodes.close()

    assert len(meetings.begun) == NODES
