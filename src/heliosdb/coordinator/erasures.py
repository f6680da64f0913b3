"""Carries erasures out once the nodes have answered: finds what learned from the subject, has it trained
anew, retires it, and certifies that.

What always holds: every step follows from committed rows, in one fenced transaction, and is done once: a
coordinator that is started anew goes on where another one ended. Nothing here waits for a node.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from heliosdb import faults
from heliosdb.catalog import erasures as catalog
from heliosdb.catalog import events
from heliosdb.catalog.connection import Connection
from heliosdb.catalog.lease import fenced
from heliosdb.coordinator.dispatcher import CATALOG_GONE
from heliosdb.coordinator.session import CatalogSession
from heliosdb.domain.erasure import certificate_bytes, certificate_sha256
from heliosdb.domain.errors import ErrorCode, FederatedError, place_of
from heliosdb.domain.ids import Epoch, OrderId
from heliosdb.transport.identity import Identity
from heliosdb.transport.verification import sign_certificate

log = logging.getLogger(__name__)

_PAUSE = 1.0
"""Seconds between two looks at what is under way."""


class Erasures:
    """Carries out the erasures of a term."""

    def __init__(self, conninfo: str, epoch: Epoch, identity: Callable[[], Identity]) -> None:
        self._conninfo = conninfo
        self._epoch = epoch
        self._identity = identity
        self._work = asyncio.Event()

    def refresh(self, *, has_work: bool) -> None:
        """Take in whether anything is to be done."""
        if has_work:
            self._work.set()

    async def run(self) -> None:
        """Carry out what is to be; raises FENCED where a write found that the term is over."""
        while True:
            await self._work.wait()
            self._work.clear()
            try:
                async with CatalogSession(self._conninfo, "erasures") as session:
                    for step in (self._plan, self._queue, self._retire, self._certify):
                        await self._attempt(step, session)
            except CATALOG_GONE as error:
                log.warning("erasures interrupted: %s", type(error).__name__)
            await asyncio.sleep(_PAUSE)

    async def _attempt(
        self, step: Callable[[CatalogSession], Awaitable[None]], session: CatalogSession
    ) -> None:
        """Do what is due of one step: what fails is tried again at the next look, and keeps no other back."""
        try:
            await step(session)
        except CATALOG_GONE:
            raise
        except Exception as error:
            if isinstance(error, FederatedError) and error.code is ErrorCode.FENCED:
                raise
            log.error("an erasure failed inside the coordinator: %s", place_of(error))

    async def _plan(self, session: CatalogSession) -> None:
        for order_id in await session.call(_plan, self._epoch):
            log.info("erasure planned: request=%s", order_id)
            faults.reach("coordinator.erasure.planned")

    async def _queue(self, session: CatalogSession) -> None:
        if await session.call(_queue, self._epoch):
            faults.reach("coordinator.erasure.queued")

    async def _retire(self, session: CatalogSession) -> None:
        for model, version in await session.call(_retire, self._epoch):
            log.info("version retired: model=%s version=%s", model, version)
            faults.reach("coordinator.erasure.retired")

    async def _certify(self, session: CatalogSession) -> None:
        for order_id in await session.call(catalog.list_uncertified):
            await self._attempt(partial(self._certify_one, order_id), session)

    async def _certify_one(self, order_id: OrderId, session: CatalogSession) -> None:
        await session.call(_certify, self._epoch, order_id, self._identity())
        log.info("erasure certified: request=%s", order_id)
        faults.reach("coordinator.erasure.certified")


def _plan(connection: Connection, epoch: Epoch) -> list[OrderId]:
    """Find what requests concern, and end the runs under way among that."""
    with fenced(connection, epoch):
        planned = catalog.plan_erasures(connection)
        for run, message in catalog.interrupt_runs(connection) if planned else ():
            events.record_event(connection, epoch, "run.failed", run=run, details={"message": message})
        for order_id in planned:
            events.record_event(connection, epoch, "erasure.planned", details={"request": str(order_id)})
    return planned


def _queue(connection: Connection, epoch: Epoch) -> bool:
    """Queue what is to be trained anew; tells whether there was any."""
    with fenced(connection, epoch):
        queued = [(one, catalog.queue_retraining(connection, one)) for one in catalog.list_due(connection)]
        made = [(one, run) for one, run in queued if run is not None]
        for one, run in made:
            events.record_event(
                connection, epoch, "erasure.queued", run=run, details={"source_run": str(one.source)}
            )
    return bool(made)


def _retire(connection: Connection, epoch: Epoch) -> list[tuple[str, int]]:
    """Retire what can be, and say what the rest waits for."""
    with fenced(connection, epoch):
        retired = catalog.retire_erased(connection)
        for model, version in retired:
            events.record_event(
                connection, epoch, "version.retired", details={"model": model, "version": version}
            )
        catalog.explain_erasures(connection)
        catalog.withhold_versions(connection)
    return retired


def _certify(connection: Connection, epoch: Epoch, order_id: OrderId, identity: Identity) -> None:
    """Sign what was done about one request."""
    with fenced(connection, epoch):
        erasure = catalog.read_erasure(connection, order_id)
        certificate = erasure.to_certificate()
        raw = certificate_bytes(certificate)
        catalog.complete(
            connection,
            order_id,
            erasure.exactness,
            raw,
            certificate_sha256(certificate),
            sign_certificate(identity, raw),
            identity.certificate_pem,
        )
        events.record_event(connection, epoch, "erasure.certified", details={"request": str(order_id)})
