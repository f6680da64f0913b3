"""Seconds until N rounds are closed where one node of four is ten times slower: synchronous and asynchronous.

Real daemons over mTLS; every node trains many epochs of a logistic model over as many rows. The straggler's processes
are stopped nine tenths of the time (SIGSTOP, SIGCONT), so that it is as slow as that whatever the machine is. A
synchronous round waits for it; an asynchronous one closes with the first two updates. An update is the unit that both
are paid in: beside the seconds stand how many updates were combined, and the loss over the held-out rows of all nodes,
by federated_evaluate, of the version that came of it.

    make bench NAME=asynchronous [ARGS="--rounds 10 --epochs 100"]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.harness import Figure, publish
from tests.integration.coordinator.support import (
    WORKSPACE,
    Site,
    World,
    create_model,
    create_workspace,
    make_world,
)
from tests.support.cluster import prepared_cluster

NAMES = "abcd"
SLOWER = 10
_TURN = 0.05
"""Seconds for which the straggler runs at a time."""


def main() -> None:
    """Measure both, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--rows", type=int, default=2000)
    given = parser.parse_args()
    with prepared_cluster() as cluster, tempfile.TemporaryDirectory() as directory:
        database = cluster.create_database("federated_template")
        with make_world(cluster, Path(directory), database) as world:
            publish("asynchronous", asyncio.run(measure(world, given.rounds, given.epochs, given.rows)))


async def measure(world: World, rounds: int, epochs: int, rows: int) -> list[Figure]:
    """Train synchronously, then asynchronously, with the last node slowed down."""
    create_workspace(world, round_timeout=3600)
    sites = [await world.add_site(name, rows=rows, seed=0.1 * place) for place, name in enumerate(NAMES, 1)]
    # A limit of its own gives it a training process that is its child, and is slowed with it.
    sites[-1].kill()
    await world.start_site(sites[-1], max_memory_gb=7.5)
    for site in sites:
        world.register(site)
    create_model(
        world, rounds=rounds, local_epochs=epochs, learning_rate=0.001, early_stopping_rounds=10 * rounds
    )
    world.start_coordinator()
    await world.reached("(SELECT count(*) = 4 FROM federated.node WHERE status = 'active')")
    figures = []
    with slowed(sites[-1]):
        figures += await trained(world, "synchronous", 1)
        world.execute(
            f"ALTER FEDERATED WORKSPACE {WORKSPACE} SET (async_aggregation = true, aggregation_batch_size = 2)"
        )
        figures += await trained(world, "asynchronous, K = 2", 2)
    return figures


async def trained(world: World, name: str, count: int) -> list[Figure]:
    """Train once more; seconds are from the first training round's start to the last one's end."""
    world.execute("START FEDERATED TRAINING risk")
    run = await world.finished(count=count)
    assert run["status"] == "completed", run
    (took,) = world.query(
        "SELECT extract(epoch FROM max(finished_at) - min(started_at))::float8 AS seconds, count(*) AS rounds"
        " FROM federated.round WHERE run_id = %s AND round_number > 0",
        run["run_id"],
    )
    (combined,) = world.query(
        "SELECT count(*) AS updates, max(p.settled_round - p.round_number) AS stalest,"
        " count(*) FILTER (WHERE n.name = %s) AS slow, avg(p.duration_seconds) FILTER (WHERE n.name = %s)"
        " / avg(p.duration_seconds) FILTER (WHERE n.name <> %s) AS slower FROM federated.participation AS p"
        " JOIN federated.node AS n USING (node_id)"
        " WHERE p.run_id = %s AND p.step = 'train' AND p.outcome = 'received'",
        *[NAMES[-1]] * 3,
        run["run_id"],
    )
    (loss,) = world.query("SELECT value FROM federated_evaluate('risk') WHERE metric = 'global_loss'")
    # How late an answer is while it is waited for; of an asynchronous run it may be that none came.
    slower = combined["slower"]
    known = [] if slower is None else [Figure(f"{name}: the slow node's time to train", slower, "times")]
    return [
        *known,
        Figure(f"{name}: {took['rounds']} rounds", took["seconds"], "s"),
        Figure(f"{name}: updates combined", combined["updates"], ""),
        Figure(f"{name}: of the slow node", combined["slow"], ""),
        Figure(f"{name}: the stalest", combined["stalest"] or 0, "rounds"),
        Figure(f"{name}: loss", loss["value"], ""),
    ]


@contextmanager
def slowed(site: Site) -> Iterator[None]:
    """Let a node's processes run a tenth of the time."""
    assert site.process is not None
    pid, over = site.process.process.pid, threading.Event()

    def take_turns() -> None:
        while not over.is_set():
            send(pid, signal.SIGSTOP)
            over.wait((SLOWER - 1) * _TURN)
            send(pid, signal.SIGCONT)
            over.wait(_TURN)

    turns = threading.Thread(target=take_turns)
    turns.start()
    try:
        yield
    finally:
        over.set()
        turns.join()


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process and its children."""
    with suppress(OSError):
        threads = Path(f"/proc/{pid}/task").glob("*/children")
        for each in (pid, *(int(child) for thread in threads for child in thread.read_text().split())):
            os.kill(each, number)


if __name__ == "__main__":
    main()
