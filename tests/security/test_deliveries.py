"""What a hostile coordinator, or whoever has its line, delivers to a real node; and all that crosses."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import psycopg
import pytest

from heliosdb.domain.errors import FederatedError
from heliosdb.domain.handshake import Greeting
from heliosdb.domain.ids import ModelName, NodeName, SubscriptionName, VersionKey, WorkspaceName
from heliosdb.domain.state import make_state, state_to_bytes
from heliosdb.domain.subscription import Content, Contract, Offer, Outcome
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport.carriers import Method
from heliosdb.transport.client import Traffic
from heliosdb.transport.delivery_messages import encode_delivery
from heliosdb.transport.identity import Identity
from heliosdb.transport.rpc import CHANNEL_OPTIONS, aio, grpc, path
from heliosdb.transport.verification import sign_delivery
from tests.support.cluster import Cluster
from tests.support.federation import WORKSPACE, Federation, create_patients, running_node

pytestmark = pytest.mark.usefixtures("forked_training")

TIMEOUT = 180.0
RUN, LATER = VersionKey(UUID(int=1)), VersionKey(UUID(int=2))
OFFER = Offer(
    WorkspaceName(WORKSPACE), NodeName("node"), SubscriptionName("s"), ModelName("dose"), None, Outcome.OFFERED,
    "", 1, RUN,
)  # fmt: skip
SECOND = replace(OFFER, version=2, key=LATER)


def numbers(intercept: float, **changes: Any) -> Content:
    """A version that predicts so much for the age 0."""
    prediction = {
        "kind": "linear", "link": "identity", "booleans": [False], "fills": [0.0], "shifts": [0.0], "slopes": [1.0],
        "intercept": intercept, "target_mean": 0.0, "target_scale": 1.0,
    } | changes  # fmt: skip
    return Content.of(("age",), Contract("linear_regression", "y"), json.dumps(prediction).encode())


def raw(prediction: bytes, arrays: bytes = b"", features: tuple[str, ...] = ("age",)) -> Content:
    return Content.of(features, Contract("linear_regression"), prediction, arrays)


TWICE = numbers(2.0, booleans=[False] * 2, slopes=[1.0] * 2, fills=[0.0] * 2, shifts=[0.0] * 2)


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation(tmp_path)


@pytest.fixture
def subscribed(cluster: Cluster, federated_database: str) -> str:
    """A node's database with rows, and a subscription."""
    create_patients(cluster, federated_database)
    with cluster.connect(federated_database) as connection:
        connection.execute(
            "CALL federated.execute(%s)",
            [f"CREATE FEDERATED SUBSCRIPTION s TO MODEL dose IN WORKSPACE {WORKSPACE}"],
        )
    return federated_database


def predicted(cluster: Cluster, database: str) -> float | None:
    """What the participant predicts for the age 0; None before there is a version."""
    with cluster.connect(database) as connection:
        try:
            row = connection.execute("SELECT federated_predict('dose', '{\"age\": 0}')").fetchone()
        except psycopg.errors.ObjectNotInPrerequisiteState:
            return None
    assert row is not None
    return float(row[0])


def told(cluster: Cluster, database: str) -> tuple[Any, ...]:
    with cluster.connect(database) as connection:
        row = connection.execute("SELECT state, version, message FROM federated_subscriptions").fetchone()
    assert row is not None
    return row


class Line:
    """Raw bytes to a node, as its coordinator's peer."""

    def __init__(self, federation: Federation, port: int, name: str = "node") -> None:
        self._federation, self._port, self._name = federation, port, name

    def head(
        self, offer: Offer, content: Content | None, *, signer: Identity | None = None, recipient: str = ""
    ) -> bytes:
        named = Identity.load(
            *(self._federation.directory / f"{recipient or self._name}.{end}" for end in ("pem", "key"))
        )
        header = encode_delivery(offer, content, bytes.fromhex(named.fingerprint))
        return self.sign(header, signer or self._federation.coordinator)

    @staticmethod
    def sign(header: bytes, signer: Identity) -> bytes:
        signature = sign_delivery(signer, header)
        return pb.DeliveryMessage(
            head=pb.SignedHeader(header=header, signature=signature)
        ).SerializeToString()

    async def send(self, *messages: bytes) -> pb.DeliveryAnswer:
        identity = self._federation.coordinator
        credentials = grpc.ssl_channel_credentials(
            (self._federation.directory / f"{self._name}.pem").read_bytes(),
            identity.private_key_pem,
            identity.certificate_pem,
        )

        async def stream() -> AsyncIterator[bytes]:
            for message in messages:
                yield message

        async with aio.secure_channel(
            f"localhost:{self._port}", credentials, options=CHANNEL_OPTIONS
        ) as channel:
            return pb.DeliveryAnswer.FromString(
                await channel.stream_unary(path(Method.DELIVER))(stream(), timeout=TIMEOUT)
            )


def chunk(raw: bytes) -> bytes:
    return pb.DeliveryMessage(chunk=raw).SerializeToString()


async def test_what_is_not_the_pinned_coordinators_for_this_node_and_subscription_leaves_the_old_version(
    cluster: Cluster, subscribed: str, federation: Federation
) -> None:
    stranger = federation.authority.issue("coordinator", ["localhost"])
    federation.write("other", federation.authority.issue("other", ["localhost"]))
    good = numbers(2.0)
    body = good.prediction
    async with running_node(federation.node_config(cluster, subscribed)) as port:
        client, line = federation.client(port), Line(federation, port)
        await client.greet(Greeting(OFFER.workspace, OFFER.node), TIMEOUT)
        assert (await client.deliver(OFFER, numbers(1.0), TIMEOUT)).held_version == 1
        attempts: list[tuple[Sequence[bytes], str]] = [
            ([line.head(SECOND, good, signer=stranger), chunk(body)], "not signed by the pinned coordinator"),
            ([line.head(SECOND, good), chunk(body.replace(b"2.0", b"3.0"))], "not what its header says"),
            ([line.head(SECOND, good), chunk(body[:-1])], "shorter than announced"),
            ([line.head(SECOND, good), chunk(body + b" ")], "longer than announced"),
            ([line.head(SECOND, good, recipient="other"), chunk(body)], "for another node's certificate"),
            ([line.head(replace(SECOND, node=NodeName("x")), good), chunk(body)], "for another node"),
            ([line.head(replace(SECOND, workspace=WorkspaceName("x")), good), chunk(body)], "no subscription"),
            ([line.head(replace(SECOND, subscription=SubscriptionName("x")), good), chunk(body)], "no subscription"),
            ([line.head(replace(SECOND, model=ModelName("x")), good), chunk(body)], 'not to model "x"'),
            ([line.head(replace(SECOND, wanted="prod"), good), chunk(body)], "altered meanwhile"),
        ]  # fmt: skip
        for messages, said in attempts:
            answer = await line.send(*messages)
            assert said in answer.refusal.message, (said, answer)
            assert (predicted(cluster, subscribed), told(cluster, subscribed)) == (1.0, ("current", 1, None))
        assert (await client.deliver(SECOND, good, TIMEOUT)).held_version == 2
        assert predicted(cluster, subscribed) == 2.0
        await client.close()


async def test_what_was_signed_for_one_node_is_nothing_to_another(
    cluster: Cluster, subscribed: str, federation: Federation
) -> None:
    """The very bytes, by somebody who has the coordinator's line but not its key to sign with."""
    second = cluster.create_database("federated_template")
    with cluster.connect(second) as connection:
        statement = f"CREATE FEDERATED SUBSCRIPTION s TO MODEL dose IN WORKSPACE {WORKSPACE}"
        connection.execute("CALL federated.execute(%s)", [statement])
    async with (
        running_node(federation.node_config(cluster, subscribed)) as port,
        running_node(federation.node_config(cluster, second, "second")) as other,
    ):
        recorded = Line(federation, port).head(OFFER, numbers(1.0)), chunk(numbers(1.0).prediction)
        assert (await Line(federation, port).send(*recorded)).subscription.held_version == 1
        answer = await Line(federation, other, "second").send(*recorded)
    assert "for another node's certificate" in answer.refusal.message
    assert predicted(cluster, second) is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (numbers(2.0, kind="oracle"), "kind"),
        (numbers(2.0, slopes=["DROP TABLE patient"]), "slopes"),
        (numbers(2.0, slopes=[1.0, 2.0]), "slopes"),
        (numbers(float("nan")), "NaN"),
        (raw(b"[]"), "object"),
        (raw(b"\xff"), "hold together"),
        (raw(numbers(2.0).prediction, state_to_bytes(make_state(a=np.ones(2)))), "arrays"),
        (raw(numbers(2.0).prediction, b"garbage"), "not a state"),
        (raw(TWICE.prediction, features=("age", "age")), "a feature twice"),
        (numbers(2.0, booleans=["true"]), "flag"),
    ],
)  # fmt: skip
async def test_signed_nonsense_is_noted_and_not_asked_for_again(
    cluster: Cluster, subscribed: str, federation: Federation, content: Content, said: str
) -> None:
    async with running_node(federation.node_config(cluster, subscribed)) as port:
        client = federation.client(port)
        await client.deliver(OFFER, numbers(1.0), TIMEOUT)
        word = await client.deliver(SECOND, content, TIMEOUT)
        await client.close()
    assert (word.held_key, word.refused_key, word.heard_key) == (RUN, LATER, LATER)
    state, version, message = told(cluster, subscribed)
    assert (state, version, said in message) == ("refused", 1, True), message
    assert predicted(cluster, subscribed) == 1.0


async def cross(cluster: Cluster, federation: Federation, rows: int) -> Recorder:
    """All that crosses between a coordinator and a participant of so many rows that takes a version."""
    database = cluster.create_database("federated_template")
    create_patients(cluster, database, rows=rows)
    with cluster.connect(database) as connection:
        statement = f"CREATE FEDERATED SUBSCRIPTION s TO MODEL dose IN WORKSPACE {WORKSPACE}"
        connection.execute("CALL federated.execute(%s)", [statement])
    recorder = Recorder()
    async with running_node(federation.node_config(cluster, database)) as port:
        client = federation.client(port, traffic=lambda: recorder)
        await client.greet(Greeting(OFFER.workspace, OFFER.node), TIMEOUT)
        await client.heartbeat(TIMEOUT, OFFER.workspace)
        await client.deliver(OFFER, None, TIMEOUT)
        await client.deliver(OFFER, numbers(1.0), TIMEOUT)
        await client.close()
    return recorder


async def test_what_a_node_answers_is_its_subscription_and_nothing_of_rows(
    cluster: Cluster, federation: Federation
) -> None:
    one, other = [await cross(cluster, federation, rows) for rows in (200, 333)]
    # Whatever the rows, the same bytes: but for the signatures, which are random.
    assert one.incoming == other.incoming
    introduction, heartbeat, heard, taken = one.incoming
    (said,) = pb.Introduction.FromString(introduction).subscriptions
    assert said == pb.Subscription(name="s", model="dose", takes=True)
    assert len(pb.HeartbeatAnswer.FromString(heartbeat).subscriptions) == 32
    word = pb.Subscription(name="s", model="dose", takes=True, heard_outcome="offered", heard_key=RUN.bytes)
    assert pb.DeliveryAnswer.FromString(heard) == pb.DeliveryAnswer(subscription=word)
    word.held_key, word.held_version = RUN.bytes, 1
    assert pb.DeliveryAnswer.FromString(taken) == pb.DeliveryAnswer(subscription=word)
    # Out: a header as encoded, a signature, the body in its first chunk.
    (sent,) = one.outgoing[3:]
    head = pb.DeliveryMessage.FromString(sent).head
    node = Identity.load(federation.directory / "node.pem", federation.directory / "node.key")
    assert head.header == encode_delivery(OFFER, numbers(1.0), bytes.fromhex(node.fingerprint))
    assert head.chunk == numbers(1.0).prediction
    rebuilt = pb.DeliveryMessage(
        head=pb.SignedHeader(header=head.header, signature=head.signature, chunk=head.chunk)
    )
    assert rebuilt.SerializeToString() == sent


class Recorder(Traffic):
    """Keeps every message as it passed."""

    def __init__(self) -> None:
        super().__init__()
        self.outgoing: list[bytes] = []
        self.incoming: list[bytes] = []

    def send(self, message: bytes) -> bytes:
        self.outgoing.append(message)
        return message

    def receive(self, message: bytes) -> bytes:
        self.incoming.append(message)
        return message


async def test_a_dba_who_keeps_a_subscription_locked_keeps_neither_bodies_nor_others_waiting(
    cluster: Cluster, subscribed: str, federation: Federation
) -> None:
    with cluster.connect(subscribed) as connection:
        statement = f"CREATE FEDERATED SUBSCRIPTION t TO MODEL other IN WORKSPACE {WORKSPACE}"
        connection.execute("CALL federated.execute(%s)", [statement])
    other = replace(OFFER, subscription=SubscriptionName("t"), model=ModelName("other"))
    async with running_node(federation.node_config(cluster, subscribed)) as port:
        client = federation.client(port)
        with cluster.connect(subscribed) as dba, dba.transaction():
            dba.execute("SELECT FROM federated.subscription WHERE name = 's' FOR UPDATE")
            with pytest.raises(FederatedError):
                await client.deliver(OFFER, numbers(1.0), TIMEOUT)
            assert (await client.deliver(other, numbers(1.0), TIMEOUT)).held_version == 1
        assert (await client.deliver(OFFER, numbers(1.0), TIMEOUT)).held_version == 1
        await client.close()
