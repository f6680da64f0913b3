"""The coordinator's daemon: waits for a catalog, leads while it can, and steps down whenever it must.

What always holds: it outlives the database (restarts, DROP EXTENSION, lost connections, a leader before it)
and acts only in a term: while its session holds the leader's lock, under an epoch that every write is
checked against.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import psycopg
import uvloop

from heliosdb.catalog import deliveries as delivery_rows
from heliosdb.catalog import erasures as erasure_rows
from heliosdb.catalog import events as event_rows
from heliosdb.catalog import exports as export_rows
from heliosdb.catalog import lease
from heliosdb.catalog import nodes as node_rows
from heliosdb.catalog import orders as order_rows
from heliosdb.catalog import runs as run_rows
from heliosdb.catalog.connection import Connection
from heliosdb.catalog.failures import connection_obstacle
from heliosdb.catalog.psycopg_connection import PsycopgConnection
from heliosdb.coordinator.alerts import Alerts
from heliosdb.coordinator.allocation import give_back_large_blocks
from heliosdb.coordinator.arrivals import Arrivals
from heliosdb.coordinator.config import CoordinatorConfig, load_config
from heliosdb.coordinator.deliveries import Deliveries
from heliosdb.coordinator.directory import Directory
from heliosdb.coordinator.dispatcher import Dispatcher
from heliosdb.coordinator.driver import Setting
from heliosdb.coordinator.erasures import Erasures
from heliosdb.coordinator.exchange import Wire
from heliosdb.coordinator.exports import Exports
from heliosdb.coordinator.figures import coordinator_source
from heliosdb.coordinator.orders import Orders
from heliosdb.coordinator.resealing import Resealing
from heliosdb.coordinator.retention import Retention
from heliosdb.coordinator.session import CatalogSession
from heliosdb.coordinator.witnessing import Witnessing
from heliosdb.domain.errors import ErrorCode, FederatedError, place_of
from heliosdb.domain.ids import Epoch, OrderId, RunId
from heliosdb.domain.sealed_subject import KEY_FILE, write_key
from heliosdb.liveness.answering import State, answering
from heliosdb.liveness.manager import notify, watched
from heliosdb.liveness.standing import EXTENSION, Obstacle, Standing
from heliosdb.observing import observed
from heliosdb.observing.logs import use_format
from heliosdb.observing.metric import Daemon, Source
from heliosdb.observing.running import observing, readiness
from heliosdb.parts.loading import load_parts
from heliosdb.transport.identity import IdentityFiles
from heliosdb.transport.key_files import load_or_create_secret
from heliosdb.transport.root_keys import RootKeys
from heliosdb.transport.sealing import AtRestKey, SealingKey

log = logging.getLogger(__name__)

_PAUSE = 0.5


@dataclass(frozen=True, slots=True)
class Keys:
    """Who the coordinator is, what updates are sealed to, and what parameters are kept under.

    roots: where the root keys of at_rest are.
    """

    identity: IdentityFiles
    sealing: SealingKey
    at_rest: AtRestKey
    roots: RootKeys

    @classmethod
    def load(cls, config: CoordinatorConfig) -> Keys:
        """Read them, making the sealing keys on first use; FederatedError IDENTITY."""
        config.state_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        sealing = SealingKey.load_or_create(config.state_directory / "sealing.key")
        write_key(config.state_directory / KEY_FILE, sealing.public)
        identity, roots = IdentityFiles(config.certificate, config.private_key), root_keys(config)
        return cls(identity, sealing, roots.at_rest(), roots)


def root_keys(config: CoordinatorConfig) -> RootKeys:
    """Where a coordinator's root keys are, its first one made on first use; FederatedError IDENTITY."""
    config.state_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    first = config.state_directory / "parameters.key"
    base = load_or_create_secret(first)
    return RootKeys(config.state_directory, base, first, config.root_key, config.former_root_keys)


def run(config_path: Path, *, ready: Callable[[], None] | None = None) -> None:
    """Run until SIGTERM or SIGINT; `ready` is called when the database answers for the first time."""
    config = load_config(config_path)
    use_format(config.log_format)
    give_back_large_blocks()
    load_parts(config.parts)
    keys = Keys.load(config)
    uvloop.run(serve(config, keys, ready))


async def serve(config: CoordinatorConfig, keys: Keys, ready: Callable[[], None] | None) -> None:
    """Serve until a signal asks to stop."""
    loop, main = asyncio.get_running_loop(), asyncio.current_task()
    assert main is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, main.cancel)
    coordinator = Coordinator(config, keys, ready)
    with suppress(asyncio.CancelledError):
        async with (
            observing(config, Daemon.COORDINATOR, coordinator.sources()),
            watched(),
            answering(config.health_socket, coordinator.state),
        ):
            await coordinator.run()
    notify(STOPPING=1)
    log.info("stopped")


class Coordinator:
    """Leads, term after term."""

    def __init__(self, config: CoordinatorConfig, keys: Keys, ready: Callable[[], None] | None) -> None:
        self._config = config
        self._keys = keys
        self._ready = ready
        self._announced = False
        self._conninfo = config.database.get_secret_value()
        self._standing = Standing(config.ready_file, log)
        self._leads = False

    def state(self) -> State:
        """Whether it does its work, and what it said last."""
        return self._standing.state()

    def sources(self) -> list[Source]:
        """What its sampled metrics are read by."""
        if self._config.metrics is None:
            return []
        interval = self._config.metrics.interval
        return [
            readiness(Daemon.COORDINATOR, lambda: self.state().well),
            coordinator_source(self._conninfo, interval, lambda: self._leads, self._keys.identity.current),
        ]

    async def run(self) -> None:
        """Lead whenever that is possible; ends by cancellation only."""
        while True:
            try:
                async with CatalogSession(self._conninfo, "leader", daemon=False) as session:
                    await self._wait_for_leadership(session)
                    await self._lead(session)
            except psycopg.Error as error:
                self._standing.waits(await self._unreachable(error))
            except FederatedError as error:
                if error.code is not ErrorCode.FENCED:
                    log.error("term ended by an error: %s", place_of(error))
                self._standing.waits(Obstacle("stepped_down", f"stepping down: {error.message}"))
            except Exception as error:  # noqa: BLE001 -- a daemon outlives what one term could not handle
                log.error("term ended by an error: %s", place_of(error))
                self._standing.waits(Obstacle("failed", f"stepping down: {type(error).__name__}"))
            await asyncio.sleep(_PAUSE)

    async def _wait_for_leadership(self, session: CatalogSession) -> None:
        while True:
            state = await session.call(lease.read_catalog_state)
            self._announce()
            obstacle = _obstacle(state)
            if obstacle is None:
                await session.call(lease.become_daemon)
                if await session.call(lease.try_lead):
                    return
                self._stand_by(await session.call(lease.strange_leader))
            else:
                self._standing.waits(obstacle)
            await asyncio.sleep(self._config.poll_interval)

    def _announce(self) -> None:
        """Say once that the database answers."""
        if self._announced:
            return
        self._announced = True
        if self._ready is not None:
            self._ready()
        notify(READY=1)

    async def _lead(self, session: CatalogSession) -> None:
        """Lead for a term, and let nodes in meanwhile: whoever only stands by does not listen."""
        try:
            arrivals = await Arrivals.open(self._config, self._keys.identity.current)
        except FederatedError as error:
            remedy = error.hint or "choose another listen_port, or end who listens there"
            self._standing.waits(Obstacle("listen", f"not leading: {error.message}", remedy))
            return
        try:
            await self._lead_with(session, arrivals)
        finally:
            await arrivals.close()

    async def _lead_with(self, session: CatalogSession, arrivals: Arrivals) -> None:
        epoch = await session.call(_take_lease, f"{socket.gethostname()}:{os.getpid()}")
        await session.call(lease.listen)
        self._standing.ready(f"leading: epoch={epoch}")
        observed.lease_taken()
        self._leads = True
        try:
            async with CatalogSession(self._conninfo, "nodes") as node_session:
                term = Term(self._config, self._keys, epoch, session, node_session, arrivals=arrivals)
                await term.run()
        finally:
            self._leads = False

    def _stand_by(self, stranger: str | None) -> None:
        if stranger is None:
            self._standing.ready("standing by: another coordinator leads")
            return
        reason = (
            f'standing by: role "{stranger}", which is not a member of federated_daemon, '
            "holds the leader's lock"
        )
        self._standing.waits(Obstacle("lock", reason))

    async def _unreachable(self, error: psycopg.Error) -> Obstacle:
        what = "the catalog is out of reach"
        return await asyncio.to_thread(connection_obstacle, what, self._conninfo, error)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What there is to do, as one look at the catalog found it."""

    nodes: list[node_rows.NodeRecord]
    active: list[run_rows.ActiveRun]
    undecided: list[UUID]
    deliveries: list[delivery_rows.PendingDelivery]
    orders: order_rows.OrderWork
    exports: list[OrderId]
    erases: bool


class Term:
    """One leadership: ends with the first thing that fails."""

    def __init__(
        self,
        config: CoordinatorConfig,
        keys: Keys,
        epoch: Epoch,
        session: CatalogSession,
        node_session: CatalogSession,
        *,
        arrivals: Arrivals,
    ) -> None:
        self._config = config
        self._session = session
        self._epoch = epoch
        self._directory = Directory(config, keys.identity.current, node_session, epoch, arrivals=arrivals)
        wire = Wire(self._directory, keys.sealing, asyncio.Semaphore(config.concurrent_tasks))
        setting = Setting(epoch, wire, keys.at_rest)
        self._deliveries = Deliveries(config, self._directory)
        self._erasures = Erasures(config.database.get_secret_value(), epoch, keys.identity.current)
        self._orders = Orders(config, self._directory, epoch, keys.sealing, keys.at_rest)
        self._witnessing = Witnessing(config, self._directory, keys.identity.current, epoch)
        self._alerts = Alerts(config, epoch)
        self._retention = Retention(config.database.get_secret_value(), epoch, keys.identity.current)
        self._exports = Exports(config, epoch)
        conninfo = config.database.get_secret_value()
        self._resealing = Resealing(conninfo, epoch, keys.at_rest, keys.roots)
        self._dispatcher = Dispatcher(config.database.get_secret_value(), setting, config.concurrent_runs)

    async def run(self) -> None:
        """Work until something raises."""
        parts = [
            asyncio.create_task(part)
            for part in (
                self._watch(),
                self._directory.run(),
                self._dispatcher.run(),
                self._deliveries.run(),
                self._orders.run(),
                self._witnessing.run(),
                self._alerts.run(),
                self._retention.run(),
                self._exports.run(),
                self._erasures.run(),
                self._resealing.run(),
            )
        ]
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for part in done:
                part.result()
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)

    async def _watch(self) -> None:
        """Read the catalog at every hint and at every interval."""
        loop = asyncio.get_running_loop()
        while True:
            as_of = loop.time()
            seen = await self._session.call(_read, self._orders.untaken)
            await self._directory.refresh(seen.nodes, as_of)
            told = self._dispatcher.refresh(seen.active)
            if told:
                await self._session.call(_tell_of_waiting, self._epoch, told)
            self._dispatcher.decide(seen.undecided)
            self._deliveries.refresh(seen.deliveries, as_of)
            self._orders.refresh(seen.orders, as_of)
            self._exports.refresh(seen.exports)
            self._erasures.refresh(has_work=seen.erases)
            await self._session.call(_wait_for_hint, self._config.poll_interval)


def _take_lease(connection: Connection, holder: str) -> Epoch:
    with connection.transaction():
        epoch = lease.take_lease(connection, holder)
        event_rows.record_event(connection, epoch, "lease.taken", details={"holder": holder})
    return epoch


def _read(connection: Connection, untaken: Collection[OrderId]) -> _Seen:
    return _Seen(
        nodes=node_rows.list_nodes(connection),
        active=run_rows.list_active_runs(connection),
        undecided=run_rows.list_undecided_series(connection),
        deliveries=delivery_rows.list_pending_deliveries(connection),
        orders=order_rows.list_order_work(connection, untaken),
        exports=export_rows.list_due_exports(connection),
        erases=erasure_rows.has_work(connection),
    )


def _tell_of_waiting(connection: Connection, epoch: Epoch, told: Mapping[RunId, str]) -> None:
    with lease.fenced(connection, epoch):
        run_rows.say_of_waiting(connection, told)


def _wait_for_hint(connection: PsycopgConnection, seconds: float) -> None:
    for _ in connection.raw.notifies(timeout=seconds, stop_after=1):
        pass


def _obstacle(state: lease.CatalogState) -> Obstacle | None:
    if state.replica:
        return Obstacle("replica", "waiting: the database is a replica")
    if not state.installed:
        return Obstacle(EXTENSION, "waiting for CREATE EXTENSION heliosdb_federated_learning")
    if not state.member:
        return Obstacle(
            "member",
            "waiting: permission denied, the coordinator's role is not a member of federated_daemon",
            "GRANT federated_daemon TO it",
        )
    return None
