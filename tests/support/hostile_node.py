"""A node that holds a valid key and lies: it computes as an honest one, then changes what it says.

Its answers are sealed and signed as a node's are, and opened as the coordinator opens them, so that what a
test sees is what the checks between a node's bytes and a model let through.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import numpy as np

from heliosdb.aggregation import Shape
from heliosdb.algorithms import Table, algorithm
from heliosdb.algorithms.draws import TaskDraws
from heliosdb.coordinator.course import Question
from heliosdb.coordinator.directory import Directory
from heliosdb.coordinator.exchange import Exchange, Wire
from heliosdb.domain.errors import ErrorCode
from heliosdb.domain.events import Event, NodeLost
from heliosdb.domain.handshake import DatasetDescription, Greeting, Introduction
from heliosdb.domain.ids import DatasetName, NodeName, RunId, WorkspaceName
from heliosdb.domain.opened_update import OpenedUpdate
from heliosdb.domain.privacy import Spending
from heliosdb.domain.state import NO_STATE
from heliosdb.domain.task import Task
from heliosdb.domain.vector import AlreadyPrivate, AnyVector, ClippedSum, Contribution
from heliosdb.node.guards import make_private
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport.authority import Authority
from heliosdb.transport.identity import Identity, fingerprint
from heliosdb.transport.messages import (
    NodeRefusedError,
    ReceivedTask,
    encode_task,
    received_task,
    task_from_header,
)
from heliosdb.transport.packing import close_update, encode_vector, open_update
from heliosdb.transport.sealing import SealingKey
from heliosdb.transport.server import ServerIdentity, make_server, server_credentials
from heliosdb.transport.streams import cut, cut_first
from heliosdb.transport.update_messages import SealedUpdate
from heliosdb.transport.verification import UpdateCollector
from tests.support.performers import Unsubscribed

Said = tuple[AnyVector, float]
Lie = Callable[[Task, AnyVector, float], Said]
"""(task, honest vector, honest weight) → what is said instead."""


def honest(_task: Task, vector: AnyVector, weight: float) -> Said:
    """Say what was computed."""
    return vector, weight


def silent(task: Task, _vector: AnyVector, _weight: float) -> Said:
    """Refuse."""
    raise NodeRefusedError(task.key.node, ErrorCode.INVALID_VALUE, "no", detail=None, hint=None)


def make_rows(seed: int, rows: int = 60) -> Table:
    """Rows of two features whose class depends on both; every fifth is held out."""
    rng = np.random.default_rng(seed)
    features = rng.normal([50.0, 120.0], [10.0, 15.0], (rows, 2))
    score = (features - [50.0, 120.0]) @ [0.1, 0.05] + rng.normal(0.0, 0.5, rows)
    codes = np.arange(rows, dtype=np.int64)
    return Table.from_rows(features, (score > 0).astype(np.float64), codes, codes % 5 == 0)


def compute(table: Table, task: Task) -> Contribution:
    """Return what an honest node computes for a task, once it has looked at it."""
    step = algorithm(task.work.algorithm).steps[task.key.step]
    step.check(task)
    return step.compute(table, task, NO_STATE, TaskDraws(task, b""))


@dataclass
class FakeNode:
    """One node: its rows, its key, and its lie. In the place of a `NodeClient` it answers without a network."""

    name: NodeName
    table: Table
    identity: Identity
    lie: Lie = honest

    def answer(self, received: ReceivedTask) -> SealedUpdate:
        """Compute, lie, seal and sign."""
        task = received.task
        contribution = compute(self.table, task)
        vector, weight = self.lie(task, make_private(contribution), contribution.weight)
        private = contribution.guard if isinstance(contribution.guard, AlreadyPrivate | ClippedSum) else None
        mechanism = None if private is None else private.mechanism
        spending = None if private is None else Spending(0.1, 0.1)
        return close_update(
            self.identity,
            received,
            encode_vector(received.task.work, vector),
            weight,
            None,
            mechanism,
            spending,
        )

    async def perform(
        self,
        task: Task,
        sealing: SealingKey,
        _timeout: float,
        *,
        expected: Shape | None = None,
        private: bool | None = None,
        traffic: object = None,
        state: object = None,
        admit: object = None,
        traceparent: object = None,
    ) -> OpenedUpdate:
        """As `NodeClient.perform`: encoded, decoded, answered, collected and opened."""
        del traffic, state, admit, traceparent
        header, body = encode_task(task, sealing.public)
        received = received_task(task_from_header(header), body)
        update = self.answer(received)
        first, rest = cut_first(update.payload)
        head = pb.SignedHeader(header=update.header, signature=update.signature, chunk=first)
        collector = UpdateCollector(task, expected)
        collector.take(pb.UpdateMessage(head=head).SerializeToString())
        for chunk in cut(rest):
            collector.take(pb.UpdateMessage(chunk=chunk).SerializeToString())
        pinned, collected = [self.identity.certificate_pem], collector.finish()
        return open_update(task, received.sha256, collected, pinned, sealing, traffic=(1, 1), private=private)


@dataclass
class FakeWire:
    """Nodes that are always there."""

    nodes: Sequence[FakeNode]
    sealing: SealingKey = field(default_factory=SealingKey.generate)

    def find(self, _workspace: WorkspaceName, name: NodeName) -> object:
        """As `Directory.find`."""
        node = next(node for node in self.nodes if node.name == name)
        return SimpleNamespace(client=node, record=SimpleNamespace(dataset=None))

    async def ask(self, question: Question) -> tuple[Exchange, Mapping[NodeName, tuple[str, str]]]:
        """Hold one exchange with all nodes; returns it, and of those that were lost outcome and reason."""
        events: asyncio.Queue[Event] = asyncio.Queue()
        wire = Wire(cast(Directory, self), self.sealing, asyncio.Semaphore(8))
        exchange = Exchange(wire, question, events.put_nowait, heard=NO_STATE, fresh=True)
        names = [node.name for node in self.nodes]
        await exchange.open(names)
        seen = [await events.get() for _ in names]
        await exchange.close()
        lost = [event.loss for event in seen if isinstance(event, NodeLost)]
        return exchange, {loss.node: (loss.outcome.value, loss.reason) for loss in lost}


AUTHORITY = Authority.create("authority")


@dataclass
class _Performer(Unsubscribed):
    """What a node does behind the wire, by a node that may lie. aggregators: whom it says that it lets in."""

    node: FakeNode
    plain_answers: bool
    aggregators: tuple[str, ...] = ()

    async def introduce(self, greeting: Greeting) -> Introduction:
        del greeting
        columns = ("age", "pressure", "outcome")
        types = ("double precision", "double precision", "integer")
        shared = DatasetDescription(DatasetName("patients"), columns, types, self.plain_answers)
        return Introduction((shared,), aggregators=self.aggregators)

    async def alive(self) -> None:
        """It always is."""

    async def forget(self, workspace: WorkspaceName, node: NodeName, ended: frozenset[RunId]) -> None:
        """Nothing is kept."""

    async def perform(self, received: ReceivedTask) -> SealedUpdate:
        return self.node.answer(received)

    def sent(self, received: ReceivedTask) -> None:
        """Nothing is kept."""


@dataclass
class Served:
    """A node that is served: its port, and what its DBA is said to allow."""

    port: int
    performer: _Performer


@asynccontextmanager
async def serving(
    node: FakeNode, coordinator: bytes, *, plain_answers: bool = False, aggregator: bytes | None = None
) -> AsyncIterator[Served]:
    """Serve a node over a real socket to the coordinator with this certificate (PEM), and to an aggregator."""
    aggregators = () if aggregator is None else (aggregator,)
    performer = _Performer(node, plain_answers, tuple(map(fingerprint, aggregators)))
    credentials = server_credentials(lambda: ServerIdentity(node.identity, (coordinator,), aggregators))
    server, port = make_server(
        performer, lambda: [coordinator], credentials, "127.0.0.1", 0, aggregators=lambda: aggregators
    )
    await server.start()
    try:
        yield Served(port, performer)
    finally:
        await server.stop(None)


def make_nodes(lies: Mapping[str, Lie], names: Iterable[str] = ("a", "b", "c")) -> list[FakeNode]:
    """Nodes with rows of their own; `lies` by name, the others are honest."""
    return [
        FakeNode(
            NodeName(name), make_rows(ord(name)), AUTHORITY.issue(name, ["localhost"]), lies.get(name, honest)
        )
        for name in names
    ]
