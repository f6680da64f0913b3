"""Deletes what is older than a node's own retention: when the daemon begins, and every hour.

What always holds: without the setting `retention_days` nothing is deleted; what was spent, agreed and which
rows plain answers were about stays in any case; each deletion leaves a stub that the node signed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from heliosdb.catalog.connection import Connection
from heliosdb.catalog.retention import forget_node_history
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.retention import Stub
from heliosdb.node.database import Database
from heliosdb.transport.identity import Identity

log = logging.getLogger(__name__)

_HOUR = 3600.0


async def keep_retention(database: Database, retention_days: int, identity: Callable[[], Identity]) -> None:
    """Look again and again, until cancelled."""
    while True:
        try:
            await asyncio.to_thread(sweep, database, retention_days, identity())
        except FederatedError as error:
            log.warning("nothing is deleted for its age: %s", error.message)
        await asyncio.sleep(_HOUR)


def sweep(database: Database, retention_days: int, identity: Identity) -> list[Stub]:
    """Delete all that is old enough now; FederatedError where the database does not do it."""

    def sign(statement: bytes) -> tuple[bytes, str]:
        return identity.sign(statement), identity.certificate_pem.decode()

    def operation(connection: Connection) -> list[Stub]:
        with connection.transaction():
            return forget_node_history(connection, retention_days, sign)

    stubs = database.run(operation)
    for stub in stubs:
        log.info("deleted for its age: workspace=%s %s=%d", stub.workspace, stub.what, stub.entries)
    return stubs
