"""Round 0 over real nodes, of columns whose mean is large beside their spread."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tests.integration.coordinator.support import (
    WORKSPACE,
    Site,
    World,
    create_model,
    create_workspace,
)


async def add_sites(world: World, rows: int, columns: Sequence[tuple[str, str]], name: str) -> None:
    """Two nodes with such columns, each an expression of the normal deviate z, and an outcome that follows z."""
    for number, site_name in enumerate(("north", "south")):
        site = Site(site_name, world.cluster.create_database("federated_template"))
        with world.cluster.connect(site.database) as connection:
            connection.execute("SELECT setseed(%s)", [0.1 * (number + 1)])
            chosen = ", ".join(f"({expression})::float8 AS {column}" for column, expression in columns)
            # The sum of twelve uniform numbers, less six, is near enough to normal.
            connection.execute(
                f"CREATE TABLE {name} AS SELECT {chosen}, z + random() - 0.5 > 0 AS outcome "
                "FROM (SELECT sum(random()) - 6 AS z FROM generate_series(1, %s) AS i, generate_series(1, 12) "
                "GROUP BY i) AS drawn".encode(),
                [rows],
            )
            connection.execute(
                "CALL federated.execute(%s)",
                [f"CREATE FEDERATED DATASET {name} FOR TABLE {name} IN WORKSPACE {WORKSPACE}"],
            )
        await world.start_site(site)
        world.sites.append(site)
        world.register(site)


def values_of(world: World, name: str, column: str) -> np.ndarray:
    found: list[float] = []
    for site in world.sites:
        with world.cluster.connect(site.database) as connection:
            found += [
                row[0] for row in connection.execute(f"SELECT {column} FROM {name}".encode()).fetchall()
            ]
    return np.array(found)


async def test_without_a_budget_ids_and_epochs_are_scaled_and_sql_predicts_as_python(world: World) -> None:
    columns = [("id", "round(1e10 + 3000 * z)"), ("epoch", "1.7e15 + 1.7e8 * z"), ("huge", "1e160 * z")]
    create_workspace(world, min_nodes=2)
    await add_sites(world, 300, columns, "visit")
    create_model(world, features=[name for name, _ in columns], rounds=3)
    world.execute("START FEDERATED TRAINING risk")
    world.start_coordinator()

    run = await world.finished()

    assert run["status"] == "completed", run
    (version,) = world.query("SELECT scaling, prediction FROM federated.version")
    scales = version["scaling"]["scales"]
    table = np.column_stack([values_of(world, "visit", name) for name, _ in columns])
    centred = table - table[0]
    centred[:, 2] *= 1e-160
    deviation = centred.std(axis=0) * [1.0, 1.0, 1e160]
    assert scales == pytest.approx(deviation.tolist(), rel=1e-12)
    slopes, shifts = np.array(version["prediction"]["slopes"]), np.array(version["prediction"]["shifts"])
    score = version["prediction"]["intercept"] + (table - shifts) @ slopes
    told = [
        world.query("SELECT federated_model.risk(id => %s, epoch => %s, huge => %s) AS p", *map(float, row))[
            0
        ]["p"]
        for row in table[:20]
    ]
    assert told == pytest.approx((1.0 / (1.0 + np.exp(-score[:20]))).tolist(), rel=1e-9)
    assert np.all(np.abs(slopes * scales) > 0.05)


async def test_under_a_budget_vital_signs_are_scaled_and_what_is_not_told_is_named(world: World) -> None:
    columns = [
        ("temperature", "36.9 + 0.6 * z"),
        ("sodium", "140 + 4 * z"),
        ("birth_year", "1960 + 15 * z"),
        ("id", "1e10 + 300 * z"),
    ]
    create_workspace(world, min_nodes=2, privacy_budget=8)
    await add_sites(world, 3000, columns, "vitals")
    create_model(world, features=[name for name, _ in columns], rounds=2)
    world.execute("START FEDERATED TRAINING risk")
    world.start_coordinator()

    run = await world.finished()

    assert run["status"] == "completed", run
    (version,) = world.query("SELECT scaling FROM federated.version")
    for place, name in enumerate(("temperature", "sodium", "birth_year")):
        assert version["scaling"]["scales"][place] == pytest.approx(
            float(values_of(world, "vitals", name).std()), rel=0.2
        )
    (first,) = world.query("SELECT message FROM federated.round WHERE round_number = 0")
    assert "the spread of id could not be told from the mean: declare feature_ranges" in first["message"]
    steps = world.query(
        "SELECT step, exchange FROM federated.ledger WHERE node_name = 'north' AND round_number = 0 ORDER BY exchange"
    )
    assert [(one["step"], one["exchange"]) for one in steps] == [
        ("statistics", 0),
        ("refine", 1),
        ("refine", 2),
    ]


async def test_a_coordinator_that_dies_between_the_exchanges_goes_on_with_the_same_windows(
    world: World,
) -> None:
    create_workspace(world, min_nodes=2, privacy_budget=8)
    await add_sites(world, 600, [("temperature", "36.9 + 0.6 * z")], "vitals")
    create_model(world, features=["temperature"], rounds=1)
    world.execute("START FEDERATED TRAINING risk")
    coordinator = world.start_coordinator(faults="coordinator.aggregated:2")
    await coordinator.died()
    world.start_coordinator()

    run = await world.finished()

    assert run["status"] == "completed", run
    (version,) = world.query("SELECT scaling FROM federated.version")
    assert version["scaling"]["scales"][0] == pytest.approx(
        float(values_of(world, "vitals", "temperature").std()), rel=0.2
    )
    for site in world.sites:
        with world.cluster.connect(site.database) as connection:
            taken = connection.execute(
                "SELECT step, exchange FROM federated.release WHERE round_number = 0 ORDER BY exchange"
            ).fetchall()
        assert taken == [("statistics", 0), ("refine", 1), ("refine", 2)]
