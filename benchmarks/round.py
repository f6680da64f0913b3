"""Seconds per round with 3, 10 and 100 nodes: real databases, real mTLS endpoints, several nodes to a process.

A logistic model of four features, one local epoch over 200 rows a node. A round is one exchange of training; one that
is evaluated has a second exchange, with the new parameters. Both kinds are measured, and with 3 and 10 nodes a private
one, under a budget that the run spends whole. Figures are wall time from the first
training round's start to the last one's end, divided by the rounds: what lies between rounds counts.
Each node has its own database; all are in one server, with fsync on. Medians over several runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.harness import Figure, publish
from heliosdb.node.config import NodeConfig
from heliosdb.node.service import serve_many
from tests.support.cluster import Cluster, create_cluster, remove_cluster
from tests.support.federation import Federation
from tests.support.ports import free_port

SIZES = (3, 10, 100)
PRIVATE_SIZES = (3, 10)
PROCESSES = 2
ROUNDS = 30
RUNS = 3
_ROWS = (
    "CREATE TABLE patient AS SELECT 50 + 12 * random() AS age, 120 + 15 * random() AS pressure,"
    " 200 + 40 * random() AS cholesterol, 26 + 4 * random() AS bmi, (random() < 0.4)::integer AS ill"
    " FROM generate_series(1, 200)"
)


def main() -> None:
    """Run the benchmark, or serve nodes where a list of settings is given."""
    if len(sys.argv) > 1:
        settings = json.loads(Path(sys.argv[1]).read_text())
        asyncio.run(_serve([NodeConfig.model_validate(each) for each in settings]))
        return
    cluster = create_cluster(free_port(), fsync=True, max_connections=400)
    try:
        _prepare(cluster)
        with tempfile.TemporaryDirectory() as directory:
            figures = [figure for size in SIZES for figure in _measure(cluster, Path(directory), size)]
            figures += [_measure_private(cluster, Path(directory), size) for size in PRIVATE_SIZES]
            publish("round", figures)
    finally:
        remove_cluster(cluster)


async def _serve(configs: list[NodeConfig]) -> None:
    await serve_many(configs, lambda ports: print(json.dumps(ports), flush=True))


def _prepare(cluster: Cluster) -> None:
    with cluster.connect("template1") as connection:
        connection.execute("CREATE EXTENSION plpython3u")
        connection.execute("CREATE EXTENSION heliosdb_federated_learning")
        connection.execute("CREATE ROLE heliosdb_daemon LOGIN IN ROLE federated_daemon")
        connection.execute("CREATE ROLE heliosdb_reader LOGIN IN ROLE federated_reader")


def _measure(cluster: Cluster, directory: Path, size: int) -> list[Figure]:
    with _federation(cluster, directory / str(size), size) as connection:
        seconds = {every: [_run(connection, every) for _ in range(RUNS)] for every in (1, ROUNDS)}
    target = "<= 0.3" if size == 100 else ""
    return [
        Figure(f"{size} nodes, {what}", statistics.median(seconds[every]), "s", target)
        for what, every in (("evaluated every round", 1), ("evaluated at the end", ROUNDS))
    ]


def _measure_private(cluster: Cluster, directory: Path, size: int) -> Figure:
    """A budget is spent once: every run has a federation of its own."""
    seconds = []
    for number in range(RUNS):
        options = ", privacy_budget = 8"
        with _federation(cluster, directory / f"{size}-private-{number}", size, options) as connection:
            seconds.append(_run(connection, ROUNDS))
    return Figure(f"{size} nodes, private, evaluated at the end", statistics.median(seconds), "s", "")


@contextlib.contextmanager
def _federation(
    cluster: Cluster, work: Path, size: int, options: str = ""
) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """Nodes, a coordinator and a workspace with a model; gives a connection to its catalog."""
    work.mkdir()
    federation = Federation(work)
    configs = [_make_node(cluster, federation, number) for number in range(size)]
    servers = [_start_nodes(work, part, configs[part::PROCESSES]) for part in range(min(PROCESSES, size))]
    catalog = cluster.create_database()
    coordinator = _start_coordinator(cluster, federation, catalog)
    try:
        ports = {
            name: port
            for part, server in enumerate(servers)
            for (name, _), port in zip(configs[part::PROCESSES], _ports(server), strict=True)
        }
        with cluster.connect(catalog) as connection:
            _register(connection, federation, ports, options)
            yield connection
    finally:
        for process in (coordinator, *servers):
            process.terminate()
        for process in (coordinator, *servers):
            process.wait()


def _make_node(cluster: Cluster, federation: Federation, number: int) -> tuple[str, NodeConfig]:
    name = f"node_{number}"
    database = cluster.create_database()
    with cluster.connect(database) as connection:
        connection.execute(_ROWS)
        connection.execute(
            "CALL federated.execute('CREATE FEDERATED DATASET patients FOR TABLE patient IN WORKSPACE bench')"
        )
    return name, federation.node_config(cluster, database, name)


def _start_nodes(work: Path, part: int, configs: list[tuple[str, NodeConfig]]) -> subprocess.Popen[str]:
    path = work / f"nodes-{part}.json"
    plain = [
        config.model_dump(mode="json")
        | {"database": config.database.get_secret_value(), "reader": config.reader.get_secret_value()}
        for _, config in configs
    ]
    path.write_text(json.dumps(plain))
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.round", str(path)], stdout=subprocess.PIPE, text=True
    )


def _ports(server: subprocess.Popen[str]) -> list[int]:
    assert server.stdout is not None
    ports: list[int] = json.loads(server.stdout.readline())
    return ports


def _start_coordinator(cluster: Cluster, federation: Federation, catalog: str) -> subprocess.Popen[bytes]:
    settings = {
        "database": cluster.dsn(catalog, user="heliosdb_daemon"),
        "certificate": str(federation.directory / "coordinator.pem"),
        "private_key": str(federation.directory / "coordinator.key"),
        "state_directory": str(federation.directory / "coordinator-state"),
    }
    path = federation.directory / "coordinator.toml"
    path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items()))
    log = (federation.directory / "coordinator.log").open("wb")
    return subprocess.Popen(
        [sys.executable, "-m", "heliosdb.cli.main", "coordinator", "--config", str(path)], stderr=log
    )


def _execute(connection: psycopg.Connection, statement: str) -> None:
    connection.execute("CALL federated.execute(%s)", [statement])


def _register(
    connection: psycopg.Connection, federation: Federation, ports: dict[str, int], options: str
) -> None:
    nodes = len(ports)
    _execute(
        connection, f"CREATE FEDERATED WORKSPACE bench WITH (min_nodes = {nodes}, max_nodes = 100{options})"
    )
    for name, port in ports.items():
        certificate = federation.directory / f"{name}.pem"
        _execute(
            connection,
            f"REGISTER FEDERATED NODE '{name}' IN WORKSPACE bench"
            f" WITH (endpoint = 'https://localhost:{port}', certificate = '{certificate}')",
        )
    _execute(
        connection,
        "CREATE FEDERATED MODEL risk IN WORKSPACE bench WITH (algorithm = 'logistic_regression',"
        f" features = ['age', 'pressure', 'cholesterol', 'bmi'], target = 'ill', rounds = {ROUNDS},"
        f" early_stopping_rounds = {ROUNDS})",
    )


def _run(connection: psycopg.Connection, every: int) -> float:
    _execute(connection, f"START FEDERATED TRAINING risk WITH (validation_frequency = {every})")
    [(status,)] = connection.execute("SELECT wait_for_convergence('risk', 300)").fetchall()
    [(seconds, rounds, nodes)] = connection.execute(
        "SELECT extract(epoch FROM max(finished_at) - min(started_at))::float8, count(*), min(participating_nodes)"
        " FROM federated_training_status('risk') WHERE round_number > 0"
    ).fetchall()
    assert (status, rounds) == ("completed", ROUNDS), (status, rounds)
    print(f"{nodes} nodes, evaluated every {every} rounds: {seconds / rounds:.4f} s a round")
    return float(seconds / rounds)


if __name__ == "__main__":
    main()
