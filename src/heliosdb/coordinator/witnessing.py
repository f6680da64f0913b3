"""Signs heads of the audit log as it grows, and has the nodes cosign them.

What always holds: the key is never in the database; a head that a node holds is believed only if it is signed
with the key of a coordinator's certificate, and then either it is one of the log here, or the break is
recorded with it; no run waits for any of this. A term that ends leaves the rest to the next.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial

from heliosdb import faults
from heliosdb.catalog import tree_heads as catalog
from heliosdb.catalog.connection import Connection
from heliosdb.catalog.tree_heads import HeldHead, Signer, Unwitnessed
from heliosdb.coordinator.config import CoordinatorConfig
from heliosdb.coordinator.directory import Directory, Member
from heliosdb.coordinator.dispatcher import CATALOG_GONE
from heliosdb.coordinator.session import CatalogSession
from heliosdb.domain.errors import ErrorCode, FederatedError, place_of
from heliosdb.domain.ids import Epoch
from heliosdb.domain.tree_head import (
    Log,
    SignedStatement,
    WitnessAnswer,
    WitnessRequest,
    parse_head,
    parse_witnessed,
)
from heliosdb.transport.head_signatures import find_head_signer, sign_head, verify_witnessed
from heliosdb.transport.identity import Identity, fingerprint
from heliosdb.transport.messages import reason_of

log = logging.getLogger(__name__)

_PATIENCE = 10.0
"""Seconds for a node to answer."""

_PAUSE = 1.0
"""Seconds, where the catalog is out of reach."""

_ATTEMPTS = 3


class Witnessing:
    """Holds the heads of a term. identity: the coordinator's, with whose key heads are signed."""

    def __init__(
        self, config: CoordinatorConfig, directory: Directory, identity: Callable[[], Identity], epoch: Epoch
    ) -> None:
        self._config = config
        self._directory = directory
        self._identity = identity
        self._epoch = epoch
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._due: dict[int, float] = {}
        self._broken: set[Log] = set()
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Work until cancelled; raises FENCED where the term is over."""
        try:
            while True:
                try:
                    async with CatalogSession(self._config.database.get_secret_value(), "audit") as session:
                        await self._serve(session)
                except CATALOG_GONE as error:
                    log.warning("signing heads of the audit log interrupted: %s", type(error).__name__)
                await asyncio.sleep(_PAUSE)
        finally:
            await self._close()

    async def _close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _serve(self, session: CatalogSession) -> None:
        # What ended the session before is not this one's.
        self._failure = asyncio.get_running_loop().create_future()
        try:
            while True:
                await self._sign(session)
                self._show(session, await session.call(catalog.list_unwitnessed))
                await asyncio.wait({self._failure}, timeout=self._config.poll_interval)
                if self._failure.done():
                    self._failure.result()
        finally:
            await self._close()

    async def _sign(self, session: CatalogSession) -> None:
        identity = self._identity()
        signer = _signer(identity.certificate_pem)
        for grown in await session.call(catalog.list_grown, self._config.audit_head_interval):
            head = await session.call(
                catalog.sign_grown, self._epoch, grown, signer, partial(sign_head, identity)
            )
            if head is None:
                if grown not in self._broken:
                    log.error("audit log of workspace %s: entries are missing, no head was signed", grown[0])
                self._broken.add(grown)
                continue
            self._broken.discard(grown)
            log.info("audit log of workspace %s: head over %d entries signed", grown[0], head.size)
            faults.reach("coordinator.head.signed")

    def _show(self, session: CatalogSession, unwitnessed: Sequence[Unwitnessed]) -> None:
        now = asyncio.get_running_loop().time()
        for one in unwitnessed:
            member = self._directory.find_by_id(one.node_id)
            if member is None or one.node_id in self._tasks or now < self._due.get(one.node_id, 0.0):
                continue
            task = asyncio.create_task(self._attempt(session, member, one), name=f"head to {one.node}")
            self._tasks[one.node_id] = task
            task.add_done_callback(partial(self._end, one.node_id))

    def _end(self, node_id: int, task: asyncio.Task[None]) -> None:
        self._tasks.pop(node_id, None)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._failure.done():
            self._failure.set_exception(error)

    async def _attempt(self, session: CatalogSession, member: Member, one: Unwitnessed) -> None:
        try:
            taken = await self._witness(session, member, one)
        except CATALOG_GONE:
            raise
        except FederatedError as error:
            if error.code is ErrorCode.FENCED:
                raise
            log.info("head not witnessed: node=%s %s", one.node, reason_of(error))
            taken = False
        except Exception as error:  # noqa: BLE001 -- whatever one node's answer causes must not end the term
            log.error("a head could not be shown: node=%s %s", one.node, place_of(error))
            taken = False
        if taken:
            self._due.pop(one.node_id, None)
        else:
            self._due[one.node_id] = asyncio.get_running_loop().time() + self._config.reconnect_interval

    async def _witness(self, session: CatalogSession, member: Member, one: Unwitnessed) -> bool:
        """Show a node a head, with the proof from the one that it holds; whether it was cosigned."""
        workspace, _ = one.log
        held_size = one.cosigned
        for _ in range(_ATTEMPTS):
            path = await session.call(catalog.prove_growth, one.log, held_size, one.size)
            request = WitnessRequest(workspace, member.name, one.head, held_size, path)
            answer = await member.client.witness(request, _PATIENCE)
            faults.reach("coordinator.head.witnessed")
            strange = await session.call(_find_strange, self._identity().certificate_pem, one, answer)
            found = await session.call(catalog.record_held, self._epoch, workspace, one.node, strange)
            if found:
                log.error(
                    "audit log of workspace %s: node %s holds a head that is not of it", workspace, one.node
                )
            if answer.cosignature is not None:
                await self._keep(session, member, one, answer.cosignature)
                return True
            if answer.refusal is not None:
                log.error(
                    "audit log of workspace %s: node %s refuses its head: %s",
                    workspace,
                    one.node,
                    answer.refusal,
                )
                return False
            held = _held_size(answer, one)
            if held is None or held == held_size or held > one.size:
                return False
            held_size = held
        return False

    async def _keep(
        self, session: CatalogSession, member: Member, one: Unwitnessed, cosignature: SignedStatement
    ) -> None:
        witnessed = parse_witnessed(cosignature.statement)
        if (witnessed.head_sha256, witnessed.node) != (one.head.sha256, one.node):
            raise FederatedError(ErrorCode.UPDATE_REJECTED, "the cosignature is not of this head")
        pinned = member.client.pinned
        certificate = next((one for one in pinned if verify_witnessed([one], cosignature)), None)
        if certificate is None:
            raise FederatedError(ErrorCode.UPDATE_REJECTED, "the cosignature is not made with the node's key")
        await session.call(catalog.store_cosignature, self._epoch, one, cosignature, _signer(certificate))


def _signer(certificate: bytes) -> Signer:
    return Signer(bytes.fromhex(fingerprint(certificate)), certificate)


def _held_size(answer: WitnessAnswer, one: Unwitnessed) -> int | None:
    """How many entries the node's newest head of this log has, as it says."""
    heads = (parse_head(held.statement) for held in answer.held)
    return next((head.size for head in heads if head.log == one.log), 0)


def _find_strange(
    connection: Connection, certificate: bytes, one: Unwitnessed, answer: WitnessAnswer
) -> list[HeldHead]:
    """The heads that a node holds, signed with a coordinator's key, which are of no log here."""
    trusted = [certificate, *catalog.list_signers(connection)]
    found = []
    for signed in answer.held:
        head = parse_head(signed.statement)
        if head.workspace != one.log[0] or find_head_signer(trusted, signed) is None:
            continue
        entries = catalog.count_entries(connection, head.log)
        if entries == 0:
            found.append(HeldHead(head, signed, "missing", 0))
        elif entries < head.size:
            found.append(HeldHead(head, signed, "rolled back", entries))
        elif catalog.find_root(connection, head.log, head.size) != head.root:
            found.append(HeldHead(head, signed, "forked", entries))
    return found
