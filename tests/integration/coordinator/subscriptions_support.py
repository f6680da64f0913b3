"""A federation whose participants subscribe: its statements, and what both sides predict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg

from tests.integration.coordinator.support import WORKSPACE, Site, World
from tests.support.federation import until
from tests.support.publication import publish_version

FEATURES = ("age", "pressure", "city")
PATIENTS = """
CREATE TABLE patient (id integer PRIMARY KEY, age float8, pressure float8, city text, outcome integer CHECK (outcome IN (0, 1)),
    stage text);
SELECT setseed({seed});
INSERT INTO patient
SELECT i, a, p, c, (a * 0.1 + p * 0.05 - 11 + (c = 'Rome')::integer > random() * 4 - 2)::integer,
       (ARRAY['I', 'II', 'III'])[1 + width_bucket(a + 10 * random(), 45, 65, 1)]
FROM (SELECT i, 30 + random() * 40 AS a, 90 + random() * 60 AS p, (ARRAY['Rome', 'Oslo', 'Ulm'])[1 + i % 3] AS c
      FROM generate_series(1, 150) AS i OFFSET 0) AS s;
"""
ROWS = (
    "SELECT * FROM (VALUES (35.0, 95.5, 'Rome'), (51.25, 121.0, 'Oslo'), (69.5, 149.0, 'Bonn'), (1e300, -7.0, 'Ulm'),"
    " (NULL, NULL, NULL)) AS r (age, pressure, city)"
)


async def add_patients(world: World, name: str, seed: float) -> Site:
    """A node of patients whose columns are numbers and texts, one of which has several classes."""
    site = Site(name, world.cluster.create_database("federated_template"))
    with world.cluster.connect(site.database) as connection:
        connection.execute(PATIENTS.format(seed=seed).encode())
        connection.execute(
            "CALL federated.execute(%s)",
            [
                f"CREATE FEDERATED DATASET patients FOR TABLE patient IN WORKSPACE {WORKSPACE}"
                " WITH (max_parameter_share = 10)"
            ],
        )
    world.sites.append(site)
    await world.start_site(site)
    world.register(site)
    return site


def create_numbers(world: World, model: str) -> None:
    """A model of one number, of which versions are published without training."""
    world.execute(
        f"CREATE FEDERATED MODEL {model} IN WORKSPACE {WORKSPACE} WITH"
        " (algorithm = 'linear_regression', features = ['age'], target = 'y')"
    )


def publish(world: World, model: str, intercept: float) -> None:
    """Commit a version that predicts `intercept` more than the age."""
    publish_version(world.cluster, world.database, model, intercept=intercept, slopes=(1.0,))


def grant(world: World, model: str, node: str | None = None) -> None:
    """Let a node subscribe to a model; None: all nodes."""
    whom = "ALL NODES" if node is None else f"NODE '{node}'"
    world.execute(f"GRANT FEDERATED SUBSCRIBE ON MODEL {model} TO {whom}")


def at(world: World, site: Site, statement: str) -> None:
    """Execute a statement of the language at a participant."""
    with world.cluster.connect(site.database) as connection:
        connection.execute("CALL federated.execute(%s)", [statement])


def subscribe(world: World, site: Site, model: str, options: str = "") -> None:
    """Type CREATE FEDERATED SUBSCRIPTION at a participant, by the model's name."""
    at(
        world,
        site,
        f"CREATE FEDERATED SUBSCRIPTION {model} TO MODEL {model} IN WORKSPACE {WORKSPACE} {options}",
    )


def states(world: World, site: Site) -> dict[str, tuple[str, int | None]]:
    """What a participant's view says: of each model state and version."""
    with world.cluster.connect(site.database) as connection:
        return _read_states(connection)


def _read_states(connection: psycopg.Connection[Any]) -> dict[str, tuple[str, int | None]]:
    found = connection.execute("SELECT model_name, state, version FROM federated_subscriptions").fetchall()
    return {model: (state, version) for model, state, version in found}


async def reached(world: World, site: Site, model: str, state: str, version: int | None) -> None:
    """Wait until a subscription is in a state, with a version."""
    with world.cluster.connect(site.database) as connection:

        def holds() -> bool:
            world.check_processes()
            return _read_states(connection).get(model) == (state, version)

        await until(holds)


def predictions(world: World, database: str, models: Sequence[str]) -> list[Any]:
    """What a database predicts of some rows by each model: numbers, and probabilities of classes."""
    found: list[Any] = []
    with world.cluster.connect(database) as connection:
        for model in models:
            call = "federated_predict_proba" if model == "stage" else "federated_predict"
            given = "to_jsonb(r)"
            found += connection.execute(
                f"SELECT {call}('{model}', {given}) FROM ({ROWS}) AS r".encode()
            ).fetchall()
    return found


def number(world: World, site: Site, model: str) -> float:
    """What a participant predicts by a model of one number, for the age 0."""
    with world.cluster.connect(site.database) as connection:
        row = connection.execute(f"SELECT federated_predict('{model}', '{{\"age\": 0}}')".encode()).fetchone()
    assert row is not None
    return float(row[0])
