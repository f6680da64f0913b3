"""A node's local work: from a table in PostgreSQL to the first epoch, and epochs over rows that are in memory.

One million rows of five numbers and a target, through the functions that the training process itself runs: a table
is read by COPY, ordered by its contents, its held-out subjects are chosen, its rows named and compared (plain), then
every task of training scales inputs and descends. What it is measured against is the least that anybody would have to
do: binary COPY of the same numbers alone, and one pass of gradient descent in numpy over them, batch by batch.

The first epoch includes reading; the later ones are whole tasks (checks, scaling, shuffling, descent), as rounds are.
Medians over the repetitions, by the clock and of the process alone: on a busy machine the second is what can be
compared.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from uuid import UUID

import numpy as np
import psycopg
from numpy.typing import NDArray

from benchmarks.harness import Figure, publish
from heliosdb.algorithms.works import PARAMETERS, TrainWork
from heliosdb.domain.ids import DatasetName, NodeName, RoundNumber, RunId, StepName, WorkspaceName
from heliosdb.domain.state import NO_STATE, make_state
from heliosdb.domain.task import Reading, Scaling, Task, TaskKey
from heliosdb.node import worker
from heliosdb.node.copied_rows import parse_copy
from heliosdb.node.datasets import TableRequest
from tests.support.cluster import Cluster, create_cluster, remove_cluster
from tests.support.ports import free_port

ROWS = 1_000_000
FEATURES = tuple(f"x{number}" for number in range(5))
BATCH = 1024


def main() -> None:
    """Make a database with the rows, measure, print."""
    parser = argparse.ArgumentParser(prog="benchmarks.local", description="A node's local work.")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()
    cluster = create_cluster(free_port())
    try:
        publish("local", measure(cluster, arguments.rows, arguments.repetitions))
    finally:
        remove_cluster(cluster)


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds that something took: by the clock, and of this process on a processor."""

    wall: float
    cpu: float

    @classmethod
    def of(cls, action: Callable[[], object]) -> Took:
        """Do it once."""
        wall, cpu = time.perf_counter(), time.process_time()
        action()
        return cls(time.perf_counter() - wall, time.process_time() - cpu)

    def __add__(self, other: Took) -> Took:
        """One after the other."""
        return Took(self.wall + other.wall, self.cpu + other.cpu)


def measure(cluster: Cluster, rows: int, repetitions: int) -> list[Figure]:
    """Return the figures: seconds, and what was asked for."""
    reader = cluster.dsn(fill(cluster, rows))
    least, read, first, later = [], [], [], []
    for run in range(repetitions):
        least.append(Took.of(lambda: one_pass(copied(reader))))
        request = make_request(run)
        read.append(Took.of(partial(worker.read_table, reader, request, [])))
        task = partial(train, worker.read_table(reader, request, []), request)
        first.append(read[-1] + Took.of(task))
        later += [Took.of(task) for _ in range(3)]
    name = f"{rows:,} x {len(FEATURES)} rows"
    return [
        *_figures(f"COPY and one numpy pass, {name}", least),
        *_figures("reading a table for plain answers", read),
        *_figures("first local epoch, with reading", first, 1.3 * median(one.wall for one in least)),
        *_figures(f"later epoch from memory, batch {BATCH}", later, 0.2),
    ]


def _figures(name: str, took: Sequence[Took], most: float | None = None) -> list[Figure]:
    target = "" if most is None else f"<= {most:.3g}"
    return [
        Figure(name, median(one.wall for one in took), "s", target),
        Figure(f"{name}: processor", median(one.cpu for one in took), "s"),
    ]


def fill(cluster: Cluster, rows: int) -> str:
    """Make a database that shares the rows as dataset `rows`."""
    database = cluster.create_database()
    with cluster.connect(database) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS heliosdb_federated_learning CASCADE")
        columns = ", ".join(f"{name} double precision" for name in FEATURES)
        connection.execute(f"CREATE TABLE one_row (id integer PRIMARY KEY, {columns}, y integer)")  # type: ignore[arg-type]
        connection.execute("SELECT setseed(0.5)")
        values = ", ".join(f"random() AS {name}" for name in FEATURES)
        connection.execute(
            f"INSERT INTO one_row SELECT s.*, (x0 + x1 + random() > 1.5)::integer FROM "  # type: ignore[arg-type]
            f"(SELECT i, {values} FROM generate_series(1, {rows}) AS i OFFSET 0) AS s"
        )
        connection.execute("ANALYZE one_row")
        connection.execute(
            "CALL federated.execute('CREATE FEDERATED DATASET rows FOR TABLE one_row "
            f"({', '.join(FEATURES)}, y) IN WORKSPACE w')"  # type: ignore[arg-type]
        )
    return database


def make_request(number: int) -> TableRequest:
    """Return what a run asks of its node's table; another one for each run, so that it is read anew."""
    return TableRequest(
        run=UUID(int=number + 1).hex,
        dataset_id=1,
        dataset=DatasetName("rows"),
        base_tables=(1,),
        features=FEATURES,
        target="y",
        validation_split=0.2,
        subject=None,
        known_by=("id",),
        key=b"k" * 32,
        plain=True,
        min_rows=20,
        max_parameter_share=1.0,
        classes=("0", "1"),
    )


def copied(reader: str) -> NDArray[np.float64]:
    """The same numbers by binary COPY from the table itself, (rows, features + 1)."""
    columns = ", ".join(FEATURES)
    with psycopg.connect(reader) as raw, raw.cursor() as cursor:
        statement = f"COPY (SELECT {columns}, y::double precision FROM one_row) TO STDOUT (FORMAT binary)"
        with cursor.copy(statement) as copy:  # type: ignore[arg-type]
            return parse_copy(b"".join(map(bytes, copy)), len(FEATURES) + 1, 0)[0]


def one_pass(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """One epoch of mini-batch gradient descent, in the order of the rows."""
    inputs, targets, weights = values[:, :-1], values[:, -1], np.zeros(len(FEATURES))
    for start in range(0, len(values), BATCH):
        batch, wanted = inputs[start : start + BATCH], targets[start : start + BATCH]
        slope = 0.5 * (1.0 + np.tanh(0.5 * (batch @ weights))) - wanted
        weights -= (0.1 / len(batch)) * (slope @ batch)
    return weights


def train(read: worker.ReadTable, request: TableRequest) -> None:
    """What a task of training computes from a table in memory: one epoch, and what is checked before it; the
    classes' indices are the first task's to make."""
    scaling = Scaling((0.5,) * len(FEATURES), (0.29,) * len(FEATURES))
    work = TrainWork(
        algorithm="logistic_regression",
        scaling=scaling,
        classes=2,
        local_epochs=1,
        batch_size=BATCH,
        learning_rate=0.1,
        privacy=None,
    )
    key = TaskKey(
        WorkspaceName("w"), RunId(UUID(int=1)), RoundNumber(1), 0, StepName("train"), NodeName("node")
    )
    state = make_state(**{PARAMETERS: np.zeros(len(FEATURES) + 1)})
    reading = Reading("rows", FEATURES, "y", request.validation_split, 1)
    task = Task(key, reading, work.to_work(len(FEATURES) + 1), scaling, state)
    worker.compute(task, read.table, request, NO_STATE, read.encoded)


if __name__ == "__main__":
    main()
