"""A node trains on more rows than its memory holds: seconds of a run, and the most memory of the training process.

A logistic regression of five features at one node whose max_memory_gb is 0.5: once by Newton steps, once by Adam, each
with its statistics, an evaluation of every round and the report of the model. Rows go to scratch files in the
temporary directory. Beside the peak of resident memory, which counts mapped pages of these files that the kernel may
take away, stands that of the process's own (RssAnon), which the limit is about. The database is on the same machine,
fsync off; the daemons have their default settings but for the limit.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.harness import Figure, publish
from tests.integration.coordinator.support import Site, World, create_workspace, make_world
from tests.support.cluster import Cluster, create_cluster, remove_cluster
from tests.support.ports import free_port

FEATURES = tuple(f"x{number}" for number in range(1, 6))
LIMIT_GB = 0.5
DEADLINE = 3 * 3600.0
MEBIBYTE = 1 / 1024
RUNS = {
    "newton": "optimizer = 'newton', rounds = 4",
    "adam": "optimizer = 'adam', rounds = 2, local_epochs = 1, batch_size = 1000, learning_rate = 0.01",
}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="benchmarks.streaming", description="Rows beyond a node's memory.")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--memory", type=float, default=LIMIT_GB, help="max_memory_gb of the node")
    given = parser.parse_args()
    cluster = create_cluster(free_port())
    try:
        with cluster.connect("template1") as connection:
            connection.execute("CREATE EXTENSION plpython3u")
            connection.execute("CREATE EXTENSION heliosdb_federated_learning")
            connection.execute("CREATE ROLE heliosdb_daemon LOGIN IN ROLE federated_daemon")
            connection.execute("CREATE ROLE heliosdb_reader LOGIN IN ROLE federated_reader")
        publish("streaming", _measure(cluster, given.rows, given.memory))
    finally:
        remove_cluster(cluster)


def _measure(cluster: Cluster, rows: int, memory: float) -> list[Figure]:
    figures = []
    with (
        tempfile.TemporaryDirectory() as directory,
        make_world(cluster, Path(directory), cluster.create_database()) as world,
    ):
        create_workspace(world, min_nodes=1, round_timeout=3600)
        site = Site("node", cluster.create_database())
        world.sites.append(site)
        fill(cluster, site.database, rows)
        asyncio.run(world.start_site(site, log=Path(directory) / "node.log", max_memory_gb=memory))
        world.register(site)
        world.start_coordinator()
        for number, (name, options) in enumerate(RUNS.items(), start=1):
            world.execute(
                f"CREATE FEDERATED MODEL {name} IN WORKSPACE consortium WITH (algorithm = 'logistic_regression', "
                f"features = {list(FEATURES)}, target = 'y', "
                f"{options})"
            )
            figures += _run(world, site, name, number, rows, memory)
    return figures


def _run(world: World, site: Site, name: str, number: int, rows: int, memory: float) -> list[Figure]:
    began = time.monotonic()
    with _watched(site) as peaks:
        world.execute(f"START FEDERATED TRAINING {name}")
        while True:
            world.check_processes()
            runs = world.runs()
            if len(runs) == number and runs[-1]["status"] not in {"queued", "running"}:
                break
            if time.monotonic() - began > DEADLINE:
                raise SystemExit(f"the run did not end: {runs}")
            time.sleep(0.2)
    seconds = time.monotonic() - began
    if runs[-1]["status"] != "completed":
        raise SystemExit(f"the run failed: {runs[-1]}")
    (found,) = world.query(
        "SELECT r.global_accuracy FROM federated.round AS r JOIN federated.run USING (run_id)"
        " WHERE r.global_accuracy IS NOT NULL ORDER BY r.started_at DESC LIMIT 1"
    )
    about = f"{name}, {rows:,} rows, {memory:g} GB"
    return [
        Figure(f"{about}: START to the end", seconds, "s"),
        Figure(f"{about}: accuracy", float(found["global_accuracy"]), ""),
        Figure(
            f"{about}: most of its own memory", peaks["RssAnon"] * MEBIBYTE, "MiB", f"< {memory * 1024:g}"
        ),
        Figure(f"{about}: most resident memory", peaks["VmHWM"] * MEBIBYTE, "MiB"),
    ]


@contextmanager
def _watched(site: Site) -> Iterator[dict[str, int]]:
    """Look at the training process now and then; gives its peaks, in KiB."""
    peaks, ended = {"RssAnon": 0, "VmHWM": 0}, threading.Event()
    assert site.process is not None
    pid = site.process.process.pid

    def look() -> None:
        while not ended.wait(0.05):
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                try:
                    status = Path(f"/proc/{child}/status").read_text()
                except OSError:
                    continue
                for line in status.splitlines():
                    name, _, value = line.partition(":")
                    if name in peaks:
                        peaks[name] = max(peaks[name], int(value.split()[0]))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield peaks
    finally:
        ended.set()
        looking.join()


def fill(cluster: Cluster, database: str, rows: int) -> None:
    """Make a table of so many rows, and share it."""
    with cluster.connect(database) as connection:
        columns = ", ".join(f"{name} double precision" for name in FEATURES)
        connection.execute(
            f"CREATE TABLE measured (id bigint PRIMARY KEY, {columns}, y integer CHECK (y IN (0, 1)))"
        )
        connection.execute("SELECT setseed(0.5)")
        connection.execute(
            "INSERT INTO measured SELECT i, a, b, c, d, e, (a - b + 0.5 * c + random() - 0.5 > 0.25)::integer FROM "
            "(SELECT i, random() AS a, random() AS b, random() AS c, random() AS d, random() AS e "
            "FROM generate_series(1, %s) AS i OFFSET 0) AS s",
            [rows],
        )
        connection.execute(
            "CALL federated.execute(%s)",
            [
                f"CREATE FEDERATED DATASET measured FOR TABLE measured ({', '.join(FEATURES)}, y) IN WORKSPACE consortium"
                " WITH (plain_answers = true)"
            ],
        )


if __name__ == "__main__":
    main()
