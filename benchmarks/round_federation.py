"""The federations of `benchmarks.round`: databases, nodes that serve, coordinators. As a module: serves nodes.

Each node has its own database, unless so many are asked for that some share one; all are in one server, with fsync on
once they are made, and the nodes are served by a few processes.
Nodes are made once: those of a smaller federation are the first ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from benchmarks import processes
from benchmarks.round_cases import Case
from benchmarks.wide import FEATURES
from heliosdb.domain.ids import RunId
from heliosdb.node.config import NodeConfig
from heliosdb.node.service import serve_many
from tests.support.cluster import Cluster
from tests.support.federation import Federation, keep_secret

BUDGET = ", privacy_budget = 8"
_LONGEST = 1800
"""Seconds of a run."""
_MANY = 300
"""Nodes that are asked for signs of life less often."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node that serves, over a database of the cluster."""

    name: str
    certificate: Path
    port: int
    database: str


@dataclass(frozen=True, slots=True)
class Coordinated:
    """A catalog with a workspace and its model, and the coordinator that serves it."""

    connection: psycopg.Connection[tuple[Any, ...]]
    coordinator: subprocess.Popen[bytes]


def prepare(cluster: Cluster) -> None:
    """Have every database of the server have the extension."""
    with cluster.connect("template1") as connection:
        connection.execute("CREATE EXTENSION plpython3u")
        connection.execute("CREATE EXTENSION heliosdb_federated_learning")
        connection.execute("CREATE ROLE heliosdb_daemon LOGIN IN ROLE federated_daemon")
        connection.execute("CREATE ROLE heliosdb_reader LOGIN IN ROLE federated_reader")


def keep_durably(cluster: Cluster) -> None:
    """Have what is committed from here on be on the disk, as a server of anybody's has it: a database is copied
    without."""
    with cluster.connect() as connection:
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.execute(f"ALTER SYSTEM SET {name} = on".encode())
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("CHECKPOINT")


@contextlib.contextmanager
def serving(
    cluster: Cluster,
    federation: Federation,
    cases: Sequence[Case],
    served_by: int,
    most_databases: int | None = None,
) -> Iterator[list[Node]]:
    """As many nodes as the largest case needs, in so many processes, over so many databases or one each."""
    configs = make_nodes(cluster, federation, cases, most_databases)
    parts = [configs[part::served_by] for part in range(min(served_by, len(configs)))]
    servers = [_start_nodes(federation, number, part) for number, part in enumerate(parts)]
    with processes.ended(servers):
        ports = {
            name: port
            for part, server in zip(parts, servers, strict=True)
            for (name, _), port in zip(part, _ports(server), strict=True)
        }
        yield [
            Node(name, federation.directory / f"{name}.pem", ports[name], database_of(config))
            for name, config in configs
        ]


def make_nodes(
    cluster: Cluster,
    federation: Federation,
    cases: Sequence[Case],
    most_databases: int | None = None,
    **settings: object,
) -> list[tuple[str, NodeConfig]]:
    """Databases and certificates of as many nodes as the largest case needs; each shares rows with the workspaces
    of the cases that it is in. most_databases: beyond so many, nodes share one, and its rows. settings: of all."""
    most = max(case.nodes for case in cases)
    count = min(most, most_databases or most)
    template = _make_template(cluster, cases)
    _write_certificates(federation, cases)
    databases = [
        _fill_database(cluster, template, [case for case in cases if number < case.nodes])
        for number in range(count)
    ]
    made = []
    for number in range(most):
        # Whose database it is, it knows by the node's secret.
        keep_secret(federation.directory / f"node_{number}-state", f"database {number % count}")
        made.append(_configure(cluster, federation, cases, number, databases[number % count], settings))
    return made


@contextlib.contextmanager
def coordinated(
    cluster: Cluster, federation: Federation, nodes: Sequence[Node], case: Case, workspace: str
) -> Iterator[Coordinated]:
    """A catalog with a workspace of the case, and a coordinator of its own that serves it."""
    catalog = cluster.create_database()
    try:
        with cluster.connect(catalog) as connection:
            _register(connection, nodes, case, workspace)
            coordinator = _start_coordinator(cluster, federation, catalog, case, workspace)
            with processes.ended([coordinator]):
                _wait_for_nodes(connection, len(nodes))
                yield Coordinated(connection, coordinator)
    finally:
        cluster.drop_database(catalog)


def settings_of(config: NodeConfig) -> dict[str, object]:
    """A node's settings as its file has them."""
    return config.model_dump(mode="json", exclude_none=True, exclude_unset=True) | {
        "database": config.database.get_secret_value(),
        "reader": config.reader.get_secret_value(),
    }


def database_of(config: NodeConfig) -> str:
    """Name a node's database."""
    return str(conninfo_to_dict(config.database.get_secret_value())["dbname"])


def execute(connection: psycopg.Connection[Any], statement: str) -> None:
    """Run a statement of the language."""
    connection.execute("CALL federated.execute(%s)", [statement])


def _write_certificates(federation: Federation, cases: Sequence[Case]) -> None:
    """Every node's; and for each node those of the nodes that gather for it, in a file that its settings name."""
    most = max(case.nodes for case in cases)
    for number in range(most):
        name = f"node_{number}"
        federation.write(name, federation.authority.issue(name, ["localhost", "127.0.0.1"]))
    for number in range(most):
        found = {case.aggregator(number) for case in cases if number < case.nodes}
        above = sorted(one for one in found if one is not None)
        trusted = [(federation.directory / f"node_{one}.pem").read_bytes() for one in above]
        if trusted:
            _aggregators_file(federation, number).write_bytes(b"".join(trusted))
    if any(case.secure for case in cases):
        named = [(federation.directory / f"node_{number}.pem").read_bytes() for number in range(most)]
        _peers_file(federation).write_bytes(b"".join(named))


def _peers_file(federation: Federation) -> Path:
    return federation.directory / "peers.pem"


def _aggregators_file(federation: Federation, number: int) -> Path:
    return federation.directory / f"node_{number}-aggregators.pem"


def _make_template(cluster: Cluster, cases: Sequence[Case]) -> str:
    """A node's database but for its rows."""
    template = cluster.create_database()
    columns = ", ".join(f"{name} float8" for name in FEATURES)
    with cluster.connect(template) as connection:
        for case in cases:
            for name in case.workspaces:
                connection.execute(
                    f"CREATE TABLE {name} ({columns}, ill integer CHECK (ill IN (0, 1)))".encode()
                )
                share = f"CREATE FEDERATED DATASET {name} FOR TABLE {name} IN WORKSPACE {name}"
                execute(connection, share + case.model.dataset)
    return template


def _fill_database(cluster: Cluster, template: str, cases: Sequence[Case]) -> str:
    database = cluster.create_database(template)
    values = ", ".join(f"50 + {10 + place} * random()" for place, _ in enumerate(FEATURES))
    with cluster.connect(database) as connection, connection.transaction():
        for case in cases:
            rows = f"SELECT {values}, (random() < 0.4)::integer FROM generate_series(1, {case.model.rows})"
            for table in case.workspaces:
                connection.execute(f"INSERT INTO {table} {rows}".encode())
    return database


def _configure(
    cluster: Cluster,
    federation: Federation,
    cases: Sequence[Case],
    number: int,
    database: str,
    settings: Mapping[str, object],
) -> tuple[str, NodeConfig]:
    name, trusted = f"node_{number}", _aggregators_file(federation, number)
    more = {
        **settings,
        "parts": sorted({case.model.part for case in cases if case.model.part is not None}),
        "aggregates": any(number < case.aggregators for case in cases),
    }
    if trusted.exists():
        more["aggregator_certificate"] = trusted
    if any(case.secure for case in cases):
        more["peers"] = _peers_file(federation)
    return name, federation.node_config(cluster, database, name, **more)


def _start_nodes(
    federation: Federation, part: int, configs: list[tuple[str, NodeConfig]]
) -> subprocess.Popen[bytes]:
    path = federation.directory / f"nodes-{part}.json"
    plain = [settings_of(config) for _, config in configs]
    path.write_text(json.dumps(plain))
    return processes.start("benchmarks.round_federation", str(path), stdout=subprocess.PIPE)


def _ports(server: subprocess.Popen[bytes]) -> list[int]:
    assert server.stdout is not None
    ports: list[int] = json.loads(server.stdout.readline())
    return ports


def _start_coordinator(
    cluster: Cluster, federation: Federation, catalog: str, case: Case, workspace: str
) -> subprocess.Popen[bytes]:
    settings: dict[str, object] = {
        "database": cluster.dsn(catalog, user="heliosdb_daemon"),
        "certificate": str(federation.directory / "coordinator.pem"),
        "private_key": str(federation.directory / "coordinator.key"),
        "state_directory": str(federation.directory / f"{workspace}-state"),
        "parts": [] if case.model.part is None else [case.model.part],
    }
    if case.nodes >= _MANY:
        # One process answers for hundreds of them, and has other things to do.
        settings |= {"heartbeat_interval": case.nodes / 20, "heartbeat_timeout": 60.0}
    path = federation.directory / f"{workspace}.toml"
    path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items()))
    with (federation.directory / f"{workspace}.log").open("wb") as log:
        return processes.start("heliosdb.cli.main", "coordinator", "--config", str(path), stderr=log)


def _register(connection: psycopg.Connection[Any], nodes: Sequence[Node], case: Case, workspace: str) -> None:
    count = len(nodes)
    limits = f"min_nodes = {count}, max_nodes = {count}, round_timeout = {_LONGEST}"
    limits += BUDGET if case.is_private else ""
    execute(connection, f"CREATE FEDERATED WORKSPACE {workspace} WITH ({limits})")
    for node in nodes:
        execute(
            connection,
            f"REGISTER FEDERATED NODE '{node.name}' IN WORKSPACE {workspace}"
            f" WITH (endpoint = 'https://localhost:{node.port}', certificate = '{node.certificate}')",
        )
    for number, node in enumerate(nodes):
        above = case.aggregator(number)
        if above is not None:
            execute(
                connection,
                f"ALTER FEDERATED NODE '{node.name}' IN WORKSPACE {workspace}"
                f" SET (aggregator = '{nodes[above].name}')",
            )
    execute(
        connection,
        f"CREATE FEDERATED MODEL risk IN WORKSPACE {workspace} WITH ({case.model.options}, target = 'ill',"
        f" rounds = {case.rounds}, early_stopping_rounds = {case.rounds}, convergence_threshold = 0)",
    )


def train(there: Coordinated, case: Case) -> RunId:
    """Train once. AssertionError where it did not run to its end."""
    connection = there.connection
    with connection.transaction():
        execute(connection, f"START FEDERATED TRAINING risk WITH ({case.options})")
        connection.execute(
            "UPDATE federated.run SET options = options || %s WHERE status = 'queued'",
            [json.dumps(case.model.given)],
        )
    [(status,)] = connection.execute("SELECT wait_for_convergence('risk', %s)", [_LONGEST]).fetchall()
    [(run, said)] = connection.execute(
        "SELECT run_id, message FROM federated.run ORDER BY created_at DESC LIMIT 1"
    ).fetchall()
    assert status == "completed", (status, said)
    return RunId(run)


def _wait_for_nodes(connection: psycopg.Connection[Any], nodes: int) -> None:
    """Wait until the coordinator has met all of them; TimeoutError after a while."""
    until = time.monotonic() + _LONGEST
    while time.monotonic() < until:
        [(active,)] = connection.execute(
            "SELECT count(*) FROM federated.node WHERE status = 'active'"
        ).fetchall()
        if active == nodes:
            return
        time.sleep(0.1)
    raise TimeoutError(f"{nodes - active} of {nodes} nodes were not met")


async def _serve(configs: list[NodeConfig]) -> None:
    await serve_many(configs, lambda ports: print(json.dumps(ports), flush=True))


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[1]).read_text())
    asyncio.run(_serve([NodeConfig.model_validate(each) for each in given]))
