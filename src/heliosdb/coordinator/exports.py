"""Exports at the coordinator: what nodes send is kept sealed, and the server told when it can write the file.

What always holds: the daemon opens nothing and writes no file; an export is taken one step at a time, each in
a transaction of its own, until the catalog says that it is over. Nothing is remembered but when a file that
could not be written is tried again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from heliosdb import faults
from heliosdb.catalog import exports as catalog
from heliosdb.catalog.connection import Connection
from heliosdb.catalog.lease import fenced
from heliosdb.catalog.orders import PendingAnswer
from heliosdb.coordinator.config import CoordinatorConfig
from heliosdb.coordinator.dispatcher import CATALOG_GONE
from heliosdb.coordinator.session import CatalogSession
from heliosdb.domain.ids import Epoch, OrderId
from heliosdb.domain.sealed_part import MOST_SEALED_BYTES
from heliosdb.transport.order_messages import CarriedOrder

log = logging.getLogger(__name__)

_FIRST_RETRY = 1.0
_LONGEST_PAUSE = 300.0


def keep_export(connection: Connection, pending: PendingAnswer, carried: CarriedOrder) -> None:
    """Keep what followed a node's statement; of more than an export may be nothing, which does not open."""
    body = carried.body if len(carried.body) <= MOST_SEALED_BYTES else b""
    catalog.keep_part(connection, pending, body)


class Exports:
    """Holds the exports of a term."""

    def __init__(self, config: CoordinatorConfig, epoch: Epoch) -> None:
        self._conninfo = config.database.get_secret_value()
        self._epoch = epoch
        self._writing: asyncio.Task[None] | None = None
        self._blocked: dict[OrderId, tuple[int, float]] = {}
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Wait; raises FENCED where a write found that the term is over."""
        try:
            await self._failure
        finally:
            await self.close()

    async def close(self) -> None:
        """Leave every export where it is."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait([self._writing])

    def refresh(self, due: Sequence[OrderId]) -> None:
        """Take in which exports can be written."""
        now = asyncio.get_running_loop().time()
        self._blocked = {one: when for one, when in self._blocked.items() if one in due}
        ready = [one for one in due if now >= self._blocked.get(one, (0, 0.0))[1]]
        if ready and self._writing is None:
            self._writing = asyncio.create_task(self._write(ready), name="exports")
            self._writing.add_done_callback(self._written)

    def _written(self, task: asyncio.Task[None]) -> None:
        self._writing = None
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._failure.done():
            self._failure.set_exception(error)

    async def _write(self, ready: Sequence[OrderId]) -> None:
        try:
            async with CatalogSession(self._conninfo, "exports") as session:
                for order_id in ready:
                    await self._write_one(session, order_id)
        except CATALOG_GONE as error:
            log.warning("exports interrupted: %s", type(error).__name__)

    async def _write_one(self, session: CatalogSession, order_id: OrderId) -> None:
        state = await session.call(_step, self._epoch, order_id)
        faults.reach("coordinator.export.composed")
        if state == "waiting":
            state = await session.call(_step, self._epoch, order_id)
        faults.reach("coordinator.export.recorded")
        log.info("export: order=%s state=%s", order_id, state)
        if state in ("waiting", "blocked"):
            count = self._blocked.get(order_id, (0, 0.0))[0]
            pause = min(_FIRST_RETRY * 2.0 ** min(count, 30), _LONGEST_PAUSE)
            self._blocked[order_id] = (count + 1, asyncio.get_running_loop().time() + pause)


def _step(connection: Connection, epoch: Epoch, order_id: OrderId) -> str:
    with fenced(connection, epoch):
        state = catalog.write_export(connection, order_id)
        if state == "written":
            faults.reach("coordinator.export.written")
    return state
