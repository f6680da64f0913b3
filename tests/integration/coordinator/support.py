"""A whole federation for tests: a catalog, node databases with rows, node and coordinator processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from psycopg.rows import dict_row

from tests.support.cluster import Cluster
from tests.support.daemons import Daemon
from tests.support.federation import Federation, NodeProcess, until

WORKSPACE = "consortium"
MODEL = "risk"
FEATURES = ("age", "pressure")
ENDED = (
    "SELECT run_id, status::text, message FROM federated.run"
    " WHERE status NOT IN ('queued', 'running') ORDER BY created_at"
)


@dataclass
class Site:
    """One node: its database, its name, and its process while it runs."""

    name: str
    database: str
    port: int = 0
    # Or is reached over Flower: it has no endpoint.
    dials: bool = False
    process: NodeProcess | None = None

    def kill(self) -> None:
        """End the node's process, as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process = None


@dataclass
class World:
    """Everything of one test; `clean_up` ends every process. parts: modules of further parts for all daemons.
    node_settings: of every node."""

    cluster: Cluster
    federation: Federation
    database: str
    sites: list[Site] = field(default_factory=list)
    coordinators: list[CoordinatorProcess] = field(default_factory=list)
    parts: tuple[str, ...] = ()
    node_settings: dict[str, object] = field(default_factory=dict)
    # Of its own also where a world is another one with a database replaced.
    _session: psycopg.Connection[dict[str, Any]] | None = field(default=None, init=False)

    def catalog(self) -> psycopg.Connection[dict[str, Any]]:
        """Connect to the coordinator's database as superuser."""
        return psycopg.connect(self.cluster.dsn(self.database), autocommit=True, row_factory=dict_row)

    def session(self) -> psycopg.Connection[dict[str, Any]]:
        """The superuser's session that is kept: the first START of each imports for a third of a second."""
        if self._session is None or self._session.closed:
            self._session = self.catalog()
        return self._session

    def execute(self, statement: str) -> None:
        """Execute one statement of the language."""
        self.session().execute("CALL federated.execute(%s)", [statement])

    def query(self, statement: str, *values: object) -> list[dict[str, Any]]:
        """Run a query on the catalog."""
        with self.catalog() as connection:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description is not None else []

    async def add_site(self, name: str, *, rows: int = 200, seed: float = 0.1, shares: bool = True) -> Site:
        """Make a node database with rows, and start its node."""
        site = Site(name, filled(self.cluster, rows=rows, seed=seed, shares=shares))
        self.sites.append(site)
        await self.start_site(site)
        return site

    async def start_site(
        self, site: Site, *, faults: str = "", log: Path | None = None, **settings: object
    ) -> None:
        """Start the node's process, at its former port where it had one and listens."""
        site.dials = bool({"dial", "flower_socket"} & settings.keys())
        if not site.dials:
            settings["listen_port"] = site.port
        config = self.federation.node_config(
            self.cluster, site.database, site.name, parts=self.parts, **{**self.node_settings, **settings}
        )
        site.process = NodeProcess(config, self.federation.directory, faults=faults, log=log)
        port = await site.process.port()
        site.port = site.port if site.dials else port

    def register(self, site: Site) -> None:
        """Type REGISTER FEDERATED NODE."""
        certificate = self.federation.directory / f"{site.name}.pem"
        where = "" if site.dials else f"endpoint = 'https://localhost:{site.port}', "
        self.execute(
            f"REGISTER FEDERATED NODE '{site.name}' IN WORKSPACE {WORKSPACE} WITH "
            f"({where}certificate = '{certificate}')"
        )

    def name_peers(self, names: Iterable[str]) -> Path:
        """Let each node that is started from here on know all of these by their certificates; returns the file."""
        chosen = list(names)
        for name in chosen:
            self.federation.node_config(self.cluster, self.database, name)
        peers = self.federation.directory / "peers.pem"
        peers.write_bytes(b"".join((peers.parent / f"{name}.pem").read_bytes() for name in chosen))
        self.node_settings["peers"] = peers
        return peers

    def start_coordinator(self, *, faults: str = "", **settings: object) -> CoordinatorProcess:
        """Start a coordinator process."""
        coordinator = CoordinatorProcess(self, settings, faults)
        self.coordinators.append(coordinator)
        return coordinator

    def copied(self) -> World:
        """Return the same world on a copy of the coordinator's database as it is now; no coordinator may run."""
        if self._session is not None:
            self._session.close()
        return replace(self, database=self.cluster.create_database(self.database), coordinators=[])

    def runs(self) -> list[dict[str, Any]]:
        """Return the model's runs, oldest first."""
        return self.query("SELECT run_id, status::text, message FROM federated.run ORDER BY created_at")

    async def finished(self, *, count: int = 1) -> dict[str, Any]:
        """Wait until so many runs have ended; returns the last of these, whatever was queued after them."""
        ended: list[dict[str, Any]] = []
        with self.catalog() as connection:

            def enough() -> bool:
                self.check_processes()
                ended[:] = connection.execute(ENDED).fetchall()
                return len(ended) >= count

            await until(enough)
        return ended[count - 1]

    async def reached(self, condition: str, *values: object) -> None:
        """Wait until a condition holds in the catalog."""
        with self.catalog() as connection:

            def holds() -> bool:
                row = connection.execute(f"SELECT ({condition}) AS holds", values).fetchone()  # type: ignore[arg-type]
                return row is not None and bool(row["holds"])

            await until(holds)

    def check_processes(self) -> None:
        """Fail early where a coordinator ended that was not meant to."""
        for coordinator in self.coordinators:
            coordinator.check()

    def end_processes(self) -> None:
        """End every process."""
        for coordinator in self.coordinators:
            coordinator.kill()
        for site in self.sites:
            site.kill()

    def clean_up(self) -> None:
        """End every process, and drop the nodes' databases."""
        self.end_processes()
        if self._session is not None:
            self._session.close()
        for site in self.sites:
            self.cluster.drop_database(site.database)


class CoordinatorProcess:
    """A coordinator as a process of its own."""

    def __init__(self, world: World, settings: dict[str, object], faults: str) -> None:
        directory = world.federation.directory
        name = uuid4().hex[:8]
        self.ready = directory / f"coordinator-{name}.ready"
        self.log = directory / f"coordinator-{name}.log"
        chosen = {
            "database": world.cluster.dsn(world.database, user="heliosdb_daemon"),
            "certificate": str(directory / "coordinator.pem"),
            "private_key": str(directory / "coordinator.key"),
            "state_directory": str(directory / "coordinator-state"),
            "ready_file": str(self.ready),
            "poll_interval": 0.5,
            "heartbeat_interval": 0.5,
            "reconnect_interval": 1.0,
            "parts": list(world.parts),
        } | settings
        config = directory / f"coordinator-{name}.toml"
        config.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in chosen.items()))
        self.dies = "=kill" in faults
        environment = {**os.environ, "HELIOSDB_FAULTS": faults}
        with self.log.open("w") as log:
            self.process = Daemon("coordinator", str(config), environment=environment, stderr=log.fileno())

    def check(self) -> None:
        """Fail where the process has ended by itself."""
        if self.process.poll() is not None and not self.dies:
            raise AssertionError(f"the coordinator ended: {self.log.read_text()[-3000:]}")

    async def died(self) -> None:
        """Wait for the fault to end the process."""
        await until(lambda: self.process.poll() is not None)
        assert self.process.returncode == -signal.SIGKILL, self.log.read_text()[-3000:]

    def stop(self) -> None:
        """Stop the process where it stands (SIGSTOP)."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        self.process.send_signal(signal.SIGCONT)

    async def said(self, text: str) -> None:
        """Wait until the log holds a text."""
        await until(lambda: text in self.log.read_text())

    def kill(self) -> None:
        """End the process, whatever it does."""
        self.dies = True
        self.process.kill()
        self.process.wait()


def filled(cluster: Cluster, *, rows: int, seed: float, shares: bool = True) -> str:
    """The name of a fresh database that is filled."""
    return cluster.copy_database(
        f"patients {rows} {seed} {shares}",
        lambda made: fill(cluster, made, rows=rows, seed=seed, shares=shares),
    )


def fill(cluster: Cluster, database: str, *, rows: int, seed: float, shares: bool = True) -> None:
    """Make a table in which the outcome depends on age and pressure, and share it."""
    with cluster.connect(database) as connection:
        connection.execute(
            "CREATE TABLE patient (patient_id integer, age double precision, pressure double precision, "
            "outcome integer CHECK (outcome IN (0, 1)))"
        )
        connection.execute("SELECT setseed(%s)", [seed])
        connection.execute(
            "INSERT INTO patient SELECT i, a, p, (a * 0.1 + p * 0.05 - 11 + 4 * (random() - 0.5) > 0)::integer "
            "FROM (SELECT i, 30 + random() * 40 AS a, 90 + random() * 60 AS p "
            "FROM generate_series(1, %s) AS i OFFSET 0) AS s",
            [rows],
        )
        if shares:
            connection.execute(
                "CALL federated.execute(%s)",
                [
                    f"CREATE FEDERATED DATASET patients FOR TABLE patient (age, pressure, outcome) "
                    f"IN WORKSPACE {WORKSPACE}"
                ],
            )


def create_workspace(world: World, **options: object) -> None:
    """Type CREATE FEDERATED WORKSPACE."""
    given = ", ".join(f"{name} = {_literal(value)}" for name, value in options.items())
    world.execute(f"CREATE FEDERATED WORKSPACE {WORKSPACE}" + (f" WITH ({given})" if given else ""))


def create_model(world: World, *, features: Sequence[str] = FEATURES, **options: object) -> None:
    """Type CREATE FEDERATED MODEL for a logistic regression; an option that is None is left out."""
    chosen: dict[str, object] = {
        "algorithm": "logistic_regression",
        "features": list(features),
        "target": "outcome",
        "rounds": 3,
        "learning_rate": 0.1,
        "seed": 7,
    } | options
    given = ", ".join(f"{name} = {_literal(value)}" for name, value in chosen.items() if value is not None)
    world.execute(f"CREATE FEDERATED MODEL {MODEL} IN WORKSPACE {WORKSPACE} WITH ({given})")


def _literal(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case list():
            return "[" + ", ".join(f"'{one}'" for one in value) + "]"
        case _:
            return f"'{value}'"


@contextmanager
def make_world(cluster: Cluster, directory: Path, database: str) -> Iterator[World]:
    """A world that ends its processes."""
    world = World(cluster, Federation(directory), database)
    try:
        yield world
    finally:
        world.clean_up()


@contextmanager
def make_peers_world(
    cluster: Cluster,
    directory: Path,
    names: Sequence[str],
    *,
    policy: Mapping[str, object],
    model: Mapping[str, object],
    settings: Mapping[str, object] | None = None,
    rows: Mapping[str, int] | None = None,
    parts: tuple[str, ...] = (),
) -> Iterator[World]:
    """A world with workspace, model and nodes that name each other. settings: of the nodes. rows: of a node,
    where they are not 200."""
    with make_world(cluster, directory, cluster.create_database("federated_template")) as world:
        world.parts = parts
        create_workspace(world, **policy)
        world.name_peers(names)
        world.node_settings |= settings or {}
        asyncio.run(_join(world, names, rows or {}))
        create_model(world, **model)  # type: ignore[arg-type]
        yield world


async def _join(world: World, names: Sequence[str], rows: Mapping[str, int]) -> None:
    for number, name in enumerate(names):
        site = await world.add_site(name, rows=rows.get(name, 200), seed=0.1 * (number + 1))
        world.register(site)


Condition = Callable[[], bool]
