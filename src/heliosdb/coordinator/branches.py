"""What of an exchange goes by aggregators: who gathers from whom, what they are asked, and what of it counts.

What always holds: to which key a node's answer is sealed follows from the run alone, so that a task is the
same whether an aggregator or the coordinator itself asks it, in every life of the coordinator; an aggregator
is used only where the workspace names it, both DBAs want it so, and both are there; of its sum nothing counts
unless each update in it was released for its task, as its node's signature shows, and would have counted by
itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from heliosdb.coordinator.course import Question
from heliosdb.coordinator.directory import Directory, Member
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.events import UNREGISTERED
from heliosdb.domain.hierarchy import Aggregators, Branch, grow
from heliosdb.domain.ids import NodeName, WorkspaceName
from heliosdb.domain.opened_update import OpenedTerm, OpenedUpdate
from heliosdb.domain.state import State
from heliosdb.domain.task import Task, TaskKey
from heliosdb.domain.update import Term
from heliosdb.domain.usage import Usage
from heliosdb.transport.client import Admit, Traffic
from heliosdb.transport.gather_messages import (
    AnyAdding,
    Contact,
    GatheredNode,
    GatherRequest,
    PassedOn,
    SignedTask,
    SignedTerm,
    contact_bytes,
)
from heliosdb.transport.gathering import AnySum, GatheredSum
from heliosdb.transport.identity import fingerprint
from heliosdb.transport.messages import EncodedState, encode_header, task_sha256
from heliosdb.transport.packing import open_term, open_update
from heliosdb.transport.sealing import SealingKey
from heliosdb.transport.verification import UpdateCollector, sign_contact, sign_task

_LOOK_AGAIN = 2.0
"""Seconds after which it is seen whether an aggregator is still there, where nothing was said of it."""

_PATIENCE, _DEADLINE = 0.5, 0.75
"""How much of the time until stragglers are dropped an aggregator waits for its nodes, and is itself waited
for; in what is left the coordinator asks those whose answers have not come."""


class FaultyTermsError(FederatedError):
    """A sum holds updates that would not have counted; code UPDATE_REJECTED. nodes: whose they are."""

    def __init__(self, faults: Mapping[NodeName, str]) -> None:
        listed = "; ".join(f"{node}: {fault}" for node, fault in sorted(faults.items()))
        super().__init__(
            ErrorCode.UPDATE_REJECTED, f"its sum holds what would not count by itself ({listed})"
        )
        self.nodes = frozenset(faults)


@dataclass(frozen=True, slots=True)
class OpenedSum:
    """A sum whose updates count, and by node what is known of its update."""

    partial: AnySum
    terms: Mapping[NodeName, OpenedTerm]
    usages: Mapping[NodeName, Usage | None]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A node of a branch: what it is asked, and who it is."""

    task: Task
    header: bytes
    sha256: bytes
    member: Member

    def signed(self) -> SignedTask:
        """The task as it is passed on."""
        signature = sign_task(self.member.client.identity, self.sha256)
        return SignedTask(self.header, signature, self.task.work.summing.note)


class Branches:
    """The branches of one exchange. heard: what the sum protocol knows already. sketch_key: of the sketches
    in which updates are compared; None: the coordinator asks everybody itself."""

    def __init__(
        self,
        directory: Directory,
        sealing: SealingKey,
        question: Question,
        state: EncodedState,
        *,
        heard: State,
        sketch_key: int | None,
    ) -> None:
        self._directory = directory
        self._sealing = sealing
        self._question = question
        self._heard = heard
        self._state = state
        policy = question.plan.run.policy
        self._workspace = policy.workspace
        self._aggregators: Aggregators = {} if sketch_key is None else policy.aggregators
        # None where the coordinator has to see each answer.
        self._adding: AnyAdding | None = None if sketch_key is None else question.adding(sketch_key)
        self._keys: dict[NodeName, SealingKey] = {}

    def divide(self, nodes: Collection[NodeName]) -> tuple[tuple[Branch, ...], tuple[NodeName, ...]]:
        """Return what aggregators gather, and whom the coordinator asks itself."""
        is_passed_on = self._adding is None and self._question.course.protocol.is_open
        if not self._aggregators or (self._adding is None and not is_passed_on):
            return (), tuple(sorted(nodes))
        there = self._look()
        usable = {
            one: above
            for one, above in self._aggregators.items()
            if one in there and above in there and _lets_in(there[one], there[above])
        }
        return grow(usable, nodes)

    def sealing(self, node: NodeName) -> SealingKey:
        """Return what a node's answer is sealed to: of one that may be added up, what its aggregator gets."""
        above = self._aggregators.get(node)
        return self._sealing if above is None or self._adding is None else self._opening(above)

    async def gather(
        self,
        branch: Branch,
        window: float,
        *,
        traffic: Callable[[NodeName], Traffic],
        admit: Callable[[NodeName], Admit],
    ) -> AsyncGenerator[OpenedUpdate | OpenedSum]:
        """Have a branch gathered; gives the answers that its aggregator passes on, or the sum of them.

        window: seconds until stragglers are dropped. traffic, admit: as of `NodeClient.perform`, by node; a
        sum is its aggregator's. Whoever is in nothing that comes back is to be asked without it.
        FederatedError where the aggregator fails, FaultyTermsError where its sum cannot count.
        """
        there = self._look()
        asked = {node: self._ask(_found(there, node)) for node in branch.everybody}
        top = _found(there, branch.aggregator)
        request = self._request(branch, asked, there, window * _PATIENCE)
        collectors = {node: UpdateCollector(one.task, self._question.shape) for node, one in asked.items()}
        gathered = top.client.gather(
            request, self._sealing, window * _DEADLINE, traffic=traffic, admit=admit(branch.aggregator)
        )
        async with aclosing(gathered) as told:
            async for one in told:
                if isinstance(one, PassedOn):
                    counted = traffic(one.node)
                    opened = await self._take(asked[one.node], collectors, one, counted, admit(one.node))
                    if opened is not None:
                        yield opened
                elif isinstance(one, GatheredSum):
                    yield self._check(asked, one)

    def _look(self) -> dict[NodeName, Member]:
        """Who is there, by name: found once, for there may be many."""
        members, _ = self._directory.look(self._workspace)
        return {member.name: member for member in members}

    def _opening(self, aggregator: NodeName) -> SealingKey:
        if aggregator not in self._keys:
            about = self._question.plan.run.id.bytes + aggregator.encode()
            self._keys[aggregator] = self._sealing.derive(b"aggregator\0" + about)
        return self._keys[aggregator]

    def _ask(self, member: Member) -> _Asked:
        task = self._question.task(member.name, member.record.dataset, self._heard)
        header = encode_header(task, self.sealing(member.name).public, self._state)
        return _Asked(task, header, task_sha256(header), member)

    def _request(
        self,
        branch: Branch,
        asked: Mapping[NodeName, _Asked],
        there: Mapping[NodeName, Member],
        patience: float,
    ) -> GatherRequest:
        question = self._question
        number, exchange, step = question.plan.round, question.exchange, question.step.name
        return GatherRequest(
            key=TaskKey(self._workspace, question.plan.run.id, number, exchange, step, branch.aggregator),
            limits=_found(there, branch.aggregator).record.limits,
            shape=question.shape,
            adding=self._adding,
            opening=self._opening(branch.aggregator),
            sealing_key=self._sealing.public,
            patience=patience,
            nodes=tuple(self._nodes(branch, asked, there)),
            state=self._state,
        )

    def _nodes(
        self, branch: Branch, asked: Mapping[NodeName, _Asked], there: Mapping[NodeName, Member]
    ) -> list[GatheredNode]:
        """The nodes of a branch, each behind the one that asks it."""
        lower = {one.aggregator for one in branch.branches}
        made = []
        for node in sorted(lower.union(branch.nodes)):
            member, one = _found(there, node), asked.get(node)
            client = member.client
            contact = Contact(client.endpoint, client.pinned, member.record.limits)
            opening = self._opening(node) if node in lower else None
            task = None if one is None else one.signed()
            vouched = sign_contact(client.identity, contact_bytes(self._workspace, node, contact))
            made.append(GatheredNode(node, branch.aggregator, contact, task, opening, vouched))
        for below in branch.branches:
            made += self._nodes(below, asked, there)
        return made

    async def _take(
        self,
        asked: _Asked,
        collectors: dict[NodeName, UpdateCollector],
        passed: PassedOn,
        traffic: Traffic,
        admit: Admit,
    ) -> OpenedUpdate | None:
        """Take a message of an answer; the answer, once it is whole. What a node refuses it says itself."""
        collector = collectors.get(passed.node)
        if collector is None:
            return None
        try:
            announced = collector.take(passed.message)
            if announced is not None:
                await admit(announced)
            if not collector.is_whole:
                return None
            del collectors[passed.node]
            return open_update(
                asked.task,
                asked.sha256,
                collector.finish(),
                asked.member.client.pinned,
                self.sealing(passed.node),
                traffic=(traffic.sent, traffic.received),
                private=self._question.mechanism is not None,
            )
        except FederatedError:
            collectors.pop(passed.node, None)
            return None

    def _check(self, asked: dict[NodeName, _Asked], gathered: GatheredSum) -> OpenedSum:
        """Look at each update of a sum as at one that came alone."""
        opened: dict[NodeName, OpenedTerm] = {}
        faulty: dict[NodeName, str] = {}
        for term in gathered.partial.terms:
            try:
                opened[term.node] = self._open(asked[term.node], gathered.signed[term.node], term)
            except FederatedError as error:
                faulty[term.node] = error.message
        if faulty:
            raise FaultyTermsError(faulty)
        return OpenedSum(gathered.partial, opened, gathered.usages)

    def _open(self, one: _Asked, signed: SignedTerm, term: Term) -> OpenedTerm:
        question = self._question
        private = question.mechanism is not None
        pinned, shape = one.member.client.pinned, question.shape
        opened = open_term(one.task, one.sha256, signed, term, pinned, private=private, expected=shape)
        if opened.mechanism != question.mechanism:
            raise FederatedError(ErrorCode.UPDATE_REJECTED, "it is of another noise than was asked for")
        question.check_term(term)
        return opened


async def while_there(
    directory: Directory, workspace: WorkspaceName, branch: Branch, gathering: Coroutine[Any, Any, None]
) -> None:
    """Wait for what an aggregator does as long as it is there, for it may be stopped and never say so; and as
    long as all whom it asks are registered, for it would wait for who was revoked.

    FederatedError UNREACHABLE once that is not so, and what `gathering` raises.
    """
    aggregator = branch.aggregator
    task = asyncio.create_task(gathering)
    try:
        while not task.done():
            changed = asyncio.create_task(directory.wait_for_change(_LOOK_AGAIN))
            await asyncio.wait({task, changed}, return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
            if not task.done() and directory.find(workspace, aggregator) is None:
                raise FederatedError(ErrorCode.UNREACHABLE, directory.reason(workspace, aggregator))
            gone = [one for one in branch.everybody if not directory.is_registered(workspace, one)]
            if not task.done() and gone:
                raise FederatedError(ErrorCode.UNREACHABLE, f"{', '.join(sorted(gone))}: {UNREGISTERED}")
        task.result()
    finally:
        task.cancel()
        await asyncio.wait({task})


def _found(there: Mapping[NodeName, Member], node: NodeName) -> Member:
    """A node that is there; FederatedError UNREACHABLE where it is not any more."""
    if node not in there:
        raise FederatedError(ErrorCode.UNREACHABLE, f'node "{node}" is away')
    return there[node]


def _lets_in(node: Member, aggregator: Member) -> bool:
    """Whether a node can be dialled by an aggregator, and lets it in, and that one gathers for others."""
    shown = {fingerprint(pem) for pem in aggregator.client.pinned}
    is_dialled = node.client.endpoint.startswith("https://")
    wanted = aggregator.introduction.aggregates
    return wanted and is_dialled and bool(shown.intersection(node.introduction.aggregators))
