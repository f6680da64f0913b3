"""Forests and boosting on real nodes: from START to a prediction in SQL."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score

from tests.integration.coordinator.support import (
    MODEL,
    WORKSPACE,
    Site,
    World,
    create_model,
    create_workspace,
)

INPUTS = 8
STEPS = ["statistics", "quantiles", "histograms", "evaluate", "report"]


def patients() -> tuple[np.ndarray, np.ndarray]:
    """Breast cancer's first columns, some of whose values are missing; the last third is for no node."""
    x, y = load_breast_cancer(return_X_y=True)
    x = x[:, :INPUTS].copy()
    x[np.random.default_rng(0).random(x.shape) < 0.02] = np.nan
    return x, y


async def add_sites(world: World, x: np.ndarray, y: np.ndarray) -> None:
    """Three nodes with a part of the rows each."""
    columns = ", ".join(f"x{place} double precision" for place in range(INPUTS))
    for number, name in enumerate(("east", "north", "west")):
        site = Site(name, world.cluster.create_database("federated_template"))
        with world.cluster.connect(site.database) as connection:
            connection.execute(
                f"CREATE TABLE patient (patient_id integer, {columns}, "
                "outcome integer CHECK (outcome IN (0, 1)))".encode()
            )
            with connection.cursor().copy("COPY patient FROM STDIN") as copy:
                for row in range(number, len(y), 3):
                    values = [None if np.isnan(value) else float(value) for value in x[row]]
                    copy.write_row([row, *values, int(y[row])])
            connection.execute(
                "CALL federated.execute(%s)",
                [f"CREATE FEDERATED DATASET patients FOR TABLE patient IN WORKSPACE {WORKSPACE}"],
            )
        world.sites.append(site)
        await world.start_site(site)
        world.register(site)


def predicted(world: World, x: np.ndarray) -> np.ndarray:
    """What the model's SQL function says, of all rows in one session."""
    names = [f"x{place}" for place in range(INPUTS)]
    given, columns = ", ".join(f"{name} => {name}" for name in names), ", ".join(names)
    values = [[None if np.isnan(value) else float(value) for value in column] for column in x.T]
    found = world.query(
        f"SELECT federated_model.{MODEL}({given}) AS p"
        f" FROM unnest({', '.join(['%s::float8[]'] * INPUTS)}) WITH ORDINALITY AS row ({columns}, place) ORDER BY place",
        *values,
    )
    return np.array([one["p"] for one in found])


@pytest.mark.parametrize(
    ("algorithm", "options"),
    [
        ("random_forest", {"trees": 40, "max_depth": 5, "learning_rate": None}),
        ("gradient_boosting", {"trees": 20, "max_depth": 3, "learning_rate": 0.3, "rounds": 10}),
    ],
)
async def test_trees_grow_at_three_nodes_and_predict_in_sql(
    world: World, algorithm: str, options: dict[str, object]
) -> None:
    x, y = patients()
    kept = np.arange(len(y)) % 3 < 2
    create_workspace(world, min_nodes=3)
    await add_sites(world, x[kept], y[kept])
    features = [f"x{place}" for place in range(INPUTS)]
    create_model(
        world, algorithm=algorithm, features=features, **({"rounds": 10, "validation_frequency": 2} | options)
    )
    world.execute(f"START FEDERATED TRAINING {MODEL}")
    world.start_coordinator()

    run = await world.finished()

    assert run["status"] in ("completed", "converged"), run
    steps = world.query("SELECT DISTINCT step FROM federated.participation WHERE outcome = 'received'")
    assert sorted(one["step"] for one in steps) == sorted(STEPS)
    new = x[~kept]
    assert roc_auc_score(y[~kept], predicted(world, new)) > 0.97
    (version,) = world.query("SELECT prediction FROM federated.version")
    assert version["prediction"]["kind"] == "trees"
    (last,) = world.query(
        "SELECT global_loss, global_accuracy FROM federated.round WHERE global_loss IS NOT NULL "
        "ORDER BY round_number DESC LIMIT 1"
    )
    # Of some 80 rows that nodes' secrets choose: 0.9, and four of its standard errors less.
    assert last["global_accuracy"] > 0.76
    assert last["global_loss"] < 0.55


async def test_a_number_is_learned_from_a_text_and_a_number(world: World) -> None:
    create_workspace(world, min_nodes=3)
    for number, name in enumerate(("east", "north", "west")):
        site = Site(name, world.cluster.create_database("federated_template"))
        with world.cluster.connect(site.database) as connection:
            connection.execute("SELECT setseed(%s)", [0.1 * (number + 1)])
            connection.execute(
                "CREATE TABLE visit AS SELECT i AS visit_id, ward, age, "
                "CASE ward WHEN 'surgery' THEN 8 WHEN 'eyes' THEN 1 ELSE 4 END + age / 20 + random() AS days "
                "FROM (SELECT i, (ARRAY['surgery', 'eyes', 'heart'])[1 + (random() * 2.99)::integer % 3] AS ward, "
                "20 + 60 * random() AS age FROM generate_series(1, 300) AS i OFFSET 0) AS drawn"
            )
            connection.execute(
                "CALL federated.execute(%s)",
                [f"CREATE FEDERATED DATASET visits FOR TABLE visit IN WORKSPACE {WORKSPACE}"],
            )
        world.sites.append(site)
        await world.start_site(site)
        world.register(site)
    create_model(
        world,
        algorithm="gradient_boosting",
        features=["ward", "age"],
        target="days",
        trees=20,
        max_depth=3,
        learning_rate=0.3,
        rounds=4,
    )
    world.execute(f"START FEDERATED TRAINING {MODEL}")
    world.start_coordinator()

    run = await world.finished()

    assert run["status"] in ("completed", "converged"), run
    for ward, age, days in (("surgery", 40.0, 10.5), ("eyes", 40.0, 3.5), ("heart", 70.0, 8.0)):
        (found,) = world.query(f"SELECT federated_model.{MODEL}(ward => %s, age => %s) AS days", ward, age)
        assert found["days"] == pytest.approx(days, abs=0.5), (ward, found)
    (last,) = world.query("SELECT max(global_accuracy) AS r2 FROM federated.round")
    assert last["r2"] > 0.9


async def test_a_coordinator_that_dies_while_trees_grow_leaves_the_same_model(world: World) -> None:
    x, y = patients()
    create_workspace(world, min_nodes=3)
    await add_sites(world, x, y)
    features = [f"x{place}" for place in range(INPUTS)]
    create_model(world, algorithm="gradient_boosting", features=features, trees=4, max_depth=2, rounds=2)
    found = []
    for faults in ("", "coordinator.aggregated:6=kill"):
        already = len(world.runs())
        world.execute(f"START FEDERATED TRAINING {MODEL}")
        coordinator = world.start_coordinator(faults=faults)
        if faults:
            await coordinator.died()
            coordinator = world.start_coordinator()
        run = await world.finished(count=already + 1)
        assert run["status"] == "completed", run
        coordinator.kill()
        found.append(
            world.query(
                "SELECT encode(sha256, 'hex') AS sha FROM federated.version WHERE run_id = %s", run["run_id"]
            )
        )
    assert found[0] == found[1] != []
