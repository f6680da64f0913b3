"""What an aggregator may ask of the nodes that let it in, and what of theirs leaves it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from heliosdb.aggregation.partial_sum import Adding, most_sum_bytes
from heliosdb.aggregation.sums import Shape
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.handshake import Greeting
from heliosdb.domain.ids import NodeName, WorkspaceName
from heliosdb.domain.limits import NO_LIMITS, Limits
from heliosdb.domain.privacy import Budget
from heliosdb.domain.task import Task
from heliosdb.domain.vector import vector_to_bytes
from heliosdb.node.tasks import NodeTasks
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport.client import NodeClient, Traffic
from heliosdb.transport.gather_messages import (
    Contact,
    GatheredNode,
    GatherRequest,
    PassedOn,
    SignedTask,
    contact_bytes,
    found_bytes,
)
from heliosdb.transport.gathering import GatheredSum
from heliosdb.transport.identity import Identity
from heliosdb.transport.limits import TAG_BYTES
from heliosdb.transport.messages import EncodedState, ReceivedTask, encode_header, task_sha256
from heliosdb.transport.sealing import SealingKey
from heliosdb.transport.update_messages import SealedUpdate
from heliosdb.transport.verification import sign_contact, sign_task
from tests.support.cluster import Cluster
from tests.support.federation import (
    WORKSPACE,
    Federation,
    create_patients,
    measured,
    running_node,
    statistics_task,
    train_task,
)

pytestmark = pytest.mark.usefixtures("forked_training")

TIMEOUT = 180.0
OPENING = SealingKey.generate()
ABOVE = NodeName("above")


class Listener(Traffic):
    """Keeps every message that came in."""

    def __init__(self) -> None:
        super().__init__()
        self.incoming: list[bytes] = []

    def receive(self, message: bytes) -> bytes:
        self.incoming.append(message)
        return message


@dataclass(frozen=True)
class Tree:
    """A node, the aggregator above it, and who the latter is."""

    federation: Federation
    node: NodeClient
    above: NodeClient
    by_above: NodeClient
    contact: Contact


@asynccontextmanager
async def running_tree(
    cluster: Cluster, database: str, federation: Federation, limits: Limits = NO_LIMITS
) -> AsyncIterator[Tree]:
    """limits: what is asked of the node."""
    create_patients(cluster, database)
    empty = cluster.create_database("federated_template")
    async with AsyncExitStack() as stack:
        port_above = await stack.enter_async_context(
            running_node(federation.node_config(cluster, empty, "above", aggregates=True))
        )
        trusted = {"aggregator_certificate": federation.directory / "above.pem"}
        port = await stack.enter_async_context(
            running_node(federation.node_config(cluster, database, "node", **trusted))
        )
        identity = Identity.load(federation.directory / "above.pem", federation.directory / "above.key")
        pinned = (federation.directory / "node.pem").read_bytes()
        clients = (
            federation.client(port, limits=limits),
            federation.client(port_above, "above"),
            federation.client(port, identity=identity, limits=limits),
        )
        for client in clients:
            stack.push_async_callback(client.close)
        yield Tree(federation, *clients, Contact(f"https://localhost:{port}", (pinned,)))
    cluster.drop_database(empty)


def signed(task: Task, sealing: SealingKey, signer: Identity) -> SignedTask:
    header = encode_header(task, sealing.public, EncodedState.of(task.state))
    return SignedTask(header, sign_task(signer, task_sha256(header)))


async def gathered(tree: Tree, task: Task, adding: Adding | None) -> tuple[list[object], list[bytes]]:
    """What the aggregator answers, as it is read and as it passed."""
    sealing = tree.federation.sealing if adding is None else OPENING
    asked = signed(task, sealing, tree.federation.coordinator)
    named = contact_bytes(task.key.workspace, task.key.node, tree.contact)
    vouched = sign_contact(tree.federation.coordinator, named)
    request = GatherRequest(
        key=replace(task.key, node=ABOVE),
        shape=Shape(task.work.size, task.work.dtype),
        adding=adding,
        opening=OPENING,
        sealing_key=tree.federation.sealing.public,
        patience=TIMEOUT,
        nodes=(GatheredNode(task.key.node, ABOVE, tree.contact, asked, vouched=vouched),),
        state=EncodedState.of(task.state),
    )
    listener = Listener()
    told: list[object] = [
        one
        async for one in tree.above.gather(
            request, tree.federation.sealing, TIMEOUT, traffic=lambda _: listener
        )
    ]
    return told, listener.incoming


async def test_a_sum_leaves_an_aggregator_sealed_and_nothing_of_an_update_in_the_clear(
    cluster: Cluster, federated_database: str, tmp_path: Path
) -> None:
    async with running_tree(cluster, federated_database, Federation(tmp_path)) as tree:
        task = train_task()
        await measured(tree.node, tree.federation, task)
        adding = Adding(task.work.size, task.work.dtype, False, 1, 7)

        told, incoming = await gathered(tree, task, adding)
        direct = await tree.node.perform(task, OPENING, TIMEOUT)

    [made] = told
    assert isinstance(made, GatheredSum)
    [term] = made.partial.terms
    assert term.weight == direct.weight
    assert made.partial.sum.total().tobytes() == (direct.vector * direct.weight).tobytes()
    # Known fields, the node's own signed header, and one sealed payload of exactly the announced size: nothing else.
    first, head, *chunks = [pb.GatherAnswer.FromString(raw) for raw in incoming]
    assert first.term.node == "node"
    own = made.signed[NodeName("node")]
    assert (first.term.header, first.term.signature) == (own.raw, own.signature)
    header = pb.SumHeader.FromString(head.sum.header)
    assert list(header.nodes) == ["node"]
    payload = b"".join(one.chunk for one in chunks)
    beside = found_bytes(adding) + TAG_BYTES
    assert beside < len(payload) == header.payload_bytes <= most_sum_bytes(adding.size) + beside
    rebuilt = [
        pb.GatherAnswer(term=first.term),
        pb.GatherAnswer(sum=pb.SignedHeader(header=head.sum.header, signature=head.sum.signature)),
        *(pb.GatherAnswer(chunk=one.chunk) for one in chunks),
    ]
    assert [one.SerializeToString() for one in rebuilt] == incoming
    passed = b"".join(incoming)
    for number in (*direct.vector, direct.weight, term.norm):
        assert vector_to_bytes(np.array([number])) not in passed


async def test_what_an_aggregator_passes_on_is_what_the_node_sends_and_it_cannot_open_it(
    cluster: Cluster, federated_database: str, tmp_path: Path
) -> None:
    async with running_tree(cluster, federated_database, Federation(tmp_path)) as tree:
        task = train_task()
        await measured(tree.node, tree.federation, task)

        told, incoming = await gathered(tree, task, None)
        asked = signed(task, tree.federation.sealing, tree.federation.coordinator)
        state = EncodedState.of(task.state).raw
        direct = [raw async for raw in tree.node.forward(asked, state, TIMEOUT)]

    assert told == [PassedOn(NodeName("node"), raw) for raw in direct]
    assert [pb.GatherAnswer.FromString(raw).passed.message for raw in incoming] == direct


async def test_an_aggregator_asks_nothing_of_a_node_but_what_the_coordinator_has_signed(
    cluster: Cluster, federated_database: str, tmp_path: Path
) -> None:
    async with running_tree(cluster, federated_database, Federation(tmp_path)) as tree:
        workspace, name = WorkspaceName(WORKSPACE), NodeName("node")
        for ask in (
            lambda: tree.by_above.greet(Greeting(workspace, name), TIMEOUT),
            lambda: tree.by_above.heartbeat(TIMEOUT, workspace),
            lambda: tree.by_above.forget(workspace, name, frozenset(), TIMEOUT),
        ):
            with pytest.raises(FederatedError, match="does not answer as a node does"):
                await ask()
        with pytest.raises(FederatedError, match="not signed by the pinned coordinator") as caught:
            await tree.by_above.perform(train_task(), OPENING, TIMEOUT)
        assert caught.value.code is ErrorCode.NODE_REFUSED
        said = await tree.node.greet(Greeting(workspace, name), TIMEOUT)
        assert [bytes.fromhex(one) for one in said.aggregators] == [
            bytes.fromhex(tree.by_above._identity.fingerprint)
        ]


async def test_a_task_of_another_node_is_answered_and_charged_by_none(
    cluster: Cluster, federated_database: str, tmp_path: Path
) -> None:
    async with running_tree(cluster, federated_database, Federation(tmp_path)) as tree:
        await tree.node.greet(Greeting(WorkspaceName(WORKSPACE), NodeName("node")), TIMEOUT)
        first = statistics_task(noise_multiplier=5.0, budget=Budget(10.0, 1e-5))
        other = replace(first, key=replace(first.key, node=NodeName("other")))
        asked = signed(other, OPENING, tree.federation.coordinator)
        state = EncodedState.of(other.state).raw

        (raw,) = [raw async for raw in tree.by_above.forward(asked, state, TIMEOUT)]

    assert pb.UpdateMessage.FromString(raw).refusal.message == "the task is for another node"
    with cluster.connect(federated_database) as connection:
        assert connection.execute("SELECT count(*) FROM federated.spending").fetchone() == (0,)


async def test_an_aggregator_asks_for_no_limits_of_the_nodes_below(
    cluster: Cluster, federated_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heeded: list[Limits] = []
    perform = NodeTasks.perform

    async def noted(tasks: NodeTasks, received: ReceivedTask) -> SealedUpdate:
        heeded.append(received.limits)
        return await perform(tasks, received)

    monkeypatch.setattr(NodeTasks, "perform", noted)
    asked = Limits(0.25, 1, 0.001)
    async with running_tree(cluster, federated_database, Federation(tmp_path), asked) as tree:
        task = statistics_task()
        by_coordinator = signed(task, OPENING, tree.federation.coordinator)
        state = EncodedState.of(task.state).raw
        for client in (tree.by_above, tree.node):
            assert [raw async for raw in client.forward(by_coordinator, state, TIMEOUT)]
    assert heeded == [NO_LIMITS, asked]


async def test_a_node_whose_dba_does_not_want_it_gathers_nothing(
    cluster: Cluster, federated_database: str, tmp_path: Path
) -> None:
    federation = Federation(tmp_path)
    async with running_node(federation.node_config(cluster, federated_database)) as port:
        client = federation.client(port)
        task = train_task()
        contact = Contact("https://localhost:1", (federation.coordinator.certificate_pem,))
        tree = SimpleNamespace(federation=federation, above=client, contact=contact)
        said = await client.greet(Greeting(WorkspaceName(WORKSPACE), NodeName("node")), TIMEOUT)
        with pytest.raises(FederatedError, match="this node gathers for no others"):
            await gathered(cast(Tree, tree), task, None)
        await client.close()
    assert not said.aggregates


async def test_an_aggregator_that_is_let_in_no_more_asks_nothing_over_a_connection_of_before(
    cluster: Cluster, federated_database: str, tmp_path: Path
) -> None:
    federation = Federation(tmp_path)
    for name in ("above", "another"):
        federation.write(name, federation.authority.issue(name, ["localhost"]))
    identity = Identity.load(tmp_path / "above.pem", tmp_path / "above.key")
    let_in, task = tmp_path / "let_in.pem", train_task()
    let_in.write_bytes((tmp_path / "above.pem").read_bytes())
    asked = signed(task, federation.sealing, federation.coordinator)
    config = federation.node_config(cluster, federated_database, aggregator_certificate=let_in)
    async with running_node(config) as port:
        client = federation.client(port, identity=identity)
        assert [raw async for raw in client.forward(asked, EncodedState.of(task.state).raw, TIMEOUT)]
        let_in.write_bytes((tmp_path / "another.pem").read_bytes())
        with pytest.raises(FederatedError, match="does not answer as a node does"):
            [raw async for raw in client.forward(asked, EncodedState.of(task.state).raw, TIMEOUT)]
        await client.close()


async def test_a_node_that_names_no_aggregator_lets_none_in(
    cluster: Cluster, federated_database: str, tmp_path: Path
) -> None:
    federation = Federation(tmp_path)
    federation.write("above", federation.authority.issue("above", ["localhost"]))
    identity = Identity.load(tmp_path / "above.pem", tmp_path / "above.key")
    async with running_node(federation.node_config(cluster, federated_database)) as port:
        client = federation.client(port, identity=identity)
        task = train_task()
        asked = signed(task, federation.sealing, federation.coordinator)
        with pytest.raises(FederatedError) as caught:
            [raw async for raw in client.forward(asked, EncodedState.of(task.state).raw, TIMEOUT)]
        await client.close()
    assert caught.value.code in {ErrorCode.UNREACHABLE, ErrorCode.IDENTITY}
