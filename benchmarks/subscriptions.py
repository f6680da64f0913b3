"""Seconds from COMMIT of a version to the last participant that has it, by nodes and by the version's size.

Every node has its own database, which subscribes to two models: a linear one, and a network of about a million
parameters (float32). Versions are published without training, as a run's end publishes them; the clock begins when the
COMMIT has returned and ends when the coordinator has recorded the last node's own word that it predicts with the
version. Its settings are the defaults (poll_interval 0.5 s). Medians over several versions. All databases are in one
server with fsync on; the nodes are served by two processes, over mTLS.

`ARGS="--large 200"` measures a version of so many 10^6 bytes to one node instead, and the peak of memory (VmHWM) of
the coordinator's and the node's process beside what they had before.
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
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Figure, publish
from heliosdb.algorithms.sql import LinearPrediction
from heliosdb.domain.encoding import ColumnEncoding, Encoding
from heliosdb.domain.prediction import Prediction
from heliosdb.node.config import NodeConfig
from heliosdb.node.service import serve_many
from tests.integration.coordinator.support import WORKSPACE, CoordinatorProcess, Site, World, make_world
from tests.support.cluster import Cluster, create_cluster, remove_cluster
from tests.support.federation import Federation
from tests.support.ports import free_port
from tests.support.publication import publish_prediction

SIZES = (3, 10, 100)
VERSIONS = 5
PROCESSES = 2
FEATURES = tuple(f"x{place}" for place in range(10))
ENCODING = Encoding(tuple(map(ColumnEncoding, FEATURES)))
UNITS = 1000
DEADLINE = 600.0
LINEAR, NETWORK = "linear", "network"
MOST_UNITS = 4096

Server = subprocess.Popen[bytes]
Measure = Callable[[World, Sequence[Server]], list[Figure]]


def main() -> None:
    """Run the benchmark, or serve nodes where a list of settings is given."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.subscriptions", description="From COMMIT to the last node."
    )
    parser.add_argument("--nodes", type=int, nargs="+", default=SIZES, help="sizes of federations")
    parser.add_argument("--versions", type=int, default=VERSIONS, help="of each model")
    parser.add_argument(
        "--large", type=int, metavar="MB", help="one version of so many 10^6 bytes, to one node"
    )
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve is not None:
        configs = [NodeConfig.model_validate(each) for each in json.loads(given.serve.read_text())]
        asyncio.run(serve_many(configs, lambda ports: print(json.dumps(ports), flush=True)))
        return
    sizes = [1] if given.large else sorted(given.nodes)
    cluster = create_cluster(free_port(), fsync=True, max_connections=3 * sizes[-1] + 100)
    try:
        _prepare(cluster)
        measure: Measure = partial(_all, given.versions)
        if given.large:
            measure = partial(_large, given.large)
        figures = [figure for size in sizes for figure in _with_nodes(cluster, size, measure)]
        publish("subscriptions_large" if given.large else "subscriptions", figures)
    finally:
        remove_cluster(cluster)


def _prepare(cluster: Cluster) -> None:
    with cluster.connect("template1") as connection:
        connection.execute("CREATE EXTENSION plpython3u")
        connection.execute("CREATE EXTENSION heliosdb_federated_learning")
        connection.execute("CREATE ROLE heliosdb_daemon LOGIN IN ROLE federated_daemon")
        connection.execute("CREATE ROLE heliosdb_reader LOGIN IN ROLE federated_reader")


def _with_nodes(cluster: Cluster, size: int, measure: Measure) -> list[Figure]:
    """Make a federation of so many subscribers, and measure."""
    with (
        tempfile.TemporaryDirectory() as directory,
        make_world(cluster, Path(directory), cluster.create_database()) as world,
    ):
        world.execute(f"CREATE FEDERATED WORKSPACE {WORKSPACE}")
        listed = ", ".join(f"'{name}'" for name in FEATURES)
        for model in (LINEAR, NETWORK):
            world.execute(
                f"CREATE FEDERATED MODEL {model} IN WORKSPACE {WORKSPACE} WITH"
                f" (algorithm = 'linear_regression', features = [{listed}], target = 'y')"
            )
            world.execute(f"GRANT FEDERATED SUBSCRIBE ON MODEL {model} TO ALL NODES")
        with _serving(world, size) as servers:
            for site in world.sites:
                world.register(site)
            return measure(world, servers)


@contextlib.contextmanager
def _serving(world: World, size: int) -> Iterator[Sequence[Server]]:
    template = world.cluster.create_database()
    with world.cluster.connect(template) as connection:
        for model in (LINEAR, NETWORK):
            statement = f"CREATE FEDERATED SUBSCRIPTION {model} TO MODEL {model} IN WORKSPACE {WORKSPACE}"
            connection.execute("CALL federated.execute(%s)", [statement])
    world.sites += [Site(f"node_{number}", world.cluster.create_database(template)) for number in range(size)]
    parts = [world.sites[part::PROCESSES] for part in range(min(PROCESSES, size))]
    servers = [_start(world, number, part) for number, part in enumerate(parts)]
    try:
        for part, server in zip(parts, servers, strict=True):
            assert server.stdout is not None
            for site, port in zip(part, json.loads(server.stdout.readline()), strict=True):
                site.port = port
        yield servers
    finally:
        for server in servers:
            server.terminate()
        for server in servers:
            server.wait()


def _start(world: World, number: int, sites: Sequence[Site]) -> Server:
    federation: Federation = world.federation
    configs = [federation.node_config(world.cluster, site.database, site.name) for site in sites]
    plain = [
        config.model_dump(mode="json", exclude_unset=True)
        | {"database": config.database.get_secret_value(), "reader": config.reader.get_secret_value()}
        for config in configs
    ]
    path = federation.directory / f"nodes-{number}.json"
    path.write_text(json.dumps(plain))
    command = [sys.executable, "-m", "benchmarks.subscriptions", "--serve", str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def _coordinate(world: World) -> CoordinatorProcess:
    defaults = {"poll_interval": 0.5, "heartbeat_interval": 10.0, "reconnect_interval": 10.0}
    coordinator = world.start_coordinator(**defaults)
    _wait(world, "SELECT count(*) = %s AS holds FROM federated.subscriber", 2 * len(world.sites))
    return coordinator


def _wait(world: World, query: str, *values: object) -> None:
    end = time.monotonic() + DEADLINE
    with world.catalog() as connection:
        while True:
            row = connection.execute(query, values).fetchone()  # type: ignore[call-overload]
            if row is not None and row["holds"]:
                return
            world.check_processes()
            assert time.monotonic() < end, query
            time.sleep(0.005)


def _deliver(world: World, model: str, prediction: Prediction, version: int) -> float:
    """Seconds from COMMIT until every node says that it has the version."""
    publish_prediction(world.cluster, world.database, model, prediction, ENCODING)
    began = time.monotonic()
    _wait(
        world,
        "SELECT count(*) = %s AS holds FROM federated.subscriber WHERE model_name = %s AND held_version = %s",
        len(world.sites),
        model,
        version,
    )
    return time.monotonic() - began


def _all(versions: int, world: World, _servers: Sequence[Server]) -> list[Figure]:
    _coordinate(world)
    figures = []
    made: dict[str, Callable[[int], Prediction]] = {
        LINEAR: _linear,
        NETWORK: lambda seed: _network(seed, (UNITS, UNITS)),
    }
    for model, make in made.items():
        # The first loads what the processes need.
        taken = [_deliver(world, model, make(version), version) for version in range(1, versions + 2)][1:]
        name = "linear, 10 inputs" if model == LINEAR else "network, 1,000,000 parameters"
        figures.append(Figure(f"{len(world.sites)} nodes, {name}", statistics.median(taken), "s"))
        print(f"{figures[-1].name}: {figures[-1].value:.3g} s", flush=True)
    return figures


def _large(megabytes: int, world: World, servers: Sequence[Server]) -> list[Figure]:
    coordinator = _coordinate(world)
    (node,) = servers
    layers = max(1, round(megabytes * 1e6 / 4 / MOST_UNITS**2))
    prediction = _network(1, (MOST_UNITS,) * (layers + 1))
    size = sum(array.nbytes for array in prediction.arrays.values()) / 1e6
    _deliver(world, LINEAR, _linear(1), 1)
    before = [_peak(process.pid) for process in (coordinator.process, node)]
    seconds = _deliver(world, NETWORK, prediction, 1)
    after = [_peak(process.pid) for process in (coordinator.process, node)]
    name = f"a version of {size:.0f} MB"
    return [
        Figure(name, seconds, "s"),
        Figure(f"{name}: the coordinator's peak memory", after[0], "MB", f"before: {before[0]:.0f}"),
        Figure(f"{name}: the node's peak memory", after[1], "MB", f"before: {before[1]:.0f}"),
    ]


def _peak(pid: int) -> float:
    """The highest resident memory of a process's life, in 10^6 bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    (kibibytes,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(kibibytes) * 1024 / 1e6


def _linear(seed: int) -> Prediction:
    zeros = (0.0,) * len(FEATURES)
    return LinearPrediction(float(seed), (1.0,) * len(FEATURES), zeros, zeros, "identity").to_prediction()


def _network(seed: int, layers: Sequence[int]) -> Prediction:
    drawn = np.random.default_rng(seed)
    arrays: dict[str, Any] = {"means": np.zeros(len(FEATURES)), "scales": np.ones(len(FEATURES))}
    sizes = (len(FEATURES), *layers, 1)
    for place, (inputs, outputs) in enumerate(pairwise(sizes)):
        arrays[f"weight_{place}"] = drawn.standard_normal((outputs, inputs), dtype=np.float32) / inputs
        arrays[f"bias_{place}"] = np.zeros(outputs, np.float32)
    activations = ["relu"] * len(layers) + ["linear"]
    content = {"activations": activations, "link": "identity", "target_mean": 0.0, "target_scale": 1.0}
    return Prediction(NETWORK, content, arrays)


if __name__ == "__main__":
    main()
