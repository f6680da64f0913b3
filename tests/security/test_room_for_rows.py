"""Under a budget it is no task's doing whether rows fit into memory: so it counts none.

The attack that this test keeps: a task names levels, and each is a number more for every row. A coordinator that named
ever more of them, at an epsilon of next to nothing, found out by which task failed how many rows a node has. So did one
that sent ever more trees, where each of their conditions was a bit more for every row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliosdb.algorithms.private_layout import PrivateLayout
from heliosdb.algorithms.steps import REPORT
from heliosdb.algorithms.trees.grown import Trees
from heliosdb.algorithms.trees.structure import Drawing, normal_edges
from heliosdb.algorithms.trees.work import Model
from heliosdb.algorithms.works import (
    EvaluateWork,
    PrivateReportWork,
    PrivateTraining,
    StatisticsWork,
    TrainWork,
)
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.ids import StepName
from heliosdb.domain.privacy import Budget
from heliosdb.domain.task import Reading, Scaling, Task
from heliosdb.node.config import DaskSettings
from heliosdb.transport.limits import MAX_INPUTS, MAX_LEVELS
from tests.support.cluster import Cluster
from tests.support.federation import (
    EVALUATE,
    STATISTICS,
    TRAIN,
    Federation,
    key,
    new_run,
    parameters_state,
    running_node,
    share,
)

TIMEOUT = 300.0
COLUMNS = tuple(f"c{number}" for number in range(MAX_INPUTS // MAX_LEVELS))
NOISE, BUDGET = 100.0, Budget(1.0, 1e-5)


@dataclass(frozen=True)
class People:
    """Whose rows a table has; of the first one so many more."""

    number: int
    of_the_first: int


def create(cluster: Cluster, database: str, people: People) -> None:
    with cluster.connect(database) as connection:
        named = ", ".join(f"{name} integer" for name in COLUMNS)
        connection.execute(f"CREATE TABLE visit (person integer, {named}, outcome integer)")
        values = ", ".join("(random() * 900)::integer" for _ in COLUMNS)
        connection.execute(
            f"INSERT INTO visit SELECT greatest(i, 1), {values}, i %% 2 FROM generate_series(%s::integer, %s::integer) AS i",
            [1 - people.of_the_first, people.number],
        )
        listed = f"visit ({', '.join(COLUMNS)}, outcome)"
        share(connection, "visits", listed, options="WITH (subject = 'person')")


def tasks(levels: int) -> list[Task]:
    """One of each kind about inputs of which each column has so many."""
    named = tuple(sorted(map(str, range(levels + 1)), key=str.encode))
    columns = [ColumnEncoding(one, ColumnKind.CATEGORY, "indicators", named) for one in COLUMNS]
    encoding = Encoding(tuple(columns), ("0", "1"))
    inputs = len(encoding.inputs)
    run, reading = new_run(), Reading(None, COLUMNS, "outcome", 0.5, 1)
    scaling, state = Scaling((0.0,) * inputs, (1.0,) * inputs), parameters_state(np.zeros(inputs + 1))
    privacy = PrivateTraining(NOISE, 1.0, 1.0, 1, 100.0)
    model = "logistic_regression"
    training = TrainWork(model, scaling, 1, 32, 0.1, privacy, classes=2).to_work(inputs + 1)
    works = {
        STATISTICS: StatisticsWork(model, NOISE, classes=2).to_work(0),
        TRAIN: training,
        EVALUATE: EvaluateWork(model, scaling, NOISE, classes=2).to_work(),
    }
    bare = {step: Task(key(step, run=run), reading, work, budget=BUDGET) for step, work in works.items()}
    told = {"scaling": scaling, "state": state}
    linear = [
        replace(task, encoding=encoding, **({} if step == STATISTICS else told))
        for step, task in bare.items()
    ]
    return linear + tree_tasks(named)


def tree_tasks(
    named: tuple[str, ...], trees: int = 2, depth: int = 3, columns: int = len(COLUMNS)
) -> list[Task]:
    """One of each kind about the indices of such levels, of so many columns."""
    read = COLUMNS[:columns]
    encoding = Encoding(
        tuple(ColumnEncoding(one, ColumnKind.CATEGORY, "index", named) for one in read), ("0", "1")
    )
    reading = Reading(None, read, "outcome", 0.5, 1)
    scaling, levels = Scaling((0.0,) * columns, (1.0,) * columns), (len(named),) * columns
    edges = normal_edges(scaling, levels, (False,) * columns, 8)
    drawn = Drawing(edges, levels, depth, 1).added(Trees.empty(1, len(named) + 1), trees)
    state = Model(edges, levels, np.empty(0), drawn).to_state()
    run, model = new_run(), "random_forest"
    works = {
        STATISTICS: StatisticsWork(model, NOISE, classes=2).to_work(columns),
        EVALUATE: EvaluateWork(model, scaling, NOISE, classes=2).to_work(),
        REPORT: PrivateReportWork(model, scaling, NOISE, classes=2).to_work(PrivateLayout(2, columns).size),
    }
    told: dict[StepName, dict[str, Any]] = {
        STATISTICS: {},
        EVALUATE: {"scaling": scaling, "state": state},
        REPORT: {"scaling": scaling, "state": {**state, "cover": np.zeros(drawn.size)}},
    }
    return [
        replace(Task(key(step, run=run), reading, work, budget=BUDGET), encoding=encoding, **told[step])
        for step, work in works.items()
    ]


@pytest.mark.parametrize(
    ("people", "engine"),
    [
        (People(3000, 0), {}),
        (People(3, 1500), {}),
        (People(6000, 0), {"engine": "dask", "dask": DaskSettings(workers=2)}),
    ],
    ids=str,
)
async def test_the_most_levels_and_many_trees_are_answered_about_however_many_rows(
    people: People, engine: dict[str, Any], cluster: Cluster, federated_database: str, tmp_path: Path
) -> None:
    federation = Federation(tmp_path)
    create(cluster, federated_database, people)
    # The least memory that a node may have: the rows of the first would be 384 MB as that many inputs, and those of
    # one person of the second 192. Those of the third, 768, would neither fit with its workers nor with the node.
    config = federation.node_config(
        cluster, federated_database, max_memory_gb=0.5 if engine else 0.25, **engine
    )
    async with running_node(config) as port:
        client = federation.client(port)
        # A quarter of a million conditions, all of one column.
        forest = tree_tasks(("0", "1"), trees=1000, depth=8, columns=1)
        for task in [*tasks(1), *tasks(MAX_LEVELS - 1), *forest]:
            update = await client.perform(task, federation.sealing, TIMEOUT)
            assert np.isfinite(update.vector).all()
        await client.close()
