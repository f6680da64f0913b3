"""Deletes what is older than its workspace's retention, and folds what experiments keep no longer: at the
beginning of a term, and every hour.

What always holds: what is old enough, and what is on hold, the database decides by its own clock; each part
is deleted in one transaction with its signed stub, under the term's epoch, so that a coordinator that is
killed has deleted a part with its stub or nothing; a workspace that cannot be dealt with does not keep the
others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import psycopg

from heliosdb.catalog.failures import condition
from heliosdb.catalog.lease import fenced
from heliosdb.catalog.psycopg_connection import PsycopgConnection
from heliosdb.catalog.retention import fold_experiments, forget_expired, list_retained
from heliosdb.coordinator.session import CatalogSession
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import Epoch, WorkspaceName
from heliosdb.domain.retention import Stub
from heliosdb.transport.identity import Identity

log = logging.getLogger(__name__)

_HOUR = 3600.0


class Retention:
    """The deletions of a term. pause: seconds between two looks."""

    def __init__(
        self, conninfo: str, epoch: Epoch, identity: Callable[[], Identity], *, pause: float = _HOUR
    ) -> None:
        self._conninfo = conninfo
        self._epoch = epoch
        self._identity = identity
        self._pause = pause

    async def run(self) -> None:
        """Look again and again; raises FederatedError FENCED and nothing else."""
        while True:
            try:
                await self.sweep()
            except psycopg.Error as error:
                log.warning("nothing is deleted for its age: %s", condition(error.sqlstate))
            await asyncio.sleep(self._pause)

    async def sweep(self) -> None:
        """Delete all that is old enough now."""
        async with CatalogSession(self._conninfo, "retention") as session:
            for workspace in await session.call(list_retained):
                try:
                    while stubs := await session.call(self._forget, workspace):
                        _tell(stubs)
                    if folded := await session.call(self._fold, workspace):
                        log.info("folded for its age: workspace=%s calls and outcomes=%d", workspace, folded)
                except FederatedError as error:
                    if error.code is ErrorCode.FENCED:
                        raise
                    log.error("workspace %s: nothing is deleted for its age: %s", workspace, error.message)

    def _forget(self, connection: PsycopgConnection, workspace: WorkspaceName) -> list[Stub]:
        identity = self._identity()

        def sign(statement: bytes) -> tuple[bytes, str]:
            return identity.sign(statement), identity.certificate_pem.decode()

        with fenced(connection, self._epoch):
            return forget_expired(connection, workspace, sign)

    def _fold(self, connection: PsycopgConnection, workspace: WorkspaceName) -> int:
        with fenced(connection, self._epoch):
            return fold_experiments(connection, workspace)


def _tell(stubs: list[Stub]) -> None:
    for stub in stubs:
        log.info("deleted for its age: workspace=%s %s=%d", stub.workspace, stub.what, stub.entries)
