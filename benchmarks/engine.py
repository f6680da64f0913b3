"""A node whose rows are read and added up by dask workers, beside one process: seconds of a run, and peaks of memory.

A logistic regression of five features by Newton steps, with its statistics, an evaluation of every round and the report,
at one node over a table of `--rows` rows, each a person of its own: once in one process, once with `--workers` workers
of the same machine. Both lead to the same accuracy, which is printed. Every process of the node has `--memory` as
max_memory_gb; of each the peak of its own memory (RssAnon), which the limit is about, is printed for the training
process and for the largest worker. The database is on the same machine, fsync off.
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
from benchmarks.streaming import DEADLINE, FEATURES, MEBIBYTE, fill
from heliosdb.node.config import NodeConfig
from tests.integration.coordinator.support import Site, World, create_workspace, make_world
from tests.support.cluster import Cluster, create_cluster, remove_cluster
from tests.support.federation import running_node
from tests.support.ports import free_port


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="benchmarks.engine", description="Rows with workers.")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory", type=float, default=0.5, help="max_memory_gb of each process")
    given = parser.parse_args()
    cluster = create_cluster(free_port())
    try:
        with cluster.connect("template1") as connection:
            connection.execute("CREATE EXTENSION plpython3u")
            connection.execute("CREATE EXTENSION heliosdb_federated_learning")
            connection.execute("CREATE ROLE heliosdb_daemon LOGIN IN ROLE federated_daemon")
            connection.execute("CREATE ROLE heliosdb_reader LOGIN IN ROLE federated_reader")
        publish("engine", asyncio.run(_measure(cluster, given.rows, given.workers, given.memory)))
    finally:
        remove_cluster(cluster)


async def _measure(cluster: Cluster, rows: int, workers: int, memory: float) -> list[Figure]:
    figures = []
    engines = {
        "one process": {},
        f"{workers} workers": {"engine": "dask", "dask": {"workers": workers}},
    }
    for engine, settings in engines.items():
        with (
            tempfile.TemporaryDirectory() as directory,
            make_world(cluster, Path(directory), cluster.create_database()) as world,
        ):
            database = cluster.create_database()
            fill(cluster, database, rows)
            create_workspace(world, min_nodes=1, round_timeout=3600)
            config = world.federation.node_config(cluster, database, max_memory_gb=memory, **settings)
            async with running_node(config) as port:
                figures += await _run(world, config, port, f"{engine}, {rows:,} rows, {memory:g} GB")
    return figures


async def _run(world: World, config: NodeConfig, port: int, about: str) -> list[Figure]:
    site = Site("node", "", port)
    world.register(site)
    world.start_coordinator()
    world.execute(
        "CREATE FEDERATED MODEL measured IN WORKSPACE consortium WITH (algorithm = 'logistic_regression', "
        f"features = {list(FEATURES)}, target = 'y', optimizer = 'newton', rounds = 4)"
    )
    began = time.monotonic()
    with _watched() as peaks:
        world.execute("START FEDERATED TRAINING measured")
        while True:
            world.check_processes()
            runs = world.runs()
            if runs and runs[-1]["status"] not in {"queued", "running"}:
                break
            if time.monotonic() - began > DEADLINE:
                raise SystemExit(f"the run did not end: {runs}")
            await asyncio.sleep(0.2)
    seconds = time.monotonic() - began
    if runs[-1]["status"] != "completed":
        raise SystemExit(f"the run failed: {runs[-1]}")
    (found,) = world.query(
        "SELECT r.global_accuracy FROM federated.round AS r JOIN federated.run USING (run_id)"
        " WHERE r.global_accuracy IS NOT NULL ORDER BY r.started_at DESC LIMIT 1"
    )
    wanted = f"< {(config.max_memory_gb) * 1024:g}"
    return [
        Figure(f"{about}: START to the end", seconds, "s"),
        Figure(f"{about}: accuracy", float(found["global_accuracy"]), ""),
        *(Figure(f"{about}: {who}", peak * MEBIBYTE, "MiB", wanted) for who, peak in peaks.items()),
    ]


@contextmanager
def _watched() -> Iterator[dict[str, int]]:
    """Look at the node's processes now and then; gives the peaks of their own memory, in KiB."""
    peaks, ended = {"training process": 0}, threading.Event()

    def look() -> None:
        while not ended.wait(0.1):
            for trainer in _children(Path("/proc/self"), "heliosdb.node.training_process"):
                peaks["training process"] = max(peaks["training process"], _own_memory(trainer))
                for worker in _children(trainer, "spawn_main"):
                    peaks["largest worker"] = max(peaks.get("largest worker", 0), _own_memory(worker))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield peaks
    finally:
        ended.set()
        looking.join()


def _children(process: Path, program: str) -> list[Path]:
    found = []
    try:
        for children in process.glob("task/*/children"):
            found += [Path("/proc") / pid for pid in children.read_text().split()]
        return [one for one in found if program in (one / "cmdline").read_text()]
    except OSError:
        return []


def _own_memory(process: Path) -> int:
    try:
        status = (process / "status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon:")), 0)


if __name__ == "__main__":
    main()
