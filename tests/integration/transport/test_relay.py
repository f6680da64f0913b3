"""What carries between a coordinator and its nodes may drop, repeat, reorder, alter and swap: nobody believes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.handshake import Greeting, Introduction
from heliosdb.domain.ids import NodeName, WorkspaceName
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport.answering import Answerer
from heliosdb.transport.authority import Authority
from heliosdb.transport.carriers import UnsentError
from heliosdb.transport.client import NodeClient
from heliosdb.transport.identity import Identity
from heliosdb.transport.relay import Relay
from heliosdb.transport.relay_carrier import RelayedCarrier
from heliosdb.transport.relay_sealing import Hello
from heliosdb.transport.relayed import RelayedCalls
from heliosdb.transport.server import ServerIdentity
from tests.support.courier import Courier, carrying
from tests.support.federation import until
from tests.support.performers import Unsubscribed
from tests.support.ways import ARRIVAL, relaying

AUTHORITY = Authority.create("authority")
EAST, WEST, COORDINATOR, STRANGER = (
    AUTHORITY.issue(name, ["localhost"]) for name in ("east", "west", "coordinator", "stranger")
)
TIMEOUT = 60.0
HELLO = Greeting(WorkspaceName("w"), NodeName("n"))


@dataclass
class Greeter(Unsubscribed):
    """Counts greetings, and answers when it may."""

    residency: str
    greetings: int = 0
    may: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.may.set()

    async def introduce(self, greeting: Greeting) -> Introduction:
        self.greetings += 1
        try:
            await self.may.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return Introduction((), data_residency=self.residency)


@dataclass
class Site:
    """A node, and the coordinator's client of it."""

    greeter: Greeter
    calls: RelayedCalls
    client: NodeClient

    async def residency(self) -> str | None:
        """What it says of itself."""
        return (await self.client.greet(HELLO, TIMEOUT)).data_residency


@dataclass
class Net:
    """Two nodes, a coordinator, and what carries between them."""

    relay: Relay
    courier: Courier
    east: Site
    west: Site

    async def recovers(self) -> None:
        """Wait until both answer again."""
        for site, said in ((self.east, "EAST"), (self.west, "WEST")):
            await site.client.arrival(ARRIVAL)
            assert await site.residency() == said


def node(identity: Identity, said: str, relay: Relay) -> Site:
    """A node of that certificate."""
    greeter, pins = Greeter(said), (COORDINATOR.certificate_pem,)
    calls = RelayedCalls(lambda: ServerIdentity(identity, pins), Answerer(greeter, lambda: pins))
    carrier = RelayedCarrier(relay, [identity.certificate_pem], said)
    return Site(greeter, calls, NodeClient(said, [identity.certificate_pem], COORDINATOR, carrier=carrier))


@asynccontextmanager
async def connected() -> AsyncIterator[Net]:
    """Both nodes have a session, at places 1 and 2."""
    async with relaying(COORDINATOR) as (relay, socket):
        east, west = node(EAST, "EAST", relay), node(WEST, "WEST", relay)
        courier = Courier(socket, {1: east.calls.exchange, 2: west.calls.exchange})
        async with carrying(courier):
            net = Net(relay, courier, east, west)
            await net.recovers()
            yield net
        for site in (east, west):
            await site.client.close()
            await site.calls.close()


def envelopes(
    change: Callable[[list[pb.RelayEnvelope]], list[pb.RelayEnvelope]],
) -> Callable[[int, bytes], bytes]:
    """Change the envelopes of each batch."""

    def meddle(_: int, raw: bytes) -> bytes:
        batch = pb.RelayBatch.FromString(raw)
        changed = change(list(batch.envelopes))
        return pb.RelayBatch(
            envelopes=changed, hold_ms=batch.hold_ms, pending=batch.pending
        ).SerializeToString()

    return meddle


def flipped(found: list[pb.RelayEnvelope]) -> list[pb.RelayEnvelope]:
    """A bit of each that is sealed is another one."""
    for one in found:
        if one.HasField("sealed"):
            sealed = one.sealed.sealed
            one.sealed.sealed = bytes([sealed[0] ^ 1]) + sealed[1:]
    return found


async def test_what_comes_twice_is_heard_once() -> None:
    async with connected() as net:
        net.courier.down = net.courier.up = envelopes(lambda found: found + found)
        assert await net.east.residency() == "EAST"
        assert await net.east.residency() == "EAST"
        assert net.east.greeter.greetings == 3


async def test_what_is_repeated_later_is_heard_once_and_changes_nothing() -> None:
    async with connected() as net:
        kept: list[bytes] = []
        net.courier.down = lambda _, batch: kept.append(batch) or batch  # type: ignore[func-returns-value]
        assert await net.east.residency() == "EAST"
        answers = [await net.east.calls.exchange(batch) for batch in kept]
        assert all(not pb.RelayBatch.FromString(one).envelopes for one in answers)
        assert await net.east.residency() == "EAST"
        assert net.east.greeter.greetings == 3


async def test_an_offer_that_is_repeated_within_a_batch_is_answered_once() -> None:
    """Each answer costs the node a signature."""
    async with relaying(COORDINATOR) as (relay, _):
        east = node(EAST, "EAST", relay)
        batch = pb.RelayBatch(envelopes=[pb.RelayEnvelope(hello=Hello(COORDINATOR).message)] * 100)
        answer = pb.RelayBatch.FromString(await east.calls.exchange(batch.SerializeToString()))
        assert [one.WhichOneof("kind") for one in answer.envelopes] == ["welcome"]
        await east.client.close()
        await east.calls.close()


async def test_a_session_offer_that_is_repeated_ends_none() -> None:
    hellos: list[bytes] = []

    def note(_: int, batch: bytes) -> bytes:
        if any(one.HasField("hello") for one in pb.RelayBatch.FromString(batch).envelopes):
            hellos.append(batch)
        return batch

    async with relaying(COORDINATOR) as (relay, socket):
        east = node(EAST, "EAST", relay)
        async with carrying(Courier(socket, {1: east.calls.exchange}, down=note)):
            await east.client.arrival(ARRIVAL)
            assert await east.residency() == "EAST"
            for _ in range(50):
                await east.calls.exchange(hellos[0])
            assert await east.residency() == "EAST"
        await east.client.close()
        await east.calls.close()


async def test_the_order_of_what_travels_together_does_not_matter() -> None:
    async with connected() as net:
        net.east.greeter.may.clear()
        net.courier.down = net.courier.up = envelopes(lambda found: found[::-1])
        asked = [asyncio.create_task(net.east.residency()) for _ in range(8)]
        net.east.greeter.may.set()
        assert await asyncio.gather(*asked) == ["EAST"] * 8


@pytest.mark.parametrize("way", ["down", "up"])
async def test_what_was_altered_is_refused_and_asked_again_in_another_session(way: str) -> None:
    async with connected() as net:
        setattr(net.courier, way, envelopes(flipped))
        with pytest.raises(FederatedError) as caught:
            await net.east.residency()
        assert caught.value.code is ErrorCode.UNREACHABLE
        assert not isinstance(caught.value, UnsentError)
        assert net.east.greeter.greetings == (1 if way == "down" else 2)
        net.courier.down = net.courier.up = lambda _, batch: batch
        await net.recovers()


async def test_what_is_no_batch_ends_the_session_and_no_more() -> None:
    async with connected() as net:
        net.courier.up = lambda place, batch: b"\xff" * 40 if place == 1 else batch
        with pytest.raises(FederatedError, match="ended under the call"):
            await net.east.residency()
        assert await net.west.residency() == "WEST"
        net.courier.up = lambda _, batch: batch
        await net.recovers()


async def test_what_is_dropped_is_waited_for_until_it_is_known_to_be_lost() -> None:
    async with connected() as net:
        dropped: list[bytes] = []
        net.courier.up = lambda _, batch: dropped.append(batch)  # type: ignore[func-returns-value]
        asked = asyncio.create_task(net.east.residency())
        await until(lambda: len(dropped) > 0)
        assert not asked.done()
        net.courier.up = lambda _, batch: batch
        await net.courier.lose(1)
        with pytest.raises(FederatedError, match="ended under the call"):
            await asked
        await net.recovers()


async def test_what_is_brought_to_another_node_is_not_heard_there() -> None:
    async with connected() as net:
        net.courier.places = {1: net.west.calls.exchange, 2: net.east.calls.exchange}
        with pytest.raises(FederatedError, match="ended under the call"):
            await net.east.residency()
        assert net.west.greeter.greetings == 1
        # Where they are is no matter: each is found by the certificate with which it signs.
        await net.recovers()


async def test_a_node_that_has_another_place_is_found_there_and_fails_what_waited_at_the_former() -> None:
    async with connected() as net:
        net.east.greeter.may.clear()
        net.courier.up = lambda place, batch: None if place == 1 else batch
        asked = asyncio.create_task(net.east.residency())
        await until(lambda: net.east.greeter.greetings == 2)
        net.courier.places[3] = net.east.calls.exchange
        await net.courier.tell_places()
        with pytest.raises(FederatedError, match="ended under the call"):
            await asked
        net.east.greeter.may.set()
        await net.recovers()


async def test_a_stranger_at_a_place_gets_no_session() -> None:
    async with relaying(COORDINATOR) as (relay, socket):
        stranger, east = node(STRANGER, "STRANGER", relay), node(EAST, "EAST", relay)
        await stranger.client.close()
        offered = asyncio.Event()

        async def exchange(batch: bytes) -> bytes:
            offered.set()
            return await stranger.calls.exchange(batch)

        async with carrying(Courier(socket, {1: exchange, 2: east.calls.exchange})):
            await offered.wait()
            await east.client.arrival(ARRIVAL)
            assert await east.residency() == "EAST"
            assert relay.find([STRANGER.certificate_pem]) is None
        await east.client.close()
        await asyncio.gather(east.calls.close(), stranger.calls.close())


async def test_a_call_that_is_left_is_left_at_the_node_too() -> None:
    async with connected() as net:
        net.east.greeter.may.clear()
        asked = asyncio.create_task(net.east.residency())
        await until(lambda: net.east.greeter.greetings == 2)
        asked.cancel()
        await asyncio.wait({asked})
        async with asyncio.timeout(ARRIVAL):
            await net.east.greeter.cancelled.wait()


async def test_a_call_says_whether_anything_of_it_can_have_arrived() -> None:
    async with relaying(COORDINATOR) as (relay, socket):
        east = node(EAST, "EAST", relay)
        with pytest.raises(UnsentError, match="Flower's ServerApp has not connected"):
            await east.residency()
        async with carrying(Courier(socket, {})):
            await until(lambda: relay.is_connected)
            with pytest.raises(UnsentError, match="has not answered over Flower yet"):
                await east.residency()
        await east.client.close()
        with pytest.raises(UnsentError):
            await east.residency()
        await east.calls.close()


async def test_calls_fail_where_what_carried_them_is_gone() -> None:
    async with connected() as net:
        net.east.greeter.may.clear()
        asked = asyncio.create_task(net.east.residency())
        await until(lambda: net.east.greeter.greetings == 2)
        async with carrying(Courier(net.courier.socket, net.courier.places)):
            with pytest.raises(FederatedError, match="ended under the call"):
                await asked
            net.east.greeter.may.set()
            await net.recovers()
