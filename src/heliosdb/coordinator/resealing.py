"""Seals anew what another root key has sealed, after a rotation, and what earlier releases have.

What always holds: it is found by what the rows themselves say, a few rows a transaction under the term's
epoch, so that a coordinator that is killed goes on where it was; a row that a run writes meanwhile is left as
that wrote it; what no key opens is left, told once, and counted (federated_sealed_state). Under another root
key the row's own key alone is wrapped anew: its cipher text, and the digests that checkpoints and their files
have of it, stay.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import psycopg

from heliosdb.catalog import runs, sealed
from heliosdb.catalog.connection import Connection
from heliosdb.catalog.failures import condition
from heliosdb.catalog.lease import fenced
from heliosdb.catalog.psycopg_connection import PsycopgConnection
from heliosdb.coordinator.checkpoints import Manifest
from heliosdb.coordinator.keeping import seal_again
from heliosdb.coordinator.session import CatalogSession
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import Epoch, RunId
from heliosdb.domain.sealed_format import sealed_digest
from heliosdb.faults import reach
from heliosdb.transport.at_rest import AtRestKey, UnopenedError
from heliosdb.transport.root_keys import RootKeys

log = logging.getLogger(__name__)

_PAUSE = 5.0
_LOOKS_A_SWEEP = 12
_BATCH = 16


class Resealing:
    """The work of a term. pause: seconds between two looks for a root key that was replaced."""

    def __init__(
        self, conninfo: str, epoch: Epoch, keys: AtRestKey, roots: RootKeys, *, pause: float = _PAUSE
    ) -> None:
        self._conninfo = conninfo
        self._epoch = epoch
        self._keys = keys
        self._roots = roots
        self._pause = pause
        self._left: set[object] = set()

    async def run(self) -> None:
        """Look again and again; raises FederatedError FENCED and nothing else."""
        swept, looks = "", 0
        while True:
            try:
                await asyncio.to_thread(self._roots.refresh, self._keys)
                # What was being written while the key was replaced is found a little later.
                if swept != self._keys.current or looks % _LOOKS_A_SWEEP == 0:
                    await self.sweep()
                    swept = self._keys.current
            except psycopg.Error as error:
                log.warning("nothing is sealed anew: %s", condition(error.sqlstate))
            except FederatedError as error:
                if error.code is ErrorCode.FENCED:
                    raise
                log.error("the root keys are not read anew: %s", error.message)
            looks += 1
            await asyncio.sleep(self._pause)

    async def sweep(self) -> None:
        """Seal all anew that the current root key has not sealed."""
        async with CatalogSession(self._conninfo, "resealing") as session:
            if await session.call(self._note):
                log.info("sealing with root key %s from %s", self._keys.current, self._roots.source)
            done = 0
            for step in (self._rewrap, self._seal_runs, self._seal_versions):
                while moved := await session.call(step):
                    done += moved
                    reach("coordinator.resealed")
            if done:
                log.info("sealed anew under root key %s: rows=%d", self._keys.current, done)

    def _note(self, connection: PsycopgConnection) -> bool:
        with fenced(connection, self._epoch):
            return sealed.note_current(
                connection, sealed.Holder.COORDINATOR, self._keys.current, self._roots.source
            )

    def _rewrap(self, connection: PsycopgConnection) -> int:
        """Wrap the keys of a few rows anew; returns how many."""
        done, most = 0, _BATCH + len(self._left)
        with fenced(connection, self._epoch):
            for row in sealed.stale_states(connection, self._keys.current, most):
                place = (row["run_id"], row["round_number"])
                headers = [self._header(row[name], place) for name in ("sealed", "memory", "manifest")]
                if any(after is not None for _, after in headers):
                    sealed.rewrap_state(connection, *place, headers)
                    done += 1
            for one in sealed.stale_versions(connection, self._keys.current, most):
                before, after = self._header(one.sealed, ("version", *one.place))
                if before is not None and after is not None:
                    sealed.rewrap_version(connection, one, after)
                    done += 1
        return done

    def _header(self, header: bytes | None, place: object) -> tuple[bytes | None, bytes | None]:
        """A header and the one that takes its place; (None, None) where none does."""
        if header is None or self._keys.is_current(header):
            return None, None
        try:
            return header, self._keys.rewrap(header)
        except UnopenedError:
            self._leave(place)
            return None, None

    def _seal_runs(self, connection: PsycopgConnection) -> int:
        """Seal anew what an earlier release has sealed of one run."""
        run = next((one for one in sealed.unnamed_runs(connection) if one not in self._left), None)
        if run is None:
            return 0
        with fenced(connection, self._epoch):
            runs.lock_run(connection, run)
            try:
                seal_run(connection, run, self._keys)
            except (FederatedError, UnopenedError):
                self._leave(run)
        return 1

    def _seal_versions(self, connection: PsycopgConnection) -> int:
        """Seal anew a version that an earlier release has sealed."""
        found = next(
            (one for one in sealed.unnamed_versions(connection) if one[0].place not in self._left), None
        )
        if found is None:
            return 0
        row, run, number = found
        with fenced(connection, self._epoch):
            try:
                again = seal_again(
                    row.sealed, None, number, self._keys, run=run, other=run, workspace=row.workspace
                )
                sealed.put_version(connection, row, again.sealed)
            except FederatedError:
                self._leave(row.place)
        return 1

    def _leave(self, place: object) -> None:
        if place not in self._left:
            log.warning("what is sealed of %s opens with no root key that is at hand, and is left", place)
        self._left.add(place)


def seal_run(connection: Connection, run: RunId, keys: AtRestKey) -> None:
    """Seal all anew that is kept of a run, its manifests last: they have the digests of the states.

    FederatedError IDENTITY, INTERNAL for what does not open; nothing is changed then.
    """
    after, told = {}, {}
    for one in sealed.read_rounds(connection, run):
        again = seal_again(
            one.sealed,
            one.memory,
            one.round,
            keys,
            run=run,
            other=run,
            workspace=one.workspace,
            version=one.exchange,
        )
        after[one.round] = replace(one, sealed=again.sealed, memory=again.memory)
        told[f"state/{one.round}"] = sealed_digest(again.sealed).hex()
        if again.memory is not None:
            told[f"memory/{one.round}"] = sealed_digest(again.memory).hex()
    for number, one in after.items():
        if one.manifest is None:
            sealed.put_round(connection, run, one, None)
            continue
        manifest = Manifest.open(one.manifest, run, number, keys)
        states = {name: told.get(name, digest) for name, digest in manifest.states.items()}
        anew = replace(manifest, states=states).seal(run, number, keys, workspace=one.workspace)
        sealed.put_round(connection, run, replace(one, manifest=anew), sealed_digest(one.manifest))
