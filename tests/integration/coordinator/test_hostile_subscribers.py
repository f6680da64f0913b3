"""Nodes that lie about their subscriptions: they get what they are granted, and others get theirs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from uuid import UUID

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.handshake import Greeting, Introduction
from heliosdb.domain.ids import ModelName, NodeName, SubscriptionName, VersionKey, WorkspaceName
from heliosdb.domain.subscription import Offer, Outcome, Subscription
from heliosdb.transport.delivery_messages import DeliveryHeader, ReceivedDelivery
from heliosdb.transport.messages import ReceivedTask
from heliosdb.transport.server import ServerIdentity, make_server, server_credentials
from heliosdb.transport.update_messages import SealedUpdate
from tests.integration.coordinator.subscriptions_support import create_numbers, grant, publish
from tests.integration.coordinator.support import WORKSPACE, World, create_workspace
from tests.support.performers import Unsubscribed

Answer = Callable[[Subscription, Offer], Subscription]


def follows(_said: Subscription, offer: Offer) -> Subscription:
    """Take everything."""
    return Subscription(
        offer.subscription, offer.model, offer.wanted, held_version=offer.version, held_key=offer.key,
        heard_outcome=offer.outcome, heard_key=offer.key,
    )  # fmt: skip


def never_heard(said: Subscription, _offer: Offer) -> Subscription:
    """Say the same as before."""
    return said


def of_another(said: Subscription, offer: Offer) -> Subscription:
    """Answer for another subscription."""
    return replace(follows(said, offer), model=ModelName("another"))


def rants(_said: Subscription, _offer: Offer) -> Subscription:
    """Refuse, in words that try a catalog and a log."""
    raise FederatedError(ErrorCode.FENCED, "漢\n\x1b[2J\x00 ERROR:  forged" + "x" * 100_000)


@dataclass
class Subscriber(Unsubscribed):
    """What a node says of its subscriptions, and what it was sent."""

    said: dict[str, Subscription]
    answer: Answer = follows
    bodies: list[tuple[str, bytes]] = field(default_factory=list)
    heard: list[Offer] = field(default_factory=list)

    async def introduce(self, greeting: Greeting) -> Introduction:
        del greeting
        return Introduction((), (), tuple(await self.subscribed(WorkspaceName(WORKSPACE))))

    async def alive(self) -> None:
        """It always is."""

    async def forget(self, workspace: WorkspaceName, node: NodeName, ended: frozenset[VersionKey]) -> None:
        """Nothing is kept."""

    async def perform(self, received: ReceivedTask) -> SealedUpdate:
        """It trains nothing."""
        raise AssertionError(received)

    def sent(self, received: ReceivedTask) -> None:
        """Nothing is sent."""

    async def subscribed(self, workspace: WorkspaceName) -> Sequence[Subscription]:
        del workspace
        return [self.said[name] for name in sorted(self.said)]

    async def expect(self, header: DeliveryHeader) -> None:
        """Everything."""

    async def deliver(self, received: ReceivedDelivery) -> Subscription:
        offer = received.offer
        self.heard.append(offer)
        if received.content is not None:
            self.bodies.append((offer.model, received.content.prediction))
        said = self.said[offer.subscription] = self.answer(self.said[offer.subscription], offer)
        return said


def to(*models: str, **claims: object) -> dict[str, Subscription]:
    word = Subscription(SubscriptionName(""), ModelName(""))
    return {
        f"s_{model}": replace(word, name=SubscriptionName(f"s_{model}"), model=ModelName(model), **claims)  # type: ignore[arg-type]
        for model in models
    }


@asynccontextmanager
async def served(world: World, name: str, subscriber: Subscriber) -> AsyncIterator[Subscriber]:
    federation = world.federation
    identity = federation.authority.issue(name, ["localhost", "127.0.0.1"])
    federation.write(name, identity)
    pinned = federation.coordinator.certificate_pem
    credentials = server_credentials(lambda: ServerIdentity(identity, (pinned,)))
    server, port = make_server(subscriber, lambda: [pinned], credentials, "127.0.0.1", 0)
    await server.start()
    try:
        world.execute(
            f"REGISTER FEDERATED NODE '{name}' IN WORKSPACE {WORKSPACE} WITH "
            f"(endpoint = 'https://localhost:{port}', certificate = '{federation.directory / name}.pem')"
        )
        yield subscriber
    finally:
        await server.stop(None)


async def test_who_lies_about_subscriptions_gets_what_is_granted_and_keeps_nobody_waiting(
    world: World,
) -> None:
    create_workspace(world, min_nodes=2)
    for model in ("dose", "secret"):
        create_numbers(world, model)
        publish(world, model, 1.0)
    grant(world, "dose")
    guess = VersionKey(UUID(int=7))
    liars = {
        "deaf": Subscriber(to("dose", "secret", "nothing"), never_heard),
        "other": Subscriber(to("dose", "secret"), of_another),
        "rants": Subscriber(to("dose", "secret"), rants),
        "holds": Subscriber(
            to("secret", "nothing", takes=True, held_key=guess, held_version=2**31 - 1, heard_outcome=Outcome.OFFERED,
               heard_key=guess),
        ),
    }  # fmt: skip
    honest = Subscriber(to("dose", "nothing"))
    world.start_coordinator(heartbeat_interval=0.2, reconnect_interval=0.5)
    async with (
        served(world, "deaf", liars["deaf"]), served(world, "other", liars["other"]), served(world, "rants", liars["rants"]),
        served(world, "holds", liars["holds"]), served(world, "honest", honest),
    ):  # fmt: skip
        taken = "SELECT count(*) = 1 FROM federated_subscribers WHERE node_name = 'honest' AND state = 'current' AND version = %s"
        await world.reached(taken, 1)
        failed = (
            "SELECT count(DISTINCT n.name) = 3 FROM federated.subscriber AS s JOIN federated.node AS n USING (node_id)"
            " WHERE s.failure IS NOT NULL"
        )
        await world.reached(failed)
        publish(world, "dose", 2.0)
        await world.reached(taken, 2)
        # By now "other" says that it subscribes to one model twice.
        await world.reached(
            "SELECT bool_and(CASE name WHEN 'other' THEN failure_reason LIKE '%%subscribed to twice' ELSE status = 'active' END)"
            " FROM federated.node"
        )
        for one in (*liars.values(), honest):
            assert {model for model, _ in one.bodies} <= {"dose"}
        # There is such a model, and there is none: the same words.
        assert {one.model for one in liars["holds"].heard} == {"secret", "nothing"}
        assert len({(one.outcome, one.version, one.key, one.reason) for one in liars["holds"].heard}) == 1
        # Who is granted nothing has no say.
        world.execute("DROP FEDERATED MODEL secret")
        [told] = world.query(
            "SELECT s.failure FROM federated.subscriber AS s JOIN federated.node AS n USING (node_id)"
            " WHERE n.name = 'rants' AND s.model_name = 'dose'"
        )
        assert told["failure"].isprintable()
        assert len(told["failure"]) <= 500
