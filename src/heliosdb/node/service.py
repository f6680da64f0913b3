"""The node's daemon: endpoints in an event loop, each with its database, sharing a training process.

What always holds: `ready` is called when it listens or dials and has looked at its databases, and not before;
what is in the way there is said in the log and in the ready file, and it goes on looking; at the end what is
at a release door goes through it, and nothing else is waited for longer than a moment.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heliosdb.domain.errors import invalid_value
from heliosdb.liveness.answering import answering
from heliosdb.liveness.manager import notify, watched
from heliosdb.liveness.standing import Standing
from heliosdb.node.coding import UpdateCoder
from heliosdb.node.config import NodeConfig, load_config
from heliosdb.node.confinement import strictest
from heliosdb.node.consenting import Consents
from heliosdb.node.database import Database
from heliosdb.node.datasets import table_key
from heliosdb.node.dialling import Dialler
from heliosdb.node.door import Door
from heliosdb.node.engine import check_installed
from heliosdb.node.figures import node_source
from heliosdb.node.gathering import Aggregator
from heliosdb.node.identity_files import NodeIdentityFiles
from heliosdb.node.memory import MemoryKey, memory_root
from heliosdb.node.orders import Orders
from heliosdb.node.relaying import relayed_at
from heliosdb.node.resealing import keep_sealed
from heliosdb.node.retention import keep_retention
from heliosdb.node.signatory import PeerSignatory
from heliosdb.node.site import Site
from heliosdb.node.subscriptions import Subscriptions
from heliosdb.node.task_answers import Rules
from heliosdb.node.tasks import NodeTasks
from heliosdb.node.trainer import Trainer
from heliosdb.node.witnessing import Witness
from heliosdb.observing.logs import use_format
from heliosdb.observing.metric import Daemon, Source
from heliosdb.observing.running import observing, readiness
from heliosdb.parts.loading import load_parts
from heliosdb.transport.answering import Answerer
from heliosdb.transport.identity import Identity
from heliosdb.transport.key_files import load_or_create_secret
from heliosdb.transport.pacing import Pace
from heliosdb.transport.relayed import RelayedCalls
from heliosdb.transport.root_keys import RootKeys
from heliosdb.transport.server import make_server, server_credentials

log = logging.getLogger(__name__)

_GRACE_SECONDS = 2.0
_MOST_THREADS = 16


def run(config_path: Path, *, ready: Callable[[int], object] | None = None) -> None:
    """Run a node's daemon until SIGTERM or SIGINT; `ready` is called with its port."""
    config = load_config(config_path)
    use_format(config.log_format)

    async def main() -> None:
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        # Certificates are looked at all the time: who says that they are others by now ends nothing.
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, log.info, "certificates are read anew")
        async with watched():
            await serve(config, ready, stopped=stopped)

    # Not uvloop: its pipe to the training process was seen closed at a write, once in many runs.
    asyncio.run(main())


async def serve(
    config: NodeConfig, ready: Callable[[int], object] | None = None, *, stopped: asyncio.Event | None = None
) -> None:
    """Serve one node until `stopped` is set or the call is cancelled."""
    await serve_many([config], lambda ports: ready(ports[0]) if ready else None, stopped=stopped)


async def serve_many(
    configs: Sequence[NodeConfig],
    ready: Callable[[list[int]], object] | None = None,
    *,
    stopped: asyncio.Event | None = None,
) -> None:
    """Serve several nodes, which share a training process; limits are those of the first, parts those of
    all."""
    parts = tuple(dict.fromkeys(name for config in configs for name in config.parts))
    load_parts(parts)
    _check_observed(configs)
    if any(config.engine != "process" for config in configs):
        check_installed()
    async with AsyncExitStack() as stack:
        # Threads wait for databases; more of them than this only fight over the interpreter.
        threads = ThreadPoolExecutor(min(2 * len(configs) + 4, _MOST_THREADS), "node")
        asyncio.get_running_loop().set_default_executor(threads)
        first = configs[0]
        trainer = Trainer(
            max_memory_gb=first.max_memory_gb,
            max_cpu_cores=first.max_cpu_cores,
            task_limit_seconds=first.task_limit_seconds,
            scratch=first.scratch,
            parts=parts,
            log_format=first.log_format,
            engine=first.engine_place,
            confinement=strictest(config.confinement for config in configs),
            readers=[config.reader.get_secret_value() for config in configs],
        )
        stack.push_async_callback(trainer.close)
        sites = [_site(config) for config in configs]
        ends: list[_Endpoint] = []
        sources = _sources(first, sites[0], lambda: sum(end.tasks.under_way for end in ends))
        await stack.enter_async_context(observing(first, Daemon.NODE, sources))
        ends += [
            await stack.enter_async_context(_endpoint(config, trainer, site))
            for config, site in zip(configs, sites, strict=True)
        ]
        await asyncio.gather(*(site.look() for site in sites))
        watching = asyncio.gather(*(site.watch() for site in sites))
        stack.push_async_callback(_end, watching)
        if ready is not None:
            ready([end.port for end in ends])
        notify(READY=1)
        await (stopped or asyncio.Event()).wait()
        log.info("stopping")
        notify(STOPPING=1)


def _check_observed(configs: Sequence[NodeConfig]) -> None:
    """FederatedError where several nodes would report to one place, or only one of them be reported of."""
    if len(configs) > 1 and any(one.metrics or one.tracing for one in configs):
        raise invalid_value("nodes that share a process have neither metrics nor tracing")


def _sources(config: NodeConfig, site: Site, under_way: Callable[[], int]) -> list[Source]:
    if config.metrics is None:
        return []
    conninfo = config.database.get_secret_value()
    return [
        readiness(Daemon.NODE, site.is_ready),
        node_source(conninfo, config.metrics.interval, under_way),
    ]


async def _end(watching: asyncio.Future[Any]) -> None:
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching


def _site(config: NodeConfig) -> Site:
    listens = config.listen_port and not config.dial and config.flower_socket is None
    whose = f"node on port {config.listen_port}: " if listens else ""
    standing = Standing(config.ready_file, log, whose)
    return Site(config.database.get_secret_value(), config.reader.get_secret_value(), standing)


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """At which port a node listens, 0: at none, and what answers."""

    port: int
    tasks: NodeTasks


def _connect(config: NodeConfig, purpose: str = "") -> Database:
    return Database(config.database.get_secret_value(), application_name=f"heliosdb node{purpose}")


@asynccontextmanager
async def _reached(
    config: NodeConfig, tasks: NodeTasks, identity: NodeIdentityFiles, site: Site
) -> AsyncIterator[int]:
    """Listen, dial, or take in what Flower brings, for the length of a block; gives the port, 0 for none."""
    pace = Pace(config.max_bandwidth_mbps)
    if config.flower_socket is not None:
        answerer = Answerer(tasks, lambda: identity.current().pinned, pace)
        async with relayed_at(config.flower_socket, RelayedCalls(identity.current, answerer)):
            yield 0
        return
    if config.dial:
        answerer = Answerer(tasks, lambda: identity.current().pinned, pace)
        dialling = asyncio.create_task(Dialler(config, identity.current, answerer, site).run(), name="dial")
        try:
            yield 0
        finally:
            await _end(dialling)
        return
    server, port = make_server(
        tasks,
        lambda: identity.current().pinned,
        server_credentials(identity.current),
        config.listen_host,
        config.listen_port,
        aggregators=lambda: identity.current().aggregators,
        pace=pace,
    )
    await server.start()
    log.info("listening on %s port %d", config.listen_host, port)
    try:
        yield port
    finally:
        await server.stop(_GRACE_SECONDS)


def root_keys(config: NodeConfig) -> RootKeys:
    """Where a node's root keys are, its secret made on first use; FederatedError IDENTITY."""
    config.state_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    first = config.state_directory / "node.key"
    base = memory_root(load_or_create_secret(first))
    return RootKeys(config.state_directory, base, first, config.root_key, config.former_root_keys)


@asynccontextmanager
async def _endpoint(config: NodeConfig, trainer: Trainer, site: Site) -> AsyncIterator[_Endpoint]:
    identity = NodeIdentityFiles(config)
    config.state_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    roots = root_keys(config)
    secret, keys = load_or_create_secret(roots.base_file), roots.at_rest()
    database, history = _connect(config), _connect(config, " retention")
    memory_key = MemoryKey(secret, keys)
    subscriptions = Subscriptions(database, _connect(config, " deliveries"), identity.is_ours, memory_key)

    def own() -> Identity:
        return identity.current().identity

    signatory = PeerSignatory(own, config.peers, config.sum_terms)
    signatory.check()
    orders = Orders(_connect(config, " orders"), own, identity.is_ours, secret)
    consents = Consents(database, secret)
    aggregator = Aggregator(identity.current, wanted=config.aggregates)
    reader, key = config.reader.get_secret_value(), table_key(secret)
    rules = Rules(reader, key, config.plain_answers, config.floors, signatory)
    tasks = NodeTasks(
        database,
        Door(database, own, memory_key, UpdateCoder(secret), signatory),
        trainer,
        rules,
        site=site,
        subscriptions=subscriptions,
        orders=orders,
        consents=consents,
        witness=Witness(database, identity.current),
        data_residency=config.data_residency,
        certificate_sha256=lambda: identity.certificate_sha256,
        prove=lambda signed: own().sign(signed),
        aggregator=aggregator,
        limits=config.limits,
    )
    try:
        async with (
            _reached(config, tasks, identity, site) as port,
            _beside(
                config,
                identity,
                port,
                history,
                consents.watch(site.has_database),
                keep_sealed(history, keys, roots),
            ),
            answering(config.health_socket, site.state),
        ):
            yield _Endpoint(port, tasks)
    finally:
        await aggregator.close()
        await tasks.close()
        for open_ in (database, subscriptions, orders, history):
            await asyncio.to_thread(open_.close)


@asynccontextmanager
async def _beside(
    config: NodeConfig,
    identity: NodeIdentityFiles,
    port: int,
    history: Database,
    *watches: Coroutine[Any, Any, None],
) -> AsyncIterator[None]:
    """Do for the length of a block what a node does while nobody asks."""
    silent = "which dials" if config.dial else "which Flower reaches"
    where = f"on port {port}" if port else silent
    parts = [
        *map(asyncio.create_task, watches),
        asyncio.create_task(_keep_retention(config, history, identity), name="retention"),
        asyncio.create_task(identity.warn(f"this node, {where},"), name="certificates"),
    ]
    try:
        yield
    finally:
        for part in parts:
            await _end(part)


async def _keep_retention(config: NodeConfig, database: Database, identity: NodeIdentityFiles) -> None:
    if config.retention_days is not None:
        await keep_retention(database, config.retention_days, lambda: identity.current().identity)
