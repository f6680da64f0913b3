"""Seconds per round and the coordinator's memory by nodes and by parameters, plain and private, over real mTLS.

Ten parameters: a logistic model of nine features, one local epoch over 200 rows a node. A round is one exchange of
training; one that is evaluated has a second exchange, with the new parameters. Both kinds are measured, and private
rounds, under a budget that the run spends whole. More parameters: the algorithms of `benchmarks.wide`, which the
daemons load as a part; there the computation is cheap and the plain rounds alone are measured: what is seen is what it
costs to carry parameters out and updates back. Their nodes have rows enough for the rule that bounds the parameters of
plain answers.

Seconds are wall time from the second training round's start to the last one's, divided by the rounds between: what
lies between rounds counts; the first round, in which processes load what they need, and the evaluation at a run's end
do not. Medians over the runs. A federation with aggregators has the first nodes gather for the others, each for as
many. The coordinator's processor time is that of whole runs, their first rounds included. Memory is the highest resident memory in the life of a coordinator process (VmHWM): one
serves all plain runs of a case, each private run has its own.

Each node has its own database; all are in one server, with fsync on, and served by two processes. Nodes are made
once: those of a smaller federation are the first ones. Every private run has a workspace and a table of its own, for
a budget is spent once, and where it was spent there are no plain answers.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from benchmarks.harness import Figure, publish
from benchmarks.wide import FEATURES
from heliosdb.node.config import NodeConfig
from heliosdb.node.service import serve_many
from tests.support.cluster import Cluster, create_cluster, remove_cluster
from tests.support.federation import Federation
from tests.support.ports import free_port

SIZES = (3, 10, 100, 300)
WIDE_SIZES = (3, 10)
PARAMETERS = (10, 100_000, 1_000_000)
PROCESSES = 2
BUDGET = ", privacy_budget = 8"


@dataclass(frozen=True, slots=True)
class Model:
    """What is trained; parameters: how many numbers a node sends in a round.

    options: of the statement. given: what no statement can name, for the run's row. part: the module that the daemons
    load for it. rows: of a node. dataset: options of the node's dataset.
    """

    parameters: int
    kind: str
    options: str
    given: Mapping[str, object] = field(default_factory=dict)
    part: str | None = None
    rows: int = 200
    dataset: str = ""

    @classmethod
    def logistic(cls) -> Model:
        """The product's own."""
        return cls(
            len(FEATURES) + 1, "float64", f"algorithm = 'logistic_regression', features = {list(FEATURES)}"
        )

    @classmethod
    def wide(cls, parameters: int, kind: str) -> Model:
        """The benchmark's own. kind: the type of its numbers."""
        return cls(
            parameters,
            kind,
            f"algorithm = 'linear_regression', features = {list(FEATURES)}",
            given={"algorithm": "wide" if kind == "float64" else "wide_single", "parameters": parameters},
            part="benchmarks.wide",
            rows=1500,
            dataset=" WITH (max_parameter_share = 1000)",
        )

    @property
    def name(self) -> str:
        """In figures' names."""
        return f"{self.parameters} parameters" + ("" if self.kind == "float64" else f" ({self.kind})")


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table: so many nodes, a model, how often and for how long it is trained."""

    nodes: int
    model: Model
    runs: int
    rounds: int
    aggregators: int = 0

    @property
    def name(self) -> str:
        """In figures' names."""
        by = f" by {self.aggregators} aggregators" if self.aggregators else ""
        return f"{self.nodes} nodes{by}, {self.model.name}"

    @property
    def plain(self) -> str:
        """The workspace of its plain runs."""
        by = f"_by_{self.aggregators}" if self.aggregators else ""
        return f"plain_{self.nodes}_{self.model.parameters}_{self.model.kind}{by}"

    @property
    def private(self) -> list[str]:
        """The workspaces of its private runs; none where the model knows no privacy."""
        if self.model.part is not None or self.aggregators:
            return []
        return [f"private_{self.nodes}_{self.model.parameters}_{run}" for run in range(self.runs)]

    @property
    def workspaces(self) -> list[str]:
        """All of them; a dataset and its table are named like the workspace."""
        return [self.plain, *self.private]


@dataclass(frozen=True, slots=True)
class Node:
    """A node that serves, over a database of the cluster."""

    name: str
    certificate: Path
    port: int
    database: str


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds a round, and the coordinator's peak memory in 10^6 bytes; None where the model knows no such rounds.

    processor: seconds of the coordinator's, a round of those that are evaluated at the end.
    """

    plain: float
    plain_memory: float
    processor: float
    evaluated: float | None = None
    private: float | None = None
    private_memory: float | None = None


def main() -> None:
    """Run the benchmark, or serve nodes where a list of settings is given."""
    parser = argparse.ArgumentParser(prog="benchmarks.round", description="Seconds per round.")
    parser.add_argument("--parameters", type=int, nargs="+", default=PARAMETERS, help="10, or of wide models")
    parser.add_argument("--nodes", type=int, nargs="+", default=SIZES, help="sizes of federations")
    parser.add_argument(
        "--wide-nodes", type=int, nargs="*", default=WIDE_SIZES, help="the same for more than ten parameters"
    )
    parser.add_argument(
        "--aggregators", type=int, nargs="*", default=(), help="the same federations by so many aggregators"
    )
    parser.add_argument("--runs", type=int, help="runs of each kind; default: 3, or 1 of 100 nodes and more")
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
    cases = _cases(given)
    most = max(case.nodes for case in cases)
    cluster = create_cluster(free_port(), fsync=True, max_connections=most + 100)
    try:
        prepare(cluster)
        with tempfile.TemporaryDirectory() as directory:
            publish("round", _measure_all(cluster, Federation(Path(directory)), cases))
    finally:
        remove_cluster(cluster)


def _cases(given: argparse.Namespace) -> list[Case]:
    small = Model.logistic()
    cases = []
    if small.parameters in given.parameters:
        cases = [
            Case(
                nodes,
                small,
                given.runs or (3 if nodes < 100 else 1),
                given.rounds or max(5, min(30, 600 // nodes)),
            )
            for nodes in given.nodes
        ]
    for parameters in given.parameters:
        if parameters != small.parameters:
            for kind in ("float64", "float32"):
                model = Model.wide(parameters, kind)
                cases += [
                    Case(nodes, model, given.runs or 1, given.rounds or 6) for nodes in given.wide_nodes
                ]
    by = [
        replace(case, aggregators=count)
        for count in given.aggregators
        for case in cases
        if case.nodes > count
    ]
    return cases + by


async def _serve(configs: list[NodeConfig]) -> None:
    await serve_many(configs, lambda ports: print(json.dumps(ports), flush=True))


def prepare(cluster: Cluster) -> None:
    """Put what every database of the cluster needs into its template, and make the daemons' roles."""
    with cluster.connect("template1") as connection:
        connection.execute("CREATE EXTENSION plpython3u")
        connection.execute("CREATE EXTENSION heliosdb_federated_learning")
        connection.execute("CREATE ROLE heliosdb_daemon LOGIN IN ROLE federated_daemon")
        connection.execute("CREATE ROLE heliosdb_reader LOGIN IN ROLE federated_reader")


def _measure_all(cluster: Cluster, federation: Federation, cases: Sequence[Case]) -> list[Figure]:
    figures = []
    with serving(cluster, federation, cases) as nodes:
        for case in cases:
            found = _figures(case, _measure(cluster, federation, nodes[: case.nodes], case))
            print("; ".join(f"{one.name}: {one.value:.4g} {one.unit}" for one in found), flush=True)
            figures += found
    return figures


def _figures(case: Case, found: Measured) -> list[Figure]:
    target = "<= 0.3" if case.nodes == 100 else ""
    figures = [
        Figure(f"{case.name}, evaluated at the end", found.plain, "s", target),
        Figure(f"{case.name}, coordinator's peak memory", found.plain_memory, "MB"),
        Figure(f"{case.name}, coordinator's processor time a round", found.processor, "s"),
    ]
    if found.evaluated is not None:
        figures.append(Figure(f"{case.name}, evaluated every round", found.evaluated, "s", target))
    if found.private is not None and found.private_memory is not None:
        figures.append(Figure(f"{case.name}, private, evaluated at the end", found.private, "s"))
        figures.append(Figure(f"{case.name}, private, coordinator's peak memory", found.private_memory, "MB"))
    return figures


def _measure(cluster: Cluster, federation: Federation, nodes: Sequence[Node], case: Case) -> Measured:
    with coordinated(cluster, federation, nodes, case, case.plain) as (connection, coordinator):
        evaluated = None
        if case.model.part is None:
            evaluated = statistics.median(run_training(connection, case, 1) for _ in range(case.runs))
        began = _processor_time(coordinator)
        plain = statistics.median(run_training(connection, case, case.rounds) for _ in range(case.runs))
        processor = (_processor_time(coordinator) - began) / (case.runs * (case.rounds + 1))
        plain_memory = _peak_memory(coordinator)
    seconds, memory = [], []
    for workspace in case.private:
        with coordinated(cluster, federation, nodes, case, workspace, BUDGET) as (connection, coordinator):
            seconds.append(run_training(connection, case, case.rounds))
            memory.append(_peak_memory(coordinator))
    if not seconds:
        return Measured(plain, plain_memory, processor, evaluated)
    return Measured(plain, plain_memory, processor, evaluated, statistics.median(seconds), max(memory))


def _processor_time(process: subprocess.Popen[bytes]) -> float:
    """What a process has used so far, in seconds."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak_memory(process: subprocess.Popen[bytes]) -> float:
    """The highest resident memory of a process's life, in 10^6 bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (kibibytes,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(kibibytes) * 1024 / 1e6


@contextlib.contextmanager
def serving(
    cluster: Cluster, federation: Federation, cases: Sequence[Case], processes: int = PROCESSES
) -> Iterator[list[Node]]:
    """As many nodes as the largest case needs, in so many processes; each shares rows with the workspaces of
    the cases it is in, in tables named like them."""
    template = _make_template(cluster, cases)
    _write_certificates(
        federation, max(case.nodes for case in cases), max(case.aggregators for case in cases)
    )
    configs = [
        _make_node(cluster, federation, template, [case for case in cases if number < case.nodes], number)
        for number in range(max(case.nodes for case in cases))
    ]
    parts = [configs[part::processes] for part in range(min(processes, len(configs)))]
    servers = [_start_nodes(federation, number, part) for number, part in enumerate(parts)]
    with _ended(servers):
        ports = {
            name: port
            for part, server in zip(parts, servers, strict=True)
            for (name, _), port in zip(part, _ports(server), strict=True)
        }
        yield [
            Node(
                name,
                federation.directory / f"{name}.pem",
                ports[name],
                conninfo_to_dict(config.database.get_secret_value())["dbname"],
            )
            for name, config in configs
        ]


def _write_certificates(federation: Federation, nodes: int, aggregators: int) -> None:
    """Every node's, and those of all that gather in a file that the others name."""
    names = [f"node_{number}" for number in range(nodes)]
    for name in names:
        federation.write(name, federation.authority.issue(name, ["localhost", "127.0.0.1"]))
    trusted = b"".join((federation.directory / f"{name}.pem").read_bytes() for name in names[:aggregators])
    (federation.directory / "aggregators.pem").write_bytes(trusted)


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
                _execute(connection, share + case.model.dataset)
    return template


def _make_node(
    cluster: Cluster, federation: Federation, template: str, cases: Sequence[Case], number: int
) -> tuple[str, NodeConfig]:
    name = f"node_{number}"
    database = cluster.create_database(template)
    values = ", ".join(f"50 + {10 + place} * random()" for place, _ in enumerate(FEATURES))
    with cluster.connect(database) as connection, connection.transaction():
        for case in cases:
            rows = f"SELECT {values}, (random() < 0.4)::integer FROM generate_series(1, {case.model.rows})"
            for table in case.workspaces:
                connection.execute(f"INSERT INTO {table} {rows}".encode())
    parts = sorted({case.model.part for case in cases if case.model.part is not None})
    settings: dict[str, object] = {}
    if any(case.aggregators for case in cases):
        settings = {"aggregates": True, "aggregator_certificate": federation.directory / "aggregators.pem"}
    return name, federation.node_config(cluster, database, name, parts=parts, **settings)


def _start_nodes(
    federation: Federation, part: int, configs: list[tuple[str, NodeConfig]]
) -> subprocess.Popen[bytes]:
    path = federation.directory / f"nodes-{part}.json"
    plain = [
        config.model_dump(mode="json", exclude_unset=True)
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
def coordinated(
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
        coordinator = _start_coordinator(cluster, federation, catalog, workspace, case.model)
        with _ended([coordinator]):
            yield connection, coordinator


def _start_coordinator(
    cluster: Cluster, federation: Federation, catalog: str, workspace: str, model: Model
) -> subprocess.Popen[bytes]:
    settings: dict[str, object] = {
        "database": cluster.dsn(catalog, user="heliosdb_daemon"),
        "certificate": str(federation.directory / "coordinator.pem"),
        "private_key": str(federation.directory / "coordinator.key"),
        "state_directory": str(federation.directory / f"{workspace}-state"),
        "parts": [] if model.part is None else [model.part],
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
    for number, node in enumerate(nodes[case.aggregators :] if case.aggregators else ()):
        above = nodes[number % case.aggregators].name
        _execute(
            connection,
            f"ALTER FEDERATED NODE '{node.name}' IN WORKSPACE {workspace} SET (aggregator = '{above}')",
        )
    _execute(
        connection,
        f"CREATE FEDERATED MODEL risk IN WORKSPACE {workspace} WITH ({case.model.options}, target = 'ill',"
        f" rounds = {case.rounds}, early_stopping_rounds = {case.rounds}, convergence_threshold = 0)",
    )


def run_training(connection: psycopg.Connection, case: Case, every: int) -> float:
    """Train to the end, evaluating every so many rounds; return seconds a round."""
    with connection.transaction():
        _execute(connection, f"START FEDERATED TRAINING risk WITH (validation_frequency = {every})")
        connection.execute(
            "UPDATE federated.run SET options = options || %s WHERE status = 'queued'",
            [json.dumps(case.model.given)],
        )
    [(status,)] = connection.execute("SELECT wait_for_convergence('risk', 300)").fetchall()
    [(said,)] = connection.execute(
        "SELECT message FROM federated.run ORDER BY created_at DESC LIMIT 1"
    ).fetchall()
    [(seconds, rounds, nodes)] = connection.execute(
        "SELECT extract(epoch FROM max(started_at) - min(started_at))::float8, count(*), min(participating_nodes)"
        " FROM federated_training_status('risk') WHERE round_number > 1"
    ).fetchall()
    assert (status, rounds, nodes) == ("completed", case.rounds - 1, case.nodes), (
        status,
        rounds,
        nodes,
        said,
    )
    return float(seconds / (rounds - 1))


if __name__ == "__main__":
    main()
