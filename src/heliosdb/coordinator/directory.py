"""The registrar: every registered node, whether it is there, and the client that talks to it.

What always holds: a node counts as present only after it was met in this term (its pinned certificate
resolved, the greeting answered); what is found out is recorded under the leader's epoch; a node whose row
changes is met anew, and meanwhile stays present where nothing but its certificate changed and it keeps one
that it had; a node that was met and lost is left alone where its workspace says so.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace

import psycopg

from heliosdb.catalog import deliveries
from heliosdb.catalog import nodes as catalog
from heliosdb.catalog.lease import fenced
from heliosdb.catalog.nodes import CommunicationProtocol, NodeRecord, NodeStatus
from heliosdb.catalog.psycopg_connection import PsycopgConnection
from heliosdb.coordinator.arrivals import Arrivals
from heliosdb.coordinator.breaches import Breach, breach_of, raise_breach
from heliosdb.coordinator.certificates import PASSING, check_not_expired
from heliosdb.coordinator.config import CoordinatorConfig
from heliosdb.coordinator.links import Link, Pins
from heliosdb.coordinator.peers import Peer, Stored
from heliosdb.coordinator.session import CatalogSession
from heliosdb.domain.absence import Absence
from heliosdb.domain.clock import Clock, SystemClock
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.handshake import Introduction
from heliosdb.domain.ids import Epoch, NodeName, SubscriptionName, WorkspaceName
from heliosdb.domain.subscription import Subscription
from heliosdb.transport.carriers import UnsentError
from heliosdb.transport.client import NodeClient
from heliosdb.transport.expiry import ExpiryWarnings
from heliosdb.transport.identity import Identity, expires
from heliosdb.transport.messages import NodeRefusedError, reason_of

log = logging.getLogger(__name__)


def may_pass(error: FederatedError) -> bool:
    """Whether asking again may do: node or network are away, or the node says that its own database is."""
    if isinstance(error, NodeRefusedError):
        return error.reason is ErrorCode.UNREACHABLE
    return error.code in PASSING


_MISSES = 3
_FIRST_RETRY = 0.5
_SETTLED_MISTAKE = 30.0

_BEATS_A_GREETING = 3
"""After so many heartbeats the node is greeted again: what its DBA allows is seen without a run."""

_LEAST_FLOWER_HEARTBEAT = 60.0
"""Flower starts a process at the node for what it brings there."""

_LEFT_ALONE = "auto_reconnect is false: it is dialled again once ALTER FEDERATED NODE asks for it"


_MET_AT_ONCE = 32
"""Nodes: of a thousand handshakes at once each would take longer than a node may take to answer."""


@dataclass(frozen=True, slots=True)
class Member:
    """A node that is there: how to ask it, and what it shares."""

    record: NodeRecord
    client: NodeClient
    introduction: Introduction

    @property
    def name(self) -> NodeName:
        """The node's name in its workspace."""
        return self.record.name


class Directory:
    """Keeps one task a node while it is entered with `run`."""

    def __init__(
        self,
        config: CoordinatorConfig,
        identity: Callable[[], Identity],
        session: CatalogSession,
        epoch: Epoch,
        *,
        clock: Clock | None = None,
        arrivals: Arrivals | None = None,
    ) -> None:
        """arrivals: where nodes come in by themselves; None: nowhere."""
        self._config = config
        self._identity = identity
        self._session = session
        self._epoch = epoch
        self._clock = clock or SystemClock()
        self._arrivals = arrivals or Arrivals()
        self._peers: dict[int, Peer] = {}
        self._changed = asyncio.Event()
        self._seen_once = False
        self._meetings = asyncio.Semaphore(_MET_AT_ONCE)
        self._expiry = ExpiryWarnings(self._clock)
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Record who was heard, at every interval; raises what a keeper could not handle."""
        try:
            while True:
                await asyncio.wait({self._failure}, timeout=self._config.heartbeat_interval)
                if self._failure.done():
                    self._failure.result()
                await self._record_heard()
                self._warn_of_expiry()
        finally:
            await self.close()

    async def close(self) -> None:
        """Leave every node alone and close the channels.

        They are known on: a run that is asked about one meanwhile finds it away, and not unregistered, which
        would be the run's end.
        """
        for peer in list(self._peers.values()):
            await self._forget(peer)

    async def refresh(self, records: Sequence[NodeRecord], as_of: float) -> None:
        """Take in what the catalog says; as_of: the loop's time just before it was read."""
        present = {record.id: record for record in records}
        for gone in self._peers.keys() - present.keys():
            await self._forget(self._peers.pop(gone))
        for record in records:
            peer = self._peers.get(record.id)
            if peer is None:
                self._meet_anew(record)
            elif peer.present and record.differs_in_certificate_alone(peer.record):
                self._renew(peer, record)
            elif peer.is_altered(record, as_of):
                await self._forget(peer)
                self._meet_anew(record)
            else:
                if record.link != peer.record.link:
                    peer.asked.set()
                peer.record = record
        if not self._seen_once:
            self._seen_once = True
            self._notify()

    def is_settled(self) -> bool:
        """Whether every registered node was tried at least once in this term."""
        return self._seen_once and all(peer.tried for peer in self._peers.values())

    def find(self, workspace: WorkspaceName, node: NodeName) -> Member | None:
        """Return the node if it is there now."""
        for peer in self._of(workspace):
            if peer.record.name == node:
                return _member(peer)
        return None

    def is_registered(self, workspace: WorkspaceName, node: NodeName) -> bool:
        """Whether the workspace has a node of that name."""
        return any(peer.record.name == node for peer in self._of(workspace))

    def reason(self, workspace: WorkspaceName, node: NodeName) -> str:
        """Say why a registered node is not there."""
        return next((peer.reason for peer in self._of(workspace) if peer.record.name == node), "is unknown")

    def look(self, workspace: WorkspaceName) -> tuple[list[Member], list[Absence]]:
        """Return the nodes of a workspace that are there, and why the others are not."""
        members, absences = [], []
        for peer in sorted(self._of(workspace), key=lambda peer: peer.record.name):
            member = _member(peer)
            if member is not None:
                members.append(member)
            else:
                absences.append(Absence(peer.record.name, peer.reason))
        return members, absences

    async def greet_again(self, workspace: WorkspaceName) -> None:
        """Ask the nodes that are there what they share now; one that does not answer is met anew."""

        async def greet(peer: Peer) -> None:
            try:
                await self._greet(peer)
            except FederatedError as error:
                await self._demote(peer, NodeStatus.FAILED, reason_of(error), breach_of(error))
                self._meet_anew_later(peer)

        await asyncio.gather(*(greet(peer) for peer in list(self._of(workspace)) if peer.present))

    def find_by_id(self, node_id: int) -> Member | None:
        """Return the node of this id if it is there now."""
        peer = self._peers.get(node_id)
        return None if peer is None else _member(peer)

    async def hear_of(self, member: Member, said: Subscription) -> None:
        """Take in what a node says of one of its subscriptions after a delivery."""
        peer = self._peers.get(member.record.id)
        if peer is not None and peer.introduction is not None:
            peer.introduction = _with_subscription(peer.introduction, said)
        record = member.record
        await self._write(lambda connection: deliveries.record_subscription(connection, record, said))

    async def hear_failure(self, member: Member, name: SubscriptionName, failure: str) -> None:
        """Take in that a delivery has failed."""
        record = member.record
        await self._write_words(
            lambda connection, words: deliveries.record_delivery_failure(connection, record, name, words),
            failure,
        )

    async def wait_for_change(self, seconds: float) -> None:
        """Wait until some node comes, goes or is tried, at most `seconds`."""
        with suppress(TimeoutError):
            # Not wait_for: before Python 3.12 it drops a cancellation that comes as the wait ends.
            async with asyncio.timeout(max(seconds, 0.0)):
                await self._changed.wait()

    def _of(self, workspace: WorkspaceName) -> list[Peer]:
        return [peer for peer in self._peers.values() if peer.record.workspace == workspace]

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _meet_anew(self, record: NodeRecord) -> None:
        stored = Stored(record.status, record.certificate, record.endpoint_in_use)
        peer = Peer(record, Link(self._config, self._identity, self._clock, self._arrivals), stored=stored)
        self._peers[record.id] = peer
        peer.keeper = asyncio.create_task(self._keep(peer), name=f"node {record.workspace}/{record.name}")
        peer.keeper.add_done_callback(self._keeper_ended)

    def _renew(self, peer: Peer, record: NodeRecord) -> None:
        """Meet a node with other pins; as long as one of the former is among them it stays present."""
        peer.record, peer.renewing, peer.stored = record, True, Stored()
        peer.reason = "its certificate was changed, and it is not met yet"
        self._meet_anew_later(peer)

    def _meet_anew_later(self, peer: Peer) -> None:
        if self._peers.get(peer.record.id) is peer and peer.keeper is not None:
            peer.keeper.cancel()
            peer.keeper = asyncio.create_task(self._keep(peer))
            peer.keeper.add_done_callback(self._keeper_ended)

    def _keeper_ended(self, keeper: asyncio.Task[None]) -> None:
        if not keeper.cancelled() and keeper.exception() is not None and not self._failure.done():
            self._failure.set_exception(keeper.exception() or RuntimeError)

    async def _forget(self, peer: Peer) -> None:
        if peer.keeper is not None:
            peer.keeper.cancel()
            await asyncio.wait({peer.keeper})
        await peer.link.close()
        self._notify()

    async def _keep(self, peer: Peer) -> None:
        """Meet the node, then listen to its heart; again and again while it is registered."""
        attempt = 0
        while True:
            await self._may_dial(peer)
            try:
                await self._meet(peer)
                attempt = 0
                await self._listen(peer)
            except FederatedError as error:
                if error.code is ErrorCode.FENCED:
                    raise
                failure = error
            except psycopg.Error:
                raise
            except Exception:  # Whatever one node's certificate or bytes cause must not end the term.
                log.exception("meeting node %s failed", peer.record.name)
                failure = FederatedError(ErrorCode.INTERNAL, "meeting it failed inside the coordinator")
            pause = self._pause(peer, failure, attempt)
            reason, breach = reason_of(failure), breach_of(failure)
            # Its traceback holds the call that failed, and that a channel, which would go on dialling.
            del failure
            if peer.is_held_once:
                await peer.link.close()
            await self._demote(peer, NodeStatus.FAILED, reason, breach)
            if not peer.is_left_alone:
                await peer.await_asked(pause)
            attempt += 1

    async def _may_dial(self, peer: Peer) -> None:
        """Wait while the node is left alone: as this term found it, or one before."""
        while peer.is_left_alone:
            if not peer.tried:
                self._note(peer, NodeStatus.FAILED, _LEFT_ALONE)
            await peer.link.close()
            await peer.await_asked(None)

    def _pause(self, peer: Peer, error: FederatedError, attempt: int) -> float:
        if not may_pass(error):
            return _SETTLED_MISTAKE
        if peer.record.link.nodes_come and isinstance(error, UnsentError):
            # Meeting it is waiting for it.
            return 0.0
        pause = min(_FIRST_RETRY * 2.0 ** min(attempt, 30), self._reconnect_interval(peer))
        return pause * random.uniform(0.8, 1.2)  # noqa: S311 - spreads reconnections, decides nothing

    def _reconnect_interval(self, peer: Peer) -> float:
        own = peer.record.link.reconnect_interval
        return self._config.reconnect_interval if own is None else float(own)

    def _heartbeat_interval(self, peer: Peer) -> float:
        over_flower = peer.record.link.protocol is CommunicationProtocol.FLOWER
        least = _LEAST_FLOWER_HEARTBEAT if over_flower else 0.0
        return max(self._config.heartbeat_interval, least)

    async def _meet(self, peer: Peer) -> None:
        record = peer.record
        if record.outside is not None:
            raise FederatedError(ErrorCode.NOT_SUPPORTED, record.outside)
        # Who dials in is waited for, and takes no work meanwhile.
        async with nullcontext() if record.link.nodes_come else self._meetings:
            peer.introduction = await peer.link.meet(record, lambda pins: self._check_not_taken(peer, pins))
        await self._activate(peer)

    async def _greet(self, peer: Peer) -> None:
        """Ask a node that was met what it shares now, and record it."""
        known, record = peer.introduction, peer.record
        peer.introduction = said = await peer.link.greet(record)
        if peer.link.certificate.decode() != peer.stored.certificate:
            await self._activate(peer)
        elif known != said:
            self._notify()
            await self._write(lambda connection: _record_introduction(connection, record, said))

    def _check_not_taken(self, peer: Peer, pins: Pins) -> None:
        """One participant under two names would count, and could spend, twice."""
        wanted, stored = frozenset(pins), frozenset(pin.decode(errors="replace") for pin in pins)
        for other in self._of(peer.record.workspace):
            accepted = () if other.link.client is None else other.link.pins
            is_same = other.stored.certificate in stored or not wanted.isdisjoint(accepted)
            if is_same and other is not peer:
                raise catalog.already_registered(other.record.name)

    async def _listen(self, peer: Peer) -> None:
        misses, beats, loop = 0, 0, asyncio.get_running_loop()
        looked_back = loop.time()
        while True:
            await asyncio.sleep(self._heartbeat_interval(peer))
            beats += 1
            check_not_expired([peer.link.certificate], self._clock.time())
            if await peer.link.is_outdated(peer.record):
                await self._meet(peer)
            elif loop.time() >= looked_back + self._reconnect_interval(peer):
                looked_back = loop.time()
                await self._look_back(peer)
            assert peer.link.client is not None
            try:
                said = await peer.link.client.heartbeat(self._config.heartbeat_timeout, peer.record.workspace)
                if beats % _BEATS_A_GREETING == 0 or not peer.is_known(said):
                    await self._greet(peer)
            except FederatedError as error:
                misses += 1
                if error.code is not ErrorCode.TIMEOUT or misses >= _MISSES:
                    raise
                await self._demote(peer, NodeStatus.SLOW, error.message)
                continue
            misses, peer.heard = 0, True
            if peer.recorded is not NodeStatus.ACTIVE:
                await self._activate(peer)

    async def _look_back(self, peer: Peer) -> None:
        """Over a backup_endpoint: go back to the endpoint where the node answers there again."""
        if peer.link.endpoint == peer.record.endpoint:
            return
        said = await peer.link.return_to_endpoint(peer.record)
        if said is not None:
            peer.introduction = said
            await self._activate(peer)

    async def _activate(self, peer: Peer) -> None:
        record, link, known = peer.record, peer.link, peer.introduction
        found = Stored(NodeStatus.ACTIVE, link.certificate.decode(), link.endpoint or None)
        known_already, ends = peer.stored == found, expires(link.certificate)

        def activate(connection: PsycopgConnection) -> None:
            if known_already:
                catalog.touch_nodes(connection, [record])
            else:
                catalog.activate_node(connection, record, found.certificate or "", ends, found.endpoint)
            if known is not None:
                _record_introduction(connection, record, known)

        await self._write(activate)
        peer.stored = found
        log.info(
            "node active: workspace=%s node=%s endpoint=%s", record.workspace, record.name, found.endpoint
        )
        self._note(peer, NodeStatus.ACTIVE, "")

    async def _demote(
        self, peer: Peer, status: NodeStatus, reason: str, breach: Breach | None = None
    ) -> None:
        record = peer.record
        if status is NodeStatus.FAILED and peer.is_held_once:
            reason = f"{reason}; {_LEFT_ALONE}"
        log.warning("node %s: workspace=%s node=%s reason=%s", status, record.workspace, record.name, reason)
        self._note(peer, status, reason)

        def demote(connection: PsycopgConnection, words: str) -> None:
            catalog.demote_node(connection, record, status, words)
            if breach is not None:
                now = self._clock.time()
                raise_breach(
                    connection, self._epoch, record.workspace, breach, words, node=record.name, now=now
                )

        await self._write_words(demote, reason)
        peer.stored = replace(peer.stored, status=status)
        self._note(peer, status, reason)

    def _note(self, peer: Peer, status: NodeStatus, reason: str) -> None:
        peer.recorded, peer.reason, peer.tried, peer.renewing = status, reason, True, False
        peer.recorded_at = asyncio.get_running_loop().time()
        self._notify()

    def _warn_of_expiry(self) -> None:
        nodes = [
            (f'node "{peer.record.name}" of workspace "{peer.record.workspace}"', peer.link.certificate)
            for peer in self._peers.values()
            if peer.link.certificate
        ]
        self._expiry.look([("this coordinator", self._identity().certificate_pem), *nodes])

    async def _record_heard(self) -> None:
        heard = [peer for peer in self._peers.values() if peer.heard]
        for peer in heard:
            peer.heard = False
        if heard:
            records = [peer.record for peer in heard]
            await self._write(lambda connection: catalog.touch_nodes(connection, records))

    async def _write_words(self, change: Callable[[PsycopgConnection, str], None], words: str) -> None:
        """Write a node's own words, without the characters that the catalog's encoding may not have."""
        try:
            await self._write(lambda connection: change(connection, words))
        except (UnicodeEncodeError, psycopg.DataError):
            plain = words.encode("ascii", "replace").decode()
            await self._write(lambda connection: change(connection, plain))

    async def _write(self, change: Callable[[PsycopgConnection], None]) -> None:
        def write(connection: PsycopgConnection) -> None:
            with fenced(connection, self._epoch):
                change(connection)

        await self._session.call(write)


def _record_introduction(connection: PsycopgConnection, node: NodeRecord, said: Introduction) -> None:
    catalog.record_introduction(connection, node, said)
    deliveries.record_subscriptions(connection, node, said.subscriptions)


def _with_subscription(introduction: Introduction, said: Subscription) -> Introduction:
    told = tuple(said if one.name == said.name else one for one in introduction.subscriptions)
    return replace(introduction, subscriptions=told)


def _member(peer: Peer) -> Member | None:
    if not peer.present or peer.link.client is None or peer.introduction is None:
        return None
    return Member(peer.record, peer.link.client, peer.introduction)
