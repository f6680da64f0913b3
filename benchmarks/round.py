"""Seconds per round and the coordinator's memory with 3, 10, 100 and 300 nodes, plain and private, over real mTLS.

A logistic model of nine features (ten parameters), one local epoch over 200 rows a node. A round is one exchange of
training; one that is evaluated has a second exchange, with the new parameters. Both kinds are measured, and private
rounds, under a budget that the run spends whole. Seconds are wall time from the second training round's start to the
last one's, divided by the rounds between: what lies between rounds counts; the first round, in which processes load
what they need, and the evaluation at a run's end do not. Medians over the runs. Memory is the highest resident memory
in the life of a coordinator process (VmHWM): one serves all plain runs of a size, each private run has its own.

Each node has its own database; all are in one server, with fsync on, and served by two processes. Nodes are made
once: those of a smaller federation are the first ones. Every private run has a workspace and a table of its own, for
a budget is spent once, and where it was spent there are no plain answers.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.harness import Figure, publish
from heliosdb.node.config import NodeConfig
from heliosdb.node.service import serve_many
from tests.support.cluster import Cluster, create_cluster, remove_cluster
from tests.support.federation import Federation
from tests.support.ports import free_port

SIZES = (3, 10, 100, 300)
PROCESSES = 2
BUDGET = ", privacy_budget = 8"
_FEATURES = tuple(f"x{number}" for number in range(1, 10))


@dataclass(frozen=True, slots=True)
class Model:
    """What is trained; parameters: how many numbers a node sends in a round."""

    parameters: int
    options: str


MODELS = (Model(len(_FEATURES) + 1, f"algorithm = 'logistic_regression', features = {list(_FEATURES)}"),)


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table: so many nodes, a model, how often and for how long it is trained."""

    nodes: int
    model: Model
    runs: int
    rounds: int

    @property
    def name(self) -> str:
        """In figures' names."""
        return f"{self.nodes} nodes, {self.model.parameters} parameters"

    @property
    def plain(self) -> str:
        """The workspace of its plain runs."""
        return f"plain_{self.nodes}_{self.model.parameters}"

    @property
    def private(self) -> list[str]:
        """The workspaces of its private runs."""
        return [f"private_{self.nodes}_{self.model.parameters}_{run}" for run in range(self.runs)]

    @property
    def workspaces(self) -> list[str]:
        """All of them; a dataset and its table are named like the workspace."""
        return [self.plain, *self.private]


@dataclass(frozen=True, slots=True)
class Node:
    """A node that serves."""

    name: str
    certificate: Path
    port: int


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds a round, and the coordinator's peak memory in 10^6 bytes."""

    plain: float
    evaluated: float
    private: float
    plain_memory: float
    private_memory: float


def main() -> None:
    """Run the benchmark, or serve nodes where a list of settings is given."""
    parser = argparse.ArgumentParser(prog="benchmarks.round", description="Seconds per round.")
    parser.add_argument("--nodes", type=int, nargs="+", default=SIZES, help="sizes of federations")
    parser.add_argument("--runs", type=int, help="runs of each kind; default: 3, or 1 of 200 nodes and more")
    parser.add_argument(
        "--rounds", type=int, help="of a run, at least 3; default: 30, or fewer of many nodes"
    )
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve is not None:
        settings = json.loads(given.serve.read_text())
        asyncio.run(_serve([NodeConfig.model_validate(each) for each in settings]))
        return
    if given.rounds is not None and given.rounds < 3:
        parser.error("--rounds must be at least 3")
    cases = [
        Case(
            nodes,
            model,
            given.runs or (3 if nodes < 200 else 1),
            given.rounds or max(5, min(30, 600 // nodes)),
        )
        for model in MODELS
        for nodes in given.nodes
    ]
    cluster = create_cluster(free_port(), fsync=True, max_connections=max(given.nodes) + 100)
    try:
        _prepare(cluster)
        with tempfile.TemporaryDirectory() as directory:
            publish("round", _measure_all(cluster, Federation(Path(directory)), cases))
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


def _measure_all(cluster: Cluster, federation: Federation, cases: Sequence[Case]) -> list[Figure]:
    figures = []
    with _serving(cluster, federation, cases) as nodes:
        print("nodes  parameters  plain s  evaluated s  private s  plain MB  private MB")
        for case in cases:
            found = _measure(cluster, federation, nodes[: case.nodes], case)
            print(
                f"{case.nodes:>5}  {case.model.parameters:>10}  {found.plain:>7.4f}  {found.evaluated:>11.4f}"
                f"  {found.private:>9.4f}  {found.plain_memory:>8.1f}  {found.private_memory:>10.1f}",
                flush=True,
            )
            target = "<= 0.3" if case.nodes == 100 else ""
            figures += [
                Figure(f"{case.name}, evaluated every round", found.evaluated, "s", target),
                Figure(f"{case.name}, evaluated at the end", found.plain, "s", target),
                Figure(f"{case.name}, private, evaluated at the end", found.private, "s"),
                Figure(f"{case.name}, coordinator's peak memory", found.plain_memory, "MB"),
                Figure(f"{case.name}, private, coordinator's peak memory", found.private_memory, "MB"),
            ]
    return figures


def _measure(cluster: Cluster, federation: Federation, nodes: Sequence[Node], case: Case) -> Measured:
    with _coordinated(cluster, federation, nodes, case, case.plain) as (connection, coordinator):
        evaluated, plain = (
            statistics.median(_run(connection, case, every) for _ in range(case.runs))
            for every in (1, case.rounds)
        )
        plain_memory = _peak_memory(coordinator)
    seconds, memory = [], []
    for workspace in case.private:
        with _coordinated(cluster, federation, nodes, case, workspace, BUDGET) as (connection, coordinator):
            seconds.append(_run(connection, case, case.rounds))
            memory.append(_peak_memory(coordinator))
    return Measured(plain, evaluated, statistics.median(seconds), plain_memory, max(memory))


def _peak_memory(process: subprocess.Popen[bytes]) -> float:
    """The highest resident memory of a process's life, in 10^6 bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (kibibytes,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(kibibytes) * 1024 / 1e6


@contextlib.contextmanager
def _serving(cluster: Cluster, federation: Federation, cases: Sequence[Case]) -> Iterator[list[Node]]:
    """As many nodes as the largest case needs; each shares rows with the workspaces of the cases it is in."""
    template = _make_template(cluster, [name for case in cases for name in case.workspaces])
    configs = []
    for number in range(max(case.nodes for case in cases)):
        workspaces = [name for case in cases if number < case.nodes for name in case.workspaces]
        configs.append(_make_node(cluster, federation, template, workspaces, number))
    parts = [configs[part::PROCESSES] for part in range(min(PROCESSES, len(configs)))]
    servers = [_start_nodes(federation, number, part) for number, part in enumerate(parts)]
    with _ended(servers):
        ports = {
            name: port
            for part, server in zip(parts, servers, strict=True)
            for (name, _), port in zip(part, _ports(server), strict=True)
        }
        yield [Node(name, federation.directory / f"{name}.pem", ports[name]) for name, _ in configs]


def _make_template(cluster: Cluster, workspaces: Sequence[str]) -> str:
    """A node's database but for its rows."""
    template = cluster.create_database()
    columns = ", ".join(f"{name} float8" for name in _FEATURES)
    with cluster.connect(template) as connection:
        for name in workspaces:
            connection.execute(f"CREATE TABLE {name} ({columns}, ill integer)".encode())
            _execute(connection, f"CREATE FEDERATED DATASET {name} FOR TABLE {name} IN WORKSPACE {name}")
    return template


def _make_node(
    cluster: Cluster, federation: Federation, template: str, workspaces: Sequence[str], number: int
) -> tuple[str, NodeConfig]:
    name = f"node_{number}"
    database = cluster.create_database(template)
    values = ", ".join(f"50 + {10 + place} * random()" for place, _ in enumerate(_FEATURES))
    rows = f"SELECT {values}, (random() < 0.4)::integer FROM generate_series(1, 200)"
    with cluster.connect(database) as connection, connection.transaction():
        for table in workspaces:
            connection.execute(f"INSERT INTO {table} {rows}".encode())
    return name, federation.node_config(cluster, database, name)


def _start_nodes(
    federation: Federation, part: int, configs: list[tuple[str, NodeConfig]]
) -> subprocess.Popen[bytes]:
    path = federation.directory / f"nodes-{part}.json"
    plain = [
        config.model_dump(mode="json")
        | {"database": config.database.get_secret_value(), "reader": config.reader.get_secret_value()}
        for _, config in configs
    ]
    path.write_text(json.dumps(plain))
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.round", "--serve", str(path)], stdout=subprocess.PIPE
    )


def _ports(server: subprocess.Popen[bytes]) -> list[int]:
    assert server.stdout is not None
    ports: list[int] = json.loads(server.stdout.readline())
    return ports


@contextlib.contextmanager
def _ended(processes: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """End processes, and wait for their ends, however the block is left."""
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


@contextlib.contextmanager
def _coordinated(
    cluster: Cluster,
    federation: Federation,
    nodes: Sequence[Node],
    case: Case,
    workspace: str,
    options: str = "",
) -> Iterator[tuple[psycopg.Connection[tuple[Any, ...]], subprocess.Popen[bytes]]]:
    """A catalog with a workspace and its model, and a coordinator of its own that serves it."""
    catalog = cluster.create_database()
    with cluster.connect(catalog) as connection:
        _register(connection, nodes, case, workspace, options)
        coordinator = _start_coordinator(cluster, federation, catalog, workspace)
        with _ended([coordinator]):
            yield connection, coordinator


def _start_coordinator(
    cluster: Cluster, federation: Federation, catalog: str, workspace: str
) -> subprocess.Popen[bytes]:
    settings = {
        "database": cluster.dsn(catalog, user="heliosdb_daemon"),
        "certificate": str(federation.directory / "coordinator.pem"),
        "private_key": str(federation.directory / "coordinator.key"),
        "state_directory": str(federation.directory / f"{workspace}-state"),
    }
    path = federation.directory / f"{workspace}.toml"
    path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items()))
    with (federation.directory / f"{workspace}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "heliosdb.cli.main", "coordinator", "--config", str(path)], stderr=log
        )


def _execute(connection: psycopg.Connection, statement: str) -> None:
    connection.execute("CALL federated.execute(%s)", [statement])


def _register(
    connection: psycopg.Connection, nodes: Sequence[Node], case: Case, workspace: str, options: str
) -> None:
    count = len(nodes)
    _execute(
        connection,
        f"CREATE FEDERATED WORKSPACE {workspace} WITH (min_nodes = {count}, max_nodes = {count}{options})",
    )
    for node in nodes:
        _execute(
            connection,
            f"REGISTER FEDERATED NODE '{node.name}' IN WORKSPACE {workspace}"
            f" WITH (endpoint = 'https://localhost:{node.port}', certificate = '{node.certificate}')",
        )
    _execute(
        connection,
        f"CREATE FEDERATED MODEL risk IN WORKSPACE {workspace} WITH ({case.model.options}, target = 'ill',"
        f" rounds = {case.rounds}, early_stopping_rounds = {case.rounds}, convergence_threshold = 0)",
    )


def _run(connection: psycopg.Connection, case: Case, every: int) -> float:
    _execute(connection, f"START FEDERATED TRAINING risk WITH (validation_frequency = {every})")
    [(status,)] = connection.execute("SELECT wait_for_convergence('risk', 300)").fetchall()
    [(seconds, rounds, nodes)] = connection.execute(
        "SELECT extract(epoch FROM max(started_at) - min(started_at))::float8, count(*), min(participating_nodes)"
        " FROM federated_training_status('risk') WHERE round_number > 1"
    ).fetchall()
    assert (status, rounds, nodes) == ("completed", case.rounds - 1, case.nodes), (status, rounds, nodes)
    return float(seconds / (rounds - 1))


if __name__ == "__main__":
    main()
