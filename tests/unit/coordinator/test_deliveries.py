"""What is pending is offered once, tried again later where it failed, and a version is held once for all nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import psycopg
import pytest

from heliosdb.catalog.deliveries import PendingDelivery
from heliosdb.coordinator.config import CoordinatorConfig
from heliosdb.coordinator.deliveries import Attempts, Deliveries, Shelf, is_settled
from heliosdb.coordinator.directory import Directory
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import ModelName, NodeName, SubscriptionName, VersionKey, WorkspaceName
from heliosdb.domain.subscription import Content, Contract, Offer, Outcome, Subscription
from heliosdb.observing.table import DELIVERIES
from heliosdb.transport.room import SMALL, Room
from tests.support.heard import hearing

KEY, LATER = VersionKey(UUID(int=1)), VersionKey(UUID(int=2))
NAME = SubscriptionName("s")
OFFER = Offer(WorkspaceName("w"), NodeName("n"), NAME, ModelName("m"), None, Outcome.OFFERED, "", 1, KEY)
WAITING = replace(OFFER, outcome=Outcome.WAITING, version=None, key=None)
RETIRED = replace(OFFER, outcome=Outcome.RETIRED)
BEFORE = Subscription(NAME, ModelName("m"))
HEARD = replace(BEFORE, heard_outcome=Outcome.OFFERED, heard_key=KEY)
CONTENT = Content.of(("x",), Contract("a"), b"{}", b"12345678")


def pending(node_id: int = 1, offer: Offer = OFFER, *, carries: bool = True) -> PendingDelivery:
    return PendingDelivery(node_id, offer, carries)


@pytest.mark.parametrize(
    ("delivery", "said", "settled"),
    [
        (pending(), replace(HEARD, held_key=KEY, held_version=1), True),
        (pending(), replace(HEARD, refused_key=KEY), True),
        (pending(), replace(HEARD, takes=False), True),
        (pending(), HEARD, False),
        (pending(), replace(HEARD, heard_key=LATER, held_key=KEY), False),
        (pending(), BEFORE, False),
        (pending(carries=False), HEARD, True),
        (pending(offer=WAITING, carries=False), replace(BEFORE, heard_outcome=Outcome.WAITING), True),
        (pending(offer=WAITING, carries=False), BEFORE, False),
        (pending(offer=RETIRED, carries=False), BEFORE, True),
        (pending(offer=RETIRED, carries=False), replace(HEARD, held_key=LATER, held_version=2), True),
        (pending(offer=RETIRED, carries=False), replace(BEFORE, held_key=KEY, held_version=1), False),
        (pending(offer=RETIRED, carries=False), replace(BEFORE, kept_keys=(LATER, KEY)), False),
    ],
)
def test_a_delivery_is_settled_by_the_nodes_own_word(
    delivery: PendingDelivery, said: Subscription, settled: bool
) -> None:
    assert is_settled(delivery, said) is settled


def test_what_failed_is_tried_again_after_twice_as_long_and_another_offer_at_once() -> None:
    attempts, one = Attempts(longest=5.0), pending()
    assert attempts.is_due(one, 0.0)
    now = 100.0
    for pause in (1.0, 2.0, 4.0, 5.0, 5.0):
        attempts.fail(one, now)
        assert not attempts.is_due(one, now + pause - 0.001)
        assert attempts.is_due(one, now + pause)
        now += pause
    assert attempts.is_due(pending(offer=replace(OFFER, key=LATER)), now - 1.0)
    assert attempts.is_due(pending(2), now - 1.0)
    attempts.succeed(one)
    assert attempts.is_due(one, now - 1.0)
    attempts.fail(one, now)
    attempts.keep([pending(2)])
    assert attempts.is_due(one, now)


class Loads:
    """Versions that come when a test lets them; all are as large as the room, but for those of `small`."""

    def __init__(self, small: VersionKey | None = None) -> None:
        self.small = small
        self.asked: list[VersionKey] = []
        self.come = asyncio.Event()
        self.room = Room(SMALL + 1)

    async def measure(self, key: VersionKey) -> int:
        return SMALL if key == self.small else SMALL + 1

    async def load(self, key: VersionKey) -> Content | None:
        self.asked.append(key)
        await self.come.wait()
        return CONTENT

    def shelf(self) -> Shelf:
        return Shelf(self.measure, self.load, self.room)


async def hold(shelf: Shelf, key: VersionKey, until: asyncio.Event) -> Content | None:
    async with shelf.borrow(key) as content:
        await until.wait()
    return content


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_version_is_read_once_for_all_who_are_given_it() -> None:
    loads, done = Loads(), asyncio.Event()
    shelf = loads.shelf()
    holders = [asyncio.create_task(hold(shelf, KEY, done)) for _ in range(3)]
    other = asyncio.create_task(hold(shelf, LATER, done))
    loads.come.set()
    await settle()
    # The other one is not read before there is room for it.
    assert (loads.asked, loads.room.held) == ([KEY], SMALL + 1)
    done.set()
    assert await asyncio.gather(*holders, other) == [CONTENT] * 4
    assert (loads.asked, loads.room.held) == ([KEY, LATER], 0)


async def test_a_small_version_waits_for_no_large_one() -> None:
    loads, done = Loads(small=LATER), asyncio.Event()
    shelf = loads.shelf()
    holders = [asyncio.create_task(hold(shelf, key, done)) for key in (KEY, LATER)]
    await settle()
    assert loads.asked == [KEY, LATER]
    loads.come.set()
    done.set()
    await asyncio.gather(*holders)


@pytest.mark.parametrize("key", [KEY, LATER])
async def test_who_goes_away_while_a_version_comes_leaves_nothing_behind(key: VersionKey) -> None:
    """Also while it waits for room."""
    loads, done = Loads(), asyncio.Event()
    shelf = loads.shelf()
    first = asyncio.create_task(hold(shelf, KEY, done))
    await settle()
    gone = first if key == KEY else asyncio.create_task(hold(shelf, key, done))
    await settle()
    gone.cancel()
    await settle()
    loads.come.set()
    done.set()
    if gone is not first:
        await first
    assert await hold(shelf, LATER, done) == CONTENT
    assert (loads.asked, loads.room.held) == ([KEY, LATER], 0)


@dataclass
class Client:
    """A node's client that answers what a test says."""

    answer: Callable[[Offer], Subscription]
    deaf: bool = False
    offered: list[tuple[Offer, Content | None]] = field(default_factory=list)

    async def deliver(
        self,
        offer: Offer,
        content: Content | None,
        _timeout: float,
        *,
        sent: Callable[[], None],
    ) -> Subscription:
        self.offered.append((offer, content))
        if self.deaf:
            await asyncio.Event().wait()
        sent()
        return self.answer(offer)


class Nodes:
    """A directory of nodes that are there; what is recorded is kept."""

    def __init__(self, **clients: Client) -> None:
        self.members = {
            place: SimpleNamespace(name=name, client=client, record=SimpleNamespace(id=place))
            for place, (name, client) in enumerate(clients.items(), 1)
        }
        self.heard: list[tuple[str, Subscription]] = []
        self.failures: list[tuple[str, str]] = []
        self.fenced = False

    def find_by_id(self, node_id: int) -> Any:
        return self.members.get(node_id)

    async def hear_of(self, member: Any, said: Subscription) -> None:
        if self.fenced:
            raise FederatedError(ErrorCode.FENCED, "another coordinator has taken over")
        self.heard.append((member.name, said))

    async def hear_failure(self, member: Any, name: SubscriptionName, failure: str) -> None:
        self.failures.append((member.name, failure))


def follows(offer: Offer) -> Subscription:
    """What a node says that takes everything."""
    return replace(
        BEFORE,
        heard_outcome=offer.outcome,
        heard_key=offer.key,
        held_key=offer.key,
        held_version=offer.version,
    )


def refuses(offer: Offer) -> Subscription:
    raise FederatedError(ErrorCode.IDENTITY, f"not for {offer.node}")


def breaks(offer: Offer) -> Subscription:
    raise LookupError(offer.node)


async def load(_deliveries: Deliveries, key: VersionKey) -> Content | None:
    return None if key == LATER else CONTENT


async def lose(_deliveries: Deliveries, key: VersionKey) -> Content | None:
    raise psycopg.OperationalError(str(key))


async def measure(_deliveries: Deliveries, _run: VersionKey) -> int:
    return CONTENT.size


async def make_deliveries(nodes: Nodes, monkeypatch: pytest.MonkeyPatch, loading: Any = load) -> Deliveries:
    monkeypatch.setattr(Deliveries, "_load", loading)
    monkeypatch.setattr(Deliveries, "_measure", measure)
    nowhere = Path("/nowhere")
    config = CoordinatorConfig(
        database="dbname=nowhere", certificate=nowhere, private_key=nowhere, state_directory=nowhere
    )
    return Deliveries(config, cast(Directory, nodes))


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_a_version_goes_along_only_where_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = Nodes(a=Client(follows), b=Client(follows))
    deliveries = await make_deliveries(nodes, monkeypatch)
    with hearing() as heard:
        deliveries.refresh([pending(1), pending(2, WAITING, carries=False), pending(3)], now())
        await settle()
    assert heard.of(DELIVERIES) == {(OFFER.workspace, "taken"): 2}
    assert nodes.members[1].client.offered == [(OFFER, CONTENT)]
    assert nodes.members[2].client.offered == [(WAITING, None)]
    assert sorted(nodes.heard, key=lambda one: one[0]) == [("a", follows(OFFER)), ("b", follows(WAITING))]
    assert nodes.failures == []


async def test_a_node_that_does_not_answer_keeps_nobody_else_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = Nodes(deaf=Client(follows, deaf=True), b=Client(follows))
    deliveries = await make_deliveries(nodes, monkeypatch)
    deliveries.refresh([pending(1), pending(2)], now())
    await settle()
    deliveries.refresh([pending(1)], now())
    await settle()
    # It is asked one thing at a time.
    assert [len(nodes.members[place].client.offered) for place in (1, 2)] == [1, 1]
    assert [name for name, _ in nodes.heard] == ["b"]
    await deliveries.close()


async def test_what_was_pending_before_the_answer_is_not_offered_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes = Nodes(a=Client(follows))
    deliveries = await make_deliveries(nodes, monkeypatch)
    as_of = now()
    deliveries.refresh([pending()], as_of)
    await settle()
    deliveries.refresh([pending()], as_of)
    await settle()
    assert len(nodes.members[1].client.offered) == 1
    deliveries.refresh([pending()], now())
    await settle()
    assert len(nodes.members[1].client.offered) == 2


async def test_what_is_revoked_while_a_node_dawdles_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    come = asyncio.Event()

    async def slow(_deliveries: Deliveries, key: VersionKey) -> Content | None:
        await come.wait()
        return CONTENT

    nodes = Nodes(a=Client(follows))
    deliveries = await make_deliveries(nodes, monkeypatch, slow)
    second = replace(OFFER, subscription=SubscriptionName("t"), key=LATER)
    deliveries.refresh([pending(), pending(offer=second)], now())
    await settle()
    deliveries.refresh([], now())
    come.set()
    await settle()
    assert nodes.members[1].client.offered == []
    assert nodes.failures == [("a", "this is no longer offered")]


@pytest.mark.parametrize(
    ("answer", "offer", "reason"),
    [
        (refuses, OFFER, "not for n"),
        (breaks, OFFER, "it failed inside the coordinator; its log says more"),
        (lambda offer: HEARD, OFFER, "the node has heard the offer and does not follow it"),
        (follows, replace(OFFER, key=LATER), "the version is no longer there"),
    ],
)
async def test_a_delivery_that_fails_is_recorded_and_not_repeated_at_once(
    answer: Callable[[Offer], Subscription], offer: Offer, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = Nodes(a=Client(answer))
    deliveries = await make_deliveries(nodes, monkeypatch)
    with hearing() as heard:
        for _ in range(2):
            deliveries.refresh([pending(offer=offer)], now())
            await settle()
    assert heard.of(DELIVERIES) == {(offer.workspace, "failed"): 1}
    assert nodes.failures == [("a", reason)]
    assert len(nodes.members[1].client.offered) <= 1


async def test_a_term_that_is_over_ends_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = Nodes(a=Client(follows))
    nodes.fenced = True
    deliveries = await make_deliveries(nodes, monkeypatch)
    running = asyncio.create_task(deliveries.run())
    deliveries.refresh([pending()], now())
    with pytest.raises(FederatedError) as caught:
        await running
    assert caught.value.code is ErrorCode.FENCED
    assert nodes.heard == []


async def test_a_lost_catalog_ends_no_term_by_a_delivery(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = Nodes(a=Client(follows))
    deliveries = await make_deliveries(nodes, monkeypatch, lose)
    running = asyncio.create_task(deliveries.run())
    deliveries.refresh([pending()], now())
    await settle()
    assert not running.done()
    assert nodes.members[1].client.offered == []
    running.cancel()
