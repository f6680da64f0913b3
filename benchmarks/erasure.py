"""Seconds to erase one data subject from a model, beside training that by hand: START alone, without the asking of
nodes, the retirement and the certificate.

A logistic regression of two features, all nodes in every round, as many rows as are asked for at each node, two of
which hold the subject. The clock of an erasure begins when the COMMIT of DELETE has returned and ends when its
certificate is signed. Daemons have their default settings (poll_interval 0.5 s). All databases are in one server with fsync
on; the nodes are served by two processes, over mTLS.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.harness import Figure, publish
from tests.integration.coordinator.orders_support import share_by_patient
from tests.integration.coordinator.support import (
    Site,
    World,
    create_model,
    create_workspace,
    fill,
    make_world,
)
from tests.support.cluster import Cluster, create_cluster, remove_cluster
from tests.support.ports import free_port

PROCESSES = 2
DEADLINE = 1800.0
SUBJECT = "42"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="benchmarks.erasure", description="From DELETE to the certificate.")
    parser.add_argument("--nodes", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--rows", type=int, default=1000, help="at each node")
    given = parser.parse_args()
    cluster = create_cluster(free_port(), fsync=True, max_connections=8 * given.nodes + 100)
    try:
        with cluster.connect("template1") as connection:
            connection.execute("CREATE EXTENSION plpython3u")
            connection.execute("CREATE EXTENSION heliosdb_federated_learning")
            connection.execute("CREATE ROLE heliosdb_daemon LOGIN IN ROLE federated_daemon")
            connection.execute("CREATE ROLE heliosdb_reader LOGIN IN ROLE federated_reader")
        publish("erasure", _measure(cluster, given.nodes, given.rounds, given.rows))
    finally:
        remove_cluster(cluster)


def _measure(cluster: Cluster, nodes: int, rounds: int, rows: int) -> list[Figure]:
    with (
        tempfile.TemporaryDirectory() as directory,
        make_world(cluster, Path(directory), cluster.create_database()) as world,
    ):
        create_workspace(world, min_nodes=nodes)
        create_model(world, rounds=rounds, early_stopping_rounds=10 * rounds, keep_best=False)
        with _serving(world, nodes, rows):
            for site in world.sites:
                world.register(site)
            world.start_coordinator(poll_interval=0.5, heartbeat_interval=10.0, reconnect_interval=10.0)
            _wait(world, "SELECT count(*) = %s AS holds FROM federated.node WHERE status = 'active'", nodes)
            _train(world, 1)
            by_hand = _train(world, 2)
            erased = _erase(world)
    name = f"{nodes} nodes, {rounds} rounds, {rows} rows each"
    return [
        Figure(f"{name}: START to its version", by_hand, "s"),
        Figure(f"{name}: DELETE to its certificate", erased, "s"),
    ]


@contextlib.contextmanager
def _serving(world: World, nodes: int, rows: int) -> Iterator[None]:
    for number in range(nodes):
        site = Site(f"node_{number}", world.cluster.create_database())
        fill(world.cluster, site.database, rows=rows, seed=number / nodes, shares=False)
        if number >= 2:
            with world.cluster.connect(site.database) as connection:
                connection.execute("DELETE FROM patient WHERE patient_id = %s", [int(SUBJECT)])
        share_by_patient(world, site, options=", plain_withdrawals = true")
        world.sites.append(site)
    parts = [world.sites[part::PROCESSES] for part in range(min(PROCESSES, nodes))]
    servers = [_start(world, number, part) for number, part in enumerate(parts)]
    try:
        for part, server in zip(parts, servers, strict=True):
            assert server.stdout is not None
            for site, port in zip(part, json.loads(server.stdout.readline()), strict=True):
                site.port = port
        yield
    finally:
        for server in servers:
            server.terminate()
        for server in servers:
            server.wait()


def _start(world: World, number: int, sites: Sequence[Site]) -> subprocess.Popen[bytes]:
    """A process that serves nodes, as in benchmarks.subscriptions."""
    configs = [world.federation.node_config(world.cluster, site.database, site.name) for site in sites]
    plain = [
        config.model_dump(mode="json", exclude_unset=True)
        | {"database": config.database.get_secret_value(), "reader": config.reader.get_secret_value()}
        for config in configs
    ]
    path = world.federation.directory / f"nodes-{number}.json"
    path.write_text(json.dumps(plain))
    command = [sys.executable, "-m", "benchmarks.subscriptions", "--serve", str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def _train(world: World, count: int) -> float:
    world.execute("START FEDERATED TRAINING risk")
    began = time.monotonic()
    _wait(world, "SELECT count(*) = %s AS holds FROM federated.version", count)
    return time.monotonic() - began


def _erase(world: World) -> float:
    world.execute(f"DELETE FROM FEDERATED TRAINING risk WHERE data_subject_id = '{SUBJECT}'")
    began = time.monotonic()
    _wait(world, "SELECT EXISTS (SELECT FROM federated.erasure WHERE completed_at IS NOT NULL) AS holds")
    return time.monotonic() - began


def _wait(world: World, query: str, *values: object) -> None:
    end = time.monotonic() + DEADLINE
    with world.catalog() as connection:
        while True:
            row = connection.execute(query, values).fetchone()  # type: ignore[call-overload]
            if row is not None and row["holds"]:
                return
            world.check_processes()
            if time.monotonic() > end:
                raise TimeoutError(query, world.runs())
            time.sleep(0.01)


if __name__ == "__main__":
    main()
