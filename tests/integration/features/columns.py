"""Node databases whose tables are made by a test's own SQL, and what a run found of their columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import sql

from heliosdb.domain.encoding import Encoding
from tests.integration.coordinator.support import (
    MODEL,
    WORKSPACE,
    Site,
    World,
    create_model,
    create_workspace,
)


async def add_site(world: World, name: str, setup: str, columns: Sequence[str], table: str = "t") -> Site:
    """A node over a database in which `setup` was executed, sharing columns of a table as dataset d."""
    site = Site(name, world.cluster.create_database("federated_template"))
    with world.cluster.connect(site.database) as connection:
        connection.execute(setup)  # type: ignore[arg-type]
        listed = sql.SQL(", ").join(map(sql.Identifier, columns))
        shared = sql.SQL("CREATE FEDERATED DATASET d FOR TABLE {} ({}) IN WORKSPACE {}").format(
            sql.Identifier(table), listed, sql.Identifier(WORKSPACE)
        )
        connection.execute("CALL federated.execute(%s)", [shared.as_string(connection)])
    world.sites.append(site)
    await world.start_site(site)
    world.register(site)
    return site


async def train(
    world: World, setups: dict[str, str], features: Sequence[str], target: str, **options: object
) -> dict[str, Any]:
    """Train a model over nodes made by their SQL; returns the run as it ended."""
    create_workspace(world, min_nodes=len(setups))
    for name, setup in setups.items():
        await add_site(world, name, setup, (*features, target))
    create_model(world, features=features, target=target, **options)
    world.start_coordinator()
    world.execute(f"START FEDERATED TRAINING {MODEL}")
    return await world.finished()


def encoding(world: World) -> Encoding:
    """What the last run found of its columns."""
    (row,) = world.query(
        "SELECT scaling -> 'encoding' AS found FROM federated.run ORDER BY created_at DESC LIMIT 1"
    )
    return Encoding.from_json(row["found"])


def scaling(world: World) -> dict[str, Any]:
    """Means and scales of the last run's inputs."""
    (row,) = world.query("SELECT scaling FROM federated.run ORDER BY created_at DESC LIMIT 1")
    found: dict[str, Any] = row["scaling"]
    return found


def closed_rounds(world: World) -> int:
    """How many rounds of training the last run closed."""
    (row,) = world.query(
        "SELECT count(*) AS n FROM federated.round WHERE status = 'closed' AND round_number > 0 AND run_id ="
        " (SELECT run_id FROM federated.run ORDER BY created_at DESC LIMIT 1)"
    )
    return int(row["n"])
