"""Seals anew what another root key has sealed of a node's memories and of its own parts of models, and what
earlier releases have.

What always holds: it follows from what the rows say, a few a transaction; a memory that a task wrote
meanwhile is left as that wrote it.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from heliosdb.catalog import sealed
from heliosdb.catalog.connection import Connection
from heliosdb.domain.errors import FederatedError
from heliosdb.node.database import Database
from heliosdb.node.memory import about_memory, memory_scope
from heliosdb.transport.at_rest import AtRestKey, UnopenedError
from heliosdb.transport.root_keys import RootKeys

log = logging.getLogger(__name__)

_PAUSE = 5.0
_LOOKS_A_SWEEP = 12
_BATCH = 16


async def keep_sealed(database: Database, keys: AtRestKey, roots: RootKeys) -> None:
    """Look again and again for a root key that was replaced, until cancelled."""
    swept, looks = "", 0
    while True:
        try:
            await asyncio.to_thread(roots.refresh, keys)
            # What was being written while the key was replaced is found a little later.
            if swept != keys.current or looks % _LOOKS_A_SWEEP == 0:
                await asyncio.to_thread(sweep, database, keys, roots.source)
                swept = keys.current
        except FederatedError as error:
            log.warning("nothing is sealed anew: %s", error.message)
        looks += 1
        await asyncio.sleep(_PAUSE)


def sweep(database: Database, keys: AtRestKey, source: str) -> int:
    """Seal all anew that the current root key has not sealed; returns how many."""
    if database.run(lambda connection: _note(connection, keys, source)):
        log.info("sealing with root key %s from %s", keys.current, source)
    left: set[tuple[object, ...]] = set()
    done = 0
    for step in (_rewrap, _rewrap_parts, _seal):
        while moved := database.run(partial(step, keys=keys, left=left)):
            done += moved
    if left:
        log.warning(
            "memories of runs, or own parts of models, open with no root key that is at hand, and are left:"
            " rows=%d",
            len(left),
        )
    return done


def _note(connection: Connection, keys: AtRestKey, source: str) -> bool:
    with connection.transaction():
        return sealed.note_current(connection, sealed.Holder.NODE, keys.current, source)


def _rewrap(connection: Connection, keys: AtRestKey, left: set[tuple[object, ...]]) -> int:
    done = 0
    with connection.transaction():
        for row in sealed.stale_memories(connection, keys.current, _BATCH + len(left)):
            try:
                sealed.rewrap_memory(connection, row, keys.rewrap(row.sealed))
                done += 1
            except UnopenedError:
                left.add(row.place)
    return done


def _rewrap_parts(connection: Connection, keys: AtRestKey, left: set[tuple[object, ...]]) -> int:
    """The same of the node's own parts of models."""
    done = 0
    with connection.transaction():
        for row in sealed.stale_parts(connection, keys.current, _BATCH + len(left)):
            try:
                sealed.rewrap_part(connection, row, keys.rewrap(row.sealed))
                done += 1
            except UnopenedError:
                left.add(("personal", *row.place))
    return done


def _seal(connection: Connection, keys: AtRestKey, left: set[tuple[object, ...]]) -> int:
    """Seal anew one memory that an earlier release has sealed."""
    with connection.transaction():
        row = next((one for one in sealed.unnamed_memories(connection) if one.place not in left), None)
        if row is None:
            return 0
        workspace, run, node = row.place
        about = about_memory(run, node, workspace)
        try:
            plain = keys.open(row.sealed, about=about)
        except UnopenedError:
            left.add(row.place)
            return 1
        again = keys.seal(plain, about=about, scope=memory_scope(workspace), version=row.version)
        sealed.put_memory_again(connection, row, again)
        return 1
